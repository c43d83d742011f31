/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free mode: calls that are about the kernel's thread.  A thread G that makes one for itself gets such a thread for good (free/wire.c).
 */
#include "preload/call.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#include "free/free.h"
#include "free/thread.h"

#define REAL_WIRE(X)                                                          \
  X(pid_t, gettid, (void))                                                    \
  X(int, raise, (int))                                                        \
  X(int, pthread_kill, (pthread_t, int))                                      \
  X(int, pthread_sigqueue, (pthread_t, int, const union sigval))              \
  X(int, sigaltstack, (const stack_t *, stack_t *))                           \
  X(int, pthread_setschedparam, (pthread_t, int, const struct sched_param *)) \
  X(int, pthread_getschedparam, (pthread_t, int *, struct sched_param *))     \
  X(int, pthread_setschedprio, (pthread_t, int))                              \
  X(int, sched_setscheduler, (pid_t, int, const struct sched_param *))        \
  X(int, sched_setparam, (pid_t, const struct sched_param *))                 \
  X(int, setpriority, (__priority_which_t, id_t, int))                        \
  X(int, nice, (int))                                                         \
  X(int, pthread_getcpuclockid, (pthread_t, clockid_t *))
REAL_DEFINE(REAL_WIRE)

/* A thread G has no tid of the kernel's; this one is always the same, and no thread's. */
EXPORT pid_t gettid(void) {
  struct thread *self = thread_self();
  return self && thread_is_g(self) ? (pid_t)thread_id(self) : REAL(gettid)();
}

/* --- what a thread G gets a thread of the kernel's for --- */

static bool is_self(pthread_t t) { return pthread_equal(t, pthread_self()); }

EXPORT int raise(int sig) {
  free_wire(FREE_WIRE_SIGNALS);
  return REAL(raise)(sig);
}

EXPORT int pthread_kill(pthread_t t, int sig) {
  struct thread *th = thread_of(t);
  if (th && sig == 0) return 0;
  if (is_self(t)) free_wire(FREE_WIRE_SIGNALS);
  return REAL(pthread_kill)(t, sig);
}

EXPORT int pthread_sigqueue(pthread_t t, int sig, const union sigval value) {
  if (is_self(t)) free_wire(FREE_WIRE_SIGNALS);
  return REAL(pthread_sigqueue)(t, sig, value);
}

EXPORT int sigaltstack(const stack_t *restrict ss, stack_t *restrict old) {
  free_wire(FREE_WIRE_ALTSTACK);
  return REAL(sigaltstack)(ss, old);
}

/* Null: it has a thread of the kernel's, or may get one now. */
static struct thread *other_g(pthread_t t) {
  struct thread *th = thread_of(t);
  return th && thread_is_g(th) && !is_self(t) ? th : NULL;
}

EXPORT int pthread_getschedparam(pthread_t t, int *policy, struct sched_param *param) {
  struct thread *th = thread_of(t);
  if (!th || !thread_is_g(th)) return REAL(pthread_getschedparam)(t, policy, param);
  thread_get_sched(th, policy, &param->sched_priority);
  return 0;
}

EXPORT int pthread_setschedparam(pthread_t t, int policy, const struct sched_param *param) {
  struct thread *th = other_g(t);
  if (th) return policy < 0 ? EINVAL : thread_set_sched(th, policy, param->sched_priority);
  if (is_self(t)) free_wire(FREE_WIRE_SCHED);
  return REAL(pthread_setschedparam)(t, policy, param);
}

EXPORT int pthread_setschedprio(pthread_t t, int prio) {
  struct thread *th = other_g(t);
  if (th) return thread_set_sched(th, -1, prio);
  if (is_self(t)) free_wire(FREE_WIRE_SCHED);
  return REAL(pthread_setschedprio)(t, prio);
}

EXPORT int sched_setscheduler(pid_t pid, int policy, const struct sched_param *param) {
  if (pid == 0) free_wire(FREE_WIRE_SCHED);
  return REAL(sched_setscheduler)(pid, policy, param);
}

EXPORT int sched_setparam(pid_t pid, const struct sched_param *param) {
  if (pid == 0) free_wire(FREE_WIRE_SCHED);
  return REAL(sched_setparam)(pid, param);
}

/* Linux: of a thread. */
EXPORT int setpriority(__priority_which_t which, id_t who, int prio) {
  if (which == PRIO_PROCESS && who == 0) free_wire(FREE_WIRE_SCHED);
  return REAL(setpriority)(which, who, prio);
}

EXPORT int nice(int more) {
  free_wire(FREE_WIRE_SCHED);
  return REAL(nice)(more);
}

/* Its CPU time is a thread's. */
EXPORT int pthread_getcpuclockid(pthread_t t, clockid_t *clock) {
  if (is_self(t)) free_wire(FREE_WIRE_OTHER);
  return REAL(pthread_getcpuclockid)(t, clock);
}
