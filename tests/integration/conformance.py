# SPDX-License-Identifier: Apache-2.0
"""Runs the checks of a program plain, which is the reference, and in other ways; output and exit status must be the same.

The program lists its checks ("list") and runs one by its name.  A way is (environment, environment of its plain run): most
have an empty one of those; a way that makes the program itself behave differently is compared with a plain run that does too.
A check whose plain result differs from a second plain run is not judged (skipped): its outcome is not ration's doing.
"""
import glob
import os
import resource
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
SHIM = os.path.join(BUILD, "libration.so")
CORE_MOST = 512 << 20  # bytes
GDB_ASKS = ("bt 20", "info registers pc sp", "x/4i $pc", "thread apply all bt 6")
# Without a daemon, whatever runs on this host.
ALONE = {"LD_PRELOAD": SHIM, "RATION_STANDALONE": "1"}


class Conformance:
    def __init__(self, program, ways, prefix, seconds=60, jobs=8, not_judged=lambda name, way: None):
        """prefix: of the variables that are the program's own, and of those that say what to run (PREFIX_WAYS, PREFIX_JOBS)."""
        self.not_judged = not_judged
        self.program = os.path.join(BUILD, "tests/integration", program)
        self.ways = ways
        self.prefix = prefix
        self.seconds = seconds
        self.jobs = jobs

    def run(self, name, extra, want=None, died=None):
        """(exit status, output) of one check; None as status when it had to be ended.

        died: gets lines of where it crashed, if the result is not the wanted one.
        """
        with tempfile.TemporaryDirectory() as cwd:  # a core comes to lie there
            result = self.run_in(cwd, name, extra)
            if died is not None and result != want:
                died.extend(where_it_died(self.program, cwd))
            return result

    def run_in(self, cwd, name, extra):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RATION_", "LD_", self.prefix))}
        env.update(extra)
        p = subprocess.Popen([self.program, name], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
        try:
            out, _ = p.communicate(timeout=self.seconds)
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

    def judge(self, name, ways):
        """TAP lines of one check."""
        plain = {}
        lines = []
        for way in ways:
            env, plain_env = self.ways[way]
            why = self.not_judged(name, way)
            if why:
                lines.append(f"ok - {name} {way} # SKIP {why}")
                continue
            key = str(plain_env)
            if key not in plain:
                plain[key] = self.run(name, plain_env)
            want = plain[key]
            if want[0] is None:
                lines.append(f"ok - {name} {way} # SKIP does not end without ration either")
                continue
            died = []
            got = self.run(name, env, want, died)
            if got[0] is None:  # glibc itself may hang in a child that was forked while a thread was being unwound: not every time
                got = self.run(name, env)
            if got == want:
                lines.append(f"ok - {name} {way}")
                continue
            again = self.run(name, plain_env)
            if again != want and again != got:
                lines.append(f"ok - {name} {way} # SKIP differs from run to run without ration")
            elif again == got:
                lines.append(f"ok - {name} {way}")
            else:
                lines.append(f"not ok - {name} {way}")
                lines.append(f"#   status {want[0]} became {got[0]}")
                lines.extend(differences(want[1], got[1]) + died)
        return lines

    def main(self):
        """Arguments: parts of the names of checks to run.  Returns the exit status."""
        if not os.path.exists(self.program) or not os.path.exists(SHIM):
            print("build first: make progs")
            return 77
        ways = os.environ.get(self.prefix + "WAYS", " ".join(self.ways)).split()
        names = subprocess.run([self.program, "list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
        if len(sys.argv) > 1:
            names = [n for n in names if any(part in n for part in sys.argv[1:])]
        failed = 0
        leave_cores()
        # Most checks sleep most of the time.
        with ThreadPoolExecutor(int(os.environ.get(self.prefix + "JOBS", self.jobs))) as pool:
            for lines in pool.map(lambda n: self.judge(n, ways), names):
                print("\n".join(lines), flush=True)
                failed += sum(line.startswith("not ok") for line in lines)
        print(f"# {len(names)} checks, {failed} failed")
        return 1 if failed or not names else 0


def leave_cores():
    """Children do, as far as the limit that we have allows; where core_pattern is no plain name they are somebody else's."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (CORE_MOST if hard == resource.RLIM_INFINITY else min(hard, CORE_MOST), hard))


def where_it_died(program, cwd):
    """Lines of what its threads did, the one that crashed first, if there is a core and a gdb."""
    lines = []
    for core in glob.glob(os.path.join(cwd, "core*")):
        gdb = ["gdb", "-batch", "-nx"] + [arg for ask in GDB_ASKS for arg in ("-ex", ask)] + [program, core]
        try:
            out = subprocess.run(gdb, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60).stdout.decode(errors="replace")
        except (OSError, subprocess.TimeoutExpired):
            continue
        lines.extend("#   " + line for line in out.splitlines() if line and not line.startswith(("[New LWP", "warning:", "Backtrace stopped")))
    return lines[:120]


def differences(want, got):
    a, b = want.splitlines(), got.splitlines()
    lines = [f"#   line {i + 1}: {x!r} became {y!r}" for i, (x, y) in enumerate(zip(a, b)) if x != y]
    if len(a) != len(b):
        lines.append(f"#   {len(a)} lines became {len(b)}: {(a + b)[-1]!r}")
    return lines[:6]
