#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon and real cgroups: which quota applies, and that a change of it arrives in running processes."""
import os
import signal
import time

from rationlib import *


def attached(d):
    """An actor's body: attaches, says where its page is, and waits."""

    def body(sock):
        c = d.client()
        c.hello()
        p = c.page
        sock.sendall(b"attached\n")
        for line in sock.makefile("r"):
            words = line.split()
            if words[0] == "page":
                reply = "%d %d %d %d %d" % (p.u32(PAGE_NSLOTS), p.u32(PAGE_RATE), p.u32(PAGE_NCPUS), p.u32(PAGE_FLAGS), p.u32(PAGE_CHANGE))
            elif words[0] == "bell":
                reply = str(p.member(c.member, M_BELL))
            elif words[0] == "asleep":
                reply = str(p.u32(PAGE_OWNER_ASLEEP))
            elif words[0] == "frame":
                reply = str(c.recv().kind)
            elif words[0] == "hello":
                c.hello()
                p = c.page
                reply = "done"
            elif words[0] == "take":
                c.take(int(words[1]))
                reply = "done"
            elif words[0] == "give":
                p.slot(int(words[1]), 0)
                reply = "done"
            elif words[0] == "domain":
                reply = c.ask_all(PS_QUERY)[0].domain
            sock.sendall((reply + "\n").encode())

    return body


def ask(a, what):
    a.tell(what)
    return a.line()


def page(a):
    return [int(x) for x in ask(a, "page").split()]


def hosts_cpus():
    return os.cpu_count()


def a_quota_makes_slots_and_rate():
    need_cpu_groups()
    cases = {50000: (1, 490000), 100000: (1, 985000)}
    if hosts_cpus() > 1:
        cases[150000] = (2, 1477500)
    for quota, (slots, rate) in cases.items():
        with Daemon() as d, Cgroup("rationtest-q", quota) as g, Actor(attached(d), g) as a:
            a.line()
            nslots, r, ncpus, flags, _ = page(a)
            if quota < hosts_cpus() * 100000:
                assert (nslots, r, ncpus, flags & F_GATED) == (slots, rate, slots, F_GATED), (quota, nslots, r, ncpus, flags)
            assert ask(a, "domain") == g.name


def a_tighter_ancestor_counts():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-up", 50000) as _up, Cgroup("rationtest-up/in", 40000) as g, Actor(attached(d), g) as a:
        a.line()
        assert page(a)[1] == rate_of(40000)
        assert ask(a, "domain") == g.name
    with Daemon() as d, Cgroup("rationtest-up", 50000) as up, Cgroup("rationtest-up/in") as g, Actor(attached(d), g) as a:
        a.line()
        assert page(a)[1] == rate_of(50000)
        assert ask(a, "domain") == up.name


def a_new_quota_arrives_while_idle():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 50000) as g, Actor(attached(d), g) as a:
        a.line()
        time.sleep(0.6)  # asleep by now: inotify alone must do
        bell = int(ask(a, "bell"))
        g.set_quota(80000)
        wait_for("the new rate is there", lambda: page(a)[1] == rate_of(80000))
        wait_for("its bell is rung", lambda: int(ask(a, "bell")) > bell)
        assert int(ask(a, "frame")) == CHANGED
        c = d.client()
        assert c.stats().quota_changes == 1
        c.close()


def a_new_quota_arrives_however_it_is_written():
    """Who opens a file for writing truncates it first, which is a change of its own: the daemon may look between the two."""
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 50000) as g, Actor(attached(d), g) as a:
        a.line()
        time.sleep(0.6)
        for i in range(60):
            quota = 50000 + 1000 * (i % 30 + 1)
            with open(g.quota_file, "w") as f:
                time.sleep(i * 0.00002)
                f.write(str(quota))
            wait_for("the new rate is there", lambda: page(a)[1] == rate_of(quota))


def a_new_quota_arrives_while_running():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 50000) as g, Actor(attached(d), g) as a:
        a.line()
        ask(a, "take 0")
        for quota in (20000, 70000, 30000):
            g.set_quota(quota)
            wait_for("the new rate is there", lambda: page(a)[1] == rate_of(quota))
        g.set_quota(30000, 50000)
        wait_for("a new period is there", lambda: page(a)[1] == rate_of(30000, 50000))


def a_quota_that_goes_away_opens_the_gate():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 50000) as g, Actor(attached(d), g) as a:
        a.line()
        ask(a, "take 0")
        g.set_quota(None)
        wait_for("the gate is open", lambda: page(a)[3] & F_GATED == 0 and page(a)[1] == 0)
        g.set_quota(50000)
        wait_for("it is shut again", lambda: page(a)[3] & F_GATED and page(a)[1] == rate_of(50000))


def a_moved_process_is_told_to_attach_again():
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 50000) as g, Cgroup("rationtest-r", 30000) as h, Actor(attached(d), g) as a:
        a.line()
        ask(a, "take 0")
        h.enter(a.pid)
        kind = int(ask(a, "frame"))
        while kind == CHANGED:
            kind = int(ask(a, "frame"))
        assert kind == REATTACH
        ask(a, "hello")
        assert page(a)[1] == rate_of(30000)
        assert ask(a, "domain") == h.name


class Cpuset:
    """A cpuset of v1 with CPU 0, beside the hierarchy of the cpu controller."""

    def __init__(self):
        self.dir = CGROUPS + "/cpuset/rationtest-q"

    def set(self, name, value):
        with open(self.dir + "/" + name, "w") as f:
            f.write(value)

    def __enter__(self):
        os.makedirs(self.dir, exist_ok=True)
        self.set("cpuset.cpus", "0"), self.set("cpuset.mems", "0")
        return self

    def __exit__(self, *_):
        wait_for("the cpuset is empty", lambda: not open(self.dir + "/cgroup.procs").read())
        os.rmdir(self.dir)


def a_cpuset_is_its_own_processes_business():
    need_cpu_groups()
    if hosts_cpus() < 2 or not os.path.exists(CGROUPS + "/cpuset/cpuset.cpus"):
        skip("needs two CPUs and cpusets of cgroup v1")
    with Cpuset() as pin, Daemon() as d, Cgroup("rationtest-q", 150000) as g, Actor(attached(d), g) as a, Actor(attached(d), g) as b:
        a.line(), b.line()
        pin.set("cgroup.procs", str(b.pid))
        assert ask(b, "hello") == "done"
        assert page(a)[2] == 2, page(a)
        wait_for("both sleep, and it has all", lambda: page(a)[1] == rate_of(150000))
        assert page(b)[2] == 1, page(b)
        pin.set("cpuset.cpus", "0-1")
        wait_for("it is told to attach again", lambda: int(ask(b, "frame")) == REATTACH)
        assert ask(b, "hello") == "done"
        assert page(b)[2] == 2, page(b)
        b.signal(signal.SIGKILL)


def headroom_and_margin_are_taken_off():
    need_cpu_groups()
    conf = "[pool]\nmargin = 0%\nheadroom = 10%\n[domain /rationtest-r]\nheadroom = 0.1\n"
    with Daemon(config=conf) as d, Cgroup("rationtest-q", 50000) as g, Cgroup("rationtest-r", 50000) as h:
        with Actor(attached(d), g) as a, Actor(attached(d), h) as b:
            a.line(), b.line()
            assert page(a)[1] == 450000
            assert page(b)[1] == 400000
            with open(d.conf, "w") as f:
                f.write("[pool]\nmargin = 0%\n")
            d.proc.send_signal(signal.SIGHUP)
            wait_for("a new configuration arrives", lambda: page(a)[1] == 500000 and page(b)[1] == 500000)
            with open(d.conf, "w") as f:
                f.write("[pool]\nmargn = 1%\n")
            d.proc.send_signal(signal.SIGHUP)
            wait_for("a wrong one is refused", lambda: "did you mean 'margin'" in d.text())
            assert page(a)[1] == 500000


def a_removed_cgroup_is_forgotten():
    need_cpu_groups()
    with Daemon() as d:
        before = None
        for _ in range(5):
            with Cgroup("rationtest-q", 50000) as g, Actor(attached(d), g) as a:
                a.line()
            c = d.client()
            wait_for("nothing is left of it", lambda: (lambda s: s.domains == 0 and s.pools == 0 and s.clients == 1)(c.stats()))
            c.close()
            wait_for("the connection is gone", lambda: before is None or d.nfds() <= before)
            before = d.nfds()


def a_cgroup_made_anew_is_another():
    """Same name, another cgroup: who was in the old one is elsewhere by now, and its watches are dead."""
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 100000) as g, Actor(attached(d), g) as a:
        a.line()
        wait_for("all is asleep", lambda: ask(a, "asleep") == "1")
        for path in g.dirs:
            with open(os.path.dirname(path) + "/cgroup.procs", "w") as f:
                f.write(str(a.pid))
            os.rmdir(path)
        with Cgroup("rationtest-q", 50000) as h, Actor(attached(d), h) as b:
            b.line()
            assert page(b)[1] == rate_of(50000), page(b)
            wait_for("the other is told to attach again", lambda: int(ask(a, "frame")) == REATTACH)
            assert ask(a, "hello") == "done"
            assert ask(a, "domain") != h.name
            wait_for("all is asleep", lambda: ask(b, "asleep") == "1")
            h.set_quota(80000)
            wait_for("a new quota arrives", lambda: page(b)[1] == rate_of(80000))


def strangers_are_taken_off():
    """A process of the cgroup that is not ours burns CPU: the bucket must feel it."""
    need_cpu_groups()
    with Daemon() as d, Cgroup("rationtest-q", 50000) as g:
        if not g.counts_cpu_time():
            skip("no accounting of CPU time")

        def burn(sock):
            sock.sendall(b"burning\n")
            while True:
                pass

        with Actor(attached(d), g) as a, Actor(burn, g) as b:
            a.line(), b.line()
            ask(a, "take 0")
            c = d.client()
            wait_for("strangers are seen", lambda: any(p.strangers_micro > 200000 for p in c.ask_all(POOL_QUERY)))
            full = 10000  # 20 % of the quota of a period (pool_params.h); a little of it is gone at most moments
            wait_for("the bucket pays", lambda: any(p.tokens_us < full * 0.95 for p in c.ask_all(POOL_QUERY)))
            b.signal(signal.SIGSTOP)
            wait_for("it fills up again", lambda: all(p.tokens_us >= full * 0.99 for p in c.ask_all(POOL_QUERY)))
            c.close()


if __name__ == "__main__":
    run([
        a_quota_makes_slots_and_rate,
        a_tighter_ancestor_counts,
        a_new_quota_arrives_while_idle,
        a_new_quota_arrives_however_it_is_written,
        a_new_quota_arrives_while_running,
        a_quota_that_goes_away_opens_the_gate,
        a_moved_process_is_told_to_attach_again,
        a_cpuset_is_its_own_processes_business,
        headroom_and_margin_are_taken_off,
        a_removed_cgroup_is_forgotten,
        a_cgroup_made_anew_is_another,
        strangers_are_taken_off,
    ])
