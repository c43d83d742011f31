/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_GATE_H
#define RATION_CORE_GATE_H
/*
 * What the wrappers around libc see of the scheduler: the bracket around a call
 * that may block, and the hooks for what a program does to itself (fork, exec,
 * credentials).  Everything here is safe in any thread at any time, also in
 * one that is no M (then it does nothing), in a signal handler, and when nested;
 * none of it touches errno.
 *
 *   read() in preload:     gate_enter(); r = real_read(...); gate_exit(); return r;
 *
 * gate_enter/gate_exit nest (a signal handler that interrupts a wrapped call
 * and calls another), and survive a longjmp out of the middle: each only
 * says what the thread is doing now.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/m.h"

/* The same for the light G that runs on this M, if one does (carrier.c): its P's queue is not to wait for it.  After carrier_gate_exit it may be
 * on another M; errno goes with it. */
void carrier_gate_enter(struct m *m);
void carrier_gate_block(struct m *m);
void carrier_gate_exit(struct m *m);

/*
 * No quota binds, there are no carriers and no free mode: who may have to wait at a lock need not say so.  (BPF looks away, too: sched_watch_ms.)  Who looks just before that ends is as one
 * that began to wait before.  Asked by the few calls that programs make most; for them what the rest of a wrapper touches is a twentieth of the time of a switch between two threads.
 */
extern _Atomic bool gate_quiet;
static inline bool gate_is_quiet(void) { return atomic_load_explicit(&gate_quiet, memory_order_relaxed); } /* publishes nothing */

/* Before a call that may block: the M keeps its P; it is retaken when the M really blocks. A store and a load. */
static inline void gate_enter(void) {
  struct m *m = m_self;
  if (!m) return;
  if (__builtin_expect(m->carrier != NULL, 0)) carrier_gate_enter(m);
  m_entersyscall(m);
}

/* The same, where the call may be a wait for a lock of the program's, which it has then. */
static inline void gate_enter_lock(void) {
  gate_enter();
  struct m *m = m_self;
  if (m) m->lock_systick = m->systick;
}

/* After it: waits for a P if ours was retaken.  A store and a load. */
static inline void gate_exit(void) {
  struct m *m = m_self;
  if (!m) return;
  m_exitsyscall(m);
  if (__builtin_expect(m->carrier != NULL, 0)) carrier_gate_exit(m);
}

/* In the bracket: gate_exit will have to wait for a P, or ask for one at least. */
static inline bool gate_lacks_p(void) {
  struct m *m = m_self;
  return m && !m->carrier && SLOT_LOAD(m->slot->state) == M_SYSCALL && (SLOT_LOAD(m->slot->taken) || !SLOT_LOAD(m->slot->has_p));
}

/* In the bracket of a wait for a lock or condition: it comes back with none, and stands in line like others. */
static inline void gate_owns_nothing(void) {
  struct m *m = m_self;
  if (m) m->lock_systick = m->systick - 1;
}

/* Before gate_enter, of a call that names a place in a file: it waits for the disk at most. */
static inline void gate_file(void) {
  struct m *m = m_self;
  if (m) __atomic_store_n(&m->file_systick, m->file_systick + 1, __ATOMIC_RELAXED);
}

/* Before a call that is going to block for sure (a sleep, a condition wait, a
 * lock that was found busy): if a G waits for a P, ours goes to it at once. */
static inline void gate_enter_blocking(enum wait_reason why) {
  struct m *m = m_self;
  if (!m) return;
  if (__builtin_expect(m->carrier != NULL, 0)) carrier_gate_block(m);
  m_entersyscallblock(m, why);
}

/* Some G waits for a P: a call that may block is worth one try without blocking first. */
static inline bool gate_contended(void) {
  struct m *m = m_self;
  return m && sched_waiting();
}

/* How many SIGURGs of ours this thread has handled: a wrapped call that returned EINTR while this moved,
 * and during which no handler of the program ran, was interrupted by us alone and is made again. */
static inline uint32_t gate_urg_seq(void) {
  struct m *m = m_self;
  return m ? atomic_load_explicit(&m->urg_seq, memory_order_relaxed) : 0;
}

/* After something was written: if a newcomer has had its turn, the next one has his. */
void gate_answered_slow(struct m *m);
/* The same for the G that runs on c (light.c). */
void light_answered(struct carrier *c);
static inline void gate_answered(void) {
  struct m *m = m_self;
  if (!m) return;
  if (__builtin_expect(m->carrier != NULL, 0))
    light_answered(m->carrier);
  else if (__builtin_expect(sched_waiting(), 0))
    gate_answered_slow(m);
}

/* sched_yield: gives the P to a waiting G if this one has had a fair stint, and returns true; false: call the real one. */
bool gate_yield(void);

/* The life of the process; each is called by the wrapper in preload/process.c. */
void gate_fork_child(void);            /* the child of a fork: one thread, attaches anew when it has lived a little */
void gate_exec_prepare(void);          /* before execve: gives the P back */
void gate_exec_failed(void);           /* it returned: get one again */
void gate_step_aside(const char *why); /* for good: opens the gate in this process (seccomp, unshare, ptrace) */
/* glibc changes the credentials of the threads that it knows; this repeats the raw system call in the threads that only ration knows. */
void gate_mirror_creds(long nr, long a0, long a1, long a2);

/* The process's SIGURG handler asks: was this one ours?  Does the preemption if so. */
bool gate_sigurg(const siginfo_t *si, void *uctx);
/* In a handler, before the program's own is called: true if the thread is in scheduler code; the signal comes again right after. */
bool gate_defer(int sig, const siginfo_t *si, void *uctx);
/* Our signal is another from now on (core/preempt.h): so is that of timers. */
void gate_hidden(void);

/* Set by client/: a SIGURG from a timer; true if it was its own. */
extern bool (*gate_timer_hook)(const siginfo_t *si);

/* CPU count that the program is to see now; 0: ration has no opinion (then the real one). Never blocks on a daemon. */
unsigned gate_ncpus(void);
/* RATION_THREADS and friends, parsed once. */
enum ration_mode { RATION_MODE_OFF, RATION_MODE_LOCKED, RATION_MODE_FREE };
enum ration_mode gate_mode(void);

#endif
