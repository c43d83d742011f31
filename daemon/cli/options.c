/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of the commands, from one table each: parsing (getopt_long), help, and
 * the nearest right name for a wrong one; messages; numbers.
 */
#include "daemon/cli/cli.h"
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/cli/harmless.h"

#define LONG_BASE 256 /* val of long option i is LONG_BASE + i */
#define WORD_MAX 64   /* longer words are nobody's typing error */
#define MESSAGE_MAX 1024

/* ---- messages ---- */

static void message(const char *head, const char *fmt, va_list ap) {
  char text[MESSAGE_MAX];
  vsnprintf(text, sizeof(text), fmt, ap);
  /* File names and what a daemon answers are not to play with the terminal. */
  harmless(text, HARMLESS_TEXT);
  fprintf(stderr, "ration%s%s: %s\n", head ? " " : "", head ? head : "", text);
}

void cli_error(const struct cli_command *cmd, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  message(cmd ? cmd->name : NULL, fmt, ap);
  va_end(ap);
}

void cli_note(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  message(NULL, fmt, ap);
  va_end(ap);
}

/* ---- the nearest right word ---- */

static unsigned min3(unsigned a, unsigned b, unsigned c) { return UTIL_MIN(a, UTIL_MIN(b, c)); }

unsigned cli_distance(const char *a, const char *b) {
  size_t la = strlen(a), lb = strlen(b);
  if (la > WORD_MAX || lb > WORD_MAX) return WORD_MAX;
  unsigned row[3][WORD_MAX + 1]; /* rows i-2, i-1 and i, by i % 3 */
  for (unsigned j = 0; j <= lb; j++) row[0][j] = j;
  for (unsigned i = 1; i <= la; i++) {
    unsigned *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
    cur[0] = i;
    for (unsigned j = 1; j <= lb; j++) {
      cur[j] = min3(cur[j - 1] + 1, up[j] + 1, up[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) cur[j] = UTIL_MIN(cur[j], up2[j - 2] + 1);
    }
  }
  return row[la % 3][lb];
}

const char *cli_nearest(const char *word, const char *const *list) {
  const char *best = NULL;
  size_t len = strlen(word);
  unsigned least = WORD_MAX;
  for (; *list; list++) {
    unsigned d = cli_distance(word, *list);
    if (len >= 2 && strncmp(word, *list, len) == 0) d = 1; /* a beginning is as good as one slip */
    if (d < least) {
      least = d;
      best = *list;
    }
  }
  /* A third of the word may be wrong, and at least one letter. */
  return least <= UTIL_MAX(1, len / 3) ? best : NULL;
}

/* ---- help ---- */

static void print_option(const struct cli_option *o) {
  char left[64], letter[8] = "    ";
  if (o->letter) snprintf(letter, sizeof(letter), "-%c, ", o->letter);
  snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
  printf("  %-26s %s\n", left, o->help);
}

void cli_print_help(const struct cli_command *cmd) {
  printf("Usage: ration %s %s\n%s.\n\n", cmd->name, cmd->usage, cmd->summary);
  for (const struct cli_option *o = cmd->options; o->name; o++) print_option(o);
  print_option(&(struct cli_option){"help", 'h', NULL, "this text"});
  if (cmd->text) printf("\n%s", cmd->text);
}

/* ---- parsing ---- */

void cli_begin_options(void) {
  optind = 0; /* glibc: forget everything of the parse before */
  opterr = 0;
}

int cli_rest(void) { return optind; }

bool cli_is(const struct cli_command *cmd, int index, const char *name) {
  return index >= 0 && strcmp(cmd->options[index].name, name) == 0;
}

bool cli_no_more(const struct cli_command *cmd, int argc, char **argv) {
  if (optind >= argc) return true;
  cli_error(cmd, "unexpected argument '%s'; see 'ration %s --help'", argv[optind], cmd->name);
  return false;
}

/* getopt_long's two tables. */
struct getopt_tables {
  struct option longs[CLI_OPTIONS_MAX + 2];
  char shorts[2 + 2 * (CLI_OPTIONS_MAX + 1) + 1];
};

static void build_tables(const struct cli_command *cmd, struct getopt_tables *t) {
  size_t s = 0, n = 0;
  t->shorts[s++] = '+'; /* stop at the first word that is no option: it may be a program with options of its own */
  t->shorts[s++] = ':';
  for (; cmd->options[n].name && n < CLI_OPTIONS_MAX; n++) {
    const struct cli_option *o = &cmd->options[n];
    t->longs[n] = (struct option){o->name, o->arg ? required_argument : no_argument, NULL, LONG_BASE + (int)n};
    if (!o->letter) continue;
    t->shorts[s++] = o->letter;
    if (o->arg) t->shorts[s++] = ':';
  }
  t->longs[n] = (struct option){"help", no_argument, NULL, 'h'};
  t->longs[n + 1] = (struct option){0};
  t->shorts[s++] = 'h';
  t->shorts[s] = 0;
}

static int index_of(const struct cli_command *cmd, int val) {
  if (val >= LONG_BASE) return val - LONG_BASE;
  for (int i = 0; cmd->options[i].name; i++)
    if (cmd->options[i].letter == val) return i;
  return -1;
}

/* "--a, --b or --c", of the names that begin with word; how many. */
static size_t begin_with(const char *word, const char *const *names, char *said, size_t cap) {
  size_t n = 0, all = 0, at = 0, len = strlen(word);
  for (size_t i = 0; names[i]; i++) all += strncmp(names[i], word, len) == 0;
  said[0] = 0;
  for (; *names && at < cap; names++) {
    if (strncmp(*names, word, len) != 0) continue;
    at += (size_t)snprintf(said + at, cap - at, "%s--%s", n == 0 ? "" : n + 1 == all ? " or " : ", ", *names);
    n++;
  }
  return all;
}

static void unknown_option(const struct cli_command *cmd, const char *word) {
  const char *names[CLI_OPTIONS_MAX + 2];
  size_t n = 0;
  for (; cmd->options[n].name && n < CLI_OPTIONS_MAX; n++) names[n] = cmd->options[n].name;
  names[n++] = "help";
  names[n] = NULL;
  char name[WORD_MAX + 2], said[MESSAGE_MAX];
  snprintf(name, sizeof(name), "%.*s", (int)UTIL_MIN(strcspn(word + 2, "="), (size_t)WORD_MAX + 1), word + 2);
  const char *near = cli_nearest(name, names);
  if (begin_with(name, names, said, sizeof(said)) > 1)
    cli_error(cmd, "option '--%s' is ambiguous: %s?", name, said);
  else if (near)
    cli_error(cmd, "unknown option '--%s'; did you mean '--%s'?", name, near);
  else
    cli_error(cmd, "unknown option '--%s'; see 'ration %s --help'", name, cmd->name);
}

/* getopt_long said '?': an unknown letter, an unknown or ambiguous name, or an argument to a name that has none. */
static void bad_option(const struct cli_command *cmd, const char *word) {
  int i = optopt ? index_of(cmd, optopt) : -1;
  if (i >= 0 || optopt == 'h')
    cli_error(cmd, "option '--%s' takes no argument", i >= 0 ? cmd->options[i].name : "help");
  else if (optopt)
    cli_error(cmd, "unknown option '-%c'; see 'ration %s --help'", optopt, cmd->name);
  else
    unknown_option(cmd, word);
}

int cli_next_option(const struct cli_command *cmd, int argc, char **argv, const char **arg) {
  struct getopt_tables t;
  build_tables(cmd, &t);
  int val = getopt_long(argc, argv, t.shorts, t.longs, NULL);
  *arg = optarg;
  if (val == -1) return CLI_OPT_END;
  if (val == 'h') {
    cli_print_help(cmd);
    return CLI_OPT_HELP;
  }
  if (val == '?') {
    bad_option(cmd, argv[optind - 1]);
    return CLI_OPT_BAD;
  }
  if (val == ':') {
    const struct cli_option *o = &cmd->options[index_of(cmd, optopt)];
    cli_error(cmd, "option '--%s' needs an argument: --%s %s", o->name, o->name, o->arg);
    return CLI_OPT_BAD;
  }
  return index_of(cmd, val);
}

/* ---- numbers ---- */

int cli_parse_uint(const char *s, uint64_t max, uint64_t *value) {
  uint64_t v = 0;
  if (!*s) return -EINVAL;
  for (; *s; s++) {
    if (*s < '0' || *s > '9') return -EINVAL;
    if (v > (UINT64_MAX - 9) / 10) return -ERANGE;
    v = v * 10 + (uint64_t)(*s - '0');
  }
  if (v > max) return -ERANGE;
  *value = v;
  return 0;
}

/* By hand: strtod takes "nan", "inf", "0x1p3" and the locale's comma. */
int cli_parse_micro(const char *s, uint64_t *micro) {
  uint64_t whole = 0, part = 0, unit = 1000000;
  bool digits = false, range = false;
  for (; *s >= '0' && *s <= '9'; s++) {
    if (whole > 1000000000000u) range = true;
    if (!range) whole = whole * 10 + (uint64_t)(*s - '0');
    digits = true;
  }
  if (*s == '.') {
    for (s++; *s >= '0' && *s <= '9'; s++) {
      unit /= 10; /* digits beyond the millionth are cut off */
      part += unit * (uint64_t)(*s - '0');
      digits = true;
    }
  }
  if (*s || !digits) return -EINVAL;
  if (range || whole > UINT64_MAX / 1000000 - 1) return -ERANGE;
  *micro = whole * 1000000 + part;
  return 0;
}
