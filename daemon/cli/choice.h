/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_CHOICE_H
#define RATION_CLI_CHOICE_H
/*
 * What a command gets: by option, by the caller's environment, by a rule, or by default.
 */
#include "daemon/cli/binary.h"
#include "daemon/cli/rules.h"

enum choice_by { CHOICE_BY_OPTION, CHOICE_BY_ENVIRONMENT, CHOICE_BY_RULE, CHOICE_BY_DEFAULT };

struct choice {
  const struct rule *rule; /* or null */
  const char *threads;     /* what RATION_THREADS is, or what the library takes for it */
  enum choice_by threads_by;
  bool set_threads;  /* into the environment */
  uint32_t maxprocs; /* to be set; 0: not */
};

/* `path` is the file that argv[0] was found at, b what it is.  `threads`: of --threads; null: not given. */
void choice_make(struct choice *c, const struct rules *rules, const struct binary *b, const char *path, char *const *argv,
                 const char *threads);
/* Is this variable of the rule ("NAME=VALUE") for the program, or has the user set it? */
bool choice_sets(const char *word);
/* Sets the environment.  0 or -errno. */
int choice_apply(const struct choice *c);

#endif
