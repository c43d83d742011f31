/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpingpong: two threads take turns, by a mutex and a condition variable for each of them.
 *
 *   cpingpong [--rounds N] [--warm N]      prints ns a round trip.  How many CPUs: by what the caller gives it
 */
#include "vs_go/vs_go.h"
#include <getopt.h>
#include <pthread.h>

static long rounds = 100000, warm = 2000;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned[2] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};
static int turn;

/* Waits until it is my turn, and passes it on. */
static void play(int me) {
  pthread_mutex_lock(&mu);
  while (turn != me) pthread_cond_wait(&turned[me], &mu);
  turn = !me;
  pthread_cond_signal(&turned[!me]);
  pthread_mutex_unlock(&mu);
}

static void *player(void *arg) {
  int me = (int)(intptr_t)arg;
  int64_t began = 0;
  for (long i = 0; i < rounds + warm; i++) {
    if (i == warm) began = now_ns();
    play(me);
  }
  if (me == 0) figure_each(began, rounds);
  return NULL;
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"rounds", 1, NULL, 'r'}, {"warm", 1, NULL, 'w'}, {NULL, 0, NULL, 0}};
  pthread_t t[2];
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 'r') rounds = atol(optarg);
    if (o == 'w') warm = atol(optarg);
    if (o == '?' || rounds <= 0 || warm < 0) return 2;
  }
  for (long i = 0; i < 2; i++) must(pthread_create(&t[i], NULL, player, (void *)(intptr_t)i), "cpingpong: pthread_create");
  for (int i = 0; i < 2; i++) must(pthread_join(t[i], NULL), "cpingpong: pthread_join");
  return 0;
}
