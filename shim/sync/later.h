/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_LATER_H
#define RATION_SYNC_LATER_H
/*
 * What must not be done on a scheduler stack (free, waiting for a timer that is being called) is left for the next call that
 * comes from a G or thread.
 */
#include <stdatomic.h>
#include <stddef.h>

struct later {
  struct later *next;
  void (*fn)(struct later *l);
};
extern _Atomic(struct later *) later_list;

/* Once for each; any stack. */
void later_push(struct later *l);
void later_run_all(void);
/* Not with a lock held. */
static inline void later_run(void) {
  if (__builtin_expect(atomic_load_explicit(&later_list, memory_order_relaxed) != NULL, 0)) later_run_all();
}

#endif
