/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_FATAL_H
#define RATION_TESTS_FATAL_H
/* What ends the program: it is done in a child of the case, which has to end as it should and say why. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit.h"

/* fn ends the program as a fatal misuse does, and says so. */
static inline void ends_the_program(void (*fn)(void), const char *text) {
  int fds[2], status = 0;
  char said[4096];
  ck_assert_int_eq(pipe(fds), 0);
  pid_t pid = fork();
  ck_assert_int_ge(pid, 0);
  if (pid == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGABRT, SIG_DFL);
    dup2(fds[1], 2);
    fn();
    _exit(0);
  }
  close(fds[1]);
  size_t n = 0;
  for (ssize_t r; n < sizeof said - 1 && (r = read(fds[0], said + n, sizeof said - 1 - n)) > 0;) n += (size_t)r;
  said[n] = 0;
  close(fds[0]);
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %#x, said: %s", text, (unsigned)status, said);
  ck_assert_msg(strstr(said, text) != NULL, "not \"%s\" but: %s", text, said);
}

#endif
