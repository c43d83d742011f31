# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: TAP cases, workers whose output is known, a client of the protocol in Python.

A fault test does something bad to a real daemon, shim or cgroup while real programs run, and then asks two things: did
every program end with the right output and exit status, and is the daemon as it was before.  Nothing asserts a time; where
something has to come about, the test waits for it within a generous bound.
"""
import array
import mmap
import os
import random
import socket
import struct
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))
import benchlib as b  # noqa: E402

WORKER = os.path.join(b.BUILD, "tests/integration/faults_worker")
_cases = []


class Skip(Exception):
    """Can't be tested here; the text says why."""


def case(fn):
    """Registers a test case; its name is what it promises."""
    _cases.append(fn)
    return fn


def main(needs=("rationd", "ration", "libration.so")):
    b.clean_up_at_exit()
    seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"# FAULTS_SEED={seed}", flush=True)
    missing = [n for n in needs if not os.path.exists(os.path.join(b.BUILD, n))]
    if missing:
        print(f"not built: {', '.join(missing)}")
        sys.exit(1)
    only = sys.argv[1:]
    failed = 0
    for i, fn in enumerate([c for c in _cases if not only or c.__name__ in only], 1):
        random.seed(seed)
        try:
            fn()
            print(f"ok {i} - {fn.__name__}", flush=True)
        except (Skip, b.NoCgroup) as e:
            print(f"ok {i} - {fn.__name__} # SKIP {e}", flush=True)
        except Exception:  # also a failed assertion: told, and on to the next case
            failed += 1
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()) + f"not ok {i} - {fn.__name__}", flush=True)
        finally:
            b.cleanup()
    sys.exit(1 if failed else 0)


# ---- waiting --------------------------------------------------------------------------------------


def wait_for(what, fn, seconds=30):
    """Until fn() is true; its value.  `what` says what did not come about."""
    end = time.monotonic() + seconds
    while True:
        v = fn()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError(f"within {seconds} s: {what}")
        time.sleep(0.05)


def attached(daemon):
    return {r["pid"] for r in daemon.query("ps")}


def pools(daemon):
    return daemon.query("pool")


def stats(daemon):
    return daemon.query("stats")


# ---- workers --------------------------------------------------------------------------------------

_right = {}


def right_output(*args):
    """What a worker with these arguments prints, found out by a run as it is."""
    if args not in _right:
        _right[args] = subprocess.run([WORKER, *args], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    return _right[args]


class Worker:
    """A faults_worker under the shim."""

    def __init__(self, daemon, group=None, rounds=20000, threads=6, mode="ration", env=None, pause_ms=0):
        self.progress = os.path.join(b.temp_dir(), "progress")
        self.args = ("--threads", str(threads), "--rounds", str(rounds))
        more = ["--progress", self.progress] + (["--pause-ms", str(pause_ms)] if pause_ms else [])
        self.process = b.start([WORKER, *self.args, *more], group, dict(b.mode_env(mode, daemon), **(env or {})))
        self.pid = self.process.pid

    def steps(self):
        try:
            return os.path.getsize(self.progress)
        except FileNotFoundError:
            return 0

    def moves(self, seconds=30):
        """Waits until it has made a step from now on."""
        before = self.steps()
        wait_for(f"worker {self.pid} goes on", lambda: self.steps() > before or self.process.poll() is not None, seconds)

    def running(self):
        return self.process.poll() is None

    def end(self, still):
        """What it printed until its end, if it makes a step in each `still` seconds."""
        while True:
            before = self.steps()
            try:
                return self.process.communicate(timeout=still)
            except subprocess.TimeoutExpired:
                if self.steps() > before:
                    continue  # slow, but it goes on: an emulated machine
            where = threads_of(self.pid)
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"worker {self.pid} hangs after {self.steps()} steps; threads: {where}")

    def check(self, still=90):
        """Waits for its end, and asks for the right output."""
        out, err = self.end(still)
        assert self.process.returncode == 0, f"worker {self.pid}: exit status {self.process.returncode}: {err.strip()[-400:]}"
        assert err == "", f"worker {self.pid} wrote to stderr: {err[-400:]}"
        assert out == right_output(*self.args), f"worker {self.pid}: wrong output {out!r}, not {right_output(*self.args)!r}"


def state_of(task):
    """The letter that /proc has for it: R, S, T, Z, ..."""
    return b.read_text(f"/proc/{task}/stat").rsplit(")", 1)[1].split()[0]


def threads_of(pid):
    got = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            got.append(tid + ":" + b.read_text(f"/proc/{pid}/task/{tid}/wchan") + "/" + state_of(f"{pid}/task/{tid}"))
        except OSError:
            pass
    return " ".join(got)


def wait_attached(daemon, *workers):
    """Without this a test could pass because the shim never met the daemon."""
    want = {w.pid for w in workers}
    wait_for(f"processes {sorted(want)} are attached", lambda: want <= attached(daemon))


# ---- the pool page --------------------------------------------------------------------------------


class Layout:
    """Where the parts of a pool page begin (proto/pool_page.h, as the worker was compiled with it)."""

    def __init__(self):
        out = subprocess.run([WORKER, "--layout"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.owner, self.bucket, self.slots, self.members, self.size = map(int, out.split())


# ---- a client of our own --------------------------------------------------------------------------

MAGIC, VERSION, WIRE_MAX = 0x4E544152, 1, 1024
HELLO, WELCOME, ERROR = 1, 64, 66
HDR = struct.Struct("<IHHII")
HELLO_BODY = struct.Struct("<IIII64s")
WELCOME_BODY = struct.Struct("<IIIIII32s")


def frame(type_, body, serial=1, magic=MAGIC, version=VERSION):
    return HDR.pack(magic, version, type_, HDR.size + len(body), serial) + body


class Client:
    """Attaches to a daemon by the protocol as docs/protocol.md has it."""

    def __init__(self, daemon, name=b"faults"):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.sock.connect(daemon.socket)
        self.sock.send(frame(HELLO, HELLO_BODY.pack(2, 64, 0, 0, name)))
        data, fds, _, _ = socket.recv_fds(self.sock, WIRE_MAX, 8)
        self.fds = list(fds)
        magic, version, type_, length, _ = HDR.unpack_from(data)
        assert (magic, version, type_, length) == (MAGIC, VERSION, WELCOME, len(data)), f"no welcome: type {type_}"
        self.flags, self.member, self.gen, self.page_size, _, _, _ = WELCOME_BODY.unpack_from(data, HDR.size)
        self.page = mmap.mmap(self.fds[0], self.page_size)

    def close(self):
        self.page.close()
        for fd in self.fds:
            os.close(fd)
        self.sock.close()


class FakeDaemon:
    """A process of ours that listens where a daemon should, and does `serve(connection)` to everyone who comes."""

    def __init__(self, serve, type_=socket.SOCK_SEQPACKET):
        self.dir = b.temp_dir()
        self.socket = os.path.join(self.dir, "rationd.sock")
        ls = socket.socket(socket.AF_UNIX, type_)
        ls.bind(self.socket)
        ls.listen(64)
        self.met = os.path.join(self.dir, "met")
        self.pid = os.fork()
        if self.pid == 0:
            self.serve_all(ls, serve)
        ls.close()
        b.on_exit(self.stop)

    def serve_all(self, ls, serve):
        import signal
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, signal.SIG_DFL)
        kept = []
        while True:
            c, _ = ls.accept()
            with open(self.met, "ab") as f:
                f.write(b".")
            try:
                serve(c)
            except OSError:
                pass  # the client had enough
            kept.append(c)

    def visitors(self):
        return os.path.getsize(self.met) if os.path.exists(self.met) else 0

    def stop(self):
        b.forget(self.stop)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def send_with_fds(sock, data, fds):
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
