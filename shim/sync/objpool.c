/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's sync.Pool: a stack of objects per M, each with a lock of its own, which is nobody else's as a rule.
 *
 *   cache   [ least | ........ | top ]     put pushes, get pops
 *             '-- `low`: not so few were here since the last trim; those at the bottom were not needed
 *
 * Ms share a cache where there are more of them than caches, threads that are no M by their thread pointer.
 *
 * Locks: a cache's, a leaf; one at a time.  make and drop are called without.
 */
#include "ration/objpool.h"
#include <stdlib.h>
#include <string.h>
#include "core/light.h"

#define CACHES 32u
#define KEEP 64u
#define DROP_BATCH 32u

struct cache {
  struct lock lock;
  _Atomic unsigned n; /* [lock to write] */
  unsigned low;
  void **objs;
} __attribute__((aligned(64)));

struct ration_objpool {
  struct ration_objpool_options opt;
  struct cache caches[CACHES];
};

struct ration_objpool *ration_objpool_new(const struct ration_objpool_options *options) {
  struct ration_objpool *p = aligned_alloc(64, (sizeof *p + 63) & ~(size_t)63);
  if (!p) return NULL;
  memset(p, 0, sizeof *p);
  if (options) p->opt = *options;
  if (!p->opt.keep) p->opt.keep = KEEP;
  void **objs = calloc((size_t)CACHES * p->opt.keep, sizeof *objs);
  if (!objs) {
    free(p);
    return NULL;
  }
  for (unsigned i = 0; i < CACHES; i++) p->caches[i].objs = objs + (size_t)i * p->opt.keep;
  return p;
}

static unsigned own(void) {
  struct m *m = m_self;
  return m ? m->id % CACHES : (unsigned)(((uintptr_t)__builtin_thread_pointer() * 0x9e3779b97f4a7c15u) >> 59);
}

static __attribute__((noinline)) void *pop(struct cache *c) {
  void *obj = NULL;
  run_lock(&c->lock);
  unsigned n = atomic_load_explicit(&c->n, memory_order_relaxed);
  if (n) {
    obj = c->objs[--n];
    atomic_store_explicit(&c->n, n, memory_order_relaxed);
    if (n < c->low) c->low = n;
  }
  run_unlock(&c->lock);
  return obj;
}

void *ration_objpool_get(struct ration_objpool *p) {
  unsigned first = own();
  for (unsigned i = 0; i < CACHES; i++) {
    struct cache *c = &p->caches[(first + i) % CACHES];
    if (!atomic_load_explicit(&c->n, memory_order_relaxed)) continue; /* a hint: pop looks under the lock */
    void *obj = pop(c);
    if (obj) return obj;
  }
  return p->opt.make ? p->opt.make(p->opt.arg) : NULL;
}

static __attribute__((noinline)) bool push(struct ration_objpool *p, void *obj) {
  struct cache *c = &p->caches[own()];
  run_lock(&c->lock);
  unsigned n = atomic_load_explicit(&c->n, memory_order_relaxed);
  bool room = n < p->opt.keep;
  if (room) {
    c->objs[n] = obj;
    atomic_store_explicit(&c->n, n + 1, memory_order_relaxed);
  }
  run_unlock(&c->lock);
  return room;
}

void ration_objpool_put(struct ration_objpool *p, void *obj) {
  if (obj && !push(p, obj) && p->opt.drop) p->opt.drop(obj, p->opt.arg);
}

/* Takes up to DROP_BATCH of the `low` at the bottom. */
static __attribute__((noinline)) unsigned take_low(struct cache *c, void **out) {
  run_lock(&c->lock);
  unsigned n = atomic_load_explicit(&c->n, memory_order_relaxed), take = c->low < DROP_BATCH ? c->low : DROP_BATCH;
  memcpy(out, c->objs, take * sizeof *out);
  memmove(c->objs, c->objs + take, (n - take) * sizeof *out);
  atomic_store_explicit(&c->n, n - take, memory_order_relaxed);
  c->low -= take;
  if (take < DROP_BATCH) c->low = n - take; /* done: from here on it is counted anew */
  run_unlock(&c->lock);
  return take;
}

size_t ration_objpool_trim(struct ration_objpool *p) {
  size_t total = 0;
  for (unsigned i = 0; i < CACHES; i++) {
    void *out[DROP_BATCH];
    unsigned n;
    do {
      n = take_low(&p->caches[i], out);
      for (unsigned k = 0; k < n && p->opt.drop; k++) p->opt.drop(out[k], p->opt.arg);
      total += n;
    } while (n == DROP_BATCH);
  }
  return total;
}

void ration_objpool_free(struct ration_objpool *p) {
  if (!p) return;
  for (unsigned i = 0; i < CACHES; i++)
    for (void *obj; (obj = pop(&p->caches[i]));)
      if (p->opt.drop) p->opt.drop(obj, p->opt.arg);
  free(p->caches[0].objs);
  free(p);
}
