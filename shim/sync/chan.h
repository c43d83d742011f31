/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_CHAN_H
#define RATION_SYNC_CHAN_H
/*
 * A channel from inside, and the steps that chan.c and select.c share.  chan.c tells the protocol.  Everything here that
 * ends in _locked wants the channel's lock held and never blocks.
 */
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "core/light.h"
#include "ration/chan.h"

/* A G in a channel's queue (Go's sudog).  It lies on the stack of that G, which stays parked as long as it is here. */
struct chan_waiter {
  struct chan_waiter *next, *prev;
  struct g *g;
  void *elem;     /* what it sends, or where it wants what it receives; null: nowhere */
  bool queued;    /* [lock] */
  bool select;    /* one of several: whoever takes it must win g->select_done first */
  bool success;   /* why it was woken.  true: by its opposite, false: by close */
  uint32_t forks; /* light_forks when it queued */
};

struct chan_queue {
  _Atomic(struct chan_waiter *) first; /* atomic for the looks without lock only */
  struct chan_waiter *last;
};

/* One cache line, and the buffer after it: what a transfer touches comes to a CPU with the lock. */
struct ration_chan {
  alignas(64) struct lock lock;
  _Atomic uint32_t closed; /* these two are written under the lock, and looked at without */
  _Atomic uint32_t count;  /* elements in the buffer */
  uint32_t capacity;
  uint32_t elem_size;
  uint32_t send_at, recv_at; /* [lock] next slot to fill, to empty */
  _Atomic uint32_t refs;
  struct chan_queue receivers, senders; /* [lock] at most one has waiters, but for a G that selects over both */
  unsigned char buffer[];
};
_Static_assert(offsetof(struct ration_chan, buffer) == 64, "one cache line");

static inline bool chan_is_closed(const struct ration_chan *c) { return atomic_load_explicit(&c->closed, memory_order_relaxed) != 0; }
static inline uint32_t chan_count(const struct ration_chan *c) { return atomic_load_explicit(&c->count, memory_order_relaxed); }

/* --- the lock --- */

/*
 * A run lock (light.h) that is taken with some patience and dropped by a plain store, for a locked instruction costs as much as all the rest of
 * a transfer.  Values as in core/lock.h: 0 free, 1 held, 2 held and someone waits.
 *
 *   holder   reads 1;  stores 0                                                  |  reads 2;  stores 0;  wakes one
 *   waiter   waits a microsecond;  exchanges 2 (was 0: it has the lock);  futex wait for 2, LOCK_NAP_NS at most;  again
 *
 * A waiter's 2 between the holder's read and its store is overwritten.  As a rule the kernel then finds 0 in the word and the waiter looks
 * again at once; if the waiter was asleep before the store, nobody wakes it and its nap ends by itself.  The holder must
 * have been interrupted between the two instructions for that.
 */
void chan_lock_slow(struct lock *l);
void chan_lock_wake(struct lock *l);

static inline void chan_lock(struct ration_chan *c) {
  uint32_t free = 0;
  struct m *m = m_self;
  if (m) m->locks++;
  atomic_signal_fence(memory_order_seq_cst);
  /* acquire: pairs with the release in chan_unlock */
  if (__builtin_expect(!atomic_compare_exchange_strong_explicit(&c->lock.word, &free, 1, memory_order_acquire, memory_order_relaxed), 0))
    chan_lock_slow(&c->lock);
}

static inline void chan_unlock(struct ration_chan *c) {
  uint32_t word = atomic_load_explicit(&c->lock.word, memory_order_relaxed);
  atomic_store_explicit(&c->lock.word, 0, memory_order_release); /* pairs with chan_lock; from here on c may be gone */
  if (__builtin_expect(word == 2, 0)) chan_lock_wake(&c->lock);
  atomic_signal_fence(memory_order_seq_cst);
  struct m *m = m_self;
  if (m && --m->locks == 0 && __builtin_expect(m->deferred != 0, 0)) m_release_deferred(m);
}

/* --- the queue --- */

static inline struct chan_waiter *queue_first(const struct chan_queue *q) { return atomic_load_explicit(&q->first, memory_order_relaxed); }
static inline void queue_set_first(struct chan_queue *q, struct chan_waiter *w) {
  atomic_store_explicit(&q->first, w, memory_order_relaxed); /* ordered by the lock */
}

static inline void queue_push(struct chan_queue *q, struct chan_waiter *w) {
  struct chan_waiter *last = queue_first(q) ? q->last : NULL;
  w->forks = light_forks;
  w->next = NULL;
  w->prev = last;
  w->queued = true;
  if (last)
    last->next = w;
  else
    queue_set_first(q, w);
  q->last = w;
}

static inline void queue_remove(struct chan_queue *q, struct chan_waiter *w) {
  if (w->prev)
    w->prev->next = w->next;
  else
    queue_set_first(q, w->next);
  if (w->next)
    w->next->prev = w->prev;
  else
    q->last = w->prev;
  w->queued = false;
}

/*
 * The first who really waits, or null.  A selecting G may have been taken at another channel, or its time may be over: then it is on its way to
 * take itself out of here, and is passed over.  So are those that have stayed in the parent of a fork.
 */
static inline struct chan_waiter *queue_pop(struct chan_queue *q) {
  struct chan_waiter *w;
  while ((w = queue_first(q))) {
    queue_remove(q, w);
    if (__builtin_expect(w->forks != light_forks, 0)) continue;
    if (!w->select) return w;
    /* Against the other channels of the select and its timer.  Relaxed: what goes with it is passed on by g_ready; and that it is armed
     * was written before the waiter was queued, under our lock. */
    uint32_t armed = 0;
    if (atomic_compare_exchange_strong_explicit(&w->g->select_done, &armed, 1, memory_order_relaxed, memory_order_relaxed)) {
      w->g->wait = w;
      return w;
    }
  }
  return NULL;
}

/* --- elements --- */

static inline void elem_copy(void *to, const void *from, uint32_t size) {
  if (size == 8)
    memcpy(to, from, 8);
  else if (size == 4)
    memcpy(to, from, 4);
  else if (size == 16)
    memcpy(to, from, 16);
  else if (size)
    memcpy(to, from, size);
}

static inline void elem_zero(void *to, uint32_t size) {
  if (to && size) memset(to, 0, size);
}

static inline unsigned char *chan_slot(struct ration_chan *c, uint32_t i) { return c->buffer + (size_t)i * c->elem_size; }
static inline uint32_t chan_after(const struct ration_chan *c, uint32_t i) { return i + 1 == c->capacity ? 0 : i + 1; }

static inline void buffer_put_locked(struct ration_chan *c, const void *v) {
  elem_copy(chan_slot(c, c->send_at), v, c->elem_size);
  c->send_at = chan_after(c, c->send_at);
}
static inline void buffer_get_locked(struct ration_chan *c, void *v) {
  if (v) elem_copy(v, chan_slot(c, c->recv_at), c->elem_size);
  c->recv_at = chan_after(c, c->recv_at);
}
static inline void chan_set_count(struct ration_chan *c, uint32_t n) {
  atomic_store_explicit(&c->count, n, memory_order_relaxed); /* ordered by the lock */
}

/* --- the steps --- */

enum chan_result { CHAN_DONE, CHAN_CLOSED, CHAN_BLOCKS };

/* Sends if that is possible now.  *wake: a G to be readied once the lock is dropped, or null. */
static inline enum chan_result chan_send_locked(struct ration_chan *c, const void *v, struct g **wake) {
  *wake = NULL;
  if (__builtin_expect(chan_is_closed(c), 0)) return CHAN_CLOSED;
  struct chan_waiter *w = queue_pop(&c->receivers);
  if (w) { /* so the buffer is empty: past it, straight to the receiver */
    if (w->elem) elem_copy(w->elem, v, c->elem_size);
    w->success = true;
    *wake = w->g;
    return CHAN_DONE;
  }
  uint32_t n = chan_count(c);
  if (n == c->capacity) return CHAN_BLOCKS;
  buffer_put_locked(c, v);
  chan_set_count(c, n + 1);
  return CHAN_DONE;
}

/* Receives if that is possible now; CHAN_CLOSED: closed and drained, *v is zeroed. */
static inline enum chan_result chan_recv_locked(struct ration_chan *c, void *v, struct g **wake) {
  *wake = NULL;
  uint32_t n = chan_count(c);
  struct chan_waiter *w = queue_pop(&c->senders);
  if (w) { /* so the buffer is full: its oldest is for us, the sender's gets that slot.  Or there is no buffer. */
    if (n) {
      buffer_get_locked(c, v);
      buffer_put_locked(c, w->elem);
    } else if (v) {
      elem_copy(v, w->elem, c->elem_size);
    }
    w->success = true;
    *wake = w->g;
    return CHAN_DONE;
  }
  if (n) {
    buffer_get_locked(c, v);
    chan_set_count(c, n - 1);
    return CHAN_DONE;
  }
  if (!chan_is_closed(c)) return CHAN_BLOCKS;
  elem_zero(v, c->elem_size);
  return CHAN_CLOSED;
}

/* For leak checks, while g stands: the channels that it selects over without limit.  0: none. */
uint32_t select_waits_for(const struct g *g, struct ration_chan *const **chans);

/* "send on closed channel" */
_Noreturn void chan_fatal_send(void);

#endif
