#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 240
"""Clients die at any moment; what they held is free again, and the others run on."""
import os
import random
import signal
import time

import faults
from faults import Worker, attached, b, case, pools, wait_attached, wait_for


def held(daemon, group):
    name = os.path.basename(group.dir)
    return sum(int(p["held"]) for p in pools(daemon) if name in p["domain"])


@case
def kill_9_of_clients_frees_their_slots():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        survivor = Worker(daemon, g, rounds=30000, pause_ms=2)
        wait_attached(daemon, survivor)
        for _ in range(10):
            victims = [Worker(daemon, g, rounds=10**7, threads=3) for _ in range(4)]
            time.sleep(random.uniform(0, 0.3))
            for v in victims:
                v.process.kill()
            for v in victims:
                v.process.communicate()
        wait_for("only the survivor is left", lambda: attached(daemon) <= {survivor.pid})
        survivor.check()
        wait_for("no slot is held", lambda: held(daemon, g) == 0 and not attached(daemon))


@case
def a_program_that_crashes_frees_its_slots():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        for sig in (signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGXCPU):
            v = Worker(daemon, g, rounds=10**7)
            wait_attached(daemon, v)
            v.moves()
            v.process.send_signal(sig)
            v.process.communicate(timeout=30)
            assert v.process.returncode == -sig, f"{sig}: ended with {v.process.returncode}"
        wait_for("no slot is held", lambda: held(daemon, g) == 0 and not attached(daemon))
        w = Worker(daemon, g, rounds=4000)
        w.check()


@case
def daemon_and_clients_killed_together_leave_a_clean_start():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        survivor = Worker(daemon, g, rounds=40000, pause_ms=3)
        wait_attached(daemon, survivor)
        for _ in range(4):
            victims = [Worker(daemon, g, rounds=10**7, threads=3) for _ in range(3)]
            time.sleep(random.uniform(0, 0.2))
            both = [daemon.process] + [v.process for v in victims]
            random.shuffle(both)
            for p in both:
                p.kill()
            for v in victims:
                v.process.communicate()
            daemon.process.wait()
            survivor.moves()  # a slot that a dead one held must not stay lost
            daemon.start()
        survivor.check()
        wait_for("no slot is held", lambda: held(daemon, g) == 0 and not attached(daemon))


faults.main()
