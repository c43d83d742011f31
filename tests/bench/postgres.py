# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, a process for each connection, in a quota of 1.0 CPU: short queries, 400 a second on 8 connections, beside 4 connections that scan a table over and over.

The server runs in the quota, pgbench outside of it.  The scans go through files in the page cache, for the table is larger than a quarter of shared_buffers.  What is measured of a short query is
how long after it was due it is answered.  What happens in the first second, in which the server's processes come to be, does not count.
"""
import glob
import os
import pwd
import shutil
import signal
import subprocess
import time

import benchlib as b
import freemode

QUOTA = 1.0
SHORT, A_SECOND, LONG = 8, 400, 4
SCAN = "SELECT count(*) FROM pgbench_accounts WHERE abalance + length(filler) > 0;\n"
SETTINGS = ["fsync=off", "jit=off", "max_parallel_workers_per_gather=0", "autovacuum=off", "listen_addresses=", "shared_buffers=128MB"]


def directory():
    """Of the newest version's programs."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda p: int(p.split("/")[4]))
    if not found:
        raise b.Skip("postgres is not installed")
    return os.path.dirname(found[-1])


def user():
    return pwd.getpwnam("postgres")  # it comes with the package


def as_user(cmd):
    """The server refuses to be root."""
    if os.geteuid() != 0:
        return cmd
    return [b.find_program("setpriv"), f"--reuid={user().pw_uid}", f"--regid={user().pw_gid}", "--clear-groups", *cmd]


class Server:
    def __init__(self, d, env, group=None):
        self.d, self.bin = d, directory()
        self.log = open(os.path.join(d, "log"), "ab")
        options = [x for s in SETTINGS for x in ("-c", s)]
        self.process = b.start(as_user([f"{self.bin}/postgres", "-D", f"{d}/data", "-k", d, *options]), group, env, out=self.log, err=self.log)
        b.on_exit(self.stop)
        end = time.monotonic() + 60
        while subprocess.run([f"{self.bin}/pg_isready", "-q", "-h", d], check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"postgres did not start: {b.read_text(self.log.name)[-500:].strip()}")
            time.sleep(0.1)

    def stop(self):
        b.forget(self.stop)
        b.end_process(self.process, sig=signal.SIGINT, patience=30)
        self.log.close()

    def client(self, program, *args):
        return [f"{self.bin}/{program}", "-h", self.d, "-U", "postgres", *args]

    def does(self, program, *args):
        freemode.finish(self.client(program, *args))


def new_database(cx):
    """The directory of a server that has pgbench's tables."""
    d = b.temp_dir()
    os.chmod(d, 0o755)
    os.mkdir(os.path.join(d, "data"))
    if os.geteuid() == 0:
        for path in (d, os.path.join(d, "data")):
            os.chown(path, user().pw_uid, user().pw_gid)
    freemode.finish(as_user([f"{directory()}/initdb", "-D", f"{d}/data", "-U", "postgres", "-A", "trust", "-N"]))
    server = Server(d, cx.env("plain"))
    server.does("createdb", "bench")
    server.does("pgbench", "-q", "-i", "-s", "5", "bench")
    server.stop()
    return d


def server_env(cx, side, d):
    """The shim is where the server's user can read it, wherever it was built."""
    env = cx.env(side)
    if "LD_PRELOAD" in env:
        env["LD_PRELOAD"] = shutil.copy(env["LD_PRELOAD"], d)
    return env


def lateness(d, since):
    """Of the queries that were answered after `since`: ms."""
    got = []
    for path in glob.glob(os.path.join(d, "late.*")):
        for line in b.read_text(path).splitlines():
            f = line.split()
            if int(f[4]) + int(f[5]) / 1e6 > since:
                got.append(int(f[2]) / 1000)
        os.remove(path)
    return sorted(got)


def once(cx, side, d, seconds):
    b.write_text(os.path.join(d, "scan.sql"), SCAN)
    with b.Group(QUOTA, burst=True) as g:
        server = Server(d, server_env(cx, side, d), g)
        try:
            scans = b.start(server.client("pgbench", "-n", "-f", f"{d}/scan.sql", "-c", str(LONG), "-T", str(int(seconds) + 2), "bench"), env=cx.env("plain"))
            try:
                time.sleep(1)
                before, begin = g.stat(), time.time()
                freemode.finish(server.client("pgbench", "-n", "-S", "-M", "prepared", "-c", str(SHORT), "-R", str(A_SECOND), "-T", str(int(seconds) + 1), "-l",
                                              f"--log-prefix={d}/late", "bench"))
                stat = b.stat_delta(before, g.stat())
                out, _ = scans.communicate(timeout=60)
            finally:
                b.end_process(scans)
        finally:
            server.stop()
    late = lateness(d, begin + 1)
    if not late:
        raise RuntimeError("pgbench had no answers")
    return {"p50": late[len(late) // 2], "p99": late[len(late) * 99 // 100], "scans": freemode.number_after(out, "tps ="), "throttled": stat["nr_throttled"] / max(1, stat["nr_periods"])}


@freemode.bench("postgres", f"PostgreSQL, short queries beside {LONG} that scan a table, quota {QUOTA}")
def bench_postgres(cx):
    if os.geteuid() != 0:
        raise b.Skip("a cgroup with a quota needs root")
    d = new_database(cx)
    plain, ration = map(b.medians, cx.both(lambda side: once(cx, side, d, cx.seconds(8))))
    cx.table.valid = plain["throttled"] >= 0.5
    cx.table.at_most("postgres", "p50 of short queries, ms", plain["p50"], ration["p50"], 0.35)
    cx.table.at_most("postgres", "p99 of short queries, ms", plain["p99"], ration["p99"], 0.35)
    cx.table.at_most("postgres", "throttled periods, fraction", plain["throttled"], ration["throttled"], 0.2)
    cx.table.at_least("postgres", "scans/s", plain["scans"], ration["scans"], 0.85)
