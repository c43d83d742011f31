/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration profile: the rules about applications; which of them fits a command, and what the command would get.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "daemon/cli/binary.h"
#include "daemon/cli/choice.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/rulefiles.h"
#include "daemon/cli/text.h"

static const struct cli_option options[] = {
    {"check", 0, NULL, "only say what is wrong with the files of rules, or with those given as arguments"},
    {"profile", 0, "FILE", "read the rules of this file as well; they win among equals"},
    {"json", 'j', NULL, "print JSON"},
    {0},
};

struct request {
  const char *file;
  bool check, json;
  char **argv;
};

static const char *const by_name[] = {
    [CHOICE_BY_OPTION] = "option",
    [CHOICE_BY_ENVIRONMENT] = "environment",
    [CHOICE_BY_RULE] = "rule",
    [CHOICE_BY_DEFAULT] = "default",
};

/* ---- JSON ---- */

static json_t *json_words(const struct rule_words *w) {
  json_t *j = json_array();
  for (size_t i = 0; i < w->n; i++) json_array_append_new(j, json_text(w->word[i]));
  return j;
}

/* NAME=VALUE to an object; `all`: also what the user has set. */
static json_t *json_env(const struct rule *r, bool all) {
  json_t *j = json_object();
  for (size_t i = 0; r && i < r->env.n; i++) {
    const char *word = r->env.word[i], *value = strchr(word, '=');
    _cleanup_free_ char *name = value ? strndup(word, (size_t)(value - word)) : NULL;
    if (name && (all || choice_sets(word))) json_object_set_new(j, name, json_text(value + 1));
  }
  return j;
}

static json_t *json_or_null(const char *s) { return s ? json_text(s) : json_null(); }

static json_t *json_rule(const struct rule *r) {
  if (!r) return json_null();
  json_t *j = json_object();
  json_object_set_new(j, "name", json_text(r->name));
  json_object_set_new(j, "file", json_text(r->file));
  json_object_set_new(j, "line", json_integer(r->line));
  json_object_set_new(j, "match", json_words(&r->match));
  json_object_set_new(j, "script", json_words(&r->script));
  json_object_set_new(j, "threads", json_or_null(r->threads));
  json_object_set_new(j, "maxprocs", r->maxprocs ? json_uint(r->maxprocs) : json_null());
  json_object_set_new(j, "env", json_env(r, true));
  json_object_set_new(j, "why", json_or_null(r->why));
  return j;
}

static json_t *json_problems(const struct rules *r) {
  const struct rule_words w = {r->problem, r->nproblems};
  return json_words(&w);
}

/* ---- text ---- */

static void join(char *buf, size_t cap, size_t *n, const char *between, const char *word) {
  if (*n < cap) *n += (size_t)snprintf(buf + *n, cap - *n, "%s%s", *n ? between : "", word);
}

static void words_text(char *buf, size_t cap, const struct rule_words *w) {
  size_t n = 0;
  buf[0] = 0;
  for (size_t i = 0; i < w->n; i++) join(buf, cap, &n, ", ", w->word[i]);
}

static void cell_match(struct table *t, const struct rule *r) {
  char match[512], script[512];
  words_text(match, sizeof(match), &r->match);
  words_text(script, sizeof(script), &r->script);
  table_cell(t, "%s%s%s", match, r->script.n ? " with script " : "", script);
}

static void cell_sets(struct table *t, const struct rule *r) {
  char sets[1024] = "", maxprocs[32];
  size_t n = 0;
  snprintf(maxprocs, sizeof(maxprocs), "maxprocs=%u", r->maxprocs);
  if (r->threads) join(sets, sizeof(sets), &n, " ", r->threads);
  if (r->maxprocs) join(sets, sizeof(sets), &n, " ", maxprocs);
  for (size_t i = 0; i < r->env.n; i++) join(sets, sizeof(sets), &n, " ", r->env.word[i]);
  table_cell(t, "%s", n ? sets : "-");
}

static int list_rules(const struct rules *rules, bool json) {
  static const char *const heads[] = {"RULE", "MATCH", "SETS", "FILE", "WHY", NULL};
  if (json) {
    json_t *j = json_array();
    for (size_t i = 0; i < rules->n; i++) json_array_append_new(j, json_rule(&rules->rule[i]));
    return json_print(j);
  }
  if (rules->n == 0) {
    puts("There are no rules; programs run with '--threads locked'.");
    return CLI_OK;
  }
  _cleanup_(table_free) struct table t = {0};
  table_init(&t, heads);
  for (size_t i = 0; i < rules->n; i++) {
    const struct rule *r = &rules->rule[i];
    table_cell(&t, "%s", r->name);
    cell_match(&t, r);
    cell_sets(&t, r);
    table_cell(&t, "%s:%d", r->file, r->line);
    table_cell(&t, "%s", r->why ? r->why : "");
  }
  table_print(&t, stdout);
  return CLI_OK;
}

static void print_choice(const struct choice *c, const char *path, const struct binary *b) {
  static const char *const heads[] = {"", "", NULL};
  const struct rule *r = c->rule;
  _cleanup_(table_free) struct table t = {0};
  table_init(&t, heads);
  table_cell(&t, "command");
  table_cell(&t, "%s", path);
  if (strcmp(path, b->path.text) != 0) {
    table_cell(&t, "run by");
    table_cell(&t, "%s", b->path.text);
  }
  table_cell(&t, "rule");
  if (r)
    table_cell(&t, "[%s] in %s:%d", r->name, r->file, r->line);
  else
    table_cell(&t, "none");
  if (r && r->why) {
    table_cell(&t, "why");
    table_cell(&t, "%s", r->why);
  }
  table_cell(&t, "threads");
  table_cell(&t, "%s (by %s%s)", c->threads, by_name[c->threads_by], c->threads_by == CHOICE_BY_ENVIRONMENT ? ": RATION_THREADS" : "");
  if (c->maxprocs) {
    table_cell(&t, "maxprocs");
    table_cell(&t, "%u", c->maxprocs);
  }
  for (size_t i = 0; r && i < r->env.n; i++) {
    table_cell(&t, "environment");
    table_cell(&t, "%s%s", r->env.word[i], choice_sets(r->env.word[i]) ? "" : " (not set: the caller has it)");
  }
  if (b->kind != BINARY_PRELOADABLE && b->kind != BINARY_UNKNOWN) {
    table_cell(&t, "but");
    table_cell(&t, "%s %s: it runs untouched", b->path.text, b->why);
  }
  table_print_body(&t, stdout);
}

static int show_choice(const struct cli_command *cmd, const struct rules *rules, const struct request *r) {
  struct binary_path path;
  struct binary b;
  struct choice c;
  int e = binary_find(r->argv[0], &path);
  if (e < 0) {
    cli_error(cmd, "%s: %s", r->argv[0], e == -ENOENT && !strchr(r->argv[0], '/') ? "command not found" : strerror(-e));
    return CLI_FAILED;
  }
  e = binary_inspect(&b, path.text);
  if (e < 0) {
    cli_error(cmd, "%s: its interpreter %s: %s", r->argv[0], b.path.text, strerror(-e));
    return CLI_FAILED;
  }
  choice_make(&c, rules, &b, path.text, r->argv, NULL);
  if (!r->json) {
    print_choice(&c, path.text, &b);
    return CLI_OK;
  }
  json_t *j = json_object();
  json_object_set_new(j, "command", json_text(path.text));
  json_object_set_new(j, "program", json_text(b.path.text));
  json_object_set_new(j, "untouched", b.kind != BINARY_PRELOADABLE && b.kind != BINARY_UNKNOWN ? json_text(b.why) : json_null());
  json_object_set_new(j, "rule", json_rule(c.rule));
  json_object_set_new(j, "threads", json_text(c.threads));
  json_object_set_new(j, "threads_by", json_text(by_name[c.threads_by]));
  json_object_set_new(j, "maxprocs", c.maxprocs ? json_uint(c.maxprocs) : json_null());
  json_object_set_new(j, "env", json_env(c.rule, false));
  return json_print(j);
}

/* ---- the command ---- */

static int parse(const struct cli_command *cmd, int argc, char **argv, struct request *r) {
  const char *arg;
  cli_begin_options();
  for (int i; (i = cli_next_option(cmd, argc, argv, &arg)) != CLI_OPT_END;) {
    if (i < 0) return i;
    if (cli_is(cmd, i, "check")) r->check = true;
    if (cli_is(cmd, i, "profile")) r->file = arg;
    if (cli_is(cmd, i, "json")) r->json = true;
  }
  r->argv = argv + cli_rest();
  return CLI_OPT_END;
}

/* 0, -ENOMEM, or what kept the file of --profile from being read. */
static int load(struct rules *rules, const struct request *r) {
  int e = 0;
  if (r->check && r->argv[0]) {
    for (char **file = r->argv; *file && e != -ENOMEM; file++) e = rulefiles_read(rules, *file);
    return e == -ENOMEM ? e : 0;
  }
  e = rulefiles_load(rules);
  return e == 0 && r->file ? rulefiles_read(rules, r->file) : e;
}

static int say_checked(const struct rules *rules, bool json) {
  int status = rules->wrong ? CLI_FAILED : CLI_OK;
  if (json) {
    json_t *j = json_object();
    json_object_set_new(j, "rules", json_uint(rules->n));
    json_object_set_new(j, "problems", json_problems(rules));
    int e = json_print(j);
    return e == CLI_OK ? status : e;
  }
  printf("%zu rule%s, %zu problem%s\n", rules->n, rules->n == 1 ? "" : "s", rules->wrong, rules->wrong == 1 ? "" : "s");
  return status;
}

static int answer(const struct cli_command *cmd, struct rules *rules, const struct request *r) {
  int e = load(rules, r);
  for (size_t i = 0; i < rules->nproblems; i++) cli_error(cmd, "%s", rules->problem[i]);
  if (e == -ENOMEM) cli_error(cmd, "out of memory");
  if (e < 0) return CLI_FAILED;
  if (r->check) return say_checked(rules, r->json);
  return r->argv[0] ? show_choice(cmd, rules, r) : list_rules(rules, r->json);
}

static int profile_main(const struct cli_command *cmd, int argc, char **argv) {
  _cleanup_(rules_free) struct rules rules = {0};
  struct request r = {0};
  int e = parse(cmd, argc, argv, &r);
  if (e == CLI_OPT_HELP) return CLI_OK;
  if (e == CLI_OPT_BAD || !r.argv) return CLI_USAGE;
  return answer(cmd, &rules, &r);
}

const struct cli_command cli_profile = {
    .name = "profile",
    .usage = "[OPTION]... [--] [COMMAND [ARGUMENT]...]\n       ration profile --check [--json] [FILE]...",
    .summary = "List the rules about applications, or show which one fits a command",
    .usage_status = CLI_USAGE,
    .options = options,
    .main = profile_main,
    .text = "The rules are those of " RULEFILES_ETC
            "/*.conf and those that came with ration, or of the\n"
            "directories in RATION_PROFILES.  Exit status: 0; 1 if there is no such command, or --check\n"
            "found something wrong; 2 for wrong options.  See ration-profile(1) and ration-apps(5).\n",
};
