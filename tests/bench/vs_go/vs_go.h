/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_BENCH_VS_GO_H
#define RATION_BENCH_VS_GO_H
/*
 * What the C programs of this benchmark share: the clock, the figures they print, what memory they hold.
 *
 * Each program is called as  PROGRAM WORK [N]  and prints lines "figure value"; vs_go.py reads them.  N: how often.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline int64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static inline void spin_ns(int64_t ns) {
  int64_t end = now_ns() + ns;
  while (now_ns() < end) continue;
}

static inline void figure(const char *name, double value) { printf("%s %.2f\n", name, value); }
/* Time since `began` for each of n. */
static inline void figure_each(int64_t began, long n) { figure("ns", (double)(now_ns() - began) / (double)n); }

_Noreturn static inline void die(const char *what) {
  perror(what);
  exit(1);
}
/* For calls that return 0 or -errno. */
static inline void must(int status, const char *what) {
  if (!status) return;
  fprintf(stderr, "%s: %s\n", what, strerror(status < 0 ? -status : status));
  exit(1);
}

static inline int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* Median and p99 of n latencies of `rounds` rounds.  Rounds in which what was to wait had run too early do not count; half of them must. */
static inline void figure_latencies(int64_t *ns, long n, long rounds) {
  if (n < rounds / 2 || n == 0) {
    fprintf(stderr, "only %ld of %ld rounds counted: the other one ran too early\n", n, rounds);
    exit(3);
  }
  qsort(ns, (size_t)n, sizeof *ns, by_value);
  int64_t p50 = ns[n / 2], p99 = ns[n * 99 / 100];
  figure("p50_ns", (double)p50);
  figure("p99_ns", (double)p99);
  figure("rounds", (double)n);
}

/* Sum of the kB after `key` in a file of /proc; -1: there is none. */
static inline long proc_kb(const char *path, const char *key) {
  char line[256];
  long kb = -1;
  FILE *f = fopen(path, "re");
  if (!f) return -1;
  while (fgets(line, sizeof line, f))
    if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':') kb = atol(line + strlen(key) + 1);
  fclose(f);
  return kb;
}

/* Resident bytes of this process, its page tables included. */
static inline double resident_bytes(void) {
  long rss = proc_kb("/proc/self/smaps_rollup", "Rss"), pte = proc_kb("/proc/self/status", "VmPTE");
  if (rss < 0) rss = proc_kb("/proc/self/status", "VmRSS");
  return 1024.0 * (double)(rss + (pte < 0 ? 0 : pte));
}

struct work {
  const char *name;
  void (*run)(long n);
  long n; /* if the command line says none */
};

/* PROGRAM WORK [N] */
static inline int run_work(const struct work *works, int argc, char **argv) {
  for (const struct work *w = works; argc > 1 && w->name; w++) {
    long n = argc > 2 ? atol(argv[2]) : w->n;
    if (strcmp(w->name, argv[1]) != 0) continue;
    if (n <= 0) break;
    w->run(n);
    return 0;
  }
  fprintf(stderr, "usage: %s WORK [N]; WORK is one of", argv[0]);
  for (const struct work *w = works; w->name; w++) fprintf(stderr, " %s", w->name);
  fputc('\n', stderr);
  return 2;
}

#endif
