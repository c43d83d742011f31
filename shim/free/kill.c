/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals to thread Gs (pthread_kill, pthread_sigqueue, tgkill).
 *
 *             kill_send: pending                    the G sees to it: free_wire              kill_send: the kernel's
 *   NO NOTICE ------------------> NOTICE (g->notice) ----------------------> WIRED (k->m) <-------.
 *                                   |       ^                                  |   '--------------'
 *                                   '-------' kill_send: one more pending      '--its function ends--> OVER: 0, and dropped
 *
 * Only a thread of the kernel's has a signal mask, runs handlers with all that goes with them (sa_mask, SA_ONSTACK, SA_RESETHAND, nesting), keeps blocked signals pending, and is
 * what sigwait and signalfd ask.  So a thread G that is sent a signal gets its carrier's thread for good (wire.c), sends itself what is pending, and only then opens its mask:
 * the kernel does the rest.  Whatever it is: whether it blocks the signal, handles or ignores it need not be known here.  Only that thread pays.
 *
 * How it notices:
 *
 *   waits in the lot, for a descriptor, sleeps      its wait ends, or is interrupted (sync/stop.h); it is readied, and sees to it on its own stack (free_notice)
 *   runs, or is blocked in the kernel               SIGURG: in its handler (free_sigurg) it gets its thread, the frame of the signal is given the new mask, and what is
 *                                                   pending comes when that handler returns
 *   yields                                          sees to it after each; where others wait it is hardly ever anywhere else
 *   is runnable, or in ration's own code            SIGURG again, after 1 ms, 2, 4, ... 16, by the monitor: until it has seen to it
 *
 * SIGURG's handler acts where the program's own code or libc was interrupted, with nothing held, and at the system call of a bracket: not in the rest of ration's, which may have
 * noted its carrier.  A system call that was interrupted gives EINTR, if one of the handlers that are to run has no SA_RESTART: it says so before they run, as the
 * kernel, which sees but SIGURG's, would make it again.
 *
 * A thread that is wired gets its signals from the kernel, by the tid of its thread, under k->lock: it does not end meanwhile, which would hit another.
 *
 * Rejected: to run handlers on Gs.  They would have to be a thread's in all that the kernel does for it: masks of nested handlers, alternative stacks, siglongjmp that
 * sets a mask, signals that come while it is being switched.
 *
 * Locks: k->lock, over pool.lock, a leaf.
 */
#include "free/kill.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "core/carrier.h"
#include "free/cancel.h"
#include "free/free.h"
#include "free/shared.h"
#include "free/thread.h"
#include "free/where.h"
#include "sync/stop.h"

#define DOUBLINGS 4u
#define POOL_CHUNK (64u << 10)
#define POOL_MOST 512u /* chunks: some 240,000 signals */
#define SIG_RT 32      /* the kernel's first that queues; glibc's two are among them */

/* --- pending ones --- */

struct pending {
  struct pending *next;
  siginfo_t si;
};

static struct {
  struct lock lock;
  struct pending *free;
  uint32_t chunks;
} pool;

static void pool_grow(void) {
  if (pool.chunks == POOL_MOST) return;
  long at = raw_syscall6(SYS_mmap, 0, POOL_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return;
  pool.chunks++;
  struct pending *all = (struct pending *)at;
  for (size_t i = 0; i < POOL_CHUNK / sizeof *all; i++) {
    all[i].next = pool.free;
    pool.free = &all[i];
  }
}

static struct pending *pool_get(void) {
  run_lock(&pool.lock);
  if (!pool.free) pool_grow();
  struct pending *p = pool.free;
  if (p) pool.free = p->next;
  run_unlock(&pool.lock);
  return p;
}

static void pool_put(struct pending *list) {
  while (list) {
    struct pending *p = list;
    list = p->next;
    run_lock(&pool.lock);
    p->next = pool.free;
    pool.free = p;
    run_unlock(&pool.lock);
  }
}

static uint64_t bit_of(int sig) { return (uint64_t)1 << (sig - 1); }

/* k->lock held.  As the kernel: of the old signals one is enough. */
static int pend(struct kill *k, int sig, const siginfo_t *si) {
  if (sig < SIG_RT && (k->set & bit_of(sig))) return 0;
  struct pending *p = pool_get();
  if (!p) return EAGAIN;
  p->si = *si;
  p->next = NULL;
  *k->last = p;
  k->last = &p->next;
  k->set |= bit_of(sig);
  return 0;
}

/* k->lock held. */
static struct pending *take_all(struct kill *k) {
  struct pending *list = k->first;
  k->first = NULL;
  k->last = &k->first;
  k->set = 0;
  return list;
}

/* --- notices --- */

static bool has_notice(const struct kill *k) {
  return atomic_load_explicit(&k->g->notice, memory_order_acquire) & NOTICE_SIGNAL; /* pairs with seen_to */
}

static void give_notice(struct g *g, uint32_t what) {
  atomic_fetch_or_explicit(&g->notice, what, memory_order_seq_cst); /* pairs with stop_arm: then its wait is looked for */
}

static void seen_to(struct g *g) {
  atomic_fetch_and_explicit(&g->notice, ~(uint32_t)NOTICE_SIGNAL, memory_order_release); /* pairs with has_notice */
}

/* One that has gone on meanwhile does not mind: EINTR repair (preload/signal.h). */
static void send_urg(const struct kill *k) {
  struct m *m = carrier_m_of(k->g);
  uint32_t state = m ? SLOT_LOAD(m->slot->state) : M_IDLE;
  if (state == M_RUN || state == M_SYSCALL) sched_hooks.signal(m);
}

static const struct kill *of(const struct reminder *r) { return (const struct kill *)((const char *)r - offsetof(struct kill, reminder)); }
static bool is_open(const struct reminder *r) { return has_notice(of(r)); }
static void tell(const struct reminder *r) { send_urg(of(r)); }
static const struct reminder_kind kind = {is_open, tell, DOUBLINGS};

/* After g->notice was set. */
static void notify(struct kill *k) {
  stop_call(k->g);
  if (!has_notice(k)) return;
  send_urg(k);
  remind(&k->reminder, sys_now() + REMIND_FIRST_NS, false);
}

/* --- sending --- */

static int send_real(const struct m *m, int sig, const siginfo_t *si) {
  uint32_t pid = sys_getpid();
  long r = si->si_code == SI_TKILL ? raw_syscall3(SYS_tgkill, pid, m->tid, sig)
                                   : raw_syscall4(SYS_rt_tgsigqueueinfo, pid, m->tid, sig, (long)si);
  return r < 0 ? (int)-r : 0;
}

int kill_send(struct kill *k, int sig, const siginfo_t *si) {
  int r = 0;
  run_lock(&k->lock);
  bool pends = !k->over && !k->m;
  if (pends) {
    r = pend(k, sig, si);
    give_notice(k->g, NOTICE_SIGNAL);
  } else if (!k->over) {
    r = send_real(k->m, sig, si);
  }
  run_unlock(&k->lock);
  if (pends) notify(k);
  return r;
}

/* k->lock held. */
static bool is_g(const struct kill *k) { return k->g && !k->over && !k->m; }

bool kill_may_ask(struct kill *k) {
  run_lock(&k->lock);
  bool may = is_g(k) && !has_notice(k);
  run_unlock(&k->lock);
  return may;
}

bool kill_ask(struct kill *k) {
  run_lock(&k->lock);
  bool may = is_g(k);
  if (may) give_notice(k->g, NOTICE_SIGNAL);
  run_unlock(&k->lock);
  if (may) notify(k);
  return may;
}

void kill_wired(struct kill *k, struct m *m) {
  uint32_t pid = sys_getpid();
  run_lock(&k->lock);
  k->m = m;
  struct pending *list = take_all(k);
  seen_to(k->g);
  if (atomic_load_explicit(&k->g->notice, memory_order_relaxed)) give_notice(m->g, NOTICE_CANCEL); /* its waits are that one's now */
  /* Before others send to the thread itself: the order stays.  A thread may give a sender's own words when it names itself. */
  for (struct pending *p = list; p; p = p->next) raw_syscall4(SYS_rt_tgsigqueueinfo, pid, m->tid, p->si.si_signo, (long)&p->si);
  run_unlock(&k->lock);
  pool_put(list);
}

/* --- lives --- */

void kill_born(struct kill *k, struct g *g) {
  run_lock(&k->lock); /* the monitor looks at all there are (kill_ask) */
  k->reminder.kind = &kind;
  k->g = g;
  k->m = NULL;
  k->over = false;
  (void)take_all(k);
  atomic_store_explicit(&k->open, false, memory_order_relaxed);
  atomic_store_explicit(&g->notice, 0, memory_order_relaxed);
  run_unlock(&k->lock);
}

void kill_opens(struct kill *k) {
  atomic_store_explicit(&k->open, true, memory_order_relaxed);
  free_notice();
}

void kill_stop(struct kill *k) {
  run_lock(&k->lock);
  struct g *g = k->over ? NULL : k->m ? k->m->g : k->g;
  if (g) give_notice(g, NOTICE_CANCEL);
  run_unlock(&k->lock);
  if (g) stop_call(g);
}

void kill_over(struct kill *k) {
  atomic_store_explicit(&k->open, false, memory_order_relaxed);
  run_lock(&k->lock);
  k->over = true;
  k->m = NULL;
  struct pending *list = take_all(k);
  seen_to(k->g);
  run_unlock(&k->lock);
  pool_put(list);
}

void kill_fork_child(struct kill *k) {
  memset(&pool, 0, sizeof pool); /* somebody may have been at it */
  if (!k) return;
  atomic_store_explicit(&k->lock.word, 0, memory_order_relaxed);
  (void)take_all(k); /* the child of a fork has nothing pending */
  atomic_store_explicit(&k->g->notice, 0, memory_order_relaxed);
}

uint64_t kill_status(const char *path, const char *field, uint64_t unknown) {
  char buf[2048];
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return unknown;
  long n = raw_syscall3(SYS_read, fd, (long)buf, sizeof buf - 1);
  raw_syscall1(SYS_close, fd);
  if (n <= 0) return unknown;
  buf[n] = 0;
  const char *at = strstr(buf, field);
  if (!at) return unknown;
  uint64_t set = 0;
  for (at += strlen(field); *at && *at != '\n'; at++) set = set << 4 | (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
  return set;
}

static uint64_t private_pending(void) { return kill_status("/proc/thread-self/status", "\nSigPnd:\t", 0); }

void kill_drop_private(void) {
  uint64_t set = 0;
  struct timespec none = {0, 0};
  raw_syscall2(SYS_rt_sigpending, (long)&set, sizeof set);
  if (!set) return; /* the rule */
  while ((set = private_pending() & ~bit_of(SIGURG)))
    for (int sig = 1; sig <= 64; sig++) {
      uint64_t one = bit_of(sig);
      /* The kernel takes a thread's own first. */
      if ((set & one) && raw_syscall4(SYS_rt_sigtimedwait, (long)&one, 0, (long)&none, sizeof one) < 0) return;
    }
}

/* --- the thread itself --- */

/* What handlers the caller's thread has run.  By its own thread pointer, so it goes with a thread G. */
static __thread struct free_mark handled __attribute__((tls_model("initial-exec")));

__attribute__((noinline)) struct free_mark free_mark(void) {
  return (struct free_mark){__atomic_load_n(&handled.runs, __ATOMIC_RELAXED), __atomic_load_n(&handled.breaks, __ATOMIC_RELAXED)};
}

bool free_interrupted(const struct free_mark *since, bool always) {
  free_notice();
  struct free_mark now = free_mark();
  return now.breaks != since->breaks || (always && now.runs != since->runs);
}

static bool is_handled(int sig, unsigned long *flags) {
  struct sys_action a;
  if (sys_sigaction(sig, NULL, &a) < 0) return false;
  *flags = a.flags;
  return a.fn != (uintptr_t)SIG_DFL && a.fn != (uintptr_t)SIG_IGN;
}

bool kill_ignores(int sig) {
  struct sys_action a;
  if (sys_sigaction(sig, NULL, &a) < 0) return false;
  return a.fn == (uintptr_t)SIG_IGN ||
         (a.fn == (uintptr_t)SIG_DFL && (sig == SIGCHLD || sig == SIGCONT || sig == SIGWINCH || sig == SIGURG));
}

void free_handler_begins(int sig) {
  unsigned long flags = SA_RESTART;
  if (carrier_now()) return;   /* of a fault */
  shared_blocks(~(uint64_t)0); /* sa_mask meanwhile, or for good, if the handler leaves by longjmp */
  (void)is_handled(sig, &flags);
  if (!(flags & SA_RESTART)) __atomic_fetch_add(&handled.breaks, 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&handled.runs, 1, __ATOMIC_RELAXED);
  /* The handler may leave by siglongjmp.  Of a thread G that was wired in the middle of a wait that is its own, and not its thread's. */
  stop_leave(g_self());
  struct thread *t = thread_self();
  if (t) stop_leave(thread_kill_of(t)->g);
}

/* What it has waited for in between may have taken the wake-up of the wait that it interrupted. */
void free_handler_ends(void) {
  struct g *g = g_self();
  if (!carrier_now() && g->note) atomic_store_explicit(&g->wake, 1, memory_order_release);
}

/* It may have been for another, which had this thread before. */
static void see_to_cancel(struct g *g, struct thread *t) {
  if (!(atomic_load_explicit(&g->notice, memory_order_relaxed) & NOTICE_CANCEL)) return;
  atomic_fetch_and_explicit(&g->notice, ~(uint32_t)NOTICE_CANCEL, memory_order_seq_cst); /* before the look at what it is for */
  if (t) cancel_if_due(t);
}

void free_notice(void) {
  see_to_cancel(g_self(), thread_self());
  free_notice_signals();
}

void free_notice_signals(void) {
  struct thread *t = thread_self();
  if (!t || !carrier_now()) return;
  struct kill *k = thread_kill_of(t);
  if (!has_notice(k) || !atomic_load_explicit(&k->open, memory_order_relaxed)) return;
  free_wire(FREE_WIRE_SIGNALS);
  /* No thread to be had: they stay pending, but nothing waits for that. */
  if (carrier_now()) seen_to(k->g);
}

/* --- in the handler of SIGURG --- */

void kill_init(void) {
  stop_used = true;
  carrier_opens = KILL_OWN;
}

static bool may_act(const struct m *m, uintptr_t pc) {
  uint32_t state = SLOT_LOAD(m->slot->state);
  if (state == M_RUN) return !where_ours(pc);
  return state == M_SYSCALL && (!where_ours(pc) || where_at_call(pc));
}

/* One of the handlers that are to run has no SA_RESTART. */
static bool breaks(struct kill *k, uint64_t blocked) {
  uint64_t shared = 0; /* it may have been asked to take what the process is sent */
  raw_syscall2(SYS_rt_sigpending, (long)&shared, sizeof shared);
  run_lock(&k->lock);
  uint64_t set = (k->set | shared) & ~blocked;
  run_unlock(&k->lock);
  unsigned long flags;
  for (int sig = 1; sig <= 64; sig++)
    if ((set & bit_of(sig)) && is_handled(sig, &flags) && !(flags & SA_RESTART)) return true;
  return false;
}

/* A system call in a bracket of ours is made again by who made it, as a wired thread's (preload/lightio.c). */
static void wire_here(struct thread *t, struct carrier *c, ucontext_t *uc) {
  struct kill *k = thread_kill_of(t);
  if (where_ours(where_pc(uc)) || breaks(k, thread_blocked(t))) interrupt_here(c, uc);
  free_wire_in_handler(FREE_WIRE_SIGNALS, uc);
}

/* core/gate.c knows it by name.  The SIGURG handler of m, which may be anywhere. */
void free_sigurg(struct m *m, void *uctx);
void free_sigurg(struct m *m, void *uctx) {
  struct thread *t = thread_self();
  struct carrier *c = m->carrier;
  if (!t || m->locks || !c) return;
  struct kill *k = thread_kill_of(t);
  if (!atomic_load_explicit(&k->open, memory_order_relaxed) || !has_notice(k)) return;
  if (c->g != k->g || k->g->status != G_RUNNING || k->g->in_libcall) return;
  if (may_act(m, where_pc(uctx))) wire_here(t, c, uctx);
}

/*
 * --- in the handler of a signal of its own ---
 *
 * SIGPIPE and SIGXFSZ are for who makes the call.  On a carrier the kernel can't be asked what is to be done then: it does not know which of them the G blocks.  So it always
 * calls a handler, also where the program has the default (preload/signal.c), and what comes to a carrier is sent to its G, as by pthread_kill.
 */

struct own {
  int sig;
  struct thread *one;
};

static bool has_it_open(struct thread *t, void *arg) {
  struct own *o = arg;
  if (!kill_may_ask(thread_kill_of(t)) || (thread_blocked(t) & bit_of(o->sig))) return true;
  o->one = t;
  return false;
}

/* No thread of the kernel's wanted it that was sent to the process, or a light G made the call. */
static void give_away(int sig, const siginfo_t *si) {
  struct own o = {.sig = sig};
  threads_each(has_it_open, &o);
  if (o.one)
    (void)kill_send(thread_kill_of(o.one), sig, si);
  else
    raw_syscall3(SYS_tgkill, sys_getpid(), sys_getpid(), sig);
}

/*
 * It becomes pending for G, which sees to it here if that can be, or else at the end of its call (preload/lightio.c), or when it is reminded.  Not by kill_send, whose
 * SIGURG would come in here.
 */
static void keep(struct kill *k, int sig, const siginfo_t *si) {
  run_lock(&k->lock);
  bool pends = is_g(k);
  if (pends) (void)pend(k, sig, si);
  if (pends) give_notice(k->g, NOTICE_SIGNAL);
  run_unlock(&k->lock);
  if (pends) remind(&k->reminder, sys_now() + REMIND_FIRST_NS, false);
}

bool free_own_signal(int sig, siginfo_t *si, ucontext_t *uc) {
  if (!(bit_of(sig) & KILL_OWN) || !carrier_now() || (m_self && m_is_borrowed(m_self))) return false;
  (void)sys_sigmask(SYS_SIGSET_MOST); /* until the caller returns to uc */
  struct thread *t = thread_self();
  bool mine = t && ((uint32_t)si->si_pid == sys_getpid() || !(thread_blocked(t) & bit_of(sig)));
  if (mine)
    keep(thread_kill_of(t), sig, si);
  else
    give_away(sig, si);
  if (mine && m_self) free_sigurg(m_self, uc);
  return true;
}
