/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that answer requests, all of which are there from the start: no read waits.  Prints the most that one of them answered one after another while another
 * had some left.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS 6
#define REQUESTS 100
#define REQUEST_NS 60000u

static pthread_barrier_t all;
static int fds[THREADS][2], order[THREADS * REQUESTS];
static unsigned answered;

static void must(int ok, const char *what) {
  if (ok) return;
  perror(what);
  exit(2);
}

static uint64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *serve(void *arg) {
  int me = *(int *)arg;
  char c;
  pthread_barrier_wait(&all);
  for (int i = 0; i < REQUESTS; i++) {
    must(read(fds[me][0], &c, 1) == 1, "read");
    for (uint64_t until = now_ns() + REQUEST_NS; now_ns() < until;) continue;
    order[__atomic_fetch_add(&answered, 1, __ATOMIC_RELAXED)] = me;
    must(write(fds[me][0], &c, 1) == 1, "write");
  }
  return NULL;
}

static int longest_run(void) {
  int left[THREADS], busy = THREADS, run = 0, longest = 0;
  for (int i = 0; i < THREADS; i++) left[i] = REQUESTS;
  for (int i = 0; i < THREADS * REQUESTS && busy > 1; i++) {
    run = i && order[i] == order[i - 1] ? run + 1 : 1;
    if (run > longest) longest = run;
    if (--left[order[i]] == 0) busy--;
  }
  return longest;
}

int main(void) {
  pthread_t t[THREADS];
  int id[THREADS];
  char c = 0;
  must(pthread_barrier_init(&all, NULL, THREADS) == 0, "pthread_barrier_init");
  for (int i = 0; i < THREADS; i++) {
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]) == 0, "socketpair");
    for (int k = 0; k < REQUESTS; k++) must(write(fds[i][1], &c, 1) == 1, "write");
  }
  for (int i = 0; i < THREADS; i++) id[i] = i, must(pthread_create(&t[i], NULL, serve, &id[i]) == 0, "pthread_create");
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  printf("%d\n", longest_run());
  return 0;
}
