/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_M_H
#define RATION_CORE_M_H
/*
 * M: a kernel thread that runs Gs.  Its words that BPF looks at are in the M slot
 * (proto/m_slot.h has the protocol of retake against return); the rest is here.
 *
 * What the owner thread does to its slot, and to nobody else's:
 *
 *   M_RUN --gate_enter--> M_SYSCALL --gate_exit, P still there--> M_RUN
 *     |                       |
 *     |  preempted, or        '--gate_exit, P taken--.
 *     '----------------------------------------------+--> M_IDLE (parked on
 *                                                    |    m->park) --P granted--> M_RUN
 *   M_OPEN: scheduler code, or a thread that ended   '
 *
 * Fields say who may touch them: [own] the thread itself, [lock] sched.lock held.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/g.h"
#include "m_slot.h"

struct p;
struct carrier;
struct m {
  struct m_slot *slot;     /* [own] where `state` is kept; in the BPF map or own_slot below */
  struct m *next, *prev;   /* [lock] list of all Ms, or the free list */
  struct p *p;             /* [lock] the P it holds; null with has_p set: the gate is open */
  struct g *g;             /* [own, lock] the wired G of this thread */
  struct carrier *carrier; /* [own] runs light Gs; null: a thread like others */
  struct g g0;             /* the wired G of this thread */
  uint32_t id;
  uint32_t tid;
  uint32_t slot_index; /* [lock] in the M map; UINT32_MAX: own_slot */
  uint32_t locks;      /* [own] > 0: in scheduler code; handlers and nested wrappers stay out */
  int cancel_type;     /* [own] what it was before rt_enter (gate.c) */
  bool
      changed; /* [own] its thread has what the kernel keeps for one thread, and hands down, otherwise than the process began: free_hands_down */
  bool realtime;            /* [lock] its policy is not of the kernel's fair class: it needs no P (permit_look_policies) */
  bool rations;             /* [before it starts] made by ration, not by the program; a G may have it for good */
  bool carries;             /* [own] it is or was a carrier: glibc cancels nothing that it runs */
  int deferred;             /* [own] a signal of the program that came meanwhile; 0: none */
  _Atomic uint32_t park;    /* futex: 1 a P was granted, 0 not; pairs park_m with grant_p */
  _Atomic uint32_t sent;    /* 1: a SIGURG of ours is under way; the handler clears it */
  _Atomic uint32_t urg_seq; /* [own] SIGURGs of ours handled */
  uint32_t systick;         /* [own] +1 at each gate_enter: tells sysmon one call from the next */
  uint32_t file_systick;    /* [own; others read] +1 at each of them that names a place in a file */
  uint32_t seen_systick;    /* [lock] at sysmon's last look */
  uint32_t sure_systick;    /* [own; others read] systick of the last call that was known to block */
  uint32_t lock_systick;    /* [own] systick of the last call that waited for a lock of the program's */
  uint64_t seen_at;         /* [lock] when systick was first seen at this value in M_SYSCALL */
  uint64_t asked_at;        /* [lock] the look that /proc was last asked in whether it sleeps, */
  bool asleep;              /* [lock] and what that said */
  uint64_t cpu_last;        /* [lock] CPU time up to which the M was charged */
  uint64_t cpu_granted;     /* [lock] cpu_last when it got its P */
  uint64_t cpu_called;      /* [lock] cpu_last at the begin of the stint in which it was last seen to have made a call (called_systick) */
  uint32_t called_systick;  /* [lock] m_requests at that time */
  uint64_t cpu_looked;      /* [lock] cpu_last when a look last saw that it had made a call (looked_systick) */
  uint32_t looked_systick;  /* [lock] m_requests at that time */
  uint64_t cpu_moved_at;    /* [lock] when that clock was last seen to have moved */
  uint64_t granted_at;      /* [lock] when it got its P */
  uint64_t turn_used;       /* [lock] CPU ns of its turn before that */
  uint64_t preempt_at;      /* [lock] when it was last asked to yield; 0: not asked */
  uint32_t alarm_armed;     /* [own; others read, and write 0] the alarm that its timer was last set to (alarm.c) */
  uint32_t alarm_systick;   /* [own; lock, while it sleeps] systick at that time */
  bool cpu_from_bpf;        /* [lock] which clock cpu_last belongs to */
  bool gone;                /* [lock] thread ended */
  uint32_t
      place_ok; /* [own; others read] it sleeps in the scheduler, and no handler of the program's runs: 1 + the node of its CPU; else 0 (place.c) */
  uint32_t placed;         /* it may run on one CPU only, till it is awake: place.c has the states */
  bool own_cpus;           /* [lock] the program has given it CPUs of its own */
  uintptr_t park_sp;       /* [own] stack pointer in park_m: tells a handler from a longjmp */
  uint64_t deferred_mask;  /* [own] the mask that it found */
  siginfo_t deferred_info; /* [own] */
  _Atomic(void *) stopped; /* its context while world.c keeps it in the SIGURG handler; null: it is not there */
  struct m_slot own_slot;  /* when the map is full or there is none */
};

extern __thread struct m *m_self __attribute__((tls_model("initial-exec")));

/* Some G, here or in another process of the pool, waits for a P. */
extern _Atomic uint32_t sched_waiting_flag;
static inline bool sched_waiting(void) { return atomic_load_explicit(&sched_waiting_flag, memory_order_relaxed) != 0; }

/*
 * Its calls that may have been a wait for something to do.  A scan of a table makes a call for each page (PostgreSQL's, of 8 kB), and computes without end all the same.  Of another
 * thread it is a hint.
 */
static inline uint32_t m_requests(const struct m *m) {
  return __atomic_load_n(&m->systick, __ATOMIC_RELAXED) - __atomic_load_n(&m->file_systick, __ATOMIC_RELAXED);
}

/* The caller is the child of a vfork, by whose TLS it has m (gate.c). */
bool m_is_borrowed(const struct m *m);
void m_entersyscall_slow(struct m *m);
void m_exitsyscall_slow(struct m *m);
void m_entersyscallblock(struct m *m, enum wait_reason why);
void m_enteridle(struct m *m,
                 enum wait_reason why); /* the same, whether somebody waits or not: it will be long, or somebody is about to wait */

#define SLOT_LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SLOT_STORE(field, v) __atomic_store_n(&(field), (v), __ATOMIC_RELAXED)

/* Both bits of news that reach an M without a signal. */
static inline bool m_has_news(const struct m_slot *s) { return (SLOT_LOAD(s->taken) | SLOT_LOAD(s->preempt)) != 0; }

static inline void m_entersyscall(struct m *m) {
  struct m_slot *s = m->slot;
  if (__builtin_expect(SLOT_LOAD(s->state) != M_RUN || m_has_news(s), 0)) {
    m_entersyscall_slow(m);
    return;
  }
  m->systick++;
  SLOT_STORE(s->state, M_SYSCALL); /* pairs with the look at `state` after membarrier in handoff.c */
  atomic_signal_fence(memory_order_seq_cst);
}

static inline void m_exitsyscall(struct m *m) {
  struct m_slot *s = m->slot;
  atomic_signal_fence(memory_order_seq_cst);
  if (__builtin_expect(SLOT_LOAD(s->state) != M_SYSCALL, 0)) {
    m_exitsyscall_slow(m);
    return;
  }
  /* state before taken: the order that handoff.c relies on.  The CPU may swap
   * the two; the retaker's membarrier, or the context switch that brought us back, makes up for it. */
  SLOT_STORE(s->state, M_RUN);
  atomic_signal_fence(memory_order_seq_cst);
  if (__builtin_expect(m_has_news(s), 0)) m_exitsyscall_slow(m);
}

#endif
