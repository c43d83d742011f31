/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_CANCEL_H
#define RATION_FREE_CANCEL_H
/* Cancellation that can't wait for the next cancellation point: cancel.c. */
#include <stdbool.h>
#include <stdint.h>
#include "free/identity.h"
#include "free/remind.h"

struct g;
struct m;
struct ration_context;

/* A thread G's. */
struct cancel {
  struct reminder reminder; /* first */
  const struct g *g;
  const struct identity *id;
};
/* A life begins. */
void cancel_born(struct cancel *k, const struct g *g, const struct identity *id);
/* It has been marked as cancelled while it could be at any instruction. */
void cancel_at_once(struct cancel *k);

struct thread;
/* The calling thread G, in no queue, is to end here if it has been cancelled, and may be wherever it is. */
void cancel_if_due(struct thread *t);

/* Threads of the kernel's, in free mode: what ends their waits for pthread objects.  Made by the thread itself (at its birth; main: when it makes another), and gone at its end. */
void cancel_kernel_begins(void);
void cancel_kernel_ends(void);
/* Of the calling one; null: it can't be cancelled now. */
struct ration_context *cancel_kernel_context(void);
/* Before t is cancelled: what is to be cancelled after it, a reference; or null. */
struct ration_context *cancel_kernel_of(pthread_t t);

/* At the end of the SIGURG handler; core/gate.c knows it by name. */
void free_cancel_here(struct m *m, void *uctx);

void cancel_fork_child(void);

#endif
