/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpingpong: two threads take turns, by a mutex and a condition variable for each of them.
 *
 *   cpingpong [--rounds N] [--seconds S]      prints ns a round trip, of N rounds or as many as there are in S seconds (100,000; 5)
 *
 * How many CPUs: by what the caller gives it.
 */
#include "vs_go/vs_go.h"
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>

#define LOOK_EACH 16 /* rounds from one look at the clock to the next */

static long rounds = 100000;
static double seconds = 5;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned[2] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};
static int turn;
static bool over;

/* Waits until it is my turn, and passes it on.  False: the other one plays no more. */
static bool play(int me, bool last) {
  pthread_mutex_lock(&mu);
  while (turn != me && !over) pthread_cond_wait(&turned[me], &mu);
  bool mine = turn == me;
  turn = !me;
  over |= last;
  pthread_cond_signal(&turned[!me]);
  pthread_mutex_unlock(&mu);
  return mine;
}

/* How many rounds there were. */
static long play_for(long most, double at_most) {
  int64_t end = now_ns() + (int64_t)(at_most * 1e9);
  long n = 0;
  while (n < most && (n % LOOK_EACH || now_ns() < end)) {
    play(0, false);
    n++;
  }
  return n;
}

static void *first(void *arg) {
  play_for(rounds / 20, seconds / 20); /* first what happens once */
  int64_t began = now_ns();
  figure_each(began, play_for(rounds, seconds));
  play(0, true);
  return arg;
}

static void *second(void *arg) {
  while (play(1, false)) continue;
  return arg;
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"rounds", 1, NULL, 'r'}, {"seconds", 1, NULL, 's'}, {NULL, 0, NULL, 0}};
  pthread_t t[2];
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 'r') rounds = atol(optarg);
    if (o == 's') seconds = atof(optarg);
    if (o == '?' || rounds <= 0 || seconds <= 0) return 2;
  }
  must(pthread_create(&t[0], NULL, first, NULL), "cpingpong: pthread_create");
  must(pthread_create(&t[1], NULL, second, NULL), "cpingpong: pthread_create");
  for (int i = 0; i < 2; i++) must(pthread_join(t[i], NULL), "cpingpong: pthread_join");
  return 0;
}
