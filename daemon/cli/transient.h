/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CLI_TRANSIENT_H
#define RATION_CLI_TRANSIENT_H
/*
 * The transient cgroup of `ration run --cpus`: made below the caller's own cgroup, limited,
 * removed when the command has ended.
 *
 * Whose is it?  `ration run` holds a flock on the cgroup's directory for as long as it lives.
 * The kernel lets go of the lock however the process dies, so a transient cgroup that
 * nobody has locked is a dead one's; the next `ration run` that starts in the same cgroup
 * removes it.  Process ids would not do: they are reused, and differ between
 * pid namespaces that share a cgroup tree.
 *
 *   mkdir, limit --> open, flock --> still there? --> attach child --> ... --> move the rest, rmdir
 *                                    no, or another holds the lock: a cleaner was faster; once more with another name
 *
 * Other users can't hold locks on it: they may not open the directory, only the files in it.
 *
 * What is left inside goes to the cgroup above: the limit was the command's, and it has ended.
 */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup;
struct quota;

#define TRANSIENT_PREFIX "ration-run-"
#define TRANSIENT_NAME_MAX 64
#define TRANSIENT_PLACES 2 /* v1: cpu and cpuacct may be hierarchies of their own */
#define TRANSIENT_SETTINGS 2
#define TRANSIENT_ERR 1024

/* One hierarchy in which the cgroup is made, and what is written there. */
struct transient_place {
  char controller[32];
  int version;
  char dir[PATH_MAX]; /* the caller's own cgroup */
  size_t mount_len;   /* the first bytes of dir: where the hierarchy is mounted */
  struct {
    char file[64], value[64];
  } set[TRANSIENT_SETTINGS]; /* an empty file name ends them */
  uint64_t burst_us;         /* 0: none */
};

struct transient {
  size_t n;
  struct transient_place place[TRANSIENT_PLACES];
  char name[TRANSIENT_NAME_MAX];
  struct cgroup *cg[TRANSIENT_PLACES]; /* v1 only */
  int lock[TRANSIENT_PLACES];
  bool made[TRANSIENT_PLACES];
  bool leaf[TRANSIENT_PLACES]; /* v2: we moved ourselves out of the way, into NAME-leaf */
};

struct transient_limit {
  uint64_t quota_us, period_us;
  uint64_t burst_us; /* what the kernel saves of it, at most quota_us; where it can't, the limit is as good without */
};

/* The places for a CPU limit below the cgroup that `q` found.  0, -errno and `err`. */
int transient_places(struct transient *t, const struct quota *q, const struct transient_limit *limit, char err[TRANSIENT_ERR]);
/* v2: can a cgroup with the controller be made below dir, by the only process in it if it is one? */
bool transient_has_room(const char *dir, const char *controller);
/* Makes the cgroup in all t->place.  0; or -errno, `err` says why, and nothing is left. */
int transient_create(struct transient *t, char err[TRANSIENT_ERR]);
int transient_attach(struct transient *t, pid_t pid, char err[TRANSIENT_ERR]);
/* Removes it.  0; or -errno and `err` if something stays behind. */
int transient_remove(struct transient *t, char err[TRANSIENT_ERR]);
/* Removes what dead ones left below a cgroup.  Returns how many. */
unsigned transient_clean(const struct transient_place *p);

#endif
