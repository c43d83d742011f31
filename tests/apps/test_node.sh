#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# Node: os.cpus() (from /proc/stat and /proc/cpuinfo), availableParallelism (from the affinity), its thread pool and workers.
. "$(dirname "$0")/lib.sh"
need node

counts cpus node -e 'console.log(require("os").cpus().length)'
if [ "$(node -e 'console.log(typeof require("os").availableParallelism)')" = function ]; then
  counts available_parallelism node -e 'console.log(require("os").availableParallelism())'
fi
same thread_pool node -e '
const c = require("crypto");
let left = 8, out = [];
for (let i = 0; i < 8; i++) c.pbkdf2("p" + i, "salt", 5000, 16, "sha256", (e, k) => { out[i] = k.toString("hex"); if (!--left) console.log(out.join("\n")); });
'
same workers_and_children node -e '
const { Worker, isMainThread } = require("worker_threads");
const w = new Worker("require(\"worker_threads\").parentPort.postMessage(6 * 7)", { eval: true });
w.on("message", m => { console.log(m, require("child_process").execSync("echo child").toString().trim()); process.exitCode = 5; });
'
