/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_CONN_H
#define RATION_CLI_CONN_H
/*
 * One question to rationd and its answer.
 */
#include <stdint.h>
#include "daemon/cli/cli.h"
#include "proto/wire.h"

/* A daemon that says nothing for so long hangs; all of an answer takes no longer than the second. */
#define CONN_SILENCE_MS 3000
#define CONN_TOTAL_MS 10000
/* More rows than any honest daemon has. */
#define CONN_ROWS_MAX 1000000u

/* --socket, else RATION_SOCKET, else the default. */
const char *conn_socket_path(const char *option);

/*
 * Asks `query` and calls `row` for each frame of type `answer`: one where `many` is false, else until
 * WIRE_END.  Says on stderr what went wrong.  Exit status.
 */
int conn_ask(const struct cli_command *cmd, const char *socket_path, uint16_t query, uint16_t answer, bool many,
             void (*row)(void *ctx, const struct wire_frame *f), void *ctx);

/* The same for many, where the question is younger than the protocol: CONN_NOT_KNOWN, and nothing said, if rationd does not know it. */
#define CONN_NOT_KNOWN (-1)
int conn_ask_newer(const struct cli_command *cmd, const char *socket_path, uint16_t query, uint16_t answer,
                   void (*row)(void *ctx, const struct wire_frame *f), void *ctx);

/* Sends a request of this type with fd, and waits for OK.  Says on stderr what went wrong.  Exit status. */
int conn_hand_over(const struct cli_command *cmd, const char *socket_path, struct wire_frame *f, uint16_t type, int fd);

#endif
