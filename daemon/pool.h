/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_POOL_H
#define RATION_DAEMON_POOL_H
/*
 * One pool page as its owner sees it: made or adopted here, given to members, kept in order.
 *
 * The page is shared with its members, any of which may be hostile. So all that
 * the daemon decides by lives in this struct; the page is only ever written
 * (owner block, freed slots, bells), or read as a hint that is bounded at once.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "proto/pool_page.h"
#include "proto/pool_params.h"

struct client;
struct domain;

/* What the daemon itself knows of a member. */
struct pool_seat {
  uint32_t gen; /* 0: free */
  bool orphan;  /* taken over with the page; its process has not come back yet */
  uint32_t pid; /* of its process, as this daemon sees it */
  struct client *client;
  uint64_t beat, beat_at; /* last value read, and when it was seen to change */
  uint64_t asked_at;      /* when it was last asked of /proc whether it is stopped */
  uint64_t charged;       /* last value read */
};

/* And of a slot. */
struct pool_watch {
  uint64_t word, since, seen_at;
};

/* Sums over a page, all bounded. */
struct pool_sum {
  uint32_t held;
  uint32_t wants;   /* Gs that wait, in all members */
  uint32_t waiters; /* members with wants */
  uint64_t charged; /* CPU ns since the pool was made or adopted; never falls */
  uint32_t rung[4];
};

struct pool {
  struct domain *domain;
  struct pool *next; /* in its domain */
  uid_t uid;
  int fd;
  dev_t dev;
  ino_t ino;
  struct pool_page *page;
  struct pool_params params; /* what the owner block says */
  uint32_t nmembers;
  uint32_t high;       /* one above the highest seat in use */
  uint32_t slots_high; /* one above the highest slot that was ever offered */
  uint32_t orphans;
  uint64_t orphans_until;
  uint64_t orphans_asked_at; /* when it was last asked who of them lives */
  bool adopted;              /* its page was brought by a process */
  uint64_t charged;          /* sum of what members were seen to charge */
  uint64_t tick_charged;     /* `charged` at the last tick */
  uint64_t charge_rate;      /* millionths of a CPU, smoothed */

  /* domain.c: sleeping, and the division of CPUs */
  uint64_t id;
  uint32_t allowed;                /* CPUs that its members may run on */
  bool awake;                      /* looked at every tick; else `bell` is in the waker */
  uint32_t bell;                   /* value of owner_bell when it went to sleep */
  uint64_t idle_since;             /* 0: busy */
  uint64_t demand, grant, applied; /* millionths of a CPU */
  uint64_t told;                   /* what it could get at most when all members were last told of a change */
  struct pool_sum sum;             /* of the last tick */
  struct pool_seat *seats;         /* POOL_MEMBERS_MAX */
  struct pool_watch slots[POOL_SLOTS_MAX];
};

int pool_create(struct pool **ret, uid_t uid, uint64_t now);
/*
 * Takes over the page of an earlier daemon, handed in by a process of `uid`; `fd` is taken on success.
 * -EBADF: not a sealed memfd of ours; -EPROTO: another size, magic or version; -EACCES: of another uid.
 */
int pool_adopt(struct pool **ret, uid_t uid, int fd, uint64_t now);
void pool_free(struct pool *p);

/* Seats a process.  -ENOSPC: the page is full. */
int pool_join(struct pool *p, struct client *c, uint32_t pid, uint32_t *member, uint32_t *gen);
/* Seats one that sat here under an earlier daemon.  -ESTALE: it didn't. */
int pool_rejoin(struct pool *p, struct client *c, uint32_t pid, uint32_t member, uint32_t gen);
/* Frees the seat and every slot it holds, and rings those who wait. */
void pool_leave(struct pool *p, uint32_t member);
/* Lets go of orphans whose time is over, and, asked once a second, of those whose process is dead. Returns how many. */
uint32_t pool_drop_orphans(struct pool *p, uint64_t now);

/*
 * Writes the owner block if it differs.  Every member is rung, and true returned, if `all` says so, or there is a gate now where there was none, or the other way round, or the
 * number of CPUs is another; else only those who hold a slot or wait for one.
 */
bool pool_apply(struct pool *p, const struct pool_params *params, bool all, uint64_t now);
/* Marks the page as no longer kept, and tells every member. */
void pool_retire(struct pool *p);
/* Reads the page: sums, leases of nobody freed, bits of nobody cleared. */
struct pool_sum pool_scan(struct pool *p, uint64_t now);
/*
 * Strikes out the wishes of members that are stopped and have stood still for a third of stuck_ns: else slots would be handed to them, and CPUs kept for them.  Their bells are
 * rung: that is the first that they see when they go on, and they say what they want anew.  Returns how many.
 */
uint32_t pool_forget_stopped(struct pool *p, uint64_t now, uint64_t stuck_ns);
/* Takes slots from members that stand still for stuck_ns while others wait, or for a third of that because they are stopped. Returns how many slots. */
uint32_t pool_expropriate(struct pool *p, uint64_t now, uint64_t stuck_ns);
/* Slots that a member holds, counted on the page. */
uint32_t pool_held_by(const struct pool *p, uint32_t member);
/* Futex: +1 and wake all. */
void pool_ring(_Atomic uint32_t *bell);

#endif
