/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread_once of free mode, on the parking lot.
 *
 *   word   0 --the first--> generation * 4 | RUNNING --fn returned--> DONE
 *          ^                       |
 *          '-----------------------' fn was left by a cancellation, pthread_exit or an exception
 *
 * The values are glibc's.  The generation counts forks: what another thread of the parent was about to do is begun anew in the child, as there.
 * Whoever finishes takes those that wait out under the lock of the lot.  They look again.
 *
 * Left by unwinding: the frame of run() has a personality (preload/call.h says why not a cleanup attribute), which is called when it is unwound; which
 * call that is, is known by a chain in the thread.  Cancellation and pthread_exit also go through functions that have no unwind tables, and longjmp leaves as well: for those
 * there is a cleanup handler of the old kind, as glibc's has one.  Chain and handler are not for light Gs, which change threads: they are left out, an exception through their
 * pthread_once leaves it undone for ever.
 *
 * Locks: the lot's, a leaf.
 */
#include "free/psync.h"
#include <pthread.h>
#include <stddef.h>
#include <unwind.h>
#include "sync/lot.h"
#include "sync/stop.h"

#define RUNNING 1
#define DONE 2

#define ONCE_WORD(o) ((_Atomic int *)(o))

/* A call of fn, on the stack of who makes it. */
struct run {
  pthread_once_t *o;
  struct run *outer;
  struct _pthread_cleanup_buffer cleanup;
};
static __thread struct run *innermost;

static bool light(void) { return g_self()->kind == G_LIGHT; }

static int running(void) { return (int)(lot_generation() << 2) | RUNNING; }

static void finish(pthread_once_t *o, int word) {
  struct lot *lot = lot_lock(o);
  /* release: what fn did; pairs with the acquires below */
  atomic_store_explicit(ONCE_WORD(o), word, memory_order_release);
  struct waiter *all = lot_pop_all(lot, o);
  lot_unlock(lot);
  lot_wake_all(all);
}

/* glibc's; not in its headers any more.  The handlers are run when a frame above them is unwound, or jumped out of. */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buf, void (*fn)(void *), void *arg);
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buf, int execute);

static void left(void *arg) {
  struct run *r = arg;
  innermost = r->outer;
  finish(r->o, 0);
}

_Unwind_Reason_Code free_once_unwind(int version, _Unwind_Action actions, _Unwind_Exception_Class cls, struct _Unwind_Exception *ex,
                                     struct _Unwind_Context *context);

_Unwind_Reason_Code free_once_unwind(int version, _Unwind_Action actions, _Unwind_Exception_Class cls, struct _Unwind_Exception *ex,
                                     struct _Unwind_Context *context) {
  (void)version, (void)cls, (void)ex, (void)context;
  struct run *r = innermost;
  if ((actions & _UA_CLEANUP_PHASE) && r && !light()) _pthread_cleanup_pop(&r->cleanup, true);
  return _URC_CONTINUE_UNWIND;
}

static __attribute__((noinline)) void run(pthread_once_t *o, void (*fn)(void)) {
  /* 0x1b: DW_EH_PE_pcrel | DW_EH_PE_sdata4. */
  __asm__ volatile(".cfi_personality 0x1b, free_once_unwind");
  struct run r = {.o = o};
  bool chained = !light();
  if (chained) {
    r.outer = innermost;
    innermost = &r;
    _pthread_cleanup_push(&r.cleanup, left, &r);
  }
  fn();
  if (chained) {
    _pthread_cleanup_pop(&r.cleanup, false);
    innermost = r.outer;
  }
  finish(o, DONE);
}

static void wait_for(pthread_once_t *o, int word) {
  struct waiter w = WAITER_INIT(o);
  w.interruptible = true;
  struct lot *lot = lot_lock(o);
  bool still = atomic_load_explicit(ONCE_WORD(o), memory_order_relaxed) == word;
  if (still) lot_push(lot, &w, false);
  lot_unlock(lot);
  if (still && lot_wait(&w, NULL, WAIT_MUTEX)) stop_notice();
}

static __attribute__((noinline)) int once_slow(pthread_once_t *o, void (*fn)(void)) {
  for (;;) {
    int old = atomic_load_explicit(ONCE_WORD(o), memory_order_acquire); /* pairs with finish */
    if (old == DONE) return 0;
    if (old == running()) {
      wait_for(o, old);
    } else if (atomic_compare_exchange_strong_explicit(ONCE_WORD(o), &old, running(), memory_order_acquire, memory_order_relaxed)) {
      run(o, fn);
      return 0;
    }
  }
}

int free_once(pthread_once_t *o, void (*fn)(void)) {
  /* acquire: pairs with finish */
  if (__builtin_expect(atomic_load_explicit(ONCE_WORD(o), memory_order_acquire) == DONE, 1)) return 0;
  return once_slow(o, fn);
}
