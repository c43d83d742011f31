# SPDX-License-Identifier: Apache-2.0
"""Busy servers in a quota.  Of one process: it does more with ration, and the slowest answers come sooner.  Of several: they are to be no worse than without, whatever they hand to each other.

  servers-one      apache2, one process of 64 threads
  servers-threads  apache2, 4 processes of 16 threads
  servers-prefork  apache2, 32 processes
  servers-python   8 processes, each with one request at a time, which computes for a millisecond or two and sleeps twice
"""
import benchlib as b
import freeapps
import freemode

QUOTA = 1.0
CONNECTIONS = 32

PREFORK = """
import json, os, random, socket, sys, time
d = {str(i): [random.random() for _ in range(20)] for i in range(60)}
s = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
for _ in range(7):
    if os.fork() == 0: break
while True:
    c, _ = s.accept()
    with c:
        if not c.recv(65536): continue
        time.sleep(0.003)
        json.loads(json.dumps(d))
        time.sleep(0.002)
        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
"""


def wrk(seconds, port):
    return freeapps.wrk(seconds, port, CONNECTIONS)


def apache_server(conf):
    # A session of its own: prefork ends by a signal to its process group.
    return (["apache2", "wrk", "setsid"], lambda p: ["setsid", b.find_program("apache2"), "-f", f"{p['d']}/conf", "-DFOREGROUND"],
            {"conf": conf, "index.html": "hello\n"}, wrk)


SERVERS = {
    "one": apache_server(freeapps.apache("worker", "StartServers 1\nServerLimit 1\nThreadLimit 64\nThreadsPerChild 64\nMinSpareThreads 64\nMaxSpareThreads 64\nMaxRequestWorkers 64")),
    "threads": apache_server(freeapps.apache("worker", "StartServers 4\nServerLimit 4\nThreadsPerChild 16\nMinSpareThreads 64\nMaxSpareThreads 64\nMaxRequestWorkers 64")),
    "prefork": apache_server(freeapps.apache("prefork", "StartServers 32\nMinSpareServers 32\nMaxSpareServers 40\nServerLimit 64\nMaxRequestWorkers 64")),
    "python": (["python3", "wrk"], lambda p: freeapps.python(PREFORK, p["port"]), {}, wrk),
}


# name: requests/s at least, p99 at most, as parts of plain's; of all others those of several processes
TARGETS = {"one": (1.1, 0.8)}
SEVERAL = (0.9, 1.2)


def server(cx, name):
    least, most = TARGETS.get(name, SEVERAL)
    b.need(*SERVERS[name][0])
    plain, ration = map(b.medians, cx.both(lambda side: freeapps.server_once(cx, name, side, QUOTA, cx.seconds(4), SERVERS)))
    name = f"servers-{name}"
    cx.table.at_least(name, f"requests/s, quota {QUOTA}", plain["rps"], ration["rps"], least)
    cx.table.at_most(name, "p99, ms", plain["p99"], ration["p99"], most)
    cx.table.add(name, "throttled periods", plain["throttled"], ration["throttled"], None, "-", True)


for _n in SERVERS:
    freemode.bench(f"servers-{_n}", f"a busy server ({_n}) in a quota of {QUOTA}")(lambda cx, n=_n: server(cx, n))
