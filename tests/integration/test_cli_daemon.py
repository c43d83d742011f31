#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
"""ration ps, pool and stats: with no daemon, with daemons that answer anything at all, and with the real one."""
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_common import BUILD, RATION, TMP, Skip, clean_env, equal, has, main, ration, until

QUERIES = ("ps", "pool", "stats")
MAGIC, VERSION = 0x4e544152, 1
ERROR, POOL, PS, STATS, END, CHANGED, PS_MORE = 66, 68, 69, 70, 71, 72, 75
POOL_QUERY, PS_QUERY, PS_MORE_QUERY = 5, 6, 9
EOPNOTSUPP = 95


def frame(kind, body=b"", serial=1, version=VERSION, magic=MAGIC, length=None):
    return struct.pack("<IHHII", magic, version, kind, 16 + len(body) if length is None else length, serial) + body


def old_ps_row(name=b"prog", domain=b"/d", pid=7, flags=1, uid=65533, rung=3):
    return struct.pack("<8I7Q64s256s", pid, uid, rung, flags, 4, 5, 1, 2, 1500000000, 12345, 2, 3, 4, 5, 61 * 10**9, name, domain)


def ps_row(thread_gs=0, wired=(0,) * 7, nwired=None, pool=0, **kw):
    wired = list(wired) + [0] * (13 - len(wired))
    return old_ps_row(**kw) + struct.pack("<16I", thread_gs, 7 if nwired is None else nwired, *wired, pool)


def pool_row(domain=b"/d", rate=490000, tokens=-1500, number=0):
    return struct.pack("<8IqQQQ4III256s", 0, 1, 1, 1, 1, 3, 2, rate, tokens, 10**9, 500000, 250000, 0, 0, 1, 2, 100, number, domain)


def error_body(number, text):
    return struct.pack("<iI248s", number, 0, text)


class Fake:
    """A daemon that answers each connection with the given packets, then hangs up; hang=True: says nothing more."""

    def __init__(self, packets, hang=False, kind=socket.SOCK_SEQPACKET, accept=True):
        self.path = os.path.join(TMP, "fake.sock")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.sock = socket.socket(socket.AF_UNIX, kind)
        self.sock.bind(self.path)
        self.sock.listen(8 if accept else 0)
        self.packets, self.hang, self.kept = packets, hang, []
        if accept:
            threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            while True:
                c, _ = self.sock.accept()
                for p in self.answer(c.recv(4096)):
                    c.send(p)
                if self.hang:
                    self.kept.append(c)
                else:
                    c.close()
        except OSError:
            pass

    def answer(self, question):
        return self.packets

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for c in self.kept:
            c.close()


def type_of(question):
    return struct.unpack_from("<IHH", question)[2]


class Asked(Fake):
    """One that answers by the question: packets of each type of query."""

    def answer(self, question):
        return self.packets[type_of(question)]


class OlderAsked(Fake):
    """Both."""

    def answer(self, question):
        return Asked.answer(self, question) if type_of(question) != PS_MORE_QUERY else Older.answer(self, question)


class Older(Fake):
    """One that does not know PS_MORE_QUERY, and does as rationd does with such."""

    def answer(self, question):
        if type_of(question) != PS_MORE_QUERY:
            return self.packets
        return [frame(ERROR, error_body(EOPNOTSUPP, b"unknown type (this is rationd 0.0.9, protocol 1)"), serial=0)]


def ask(what, fake, *args):
    return ration(what, *args, env={"RATION_SOCKET": fake.path})


def no_daemon_says_how_to_start_it():
    for what in QUERIES:
        p = ration(what, env={"RATION_SOCKET": "/nowhere/x.sock"})
        equal((p.returncode, p.stdout), (1, ""))
        has(p.stderr, "rationd is not running (/nowhere/x.sock: No such file")
        has(p.stderr, "rationd --foreground --socket /nowhere/x.sock")
    if not os.path.exists("/run/ration/rationd.sock"):
        has(ration("ps").stderr, "systemctl start rationd")
    dead = os.path.join(TMP, "dead.sock")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(dead)
    s.close()
    p = ration("ps", "--socket", dead)
    equal(p.returncode, 1)
    has(p.stderr, "is not running")
    has(ration("ps", "-s", "/" + "x" * 200).stderr, "longer than")


def no_permission_is_said():
    if os.getuid() != 0:
        raise Skip("not root")
    os.chmod(TMP, 0o755)
    with Fake([]) as f:
        os.chmod(f.path, 0o600)

        def nobody():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            p = subprocess.run([RATION, "ps"], env=clean_env(RATION_SOCKET=f.path), preexec_fn=nobody, capture_output=True, text=True)
        except PermissionError:
            raise Skip("nobody cannot reach the build directory") from None
        equal(p.returncode, 1)
        has(p.stderr, "no permission")


def garbage_is_called_garbage():
    good = frame(PS_MORE, ps_row())
    for packets in ([b"x"], [b"HTTP/1.1 400 Bad Request\r\n\r\n"], [frame(PS_MORE, ps_row(), magic=1)], [good[:-1]], [good + b"x"],
                    [frame(PS_MORE, ps_row(name=b"n" * 64))], [frame(999)], [frame(PS_MORE, ps_row(), serial=2)], [frame(STATS, bytes(120))],
                    [bytes(4000)], [frame(END, length=17)], [good, b"\xff" * 16]):
        with Fake(packets) as f:
            p = ask("ps", f)
            equal((p.returncode, p.stdout), (1, ""), packets[0][:24])
            has(p.stderr, "not ration's protocol")
            equal(p.stderr.count("\n"), 1)


def another_version_is_named():
    with Fake([frame(END, version=9)]) as f:
        for what in QUERIES:
            p = ask(what, f)
            equal(p.returncode, 1)
            has(p.stderr, "rationd is of another version: it speaks protocol 9, this ration 1")


def refusal_is_passed_on():
    with Fake([frame(ERROR, error_body(1, b"only root\x1b[2J"))]) as f:
        p = ask("pool", f)
        equal(p.returncode, 1)
        has(p.stderr, "does not permit it: only root?[2J")


def early_hang_up_is_an_error():
    for packets in ([], [frame(PS_MORE, ps_row())]):
        with Fake(packets) as f:
            p = ask("ps", f)
            equal((p.returncode, p.stdout), (1, ""))
            has(p.stderr, "hung up")


def a_daemon_that_hangs_is_given_up():
    for packets in ([], [frame(PS_MORE, ps_row())]):
        with Fake(packets, hang=True) as f:
            p = ask("ps", f)
            equal((p.returncode, p.stdout), (1, ""))
            has(p.stderr, "does not answer")
    with Fake([], accept=False) as f:
        full = []
        for _ in range(3):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.setblocking(False)
            try:
                s.connect(f.path)
            except BlockingIOError:
                pass
            full.append(s)
        p = ask("ps", f)
        equal(p.returncode, 1)
        has(p.stderr, "takes no connection")


def another_kind_of_socket_is_noticed():
    with Fake([], kind=socket.SOCK_STREAM) as f:
        has(ask("ps", f).stderr, "not rationd's")


def empty_lists_say_so():
    with Fake([frame(END)]) as f:
        has(ask("ps", f).stdout, "No process is attached")
        has(ask("pool", f).stdout, "There is no pool")
        equal(ask("ps", f, "--json").stdout, "[]\n")
        equal(ask("pool", f, "--json").stdout, "[]\n")


def tables_are_aligned_and_harmless():
    rows = [frame(PS_MORE, ps_row()), frame(CHANGED, serial=0), frame(PS_MORE, ps_row(name="größer ".encode() + b"\x1b[31m\xff\n", pid=123456)), frame(END)]
    with Fake(rows) as f:
        p = ask("ps", f)
        equal(p.returncode, 0, p.stderr)
        lines = p.stdout.splitlines()
        equal(len(lines), 3)
        equal(len({line.rindex("/d") for line in lines[1:]}), 1, lines)
        equal(lines[0].index("DOMAIN"), lines[1].rindex("/d"))
        has(lines[2], "größer ?[31m??")
        for word in ("bpf", "locked", "1.50 s", "12.3k", "1m01s", "65533"):
            has(lines[1], word)
        j = json.loads(ask("ps", f, "--json").stdout)
        equal((j[0]["name"], j[0]["cpu_ns"], j[0]["rung"], j[0]["gs"], j[1]["pid"]), ("prog", 1500000000, "bpf", 4, 123456))


def pool_shows_the_rungs():
    rows = {POOL_QUERY: [frame(POOL, pool_row()), frame(POOL, pool_row(rate=0, tokens=2**62)), frame(END)],
            PS_QUERY: [frame(PS, old_ps_row(uid=u, pid=71 + i, rung=r, name=n))
                       for i, (u, r, n) in enumerate([(0, 3, b"prog"), (0, 2, b"other"), (4, 3, b"prog")])] + [frame(END)]}
    with OlderAsked(rows) as f:
        p = ask("pool", f)
        equal(p.returncode, 0, p.stderr)
        lines = p.stdout.splitlines()
        for word in ("bpf 2, polling 1", "1+1", "0.49", "-1.50 ms", "0.25", "root"):
            has(lines[1], word)
        j = json.loads(ask("pool", f, "--json").stdout)
        equal(j[0]["rungs"], {"standalone": 0, "polling": 1, "bpf": 2})
        equal((j[0]["cpus"], j[0]["tokens_us"], j[0]["strangers_cpus"]), (0.5, -1500, 0.25))
        equal((j[1]["rate"], j[1]["tokens_us"]), (None, None))
        equal(j[0]["members"], [{"pid": 71, "name": "prog", "rung": "bpf"}, {"pid": 72, "name": "other", "rung": "polling"}])
        each = [line.split()[:4] for line in lines[lines.index("") + 1:]]
        equal([e[:2] + e[3:] for e in each], [["PID", "RUNG", "NAME"], ["71", "bpf", "prog"], ["72", "polling", "other"], ["73", "bpf", "prog"]])


def processes_are_told_with_the_pool_that_they_are_in():
    """Two pools of one domain and user: of processes that may run on more or fewer CPUs."""
    rows = {POOL_QUERY: [frame(POOL, pool_row(number=n)) for n in (4, 5)] + [frame(END)],
            PS_MORE_QUERY: [frame(PS_MORE, ps_row(uid=0, pid=70 + n, pool=n)) for n in (5, 4, 6, 5)] + [frame(END)]}
    with Asked(rows) as f:
        j = json.loads(ask("pool", f, "--json").stdout)
        equal([(p["id"], [m["pid"] for m in p["members"]]) for p in j], [(4, [74]), (5, [75, 75])])


def the_mode_is_told():
    wired = (3, 0, 1, 0, 2)
    rows = [frame(PS_MORE, ps_row(flags=f, pid=10 + f, name=b"p%d" % f, thread_gs=1234, wired=wired)) for f in (0, 1, 2, 4, 5, 6)] + [frame(END)]
    with Fake(rows) as f:
        p = ask("ps", f)
        equal(p.returncode, 0, p.stderr)
        head, *lines = p.stdout.splitlines()
        mode, tgs, number = (head.split().index(h) for h in ("THREADS", "TGS", "WIRED"))
        equal([(line.split()[mode], line.split()[tgs], line.split()[number]) for line in lines],
              [("-", "-", "-"), ("locked", "-", "-"), ("off", "-", "-"), ("free", "1234", "6"), ("free", "1234", "6"), ("off", "-", "-")])
        j = json.loads(ask("ps", f, "--json").stdout)
        equal([e["threads"] for e in j], ["-", "locked", "off", "free", "free", "off"])
        equal((j[1]["thread_gs"], j[1]["wired"], j[3]["thread_gs"]), (None, None, 1234))
        equal({k: j[3]["wired"][k] for k in ("signals", "altstack", "sched", "object", "other")},
              {"signals": 3, "altstack": 0, "sched": 1, "object": 0, "other": 2})


def one_process_is_shown_line_by_line():
    rows = [frame(PS_MORE, ps_row()), frame(PS_MORE, ps_row(pid=8, flags=4, thread_gs=12, wired=(3, 0, 20000), name=b"x\x1b[1m")), frame(END)]
    with Fake(rows) as f:
        p = ask("ps", f, "8")
        equal(p.returncode, 0, p.stderr)
        lines = dict(line.split("  ", 1) for line in p.stdout.splitlines())
        lines = {k: v.strip() for k, v in lines.items()}
        for key, value in (("pid", "8"), ("name", "x?[1m"), ("threads", "free"), ("Gs", "4"), ("thread Gs", "12"), ("wired: signals", "3"),
                           ("wired: altstack", "0"), ("wired: sched", "20000"), ("Ms", "5"), ("hand-offs", "12345"), ("domain", "/d")):
            equal(lines[key], value, key)
        assert not any("wired" in line for line in ask("ps", f, "7").stdout.splitlines())
        equal([e["pid"] for e in json.loads(ask("ps", f, "--json", "8").stdout)], [8])
        p = ask("ps", f, "9")
        equal((p.returncode, p.stdout), (1, ""))
        has(p.stderr, "process 9 is not attached to rationd, or not yours")
        for args in (("x",), ("0",), ("8", "7"), ("4294967304",), ("-1",)):
            equal(ask("ps", f, *args).returncode, 2, args)


def reasons_that_are_not_known_yet_have_numbers():
    wired = list(range(1, 14))
    for nwired, shown in ((13, 13), (2**32 - 1, 13), (3, 3), (0, 0)):
        with Fake([frame(PS_MORE, ps_row(flags=4, wired=wired, nwired=nwired)), frame(END)]) as f:
            j = json.loads(ask("ps", f, "--json").stdout)[0]["wired"]
            equal(sorted(j.values()), wired[:shown])
            equal("reason_12" in j, shown == 13)
            equal(ask("ps", f, "7").stdout.count("wired: "), shown)


def an_older_daemon_is_asked_the_old_way():
    with Older([frame(PS, old_ps_row()), frame(PS, old_ps_row(pid=8, flags=4)), frame(END)]) as f:
        p = ask("ps", f)
        equal((p.returncode, p.stderr, len(p.stdout.splitlines())), (0, "", 3))
        has(p.stdout.splitlines()[2], "free")
        j = json.loads(ask("ps", f, "--json").stdout)
        equal([(e["threads"], e["thread_gs"], e["wired"], e["gs"]) for e in j], [("locked", None, None, 4), ("free", None, None, 4)])
        assert "thread Gs" not in ask("ps", f, "8").stdout
    with Older([frame(ERROR, error_body(EOPNOTSUPP, b"what?"), serial=0)]) as f:  # nor that
        p = ask("ps", f)
        equal((p.returncode, p.stdout), (1, ""))
        has(p.stderr, "rationd says: what?")
    with Older([frame(PS_MORE, ps_row()), frame(END)]) as f:
        has(ask("ps", f).stderr, "not ration's protocol")


def stats_say_why_there_is_no_bpf():
    body = struct.pack("<9Q4I200s32s", 3600 * 10**9, *range(1, 9), 5, 6, 7, 0, b"no BTF", b"1.2.3")
    with Fake([frame(STATS, body)]) as f:
        p = ask("stats", f)
        equal(p.returncode, 0, p.stderr)
        for word in ("1.2.3", "1h00m", "BPF is off: no BTF"):
            has(p.stdout, word)
        j = json.loads(ask("stats", f, "--json").stdout)
        equal((j["attaches"], j["moves"], j["clients"], j["bpf"], j["bpf_error"]), (1, 8, 5, False, "no BTF"))


def the_real_daemon_answers():
    daemon = os.path.join(BUILD, "rationd")
    if not os.access(daemon, os.X_OK):
        raise Skip("rationd is not built")
    path = os.path.join(TMP, "real.sock")
    d = subprocess.Popen([daemon, "--foreground", "--no-bpf", "--socket", path], env=clean_env(), stdin=subprocess.DEVNULL)
    try:
        until(lambda: os.path.exists(path) or d.poll() is not None, "the daemon listens")
        if d.poll() is not None:
            raise AssertionError(f"rationd ended with {d.returncode}")
        until(lambda: ration("stats", "--socket", path).returncode == 0, "it answers")
        equal(ration("ps", "--json", "--socket", path).stdout, "[]\n")
        has(ration("pool", "--socket", path).stdout, "There is no pool")
        equal(json.loads(ration("stats", "--json", "--socket", path).stdout)["bpf"], False)
        p = ration("ps", "--bogus", "--socket", path)
        equal(p.returncode, 2)
    finally:
        d.send_signal(signal.SIGTERM)
        d.wait(60)


if __name__ == "__main__":
    main([no_daemon_says_how_to_start_it, no_permission_is_said, garbage_is_called_garbage, another_version_is_named, refusal_is_passed_on,
          early_hang_up_is_an_error, a_daemon_that_hangs_is_given_up, another_kind_of_socket_is_noticed, empty_lists_say_so,
          tables_are_aligned_and_harmless, the_mode_is_told, one_process_is_shown_line_by_line,
          reasons_that_are_not_known_yet_have_numbers, an_older_daemon_is_asked_the_old_way, pool_shows_the_rungs,
          processes_are_told_with_the_pool_that_they_are_in, stats_say_why_there_is_no_bpf, the_real_daemon_answers])
