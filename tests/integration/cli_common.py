# SPDX-License-Identifier: Apache-2.0
"""What the tests of the CLI share: TAP output, a private cgroup, a harmless library to preload, waiting for facts."""
import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
RATION = os.path.join(BUILD, "ration")
TMP = tempfile.mkdtemp(prefix="rationtest-cli-")
# "nobody" has to get in; tests/run makes the directory above for this test alone.
for _d in (TMP, os.path.dirname(TMP)):
    if os.path.basename(_d).startswith("rationtest-"):
        os.chmod(_d, 0o755)
atexit.register(shutil.rmtree, TMP, ignore_errors=True)
PATIENCE = 60  # seconds until something that must happen counts as never happening


class Skip(Exception):
    pass


def skip_all(reason):
    print(reason)
    sys.exit(77)


if not os.access(RATION, os.X_OK):
    skip_all(f"{RATION} is not built")


def clean_env(**more):
    """The environment without what would change ration's mind, and without the rules of an installed ration."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RATION_") and k not in ("LD_PRELOAD", "GOMAXPROCS")}
    env["RATION_PROFILES"] = ""
    env.update(more)
    return env


def ration(*args, env=None, **kw):
    """Runs ration; text in, text out."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([RATION, *args], env=clean_env(**(env or {})), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", timeout=PATIENCE, **kw)


def until(fact, what):
    """Waits until fact() is true.  It is an error if it never becomes so."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = fact()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"never happened: {what}")


def equal(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def has(text, part):
    if part not in text:
        raise AssertionError(f"{part!r} is not in {text!r}")


def compile_c(name, source, *flags):
    """Compiles a C program or library to TMP/name."""
    path = os.path.join(TMP, name)
    p = subprocess.run([os.environ.get("CC", "gcc"), "-x", "c", "-", "-o", path, *flags], input=source, text=True, capture_output=True)
    if p.returncode != 0:
        raise Skip(f"cannot compile {name}: {p.stderr.strip().splitlines()[-1] if p.stderr else ''}")
    return path


def harmless_lib():
    """A library that does nothing: these tests are about ration run, not about the shim."""
    os.makedirs(os.path.join(TMP, "lib"), exist_ok=True)
    return compile_c("lib/libration.so", "", "-shared")


def own_cgroup():
    p = ration("quota", "--json")
    return json.loads(p.stdout)["levels"][0]["dir"] if p.returncode == 0 else None


class Group:
    """A cgroup of the test's own, in which it runs ration --cpus."""

    def __init__(self):
        p = ration("run", "--cpus", "0.5", "--", "true", env={"RATION_LIB": harmless_lib()})
        if p.returncode != 0:
            skip_all(p.stderr.strip() or "ration run --cpus does not work here")
        q = json.loads(ration("quota", "--json").stdout)
        self.version = q["cgroup_version"]
        self.dir = q["levels"][0]["dir"]
        root = q["levels"][-1]["dir"]
        if self.version == 1:
            self.dir = os.path.join(self.dir, f"rationtest-cli-{os.getpid()}")
            os.mkdir(self.dir)
            atexit.register(self.remove)
        elif os.geteuid() == 0 and not os.path.exists(os.path.join(root, "cgroup.type")):
            self.dir = root  # the one v2 cgroup in which processes and cgroups may be side by side
        else:  # this would need a delegated cgroup: then we share ours
            self.dir = None

    def remove(self):
        """Ends what a failed case has left in it, and removes it."""
        for _ in range(500):
            for d, _, _ in os.walk(self.dir, topdown=False):
                try:
                    for pid in self.procs(os.path.relpath(d, self.dir)):
                        os.kill(pid, signal.SIGKILL)
                    os.rmdir(d)
                except OSError:
                    pass
            if not os.path.exists(self.dir):
                return
            time.sleep(0.01)

    def enter(self):
        """preexec_fn of what is to run in it."""
        if self.dir:
            with open(os.path.join(self.dir, "cgroup.procs"), "w") as f:
                f.write("0")

    def groups(self):
        return sorted(n for n in os.listdir(self.dir or own_cgroup()) if n.startswith("ration-run-"))

    def procs(self, name=""):
        with open(os.path.join(self.dir or own_cgroup(), name, "cgroup.procs")) as f:
            return [int(n) for n in f.read().split()]


def main(cases):
    """Runs the functions; each is a TAP line."""
    failed = 0
    for i, case in enumerate(cases, 1):
        name = case.__name__
        try:
            case()
            print(f"ok {i} - {name}")
        except Skip as s:
            print(f"ok {i} - {name} # SKIP {s}")
        except Exception:  # pylint: disable=broad-except
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"not ok {i} - {name}")
        sys.stdout.flush()
    sys.exit(1 if failed else 0)
