/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn: what a preloaded library costs the start of a program.
 *
 *   spawn [--runs N] LIBRARY CMD [ARG...]
 *
 * Runs CMD to its end N times without and N times with LD_PRELOAD=LIBRARY, in
 * turns, so that both see the same state of the machine.  Prints the medians and the 99th
 * percentiles in µs: plain p50, p99, preloaded p50, p99.
 */
#include <errno.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_us(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static double one_run(char **argv) {
  int status;
  pid_t pid;
  double t0 = now_us();
  int r = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
  if (r) {
    fprintf(stderr, "spawn: %s: %s\n", argv[0], strerror(r));
    exit(1);
  }
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status)) {
    fprintf(stderr, "spawn: %s failed, status %d\n", argv[0], status);
    exit(1);
  }
  return now_us() - t0;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  long runs = 200;
  int at = 1;
  if (argc > 2 && !strcmp(argv[1], "--runs")) runs = atol(argv[2]), at = 3;
  if (argc - at < 2 || runs < 1 || runs > 1000000) {
    fprintf(stderr, "spawn [--runs N] LIBRARY CMD [ARG...]\n");
    return 2;
  }
  double *us[2] = {calloc((size_t)runs, sizeof(double)), calloc((size_t)runs, sizeof(double))};
  if (!us[0] || !us[1]) return 1;
  for (long i = 0; i < runs; i++) {
    unsetenv("LD_PRELOAD");
    us[0][i] = one_run(argv + at + 1);
    setenv("LD_PRELOAD", argv[at], 1);
    us[1][i] = one_run(argv + at + 1);
  }
  for (int k = 0; k < 2; k++) {
    qsort(us[k], (size_t)runs, sizeof(double), by_value);
    printf("%.1f %.1f%c", us[k][runs / 2], us[k][(runs * 99) / 100], k ? '\n' : ' ');
    free(us[k]);
  }
  return 0;
}
