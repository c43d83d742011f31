/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_CHILD_H
#define RATION_CLI_CHILD_H
/*
 * Running the command as a child inside a transient cgroup, so that it looks to
 * everyone as if it had been started without us.
 */
#include "daemon/cli/binary.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/transient.h"

/*
 * Makes the cgroup at t's places, starts the program at `path` in it, passes signals on, waits, removes the cgroup.  Returns the exit status of
 * the command, or what cli_exec_failed or CLI_RUN_FAILED say; dies by the signal that killed the command.
 */
int child_run(const struct cli_command *cmd, const struct binary *b, const char *path, char **argv, struct transient *t);

/* "ration run: foo: command not found", and 127 or 126. */
int cli_exec_failed(const struct cli_command *cmd, const char *what, int err);

#endif
