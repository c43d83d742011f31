#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ration gs: asks a process through rationd what its light Gs do (the program is gdebug.c)."""
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rationlib import *  # noqa: F401,F403
from rationlib import DUMP_GS, ERROR, GS_QUERY, OK, RATIOND, Daemon, need_root, run, wait_for

BUILD = os.path.dirname(RATIOND)
PROG = os.path.join(BUILD, "tests/integration/gdebug")
RATION = os.path.join(BUILD, "ration")
if not os.path.exists(PROG):
    print("build first: make progs")
    sys.exit(77)


class Program:
    """gdebug quit, attached to the daemon, once its Gs have parked.  Or another that says when it is ready."""

    def __init__(self, d, p=None):
        self.p = p or subprocess.Popen([PROG, "quit"], stdout=subprocess.PIPE, env=dict(os.environ, RATION_SOCKET=d.path, RATION_MAXPROCS="2"))
        assert self.p.stdout.readline() == b"ready\n"
        self.pid = self.p.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


def threads(d, mode="free", **env):
    """The plain pthread program threads.c, attached to the daemon, once its threads wait."""
    env = dict(os.environ, RATION_SOCKET=d.path, RATION_MAXPROCS="2", RATION_THREADS=mode, LD_PRELOAD=os.path.join(BUILD, "libration.so"), **env)
    return Program(d, subprocess.Popen([os.path.join(BUILD, "tests/integration/threads")], stdout=subprocess.PIPE, env=env))


def gs(d, *args, what="gs", **kw):
    return subprocess.run([RATION, what, "-s", d.path, *map(str, args)], capture_output=True, text=True, timeout=30, **kw)


def ps(d, pid):
    r = gs(d, "--json", pid, what="ps")
    assert r.returncode == 0 and r.stderr == "", r
    return json.loads(r.stdout)[0]


def query(c, pid, fd):
    return c.ask(GS_QUERY, struct.pack("<II", pid, 0), [fd])


def all_gs_are_shown_with_their_stacks():
    with Daemon() as d, Program(d) as p:
        running = 0
        for _ in range(20):
            r = gs(d, p.pid)
            assert r.returncode == 0 and r.stderr == "", r
            for part in ('"taker" [chan receive, ', "waits_to_receive+0x", '"spinner" [run', "    spins", "created by G 1"):
                assert part in r.stdout, (part, r.stdout)
            running += '"spinner" [running]' in r.stdout  # else it was preempted just then
        assert running
        assert p.p.poll() is None


def threads_of_free_mode_are_shown_with_their_stacks():
    with Daemon() as d, threads(d) as p:
        r = gs(d, p.pid)
        assert r.returncode == 0 and r.stderr == "", r
        found = {}
        for part in r.stdout.split("\nG ")[1:]:
            name, state = re.match(r'\d+ "(.*)" \[(.*)\]:\n', part).groups()
            found.setdefault(name, []).append((state, part))
        for name, state, function in (("waiter", "cond, ", "waits_for_cond+"), ("locker", "mutex, ", "locker+"), ("reader", "io, ", "reads_for_ever+"),
                                      ("sleeper", "sleep, ", "sleeper+"), ("joiner", "join, ", "joiner+"), ("spinner", "run", "spins"),
                                      ("wired", "wired, (cond, |syscall)", "waits_for_cond+")):
            assert len(found[name]) == (3 if name == "waiter" else 1), r.stdout
            for is_state, stack in found[name]:
                assert re.match(state, is_state), (name, is_state)
                assert f"    {function}" in stack and f"    began in {name} (threads)" in stack, stack
        assert len(found) == 7 and p.p.poll() is None, r.stdout


def ps_counts_the_threads_of_free_mode_and_who_was_wired():
    with Daemon() as d, threads(d) as p:
        wait_for("all are counted", lambda: (ps(d, p.pid)["thread_gs"], ps(d, p.pid)["gs"]) == (8, 10))  # main and one more are wired
        told = ps(d, p.pid)
        assert told["threads"] == "free" and 3 <= told["ms"] <= 8, told
        assert (told["wired"]["altstack"], sum(told["wired"].values())) == (1, 1), told
        lines = gs(d, p.pid, what="ps").stdout
        assert re.search(r"^threads +free$", lines, re.M) and re.search(r"^wired: altstack +1$", lines, re.M), lines
        assert re.search(r"^thread Gs +8$", lines, re.M), lines


def ps_tells_the_other_modes():
    with Daemon() as d, threads(d, "locked") as locked:
        wait_for("all are counted", lambda: (ps(d, locked.pid)["ms"], ps(d, locked.pid)["gs"]) == (10, 10))
        told = ps(d, locked.pid)
        assert (told["threads"], told["thread_gs"], told["wired"]) == ("locked", None, None), told
        with threads(d, "off") as off:
            assert ps(d, off.pid)["threads"] == "off"


def a_daemon_that_comes_back_knows_it_all_again():
    with Daemon() as d, threads(d) as p:
        wait_for("all are counted", lambda: ps(d, p.pid)["thread_gs"] == 8)
        d.kill()
        d.start()
        wait_for("it is back", lambda: gs(d, p.pid, what="ps").returncode == 0)
        wait_for("it says it again", lambda: (ps(d, p.pid)["threads"], ps(d, p.pid)["thread_gs"]) == ("free", 8))
        assert ps(d, p.pid)["wired"]["altstack"] == 1


def who_is_not_attached_is_told_so():
    with Daemon() as d:
        r = gs(d, os.getpid())
        assert r.returncode == 1 and "is not attached, or not yours" in r.stderr, r
        for args, status in (((), 2), (("x",), 2), (("0",), 2), (("1", "2"), 2), (("99999999999",), 2)):
            assert gs(d, *args).returncode == status, args


def a_process_without_light_gs_says_nothing():
    with Daemon() as d:
        lib = os.path.join(BUILD, "libration.so")
        p = subprocess.Popen(["sleep", "100"], env=dict(os.environ, LD_PRELOAD=lib, RATION_SOCKET=d.path))
        c = d.client()
        wait_for("it is attached", lambda: "sleep" in [m.name for m in c.ask_all(6)])
        r = gs(d, p.pid)
        p.kill()
        p.wait()
        assert r.returncode == 0 and r.stdout == "No light or thread Gs run in this process.\n", r
        c.close()


def another_user_may_not_ask():
    need_root()
    with Daemon() as d, Program(d) as p:
        os.chmod(d.dir, 0o755)
        r = gs(d, p.pid, user=1234, group=1234, extra_groups=[])
        assert r.returncode == 1 and "is not attached, or not yours" in r.stderr, r


def only_pipes_are_handed_on():
    with Daemon() as d, Program(d) as p:
        c = d.client()
        with open("/dev/null", "wb") as null:
            f = query(c, p.pid, null.fileno())
            assert f.kind == ERROR and f.error == 22, vars(f)
        f = c.ask(GS_QUERY, struct.pack("<II", p.pid, 0))
        assert f.kind == ERROR and f.error == 22, vars(f)
        c.close()


def a_reader_that_does_not_read_holds_nobody_up():
    with Daemon() as d, Program(d) as p:
        c = d.client()
        kept = []
        for _ in range(3):
            r, w = os.pipe()
            assert query(c, p.pid, w).kind == OK
            os.close(w)
            kept.append(r)
        assert gs(d, p.pid).returncode == 0
        for r in kept:
            assert b'"taker"' in os.read(r, 65536)
            os.close(r)
        r, w = os.pipe()  # and one that has gone: no SIGPIPE for the program
        os.close(r)
        assert query(c, p.pid, w).kind == OK
        os.close(w)
        assert gs(d, p.pid).returncode == 0
        assert p.p.poll() is None
        c.close()


def a_client_of_another_kind_gets_the_descriptor():
    with Daemon() as d:
        c = d.client()
        c.hello()
        r, w = os.pipe()
        s = c.send(GS_QUERY, struct.pack("<II", os.getpid(), 0), [w])
        os.close(w)
        kinds = {}
        while len(kinds) < 2:
            f = c.recv()
            kinds[f.kind] = f
        assert set(kinds) == {DUMP_GS, OK} and len(kinds[DUMP_GS].fds) == 1, (s, kinds)
        os.write(kinds[DUMP_GS].fds[0], b"hello")
        kinds[DUMP_GS].close()
        assert os.read(r, 100) == b"hello" and os.read(r, 100) == b""
        os.close(r)
        c.close()


class Answerer:
    """This process itself, attached, which answers the next question in a way of its own: answer(write end of the pipe)."""

    def __init__(self, d, answer):
        self.c = d.client()
        self.c.hello()
        self.thread = threading.Thread(target=self.main, args=(answer,))
        self.thread.start()

    def main(self, answer):
        f = self.c.recv()
        while f and f.kind != DUMP_GS:
            f = self.c.recv()
        if f:
            try:
                answer(f.fds[0])
            except BrokenPipeError:
                pass
            f.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.c.close()


def nothing_of_it_plays_with_the_terminal():
    text = "é ok\n\x1b[31m \x7f \x9b31m \x9d0;title\x07 \0 €".encode() + b"\x9b raw \xe2\x82\n\xe2\x82"

    def at_once(fd):
        os.write(fd, text)

    def by_bytes(fd):
        for byte in text:
            os.write(fd, bytes([byte]))
            wait_for("it is read", lambda: fcntl.ioctl(fd, termios.FIONREAD, b"1234") == bytes(4))

    for answer in (at_once, by_bytes):
        with Daemon() as d, Answerer(d, answer):
            r = gs(d, os.getpid())
            assert (r.returncode, r.stderr) == (0, ""), r
            assert r.stdout == "é ok\n?[31m ? ??31m ??0;title? ? €? raw ??\n??", r


def an_answer_without_end_is_left():
    def drips(fd):
        while True:
            os.write(fd, b".")
            time.sleep(0.5)

    with Daemon() as d, Answerer(d, drips):
        r = gs(d, os.getpid())
        assert r.returncode == 1 and "has not come to the end of its answer" in r.stderr and set(r.stdout) == {"."}, r


if __name__ == "__main__":
    run([
        all_gs_are_shown_with_their_stacks,
        threads_of_free_mode_are_shown_with_their_stacks,
        ps_counts_the_threads_of_free_mode_and_who_was_wired,
        ps_tells_the_other_modes,
        a_daemon_that_comes_back_knows_it_all_again,
        who_is_not_attached_is_told_so,
        a_process_without_light_gs_says_nothing,
        another_user_may_not_ask,
        only_pipes_are_handed_on,
        a_reader_that_does_not_read_holds_nobody_up,
        a_client_of_another_kind_gets_the_descriptor,
        nothing_of_it_plays_with_the_terminal,
        an_answer_without_end_is_left,
    ])
