/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_DOMAIN_H
#define RATION_DAEMON_DOMAIN_H
/*
 * Quota domains, and how their CPUs are divided among pools.
 *
 *   place    a distinct /proc/PID/cgroup: what quota.h found out for processes there
 *   domain   the cgroup whose quota (or, without one, whose weight) they share
 *   pool     the processes of one uid in it that may run on equally many CPUs (pool.h)
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uthash.h>
#include "meter.h"
#include "quota.h"
#include "server.h"

struct pool;

#define PLACE_WATCHES_MAX 48

struct place {
  struct place *next; /* in its domain */
  struct domain *domain;
  uint32_t refs;  /* clients */
  bool misplaced; /* its processes belong to another domain by now and have been told */
  uint32_t nwatches;
  int watches[PLACE_WATCHES_MAX];
  struct place_dir {
    dev_t dev;
    ino_t ino;
  } dir, cpuset_dir; /* what the directories were when it was found: another cgroup may get the same name later */
  struct quota q;
};

struct domain {
  struct server *server;
  UT_hash_handle hh;
  char *key; /* cgroup name */
  struct place *places;
  struct pool *pools;
  uint64_t id;

  /* from the places */
  bool limited, weighted;
  uint64_t quota_micro; /* by the files; QUOTA_NONE */
  uint64_t cpu_micro;   /* after headroom */
  uint64_t period_us, burst_us;
  uint32_t cpus; /* online and in a cpuset: the most that a place has */
  uint32_t weight;

  bool awake;
  struct meter meter;
  int64_t pending;       /* ns of it that have not come off the buckets yet */
  uint64_t charged_gone; /* by pools that are no more */
};

/* Starts timers, watches and the waker.  0 or -errno. */
int domains_start(struct server *s);
void domains_stop(struct server *s);
/* After SIGHUP: headroom, margin and the rest of [pool] may be others. */
void domains_reconfigure(struct server *s);

/*
 * The place of a process, with one reference more. `allowed` is how many CPUs it may run on.
 * -ESRCH: it is gone; another -errno: nothing could be found out.
 */
int place_get(struct server *s, pid_t pid, struct place **ret, uint32_t *allowed);
void place_put(struct place *p);

/* The key of the domain that a quota belongs to. */
const char *domain_key(const struct server *s, const struct quota *q);
/* A pool of this domain for a process: with room, right uid, right CPUs.  Made if there is none. */
int domain_pool(struct domain *d, uid_t uid, uint32_t allowed, struct pool **ret);
/* The pool whose page this file is, anywhere. */
struct pool *domains_find_page(struct server *s, dev_t dev, ino_t ino);
/* Puts an adopted page under a domain. */
void domain_add_pool(struct domain *d, struct pool *p, uint32_t allowed);
/*
 * May one more page of an earlier daemon be put there?  That it is one is its bringer's word.  An earlier daemon made another page only when the
 * last was full, so there are few of a kind; who comes with more gets an ordinary seat.
 */
bool domain_may_adopt(const struct domain *d, uid_t uid, uint32_t allowed);
/*
 * Its last member has left: frees it, and the domain if that was all.  Orphans alone keep no pool, else one forged page after the
 * other would stay for as long as orphans are waited for; a true one's next member brings it again.
 */
void domain_drop_pool(struct pool *p);
/* Something happened in this pool: looks at it soon, and ticks until it is idle. */
void pool_wake(struct pool *p);
/* Computes and writes the owner blocks of all pools of the domain, now. */
void domain_apply(struct domain *d);

#endif
