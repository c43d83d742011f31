/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setuid and its kin.  Linux has credentials for each of its threads, POSIX for the process: glibc's functions tell all threads that glibc knows to make the same call.
 *
 *   who calls it                          the others, in the handler of signal 33
 *   marks all (SETXID, in their TCBs)
 *   signals those that are marked,        makes the call, takes the mark from the TCB of the thread pointer, counts down
 *     by the tid in the TCB; waits
 *   again, until none was marked
 *
 * A carrier that has a G on has the G's thread pointer: the mark of the carrier itself would stay, and glibc would signal it for ever.  So the handler is entered through one of
 * ours (preload/signal.c), which puts the carrier's own on for it.  A wired G has its carrier's thread, and both TCBs have that thread's tid: it is signalled twice, once for each mark.
 * Gs that are not wired are marked, too, but their tids are nobody's: glibc finds that there is no such thread, and takes the mark back at the end.
 *
 * A kernel thread that ends without glibc is signalled no more once its tid is out of the TCB; but it may have been, and is waited for.
 */
#include "free/setxid.h"
#include "core/carrier.h"
#include "core/tp.h"
#include "free/identity.h"
#include "free/thread.h"

#define LOOK_NS 20000u

static bool is_marked(pthread_t t) { return atomic_load_explicit(identity_cancel_word_of(t), memory_order_relaxed) & IDENTITY_SETXID; }

void *setxid_tp(void) {
  struct carrier *c = carrier_self;
  if (c) return c->tp;
  struct thread *t = thread_self();
  void *carriers = t ? thread_carriers_tp(t) : NULL;
  return carriers && !is_marked(pthread_self()) ? carriers : tp_get();
}

void setxid_answer(pthread_t self) {
  _Atomic uint32_t never = 0;
  while (is_marked(self)) {
    uint64_t mask = sys_sigmask(SYS_SIGSET_MOST);
    sys_futex_wait(&never, 0, sys_now() + LOOK_NS, false);
    sys_sigmask(mask);
  }
}
