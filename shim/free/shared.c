/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals to the process (kill, timers, SIGCHLD) that no kernel thread of the program has open, but a thread G has, on paper.
 *
 * The kernel keeps them in the set that all threads share until one opens its mask.  The monitor blocks all signals, so rt_sigpending shows it that set.  It looks from time to
 * time; what pends at two looks nobody takes.  A thread G that has it open is given a notice (kill.c), with nothing pending of its own: it gets a thread of the kernel's, opens its
 * mask, and the kernel gives the signal to it, as to any thread.  Who waits for it in sigwait has it before: the kernel wakes that one when it is sent.
 *
 *         main blocks something, or has left; or a G is born that may have open what main blocks, or opens again what it was born with
 *   OFF ------------------------------------------------------------------------------------------------------> ON: a look every 5 ms, ... 100 ms
 *    ^                                                                                                           |
 *    '-- twice: main blocks nothing that a G has open (asked of /proc after a moment, then once in a second) ----'
 *
 * Main's mask decides: what it has open the kernel gives to it.  A G that opens what it was born with blocked is wired.  Who blocks all, creates a thread and opens again wakes
 * the monitor, some times a second.
 *
 * What the program ignores is dropped here, as a thread that has it open would.
 *
 * watch:   shared_watch: mask, or the list of Gs; then the word      possible: the word = 0; then mask and list
 *
 * With a fence between on both sides: either the one sees 0 and sets it, or the other sees what has changed.
 *
 * While it is on, the carrier that sleeps in the netpoller has a signalfd there, and says at once that something pends (free_shared_told).  Where all carriers are busy, or there are no descriptors to be
 * had, the next look finds it.
 *
 * All but `watch`, `opened` and `told` is the monitor's.
 */
#include "free/shared.h"
#include <stddef.h>
#include <string.h>
#include "core/carrier.h"
#include "core/preempt.h"
#include "free/free.h"
#include "free/kill.h"
#include "free/thread.h"

#define FIRST_NS 5000000u
#define MOST_NS 100000000u
#define SURE_NS 1000000u   /* from one look to the next that makes sure */
#define AGAIN_NS 20000000u /* whoever was asked has not seen to it: another is, after this, twice this, ... */
#define AGAIN_MOST_NS 1280000000u
#define JUDGE_NS 1000000000u
#define GAP_MOST_NS 160000000u
#define NOES 2u

static _Atomic uint32_t watch;  /* 1: on */
static _Atomic uint32_t opened; /* 1: somebody may have open what nobody had; seen at the next look */

static _Atomic uint32_t told; /* 1: something pends; seen at the next look */

static struct {
  bool on;
  uint64_t at, soonest, every; /* the next look; not before; from look to look */
  uint64_t looked;             /* at the last one */
  uint64_t judge_at, gap, no_at;
  unsigned noes;
  uint64_t seen;   /* what pended at the last look */
  uint64_t nobody; /* what of it no G has open; till the next judgement */
  uint64_t asked;  /* what of it a G was asked to take */
  uint64_t again_at, again;
} w;

static uint64_t bit_of(int sig) { return (uint64_t)1 << (sig - 1); }

void shared_watch(void) {
  atomic_thread_fence(memory_order_seq_cst); /* what has changed, then `watch`; pairs with possible */
  if (GLANCE(watch) || !thread_count()) return;
  atomic_store_explicit(&watch, 1, memory_order_relaxed);
  netpoll_signals(true);
  monitor_look_now();
}

/* The netpoller knows it by name. */
void free_shared_told(void);
void free_shared_told(void) {
  atomic_store_explicit(&told, 1, memory_order_relaxed);
  monitor_look_now();
}

/* What carriers block: others are open in them.  SIGURG, once it is the program's, they block when one comes (preload/signal.c). */
static uint64_t blocked_by_carriers(void) { return carrier_sigmask() | (preempt_is_hidden() ? (uint64_t)1 << (SIGURG - 1) : 0); }

void shared_blocks(uint64_t set) {
  if ((set & blocked_by_carriers()) && thread_is_main()) shared_watch();
}

void shared_opens(void) {
  atomic_thread_fence(memory_order_seq_cst); /* the mask, then the words; pairs with news */
  if (!GLANCE(watch))
    shared_watch();
  else if (!atomic_exchange_explicit(&opened, 1, memory_order_relaxed))
    monitor_look_now();
}

void shared_sends(int sig) {
  struct thread *self = thread_self();
  if (!self || !thread_is_g(self) || sig < 1 || sig > 64 || !GLANCE(watch)) return;
  if (bit_of(sig) & (blocked_by_carriers() | KILL_OWN) & ~thread_blocked(self)) free_wire(FREE_WIRE_SIGNALS);
}

void shared_fork_child(void) {
  memset(&w, 0, sizeof w);
  atomic_store_explicit(&watch, 0, memory_order_relaxed);
  atomic_store_explicit(&told, 0, memory_order_relaxed);
}

/* --- which G --- */

struct choice {
  uint64_t set;       /* of these one is to be open */
  bool any;           /* the first will do */
  uint64_t open;      /* those that are, in one or the other */
  struct thread *one; /* who has been there longest; null: none */
};

static bool has_open(struct thread *t, void *arg) {
  struct choice *c = arg;
  uint64_t open = c->set & ~thread_blocked(t);
  if (!open || !kill_may_ask(thread_kill_of(t))) return true;
  c->open |= open;
  c->one = t; /* the list begins with the youngest */
  return !c->any;
}

static struct choice choose(uint64_t set, bool any) {
  struct choice c = {.set = set, .any = any};
  if (set) threads_each(has_open, &c);
  return c;
}

/* --- whether it can be --- */

static bool possible(void) {
  atomic_store_explicit(&watch, 0, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst); /* pairs with shared_watch */
  uint64_t blocked = thread_main_gone() ? ~(uint64_t)0 : kill_status("/proc/self/status", "\nSigBlk:\t", ~(uint64_t)0);
  if (!choose(blocked & blocked_by_carriers(), true).one && ++w.noes >= NOES) return false;
  atomic_store_explicit(&watch, 1, memory_order_relaxed);
  return true;
}

/* False: it is off. */
static bool judge(uint64_t now) {
  unsigned before = w.noes;
  w.nobody = 0;
  if (!possible()) {
    w.on = false;
    w.no_at = now;
    return false;
  }
  bool no = w.noes != before;
  if (!no) w.noes = 0;
  w.judge_at = now + (no ? 2 * w.gap : JUDGE_NS);
  return true;
}

static void begin(uint64_t now) {
  uint64_t gap = now - w.no_at > JUDGE_NS ? FIRST_NS : 2 * w.gap;
  memset(&w, 0, sizeof w);
  w.on = true;
  w.gap = gap < GAP_MOST_NS ? gap : GAP_MOST_NS;
  w.at = w.soonest = now + FIRST_NS;
  w.judge_at = now + w.gap;
  w.every = FIRST_NS;
  w.again = AGAIN_NS;
}

/* --- looks --- */

/* Those that the program ignores: as many as there are. */
static uint64_t drop_ignored(uint64_t set) {
  struct timespec none = {0, 0};
  for (int sig = 1; sig <= 64; sig++) {
    uint64_t one = bit_of(sig);
    if (!(set & one) || !kill_ignores(sig)) continue;
    while (raw_syscall4(SYS_rt_sigtimedwait, (long)&one, 0, (long)&none, sizeof one) == sig) continue;
    set &= ~one;
  }
  return set;
}

static void give(uint64_t set, uint64_t now) {
  struct choice c = choose(set, false);
  w.nobody |= set & ~c.open;
  set = drop_ignored(set & c.open);
  if (!set) return;
  c = choose(set, false);
  if (!c.one) return;
  w.asked |= set & ~thread_blocked(c.one);
  w.again_at = now + w.again;
  if (w.again < AGAIN_MOST_NS) w.again *= 2;
  kill_ask(thread_kill_of(c.one));
}

/* True: there is something that is to be seen to. */
static bool look_pending(uint64_t now) {
  uint64_t set = 0;
  raw_syscall2(SYS_rt_sigpending, (long)&set, sizeof set);
  set &= blocked_by_carriers();
  w.asked &= set;
  if (!w.asked) w.again = AGAIN_NS;
  if (w.asked && now >= w.again_at) w.asked = 0;
  uint64_t due = set & ~w.nobody & ~w.asked, sure = due & w.seen;
  w.seen = set;
  if (sure) give(sure, now);
  return (due & ~w.nobody) || w.asked;
}

static void news(void) {
  if (!GLANCE(opened)) return;
  atomic_store_explicit(&opened, 0, memory_order_relaxed);
  atomic_thread_fence(memory_order_seq_cst); /* pairs with shared_opens */
  w.nobody = 0;
}

static void end(void) {
  netpoll_signals(false);
  atomic_thread_fence(memory_order_seq_cst); /* pairs with shared_watch: the word, then on */
  if (GLANCE(watch)) netpoll_signals(true);
}

/* Not before this.  A signal that somebody takes should have been taken by then; and what nobody has open may be told again and again. */
static uint64_t earliest(void) { return GLANCE(told) ? w.looked + SURE_NS : w.soonest; }

/* core/monitor.c knows it by name.  When to look again. */
uint64_t free_shared_look(uint64_t now);
uint64_t free_shared_look(uint64_t now) {
  if (!GLANCE(watch)) return UINT64_MAX;
  if (!w.on) begin(now);
  if (now < earliest()) return GLANCE(opened) || GLANCE(told) ? earliest() : w.at; /* the monitor has something else to do */
  atomic_store_explicit(&told, 0, memory_order_relaxed);
  w.looked = now;
  news();
  bool busy = look_pending(now);
  if (now >= w.judge_at && !judge(now)) {
    end();
    return UINT64_MAX;
  }
  w.every = busy ? FIRST_NS : w.every + w.every / 4;
  if (w.every > MOST_NS) w.every = MOST_NS;
  w.soonest = now + (busy && !w.asked ? SURE_NS : FIRST_NS);
  w.at = busy ? w.soonest : now + w.every;
  if (w.judge_at < w.at && w.judge_at > now) w.at = w.judge_at;
  return w.at;
}
