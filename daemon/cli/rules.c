/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules about applications: parsing, by inih, and matching.
 *
 * inih tells only the first line of a file that makes no sense, and nothing of a section without keys.  So the text is
 * cut at the lines that begin with '[', and each section is parsed for itself: what is wrong in one is said
 * with its line, costs that rule, and no other.
 *
 * Which rule: the one that says most exactly what it is about (how exact a pattern is: see fits), and of equals the last one.
 */
#include "daemon/cli/rules.h"
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "proto/pool_page.h"

#define INI_NAME_MAX 49 /* inih cuts names of sections and keys there, and says nothing */
#define WHY_MAX 256

const char *const rule_threads[] = {"off", "locked", "free", NULL};

enum { KEY_MATCH, KEY_SCRIPT, KEY_THREADS, KEY_MAXPROCS, KEY_WHY, KEY_ENV };
static const char *const keys[] = {"match", "script", "threads", "maxprocs", "why", "env.NAME", NULL};

struct parser {
  const char *next, *end; /* of the section: what inih has not read */
  int line;               /* of what it has read last */
  struct rule rule;
  char why[WHY_MAX]; /* the first thing that is wrong */
  int why_line;      /* 0: nothing is */
  bool no_memory;
};

/* ---- lists ---- */

static void words_free(struct rule_words *w) {
  for (size_t i = 0; i < w->n; i++) free(w->word[i]);
  free(w->word);
  *w = (struct rule_words){0};
}

static bool words_add(struct rule_words *w, char *word) {
  char **all = word ? reallocarray(w->word, w->n + 1, sizeof(*all)) : NULL;
  if (!all) {
    free(word);
    return false;
  }
  w->word = all;
  all[w->n++] = word;
  return true;
}

static void rule_free(struct rule *r) {
  words_free(&r->match);
  words_free(&r->script);
  words_free(&r->env);
  free(r->name);
  free(r->file);
  free(r->why);
  *r = (struct rule){0};
}

void rules_free(struct rules *r) {
  for (size_t i = 0; i < r->n; i++) rule_free(&r->rule[i]);
  for (size_t i = 0; i < r->nproblems; i++) free(r->problem[i]);
  free(r->rule);
  free(r->problem);
  *r = (struct rules){0};
}

void rules_problem(struct rules *r, const char *fmt, ...) {
  char *text = NULL;
  va_list ap;
  r->wrong++;
  if (r->nproblems >= RULES_PROBLEMS) return;
  va_start(ap, fmt);
  int n = vasprintf(&text, fmt, ap);
  va_end(ap);
  struct rule_words w = {r->problem, r->nproblems};
  if (n < 0 || !words_add(&w, text)) return;
  r->problem = w.word;
  r->nproblems = w.n;
}

/* ---- keys ---- */

static void fail(struct parser *p, const char *fmt, ...) _printf_(2, 3);
static void fail(struct parser *p, const char *fmt, ...) {
  va_list ap;
  if (p->why_line) return;
  p->why_line = p->line;
  va_start(ap, fmt);
  vsnprintf(p->why, sizeof(p->why), fmt, ap);
  va_end(ap);
}

static void set_pattern(struct parser *p, struct rule_words *w, const char *key, const char *value) {
  if (!*value || (strchr(value, '/') && *value != '/') || value[strlen(value) - 1] == '/')
    fail(p, "%s = %.64s: expected the name of a program, or an absolute path", key, value);
  else if (!words_add(w, strdup(value)))
    p->no_memory = true;
}

static void set_threads(struct parser *p, const char *value) {
  if (p->rule.threads) {
    fail(p, "threads: said twice");
    return;
  }
  for (size_t i = 0; rule_threads[i]; i++)
    if (strcmp(rule_threads[i], value) == 0) p->rule.threads = rule_threads[i];
  const char *near = cli_nearest(value, rule_threads);
  if (!p->rule.threads && near) fail(p, "threads = %.64s: did you mean '%s'?", value, near);
  if (!p->rule.threads && !near) fail(p, "threads = %.64s: expected off, locked or free", value);
}

static void set_maxprocs(struct parser *p, const char *value) {
  uint64_t n;
  if (p->rule.maxprocs)
    fail(p, "maxprocs: said twice");
  else if (cli_parse_uint(value, POOL_SLOTS_MAX, &n) < 0 || n == 0)
    fail(p, "maxprocs = %.64s: expected a number from 1 to %u", value, POOL_SLOTS_MAX);
  else
    p->rule.maxprocs = (uint32_t)n;
}

static void set_why(struct parser *p, const char *value) {
  if (p->rule.why) {
    fail(p, "why: more than one line");
    return;
  }
  p->rule.why = strdup(value);
  p->no_memory |= !p->rule.why;
}

static bool is_variable(const char *s) {
  if (!isalpha((unsigned char)*s) && *s != '_') return false;
  while (isalnum((unsigned char)*s) || *s == '_') s++;
  return !*s;
}

static void set_env(struct parser *p, const char *name, const char *value) {
  static const struct { const char *variable, *key; } other[] = {{"RATION_THREADS", "threads"}, {"RATION_MAXPROCS", "maxprocs"}};
  size_t len = strlen(name);
  if (!is_variable(name)) fail(p, "env.%s: expected the name of a variable after 'env.'", name);
  for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
    if (strcmp(name, other[i].variable) == 0) fail(p, "env.%s: use '%s' instead", name, other[i].key);
  for (size_t i = 0; i < p->rule.env.n; i++)
    if (strncmp(p->rule.env.word[i], name, len) == 0 && p->rule.env.word[i][len] == '=') fail(p, "env.%s: said twice", name);
  char *word = NULL;
  if (p->why_line) return;
  if (asprintf(&word, "%s=%s", name, value) < 0) word = NULL;
  p->no_memory |= !words_add(&p->rule.env, word);
}

static void set_key(struct parser *p, const char *name, const char *value) {
  if (strncmp(name, "env.", 4) == 0) {
    set_env(p, name + 4, value);
    return;
  }
  int k = 0;
  while (k < KEY_ENV && strcmp(name, keys[k]) != 0) k++;
  const char *near = k == KEY_ENV ? cli_nearest(name, keys) : NULL;
  if (k == KEY_MATCH)
    set_pattern(p, &p->rule.match, name, value);
  else if (k == KEY_SCRIPT)
    set_pattern(p, &p->rule.script, name, value);
  else if (k == KEY_THREADS)
    set_threads(p, value);
  else if (k == KEY_MAXPROCS)
    set_maxprocs(p, value);
  else if (k == KEY_WHY)
    set_why(p, value);
  else if (near)
    fail(p, "unknown key '%s'; did you mean '%s'?", name, near);
  else
    fail(p, "unknown key '%s'", name);
}

static int on_key(void *user, const char *section, const char *name, const char *value) {
  struct parser *p = user;
  if (p->why_line || p->no_memory) return 1;
  if (!*section) {
    fail(p, "a key before any section; begin with [NAME]");
    return 1;
  }
  if (!p->rule.name) { /* an indented section, or one after a byte order mark, at the top of the file */
    p->rule.name = strdup(section);
    p->rule.line = p->line;
    p->no_memory |= !p->rule.name;
  }
  if (strlen(name) >= INI_NAME_MAX || strlen(section) >= INI_NAME_MAX)
    fail(p, "a name of more than %d characters", INI_NAME_MAX - 1);
  else if (p->rule.name && strcmp(section, p->rule.name) != 0)
    fail(p, "[%s] is not at the beginning of its line", section);
  else
    set_key(p, name, value ? value : "");
  return 1; /* to inih, all is well: what is wrong is in p */
}

/* ---- sections ---- */

/* For inih, in place of fgets: a line that is too long is one line, not two. */
static char *next_line(char *buf, int size, void *user) {
  struct parser *p = user;
  if (p->next >= p->end) return NULL;
  const char *from = p->next, *stop = memchr(from, '\n', (size_t)(p->end - from));
  size_t len = (size_t)((stop ? stop : p->end) - from);
  p->next += len + (stop != NULL);
  p->line++;
  if (len >= (size_t)size) {
    size_t blank = 0;
    while (isspace((unsigned char)from[blank]) && blank < len - 1) blank++;
    if (from[blank] != '#' && from[blank] != ';') fail(p, "a line of more than %d characters", size - 1);
    len = 0;
  }
  memcpy(buf, from, len);
  buf[len] = 0;
  return buf;
}

/* "[name]" at the beginning of a section's text; empty before the first one. */
static char *section_name(const char *text, const char *end) {
  const char *line = memchr(text, '\n', (size_t)(end - text));
  const char *close = text < end && *text == '[' ? memchr(text, ']', (size_t)((line ? line : end) - text)) : NULL;
  return close ? strndup(text + 1, (size_t)(close - text - 1)) : NULL;
}

static int add_rule(struct rules *r, struct rule *rule, const char *file) {
  struct rule *all = reallocarray(r->rule, r->n + 1, sizeof(*all));
  if (!all) return -ENOMEM;
  r->rule = all;
  rule->file = strdup(file);
  if (!rule->file) return -ENOMEM;
  all[r->n++] = *rule;
  *rule = (struct rule){0};
  return 0;
}

/* One section, whose first line has that number. */
static int parse_section(struct rules *r, const char *file, const char *text, const char *end, int first) {
  bool headed = text < end && *text == '[';
  struct parser p = {.next = text, .end = end, .line = first - 1, .rule = {.name = section_name(text, end), .line = first}};
  int wrong = ini_parse_stream(next_line, &p, on_key, &p), e = 0;
  /* inih counts from the first line that it was given; its error may stand before or behind ours. */
  if (wrong > 0 && (!p.why_line || first + wrong - 1 < p.why_line)) {
    p.why_line = first + wrong - 1;
    snprintf(p.why, sizeof(p.why), "not a line of the form 'key = value' or '[section]'");
  }
  if (!p.why_line && (headed || p.rule.name) && p.rule.match.n == 0) {
    p.line = p.rule.line;
    fail(&p, "[%.48s] says no 'match'", p.rule.name ? p.rule.name : "");
  }
  if (wrong < 0 || p.no_memory)
    e = -ENOMEM;
  else if (p.why_line)
    rules_problem(r, "%s:%d: %s", file, p.why_line, p.why);
  else if (r->n >= RULES_MAX && p.rule.name)
    rules_problem(r, "%s:%d: more than %d rules", file, p.rule.line, RULES_MAX);
  else if (p.rule.name)
    e = add_rule(r, &p.rule, file);
  rule_free(&p.rule);
  return e;
}

int rules_parse(struct rules *r, const char *file, const char *text, size_t len) {
  const char *end = text + len, *from = text;
  int first = 1, line = 1, e = 0;
  if (memchr(text, 0, len)) {
    rules_problem(r, "%s: not a text: there is a zero byte in it", file);
    return 0;
  }
  for (const char *s = text; s < end && e == 0;) {
    const char *stop = memchr(s, '\n', (size_t)(end - s));
    s = stop ? stop + 1 : end;
    line++;
    if (s < end && *s != '[') continue;
    e = parse_section(r, file, from, s, first);
    from = s;
    first = line;
  }
  return e;
}

/* ---- matching ---- */

enum { FITS_NOT, FITS_NAME_GLOB, FITS_PATH_GLOB, FITS_NAME, FITS_PATH, FITS_BEST = FITS_PATH };

/* How exactly a pattern says that it means this file. */
static unsigned fits_path(const char *pattern, const char *path) {
  if (!path) return FITS_NOT;
  bool whole = *pattern == '/', glob = strpbrk(pattern, "*?[\\") != NULL;
  const char *slash = strrchr(path, '/'), *word = !whole && slash ? slash + 1 : path;
  if (glob) return fnmatch(pattern, word, FNM_PATHNAME) != 0 ? FITS_NOT : whole ? FITS_PATH_GLOB : FITS_NAME_GLOB;
  return strcmp(pattern, word) != 0 ? FITS_NOT : whole ? FITS_PATH : FITS_NAME;
}

static unsigned fits(const struct rule_words *patterns, const struct rule_file *f) {
  unsigned best = FITS_NOT;
  for (size_t i = 0; i < patterns->n; i++) {
    unsigned called = fits_path(patterns->word[i], f->called), real = fits_path(patterns->word[i], f->real);
    best = UTIL_MAX(best, UTIL_MAX(called, real));
  }
  return best;
}

/* A rule about a script is more exact than any about its interpreter. */
static unsigned rule_fits(const struct rule *r, const struct rule_program *p) {
  unsigned command = fits(&r->match, &p->command), interp = fits(&r->match, &p->interp);
  unsigned best = UTIL_MAX(command, interp);
  if (!best) return FITS_NOT;
  if (r->script.n) {
    unsigned script = fits(&r->script, &p->script);
    return script ? FITS_BEST + script : FITS_NOT;
  }
  return p->interp.called && command ? FITS_BEST + command : best;
}

const struct rule *rules_find(const struct rules *r, const struct rule_program *p) {
  const struct rule *best = NULL;
  unsigned most = FITS_NOT + 1;
  for (size_t i = 0; i < r->n; i++) {
    unsigned f = rule_fits(&r->rule[i], p);
    if (f < most) continue;
    most = f;
    best = &r->rule[i];
  }
  return best;
}
