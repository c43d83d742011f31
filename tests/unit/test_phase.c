/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When does the kernel's period begin?  Against a kernel that is a counter: it grows every 100 ms, and its callback may be late.
 */
#include <stdlib.h>
#include "client/client.h"
#include "core/sched.h"
#include "unit.h"

#define MS 1000000ull
#define PERIOD (100 * MS)
#define TRUE_PHASE (37 * MS + 123456)
#define START (1000 * PERIOD)

static uint64_t late(uint64_t k, unsigned how) { return how ? (k * 2654435761u >> 7) % how : 0; }

/* nr_periods as a reader sees it at `at`, if the callback of period k comes late(k) after its time. */
static uint64_t periods_at(uint64_t at, unsigned how) {
  uint64_t k = (at - TRUE_PHASE) / PERIOD;
  return at - TRUE_PHASE - k * PERIOD >= late(k, how) ? k : k - 1;
}

/* Distance of what was learned to the truth, in ns. */
static uint64_t off(void) {
  uint64_t d = (sched.phase + PERIOD - TRUE_PHASE % PERIOD) % PERIOD;
  return d < PERIOD - d ? d : PERIOD - d;
}

/* Reads when it is told to, or so late as a busy machine makes it, until `end`.  Returns how many readings there were. */
static unsigned live(uint64_t *now, uint64_t end, unsigned how_late, unsigned jitter) {
  unsigned n = 0;
  while (*now < end) {
    uint64_t next = phase_seen(*now, *now + 10000, periods_at(*now, how_late), 0);
    ck_assert_uint_gt(next, *now);
    *now = next + 50000 + (jitter ? (n * 2654435761u >> 9) % jitter : 0);
    n++;
  }
  return n;
}

static void setup(void) {
  sched.overslept = 0;
  phase_begin(PERIOD);
}

START_TEST(it_is_known_within_four_periods_and_lies_in_the_past) {
  setup();
  uint64_t now = START;
  live(&now, START + 4 * PERIOD, 0, 0);
  ck_assert_uint_eq(sched.period, PERIOD);
  ck_assert_uint_lt(sched.phase, PERIOD);
  ck_assert_uint_lt(off(), 1 * MS);
}
END_TEST

START_TEST(it_gets_better_and_costs_little) {
  setup();
  uint64_t now = START;
  live(&now, START + 8 * PERIOD, 0, 0);
  unsigned n = live(&now, START + 108 * PERIOD, 0, 0);
  ck_assert_uint_lt(off(), MS / 2);
  ck_assert_uint_lt(n, 100); /* less than one a period */
  n = live(&now, now + 100 * PERIOD, 0, 0);
  ck_assert_uint_lt(n, 30); /* and less the longer it is confirmed */
  ck_assert_uint_lt(off(), MS / 2);
}
END_TEST

START_TEST(late_callbacks_do_not_move_it) {
  setup();
  uint64_t now = START;
  live(&now, START + 8 * PERIOD, 0, 0);
  for (unsigned i = 0; i < 100; i++) {
    live(&now, now + PERIOD, 3 * MS, 0);
    ck_assert_uint_eq(sched.period, PERIOD);
    ck_assert_uint_le(off(), 3 * MS + MS / 2); /* never worse than the worst of them */
  }
}
END_TEST

START_TEST(a_reader_that_is_late_learns_it_too) {
  setup();
  uint64_t now = START;
  live(&now, START + 30 * PERIOD, 300000, 2 * MS);
  ck_assert_uint_eq(sched.period, PERIOD);
  ck_assert_uint_lt(off(), 3 * MS);
}
END_TEST

START_TEST(one_that_is_throttled_in_every_period_learns_it_from_that) {
  setup();
  uint64_t now = START;
  phase_seen(now, now + 10000, periods_at(now, 0), 7);
  now = START + TRUE_PHASE % PERIOD + 60000; /* it was let go then */
  sched.overslept = 20 * MS;
  phase_seen(now, now + 10000, periods_at(now, 0), 8);
  ck_assert_uint_eq(sched.period, PERIOD);
  ck_assert_uint_lt(off(), MS / 2);
}
END_TEST

START_TEST(a_new_phase_is_believed_in_the_end) {
  setup();
  uint64_t now = START;
  live(&now, START + 8 * PERIOD, 0, 0);
  uint64_t shift = 40 * MS; /* as if the cgroup had been made anew: all readings are of another clock from here */
  for (uint64_t end = now + 60 * PERIOD; now < end;) {
    uint64_t next = phase_seen(now, now + 10000, periods_at(now + shift, 0), 0);
    now = next + 50000;
  }
  uint64_t want = (TRUE_PHASE + PERIOD - shift) % PERIOD, d = (sched.phase + PERIOD - want) % PERIOD;
  ck_assert(d < MS || PERIOD - d < MS);
}
END_TEST

START_TEST(a_forgotten_phase_is_not_used) {
  setup();
  uint64_t now = START;
  live(&now, START + 8 * PERIOD, 0, 0);
  phase_forget();
  ck_assert_uint_eq(sched.period, 0);
}
END_TEST

UNIT_MAIN("phase", it_is_known_within_four_periods_and_lies_in_the_past, it_gets_better_and_costs_little, late_callbacks_do_not_move_it,
          a_reader_that_is_late_learns_it_too, one_that_is_throttled_in_every_period_learns_it_from_that,
          a_new_phase_is_believed_in_the_end, a_forgotten_phase_is_not_used)
