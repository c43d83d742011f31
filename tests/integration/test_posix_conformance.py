#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
"""A program finds under the shim what it finds without it.

Runs each check of tests/integration/posix.c plain, which is the reference, and then under
libration.so; output and exit status must be the same.  Ways to run:

  alone      no daemon, the gate as the machine has it
  crowded    no daemon, one P (RATION_MAXPROCS=1), two threads beside that burn CPU: each call that
             blocks loses its P, and the checks are preempted by SIGURG
  off        RATION_THREADS=off

A check whose plain result differs from a second plain run is not judged (skipped): its outcome is not ration's doing.
NAMES (a part of a check's name) pick some; POSIX_WAYS picks ways.
"""
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
PROG = os.path.join(BUILD, "tests/integration/posix")
SHIM = os.path.join(BUILD, "libration.so")
SECONDS = 60
ALONE = {"LD_PRELOAD": SHIM, "RATION_STANDALONE": "1"}
WAYS = {
    "alone": ALONE,
    "crowded": dict(ALONE, RATION_MAXPROCS="1", POSIX_HOGS="2"),
    "off": dict(ALONE, RATION_THREADS="off"),
}


def run(name, extra):
    """(exit status, output) of one check; None as status when it had to be ended."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RATION_", "POSIX_", "LD_"))}
    env.update(extra)
    p = subprocess.Popen([PROG, name], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         start_new_session=True)
    try:
        out, _ = p.communicate(timeout=SECONDS)
        status = p.returncode
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        out, _ = p.communicate()
        status = None
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return status, out.decode(errors="replace")


def differences(want, got):
    a, b = want.splitlines(), got.splitlines()
    lines = [f"#   line {i + 1}: {x!r} became {y!r}" for i, (x, y) in enumerate(zip(a, b)) if x != y]
    if len(a) != len(b):
        lines.append(f"#   {len(a)} lines became {len(b)}: {(a + b)[-1]!r}")
    return lines[:6]


def judge(name, ways):
    """TAP lines of one check."""
    plain = {}
    lines = []
    for way in ways:
        env = WAYS[way]
        hogs = env.get("POSIX_HOGS", "")
        if hogs not in plain:
            plain[hogs] = run(name, {"POSIX_HOGS": hogs} if hogs else {})
        want = plain[hogs]
        if want[0] is None:
            lines.append(f"not ok - {name} {way}")
            lines.append("#   it does not end without ration either: it shows nothing")
            continue
        got = run(name, env)
        if got == want:
            lines.append(f"ok - {name} {way}")
            continue
        again = run(name, {"POSIX_HOGS": hogs} if hogs else {})
        if again != want and again != got:
            lines.append(f"ok - {name} {way} # SKIP differs from run to run without ration")
        elif again == got:
            lines.append(f"ok - {name} {way}")
        else:
            lines.append(f"not ok - {name} {way}")
            lines.append(f"#   status {want[0]} became {got[0]}")
            lines.extend(differences(want[1], got[1]))
    return lines


def main():
    if not os.path.exists(PROG) or not os.path.exists(SHIM):
        print("build first: make progs")
        return 77
    ways = os.environ.get("POSIX_WAYS", " ".join(WAYS)).split()
    names = subprocess.run([PROG, "list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    if len(sys.argv) > 1:
        names = [n for n in names if any(part in n for part in sys.argv[1:])]
    failed = 0
    # Most checks sleep most of the time.
    with ThreadPoolExecutor(int(os.environ.get("POSIX_JOBS", "8"))) as pool:
        for lines in pool.map(lambda n: judge(n, ways), names):
            print("\n".join(lines), flush=True)
            failed += sum(line.startswith("not ok") for line in lines)
    print(f"# {len(names)} checks, {failed} failed")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
