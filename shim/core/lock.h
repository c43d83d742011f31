/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_LOCK_H
#define RATION_CORE_LOCK_H
/*
 * The lock of the scheduler core: a futex mutex with three values (0 free, 1
 * held, 2 held and someone waits), after Drepper's "Futexes are tricky".  Not a
 * pthread mutex: it is taken in signal handlers, in service threads without a
 * TCB, and in code that stands in for pthread mutexes.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/sys.h"

struct lock {
  _Atomic uint32_t word;
};

static inline bool lock_try(struct lock *l) {
  uint32_t free = 0;
  /* acquire: pairs with the release in lock_drop */
  return atomic_compare_exchange_strong_explicit(&l->word, &free, 1, memory_order_acquire, memory_order_relaxed);
}

static inline void lock_take(struct lock *l) {
  if (lock_try(l)) return;
  while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire) != 0) sys_futex_wait(&l->word, 2, SYS_FOREVER, false);
}

static inline void lock_drop(struct lock *l) {
  if (atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2) sys_futex_wake(&l->word, 1, false);
}

static inline bool lock_held(struct lock *l) { return atomic_load_explicit(&l->word, memory_order_relaxed) != 0; }

#endif
