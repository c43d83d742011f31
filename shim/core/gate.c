/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slow halves of the gate: what an M does when it has lost its P, is asked to
 * yield, or gives its P up.  The fast halves are in m.h.
 *
 * Here the M is its own scheduler.  Signals are put off while it holds the
 * lock (gate_defer); they come through while it sleeps.  A handler that runs during the sleep finds state M_IDLE and
 * stays out of the gate: signals are prompt, with or without a P.  One that leaves by longjmp leaves the G
 * in its queue and state at M_IDLE; the next wrapper sees by the stack that
 * nobody sleeps there any more, and starts again (abandoned()).
 */
#include "core/gate.h"
#include <pthread.h>
#include "core/carrier.h"
#include "core/place.h"
#include "core/preempt.h"
#include "core/sched.h"
#include "core/world.h"

#define GATE_UNWOUND_MAX ((uintptr_t)64 << 20)
#define GATE_STOPPED_NS \
  (4ull * FAIR_HALFLIFE_NS) /* one that was stopped and comes back so much later has slept: its average counts again */

/*
 * Asynchronous cancellation is a signal of glibc's that nobody can put off, and would unwind out of here with the lock.  So the type is deferred
 * meanwhile; if the thread was cancelled, setting it back is where it ends.  Not on carriers: nobody sends it there, and a thread G that has been marked would end
 * in the middle of being switched.
 */
static void rt_enter(struct m *m) {
  int type = PTHREAD_CANCEL_DEFERRED;
  if (!m->carries) pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  m_hold(m);
  m->cancel_type = type;
  lock_take(&sched.lock);
}

static void rt_leave(struct m *m) {
  int type = m->cancel_type;
  sched_drop();
  m_release(m);
  if (__builtin_expect(type != PTHREAD_CANCEL_DEFERRED, 0)) pthread_setcanceltype(type, NULL);
}

static void send_again(const struct m *m, int sig, const siginfo_t *si) {
  raw_syscall4(SYS_rt_tgsigqueueinfo, sys_getpid(), m->tid, sig, (long)si);
}

/*
 * A signal of the program's found the thread in scheduler code: it is kept, and all others stay blocked until m_release lets
 * them come, this one first.  Faults are not for here: they are ours, and the program's handler can have them.
 *
 * Another may come before this one has blocked it: then that is the one that is kept, and this one is sent once more, and pends.  The same where several pend together:
 * the kernel lays their frames one upon the other, and the last runs first.  It is the outer frame that knows the mask of the code that was interrupted.
 */
bool gate_defer(int sig, const siginfo_t *si, void *uctx) {
  struct m *m = m_self;
  if (!m || m->locks == 0) return false;
  ucontext_t *uc = uctx;
  uint64_t all = SYS_SIGSET_ALL;
  sys_sigmask(all);
  if (m->deferred) {
    send_again(m, sig, si);
  } else {
    m->deferred_info = *si;
    m->deferred = sig;
  }
  __builtin_memcpy(&m->deferred_mask, &uc->uc_sigmask, sizeof m->deferred_mask);
  __builtin_memcpy(&uc->uc_sigmask, &all, sizeof all);
  return true;
}

void m_release_deferred(struct m *m) {
  int sig = m->deferred;
  m->deferred = 0;
  send_again(m, sig, &m->deferred_info);
  sys_sigmask(m->deferred_mask);
}

/* Sleeps until a P was granted. Lock held; dropped and not held after. */
static void park_m(struct m *m) {
  m->park_sp = (uintptr_t)__builtin_frame_address(0);
  place_asleep(m);
  rt_leave(m);
  /* acquire: pairs with the release in sched_grant: has_p and taken are seen after it */
  while (atomic_load_explicit(&m->park, memory_order_acquire) == 0) sys_futex_wait(&m->park, 0, SYS_FOREVER, false);
  atomic_store_explicit(&m->park, 0, memory_order_relaxed);
  m->park_sp = 0;
  place_awake(m);
}

/*
 * After park_m.  It may have been asked to stop between the grant and now, when nobody would have signalled it (M_IDLE): our
 * callers look at the news again, in a loop.
 */
static void run_again(struct m *m) {
  SLOT_STORE(m->slot->state, M_RUN);
  atomic_thread_fence(memory_order_seq_cst); /* state before `preempt`: pairs with preempt_request */
  alarm_arm(m);
}

/*
 * m has a slot of a pool of several processes.  Kept in a block it is of no use to anybody, and who comes to wait in another process has to wake our sysmon to have it: so it goes back to the pool.
 */
static bool keeps_from_others(const struct m *m) {
  const struct p *p = __atomic_load_n(&m->p, __ATOMIC_RELAXED); /* looked at once more under the lock */
  return p && __atomic_load_n(&p->shared, __ATOMIC_RELAXED);
}

/*
 * The tick may be late: to wake sysmon, only that it looks at the tick and not up to another tick later, brings nothing.  Nor up to three, where as a rule those that run look
 * themselves; and much later where m gives its P back when it blocks.
 */
static void kick_tick(const struct m *m, uint64_t tick) {
  uint64_t late = !alarm_can(m) ? SCHED_ACTIVE_TICK_NS : keeps_from_others(m) ? SCHED_WARM_NS : 3 * SCHED_ACTIVE_TICK_NS;
  if (tick != UINT64_MAX && atomic_load_explicit(&sched.sysmon_until, memory_order_relaxed) > tick + late) sched_kick(tick);
}

/* After a look of m's. */
static void kick_for(const struct m *m) {
  sched_kick(sched.due);
  kick_tick(m, sched.tick_due);
}

static void balance_and_kick(const struct m *m, uint64_t now) {
  sched_balance(now);
  kick_for(m);
}

/* m looks at the whole, and then sees whether it is itself that must stop. */
static void look_of(struct m *m, uint64_t now, uint64_t overslept) {
  sched.looks = m;
  sched.overslept = overslept;
  sched_balance(now);
  sched.overslept = 0;
  atomic_store_explicit(&sched.page->members[sched.member].beat, now, memory_order_relaxed); /* sysmon may not for a while */
  sched.looks = NULL;
}

/* m's alarm has rung.  Lock held. */
static void answer_alarm(struct m *m, uint64_t now) {
  look_of(m, now, alarm_answered(m, now));
  if (m->preempt_at) return;       /* what follows looks again */
  SLOT_STORE(m->slot->preempt, 0); /* as BPF has set it */
  kick_for(m);
}

/* A G that was stopped is a hog; but a carrier runs short Gs, of which the next ones wait. */
static bool may_be_newcomer(const struct g *g, bool stopped, bool batch, uint64_t now) {
  if (stopped && __atomic_load_n(&g->gs, __ATOMIC_RELAXED) <= 1) return false;
  return fair_express(sched_usage(g, now), sched_my_share(1) / (batch ? 2 : 1));
}

/* Which of the two classes m's G is in as it queues; stopped: its P was taken because it had enough. */
static void classify(struct m *m, bool stopped, uint64_t now) {
  struct g *g = m->g;
  bool batch = stopped ? sched_had_enough(m) : lease_is_shared() && g->batch;
  g->batch = stopped && batch;
  g->express = may_be_newcomer(g, stopped, batch, now);
  g->enough = !g->express && batch;
}

/* Gets a P for m, which has none; waits if it must. Lock held; dropped after. */
static void acquire(struct m *m, enum wait_reason why, uint64_t now, enum sched_place at) {
  struct g *g = m->g;
  if (!sched.gated || m->realtime) {
    g->status = G_RUNNING;
    SLOT_STORE(m->slot->taken, 0);
    SLOT_STORE(m->slot->preempt, 0);
    SLOT_STORE(m->slot->has_p, 1);
    SLOT_STORE(m->slot->state, M_RUN);
    rt_leave(m);
    return;
  }
  classify(m, g->stopped, now);
  g->stopped = g->front = false;
  if (g->status != G_DEAD) g->newborn = false; /* it has blocked of its own accord */
  struct p *p = sched_p_get(g, now);
  if (p) {
    m->turn_used = 0; /* nobody waits for it */
    sched_grant(p, g, now, true);
    SLOT_STORE(m->slot->state, M_RUN);
    if (sched.sysmon_until) {
      look_of(m, now, 0);
      kick_for(m);
    }
    rt_leave(m);
    alarm_arm(m);
    return;
  }
  sched_enqueue(g, why, now, at);
  sched.leaving = SCHED_LEAVES;
  balance_and_kick(m, now);
  park_m(m);
  run_again(m);
}

/*
 * The call that m comes back from waited for a lock, or a condition, which returns with one: as a rule m has it now, and others may wait for m.  In the line of all
 * that wait for a P it would make each of them that needs this lock wait for the whole line again.
 */
static bool owns(const struct m *m) { return m->lock_systick == m->systick; }

/*
 * Where m goes in its line.  One that was away for a moment goes on with its turn, before others begin theirs: the turns are of equal length, whether its requests come
 * while it runs or just after.
 */
static enum sched_place place_of(struct m *m, bool from_call, uint64_t now) {
  if (from_call && owns(m)) return SCHED_OWNER;
  if (m->g->front) return SCHED_FRONT;
  if (from_call && m->turn_used < sched_turn() && now - m->g->since < SCHED_TURN_KEPT_NS) return SCHED_OWNER;
  m->turn_used = 0;
  return SCHED_BACK;
}

/* m gives its P up, has been charged, and sleeps.  Had it a CPU all the time, or shared it with another? */
static enum sched_leaving leaves_own(const struct m *m, uint64_t now) {
  uint64_t ran = m->cpu_last - m->cpu_granted, had = now - m->granted_at;
  return ran >= had - had / 4 ? SCHED_LEAVES_OWN : SCHED_STAYS;
}

/* m lost its P, or is asked to yield.  Lock held; dropped after. */
static void settle(struct m *m, enum wait_reason why) {
  uint64_t now = sched_hooks.now();
  if (m->slot != m_slot_current(m)) m_place_slot(m);
  struct m_slot *s = m->slot;
  if (m->p && alarm_rings(m, now) && !SLOT_LOAD(s->taken)) answer_alarm(m, now); /* in a wrapper */
  SLOT_STORE(s->state, M_IDLE);
  sched.stats.syscalls_slow++;
  sched_charge(m, now);
  bool lost = SLOT_LOAD(s->taken) || !SLOT_LOAD(s->has_p);
  if (!lost && !(m->p && m->preempt_at)) { /* a retake that found us back, or a request that was withdrawn, or of before the gate opened */
    m->preempt_at = 0;
    SLOT_STORE(s->preempt, 0);
    SLOT_STORE(s->state, M_RUN);
    rt_leave(m);
    alarm_arm_again(m);
    return;
  }
  SLOT_STORE(s->taken, 0);
  SLOT_STORE(s->preempt, 0);
  if (lost) {
    if (m->g->stopped && sched.nstrays) sched.nstrays--;
    if (m->p) sched_p_free(sched_p_take(m, now), now, false);
    SLOT_STORE(s->has_p, 0);
    if (m->g->stopped && now - m->g->since > GATE_STOPPED_NS) m->g->stopped = m->g->front = false;
    enum sched_place at = place_of(m, why != WAIT_PREEMPTED, now);
    acquire(m, why == WAIT_PREEMPTED ? WAIT_SYSCALL : why, now, at); /* lost while it was blocked, wherever it noticed */
    return;
  }
  /* Asked to yield with the P in hand: it goes to whoever waits; we queue behind (in front if only the quota made us pause). */
  uint64_t used = m->p ? now - m->p->slice_at : 0;
  bool slice_over = sched_stop_slice(m->g, used);
  sched.stats.preempts++;
  sched.leaving = leaves_own(m, now);
  struct p *p = sched_p_take(m, now);
  classify(m, true, now);
  sched_enqueue(m->g, sched.paced ? WAIT_PACED : WAIT_PREEMPTED, now, slice_over ? SCHED_BACK : SCHED_FRONT);
  if (p) {
    if (!slice_over && sched.express.len == 0 && sched.paced && p->id >= lease_hog_slots())
      lease_release(p);
    else
      sched_p_free(p, now, slice_over);
  }
  balance_and_kick(m, now);
  park_m(m);
  run_again(m);
}

/*
 * A child of vfork has our M by our TLS, while the thread whose it is waits in the kernel.  It is not scheduled: what the scheduler sees of the M
 * is the thread, which is blocked, so a P that the child got would be taken from it at once, for ever.  It runs without one until it execs or ends.
 */
bool m_is_borrowed(const struct m *m) { return sys_gettid() != m->tid; }

/* m's alarm has rung, in user code.  In the handler all signals are blocked. */
static void alarm_rang(struct m *m) {
  m_hold(m);
  lock_take(&sched.lock);
  uint64_t now = sched_hooks.now();
  if (m->p && !SLOT_LOAD(m->slot->taken) && alarm_rings(m, now)) answer_alarm(m, now);
  sched_drop();
  m_release(m);
  if (!m_has_news(m->slot)) alarm_arm(m);
}

/* A SIGURG of ours may still be on its way to this thread; it must not hit the call that comes next. */
static void drain_signal(struct m *m) {
  for (int i = 0; i < 2 && atomic_load_explicit(&m->sent, memory_order_acquire); i++) /* pairs with the handler's release */
    sys_futex_wait(&m->sent, 1, sched_hooks.now() + 500000, false);
}

/* Nobody sleeps in park_m any more though the state says so: a handler left it by longjmp. */
static bool abandoned(struct m *m) {
  uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
  return m->park_sp && sp > m->park_sp && sp - m->park_sp < GATE_UNWOUND_MAX;
}

static void restart(struct m *m) {
  rt_enter(m);
  place_awake(m);
  sched_dequeue(m->g);
  m->park_sp = 0;
  bool granted = atomic_exchange_explicit(&m->park, 0, memory_order_acquire) != 0; /* pairs with sched_grant */
  if (granted) {
    SLOT_STORE(m->slot->state, M_RUN);
    rt_leave(m);
    alarm_arm(m);
  } else {
    SLOT_STORE(m->slot->taken, 1);
    settle(m, WAIT_SYSCALL);
  }
  atomic_store_explicit(&m->park, 1, memory_order_release); /* if someone does sleep there after all: pairs with park_m */
}

void m_entersyscall_slow(struct m *m) {
  if (m->locks) return;
  uint32_t state = SLOT_LOAD(m->slot->state);
  if (state == M_IDLE) {
    if (!abandoned(m) || m_is_borrowed(m)) return; /* a handler that runs while we sleep */
    restart(m);
  } else if (state == M_SYSCALL) {
    return; /* a handler inside of a wrapped call */
  } else if (state == M_RUN) {
    if (m_is_borrowed(m)) return;
    do {
      rt_enter(m);
      settle(m, WAIT_PREEMPTED);
    } while (m_has_news(m->slot));
    drain_signal(m);
  } else {
    return;
  }
  m->systick++;
  SLOT_STORE(m->slot->state, M_SYSCALL);
  atomic_signal_fence(memory_order_seq_cst);
}

void m_exitsyscall_slow(struct m *m) {
  if (m->locks) return;
  uint32_t state = SLOT_LOAD(m->slot->state);
  if (state == M_SYSCALL) {
    SLOT_STORE(m->slot->state, M_RUN);
    atomic_signal_fence(memory_order_seq_cst);
  } else if (state != M_RUN) {
    return;
  }
  if (!m_has_news(m->slot) || m_is_borrowed(m)) return;
  do {
    rt_enter(m);
    settle(m, WAIT_SYSCALL);
  } while (m_has_news(m->slot));
}

/*
 * In M_SYSCALL: hands the P on, to whoever waits or to the pool.  Not on our CPU (sched.leaving): whoever is woken would as a rule preempt us before our call, and that would come too
 * late to wait for anything (MariaDB: a third more blocks in a transaction).
 */
static void hand_on(struct m *m, enum wait_reason why) {
  rt_enter(m);
  if (m->p && !SLOT_LOAD(m->slot->taken)) {
    uint64_t now = sched_hooks.now();
    SLOT_STORE(m->slot->taken, 1); /* for ourselves: m_exitsyscall will ask for a P again */
    struct p *p = sched_p_take(m, now);
    m->g->status = G_SYSCALL;
    m->g->why = why;
    m->g->since = now;
    sched.stats.handoffs++;
    sched_p_free(p, now, false);
    if (sched.nheld) kick_tick(m, now + SCHED_ACTIVE_TICK_NS);
  }
  rt_leave(m);
}

static bool is_lock(enum wait_reason why) { return why == WAIT_MUTEX || why == WAIT_COND || why == WAIT_RWLOCK || why == WAIT_SEMA; }

void m_entersyscallblock(struct m *m, enum wait_reason why) {
  m_entersyscall(m);
  if (is_lock(why)) m->lock_systick = m->systick;
  __atomic_store_n(&m->sure_systick, m->systick, __ATOMIC_RELAXED); /* for who comes to wait only now: handoff_blocked */
  if (!(sched_waiting() || keeps_from_others(m)) || m->locks || SLOT_LOAD(m->slot->state) != M_SYSCALL || m_is_borrowed(m)) return;
  hand_on(m, why);
}

void m_enteridle(struct m *m, enum wait_reason why) {
  m_entersyscall(m);
  if (!atomic_load_explicit(&sched.gated, memory_order_relaxed) || m->locks || SLOT_LOAD(m->slot->state) != M_SYSCALL || m_is_borrowed(m))
    return;
  hand_on(m, why);
}

/* m has a P, and may give it up if it has had it for so long. */
static bool may_step_back(struct m *m, uint64_t least, uint64_t now) {
  if (m->locks || SLOT_LOAD(m->slot->state) != M_RUN) return false;
  return now - __atomic_load_n(&m->granted_at, __ATOMIC_RELAXED) >= least && !m_is_borrowed(m);
}

/* m goes to the end of a line, if others are in it: that of newcomers as long as its usage is of one, or the hogs'. */
static bool step_back(struct m *m, bool as_newcomer, uint64_t now) {
  rt_enter(m);
  bool others = sched.express.len || (!as_newcomer && sched.global.len);
  if (!m->p || SLOT_LOAD(m->slot->taken) || !others) {
    rt_leave(m);
    return false;
  }
  SLOT_STORE(m->slot->state, M_IDLE);
  struct p *p = sched_p_take(m, now);
  if (as_newcomer)
    classify(m, true, now);
  else
    m->g->express = false, m->g->enough = true;
  m->turn_used = 0;
  sched.leaving = leaves_own(m, now);
  sched_enqueue(m->g, WAIT_PREEMPTED, now, SCHED_BACK);
  sched_p_free(p, now, true);
  balance_and_kick(m, now);
  park_m(m);
  run_again(m);
  if (m_has_news(m->slot)) m_exitsyscall_slow(m);
  return true;
}

bool gate_yield(void) {
  struct m *m = m_self;
  if (!m || !sched_waiting()) return false;
  uint64_t now = sched_hooks.now();
  return may_step_back(m, SCHED_YIELD_NS, now) && step_back(m, false, now);
}

/*
 * Among newcomers the order is first in, first out, and they are not stopped.  Where the next request is there as soon as the last is answered (a client on the same
 * machine), one of them would go on until it is a hog, while each of the others waits again for each of its requests: their turns are to be alike.
 */
void gate_answered_slow(struct m *m) {
  uint64_t now = sched_hooks.now();
  uint64_t used = __atomic_load_n(&m->turn_used, __ATOMIC_RELAXED), turn = sched_turn(), left = used < turn ? turn - used : 0;
  if (__atomic_load_n(&m->g->express, __ATOMIC_RELAXED) && may_step_back(m, left, now)) step_back(m, true, now);
}

bool (*gate_timer_hook)(const siginfo_t *si);

/* shim/free's: a thread G that m runs may have been sent a signal, or been cancelled.  Weak: core stands without it. */
void free_sigurg(struct m *m, void *uctx) __attribute__((weak));

static bool take_sigurg(struct m *m, const siginfo_t *si, void *uctx) {
  if (si->si_code == SI_TIMER && gate_timer_hook && gate_timer_hook(si)) return true;
  bool ours = preempt_sent(si);
  if (!m) return ours;
  /* One of the program's that pends for this thread is the same for the kernel: ours does not come then.  Not so where ours is another signal. */
  bool may_be = ours || !preempt_is_hidden();
  if (may_be &&
      atomic_exchange_explicit(&m->sent, 0, memory_order_acq_rel) != 0) { /* pairs with preempt.c: set before the signal is sent */
    sched_hooks.wake(&m->sent, false);
    ours = true;
  }
  if (__atomic_exchange_n(&m->slot->urg, 0, __ATOMIC_ACQ_REL)) ours = true; /* pairs with BPF's store before it sends */
  if (!ours) return false;
  atomic_fetch_add_explicit(&m->urg_seq, 1, memory_order_relaxed); /* read by this thread only, in gate_urg_seq */
  if (m->carrier && m->locks == 0 && SLOT_LOAD(m->slot->state) == M_SYSCALL) carrier_interrupted(m->carrier, uctx);
  if (free_sigurg) free_sigurg(m, uctx);
  if (m->locks || SLOT_LOAD(m->slot->state) != M_RUN) return true;
  if (world_stopping()) world_stop_here(m, uctx);
  if (m->carrier && carrier_preempted(m, uctx) && free_sigurg) free_sigurg(m, uctx); /* what has come meanwhile */
  bool rings = alarm_rings(m, sched_hooks.now());
  if (!(rings || m_has_news(m->slot)) || m_is_borrowed(m)) return true;
  if (rings) alarm_rang(m);
  if (!m_has_news(m->slot)) return true;
  /*
   * While the thread is parked here, signals come through as they would have where it was interrupted; and what their handlers
   * leave behind as mask is what the thread goes on with, as it would have been there (foreign_urg blocks SIGURG so).
   */
  ucontext_t *uc = uctx;
  const uint64_t cancel = (uint64_t)1 << (32 - 1); /* glibc's: it would unwind out of here, with the lock */
  uint64_t mask, handler_mask = 0;
  __builtin_memcpy(&mask, &uc->uc_sigmask, sizeof mask);
  bool first = true;
  do {
    rt_enter(m);
    if (first) handler_mask = sys_sigmask(mask | cancel);
    first = false;
    settle(m, WAIT_PREEMPTED);
  } while (m_has_news(m->slot));
  mask = sys_sigmask(handler_mask) & ~(cancel & ~mask);
  __builtin_memcpy(&uc->uc_sigmask, &mask, sizeof mask);
  return true;
}

/* shim/free's: the thread G that was interrupted is to be cancelled here.  Weak: core stands without it. */
void free_cancel_here(struct m *m, void *uctx) __attribute__((weak));

/* Sent by kill and the like, and not by us: whatever else is to be done, it is the program's. */
static bool is_programs(const siginfo_t *si) { return si->si_code <= 0 && si->si_code != SI_TIMER && !preempt_sent(si); }

/* In the SIGURG handler. */
bool gate_sigurg(const siginfo_t *si, void *uctx) {
  struct m *m = m_self;
  if (__builtin_expect(GLANCE(light.maker) != 0, 0)) carriers_maker();
  bool ours = take_sigurg(m, si, uctx);
  if (ours && m && free_cancel_here) free_cancel_here(m, uctx);
  if (ours && m && m->carrier) carrier_resumes(m->carrier, uctx);
  return ours && !is_programs(si);
}

unsigned gate_ncpus(void) {
  struct pool_page *pg = __atomic_load_n(&sched.page, __ATOMIC_ACQUIRE); /* pairs with use_page */
  if (!pg) pg = sched_count_page;
  uint32_t n = pg ? atomic_load_explicit(&pg->ncpus, memory_order_relaxed) : 0;
  if (sched.maxprocs && (n == 0 || sched.maxprocs < n)) n = sched.maxprocs;
  return n;
}
