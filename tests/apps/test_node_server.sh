#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# A server in node: files, hashes and compression in libuv's pool of threads, and worker threads, for many clients at once.
# timeout: 240
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need node python3
seq 100000 >"$dir/file"
cat >"$dir/server.js" <<'END'
const http = require("http"), fs = require("fs"), crypto = require("crypto"), zlib = require("zlib"), dns = require("dns");
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const [sock, file] = [process.argv[2], process.argv[3]];
const work = `
const { parentPort } = require("worker_threads");
parentPort.on("message", n => { const f = n => n < 2 ? n : f(n - 1) + f(n - 2); let junk = []; for (let i = 0; i < 200; i++) junk.push(Buffer.alloc(10000)); parentPort.postMessage(f(n)); });`;
const workers = [...Array(4)].map(() => new Worker(work, { eval: true }));
const queues = workers.map(() => []);
workers.forEach((w, i) => w.on("message", v => queues[i].shift()(String(v))));
let next = 0;
const paths = {
  "/file": (q, done) => fs.readFile(file, (e, d) => done(crypto.createHash("sha1").update(d).digest("hex"))),
  "/hash": (q, done) => crypto.pbkdf2("p" + q, "salt", 300, 16, "sha256", (e, k) => done(k.toString("hex"))),
  "/gzip": (q, done) => zlib.gzip(Buffer.alloc(100000, String(q)), (e, d) => zlib.gunzip(d, (e, d) => done(String(d.length)))),
  "/work": (q, done) => { const i = next++ % 4; queues[i].push(done); workers[i].postMessage(10 + q % 10); },
  "/name": (q, done) => dns.lookup("localhost", e => done(String(e === null))),
};
const server = http.createServer((req, res) => {
  const [path, q] = req.url.split("?");
  paths[path](Number(q), text => res.end(text));
}).listen(sock);
process.on("SIGTERM", () => Promise.all(workers.map(w => w.terminate())).then(() => process.exit(5)));
END

begin() {
  rm -f "$dir/sock"
  launch node "$dir/server.js" "$dir/sock" "$dir/file"
}
ready() { python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"GET /hash?1 HTTP/1.0\r\n\r\n"); assert s.recv(99)' "$dir/sock"; }
load() {
  unix_clients '[("%s?%d" % (path, r), {}) for path in ("/file", "/hash", "/gzip", "/work", "/name")]'
}
in_each_way node begin ready load
