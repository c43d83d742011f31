/* SPDX-License-Identifier: Apache-2.0 */
/* Recent use and the two classes that follow from it (core/fair.h). */
#include "core/fair.h"
#include "unit.h"

#define MS 1000000u

START_TEST(usage_halves_in_a_halflife) {
  struct fair f = {.usage = 80 * MS, .at = 1000};
  ck_assert_uint_eq(fair_usage(&f, 1000), 80 * MS);
  ck_assert_uint_eq(fair_usage(&f, 1000 + FAIR_HALFLIFE_NS), 40 * MS);
  ck_assert_uint_eq(fair_usage(&f, 1000 + 3ull * FAIR_HALFLIFE_NS), 10 * MS);
  ck_assert_uint_eq(fair_usage(&f, 1000 + 100ull * FAIR_HALFLIFE_NS), 0);
}
END_TEST

START_TEST(usage_falls_without_steps) {
  struct fair f = {.usage = 90 * MS, .at = 0};
  uint64_t last = UINT64_MAX;
  for (uint64_t t = 0; t < 4ull * FAIR_HALFLIFE_NS; t += FAIR_HALFLIFE_NS / 100) {
    uint64_t u = fair_usage(&f, t);
    ck_assert_uint_lt(u, last);
    if (last != UINT64_MAX) ck_assert_uint_gt(u * 1000, last * 990); /* 2^-0.01 is 0.9931 */
    last = u;
  }
}
END_TEST

START_TEST(time_that_goes_back_changes_nothing) {
  struct fair f = {.usage = 5 * MS, .at = 1000};
  ck_assert_uint_eq(fair_usage(&f, 10), 5 * MS);
  fair_charge(&f, 10, MS);
  ck_assert_uint_eq(f.at, 1000);
  ck_assert_uint_eq(f.usage, 6 * MS);
}
END_TEST

/* What uses d of a CPU settles at d * FAIR_FULL_NS, whatever the size of its pieces. */
START_TEST(usage_settles_at_its_part_of_full) {
  static const struct { uint64_t run, period; } duty[] = {{1 * MS, 1 * MS}, {10 * MS, 80 * MS}, {MS / 5, 7 * MS}, {2 * MS, 4 * MS}};
  for (unsigned d = 0; d < sizeof duty / sizeof *duty; d++) {
    struct fair f = {0};
    uint64_t now = 0, sum = 0, n = 0;
    for (int i = 0; i < 2000; i++) {
      now += duty[d].period;
      fair_charge(&f, now, duty[d].run);
      if (now > 10ull * FAIR_HALFLIFE_NS) sum += f.usage - duty[d].run / 2, n++;
    }
    double want = (double)FAIR_FULL_NS * (double)duty[d].run / (double)duty[d].period, got = (double)sum / (double)n;
    /* between the mean over a period and its end lies at most half a period's decay */
    ck_assert_msg(got > want * 0.93 && got < want * 1.75, "duty %u: %.0f for %.0f", d, got, want);
  }
}
END_TEST

START_TEST(one_charge_counts_no_more_than_a_full_cpu) {
  struct fair f = {0};
  fair_charge(&f, 5000000000ull, UINT64_MAX);
  ck_assert_uint_le(f.usage, FAIR_FULL_NS);
  for (int i = 0; i < 10; i++) fair_charge(&f, 5000000000ull, UINT64_MAX);
  ck_assert_uint_le(f.usage, 2ull * FAIR_FULL_NS);
}
END_TEST

START_TEST(share_divides_the_cpus_among_the_active) {
  ck_assert_uint_eq(fair_share(1000000, 1), FAIR_FULL_NS);
  ck_assert_uint_eq(fair_share(1000000, 9), FAIR_FULL_NS / 9);
  ck_assert_uint_eq(fair_share(500000, 9), FAIR_FULL_NS / 2 / 9);
  ck_assert_uint_eq(fair_share(2000000, 0), 2ull * FAIR_FULL_NS);
}
END_TEST

START_TEST(classes_have_a_gap_between_them) {
  uint64_t share = 20 * MS;
  ck_assert(fair_express(share - 1, share));
  ck_assert(!fair_express(share, share));
  ck_assert(!fair_hog(share + share / 8, share)); /* neither */
  ck_assert(fair_hog(share + share / 4 + 1, share));
  /* in a crowd the small stay small */
  ck_assert(fair_express(FAIR_SMALL_NS - 1, MS));
  ck_assert(!fair_hog(FAIR_SMALL_NS + 1, MS));
}
END_TEST

UNIT_MAIN("fair", usage_halves_in_a_halflife, usage_falls_without_steps, time_that_goes_back_changes_nothing,
          usage_settles_at_its_part_of_full, one_charge_counts_no_more_than_a_full_cpu, share_divides_the_cpus_among_the_active,
          classes_have_a_gap_between_them)
