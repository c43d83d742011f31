/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PROTO_POOL_PAGE_H
#define RATION_PROTO_POOL_PAGE_H
/*
 * The pool page: the shared memory through which the processes of one
 * (quota domain, uid) lease Ps from each other and from the daemon.
 *
 * It is a memfd sealed against shrinking and growing.  The daemon makes it and
 * hands its descriptor to every member; a process without a daemon makes a
 * private one of the same layout and is its only member (standalone mode).
 *
 *   owner    the daemon, or the process itself in standalone mode: writes the
 *            "owner" block, frees what a dead member held, corrects `tat`
 *   member   one process: writes its own pool_member, takes and gives slots
 *
 * Every word is hostile until checked: a member's index or a slot's holder is
 * bounded before it is used, and nothing in here is ever a pointer.
 *
 * Slots.  word == 0: free.  Else POOL_LEASE(member index, member generation).
 *
 *      free ---- CAS by a member (acquire) ----> held(m)
 *      held(m) - CAS by m (release) -----------> free
 *      held(m) - CAS by the owner (m died, or is stopped while others wait:
 *                expropriation) -------------> free
 *
 * A release whose CAS fails has been expropriated; that is not an error.
 * Slots [0, nslots) are regular.  Slots [nslots, nslots + nexpress) are
 * express: only a G that lately used less than its fair share may take one, and
 * only while the bucket is not in debt; they exist where the domain has more
 * CPUs than quota, so that a short request needn't wait for anybody.
 * The POOL_EXTRA_SLOTS behind them are for hosts that are busy with other things: while the bucket is
 * nearly full it is not the quota that limits us, and to keep threads from the kernel's scheduler would only lose CPU
 * time and latency to the neighbours.  POOL_CROWD_SLOTS are open instead, to all, while the members are a crowd (shim/core/lease.c).
 *
 * The bucket.  `tat` is the theoretical arrival time of GCRA (ITU-T I.371), in
 * CLOCK_MONOTONIC ns: the moment at which everything charged so far is paid for
 * at `rate`.  tokens(now) = (now - tat) * rate, never more than `credit`.
 * Everyone charges the CPU time that its Gs used; the owner adds what the
 * cgroup's own counter says was used besides (strangers, the kernel's work).
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_MAGIC 0x4c4f4f504e544152ULL /* "RATNPOOL", little endian */
#define POOL_VERSION 1u
#define POOL_SLOTS_MAX 256u           /* regular and express together */
#define POOL_EXTRA_SLOTS 16u          /* behind the express ones: open only while the bucket is nearly full */
#define POOL_CROWD_SLOTS 192u         /* behind the express ones: open to all while the pool is crowded */
#define POOL_CROWD_MOVES 64u          /* slots that went from one process to another */
#define POOL_CROWD_NS 64000000u       /* and took so long at most, at a rate of 1.0, make a crowd, */
#define POOL_CROWD_FOR_NS 1000000000u /* for so long; not within such a time of the last batch work */
#define POOL_MEMBERS_MAX 1024u
#define POOL_RATE_ONE 1000000u /* rate 1.0 CPU, in millionths */

/* pool_page.flags, written by the owner */
#define POOL_F_GATED (1u << 0)      /* Ps are scarce here; without it nobody needs a slot */
#define POOL_F_RETIRED (1u << 1)    /* this page is no longer kept: attach again */
#define POOL_F_STANDALONE (1u << 2) /* the owner is the process itself */
#define POOL_F_CROWDS (1u << 3)     /* the owner looks after POOL_CROWD_SLOTS, so there may be a crowd */
#define POOL_F_CROWD (1u << 4)      /* never in the page; in answers about it: there is one now */

/* pool_member.rung, for `ration pool` */
#define POOL_RUNG_STANDALONE 1u
#define POOL_RUNG_POLLING 2u
#define POOL_RUNG_BPF 3u

/* pool_member.flags, written by the member */
#define POOL_MEMBER_LOCKED (1u << 0) /* RATION_THREADS=locked: its threads are wired Gs */
#define POOL_MEMBER_OFF (1u << 1)    /* RATION_THREADS=off: only CPU counts; it takes no slots */
#define POOL_MEMBER_FREE (1u << 2)   /* RATION_THREADS=free: its threads are Gs on a few kernel threads */
#define POOL_WIRED 7u                /* reasons for which there is room; others are counted as the fifth, "other" */

struct pool_slot {
  _Atomic uint64_t word;  /* 0 or POOL_LEASE() */
  _Atomic uint64_t since; /* CLOCK_MONOTONIC ns at which it was taken; a hint for the owner */
  /* CLOCK_MONOTONIC ns up to which the holder has charged what is used on it; a hint for other members.  0: it uses nothing, or does not say */
  _Atomic uint64_t charged_at;
  _Atomic uint32_t last; /* 1 + the member that had it last; a hint */
  uint32_t pad[9];
};

struct pool_member {
  _Atomic uint32_t gen;     /* 0: no member here.  Written by the owner only */
  _Atomic uint32_t bell;    /* futex (shared) on which the member's sysmon sleeps: add 1 and wake */
  _Atomic uint32_t wants;   /* Gs ready without a P; nonzero also sets the member's bit in `waiting` */
  _Atomic uint32_t express; /* of these, newcomers (used less than their fair share) */
  _Atomic uint32_t nheld;   /* slots held; a hint */
  _Atomic uint32_t pid;     /* in the daemon's pid namespace; for display */
  _Atomic uint32_t rung;
  _Atomic uint32_t flags;
  _Atomic uint64_t charged; /* CPU ns charged by it, ever growing */
  _Atomic uint64_t beat;    /* CLOCK_MONOTONIC ns of its sysmon's last look while it held slots */
  /* statistics, for display only */
  _Atomic uint32_t ngs;               /* Gs alive */
  _Atomic uint32_t nms;               /* Ms (kernel threads) that run them */
  _Atomic uint64_t handoffs;          /* Ps handed off because the M blocked */
  _Atomic uint64_t retakes;           /* of these, by BPF's word or sysmon's poll */
  _Atomic uint64_t preempts;          /* Gs preempted by signal */
  _Atomic uint64_t wakeups;           /* wake-up preemptions and express starts */
  _Atomic uint64_t pauses;            /* times that a hog was paced */
  _Atomic uint32_t nthreads;          /* free mode: thread Gs alive that have no kernel thread of their own */
  _Atomic uint32_t wired[POOL_WIRED]; /* free mode: how often one got one, by reason: wired.h */
};

struct pool_page {
  /* --- identity, constant after creation --- */
  uint64_t magic;
  uint32_t version;
  uint32_t size;
  uint32_t uid; /* of all its members */
  uint32_t pad_uid;
  /* --- the crowd: members write it, but seldom --- */
  _Atomic uint64_t crowd_until; /* CLOCK_MONOTONIC ns: until then the kernel schedules the members' Gs */
  _Atomic uint64_t batch_at;    /* CLOCK_MONOTONIC ns at which a member last saw a G that only computes */
  uint64_t pad0[3];
  /* --- owner block: written by the owner, read by members, each alone --- */
  _Atomic uint32_t flags;
  _Atomic uint32_t nslots;     /* regular slots, >= 1 */
  _Atomic uint32_t nexpress;   /* express slots */
  _Atomic uint32_t ncpus;      /* the CPU count that the programs see: ceil of the domain's CPUs */
  _Atomic uint32_t rate;       /* CPUs that this pool may use on average, in millionths; 0: no limit */
  _Atomic uint32_t credit_us;  /* capacity of the bucket */
  _Atomic uint32_t debt_us;    /* how far newcomers may overdraw it */
  _Atomic uint32_t change;     /* +1 after each change of this block */
  _Atomic uint64_t owner_beat; /* CLOCK_MONOTONIC ns at which the owner last wrote here */
  _Atomic uint32_t nmembers;
  _Atomic uint32_t owner_bell; /* futex (shared): a member adds 1 and wakes when the pool stops being idle and owner_asleep says so */
  _Atomic uint32_t owner_asleep;
  _Atomic uint32_t pad1;
  /* --- the bucket: everyone --- */
  _Alignas(64) _Atomic uint64_t tat;
  _Atomic uint64_t charged;     /* CPU ns charged by all members, ever growing */
  _Atomic uint64_t period_seen; /* CLOCK_MONOTONIC ns: the last beginning of a CFS period that a member saw */
  _Atomic uint64_t moves;       /* how often a slot was taken by another member than had it last */
  _Atomic uint64_t moved_at;    /* CLOCK_MONOTONIC ns: when that number was last a multiple of POOL_CROWD_MOVES */
  _Alignas(64) _Atomic uint64_t waiting[POOL_MEMBERS_MAX / 64]; /* members with wants != 0 */
  _Alignas(64) struct pool_slot slots[POOL_SLOTS_MAX];
  struct pool_member members[POOL_MEMBERS_MAX];
};

_Static_assert(sizeof(struct pool_slot) == 64, "one cache line a slot");
_Static_assert(sizeof(struct pool_member) == 128, "two cache lines a member");

#define POOL_PAGE_SIZE ((sizeof(struct pool_page) + 4095u) & ~(size_t)4095u)

/* The word of a held slot: never 0, because a generation is never 0. */
#define POOL_LEASE(member, gen) (((uint64_t)(gen) << 32) | (uint32_t)((member) + 1))
#define POOL_LEASE_MEMBER(word) ((uint32_t)(word)-1u)
#define POOL_LEASE_GEN(word) ((uint32_t)((word) >> 32))

/* Wall time in which `cpu` ns of CPU time accrue at `rate`; 0 where there is no limit. */
static inline uint64_t pool_wall_ns(uint32_t rate, uint64_t cpu) {
  return rate ? (uint64_t)((unsigned __int128)cpu * POOL_RATE_ONE / rate) : 0;
}

/* CPU time in the bucket now, negative when overdrawn.  INT64_MAX without a limit. */
static inline int64_t pool_tokens(const struct pool_page *pg, uint64_t now) {
  uint32_t rate = atomic_load_explicit(&pg->rate, memory_order_relaxed);
  if (rate == 0) return INT64_MAX;
  int64_t wall = (int64_t)(now - atomic_load_explicit(&pg->tat, memory_order_relaxed));
  int64_t cap = (int64_t)atomic_load_explicit(&pg->credit_us, memory_order_relaxed) * 1000;
  int64_t tokens = (int64_t)((__int128)wall * rate / POOL_RATE_ONE);
  return tokens > cap ? cap : tokens;
}

/* The members' Gs are a crowd, and the kernel schedules them (shim/core/lease.c, lease_crowd). */
static inline bool pool_is_crowd(const struct pool_page *pg, uint64_t now) {
  uint64_t until = atomic_load_explicit(&pg->crowd_until, memory_order_relaxed); /* a hint */
  return now < until && until - now <= POOL_CROWD_FOR_NS && atomic_load_explicit(&pg->nmembers, memory_order_relaxed) > 1 &&
         (atomic_load_explicit(&pg->flags, memory_order_relaxed) & POOL_F_CROWDS);
}

/*
 * Takes `cpu` ns out of the bucket (puts them back if negative).  They were used in the time up to `now`, at least
 * `cpu` long: what accrued in it counts against them even where it would not have fitted into the bucket.  Any member
 * may call it at any time: the only shared state is `tat`, moved by CAS, and
 * no other word is published by it, so relaxed order is enough.
 * The debt is bounded to a second, so that no corrupt charge stops a pool for long.
 */
static inline void pool_take_tokens(struct pool_page *pg, uint64_t now, int64_t cpu) {
  uint32_t rate = atomic_load_explicit(&pg->rate, memory_order_relaxed);
  if (rate == 0 || cpu == 0) return;
  uint64_t cap = pool_wall_ns(rate, (uint64_t)atomic_load_explicit(&pg->credit_us, memory_order_relaxed) * 1000);
  int64_t cost = (int64_t)pool_wall_ns(rate, (uint64_t)(cpu < 0 ? -cpu : cpu));
  if (cpu < 0) cost = -cost;
  uint64_t since = cpu > 0 && cpu < 1000000000 ? now - (uint64_t)cpu : now;
  uint64_t old = atomic_load_explicit(&pg->tat, memory_order_relaxed), tat;
  do {
    tat = old;
    if ((int64_t)(since - tat) > (int64_t)cap) tat = since - cap; /* a full bucket stays full */
    tat += (uint64_t)cost;
    if ((int64_t)(tat - now) > 1000000000) tat = now + 1000000000;
  } while (!atomic_compare_exchange_weak_explicit(&pg->tat, &old, tat, memory_order_relaxed, memory_order_relaxed));
}

/*
 * A pool that was idle and begins to work: what is in the bucket beyond a part of `most` µs is forgotten.  The kernel gives a full quota
 * anew in each period, it saves nothing; credit may only make up for what was missed a moment ago.
 */
static inline void pool_begin(struct pool_page *pg, uint64_t now, uint64_t most_us) {
  uint32_t rate = atomic_load_explicit(&pg->rate, memory_order_relaxed);
  if (rate == 0) return;
  uint64_t floor = now - pool_wall_ns(rate, most_us * 1000), old = atomic_load_explicit(&pg->tat, memory_order_relaxed);
  while ((int64_t)(floor - old) > 0 &&
         !atomic_compare_exchange_weak_explicit(&pg->tat, &old, floor, memory_order_relaxed, memory_order_relaxed)) {
  }
}

/* Debts are forgotten: the kernel has seen to it that no more was used than it grants. */
static inline void pool_forgive(struct pool_page *pg, uint64_t now) {
  uint64_t old = atomic_load_explicit(&pg->tat, memory_order_relaxed);
  while ((int64_t)(old - now) > 0 &&
         !atomic_compare_exchange_weak_explicit(&pg->tat, &old, now, memory_order_relaxed, memory_order_relaxed)) {
  }
}

/*
 * What the cgroup used besides the members: its own counter less what was charged, both since the first reading.
 * The counter lags by up to a tick and the charges come in lumps, so the difference swings by some ms
 * either way.  Taking it out whole would lose what is put back into a full bucket; so each reading takes
 * a 16th of what is not taken yet: exact in the long run, smooth over 16 readings.
 */
struct pool_strangers {
  bool known;
  uint64_t usage, charged; /* at the first reading */
  int64_t taken;           /* ns, so far */
};

/* A reading: returns the ns to take now (negative: to put back). */
static inline int64_t pool_strangers_due(struct pool_strangers *s, uint64_t usage, uint64_t charged) {
  if (!s->known) {
    *s = (struct pool_strangers){.known = true, .usage = usage, .charged = charged};
    return 0;
  }
  int64_t foreign = (int64_t)(usage - s->usage) - (int64_t)(charged - s->charged);
  int64_t part = (foreign - s->taken) / 16;
  s->taken += part;
  return part;
}

#endif
