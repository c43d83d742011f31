/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carriers: the Ms that run light Gs, and their search for something to run.  light.c tells the story.
 *
 *             given a pq, or finds one
 *   IDLE (asleep on `wake`, or in netpoll) ---------> LOOKING (has a pq; spinning: steals)
 *     ^                                                 |  ^
 *     |  nothing found: pq goes idle                    v  |  G parked, and the own queue is empty
 *     '------------------------------------------------ RUNNING a G
 *
 *   RUNNING --its G was preempted, or its wired G parked--> WIRED (pq handed on; asleep on `wake`) --G scheduled--> RUNNING
 *   RUNNING --wrapped call--> SYSCALL --pq retaken meanwhile--> takes an idle pq, or queues its G and is IDLE
 *
 * There are always two spare carriers asleep besides the one in netpoll, so that threads without a TCB (monitor, poller) need not make one: a carrier that looks
 * for a G and sees fewer makes one (nborn: one is on its way).  Those that a spare was woken for go through that place as well.  Two: who makes one
 * may have to wait for a lock of a G that is to run yet, and its pq goes to the other.
 *
 * More than these, asleep for CARRIER_IDLE_NS, end: a program that once had many blocked calls at a time does not keep their threads.  But one that has started a program (posix_spawn) stays
 * for as long as that is there: it may have asked to be killed when its parent ends, which to the kernel is a thread.
 *
 * No thread may be to be had for a while (RLIMIT_NPROC, pids.max).  Carriers that look for a G try again, after 10, 20, ... 100 ms; but all may be blocked or wired, maybe until a G runs that
 * waits for one.  The monitor can't make one: that takes a thread with a TCB, and with the program's descriptors.  So it sends SIGURG to one of those that there are; the handler, which may
 * be anywhere, clones a thread that takes on a TCB kept for that (carriers_maker, free/maker.c), makes a carrier, and ends.
 *
 * light.lock guards the idle lists and the global queue.  Taken with the M held (no preemption, no handlers); nothing is taken under it.
 */
#include "core/carrier.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include "core/gate.h"
#include "core/place.h"
#include "core/preempt.h"
#include "core/spin.h"
#include "core/switch.h"
#include "core/tp.h"

#define STEAL_ROUNDS 4
#define GLOBAL_BATCH (RUNQ_SIZE / 2)
#define CARRIER_STACK (192u << 10) /* without what is thread-local */
#define SPIN_ROUNDS 20
#define SPARES 2u
#define CARRIER_IDLE_NS 5000000000u
#define LATER_LOW 16u
#define MAKE_FIRST_NS 10000000u
#define MAKE_MOST_NS 100000000u
#define REST_LOOK_NS 1000000u
#define REST_LOOKS 200u

/* --- pqs --- */

static uint64_t bit_of(const struct pq *pq) { return (uint64_t)1 << pq->id; }

/* Lock held. */
static struct pq *idle_pq_take(void) {
  uint64_t idle = atomic_load_explicit(&light.idle_pqs, memory_order_relaxed);
  if (idle == 0) return NULL;
  struct pq *pq = &light.pqs[__builtin_ctzll(idle)];
  atomic_store_explicit(&light.idle_pqs, idle & ~bit_of(pq), memory_order_relaxed);
  return pq;
}

/* Lock held. */
static void idle_pq_put(struct pq *pq) {
  struct g *g;
  while ((g = gqueue_pop(&pq->later))) light_global_push(g); /* nobody can steal those */
  atomic_store_explicit(&pq->carrier, NULL, memory_order_relaxed);
  atomic_store_explicit(&pq->status, PQ_IDLE, memory_order_relaxed);
  atomic_fetch_or_explicit(&light.idle_pqs, bit_of(pq),
                           memory_order_release); /* pairs with carrier_wake_idle, by the membarrier in lie_down */
}

static void pq_give(struct pq *pq, struct carrier *c) {
  atomic_store_explicit(&pq->carrier, c, memory_order_relaxed);
  atomic_store_explicit(&pq->status, PQ_RUNNING, memory_order_release); /* pairs with the monitor's look: carrier is right */
  if (c->m != &c->no_m) __atomic_store_n(&c->m->g->gs, GLANCE(pq->gs), __ATOMIC_RELAXED);
  __atomic_store_n(&c->pq, pq, __ATOMIC_RELEASE); /* pairs with sleep_on */
}

/* An idle pq for c, which has none; or null.  Lock held. */
static struct pq *idle_pq_claim(struct carrier *c) {
  struct pq *pq = idle_pq_take();
  if (pq) pq_give(pq, c);
  return pq;
}

/* acquire: pairs with the release in pq_give, whose carrier goes with the status. */
static bool is_owner(const struct carrier *c, struct pq *pq) {
  return pq && atomic_load_explicit(&pq->status, memory_order_acquire) == PQ_RUNNING && GLANCE(pq->carrier) == c;
}

static bool all_idle(void) {
  uint64_t all = light.npqs == 64 ? ~(uint64_t)0 : ((uint64_t)1 << light.npqs) - 1;
  return atomic_load_explicit(&light.idle_pqs, memory_order_relaxed) == all;
}

/*
 * Then nobody needs to sleep in netpoll: each looks there when its queue is empty, and at every 61st dispatch.  A sleeper would be woken by each
 * single event, and could do nothing but queue the G.  (Who blocks in a call, or goes idle, sees to it that somebody does: nobody_polls; tests/model/poller.pml.)  Lock held.
 */
static bool all_run(void) {
  for (uint32_t i = 0; i < light.npqs; i++)
    if (GLANCE(light.pqs[i].status) != PQ_RUNNING) return false;
  return true;
}

bool carrier_work_for(struct pq *pq) { return carrier_gs_for(pq) || GLANCE(pq->timers.first) <= sys_now(); }

/* --- sleeping and waking --- */

/* An idle carrier, off the list; the poller if there is no other; null.  Lock held. */
static struct carrier *idle_carrier_take(void) {
  struct carrier *c = GLANCE(light.idle), *poller = GLANCE(light.poller);
  if (c) {
    atomic_store_explicit(&light.idle, c->next, memory_order_relaxed);
    light.nidle--;
  } else if (poller && !poller->pq && (carrier_now() || m_self)) {
    c = poller; /* not from a service thread: it has a descriptor table of its own, and can't break the poller's sleep */
  }
  return c;
}

static void rouse(struct carrier *c, bool polls) {
  atomic_store_explicit(&c->wake, 1, memory_order_release); /* pairs with sleep_on: what it was given is there */
  if (polls)
    netpoll_break();
  else
    sys_futex_wake(&c->wake, 1, false);
}

/* Until c has been given a pq; false: it has not by then.  `wake` may be left over from a wake-up that was not needed any more (the poller came back by itself). */
static bool sleep_until(struct carrier *c, uint64_t until) {
  int r = 0;
  bool given;
  if (m_self) place_asleep(m_self);
  while (!(given = __atomic_load_n(&c->pq, __ATOMIC_ACQUIRE) != NULL) && r != -ETIMEDOUT) /* pairs with pq_give */
    if (!atomic_exchange_explicit(&c->wake, 0, memory_order_acquire)) r = sys_futex_wait(&c->wake, 0, until, false); /* pairs with rouse */
  if (m_self) place_awake(m_self);
  return given;
}

static void sleep_on(struct carrier *c) { sleep_until(c, SYS_FOREVER); }

void carrier_wakep(void) {
  uint32_t none = 0;
  if (!atomic_compare_exchange_strong_explicit(&light.nspinning, &none, 1, memory_order_acq_rel, memory_order_relaxed)) return;
  light_take();
  struct pq *pq = idle_pq_take();
  struct carrier *c = pq ? idle_carrier_take() : NULL;
  bool polls = c && c == light.poller;
  if (c) {
    c->spinning = true;
    pq_give(pq, c);
  } else {
    if (pq) idle_pq_put(pq);
    atomic_fetch_sub_explicit(&light.nspinning, 1, memory_order_relaxed);
  }
  light_drop();
  if (c) rouse(c, polls);
  monitor_kick();
}

/* Nobody sleeps in netpoll, for descriptors or until `first`, though there are any. */
static bool nobody_polls(uint64_t first) { return !GLANCE(light.poller) && (netpoll_waiters() || first != UINT64_MAX); }

/*
 * Carriers that lay down while there was nothing to wait for are not in netpoll.  One of them, roused, finds nothing, and lies down there.  (Go's wakeNetPoller.)  Should
 * one be looking already, it does.
 */
void carrier_wake_poller(void) {
  if (!GLANCE(light.poller) && !GLANCE(light.rest)) carrier_wake_idle();
}

bool carrier_wanted(struct pq *pq) {
  if (carrier_work_for(pq)) return true;
  return nobody_polls(PQ_KIND(GLANCE(pq->status)) == PQ_SYSCALL ? timers_first_of_all() : UINT64_MAX);
}

/* leaves: the caller is a service thread, or about to block. */
static void handoff(struct pq *pq, bool leaves) {
  bool work = carrier_work_for(pq);
  light_take();
  /* Who queued a G globally just now saw no idle pq; and somebody has to wait for timers and descriptors. */
  if (light.global.len || nobody_polls(timers_first_of_all())) work = true;
  struct carrier *c = work ? idle_carrier_take() : NULL;
  bool polls = c && c == light.poller;
  if (c && leaves) place_m(c->m); /* before it sees the pq; not the poller's, which waits in netpoll */
  if (c)
    pq_give(pq, c);
  else
    idle_pq_put(pq);
  light_drop();
  if (!c) return;
  rouse(c, polls);
  monitor_kick();
}

void carrier_handoff(struct pq *pq) { handoff(pq, false); }

/* --- wired Gs --- */

void carrier_run_wired(struct carrier *c, struct g *g) {
  struct carrier *to = g->lockedm->carrier;
  struct pq *pq = c->pq;
  c->pq = NULL;
  light_take();
  light.nwired--;
  place_m(to->m); /* c sleeps as soon as it has roused it */
  pq_give(pq, to);
  light_drop();
  rouse(to, false);
}

static void wait_wired(struct carrier *c) {
  carrier_release(c);
  if (m_self) m_enteridle(m_self, c->wired_g ? c->wired_g->why : WAIT_PREEMPTED);
  sleep_on(c);
  /* Not gate_exit: should the pq be lost by then, that would switch away, and a preempted G would leave its context on the handler's stack. */
  if (m_self) m_exitsyscall(m_self);
  carrier_hold(c);
}

static void count_wired(void) {
  light_take();
  light.nwired++;
  light_drop();
}

/* c's wired G has left its stack: the pq goes before anybody can ready that G. */
static void leave_wired(struct carrier *c) {
  struct pq *pq = c->pq;
  c->pq = NULL;
  count_wired();
  light_finish_left(c);
  if (pq) carrier_handoff(pq);
}

struct m *carrier_m_of(const struct g *g) {
  struct m *m = NULL;
  light_take();
  for (struct carrier *c = light.carriers; c && !m; c = c->all)
    if (__atomic_load_n(&c->g, __ATOMIC_RELAXED) == g && c->m != &c->no_m) m = c->m;
  light_drop();
  return m;
}

/* --- the stack for handlers --- */

/*
 * Disarmed while a handler runs, so that a handler that gives its G this thread can set that one's instead: from Linux 6.12 on sigreturn sets what the handler's
 * context says while it is still on the old stack, and would be refused.  (An emulator may not know it.)
 */
static void altstack_arm(const struct carrier *c) {
  stack_t ss = {.ss_sp = c->altstack, .ss_size = CARRIER_ALTSTACK_BYTES, .ss_flags = (int)SYS_SS_AUTODISARM};
  if (!c->altstack) ss = (stack_t){.ss_flags = SS_DISABLE};
  if (raw_syscall2(SYS_sigaltstack, (long)&ss, 0) == 0) return;
  ss.ss_flags = 0;
  raw_syscall2(SYS_sigaltstack, (long)&ss, 0);
}

static void altstack_make(struct carrier *c) {
  long at = raw_syscall6(SYS_mmap, 0, CARRIER_ALTSTACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  c->altstack = at < 0 && at > -4096 ? NULL : (void *)at;
  altstack_arm(c);
}

static void altstack_drop(struct carrier *c) {
  if (c->altstack) raw_syscall2(SYS_munmap, (long)c->altstack, CARRIER_ALTSTACK_BYTES);
  c->altstack = NULL;
}

void carrier_leaves_handler(void) {
  struct carrier *c = carrier_now();
  uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
  if (c && c->altstack && sp - (uintptr_t)c->altstack < CARRIER_ALTSTACK_BYTES) altstack_arm(c);
}

/* --- lent threads --- */

bool carrier_has_children(void) {
  return raw_syscall5(SYS_waitid, P_ALL, 0, 0, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD | __WALL, 0) != -ECHILD;
}

/* c gives its pq away: false: it has none any more.  In a wrapped call it is for everyone to take, as in carrier_retake. */
static bool give_up_pq(struct carrier *c) {
  struct pq *pq = c->pq;
  uint32_t in = PQ_CALL_OF(c);
  c->pq = NULL;
  if (is_owner(c, pq)) return true;
  /* acquire: pairs with the release in carrier_gate_enter */
  return pq && atomic_compare_exchange_strong_explicit(&pq->status, &in, PQ_TAKEN, memory_order_acq_rel, memory_order_relaxed);
}

/*
 * A thread G needs a thread of the kernel's for good (free/wire.c): it gets this one.  The carrier is no carrier meanwhile: the M is a thread like
 * others, whose wired G runs what the thread G was.  Also in the SIGURG handler, inside of a wrapped call or out of it.  Null: it can't be had.
 */
struct carrier *carrier_lend(void) {
  struct carrier *c = carrier_now();
  if (!c || !c->g || c->m == &c->no_m || m_is_borrowed(c->m)) return NULL;
  carrier_hold(c);
  struct m *m = c->m;
  struct pq *pq = c->pq;
  cpuclock_lent(c);
  c->foster = carrier_has_children();
  c->alone = false;
  if (GLANCE(c->interrupt.state) != INTERRUPT_OFF) interrupt_disarm(c);
  if (!give_up_pq(c)) pq = NULL;
  count_wired();
  c->g->lockedm = NULL;
  c->g->locked = 0;
  m->carrier = NULL;
  SLOT_STORE(m->slot->carrier, 0);
  carrier_self = NULL;
  if (pq) carrier_handoff(pq);
  m_release(m);
  return c;
}

/* At the end of that G's life, on its stack: it may end as one of a carrier's. */
void carrier_take_back(struct carrier *c) {
  struct m *m = c->m;
  m_hold(m);
  cpuclock_returned(c, c->g);
  sys_sigmask(carrier_sigmask());
  altstack_arm(c);
  m->carrier = c;
  SLOT_STORE(m->slot->carrier, 1);
  carrier_self = c;
  c->alone = true; /* what the M has used is that G's */
  light_take();
  light.nwired--;
  light_drop();
  m_release(m);
}

void carrier_ends(struct carrier *c) { c->ends = true; }

/* Lock held. */
static void unlist(struct carrier *c) {
  light.ncarriers--;
  struct carrier **at = &light.carriers;
  while (*at && *at != c) at = &(*at)->all;
  if (*at) *at = c->all;
}

/* Its thread is about to end.  c itself stays one, for others may be looking at it, and serves the next thread. */
static void lay_aside(struct carrier *c) {
  c->g = NULL;
  c->m = &c->no_m;
  altstack_drop(c);
  light_take();
  c->next = light.former;
  light.former = c;
  light_drop();
}

void carrier_gone(struct carrier *c, struct g *g) {
  cpuclock_gone(c, g);
  m_exit(c->m);
  light_take();
  light.nwired--;
  unlist(c);
  light_drop();
  lay_aside(c);
  g->status = G_DEAD;
  g->lockedm = NULL;
  atomic_fetch_sub_explicit(&light.ngs_outside, 1, memory_order_relaxed);
}

/* --- Gs that compute --- */

/*
 * Among Gs of one queue the order is first in, first out, and a slice is 10 ms: one that answers would wait for each that computes.  So a thread G
 * that had its slice while others wait goes on without the pq, until it parks.  It does not stop: its thread is what competes for a P now, as that of a
 * wired G does, and by the same rules (fair.h): the carrier that gets the pq comes as a newcomer.  As long as it has used much lately it gets no pq to begin with.
 */
static void carrier_evict(struct carrier *c, struct g *g, uint64_t used) {
  struct m *m = c->m;
  struct pq *pq = c->pq;
  c->pq = NULL;
  c->alone = true;
  g->hands_over = false;
  sched_lock();
  uint64_t now = sched_hooks.now();
  sched_charge(m, now); /* to the Gs that it ran so far */
  fair_charge(&g->fair, now, used);
  cpuclock_alone(c, g, pq, used);
  m->g->fair = g->fair;
  m->g->newborn = g->newborn;
  __atomic_store_n(&m->g->gs, 0, __ATOMIC_RELAXED);
  sched_unlock();
  carrier_handoff(pq);
}

void carrier_alone_over(struct carrier *c, struct g *g) {
  struct m *m = c->m;
  c->alone = false;
  sched_lock();
  uint64_t now = sched_hooks.now();
  sched_charge(m, now);
  cpuclock_alone_over(c, g);
  g->fair = m->g->fair;
  m->g->fair = (struct fair){0, now}; /* it begins anew, with others */
  m->g->newborn = false;
  sched_unlock();
}

bool carrier_hog(const struct carrier *c, const struct g *g) {
  if (g->kind != G_THREAD || g->fair.usage <= FAIR_SMALL_NS || c->m == &c->no_m) return false;
  if (!carrier_gs_for(c->pq) && !netpoll_waiters() && timers_first_of_all() == UINT64_MAX) return false;
  return fair_hog(fair_usage(&g->fair, sys_now()), fair_share(POOL_RATE_ONE, GLANCE(c->pq->gs)));
}

bool carrier_preempted(struct m *m, void *uctx) {
  struct carrier *c = m->carrier;
  if (!c || !atomic_exchange_explicit(&c->preempt, 0, memory_order_relaxed)) return false;
  struct g *g = c->g;
  if (!g || g->locked) return true;
  carrier_hold(c);
  struct pq *pq = c->pq;
  /* On the way into a wrapped call or out of it the pq is for everyone to take: it may have been, and be another's. */
  if (!is_owner(c, pq)) {
    carrier_release(c);
    return true;
  }
  if (g->kind == G_THREAD && m != &c->no_m) {
    carrier_evict(c, g, LIGHT_THREAD_NS);
    carrier_release(c);
    return true;
  }
  c->pq = NULL;
  g->lockedm = m;
  g->status = G_RUNNABLE;
  g->why = WAIT_PREEMPTED;
  g->hands_over = false;
  count_wired();
  light_put_global(g);
  handoff(pq, true);
  uint64_t mask;
  __builtin_memcpy(&mask, &((ucontext_t *)uctx)->uc_sigmask, sizeof mask);
  mask = sys_sigmask(mask);
  wait_wired(c);
  sys_sigmask(mask);
  g->status = G_RUNNING;
  carrier_release(c);
  return true;
}

/* The SIGURG handler, on the carrier's own stack for handlers, returns to its G.  Below sp is the red zone of the ABI. */
void carrier_resumes(struct carrier *c, const void *uctx) {
  const ucontext_t *uc = uctx;
#if defined(__x86_64__)
  const char *sp = (const char *)uc->uc_mcontext.gregs[REG_RSP] - 128;
#else
  const char *sp = (const char *)uc->uc_mcontext.sp;
#endif
  const char *bottom = c->g && c->g->kind == G_LIGHT ? stack_bottom(c->g) : NULL;
  if (bottom && sp > bottom && sp < (const char *)c->g) valgrind_resumes(bottom, sp);
}

/* --- wrapped calls --- */

/* A G runs, and is not in the scheduler's or a lock's hands. */
static bool in_g(const struct m *m) { return m->carrier->g && m->locks == 0; }

void carrier_gate_enter(struct m *m) {
  struct carrier *c = m->carrier;
  if (!in_g(m)) return;
  if (__builtin_expect(c->g->io_ctx != NULL, 0)) interrupt_arm(c);
  carrier_hold(c); /* or a signal takes the pq away between the look and the store */
  struct pq *pq = c->pq;
  if (!is_owner(c, pq)) { /* in a call of its own, inside of one that has lost the pq (a plugin of the resolver) */
    carrier_release(c);
    return;
  }
  OWN_ADD(c->syscalls, 1);
  bool gs = carrier_gs_for(pq), unpolled = nobody_polls(GLANCE(pq->timers.first));
  atomic_store_explicit(&pq->status, PQ_CALL_OF(c), memory_order_release); /* pairs with the CAS in carrier_retake */
  carrier_release(c);
  if (gs || unpolled) monitor_syscall(gs);
}

void carrier_gate_block(struct m *m) {
  carrier_gate_enter(m);
  struct pq *pq = m->carrier->pq;
  if (in_g(m) && pq && GLANCE(pq->status) == PQ_CALL_OF(m->carrier) && carrier_work_for(pq)) carrier_retake(pq);
}

static bool retake(struct pq *pq, bool leaves) {
  uint32_t in = GLANCE(pq->status);
  /* acquire: pairs with the release in carrier_gate_enter, the queue is as its owner left it */
  if (PQ_KIND(in) != PQ_SYSCALL ||
      !atomic_compare_exchange_strong_explicit(&pq->status, &in, PQ_TAKEN, memory_order_acq_rel, memory_order_relaxed))
    return false;
  handoff(pq, leaves);
  return true;
}

void carrier_wake_global(void) {
  if (GLANCE(light.idle_pqs)) {
    carrier_wake_idle();
    return;
  }
  /* Who blocks from now on is told of by BPF (monitor_gs_queued), or found by the monitor. */
  for (uint32_t i = 0; i < light.npqs; i++) {
    struct pq *pq = &light.pqs[i];
    struct carrier *c = GLANCE(pq->carrier);
    if (PQ_KIND(GLANCE(pq->status)) == PQ_SYSCALL && c && m_seen_by_bpf(c->m) && handoff_blocked_now(c->m) && retake(pq, false)) return;
  }
}

bool carrier_retake(struct pq *pq) { return retake(pq, true); }

/*
 * Blocked outside of any wrapper: there is no way back through us.  `lost` is set, and if the M is still away after that, the switch that brings it
 * back makes it see that: it looks at its next step into the scheduler (carrier_hold), and until then uses nothing of the pq's.
 */
bool carrier_retake_running(struct pq *pq, struct carrier *c) {
  struct m *m = c->m;
  light_take();
  bool may = GLANCE(pq->status) == PQ_RUNNING && GLANCE(pq->carrier) == c && c->m != &c->no_m && SLOT_LOAD(m->slot->state) == M_RUN &&
             __atomic_load_n(&m->locks, __ATOMIC_RELAXED) == 0;
  uint64_t blocked_at = may ? __atomic_load_n(&m->slot->blocked_at, __ATOMIC_ACQUIRE) : 0;
  if (may) {
    atomic_store_explicit(&c->lost, 1, memory_order_seq_cst);
    may = handoff_still_away(m, blocked_at) && __atomic_load_n(&m->locks, __ATOMIC_RELAXED) == 0;
    if (may) {
      atomic_store_explicit(&pq->carrier, NULL, memory_order_relaxed);
      atomic_store_explicit(&pq->status, PQ_TAKEN, memory_order_relaxed);
    } /* else it finds, under the lock, that the pq is still its own */
  }
  light_drop();
  if (may) handoff(pq, true);
  return may;
}

/*
 * c, held, may have lost its pq.  If so its G goes on without until it parks, unless one is idle: it may be holding a run lock, and must not wait
 * here.  It still needs a P of the pool to run, like any thread.
 */
void carrier_regain(struct carrier *c) {
  struct pq *pq = c->pq;
  light_take();
  atomic_store_explicit(&c->lost, 0, memory_order_relaxed);
  bool taken = pq && GLANCE(pq->carrier) != c;
  struct pq *other = taken ? idle_pq_claim(c) : NULL;
  if (taken && !other) __atomic_store_n(&c->pq, NULL, __ATOMIC_RELAXED);
  light_drop();
  if (other) monitor_kick(); /* all may have been idle, and the monitor asleep for good */
}

void carrier_gate_exit(struct m *m) {
  struct carrier *c = m->carrier;
  uint32_t in = PQ_CALL_OF(c);
  if (!in_g(m)) return;
  if (__builtin_expect(GLANCE(c->interrupt.state) != INTERRUPT_OFF, 0)) interrupt_disarm(c);
  carrier_hold(c);
  struct pq *pq = c->pq;
  if (!pq) {
    carrier_release(c);
    return;
  }
  /* pairs with the CAS in carrier_retake */
  if ((atomic_compare_exchange_strong_explicit(&pq->status, &in, PQ_RUNNING, memory_order_acq_rel, memory_order_relaxed) ||
       (in == PQ_RUNNING && atomic_load_explicit(&pq->carrier, memory_order_relaxed) == c))) /* a handler inside of a call has been here */
  {
    carrier_release(c);
    return;
  }
  if (m_is_borrowed(m)) { /* the G itself, when it is back, finds that the pq is gone */
    carrier_release(c);
    return;
  }
  c->pq = NULL;
  light_take();
  pq = idle_pq_claim(c);
  light_drop();
  if (pq) {
    monitor_kick();
    carrier_release(c);
    return;
  }
  c->g->status = G_RUNNABLE;
  light_leave(c, c->g, LEFT_GLOBAL);
  light_arrive();
}

/* --- finding something to run --- */

static struct g *global_get(struct carrier *c, uint32_t most) {
  struct g *batch[GLOBAL_BATCH];
  if (atomic_load_explicit(&light.nglobal, memory_order_relaxed) == 0) return NULL;
  light_take();
  uint32_t n = light.global.len / light.npqs + 1;
  if (n > most) n = most;
  struct g *first = light_global_pop();
  uint32_t k = 0;
  for (struct g *g; k + 1 < n && (g = light_global_pop()); k++) batch[k] = g;
  light_drop();
  for (uint32_t i = runq_put_batch(&c->pq->runq, batch, k); i < k; i++) light_put(c, batch[i], false);
  return first;
}

static struct g *take_list(struct carrier *c, struct gqueue *list) {
  struct g *first = gqueue_pop(list), *g;
  if (!first) return NULL;
  bool more = list->len != 0;
  while ((g = gqueue_pop(list))) light_put(c, g, false);
  if (more) carrier_wake_idle();
  return first;
}

static struct g *poll_now(struct carrier *c) {
  struct gqueue list = {0};
  if (netpoll_waiters() == 0) return NULL;
  netpoll(0, &list);
  return take_list(c, &list);
}

static void run_timers(struct timers *ts) {
  uint64_t first = atomic_load_explicit(&ts->first, memory_order_relaxed);
  if (first == UINT64_MAX) return;
  uint64_t now = sys_now();
  if (first <= now) timers_run(ts, now);
}

/*
 * Who came last goes first: of a tree of spawners it is the deepest, and its children end, and give their stacks back, before others begin (a
 * million leaves: 1,100 stacks; the other way round 92,000).  Once in a slice it is the turn of who waits longest.
 */
static struct g *later_pop(struct pq *pq) {
  struct g *oldest = pq->later.tail;
  uint64_t now = GLANCE(light.now);
  if (!oldest || now - pq->oldest_at < LIGHT_SLICE_NS) return gqueue_pop(&pq->later);
  pq->oldest_at = now;
  gqueue_remove(&pq->later, oldest);
  return oldest;
}

/* The queue is never quite empty (two that yield): a spawner goes on when it is nearly so, or has waited for a slice. */
static struct g *later_turn(struct pq *pq) {
  if (!pq->later.len || GLANCE(pq->tick) / LIGHT_TICK % 2) return NULL;
  return runq_len(&pq->runq) <= LATER_LOW || GLANCE(light.now) - pq->oldest_at >= LIGHT_SLICE_NS ? later_pop(pq) : NULL;
}

static struct g *find_own(struct carrier *c) {
  struct pq *pq = c->pq;
  struct g *g;
  bool inherit;
  run_timers(&pq->timers);
  OWN_ADD(pq->tick, 1); /* or a P that comes by here alone, with preempted Gs, serves the global queue for ever */
  bool polls = pq->polls || netpoll_overdue();
  pq->polls = false;
  if (polls && (g = poll_now(c))) return g;
  /* As many as have room: where the own queue overflows now and then, those that it loses would wait for 61 turns each (Go's way). */
  if (GLANCE(pq->tick) % LIGHT_TICK == 0 &&
      ((g = later_turn(pq)) || (g = global_get(c, 1 + (RUNQ_SIZE - runq_len(&pq->runq)) / 2)) || (g = poll_now(c))))
    return g;
  g = runq_get(&pq->runq, &inherit);
  return g ? g : later_pop(pq);
}

static void begin_spinning(struct carrier *c) {
  if (c->spinning) return;
  c->spinning = true;
  atomic_fetch_add_explicit(&light.nspinning, 1, memory_order_relaxed);
}

/* Without its pq: it does not look any more. */
static void stop_spinning(struct carrier *c) {
  if (!c->spinning) return;
  c->spinning = false;
  atomic_fetch_sub_explicit(&light.nspinning, 1, memory_order_release);
}

/* It has found something; was it the last that looked?  seq_cst: a look at the queues after this sees what was queued while it spun. */
static bool last_spinning(struct carrier *c) {
  c->spinning = false;
  return atomic_fetch_sub_explicit(&light.nspinning, 1, memory_order_seq_cst) == 1;
}

/* The same: another may find more. */
static void end_spinning(struct carrier *c) {
  if (last_spinning(c)) carrier_wake_idle();
}

static uint32_t next_random(struct pq *pq) {
  pq->seed ^= pq->seed << 13;
  pq->seed ^= pq->seed >> 17;
  return pq->seed ^= pq->seed << 5;
}

static struct g *steal(struct carrier *c) {
  struct pq *self = c->pq;
  uint32_t n = light.npqs;
  for (int round = 0; round < STEAL_ROUNDS; round++) {
    uint32_t at = next_random(self) % n;
    for (uint32_t i = 0; i < n; i++, at = at + 1 == n ? 0 : at + 1) {
      struct pq *victim = &light.pqs[at];
      if (victim == self) continue;
      uint32_t st = atomic_load_explicit(&victim->status, memory_order_relaxed);
      enum runq_next how = round < STEAL_ROUNDS - 1 ? RUNQ_NEXT_LEAVE : st == PQ_RUNNING ? RUNQ_NEXT_WAIT : RUNQ_NEXT_TAKE;
      if (round == STEAL_ROUNDS - 1) run_timers(&victim->timers);
      struct g *g = runq_steal(&self->runq, &victim->runq, how);
      if (g) return g;
    }
  }
  bool inherit;
  return runq_get(&self->runq, &inherit); /* a victim's timer may have made one */
}

static struct g *find_elsewhere(struct carrier *c) {
  struct g *g = global_get(c, GLOBAL_BATCH);
  if (g || (g = poll_now(c))) return g;
  if (light.npqs == 1) return NULL;
  uint32_t running = light.npqs - (uint32_t)__builtin_popcountll(atomic_load_explicit(&light.idle_pqs, memory_order_relaxed));
  if (!c->spinning && 2 * atomic_load_explicit(&light.nspinning, memory_order_relaxed) >= running) return NULL;
  begin_spinning(c);
  for (int i = 0; i < SPIN_ROUNDS; i++)
    if ((g = steal(c)) || (g = global_get(c, GLOBAL_BATCH))) return g;
  return NULL;
}

static bool anything(void) {
  if (atomic_load_explicit(&light.nglobal, memory_order_relaxed)) return true;
  for (uint32_t i = 0; i < light.npqs; i++)
    if (!runq_empty(&light.pqs[i].runq)) return true;
  return timers_first_of_all() <= sys_now();
}

/* Before c goes idle: where that has paid, it looks on for a moment, as one that is spinning, so that nobody need be woken. */
static struct g *linger(struct carrier *c) {
  if (!spin_worth(&c->pq->spin)) return NULL;
  if (!c->spinning && atomic_load_explicit(&light.nspinning, memory_order_relaxed)) return NULL;
  begin_spinning(c);
  struct spin *spin = &c->pq->spin;
  uint64_t until = sys_now() + SPIN_NS;
  struct g *g = NULL;
  do {
    spin_step();
    if (anything()) g = find_elsewhere(c);
  } while (!g && sys_now() < until);
  spin_was(spin, g != NULL);
  /* Two that hand something to and fro have nothing for a third.  What comes just now in another's queue, past this look, is seen by the monitor. */
  if (g && last_spinning(c) && anything()) carrier_wake_idle();
  return g;
}

/* --- going idle --- */

static bool pq_again(struct carrier *c) {
  light_take();
  struct pq *pq = idle_pq_claim(c);
  light_drop();
  if (!pq) return false;
  begin_spinning(c);
  monitor_kick();
  return true;
}

/* c found nothing.  Its pq goes idle, unless something has come after all. */
static void go_idle(struct carrier *c) {
  light_take();
  if (light.global.len) {
    light_drop();
    return;
  }
  struct pq *pq = c->pq;
  c->pq = NULL;
  idle_pq_put(pq);
  stop_spinning(c);
  light_drop();
  if (anything()) pq_again(c); /* at a glance; lie_down looks for good */
}

static bool make_spare(struct carrier *c);

/* A new carrier is on its own now, or could not be made. */
static void carrier_born(void) {
  light_take();
  if (light.nborn) light.nborn--;
  light_drop();
}

static bool rests(struct g *g, void *arg) {
  bool *all = arg;
  if (g->id && (g->status == G_RUNNABLE || g->status == G_RUNNING)) *all = false;
  return *all;
}

/* A thread G is a thread of the program's, wherever it is; of those shim/free knows the last. */
static bool keeps_the_process(struct g *g, void *arg) {
  bool *any = arg;
  if (g->id && (g->status == G_RUNNABLE || g->status == G_RUNNING || (g->kind == G_THREAD && g->status != G_DEAD))) *any = true;
  return !*any;
}

/*
 * All threads of the program have ended, main's by pthread_exit, and glibc waits for ours, which it takes for the program's: so we do what it does after the last one.
 * Gs that still run are let run, as threads would be; those that rest can't be made runnable by anybody.
 */
static void end_with_last_thread(struct carrier *c) {
  bool any = false;
  light_each(keeps_the_process, &any);
  if (any) return;
  carrier_release(c);
  sched_end_process();
}

void carrier_m_gone(void) {
  /* acquire: pairs with light_start's release.  Who looks already does so in lie_down. */
  if (GLANCE(light.rest)) return; /* nor may they be disturbed */
  if (__atomic_load_n(&light.started, __ATOMIC_ACQUIRE) && __atomic_load_n(&sched.nms, __ATOMIC_RELAXED) <= light.ncarriers)
    carrier_wakep();
}

/* To be sure before the program is ended. */
static bool nothing_runs(void) {
  bool all = true;
  light_each(rests, &all);
  return all;
}

static void idle_list_remove(struct carrier *c) {
  struct carrier *at = GLANCE(light.idle);
  if (at == c) {
    atomic_store_explicit(&light.idle, c->next, memory_order_relaxed);
  } else {
    while (at->next != c) at = at->next;
    at->next = c->next;
  }
  light.nidle--;
}

/* Out of bed, if a pq is idle; or somebody has given us one. */
static bool get_up(struct carrier *c, bool polls) {
  light_take();
  bool given = c->pq != NULL; /* then it is off the list */
  bool found = !given && idle_pq_claim(c);
  if (polls && (given || found)) atomic_store_explicit(&light.poller, NULL, memory_order_relaxed);
  if (found && !polls) idle_list_remove(c);
  light_drop();
  if (!given && !found) return false;
  begin_spinning(c);
  monitor_kick();
  return true;
}

/* All that is to know under the lock before a carrier without pq sleeps. */
enum bed { BED_NONE, BED_LIST, BED_NETPOLL };
static enum bed lie_down(struct carrier *c) {
  netpoll_open();
  light_take();
  bool polls = (nobody_polls(timers_first_of_all()) || (netpoll_signals_on() && !GLANCE(light.poller))) && !all_run();
  if (GLANCE(light.rest)) polls = false;
  if (polls) {
    atomic_store_explicit(&light.poller, c, memory_order_relaxed);
  } else {
    c->next = GLANCE(light.idle);
    atomic_store_explicit(&light.idle, c, memory_order_relaxed);
    light.nidle++;
  }
  /* births: pairs with come_alive in preload/thread.c, the new M is counted before it is no birth any more */
  bool rest = atomic_load_explicit(&light.births, memory_order_acquire) == 0 && !polls && !light.poller && all_idle() &&
              light.global.len == 0 && light.nidle + light.nwired == light.ncarriers && netpoll_waiters() == 0;
  bool dead = rest && GLANCE(light.mains) && sched.nms == light.ncarriers + 1;
  bool alone = rest && sched.nms == light.ncarriers;
  light_drop();
  if (dead && nothing_runs()) report_deadlock();
  if (__builtin_expect(alone, 0)) end_with_last_thread(c);
  /*
   * Now who queues a G finds us.  Who did before, and found an idle pq but no carrier, or thought that another searches, is seen from here: all
   * others pass a fence, so their queues are as they left them (pairs with carrier_wake_idle; tests/model/light.pml).
   */
  atomic_thread_fence(memory_order_seq_cst);
  if (!all_idle()) sched_hooks.barrier();
  if (anything() && get_up(c, polls)) return BED_NONE;
  return polls ? BED_NETPOLL : BED_LIST;
}

/* Something is to be run, and no pq is idle: one whose carrier is blocked in a call.  Lock held. */
static struct pq *pq_from_call(void) {
  for (uint32_t i = 0; i < light.npqs; i++) {
    struct pq *pq = &light.pqs[i];
    struct carrier *in = GLANCE(pq->carrier);
    uint32_t status = GLANCE(pq->status);
    if (PQ_KIND(status) != PQ_SYSCALL || !in || !handoff_blocked_now(in->m)) continue;
    if (atomic_compare_exchange_strong_explicit(&pq->status, &status, PQ_TAKEN, memory_order_acq_rel, memory_order_relaxed)) return pq;
  }
  return NULL;
}

/* No P is idle: those who have one run these, while we wait for a P of the pool. */
static void leave_to_others(struct gqueue *list) {
  struct g *g;
  light_take();
  while ((g = gqueue_pop(list))) light_global_push(g);
  light_drop();
  carrier_wake_global();
}

static void poll_and_come_back(struct carrier *c) {
  struct gqueue list = {0};
  netpoll(timers_first_of_all(), &list);
  if (list.len && !GLANCE(light.idle_pqs)) leave_to_others(&list);
  gate_exit();
  carrier_hold(c);
  light_take();
  atomic_store_explicit(&light.poller, NULL, memory_order_relaxed);
  bool given = c->pq != NULL;
  if (!given && !idle_pq_claim(c) && (list.len || light.global.len || timers_first_of_all() <= sys_now())) {
    struct pq *pq = pq_from_call();
    if (pq) pq_give(pq, c);
  }
  struct g *g;
  while (!c->pq && (g = gqueue_pop(&list))) light_global_push(g);
  light_drop();
  if (!c->pq) return;
  begin_spinning(c); /* given or not: it was the one to poll, and end_spinning sees to another */
  for (uint32_t i = 0; i < light.npqs; i++) run_timers(&light.pqs[i].timers);
  while ((g = gqueue_pop(&list))) light_put(c, g, false);
  monitor_kick();
}

/* c, asleep on the idle list, is one too many: it is off all lists. */
static bool one_too_many(struct carrier *c) {
  light_take();
  bool is = !c->pq && light.nidle > SPARES;
  if (is) {
    idle_list_remove(c);
    unlist(c);
  }
  light_drop();
  return is;
}

/* The thread ends. */
static void leave_thread(struct carrier *c) {
  stack_t none = {.ss_flags = SS_DISABLE};
  sys_sigmask(SYS_SIGSET_MOST);
  raw_syscall2(SYS_sigaltstack, (long)&none, 0);
  if (m_self) {
    SLOT_STORE(m_self->slot->carrier, 0);
    m_self->carrier = NULL;
  }
  carrier_self = NULL;
  cpuclock_thread_ends(c);
  c->m = &c->no_m;
}

/* And is no carrier any more. */
static void retire(struct carrier *c) {
  leave_thread(c);
  lay_aside(c);
}

/* shim/free's: monitor.c. */
bool free_trim(void) __attribute__((weak));

/* Without a pq.  Returns when it may have one; false: it has retired. */
static bool idle_wait(struct carrier *c) {
  enum bed bed = lie_down(c);
  if (bed == BED_NONE) return true;
  carrier_release(c);
  if (m_self) m_enteridle(m_self, WAIT_WORKER);
  if (bed == BED_NETPOLL) {
    poll_and_come_back(c);
    return true;
  }
  uint64_t until = GLANCE(light.rest) ? SYS_FOREVER : sys_now() + CARRIER_IDLE_NS;
  if (!sleep_until(c, until) && !GLANCE(light.rest)) {
    while (free_trim && !__atomic_load_n(&c->pq, __ATOMIC_RELAXED) && free_trim()) continue; /* the monitor sleeps where all are idle */
    if (!fiber_used && !carrier_has_children() && one_too_many(c)) {
      retire(c);
      return false;
    }
  }
  sleep_on(c);
  gate_exit();
  carrier_hold(c);
  return true;
}

static bool not_light(struct g *g, void *arg) {
  bool *none = arg;
  if (g->id && g->kind == G_LIGHT && g->status != G_DEAD) *none = false;
  return *none;
}

static bool all_rest(void) {
  light_take();
  bool rest = !light.poller && !light.nborn && all_idle() && light.nidle + light.nwired >= light.ncarriers;
  light_drop();
  return rest;
}

void carriers_rest(void) {
  bool none = true;
  light_each(not_light, &none);
  if (!none || !__atomic_load_n(&light.started, __ATOMIC_ACQUIRE)) return; /* pairs with light_start */
  atomic_store_explicit(&light.rest, true, memory_order_seq_cst);
  netpoll_break(); /* who sleeps there is to sleep like the others */
  _Atomic uint32_t never = 0;
  for (uint32_t i = 0; i < REST_LOOKS && !all_rest(); i++) sys_futex_wait(&never, 0, sys_now() + REST_LOOK_NS, false);
}

/* c has found something: others may find more, and somebody has to wait for descriptors and timers if a P is idle. */
static void see_to_others(struct carrier *c) {
  if (c->spinning)
    end_spinning(c);
  else if (GLANCE(light.idle_pqs) && !GLANCE(light.poller) && nobody_polls(timers_first_of_all())) /* the timers are looked at last */
    carrier_wake_poller();
}

/* What c is to run; null: it has retired. */
static struct g *find(struct carrier *c) {
  for (;;) {
    if (c->wired_g) {
      wait_wired(c);
      struct g *g = c->wired_g;
      c->wired_g = NULL;
      return g;
    }
    if (!c->pq) {
      if (!idle_wait(c)) return NULL;
      continue;
    }
    if (GLANCE(light.nidle) < SPARES && !GLANCE(light.rest) && make_spare(c)) continue;
    struct g *g = find_own(c);
    if (!g) g = find_elsewhere(c);
    if (!g) g = linger(c);
    if (!g) {
      go_idle(c);
      continue;
    }
    see_to_others(c);
    if (!g->lockedm && carrier_hog(c, g)) carrier_evict(c, g, 0);
    if (!g->lockedm || g->lockedm == c->m) return g;
    carrier_run_wired(c, g);
  }
}

/* --- the thread --- */

uint64_t carrier_opens;

uint64_t carrier_sigmask(void) {
  /* Signals of the program go to its own threads; a G's stack is small.  Faults, SIGURG and glibc's own (32, 33) come through.
   * The kernel blocks SIGKILL and SIGSTOP in no mask, nor says so. */
  static const int open[] = {SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, 32, 33, SIGKILL, SIGSTOP};
  uint64_t mask = ~carrier_opens;
  for (size_t i = 0; i < sizeof open / sizeof *open; i++) mask &= ~((uint64_t)1 << (open[i] - 1));
  return mask;
}

/* There is a carrier that can take over. */
static bool others_rest(void) {
  light_take();
  bool others = light.nidle || light.nborn || light.poller;
  light_drop();
  return others;
}

/*
 * A G has ended that had locked its thread, or had it for good and has changed it, and that is nobody else's: as in Go, the thread ends.  Others see to it that there are enough; only where
 * none is left to do so is one made here, which inherits what was changed.  False: nor can that be done; later, then.  The M goes first, and then somebody looks whether all sleep: who lay
 * down meanwhile has counted this one.
 */
static bool ends_with_its_g(struct carrier *c) {
  if (!others_rest()) (void)make_spare(c); /* c's pq may be lost by that */
  if (!others_rest()) return false;
  struct pq *pq = c->pq;
  c->pq = NULL;
  stop_spinning(c);
  if (pq) carrier_handoff(pq);
  carrier_release(c);
  leave_thread(c);
  if (m_self) m_exit(m_self);
  light_take();
  unlist(c);
  light_drop();
  lay_aside(c);
  carrier_wakep();
  return true;
}

static void *carrier_main(void *arg) {
  struct carrier *c = arg;
  prctl(PR_SET_NAME, "ration-carrier");
  sys_sigmask(carrier_sigmask());
  c->errno_at = &errno;
  c->tp = tp_get();
  c->m = m_self ? m_self : &c->no_m;
  c->m->carrier = c;
  c->m->carries = true;
  if (m_self) SLOT_STORE(m_self->slot->carrier, 1);
  carrier_self = c;
  cpuclock_carrier_born(c);
  altstack_make(c);
  fiber_of_thread(&c->fiber);
  carrier_hold(c);
  if (anything()) pq_again(c);
  carrier_born();
  for (;;) {
    struct g *g = find(c);
    if (!g) return NULL;
    c->g = g;
    if (__builtin_expect(fiber_used, 0)) fiber_switch(&c->fiber, &g->fiber, false);
    light_count_run(c->pq, g);
    light_wear(c, NULL, g);
    ration_switch(&c->sp, g->sp);
    if (__builtin_expect(fiber_used, 0)) fiber_arrived(&c->fiber);
    if (c->wired_g)
      leave_wired(c);
    else
      light_finish_left(c);
    if (__builtin_expect(c->ends, 0) && ends_with_its_g(c)) return NULL;
  }
}

int (*light_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = pthread_create;

static struct carrier *carrier_record(void) {
  light_take();
  struct carrier *c = light.former;
  if (c) light.former = c->next;
  light_drop();
  if (c) {
    c->alone = c->ends = c->spinning = false;
    atomic_store_explicit(&c->preempt, 0, memory_order_relaxed);
    atomic_store_explicit(&c->lost, 0, memory_order_relaxed);
    return c;
  }
  long at = raw_syscall6(SYS_mmap, 0, sizeof *c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at < 0 && at > -4096 ? NULL : (struct carrier *)at;
}

static int make_carrier(void) {
  struct carrier *c = carrier_record();
  if (!c) return -ENOMEM;
  pthread_attr_t attr;
  pthread_t t;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, CARRIER_STACK + tp_static_bytes());
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  light_take();
  light.ncarriers++;
  c->id = ++light.last_carrier;
  c->all = light.carriers;
  light.carriers = c;
  light_drop();
  uint64_t mask = sys_sigmask(SYS_SIGSET_MOST & ~((uint64_t)1 << (SIGURG - 1))); /* it has none of them until it has set its own */
  int r = light_pthread_create(&t, &attr, carrier_main, c);
  sys_sigmask(mask);
  pthread_attr_destroy(&attr);
  if (r == 0) return 0;
  light_take();
  unlist(c);
  light_drop();
  lay_aside(c);
  return -r;
}

/* Lock held. */
static void retry_later(uint64_t now) {
  uint64_t twice = light.make_pause * 2;
  light.make_pause = twice < MAKE_FIRST_NS ? MAKE_FIRST_NS : twice < MAKE_MOST_NS ? twice : MAKE_MOST_NS;
  atomic_store_explicit(&light.make_at, now + light.make_pause, memory_order_relaxed);
}

/* What has come of it. */
static void made(bool one) {
  light_take();
  if (one) {
    light.make_pause = 0;
    atomic_store_explicit(&light.make_at, 0, memory_order_relaxed);
  } else {
    retry_later(sys_now());
  }
  light_drop();
  if (!one) monitor_look_now();
}

/*
 * On c's own stack, held, without a G in hand.  Not held meanwhile: pthread_create allocates, and who has the allocator's lock may be a G that was
 * preempted and waits for this very pq; it can be taken away then, like that of anyone who blocks outside of a wrapper.
 */
static bool make_spare(struct carrier *c) {
  uint64_t make_at = GLANCE(light.make_at);
  if (make_at && sys_now() < make_at) return false;
  light_take();
  bool make = light.nidle < SPARES && light.nborn == 0;
  light.nborn += make;
  light_drop();
  if (!make) return false;
  carrier_release(c);
  bool one = make_carrier() == 0;
  if (!one) carrier_born();
  made(one);
  carrier_hold(c);
  if (c->pq) return false;
  stop_spinning(c);
  return true; /* it was lost */
}

/* --- where no thread was to be had --- */

/*
 * shim/free's: fn() in a thread of its own, by a TCB that is kept for that.  Any thread with the program's descriptors, also in a handler.  False: it could not begin.  fn null: is
 * there such a TCB?
 */
bool free_make(void (*fn)(void)) __attribute__((weak));

static void make_one(void) { made(make_carrier() == 0); }

void carriers_maker(void) {
  if (atomic_exchange_explicit(&light.maker, 0, memory_order_relaxed)) free_make(make_one);
}

/* A pq is idle, and might not be, but for want of a carrier. */
static bool carrier_is_missing(void) {
  if (!GLANCE(light.idle_pqs) || GLANCE(light.nidle) || GLANCE(light.poller) || GLANCE(light.rest)) return false;
  return anything() || netpoll_waiters() || timers_first_of_all() != UINT64_MAX;
}

/* Some thread, each time another one: of the one before it may be that it blocks SIGURG. */
static void tell_one_to_make(void) {
  static uint32_t turn;
  sched_lock();
  uint32_t n = sched.nms ? turn++ % sched.nms : 0;
  struct m *m = sched.allm;
  while (m && n--) m = m->next;
  if (m) sched_hooks.signal(m);
  sched_unlock();
}

uint64_t carriers_look(uint64_t now) {
  uint64_t make_at = GLANCE(light.make_at);
  if (__builtin_expect(make_at == 0, 1) || !free_make || !free_make(NULL) || !carrier_is_missing()) return UINT64_MAX;
  if (now < make_at) return make_at;
  light_take();
  retry_later(now);
  light_drop();
  atomic_store_explicit(&light.maker, 1, memory_order_relaxed); /* read by the handler, after the signal */
  tell_one_to_make();
  return GLANCE(light.make_at);
}

static uint32_t count_pqs(void) {
  const char *s = getenv("RATION_MAXPROCS");
  uint32_t n = gate_ncpus();
  cpu_set_t set;
  if (n == 0) n = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
  if (s && *s >= '1' && *s <= '9') n = (uint32_t)strtoul(s, NULL, 10);
  return n < 1 ? 1 : n > LIGHT_PQS_MAX ? LIGHT_PQS_MAX : n;
}

static int make_pqs(void) {
  uint32_t n = count_pqs();
  long at = raw_syscall6(SYS_mmap, 0, (long)(n * sizeof(struct pq)), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return (int)at;
  light.pqs = (struct pq *)at;
  light.npqs = n;
  for (uint32_t i = 0; i < n; i++) {
    struct pq *pq = &light.pqs[i];
    runq_init(&pq->runq);
    timers_init(&pq->timers);
    pq->id = i;
    pq->seed = 2463534242u + i * 7919;
    atomic_fetch_or_explicit(&light.idle_pqs, bit_of(pq), memory_order_relaxed);
  }
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&light.mask, sizeof light.mask);
  preempt_init();
  fiber_init();
  atomic_store_explicit(&light.now, sys_now(), memory_order_relaxed); /* the monitor may be long in coming */
  netpoll_open(); /* now: it takes low numbers for a moment, and the program may be opening files later */
  return 0;
}

/* Goes on where it was left, if not all was to be had: then the program may ask again. */
static int start_all(void) {
  int r = light.npqs ? 0 : make_pqs();
  if (r == 0 && !light.monitored) light.monitored = (r = monitor_start()) == 0;
  while (r == 0 && __atomic_load_n(&light.ncarriers, __ATOMIC_RELAXED) <= light.npqs) r = make_carrier();
  return r;
}

int light_start(void) {
  static struct lock start_lock;
  int r = 0;
  if (__atomic_load_n(&light.complete, __ATOMIC_ACQUIRE)) return 0; /* pairs with the release below */
  m_hold(m_self);
  lock_take(&start_lock);
  if (!light.complete) {
    lock_take(&sched.lock);
    sched.carriers = true;
    sched_watch_ms(); /* before there is one */
    sched_drop();
    r = start_all();
    if (light.npqs) __atomic_store_n(&light.started, true, __ATOMIC_RELEASE);
    if (r == 0) __atomic_store_n(&light.complete, true, __ATOMIC_RELEASE);
  }
  lock_drop(&start_lock);
  m_release(m_self);
  return r;
}
