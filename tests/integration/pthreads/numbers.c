/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of descriptors: the program's are the lowest, and it may use any, whatever else has some. */
#include <fcntl.h>
#include <sys/syscall.h>
#include "checks.h"

#define NUMBERS 1024 /* as many as there may be by default */
#define KEPT 3       /* standard input, output and error */

static void *sleep_a_little(void *arg) {
  nap(2);
  return arg;
}
static void *read_byte(void *arg) {
  char byte = 0;
  ssize_t n = read(*(int *)arg, &byte, 1);
  return (void *)(intptr_t)(n == 1 ? byte : -1);
}
/* A thread waits for a pipe, others sleep, and all are woken. */
static void wait_and_wake(void) {
  int ends[2], good = 0;
  MUST(pipe(ends) == 0);
  for (int i = 0; i < 5; i++) {
    pthread_t t = start(read_byte, &ends[0]), s = start(sleep_a_little, NULL);
    pthread_join(s, NULL);
    MUST(write(ends[1], "x", 1) == 1);
    good += join_value(t) == 'x';
  }
  close(ends[0]);
  close(ends[1]);
  say("woken %d", good);
}

static void lowest_number(void) {
  int ends[2];
  MUST(pipe(ends) == 0);
  close(STDIN_FILENO);
  pthread_t t = start(read_byte, &ends[0]);
  nap(20);
  int null = open("/dev/null", O_RDWR), another = open("/dev/null", O_RDWR);
  say("is standard input %d, next %d", null == STDIN_FILENO, another == ends[1] + 1);
  MUST(write(ends[1], "x", 1) == 1);
  say("read %ld", (long)join_value(t));
}

static int numbers_end(void) {
  int most = (int)sysconf(_SC_OPEN_MAX);
  return most > NUMBERS || most < 0 ? NUMBERS : most;
}

enum closes { CLOSE, CLOSE_RAW, CLOSE_RANGE, CLOSE_FROM };
static void close_numbers(enum closes how) {
  int closed = 0, r = 0;
  if (how == CLOSE_RANGE) r = close_range(KEPT, ~0u, 0);
  if (how == CLOSE_FROM) closefrom(KEPT);
  for (int fd = KEPT; how <= CLOSE_RAW && fd < numbers_end(); fd++) closed += (how == CLOSE ? close(fd) : (int)syscall(SYS_close, fd)) == 0;
  say("closed %d %d", closed, r);
  wait_and_wake();
}
static void numbers_closed(void) {
  wait_and_wake();
  for (int how = CLOSE; how <= CLOSE_FROM; how++) close_numbers((enum closes)how);
}

static void numbers_taken(void) {
  char path[] = "/tmp/ration-numbers-XXXXXX";
  int file = mkstemp(path), taken = 0;
  MUST(file == KEPT && unlink(path) == 0);
  wait_and_wake();
  for (int fd = KEPT + 1; fd < numbers_end() - 8; fd++)
    taken += (fd % 3 == 0 ? (int)syscall(SYS_dup3, file, fd, 0) : fd % 3 == 1 ? dup3(file, fd, O_CLOEXEC) : dup2(file, fd)) == fd;
  say("all %d", taken == numbers_end() - 9 - KEPT);
  for (int i = 0; i < 3; i++) wait_and_wake();
  say("written %ld", (long)lseek(file, 0, SEEK_END));
}

const struct check number_checks[] = {CHECK(lowest_number), CHECK(numbers_closed), CHECK(numbers_taken), CHECKS_END};
