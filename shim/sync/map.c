/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash map in 64 shards, each with a lock, a table of chains, and a list of all its nodes in the order they came.
 *
 *   hash:  | 6 bits: shard |  ...  | low bits: bucket |
 *
 *   shard   old table  [ moved ... | chains ... ]     while it grows: buckets before `moved` are in the new one; each change moves MOVE more,
 *           table      [ chains ............... ]     so no one pays for all of them
 *
 * A node is in its chain, and in the list.  `refs` is 1 for the chain, and 1 for each range that is at it; one that was deleted stays in the list
 * until no range needs it to go on from.  A range stops at what came after it began: so a key that is deleted and stored again does not
 * come twice.
 *
 * Nothing is allocated or freed under a lock: a store brings its node along, a shard that is too full lets go of the lock for its new table.
 * Functions that lock are not inlined: see lot_unlock.
 *
 * Rejected: reading without locks (Go's sync.Map, its read-only half; HashTrieMap).  In C it needs deferred reclamation for every value as well, and
 * with a lock per shard an uncontended load is two atomic instructions.
 *
 * Locks: a shard's, a leaf; one at a time.
 */
#include "ration/map.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "core/light.h"

#define SHARDS_LOG2 6
#define SHARDS (1u << SHARDS_LOG2)
#define FIRST_BUCKETS 8u
#define MOVE 4u

struct node {
  struct node *chain;
  struct node *next, *prev; /* all of the shard */
  uint64_t hash;
  uint64_t seq; /* of its insertion */
  void *value;
  uint32_t refs;
  uint32_t len;
  bool deleted;
  _Alignas(8) unsigned char key[];
};

struct shard {
  struct lock lock;
  uint32_t moved;                /* buckets of `old` */
  uint32_t buckets, old_buckets; /* powers of two, or 0 */
  struct node **table, **old;
  struct node *first, *last;
  uint64_t seq;
  size_t count;
} __attribute__((aligned(64)));

struct ration_map {
  uint64_t seed;
  struct shard shards[SHARDS];
};

struct key {
  const void *bytes;
  uint32_t len;
  uint64_t hash;
};

/* What is to be freed once the lock is dropped. */
struct garbage {
  struct node *node;
  struct node **table;
};

/* --- keys --- */

static inline uint64_t mix(uint64_t a, uint64_t b) {
  __extension__ unsigned __int128 r = (unsigned __int128)a * b;
  return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static uint64_t hash_bytes(const unsigned char *p, size_t n, uint64_t seed) {
  uint64_t h = seed, v;
  for (; n > 8; p += 8, n -= 8) {
    memcpy(&v, p, 8);
    h = mix(h ^ v, 0x9e3779b97f4a7c15u);
  }
  v = 0;
  memcpy(&v, p, n);
  return mix(h ^ v, 0xa0761d6478bd642fu ^ n);
}

static bool key_make(struct ration_map *m, const void *bytes, size_t n, struct key *k) {
  if (n > UINT32_MAX) return false;
  *k = (struct key){bytes, (uint32_t)n, hash_bytes(bytes, n, m->seed)};
  k->hash = mix(k->hash, m->seed | 1);
  return true;
}

static inline bool key_is(const struct node *n, const struct key *k) {
  return n->hash == k->hash && n->len == k->len && memcmp(n->key, k->bytes, k->len) == 0;
}

/* --- shards --- */

static __attribute__((noinline)) struct shard *shard_lock(struct shard *s) {
  run_lock(&s->lock);
  return s;
}
static __attribute__((noinline)) void shard_unlock(struct shard *s) { run_unlock(&s->lock); }

static struct shard *shard_of(struct ration_map *m, const struct key *k) { return shard_lock(&m->shards[k->hash >> (64 - SHARDS_LOG2)]); }

static struct node **bucket(struct shard *s, uint64_t hash) {
  if (s->old) {
    uint32_t i = (uint32_t)hash & (s->old_buckets - 1);
    if (i >= s->moved) return &s->old[i];
  }
  return &s->table[(uint32_t)hash & (s->buckets - 1)];
}

/* Where the pointer to the node of k is, or would be (if there is a table). */
static struct node **find(struct shard *s, const struct key *k) {
  static struct node *nothing;
  if (!s->buckets) return &nothing;
  struct node **at = bucket(s, k->hash);
  while (*at && !key_is(*at, k)) at = &(*at)->chain;
  return at;
}

/* Goes on with growing.  The old table goes when it is empty. */
static void move_some(struct shard *s, struct garbage *g) {
  for (uint32_t i = 0; s->old && i < MOVE; i++) {
    struct node *n = s->old[s->moved++], *next;
    for (; n; n = next) {
      next = n->chain;
      struct node **at = &s->table[(uint32_t)n->hash & (s->buckets - 1)];
      n->chain = *at;
      *at = n;
    }
    if (s->moved < s->old_buckets) continue;
    g->table = s->old;
    s->old = NULL;
  }
}

static bool too_full(const struct shard *s) { return !s->buckets || (!s->old && s->count >= s->buckets && s->buckets < (1u << 30)); }

/* Lets go of the lock for a moment.  False: no memory for a first table (with one, it does without). */
static bool grow(struct shard *s) {
  uint32_t want = s->buckets ? s->buckets * 2 : FIRST_BUCKETS;
  shard_unlock(s);
  struct node **table = calloc(want, sizeof *table);
  shard_lock(s);
  if (!table) return s->buckets != 0;
  if (!too_full(s) || (s->buckets && s->buckets * 2 != want)) { /* someone else was quicker */
    shard_unlock(s);
    free(table);
    shard_lock(s);
    return true;
  }
  s->old = s->table;
  s->old_buckets = s->buckets;
  s->moved = 0;
  s->table = table;
  s->buckets = want;
  return true;
}

static void list_add(struct shard *s, struct node *n) {
  n->seq = ++s->seq;
  n->next = NULL;
  n->prev = s->last;
  *(s->last ? &s->last->next : &s->first) = n;
  s->last = n;
  s->count++;
}

/* One reference less.  The last takes it off the list. */
static void unref(struct shard *s, struct node *n, struct garbage *g) {
  if (--n->refs) return;
  *(n->prev ? &n->prev->next : &s->first) = n->next;
  *(n->next ? &n->next->prev : &s->last) = n->prev;
  g->node = n;
}

static void *node_delete(struct shard *s, struct node **at, struct garbage *g) {
  struct node *n = *at;
  void *value = n->value;
  *at = n->chain;
  n->deleted = true;
  s->count--;
  unref(s, n, g);
  return value;
}

static void sweep(const struct garbage *g) {
  free(g->node);
  free(g->table);
}

/* --- operations --- */

struct ration_map *ration_map_new(void) {
  struct ration_map *m = aligned_alloc(64, (sizeof *m + 63) & ~(size_t)63);
  if (!m) return NULL;
  memset(m, 0, sizeof *m);
  if (getrandom(&m->seed, sizeof m->seed, GRND_NONBLOCK) != sizeof m->seed) m->seed = sys_now() ^ (uintptr_t)m;
  return m;
}

void ration_map_free(struct ration_map *m) {
  if (!m) return;
  for (unsigned i = 0; i < SHARDS; i++) {
    for (struct node *n = m->shards[i].first, *next; n; n = next) {
      next = n->next;
      free(n);
    }
    free(m->shards[i].table);
    free(m->shards[i].old);
  }
  free(m);
}

bool ration_map_load_bytes(struct ration_map *m, const void *key, size_t n, void **value) {
  struct key k;
  if (!key_make(m, key, n, &k)) return false;
  struct shard *s = shard_of(m, &k);
  struct node *found = *find(s, &k);
  if (found && value) *value = found->value;
  shard_unlock(s);
  return found != NULL;
}

static struct node *node_new(const struct key *k, void *value) {
  struct node *n = malloc(sizeof *n + k->len);
  if (!n) return NULL;
  *n = (struct node){.hash = k->hash, .value = value, .refs = 1, .len = k->len};
  memcpy(n->key, k->bytes, k->len);
  return n;
}

/* Under the lock.  True: it is there; *old is its value, which is `value` now if `set`. */
static bool put_found(struct node *n, void *value, bool set, void **old) {
  if (!n) return false;
  *old = n->value;
  if (set) n->value = value;
  return true;
}

/* 1: it was there, *old; 0: it is new; -ENOMEM. */
static int put(struct ration_map *m, const struct key *k, void *value, bool set, void **old) {
  struct garbage g = {.node = NULL};
  struct shard *s = shard_of(m, k);
  bool found = put_found(*find(s, k), value, set, old);
  shard_unlock(s);
  if (found) return 1;
  struct node *n = node_new(k, value);
  if (!n) return -ENOMEM;
  shard_lock(s);
  if (too_full(s) && !grow(s)) {
    shard_unlock(s);
    free(n);
    return -ENOMEM;
  }
  struct node **at = find(s, k);
  found = put_found(*at, value, set, old);
  if (found) {
    g.node = n;
  } else {
    *at = n;
    list_add(s, n);
    move_some(s, &g);
  }
  shard_unlock(s);
  sweep(&g);
  return found;
}

int ration_map_store_bytes(struct ration_map *m, const void *key, size_t n, void *value) {
  void *old;
  struct key k;
  if (!key_make(m, key, n, &k)) return -EINVAL;
  int r = put(m, &k, value, true, &old);
  return r < 0 ? r : 0;
}

int ration_map_load_or_store_bytes(struct ration_map *m, const void *key, size_t n, void *value, void **actual) {
  void *old = value;
  struct key k;
  if (!key_make(m, key, n, &k)) return -EINVAL;
  int r = put(m, &k, value, false, &old);
  if (r >= 0 && actual) *actual = old;
  return r;
}

int ration_map_swap_bytes(struct ration_map *m, const void *key, size_t n, void *value, void **previous) {
  void *old = NULL;
  struct key k;
  if (!key_make(m, key, n, &k)) return -EINVAL;
  int r = put(m, &k, value, true, &old);
  if (r >= 0 && previous) *previous = old;
  return r;
}

bool ration_map_compare_and_swap_bytes(struct ration_map *m, const void *key, size_t n, void *old, void *value) {
  struct key k;
  if (!key_make(m, key, n, &k)) return false;
  struct shard *s = shard_of(m, &k);
  struct node *found = *find(s, &k);
  bool same = found && found->value == old;
  if (same) found->value = value;
  shard_unlock(s);
  return same;
}

/* only: if that is its value; null: in any case. */
static bool take(struct ration_map *m, const void *key, size_t n, void *const *only, void **value) {
  struct garbage g = {.node = NULL};
  struct key k;
  if (!key_make(m, key, n, &k)) return false;
  struct shard *s = shard_of(m, &k);
  struct node **at = find(s, &k);
  bool taken = *at && (!only || (*at)->value == *only);
  if (taken) {
    void *was = node_delete(s, at, &g);
    if (value) *value = was;
    move_some(s, &g);
  }
  shard_unlock(s);
  sweep(&g);
  return taken;
}

bool ration_map_load_and_delete_bytes(struct ration_map *m, const void *key, size_t n, void **value) {
  return take(m, key, n, NULL, value);
}
bool ration_map_delete_bytes(struct ration_map *m, const void *key, size_t n) { return take(m, key, n, NULL, NULL); }
bool ration_map_compare_and_delete_bytes(struct ration_map *m, const void *key, size_t n, void *old) { return take(m, key, n, &old, NULL); }

bool ration_map_load(struct ration_map *m, uint64_t key, void **value) { return ration_map_load_bytes(m, &key, sizeof key, value); }
int ration_map_store(struct ration_map *m, uint64_t key, void *value) { return ration_map_store_bytes(m, &key, sizeof key, value); }
int ration_map_load_or_store(struct ration_map *m, uint64_t key, void *value, void **actual) {
  return ration_map_load_or_store_bytes(m, &key, sizeof key, value, actual);
}
int ration_map_swap(struct ration_map *m, uint64_t key, void *value, void **previous) {
  return ration_map_swap_bytes(m, &key, sizeof key, value, previous);
}
bool ration_map_compare_and_swap(struct ration_map *m, uint64_t key, void *old, void *value) {
  return ration_map_compare_and_swap_bytes(m, &key, sizeof key, old, value);
}
bool ration_map_load_and_delete(struct ration_map *m, uint64_t key, void **value) { return take(m, &key, sizeof key, NULL, value); }
bool ration_map_delete(struct ration_map *m, uint64_t key) { return take(m, &key, sizeof key, NULL, NULL); }
bool ration_map_compare_and_delete(struct ration_map *m, uint64_t key, void *old) { return take(m, &key, sizeof key, &old, NULL); }

/* --- all of them --- */

/* From `at` (a reference to it is dropped; null: from the start) to the next that is there, with a reference.  Null: no more up to `last`. */
static struct node *step(struct shard *s, struct node *at, uint64_t last, void **value) {
  struct garbage g = {.node = NULL};
  shard_lock(s);
  struct node *n = at ? at->next : s->first;
  while (n && n->deleted) n = n->next;
  if (n && n->seq > last) n = NULL;
  if (n) {
    n->refs++;
    *value = n->value;
  }
  if (at) unref(s, at, &g);
  shard_unlock(s);
  sweep(&g);
  return n;
}

static size_t count_and_seq(struct shard *s, uint64_t *seq) {
  shard_lock(s);
  size_t n = s->count;
  *seq = s->seq;
  shard_unlock(s);
  return n;
}

void ration_map_range(struct ration_map *m, ration_map_fn *fn, void *arg) {
  bool more = true;
  for (unsigned i = 0; i < SHARDS && more; i++) {
    struct shard *s = &m->shards[i];
    void *value;
    uint64_t last;
    if (!count_and_seq(s, &last)) continue;
    for (struct node *n = step(s, NULL, last, &value); n; n = step(s, n, more ? last : 0, &value))
      if (more) more = fn(n->key, n->len, value, arg);
  }
}

static bool delete_it(const void *key, size_t n, void *value, void *arg) {
  (void)value;
  (void)take(arg, key, n, NULL, NULL);
  return true;
}

void ration_map_clear(struct ration_map *m) { ration_map_range(m, delete_it, m); }

size_t ration_map_len(struct ration_map *m) {
  size_t n = 0;
  uint64_t seq;
  for (unsigned i = 0; i < SHARDS; i++) n += count_and_seq(&m->shards[i], &seq);
  return n;
}
