/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reminders.  A signal may come at a moment when nothing can be done about it, so what it is about is on a list, and the monitor tells it again:
 *
 *   not listed --remind--> listed: told at `at`, and 1 ms, 2 ms, 4 ms ... later --seen to (kind->open says no, at the monitor's next look)--> not listed
 *
 * Lock: reminders.lock, over light.lock (kind->tell).  The monitor takes it without being an M.
 */
#include "free/remind.h"
#include <stddef.h>
#include <string.h>
#include "core/carrier.h"

static struct {
  struct lock lock;
  _Atomic(struct reminder *) first; /* read without the lock */
} reminders;

void remind(struct reminder *r, uint64_t at, bool anew) {
  run_lock(&reminders.lock);
  if (!r->listed || anew) {
    r->at = at;
    r->told = 0;
  }
  if (!r->listed) {
    r->listed = true;
    r->next = GLANCE(reminders.first);
    atomic_store_explicit(&reminders.first, r, memory_order_relaxed);
  }
  run_unlock(&reminders.lock);
  monitor_look_now();
}

uint64_t free_remind_look(uint64_t now) {
  uint64_t next = UINT64_MAX;
  if (!GLANCE(reminders.first)) return next;
  lock_take(&reminders.lock);
  struct reminder *r = GLANCE(reminders.first), *kept = NULL;
  for (struct reminder *after; r; r = after) {
    after = r->next;
    if (!r->kind->open(r)) {
      r->listed = false;
      continue;
    }
    if (r->at <= now) {
      r->kind->tell(r);
      r->at = now + ((uint64_t)REMIND_FIRST_NS << (r->told < r->kind->doublings ? r->told++ : r->kind->doublings));
    }
    if (r->at < next) next = r->at;
    r->next = kept;
    kept = r;
  }
  atomic_store_explicit(&reminders.first, kept, memory_order_relaxed);
  lock_drop(&reminders.lock);
  return next;
}

void remind_fork_child(struct reminder *const *own, unsigned n) {
  memset(&reminders, 0, sizeof reminders);
  for (unsigned i = 0; i < n; i++) own[i]->listed = false;
}
