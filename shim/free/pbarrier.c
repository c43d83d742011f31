/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread barriers of free mode, on the parking lot.
 *
 *   in   of `count` that this round wants, so many are there: queued.  The last one does not queue, sets it to 0 and takes the others out
 *
 * A signal's handler runs out of the queue, with somebody in its place: it has come, whether it is there in the end or not.
 *
 * All under the lock of the lot; nobody touches the barrier after it, so whoever returns first may destroy it or begin the next round.
 *
 * Locks: the lot's, a leaf.
 */
#include "free/psync.h"
#include <stddef.h>
#include "sync/lot.h"

int free_barrier_wait(pthread_barrier_t *b) {
  struct free_barrier *fb = (struct free_barrier *)b;
  struct waiter w = WAITER_INIT(b);
  struct lot *lot = lot_lock(b);
  bool last = ++fb->in == fb->count;
  struct waiter *others = NULL;
  if (last) {
    fb->in = 0;
    others = lot_pop_all(lot, b);
  } else {
    lot_push(lot, &w, false);
  }
  lot_unlock(lot);
  if (!last) {
    lot_wait_in_place(&w, WAIT_BARRIER);
    return 0;
  }
  lot_wake_all(others);
  return PTHREAD_BARRIER_SERIAL_THREAD;
}
