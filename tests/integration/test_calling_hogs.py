#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""A hog that is in the kernel for most of its time (dd of 1 MB at a time) stops in time as well: its alarm finds it in a call, and it looks when that is over (shim/core/alarm.c).

Where it is told only in its own code, it is throttled in two periods of three.
"""
import subprocess
import time

import faults
from faults import b, case, wait_attached

PERIODS = 25
MOST = 10  # of those, in the best of three runs: others may use this machine
DD = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1M"]


def throttled(daemon, group):
    process = b.start(DD, group=group, env=b.mode_env("ration", daemon), err=subprocess.DEVNULL)
    try:
        wait_attached(daemon, process)
        time.sleep(1)
        before = group.stat()
        faults.wait_for(f"{PERIODS} periods", lambda: group.stat()["nr_periods"] >= before["nr_periods"] + PERIODS)
        return b.stat_delta(before, group.stat())
    finally:
        process.kill()
        process.wait()


@case
def a_hog_that_reads_and_writes_is_not_throttled():
    daemon = b.Daemon()
    seen = []
    for _ in range(3):
        with b.Group(0.5, "dd") as g:
            d = throttled(daemon, g)
        seen.append(f"{d['nr_throttled']} of {d['nr_periods']}")
        if d["nr_throttled"] <= MOST * d["nr_periods"] / PERIODS:
            return
    raise AssertionError(f"periods throttled: {', '.join(seen)}")


if __name__ == "__main__":
    faults.main()
