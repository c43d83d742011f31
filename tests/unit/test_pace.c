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

START_TEST(rest_is_owed_for_what_was_dear) {
  struct pace *all = NULL;
  pace_charge(&all, 1, 50 * MS, 10 * MS);
  ck_assert_uint_eq(pace_when(&all, 1, 11 * MS), (10 + PACE_FACTOR * 50) * MS - PACE_FREE_NS);
  ck_assert_uint_eq(pace_turn(&all, 1, (10 + PACE_FACTOR * 50) * MS - PACE_FREE_NS), (10 + PACE_FACTOR * 50) * MS - PACE_FREE_NS);
  pace_charge(&all, 2, 50 * MS, 10 * MS);
  ck_assert_uint_eq(pace_when(&all, 2, 3600000ull * MS), 3600000ull * MS); /* it is long over */
  pace_free(&all);
}
END_TEST

START_TEST(some_in_a_row_are_free) {
  struct pace *all = NULL;
  uint64_t now = 0, cost = MS / 8; /* attaches, execs, attaches, and nothing else */
  int n = 0;
  while (pace_when(&all, 1, now) == now && n < 1000) {
    pace_charge(&all, 1, cost, now);
    now += cost;
    n++;
  }
  ck_assert_int_ge(n, 50);
  ck_assert_int_lt(n, 100);
  pace_free(&all);
}
END_TEST

START_TEST(those_that_ask_at_once_get_a_time_each) {
  struct pace *all = NULL;
  pace_charge(&all, 1, 10 * MS, 0);
  for (uint64_t i = 1; i < 100; i++) ck_assert_uint_eq(pace_when(&all, 1, 0), i * PACE_FACTOR * 10 * MS - PACE_FREE_NS);
  pace_free(&all);
}
END_TEST

START_TEST(who_was_dearer_than_it_seemed_makes_the_others_wait_anew) {
  struct pace *all = NULL;
  pace_charge(&all, 1, 10 * MS, 0);
  uint64_t first = pace_when(&all, 1, 0), second = pace_when(&all, 1, 0);
  ck_assert_uint_eq(pace_turn(&all, 1, first), first);
  pace_charge(&all, 1, 1000 * MS, first);
  ck_assert_uint_ge(pace_turn(&all, 1, second), first + PACE_FACTOR * 1000 * MS);
  pace_free(&all);
}
END_TEST

START_TEST(many_processes_are_kept_apart_and_forgotten) {
  struct pace *all = NULL;
  for (pid_t pid = 1; pid <= 1000; pid++) pace_charge(&all, pid, 10 * MS, 0);
  for (pid_t pid = 1; pid <= 1000; pid++) ck_assert_uint_eq(pace_when(&all, pid, 0), PACE_FACTOR * 10 * MS - PACE_FREE_NS);
  for (int i = 0; i < 1001; i++) pace_charge(&all, 5000, 1, 3600000ull * MS);
  for (pid_t pid = 1; pid <= 1000; pid++)
    ck_assert_uint_eq(pace_when(&all, pid, 0), 0); /* no entry: a time that was, as if it never asked */
  pace_free(&all);
}
END_TEST

UNIT_MAIN("pace", who_asks_first_waits_for_nothing, rest_is_owed_for_what_was_dear, some_in_a_row_are_free,
          those_that_ask_at_once_get_a_time_each, who_was_dearer_than_it_seemed_makes_the_others_wait_anew,
          many_processes_are_kept_apart_and_forgotten)
