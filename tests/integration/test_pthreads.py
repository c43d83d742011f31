#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The pthread API, and C11 threads: the same binary, in each mode the same results as without ration.

Runs each check of tests/integration/pthreads.c and pthreads/*.c plain, which is the reference, and then under libration.so
(conformance.py).  Ways to run:

  locked     each thread a kernel thread
  locked1    the same with one P
  free       threads are Gs, on two Ps
  free1      (with PTHREADS_WAYS) the same with one P

NAMES (a part of a check's name) pick some; PTHREADS_WAYS picks ways.
"""
import os
import sys
from conformance import ALONE, Conformance

WAYS = {
    "locked": (dict(ALONE, RATION_THREADS="locked"), {}),
    "locked1": (dict(ALONE, RATION_THREADS="locked", RATION_MAXPROCS="1"), {}),
    "free": (dict(ALONE, RATION_THREADS="free", RATION_MAXPROCS="2"), {}),
    "free1": (dict(ALONE, RATION_THREADS="free", RATION_MAXPROCS="1"), {}),
}

if __name__ == "__main__":
    default = "locked locked1 free"
    os.environ.setdefault("PTHREADS_WAYS", default)
    sys.exit(Conformance("pthreads", WAYS, "PTHREADS_", seconds=30, jobs=4).main())
