/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_MINI_CHECK_H
#define RATION_TESTS_MINI_CHECK_H
/*
 * As much of Check as our unit tests use, for cross builds, where Debian has no libcheck to link to.
 * Same names, same meaning: each case runs in a process of its own, and the results go as TAP to CK_TAP_LOG_FILE_NAME.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CK_ENV };
#define MINI_CASES_MAX 256

typedef struct {
  const char *name;
  void (*fn)(int);
} TTest;

/* A suite, a case group and a runner are one thing here. */
typedef struct mini_suite {
  const char *name;
  unsigned timeout;
  void (*setup)(void), (*teardown)(void);
  const TTest *tests[MINI_CASES_MAX];
  int from[MINI_CASES_MAX], to[MINI_CASES_MAX];
  int n, failed;
} Suite, TCase, SRunner;

static struct mini_suite mini_suite = {.timeout = 20};

static inline Suite *suite_create(const char *name) {
  mini_suite.name = name;
  return &mini_suite;
}
#define tcase_create(name) (&mini_suite)
#define tcase_set_timeout(tc, seconds) ((void)((tc)->timeout = (unsigned)(seconds)))
#define tcase_add_test(tc, test) mini_add(tc, test, 0, 1)
#define tcase_add_loop_test(tc, test, from, to) mini_add(tc, test, from, to)
#define tcase_add_checked_fixture(tc, up, down) ((void)((tc)->setup = (up), (tc)->teardown = (down)))
#define suite_add_tcase(s, tc) ((void)0)
#define srunner_create(s) (s)
#define srunner_ntests_failed(sr) ((sr)->failed)
#define srunner_free(sr) ((void)0)

#define START_TEST(test)                                \
  static void test##_fn(int _i);                        \
  static const TTest test##_ttest = {#test, test##_fn}; \
  static const TTest *const test = &test##_ttest;       \
  static void test##_fn(int _i __attribute__((unused)))
#define END_TEST

static inline void mini_add(TCase *tc, const TTest *t, int from, int to) {
  if (tc->n == MINI_CASES_MAX) abort();
  tc->from[tc->n] = from;
  tc->to[tc->n] = to;
  tc->tests[tc->n++] = t;
}

static inline bool mini_run_case(TCase *tc, const TTest *t, int i) {
  const char *times = getenv("CK_TIMEOUT_MULTIPLIER");
  int status;
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(tc->timeout * (times ? (unsigned)strtoul(times, NULL, 10) : 1));
    if (tc->setup) tc->setup();
    t->fn(i);
    if (tc->teardown) tc->teardown();
    exit(0);
  }
  if (pid < 0 || waitpid(pid, &status, 0) != pid) return false;
  if (WIFSIGNALED(status)) fprintf(stderr, "%s: killed by signal %d\n", t->name, WTERMSIG(status));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline void srunner_run_all(SRunner *sr, int mode) {
  const char *path = getenv("CK_TAP_LOG_FILE_NAME");
  FILE *tap = path ? fopen(path, "we") : stdout;
  int n = 0;
  (void)mode;
  if (!tap) abort();
  for (int k = 0; k < sr->n; k++) {
    for (int i = sr->from[k]; i < sr->to[k]; i++) {
      bool ok = mini_run_case(sr, sr->tests[k], i);
      sr->failed += !ok;
      fprintf(tap, "%sok %d - mini:%s:%s: %s\n", ok ? "" : "not ", ++n, sr->name, sr->tests[k]->name, ok ? "Passed" : "Failed");
    }
  }
  fflush(tap);
  if (path) fclose(tap);
}

__attribute__((format(printf, 3, 4), noreturn)) static inline void mini_fail(const char *file, int line, const char *fmt, ...) {
  va_list ap;
  fprintf(stderr, "%s:%d: ", file, line);
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  _exit(1);
}

#define ck_assert_msg(x, ...)                                \
  do {                                                       \
    if (!(x)) mini_fail(__FILE__, __LINE__, "" __VA_ARGS__); \
  } while (0)
#define ck_abort_msg(...) mini_fail(__FILE__, __LINE__, "" __VA_ARGS__)
#define ck_assert(x) ck_assert_msg(x, "%s", #x)

#define MINI_CMP(type, fmt, a, op, b)                                                          \
  do {                                                                                         \
    type mini_a = (type)(a);                                                                   \
    type mini_b = (type)(b);                                                                   \
    ck_assert_msg(mini_a op mini_b, "%s %s %s: %" fmt ", %" fmt, #a, #op, #b, mini_a, mini_b); \
  } while (0)
#define ck_assert_int_eq(a, b) MINI_CMP(intmax_t, PRIdMAX, a, ==, b)
#define ck_assert_int_ne(a, b) MINI_CMP(intmax_t, PRIdMAX, a, !=, b)
#define ck_assert_int_lt(a, b) MINI_CMP(intmax_t, PRIdMAX, a, <, b)
#define ck_assert_int_le(a, b) MINI_CMP(intmax_t, PRIdMAX, a, <=, b)
#define ck_assert_int_gt(a, b) MINI_CMP(intmax_t, PRIdMAX, a, >, b)
#define ck_assert_int_ge(a, b) MINI_CMP(intmax_t, PRIdMAX, a, >=, b)
#define ck_assert_uint_eq(a, b) MINI_CMP(uintmax_t, PRIuMAX, a, ==, b)
#define ck_assert_uint_ne(a, b) MINI_CMP(uintmax_t, PRIuMAX, a, !=, b)
#define ck_assert_uint_lt(a, b) MINI_CMP(uintmax_t, PRIuMAX, a, <, b)
#define ck_assert_uint_le(a, b) MINI_CMP(uintmax_t, PRIuMAX, a, <=, b)
#define ck_assert_uint_gt(a, b) MINI_CMP(uintmax_t, PRIuMAX, a, >, b)
#define ck_assert_uint_ge(a, b) MINI_CMP(uintmax_t, PRIuMAX, a, >=, b)
#define ck_assert_double_eq(a, b) MINI_CMP(double, "g", a, ==, b)
#define ck_assert_double_lt(a, b) MINI_CMP(double, "g", a, <, b)
#define ck_assert_double_le(a, b) MINI_CMP(double, "g", a, <=, b)
#define ck_assert_double_gt(a, b) MINI_CMP(double, "g", a, >, b)
#define ck_assert_double_ge(a, b) MINI_CMP(double, "g", a, >=, b)
#define ck_assert_ptr_eq(a, b) MINI_CMP(const void *, "p", a, ==, b)
#define ck_assert_ptr_ne(a, b) MINI_CMP(const void *, "p", a, !=, b)
#define ck_assert_ptr_null(a) ck_assert((a) == NULL)
#define ck_assert_ptr_nonnull(a) ck_assert((a) != NULL)
#define ck_assert_str_eq(a, b)                                                                      \
  do {                                                                                              \
    const char *mini_a = (a), *mini_b = (b);                                                        \
    ck_assert_msg(strcmp(mini_a, mini_b) == 0, "%s == %s: \"%s\", \"%s\"", #a, #b, mini_a, mini_b); \
  } while (0)
#define ck_assert_str_ne(a, b) ck_assert(strcmp(a, b) != 0)
#define ck_assert_mem_eq(a, b, n) ck_assert(memcmp(a, b, n) == 0)

#endif
