/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals.  Two tasks:
 *
 * 1. To know when a handler of the program runs.  Every handler that the program
 *    sets is called through on_signal(), which counts it, and takes the thread
 *    out of the bracket if it was in a wrapped call, so that the handler runs with a P
 *    and may leave by siglongjmp.  sigaction gives back what the program set: the
 *    kernel's flags and mask are the program's own, only the function is ours, so all flags
 *    (SA_RESETHAND, SA_NODEFER, SA_ONSTACK, SA_RESTART) work by themselves.
 *    SIG_DFL and SIG_IGN go to the kernel untouched and leave the table alone: a
 *    child of vfork that resets its signals must not reset ours.  In free mode the default of SIGPIPE and SIGXFSZ
 *    is a handler as well, which does what the kernel would have done (free/kill.c).
 *
 *    EINTR repair: a wrapped call that fails with EINTR, while the count of
 *    silent SIGURGs moved and that of the program's handlers did not, is made again.
 *
 * 2. To share SIGURG.  The kernel's handler is on_urg(); it asks the core whether
 *    the signal is ours (gate_sigurg).  If not it is a foreign one, and does what the
 *    program's own disposition says, kept in urg_ring.
 *
 *    Masks.  A program that blocks all signals in its workers does not mean our
 *    preemption.  So SIGURG is kept out of the real mask, and `blocked` (the shadow) says what the
 *    program thinks:
 *
 *      shared:  real mask never has SIGURG (but while a handler runs whose sa_mask has it)
 *      owned:   the real mask is the program's; nobody in ration sends SIGURG to this process any more
 *
 *      shared --signalfd with SIGURG, or a foreign SIGURG meets a shadow--> owned, for good
 *
 *    A foreign SIGURG that arrives where the shadow is set should have been
 *    held pending.  on_urg blocks it for real on this thread (by the mask that the
 *    handler returns to) and sends it again, to the process or the thread as it was: now the
 *    kernel delivers it to another thread, or keeps it for sigwait, signalfd, or an unblocking, as without us.
 *    Other threads follow when a foreign SIGURG meets their shadow, or at their next change of mask.
 *    sigwait with SIGURG in its set waits without it as long as none has come.
 *
 *    Once SIGURG is the program's, ours is signal 32, which glibc keeps for itself: no program
 *    blocks it or sets its handler, as all functions for that leave it out.  glibc sends it to cancel threads of the kernel's (by tgkill; ours are queued, with our sign, or BPF's), and sets its
 *    handler at the first such: ours passes on what is not ours, with the mask that glibc's would have, and takes the place again after pthread_cancel.
 *    Carriers, who have SIGURG open, block it when one comes.  Where signal 32 can't be had, the gate is opened in this process.
 *
 * No locks.  The tables are single words, or rings whose entries are written
 * before they are published.  Two threads that set the same signal's handler at the same
 * time may leave one's flags with the other's function.
 *
 * Known limits: siglongjmp restores the real mask, but not the shadow.  A
 * handler set by a raw system call is not seen.
 */
#include "preload/call.h"

#include <limits.h>
#include <string.h>
#include <sys/signalfd.h>
#include <ucontext.h>
#include "core/carrier.h"
#include "core/place.h"
#include "core/preempt.h"
#include "core/sys.h"
#include "core/tp.h"
#include "free/free.h"
#include "free/kill.h"
#include "free/setxid.h"
#include "free/shared.h"
#include "free/thread.h"
#include "preload/process.h"
#include "ration/g.h"
#include "sync/interrupt.h"

#define REAL_SIGNAL(X)                                                           \
  X(int, sigaction, (int, const struct sigaction *, struct sigaction *))         \
  X(int, pthread_sigmask, (int, const sigset_t *, sigset_t *))                   \
  X(int, sigsuspend, (const sigset_t *))                                         \
  X(int, sigtimedwait, (const sigset_t *, siginfo_t *, const struct timespec *)) \
  X(int, pause, (void))                                                          \
  X(int, sigpending, (sigset_t *))                                               \
  X(int, signalfd, (int, const sigset_t *, int))
REAL_DEFINE(REAL_SIGNAL)

#define NSIGNALS 65
#define SIGNAL_SETXID SYS_SIGNAL_SETXID /* glibc's own: setuid in another thread; must not wait for us */
#define SIGNAL_SIGINFO ((uintptr_t)1 << 63)
#define SIGNAL_DEFAULT ((uintptr_t)1 << 62) /* no handler: the kernel has ours, the program thinks SIG_DFL */
#define SIGNAL_UNSET ((uintptr_t)1 << 61)   /* and has not set that itself */
#define URG_BIT ((uint64_t)1 << (SIGURG - 1))

typedef void handler_fn(int, siginfo_t *, void *);

__thread struct signal_tls signal_tls;
_Atomic bool signal_urg_owned;
static _Atomic bool urg_installed;

/* The program's handler of each signal, with SIGNAL_SIGINFO if it asked for that form; 0: it never set one. */
static _Atomic uintptr_t handlers[NSIGNALS];

/* What the program set for SIGURG.  Writers take a fresh entry, fill it and publish its index. */
#define URG_RING 8u
static struct sigaction urg_ring[URG_RING];
static _Atomic uint32_t urg_next, urg_at;

static void urg_publish(const struct sigaction *a) {
  uint32_t i = (atomic_fetch_add_explicit(&urg_next, 1, memory_order_relaxed) + 1) % URG_RING;
  urg_ring[i] = *a;
  atomic_store_explicit(&urg_at, i, memory_order_release); /* pairs with urg_get: the entry is whole */
}

static struct sigaction urg_get(void) { return urg_ring[atomic_load_explicit(&urg_at, memory_order_acquire)]; /* pairs with urg_publish */ }

/* --- masks as words: the kernel's 64 signals are the first word of a sigset_t --- */

_Static_assert(sizeof(sigset_t) >= sizeof(uint64_t), "first word");
static uint64_t set_word(const sigset_t *s) {
  uint64_t w;
  memcpy(&w, s, sizeof w);
  return w;
}
static bool has_urg(const sigset_t *s) { return (set_word(s) & URG_BIT) != 0; }
static void put_urg(sigset_t *s, bool on) {
  uint64_t w = on ? set_word(s) | URG_BIT : set_word(s) & ~URG_BIT;
  memcpy(s, &w, sizeof w);
}

/* Really blocks or opens SIGURG on this thread. Raw: no errno. True if it was blocked. */
static bool real_urg(bool block) {
  uint64_t set = URG_BIT, old = 0;
  raw_syscall4(SYS_rt_sigprocmask, block ? SIG_BLOCK : SIG_UNBLOCK, (long)&set, (long)&old, sizeof old);
  return (old & URG_BIT) != 0;
}

static bool installed(void) { return atomic_load_explicit(&urg_installed, memory_order_relaxed); }
static bool owned(void) { return atomic_load_explicit(&signal_urg_owned, memory_order_relaxed); }
static bool sharing(void) { return installed() && !owned(); }

/* The shadow of this thread, or of the vfork child that borrows it. */
static bool *shadow(void) {
  struct signal_tls *t = &signal_tls;
  if (__builtin_expect(!process_in_vfork_child(), 1)) return &t->blocked;
  pid_t self = (pid_t)sys_getpid();
  if (t->child != self) {
    t->child = self;
    t->child_blocked = t->blocked;
  }
  return &t->child_blocked;
}

/* free/thread.c knows it by name. */
void signal_shadow(bool blocked);
void signal_shadow(bool blocked) { signal_tls.blocked = blocked && installed(); }

/* In an owned process: what the shadow said becomes real. */
static void settle_owned(void) {
  if (!signal_tls.blocked && signal_tls.child == 0) return;
  bool *b = shadow();
  if (!*b) return;
  real_urg(true);
  *b = false;
  if (free_mode) shared_blocks(URG_BIT);
}

static void count(uint32_t *n) { __atomic_fetch_add(n, 1, __ATOMIC_RELAXED); }

/* --- the signal in its place: hidden --- */

#define SIGNAL_CANCEL M_SIGNAL_HIDDEN /* glibc's own */

/* While we decide, no handler of the program may run, nor a cancellation; glibc's setxid must, and faults are not to be held. */
static uint64_t mask_in_ours(void) {
  uint64_t mask = ~(uint64_t)0;
  static const int open[] = {SIGNAL_SETXID, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
  for (size_t i = 0; i < sizeof open / sizeof *open; i++) mask &= ~((uint64_t)1 << (open[i] - 1));
  return mask;
}

static _Atomic(handler_fn *) cancels; /* glibc's, once it has one */

/* Its handler runs with itself blocked only, and may unwind from here. */
static void pass_on_cancel(int sig, siginfo_t *si, ucontext_t *uc) {
  handler_fn *fn = atomic_load_explicit(&cancels, memory_order_relaxed);
  if (!fn) return;
  sys_sigmask(set_word(&uc->uc_sigmask) | (uint64_t)1 << (SIGNAL_CANCEL - 1));
  fn(sig, si, uc);
}

/* Not inline: in between a carrier's G may go to another thread, and aarch64's compilers keep the thread pointer. */
static __attribute__((noinline)) bool is_carrier(void) { return m_self && m_self->carrier; }

/* True: it was ours.  While the thread is parked in there handlers of the program may run on it. */
static __attribute__((noinline)) bool take_on_thread(siginfo_t *si, void *ctx) {
  uint32_t breaks = signal_tls.breaks;
  signal_tls.inside++;
  bool ours = gate_sigurg(si, ctx);
  if (signal_tls.inside) signal_tls.inside--;
  if (signal_tls.breaks != breaks) interrupt_call(ctx);
  return ours;
}
static bool take_ours(siginfo_t *si, void *ctx) { return is_carrier() ? gate_sigurg(si, ctx) : take_on_thread(si, ctx); }

static void on_hidden(int sig, siginfo_t *si, void *ctx) {
  int saved = errno;
  if (si->si_code != SI_TKILL && take_ours(si, ctx))
    count(&signal_tls.silent);
  else
    pass_on_cancel(sig, si, ctx);
  errno = saved;
}

/* Its handler is ours. */
static bool has_hidden(void) {
  struct sys_action now;
  return sys_sigaction(SIGNAL_CANCEL, NULL, &now) == 0 && now.fn == (uintptr_t)on_hidden;
}

static bool hide(void) {
  struct sys_action now, ours;
  if (sys_sigaction(SIGNAL_CANCEL, NULL, &now) < 0) return false;
  if (now.fn == (uintptr_t)on_hidden) return true;
  /* The way back from a handler is the kernel's business, or glibc's: as SIGURG's. */
  if (sys_sigaction(SIGURG, NULL, &ours) < 0) return false;
  ours.fn = (uintptr_t)on_hidden;
  ours.flags = (ours.flags & 0x04000000u /* SA_RESTORER */) | SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ours.mask = mask_in_ours();
  bool none = now.fn == (uintptr_t)SIG_DFL || now.fn == (uintptr_t)SIG_IGN;
  if (!none) atomic_store_explicit(&cancels, (handler_fn *)now.fn, memory_order_relaxed);
  return sys_sigaction(SIGNAL_CANCEL, &ours, NULL) == 0;
}

void signal_stay_hidden(void) {
  if (__builtin_expect(!preempt_is_hidden(), 1) || has_hidden()) return;
  (void)hide();
  preempt_lost();
}

/* --- glibc's signal for credentials, in free mode --- */

static _Atomic(handler_fn *) setxid; /* glibc's, once it has one */

/* All signals are blocked: what else comes here would find the wrong thread. */
static __attribute__((noinline)) void on_setxid(int sig, siginfo_t *si, void *ctx) {
  handler_fn *fn = atomic_load_explicit(&setxid, memory_order_relaxed);
  void *worn = tp_get(), *own = setxid_tp();
  if (own != worn) tp_set(own);
  fn(sig, si, ctx);
  if (own != worn) tp_set(worn);
}

void signal_keep_setxid(void) {
  struct sys_action now;
  if (!free_mode || sys_is_aside() || sys_sigaction(SIGNAL_SETXID, NULL, &now) < 0 || now.fn == (uintptr_t)on_setxid) return;
  if (now.fn == (uintptr_t)SIG_DFL || now.fn == (uintptr_t)SIG_IGN) return;
  atomic_store_explicit(&setxid, (handler_fn *)now.fn, memory_order_relaxed);
  now.fn = (uintptr_t)on_setxid;
  now.mask = ~(uint64_t)0;
  (void)sys_sigaction(SIGNAL_SETXID, &now, NULL);
}

/*
 * Without a signal a G that only computes can't be made to yield, and those that wait would starve: so the gate is
 * opened in this process.  A program under ration is never worse off than without it.
 */
static void own_urg(void) {
  if (atomic_exchange_explicit(&signal_urg_owned, true, memory_order_seq_cst)) return;
  bool child = process_in_vfork_child(); /* what it sets is its own handler, not the process's */
  if (!child && hide()) {
    preempt_hide();
    signal_stay_hidden(); /* pthread_cancel may have come between, and not have seen it */
    gate_hidden();
    return;
  }
  atomic_store_explicit(&preempt_no_signals, true, memory_order_seq_cst); /* read by the core before it signals */
  if (!child) gate_step_aside("SIGURG is the program's own");
}

/* --- running the program's handlers --- */

/*
 * Calls fn as the kernel would have. Not in a wrapped call while it runs; the mask that it sees and leaves behind is the program's.
 * A light G, whose call has opened the signal, stays on its thread: the code that fn interrupts has that one's thread pointer.
 */
static void run_handler(handler_fn *fn, int sig, siginfo_t *si, void *ctx) {
  ucontext_t *uc = ctx;
  if (__builtin_expect(free_mode, 0)) free_handler_begins(sig);
  struct m *m = m_self;
  bool inside = m && m->locks == 0 && SLOT_LOAD(m->slot->state) == M_SYSCALL;
  bool held = inside && m->carrier, real = has_urg(&uc->uc_sigmask);
  uint32_t placed = place_handler_begins(m);
  if (!real && signal_tls.blocked) put_urg(&uc->uc_sigmask, true);
  if (held) ration_lock_os_thread();
  if (inside) gate_exit();
  fn(sig, si, uc);
  if (held) ration_unlock_os_thread();
  if (inside) gate_enter();
  place_handler_ends(m, placed);
  if (__builtin_expect(free_mode, 0)) free_handler_ends();
  if (real || !sharing()) return; /* owned meanwhile: what the mask says now is what it shall be */
  bool after = has_urg(&uc->uc_sigmask);
  if (after) put_urg(&uc->uc_sigmask, false);
  if (signal_tls.blocked != after) signal_tls.blocked = after;
}

static bool is_fault(int sig) {
  return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP || sig == SIGSYS;
}

static bool restarts(int sig) {
  struct sys_action a;
  return sys_sigaction(sig, NULL, &a) < 0 || (a.flags & SA_RESTART);
}

/* The process ends, as it would have at once. */
static void act_by_default(int sig) {
  struct sys_action dfl = {.fn = (uintptr_t)SIG_DFL};
  uint64_t set = (uint64_t)1 << (sig - 1);
  (void)sys_sigaction(sig, &dfl, NULL);
  raw_syscall3(SYS_tgkill, sys_getpid(), sys_gettid(), sig);
  raw_syscall4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof set);
}

static void on_signal(int sig, siginfo_t *si, void *ctx) {
  uintptr_t h = atomic_load_explicit(&handlers[sig], memory_order_acquire); /* pairs with the exchange in set_action */
  if (h == 0) return;
  if (!is_fault(sig) && gate_defer(sig, si, ctx)) return;
  if (__builtin_expect(free_mode, 0) && (is_fault(sig) ? free_fault(sig, si, ctx) : free_own_signal(sig, si, ctx))) return;
  if (__builtin_expect(h & SIGNAL_DEFAULT, 0)) {
    act_by_default(sig);
    return;
  }
  count(&signal_tls.handled); /* before, for it may not return */
  if (__builtin_expect(signal_tls.inside, 0) && !restarts(sig)) count(&signal_tls.breaks);
  run_handler((handler_fn *)(h & ~SIGNAL_SIGINFO), sig, si, ctx);
}

static bool is_function(const struct sigaction *a) {
  return a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN && a->sa_handler != SIG_ERR && a->sa_sigaction != on_signal;
}

/* The kernel's answer, in the program's words.  After SA_RESETHAND took effect the flags are still those that we gave. */
static void unwrap(struct sigaction *a, uintptr_t h) {
  bool reset = a->sa_handler == SIG_DFL && (a->sa_flags & (int)SA_RESETHAND) && h;
  if (!reset && a->sa_sigaction != on_signal) return;
  if (!reset) a->sa_sigaction = (handler_fn *)(h & ~(SIGNAL_SIGINFO | SIGNAL_DEFAULT | SIGNAL_UNSET));
  if (!(h & SIGNAL_SIGINFO)) a->sa_flags &= ~SA_SIGINFO;
  if (h & SIGNAL_UNSET) a->sa_flags = 0; /* also what glibc adds when it sets one */
}

/* --- SIGURG --- */

/* Sends a foreign SIGURG again, as it was, now that this thread blocks it.  A thread may give a
 * sender's own words only when it names itself; rt_sigqueueinfo then still is to the whole process. */
static void send_again(siginfo_t *si) {
  long tid = sys_gettid();
  if (si->si_code == SI_TKILL)
    raw_syscall4(SYS_rt_tgsigqueueinfo, sys_getpid(), tid, SIGURG, (long)si);
  else
    raw_syscall3(SYS_rt_sigqueueinfo, tid, SIGURG, (long)si);
}

static void foreign_urg(siginfo_t *si, ucontext_t *uc) {
  if (gate_defer(SIGURG, si, uc)) return; /* stepping aside takes the scheduler's lock, which this thread may hold */
  bool *b = shadow();
  /* A carrier stands for nobody who has it open.  It comes here only while main blocks all. */
  if (*b || (free_mode && carrier_now())) {
    own_urg();
    *b = false;
    put_urg(&uc->uc_sigmask, true);
    if (free_mode) shared_blocks(URG_BIT);
    send_again(si);
    count(&signal_tls.silent);
    return;
  }
  struct sigaction a = urg_get();
  if (!is_function(&a)) {
    count(&signal_tls.silent);
    return;
  }
  count(&signal_tls.handled);
  if (a.sa_flags & (int)SA_RESETHAND) {
    struct sigaction reset = a;
    reset.sa_handler = SIG_DFL;
    urg_publish(&reset);
  }
  uint64_t mask = set_word(&uc->uc_sigmask) | set_word(&a.sa_mask);
  if (!(a.sa_flags & SA_NODEFER)) mask |= URG_BIT;
  sys_sigmask(mask);
  run_handler(a.sa_sigaction, SIGURG, si, uc);
}

static void on_urg(int sig, siginfo_t *si, void *ctx) {
  (void)sig;
  int saved = errno;
  if (take_ours(si, ctx))
    count(&signal_tls.silent);
  else
    foreign_urg(si, ctx);
  errno = saved;
}

/* What the kernel is told about SIGURG; SA_RESTART and SA_ONSTACK as the program wants them, if it has a handler. */
static int install(const struct sigaction *program) {
  struct sigaction a = {.sa_sigaction = on_urg, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
  if (is_function(program)) a.sa_flags = SA_SIGINFO | (program->sa_flags & (SA_RESTART | SA_ONSTACK));
  uint64_t mask = mask_in_ours();
  memcpy(&a.sa_mask, &mask, sizeof mask);
  return REAL(sigaction)(SIGURG, &a, NULL) == 0 ? 0 : -errno;
}

int signal_install_urg(void) {
  struct sigaction old;
  int saved = errno;
  if (installed()) return 0;
  if (REAL(sigaction)(SIGURG, NULL, &old) < 0) return -errno;
  unwrap(&old, atomic_load_explicit(&handlers[SIGURG], memory_order_acquire)); /* pairs with the exchange in set_action */
  urg_publish(&old);
  int r = install(&old);
  errno = saved;
  if (r < 0) return r;
  atomic_store_explicit(&urg_installed, true, memory_order_release);
  if (real_urg(false)) signal_tls.blocked = true;
  return 0;
}

static int set_urg_action(const struct sigaction *act, struct sigaction *old) {
  struct sigaction now = urg_get(), kernel, next;
  if (act) {
    next = *act;
    if (REAL(sigaction)(SIGURG, NULL, &kernel) < 0) return -1;
#ifdef SA_RESTORER
    next.sa_flags |= kernel.sa_flags & SA_RESTORER;
#else
    next.sa_flags |= kernel.sa_flags & 0x04000000; /* the kernel's SA_RESTORER shows in what sigaction gives back */
#endif
    next.sa_restorer = kernel.sa_restorer;
    sigdelset(&next.sa_mask, SIGKILL);
    sigdelset(&next.sa_mask, SIGSTOP);
    urg_publish(&next);
    int r = install(&next);
    if (r < 0) {
      errno = -r;
      return -1;
    }
  }
  if (old) *old = now;
  return 0;
}

/* --- sigaction and its elders --- */

/* What on_signal is to do; 0: the kernel gets what the program sets. */
static uintptr_t handler_of(int sig, const struct sigaction *act) {
  uintptr_t info = act->sa_flags & SA_SIGINFO ? SIGNAL_SIGINFO : 0;
  if (is_function(act)) return (uintptr_t)act->sa_sigaction | info;
  bool keep = free_mode && act->sa_handler == SIG_DFL && ((uint64_t)1 << (sig - 1) & KILL_OWN) && !process_in_vfork_child();
  return keep ? SIGNAL_DEFAULT | info : 0;
}

static int set_action(int sig, const struct sigaction *act, struct sigaction *old) {
  if (sig < 1 || sig >= NSIGNALS || gate_mode() == RATION_MODE_OFF) return REAL(sigaction)(sig, act, old);
  if (sig == SIGURG && installed() && !process_in_vfork_child()) return set_urg_action(act, old);
  uintptr_t before = atomic_load_explicit(&handlers[sig], memory_order_acquire);
  struct sigaction mine;
  uintptr_t h = act ? handler_of(sig, act) : 0;
  bool ours = h != 0;
  if (ours) {
    mine = *act;
    mine.sa_sigaction = on_signal;
    mine.sa_flags |= SA_SIGINFO;
    /* The table first: between the two the old flags go with the new function, never a signal with none. */
    before = atomic_exchange_explicit(&handlers[sig], h, memory_order_acq_rel); /* pairs with the load in on_signal */
  }
  int r = REAL(sigaction)(sig, ours ? &mine : act, old);
  if (r < 0 && ours) atomic_store_explicit(&handlers[sig], before, memory_order_release);
  if (r == 0 && old) unwrap(old, before);
  return r;
}

void signal_keep_defaults(void) {
  for (int sig = 1; sig <= 64; sig++) {
    struct sigaction now;
    if (!((uint64_t)1 << (sig - 1) & KILL_OWN)) continue;
    if (set_action(sig, NULL, &now) < 0 || now.sa_handler != SIG_DFL || set_action(sig, &now, NULL) < 0) continue;
    atomic_fetch_or_explicit(&handlers[sig], SIGNAL_UNSET, memory_order_relaxed);
  }
}

EXPORT int sigaction(int sig, const struct sigaction *restrict act, struct sigaction *restrict old) { return set_action(sig, act, old); }
int __sigaction(int, const struct sigaction *, struct sigaction *) CALL_ALIAS(sigaction);

/* Signals that siginterrupt made interrupting; signal() looks here, as glibc's looks into its own. */
static _Atomic uint64_t interrupting;

static __sighandler_t old_signal(int sig, __sighandler_t fn, int flags, bool mask) {
  struct sigaction act = {.sa_handler = fn, .sa_flags = flags}, old;
  if (fn == SIG_ERR || sig < 1 || sig >= NSIGNALS) {
    errno = EINVAL;
    return SIG_ERR;
  }
  sigemptyset(&act.sa_mask);
  if (mask) sigaddset(&act.sa_mask, sig);
  return set_action(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

EXPORT __sighandler_t signal(int sig, __sighandler_t fn) {
  bool interrupt = sig >= 1 && sig < NSIGNALS && (atomic_load_explicit(&interrupting, memory_order_relaxed) >> (sig - 1) & 1);
  return old_signal(sig, fn, interrupt ? 0 : SA_RESTART, true);
}
__sighandler_t bsd_signal(int, __sighandler_t) CALL_ALIAS(signal);
__sighandler_t ssignal(int, __sighandler_t) CALL_ALIAS(signal);

EXPORT __sighandler_t sysv_signal(int sig, __sighandler_t fn) { return old_signal(sig, fn, SA_RESETHAND | SA_NODEFER, false); }
__sighandler_t __sysv_signal(int, __sighandler_t) CALL_ALIAS(sysv_signal);

EXPORT int siginterrupt(int sig, int flag) {
  struct sigaction a;
  if (set_action(sig, NULL, &a) < 0) return -1;
  uint64_t bit = (uint64_t)1 << (sig - 1);
  if (flag) {
    atomic_fetch_or_explicit(&interrupting, bit, memory_order_relaxed);
    a.sa_flags &= ~SA_RESTART;
  } else {
    atomic_fetch_and_explicit(&interrupting, ~bit, memory_order_relaxed);
    a.sa_flags |= SA_RESTART;
  }
  return set_action(sig, &a, NULL);
}

EXPORT int sigignore(int sig) {
  struct sigaction a = {.sa_handler = SIG_IGN};
  return set_action(sig, &a, NULL);
}

/* --- masks --- */

static bool shadow_after(int how, bool was, bool in_set) {
  if (how == SIG_SETMASK) return in_set;
  if (!in_set) return was;
  return how == SIG_BLOCK;
}

/* A thread G's mask is on paper: its carrier blocks all, and runs handlers for nobody. */
static int change_paper_mask(struct thread *t, int how, const sigset_t *set, sigset_t *old) {
  uint64_t next = set ? set_word(set) : 0, was;
  if (set && how != SIG_BLOCK && how != SIG_UNBLOCK && how != SIG_SETMASK) return EINVAL;
  thread_mask(t, how, set ? &next : NULL, &was);
  if (!old) return 0;
  if (!sys_can_write(old, sizeof was)) return EFAULT;
  sigemptyset(old);
  memcpy(old, &was, sizeof was);
  return 0;
}

/* A thread of the kernel's. */
static int change_real_mask(int how, const sigset_t *set, sigset_t *old) {
  if (__builtin_expect(!installed(), 0)) return REAL(pthread_sigmask)(how, set, old);
  if (owned()) {
    settle_owned();
    return REAL(pthread_sigmask)(how, set, old);
  }
  if (!signal_tls.blocked && signal_tls.child == 0 && (!set || !has_urg(set))) return REAL(pthread_sigmask)(how, set, old);
  bool *b = shadow(), was = *b;
  if (!set) {
    int r = REAL(pthread_sigmask)(how, NULL, old);
    if (r == 0 && old && was) put_urg(old, true);
    return r;
  }
  sigset_t real = *set;
  if (how != SIG_UNBLOCK) put_urg(&real, false);
  *b = shadow_after(how, was, has_urg(set));
  int r = REAL(pthread_sigmask)(how, &real, old);
  if (r)
    *b = was;
  else if (old && was)
    put_urg(old, true);
  return r;
}

/* pthread_sigmask: an error number. */
static CALL_APART int change_mask(int how, const sigset_t *set, sigset_t *old) {
  if (__builtin_expect(!free_mode, 1)) return change_real_mask(how, set, old);
  free_notice(); /* which makes it a wired one */
  if (thread_self() && carrier_now()) return change_paper_mask(thread_self(), how, set, old);
  int r = change_real_mask(how, set, old);
  if (r == 0 && set && how != SIG_UNBLOCK) shared_blocks(set_word(set));
  return r;
}

EXPORT int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old) { return change_mask(how, set, old); }

EXPORT int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
  int r = change_mask(how, set, old);
  if (r == 0) return 0;
  errno = r;
  return -1;
}

/* The 4.2BSD calls: a mask is an int. */
static int bsd_mask(int how, int mask) {
  sigset_t set, old;
  sigemptyset(&set);
  uint64_t w = (unsigned)mask;
  memcpy(&set, &w, sizeof w);
  int r = change_mask(how, &set, &old);
  if (r) {
    errno = r;
    return -1;
  }
  return (int)(unsigned)set_word(&old);
}

int sigblock(int mask);
int sigsetmask(int mask);
int siggetmask(void);
EXPORT int sigblock(int mask) { return bsd_mask(SIG_BLOCK, mask); }
EXPORT int sigsetmask(int mask) { return bsd_mask(SIG_SETMASK, mask); }
EXPORT int siggetmask(void) { return bsd_mask(SIG_BLOCK, 0); }

static int one_signal(int how, int sig, sigset_t *old) {
  sigset_t set;
  sigemptyset(&set);
  if (sigaddset(&set, sig) < 0) return -1;
  return sigprocmask(how, &set, old);
}

EXPORT int sighold(int sig) { return one_signal(SIG_BLOCK, sig, NULL); }
EXPORT int sigrelse(int sig) { return one_signal(SIG_UNBLOCK, sig, NULL); }

EXPORT __sighandler_t sigset(int sig, __sighandler_t fn) {
  sigset_t old;
  struct sigaction act = {.sa_handler = fn}, before;
  if (fn == SIG_ERR || sig < 1 || sig >= NSIGNALS) {
    errno = EINVAL;
    return SIG_ERR;
  }
  if (fn == SIG_HOLD) {
    if (one_signal(SIG_BLOCK, sig, &old) < 0) return SIG_ERR;
    if (sigismember(&old, sig)) return SIG_HOLD;
    return set_action(sig, NULL, &before) < 0 ? SIG_ERR : before.sa_handler;
  }
  if (set_action(sig, &act, &before) < 0 || one_signal(SIG_UNBLOCK, sig, &old) < 0) return SIG_ERR;
  return sigismember(&old, sig) ? SIG_HOLD : before.sa_handler;
}

void signal_born(void) {
  if (!sharing()) return;
  /* Born with the mask that the program means, by the creator's signal_spawn_begin or an attribute: no foreign SIGURG has
   * come yet that a shadow not yet set would have let through. The shadow first. */
  uint64_t now = 0;
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&now, sizeof now);
  if (!(now & URG_BIT)) return;
  signal_tls.blocked = true;
  real_urg(false);
}

bool signal_carriers_mask(void) {
  uint64_t now = 0;
  if (!carrier_now()) return false;
  raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&now, sizeof now);
  return (now & ~URG_BIT) == (carrier_sigmask() & ~URG_BIT);
}

unsigned signal_exec_begin(void) {
  unsigned what = 0;
  if (!installed()) return 0;
  if (*shadow() && !real_urg(true)) what |= 1;
  if (urg_get().sa_handler == SIG_IGN) {
    what |= 2;
    struct sigaction ign = {.sa_handler = SIG_IGN};
    REAL(sigaction)(SIGURG, &ign, NULL);
  }
  return what;
}

void signal_exec_failed(unsigned what) {
  int saved = errno;
  if (what & 1) real_urg(false);
  if (what & 2) install(&(struct sigaction){.sa_handler = SIG_IGN});
  errno = saved;
}

bool signal_spawn_begin(void) {
  if (owned()) settle_owned();
  return sharing() && signal_tls.blocked && *shadow() && !real_urg(true);
}

void signal_spawn_end(bool was) {
  if (was && sharing()) real_urg(false);
}

void signal_fork_child(void) { signal_tls.child = 0; }

/* --- waiting --- */

const sigset_t *signal_scope_begin(struct signal_scope *s, const sigset_t *mask) {
  s->active = false;
  if (mask && __builtin_expect(free_mode, 0)) shared_blocks(set_word(mask));
  if (!mask || !installed()) return mask;
  if (owned()) {
    settle_owned();
    return mask;
  }
  if (!has_urg(mask) && !signal_tls.blocked) return mask;
  s->active = true;
  s->saved = signal_tls.blocked;
  signal_tls.blocked = has_urg(mask);
  s->copy = *mask;
  put_urg(&s->copy, false);
  return &s->copy;
}

void signal_scope_end(struct signal_scope *s) {
  if (!s->active) return;
  s->active = false;
  if (owned()) {
    signal_tls.blocked = false;
    real_urg(s->saved); /* a foreign one that came meanwhile left it blocked */
  } else {
    signal_tls.blocked = s->saved;
  }
}

/* In the bracket, as all that follows. */
static CALL_APART int suspend_once(const sigset_t *mask) {
  struct signal_scope scope;
  const sigset_t *real = signal_scope_begin(&scope, mask);
  int r = REAL(sigsuspend)(real);
  signal_scope_end(&scope);
  return r;
}

/*
 * pause and sigsuspend end when a handler has run.  If only ours has, they wait
 * on; but a handler of the program that runs between the look and the next wait must not be
 * missed, so that next wait begins with all signals blocked.
 */
static CALL_APART int suspend_again(const sigset_t *mask, const struct signal_mark *mark) {
  uint64_t before = sys_sigmask(SYS_SIGSET_ALL);
  int r = -1, saved = EINTR;
  if (signal_mark().handled == mark->handled) {
    r = suspend_once(mask);
    saved = errno;
  }
  sys_sigmask(before);
  errno = saved;
  return r;
}

static int suspend_on(const sigset_t *mask, struct signal_mark *mark) {
  bool again;
  int r;
  do r = CALL_TRY(int, call_enter_blocking(WAIT_SIGNAL), suspend_again(mask, mark), mark, again);
  while (again);
  return r;
}

/* Who waits for signals holds a thread of the kernel's, and is to have what is sent to itself as well: a thread G gets that for good. */
static void wire_to_wait(void) {
  if (__builtin_expect(free_mode, 0)) free_wire(FREE_WIRE_SIGNALS);
}

/* Else the kernel is to say that it is not. */
static bool is_there(const sigset_t *set) { return sys_can_read(set, sizeof(uint64_t)); }

EXPORT int sigsuspend(const sigset_t *mask) {
  if (!is_there(mask)) return REAL(sigsuspend)(mask);
  wire_to_wait();
  struct signal_mark mark = signal_mark();
  bool again;
  int r = CALL_TRY(int, call_enter_blocking(WAIT_SIGNAL), suspend_once(mask), &mark, again);
  return again ? suspend_on(mask, &mark) : r;
}
int __sigsuspend(const sigset_t *) CALL_ALIAS(sigsuspend);

EXPORT int pause(void) {
  wire_to_wait();
  struct signal_mark mark = signal_mark();
  bool again;
  int r = CALL_TRY(int, call_enter_blocking(WAIT_SIGNAL), REAL(pause)(), &mark, again);
  if (!again) return r;
  sigset_t now;
  change_mask(SIG_BLOCK, NULL, &now);
  return suspend_on(&now, &mark);
}

int __sigpause(int sig_or_mask, int is_sig);
EXPORT int __sigpause(int sig_or_mask, int is_sig) {
  sigset_t set;
  if (is_sig) {
    change_mask(SIG_BLOCK, NULL, &set);
    if (sigdelset(&set, sig_or_mask) < 0) return -1;
  } else {
    uint64_t w = (unsigned)sig_or_mask;
    sigemptyset(&set);
    memcpy(&set, &w, sizeof w);
  }
  return sigsuspend(&set);
}

/* The headers give the X/Open form the name of the BSD one; by its assembler name each is what libc has. */
int bsd_sigpause(int mask) __asm__("sigpause");
EXPORT int bsd_sigpause(int mask) { return __sigpause(mask, 0); }
int xpg_sigpause(int sig) __asm__("__xpg_sigpause");
EXPORT int xpg_sigpause(int sig) { return __sigpause(sig, 1); }

/* In the bracket.  As long as no foreign SIGURG has come, ours are kept out of the set. */
static CALL_APART int wait_once(const sigset_t *set, siginfo_t *si, const struct timespec *timeout) {
  sigset_t real = *set;
  if (owned())
    settle_owned();
  else if (installed())
    put_urg(&real, false);
  return REAL(sigtimedwait)(&real, si, timeout);
}

/* sigtimedwait; no timeout: for ever. */
static int wait_for(const sigset_t *set, siginfo_t *si, const struct timespec *timeout) {
  if (!is_there(set) || (timeout && !sys_can_read(timeout, sizeof *timeout))) return REAL(sigtimedwait)(set, si, timeout);
  wire_to_wait();
  struct signal_mark mark = signal_mark();
  bool at_once = timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
  bool bounded = timeout && !at_once && call_valid(timeout);
  uint64_t deadline = bounded ? call_deadline((uint64_t)timeout->tv_sec, (uint64_t)timeout->tv_nsec) : 0;
  struct timespec left;
  for (;;) {
    bool again;
    int r = CALL_TRY(int, at_once ? call_enter() : call_enter_blocking(WAIT_SIGNAL), wait_once(set, si, timeout), &mark, again);
    if (!again) return r;
    if (!bounded) continue;
    left = call_left(deadline);
    timeout = &left;
  }
}

EXPORT int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict si, const struct timespec *restrict timeout) {
  return wait_for(set, si, timeout);
}
EXPORT int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict si) { return wait_for(set, si, NULL); }

EXPORT int sigwait(const sigset_t *restrict set, int *restrict sig) {
  siginfo_t si;
  int r, saved = call_errno();
  do r = wait_for(set, &si, NULL);
  while (r < 0 && call_errno() == EINTR); /* as glibc's */
  if (r < 0)
    r = call_errno();
  else
    *sig = si.si_signo, r = 0;
  call_set_errno(saved);
  return r;
}

/* A carrier blocks more than its G. */
EXPORT int sigpending(sigset_t *set) {
  if (__builtin_expect(free_mode, 0)) free_notice();
  int r = REAL(sigpending)(set);
  if (__builtin_expect(!free_mode, 1) || r < 0 || !thread_self() || !carrier_now()) return r;
  uint64_t pending = set_word(set), blocked;
  thread_mask(thread_self(), SIG_BLOCK, NULL, &blocked);
  pending &= blocked;
  memcpy(set, &pending, sizeof pending);
  return r;
}

EXPORT int signalfd(int fd, const sigset_t *mask, int flags) {
  if (installed() && is_there(mask) && has_urg(mask)) {
    own_urg();
    settle_owned();
  }
  return REAL(signalfd)(fd, mask, flags);
}
