/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread functions about threads, where free mode has its own: ends, cancellation, keys, attributes.  Births are in thread.c, joins in join.c.
 * In the other modes, and for threads of the kernel's in free mode, these are glibc's.
 */
#include "preload/call.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <threads.h>
#include "free/cancel.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/cpucount.h"
#include "preload/signal.h"
#include "preload/thread.h"
#include "ration/context.h"
#include "sync/context.h"

#define REAL_FREE(X)                                              \
  X(int, pthread_detach, (pthread_t))                             \
  X(int, thrd_detach, (thrd_t))                                   \
  X(void, pthread_exit, (void *))                                 \
  X(void, thrd_exit, (int))                                       \
  X(int, pthread_cancel, (pthread_t))                             \
  X(int, pthread_setcancelstate, (int, int *))                    \
  X(int, pthread_key_create, (pthread_key_t *, void (*)(void *))) \
  X(int, pthread_key_delete, (pthread_key_t))                     \
  X(int, tss_create, (tss_t *, tss_dtor_t))                       \
  X(void, tss_delete, (tss_t))                                    \
  X(int, pthread_getattr_np, (pthread_t, pthread_attr_t *))       \
  X(int, pthread_setname_np, (pthread_t, const char *))           \
  X(int, pthread_getname_np, (pthread_t, char *, size_t))
REAL_DEFINE(REAL_FREE)

/* --- ends --- */

EXPORT int pthread_detach(pthread_t t) {
  struct thread *th = thread_of(t);
  return th ? thread_detach(th) : REAL(pthread_detach)(t);
}

EXPORT int thrd_detach(thrd_t t) {
  struct thread *th = thread_of(t);
  if (!th) return REAL(thrd_detach)(t);
  return thread_detach(th) == 0 ? thrd_success : thrd_error;
}

/* glibc's unwinds to the last cleanup handler that is registered: of a thread G the first of them is thread_call_to_end's. */
EXPORT void pthread_exit(void *result) {
  if (thread_self()) thread_exits(result);
  thread_main_leaves();
  REAL(pthread_exit)(result);
  __builtin_unreachable();
}

EXPORT void thrd_exit(int result) { pthread_exit((void *)(intptr_t)result); }

/* --- cancellation --- */

/* A thread of the kernel's, which may wait in the lot.  It, and its context, may be gone when glibc has marked it. */
static int cancel_kernels(pthread_t t) {
  struct ration_context *ctx = cancel_kernel_of(t);
  int r = REAL(pthread_cancel)(t);
  signal_stay_hidden();
  context_end(ctx);
  ration_context_unref(ctx);
  return r;
}

EXPORT int pthread_cancel(pthread_t t) {
  struct thread *th = thread_of(t);
  if (th) return thread_cancel(th);
  if (free_mode) return cancel_kernels(t);
  int r = REAL(pthread_cancel)(t);
  signal_stay_hidden();
  return r;
}

EXPORT int pthread_setcancelstate(int state, int *old) {
  int r = REAL(pthread_setcancelstate)(state, old);
  struct thread *self = thread_self();
  if (r == 0 && self) thread_cancel_state(self);
  return r;
}

/* --- keys: also those that are made before the mode is known --- */

EXPORT int pthread_key_create(pthread_key_t *key, void (*destroy)(void *)) {
  int r = REAL(pthread_key_create)(key, destroy);
  if (r == EAGAIN && thread_give_key_up()) r = REAL(pthread_key_create)(key, destroy);
  if (r == 0) thread_key_made(*key, destroy);
  return r;
}
int __pthread_key_create(pthread_key_t *key, void (*destroy)(void *)) CALL_ALIAS(pthread_key_create);

EXPORT int pthread_key_delete(pthread_key_t key) {
  thread_key_gone(key);
  return REAL(pthread_key_delete)(key);
}

EXPORT int tss_create(tss_t *key, tss_dtor_t destroy) {
  int r = REAL(tss_create)(key, destroy);
  if (r != thrd_success && thread_give_key_up()) r = REAL(tss_create)(key, destroy);
  if (r == thrd_success) thread_key_made(*key, destroy);
  return r;
}

EXPORT void tss_delete(tss_t key) {
  thread_key_gone(key);
  REAL(tss_delete)(key);
}

/* --- attributes --- */

/* As glibc's: what the thread has, not only what it was made with. */
static int own_cpus(pthread_t t, pthread_attr_t *attr) {
  cpu_set_t set;
  int r = pthread_getaffinity_np(t, sizeof set, &set);
  if (r == 0) r = pthread_attr_setaffinity_np(attr, sizeof set, &set);
  if (r != 0) pthread_attr_destroy(attr);
  return r;
}

EXPORT int pthread_getattr_np(pthread_t t, pthread_attr_t *attr) {
  struct thread *th = thread_of(t);
  if (!th) cpucount_hide(t); /* glibc reads them by itself */
  if (!th) return REAL(pthread_getattr_np)(t, attr);
  int r = thread_getattr(th, attr);
  return r == 0 ? own_cpus(t, attr) : r;
}

EXPORT int pthread_setname_np(pthread_t t, const char *name) {
  struct thread *th = thread_of(t);
  if (!th) return REAL(pthread_setname_np)(t, name);
  if (strlen(name) > 15) return ERANGE;
  thread_set_name(th, name);
  return 0;
}

EXPORT int pthread_getname_np(pthread_t t, char *name, size_t bytes) {
  struct thread *th = thread_of(t);
  if (!th) return REAL(pthread_getname_np)(t, name, bytes);
  if (bytes < 16) return ERANGE;
  thread_get_name(th, name);
  return 0;
}
