#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Division of CPUs: between users of a cgroup, siblings under a limit, and domains that have only a weight."""
import os
import threading
import time

from rationlib import *


def member(d, cpus=None):
    """An actor's body: a member that charges CPU time at a rate it is told, and says what its page allows; it may run on `cpus`."""

    def body(sock):
        if cpus:
            os.sched_setaffinity(0, cpus)
        c = d.client()
        c.hello()
        rate, holds = [0.0], [False]

        def charge():
            total, last = 0, time.monotonic_ns()
            while True:
                time.sleep(0.005 if rate[0] or holds[0] else 0.1)  # on a slow machine the beat of an idle one is itself a load
                now = time.monotonic_ns()
                total += int((now - last) * rate[0])
                last = now
                c.page.member64(c.member, M_CHARGED, total)
                c.page.member64(c.member, M_BEAT, now)

        threading.Thread(target=charge, daemon=True).start()
        sock.sendall(b"ready\n")
        for line in sock.makefile("r"):
            words = line.split()
            if words[0] == "want":
                c.want(int(words[1]))
            elif words[0] == "take":
                holds[0] = True
                c.take(int(words[1]))
            elif words[0] == "give":
                c.page.slot(int(words[1]), 0)
                holds[0] = False
            elif words[0] == "charge":
                rate[0] = float(words[1])
            p = c.page
            sock.sendall(b"%d %d %d %d\n" % (p.u32(PAGE_RATE), p.u32(PAGE_NSLOTS), p.u32(PAGE_FLAGS), p.u32(PAGE_OWNER_ASLEEP)))

    return body


def say(a, what):
    a.tell(what)
    return [int(x) for x in a.line().split()]


def rate(a):
    return say(a, "look")[0]


def near(value, wanted, by=0.06):
    return abs(value - wanted) <= wanted * by


def busy(a, want=2):
    say(a, "take 0")
    say(a, "want %d" % want)


def two_users_of_a_cgroup_share_it_by_demand():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-s", 100000) as g, Actor(member(d), g, 1001) as a, Actor(member(d), g, 1002) as b:
        a.line(), b.line()
        busy(a)
        wait_for("one alone has all", lambda: near(rate(a), rate_of(100000)))
        busy(b)
        wait_for("two share", lambda: near(rate(a), rate_of(100000) // 2) and near(rate(b), rate_of(100000) // 2))
        say(b, "want 0"), say(b, "charge 0.2")
        wait_for("one that needs little leaves the rest", lambda: rate(a) > 600000 and rate(b) < 400000 and rate(a) + rate(b) < 1040000)
        say(b, "charge 0"), say(b, "give 0")
        wait_for("one alone has all again", lambda: near(rate(a), rate_of(100000)))


def a_user_gets_no_more_by_more_pools():
    need_cpu_groups()
    if len(os.sched_getaffinity(0)) < 2:
        skip("needs two CPUs")
    one, two = [set(sorted(os.sched_getaffinity(0))[:n]) for n in (1, 2)]
    with Daemon() as d, Cgroup("rationtest-s", 120000) as g, Actor(member(d, two), g, 1001) as a, Actor(member(d, one), g, 1001) as b, \
            Actor(member(d, two), g, 1002) as c:
        a.line(), b.line(), c.line()
        for x in (a, b, c):
            busy(x)
        half, quarter = rate_of(120000) // 2, rate_of(120000) // 4
        wait_for("users share", lambda: near(rate(c), half) and near(rate(a), quarter) and near(rate(b), quarter))
        say(c, "want 0"), say(c, "give 0")
        wait_for("its two pools have all", lambda: near(rate(a), 2 * quarter) and near(rate(b), 2 * quarter))


def siblings_share_the_limit_above_them():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-s", 100000) as _up, Cgroup("rationtest-s/a", 80000) as ga, Cgroup("rationtest-s/b", 80000) as gb:
        with Actor(member(d), ga) as a, Actor(member(d), gb) as b:
            a.line(), b.line()
            busy(a)
            wait_for("one alone has its own limit", lambda: near(rate(a), rate_of(80000)))
            busy(b)
            wait_for("two share what is above", lambda: near(rate(a), rate_of(100000) // 2) and near(rate(b), rate_of(100000) // 2))
            gb.set_shares(3072)
            wait_for("weights count", lambda: near(rate(a), 245000) and near(rate(b), 735000))


def a_death_gives_its_share_to_the_others():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-s", 100000) as g, Actor(member(d), g, 1001) as a:
        a.line()
        busy(a)
        with Actor(member(d), g, 1002) as b:
            b.line()
            busy(b)
            wait_for("two share", lambda: near(rate(a), rate_of(100000) // 2))
        wait_for("the one left has all", lambda: near(rate(a), rate_of(100000)))


def weights_matter_only_when_cpus_are_short():
    need_cpu_groups()
    host = os.cpu_count()
    with Daemon() as d, Cgroup("rationtest-s", shares=1024) as ga, Cgroup("rationtest-t", shares=3072) as gb:
        with Actor(member(d), ga) as a, Actor(member(d), gb) as b:
            a.line(), b.line()
            wait_for("b is quiet", lambda: say(b, "look")[3], every=0.5)
            busy(a, host)
            time.sleep(0.3)
            assert say(a, "look")[2] & F_GATED == 0  # alone: the whole host
            busy(b, host)
            part = host * 1000000 / 4
            wait_for("both are gated by weight", lambda: near(rate(a), part * 0.98) and near(rate(b), 3 * part * 0.98))
            say(b, "want 0"), say(b, "give 0")
            wait_for("what is idle may be borrowed", lambda: say(a, "look")[2] & F_GATED == 0)
    with Daemon(config="[pool]\nweights = off\n") as d, Cgroup("rationtest-s", shares=1024) as ga, Cgroup("rationtest-t", shares=3072) as gb:
        with Actor(member(d), ga) as a, Actor(member(d), gb) as b:
            a.line(), b.line()
            busy(a, host), say(b, "want %d" % host)  # they share the host's page
            time.sleep(0.5)
            assert say(a, "look")[2] & F_GATED == 0 and say(b, "look")[2] & F_GATED == 0


def users_of_a_cgroup_without_a_quota_are_left_alone():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-s") as g, Actor(member(d), g, 1001) as a, Actor(member(d), g, 1002) as b:
        a.line(), b.line()
        assert say(a, "look")[2] & F_GATED == 0 and say(b, "look")[2] & F_GATED == 0
        for x in (a, b):
            busy(x, os.cpu_count())
        for _ in range(25):
            assert say(a, "look")[2] & F_GATED == 0 and say(b, "look")[2] & F_GATED == 0
            time.sleep(0.02)


def burner(sock):
    """An actor's body: as many processes as there are CPUs burn CPU, and ring no bell."""
    actor = os.getpid()
    for _ in range(os.cpu_count() - 1):
        if os.fork() == 0:
            break
    if os.getpid() == actor:
        sock.sendall(b"burning\n")
    end = time.monotonic() + 25
    while time.monotonic() < end and (os.getpid() == actor or os.getppid() == actor):
        pass
    os._exit(0)


def pressure_wakes_the_daemon_where_weights_matter():
    """Ungated processes ring no bell: the kernel's pressure monitor tells."""
    need_cpu_groups()
    if not os.path.exists("/proc/pressure/cpu"):
        skip("no PSI")
    with Daemon() as d, Cgroup("rationtest-s", shares=1024) as ga, Cgroup("rationtest-t", shares=3072) as gb:
        if not ga.counts_cpu_time():
            skip("no accounting of CPU time")
        with Actor(member(d), ga) as a, Actor(member(d), gb) as b:
            a.line(), b.line()
            wait_for("both sleep", lambda: say(a, "look")[3] and say(b, "look")[3], every=0.5)
            with Actor(burner, ga) as x, Actor(burner, gb) as y:
                x.line(), y.line()
                wait_for("pressure wakes them", lambda: not say(a, "look")[3] and not say(b, "look")[3])
            wait_for("all is quiet", lambda: say(a, "look")[3] and say(b, "look")[3], 60, every=0.5)
            assert say(a, "look")[2] & F_GATED == 0 and say(b, "look")[2] & F_GATED == 0


if __name__ == "__main__":
    run([
        two_users_of_a_cgroup_share_it_by_demand,
        a_user_gets_no_more_by_more_pools,
        siblings_share_the_limit_above_them,
        a_death_gives_its_share_to_the_others,
        weights_matter_only_when_cpus_are_short,
        users_of_a_cgroup_without_a_quota_are_left_alone,
        pressure_wakes_the_daemon_where_weights_matter,
    ])
