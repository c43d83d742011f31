/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_QUOTA_H
#define RATION_DAEMON_QUOTA_H
/*
 * From files to CPUs as a fraction: which CPU quota, cpuset, affinity and
 * weight apply to a process, and which file said so.
 *
 * Built into rationd, ration and libration.so.  In the shim it runs on
 * threads whose TLS is a dummy and inside wrappers, so nothing in here allocates,
 * prints, looks at a locale or touches errno, and no state is kept but what the
 * caller passes in.  Stack use is below QUOTA_STACK bytes.
 *
 * All files are read through struct quota_fs, so tests bring their own.  Paths
 * in results are without the seam's root prefix.
 *
 *   struct quota q;
 *   int r = quota_find(&q, &quota_fs_host, pid);     pid 0: this process
 *   if (r < 0) log(q.problem);                       q is usable all the same
 *
 * Words.  The chain is the process's cgroup in the hierarchy that has the cpu
 * controller, and its ancestors up to the root of the mount that shows most of
 * them.  The *domain* is the nearest cgroup of the chain with a finite quota; where there
 * is none, the host, named "/".  The *decider* is the cgroup of the chain whose quota/period is the
 * smallest: the domain or an ancestor of it.  docs/quota.md has the rules in full.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUOTA_PATH_MAX 1024 /* with the NUL; of a longer cgroup path, the ancestors that fit are used */
#define QUOTA_FILE_MAX (QUOTA_PATH_MAX + 32)
#define QUOTA_PROBLEM_MAX 320
#define QUOTA_LEVELS_MAX 32   /* levels listed; the quota counts the whole chain, however deep */
#define QUOTA_CPUS_MAX 8192   /* CPU numbers known, as many as the kernel's largest NR_CPUS */
#define QUOTA_NONE UINT64_MAX /* no quota */
#define QUOTA_STACK 16384

/* ---- the seam ---- */

struct quota_fs {
  void *ctx;
  /* A handle >= 0, or -errno.  Must also work on a directory (it tells whether one is there). */
  int (*open)(void *ctx, const char *path);
  /* The next bytes: how many, 0 at the end, -errno.  Called until one of the last two. */
  long (*read)(void *ctx, int handle, char *buf, size_t cap);
  void (*close)(void *ctx, int handle);
  /*
   * Whose mountinfo tells where cgroups are mounted for another pid.  false: our own, since it is we who
   * open the files (its own as a fallback).  true: its own first, then /proc/self's: for a prefix (--root).
   */
  bool mounts_of_pid;
};

/* The real files, by raw system calls. */
extern const struct quota_fs quota_fs_host;

/* The same below a directory: DIR/proc, DIR/sys.  `root` keeps the prefix and must outlive `fs`. */
struct quota_root {
  char dir[QUOTA_PATH_MAX];
  size_t len;
};
/* Returns 0 or -ENAMETOOLONG.  dir "" or "/" is the host itself. */
int quota_fs_rooted(struct quota_fs *fs, struct quota_root *root, const char *dir);

/* ---- the result ---- */

enum quota_decider {
  QUOTA_BY_HOST = 0,     /* as many CPUs as are online */
  QUOTA_BY_CFS = 1,      /* cpu.max or cpu.cfs_quota_us */
  QUOTA_BY_CPUSET = 2,   /* cpuset of its cgroup */
  QUOTA_BY_AFFINITY = 3, /* its affinity mask */
};

/* One cgroup of the chain. */
struct quota_level {
  uint16_t dir_len;  /* its directory is the first dir_len bytes of quota.dir */
  uint16_t name_len; /* its name is the first name_len bytes of quota.cgroup; 0: "/" */
  uint32_t weight;   /* cpu.weight or cpu.shares as it stands (one hierarchy, one unit); 0: it has none (root, controller off) */
  uint64_t quota_us; /* QUOTA_NONE: no quota here, or one that could not be read */
  uint64_t period_us;
  uint64_t micro; /* quota/period in millionths; QUOTA_NONE */
};

struct quota {
  /* --- what applies --- */
  bool limited;    /* a finite CFS quota is in the chain */
  bool weighted;   /* no quota, but weights: the share depends on who else is active */
  bool inexact;    /* the process's cgroup isn't visible below any mount: the mount's root stands for it */
  uint8_t version; /* 1 or 2: of the hierarchy that has the cpu controller; 0: none is visible */
  enum quota_decider decider;
  uint64_t cpu_micro;   /* CPUs in millionths: the smaller of quota_micro and cpus_allowed; at least 1 */
  uint64_t quota_micro; /* the smallest quota/period of the chain; QUOTA_NONE */
  uint64_t quota_us;    /* of the decider: 0 where not limited */
  uint64_t period_us;
  uint64_t burst_us;      /* of the decider, and of levels with about its quota: what the kernel saves; 0: nothing, or not limited */
  uint32_t slots;         /* ceil(cpu_micro), >= 1 */
  uint32_t duty_ppm;      /* of the last slot: 500000 for 1.5 CPUs, 1000000 for 2 */
  uint32_t cpus_allowed;  /* online, in the cpuset and in the affinity mask; >= 1 */
  uint32_t cpus_host;     /* online; >= 1 */
  uint32_t cpus_cpuset;   /* online and in the cpuset; 0: no cpuset is known */
  uint32_t cpus_affinity; /* online and in the mask; 0: the mask is not known */

  /* --- who said so --- */
  char domain[QUOTA_PATH_MAX];      /* cgroup name of the domain, as in /proc/PID/cgroup: the daemon's key; "/" for the host */
  char domain_dir[QUOTA_PATH_MAX];  /* its directory; "" for the host where no hierarchy is visible */
  char decider_dir[QUOTA_PATH_MAX]; /* of the decider; "" where not limited */
  char source[QUOTA_FILE_MAX];      /* the file that decided cpu_micro */
  char problem[QUOTA_PROBLEM_MAX];  /* the first thing that was wrong: "file:line: what"; "" */
  uint32_t problems;                /* how many there were */

  /* --- the chain: own cgroup first --- */
  int pid;                 /* as asked for; 0: self */
  uint32_t nlevels;        /* in levels[] */
  uint32_t depth;          /* of the whole chain; > nlevels: the topmost levels are not listed */
  uint64_t where;          /* hash of /proc/PID/cgroup, for quota_moved */
  uint16_t mount_len;      /* the mount's root is the first mount_len bytes of dir */
  uint16_t acct_mount_len; /* the same in acct_dir */
  uint16_t cpuset_mount_len;
  uint8_t acct_version; /* 0: no accounting is visible */
  uint8_t cpuset_version;
  char cgroup[QUOTA_PATH_MAX];      /* own cgroup's name in the cpu hierarchy; "/" for the root */
  char dir[QUOTA_PATH_MAX];         /* own cgroup's directory; "" where none is visible */
  char acct_cgroup[QUOTA_PATH_MAX]; /* the same in the hierarchy that counts CPU time (v1: cpuacct, maybe another path) */
  char acct_dir[QUOTA_PATH_MAX];
  char cpuset_dir[QUOTA_PATH_MAX];
  struct quota_level levels[QUOTA_LEVELS_MAX];
};

/*
 * Finds all of it.  Returns 0; -ESRCH if there is no such process; another -errno for the first problem met,
 * with problem/problems telling which.  *q is complete and usable in every case: what could not be read does not limit.
 */
int quota_find(struct quota *q, const struct quota_fs *fs, int pid);

/*
 * Reads the same cgroup's quotas, weights, cpuset and the affinity again, without looking for mounts.
 * `changed`, if not null: cpu_micro, the quota or period, cpus_allowed, domain or a weight of the list is another than before.
 * Returns as quota_find, -ESRCH when the process is gone, -ENODEV when the cgroup is: then find it again.
 */
int quota_refresh(struct quota *q, const struct quota_fs *fs, bool *changed);

/* Is the process in other cgroups than when q was found?  1, 0, -ESRCH, -errno.  One small file. */
int quota_moved(const struct quota *q, const struct quota_fs *fs);

/*
 * The files whose change matters to q, for inotify: i = 0, 1, ... until -ENOENT.  Some may not exist.  First the quota
 * files of each listed level, own cgroup first, then weights, then cpusets.  Returns 0, -ENOENT, -ENAMETOOLONG.
 * (No file tells of a move to another cgroup: ask quota_moved.)
 */
int quota_watch_path(const struct quota *q, unsigned i, char *path, size_t cap);

/* Directory and name of level i, NUL-terminated.  Return 0, -ENOENT, -ENAMETOOLONG. */
int quota_level_dir(const struct quota *q, unsigned i, char *buf, size_t cap);
int quota_level_name(const struct quota *q, unsigned i, char *buf, size_t cap);

/* ---- measuring a cgroup, cheap enough for every 10 ms ---- */

/* Where to read; self-contained, so a domain needs to keep nothing else. */
struct quota_meter {
  uint8_t usage_version; /* 0: the CPU time of just this cgroup is not counted anywhere */
  uint8_t stat_version;
  char usage[QUOTA_FILE_MAX]; /* v2 cpu.stat, v1 cpuacct.usage */
  char stat[QUOTA_FILE_MAX];  /* cpu.stat with the throttling */
};

struct quota_throttle {
  uint64_t nr_periods;
  uint64_t nr_throttled;
  uint64_t throttled_us;
  uint64_t nr_bursts;
  uint64_t burst_us;
};

/* The meter of the domain: CPU time of the domain, throttling of the decider (it is there that the kernel counts it). */
void quota_meter_domain(struct quota_meter *m, const struct quota *q);
/* The meter of level i of the chain: both of that cgroup.  Returns 0, -ENOENT. */
int quota_meter_level(struct quota_meter *m, const struct quota *q, unsigned i);

/* CPU time used so far.  0, -ENODATA where it isn't counted, -errno; *ns is untouched on failure. */
int quota_usage_ns(const struct quota_meter *m, const struct quota_fs *fs, uint64_t *ns);
/* Throttling so far; what the file doesn't mention is 0.  The same returns. */
int quota_throttled(const struct quota_meter *m, const struct quota_fs *fs, struct quota_throttle *t);

/* ---- small helps ---- */

/* "1.5", "2", "0.333333": millionths as text.  Returns the length, cut to cap - 1. */
size_t quota_cpus_text(uint64_t micro, char *buf, size_t cap);
/* "cfs", "cpuset", "affinity", "host". */
const char *quota_decider_name(enum quota_decider d);

#endif
