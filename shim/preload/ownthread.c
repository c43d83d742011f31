/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free mode: calls that change what Linux has for each of its threads (credentials for files, the directory after unshare, timer slack, ...). A thread G
 * gets a kernel thread for them, and that one ends with it: no other G is to find what was changed.
 */
#include "preload/ownthread.h"
#include <linux/capability.h>
#if defined(__x86_64__)
#include <asm/prctl.h>
#endif
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include "free/free.h"
#include "preload/real.h"

#define REAL_OWN(X)                    \
  X(int, setfsuid, (uid_t))            \
  X(int, setfsgid, (gid_t))            \
  X(int, personality, (unsigned long)) \
  X(int, capset, (cap_user_header_t, const cap_user_data_t))
REAL_DEFINE(REAL_OWN)
#if defined(__x86_64__)
#define REAL_ARCH(X) X(int, arch_prctl, (int, unsigned long))
REAL_DEFINE(REAL_ARCH)
#endif

void ownthread_before(void) {
  if (__builtin_expect(free_mode, 0)) free_wire_alone();
}

void ownthread_before_prctl(int option) {
  switch (option) {
    case PR_SET_PDEATHSIG:
    case PR_SET_TIMERSLACK:
    case PR_SET_SECCOMP:
    case PR_SET_NO_NEW_PRIVS:
    case PR_SET_KEEPCAPS:
    case PR_SET_SECUREBITS:
    case PR_CAPBSET_DROP:
    case PR_CAP_AMBIENT:
    case PR_SET_TSC:
    case PR_MCE_KILL:
    case PR_SET_IO_FLUSHER:
    case PR_SET_SPECULATION_CTRL:
    case PR_SCHED_CORE:
    case PR_SET_SYSCALL_USER_DISPATCH:
      ownthread_before();
      break;
    default:
      break;
  }
}

#if defined(__x86_64__)
/* GS is the program's to use; FS is where a thread is found, and nobody changes that. */
static void before_arch_prctl(long code) {
  if (code == ARCH_SET_GS || code == ARCH_SET_CPUID) ownthread_before();
}

int arch_prctl(int code, unsigned long value);
EXPORT int arch_prctl(int code, unsigned long value) {
  before_arch_prctl(code);
  return REAL(arch_prctl)(code, value);
}
#endif

void ownthread_before_syscall(long nr, const long *a) {
  switch (nr) {
    case SYS_setpriority:
      if (a[0] == PRIO_PROCESS && a[1] == 0) ownthread_before();
      break;
    case SYS_timer_create:
      if (a[0] == CLOCK_THREAD_CPUTIME_ID) ownthread_before();
      break;
    case SYS_perf_event_open:
      if (a[1] == 0) ownthread_before();
      break;
    case SYS_sched_setscheduler:
    case SYS_sched_setparam:
    case SYS_sched_setattr:
      if (a[0] == 0) ownthread_before();
      break;
#if defined(__x86_64__)
    case SYS_arch_prctl:
      before_arch_prctl(a[0]);
      break;
#endif
    case SYS_setfsuid:
    case SYS_setfsgid:
    case SYS_capset:
    case SYS_personality:
    case SYS_ioprio_set:
    case SYS_unshare:
    case SYS_setns:
    case SYS_seccomp:
    case SYS_set_mempolicy:
    case SYS_keyctl:
    case SYS_set_robust_list:
    case SYS_sigaltstack:
    case SYS_landlock_restrict_self:
    case SYS_ptrace:
    case SYS_rseq:
      ownthread_before();
      break;
    default:
      break;
  }
}

EXPORT int setfsuid(uid_t uid) {
  ownthread_before();
  return REAL(setfsuid)(uid);
}

EXPORT int setfsgid(gid_t gid) {
  ownthread_before();
  return REAL(setfsgid)(gid);
}

EXPORT int personality(unsigned long persona) {
  if (persona != 0xffffffff) ownthread_before(); /* which only asks */
  return REAL(personality)(persona);
}

int capset(cap_user_header_t header, const cap_user_data_t data);
EXPORT int capset(cap_user_header_t header, const cap_user_data_t data) {
  ownthread_before();
  return REAL(capset)(header, data);
}
