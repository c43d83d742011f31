#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon's socket: attaching, queries, and everything that a client may do wrong."""
import contextlib
import errno
import fcntl
import os
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import time

from rationlib import *


def attach_gives_a_sealed_page():
    with Daemon() as d:
        c = d.client()
        w = c.hello()
        assert w.kind == WELCOME, w.kind
        assert w.page_size == c.page.size and w.gen != 0
        seals = fcntl.fcntl(c.page.fd, 1034)  # F_GET_SEALS
        assert seals & 7 == 7, seals  # SEAL, SHRINK, GROW
        assert c.page.u64(0) == 0x4C4F4F504E544152 and c.page.u32(16) == os.getuid()
        assert c.page.member(c.member, M_GEN) == c.gen
        assert c.page.member(c.member, M_PID) == os.getpid()
        assert c.page.u32(PAGE_NSLOTS) >= 1 and c.page.u32(PAGE_NCPUS) >= 1
        c.close()


def two_processes_of_a_uid_share_a_page():
    with Daemon() as d:
        a, b = d.client(), d.client()
        a.hello(), b.hello()
        assert os.fstat(a.page.fd).st_ino == os.fstat(b.page.fd).st_ino
        assert a.member != b.member and a.gen != b.gen
        assert a.page.u32(PAGE_NMEMBERS) == 2
        a.close()
        wait_for("the member is gone", lambda: b.page.u32(PAGE_NMEMBERS) == 1)
        b.close()


def another_uid_gets_another_page():
    need_root()
    with Daemon() as d:
        mine = d.client()
        mine.hello()

        def body(sock):
            c = d.client()
            c.hello()
            sock.sendall(b"%d\n" % os.fstat(c.page.fd).st_ino)
            sock.recv(1)

        with Actor(body, uid=1234) as other:
            assert int(other.line()) != os.fstat(mine.page.fd).st_ino
            assert {p.uid for p in mine.ask_all(POOL_QUERY)} == {0, 1234}
        mine.close()


def a_user_sees_only_its_own_processes():
    need_root()
    with Daemon() as d:
        root = d.client()
        root.hello(name=b"of-root")

        def body(sock):
            c = d.client()
            c.hello(name=b"of-user")
            names = [p.name for p in c.ask_all(PS_QUERY)]
            uids = {p.uid for p in c.ask_all(POOL_QUERY)}
            other = c.ask(QUOTA_QUERY, struct.pack("<II", os.getppid(), 0))
            own = c.ask(QUOTA_QUERY, struct.pack("<II", 0, 0))
            sock.sendall(("%s %s %d %d %d\n" % (names, uids, other.kind, getattr(other, "error", 0), own.kind)).encode())
            sock.recv(1)

        with Actor(body, uid=1234) as user:
            assert user.line() == "['of-user'] {1234} %d %d %d" % (ERROR, 1, QUOTA)
            assert {p.name for p in root.ask_all(PS_QUERY)} == {"of-root", "of-user"}
        root.close()


def the_rung_of_each_process_is_told():
    need_root()
    with Daemon(bpf=True) as d:
        polling, off, bpf = d.client(), d.client(), d.client()
        polling.hello(HELLO_NO_BPF, name=b"polling"), off.hello(HELLO_OFF, name=b"off")
        w = bpf.hello(0, name=b"bpf")
        by_bpf = 3 if w.flags & WELCOME_BPF else 2
        assert {p.name: (p.rung, p.flags) for p in off.ask_all(PS_QUERY)} == {"polling": (2, 1), "off": (2, 2), "bpf": (by_bpf, 1)}
        (pool,) = off.ask_all(POOL_QUERY)
        assert (pool.rung2, pool.rung3) == ((2, 1) if by_bpf == 3 else (3, 0))
        for c in (polling, off, bpf):
            c.close()


def the_mode_of_each_process_is_told():
    with Daemon() as d:
        clients = {b"locked": HELLO_NO_BPF, b"off": HELLO_OFF, b"free": HELLO_FREE, b"off-and-free": HELLO_OFF | HELLO_FREE,
                   b"of-a-later-version": HELLO_NO_BPF | 0xFFFFFFF0}
        open_ones = []
        for name, flags in clients.items():
            open_ones.append(d.client())
            assert open_ones[-1].hello(flags, name=name).kind == WELCOME
        want = {"locked": 1, "off": 2, "free": 4, "off-and-free": 2, "of-a-later-version": 1}
        for query in (PS_QUERY, PS_MORE_QUERY):
            assert {p.name: p.flags for p in open_ones[0].ask_all(query)} == want
        for c in open_ones:
            c.close()


def counts_of_free_mode_are_told_as_the_member_says_them():
    with Daemon() as d:
        c, other = d.client(), d.client()
        c.hello(HELLO_FREE, name=b"free"), other.hello(name=b"other")
        for count in (lambda i: 10 + i, lambda i: 0xFFFFFFFF):  # sane ones, then the worst that a page can hold
            for i, at in enumerate([M_NTHREADS] + [M_WIRED + 4 * i for i in range(7)]):
                c.page.member(c.member, at, count(i))
            more = {p.name: p for p in other.ask_all(PS_MORE_QUERY)}
            assert (more["free"].thread_gs, more["free"].nwired) == (count(0), 7)
            assert [getattr(more["free"], f"wired{i}") for i in range(13)] == [count(i) for i in range(1, 8)] + [0] * 6
            assert (more["other"].thread_gs, more["other"].nwired, more["other"].wired0) == (0, 7, 0)
        assert [p.pid for p in other.ask_all(PS_QUERY)] == [p.pid for p in other.ask_all(PS_MORE_QUERY)]
        member = c.member
        c.page.close()
        c.page = None
        c.close()  # who comes to its seat begins with nothing
        wait_for("the seat is free", lambda: len(other.ask_all(PS_QUERY)) == 1)
        again = d.client()
        again.hello(HELLO_FREE)
        assert again.member == member
        (p,) = [p for p in again.ask_all(PS_MORE_QUERY) if p.flags == 4]
        assert [p.thread_gs] + [getattr(p, f"wired{i}") for i in range(7)] == [0] * 8
        again.close(), other.close()


def a_process_is_told_with_its_pool():
    if len(os.sched_getaffinity(0)) < 2:
        skip("needs two CPUs")

    def pinned(sock):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        c = d.client()
        c.hello()
        sock.sendall(b"in\n")
        sock.recv(1)

    with Daemon() as d, Actor(pinned) as a:
        a.line()
        c = d.client()
        c.hello()
        pools = {p.id: p.members for p in c.ask_all(POOL_QUERY)}
        of = {p.pid: p.pool for p in c.ask_all(PS_MORE_QUERY)}
        assert len(pools) == 2 and 0 not in pools and set(pools.values()) == {1}, pools
        assert set(of) == {a.pid, os.getpid()} and set(of.values()) == set(pools), (of, pools)
        c.close()


def hello_again_attaches_anew():
    with Daemon() as d:
        c = d.client()
        c.hello()
        old, gen = c.page, c.gen
        c.page = None
        assert c.hello().kind == WELCOME
        assert c.gen != gen
        assert len(c.ask_all(PS_QUERY)) == 1
        old.close()
        c.close()


def queries_answer_without_attaching():
    with Daemon() as d:
        c = d.client()
        q = c.ask(QUOTA_QUERY, struct.pack("<II", 0, 0))
        assert q.kind == QUOTA and q.pid == os.getpid() and q.slots >= 1 and q.cpus_allowed >= 1
        s = c.stats()
        assert s.clients == 1 and s.bpf == 0 and "off" in s.bpf_error and s.attaches == 0
        assert c.ask_all(PS_QUERY) == [] and c.ask_all(POOL_QUERY) == []
        gone = c.ask(QUOTA_QUERY, struct.pack("<II", 0x7FFFFFFF, 0))
        assert gone.kind == ERROR and gone.text
        assert c.ask(QUOTA_QUERY, struct.pack("<II", 0xFFFFFFFF, 0)).kind == ERROR
        c.close()


def frame(kind, body, magic=MAGIC, version=VERSION, length=None, serial=7):
    return HDR.pack(magic, version, kind, HDR.size + len(body) if length is None else length, serial) + body


def a_malformed_frame_closes_only_that_connection():
    hello = struct.pack(FORMATS[HELLO], HELLO_NO_BPF, 64, 0, 0, b"x")
    cases = {
        "nothing": b"",
        "empty header": b"RATN",
        "bad magic": frame(HELLO, hello, magic=0x12345678),
        "length too long": frame(HELLO, hello, length=1000),
        "length too short": frame(HELLO, hello, length=16),
        "absurd length": frame(HELLO, hello, length=0xFFFFFFFF),
        "cut": frame(HELLO, hello)[:-1],
        "one byte over": frame(HELLO, hello + b"\0"),
        "longer than any": frame(HELLO, b"\0" * 4000),
        "string without end": frame(HELLO, struct.pack(FORMATS[HELLO], 0, 64, 0, 0, b"y" * 64)),
        "unknown type": frame(999, b""),
        "type 0": frame(0, b""),
        "what only a daemon sends": frame(OK, b""),
        "welcome": frame(WELCOME, b"\0" * 56),
    }
    with Daemon() as d:
        good = d.client()
        good.hello()
        for name, data in cases.items():
            bad = d.client()
            bad.send_raw(data)
            f = bad.recv()
            assert f is not None and (f.kind, f.serial) == (ERROR, 0) and f.text, name
            assert bad.recv() is None, name
            bad.close()
        assert good.stats().malformed == len(cases)
        assert "malformed frame" in d.text()
        assert good.page.member(good.member, M_GEN) == good.gen
        good.close()


def another_version_is_told_so():
    with Daemon() as d:
        for size in (0, 80, 600, 1008, 4000):  # whatever it may have to say
            c = d.client()
            c.send_raw(frame(HELLO, b"\0" * size, version=2))
            f = c.recv()
            assert f.kind == ERROR and f.error == 93 and "version" in f.text, (size, f.text)  # EPROTONOSUPPORT
            assert c.recv() is None
            c.close()


def log_of_malformed_frames_is_bounded():
    with Daemon() as d:
        for _ in range(300):
            c = d.client()
            c.send_raw(b"rubbish that is no frame")
            while c.recv() is not None:
                pass
            c.close()
        s = d.client()
        assert s.stats().malformed == 300
        s.close()
        lines = d.text().count("malformed frame")
        assert 1 <= lines < 100, lines


def absurd_m_slots_and_flags_are_harmless():
    with Daemon(bpf=True) as d:
        for slots in (0, 1, 63, 8193, 0x7FFFFFFF, 0xFFFFFFFF):
            c = d.client()
            w = c.hello(flags=0xFFFFFFF8, m_slots=slots)
            assert w.kind == WELCOME
            if w.flags & WELCOME_BPF:
                assert 64 <= w.m_slots <= 8192 and w.m_slots & (w.m_slots - 1) == 0
            w.close()
            c.close()


def register(c, fd):
    """The errno that REGISTER_M of something that is no thread gets."""
    return c.ask(REGISTER_M, struct.pack(FORMATS[REGISTER_M], 1, 0), [fd]).error


def the_newest_connection_of_a_process_has_its_bpf():
    need_root()
    with Daemon(bpf=True) as d, open("/dev/null") as null:
        clients = [d.client() for _ in range(3)]
        for c in clients:
            w = c.hello(0, m_slots=8192)
            if not w.flags & WELCOME_BPF:
                skip("no BPF here")
            w.close()
        assert [register(c, null.fileno()) for c in clients] == [errno.ENOTCONN, errno.ENOTCONN, errno.EBADF]
        clients[2].close()
        w = clients[0].hello(0)  # it comes again: the first is the newest now
        assert w.flags & WELCOME_BPF and register(clients[0], null.fileno()) == errno.EBADF
        w.close()
        for c in clients[:2]:
            c.close()


def a_uid_has_so_many_m_slots():
    need_root()

    def wants(d):
        def body(sock):
            c = d.client()
            for _ in sock.makefile("r"):
                w = c.hello(0, m_slots=8192)
                w.close()
                sock.sendall(b"%d\n" % (w.flags & WELCOME_BPF))

        return body

    def ask(a):
        a.tell("hello")
        return int(a.line())

    with Daemon(bpf=True) as d, contextlib.ExitStack() as stack:
        actors = [stack.enter_context(Actor(wants(d), uid=1001)) for _ in range(66)]
        got = [ask(a) for a in actors]
        if not any(got):
            skip("no BPF here")
        assert got == [1] * 64 + [0] * 2, got
        assert "uid 1001 has as many M slots as it may" in d.text()
        with Actor(wants(d)) as root:
            assert ask(root) == 1
        for a in actors[:32]:
            a.__exit__()
        wait_for("there is room again", lambda: ask(actors[65]) == 1)


def descriptors_that_nobody_asked_for_are_closed():
    with Daemon() as d:
        c = d.client()
        c.hello()
        before = d.nfds()
        null = os.open("/dev/null", os.O_RDONLY)
        for n in (1, 2, 3, 16, 200):
            for body in (frame(STATS_QUERY, b""), b"rubbish", frame(HELLO, struct.pack(FORMATS[HELLO], 0, 0, 0, 0, b""))):
                bad = d.client()
                bad.send_raw(body, [null] * n)
                bad.recv()
                bad.close()
        c.send(REGISTER_M, struct.pack("<II", 1, 0), [null])
        c.send(REGISTER_M, struct.pack("<II", 1, 0))
        assert c.answer(c.serial).kind == ERROR
        wait_for("all are closed", lambda: c.stats().clients == 1)
        assert d.nfds() == before, (d.nfds(), before)
        os.close(null)
        c.close()


def a_client_that_never_reads_is_dropped_or_waits():
    """It must not stop the others, nor make the daemon keep its answers."""
    with Daemon() as d:
        many = [d.client() for _ in range(60)]
        for m in many:
            m.hello()
        lazy = d.client()
        lazy.sock.setblocking(False)
        try:
            for _ in range(100000):
                lazy.send(PS_QUERY)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        rss = d.status("VmRSS")
        assert many[0].stats().clients == 61
        assert rss < 20000, rss
        lazy.sock.settimeout(20)
        frames = 0
        while True:  # what it asked for comes, once it reads
            f = lazy.recv()
            frames += 1
            if f is None or f.kind == END:
                break
        assert frames > 60
        for c in many + [lazy]:
            c.close()


WANT_PAGE = struct.pack(FORMATS[HELLO], HELLO_NO_BPF, 64, 0, 0, b"greedy")


def descriptors_that_nobody_reads_do_not_cost_others_theirs():
    """The kernel bounds what is on its way from one user, over all sockets: it must not be used up by who does not read."""
    with Daemon(start=False) as d:
        limit = 700
        with open(d.log, "ab") as log:
            d.proc = subprocess.Popen(d.args, stderr=log, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        wait_for("it is ready", lambda: " ready on " in d.text())
        greedy = [d.client() for _ in range(20)]
        for _ in range(limit // 20 + 10):
            for c in greedy:
                c.sock.setblocking(False)
                try:
                    c.send(HELLO, WANT_PAGE)
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass
        other = d.client()
        for _ in range(3):
            assert other.hello().kind == WELCOME, d.text()
            other.page.close()
            other.page = None
        assert "Too many references" not in d.text()
        for c in greedy + [other]:
            c.close()


def who_does_not_read_gets_no_more_descriptors():
    with Daemon() as d:
        c = d.client()
        c.send(HELLO, WANT_PAGE), c.send(HELLO, WANT_PAGE)
        wait_for("its patience is over", lambda: "does not read the descriptors" in d.text())
        frames = []
        while not frames or frames[-1] is not None:
            frames.append(c.recv())
        assert [f.kind for f in frames[:-1]] == [WELCOME, ERROR], frames
        assert frames[1].error == 16 and frames[1].serial == 2, vars(frames[1])  # EBUSY
        frames[0].close()
        c.close()


def several_hellos_at_once_are_answered_in_order():
    with Daemon() as d:
        c = d.client()
        for _ in range(5):
            c.send(HELLO, WANT_PAGE)
        last = c.send(STATS_QUERY)
        for serial in range(1, 6):
            f = c.recv()
            while f.kind == CHANGED:
                f = c.recv()
            assert (f.kind, f.serial, len(f.fds)) == (WELCOME, serial, 1), vars(f)
            f.close()
        assert c.answer(last).clients == 1
        c.close()


def who_says_hello_all_the_time_gets_a_part_of_the_daemons():
    """Of its CPU time: a busy machine only makes that part smaller."""
    with Daemon() as d:

        def spent():
            with open("/proc/%d/schedstat" % d.proc.pid) as f:
                return int(f.read().split()[0])

        clients = [d.client() for _ in range(8)]
        for c in clients:
            c.send(HELLO, WANT_PAGE)
        begun, welcomes = (time.monotonic_ns(), spent()), 0
        while welcomes < 600:
            for s in select.select([c.sock for c in clients], [], [])[0]:
                c = next(c for c in clients if c.sock is s)
                f = c.recv()
                if f.kind == WELCOME:
                    f.close()
                    welcomes += 1
                    c.send(HELLO, WANT_PAGE)
        part = (spent() - begun[1]) / (time.monotonic_ns() - begun[0])
        print("# part", part)
        assert part < 0.3, part
        for c in clients:
            c.close()


def a_place_is_free_when_its_descriptors_are():
    """Who half-closes, and keeps what it does not read, keeps its place: or it could have any number of them on their way."""
    with Daemon() as d:
        good, bad = d.client(), [d.client() for _ in range(3)]
        for c in bad:
            c.send(HELLO, WANT_PAGE)
            select.select([c.sock], [], [])
            c.sock.shutdown(socket.SHUT_WR)
            p = select.poll()
            p.register(c.sock, 0)
            assert p.poll(20000)[0][1] & select.POLLHUP  # the daemon has hung up
        assert good.stats().clients == 4 and good.ask_all(PS_QUERY) == []
        for c in bad[:2]:
            while True:  # one reads, one goes
                f = c.recv() if c is bad[0] else None
                if f is None:
                    break
                f.close()
            if c is bad[1]:
                c.close()
        wait_for("two places are free", lambda: good.stats().clients == 2)
        for c in bad[::2] + [good]:
            c.close()


def a_process_that_does_not_read_is_asked_once():
    with Daemon() as d:
        deaf, asker = d.client(), d.client()
        deaf.hello()
        r, w = os.pipe()
        about = struct.pack("<II", os.getpid(), 0)
        assert asker.ask(GS_QUERY, about, [w]).kind == OK
        f = asker.ask(GS_QUERY, about, [w])
        assert f.kind == ERROR and f.error == 16, vars(f)
        while (f := deaf.recv()).kind != DUMP_GS:
            pass
        f.close()
        assert asker.ask(GS_QUERY, about, [w]).kind == OK
        os.close(r), os.close(w), deaf.close(), asker.close()


def rubbish_does_no_harm():
    rnd = random.Random(4)
    with Daemon() as d:
        good = d.client()
        good.hello()
        for _ in range(2000):
            c = d.client()
            kind = rnd.choice([1, 2, 3, 4, 5, 6, 7, rnd.randrange(65536)])
            body = bytes(rnd.randrange(256) for _ in range(rnd.choice([0, 8, 80, rnd.randrange(900)])))
            c.send_raw(frame(kind, body) if rnd.random() < 0.8 else body or b"x")
            c.close()
        wait_for("all are gone", lambda: good.stats().clients == 1)
        assert len(good.ask_all(PS_QUERY)) == 1
        good.close()


def too_many_clients_are_refused_with_a_reason():
    with Daemon(config="[daemon]\nmax_clients = 10\nmax_clients_per_uid = 5\n") as d:
        inside = [d.client() for _ in range(5)]
        for c in inside:
            assert c.hello().kind == WELCOME
        over = d.client()
        f = over.recv()
        assert f.kind == ERROR and "max_clients_per_uid" in f.text, f.text
        assert over.recv() is None
        over.close()
        inside.pop().close()
        again = wait_for("there is room again", lambda: try_hello(d))
        again.close()
        for c in inside:
            c.close()


def one_user_cannot_keep_the_others_out():
    need_root()
    with Daemon(config="[daemon]\nmax_clients = 16\nmax_clients_per_uid = 16\n") as d:

        def fill(sock):
            mine = [c for c in [try_hello(d) for _ in range(12)] if c]
            sock.sendall(b"%d\n" % len(mine))
            sock.recv(1)

        with Actor(fill, uid=1234) as a:
            assert int(a.line()) == 8  # half
            with Actor(fill, uid=1235) as b:
                assert int(b.line()) == 6  # and of the rest two are kept for root
                one_more = try_hello(d)
                assert one_more is not None and one_more.stats().clients == 15
                one_more.close()


def who_says_nothing_loses_its_place():
    with Daemon() as d:
        silent, other = d.client(), d.client()
        assert other.stats().clients == 2
        f = silent.recv()
        assert f.kind == ERROR and f.error == 110, vars(f)  # ETIMEDOUT
        assert silent.recv() is None
        assert other.stats().clients == 1  # which needs not go on talking
        silent.close(), other.close()


def try_hello(d):
    c = d.client()
    try:
        f = c.hello()
    except (BrokenPipeError, ConnectionResetError):  # refused before it had asked
        f = None
    if f is not None and f.kind == WELCOME:
        return c
    c.close()
    return None


def a_second_daemon_does_not_steal_the_socket():
    with Daemon() as d:
        r = subprocess.run(d.args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        assert r.returncode == 1 and b"another rationd" in r.stdout, r
        c = d.client()
        assert c.hello().kind == WELCOME
        c.close()


def a_stale_socket_file_is_taken_over():
    d = Daemon()
    with d:
        d.kill()
        assert os.path.exists(d.path)
        d.start()
        c = d.client()
        assert c.hello().kind == WELCOME
        c.close()
    assert not os.path.exists(d.path)


def socket_activation_is_taken():
    with Daemon(start=False) as d:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.bind(d.path)
        s.listen(16)
        note = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        note.bind(d.dir + "/notify")
        note.settimeout(20)

        def child():
            os.dup2(s.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=d.dir + "/notify")

        log = open(d.log, "ab")
        pid = os.fork()
        if pid == 0:
            os.dup2(log.fileno(), 2)
            child()
            os.execv(d.args[0], d.args)
        log.close()
        try:
            assert b"READY=1" in note.recv(4096)
            c = d.client()
            assert c.hello().kind == WELCOME
            os.kill(pid, signal.SIGTERM)
            assert b"STOPPING=1" in note.recv(4096)
            assert os.path.exists(d.path)  # it is systemd's
            c.close()
        finally:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.waitpid(pid, 0)
        s.close(), note.close()


def watchdog_is_fed_while_there_is_something_to_do():
    """And switched off while there is not: an idle daemon has no timer."""
    with Daemon(start=False) as d:
        note = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        note.bind(d.dir + "/notify")
        note.settimeout(20)
        with open(d.log, "ab") as log:
            d.proc = subprocess.Popen(d.args, stderr=log, env=dict(os.environ, NOTIFY_SOCKET=d.dir + "/notify", WATCHDOG_USEC="200000"))
        told = b""
        while b"WATCHDOG_USEC=0" not in told:
            told += note.recv(4096) + b"\n"
        assert b"READY=1" in told
        note.settimeout(1)
        try:
            raise AssertionError(f"an idle daemon still says {note.recv(4096)}")
        except socket.timeout:
            pass
        note.settimeout(20)
        c, told = d.client(), []
        while told.count(b"WATCHDOG=1") < 3:
            c.ask_all(POOL_QUERY)
            while select.select([note], [], [], 0.01)[0]:
                told += note.recv(4096).split(b"\n")
        assert told[0] == b"WATCHDOG_USEC=200000", told
        while b"WATCHDOG_USEC=0" not in told:
            told += note.recv(4096).split(b"\n")
        c.close()
        note.close()


if __name__ == "__main__":
    run([
        attach_gives_a_sealed_page,
        two_processes_of_a_uid_share_a_page,
        another_uid_gets_another_page,
        a_user_sees_only_its_own_processes,
        the_rung_of_each_process_is_told,
        the_mode_of_each_process_is_told,
        counts_of_free_mode_are_told_as_the_member_says_them,
        a_process_is_told_with_its_pool,
        hello_again_attaches_anew,
        queries_answer_without_attaching,
        a_malformed_frame_closes_only_that_connection,
        another_version_is_told_so,
        log_of_malformed_frames_is_bounded,
        absurd_m_slots_and_flags_are_harmless,
        the_newest_connection_of_a_process_has_its_bpf,
        a_uid_has_so_many_m_slots,
        descriptors_that_nobody_asked_for_are_closed,
        a_client_that_never_reads_is_dropped_or_waits,
        descriptors_that_nobody_reads_do_not_cost_others_theirs,
        who_does_not_read_gets_no_more_descriptors,
        several_hellos_at_once_are_answered_in_order,
        who_says_hello_all_the_time_gets_a_part_of_the_daemons,
        a_place_is_free_when_its_descriptors_are,
        a_process_that_does_not_read_is_asked_once,
        rubbish_does_no_harm,
        too_many_clients_are_refused_with_a_reason,
        one_user_cannot_keep_the_others_out,
        who_says_nothing_loses_its_place,
        a_second_daemon_does_not_steal_the_socket,
        a_stale_socket_file_is_taken_over,
        socket_activation_is_taken,
        watchdog_is_fed_while_there_is_something_to_do,
    ])
