/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pingpong: two threads pass one byte back and forth through two pipes.
 *
 *   pingpong [--rounds N] [--warm N]      prints ns a round trip
 *
 * Every round blocks both threads once, so this is the price of blocking read and
 * write wrappers and of handing a P over, and nothing else.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long rounds = 100000, warm = 2000;
static int there[2], back[2];

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void *echo(void *arg) {
  char c;
  for (long i = 0; i < rounds + warm; i++) {
    if (read(there[0], &c, 1) != 1) die("read");
    if (write(back[1], &c, 1) != 1) die("write");
  }
  return arg;
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"rounds", 1, NULL, 'r'}, {"warm", 1, NULL, 'w'}, {NULL, 0, NULL, 0}};
  pthread_t t;
  int64_t t0 = 0;
  char c = 'x';
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 'r') rounds = atol(optarg);
    if (o == 'w') warm = atol(optarg);
    if (o == '?' || rounds <= 0 || warm < 0) return 2;
  }
  if (pipe(there) || pipe(back)) die("pipe");
  if (pthread_create(&t, NULL, echo, NULL)) die("pthread_create");
  for (long i = 0; i < rounds + warm; i++) {
    if (i == warm) t0 = now_ns();
    if (write(there[1], &c, 1) != 1) die("write");
    if (read(back[0], &c, 1) != 1) die("read");
  }
  printf("%.1f\n", (double)(now_ns() - t0) / (double)rounds);
  pthread_join(t, NULL);
  return 0;
}
