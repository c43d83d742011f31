#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Light Gs side by side with Go 1.23: the same work in one run, as ratios ration/Go beside their targets.

  tests/bench/vs_go.sh [--rounds N] [--only NAME]... [--quick] [--json FILE] [--markdown FILE] [--standalone] [--no-peers]
                       [--install-go] [--list] [--verbose]

Each figure comes from many short runs, each a process of its own, Go and ration in turns, the order changing each round: where the
kernel puts threads matters, and so it is not the same for all runs of a side.  Go and ration: medians; ratio: that of the
medians; spread: least and greatest ratio of a round.  Plain threads and Boost.Fiber run in the first rounds only; they have no targets.

Number of Ps: GOMAXPROCS for Go, RATION_MAXPROCS for ration, an affinity for threads.  As root ration has its daemon and BPF, as it has when it is
installed; --standalone, or a user, does without.

Without Go 1.23 (golang-1.23-go) its column and the ratios stay empty, and the head says so; --install-go (root) takes it from Debian's
backports of the mirror that this machine's apt uses, and leaves apt's sources as they are.

Exit status: 0, whatever the figures are; 1 something broke: its line says what; 2 wrong usage, or nothing to run.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import benchlib as b  # noqa: E402

BIN = os.path.join(b.BENCH, "vs_go")
GO = "/usr/lib/go-1.23/bin/go"
GO_PACKAGE = "golang-1.23-go"
CPUS = sorted(os.sched_getaffinity(0))
PEER_ROUNDS = 3


class Row:
    """A figure.  `n`: how often on each side; None: the side does not have this work."""

    def __init__(self, name, what, work, ps, figure, unit, target, go=None, ration=None, threads=None, boost=None):
        self.name, self.what, self.work, self.ps, self.figure, self.unit, self.target = name, what, work, ps, figure, unit, target
        self.n = {"go": go, "ration": ration if ration is not None else go, "threads": threads, "boost": boost,
                  "epoll": go if work == "echo" else None}


def rows():
    for ps in (1, 2):
        yield Row(f"spawn-{ps}", f"spawn, run, join a million, {ps} P", "spawn", ps, "ns", "ns/G", "<= 0.5", 1000000, threads=10000,
                  boost=200000 if ps == 1 else None)
    yield Row("yield", "yield between two Gs, 1 P", "yield", 1, "ns", "ns", "<= 0.35", 2000000, threads=200000, boost=1000000)
    for ps in (1, 2):
        yield Row(f"chan-{ps}", f"unbuffered channel round trip, {ps} P", "chan", ps, "ns", "ns", "<= 0.5", 1000000, threads=50000,
                  boost=500000 if ps == 1 else None)
    for ps in (1, 2):
        yield Row(f"bufchan-{ps}", f"buffered(128) channel, {ps} P", "bufchan", ps, "ns", "ns/item", "<= 0.6", 5000000, threads=500000,
                  boost=2000000 if ps == 1 else None)
    for ps in (1, 2):
        yield Row(f"skynet-{ps}", f"skynet, a million leaves, {ps} P", "skynet", ps, "ns", "ns/leaf", "<= 0.5", 1000000, threads=1000,
                  boost=100000 if ps == 1 else None)
    yield Row("mutex", "mutex, 100 Gs, tiny section, 2 P", "mutex", 2, "ns", "ns", "<= 0.8", 2000000, threads=2000000)
    for conns in (100, 5000):
        threads = conns if conns <= 1000 else None  # more threads than that do not get under way on one CPU
        yield Row(f"echo-{conns}", f"TCP echo, {conns} connections, 1 CPU", "echo", 1, "rps", "req/s", ">= 1.3", conns, threads=threads)
        yield Row(f"echo-{conns}-p99", "  the same, p99", "echo", 1, "p99_ns", "us", "<= 0.8", conns, threads=threads)
    yield Row("handoff", "handoff out of read by syscall(), 0.3 ms in", "handoff", 1, "p50_ns", "us", "<= 0.2", 100)
    yield Row("handoffheld", "handoff out of msgrcv, 0.3 ms in", "handoffheld", 1, "p50_ns", "us", "<= 0.2", 100)
    yield Row("handoff3", "  the same, 3 ms in", "handoff3", 1, "p50_ns", "us", "<= 0.2", 60)
    yield Row("handoffraw", "handoff out of read by an instruction of its own", "handoffraw", 1, "p50_ns", "us", "<= 0.2", 100)
    yield Row("preempt", "preemption of a spinning G, p50", "preempt", 1, "p50_ns", "us", "<= 0.6", 40, threads=40)
    for ps in (1, 2):
        yield Row(f"disk-{ps}", f"64 Gs read pages that are not cached, {ps} P", "disk", ps, "ns", "ns/page", "<= 1", 4096)
        yield Row(f"disk-{ps}-threads", "  the same, threads of the process", "disk", ps, "threads", "threads", "<= 0.7", 4096)
    yield Row("parked", "resident bytes per parked G, a million", "parked", 2, "bytes", "bytes", "<= 1.7", 1000000, threads=5000)


SIDES = ("go", "ration", "threads", "boost", "epoll")
PROGRAMS = {"go": "gobench", "ration": "gbench", "threads": "pbench", "boost": "fbench", "epoll": "pbench"}


class Broken(Exception):
    """A program failed; the text says how."""


# ---- what is here ---------------------------------------------------------------------------------


def install_go():
    """Go from <codename>-backports of Debian's mirror that apt uses.  apt's sources and lists are left as they are."""
    def apt_get(*args):
        p = subprocess.run(["apt-get", "-q", "-y", *args], env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return p.returncode == 0, p.stdout.strip()

    if os.geteuid() != 0:
        return "not root"
    if apt_get("install", "--no-install-recommends", GO_PACKAGE)[0]:
        return None
    ok, out = apt_get("indextargets", "--format", "$(REPO_URI)|$(CODENAME)", "Created-By: Packages", "Origin: Debian", "Component: main")
    found = [line.split("|") for line in out.splitlines() if line.count("|") == 1] if ok else []
    found = [f for f in found if f[1].isalpha()]  # the release itself: no -updates, no -security
    if not found:
        return "apt knows no Debian mirror"
    uri, codename = found[0]
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    with tempfile.TemporaryDirectory(prefix="rationtest-") as d:
        os.chmod(d, 0o755)  # apt reads it as a user of its own
        source, lists = os.path.join(d, "go.list"), os.path.join(d, "lists")
        os.makedirs(os.path.join(lists, "partial"))
        b.write_text(source, f"deb {f'[signed-by={key}] ' if os.path.exists(key) else ''}{uri} {codename}-backports main\n")
        here = ["-o", f"Dir::Etc::SourceList={source}", "-o", f"Dir::State::Lists={lists}"]
        ok, out = apt_get(*here, "update")
        if ok:
            ok, out = apt_get(*here, "install", "--no-install-recommends", "-t", f"{codename}-backports", GO_PACKAGE)
    return None if ok else out[-300:]


class Sides:
    """Which sides can run here, and why the others can't."""

    def __init__(self, args):
        self.why, self.daemon, self.go_version = {}, None, None
        if args.install_go and not os.path.exists(GO):
            why = install_go()
            if why:
                print(f"could not install {GO_PACKAGE}: {why}", file=sys.stderr)
        if not os.path.exists(GO):
            self.why["go"] = f"{GO_PACKAGE} is not installed (as root: tests/bench/vs_go.sh --install-go)"
        else:
            self.go_version = subprocess.run([GO, "version"], stdout=subprocess.PIPE, text=True).stdout.split()[2]
        if args.no_peers:
            self.why.update(dict.fromkeys(("threads", "boost", "epoll"), "--no-peers"))
        elif not os.path.exists("/usr/include/boost/fiber/all.hpp"):
            self.why["boost"] = "libboost-fiber-dev is not installed"
        self.broken = b.build(os.path.join(BIN, "echoload"))
        for side, program in PROGRAMS.items():
            if side not in self.why:
                why = b.build(os.path.join(BIN, program))
                if why:
                    self.why[side] = f"{program} does not build: {why}"
                    self.broken = self.broken or self.why[side]
        self.mode = "no daemon"
        if not args.standalone and os.geteuid() == 0 and os.path.exists(b.RATIOND) and "ration" not in self.why:
            self.daemon, self.mode = b.Daemon(), "daemon and BPF"

    def here(self):
        return [s for s in SIDES if s not in self.why]

    def env(self, side, ps):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RATION_", "GO")) or k == "RATION_DEBUG"}
        if side == "go":
            env["GOMAXPROCS"] = str(ps)
        if side == "ration":
            env["RATION_MAXPROCS"] = str(ps)
            if self.daemon:
                env["RATION_SOCKET"] = self.daemon.socket
            else:
                env["RATION_STANDALONE"] = "1"
        return env


# ---- runs -----------------------------------------------------------------------------------------


def end_of(side, p, err):
    how = f"signal {-p.returncode}" if p.returncode < 0 else f"exit status {p.returncode}"
    return f"{PROGRAMS[side]}: {how}{': ' + err.strip()[-400:] if err.strip() else ''}"


def run_plain(sides, side, row, n):
    """One run of a work that ends by itself."""
    cpus = CPUS[:row.ps] if side in ("threads", "boost") else None
    for attempt in range(3):
        p = b.start([os.path.join(BIN, PROGRAMS[side]), row.work, str(n)], env=sides.env(side, row.ps), preexec=b.on_cpus(cpus))
        try:
            out, err = p.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise Broken(f"{PROGRAMS[side]} {row.work}: did not end within 60 s") from None
        if p.returncode == 0:
            return b.figures(out)
        if p.returncode != 3:  # 3: too few rounds counted, for others were on the CPUs
            break
    raise Broken(end_of(side, p, err))


def run_echo(sides, side, row, conns, seconds):
    """A server on the first CPU, the load on the last."""
    server = b.start([os.path.join(BIN, PROGRAMS[side]), "epoll" if side == "epoll" else "echo"], env=sides.env(side, 1), preexec=b.on_cpus(CPUS[:1]))
    try:
        line = server.stdout.readline().split()
        if len(line) != 2:
            server.wait(5)
            raise Broken(end_of(side, server, server.stderr.read()))
        load = b.start([os.path.join(BIN, "echoload"), str(int(float(line[1]))), str(conns), str(seconds), str(server.pid)], preexec=b.on_cpus(CPUS[-1:]))
        try:
            out, err = load.communicate(timeout=seconds + 30)
        except subprocess.TimeoutExpired:
            load.kill()
            load.communicate()
            raise Broken("echoload: did not end") from None
        if server.poll() is not None:
            raise Broken(end_of(side, server, server.stderr.read()))
        if load.returncode:
            raise Broken(f"{PROGRAMS[side]} echo: {err.strip()}")
        return b.figures(out)
    finally:
        server.kill()
        server.communicate()


def measure(sides, row, args, cache):
    """{side: [figures of each run]}, {side: what broke}.  The rows of one echo share their runs."""
    key = (row.work, row.ps, row.n["go"])
    if key in cache:
        return cache[key]
    got, broken = {}, {}
    # The peers take part in the first rounds; Go and ration change places each round.
    for r in range(args.rounds):
        order = [s for s in ("go", "ration") if s in sides.here()]
        if r % 2:
            order.reverse()
        if r < PEER_ROUNDS:
            order += [s for s in ("threads", "boost", "epoll") if s in sides.here()]
        for side in order:
            n = row.n[side]
            if n is None or side in broken:
                continue
            try:
                if row.work == "echo":
                    f = run_echo(sides, side, row, n, 1.0 if args.quick else 2.0)
                else:
                    f = run_plain(sides, side, row, max(n // 10, 20) if args.quick and row.work != "parked" else n)
                got.setdefault(side, []).append(f)
                if args.verbose:
                    print(f"    {row.name} {side}: {f}", file=sys.stderr, flush=True)
            except Broken as e:
                broken[side] = str(e)
    cache[key] = got, broken
    return cache[key]


# ---- the table ------------------------------------------------------------------------------------


def meets(ratio, target):
    op, limit = target.split()
    return ratio <= float(limit) if op == "<=" else ratio >= float(limit)


def result_of(row, got, broken):
    """The line of the table as a dict, for JSON as well."""
    scale = 1e-3 if row.unit == "us" else 1
    runs = {s: [f[row.figure] * scale for f in fs if row.figure in f] for s, fs in got.items()}
    med = {s: b.median(xs) for s, xs in runs.items() if xs}
    out = {"name": row.name, "work": row.what, "unit": row.unit, "target": row.target, "median": med, "runs": runs, "figures": got,
           "broken": broken,
           "ratio": None, "spread": None, "ok": None}
    if med.get("go") and med.get("ration"):
        each = [y / x for x, y in zip(runs["go"], runs["ration"]) if x]
        out.update(ratio=med["ration"] / med["go"], spread=[min(each), max(each)])
        out["ok"] = meets(out["ratio"], row.target)
    for key in ("busy", "server_busy", "rpcs"):
        if row.figure == "rps":
            out[key] = {s: b.median([f[key] for f in fs]) for s, fs in got.items()}
    return out


def num(x):
    return "-" if x is None else f"{x:.2f}" if abs(x) < 10 else f"{x:.1f}" if abs(x) < 1000 else f"{x:.0f}"


def verdict(r):
    if "ration" in r["broken"] or "go" in r["broken"]:
        return "BROKE"
    return {True: "ok", False: "MISS", None: "-"}[r["ok"]]


def print_head():
    print(f"{'work':<41} {'unit':<7} {'Go':>9} {'ration':>9} {'ratio':>6} {'spread':<13} {'target':<7} {'result':<6} {'threads':>9} {'Boost':>7}")


def print_row(r):
    m = r["median"]
    spread = f"{r['spread'][0]:.2f}..{r['spread'][1]:.2f}" if r["spread"] else "-"
    ratio = f"{r['ratio']:.2f}" if r["ratio"] else "-"
    print(f"{r['work']:<41} {r['unit']:<7} {num(m.get('go')):>9} {num(m.get('ration')):>9} {ratio:>6} {spread:<13} {r['target']:<7} "
          f"{verdict(r):<6} {num(m.get('threads')):>9} {num(m.get('boost')):>7}", flush=True)
    for side, why in r["broken"].items():
        print(f"  broke: {side}: {why}", flush=True)


def notes(r):
    """What bounds an echo: the load generator, and TCP itself."""
    go = r["median"].get("go")
    if "epoll" in r["median"]:
        bare = r["median"]["epoll"]
        yield f"a bare epoll loop in C, without any runtime: {num(bare)} {r['unit']}" + (f", {bare / go:.2f} times Go" if go else "")
    if r.get("rpcs"):
        per = {s: v for s, v in r["rpcs"].items() if s in ("go", "ration", "epoll")}
        yield "requests for each second of the server's CPU: " + ", ".join(f"{v:.0f} ({s})" for s, v in per.items())
    for s, v in r.get("busy", {}).items():
        if v > 0.93:
            yield f"{s}: the load generator used {v:.0%} of its CPU: the server may be able to do more"


def markdown(results):
    lines = ["| work | unit | Go | ration | ratio | target | threads | Boost.Fiber |", "|---|---|---|---|---|---|---|---|"]
    for r in results:
        m = r["median"]
        ratio = "–" if r["ratio"] is None else f"{r['ratio']:.2f}" + ("" if r["ok"] else " (miss)")
        target = r["target"].replace("<=", "≤").replace(">=", "≥")
        cells = [r["work"].strip(), r["unit"], num(m.get("go")), num(m.get("ration")), ratio, target, num(m.get("threads")), num(m.get("boost"))]
        lines.append("| " + " | ".join("–" if c == "-" else c for c in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rounds", type=int, default=7, help="runs of each side (7)")
    ap.add_argument("--only", metavar="NAME", action="append", help="those whose name begins with NAME; may be said again")
    ap.add_argument("--quick", action="store_true", help="a tenth of the work: for trying things out")
    ap.add_argument("--json", metavar="FILE", help="all of it, each run too")
    ap.add_argument("--markdown", metavar="FILE", help="the table as docs/benchmarks.md has it")
    ap.add_argument("--standalone", action="store_true", help="ration without its daemon")
    ap.add_argument("--no-peers", action="store_true", help="only Go and ration")
    ap.add_argument("--install-go", action="store_true", help="install Go 1.23 if it is not here (root)")
    ap.add_argument("--verbose", action="store_true", help="each run, to stderr")
    ap.add_argument("--list", action="store_true")
    args = ap.parse_args()
    picked = [r for r in rows() if not args.only or any(r.name.startswith(x) for x in args.only)]
    if args.list or not picked:
        print("\n".join(f"{r.name:<14} {r.what.strip()}" for r in rows()))
        return 0 if args.list else 2
    if args.rounds < 1:
        ap.error("--rounds: at least 1")

    b.clean_up_at_exit()
    b.allow_files(16384)  # 5,000 connections.  (Go raises its limit itself.)

    sides = Sides(args)
    if os.geteuid() == 0:
        b.own_network()
    bad = bool(sides.broken)
    load = os.getloadavg()[0]
    print(f"{len(CPUS)} CPUs, Linux {os.uname().release}, {sides.go_version or 'no Go'}, ration with {sides.mode}, medians of {args.rounds} runs")
    for side, why in sides.why.items():
        if why != "--no-peers":
            print(f"skipped: {side}: {why}")
    if load > 0.7:
        print(f"note: the load average is {load:.1f}; other programs share these CPUs")
    if not {"go", "ration"} & set(sides.here()):
        return 1 if bad else 2
    print_head()
    results, cache, t0 = [], {}, time.monotonic()
    for row in picked:
        if row.ps > len(CPUS) or (row.work == "echo" and len(CPUS) < 2):
            print(f"{row.what:<41} skipped: {len(CPUS)} CPU")
            continue
        r = result_of(row, *measure(sides, row, args, cache))
        bad = bad or bool(r["broken"])
        results.append(r)
        print_row(r)
    for r in results:
        for note in notes(r):
            print(f"note: {r['name']}: {note}")
    misses = [r["name"] for r in results if r["ok"] is False]
    judged = sum(r["ok"] is not None for r in results)
    print(f"{judged - len(misses)} of {judged} targets met{'; missed: ' + ', '.join(misses) if misses else ''}; {time.monotonic() - t0:.0f} s")
    if args.json:
        doc = {"cpus": len(CPUS), "kernel": os.uname().release, "go": sides.go_version, "mode": sides.mode, "rounds": args.rounds,
               "load": load, "quick": args.quick, "skipped": sides.why, "results": results}
        b.write_text(args.json, json.dumps(doc, indent=1) + "\n")
    if args.markdown:
        b.write_text(args.markdown, markdown(results))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
