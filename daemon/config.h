/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_CONFIG_H
#define RATION_DAEMON_CONFIG_H
/*
 * rationd.conf: what may be set, and its defaults.  docs/man/rationd.conf.5
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "log.h"
#include "quota.h"

#define CONFIG_PATH "/etc/ration/rationd.conf"
#define CONFIG_DOMAINS_MAX 256

/* CPU left to side processes: so many millionths of a CPU, and so many millionths of the domain. */
struct headroom {
  uint32_t cpu_micro;
  uint32_t ppm;
};

struct config_domain {
  char path[QUOTA_PATH_MAX]; /* cgroup path, below it as well unless a longer one says otherwise */
  struct headroom headroom;
};

struct config {
  /* [daemon] */
  char socket[108];
  char log_file[256];
  enum log_level log_level;
  bool bpf;
  uint32_t max_clients;
  uint32_t max_clients_per_uid;
  /* [pool] */
  uint32_t margin_ppm;
  struct headroom headroom;
  bool weights;
  uint32_t tick_ms;
  uint32_t stuck_ms;
  /* [domain PATH] */
  size_t ndomains;
  struct config_domain *domains;
};

void config_defaults(struct config *c);
void config_free(struct config *c);
/*
 * Reads `path` on top of the defaults.  On an error `err` says file, line and
 * what would have been right.  A missing file is no error unless `must`.
 * 0; 1: there is no such file; or -errno.
 */
int config_load(struct config *c, const char *path, bool must, char *err, size_t errlen);
/* Levenshtein distance of short words; anything longer than 31 is far. */
size_t config_distance(const char *a, const char *b);
/* The headroom of a cgroup: the longest [domain] that is it or above it, else [pool]. */
struct headroom config_headroom(const struct config *c, const char *cgroup);
/* What is left of `cpu_micro` after headroom; never less than a twentieth of it. */
uint64_t config_after_headroom(struct headroom h, uint64_t cpu_micro);

#endif
