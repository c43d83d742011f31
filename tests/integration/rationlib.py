# SPDX-License-Identifier: Apache-2.0
"""What the daemon's tests share: a raw client of the protocol, a rationd of one's own, test cgroups.

The client is written from docs/protocol.md, not from the C headers, so the two check each other.
"""
import array
import ctypes
import fcntl
import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILD", "build")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RATIOND = os.path.join(ROOT, BUILD, "rationd") if not os.path.isabs(BUILD) else os.path.join(BUILD, "rationd")

MAGIC, VERSION = 0x4E544152, 1
(HELLO, REGISTER_M, UNREGISTER_M, QUOTA_QUERY, POOL_QUERY, PS_QUERY, STATS_QUERY, GS_QUERY, PS_MORE_QUERY) = range(1, 10)
(WELCOME, OK, ERROR, QUOTA, POOL, PS, STATS, END, CHANGED, REATTACH, DUMP_GS, PS_MORE) = range(64, 76)
HELLO_RESUME, HELLO_NO_BPF, HELLO_OFF, HELLO_FREE = 1, 2, 4, 8
WELCOME_BPF, WELCOME_RESUMED = 1, 2
F_GATED, F_RETIRED = 1, 2


def rate_of(quota_us, period_us=100000):
    """Millionths of a CPU for a quota: less the margin, 1.5 %, at least 1 ms of each period and slot, at most an eighth for that."""
    micro = quota_us * 1000000 // period_us
    slots = -(-micro // 1000000)
    least = min(1000 * slots * 1000000 // period_us, micro // 8)
    return micro - max(micro * 15 // 1000, least)


HDR = struct.Struct("<IHHII")
FORMATS = {
    HELLO: "<IIII64s",
    REGISTER_M: "<II",
    QUOTA_QUERY: "<II",
    WELCOME: "<IIIIII32s",
    ERROR: "<iI248s",
    QUOTA: "<IIIIQIIQQQQQ256s256s",
    POOL: "<IIIIIIIIqQQQ4III256s",
    PS: "<IIII4IQ5QQ64s256s",
    PS_MORE: "<IIII4IQ5QQ64s256sII13II",
    STATS: "<Q6Q2Q4I200s32s",
}
NAMES = {
    WELCOME: "flags member gen page_size m_slots ring_size version",
    ERROR: "error pad text",
    QUOTA: "pid flags cgroup_version slots cpu_micro duty_ppm cpus_allowed quota_us period_us nr_periods nr_throttled throttled_us domain source",
    POOL: "uid flags nslots nexpress held members waiting rate tokens_us charged_ns cpu_micro strangers_micro rung0 rung1 rung2 rung3 weight id domain",
    PS: "pid uid rung flags gs ms held waiting cpu_ns handoffs retakes preempts wakeups pauses since_ns name domain",
    PS_MORE: "pid uid rung flags gs ms held waiting cpu_ns handoffs retakes preempts wakeups pauses since_ns name domain thread_gs nwired "
             + " ".join(f"wired{i}" for i in range(13)) + " pool",
    STATS: "uptime_ns attaches resumes deaths expropriations malformed refused quota_changes moves clients pools domains bpf bpf_error version",
}

# Offsets in the pool page, as docs/protocol.md has them.
PAGE_FLAGS, PAGE_NSLOTS, PAGE_NEXPRESS, PAGE_NCPUS, PAGE_RATE, PAGE_CREDIT, PAGE_DEBT, PAGE_CHANGE = range(64, 96, 4)
PAGE_OWNER_BEAT, PAGE_NMEMBERS, PAGE_OWNER_BELL, PAGE_OWNER_ASLEEP = 96, 104, 108, 112
PAGE_TAT, PAGE_WAITING, PAGE_SLOTS = 128, 192, 320
PAGE_MEMBERS = PAGE_SLOTS + 256 * 64
MEMBER_SIZE = 128
(M_GEN, M_BELL, M_WANTS, M_EXPRESS, M_NHELD, M_PID, M_RUNG, M_FLAGS) = range(0, 32, 4)
M_CHARGED, M_BEAT, M_NGS, M_NMS, M_NTHREADS, M_WIRED = 32, 40, 48, 52, 96, 100

FUTEX = 98 if os.uname().machine == "aarch64" else 202
CGROUPS = "/sys/fs/cgroup"
CPU = CGROUPS + "/cpu"


def sanitized():
    with open(RATIOND, "rb") as f:
        return b"__asan_init" in f.read()


class Skip(Exception):
    pass


def skip(why):
    raise Skip(why)


def need_root():
    if os.geteuid() != 0:
        skip("needs root")


def need_cpu_groups():
    need_root()
    if not cpu_version():
        skip("no cgroup v1 cpu controller at %s, and no cgroup v2 with one at %s" % (CPU, CGROUPS))


def cpu_version():
    """Of the hierarchy that has the cpu controller; None: there is none where it should be."""
    if os.path.exists(CPU + "/cpu.cfs_quota_us") or os.path.exists(CPU + "/cpu.shares"):
        return 1
    try:
        with open(CGROUPS + "/cgroup.controllers") as f:
            return 2 if "cpu" in f.read().split() else None
    except FileNotFoundError:
        return None


def wait_for(what, condition, seconds=20, every=0.01):
    """Waits until condition() holds.  The bound is only there so that a broken build ends.  `every`: where looking is itself a load."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        r = condition()
        if r:
            return r
        time.sleep(every)
    raise AssertionError("waited in vain until " + what)


class Malformed(Exception):
    pass


class Frame:
    def __init__(self, kind, serial, body, fds):
        self.kind, self.serial, self.fds = kind, serial, fds
        if kind in NAMES:
            for name, value in zip(NAMES[kind].split(), struct.unpack(FORMATS[kind], body)):
                setattr(self, name, value.split(b"\0")[0].decode("utf-8", "replace") if isinstance(value, bytes) else value)

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Page:
    """The pool page, mapped as a member would."""

    def __init__(self, fd):
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.map = mmap.mmap(fd, self.size)

    def u32(self, at, value=None):
        if value is None:
            return struct.unpack_from("<I", self.map, at)[0]
        struct.pack_into("<I", self.map, at, value)

    def u64(self, at, value=None):
        if value is None:
            return struct.unpack_from("<Q", self.map, at)[0]
        struct.pack_into("<Q", self.map, at, value)

    def slot(self, i, word=None):
        return self.u64(PAGE_SLOTS + 64 * i, word)

    def since(self, i, ns):
        self.u64(PAGE_SLOTS + 64 * i + 8, ns)

    def member(self, m, field, value=None):
        return self.u32(PAGE_MEMBERS + MEMBER_SIZE * m + field, value)

    def member64(self, m, field, value=None):
        return self.u64(PAGE_MEMBERS + MEMBER_SIZE * m + field, value)

    def ring_owner(self):
        """What a member does after it took a slot."""
        if self.u32(PAGE_OWNER_ASLEEP):
            self.u32(PAGE_OWNER_ASLEEP, 0)
            self.u32(PAGE_OWNER_BELL, self.u32(PAGE_OWNER_BELL) + 1)
            libc = ctypes.CDLL(None, use_errno=True)
            address = ctypes.addressof(ctypes.c_char.from_buffer(self.map, PAGE_OWNER_BELL))
            libc.syscall(FUTEX, ctypes.c_void_p(address), 1, 1 << 30, None, None, 0)

    def close(self):
        try:
            self.map.close()
        except BufferError:
            pass
        os.close(self.fd)


def lease(member, gen):
    return gen << 32 | (member + 1)


class Client:
    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.serial = 0
        self.unasked = []
        self.page = None

    def send_raw(self, data, fds=()):
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], anc)

    def send(self, kind, body=b"", fds=()):
        self.serial += 1
        self.send_raw(HDR.pack(MAGIC, VERSION, kind, HDR.size + len(body), self.serial) + body, fds)
        return self.serial

    def recv(self):
        """One frame; None at the end of the stream."""
        try:
            data, anc, flags, _ = self.sock.recvmsg(2048, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
        except (ConnectionResetError, BrokenPipeError):
            return None
        fds = array.array("i")
        for level, kind, payload in anc:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % 4])
        if not data:
            return None
        magic, version, kind, length, serial = HDR.unpack_from(data)
        if magic != MAGIC or version != VERSION or length != len(data):
            raise Malformed(data)
        body = data[HDR.size :]
        if kind in FORMATS and len(body) != struct.calcsize(FORMATS[kind]):
            raise Malformed("%d bytes for type %d" % (len(body), kind))
        return Frame(kind, serial, body, list(fds))

    def answer(self, serial):
        while True:
            f = self.recv()
            if f is None or f.serial == serial:
                return f
            self.unasked.append(f.kind)

    def ask(self, kind, body=b"", fds=()):
        return self.answer(self.send(kind, body, fds))

    def ask_all(self, kind):
        serial, frames = self.send(kind), []
        while True:
            f = self.answer(serial)
            if f is None:
                raise AssertionError("the daemon hung up in the middle of an answer")
            if f.kind == END:
                return frames
            frames.append(f)

    def hello(self, flags=HELLO_NO_BPF, member=0, gen=0, name=b"test", page_fd=None, m_slots=64):
        fds = [page_fd] if page_fd is not None else []
        f = self.ask(HELLO, struct.pack(FORMATS[HELLO], flags, m_slots, member, gen, name), fds)
        if f and f.kind == WELCOME:
            self.member, self.gen = f.member, f.gen
            if f.flags & WELCOME_RESUMED:
                self.page = Page(os.dup(page_fd))
            else:
                self.page = Page(f.fds[0])
                f.fds = f.fds[1:]
        return f

    def take(self, slot):
        """Takes a slot as a member would."""
        assert self.page.slot(slot) == 0
        self.page.slot(slot, lease(self.member, self.gen))
        self.page.since(slot, time.monotonic_ns())
        self.page.ring_owner()

    def want(self, n):
        self.page.member(self.member, M_WANTS, n)
        at = PAGE_WAITING + self.member // 64 * 8
        bit = 1 << self.member % 64
        bits = self.page.u64(at)
        self.page.u64(at, bits | bit if n else bits & ~bit)

    def stats(self):
        return self.ask(STATS_QUERY)

    def close(self):
        self.sock.close()
        if self.page:
            self.page.close()
            self.page = None


class Daemon:
    """A rationd of one's own on a private socket."""

    def __init__(self, *args, config=None, bpf=False, start=True):
        self.dir = tempfile.mkdtemp(prefix="rationtest-", dir="/tmp")  # TMPDIR may be closed to other users
        os.chmod(self.dir, 0o755)
        self.path = self.dir + "/rationd.sock"
        self.log = self.dir + "/log"
        self.conf = self.dir + "/rationd.conf"
        with open(self.conf, "w") as f:
            f.write(config or "")
        self.args = [RATIOND, "-f", "-c", self.conf, "-s", self.path, "-l", "debug"] + ([] if bpf else ["-B"]) + list(args)
        self.proc = None
        if start:
            self.start()

    def start(self):
        before = self.text().count(" ready on ")
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(self.args, stdout=log, stderr=log)
        wait_for("rationd is ready", lambda: self.text().count(" ready on ") > before or self.proc.poll() is not None)
        if self.proc.poll() is not None:
            raise AssertionError("rationd did not start:\n" + self.text())

    def text(self):
        try:
            with open(self.log, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def client(self):
        return Client(self.path)

    def kill(self, sig=signal.SIGKILL):
        self.proc.send_signal(sig)
        return self.proc.wait(20)

    def status(self, key):
        with open("/proc/%d/status" % self.proc.pid) as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
        raise KeyError(key)

    def nfds(self):
        return len(os.listdir("/proc/%d/fd" % self.proc.pid))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        alive = self.proc and self.proc.poll() is None
        if alive:
            self.proc.terminate()
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
                if kind is None:
                    raise AssertionError("rationd did not stop on SIGTERM")
        if kind is not None:
            sys.stderr.write("---- log of rationd ----\n" + self.text()[-8000:] + "\n")
        elif alive and self.proc.returncode != 0:
            raise AssertionError("rationd exited with %d:\n%s" % (self.proc.returncode, self.text()))
        shutil.rmtree(self.dir, ignore_errors=True)


class Cgroup:
    """A cgroup with the cpu controller, right below the root, removed at the end; in v1 also one of the same name in cpuacct."""

    def __init__(self, name, quota=None, period=100000, shares=None):
        self.name = "/" + name
        self.version = cpu_version()
        self.dirs = [(CPU if self.version == 1 else CGROUPS) + self.name]
        if self.version == 1 and os.path.isdir("/sys/fs/cgroup/cpuacct") and os.path.realpath("/sys/fs/cgroup/cpuacct") != os.path.realpath(CPU):
            self.dirs.append("/sys/fs/cgroup/cpuacct" + self.name)
        if self.version == 2:
            with open(os.path.dirname(self.dirs[0]) + "/cgroup.subtree_control", "w") as f:
                f.write("+cpu")
        for d in self.dirs:
            os.makedirs(d, exist_ok=True)
        if quota is not None:
            self.set_quota(quota, period)
        if shares is not None:
            self.set_shares(shares)

    def set(self, name, value):
        with open(self.dirs[0] + "/" + name, "w") as f:
            f.write(str(value))

    @property
    def quota_file(self):
        """What a number alone, written into it, makes the quota."""
        return self.dirs[0] + ("/cpu.cfs_quota_us" if self.version == 1 else "/cpu.max")

    def set_quota(self, quota, period=None):
        """A quota of None is no quota; a period of None stays."""
        if self.version == 1:
            if period is not None:
                self.set("cpu.cfs_period_us", period)
            self.set("cpu.cfs_quota_us", -1 if quota is None else quota)
        else:
            self.set("cpu.max", " ".join(["max" if quota is None else str(quota)] + ([str(period)] if period is not None else [])))

    def set_shares(self, shares):
        """In v1's unit: 1024 is what a cgroup has by itself."""
        if self.version == 1:
            self.set("cpu.shares", shares)
        else:
            self.set("cpu.weight", shares * 100 // 1024)

    def counts_cpu_time(self):
        return self.version == 2 or len(self.dirs) > 1 or os.path.exists(self.dirs[0] + "/cpuacct.usage")

    def enter(self, pid=0):
        for d in self.dirs:
            with open(d + "/cgroup.procs", "w") as f:
                f.write(str(pid or os.getpid()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for d in self.dirs:
            for _i in range(200):
                try:
                    os.rmdir(d)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
            else:
                print(f"# {d} is left: somebody is still in it", flush=True)


class Actor:
    """A process that does what it is told, in a cgroup, as a uid: the other end of a test."""

    def __init__(self, body, cgroup=None, uid=None):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                self.sock.close()
                if cgroup:
                    cgroup.enter()
                if uid is not None:
                    os.setgid(uid)
                    os.setuid(uid)
                body(theirs)
                status = 0
            except BaseException:  # the child must never return into the parent's code
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        theirs.close()
        self.sock.settimeout(30)
        self.file = self.sock.makefile("rw")

    def line(self):
        s = self.file.readline()
        if not s:
            raise AssertionError("the actor ended early")
        return s.strip()

    def tell(self, s):
        self.file.write(s + "\n")
        self.file.flush()

    def signal(self, sig):
        os.kill(self.pid, sig)

    def wait(self):
        if self.pid:
            _, status = os.waitpid(self.pid, 0)
            self.pid = 0
            return status
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.wait()


def run(tests):
    """Runs test functions one after the other, as TAP; exit status 1 if one failed.  Names on the command line pick some."""
    import traceback

    failed = 0
    wanted = sys.argv[1:]
    for t in tests:
        if wanted and t.__name__ not in wanted:
            continue
        try:
            t()
            print("ok - " + t.__name__, flush=True)
        except Skip as why:
            print("ok - %s # SKIP %s" % (t.__name__, why), flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print("not ok - " + t.__name__, flush=True)
    sys.exit(1 if failed else 0)
