# SPDX-License-Identifier: Apache-2.0
"""rationd as `make install` puts it there: the units, the hardened service with BPF, its watchdog, its end and its next start."""
import os
import signal
import subprocess
import time

from guestlib import BUILD, WORKER, ask, attached, case, equal, main, out, prop, read, saw, sh, until, write

UNIT, SOCKET = "rationd.service", "rationd.socket"


def daemon():
    return int(prop(UNIT, "MainPID"))


def worker(rounds=100000000):
    """A program under ration, with a known output."""
    p = subprocess.Popen(["ration", "run", "--", WORKER, "--threads", "3", "--rounds", str(rounds)], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until("the worker is attached", lambda: attached(p.pid))
    except AssertionError:
        end(p)
        raise
    return p


def end(p):
    p.kill()
    p.communicate()


@case
def units_are_what_systemd_likes():
    text = out("systemd-analyze verify --man=no rationd.service rationd.socket 2>&1", check=False)
    equal(text, "", "systemd-analyze verify")
    level = out("systemd-analyze security --no-pager rationd.service").splitlines()[-1]
    saw(level.lstrip("→ "))
    assert float(level.split(":")[1].split()[0]) < 2.5, level


@case
def first_client_starts_the_daemon():
    sh(["systemctl", "enable", "--now", SOCKET])
    equal(prop(SOCKET, "ActiveState"), "active")
    equal(prop(UNIT, "ActiveState"), "inactive")
    equal(oct(os.stat("/run/ration/rationd.sock").st_mode & 0o777), "0o666")
    p = worker()
    try:
        equal((prop(UNIT, "ActiveState"), prop(UNIT, "SubState"), prop(UNIT, "Type")), ("active", "running", "notify"))
        saw("ration ps: " + str(attached(p.pid)["rung"]))
    finally:
        end(p)


@case
def hardened_daemon_has_bpf():
    """With two capabilities, no root, the unit's seccomp filter and file system."""
    s = ask("stats")
    assert s["bpf"], s["bpf_error"]
    status = dict(line.split(":", 1) for line in read(f"/proc/{daemon()}/status").splitlines())
    saw(f"uid {status['Uid'].split()[0]}, capabilities {status['CapEff'].strip()}, seccomp {status['Seccomp'].strip()}")
    assert int(status["Uid"].split()[0]) != 0
    equal(int(status["CapEff"], 16), 1 << 39 | 1 << 38, "CAP_BPF and CAP_PERFMON")
    equal(status["Seccomp"].strip(), "2")
    equal(status["NoNewPrivs"].strip(), "1")
    p = worker()
    try:
        until("the worker is on the rung with BPF", lambda: attached(p.pid)["rung"] == "bpf")
        rungs = [q["rungs"] for q in ask("pool")]
        saw(f"ration pool: {rungs}")
        equal(sum(r["bpf"] for r in rungs), 1)
    finally:
        end(p)
    equal([d for d in ("/etc/ration", "/run/ration") if os.path.exists(d) and os.stat(d).st_uid != 0], [], "not root's")
    log = out(["journalctl", "--quiet", "-o", "cat", "-u", UNIT])
    for word in ("EPERM", "denied", "not permitted", "cannot"):
        assert word not in log, log


@case
def bpf_hands_a_p_on():
    """Out of a system call that no library sees.  By the slow way it takes sysmon's pause, some ms."""
    for how in ([], ["--standalone"]):
        text = out(["ration", "run", *how, "--", os.path.join(BUILD, "tests/bench/handoff"), "--rounds", "60"], env=dict(os.environ, RATION_MAXPROCS="1"), timeout=300)
        saw(f"{' '.join(how) or 'BPF'}: {text}")


@case
def status_says_what_it_does():
    text = out(["systemctl", "status", "--no-pager", UNIT])
    assert "ready on the socket of systemd, with BPF" in text, text
    saw(next(line for line in text.splitlines() if "Active:" in line))


@case
def watchdog_is_fed():
    write(f"/run/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=4s\n")
    sh(["systemctl", "daemon-reload"])
    sh(["systemctl", "restart", UNIT])
    pid, p = daemon(), worker()
    try:
        began = prop(UNIT, "WatchdogTimestampMonotonic")
        time.sleep(15)
        equal((daemon(), prop(UNIT, "NRestarts")), (pid, "0"))
        fed = int(prop(UNIT, "WatchdogTimestampMonotonic")) - int(began)
        saw(f"fed until {fed / 1e6:.1f} s after the first look")
        assert fed > 0
    finally:
        end(p)


def switches(pid):
    """How often it has slept."""
    return next(line.split()[1] for line in read(f"/proc/{pid}/status").splitlines() if line.startswith("voluntary"))


def slept(pid, seconds):
    before = switches(pid)
    time.sleep(seconds)
    return switches(pid) == before


@case
def watchdog_rests_while_the_daemon_is_idle():
    pid = daemon()
    until("the idle daemon has slept for 12 s, three times its watchdog's", lambda: slept(pid, 12))
    equal((daemon(), prop(UNIT, "NRestarts")), (pid, "0"))


@case
def watchdog_ends_a_daemon_that_hangs():
    pid, p = daemon(), worker()
    try:
        os.kill(pid, signal.SIGSTOP)
        new = until("systemd started another", lambda: daemon() not in (0, pid) and daemon())
        until("the worker is attached to it", lambda: attached(p.pid))
        saw(f"restarts {prop(UNIT, 'NRestarts')}, result before: watchdog, {pid} became {new}")
        assert p.poll() is None
    finally:
        end(p)
        sh(f"rm -r /run/systemd/system/{UNIT}.d && systemctl daemon-reload && systemctl restart {UNIT}")


def right_output(rounds):
    return out([WORKER, "--threads", "3", "--rounds", str(rounds)], timeout=600)


@case
def clients_live_through_restart_stop_and_death():
    rounds = 1500
    want = right_output(rounds)
    long = worker()
    seen = []
    try:
        for what in (f"systemctl restart {UNIT}", f"systemctl kill -s KILL --kill-who=main {UNIT}"):
            before, t = daemon(), time.monotonic()
            sh(what)
            until("another daemon is there", lambda: daemon() not in (0, before))
            until("the worker is attached", lambda: attached(long.pid) and attached(long.pid)["rung"] == "bpf")
            resumes = ask("stats")["resumes"]
            seen.append(f"{what}: attached after {time.monotonic() - t:.2f} s, resumes {resumes}")
            assert resumes >= 1
        sh(["systemctl", "stop", SOCKET, UNIT])
        assert not os.path.exists("/run/ration/rationd.sock")
        alone = sh(["ration", "run", "--", WORKER, "--threads", "3", "--rounds", str(rounds)], timeout=600)
        equal(alone.stdout, want, "output without a daemon")
        cpu = read(f"/proc/{long.pid}/stat").rsplit(")", 1)[1].split()[11]
        until("the worker goes on without a daemon", lambda: read(f"/proc/{long.pid}/stat").rsplit(")", 1)[1].split()[11] != cpu)
        sh(["systemctl", "start", SOCKET])
        until("it is attached again", lambda: attached(long.pid))
        seen.append("stopped and started: attached again")
        assert long.poll() is None
    finally:
        end(long)
    equal(out(["ration", "run", "--", WORKER, "--threads", "3", "--rounds", str(rounds)], timeout=600), want)
    saw("; ".join(seen))


@case
def configuration_is_read_again():
    write("/etc/ration/rationd.conf", "[pool]\nheadroom = 0.25\n")
    sh(["systemctl", "reload", UNIT])
    until("it says so", lambda: "configuration read again" in out(["journalctl", "--quiet", "-o", "cat", "-u", UNIT]))
    equal((prop(UNIT, "ActiveState"), prop(UNIT, "SubState")), ("active", "running"))
    os.unlink("/etc/ration/rationd.conf")
    sh(["systemctl", "reload", UNIT])


@case
def a_wrong_configuration_is_not_tried_again():
    write("/etc/ration/rationd.conf", "[pool]\nno_such = 1\n")
    try:
        sh(["systemctl", "restart", UNIT], check=False)
        until("it has failed", lambda: prop(UNIT, "ActiveState") == "failed")
        equal((prop(UNIT, "NRestarts"), prop(UNIT, "ExecMainStatus")), ("0", "2"))
    finally:
        os.unlink("/etc/ration/rationd.conf")
        sh(["systemctl", "reset-failed", UNIT, SOCKET], check=False)
        sh(["systemctl", "start", SOCKET, UNIT])
    equal(prop(UNIT, "ActiveState"), "active")


@case
def log_may_be_a_file():
    log = "/var/log/ration/rationd.log"
    write("/etc/ration/rationd.conf", f"[daemon]\nlog_file = {log}\n")
    try:
        sh(["systemctl", "restart", UNIT])
        assert " ready on " in read(log), read(log)
        os.rename(log, log + ".1")
        sh(["systemctl", "reload", UNIT])
        until("it is opened anew", lambda: os.path.exists(log) and "read again" in read(log))
        sh(["systemctl", "restart", UNIT])  # its user may be another then
        assert " ready on " in read(log), read(log)
        saw(out(f"stat -Lc '%A' {log} /var/log/private"))
    finally:
        os.unlink("/etc/ration/rationd.conf")
        sh(["systemctl", "restart", UNIT])


@case
def any_user_may_attach():
    text = out(["runuser", "-u", "tester", "--", "ration", "run", "--", "ration", "ps"])
    saw(text.splitlines()[-1])
    assert "tester" in text


main()
