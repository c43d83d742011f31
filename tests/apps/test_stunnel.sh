#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# stunnel, a thread for each connection: what goes through it comes back.  The server behind it is the load's own.
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need stunnel4 openssl python3
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout "$dir/key" -out "$dir/cert" 2>"$dir/log" || { cat "$dir/log"; exit 1; }

begin() {
  port=$(free_port)
  behind=$(free_port)
  printf '%s\n' foreground=yes pid= 'syslog=no' 'debug=4' "[echo]" "accept=127.0.0.1:$port" "connect=127.0.0.1:$behind" "cert=$dir/cert" "key=$dir/key" >"$dir/conf"
  launch stunnel4 "$dir/conf"
}
ready() { python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()' "$port"; }
load() {
  timeout -s KILL 60 python3 - "$port" "$behind" <<'END'
import hashlib, socket, ssl, sys, threading
port, behind = map(int, sys.argv[1:])
N, ROUNDS, BYTES = 24, 6, 50000
def serve(c):
    with c:
        while data := c.recv(65536): c.sendall(data[::-1] if len(data) < 100 else data)
def accept(l):
    while True: threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
l = socket.create_server(("127.0.0.1", behind), backlog=128)
threading.Thread(target=accept, args=(l,), daemon=True).start()
context = ssl._create_unverified_context()
sums = [None] * N
def client(i):
    h = hashlib.sha256()
    for r in range(ROUNDS):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as s:
            s.sendall(b"short")
            h.update(s.recv(100))
            data = bytes([i, r, 7]) * BYTES
            threading.Thread(target=s.sendall, args=(data,)).start()
            left = len(data)
            while left:
                got = s.recv(left)
                assert got, "closed"
                h.update(got)
                left -= len(got)
    sums[i] = h.hexdigest()
threads = [threading.Thread(target=client, args=(i,)) for i in range(N)]
for t in threads: t.start()
for t in threads: t.join()
print(*sums, sep="\n")
END
}
in_each_way stunnel begin ready load
