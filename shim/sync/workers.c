/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker pools.
 *
 *   submit --an idle worker: the one that was busy last (its stack is warm)------------------------------> runs
 *          --fewer than `size` workers: a new one--------------------------------------------------------> runs
 *          --else: wait in the lot, in order; the worker that has done its task takes the task from there--> runs
 *
 *   worker:  BUSY --done, someone waits--> BUSY with that task
 *                 --done, nobody waits--> IDLE --a task--> BUSY
 *                                             --expired, released, size is less--> ends
 *                 --ration_exit in a task--> ends; its place goes to who waits first
 *
 * The lock of a pool is that of its lot: submitters wait there, by the address of the pool, and all of its state is changed under it.  A worker that ends counts `alive` down as
 * its last touch of the pool, so who waits for that may free it.
 *
 * Idle workers are a stack: what is at its bottom has been idle longest.  One timer per pool, armed only while there are idle workers, ends those.
 * The timer's call can be under way when the pool is freed: then it frees it (later_push).
 *
 * Locks: the lot's, then the core's heap of timers.
 */
#include "ration/workers.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include "ration/sync.h"
#include "sync/later.h"
#include "sync/lot.h"
#include "sync/task.h"
#include "sync/waitgroup.h"

#define EXPIRY_NS RATION_SECOND /* ants' DefaultCleanIntervalTime */

struct job {
  ration_fn *fn;
  void *arg;
};

struct worker {
  struct task task; /* first: it is how a worker's G finds it */
  struct ration_workers *pool;
  struct job job;
  struct note wake; /* idle: there is a job, or `quit` */
  bool quit;
  bool exited; /* its task called ration_exit: on_exit is being called, or has been */
  uint64_t idle_since;
  struct worker *above, *below; /* in the stack of idle workers */
};

struct ration_workers {
  struct ration_workers_options opt;
  /* [lot] */
  unsigned size, busy, idle, waiting; /* busy: workers that are being started as well */
  bool released, armed, orphan;
  struct worker *top, *bottom; /* idle */
  struct timer timer;
  struct later later;
  struct ration_waitgroup alive;
};

/* Who waits in submit. */
struct submitter {
  struct waiter w; /* first */
  struct job job;
};

/* --- under the lock --- */

static void idle_remove(struct ration_workers *p, struct worker *w) {
  *(w->above ? &w->above->below : &p->top) = w->below;
  *(w->below ? &w->below->above : &p->bottom) = w->above;
  p->idle--;
}

static void idle_push(struct ration_workers *p, struct worker *w) {
  w->above = NULL;
  w->below = p->top;
  *(p->top ? &p->top->above : &p->bottom) = w;
  p->top = w;
  p->idle++;
}

/* Those that have been idle longest end until `enough`; they are linked by `above`. */
static struct worker *idle_quit(struct ration_workers *p, bool (*enough)(struct ration_workers *, struct worker *, uint64_t),
                                uint64_t now) {
  struct worker *list = NULL, *w;
  while ((w = p->bottom) && !enough(p, w, now)) {
    idle_remove(p, w);
    w->quit = true;
    w->above = list;
    list = w;
  }
  return list;
}
static bool enough_never(struct ration_workers *p, struct worker *w, uint64_t now) {
  (void)p, (void)w, (void)now;
  return false;
}
static bool enough_by_age(struct ration_workers *p, struct worker *w, uint64_t now) {
  return now - w->idle_since < (uint64_t)p->opt.expiry;
}
static bool enough_by_size(struct ration_workers *p, struct worker *w, uint64_t now) {
  (void)w, (void)now;
  return p->busy + p->idle <= p->size;
}

/* Lock dropped. */
static void idle_wake(struct worker *list) {
  for (struct worker *w = list, *next; w; w = next) {
    next = w->above;
    note_set(&w->wake, false);
  }
}

static void arm(struct ration_workers *p) {
  if (p->armed || !p->bottom || p->opt.expiry == RATION_FOREVER) return;
  p->armed = true;
  timer_start(&p->timer, p->bottom->idle_since + (uint64_t)p->opt.expiry);
}

static struct submitter *first_waiting(struct ration_workers *p, struct lot *lot) {
  struct waiter *w = lot_first(lot, p);
  if (!w) return NULL;
  lot_remove(lot, w);
  p->waiting--;
  return (struct submitter *)w;
}

/* --- workers --- */

enum next { HAS_JOB, IS_IDLE, ENDS };

/* A worker has done its task.  Once it is idle, w is touched by who takes it out of the stack only, until its note is set. */
static enum next next_job(struct ration_workers *p, struct worker *w) {
  enum next next = HAS_JOB;
  uint64_t now = sys_now();
  struct lot *lot = lot_lock(p);
  struct submitter *s = NULL;
  if (p->busy + p->idle <= p->size && !p->released) s = first_waiting(p, lot);
  if (s) {
    w->job = s->job;
  } else {
    p->busy--;
    next = p->released || p->busy + p->idle + 1 > p->size ? ENDS : IS_IDLE;
  }
  if (next == IS_IDLE) {
    w->idle_since = now;
    w->wake = (struct note){.g = NULL};
    idle_push(p, w);
    arm(p);
  }
  lot_unlock(lot);
  if (s) note_set(&s->w.note, false);
  return next;
}

static void worker_body(struct task *t) {
  struct worker *w = (struct worker *)t;
  for (;;) {
    w->job.fn(w->job.arg);
    enum next next = next_job(w->pool, w);
    if (next == IS_IDLE) note_wait(&w->wake, w->pool, WAIT_WORKER);
    if (next == ENDS || w->quit) return;
  }
}

static void fill(struct ration_workers *p);
static void *task_arg(const struct job *job);
static void run_exited(const struct job *job);

/* on_exit may exit itself: then worker_end comes again, and does the rest. */
static void worker_exited(struct worker *w) {
  struct ration_workers *p = w->pool;
  w->exited = true;
  struct lot *lot = lot_lock(p);
  p->busy--;
  lot_unlock(lot);
  fill(p);
  if (!p->opt.on_exit) return;
  task_exits_again(&w->task);
  p->opt.on_exit(task_arg(&w->job), p->opt.on_exit_arg);
  task_exits_again(NULL);
}

static void worker_end(struct task *t, bool exited) {
  struct worker *w = (struct worker *)t;
  struct ration_workers *p = w->pool;
  struct job job = w->job;
  if (exited && !w->exited) worker_exited(w);
  if (exited) run_exited(&job);
  free(w);
  ration_waitgroup_done(&p->alive);
}

/* A worker that is in `busy` already.  0, -EAGAIN, -ENOMEM: it is not any more. */
static int start_worker(struct ration_workers *p, struct job job) {
  struct worker *w = calloc(1, sizeof *w);
  int r = -ENOMEM;
  if (w) {
    w->task = (struct task){worker_body, worker_end};
    w->pool = p;
    w->job = job;
    ration_waitgroup_add(&p->alive, 1);
    r = task_go(&w->task);
  }
  if (r == 0) return 0;
  struct lot *lot = lot_lock(p);
  p->busy--;
  lot_unlock(lot);
  if (w) ration_waitgroup_done(&p->alive);
  free(w);
  return r;
}

/* There is room: new workers for those that wait. */
static void fill(struct ration_workers *p) {
  for (;;) {
    struct lot *lot = lot_lock(p);
    struct submitter *s = NULL;
    if (p->busy + p->idle < p->size && !p->released) s = first_waiting(p, lot);
    if (s) p->busy++;
    lot_unlock(lot);
    if (!s) return;
    s->w.result = start_worker(p, s->job);
    note_set(&s->w.note, false);
  }
}

/* --- submit --- */

/* Under the lock.  0: *worker is to be woken, or started if it is null.  -EINPROGRESS: s is queued.  Else the error. */
static int place(struct ration_workers *p, struct lot *lot, struct submitter *s, bool may_wait, struct worker **worker) {
  *worker = NULL;
  if (p->released) return -ESHUTDOWN;
  if (p->top) {
    struct worker *w = *worker = p->top;
    idle_remove(p, w);
    w->job = s->job;
    p->busy++;
    return 0;
  }
  if (p->busy < p->size) {
    p->busy++;
    return 0;
  }
  if (p->opt.nonblocking || !may_wait) return -EAGAIN;
  if (p->opt.max_blocking && p->waiting >= p->opt.max_blocking) return -EBUSY;
  p->waiting++;
  lot_push(lot, &s->w, false);
  return -EINPROGRESS;
}

static int submit(struct ration_workers *p, struct job job, const struct limit *lim) {
  if (!job.fn) g_fatal("submit of nil func value");
  struct submitter s = {.w = WAITER_INIT(p), .job = job};
  struct worker *w;
  struct lot *lot = lot_lock(p);
  int r = place(p, lot, &s, true, &w);
  lot_unlock(lot);
  if (r == 0 && w)
    note_set(&w->wake, false);
  else if (r == 0 && (r = start_worker(p, job)))
    fill(p); /* someone may have come to wait because of the one that was to be */
  if (r != -EINPROGRESS) return r;
  r = lot_wait(&s.w, lim, WAIT_WORKER);
  if (r == -ETIMEDOUT || r == -ECANCELED) { /* nobody took us out */
    lot = lot_lock(p);
    p->waiting--;
    lot_unlock(lot);
  }
  return r;
}

int ration_workers_submit(struct ration_workers *p, ration_fn *fn, void *arg) { return submit(p, (struct job){fn, arg}, NULL); }

int ration_workers_submit_timeout(struct ration_workers *p, ration_fn *fn, void *arg, ration_ns d) {
  struct limit lim = limit_after(d);
  return submit(p, (struct job){fn, arg}, &lim);
}

int ration_workers_submit_ctx(struct ration_workers *p, ration_fn *fn, void *arg, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return submit(p, (struct job){fn, arg}, &lim);
}

int ration_workers_invoke(struct ration_workers *p, void *arg) { return p->opt.fn ? ration_workers_submit(p, p->opt.fn, arg) : -EINVAL; }

long ration_workers_invoke_all(struct ration_workers *p, void *const args[], size_t n) {
  for (size_t i = 0; i < n; i++) {
    int r = ration_workers_invoke(p, args[i]);
    if (r) return i ? (long)i : r;
  }
  return (long)n;
}

/* --- run: submit and wait --- */

/*
 * On the heap, for the waiter may leave while it runs.
 *   QUEUED --worker--> RUNNING --> done, by the wait group        QUEUED --the waiter's limit--> WITHDRAWN: the worker passes it over
 */
enum { QUEUED, RUNNING, WITHDRAWN };
struct run {
  _Atomic uint32_t state;
  _Atomic uint32_t refs;
  struct ration_waitgroup done;
  struct job job;
  int result;
};

static void run_unref(struct run *r) {
  if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) free(r); /* pairs with itself */
}

static void run_done(struct run *r, int result) {
  r->result = result;
  ration_waitgroup_done(&r->done);
  run_unref(r);
}

/* Who changes QUEUED decides; nothing else is told by it. */
static bool run_leaves_queue(struct run *r, uint32_t to) {
  uint32_t queued = QUEUED;
  return atomic_compare_exchange_strong_explicit(&r->state, &queued, to, memory_order_relaxed, memory_order_relaxed);
}

static void run_job(void *arg) {
  struct run *r = arg;
  if (run_leaves_queue(r, RUNNING)) r->job.fn(r->job.arg);
  run_done(r, 0);
}

static void *task_arg(const struct job *job) { return job->fn == run_job ? ((struct run *)job->arg)->job.arg : job->arg; }

static void run_exited(const struct job *job) {
  if (job->fn == run_job) run_done(job->arg, -ECONNABORTED);
}

static int run(struct ration_workers *p, struct job job, const struct limit *lim) {
  if (!job.fn) g_fatal("submit of nil func value");
  struct run *r = calloc(1, sizeof *r);
  if (!r) return -ENOMEM;
  r->job = job;
  atomic_init(&r->refs, 2);
  ration_waitgroup_add(&r->done, 1);
  int err = submit(p, (struct job){run_job, r}, lim);
  if (err) {
    free(r);
    return err;
  }
  err = waitgroup_wait_limit(&r->done, lim);
  if (err)
    err = run_leaves_queue(r, WITHDRAWN) ? err : -EINPROGRESS;
  else
    err = r->result;
  run_unref(r);
  return err;
}

int ration_workers_run(struct ration_workers *p, ration_fn *fn, void *arg) { return run(p, (struct job){fn, arg}, NULL); }

int ration_workers_run_timeout(struct ration_workers *p, ration_fn *fn, void *arg, ration_ns d) {
  struct limit lim = limit_after(d);
  return run(p, (struct job){fn, arg}, &lim);
}

int ration_workers_run_ctx(struct ration_workers *p, ration_fn *fn, void *arg, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return run(p, (struct job){fn, arg}, &lim);
}

/* --- the pool --- */

static void free_later(struct later *l) { free((char *)l - offsetof(struct ration_workers, later)); }

static void expire(struct timer *t) {
  struct ration_workers *p = t->arg;
  struct lot *lot = lot_lock(p);
  p->armed = false;
  struct worker *list = idle_quit(p, enough_by_age, sys_now());
  bool orphan = p->orphan;
  arm(p);
  lot_unlock(lot);
  if (orphan) later_push(&p->later);
  idle_wake(list);
}

struct ration_workers *ration_workers_new(const struct ration_workers_options *options) {
  later_run();
  struct ration_workers *p = calloc(1, sizeof *p);
  if (!p || ration_start() < 0) {
    free(p);
    return NULL;
  }
  if (options) p->opt = *options;
  if (p->opt.expiry <= 0) p->opt.expiry = EXPIRY_NS;
  p->size = p->opt.size ? p->opt.size : UINT_MAX;
  p->timer.fn = expire;
  p->timer.arg = p;
  p->later.fn = free_later;
  return p;
}

void ration_workers_tune(struct ration_workers *p, unsigned size) {
  struct lot *lot = lot_lock(p);
  p->size = size ? size : UINT_MAX;
  struct worker *list = idle_quit(p, enough_by_size, 0);
  lot_unlock(lot);
  idle_wake(list);
  fill(p);
}

enum what { SIZE, BUSY, IDLE, FREE, WAITING, RELEASED };
static unsigned ask(struct ration_workers *p, enum what what) {
  struct lot *lot = lot_lock(p);
  unsigned free_count = p->size == UINT_MAX ? UINT_MAX : p->size > p->busy ? p->size - p->busy : 0;
  unsigned answer[] = {[SIZE] = p->size == UINT_MAX ? 0 : p->size,
                       [BUSY] = p->busy,
                       [IDLE] = p->idle,
                       [FREE] = free_count,
                       [WAITING] = p->waiting,
                       [RELEASED] = p->released};
  lot_unlock(lot);
  return answer[what];
}
unsigned ration_workers_size(struct ration_workers *p) { return ask(p, SIZE); }
unsigned ration_workers_running(struct ration_workers *p) { return ask(p, BUSY); }
unsigned ration_workers_idle(struct ration_workers *p) { return ask(p, IDLE); }
unsigned ration_workers_free_count(struct ration_workers *p) { return ask(p, FREE); }
unsigned ration_workers_waiting(struct ration_workers *p) { return ask(p, WAITING); }
bool ration_workers_released(struct ration_workers *p) { return ask(p, RELEASED) != 0; }

void ration_workers_release(struct ration_workers *p) {
  struct lot *lot = lot_lock(p);
  p->released = true;
  struct worker *list = idle_quit(p, enough_never, 0);
  struct waiter *all = lot_pop_all(lot, p);
  for (struct waiter *w = all; w; w = w->next) {
    w->result = -ESHUTDOWN;
    p->waiting--;
  }
  lot_unlock(lot);
  idle_wake(list);
  lot_wake_all(all);
}

int ration_workers_release_timeout(struct ration_workers *p, ration_ns d) {
  ration_workers_release(p);
  return ration_waitgroup_wait_timeout(&p->alive, d);
}

void ration_workers_reboot(struct ration_workers *p) {
  struct lot *lot = lot_lock(p);
  p->released = false;
  lot_unlock(lot);
}

void ration_workers_free(struct ration_workers *p) {
  later_run();
  if (!p) return;
  ration_workers_release(p);
  ration_waitgroup_wait(&p->alive);
  struct lot *lot = lot_lock(p);
  if (p->armed && timer_stop(&p->timer)) p->armed = false;
  p->orphan = true;
  bool ours = !p->armed;
  lot_unlock(lot);
  if (ours) free(p);
}
