/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parked: many threads, all of them waiting on one condition variable; then all are woken and joined.
 *
 *   parked [--threads N] [--stack KIB] [--rest SECONDS]      100,000 threads with stacks of 64 KiB, woken after 0 s
 *
 * Prints "figure value":
 *   created    threads that there are; fewer than N: pthread_create failed, or the machine was about to run out of thread ids
 *   error      what pthread_create gave; -1: it was stopped before ids ran out
 *   kernel     kernel threads of the process when all wait
 *   resting    the same after --rest SECONDS (not in end_ns, nor seconds)
 *   bytes      memory of a thread while all wait: resident pages, page tables, kernel stacks
 *   create_ns  from the first pthread_create until all wait, per thread
 *   end_ns     from the broadcast until all are joined, per thread
 *   seconds    all of it
 */
#include "vs_go/vs_go.h"
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#define KERNEL_STACK 16384 /* of a thread, on x86-64 and aarch64 */
#define SPARE_IDS 2000     /* left to other programs: whoever takes the last id keeps them all from starting anything */
#define LOOK_EACH 512

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER, arrival = PTHREAD_COND_INITIALIZER;
static long arrived, awaited = -1, passed;
static bool open_now;

static void *park(void *arg) {
  pthread_mutex_lock(&mu);
  if (++arrived == awaited) pthread_cond_signal(&arrival);
  while (!open_now) pthread_cond_wait(&opened, &mu);
  passed++;
  pthread_mutex_unlock(&mu);
  return arg;
}

/* The number at the start of a one-line file, or after `after` in it; -1: there is none. */
static long number_in(const char *path, const char *after) {
  char line[256];
  FILE *f = fopen(path, "re");
  const char *p = NULL;
  if (!f) return -1;
  if (fgets(line, sizeof line, f)) p = after ? strstr(line, after) : line;
  fclose(f);
  return p ? strtol(p + (after ? strlen(after) : 0), NULL, 10) : -1;
}

/* Thread ids that the machine has left. */
static long ids_left(void) {
  long pids = number_in("/proc/sys/kernel/pid_max", NULL), threads = number_in("/proc/sys/kernel/threads-max", NULL);
  return (threads > 0 && threads < pids ? threads : pids) - number_in("/proc/loadavg", "/");
}

static double held_bytes(void) { return resident_bytes() + (double)KERNEL_STACK * (double)proc_kb("/proc/self/status", "Threads"); }

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"threads", 1, NULL, 't'}, {"stack", 1, NULL, 's'}, {"rest", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};
  long n = 100000, stack = 64, rest = 0, created = 0;
  pthread_attr_t attr;
  int o, error = 0;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 't') n = atol(optarg);
    if (o == 's') stack = atol(optarg);
    if (o == 'r') rest = atol(optarg);
    if (o == '?' || n <= 0 || stack <= 0 || rest < 0) return 2;
  }
  must(pthread_attr_init(&attr), "parked: pthread_attr_init");
  must(pthread_attr_setstacksize(&attr, (size_t)stack << 10), "parked: --stack");
  pthread_t *t = calloc((size_t)n, sizeof *t);
  if (!t) die("parked");
  double before = held_bytes();
  int64_t began = now_ns();
  for (; created < n; created++) {
    if (created % LOOK_EACH == 0 && ids_left() < SPARE_IDS + LOOK_EACH) error = -1;
    if (!error) error = pthread_create(&t[created], &attr, park, t);
    if (error) break;
  }
  pthread_mutex_lock(&mu);
  awaited = created;
  while (arrived < created) pthread_cond_wait(&arrival, &mu);
  pthread_mutex_unlock(&mu);
  int64_t all = now_ns();

  long kernel = proc_kb("/proc/self/status", "Threads");
  double bytes = held_bytes() - before;
  sleep((unsigned)rest);
  long resting = proc_kb("/proc/self/status", "Threads");

  int64_t waking = now_ns();
  pthread_mutex_lock(&mu);
  open_now = true;
  pthread_cond_broadcast(&opened);
  pthread_mutex_unlock(&mu);
  for (long i = 0; i < created; i++) {
    void *gave;
    must(pthread_join(t[i], &gave), "parked: pthread_join");
    if (gave != t) abort();
  }
  int64_t end = now_ns();
  if (passed != created) abort();

  double each = created ? (double)created : 1;
  figure("created", (double)created);
  figure("error", error);
  figure("kernel", (double)kernel);
  figure("resting", (double)resting);
  figure("bytes", bytes / each);
  figure("create_ns", (double)(all - began) / each);
  figure("end_ns", (double)(end - waking) / each);
  figure("seconds", (double)(all - began + end - waking) / 1e9);
  free(t);
  return 0;
}
