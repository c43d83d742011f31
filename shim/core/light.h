/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_LIGHT_H
#define RATION_CORE_LIGHT_H
/*
 * Light Gs, as the rest of ration sees them: what everything in shim/sync is built on.  How it works is in light.c.
 *
 * The one way to block is the one of Go's runtime: g_park(commit).  The caller takes the lock of what it waits for,
 * enqueues itself there, and parks with a commit function that drops the lock.  commit runs after the G has left its stack, so
 * whoever finds it in the queue may ready it at once:
 *
 *   waiter   lock; enqueue g_self(); g_park(unlock, lock, WAIT_CHAN_RECV)      the state of the G is saved before the lock is free
 *   waker    lock; dequeue g; ... ; unlock; g_ready(g, true)
 *
 * Each g_ready ends exactly one g_park, and comes after its commit said true.  It is for the two sides to see to it (by the lock, or by a CAS
 * on a word of their own where several may wake: select, timeouts).
 *
 * A thread that is no carrier has a G as well (wired; its own, by g_self), and parks on a futex: everything in shim/sync
 * works in any thread.
 */
#include <stdbool.h>
#include <stdint.h>
#include "core/g.h"
#include "core/lock.h"
#include "core/m.h"

/* The caller's G, never null.  Its address changes hands with nothing: read it again after a park only if you want to. */
struct g *g_self(void);

/*
 * Parks the caller.  commit(g, arg) is called once, on some other stack, without the right to block, park or call g_park: it drops locks
 * and says true, or says false, then g_park returns at once.  Null: true.  errno is kept.  The caller holds no run lock (below) but the one that commit drops.
 */
typedef bool g_commit(struct g *g, void *arg);
void g_park(g_commit *commit, void *arg, enum wait_reason why);

/* A commit function for the usual case: arg is a struct lock that was taken by run_lock. */
bool g_commit_unlock(struct g *g, void *arg);

/*
 * Makes a parked G runnable.  Any thread, also one that is no M.  next: it goes before the others of this P, for it has probably just been
 * handed what the caller made (Go's runnext).
 */
void g_ready(struct g *g, bool next);

/* The same of a G that is a thread, in two: true if it sleeps, and is to be roused.  The second may come when it is gone: a futex is only an address. */
bool thread_readied(struct g *g);
void thread_rouse(struct g *g);

/* Lets others run first.  True if it did. */
bool g_yield(void);

/*
 * The lock of a channel, a mutex's queue, ...: held for moments, never across a park except through g_park's commit.  The holder is
 * neither preempted nor are signal handlers of the program run on it (they would find the lock taken); never nested, but in address order.
 */
static inline void run_lock(struct lock *l) {
  struct m *m = m_self;
  if (m) m->locks++;
  atomic_signal_fence(memory_order_seq_cst);
  lock_take(l);
}
void m_release_deferred(struct m *m);
static inline void run_unlock(struct lock *l) {
  lock_drop(l);
  atomic_signal_fence(memory_order_seq_cst);
  struct m *m = m_self;
  if (m && --m->locks == 0 && __builtin_expect(m->deferred != 0, 0)) m_release_deferred(m);
}

/*
 * Timers.  A struct timer is the caller's, embedded in what it is for; fn is called once when `at` (CLOCK_MONOTONIC ns) has come, on a
 * carrier's scheduler stack: it may g_ready, ration_go and take run locks, never park.
 */
struct timer {
  uint64_t at;
  void (*fn)(struct timer *t);
  void *arg;
  struct timers *in; /* [lock of the heap] null: not armed */
  uint32_t index;    /* in the heap */
};
/* Arms t; it must not be armed. */
void timer_start(struct timer *t, uint64_t at);
/* The same, for a G that is about to park: its carrier then looks after timers. */
void timer_start_parks(struct timer *t, uint64_t at);
/* Disarms it.  True: fn has not been called and won't be.  False: it was not armed, or fn has been or is being called. */
bool timer_stop(struct timer *t);

/*
 * Forks that this process is away from the first one.  What waits since an earlier one has stayed in the parent: in the child it is not readied, and nothing is handed to it.
 * Written while the child of a fork has one thread.
 */
extern uint32_t light_forks;

/* Parks until `at`, or for ever (UINT64_MAX). */
void g_sleep_until(uint64_t at);

/* Ends the program as Go's panics do: writes "ration: " + text + the G's id and entry function to stderr, then abort(). */
_Noreturn void g_fatal(const char *text);

#endif
