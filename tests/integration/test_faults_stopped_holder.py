#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 240
"""A process that is stopped while it holds a P keeps nobody waiting, and goes on when it is continued."""
import signal
import time

import faults
from faults import Worker, b, case, stats, wait_attached


def stopped_with_a_slot(daemon, holder):
    """Stops it; true if that met it with a P.  One that burns CPU has one but for the end of each period, where it pauses."""
    holder.send_signal(signal.SIGSTOP)
    faults.wait_for("the holder stands still", lambda: faults.state_of(holder.pid) == "T")
    if any(r["pid"] == holder.pid and r["held"] for r in daemon.query("ps")):
        return True
    holder.send_signal(signal.SIGCONT)
    return False


@case
def a_stopped_holder_is_expropriated_and_goes_on_later():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        before = stats(daemon)["expropriations"]
        holder = b.start([b.MIXED, "--no-requests", "--batch", "2", "--seconds", "12", "--json"], g, b.mode_env("ration", daemon))
        faults.wait_for("the holder is attached", lambda: holder.pid in faults.attached(daemon))
        time.sleep(0.5)
        faults.wait_for("it is stopped while it holds the slot", lambda: stopped_with_a_slot(daemon, holder))
        w = Worker(daemon, g, rounds=8000)
        w.check()
        assert stats(daemon)["expropriations"] > before, "the stopped holder was never expropriated"
        holder.send_signal(signal.SIGCONT)
        out, err = holder.communicate(timeout=60)
        assert holder.returncode == 0, f"the holder ended with {holder.returncode}: {err}"


def waits_of(daemon, pid):
    """Gs that wait in the pool that pid is in, as the daemon reckons."""
    return next(p["waiting"] for p in faults.pools(daemon) if any(m["pid"] == pid for m in p["members"]))


@case
def a_stopped_process_that_waits_is_not_waited_for():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        p = b.start([b.MIXED, "--no-requests", "--batch", "8", "--seconds", "6", "--json"], g, b.mode_env("ration", daemon))
        faults.wait_for("most of its threads wait", lambda: p.pid in faults.attached(daemon) and waits_of(daemon, p.pid) > 4)
        p.send_signal(signal.SIGSTOP)
        faults.wait_for("it is stopped", lambda: faults.state_of(p.pid) == "T")
        faults.wait_for("the daemon reckons with them no more", lambda: waits_of(daemon, p.pid) == 0)
        w = Worker(daemon, g, rounds=4000)
        w.check()
        assert waits_of(daemon, p.pid) == 0
        p.send_signal(signal.SIGCONT)
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0, f"it ended with {p.returncode}: {err}"


@case
def stop_and_continue_at_random():
    import random
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        workers = [Worker(daemon, g, rounds=15000, pause_ms=1) for _ in range(3)]
        wait_attached(daemon, *workers)
        for _ in range(30):
            w = random.choice(workers)
            if w.running():
                w.process.send_signal(signal.SIGSTOP)
                time.sleep(random.uniform(0, 0.15))
                w.process.send_signal(signal.SIGCONT)
        for w in workers:
            w.check()


@case
def all_stopped_and_continued():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        workers = [Worker(daemon, g, rounds=12000) for _ in range(2)]
        wait_attached(daemon, *workers)
        for w in workers:
            w.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        for w in workers:
            w.process.send_signal(signal.SIGCONT)
        for w in workers:
            w.check()


faults.main()
