/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_H
#define RATION_SYNC_H
/*
 * Mutex, readers-writer mutex, once, condition, wait group, weighted semaphore: Go's package sync and golang.org/x/sync/semaphore.
 *
 *   static struct ration_mutex mu = RATION_MUTEX_INIT;
 *   static struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
 *
 *   static void add(void *sum) {
 *     ration_mutex_lock(&mu);
 *     ++*(int *)sum;
 *     ration_mutex_unlock(&mu);
 *     ration_waitgroup_done(&wg);
 *   }
 *   ...
 *   ration_waitgroup_add(&wg, 10);
 *   for (int i = 0; i < 10; i++) ration_go(add, &sum);
 *   ration_waitgroup_wait(&wg);
 *
 * All of them work in light Gs and in plain threads alike, and between the two.  Who waits is parked: its P runs others.  Objects full of zero bytes are
 * ready for use (the semaphore is not: it has a size); none needs an end, and none may be copied once in use.  They are for one process: not
 * for shared memory.  None of these functions is async-signal-safe or a cancellation point.
 *
 * What returns an int returns 0 or -errno.  _timeout: waits no longer than d (d <= 0: does not wait; RATION_FOREVER: without end), else -ETIMEDOUT.
 * _ctx: waits until the context ends (ration/context.h), else its error: -ECANCELED or -ETIMEDOUT; a null context never ends.  What is free at once is taken, however late it is.
 */
#include <stdbool.h>
#include <stdint.h>
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_context;

/* --- mutex --- */

/*
 * sync.Mutex.  A mutex belongs to no one: any G or thread may unlock it.  Normally who has just come wins over a waiter that was woken (it already runs); when a waiter
 * has failed for 1 ms, the mutex is handed from waiter to waiter in the order they came, until one is served within 1 ms.
 * It may be freed as soon as it is unlocked and nobody waits for it.
 */
struct ration_mutex {
  uint32_t word;
};
#define RATION_MUTEX_INIT \
  { 0 }

/* Locks m.  Waits while it is locked.  Mutex.Lock. */
RATION_API void ration_mutex_lock(struct ration_mutex *m);
/* 0, or -EBUSY: it is locked, or promised to a waiter.  Never waits.  Mutex.TryLock. */
RATION_API int ration_mutex_trylock(struct ration_mutex *m);
/* As ration_mutex_lock, with an end.  0, -ETIMEDOUT; the error of ctx.  (Go has none.) */
RATION_API int ration_mutex_lock_timeout(struct ration_mutex *m, ration_ns d);
RATION_API int ration_mutex_lock_ctx(struct ration_mutex *m, struct ration_context *ctx);
/* Unlocks m.  Ends the program if it is not locked ("unlock of unlocked mutex").  Never waits; may let the one go first that it was handed to.  Mutex.Unlock. */
RATION_API void ration_mutex_unlock(struct ration_mutex *m);

/* --- readers-writer mutex --- */

/*
 * sync.RWMutex: many readers, or one writer.  A writer that waits keeps new readers out; when it unlocks, the readers that
 * came meanwhile go before the next writer.  So neither starves, and a reader must not lock it a second time.  To be freed when no call on it is under way.
 */
struct ration_rwmutex {
  struct ration_mutex writers;
  uint32_t word;
};
#define RATION_RWMUTEX_INIT \
  { RATION_MUTEX_INIT, 0 }

/* Locks for writing.  Waits for the other writers and for all readers.  RWMutex.Lock. */
RATION_API void ration_rwmutex_lock(struct ration_rwmutex *rw);
/* 0, or -EBUSY.  RWMutex.TryLock. */
RATION_API int ration_rwmutex_trylock(struct ration_rwmutex *rw);
/* 0, -ETIMEDOUT; the error of ctx.  A writer that gives up lets the readers in that waited for it.  (Go has none.) */
RATION_API int ration_rwmutex_lock_timeout(struct ration_rwmutex *rw, ration_ns d);
RATION_API int ration_rwmutex_lock_ctx(struct ration_rwmutex *rw, struct ration_context *ctx);
/* Ends the program if it is not locked for writing ("unlock of unlocked rwmutex").  RWMutex.Unlock. */
RATION_API void ration_rwmutex_unlock(struct ration_rwmutex *rw);
/* Locks for reading.  Waits while a writer has it or waits for it.  RWMutex.RLock. */
RATION_API void ration_rwmutex_rlock(struct ration_rwmutex *rw);
/* 0, or -EBUSY.  RWMutex.TryRLock. */
RATION_API int ration_rwmutex_tryrlock(struct ration_rwmutex *rw);
/* As ration_rwmutex_rlock, with an end.  0, -ETIMEDOUT; the error of ctx.  (Go has none.) */
RATION_API int ration_rwmutex_rlock_timeout(struct ration_rwmutex *rw, ration_ns d);
RATION_API int ration_rwmutex_rlock_ctx(struct ration_rwmutex *rw, struct ration_context *ctx);
/* Ends the program if there is no reader ("runlock of unlocked rwmutex").  RWMutex.RUnlock. */
RATION_API void ration_rwmutex_runlock(struct ration_rwmutex *rw);

/* --- once --- */

/* sync.Once. */
struct ration_once {
  uint32_t word;
};
#define RATION_ONCE_INIT \
  { 0 }

/*
 * The first call for o runs fn(arg); every other waits until that has returned, then returns without a call of its fn.  fn must not call it
 * for the same o (it would wait for itself), and must return: after ration_exit inside of it the others wait for ever.  Fatal: the fn to call is null.  Once.Do.
 */
RATION_API void ration_once_do(struct ration_once *o, ration_fn *fn, void *arg);

/* --- condition --- */

/*
 * sync.Cond.  Its mutex is given with each wait and should always be the same.  No wake-up without a signal; waiters are signalled in the order they came.
 */
struct ration_cond {
  uint32_t word;
};
#define RATION_COND_INIT \
  { 0 }

/*
 * Unlocks m, waits for a signal, locks m again.  What is signalled after m was unlocked is not missed.  Others may run between the signal and
 * the lock: call it in a loop that looks at the condition.  Cond.Wait.
 */
RATION_API void ration_cond_wait(struct ration_cond *c, struct ration_mutex *m);
/* The same with an end of the wait for the signal.  0, -ETIMEDOUT; the error of ctx.  m is locked again in any case, for as long as that takes. */
RATION_API int ration_cond_wait_timeout(struct ration_cond *c, struct ration_mutex *m, ration_ns d);
RATION_API int ration_cond_wait_ctx(struct ration_cond *c, struct ration_mutex *m, struct ration_context *ctx);
/* Wakes the one that waits longest, if any.  m need not be locked.  Cond.Signal. */
RATION_API void ration_cond_signal(struct ration_cond *c);
/* Wakes all that wait.  Cond.Broadcast. */
RATION_API void ration_cond_broadcast(struct ration_cond *c);

/* --- wait group --- */

/*
 * sync.WaitGroup: a counter, and waiting until it is 0.  As in Go, what raises it from 0 must happen before the wait that is
 * to see it.  It may be used again at once, also while those of the last round are still on their way out of wait (there Go
 * panics).  It may be freed as soon as one wait has returned, if nobody else uses it.
 */
struct ration_waitgroup {
  uint32_t word;
};
#define RATION_WAITGROUP_INIT \
  { 0 }

/*
 * Adds delta, which may be negative; at 0 all waiters go on.  Ends the program below 0 ("negative WaitGroup counter") and above 2^31 - 1
 * ("WaitGroup counter overflow").  WaitGroup.Add.
 */
RATION_API void ration_waitgroup_add(struct ration_waitgroup *wg, int delta);
/* ration_waitgroup_add(wg, -1).  WaitGroup.Done. */
RATION_API void ration_waitgroup_done(struct ration_waitgroup *wg);
/* Waits until the counter is 0.  WaitGroup.Wait. */
RATION_API void ration_waitgroup_wait(struct ration_waitgroup *wg);
/* 0, -ETIMEDOUT; the error of ctx. */
RATION_API int ration_waitgroup_wait_timeout(struct ration_waitgroup *wg, ration_ns d);
RATION_API int ration_waitgroup_wait_ctx(struct ration_waitgroup *wg, struct ration_context *ctx);
/* Adds 1 and runs fn(arg) in a new light G that ends with done.  0; -EAGAIN, -ENOMEM: not run, the counter is as before.  Fatal: fn is null.  WaitGroup.Go. */
RATION_API int ration_waitgroup_go(struct ration_waitgroup *wg, ration_fn *fn, void *arg);

/* --- weighted semaphore --- */

/* golang.org/x/sync/semaphore.Weighted.  To be freed when no call on it is under way. */
struct ration_sema {
  uint64_t state;
  int64_t size;
};
/* `n`: how much can be held at the same time, >= 0. */
#define RATION_SEMA_INIT(n) \
  { 0, (n) }

/* Before its first use: how much there is.  0; -EINVAL: size is negative.  semaphore.NewWeighted. */
RATION_API int ration_sema_init(struct ration_sema *s, int64_t size);
/*
 * Takes n.  Waits until that much is free; first come, first served: a small request does not overtake a large one.  0; -EINVAL: n is negative; -E2BIG: it is
 * more than the size.  Weighted.Acquire with a background context (which for too large an n would wait for ever).
 */
RATION_API int ration_sema_acquire(struct ration_sema *s, int64_t n);
/* The same, or -ETIMEDOUT. */
RATION_API int ration_sema_acquire_timeout(struct ration_sema *s, int64_t n, ration_ns d);
/* The same, or the error of ctx.  As in Go, with more than the size it waits for the end of ctx (null: for ever), in nobody's way.  Weighted.Acquire. */
RATION_API int ration_sema_acquire_ctx(struct ration_sema *s, int64_t n, struct ration_context *ctx);
/* Takes n if it is free and nobody waits.  0; -EAGAIN; -EINVAL.  Weighted.TryAcquire. */
RATION_API int ration_sema_tryacquire(struct ration_sema *s, int64_t n);
/* Gives n back, perhaps not what was taken at once.  Ends the program if that was not held ("semaphore: released more than held").  Weighted.Release. */
RATION_API void ration_sema_release(struct ration_sema *s, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
