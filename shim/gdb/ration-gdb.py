# SPDX-License-Identifier: Apache-2.0
"""
gdb knows the threads of a program, and not its Gs.  This script, after Go's runtime-gdb.py, adds

    info gs         all Gs: what they wait for and since when, the function that they run, where they are
    g ID COMMAND    any command of gdb's in the context of a G: `g 7 bt`, `g 7 info locals`
    g all COMMAND   the same for each
    g core [FILE]   generate-core-file, with the stacks of Gs

    $tls("NAME")    in such a command: that G's own copy of a thread-local variable, errno among them

for a live process, a core file, and a remote one.  "*" marks the G of the selected thread.  A number is a light G, or a thread of the program's in
free mode; M4 is a thread that the scheduler runs as one ("wired"; all threads of a program under `ration run`).

How.  A G that runs has a thread: that is selected for the time of the command.  Of a parked G there are the registers that switch_*.S
left below its stack pointer.  An unwinder pretends that such a G is the caller of what the selected thread is in: frame 0 is still the
thread's, frame 1 is where the G goes on (a higher one if the thread is in inlined functions).  A frame filter leaves the thread's out of
backtraces, which so begin with #1.

The thread pointer is a register like others ($fs_base), and right in each frame; but gdb asks libthread_db for thread-local variables, which
asks the kernel: `p errno` in a parked G is that of the thread that it is shown on.  So $tls, which goes by the dynamic thread vector (ELF TLS):
from the address in the first thread's blocks to the same place in the G's.

Rejected: setting the thread's registers for the time of the command, as Go's script does.  It can't be done to a core file, and a
thread that sits in a system call may come back from it with EINTR that nobody can explain.

Core files.  The kernel's are complete.  gcore and generate-core-file give up on a mapping at the first page that they can't read,
and each slab of stacks begins with a guard page; `g core` has them write the file and then fills in the stacks.

Gs are found as core/stack.c finds them: by its list of slabs, with a descriptor at the top of each stack; threads by the list of free/thread.c.  All offsets are those of
the debug information of libration.so.  Needs gdb 12 or newer, with Python.
"""
import bisect
import contextlib
import os
import time

import gdb
import gdb.unwinder

INFO_GS_DOC = "Show all Gs of ration: id, name, state, since when, thread, the function that they run and where they are.\nUsage: info gs"
G_DOC = """Run a command in the context of a G.
Usage: g ID COMMAND
       g all COMMAND
       g core [FILE]

ID is a number that `info gs` shows, or M and a number for a thread.  `g 7 bt` shows where G 7 is, `g all bt` where all of them are.
Frames of a parked G do not begin with number 0, which is the thread's, but with 1 as a rule.
A thread-local variable of a G is $tls("NAME"): `g 7 p $tls("errno")`.
`g core` writes a core file, as generate-core-file does, but one that has the stacks of Gs."""

NO_STACKS = "stacks can't be read.  A core file of gcore has none (`g core FILE` writes one that has them, and so does the kernel)"
PAGE = 4096
M_SYSCALL = 3  # proto/m_slot.h
TID_FIRST = 1 << 27  # free/identity.c: in a core file libthread_db takes each identity for a thread, of which there are no registers

# Where ration_switch leaves what it saves: bytes above g->sp; what it drops from the stack; and the number of pc and sp in gdb.
MACHINES = {
    "i386:x86-64": {
        "saved": {"rip": 56, "rbp": 48, "rbx": 40, "r12": 32, "r13": 24, "r14": 16, "r15": 8},
        "bytes": 64, "pc": "rip", "sp": "rsp", "tp": "fs_base", "dtv": 8, "vectors": {}},
    "aarch64": {
        "saved": {"pc": 88, **{f"x{19 + i}": 8 * i for i in range(12)}},
        "bytes": 176, "pc": "pc", "sp": "sp", "tp": "tpidr", "dtv": 0, "vectors": {f"v{8 + i}": 96 + 8 * i for i in range(8)}},
}


def machine():
    name = gdb.selected_inferior().architecture().name()
    if name not in MACHINES:
        raise gdb.GdbError(f"ration does not run on {name}")
    return MACHINES[name]


def word(memory, at=0, size=8):
    return int.from_bytes(memory[at:at + size], "little")


def read(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


# --- what the debug information says ---


class Record:
    """A struct of the program's at an address, read at once.  Fields are numbers (an array of char: bytes)."""

    def __init__(self, fields, address, memory):
        self.fields, self.address, self.memory = fields, address, memory

    def __getitem__(self, name):
        at, size, is_text = self.fields[name]
        memory = self.memory[at:at + size]
        return memory.split(b"\0")[0] if is_text else word(memory, 0, size)


class Struct:
    """Offsets of the fields of a type.  Reading values by gdb.Value would take seconds for some ten thousand Gs."""

    def __init__(self, kind):
        self.bytes = kind.sizeof
        self.kinds = {f.name: f.type for f in kind.fields()}
        self.fields = {f.name: (f.bitpos // 8, f.type.sizeof, f.type.strip_typedefs().code == gdb.TYPE_CODE_ARRAY) for f in kind.fields()}

    def at(self, address):
        return Record(self.fields, address, read(address, self.bytes))

    def offset(self, name):
        return self.fields[name][0]

    def enumerators(self, name):
        return {f.enumval: f.name for f in self.kinds[name].fields()}


def is_library(path):
    return path is not None and os.path.basename(path).startswith("libration.so")


class Library:
    """libration.so in the selected inferior.  Its symbols are asked of its own file: a program may have a `light` or a `struct g` too."""

    def __init__(self):
        self.objfile = self.find()
        light = self.symbol("light")
        self.light = Struct(light.type)
        self.carrier = Struct(self.light.kinds["carriers"].target())
        self.g = Struct(self.carrier.kinds["g"].target())
        self.m = Struct(self.carrier.kinds["m"].target())
        self.pq = Struct(self.light.kinds["pqs"].target())
        self.sched = Struct(self.symbol("sched").type)
        self.slot = Struct(self.m.kinds["slot"].target())
        threads = self.objfile.lookup_static_symbol("threads")  # not there where free mode is not linked in
        self.thread = Struct(threads.type.target()) if threads else None
        self.identity = Struct(self.thread.kinds["id"]) if threads else None
        self.maker = self.address("maker_identity") if threads else None
        self.status = self.g.enumerators("status")
        self.why = self.g.enumerators("why")
        self.kind = self.g.enumerators("kind")
        self.reasons = self.reason_names()

    @staticmethod
    def find():
        files = [o for o in gdb.objfiles() if o.filename]
        for o in files:
            if is_library(o.filename):
                return o
        for o in files:  # linked into the program, as those of tests/unit
            if o.lookup_static_symbol("slabs") and o.lookup_global_symbol("sched_hooks"):
                return o
        raise gdb.GdbError("no ration in this process: libration.so is not loaded")

    def symbol(self, name):
        found = self.objfile.lookup_global_symbol(name) or self.objfile.lookup_static_symbol(name)
        if not found:
            raise gdb.GdbError(f"no debug information of {self.objfile.filename} (there is no `{name}`): it was stripped, or built without -g.  "
                               "`make install` leaves it in; `ration gs PID` does without it")
        return found

    def address(self, name):
        return int(self.symbol(name).value().address)

    def number(self, name):
        return int(self.symbol(name).value())

    def reason_names(self):
        """As dumps say it: the table of wait_reason_name."""
        function = self.symbol("wait_reason_name")
        for symbol in gdb.block_for_pc(int(function.value().address)) or ():
            if symbol.name == "names":
                names = symbol.value()
                return {v: names[v].string() for v in self.why if self.why[v] != "WAIT_REASONS"}
        return {v: self.why[v][len("WAIT_"):].lower().replace("_", " ") for v in self.why}


# --- Gs ---


class G:
    """One that is alive.  carrier, m: what it has of them, else None.  lent: it is a thread G with a kernel thread of its own."""

    def __init__(self, library, record, carrier=None, m=None):
        self.library, self.record, self.carrier, self.m = library, record, carrier, m
        self.wired = record.address == (m.address + library.m.offset("g0") if m else None)
        self.kind = "wired" if self.wired else {"G_THREAD": "thread"}.get(library.kind.get(record["kind"]), "light")
        self.lent = self.kind == "thread" and m is not None and not m["carrier"]
        # What it does: of one that is lent its kernel thread's G knows that.
        self.does = library.g.at(m.address + library.m.offset("g0")) if self.lent else record

    @property
    def id(self):
        return f"M{self.m['id']}" if self.wired else str(self.record["id"])

    @property
    def name(self):
        return self.record["name"].decode(errors="replace")

    @property
    def has_thread(self):
        return self.wired or self.carrier is not None

    def state(self):
        """As gdump_state says it."""
        status, why = self.library.status.get(self.does["status"], "?"), self.does["why"]
        if self.lent:
            return "wired, " + self.state_of_thread(status, why)
        if status == "G_WAITING" or (self.wired and status == "G_SYSCALL" and why):
            return self.library.reasons.get(why, "?") if why else "finished"
        if status == "G_RUNNABLE" and self.carrier:
            return "runnable, preempted"
        if status == "G_RUNNING" and self.carrier and self.in_call():
            return "syscall"
        return status[len("G_"):].lower()

    def state_of_thread(self, status, why):
        """As wired_state in core/gdump.c."""
        if why and status in ("G_WAITING", "G_SYSCALL"):
            return self.library.reasons.get(why, "?")
        in_call = self.library.slot.at(self.m["slot"])["state"] == M_SYSCALL
        return "syscall" if status == "G_RUNNING" and in_call else status[len("G_"):].lower()

    def in_call(self):
        pq = self.carrier["pq"]
        if pq == 0:  # lost in a call, or its G goes alone
            m = self.library.m.at(self.carrier["m"])
            return not m["slot"] or self.library.slot.at(m["slot"])["state"] == M_SYSCALL
        return self.library.pq.at(pq)["status"] & 0xff == self.library.number("PQ_SYSCALL")

    def since(self, now):
        waits = self.wired or self.lent or self.library.status.get(self.record["status"]) == "G_WAITING"
        return duration(now - self.does["since"]) if waits and 0 < self.does["since"] <= now else ""

    def owns(self, address):
        if self.kind == "thread":
            return 0 <= address - self.record["stack"] < self.record["stack_bytes"]
        return not self.wired and self.record["stack"] <= address < self.record.address

    def title(self):
        return f"G {self.id}" + (f' "{self.name}"' if self.name else "")


def duration(ns):
    """As dumps write it: out.h."""
    if ns >= 60 * 10**9:
        return f"{ns // (60 * 10**9)} minute" + ("s" if ns >= 120 * 10**9 else "")
    return f"{ns / 10**9:.1f} s" if ns >= 10**9 else f"{ns // 10**6} ms"


def chain(first, struct, link):
    """The records of a list."""
    while first:
        record = struct.at(first)
        yield record
        first = record[link]


class Gs:
    """All Gs of the selected inferior, as it stands now."""

    def __init__(self):
        if not gdb.selected_inferior().pid or gdb.selected_thread() is None:
            raise gdb.GdbError("no process: attach to one, or load a core file")
        self.library = Library()
        self.light = self.library.light.at(self.library.address("light"))
        self.carriers = {}  # by the address of the G that they have
        self.unreadable = 0
        for c in chain(self.light["carriers"], self.library.carrier, "all"):
            if c["g"]:
                self.carriers[c["g"]] = c
        self.light_gs = sorted(self.find_light(), key=lambda g: g.record["id"])
        self.wired_gs = sorted(self.find_wired(), key=lambda g: g.m["id"])
        self.all = self.light_gs + self.wired_gs
        self.now = self.clock()
        self.threads = self.find_threads()

    def descriptors(self):
        """Addresses of all descriptors that there ever were, with the lowest byte of their stacks: stack_each."""
        stacks, slab_bytes, colors, color_bytes, slabs, in_last = map(
            self.library.number, ("SLAB_STACKS", "SLAB_BYTES", "COLORS", "COLOR_BYTES", "nslabs", "next_in_slab"))
        size = slab_bytes // stacks
        addresses = read(self.library.address("slabs"), 8 * slabs)
        for s in range(slabs):
            slab = word(addresses, 8 * s)
            for i in range(in_last if s + 1 == slabs else stacks):
                top = slab + (i + 1) * size - i % colors * color_bytes
                yield (top - self.library.g.bytes) & ~63, slab + i * size

    def record(self, address, stack):
        try:
            record = self.library.g.at(address)
        except gdb.MemoryError:
            self.unreadable += 1
            return None
        if not record["stack"]:  # never written to the core file
            self.unreadable += 1
            return None
        if record["stack"] != stack:
            raise gdb.GdbError("this ration-gdb.py is not of this libration.so: there is no G where one has to be")
        return record

    def find_light(self):
        self.stacks = [r for r in (self.record(*where) for where in self.descriptors()) if r]
        self.stacks += self.find_sized()
        for record in self.stacks + list(self.find_threads_of_free()) if self.light["started"] else ():
            if record["id"] and self.library.status.get(record["status"]) != "G_DEAD":
                carrier = self.carriers.get(record.address)
                m = self.library.m.at(carrier["m"]) if carrier and carrier["m"] else None
                yield G(self.library, record, carrier, m)

    def find_threads_of_free(self):
        """The records of free/thread.c's Gs; identities has those of their stacks, which are not of stack.c's, and of threads that nobody has lived in yet (free/maker.c's is for none): glibc lists those too."""
        self.identities = []
        if not self.library.thread:
            return
        try:
            for thread in chain(self.library.number("threads"), self.library.thread, "all"):
                record = self.library.g.at(thread.address + self.library.thread.offset("g"))
                identity = self.library.identity.at(thread.address + self.library.thread.offset("id"))
                if identity["map"]:
                    self.identities.append((record, identity))
                if record["id"]:
                    yield record
            maker = self.library.identity.at(self.library.maker)
            if maker["map"]:
                self.identities.append((None, maker))
        except gdb.MemoryError:
            self.unreadable += 1

    def find_sized(self):
        """Those of other sizes are in a list, which ends where a core file lacks one."""
        try:
            return list(chain(self.library.number("sized_all"), self.library.g, "all"))
        except gdb.MemoryError:
            self.unreadable += 1
            return []

    def find_wired(self):
        """Threads that are no carriers, nor lent to a thread G."""
        lent = {g.m.address for g in self.light_gs if g.lent}
        for m in chain(self.library.sched.at(self.library.address("sched"))["allm"], self.library.m, "next"):
            if not m["carrier"] and m["g"] and m.address not in lent:
                yield G(self.library, self.library.g.at(m["g"]), None, m)

    def clock(self):
        """CLOCK_MONOTONIC.  That of a core's end, or of another machine, is not known: the last time that the scheduler has noted."""
        connection = getattr(gdb.selected_inferior(), "connection", None)
        if connection is not None and connection.type == "native":
            return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return max([self.light["now"]] + [g.record["since"] for g in self.all])

    def find_threads(self):
        """gdb's threads by number of thread, and by the G whose stack they are on (in a container the numbers may be others)."""
        found, before = {}, gdb.selected_thread()
        sp = machine()["sp"]
        running = [g for g in self.all if g.carrier]
        for t in gdb.selected_inferior().threads():
            if t.ptid[1] >= TID_FIRST:
                continue
            found[t.ptid[1] or t.ptid[2]] = t
            if running:
                t.switch()
                at = int(gdb.newest_frame().read_register(sp))
                found.update({g.id: t for g in running if g.owns(at)})
        before.switch()
        return found

    def thread(self, g):
        return self.threads.get(g.id) or (self.threads.get(g.m["tid"]) if g.m else None)

    def get(self, name):
        wanted = name.upper()
        if not name[0] in "mM":
            try:
                wanted = str(int(gdb.parse_and_eval(name)))
            except gdb.error as e:
                raise gdb.GdbError(str(e)) from None
        for g in self.all:
            if g.id == wanted:
                return g
        raise gdb.GdbError(f"no G {wanted}" + (f"; {self.unreadable} {NO_STACKS}" if self.unreadable else ""))


# --- frames of parked Gs ---


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class Parked(gdb.unwinder.Unwinder):
    """While a G is shown, the caller of the selected thread's innermost frame is that G."""

    def __init__(self):
        super().__init__("ration")
        self.forget()

    def show(self, sp, tp):
        """sp: where ration_switch left the registers.  tp: its thread pointer, 0: it uses that of the thread that runs it."""
        at = gdb.newest_frame()
        m = machine()
        self.host = [int(at.read_register(m[r])) for r in ("pc", "sp")]
        self.saved = read(sp, m["bytes"])
        self.sp, self.tp = sp, tp
        gdb.invalidate_cached_frames()
        frame = gdb.newest_frame()
        while frame and frame.level() <= self.level:  # asking for older frames makes gdb ask us
            frame = frame.older()
        if not frame or self.level < 0:
            raise gdb.GdbError("gdb does not find the frames of this G")
        self.first = frame.level()
        return frame

    def hide(self):
        if self.sp:
            self.forget()
            gdb.invalidate_cached_frames()

    def forget(self):
        self.sp, self.tp, self.host, self.saved, self.level, self.first = 0, 0, None, b"", -1, 0

    def __call__(self, pending):
        if not self.sp or (self.level >= 0 and pending.level() > self.level + 1):
            return None
        m = machine_of(pending)
        if [int(pending.read_register(m[r])) for r in ("pc", "sp")] != self.host:
            return None
        self.level = max(self.level, pending.level())

        def value(register, number):
            return gdb.Value(number).cast(pending.read_register(register).type)

        # Its identity lies right below the G: gdb does not believe in a stack that grows the wrong way.
        info = pending.create_unwind_info(FrameId(value(m["sp"], self.sp), value(m["pc"], self.host[0])))
        info.add_saved_register(m["sp"], value(m["sp"], self.sp + m["bytes"]))
        for register, at in m["saved"].items():
            info.add_saved_register(register, value(register, word(self.saved, at)))
        if self.tp and has_register(pending, m["tp"]):
            info.add_saved_register(m["tp"], value(m["tp"], self.tp))
        for register, at in m["vectors"].items():  # the lower half is kept
            info.add_saved_register(register, gdb.Value(self.saved[at:at + 8] + bytes(8), pending.read_register(register).type))
        return info


def machine_of(pending):
    return MACHINES[pending.architecture().name()]


def has_register(frame, name):
    return frame.architecture().registers().find(name) is not None


class WithoutHost:
    """Frame filter: of a G's backtrace, what is the thread's."""

    name, enabled, priority = "ration", True, 1000

    def filter(self, frames):
        return (f for f in frames if f.inferior_frame().level() >= parked.first) if parked.first else frames


@contextlib.contextmanager
def context(gs, g):
    """Selects the innermost frame of g for a while; None if there is none."""
    thread, frame = gdb.selected_thread(), gdb.selected_frame()
    try:
        tls.shown = (gs, g)
        if g.has_thread:
            own = gs.thread(g)
            if own:
                own.switch()
            innermost = gdb.newest_frame() if own else None
        else:
            innermost = parked.show(g.record["sp"], g.record["tp"]) if has_begun(g) else None
        if innermost:
            innermost.select()
        yield innermost
    finally:
        parked.hide()
        tls.shown = None
        if thread.is_valid():
            thread.switch()
            if frame.is_valid():
                frame.select()


def has_begun(g):
    m = machine()
    pc = word(read(g.record["sp"] + m["saved"][m["pc"]], 8))
    return function_at(pc) != "ration_g_entry_"


# --- thread-local variables ---


class ThreadLocal(gdb.Function):
    """Of the G that a command runs in, its copy of a thread-local variable: `g 7 p $tls("errno")`."""

    def __init__(self):
        super().__init__("tls")
        self.shown = None

    def invoke(self, name):
        if not self.shown:
            raise gdb.GdbError('$tls is of a G: `g ID p $tls("NAME")`')
        variable, tp = gdb.lookup_static_symbol(name.string()) or gdb.lookup_global_symbol(name.string()), self.thread_pointer(*self.shown)
        host, host_tp = self.in_first_thread(name.string())
        module, offset = self.place(host, host_tp)
        block = self.vector(tp).get(module)
        if not block:
            raise gdb.GdbError("this G has not used the thread-local variables of that library yet")
        kind = variable.type if variable else gdb.lookup_type("int")
        return gdb.Value(block + offset).cast(kind.pointer()).dereference()

    @staticmethod
    def thread_pointer(gs, g):
        if g.kind == "light":
            raise gdb.GdbError("a light G has no thread-local variables of its own: it uses those of the thread that runs it")
        return g.record["tp"] or int(gdb.newest_frame().read_register(machine()["tp"]))

    @staticmethod
    def in_first_thread(name):
        """Its address there, and that thread's pointer: it never wears another identity."""
        before, frame = gdb.selected_thread(), gdb.selected_frame()
        inferior = gdb.selected_inferior()
        first = min(inferior.threads(), key=lambda t: (t.ptid[1] != inferior.pid, t.num))
        shown, parked.sp = parked.sp, 0
        gdb.invalidate_cached_frames()
        try:
            first.switch()
            gdb.newest_frame().select()
            return int(gdb.parse_and_eval(f"&{name}")), int(gdb.newest_frame().read_register(machine()["tp"]))
        except gdb.error as e:
            raise gdb.GdbError(f"{name}: {e}") from None
        finally:
            before.switch()
            parked.sp = shown
            gdb.invalidate_cached_frames()
            if frame.is_valid():
                frame.select()

    @staticmethod
    def vector(tp):
        """Addresses of the blocks of one thread by number of module."""
        at = word(read(tp + machine()["dtv"], 8))
        size = word(read(at - 16, 8))
        entries = read(at, 16 * (size + 1))
        blocks = {i: word(entries, 16 * i) for i in range(1, size + 1)}
        return {i: b for i, b in blocks.items() if b not in (0, 2**64 - 1)}

    def place(self, address, tp):
        """(module, offset) of an address in the blocks of a thread."""
        below = [(block, i) for i, block in self.vector(tp).items() if block <= address]
        if not below:
            raise gdb.GdbError("not a thread-local variable")
        block, module = max(below)
        return module, address - block


# --- core files ---


def segments(file):
    """(first address, bytes, place in the file) of what an ELF core holds of memory."""
    header = file.read(64)
    file.seek(word(header, 32))  # e_phoff
    for _ in range(word(header, 56, 2)):  # e_phnum
        p = file.read(56)
        if word(p, 0, 4) == 1:  # PT_LOAD
            yield word(p, 16), word(p, 32), word(p, 8)


def used_ranges(gs):
    """(low, high) of what stacks hold that is needed.  A thread's is megabytes: of one that is parked, from its stack pointer on, with its TLS above."""
    for g in gs.stacks:
        yield g["stack"] + PAGE, g["stack"] + g["stack_bytes"]
    for g, identity in gs.identities:
        low, high = identity["map"] + identity["guard"], identity["map"] + identity["bytes"]
        used_at = (g["sp"] if g and g["id"] else identity["top"]) & -PAGE
        yield (used_at if low <= used_at < high and not (g and g.address in gs.carriers) else low), high


def fill_stacks(path, ranges):
    """Writes them to where they belong in a core file, but for pages of zeros, which are holes."""
    with open(path, "r+b") as file:
        parts = sorted(segments(file))
        starts = [p[0] for p in parts]
        for low, high in ranges:
            first, size, at = parts[bisect.bisect(starts, low) - 1]
            if first <= low and high <= first + size:
                write_pages(file, at + low - first, read(low, high - low))


def write_pages(file, at, memory):
    for i in range(0, len(memory), PAGE):
        page = memory[i:i + PAGE]
        if any(page):
            file.seek(at + i)
            file.write(page)


def write_core(path):
    gs = Gs()
    path = path or f"core.{gdb.selected_inferior().pid}"
    gdb.execute(f"generate-core-file {path}", to_string=True)  # it warns of what we see to
    ranges = list(used_ranges(gs))
    fill_stacks(os.path.expanduser(path), ranges)
    gdb.write(f"Saved corefile {path}, with {len(ranges)} stacks\n")


# --- what is shown ---


def function_at(pc):
    if not pc:
        return ""
    block = gdb.current_progspace().block_for_pc(pc)
    while block and not block.function:
        block = block.superblock
    if block:
        return block.function.print_name
    said = gdb.execute(f"info symbol {pc:#x}", to_string=True)
    return hex(pc) if said.startswith("No symbol") else said.split(" in section")[0]


def place_of(frame):
    """The innermost place that is not the library's own, nor its handler of SIGURG: what the reader looks for.  If there is none: the innermost."""
    first = frame
    while frame and (is_library(gdb.solib_name(frame.pc())) or frame.type() == gdb.SIGTRAMP_FRAME):
        frame = frame.older()
    frame = frame or first
    line = frame.find_sal()
    where = frame.name() or hex(frame.pc())
    if line.symtab and line.line:
        return f"{where} at {line.symtab.filename}:{line.line}"
    return f"{where} ({os.path.basename(gdb.solib_name(frame.pc()) or gdb.current_progspace().filename or '?')})"


def place(gs, g):
    try:
        with context(gs, g) as frame:
            if frame:
                return place_of(frame)
            return "its thread is not here" if g.has_thread else "has not begun"
    except gdb.MemoryError as e:
        return f"its stack can't be read: {e}"


def thread_name(gs, g):
    if not g.has_thread:
        return ""
    t = gs.thread(g)
    return " ".join(filter(None, [f"{t.num}" if t else "", f"(LWP {t.ptid[1]})" if t else "", f"M{g.m['id']}" if g.m and not g.wired else ""]))


def row(gs, g):
    mark = "*" if g.has_thread and gs.thread(g) == gdb.selected_thread() else " "
    runs = "" if g.wired else function_at(g.record["fn"])
    return (mark, g.id, g.kind, g.name, g.state(), g.since(gs.now), thread_name(gs, g), runs, place(gs, g))


def table(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]) - 1)]
    for r in rows:
        yield (r[0] + " " + "  ".join(text.ljust(w) for text, w in zip(r[1:], widths[1:] + [0]))).rstrip() + "\n"


class InfoGs(gdb.Command):
    def __init__(self):
        super().__init__("info gs", gdb.COMMAND_STATUS)

    def invoke(self, arg, _from_tty):
        if arg:
            raise gdb.GdbError("info gs takes no argument; for one G: g ID bt")
        gs = Gs()
        if gs.all:
            head = ("", "Id", "Kind", "Name", "State", "Since", "Thread", "Runs", "At")
            for line in table([head] + [row(gs, g) for g in gs.all]):
                gdb.write(line)
        else:
            gdb.write("No Gs.\n")
        if gs.unreadable:
            gdb.write(f"{gs.unreadable} {NO_STACKS}.\n")


def execute(command, from_tty):
    try:
        gdb.execute(command, from_tty)
    except gdb.error as e:  # without this gdb says that Python failed
        raise gdb.GdbError(str(e)) from None


class RunInG(gdb.Command):
    def __init__(self):
        super().__init__("g", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, arg, from_tty):
        self.dont_repeat()
        who, _, command = arg.strip().partition(" ")
        if who == "core":
            write_core(command.strip())
            return
        if not who or not command.strip():
            raise gdb.GdbError("usage: g ID COMMAND, or g all COMMAND; `info gs` lists all Gs")
        gs = Gs()
        if who != "all":
            self.run(gs, gs.get(who), command, from_tty)
            return
        for g in gs.all:
            since = g.since(gs.now)
            gdb.write(f"\n{g.title()} [{g.state()}{', ' + since if since else ''}]:\n")
            try:
                self.run(gs, g, command, from_tty)
            except gdb.GdbError as e:  # the others are still of interest
                gdb.write(f"{e}\n")

    def run(self, gs, g, command, from_tty):
        with context(gs, g) as frame:
            if frame:
                execute(command, from_tty)
            elif g.has_thread:
                raise gdb.GdbError(f"the thread of G {g.id} is not here")
            else:
                raise gdb.GdbError(f"G {g.id} has not begun: it will run {function_at(g.record['fn'])}")


InfoGs.__doc__ = INFO_GS_DOC
RunInG.__doc__ = G_DOC
parked = Parked()
tls = ThreadLocal()
gdb.unwinder.register_unwinder(None, parked, replace=True)
gdb.frame_filters["ration"] = WithoutHost()
gdb.events.cont.connect(lambda _: parked.forget())  # a command that lets the program run
InfoGs()
RunInG()
