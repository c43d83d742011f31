/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service threads (sysmon, the poller): clone by hand.
 *
 * Not pthread_create, because glibc would count them: a program whose last thread
 * has called pthread_exit would never end, and setuid() would wait for their answer.  The
 * price: no TLS.  The FS base points into zeroed memory, so a stray access to an
 * initial-exec variable reads 0 and harms nobody; stack canary and pointer guard are
 * copied, for the functions of libc that check them.
 *
 * A file of the program's should not be held, not even for a moment: another thread may have just made a pipe and closed an end, and wants EPIPE of the other.  So the thread shares the
 * descriptor table until it leaves it for an empty one (close_range, which copies nothing up to Linux 6.11, and since then the first 64, for the microsecond until it has closed them).
 * Where that is refused, or descriptors are handed on (a trace), the table is copied by clone, and all else in it closed.  No thread of the program's is disturbed while it has one: so
 * processes start their service threads before their second one (client_ready), but for those that change credentials with threads about.
 *
 * Valgrind knows the flags of pthread_create's clone, and ends the program at others.  There the thread shares
 * the descriptor table at first, and takes a copy with unshare (elsewhere a sandbox may refuse that).
 */
#include "core/service.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "core/fiber.h"
#include "core/sys.h"
#include "core/tp.h"

#define STACK_BYTES 65536u
#define FDS_MOST 8u

enum table {
  TABLE_SAME,  /* the caller's, for good */
  TABLE_EMPTY, /* the caller's until it has left it for an empty one */
  TABLE_COPY,  /* copied by clone */
  TABLE_LATER  /* the caller's until it has copied it */
};

struct start {
  void (*fn)(struct service *svc);
  struct service *svc;
  char name[16];
  int fds[FDS_MOST];
  unsigned nfds;
  enum table table;
  _Atomic uint32_t done; /* futex: it has its table, or has not got one */
};
enum { DONE_FINE = 1, DONE_REFUSED };

/*
 * Service threads run for microseconds and everyone waits for them.  EEVDF lets a task ask for a short slice, by
 * which it is picked earlier (Linux >= 6.12, no privilege; older kernels take the call and do nothing).
 */
static void ask_for_short_slices(void) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } a = {.size = sizeof a};
  if (raw_syscall4(SYS_sched_getattr, 0, (long)&a, sizeof a, 0) < 0 || a.policy != SCHED_OTHER) return;
  a.runtime = 100000;
  raw_syscall3(SYS_sched_setattr, 0, (long)&a, 0);
}

/* A table of its own, with only its descriptors. */
static bool take_table(const struct start *s) {
  if (s->table == TABLE_SAME) return true;
  if (s->table == TABLE_EMPTY) return raw_syscall3(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0;
  if (s->table == TABLE_LATER && raw_syscall1(SYS_unshare, CLONE_FILES) < 0) return false;
  /* Two steps, for the sources may lie among the targets. */
  int high[FDS_MOST];
  for (unsigned i = 0; i < s->nfds; i++) high[i] = (int)raw_syscall3(SYS_fcntl, s->fds[i], F_DUPFD_CLOEXEC, FDS_MOST);
  for (unsigned i = 0; i < s->nfds; i++) raw_syscall3(SYS_dup3, high[i], (int)i, O_CLOEXEC);
  raw_syscall3(SYS_close_range, s->nfds, ~0u, 0);
  return true;
}

static void service_body(void *arg) {
  struct start *s = arg;
  raw_syscall5(SYS_prctl, PR_SET_NAME, (long)s->name, 0, 0, 0);
  ask_for_short_slices();
  bool fine = take_table(s);
  void (*fn)(struct service *) = s->fn;
  struct service *svc = s->svc;
  atomic_store_explicit(&s->done, fine ? DONE_FINE : DONE_REFUSED, memory_order_release); /* pairs with the wait in start_with */
  sys_futex_wake(&s->done, 1, false);
  if (fine) fn(svc);
  for (;;) raw_syscall1(SYS_exit, 0);
}

long service_clone(void *stack_top, void *tp, bool files, _Atomic uint32_t *alive, void (*fn)(void *arg), void *arg) {
  unsigned long flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_CHILD_CLEARTID;
  if (files) flags |= CLONE_FILES;
#if defined(__x86_64__)
  long ret;
  register long r10 __asm__("r10") = (long)alive;
  register long r8 __asm__("r8") = (long)tp;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "mov %[arg], %%rdi\n\t"
      "mov %[fn], %%rax\n\t"
      "xor %%ebp, %%ebp\n\t" /* last: an operand may be in it */
      "call *%%rax\n\t"
      "hlt\n"
      "1:"
      : "=a"(ret)
      : "a"(SYS_clone), "D"(flags), "S"(stack_top), "d"(0), "r"(r10), "r"(r8), [arg] "r"(arg), [fn] "r"(fn)
      : "rcx", "r11", "memory");
  return ret;
#elif defined(__aarch64__)
  register long x0 __asm__("x0") = (long)flags;
  register long x1 __asm__("x1") = (long)stack_top;
  register long x2 __asm__("x2") = 0;
  register long x3 __asm__("x3") = (long)tp;
  register long x4 __asm__("x4") = (long)alive;
  register long x8 __asm__("x8") = SYS_clone;
  __asm__ volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x0, %[arg]\n\t"
      "mov x9, %[fn]\n\t"
      "mov x29, xzr\n\t" /* last: an operand may be in it */
      "blr x9\n\t"
      "brk #1\n"
      "1:"
      : "+r"(x0)
      : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x8), [arg] "r"(arg), [fn] "r"(fn)
      : "x9", "x30", "memory", "cc");
  return x0;
#else
#error "no service threads on this machine yet"
#endif
}

/* A thread pointer with zeroed memory on both sides, and what glibc keeps at fixed places of the TCB. */
static char *fake_tcb(char *middle) {
#if defined(__x86_64__)
  unsigned long canary, guard;
  __asm__("mov %%fs:0x28, %0" : "=r"(canary));
  __asm__("mov %%fs:0x30, %0" : "=r"(guard));
  unsigned long self = (unsigned long)middle;
  memcpy(middle, &self, sizeof self);
  memcpy(middle + 0x10, &self, sizeof self);
  memcpy(middle + 0x28, &canary, sizeof canary);
  memcpy(middle + 0x30, &guard, sizeof guard);
#endif
  return middle;
}

/* On either side of the thread pointer; only touched pages cost. */
static long mem_bytes(void) { return (long)(STACK_BYTES + 2 * tp_static_bytes()); }

/* Those that were started, in no order; statics all. */
static _Atomic(struct service *) all[SERVICES_MOST];

static void remember(struct service *svc) {
  for (uint32_t i = 0; i < SERVICES_MOST; i++) {
    struct service *none = NULL;
    if (atomic_load_explicit(&all[i], memory_order_relaxed) == svc ||
        atomic_compare_exchange_strong_explicit(&all[i], &none, svc, memory_order_relaxed, memory_order_relaxed))
      return;
  }
}

bool service_is(uint32_t tid) {
  for (uint32_t i = 0; i < SERVICES_MOST; i++) {
    const struct service *svc = atomic_load_explicit(&all[i], memory_order_relaxed);
    if (svc && __atomic_load_n(&svc->tid, __ATOMIC_RELAXED) == (int)tid && atomic_load_explicit(&svc->alive, memory_order_relaxed))
      return true;
  }
  return false;
}

/* How far it got (DONE_...), or -errno. */
static int start_with(enum table table, struct service *svc, const char *name, void (*fn)(struct service *svc), const int *fds,
                      unsigned nfds) {
  long at = raw_syscall6(SYS_mmap, 0, mem_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at < 0 && at > -4096) return (int)at;
  raw_syscall3(SYS_mprotect, at, 4096, PROT_NONE);
  struct start *s = (struct start *)(at + STACK_BYTES - sizeof(struct start));
  *s = (struct start){.fn = fn, .svc = svc, .nfds = nfds, .table = table};
  for (size_t i = 0; i < sizeof s->name - 1 && name[i]; i++) s->name[i] = name[i];
  for (unsigned i = 0; i < nfds; i++) s->fds[i] = fds[i];
  char *top = (char *)((uintptr_t)s & ~(uintptr_t)63);
  uint64_t mask = sys_sigmask(SYS_SIGSET_ALL);
  atomic_store_explicit(&svc->stop, false, memory_order_relaxed);
  atomic_store_explicit(&svc->alive, 1, memory_order_relaxed);
  char *tp = fake_tcb((char *)at + STACK_BYTES + tp_static_bytes());
  long tid = service_clone(top, tp, table != TABLE_COPY, &svc->alive, service_body, s);
  if (tid < 0) {
    atomic_store_explicit(&svc->alive, 0, memory_order_relaxed);
    raw_syscall2(SYS_munmap, at, mem_bytes());
  }
  /* Its copies of our descriptors are made before the caller may close the originals. */
  uint32_t done = 0;
  while (tid > 0 && (done = atomic_load_explicit(&s->done, memory_order_acquire)) == 0) sys_futex_wait(&s->done, 0, SYS_FOREVER, false);
  sys_sigmask(mask);
  __atomic_store_n(&svc->tid, tid < 0 ? 0 : (int)tid, __ATOMIC_RELAXED); /* service_is: of one that is just born it may know nothing */
  remember(svc);
  svc->mem = tid < 0 ? NULL : (void *)at;
  return tid < 0 ? (int)tid : (int)done;
}

int service_start(struct service *svc, const char *name, void (*fn)(struct service *svc), const int *fds, unsigned nfds) {
  bool same = nfds == SERVICE_SAME_FILES;
  if (nfds > FDS_MOST) nfds = same ? 0 : FDS_MOST;
  enum table copy = valgrind_here() ? TABLE_LATER : TABLE_COPY;
  enum table table = same ? TABLE_SAME : nfds || copy == TABLE_LATER ? copy : TABLE_EMPTY;
  int r = start_with(table, svc, name, fn, fds, nfds);
  if (r == DONE_REFUSED && table == TABLE_EMPTY) {
    service_join(svc, SYS_FOREVER);
    r = start_with(copy, svc, name, fn, fds, nfds);
  }
  return r < 0 ? r : r == DONE_FINE ? 0 : -EPERM;
}

int service_join(struct service *svc, uint64_t until) {
  while (atomic_load_explicit(&svc->alive, memory_order_acquire)) { /* pairs with the kernel's store at exit */
    /* the kernel wakes a shared futex */
    if (sys_futex_wait(&svc->alive, 1, until, true) == -ETIMEDOUT) return -ETIMEDOUT;
  }
  /* The kernel clears the word a little before the thread has left the thread group, which unshare() wants to be of one. */
  _Atomic uint32_t never = 0;
  while (raw_syscall3(SYS_tgkill, sys_getpid(), svc->tid, 0) == 0 && sys_now() < until) sys_futex_wait(&never, 0, sys_now() + 20000, false);
  if (svc->mem) raw_syscall2(SYS_munmap, (long)svc->mem, mem_bytes());
  *svc = (struct service){.tid = 0};
  return 0;
}
