/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_SCHED_H
#define RATION_CORE_SCHED_H
/* Inside of the core: the scheduler's one state, and who does what to it.  sched.c tells the story. */
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/fair.h"
#include "core/g.h"
#include "core/lock.h"
#include "core/m.h"
#include "core/p.h"
#include "m_slot.h"
#include "pool_page.h"

#define SCHED_SLICE_NS 10000000u     /* a G runs so long while others of its class wait */
#define SCHED_MIN_RUN_NS 1000000u    /* and at least so long before a newcomer preempts it */
#define SCHED_MOMENT_NS 2000000u     /* a newcomer is gone in so long, as a rule */
#define SCHED_THEIRS_NS 500000u      /* one of another process, of which is not known whether it is blocked, is waited for no longer */
#define SCHED_YIELD_NS 50000u        /* and so long before sched_yield is more than the kernel's */
#define SCHED_TURN_MAX_NS 2000000u   /* of a newcomer, while others wait (gate_answered) */
#define SCHED_TURN_MIN_NS 500000u    /* where many do; what a change of threads costs is still little of it */
#define SCHED_ROUND_NS 16000000u     /* of the turns of all that wait, between the two */
#define SCHED_TURN_KEPT_NS 2000000u  /* who comes back from a block so soon goes on with its turn */
#define SCHED_AGE_NS 50000000u       /* a regular G that waited so long goes before newcomers at every 4th turn */
#define SCHED_FRAME_NS 10000000u     /* of pacing; divides the usual periods of CFS quotas */
#define SCHED_FRAME_MAX_NS 20000000u /* where pauses are short */
#define SCHED_PAUSE_NS 10000000u     /* so short */
#define SCHED_PACE_LEAST_NS 100000u  /* less than this is not worth a look: it is left for the next frame */
#define SCHED_PACE_LATE_NS 500000u   /* so late may a look at pacing be, rather than wake sysmon for it */
#define SCHED_DEBT_WAIT_NS 20000000u /* a newcomer waits for an overdrawn bucket no longer */
#define SCHED_BEHIND_NS 5000000u     /* who computed so long since its last call is not behind with its work, but has work without end */
#define SCHED_RESERVE_NS 2500000u    /* of a period of the kernel's: not for newcomers that run for long */
#define SCHED_SMALL_OVERDRAFT_NS 1000000u /* of the margin: for those that don't */
#define SCHED_PAUSE_MAX_NS 100000000u     /* and a hog no longer, while its process holds no P */
#define SCHED_STARVED_NS 1000000000u      /* Gs wait and none got a P for so long: something is wrong with the pool */
#define SCHED_ACTIVE_TICK_NS 10000000u    /* sysmon looks at least so often while Ps are leased */
#define SCHED_QUIET_TICK_NS 40000000u     /* where all that run look themselves (alarm.c) */
#define SCHED_ALARM_LATE_NS 1000000u      /* so late may one be, rather than wake sysmon for it: the next frame is shorter */
#define SCHED_ALARM_LOST_NS 35000000u     /* an M that has an alarm and has not looked so long after it: sysmon does */
#define SCHED_CROWD_TICK_NS 250000000u    /* sysmon looks so seldom at a crowd, and takes a P from an M that is blocked for so long */
#define SCHED_WARM_NS 250000000u          /* so often, if it has got a P more often than that and has given it back: not woken for each */
#define SCHED_POLL_MIN_NS 20000u          /* without BPF: back-off of sysmon, as in Go */
#define SCHED_POLL_MAX_NS 10000000u
#define SCHED_UNCLAIMED_NS 50000000u /* a P that was granted, and not taken in so long, goes to another */
#define SCHED_POLL_RAW_NS 200000u    /* and when its CPU clock stood still for so long, an M may be blocked in a raw system call */
#define SCHED_OVERSLEPT_NS 2000000u
#define SCHED_STRAY_NS 500000u         /* so often we look whether an M that lost its P while it had no CPU has got one */
#define SCHED_PROMOTE_LOOK 64u         /* so many waiting hogs are looked at, whether they are newcomers by now */
#define SCHED_RING_AGAIN_NS 250000000u /* holders of slots that know that we wait are told again after so long */
#define SCHED_WAKES 8u                 /* so many are woken after the lock; more, and rarely, under it */
#define SCHED_RING_NS 1000000u         /* so often at most a ring that is of no use to us goes on to the next process */
#define SCHED_RESIGNAL_NS 2000000u     /* a preemption that had no effect is asked for again after so long */

/* What the core asks of the world outside; unit tests put their own in place. */
struct sched_hooks {
  uint64_t (*now)(void);                             /* CLOCK_MONOTONIC ns */
  void (*wake)(_Atomic uint32_t *word, bool shared); /* futex */
  void (*signal)(struct m *m);                       /* SIGURG to that thread */
  int (*barrier)(void);                              /* every running thread of the process passed a full fence: 0; -errno: can't */
  uint64_t (*cpu_ns)(const struct m *m);             /* CPU time of its thread, where BPF does not say */
  bool (*sleeps)(const struct m *m);                 /* its thread is blocked in the kernel, as /proc has it (slow) */
};
extern struct sched_hooks sched_hooks;

/* A queue of Gs, by their own links.  Those that own something which others wait for stand before all others. */
struct gqueue {
  struct g *head, *tail;
  struct g *owners; /* the last of them, null: there are none */
  uint32_t len;
};
void gqueue_push(struct gqueue *q, struct g *g);
void gqueue_push_front(struct gqueue *q, struct g *g);
void gqueue_push_owner(struct gqueue *q, struct g *g);
struct g *gqueue_pop(struct gqueue *q);
void gqueue_remove(struct gqueue *q, struct g *g);

/* Who sleeps leaves a CPU: the next that is granted a P may have it (place.c). */
enum sched_leaving {
  SCHED_STAYS,
  SCHED_LEAVES,     /* sleeps, on whatever CPU it woke up on */
  SCHED_LEAVES_OWN, /* and had that one to itself, with a P */
};

struct sched_stats {
  uint64_t handoffs, retakes, preempts, wakeups, pauses, events, signals, syscalls_slow, placed;
};

/* Everything in here is guarded by `lock`, except what says otherwise. */
struct sched {
  struct lock lock;
  /* where we lease Ps; set while nothing is leased (client/attach.c) */
  struct pool_page *page;
  uint32_t member, gen;
  uint32_t maxprocs;     /* RATION_MAXPROCS, 0: none */
  uint32_t change;       /* the page's change counter that `gated` was computed from */
  _Atomic bool gated;    /* read without the lock by gate_ncpus and traces */
  _Atomic bool carriers; /* there are or were some; read without the lock by taskdir.c */
  /* Ms and their slots */
  struct m *allm, *freem;
  uint32_t nms, next_m_id;
  uint64_t next_g_id;
  struct m_header *header; /* of the M map; null: none */
  struct m_slot *slots;
  struct m_tids *tids;
  uint32_t nslots;     /* in the M map */
  uint32_t *slot_free; /* stack of free slots */
  uint32_t nslot_free;
  _Atomic bool bpf; /* BPF writes into the map now */
  /* queues */
  struct gqueue express, global;
  struct p ps[POOL_SLOTS_MAX];
  uint32_t nheld, nheld_regular;
  uint32_t top;                   /* ps[top] and above were never leased */
  uint32_t stride;                /* share of the others in our Ps that they have not had yet, in 1/65536 */
  struct m *granted[SCHED_WAKES]; /* Ms that were given a P, to be woken when the lock is dropped */
  uint32_t ngranted;
  enum sched_leaving leaving; /* what whoever has the lock does when it has dropped it */
  bool kicked;                /* sysmon is to be woken then */
  bool paced;                 /* the bucket ran empty and has not filled again */
  uint64_t phase, period;     /* when a CFS period of the kernel's begins, and how long it is; 0: not known (client/phase.c) */
  uint64_t paced_frame;       /* in this one, named by its end */
  uint64_t passed_frame;      /* at the end of this one another process has its turn: we don't look, for who looks first has the slot */
  uint64_t overslept;         /* ns by which sysmon woke too late: the whole process was kept from the CPUs */
  struct m *looks;            /* this M looks itself (gate.c, look_of), and sees afterwards whether it must stop: it needs no signal */
  uint64_t due, tick_due;     /* what the last look said: when to look again, and when at about */
  uint64_t late_at;           /* when last an alarm was answered so late that alarms are no use for a while (alarm.c) */
  uint32_t nstrays;           /* Ms whose P was taken while they had no CPU, and that have not noticed yet */
  uint64_t last_grant;        /* when any of our Gs got a P */
  uint64_t grant_before;      /* and the one before that */
  uint32_t rang_express, rang_wants; /* what the holders of slots were told of us, */
  uint64_t rang_at, passed_at;       /* when, and when we last passed a ring on */
  uint64_t promoted_at;              /* when the hogs that wait were last looked through */
  uint64_t hog_ran_at;               /* when a hog of ours last was given a P or lost one */
  bool crowd;                        /* as of the last look, or lease: no G has to wait (lease_crowd) */
  bool surplus;                      /* the bucket is full: the quota is not being used */
  uint64_t poll_ns;                  /* back-off without BPF */
  uint32_t seed;
  /* sysmon */
  /* of the client's poller and the monitor, whose CPU time sysmon charges; 0: none.  No lock: a stale one reads as 0 ns */
  _Atomic int poller_tid, monitor_tid;
  _Atomic uint32_t private_bell;
  _Atomic uint32_t *bell;        /* the member's bell in the page, or private_bell */
  _Atomic uint64_t sysmon_until; /* it sleeps until then; 0: it is awake */
  struct sched_stats stats;
};
extern struct sched sched;
extern _Atomic uint32_t
    sched_gs_queued; /* light Gs are in a queue, or were a moment ago (core/monitor.c).  BPF reads a copy, m_header.gs */
/* A forked child that has not attached yet sees the CPU count of its parent's page. */
extern struct pool_page *sched_count_page;

#define SCHED_ASSERT_LOCKED()                      \
  do {                                             \
    if (!lock_held(&sched.lock)) __builtin_trap(); \
  } while (0)

/*
 * The thread is in scheduler code from here: a SIGURG of ours waits for the next wrapper, and a signal of
 * the program's (whose handler may call wrapped functions, or longjmp away) is put off until m_release (gate_defer).  No
 * system call: blocking signals would also make the kernel offer those of other threads to this one.
 */
static inline void m_hold(struct m *m) {
  if (m) m->locks++;
  atomic_signal_fence(memory_order_seq_cst);
}
void m_release_deferred(struct m *m);
static inline void m_release(struct m *m) {
  atomic_signal_fence(memory_order_seq_cst);
  if (m && --m->locks == 0 && __builtin_expect(m->deferred, 0)) m_release_deferred(m);
}
static inline void sched_lock(void) {
  m_hold(m_self);
  lock_take(&sched.lock);
}
/* Drops the lock, then wakes whom sched_grant gave a P (sched.c). */
void sched_drop(void);
static inline void sched_unlock(void) {
  sched_drop();
  m_release(m_self);
}

/* --- sched.c --- */
/*
 * A G is stopped after `used` ns of its slice: true if it had its turn, else the rest is kept for it.  One that is stopped for a pause need
 * not come back for the last quarter alone.
 */
static inline bool sched_stop_slice(struct g *g, uint64_t used) {
  bool over = used >= (sched.paced ? SCHED_SLICE_NS / 4 * 3 : SCHED_SLICE_NS);
  g->slice_used = over ? 0 : used;
  return over;
}
/* One look at everything: retakes, dispatches, preempts, paces.  Lock held.  Returns when to look again. */
uint64_t sched_balance(uint64_t now);
/* CPU ns of a newcomer's turn: the shorter, the more of them wait, as the kernel's slices are; else their round would be the longer. */
uint64_t sched_turn(void);
/* Gives a P that has no M to whoever should have it: one of our Gs, another process, the pool. Lock held. */
void sched_p_free(struct p *p, uint64_t now, bool slice_over);
/* The same for one that another process has handed to us, because we waited: ours come first. Lock held. */
void sched_p_adopt(struct p *p, uint64_t now);
enum sched_place { SCHED_BACK, SCHED_FRONT, SCHED_OWNER };
/* Queues a runnable G that has no P. Lock held. */
void sched_enqueue(struct g *g, enum wait_reason why, uint64_t now, enum sched_place at);
void sched_dequeue(struct g *g);
/* Puts G (the wired G of its M) on P; the M, unless it is the caller, is woken when the lock is dropped. Lock held. */
void sched_grant(struct p *p, struct g *g, uint64_t now, bool self);
/* May whoever is granted `given` have the CPU that the owner of the lock is on? Lock held. */
bool sched_leaves_a_cpu(const struct p *given);
/* A P for G right now, or null. Lock held. */
struct p *sched_p_get(struct g *g, uint64_t now);
/* Takes m's P away from it (charged), for whatever comes next. Lock held. Returns the P, or null if the gate was open. */
struct p *sched_p_take(struct m *m, uint64_t now);
/* Wakes sysmon if it would sleep beyond `deadline`. */
void sched_kick(uint64_t deadline);
/*
 * The process's first thread has left by a raw exit: with this status the process ends when the last one of the program's does, that of who has left last (as Linux has it from 6.0 on).
 * -1: it has not.
 */
extern _Atomic int sched_last_status;
/* A thread of the program's ends with this status. */
static inline void sched_thread_leaves(int status) {
  if (atomic_load_explicit(&sched_last_status, memory_order_relaxed) >= 0)
    atomic_store_explicit(&sched_last_status, status & 0xff, memory_order_relaxed);
}
/* The program's last thread has ended, for glibc some of ours are left. */
_Noreturn void sched_end_process(void);
/* The owner block changed or we moved to another page: recompute `gated`, let everybody run or call them in. Lock held. */
void sched_reconfigure(uint64_t now);
/*
 * Tells the wrappers (gate_is_quiet) and BPF (m_header.quiet) whether anybody asks what the Ms do: where all may run, and there are no carriers and no free mode, nobody does. After each change of
 * one of these, before it counts. Lock held.
 */
void sched_watch_ms(void);
/* Gives back everything that is leased; everybody runs by permission from here on. Lock held. */
void sched_leave_page(uint64_t now);
/* In a forked child, which has one thread: an empty scheduler with an open gate. */
void sched_forget_all(void);
uint32_t sched_nactive(void);
uint64_t sched_usage(const struct g *g, uint64_t now);
bool sched_had_enough(struct m *m);
uint64_t sched_my_share(uint32_t more); /* the usage of a fair share among the active Gs and `more` */
void sched_charge(struct m *m, uint64_t now);
void sched_charge_pool(uint64_t now, uint64_t cpu); /* CPU time that no G used: our own threads' */
void sched_update_waiting(void);

/* --- lease.c --- */
struct p *lease_acquire(bool express, bool hog, uint64_t now);
void lease_release(struct p *p);
/* What is used on P has been charged up to `now`; 0: nothing is. */
void lease_charged(const struct p *p, uint64_t now);
/* Hands a leased P to another process that waits. True if it did. */
bool lease_transfer(struct p *p, uint32_t to);
/* Ps that other processes handed to us, and those that we lost. */
void lease_adopt(uint64_t now);
bool lease_is_mine(const struct p *p);
/* Members beside us that wait: how many Gs, and one of them (the next in turn), preferring newcomers. */
struct lease_others {
  uint32_t wants, express;
  uint32_t member;         /* in turn; valid if wants */
  uint32_t express_member; /* valid if express */
};
struct lease_others lease_others_wait(void);
void lease_publish_wants(void);
void lease_ring(uint32_t member);
uint32_t lease_page_held(void);
/* Others have a part in the pool. */
bool lease_is_shared(void);
/* Express slots that newcomers of other processes have just got, and that are free in a moment, as a rule; when the first of them will have had its moment. */
uint32_t lease_soon_free(uint64_t now, uint64_t *at);
/* Is the pool crowded?  sched.crowd says so until the next call. */
bool lease_crowd(uint64_t now);
/* It is one, and stays it as long as more Gs than there are slots beside it want to run. */
void lease_stay_crowd(uint64_t now);
/* A G of ours only computes: it is no crowd. */
void lease_no_crowd(uint64_t now);
uint32_t lease_nslots(void);
uint32_t lease_nexpress(void);
uint32_t lease_all(void);
int64_t lease_tokens(uint64_t now);
/* When the kernel's period that `now` is in ends; 0: its phase is not known. */
uint64_t lease_period_end(uint64_t now);
/* When the frame of pacing that `now` is in ends; frames begin with the kernel's period where that is known. */
uint64_t lease_frame_end(uint64_t now);
void lease_new_period(uint64_t now);
/* What the bucket will hold at the end of the frame if only the whole CPUs of the rate are used until then. */
int64_t lease_ahead(uint64_t now);
int64_t lease_period_room(uint64_t now);
/* Slots [0, n) are open to hogs now (pacing). */
uint32_t lease_hog_slots(void);

/* --- alarm.c --- */
/* Does an M of ours that is on a CPU see to it itself when its time is over?  (Without BPF sysmon does.) */
bool alarm_can(const struct m *m);
/* m is to look at `at`, or at most `late` ns after it.  False: it can't be relied on, sysmon must. Lock held. */
bool alarm_set(struct m *m, uint64_t at, uint64_t late);
/* The same, up to a tick of the kernel's later. */
bool alarm_set_roughly(struct m *m, uint64_t at);
bool alarm_rings(const struct m *m, uint64_t now);
void alarm_clear(struct m *m);
/* p (or null) is taken from m, and p is given to m: what is known of when it must stop goes with it. Lock held. */
void alarm_taken(struct p *p, struct m *m, uint64_t now);
void alarm_pass_on(struct p *p, struct m *m);
/* m answers its alarm: by how many ns it is late, for want of a CPU. Lock held. */
uint64_t alarm_answered(struct m *m, uint64_t now);
/* m must stop, and should it have no CPU its P is about to be taken from it. Lock held. */
void alarm_displaced(const struct m *m, uint64_t now);
/* By the M itself, when it has got a P, or has looked. */
void alarm_arm(struct m *m);
/* The same where its interrupt may have come while nobody listened. */
void alarm_arm_again(struct m *m);

/* --- handoff.c --- */
/* Is m blocked in the kernel, so that its P could serve another? */
bool handoff_blocked(struct m *m, uint64_t now);
/* Its thread is blocked in the kernel at this moment, as far as can be told at once. */
bool handoff_blocked_now(const struct m *m);
/* Outside of any wrapper, and without a CPU, as BPF has it: blocked, or the kernel runs others. */
bool handoff_off_cpu(const struct m *m);
/* Outside of any wrapper, after a store that it is to see when it is back: is it still blocked? blocked_at was read before that store. */
bool handoff_still_away(struct m *m, uint64_t blocked_at);
/* Takes the P of a blocked M away.  Null: it came back meanwhile. */
struct p *handoff_retake(struct m *m, uint64_t now);

/* The same of one that was granted it long ago and still sleeps, or left that sleep without us. */
struct p *handoff_take_unclaimed(struct m *m, uint64_t now);
/* The same of one that is ready but that the kernel does not run now.  Null: it runs, or BPF does not tell. */
struct p *handoff_take_waiting(struct m *m, uint64_t now);

/* --- permit.c --- */
/* A policy of the kernel's that has priorities. */
static inline bool sched_has_priorities(int policy) {
  policy &= ~SCHED_RESET_ON_FORK;
  return policy == SCHED_FIFO || policy == SCHED_RR;
}
/* Lock held.  The gate opens: all run without Ps.  It closes: all but real-time threads are called in. */
void permit_all(uint64_t now);
void permit_none(uint64_t now);
/* Some thread's scheduling policy may have changed: looks at all. */
void permit_look_policies(void);
bool permit_is_realtime(uint32_t tid);

/* --- preempt.c --- */
void preempt_request(struct m *m, uint64_t now);
void preempt_init(void);

/* --- m.c --- */
struct m *m_alloc(void);                               /* no lock held */
void m_free(struct m *m);                              /* one that was never started */
void m_start(struct m *m, const struct fair *inherit); /* on the new thread: registers and waits for a P */
void m_exit(struct m *m);                              /* on the ending thread */
void m_place_slot(struct m *m);                        /* lock held, on the thread itself: puts its slot into the current M map */
struct m_slot *m_slot_current(struct m *m);            /* its slot, or the one it would get there */
void m_forget_others(struct m *self);                  /* in a forked child */
bool m_seen_by_bpf(const struct m *m);
/* How many Ms there are, and of `most` of them twice the tid, and one more for those that ration made. */
uint32_t m_tids(uint32_t *tids, uint32_t most);
/* Of no M, until BPF has seen its next switch. BPF looks away. Lock held. */
void m_forget_switches(void);
uint64_t m_cpu_ns(const struct m *m, uint64_t now, bool *from_bpf);

/* --- sysmon.c --- */
struct service;
void sysmon_main(struct service *self);
/* Tells the pool page how many Gs and Ms there are, for display: whoever makes or ends some may be the last to run for long. Lock held. */
void sysmon_tell_gs(void);
extern bool sysmon_runs; /* [lock] it has been started, and not been told to stop */
/* Called by sysmon about every tick while Ps are leased; standalone mode corrects the bucket there. */
extern void (*sysmon_owner_tick)(uint64_t now);
/* Called by sysmon without the lock when the pool lets us starve (SCHED_STARVED_NS): nobody is worse off than without us. */
extern void (*sysmon_starved)(void);
/* Called by sysmon with the lock: keeps sched.phase and .period up to date, returns when it wants to be called again. */
extern uint64_t (*sysmon_phase)(uint64_t now);
/* --- trace.c --- */
void trace_tick(uint64_t now); /* schedtrace; no lock held */
uint64_t trace_deadline(void);

#endif
