/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command as a child, as if we were not there.
 *
 * It stays in our process group, so the terminal treats both as one job: pipelines, reading from the
 * terminal and the shell's job control work as without us.  What follows from that:
 *
 *   signal from the terminal (^C ^\ ^Z, resize)  the kernel sent it to the whole group: the child has it already
 *   signal by kill() to us                       passed on (with its value, if it was queued)
 *   sent by the command itself (kill(0, ..))     not passed on: it was meant for the group, and the command has it.  (A sender that is
 *                                                gone before we look can't be told from a kill(1) outside: passed on, for
 *                                                a signal twice is better than none)
 *   hang-up of the terminal                      the kernel tells only the session leader: passed on if that is us
 *   the child stops                              we stop by the same signal, so that the shell sees a stopped job
 *   we are continued                             so is the child
 *   the child ends                               we end the same way, without a second core file
 *   we are killed                                the child is too (PR_SET_PDEATHSIG), as the command would be without us
 *
 * Rejected: exec the command in our place and leave the cgroup to a helper.  All of the above would be
 * free, but the cgroup would go some time after the command and not before its end is reported.
 * Rejected: a process group for the child.  In a pipeline the other members would lose the terminal.
 *
 * All signals are blocked from before fork to the end; there is no handler and no race with one.  That goes for SIGSEGV and its
 * like as well, which may come by kill(): a fault of our own kills us all the same, the kernel does not let it be blocked.
 */
#include "daemon/cli/child.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
  const struct cli_command *cmd;
  const struct binary *binary;
  const char *path;
  char **argv;
  struct transient *group;
  pid_t pid;
  int go;  /* a byte is written here once the child is in its cgroup */
  int err; /* the child writes an errno here if exec fails; else closed by exec */
  sigset_t mask, old_mask;
  struct sigaction old_chld;
};

int cli_exec_failed(const struct cli_command *cmd, const char *what, int err) {
  if (err == ENOENT) {
    cli_error(cmd, "%s: %s", what, strchr(what, '/') ? strerror(err) : "command not found");
    return CLI_RUN_NOT_FOUND;
  }
  cli_error(cmd, "%s: %s", what, strerror(err));
  return err == ENOTDIR ? CLI_RUN_NOT_FOUND : CLI_RUN_NOT_EXEC;
}

/* ---- starting ---- */

static void block_signals(struct child *c) {
  sigfillset(&c->mask);
  sigprocmask(SIG_SETMASK, &c->mask, &c->old_mask);
  /* With SIGCHLD ignored, as some parents leave it, there would be nothing to wait for. */
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  sigaction(SIGCHLD, &dfl, &c->old_chld);
}

/* In the child. */
_Noreturn static void become_command(const struct child *c, pid_t parent, int go, int err) {
  char byte;
  ssize_t n;
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (getppid() != parent) _exit(CLI_RUN_FAILED);
  do n = read(go, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n != 1) _exit(CLI_RUN_FAILED);
  sigaction(SIGCHLD, &c->old_chld, NULL);
  sigprocmask(SIG_SETMASK, &c->old_mask, NULL);
  int e = -binary_exec(c->binary, c->path, c->argv);
  if (write(err, &e, sizeof(e)) < 0) _exit(CLI_RUN_FAILED);
  _exit(CLI_RUN_NOT_EXEC);
}

static int start(struct child *c) {
  int go[2], err[2];
  if (pipe2(go, O_CLOEXEC) < 0) return -errno;
  _cleanup_close_ int go_in = go[0];
  c->go = go[1];
  if (pipe2(err, O_CLOEXEC) < 0) return -errno;
  _cleanup_close_ int err_out = err[1];
  c->err = err[0];
  pid_t parent = getpid();
  fflush(NULL);
  c->pid = fork();
  if (c->pid < 0) return -errno;
  if (c->pid == 0) {
    close(c->go); /* else the child would not see us die before it is told to go */
    become_command(c, parent, go_in, err_out);
  }
  return 0;
}

/* ---- signals on their way ---- */

/* Did the process that sent it belong to the command?  Its cgroup path then has ours as one of its parts. */
static bool sent_from_inside(const struct child *c, pid_t sender) {
  char path[32], line[4096], want[TRANSIENT_NAME_MAX + 2];
  if (sender == c->pid) return true;
  if (sender <= 0) return false;
  snprintf(path, sizeof(path), "/proc/%d/cgroup", sender);
  snprintf(want, sizeof(want), "/%s", c->group->name);
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  while (f && fgets(line, sizeof(line), f)) {
    const char *at = strstr(line, want);
    if (at && strchr("/\n", at[strlen(want)])) return true;
  }
  return false;
}

static bool by_terminal_or_kernel(const siginfo_t *si) { return si->si_code > 0; }

static void pass_on(const struct child *c, const siginfo_t *si) {
  bool leader = getsid(0) == getpid();
  if (by_terminal_or_kernel(si)) {
    /* The hang-up of a terminal comes as SIGHUP and SIGCONT to the session leader alone; `fg` sends SIGCONT by kill(). */
    if (leader && (si->si_signo == SIGHUP || si->si_signo == SIGCONT)) kill(c->pid, si->si_signo);
    return;
  }
  if (si->si_pid == getpid()) return; /* SIGPIPE of our own */
  if (si->si_signo != SIGCONT && sent_from_inside(c, si->si_pid)) return;
  if (si->si_code == SI_QUEUE)
    sigqueue(c->pid, si->si_signo, si->si_value);
  else
    kill(c->pid, si->si_signo);
}

/* ---- stopping with the child ---- */

static bool in_foreground(void) {
  _cleanup_close_ int tty = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
  return tty >= 0 && tcgetpgrp(tty) == getpgrp();
}

/* To stop now would throw away a SIGCONT that came since the child stopped: it has been continued already. */
static bool continued_meanwhile(void) {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, SIGCONT) == 1;
}

/*
 * SIGSTOP to the child alone is somebody's debugging, who will continue the child alone: stopped ourselves, we would not
 * notice its end.  Only where a shell waits to get its terminal back do we stop as well.
 */
static void stop_like_child(const struct child *c, int sig) {
  if (continued_meanwhile()) return;
  if (sig == SIGSTOP) {
    if (in_foreground()) raise(SIGSTOP);
    return;
  }
  struct sigaction dfl = {.sa_handler = SIG_DFL}, old;
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, sig);
  sigaction(sig, &dfl, &old);
  raise(sig);
  sigprocmask(SIG_UNBLOCK, &one, NULL); /* here we stop; the SIGCONT that wakes us stays pending and is passed on */
  sigprocmask(SIG_SETMASK, &c->mask, NULL);
  sigaction(sig, &old, NULL);
}

/* ---- waiting ---- */

/* The wait status of the child, once it has ended. */
static int wait_for_end(const struct child *c) {
  for (;;) {
    siginfo_t si;
    int status;
    pid_t p;
    while ((p = waitpid(c->pid, &status, WNOHANG | WUNTRACED)) == c->pid) {
      if (!WIFSTOPPED(status)) return status;
      stop_like_child(c, WSTOPSIG(status));
    }
    if (p < 0 && errno == ECHILD) return CLI_RUN_FAILED << 8;
    if (sigwaitinfo(&c->mask, &si) < 0) continue; /* EINTR: by being continued */
    if (si.si_signo != SIGCHLD) pass_on(c, &si);
  }
}

/* The command died of a signal: so do we. */
static int die_of(const struct child *c, int sig) {
  struct rlimit no_core = {0};
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  sigset_t one;
  /* Its core file is the one that matters. The limit does not hold for a core_pattern that is a pipe; this does. */
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  setrlimit(RLIMIT_CORE, &no_core);
  sigemptyset(&one);
  sigaddset(&one, sig);
  sigaction(sig, &dfl, NULL);
  raise(sig);
  sigprocmask(SIG_UNBLOCK, &one, NULL);
  sigprocmask(SIG_SETMASK, &c->old_mask, NULL);
  return 128 + sig; /* a signal that does not kill us after all */
}

static void close_child(struct child *c) {
  util_closep(&c->go);
  util_closep(&c->err);
}

/* Everything between the cgroup's beginning and its end.  The wait status, or -errno said on stderr. */
static int run_in_group(struct child *c, int *exec_error) {
  char why[TRANSIENT_ERR];
  int r = start(c);
  if (r < 0) {
    cli_error(c->cmd, "cannot start the command: %s", strerror(-r));
    return r;
  }
  r = transient_attach(c->group, c->pid, why);
  if (r < 0) cli_error(c->cmd, "%s", why);
  /* Killed before it began?  The wait status tells. */
  if (r == 0 && write(c->go, "", 1) != 1) r = 0;
  util_closep(&c->go); /* without the byte, the child ends by this */
  c->go = -1;
  int status = wait_for_end(c);
  fcntl(c->err, F_SETFL, O_NONBLOCK);
  if (read(c->err, exec_error, sizeof(*exec_error)) != (ssize_t)sizeof(*exec_error)) *exec_error = 0;
  return r < 0 ? r : status;
}

int child_run(const struct cli_command *cmd, const struct binary *b, const char *path, char **argv, struct transient *t) {
  _cleanup_(close_child) struct child c = {.cmd = cmd, .binary = b, .path = path, .argv = argv, .group = t, .go = -1, .err = -1};
  char why[TRANSIENT_ERR];
  int exec_error = 0;
  block_signals(&c); /* before there is a cgroup that a signal could leave behind */
  if (transient_create(t, why) < 0) {
    cli_error(cmd, "%s", why);
    return CLI_RUN_FAILED;
  }
  int status = run_in_group(&c, &exec_error);
  if (transient_remove(t, why) < 0) cli_error(cmd, "%s", why);
  if (status < 0) return CLI_RUN_FAILED;
  if (exec_error) return cli_exec_failed(cmd, argv[0], exec_error);
  return WIFSIGNALED(status) ? die_of(&c, WTERMSIG(status)) : WEXITSTATUS(status);
}
