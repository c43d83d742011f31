/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_SHARED_H
#define RATION_FREE_SHARED_H
/* Signals to the process that only thread Gs have open: shared.c. */
#include <stdint.h>

/* Main has left. */
void shared_watch(void);
/* The caller, a thread of the kernel's, begins to block some of these. */
void shared_blocks(uint64_t set);
/* A G is born that may have open what main blocks, or opens again, on paper, what it was born with. */
void shared_opens(void);
/*
 * The caller is about to send sig to its own process.  A thread G that has it open, when main may not have: it is to have it before the call returns, as POSIX wants of a
 * process where no other has it open, so it gets a thread of the kernel's.
 */
void shared_sends(int sig);
/* The child of a fork. */
void shared_fork_child(void);

#endif
