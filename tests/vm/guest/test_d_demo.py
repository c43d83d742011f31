# SPDX-License-Identifier: Apache-2.0
"""`make demo` in a login session of cgroup v2: it makes its cgroups, gets to its end, and leaves nothing behind, also when it is interrupted."""
import os
import re
import signal
import subprocess
import sys

from guestlib import CGROUPS, case, equal, main, out, saw, until

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/demo.py")


def left():
    return out(f"find {CGROUPS} -name 'rationtest-*' -o -name 'ration-run-*'; pgrep -x 'mixed|pigz|xz|memcached|sysbench|memload'", check=False).split()


def demo(*args):
    return subprocess.Popen([sys.executable, DEMO, "--quick", "--svg", "/tmp/demo.svg", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


@case
def it_gets_to_its_end():
    p = demo()
    text = p.communicate(timeout=1500)[0]
    equal(p.returncode, 0, text[-2000:])
    rows = [line for line in text.splitlines() if "->" in line or "→" in line]
    print("\n".join("# " + line for line in text.splitlines()))
    saw(f"{len(rows)} lines of before and after")
    assert "Traceback" not in text, text
    assert re.search(r"[Tt]hrottled", text), text
    until(f"nothing is left: {left()}", lambda: not left(), 20)


@case
def interrupted_it_leaves_nothing():
    for sig in (signal.SIGINT, signal.SIGTERM):
        p = demo()
        until("it has made a cgroup", left)
        p.send_signal(sig)
        p.communicate(timeout=120)
        equal(p.returncode, -sig)
        until(f"nothing is left: {left()}", lambda: not left(), 20)


main()
