/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiring on demand.  A thread G that does something that only a thread of the kernel's can do takes its carrier's thread for good:
 *
 *   thread G on carrier c --free_wire--> the M's wired G, c is lent --its function ends--> thread G on c again, and ends
 *
 * From then on it is what it would be in locked mode, by the same code.  What it has that Gs only have on paper becomes real first: its mask, and its tid
 * in glibc's eyes.  What it changes of the kernel's thread (policy, credentials, directory) no other G is to find: then that thread ends with it
 * (thread_main), and the carrier is no more.  The other direction is not worth it: who did it once does it again.
 */
#include "core/carrier.h"
#include "free/free.h"
#include "free/kill.h"
#include "free/thread.h"
#include "pool_page.h"
#include "ration/g.h"

#define OTHER_FIRST_NS 20000u
#define OTHER_MOST_NS 1000000000u
#define ALL_MOST_NS 2000000000u

static _Atomic uint32_t wired[FREE_WIRE_REASONS]; /* a forked child goes on with its parent's */

void free_wire_in_handler(enum free_wire why, ucontext_t *uc) {
  struct thread *t = thread_self();
  if (!t || !carrier_now()) return;
  if (thread_wire(t, uc)) atomic_fetch_add_explicit(&wired[why], 1, memory_order_relaxed);
}

static void changes_its_own(enum free_wire why) {
  struct thread *t = thread_self();
  if (t)
    thread_changes_its_own(t);
  else if (m_self)
    m_self->changed = true;
  free_wire_in_handler(why, NULL);
}

void free_wire(enum free_wire why) {
  if (why == FREE_WIRE_SCHED)
    changes_its_own(why);
  else
    free_wire_in_handler(why, NULL);
}

void free_wire_alone(void) { changes_its_own(FREE_WIRE_OTHER); }

bool free_hands_down(void) {
  struct thread *t = thread_self();
  if (t) return !carrier_now() && thread_has_changed(t);
  return m_self && m_self->changed;
}

static void wire_until(struct thread *t, uint64_t until) {
  bool asked = false;
  thread_changes_its_own(t);
  for (uint64_t nap = OTHER_FIRST_NS; kill_ask(thread_kill_of(t)) && sys_now() < until; nap *= 2) {
    asked = true;
    ration_sleep((ration_ns)nap);
  }
  if (asked && !thread_is_g(t)) atomic_fetch_add_explicit(&wired[FREE_WIRE_SCHED], 1, memory_order_relaxed);
}

void free_wire_other(struct thread *t) { wire_until(t, sys_now() + OTHER_MOST_NS); }

static bool asks(struct thread *t, void *arg) {
  (void)arg;
  kill_ask(thread_kill_of(t)); /* all at once, so that nobody waits for each */
  return true;
}

static bool wires(struct thread *t, void *arg) {
  wire_until(t, *(const uint64_t *)arg);
  return true;
}

void free_wire_all(void) {
  uint64_t until = sys_now() + ALL_MOST_NS; /* those in a long call into libc can't be */
  free_wire(FREE_WIRE_OTHER);
  threads_each(asks, NULL);
  threads_each(wires, &until);
  carriers_rest();
}

/* core/sysmon.c knows it by name: for the pool page. */
uint32_t free_count(uint32_t counts[POOL_WIRED]);
uint32_t free_count(uint32_t counts[POOL_WIRED]) {
  for (uint32_t why = 0; why < FREE_WIRE_REASONS; why++)
    counts[why < POOL_WIRED ? why : FREE_WIRE_OTHER] += atomic_load_explicit(&wired[why], memory_order_relaxed);
  return thread_count();
}
