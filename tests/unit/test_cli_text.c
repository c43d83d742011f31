/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CLI's numbers, units, tables and nearest words.
 */
#include <errno.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/harmless.h"
#include "daemon/cli/text.h"
#include "unit.h"

START_TEST(fractions_are_read_exactly) {
  uint64_t v;
  static const struct {
    const char *text;
    uint64_t micro;
  } good[] = {{"1", 1000000}, {"0.5", 500000}, {".25", 250000}, {"2.", 2000000}, {"0.0000019", 1}, {"007", 7000000}, {"1.999999", 1999999}};
  for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
    ck_assert_int_eq(cli_parse_micro(good[i].text, &v), 0);
    ck_assert_uint_eq(v, good[i].micro);
  }
  static const char *const bad[] = {"", ".", "-1", "+1", " 1", "1 ", "nan", "inf", "1e3", "0x1", "1,5", "1..5", "1.2.3"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) ck_assert_int_eq(cli_parse_micro(bad[i], &v), -EINVAL);
  ck_assert_int_eq(cli_parse_micro("99999999999999999999999999999999", &v), -ERANGE);
}
END_TEST

START_TEST(integers_are_bounded) {
  uint64_t v;
  ck_assert_int_eq(cli_parse_uint("2147483647", INT32_MAX, &v), 0);
  ck_assert_uint_eq(v, INT32_MAX);
  ck_assert_int_eq(cli_parse_uint("2147483648", INT32_MAX, &v), -ERANGE);
  ck_assert_int_eq(cli_parse_uint("99999999999999999999999", UINT64_MAX, &v), -ERANGE);
  ck_assert_int_eq(cli_parse_uint("", 1, &v), -EINVAL);
  ck_assert_int_eq(cli_parse_uint("1x", 1, &v), -EINVAL);
}
END_TEST

START_TEST(distance_counts_slips) {
  ck_assert_uint_eq(cli_distance("", ""), 0);
  ck_assert_uint_eq(cli_distance("", "abc"), 3);
  ck_assert_uint_eq(cli_distance("quota", "quota"), 0);
  ck_assert_uint_eq(cli_distance("quoat", "quota"), 1); /* neighbours swapped */
  ck_assert_uint_eq(cli_distance("qota", "quota"), 1);
  ck_assert_uint_eq(cli_distance("kitten", "sitting"), 3);
  ck_assert_uint_eq(cli_distance("abc", "cab"), cli_distance("cab", "abc"));
}
END_TEST

START_TEST(nearest_is_near_or_none) {
  static const char *const list[] = {"run", "quota", "ps", NULL};
  char word[200];
  ck_assert_str_eq(cli_nearest("rnu", list), "run");
  ck_assert_str_eq(cli_nearest("qu", list), "quota");
  ck_assert_ptr_null(cli_nearest("xyz", list));
  ck_assert_ptr_null(cli_nearest("", list));
  memset(word, 'q', sizeof(word) - 1);
  word[sizeof(word) - 1] = 0;
  ck_assert_ptr_null(cli_nearest(word, list));
}
END_TEST

START_TEST(durations_keep_three_digits) {
  char b[TEXT_UNIT];
  static const struct {
    uint64_t ns;
    const char *text;
  } t[] = {{0, "0 s"},
           {999, "999 ns"},
           {1000, "1.00 us"},
           {999994, "1000 us"},
           {12345678, "12.3 ms"},
           {999999999, "1000 ms"},
           {1500000000, "1.50 s"},
           {59999999999, "60.0 s"},
           {60000000000, "1m00s"},
           {3600000000000, "1h00m"},
           {86400000000000, "1d00h"},
           {UINT64_MAX, "213503d23h"}};
  for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) ck_assert_str_eq(text_duration(b, t[i].ns), t[i].text);
}
END_TEST

START_TEST(counts_get_a_unit) {
  char b[TEXT_UNIT];
  ck_assert_str_eq(text_count(b, 9999), "9999");
  ck_assert_str_eq(text_count(b, 10000), "10.0k");
  ck_assert_str_eq(text_count(b, 999499), "999k");
  ck_assert_str_eq(text_count(b, 999999), "1.00M");
  ck_assert_str_eq(text_count(b, UINT64_MAX), "18.4E");
}
END_TEST

static char *print_table(const struct table *t) {
  static char buf[4096];
  memset(buf, 0, sizeof(buf));
  FILE *f = fmemopen(buf, sizeof(buf) - 1, "w");
  table_print(t, f);
  fclose(f);
  return buf;
}

START_TEST(columns_fit_their_widest_cell) {
  static const char *const heads[] = {">N", "NAME", "X", NULL};
  struct table t;
  table_init(&t, heads);
  table_cell(&t, "%d", 1);
  table_cell(&t,
             "gr\xc3\xb6\xc3\x9f"
             "er");
  table_cell(&t, "a");
  table_cell(&t, "%d", 12345);
  table_cell(&t, "x");
  table_cell(&t, "b");
  ck_assert_str_eq(print_table(&t),
                   "    N  NAME    X\n    1  gr\xc3\xb6\xc3\x9f"
                   "er  a\n12345  x       b\n");
  table_free(&t);
}
END_TEST

START_TEST(cells_cannot_play_with_the_terminal) {
  static const char *const heads[] = {"A", NULL};
  /* C0, DEL, C1 in UTF-8, lone and overlong bytes, a surrogate, a cut character. */
  static const char *const bad[] = {"\x1b[2J",      "\x7f",         "\xc2\x9b",         "\xff",    "\xc0\xaf",
                                    "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    struct table t;
    table_init(&t, heads);
    table_cell(&t, "%s", bad[i]);
    for (const char *s = print_table(&t); *s; s++) ck_assert_msg((*s >= ' ' && *s < 0x7f) || *s == '\n', "case %zu", i);
    table_free(&t);
    json_t *j = json_text(bad[i]);
    ck_assert_ptr_nonnull(j);
    json_decref(j);
  }
}
END_TEST

START_TEST(messages_cannot_play_with_the_terminal) {
  char *said = NULL;
  size_t len;
  FILE *to = open_memstream(&said, &len), *err = stderr;
  stderr = to;
  cli_error(NULL, "%s", "a\xc2\x9b[31m\x1b\xff \xc3\xa9");
  stderr = err;
  fclose(to);
  ck_assert_str_eq(said, "ration: a??[31m?? \xc3\xa9\n");
  free(said);
}
END_TEST

START_TEST(a_cut_character_waits_for_its_rest) {
  static const char text[] =
      "\xe2\x82\xac\xc2\x9b\xf0\x9f\x98\x80\n\t\xe2\x82"
      "x\xf0\x9f\x98";
  char part[sizeof(text)];
  for (size_t cut = 0; cut < sizeof(text); cut++) {
    memcpy(part, text, cut);
    size_t done = harmless_part(part, cut, HARMLESS_LINES, false);
    ck_assert_uint_le(cut - done, 3);
    memcpy(part + cut, text + cut, sizeof(text) - cut);
    ck_assert_uint_eq(harmless_part(part + done, sizeof(text) - 1 - done, HARMLESS_LINES, true), sizeof(text) - 1 - done);
    ck_assert_str_eq(part, "\xe2\x82\xac??\xf0\x9f\x98\x80\n???x???");
  }
}
END_TEST

UNIT_MAIN("cli_text", fractions_are_read_exactly, integers_are_bounded, distance_counts_slips, nearest_is_near_or_none,
          durations_keep_three_digits, counts_get_a_unit, columns_fit_their_widest_cell, cells_cannot_play_with_the_terminal,
          messages_cannot_play_with_the_terminal, a_cut_character_waits_for_its_rest)
