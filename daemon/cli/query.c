/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration ps, pool and stats: reading their arguments.
 */
#include "daemon/cli/query.h"
#include <errno.h>
#include <stdio.h>
#include "daemon/cli/conn.h"
#include "daemon/cli/text.h"

const struct cli_option query_options[] = {
    {"json", 'j', NULL, "print JSON"},
    {"socket", 's', "PATH", "rationd's socket"},
    {0},
};

static int read_options(const struct cli_command *cmd, int argc, char **argv, struct query_args *args) {
  const char *socket = NULL, *arg;
  args->json = false;
  cli_begin_options();
  for (int i; (i = cli_next_option(cmd, argc, argv, &arg)) != CLI_OPT_END;) {
    if (i == CLI_OPT_HELP) return CLI_OK;
    if (i < 0) return CLI_USAGE;
    if (cli_is(cmd, i, "json")) args->json = true;
    if (cli_is(cmd, i, "socket")) socket = arg;
  }
  args->socket = conn_socket_path(socket);
  return QUERY_GO;
}

int query_read_args(const struct cli_command *cmd, int argc, char **argv, struct query_args *args) {
  int s = read_options(cmd, argc, argv, args);
  return s == QUERY_GO && !cli_no_more(cmd, argc, argv) ? CLI_USAGE : s;
}

int query_read_pid(const struct cli_command *cmd, const char *word, uint32_t *pid) {
  uint64_t v;
  if (cli_parse_uint(word, INT32_MAX, &v) < 0 || v == 0) {
    cli_error(cmd, "'%s' is no process id", word);
    return -EINVAL;
  }
  *pid = (uint32_t)v;
  return 0;
}

int query_read_args_pid(const struct cli_command *cmd, int argc, char **argv, struct query_args *args, uint32_t *pid) {
  *pid = 0;
  int s = read_options(cmd, argc, argv, args);
  if (s != QUERY_GO || argc == cli_rest()) return s;
  if (argc - cli_rest() > 1) {
    cli_error(cmd, "takes one process id at most; see 'ration %s --help'", cmd->name);
    return CLI_USAGE;
  }
  return query_read_pid(cmd, argv[cli_rest()], pid) < 0 ? CLI_USAGE : QUERY_GO;
}
