# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks, the demo and the fault tests share: cgroups with a quota, a daemon of their own, runs.

Group   a transient cgroup rationtest-* with a CPU quota, cgroup v1 or v2, removed at exit however that comes
Daemon  a rationd in the foreground on a private socket
own_network()   a loopback of our own, with nothing in its way
run()   a program in a group, plain or under ration; what it took and how often the group was throttled

Python 3.9 and its own library; no packages.
"""
import atexit
import ctypes
import fcntl
import functools
import itertools
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
SHIM = os.path.join(BUILD, "libration.so")
RATIOND = os.path.join(BUILD, "rationd")
RATION = os.path.join(BUILD, "ration")
BENCH = os.path.join(BUILD, "tests/bench")
MIXED = os.path.join(BENCH, "mixed")
PERIOD_US = 100000
BURST_US = 5000  # for each CPU, as in proto/pool_params.h
BURST = True  # False: quotas have none

_count = itertools.count()
_cleanups = []  # what cleanup() undoes, last first
_running = []  # programs that start() started and that may still run


class NoCgroup(Exception):
    """No cgroup with a CPU quota can be made here; the text says why."""


class Skip(Exception):
    """This bench can't be run here; the text says why."""


# ---- cleaning up ----------------------------------------------------------------------------------


def on_exit(fn):
    _cleanups.append(fn)
    return fn


def forget(fn):
    if fn in _cleanups:
        _cleanups.remove(fn)


def cleanup():
    for p in _running:  # first all of them, so that none waits for another
        if p.poll() is None:
            p.terminate()
    for p in _running:
        end_process(p)
    while _cleanups:
        fn = _cleanups.pop()
        try:
            fn()
        except Exception as e:  # one failure must not keep the rest from being cleaned
            print(f"cleaning up: {e}", file=sys.stderr)


def _on_signal(num, _frame):
    # A second signal must not interrupt the cleaning.
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    cleanup()
    signal.signal(num, signal.SIG_DFL)
    os.kill(os.getpid(), num)


def clean_up_at_exit():
    """Call once at the start of a script: also an interrupted one leaves nothing behind."""
    atexit.register(cleanup)
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, _on_signal)


def temp_dir():
    d = tempfile.mkdtemp(prefix="rationtest-")
    os.chmod(d, 0o755)  # as /run/ration: programs that drop their privileges find the socket too
    on_exit(lambda: shutil.rmtree(d, ignore_errors=True))
    return d


def end_process(p, sig=signal.SIGTERM, patience=5):
    """Ends a child of ours and reaps it."""
    if p.poll() is None:
        p.send_signal(sig)
        try:
            p.wait(patience)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()


# ---- cgroups --------------------------------------------------------------------------------------


def read_text(path):
    with open(path) as f:
        return f.read()


def write_text(path, text):
    with open(path, "w") as f:
        f.write(str(text))


def read_stat(path):
    """cpu.stat of v1 and v2 as nr_periods, nr_throttled, throttled_us."""
    kv = dict(line.split()[:2] for line in read_text(path).splitlines() if " " in line)
    us = int(kv["throttled_usec"]) if "throttled_usec" in kv else int(kv.get("throttled_time", 0)) // 1000
    return {"nr_periods": int(kv.get("nr_periods", 0)), "nr_throttled": int(kv.get("nr_throttled", 0)), "throttled_us": us}


def stat_delta(a, b):
    return {k: b[k] - a[k] for k in a}


def cpu_hierarchy():
    """(version, directory of our own cgroup) of the hierarchy that has the cpu controller."""
    own = {}
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for c in controllers.split(","):
            own[c] = path
    found = None
    for line in read_text("/proc/self/mountinfo").splitlines():
        left, right = line.split(" - ", 1)
        root, mnt = left.split()[3:5]
        fstype, _, opts = right.split(" ", 2)
        if fstype == "cgroup" and "cpu" in opts.split(",") and "cpu" in own:
            path, version = own["cpu"], 1
        elif fstype == "cgroup2" and "" in own and "cpu" in read_text(os.path.join(mnt, "cgroup.controllers")).split():
            path, version = own[""], 2
        else:
            continue
        rel = os.path.relpath(path, root) if path.startswith(root) else "."
        found = (version, mnt, os.path.normpath(os.path.join(mnt, rel)))
        if version == 1:
            break
    if not found:
        raise NoCgroup("no cgroup hierarchy with the cpu controller is mounted here")
    return found


def parent_for_groups():
    """A directory in which a group with a quota can be made."""
    version, mnt, own = cpu_hierarchy()
    if version == 1:
        return version, own
    # v2: only a cgroup without processes of its own, or the root, hands a controller down.
    for d in (own, os.path.dirname(own), mnt):
        try:
            if "cpu" in read_text(os.path.join(d, "cgroup.subtree_control")).split():
                return version, d
        except OSError:
            continue
    raise NoCgroup(f"cgroup v2: no parent of ours hands the cpu controller down (see {mnt}/cgroup.subtree_control)")


def accounting_dir(cpu_dir, controller):
    """The same cgroup's directory in the hierarchy of `controller`, where v1 mounts that apart; None: it is not."""
    for line in read_text("/proc/self/mountinfo").splitlines():
        left, right = line.split(" - ", 1)
        fstype, _, opts = right.split(" ", 2)
        if fstype == "cgroup" and controller in opts.split(",") and "cpu" not in opts.split(","):
            return os.path.join(left.split()[4], os.path.relpath(cpu_dir, cpu_hierarchy()[1]))
    return None


class Group:
    """A transient cgroup with a quota of `cpus` (None: no quota), and with CPU accounting, as container runtimes make them.

    `memory`: it is charged for its memory too, and `charged()` says how much.
    `burst`: the quota has a burst as `ration run --cpus` gives it (unless BURST is off)."""

    def __init__(self, cpus=None, name="bench", memory=False, burst=False):
        self.version, parent = parent_for_groups()
        self.dir = os.path.join(parent, f"rationtest-{name}-{os.getpid()}-{next(_count)}")
        try:
            os.mkdir(self.dir)
        except OSError as e:
            raise NoCgroup(f"cannot make the cgroup {self.dir}: {e.strerror}") from None
        on_exit(self.remove)
        self.accounts = {}
        for controller in ("cpuacct", "memory") if memory else ("cpuacct",):
            self.account(controller)
        self.procs = os.path.join(self.dir, "cgroup.procs")
        self.outside = os.path.join(parent, "cgroup.procs")
        if cpus:
            self.set_cpus(cpus)
            if burst and BURST:
                self.set_burst(min(BURST_US * math.ceil(cpus), int(cpus * PERIOD_US / 4)))

    def set_burst(self, us):
        path = os.path.join(self.dir, "cpu.cfs_burst_us" if self.version == 1 else "cpu.max.burst")
        if os.path.exists(path):  # not before Linux 5.14
            write_text(path, us)

    def account(self, controller):
        d = accounting_dir(self.dir, controller) if self.version == 1 else None
        try:
            if d:
                os.mkdir(d)
                self.accounts[controller] = d
        except OSError:
            pass  # what it would say is not to be had

    def charged(self):
        """Bytes that the kernel has charged it for: of its processes and for them, their tasks, kernel stacks and page tables too.  None: it is not charged."""
        d, name = (self.accounts.get("memory"), "memory.usage_in_bytes") if self.version == 1 else (self.dir, "memory.current")
        path = d and os.path.join(d, name)
        return int(read_text(path)) if path and os.path.exists(path) else None

    def set_cpus(self, cpus):
        quota = int(cpus * PERIOD_US)
        try:
            if self.version == 1:
                write_text(os.path.join(self.dir, "cpu.cfs_period_us"), PERIOD_US)
                write_text(os.path.join(self.dir, "cpu.cfs_quota_us"), quota)
            else:
                write_text(os.path.join(self.dir, "cpu.max"), f"{quota} {PERIOD_US}")
        except OSError as e:
            raise NoCgroup(f"cannot set a quota in {self.dir}: {e.strerror} (does the kernel have CFS_BANDWIDTH?)") from None

    def stat(self):
        return read_stat(os.path.join(self.dir, "cpu.stat"))

    def pids(self):
        try:
            return [int(x) for x in read_text(self.procs).split()]
        except FileNotFoundError:
            return []

    def enter(self):
        """For preexec_fn: the calling process goes in."""
        for d in (self.dir, *self.accounts.values()):
            fd = os.open(os.path.join(d, "cgroup.procs"), os.O_WRONLY)
            os.write(fd, b"0")
            os.close(fd)

    def remove(self):
        """Kills what is in it, which is ours, and takes it away."""
        forget(self.remove)
        for _ in range(200):
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                for d in (*self.accounts.values(), self.dir):
                    if os.path.isdir(d):
                        os.rmdir(d)
                return
            except OSError:
                time.sleep(0.02)
        print(f"could not remove {self.dir}", file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


# ---- the daemon -----------------------------------------------------------------------------------


class Daemon:
    """rationd --foreground on a socket of its own in a temporary directory."""

    def __init__(self, args=(), dir=None, wait=10, listening=None):
        self.dir = dir or temp_dir()
        self.socket = os.path.join(self.dir, "rationd.sock")
        self.log = os.path.join(self.dir, "rationd.log")
        self.args = list(args)
        self.listening = listening  # a socket that listens for it, as systemd's does
        self.process = None
        on_exit(self.stop)
        self.start(wait)

    def start(self, wait=10):
        with open(self.log, "ab") as log:
            command, fds = [RATIOND, "--foreground", "--socket", self.socket] + self.args, []
            if self.listening:
                fds = [self.listening.fileno()]
                command = ["bash", "-c", f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3<&{fds[0]}'] + command
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds)
        end = time.monotonic() + wait
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                end_process(self.process)
                raise RuntimeError(f"rationd did not start: {read_text(self.log)[-2000:]}")
            time.sleep(0.02)

    def answers(self):
        if not os.path.exists(self.socket):
            return False
        return subprocess.run([RATION, "ps"], env=self.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def env(self):
        return dict(os.environ, RATION_SOCKET=self.socket)

    def query(self, *args):
        """ration ARGS --json, decoded."""
        p = subprocess.run([RATION, *args, "--json"], env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=20)
        if p.returncode:
            raise RuntimeError(f"ration {' '.join(args)}: {p.stderr.strip()}")
        return json.loads(p.stdout)

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        self.process.wait()

    def stop(self):
        forget(self.stop)
        if self.process:
            end_process(self.process)


# ---- runs -----------------------------------------------------------------------------------------

MODES = ("plain", "ration", "nobpf", "standalone")


def mode_env(mode, daemon, base=None):
    """The environment of a run."""
    env = dict(base or os.environ)
    for k in [k for k in env if k.startswith("RATION_")]:
        if k not in ("RATION_DEBUG",):
            del env[k]
    if mode == "plain":
        env.pop("RATION_DEBUG", None)
        return env
    env["LD_PRELOAD"] = SHIM
    if daemon:
        env["RATION_SOCKET"] = daemon.socket
    if mode == "standalone":
        env["RATION_STANDALONE"] = "1"
    if mode == "nobpf":
        env["RATION_BPF"] = "0"
    return env


class Result:
    def __init__(self, status, elapsed, out, err):
        self.status, self.elapsed, self.out, self.err = status, elapsed, out, err
        self.stat = self.other = None

    def json(self):
        return json.loads(self.out)


def start(cmd, group=None, env=None, out=subprocess.PIPE, err=subprocess.PIPE, preexec=None, cwd=None):
    def before():
        if group:
            group.enter()
        if preexec:
            preexec()

    p = subprocess.Popen(cmd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True, preexec_fn=before, cwd=cwd)
    _running[:] = [q for q in _running if q.poll() is None] + [p]
    return p


def run(cmd, mode="plain", daemon=None, cpus=None, group=None, env=None, beside=None, timeout=300, cwd=None, settings=None, preexec=None):
    """Runs cmd; `beside`, a second command, runs in the same group and is ended with it.  The result has the group's throttling.

    settings: RATION_* on top of what the mode sets."""
    own = Group(cpus, burst=True) if group is None and cpus else None
    group = group or own
    env = dict(mode_env(mode, daemon, env), **(settings or {}))
    other = None
    try:
        before = group.stat() if group else None
        t0 = time.monotonic()
        p = start(cmd, group, env, cwd=cwd, preexec=preexec)
        if beside:
            other = start(beside, group, env)
        out, err = p.communicate(timeout=timeout)
        elapsed = time.monotonic() - t0
        after = group.stat() if group else None
        r = Result(p.returncode, elapsed, out, err)
        r.other = other.communicate(timeout=timeout)[0] if other else None
        if p.returncode:
            raise RuntimeError(f"{cmd[0]} ({mode}): exit status {p.returncode}: {err.strip()[-500:]}")
        if group:
            r.stat = stat_delta(before, after)
        return r
    finally:
        for q in (other, p if "p" in locals() else None):
            if q and q.poll() is None:
                q.kill()
                q.wait()
        if own:
            own.remove()


# ---- tools ----------------------------------------------------------------------------------------


def median(xs):
    xs = sorted(xs)
    n = len(xs)
    return (xs[n // 2] + xs[(n - 1) // 2]) / 2 if n else 0.0


def medians(runs):
    return {k: median([r[k] for r in runs]) for k in runs[0]}


def figures(text):
    """What a program printed as lines "figure value"."""
    return {k: float(v) for k, v in (line.split() for line in text.splitlines() if len(line.split()) == 2)}


def make_data(path, mb):
    """Text-like data that compresses to about a third, the same on every machine."""
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
    block = b" ".join(rng.choices(words, k=200000))
    with open(path, "wb") as f:
        while f.tell() < mb << 20:
            f.write(block[rng.randrange(1000):])


@functools.lru_cache(None)
def data_file(mb):
    path = os.path.join(temp_dir(), f"data-{mb}")
    make_data(path, mb)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def on_cpus(cpus):
    """For preexec: the program runs on these CPUs only."""
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


def allow_files(n):
    """Raises our limit of open files, which programs inherit, to n if it may be.  The limit that is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < n:
        soft = n if hard == resource.RLIM_INFINITY else min(hard, n)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def need(*programs):
    """Their paths."""
    for p in programs:
        if not find_program(p):
            raise Skip(f"{p} is not installed (tests/deps tests/bench/packages)")
    return [find_program(p) for p in programs]


def build(path):
    """Makes a program that `make progs` leaves out.  What went wrong, or None."""
    p = subprocess.run(["make", "--no-print-directory", f"BUILD={os.path.relpath(BUILD, ROOT)}", os.path.relpath(path, ROOT)], cwd=ROOT,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return p.stderr.strip()[-1500:] if p.returncode else None


CLONE_NEWNET = 0x40000000


def own_network():
    """A network of our own, as root: loopback only, none of the machine's filters, no pacing.  (The kernel always has reno.)

    A descriptor of the former one, for former_network()."""
    former = None
    try:
        former = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
        write_text("/proc/sys/net/ipv4/tcp_congestion_control", "reno")
    except OSError as e:
        print(f"note: the echo is on the machine's own loopback: {e}")
    return former


def former_network(fd):
    if fd is None:
        return
    ctypes.CDLL(None).setns(fd, CLONE_NEWNET)
    os.close(fd)


def find_program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/games")


def request_iters(us=200):
    """Iterations of a request of `us` µs, once for all runs, so that plain and ration do the same work."""
    return int(subprocess.run([MIXED, "--calibrate", "--request-us", str(us)], stdout=subprocess.PIPE, text=True, check=True).stdout)


def mixed_cmd(seconds, iters, *extra):
    """mixed for whole seconds, with its rate of batch work counted over whole periods of a quota."""
    return [MIXED, "--json", "--seconds", str(seconds), "--warmup", "1", "--request-iters", str(iters), *extra]


def debian_python():
    """Debian's own python3 (it has Debian's numpy), not one that is first in PATH."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3"


def sysbench_total(out):
    """Seconds that sysbench says its run took."""
    m = re.search(r"total time:\s+([0-9.]+)s", out)
    if not m:
        raise RuntimeError("sysbench printed no total time")
    return float(m.group(1))
