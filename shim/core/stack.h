/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_STACK_H
#define RATION_CORE_STACK_H
/* Stacks of light Gs, each with the G's descriptor at its top; stack.c says how they are kept. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/g.h"

#define STACK_BYTES_DEFAULT 65536u
#define STACK_BYTES_MIN 16384u
#define STACK_BYTES_MAX (1u << 30)
#define STACK_CACHE 64u

/* A P's own free stacks. [owner of the P] */
struct stack_cache {
  struct g *free[STACK_CACHE];
  uint32_t n;
};

/* A G with a stack of the usual size, or null: no memory.  c: null, or a P's.  What it holds is of its last life; id and status are for the caller to set. */
struct g *stack_get(struct stack_cache *c);
/* Gives it back.  Nobody may run on it any more. */
void stack_put(struct stack_cache *c, struct g *g);
/* The same for any size (a multiple of the page size, at least STACK_BYTES_MIN); without a P. */
struct g *stack_get_sized(size_t bytes);
/* Where its first frame goes. */
void *stack_top(const struct g *g);
/* The lowest byte that is not its guard; null: a G without a stack of ours. */
const char *stack_bottom(const struct g *g);

/* For stacks of others' (free/identity.c): address space without huge pages, or null; and its lowest bytes as a guard, as well as this kernel can. */
char *stack_map(size_t bytes);
void stack_guard(char *at, size_t bytes);

/* Calls fn for every G that there ever was a stack for (also dead ones, by status), until it says false. */
void stack_each(bool (*fn)(struct g *g, void *arg), void *arg);
/* Returns the pages of stacks that have been idle since the last call but one to the kernel; true: there are more. */
bool stack_trim(void);
/* In the child of a fork: whoever held the lock is not here, and what was free stays unused. */
void stack_fork_child(void);
/* Is addr in the guard page of a stack?  Its G, or null. */
struct g *stack_guard_hit(uintptr_t addr);

#endif
