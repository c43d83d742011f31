// SPDX-License-Identifier: Apache-2.0
//
// A program in C++11 that uses all of the API: that the headers are right for it, and that objects with destructors live in Gs.
// Prints "ok", or what was wrong.
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>
#include <ration/ration.h>

#define CHECK(what)                                                  \
  do {                                                               \
    if (!(what)) {                                                   \
      std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
      return 1;                                                      \
    }                                                                \
  } while (0)

struct pair {
  int a;
  const char *b;
};
typedef RATION_CHAN(int) int_chan;
typedef RATION_CHAN(pair) pair_chan;

static std::atomic<int> alive;
struct counted {
  counted() { alive++; }
  counted(const counted &) = delete;
  counted &operator=(const counted &) = delete;
  ~counted() { alive--; }
};

static int channels() {
  int_chan c = RATION_CHAN_NEW(int_chan, 1);
  pair_chan p = RATION_CHAN_NEW(pair_chan, 1);
  CHECK(c.chan && p.chan);
  pair in = {1, "one"}, out = pair();
  int v = 0;
  RATION_SEND(c, 1.0 < 2.0 ? 7 : 8);
  CHECK(RATION_TRY_SEND(c, 9) == -EAGAIN);
  CHECK(RATION_SEND_TIMEOUT(c, 9, RATION_MS) == -ETIMEDOUT);
  CHECK(RATION_RECV(c, &v) && v == 7);
  CHECK(RATION_TRY_RECV(c, &v) == -EAGAIN);
  RATION_SEND(p, in);
  ration_case cases[] = {RATION_CASE_RECV(c, &v), RATION_CASE_RECV(p, &out)};
  CHECK(ration_select(cases, 2, RATION_FOREVER) == 1 && cases[1].ok && out.a == 1 && std::string("one") == out.b);
  ration_case send = RATION_CASE_SEND_FROM(p, &in);
  CHECK(ration_select(&send, 1, 0) == 0);
  RATION_CLOSE(c);
  CHECK(RATION_RECV_TIMEOUT(c, &v, RATION_SECOND) == -EPIPE);
  CHECK(!RATION_RECV(c, nullptr));
  ration_chan_unref(c.chan);
  ration_chan_unref(p.chan);
  return 0;
}

static ration_mutex mu = RATION_MUTEX_INIT;
static ration_waitgroup wg = RATION_WAITGROUP_INIT;
static ration_once once = RATION_ONCE_INIT;
static ration_sema two = RATION_SEMA_INIT(2);
static int sum, firsts;

static int locks() {
  std::vector<int> numbers(100);
  for (size_t i = 0; i < numbers.size(); i++) {
    numbers[i] = static_cast<int>(i);
    auto add = [](void *n) {
      counted here;
      ration_once_do(
          &once, [](void *) { firsts++; }, nullptr);
      if (ration_sema_acquire(&two, 1) != 0) return;
      ration_mutex_lock(&mu);
      sum += *static_cast<int *>(n);
      ration_mutex_unlock(&mu);
      ration_sema_release(&two, 1);
    };
    CHECK(ration_waitgroup_go(&wg, add, &numbers[i]) == 0);
  }
  ration_waitgroup_wait(&wg);
  CHECK(sum == 4950 && firsts == 1);
  return 0;
}

static int the_rest() {
  ration_map *m = ration_map_new();
  void *v = nullptr;
  CHECK(m && ration_map_store(m, ration_map_ptr(m), m) == 0 && ration_map_load(m, ration_map_ptr(m), &v) && v == m);
  ration_map_free(m);

  ration_objpool_options options = ration_objpool_options();
  options.make = [](void *) -> void * { return new std::string("made"); };
  options.drop = [](void *s, void *) { delete static_cast<std::string *>(s); };
  ration_objpool *pool = ration_objpool_new(&options);
  std::string *s = static_cast<std::string *>(ration_objpool_get(pool));
  CHECK(*s == "made");
  ration_objpool_put(pool, s);
  ration_objpool_free(pool);

  ration_context *ctx = ration_context_with_cancel(nullptr);
  ration_group *grp = ration_group_new(ctx);
  CHECK(ration_group_go(
            grp, [](void *) -> int { return -EDOM; }, nullptr) == 0);
  CHECK(ration_group_wait(grp) == -EDOM && ration_context_cause(ration_group_context(grp)) == -EDOM);
  ration_group_free(grp);
  ration_context_cancel(ctx);
  CHECK(ration_context_wait(ctx) == -ECANCELED);
  ration_context_unref(ctx);

  ration_workers_options w = ration_workers_options();
  w.size = 2;
  ration_workers *workers = ration_workers_new(&w);
  int done = 0;
  CHECK(ration_workers_run(
            workers, [](void *d) { *static_cast<int *>(d) = 1; }, &done) == 0 &&
        done == 1);
  ration_workers_free(workers);

  ration_timer *t = ration_timer_new(RATION_MS);
  CHECK(ration_chan_recv(ration_timer_chan(t), nullptr));
  ration_timer_free(t);
  errno = EDOM;
  ration_yield();
  CHECK(errno == EDOM);
  return 0;
}

static int prog(int, char **) {
  std::unique_ptr<counted> one(new counted);
  if (channels() || locks() || the_rest()) return 1;
  CHECK(alive == 1);
  CHECK(ration_leaks(-1) == 0);
  std::puts("ok");
  return 0;
}

int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
