/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler.  G: something that runs.  M: a kernel thread.  P: the right to
 * run on one CPU, leased from the pool of the quota domain.  An M must hold a P to
 * run a program's code.
 *
 * Here all Gs are wired: G and M are one, and "scheduling a G" means giving its
 * M a P.  A G becomes ready not by another G's deed but when the kernel
 * returns its thread; so ready Gs come one by one through m_exitsyscall_slow()
 * and wait in one of two queues, newcomers and regular ones (fair.h).  The per-P queues
 * (runq.c) hold Gs that were made ready by a G that runs (g_ready).
 *
 * How an M stops holding its P:
 *   1. it blocks in the kernel.  It says nothing; BPF leaves a mark (or sysmon guesses), and
 *      whoever looks for a P retakes that one (handoff.c).  When nobody looks, the M finds its
 *      P where it left it, and a blocking call has cost a store and a load.
 *   2. it is about to block for sure and somebody waits: it hands the P on itself (m_entersyscallblock).
 *   3. it is asked to: 10 ms are over and others wait, a newcomer wants to run, or the
 *      quota is nearly spent and it is a hog (preempt.c).
 *
 * How an M gets one (sched_p_get): a free slot of the pool page; a P retaken from a
 * blocked M of this process; an express slot, if it is a newcomer.  Else it queues and sleeps
 * on m->park.
 *
 * sched_balance() is the one place that looks at the whole and puts it right: whoever
 * queues a G calls it, and sysmon does whenever time alone can change the answer. It
 * returns that time.  So there is no lost wake-up to reason about beyond one rule: who changes
 * anything under the lock that makes the next look due earlier kicks sysmon (sched_kick).
 *
 * Rejected: a run queue shared by the processes of a pool.  It would give a perfect order, and
 * one process could stop all the others by scribbling over it.  Processes exchange only
 * slots (lease.c), at 10 ms or for a newcomer.
 * Rejected: a gate at every blocking call (a semaphore of nP).  It costs two system
 * calls a block and queues short requests behind batch work (230 ms, DESIGN Facts 7).
 *
 * Lock order: sched.lock alone; no other lock is taken under it.  Ms that were given a P, and sysmon, are woken after it (sched_drop); other futex wakes,
 * which are rare, are done under it: they don't block.
 */
#include "core/sched.h"
#include <stdlib.h>
#include <string.h>
#include "core/gate.h"
#include "core/place.h"
#include "core/preempt.h"

struct sched sched = {.maxprocs = 0, .seed = 1, .bell = &sched.private_bell};
_Atomic uint32_t sched_waiting_flag;
_Atomic uint32_t sched_gs_queued;
_Atomic int sched_last_status = -1;
struct pool_page *sched_count_page;
_Atomic bool gate_quiet __attribute__((aligned(64))); /* it seldom changes, and what lies beside it often does */

const char *wait_reason_name(enum wait_reason why) {
  static const char *const names[WAIT_REASONS] = {"none",      "syscall",    "sleep",   "mutex",      "cond",         "rwlock",
                                                  "semaphore", "barrier",    "join",    "poll",       "io",           "signal",
                                                  "child",     "preempted",  "paced",   "chan send",  "chan receive", "select",
                                                  "nil chan",  "wait group", "context", "idle worker"};
  return (unsigned)why < WAIT_REASONS ? names[why] : "?";
}

/* after: null: in front. */
static void push_after(struct gqueue *q, struct g *after, struct g *g) {
  g->prev = after;
  g->next = after ? after->next : q->head;
  if (g->next)
    g->next->prev = g;
  else
    q->tail = g;
  if (after)
    after->next = g;
  else
    q->head = g;
  q->len++;
}

void gqueue_push(struct gqueue *q, struct g *g) { push_after(q, q->tail, g); }
void gqueue_push_front(struct gqueue *q, struct g *g) { push_after(q, NULL, g); }

void gqueue_push_owner(struct gqueue *q, struct g *g) {
  push_after(q, q->owners, g);
  q->owners = g;
}

void gqueue_remove(struct gqueue *q, struct g *g) {
  if (q->owners == g) q->owners = g->prev;
  if (g->prev)
    g->prev->next = g->next;
  else
    q->head = g->next;
  if (g->next)
    g->next->prev = g->prev;
  else
    q->tail = g->prev;
  g->next = g->prev = NULL;
  q->len--;
}

struct g *gqueue_pop(struct gqueue *q) {
  struct g *g = q->head;
  if (g) gqueue_remove(q, g);
  return g;
}

/* Gs of the domain that want to run now, as far as this process sees. */
uint32_t sched_nactive(void) {
  uint32_t n = sched.nheld + sched.express.len + sched.global.len;
  if (lease_is_shared()) n += lease_others_wait().wants + lease_page_held() - sched.nheld;
  return n;
}

uint64_t sched_my_share(uint32_t more) {
  uint32_t rate = sched.page ? atomic_load_explicit(&sched.page->rate, memory_order_relaxed) : 0;
  uint32_t slots = lease_nslots() * POOL_RATE_ONE;
  return fair_share(rate && rate < slots ? rate : slots, sched_nactive() + more);
}

void sched_charge_pool(uint64_t now, uint64_t cpu) {
  if (!sched.page) return;
  pool_take_tokens(sched.page, now, (int64_t)(cpu > 1000000000u ? 1000000000u : cpu));
  atomic_fetch_add_explicit(&sched.page->charged, cpu, memory_order_relaxed);
  atomic_fetch_add_explicit(&sched.page->members[sched.member].charged, cpu, memory_order_relaxed);
}

/* Charges m's CPU time since the last charge: to its G's usage and to the pool. */
void sched_charge(struct m *m, uint64_t now) {
  bool bpf;
  uint64_t cpu = m_cpu_ns(m, now, &bpf);
  uint64_t delta = cpu - m->cpu_last;
  bool valid = bpf == m->cpu_from_bpf && cpu >= m->cpu_last;
  m->cpu_last = cpu;
  m->cpu_from_bpf = bpf;
  if (m->p) lease_charged(m->p, now);
  if (!valid || delta) m->cpu_moved_at = now;
  if (!valid) m->cpu_granted = m->cpu_looked = cpu; /* another clock */
  if (!valid || delta == 0) return;
  fair_charge(&m->g->fair, now, delta);
  if (!m->realtime) sched_charge_pool(now, delta); /* else it is not of the quota */
}

/* Tells BPF and the wrappers whether a P that comes free would be used at once. */
void sched_update_waiting(void) {
  uint32_t w = sched.gated && (sched.express.len || sched.global.len || lease_others_wait().wants);
  if (atomic_load_explicit(&sched_waiting_flag, memory_order_relaxed) == w) return;
  atomic_store_explicit(&sched_waiting_flag, w, memory_order_relaxed);
  /* BPF reads it at the next switch; a block just before is seen by our caller's look at blocked_at. */
  if (sched.header) SLOT_STORE(sched.header->waiting, w);
}

void sched_enqueue(struct g *g, enum wait_reason why, uint64_t now, enum sched_place at) {
  static void (*const push[])(struct gqueue *, struct g *) = {
      [SCHED_BACK] = gqueue_push, [SCHED_FRONT] = gqueue_push_front, [SCHED_OWNER] = gqueue_push_owner};
  push[at](g->express ? &sched.express : &sched.global, g);
  g->queued = true;
  g->status = G_RUNNABLE;
  g->why = why;
  g->since = now;
  lease_publish_wants();
  sched_update_waiting();
}

void sched_dequeue(struct g *g) {
  if (!g->queued) return;
  gqueue_remove(g->express ? &sched.express : &sched.global, g);
  g->queued = false;
  lease_publish_wants();
  sched_update_waiting();
}

/*
 * Who has the lock is about to sleep; does it leave a CPU that nobody else with a P is waiting for?  It may have displaced another M when it woke up, on a CPU where that
 * goes on then: to place a second one there would leave another CPU idle, for whole frames, as each that stops hands its CPU on to the next (and the kernel does not part two before its next
 * look at the balance).  Of the Ms of other processes nothing is known.
 */
bool sched_leaves_a_cpu(const struct p *given) {
  if (sched.leaving == SCHED_LEAVES_OWN) return true;
  if (sched.leaving == SCHED_STAYS || lease_page_held() != sched.nheld) return false;
  for (uint32_t i = 0; i < sched.top; i++) {
    const struct p *p = &sched.ps[i];
    if (p != given && p->status == P_RUNNING && p->m && handoff_off_cpu(p->m) && !handoff_blocked_now(p->m)) return false;
  }
  return true;
}

void sched_grant(struct p *p, struct g *g, uint64_t now, bool self) {
  struct m *m = g->lockedm;
  p->status = P_RUNNING;
  p->m = m;
  p->slice_at = now - g->slice_used;
  g->slice_used = 0;
  p->tick++;
  __atomic_store_n(&m->p, p, __ATOMIC_RELAXED); /* alarm_arm has no lock */
  m->granted_at = m->cpu_moved_at = now;
  m->cpu_granted = m->cpu_last;
  sched.grant_before = sched.last_grant;
  sched.last_grant = now;
  if (!g->express) sched.hog_ran_at = now;
  m->preempt_at = 0;
  g->status = G_RUNNING;
  g->why = WAIT_NONE;
  g->since = now;
  SLOT_STORE(m->slot->preempt, 0);
  SLOT_STORE(m->slot->taken, 0);
  SLOT_STORE(m->slot->has_p, 1);
  alarm_pass_on(p, m);
  if (self) return;
  if (sched_leaves_a_cpu(p)) place_m(m);
  sched.leaving = SCHED_STAYS;                              /* there is one CPU */
  atomic_store_explicit(&m->park, 1, memory_order_release); /* pairs with the acquire in park_m */
  if (sched.ngranted == SCHED_WAKES) sched_hooks.wake(&sched.granted[--sched.ngranted]->park, false);
  sched.granted[sched.ngranted++] = m;
}

/*
 * Not under the lock: as a rule the kernel lets who is woken preempt who wakes, and all others would then wait for a lock whose owner has no CPU.
 * (The bell may be of a page that has been left, and be no memory any more: then the kernel refuses, and sysmon has been told of the new one.)  An M that has
 * seen `park` by itself and ended meanwhile is none the worse for a wake-up (m.c: records stay).
 */
void sched_drop(void) {
  struct m *granted[SCHED_WAKES];
  uint32_t n = sched.ngranted;
  for (uint32_t i = 0; i < n; i++) granted[i] = sched.granted[i];
  sched.ngranted = 0;
  sched.leaving = SCHED_STAYS;
  _Atomic uint32_t *bell = sched.kicked ? sched.bell : NULL;
  sched.kicked = false;
  lock_drop(&sched.lock);
  if (bell) sched_hooks.wake(bell, true);
  for (uint32_t i = 0; i < n; i++) sched_hooks.wake(&granted[i]->park, false);
}

struct p *sched_p_take(struct m *m, uint64_t now) {
  struct p *p = m->p;
  sched_charge(m, now);
  m->turn_used += m->cpu_last - m->cpu_granted;
  if (p && !m->g->express) sched.hog_ran_at = now;
  SLOT_STORE(m->slot->has_p, 0);
  __atomic_store_n(&m->p, NULL, __ATOMIC_RELAXED);
  m->preempt_at = 0;
  alarm_taken(p, m, now);
  if (p) {
    p->m = NULL;
    p->status = P_IDLE;
  }
  return p;
}

/* A blocked M of ours whose P could be had. */
static struct p *retake_any(uint64_t now) {
  for (uint32_t i = 0; i < sched.top; i++) {
    struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m || !handoff_blocked(p->m, now)) continue;
    struct p *got = handoff_retake(p->m, now);
    if (got) return got;
  }
  return NULL;
}

/*
 * What newcomers may still use, of whichever process.  They may draw on what the bucket will hold later, within its debt; but not on the
 * kernel's next period, for that is throttled away.  And of this period's last ms only the small ones may have anything: those that
 * use two CPUs for long meet the end of the kernel's slices there.
 */
static int64_t room(uint64_t now, bool small) {
  int64_t debt = (int64_t)atomic_load_explicit(&sched.page->debt_us, memory_order_relaxed) * 1000;
  int64_t ahead = lease_ahead(now), in_period = lease_period_room(now);
  if (sched.crowd || ahead == INT64_MAX) return INT64_MAX;
  int64_t in_debt = debt + ahead;
  if (in_period == INT64_MAX) return in_debt;
  in_period += small ? (int64_t)SCHED_SMALL_OVERDRAFT_NS : -(int64_t)SCHED_RESERVE_NS;
  return in_period < in_debt ? in_period : in_debt;
}

/* For the class that g is in.  The Gs of a carrier are all short ones, and it is theirs on the average that counts. */
uint64_t sched_usage(const struct g *g, uint64_t now) {
  uint64_t usage = fair_usage(&g->fair, now);
  uint32_t gs = __atomic_load_n(&g->gs, __ATOMIC_RELAXED); /* the monitor's: an estimate */
  return gs > 1 ? usage / gs : usage;
}

/*
 * m is stopped as a hog.  One that computes waits for its turn.  One that has called the kernel lately is only behind with its work, and goes on
 * once its average is below the share (look_promote): else each request that comes meanwhile waits for a whole round of the hogs.
 */
bool sched_had_enough(struct m *m) {
  uint32_t requests = m_requests(m);
  if (requests != m->called_systick) m->called_systick = requests, m->cpu_called = m->cpu_granted;
  return m->cpu_last - m->cpu_called >= SCHED_BEHIND_NS; /* also where the clock was changed for one that is behind */
}

/* Gone in a moment, as a rule; of a carrier it is the whole that is or is not. */
static bool small(const struct g *g, uint64_t now) { return fair_usage(&g->fair, now) < FAIR_SMALL_NS; }

/* How far they have gone too far. */
static int64_t overdrawn(uint64_t now) {
  int64_t r = room(now, true);
  return r >= 0 ? 0 : -r;
}

/* May g, a newcomer, run?  Not when they have overdrawn the bucket; but nobody waits for the bucket alone for long. */
static bool newcomer_ok(const struct g *g, uint64_t now) {
  return room(now, small(g, now)) >= 0 || (g->queued && now - g->since > SCHED_DEBT_WAIT_NS);
}

/*
 * All slots of the whole rate are held by newcomers of ours that have just got them, and are gone in a moment, as a rule: when the first of them will have had its moment; else 0.
 * (Not while the bucket is full: then it is the neighbours who keep them there.)  Whoever waits has one of these as soon as an express one, and to run beside them brings nothing where they take turns at a lock anyway: they wake each other from CPU to CPU.
 */
static uint64_t soon_free(uint64_t now) {
  if (sched.surplus || sched.crowd) return 0;
  uint64_t at = UINT64_MAX;
  uint32_t n = 0;
  for (uint32_t i = 0; i < sched.top; i++) {
    const struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m || p->id >= lease_nslots()) continue;
    if (!p->m->g->express || now - p->m->granted_at >= SCHED_MOMENT_NS) return 0;
    if (p->m->granted_at + SCHED_MOMENT_NS < at) at = p->m->granted_at + SCHED_MOMENT_NS;
    n++;
  }
  return n && n == lease_nslots() ? at : 0;
}

/* An express slot that came free is no use to newcomers who have a regular one as soon: passed on among them it would never go back, and they would use more than the rate. */
static bool spare(const struct p *p, uint64_t now) { return p->id >= lease_nslots() && soon_free(now); }

static bool p_fits(const struct p *p, const struct g *g, uint64_t now) {
  if (p->id >= lease_all() || spare(p, now)) return false;
  if (g->express) return true;
  return p->id < lease_hog_slots();
}

struct p *sched_p_get(struct g *g, uint64_t now) {
  if (g->express && !newcomer_ok(g, now)) return NULL;
  struct p *p = lease_acquire(false, !g->express, now);
  if (p) return p;
  p = retake_any(now);
  if (p) {
    if (p_fits(p, g, now)) return p;
    lease_release(p);
  }
  if (!g->express || sched.maxprocs || soon_free(now)) return NULL;
  p = lease_acquire(true, false, now);
  if (p) sched.stats.wakeups++;
  return p;
}

/* At every 4th turn of P who has waited for long goes before owners, who may come one after another without end. */
static struct g *first(const struct gqueue *q, const struct p *p, uint64_t now) {
  struct g *other = q->owners ? q->owners->next : NULL;
  return other && (p->tick & 3) == 2 && now - other->since > SCHED_AGE_NS ? other : q->head;
}

/* The G of ours that P should run next, still queued. */
static struct g *pick(const struct p *p, uint64_t now) {
  struct g *e = first(&sched.express, p, now), *r = first(&sched.global, p, now);
  if (e && !newcomer_ok(e, now)) e = NULL;
  if (r && p->id >= lease_hog_slots()) r = NULL;
  if (e && r && (p->tick & 3) == 0 && now - r->since > SCHED_AGE_NS) return r;
  return e ? e : r;
}

static uint32_t stride(uint32_t part, uint32_t of) { return sched.stride + (uint32_t)((uint64_t)part * 65536 / of); }

static bool stride_over(uint32_t part, uint32_t of) {
  sched.stride = stride(part, of);
  if (sched.stride < 65536) return false;
  sched.stride -= 65536;
  return true;
}

uint64_t sched_turn(void) {
  uint64_t turn = SCHED_ROUND_NS / (__atomic_load_n(&sched.express.len, __ATOMIC_RELAXED) + 1); /* a hint, outside of the lock */
  return turn < SCHED_TURN_MIN_NS ? SCHED_TURN_MIN_NS : turn > SCHED_TURN_MAX_NS ? SCHED_TURN_MAX_NS : turn;
}

/* Whose turn is it, ours or another process's?  In proportion to the Gs that wait here and there. */
static bool others_turn(uint32_t ours, uint32_t theirs) { return theirs && (!ours || stride_over(theirs, ours + theirs)); }

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* The same of the next frame, for which both would look otherwise: so they change places as often as that proportion lets them. */
static bool others_frame(uint32_t ours, uint32_t theirs) { return theirs && (!ours || stride_over(theirs, larger(ours, theirs))); }

/* for_us: newcomers of ours are not to wait for their turn. */
static void give(struct p *p, uint64_t now, bool slice_over, bool for_us) {
  SCHED_ASSERT_LOCKED();
  if (!lease_is_mine(p) || p->id >= lease_all()) { /* expropriated, or of no use to anybody: a crowd is over, or slots are fewer */
    lease_release(p);
    return;
  }
  struct g *g = pick(p, now);
  if (spare(p, now) || (sched.maxprocs && sched.nheld_regular > sched.maxprocs)) g = NULL;
  struct lease_others o = lease_others_wait();
  bool hogs = p->id < lease_hog_slots();
  /* Who has an overdrawn bucket before him cannot use it either, and would hand it on: round and round. */
  if (o.express && overdrawn(now) == 0 && !(g && g->express && (for_us || !others_turn(sched.express.len, o.express)))) {
    if (lease_transfer(p, o.express_member)) return;
  } else if (o.wants > o.express && hogs && !(g && g->express) && (!g || (slice_over && others_turn(sched.global.len, o.wants)))) {
    if (lease_transfer(p, o.member)) return;
  }
  if (!g) {
    if (slice_over && !hogs && sched.paced && o.wants > o.express && others_frame(sched.global.len, o.wants))
      sched.passed_frame = sched.paced_frame;
    lease_release(p);
    return;
  }
  sched_dequeue(g);
  sched_grant(p, g, now, false);
}

void sched_p_free(struct p *p, uint64_t now, bool slice_over) { give(p, now, slice_over, false); }
void sched_p_adopt(struct p *p, uint64_t now) { give(p, now, false, !sched.maxprocs); }

/* --- the look at the whole --- */

struct look {
  uint64_t now, deadline;
  uint64_t tick;    /* by then too, but nothing is lost if it is later */
  int64_t ahead;    /* lease_ahead */
  int64_t room;     /* of the newcomers */
  uint32_t running; /* Ps of ours whose M uses a CPU */
  uint32_t blocked; /* Ps of ours whose M is blocked */
  uint32_t fresh;   /* newcomers of ours that run */
  uint32_t asked;   /* of the running, those already asked to yield */
  struct lease_others others;
};

static void due(struct look *l, uint64_t at) {
  if (at < l->deadline) l->deadline = at;
}

static void due_about(struct look *l, uint64_t at) {
  if (at < l->tick) l->tick = at;
}

/* m is to look at `at` whether it must stop: itself if it can, else sysmon does.  (That of a newcomer, which is soon gone as a rule, may be a tick late.) */
static void stop_due(struct look *l, struct m *m, uint64_t at) {
  bool set = m->g->express ? alarm_set_roughly(m, at) : alarm_set(m, at, SCHED_ALARM_LATE_NS);
  due(l, set ? at + SCHED_ALARM_LOST_NS : at);
}

/*
 * Pacing.  Time is cut into frames of SCHED_FRAME_NS, the same for all processes of the pool.  In each frame the hogs
 * run until what the bucket will hold at the frame's end is spent (lease_ahead), then those beyond the
 * whole CPUs of the rate pause until it ends: 0.5 CPUs is a run of 5 ms and a pause of 5.  A pattern whose
 * length divides the kernel's period uses the same in each of them wherever it begins; so the quota can be used nearly
 * to the end even without knowing the kernel's phase; where it is known, frames begin with the period, and each period
 * begins with an even account.  (Rejected: pausing at an empty bucket until it holds enough again.
 * Its pattern drifts against the period: with pauses long enough to be cheap, one period in five was throttled.)
 *
 * A bucket that is nearly full says that the quota is not being used (others of the host keep us from the CPU):
 * what was missed may still be had.
 */
static void look_pace(struct look *l) {
  uint32_t rate = atomic_load_explicit(&sched.page->rate, memory_order_relaxed);
  if (sched.crowd) {
    pool_forgive(sched.page, l->now);
    lease_stay_crowd(l->now);
  }
  if (rate == 0 || sched.crowd) { /* no quota, or it is the kernel's business: slots alone count */
    sched.paced = sched.surplus = false;
    l->room = INT64_MAX;
    return;
  }
  int64_t credit = (int64_t)atomic_load_explicit(&sched.page->credit_us, memory_order_relaxed) * 1000;
  lease_new_period(l->now);
  int64_t tokens = lease_tokens(l->now);
  uint64_t frame = lease_frame_end(l->now);
  l->ahead = lease_ahead(l->now);
  l->room = room(l->now, false);
  bool runs_out = !sched.paced && l->ahead <= (int64_t)SCHED_PACE_LEAST_NS;
  if (runs_out || (sched.paced && frame != sched.paced_frame)) {
    sched.paced = runs_out || l->ahead <= 0;
    sched.paced_frame = frame;
    sched.stats.pauses += runs_out;
  }
  if (!sched.surplus)
    sched.surplus = tokens >= credit / 4 * 3;
  else
    sched.surplus = tokens > credit / 4;
}

/*
 * Each newcomer uses a little of what the hogs may have, and moves the end of their part by as much.  To wake sysmon for that costs a fifth of what such a newcomer
 * uses: if it looks soon after, that is early enough, and the next frame is shorter.  Not in the last frame of a period, which none follows.
 */
static uint64_t about_then(uint64_t at, bool last) {
  uint64_t until = atomic_load_explicit(&sched.sysmon_until, memory_order_relaxed); /* 0: it is sysmon that asks */
  return until > at && until - at <= SCHED_PACE_LATE_NS && !last ? until : at;
}

/*
 * The frame that hogs that wait look at: not one that is another process's.  While a hog runs, whether it will be (others_frame), when that one waits too; should it turn out otherwise, whoever
 * looks then wakes sysmon.
 */
static uint64_t next_frame(const struct look *l, uint64_t frame_end) {
  bool passes = frame_end == sched.passed_frame;
  uint32_t theirs = l->others.wants;
  if (!sched.paced && l->running > l->fresh)
    passes = theirs > l->others.express && stride(theirs, larger(sched.global.len + 1, theirs)) >= 65536;
  return passes ? lease_frame_end(frame_end + SCHED_PACE_LEAST_NS) : frame_end;
}

/* The hogs on slots beyond the whole CPUs must stop at `at`.  False: there are none, or not all of them see to it themselves. */
static bool stop_themselves(struct look *l, uint32_t whole, uint64_t at, uint64_t late) {
  bool any = false;
  for (uint32_t i = whole; i < sched.top; i++) {
    const struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m || p->m->g->express) continue;
    if (!alarm_set(p->m, at, late)) return false;
    any = true;
  }
  if (!any) return false;
  due(l, at + SCHED_ALARM_LOST_NS);
  return true;
}

/* When the frame's part will be spent, if all goes on as it does.  Hogs that wait look at the frame's end, for nobody tells them of a slot that is closed until then. */
static void look_pace_due(struct look *l) {
  uint32_t rate = atomic_load_explicit(&sched.page->rate, memory_order_relaxed), whole = rate / POOL_RATE_ONE;
  if (rate == 0 || sched.crowd) return;
  uint64_t frame_end = lease_frame_end(l->now), next = next_frame(l, frame_end);
  if (sched.global.len || (sched.paced && l->running > l->fresh)) due(l, next);
  if (sched.paced) return;
  /* Newcomers run for a moment as a rule: to reckon with them would mean to think again at every one that comes and goes. */
  int64_t drain = (int64_t)lease_page_held() - (int64_t)(l->blocked + l->fresh) - (int64_t)whole;
  if (l->running <= l->fresh || drain <= 0) return; /* no hog of ours runs: it is others' business */
  uint64_t wait = l->ahead > 0 ? (uint64_t)(l->ahead / drain) : 0;
  uint64_t at = l->now + (wait < SCHED_PACE_LEAST_NS ? SCHED_PACE_LEAST_NS : wait);
  bool last = frame_end == lease_period_end(l->now);
  /* Newcomers may move it forward; so late it may be, or in the last frame they look so early, and then once more. */
  bool early = last && at > l->now + 2 * SCHED_ALARM_LATE_NS;
  bool themselves = stop_themselves(l, whole, early ? at - SCHED_ALARM_LATE_NS : at, last && !early ? 0 : SCHED_ALARM_LATE_NS);
  due(l, themselves ? next : about_then(at, last)); /* they wait then */
}

/* m has made no call for a whole slice's CPU time, but for those on files. */
static bool only_computes(struct m *m) {
  uint32_t requests = m_requests(m);
  if (requests != m->looked_systick || m->cpu_last < m->cpu_looked) m->looked_systick = requests, m->cpu_looked = m->cpu_last;
  return m->cpu_last - m->cpu_looked >= SCHED_SLICE_NS;
}

static void look_charge(struct look *l) {
  for (uint32_t i = 0; i < sched.top && l->running + l->blocked < sched.nheld; i++) {
    struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m) continue;
    sched_charge(p->m, l->now);
    if (handoff_blocked(p->m, l->now))
      l->blocked++, lease_charged(p, 0); /* it uses nothing */
    else
      l->running++, l->fresh += p->m->g->express;
    if (only_computes(p->m)) lease_no_crowd(l->now);
    if (p->m->preempt_at) l->asked++;
  }
}

/* Ps of blocked Ms go to those who wait; a P that served nobody for a whole tick goes back to the pool. */
static void look_retake(struct look *l) {
  bool wanted = sched.express.len || sched.global.len || l->others.wants;
  uint32_t left = l->blocked;
  for (uint32_t i = 0; i < sched.top && left; i++) {
    struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m || !handoff_blocked(p->m, l->now)) continue;
    left--;
    struct m *m = p->m;
    uint64_t at = __atomic_load_n(&m->slot->blocked_at, __ATOMIC_RELAXED);
    uint64_t tick = sched.crowd ? SCHED_CROWD_TICK_NS : SCHED_ACTIVE_TICK_NS, since = at && at <= l->now ? l->now - at : tick;
    if (!wanted && since < tick) {
      due_about(l, l->now + tick - since);
      continue;
    }
    p = handoff_retake(m, l->now);
    if (!p) continue;
    sched.stats.retakes++;
    sched.stats.handoffs++;
    l->blocked--;
    sched_p_free(p, l->now, false);
  }
}

static void look_unclaimed(struct look *l) {
  if (!sched.express.len && !sched.global.len && !l->others.wants) return;
  for (uint32_t i = 0; i < sched.top; i++) {
    struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m || SLOT_LOAD(p->m->slot->state) != M_IDLE) continue;
    uint64_t at = p->m->granted_at + SCHED_UNCLAIMED_NS;
    p = l->now < at ? NULL : handoff_take_unclaimed(p->m, l->now);
    if (p)
      sched_p_free(p, l->now, false);
    else
      due(l, at > l->now ? at : l->now + SCHED_ACTIVE_TICK_NS);
  }
}

/*
 * A hog that came back from a block and has waited until it has used less than its share is a newcomer by now.  Otherwise a thread whose
 * demand is about its share would, once behind, come back as a hog every time: it has just caught up.
 */
static void look_promote(struct look *l) {
  if (sched.global.len == 0 || l->now - sched.promoted_at < SCHED_SLICE_NS / 2) return;
  sched.promoted_at = l->now;
  uint64_t share = sched_my_share(0);
  unsigned seen = 0;
  for (struct g *g = sched.global.head, *next; g && seen++ < SCHED_PROMOTE_LOOK; g = next) {
    next = g->next;
    if (g->enough || !fair_express(sched_usage(g, l->now), share)) continue;
    gqueue_remove(&sched.global, g);
    g->express = true;
    gqueue_push(&sched.express, g);
  }
  lease_publish_wants();
}

/* Free slots go to Gs that wait. */
static void look_dispatch(struct look *l) {
  struct g *g;
  while ((g = sched.express.head)) {
    struct p *p = sched_p_get(g, l->now);
    if (!p) break;
    sched_dequeue(g);
    sched_grant(p, g, l->now, false);
    l->running++;
  }
  while ((g = sched.global.head)) {
    struct p *p = lease_acquire(false, true, l->now);
    if (!p) break;
    sched_dequeue(g);
    sched_grant(p, g, l->now, false);
    l->running++;
  }
}

/* A newcomer on an express slot that went on running: it becomes a hog, on a regular slot if there is one. */
static bool look_outstayed(struct look *l, struct p *p, uint64_t share) {
  struct g *g = p->m->g;
  uint64_t usage = sched_usage(g, l->now);
  if (g->newborn && p->m->cpu_last - p->m->cpu_granted >= FAIR_BIRTH_NS) {
    g->newborn = false;
    if (usage <= fair_hog_bound(share)) g->fair = (struct fair){usage = fair_hog_bound(share) + 1, l->now};
  }
  if (g->express && fair_hog(usage, share)) g->express = false;
  if (g->express) {
    uint64_t left = g->newborn ? FAIR_BIRTH_NS : fair_hog_bound(share) > usage ? fair_hog_bound(share) - usage : 0;
    /* Where nobody waits for it, as a rule it blocks long before: then a tick's look is enough, and others cost more than they bring. */
    uint64_t least = sched.express.len || l->others.express ? 200000 : g->newborn && p->express ? FAIR_BIRTH_NS : SCHED_ACTIVE_TICK_NS;
    uint64_t at = l->now + (left > least ? left : least);
    if (least < SCHED_ACTIVE_TICK_NS && !(lease_is_shared() && left > SCHED_MOMENT_NS))
      due(l, at);
    else
      due_about(l, alarm_set_roughly(p->m, at) ? at + SCHED_ALARM_LOST_NS : at);
    return false;
  }
  if (!p->express) return false;
  if (p->id < lease_hog_slots()) return false; /* the bucket is full: it may stay */
  struct p *r = lease_acquire(false, true, l->now);
  if (!r) return true;
  p->m = NULL;
  p->status = P_IDLE;
  lease_release(p);
  sched_grant(r, g, l->now, true);
  return false;
}

/* Has m, whose G is a newcomer, used up the room?  The small ones are as a rule gone before it matters: a look for each would cost more. */
static bool look_overdraws(struct look *l, const struct m *m) {
  if (l->room == INT64_MAX || small(m->g, l->now)) return false;
  uint64_t ran = l->now - m->granted_at, left = l->room > 0 ? (uint64_t)l->room / (l->running + 1) : 0;
  if (left == 0 && ran >= SCHED_MIN_RUN_NS) return true;
  due(l, l->now + (left > SCHED_MIN_RUN_NS ? left : SCHED_MIN_RUN_NS));
  return false;
}

/* Must the G on P stop?  Each reason alone; newcomers that need a victim are look_newcomers' business. */
static bool look_must_stop(struct look *l, struct p *p, uint64_t share) {
  if (!lease_is_mine(p) || p->id >= lease_all()) return true;
  if (look_outstayed(l, p, share)) return true;
  if (p->status == P_RUNNING && p->m->g->express && look_overdraws(l, p->m)) return true;
  if (p->status != P_RUNNING || (p->express && p->m->g->express)) return false;
  if (!p->m->g->express && p->id >= lease_hog_slots()) return true;
  if (sched.maxprocs && p->id >= sched.maxprocs && sched.nheld_regular > sched.maxprocs) return true;
  if (sched.global.len == 0 && l->others.wants == 0 && sched.express.len == 0) return false;
  if (l->now - p->slice_at >= SCHED_SLICE_NS) return true;
  stop_due(l, p->m, p->slice_at + SCHED_SLICE_NS);
  return false;
}

/* m is to give up its P: at once if it isn't running anyway, else when the signal reaches it. */
static void look_stop(struct look *l, struct m *m) {
  alarm_displaced(m, l->now);
  /* Not when we were all off the CPUs together (throttled): then it says nothing, and they come back all at once. */
  struct p *p = sched.overslept < SCHED_OVERSLEPT_NS ? handoff_take_waiting(m, l->now) : NULL;
  if (p) {
    sched.nstrays++;
    bool slice_over = sched_stop_slice(m->g, l->now - p->slice_at);
    m->g->front = !slice_over;
    sched.stats.preempts++;
    if (l->running) l->running--;
    sched_p_free(p, l->now, slice_over);
    return;
  }
  preempt_request(m, l->now);
  l->asked++;
  /* It complies as a rule, and does not tell sysmon: a look at whether it did is an idle one.  Soon only if a newcomer waits for it. */
  if (sched.express.len || l->others.express)
    due(l, l->now + SCHED_RESIGNAL_NS);
  else
    due_about(l, l->now + SCHED_SLICE_NS);
}

static void look_preempt(struct look *l) {
  uint64_t share = sched_my_share(0);
  for (uint32_t i = 0; i < sched.top; i++) {
    struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m) continue;
    struct m *m = p->m;
    bool asked = m->preempt_at != 0;
    if (!asked && !look_must_stop(l, p, share)) continue;
    if (asked && l->now - m->preempt_at < SCHED_RESIGNAL_NS) {
      due(l, m->preempt_at + SCHED_RESIGNAL_NS);
      continue;
    }
    if (asked) l->asked--;
    look_stop(l, m);
  }
}

/* When newcomers that wait for an overdrawn bucket may run: it fills by the whole CPUs of the rate, and by the rest at the frame's end. */
static void look_newcomers_due(struct look *l) {
  uint64_t whole = atomic_load_explicit(&sched.page->rate, memory_order_relaxed) / POOL_RATE_ONE;
  uint64_t wait = whole ? (uint64_t)overdrawn(l->now) / whole : 0;
  if (whole) due(l, l->now + (wait > SCHED_PACE_LEAST_NS ? wait : SCHED_PACE_LEAST_NS));
  due(l, lease_frame_end(l->now));
  if (sched.express.head) due(l, sched.express.head->since + SCHED_DEBT_WAIT_NS + 1);
}

/* Who has stayed longer than a moment is seen by whoever queues next; where nobody does, by sysmon, which is not woken for it if it looks within another moment anyway. */
static void look_soon_free(struct look *l) {
  uint64_t soon = sched.express.len ? soon_free(l->now) : 0;
  uint64_t until = atomic_load_explicit(&sched.sysmon_until, memory_order_relaxed);
  if (soon && (until == 0 || until > soon + SCHED_MOMENT_NS)) due(l, soon);
}

/* Of n newcomers, those for whom no express slot is free in a moment.  If others have one, *at is when that moment is over. */
static uint32_t in_need(uint32_t n, uint64_t now, uint64_t *at) {
  uint32_t soon = n ? lease_soon_free(now, at) : 0;
  return n > soon ? n - soon : 0;
}

/* Newcomers for whom a hog of ours may have to go.  (For one of our own it goes as soon as such a slot comes.) */
static uint32_t newcomers_in_need(const struct look *l) {
  uint64_t at;
  return sched.express.len + in_need(l->others.express, l->now, &at);
}

/* Newcomers that found no P: for each, the hog that used most gives its P up, if it had its minimum run. */
static void look_newcomers(struct look *l) {
  if (!sched.express.head && l->running <= l->fresh) return; /* no hog of ours runs: it is others' business */
  uint32_t need = newcomers_in_need(l);
  look_soon_free(l);
  if (need && !(sched.express.head ? newcomer_ok(sched.express.head, l->now) : overdrawn(l->now) == 0)) {
    look_newcomers_due(l);
    return;
  }
  while (need > l->asked) {
    struct m *victim = NULL;
    uint64_t most = 0, soonest = UINT64_MAX;
    for (uint32_t i = 0; i < sched.top; i++) {
      struct p *p = &sched.ps[i];
      if (p->status != P_RUNNING || !p->m || p->m->preempt_at || p->m->g->express) continue;
      if (l->now - p->m->granted_at < SCHED_MIN_RUN_NS) {
        if (p->m->granted_at + SCHED_MIN_RUN_NS < soonest) soonest = p->m->granted_at + SCHED_MIN_RUN_NS;
        continue;
      }
      uint64_t u = sched_usage(p->m->g, l->now) + 1;
      if (u > most) most = u, victim = p->m;
    }
    if (!victim) {
      due(l, soonest);
      return;
    }
    sched.stats.wakeups++;
    look_stop(l, victim);
    need = newcomers_in_need(l);
  }
}

/*
 * Who holds slots is told that we wait.  Once for each newcomer that none of our own hogs makes room for, nor another's newcomer in a moment, and for the first hog: a holder
 * that knows of us looks again by itself when a slice ends.  After that once in a while, should a holder have missed it.  (Rung at every
 * look, two processes that both wait wake each other without end: 37,000 looks a second, a tenth of the quota.)
 */
static void look_ring_holders(struct look *l) {
  if (!lease_is_shared()) return;
  uint64_t at;
  uint32_t waits = sched.express.len, express = waits > l->asked ? in_need(waits, l->now, &at) : waits;
  if (express < waits) due(l, at);
  uint32_t wants = express + sched.global.len;
  bool news =
      (express > sched.rang_express && express > l->asked) || (wants && !sched.rang_wants) || l->now - sched.rang_at >= SCHED_RING_AGAIN_NS;
  sched.rang_express = express;
  sched.rang_wants = wants;
  if (wants == 0) return;
  /* As a rule another look comes before, and sees that it is time. */
  due_about(l, (news ? l->now : sched.rang_at) + 2 * SCHED_RING_AGAIN_NS);
  if (!news) return;
  sched.rang_at = l->now;
  uint32_t n = lease_all();
  for (uint32_t i = 0; i < n; i++) {
    uint64_t word = atomic_load_explicit(&sched.page->slots[i].word, memory_order_relaxed);
    uint32_t m = POOL_LEASE_MEMBER(word);
    if (word && m < POOL_MEMBERS_MAX && m != sched.member) lease_ring(m);
  }
}

/*
 * Two who released may both have rung us; we had one use for a slot, or none.  Then the other slot is free while another
 * process sleeps: pass the ring on (tests/model/lease.pml finds that stall).  At most once in SCHED_RING_NS: they may have no use for
 * that slot either, and ring back.
 */
static void look_pass_ring_on(struct look *l) {
  struct lease_others o = l->others;
  if (o.wants == 0) return;
  uint32_t n = o.express ? lease_nslots() + lease_nexpress() : lease_hog_slots();
  for (uint32_t i = 0; i < n; i++) {
    if (atomic_load_explicit(&sched.page->slots[i].word, memory_order_relaxed)) continue;
    if (l->now - sched.passed_at < SCHED_RING_NS) {
      due(l, sched.passed_at + SCHED_RING_NS);
      return;
    }
    sched.passed_at = l->now;
    lease_ring(o.express ? o.express_member : o.member);
    due(l, l->now + SCHED_ACTIVE_TICK_NS);
    return;
  }
}

static bool stray(const struct m *m) { return __atomic_load_n(&m->slot->oncpu_at, __ATOMIC_RELAXED) != 0; }

/*
 * An M that lost its P, or was asked to stop, while it had no CPU has one now: BPF stops it at the barrier's interrupt.  Where BPF stops it
 * as it gets the CPU, or tells us when it can't (M_CAP_NEXT), there is no need to look again by the clock.
 */
static void look_strays(struct look *l) {
  bool found = false;
  for (uint32_t i = 0; i < sched.top && l->asked && !found; i++) {
    struct p *p = &sched.ps[i];
    found = p->status == P_RUNNING && p->m && p->m->preempt_at && p->m->preempt_at != l->now && stray(p->m);
  }
  for (struct m *m = sched.allm; m && sched.nstrays && !found; m = m->next) found = m->g->stopped && stray(m);
  if (found) sched_hooks.barrier();
  if (sched.nstrays && !(preempt_caps() & M_CAP_NEXT)) due(l, l->now + SCHED_STRAY_NS);
}

/* Without BPF nobody tells that an M blocked: look again soon while somebody waits. */
static void look_poll_due(struct look *l, bool progress) {
  bool waits = sched.express.len || sched.global.len || l->others.wants;
  if (progress || !waits) sched.poll_ns = SCHED_POLL_MIN_NS; /* also where all Ps are free now: the next wait begins anew */
  if (sched.bpf || !waits || l->running == 0) return;
  due(l, l->now + sched.poll_ns);
  if (sched.poll_ns < SCHED_POLL_MAX_NS) sched.poll_ns += sched.poll_ns / 2;
}

/* How long nothing need be looked at, if nobody says that there is something. */
static uint64_t look_tick(const struct look *l) {
  if (sched.crowd) return SCHED_CROWD_TICK_NS;
  if (l->blocked || (l->fresh && !lease_is_shared())) return SCHED_ACTIVE_TICK_NS;
  for (uint32_t i = 0; i < sched.top; i++) {
    const struct p *p = &sched.ps[i];
    if (p->status != P_RUNNING || !p->m) continue;
    if (!alarm_can(p->m) || !SLOT_LOAD(p->m->slot->alarm) || alarm_rings(p->m, l->now)) return SCHED_ACTIVE_TICK_NS;
  }
  return SCHED_QUIET_TICK_NS;
}

uint64_t sched_balance(uint64_t now) {
  SCHED_ASSERT_LOCKED();
  sched.due = sched.tick_due = UINT64_MAX;
  if (!sched.page || !sched.gated) return UINT64_MAX;
  struct look l = {.now = now, .deadline = UINT64_MAX, .tick = UINT64_MAX};
  uint64_t before = sched.stats.retakes;
  bool waiting = sched.express.len + sched.global.len != 0;
  lease_crowd(now);
  lease_adopt(now);
  l.others = lease_others_wait();
  look_charge(&l);
  look_pace(&l);
  look_promote(&l);
  look_retake(&l);
  look_unclaimed(&l);
  look_dispatch(&l);
  look_preempt(&l);
  look_newcomers(&l);
  look_ring_holders(&l);
  if (!waiting) look_pass_ring_on(&l);
  look_strays(&l);
  look_pace_due(&l);
  look_poll_due(&l, sched.stats.retakes != before);
  sched_update_waiting();
  if (sched.nheld) due_about(&l, now + look_tick(&l));
  if (lease_is_shared() && now - sched.grant_before < SCHED_WARM_NS) due_about(&l, now + SCHED_WARM_NS);
  if (sched.express.len || sched.global.len) due_about(&l, now + SCHED_STARVED_NS / 4);
  sched.due = l.deadline;
  sched.tick_due = l.tick;
  return l.deadline < l.tick ? l.deadline : l.tick;
}

void sched_kick(uint64_t deadline) {
  /* pairs with sysmon's store of sysmon_until before it sleeps; both under the lock */
  uint64_t until = atomic_load_explicit(&sched.sysmon_until, memory_order_relaxed);
  if (until == 0 || deadline >= until) return;
  atomic_store_explicit(&sched.sysmon_until, 0, memory_order_relaxed);
  atomic_fetch_add_explicit(sched.bell, 1, memory_order_release);
  sched.kicked = true; /* sched_drop wakes it */
}

/* --- the page --- */

void sched_watch_ms(void) {
  SCHED_ASSERT_LOCKED();
  bool quiet = !sched.gated && !sched.carriers && gate_mode() != RATION_MODE_FREE;
  atomic_store_explicit(&gate_quiet, quiet, memory_order_relaxed);
  if (!sched.header || SLOT_LOAD(sched.header->quiet) == quiet) return;
  if (!quiet) m_forget_switches();
  __atomic_store_n(&sched.header->quiet, quiet,
                   __ATOMIC_RELEASE); /* BPF reads it first of all: after it, what it finds in the slots is as we left it */
}

void sched_reconfigure(uint64_t now) {
  SCHED_ASSERT_LOCKED();
  struct pool_page *pg = sched.page;
  bool gated = false;
  if (pg) {
    sched.change = atomic_load_explicit(&pg->change, memory_order_acquire); /* pairs with the owner's release after it wrote the block */
    gated = (atomic_load_explicit(&pg->flags, memory_order_relaxed) & POOL_F_GATED) != 0;
    uint32_t ncpus = atomic_load_explicit(&pg->ncpus, memory_order_relaxed);
    if (sched.maxprocs && (sched.maxprocs < ncpus || gated)) gated = true;
    if (gate_mode() == RATION_MODE_OFF) gated = false;
  }
  bool as_before = gated == sched.gated;
  atomic_store_explicit(&sched.gated, gated, memory_order_relaxed);
  preempt_gated(gated);
  sched_watch_ms(); /* also the first time, and in a forked child, where no gate was and none is */
  if (as_before) return;
  if (gated)
    permit_none(now);
  else
    permit_all(now);
  sched_update_waiting();
}

void sched_leave_page(uint64_t now) {
  SCHED_ASSERT_LOCKED();
  if (sched.page && sched.gated) {
    atomic_store_explicit(&sched.gated, false, memory_order_relaxed);
    preempt_gated(false);
    sched_watch_ms();
    permit_all(now);
    sched_update_waiting();
  }
  sched.paced = sched.surplus = sched.crowd = false;
  sched.stride = 0;
  sched.rang_express = sched.rang_wants = 0; /* nobody on the next page has been told of us */
}

void sched_forget_all(void) {
  struct pool_page *seen = sched.page;
  sched_count_page = seen ? seen : sched_count_page;
  for (uint32_t i = 0; i < sched.top; i++) {
    sched.ps[i].status = P_NONE;
    atomic_store_explicit(&sched.ps[i].timer, 0, memory_order_relaxed); /* a forked child has none of them */
  }
  atomic_store_explicit(&sched.lock.word, 0, memory_order_relaxed);
  sched.page = NULL;
  sched.header = NULL;
  sched.slots = NULL;
  sched.tids = NULL;
  sched.nslots = sched.nslot_free = 0;
  sched.slot_free = NULL;
  sched.express = sched.global = (struct gqueue){0};
  sched.ngranted = 0;
  sched.kicked = false;
  sched.leaving = SCHED_STAYS;
  sched.nstrays = 0;
  sched.looks = NULL;
  sched.nheld = sched.nheld_regular = sched.stride = sched.top = 0;
  sched.rang_express = sched.rang_wants = 0;
  sched.paced = sched.surplus = sched.crowd = false;
  sched.stats = (struct sched_stats){0};
  sched.bell = &sched.private_bell;
  atomic_store_explicit(&sched.poller_tid, 0, memory_order_relaxed);
  atomic_store_explicit(&sched.monitor_tid, 0, memory_order_relaxed);
  atomic_store_explicit(&sched.gated, false, memory_order_relaxed);
  atomic_store_explicit(&sched.bpf, false, memory_order_relaxed);
  atomic_store_explicit(&sched.sysmon_until, 0, memory_order_relaxed);
  atomic_store_explicit(&sched_waiting_flag, 0, memory_order_relaxed);
}

void sched_end_process(void) {
  int status = atomic_load_explicit(&sched_last_status, memory_order_relaxed);
  if (status >= 0) raw_syscall1(SYS_exit_group, status); /* glibc counts the first thread still, so exit would do no more for the program */
  exit(0);
}
