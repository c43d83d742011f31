/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler core without kernel or daemon: a page, a clock and threads that are only records.  One
 * case, one decision.  What threads really do to each other is in tests/model and tests/integration.
 */
#include <string.h>
#include <sys/mman.h>
#include "client/env.h"
#include "core/gate.h"
#include "core/preempt.h"
#include "core/sched.h"
#include "core/stack.h"
#include "unit.h"

#define MS 1000000ull
#define NM 12

static struct pool_page *page;
static uint64_t clock_now;
static uint64_t cpu[NM]; /* CPU time of each thread */
static struct m ms[NM];
static unsigned woken, signalled;
static struct m *last_signalled;
static bool asleep_in_proc;
static void (*during_barrier)(void);

static uint64_t fake_now(void) { return clock_now; }
static void fake_wake(_Atomic uint32_t *word, bool shared) { (void)word, (void)shared, woken++; }
static void fake_signal(struct m *m) { signalled++, last_signalled = m; }
static int fake_barrier(void) {
  if (during_barrier) during_barrier();
  return 0;
}
static uint64_t fake_cpu(const struct m *m) { return cpu[m - ms]; }
static bool fake_sleeps(const struct m *m) {
  (void)m;
  return asleep_in_proc;
}

static void setup(uint32_t nslots, uint32_t nexpress, uint32_t rate) {
  sched_hooks = (struct sched_hooks){fake_now, fake_wake, fake_signal, fake_barrier, fake_cpu, fake_sleeps};
  page = aligned_alloc(4096, POOL_PAGE_SIZE);
  memset(page, 0, POOL_PAGE_SIZE);
  page->magic = POOL_MAGIC;
  clock_now = 1000000000ull;
  page->nslots = nslots;
  page->nexpress = nexpress;
  page->rate = rate;
  page->credit_us = 10000;
  page->debt_us = 10000;
  page->ncpus = nslots;
  page->nmembers = 1;
  page->members[0].gen = 1;
  page->tat = clock_now - 2 * MS; /* neither empty nor half full */
  page->flags = POOL_F_GATED;
  lock_take(&sched.lock);
  sched.page = page;
  sched.member = 0;
  sched.gen = 1;
  for (unsigned i = 0; i < NM; i++) {
    struct m *m = &ms[i];
    m->slot = &m->own_slot;
    m->g = &m->g0;
    m->g0.lockedm = m;
    m->tid = i + 1;
    m->own_slot.state = M_RUN;
  }
  sched_reconfigure(clock_now);
  ck_assert(sched.gated);
}

/* The usage that makes thread i a hog, or a newcomer. */
static void usage(unsigned i, uint64_t ns) { ms[i].g0.fair = (struct fair){ns, clock_now}; }

/* Thread i comes back from the kernel without a P, as m_exitsyscall_slow has it. */
static bool arrive(unsigned i) {
  struct g *g = &ms[i].g0;
  ms[i].own_slot.state = M_IDLE;
  ms[i].park = 0;
  g->express = fair_express(sched_usage(g, clock_now), sched_my_share(1));
  struct p *p = sched_p_get(g, clock_now);
  if (p) {
    sched_grant(p, g, clock_now, true);
    ms[i].own_slot.state = M_RUN;
    return true;
  }
  sched_enqueue(g, WAIT_SYSCALL, clock_now, SCHED_BACK);
  sched_balance(clock_now);
  return false;
}

/* A thread that was granted a P wakes up. */
static bool wake(unsigned i) {
  if (!ms[i].park) return false;
  ms[i].park = 0;
  ms[i].own_slot.state = M_RUN;
  return true;
}

static void run_for(uint64_t ns, unsigned i) {
  clock_now += ns;
  cpu[i] += ns;
}

#define HOG (180 * MS) /* above any share */

START_TEST(the_first_takes_the_free_slot) {
  setup(1, 0, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  ck_assert_ptr_eq(ms[0].p, &sched.ps[0]);
  ck_assert_uint_eq(page->slots[0].word, POOL_LEASE(0, 1));
  ck_assert_uint_eq(ms[0].own_slot.has_p, 1);
  ck_assert_uint_eq(ms[0].own_slot.taken, 0);
}
END_TEST

START_TEST(a_hog_waits_where_all_slots_are_taken) {
  setup(1, 1, 980000);
  for (unsigned i = 0; i < 3; i++) usage(i, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  ck_assert(!arrive(2));
  ck_assert_uint_eq(sched.global.len, 2);
  ck_assert_uint_eq(page->members[0].wants, 2);
  ck_assert_uint_eq(page->waiting[0], 1);
  ck_assert(sched_waiting());
  ck_assert_uint_eq(page->slots[1].word, 0); /* the express slot is not for hogs */
}
END_TEST

START_TEST(a_newcomer_takes_the_express_slot_beside_a_hog) {
  setup(1, 1, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  usage(1, 0);
  ck_assert(arrive(1));
  ck_assert(ms[1].p->express);
  ck_assert_uint_eq(signalled, 0);
}
END_TEST

/* The slot is free in a moment: whoever would run beside it, and take turns with it at a lock, waits so long. */
START_TEST(a_newcomer_waits_a_moment_for_another) {
  setup(1, 1, 980000);
  for (unsigned i = 0; i < 3; i++) usage(i, 0);
  ck_assert(arrive(0));
  ck_assert(!ms[0].p->express);
  ck_assert(!arrive(1));
  uint64_t now = clock_now;
  ck_assert_uint_le(sched_balance(clock_now), now + SCHED_MOMENT_NS); /* sysmon looks by then */
  clock_now += SCHED_MOMENT_NS / 2;
  sched_p_free(sched_p_take(&ms[0], clock_now), clock_now, false); /* it blocks */
  ck_assert(wake(1));
  ck_assert(!ms[1].p->express);
  ck_assert(!arrive(2));
  clock_now += SCHED_MOMENT_NS; /* that one stays for longer */
  sched_balance(clock_now);
  ck_assert(wake(2));
  ck_assert(ms[2].p->express);
}
END_TEST

/* Else a server whose threads are all newcomers has the express slot for good, and uses more than its rate. */
START_TEST(an_express_slot_is_not_passed_on_among_newcomers) {
  setup(1, 1, 980000);
  for (unsigned i = 0; i < 5; i++) usage(i, 0);
  ck_assert(arrive(0));
  clock_now += SCHED_MOMENT_NS;
  ck_assert(arrive(1));
  ck_assert(ms[1].p->express);
  ck_assert(!arrive(2));
  ck_assert(!arrive(3));
  sched_p_free(sched_p_take(&ms[1], clock_now), clock_now, false); /* it blocks, while the other one stays */
  ck_assert(wake(2));
  ck_assert(ms[2].p->express);
  sched_p_free(sched_p_take(&ms[0], clock_now), clock_now, false);
  ck_assert(wake(3));
  ck_assert(!ms[3].p->express);
  ck_assert(!arrive(4));
  sched_p_free(sched_p_take(&ms[2], clock_now), clock_now, false); /* now the regular one is free in a moment */
  ck_assert(!wake(4));
  ck_assert_uint_eq(page->slots[1].word, 0);
  sched_p_free(sched_p_take(&ms[3], clock_now), clock_now, false);
  ck_assert(wake(4));
  ck_assert(!ms[4].p->express);
}
END_TEST

START_TEST(a_newcomer_waits_for_nobody_while_the_bucket_is_full) {
  setup(1, 1, 980000);
  usage(0, 0);
  usage(1, 0);
  page->tat = clock_now - 1000 * MS;
  sched_balance(clock_now);
  ck_assert(sched.surplus);
  ck_assert(arrive(0));
  ck_assert(arrive(1));
}
END_TEST

/* One of two is enough: a hog's slot is not free in a moment. */
START_TEST(a_newcomer_does_not_wait_for_another_beside_a_hog) {
  setup(2, 1, 1960000);
  usage(0, 2 * HOG); /* of two CPUs */
  usage(1, 0);
  usage(2, 0);
  ck_assert(arrive(0));
  ck_assert(arrive(1));
  ck_assert(arrive(2));
  ck_assert(ms[2].p->express);
}
END_TEST

/* What one carrier has used is that of a hundred Gs, none of which is a hog; until it runs one alone. */
START_TEST(a_carrier_of_short_gs_is_a_newcomer) {
  setup(1, 1, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  usage(1, HOG);
  ms[1].g0.gs = 100;
  ck_assert(arrive(1));
  ck_assert(ms[1].p->express);
  run_for(SCHED_ACTIVE_TICK_NS, 1);
  sched_balance(clock_now);
  ck_assert(ms[1].g0.express);
  ms[1].g0.gs = 0;
  run_for(SCHED_ACTIVE_TICK_NS, 1);
  sched_balance(clock_now);
  ck_assert(!ms[1].g0.express);
}
END_TEST

START_TEST(a_newcomer_preempts_the_hog_that_used_most_after_its_minimum_run) {
  setup(2, 0, 1900000);
  usage(0, HOG);
  usage(1, HOG + 3 * MS);
  ck_assert(arrive(0));
  ck_assert(arrive(1));
  usage(2, 0);
  ck_assert(!arrive(2));
  ck_assert_uint_eq(signalled, 0); /* both have only begun */
  run_for(SCHED_MIN_RUN_NS, 0);
  cpu[1] += SCHED_MIN_RUN_NS;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
  ck_assert_ptr_eq(last_signalled, &ms[1]);
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1); /* one is enough for one */
  /* it yields: the newcomer is next, though a hog was there before it */
  usage(3, HOG);
  ms[1].own_slot.state = M_IDLE;
  struct p *p = sched_p_take(&ms[1], clock_now);
  sched_p_free(p, clock_now, false);
  ck_assert(wake(2));
  ck_assert_ptr_eq(ms[2].p, p);
}
END_TEST

START_TEST(a_slice_ends_only_when_others_wait) {
  setup(1, 0, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  run_for(5 * SCHED_SLICE_NS, 0);
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 0);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(!arrive(1));
  ck_assert_uint_eq(signalled, 1);
}
END_TEST

START_TEST(hogs_take_turns) {
  setup(1, 0, 1000000);
  page->rate = 0; /* no pacing in this one */
  unsigned turns[4] = {0}, now = 0;
  for (unsigned i = 0; i < 4; i++) usage(i, HOG);
  ck_assert(arrive(0));
  for (unsigned i = 1; i < 4; i++) ck_assert(!arrive(i));
  for (unsigned k = 0; k < 40; k++) {
    turns[now]++;
    run_for(SCHED_SLICE_NS, now);
    sched_balance(clock_now);
    ck_assert_ptr_eq(last_signalled, &ms[now]);
    ms[now].own_slot.state = M_IDLE;
    struct p *p = sched_p_take(&ms[now], clock_now);
    ms[now].g0.express = false;
    sched_enqueue(&ms[now].g0, WAIT_PREEMPTED, clock_now, false);
    sched_p_free(p, clock_now, true);
    now = (now + 1) % 4;
    ck_assert(wake(now));
  }
  for (unsigned i = 0; i < 4; i++) ck_assert_uint_eq(turns[i], 10);
}
END_TEST

START_TEST(an_empty_bucket_paces_the_hog_and_not_the_newcomer) {
  setup(1, 1, 500000);
  usage(0, HOG);
  ck_assert(arrive(0));
  page->tat = clock_now; /* 10 ms of CPU accrue in this frame of 20: they may be used, not more */
  run_for(8 * MS, 0);
  sched_balance(clock_now);
  ck_assert(!sched.paced);
  run_for(2 * MS + 1000, 0);
  sched_balance(clock_now);
  ck_assert(sched.paced);
  ck_assert_uint_eq(signalled, 1);
  ck_assert_uint_eq(lease_hog_slots(), 0);
  usage(1, 0);
  ck_assert(arrive(1));
  /* and it goes on when there is enough again */
  ms[0].own_slot.state = M_IDLE;
  ms[0].g0.express = false;
  struct p *p = sched_p_take(&ms[0], clock_now);
  sched_enqueue(&ms[0].g0, WAIT_PACED, clock_now, true);
  lease_release(p);
  sched_balance(clock_now);
  ck_assert(!wake(0));
  clock_now += 6 * MS; /* enough has accrued, but the frame lasts */
  sched_balance(clock_now);
  ck_assert(!wake(0));
  clock_now += 6 * MS;
  sched_balance(clock_now);
  ck_assert(!sched.paced);
  ck_assert(wake(0));
}
END_TEST

/* At 1.0 CPUs sysmon was woken a hundred times a second because a newcomer had moved the end of the hogs' part by a fraction of a ms. */
START_TEST(sysmon_is_not_woken_for_the_little_that_a_newcomer_moves) {
  setup(1, 1, 500000);
  usage(0, HOG);
  ck_assert(arrive(0));
  page->tat = clock_now;
  uint64_t until = sched_balance(clock_now);
  ck_assert_uint_eq(until, clock_now + 10 * MS);
  sched.sysmon_until = until; /* it sleeps */
  page->tat += 200000 * 2;    /* somebody has used 0.2 ms: of a rate of 0.5 */
  ck_assert_uint_eq(sched_balance(clock_now), until);
  page->tat += 400000 * 2;
  ck_assert_uint_eq(sched_balance(clock_now), until - 600000);
  sched.sysmon_until = 0; /* sysmon itself looks in time */
  page->tat = clock_now + 200000 * 2;
  ck_assert_uint_eq(sched_balance(clock_now), until - 200000);
  sched.sysmon_until = until;
  sched.period = 100 * MS; /* and in a period's last frame the others do, too */
  sched.phase = lease_frame_end(clock_now) - 100 * MS;
  page->period_seen = sched.phase;
  ck_assert_uint_eq(sched_balance(clock_now), until - 200000);
}
END_TEST

START_TEST(frames_are_as_long_as_pauses_stay_short) {
  setup(1, 1, 100000); /* of 20 ms it would pause 18 */
  ck_assert_uint_eq(lease_frame_end(clock_now) - clock_now, SCHED_FRAME_NS);
  page->rate = 480000;
  ck_assert_uint_eq(lease_frame_end(clock_now) - clock_now, SCHED_FRAME_MAX_NS);
  sched.period = 100 * MS; /* frames begin with the kernel's period */
  sched.phase = 7 * MS;
  ck_assert_uint_eq(lease_frame_end(clock_now), clock_now + 7 * MS);
  ck_assert_uint_eq(lease_frame_end(clock_now + 7 * MS), clock_now + 27 * MS);
}
END_TEST

/* A page that has queued eight hogs for long, as at 0.5 CPUs: the one in front has waited for the others, and nobody is kept from running. */
START_TEST(hogs_that_queue_behind_hogs_are_not_let_through_a_pause) {
  setup(1, 1, 500000);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  run_for(SCHED_PAUSE_MAX_NS + MS, 0);
  page->tat = clock_now + 900 * MS; /* the bucket is empty */
  ms[0].own_slot.state = M_IDLE;
  struct p *p = sched_p_take(&ms[0], clock_now);
  ms[0].g0.express = false;
  ms[0].g0.enough = true;
  sched_enqueue(&ms[0].g0, WAIT_PACED, clock_now, false);
  lease_release(p);
  sched_balance(clock_now);
  ck_assert_uint_eq(lease_hog_slots(), 0);
  clock_now += SCHED_PAUSE_MAX_NS + MS; /* now nobody has run for that long */
  ck_assert_uint_eq(lease_hog_slots(), 1);
}
END_TEST

START_TEST(a_hog_that_waits_long_after_a_block_is_a_newcomer_again) {
  setup(1, 0, 980000);
  usage(0, HOG);
  usage(1, 60 * MS);
  usage(2, 60 * MS);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  ms[1].g0.enough = false;
  ck_assert(!arrive(2));
  ms[2].g0.enough = true; /* this one was stopped: it has not slept for anything */
  ck_assert_uint_eq(sched.express.len, 0);
  run_for(4 * FAIR_HALFLIFE_NS, 0);
  sched_balance(clock_now);
  ck_assert(ms[1].g0.express);
  ck_assert(!ms[2].g0.express);
  ck_assert_uint_eq(page->members[0].express, 1);
  ck_assert_uint_eq(page->members[0].wants, 2);
}
END_TEST

/* A thread with short requests that has got behind: it has used more than its share, but has called the kernel lately. */
START_TEST(who_is_only_behind_has_not_had_enough) {
  setup(1, 0, 980000);
  struct m *m = &ms[0];
  usage(0, HOG);
  ck_assert(arrive(0));
  m->systick++;
  run_for(2 * MS, 0);
  sched_charge(m, clock_now);
  ck_assert(!sched_had_enough(m));
  for (int i = 0; i < 2; i++) { /* it goes on, with pauses, and makes no call: then it has work without end */
    sched_grant(sched_p_take(m, clock_now), m->g, clock_now, true);
    run_for(2 * MS, 0);
    sched_charge(m, clock_now);
    ck_assert_int_eq(sched_had_enough(m), i == 1);
  }
  m->systick++;
  ck_assert(!sched_had_enough(m)); /* and the next call begins anew */
}
END_TEST

/* A scan makes a call for each of its pages. */
START_TEST(calls_on_files_are_no_requests) {
  setup(1, 0, 980000);
  struct m *m = &ms[0];
  usage(0, HOG);
  ck_assert(arrive(0));
  sched_charge(m, clock_now);
  ck_assert(!sched_had_enough(m));
  m_self = m;
  for (int i = 0; i < 60; i++) {
    gate_file();
    m->systick++;
    run_for(MS / 10, 0);
  }
  m_self = NULL;
  sched_charge(m, clock_now);
  ck_assert(sched_had_enough(m));
  sched_grant(sched_p_take(m, clock_now), m->g, clock_now, true);
  m->systick++;
  ck_assert(!sched_had_enough(m));
}
END_TEST

START_TEST(one_and_a_half_cpus_keep_one_slot_running) {
  setup(2, 0, 1470000);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ck_assert(arrive(1));
  page->tat = clock_now + 9 * MS; /* more than the half CPU gives in this frame */
  sched_balance(clock_now);
  ck_assert_uint_eq(lease_hog_slots(), 1);
  ck_assert_uint_eq(signalled, 1);
  ck_assert_ptr_eq(last_signalled, sched.ps[1].m);
}
END_TEST

START_TEST(a_newcomer_waits_for_a_debt_but_not_for_long) {
  setup(1, 1, 500000);
  page->tat = clock_now + 900 * MS; /* deep in debt, by whose fault ever */
  usage(0, 0);
  ck_assert(!arrive(0));
  clock_now += SCHED_DEBT_WAIT_NS / 2;
  sched_balance(clock_now);
  ck_assert(!wake(0));
  clock_now += SCHED_DEBT_WAIT_NS;
  sched_balance(clock_now);
  ck_assert(wake(0));
}
END_TEST

/* 95 ms of a kernel's period of 100 are over, and so much is left of its quota. */
static void late_in_a_period(int64_t left_ns) {
  sched.period = 100 * MS;
  sched.phase = clock_now - 95 * MS;
  page->period_seen = sched.phase;
  page->tat = clock_now + 5 * MS - (uint64_t)(left_ns * 2); /* 0.5 CPUs */
}

START_TEST(newcomers_leave_the_next_period_alone) {
  setup(1, 1, 500000);
  late_in_a_period(2 * (int64_t)MS);
  usage(0, 0);
  usage(1, 5 * MS); /* below the share, and not small */
  ck_assert(!arrive(1));
  ck_assert(arrive(0));
  late_in_a_period(-(int64_t)SCHED_SMALL_OVERDRAFT_NS - 1000);
  ms[0].granted_at -= SCHED_MOMENT_NS; /* it is not for that one that the next waits */
  usage(2, 0);
  ck_assert(!arrive(2));
  ck_assert(!wake(1));
  clock_now = sched.phase + 100 * MS + 1; /* the next one */
  sched_balance(clock_now);
  ck_assert(wake(1) || wake(2)); /* a slot is free for one of them */
}
END_TEST

START_TEST(a_newcomer_that_runs_on_is_stopped_before_the_period_is_spent) {
  setup(1, 1, 500000);
  late_in_a_period(4 * (int64_t)MS);
  usage(0, 5 * MS);
  ck_assert(arrive(0));
  signalled = 0;
  clock_now += SCHED_MIN_RUN_NS;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 0);
  late_in_a_period(2 * (int64_t)MS);
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
}
END_TEST

START_TEST(a_full_bucket_lets_the_kernel_schedule) {
  setup(1, 1, 980000);
  for (unsigned i = 0; i < 6; i++) usage(i, HOG);
  ck_assert(arrive(0));
  for (unsigned i = 1; i < 6; i++) arrive(i);
  page->tat = clock_now - 100 * MS; /* nothing was used for long */
  sched_balance(clock_now);
  ck_assert(sched.surplus);
  for (unsigned i = 1; i < 6; i++) ck_assert(wake(i));
  page->tat = clock_now; /* spent */
  signalled = 0;
  sched_balance(clock_now);
  ck_assert(!sched.surplus);
  ck_assert_uint_ge(signalled, 5); /* all but the regular slot's must go */
}
END_TEST

static void go_blocked(unsigned i) {
  ms[i].own_slot.state = M_SYSCALL;
  ms[i].systick++;
}

static unsigned first_in(const struct gqueue *q) { return (unsigned)(q->head->lockedm - ms); }

/* They may have what the others need. */
START_TEST(owners_of_locks_go_before_others_in_their_order) {
  setup(1, 0, 980000);
  for (unsigned i = 0; i < 6; i++) ms[i].g0.express = true;
  sched_enqueue(&ms[0].g0, WAIT_SYSCALL, clock_now, SCHED_BACK);
  sched_enqueue(&ms[1].g0, WAIT_SYSCALL, clock_now, SCHED_OWNER);
  sched_enqueue(&ms[2].g0, WAIT_SYSCALL, clock_now, SCHED_BACK);
  sched_enqueue(&ms[3].g0, WAIT_SYSCALL, clock_now, SCHED_OWNER);
  sched_enqueue(&ms[4].g0, WAIT_SYSCALL, clock_now, SCHED_OWNER);
  sched_dequeue(&ms[4].g0); /* the last of them */
  sched_enqueue(&ms[5].g0, WAIT_SYSCALL, clock_now, SCHED_OWNER);
  static const unsigned order[] = {1, 3, 5, 0, 2};
  for (unsigned i = 0; i < 5; i++) {
    ck_assert_uint_eq(first_in(&sched.express), order[i]);
    sched_dequeue(sched.express.head->lockedm->g);
  }
  ck_assert_ptr_null(sched.express.owners);
  ck_assert_ptr_null(sched.express.tail);
}
END_TEST

static void one_runs_one_waits(void) {
  setup(1, 0, 980000);
  usage(0, 0);
  ck_assert(arrive(0));
  ms[1].g0.express = true;
  sched_enqueue(&ms[1].g0, WAIT_SYSCALL, clock_now, SCHED_BACK);
}

START_TEST(owners_do_not_keep_others_waiting_for_ever) {
  one_runs_one_waits();
  unsigned has = 0, turns = 0;
  for (clock_now += SCHED_AGE_NS + 1; has != 1; turns++) {
    unsigned next = has == 2 ? 3 : 2; /* two that hand a lock to and fro */
    ms[next].g0.express = true;
    sched_enqueue(&ms[next].g0, WAIT_SYSCALL, clock_now, SCHED_OWNER);
    sched_p_free(sched_p_take(&ms[has], clock_now), clock_now, false);
    has = ms[1].p ? 1 : next;
    ck_assert_ptr_nonnull(ms[has].p);
    ck_assert_uint_le(turns, 4);
    if (has == 1) sched_dequeue(&ms[next].g0);
  }
}
END_TEST

/* Nobody is woken under the lock: who is woken preempts who wakes. */
START_TEST(who_is_granted_a_p_is_woken_after_the_lock) {
  one_runs_one_waits();
  woken = 0;
  sched_p_free(sched_p_take(&ms[0], clock_now), clock_now, false);
  ck_assert_ptr_nonnull(ms[1].p);
  ck_assert_uint_eq(ms[1].park, 1);
  ck_assert_uint_eq(woken, 0);
  sched_drop();
  ck_assert_uint_eq(woken, 1);
  lock_take(&sched.lock);
}
END_TEST

START_TEST(without_bpf_a_wrapper_that_lasts_loses_its_p) {
  setup(1, 0, 980000);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  go_blocked(0);
  sched_balance(clock_now);
  ck_assert_ptr_nonnull(ms[0].p); /* seen for the first time */
  clock_now += SCHED_POLL_MIN_NS;
  sched_balance(clock_now);
  ck_assert_ptr_nonnull(ms[0].p); /* it has no CPU: the client that it has just answered runs */
  asleep_in_proc = true;
  clock_now += SCHED_POLL_MIN_NS;
  sched_balance(clock_now);
  ck_assert_ptr_null(ms[0].p);
  ck_assert_uint_eq(ms[0].own_slot.taken, 1);
  ck_assert_uint_eq(ms[0].own_slot.has_p, 0);
  ck_assert(wake(1));
}
END_TEST

/* Two threads that hand a P to and fro: each time the look comes soon, however often they have done so. */
START_TEST(without_bpf_each_wait_is_polled_for_from_the_start) {
  setup(1, 0, 980000);
  asleep_in_proc = true;
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  for (unsigned i = 0; i < 100; i++) {
    unsigned has = i % 2, waits = !has;
    ck_assert(!arrive(waits));
    go_blocked(has);
    uint64_t since = clock_now;
    for (uint64_t look = sched_balance(clock_now); ms[has].p; look = sched_balance(clock_now)) {
      clock_now = look > clock_now ? look : clock_now + 1000;
      ck_assert_uint_le(clock_now - since, 5 * SCHED_POLL_MIN_NS);
    }
    ck_assert(wake(waits));
  }
}
END_TEST

START_TEST(without_bpf_a_call_that_is_known_to_block_loses_its_p_at_once) {
  setup(1, 0, 980000);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ms[0].sure_systick = ms[0].systick + 1;
  go_blocked(0);
  ck_assert(arrive(1));
  ck_assert_ptr_null(ms[0].p);
}
END_TEST

START_TEST(a_p_that_is_not_taken_by_whom_it_was_granted_goes_on) {
  setup(1, 0, 980000);
  sched.maxprocs = 1; /* no more for newcomers either */
  for (unsigned i = 0; i < 3; i++) usage(i, 20 * HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  ms[0].sure_systick = ms[0].systick + 1;
  go_blocked(0);
  sched_balance(clock_now);
  ck_assert_ptr_nonnull(ms[1].p); /* granted, but it is in a handler that was left by longjmp */
  ck_assert(!arrive(2));
  clock_now += SCHED_UNCLAIMED_NS - MS;
  sched_balance(clock_now);
  ck_assert_ptr_nonnull(ms[1].p);
  clock_now += MS;
  sched_balance(clock_now);
  ck_assert_ptr_null(ms[1].p);
  ck_assert_uint_eq(ms[1].own_slot.taken, 1);
  ck_assert(wake(2));
}
END_TEST

static void comes_back(void) { ms[0].own_slot.state = M_RUN; }

START_TEST(a_retake_that_finds_the_m_back_is_undone) {
  setup(1, 0, 980000);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  go_blocked(0);
  sched_balance(clock_now);
  clock_now += SCHED_POLL_MIN_NS;
  during_barrier = comes_back;
  sched_balance(clock_now);
  ck_assert_ptr_eq(ms[0].p, &sched.ps[0]);
  ck_assert_uint_eq(ms[0].own_slot.taken, 0);
  ck_assert(!wake(1));
}
END_TEST

START_TEST(an_m_blocked_outside_any_wrapper_is_found_by_its_clock) {
  setup(1, 0, 980000);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  asleep_in_proc = true; /* and its CPU clock stands still */
  clock_now += SCHED_POLL_RAW_NS;
  sched_balance(clock_now);
  ck_assert(wake(1));
  ck_assert_uint_eq(signalled, 0); /* one that is in the kernel is not signalled */
}
END_TEST

/* --- with BPF's marks --- */

static struct {
  struct m_header h;
  struct m_slot s[M_SLOTS_MIN];
  struct m_tids t[M_SLOTS_MIN * 2 / M_TIDS_PER_ELEM];
} map;

static void setup_bpf(void) {
  sched.header = &map.h;
  sched.slots = map.s;
  sched.tids = map.t;
  sched.nslots = M_SLOTS_MIN;
  sched.slot_free = calloc(M_SLOTS_MIN, sizeof *sched.slot_free);
  for (uint32_t i = 0; i < M_SLOTS_MIN; i++) sched.slot_free[i] = M_SLOTS_MIN - 1 - i;
  sched.nslot_free = M_SLOTS_MIN;
  sched.bpf = true;
  map.h.caps = M_CAP_TICK;
  for (unsigned i = 0; i < NM; i++) m_place_slot(&ms[i]);
}

static void bpf_in(unsigned i) {
  ms[i].slot->blocked_at = 0;
  ms[i].slot->oncpu_at = clock_now;
  ms[i].slot->seq = (ms[i].slot->seq + 1) | 1;
}
static void bpf_out(unsigned i, bool blocked) {
  ms[i].slot->cpu_ns += clock_now - ms[i].slot->oncpu_at;
  ms[i].slot->oncpu_at = 0;
  ms[i].slot->seq = (ms[i].slot->seq + 2) & ~1ull;
  if (blocked) ms[i].slot->blocked_at = clock_now;
}

static bool arrive_bpf(unsigned i) {
  bpf_in(i);
  struct g *g = &ms[i].g0;
  g->express = fair_express(fair_usage(&g->fair, clock_now), sched_my_share(1));
  ms[i].slot->state = M_IDLE;
  struct p *p = sched_p_get(g, clock_now);
  if (p) {
    sched_grant(p, g, clock_now, true);
    ms[i].slot->state = M_RUN;
    return true;
  }
  sched_enqueue(g, WAIT_SYSCALL, clock_now, false);
  sched_balance(clock_now);
  bpf_out(i, false);
  return false;
}

static void setup_alarms(void) {
  setup(1, 1, 500000);
  setup_bpf();
  map.h.caps = M_CAP_TICK | M_CAP_ALARM;
  sched.poller_tid = 1;
}

/* Thread 0, a hog that has just got the only slot, at 0.5 CPUs: its part is over in 10 ms.  Looks at the whole as it would itself; returns when sysmon is to. */
static uint64_t hog_with_an_alarm(void) {
  setup_alarms();
  usage(0, HOG);
  ck_assert(arrive_bpf(0));
  page->tat = clock_now;
  sched.looks = &ms[0];
  uint64_t until = sched_balance(clock_now);
  sched.looks = NULL;
  return until;
}

static uint32_t in_us(uint64_t ns) { return (uint32_t)(ns / 1000); }

START_TEST(a_hog_looks_itself_when_its_part_ends) {
  ck_assert_uint_eq(hog_with_an_alarm(), lease_frame_end(clock_now));
  ck_assert_uint_eq(ms[0].slot->alarm, in_us(clock_now + 10 * MS));
  alarm_clear(&ms[0]);
  map.h.caps = M_CAP_TICK; /* a daemon that knows of no alarms */
  ck_assert_uint_eq(sched_balance(clock_now), clock_now + 10 * MS);
  ck_assert_uint_eq(ms[0].slot->alarm, 0);
  map.h.caps = M_CAP_TICK | M_CAP_ALARM;
  sched.ps[0].timer = -1; /* the kernel refused us one */
  ck_assert_uint_eq(sched_balance(clock_now), clock_now + 10 * MS);
  ck_assert_uint_eq(ms[0].slot->alarm, 0);
}
END_TEST

/* The program has SIGURG for itself: a daemon that does not know of that sends none, and is not relied on. */
START_TEST(bpf_is_told_of_the_hidden_signal) {
  (void)hog_with_an_alarm();
  preempt_gated(sched.gated);
  ck_assert_uint_eq(map.h.gated, 1);
  ck_assert_uint_eq(map.h.hidden, 0);
  sched_drop();
  preempt_hide();
  lock_take(&sched.lock);
  ck_assert_uint_eq(map.h.gated, 0);
  ck_assert_uint_eq(map.h.hidden, 1);
  ck_assert(!alarm_can(&ms[0]));
  ms[0].slot->state = M_RUN;
  preempt_request(&ms[0], clock_now);
  ck_assert_uint_eq(signalled, 1); /* by us */
  map.h.caps |= M_CAP_HIDDEN;
  ck_assert(alarm_can(&ms[0]));
  sched_leave_page(clock_now);
  ck_assert_uint_eq(map.h.hidden, 0);
  preempt_signal = SIGURG;
}
END_TEST

/* The slot is in a map that both have.  The parent had been stopped since, and the child was taken for one that waits: it ran without a P for good. */
START_TEST(a_forked_child_runs_whatever_its_parent_does_meanwhile) {
  setup(1, 1, 500000);
  setup_bpf();
  ms[0].slot->state = M_IDLE;
  ms[0].slot->taken = 1;
  m_forget_others(&ms[0]);
  ck_assert_ptr_eq(ms[0].slot, &ms[0].own_slot);
  ck_assert_uint_eq(ms[0].own_slot.state, M_RUN);
  ck_assert_uint_eq(ms[0].own_slot.taken, 0);
  ms[1].slot->state = M_RUN; /* as the one that waits, on which a handler has forked, has it by now */
  ms[1].park_sp = 1;
  m_forget_others(&ms[1]);
  ck_assert_uint_eq(ms[1].own_slot.state, M_IDLE);
}
END_TEST

/* Another one's look: what counts is what the hog has armed. */
START_TEST(an_alarm_counts_if_it_is_armed_in_time) {
  hog_with_an_alarm();
  uint64_t at = clock_now + 10 * MS, frame_end = lease_frame_end(clock_now);
  ck_assert_uint_eq(sched_balance(clock_now), at); /* it has not yet */
  ms[0].alarm_armed = in_us(at);
  ck_assert_uint_eq(sched_balance(clock_now), frame_end);
  page->tat += 2 * 900000; /* a newcomer has used 0.9 ms */
  ck_assert_uint_eq(sched_balance(clock_now), frame_end);
  ck_assert_uint_eq(ms[0].slot->alarm, in_us(at - 900000));
  page->tat += 2 * 200000;
  ck_assert_uint_eq(sched_balance(clock_now), at - 1100000);
  page->tat -= 2 * 3 * MS; /* and later than it is armed for is never too late */
  ck_assert_uint_eq(sched_balance(clock_now), frame_end);
  ck_assert_uint_eq(ms[0].slot->alarm, in_us(at - 1100000));
  page->tat += 2 * 1900000;
  bpf_out(0, false); /* it has no CPU: somebody else must take its P then */
  ck_assert_uint_eq(sched_balance(clock_now), at);
}
END_TEST

/* In the last frame of a period nothing may be late, so it looks early, and then once more. */
START_TEST(before_a_period_ends_the_alarm_is_early) {
  hog_with_an_alarm();
  uint64_t at = clock_now + 10 * MS;
  sched.period = 100 * MS;
  sched.phase = lease_frame_end(clock_now) - 100 * MS;
  page->period_seen = sched.phase;
  alarm_clear(&ms[0]);
  sched.looks = &ms[0];
  sched_balance(clock_now);
  ck_assert_uint_eq(ms[0].slot->alarm, in_us(at - MS));
  run_for(9 * MS, 0);
  map.s[ms[0].slot_index].cpu_ns += 9 * MS;
  map.s[ms[0].slot_index].oncpu_at = clock_now;
  page->tat = clock_now - 9 * MS;
  alarm_clear(&ms[0]);
  sched_balance(clock_now);
  ck_assert(!ms[0].preempt_at);
  ck_assert_uint_eq(ms[0].slot->alarm, in_us(at));
}
END_TEST

START_TEST(who_looks_itself_is_not_signalled) {
  hog_with_an_alarm();
  ms[1].own_slot.state = M_RUN;
  usage(1, HOG);
  ck_assert(!arrive_bpf(1));
  clock_now += SCHED_SLICE_NS;
  sched.looks = &ms[0];
  sched_balance(clock_now);
  ck_assert_uint_eq(ms[0].slot->preempt, 1);
  ck_assert_uint_eq(signalled, 0);
  ms[0].preempt_at = 0; /* and by another's look it is */
  sched.looks = NULL;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
}
END_TEST

/* A hog that blocks hands its P on, and nobody looks: the part of the frame ends for the next one as well. */
START_TEST(an_alarm_goes_with_the_p) {
  hog_with_an_alarm();
  bpf_in(1);
  uint32_t alarm = ms[0].alarm_armed = ms[0].slot->alarm;
  struct p *p = sched_p_take(&ms[0], clock_now);
  ck_assert_uint_eq(ms[0].slot->alarm, 0);
  ck_assert_uint_eq(ms[0].alarm_armed, 0);
  ms[1].slot->alarm = 7; /* left over */
  sched_grant(p, &ms[1].g0, clock_now, true);
  ck_assert_uint_eq(ms[1].slot->alarm, alarm);
  ck_assert_uint_eq(ms[1].alarm_armed, alarm); /* the P's timer is set to it */
  clock_now += 11 * MS;                        /* one that has rung, and nobody has looked: the next one does at once */
  p = sched_p_take(&ms[1], clock_now);
  sched_grant(p, &ms[0].g0, clock_now, true);
  ck_assert_uint_eq(ms[0].slot->alarm, in_us(clock_now));
  ms[0].slot->alarm = in_us(clock_now + MS);
  lease_release(sched_p_take(&ms[0], clock_now)); /* nor does it outlive the lease */
  sched_grant(lease_acquire(false, true, clock_now), &ms[0].g0, clock_now, true);
  ck_assert_uint_eq(ms[0].slot->alarm, 0);
}
END_TEST

/* The kernel runs others, or the interrupts don't come: sysmon does it for a while. */
START_TEST(alarms_that_are_answered_late_are_not_relied_on) {
  hog_with_an_alarm();
  uint64_t at = clock_now + 10 * MS;
  ms[0].alarm_armed = ms[0].slot->alarm;
  clock_now = at + MS;
  ck_assert_uint_eq(alarm_answered(&ms[0], clock_now), MS);
  ms[0].slot->alarm = ms[0].alarm_armed = in_us(clock_now);
  sched.looks = &ms[0];
  ck_assert(alarm_set(&ms[0], clock_now + MS, 0));
  ms[0].alarm_armed = ms[0].slot->alarm;
  ms[0].systick++; /* it has made a call: it may have been blocked for so long */
  clock_now += 5 * MS;
  ck_assert_uint_eq(alarm_answered(&ms[0], clock_now), 0);
  ck_assert(alarm_set(&ms[0], clock_now + MS, 0));
  ms[0].alarm_armed = ms[0].slot->alarm;
  ms[0].alarm_systick = ms[0].systick;
  clock_now += 5 * MS;
  ck_assert_uint_eq(alarm_answered(&ms[0], clock_now), 4 * MS);
  ck_assert(!alarm_set(&ms[0], clock_now + MS, 0));
  ck_assert_uint_eq(ms[0].slot->alarm, 0);
  clock_now += 1100 * MS;
  ck_assert(alarm_set(&ms[0], clock_now + MS, 0));
  ms[0].alarm_armed = ms[0].slot->alarm;
  ms[0].slot->state = M_RUN;
  bpf_out(0, false); /* it has no CPU when it rings, and its P is taken */
  sched.looks = NULL;
  usage(1, HOG);
  clock_now += SCHED_SLICE_NS;
  ck_assert(!arrive_bpf(1));
  ck_assert(!ms[0].p);
  ck_assert_uint_eq(sched.late_at, clock_now);
}
END_TEST

/* The tick is exact enough for one that is gone long before, as a rule. */
START_TEST(a_newcomer_alone_needs_no_sysmon_either) {
  setup_alarms();
  usage(0, 0);
  ck_assert(arrive_bpf(0));
  sched_balance(clock_now);
  ck_assert_uint_ge(ms[0].slot->alarm, in_us(clock_now + SCHED_ACTIVE_TICK_NS));
}
END_TEST

START_TEST(who_looks_for_a_p_takes_that_of_a_blocked_m) {
  setup(1, 0, 980000);
  setup_bpf();
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive_bpf(0));
  clock_now += MS;
  bpf_out(0, true);
  ck_assert(arrive_bpf(1)); /* at once, without sysmon */
  ck_assert_uint_eq(ms[0].slot->taken, 1);
  ck_assert_uint_eq(signalled, 0);
}
END_TEST

START_TEST(a_p_that_serves_nobody_goes_back_to_the_pool) {
  setup(1, 0, 980000);
  setup_bpf();
  ck_assert(arrive_bpf(0));
  clock_now += MS;
  bpf_out(0, true);
  sched_balance(clock_now);
  ck_assert_uint_eq(page->slots[0].word, POOL_LEASE(0, 1)); /* it may be back in a moment */
  clock_now += SCHED_ACTIVE_TICK_NS;
  ck_assert_uint_eq(sched_balance(clock_now), UINT64_MAX); /* and nothing is left to wake up for */
  ck_assert_uint_eq(page->slots[0].word, 0);
}
END_TEST

START_TEST(the_p_of_an_m_without_cpu_is_taken_without_a_signal) {
  setup(1, 0, 980000);
  setup_bpf();
  usage(0, HOG);
  ck_assert(arrive_bpf(0));
  clock_now += 2 * MS;
  bpf_out(0, false); /* the kernel runs somebody else */
  usage(1, 0);
  arrive_bpf(1);
  ck_assert(ms[1].p != NULL);
  ck_assert_ptr_null(ms[0].p);
  ck_assert_uint_eq(ms[0].slot->taken, 1);
  ck_assert_uint_eq(signalled, 0);
}
END_TEST

START_TEST(an_m_whose_p_is_taken_while_it_has_no_cpu_keeps_the_rest_of_its_slice) {
  setup(1, 0, 980000);
  setup_bpf();
  usage(0, HOG);
  ck_assert(arrive_bpf(0));
  clock_now += 2 * MS;
  bpf_out(0, false); /* sysmon has just displaced it */
  usage(1, 0);
  ck_assert(!arrive_bpf(1));
  ck_assert_uint_eq(ms[0].slot->taken, 1);
  ck_assert(ms[0].g0.stopped);
  ck_assert(ms[0].g0.front);
  ck_assert_uint_eq(ms[0].g0.slice_used, 2 * MS);
  ck_assert_ptr_eq(ms[1].p, &sched.ps[0]);
}
END_TEST

START_TEST(a_slot_that_bpf_has_not_seen_says_nothing) {
  setup(1, 0, 980000);
  setup_bpf();
  bool bpf;
  cpu[0] = 77;
  ck_assert_uint_eq(m_cpu_ns(&ms[0], clock_now, &bpf), 77);
  ck_assert(!bpf);
  bpf_in(0);
  clock_now += 5;
  ck_assert_uint_eq(m_cpu_ns(&ms[0], clock_now, &bpf), 5);
  ck_assert(bpf);
}
END_TEST

START_TEST(cpu_time_is_charged_once_to_g_bucket_and_page) {
  setup(1, 0, 1000000);
  usage(0, HOG);
  ck_assert(arrive(0));
  int64_t before = lease_tokens(clock_now);
  run_for(4 * MS, 0);
  sched_charge(&ms[0], clock_now);
  sched_charge(&ms[0], clock_now);
  ck_assert_uint_eq(page->charged, 4 * MS);
  ck_assert_uint_eq(page->members[0].charged, 4 * MS);
  ck_assert_int_eq(lease_tokens(clock_now), before); /* 4 ms passed at rate 1, 4 ms used */
}
END_TEST

/* --- two processes --- */

static void add_member(uint32_t i, uint32_t wants, uint32_t express) {
  page->nmembers++;
  page->members[i].gen = 7;
  page->members[i].wants = wants;
  page->members[i].express = express;
  if (wants) page->waiting[i / 64] |= 1ull << (i % 64);
}

/* Two Ms were put on one CPU, frame after frame, while another was idle. */
START_TEST(one_who_has_displaced_an_m_leaves_no_cpu) {
  setup(2, 0, 1480000);
  setup_bpf();
  usage(0, HOG);
  ck_assert(arrive_bpf(0));
  sched.leaving = SCHED_LEAVES;
  ck_assert(sched_leaves_a_cpu(&sched.ps[1])); /* it runs: elsewhere */
  bpf_out(0, false);
  ck_assert(!sched_leaves_a_cpu(&sched.ps[1])); /* it would, here maybe */
  ck_assert(sched_leaves_a_cpu(&sched.ps[0]));  /* its P goes to another */
  sched.leaving = SCHED_LEAVES_OWN;
  ck_assert(sched_leaves_a_cpu(&sched.ps[1]));
  sched.leaving = SCHED_LEAVES;
  ms[0].slot->blocked_at = clock_now;
  ck_assert(sched_leaves_a_cpu(&sched.ps[1])); /* needs none */
  add_member(5, 1, 0);
  page->slots[1].word = POOL_LEASE(5, 7);
  ck_assert(!sched_leaves_a_cpu(&sched.ps[0])); /* of another process we can't know */
  sched.leaving = SCHED_STAYS;
  ck_assert(!sched_leaves_a_cpu(&sched.ps[0]));
}
END_TEST

START_TEST(a_released_slot_rings_who_waits) {
  setup(1, 0, 980000);
  add_member(5, 1, 0);
  ck_assert(arrive(0));
  struct p *p = sched_p_take(&ms[0], clock_now);
  lease_release(p);
  ck_assert_uint_eq(page->members[5].bell, 1);
  ck_assert_uint_eq(page->slots[0].word, 0);
}
END_TEST

/* In a pause newcomers come and go on the hogs' slots: each of them rang the other process, whose hogs could not have the slot. */
START_TEST(who_waits_is_not_told_of_a_slot_that_a_pause_has_closed) {
  setup(1, 1, 500000);
  add_member(5, 1, 0);
  usage(0, HOG);
  ck_assert(arrive(0));
  page->tat = clock_now + 500 * MS; /* empty, and far beyond this frame */
  sched_balance(clock_now);
  ck_assert(sched.paced);
  ck_assert_uint_eq(lease_hog_slots(), 0);
  uint32_t told = page->members[5].bell;
  lease_release(sched_p_take(&ms[0], clock_now));
  lease_release(lease_acquire(false, false, clock_now)); /* a newcomer's */
  ck_assert_uint_eq(page->members[5].bell, told);
  page->members[5].express = 1; /* but a newcomer that waits may have it */
  lease_release(lease_acquire(false, false, clock_now));
  ck_assert_uint_eq(page->members[5].bell, told + 1);
  page->members[5].express = 0;
  clock_now = lease_frame_end(clock_now) + 1; /* what we know of the pause is old */
  lease_release(lease_acquire(false, false, clock_now));
  ck_assert_uint_eq(page->members[5].bell, told + 2);
}
END_TEST

/* So whose hogs wait looks at the frame's end by itself, whether it knows of a pause or not. */
START_TEST(who_waits_looks_when_a_frame_begins) {
  setup(1, 1, 480000);
  add_member(5, 0, 0);
  page->slots[0].word = POOL_LEASE(5, 7);
  usage(0, HOG);
  ck_assert(!arrive(0));
  ck_assert(!sched.paced);
  ck_assert_uint_eq(sched_balance(clock_now), lease_frame_end(clock_now));
}
END_TEST

/* Our one hog that has run stops for a pause, one waits here, and `theirs` in another process.  The end of its frame. */
static uint64_t hogs_pause(uint32_t theirs) {
  setup(1, 1, 480000);
  add_member(5, theirs, 0);
  usage(0, HOG);
  usage(1, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  uint64_t end = lease_frame_end(clock_now);
  run_for(SCHED_SLICE_NS - MS, 0);
  sched_balance(clock_now);
  page->tat = clock_now + 12 * MS;
  sched_balance(clock_now);
  ck_assert(sched.paced);
  ck_assert(ms[0].preempt_at);
  sched_p_free(sched_p_take(&ms[0], clock_now), clock_now, true);
  ck_assert_uint_eq(page->slots[0].word, 0);
  return end;
}

/* Who looks first when a frame begins has the slot: who has had its turn leaves the next frame to the others. */
START_TEST(frames_go_round_among_processes) {
  uint64_t end = hogs_pause(2);
  ck_assert_uint_eq(sched.passed_frame, end);
  ck_assert_uint_eq(sched_balance(clock_now), end + SCHED_FRAME_MAX_NS);
  clock_now = end + 1;
  page->slots[0].word = POOL_LEASE(5, 7);                                /* it came and took it */
  ck_assert_uint_eq(sched_balance(clock_now), end + SCHED_FRAME_MAX_NS); /* and in that frame it looks at the end again */
}
END_TEST

/* As many wait there as here: each has every other frame, and the two never look for the same one. */
START_TEST(equal_processes_change_places) {
  uint64_t end = hogs_pause(1);
  ck_assert_uint_eq(sched.passed_frame, end);
}
END_TEST

/* The frame's part is for hogs, and the one that runs is another process's. */
START_TEST(who_has_no_hog_running_does_not_look_for_the_end_of_its_part) {
  setup(1, 1, 480000);
  add_member(5, 0, 0);
  page->slots[0].word = POOL_LEASE(5, 7);
  usage(0, 0);
  ck_assert(arrive(0));
  page->tat = clock_now + 10 * MS;
  ck_assert_int_lt(lease_ahead(clock_now), (int64_t)(8 * MS));
  ck_assert(!sched.paced);
  ck_assert_uint_eq(sched_balance(clock_now), clock_now + 10 * MS);
}
END_TEST

/* Where two processes change places, who runs in this frame does not look at the next. */
START_TEST(a_frame_that_will_be_anothers_is_not_looked_at) {
  hog_with_an_alarm();
  ms[0].alarm_armed = ms[0].slot->alarm;
  add_member(5, 1, 0);
  sched.rang_wants = 1, sched.rang_at = clock_now;
  ms[0].slot->alarm = ms[0].alarm_armed = in_us(clock_now + 9 * MS);
  ck_assert_uint_eq(sched_balance(clock_now), lease_frame_end(clock_now) + SCHED_FRAME_MAX_NS);
}
END_TEST

/* A process charges when it looks, every few ms; the others reckoned as if nothing was used meanwhile, and at a period's end forgot what was spent as if it had been saved. */
START_TEST(what_others_have_not_charged_yet_is_spent) {
  setup(2, 0, 1480000);
  add_member(5, 1, 0);
  sched.period = 100 * MS;
  sched.phase = clock_now - 100 * MS + 3 * MS;
  page->period_seen = sched.phase;
  uint64_t begin = clock_now + 3 * MS;
  page->slots[0].word = POOL_LEASE(5, 7);
  int64_t tokens = lease_tokens(clock_now);
  page->slots[0].charged_at = clock_now - 4 * MS;
  ck_assert_int_eq(lease_tokens(clock_now), tokens - (int64_t)(4 * MS));
  int64_t ahead = lease_ahead(clock_now);
  usage(0, HOG);
  ck_assert(arrive(0)); /* slot 1: ours we charge ourselves */
  ck_assert_int_eq(lease_ahead(clock_now), ahead);
  run_for(3 * MS + 60000, 0);
  sched_charge(&ms[0], clock_now);
  ck_assert_uint_eq(page->slots[1].charged_at, clock_now);
  page->tat = begin - 9 * MS; /* 13.3 ms saved, 7 of them spent by the other */
  lease_new_period(clock_now);
  ck_assert_int_le(llabs(pool_tokens(page, begin) - (int64_t)(7 * MS)), 2000);
  ck_assert_int_le(llabs(lease_tokens(begin)), 2000);
  page->slots[0].charged_at = clock_now - 500 * MS; /* it does not run, or is of a version that does not say */
  ck_assert_int_eq(lease_tokens(clock_now), pool_tokens(page, clock_now));
}
END_TEST

/* We have a slot n times, once every `ns`, and another process has had it before each. */
static void take_turns(unsigned n, uint64_t ns) {
  for (unsigned k = 0; k < n; k++) {
    page->slots[0].last = 6; /* they had it */
    ck_assert(arrive(0));
    run_for(ns / 2, 0);
    ms[0].systick++;
    ms[0].own_slot.state = M_IDLE;
    lease_release(sched_p_take(&ms[0], clock_now));
    clock_now += ns / 2;
  }
}

static void setup_crowd(void) {
  setup(1, 1, 985000);
  page->flags |= POOL_F_CROWDS;
  add_member(5, 0, 0);
  page->moved_at = clock_now;
  clock_now += 2000 * MS;
  page->tat = clock_now;
}

/* Servers of several processes did half of their work, for at each short block a slot went to another process. */
START_TEST(processes_that_hand_slots_to_each_other_all_the_time_are_a_crowd) {
  setup_crowd();
  take_turns(POOL_CROWD_MOVES, MS / 4);
  ck_assert(!lease_crowd(clock_now)); /* the first may have taken for ever */
  take_turns(POOL_CROWD_MOVES, MS / 4);
  ck_assert(lease_crowd(clock_now));
  page->tat = clock_now + 500 * MS;
  for (unsigned i = 0; i < NM; i++) {
    usage(i, i % 2 ? HOG : 0);
    ck_assert(arrive(i)); /* there are two slots, and the bucket is overdrawn */
    ms[i].systick++;
  }
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 0);
  ck_assert_uint_le(page->tat, clock_now); /* else all would wait for it as the crowd ends */
  ck_assert(!sched.paced);
}
END_TEST

START_TEST(a_crowd_lasts_while_more_run_than_there_are_slots) {
  setup_crowd();
  take_turns(2 * POOL_CROWD_MOVES, MS / 4);
  for (unsigned i = 0; i < 3; i++) ck_assert(arrive(i));
  for (unsigned k = 0; k < 30; k++) {
    clock_now += 100 * MS;
    sched_balance(clock_now);
    ck_assert(lease_crowd(clock_now));
  }
  ms[2].own_slot.state = M_IDLE;
  lease_release(sched_p_take(&ms[2], clock_now));
  for (unsigned k = 0; k < 11; k++) {
    clock_now += 100 * MS;
    sched_balance(clock_now);
  }
  ck_assert(!lease_crowd(clock_now));
}
END_TEST

START_TEST(who_only_computes_ends_a_crowd) {
  setup_crowd();
  take_turns(2 * POOL_CROWD_MOVES, MS / 4);
  for (unsigned i = 0; i < 4; i++) {
    usage(i, HOG);
    ck_assert(arrive(i));
  }
  sched_balance(clock_now);
  run_for(9 * MS, 3);
  sched_balance(clock_now);
  ck_assert(lease_crowd(clock_now));
  run_for(2 * MS, 3);
  sched_balance(clock_now);
  ck_assert(!lease_crowd(clock_now));
  page->tat = clock_now;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 3); /* the hogs on all slots but the regular one */
  struct p *far = ms[3].p;
  page->slots[100] = page->slots[far->id]; /* as if there had been more of them */
  page->slots[far->id].word = 0;
  sched.ps[100] = *far, sched.ps[100].id = 100, far->status = P_NONE, ms[3].p = &sched.ps[100], sched.top = 101;
  page->members[5].wants = page->members[5].express = 1;
  page->waiting[0] |= 1u << 5;
  ms[3].own_slot.state = M_IDLE;
  sched_p_free(sched_p_take(&ms[3], clock_now), clock_now, false);
  ck_assert_uint_eq(page->slots[100].word, 0); /* not handed to one that would not look for it there */
  page->waiting[0] = 0;
  for (unsigned i = 0; i < 4; i++) {
    if (!ms[i].p) continue;
    ms[i].own_slot.state = M_IDLE;
    lease_release(sched_p_take(&ms[i], clock_now));
  }
  usage(0, 0);
  take_turns(2 * POOL_CROWD_MOVES, MS / 8);
  ck_assert(!lease_crowd(clock_now)); /* so soon after it */
}
END_TEST

/* PostgreSQL's long queries kept a crowd going, so that the short ones beside them were throttled. */
START_TEST(who_only_reads_files_ends_a_crowd) {
  setup_crowd();
  take_turns(2 * POOL_CROWD_MOVES, MS / 4);
  for (unsigned i = 0; i < 4; i++) ck_assert(arrive(i));
  for (unsigned k = 0; k < 10; k++) {
    ck_assert(lease_crowd(clock_now));
    run_for(MS, 3);
    ms[3].systick++;
    ms[3].file_systick++;
    sched_balance(clock_now);
  }
  ck_assert(!lease_crowd(clock_now));
}
END_TEST

/* A hog that goes costs the process that has it, and ours, some wake-ups; so a moment is not too long. */
START_TEST(a_newcomer_waits_a_moment_for_one_of_another_process) {
  setup(1, 1, 980000);
  add_member(5, 0, 0);
  add_member(6, 0, 0);
  page->slots[0].word = POOL_LEASE(5, 7);
  page->slots[1].word = POOL_LEASE(6, 7);
  page->slots[1].since = clock_now;
  usage(0, 0);
  ck_assert(!arrive(0));
  ck_assert_uint_le(sched.due, clock_now + SCHED_THEIRS_NS);
  ck_assert_uint_eq(page->members[5].bell, 0);
  usage(1, 0);
  ck_assert(!arrive(1)); /* but one slot is for one of two */
  ck_assert_uint_eq(page->members[5].bell, 1);
  clock_now += SCHED_THEIRS_NS; /* and that one stays for longer */
  sched_balance(clock_now);
  ck_assert_uint_eq(page->members[5].bell, 2);
}
END_TEST

/* The same as the process sees it whose hog would have to go. */
START_TEST(a_hog_stays_if_another_slot_is_free_in_a_moment) {
  setup(1, 1, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  run_for(3 * MS, 0);
  add_member(5, 1, 1);
  add_member(6, 0, 0);
  page->slots[1].word = POOL_LEASE(6, 7);
  page->slots[1].since = clock_now;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 0);
  clock_now += SCHED_THEIRS_NS;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
}
END_TEST

/* It was passed on once more, in proportion to who waits where, at the cost of two wake-ups. */
START_TEST(a_slot_handed_to_us_is_for_ours) {
  setup(1, 1, 980000);
  add_member(5, 9, 9);
  page->slots[0].word = page->slots[1].word = POOL_LEASE(5, 7);
  usage(0, 0);
  ck_assert(!arrive(0));
  page->slots[1].word = POOL_LEASE(0, 1);
  sched_balance(clock_now);
  ck_assert(wake(0));
  ck_assert_uint_eq(page->slots[1].since, clock_now);
}
END_TEST

/* To be woken for a tick at each P that it gets, and gives back when it blocks, cost it more than the requests did. */
START_TEST(sysmon_of_a_busy_member_sleeps_lightly) {
  setup(1, 1, 980000);
  add_member(5, 0, 0);
  for (unsigned k = 0; k < 2; k++) {
    for (unsigned i = 0; i < 2; i++) {
      ck_assert(arrive(i));
      ck_assert(ms[i].p->shared);
      ms[i].own_slot.state = M_IDLE;
      lease_release(sched_p_take(&ms[i], clock_now));
      clock_now += 10 * MS;
    }
    ck_assert_uint_eq(sched_balance(clock_now), clock_now + SCHED_WARM_NS);
    clock_now += 1000 * MS;
    ck_assert_uint_eq(sched_balance(clock_now), UINT64_MAX); /* idle: no wake-ups */
  }
  page->nmembers = 1;
  ck_assert(arrive(0));
  ck_assert(!ms[0].p->shared);
}
END_TEST

START_TEST(what_is_no_crowd) {
  setup_crowd();
  take_turns(4 * POOL_CROWD_MOVES, 2 * MS); /* seldom enough that it does not matter */
  ck_assert(!lease_crowd(clock_now));
  for (unsigned k = 0; k < 4 * POOL_CROWD_MOVES; k++) { /* a process that is alone but for idle ones */
    ck_assert(arrive(0));
    ms[0].own_slot.state = M_IDLE;
    lease_release(sched_p_take(&ms[0], clock_now));
    clock_now += MS / 8;
  }
  ck_assert(!lease_crowd(clock_now));
  page->crowd_until = UINT64_MAX; /* nonsense */
  ck_assert(!lease_crowd(clock_now));
  page->crowd_until = clock_now + POOL_CROWD_FOR_NS / 2;
  ck_assert(lease_crowd(clock_now));
  page->nmembers = 1;
  ck_assert(!lease_crowd(clock_now));
  page->nmembers = 2;
  page->flags &= ~POOL_F_CROWDS; /* an owner that would not free the slots of one that dies */
  ck_assert(!lease_crowd(clock_now));
}
END_TEST

/* Two processes that both wait woke each other 37,000 times a second. */
START_TEST(a_ring_is_not_answered_with_a_ring) {
  setup(2, 0, 1480000);
  page->rate = 0;
  add_member(5, 1, 0);
  page->slots[1].word = POOL_LEASE(5, 7);
  usage(0, HOG);
  usage(1, HOG);
  usage(2, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1)); /* the holder of slot 1 is told */
  ck_assert_uint_eq(page->members[5].bell, 1);
  for (unsigned i = 0; i < 100; i++) {
    clock_now += 10000; /* it rings us, we look */
    sched_balance(clock_now);
  }
  ck_assert_uint_eq(page->members[5].bell, 1);
  ck_assert(!arrive(2)); /* one hog more is no news to somebody who knows that we wait */
  ck_assert_uint_eq(page->members[5].bell, 1);
  usage(3, 0);
  ck_assert(!arrive(3)); /* a newcomer is, but here our own hog makes room */
  ck_assert_uint_eq(signalled, 1);
  ck_assert_uint_eq(page->members[5].bell, 1);
  usage(4, 0);
  ck_assert(!arrive(4)); /* and we have no other */
  ck_assert_uint_eq(page->members[5].bell, 2);
  clock_now += SCHED_RING_AGAIN_NS;
  sched_balance(clock_now); /* and once in a while we say it again */
  ck_assert_uint_eq(page->members[5].bell, 3);
}
END_TEST

/* Three processes handed a slot round, 140,000 times in 8 s, that none of them was allowed to use, and charged the pool for the time. */
START_TEST(the_slots_of_an_overdrawn_pool_do_not_go_round) {
  setup(1, 0, 985000);
  usage(0, 0);
  ck_assert(arrive(0));
  add_member(5, 1, 1);
  page->tat = clock_now + 900 * MS;
  struct p *p = sched_p_take(&ms[0], clock_now);
  sched_p_free(p, clock_now, false);
  ck_assert_uint_eq(page->slots[0].word, 0);
  page->slots[0].word = POOL_LEASE(0, 1); /* handed to us all the same */
  usage(1, 0);
  ms[1].g0.express = true;
  sched_enqueue(&ms[1].g0, WAIT_SYSCALL, clock_now, false);
  uint64_t next = sched_balance(clock_now);
  ck_assert_uint_eq(page->slots[0].word, 0);
  ck_assert_uint_gt(next, clock_now + SCHED_RING_NS / 2); /* and we do not look all the time whether we may */
}
END_TEST

START_TEST(a_ring_that_is_of_no_use_goes_on_but_not_in_circles) {
  setup(2, 0, 1480000);
  add_member(5, 1, 0);
  for (unsigned i = 0; i < 100; i++) {
    sched_balance(clock_now);
    clock_now += 5000;
  }
  ck_assert_uint_eq(page->members[5].bell, 1);
  clock_now += SCHED_RING_NS;
  sched_balance(clock_now);
  ck_assert_uint_eq(page->members[5].bell, 2);
}
END_TEST

START_TEST(processes_share_in_proportion_to_their_waiting_threads) {
  setup(1, 0, 1000000);
  page->rate = 0;
  for (unsigned i = 0; i < 3; i++) usage(i, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
  ck_assert(!arrive(2));
  add_member(3, 2, 0);
  unsigned theirs = 0, ours = 0;
  for (unsigned k = 0; k < 100; k++) { /* 2 wait here, 2 there */
    struct p *p = &sched.ps[0];
    if (p->status == P_NONE) { /* they had it; they give it back */
      theirs++;
      page->slots[0].word = 0;
      sched_balance(clock_now);
      continue;
    }
    ours++;
    struct m *m = p->m;
    sched_p_take(m, clock_now);
    m->g0.express = false;
    m->park = 0;
    sched_enqueue(&m->g0, WAIT_PREEMPTED, clock_now, false);
    sched_p_free(p, clock_now, true);
    if (page->slots[0].word != POOL_LEASE(0, 1)) ck_assert_uint_eq(page->slots[0].word, POOL_LEASE(3, 7));
  }
  ck_assert_uint_ge(theirs, 25); /* 2 of 5, each time that we decide */
  ck_assert_uint_ge(ours, 30);
}
END_TEST

START_TEST(a_newcomer_of_another_process_gets_our_hogs_p) {
  setup(1, 0, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  clock_now += SCHED_MIN_RUN_NS;
  add_member(9, 1, 1);
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
  usage(1, HOG);
  ms[0].own_slot.state = M_IDLE;
  struct p *p = sched_p_take(&ms[0], clock_now);
  sched_p_free(p, clock_now, false);
  ck_assert_uint_eq(page->slots[0].word, POOL_LEASE(9, 7));
  ck_assert_uint_eq(page->members[9].bell, 1);
}
END_TEST

START_TEST(a_slot_handed_to_us_is_found_and_used) {
  setup(1, 0, 980000);
  page->nmembers = 2;
  page->slots[0].word = POOL_LEASE(1, 3);
  usage(0, HOG);
  ck_assert(!arrive(0));
  page->slots[0].word = POOL_LEASE(0, 1);
  sched_balance(clock_now);
  ck_assert(wake(0));
}
END_TEST

START_TEST(an_expropriated_p_is_noticed_and_no_error) {
  setup(1, 0, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  page->slots[0].word = POOL_LEASE(4, 4); /* the owner gave it to someone else */
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
  struct p *p = sched_p_take(&ms[0], clock_now);
  sched_p_free(p, clock_now, false);
  ck_assert_uint_eq(page->slots[0].word, POOL_LEASE(4, 4));
  ck_assert_uint_eq(sched.nheld, 0);
}
END_TEST

START_TEST(a_page_of_nonsense_harms_nobody) {
  setup(1, 0, 980000);
  unsigned char *b = (unsigned char *)page;
  srand(1);
  for (unsigned k = 0; k < 300; k++) {
    for (size_t i = 64; i < POOL_PAGE_SIZE; i++) b[i] = (unsigned char)rand();
    for (unsigned i = 0; i < NM; i++) {
      clock_now += MS;
      if (!ms[i].p && !ms[i].g0.queued) arrive(i);
      if (ms[i].p && k % 3 == 0) {
        struct p *p = sched_p_take(&ms[i], clock_now);
        sched_p_free(p, clock_now, true);
      }
      sched_balance(clock_now);
    }
    ck_assert_uint_le(sched.nheld, POOL_SLOTS_MAX);
  }
}
END_TEST

static void gate(uint32_t flags) {
  page->flags = flags;
  page->change++;
  sched_reconfigure(clock_now);
}

START_TEST(opening_the_gate_lets_everybody_run) {
  setup(1, 0, 980000);
  for (unsigned i = 0; i < 4; i++) usage(i, HOG);
  arrive(0);
  for (unsigned i = 1; i < 4; i++) ck_assert(!arrive(i));
  gate(0);
  ck_assert(!sched.gated);
  for (unsigned i = 1; i < 4; i++) ck_assert(wake(i));
  ck_assert_uint_eq(page->slots[0].word, 0);
  ck_assert(!sched_waiting());
  /* and closing it calls them in */
  for (unsigned i = 0; i < 4; i++) ms[i].next = i < 3 ? &ms[i + 1] : NULL;
  sched.allm = &ms[0];
  gate(POOL_F_GATED);
  for (unsigned i = 0; i < 4; i++) ck_assert_uint_eq(ms[i].own_slot.taken, 1);
}
END_TEST

START_TEST(bpf_looks_away_while_the_gate_is_open) {
  setup(1, 0, 980000);
  setup_bpf();
  sched.allm = &ms[0];
  usage(0, HOG);
  ck_assert(arrive_bpf(0));
  ck_assert(m_seen_by_bpf(&ms[0]));
  ck_assert_uint_eq(map.h.quiet, 0);
  gate(0);
  ck_assert_uint_eq(map.h.quiet, 1);
  /* what BPF left there is as old as it may be when the gate closes: of an M that is blocked now, it says that it has a CPU */
  clock_now += 3600 * 1000 * MS;
  gate(POOL_F_GATED);
  ck_assert_uint_eq(map.h.quiet, 0);
  ck_assert(!m_seen_by_bpf(&ms[0]));
  ck_assert_uint_eq(ms[0].slot->oncpu_at, 0);
  ck_assert(arrive_bpf(0));
  int64_t tokens = lease_tokens(clock_now);
  sched_charge(&ms[0], clock_now);
  ck_assert_int_eq(lease_tokens(clock_now), tokens); /* and no hour is charged */
  /* carriers are to be seen whether or not there is a gate */
  sched.carriers = true;
  gate(0);
  ck_assert_uint_eq(map.h.quiet, 0);
}
END_TEST

START_TEST(fewer_slots_call_in_who_holds_more) {
  setup(2, 0, 2000000);
  page->rate = 0;
  for (unsigned i = 0; i < 2; i++) {
    usage(i, HOG);
    ck_assert(arrive(i));
  }
  page->nslots = 1;
  sched_balance(clock_now);
  ck_assert_uint_eq(signalled, 1);
  ck_assert_ptr_eq(last_signalled, sched.ps[1].m);
}
END_TEST

START_TEST(maxprocs_bounds_the_regular_slots) {
  sched.maxprocs = 1;
  setup(2, 0, 0);
  for (unsigned i = 0; i < 2; i++) usage(i, HOG);
  ck_assert(arrive(0));
  ck_assert(!arrive(1));
}
END_TEST

START_TEST(one_that_is_born_and_runs_is_soon_a_hog) {
  setup(1, 0, 980000);
  usage(0, HOG);
  ck_assert(arrive(0));
  ms[0].g0.newborn = true;
  ms[0].g0.express = true;
  usage(0, 0);
  run_for(FAIR_BIRTH_NS, 0);
  usage(1, 0);
  ck_assert(!arrive(1));
  ck_assert(!ms[0].g0.express);
  ck_assert_uint_eq(signalled, 1);
}
END_TEST

/* --- stacks of light Gs --- */

static bool has_page(const struct g *g) {
  unsigned char in = 0;
  ck_assert_int_eq(mincore((char *)g->stack + 8192, 4096, &in), 0);
  return in & 1;
}
static void idle_stacks_give_back(size_t bytes, unsigned n) {
  struct g *g[n];
  for (unsigned i = 0; i < n; i++) {
    g[i] = bytes ? stack_get_sized(bytes) : stack_get(NULL);
    memset((char *)g[i]->stack + 8192, 1, 4096);
  }
  for (unsigned i = 0; i < n; i++) stack_put(NULL, g[i]);
  stack_trim(); /* they may be needed again soon */
  for (unsigned i = 0; i < n; i++) ck_assert(has_page(g[i]));
  while (stack_trim()) continue;
  for (unsigned i = 0; i < n; i++) ck_assert(!has_page(g[i]));
}

START_TEST(idle_stacks_of_any_size_give_their_pages_back) {
  idle_stacks_give_back(0, 10);
  idle_stacks_give_back(1 << 20, 10);
  idle_stacks_give_back(1 << 17, 1100); /* more than are seen to at once */
}
END_TEST

START_TEST(turns_are_the_shorter_the_more_wait) {
  setup(1, 0, POOL_RATE_ONE);
  ck_assert_uint_eq(sched_turn(), SCHED_TURN_MAX_NS);
  ck_assert(arrive(0));
  for (unsigned i = 1; i < NM; i++) ck_assert(!arrive(i));
  ck_assert_uint_eq(sched.express.len, NM - 1);
  ck_assert_uint_eq(sched_turn(), SCHED_ROUND_NS / NM);
  sched.express.len = 3; /* few: a turn is worth the change of threads */
  ck_assert_uint_eq(sched_turn(), SCHED_TURN_MAX_NS);
  sched.express.len = 1000;
  ck_assert_uint_eq(sched_turn(), SCHED_TURN_MIN_NS);
}
END_TEST

UNIT_MAIN("sched", a_p_that_is_not_taken_by_whom_it_was_granted_goes_on, without_bpf_each_wait_is_polled_for_from_the_start,
          without_bpf_a_call_that_is_known_to_block_loses_its_p_at_once, the_first_takes_the_free_slot,
          a_hog_waits_where_all_slots_are_taken, a_newcomer_takes_the_express_slot_beside_a_hog, a_newcomer_waits_a_moment_for_another,
          an_express_slot_is_not_passed_on_among_newcomers, a_newcomer_waits_for_nobody_while_the_bucket_is_full,
          a_newcomer_does_not_wait_for_another_beside_a_hog, a_carrier_of_short_gs_is_a_newcomer,
          a_newcomer_preempts_the_hog_that_used_most_after_its_minimum_run, a_slice_ends_only_when_others_wait, hogs_take_turns,
          an_empty_bucket_paces_the_hog_and_not_the_newcomer, frames_are_as_long_as_pauses_stay_short,
          hogs_that_queue_behind_hogs_are_not_let_through_a_pause, a_hog_that_waits_long_after_a_block_is_a_newcomer_again,
          who_is_only_behind_has_not_had_enough, processes_that_hand_slots_to_each_other_all_the_time_are_a_crowd,
          a_crowd_lasts_while_more_run_than_there_are_slots, who_only_computes_ends_a_crowd, who_only_reads_files_ends_a_crowd,
          a_newcomer_waits_a_moment_for_one_of_another_process, a_hog_stays_if_another_slot_is_free_in_a_moment,
          a_slot_handed_to_us_is_for_ours, sysmon_of_a_busy_member_sleeps_lightly, what_is_no_crowd, turns_are_the_shorter_the_more_wait,
          a_ring_is_not_answered_with_a_ring, the_slots_of_an_overdrawn_pool_do_not_go_round,
          a_ring_that_is_of_no_use_goes_on_but_not_in_circles, an_m_whose_p_is_taken_while_it_has_no_cpu_keeps_the_rest_of_its_slice,
          one_and_a_half_cpus_keep_one_slot_running, a_newcomer_waits_for_a_debt_but_not_for_long, newcomers_leave_the_next_period_alone,
          a_newcomer_that_runs_on_is_stopped_before_the_period_is_spent, a_full_bucket_lets_the_kernel_schedule,
          owners_of_locks_go_before_others_in_their_order, owners_do_not_keep_others_waiting_for_ever,
          who_is_granted_a_p_is_woken_after_the_lock, without_bpf_a_wrapper_that_lasts_loses_its_p,
          a_retake_that_finds_the_m_back_is_undone, an_m_blocked_outside_any_wrapper_is_found_by_its_clock,
          who_looks_for_a_p_takes_that_of_a_blocked_m, a_p_that_serves_nobody_goes_back_to_the_pool,
          the_p_of_an_m_without_cpu_is_taken_without_a_signal, a_slot_that_bpf_has_not_seen_says_nothing,
          cpu_time_is_charged_once_to_g_bucket_and_page, a_released_slot_rings_who_waits,
          processes_share_in_proportion_to_their_waiting_threads, a_newcomer_of_another_process_gets_our_hogs_p,
          a_slot_handed_to_us_is_found_and_used, an_expropriated_p_is_noticed_and_no_error, a_page_of_nonsense_harms_nobody,
          opening_the_gate_lets_everybody_run, bpf_looks_away_while_the_gate_is_open, fewer_slots_call_in_who_holds_more,
          maxprocs_bounds_the_regular_slots, one_that_is_born_and_runs_is_soon_a_hog,
          who_waits_is_not_told_of_a_slot_that_a_pause_has_closed, who_waits_looks_when_a_frame_begins, frames_go_round_among_processes,
          equal_processes_change_places, who_has_no_hog_running_does_not_look_for_the_end_of_its_part,
          what_others_have_not_charged_yet_is_spent, one_who_has_displaced_an_m_leaves_no_cpu, a_hog_looks_itself_when_its_part_ends,
          bpf_is_told_of_the_hidden_signal, a_forked_child_runs_whatever_its_parent_does_meanwhile, calls_on_files_are_no_requests,
          an_alarm_counts_if_it_is_armed_in_time, before_a_period_ends_the_alarm_is_early, who_looks_itself_is_not_signalled,
          an_alarm_goes_with_the_p, alarms_that_are_answered_late_are_not_relied_on, a_newcomer_alone_needs_no_sysmon_either,
          a_frame_that_will_be_anothers_is_not_looked_at, sysmon_is_not_woken_for_the_little_that_a_newcomer_moves,
          idle_stacks_of_any_size_give_their_pages_back)
