# SPDX-License-Identifier: Apache-2.0
"""`make demo`: real programs in a real CPU quota, as they are and under ration, in one table and one picture.

  1. starts rationd in the foreground on a private socket
  2. mixed (short requests beside 8 batch threads) plain and under `ration run --cpus`, at 0.5, 1.0 and 1.5 CPUs
  3. pigz and xz in a quota of 1.0; memcached with sysbench as its neighbour in one cgroup of 1.0, load from outside
  4. `ration ps` while the second of them runs
  5. the table before -> after, and build/demo.svg

Leaves nothing behind, also when it is interrupted: programs, daemon, cgroups and temporary files are all its own.
"""
import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import benchlib as b  # noqa: E402

QUOTAS = (0.5, 1.0, 1.5)
HOST_CPUS = len(os.sched_getaffinity(0))


def say(text=""):
    print(text, flush=True)


# ---- watching a run -------------------------------------------------------------------------------


def children(pid):
    try:
        return [int(x) for x in b.read_text(f"/proc/{pid}/task/{pid}/children").split()]
    except OSError:
        return []


def cpu_dir_of(pid):
    """Directory of the cpu cgroup of a process."""
    version, mnt, _ = b.cpu_hierarchy()
    for line in b.read_text(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if (version == 1 and "cpu" in controllers.split(",")) or (version == 2 and controllers == ""):
            return os.path.join(mnt, path.lstrip("/"))
    return None


class Watch(threading.Thread):
    """Looks at a program 50 times a second: its threads, and its cgroup's throttling (the cgroup of `ration run --cpus` is
    gone when the program is, so the last look counts)."""

    def __init__(self, pid, comm, group_dir=None):
        super().__init__(daemon=True)
        self.pid, self.comm, self.group_dir = pid, comm, group_dir
        self.threads, self.first, self.last, self.over = 0, None, None, threading.Event()

    def find(self):
        todo = [self.pid]
        while todo:
            pid = todo.pop()
            try:
                if b.read_text(f"/proc/{pid}/comm").strip() == self.comm:
                    return pid
            except OSError:
                continue
            todo += children(pid)
        return None

    def look(self):
        pid = self.find()
        if pid is None:
            return
        for line in b.read_text(f"/proc/{pid}/status").splitlines():
            if line.startswith("Threads:"):
                self.threads = max(self.threads, int(line.split()[1]))
        d = self.group_dir or cpu_dir_of(pid)
        stat = b.read_stat(os.path.join(d, "cpu.stat"))
        # A process that has just ended seems to be in the root for a moment, where nothing is counted.
        if self.last is None or stat["nr_periods"] >= self.last["nr_periods"]:
            self.last = stat
        self.first = self.first or stat

    def run(self):
        while not self.over.wait(0.02):
            try:
                self.look()
            except OSError:
                pass  # it ended between two reads

    def stop(self):
        self.over.set()
        self.join()
        return b.stat_delta(self.first, self.last) if self.first else {"nr_periods": 0, "nr_throttled": 0, "throttled_us": 0}


def pool_slots(daemon):
    """P counts of the pools that have members now."""
    try:
        return max((r["slots"] for r in daemon.query("pool") if r["processes"]), default=0)
    except (RuntimeError, ValueError, subprocess.SubprocessError):
        return 0


class Side:
    """One side of a line of the table."""

    def __init__(self, stat, threads, ps, p50=None, p99=None, work=None):
        self.stat, self.threads, self.ps, self.p50, self.p99, self.work = stat, threads, ps, p50, p99, work


class Demo:
    def __init__(self, args, daemon, quotas):
        self.daemon, self.quotas, self.quick = daemon, quotas, args.quick
        self.dir = b.temp_dir()
        self.lines = []  # (program, quota, plain Side, ration Side, unit of work)
        self.curves = []  # (title, plain file, ration file)
        self.iters = b.request_iters()

    def plain(self, cmd, cpus, comm):
        """The program as it is, in a cgroup with the quota."""
        with b.Group(cpus, "demo", burst=True) as g:
            p = b.start(cmd, g, b.mode_env("plain", None))
            return self.finish(p, cmd, comm, HOST_CPUS, g.dir)

    def ration(self, cmd, cpus, comm, midway=None):
        """The same by the command that a user types.  `midway` is called while it runs."""
        full = [b.RATION, "run"] + (["--cpus", str(cpus)] if cpus else []) + ["--"] + cmd
        env = dict(b.mode_env("plain", None), RATION_SOCKET=self.daemon.socket)
        return self.finish(b.start(full, None, env), cmd, comm, None, None, midway)

    def finish(self, p, cmd, comm, ps, group_dir, midway=None):
        watch = Watch(p.pid, comm, group_dir)
        watch.start()
        t0 = time.monotonic()
        timer = None
        seen = []
        if ps is None:
            timer = threading.Timer(0.8, lambda: (seen.append(pool_slots(self.daemon)), midway and midway()))
            timer.start()
        out, err = p.communicate()
        took = time.monotonic() - t0
        stat = watch.stop()
        if timer:
            timer.cancel()
            timer.join()
        if p.returncode:
            raise RuntimeError(f"{' '.join(cmd[:2])}: exit status {p.returncode}: {err.strip()[-300:]}")
        return out, took, stat, watch.threads, ps if ps is not None else (seen or [0])[0]

    # ---- the programs ----

    def mixed(self, cpus, show_ps):
        say(f"mixed at {cpus} CPUs ..." if cpus else "mixed without a quota ...")
        seconds = 3 if self.quick else 6
        sides, files = [], []
        for name, how in (("plain", self.plain), ("ration", self.ration)):
            hist = os.path.join(self.dir, f"mixed-{cpus}-{name}")
            cmd = b.mixed_cmd(seconds, self.iters, "--hist", hist)
            more = {"midway": self.show_ps} if show_ps and name == "ration" else {}
            out, _, stat, threads, ps = how(cmd, cpus, "mixed", **more)
            j = json.loads(out)
            sides.append(Side(stat, threads, ps or j["ncpus"], j["p50_us"] / 1e3, j["p99_us"] / 1e3, j["batch_rate"]))
            files.append(hist)
        self.lines.append(("mixed", cpus, *sides, "units/s"))
        self.curves.append((f"mixed, {cpus} CPUs" if cpus else "mixed, no quota", *files))

    def show_ps(self):
        out = subprocess.run([b.RATION, "ps"], env=self.daemon.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        say("\n  $ ration ps\n" + "".join(f"  {line}\n" for line in out.splitlines()))

    def compress(self, name, args, mb, cpus):
        exe = b.find_program(name)
        if not exe:
            say(f"{name}: left out, it is not installed")
            return
        say(f"{name} {' '.join(args)} at {cpus} CPUs ...")
        path = os.path.join(self.dir, "data")
        if not os.path.exists(path):
            b.make_data(path, mb // 3 if self.quick else mb)
        size = os.path.getsize(path) / 1e6
        sides = []
        for how in (self.plain, self.ration):
            cmd = [exe, *args, "-k", "-f", "-S" if name == "pigz" else "--suffix=.out", *([".out"] if name == "pigz" else []), path]
            _, took, stat, threads, ps = how(cmd, cpus, name)
            sides.append(Side(stat, threads, ps, work=size / took))
        self.lines.append((f"{name} {' '.join(args[:1])}", cpus, *sides, "MB/s"))

    def memcached(self, cpus):
        mc, sb = b.find_program("memcached"), b.find_program("sysbench")
        if not mc or not sb:
            say("memcached beside sysbench: left out, one of them is not installed")
            return
        say(f"memcached, with sysbench beside it in the same cgroup, at {cpus} CPUs ...")
        sides, files = [], []
        for mode in ("plain", "ration"):
            hist = os.path.join(self.dir, f"memcached-{mode}")
            sides.append(self.memcached_side(mode, mc, sb, cpus, hist))
            files.append(hist)
        self.lines.append(("memcached + sysbench", cpus, *sides, "events/s"))
        self.curves.append((f"memcached beside sysbench, {cpus} CPUs", *files))

    def memcached_side(self, mode, mc, sb, cpus, hist):
        seconds = 3 if self.quick else 6
        port = b.free_port()
        env = dict(b.mode_env("plain", None), RATION_SOCKET=self.daemon.socket)
        front = [b.RATION, "run", "--"] if mode == "ration" else []
        with b.Group(cpus, "demo", burst=True) as g:
            server = b.start(front + [mc, "-u", "nobody" if os.geteuid() == 0 else str(os.geteuid()), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "4"], g, env,
                             out=subprocess.DEVNULL)
            wait_port(port, server)
            hog = b.start(front + [sb, "cpu", "--threads=8", f"--time={seconds}", "run"], g, env)
            watch = Watch(server.pid, "memcached", g.dir)
            watch.start()
            time.sleep(0.2)
            load = b.start([os.path.join(b.BENCH, "memload"), "--port", str(port), "--seconds", str(seconds - 0.5), "--rate", "2000",
                            "--json", "--hist", hist])
            time.sleep(1)
            ps = pool_slots(self.daemon) if mode == "ration" else HOST_CPUS
            out, err = load.communicate()
            stat = watch.stop()
            hog_out, _ = hog.communicate()
            b.end_process(server)
        if load.returncode:
            raise RuntimeError(f"memcached {mode}: {err.strip()}")
        j = json.loads(out)
        events = next((float(x.split(":")[1]) for x in hog_out.splitlines() if "events per second" in x), 0.0)
        return Side(stat, watch.threads, ps, j["p50_us"] / 1e3, j["p99_us"] / 1e3, events)

    # ---- results ----

    def table(self):
        say(f"\nbefore -> after (the same program in the same quota; this machine has {HOST_CPUS} CPUs)\n")
        head = ("program", "quota", "p50, ms", "p99, ms", "throttled periods", "work", "threads", "Ps")
        rows = [head] + [self.row(*line) for line in self.lines]
        width = [max(len(r[i]) for r in rows) for i in range(len(head))]
        for i, r in enumerate(rows):
            say("  " + "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(r, width))))
            if i == 0:
                say("  " + "  ".join("-" * w for w in width))
        say()

    @staticmethod
    def row(program, cpus, plain, ration, unit):
        def two(x, y, fmt):
            return "-" if x is None else f"{fmt(x)} -> {fmt(y)}"

        def ms(x):
            return f"{x:.2f}" if x < 10 else f"{x:.1f}"

        def throttled(s):
            return f"{s.stat['nr_throttled']}/{s.stat['nr_periods']}"

        def amount(x):
            return f"{x:.0f}" if x >= 100 else f"{x:.1f}"

        return (program, f"{cpus:.1f}" if cpus else "none", two(plain.p50, ration.p50, ms), two(plain.p99, ration.p99, ms),
                f"{throttled(plain)} -> {throttled(ration)}",
                two(plain.work, ration.work, amount) + f" {unit} ({100 * ration.work / plain.work:.0f} %)" if plain.work else "-",
                f"{plain.threads} -> {ration.threads}", f"{plain.ps} -> {ration.ps}")


def wait_port(port, server):
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            raise RuntimeError(f"memcached ended with status {server.returncode}: {server.stderr.read()[-300:]}")
        time.sleep(0.05)
    raise RuntimeError("memcached does not answer")


# ---- the picture ----------------------------------------------------------------------------------


def thin(path, points=160):
    """The curve of a latency file as "x ms" lines: x = 1/(1-quantile), evenly spaced on its logarithm."""
    rows = [line.split() for line in b.read_text(path).splitlines()]
    n = len(rows)
    if not n:
        return ""
    out, last = [], -1
    for k in range(points + 1):
        x = n ** (k / points)  # 1 .. n
        i = min(n - 1, max(0, int(n - n / x)))
        if i != last:
            out.append(f"{n / max(1.0, n - i):.3f} {float(rows[i][0]) / 1e3:.4f}")
        last = i
    return "\n".join(out) + "\n"


PLOT = r"""
set terminal svg size {width},{height} dynamic enhanced font 'Helvetica,13' background '#ffffff'
set output '{svg}'
set multiplot layout {rows},{cols} margins 0.08,0.985,0.06,0.865 spacing 0.075,0.13
set logscale xy
set xrange [1:{xmax}]
set yrange [{ymin}:{ymax}]
set border 3 lc rgb '#888888'
set tics nomirror scale 0.5 textcolor rgb '#333333'
set xtics ('0' 1, '50%%' 2, '90%%' 10, '99%%' 100, '99.9%%' 1000, '99.99%%' 10000)
set ytics ('0.01' 0.01, '0.1 ms' 0.1, '1 ms' 1, '10 ms' 10, '100 ms' 100, '1 s' 1000)
set grid xtics ytics lt 1 lw 0.6 lc rgb '#e4e4e4'
set label 1 'Latency of short requests under a CPU quota, by percentile' at screen 0.5,0.965 center font 'Helvetica,16' textcolor rgb '#111111'
set arrow 1 from screen 0.350,0.925 to screen 0.385,0.925 nohead lw 3 lc rgb '#c0392b'
set label 2 'as it is' at screen 0.392,0.925 left textcolor rgb '#c0392b' font 'Helvetica,14'
set arrow 2 from screen 0.520,0.925 to screen 0.555,0.925 nohead lw 3 lc rgb '#1f6fb2'
set label 3 'under ration' at screen 0.562,0.925 left textcolor rgb '#1f6fb2' font 'Helvetica,14'
unset key
"""
PANEL = r"""
set title '{title}' font 'Helvetica,14' offset 0,-0.6 textcolor rgb '#111111'
set arrow 3 from 100,graph 0 to 100,graph 1 nohead lw 0.8 dt 2 lc rgb '#999999'
set label 4 'p99 {p} ms' at 90,{p} right offset 0,0.6 textcolor rgb '#c0392b' font 'Helvetica,12'
set label 5 'p99 {r} ms' at 115,{r} left offset 0,-0.7 textcolor rgb '#1f6fb2' font 'Helvetica,12'
plot '{plain}' using 1:2 title 'as it is' with lines lw 2.6 lc rgb '#c0392b', '{ration}' using 1:2 title 'under ration' with lines lw 2.6 lc rgb '#1f6fb2'
unset for [i=1:3] label i
unset for [i=1:2] arrow i
"""


def p99_ms(path):
    """As mixed and memload count it: the smallest latency that 99 % of all do not exceed."""
    rows = b.read_text(path).splitlines()
    return float(rows[max(0, -(-len(rows) * 99 // 100) - 1)].split()[0]) / 1e3 if rows else 0.0


def draw(demo, svg):
    if not demo.curves:
        return
    if not shutil.which("gnuplot"):
        say("no picture: gnuplot is not installed (apt-get install gnuplot-nox)")
        return
    cols = 2 if len(demo.curves) > 1 else 1
    rows = (len(demo.curves) + cols - 1) // cols
    panels, low, high, xmax = [], [], [], []
    for i, (title, plain, ration) in enumerate(demo.curves):
        files = []
        for name, path in (("plain", plain), ("ration", ration)):
            curve = thin(path)
            files.append((os.path.join(demo.dir, f"curve-{i}-{name}"), curve))
            b.write_text(files[-1][0], curve)
            ys = [float(line.split()[1]) for line in curve.splitlines()]
            low.append(min(ys))
            high.append(max(ys))
            xmax.append(float(curve.split()[-2]))
        p, r = p99_ms(plain), p99_ms(ration)
        panels.append(PANEL.format(title=title, plain=files[0][0], ration=files[1][0], p=f"{p:.3g}", r=f"{r:.3g}"))
    tmp = os.path.join(demo.dir, "demo.svg")
    script = PLOT.format(svg=tmp, rows=rows, cols=cols, width=480 * cols, height=110 + 270 * rows, xmax=max(xmax) * 1.1,
                         ymin=max(0.05, min(low) * 0.7), ymax=max(high) * 2)
    p = subprocess.run(["gnuplot"], input=script + "\n".join(panels) + "\nunset multiplot\n", text=True, stderr=subprocess.PIPE)
    if p.returncode or not os.path.exists(tmp):
        say(f"no picture: gnuplot: {p.stderr.strip()[-300:]}")
        return
    os.makedirs(os.path.dirname(os.path.abspath(svg)), exist_ok=True)
    shutil.copyfile(tmp, svg)
    say(f"the distribution of the latencies: {os.path.relpath(svg)}")


# ---- main -----------------------------------------------------------------------------------------


def quotas_here():
    """The quotas to show, or none with clear words."""
    try:
        b.Group(1.0, "demo").remove()
        return QUOTAS
    except b.NoCgroup as e:
        say(f"This demo needs a cgroup with a CPU quota, and none can be made here:\n  {e}\n"
            + ("  Run it as root: sudo make demo\n" if os.geteuid() else "  In a container, give it a writable cpu controller (or run it on the host).\n")
            + "Without a quota there is nothing to gain; what follows only shows that the program runs under ration at no cost.\n")
        return ()


def main():
    ap = argparse.ArgumentParser(description="what ration does for real programs under a real CPU quota")
    ap.add_argument("--quick", action="store_true", help="shorter runs, rougher figures")
    ap.add_argument("--svg", default=os.path.join(b.BUILD, "demo.svg"), help="where the picture goes")
    args = ap.parse_args()
    b.clean_up_at_exit()
    for f in (b.SHIM, b.RATIOND, b.RATION, b.MIXED):
        if not os.path.exists(f):
            say(f"{os.path.relpath(f)} is not there: run make first")
            return 2
    t0 = time.monotonic()
    quotas = quotas_here()
    daemon = b.Daemon()
    say(f"rationd --foreground --socket {daemon.socket} runs as process {daemon.process.pid}\n")
    demo = Demo(args, daemon, quotas)
    for cpus in quotas or (None,):
        demo.mixed(cpus, show_ps=cpus in (1.0, None))
    if quotas:
        demo.compress("pigz", ["-p8"], 120, 1.0)
        demo.compress("xz", ["-T0", "-1"], 60, 1.0)
        demo.memcached(1.0)
    demo.table()
    if quotas:
        draw(demo, args.svg)
    say(f"took {time.monotonic() - t0:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError, subprocess.SubprocessError) as e:
        print(f"demo: {e}", file=sys.stderr)
        sys.exit(1)
