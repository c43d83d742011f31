#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 240
"""The daemon dies or stops at any moment; the programs under the shim neither stop nor go wrong."""
import os
import random
import signal
import socket
import time
import types

import faults
from faults import Worker, attached, b, case, stats, wait_attached, wait_for


@case
def kill_9_of_the_daemon_leaves_programs_running_and_they_resume():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        workers = [Worker(daemon, g, rounds=80000, pause_ms=2) for _ in range(3)]
        wait_attached(daemon, *workers)
        end = time.monotonic() + 8  # of the 18 s that they live at least; on a crowded machine a daemon takes seconds to start
        for n in range(6):
            if n >= 2 and time.monotonic() > end:
                break
            time.sleep(random.uniform(0, 0.4))
            daemon.kill()
            for w in workers:
                w.moves()
            time.sleep(random.uniform(0, 0.3))
            daemon.start()
        alive = [w for w in workers if w.running()]
        assert alive, "the workers were too short for this test"
        wait_for("the workers are attached again", lambda: {w.pid for w in alive if w.running()} <= attached(daemon))
        assert stats(daemon)["resumes"] > 0 or not any(w.running() for w in alive), "nobody handed its page back"
        for w in workers:
            w.check()


@case
def who_comes_back_to_its_page_is_on_its_rung_again():
    daemon = b.Daemon()
    want = "bpf" if stats(daemon)["bpf"] else "polling"
    w = Worker(daemon, rounds=1 << 30, pause_ms=5)  # without a quota its sysmon sleeps for good

    def is_on_it():
        return [r["rung"] for r in daemon.query("ps") if r["pid"] == w.pid] == [want]
    wait_for(f"it is on the rung {want}", is_on_it)
    for _ in range(3):
        daemon.kill()
        w.moves()
        daemon.start()
        wait_for(f"it is on the rung {want} again", is_on_it)
    assert w.running()
    w.process.kill()


@case
def a_program_started_while_there_is_no_daemon_attaches_to_a_later_one():
    daemon = b.Daemon()
    daemon.kill()
    with b.Group(1.0, "faults") as g:
        w = Worker(daemon, g, rounds=40000, pause_ms=5)
        w.moves()
        daemon.start()
        wait_attached(daemon, w)
        w.check()


@case
def a_program_that_calls_a_daemon_that_is_being_started_attaches_to_it():
    """systemd listens for it; its start may take longer than all attempts by the clock, as at a busy boot."""
    d = b.temp_dir()
    open(os.path.join(d, "rationd.log"), "w").close()  # nothing shall happen beside the socket
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(os.path.join(d, "rationd.sock"))
    s.listen(64)
    w = Worker(types.SimpleNamespace(socket=s.getsockname()), rounds=1 << 30, pause_ms=5)
    w.moves()
    time.sleep(6)
    daemon = b.Daemon(dir=d, listening=s)
    s.close()
    wait_attached(daemon, w)
    w.process.kill()
    w.process.wait()


@case
def a_program_that_ends_while_there_is_no_daemon_ends_well():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        workers = [Worker(daemon, g, rounds=8000) for _ in range(2)]
        wait_attached(daemon, *workers)
        daemon.kill()
        for w in workers:
            w.check()


@case
def a_stopped_daemon_stops_nobody():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        first = Worker(daemon, g, rounds=30000, pause_ms=2)
        wait_attached(daemon, first)
        daemon.process.send_signal(signal.SIGSTOP)
        first.moves()
        second = Worker(daemon, g, rounds=4000)  # its hello gets no answer
        second.check()
        first.moves()
        daemon.process.send_signal(signal.SIGCONT)
        first.check()
        wait_for("the daemon answers again", lambda: daemon.answers())


@case
def killed_in_the_middle_of_attaches():
    daemon = b.Daemon()
    for _ in range(8):
        workers = [Worker(daemon, rounds=2000) for _ in range(6)]
        time.sleep(random.uniform(0, 0.03))
        daemon.kill()
        for w in workers:
            w.check()
        daemon.start()


@case
def a_quota_that_changes_while_the_daemon_is_away_is_seen_by_the_next():
    daemon = b.Daemon()
    with b.Group(0.5, "faults") as g:
        w = Worker(daemon, g, rounds=40000, pause_ms=5)
        wait_attached(daemon, w)
        daemon.kill()
        g.set_cpus(1.5)
        daemon.start()
        name = os.path.basename(g.dir)

        def slots():
            return [int(p["slots"]) for p in faults.pools(daemon) if name in p["domain"] and int(p["processes"])]

        wait_for("the pool has the two slots of 1.5 CPUs", lambda: slots() == [2])
        w.check()


faults.main()
