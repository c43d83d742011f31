#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""`make demo` leaves nothing behind, also when it is interrupted."""
import glob
import os
import random
import signal
import subprocess
import time

import faults
from faults import b, case, wait_for

DEMO = os.path.join(b.ROOT, "tests/bench/demo.py")


def left_over(pid):
    """Cgroups and processes of that demo."""
    _, parent = b.parent_for_groups()
    groups = glob.glob(os.path.join(parent, f"rationtest-demo-{pid}-*"))
    mine = []
    for p in os.listdir("/proc"):
        try:
            if p.isdigit() and f"RATION_DEMO_TEST={pid_tag}".encode() in open(f"/proc/{p}/environ", "rb").read().split(b"\0"):
                if faults.state_of(p) != "Z":
                    mine.append(p)
        except OSError:
            pass
    return groups + mine


def interrupt(sig, after):
    global pid_tag
    pid_tag = f"{os.getpid()}-{sig}-{after:.3f}"
    d = b.temp_dir()
    env = dict(os.environ, RATION_DEMO_TEST=pid_tag, TMPDIR=d)
    p = b.start(["python3", DEMO, "--quick", "--svg", os.path.join(d, "demo.svg")], None, env)
    time.sleep(after)
    assert p.poll() is None, f"the demo ended by itself: {p.communicate()}"
    p.send_signal(sig)
    p.communicate(timeout=60)
    assert p.returncode == -sig, f"exit status {p.returncode}"
    wait_for("nothing of the demo is left", lambda: not left_over(p.pid), 10)
    assert os.listdir(d) == [], f"files left: {os.listdir(d)}"


@case
def sigint_leaves_nothing_behind():
    for after in (0.4, 3 + random.random(), 6 + random.random()):
        interrupt(signal.SIGINT, after)


@case
def sigterm_leaves_nothing_behind():
    interrupt(signal.SIGTERM, 2 + random.random() * 4)


faults.main()
