#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""1,000 processes come and go, some of them violently; nothing of them stays."""
import os
import random
import signal
import subprocess

import faults
from faults import Worker, attached, b, case, pools, stats, wait_attached, wait_for

PARALLEL = 16
SLEEPERS = 1100


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def memory_kb(daemon):
    for line in b.read_text(f"/proc/{daemon.process.pid}/status").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def children(shell):
    return [int(pid) for pid in b.read_text(f"/proc/{shell.pid}/task/{shell.pid}/children").split()]


def churn(daemon, group, n):
    """n short processes, at most PARALLEL at a time; every seventh is killed, the others must end well."""
    running = []

    def reap(p, victim):
        out, err = p.communicate(timeout=60)
        if victim:
            assert p.returncode in (0, -9), f"a killed one ended with {p.returncode}: {err}"
            return
        assert p.returncode == 0 and err == "", f"exit status {p.returncode}: {err}"
        assert out == right, f"wrong output {out!r}"

    args = ("--threads", "2", "--rounds", "15")
    right = faults.right_output(*args)
    for i in range(n):
        p = b.start([faults.WORKER, *args], group, b.mode_env("ration", daemon))
        victim = i % 7 == 3
        running.append((p, victim))
        if victim and random.random() < 0.7:
            p.kill()
        while len(running) >= PARALLEL:
            reap(*running.pop(0))
    while running:
        reap(*running.pop(0))


@case
def a_thousand_processes_leave_nothing_behind():
    daemon = b.Daemon()
    with b.Group(1.5, "faults") as g:
        churn(daemon, g, 50)
        wait_for("they are gone", lambda: not attached(daemon))
        fds, kb, before = descriptors(daemon), memory_kb(daemon), stats(daemon)["attaches"]
        resident = Worker(daemon, g, rounds=10**7, threads=2, pause_ms=20)
        wait_attached(daemon, resident)
        churn(daemon, g, 1000)
        resident.process.kill()
        resident.process.communicate()
        wait_for("they are gone", lambda: not attached(daemon))
        assert stats(daemon)["attaches"] - before >= 500, "most never attached: this tests nothing"
        assert all(int(p["held"]) == 0 and int(p["processes"]) == 0 for p in pools(daemon)), f"left over: {pools(daemon)}"
        wait_for(f"the daemon has no more than its {fds} descriptors", lambda: descriptors(daemon) <= fds + 2)
        grown = memory_kb(daemon) - kb
        assert grown < 4096, f"the daemon grew by {grown} kB"


@case
def more_processes_at_once_than_a_page_has_members():
    """Those for whom there is no place run by themselves."""
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        shell = b.start(["sh", "-c", f"for i in $(seq {SLEEPERS}); do sleep 600 & done; wait"], g, b.mode_env("ration", daemon),
                        out=subprocess.DEVNULL, err=subprocess.DEVNULL)
        try:
            wait_for("all are there", lambda: len(children(shell)) == SLEEPERS, 120)
            wait_for("a thousand are attached", lambda: len(attached(daemon)) >= 1000, 60)
            w = Worker(daemon, g, rounds=3000)
            w.check()
            assert len(children(shell)) == SLEEPERS, f"{SLEEPERS - len(children(shell))} sleepers ended"
        finally:
            for pid in children(shell):
                os.kill(pid, signal.SIGKILL)
            shell.wait(60)
        wait_for("they are gone", lambda: not attached(daemon))


faults.main()
