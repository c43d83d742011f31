#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# memcached with four workers, and clients that come and go: what was set is what is got.
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need memcached python3

begin() { launch memcached -s "$dir/sock" -u "$(id -un)" -t 4 -m 64; }
ready() { python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"version\r\n"); assert s.recv(99)' "$dir/sock"; }
load() {
  timeout -s KILL 60 python3 - "$dir/sock" <<'END'
import hashlib, socket, sys, threading
N, ROUNDS = 24, 60
sums = [None] * N
def command(f, text, ends):
    f.write(text)
    f.flush()
    out = b""
    while not out.endswith(ends):
        line = f.readline()
        assert line, "closed"
        out += line
    return out
def client(i):
    h = hashlib.sha256()
    for r in range(ROUNDS):
        if r % 20 == 0:
            s = socket.socket(socket.AF_UNIX)
            s.connect(sys.argv[1])
            f = s.makefile("rwb")
        key, value = b"k%d-%d" % (i, r), bytes([65 + (i + r) % 26]) * (1 + (i * 37 + r * 401) % 20000)
        h.update(command(f, b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), (b"\r\n",)))
        h.update(command(f, b"get %s\r\n" % key, (b"END\r\n",)))
        h.update(command(f, b"incr n%d 1\r\n" % i, (b"\r\n",)))
        h.update(command(f, b"add n%d 0 0 1\r\n0\r\n" % i, (b"\r\n",)))
        if r % 3 == 0: h.update(command(f, b"delete %s\r\n" % key, (b"\r\n",)))
    sums[i] = h.hexdigest()
threads = [threading.Thread(target=client, args=(i,)) for i in range(N)]
for t in threads: t.start()
for t in threads: t.join()
print(*sums, sep="\n")
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
for line in command(s.makefile("rwb"), b"stats\r\n", (b"END\r\n",)).decode().splitlines():
    if line.split()[1:2] and line.split()[1] in ("cmd_get", "cmd_set", "curr_items", "get_hits", "incr_hits", "threads"): print(line)
END
}
in_each_way memcached begin ready load
