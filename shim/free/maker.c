/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that makes others, where there is none that can: all may be in the middle of something (core/carrier.c, where no thread was to be had).  Who makes a thread of glibc's
 * needs a TCB of its own; and one can't be had without a thread of the kernel's.  So one is harvested when the program makes its first thread, and kept.
 *
 *   NONE --maker_keep--> KEPT --free_make: cloned--> WORKS: fn runs by it --the kernel clears `alive`--> KEPT
 */
#include "free/maker.h"
#include "core/service.h"
#include "core/sys.h"
#include "core/tp.h"
#include "free/identity.h"

#define STACK (64u << 10) /* without what is thread-local */

static struct identity maker_identity; /* shim/gdb knows it by name: glibc lists its stack */
static _Atomic bool kept;              /* release when it is there: pairs with free_make */
static _Atomic bool begun;             /* somebody harvests it */

int maker_keep(void) {
  if (atomic_load_explicit(&kept, memory_order_relaxed) || atomic_exchange_explicit(&begun, true, memory_order_acquire)) return 0;
  int r = identity_harvest(&maker_identity, STACK + tp_static_bytes(), 4096);
  if (r == 0) identity_ripe(&maker_identity);
  if (r == 0)
    atomic_store_explicit(&kept, true, memory_order_release);
  else
    atomic_store_explicit(&begun, false, memory_order_release);
  return r;
}

/* All signals are blocked, so nobody waits for what it answers: its tid is nobody's to glibc. */
static void work(void *fn) {
  ((void (*)(void))fn)();
  for (;;) raw_syscall1(SYS_exit, 0);
}

/* core/carrier.c knows it by name. */
bool free_make(void (*fn)(void));
bool free_make(void (*fn)(void)) {
  uint32_t idle = 0;
  bool has = atomic_load_explicit(&kept, memory_order_acquire);
  if (!fn || !has) return has;
  if (!atomic_compare_exchange_strong_explicit(&maker_identity.alive, &idle, 1, memory_order_acquire, memory_order_relaxed))
    return false; /* the last one is still at it */
  uint64_t mask = sys_sigmask(SYS_SIGSET_ALL);
  bool begins = service_clone(maker_identity.top, maker_identity.tp, true, &maker_identity.alive, work, (void *)fn) > 0;
  if (!begins) atomic_store_explicit(&maker_identity.alive, 0, memory_order_relaxed);
  sys_sigmask(mask);
  return begins;
}

void maker_fork_child(void) {
  atomic_store_explicit(&kept, false, memory_order_relaxed); /* glibc has forgotten it */
  atomic_store_explicit(&begun, false, memory_order_relaxed);
}
