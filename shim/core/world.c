/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stop-the-world: each M that runs in user mode is sent our SIGURG and stays in its handler until the world starts again.
 *
 *   stopper   flag = 1; signal; look every 200 us who is not there yet, signal those again ...; work; flag = 0, wake
 *   M         SIGURG -> gate_sigurg: flag is 1: m->stopped = its context; futex wait for 0
 *
 * An M in scheduler code (m->locks) does not stop there; it is signalled again until it is out.  So nobody who is stopped holds a lock of ours,
 * but maybe one of libc's: who works on a stopped world does not call malloc, stdio or dladdr.
 *
 * Not stopped are: Ms in wrapped calls (a signal would be an EINTR to the program), which as a rule are blocked there, but may come back at any time;
 * those that the kernel does not let run within the patience; threads that ration does not know.  To stop them would take ptrace by another process.
 * So a stopped world stands as far as light Gs run, and who needs more looks twice (leaks.c).
 *
 * Rejected: a flag that carriers look at where they schedule.  It costs a load for each dispatch, and a G that computes is not stopped by it.
 */
#include "core/world.h"
#include "core/preempt.h"
#include "core/sched.h"

#define LOOK_NS 200000u
#define SIGNAL_AGAIN_LOOKS 5u

_Atomic uint32_t world_flag;

void world_stop_here(struct m *m, void *uctx) {
  atomic_store_explicit(&m->stopped, uctx, memory_order_release); /* pairs with who reads it: the registers are there */
  while (world_stopping()) sys_futex_wait(&world_flag, 1, SYS_FOREVER, false);
  atomic_store_explicit(&m->stopped, NULL, memory_order_relaxed);
}

/* Signals those that run.  How many have not stopped yet. */
static uint32_t not_stopped(bool signal) {
  uint32_t n = 0;
  sched_lock();
  for (struct m *m = sched.allm; m; m = m->next) {
    if (m == m_self || m->gone || SLOT_LOAD(m->slot->state) != M_RUN) continue;
    if (atomic_load_explicit(&m->stopped, memory_order_acquire)) continue; /* pairs with world_stop_here */
    n++;
    if (signal) sched_hooks.signal(m);
  }
  sched_unlock();
  return n;
}

bool world_stop(uint64_t patience) {
  uint32_t none = 0;
  if (!atomic_compare_exchange_strong_explicit(&world_flag, &none, 1, memory_order_acq_rel, memory_order_relaxed)) return false;
  m_hold(m_self); /* or the monitor's SIGURG would stop us as well */
  if (atomic_load_explicit(&preempt_no_signals, memory_order_relaxed)) return true;
  uint64_t until = sys_now() + patience;
  sched_hooks.barrier(); /* who has entered a wrapped call by now is seen to have: as in preempt.c */
  for (uint32_t look = 0; not_stopped(look % SIGNAL_AGAIN_LOOKS == 0) && sys_now() < until; look++) {
    _Atomic uint32_t never = 0;
    sys_futex_wait(&never, 0, sys_now() + LOOK_NS, false);
  }
  return true;
}

void world_start(void) {
  atomic_store_explicit(&world_flag, 0, memory_order_release); /* pairs with the next world_stop */
  sys_futex_wake(&world_flag, INT32_MAX, false);
  m_release(m_self);
}

void world_fork_child(void) { atomic_store_explicit(&world_flag, 0, memory_order_relaxed); }
