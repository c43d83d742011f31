/* SPDX-License-Identifier: Apache-2.0 */
/* Waits that others end: stop.h. */
#include "sync/stop.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "core/light.h"

#define CLAIMED ((uintptr_t)1)

bool stop_used;

bool stop_arm(struct g *g, struct stop *s) {
  g->waits = s;
  atomic_store_explicit(&g->stop, (uintptr_t)s, memory_order_seq_cst); /* pairs with the load in stop_call */
  return atomic_load_explicit(&g->notice, memory_order_seq_cst) == 0;  /* pairs with who gives the notice (free/kill.c) */
}

/* Nobody ends it by that word any more. */
static void take_back(struct g *g, struct stop *s) {
  uintptr_t is = (uintptr_t)s;
  if (atomic_compare_exchange_strong_explicit(&g->stop, &is, 0, memory_order_acq_rel, memory_order_acquire)) return;
  /* acquire: pairs with stop_call's last store */
  while (atomic_load_explicit(&g->stop, memory_order_acquire) == ((uintptr_t)s | CLAIMED)) g_yield();
}

void stop_disarm(struct g *g, struct stop *s) {
  take_back(g, s);
  g->waits = NULL;
}

void stop_call(struct g *g) {
  uintptr_t is = atomic_load_explicit(&g->stop, memory_order_seq_cst); /* pairs with stop_arm */
  if (!is || (is & CLAIMED)) return;
  if (!atomic_compare_exchange_strong_explicit(&g->stop, &is, is | CLAIMED, memory_order_acq_rel, memory_order_relaxed)) return;
  struct stop *s = (struct stop *)is; /* NOLINT(performance-no-int-to-ptr): the word carries a mark */
  s->fn(s);
  atomic_store_explicit(&g->stop, 0, memory_order_release); /* pairs with take_back: s may go after this */
}

/* Whether or not somebody has ended it: that may have left it to who has the wait in hand, and is not done with it. */
void stop_leave(struct g *g) {
  struct stop *s = g->waits;
  if (!s) return;
  take_back(g, s);
  g->waits = NULL;
  (s->leave ? s->leave : s->fn)(s);
}

/* shim/free's */
void free_notice(void) __attribute__((weak));
void free_notice_signals(void) __attribute__((weak));

void stop_notice(void) {
  if (free_notice) free_notice();
}

void stop_signals(void) {
  if (free_notice_signals) free_notice_signals();
}
