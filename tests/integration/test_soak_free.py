#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 120
"""Free mode for long: a thread-per-connection echo server (tests/bench/techo.c, plain pthreads), and clients most of which vanish.

They come in waves.  Some are served in full; others are reset in the middle of a request, close only their sending side, never read what comes back, say
nothing, or go at any moment.  In the end all threads and descriptors of the server are gone, its memory is what it was after the first third,
its kernel threads were few all the time, and fewer in the end, and it still answers.

SOAK_SECONDS=8: for how long (`make soak`: an hour).  SOAK_SEED: that of an earlier run.
"""
import json
import os
import random
import select
import socket
import struct
import subprocess
import time

from rationlib import RATIOND, Daemon, run, wait_for

SECONDS = float(os.environ.get("SOAK_SECONDS", "8"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1, 1 << 62)))
BUILD = os.path.dirname(RATIOND)
TECHO = os.path.join(BUILD, "tests/bench/techo")
PS = 2
WAVE = 200  # connections at a time
THREADS_MOST = 16  # kernel threads: Ps, spare and blocked carriers, ration's own, main
THREADS_REST = PS + 4  # when nothing has happened for 5 s
GROWTH_KB = 16 * 1024
PATIENCE = 30


class Server:
    def __init__(self, daemon):
        env = dict(os.environ, RATION_SOCKET=daemon.path, RATION_THREADS="free", RATION_MAXPROCS=str(PS), LD_PRELOAD=os.path.join(BUILD, "libration.so"))
        self.daemon = daemon
        self.p = subprocess.Popen([TECHO, "--stack", "256"], stdout=subprocess.PIPE, env=env)
        self.port = int(float(self.p.stdout.readline().split()[1]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def status(self, key):
        with open(f"/proc/{self.p.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(key + ":"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.p.pid}/fd"))

    def told(self):
        out = subprocess.run([os.path.join(BUILD, "ration"), "ps", "-s", self.daemon.path, "--json", str(self.p.pid)], capture_output=True, check=True)
        return json.loads(out.stdout)[0]

    def answers(self):
        with self.connect() as s:
            return echoes(s, b"are you there?")


def echoes(s, data):
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        part = s.recv(len(data) - len(got))
        if not part:
            return False
        got += part
    return got == data


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


# --- what becomes of a client: called when all of its wave are connected ---


def is_served(s, rng):
    for _ in range(rng.randrange(1, 4)):
        assert echoes(s, rng.randbytes(rng.choice((1, 100, 4096, 20000)))), "it did not come back"
    s.close()


def is_reset(s, rng):
    s.sendall(b"half a requ" * rng.randrange(1, 100))
    if rng.random() < 0.5:
        s.recv(1)  # it is being served
    reset(s)


def half_closes(s, rng):
    data, got = rng.randbytes(rng.randrange(1, 30000)), b""
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    while True:
        part = s.recv(65536)
        if not part:
            break
        got += part
    assert got == data, f"{len(got)} of {len(data)} bytes came back"
    s.close()


def never_reads(s, rng):
    """The server is blocked in write when it goes."""
    s.setblocking(False)
    try:
        for _ in range(64):
            s.send(bytes(65536))
    except BlockingIOError:
        pass
    if rng.random() < 0.7:
        reset(s)
    else:
        s.close()  # with bytes unread: a reset, too


def says_nothing(s, rng):
    if rng.random() < 0.5:
        reset(s)
    else:
        s.close()


def goes_at_any_moment(s, rng):
    s.sendall(b"x" * rng.randrange(1, 5000))
    select.select([s], [], [], rng.random() * 0.001)
    if rng.random() < 0.5:
        reset(s)
    else:
        s.close()


FATES = (is_served, is_served, is_reset, is_reset, half_closes, never_reads, says_nothing, goes_at_any_moment)


def wave(server, rng):
    clients = [server.connect() for _ in range(WAVE)]
    idle = server.connect()  # and it waits with all that goes on
    rng.shuffle(clients)
    for s in clients:
        rng.choice(FATES)(s, rng)
    assert echoes(idle, b"still here"), "the wave has taken another with it"
    idle.close()


def nothing_is_left_of_clients_that_vanish():
    rng = random.Random(SEED)
    with Daemon() as d, Server(d) as server:
        assert server.answers()
        descriptors, begin = server.descriptors(), time.monotonic()
        n, most_kb, most_threads = 0, 0, 0
        while n < 3 or time.monotonic() - begin < SECONDS:
            wave(server, rng)
            n += 1
            threads, kb = server.status("Threads"), server.status("VmRSS")
            most_threads = max(most_threads, threads)
            if n <= 2 or time.monotonic() - begin < SECONDS / 3:
                most_kb = max(most_kb, kb)
            assert threads <= THREADS_MOST, f"wave {n}: {threads} kernel threads"
        wait_for("all descriptors are closed", lambda: server.descriptors() <= descriptors, PATIENCE)
        wait_for("all threads have ended", lambda: server.told()["thread_gs"] == 0, PATIENCE)
        wait_for("idle carriers have ended", lambda: server.status("Threads") <= THREADS_REST, PATIENCE)
        told, kb = server.told(), server.status("VmRSS")
        print(f"# {n * (WAVE + 1)} connections; at most {most_threads} kernel threads; {kb} kB, at most {most_kb} in the first third; wired {told['wired']}")
        assert kb <= most_kb + GROWTH_KB, f"{kb} kB, after the first third {most_kb}"
        assert told["threads"] == "free" and sum(told["wired"].values()) == 0, told
        assert server.answers() and server.p.poll() is None


if __name__ == "__main__":
    print(f"# SOAK_SECONDS={SECONDS} SOAK_SEED={SEED}", flush=True)
    run([nothing_is_left_of_clients_that_vanish])
