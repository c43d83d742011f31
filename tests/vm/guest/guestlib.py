# SPDX-License-Identifier: Apache-2.0
"""What the tests in the guest of `make vm` share: TAP lines that say what was seen, commands, services, login sessions.

The machine is the test's alone, and is thrown away afterwards.  It may be emulated, so nothing here asserts a time; waits have generous bounds.
"""
import json
import os
import subprocess
import sys
import time
import traceback

BUILD = os.environ.get("BUILD", "build")
CGROUPS = "/sys/fs/cgroup"
DROPIN = "/usr/local/share/doc/ration/drop-in-ration.conf"
PROBE = os.path.join(BUILD, "tests/integration/counts_probe")
WORKER = os.path.join(BUILD, "tests/integration/faults_worker")
PATIENCE = 120
_cases, _seen = [], []


class Skip(Exception):
    """Can't be tested here; the text says why."""


def case(fn):
    """Registers a test case; its name is what it promises."""
    _cases.append(fn)
    return fn


def saw(text):
    """For the case's line: what there was to be seen."""
    _seen.append(" ".join(str(text).split()))


def main():
    failed = 0
    name = os.path.basename(sys.argv[0]).removeprefix("test_").removesuffix(".py")
    for fn in _cases:
        if sys.argv[1:] and not any(part in fn.__name__ for part in sys.argv[1:]):
            continue
        _seen.clear()
        title = f"{name}: {fn.__name__}"
        try:
            fn()
            print("ok - " + title + (f" ({'; '.join(_seen)})" if _seen else ""), flush=True)
        except Skip as e:
            print(f"ok - {title} # SKIP {e}", flush=True)
        except Exception:  # also a failed assertion: told, and on to the next case
            failed += 1
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines() + _seen) + f"not ok - {title}", flush=True)
    sys.exit(1 if failed else 0)


# ---- commands, files, waiting ----------------------------------------------------------------------


def sh(command, check=True, timeout=PATIENCE, **kw):
    """A command, given as a list or for the shell.  Its output is in .stdout and .stderr, stripped."""
    p = subprocess.run(command, shell=isinstance(command, str), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       errors="replace", timeout=timeout, **kw)
    p.stdout, p.stderr = p.stdout.strip(), p.stderr.strip()
    if check and p.returncode != 0:
        raise AssertionError(f"{command}: exit status {p.returncode}: {p.stdout[-600:]} {p.stderr[-600:]}")
    return p


def out(command, **kw):
    return sh(command, **kw).stdout


def ask(what, *args):
    """The JSON that ration gives."""
    return json.loads(out(["ration", what, "--json", *map(str, args)]))


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read().strip()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def equal(got, want, what=""):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


def until(what, fact, seconds=PATIENCE):
    """Waits until fact() is true; its value.  A fact that can't be had yet is not true.

    Asking takes a good part of an emulated CPU, so it is done in a fifth of the time at most: the CPUs are those of what is asked about."""
    end = time.monotonic() + seconds
    error = None
    while (asked := time.monotonic()) < end:
        try:
            value = fact()
            if value:
                return value
        except (OSError, AssertionError, json.JSONDecodeError) as e:
            error = e
        time.sleep(max(0.02, 4 * (time.monotonic() - asked)))
    raise AssertionError(f"waited in vain until {what}" + (f"; last: {error}" if error else ""))


# ---- services --------------------------------------------------------------------------------------


def prop(unit, name):
    return out(["systemctl", "show", "--value", "-p", name, unit])


def cgroup_of(pid):
    """The path of a process's cgroup, and its directory."""
    path = read(f"/proc/{pid}/cgroup").removeprefix("0::")
    return path, CGROUPS + path


class Service:
    """A transient unit file with a command, removed at the end.  `ration`: with the drop-in that ration's documentation has."""

    def __init__(self, name, command, ration=True, **properties):
        self.name = f"rationtest-{name}.service"
        self.path = "/etc/systemd/system/" + self.name
        self.output = f"/run/rationtest-{name}.log"
        write(self.output, "")
        lines = "".join(f"{k}={v}\n" for k, v in properties.items())
        write(self.path, f"[Service]\nExecStart={command}\nStandardOutput=append:{self.output}\nStandardError=inherit\n{lines}")
        if ration:
            write(f"{self.path}.d/ration.conf", read(DROPIN) + "\n")
        sh(["systemctl", "daemon-reload"])

    def __enter__(self):
        sh(["systemctl", "start", self.name], timeout=600)
        return self

    def __exit__(self, *_):
        sh(["systemctl", "stop", self.name], check=False)
        sh(["systemctl", "reset-failed", self.name], check=False)
        sh(["rm", "-rf", self.path, self.path + ".d"])  # forgotten at the next daemon-reload, which takes its time

    @property
    def pid(self):
        return int(prop(self.name, "MainPID"))

    def set(self, *properties):
        sh(["systemctl", "set-property", "--runtime", self.name, *properties])

    def log(self):
        return read(self.output)


def attached(pid):
    """The row of a process in `ration ps`, or None."""
    return next((r for r in ask("ps") if r["pid"] == pid), None)


def pool(domain):
    """The pools of a domain."""
    return [p for p in ask("pool") if p["domain"] == domain]


def in_session(command, user="root", **kw):
    """A command (for the shell) in a login session of its own: PAM's login, logind's scope."""
    return sh(["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "-p", "PAMName=login", "-p", f"User={user}", "-p", "WorkingDirectory=~",
               "--", "bash", "-lc", command], **kw)
