#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# Python: os, multiprocessing, the default size of a thread pool; and threads, processes and subprocesses that work.
. "$(dirname "$0")/lib.sh"
need python3

counts cpu_count python3 -c 'import os; print(os.cpu_count())'
counts affinity python3 -c 'import os; print(len(os.sched_getaffinity(0)))'
counts multiprocessing python3 -c 'import multiprocessing; print(multiprocessing.cpu_count())'
counts thread_pool python3 -c 'import concurrent.futures as f; print(f.ThreadPoolExecutor()._max_workers - 4)'
same threads_and_processes python3 -c '
import concurrent.futures, hashlib, multiprocessing, subprocess
def work(i): return hashlib.sha256(str(i).encode() * 100000).hexdigest()
if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(8) as p: print(*p.map(work, range(20)))
    with multiprocessing.get_context("fork").Pool(4) as p: print(*p.map(work, range(20)))
    print(subprocess.run(["sh", "-c", "echo out; exit 3"], capture_output=True))
'
