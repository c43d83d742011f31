/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration: the command line.  Finds the command and runs it; knows --help,
 * --version and what was probably meant by an unknown word.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "daemon/cli/binary.h"
#include "daemon/cli/cli.h"
#include "proto/wire.h"

#ifndef RATION_VERSION
#define RATION_VERSION "unknown"
#endif

const struct cli_command *const cli_commands[] = {&cli_run, &cli_quota, &cli_ps, &cli_pool, &cli_gs, &cli_stats, &cli_profile, NULL};

static const struct cli_command *find_command(const char *name) {
  for (const struct cli_command *const *c = cli_commands; *c; c++)
    if (strcmp((*c)->name, name) == 0) return *c;
  return NULL;
}

static void print_usage(FILE *to) {
  fputs(
      "Usage: ration COMMAND [OPTION]... [ARGUMENT]...\n"
      "Runs programs on exactly the CPU that their cgroup was given, and shows who has how much.\n\n",
      to);
  for (const struct cli_command *const *c = cli_commands; *c; c++) fprintf(to, "  %-8s %s\n", (*c)->name, (*c)->summary);
  fputs(
      "\n  -h, --help [COMMAND]\n  -V, --version\n\n"
      "RATION_SOCKET names the socket of rationd (" WIRE_SOCKET_PATH ").  See ration(1).\n",
      to);
}

static int help(const char *name) {
  const struct cli_command *c = name ? find_command(name) : NULL;
  if (c)
    cli_print_help(c);
  else
    print_usage(stdout);
  return CLI_OK;
}

static int version(void) {
  printf("ration %s (protocol %u)\n", RATION_VERSION, WIRE_VERSION);
  return CLI_OK;
}

static int unknown(const char *word) {
  const char *names[] = {"run", "quota", "ps", "pool", "gs", "stats", "profile", "help", "--help", "--version", "version", NULL};
  const char *near = cli_nearest(word, names);
  struct binary_path path;
  if (near)
    cli_error(NULL, "unknown command '%s'; did you mean 'ration %s'?", word, near);
  else if (word[0] != '-' && binary_find(word, &path) == 0)
    cli_error(NULL, "unknown command '%s'; to run the program: ration run -- %s", word, word);
  else
    cli_error(NULL, "unknown %s '%s'; see 'ration --help'", word[0] == '-' ? "option" : "command", word);
  return CLI_USAGE;
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    print_usage(stderr);
    return CLI_USAGE;
  }
  const char *word = argv[1];
  const struct cli_command *c = find_command(word);
  if (c) return c->main(c, argc - 1, argv + 1);
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
    if (argc > 2 && !find_command(argv[2])) return unknown(argv[2]);
    return help(argv[2]);
  }
  if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 || strcmp(word, "version") == 0) return version();
  return unknown(word);
}

/*
 * A standard descriptor that we were started without could become a file or a pipe of ours, and our messages go there.  What takes its place
 * fails as a closed one does when it is read or written, and the command that we become, or start, begins without it as we did.
 */
static void hold_standard_descriptors(void) {
  int fd;
  do fd = open("/", O_PATH | O_CLOEXEC);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

/* The status for output that could not be written. */
static int failed_status(int argc, char **argv) { return argc > 1 && find_command(argv[1]) == &cli_run ? CLI_RUN_FAILED : CLI_FAILED; }

int main(int argc, char **argv) {
  hold_standard_descriptors();
  int status = dispatch(argc, argv);
  /* A full disk or a closed pipe behind stdout: half a table is no answer. */
  if (fflush(stdout) != 0 || ferror(stdout)) {
    cli_error(NULL, "cannot write the output: %s", strerror(errno));
    if (status == CLI_OK) status = failed_status(argc, argv);
  }
  return status;
}
