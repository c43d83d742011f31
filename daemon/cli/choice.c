/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the rules to the environment of one command.  Whatever the user has said is stronger: a rule fills in the rest.
 */
#include "daemon/cli/choice.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_THREADS "locked" /* the library's */

static const char *set_by_user(const char *name) {
  const char *v = getenv(name);
  return v && *v ? v : NULL;
}

void choice_make(struct choice *c, const struct rules *rules, const struct binary *b, const char *path, char *const *argv,
                 const char *threads) {
  bool script = b->scripts || b->plain_text;
  const char *arg = argv[0] && argv[1] && argv[1][0] != '-' ? argv[1] : NULL;
  _cleanup_free_ char *real = realpath(path, NULL);
  _cleanup_free_ char *real_interp = script ? realpath(b->path.text, NULL) : NULL;
  struct rule_program p = {.command = {path, real}, .script = {arg, NULL}}; /* an argument is no file of ours to look at */
  if (script) {
    p.script = p.command;
    p.interp = (struct rule_file){b->path.text, real_interp};
  }
  const char *env = set_by_user("RATION_THREADS");
  bool automatic = threads && strcmp(threads, "auto") == 0;
  *c = (struct choice){.rule = rules_find(rules, &p), .threads = DEFAULT_THREADS, .threads_by = CHOICE_BY_DEFAULT};
  if (threads && !automatic) {
    c->threads = threads;
    c->threads_by = CHOICE_BY_OPTION;
    c->set_threads = true;
  } else if (!automatic && env) {
    c->threads = env;
    c->threads_by = CHOICE_BY_ENVIRONMENT;
  } else if (c->rule && c->rule->threads) {
    c->threads = c->rule->threads;
    c->threads_by = CHOICE_BY_RULE;
    c->set_threads = true;
  } else {
    c->set_threads = env != NULL; /* an "auto" that was asked for is stronger than it */
  }
  if (c->rule && !set_by_user("RATION_MAXPROCS")) c->maxprocs = c->rule->maxprocs;
}

/* The name in "NAME=VALUE". */
static bool variable_name(const char *word, char *name, size_t cap) {
  size_t n = strcspn(word, "=");
  if (n >= cap) return false;
  memcpy(name, word, n);
  name[n] = 0;
  return true;
}

bool choice_sets(const char *word) {
  char name[256];
  return variable_name(word, name, sizeof(name)) && !getenv(name);
}

int choice_apply(const struct choice *c) {
  char name[256];
  if (c->set_threads && setenv("RATION_THREADS", c->threads, 1) < 0) return -errno;
  if (c->maxprocs) {
    char value[16];
    snprintf(value, sizeof(value), "%u", c->maxprocs);
    if (setenv("RATION_MAXPROCS", value, 1) < 0) return -errno;
  }
  for (size_t i = 0; c->rule && i < c->rule->env.n; i++) {
    const char *word = c->rule->env.word[i];
    if (!variable_name(word, name, sizeof(name))) continue;
    if (setenv(name, word + strlen(name) + 1, 0) < 0) return -errno;
  }
  return 0;
}
