# SPDX-License-Identifier: Apache-2.0
"""Tests of one program that prints a number, in free mode on one P: it must be at most so large."""
import os
import subprocess

BUILD = os.environ.get("BUILD", "build")
ENV = dict(os.environ, RATION_STANDALONE="1", RATION_THREADS="free", RATION_MAXPROCS="1", LD_PRELOAD=os.path.join(BUILD, "libration.so"))


def run(prog):
    return subprocess.run([os.path.join(BUILD, "tests/integration", prog)], env=ENV, stdout=subprocess.PIPE, text=True, timeout=100)


def verdict(name, p, most, what):
    """The exit status of the test."""
    ok = p.returncode == 0 and int(p.stdout) <= most
    print(f"{'ok' if ok else 'not ok'} - {name}")
    if not ok:
        print(f"  exit status {p.returncode}, {what}: {p.stdout.strip()}, wanted at most {most}")
    return 0 if ok else 1
