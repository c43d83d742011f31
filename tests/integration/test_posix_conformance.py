#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
"""A program finds under the shim what it finds without it.

Runs each check of tests/integration/posix.c plain, which is the reference, and then under
libration.so (conformance.py).  Ways to run:

  alone      no daemon, the gate as the machine has it
  crowded    no daemon, one P (RATION_MAXPROCS=1), two threads beside that burn CPU: each call that
             blocks loses its P, and the checks are preempted by SIGURG
  off        RATION_THREADS=off

NAMES (a part of a check's name) pick some; POSIX_WAYS picks ways.
"""
import sys
from conformance import ALONE, Conformance

HOGS = {"POSIX_HOGS": "2"}
WAYS = {
    "alone": (ALONE, {}),
    "crowded": (dict(ALONE, RATION_MAXPROCS="1", **HOGS), HOGS),
    "off": (dict(ALONE, RATION_THREADS="off"), {}),
}

if __name__ == "__main__":
    sys.exit(Conformance("posix", WAYS, "POSIX_").main())
