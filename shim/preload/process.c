/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process does to itself: fork, exec, spawn, credentials, sandboxes.
 *
 * fork.  glibc's fork, forkpty and daemon all run the handlers of
 * pthread_atfork, also when they call fork inside libc; so ours are such handlers.  They
 * are registered before any other (__register_atfork is wrapped for that), so they run last before
 * the fork and first after it: the program's handlers may block, and need the gate.
 * Between prepare and the fork itself glibc takes the locks of malloc and
 * stdio, whose owners may wait for a P: whoever held the scheduler's lock meanwhile would wait for them
 * for ever.  So nothing is held across the fork; the child makes the whole state anew, in whatever state its
 * copy is (gate_fork_child looks at the words of its own M only).
 * _Fork and clone without CLONE_VM run no handlers: they have wrappers.
 *
 * vfork has none: its wrapper jumps to libc's (leap_x86_64.S), for a C function that calls vfork returns in the child
 * and destroys the frame that the parent comes back to.  And the child is the parent's
 * thread in all but the pid: the kernel stops the parent, the child runs on its stack
 * and TLS, so it borrows the parent's M and G as well, and gives all back by exec or _exit.  It is not scheduled (m_is_borrowed).  What would
 * harm the parent (giving up its P for an exec, changing its shadow mask) is asked of process_in_vfork_child() first.
 *
 * In free mode a thread G that forks, in whatever way, is wired before it.  To the kernel it is the thread that forked whose child this is: whom ptrace is allowed to, and whose end the
 * child is told of (PR_SET_PDEATHSIG).  And a child of vfork that parked, or set a mask on paper, would do so in its parent.
 *
 * exec and spawn: the new program inherits mask and dispositions, so they are made what our program thinks they are.  In a light G
 * that is not the mask of the carrier but light.mask.
 *
 * Not wrapped: _exit, quick_exit, abort: the daemon sees the hang-up.
 */
#include "preload/ownthread.h"
#include "client/client.h"
#include "preload/process.h"
#include "preload/thread.h"
#include "preload/call.h"

#include <dlfcn.h>
#include <grp.h>
#include <pthread.h>
#include <string.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <unistd.h>
#include "core/netpoll.h"
#include "core/carrier.h"
#include "free/free.h"
#include "free/thread.h"
#include "core/sched.h"
#include "core/sys.h"
#include "preload/errand.h"
#include "preload/lightio.h"
#include "ration/g.h"
#include "sync/lot.h"

typedef void fork_hook(void);

#define REAL_PROCESS(X)                                                                                                   \
  X(int, __register_atfork, (fork_hook *, fork_hook *, fork_hook *, void *))                                              \
  X(pid_t, vfork, (void))                                                                                                 \
  X(void *, dlopen, (const char *, int))                                                                                  \
  X(pid_t, _Fork, (void))                                                                                                 \
  X(int, clone, (int (*)(void *), void *, int, void *, ...))                                                              \
  X(int, execve, (const char *, char *const[], char *const[]))                                                            \
  X(int, execvpe, (const char *, char *const[], char *const[]))                                                           \
  X(int, fexecve, (int, char *const[], char *const[]))                                                                    \
  X(int, execveat, (int, const char *, char *const[], char *const[], int))                                                \
  X(int, posix_spawn,                                                                                                     \
    (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[])) \
  X(int, posix_spawnp,                                                                                                    \
    (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[])) \
  X(int, system, (const char *))                                                                                          \
  X(FILE *, popen, (const char *, const char *))                                                                          \
  X(int, pclose, (FILE *))                                                                                                \
  X(int, setuid, (uid_t))                                                                                                 \
  X(int, setgid, (gid_t))                                                                                                 \
  X(int, setreuid, (uid_t, uid_t))                                                                                        \
  X(int, setregid, (gid_t, gid_t))                                                                                        \
  X(int, setresuid, (uid_t, uid_t, uid_t))                                                                                \
  X(int, setresgid, (gid_t, gid_t, gid_t))                                                                                \
  X(int, seteuid, (uid_t))                                                                                                \
  X(int, setegid, (gid_t))                                                                                                \
  X(int, setgroups, (size_t, const gid_t *))                                                                              \
  X(int, initgroups, (const char *, gid_t))                                                                               \
  X(int, prctl, (int, ...))                                                                                               \
  X(int, unshare, (int))                                                                                                  \
  X(int, setns, (int, int))                                                                                               \
  X(int, chroot, (const char *))                                                                                          \
  X(int, setrlimit, (__rlimit_resource_t, const struct rlimit *))                                                         \
  X(int, setrlimit64, (__rlimit_resource_t, const struct rlimit64 *))                                                     \
  X(long, ptrace, (int, ...))
REAL_DEFINE(REAL_PROCESS)

/* Whose memory this is; 0 before our constructor.  Set anew in each forked child. */
static _Atomic pid_t self_pid;
/* We have stepped aside: no threads of our own any more. */
static _Atomic bool aside;

static bool off(void) { return gate_mode() == RATION_MODE_OFF; }

bool process_in_vfork_child(void) {
  pid_t self = atomic_load_explicit(&self_pid, memory_order_relaxed);
  if (self == 0 || atomic_load_explicit(&aside, memory_order_relaxed)) return false;
  return self != (pid_t)sys_getpid();
}

static void step_aside(const char *why) {
  if (process_in_vfork_child()) return; /* the child's own affair: it will exec */
  /* With RATION_THREADS=off too: there is a service thread all the same. */
  gate_step_aside(why);
  atomic_store_explicit(&aside, true, memory_order_relaxed); /* for this thread, and others when they see it */
}

/* No system calls of our own from here on: a filter may kill us for one.  Once: this makes some. */
static void before_filter(void) {
  if (process_in_vfork_child() || atomic_exchange_explicit(&sys_aside, true, memory_order_relaxed)) return;
  if (free_mode) free_wire_all();
  step_aside("seccomp");
}

/* --- fork --- */

/*
 * A light G is not preempted in between: it would keep malloc's locks until it has its turn again, and a carrier that makes
 * another one meanwhile would wait for them with the P's queue in its hands.
 */
void process_fork_prepare(void) {
  if (__builtin_expect(free_mode, 0)) free_wire(FREE_WIRE_OTHER);
  ration_lock_os_thread();
  netpoll_shared();
}
void process_fork_parent(void) { ration_unlock_os_thread(); }

void process_fork_child(void) {
  atomic_store_explicit(&self_pid, (pid_t)sys_getpid(), memory_order_relaxed); /* one thread yet */
  signal_fork_child();
  thread_fork_child();
  if (off()) {
    client_forget_services();
    light_fork_child(m_self);
  } else {
    gate_fork_child();
  }
}

static void register_ours(void) {
  static _Atomic bool done;
  if (atomic_exchange_explicit(&done, true, memory_order_relaxed)) return; /* a constructor: one thread */
  atomic_store_explicit(&self_pid, (pid_t)sys_getpid(), memory_order_relaxed);
  REAL(__register_atfork)(process_fork_prepare, process_fork_parent, process_fork_child, NULL);
}

__attribute__((constructor(102))) static void process_constructor(void) { register_ours(); }

int __register_atfork(fork_hook *prepare, fork_hook *parent, fork_hook *child, void *dso);
EXPORT int __register_atfork(fork_hook *prepare, fork_hook *parent, fork_hook *child, void *dso) {
  register_ours();
  return REAL(__register_atfork)(prepare, parent, child, dso);
}

EXPORT pid_t _Fork(void) {
  process_fork_prepare();
  pid_t pid = REAL(_Fork)();
  if (pid == 0)
    process_fork_child();
  else
    process_fork_parent();
  return pid;
}

/* What vfork goes on to, which is libc's: see leap_x86_64.S. */
real_fn_vfork *process_before_vfork(void);
real_fn_vfork *process_before_vfork(void) {
  if (__builtin_expect(free_mode, 0)) free_wire(FREE_WIRE_OTHER);
  return REAL(vfork);
}

struct clone_start {
  int (*fn)(void *);
  void *arg;
};

/* The child has a copy of all memory, so also of the parent's frame that this is in. */
static int clone_child(void *start) {
  struct clone_start *s = start;
  process_fork_child();
  return s->fn(s->arg);
}

EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...) {
  va_list ap;
  va_start(ap, arg);
  void *ptid = va_arg(ap, void *), *tls = va_arg(ap, void *), *ctid = va_arg(ap, void *);
  va_end(ap);
  if (flags & CLONE_VM) {
    /* With our TLS and beside us: two threads on one M. Nobody can tell them apart. */
    if (__builtin_expect(free_mode, 0)) free_wire(FREE_WIRE_OTHER);
    if (!(flags & (CLONE_VFORK | CLONE_SETTLS))) step_aside("clone(CLONE_VM) without a TLS of its own");
    return REAL(clone)(fn, stack, flags, arg, ptid, tls, ctid);
  }
  struct clone_start start = {fn, arg};
  if (!fn || !stack) return REAL(clone)(fn, stack, flags, arg, ptid, tls, ctid);
  process_fork_prepare();
  int pid = REAL(clone)(clone_child, stack, flags, &start, ptid, tls, ctid);
  process_fork_parent();
  return pid;
}
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...) CALL_ALIAS(clone);

/*
 * --- libraries ---
 *
 * In free mode pthread objects are ours.  With RTLD_DEEPBIND a library finds libc's functions before ours, and would leave out of a queue, or not wake, whoever waits by the
 * others.  Without it the library may find another's symbol of a name that it has as well.
 */
struct dlopen_leap {
  real_fn_dlopen *to;
  long flags;
};
struct dlopen_leap process_before_dlopen(int flags);
struct dlopen_leap process_before_dlopen(int flags) {
  if (__builtin_expect(free_mode, 0)) flags &= ~RTLD_DEEPBIND;
  return (struct dlopen_leap){REAL(dlopen), flags};
}

/* --- exec --- */

#define EXEC_GATE 0x100u
#define EXEC_MASK 0x200u

unsigned process_exec_begin(void) {
  unsigned what = 0;
  if (signal_carriers_mask()) {
    what = EXEC_MASK;
    sys_sigmask(light_mask());
  }
  what |= signal_exec_begin();
  if (process_in_vfork_child()) return what;
  gate_exec_prepare();
  return what | EXEC_GATE;
}

void process_exec_failed(unsigned what) {
  if (what & EXEC_GATE) gate_exec_failed();
  signal_exec_failed(what & ~(EXEC_GATE | EXEC_MASK));
  if (what & EXEC_MASK) sys_sigmask(carrier_sigmask());
}

#define EXEC(call)                         \
  ({                                       \
    unsigned what_ = process_exec_begin(); \
    int r_ = (call);                       \
    process_exec_failed(what_);            \
    r_;                                    \
  })

EXPORT int execve(const char *path, char *const argv[], char *const envp[]) { return EXEC(REAL(execve)(path, argv, envp)); }
EXPORT int execv(const char *path, char *const argv[]) { return EXEC(REAL(execve)(path, argv, environ)); }
EXPORT int execvp(const char *file, char *const argv[]) { return EXEC(REAL(execvpe)(file, argv, environ)); }
EXPORT int execvpe(const char *file, char *const argv[], char *const envp[]) { return EXEC(REAL(execvpe)(file, argv, envp)); }
EXPORT int fexecve(int fd, char *const argv[], char *const envp[]) { return EXEC(REAL(fexecve)(fd, argv, envp)); }
EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags) {
  return EXEC(REAL(execveat)(dir, path, argv, envp, flags));
}

/* The list forms: counts the arguments, then copies them to the stack. Nothing else is safe after vfork. */
static size_t list_length(va_list ap) {
  size_t n = 1;
  while (va_arg(ap, char *)) n++;
  return n;
}

#define LIST_TO_ARGV(argv, first)       \
  va_list ap_;                          \
  va_start(ap_, first);                 \
  size_t n_ = list_length(ap_);         \
  va_end(ap_);                          \
  char *argv[n_ + 1];                   \
  va_start(ap_, first);                 \
  argv[0] = (char *)(uintptr_t)(first); \
  for (size_t i_ = 1; i_ <= n_; i_++) argv[i_] = va_arg(ap_, char *)

EXPORT int execl(const char *path, const char *arg, ...) {
  LIST_TO_ARGV(argv, arg);
  va_end(ap_);
  return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *arg, ...) {
  LIST_TO_ARGV(argv, arg);
  va_end(ap_);
  return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *arg, ...) {
  LIST_TO_ARGV(argv, arg);
  char *const *envp = va_arg(ap_, char *const *);
  va_end(ap_);
  return execve(path, argv, envp);
}

/* --- spawn: the child inherits the mask of this thread, and the parent waits until it has exec'ed --- */

/* For a light G: the child gets the program's mask, not the carrier's, unless the caller names one. */
static const posix_spawnattr_t *spawn_attr(const posix_spawnattr_t *attr, posix_spawnattr_t *ours) {
  short flags = 0;
  sigset_t mask;
  if (!signal_carriers_mask()) return attr;
  if (attr) {
    *ours = *attr; /* plain data in glibc, also what has no getter everywhere (cgroup) */
    posix_spawnattr_getflags(attr, &flags);
  } else {
    posix_spawnattr_init(ours);
  }
  if (flags & POSIX_SPAWN_SETSIGMASK) return attr;
  sigemptyset(&mask);
  uint64_t word = light_mask();
  memcpy(&mask, &word, sizeof word);
  posix_spawnattr_setsigmask(ours, &mask);
  posix_spawnattr_setflags(ours, (short)(flags | POSIX_SPAWN_SETSIGMASK));
  return ours;
}

#define SPAWN_MASKED(type, call)         \
  ({                                     \
    bool opened_ = signal_spawn_begin(); \
    type r_ = (call);                    \
    signal_spawn_end(opened_);           \
    r_;                                  \
  })
#define SPAWN(type, enter, call) CALL_ONCE_(type, enter, SPAWN_MASKED(type, call))

EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *restrict acts,
                       const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict]) {
  posix_spawnattr_t ours;
  netpoll_shared();
  return SPAWN(int, call_enter(), REAL(posix_spawn)(pid, path, acts, spawn_attr(attr, &ours), argv, envp));
}

EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *restrict acts,
                        const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict]) {
  posix_spawnattr_t ours;
  netpoll_shared();
  return SPAWN(int, call_enter(), REAL(posix_spawnp)(pid, file, acts, spawn_attr(attr, &ours), argv, envp));
}

EXPORT int system(const char *command) {
  int status;
  netpoll_shared();
  if (command && errand_system(command, &status)) return status;
  return SPAWN(int, call_enter_blocking(WAIT_CHILD), REAL(system)(command));
}

EXPORT FILE *popen(const char *command, const char *mode) {
  FILE *f;
  netpoll_shared();
  if (errand_popen(command, mode, &f)) return f;
  return SPAWN(FILE *, call_enter(), REAL(popen)(command, mode));
}

EXPORT int pclose(FILE *f) { return CALL_ONCE_BLOCKING(int, WAIT_CHILD, REAL(pclose)(f)); }

/* --- credentials: glibc changes those of its threads, and waits for them --- */

#define CREDS(call, nr, a0, a1, a2)                                                                      \
  ({                                                                                                     \
    int r_ = CALL_ONCE(int, call);                                                                       \
    if (r_ == 0 && !process_in_vfork_child()) gate_mirror_creds(nr, (long)(a0), (long)(a1), (long)(a2)); \
    r_;                                                                                                  \
  })

EXPORT int setuid(uid_t u) { return CREDS(REAL(setuid)(u), SYS_setuid, u, 0, 0); }
EXPORT int setgid(gid_t g) { return CREDS(REAL(setgid)(g), SYS_setgid, g, 0, 0); }
EXPORT int setreuid(uid_t r, uid_t e) { return CREDS(REAL(setreuid)(r, e), SYS_setreuid, r, e, 0); }
EXPORT int setregid(gid_t r, gid_t e) { return CREDS(REAL(setregid)(r, e), SYS_setregid, r, e, 0); }
EXPORT int setresuid(uid_t r, uid_t e, uid_t s) { return CREDS(REAL(setresuid)(r, e, s), SYS_setresuid, r, e, s); }
EXPORT int setresgid(gid_t r, gid_t e, gid_t s) { return CREDS(REAL(setresgid)(r, e, s), SYS_setresgid, r, e, s); }
EXPORT int seteuid(uid_t e) { return CREDS(REAL(seteuid)(e), SYS_setresuid, -1, e, -1); }
EXPORT int setegid(gid_t e) { return CREDS(REAL(setegid)(e), SYS_setresgid, -1, e, -1); }
EXPORT int setgroups(size_t n, const gid_t *list) { return CREDS(REAL(setgroups)(n, list), SYS_setgroups, n, list, 0); }

/* It ends in a setgroups inside libc; what that set, we read back. */
EXPORT int initgroups(const char *user, gid_t group) {
  int r = CALL_ONCE(int, REAL(initgroups)(user, group));
  if (r != 0 || process_in_vfork_child()) return r;
  int saved = errno, n = getgroups(0, NULL);
  gid_t few[64], *list = n <= 64 ? few : malloc((size_t)n * sizeof *list);
  if (list && (n = getgroups(n, list)) >= 0) gate_mirror_creds(SYS_setgroups, n, (long)list, 0);
  if (list != few) free(list);
  errno = saved;
  return r;
}

/* --- sandboxes --- */

/* After any of these our own threads or system calls could break the program, or the kernel refuses to a process with threads. */
static void process_before_prctl(int option) {
  /* Not PR_SET_NO_NEW_PRIVS: that alone forbids nothing that we do. */
  if (option == PR_SET_SECCOMP) before_filter();
  if (option == PR_SET_TSC) atomic_store_explicit(&sys_tsc_may_fault, true, memory_order_relaxed);
}

void process_before_seccomp(unsigned op) {
  if (op == SECCOMP_SET_MODE_STRICT || op == SECCOMP_SET_MODE_FILTER) before_filter();
}

void process_before_unshare(int flags) {
  if (flags & (CLONE_NEWUSER | CLONE_NEWTIME | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) step_aside("unshare");
}

void process_before_setns(void) { step_aside("setns"); }

void process_before_ptrace(long request) {
  if (request == PTRACE_TRACEME) step_aside("ptrace");
}

EXPORT int prctl(int option, ...) {
  va_list ap;
  va_start(ap, option);
  unsigned long a = va_arg(ap, unsigned long), b = va_arg(ap, unsigned long), c = va_arg(ap, unsigned long), d = va_arg(ap, unsigned long);
  va_end(ap);
  process_before_prctl(option);
  ownthread_before_prctl(option);
  struct thread *self = thread_self();
  if (self && option == PR_GET_TID_ADDRESS && sys_can_write((void *)a, sizeof(int *))) return *(int **)a = thread_tid_address(self), 0;
  if (self && option == PR_GET_NAME && sys_can_write((void *)a, 16)) return thread_get_name(self, (char *)a), 0;
  int r = REAL(prctl)(option, a, b, c, d); /* which says what is not there */
  if (self && option == PR_SET_NAME && r == 0) thread_set_name(self, (const char *)a);
  return r;
}

EXPORT int unshare(int flags) {
  process_before_unshare(flags);
  ownthread_before();
  return REAL(unshare)(flags);
}

EXPORT int setns(int fd, int type) {
  process_before_setns();
  ownthread_before();
  return REAL(setns)(fd, type);
}

/* The memory in the child of a vfork is its parent's, and so is what is put off. */
void process_ready(void) {
  if (!process_in_vfork_child()) client_ready();
}

/* The socket may not be there in its new root directory, nor descriptors and memory within its new limits. */
EXPORT int chroot(const char *path) {
  process_ready();
  return REAL(chroot)(path);
}

EXPORT int setrlimit(__rlimit_resource_t what, const struct rlimit *set) {
  process_ready();
  return REAL(setrlimit)(what, set);
}

EXPORT int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *set) {
  process_ready();
  return REAL(setrlimit64)(what, set);
}

EXPORT long ptrace(enum __ptrace_request request, ...) {
  va_list ap;
  va_start(ap, request);
  pid_t pid = va_arg(ap, pid_t);
  void *addr = va_arg(ap, void *), *data = va_arg(ap, void *), *addr2 = va_arg(ap, void *);
  va_end(ap);
  process_before_ptrace((long)request);
  ownthread_before(); /* who traces is a thread, not a process */
  return REAL(ptrace)((int)request, pid, addr, data, addr2);
}
