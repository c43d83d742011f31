#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# Children of a fork that work before they end: Python with its alternate stack for faults, and stress-ng, which verifies what it does.
. "$(dirname "$0")/lib.sh"

if command -v python3 >/dev/null; then
  same faulthandler python3 -X faulthandler -c '
import os, sys, threading
t = [threading.Thread(target=lambda: sum(range(100000))) for _ in range(4)]
for i in t: i.start()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        while os.times().user + os.times().system < 0.1: pass
        sys.exit(3)
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
for i in t: i.join()
'
fi
if command -v stress-ng >/dev/null; then
  for s in sigsegv futex aio; do
    same "stress_$s" sh -c "stress-ng --$s 2 --timeout 1 --verify 2>&1 | grep -oE 'fail: .*|(un)?successful run'"
  done
fi
