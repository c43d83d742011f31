#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 120
"""A thread G whose next request is always there lets the others have their turn after an answer (light_answered)."""
import sys

import at_most

MOST = 6  # of requests of 60 us in turns of 100; a slice of 2 ms has 30 of them

if __name__ == "__main__":
    sys.exit(at_most.verdict("who_has_answered_lets_others_run", at_most.run("turns"), MOST, "answers of one thread in a row"))
