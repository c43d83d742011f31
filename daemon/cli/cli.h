/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_CLI_H
#define RATION_CLI_CLI_H
/*
 * What the commands of `ration` share: their table, their options, their messages.
 *
 * A command gets its own argv (argv[0] is its name), reads its options by
 * cli_next_option from the table in its struct cli_command, and returns the exit status.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "daemon/util.h"

/* Exit statuses, documented in ration(1). */
#define CLI_OK 0
#define CLI_FAILED 1
#define CLI_USAGE 2
#define CLI_RUN_FAILED 125 /* `ration run` itself failed, not the command: as env, nice and timeout have it */
#define CLI_RUN_NOT_EXEC 126
#define CLI_RUN_NOT_FOUND 127

struct cli_option {
  const char *name; /* without the dashes; null ends the table */
  char letter;      /* or 0 */
  const char *arg;  /* name of its argument, or null */
  const char *help;
};

struct cli_command {
  const char *name;
  const char *usage;   /* what follows "ration NAME" */
  const char *summary; /* one line */
  const char *text;    /* more, for --help; or null */
  int usage_status;    /* exit status after a wrong option */
  const struct cli_option *options;
  int (*main)(const struct cli_command *cmd, int argc, char **argv);
};

extern const struct cli_command cli_run, cli_quota, cli_ps, cli_pool, cli_gs, cli_stats, cli_profile;
/* All of them; the last one has no name. */
extern const struct cli_command *const cli_commands[];

/* ---- options (options.c) ---- */

#define CLI_OPTIONS_MAX 16

/* Returned by cli_next_option besides an index into cmd->options. */
#define CLI_OPT_END (-1)  /* cli_rest tells where the other arguments begin */
#define CLI_OPT_BAD (-2)  /* said so; leave with cmd->usage_status */
#define CLI_OPT_HELP (-3) /* printed; leave with CLI_OK */

/* Starts over; then cli_next_option gives one after the other, with its argument in *arg. */
void cli_begin_options(void);
int cli_next_option(const struct cli_command *cmd, int argc, char **argv, const char **arg);
/* Index of the first argument that is no option. */
int cli_rest(void);
/* Complains about arguments after the options: true if there are none. */
bool cli_no_more(const struct cli_command *cmd, int argc, char **argv);
/* Finds the option of that name, for readable switch statements. */
bool cli_is(const struct cli_command *cmd, int index, const char *name);

/*
 * Edit distance: insert, delete, replace, swap neighbours.  cli_nearest returns the nearest of a
 * null-terminated list that is near enough to be meant, or null.
 */
unsigned cli_distance(const char *a, const char *b);
const char *cli_nearest(const char *word, const char *const *list);

/* ---- messages ---- */

/* "ration quota: text", one line on stderr, control characters replaced.  `cmd` may be null. */
void cli_error(const struct cli_command *cmd, const char *fmt, ...) _printf_(2, 3);
/* The same without the command's name: for notes about somebody else's program. */
void cli_note(const char *fmt, ...) _printf_(1, 2);
void cli_print_help(const struct cli_command *cmd);

/* ---- numbers ---- */

/* A decimal fraction to millionths: "1.5" -> 1500000.  -EINVAL if it isn't one, -ERANGE if it doesn't fit. */
int cli_parse_micro(const char *s, uint64_t *micro);
int cli_parse_uint(const char *s, uint64_t max, uint64_t *value);

#endif
