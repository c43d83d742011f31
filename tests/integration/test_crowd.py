#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""Busy processes that hand slots to each other all the time are a crowd, until one of them only computes; what they held is free when they are killed."""
import signal

import faults
from faults import b, case, wait_for

# 0.3 ms of work, then a short sleep, for ever.
BUSY = """
import time
while True:
    until = time.thread_time() + 0.0003
    while time.thread_time() < until: pass
    time.sleep(0.0003)
"""
PYTHON = b.find_program("python3")


def python(text, group, daemon):
    return b.start([PYTHON, "-c", text], group, b.mode_env("ration", daemon))


def pool(daemon, processes):
    """The pool of our processes; None until all are in it."""
    return next((p for p in faults.pools(daemon) if p["processes"] == processes), None)


def crowd(daemon, processes):
    p = pool(daemon, processes)
    return p and p["crowd"]


def end(processes):
    for p in processes:
        b.end_process(p, signal.SIGKILL)


@case
def many_that_take_turns_are_a_crowd_until_one_only_computes():
    daemon = b.Daemon()
    with b.Group(0.3, "crowd") as g:
        for _ in range(6):
            python(BUSY, g, daemon)
        wait_for("six that take turns are a crowd", lambda: crowd(daemon, 6))
        hog = python("while True: pass", g, daemon)
        wait_for("the hog is a member, and there is none", lambda: pool(daemon, 7) and not crowd(daemon, 7))
        end([hog])
        wait_for("without it they are one again", lambda: crowd(daemon, 6))


@case
def killed_in_a_crowd_they_leave_nothing_behind():
    daemon = b.Daemon()
    with b.Group(0.3, "crowd") as g:
        busy = [python(BUSY, g, daemon) for _ in range(6)]
        wait_for("more slots are held than there are without a crowd", lambda: crowd(daemon, 6) and pool(daemon, 6)["held"] > 2)
        end(busy[1:])
        wait_for("one alone is none", lambda: pool(daemon, 1) and not crowd(daemon, 1))
        wait_for("what the others held is free", lambda: pool(daemon, 1)["held"] <= 1)
        assert busy[0].poll() is None


faults.main()
