/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/* Rules about applications: what is read, what is said about what is wrong, which rule fits, and what it sets. */
#include "unit.h"

#include <string.h>
#include "daemon/cli/choice.h"
#include "daemon/cli/rules.h"

static void parse(struct rules *r, const char *text) { ck_assert_int_eq(rules_parse(r, "F", text, strlen(text)), 0); }

/* A text with one mistake: where, what must be said, and how many rules stand all the same. */
static void refuses(const char *text, int line, const char *says, size_t stand) {
  struct rules r = {0};
  char where[32];
  parse(&r, text);
  ck_assert_msg(r.wrong == 1 && r.nproblems == 1, "%zu problems in '%s': %s", r.wrong, text, r.nproblems ? r.problem[0] : "");
  snprintf(where, sizeof(where), "F:%d: ", line);
  ck_assert_msg(strncmp(r.problem[0], where, strlen(where)) == 0, "'%s' should begin with '%s'", r.problem[0], where);
  ck_assert_msg(strstr(r.problem[0], says) != NULL, "'%s' should say '%s'", r.problem[0], says);
  ck_assert_uint_eq(r.n, stand);
  rules_free(&r);
}

START_TEST(all_keys_are_read) {
  struct rules r = {0};
  parse(&r,
        "# a comment\n\n[one]\nmatch = /usr/bin/x ; said why\nmatch=y*\n  z\nscript = s\nthreads = free\nmaxprocs = 4\n"
        "env.A_1 = b = c\nenv.E =\nwhy = because it is so\n[two]\r\nmatch = two\r\n");
  ck_assert_uint_eq(r.wrong, 0);
  ck_assert_uint_eq(r.n, 2);
  const struct rule *one = &r.rule[0];
  ck_assert_str_eq(one->name, "one");
  ck_assert_str_eq(one->file, "F");
  ck_assert_int_eq(one->line, 3);
  ck_assert_uint_eq(one->match.n, 3);
  ck_assert_str_eq(one->match.word[0], "/usr/bin/x");
  ck_assert_str_eq(one->match.word[2], "z");
  ck_assert_str_eq(one->script.word[0], "s");
  ck_assert_str_eq(one->threads, "free");
  ck_assert_uint_eq(one->maxprocs, 4);
  ck_assert_uint_eq(one->env.n, 2);
  ck_assert_str_eq(one->env.word[0], "A_1=b = c");
  ck_assert_str_eq(one->env.word[1], "E=");
  ck_assert_str_eq(one->why, "because it is so");
  ck_assert_str_eq(r.rule[1].match.word[0], "two");
  ck_assert_ptr_null(r.rule[1].threads);
  rules_free(&r);
}
END_TEST

START_TEST(sections_of_one_name_are_two_rules) {
  struct rules r = {0};
  parse(&r, "[a]\nmatch = x\n[a]\nmatch = y");
  ck_assert_uint_eq(r.n, 2);
  ck_assert_uint_eq(r.rule[0].match.n, 1);
  ck_assert_int_eq(r.rule[1].line, 3);
  rules_free(&r);
}
END_TEST

START_TEST(mistakes_are_named_with_their_line) {
  refuses("[a]\nmatch = x\nthread = off\n", 3, "did you mean 'threads'?", 0);
  refuses("[a]\nmatch = x\nenv = off\n", 3, "did you mean 'env.NAME'?", 0);
  refuses("[a]\nmatch = x\nqqqqq = off\n", 3, "unknown key 'qqqqq'", 0);
  refuses("[a]\nmatch = x\nthreads = lokced\n", 3, "did you mean 'locked'?", 0);
  refuses("[a]\nmatch = x\nthreads = auto\n", 3, "expected off, locked or free", 0);
  refuses("[a]\nmatch = x\nthreads = off\n\nthreads = free\n", 5, "twice", 0);
  refuses("[a]\nmatch = x\nmaxprocs = 0\n", 3, "from 1 to 256", 0);
  refuses("[a]\nmatch = x\nmaxprocs = 257\n", 3, "from 1 to 256", 0);
  refuses("[a]\nmatch = x\nmaxprocs = 2.5\n", 3, "from 1 to 256", 0);
  refuses("[a]\nmatch = bin/x\n", 2, "absolute path", 0);
  refuses("[a]\nmatch =\n", 2, "absolute path", 0);
  refuses("[a]\nmatch = /\n", 2, "absolute path", 0);
  refuses("[a]\nmatch = x\nscript = a/b\n", 3, "script = a/b", 0);
  refuses("[a]\nmatch = x\nenv. = 1\n", 3, "name of a variable", 0);
  refuses("[a]\nmatch = x\nenv.1A = 1\n", 3, "name of a variable", 0);
  refuses("[a]\nmatch = x\nenv.A-B = 1\n", 3, "name of a variable", 0);
  refuses("[a]\nmatch = x\nenv.A = 1\nenv.AB = 1\nenv.A = 2\n", 5, "twice", 0);
  refuses("[a]\nmatch = x\nenv.RATION_THREADS = off\n", 3, "use 'threads'", 0);
  refuses("[a]\nmatch = x\nenv.RATION_MAXPROCS = 1\n", 3, "use 'maxprocs'", 0);
  refuses("[a]\nmatch = x\nwhy = one\n  two\n", 4, "more than one line", 0);
  refuses("[a]\nthreads = off\n", 1, "[a] says no 'match'", 0);
  refuses("\n\n[a]\n", 3, "[a] says no 'match'", 0);
  refuses("match = x\n", 1, "before any section", 0);
  refuses("# x\n[a\nmatch = x\n", 2, "key = value", 0);
  refuses("[a]\nmatch = x\nwhat is this\n", 3, "key = value", 0);
  refuses("[a]\nmatch = x\n# y\nwhat\nthread = off\n", 4, "key = value", 0); /* the first one */
  refuses("[a]\nmatch = x\n# y\nthread = off\nwhat\n", 4, "threads", 0);
}
END_TEST

START_TEST(a_mistake_costs_its_own_rule_only) {
  refuses("[a]\nmatch = a\n[b]\nmatch = b\nx\n[c]\nmatch = c\n", 5, "key = value", 2);
  refuses("[a]\nmatch = a\n[b]\n[c]\nmatch = c\n", 3, "[b] says no 'match'", 2);
  refuses("thread = off\n[c]\nmatch = c\n", 1, "before any section", 1);
  struct rules r = {0};
  parse(&r, "[a]\nx\n[b]\ny\n[c]\nz\n");
  ck_assert_uint_eq(r.wrong, 3);
  ck_assert_uint_eq(r.n, 0);
  ck_assert_int_eq(strncmp(r.problem[2], "F:6: ", 5), 0);
  rules_free(&r);
}
END_TEST

START_TEST(what_inih_would_cut_is_refused) {
  char text[1024], longer[400];
  memset(longer, 'x', sizeof(longer));
  snprintf(text, sizeof(text), "[a]\nmatch = a\nwhy = %.300s\nfoo\n", longer);
  refuses(text, 3, "more than 199 characters", 0);
  snprintf(text, sizeof(text), "[a]\nmatch = a\nenv.%.50s = 1\n", longer);
  refuses(text, 3, "a name of more than 48", 0);
  snprintf(text, sizeof(text), "[%.50s]\nmatch = a\n", longer);
  refuses(text, 2, "a name of more than 48", 0);
  struct rules r = {0};
  snprintf(text, sizeof(text), "[a]\n# %.300s\nmatch = a\n  ; %.300s\nthreads = off\n", longer, longer);
  parse(&r, text); /* comments may be long, and count one line */
  ck_assert_msg(r.wrong == 0, "%s", r.nproblems ? r.problem[0] : "");
  ck_assert_uint_eq(r.n, 1);
  ck_assert_int_eq(rules_parse(&r, "F", "[a]\nmatch = a\0b\n", 16), 0);
  ck_assert_uint_eq(r.wrong, 1);
  ck_assert_int_eq(rules_parse(&r, "F", "", 0), 0);
  ck_assert_uint_eq(r.n, 1);
  rules_free(&r);
}
END_TEST

START_TEST(too_many_are_refused) {
  struct rules r = {0};
  for (int i = 0; i < RULES_MAX + 2; i++) parse(&r, "[a]\nmatch = a\n");
  ck_assert_uint_eq(r.n, RULES_MAX);
  ck_assert_uint_eq(r.wrong, 2);
  for (int i = 0; i < RULES_PROBLEMS + 2; i++) parse(&r, "x\n");
  ck_assert_uint_eq(r.nproblems, RULES_PROBLEMS);
  ck_assert_uint_eq(r.wrong, RULES_PROBLEMS + 4);
  rules_free(&r);
}
END_TEST

/* The name of the rule of `text` that fits. */
static const char *found(const char *text, struct rule_program p) {
  static char name[64];
  struct rules r = {0};
  parse(&r, text);
  ck_assert_msg(r.wrong == 0, "%s", r.nproblems ? r.problem[0] : "");
  const struct rule *rule = rules_find(&r, &p);
  snprintf(name, sizeof(name), "%s", rule ? rule->name : "-");
  rules_free(&r);
  return name;
}

static struct rule_program program(const char *called, const char *real) { return (struct rule_program){.command = {called, real}}; }

START_TEST(names_and_paths_match_as_called_and_without_links) {
  struct rule_program p = program("/usr/bin/python3", "/usr/bin/python3.11"), lost = program("./x", NULL);
  ck_assert_str_eq(found("[a]\nmatch = python3", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = python3.11", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = /usr/bin/python3", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = /usr/bin/python3.11", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = python3.[0-9]*", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = /usr/*/python?", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = foo\nmatch = python3", p), "a");
  ck_assert_str_eq(found("[a]\nmatch = python", p), "-");
  ck_assert_str_eq(found("[a]\nmatch = /usr/*", p), "-"); /* no glob takes a slash */
  ck_assert_str_eq(found("[a]\nmatch = /python3", p), "-");
  ck_assert_str_eq(found("[a]\nmatch = x", lost), "a");
  ck_assert_str_eq(found("", p), "-");
}
END_TEST

START_TEST(the_most_exact_rule_wins) {
  struct rule_program p = program("/usr/bin/x", "/usr/bin/x");
  ck_assert_str_eq(found("[path]\nmatch = /usr/bin/x\n[name]\nmatch = x\n[pglob]\nmatch = /usr/bin/*\n[nglob]\nmatch = *\n", p), "path");
  ck_assert_str_eq(found("[name]\nmatch = x\n[pglob]\nmatch = /usr/bin/*\n[nglob]\nmatch = *\n", p), "name");
  ck_assert_str_eq(found("[pglob]\nmatch = /usr/bin/*\n[nglob]\nmatch = *\n", p), "pglob");
  ck_assert_str_eq(found("[first]\nmatch = x\n[last]\nmatch = x\n", p), "last");
  ck_assert_str_eq(found("[both]\nmatch = *\nmatch = x\n[last]\nmatch = *\n", p), "both");
}
END_TEST

START_TEST(scripts_come_before_their_interpreters) {
  static const char *const python = "[python]\nmatch = /usr/bin/python3\n", *const gunicorn =
                                                                                "[gunicorn]\nmatch = python3\nscript = gunicorn\n";
  char text[256];
  struct rule_program script = {.command = {"/usr/bin/gunicorn", "/usr/bin/gunicorn"},
                                .interp = {"/usr/bin/python3", "/usr/bin/python3.11"}};
  script.script = script.command;
  struct rule_program arg = program("/usr/bin/python3", "/usr/bin/python3.11");
  arg.script = (struct rule_file){"/usr/bin/gunicorn", NULL};
  ck_assert_str_eq(found(python, script), "python");
  ck_assert_str_eq(found("[own]\nmatch = gunicorn\n[python]\nmatch = /usr/bin/python3\n", script), "own");
  snprintf(text, sizeof(text), "%s%s", gunicorn, python);
  ck_assert_str_eq(found(text, script), "gunicorn");
  ck_assert_str_eq(found(text, arg), "gunicorn");
  arg.script.called = "other";
  ck_assert_str_eq(found(text, arg), "python");
  arg.script.called = NULL;
  ck_assert_str_eq(found(text, arg), "python");
  ck_assert_str_eq(found(gunicorn, program("/bin/cat", "/usr/bin/cat")), "-");
}
END_TEST

/* ---- what the rule sets ---- */

static struct rules chosen_of;
static struct choice chosen(const char *threads, const char *text) {
  static struct binary b;
  static char name[] = "x";
  char *argv[] = {name, NULL};
  struct choice c;
  rules_free(&chosen_of);
  parse(&chosen_of, text);
  choice_make(&c, &chosen_of, &b, "/nowhere/x", argv, threads);
  ck_assert_int_eq(choice_apply(&c), 0);
  return c;
}

static const char *var(const char *name) { return getenv(name) ? getenv(name) : "-"; }

START_TEST(without_a_rule_nothing_is_set) {
  unsetenv("RATION_THREADS");
  struct choice c = chosen(NULL, "");
  ck_assert_str_eq(c.threads, "locked");
  ck_assert_int_eq(c.threads_by, CHOICE_BY_DEFAULT);
  ck_assert_str_eq(var("RATION_THREADS"), "-");
  chosen("auto", "");
  ck_assert_str_eq(var("RATION_THREADS"), "-");
}
END_TEST

START_TEST(option_then_environment_then_rule) {
  static const char *const text = "[x]\nmatch = x\nthreads = free\n";
  setenv("RATION_THREADS", "off", 1);
  ck_assert_int_eq(chosen(NULL, text).threads_by, CHOICE_BY_ENVIRONMENT);
  ck_assert_str_eq(var("RATION_THREADS"), "off");
  ck_assert_int_eq(chosen("locked", text).threads_by, CHOICE_BY_OPTION);
  ck_assert_str_eq(var("RATION_THREADS"), "locked");
  ck_assert_int_eq(chosen("auto", text).threads_by, CHOICE_BY_RULE);
  ck_assert_str_eq(var("RATION_THREADS"), "free");
  /* Asked for "auto", what the environment says does not count; and there is no free without a rule. */
  ck_assert_int_eq(chosen("auto", "[x]\nmatch = x\n").threads_by, CHOICE_BY_DEFAULT);
  ck_assert_str_eq(var("RATION_THREADS"), "locked");
  setenv("RATION_THREADS", "", 1);
  ck_assert_int_eq(chosen(NULL, text).threads_by, CHOICE_BY_RULE);
  ck_assert_str_eq(var("RATION_THREADS"), "free");
}
END_TEST

START_TEST(variables_of_the_user_stay) {
  static const char *const text = "[x]\nmatch = x\nmaxprocs = 7\nenv.RATIONTEST_A = a\nenv.RATIONTEST_B = b\nenv.RATIONTEST_C = c\n";
  unsetenv("RATION_MAXPROCS");
  unsetenv("RATIONTEST_A");
  setenv("RATIONTEST_B", "mine", 1);
  setenv("RATIONTEST_C", "", 1);
  ck_assert_uint_eq(chosen("off", text).maxprocs, 7);
  ck_assert_str_eq(var("RATION_MAXPROCS"), "7");
  ck_assert_str_eq(var("RATIONTEST_A"), "a");
  ck_assert_str_eq(var("RATIONTEST_B"), "mine");
  ck_assert_str_eq(var("RATIONTEST_C"), "");
  setenv("RATION_MAXPROCS", "3", 1);
  ck_assert_uint_eq(chosen(NULL, text).maxprocs, 0);
  ck_assert_str_eq(var("RATION_MAXPROCS"), "3");
}
END_TEST

UNIT_MAIN("rules", all_keys_are_read, sections_of_one_name_are_two_rules, mistakes_are_named_with_their_line,
          a_mistake_costs_its_own_rule_only, what_inih_would_cut_is_refused, too_many_are_refused,
          names_and_paths_match_as_called_and_without_links, the_most_exact_rule_wins, scripts_come_before_their_interpreters,
          without_a_rule_nothing_is_set, option_then_environment_then_rule, variables_of_the_user_stay)
