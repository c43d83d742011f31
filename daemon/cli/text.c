/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables, units, JSON.
 */
#include "daemon/cli/text.h"
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/harmless.h"
#include "proto/pool_page.h"

static void out_of_memory(void) {
  fputs("ration: out of memory\n", stderr);
  exit(CLI_FAILED);
}

static char *harmless_copy(const char *s, enum harmless_keep keep) {
  char *copy = strdup(s);
  if (!copy) out_of_memory();
  harmless(copy, keep);
  return copy;
}

/* ---- tables ---- */

void table_init(struct table *t, const char *const *heads) {
  *t = (struct table){.heads = heads};
  while (heads[t->ncols]) t->ncols++;
}

void table_free(struct table *t) {
  for (size_t i = 0; i < t->ncells; i++) free(t->cells[i]);
  free(t->cells);
  *t = (struct table){0};
}

void table_cell(struct table *t, const char *fmt, ...) {
  _cleanup_free_ char *raw = NULL;
  va_list ap;
  va_start(ap, fmt);
  int n = vasprintf(&raw, fmt, ap);
  va_end(ap);
  if (n < 0) {
    raw = NULL;
    out_of_memory();
  }
  if (t->ncells == t->cap) {
    t->cap = t->cap ? t->cap * 2 : 64;
    char **more = reallocarray(t->cells, t->cap, sizeof(*more));
    if (!more) out_of_memory();
    t->cells = more;
  }
  t->cells[t->ncells++] = harmless_copy(raw, HARMLESS_TEXT);
}

/* Characters, not bytes.  (Wide characters count one: a table may then be off by some columns.) */
static size_t width(const char *s) {
  size_t n = 0;
  for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
  return n;
}

static void print_cell(FILE *to, const char *s, size_t w, bool right, bool last) {
  int pad = (int)(w - width(s));
  if (right) fprintf(to, "%*s", pad, "");
  fputs(s, to);
  if (!right && !last) fprintf(to, "%*s", pad, "");
  fputs(last ? "\n" : "  ", to);
}

static size_t *widths(const struct table *t, bool heads) {
  size_t *w = calloc(t->ncols + 1, sizeof(*w));
  if (!w) out_of_memory();
  for (size_t c = 0; c < t->ncols; c++) {
    if (heads) w[c] = width(t->heads[c] + (t->heads[c][0] == '>'));
    for (size_t i = c; i < t->ncells; i += t->ncols) w[c] = UTIL_MAX(w[c], width(t->cells[i]));
  }
  return w;
}

static void print_rows(const struct table *t, const size_t *w, FILE *to) {
  size_t c = 0;
  for (size_t i = 0; i < t->ncells; i++) {
    bool last = c + 1 == t->ncols;
    print_cell(to, t->cells[i], w[c], t->heads[c][0] == '>', last);
    c = last ? 0 : c + 1;
  }
}

void table_print(const struct table *t, FILE *to) {
  _cleanup_free_ size_t *w = widths(t, true);
  for (size_t c = 0; c < t->ncols; c++) {
    bool right = t->heads[c][0] == '>';
    print_cell(to, t->heads[c] + right, w[c], right, c + 1 == t->ncols);
  }
  print_rows(t, w, to);
}

void table_print_body(const struct table *t, FILE *to) {
  _cleanup_free_ size_t *w = widths(t, false);
  print_rows(t, w, to);
}

/* ---- units ---- */

/* Three digits that count. */
static void digits3(char *buf, double v, const char *unit) {
  snprintf(buf, TEXT_UNIT, "%.*f%s", v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v, unit);
}

const char *text_duration(char *buf, uint64_t ns) {
  uint64_t s = ns / NS_PER_SEC;
  if (ns == 0)
    strcpy(buf, "0 s");
  else if (ns < NS_PER_US)
    snprintf(buf, TEXT_UNIT, "%u ns", (unsigned)ns);
  else if (ns < NS_PER_MS)
    digits3(buf, (double)ns / 1e3, " us");
  else if (ns < NS_PER_SEC)
    digits3(buf, (double)ns / 1e6, " ms");
  else if (s < 60)
    digits3(buf, (double)ns / 1e9, " s");
  else if (s < 3600)
    snprintf(buf, TEXT_UNIT, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
  else if (s < 86400)
    snprintf(buf, TEXT_UNIT, "%uh%02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
  else
    snprintf(buf, TEXT_UNIT, "%ud%02uh", (unsigned)(s / 86400), (unsigned)(s / 3600 % 24));
  return buf;
}

const char *text_count(char *buf, uint64_t n) {
  static const char *const units[] = {"k", "M", "G", "T", "P", "E"};
  if (n < 10000) {
    snprintf(buf, TEXT_UNIT, "%u", (unsigned)n);
    return buf;
  }
  double v = (double)n / 1000;
  size_t u = 0;
  while (v >= 999.5) {
    v /= 1000;
    u++;
  }
  digits3(buf, v, units[u]);
  return buf;
}

const char *text_user(char *buf, uint32_t uid) {
  struct passwd *pw = getpwuid(uid);
  if (pw)
    snprintf(buf, TEXT_UNIT, "%s", pw->pw_name);
  else
    snprintf(buf, TEXT_UNIT, "%u", uid);
  return buf;
}

const char *text_rung(uint32_t rung) {
  switch (rung) {
    case POOL_RUNG_STANDALONE:
      return "standalone";
    case POOL_RUNG_POLLING:
      return "polling";
    case POOL_RUNG_BPF:
      return "bpf";
    default:
      return "?";
  }
}

/* ---- JSON ---- */

json_t *json_text(const char *s) {
  _cleanup_free_ char *clean = harmless_copy(s, HARMLESS_CONTROLS);
  return json_string(clean);
}

json_t *json_uint(uint64_t v) { return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v); }

json_t *json_micro(uint64_t micro) { return json_real((double)micro / 1e6); }

int json_print(json_t *j) {
  int r = j ? json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : -1;
  json_decref(j);
  if (r != 0 && !ferror(stdout)) {
    cli_error(NULL, "cannot write JSON: out of memory");
    return CLI_FAILED;
  }
  putchar('\n');
  return CLI_OK;
}
