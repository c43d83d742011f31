/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_URING_H
#define RATION_CORE_URING_H
/* Disk I/O of light Gs by io_uring; uring.c says how. */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/g.h"

struct gqueue;

/* On the stack of the G that waits for it.  The first members are those of the submission queue's entry. */
struct uring_op {
  uint8_t opcode;
  int fd;
  uint64_t addr, off;
  uint32_t len, flags;
  /* uring.c's */
  struct uring_op *next;
  struct g *g;
  long result;
};

#define URING_NO LONG_MIN

/* Not switched off, and not found missing: worth a call of uring_do. */
bool uring_usable(void);

/* Parks the calling light G until op is done: what the kernel says of it, or URING_NO: nothing was done, make the call yourself. */
long uring_do(struct uring_op *op);

/* No new ops from here on; those under way are finished. */
void uring_off(void);

/* For netpoll: takes completions, and moves their Gs to `out`. */
void uring_reap(struct gqueue *out);
uint32_t uring_waiters(void);

/* The thread that submits; 0: there is none. */
uint32_t uring_tid(void);

void uring_fork_child(void);

#endif
