# SPDX-License-Identifier: Apache-2.0
"""For which applications free mode is good: the bench free-apps, and free-apps-NAME for one of them.

Each program plain, locked and free in turns, in a quota of 1.0 and without.  Every ratio is the median of those of the rounds, to plain:
a machine that slows down meanwhile does so for all three.  Targets hold where the program's rule (systemd/apps.d) picks free.

tools     run once with more threads than the quota has CPUs
servers   get load from outside of the quota: a closed loop, so requests/s and the time that each takes
"""
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import benchlib as b
import freemode

QUOTA = 1.0
PYTHON = b.debian_python()


def python(text, *args):
    return [PYTHON, "-c", text, *map(str, args)]


def shell(text, *args):
    return ["sh", "-c", text, "sh", *map(str, args)]


# ---- tools ----------------------------------------------------------------------------------------

HASH = """
import hashlib, queue, sys, threading
items, done, block = queue.Queue(16), queue.SimpleQueue(), bytes(65536)
def work():
    while (i := items.get()) is not None: done.put((i, hashlib.sha256(block + bytes([i % 256])).digest()))
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for i in range(int(sys.argv[1])): items.put(i)
for t in threads: items.put(None)
for t in threads: t.join()
assert done.qsize() == int(sys.argv[1])
"""

PINGPONG = """
import queue, sys, threading
there, back, n = queue.Queue(), queue.Queue(), int(sys.argv[1])
def answer():
    while (i := there.get()) is not None: back.put(i + 1)
t = threading.Thread(target=answer)
t.start()
for i in range(n):
    there.put(i)
    assert back.get() == i + 1
there.put(None)
t.join()
"""

FUTURES = """
import concurrent.futures, hashlib, sys
def work(i): return hashlib.sha256(bytes([i % 256]) * 200000).digest()
with concurrent.futures.ThreadPoolExecutor(8) as pool: assert len(list(pool.map(work, range(int(sys.argv[1]))))) == int(sys.argv[1])
"""

GIT = """
export GIT_CONFIG_NOSYSTEM=1 HOME="$1"
cd "$1" && git init -q r && cd r && git config user.email a@b.invalid && git config user.name a
for round in 1 2 3; do
  for i in $(seq 80); do seq $round $((i * 7)) 20000 >f$i; done
  git add . && git commit -qm $round
done"""


def git_directory():
    d = b.temp_dir()
    subprocess.run(shell(GIT, d), check=True, stdout=subprocess.DEVNULL)
    return os.path.join(d, "r")


# name: (program, command; its work is so that it takes about a second or two)
TOOLS = {
    "pigz": ("pigz", lambda: shell('exec pigz -p 4 -c "$1" >/dev/null', b.data_file(48))),
    "xz": ("xz", lambda: shell('exec xz -T4 -1 --block-size=1MiB -c "$1" >/dev/null', b.data_file(8))),
    "zstd": ("zstd", lambda: shell('exec zstd -q -T4 -9 -B1000000 -c "$1" >/dev/null', b.data_file(48))),
    "pbzip2": ("pbzip2", lambda: shell('exec pbzip2 -p4 -b1 -c "$1" >/dev/null', b.data_file(12))),
    "sort": ("sort", lambda: shell('tr " " "\\n" <"$1" | LC_ALL=C sort --parallel=4 -S 20M >/dev/null', b.data_file(12))),
    "sb-threads": ("sysbench", lambda: ["sysbench", "threads", "--threads=8", "--thread-locks=4", "--thread-yields=200", "--time=0", "--events=1200", "run"]),
    "sb-mutex": ("sysbench", lambda: ["sysbench", "mutex", "--threads=8", "--mutex-num=64", "--mutex-locks=1500000", "--mutex-loops=50", "run"]),
    "sb-cpu": ("sysbench", lambda: ["sysbench", "cpu", "--threads=4", "--time=0", "--events=2000", "run"]),
    "convert": ("/usr/bin/convert", lambda: ["env", "OMP_NUM_THREADS=4", "/usr/bin/convert", "-size", "1000x800", "gradient:red-blue", "-swirl", "90",
                                            "-blur", "0x6", "-emboss", "1", "null:"]),
    "git-gc": ("git", lambda: ["git", "-C", git_directory(), "-c", "pack.threads=4", "repack", "-q", "-a", "-d", "-f", "--window=150"]),
    "git-grep": ("git", lambda: shell('cd "$1"; for i in 1 2 3 4 5 6 7 8; do git grep --threads=4 -c -e "7[0-9]*7" >/dev/null; done', git_directory())),
    "curl": ("curl", lambda: shell("for i in $(seq 40); do curl -s file:///etc/passwd http://$(hostname):1/ >/dev/null; done; :")),
    "py-hash": ("python3", lambda: python(HASH, 8000)),
    "py-pingpong": ("python3", lambda: python(PINGPONG, 4000)),
    "py-futures": ("python3", lambda: python(FUTURES, 5000)),
}


def tool_once(cx, cmd, side, cpus):
    def used():
        r = resource.getrusage(resource.RUSAGE_CHILDREN)
        return r.ru_utime + r.ru_stime

    before = used()
    r = cx.run(cmd, side, cpus=cpus)
    got = {"s": r.elapsed, "cpu": used() - before}
    return dict(got, throttled=r.stat["nr_throttled"] / max(1, r.stat["nr_periods"])) if r.stat else got


# ---- servers --------------------------------------------------------------------------------------

ECHO = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536): self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 512
Server(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""

WRK = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("rps %f\\np50 %f\\np99 %f\\nerrors %d\\n", summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.timeout))
end
"""

BEHIND = """
daemon off; master_process off; pid {d}/behind.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d}; uwsgi_temp_path {d}; scgi_temp_path {d};
  server {{ listen 127.0.0.1:{behind} backlog=512; location / {{ return 200 "hello, hello, hello\\n"; }} }} }}
"""


def apache(mpm, processes):
    """The text of a configuration; its {...} are filled in with those of the other files."""
    return f"""
LoadModule mpm_{mpm}_module /usr/lib/apache2/modules/mod_mpm_{mpm}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ServerRoot {{d}}
ServerName localhost
DefaultRuntimeDir {{d}}
PidFile {{d}}/pid
Listen 127.0.0.1:{{port}}
User www-data
Group www-data
ErrorLog {{d}}/error.log
DocumentRoot {{d}}
MaxKeepAliveRequests 0
{processes}
<Directory {{d}}>
  Require all granted
</Directory>
"""


VCL = 'vcl 4.1; backend b {{ .host = "127.0.0.1"; .port = "{behind}"; }} sub vcl_backend_response {{ set beresp.ttl = 600s; }}'
STUNNEL = "foreground = yes\npid =\nsyslog = no\ndebug = 3\n[web]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{behind}\ncert = {d}/cert\nkey = {d}/key\n"


def wrk(seconds, port, connections, scheme="http"):
    def load(d):
        return ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", f"{d}/wrk.lua", f"{scheme}://127.0.0.1:{port}/index.html"]
    return load, lambda out: b.figures(out[out.index("rps "):])  # what comes before is wrk's own


def memload(seconds, port):
    def figures(out):
        j = json.loads(out)
        return {"rps": j["requests"] / seconds, "p50": j["p50_us"] / 1e3, "p99": j["p99_us"] / 1e3, "errors": j["errors"]}
    return lambda d: [os.path.join(b.BENCH, "memload"), "--port", str(port), "--seconds", str(seconds), "--rate", "0", "--connections", "64", "--json"], figures


def redis_benchmark(seconds, port):
    def figures(out):
        row = [float(x.strip('"')) for x in out.splitlines()[-1].split(",")[1:]]
        return {"rps": row[0], "p50": row[4], "p99": row[6]}
    return lambda d: ["redis-benchmark", "-p", str(port), "-c", "64", "-n", str(int(seconds * 4000)), "-d", "100", "-t", "get", "--csv"], figures


def echoload(seconds, port):
    def figures(out):
        f = b.figures(out)
        return {"rps": f["rps"], "p50": f["p50_ns"] / 1e6, "p99": f["p99_ns"] / 1e6}
    return lambda d: [freemode.ECHOLOAD, str(port), "64", str(seconds)], figures


# name: (programs, the server's command, its files, (seconds, port) -> (the load's command, its figures))
SERVERS = {
    "memcached": (["memcached"], lambda p: ["memcached", "-l", "127.0.0.1", "-p", str(p["port"]), "-U", "0", "-u", "root", "-t", "4"], {}, memload),
    "redis": (["redis-server", "redis-benchmark"],
              lambda p: ["redis-server", "--port", str(p["port"]), "--bind", "127.0.0.1", "--dir", p["d"], "--save", "", "--io-threads", "4",
                         "--io-threads-do-reads", "yes"], {}, redis_benchmark),
    "stunnel": (["stunnel4", "wrk", "nginx"], lambda p: ["stunnel4", f"{p['d']}/conf"], {"conf": STUNNEL},
                lambda s, port: wrk(s, port, 64, "https")),
    "varnish": (["varnishd", "wrk", "nginx"],
                lambda p: ["varnishd", "-F", "-n", f"{p['d']}/work", "-a", f"127.0.0.1:{p['port']}", "-f", f"{p['d']}/conf", "-s", "malloc,64m", "-T", "none",
                           "-j", "none", "-p", "thread_pool_min=50"], {"conf": VCL}, lambda s, port: wrk(s, port, 64)),
    "apache": (["apache2", "wrk"], lambda p: ["apache2", "-f", f"{p['d']}/conf", "-DFOREGROUND"],
               {"conf": apache("worker", "StartServers 2\nMinSpareThreads 16\nMaxSpareThreads 128\nThreadsPerChild 64\nMaxRequestWorkers 128"),
                "index.html": "hello\n"},
               lambda s, port: wrk(s, port, 64)),
    "py-echo": (["python3"], lambda p: python(ECHO, p["port"]), {}, echoload),
}


def until_answers(port, process, seconds=30):
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args[0]} did not start ({process.poll()})")
        time.sleep(0.05)


def sum_of(pids, what):
    """What the processes have or hold together; {} once they are gone."""
    total = {}
    for pid in pids:
        try:
            for k, v in what(pid).items():
                total[k] = total.get(k, 0) + v
        except (OSError, KeyError):
            pass
    return total


def server_once(cx, name, side, cpus, seconds, servers):
    """A life of servers[name], in a group of its own.  What it did in its first second does not count."""
    programs, command, files, load = servers[name]
    p = {"d": b.temp_dir(), "port": b.free_port(), "behind": b.free_port()}
    os.chmod(p["d"], 0o777)
    for file, text in dict(files, **{"wrk.lua": WRK}).items():
        b.write_text(os.path.join(p["d"], file), text if file == "wrk.lua" else text.format(**p))
    behind = server = None
    with b.Group(cpus, burst=True) as g, open(os.path.join(p["d"], "log"), "w") as log:
        try:
            if "nginx" in programs:
                b.write_text(os.path.join(p["d"], "behind"), BEHIND.format(**p))
                behind = b.start([b.find_program("nginx"), "-c", f"{p['d']}/behind"], out=log, err=log)
                until_answers(p["behind"], behind)
            if name == "stunnel":
                for f in ("cert", "key"):
                    shutil.copy(os.path.join(certificate(), f), p["d"])
            cmd = command(p)
            server = b.start([b.find_program(cmd[0]), *cmd[1:]], g, cx.env(side), out=log, err=log)
            until_answers(p["port"], server)
            run_load(load(1, p["port"]), p["d"])
            pids = g.pids()
            before, used = g.stat(), sum_of(pids, lambda pid: {"us": freemode.cpu_us(pid)})["us"]
            figures, most = run_load(load(seconds, p["port"]), p["d"], pids)
            stat, used = b.stat_delta(before, g.stat()), sum_of(pids, lambda pid: {"us": freemode.cpu_us(pid)})["us"] - used
            if server.poll() is not None:
                raise RuntimeError(freemode.ending(server))
        finally:
            for q in filter(None, (server, behind)):
                b.end_process(q, patience=10)
            shutil.rmtree(p["d"], ignore_errors=True)
    if figures.pop("errors", 0):
        raise RuntimeError(f"{name}: requests failed")
    got = {**figures, "us": used / figures["rps"] / most.pop("s"), **most}
    return dict(got, throttled=stat["nr_throttled"] / max(1, stat["nr_periods"])) if cpus else got


def run_load(load, d, pids=()):
    """The load's figures, and the most that the server's processes held meanwhile; with the seconds that it took."""
    command, figures = load
    cmd, most, t0 = command(d), {}, time.monotonic()
    q = b.start([b.find_program(cmd[0]) or cmd[0], *cmd[1:]])
    try:
        while q.poll() is None:
            if time.monotonic() - t0 > 90:
                raise RuntimeError(f"{cmd[0]}: did not end")
            most = {k: max(v, most.get(k, 0)) for k, v in sum_of(pids, freemode.held).items()}
            time.sleep(0.1)
        took = time.monotonic() - t0
        if q.returncode:
            raise RuntimeError(freemode.ending(q))
        return figures(q.stdout.read()), dict(most, s=took)
    finally:
        b.end_process(q, signal.SIGKILL)
        q.communicate()


_certificate = []


def certificate():
    if not _certificate:
        d = b.temp_dir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", f"{d}/key", "-out", f"{d}/cert"],
                       check=True, stderr=subprocess.DEVNULL)
        _certificate.append(d)
    return _certificate[0]


# ---- the benches ----------------------------------------------------------------------------------


def rule_is_free(program):
    env = dict(os.environ, RATION_PROFILES=os.path.join(b.ROOT, "systemd/apps.d"))
    p = subprocess.run([b.RATION, "profile", "--json", program], env=env, stdout=subprocess.PIPE, text=True)
    return p.returncode == 0 and json.loads(p.stdout)["threads"] == "free"


# (text, figure, target where the rule says free: in the quota, without)
FIGURES = (("elapsed, s", "s", "<= 1.03", "<= 1.02"), ("CPU used, s", "cpu", None, None), ("requests/s", "rps", ">= 0.97", ">= 0.98"), ("p50, ms", "p50", None, "<= 1.02"),
           ("p99, ms", "p99", "<= 1.03", None), ("CPU of a request, us", "us", None, None), ("throttled periods", "throttled", None, None), ("memory, MB", "mb", None, None),
           ("kernel threads", "kernel", None, None))


def lines(cx, name, free, cpus, got):
    for text, key, in_quota, without in FIGURES:
        target = free and (in_quota if cpus else without)
        for side in freemode.SIDES[1:]:
            rounds = [(r[key], plain[key]) for r, plain in zip(got[side], got["plain"]) if key in r]
            if not rounds:
                continue
            ratio = b.median([v / plain for v, plain in rounds]) if all(plain for _, plain in rounds) else None
            judged = target and side == "free"
            ok = not judged or ratio is None or (ratio <= float(target[3:]) if target[0] == "<" else ratio >= float(target[3:]))
            cx.table.add(name, f"{side}: {text}, {cpus or 'no quota'}", b.median([p for _, p in rounds]), b.median([v for v, _ in rounds]), ratio,
                         target if judged else "-", ok)


def tool(cx, name):
    program, command = TOOLS[name]
    program, = b.need(program)
    cmd = command()
    for cpus in (QUOTA, None):
        once = lambda side: tool_once(cx, cmd, side, cpus)  # noqa: E731
        lines(cx, f"apps-{name}", rule_is_free(program), cpus, cx.sides(f"free-apps-{name}", once, cx.rounds if cx.quick else max(cx.rounds, 5)))


def server(cx, name):
    programs = b.need(*SERVERS[name][0])
    if name == "py-echo" and b.build(freemode.ECHOLOAD):
        raise b.Skip("echoload could not be built; is liburing-dev there (tests/deps tests/bench/packages)?")
    for cpus in (QUOTA, None):
        once = lambda side: server_once(cx, name, side, cpus, cx.seconds(2), SERVERS)  # noqa: E731
        lines(cx, f"apps-{name}", rule_is_free(programs[0]), cpus, cx.sides(f"free-apps-{name}", once, cx.rounds if cx.quick else max(cx.rounds, 5)))


for _n in TOOLS:
    freemode.bench(f"free-apps-{_n}", f"{_n} in a quota of {QUOTA} and without: plain, locked, free")(lambda cx, n=_n: tool(cx, n))
for _n in SERVERS:
    freemode.bench(f"free-apps-{_n}", f"{_n} in a quota of {QUOTA} and without: plain, locked, free")(lambda cx, n=_n: server(cx, n))
