/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handoff: how long a P stays with a thread that blocks in the kernel where no wrapper sees it.
 *
 * Thread A makes the system call read on an empty pipe by an instruction of its own, so no library
 * can know that it blocks.  Thread B, which burns CPU and waits for the one P, must get it.
 * Figure: from just before A's system call to the first moment at which B runs.
 *
 * To be run where there is one P (RATION_MAXPROCS=1, or a quota of 1.0 with the program gated).
 *
 *   A                                              B
 *   spins until B has stood still for 300 µs       spins, stamps the clock in every turn
 *   and is asleep (waits for the P)                 .
 *   t0 = now; raw read, blocks ------------------> runs again: sees a gap in its own stamps, t1 = now
 *                                                  spins another 300 µs, then writes a byte
 *   reads it; latency = t1 - t0
 *   sleeps 2 ms by libc, so that it queues for the P like anyone
 *
 * A round counts only if B really waited.  Without ration on two CPUs B never waits: the program says so and exits with 3.
 *
 *   handoff [--rounds N] [--kernel]     prints rounds, p50, p90, p99, max in µs
 *   --kernel: both on one CPU, no ration: what the kernel's own scheduler takes, for comparison
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "raw_read.h"

#define STILL_NS 300000
#define PATIENCE_NS 2000000000LL

static long rounds = 300;
static bool on_one_cpu;
static int wake[2];
static int b_stat = -1;           /* /proc/self/task/B/stat */
static _Atomic int64_t b_stamp;   /* B: now, in every turn.  A reads it; release/acquire, though only its value matters */
static _Atomic int64_t b_resumed; /* B: end of its last gap; pairs with A's acquire after the raw read */
static _Atomic bool a_waits, b_is_up, stop;

static int64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void *b_main(void *arg) {
  char path[64];
  int64_t last, gap_end = 0;
  snprintf(path, sizeof path, "/proc/self/task/%ld/stat", (long)syscall(SYS_gettid));
  b_stat = open(path, O_RDONLY | O_CLOEXEC);
  atomic_store_explicit(&b_is_up, true, memory_order_release); /* pairs with main's wait */
  last = now_ns();
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    int64_t t = now_ns();
    atomic_store_explicit(&b_stamp, t, memory_order_release);
    if (t - last > STILL_NS / 2) {
      gap_end = t;
      atomic_store_explicit(&b_resumed, t, memory_order_release);
    }
    last = t;
    /* A waits, and has done so since before this stint: after a while let it go on. */
    if (!gap_end || t - gap_end <= STILL_NS || !atomic_load_explicit(&a_waits, memory_order_acquire)) continue;
    if (now_ns() - t > STILL_NS / 2) continue; /* the stint ended and A began to wait since we read the clock: the next turn sees the gap */
    atomic_store_explicit(&a_waits, false, memory_order_relaxed);
    if (write(wake[1], "x", 1) != 1) abort();
    last = now_ns();
  }
  return arg;
}

/* Does B sleep in the kernel?  (Not: has the kernel put another program on its CPU.) */
static bool b_sleeps(void) {
  char buf[512];
  long n;
  /* pread has no raw twin here; reopening would make wrappers run.  The file is small: seek back by lseek. */
  lseek(b_stat, 0, SEEK_SET);
  n = raw_read(b_stat, buf, sizeof buf - 1);
  if (n <= 0) return false;
  buf[n] = 0;
  const char *p = strrchr(buf, ')');
  return p && p[1] == ' ' && p[2] == 'S';
}

static bool b_stands_still(void) {
  if (now_ns() - atomic_load_explicit(&b_stamp, memory_order_acquire) <= STILL_NS) return false;
  return on_one_cpu || b_sleeps();
}

/* One round; the latency in ns, or -1 if B never waited. */
static int64_t one_round(void) {
  int64_t t0, t1, begin = now_ns();
  char c;
  while (!b_stands_still())
    if (now_ns() - begin > PATIENCE_NS) return -1;
  atomic_store_explicit(&a_waits, true, memory_order_release);
  t0 = now_ns();
  if (raw_read(wake[0], &c, 1) != 1) {
    fprintf(stderr, "handoff: the raw read failed\n");
    exit(1);
  }
  t1 = atomic_load_explicit(&b_resumed, memory_order_acquire);
  usleep(2000);
  return t1 > t0 ? t1 - t0 : 0;
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void pin_all(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  if (sched_setaffinity(0, sizeof set, &set)) perror("sched_setaffinity"), exit(1);
}

static double quantile_us(const int64_t *sorted, long n, long percent) {
  long at = n * percent / 100;
  return (double)sorted[at] / 1e3;
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"rounds", 1, NULL, 'r'}, {"kernel", 0, NULL, 'k'}, {NULL, 0, NULL, 0}};
  pthread_t b;
  int64_t *ns;
  long n = 0;
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 'r') rounds = atol(optarg);
    if (o == 'k') on_one_cpu = true;
    if (o == '?' || rounds <= 0) return 2;
  }
  if (on_one_cpu) pin_all();
  if (pipe(wake) || !(ns = calloc((size_t)rounds, sizeof *ns))) return 1;
  if (pthread_create(&b, NULL, b_main, NULL)) return 1;
  while (!atomic_load_explicit(&b_is_up, memory_order_acquire)) usleep(1000);
  for (long i = 0; i < rounds; i++) {
    int64_t l = one_round();
    if (l < 0) break;
    if (l > 0) ns[n++] = l;
  }
  atomic_store_explicit(&stop, true, memory_order_relaxed);
  pthread_join(b, NULL);
  if (n < rounds / 2) {
    fprintf(stderr, "handoff: thread B waited for the P in only %ld of %ld rounds: is there one P, and is the program gated?\n", n, rounds);
    return 3;
  }
  qsort(ns, (size_t)n, sizeof *ns, by_value);
  printf("%ld %.1f %.1f %.1f %.1f\n", n, quantile_us(ns, n, 50), quantile_us(ns, n, 90), quantile_us(ns, n, 99), (double)ns[n - 1] / 1e3);
  free(ns);
  return 0;
}
