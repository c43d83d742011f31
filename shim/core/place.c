/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A P stays on its CPU.
 *
 * Who gives a P away (a G that is stopped, or blocks), or sees to it that another gets one (sysmon, the poller), sleeps in a moment, and its CPU is free.  The kernel does not know:
 * it wakes the M that gets the P while the waker still runs, so on another CPU, one that idles.  To wake that takes an interrupt (20 us of the waker's time and 75 us until the M
 * runs, on a virtual machine), the P is of no use meanwhile, and the caches are cold.  So the M is allowed the waker's CPU only, as long as it takes to wake it:
 *
 *   placed 0 --place_m, by the waker--> PENDING + cpu + 1 --the system call is done--> cpu + 1 --M, awake: place_awake--> 0
 *                                              '---------- it failed, or a handler runs ------------------------------> 0
 *
 * The first thing that the M does is to allow itself all CPUs again, so no code of the program's runs with our mask, and none is handed down to a child:
 *
 *   M in park_m     place_ok != 0 ... asleep ... awake: placed?  place_ok = 0
 *   its handlers    place_ok = 0; fence; placed?  ... place_ok as it was  (they run while it sleeps)
 *   place_m         placed = PENDING; fence; place_ok?
 *
 * The fence on both sides (Dekker): either the handler sees `placed`, and waits until the system call is done and undoes it, or place_m sees that one runs, and leaves it.
 *
 * Only threads that have all CPUs of their cpuset are placed.  Who was given some, by the program or by taskset, keeps them: we never need to remember a mask, and "all" is set as all
 * ones, so that the kernel goes on to follow the cpuset, as it does for a thread whose mask nobody has set.  What all are is measured on sysmon's thread.
 *
 * Nor is one placed on another node than it slept on: its memory is there, as a rule, and the kernel knows better.
 *
 * It costs five light system calls for a wake-up that is saved.  Where several are woken at once only the first is placed: there is one CPU.
 *
 * What can be seen of it: for some microseconds /proc/PID/task/TID/status, and another process's sched_getaffinity, say one CPU.  A mask that another process sets in
 * these is kept, unless it is that same CPU.
 *
 * Not on a CPU that another M waits for, as far as can be known (sched_leaves_a_cpu).
 *
 * Not for who hands its P on before a call that blocks for sure (hand_on in gate.c tells why).
 *
 * Rejected: a soft hint.  A synchronous wake-up (WF_SYNC: pipes, sockets) makes the kernel consider the waker's CPU, but it prefers an idle one.
 */
#include "core/place.h"
#include <stdatomic.h>
#include <string.h>
#include "core/sched.h"

#define WORDS 16u /* 1,024 CPUs; where the kernel has more it refuses, and nobody is placed */
#define PENDING 0x80000000u
#define MEASURE_NS 1000000000u

struct cpus {
  uint64_t word[WORDS];
};

static struct {
  _Atomic bool on; /* relaxed: place_m finds out by itself */
  struct cpus
      all; /* written under sched.lock, read under others', word by word: whoever reads half of two masks finds a thread that has not all, and leaves it */
  bool stopped;         /* [sched.lock] */
  uint64_t measured_at; /* [sched.lock] */
} place;

static bool get(uint32_t tid, struct cpus *c) {
  memset(c, 0, sizeof *c);
  return raw_syscall3(SYS_sched_getaffinity, (long)tid, sizeof *c, (long)c) > 0;
}

static bool set(uint32_t tid, const struct cpus *c) { return raw_syscall3(SYS_sched_setaffinity, (long)tid, sizeof *c, (long)c) == 0; }

static bool set_all(uint32_t tid) {
  struct cpus c;
  memset(&c, 0xff, sizeof c);
  return set(tid, &c);
}

static bool equal(const struct cpus *a, const struct cpus *b) { return memcmp(a, b, sizeof *a) == 0; }

static struct cpus only(uint32_t cpu) {
  struct cpus c = {{0}};
  c.word[cpu / 64] = (uint64_t)1 << (cpu % 64);
  return c;
}

static unsigned count(const struct cpus *c) {
  unsigned n = 0;
  for (unsigned i = 0; i < WORDS; i++) n += (unsigned)__builtin_popcountll(c->word[i]);
  return n;
}

/* It must have slept, or its thread would be moved where it is. */
static bool sleeps(const struct m *m) { return !m_seen_by_bpf(m) || __atomic_load_n(&m->slot->oncpu_at, __ATOMIC_RELAXED) == 0; }

static bool has_all(const struct m *m) {
  struct cpus now, all;
  for (unsigned i = 0; i < WORDS; i++) all.word[i] = __atomic_load_n(&place.all.word[i], __ATOMIC_RELAXED);
  return get(m->tid, &now) && equal(&now, &all);
}

static bool on(void) { return atomic_load_explicit(&place.on, memory_order_relaxed); }

static bool where(uint32_t *cpu, uint32_t *node) { return raw_syscall3(SYS_getcpu, (long)cpu, (long)node, 0) == 0; }

void place_asleep(struct m *m) {
  uint32_t cpu = 0, node = 0;
  if (on() && where(&cpu, &node)) __atomic_store_n(&m->place_ok, 1 + node, __ATOMIC_RELAXED);
}

void place_m(struct m *m) {
  uint32_t cpu = 0, node = 0, none = 0, at = __atomic_load_n(&m->place_ok, __ATOMIC_RELAXED);
  if (!on() || !at || m->own_cpus || !sleeps(m)) return;
  if (!where(&cpu, &node) || cpu >= WORDS * 64 || at != 1 + node || !has_all(m)) return;
  if (!__atomic_compare_exchange_n(&m->placed, &none, PENDING | (cpu + 1), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return;
  atomic_thread_fence(memory_order_seq_cst); /* placed, then place_ok; pairs with place_handler_slow */
  struct cpus c = only(cpu);
  bool done = __atomic_load_n(&m->place_ok, __ATOMIC_RELAXED) && set(m->tid, &c);
  __atomic_store_n(&m->placed, done ? cpu + 1 : 0, __ATOMIC_RELEASE); /* pairs with place_awake */
  if (done) __atomic_fetch_add(&sched.stats.placed, 1, __ATOMIC_RELAXED);
}

/* No handler of the program's comes in between: it would run with our mask, or set one that we then undo. */
void place_leave_slow(struct m *m) {
  m_hold(m);
  __atomic_store_n(&m->place_ok, 0, __ATOMIC_RELAXED);
  uint32_t at;
  while ((at = __atomic_load_n(&m->placed, __ATOMIC_ACQUIRE)) & PENDING) raw_syscall0(SYS_sched_yield); /* a system call's time */
  struct cpus now;
  if (at && get(0, &now)) {
    struct cpus ours = only(at - 1);
    if (equal(&now, &ours)) set_all(0);
  }
  __atomic_store_n(&m->placed, 0, __ATOMIC_RELAXED);
  m_release(m);
}

uint32_t place_handler_slow(struct m *m) {
  uint32_t was = __atomic_exchange_n(&m->place_ok, 0, __ATOMIC_RELAXED);
  atomic_thread_fence(memory_order_seq_cst); /* place_ok, then placed; pairs with place_m */
  if (__atomic_load_n(&m->placed, __ATOMIC_RELAXED)) place_leave_slow(m);
  return was;
}

/* --- what the program does with masks --- */

static struct m *find(uint32_t tid) {
  struct m *m = sched.allm;
  while (m && m->tid != tid) m = m->next;
  return m;
}

/* m's thread is allowed all again, by another.  It may do so itself at the same time. Lock held. */
static bool undo(struct m *m) { return m && __atomic_load_n(&m->placed, __ATOMIC_ACQUIRE) && set_all(m->tid); }

void place_sets(uint32_t tid) {
  if (!on() || tid == sys_gettid()) return;
  sched_lock();
  struct m *m = find(tid);
  if (m) m->own_cpus = true;
  undo(m);
  sched_unlock();
}

bool place_hides(uint32_t tid) {
  if (!on() || tid == sys_gettid()) return false;
  sched_lock();
  bool hidden = undo(find(tid));
  sched_unlock();
  return hidden;
}

/* --- whether anybody is placed --- */

void place_measure(uint64_t now) {
  SCHED_ASSERT_LOCKED();
  struct cpus before, all;
  if (place.stopped || (place.measured_at && now - place.measured_at < MEASURE_NS)) return;
  place.measured_at = now;
  bool ok = get(0, &before) && set_all(0) && get(0, &all);
  if (ok && !equal(&before, &all)) set(0, &before);
  for (unsigned i = 0; ok && i < WORDS; i++) __atomic_store_n(&place.all.word[i], all.word[i], __ATOMIC_RELAXED);
  atomic_store_explicit(&place.on, ok && count(&all) > 1, memory_order_relaxed);
}

void place_stop(void) {
  sched_lock();
  place.stopped = true;
  bool was = atomic_exchange_explicit(&place.on, false, memory_order_relaxed);
  for (struct m *m = was ? sched.allm : NULL; m; m = m->next)
    if (undo(m)) __atomic_store_n(&m->placed, 0, __ATOMIC_RELAXED);
  sched_unlock();
}
