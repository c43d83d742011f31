/* SPDX-License-Identifier: Apache-2.0 */
/* Joins: of a thread that has ended, no wait.  Thread Gs are joined by free/thread.c. */
#include "preload/call.h"

#include <pthread.h>
#include <threads.h>
#include "free/free.h"
#include "free/plimit.h"
#include "free/thread.h"

#define REAL_JOIN(X)                                                                     \
  X(int, pthread_join, (pthread_t, void **))                                             \
  X(int, pthread_tryjoin_np, (pthread_t, void **))                                       \
  X(int, pthread_timedjoin_np, (pthread_t, void **, const struct timespec *))            \
  X(int, pthread_clockjoin_np, (pthread_t, void **, clockid_t, const struct timespec *)) \
  X(int, thrd_join, (thrd_t, int *))
REAL_DEFINE(REAL_JOIN)

/* Joins are cancellation points; one that is cancelled leaves the other thread joinable. */
static int join_free(struct thread *t, void **result, uint64_t until) {
  free_testcancel();
  struct limit lim = {until, free_cancel_context()};
  int r = thread_join(t, result, &lim);
  if (r == ECANCELED) free_testcancel();
  return r;
}

static int join_free_until(struct thread *t, void **result, clockid_t clock, const struct timespec *until) {
  if (!until) return join_free(t, result, UINT64_MAX);
  if (!plimit_clock_ok(clock) || !plimit_ns_ok(until)) return EINVAL;
  return join_free(t, result, plimit(clock, until).until);
}

EXPORT int pthread_join(pthread_t t, void **result) {
  struct thread *th = thread_of(t);
  if (th) return join_free(th, result, UINT64_MAX);
  int tried = REAL(pthread_tryjoin_np)(t, result);
  return __builtin_expect(tried != EBUSY, 1) ? tried : CALL_ONCE_BLOCKING(int, WAIT_JOIN, REAL(pthread_join)(t, result));
}

EXPORT int pthread_tryjoin_np(pthread_t t, void **result) {
  struct thread *th = thread_of(t);
  return th ? thread_tryjoin(th, result) : REAL(pthread_tryjoin_np)(t, result);
}

EXPORT int pthread_timedjoin_np(pthread_t t, void **result, const struct timespec *until) {
  struct thread *th = thread_of(t);
  if (th) return join_free_until(th, result, CLOCK_REALTIME, until);
  return CALL_ONCE_BLOCKING(int, WAIT_JOIN, REAL(pthread_timedjoin_np)(t, result, until));
}

EXPORT int pthread_clockjoin_np(pthread_t t, void **result, clockid_t clock, const struct timespec *until) {
  struct thread *th = thread_of(t);
  if (th) return join_free_until(th, result, clock, until);
  return CALL_ONCE_BLOCKING(int, WAIT_JOIN, REAL(pthread_clockjoin_np)(t, result, clock, until));
}

EXPORT int thrd_join(thrd_t t, int *result) {
  struct thread *th = thread_of(t);
  if (!th) return CALL_ONCE_BLOCKING(int, WAIT_JOIN, REAL(thrd_join)(t, result));
  void *value;
  int r = join_free(th, &value, UINT64_MAX);
  if (r == 0 && result) *result = (int)(intptr_t)value;
  return r == 0 ? thrd_success : thrd_error;
}
