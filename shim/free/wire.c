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
#include "free/thread.h"
#include "pool_page.h"

static _Atomic uint32_t wired[FREE_WIRE_REASONS]; /* a forked child goes on with its parent's */

void free_wire_in_handler(enum free_wire why, ucontext_t *uc) {
  struct thread *t = thread_self();
  if (t && why == FREE_WIRE_SCHED) thread_changes_its_own(t);
  if (!t || !carrier_now()) return;
  if (thread_wire(t, uc)) atomic_fetch_add_explicit(&wired[why], 1, memory_order_relaxed);
}

void free_wire(enum free_wire why) { free_wire_in_handler(why, NULL); }

void free_wire_alone(void) {
  struct thread *t = thread_self();
  if (t) thread_changes_its_own(t);
  free_wire(FREE_WIRE_OTHER);
}

uint32_t free_wired(enum free_wire why) { return atomic_load_explicit(&wired[why], memory_order_relaxed); }

/* core/sysmon.c knows it by name: for the pool page. */
uint32_t free_count(uint32_t counts[POOL_WIRED]);
uint32_t free_count(uint32_t counts[POOL_WIRED]) {
  for (uint32_t why = 0; why < FREE_WIRE_REASONS; why++) counts[why < POOL_WIRED ? why : FREE_WIRE_OTHER] += free_wired(why);
  return thread_count();
}
