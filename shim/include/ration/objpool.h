/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_OBJPOOL_H
#define RATION_OBJPOOL_H
/*
 * Objects that are made once and used again by many, one after the other: Go's sync.Pool.
 *
 *   struct ration_objpool *buffers = ration_objpool_new(&(struct ration_objpool_options){.make = new_buffer, .drop = free_buffer});
 *   struct buffer *b = ration_objpool_get(buffers);
 *   ...
 *   ration_objpool_put(buffers, b);
 *
 * Each kernel thread that runs Gs has a cache of its own, so that get and put touch no memory of other CPUs; get looks into the others' before it makes one.  There
 * is no garbage collector to empty it: each cache keeps `keep` objects at most, and ration_objpool_trim drops what was not needed lately.
 *
 * Any Gs and threads may use a pool at once, but free.  What was done to an object before put is seen after the get that returns it.  They wait only where make or drop
 * do.  None is async-signal-safe.
 */
#include <stddef.h>
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_objpool;

struct ration_objpool_options {
  void *(*make)(void *arg);           /* a new object; null: get returns NULL where there is none */
  void (*drop)(void *obj, void *arg); /* one that is not kept; null: it is forgotten.  Both may wait */
  void *arg;
  unsigned keep; /* objects per cache, of which there are 32; 0: 64 */
};

/* Null options: all defaults.  NULL: no memory. */
RATION_API struct ration_objpool *ration_objpool_new(const struct ration_objpool_options *options);
/* An object that was put, if there is one, the youngest of this thread first; else what make returns.  Pool.Get. */
RATION_API void *ration_objpool_get(struct ration_objpool *pool);
/* obj is the pool's.  Null: nothing.  Pool.Put. */
RATION_API void ration_objpool_put(struct ration_objpool *pool, void *obj);
/* Drops the objects that no get has needed since the last trim.  How many. */
RATION_API size_t ration_objpool_trim(struct ration_objpool *pool);
/* Drops all, and the pool; nobody else uses it any more.  Objects that are out belong to who has them.  Null: nothing. */
RATION_API void ration_objpool_free(struct ration_objpool *pool);

#ifdef __cplusplus
}
#endif
#endif
