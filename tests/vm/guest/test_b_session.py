# SPDX-License-Identifier: Apache-2.0
"""`ration run --cpus` in login sessions of cgroup v2, where nobody may make a cgroup without systemd."""
import json
import os
import re
import signal
import subprocess

from guestlib import CGROUPS, cgroup_of, case, equal, in_session, main, out, read, saw, sh, until

SESSION = r"/user\.slice/user-%d\.slice/session-[0-9a-z]+\.scope"
LOOK = """sh -c 'cd /sys/fs/cgroup$(sed "s/^0:://" /proc/self/cgroup); pwd; cat cpu.max cpu.max.burst; nproc'"""


def left():
    """Cgroups of ours, and scopes that systemd-run made for us."""
    groups = out(f"find {CGROUPS} -name 'ration-run-*'").split()
    return groups + out("systemctl list-units --no-legend --plain --all 'run-*.scope'").splitlines()


def nothing_left():
    until(f"nothing is left of it: {left()}", lambda: not left(), 20)


@case
def this_is_a_login_session():
    equal(out(["stat", "-f", "-c", "%T", CGROUPS]), "cgroup2fs")
    path, d = cgroup_of("self")
    assert re.fullmatch(SESSION % 0, path), path
    saw(f"{path}, subtree_control {read(os.path.dirname(d), 'cgroup.subtree_control')!r}")


def looks_right(text, uid, quota, count, burst="5000"):
    """What LOOK wrote in a limited cgroup."""
    where, cpu_max, saves, nproc = text.split("\n")
    assert re.fullmatch(CGROUPS + r"/user\.slice/user-%d\.slice/run-[^/]+\.scope/ration-run-[^/]+" % uid, where), where
    equal((cpu_max, saves, nproc), (quota, burst, count))
    return where.removeprefix(CGROUPS)


@case
def root_gets_the_limit():
    saw(looks_right(out("ration run --cpus 1.0 -- " + LOOK), 0, "100000 100000", "1"))
    saw(looks_right(out("ration run --cpus 1.5 --period 50ms -- " + LOOK), 0, "75000 50000", "2", "10000"))
    nothing_left()


@case
def sudo_gets_the_limit():
    where, text = in_session(f"sed s/^0::// /proc/self/cgroup; sudo ration run --cpus 0.5 -- {LOOK}", "tester").stdout.split("\n", 1)
    assert re.fullmatch(SESSION % 1000, where), where
    saw(where + " and then " + looks_right(text, 1000, "50000 100000", "1"))
    nothing_left()


@case
def limit_is_kept():
    burn = "for i in 1 2; do timeout 5 sh -c 'while :; do :; done' & done; wait; cat /sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup)/cpu.stat"
    stat = dict(line.split() for line in out(["ration", "run", "--threads", "off", "--cpus", "0.5", "--", "sh", "-c", burn]).splitlines() if " " in line)
    used = int(stat["usage_usec"]) / 1e5 / int(stat["nr_periods"])
    saw(f"{used:.2f} CPUs used of 0.5, {stat['nr_throttled']} of {stat['nr_periods']} periods throttled")
    assert 0 < used < 0.6 and int(stat["nr_throttled"]) > 5
    nothing_left()


@case
def status_output_and_input_pass_through():
    for status in (0, 1, 42, 255):
        equal(sh(["ration", "run", "--cpus", "1", "--", "sh", "-c", f"exit {status}"], check=False).returncode, status)
    for sig in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        equal(sh(["ration", "run", "--cpus", "1", "--", "sh", "-c", f"kill -{sig.value} $$"], check=False).returncode, -sig.value)
    p = subprocess.run(["ration", "run", "--cpus", "1", "--", "sh", "-c", "cat; echo err >&2"], input="in\n", capture_output=True, text=True)
    equal((p.stdout, p.stderr, p.returncode), ("in\n", "err\n", 0))
    equal(sh("ration run --cpus 1 -- no-such-command", check=False).returncode, 127)
    nothing_left()


@case
def words_and_environment_pass_through():
    words = ["a b", "", "$HOME %i", "'", '"', "ü", "--", "-p"]
    text = subprocess.run(["ration", "run", "--cpus", "1", "--", "python3", "-c", "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))", *words],
                          capture_output=True, text=True, check=True, env=dict(os.environ, MARK="x y")).stdout
    got, env = json.loads(text)
    equal(got, words)
    equal(env["MARK"], "x y")
    equal({k: v for k, v in env.items() if os.environ.get(k) != v and k not in ("MARK", "LD_PRELOAD")}, {}, "new variables")
    nothing_left()


@case
def a_signal_reaches_the_command():
    p = subprocess.Popen(["ration", "run", "--cpus", "1", "--", "sh", "-c", "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done"],
                         stdout=subprocess.PIPE, text=True)
    equal(p.stdout.readline(), "ready\n")
    p.terminate()
    equal((p.communicate(timeout=60)[0], p.returncode), ("got it\n", 7))
    nothing_left()


@case
def death_of_ration_is_the_commands():
    p = subprocess.Popen(["ration", "run", "--cpus", "1", "--", "sh", "-c", "echo $$; exec sleep 1000"], stdout=subprocess.PIPE, text=True)
    pid = int(p.stdout.readline())
    until("it is in its cgroup", lambda: "ration-run-" in cgroup_of(pid)[0])
    p.kill()
    p.wait()
    until("the command is gone", lambda: not os.path.exists(f"/proc/{pid}"), 20)
    nothing_left()


@case
def nested_and_beside_each_other():
    text = out("ration run --cpus 1.5 -- ration run --cpus 0.5 -- cat /proc/self/cgroup")
    assert text.count("ration-run-") >= 1, text
    saw(text)
    text = out("for i in 1 2 3 4; do ration run --cpus 0.$i -- ration quota & done | grep ^CPUs; wait")
    equal(sorted(line.split()[1] for line in text.splitlines()), ["0.1", "0.2", "0.3", "0.4"])
    nothing_left()


@case
def a_user_is_told_what_to_do():
    p = in_session("ration run --cpus 1 -- true", "tester", check=False)
    equal(p.returncode, 125)
    saw(p.stderr)
    assert "--cpus needs root, or a cgroup that is delegated to you" in p.stderr, p.stderr


@case
def what_a_user_is_told_to_do_works():
    p = in_session(f"systemd-run --quiet --user --scope -p Delegate=yes ration run --cpus 1 -- {LOOK}", "tester", check=False)
    saw(p.stdout + " " + p.stderr)
    equal(p.returncode, 0)
    equal(p.stdout.split("\n")[1:], ["100000 100000", "5000", "1"])


@case
def daemon_knows_the_domain():
    p = subprocess.Popen(["ration", "run", "--cpus", "0.5", "--", "sh", "-c", "sleep 1000 & wait"], stdout=subprocess.DEVNULL)
    try:
        rows = until("it is in ration ps", lambda: [r for r in json.loads(out("ration ps --json")) if "ration-run-" in r["domain"]])
        saw(rows[0]["domain"])
        pools = [q for q in json.loads(out("ration pool --json")) if "ration-run-" in q["domain"]]
        equal([(q["cpus"], q["slots"], q["gated"]) for q in pools], [(0.5, 1, True)])
    finally:
        p.terminate()
        p.wait()
        sh("pkill -x sleep", check=False)
    nothing_left()


main()
