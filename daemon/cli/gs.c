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
#include "daemon/cli/harmless.h"
#include "daemon/cli/query.h"

/* A process that writes nothing for so long is stopped, or its memory is being read from a disk. */
#define GS_SILENCE_MS 6000
/* All of its answer is waited for so long: silence at first, then the 5 s that libration writes for. */
#define GS_TOTAL_MS 12000

static const struct cli_option options[] = {
    {"socket", 's', "PATH", "rationd's socket"},
    {0},
};

/* The answer so far; what is in buf is the beginning of a character. */
struct answer {
  int fd;
  uint64_t waited_ns; /* not counted is what whoever reads ours lets us wait */
  size_t kept;
  bool any;
  char buf[65536];
};

/* The next part: how many bytes; 0: it has ended; -ETIME: no more is waited for; another -errno. */
static ssize_t next_part(struct answer *a) {
  for (;;) {
    struct pollfd p = {.fd = a->fd, .events = POLLIN};
    uint64_t began = now_ns(), left = GS_TOTAL_MS - UTIL_MIN(a->waited_ns / NS_PER_MS, GS_TOTAL_MS);
    int r = left ? poll(&p, 1, (int)UTIL_MIN(left, GS_SILENCE_MS)) : 0;
    ssize_t n = r > 0 ? read(a->fd, a->buf + a->kept, sizeof(a->buf) - a->kept) : r < 0 ? -1 : -ETIME;
    if (n == -1) n = -errno;
    a->waited_ns += now_ns() - began;
    if (n != -EINTR) return n;
  }
}

static void put_part(struct answer *a, size_t n, bool last) {
  size_t have = a->kept + n, done = harmless_part(a->buf, have, HARMLESS_LINES, last);
  fwrite(a->buf, 1, done, stdout);
  a->kept = have - done;
  memmove(a->buf, a->buf + done, a->kept);
  a->any |= n > 0;
}

static int copy_answer(const struct cli_command *cmd, int fd, uint32_t pid) {
  static struct answer a; /* large */
  ssize_t n;
  a.fd = fd;
  while ((n = next_part(&a)) > 0) put_part(&a, (size_t)n, false);
  put_part(&a, 0, true);
  if (n == 0) {
    if (!a.any) puts("No light or thread Gs run in this process.");
    return CLI_OK;
  }
  if (n != -ETIME)
    cli_error(cmd, "cannot read the answer: %s", strerror((int)-n));
  else if (a.waited_ns >= GS_TOTAL_MS * NS_PER_MS)
    cli_error(cmd, "process %u has not come to the end of its answer in %u s", pid, GS_TOTAL_MS / 1000);
  else
    cli_error(cmd, "process %u does not answer: it is stopped, or hangs", pid);
  return CLI_FAILED;
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
