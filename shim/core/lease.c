/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: this process's side of the pool page (proto/pool_page.h has the
 * states of a slot).  All of it runs under sched.lock, so inside this process there
 * is no race; every race here is with other processes and with the page's owner,
 * and each is decided by one CAS on the slot's word.
 *
 * Waiting.  A process whose Gs find no slot publishes how many wait (wants, then its bit in
 * `waiting`), looks at the slots once more, and its sysmon sleeps on its bell.  Who gives a
 * slot up looks at `waiting` after that.  Store-load on both sides, hence the two
 * seq_cst fences; model: tests/model/lease.pml.  A slot may also be handed over
 * whole: the word goes from lease(us) to lease(them) in one CAS, they are rung, and find it
 * in lease_adopt().  If they are gone, the owner frees it like any slot of a dead member.
 */
#include "core/sched.h"

#define LEASE_UNCHARGED_NS 20000000u /* a holder that has charged nothing for so long does not run, or does not say */

static uint64_t my_word(void) { return POOL_LEASE(sched.member, sched.gen); }

static uint32_t bounded(uint32_t v, uint32_t most) { return v < most ? v : most; }

bool lease_is_shared(void) { return sched.page && atomic_load_explicit(&sched.page->nmembers, memory_order_relaxed) > 1; }

uint32_t lease_nslots(void) {
  uint32_t n = bounded(atomic_load_explicit(&sched.page->nslots, memory_order_relaxed), POOL_SLOTS_MAX);
  return n ? n : 1;
}

uint32_t lease_nexpress(void) {
  uint32_t n = lease_nslots();
  return bounded(atomic_load_explicit(&sched.page->nexpress, memory_order_relaxed), POOL_SLOTS_MAX - n);
}

/* Slots that may be held at all. */
uint32_t lease_all(void) {
  return bounded(lease_nslots() + lease_nexpress() + (sched.crowd ? POOL_CROWD_SLOTS : POOL_EXTRA_SLOTS), POOL_SLOTS_MAX);
}

/*
 * A crowd: several processes, none of which has a G that only computes, hand slots to each other all the time.  Each time costs some 100 us, for threads that would sleep again in as long, and there is no
 * hog that could be held back for them: the kernel, which moves a thread for 5, does it better.  So in a crowd all have slots, keep them while they are blocked, and the quota is
 * the kernel's business, as without us.  It lasts for a second, then it must show again that it is one.
 */
bool lease_crowd(uint64_t now) {
  sched.crowd = sched.page && !sched.maxprocs && pool_is_crowd(sched.page, now);
  return sched.crowd;
}

void lease_stay_crowd(uint64_t now) {
  _Atomic uint64_t *until = &sched.page->crowd_until;
  if (atomic_load_explicit(until, memory_order_relaxed) - now > POOL_CROWD_FOR_NS / 2) return;
  if (lease_page_held() > lease_nslots() + lease_nexpress()) atomic_store_explicit(until, now + POOL_CROWD_FOR_NS, memory_order_relaxed);
}

void lease_no_crowd(uint64_t now) {
  atomic_store_explicit(&sched.page->batch_at, now, memory_order_relaxed); /* all hints, as what follows */
  if (atomic_load_explicit(&sched.page->crowd_until, memory_order_relaxed))
    atomic_store_explicit(&sched.page->crowd_until, 0, memory_order_relaxed);
}

/* Slot i is ours now.  Had another member had it? */
static void count_move(uint32_t i, uint64_t now) {
  struct pool_page *pg = sched.page;
  _Atomic uint32_t *last = &pg->slots[i].last;
  if (atomic_load_explicit(last, memory_order_relaxed) == sched.member + 1) return;
  atomic_store_explicit(last, sched.member + 1, memory_order_relaxed);
  if ((atomic_fetch_add_explicit(&pg->moves, 1, memory_order_relaxed) + 1) % POOL_CROWD_MOVES) return;
  uint64_t before = atomic_exchange_explicit(&pg->moved_at, now, memory_order_relaxed);
  uint64_t batch = atomic_load_explicit(&pg->batch_at, memory_order_relaxed);
  uint64_t in = pool_wall_ns(atomic_load_explicit(&pg->rate, memory_order_relaxed), POOL_CROWD_NS);
  if (now - before > in || now - batch < POOL_CROWD_FOR_NS) return;
  atomic_store_explicit(&pg->crowd_until, now + POOL_CROWD_FOR_NS, memory_order_relaxed);
}

/*
 * What Ms of other processes have used up to `at`, as far as can be told, and not been charged for: a process charges its own when it looks, every few ms.  Who reckons
 * without it takes for saved what is spent, and spends it again; or at the period's end forgets it, and what comes in afterwards is taken from the next period.
 */
static int64_t uncharged(uint64_t at) {
  if (!lease_is_shared()) return 0;
  int64_t sum = 0;
  uint32_t n = lease_nslots();
  for (uint32_t i = 0; i < n; i++) {
    const struct pool_slot *s = &sched.page->slots[i];
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    if (word == 0 || word == my_word()) continue;
    uint64_t from = atomic_load_explicit(&s->charged_at, memory_order_relaxed); /* of the holder or of the one before: it is a hint */
    if (from < at && at - from < LEASE_UNCHARGED_NS) sum += (int64_t)(at - from);
  }
  return sum;
}

int64_t lease_tokens(uint64_t now) {
  int64_t tokens = pool_tokens(sched.page, now);
  return tokens == INT64_MAX ? tokens : tokens - uncharged(now);
}

uint32_t lease_soon_free(uint64_t now, uint64_t *at) {
  uint32_t soon = 0, n = lease_nslots(), to = n + lease_nexpress();
  *at = UINT64_MAX;
  for (uint32_t i = n; i < to; i++) {
    const struct pool_slot *s = &sched.page->slots[i];
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed), since = atomic_load_explicit(&s->since, memory_order_relaxed);
    if (word == 0 || word == my_word() || now - since >= SCHED_THEIRS_NS) continue;
    if (since + SCHED_THEIRS_NS < *at) *at = since + SCHED_THEIRS_NS;
    soon++;
  }
  return soon;
}

void lease_charged(const struct p *p, uint64_t now) {
  atomic_store_explicit(&sched.page->slots[p->id].charged_at, now, memory_order_relaxed); /* publishes nothing */
}

/* What is beyond the whole CPUs of the rate. */
static uint32_t rate_part(void) { return atomic_load_explicit(&sched.page->rate, memory_order_relaxed) % POOL_RATE_ONE; }

/* Frames are as long as they can be with pauses of not much over SCHED_PAUSE_NS: each pause costs more than 100 µs. */
static uint64_t frame_ns(void) {
  uint64_t pause = (uint64_t)SCHED_FRAME_MAX_NS * (POOL_RATE_ONE - rate_part()) / POOL_RATE_ONE;
  return pause <= SCHED_PAUSE_NS + SCHED_PAUSE_NS / 10 ? SCHED_FRAME_MAX_NS : SCHED_FRAME_NS;
}

uint64_t lease_period_end(uint64_t now) {
  if (sched.period == 0 || now < sched.phase) return 0;
  return now - (now - sched.phase) % sched.period + sched.period;
}

uint64_t lease_frame_end(uint64_t now) {
  uint64_t frame = frame_ns(), period_end = lease_period_end(now);
  if (period_end == 0) return (now / frame + 1) * frame;
  uint64_t begin = period_end - sched.period;
  uint64_t end = begin + ((now - begin) / frame + 1) * frame;
  return end < period_end ? end : period_end;
}

/* A period of the kernel's has begun: what was saved in the last one is gone. (A debt stays: it is how the average keeps to the rate.) */
void lease_new_period(uint64_t now) {
  struct pool_page *pg = sched.page;
  uint64_t end = lease_period_end(now);
  if (end == 0) return;
  uint64_t begin = end - sched.period;
  uint64_t seen = atomic_load_explicit(&pg->period_seen, memory_order_relaxed);
  if (begin < seen + sched.period / 2) return; /* members may differ by part of a ms */
  /* relaxed: it publishes nothing, and tat is moved by CAS */
  if (!atomic_compare_exchange_strong_explicit(&pg->period_seen, &seen, begin, memory_order_relaxed, memory_order_relaxed)) return;
  pool_begin(pg, begin, (uint64_t)uncharged(begin) / 1000);
}

int64_t lease_ahead(uint64_t now) {
  uint32_t part = rate_part();
  uint64_t left = lease_frame_end(now) - now;
  int64_t tokens = lease_tokens(now);
  return tokens == INT64_MAX ? tokens : tokens + (int64_t)(left * part / POOL_RATE_ONE);
}

/* What is left of the kernel's period; INT64_MAX: its phase is not known. */
int64_t lease_period_room(uint64_t now) {
  uint64_t end = lease_period_end(now);
  if (end == 0) return INT64_MAX;
  uint64_t left = end - now;
  int64_t tokens = lease_tokens(now);
  return tokens == INT64_MAX ? tokens
                             : tokens + (int64_t)(left * atomic_load_explicit(&sched.page->rate, memory_order_relaxed) / POOL_RATE_ONE);
}

/*
 * While the bucket is empty, hogs keep floor(rate) slots: 1.5 CPUs is a slot that always runs and
 * one that pauses.  By index, so that all processes of the pool agree without a word.  Deep in debt, none.
 * While it is nearly full though all regular slots are taken, others of the host keep our Ms from their CPUs: all
 * there are, so that what the quota grants is used.
 */
uint32_t lease_hog_slots(void) {
  uint32_t n = lease_nslots();
  if (sched.crowd || (sched.surplus && !sched.maxprocs)) return lease_all();
  if (!sched.paced) return n;
  int64_t debt = (int64_t)atomic_load_explicit(&sched.page->debt_us, memory_order_relaxed) * 1000;
  uint64_t now = sched_hooks.now();
  /* Whatever the bucket says, where no hog of ours ran for so long one has its turn: the kernel's throttle is no worse. */
  if (sched.nheld == 0 && sched.global.head && now - sched.hog_ran_at > SCHED_PAUSE_MAX_NS) return n;
  if (lease_ahead(now) < -debt / 2) return 0;
  return bounded(atomic_load_explicit(&sched.page->rate, memory_order_relaxed) / POOL_RATE_ONE, n);
}

bool lease_is_mine(const struct p *p) { return atomic_load_explicit(&sched.page->slots[p->id].word, memory_order_relaxed) == my_word(); }

static struct p *take(uint32_t i, bool express, uint64_t now) {
  struct p *p = &sched.ps[i];
  p->id = i;
  p->status = P_IDLE;
  p->express = express;
  bool shared = !sched.crowd && lease_is_shared();
  __atomic_store_n(&p->shared, shared, __ATOMIC_RELAXED);
  p->m = NULL;
  p->leased_at = now;
  atomic_store_explicit(&sched.page->slots[i].since, now, memory_order_relaxed); /* also where it was handed to us */
  p->alarm = 0;
  lease_charged(p, now);
  if (!sched.crowd) count_move(i, now);
  if (i >= sched.top) sched.top = i + 1;
  sched.nheld++;
  if (!express) sched.nheld_regular++;
  atomic_store_explicit(&sched.page->members[sched.member].nheld, sched.nheld, memory_order_relaxed);
  return p;
}

static void wake_owner(void) {
  struct pool_page *pg = sched.page;
  if (atomic_load_explicit(&pg->owner_asleep, memory_order_relaxed) == 0) return;
  if (atomic_exchange_explicit(&pg->owner_asleep, 0, memory_order_acq_rel) == 0) return; /* pairs with the owner's store before it sleeps */
  atomic_fetch_add_explicit(&pg->owner_bell, 1, memory_order_release);
  sched_hooks.wake(&pg->owner_bell, true);
}

/* The first slot of a pool that was idle (not of one that paused). */
static void begin(uint64_t now) {
  if (sched.paced || sched.global.len || lease_page_held() != 0 || lease_others_wait().wants) return;
  uint64_t credit = atomic_load_explicit(&sched.page->credit_us, memory_order_relaxed);
  pool_begin(sched.page, now, credit / 10);
}

static bool try_slot(uint32_t i) {
  uint64_t free = 0;
  struct pool_slot *s = &sched.page->slots[i];
  if (atomic_load_explicit(&s->word, memory_order_relaxed) != 0) return false;
  /* acquire/release: a slot passes from process to process with nothing but itself, the order is for `since` */
  return atomic_compare_exchange_strong_explicit(&s->word, &free, my_word(), memory_order_acq_rel, memory_order_relaxed);
}

struct p *lease_acquire(bool express, bool hog, uint64_t now) {
  lease_crowd(now);
  uint32_t n = lease_nslots();
  uint32_t from = express ? n : 0;
  uint32_t to = express ? (sched.crowd || sched.surplus ? lease_all() : n + lease_nexpress())
                : hog   ? lease_hog_slots()
                        : n; /* may reach into the express slots */
  if (!express && sched.maxprocs && sched.nheld_regular >= sched.maxprocs) return NULL;
  if (sched.nheld == 0) begin(now);
  for (uint32_t i = from; i < to; i++) {
    if (sched.ps[i].status != P_NONE || !try_slot(i)) continue;
    wake_owner();
    return take(i, i >= n, now);
  }
  return NULL;
}

static void drop(struct p *p) {
  if (p->status == P_NONE) return;
  p->status = P_NONE;
  p->m = NULL;
  sched.nheld--;
  if (!p->express) sched.nheld_regular--;
  atomic_store_explicit(&sched.page->members[sched.member].nheld, sched.nheld, memory_order_relaxed);
}

/*
 * Is slot i of no use to hogs now?  In a pause it is closed to them until the frame ends, and whose hogs wait looks then by itself (look_pace_due).  Newcomers come and go on
 * these slots meanwhile: to ring for each of them woke a sysmon for nothing, a hundred times a second.
 */
static bool closed(uint32_t i) { return sched.paced && lease_frame_end(sched_hooks.now()) == sched.paced_frame && i >= lease_hog_slots(); }

void lease_release(struct p *p) {
  uint64_t mine = my_word();
  bool express = p->express;
  drop(p);
  /* release: pairs with the acquire in try_slot.  Failure: expropriated or handed on; nothing to do. */
  if (!atomic_compare_exchange_strong_explicit(&sched.page->slots[p->id].word, &mine, 0, memory_order_release, memory_order_relaxed))
    return;
  atomic_thread_fence(memory_order_seq_cst); /* the slot is free before we look who waits: pairs with lease_publish_wants */
  struct lease_others o = lease_others_wait();
  if (o.express)
    lease_ring(o.express_member);
  else if (o.wants && !express && !closed(p->id))
    lease_ring(o.member);
}

bool lease_transfer(struct p *p, uint32_t to) {
  uint32_t gen =
      atomic_load_explicit(&sched.page->members[to].gen, memory_order_acquire); /* pairs with the owner's release when it made the member */
  if (gen == 0) return false;
  uint64_t mine = my_word();
  bool done = atomic_compare_exchange_strong_explicit(&sched.page->slots[p->id].word, &mine, POOL_LEASE(to, gen), memory_order_acq_rel,
                                                      memory_order_relaxed);
  drop(p);
  if (done) lease_ring(to);
  return true;
}

/* Slots whose word says that they are ours though we know nothing of them: handed to us.  And the other way round. */
void lease_adopt(uint64_t now) {
  if (!lease_is_shared()) return;
  uint32_t n = lease_nslots(), all = lease_all();
  uint64_t mine = my_word();
  for (uint32_t i = 0; i < all; i++) {
    struct p *p = &sched.ps[i];
    if (p->status != P_NONE) continue;
    if (atomic_load_explicit(&sched.page->slots[i].word, memory_order_acquire) != mine) continue; /* pairs with lease_transfer */
    sched_p_adopt(take(i, i >= n, now), now);
  }
}

struct lease_others lease_others_wait(void) {
  struct lease_others o = {0};
  struct pool_page *pg = sched.page;
  if (!lease_is_shared()) return o;
  static uint32_t turn; /* guarded by sched.lock: where the last round ended */
  uint32_t first = turn % POOL_MEMBERS_MAX;
  for (uint32_t k = 0; k <= POOL_MEMBERS_MAX / 64; k++) {
    uint32_t w = (first / 64 + k) % (POOL_MEMBERS_MAX / 64);
    uint64_t bits = atomic_load_explicit(&pg->waiting[w], memory_order_acquire); /* pairs with lease_publish_wants */
    if (k == 0)
      bits &= ~(uint64_t)0 << (first % 64);
    else if (k == POOL_MEMBERS_MAX / 64)
      bits &= ~(~(uint64_t)0 << (first % 64));
    for (; bits; bits &= bits - 1) {
      uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
      if (i == sched.member) continue;
      uint32_t wants = bounded(atomic_load_explicit(&pg->members[i].wants, memory_order_relaxed), 65536);
      uint32_t express = bounded(atomic_load_explicit(&pg->members[i].express, memory_order_relaxed), wants);
      if (wants && !o.wants) o.member = i, turn = i + 1;
      if (express && !o.express) o.express_member = i;
      o.wants += wants;
      o.express += express;
    }
  }
  return o;
}

void lease_publish_wants(void) {
  struct pool_page *pg = sched.page;
  if (!pg) return;
  struct pool_member *me = &pg->members[sched.member];
  uint32_t wants = sched.express.len + sched.global.len;
  atomic_store_explicit(&me->wants, wants, memory_order_relaxed);
  atomic_store_explicit(&me->express, sched.express.len, memory_order_relaxed);
  uint64_t bit = (uint64_t)1 << (sched.member % 64);
  _Atomic uint64_t *w = &pg->waiting[sched.member / 64];
  bool set = (atomic_load_explicit(w, memory_order_relaxed) & bit) != 0;
  if (wants && !set) {
    atomic_fetch_or_explicit(w, bit, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with lease_release: our caller looks at the slots again (sched_balance) */
  } else if (!wants && set) {
    atomic_fetch_and_explicit(w, ~bit, memory_order_relaxed);
  }
}

void lease_ring(uint32_t member) {
  struct pool_member *m = &sched.page->members[member];
  atomic_fetch_add_explicit(&m->bell, 1, memory_order_release); /* pairs with the acquire in sysmon_main */
  sched_hooks.wake(&m->bell, true);
}

/* Slots that anybody holds. */
uint32_t lease_page_held(void) {
  if (!lease_is_shared()) return sched.nheld;
  uint32_t n = lease_all(), held = 0;
  for (uint32_t i = 0; i < n; i++) held += atomic_load_explicit(&sched.page->slots[i].word, memory_order_relaxed) != 0;
  return held;
}
