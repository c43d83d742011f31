#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# beside: others
"""rationd's command line, configuration, privilege, and its units."""
import os
import shutil
import subprocess
import tempfile

from rationlib import *


def rationd(*args):
    r = subprocess.run([RATIOND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    return r.returncode, r.stdout, r.stderr


def checked(text):
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write(text)
        f.flush()
        return (f.name,) + rationd("--check-config", "-c", f.name)


def check_config_says_what_is_wrong():
    name, status, out, err = checked("[pool]\nmargin = 3%\n")
    assert (status, out, err) == (0, name + ": ok\n", ""), (status, out, err)
    name, status, out, err = checked("[pool]\nhedroom = 3%\n")
    assert status == 2 and err == "rationd: %s:2: unknown key 'hedroom' in [pool]; did you mean 'headroom' in [pool]?\n" % name, err
    status, out, err = rationd("--check-config", "--config=/nonexistent/x")
    assert status == 2 and "/nonexistent/x" in err


def the_example_is_valid_and_says_the_defaults():
    path = os.path.join(ROOT, "systemd/rationd.conf")
    assert rationd("-C", "-c", path)[0] == 0
    with open(path) as f:
        text = f.read()
    lines = [line[1:] if line.startswith("#") and ("=" in line or line.startswith("#[")) else line for line in text.splitlines()]
    assert checked("\n".join(lines))[1] == 0


def wrong_options_are_refused():
    for args in (["--sokcet=/x"], ["-x"], ["extra"], ["--log-level=loud"], ["--socket="], ["--socket=" + "/x" * 80]):
        status, out, err = rationd(*args)
        assert status == 2 and err.strip() and not out, (args, status, err)
    status, out, _ = rationd("--help")
    assert status == 0 and "--check-config" in out
    status, out, _ = rationd("--version")
    assert status == 0 and "protocol 1" in out


def a_wrong_option_gets_the_nearest_right_one():
    for wrong, right in (("--sockt=/x", "--socket"), ("--sokcet", "--socket"), ("--chek-config", "--check-config"), ("--loglevel=info", "--log-level")):
        status, out, err = rationd(wrong)
        assert status == 2 and not out and "Did you mean '%s'?" % right in err, (wrong, status, err)
    for other in ("--qqq", "-x", "--socket"):  # nothing like it; a short one; one that lacks its value
        status, out, err = rationd(other)
        assert status == 2 and not out and "Did you mean" not in err and "--help" in err, (other, status, err)


def what_cannot_be_written_is_an_error():
    for arg in ("--help", "--version", "--check-config"):
        for to in (">/dev/full", ">&-"):
            r = subprocess.run(["sh", "-c", '"$0" -c /dev/null "$1" ' + to, RATIOND, arg], stderr=subprocess.PIPE, text=True, timeout=30)
            assert r.returncode == 1 and "stdout" in r.stderr, (arg, to, r)


def no_configuration_is_said_to_be_none():
    if os.path.exists("/etc/ration/rationd.conf"):
        skip("this host has a configuration")
    assert rationd("-C") == (0, "/etc/ration/rationd.conf: there is no such file; the defaults apply\n", "")


def a_socket_that_cannot_be_is_said():
    status, _, err = rationd("-f", "-B", "-s", "/proc/nonexistent/x.sock")
    assert status == 1 and "/proc/nonexistent" in err, err


def what_is_no_socket_is_left_alone():
    with Daemon(start=False) as d:
        with open(d.path, "w") as f:
            f.write("somebody's\n")
        status, _, err = rationd("-f", "-B", "-c", d.conf, "-s", d.path)
        assert status == 1 and d.path + ": there is something that is no socket" in err, (status, err)
        with open(d.path) as f:
            assert f.read() == "somebody's\n"


def all_users_can_reach_a_socket_in_a_directory_that_it_made():
    for umask in (0o022, 0o077):
        with Daemon(start=False) as d:
            where = d.dir + "/made"
            args = [where + "/s" if a == d.path else a for a in d.args]
            with open(d.log, "ab") as log:
                d.proc = subprocess.Popen(args, stderr=log, preexec_fn=lambda: os.umask(umask))
            wait_for("it is ready", lambda: " ready on " in d.text())
            assert os.stat(where).st_mode & 0o777 == 0o755, oct(os.stat(where).st_mode)
            assert os.stat(where + "/s").st_mode & 0o777 == 0o666


def only_its_own_socket_is_removed():
    with Daemon(start=False) as d:
        other = d.dir + "/other"
        conf = "[daemon]\nsocket = %s\n"
        d.args = [a for a in d.args if a not in ("-s", d.path)]
        with open(d.conf, "w") as f:
            f.write(conf % d.path)
        d.start()
        with open(d.conf, "w") as f:
            f.write(conf % other)
        with open(other, "w") as f:
            f.write("somebody's\n")
        d.proc.send_signal(signal.SIGHUP)
        wait_for("it is read again", lambda: "configuration read again" in d.text())
        d.kill(signal.SIGTERM)
        assert os.path.exists(other) and not os.path.exists(d.path)


def the_socket_of_a_later_daemon_stays():
    with Daemon() as old, Daemon(start=False) as new:
        os.rename(old.path, old.path + ".was")
        new.args = [old.path if a == new.path else a for a in new.args]
        new.start()
        assert old.kill(signal.SIGTERM) == 0
        c = Client(old.path)
        assert c.hello().kind == WELCOME
        c.close()


def only_two_capabilities_are_kept():
    need_root()
    with Daemon(bpf=True) as d:
        caps = cap_sets(d)
        assert caps["CapEff"] & ~(1 << 39 | 1 << 38) == 0, caps
        assert caps["CapPrm"] == caps["CapEff"] and caps["CapInh"] == 0 and caps["CapAmb"] == 0, caps
        assert caps["NoNewPrivs"] == 1
    with Daemon(bpf=False) as d:
        assert cap_sets(d)["CapPrm"] == 0
        c = d.client()
        assert c.hello().kind == WELCOME
        c.close()


def cap_sets(d):
    caps = {}
    for tid in os.listdir("/proc/%d/task" % d.proc.pid):
        with open("/proc/%d/task/%s/status" % (d.proc.pid, tid)) as f:
            for line in f:
                key, _, value = line.partition(":")
                if key.startswith("Cap") or key == "NoNewPrivs":
                    caps[key] = caps.get(key, 0) | int(value, 16)
    return caps


def it_runs_without_any_privilege():
    need_root()
    with Daemon(start=False) as d:
        os.chown(d.dir, 1234, 1234)
        with open(d.log, "ab") as log:
            d.proc = subprocess.Popen(d.args[:-1], stderr=log, user=1234, group=1234, extra_groups=[])
        wait_for("it is ready", lambda: " ready on " in d.text())
        assert "no BPF, processes poll" in d.text()
        c = d.client()
        w = c.hello(flags=0)
        assert w.kind == WELCOME and w.flags & WELCOME_BPF == 0
        s = c.stats()
        assert s.bpf == 0 and s.bpf_error
        c.close()


def the_log_can_be_a_file_and_is_opened_anew():
    with Daemon(start=False) as d:
        log = d.dir + "/own.log"
        with open(d.conf, "w") as f:
            f.write("[daemon]\nlog_file = %s\n" % log)
        args = [a for a in d.args if a != "-f"]
        d.proc = subprocess.Popen(args)
        wait_for("it is ready", lambda: os.path.exists(log) and " ready on " in open(log).read())
        os.rename(log, log + ".1")
        d.proc.send_signal(signal.SIGHUP)
        wait_for("it is opened anew", lambda: os.path.exists(log) and "read again" in open(log).read())


def the_units_are_hardened():
    if not shutil.which("systemd-analyze"):
        skip("no systemd-analyze")
    unit = os.path.join(ROOT, "systemd/rationd.service")
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", unit], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    level = [line for line in r.stdout.splitlines() if "Overall exposure" in line]
    if not level:
        skip("systemd-analyze says: " + r.stdout.strip()[-200:])
    assert r.returncode == 0, level
    assert float(level[0].split(":")[1].split()[0]) <= 2.5, level


def the_units_are_what_systemd_likes():
    if not shutil.which("systemd-analyze"):
        skip("no systemd-analyze")
    with open(os.path.join(ROOT, "systemd/rationd.service")) as f:
        text = f.read()
    assert "\nRestartPreventExitStatus=2\n" in text and "\nLogsDirectory=ration\n" in text, text
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/rationd.service", "w") as f:
            f.write(text.replace("ExecStart=/usr/sbin/rationd", f"ExecStart={RATIOND}"))
        shutil.copy(os.path.join(ROOT, "systemd/rationd.socket"), d)
        units = [f"{d}/rationd.service", f"{d}/rationd.socket"]
        r = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ours = [line for line in r.stdout.splitlines() if "rationd" in line]
        assert ours == [], ours


def syscall_set(name):
    out = subprocess.run(["systemd-analyze", "syscall-filter", name], stdout=subprocess.PIPE, text=True, check=True).stdout
    calls = set()
    for line in out.splitlines()[1:]:
        line = line.strip()
        if line.startswith("@"):
            calls |= syscall_set(line)
        elif line and not line.startswith("#"):
            calls.add(line)
    return calls


def allowed_by_unit():
    """What SystemCallFilter= adds up to: lines in order, '~' takes away."""
    calls = syscall_set("@default")
    with open(os.path.join(ROOT, "systemd/rationd.service")) as f:
        for line in f:
            if not line.startswith("SystemCallFilter="):
                continue
            value = line.split("=", 1)[1].strip()
            names = set()
            for word in value.lstrip("~").split():
                names |= syscall_set(word) if word.startswith("@") else {word}
            calls = calls - names if value.startswith("~") else calls | names
    return calls


def the_units_filter_allows_what_is_called():
    need_root()
    for tool in ("strace", "systemd-analyze"):
        if not shutil.which(tool):
            skip("no " + tool)
    allowed = allowed_by_unit()
    with Daemon(start=False, bpf=True) as d:
        trace = d.dir + "/trace"
        args = d.args
        d.args = ["strace", "-f", "-qq", "-o", trace] + args
        d.start()
        try:
            a, b = d.client(), d.client()
            a.hello(flags=0), b.hello(flags=0)
            a.take(0)
            a.ask_all(PS_QUERY), a.ask(QUOTA_QUERY, b"\0" * 8)
            a.page.slot(0, 0)
            wait_for("it says that it sleeps", lambda: a.page.u32(PAGE_OWNER_ASLEEP) == 1)
            wait_for("it does", lambda: "futex_waitv(" in open(trace).read())
            a.close()
            wait_for("one is gone", lambda: b.stats().clients == 1)
            b.close()
        finally:
            child = int(open("/proc/%d/task/%d/children" % (d.proc.pid, d.proc.pid)).read().split()[0])
            os.kill(child, signal.SIGTERM)
            d.proc.wait(20)
        with open(trace) as f:
            called = {line.split(None, 1)[1].split("(")[0] for line in f if "(" in line and not line.split(None, 1)[1].startswith(("<", "-", "+"))}
    assert "bpf" in called and "futex_waitv" in called, called
    assert called <= allowed, called - allowed


if __name__ == "__main__":
    run([
        check_config_says_what_is_wrong,
        the_example_is_valid_and_says_the_defaults,
        wrong_options_are_refused,
        a_wrong_option_gets_the_nearest_right_one,
        what_cannot_be_written_is_an_error,
        no_configuration_is_said_to_be_none,
        a_socket_that_cannot_be_is_said,
        what_is_no_socket_is_left_alone,
        all_users_can_reach_a_socket_in_a_directory_that_it_made,
        only_its_own_socket_is_removed,
        the_socket_of_a_later_daemon_stays,
        only_two_capabilities_are_kept,
        it_runs_without_any_privilege,
        the_log_can_be_a_file_and_is_opened_anew,
        the_units_are_hardened,
        the_units_are_what_systemd_likes,
        the_units_filter_allows_what_is_called,
    ])
