/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool page as its owner sees it.  See pool.h and proto/pool_page.h.
 *
 * Run by the event loop's thread only; no locks.  What runs at the same time are
 * the members, through the page: slots and bits change hands by CAS, and any
 * value read here may be a lie.
 *
 * A seat is free -> taken (join) -> free (leave), or, after a restart of the daemon,
 * orphan (adopt) -> taken (rejoin) | free (its process is dead, or did not come
 * back in POOL_ORPHAN_NS).  Generations are random, so a lease of an earlier
 * occupant never fits the next one.
 */
#include "pool.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "util.h"

#define POOL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define POOL_ORPHAN_NS (10 * NS_PER_SEC)
#define POOL_CROWD_PATIENCE 10u /* times stuck_ns */
#define POOL_WANTS_MAX 65536u
/* A member can't have charged more than this many CPUs since it was last looked at. */
#define POOL_CHARGE_CPUS POOL_SLOTS_MAX

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Pairs with nothing but itself: all that members decide by is read again after they wake. */
void pool_ring(_Atomic uint32_t *bell) {
  atomic_fetch_add_explicit(bell, 1, memory_order_release); /* pairs with the member's load before it sleeps */
  syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void pool_ring_members(struct pool *p) {
  for (uint32_t m = 0; m < p->high; m++) {
    if (p->seats[m].gen) pool_ring(&p->page->members[m].bell);
  }
}

/* The members whose bits are set. */
static void pool_ring_some(struct pool *p, const uint64_t *set) {
  for (uint32_t m = 0; m < p->high; m++) {
    if (p->seats[m].gen && set[m / 64] >> (m % 64) & 1) pool_ring(&p->page->members[m].bell);
  }
}

static void pool_read_waiting(const struct pool *p, uint64_t *set) {
  for (uint32_t w = 0; w < POOL_MEMBERS_MAX / 64; w++)
    set[w] = atomic_load_explicit(&p->page->waiting[w], memory_order_acquire); /* pairs with the member's fetch_or */
}

static void pool_ring_waiting(struct pool *p) {
  uint64_t set[POOL_MEMBERS_MAX / 64];
  pool_read_waiting(p, set);
  pool_ring_some(p, set);
}

static int pool_memfd(void) {
  int fd = (int)syscall(SYS_memfd_create, "ration-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = (int)syscall(SYS_memfd_create, "ration-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return fd < 0 ? -errno : fd;
}

/* Everything but the contents of the page. */
static int pool_wrap(struct pool **ret, uid_t uid, int fd) {
  struct stat st;
  if (fstat(fd, &st) < 0) return -errno;
  _cleanup_free_ struct pool *p = calloc(1, sizeof(*p));
  _cleanup_free_ struct pool_seat *seats = calloc(POOL_MEMBERS_MAX, sizeof(*seats));
  if (!p || !seats) return -ENOMEM;
  void *map = mmap(NULL, POOL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return -errno;
  p->uid = uid;
  p->fd = fd;
  p->dev = st.st_dev;
  p->ino = st.st_ino;
  p->page = map;
  p->seats = seats;
  seats = NULL;
  *ret = p;
  p = NULL;
  return 0;
}

int pool_create(struct pool **ret, uid_t uid, uint64_t now) {
  _cleanup_close_ int fd = pool_memfd();
  if (fd < 0) return fd;
  if (ftruncate(fd, POOL_PAGE_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, POOL_SEALS) < 0) return -errno;
  int r = pool_wrap(ret, uid, fd);
  if (r < 0) return r;
  fd = -1;
  struct pool_page *pg = (*ret)->page;
  pg->magic = POOL_MAGIC;
  pg->version = POOL_VERSION;
  pg->size = POOL_PAGE_SIZE;
  pg->uid = uid;
  atomic_store_explicit(&pg->tat, now > NS_PER_SEC ? now - NS_PER_SEC : 0, memory_order_relaxed); /* a full bucket */
  atomic_store_explicit(&pg->owner_beat, now, memory_order_relaxed);
  return 0;
}

/* The three seals make sure that no member can shorten the file under our mapping (SIGBUS). */
static int pool_check_file(int fd) {
  struct stat st;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & POOL_SEALS) != POOL_SEALS) return -EBADF;
  if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return -EBADF;
  int mode = fcntl(fd, F_GETFL);
  if (mode < 0 || (mode & O_ACCMODE) != O_RDWR) return -EBADF;
  if (fstat(fd, &st) < 0) return -errno;
  return S_ISREG(st.st_mode) && st.st_size == (off_t)POOL_PAGE_SIZE ? 0 : -EPROTO;
}

static int pool_check_identity(const struct pool_page *pg, uid_t uid) {
  if (pg->magic != POOL_MAGIC || pg->version != POOL_VERSION || pg->size != POOL_PAGE_SIZE) return -EPROTO;
  if (atomic_load_explicit(&pg->flags, memory_order_relaxed) & POOL_F_STANDALONE) return -EPROTO;
  return pg->uid == uid ? 0 : -EACCES;
}

static void pool_seat_orphans(struct pool *p, uint64_t now) {
  for (uint32_t m = 0; m < POOL_MEMBERS_MAX; m++) {
    uint32_t gen = atomic_load_explicit(&p->page->members[m].gen, memory_order_relaxed);
    if (gen == 0) continue;
    p->seats[m] = (struct pool_seat){.gen = gen, .orphan = true, .beat_at = now};
    p->seats[m].charged = atomic_load_explicit(&p->page->members[m].charged, memory_order_relaxed);
    p->high = m + 1;
    p->orphans++;
  }
  p->orphans_until = now + POOL_ORPHAN_NS;
  p->slots_high = POOL_SLOTS_MAX; /* who knows what the last daemon offered */
}

int pool_adopt(struct pool **ret, uid_t uid, int fd, uint64_t now) {
  int r = pool_check_file(fd);
  if (r < 0) return r;
  struct pool *p = NULL;
  if ((r = pool_wrap(&p, uid, fd)) < 0) return r;
  if (!p) return -ENOMEM; /* can't be; clang-tidy 14 does not know that errno is never 0 after a failure */
  if ((r = pool_check_identity(p->page, uid)) < 0) {
    p->fd = -1; /* still the caller's */
    pool_free(p);
    return r;
  }
  pool_seat_orphans(p, now);
  uint64_t tat = atomic_load_explicit(&p->page->tat, memory_order_relaxed);
  if ((int64_t)(tat - now) > (int64_t)NS_PER_SEC || (int64_t)(now - tat) > (int64_t)(3600 * NS_PER_SEC))
    atomic_store_explicit(&p->page->tat, now, memory_order_relaxed);
  atomic_store_explicit(&p->page->owner_asleep, 0, memory_order_relaxed);
  atomic_store_explicit(&p->page->owner_beat, now, memory_order_relaxed);
  *ret = p;
  return 0;
}

void pool_free(struct pool *p) {
  if (!p) return;
  munmap(p->page, POOL_PAGE_SIZE);
  util_closep(&p->fd);
  free(p->seats);
  free(p);
}

static void pool_seat(struct pool *p, struct client *c, uint32_t pid, uint32_t m, uint32_t gen) {
  struct pool_member *pm = &p->page->members[m];
  uint64_t now = now_ns();
  p->seats[m] = (struct pool_seat){.gen = gen, .pid = pid, .client = c, .beat_at = now};
  p->seats[m].charged = atomic_load_explicit(&pm->charged, memory_order_relaxed);
  p->nmembers++;
  if (m >= p->high) p->high = m + 1;
  atomic_store_explicit(&pm->pid, pid, memory_order_relaxed);
  atomic_store_explicit(&pm->gen, gen, memory_order_release); /* pairs with members' loads: the rest of it is clean by now */
  atomic_store_explicit(&p->page->nmembers, p->nmembers, memory_order_relaxed);
}

static void pool_clear_waiting(struct pool *p, uint32_t m) {
  atomic_fetch_and_explicit(&p->page->waiting[m / 64], ~(1ULL << (m % 64)), memory_order_relaxed);
}

/* All words of a member but its bell: a bell only ever grows, somebody may sleep on it. */
static void pool_wipe_member(struct pool *p, uint32_t m) {
  struct pool_member *pm = &p->page->members[m];
  atomic_store_explicit(&pm->gen, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->wants, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->express, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->nheld, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->pid, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->rung, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->flags, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->charged, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->beat, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->ngs, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->nms, 0, memory_order_relaxed);
  atomic_store_explicit(&pm->nthreads, 0, memory_order_relaxed);
  for (uint32_t i = 0; i < POOL_WIRED; i++) atomic_store_explicit(&pm->wired[i], 0, memory_order_relaxed);
  _Atomic uint64_t *const counts[] = {&pm->handoffs, &pm->retakes, &pm->preempts, &pm->wakeups, &pm->pauses};
  for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) atomic_store_explicit(counts[i], 0, memory_order_relaxed);
}

int pool_join(struct pool *p, struct client *c, uint32_t pid, uint32_t *member, uint32_t *gen) {
  uint32_t m = 0;
  while (m < POOL_MEMBERS_MAX && p->seats[m].gen) m++;
  if (m == POOL_MEMBERS_MAX) return -ENOSPC;
  do *gen = arc4random();
  while (*gen == 0);
  pool_wipe_member(p, m);
  pool_clear_waiting(p, m);
  pool_seat(p, c, pid, m, *gen);
  *member = m;
  return 0;
}

int pool_rejoin(struct pool *p, struct client *c, uint32_t pid, uint32_t member, uint32_t gen) {
  if (member >= POOL_MEMBERS_MAX || gen == 0) return -ESTALE;
  const struct pool_seat *s = &p->seats[member];
  if (s->gen != gen || !s->orphan) return -ESTALE;
  p->orphans--;
  pool_seat(p, c, pid, member, gen);
  return 0;
}

/* Frees slots whose word is exactly this lease.  Release pairs with the acquire of the member that takes it next. */
static uint32_t pool_free_lease(struct pool *p, uint64_t lease) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->slots_high; i++) {
    uint64_t word = lease;
    if (atomic_compare_exchange_strong_explicit(&p->page->slots[i].word, &word, 0, memory_order_acq_rel, memory_order_relaxed)) n++;
  }
  return n;
}

/* What a member was seen to charge since the last look: never negative, never more than its CPUs could. */
static uint64_t pool_scan_charged(struct pool *p, uint32_t m) {
  uint64_t charged = atomic_load_explicit(&p->page->members[m].charged, memory_order_relaxed);
  struct pool_seat *s = &p->seats[m];
  uint64_t more = charged - s->charged;
  s->charged = charged;
  return (int64_t)more < 0 ? 0 : UTIL_MIN(more, (uint64_t)POOL_CHARGE_CPUS * NS_PER_SEC);
}

static void pool_unseat(struct pool *p, uint32_t m) {
  struct pool_seat *s = &p->seats[m];
  if (s->orphan)
    p->orphans--;
  else
    p->nmembers--;
  uint32_t gen = s->gen;
  p->charged += pool_scan_charged(p, m);
  *s = (struct pool_seat){0};
  while (p->high > 0 && p->seats[p->high - 1].gen == 0) p->high--;
  pool_wipe_member(p, m);
  pool_clear_waiting(p, m);
  pool_free_lease(p, POOL_LEASE(m, gen));
  atomic_store_explicit(&p->page->nmembers, p->nmembers, memory_order_relaxed);
}

void pool_leave(struct pool *p, uint32_t member) {
  if (member >= POOL_MEMBERS_MAX || !p->seats[member].gen) return;
  pool_unseat(p, member);
  pool_ring_waiting(p);
}

uint32_t pool_drop_orphans(struct pool *p, uint64_t now) {
  uint32_t n = 0;
  bool over = now >= p->orphans_until;
  if (p->orphans == 0 || (!over && now - p->orphans_asked_at < NS_PER_SEC)) return 0;
  p->orphans_asked_at = now;
  for (uint32_t m = p->high; m-- > 0;) {
    if (!p->seats[m].gen || !p->seats[m].orphan) continue;
    /* The pid is the page's word for it: 0 signal, and the worst that a false one gets is our patience. */
    uint32_t pid = atomic_load_explicit(&p->page->members[m].pid, memory_order_relaxed);
    bool dead = pid > 1 && pid <= INT_MAX && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
    if (!dead && !over) continue;
    pool_unseat(p, m);
    n++;
  }
  if (n) pool_ring_waiting(p);
  return n;
}

/* The holder's seat, or -1 if this lease is nobody's. */
static int pool_holder(const struct pool *p, uint64_t word) {
  uint32_t m = POOL_LEASE_MEMBER(word);
  return m < POOL_MEMBERS_MAX && p->seats[m].gen && p->seats[m].gen == POOL_LEASE_GEN(word) ? (int)m : -1;
}

/*
 * Those to whom a rate means something now: who waits, and who holds a slot.  All others read it when they want a slot.  CPUs move between pools many times a second, and a thousand
 * sleepers that are woken each time use more than there is to divide.
 */
static void pool_ring_party(struct pool *p) {
  uint64_t set[POOL_MEMBERS_MAX / 64];
  pool_read_waiting(p, set);
  for (uint32_t i = 0; i < p->slots_high; i++) {
    uint64_t word = atomic_load_explicit(&p->page->slots[i].word, memory_order_relaxed); /* who takes it later reads the new rate */
    int m = pool_holder(p, word);
    if (m >= 0) set[m / 64] |= (uint64_t)1 << (m % 64);
  }
  pool_ring_some(p, set);
}

static void pool_set_flags(struct pool *p, uint32_t more) {
  atomic_store_explicit(&p->page->flags, p->params.flags | POOL_F_CROWDS | more, memory_order_relaxed);
}

bool pool_apply(struct pool *p, const struct pool_params *params, bool all, uint64_t now) {
  struct pool_page *pg = p->page;
  atomic_store_explicit(&pg->owner_beat, now, memory_order_relaxed);
  if (memcmp(&p->params, params, sizeof(*params)) == 0) return false;
  /* A rate that falls from "no limit" starts with what a full bucket has, not with years of savings or debt. */
  if (p->params.rate == 0) atomic_store_explicit(&pg->tat, now - NS_PER_SEC, memory_order_relaxed);
  all |= params->flags != p->params.flags || params->ncpus != p->params.ncpus;
  p->params = *params;
  p->slots_high = UTIL_MAX(p->slots_high, UTIL_MIN(params->nslots + params->nexpress + POOL_CROWD_SLOTS, POOL_SLOTS_MAX));
  atomic_store_explicit(&pg->nslots, params->nslots, memory_order_relaxed);
  atomic_store_explicit(&pg->nexpress, params->nexpress, memory_order_relaxed);
  atomic_store_explicit(&pg->ncpus, params->ncpus, memory_order_relaxed);
  atomic_store_explicit(&pg->rate, params->rate, memory_order_relaxed);
  atomic_store_explicit(&pg->credit_us, params->credit_us, memory_order_relaxed);
  atomic_store_explicit(&pg->debt_us, params->debt_us, memory_order_relaxed);
  pool_set_flags(p, 0);
  atomic_fetch_add_explicit(&pg->change, 1, memory_order_release); /* pairs with members' acquire of `change` */
  if (all)
    pool_ring_members(p);
  else if (!pool_is_crowd(pg, now))
    pool_ring_party(p);
  return all;
}

void pool_retire(struct pool *p) {
  pool_set_flags(p, POOL_F_RETIRED);
  atomic_fetch_add_explicit(&p->page->change, 1, memory_order_release); /* pairs with members' acquire of `change` */
  pool_ring_members(p);
}

static uint32_t pool_scan_slots(struct pool *p, uint64_t now) {
  uint32_t held = 0, freed = 0;
  for (uint32_t i = 0; i < p->slots_high; i++) {
    struct pool_slot *s = &p->page->slots[i];
    struct pool_watch *w = &p->slots[i];
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    uint64_t since = atomic_load_explicit(&s->since, memory_order_relaxed);
    if (word != w->word || since != w->since) *w = (struct pool_watch){word, since, now};
    if (word == 0) continue;
    if (pool_holder(p, word) >= 0)
      held++;
    else if (atomic_compare_exchange_strong_explicit(&s->word, &word, 0, memory_order_acq_rel,
                                                     memory_order_relaxed)) /* as in pool_free_lease */
      freed++;
  }
  if (freed) pool_ring_waiting(p);
  return held;
}

/* Bits of `waiting` that belong to nobody are cleared, or a bell would be rung for them for ever. */
static void pool_scan_waiting(struct pool *p) {
  for (uint32_t w = 0; w < POOL_MEMBERS_MAX / 64; w++) {
    uint64_t bits = atomic_load_explicit(&p->page->waiting[w], memory_order_relaxed);
    for (; bits; bits &= bits - 1) {
      uint32_t m = w * 64 + (uint32_t)__builtin_ctzll(bits);
      if (!p->seats[m].gen) pool_clear_waiting(p, m);
    }
  }
}

/* Gs that wait; of a member whose bit is not set, none: what it wants is old. */
static uint32_t pool_wants(const struct pool *p, uint32_t m) {
  if (!(atomic_load_explicit(&p->page->waiting[m / 64], memory_order_relaxed) & 1ULL << (m % 64))) return 0;
  return UTIL_MIN(atomic_load_explicit(&p->page->members[m].wants, memory_order_relaxed), POOL_WANTS_MAX);
}

struct pool_sum pool_scan(struct pool *p, uint64_t now) {
  struct pool_sum sum = {.held = pool_scan_slots(p, now)};
  for (uint32_t m = 0; m < p->high; m++) {
    struct pool_seat *s = &p->seats[m];
    struct pool_member *pm = &p->page->members[m];
    if (!s->gen) continue;
    uint32_t wants = pool_wants(p, m);
    sum.wants += wants;
    sum.waiters += wants != 0;
    uint32_t rung = atomic_load_explicit(&pm->rung, memory_order_relaxed);
    if (!s->orphan && rung < 4) sum.rung[rung]++;
    p->charged += pool_scan_charged(p, m);
    uint64_t beat = atomic_load_explicit(&pm->beat, memory_order_relaxed);
    if (beat != s->beat) {
      s->beat = beat;
      s->beat_at = now;
    }
  }
  pool_scan_waiting(p);
  sum.charged = p->charged;
  atomic_store_explicit(&p->page->owner_beat, now, memory_order_relaxed);
  return sum;
}

/* True for a process that is stopped by a signal or a tracer. */
static bool pool_is_stopped(const struct pool *p, uint32_t m) {
  char path[48], buf[512];
  snprintf(path, sizeof(path), "/proc/%u/stat", p->seats[m].pid);
  _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, buf, sizeof(buf) - 1);
  if (n <= 0) return false;
  buf[n] = 0;
  const char *end = strrchr(buf, ')');
  return end && end[1] == ' ' && (end[2] == 'T' || end[2] == 't');
}

/* The longer it has stood still, the less often it is asked. */
static bool pool_asks(struct pool_seat *s, uint64_t now, uint64_t stuck_ns) {
  uint64_t still = now - s->beat_at;
  if (still < stuck_ns / 3 || now - s->asked_at < UTIL_MIN(still / 2, NS_PER_SEC)) return false;
  s->asked_at = now;
  return true;
}

uint32_t pool_forget_stopped(struct pool *p, uint64_t now, uint64_t stuck_ns) {
  uint32_t n = 0;
  for (uint32_t m = 0; m < p->high; m++) {
    struct pool_seat *s = &p->seats[m];
    if (!s->gen || s->orphan || !pool_wants(p, m) || !pool_asks(s, now, stuck_ns) || !pool_is_stopped(p, m)) continue;
    /* In this order: should it go on just now, it sets its bit again after the bell. */
    pool_clear_waiting(p, m);
    pool_ring(&p->page->members[m].bell);
    n++;
  }
  return n;
}

static bool pool_others_want(const struct pool *p, uint32_t not_m) {
  for (uint32_t m = 0; m < p->high; m++) {
    if (m != not_m && p->seats[m].gen && pool_wants(p, m)) return true;
  }
  return false;
}

/* One that is stopped loses its slots whether they are wanted or not: else its pool would be awake, and have a part of the CPUs, for nothing. */
static bool pool_loses(const struct pool *p, uint32_t m, uint64_t still, uint64_t stuck_ns) {
  if (still < stuck_ns / 3) return false;
  return (still >= stuck_ns && pool_others_want(p, m)) || pool_is_stopped(p, m);
}

uint32_t pool_expropriate(struct pool *p, uint64_t now, uint64_t stuck_ns) {
  uint32_t n = 0;
  if (pool_is_crowd(p->page, now))
    stuck_ns *= POOL_CROWD_PATIENCE; /* they look seldom, and what they hold is wanted by nobody, as a rule */
  for (uint32_t i = 0; i < p->slots_high; i++) {
    const struct pool_watch *w = &p->slots[i];
    if (w->word == 0) continue;
    int m = pool_holder(p, w->word);
    if (m < 0) continue;
    uint64_t still = UTIL_MIN(now - w->seen_at, now - p->seats[m].beat_at);
    if (!pool_loses(p, (uint32_t)m, still, stuck_ns)) continue;
    uint64_t word = w->word;
    /* Acquire-release: as a release by the holder would be, for the member that takes it next. */
    if (atomic_compare_exchange_strong_explicit(&p->page->slots[i].word, &word, 0, memory_order_acq_rel, memory_order_relaxed)) n++;
  }
  if (n) pool_ring_waiting(p);
  return n;
}

uint32_t pool_held_by(const struct pool *p, uint32_t member) {
  if (member >= POOL_MEMBERS_MAX || !p->seats[member].gen) return 0;
  uint64_t lease = POOL_LEASE(member, p->seats[member].gen);
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->slots_high; i++) n += atomic_load_explicit(&p->page->slots[i].word, memory_order_relaxed) == lease;
  return n;
}
