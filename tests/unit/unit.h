/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_UNIT_H
#define RATION_TESTS_UNIT_H
/*
 * The main of a Check binary, in one line:
 *
 *   START_TEST(steal_takes_half) { ... } END_TEST
 *   UNIT_MAIN("runq", steal_takes_half, ...)
 *
 * Each case runs in a process of its own.  UNIT_SKIP at the start of a main of
 * one's own, or a main that returns 77, skips the whole binary; tests/run shows the last line as the reason.
 */
#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define UNIT_SKIP 77

static inline int unit_run(const char *name, const TTest *const *tests, size_t n) {
  Suite *s = suite_create(name);
  TCase *tc = tcase_create(name);
  tcase_set_timeout(tc, 20);
  for (size_t i = 0; i < n; i++) tcase_add_test(tc, tests[i]);
  suite_add_tcase(s, tc);
  SRunner *sr = srunner_create(s);
  srunner_run_all(sr, CK_ENV);
  int failed = srunner_ntests_failed(sr);
  srunner_free(sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define UNIT_MAIN(name, ...)                                      \
  int main(void) {                                                \
    const TTest *const tests[] = {__VA_ARGS__};                   \
    return unit_run(name, tests, sizeof(tests) / sizeof(*tests)); \
  }

#endif
