/* SPDX-License-Identifier: Apache-2.0 */
/* Fixture trees for the quota tests: see fixture.h. */
#include "fixture.h"
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEVER(cond)                                                 \
  do {                                                              \
    if (cond) {                                                     \
      fprintf(stderr, "fixture: %s: %s\n", #cond, strerror(errno)); \
      abort();                                                      \
    }                                                               \
  } while (0)

/* ---- the seam ---- */

static int seam_open(void *ctx, const char *path) {
  struct fixture *f = ctx;
  bool here = f->fail_path && strcmp(path, f->fail_path) == 0;
  if (++f->opens == f->fail_nth) here = true;
  if (here && !f->fail_read) return -f->fail_errno;
  int h = f->real.open(f->real.ctx, path);
  if (h < 0) return h;
  f->open_now++;
  if (here) {
    f->fail_handle = h;
    f->fail_seen = 0;
  }
  return h;
}

static long seam_read(void *ctx, int handle, char *buf, size_t cap) {
  struct fixture *f = ctx;
  if (f->piece && cap > f->piece) cap = f->piece;
  if (f->fail_read && handle == f->fail_handle) {
    long left = f->fail_after - f->fail_seen;
    if (left <= 0) return -f->fail_errno;
    if (cap > (size_t)left) cap = (size_t)left;
  }
  long r = f->real.read(f->real.ctx, handle, buf, cap);
  if (r > 0 && handle == f->fail_handle) f->fail_seen += r;
  return r;
}

static void seam_close(void *ctx, int handle) {
  struct fixture *f = ctx;
  f->open_now--;
  if (handle == f->fail_handle) f->fail_handle = -1;
  f->real.close(f->real.ctx, handle);
}

/* ---- files ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
  (void)st, (void)type, (void)ftw;
  return remove(path);
}

static char base[48];

void fixture_begin(void) {
  strcpy(base, "/dev/shm/ration-fixture-XXXXXX"); /* in memory, where there is such a place: thousands of small files */
  if (mkdtemp(base)) return;
  strcpy(base, "/tmp/ration-fixture-XXXXXX");
  NEVER(!mkdtemp(base));
}

void fixture_end(void) { NEVER(nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0); }

struct fixture *fixture_new(void) {
  struct fixture *f = calloc(1, sizeof(*f));
  NEVER(!f);
  NEVER(!base[0]);
  snprintf(f->dir, sizeof(f->dir), "%s/XXXXXX", base);
  NEVER(!mkdtemp(f->dir));
  NEVER(quota_fs_rooted(&f->real, &f->root, f->dir) < 0);
  f->fs = (struct quota_fs){.ctx = f, .open = seam_open, .read = seam_read, .close = seam_close};
  f->fail_handle = -1;
  return f;
}

void fixture_free(struct fixture *f) {
  NEVER(nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0);
  NEVER(f->open_now != 0);
  free(f);
}

/* The whole path, in a buffer of the caller. */
static void full(const struct fixture *f, const char *path, char *buf, size_t cap) {
  NEVER((size_t)snprintf(buf, cap, "%s%s", f->dir, path) >= cap);
}

static void make_parents(char *path, size_t from) {
  for (char *s = path + from + 1; (s = strchr(s, '/')); s++) {
    *s = '\0';
    NEVER(mkdir(path, 0755) < 0 && errno != EEXIST);
    *s = '/';
  }
}

void fixture_put_bytes(struct fixture *f, const char *path, const void *data, size_t len) {
  char buf[4096];
  full(f, path, buf, sizeof(buf));
  make_parents(buf, strlen(f->dir));
  FILE *file = fopen(buf, "we");
  NEVER(!file);
  NEVER(len && fwrite(data, 1, len, file) != len);
  NEVER(fclose(file) != 0);
}

void fixture_put(struct fixture *f, const char *path, const char *format, ...) {
  char *text = NULL;
  va_list ap;
  va_start(ap, format);
  int n = vasprintf(&text, format, ap);
  va_end(ap);
  NEVER(n < 0);
  fixture_put_bytes(f, path, text, (size_t)n);
  free(text);
}

void fixture_mkdir(struct fixture *f, const char *path) {
  char buf[4096];
  full(f, path, buf, sizeof(buf));
  make_parents(buf, strlen(f->dir));
  NEVER(mkdir(buf, 0755) < 0 && errno != EEXIST);
}

void fixture_remove(struct fixture *f, const char *path) {
  char buf[4096];
  full(f, path, buf, sizeof(buf));
  NEVER(nftw(buf, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0);
}

/* ---- machines ---- */

#define OTHER_MOUNTS                                                          \
  "22 27 0:21 / /proc rw,relatime - proc proc rw\n"                           \
  "23 27 0:22 / /sys rw,relatime shared:7 - sysfs sysfs rw\n"                 \
  "27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n" \
  "28 27 0:40 / /var/lib/overlay rw - overlay overlay rw,lowerdir=/a:/b:/c,upperdir=/u\n"

static const char *const mounts[] = {
    [FIXTURE_V1] = OTHER_MOUNTS
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
    [FIXTURE_V1_JOINT] = OTHER_MOUNTS
    "31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpuset rw,nosuid - cgroup cgroup rw,cpuset,clone_children\n"
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n",
    [FIXTURE_V2] = OTHER_MOUNTS "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
    [FIXTURE_HYBRID] = OTHER_MOUNTS
    "31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd\n"
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
    "32 31 0:29 / /sys/fs/cgroup/cpuset rw,nosuid - cgroup cgroup rw,cpuset\n",
};

static const char *const dirs[][4] = {
    [FIXTURE_V1] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpuset"},
    [FIXTURE_V1_JOINT] = {"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuset"},
    [FIXTURE_V2] = {"/sys/fs/cgroup"},
    [FIXTURE_HYBRID] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpuset"},
};

void fixture_mounts(struct fixture *f, const char *mountinfo) { fixture_put(f, "/proc/self/mountinfo", "%s", mountinfo); }

void fixture_machine(struct fixture *f, enum fixture_kind kind, unsigned ncpus) {
  fixture_mounts(f, mounts[kind]);
  for (size_t i = 0; i < 4 && dirs[kind][i]; i++) fixture_mkdir(f, dirs[kind][i]);
  fixture_put(f, "/sys/devices/system/cpu/online", ncpus > 1 ? "0-%u\n" : "%u\n", ncpus - 1);
}

void fixture_process(struct fixture *f, int pid, const char *cgroup, const char *allowed) {
  char dir[32], path[64];
  if (pid)
    snprintf(dir, sizeof(dir), "/proc/%d", pid);
  else
    strcpy(dir, "/proc/self");
  snprintf(path, sizeof(path), "%s/cgroup", dir);
  fixture_put(f, path, "%s", cgroup);
  snprintf(path, sizeof(path), "%s/status", dir);
  fixture_put(f, path, "Name:\tx\nUmask:\t0022\nState:\tR (running)\n%s%s%sMems_allowed_list:\t0\n", allowed ? "Cpus_allowed_list:\t" : "",
              allowed ? allowed : "", allowed ? "\n" : "");
}
