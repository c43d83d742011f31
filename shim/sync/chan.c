/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels, after Go's chan.go: a lock, a ring of elements, and two queues of Gs that wait.
 *
 *                         senders                                          receivers
 *     sender  -->   [ w ][ w ][ w ]   -->   ring of `capacity` elements  -->  [ w ][ w ]   -->  receiver
 *                   wait while it is full                                     wait while it is empty
 *
 * What always holds while the lock is free:
 *   (1) a receiver waits only if the ring is empty, a sender only if it is full; on an unbuffered channel both may be true, but
 *       then only one of the queues has a waiter, except that a select may stand in both
 *   (2) nobody waits at a closed channel
 * (Waiters of a select that has been won elsewhere don't count: queue_pop passes them over.)
 *
 * Blocking, by the pattern of light.h:
 *
 *   waiter   lock; not possible; push a struct chan_waiter that lies on its stack; g_park(unlock)
 *   waker    lock; pop it; copy from or to the waiter's own variable; success = true; unlock; g_ready
 *   close    lock; closed = 1; pop all, success = false; unlock; g_ready each
 *
 * So an element makes one trip, from the sender's variable to the receiver's, and a G that comes back from its park has
 * nothing more to do and takes no lock.  After unlock the waker may still use the waiter: its G is parked until g_ready, and who popped it
 * is the one to do that.
 *
 * Locks: one channel's at a time; select.c alone takes several, in the order of their addresses.  g_ready is never called under one.
 *
 * Looks without the lock (try_send, try_recv): `closed` goes from 0 to 1 once.  So if the ring was full or empty, and after that the channel is still
 * open, then there was a moment when it was both, and to block was right.  Such a look can only lead to giving up; who goes on takes the lock and looks again.
 * (Go looks at `closed` first in a send, and may say "would block" of a channel whose receivers close has just sent away.)
 *
 * Model: tests/model/select.pml.
 *
 * No function takes a lock both before and after a park: on aarch64 a compiler may keep the thread pointer in a register across
 * it, and the G may come back on another thread.
 *
 * Rejected: lock-free rings.  A select has to see several channels at one moment, and close has to know that no send is under way; both come down
 * to a lock again.  One lock on one cache line costs one locked instruction a transfer.
 */
#include "sync/chan.h"
#include <errno.h>
#include "core/relax.h"
#include <stdlib.h>

/* --- the lock --- */

/*
 * Who finds the lock taken looks again after half a microsecond, not at once.  The lock is held for ten ns; but a CPU that comes for it takes the
 * whole cache line away from one that is in the middle of its transfers, for 100 ns each way.  Two Gs that do nothing but send and receive on
 * the same channel: 230 ns an item with looks after each pause, 32 ns with these.
 */
#define LOCK_LOOKS 3
#define LOCK_PAUSES 50     /* between two looks */
#define LOCK_NAP_NS 100000 /* chan.h says when one is not cut short */

__attribute__((cold)) void chan_lock_slow(struct lock *l) {
  for (int look = 0; look < LOCK_LOOKS; look++) {
    for (int i = 0; i < LOCK_PAUSES; i++) cpu_relax();
    uint32_t free = 0;
    /* acquire, as below: pairs with the release in chan_unlock */
    if (!lock_held(l) && atomic_compare_exchange_strong_explicit(&l->word, &free, 1, memory_order_acquire, memory_order_relaxed)) return;
  }
  while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire) != 0) sys_futex_wait(&l->word, 2, sys_now() + LOCK_NAP_NS, false);
}

__attribute__((cold)) void chan_lock_wake(struct lock *l) { sys_futex_wake(&l->word, 1, false); }

/* For g_park: drops the lock of a channel. */
static bool commit_unlock(struct g *g, void *c) {
  (void)g;
  chan_unlock(c);
  return true;
}

/* --- birth and death --- */

struct ration_chan *ration_chan_new(size_t elem_size, size_t capacity) {
  size_t bytes;
  if (elem_size > UINT32_MAX || capacity > UINT32_MAX || __builtin_mul_overflow(elem_size, capacity, &bytes) ||
      bytes > PTRDIFF_MAX - sizeof(struct ration_chan) - 64) {
    errno = EINVAL;
    return NULL;
  }
  bytes = (sizeof(struct ration_chan) + bytes + 63) & ~(size_t)63; /* aligned_alloc wants a multiple */
  struct ration_chan *c = aligned_alloc(64, bytes);
  if (!c) {
    errno = ENOMEM;
    return NULL;
  }
  memset(c, 0, sizeof *c);
  c->capacity = (uint32_t)capacity;
  c->elem_size = (uint32_t)elem_size;
  atomic_init(&c->refs, 1);
  return c;
}

struct ration_chan *ration_chan_ref(struct ration_chan *c) {
  if (c) atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed); /* the caller has one already */
  return c;
}

/* Nobody else knows of q any more. */
static bool anybody_waits(const struct chan_queue *q) {
  const struct chan_waiter *w = queue_first(q);
  while (w && w->forks != light_forks) w = w->next;
  return w != NULL;
}

void ration_chan_unref(struct ration_chan *c) {
  /* release: what we did to c happens before it is freed; acquire: in whoever frees it.  Both pair with this same line. */
  if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) return;
  if (anybody_waits(&c->receivers) || anybody_waits(&c->senders)) g_fatal("last reference of a channel dropped while Gs wait at it");
  free(c);
}

size_t ration_chan_len(const struct ration_chan *c) { return c ? chan_count(c) : 0; }
size_t ration_chan_cap(const struct ration_chan *c) { return c ? c->capacity : 0; }

/* --- blocking --- */

static _Noreturn __attribute__((cold, noinline)) void block_for_ever(void) {
  for (;;) g_park(NULL, NULL, WAIT_CHAN_NIL);
}

_Noreturn __attribute__((cold, noinline)) void chan_fatal_send(void) { g_fatal("send on closed channel"); }

/* With the lock of c, which is dropped: waits in q.  Returns why it was woken.  Not inlined: see above. */
static __attribute__((noinline)) bool wait_in(struct ration_chan *c, struct chan_queue *q, void *elem, enum wait_reason why) {
  struct g *g = g_self();
  struct chan_waiter w;
  w.g = g;
  w.elem = elem;
  w.select = false;
  queue_push(q, &w);
  g->wait = &w;
  g->waiting_on = c;
  g_park(commit_unlock, c, why);
  g->waiting_on = NULL;
  g->wait = NULL;
  return w.success; /* written before g_ready, which g_park has seen */
}

/* --- send and receive --- */

void ration_chan_send(struct ration_chan *c, const void *v) {
  struct g *wake;
  if (__builtin_expect(!c, 0)) block_for_ever();
  chan_lock(c);
  enum chan_result r = chan_send_locked(c, v, &wake);
  if (r == CHAN_BLOCKS) {
    if (!wait_in(c, &c->senders, (void *)v, WAIT_CHAN_SEND)) chan_fatal_send();
    return;
  }
  chan_unlock(c);
  if (wake) g_ready(wake, true);
  if (__builtin_expect(r == CHAN_CLOSED, 0)) chan_fatal_send();
}

bool ration_chan_recv(struct ration_chan *c, void *v) {
  struct g *wake;
  if (__builtin_expect(!c, 0)) block_for_ever();
  chan_lock(c);
  enum chan_result r = chan_recv_locked(c, v, &wake);
  if (r == CHAN_BLOCKS) return wait_in(c, &c->receivers, v, WAIT_CHAN_RECV);
  chan_unlock(c);
  if (wake) g_ready(wake, true);
  return r == CHAN_DONE;
}

/* --- without blocking --- */

/*
 * What was there at some moment.  acquire, all four: only so that the look at `closed` which follows is a later one; nothing is
 * published by these words, so they pair with relaxed stores (chan_set_count, queue_set_first); that close empties the queues comes after a fence.
 */
static inline bool chan_seems_empty(const struct ration_chan *c) {
  if (c->capacity == 0) return !atomic_load_explicit(&c->senders.first, memory_order_acquire);
  return atomic_load_explicit(&c->count, memory_order_acquire) == 0;
}
static inline bool chan_seems_full(const struct ration_chan *c) {
  if (c->capacity == 0) return !atomic_load_explicit(&c->receivers.first, memory_order_acquire);
  return atomic_load_explicit(&c->count, memory_order_acquire) == c->capacity;
}

int ration_chan_try_send(struct ration_chan *c, const void *v) {
  struct g *wake;
  if (!c) return -EAGAIN;
  /* Full, and then not closed: at the moment it was full it was open. */
  if (chan_seems_full(c) && !chan_is_closed(c)) return -EAGAIN;
  chan_lock(c);
  enum chan_result r = chan_send_locked(c, v, &wake);
  chan_unlock(c);
  if (wake) g_ready(wake, true);
  if (__builtin_expect(r == CHAN_CLOSED, 0)) chan_fatal_send();
  return r == CHAN_DONE ? 0 : -EAGAIN;
}

int ration_chan_try_recv(struct ration_chan *c, void *v) {
  struct g *wake;
  if (!c) return -EAGAIN;
  if (chan_seems_empty(c)) {
    /* acquire: pairs with the release in close: the second look sees all that was sent before. */
    if (atomic_load_explicit(&c->closed, memory_order_acquire) == 0) return -EAGAIN;
    if (chan_seems_empty(c)) { /* closed, so it stays empty */
      elem_zero(v, c->elem_size);
      return -EPIPE;
    }
  }
  chan_lock(c);
  enum chan_result r = chan_recv_locked(c, v, &wake);
  chan_unlock(c);
  if (wake) g_ready(wake, true);
  return r == CHAN_DONE ? 0 : r == CHAN_CLOSED ? -EPIPE : -EAGAIN;
}

/* --- for a while: a select with one case --- */

int ration_chan_send_timeout(struct ration_chan *c, const void *v, ration_ns timeout) {
  if (ration_chan_try_send(c, v) == 0) return 0;
  if (timeout <= 0) return -ETIMEDOUT;
  struct ration_case k = ration_case_send(c, v);
  int r = ration_select(&k, 1, timeout);
  return r < 0 ? r : 0;
}

int ration_chan_recv_timeout(struct ration_chan *c, void *v, ration_ns timeout) {
  int r = ration_chan_try_recv(c, v);
  if (r != -EAGAIN) return r;
  if (timeout <= 0) return -ETIMEDOUT;
  struct ration_case k = ration_case_recv(c, v);
  r = ration_select(&k, 1, timeout);
  return r < 0 ? r : k.ok ? 0 : -EPIPE;
}

/* --- close --- */

/* Takes all out of q, and hangs them behind *tail by their next pointers. */
static struct chan_waiter **close_queue(struct ration_chan *c, struct chan_queue *q, bool receivers, struct chan_waiter **tail) {
  struct chan_waiter *w;
  while ((w = queue_pop(q))) {
    if (receivers) elem_zero(w->elem, c->elem_size);
    w->success = false;
    *tail = w;
    tail = &w->next;
  }
  *tail = NULL;
  return tail;
}

void ration_chan_close(struct ration_chan *c) {
  if (__builtin_expect(!c, 0)) g_fatal("close of nil channel");
  struct chan_waiter *all, *next;
  chan_lock(c);
  if (__builtin_expect(chan_is_closed(c), 0)) {
    chan_unlock(c);
    g_fatal("close of closed channel");
  }
  atomic_store_explicit(&c->closed, 1, memory_order_release); /* pairs with try_recv */
  /* And before the queues are seen to be empty: pairs with the acquire in chan_seems_full, or a try_send would block at a channel that always had a receiver. */
  atomic_thread_fence(memory_order_release);
  close_queue(c, &c->senders, false, close_queue(c, &c->receivers, true, &all));
  chan_unlock(c);
  for (struct chan_waiter *w = all; w; w = next) {
    next = w->next; /* before its G runs and takes it away */
    g_ready(w->g, false);
  }
}
