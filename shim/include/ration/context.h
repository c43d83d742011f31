/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CONTEXT_H
#define RATION_CONTEXT_H
/*
 * Contexts: Go's package context.  One stands for a piece of work that may have to end early.  It goes down the calls of that work, which make contexts of their
 * own below it; when one ends, all below end with it.
 *
 *   struct ration_context *ctx = ration_context_with_timeout(parent, 50 * RATION_MS);
 *   struct ration_case cases[] = {ration_case_recv(results, &v), ration_case_recv(ration_context_done(ctx), NULL)};
 *   int r = ration_select(cases, 2, RATION_FOREVER) == 0 ? 0 : ration_context_err(ctx);
 *   ration_context_cancel(ctx);
 *   ration_context_unref(ctx);
 *
 * They are counted: what makes one returns it with a reference of the caller's, and holds one to the parent.  A null context is as good as the background
 * everywhere.  All functions may be called in any G and thread; none waits, where it does not say so.
 */
#include <stdbool.h>
#include "ration/chan.h"
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_context;

/* The root: never ends, has no value and no deadline.  It is not counted.  context.Background. */
RATION_API struct ration_context *ration_context_background(void);

/* Ends by ration_context_cancel, or with its parent.  NULL: no memory.  context.WithCancel. */
RATION_API struct ration_context *ration_context_with_cancel(struct ration_context *parent);
/*
 * The same, and at the latest at `at` (ns, as ration_now), with -ETIMEDOUT.  A deadline above that comes earlier counts.  Not in the child of a fork: there those of its parent's
 * never come.  context.WithDeadline.
 */
RATION_API struct ration_context *ration_context_with_deadline(struct ration_context *parent, ration_ns at);
/* The deadline is d from now; d <= 0: it has ended when this returns.  context.WithTimeout. */
RATION_API struct ration_context *ration_context_with_timeout(struct ration_context *parent, ration_ns d);
/* Has `value` for `key`, and ends with its parent.  Keys are compared as addresses: use that of a static variable.  NULL: no memory, or key is null.  context.WithValue. */
RATION_API struct ration_context *ration_context_with_value(struct ration_context *parent, const void *key, void *value);
/* Has the values of its parent, but never ends.  context.WithoutCancel. */
RATION_API struct ration_context *ration_context_without_cancel(struct ration_context *parent);

/*
 * Ends ctx and all below with -ECANCELED; returns when that is done, so it may have to wait for somebody who has just begun to.  The first end counts: later ones do nothing.  Does nothing to a context that has no end of its
 * own (with_value, without_cancel, background).  CancelFunc.
 */
RATION_API void ration_context_cancel(struct ration_context *ctx);
/* The same, and ration_context_cause will say `cause` (-errno or a number of yours; 0: -ECANCELED).  CancelCauseFunc. */
RATION_API void ration_context_cancel_cause(struct ration_context *ctx, int cause);

/* 0: it goes on.  -ECANCELED, -ETIMEDOUT: how it ended.  Context.Err. */
RATION_API int ration_context_err(const struct ration_context *ctx);
/* As ration_context_err, but the cause where one was given.  context.Cause. */
RATION_API int ration_context_cause(const struct ration_context *ctx);
/*
 * A channel that is closed when ctx ends, for ration_select and ration_chan_recv.  Always the same one; valid as long as ctx is.  NULL, which is never
 * ready: it can't end.  Nobody else may close it or send to it.  Context.Done.
 */
RATION_API struct ration_chan *ration_context_done(const struct ration_context *ctx);
/* True: it ends at *at (ns, as ration_now; null: not wanted) at the latest.  Context.Deadline. */
RATION_API bool ration_context_deadline(const struct ration_context *ctx, ration_ns *at);
/* The value for key, its own or the nearest above; NULL: none.  Context.Value. */
RATION_API void *ration_context_value(const struct ration_context *ctx, const void *key);

/* Waits until ctx ends; its error.  Go: <-ctx.Done(). */
RATION_API int ration_context_wait(struct ration_context *ctx);
/* Waits for d.  0; the error of ctx, if it ends before. */
RATION_API int ration_context_sleep(struct ration_context *ctx, ration_ns d);

/*
 * Binds ctx to the calls that wait of the calling G, until another is bound, null is, or the G ends; its children have none.  Go's
 * SetDeadline, but for the G and not for the descriptor.  From then on read, write, recv, send, accept, connect, poll, select, epoll_wait and
 * their kin, nanosleep, sleep and usleep, wait*, flock, fcntl locks, msg*, sem*op, mq_* and sigwaitinfo fail when ctx has ended, as they fail
 * otherwise, with ETIMEDOUT or ECANCELED in errno (or as result, where that is an error number); getaddrinfo and getnameinfo return
 * EAI_SYSTEM, with the same.  At once if it ended before, for descriptors also where there would be data; else as soon as it ends.
 * A write that has written something says how much; a sleep, how much is left.  A connect goes on in the kernel: close the socket.
 *
 * Not concerned: regular files, calls that don't wait (MSG_DONTWAIT, WNOHANG, a timeout of 0), ration_sleep, what the man page names.
 * The G holds a reference while ctx is bound.  0; -EINVAL: the caller is no light G.
 */
RATION_API int ration_io_context(struct ration_context *ctx);
/* What is bound to the calling G, or null.  No reference of the caller's: take one to bind it again later. */
RATION_API struct ration_context *ration_io_context_bound(void);

/* One more reference; returns ctx.  Null: nothing. */
RATION_API struct ration_context *ration_context_ref(struct ration_context *ctx);
/*
 * One less.  The last one takes it off its parent and frees it; it does not count as an end, for nobody is left to see one.  May wait a moment for a
 * deadline that is just coming.  Null: nothing.
 */
RATION_API void ration_context_unref(struct ration_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
