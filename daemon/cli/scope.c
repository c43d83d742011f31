/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cli/scope.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include "daemon/util.h"

#define WORDS_MAX 4096
#define BYTES_MAX (1u << 17) /* one word may be as long as that for the kernel; all of them here */

bool scope_is_second(void) {
  const char *before = getenv(SCOPE_AGAIN);
  if (!before) return false;
  if (*before)
    setenv(SCOPE_INVOCATION, before, 1);
  else
    unsetenv(SCOPE_INVOCATION);
  unsetenv(SCOPE_AGAIN);
  return true;
}

int scope_command(const char **argv, size_t most, const char *self, const char *words, size_t bytes) {
  static const char *const systemd[] = {"systemd-run", "--scope", "--quiet", "--collect", "--slice-inherit", "-p", "Delegate=yes", "--"};
  size_t n = 0;
  if (most < SCOPE_WORDS + 1) return -E2BIG;
  for (size_t i = 0; i < sizeof(systemd) / sizeof(*systemd); i++) argv[n++] = systemd[i];
  argv[n++] = self;
  for (const char *w = words, *end = words + bytes; w < end; w += strnlen(w, (size_t)(end - w)) + 1) {
    if (w == words) continue; /* what it was called */
    if (n + 1 >= most) return -E2BIG;
    argv[n++] = w;
  }
  argv[n] = NULL;
  return (int)n;
}

/* /proc/self/cmdline, which is not changed by who parses options.  Its length, or -1. */
static ssize_t own_words(char *buf, size_t cap) {
  _cleanup_fclose_ FILE *f = fopen("/proc/self/cmdline", "re");
  size_t n = f ? fread(buf, 1, cap, f) : 0;
  if (n == 0 || n == cap || buf[n - 1] != 0) return -1; /* or it does not fit */
  return (ssize_t)n;
}

void scope_enter(void) {
  static char self[PATH_MAX], words[BYTES_MAX];
  static const char *argv[WORDS_MAX];
  if (geteuid() != 0 || sd_booted() <= 0) return;
  ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1), bytes = own_words(words, sizeof(words));
  if (len <= 0 || bytes < 0) return;
  self[len] = 0;
  const char *before = getenv(SCOPE_INVOCATION);
  if (scope_command(argv, WORDS_MAX, self, words, (size_t)bytes) < 0 || setenv(SCOPE_AGAIN, before ? before : "", 1) < 0) return;
  execvp(argv[0], (char *const *)(uintptr_t)argv);
  unsetenv(SCOPE_AGAIN);
}
