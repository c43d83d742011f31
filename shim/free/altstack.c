/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigaltstack of thread Gs.  Runtimes give each thread a stack for handlers, to tell of a stack overflow (Rust's std, varnish), and few ever use it.  So a thread G that
 * is not wired has it on paper only, and its kernel thread gets it as that G is wired: before a handler of a signal runs (kill.c).
 *
 * A fault is no signal that somebody sends: the handler that the program has for it is entered at once, on the carrier's stack for handlers.  Where the program would find
 * itself on its own, the G is wired in there, and the instruction faults again, now on a thread of the kernel's that has all that the program set.  Other signals of that
 * kind (a trap, one sent by kill) do not come again by themselves: it is sent this one.
 */
#include <errno.h>
#include <stddef.h>
#include "core/carrier.h"
#include "free/free.h"
#include "free/thread.h"

#if defined(__aarch64__)
#define LEAST 5120u /* the kernel's MINSIGSTKSZ; that of libc may be a call */
#else
#define LEAST 2048u
#endif

/* As the kernel's copy_from_user: not by a fault.  The kernel is made to read the first and the last word. */
static bool readable(const stack_t *ss) {
  static const struct timespec now = {0};
  const char *last = (const char *)(ss + 1) - sizeof(uint32_t);
  return raw_syscall4(SYS_futex, (long)ss, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, (long)&now) != -EFAULT &&
         raw_syscall4(SYS_futex, (long)last, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, (long)&now) != -EFAULT;
}

static bool is_on(const stack_t *alt, const void *sp) {
  uintptr_t low = (uintptr_t)alt->ss_sp, at = (uintptr_t)sp;
  return !(alt->ss_flags & SS_DISABLE) && at > low && at - low <= alt->ss_size;
}

static int set(stack_t *alt, const stack_t *ss) {
  unsigned mode = (unsigned)ss->ss_flags & ~SYS_SS_AUTODISARM;
  if (is_on(alt, __builtin_frame_address(0))) return -EPERM;
  if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return -EINVAL;
  if (mode != SS_DISABLE && ss->ss_size < LEAST) return -ENOMEM;
  *alt = *ss;
  if (mode == SS_DISABLE) alt->ss_sp = NULL, alt->ss_size = 0;
  return 0;
}

int altstack_of_g(struct thread *t, const stack_t *ss, stack_t *old) {
  stack_t *alt = thread_altstack(t), before = *alt;
  if (ss && ((uintptr_t)ss % _Alignof(stack_t) || !readable(ss))) return -EFAULT;
  if (old && raw_syscall2(SYS_sigaltstack, 0, (long)old) < 0) return -EFAULT; /* the carrier's, for the answer */
  int r = ss ? set(alt, ss) : 0;
  if (r < 0 || !old) return r;
  *old = before;
  old->ss_flags = (int)((before.ss_flags & SS_DISABLE ? SS_DISABLE : 0u) | ((unsigned)before.ss_flags & SYS_SS_AUTODISARM));
  return 0;
}

static bool comes_again(int sig, const siginfo_t *si) {
  return si->si_code > 0 && (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL);
}

/* Its handler is set, with SA_ONSTACK.  (One with SA_RESETHAND is not any more: it could not come again.) */
static bool is_for_altstack(int sig) {
  struct sys_action a;
  return sys_sigaction(sig, NULL, &a) == 0 && a.fn != (uintptr_t)SIG_DFL && (a.flags & SA_ONSTACK);
}

bool free_fault(int sig, siginfo_t *si, ucontext_t *uc) {
  struct thread *t = thread_self();
  if (!t || !carrier_now() || m_self->locks || (thread_altstack(t)->ss_flags & SS_DISABLE) || !is_for_altstack(sig)) return false;
  free_wire_in_handler(FREE_WIRE_ALTSTACK, uc);
  if (carrier_now()) return false;
  if (!comes_again(sig, si)) raw_syscall4(SYS_rt_tgsigqueueinfo, sys_getpid(), sys_gettid(), sig, (long)si);
  return true;
}
