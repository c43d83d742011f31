#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""The gdb script (shim/gdb/ration-gdb.py): a live process and a core file.  Light Gs: the program is `gdebug gdb`; threads of free mode: threads.c."""
import os
import re
import resource
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_common import BUILD, PATIENCE, ROOT, TMP, clean_env, equal, has, main, skip_all

SCRIPT = os.path.join(ROOT, "shim/gdb/ration-gdb.py")
PROG = os.path.join(BUILD, "tests/integration/gdebug")
THREADS = os.path.join(BUILD, "tests/integration/threads")
CORE = os.path.join(TMP, "core")
# name, state, what it runs, where it waits
PARKED = [("main", "chan receive", "main_begin", "waits_to_receive"), ("taker", "chan receive", "receiver", "waits_to_receive"),
          ("giver", "chan send", "sender", "waits_to_send"), ("chooser", "select", "selecter", "waits_in_select"),
          ("sleeper", "sleep", "sleeper", "sleeper"), ("reader", "io", "pipe_reader", "reads_for_ever"),
          ("locked", "chan receive", "locked_receiver", "waits_to_receive"), ("large", "chan receive", "receiver", "waits_to_receive")]
# The same of threads.c, and what they have in their `number`
WAITING = [("waiter", "cond", "waiter", "waits_for_cond", (1, 2, 3)), ("locker", "mutex", "locker", "locker", (10,)),
           ("reader", "io", "reader", "reads_for_ever", (11,)), ("sleeper", "sleep", "sleeper", "sleeper", (12,)), ("joiner", "join", "joiner", "joiner", (13,))]


def gdb(*args, scripts=(SCRIPT,), commands=()):
    """What gdb says to each of the commands."""
    script = [w for s in scripts for w in ("-x", s)]
    marked = [w for i, c in enumerate(commands) for w in ("-ex", f"echo =={i}==\\n", "-ex", c)]
    marked += ["-ex", f"echo =={len(commands)}==\\n"]  # what follows is of its end
    p = subprocess.run(["gdb", "--batch", "-nx", "-iex", "set width 0", "-iex", "set debuginfod enabled off", *args, *script, *marked],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
    said = re.split(r"^==\d+==\n", p.stdout, flags=re.MULTILINE)
    if len(said) != len(commands) + 2:
        raise AssertionError(p.stdout)
    return said[1:-1]


def small_stacks():
    """Of its threads: a core file holds them."""
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.getrlimit(resource.RLIMIT_STACK)[1]))


class Program:
    """gdebug gdb, once its Gs have parked; or another that says when it is ready."""

    def __init__(self, command=(PROG, "gdb"), **env):
        self.command, self.env = command, env

    def __enter__(self):
        env = clean_env(RATION_STANDALONE="1", RATION_MAXPROCS="2", **self.env)
        self.p = subprocess.Popen(self.command, stdout=subprocess.PIPE, env=env, preexec_fn=small_stacks)
        equal(self.p.stdout.readline(), b"ready\n")
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()

    def ask(self, *commands, **kw):
        return gdb("-p", str(self.p.pid), commands=commands, **kw)


def lines_of(table):
    """The lines of `info gs` by name of G (of a thread: by its id), cut into columns."""
    found = {}
    if not re.match(r" +Id +Kind ", table):
        raise AssertionError(table)
    for line in table.splitlines()[1:]:
        columns = re.split(r"\s{2,}", line[2:].strip())
        found.setdefault(columns[0] if columns[1] == "wired" else columns[2], []).append(columns)
    return found


def check_table(table):
    lines = lines_of(table)
    for name, state, runs, at in PARKED:
        (_, kind, _, is_state, since, is_runs, is_at), = lines[name]
        equal((kind, is_state, is_runs), ("light", state, runs), name)
        assert re.fullmatch(r"\d+ ms|\d+\.\d s|\d+ minutes?", since), since
        assert re.fullmatch(at + r" at .*gdebug\.c:\d+", is_at), is_at
    equal(len(lines["spinner"]), 3)
    for spinner in lines["spinner"]:
        assert spinner[3] in ("running", "runnable, preempted"), spinner
        assert re.fullmatch(r"\d+ \(LWP \d+\) M\d+", spinner[4]), spinner
        has(spinner[6], "spins at ")
    plain = [columns for name, columns in lines.items() if name.startswith("M") and "pause" in columns[0][-1]]
    equal(len(plain), 1, f"threads in pause: {table}")
    return lines


def check_stacks(all_bt, lines):
    """Of `g all bt`: where each is, what it runs, and where its stack ends."""
    parts = re.split(r"^G (\S+).*:\n", all_bt, flags=re.MULTILINE)[1:]
    stacks = dict(zip(parts[::2], parts[1::2]))
    for name, _, runs, at in PARKED:
        stack = stacks[lines[name][0][0]]
        for function in (at, runs, "ration_g_entry_"):
            has(stack, f" {function} (")
        assert stack.startswith("#1 ") and "previous frame" not in stack, stack
    for spinner in lines["spinner"]:
        has(stacks[spinner[0]], " spins (")


def gs_of_a_live_process_and_of_its_core_are_shown():
    with Program() as p:
        table, stacks, saved = p.ask("info gs", "g all bt", f"g core {CORE}")
        check_stacks(stacks, check_table(table))
        has(saved, f"Saved corefile {CORE}, with ")
        assert p.p.poll() is None
    table, stacks, missing = gdb(PROG, CORE, commands=["info gs", "g all bt", "g 77 bt"])
    check_stacks(stacks, check_table(table))
    equal(missing, "no G 77\n")
    os.unlink(CORE)


def of_free_mode():
    return Program((THREADS,), RATION_THREADS="free", LD_PRELOAD=os.path.join(BUILD, "libration.so"))


def check_threads(table, all_bt, numbers, errnos):
    """Of `info gs`, and what `g all` says to bt, p $tls("number") and p $tls("errno")."""
    lines = lines_of(table)
    bts, numbers, errnos = ({k: v for k, v in zip(*(iter(re.split(r"^G (\S+).*:\n", said, flags=re.MULTILINE)[1:]),) * 2)} for said in (all_bt, numbers, errnos))
    value = {g: tuple(int(re.search(r" = (\d+)$", of[g], re.MULTILINE)[1]) for of in (numbers, errnos)) for g in numbers if not g.startswith("M")}
    for name, state, runs, at, has_numbers in WAITING:
        equal(sorted(value[columns[0]][0] for columns in lines[name]), list(has_numbers), name)
        for number, kind, _, is_state, since, is_runs, is_at in lines[name]:
            equal((kind, is_state, is_runs), ("thread", state, runs), name)
            assert re.fullmatch(r"\d+ ms|\d+\.\d s|\d+ minutes?", since), since
            assert re.fullmatch(at + r" at .*threads\.c:\d+", is_at), is_at
            assert bts[number].startswith("#1 ") and "previous frame" not in bts[number], bts[number]
            for function in (at, runs, "ration_g_entry_"):
                has(bts[number], f" {function} (")
    for name, at, number in (("spinner", "spins", 14), ("wired", "waits_for_cond", 15)):
        (columns,) = lines[name]
        assert columns[3].startswith("wired, " if name == "wired" else "run"), columns
        assert any(re.fullmatch(r"\d+ \(LWP \d+\) M\d+", c) for c in columns), columns
        equal(value[columns[0]][0], number, name)
        for function in (at, name, "ration_g_entry_"):
            has(bts[columns[0]], f" {function} (")
    for number, errno in value.values():  # what the last call has left in it, where it has
        assert errno in (100 + number, 4, 11, 110), (number, errno)
    equal([columns[0][1] for name, columns in lines.items() if name.startswith("M")], ["wired"])
    return lines


def threads_of_free_mode_are_shown_live_and_in_a_core():
    ask = ("info gs", "g all bt", 'g all p $tls("number")', 'g all p $tls("errno")')
    with of_free_mode() as p:
        *said, saved = p.ask(*ask, f"g core {CORE}")
        check_threads(*said)
        has(saved, f"Saved corefile {CORE}, with ")
        assert p.p.poll() is None
    check_threads(*gdb(THREADS, CORE, commands=ask))
    os.unlink(CORE)


def a_thread_of_free_mode_has_its_own_thread_pointer():
    with of_free_mode() as p:
        lines = lines_of(p.ask("info gs")[0])
        reader, locker = lines["reader"][0][0], lines["locker"][0][0]
        tp = "p/x $fs_base" if os.uname().machine == "x86_64" else "p/x $tpidr"
        one, other, again, before, same, main, after, light = p.ask(
            f"g {reader} {tp}", f"g {locker} {tp}", f"g {reader} {tp}", "bt", f'g {locker} p $tls("number") == 10 && $tls("number") != number',
            'g M1 p $tls("number")', "bt", 'p $tls("number")')
        value = re.compile(r"= (\S+)$", re.MULTILINE)
        equal(value.search(one)[1], value.search(again)[1])
        assert value.search(one)[1] != value.search(other)[1]
        equal((value.search(same)[1], value.search(main)[1], before), ("1", "99", after))
        has(light, "$tls is of a G")
        assert p.p.poll() is None


def any_command_runs_in_a_g_and_leaves_no_trace():
    with Program() as p:
        number = lines_of(p.ask("info gs")[0])["taker"][0][0]
        before, frame, stack, pc, after = p.ask("bt", f"g {number} frame function waits_to_receive", f"g {number} bt -full 2",
                                                f"g {number} info symbol $pc", "bt")
        equal(before, after)
        has(frame, "waits_to_receive (")
        equal([line[:3] for line in stack.splitlines() if line.startswith("#")], ["#1 ", "#2 "])
        has(pc, "light_leave")
        assert p.p.poll() is None


def errors_are_clear():
    with Program() as p:
        said = p.ask("g 77 bt", "g", "g 1", "g nobody bt", "g 1 nosuch", "info gs 1")
        for got, want in zip(said, ("no G 77", "usage: g ID COMMAND", "usage: g ID COMMAND", 'No symbol "nobody" in current context.',
                                    'Undefined command: "nosuch".', "info gs takes no argument")):
            assert got.startswith(want), (got, want)
    nothing, _, without = gdb("/bin/true", commands=["info gs", "starti", "info gs"])
    equal(nothing, "no process: attach to one, or load a core file\n")
    has(without, "no ration in this process: libration.so is not loaded")


def run_with(library):
    """Options for gdb: at main of a program that has this library."""
    return ["-ex", f"set env LD_PRELOAD {library}", "-ex", "set env RATION_STANDALONE 1", "-ex", "break main", "-ex", "run", PROG]


def what_is_missing_in_a_stripped_library_is_said():
    library = os.path.join(TMP, "libration.so")
    subprocess.run(["strip", "-o", library, os.path.join(BUILD, "libration.so")], check=True)
    has(gdb(*run_with(library), commands=["info gs"])[0], "no debug information of ")


def installed_it_loads_itself():
    prefix = os.path.realpath(os.path.join(TMP, "usr"))
    library, auto = os.path.join(prefix, "lib/libration.so"), os.path.join(prefix, "share/gdb/auto-load")
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"BUILD={BUILD}", f"PREFIX={prefix}", "DESTDIR="],
                   check=True, env=env, stdout=subprocess.DEVNULL)
    paths = ["-iex", f"add-auto-load-scripts-directory {auto}", "-iex", f"add-auto-load-safe-path {auto}"]
    table, = gdb(*paths, *run_with(library), scripts=(), commands=["info gs"])
    has(table, "wired")


if not os.path.exists(PROG):
    skip_all("build first: make progs")
if not shutil.which("gdb"):
    skip_all("no gdb")
if "yes" not in gdb(scripts=(), commands=["python print('yes')"])[0]:
    skip_all("gdb has no Python")
with Program() as _p:
    _said = _p.ask("info threads", scripts=())[0]
    if "No threads" in _said or "LWP" not in _said:
        skip_all("ptrace is not allowed here")
main([gs_of_a_live_process_and_of_its_core_are_shown, threads_of_free_mode_are_shown_live_and_in_a_core,
      a_thread_of_free_mode_has_its_own_thread_pointer, any_command_runs_in_a_g_and_leaves_no_trace, errors_are_clear,
      what_is_missing_in_a_stripped_library_is_said, installed_it_loads_itself])
