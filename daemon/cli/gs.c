/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration gs: what the light Gs of a process do, and in free mode its threads.  The process says it itself:
 *
 *   ration --GS_QUERY, write end of a pipe--> rationd --DUMP_GS, the same--> the process's poller, which writes, and closes
 *
 * The end of the pipe is the end of the answer.  Names in it are the program's, so nothing of it reaches a terminal but text.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/conn.h"
#include "daemon/cli/query.h"

/* A process that writes nothing for so long is stopped, or its memory is being read from a disk. */
#define GS_SILENCE_MS 6000

static const struct cli_option options[] = {
    {"socket", 's', "PATH", "rationd's socket"},
    {0},
};

static void put_text(char *buf, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (((unsigned char)buf[i] < ' ' && buf[i] != '\n') || buf[i] == 0x7f) buf[i] = '?';
  fwrite(buf, 1, n, stdout);
}

static int copy_answer(const struct cli_command *cmd, int fd, uint32_t pid) {
  static char buf[65536];
  uint64_t total = 0;
  for (;;) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = poll(&p, 1, GS_SILENCE_MS);
    if (r < 0 && errno == EINTR) continue;
    if (r == 0) {
      cli_error(cmd, "process %u does not answer: it is stopped, or hangs", pid);
      return CLI_FAILED;
    }
    ssize_t n = r < 0 ? -1 : read(fd, buf, sizeof(buf));
    if (n < 0) {
      cli_error(cmd, "cannot read the answer: %s", strerror(errno));
      return CLI_FAILED;
    }
    if (n == 0) break;
    put_text(buf, (size_t)n);
    total += (uint64_t)n;
  }
  if (total == 0) puts("No light or thread Gs run in this process.");
  return CLI_OK;
}

static int gs_of(const struct cli_command *cmd, const char *socket, uint32_t pid) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) < 0) {
    cli_error(cmd, "cannot make a pipe: %s", strerror(errno));
    return CLI_FAILED;
  }
  struct wire_frame f = {.u.gs_query.pid = pid};
  int s = conn_hand_over(cmd, socket, &f, WIRE_GS_QUERY, fds[1]);
  close(fds[1]); /* the process's is the last one now */
  if (s == CLI_OK) s = copy_answer(cmd, fds[0], pid);
  close(fds[0]);
  return s;
}

static int gs_main(const struct cli_command *cmd, int argc, char **argv) {
  const char *socket = NULL, *arg;
  uint32_t pid;
  cli_begin_options();
  for (int i; (i = cli_next_option(cmd, argc, argv, &arg)) != CLI_OPT_END;) {
    if (i == CLI_OPT_HELP) return CLI_OK;
    if (i < 0) return CLI_USAGE;
    socket = arg;
  }
  if (argc - cli_rest() != 1) {
    cli_error(cmd, "needs one process id; see 'ration gs --help'");
    return CLI_USAGE;
  }
  if (query_read_pid(cmd, argv[cli_rest()], &pid) < 0) return CLI_USAGE;
  return gs_of(cmd, conn_socket_path(socket), pid);
}

const struct cli_command cli_gs = {
    .name = "gs",
    .usage = "[OPTION]... PID",
    .summary = "Show the light Gs of a process, or its threads in free mode, and their stacks",
    .usage_status = CLI_USAGE,
    .options = options,
    .main = gs_main,
    .text =
        "For each G its number, name, state, why it waits and for how long, its stack, and who\n"
        "created it.  The process must be attached to rationd and be yours.\n",
};
