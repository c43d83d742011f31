/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_PSPIN_H
#define RATION_FREE_PSPIN_H
/* Spinning for a lock before queueing for it. */
#include "core/carrier.h"
#include "sync/lot.h"

#define PSPIN_ROUNDS 6u /* of 2, 4, 8, ... pauses, as sync/mutex.c */

/* Not ration_maxprocs: this is no place to start the carriers, least of all in the child of a fork.  Pairs with light_start's release. */
static inline bool pspin_others_run(void) { return __atomic_load_n(&light.started, __ATOMIC_ACQUIRE) && light.npqs > 1; }

/* Waits for a moment, longer each time; false: it is not worth it (any more). */
static inline bool pspin(unsigned *rounds) {
  if (*rounds >= PSPIN_ROUNDS || !pspin_others_run()) return false;
  for (unsigned i = 0; i < 2u << *rounds; i++) spin_pause();
  ++*rounds;
  return true;
}

#endif
