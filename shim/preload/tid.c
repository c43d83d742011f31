/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free mode: threads by their tids.  What gettid says of a thread G no thread of the kernel's has (free/identity.h), so calls that are given one are told whom it means:
 *
 *   TID_PROCESS   kill, getpgid, getsid, prlimit             the process, as for the kernel
 *   TID_READ      sched_getscheduler, getpriority, ...       its kernel thread; of a G that is not wired one that has what all such have: ration's own
 *   tid_to_set    sched_setaffinity, setpriority, F_SETOWN   its kernel thread, which it gets first
 *
 * A G that is wired keeps its tid in the program's eyes: that may be the mark of an owner somewhere, and has to be the same when it is looked at next.
 *
 * tgkill and its kin: wire.c.  CPU clocks and timers: clock.c.  Files: taskfile.c.
 */
#include "preload/process.h"
#include "preload/tid.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#include "core/sched.h"
#include "free/free.h"
#include "free/shared.h"
#include "free/thread.h"
#include "preload/call.h"
#include "preload/wire.h"

#define REAL_TID(X)                                                                           \
  X(pid_t, gettid, (void))                                                                    \
  X(int, kill, (pid_t, int))                                                                  \
  X(int, killpg, (pid_t, int))                                                                \
  X(int, sigqueue, (pid_t, int, const union sigval))                                          \
  X(pid_t, getpgid, (pid_t))                                                                  \
  X(pid_t, getsid, (pid_t))                                                                   \
  X(int, prlimit, (pid_t, __rlimit_resource_t, const struct rlimit *, struct rlimit *))       \
  X(int, prlimit64, (pid_t, __rlimit_resource_t, const struct rlimit64 *, struct rlimit64 *)) \
  X(int, sched_getscheduler, (pid_t))                                                         \
  X(int, sched_setscheduler, (pid_t, int, const struct sched_param *))                        \
  X(int, sched_getparam, (pid_t, struct sched_param *))                                       \
  X(int, sched_setparam, (pid_t, const struct sched_param *))                                 \
  X(int, sched_rr_get_interval, (pid_t, struct timespec *))                                   \
  X(int, getpriority, (__priority_which_t, id_t))                                             \
  X(int, setpriority, (__priority_which_t, id_t, int))
REAL_DEFINE(REAL_TID)

/* In the child of a thread G's fork it is what the kernel says. */
EXPORT pid_t gettid(void) {
  struct thread *self = thread_self();
  return self && !thread_is_forked(self) ? (pid_t)thread_id(self) : REAL(gettid)();
}

static struct thread *lives(pid_t tid) {
  struct thread *t = wire_thread_by_tid(tid);
  return __builtin_expect(t && thread_lives(t), 0) ? t : NULL;
}

/* Apart from the next, which may park. */
pid_t tid_kernels(pid_t tid, enum tid_use use) {
  struct thread *t = lives(tid);
  if (!t) return tid;
  if (use == TID_PROCESS) return getpid();
  pid_t has = (pid_t)thread_kernels_tid(t);
  return has ? has : atomic_load_explicit(&sched.poller_tid, memory_order_relaxed); /* 0, the caller's, if there is none */
}

pid_t tid_to_set(pid_t tid) {
  struct thread *t = lives(tid);
  if (!t) return tid;
  if (t == thread_self())
    free_wire(FREE_WIRE_SCHED);
  else
    free_wire_other(t);
  pid_t has = (pid_t)thread_kernels_tid(t);
  return has ? has : tid;
}

struct shown {
  uint32_t kernels;
  pid_t tid;
};

static bool is_shown(struct thread *t, void *arg) {
  struct shown *s = arg;
  if (thread_kernels_tid(t) != s->kernels) return true;
  s->tid = (pid_t)thread_id(t);
  return false;
}

pid_t tid_shown(pid_t tid) {
  struct shown s = {(uint32_t)tid, tid};
  if (free_mode && tid > 0) threads_each(is_shown, &s);
  return s.tid;
}

/* Another thread G that is not wired: its policy is noted. */
static struct thread *on_paper(pid_t tid) {
  struct thread *t = lives(tid);
  return t && thread_is_g(t) && t != thread_self() ? t : NULL;
}

static int by_errno(int err) {
  if (err == 0) return 0;
  errno = err;
  return -1;
}

/* --- of the process --- */

static void sends(pid_t to, int sig) {
  if (__builtin_expect(free_mode, 0) && sig > 0 && (to == getpid() || to == 0 || (to < -1 && -to == getpgrp()))) shared_sends(sig);
}

EXPORT int kill(pid_t pid, int sig) {
  pid_t to = tid_kernels(pid, TID_PROCESS);
  sends(to, sig);
  return REAL(kill)(to, sig);
}

EXPORT int killpg(pid_t pgrp, int sig) {
  if (pgrp >= 0) sends(-pgrp, sig);
  return REAL(killpg)(pgrp, sig);
}

EXPORT int sigqueue(pid_t pid, int sig, const union sigval value) {
  pid_t to = tid_kernels(pid, TID_PROCESS);
  sends(to, sig);
  return REAL(sigqueue)(to, sig, value);
}

EXPORT pid_t getpgid(pid_t pid) { return REAL(getpgid)(tid_kernels(pid, TID_PROCESS)); }
EXPORT pid_t getsid(pid_t pid) { return REAL(getsid)(tid_kernels(pid, TID_PROCESS)); }

EXPORT int prlimit(pid_t pid, __rlimit_resource_t what, const struct rlimit *set, struct rlimit *old) {
  if (set) process_ready();
  return REAL(prlimit)(tid_kernels(pid, TID_PROCESS), what, set, old);
}
EXPORT int prlimit64(pid_t pid, __rlimit_resource_t what, const struct rlimit64 *set, struct rlimit64 *old) {
  if (set) process_ready();
  return REAL(prlimit64)(tid_kernels(pid, TID_PROCESS), what, set, old);
}

/* --- policies and priorities --- */

EXPORT int sched_getscheduler(pid_t pid) {
  int policy, priority;
  struct thread *t = lives(pid);
  if (!t || !thread_is_g(t)) return REAL(sched_getscheduler)(tid_kernels(pid, TID_READ));
  thread_get_sched(t, &policy, &priority);
  return policy;
}

EXPORT int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param) {
  struct thread *t = param && !sched_has_priorities(policy) ? on_paper(pid) : NULL;
  if (t) return by_errno(policy < 0 ? EINVAL : thread_set_sched(t, policy, param->sched_priority));
  if (pid == 0) free_wire(FREE_WIRE_SCHED);
  int r = REAL(sched_setscheduler)(tid_to_set(pid), policy, param);
  if (r >= 0) wire_policy_set(policy);
  return r;
}

EXPORT int sched_getparam(pid_t pid, struct sched_param *param) { return REAL(sched_getparam)(tid_kernels(pid, TID_READ), param); }

EXPORT int sched_setparam(pid_t pid, const struct sched_param *param) {
  struct thread *t = param ? on_paper(pid) : NULL;
  if (t) return by_errno(thread_set_sched(t, -1, param->sched_priority));
  if (pid == 0) free_wire(FREE_WIRE_SCHED);
  return REAL(sched_setparam)(tid_to_set(pid), param);
}

EXPORT int sched_rr_get_interval(pid_t pid, struct timespec *ts) { return REAL(sched_rr_get_interval)(tid_kernels(pid, TID_READ), ts); }

/* Linux: of a thread. */
EXPORT int getpriority(__priority_which_t which, id_t who) {
  return REAL(getpriority)(which, which == PRIO_PROCESS ? (id_t)tid_kernels((pid_t)who, TID_READ) : who);
}

EXPORT int setpriority(__priority_which_t which, id_t who, int prio) {
  if (which == PRIO_PROCESS && who == 0) free_wire(FREE_WIRE_SCHED);
  return REAL(setpriority)(which, which == PRIO_PROCESS ? (id_t)tid_to_set((pid_t)who) : who, prio);
}

/* --- whom a descriptor's signals are for --- */

/* F_SETOWN names the process of the thread, of which that one is asked first. */
bool tid_owns(int cmd, void **arg, struct f_owner_ex *room) {
  if (__builtin_expect(!free_mode, 1)) return false;
  switch (cmd) {
    case F_SETOWN:
      *arg = (void *)(intptr_t)tid_to_set((pid_t)(intptr_t)*arg);
      return true;
    case F_SETOWN_EX:
      if (!*arg || !sys_can_read(*arg, sizeof *room)) return true;
      *room = *(const struct f_owner_ex *)*arg;
      if (room->type == F_OWNER_TID || room->type == F_OWNER_PID) room->pid = tid_to_set(room->pid);
      *arg = room;
      return true;
    case F_GETOWN:
    case F_GETOWN_EX:
      return true;
    default:
      return false;
  }
}

int tid_owner_shown(int cmd, void *arg, int r) {
  struct f_owner_ex *o = arg;
  if (cmd == F_GETOWN) return (int)tid_shown(r);
  if (cmd == F_GETOWN_EX && o->type == F_OWNER_TID) o->pid = tid_shown(o->pid);
  return r;
}

/* --- futexes that know their owner --- */

/*
 * The program writes what gettid says into the word of such a futex, and the kernel what it knows the thread by: an owner that is a thread G, whose word is given to the
 * kernel, is wired, and has the kernel's number there for as long as the call.
 */
void tid_pi_to_kernel(_Atomic uint32_t *word) {
  uint32_t was = atomic_load_explicit(word, memory_order_relaxed);
  for (;;) {
    pid_t owner = (pid_t)(was & FUTEX_TID_MASK), has = lives(owner) ? tid_to_set(owner) : owner;
    if (has == owner) return;
    if (atomic_compare_exchange_weak_explicit(word, &was, (was & ~FUTEX_TID_MASK) | (uint32_t)has, memory_order_acq_rel,
                                              memory_order_relaxed))
      return;
  }
}

void tid_pi_to_program(_Atomic uint32_t *word) {
  uint32_t was = atomic_load_explicit(word, memory_order_relaxed), has = sys_gettid(), tid = (uint32_t)gettid();
  while ((was & FUTEX_TID_MASK) == has && has != tid)
    if (atomic_compare_exchange_weak_explicit(word, &was, (was & ~FUTEX_TID_MASK) | tid, memory_order_acq_rel, memory_order_relaxed))
      return;
}

/* --- raw calls --- */

#define PIDFD_OF_THREAD O_EXCL /* PIDFD_THREAD, Linux 6.9 */

/* Which argument is a tid; -1: none. */
enum { RAW_PROCESS = TID_PROCESS, RAW_READ = TID_READ, RAW_SET };
static int tid_argument(long nr, const long *a, int *use) {
  switch (nr) {
    case SYS_kill:
    case SYS_rt_sigqueueinfo:
    case SYS_getpgid:
    case SYS_getsid:
    case SYS_prlimit64:
    case SYS_process_vm_readv:
    case SYS_process_vm_writev:
      return *use = RAW_PROCESS, 0;
    case SYS_sched_getscheduler:
    case SYS_sched_getparam:
    case SYS_sched_getaffinity:
    case SYS_sched_getattr:
    case SYS_sched_rr_get_interval:
      return *use = RAW_READ, 0;
    case SYS_sched_setscheduler:
    case SYS_sched_setparam:
    case SYS_sched_setaffinity:
    case SYS_sched_setattr:
      return *use = RAW_SET, 0;
    case SYS_pidfd_open:
      return *use = a[1] & PIDFD_OF_THREAD ? RAW_SET : RAW_READ, 0;
    case SYS_perf_event_open:
      return *use = RAW_SET, 1;
    case SYS_getpriority:
      return *use = RAW_READ, a[0] == PRIO_PROCESS ? 1 : -1;
    case SYS_setpriority:
      return *use = RAW_SET, a[0] == PRIO_PROCESS ? 1 : -1;
    case SYS_ioprio_get:
      return *use = RAW_READ, a[0] == IOPRIO_WHO_PROCESS ? 1 : -1;
    case SYS_ioprio_set:
      return *use = RAW_SET, a[0] == IOPRIO_WHO_PROCESS ? 1 : -1;
    default:
      return -1;
  }
}

void tid_raw(long nr, long *a) {
  int use;
  int at = free_mode ? tid_argument(nr, a, &use) : -1;
  if (at >= 0) a[at] = use == RAW_SET ? tid_to_set((pid_t)a[at]) : tid_kernels((pid_t)a[at], (enum tid_use)use);
  if (nr == SYS_kill || nr == SYS_rt_sigqueueinfo) sends((pid_t)a[0], (int)a[1]);
}
