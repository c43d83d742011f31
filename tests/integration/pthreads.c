/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What POSIX, C11 and glibc promise about threads, as many small checks that print what they find.  test_pthreads.py runs each of
 * them without ration and in each of its modes, and compares: nothing here knows ration.  (posix.c has the blocking calls.)
 *
 *   pthreads list          the names, as table:check
 *   pthreads TABLE:CHECK   runs one
 */
#include "pthreads/checks.h"

const char *self_path;

static const struct table {
  const char *name;
  const struct check *checks;
} tables[] = {
    {"life", life_checks},         {"ends", ends_checks},       {"local", local_checks},   {"mutex", mutex_checks},
    {"wait", wait_checks},         {"cancel", cancel_checks},   {"unwind", unwind_checks}, {"signal", signal_checks},
    {"process", process_checks},   {"c11", c11_checks},         {"stress", stress_checks}, {"tid", tid_checks},
    {"socket", socket_checks},     {"sandbox", sandbox_checks}, {"number", number_checks}, {"part", part_checks},
    {"argument", argument_checks}, {"closed", closed_checks},   {"limit", limit_checks},
};
#define NTABLES (sizeof tables / sizeof *tables)

static void list(void) {
  for (size_t t = 0; t < NTABLES; t++)
    for (const struct check *c = tables[t].checks; c->name; c++) printf("%s:%s\n", tables[t].name, c->name);
}

static const struct check *find(const char *name) {
  for (size_t t = 0; t < NTABLES; t++) {
    size_t n = strlen(tables[t].name);
    if (strncmp(name, tables[t].name, n) != 0 || name[n] != ':') continue;
    for (const struct check *c = tables[t].checks; c->name; c++)
      if (strcmp(c->name, name + n + 1) == 0) return c;
  }
  return NULL;
}

int main(int argc, char **argv) {
  self_path = argv[0];
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    list();
    return 0;
  }
  const struct check *c = argc == 2 ? find(argv[1]) : NULL;
  if (!c) {
    fprintf(stderr, "usage: pthreads list | pthreads TABLE:CHECK\n");
    return 2;
  }
  c->run();
  fflush(stdout);
  _exit(0);
}
