/* SPDX-License-Identifier: Apache-2.0 */
/* 40 threads that compute for 1 ms at a time, and yield.  Prints how many kernel threads there are in the end. */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define THREADS 40
#define TURNS 5
#define TURN_NS 1000000u

static uint64_t turn; /* steps of TURN_NS */
static volatile uint64_t sink;

static uint64_t cpu_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void compute(uint64_t steps) {
  for (uint64_t i = 0; i < steps; i++) sink += i;
}

/* The fastest of some tries: a turn is not longer than it should be. */
static void calibrate(void) {
  const uint64_t steps = 1000000;
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 10; i++) {
    uint64_t at = cpu_ns();
    compute(steps);
    uint64_t took = cpu_ns() - at;
    if (took < least) least = took;
  }
  turn = steps * TURN_NS / (least ? least : 1);
}

static void *work(void *arg) {
  for (int i = 0; i < TURNS; i++) {
    compute(turn);
    sched_yield();
  }
  return arg;
}

int main(void) {
  pthread_t t[THREADS];
  char line[128];
  FILE *f;
  calibrate();
  for (int i = 0; i < THREADS; i++)
    if (pthread_create(&t[i], NULL, work, NULL) != 0) return 1;
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  if (!(f = fopen("/proc/self/status", "r"))) return 1;
  while (fgets(line, sizeof line, f))
    if (strncmp(line, "Threads:", 8) == 0) printf("%s", line + 8);
  fclose(f);
  return 0;
}
