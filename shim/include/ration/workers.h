/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_WORKERS_H
#define RATION_WORKERS_H
/*
 * Pools of workers: tasks without number on a bounded number of light Gs, which are kept for a while when they are idle.  What Go programs take
 * github.com/panjf2000/ants and github.com/Jeffail/tunny for.
 *
 *   struct ration_workers *pool = ration_workers_new(&(struct ration_workers_options){.size = 100});
 *   for (i = 0; i < n; i++) ration_workers_submit(pool, handle, &requests[i]);
 *   ration_workers_free(pool);
 *
 * A pool may be used by any number of Gs and threads at once, also by its own tasks (which must not wait for the pool itself).
 */
#include <stdbool.h>
#include <stddef.h>
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_context;
struct ration_workers;

/* Zeros mean the defaults. */
struct ration_workers_options {
  unsigned size;         /* workers at the same time; 0: no limit */
  ration_ns expiry;      /* idle workers end after so long; 0: 1 s; RATION_FOREVER: they stay */
  bool nonblocking;      /* submit returns -EAGAIN instead of waiting for a worker */
  unsigned max_blocking; /* so many may wait in submit at the same time, more get -EBUSY; 0: no limit */
  ration_fn *fn;         /* for ration_workers_invoke */
  /* Called when a task ended by ration_exit, with the task's argument, in the G that ends; null: not.  ants' PanicHandler.  What kills the process is beyond it. */
  void (*on_exit)(void *task_arg, void *arg);
  void *on_exit_arg;
};

/* NULL: no memory.  Null options: all defaults.  Workers are started as tasks come.  ants.NewPool, NewPoolWithFunc. */
RATION_API struct ration_workers *ration_workers_new(const struct ration_workers_options *options);

/*
 * Has fn(arg) run by a worker; waits until one is free.  Those that wait are served in order.  0: it will run.  -EAGAIN: none is free, and the pool is nonblocking; or there is no
 * memory for a worker.  -EBUSY: too many wait already.  -ESHUTDOWN: released, also while waiting.  -ENOMEM.  Fatal: fn is null.  Pool.Submit.
 */
RATION_API int ration_workers_submit(struct ration_workers *pool, ration_fn *fn, void *arg);
/* The same; waits no longer than d (-ETIMEDOUT), or than ctx lasts (its error). */
RATION_API int ration_workers_submit_timeout(struct ration_workers *pool, ration_fn *fn, void *arg, ration_ns d);
RATION_API int ration_workers_submit_ctx(struct ration_workers *pool, ration_fn *fn, void *arg, struct ration_context *ctx);
/* Submits the pool's own function.  -EINVAL: it has none.  PoolWithFunc.Invoke. */
RATION_API int ration_workers_invoke(struct ration_workers *pool, void *arg);
/* The same for n arguments, one after the other.  How many were submitted; the error, if that is none. */
RATION_API long ration_workers_invoke_all(struct ration_workers *pool, void *const args[], size_t n);

/*
 * Submits fn(arg) and waits until it has returned.  0, or why it was not run; -ECONNABORTED: it ended by ration_exit.  tunny's Pool.Process.
 */
RATION_API int ration_workers_run(struct ration_workers *pool, ration_fn *fn, void *arg);
/*
 * The same within a limit: -ETIMEDOUT, or the error of ctx: it has not run and won't.  -EINPROGRESS: the limit came while it runs, and it goes on: arg must stay.
 * ProcessTimed, ProcessCtx.
 */
RATION_API int ration_workers_run_timeout(struct ration_workers *pool, ration_fn *fn, void *arg, ration_ns d);
RATION_API int ration_workers_run_ctx(struct ration_workers *pool, ration_fn *fn, void *arg, struct ration_context *ctx);

/* Changes the size (0: no limit).  More: those that wait get theirs.  Less: idle workers end now, others when they have done their task.  Pool.Tune, SetSize. */
RATION_API void ration_workers_tune(struct ration_workers *pool, unsigned size);

/* Numbers of this moment.  size: Pool.Cap.  running: tasks that run (ants counts idle workers with them).  free: tasks that could start at once, UINT_MAX without a limit. */
RATION_API unsigned ration_workers_size(struct ration_workers *pool);
RATION_API unsigned ration_workers_running(struct ration_workers *pool);
RATION_API unsigned ration_workers_idle(struct ration_workers *pool);
RATION_API unsigned ration_workers_free_count(struct ration_workers *pool);
RATION_API unsigned ration_workers_waiting(struct ration_workers *pool);

/* No more tasks: idle workers end, those that wait in submit get -ESHUTDOWN.  Tasks that run go on.  Does not wait.  Pool.Release. */
RATION_API void ration_workers_release(struct ration_workers *pool);
/* The same, and waits until all workers have ended: 0, or -ETIMEDOUT.  Pool.ReleaseTimeout. */
RATION_API int ration_workers_release_timeout(struct ration_workers *pool, ration_ns d);
/* Takes tasks again after a release.  Pool.Reboot. */
RATION_API void ration_workers_reboot(struct ration_workers *pool);
RATION_API bool ration_workers_released(struct ration_workers *pool);
/* Releases it, waits until all workers have ended, frees it.  Not from a task of its own.  Null: nothing. */
RATION_API void ration_workers_free(struct ration_workers *pool);

#ifdef __cplusplus
}
#endif
#endif
