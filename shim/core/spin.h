/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_SPIN_H
#define RATION_CORE_SPIN_H
/*
 * Waiting for a moment before sleeping.  A sleep and its wake-up cost two switches and, where the other one runs on another CPU, an interrupt to a CPU that has gone
 * to rest: 5 µs on good hardware, 30 to 60 on a virtual machine.  Who spins as long as that loses at most as much again, and wins all of it where two hand something
 * to and fro.  Where it does not pay, it is tried again ever more rarely.
 *
 * Not where a quota binds: there CPU time is what is scarce.  Nor with one P, where who is waited for may need ours.
 */
#include <stdbool.h>
#include <stdint.h>
#include "core/carrier.h"
#include "core/g.h"
#include "core/relax.h"
#include "core/sched.h"
#include "core/sys.h"

#define SPIN_NS 50000u
#define SPIN_SKIP_MOST 255u
#define SPIN_STEP 64 /* pauses between two looks at the clock */

static inline bool spin_worth(struct spin *s) {
  if (!__atomic_load_n(&light.started, __ATOMIC_ACQUIRE) || light.npqs < 2) return false; /* pairs with light_start: npqs is right */
  if (atomic_load_explicit(&sched.gated, memory_order_relaxed) || sched_waiting()) return false;
  if (s->skip == 0) return true;
  s->skip--;
  return false;
}

static inline void spin_was(struct spin *s, bool good) {
  unsigned next = s->backoff * 2u + 1;
  s->backoff = s->skip = good ? 0 : (uint8_t)(next < SPIN_SKIP_MOST ? next : SPIN_SKIP_MOST);
}

static inline void spin_step(void) {
  for (int i = 0; i < SPIN_STEP; i++) cpu_relax();
}

#endif
