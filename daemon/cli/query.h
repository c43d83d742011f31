/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_QUERY_H
#define RATION_CLI_QUERY_H
/*
 * What the commands that only ask rationd share: their options.
 */
#include <stdbool.h>
#include <stdint.h>
#include "daemon/cli/cli.h"
#include "proto/wire.h"

/* --json and --socket: the options of such a command, all of them. */
extern const struct cli_option query_options[];

struct query_args {
  bool json;
  const char *socket; /* where to ask; never null */
};

#define QUERY_GO (-1)
/* Reads a command's arguments.  QUERY_GO, or the exit status to leave with: help was asked for, or an argument is wrong. */
int query_read_args(const struct cli_command *cmd, int argc, char **argv, struct query_args *args);
/* The same with a process id that may follow; 0: there is none. */
int query_read_args_pid(const struct cli_command *cmd, int argc, char **argv, struct query_args *args, uint32_t *pid);
/* As a process id. 0, or it is none and that has been said. */
int query_read_pid(const struct cli_command *cmd, const char *word, uint32_t *pid);

#endif
