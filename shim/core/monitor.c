/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: sysmon's part for light Gs (without TCB: no libc function that uses TLS).
 *
 *   NOT STARTED --monitor_start--> GUEST: sysmon's thread does it --sysmon is ended and not started again--> OWN: a thread of its own
 *                    '--no sysmon, or a kernel that can't wait for two bells--------------------------------^
 *
 *   a pq whose carrier is in a wrapped call for long while Gs wait     retaken (BPF tells sooner, where it is: monitor_blocked)
 *   a G that has run for LIGHT_SLICE_NS while others wait              stopped by SIGURG; its thread keeps it (carrier_preempted)
 *   the same while Gs wait for descriptors and nobody polls            the same: who takes its pq looks (netpoll_overdue)
 *   a G in runnext whose readier runs on instead of parking            an idle carrier is woken for it
 *   a call whose G's context is over                                   interrupted (sync/interrupt.c)
 *   a thread G that was sent a signal and has not seen to it           told again (free/remind.c)
 *   a signal to the process that only thread Gs have open              given to one of them (free/shared.c)
 *   a carrier is missing, for which no thread was to be had            a thread of the program's begins one that tries again
 *   idle stacks                                                        trimmed, about once in five seconds
 *   how many Gs there are, for `ration ps`                             told ten times a second, and before it sleeps for good
 *
 * It looks every LIGHT_SLICE_NS / 2 while any pq is in use, more often while Gs wait for one that is in a call, and sleeps for good
 * when all pqs are idle.
 */
#include <pthread.h>
#include "core/carrier.h"
#include "core/gate.h"
#include "core/fiber.h"
#include "core/place.h"
#include "core/preempt.h"
#include "core/service.h"

#define MONITOR_TICK_NS (LIGHT_SLICE_NS / 2)
/* A look finds a new G that has run for half a tick, on the average: with the rest it gets a slice. */
#define MONITOR_SEEN_NS (LIGHT_SLICE_NS - MONITOR_TICK_NS / 2)
#define MONITOR_CALM \
  16u /* so many looks without one that computes, and those that come are expected to be short as well: a tick is soon enough */
#define MONITOR_SYSCALL_NS 20000u
#define MONITOR_TRIM_NS 5000000000u
#define MONITOR_TELL_NS 100000000u

static _Atomic uint32_t bell;
static _Atomic uint32_t asleep; /* 1: till a pq is in use, or one of the lists wants a look; 2: till the next tick */
static _Atomic bool guest;      /* [sched.lock] sysmon does it */
static struct service service;
static uint64_t poll_ns = MONITOR_SYSCALL_NS;

static void ring(void) {
  atomic_fetch_add_explicit(&bell, 1, memory_order_release); /* pairs with the acquire in monitor_main */
  sys_futex_wake(&bell, 1, false);
}

void monitor_kick(void) {
  atomic_thread_fence(memory_order_seq_cst); /* the pq that was given, then `asleep`; pairs with monitor_main */
  if (atomic_load_explicit(&asleep, memory_order_relaxed) != 1) return;
  if (atomic_exchange_explicit(&asleep, 0, memory_order_relaxed) == 1) ring();
}

static void tell_bpf(uint32_t gs) {
  atomic_store_explicit(&sched_gs_queued, gs, memory_order_relaxed);
  if (sched.header) SLOT_STORE(sched.header->gs, gs);
}

/* Also from a sleep till the next tick. */
static void rouse(void) {
  if (atomic_load_explicit(&asleep, memory_order_relaxed) && atomic_exchange_explicit(&asleep, 0, memory_order_relaxed)) ring();
}

void monitor_look_now(void) {
  atomic_thread_fence(memory_order_seq_cst); /* what is to be seen, then `asleep`; pairs with monitor_main */
  rouse();
}

void monitor_syscall(bool gs) {
  if (sched.header && sched.bpf) { /* monitor_blocked will come */
    light_tell_queued();
    return;
  }
  if (!gs) return; /* the next tick will do */
  rouse();
}

void monitor_gs_queued(void) { tell_bpf(1); }

/* BPF saw Ms of ours block.  On the client's poller. */
void monitor_blocked(void) {
  for (uint32_t i = 0; i < light.npqs; i++) {
    struct pq *pq = &light.pqs[i];
    uint32_t st = atomic_load_explicit(&pq->status, memory_order_acquire); /* pairs with carrier_gate_enter */
    struct carrier *c = atomic_load_explicit(&pq->carrier, memory_order_relaxed);
    if (st == PQ_IDLE || !c || !handoff_blocked_now(c->m) || !carrier_wanted(pq)) continue;
    if (PQ_KIND(st) == PQ_SYSCALL)
      carrier_retake(pq);
    else if (st == PQ_RUNNING)
      carrier_retake_running(pq, c);
  }
}

static void stop(struct carrier *c) {
  struct m *m = c->m;
  if (m == &c->no_m || atomic_load_explicit(&preempt_no_signals, memory_order_relaxed)) return;
  atomic_store_explicit(&c->preempt, 1, memory_order_relaxed); /* read by the handler, after the signal */
  if (sched_hooks.barrier() < 0 || SLOT_LOAD(m->slot->state) != M_RUN) return;
  sched_hooks.signal(m);
}

static bool look_syscall(struct pq *pq, struct carrier *c, uint64_t now) {
  uint32_t calls = atomic_load_explicit(&c->syscalls, memory_order_relaxed);
  if (calls != pq->seen_syscalls) {
    pq->seen_syscalls = calls;
    pq->seen_at = now;
    return carrier_work_for(pq);
  }
  if (!carrier_wanted(pq)) return false;
  if (now - pq->seen_at < MONITOR_SYSCALL_NS) return carrier_work_for(pq);
  carrier_retake(pq);
  return false;
}

/* Its thread is blocked though it is in no wrapper. */
static bool blocked_outside(struct carrier *c) {
  struct m *m = c->m;
  if (m == &c->no_m || SLOT_LOAD(m->slot->state) != M_RUN) return false;
  return m_seen_by_bpf(m) ? handoff_blocked_now(m) : sched_hooks.sleeps(m);
}

static uint64_t cpu_of(struct carrier *c) { return c->m == &c->no_m ? 0 : sched_hooks.cpu_ns(c->m); }

/*
 * A carrier that the kernel keeps off the CPUs (load of others, a quota that is used up) has not run for a slice.  To stop its G would cost a
 * thread, and help nobody: who takes the pq waits for the same CPUs.
 */
static bool starved(struct pq *pq, struct carrier *c, uint64_t slice) {
  uint64_t cpu = cpu_of(c);
  /* Less than before: of another carrier; 0: not known. */
  return cpu && cpu >= pq->seen_cpu && cpu - pq->seen_cpu < slice / 2;
}

static void see_running(struct pq *pq, struct carrier *c, uint32_t tick, uint64_t now) {
  pq->seen_tick = tick;
  pq->seen_at = now;
  pq->seen_cpu = cpu_of(c);
}

/* Returns when its slice is over, or 0. */
static uint64_t look_running(struct pq *pq, struct carrier *c, uint64_t now) {
  uint32_t tick = GLANCE(pq->tick);
  uint64_t slice = GLANCE(pq->slice);
  bool thread = slice != 0;
  if (!thread) slice = MONITOR_SEEN_NS;
  if (tick != pq->seen_tick) {
    see_running(pq, c, tick, now);
    return thread && ++pq->calm < MONITOR_CALM ? now + slice : 0;
  }
  pq->calm = 0;
  if (now - pq->seen_at >= MONITOR_TICK_NS && !runq_empty(&pq->runq)) carrier_wake_idle();
  if (!carrier_wanted(pq)) return thread ? now + slice : 0;
  if (blocked_outside(c)) {
    carrier_retake_running(pq, c);
    return 0;
  }
  if (now - pq->seen_at < slice) return pq->seen_at + slice;
  if (!starved(pq, c, slice)) stop(c);
  return thread ? now + slice : 0; /* who comes next is new as well */
}

/* The Gs that a pq's carrier answers for: sched_usage. */
static void look_window(uint64_t now) {
  static uint64_t next;
  if (now < next) return;
  next = now + LIGHT_WINDOW_NS;
  OWN_ADD(light.window, 1);
  for (uint32_t i = 0; i < light.npqs; i++) {
    struct pq *pq = &light.pqs[i];
    uint32_t ran = GLANCE(pq->ran);
    atomic_store_explicit(&pq->gs, ran - pq->seen_ran, memory_order_relaxed);
    pq->seen_ran = ran;
    light_take();
    struct carrier *c = GLANCE(pq->carrier);
    if (c && c->m != &c->no_m) __atomic_store_n(&c->m->g->gs, GLANCE(pq->gs), __ATOMIC_RELAXED);
    light_drop();
  }
}

/* One look at all pqs.  When to look again. */
static uint64_t look_pqs(uint64_t now) {
  bool active = false, soon = false, gs = false;
  uint64_t next = now + MONITOR_TICK_NS;
  for (uint32_t i = 0; i < light.npqs; i++) {
    struct pq *pq = &light.pqs[i];
    uint32_t st = atomic_load_explicit(&pq->status, memory_order_acquire); /* pairs with pq_give */
    struct carrier *c = atomic_load_explicit(&pq->carrier, memory_order_relaxed);
    if (st == PQ_IDLE) continue;
    active = true; /* also one on its way from hand to hand */
    if (!c) continue;
    gs |= carrier_gs_for(pq);
    if (PQ_KIND(st) == PQ_SYSCALL)
      soon |= look_syscall(pq, c, now);
    else {
      uint64_t at = look_running(pq, c, now);
      if (at && at < next) next = at;
    }
  }
  if (gs != GLANCE(sched_gs_queued) || (sched.header && SLOT_LOAD(sched.header->gs) != gs))
    tell_bpf(gs); /* a G that comes just now, and thinks that BPF knows, is seen by the next look */
  if (!active && !atomic_load_explicit(&light.nglobal, memory_order_relaxed)) return UINT64_MAX;
  if (!soon)
    poll_ns = MONITOR_SYSCALL_NS;
  else if (poll_ns < MONITOR_TICK_NS)
    poll_ns += poll_ns / 4;
  return soon ? now + poll_ns : next;
}

/* shim/free's: thread Gs that are to be cancelled, or were sent signals; when to look again.  Weak: core stands without it. */
uint64_t free_remind_look(uint64_t now) __attribute__((weak));
/* The same: signals to the process that only thread Gs have open. */
uint64_t free_shared_look(uint64_t now) __attribute__((weak));

static uint64_t sooner(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* What does not depend on pqs. */
static uint64_t look_lists(uint64_t now) {
  uint64_t next = UINT64_MAX;
  if (free_shared_look) next = free_shared_look(now); /* before those that it may remind */
  if (interrupt_look) next = sooner(next, interrupt_look(now));
  next = sooner(next, carriers_look(now));
  if (free_remind_look) next = sooner(next, free_remind_look(now));
  return next;
}

/* shim/free's: the memory of stacks that no thread has.  True: there may be more. */
bool free_trim(void) __attribute__((weak));

static bool looks_sooner(uint64_t until) {
  uint64_t now = sys_now();
  return look_pqs(now) != UINT64_MAX || look_lists(now) < until;
}

void monitor_turn(struct watch *w) {
  static uint64_t trimmed, told; /* of whoever does the monitor's part: one at a time */
  uint64_t pqs;
  w->bell = &bell;
  do {
    w->rung = atomic_load_explicit(&bell, memory_order_acquire); /* pairs with ring: before the look, so none is lost */
    uint64_t now = sys_now();
    atomic_store_explicit(&light.now, now, memory_order_relaxed);
    look_window(now);
    pqs = look_pqs(now);
    w->until = sooner(pqs, look_lists(now));
    if (now - trimmed > MONITOR_TRIM_NS) {
      bool more = stack_trim();
      if (free_trim) more |= free_trim();
      trimmed = more ? now - MONITOR_TRIM_NS + MONITOR_TELL_NS : now;
    }
    if (pqs == UINT64_MAX || now - told > MONITOR_TELL_NS) { /* all idle: nothing changes until it is kicked */
      told = now;
      sched_lock();
      place_measure(now);
      sysmon_tell_gs();
      sched_unlock();
    }
    atomic_store_explicit(&asleep, pqs == UINT64_MAX ? 1 : 2, memory_order_seq_cst);
    /* Who takes a pq, or lists something, after our look sees `asleep` and rings (both sides store, then load). */
  } while (pqs == UINT64_MAX && looks_sooner(w->until));
}

void monitor_awake(void) { atomic_store_explicit(&asleep, 0, memory_order_relaxed); }

static void monitor_main(struct service *self) {
  (void)self;
  struct watch w;
  for (;;) {
    monitor_turn(&w);
    sys_futex_wait(w.bell, w.rung, w.until, false);
    monitor_awake();
  }
}

static void *monitor_thread(void *arg) {
  monitor_main(NULL);
  return arg;
}

bool monitor_is_guest(void) { return atomic_load_explicit(&guest, memory_order_relaxed); } /* the bell tells sysmon */

static bool be_guest(void) {
  if (fiber_used || valgrind_here() || !sys_has_futex_wait2()) return false;
  sched_lock();
  bool may = sysmon_runs;
  if (may) {
    atomic_store_explicit(&guest, true, memory_order_relaxed);
    atomic_fetch_add_explicit(sched.bell, 1, memory_order_release); /* pairs with own_turn in sysmon.c */
    sched_hooks.wake(sched.bell, true);
  }
  sched_unlock();
  return may;
}

/* A sanitizer wants to know every thread, and an emulator may refuse the clone: then it is one of glibc's. */
static int start_own(void) {
  pthread_t t;
  if (!fiber_used && service_start(&service, "ration-monitor", monitor_main, NULL, 0) == 0) {
    atomic_store_explicit(&sched.monitor_tid, service.tid, memory_order_relaxed);
    return 0;
  }
  int r = light_pthread_create(&t, NULL, monitor_thread, NULL);
  if (r == 0) pthread_detach(t);
  return -r;
}

int monitor_start(void) { return be_guest() ? 0 : start_own(); }

void monitor_lost_host(void) {
  sched_lock();
  bool lost = GLANCE(guest) && !sysmon_runs;
  if (lost) atomic_store_explicit(&guest, false, memory_order_relaxed);
  sched_unlock();
  if (lost && !GLANCE(light.rest)) start_own();
}

void monitor_fork_child(void) {
  atomic_store_explicit(&guest, false, memory_order_relaxed);
  atomic_store_explicit(&asleep, 0, memory_order_relaxed);
}
