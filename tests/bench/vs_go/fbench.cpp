// SPDX-License-Identifier: Apache-2.0
//
// The work of vs_go with Boost.Fiber, where it is the same: one thread, its default scheduler, a fiber for each G.
//
//   fbench WORK [N]
#include <boost/fiber/all.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

namespace fibers = boost::fibers;

static int64_t now_ns() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void figure_each(int64_t began, long n) { std::printf("ns %.2f\n", double(now_ns() - began) / double(n)); }

using stack = fibers::pooled_fixedsize_stack;

// Spawned and joined a hundred at a time: it has no turns of its own that keep stacks few.
static void spawn(long n) {
  stack pool;
  long done = 0;
  int64_t began = now_ns();
  for (long i = 0; i < n; i += 100) {
    long want = done + 100;
    for (int k = 0; k < 100; k++) fibers::fiber(fibers::launch::post, std::allocator_arg, pool, [&done] { done++; }).detach();
    while (done < want) boost::this_fiber::yield();
  }
  figure_each(began, n);
}

static void yield(long n) {
  auto turn = [n] {
    for (long i = 0; i < n; i++) boost::this_fiber::yield();
  };
  int64_t began = now_ns();
  fibers::fiber a(turn), b(turn);
  a.join();
  b.join();
  figure_each(began, 2 * n);
}

static void round_trip(long n) {
  fibers::unbuffered_channel<long> ping, pong;
  fibers::fiber answer([&] {
    for (long v : ping) pong.push(v);
  });
  int64_t began = now_ns();
  for (long i = 0; i < n; i++) {
    ping.push(i);
    if (pong.value_pop() != i) std::abort();
  }
  figure_each(began, n);
  ping.close();
  answer.join();
}

static void buffered(long n) {
  fibers::buffered_channel<long> c(128);
  long sum = 0;
  int64_t began = now_ns();
  fibers::fiber producer([&] {
    for (long i = 0; i < n; i++) c.push(i);
    c.close();
  });
  for (long v : c) sum += v;
  figure_each(began, n);
  producer.join();
  if (sum != n * (n - 1) / 2) std::abort();
}

using up_channel = fibers::buffered_channel<long>;

static void skynet_node(stack &pool, up_channel &up, long num, long size) {
  if (size == 1) {
    up.push(num);
    return;
  }
  up_channel c(16);
  for (long i = 0; i < 10; i++)
    fibers::fiber(fibers::launch::dispatch, std::allocator_arg, pool, [&pool, &c, num, size, i] {
      skynet_node(pool, c, num + i * (size / 10), size / 10);
    }).detach();
  long sum = 0;
  for (long i = 0; i < 10; i++) sum += c.value_pop();
  up.push(sum);
}

static void skynet(long n) {
  stack pool;
  up_channel c(2);
  int64_t began = now_ns();
  fibers::fiber(std::allocator_arg, pool, [&] { skynet_node(pool, c, 0, n); }).detach();
  long sum = c.value_pop();
  figure_each(began, n);
  if (sum != n * (n - 1) / 2) std::abort();
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(long);
    long n;
  } works[] = {{"spawn", spawn, 200000},
               {"yield", yield, 1000000},
               {"chan", round_trip, 300000},
               {"bufchan", buffered, 2000000},
               {"skynet", skynet, 100000}};
  for (const auto &w : works)
    if (argc > 1 && !std::strcmp(w.name, argv[1])) {
      w.run(argc > 2 ? std::atol(argv[2]) : w.n);
      return 0;
    }
  std::fputs("usage: fbench spawn|yield|chan|bufchan|skynet [N]\n", stderr);
  return 2;
}
