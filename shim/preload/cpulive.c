/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU count of now, also before our constructor, and where no daemon is.
 *
 * Before: a library that counts in its own constructor (libgomp, OpenBLAS) does so
 * before ours has run, since a preloaded library's comes last.  It gets the count of
 * our own reading of the quota; what only the daemon knows (weights) is not in it.
 *
 * After: with a daemon the pool page says the count of now.  In a pool of our own sysmon
 * reads the quota once a second, but only while there are Ps to lease: not with RATION_THREADS=off,
 * and not while all CPUs are free to use.  So who asks for a count reads the quota
 * again, if nobody did for REREAD_NS, and writes the count into the page, which is private to us.
 *
 * quota.c needs more stack than a signal handler may have, so it runs on one of
 * our own, with all signals blocked.  There is one reader at a time: others don't wait, they take the
 * count as it is.  All that the reader uses is one mapping that a forked child finds
 * wiped, so that it doesn't miss a reader that it hasn't got.
 */
#include "preload/cpulive.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "core/gate.h"
#include "core/sched.h"
#include "daemon/quota.h"
#include "pool_params.h"
#include "preload/process.h"

#define REREAD_NS 20000000u
#define STACK_SIZE 65536u
_Static_assert(STACK_SIZE > 2 * QUOTA_STACK, "room for quota.c");

struct reader {
  _Atomic bool busy; /* acquire and release make the rest pass from one reader to the next */
  bool known;
  uint32_t ncpus;
  ucontext_t here, there;
  struct quota quota;
  char stack[STACK_SIZE] __attribute__((aligned(16)));
};
static struct reader *_Atomic reader;
static _Atomic uint64_t read_at;

static struct reader *get_reader(void) {
  struct reader *r = atomic_load_explicit(&reader, memory_order_acquire), *none = NULL; /* pairs with the exchange below */
  if (r) return r;
  long at = raw_syscall6(SYS_mmap, 0, sizeof *r, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return NULL;
  raw_syscall3(SYS_madvise, at, sizeof *r, MADV_WIPEONFORK);
  r = (struct reader *)at;
  if (atomic_compare_exchange_strong_explicit(&reader, &none, r, memory_order_acq_rel, memory_order_acquire)) return r;
  raw_syscall2(SYS_munmap, at, sizeof *r);
  return none;
}

static void reread(void) {
  struct reader *r = atomic_load_explicit(&reader, memory_order_relaxed); /* it is us */
  bool changed;
  if (!r->known || quota_refresh(&r->quota, &quota_fs_host, &changed) == -ENODEV || quota_moved(&r->quota, &quota_fs_host) == 1)
    quota_find(&r->quota, &quota_fs_host, 0);
  r->known = true;
  /* Without the affinity of this thread: the program may have pinned it, and cpucount.c knows the mask that counts. */
  struct pool_params p = page_params((struct pool_params_in){
      .cpu_micro = r->quota.quota_micro,
      .cpus_allowed = r->quota.cpus_cpuset ? r->quota.cpus_cpuset : r->quota.cpus_host,
  });
  r->ncpus = p.ncpus;
}

static void reread_on_own_stack(struct reader *r) {
  getcontext(&r->there);
  memset(&r->there.uc_sigmask, 0xff, sizeof r->there.uc_sigmask);
  r->there.uc_stack.ss_sp = r->stack;
  r->there.uc_stack.ss_size = sizeof r->stack;
  r->there.uc_link = &r->here;
  makecontext(&r->there, reread, 0);
  swapcontext(&r->here, &r->there);
}

/* The count by the quota of now; 0: it was read a moment ago, or is being read. */
static uint32_t read_again(void) {
  uint64_t now = sys_now();
  if (now - atomic_load_explicit(&read_at, memory_order_relaxed) < REREAD_NS) return 0;
  struct reader *r = get_reader();
  if (!r || atomic_exchange_explicit(&r->busy, true, memory_order_acquire)) return 0;
  reread_on_own_stack(r);
  uint32_t n = r->ncpus;
  atomic_store_explicit(&read_at, now, memory_order_relaxed);
  atomic_store_explicit(&r->busy, false, memory_order_release);
  return n;
}

static unsigned early_ncpus(void) {
  static _Atomic uint32_t count; /* relaxed: no other word goes with it */
  uint32_t n = read_again();
  if (n) atomic_store_explicit(&count, n, memory_order_relaxed);
  n = atomic_load_explicit(&count, memory_order_relaxed);
  const char *s = getenv("RATION_MAXPROCS"); /* client_env has not read it yet */
  unsigned long most = s && *s >= '1' && *s <= '9' ? strtoul(s, NULL, 10) : 0;
  return most && (n == 0 || most < n) ? (unsigned)most : n;
}

static struct pool_page *page_now(void) {
  struct pool_page *pg = __atomic_load_n(&sched.page, __ATOMIC_ACQUIRE); /* pairs with use_page in client/attach.c */
  return pg ? pg : sched_count_page;
}

unsigned cpulive_ncpus(void) {
  struct pool_page *pg = page_now();
  if (!pg) {
    process_ready(); /* before our constructor: nothing is put off yet */
    pg = page_now();
  }
  if (!pg) return early_ncpus(); /* also in the child of a fork that came before there was one, and that does not attach */
  if (atomic_load_explicit(&pg->flags, memory_order_relaxed) & POOL_F_STANDALONE) {
    uint32_t n = read_again();
    if (n) atomic_store_explicit(&pg->ncpus, n, memory_order_relaxed); /* as sysmon does: no other word goes with it */
  }
  return gate_ncpus();
}
