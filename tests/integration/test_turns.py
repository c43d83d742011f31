#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 120
"""A thread G whose next request is always there lets the others have their turn after an answer (light_answered)."""
import os
import subprocess
import sys

BUILD = os.environ.get("BUILD", "build")
PROG = os.path.join(BUILD, "tests/integration/turns")
ENV = dict(os.environ, RATION_STANDALONE="1", RATION_THREADS="free", RATION_MAXPROCS="1", LD_PRELOAD=os.path.join(BUILD, "libration.so"))
MOST = 6  # of requests of 60 us in turns of 100; a slice of 2 ms has 30 of them


def main():
    p = subprocess.run([PROG], env=ENV, stdout=subprocess.PIPE, text=True, timeout=100)
    ok = p.returncode == 0 and int(p.stdout) <= MOST
    print(f"{'ok' if ok else 'not ok'} - who_has_answered_lets_others_run")
    if not ok:
        print(f"  exit status {p.returncode}, answers of one thread in a row: {p.stdout.strip()}, wanted at most {MOST}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
