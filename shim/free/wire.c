/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiring on demand.  A thread G that does something that only a thread of the kernel's can do takes its carrier's thread for good:
 *
 *   thread G on carrier c --free_wire--> the M's wired G, c is lent --its function ends--> thread G on c again, and ends
 *
 * From then on it is what it would be in locked mode, by the same code.  What it has that Gs only have on paper becomes real first: its mask, and its tid
 * in glibc's eyes.  The other direction is not worth it: who did it once does it again.
 */
#include "core/carrier.h"
#include "free/free.h"
#include "free/thread.h"

static _Atomic uint32_t wired[FREE_WIRE_REASONS];

void free_wire_in_handler(enum free_wire why, ucontext_t *uc) {
  struct thread *t = thread_self();
  if (!t || !carrier_now()) return;
  if (thread_wire(t, uc)) atomic_fetch_add_explicit(&wired[why], 1, memory_order_relaxed);
}

void free_wire(enum free_wire why) { free_wire_in_handler(why, NULL); }

uint32_t free_wired(enum free_wire why) { return atomic_load_explicit(&wired[why], memory_order_relaxed); }
