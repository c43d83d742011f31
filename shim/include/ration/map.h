/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_MAP_H
#define RATION_MAP_H
/*
 * A hash map for many Gs and threads at once: Go's sync.Map.
 *
 *   struct ration_map *m = ration_map_new();
 *   ration_map_store(m, 42, conn);                        keys are uint64_t, ration_map_ptr(p) for pointers,
 *   ration_map_store_bytes(m, name, strlen(name), conn);  or bytes, which are copied
 *   if (ration_map_load(m, 42, &v)) ...
 *
 * A uint64_t key is the same as its 8 bytes: a map should have keys of one kind.  Values are pointers; the map does not look behind them nor own them.
 * Every operation on one key happens at one moment; what was done before a store is seen after the load that finds it.  None waits but for
 * the holder of a lock, which holds it for moments; fn of range runs without one.  None is async-signal-safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_map;

/* NULL: no memory. */
RATION_API struct ration_map *ration_map_new(void);
/* Nobody else uses it any more.  Null: nothing. */
RATION_API void ration_map_free(struct ration_map *m);

/* The key of a pointer. */
static inline uint64_t ration_map_ptr(const void *p) { return (uint64_t)(uintptr_t)p; }

/* True: key is there; *value (null: not wanted) is its value.  Map.Load. */
RATION_API bool ration_map_load(struct ration_map *m, uint64_t key, void **value);
/* 0, or -ENOMEM: nothing was changed.  Map.Store. */
RATION_API int ration_map_store(struct ration_map *m, uint64_t key, void *value);
/* 1: it was there; *actual is its value.  0: it was not; value was stored, and is *actual (null: not wanted).  -ENOMEM.  Map.LoadOrStore. */
RATION_API int ration_map_load_or_store(struct ration_map *m, uint64_t key, void *value, void **actual);
/* Stores value.  1: there was one before, *previous; 0: there was none, *previous is null (previous null: not wanted).  -ENOMEM.  Map.Swap. */
RATION_API int ration_map_swap(struct ration_map *m, uint64_t key, void *value, void **previous);
/* True: its value was `old`, and is `value` now.  Map.CompareAndSwap. */
RATION_API bool ration_map_compare_and_swap(struct ration_map *m, uint64_t key, void *old, void *value);
/* True: it was there; *value (null: not wanted) was its value.  Map.LoadAndDelete. */
RATION_API bool ration_map_load_and_delete(struct ration_map *m, uint64_t key, void **value);
/* True: it was there.  Map.Delete. */
RATION_API bool ration_map_delete(struct ration_map *m, uint64_t key);
/* True: its value was `old`, and it is gone now.  Map.CompareAndDelete. */
RATION_API bool ration_map_compare_and_delete(struct ration_map *m, uint64_t key, void *old);

/* The same for keys of n bytes, at most UINT32_MAX (more: never there, -EINVAL). */
RATION_API bool ration_map_load_bytes(struct ration_map *m, const void *key, size_t n, void **value);
RATION_API int ration_map_store_bytes(struct ration_map *m, const void *key, size_t n, void *value);
RATION_API int ration_map_load_or_store_bytes(struct ration_map *m, const void *key, size_t n, void *value, void **actual);
RATION_API int ration_map_swap_bytes(struct ration_map *m, const void *key, size_t n, void *value, void **previous);
RATION_API bool ration_map_compare_and_swap_bytes(struct ration_map *m, const void *key, size_t n, void *old, void *value);
RATION_API bool ration_map_load_and_delete_bytes(struct ration_map *m, const void *key, size_t n, void **value);
RATION_API bool ration_map_delete_bytes(struct ration_map *m, const void *key, size_t n);
RATION_API bool ration_map_compare_and_delete_bytes(struct ration_map *m, const void *key, size_t n, void *old);

/*
 * Calls fn for one key after the other, until it says false; a uint64_t key is the 8 bytes at `key` (aligned).  It may use the map, this key included, and may
 * wait.  No key comes twice; what is stored or deleted meanwhile may come or not.  Map.Range.
 */
typedef bool ration_map_fn(const void *key, size_t n, void *value, void *arg);
RATION_API void ration_map_range(struct ration_map *m, ration_map_fn *fn, void *arg);
/* Deletes all that was there at the call, one after the other.  Map.Clear. */
RATION_API void ration_map_clear(struct ration_map *m);
/* How many there are, if it does not change meanwhile. */
RATION_API size_t ration_map_len(struct ration_map *m);

#ifdef __cplusplus
}
#endif
#endif
