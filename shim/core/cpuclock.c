/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU time of thread Gs.  The kernel counts that of its threads, and a G goes from one to another.
 *
 *   cpuclock_on 0:  a switch costs one load.  Of what a G uses is known what it used alone (carrier_evict), which sched.c has charged anyway
 *               1:  from the first time that the program asks for the clock of any thread G, at each switch the G that leaves is charged
 *
 * To ask the kernel for a thread's clock at each switch would cost several times what the switch does, so a stint of less than SHORT_NS without a wrapped call is charged by the
 * wall clock, which the vDSO reads.  At the end of others, and at least once in SUM_NS, the thread's clock is asked: no more is charged than it has advanced since it was
 * last asked, less what others were charged since then.  So a G pays neither for being preempted nor for waiting in the kernel, unless that was short and the kernel's own idea.
 * Who reads a clock has the thread's asked: from one reading to the next, in one stint, it is the kernel's to the nanosecond.
 *
 *   charge = min(wall now - wall, cpu now - cpu - by_wall)     both grow while a G runs, so what was said is never taken back.  wall 0: it is the other that counts
 *
 * When the clocks are turned on each carrier that runs a thread G is made to have begun, with what is known of the present stint: since it went alone, or since the
 * monitor first saw it.  What Gs used before that, neither alone nor at a stretch, they were never charged.
 *
 * A G that is wired keeps its carrier's struct with the thread, so its clock goes on as it was; such a carrier has begun, also where the others have not.
 *
 * c->cpu is a seqlock: seq is odd while it is written, by the carrier (held) or who turns the clocks on.  Readers elsewhere try again, in the end as if they wrote; g->cpu_on says whose.
 */
#include "core/cpuclock.h"
#include "core/carrier.h"

#define SHORT_NS 50000u
#define SUM_NS 1000000u
#define TRIES 200u
#define TRIES_ASIDE 4u

_Atomic uint32_t cpuclock_on;

#define PUT(field, v) atomic_store_explicit(&(field), v, memory_order_relaxed)

static uint64_t own_clock(void) {
  struct timespec ts = {0, 0};
  raw_syscall2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, (long)&ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- the seqlock --- */

/* Whoever has it is in the scheduler, and about to be done. */
static void write_begin(struct cpuclock *k) {
  for (;;) {
    uint32_t seq = GLANCE(k->seq);
    if (!(seq & 1) && atomic_compare_exchange_weak_explicit(&k->seq, &seq, seq + 1, memory_order_acquire, memory_order_relaxed)) break;
    raw_syscall0(SYS_sched_yield);
  }
  atomic_thread_fence(memory_order_release); /* pairs with read_again: who sees what is written now sees seq odd */
}
/* release: pairs with read_begin */
static void write_end(struct cpuclock *k) { atomic_fetch_add_explicit(&k->seq, 1, memory_order_release); }

static uint32_t read_begin(const struct cpuclock *k) { return atomic_load_explicit(&k->seq, memory_order_acquire); }
static bool read_again(const struct cpuclock *k, uint32_t seq) {
  atomic_thread_fence(memory_order_acquire); /* pairs with write_begin */
  return (seq & 1) || GLANCE(k->seq) != seq;
}

/* --- charging; all with the seqlock, and with clocks that are read while it is had: no reader knows later ones --- */

static uint64_t by_clocks(const struct cpuclock *k, uint64_t wall, uint64_t cpu) {
  uint64_t w = wall - GLANCE(k->wall), paid = GLANCE(k->cpu) + GLANCE(k->by_wall);
  uint64_t c = cpu > paid ? cpu - paid : 0;
  return w < c ? w : c;
}

/* g, which runs, has been charged up to where its thread's clock was `cpu`. */
static void begin(struct carrier *c, struct g *g, uint64_t cpu) {
  struct cpuclock *k = &c->cpu;
  PUT(k->wall, 0);
  PUT(k->cpu, cpu);
  PUT(k->by_wall, 0);
  PUT(k->g, g);
  PUT(k->begun, 1);
  atomic_store_explicit(&g->cpu_on, c, memory_order_release); /* pairs with runs_on */
}

/* Of the caller's own thread.  Until g leaves, it is its thread's clock alone that counts. */
static void settle(struct cpuclock *k, struct g *g, uint64_t cpu) {
  OWN_ADD(g->cpu, by_clocks(k, sys_now(), cpu));
  PUT(k->wall, 0);
  PUT(k->cpu, cpu);
  PUT(k->by_wall, 0);
}

/* g does not run on it any more. */
static void leave(struct cpuclock *k, struct g *g) {
  PUT(k->g, NULL);
  atomic_store_explicit(&g->cpu_on, NULL, memory_order_release); /* pairs with runs_on: g->cpu is all */
}

/* --- before the clocks are turned on --- */

/* What the G that runs on pq has used since the monitor saw it first, where its thread's clock is `cpu`; 0: not known. */
static uint64_t since_seen(const struct pq *pq, uint64_t cpu, uint64_t now) {
  if (__atomic_load_n(&pq->seen_tick, __ATOMIC_RELAXED) != GLANCE(pq->tick)) return 0;
  uint64_t seen = __atomic_load_n(&pq->seen_cpu, __ATOMIC_RELAXED), at = __atomic_load_n(&pq->seen_at, __ATOMIC_RELAXED);
  /* more than the wall clock's: it was another thread's */
  return seen && cpu > seen && now > at && cpu - seen <= now - at + SHORT_NS ? cpu - seen : 0;
}

/* What c's G has used of its thread in the present stint, as far as known; `cpu` is that thread's clock.  At a glance. */
static uint64_t stint(const struct carrier *c, uint64_t cpu) {
  const struct cpuclock *k = &c->cpu;
  uint64_t now = sys_now();
  if (c->alone) {
    bool bpf;
    uint64_t at = m_cpu_ns(c->m, now, &bpf);
    return k->alone_known && bpf == k->alone_bpf && at > k->alone_cpu ? at - k->alone_cpu : 0;
  }
  const struct pq *pq = __atomic_load_n(&c->pq, __ATOMIC_RELAXED);
  return pq ? since_seen(pq, cpu, now) : 0;
}

void cpuclock_alone(struct carrier *c, struct g *g, const struct pq *pq, uint64_t used) {
  if (GLANCE(cpuclock_on)) return;
  uint64_t seen = used && !c->m->cpu_from_bpf ? since_seen(pq, c->m->cpu_last, sys_now()) : 0;
  OWN_ADD(g->cpu, seen > used ? seen : used);
  c->cpu.alone_cpu = c->m->cpu_last;
  c->cpu.alone_bpf = c->m->cpu_from_bpf;
  c->cpu.alone_known = true;
}

void cpuclock_alone_over(struct carrier *c, struct g *g) {
  struct cpuclock *k = &c->cpu;
  bool known = k->alone_known && c->m->cpu_from_bpf == k->alone_bpf && c->m->cpu_last > k->alone_cpu;
  if (known && !GLANCE(k->begun)) OWN_ADD(g->cpu, c->m->cpu_last - k->alone_cpu);
  k->alone_known = false;
}

/* --- turning them on --- */

/* c is not in the midst of a switch: it runs its G, or waits for a P on the way back to it.  At a glance. */
static bool steady(const struct carrier *c) {
  const struct m_slot *s = __atomic_load_n(&c->m->slot, __ATOMIC_ACQUIRE); /* pairs with m_place_slot */
  return !__atomic_load_n(&c->m->locks, __ATOMIC_RELAXED) || (s && SLOT_LOAD(s->state) == M_IDLE);
}

/* c's G, if it has one and has not begun; c is the caller's own, or steady.  light.lock held.  False: later. */
static bool begin_at_once(struct carrier *c, bool own) {
  struct cpuclock *k = &c->cpu;
  struct g *g = __atomic_load_n(&c->g, __ATOMIC_RELAXED);
  if (GLANCE(k->begun) || !g || g->kind != G_THREAD || !c->m) return true;
  if (!own && !steady(c)) return false;
  uint64_t cpu = sys_thread_cpu_ns(k->tid), so_far = stint(c, cpu);
  if (cpu == 0) return true; /* of another process: the caller is a child of vfork */
  write_begin(k);
  bool still = !GLANCE(k->begun) && __atomic_load_n(&c->g, __ATOMIC_RELAXED) == g;
  still = still && (own || steady(c));
  if (still) begin(c, g, cpu - so_far);
  write_end(k);
  return still;
}

void cpuclock_turn_on(void) {
  if (GLANCE(cpuclock_on) || atomic_exchange_explicit(&cpuclock_on, 1, memory_order_seq_cst)) return;
  bool all = false;
  sched_hooks.barrier(); /* who switches from now on sees it; who is in the midst of it is seen to be held */
  for (uint32_t i = 0; i < TRIES && !all; i++) {
    if (i) raw_syscall0(SYS_sched_yield);
    all = true;
    light_take();
    for (struct carrier *c = light.carriers; c; c = c->all) all &= begin_at_once(c, c == carrier_now());
    light_drop();
  }
}

/* --- switches --- */

void cpuclock_carrier_born(struct carrier *c) { c->cpu.tid = sys_gettid(); }

void cpuclock_g_born(struct g *g) {
  PUT(g->cpu, 0);
  PUT(g->cpu_on, NULL);
}

/* What `from` owes at the end of its stint. */
static void charge(struct carrier *c, struct g *from) {
  struct cpuclock *k = &c->cpu;
  uint64_t cpu, w;
  if (GLANCE(k->begun)) {
    w = sys_now() - GLANCE(k->wall);
    if (w < SHORT_NS && GLANCE(k->by_wall) < SUM_NS && GLANCE(c->syscalls) == k->calls) {
      OWN_ADD(from->cpu, w);
      OWN_ADD(k->by_wall, w);
      return;
    }
    cpu = own_clock();
  } else {
    cpu = own_clock();
    begin(c, from, cpu - stint(c, cpu));
  }
  settle(k, from, cpu);
}

static void arrive(struct carrier *c, struct g *to) {
  struct cpuclock *k = &c->cpu;
  if (!GLANCE(k->begun)) PUT(k->cpu, own_clock());
  PUT(k->begun, 1);
  PUT(k->wall, sys_now());
  PUT(k->g, to);
  k->calls = GLANCE(c->syscalls);
  atomic_store_explicit(&to->cpu_on, c, memory_order_release); /* pairs with runs_on */
}

void cpuclock_switch(struct carrier *c, struct g *from, struct g *to) {
  struct cpuclock *k = &c->cpu;
  write_begin(k);
  if (from && from->kind == G_THREAD) {
    charge(c, from);
    leave(k, from);
  }
  if (to && to->kind == G_THREAD) arrive(c, to);
  write_end(k);
}

/* --- Gs with a thread for good --- */

void cpuclock_lent(struct carrier *c) {
  struct cpuclock *k = &c->cpu;
  write_begin(k);
  uint64_t cpu = own_clock();
  if (!GLANCE(k->begun) || GLANCE(k->g) != c->g) begin(c, c->g, cpu - stint(c, cpu));
  settle(k, c->g, cpu);
  write_end(k);
  k->alone_known = false;
}

void cpuclock_gone(struct carrier *c, struct g *g) {
  struct cpuclock *k = &c->cpu;
  write_begin(k);
  if (!sys_is_aside()) settle(k, g, own_clock()); /* else nobody will ask us */
  leave(k, g);
  PUT(k->begun, 0);
  write_end(k);
}

void cpuclock_thread_ends(struct carrier *c) {
  struct cpuclock *k = &c->cpu;
  write_begin(k);
  PUT(k->g, NULL);
  PUT(k->begun, 0);
  write_end(k);
  k->alone_known = false;
}

/* Where the clocks are on, the switch that comes next does it. */
void cpuclock_returned(struct carrier *c, struct g *g) {
  if (!GLANCE(cpuclock_on)) cpuclock_gone(c, g);
}

int64_t cpuclock_ahead(const struct g *g) {
  const struct carrier *c = GLANCE(g->cpu_on);
  return c ? (int64_t)(GLANCE(c->cpu.cpu) - GLANCE(g->cpu)) : 0;
}

/* --- reading --- */

/* The caller, held, runs g on c.  In a child of vfork its thread is another than c's, whose clock began anew: then that is what was asked for. */
static uint64_t settle_own(struct carrier *c, struct g *g) {
  struct cpuclock *k = &c->cpu;
  write_begin(k);
  uint64_t cpu = own_clock();
  if (!GLANCE(k->begun) && sys_gettid() == k->tid) begin(c, g, cpu - stint(c, cpu));
  if (GLANCE(k->begun) && cpu >= GLANCE(k->cpu)) {
    settle(k, g, cpu);
    cpu = GLANCE(g->cpu);
  }
  write_end(k);
  return cpu;
}

static uint64_t read_own(struct g *g) {
  struct carrier *c = carrier_now();
  struct m *m = c ? c->m : m_self;
  m_hold(m);
  if (!c) c = GLANCE(g->cpu_on); /* it is wired */
  uint64_t ns = c ? settle_own(c, g) : own_clock();
  m_release(m);
  return ns;
}

/* Null: it does not run, and *ns is right. */
static struct carrier *runs_on(struct g *g, uint64_t *ns) {
  struct carrier *c = atomic_load_explicit(&g->cpu_on, memory_order_acquire); /* pairs with leave, begin and arrive */
  *ns = GLANCE(g->cpu);
  return c;
}

/* g, which c runs.  False: it does not any more. */
static bool read_on(const struct carrier *c, struct g *g, uint64_t *ns) {
  const struct cpuclock *k = &c->cpu;
  bool there = GLANCE(k->g) == g;
  uint64_t cpu = there ? sys_thread_cpu_ns(k->tid) : 0;
  *ns = GLANCE(g->cpu);
  if (cpu) *ns += by_clocks(k, sys_now(), cpu);
  return there;
}

/* Without disturbing c at first. */
static bool read_patiently(struct carrier *c, struct g *g, uint64_t *ns, bool disturb) {
  if (!disturb) {
    uint32_t seq = read_begin(&c->cpu);
    bool there = read_on(c, g, ns);
    return !read_again(&c->cpu, seq) && there;
  }
  m_hold(m_self);
  write_begin(&c->cpu);
  bool there = read_on(c, g, ns);
  write_end(&c->cpu);
  m_release(m_self);
  return there;
}

/* One that was in the scheduler for long when the clocks were turned on, and has not been since. */
static void begin_late(struct g *g) {
  light_take();
  for (struct carrier *c = light.carriers; c; c = c->all)
    if (__atomic_load_n(&c->g, __ATOMIC_RELAXED) == g) begin_at_once(c, false);
  light_drop();
}

uint64_t cpuclock_read(struct g *g, bool own) {
  uint64_t ns = 0;
  struct carrier *c;
  if (own) return read_own(g);
  if (!GLANCE(g->cpu_on) && __atomic_load_n(&g->status, __ATOMIC_RELAXED) == G_RUNNING) begin_late(g);
  for (uint32_t i = 0; i < TRIES && (c = runs_on(g, &ns)) && !read_patiently(c, g, &ns, i >= TRIES_ASIDE); i++) continue;
  return ns;
}
