/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as a file of rules.  Each rule that stands is complete and bounded, each problem names the file; what fits
 * is one of the rules.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/cli/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)        \
  do {                    \
    if (!(cond)) abort(); \
  } while (0)

static void check_rule(const struct rule *r) {
  MUST(r->name && r->file && r->line > 0 && r->match.n > 0 && r->maxprocs <= 256);
  for (size_t i = 0; i < r->match.n; i++) MUST(r->match.word[i][0]);
  for (size_t i = 0; i < r->env.n; i++) MUST(r->env.word[i][0] != '=' && strchr(r->env.word[i], '='));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const struct rule_program programs[] = {
      {.command = {"/usr/bin/x", "/usr/bin/x"}},
      {.command = {"/usr/bin/x", NULL}, .interp = {"/usr/bin/python3", "/usr/bin/python3.11"}, .script = {"/usr/bin/x", NULL}},
  };
  struct rules r = {0};
  MUST(rules_parse(&r, "F", (const char *)data, size) == 0);
  for (size_t i = 0; i < r.n; i++) check_rule(&r.rule[i]);
  MUST(r.nproblems <= r.wrong && r.nproblems <= RULES_PROBLEMS);
  for (size_t i = 0; i < r.nproblems; i++) MUST(strncmp(r.problem[i], "F:", 2) == 0);
  for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
    const struct rule *found = rules_find(&r, &programs[i]);
    MUST(!found || (found >= r.rule && found < r.rule + r.n));
  }
  rules_free(&r);
  return 0;
}
