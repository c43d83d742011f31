/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_PLIMIT_H
#define RATION_FREE_PLIMIT_H
/* Absolute times of pthread functions as limits of the lot. */
#include <errno.h>
#include <stdbool.h>
#include <time.h>
#include "sync/lot.h"

#define PLIMIT_NS 1000000000u

static inline bool plimit_clock_ok(clockid_t clock) { return clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME; }
static inline bool plimit_ns_ok(const struct timespec *until) { return until->tv_nsec >= 0 && until->tv_nsec < (long)PLIMIT_NS; }

/* In ns; UINT64_MAX for what does not fit.  tv_sec >= 0. */
static inline uint64_t plimit_ns(const struct timespec *ts) {
  uint64_t ns;
  bool over =
      __builtin_mul_overflow((uint64_t)ts->tv_sec, (uint64_t)PLIMIT_NS, &ns) || __builtin_add_overflow(ns, (uint64_t)ts->tv_nsec, &ns);
  return over ? UINT64_MAX : ns;
}

/* Clock and time are valid.  A change of CLOCK_REALTIME while it waits is not seen. */
static inline struct limit plimit(clockid_t clock, const struct timespec *until) {
  if (until->tv_sec < 0) return (struct limit){.until = 0};
  uint64_t at = plimit_ns(until);
  if (clock == CLOCK_MONOTONIC || at == UINT64_MAX) return (struct limit){.until = at};
  struct timespec now;
  sys_clock(CLOCK_REALTIME, &now);
  uint64_t real = plimit_ns(&now);
  if (at <= real) return (struct limit){.until = 0};
  return (struct limit){.until = __builtin_add_overflow(at - real, sys_now(), &at) ? UINT64_MAX : at};
}

#endif
