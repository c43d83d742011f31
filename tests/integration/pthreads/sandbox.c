/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a process that lets itself make only the system calls that it makes here. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "checks.h"

/* glibc's own for threads, sleeps and output, and those of the checks. */
static const int allowed[] = {
    SYS_read,
    SYS_write,
    SYS_close,
    SYS_futex,
    SYS_exit,
    SYS_exit_group,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_mmap,
    SYS_munmap,
    SYS_brk,
    SYS_rt_sigreturn,
    SYS_mprotect,
    SYS_madvise,
    SYS_clone,
    SYS_clone3,
    SYS_fstat,
    SYS_pipe2,
    SYS_rseq,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_newfstatat,
    SYS_gettid,
    SYS_getpid,
    SYS_tgkill,
    SYS_ppoll,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_getrandom,
    SYS_restart_syscall,
#ifdef SYS_poll
    SYS_poll,
#endif
};
#define NALLOWED (sizeof allowed / sizeof *allowed)

static void enter_sandbox(unsigned how, unsigned flags) {
  struct sock_filter f[NALLOWED + 3];
  unsigned n = 0;
  f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (unsigned i = 0; i < NALLOWED; i++)
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], (unsigned char)(NALLOWED - i), 0);
  f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, how);
  f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog prog = {(unsigned short)n, f};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  SAY_CALL("filter", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
}

static struct gate gate = GATE_CLOSED;
static _Atomic bool stop;
static _Atomic int begun;
static int ends[2];

static void *reads(void *arg) {
  char byte = 0;
  begun++;
  ssize_t n = read(ends[0], &byte, 1);
  say("read %zd %c", n, byte);
  nap(1);
  return arg;
}
static void *waits(void *arg) {
  begun++;
  gate_pass(&gate);
  nap(1);
  return arg;
}
static void *computes(void *arg) {
  begun++;
  while (!stop) continue;
  return arg;
}
static void *sleeps(void *arg) {
  begun++;
  while (!stop) nap(2);
  return arg;
}

static void *(*const kinds[])(void *) = {reads, waits, computes, sleeps};
#define NKINDS 4
static pthread_t threads[NKINDS];

static void begin(void) {
  for (int i = 0; i < NKINDS; i++) threads[i] = start(kinds[i], (void *)(intptr_t)(i + 1));
  gate_await(&gate, 1);
  UNTIL(begun == NKINDS);
  nap(20); /* till they wait */
}

static void end(void) {
  MUST(write(ends[1], "x", 1) == 1);
  say("read by %ld", (long)join_value(threads[0]));
  gate_open(&gate);
  stop = true;
  for (int i = 1; i < NKINDS; i++) say("ended %ld", (long)join_value(threads[i]));
  say("later %ld", (long)in_thread(waits, (void *)7));
}

static void try_sandbox(unsigned how, bool before) {
  MUST(pipe(ends) == 0);
  if (before) begin();
  enter_sandbox(how, before ? SECCOMP_FILTER_FLAG_TSYNC : 0);
  if (!before) begin();
  end();
}

static void ended_then_threads(void) { try_sandbox(SECCOMP_RET_KILL_PROCESS, false); }
static void threads_then_ended(void) { try_sandbox(SECCOMP_RET_KILL_PROCESS, true); }
static void refused_then_threads(void) { try_sandbox(SECCOMP_RET_ERRNO | EPERM, false); }
static void threads_then_refused(void) { try_sandbox(SECCOMP_RET_ERRNO | EPERM, true); }

static pthread_t other;
static void *enters(void *arg) {
  enter_sandbox(SECCOMP_RET_KILL_PROCESS, SECCOMP_FILTER_FLAG_TSYNC);
  say("born in it %ld", (long)in_thread(sleeps, (void *)5));
  return arg;
}
/* One of several threads puts them all into it. */
static void entered_by_thread(void) {
  MUST(pipe(ends) == 0);
  begin();
  other = start(enters, (void *)9);
  UNTIL(begun == NKINDS + 1);
  stop = true;
  say("%ld", (long)join_value(other));
  end();
}

const struct check sandbox_checks[] = {
    CHECK(ended_then_threads),   CHECK(threads_then_ended), CHECK(refused_then_threads),
    CHECK(threads_then_refused), CHECK(entered_by_thread),  CHECKS_END,
};
