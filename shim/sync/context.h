/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_CONTEXT_H
#define RATION_SYNC_CONTEXT_H
/* What the rest of shim/sync knows of contexts: hooks, so that a wait needs no channel and no memory.  context.c has the protocol. */
#include <stdbool.h>
#include <stdint.h>

struct ration_context;

/* The caller's, often on its stack.  fn is called once when the context ends, perhaps on a scheduler stack: it must not block. */
struct context_hook {
  void (*fn)(struct context_hook *h, int err);
  void *arg;
  /* [lock of `in`] */
  struct context_hook *next, *prev;
  struct ration_context *in; /* null: of a context that never ends */
  bool child;                /* it is that of a context below */
};
/* 0; or the error of a context that has ended, and fn won't be called. */
int context_hook_add(struct ration_context *ctx, struct context_hook *h);
/* True: fn has not been called and won't be.  False: it has been or is being. */
bool context_hook_remove(struct context_hook *h);
/* Parks until `until` (CLOCK_MONOTONIC ns).  0; the error of ctx, if it ends before or has ended; -EINTR (sync/stop.h). */
int context_sleep_until(struct ration_context *ctx, uint64_t until);
struct g;
/* g ends. */
void sync_g_unbinds(struct g *g);
/* As ration_context_cancel of one made by ration_context_with_cancel, but somebody else may still be ending some below when it returns: for who must not park.  Null: nothing. */
void context_end(struct ration_context *ctx);
/* As ration_context_err; null: 0. */
int context_err(const struct ration_context *ctx);

#endif
