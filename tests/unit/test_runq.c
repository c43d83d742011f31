/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local run queue on one thread: order, limits, what each side may take.  What threads do to each
 * other is in stress_runq.c, and every interleaving of a small one in tests/model/runq.pml.
 */
#include "core/g.h"
#include "core/runq.h"
#include "unit.h"

#define NGS 1024
static struct g gs[NGS];
static struct runq q, q2;
static struct g *over[RUNQ_OVERFLOW];
static unsigned nover;

static void put(struct runq *rq, unsigned i) { ck_assert(runq_put(rq, &gs[i], false, over, &nover)); }
static void put_next(struct runq *rq, unsigned i) { ck_assert(runq_put(rq, &gs[i], true, over, &nover)); }

static void fill(struct runq *rq, unsigned from, unsigned n) {
  for (unsigned i = 0; i < n; i++) put(rq, from + i);
}

/* Starts both queues with their counters at `at`, as after that many Gs. */
static void start_at(uint32_t at) {
  runq_init(&q);
  runq_init(&q2);
  for (struct runq *r = &q;; r = &q2) {
    atomic_store(&r->head, at);
    atomic_store(&r->tail, at);
    if (r == &q2) break;
  }
}

static void expect(struct runq *rq, int i) {
  bool inherit;
  struct g *g = runq_get(rq, &inherit);
  ck_assert_int_eq(g ? (int)(g - gs) : -1, i);
  ck_assert(!inherit);
}

START_TEST(get_of_empty_is_null) {
  start_at(0);
  expect(&q, -1);
  ck_assert(runq_empty(&q));
  ck_assert_uint_eq(runq_len(&q), 0);
}
END_TEST

START_TEST(gs_come_out_in_the_order_they_went_in) {
  start_at(0);
  fill(&q, 0, RUNQ_SIZE);
  ck_assert_uint_eq(runq_len(&q), RUNQ_SIZE);
  for (unsigned i = 0; i < RUNQ_SIZE; i++) expect(&q, (int)i);
  expect(&q, -1);
}
END_TEST

START_TEST(runnext_runs_first_and_inherits_the_slice) {
  start_at(0);
  bool inherit;
  put(&q, 0);
  put_next(&q, 1);
  ck_assert_uint_eq(runq_len(&q), 2);
  ck_assert_ptr_eq(runq_get(&q, &inherit), &gs[1]);
  ck_assert(inherit);
  expect(&q, 0);
}
END_TEST

START_TEST(newer_runnext_kicks_the_older_to_the_tail) {
  start_at(0);
  bool inherit;
  put(&q, 0);
  put_next(&q, 1);
  put_next(&q, 2);
  ck_assert_ptr_eq(runq_get(&q, &inherit), &gs[2]);
  expect(&q, 0);
  expect(&q, 1);
  expect(&q, -1);
}
END_TEST

START_TEST(full_ring_gives_up_its_older_half_and_the_new_g) {
  start_at(0);
  fill(&q, 0, RUNQ_SIZE);
  ck_assert(!runq_put(&q, &gs[500], false, over, &nover));
  ck_assert_uint_eq(nover, RUNQ_SIZE / 2 + 1);
  for (unsigned i = 0; i < RUNQ_SIZE / 2; i++) ck_assert_ptr_eq(over[i], &gs[i]);
  ck_assert_ptr_eq(over[RUNQ_SIZE / 2], &gs[500]);
  for (unsigned i = RUNQ_SIZE / 2; i < RUNQ_SIZE; i++) expect(&q, (int)i);
  expect(&q, -1);
  put(&q, 0);
  ck_assert_uint_eq(nover, 0);
}
END_TEST

START_TEST(kicked_runnext_overflows_like_any_other) {
  start_at(0);
  bool inherit;
  fill(&q, 0, RUNQ_SIZE);
  put_next(&q, 600);
  ck_assert(!runq_put(&q, &gs[601], true, over, &nover));
  ck_assert_uint_eq(nover, RUNQ_SIZE / 2 + 1);
  ck_assert_ptr_eq(over[RUNQ_SIZE / 2], &gs[600]);
  ck_assert_ptr_eq(runq_get(&q, &inherit), &gs[601]);
  ck_assert_uint_eq(runq_len(&q), RUNQ_SIZE / 2);
}
END_TEST

START_TEST(counters_wrap_without_harm) {
  start_at(UINT32_MAX - 100);
  fill(&q, 0, RUNQ_SIZE);
  ck_assert_uint_eq(runq_len(&q), RUNQ_SIZE);
  ck_assert(!runq_put(&q, &gs[300], false, over, &nover));
  fill(&q, RUNQ_SIZE, RUNQ_SIZE / 2);
  ck_assert_ptr_eq(runq_steal(&q2, &q, RUNQ_NEXT_LEAVE), &gs[RUNQ_SIZE - 1]);
  ck_assert_uint_eq(runq_len(&q2), RUNQ_SIZE / 2 - 1);
  for (unsigned i = RUNQ_SIZE / 2; i < RUNQ_SIZE - 1; i++) expect(&q2, (int)i);
  for (unsigned i = RUNQ_SIZE; i < RUNQ_SIZE + RUNQ_SIZE / 2; i++) expect(&q, (int)i);
  ck_assert(runq_empty(&q) && runq_empty(&q2));
}
END_TEST

/* For every length: the thief gets the older half, rounded up, in order, the newest of it to run at once. */
START_TEST(steal_takes_half) {
  for (unsigned n = 1; n <= RUNQ_SIZE; n++) {
    start_at(n * 7919);
    fill(&q, 0, n);
    unsigned half = n - n / 2;
    ck_assert_ptr_eq(runq_steal(&q2, &q, RUNQ_NEXT_LEAVE), &gs[half - 1]);
    ck_assert_uint_eq(runq_len(&q2), half - 1);
    ck_assert_uint_eq(runq_len(&q), n - half);
    for (unsigned i = 0; i + 1 < half; i++) expect(&q2, (int)i);
    for (unsigned i = half; i < n; i++) expect(&q, (int)i);
    expect(&q2, -1);
    expect(&q, -1);
  }
}
END_TEST

START_TEST(steal_from_empty_is_null) {
  start_at(0);
  ck_assert_ptr_null(runq_steal(&q2, &q, RUNQ_NEXT_TAKE));
  ck_assert_ptr_null(runq_steal(&q2, &q, RUNQ_NEXT_WAIT));
  ck_assert(runq_empty(&q2));
}
END_TEST

START_TEST(steal_takes_runnext_only_when_told_and_ring_is_empty) {
  start_at(0);
  put_next(&q, 1);
  ck_assert_ptr_null(runq_steal(&q2, &q, RUNQ_NEXT_LEAVE));
  ck_assert_uint_eq(runq_len(&q), 1);
  put(&q, 2);
  ck_assert_ptr_eq(runq_steal(&q2, &q, RUNQ_NEXT_TAKE), &gs[2]);
  ck_assert_ptr_eq(runq_steal(&q2, &q, RUNQ_NEXT_TAKE), &gs[1]);
  ck_assert(runq_empty(&q) && runq_empty(&q2));
  put_next(&q, 3);
  ck_assert_ptr_eq(runq_steal(&q2, &q, RUNQ_NEXT_WAIT), &gs[3]);
  ck_assert(runq_empty(&q) && runq_empty(&q2));
}
END_TEST

START_TEST(steal_never_overfills_the_thief) {
  start_at(0);
  fill(&q, 0, RUNQ_SIZE);
  fill(&q2, 300, RUNQ_SIZE - 3);
  ck_assert_ptr_eq(runq_steal(&q2, &q, RUNQ_NEXT_LEAVE), &gs[2]);
  ck_assert_uint_eq(runq_len(&q2), RUNQ_SIZE - 1);
  put(&q2, 700);
  ck_assert_ptr_null(runq_steal(&q2, &q, RUNQ_NEXT_LEAVE));
  ck_assert_uint_eq(runq_len(&q), RUNQ_SIZE - 3);
  for (unsigned i = 0; i < RUNQ_SIZE - 3; i++) expect(&q2, (int)(300 + i));
  expect(&q2, 0);
  expect(&q2, 1);
  expect(&q2, 700);
}
END_TEST

START_TEST(batch_put_takes_what_fits) {
  start_at(5);
  struct g *batch[RUNQ_SIZE + 10];
  for (unsigned i = 0; i < RUNQ_SIZE + 10; i++) batch[i] = &gs[i];
  ck_assert_uint_eq(runq_put_batch(&q, batch, 0), 0);
  ck_assert_uint_eq(runq_put_batch(&q, batch, 10), 10);
  ck_assert_uint_eq(runq_put_batch(&q, batch + 10, RUNQ_SIZE), RUNQ_SIZE - 10);
  ck_assert_uint_eq(runq_put_batch(&q, batch, 1), 0);
  for (unsigned i = 0; i < RUNQ_SIZE; i++) expect(&q, (int)i);
}
END_TEST

START_TEST(drain_takes_all_in_order_runnext_first) {
  start_at(9);
  struct g *out[RUNQ_SIZE + 1];
  fill(&q, 0, RUNQ_SIZE);
  put_next(&q, 400);
  ck_assert_uint_eq(runq_drain(&q, out, 0), 0);
  ck_assert_uint_eq(runq_drain(&q, out, 3), 3);
  ck_assert_ptr_eq(out[0], &gs[400]);
  ck_assert_ptr_eq(out[1], &gs[0]);
  ck_assert_ptr_eq(out[2], &gs[1]);
  ck_assert_uint_eq(runq_drain(&q, out, RUNQ_SIZE + 1), RUNQ_SIZE - 2);
  for (unsigned i = 0; i < RUNQ_SIZE - 2; i++) ck_assert_ptr_eq(out[i], &gs[i + 2]);
  ck_assert_uint_eq(runq_drain(&q, out, 1), 0);
  ck_assert(runq_empty(&q));
}
END_TEST

/* A long random mix of all operations by one owner of two queues, against plain lists that do the same. */
struct list {
  struct g *g[2 * NGS];
  unsigned n;
};
static struct g *list_pop(struct list *l) {
  if (l->n == 0) return NULL;
  struct g *g = l->g[0];
  for (unsigned i = 1; i < l->n; i++) l->g[i - 1] = l->g[i];
  l->n--;
  return g;
}

START_TEST(random_mix_agrees_with_a_list) {
  static struct list model, idle;
  struct g *next = NULL;
  unsigned seed = 42;
  start_at(UINT32_MAX - 5000);
  for (unsigned i = 0; i < NGS; i++) idle.g[idle.n++] = &gs[i];
  for (unsigned step = 0; step < 60000; step++) {
    unsigned op = (unsigned)rand_r(&seed) % 16;
    /* in phases: mostly filling, mostly emptying */
    if (op < ((step / 4000) % 2 ? 6u : 10u) && idle.n) {
      struct g *g = list_pop(&idle), *tail = g;
      bool as_next = op % 3 == 0;
      bool fit = runq_put(&q, g, as_next, over, &nover);
      if (as_next) {
        tail = next;
        next = g;
      }
      if (tail && model.n == RUNQ_SIZE) {
        ck_assert(!fit);
        for (unsigned i = 0; i < RUNQ_SIZE / 2; i++) {
          struct g *m = list_pop(&model);
          ck_assert_ptr_eq(over[i], m);
          idle.g[idle.n++] = m;
        }
        ck_assert_ptr_eq(over[RUNQ_SIZE / 2], tail);
        idle.g[idle.n++] = tail;
      } else {
        ck_assert(fit);
        if (tail) model.g[model.n++] = tail;
      }
    } else if (op == 15) {
      struct g *got = runq_steal(&q2, &q, RUNQ_NEXT_TAKE), *m = NULL;
      unsigned half = model.n - model.n / 2;
      for (unsigned i = 0; i < half; i++) {
        m = list_pop(&model);
        idle.g[idle.n++] = m;
      }
      if (!half && next) {
        idle.g[idle.n++] = m = next;
        next = NULL;
      }
      ck_assert_ptr_eq(got, m);
      for (unsigned i = 0; i + 1 < half; i++) {
        bool inherit;
        ck_assert_ptr_eq(runq_get(&q2, &inherit), idle.g[idle.n - half + i]);
      }
      ck_assert(runq_empty(&q2));
    } else {
      bool inherit;
      struct g *got = runq_get(&q, &inherit), *m = next ? next : list_pop(&model);
      ck_assert_ptr_eq(got, m);
      ck_assert(inherit == (next != NULL));
      next = NULL;
      if (got) idle.g[idle.n++] = got;
    }
    ck_assert_uint_eq(runq_len(&q), model.n + (next != NULL));
    ck_assert_uint_eq(idle.n + model.n + (next != NULL), NGS);
  }
}
END_TEST

UNIT_MAIN("runq", get_of_empty_is_null, gs_come_out_in_the_order_they_went_in, runnext_runs_first_and_inherits_the_slice,
          newer_runnext_kicks_the_older_to_the_tail, full_ring_gives_up_its_older_half_and_the_new_g,
          kicked_runnext_overflows_like_any_other, counters_wrap_without_harm, steal_takes_half, steal_from_empty_is_null,
          steal_takes_runnext_only_when_told_and_ring_is_empty, steal_never_overfills_the_thief, batch_put_takes_what_fits,
          drain_takes_all_in_order_runnext_first, random_mix_agrees_with_a_list)
