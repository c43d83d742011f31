/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_WORLD_H
#define RATION_CORE_WORLD_H
/* Stop-the-world for dumps and leak checks.  world.c says what it promises. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/m.h"

extern _Atomic uint32_t world_flag; /* 1: Ms that come by the SIGURG handler stay there */
static inline bool world_stopping(void) { return atomic_load_explicit(&world_flag, memory_order_relaxed) != 0; }

/* Stops all Ms that run but the caller's; waits for them for `patience` ns at most.  False: somebody else is doing it, nothing was stopped. */
bool world_stop(uint64_t patience);
void world_start(void);
/* In a forked child: whoever was stopping the world is not there. */
void world_fork_child(void);
/* In the handler. */
void world_stop_here(struct m *m, void *uctx);

#endif
