/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/* How often a process may say HELLO. */
#include "unit.h"

#include "daemon/pace.h"

#define MS 1000000u

START_TEST(who_asks_first_waits_for_nothing) {
  struct pace *all = NULL;
  ck_assert_uint_eq(pace_when(&all, 1, 100), 100);
  ck_assert_uint_eq(pace_when(&all, 1, 100), 100); /* not answered yet: nothing is known of it */
  pace_charge(&all, 1, 5 * MS, 100);
  ck_assert_uint_eq(pace_when(&all, 2, 100), 100);
  pace_free(&all);
  ck_assert_ptr_null(all);
}
END_TEST

START_TEST(an_answer_is_followed_by_a_rest_as_long_as_it_was_dear) {
  struct pace *all = NULL;
  pace_charge(&all, 1, 5 * MS, 10 * MS);
  ck_assert_uint_eq(pace_when(&all, 1, 11 * MS), (10 + PACE_FACTOR * 5) * MS);
  pace_charge(&all, 2, 1000, 10 * MS);
  ck_assert_uint_eq(pace_when(&all, 2, 11 * MS), 11 * MS); /* it was cheap, and is over */
  pace_free(&all);
}
END_TEST

START_TEST(those_that_ask_at_once_get_a_time_each) {
  struct pace *all = NULL;
  pace_charge(&all, 1, MS, 0);
  for (uint64_t i = 1; i < 100; i++) ck_assert_uint_eq(pace_when(&all, 1, 0), i * PACE_FACTOR * MS);
  pace_charge(&all, 1, 3 * MS, PACE_FACTOR * MS); /* the first of them: it does not bring the others' times back */
  ck_assert_uint_eq(pace_when(&all, 1, 0), 100 * PACE_FACTOR * MS);
  pace_free(&all);
}
END_TEST

START_TEST(many_processes_are_kept_apart_and_forgotten) {
  struct pace *all = NULL;
  for (pid_t pid = 1; pid <= 1000; pid++) pace_charge(&all, pid, MS, 0);
  for (pid_t pid = 1; pid <= 1000; pid++) ck_assert_uint_eq(pace_when(&all, pid, 0), PACE_FACTOR * MS);
  for (int i = 0; i < 1001; i++) pace_charge(&all, 5000, 1, 3600000ull * MS);
  for (pid_t pid = 1; pid <= 1000; pid++)
    ck_assert_uint_eq(pace_when(&all, pid, 0), 0); /* no entry: a time that was, as if it never asked */
  pace_free(&all);
}
END_TEST

UNIT_MAIN("pace", who_asks_first_waits_for_nothing, an_answer_is_followed_by_a_rest_as_long_as_it_was_dear,
          those_that_ask_at_once_get_a_time_each, many_processes_are_kept_apart_and_forgotten)
