#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""The pthread API, and C11 threads: the same binary, in each mode the same results as without ration.

Runs each check of tests/integration/pthreads.c and pthreads/*.c plain, which is the reference, and then under libration.so
(conformance.py).  Ways to run:

  locked     each thread a kernel thread
  locked1    the same with one P
  free       (with RATION_TEST_FREE=1) threads are Gs, on as many Ps as the machine has
  free1      (with RATION_TEST_FREE=1) the same with one P

NAMES (a part of a check's name) pick some; PTHREADS_WAYS picks ways.
"""
import os
import sys
from conformance import ALONE, Conformance

WAYS = {
    "locked": (dict(ALONE, RATION_THREADS="locked"), {}),
    "locked1": (dict(ALONE, RATION_THREADS="locked", RATION_MAXPROCS="1"), {}),
}
if os.environ.get("RATION_TEST_FREE") == "1":
    WAYS["free"] = (dict(ALONE, RATION_THREADS="free", RATION_MAXPROCS="2"), {})
    WAYS["free1"] = (dict(ALONE, RATION_THREADS="free", RATION_MAXPROCS="1"), {})

if __name__ == "__main__":
    sys.exit(Conformance("pthreads", WAYS, "PTHREADS_", seconds=int(os.environ.get("PTHREADS_SECONDS", "30")), jobs=4).main())
