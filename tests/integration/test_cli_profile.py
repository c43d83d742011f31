#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules about applications: which one `ration run` goes by, what it does with wrong ones, and `ration profile`."""
import glob
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_common import BUILD, RATION, ROOT, TMP, Skip, clean_env, compile_c, equal, harmless_lib, has, main, ration

LIB = harmless_lib()
SHIPPED = os.path.join(ROOT, "systemd/apps.d")
# A directory of rules, and a program that prints what it was given.
RULES = os.path.join(TMP, "rules")
BIN = os.path.join(TMP, "bin")


def write(path, text, mode=0o644):
    path = os.path.join(TMP, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def rules(text, name="test.conf"):
    """The only file of rules."""
    shutil.rmtree(RULES, ignore_errors=True)
    return write(f"rules/{name}", text)


def prog(name):
    return write(f"bin/{name}", '#!/bin/sh\necho "threads=$RATION_THREADS maxprocs=$RATION_MAXPROCS A=$A"\n', 0o755)


def run(*args, **env):
    return ration("run", *args, env={"RATION_LIB": LIB, "RATION_PROFILES": RULES, **env})


def profile(*args, **env):
    return ration("profile", *args, env={"RATION_PROFILES": RULES, **env})


def gives(threads="", maxprocs="", a=""):
    return f"threads={threads} maxprocs={maxprocs} A={a}\n"


def clean(p, out):
    equal((p.returncode, p.stdout, p.stderr), (0, out, ""))


# ---- ration run

def a_rule_sets_what_it_says():
    rules("[app]\nmatch = app\nthreads = free\nmaxprocs = 3\nenv.A = x y\n")
    clean(run(prog("app")), gives("free", "3", "x y"))
    clean(run("--threads", "auto", prog("app")), gives("free", "3", "x y"))
    clean(run(prog("other")), gives())
    rules("[app]\nmatch = app\nthreads = off\n")
    clean(run(prog("app")), gives("off"))


def auto_without_a_rule_sets_nothing():
    rules("[app]\nmatch = app\nmaxprocs = 2\n")
    clean(run(prog("app")), gives("", "2"))
    clean(run("--threads", "auto", prog("app")), gives("", "2"))
    clean(run(prog("other")), gives())
    clean(run("--threads", "auto", prog("other")), gives())


def the_user_is_stronger():
    rules("[app]\nmatch = app\nthreads = free\nmaxprocs = 3\nenv.A = rule\n")
    app = prog("app")
    clean(run("--threads", "off", app), gives("off", "3", "rule"))
    clean(run(app, RATION_THREADS="off"), gives("off", "3", "rule"))
    clean(run("--threads", "auto", app, RATION_THREADS="off"), gives("free", "3", "rule"))
    clean(run(app, RATION_MAXPROCS="1", A="mine"), gives("free", "1", "mine"))
    clean(run(prog("other"), RATION_THREADS="off"), gives("off"))
    clean(run("--threads", "auto", prog("other"), RATION_THREADS="free"), gives("locked"))


def rules_act_in_a_limited_run_too():
    rules("[app]\nmatch = app\nthreads = off\nmaxprocs = 3\n")
    p = run("--cpus", "0.5", prog("app"))
    if p.returncode == 125:
        raise Skip(p.stderr.strip())
    clean(p, gives("off", "3"))


def links_are_followed():
    link = os.path.join(BIN, "link")
    if os.path.lexists(link):
        os.unlink(link)
    os.symlink(prog("real"), link)
    for match in ("link", "real", link, os.path.join(BIN, "real"), "l?nk", os.path.join(BIN, "re*")):
        rules(f"[app]\nmatch = {match}\nmaxprocs = 3\n")
        clean(run(link), gives("", "3"))
        clean(run("link", PATH=f"{BIN}:{os.environ['PATH']}"), gives("", "3"))
    rules("[app]\nmatch = lin\nmaxprocs = 3\n")
    clean(run(link), gives())


def scripts_have_rules_of_their_own():
    app, other = prog("app"), prog("other")
    rules("[sh]\nmatch = /bin/sh\nmaxprocs = 1\n[app]\nmatch = sh\nscript = app\nmaxprocs = 2\n")
    clean(run(app), gives("", "2"))
    clean(run("sh", app), gives("", "2"))
    clean(run(other), gives("", "1"))
    clean(run("/bin/sh", other), gives("", "1"))
    clean(run("/bin/sh", "-e", app), gives("", "1"))
    plain = write("bin/plain", f'exec "{app}"\n', 0o755)  # the shell's, without #!
    clean(run(plain), gives("", "1"))


def variables_of_a_rule_come_before_knobs():
    path = compile_c("bin/omp", '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts(getenv("OMP_NUM_THREADS")); }\n', "-static")
    rules("[omp]\nmatch = omp\nenv.OMP_NUM_THREADS = 77\n")
    p = run("--quiet", path)
    clean(p, "77\n")


def preload_of_a_rule_comes_after_ours():
    rules("[p]\nmatch = printenv\nenv.LD_PRELOAD = libm.so.6\n")
    clean(run("printenv", "LD_PRELOAD"), f"{LIB}:libm.so.6\n")


# ---- files

def later_directories_replace_files_by_name():
    app = prog("app")
    shutil.rmtree(os.path.join(TMP, "etc"), ignore_errors=True)
    rules("[vendor]\nmatch = app\nmaxprocs = 1\n", "app.conf")
    write("rules/second.conf", "[second]\nmatch = app\nenv.A = second\n")
    etc = os.path.dirname(write("etc/zzz", "[no]\nmatch = app\n"))  # no .conf
    write("etc/.hidden.conf", "[no]\nmatch = app\n")
    both = {"RATION_PROFILES": f"{RULES}:{etc}"}
    clean(run(app, **both), gives("", "", "second"))
    write("etc/second.conf", "[etc]\nmatch = app\nmaxprocs = 2\n")
    clean(run(app, **both), gives("", "2"))
    write("etc/second.conf", "")
    clean(run(app, **both), gives("", "1"))
    os.unlink(os.path.join(etc, "second.conf"))
    os.symlink("/dev/null", os.path.join(etc, "second.conf"))
    clean(run(app, **both), gives("", "1"))
    write("etc/aaa.conf", "[etc]\nmatch = app\nmaxprocs = 4\n")  # of equals, that of the later directory
    clean(run(app, **both), gives("", "4"))
    clean(run(app, RATION_PROFILES=""), gives())


def profile_names_one_more_file():
    rules("[app]\nmatch = app\nmaxprocs = 1\n")
    more = write("more.rules", "[more]\nmatch = app\nmaxprocs = 2\n")
    clean(run("--profile", more, prog("app")), gives("", "2"))
    p = run("--profile", "/no/such.rules", prog("app"))
    equal((p.returncode, p.stdout), (125, ""))
    equal(p.stderr, "ration run: /no/such.rules: No such file or directory\n")
    p = run("--quiet", "--profile", "/no/such.rules", prog("app"))
    equal((p.returncode, p.stdout), (125, ""))
    has(p.stderr, "/no/such.rules: No such file")
    equal(run("--profile", TMP, prog("app")).returncode, 125)
    equal(profile("--profile", "/no/such.rules").returncode, 1)


def a_wrong_rule_is_named_and_the_program_runs():
    path = rules("[app]\nmatch = app\nmaxprocs = 1\n\n[app]\nmatch = app\nthread = off\n")
    p = run(prog("app"))
    equal((p.returncode, p.stdout), (0, gives("", "1")))
    equal(p.stderr, f"ration run: {path}:7: unknown key 'thread'; did you mean 'threads'?\n")
    clean(run("--quiet", prog("app")), gives("", "1"))
    rules("x\n" + "[a]\nx\n" * 99)
    p = run(prog("app"))
    equal((p.returncode, p.stdout), (0, gives()))
    equal(p.stderr.count("\n"), 9)
    has(p.stderr, "and 92 more")


def odd_files_do_no_harm():
    rules("[app]\nmatch = app\nmaxprocs = 1\n")
    os.mkfifo(os.path.join(RULES, "fifo.conf"))
    os.mkdir(os.path.join(RULES, "dir.conf"))
    os.symlink("/no/such", os.path.join(RULES, "lost.conf"))
    with open(os.path.join(RULES, "zero.conf"), "wb") as f:
        f.write(b"[a]\nmatch = app\0\n")
    with open(os.path.join(RULES, "large.conf"), "w") as f:
        f.truncate(1 << 20)
    p = run(prog("app"))
    equal((p.returncode, p.stdout), (0, gives("", "1")))
    for part in ("fifo.conf: not a file", "dir.conf: not a file", "lost.conf: No such file", "zero.conf: not a text", "large.conf: larger"):
        has(p.stderr, part)
    equal(p.stderr.count("\n"), 5)
    p = run(prog("app"), RATION_PROFILES=f"/no/such:{RULES}")
    has(p.stderr, "/no/such: No such file")
    has(p.stdout, "maxprocs=1")


def root_believes_only_root():
    if os.getuid() != 0:
        raise Skip("not root")
    path = rules("[app]\nmatch = app\nmaxprocs = 1\n")
    app = prog("app")
    for target in (path, RULES):
        mode = os.stat(target).st_mode & 0o777
        for change, back, why in (
                (lambda t: os.chown(t, 65534, 0), lambda t: os.chown(t, 0, 0), "belongs to user 65534, not to root"),
                (lambda t, m=mode: os.chmod(t, m | 0o002), lambda t, m=mode: os.chmod(t, m), "may be written by everybody"),
                (lambda t, m=mode: (os.chown(t, 0, 12345), os.chmod(t, m | 0o020)), lambda t, m=mode: (os.chown(t, 0, 0), os.chmod(t, m)),
                 "may be written by group 12345")):
            change(target)
            p = run(app)
            equal((p.returncode, p.stdout), (0, gives()))
            equal(p.stderr, f"ration run: {target}: not read: it {why}\n")
            p = profile("--check")
            equal(p.returncode, 1)
            has(p.stderr, why)
            back(target)
    clean(run(app), gives("", "1"))
    os.chown(path, 65534, 65534)
    os.chmod(path, 0o666)

    def nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    p = subprocess.run([RATION, "profile", app], env=clean_env(RATION_PROFILES=RULES), preexec_fn=nobody, capture_output=True, text=True)
    if "Permission denied" in p.stderr:
        raise Skip("nobody cannot reach the build directory")
    has(p.stdout, "maxprocs")  # for others it is as good as the rest


# ---- ration profile

def the_list_has_the_documented_keys():
    path = rules("[app]\nmatch = app\nmatch = /x/y*\nscript = s\nthreads = free\nmaxprocs = 3\nenv.A = b=c\nwhy = so\n\n[two]\nmatch = two\n")
    p = profile("--json")
    equal((p.returncode, p.stderr), (0, ""))
    equal(json.loads(p.stdout), [
        {"name": "app", "file": path, "line": 1, "match": ["app", "/x/y*"], "script": ["s"], "threads": "free", "maxprocs": 3,
         "env": {"A": "b=c"}, "why": "so"},
        {"name": "two", "file": path, "line": 10, "match": ["two"], "script": [], "threads": None, "maxprocs": None, "env": {}, "why": None}])
    p = profile()
    equal((p.returncode, p.stderr), (0, ""))
    for part in ("app, /x/y* with script s", "free maxprocs=3 A=b=c", f"{path}:1", "so\n"):
        has(p.stdout, part)
    has(profile(RATION_PROFILES="").stdout, "There are no rules")
    equal(json.loads(profile("--json", RATION_PROFILES="").stdout), [])


def a_command_is_told_its_rule():
    path = rules("[app]\nmatch = app\nthreads = free\nmaxprocs = 3\nenv.A = b\nenv.B = c\nwhy = it does\n")
    app = prog("app")
    p = profile("--json", app, "--json", B="mine")
    equal((p.returncode, p.stderr), (0, ""))
    got = json.loads(p.stdout)
    equal(list(got), ["command", "program", "untouched", "rule", "threads", "threads_by", "maxprocs", "env"])
    equal((got["command"], got["program"], got["untouched"]), (app, "/bin/sh", None))
    equal((got["threads"], got["threads_by"], got["maxprocs"], got["env"]), ("free", "rule", 3, {"A": "b"}))
    equal(got["rule"]["name"], "app")
    text = profile("--", app, B="mine").stdout
    for part in (f"[app] in {path}:1", "free (by rule)", "it does", "A=b\n", "B=c (not set: the caller has it)"):
        has(text, part)
    got = json.loads(profile("--json", app, RATION_THREADS="off").stdout)
    equal((got["threads"], got["threads_by"]), ("off", "environment"))
    got = json.loads(profile("--json", prog("other")).stdout)
    equal((got["rule"], got["threads"], got["threads_by"], got["maxprocs"], got["env"]), (None, "locked", "default", None, {}))
    static = compile_c("bin/static", "int main(void) { return 0; }\n", "-static")
    has(profile(static).stdout, "is statically linked: it runs untouched")
    has(json.loads(profile("--json", static).stdout)["untouched"], "statically")


def absent_commands_are_said():
    p = profile("no-such-command-anywhere")
    equal((p.returncode, p.stdout), (1, ""))
    has(p.stderr, "no-such-command-anywhere: command not found")
    equal(profile("/no/such").returncode, 1)
    equal(profile("--no-such-option").returncode, 2)
    has(profile("--chekc").stderr, "did you mean '--check'?")


def check_finds_mistakes():
    path = rules("[app]\nmatch = app\n")
    clean(profile("--check"), "1 rule, 0 problems\n")
    bad = write("bad.conf", "[app]\nmatch = app\nthreads = lokced\n[b]\n")
    p = profile("--check", bad, path)
    equal((p.returncode, p.stdout), (1, "1 rule, 2 problems\n"))
    equal(p.stderr, f"ration profile: {bad}:3: threads = lokced: did you mean 'locked'?\nration profile: {bad}:4: [b] says no 'match'\n")
    p = profile("--check", "--json", bad)
    equal(p.returncode, 1)
    equal(json.loads(p.stdout), {"rules": 0, "problems": [f"{bad}:3: threads = lokced: did you mean 'locked'?", f"{bad}:4: [b] says no 'match'"]})
    equal(profile("--check", "/no/such.conf").returncode, 1)
    rules("[app\n")
    equal(profile("--check").returncode, 1)
    equal(profile().returncode, 0)  # a list of what there is, all the same


# ---- what comes with ration

def shipped_rules_are_right():
    files = sorted(glob.glob(os.path.join(SHIPPED, "*.conf")))
    equal(len(files) > 0, True)
    p = profile("--check", *files)
    equal((p.returncode, p.stderr), (0, ""))
    for rule in json.loads(profile("--json", RATION_PROFILES=SHIPPED).stdout):
        picked = {"mariadb": "off", "stunnel": "off", "varnish": "free"}  # docs/free.md, "Which programs"
        equal(rule["threads"], picked.get(rule["name"], "locked"), rule["name"])
        equal(bool(rule["why"]), True, rule["name"])
        equal([m for m in rule["match"] if "/" in m], [], "paths, which /etc could not override by name")


THREAD = r"""
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
static void *look(void *arg) { /* is there a carrier among our kernel threads? */
  DIR *d = opendir("/proc/self/task/."); /* with the carriers */
  for (struct dirent *e; d && (e = readdir(d));) {
    char path[300], comm[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
    FILE *f = fopen(path, "r");
    if (!f) continue;
    if (fgets(comm, sizeof comm, f) && !strcmp(comm, "ration-carrier\n")) *(int *)arg = 1;
    fclose(f);
  }
  if (d) closedir(d);
  return NULL;
}
int main(void) {
  int carriers = 0;
  pthread_t t;
  if (pthread_create(&t, NULL, look, &carriers) || pthread_join(t, NULL)) return 1;
  puts(carriers ? "free" : "locked");
}
"""


def auto_gives_what_shipped_rules_say():
    """By the real library: a program that has the name in a rule, and nothing said by the user, has its threads as Gs where the rule says free, else not."""
    lib = os.path.join(BUILD, "libration.so")
    if not os.path.exists(lib):
        raise Skip("libration.so is not built")
    threads = compile_c("bin/threads", THREAD, "-pthread")
    for rule in json.loads(profile("--json", RATION_PROFILES=SHIPPED).stdout):
        if rule["threads"] == "off":
            continue
        app = shutil.copy(threads, os.path.join(BIN, rule["match"][0]))
        for way in ((), ("--threads", "auto")):
            p = ration("run", "--standalone", *way, "--", app, env={"RATION_LIB": lib, "RATION_PROFILES": SHIPPED})
            equal((p.returncode, p.stdout, p.stderr), (0, rule["threads"] + "\n", ""), rule["name"])
        os.unlink(app)


def shipped_rules_are_found_where_they_are_installed():
    root = os.path.join(TMP, "root")
    make = ["make", "-s", "--no-print-directory", f"BUILD={BUILD}", f"DESTDIR={root}", "PREFIX=/usr"]
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    p = subprocess.run(make + ["install"], cwd=ROOT, env=env, capture_output=True, text=True)
    if p.returncode != 0:
        raise Skip(f"make install: {p.stderr.strip()[-200:]}")
    there = os.path.join(root, "usr/lib/ration/apps.d")
    equal(sorted(os.listdir(there)), sorted(os.listdir(SHIPPED)))
    env = clean_env()
    del env["RATION_PROFILES"]
    p = subprocess.run([os.path.join(root, "usr/bin/ration"), "profile", "--json"], env=env, capture_output=True, text=True)
    equal(p.returncode, 0, p.stderr)
    found = [os.path.realpath(os.path.dirname(r["file"])) for r in json.loads(p.stdout)]
    has(found, os.path.realpath(there))
    p = subprocess.run(make + ["uninstall"], cwd=ROOT, env=env, capture_output=True, text=True)
    equal((p.returncode, os.path.exists(os.path.dirname(there))), (0, False), p.stderr)


def completion_knows_it():
    script = os.path.join(ROOT, "daemon/cli/ration.bash")
    ask = ("source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _ration; printf '%s\\n' \"${COMPREPLY[@]}\"")

    def complete(*words):
        return subprocess.run(["bash", "-c", ask, "_", script, *words], capture_output=True, text=True, cwd=TMP).stdout.split()
    has(complete("ration", "pro"), "profile")
    equal(complete("ration", "run", "--threads", "f"), ["free"])
    equal(complete("ration", "run", "--prof"), ["--profile"])
    equal(complete("ration", "profile", "--ch"), ["--check"])
    write("some.conf", "")
    equal(complete("ration", "profile", "--check", "some"), ["some.conf"])
    equal(complete("ration", "run", "--profile", "some"), ["some.conf"])


if __name__ == "__main__":
    main([a_rule_sets_what_it_says, auto_without_a_rule_sets_nothing, the_user_is_stronger, rules_act_in_a_limited_run_too, links_are_followed,
          scripts_have_rules_of_their_own, variables_of_a_rule_come_before_knobs, preload_of_a_rule_comes_after_ours,
          later_directories_replace_files_by_name, profile_names_one_more_file, a_wrong_rule_is_named_and_the_program_runs,
          odd_files_do_no_harm, root_believes_only_root, the_list_has_the_documented_keys, a_command_is_told_its_rule,
          absent_commands_are_said, check_finds_mistakes, shipped_rules_are_right, auto_gives_what_shipped_rules_say, shipped_rules_are_found_where_they_are_installed,
          completion_knows_it])
