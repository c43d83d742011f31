/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as the files that quota.c reads.
 *
 * The input is a list of sections, each "NAME\x01CONTENTS\x02": a file whose path ends in NAME has CONTENTS; unknown
 * paths are missing.  The first byte chooses how many bytes a read gives, and which open fails.  Every path and every result is checked:
 * NUL-terminated, bounded, consistent.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/quota.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)        \
  do {                    \
    if (!(cond)) abort(); \
  } while (0)

#define HANDLES 8

struct files {
  const uint8_t *data;
  size_t size;
  size_t piece;
  unsigned opens, fail_at;
  int open_now;
  struct {
    const uint8_t *pos, *end;
    bool used;
  } handle[HANDLES];
};

/* The contents for a path: of the first section whose name is an end of it. */
static bool lookup(const struct files *f, const char *path, const uint8_t **pos, const uint8_t **end) {
  size_t len = strlen(path), at = 0;
  while (at < f->size) {
    const uint8_t *name = f->data + at, *stop = memchr(name, 2, f->size - at);
    size_t section = stop ? (size_t)(stop - name) : f->size - at;
    const uint8_t *text = memchr(name, 1, section);
    size_t n = text ? (size_t)(text - name) : section;
    if (text && n && n <= len && memcmp(path + len - n, name, n) == 0) {
      *pos = text + 1;
      *end = name + section;
      return true;
    }
    at += section + 1;
  }
  return false;
}

static int files_open(void *ctx, const char *path) {
  struct files *f = ctx;
  MUST(path[0] == '/' && strlen(path) < QUOTA_FILE_MAX);
  if (++f->opens == f->fail_at) return -EACCES;
  const uint8_t *pos, *end;
  if (!lookup(f, path, &pos, &end)) return -ENOENT;
  for (int h = 0; h < HANDLES; h++) {
    if (f->handle[h].used) continue;
    f->handle[h].used = true;
    f->handle[h].pos = pos;
    f->handle[h].end = end;
    f->open_now++;
    return h;
  }
  abort();
}

static long files_read(void *ctx, int h, char *buf, size_t cap) {
  struct files *f = ctx;
  MUST(h >= 0 && h < HANDLES && f->handle[h].used && cap > 0);
  size_t n = (size_t)(f->handle[h].end - f->handle[h].pos);
  if (n > cap) n = cap;
  if (f->piece && n > f->piece) n = f->piece;
  memcpy(buf, f->handle[h].pos, n);
  f->handle[h].pos += n;
  return (long)n;
}

static void files_close(void *ctx, int h) {
  struct files *f = ctx;
  MUST(h >= 0 && h < HANDLES && f->handle[h].used);
  f->handle[h].used = false;
  f->open_now--;
}

static void check(const struct quota *q) {
  MUST(q->cpus_host >= 1 && q->cpus_host <= QUOTA_CPUS_MAX);
  MUST(q->cpus_allowed >= 1 && q->cpus_allowed <= q->cpus_host);
  MUST(q->cpu_micro >= 1 && q->cpu_micro <= (uint64_t)q->cpus_allowed * 1000000 && q->cpu_micro <= q->quota_micro);
  MUST(q->duty_ppm >= 1 && q->duty_ppm <= 1000000);
  MUST((uint64_t)(q->slots - 1) * 1000000 + q->duty_ppm == q->cpu_micro);
  MUST(q->limited == (q->quota_micro != QUOTA_NONE) && !(q->limited && q->weighted));
  MUST(!q->limited || (q->quota_us && q->period_us));
  MUST((q->problems != 0) == (q->problem[0] != '\0'));
  MUST(strlen(q->problem) < QUOTA_PROBLEM_MAX && q->domain[0] == '/');
  MUST(q->nlevels <= QUOTA_LEVELS_MAX && q->nlevels <= q->depth && (q->version != 0) == (q->depth != 0));
  MUST(q->mount_len <= strlen(q->dir) && q->acct_mount_len <= QUOTA_PATH_MAX && q->cpuset_mount_len <= QUOTA_PATH_MAX);
  for (unsigned i = 0; i < q->nlevels; i++) {
    const struct quota_level *l = &q->levels[i];
    MUST(l->dir_len <= strlen(q->dir) && l->dir_len >= q->mount_len && l->name_len <= strlen(q->cgroup) && l->micro >= q->quota_micro);
  }
}

static void check_paths(const struct quota *q, const struct quota_fs *fs) {
  char path[QUOTA_FILE_MAX];
  unsigned i = 0;
  for (; quota_watch_path(q, i, path, sizeof(path)) != -ENOENT; i++) MUST(i < 4 * QUOTA_PATH_MAX);
  for (i = 0; i < q->nlevels; i++) {
    MUST(quota_level_dir(q, i, path, sizeof(path)) == 0 && quota_level_name(q, i, path, sizeof(path)) == 0 && path[0] == '/');
    struct quota_meter m;
    MUST(quota_meter_level(&m, q, i) == 0);
    MUST(strlen(m.usage) < QUOTA_FILE_MAX && strlen(m.stat) < QUOTA_FILE_MAX);
  }
  struct quota_meter m;
  struct quota_throttle t;
  uint64_t ns;
  quota_meter_domain(&m, q);
  quota_usage_ns(&m, fs, &ns);
  quota_throttled(&m, fs, &t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct quota q, again;
  if (size < 2) return 0;
  struct files f = {.data = data + 2, .size = size - 2, .piece = data[0] % 32, .fail_at = data[1] % 64};
  struct quota_fs fs = {.ctx = &f, .open = files_open, .read = files_read, .close = files_close, .mounts_of_pid = data[0] >= 128};
  memset(&q, 0xee, sizeof(q)); /* nothing of what was there may matter */
  int r = quota_find(&q, &fs, 7);
  MUST(f.open_now == 0 && (r <= 0) && ((r < 0) == (q.problems != 0)));
  check(&q);
  check_paths(&q, &fs);
  f.fail_at = 0;
  f.opens = 0;
  r = quota_find(&again, &fs, 7);
  check(&again);
  /* The same files once more: the same result. */
  bool changed = true;
  int r2 = quota_refresh(&again, &fs, &changed);
  check(&again);
  MUST(!changed && f.open_now == 0);
  if (r == 0) MUST(r2 == 0);
  MUST(quota_moved(&again, &fs) <= 0);
  return 0;
}
