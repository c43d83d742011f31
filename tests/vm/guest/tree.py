# SPDX-License-Identifier: Apache-2.0
"""Those tests of the tree in the guest that find something else here than on a machine with cgroup v1: by tests/run, each case a line of TAP."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
NAMES = ("unit/watch", "unit/quota", "unit/cli_transient", "unit/pool", "integration/daemon_", "integration/cli_", "integration/counts_files",
         "integration/faults_interrupted_demo", "integration/faults_daemon_killed", "integration/faults_clients_killed")

env = dict(os.environ, CK_TIMEOUT_MULTIPLIER="20", TEST_TIMEOUT="600", TEST_BESIDE="1")
p = subprocess.Popen([os.path.join(ROOT, "tests/run"), *NAMES], stdout=subprocess.PIPE, text=True, errors="replace", env=env)
results = {"ok": "ok - {}", "fail": "not ok - {}", "skip": "ok - {} # SKIP {}"}
failed = False
for line in p.stdout:
    m = re.match(r"(ok|fail|skip) +((?:unit|integration)/.*?)(?: \((.*)\))?$", line)
    if m:
        failed |= m[1] == "fail"
        text = m[2] if m[1] == "skip" or not m[3] else f"{m[2]} ({m[3]})"
        print(results[m[1]].format("tree: " + text, m[3]), flush=True)
    else:
        print("# " + line.rstrip(), flush=True)
sys.exit(1 if p.wait() or failed else 0)
