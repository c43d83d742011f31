/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_FIBER_H
#define RATION_CORE_FIBER_H
/*
 * Sanitizers keep books on stacks: they are told of each switch, where they are in the process (the functions are weak: those of
 * the runtime that the program was linked with).  Otherwise it costs one test of a global.
 * Valgrind sees switches by itself, once it knows what is a stack.
 */
#include <stdbool.h>
#include <stddef.h>

struct fiber {
  void *tsan;         /* of __tsan_create_fiber */
  void *asan;         /* its fake stack while it is away */
  const void *bottom; /* of the stack, and its bytes */
  size_t bytes;
};

extern bool fiber_used; /* one of them is here; set once, before the first switch */

void fiber_init(void);
/* The calling thread's own stack. */
void fiber_of_thread(struct fiber *f);
/* A G that is about to begin, on this stack. */
void fiber_new(struct fiber *f, const void *bottom, size_t bytes);
/* Right before the switch, and right after it on the other side (null: for the first time there). */
void fiber_switch(struct fiber *from, struct fiber *to, bool from_ends);
void fiber_arrived(struct fiber *self);

/* Under valgrind, and a stack that it is to know: a handful of instructions that do nothing outside of it (and are compiled only if
 * its header was there). */
bool valgrind_here(void);
void valgrind_stack(const void *bottom, size_t bytes);
/*
 * A handler on another stack (sigaltstack) returns to this one, at sp.  If threads took turns meanwhile, valgrind takes the next frame here for a
 * switch of stacks and not for a frame, and all that is written there for invalid; so it is told that there may be frames.
 */
void valgrind_resumes(const void *bottom, const void *sp);

#endif
