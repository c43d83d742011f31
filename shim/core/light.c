/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Light Gs: functions with a small stack of their own, many thousands on few Ms.  G, M and P are those of Go's runtime, on top of
 * the Ps that the process leases:
 *
 *   G         a function and a stack (stack.c)
 *   carrier   an M that runs light Gs.  It is a thread like any other to sched.c: it needs a P of the pool to run at all, is
 *             preempted and paced with the others, and its P is handed off when it blocks in the kernel.
 *   pq        what a P has besides the right to run: the queue of Gs, timers, free stacks.  As many as there are CPUs in the quota.
 *             A carrier that has none runs no light Gs.
 *
 *   pq:   IDLE --carrier takes it to look for work--> RUNNING --nothing found--> IDLE
 *         RUNNING --wrapped call that may block--> SYSCALL --back in time (CAS)--> RUNNING
 *         SYSCALL --the monitor, or BPF, saw it block (CAS)--> TAKEN --> handed to another carrier (RUNNING), or IDLE
 *
 * Switching.  A G that parks looks for the next one itself and switches to it directly; only if its own queue has none does it go
 * to the scheduler's stack (carrier.c), where the search goes on and may block.  What has to happen after a G has left its stack
 * (drop the lock that it waits under, queue it, free it) is done by whoever comes next: light_finish_left.  From the moment
 * commit has dropped the lock another carrier may run the G, so nothing touches it after that.
 *
 *   g_park:   hold; note what is left to do; next = own queue; switch ---.
 *                                                                        '--> finish_left; release; (the other G goes on)
 *
 * A spawner that has filled its P's queue waits in `later` until the queue is empty: the stacks of those that ran are used again at
 * once, and a million Gs that are spawned and end need some hundred stacks, also if each spawns a few of the others (later_pop).  (Go moves half of the queue to the global one and goes on
 * spawning.  That costs a stack for each G that has not begun, and their cache misses.)
 *
 * Whom to wake.  Who makes a G runnable and sees an idle pq wakes a carrier, unless one is looking already.  The reverse, a carrier that goes
 * idle while one is being queued, is prevented by the idle side alone: it marks the pq idle, lies down where it can be woken, makes all others pass a fence (membarrier), and looks
 * again.  So making a G runnable costs no fence.
 * A G that readies another into runnext is as a rule about to park (a ping-pong).  Those that did so the last times (g->hands_over) wake
 * nobody; should one run on instead, the monitor sees it.
 *
 * Preempted Gs keep their thread: a G that is stopped by a signal may be inside of malloc, with this M's thread-local data in its registers.
 * So it stays on its M, parked in the signal handler, and the pq goes to another carrier (carrier.c, wired Gs); at its next voluntary park it is free again.
 *
 * Rejected: giving up the thread pointer instead (DESIGN's identities) for light Gs.  It saves a kernel thread for each G that computes for more than 10 ms
 * while others wait, which are few, and it would need harvested identities in processes that do not use free mode.
 */
#include "core/light.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/carrier.h"
#include "core/gate.h"
#include "core/spin.h"
#include "core/switch.h"
#include "core/tp.h"
#include "ration/g.h"

struct light light;
uint32_t light_forks;
__thread struct carrier *carrier_self __attribute__((tls_model("initial-exec")));

#if defined(__aarch64__)
__attribute__((noinline)) struct carrier *carrier_now(void) {
  __asm__ volatile("");
  return carrier_self;
}
#endif

/* The G of a thread that ration knows nothing of. */
static __thread struct g bare_g __attribute__((tls_model("initial-exec")));

struct g *g_self(void) {
  struct carrier *c = carrier_now();
  if (c && c->g) return c->g;
  if (m_self) return m_self->g;
  if (bare_g.kind != G_WIRED) bare_g.kind = G_WIRED; /* once: who wakes it looks */
  return &bare_g;
}

/* --- queues --- */

void light_put_global(struct g *g) {
  light_take();
  light_global_push(g);
  light_drop();
}

static void put_overflow(struct pq *pq, unsigned n) {
  light_take();
  for (unsigned i = 0; i < n; i++) light_global_push(pq->overflow[i]);
  light_drop();
}

void light_put(struct carrier *c, struct g *g, bool next) {
  unsigned n;
  if (__builtin_expect(!runq_put(&c->pq->runq, g, next, c->pq->overflow, &n), 0)) put_overflow(c->pq, n);
  light_tell_queued();
}

/* --- leaving and coming --- */

static void requeue(struct carrier *c, struct g *g, bool next) {
  if (c->pq)
    light_put(c, g, next);
  else
    light_put_global(g);
}

/* shim/free's: a thread G has ended, and left its stack.  Weak: core stands without it. */
void free_thread_left(struct g *g) __attribute__((weak));

void light_finish_left(struct carrier *c) {
  struct g *g = c->left;
  switch (c->left_how) {
    case LEFT_NONE:
      return;
    case LEFT_PARKED:
      if (c->commit && !c->commit(g, c->commit_arg)) {
        g->status = G_RUNNABLE;
        requeue(c, g, true);
        if (!c->pq) carrier_wake_global();
      }
      break;
    case LEFT_YIELDED:
      requeue(c, g, false);
      carrier_wake_idle();
      break;
    case LEFT_LATER:
      if (c->pq)
        gqueue_push_front(&c->pq->later, g);
      else
        light_put_global(g); /* of a locked G: leave_wired has given the pq back */
      break;
    case LEFT_GLOBAL:
      light_put_global(g);
      carrier_wake_global();
      break;
    case LEFT_DEAD:
      if (__builtin_expect(g->kind == G_THREAD, 0))
        free_thread_left(g);
      else
        stack_put(c->pq ? &c->pq->stacks : NULL, g);
      break;
  }
  c->left_how = LEFT_NONE;
}

/* A G goes on, maybe on another carrier than it left. */
void light_arrive(void) {
  struct carrier *c = carrier_now();
  if (c->left_how != LEFT_NONE) light_finish_left(c);
  struct g *g = c->g;
  g->status = G_RUNNING;
  *c->errno_at = g->saved_errno;
  carrier_release(c);
}

/*
 * The next G of c's own queue, if that is all there is to think about.  A dispatch counts once: one that is left to the scheduler's
 * stack is counted there (find_own), or its turn of the global queue would be lost.
 */
static inline struct g *next_local(struct carrier *c) {
  struct pq *pq = c->pq;
  bool inherit;
  uint32_t tick = GLANCE(pq->tick) + 1;
  if (tick % LIGHT_TICK == 0) return NULL;
  if (tick % 8 == 0 && (GLANCE(pq->timers.first) != UINT64_MAX || netpoll_overdue())) return NULL;
  struct g *g = runq_get(&pq->runq, &inherit);
  if (!g) return NULL;
  if (__builtin_expect(g->lockedm != NULL || g->fair.usage > FAIR_SMALL_NS, 0) && (g->lockedm || carrier_hog(c, g))) {
    light_put(c, g, true); /* not for us: the scheduler's stack sees to it */
    return NULL;
  }
  atomic_store_explicit(&pq->tick, tick, memory_order_relaxed);
  light_count_run(pq, g);
  return g;
}

#if defined(__x86_64__)
bool tp_by_instruction;
#endif

/*
 * What is the thread's own in ration goes along: whoever looks for its M or carrier finds c's.  Between this and the switch a handler
 * of ours already finds the next identity, with the same M, which is held: it stays out.
 */
__attribute__((noinline)) void light_wear_slow(struct carrier *c, struct g *from, struct g *to) {
  if (__builtin_expect(GLANCE(cpuclock_on), 0)) cpuclock_switch(c, from, to); /* one of them is a thread G */
  char *tp = to && to->tp ? to->tp : c->tp;
  const char *self = tp_get();
  struct m *m = m_self;
  *(struct m **)(tp + ((const char *)&m_self - self)) = m;
  *(struct carrier **)(tp + ((const char *)&carrier_self - self)) = c;
  tp_set(tp);
}

/* c is held.  Returns when g has been scheduled again. */
void light_leave(struct carrier *c, struct g *g, enum left_how how) {
  c->left = g;
  c->left_how = how;
  g->saved_errno = *c->errno_at;
  if (__builtin_expect(g->lockedm != NULL, 0)) {
    if (g->locked)
      c->wired_g = g;
    else
      g->lockedm = NULL; /* had been preempted */
  }
  if (__builtin_expect(c->alone, 0)) carrier_alone_over(c, g);
  g->newborn = false;
  struct g *next = c->wired_g || c->ends || !c->pq ? NULL : next_local(c);
  c->g = next;
  light_wear(c, g, next);
  if (__builtin_expect(fiber_used, 0)) fiber_switch(&g->fiber, next ? &next->fiber : &c->fiber, how == LEFT_DEAD);
  ration_switch(&g->sp, next ? next->sp : c->sp);
  if (__builtin_expect(fiber_used, 0)) fiber_arrived(&g->fiber);
}

/* --- threads that are no carriers --- */

/* acquire: pairs with g_ready */
static bool is_readied(struct g *g) { return atomic_load_explicit(&g->wake, memory_order_acquire) == THREAD_READIED; }

static bool thread_spins(struct g *g) {
  if (!spin_worth(&g->spin)) return false;
  uint64_t until = sys_now() + SPIN_NS;
  do spin_step();
  while (!is_readied(g) && sys_now() < until);
  bool good = is_readied(g);
  spin_was(&g->spin, good);
  return good;
}

static void thread_sleeps(struct g *g) {
  while (!is_readied(g)) {
    uint32_t awake = 0;
    /* relaxed: the kernel compares it again; THREAD_ASLEEP may be left over from a sleep that a handler has left */
    if (atomic_compare_exchange_strong_explicit(&g->wake, &awake, THREAD_ASLEEP, memory_order_relaxed, memory_order_relaxed) ||
        awake == THREAD_ASLEEP)
      sys_futex_wait(&g->wake, THREAD_ASLEEP, SYS_FOREVER, false);
  }
}

static void thread_park(struct g *g, g_commit *commit, void *arg, enum wait_reason why) {
  int saved = errno;
  if (!commit || commit(g, arg)) {
    gate_enter_blocking(why);
    if (!is_readied(g) && !thread_spins(g)) thread_sleeps(g);
    gate_exit();
    atomic_store_explicit(&g->wake, 0, memory_order_relaxed);
  }
  errno = saved;
}

void g_park(g_commit *commit, void *arg, enum wait_reason why) {
  struct carrier *c = carrier_now();
  if (__builtin_expect(!c || !c->g, 0)) {
    thread_park(g_self(), commit, arg, why);
    return;
  }
  carrier_hold(c);
  struct g *g = c->g;
  g->status = G_WAITING;
  g->why = why;
  g->since = atomic_load_explicit(&light.now, memory_order_relaxed);
  c->commit = commit;
  c->commit_arg = arg;
  if (g->readied != G_READIED_NONE) {
    g->hands_over = true; /* it made another G run and parks: so it will the next time */
    g->readied = G_READIED_NONE;
  }
  light_leave(c, g, LEFT_PARKED);
  light_arrive();
}

bool g_commit_unlock(struct g *g, void *arg) {
  (void)g;
  run_unlock(arg);
  return true;
}

static void ready_from_outside(struct g *g) {
  light_put_global(g);
  carrier_wake_global();
}

/* release: pairs with is_readied */
bool thread_readied(struct g *g) { return atomic_exchange_explicit(&g->wake, THREAD_READIED, memory_order_release) == THREAD_ASLEEP; }
void thread_rouse(struct g *g) { sys_futex_wake(&g->wake, 1, false); }

void g_ready(struct g *g, bool next) {
  if (__builtin_expect(g->kind == G_WIRED, 0)) {
    if (thread_readied(g)) thread_rouse(g);
    return;
  }
  if (__builtin_expect(g->forks != light_forks, 0)) return;
  struct carrier *c = carrier_now();
  g->status = G_RUNNABLE;
  if (c) carrier_hold(c);
  if (__builtin_expect(!c || !c->pq, 0)) {
    ready_from_outside(g);
    if (c) carrier_release(c);
    return;
  }
  light_put(c, g, next);
  struct g *self = c->g;
  if (next && self) {
    self->readied = G_READIED_NEXT;
    if (self->hands_over) {
      carrier_release(c);
      return;
    }
  }
  carrier_wake_idle();
  carrier_release(c);
}

bool g_yield(void) {
  struct carrier *c = carrier_now();
  /* As a thread of the kernel's; not by libc, in whose code an asynchronous cancellation would end it (free/cancel.c). */
  if (!c || !c->g || c->alone) return gate_yield() || raw_syscall0(SYS_sched_yield) == 0;
  carrier_hold(c);
  struct g *g = c->g;
  if (!c->pq) {
    g->status = G_RUNNABLE;
    light_leave(c, g, LEFT_GLOBAL);
    light_arrive();
    return true;
  }
  if (!carrier_gs_for(c->pq) && netpoll_waiters() == 0 && GLANCE(c->pq->timers.first) == UINT64_MAX) {
    carrier_release(c);
    return false;
  }
  g->status = G_RUNNABLE;
  light_leave(c, g, GLANCE(c->pq->tick) % LIGHT_TICK == LIGHT_TICK - 1 ? LEFT_GLOBAL : LEFT_YIELDED);
  light_arrive();
  return true;
}

/*
 * A thread G that finds its next request there as soon as it has answered the last (a client on the same machine) would go on until it is stopped, while each that has
 * to wait for the next stands in line again for each: a few would have all, and most nothing (MariaDB: transactions of 2 ms, and of 4 s).  So who has answered
 * lets the others have their turn.  It costs less than it seems: its next read is likely to find something then, and need not park.
 */
void light_answered(struct carrier *c) {
  struct pq *pq = c->pq;
  if (!c->g || c->g->kind != G_THREAD || !pq || c->alone) return;
  bool others = carrier_gs_for(pq);
  if (!others && netpoll_waiters() == 0) return;
  uint64_t now = sys_now();
  if (!pq->timed) {
    pq->timed = true; /* who is dispatched from now on */
    pq->turn_at = now;
  }
  if (now - pq->turn_at < LIGHT_TURN_NS || m_is_borrowed(c->m)) return;
  pq->turn_at = now;
  pq->polls = !others;
  g_yield();
}

/* --- birth and death --- */

/* shim/sync's: nobody waits there in the child of a fork. */
void sync_fork_child(void) __attribute__((weak));
/* shim/sync's: drops the reference to the context that g has bound. */
void sync_g_unbinds(struct g *g) __attribute__((weak));

static _Noreturn void end_g(void) {
  struct carrier *c = carrier_now();
  if (!c) pthread_exit(NULL); /* it has forked, and is the child's only thread */
  if (__builtin_expect(GLANCE(c->g->use.e) != NULL, 0)) {
    netpoll_use_end(&c->g->use);
    c = carrier_now();
  }
  carrier_hold(c);
  struct g *g = c->g;
  g->status = G_DEAD;
  if (g->locked && g->kind == G_LIGHT && !fiber_used) c->ends = true;
  g->locked = 0;
  if (c->pq)
    OWN_ADD(c->pq->ngs, -1);
  else
    atomic_fetch_sub_explicit(&light.ngs_outside, 1, memory_order_relaxed);
  g->lockedm = NULL;
  light_leave(c, g, LEFT_DEAD);
  __builtin_unreachable();
}

static void g_begin(void) {
  if (__builtin_expect(fiber_used, 0)) fiber_arrived(NULL);
  light_arrive();
  struct g *g = carrier_now()->g;
  g->fn(g->arg);
  if (__builtin_expect(g->io_ctx != NULL, 0)) sync_g_unbinds(g);
  end_g();
}

static void prepare(struct g *g, void *top, ration_fn *fn, void *arg, const char *name) {
  struct g *self = g_self();
  g->fn = fn;
  g->arg = arg;
  g->forks = light_forks;
  g->why = WAIT_NONE;
  g->lockedm = NULL;
  g->locked = 0;
  g->saved_errno = 0;
  g->in_libcall = false;
  g->io_ctx = NULL;
  g->trimmed = false;
  g->hands_over = false;
  g->readied = G_READIED_NONE;
  g->waiting_on = NULL;
  g->wait = NULL;
  atomic_store_explicit(&g->stop, 0, memory_order_relaxed);
  g->waits = NULL;
  g->note = NULL;
  atomic_store_explicit(&g->select_done, 0, memory_order_relaxed);
  g->created_by = self->kind != G_WIRED ? self->id : 0;
  g->name[0] = 0;
  if (name) strncpy(g->name, name, sizeof g->name - 1);
  if (__builtin_expect(fiber_used, 0)) fiber_new(&g->fiber, g->stack, (size_t)((char *)g - (char *)g->stack));
  g->sp = switch_new(top, g_begin);
  g->status = G_RUNNABLE;
}

static void prepare_light(struct g *g, ration_fn *fn, void *arg, const char *name) {
  g->kind = G_LIGHT;
  g->tp = NULL;
  prepare(g, stack_top(g), fn, arg, name);
}

/* The P's queue is full: those in it run first. */
static struct carrier *spawner_waits(struct carrier *c) {
  struct g *g = c->g;
  g->status = G_RUNNABLE;
  carrier_wake_idle();
  light_leave(c, g, LEFT_LATER);
  light_arrive();
  c = carrier_now();
  carrier_hold(c);
  return c;
}

static bool queue_full(struct pq *pq) {
  return atomic_load_explicit(&pq->runq.tail, memory_order_relaxed) - atomic_load_explicit(&pq->runq.head, memory_order_relaxed) >=
         RUNQ_SIZE;
}

/* Ids: a carrier draws a block of them. */
static uint64_t new_id(struct carrier *c) {
  if (!c) return atomic_fetch_add_explicit(&light.next_id, 1, memory_order_relaxed) + 1;
  if (c->id_next == c->id_end) {
    c->id_next = atomic_fetch_add_explicit(&light.next_id, 64, memory_order_relaxed) + 1;
    c->id_end = c->id_next + 64;
  }
  return c->id_next++;
}

static int go_from_outside(ration_fn *fn, void *arg, size_t bytes, const char *name) {
  int r = light_start();
  if (r < 0) return r;
  struct m *m = m_self;
  m_hold(m); /* stack_lock is no run lock */
  struct g *g = bytes ? stack_get_sized(bytes) : stack_get(NULL);
  m_release(m);
  if (!g) return -EAGAIN;
  g->id = new_id(NULL);
  prepare_light(g, fn, arg, name);
  atomic_fetch_add_explicit(&light.ngs_outside, 1, memory_order_relaxed);
  ready_from_outside(g);
  return 0;
}

static int go(ration_fn *fn, void *arg, size_t bytes, const char *name) {
  struct carrier *c = carrier_now();
  if (c) carrier_hold(c);
  if (__builtin_expect(!c || !c->pq, 0)) {
    if (c) carrier_release(c);
    return go_from_outside(fn, arg, bytes, name);
  }
  if (__builtin_expect(queue_full(c->pq), 0) && c->g && !c->wired_g) c = spawner_waits(c);
  struct g *g = bytes ? stack_get_sized(bytes) : stack_get(&c->pq->stacks);
  if (g) {
    g->id = new_id(c);
    prepare_light(g, fn, arg, name);
    OWN_ADD(c->pq->ngs, 1);
    light_put(c, g, false);
    carrier_wake_idle();
  }
  carrier_release(c);
  return g ? 0 : -EAGAIN;
}

void light_go_thread(struct g *g, void *top, void (*fn)(void *), void *arg) {
  struct carrier *c = carrier_now();
  if (c) carrier_hold(c);
  bool own = c && c->pq;
  g->kind = G_THREAD;
  g->fair = (struct fair){0};
  g->newborn = true;
  g->id = new_id(c);
  cpuclock_g_born(g);
  prepare(g, top, fn, arg, NULL);
  switch_inherit(g->sp);
  if (own) {
    OWN_ADD(c->pq->ngs, 1);
    light_put(c, g, false);
    carrier_wake_idle();
  }
  if (c) carrier_release(c);
  if (own) return;
  atomic_fetch_add_explicit(&light.ngs_outside, 1, memory_order_relaxed);
  ready_from_outside(g);
}

/* shim/free's: changes *mask to a thread G's own, if the caller is one. */
void free_paper_mask(uint64_t *mask) __attribute__((weak));

uint64_t light_mask(void) {
  uint64_t mask = light.mask;
  if (free_paper_mask) free_paper_mask(&mask);
  return mask;
}

/* shim/free's */
void free_threads_each(bool (*fn)(struct g *g, void *arg), void *arg) __attribute__((weak));

struct each_call {
  bool (*fn)(struct g *g, void *arg);
  void *arg;
};
/* Not those that have stayed in the parent. */
static bool each_here(struct g *g, void *arg) {
  const struct each_call *e = arg;
  return g->forks != light_forks || e->fn(g, e->arg);
}

void light_each(bool (*fn)(struct g *g, void *arg), void *arg) {
  struct each_call e = {fn, arg};
  stack_each(each_here, &e);
  if (free_threads_each) free_threads_each(each_here, &e);
}

void light_thread_end(void) {
  if (carrier_now()) end_g();
}

int ration_go(ration_fn *fn, void *arg) {
  if (!fn) g_fatal("go of nil func value");
  return go(fn, arg, 0, NULL);
}

int ration_go_attr(ration_fn *fn, void *arg, const struct ration_attr *attr) {
  if (!fn) g_fatal("go of nil func value");
  size_t bytes = attr ? attr->stack : 0;
  if (bytes && (bytes < STACK_BYTES_MIN || bytes > STACK_BYTES_MAX)) return -EINVAL;
  bytes = (bytes + 4095) & ~(size_t)4095;
  return go(fn, arg, bytes == STACK_BYTES_DEFAULT ? 0 : bytes, attr ? attr->name : NULL);
}

/* shim/sync's: what a worker or a member of a group owes to others when its function does not return.  Weak: core stands without sync. */
void sync_g_exits(struct g *g) __attribute__((weak));

static void main_begin(void *arg);

void ration_exit(void) {
  struct carrier *c = carrier_now();
  if (!c || !c->g) pthread_exit(NULL);
  if (c->g->fn == main_begin) { /* as Go's: the others go on, and when they are done it is a deadlock */
    g_park(NULL, NULL, WAIT_NONE);
    __builtin_unreachable();
  }
  if (c->g->io_ctx) sync_g_unbinds(c->g);
  if (sync_g_exits) sync_g_exits(carrier_now()->g);
  end_g();
}

/* --- the rest of the API --- */

void ration_yield(void) { g_yield(); }

static void sleep_over(struct timer *t) { g_ready(t->arg, false); }

static bool start_sleep(struct g *g, void *arg) {
  struct timer *t = arg;
  t->arg = g;
  uint64_t at = t->at;
  timer_start(t, at);
  return true;
}

void g_sleep_until(uint64_t at) {
  struct carrier *c = carrier_now();
  struct timer t = {.at = at, .fn = sleep_over};
  if (c && c->g) {
    g_park(at == UINT64_MAX ? NULL : start_sleep, &t, WAIT_SLEEP);
    return;
  }
  int saved = errno;
  struct timespec ts = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
  static _Atomic uint32_t never;
  gate_enter_blocking(WAIT_SLEEP);
  do
    if (at == UINT64_MAX) sys_futex_wait(&never, 0, SYS_FOREVER, false);
  while (at == UINT64_MAX || raw_syscall4(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&ts, 0) == -EINTR);
  gate_exit();
  errno = saved;
}

void ration_sleep(ration_ns d) {
  if (d <= 0) return;
  uint64_t now = sys_now(), at;
  if (d == RATION_FOREVER || __builtin_add_overflow(now, (uint64_t)d, &at)) at = UINT64_MAX;
  g_sleep_until(at);
}

ration_ns ration_now(void) { return (ration_ns)sys_now(); }

unsigned ration_maxprocs(void) { return light_start() < 0 ? 1 : light.npqs; }

size_t ration_ngs(void) {
  int64_t n = atomic_load_explicit(&light.ngs_outside, memory_order_relaxed);
  for (uint32_t i = 0; i < light.npqs; i++) n += GLANCE(light.pqs[i].ngs);
  return n > 0 ? (size_t)n : 0;
}

uint64_t ration_gid(void) {
  struct carrier *c = carrier_now();
  return c && c->g ? c->g->id : 0;
}

void ration_lock_os_thread(void) {
  struct carrier *c = carrier_now();
  if (!c || !c->g) return;
  carrier_hold(c);
  c->g->locked++;
  c->g->lockedm = c->m;
  carrier_release(c);
}

void ration_unlock_os_thread(void) {
  struct carrier *c = carrier_now();
  if (!c || !c->g || c->g->locked == 0) return;
  carrier_hold(c);
  if (--c->g->locked == 0) c->g->lockedm = NULL;
  carrier_release(c);
}

int ration_start(void) { return light_start(); }

/*
 * In the child of a fork there is one thread: the G that forked goes on as what runs on it, on the stack that it has.  The other Gs
 * stay in the parent; what the child spawns begins a scheduler of its own.
 */
void light_fork_child(struct m *m) {
  light_forks++;
  atomic_store_explicit(&light.births, 0, memory_order_relaxed);
  atomic_store_explicit(&cpuclock_on, 0, memory_order_relaxed);
  if (!light.started) {
    if (sync_fork_child) sync_fork_child(); /* pthread objects are in it too, with or without carriers */
    return;
  }
  uint64_t mask = light_mask();
  bool carried = carrier_self != NULL;
  if (m) m->carrier = NULL;
  carrier_self = NULL;
  uint64_t id = GLANCE(light.next_id);
  for (uint32_t i = 0; i < light.npqs; i++) light.pqs[i].timers.parents = true;
  memset(&light, 0, sizeof light);
  atomic_store_explicit(&light.next_id, id, memory_order_relaxed);
  monitor_fork_child();
  netpoll_fork_child();
  stack_fork_child();
  if (sync_fork_child) sync_fork_child();
  if (carried) sys_sigmask(mask);
}

/* The program's errno goes with its G (light_leave, light_arrive); libc's own location is the M's. */
#undef errno
__attribute__((noinline)) int *ration_errno(void) { return __errno_location(); }

struct main_call {
  int argc;
  char **argv;
  int (*fn)(int, char **);
  int result;
  bool nested;           /* a G waits for it */
  struct g *waiter;      /* [MAIN_AWAITED] */
  _Atomic uint32_t done; /* futex, MAIN_*; pairs main_begin with ration_main */
};
enum { MAIN_RUNS, MAIN_AWAITED, MAIN_OVER };

static bool await_main(struct g *g, void *arg) {
  struct main_call *m = arg;
  uint32_t runs = MAIN_RUNS;
  m->waiter = g;
  /* release: the parked G; acquire: what main did, if it was first.  Both pair with main_over. */
  return atomic_compare_exchange_strong_explicit(&m->done, &runs, MAIN_AWAITED, memory_order_acq_rel, memory_order_acquire);
}

/* m may be gone after it, if no G waits. */
static void main_over(struct main_call *m) {
  bool nested = m->nested;
  atomic_fetch_sub_explicit(&light.mains, 1, memory_order_relaxed);
  if (atomic_exchange_explicit(&m->done, MAIN_OVER, memory_order_acq_rel) == MAIN_AWAITED) g_ready(m->waiter, false);
  if (nested) return;
  sys_futex_wake(&m->done, 1, false);
  g_park(NULL, NULL, WAIT_NONE); /* the process is about to end; nothing of main's may be gone before */
}

static void main_begin(void *arg) {
  struct main_call *m = arg;
  atomic_fetch_add_explicit(&light.mains, 1, memory_order_relaxed); /* from here on a sleep of all is a deadlock */
  m->result = m->fn(m->argc, m->argv);
  if (!carrier_now()) exit(m->result); /* of a child that it has forked; its parent's carriers are not here */
  main_over(m);
}

/* In a G it parks as any other, so that a deadlock inside is one.  Not inline: main's thread waits here as a rule, and gdb numbers a G's frames from where that is. */
static __attribute__((noinline)) void wait_for_main(struct main_call *m) {
  if (m->nested) {
    g_park(await_main, m, WAIT_JOIN);
    return;
  }
  gate_enter_blocking(WAIT_JOIN);
  /* acquire: pairs with main_over */
  while (atomic_load_explicit(&m->done, memory_order_acquire) != MAIN_OVER) sys_futex_wait(&m->done, MAIN_RUNS, SYS_FOREVER, false);
  gate_exit();
}

int ration_main(int argc, char **argv, int (*main_fn)(int argc, char **argv)) {
  struct carrier *c = carrier_now();
  struct main_call m = {.argc = argc, .argv = argv, .fn = main_fn, .nested = c && c->g && c->g->kind == G_LIGHT};
  if (!main_fn) g_fatal("ration_main of nil func value");
  int r = light_start();
  if (r == 0) {
    report_install();
    r = ration_go_attr(main_begin, &m, &(struct ration_attr){.stack = 1u << 20, .name = "main"});
  }
  if (r < 0) {
    dprintf(2, "ration: the scheduler does not start: %s\n", strerror(-r));
    return 2;
  }
  wait_for_main(&m);
  return m.result;
}
