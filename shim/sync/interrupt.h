/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_INTERRUPT_H
#define RATION_SYNC_INTERRUPT_H
/* Wrapped calls that hold their thread end when the context of their G does; interrupt.c says how. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "sync/context.h"

struct carrier;

enum interrupt_state { INTERRUPT_OFF, INTERRUPT_ARMED, INTERRUPT_ENDED };

/* A carrier's. */
struct interrupt {
  struct context_hook hook;
  _Atomic uint32_t state;
  /* [interrupts.lock] */
  struct carrier *next;
  uint64_t at; /* of the next signal */
  uint32_t sent;
};

/* Weak: the core's tests are linked without shim/sync, and there no G has a context. */
#define INTERRUPT_WEAK __attribute__((weak))

/* c's G, which has a context, is about to make a wrapped call. */
INTERRUPT_WEAK void interrupt_arm(struct carrier *c);
/* It is back. */
INTERRUPT_WEAK void interrupt_disarm(struct carrier *c);
/* The monitor's look; when to look again, UINT64_MAX: no need. */
INTERRUPT_WEAK uint64_t interrupt_look(uint64_t now);
/* In the SIGURG handler of a carrier that is in a wrapped call. */
INTERRUPT_WEAK void interrupt_here(struct carrier *c, void *uctx);
/*
 * In the SIGURG handler of a thread that is no carrier.  A handler of the program without SA_RESTART has run meanwhile: the call that both have interrupted ends with EINTR, as
 * the kernel, which has set the thread back to it for SIGURG's sake, would have had it.
 */
void interrupt_call(void *uctx);
void interrupt_fork_child(void);

#endif
