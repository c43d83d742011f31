#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Lives and deaths: of members, of the daemon; idleness; many processes."""
import os
import random
import resource
import signal
import struct
import time

from rationlib import *


def holder(d, slots=(0,)):
    """An actor's body: attaches, takes slots, beats while it is told to."""

    def body(sock):
        c = d.client()
        c.hello()
        for i in slots:
            c.take(i)
        c.want(3)
        sock.sendall(("%d %d\n" % (c.member, c.gen)).encode())
        while True:
            c.page.member64(c.member, M_BEAT, time.monotonic_ns())
            time.sleep(0.005)

    return body


def quota_group():
    need_cpu_groups()
    return Cgroup("rationtest-life", 150000)


def seated(d, g):
    """A client of this very process in the cgroup of the test."""
    g.enter()
    c = d.client()
    assert c.hello().kind == WELCOME
    return c


class Visit:
    """This process is in a cgroup for a while."""

    def __init__(self, g):
        self.g = g

    def __enter__(self):
        self.g.enter()
        return self.g

    def __exit__(self, *_):
        for d in self.g.dirs:
            with open(os.path.dirname(d) + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))


def death_frees_slots_and_rings_who_waits():
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)
        with Actor(holder(d), g) as a:
            m, gen = map(int, a.line().split())
            assert c.page.slot(0) == lease(m, gen)
            c.want(1)
            bell = c.page.member(c.member, M_BELL)
            a.signal(signal.SIGKILL)
            a.wait()
            wait_for("its slot is free", lambda: c.page.slot(0) == 0)
            wait_for("the bell rang", lambda: c.page.member(c.member, M_BELL) > bell)
            wait_for("its seat is free", lambda: c.page.member(m, M_GEN) == 0)
            assert c.page.member(m, M_WANTS) == 0
            waiting = c.page.u64(PAGE_WAITING + m // 64 * 8)
            assert waiting >> m % 64 & 1 == 0
        c.close()


def death_counts_also_when_a_child_keeps_the_socket():
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)

        def body(sock):
            m = d.client()
            m.hello()
            m.take(0)
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            sock.sendall(b"%d\n" % child)
            os._exit(0)

        with Actor(body, g) as a:
            child = int(a.line())
            a.wait()
            wait_for("its slot is free", lambda: c.page.slot(0) == 0)
            os.kill(child, signal.SIGKILL)
        c.close()


def a_stopped_holder_is_expropriated():
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)
        with Actor(holder(d), g) as a:
            m, gen = map(int, a.line().split())
            time.sleep(0.5)
            assert c.page.slot(0) == lease(m, gen)
            a.signal(signal.SIGSTOP)
            wait_for("its slot is taken away, though nobody wants it", lambda: c.page.slot(0) == 0)
            assert c.page.member(m, M_GEN) == gen  # but not its seat
            assert c.stats().expropriations == 1
        c.close()


def a_holder_that_beats_keeps_its_slot():
    with quota_group() as g, Daemon(config="[pool]\nstuck_ms = 1000\n") as d, Visit(g):
        c = seated(d, g)
        with Actor(holder(d), g) as a:
            m, gen = map(int, a.line().split())
            c.want(5)
            time.sleep(2.5)
            assert c.page.slot(0) == lease(m, gen)
            assert c.stats().expropriations == 0
        c.close()


def a_corrupt_page_harms_only_its_members():
    rnd = random.Random(9)
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)
        nslots = c.page.u32(PAGE_NSLOTS)
        c.take(0)
        for _ in range(200):
            for _i in range(400):
                at = rnd.randrange(64, c.page.size - 8) & ~7
                c.page.u64(at, rnd.choice([0, 1, 2**64 - 1, rnd.getrandbits(64), lease(rnd.randrange(2000), rnd.getrandbits(32))]))
            c.ask_all(POOL_QUERY), c.ask_all(PS_QUERY)
            c.page.ring_owner()
        s = c.stats()
        assert s.clients == 1
        # Slots that nobody holds are freed, the owner block is put right at the next change.
        for i in range(nslots):
            c.page.slot(i, lease(77, 0xDEAD))
        c.page.ring_owner()
        c.ask_all(POOL_QUERY)
        wait_for("leases of nobody are freed", lambda: all(c.page.slot(i) == 0 for i in range(nslots)))
        g.set_quota(60000)
        wait_for("the owner block is right", lambda: c.page.u32(PAGE_RATE) == rate_of(60000) and c.page.u32(PAGE_NSLOTS) == 1)
        c.close()


def killed_daemon_is_followed_by_one_that_takes_the_page_back():
    with quota_group() as g, Daemon() as d, Visit(g):
        a, b = seated(d, g), seated(d, g)
        a.take(0)
        ino = os.fstat(a.page.fd).st_ino
        g.set_quota(120000)
        d.kill(signal.SIGKILL)
        assert a.recv() is None or a.recv() is None
        assert a.page.slot(0) == lease(a.member, a.gen)  # still ours
        a.page.u32(PAGE_RATE, 5)  # nonsense, while nobody looked
        g.set_quota(80000)
        d.start()
        a2 = d.client()
        w = a2.hello(HELLO_NO_BPF | HELLO_RESUME, a.member, a.gen, page_fd=a.page.fd)
        assert w.kind == WELCOME and w.flags & WELCOME_RESUMED and not w.fds
        assert (w.member, w.gen) == (a.member, a.gen)
        assert a.page.slot(0) == lease(a.member, a.gen)
        assert a.page.u32(PAGE_RATE) == rate_of(80000)
        b2 = d.client()
        w = b2.hello(HELLO_NO_BPF | HELLO_RESUME, b.member, b.gen, page_fd=b.page.fd)
        assert w.flags & WELCOME_RESUMED
        new = d.client()
        new.hello()
        assert os.fstat(new.page.fd).st_ino == ino  # one pool, not two
        s = new.stats()
        assert (s.pools, s.resumes) == (1, 2), (s.pools, s.resumes)
        for c in (a, b, a2, b2, new):
            c.close()


def those_who_died_meanwhile_are_freed():
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)
        with Actor(holder(d), g) as a:
            m, gen = map(int, a.line().split())
            d.kill(signal.SIGKILL)
            a.signal(signal.SIGKILL)
            a.wait()
        assert c.page.slot(0) == lease(m, gen)
        d.start()
        c2 = d.client()
        w = c2.hello(HELLO_NO_BPF | HELLO_RESUME, c.member, c.gen, page_fd=c.page.fd)
        assert w.flags & WELCOME_RESUMED
        wait_for("the slot of the dead is free", lambda: c.page.slot(0) == 0)
        c.close(), c2.close()


def a_page_that_is_not_ours_is_not_taken():
    with Daemon() as d:
        c = d.client()
        c.hello()
        size = c.page.size
        good = os.pread(c.page.fd, size, 0)
        c.close()

        def memfd(data, seals=7, length=None):
            fd = os.memfd_create("fake", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
            os.write(fd, data)
            os.ftruncate(fd, size if length is None else length)
            if seals:
                fcntl.fcntl(fd, 1033, seals)
            return fd

        def changed(at, value):
            return good[:at] + value + good[at + len(value) :]

        cases = {
            "unsealed": memfd(good, 0),
            "half sealed": memfd(good, 6),
            "may not be written": memfd(good, 15),
            "too short": memfd(good, 7, size - 4096),
            "too long": memfd(good, 7, size + 4096),
            "empty": memfd(b"", 7, 0),
            "bad magic": memfd(changed(0, b"xxxxxxxx")),
            "bad version": memfd(changed(8, b"\x09\0\0\0")),
            "bad size": memfd(changed(12, b"\x01\0\0\0")),
            "another uid's": memfd(changed(16, struct.pack("<I", os.getuid() + 1))),
            "standalone": memfd(changed(64, b"\x05\0\0\0")),
            "null": os.open("/dev/null", os.O_RDWR),
            "a pipe": os.pipe()[0],
        }
        for name, fd in cases.items():
            c = d.client()
            w = c.hello(HELLO_NO_BPF | HELLO_RESUME, 0, 1, page_fd=fd)
            assert w.kind == WELCOME and not w.flags & WELCOME_RESUMED, name
            assert c.page.u64(0) == 0x4C4F4F504E544152, name
            c.close()
        c = d.client()
        serial = c.send(HELLO, struct.pack(FORMATS[HELLO], HELLO_NO_BPF | HELLO_RESUME, 0, 0, 0, b"no page"))
        assert c.answer(serial).kind == WELCOME
        c.close()


def a_forged_seat_is_not_given():
    """The right page with the wrong member or generation: a new seat in it."""
    with Daemon() as d:
        c = d.client()
        c.hello()
        d.kill(signal.SIGKILL)
        d.start()
        for member, gen in ((c.member, c.gen + 1), (c.member + 1, c.gen), (1 << 31, 1), (1023, 0), (1024, c.gen)):
            x = d.client()
            w = x.hello(HELLO_NO_BPF | HELLO_RESUME, member, gen, page_fd=os.dup(c.page.fd))
            assert w.kind == WELCOME and not w.flags & WELCOME_RESUMED
            assert (x.member, x.gen) != (member, gen)
            x.close()
        c.close()


def forged_page(good, uid, orphans):
    """A sealed page in which living processes sit that never were with a daemon."""
    fd = os.memfd_create("forged", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    data = bytearray(good)
    struct.pack_into("<I", data, 16, uid)
    for m in range(orphans):
        struct.pack_into("<I", data, PAGE_MEMBERS + MEMBER_SIZE * m + M_GEN, m + 1)
        struct.pack_into("<I", data, PAGE_MEMBERS + MEMBER_SIZE * m + M_PID, os.getpid())
    os.write(fd, data)
    fcntl.fcntl(fd, 1033, 7)
    return fd


def forged_pages_leave_nothing():
    """Whatever sits in a page that somebody brings: it is kept for those who are there, and there are few of a kind."""
    with Daemon() as d:
        c = d.client()
        c.hello()
        good = os.pread(c.page.fd, c.page.size, 0)
        c.close()
        wait_for("the daemon is empty", lambda: d.client().stats().pools == 0)
        for orphans, member in ((1, 0), (1, 900), (1024, 0), (1024, 5000)):
            c = d.client()
            for _ in range(10):  # one connection after HELLO again has one pool
                fd = forged_page(good, os.getuid(), orphans)
                assert c.hello(HELLO_NO_BPF | HELLO_RESUME, member, member + 1, page_fd=fd).kind == WELCOME
                os.close(fd)
            assert c.stats().pools == 1
            c.close()
            wait_for("nothing is left", lambda: d.client().stats().pools == 0)
        many = [d.client() for _ in range(40)]
        for c in many:
            assert c.hello(HELLO_NO_BPF | HELLO_RESUME, 0, 1, page_fd=forged_page(good, os.getuid(), 2)).kind == WELCOME
        assert 2 < c.stats().pools <= 17
        for c in many:
            c.close()
        wait_for("nothing is left", lambda: d.client().stats().pools == 0)


def who_brought_the_page_may_leave_before_the_others_are_back():
    with quota_group() as g, Daemon() as d, Visit(g):
        a, b = seated(d, g), seated(d, g)
        b.take(0)
        d.kill(signal.SIGKILL)
        d.start()
        for _ in range(3):
            a2 = d.client()
            assert a2.hello(HELLO_NO_BPF | HELLO_RESUME, a.member, a.gen, page_fd=a.page.fd).kind == WELCOME
            a2.close()
            wait_for("the page is let go", lambda: d.client().stats().pools == 0)
            assert a.page.u32(PAGE_FLAGS) & F_RETIRED == 0
            assert b.page.slot(0) == lease(b.member, b.gen)
        b2 = d.client()
        assert b2.hello(HELLO_NO_BPF | HELLO_RESUME, b.member, b.gen, page_fd=b.page.fd).flags & WELCOME_RESUMED
        for c in (a, b, b2):
            c.close()


def stopping_leaves_the_pages_to_the_processes():
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)
        c.take(0)
        assert d.kill(signal.SIGTERM) == 0
        assert c.page.slot(0) == lease(c.member, c.gen)
        assert c.page.u32(PAGE_FLAGS) & F_RETIRED == 0
        d.start()
        c2 = d.client()
        assert c2.hello(HELLO_NO_BPF | HELLO_RESUME, c.member, c.gen, page_fd=c.page.fd).flags & WELCOME_RESUMED
        c.close(), c2.close()


def switches(pid):
    n = 0
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/status" % (pid, tid)) as f:
            n += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
    return n


def idle_means_no_wakeups_and_little_memory():
    need_root()
    with quota_group() as g, Daemon(bpf=True) as d, Visit(g):
        c = seated(d, g)
        c.take(0)
        time.sleep(0.2)
        c.page.slot(0, 0)
        wait_for("the owner is asleep", lambda: c.page.u32(PAGE_OWNER_ASLEEP) == 1)
        time.sleep(0.3)
        before = switches(d.proc.pid)
        time.sleep(3)
        assert switches(d.proc.pid) == before, (before, switches(d.proc.pid))
        if not sanitized():
            assert d.status("VmRSS") < 10240, d.status("VmRSS")
        c.take(0)  # and it wakes up when it is needed
        wait_for("the owner is awake", lambda: c.page.u64(PAGE_OWNER_BEAT) > time.monotonic_ns() - 10**8)
        assert c.page.u32(PAGE_OWNER_ASLEEP) == 0
        c.close()


def a_thousand_processes_come_and_go():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6400:
        skip("RLIMIT_NOFILE of %d is too low" % hard)
    with Daemon(bpf=os.geteuid() == 0) as d:
        watcher = d.client()
        watcher.hello()
        watcher.ask_all(PS_QUERY)

        def body(sock):
            for _ in range(250):
                pid = os.fork()
                if pid == 0:
                    c = d.client()
                    f = c.hello(flags=0)
                    os._exit(0 if f and f.kind == WELCOME else 1)
                sock.sendall(b"%d\n" % os.waitpid(pid, 0)[1])

        def crowd(n):
            actors = [Actor(body) for _ in range(n)]
            for a in actors:
                with a:
                    assert all(int(a.line()) == 0 for _ in range(250))
            wait_for("all are gone", lambda: watcher.stats().clients == 1)

        crowd(1)
        time.sleep(1)  # BPF maps are made ahead of need, and closed a while after it
        fds = d.nfds()
        crowd(4)
        assert watcher.stats().attaches == 1251
        wait_for("all descriptors are closed", lambda: d.nfds() <= fds)
        assert watcher.page.u32(PAGE_NMEMBERS) == 1
        watcher.close()


def a_thousand_processes_at_once():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8000:
        skip("RLIMIT_NOFILE of %d is too low" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Daemon() as d:
        clients = []
        for _ in range(1100):  # more than one page seats
            c = d.client()
            assert c.hello().kind == WELCOME
            clients.append(c)
        assert len(clients[0].ask_all(PS_QUERY)) == 1100
        pools = clients[0].ask_all(POOL_QUERY)
        assert sorted(p.members for p in pools) == [76, 1024], [p.members for p in pools]
        if not sanitized():
            assert d.status("VmRSS") < 20480, d.status("VmRSS")
        for c in clients[1:]:
            c.close()
        wait_for("all are gone", lambda: clients[0].stats().clients == 1)
        clients[0].close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def clients_killed_at_random_leave_nothing():
    rnd = random.Random(2)
    with quota_group() as g, Daemon() as d, Visit(g):
        c = seated(d, g)
        for _ in range(40):
            actors = [Actor(holder(d, ()), g) for _ in range(3)]
            for a in actors:
                if rnd.random() < 0.5:
                    a.line()
                a.signal(rnd.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]))
                a.__exit__()
        wait_for("all are gone", lambda: c.stats().clients == 1)
        assert c.page.u32(PAGE_NMEMBERS) == 1
        c.close()


def a_log_that_is_full_does_not_hurt():
    with Daemon(start=False) as d:
        full = os.open("/dev/full", os.O_WRONLY)
        d.proc = subprocess.Popen(d.args, stderr=full)
        os.close(full)
        wait_for("it listens", lambda: os.path.exists(d.path))
        for _ in range(50):
            c = wait_for("it answers", lambda: connect(d))
            assert c.hello().kind == WELCOME
            c.send_raw(b"rubbish")
            while c.recv() is not None:
                pass
            c.close()


def connect(d):
    try:
        return d.client()
    except (ConnectionRefusedError, FileNotFoundError):
        return None


def a_log_pipe_that_nobody_reads_does_not_stop_it():
    with Daemon(start=False) as d:
        r, w = os.pipe()
        fcntl.fcntl(w, 1031, 4096)  # F_SETPIPE_SZ
        d.proc = subprocess.Popen(d.args, stderr=w)
        os.close(w)
        for _ in range(300):
            c = wait_for("it answers", lambda: connect(d))
            assert c.hello().kind == WELCOME
            c.close()
        os.close(r)


if __name__ == "__main__":
    run([
        death_frees_slots_and_rings_who_waits,
        death_counts_also_when_a_child_keeps_the_socket,
        a_stopped_holder_is_expropriated,
        a_holder_that_beats_keeps_its_slot,
        a_corrupt_page_harms_only_its_members,
        killed_daemon_is_followed_by_one_that_takes_the_page_back,
        those_who_died_meanwhile_are_freed,
        a_page_that_is_not_ours_is_not_taken,
        a_forged_seat_is_not_given,
        forged_pages_leave_nothing,
        who_brought_the_page_may_leave_before_the_others_are_back,
        stopping_leaves_the_pages_to_the_processes,
        idle_means_no_wakeups_and_little_memory,
        a_thousand_processes_come_and_go,
        a_thousand_processes_at_once,
        clients_killed_at_random_leave_nothing,
        a_log_that_is_full_does_not_hurt,
        a_log_pipe_that_nobody_reads_does_not_stop_it,
    ])
