/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/*
 * Worker pools, by what ants and tunny promise; the concurrent map, by Go's sync.Map; the object pool, by sync.Pool.
 */
#include <limits.h>
#include "core/light.h"
#include "ration/map.h"
#include "ration/objpool.h"
#include "ration/workers.h"
#include "sync/task.h"
#include "sync_rig.h"

static _Atomic int inside, most, ended, errors, stop;
static struct ration_workers *pool;

static struct ration_workers *pool_of(struct ration_workers_options o) {
  pool = ration_workers_new(&o);
  ck_assert_ptr_nonnull(pool);
  return pool;
}

static void brief(void *arg) {
  int n = atomic_fetch_add(&inside, 1) + 1, m = atomic_load(&most);
  while (n > m && !atomic_compare_exchange_weak(&most, &m, n))
    ;
  if (arg) ration_sleep((ration_ns)(intptr_t)arg);
  atomic_fetch_sub(&inside, 1);
  atomic_fetch_add(&ended, 1);
}
static void until_stop(void *arg) {
  (void)arg;
  atomic_fetch_add(&inside, 1);
  while (!atomic_load(&stop)) ration_sleep(50 * RATION_US);
  atomic_fetch_sub(&inside, 1);
  atomic_fetch_add(&ended, 1);
}
static void fill_pool(int n) {
  for (int i = 0; i < n; i++) ck_assert_int_eq(ration_workers_submit(pool, until_stop, NULL), 0);
  EVENTUALLY(atomic_load(&inside) == n);
}
static void submit_brief(void *arg) {
  int r = ration_workers_submit(pool, brief, NULL);
  if (r != (int)(intptr_t)arg) atomic_fetch_add(&errors, 1);
}

/* --- workers --- */

static void submit_many(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++)
    if (ration_workers_submit(pool, brief, i % 10 ? NULL : (void *)(20 * RATION_US))) atomic_fetch_add(&errors, 1);
}

START_TEST(all_tasks_run_and_not_too_many_at_once) {
  pool_of((struct ration_workers_options){.size = 4});
  go_mixed(8, submit_many, (void *)300);
  wait_all();
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 2400);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_le(atomic_load(&most), 4);
}
END_TEST

START_TEST(numbers_are_those_of_the_pool) {
  pool_of((struct ration_workers_options){.size = 3});
  ck_assert_uint_eq(ration_workers_size(pool), 3);
  ck_assert_uint_eq(ration_workers_free_count(pool), 3);
  fill_pool(3);
  ck_assert_uint_eq(ration_workers_running(pool), 3);
  ck_assert_uint_eq(ration_workers_free_count(pool), 0);
  ck_assert_uint_eq(ration_workers_idle(pool), 0);
  go(submit_brief, (void *)0);
  EVENTUALLY(ration_workers_waiting(pool) == 1);
  atomic_store(&stop, 1);
  wait_all();
  EVENTUALLY(ration_workers_idle(pool) == 3);
  ck_assert_uint_eq(ration_workers_running(pool), 0);
  ck_assert_uint_eq(ration_workers_waiting(pool), 0);
  ration_workers_free(pool);
  pool_of((struct ration_workers_options){.size = 0});
  ck_assert_uint_eq(ration_workers_size(pool), 0);
  ck_assert_uint_eq(ration_workers_free_count(pool), UINT_MAX);
  ration_workers_free(pool);
  ration_workers_free(NULL);
}
END_TEST

START_TEST(idle_workers_are_used_again) {
  pool_of((struct ration_workers_options){.size = 10});
  for (int i = 1; i <= 50; i++) {
    ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), 0);
    EVENTUALLY(ration_workers_idle(pool) == 1 && ration_workers_running(pool) == 0 && atomic_load(&ended) == i);
  }
  ration_workers_free(pool);
}
END_TEST

START_TEST(nonblocking_submit_says_again) {
  pool_of((struct ration_workers_options){.size = 2, .nonblocking = true});
  fill_pool(2);
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), -EAGAIN);
  atomic_store(&stop, 1);
  EVENTUALLY(ration_workers_idle(pool) > 0);
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), 0);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 3);
}
END_TEST

START_TEST(no_more_wait_than_may) {
  pool_of((struct ration_workers_options){.size = 1, .max_blocking = 2});
  fill_pool(1);
  go(submit_brief, (void *)0);
  go_thread(submit_brief, (void *)0);
  EVENTUALLY(ration_workers_waiting(pool) == 2);
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), -EBUSY);
  atomic_store(&stop, 1);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 3);
}
END_TEST

START_TEST(submit_gives_up) {
  pool_of((struct ration_workers_options){.size = 1, .max_blocking = 1});
  fill_pool(1);
  ck_assert_int_eq(ration_workers_submit_timeout(pool, brief, NULL, 2 * RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(ration_workers_submit_timeout(pool, brief, NULL, 0), -ETIMEDOUT);
  struct ration_context *ctx = ration_context_with_timeout(NULL, RATION_MS);
  ck_assert_int_eq(ration_workers_submit_ctx(pool, brief, NULL, ctx), -ETIMEDOUT);
  ration_context_unref(ctx);
  ck_assert_uint_eq(ration_workers_waiting(pool), 0);
  atomic_store(&stop, 1);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 1);
}
END_TEST

START_TEST(function_pool_takes_arguments) {
  pool_of((struct ration_workers_options){.size = 3, .fn = brief});
  void *args[20] = {NULL};
  ck_assert_int_eq(ration_workers_invoke(pool, NULL), 0);
  ck_assert_int_eq(ration_workers_invoke_all(pool, args, 20), 20);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 21);
  pool_of((struct ration_workers_options){.size = 1});
  ck_assert_int_eq(ration_workers_invoke(pool, NULL), -EINVAL);
  ck_assert_int_eq(ration_workers_invoke_all(pool, args, 2), -EINVAL);
  ration_workers_free(pool);
}
END_TEST

START_TEST(tune_lets_more_and_fewer_run) {
  pool_of((struct ration_workers_options){.size = 1});
  fill_pool(1);
  for (int i = 0; i < 4; i++) go_as(i == 3, submit_brief, (void *)0);
  EVENTUALLY(ration_workers_waiting(pool) == 4);
  ration_workers_tune(pool, 3);
  wait_all();
  EVENTUALLY(atomic_load(&ended) == 4 && ration_workers_running(pool) == 1);
  ration_workers_tune(pool, 2);
  EVENTUALLY(ration_workers_idle(pool) == 1);
  ration_workers_tune(pool, 1);
  EVENTUALLY(ration_workers_idle(pool) == 0);
  atomic_store(&stop, 1);
  EVENTUALLY(ration_workers_idle(pool) == 1);
  ration_workers_tune(pool, 0);
  ck_assert_uint_eq(ration_workers_free_count(pool), UINT_MAX);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

START_TEST(busy_workers_end_after_their_task_if_there_are_too_many) {
  pool_of((struct ration_workers_options){.size = 4});
  fill_pool(4);
  ration_workers_tune(pool, 1);
  ck_assert_uint_eq(ration_workers_free_count(pool), 0);
  go(submit_brief, (void *)0);
  EVENTUALLY(ration_workers_waiting(pool) == 1);
  atomic_store(&stop, 1);
  wait_all();
  EVENTUALLY(ration_workers_idle(pool) == 1 && ration_workers_running(pool) == 0);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 5);
}
END_TEST

START_TEST(idle_workers_expire) {
  pool_of((struct ration_workers_options){.size = 5, .expiry = 20 * RATION_MS});
  fill_pool(5);
  atomic_store(&stop, 1);
  EVENTUALLY(ration_workers_running(pool) == 0);
  EVENTUALLY(ration_workers_idle(pool) == 0);
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), 0);
  EVENTUALLY(atomic_load(&ended) == 6);
  EVENTUALLY(ration_workers_idle(pool) == 0);
  ration_workers_free(pool);
  pool_of((struct ration_workers_options){.size = 5, .expiry = RATION_FOREVER});
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), 0);
  EVENTUALLY(ration_workers_idle(pool) == 1);
  ration_workers_free(pool);
}
END_TEST

START_TEST(released_pool_takes_no_tasks) {
  pool_of((struct ration_workers_options){.size = 1});
  fill_pool(1);
  go(submit_brief, (void *)-ESHUTDOWN);
  go_thread(submit_brief, (void *)-ESHUTDOWN);
  EVENTUALLY(ration_workers_waiting(pool) == 2);
  ck_assert_int_eq(ration_workers_release_timeout(pool, 2 * RATION_MS), -ETIMEDOUT);
  ck_assert(ration_workers_released(pool));
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), -ESHUTDOWN);
  atomic_store(&stop, 1);
  ck_assert_int_eq(ration_workers_release_timeout(pool, 10 * RATION_SECOND), 0);
  ration_workers_reboot(pool);
  ck_assert(!ration_workers_released(pool));
  ck_assert_int_eq(ration_workers_submit(pool, brief, NULL), 0);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 2);
}
END_TEST

START_TEST(run_waits_for_its_task) {
  pool_of((struct ration_workers_options){.size = 2});
  for (int i = 1; i <= 20; i++) {
    ck_assert_int_eq(ration_workers_run(pool, brief, NULL), 0);
    ck_assert_int_eq(atomic_load(&ended), i);
  }
  ck_assert_int_eq(ration_workers_run_timeout(pool, until_stop, NULL, 100 * RATION_MS), -EINPROGRESS);
  struct ration_context *ctx = NULL;
  int r = -ETIMEDOUT;
  for (int i = 0; i < 20 && r == -ETIMEDOUT; i++) { /* before it was begun: a slow machine */
    ration_context_unref(ctx);
    ctx = ration_context_with_timeout(NULL, 100 * RATION_MS);
    r = ration_workers_run_ctx(pool, until_stop, NULL, ctx);
  }
  ck_assert_int_eq(r, -EINPROGRESS);
  ck_assert_int_eq(ration_workers_run_ctx(pool, brief, NULL, ctx), -ETIMEDOUT); /* both are busy */
  ck_assert_int_eq(ration_workers_run_timeout(pool, brief, NULL, RATION_MS), -ETIMEDOUT);
  ration_context_unref(ctx);
  atomic_store(&stop, 1);
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&ended), 22);
}
END_TEST

static void exits(void *arg) {
  if (!arg) atomic_fetch_add(&errors, 1);
  sync_g_exits(g_self()); /* what ration_exit does */
  ration_exit();
}
static void on_exit_hook(void *task_arg, void *arg) {
  if (task_arg != &inside) atomic_fetch_add(&errors, 1);
  atomic_fetch_add((_Atomic int *)arg, 1);
}

START_TEST(exit_in_a_task_costs_the_pool_nothing) {
  pool_of((struct ration_workers_options){.size = 1, .on_exit = on_exit_hook, .on_exit_arg = &most});
  for (int i = 0; i < 10; i++) ck_assert_int_eq(ration_workers_submit(pool, exits, &inside), 0);
  ck_assert_int_eq(ration_workers_run(pool, exits, &inside), -ECONNABORTED);
  ck_assert_int_eq(ration_workers_run(pool, brief, NULL), 0);
  ck_assert_int_eq(ration_workers_release_timeout(pool, 5 * RATION_SECOND), 0);
  ck_assert_int_eq(atomic_load(&most), 11);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ration_workers_free(pool);
}
END_TEST

static void on_exit_exits(void *task_arg, void *arg) {
  on_exit_hook(task_arg, arg);
  exits(task_arg);
}

START_TEST(exit_in_on_exit_costs_nothing_either) {
  pool_of((struct ration_workers_options){.size = 1, .on_exit = on_exit_exits, .on_exit_arg = &most});
  for (int i = 0; i < 10; i++) ck_assert_int_eq(ration_workers_run_timeout(pool, exits, &inside, 5 * RATION_SECOND), -ECONNABORTED);
  ck_assert_int_eq(ration_workers_release_timeout(pool, 5 * RATION_SECOND), 0);
  ck_assert_int_eq(atomic_load(&most), 10);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ration_workers_free(pool);
}
END_TEST

static void use_at_random(void *arg) {
  for (int i = 0; i < 200; i++) {
    int r = i % 3 == 0   ? ration_workers_submit_timeout(pool, brief, NULL, (i % 4) * 20 * RATION_US)
            : i % 3 == 1 ? ration_workers_run_timeout(pool, brief, NULL, (i % 7) * 30 * RATION_US)
                         : ration_workers_submit(pool, brief, (void *)(i % 5 * 10 * RATION_US));
    if (r && r != -ETIMEDOUT && r != -EINPROGRESS && r != -ESHUTDOWN) atomic_fetch_add(&errors, 1);
    if (arg && i % 20 == 0) ration_workers_tune(pool, 1 + (unsigned)i / 20);
    if (arg && i % 50 == 25) {
      ration_workers_release(pool);
      ration_workers_reboot(pool);
    }
  }
}

START_TEST(pool_survives_all_at_once) {
  pool_of((struct ration_workers_options){.size = 3, .expiry = 100 * RATION_US});
  go_mixed(8, use_at_random, NULL);
  go(use_at_random, &pool);
  wait_all();
  ration_workers_free(pool);
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

/* --- map --- */

static struct ration_map *map;
static void *val(intptr_t n) { return (void *)n; }

START_TEST(map_does_what_sync_map_does) {
  void *v = NULL;
  map = ration_map_new();
  ck_assert(!ration_map_load(map, 1, &v));
  ck_assert(!ration_map_delete(map, 1));
  ck_assert_int_eq(ration_map_store(map, 1, val(10)), 0);
  ck_assert(ration_map_load(map, 1, &v) && v == val(10));
  ck_assert_int_eq(ration_map_load_or_store(map, 1, val(11), &v), 1);
  ck_assert_ptr_eq(v, val(10));
  ck_assert_int_eq(ration_map_load_or_store(map, 2, val(20), &v), 0);
  ck_assert_ptr_eq(v, val(20));
  ck_assert_int_eq(ration_map_swap(map, 2, val(21), &v), 1);
  ck_assert_ptr_eq(v, val(20));
  ck_assert_int_eq(ration_map_swap(map, 3, val(30), &v), 0);
  ck_assert_ptr_null(v);
  ck_assert(!ration_map_compare_and_swap(map, 3, val(31), val(32)));
  ck_assert(ration_map_compare_and_swap(map, 3, val(30), val(32)));
  ck_assert(!ration_map_compare_and_swap(map, 4, NULL, val(32)));
  ck_assert(!ration_map_compare_and_delete(map, 3, val(30)));
  ck_assert(ration_map_compare_and_delete(map, 3, val(32)));
  ck_assert(ration_map_load_and_delete(map, 2, &v) && v == val(21));
  ck_assert_uint_eq(ration_map_len(map), 1);
  ck_assert_int_eq(ration_map_store(map, ration_map_ptr(&v), NULL), 0);
  ck_assert(ration_map_load(map, ration_map_ptr(&v), &v) && !v);
  ration_map_clear(map);
  ck_assert_uint_eq(ration_map_len(map), 0);
  ration_map_free(map);
  ration_map_free(NULL);
}
END_TEST

START_TEST(map_keys_may_be_bytes) {
  void *v;
  char key[300];
  map = ration_map_new();
  for (size_t n = 0; n < sizeof key; n++) {
    memset(key, 'x', n);
    ck_assert_int_eq(ration_map_store_bytes(map, key, n, val((intptr_t)n)), 0);
    memset(key, 'y', n);
    ck_assert_int_eq(ration_map_load_or_store_bytes(map, key, n, val(-1), &v), n == 0);
  }
  for (size_t n = 0; n < sizeof key; n++) {
    memset(key, 'x', n);
    ck_assert(ration_map_load_bytes(map, key, n, &v) && v == val((intptr_t)n));
    if (n) ck_assert(ration_map_compare_and_swap_bytes(map, key, n, v, val(1)));
    if (n) ck_assert(ration_map_compare_and_delete_bytes(map, key, n, val(1)));
    memset(key, 'y', n);
    ck_assert_int_eq(ration_map_delete_bytes(map, key, n), 1);
    ck_assert(!ration_map_load_and_delete_bytes(map, key, n, &v));
  }
  ck_assert_uint_eq(ration_map_len(map), 0);
  ck_assert_int_eq(ration_map_store_bytes(map, key, (size_t)UINT32_MAX + 1, NULL), -EINVAL);
  ration_map_free(map);
}
END_TEST

#define MANY 200000
static unsigned char seen[MANY];
static bool see(const void *key, size_t n, void *value, void *arg) {
  uint64_t k = *(const uint64_t *)key;
  if (n != 8 || k >= MANY || value != val((intptr_t)k)) atomic_fetch_add(&errors, 1);
  if (seen[k]++) atomic_fetch_add(&errors, 1);
  return ++*(int *)arg < 1000000;
}

START_TEST(map_grows_and_keeps_all) {
  void *v;
  int n = 0;
  map = ration_map_new();
  for (uint64_t k = 0; k < MANY; k++) ck_assert_int_eq(ration_map_store(map, k, val((intptr_t)k)), 0);
  for (uint64_t k = 0; k < MANY; k++) ck_assert(ration_map_load(map, k, &v) && v == val((intptr_t)k));
  ck_assert_uint_eq(ration_map_len(map), MANY);
  ration_map_range(map, see, &n);
  ck_assert_int_eq(n, MANY);
  ck_assert_int_eq(atomic_load(&errors), 0);
  for (uint64_t k = 0; k < MANY; k += 2) ck_assert(ration_map_delete(map, k));
  for (uint64_t k = 0; k < MANY; k++) ck_assert_int_eq(ration_map_load(map, k, &v), k % 2);
  ration_map_free(map);
}
END_TEST

static bool stop_at_5(const void *key, size_t n, void *value, void *arg) {
  (void)key, (void)n, (void)value;
  return ++*(int *)arg < 5;
}
/* Deletes it and stores it again: it must not come twice. */
static bool renew(const void *key, size_t n, void *value, void *arg) {
  ration_map_delete_bytes(map, key, n);
  ration_map_store_bytes(map, key, n, value);
  return see(key, n, value, arg);
}

START_TEST(range_stops_and_never_comes_twice) {
  int n = 0;
  map = ration_map_new();
  ration_map_range(map, see, &n);
  ck_assert_int_eq(n, 0);
  for (uint64_t k = 0; k < 3000; k++) ration_map_store(map, k, val((intptr_t)k));
  ration_map_range(map, stop_at_5, &n);
  ck_assert_int_eq(n, 5);
  n = 0;
  ration_map_range(map, renew, &n);
  ck_assert_int_eq(n, 3000);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_uint_eq(ration_map_len(map), 3000);
  ration_map_free(map);
}
END_TEST

/* Each G has keys of its own, and all have the first ten. */
static void use_map(void *arg) {
  intptr_t g = (intptr_t)arg;
  void *v;
  for (intptr_t i = 0; i < 2000; i++) {
    uint64_t mine = (uint64_t)(100 + g * 100000 + i % 500), ours = (uint64_t)(i % 10);
    if (ration_map_load(map, mine, &v) && v != val(g)) atomic_fetch_add(&errors, 1);
    if (i % 3)
      ration_map_store(map, mine, val(g));
    else
      ration_map_delete(map, mine);
    if (ration_map_load_or_store(map, ours, val(g), &v) == 0) atomic_fetch_add(&inside, 1);
    if (ration_map_compare_and_delete(map, ours, val(g))) atomic_fetch_sub(&inside, 1);
  }
}
static bool count_all(const void *key, size_t n, void *value, void *arg) {
  (void)key, (void)value;
  if (n != 8) atomic_fetch_add(&errors, 1);
  ration_yield();
  ++*(int *)arg;
  return true;
}
static void range_map(void *arg) {
  (void)arg;
  for (int i = 0, n = 0; i < 3; i++) ration_map_range(map, count_all, &n);
}

START_TEST(map_is_for_many_at_once) {
  map = ration_map_new();
  for (intptr_t i = 1; i <= 8; i++) go_as(i % 4 == 0, use_map, (void *)i);
  go(range_map, NULL);
  go_thread(range_map, NULL);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  int left = 0;
  for (uint64_t k = 0; k < 10; k++) left += ration_map_load(map, k, NULL);
  ck_assert_int_eq(atomic_load(&inside), left);
  ration_map_clear(map);
  ck_assert_uint_eq(ration_map_len(map), 0);
  ration_map_free(map);
}
END_TEST

/* --- object pool --- */

struct object {
  _Atomic int users;
};
static struct ration_objpool *objs;
static _Atomic int made, dropped;
static void *make(void *arg) {
  ck_assert_ptr_eq(arg, &objs);
  atomic_fetch_add(&made, 1);
  return calloc(1, sizeof(struct object));
}
static void drop(void *obj, void *arg) {
  ck_assert_ptr_eq(arg, &objs);
  atomic_fetch_add(&dropped, 1);
  free(obj);
}

START_TEST(objects_come_back) {
  objs = ration_objpool_new(&(struct ration_objpool_options){.make = make, .drop = drop, .arg = &objs, .keep = 4});
  void *a = ration_objpool_get(objs), *b = ration_objpool_get(objs);
  ck_assert_ptr_ne(a, b);
  ration_objpool_put(objs, a);
  ck_assert_ptr_eq(ration_objpool_get(objs), a);
  ration_objpool_put(objs, a);
  ration_objpool_put(objs, b);
  ration_objpool_put(objs, NULL);
  ck_assert_ptr_eq(ration_objpool_get(objs), b);
  ck_assert_ptr_eq(ration_objpool_get(objs), a);
  ck_assert_int_eq(atomic_load(&made), 2);
  void *more[10];
  for (int i = 0; i < 10; i++) more[i] = ration_objpool_get(objs);
  for (int i = 0; i < 10; i++) ration_objpool_put(objs, more[i]);
  ck_assert_int_eq(atomic_load(&dropped), 6); /* over `keep` */
  free(a);
  free(b);
  ration_objpool_free(objs);
  ck_assert_int_eq(atomic_load(&dropped), 10);
  objs = ration_objpool_new(NULL);
  ck_assert_ptr_null(ration_objpool_get(objs));
  ration_objpool_free(objs);
  ration_objpool_free(NULL);
}
END_TEST

START_TEST(trim_drops_what_was_not_needed) {
  objs = ration_objpool_new(&(struct ration_objpool_options){.make = make, .drop = drop, .arg = &objs, .keep = 100});
  void *some[80];
  for (int i = 0; i < 80; i++) some[i] = ration_objpool_get(objs);
  for (int i = 0; i < 80; i++) ration_objpool_put(objs, some[i]);
  ck_assert_uint_eq(ration_objpool_trim(objs), 0); /* all have been out */
  for (int i = 0; i < 10; i++) some[i] = ration_objpool_get(objs);
  for (int i = 0; i < 10; i++) ration_objpool_put(objs, some[i]);
  ck_assert_uint_eq(ration_objpool_trim(objs), 70);
  ck_assert_uint_eq(ration_objpool_trim(objs), 10);
  ck_assert_int_eq(atomic_load(&dropped), 80);
  ration_objpool_free(objs);
}
END_TEST

static void use_objects(void *arg) {
  (void)arg;
  for (int i = 0; i < 1000; i++) {
    struct object *o = ration_objpool_get(objs);
    if (atomic_fetch_add(&o->users, 1)) atomic_fetch_add(&errors, 1);
    if (i % 16 == 0) ration_yield();
    atomic_fetch_sub(&o->users, 1);
    ration_objpool_put(objs, o);
    if (i % 100 == 0) ration_objpool_trim(objs);
  }
}

START_TEST(nobody_shares_an_object) {
  objs = ration_objpool_new(&(struct ration_objpool_options){.make = make, .drop = drop, .arg = &objs, .keep = 3});
  go_mixed(12, use_objects, NULL);
  wait_all();
  ration_objpool_free(objs);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(atomic_load(&made), atomic_load(&dropped));
}
END_TEST

UNIT_MAIN("workers", all_tasks_run_and_not_too_many_at_once, numbers_are_those_of_the_pool, idle_workers_are_used_again,
          nonblocking_submit_says_again, no_more_wait_than_may, submit_gives_up, function_pool_takes_arguments,
          tune_lets_more_and_fewer_run, busy_workers_end_after_their_task_if_there_are_too_many, idle_workers_expire,
          released_pool_takes_no_tasks, run_waits_for_its_task, exit_in_a_task_costs_the_pool_nothing, exit_in_on_exit_costs_nothing_either,
          pool_survives_all_at_once, map_does_what_sync_map_does, map_keys_may_be_bytes, map_grows_and_keeps_all,
          range_stops_and_never_comes_twice, map_is_for_many_at_once, objects_come_back, trim_drops_what_was_not_needed,
          nobody_shares_an_object)
