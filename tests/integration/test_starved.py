#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""A carrier that the kernel keeps off its CPU has not run for a slice: its thread Gs are not stopped, which would leave each a kernel thread."""
import os
import subprocess
import sys

BUILD = os.environ.get("BUILD", "build")
PROG = os.path.join(BUILD, "tests/integration/starved")
ENV = dict(os.environ, RATION_STANDALONE="1", RATION_THREADS="free", RATION_MAXPROCS="1", LD_PRELOAD=os.path.join(BUILD, "libration.so"))
MOST = 24  # main, carriers and two to spare, four of ration's own; the rest for Gs that were stopped all the same.  It was 45.
BUSY = 8


def main():
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [cpu])
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        p = subprocess.run([PROG], env=ENV, stdout=subprocess.PIPE, text=True, timeout=100)
    finally:
        for s in spinners:
            s.kill()
            s.wait()
    ok = p.returncode == 0 and int(p.stdout) <= MOST
    print(f"{'ok' if ok else 'not ok'} - starved_gs_are_not_stopped")
    if not ok:
        print(f"  exit status {p.returncode}, kernel threads: {p.stdout.strip()}, wanted at most {MOST}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
