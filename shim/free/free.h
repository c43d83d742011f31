/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_FREE_H
#define RATION_FREE_FREE_H
/*
 * Free mode: the threads that the program makes are Gs with a thread identity (identity.h), on the carriers of light Gs.  Threads
 * that are there anyway (main, those that must be kernel threads) are wired Gs; pthread objects are shared by both kinds, so in
 * free mode all of them are ours, on glibc's layouts.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include "wired.h"

struct ration_context;

/* Set once, before main. */
extern bool free_mode;

/* Who the caller is, for the owner words of pthread objects: never 0, and no two threads of the process have the same. */
uint32_t free_self_id(void);

/*
 * For waits that are cancellation points: the context that pthread_cancel of the calling thread cancels, to be the limit's; null: nothing to be done
 * (cancellation disabled, or nobody can cancel this thread).  When a wait ends by it, put things in order (a condition's mutex) and call free_testcancel.
 */
struct ration_context *free_cancel_context(void);
/* The calling thread may be cancelled anywhere. */
bool free_cancel_is_async(void);
/*
 * Wiring on demand: what the caller is about to do only a thread of the kernel's can.  If it is a thread G it gets one for good, and is a wired G
 * from here on; nothing that is the carrier's may be kept over this.
 */
#define FREE_WIRE(name, text) FREE_WIRE_##name,
enum free_wire { WIRED_LIST(FREE_WIRE) FREE_WIRE_REASONS };
#undef FREE_WIRE
void free_wire(enum free_wire why);
/* The same for what changes the kernel's thread: no other G gets it after the caller. */
void free_wire_alone(void);
struct ucontext_t;
/* The same in a handler, for the code that it returns to. */
void free_wire_in_handler(enum free_wire why, struct ucontext_t *uc);
/* In the program's handler of a fault.  True: the caller returns, and it comes again, on the stack that sigaltstack has set. */
bool free_fault(int sig, siginfo_t *si, struct ucontext_t *uc);
/*
 * In the program's handler of another signal: one of KILL_OWN has come to a carrier.  True: it is the G's that made the call, which handles it once it has a thread of the
 * kernel's; the caller returns.
 */
bool free_own_signal(int sig, siginfo_t *si, struct ucontext_t *uc);
/* What is about to be done to t, another thread G, only a thread of the kernel's can have: t gets one, if it has not ended, and that one is nobody's after it. */
struct thread;
void free_wire_other(struct thread *t);
/*
 * All thread Gs, for good; the carriers do nothing from then on.  Before the process is in a sandbox, whose rules are for its own calls: those of carriers would be others.
 */
void free_wire_all(void);
/* A thread that the caller makes inherits something that only a thread of the kernel's can have: it has done one of SCHED, or the above. */
bool free_hands_down(void);

/*
 * Whether a wait is to end with EINTR.  The mark: before it.  Then, when its queues know of it no more: sees to the signals that have come, and says whether since the mark
 * there was a handler without SA_RESTART (always: any).
 */
struct free_mark {
  uint32_t runs, breaks;
};
struct free_mark free_mark(void);
bool free_interrupted(const struct free_mark *since, bool always);

/* Something waits for the calling thread G: it sees to that (kill.c).  Nothing that is the carrier's may be kept over this. */
void free_notice(void);
/* The same where it may not be cancelled: only signals. */
void free_notice_signals(void);
/* A handler of the program is about to run on a thread that is no carrier, and has returned. */
void free_handler_begins(int sig);
void free_handler_ends(void);

/* pthread_testcancel: does not return if the caller is to end. */
void free_testcancel(void);

#endif
