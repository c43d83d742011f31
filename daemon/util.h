/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_UTIL_H
#define RATION_DAEMON_UTIL_H
/*
 * Small things that every file of the daemon uses: cleanup attributes, the clock.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))

static inline void util_closep(int *fd) {
  if (*fd >= 0) close(*fd);
}
static inline void util_fclosep(FILE **f) {
  if (*f) fclose(*f);
}
static inline void util_freep(void *p) { free(*(void **)p); }

#define _cleanup_close_ _cleanup_(util_closep)
#define _cleanup_fclose_ _cleanup_(util_fclosep)
#define _cleanup_free_ _cleanup_(util_freep)

static inline int util_take_fd(int *fd) {
  int r = *fd;
  *fd = -1;
  return r;
}

#define NS_PER_SEC 1000000000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_US 1000ULL

static inline uint64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

#define UTIL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define UTIL_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
