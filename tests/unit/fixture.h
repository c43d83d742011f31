/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_FIXTURE_H
#define RATION_TESTS_FIXTURE_H
/*
 * Makes trees of files that look like /proc and /sys/fs/cgroup, in a temporary directory, and reads them
 * through a seam (struct quota_fs) that can be told to fail, to read in small pieces, and that counts open files.
 *
 *   struct fixture *f = fixture_new();
 *   fixture_machine(f, FIXTURE_V2, 4);                      mountinfo, 4 CPUs online
 *   fixture_process(f, 7, "0::/a/b\n", "0-3");              /proc/7/cgroup and status
 *   fixture_put(f, "/sys/fs/cgroup/a/cpu.max", "%d 100000\n", 150000);
 *   quota_find(&q, &f->fs, 7);
 *   fixture_free(f);                                        fails the test if a file was left open
 */
#include <stdbool.h>
#include <stddef.h>
#include "daemon/quota.h"

enum fixture_kind {
  FIXTURE_V1,       /* one mount for each controller, as on Debian with cgroup v1 */
  FIXTURE_V1_JOINT, /* cpu,cpuacct mounted together */
  FIXTURE_V2,       /* /sys/fs/cgroup is cgroup2 */
  FIXTURE_HYBRID,   /* v1 with cpu; the v2 tree, without cpu, at unified */
};

struct fixture {
  struct quota_fs fs; /* what the code under test reads through */
  struct quota_fs real;
  struct quota_root root;
  char dir[64];
  /* Faults. */
  const char *fail_path; /* opening (or, with fail_read, reading) this path fails with fail_errno */
  int fail_errno;
  bool fail_read;
  long fail_after;   /* with fail_read: after so many bytes, over all of this file's reads */
  size_t piece;      /* reads give at most so many bytes; 0: as many as wanted */
  unsigned fail_nth; /* the open with this number (from 1) fails with fail_errno, or with fail_read every read of it; 0: none */
  /* What happened. */
  int open_now;
  unsigned opens;
  int fail_handle;
  long fail_seen;
};

/* At the start and the end of main: the directory of all trees; also those of failed tests go with it. */
void fixture_begin(void);
void fixture_end(void);

/* Makes an empty tree.  Never fails: aborts the test. */
struct fixture *fixture_new(void);
void fixture_free(struct fixture *f);

/* Writes a file, and its directories. */
void fixture_put(struct fixture *f, const char *path, const char *format, ...) __attribute__((format(printf, 3, 4)));
void fixture_put_bytes(struct fixture *f, const char *path, const void *data, size_t len);
void fixture_mkdir(struct fixture *f, const char *path);
void fixture_remove(struct fixture *f, const char *path);

/* /proc/self/mountinfo of such a machine, the mount points, and CPUs 0..ncpus-1 online. */
void fixture_machine(struct fixture *f, enum fixture_kind kind, unsigned ncpus);
/* Replaces mountinfo; the directories of mount points must be made by fixture_put or fixture_mkdir. */
void fixture_mounts(struct fixture *f, const char *mountinfo);
/* /proc/PID/cgroup and /proc/PID/status with this mask; pid 0 is self.  allowed NULL: a status without the line. */
void fixture_process(struct fixture *f, int pid, const char *cgroup, const char *allowed);

#endif
