/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose output is known beforehand, for the fault tests: whatever happens to daemon, pool or other
 * processes, it has to print the same line.
 *
 *   faults_worker [--threads T] [--rounds R] [--pause-ms MS] [--progress FILE]
 *
 * Each thread makes R rounds: a fixed computation; its result goes under a mutex into a common sum (addition, so
 * the order doesn't matter).  Now and then it passes a token to its neighbour through a pipe and waits for its own, meets all
 * the others at a barrier, waits for a condition, or sleeps.  An error, a lost wake-up or a broken lock either
 * ends it with a message, or changes the sum, or hangs it (the test has a time limit).
 * --layout: prints where the parts of a pool page are, for the tests that write into one.
 * --progress: one byte is appended after each barrier, so that a test can see that it runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "pool_page.h"

#define THREADS_MAX 64
#define UNIT 5000

static long threads = 6, rounds = 400, pause_ms;
static int ring[THREADS_MAX][2], progress = -1;
static pthread_barrier_t barrier;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, turn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static uint64_t sum;
static long turn;
static __thread uint64_t own; /* TLS has to stay with its thread */

static void die(const char *what, int err) {
  fprintf(stderr, "faults_worker: %s: %s\n", what, strerror(err));
  exit(3);
}

static uint64_t work(uint64_t x) {
  for (int i = 0; i < UNIT; i++) x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ULL + 1;
  return x;
}

static void pass_token(long me) {
  char c = (char)me;
  ssize_t n = write(ring[(me + 1) % threads][1], &c, 1);
  if (n != 1) die("write", n < 0 ? errno : EPIPE);
  n = read(ring[me][0], &c, 1);
  if (n != 1) die("read", n < 0 ? errno : EPIPE);
  if (c != (char)((me + threads - 1) % threads)) die("a token from the wrong thread", EINVAL);
}

/* Every thread once, in their order. */
static void take_turn(long me) {
  pthread_mutex_lock(&turn_lock);
  while (turn % threads != me) pthread_cond_wait(&turn_changed, &turn_lock);
  turn++;
  pthread_cond_broadcast(&turn_changed);
  pthread_mutex_unlock(&turn_lock);
}

static void nap(long ms) {
  struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
  while (nanosleep(&ts, &ts))
    if (errno != EINTR) die("nanosleep", errno);
}

static void *thread_main(void *arg) {
  long me = (long)(intptr_t)arg;
  own = (uint64_t)me + 1;
  for (long r = 0; r < rounds; r++) {
    errno = (int)me;
    own = work(own);
    if (errno != me) die("errno changed under a computation", EINVAL);
    pthread_mutex_lock(&lock);
    sum += own;
    pthread_mutex_unlock(&lock);
    if (r % 10 == 3) pass_token(me);
    if (r % 20 == 7) take_turn(me);
    if (r % 25 == 9) nap(1);
    if (r % 40 == 11) {
      int b = pthread_barrier_wait(&barrier);
      if (b && b != PTHREAD_BARRIER_SERIAL_THREAD) die("barrier", b);
      if (b && progress >= 0 && write(progress, ".", 1) != 1) die("progress", errno);
      if (b && pause_ms) nap(pause_ms);
    }
  }
  return (void *)(uintptr_t)(own & 0xffff);
}

static int print_layout(void) {
  printf("%zu %zu %zu %zu %zu\n", offsetof(struct pool_page, flags), offsetof(struct pool_page, tat), offsetof(struct pool_page, slots),
         offsetof(struct pool_page, members), POOL_PAGE_SIZE);
  return 0;
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"threads", 1, NULL, 't'},  {"rounds", 1, NULL, 'r'}, {"pause-ms", 1, NULL, 'p'},
                                           {"progress", 1, NULL, 'g'}, {"layout", 0, NULL, 'l'}, {NULL, 0, NULL, 0}};
  pthread_t t[THREADS_MAX];
  uint64_t ends = 0;
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 't') threads = atol(optarg);
    if (o == 'r') rounds = atol(optarg);
    if (o == 'p') pause_ms = atol(optarg);
    if (o == 'g' && (progress = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) < 0) die(optarg, errno);
    if (o == 'l') return print_layout();
    if (o == '?') return 2;
  }
  if (threads < 1 || threads > THREADS_MAX || rounds < 1) return 2;
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  for (long i = 0; i < threads; i++)
    if (pipe2(ring[i], O_CLOEXEC)) die("pipe2", errno);
  for (long i = 0; i < threads; i++) {
    int e = pthread_create(&t[i], NULL, thread_main, (void *)(intptr_t)i);
    if (e) die("pthread_create", e);
  }
  for (long i = 0; i < threads; i++) {
    void *end;
    int e = pthread_join(t[i], &end);
    if (e) die("pthread_join", e);
    ends = ends * 31 + (uint64_t)(uintptr_t)end;
  }
  printf("%016llx %016llx %ld\n", (unsigned long long)sum, (unsigned long long)ends, turn);
  return 0;
}
