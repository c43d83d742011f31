#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""ration run: what a user of the wrapped command must not notice, and what must be gone afterwards."""
import json
import os
import pty
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cli_common import BUILD, PATIENCE, RATION, TMP, Group, Skip, clean_env, compile_c, equal, harmless_lib, has, main, ration, until

LIB = harmless_lib()
G = Group()


def run(*args, env=None, **kw):
    return ration("run", *args, env={"RATION_LIB": LIB, **(env or {})}, preexec_fn=G.enter, **kw)


def start(*args, env=None, **kw):
    return subprocess.Popen([RATION, "run", *args], env=clean_env(RATION_LIB=LIB, **(env or {})), preexec_fn=G.enter,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def script(name, text):
    path = os.path.join(TMP, name)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o755)
    return path


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(n) for n in f.read().split()]


def command_of(p):
    """The command's pid, once it has replaced ration's child."""
    def ready():
        c = children(p.pid)
        return c and os.path.basename(os.readlink(f"/proc/{c[0]}/exe")) != "ration" and c[0]
    return until(ready, "the command runs")


def state(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def gone():
    equal(G.groups(), [], "transient cgroups left")


# ---- exit status

def exit_status_passes_through():
    for how in ((), ("--cpus", "0.5")):
        for status in (0, 1, 42, 255):
            equal(run(*how, "--", "sh", "-c", f"exit {status}").returncode, status, how)
    gone()


def death_by_signal_passes_through():
    for how in ((), ("--cpus", "0.5")):
        for sig in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGUSR1):
            equal(run(*how, "--", "sh", "-c", f"kill -{sig.value} $$").returncode, -sig.value, how)
    gone()


def second_core_is_not_dumped():
    """The command may leave its core file; ration, which dies the same way, may not."""
    with open("/proc/sys/kernel/core_pattern") as f:
        if f.read().startswith("|"):
            raise Skip("core_pattern is a pipe here")
    d = os.path.join(TMP, "cores")
    os.mkdir(d)
    p = run("--cpus", "0.5", "--", "sh", "-c", "ulimit -c 0; kill -SEGV $$", cwd=d)
    equal(p.returncode, -signal.SIGSEGV)
    equal(os.listdir(d), [], "core files")


def failures_have_the_statuses_of_a_shell():
    for how in ((), ("--cpus", "0.5")):
        p = run(*how, "--", "no-such-command-anywhere")
        equal(p.returncode, 127)
        has(p.stderr, "no-such-command-anywhere: command not found")
        equal(run(*how, "--", "/no/such/file").returncode, 127)
        equal(run(*how, "--", "/etc").returncode, 126)
        plain = os.path.join(TMP, "plain")
        open(plain, "w").close()
        equal(run(*how, "--", plain).returncode, 126)
        p = run(*how, "--", script("lost", "#!/no/such/interpreter\n"))
        equal(p.returncode, 127)
        has(p.stderr, "/no/such/interpreter")
    equal(run("--").returncode, 125)
    gone()


def text_without_shebang_is_given_to_the_shell():
    equal(run("--", script("plainsh", "exit 9\n")).returncode, 9)
    equal(run("--cpus", "1", "--", script("plainsh", "exit 9\n")).returncode, 9)


# ---- environment

def preload_is_put_first_and_once():
    p = run("--", "sh", "-c", "echo $LD_PRELOAD", env={"LD_PRELOAD": "/lib/x86_64-linux-gnu/libm.so.6"})
    if not os.path.exists("/lib/x86_64-linux-gnu/libm.so.6"):
        raise Skip("no libm where Debian has it")
    equal(p.stdout.strip(), f"{LIB}:/lib/x86_64-linux-gnu/libm.so.6")
    p = run("--", RATION, "run", "--", "sh", "-c", "echo $LD_PRELOAD")
    equal(p.stdout.strip(), LIB)


def options_reach_the_command():
    p = run("--threads", "off", "--name", "a b", "--standalone", "--socket", "/x/y", "--", "env")
    for line in ("RATION_THREADS=off", "RATION_NAME=a b", "RATION_STANDALONE=1", "RATION_SOCKET=/x/y"):
        has(p.stdout.splitlines(), line)
    for mode in ("locked", "free"):
        has(run("--threads", mode, "--", "env").stdout.splitlines(), f"RATION_THREADS={mode}")
    p = run("--", "env", env={"RATION_SOCKET": "/from/user"})
    has(p.stdout.splitlines(), "RATION_SOCKET=/from/user")
    for name in ("RATION_THREADS", "RATION_STANDALONE", "RATION_NAME"):
        if name in p.stdout:
            raise AssertionError(f"{name} was set unasked")


def options_of_the_command_are_its_own():
    equal(run("echo", "--cpus", "x", "-h").stdout, "--cpus x -h\n")


def missing_library_is_said():
    p = run("--", "true", env={"RATION_LIB": "/no/lib.so"})
    equal(p.returncode, 125)
    has(p.stderr, "RATION_LIB=/no/lib.so: No such file")


def real_library_gives_the_cpu_count():
    lib = os.path.join(BUILD, "libration.so")
    if not os.path.exists(lib):
        raise Skip("libration.so is not built")
    if os.cpu_count() < 2:
        raise Skip("one CPU")
    p = run("--standalone", "--cpus", "1", "--", "nproc", env={"RATION_LIB": lib})
    equal(p.stdout.strip(), "1", p.stderr)


# ---- bad input

def bad_limits_are_refused():
    for bad in ("0", "0.0", "-1", "nan", "inf", "x", "", "1e3", "0x1", "1.5.5", " 1", "1,5", "0.0001", "100000",
                "99999999999999999999999999", "."):
        p = run(f"--cpus={bad}", "--", "echo", "ran")
        equal((p.returncode, p.stdout), (125, ""), bad)
        has(p.stderr, "ration run: --cpus")
    for bad in ("0", "1us", "2s", "abc", "-5ms", "5 ms", "ms"):
        p = run("--cpus", "1", f"--period={bad}", "--", "echo", "ran")
        equal((p.returncode, p.stdout), (125, ""), bad)
        has(p.stderr, "ration run: --period")
    for bad in ("abc", "-5ms", "5 ms", "ms", "51ms", "1h", "9" * 40):  # more than the limit, too
        p = run("--cpus", "0.5", f"--burst={bad}", "--", "echo", "ran")
        equal((p.returncode, p.stdout), (125, ""), bad)
        has(p.stderr, "ration run: --burst")
    gone()


def wrong_words_get_the_nearest_right_one():
    p = run("--cpu=1", "true")  # an abbreviation is fine
    equal(p.returncode, 0, p.stderr)
    p = run("--cpsu", "1", "true")
    equal(p.returncode, 125)
    has(p.stderr, "did you mean '--cpus'?")
    for word in ("--p", "--p=1"):
        p = run(word, "1", "true")
        equal(p.returncode, 125)
        has(p.stderr, "option '--p' is ambiguous: --period or --profile?")
    has(run("--s", "1", "true").stderr, "option '--s' is ambiguous: --standalone or --socket?")
    has(run("--", "--p").stderr, "--p: command not found")
    has(run("--threads", "lokced", "true").stderr, "did you mean 'locked'?")
    has(run("--threads", "zebra", "true").stderr, "want 'off', 'locked', 'free' or 'auto'")
    has(run("--cpus").stderr, "needs an argument")
    has(run("--standalone=1", "true").stderr, "takes no argument")
    has(run("-Z", "true").stderr, "unknown option '-Z'")
    equal(run("--name", "x" * 64, "true").returncode, 125)
    for wrong, right in (("rnu", "run"), ("quotas", "quota"), ("pol", "pool"), ("sta", "stats"), ("profil", "profile"), ("--vresion", "--version")):
        p = ration(wrong)
        equal(p.returncode, 2)
        has(p.stderr, f"did you mean 'ration {right}'?")
    has(ration("sleep").stderr, "ration run -- sleep")
    equal(ration().returncode, 2)
    for word in ("run", "quota", "ps", "pool", "stats", "profile"):
        p = ration(word, "--help")
        equal((p.returncode, p.stderr), (0, ""))
        has(p.stdout, f"Usage: ration {word}")
        has(ration("help", word).stdout, f"Usage: ration {word}")
    has(ration("--version").stdout, "ration ")


def full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        for args, status in ((("quota",), 1), (("quota", "--help"), 1), (("--help",), 1), (("run", "--help"), 125)):
            p = subprocess.run([RATION, *args], stdout=full, stderr=subprocess.PIPE, text=True, env=clean_env())
            equal(p.returncode, status, args)
            has(p.stderr, "cannot write")


def without_root_the_need_is_said():
    if os.getuid() != 0:
        raise Skip("not root")
    os.chmod(TMP, 0o755)
    def drop():
        G.enter()
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    p = subprocess.run([RATION, "run", "--cpus", "0.5", "true"], env=clean_env(RATION_LIB=LIB), preexec_fn=drop, capture_output=True, text=True)
    if p.returncode == -signal.SIGKILL or "Permission denied" in p.stderr and "cgroup" not in p.stderr:
        raise Skip("nobody cannot reach the build directory")
    equal(p.returncode, 125)
    has(p.stderr, "needs root")
    gone()


# ---- the limit

def limit_is_set_before_the_command_runs():
    p = run("--cpus", "0.75", "--period", "50ms", "--", RATION, "quota", "--json")
    q = json.loads(p.stdout)
    equal((q["cpus"], q["quota_us"], q["period_us"], q["decided_by"]), (0.75, 37500, 50000, "cfs"))
    has(q["cgroup"], "ration-run-")
    gone()


def limit_has_a_burst():
    if not os.path.exists(os.path.join(G.dir or "/nowhere", "cpu.cfs_burst_us" if G.version == 1 else "cpu.max.burst")):
        raise Skip("this kernel saves nothing of a quota, or no cgroup can be made")
    for options, want in ((("--cpus", "0.75"), 5000), (("--cpus", "0.75", "--period", "10ms"), 1875), (("--cpus", "0.75", "--burst", "0"), 0),
                          (("--cpus", "0.75", "--burst", "2500us"), 2500), (("--cpus", "0.75", "--burst", "75"), 75000)):
        p = run(*options, "--", RATION, "quota", "--json")
        equal(json.loads(p.stdout)["burst_us"], want, options)
    gone()


def nested_runs_nest():
    if os.cpu_count() < 2:
        raise Skip("one CPU")
    p = run("--cpus", "1", "--", RATION, "run", "--cpus", "0.5", "--", RATION, "quota", "--json")
    q = json.loads(p.stdout)
    equal(q["cpus"], 0.5)
    equal([level["cpus"] for level in q["levels"][:2]], [0.5, 1.0])
    p = run("--cpus", "0.5", "--", RATION, "run", "--cpus", "1", "--", "true")
    equal(p.returncode, 125)
    has(p.stderr, "has only 0.5")
    gone()


# ---- what is left

def left_behind_processes_move_up():
    p = run("--cpus", "0.5", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    pid = int(p.stdout)
    try:
        gone()
        os.kill(pid, 0)
        if G.dir:
            has(G.procs(), pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def empty_groups_inside_go_too():
    if not G.dir:
        raise Skip("no cgroup of its own for this test")
    p = run("--cpus", "0.5", "--", "sh", "-c",
            f"d={G.dir}/$(sed -n 's%.*/%%; /^ration-run/p' /proc/self/cgroup | head -1); mkdir -p $d/a/b && echo made")
    equal((p.returncode, p.stdout), (0, "made\n"), p.stderr)
    gone()


def kill_9_takes_the_command_along_and_the_next_run_cleans():
    p = start("--cpus", "0.5", "--", "sleep", "1000")
    pid = command_of(p)
    equal(len(G.groups()), 1)
    p.kill()
    p.wait()
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the command dies with ration")
    equal(len(G.groups()), 1, "stale group")
    equal(run("--cpus", "0.5", "--", "true").returncode, 0)
    gone()


def a_living_run_is_not_cleaned():
    p = start("--cpus", "0.5", "--", "sleep", "1000")
    try:
        pid = command_of(p)
        before = G.groups()
        equal(run("--cpus", "0.5", "--", "true").returncode, 0)
        equal(G.groups(), before)
        if G.dir:
            equal(G.procs(before[0]), [pid])
    finally:
        p.terminate()
        p.wait()
    gone()


def many_at_once_do_not_meet():
    ps = [start("--cpus", "0.1", "--", "sh", "-c", f"exit {i}") for i in range(12)]
    equal([p.wait(60) for p in ps], list(range(12)), [p.stderr.read() for p in ps])
    gone()


# Another user locks each new cgroup that it can open.  Ends when it is killed, or nobody reads from it any more.
LOCKER = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
int main(int c, char **v) {
  if (c != 2 || setgid(12345) || setuid(12345) || chdir(v[1])) return 1;
  for (;;) {
    DIR *d = opendir(".");
    if (!d || write(1, ".", 1) != 1) return 1;
    for (struct dirent *e; (e = readdir(d));)
      if (strncmp(e->d_name, "ration-run-", 11) == 0) {
        int fd = open(e->d_name, O_RDONLY | O_DIRECTORY);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) close(fd);
      }
    closedir(d);
  }
}
"""


def another_user_cannot_hold_its_lock():
    if os.getuid() != 0 or not G.dir:
        raise Skip("not root, or no cgroup of its own for this test")
    prog = compile_c("locker", LOCKER)
    locker = subprocess.Popen([prog, G.dir], stdout=subprocess.PIPE, bufsize=0)
    try:
        equal(locker.stdout.read(1), b".")
        os.set_blocking(locker.stdout.fileno(), False)
        for _ in range(10):
            while locker.stdout.read(65536):
                pass
            p = run("--cpus", "0.5", "--", "echo", "ran")
            equal((p.returncode, p.stdout, p.stderr), (0, "ran\n", ""))
        equal(locker.poll(), None)
    finally:
        locker.kill()
        locker.wait()
        locker.stdout.close()
    gone()


def other_users_read_its_files_all_the_same():
    if os.getuid() != 0:
        raise Skip("not root")
    def drop():
        os.setgroups([])
        os.setgid(12345)
        os.setuid(12345)
    for mask in (0o022, 0o077):
        p = start("--cpus", "0.5", "--", "sleep", "1000", umask=mask)
        try:
            pid = command_of(p)
            q = json.loads(ration("quota", "--json", "--pid", str(pid)).stdout)
            equal(q["cpus"], 0.5)
            told = subprocess.run([RATION, "quota", "--json", "--pid", str(pid)], env=clean_env(), preexec_fn=drop, capture_output=True, text=True)
            if told.returncode and not told.stdout:
                raise Skip("others cannot reach the build directory")
            theirs = json.loads(told.stdout)
            equal((theirs["cpus"], theirs["source"], theirs["problem"]), (0.5, q["source"], None))
            with open(f"/proc/{pid}/status") as f:
                has(f.read(), f"Umask:\t{mask:04o}\n")
        finally:
            p.terminate()
            p.wait()
    gone()


# flock is refused so many times: to begin with, or for good.
NO_LOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
int flock(int fd, int how) {
  static int n;
  int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
  if (n++ >= atoi(getenv("REFUSED")) || !(how & LOCK_NB)) return real(fd, how);
  errno = EWOULDBLOCK;
  return -1;
}
"""


def a_lock_that_cannot_be_had_is_not_waited_for():
    lib = compile_c("nolock.so", NO_LOCK, "-shared", "-fPIC")
    for refused in (1, 200):
        p = run("--cpus", "0.5", "--", "echo", "ran", env={"LD_PRELOAD": lib, "REFUSED": str(refused)})
        equal((p.returncode, p.stdout, p.stderr), (0, "ran\n", ""), refused)
    p = run("--cpus", "0.5", "--", "echo", "ran", env={"LD_PRELOAD": lib, "REFUSED": "1000000"})
    equal((p.returncode, p.stdout), (125, ""))
    has(p.stderr, "another process holds the lock on each new cgroup")
    gone()


# ---- signals

CATCH = r"""
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static volatile sig_atomic_t last;
static volatile int value;
static void on(int s, siginfo_t *si, void *u) { (void)u; value = si->si_code == SI_QUEUE ? si->si_value.sival_int : 0; last = s; }
int main(void) {
  sigset_t all, old;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &old);
  for (int s = 1; s <= SIGRTMAX; s++) {
    struct sigaction sa = {.sa_sigaction = on, .sa_flags = SA_SIGINFO, .sa_mask = all};
    if (s != SIGCHLD) sigaction(s, &sa, NULL);
  }
  puts("ready"); fflush(stdout);
  for (;;) {
    last = 0;
    sigsuspend(&old);
    if (last) { printf("%d %d\n", last, value); fflush(stdout); }
    if (last == SIGTERM) return 3;
  }
}
"""


def signals_are_passed_on_once():
    prog = compile_c("catch", CATCH)
    p = start("--cpus", "0.5", "--", prog)
    equal(p.stdout.readline(), "ready\n")
    names = ("INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT", "ALRM", "PIPE", "URG", "IO", "RTMIN", "ABRT", "SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS", "TERM")
    for name in names:
        sig = signal.Signals[f"SIG{name}"].value
        p.send_signal(sig)
        equal(p.stdout.readline(), f"{sig} 0\n", name)
    equal(p.wait(60), 3)
    equal(p.stdout.read(), "")
    gone()
    for name in ("ABRT", "SEGV", "TERM"):
        p = start("--cpus", "0.5", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000")
        equal(p.stdout.readline(), "ready\n")
        p.send_signal(signal.Signals[f"SIG{name}"])
        equal(p.wait(60), -signal.Signals[f"SIG{name}"], name)
        gone()


def queued_values_are_passed_on():
    prog = compile_c("catch", CATCH)
    sender = compile_c("sender", """
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
int main(int c, char **v) { union sigval s = {.sival_int = atoi(v[2])}; return c == 3 ? sigqueue(atoi(v[1]), SIGUSR1, s) : 1; }
""")
    p = start("--cpus", "0.5", "--", prog)
    equal(p.stdout.readline(), "ready\n")
    subprocess.run([sender, str(p.pid), "4711"], check=True)
    equal(p.stdout.readline(), f"{signal.SIGUSR1.value} 4711\n")
    p.terminate()
    equal(p.wait(60), 3)


# Signals the group, and lives until ration (its grandparent) has looked at the signal: a sender that is gone cannot be looked at.
GROUPKILL = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int c, char **v) {
  char path[64], line[256];
  if (c != 2) return 1;
  signal(SIGUSR2, SIG_IGN);
  if (kill(0, SIGUSR2)) return 1;
  snprintf(path, sizeof path, "/proc/%s/status", v[1]);
  for (int i = 0; i < 5000; i++, usleep(2000)) {
    unsigned long long pending = 0;
    char state = 0;
    FILE *f = fopen(path, "r");
    if (!f) return 2;
    while (fgets(line, sizeof line, f)) {
      sscanf(line, "ShdPnd: %llx", &pending);
      sscanf(line, "State: %c", &state);
    }
    fclose(f);
    if (!(pending & 1ull << (SIGUSR2 - 1)) && state == 'S') return 0;
  }
  return 3;
}
"""


def a_signal_to_its_own_group_is_not_doubled():
    prog = compile_c("groupkill", GROUPKILL)
    p = start("--cpus", "0.5", "--", "sh", "-c", f"trap 'echo got' USR2; {prog} $PPID; echo $?; sleep 0.2; :", start_new_session=True)
    out, err = p.communicate(timeout=PATIENCE)
    equal(out, "got\n0\n", err)
    gone()


def ignored_and_blocked_signals_stay_so():
    prog = compile_c("dispositions", r"""
#include <signal.h>
#include <stdio.h>
int main(void) {
  sigset_t m;
  sigprocmask(SIG_BLOCK, NULL, &m);
  for (int s = 1; s < 32; s++) {
    struct sigaction sa;
    sigaction(s, NULL, &sa);
    if (sa.sa_handler == SIG_IGN) printf("ignored %d\n", s);
    if (sigismember(&m, s) == 1) printf("blocked %d\n", s);
  }
}
""")
    def setup():
        G.enter()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    plain = subprocess.run([prog], preexec_fn=setup, capture_output=True, text=True).stdout
    has(plain, f"ignored {signal.SIGCHLD.value}")
    p = subprocess.run([RATION, "run", "--cpus", "0.5", prog], env=clean_env(RATION_LIB=LIB), preexec_fn=setup, capture_output=True, text=True)
    equal((p.returncode, p.stdout), (0, plain))
    gone()


def descriptors_are_not_leaked():
    want = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True).stdout
    equal(run("--cpus", "0.5", "ls", "/proc/self/fd").stdout, want)
    equal(run("ls", "/proc/self/fd").stdout, want)


CLOSED = 'exec "$@" <&- >&- 2>&-'


def run_closed(*args, **env):
    """ration run without standard descriptors."""
    return subprocess.run(["sh", "-c", CLOSED, "sh", RATION, "run", *args], env=clean_env(RATION_LIB=LIB, **env), preexec_fn=G.enter, timeout=PATIENCE)


def closed_descriptors_stay_closed():
    told = os.path.join(TMP, "open")
    command = f"o=; for i in 0 1 2 3 4 5 6; do [ -e /proc/$$/fd/$i ] && o=$o$i; done; echo [$o] >{told}"
    for how in ((), ("--cpus", "0.5")):
        equal(run_closed(*how, "--", "sh", "-c", command).returncode, 0, how)
        with open(told) as f:
            equal(f.read(), "[]\n", how)
        os.unlink(told)
    equal(subprocess.run(["sh", "-c", CLOSED, "sh", RATION, "quota"], env=clean_env()).returncode, 1)
    gone()


def a_command_that_cannot_be_moved_does_not_run():
    """The message about it, above all, is not what lets it go."""
    if G.version != 1:
        raise Skip("cgroup v2: not by libcgroup")
    lib = compile_c("noattach.so", "int cgroup_attach_task_pid(void *g, int pid) { (void)g; (void)pid; return 50007; }", "-shared", "-fPIC")
    ran = os.path.join(TMP, "ran")
    p = run("--cpus", "0.5", "--", "touch", ran, env={"LD_PRELOAD": lib})
    equal(p.returncode, 125)
    has(p.stderr, "cannot move the command to the cgroup")
    equal(run_closed("--cpus", "0.5", "--", "touch", ran, LD_PRELOAD=lib).returncode, 125)
    # With one hierarchy, and so one lock, its descriptors have other numbers.
    with open("/proc/self/mounts") as f:
        mounts = [(m[1], m[3].split(",")) for m in map(str.split, f) if m[2] == "cgroup"]
    alone = "".join(f"umount {m} && " for m, options in mounts if "cpuacct" in options and "cpu" not in options) + CLOSED
    p = subprocess.run(["unshare", "-m", "sh", "-c", alone, "sh", RATION, "run", "--cpus", "0.5", "--", "touch", ran],
                       env=clean_env(RATION_LIB=LIB, LD_PRELOAD=lib), preexec_fn=G.enter, timeout=PATIENCE)
    equal(p.returncode, 125)
    equal(os.path.exists(ran), False)
    gone()


def stop_and_continue_reach_the_command():
    def own_group():
        G.enter()
        os.setpgid(0, 0)  # not orphaned: its parent is of the same session, so that SIGTSTP stops
    p = subprocess.Popen([RATION, "run", "--cpus", "0.5", "sleep", "1000"], env=clean_env(RATION_LIB=LIB), preexec_fn=own_group)
    pid = command_of(p)
    for _ in range(3):
        p.send_signal(signal.SIGTSTP)
        until(lambda: state(pid) == "T" and state(p.pid) == "T", "both stop")
        p.send_signal(signal.SIGCONT)
        until(lambda: state(pid) == "S" and state(p.pid) == "S", "both go on")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T", "the command stops")
    os.kill(pid, signal.SIGCONT)
    until(lambda: state(pid) == "S", "the command goes on")
    p.send_signal(signal.SIGINT)
    equal(p.wait(60), -signal.SIGINT)
    gone()


class Terminal:
    """bash on a terminal of its own."""

    def __init__(self):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            G.enter()
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], clean_env(RATION_LIB=LIB, PS1="$ ", TERM="dumb"))

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text):
        def found():
            if text in self.seen:
                return True
            self.seen += os.read(self.fd, 4096).decode(errors="replace")
            return text in self.seen
        os.set_blocking(self.fd, False)
        def attempt():
            try:
                return found()
            except BlockingIOError:
                return False
        until(attempt, f"{text!r} on the terminal, which shows {self.seen!r}")
        before, self.seen = self.seen.split(text, 1)
        return before

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


    def begin(self):
        """Starts a command under ration; its pid and ration's."""
        self.type(f"{RATION} run --cpus 0.5 -- sh -c 'echo pid $$ ok; exec sleep 1000'\n")
        self.expect("\npid ")
        pid = int(self.expect(" ok"))
        with open(f"/proc/{pid}/stat") as f:
            parent = int(f.read().rsplit(")", 1)[1].split()[1])
        self.job(pid, parent)
        return pid, parent

    def job(self, pid, parent):
        """Waits until the job runs in the foreground."""
        until(lambda: state(pid) == "S" and state(parent) == "S" and os.tcgetpgrp(self.fd) == os.getpgid(parent), "it runs in the foreground")

    def status(self, want):
        self.type("echo sta''tus $?\n")
        self.expect(f"status {want}")


def job_control_works_as_without():
    t = Terminal()
    try:
        job = t.begin()
        for _ in range(3):
            t.type("\x1a")
            t.expect("Stopped")
            equal([state(n) for n in job], ["T", "T"])
            t.type("fg\n")
            t.job(*job)
        t.type("\x1a")
        t.expect("Stopped")
        t.type("bg\n")
        until(lambda: [state(n) for n in job] == ["S", "S"], "it runs in the background")
        t.type("kill %1; wait %1\n")
        t.status(143)
        t.begin()
        t.type("\x03")
        t.status(130)
        t.begin()
        t.type("\x1c")
        t.status(131)
        # A pipeline whose other end reads the terminal.
        t.type(f"{RATION} run --cpus 0.5 -- echo to-cat | cat - /dev/tty | sed 's/$/ !/'\n")
        t.expect("to-cat !")
        t.type("typed\n\x04")
        t.expect("typed !")
        # The command reads the terminal itself.
        t.type(f"{RATION} run --cpus 0.5 -- sh -c 'read x; echo got-$x'\nword\n")
        t.expect("got-word")
    finally:
        t.end()
    until(lambda: not G.groups(), "all cgroups gone")


def a_hang_up_ends_the_command():
    pid, fd = pty.fork()
    if pid == 0:
        G.enter()
        os.execve(RATION, ["ration", "run", "--cpus", "0.5", "--", "sleep", "1000"], clean_env(RATION_LIB=LIB))
    until(lambda: G.groups() and children(pid), "ration runs")
    command = children(pid)[0]
    until(lambda: os.readlink(f"/proc/{command}/exe").endswith(("sleep", "coreutils")), "the command runs")
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    equal(os.WTERMSIG(status), signal.SIGHUP)
    gone()


def pid_is_kept_without_a_limit():
    p = start("--", "sh", "-c", "echo $$")
    equal(p.communicate(timeout=60)[0], f"{p.pid}\n")


if __name__ == "__main__":
    main([exit_status_passes_through, death_by_signal_passes_through, second_core_is_not_dumped, failures_have_the_statuses_of_a_shell,
          text_without_shebang_is_given_to_the_shell, preload_is_put_first_and_once, options_reach_the_command,
          options_of_the_command_are_its_own, missing_library_is_said, real_library_gives_the_cpu_count, bad_limits_are_refused,
          wrong_words_get_the_nearest_right_one, full_disk_is_an_error, without_root_the_need_is_said,
          limit_is_set_before_the_command_runs, limit_has_a_burst, nested_runs_nest, left_behind_processes_move_up, empty_groups_inside_go_too,
          kill_9_takes_the_command_along_and_the_next_run_cleans, a_living_run_is_not_cleaned, many_at_once_do_not_meet,
          another_user_cannot_hold_its_lock, other_users_read_its_files_all_the_same, a_lock_that_cannot_be_had_is_not_waited_for,
          signals_are_passed_on_once, queued_values_are_passed_on, a_signal_to_its_own_group_is_not_doubled,
          ignored_and_blocked_signals_stay_so, descriptors_are_not_leaked, closed_descriptors_stay_closed, a_command_that_cannot_be_moved_does_not_run,
          stop_and_continue_reach_the_command,
          job_control_works_as_without, a_hang_up_ends_the_command, pid_is_kept_without_a_limit])
