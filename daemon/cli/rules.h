/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_RULES_H
#define RATION_CLI_RULES_H
/*
 * Rules about applications: which programs, and what ration run gives them.  The text of a file to rules, and
 * the rule that fits a program.  docs/man/ration-apps.5
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/util.h"

#define RULES_MAX 4096     /* in all files together */
#define RULES_PROBLEMS 256 /* so many are kept */

struct rule_words {
  char **word;
  size_t n;
};

struct rule {
  char *name; /* of its section */
  char *file;
  int line;
  struct rule_words match, script; /* patterns */
  struct rule_words env;           /* NAME=VALUE */
  const char *threads;             /* "off", "locked" or "free"; null: not said */
  uint32_t maxprocs;               /* 0: not said */
  char *why;                       /* or null */
};

struct rules {
  struct rule *rule; /* what comes later wins among equals */
  size_t n;
  char **problem; /* "FILE:LINE: what" */
  size_t nproblems;
  size_t wrong; /* problems, also those that are not kept */
};

extern const char *const rule_threads[]; /* null-terminated */

void rules_free(struct rules *r);
/* Notes what is wrong with a file. */
void rules_problem(struct rules *r, const char *fmt, ...) _printf_(2, 3);
/* Adds the rules of a file's text.  A rule that is wrong becomes a problem, the others stand.  0 or -ENOMEM. */
int rules_parse(struct rules *r, const char *file, const char *text, size_t len);

/* A file under the name that it was called by and under the one without symbolic links; null: unknown. */
struct rule_file {
  const char *called, *real;
};

struct rule_program {
  struct rule_file command; /* a program, or a script */
  struct rule_file interp;  /* of the script, if the command is one */
  struct rule_file script;  /* the command, if it is one; else the first argument, as called */
};

/* The rule that fits best, or null. */
const struct rule *rules_find(const struct rules *r, const struct rule_program *p);

#endif
