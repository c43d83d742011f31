#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""A member of a pool writes rubbish into the page that it shares with others: they may lose fairness, never correctness."""
import os
import random
import time

import faults
from faults import Client, Layout, Worker, b, case, wait_attached, wait_for

L = Layout()
IDENTITY, OWNER, BUCKET, SLOTS, MEMBERS = (0, L.owner), (L.owner, L.bucket), (L.bucket, L.slots), (L.slots, L.members), (L.members, L.size)


class Mate:
    """A client in the same cgroup, hence of the same pool, in the same process as the test."""

    def __init__(self, daemon, group):
        b.write_text(group.procs, os.getpid())
        try:
            self.client = Client(daemon)
        finally:
            # Only attaching needs to be done in there.
            b.write_text(group.outside, os.getpid())


def values():
    return random.choice([0, 1, 2, 0xFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 1 << 63, (1 << 63) - 1, 1 << 32, random.getrandbits(64),
                          (random.getrandbits(32) << 32) | random.randrange(2000)])


def scribble(page, ranges, writes):
    for _ in range(writes):
        low, high = random.choice(ranges)
        at = random.randrange(low, min(high, len(page)) - 8) & ~7
        page[at:at + 8] = values().to_bytes(8, "little")


def run_with_scribbler(ranges, writes_at_once, rounds=12000):
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        workers = [Worker(daemon, g, rounds=rounds, threads=4, pause_ms=1) for _ in range(2)]
        wait_attached(daemon, *workers)
        mate = Mate(daemon, g).client
        end = time.monotonic() + 60
        while any(w.running() for w in workers) and time.monotonic() < end:
            scribble(mate.page, ranges, writes_at_once)
            time.sleep(0.002)
        for w in workers:
            w.check()
        # One that comes when the page is already bad.
        late = Worker(daemon, g, rounds=3000)
        for _ in range(200):
            scribble(mate.page, ranges, writes_at_once)
            time.sleep(0.002)
        late.check()
        mate.close()
        wait_for("the daemon answers", lambda: daemon.answers())
        w = Worker(daemon, g, rounds=3000)
        w.check()


@case
def rubbish_in_the_slots():
    run_with_scribbler([SLOTS, (L.slots, L.slots + 4 * 64)], 20)


@case
def rubbish_in_the_members():
    run_with_scribbler([MEMBERS, (L.members, L.members + 16 * 128)], 50)


@case
def rubbish_in_the_bucket_and_waiting_bits():
    run_with_scribbler([BUCKET], 10)


@case
def rubbish_in_the_owner_block():
    run_with_scribbler([OWNER], 4)


@case
def rubbish_everywhere():
    run_with_scribbler([IDENTITY, OWNER, BUCKET, SLOTS, MEMBERS], 200)


@case
def a_member_cannot_shrink_the_page():
    daemon = b.Daemon()
    with b.Group(1.0, "faults") as g:
        w = Worker(daemon, g, rounds=8000)
        wait_attached(daemon, w)
        mate = Mate(daemon, g).client
        for size in (0, 4096, mate.page_size * 2):
            try:
                os.ftruncate(mate.fds[0], size)
            except PermissionError:
                continue
            raise AssertionError(f"the page could be made {size} bytes long")
        w.check()
        mate.close()


faults.main()
