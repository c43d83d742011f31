#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 300
"""tests/integration/soak under a rationd of its own, in a cgroup whose quota changes at random while it runs.

SOAK_SECONDS=20: for how long (`make soak`: an hour).  SOAK_SEED: that of an earlier run, for the program and for the quotas; what
the kernel and the threads make of it differs all the same.
"""
import os
import random
import subprocess
import sys
import time

import faults
from faults import b, case, wait_attached

SECONDS = int(os.environ.get("SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1, 1 << 62)))
SOAK = os.path.join(b.BUILD, "tests/integration/soak")


def finish(process, while_it_runs=lambda: time.sleep(1)):
    """Waits for its end.  Its own watcher sees to it that there is one; the bound is for when that fails."""
    end = time.monotonic() + SECONDS + 150
    while process.poll() is None:
        while_it_runs()
        if time.monotonic() > end:
            process.kill()
            raise AssertionError(f"soak does not end; threads: {faults.threads_of(process.pid)}")
    assert process.returncode == 0, f"exit status {process.returncode}"


def command(env):
    return {"cmd": [SOAK, str(SECONDS), str(SEED)], "env": env, "out": None, "err": subprocess.STDOUT}


@case
def all_goes_on_while_the_quota_changes():
    rng = random.Random(SEED)
    with b.Group(3.0, "soak") as g:
        daemon = b.Daemon()
        process = b.start(group=g, **command(dict(b.mode_env("ration", daemon), RATION_MAXPROCS="4")))

        def change():
            # More often than not some fraction: the last slot is there for a part of the time.
            g.set_cpus(rng.choice([0.4, 0.7, 1, 1, 1.3, 2, 2.5, 3, 4]))
            time.sleep(rng.choice([0.02, 0.2, 1, 2]))

        if SECONDS >= 5:
            wait_attached(daemon, process)
        finish(process, change)


@case
def all_goes_on_without_a_daemon():
    if SECONDS > 60:
        raise faults.Skip("only in the short form")
    finish(b.start(**command(dict(b.mode_env("standalone", None), RATION_MAXPROCS="2"))))


if __name__ == "__main__":
    if not os.path.exists(SOAK):
        print("build first: make progs")
        sys.exit(77)
    print(f"# SOAK_SECONDS={SECONDS} SOAK_SEED={SEED}", flush=True)
    faults.main()
