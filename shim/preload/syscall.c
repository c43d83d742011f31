/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libc's syscall().  Numbers that may block are bracketed, so that without BPF
 * sysmon can retake the P of a program that makes its own futexes or epolls; numbers that
 * change the process do what their wrappers do; all others are passed on.
 *
 * Raw calls are exact: no cancellation point, no first try without blocking; but a light G parks (light_call).
 * After an EINTR that only ours caused they are made again; a relative timeout that the kernel
 * does not count down by itself (as it does for ppoll, pselect6 and select) is replaced by what is left.
 *
 * clone with CLONE_VM and vfork are passed on: their child returns on the
 * parent's stack, or on one without our frame, just as it would return from libc's syscall().
 * Programs that need those have the system call inline.
 */
#include "preload/call.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "core/netpoll.h"
#include "core/place.h"
#include "core/sched.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/clock.h"
#include "preload/cpucount.h"
#include "preload/lightio.h"
#include "preload/ownthread.h"
#include "preload/process.h"
#include "preload/thread.h"
#include "preload/tid.h"
#include "preload/wire.h"

#define REAL_SYSCALL(X) X(long, syscall, (long, ...))
REAL_DEFINE(REAL_SYSCALL)

struct args {
  long a[6];
};

#define PASS(nr, x) REAL(syscall)(nr, (x)->a[0], (x)->a[1], (x)->a[2], (x)->a[3], (x)->a[4], (x)->a[5])

static bool may_block(long nr) {
  switch (nr) {
    case SYS_read:
    case SYS_write:
    case SYS_readv:
    case SYS_writev:
    case SYS_pread64:
    case SYS_pwrite64:
    case SYS_preadv:
    case SYS_pwritev:
    case SYS_preadv2:
    case SYS_pwritev2:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_ppoll:
    case SYS_pselect6:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_futex:
    case SYS_futex_waitv:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_syncfs:
    case SYS_sync_file_range:
    case SYS_msync:
    case SYS_sendfile:
    case SYS_splice:
    case SYS_tee:
    case SYS_vmsplice:
    case SYS_copy_file_range:
    case SYS_flock:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_mq_timedreceive:
    case SYS_mq_timedsend:
    case SYS_rt_sigtimedwait:
    case SYS_rt_sigsuspend:
    case SYS_io_uring_enter:
    case SYS_io_getevents:
    case SYS_io_pgetevents:
    case SYS_getrandom:
#ifdef SYS_poll
    case SYS_poll:
    case SYS_select:
    case SYS_epoll_wait:
    case SYS_pause:
#endif
      return true;
    default:
      return false;
  }
}

/* Changes of credentials; as raw calls they are for one thread, and those that only ration knows follow it. */
static bool sets_creds(long nr) {
  switch (nr) {
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setgroups:
      return true;
    default:
      return false;
  }
}

static long fork_by(long nr, const struct args *x) {
  process_fork_prepare();
  long pid = PASS(nr, x);
  if (pid == 0)
    process_fork_child();
  else
    process_fork_parent();
  return pid;
}

static bool is_fork(long nr, const struct args *x) {
#ifdef SYS_fork
  if (nr == SYS_fork) return true;
#endif
  if (nr == SYS_clone3) {
    const struct clone_args *c = (const struct clone_args *)x->a[0]; /* none, and of no size: who asks whether there is such a call */
    return (size_t)x->a[1] >= CLONE_ARGS_SIZE_VER0 && sys_can_read(c, CLONE_ARGS_SIZE_VER0) && !(c->flags & CLONE_VM);
  }
  return nr == SYS_clone && !(x->a[0] & (CLONE_VM | CLONE_VFORK));
}

/* The two that tell where the kernel is to clear a thread's tid; of a thread G we do that. */
static bool tid_address(long nr, const struct args *x, long *r) {
  struct thread *self = thread_self();
  if (!self || nr != SYS_set_tid_address) return false;
  *r = thread_set_tid_address(self, (int *)x->a[0]);
  return true;
}

static void before(long nr, const struct args *x) {
  ownthread_before_syscall(nr, x->a);
  if (sets_creds(nr)) ownthread_before();
  switch (nr) {
    case SYS_seccomp:
      process_before_seccomp((unsigned)x->a[0]);
      break;
    case SYS_unshare:
      process_before_unshare((int)x->a[0]);
      break;
    case SYS_setns:
      process_before_setns();
      break;
    case SYS_chroot:
    case SYS_setrlimit:
    case SYS_prlimit64:
      process_ready();
      break;
    case SYS_ptrace:
      process_before_ptrace(x->a[0]);
      break;
    case SYS_bpf:
      cpucount_kernel_ids_used();
      break;
    case SYS_rseq:
      cpucount_kernel_ids_used();
      break;
    default:
      break;
  }
}

/* Whom signals are for may be a thread G: preload/tid.c. */
static bool ioctl_by_name(unsigned long what) {
  return what == FIONBIO || what == FIOSETOWN || what == SIOCSPGRP || what == FIOGETOWN || what == SIOCGPGRP;
}
static bool fcntl_by_name(int cmd) {
  return cmd == F_GETFL || cmd == F_SETFL || cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC || cmd == F_SETOWN_EX || cmd == F_GETOWN_EX ||
         cmd == F_SETOWN;
}

/* Descriptors come and go, or wait otherwise: the netpoller is told, by the function of that name, which is no cancellation point. */
static bool descriptor_call(long nr, const struct args *x, long *r) {
  const long *a = x->a;
  switch (nr) {
    case SYS_dup:
      return *r = dup((int)a[0]), true;
#ifdef SYS_dup2
    case SYS_dup2:
      return *r = dup2((int)a[0], (int)a[1]), true;
#endif
    case SYS_dup3:
      return *r = dup3((int)a[0], (int)a[1], (int)a[2]), true;
    case SYS_close_range:
      return *r = close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]), true;
    case SYS_ioctl:
      return ioctl_by_name((unsigned long)a[1]) && (*r = ioctl((int)a[0], (unsigned long)a[1], a[2]), true);
    case SYS_setsockopt:
      return *r = setsockopt((int)a[0], (int)a[1], (int)a[2], (const void *)a[3], (socklen_t)a[4]), true;
    case SYS_fcntl:
      return fcntl_by_name((int)a[1]) && (*r = fcntl((int)a[0], (int)a[1], a[2]), true);
    default:
      return false;
  }
}

/* The few numbers that are more than a bracket. */
static long special(long nr, struct args *x) {
  long r;
  tid_raw(nr, x->a);
  if (nr == SYS_close && netpoll_is_own((int)x->a[0])) return close((int)x->a[0]);
  if (nr == SYS_close) {
    bool ours = lightio_forget((int)x->a[0]);
    r = PASS(nr, x);
    if (ours) netpoll_wake((int)x->a[0]);
    return r;
  }
  if (descriptor_call(nr, x, &r)) return r;
  if (nr == SYS_execve || nr == SYS_execveat) {
    unsigned what = process_exec_begin();
    r = PASS(nr, x);
    process_exec_failed(what);
    return r;
  }
  if (nr == SYS_sched_getaffinity) {
    r = PASS(nr, x);
    if (r > 0 && cpucount_hidden((uint32_t)x->a[0], (size_t)r, (const void *)x->a[2])) r = PASS(nr, x);
    if (r > 0) cpucount_trim_mask((pid_t)x->a[0], (size_t)r, (void *)x->a[2]);
    return r;
  }
  if (nr == SYS_sched_setaffinity) {
    struct args y = *x;
    struct cpus buf;
    size_t size = (size_t)x->a[1];
    const void *mask = (const void *)x->a[2];
    cpucount_before_set((pid_t)x->a[0], &size, &mask, &buf);
    y.a[1] = (long)size;
    y.a[2] = (long)mask;
    if (x->a[0] > 0) place_sets((uint32_t)x->a[0]);
    return PASS(nr, &y);
  }
  if (nr == SYS_gettid) return gettid();
  if (nr == SYS_exit) thread_exits_raw((int)x->a[0]);
  if (nr == SYS_prctl) return prctl((int)x->a[0], x->a[1], x->a[2], x->a[3], x->a[4]);
  if (tid_address(nr, x, &r) || clock_raw(nr, x->a, &r)) return r;
  long killed;
  if ((nr == SYS_tgkill || nr == SYS_tkill || nr == SYS_rt_tgsigqueueinfo) && wire_raw_kill(nr, x->a, &killed)) return killed;
  if (nr == SYS_sched_yield) return gate_yield() ? 0 : PASS(nr, x);
  if (is_fork(nr, x)) return fork_by(nr, x);
  before(nr, x);
  r = PASS(nr, x);
  if (r == 0 && nr == SYS_sched_setscheduler) wire_policy_set((int)x->a[1]);
  if (r == 0 && nr == SYS_sched_setattr) wire_policy_set((int)((const uint32_t *)x->a[1])[1]); /* size, policy, ... */
  if (r == 0 && sets_creds(nr) && !process_in_vfork_child()) gate_mirror_creds(nr, x->a[0], x->a[1], x->a[2]);
  return r;
}

/* Which argument is a relative timeout: a timespec, or ms. -1: none, or one that the kernel updates. */
static int relative_timespec(long nr, const struct args *x) {
  switch (nr) {
    case SYS_futex:
      return (x->a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT ? 3 : -1;
    case SYS_nanosleep:
      return 0;
    case SYS_clock_nanosleep:
      return x->a[1] & TIMER_ABSTIME ? -1 : 2;
    case SYS_rt_sigtimedwait:
      return 2;
    case SYS_epoll_pwait2:
    case SYS_semtimedop:
      return 3;
    default:
      return -1;
  }
}

static int relative_ms(long nr) {
  switch (nr) {
    case SYS_epoll_pwait:
      return 3;
#ifdef SYS_poll
    case SYS_poll:
      return 2;
    case SYS_epoll_wait:
      return 3;
#endif
    default:
      return -1;
  }
}

/* Sets the time that is left of a call that began at `began`; what the kernel has read once can be read. */
static void count_down(long nr, struct args *x, uint64_t began, struct timespec *left, uint64_t *deadline) {
  int ts = relative_timespec(nr, x), ms = relative_ms(nr);
  if (ts >= 0 && x->a[ts]) {
    const struct timespec *t = (const struct timespec *)x->a[ts];
    if (*deadline == 0) *deadline = began + (uint64_t)t->tv_sec * CALL_NS + (uint64_t)t->tv_nsec;
    *left = call_left(*deadline);
    x->a[ts] = (long)left;
  } else if (ms >= 0 && (int)x->a[ms] > 0) {
    if (*deadline == 0) *deadline = began + (uint64_t)(int)x->a[ms] * 1000000;
    *left = call_left(*deadline);
    x->a[ms] = left->tv_sec * 1000 + left->tv_nsec / 1000000;
  }
}

/*
 * What a light G can park in, it parks in: the wrapper of that name takes the same arguments, and returns the same.  Not those with a
 * timeout that the kernel counts down in the caller's memory, nor with a mask.
 */
static bool light_call(long nr, const struct args *x, long *r) {
  const long *a = x->a;
  switch (nr) {
    case SYS_read:
      return *r = read((int)a[0], (void *)a[1], (size_t)a[2]), true;
    case SYS_write:
      return *r = write((int)a[0], (const void *)a[1], (size_t)a[2]), true;
    case SYS_readv:
      return *r = readv((int)a[0], (const struct iovec *)a[1], (int)a[2]), true;
    case SYS_writev:
      return *r = writev((int)a[0], (const struct iovec *)a[1], (int)a[2]), true;
    case SYS_recvfrom:
      return *r = recvfrom((int)a[0], (void *)a[1], (size_t)a[2], (int)a[3], (struct sockaddr *)a[4], (socklen_t *)a[5]), true;
    case SYS_sendto:
      return *r = sendto((int)a[0], (const void *)a[1], (size_t)a[2], (int)a[3], (const struct sockaddr *)a[4], (socklen_t)a[5]), true;
    case SYS_recvmsg:
      return *r = recvmsg((int)a[0], (struct msghdr *)a[1], (int)a[2]), true;
    case SYS_sendmsg:
      return *r = sendmsg((int)a[0], (const struct msghdr *)a[1], (int)a[2]), true;
    case SYS_accept:
      return *r = accept((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2]), true;
    case SYS_accept4:
      return *r = accept4((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2], (int)a[3]), true;
    case SYS_connect:
      return *r = connect((int)a[0], (const struct sockaddr *)a[1], (socklen_t)a[2]), true;
    case SYS_nanosleep:
      return *r = nanosleep((const struct timespec *)a[0], (struct timespec *)a[1]), true;
    case SYS_epoll_pwait:
      return !a[4] && (*r = epoll_wait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3]), true);
#ifdef SYS_poll
    case SYS_poll:
      return *r = poll((struct pollfd *)a[0], (nfds_t)a[1], (int)a[2]), true;
    case SYS_epoll_wait:
      return *r = epoll_wait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3]), true;
#endif
    default:
      return false;
  }
}

static long bracketed_call(long nr, struct args *x) {
  struct signal_mark mark = signal_mark();
  struct timespec left;
  uint64_t deadline = 0;
  bool is_lock = nr == SYS_futex && (x->a[1] & FUTEX_CMD_MASK) != FUTEX_WAKE; /* who wakes does not block */
  uint64_t began = relative_timespec(nr, x) >= 0 || relative_ms(nr) >= 0 ? call_now() : 0;
  for (;;) {
    bool again;
    long r = CALL_TRY(long, is_lock ? call_enter_lock() : call_enter(), PASS(nr, x), &mark, again);
    if (!again) return r;
    count_down(nr, x, began, &left, &deadline);
  }
}

/* Null: it is no call about a futex with an owner, or the kernel is to say what is wrong with it. */
static _Atomic uint32_t *owned_futex(long nr, const struct args *x) {
  if (__builtin_expect(!free_mode, 1) || nr != SYS_futex) return NULL;
  int op = (int)x->a[1] & FUTEX_CMD_MASK;
  bool second = op == FUTEX_WAIT_REQUEUE_PI || op == FUTEX_CMP_REQUEUE_PI;
  if (!second && op != FUTEX_LOCK_PI && op != FUTEX_LOCK_PI2 && op != FUTEX_TRYLOCK_PI && op != FUTEX_UNLOCK_PI) return NULL;
  long word = x->a[second ? 4 : 0];
  return word % 4 == 0 && sys_can_read((void *)word, sizeof(uint32_t)) ? (_Atomic uint32_t *)word : NULL;
}

#define OWNED_TRIES 100 /* then the error is the program's */

/*
 * Its owner is a thread of the kernel's, and so is who waits for it.  An error may say only that the owner has got it meanwhile, and has made the word its own; of which nothing
 * is to be seen any more where another one that waits has made it the kernel's again.
 */
static long owned_call(long nr, struct args *x, _Atomic uint32_t *word) {
  int op = (int)x->a[1] & FUTEX_CMD_MASK, tries = 0;
  long r;
  free_wire(FREE_WIRE_OBJECT);
  do {
    tid_pi_to_kernel(word);
    r = bracketed_call(nr, x);
  } while (r < 0 && (call_errno() == ESRCH || call_errno() == EINVAL) && tries++ < OWNED_TRIES);
  if (r == 0 && op != FUTEX_UNLOCK_PI && op != FUTEX_CMP_REQUEUE_PI) tid_pi_to_program(word);
  return r;
}

static long blocking(long nr, struct args *x) {
  long parked;
  if (nr == SYS_clock_nanosleep && clock_raw(nr, x->a, &parked)) return parked;
  if (light_running() && light_call(nr, x, &parked)) return parked;
  _Atomic uint32_t *word = owned_futex(nr, x);
  return __builtin_expect(word != NULL, 0) ? owned_call(nr, x, word) : bracketed_call(nr, x);
}

EXPORT long syscall(long nr, ...) {
  struct args x;
  va_list ap;
  va_start(ap, nr);
  for (int i = 0; i < 6; i++) x.a[i] = va_arg(ap, long);
  va_end(ap);
  return may_block(nr) ? blocking(nr, &x) : special(nr, &x);
}
