/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_LOG_H
#define RATION_DAEMON_LOG_H
/*
 * The daemon's log: one line a call, to stderr or a file.  Under systemd each line begins with
 * "<N>", the syslog priority, which the journal understands.  A target that is full, slow
 * or gone costs the line, never the daemon: lines that were lost are counted and
 * the count is said when there is room again.
 */
#include <stdbool.h>
#include <stdint.h>
#include "util.h"

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Opens `path` for append ("" or null: stderr).  May be called again.  0 or -errno, then the old target stays. */
int log_open(const char *path);
void log_set_level(enum log_level level);
/* error, warning, notice, info, debug; -EINVAL for another name */
int log_level_parse(const char *name, enum log_level *level);

void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);

/* A budget for lines that a client can cause: `burst` lines in `interval_ns`. */
struct log_limit {
  uint64_t interval_ns;
  uint32_t burst;
  uint32_t used;
  uint32_t suppressed;
  uint64_t begin;
};
#define LOG_LIMIT_INIT(ns, n) \
  { .interval_ns = (ns), .burst = (n) }

/* May one more line be written?  Says how many were not, at the first one after a silence. */
bool log_allowed(struct log_limit *limit);

#endif
