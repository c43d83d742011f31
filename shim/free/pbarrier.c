/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread barriers of free mode, on the parking lot.
 *
 *   in   of `count` that this round wants, so many are there beyond `round`: queued.  The last one does not queue, sets it back and takes the others out
 *
 * As glibc's, a barrier is destroyed once its round is over: who destroys one that others wait at is queued beside them, by a key of its own.
 *
 * A signal's handler runs out of the queue, with somebody in its place: it has come, whether it is there in the end or not.
 *
 * `round` stays what it is: 0, or how many glibc has let pass when a library's constructor, before ours, used the barrier.
 *
 * All under the lock of the lot; nobody touches the barrier after it, so whoever returns first may destroy it or begin the next round.
 *
 * Locks: the lot's, a leaf.
 */
#include "free/psync.h"
#include <stddef.h>
#include "sync/lot.h"

/* Of those that destroy it. */
static const void *end_key(const pthread_barrier_t *b) { return (const char *)b + 1; }

int free_barrier_wait(pthread_barrier_t *b) {
  struct free_barrier *fb = (struct free_barrier *)b;
  struct waiter w = WAITER_INIT(b);
  struct lot *lot = lot_lock(b);
  bool last = ++fb->in - fb->round == fb->count;
  struct waiter *others = NULL, *enders = NULL;
  if (last) {
    fb->in = fb->round;
    others = lot_pop_all(lot, b);
    enders = lot_pop_all(lot, end_key(b));
  } else {
    lot_push(lot, &w, false);
  }
  lot_unlock(lot);
  if (!last) {
    lot_wait_in_place(&w, WAIT_BARRIER);
    return 0;
  }
  lot_wake_all(others);
  lot_wake_all(enders);
  return PTHREAD_BARRIER_SERIAL_THREAD;
}

int free_barrier_destroy(pthread_barrier_t *b) {
  struct free_barrier *fb = (struct free_barrier *)b;
  struct waiter w = WAITER_INIT(end_key(b));
  struct lot *lot = lot_lock(b);
  bool over = fb->in == fb->round;
  if (!over) lot_push(lot, &w, false);
  lot_unlock(lot);
  if (!over) lot_wait(&w, NULL, WAIT_BARRIER);
  return 0;
}
