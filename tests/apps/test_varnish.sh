#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# varnish before a backend of the load's own: pages that are cached and pages that are not, for many clients at once.
# timeout: 240
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need varnishd cc python3
cat >"$dir/vcl" <<END
vcl 4.1;
backend b { .path = "$dir/behind"; }
sub vcl_recv { if (req.url == "/synth") { return (synth(418, "teapot")); } if (req.url ~ "^/pass") { return (pass); } }
sub vcl_backend_response { set beresp.ttl = 60s; }
END

begin() {
  rm -rf "$dir/work" "$dir/sock"
  launch varnishd -F -n "$dir/work" -a "$dir/sock" -f "$dir/vcl" -s malloc,64m -T none -j none -p vcc_allow_inline_c=off \
    -p thread_pool_min=10 -p thread_pool_max=100
}
ready() { python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"GET /synth HTTP/1.0\r\n\r\n"); assert b"418" in s.recv(99)' "$dir/sock"; }
load() {
  rm -f "$dir/behind"
  timeout -s KILL 90 python3 - "$dir" <<'END'
import hashlib, http.client, http.server, os, socket, socketserver, sys, threading
dir = sys.argv[1]
N, ROUNDS = 24, 15
fetched, lock = {}, threading.Lock()
class Behind(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with lock: fetched[self.path] = fetched.get(self.path, 0) + 1
        text = self.path.encode() * (1 if "small" in self.path else 40000)
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def address_string(self): return ""
    def log_message(self, *a): pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
server = Server(dir + "/behind", Behind)
os.chmod(dir + "/behind", 0o777)
threading.Thread(target=server.serve_forever, daemon=True).start()
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(dir + "/sock")
sums = [None] * N
def client(i):
    h = hashlib.sha256()
    c = Connection("localhost")
    for r in range(ROUNDS):
        for path in "/small%d" % r, "/big%d" % (r % 5), "/pass/small%d" % r, "/synth":
            c.request("GET", path, headers={"Connection": "close"} if r % 7 == 6 else {})
            answer = c.getresponse()
            h.update(b"%d" % answer.status + (answer.read() if path != "/synth" else answer.read()[:0]))
    sums[i] = h.hexdigest()
threads = [threading.Thread(target=client, args=(i,)) for i in range(N)]
for t in threads: t.start()
for t in threads: t.join()
print(*set(sums), sep="\n")
print("cached", {n for p, n in fetched.items() if not p.startswith("/pass")}, "passed", {n for p, n in fetched.items() if p.startswith("/pass")})
END
}
in_each_way varnish begin ready load
