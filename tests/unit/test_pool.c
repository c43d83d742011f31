/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/* The owner's side of a pool: division of CPUs, parameters, seats and slots, the meter of strangers. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "daemon/meter.h"
#include "daemon/pool.h"
#include "daemon/share.h"
#include "daemon/util.h"
#include "proto/pool_params.h"

/* ---- max-min fair division ---- */

static uint64_t seed = 88172645463325252ULL;
static uint64_t rnd(uint64_t n) { /* xorshift: the same sequence everywhere */
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed % n;
}

#define CLAIMS 12
struct scene {
  size_t n;
  uint64_t capacity;
  struct share_claim c[CLAIMS];
};

static void scene_make(struct scene *s) {
  s->n = 1 + rnd(CLAIMS);
  s->capacity = rnd(4) == 0 ? rnd(10) : rnd(8000000);
  for (size_t i = 0; i < s->n; i++) {
    s->c[i] = (struct share_claim){
        .demand = rnd(5) == 0 ? 0 : rnd(4000000),
        .limit = rnd(2) ? SHARE_NO_LIMIT : rnd(3000000),
        .weight = rnd(3) ? 100 : (uint32_t)rnd(10000),
    };
  }
}

static void scene_split(struct scene *s) {
  struct share_claim *p[CLAIMS];
  for (size_t i = 0; i < s->n; i++) p[i] = &s->c[i];
  share_split(p, s->n, s->capacity);
}

static uint64_t wanted(const struct share_claim *c) { return UTIL_MIN(c->demand, c->limit); }
static uint64_t weight(const struct share_claim *c) { return c->weight ? c->weight : 1; }

START_TEST(share_never_exceeds_and_wastes_nothing) {
  for (int round = 0; round < 20000; round++) {
    struct scene s;
    scene_make(&s);
    scene_split(&s);
    uint64_t sum = 0, room = 0;
    for (size_t i = 0; i < s.n; i++) {
      ck_assert_uint_le(s.c[i].grant, s.c[i].limit);
      sum += s.c[i].grant;
      room = s.c[i].limit > UINT64_MAX - room ? UINT64_MAX : room + s.c[i].limit;
    }
    ck_assert_uint_eq(sum, UTIL_MIN(s.capacity, room));
  }
}
END_TEST

START_TEST(share_is_max_min_fair) {
  for (int round = 0; round < 20000; round++) {
    struct scene s;
    scene_make(&s);
    scene_split(&s);
    uint64_t demands = 0;
    for (size_t i = 0; i < s.n; i++) demands += wanted(&s.c[i]);
    for (size_t i = 0; i < s.n; i++) {
      const struct share_claim *a = &s.c[i];
      if (demands <= s.capacity) ck_assert_uint_ge(a->grant, wanted(a)); /* enough for all: all are content */
      if (a->grant >= wanted(a)) continue;
      /* Who goes short has as much for its weight as anybody who got more than it would have had. */
      for (size_t j = 0; j < s.n; j++) {
        const struct share_claim *b = &s.c[j];
        __int128 more = (__int128)b->grant * weight(a) - (__int128)a->grant * weight(b);
        ck_assert(more <= (__int128)(s.n + 1) * UTIL_MAX(weight(a), weight(b))); /* rounding */
      }
    }
  }
}
END_TEST

START_TEST(share_is_monotone) {
  for (int round = 0; round < 20000; round++) {
    struct scene s, t;
    scene_make(&s);
    t = s;
    size_t k = rnd(s.n);
    scene_split(&s);
    switch (rnd(3)) { /* more demand, more capacity, more weight: never less for oneself */
      case 0:
        t.c[k].demand += rnd(1000000);
        break;
      case 1:
        t.capacity += rnd(1000000);
        break;
      default:
        t.c[k].weight += (uint32_t)rnd(1000);
    }
    scene_split(&t);
    ck_assert_uint_ge(t.c[k].grant + CLAIMS, s.c[k].grant);
  }
}
END_TEST

START_TEST(share_follows_weights) {
  struct scene s = {.n = 3,
                    .capacity = 1000000,
                    .c = {{.demand = 9000000, .limit = SHARE_NO_LIMIT, .weight = 100},
                          {.demand = 9000000, .limit = SHARE_NO_LIMIT, .weight = 300},
                          {.demand = 100000, .limit = SHARE_NO_LIMIT, .weight = 100}}};
  scene_split(&s);
  ck_assert_uint_eq(s.c[2].grant, 100000);
  ck_assert_uint_eq(s.c[0].grant, 225000);
  ck_assert_uint_eq(s.c[1].grant, 675000);
}
END_TEST

START_TEST(share_of_nobody_is_no_crash) {
  share_split(NULL, 0, 5);
  struct share_node root = {.claim = {.limit = SHARE_NO_LIMIT}};
  ck_assert_int_eq(share_tree(&root, 7), 0);
  ck_assert_uint_eq(root.claim.grant, 7);
}
END_TEST

/* host 4.0 ── a (limit 2.0) ── a/b (limit 1.5), a/c (limit 1.5);  d (no limit) */
START_TEST(share_tree_keeps_every_ancestors_limit) {
  for (int round = 0; round < 5000; round++) {
    struct share_node leaf[4], b = {0}, c = {0}, a = {0}, root = {0};
    for (int i = 0; i < 4; i++)
      leaf[i] = (struct share_node){.claim = {.demand = rnd(5000000), .limit = SHARE_NO_LIMIT, .weight = 1 + (uint32_t)rnd(1000)}};
    b = (struct share_node){.claim = {.limit = 1500000, .weight = 100}, .child = &leaf[0]};
    leaf[0].sibling = &leaf[1];
    c = (struct share_node){.claim = {.limit = 1500000, .weight = 100}, .child = &leaf[2]};
    b.sibling = &c;
    a = (struct share_node){.claim = {.limit = 2000000, .weight = 100}, .child = &b, .sibling = &leaf[3]};
    root = (struct share_node){.claim = {.limit = SHARE_NO_LIMIT}, .child = &a};
    ck_assert_int_eq(share_tree(&root, 4000000), 0);
    uint64_t in_b = leaf[0].claim.grant + leaf[1].claim.grant, in_c = leaf[2].claim.grant;
    ck_assert_uint_le(in_b, 1500000);
    ck_assert_uint_le(in_c, 1500000);
    ck_assert_uint_le(in_b + in_c, 2000000);
    ck_assert_uint_le(in_b + in_c + leaf[3].claim.grant, 4000000);
    /* b and c are equals: if one goes short, the other has no more than it, or no more than it wants or half. */
    uint64_t want_b = UTIL_MIN(leaf[0].claim.demand + leaf[1].claim.demand, 1500000), want_c = UTIL_MIN(leaf[2].claim.demand, 1500000);
    if (in_c + 4 < want_c && in_b > in_c + 4) ck_abort_msg("c goes short beside b");
    if (in_b + 4 < want_b && in_c > in_b + 4) ck_abort_msg("b goes short beside c");
  }
}
END_TEST

/* ---- parameters ---- */

static struct pool_params params(uint64_t cpu, uint32_t allowed, uint32_t margin) {
  return page_params((struct pool_params_in){.cpu_micro = cpu, .period_us = 100000, .cpus_allowed = allowed, .margin_ppm = margin});
}

START_TEST(fractions_are_not_rounded_away) {
  struct pool_params p = params(1500000, 4, 20000);
  ck_assert_uint_eq(p.nslots, 2);
  ck_assert_uint_eq(p.ncpus, 2);
  ck_assert_uint_eq(p.rate, 1470000);
  ck_assert_uint_eq(p.nexpress, 2);
  ck_assert_uint_eq(p.flags, POOL_F_GATED);
  ck_assert_uint_eq(p.credit_us, UTIL_MAX(150000ull * POOL_CREDIT_PPM / 1000000, POOL_BUCKET_MIN_US));
  ck_assert_uint_eq(p.debt_us, UTIL_MAX(150000ull * POOL_DEBT_PPM / 1000000, POOL_BUCKET_MIN_US));
  p = params(1000000, 2, 0);
  ck_assert_uint_eq(p.nslots, 1);
  ck_assert_uint_eq(p.nexpress, 1);
  ck_assert_uint_eq(p.rate, 1000000);
}
END_TEST

static uint32_t rate_with(uint64_t cpu, uint64_t domain, uint32_t margin, uint64_t burst) {
  return page_params(
             (struct pool_params_in){
                 .cpu_micro = cpu, .domain_micro = domain, .period_us = 100000, .burst_us = burst, .cpus_allowed = 8, .margin_ppm = margin})
      .rate;
}

START_TEST(a_burst_saves_the_margin) {
  ck_assert_uint_eq(rate_with(500000, 0, POOL_MARGIN_AUTO, 0), 490000); /* 1 ms of 50 */
  ck_assert_uint_eq(rate_with(500000, 0, POOL_MARGIN_AUTO, 2000), 494500);
  ck_assert_uint_eq(rate_with(500000, 0, POOL_MARGIN_AUTO, 4000), 499000);
  ck_assert_uint_eq(rate_with(500000, 0, POOL_MARGIN_AUTO, UINT64_MAX), 499000); /* never all of it */
  ck_assert_uint_eq(rate_with(1000000, 0, POOL_MARGIN_AUTO, 0), 985000);
  ck_assert_uint_eq(rate_with(1000000, 0, POOL_MARGIN_AUTO, 4000), 998500);
  ck_assert_uint_eq(rate_with(1500000, 0, POOL_MARGIN_AUTO, 4000), 1500000 - 22500 + 10125); /* two CPUs: half of what they need */
  ck_assert_uint_eq(rate_with(500000, 2000000, POOL_MARGIN_AUTO, 4000), 494500);             /* it is the whole domain's */
  /* What somebody asked for stays; but the least that a small quota keeps is not that. */
  ck_assert_uint_eq(rate_with(500000, 0, 100000, UINT64_MAX), 450000);
  ck_assert_uint_eq(rate_with(500000, 0, 5000, 0), 490000);
  ck_assert_uint_eq(rate_with(500000, 0, 5000, 4000), 497500);
  ck_assert_uint_eq(rate_with(500000, 0, 0, 0), 500000);
}
END_TEST

START_TEST(nothing_is_gated_where_nothing_is_scarce) {
  for (uint32_t cpus = 1; cpus <= 300; cpus++) {
    struct pool_params p = params((uint64_t)cpus * 1000000, cpus, 20000);
    ck_assert_uint_eq(p.flags, 0);
    ck_assert_uint_eq(p.rate, 0);
    ck_assert_uint_eq(p.ncpus, cpus);
    ck_assert_uint_eq(params(UINT64_MAX, cpus, 20000).flags, 0);
    ck_assert_uint_eq(params((uint64_t)cpus * 1000000 - 1, cpus, 0).flags, POOL_F_GATED);
  }
}
END_TEST

START_TEST(parameters_stay_within_the_page) {
  static const uint64_t values[] = {0,       1,         999,       10000,         999999,         1000000,
                                    1000001, 255999999, 256000000, 5000000000ULL, UINT64_MAX - 1, UINT64_MAX};
  static const uint32_t alloweds[] = {0, 1, 2, 255, 256, 257, 8192, UINT32_MAX};
  for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
    for (size_t k = 0; k < sizeof(alloweds) / sizeof(*alloweds); k++) {
      for (size_t j = 0; j < sizeof(values) / sizeof(*values); j++) {
        struct pool_params p = page_params((struct pool_params_in){.cpu_micro = values[i],
                                                                   .period_us = values[j],
                                                                   .burst_us = values[(i + j) % 12],
                                                                   .cpus_allowed = alloweds[k],
                                                                   .margin_ppm = alloweds[(i + j) % 8]});
        ck_assert_uint_ge(p.nslots, 1);
        ck_assert_uint_ge(p.ncpus, 1);
        ck_assert_uint_le(p.nslots + p.nexpress, POOL_SLOTS_MAX);
        ck_assert_uint_le(p.nexpress, p.nslots);
        ck_assert_uint_ge(p.credit_us, 1000);
        ck_assert_uint_ge(p.debt_us, 1000);
        ck_assert_uint_le(p.debt_us, 1000000);
        if (p.flags & POOL_F_GATED) ck_assert_uint_ge(p.rate, 1);
      }
    }
  }
}
END_TEST

/* ---- seats and slots ---- */

static struct pool *new_pool(void) {
  struct pool *p = NULL;
  ck_assert_int_eq(pool_create(&p, 1000, now_ns()), 0);
  struct pool_params two = params(2000000, 4, 0);
  ck_assert(pool_apply(p, &two, false, now_ns()));
  return p;
}

static struct client *nobody(int n) { return (struct client *)(uintptr_t)(n + 1); } /* never dereferenced by pool.c */

static uint64_t word(struct pool *p, uint32_t i) { return atomic_load(&p->page->slots[i].word); }

START_TEST(leaving_frees_every_slot_and_the_waiting_bit) {
  struct pool *p = new_pool();
  uint32_t m, gen, o, ogen;
  ck_assert_int_eq(pool_join(p, nobody(0), 1, &m, &gen), 0);
  ck_assert_int_eq(pool_join(p, nobody(1), 1, &o, &ogen), 0);
  atomic_store(&p->page->slots[0].word, POOL_LEASE(m, gen));
  atomic_store(&p->page->slots[1].word, POOL_LEASE(o, ogen));
  atomic_store(&p->page->slots[2].word, POOL_LEASE(m, gen));
  atomic_store(&p->page->waiting[0], 3);
  atomic_store(&p->page->members[m].wants, 4);
  ck_assert_uint_eq(pool_held_by(p, m), 2);
  uint32_t bell = atomic_load(&p->page->members[o].bell);
  pool_leave(p, m);
  ck_assert_uint_eq(word(p, 0), 0);
  ck_assert_uint_eq(word(p, 1), POOL_LEASE(o, ogen));
  ck_assert_uint_eq(word(p, 2), 0);
  ck_assert_uint_eq(atomic_load(&p->page->waiting[0]), 1u << o);
  ck_assert_uint_eq(atomic_load(&p->page->members[m].gen), 0);
  ck_assert_uint_gt(atomic_load(&p->page->members[o].bell), bell);
  ck_assert_uint_eq(p->nmembers, 1);
  pool_leave(p, m);          /* again: nothing happens */
  pool_leave(p, UINT32_MAX); /* never sat here */
  ck_assert_uint_eq(p->nmembers, 1);
  pool_free(p);
}
END_TEST

START_TEST(what_a_crowd_leaves_behind_is_freed) {
  struct pool *p = new_pool();
  uint32_t m, gen;
  ck_assert_int_eq(pool_join(p, nobody(0), 1, &m, &gen), 0);
  struct pool_params params = {.nslots = 1, .nexpress = 1, .ncpus = 1, .rate = 985000, .flags = POOL_F_GATED};
  pool_apply(p, &params, true, now_ns());
  ck_assert_uint_eq(atomic_load(&p->page->flags), POOL_F_GATED | POOL_F_CROWDS);
  uint32_t last = 2 + POOL_CROWD_SLOTS - 1;
  atomic_store(&p->page->slots[last].word, POOL_LEASE(m, gen));
  ck_assert_uint_eq(pool_scan(p, now_ns()).held, 1);
  pool_leave(p, m);
  ck_assert_uint_eq(word(p, last), 0);
  pool_free(p);
}
END_TEST

START_TEST(a_full_page_says_so_and_seats_are_used_again) {
  struct pool *p = new_pool();
  uint32_t m, gen, gens[POOL_MEMBERS_MAX];
  for (uint32_t i = 0; i < POOL_MEMBERS_MAX; i++) {
    ck_assert_int_eq(pool_join(p, nobody((int)i), 1, &m, &gens[i]), 0);
    ck_assert_uint_eq(m, i);
    ck_assert_uint_ne(gens[i], 0);
  }
  ck_assert_int_eq(pool_join(p, nobody(0), 1, &m, &gen), -ENOSPC);
  pool_leave(p, 500);
  ck_assert_int_eq(pool_join(p, nobody(0), 1, &m, &gen), 0);
  ck_assert_uint_eq(m, 500);
  ck_assert_uint_ne(gen, gens[500]);
  pool_free(p);
}
END_TEST

START_TEST(leases_of_nobody_are_freed_and_lies_are_bounded) {
  struct pool *p = new_pool();
  uint32_t m, gen;
  ck_assert_int_eq(pool_join(p, nobody(0), 1, &m, &gen), 0);
  for (int round = 0; round < 3000; round++) {
    for (uint32_t i = 0; i < p->slots_high; i++) atomic_store(&p->page->slots[i].word, rnd(3) ? rnd(UINT64_MAX) : POOL_LEASE(m, gen));
    for (uint32_t i = 0; i < 16; i++) atomic_store(&p->page->waiting[i], rnd(UINT64_MAX));
    for (uint32_t i = 0; i < POOL_MEMBERS_MAX; i++) atomic_store(&p->page->members[i].wants, UINT32_MAX);
    atomic_store(&p->page->members[m].charged, rnd(UINT64_MAX));
    atomic_store(&p->page->members[m].rung, (uint32_t)rnd(UINT32_MAX));
    uint64_t before = p->charged;
    struct pool_sum sum = pool_scan(p, now_ns());
    ck_assert_uint_le(sum.held, p->slots_high);
    ck_assert_uint_le(sum.wants, 65536);
    ck_assert_uint_le(sum.waiters, 1);
    ck_assert_uint_ge(sum.charged, before);
    ck_assert_uint_le(sum.charged - before, POOL_SLOTS_MAX * NS_PER_SEC);
    for (uint32_t i = 0; i < p->slots_high; i++) ck_assert(word(p, i) == 0 || word(p, i) == POOL_LEASE(m, gen));
    ck_assert_uint_eq(atomic_load(&p->page->waiting[0]) & ~1ULL, 0);
    for (uint32_t i = 1; i < 16; i++) ck_assert_uint_eq(atomic_load(&p->page->waiting[i]), 0);
  }
  pool_free(p);
}
END_TEST

static void want(struct pool *p, uint32_t m, uint32_t gs) {
  atomic_store(&p->page->members[m].wants, gs);
  atomic_fetch_or(&p->page->waiting[m / 64], 1ULL << (m % 64));
}

static pid_t stopped_child(void) {
  int status;
  pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    raise(SIGSTOP);
    _exit(0);
  }
  ck_assert_int_gt(pid, 0);
  ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
  ck_assert(WIFSTOPPED(status));
  return pid;
}

START_TEST(a_stopped_process_neither_waits_nor_holds) {
  struct pool *p = new_pool();
  uint32_t m, gen, o, ogen;
  uint64_t stuck = 90 * NS_PER_MS;
  pid_t pid = stopped_child();
  ck_assert_int_eq(pool_join(p, nobody(0), (uint32_t)pid, &m, &gen), 0);
  ck_assert_int_eq(pool_join(p, nobody(1), (uint32_t)getpid(), &o, &ogen), 0);
  want(p, m, 2);
  want(p, o, 3);
  uint64_t t = now_ns();
  ck_assert_uint_eq(pool_scan(p, t).wants, 5);
  ck_assert_uint_eq(pool_forget_stopped(p, t, stuck), 0); /* a moment is nothing */
  uint32_t bell = atomic_load(&p->page->members[m].bell), others = atomic_load(&p->page->members[o].bell);
  t += stuck;
  ck_assert_uint_eq(pool_forget_stopped(p, t, stuck), 1);
  ck_assert_uint_eq(pool_scan(p, t).wants, 3); /* who only waits for long stays in line */
  ck_assert_uint_eq(atomic_load(&p->page->members[m].bell), bell + 1);
  ck_assert_uint_eq(atomic_load(&p->page->members[o].bell), others);
  ck_assert_uint_eq(pool_forget_stopped(p, t + stuck, stuck), 0);
  want(p, m, 2); /* as when it goes on */
  ck_assert_uint_eq(pool_scan(p, t).wants, 5);
  /* And what it holds it loses, whether others want it or not. */
  atomic_store(&p->page->waiting[0], 0);
  atomic_store(&p->page->slots[0].word, POOL_LEASE(m, gen));
  pool_scan(p, t);
  ck_assert_uint_eq(pool_expropriate(p, t + stuck / 4, stuck), 0);
  ck_assert_uint_eq(pool_expropriate(p, t + stuck / 2, stuck), 1);
  ck_assert_int_eq(kill(pid, SIGKILL), 0);
  ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
  ck_assert_uint_eq(pool_forget_stopped(p, t + 9 * NS_PER_SEC, stuck), 0);
  pool_free(p);
}
END_TEST

START_TEST(only_who_stands_still_is_expropriated) {
  struct pool *p = new_pool();
  uint32_t m, gen, o, ogen;
  uint64_t t = now_ns();
  ck_assert_int_eq(pool_join(p, nobody(0), (uint32_t)getpid(), &m, &gen), 0);
  ck_assert_int_eq(pool_join(p, nobody(1), (uint32_t)getpid(), &o, &ogen), 0);
  uint64_t mine = POOL_LEASE(m, gen);
  atomic_store(&p->page->slots[0].word, mine);
  pool_scan(p, t);
  ck_assert_uint_eq(pool_expropriate(p, t + 5 * NS_PER_SEC, 100 * NS_PER_MS), 0); /* nobody wants it */
  want(p, m, 9);
  ck_assert_uint_eq(pool_expropriate(p, t + 5 * NS_PER_SEC, 100 * NS_PER_MS), 0); /* nobody else */
  want(p, o, 1);
  atomic_store(&p->page->members[m].beat, 1);
  t += 10 * NS_PER_SEC;
  pool_scan(p, t);
  ck_assert_uint_eq(pool_expropriate(p, t + 50 * NS_PER_MS, 100 * NS_PER_MS), 0); /* it has just beaten */
  atomic_store(&p->page->members[m].beat, UINT64_MAX);                            /* a beat from the future is only a change */
  pool_scan(p, t + 90 * NS_PER_MS);
  ck_assert_uint_eq(pool_expropriate(p, t + 150 * NS_PER_MS, 100 * NS_PER_MS), 0);
  uint32_t bell = atomic_load(&p->page->members[o].bell);
  ck_assert_uint_eq(pool_expropriate(p, t + 191 * NS_PER_MS, 100 * NS_PER_MS), 1);
  ck_assert_uint_eq(word(p, 0), 0);
  ck_assert_uint_gt(atomic_load(&p->page->members[o].bell), bell);
  ck_assert_uint_eq(p->seats[m].gen, gen); /* it keeps its seat */
  pool_free(p);
}
END_TEST

START_TEST(an_adopted_page_keeps_seats_for_those_who_come_back) {
  struct pool *p = new_pool(), *q = NULL;
  uint32_t m, gen, o, ogen, x, xgen;
  ck_assert_int_eq(pool_join(p, nobody(0), (uint32_t)getpid(), &m, &gen), 0);
  ck_assert_int_eq(pool_join(p, nobody(1), (uint32_t)getpid(), &o, &ogen), 0);
  atomic_store(&p->page->slots[0].word, POOL_LEASE(m, gen));
  atomic_store(&p->page->slots[1].word, POOL_LEASE(o, ogen));
  atomic_store(&p->page->tat, UINT64_MAX / 2);
  int fd = dup(p->fd);
  uint64_t t = now_ns();
  ck_assert_int_eq(pool_adopt(&q, 1000, fd, t), 0);
  ck_assert_uint_eq(q->orphans, 2);
  ck_assert_uint_eq(atomic_load(&q->page->tat), t);
  pool_scan(q, t);
  ck_assert_uint_eq(word(q, 0), POOL_LEASE(m, gen)); /* an orphan's lease stays */
  ck_assert_int_eq(pool_rejoin(q, nobody(0), 1, m, gen + 1), -ESTALE);
  ck_assert_int_eq(pool_rejoin(q, nobody(0), 1, m + 1000000, gen), -ESTALE);
  ck_assert_int_eq(pool_rejoin(q, nobody(0), 1, 900, 0), -ESTALE);
  ck_assert_int_eq(pool_rejoin(q, nobody(0), 1, m, gen), 0);
  ck_assert_int_eq(pool_rejoin(q, nobody(0), 1, m, gen), -ESTALE); /* not twice */
  ck_assert_int_eq(pool_join(q, nobody(2), 1, &x, &xgen), 0);
  ck_assert_uint_ne(x, o); /* an orphan's seat is not given away */
  ck_assert_uint_eq(pool_drop_orphans(q, t), 0);
  ck_assert_uint_eq(pool_drop_orphans(q, t + 11 * NS_PER_SEC), 1);
  ck_assert_uint_eq(word(q, 1), 0);
  ck_assert_uint_eq(word(q, 0), POOL_LEASE(m, gen));
  ck_assert_uint_eq(q->nmembers, 2);
  pool_free(q);
  pool_free(p);
}
END_TEST

START_TEST(whether_orphans_live_is_asked_once_a_second) {
  struct pool *p = new_pool(), *q = NULL;
  uint32_t m, gen;
  pid_t pid = stopped_child();
  ck_assert_int_eq(pool_join(p, nobody(0), (uint32_t)pid, &m, &gen), 0);
  uint64_t t = now_ns();
  ck_assert_int_eq(pool_adopt(&q, 1000, dup(p->fd), t), 0);
  ck_assert_uint_eq(pool_drop_orphans(q, t), 0);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  ck_assert_uint_eq(pool_drop_orphans(q, t + NS_PER_SEC / 2), 0);
  ck_assert_uint_eq(pool_drop_orphans(q, t + NS_PER_SEC), 1);
  pool_free(q);
  pool_free(p);
}
END_TEST

START_TEST(only_our_own_sealed_pages_are_adopted) {
  struct pool *p = new_pool(), *q = NULL;
  ck_assert_int_eq(pool_adopt(&q, 1001, p->fd, now_ns()), -EACCES);
  p->page->version = 77;
  ck_assert_int_eq(pool_adopt(&q, 1000, p->fd, now_ns()), -EPROTO);
  ck_assert_int_ge(fcntl(p->fd, F_GETFD), 0); /* a refused descriptor stays the caller's */
  int loose = memfd_create("loose", MFD_ALLOW_SEALING);
  ck_assert_int_eq(ftruncate(loose, POOL_PAGE_SIZE), 0);
  ck_assert_int_eq(pool_adopt(&q, 1000, loose, now_ns()), -EBADF);
  ck_assert_int_eq(pool_adopt(&q, 1000, STDIN_FILENO, now_ns()), -EBADF);
  pool_free(p);
}
END_TEST

START_TEST(a_change_is_told_once) {
  struct pool *p = new_pool();
  uint32_t m, gen;
  ck_assert_int_eq(pool_join(p, nobody(0), 1, &m, &gen), 0);
  uint32_t change = atomic_load(&p->page->change), bell = atomic_load(&p->page->members[m].bell);
  struct pool_params same = p->params, other = params(1500000, 4, 0);
  ck_assert(!pool_apply(p, &same, true, now_ns()));
  ck_assert_uint_eq(atomic_load(&p->page->change), change);
  ck_assert(pool_apply(p, &other, true, now_ns()));
  ck_assert_uint_eq(atomic_load(&p->page->change), change + 1);
  ck_assert_uint_eq(atomic_load(&p->page->members[m].bell), bell + 1);
  ck_assert_uint_eq(atomic_load(&p->page->rate), 1500000);
  pool_free(p);
}
END_TEST

START_TEST(a_new_rate_wakes_no_sleepers) {
  enum { SLEEPS, HOLDS, WAITS, N };
  struct pool *p = new_pool();
  uint32_t m[N], gen[N], bell[N];
  for (int i = 0; i < N; i++) {
    ck_assert_int_eq(pool_join(p, nobody(i), 1, &m[i], &gen[i]), 0);
    bell[i] = atomic_load(&p->page->members[m[i]].bell);
  }
  atomic_store(&p->page->slots[1].word, POOL_LEASE(m[HOLDS], gen[HOLDS]));
  atomic_store(&p->page->slots[0].word, POOL_LEASE(m[SLEEPS], gen[SLEEPS] + 1)); /* of another generation: nobody's */
  atomic_fetch_or(&p->page->waiting[m[WAITS] / 64], 1ULL << (m[WAITS] % 64));
  struct pool_params less = p->params;
  less.rate /= 2, less.nslots = 1;
  ck_assert(!pool_apply(p, &less, false, now_ns()));
  ck_assert_uint_eq(atomic_load(&p->page->rate), less.rate);
  for (int i = 0; i < N; i++) ck_assert_uint_eq(atomic_load(&p->page->members[m[i]].bell), bell[i] + (i != SLEEPS));
  struct pool_params ungated = less;
  ungated.flags = 0, ungated.rate = 0;
  ck_assert(pool_apply(p, &ungated, false, now_ns()));
  ck_assert_uint_eq(atomic_load(&p->page->members[m[SLEEPS]].bell), bell[SLEEPS] + 1);
  pool_free(p);
}
END_TEST

/* ---- strangers ---- */

#define TICK (20 * NS_PER_MS)

START_TEST(strangers_are_charged_in_full_and_nothing_else) {
  struct meter m = {0};
  uint64_t now = NS_PER_SEC, usage = 777, charged = 55;
  int64_t taken = 0, strangers = 0;
  for (int i = 0; i < 3000; i++) {
    now += TICK;
    uint64_t ours = rnd(TICK), theirs = i > 100 && i < 2900 ? rnd(TICK / 4) : 0;
    usage += ours + theirs;
    charged += ours;
    strangers += (int64_t)theirs;
    taken += meter_sample(&m, now, usage, charged, 1000000);
  }
  ck_assert_int_eq(taken, strangers);
}
END_TEST

START_TEST(time_that_is_charged_late_is_not_taken_for_strangers) {
  struct meter m = {0};
  uint64_t now = NS_PER_SEC, usage = 0, charged = 0, late = 0;
  int64_t taken = 0;
  for (int i = 0; i < 3000; i++) {
    now += TICK;
    usage += TICK;
    late += TICK;
    if (i % 3 == 2) { /* charges come every third tick */
      charged += late;
      late = 0;
    }
    taken += meter_sample(&m, now, usage, charged, 1000000);
    ck_assert_int_ge(taken, 0);
    ck_assert_int_le(taken, (int64_t)(3 * TICK));
  }
}
END_TEST

START_TEST(strangers_leave_a_half_and_no_backlog_builds_up) {
  struct meter m = {0};
  uint64_t now = NS_PER_SEC, usage = 0;
  int64_t taken = 0;
  for (int i = 0; i < 1000; i++) {
    now += TICK;
    usage += 4 * TICK;
    int64_t t = meter_sample(&m, now, usage, 0, 1000000);
    ck_assert_int_le(t, (int64_t)TICK / 2);
    taken += t;
  }
  int64_t after = 0;
  for (int i = 0; i < 200; i++) { /* they have gone */
    now += TICK;
    after += meter_sample(&m, now, usage, 0, 1000000);
  }
  ck_assert_int_gt(taken, (int64_t)TICK * 400);
  ck_assert_int_le(after, (int64_t)(METER_BACKLOG_NS + METER_SAMPLES * TICK / 2)); /* the window still fills */
  ck_assert_int_ge(after, 0);
}
END_TEST

START_TEST(what_was_used_before_the_start_is_nobodys_gift) {
  struct meter m = {0};
  uint64_t now = NS_PER_SEC, usage = 1000 * TICK, charged = 0;
  int64_t taken = 0;
  meter_sample(&m, now, usage, charged, 1000000);
  for (int i = 0; i < 100; i++) {
    now += TICK;
    usage += TICK;
    charged += TICK + (i < 10 ? TICK : 0); /* ten ticks' worth was under way when it began */
    taken += meter_sample(&m, now, usage, charged, 1000000);
    ck_assert_int_ge(taken, 0);
  }
}
END_TEST

START_TEST(a_counter_that_jumps_back_starts_anew) {
  struct meter m = {0};
  uint64_t now = NS_PER_SEC;
  for (int i = 0; i < 10; i++) meter_sample(&m, now += TICK, 1000000000 + (uint64_t)i, 0, 1000000);
  ck_assert_int_eq(meter_sample(&m, now += TICK, 5, 0, 1000000), 0);
  for (int i = 0; i < 10; i++) ck_assert_int_eq(meter_sample(&m, now += TICK, 5, 0, 1000000), 0);
  ck_assert_int_eq(meter_sample(&m, now, 500, 0, 1000000), 0); /* no time has passed: no division by it */
}
END_TEST

UNIT_MAIN("pool", share_never_exceeds_and_wastes_nothing, share_is_max_min_fair, share_is_monotone, share_follows_weights,
          share_of_nobody_is_no_crash, share_tree_keeps_every_ancestors_limit, fractions_are_not_rounded_away, a_burst_saves_the_margin,
          nothing_is_gated_where_nothing_is_scarce, parameters_stay_within_the_page, leaving_frees_every_slot_and_the_waiting_bit,
          what_a_crowd_leaves_behind_is_freed, a_full_page_says_so_and_seats_are_used_again,
          leases_of_nobody_are_freed_and_lies_are_bounded, a_stopped_process_neither_waits_nor_holds, only_who_stands_still_is_expropriated,
          an_adopted_page_keeps_seats_for_those_who_come_back, whether_orphans_live_is_asked_once_a_second,
          only_our_own_sealed_pages_are_adopted, a_change_is_told_once, a_new_rate_wakes_no_sleepers,
          strangers_are_charged_in_full_and_nothing_else, time_that_is_charged_late_is_not_taken_for_strangers,
          strangers_leave_a_half_and_no_backlog_builds_up, what_was_used_before_the_start_is_nobodys_gift,
          a_counter_that_jumps_back_starts_anew)
