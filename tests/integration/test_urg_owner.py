#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""A program that has SIGURG for itself (signalfd, as PostgreSQL): it is stopped in time all the same, by another signal, and its descriptor tells it of its own signals only."""
import os

import faults
from faults import b, case, wait_for

# Sends itself three, then computes until a file is there; a second argument: in a forked child, which has not attached yet.
OWNER = """
import ctypes, os, signal, sys, time
if sys.argv[2:] and os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
signals = (ctypes.c_ulong * 16)(1 << (signal.SIGURG - 1))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
fd = ctypes.CDLL(None).signalfd(-1, signals, os.O_NONBLOCK)
for _ in range(3):
    os.kill(os.getpid(), signal.SIGURG)
    os.read(fd, 128)
print(os.getpid(), flush=True)
while not os.path.exists(sys.argv[1]):
    until = time.monotonic() + 0.2
    while time.monotonic() < until: pass
try:
    print("and one more", os.read(fd, 128))
except BlockingIOError:
    print("no more")
"""
PYTHON = b.find_program("python3")
LEAST = 20  # times that each of two is stopped: in 0.5 CPUs each frame is one's or the other's


def two_owners(*args):
    daemon = b.Daemon()
    enough = os.path.join(b.temp_dir(), "enough")
    with b.Group(0.5, "owner") as g:
        owners = [b.start([PYTHON, "-c", OWNER, enough, *args], g, b.mode_env("ration", daemon)) for _ in range(2)]
        pids = [int(p.stdout.readline()) for p in owners]

        def stopped():
            by = {p["pid"]: p for p in daemon.query("ps")}
            return all(pid in by and by[pid]["preempts"] >= LEAST and by[pid]["rung"] == "bpf" for pid in pids)

        wait_for("both are stopped again and again", stopped)
        b.write_text(enough, "")
        for p in owners:
            out, _ = p.communicate(timeout=60)
            assert (out, p.returncode) == ("no more\n", 0), (out, p.returncode)


@case
def a_signalfd_hides_nothing_from_ration_nor_shows_what_is_rations():
    two_owners()


@case
def the_same_in_a_forked_child():
    two_owners("fork")


if __name__ == "__main__":
    faults.main()
