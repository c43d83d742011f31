/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free mode: calls that are about the kernel's thread.  A thread G that makes one for itself gets such a thread for good (free/wire.c).
 */
#include "preload/call.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "core/carrier.h"
#include "core/sched.h"
#include "free/free.h"
#include "free/shared.h"
#include "free/thread.h"
#include "preload/wire.h"

#define REAL_WIRE(X)                                                          \
  X(int, raise, (int))                                                        \
  X(int, pthread_kill, (pthread_t, int))                                      \
  X(int, pthread_sigqueue, (pthread_t, int, const union sigval))              \
  X(int, tgkill, (pid_t, pid_t, int))                                         \
  X(void, siglongjmp, (struct __jmp_buf_tag *, int))                          \
  X(void, __longjmp_chk, (struct __jmp_buf_tag *, int))                       \
  X(int, sigaltstack, (const stack_t *, stack_t *))                           \
  X(int, pthread_setschedparam, (pthread_t, int, const struct sched_param *)) \
  X(int, pthread_getschedparam, (pthread_t, int *, struct sched_param *))     \
  X(int, pthread_setschedprio, (pthread_t, int))                              \
  X(int, nice, (int))
REAL_DEFINE(REAL_WIRE)

/* --- what a thread G gets a thread of the kernel's for --- */

static bool is_self(pthread_t t) { return pthread_equal(t, pthread_self()); }

EXPORT int raise(int sig) {
  free_wire(FREE_WIRE_SIGNALS);
  return REAL(raise)(sig);
}

/* glibc's own: not for the program. */
static bool is_internal(int sig) { return sig == 32 || sig == 33; }

EXPORT int pthread_kill(pthread_t t, int sig) {
  struct thread *th = thread_of(t);
  if (th && sig == 0) return 0;
  if (th && !is_self(t)) return is_internal(sig) ? EINVAL : thread_signal(th, sig, NULL);
  if (is_self(t)) free_wire(FREE_WIRE_SIGNALS);
  return REAL(pthread_kill)(t, sig);
}

EXPORT int pthread_sigqueue(pthread_t t, int sig, const union sigval value) {
  struct thread *th = thread_of(t);
  if (th && !is_self(t)) {
    siginfo_t si;
    memset(&si, 0, sizeof si);
    si.si_signo = sig;
    si.si_code = SI_QUEUE;
    si.si_pid = getpid();
    si.si_uid = getuid();
    si.si_value = value;
    return is_internal(sig) ? EINVAL : thread_signal(th, sig, &si);
  }
  if (is_self(t)) free_wire(FREE_WIRE_SIGNALS);
  return REAL(pthread_sigqueue)(t, sig, value);
}

struct thread *wire_thread_by_tid(pid_t tid) {
  return free_mode && tid >= (pid_t)THREAD_ID_FIRST ? thread_by_id((uint32_t)tid) : NULL;
}

/* One of ours for this process: its errno, 0.  -1: not one of ours. */
static int send_to_tid(pid_t tid, int sig, const siginfo_t *si) {
  struct thread *th = wire_thread_by_tid(tid);
  if (!th) return -1;
  if (th != thread_self()) return thread_signal(th, sig, si);
  free_wire(FREE_WIRE_SIGNALS);
  long r = si ? raw_syscall4(SYS_rt_tgsigqueueinfo, getpid(), sys_gettid(), sig, (long)si)
              : raw_syscall3(SYS_tgkill, getpid(), sys_gettid(), sig);
  return r < 0 ? (int)-r : 0;
}

bool wire_raw_kill(long nr, const long *a, long *r) {
  bool group = nr != SYS_tkill, info = nr == SYS_rt_tgsigqueueinfo;
  if (!free_mode || (group && a[0] != getpid())) return false;
  int err = send_to_tid((pid_t)a[group], (int)a[group + 1], info ? (const siginfo_t *)a[3] : NULL);
  if (err > 0) errno = err;
  *r = err > 0 ? -1 : 0;
  return err >= 0;
}

EXPORT int tgkill(pid_t pid, pid_t tid, int sig) {
  long r, a[] = {pid, tid, sig};
  return wire_raw_kill(SYS_tgkill, a, &r) ? (int)r : REAL(tgkill)(pid, tid, sig);
}

/*
 * sigsetjmp saves the mask that the thread of the kernel's has: of a thread G its carrier's.  Who has been wired since jumps to what it had blocked then, as far as we know:
 * the mask that it was wired with.
 */
static void own_mask(struct __jmp_buf_tag *env) {
  carrier_leaves_handler();
  struct thread *self = free_mode ? thread_self() : NULL;
  if (free_mode && env->__mask_was_saved) shared_blocks(~(uint64_t)0);
  const uint64_t urg = (uint64_t)1 << (SIGURG - 1); /* which carriers have open or not (preload/signal.c) */
  uint64_t saved, kernels = carrier_sigmask() & ~((uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1));
  if (!self || thread_is_g(self) || !env->__mask_was_saved) return;
  memcpy(&saved, &env->__saved_mask, sizeof saved);
  if ((saved & ~urg) != kernels) return;
  saved = thread_blocked(self) & ~urg;
  memcpy(&env->__saved_mask, &saved, sizeof saved);
}

EXPORT void siglongjmp(sigjmp_buf env, int value) {
  own_mask(env);
  REAL(siglongjmp)(env, value);
  __builtin_unreachable();
}
EXPORT void longjmp(jmp_buf env, int value) { siglongjmp(env, value); }
EXPORT void _longjmp(jmp_buf env, int value) { siglongjmp(env, value); }

/* Of programs that were built with _FORTIFY_SOURCE; it ends those that jump to a frame that is gone. */
void __longjmp_chk(sigjmp_buf env, int value) __attribute__((noreturn));
EXPORT void __longjmp_chk(sigjmp_buf env, int value) {
  own_mask(env);
  REAL(__longjmp_chk)(env, value);
  __builtin_unreachable();
}

EXPORT int sigaltstack(const stack_t *restrict ss, stack_t *restrict old) {
  struct thread *self = thread_self();
  if (!self || !carrier_now()) return REAL(sigaltstack)(ss, old);
  int r = altstack_of_g(self, ss, old);
  if (r == 0) return 0;
  errno = -r;
  return -1;
}

/* Null: it has a thread of the kernel's, or may get one now. */
static struct thread *other_g(pthread_t t) {
  struct thread *th = thread_of(t);
  return th && thread_is_g(th) && !is_self(t) ? th : NULL;
}

/* A thread G that is not wired runs wherever the process may. */
pid_t wire_affinity_of(pthread_t t) {
  struct thread *th = free_mode ? thread_of(t) : NULL;
  return th && thread_is_g(th) ? atomic_load_explicit(&sched.poller_tid, memory_order_relaxed) : -1;
}

void wire_for_affinity(pthread_t t) {
  struct thread *th = free_mode && !is_self(t) ? thread_of(t) : NULL;
  if (th)
    free_wire_other(th);
  else if (is_self(t))
    free_wire(FREE_WIRE_SCHED);
}

EXPORT int pthread_getschedparam(pthread_t t, int *policy, struct sched_param *param) {
  struct thread *th = thread_of(t);
  if (!th || !thread_is_g(th)) return REAL(pthread_getschedparam)(t, policy, param);
  thread_get_sched(th, policy, &param->sched_priority);
  return 0;
}

void wire_policy_set(int policy) {
  if (sched_has_priorities(policy)) thread_priorities_matter();
  permit_look_policies();
}

EXPORT int pthread_setschedparam(pthread_t t, int policy, const struct sched_param *param) {
  struct thread *th = other_g(t);
  if (th && sched_has_priorities(policy)) { /* not to be had on paper */
    free_wire_other(th);
    th = other_g(t);
  }
  if (th) return policy < 0 ? EINVAL : thread_set_sched(th, policy, param->sched_priority);
  if (is_self(t)) free_wire(FREE_WIRE_SCHED);
  int r = REAL(pthread_setschedparam)(t, policy, param);
  if (r == 0) wire_policy_set(policy);
  return r;
}

EXPORT int pthread_setschedprio(pthread_t t, int prio) {
  struct thread *th = other_g(t);
  if (th) return thread_set_sched(th, -1, prio);
  if (is_self(t)) free_wire(FREE_WIRE_SCHED);
  return REAL(pthread_setschedprio)(t, prio);
}

EXPORT int nice(int more) {
  free_wire(FREE_WIRE_SCHED);
  return REAL(nice)(more);
}
