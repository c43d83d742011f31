# SPDX-License-Identifier: Apache-2.0
"""Those tests of the tree in the guest that find something else here than on a machine with cgroup v1: by tests/run, each case a line of TAP."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
# One run of tests/run each: what is of most worth first, and last what computes most, should the time not suffice.
RUNS = (("integration/daemon_quota", "integration/daemon_share"),
        ("integration/cli_run", "integration/cli_quota"),
        ("unit/quota", "unit/cli_transient", "integration/counts_files"),
        ("integration/daemon_life", "integration/faults_daemon_killed", "integration/faults_interrupted_demo"),
        ("unit/watch",))
LINES = {"ok": "ok - {}", "fail": "not ok - {}", "skip": "ok - {} # SKIP {}"}


def run(names):
    """True: all went well."""
    env = dict(os.environ, CK_TIMEOUT_MULTIPLIER="20", TEST_TIMEOUT="600", TEST_BESIDE="1")
    p = subprocess.Popen([os.path.join(ROOT, "tests/run"), *names], stdout=subprocess.PIPE, text=True, errors="replace", env=env)
    told = False
    for line in p.stdout:
        m = re.match(r"(ok|fail|skip) +((?:unit|integration)/.*?)(?: \((.*)\))?$", line)
        if m:
            told |= m[1] == "fail"
            text = m[2] if m[1] == "skip" or not m[3] else f"{m[2]} ({m[3]})"
            print(LINES[m[1]].format("tree: " + text, m[3]), flush=True)
        else:
            print("# " + line.rstrip(), flush=True)
    if p.wait() and not told:
        print(f"not ok - tree: {' '.join(names)}: exit status {p.returncode}", flush=True)
    return p.returncode == 0


sys.exit(0 if all([run(names) for names in ([sys.argv[1:]] if sys.argv[1:] else RUNS)]) else 1)
