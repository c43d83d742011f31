/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_CARRIER_H
#define RATION_CORE_CARRIER_H
/* Inside of the scheduler of light Gs: light.c, carrier.c, timer.c, monitor.c, report.c.  light.c tells the story. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/cpuclock.h"
#include "core/fair.h"
#include "core/g.h"
#include "core/light.h"
#include "core/lock.h"
#include "core/m.h"
#include "core/runq.h"
#include "core/sched.h"
#include "core/stack.h"
#include "sync/interrupt.h"

#define LIGHT_PQS_MAX 64u
#define LIGHT_SLICE_NS 10000000u
#define LIGHT_THREAD_NS 2000000u /* of a thread G: not stopped after it, but on its own (carrier_evict) */
#define LIGHT_TURN_NS 100000u    /* who has written something after so long lets others run: light_answered */
#define LIGHT_WINDOW_NS FAIR_HALFLIFE_NS
#define LIGHT_TICK 61u /* every so many dispatches the global queue goes first */

/* What a P has besides the right to run: queue, timers, stacks.  See light.c for its states. */
enum pq_status { PQ_IDLE, PQ_RUNNING, PQ_SYSCALL, PQ_TAKEN };
/* Whose call it is goes with PQ_SYSCALL, so that a carrier that comes back late does not take the pq for its own again in another's call. */
#define PQ_KIND(status) ((status)&0xffu)
#define PQ_CALL_OF(c) (PQ_SYSCALL | (c)->id << 8)

struct timers {
  struct lock lock; /* guards what follows; taken alone */
  struct timer **heap;
  uint32_t n, cap;
  _Atomic uint64_t first; /* at of heap[0]; UINT64_MAX: none.  Read without the lock */
  bool parents;           /* of before a fork, in whatever state: nobody runs what is in it */
};

struct carrier;
struct pq {
  struct runq runq;
  /* [owner] */
  _Alignas(64) _Atomic uint32_t tick; /* dispatches; the monitor reads it */
  uint32_t seed;
  uint32_t id;
  struct gqueue later; /* spawners that outran their P, the last first: run when the queue is empty */
  uint64_t oldest_at;  /* when who waits longest there last had its turn */
  uint64_t turn_at;    /* when who runs was dispatched, if that is timed: light_answered */
  bool timed;
  bool polls; /* the next look for a G begins at the descriptors */
  struct spin spin;
  struct stack_cache stacks;
  struct g *overflow[RUNQ_OVERFLOW];
  _Atomic int64_t ngs;    /* born minus died here; others read it */
  _Atomic uint32_t ran;   /* thread Gs that have run here, each once in a window; the monitor reads it */
  _Atomic uint32_t slice; /* ns, of who runs; 0: it is a light G.  The same */
  struct timers timers;
  /* shared */
  _Alignas(64) _Atomic uint32_t status;
  _Atomic(struct carrier *) carrier;
  /* [monitor] */
  _Atomic uint32_t gs; /* how many thread Gs ran here in the last window; others read it */
  uint32_t seen_tick, seen_syscalls, seen_ran;
  uint32_t calm; /* so many looks found another G than the one before */
  uint64_t seen_at, seen_cpu;
};

enum left_how { LEFT_NONE, LEFT_PARKED, LEFT_YIELDED, LEFT_LATER, LEFT_GLOBAL, LEFT_DEAD };

#define CARRIER_ALTSTACK_BYTES 16384u

struct carrier {
  struct g *g;   /* [own] the light G that runs; null: the scheduler's own stack */
  struct pq *pq; /* [own; who hands it a pq while it sleeps] */
  uint32_t id;
  struct m *m; /* its M, or &no_m */
  int *errno_at;
  void *tp; /* its own thread pointer */
  void *sp; /* [own] of the scheduler's stack while a G runs */
  struct fiber fiber;
  /* what the G that was left still needs done, once it has left its stack */
  enum left_how left_how;
  struct g *left;
  g_commit *commit;
  void *commit_arg;
  bool alone;                /* [own] its G computes, and goes on without a pq: carrier_evict */
  struct g *wired_g;         /* [own] waits for its wired G to be scheduled; it runs nothing else */
  bool ends;                 /* [own] what its thread has of its own is to be nobody else's: it ends when it has left its G */
  bool foster;               /* [own] lent, its thread had children of others than who has it now */
  bool spinning;             /* [own] looks for work to steal */
  _Atomic uint32_t wake;     /* futex: 1: it was given a pq, or is to look around */
  _Atomic uint32_t syscalls; /* [own] wrapped calls begun */
  _Atomic uint32_t lost;     /* 1: its pq may have been taken while it was blocked outside of any wrapper: carrier_regain */
  _Atomic uint32_t preempt;  /* 1: its G is to be stopped; set by the monitor */
  uint64_t id_next, id_end;  /* [own] ids for Gs born here */
  struct carrier *next;      /* [light.lock] idle list */
  struct carrier *all;
  struct interrupt interrupt; /* of a call by a context */
  struct cpuclock cpu;        /* what its G uses */
  void *altstack;             /* [own] for handlers of signals; null: none */
  struct m no_m;
};

/* Everything in here is guarded by lock, but what says otherwise.  Lock order: light.lock, then nothing. */
struct light {
  struct lock lock;
  bool started;   /* release / acquire: the pqs are there */
  bool monitored; /* [start_lock] and the monitor */
  bool complete;  /* and all carriers that there are at first.  Double-checked: release / acquire */
  struct gqueue global;
  _Atomic uint32_t nglobal; /* read without the lock */
  uint32_t npqs;
  struct pq *pqs;
  _Atomic uint64_t idle_pqs;        /* bits; written under the lock, read without */
  _Atomic uint32_t nspinning;       /* carriers that look for work */
  _Atomic(struct carrier *) idle;   /* [written under the lock] without pq, asleep on wake */
  _Atomic uint32_t nidle;           /* [the same] how many */
  uint32_t nwired;                  /* carriers that wait for their wired G */
  uint32_t nborn;                   /* carriers that have been made and not yet looked around */
  _Atomic(struct carrier *) poller; /* [the same] asleep in netpoll, or null */
  struct carrier *carriers;
  struct carrier *former; /* their threads have ended */
  uint32_t ncarriers, last_carrier;
  _Atomic uint64_t next_id;
  _Atomic int64_t ngs_outside; /* born outside of any P, minus died there */
  _Atomic uint64_t now;        /* coarse; the monitor's */
  _Atomic uint32_t window;     /* counts LIGHT_WINDOW_NS; the monitor's */
  uint64_t mask;               /* of the thread that started all this: what a forked child gets instead of a carrier's */
  _Atomic uint32_t mains;      /* that ration_main runs: a sleep of all is a deadlock */
  _Atomic bool rest;           /* carriers_rest */
  _Atomic uint32_t births;     /* threads that are made and are no Ms yet: somebody who may ready a G */
  _Atomic uint64_t make_at; /* [written under lock] no thread was to be had for a carrier: when one is tried to make again; 0: there was */
  _Atomic uint32_t maker;   /* 1: who gets a SIGURG begins a thread that makes a carrier */
  uint64_t make_pause;      /* and after how long, if that is in vain as well */
};
extern struct light light;

static inline void light_take(void) {
  m_hold(m_self);
  lock_take(&light.lock);
}
static inline void light_drop(void) {
  lock_drop(&light.lock);
  m_release(m_self);
}

extern __thread struct carrier *carrier_self __attribute__((tls_model("initial-exec")));
#if defined(__aarch64__)
/* The compiler may keep the thread pointer across a switch: a call keeps it from that. */
struct carrier *carrier_now(void);
#else
static inline struct carrier *carrier_now(void) { return *(struct carrier *volatile *)&carrier_self; }
#endif

/* Counters that one thread writes and others read. */
#define OWN_ADD(field, n) atomic_store_explicit(&(field), atomic_load_explicit(&(field), memory_order_relaxed) + (n), memory_order_relaxed)
#define GLANCE(field) atomic_load_explicit(&(field), memory_order_relaxed)

/*
 * There are no Gs on carriers, and won't be: they sleep for good, each in one system call that it has begun, and the monitor with them.  If there are light Gs, nothing
 * happens.
 */
void carriers_rest(void);
void carrier_regain(struct carrier *c);
/* Scheduler code of a carrier: no preemption, no handlers of the program. */
static inline void carrier_hold(struct carrier *c) {
  c->m->locks++;
  atomic_signal_fence(memory_order_seq_cst);
  if (__builtin_expect(atomic_load_explicit(&c->lost, memory_order_relaxed) != 0, 0))
    carrier_regain(c); /* pairs with carrier_retake_running */
}
static inline void carrier_release(struct carrier *c) {
  atomic_signal_fence(memory_order_seq_cst);
  if (--c->m->locks == 0 && __builtin_expect(c->m->deferred != 0, 0)) m_release_deferred(c->m);
}

/* A G is in a queue: BPF shall tell of carriers that block, until the monitor finds that none waits any more. */
void monitor_gs_queued(void);
static inline void light_tell_queued(void) {
  if (__builtin_expect(!GLANCE(sched_gs_queued), 0)) monitor_gs_queued();
}

/* The global queue. Lock held. */
static inline void light_global_push(struct g *g) {
  gqueue_push(&light.global, g);
  atomic_store_explicit(&light.nglobal, light.global.len, memory_order_relaxed);
  light_tell_queued();
}
static inline struct g *light_global_pop(void) {
  struct g *g = gqueue_pop(&light.global);
  atomic_store_explicit(&light.nglobal, light.global.len, memory_order_relaxed);
  return g;
}

/* --- light.c --- */
void light_fork_child(struct m *m);
/* c, held, leaves g for another one; returns when g has been scheduled again, maybe on another carrier: then light_arrive. */
void light_leave(struct carrier *c, struct g *g, enum left_how how);
void light_arrive(void);
/* c, held, leaves `from` for `to` (null: its own stack): the thread pointer of who comes next. */
void light_wear_slow(struct carrier *c, struct g *from, struct g *to);
static inline void light_wear(struct carrier *c, struct g *from, struct g *to) {
  void *had = from ? from->tp : NULL, *tp = to ? to->tp : NULL;
  if (__builtin_expect(had != tp, 0)) light_wear_slow(c, from, to);
}
/* g, filled in with its thread pointer, begins fn(arg) below `top`, and ends by light_thread_end. */
void light_go_thread(struct g *g, void *top, void (*fn)(void *), void *arg);
/* What the program thinks that the calling G blocks: what it begins (a thread, a program) is to have that, and not what its carrier blocks. */
uint64_t light_mask(void);
/* Calls fn for every light and thread G that there ever was a stack for (also dead ones, by status), until it says false. */
void light_each(bool (*fn)(struct g *g, void *arg), void *arg);
/* Returns only where the caller is no carrier's G: in the child of a fork. */
void light_thread_end(void);
/* Does what the G that was left needs done.  On the stack of whoever came next. */
void light_finish_left(struct carrier *c);
/* Puts a runnable G into c's queue. c held. */
void light_put(struct carrier *c, struct g *g, bool next);
void light_put_global(struct g *g);

/* --- carrier.c --- */
uint64_t carrier_sigmask(void); /* what a carrier blocks */
/* Free mode's, set before there is a carrier: these it leaves open as well, and hands them to who runs (free_own_signal). */
extern uint64_t carrier_opens;
void carrier_wakep(void); /* somebody made a G runnable: see to it that an idle P finds it */
static inline void carrier_wake_idle(void) {
  if (atomic_load_explicit(&light.idle_pqs, memory_order_relaxed) && atomic_load_explicit(&light.nspinning, memory_order_relaxed) == 0)
    carrier_wakep();
}
/* The same after light_put_global: where no P is idle, one whose carrier is blocked in a call may be had. */
void carrier_wake_global(void);
/* There is one thing more to wait for in netpoll: if a P is idle, somebody is to sleep there. */
void carrier_wake_poller(void);
int light_start(void);
/* How ration's own threads are made: pthread_create, or (set by the preload) what makes an M and never a thread G. */
union pthread_attr_t; /* not pthread.h: it gives pthread_yield, which preload/sleep.c defines, another name */
extern int (*light_pthread_create)(unsigned long *t, const union pthread_attr_t *attr, void *(*fn)(void *), void *arg);
/* A wired G of some M was picked by c: its pq goes there.  c goes on without. */
void carrier_run_wired(struct carrier *c, struct g *g);
/* The thread of the calling G's carrier becomes that G's own; and at its end a carrier again. */
struct carrier *carrier_lend(void);
void carrier_take_back(struct carrier *c);
/*
 * The calling thread of the kernel's has children, also ended ones that nobody has waited for: some may have asked to be killed when it ends (PR_SET_PDEATHSIG).
 */
bool carrier_has_children(void);
/* After that: its thread ends when that G has left its stack, as one that was idle for long. */
void carrier_ends(struct carrier *c);
/* Instead of both: it is no more, nor is its M; the calling kernel thread is about to end, and g, which it was lent to, has ended. */
void carrier_gone(struct carrier *c, struct g *g);
/* In the SIGURG handler: stops the G of this carrier if the monitor asked for it. */
bool carrier_preempted(struct m *m, void *uctx);
/* At the end of that handler. */
void carrier_resumes(struct carrier *c, const void *uctx);
/* The same in a wrapped call: ends it if the context of its G is over. */
static inline void carrier_interrupted(struct carrier *c, void *uctx) {
  if (c->g && GLANCE(c->interrupt.state) == INTERRUPT_ENDED) interrupt_here(c, uctx);
}
/* pq's carrier is about to run g. */
static inline void light_count_run(struct pq *pq, struct g *g) {
  uint32_t window = GLANCE(light.window);
  if (!pq) return;
  if (__builtin_expect(pq->timed, 0)) pq->turn_at = sys_now();
  atomic_store_explicit(&pq->slice, g->kind != G_THREAD ? 0 : g->newborn ? FAIR_BIRTH_NS : LIGHT_THREAD_NS, memory_order_relaxed);
  if (g->kind != G_THREAD || g->window == window) return;
  g->window = window;
  OWN_ADD(pq->ran, 1);
}
/* Gs wait for pq; any thread. */
static inline bool carrier_gs_for(struct pq *pq) {
  return !runq_empty(&pq->runq) || GLANCE(light.nglobal) || __atomic_load_n(&pq->later.len, __ATOMIC_RELAXED);
}
/* The same, or a timer is due. */
bool carrier_work_for(struct pq *pq);
/* The same, or nobody looks after descriptors and, while its carrier is in a call, timers. */
bool carrier_wanted(struct pq *pq);
/* pq, which c is about to lose or has lost, goes to another carrier if there is anything to do. Lock not held. */
void carrier_handoff(struct pq *pq);
/* The M that has g on, also for good, at a glance; null: none has. */
struct m *carrier_m_of(const struct g *g);
/* Is g one that computes, and would keep others waiting?  Then it goes on its own way: carrier_evict. */
bool carrier_hog(const struct carrier *c, const struct g *g);
/* The monitor's: a thread was not to be had for a carrier, and one is missing; somebody tries again.  When to look next. */
uint64_t carriers_look(uint64_t now);
/* In the SIGURG handler: that somebody. */
void carriers_maker(void);
/* An M has ended: somebody is to see whether those that are left are all carriers'. */
void carrier_m_gone(void);
/* c, held and alone, is about to leave its G. */
void carrier_alone_over(struct carrier *c, struct g *g);
/*
 * pq's carrier is blocked in a call (by BPF, or by the clock), or is the caller and about to: takes the pq away if it still is, and gives it to another.  The caller sleeps
 * soon after (place.c).
 */
bool carrier_retake(struct pq *pq);
/* The same where it is blocked outside of any wrapper (a page fault, stdio, a raw system call). */
bool carrier_retake_running(struct pq *pq, struct carrier *c);

/* --- timer.c --- */
void timers_init(struct timers *ts);
/* Runs what is due. c held. */
void timers_run(struct timers *ts, uint64_t now);
uint64_t timers_first_of_all(void);

/* --- monitor.c --- */
int monitor_start(void);
/* The caller, which may be in a handler on its carrier's stack for these, is about to leave it by a jump. */
void carrier_leaves_handler(void);
/* What a thread sleeps on: until `until`, or `bell` is no more what it was. */
struct watch {
  _Atomic uint32_t *bell;
  uint32_t rung;
  uint64_t until;
};
/* sysmon's: it does the monitor's part, a turn each time when w says so; and tells it when it has slept. */
bool monitor_is_guest(void);
void monitor_turn(struct watch *w);
void monitor_awake(void);
/* sysmon may have ended for good. */
void monitor_lost_host(void);
void monitor_fork_child(void);
void monitor_blocked(void);
void monitor_kick(void);
/* Something is there for it to look at. */
void monitor_look_now(void);
/* A carrier is about to be in a wrapped call while Gs wait for its pq, or (not gs) nobody for their descriptors and timers. */
void monitor_syscall(bool gs);

/* --- netpoll.c --- */
/* Moves Gs whose descriptors are ready into `out`; waits until `until` at most (0: not at all).  How many Gs wait: netpoll_waiters(). */
void netpoll(uint64_t until, struct gqueue *out);
void netpoll_break(void);
/* Makes the poller if there is none yet. 0 or -errno. */
int netpoll_open(void);
/* The ring's descriptor (uring.c) is waited for as well, and may then be closed. 0 or -errno. */
int netpoll_watch_ring(int fd);
/* Until when a carrier sleeps in netpoll; 0: none does. */
uint64_t netpoll_sleeps_until(void);
uint32_t netpoll_waiters(void);
/* Gs wait, nobody sleeps there, and nobody has looked for a slice. */
bool netpoll_overdue(void);
/*
 * While it is on, one of the idle carriers sleeps in netpoll, and tells free_shared_told() when a signal to the process pends that carriers
 * block.  Any thread; one of the program's begins at once, service threads, which have descriptors of their own, leave that to who sleeps next.
 */
void netpoll_signals(bool on);
bool netpoll_signals_on(void);
void netpoll_fork_child(void);

/* --- report.c --- */
void report_deadlock(void) __attribute__((noreturn));
void report_install(void);
/* The calling thread gets a stack for the handler of its faults. */

#endif
