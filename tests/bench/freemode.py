# SPDX-License-Identifier: Apache-2.0
"""The benches of free mode: an unmodified pthread program on three sides in one run.

plain    as it is
locked   RATION_THREADS=locked: each thread keeps its kernel thread
free     RATION_THREADS=free: threads are Gs

The ratios are to plain; only free has targets.  tests/bench/run runs them.
"""
import os
import re
import signal
import socket
import subprocess
import time

import benchlib as b

SIDES = ("plain", "locked", "free")
CPUS = sorted(os.sched_getaffinity(0))
BENCHES = {}


def bench(name, what):
    def register(fn):
        BENCHES[name] = (what, fn)
        return fn

    return register


def medians_of(got):
    """{side: {figure: median}}; {} for a side that broke."""
    return {side: b.medians(runs) if runs else {} for side, runs in got.items()}


def lines(cx, name, got, *figures):
    """A pair of lines for each (text, figure, target)."""
    med = medians_of(got)
    if not any(med.values()):
        return
    for text, key, target in figures:
        cx.table.sides(name, text, {side: m.get(key) for side, m in med.items()}, target)


KERNEL_STACK_KB = 16  # of a thread, on x86-64 and aarch64


def held(pid):
    """What a process holds now: memory in MB with page tables and kernel stacks, and its kernel threads.

    From /proc/PID/status, which needs no walk over ten thousand mappings, so it does not disturb what is measured."""
    kv = dict(line.split(":", 1) for line in b.read_text(f"/proc/{pid}/status").splitlines())
    threads = int(kv["Threads"])
    kb = int(kv["VmRSS"].split()[0]) + int(kv["VmPTE"].split()[0]) + threads * KERNEL_STACK_KB
    return {"mb": kb / 1024, "kernel": threads}


def watch(pid, until, patience, group=None):
    """The most that process pid held, and group was charged for, until the process `until` ended."""
    most, end = {"mb": 0, "kernel": 0}, time.monotonic() + patience
    while until.poll() is None:
        if time.monotonic() > end:
            raise RuntimeError(f"{until.args[0]}: did not end within {patience:.0f} s")
        try:
            now = held(pid)
            if group and (charged := group.charged()):
                now["charged"] = charged / (1 << 20)
            most = {k: max(most.get(k, 0), now[k]) for k in now}
        except (OSError, KeyError):
            pass  # it has ended: `until` will say so
        time.sleep(0.2)
    return most


def ending(p):
    """How a process of ours ended, and what it said."""
    how = f"signal {-p.returncode}" if p.returncode < 0 else f"exit status {p.returncode}"
    err = p.stderr.read().strip() if p.stderr else ""
    return f"{os.path.basename(p.args[0])}: {how}{': ' + err[-400:] if err else ''}"


# ---- echo -----------------------------------------------------------------------------------------

CONNECTIONS = 5000
ECHOLOAD = os.path.join(b.BENCH, "vs_go", "echoload")


def group_charged():
    """A group that is charged for its memory; None: it can't be made here."""
    try:
        return b.Group(memory=True)
    except b.NoCgroup:
        return None


def echo_once(cx, side, seconds):
    """The server on the first CPU, with one P; the load on the last."""
    group = group_charged()
    server = b.start([os.path.join(b.BENCH, "techo")], group, env=cx.env(side, RATION_MAXPROCS="1"), preexec=b.on_cpus(CPUS[:1]))
    load = None
    try:
        port = server.stdout.readline().split()
        if len(port) != 2:
            server.wait(5)
            raise RuntimeError(ending(server))
        load = b.start([ECHOLOAD, str(int(float(port[1]))), str(CONNECTIONS), str(seconds), str(server.pid)], preexec=b.on_cpus(CPUS[-1:]))
        most = watch(server.pid, load, seconds + 60, group)
        if server.poll() is not None:
            raise RuntimeError(ending(server))
        if load.returncode:
            raise RuntimeError(ending(load))
        f = b.figures(load.stdout.read())
        return {"rps": f["rps"], "p99": f["p99_ns"] / 1e6, "busy": f["busy"], **most}
    finally:
        for p in filter(None, (load, server)):
            b.end_process(p, signal.SIGKILL)
            p.communicate()
        if group:
            group.remove()


@bench("free-echo", f"a TCP echo server with a thread for each of {CONNECTIONS} connections")
def bench_echo(cx):
    if len(CPUS) < 2:
        raise b.Skip("one CPU: there is none for the load")
    if b.allow_files(16384) < CONNECTIONS + 200:
        raise b.Skip(f"{CONNECTIONS} connections are more open files than this user may have (ulimit -Hn)")
    why = b.build(ECHOLOAD)
    if why:
        raise b.Skip(f"echoload could not be built; is liburing-dev there (tests/deps tests/bench/packages)? {why[-300:]}")
    former = b.own_network() if os.geteuid() == 0 else None
    try:
        got = cx.sides("free-echo", lambda side: echo_once(cx, side, cx.seconds(6)))
    finally:
        b.former_network(former)
    lines(cx, "free-echo", got, ("requests/s", "rps", ">= 1.5"), ("p99, ms", "p99", "<= 0.6"), ("memory, MB", "mb", "<= 0.5"),
          ("kernel threads", "kernel", None))
    if all("charged" in run for runs in got.values() for run in runs):  # where a cgroup is charged for memory
        lines(cx, "free-echo", got, ("cgroup's memory, MB", "charged", "<= 0.5"))
    for side, m in medians_of(got).items():
        if m.get("busy", 0) > 0.93:
            print(f"  {side}: the load generator used {m['busy']:.0%} of its CPU: the server may be able to do more")


# ---- parked ---------------------------------------------------------------------------------------

PARKED = 100000


def why_stopped(error):
    return "thread ids were about to run out (kernel.pid_max)" if error < 0 else f"pthread_create: {os.strerror(int(error))}"


@bench("free-parked", f"{PARKED} threads that wait on a condition variable, woken and joined")
def bench_parked(cx):
    n = PARKED // 3 if cx.quick else PARKED
    cmd = [os.path.join(b.BENCH, "parked"), "--threads", str(n), "--rest", "7"]  # idle carriers end after 5 s
    got = cx.sides("free-parked", lambda side: b.figures(cx.run(cmd, side, timeout=180).out))
    med = medians_of(got)
    if not any(med.values()):
        return
    free, plain = med["free"], med["plain"]
    created, resting = free.get("created", 0), free.get("resting")
    cx.table.add("free-parked", "free: threads", plain.get("created"), created, created, f">= {n}", created >= n)
    # On these CPUs there are at most so many Ps.
    cx.table.add("free-parked", "free: kernel threads while they wait", plain.get("resting"), resting, resting, f"<= {len(CPUS) + 4}",
                 resting is not None and resting <= len(CPUS) + 4)
    lines(cx, "free-parked", got, ("kernel threads at first", "kernel", None), ("memory of a thread, bytes", "bytes", None), ("create and wait, ns a thread", "create_ns", None),
          ("wake and join, ns a thread", "end_ns", None))
    seconds = free.get("seconds")
    cx.table.add("free-parked", "free: seconds for all", plain.get("seconds") if plain.get("created") == n else None, seconds, None, "-", True)
    for side, m in med.items():
        if m and m["created"] < n:
            print(f"  {side}: came to {m['created']:.0f} threads: {why_stopped(m['error'])}")


# ---- churn, ping-pong -----------------------------------------------------------------------------


@bench("free-churn", "pthread_create and join of short threads, one at a time and 64 at a time")
def bench_churn(cx):
    for batch in (1, 64):
        cmd = [os.path.join(b.BENCH, "churn"), "--batch", str(batch), "--total", "5000" if cx.quick else "20000"]
        got = cx.sides("free-churn", lambda side, cmd=cmd: b.figures(cx.run(cmd, side).out), max(cx.rounds, 5))
        lines(cx, "free-churn", got, (f"ns a thread, {batch} at a time", "ns", "<= 0.25"))


@bench("free-pingpong", "mutex and condition ping-pong between two threads on one P")
def bench_pingpong(cx):
    cmd = [os.path.join(b.BENCH, "cpingpong"), "--rounds", "20000" if cx.quick else "100000"]

    def once(side):
        one_cpu = b.on_cpus(CPUS[:1]) if side == "plain" else None
        return b.figures(cx.run(cmd, side, settings={"RATION_MAXPROCS": "1"}, preexec=one_cpu).out)

    got = cx.sides("free-pingpong", once, max(cx.rounds, 5))
    lines(cx, "free-pingpong", got, ("ns a round trip, one P", "ns", "<= 0.15"))


# ---- fairness -------------------------------------------------------------------------------------


@bench("free-mixed", "short requests beside 8 batch threads, quota 1.0")
def bench_mixed(cx):
    if os.geteuid() != 0:
        raise b.Skip("a cgroup with a quota needs root")

    def once(side):
        r = cx.run(b.mixed_cmd(cx.seconds(6), cx.iters), side, cpus=1.0)
        j = r.json()
        return {"p99": j["p99_us"] / 1e3, "throttled": r.stat["nr_throttled"] / max(1, r.stat["nr_periods"]), "work": j["batch_rate"]}

    got = cx.sides("free-mixed", once)
    cx.table.valid = not got["plain"] or b.medians(got["plain"])["throttled"] >= 0.5
    lines(cx, "free-mixed", got, ("p99 of requests, ms", "p99", "<= 0.25"), ("throttled periods, fraction", "throttled", "<= 0.1"),
          ("batch work, units/s", "work", ">= 0.95"))


# ---- mariadb --------------------------------------------------------------------------------------

CLIENTS = 256


class MariaDB:
    """A server with a data directory and a socket of its own, without network, started by hand."""

    def __init__(self, dir, env, group=None):
        self.socket, self.log = os.path.join(dir, "s"), os.path.join(dir, "log")
        cmd = [b.find_program("mariadbd"), "--no-defaults", f"--datadir={dir}/data", f"--socket={self.socket}", f"--pid-file={dir}/pid",
               f"--tmpdir={dir}", f"--init-file={dir}/init.sql", "--user=root", "--skip-networking", "--skip-log-bin", "--performance-schema=off",
               f"--max-connections={CLIENTS + 50}", "--thread-handling=one-thread-per-connection", "--innodb-buffer-pool-size=256M",
               "--innodb-flush-log-at-trx-commit=0", "--query-cache-type=0"]
        with open(self.log, "ab") as log:
            self.process = b.start(cmd, group, env, out=log, err=log)
        b.on_exit(self.stop)
        end = time.monotonic() + 60
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                status = self.process.poll()
                self.stop()
                raise RuntimeError(f"mariadbd did not start (status {status}): {self.said()}")
            time.sleep(0.1)

    def said(self):
        return b.read_text(self.log)[-500:].strip()

    def answers(self):
        """It greets whoever connects."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            try:
                s.connect(self.socket)
                return bool(s.recv(1))
            except OSError:
                return False

    def stop(self):
        b.forget(self.stop)
        b.end_process(self.process, patience=60)


def sysbench(db, *more):
    return [b.find_program("sysbench"), "oltp_read_only", "--db-driver=mysql", f"--mysql-socket={db.socket}", "--mysql-user=root",
            "--mysql-db=sbtest", "--tables=1", "--table-size=100000", *more]


def finish(cmd):
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
    if p.returncode:
        raise RuntimeError(f"{os.path.basename(cmd[0])}: exit status {p.returncode}: {p.stdout.strip()[-500:]}")


def new_database(cx):
    """The directory of a server with sysbench's table in it."""
    d = b.temp_dir()
    b.write_text(os.path.join(d, "init.sql"), "CREATE DATABASE IF NOT EXISTS sbtest;\n")
    finish([b.find_program("mariadb-install-db"), "--no-defaults", f"--datadir={d}/data", "--user=root", "--auth-root-authentication-method=normal",
            "--skip-test-db"])
    db = MariaDB(d, cx.env("plain"))
    finish(sysbench(db, "prepare"))
    db.stop()
    return d


def number_after(text, pattern):
    m = re.search(pattern + r"\s*([0-9.]+)", text)
    if not m:
        raise RuntimeError(f"sysbench printed no {pattern}")
    return float(m.group(1))


def cpu_us(pid):
    """What a process has used so far; its ended threads too."""
    f = b.read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) * 1000000 // os.sysconf("SC_CLK_TCK")


def mariadb_once(cx, side, d, seconds):
    """The server in a quota of 1.0, sysbench outside of it.  The first seconds, in which 256 threads come to be, do not count."""
    with b.Group(1.0, burst=True) as g:
        db = MariaDB(d, cx.env(side), g)
        try:
            # sysbench 1.0 knows no warm-up.
            finish(sysbench(db, f"--threads={CLIENTS}", "--time=3", "run"))
            before, used = g.stat(), cpu_us(db.process.pid)
            load = b.start(sysbench(db, f"--threads={CLIENTS}", f"--time={seconds:.0f}", "--percentile=99", "run"), env=cx.env("plain"))
            try:
                most = watch(db.process.pid, load, seconds + 60)
                stat, used = b.stat_delta(before, g.stat()), cpu_us(db.process.pid) - used
                if load.returncode:
                    raise RuntimeError(ending(load))
                out = load.stdout.read()
            finally:
                b.end_process(load)
                load.communicate()
            if db.process.poll() is not None:
                raise RuntimeError(f"mariadbd ended: {db.said()}")
        finally:
            db.stop()
    return {"tps": number_after(out, r"transactions:\s+\d+\s+\("), "p99": number_after(out, "99th percentile:"),
            "us": used / max(1, number_after(out, "transactions:")), "cpus": used / 1e6 / seconds,
            "throttled": stat["nr_throttled"] / max(1, stat["nr_periods"]), **most}


@bench("free-mariadb", f"mariadb, sysbench oltp_read_only with {CLIENTS} connections, quota 1.0")
def bench_mariadb(cx):
    b.need("mariadbd", "mariadb-install-db", "sysbench")
    if os.geteuid() != 0:
        raise b.Skip("a cgroup with a quota needs root")
    d = new_database(cx)
    got = cx.sides("free-mariadb", lambda side: mariadb_once(cx, side, d, cx.seconds(15)))
    cx.table.valid = not got["plain"] or b.medians(got["plain"])["throttled"] >= 0.5
    lines(cx, "free-mariadb", got, ("transactions/s", "tps", ">= 1.1"), ("p99, ms", "p99", "<= 0.7"), ("throttled periods, fraction", "throttled", None),
          ("CPU of a transaction, us", "us", None), ("CPUs used", "cpus", None), ("memory, MB", "mb", None), ("kernel threads", "kernel", None))
