#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""A carrier that the kernel keeps off its CPU has not run for a slice: its thread Gs are not stopped, which would leave each a kernel thread."""
import os
import subprocess
import sys

import at_most

MOST = 24  # main, carriers and two to spare, four of ration's own; the rest for Gs that were stopped all the same.  It was 45.
BUSY = 8


def main():
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [cpu])
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        p = at_most.run("starved")
    finally:
        for s in spinners:
            s.kill()
            s.wait()
    return at_most.verdict("starved_gs_are_not_stopped", p, MOST, "kernel threads")


if __name__ == "__main__":
    sys.exit(main())
