/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_GROUP_H
#define RATION_GROUP_H
/*
 * Groups: Gs that work on parts of one thing; the first that fails ends it.  golang.org/x/sync/errgroup.
 *
 *   struct ration_group *grp = ration_group_new(NULL);
 *   for (i = 0; i < n; i++) ration_group_go(grp, fetch, &pages[i]);
 *   int err = ration_group_wait(grp);
 *   ration_group_free(grp);
 *
 * Functions of one group may be called by any Gs and threads, several at once, but set_limit and free.  Those wait that say so.  What a function did is
 * seen after the wait for it.  None is async-signal-safe.
 */
#include "ration/context.h"
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_group;

/* 0, or what wait is to return: -errno or any other number. */
typedef int ration_group_fn(void *arg);

/* With a context of its own below parent (null: the background), and no limit.  NULL: no memory.  errgroup.WithContext. */
RATION_API struct ration_group *ration_group_new(struct ration_context *parent);
/* Ends when the first function fails (its cause is that error), or when wait returns.  Valid as long as the group; take a reference to keep it. */
RATION_API struct ration_context *ration_group_context(struct ration_group *grp);
/*
 * Runs fn(arg) in a new light G; waits until fewer than the limit run.  fn must be done before the group is freed.  It may start others in its group; with a limit that may
 * wait for ever.  0; -EAGAIN, -ENOMEM: not started; -EBUSY: the limit is 0.  ration_exit in fn counts as 0.  Fatal: fn is null.  Group.Go.
 */
RATION_API int ration_group_go(struct ration_group *grp, ration_group_fn *fn, void *arg);
/* The same without waiting.  -EBUSY: as many as the limit run.  Group.TryGo. */
RATION_API int ration_group_try_go(struct ration_group *grp, ration_group_fn *fn, void *arg);
/* At most n at the same time; n < 0: no limit; 0: none any more.  -EBUSY: some run now (there Go panics).  Group.SetLimit. */
RATION_API int ration_group_set_limit(struct ration_group *grp, int n);
/* Waits until all have returned, and ends the context.  The first error, or 0.  Group.Wait. */
RATION_API int ration_group_wait(struct ration_group *grp);
/* Waits until all have returned, then frees it.  Null: nothing. */
RATION_API void ration_group_free(struct ration_group *grp);

#ifdef __cplusplus
}
#endif
#endif
