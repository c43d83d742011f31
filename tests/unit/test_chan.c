/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/*
 * Channels and select: what the Go spec promises.  Each case runs Gs; the case itself is a plain thread and takes part as one.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "ration/chan.h"
#include "sync/chan.h"
#include "fatal.h"
#include "unit.h"

typedef RATION_CHAN(int) int_chan;
typedef RATION_CHAN(const char *) text_chan;

static struct ration_chan *done; /* a G says so when it ends */
static _Atomic int state;        /* of a case's own */

static int_chan ints(size_t capacity) {
  int_chan c = RATION_CHAN_NEW(int_chan, capacity);
  ck_assert_ptr_nonnull(c.chan);
  return c;
}

static void go(ration_fn *fn, void *arg) {
  if (!done) done = ration_chan_new(0, 10000);
  ck_assert_int_eq(ration_go(fn, arg), 0);
}
static void say_done(void) { ration_chan_send(done, NULL); }
static void wait_done(int n) {
  while (n-- > 0) ck_assert(ration_chan_recv(done, NULL));
}

static int queue_len(struct ration_chan *c, struct chan_queue *q) {
  int n = 0;
  chan_lock(c);
  for (struct chan_waiter *w = queue_first(q); w; w = w->next) n++;
  chan_unlock(c);
  return n;
}
static int nreceivers(struct ration_chan *c) { return queue_len(c, &c->receivers); }
static int nsenders(struct ration_chan *c) { return queue_len(c, &c->senders); }
static void await_receivers(struct ration_chan *c, int n) {
  while (nreceivers(c) != n) ration_sleep(50 * RATION_US);
}
static void await_senders(struct ration_chan *c, int n) {
  while (nsenders(c) != n) ration_sleep(50 * RATION_US);
}
static void nobody_waits(int_chan c) {
  ck_assert_int_eq(nreceivers(c.chan), 0);
  ck_assert_int_eq(nsenders(c.chan), 0);
}

/* --- making, counting --- */

#if defined(RATION_SAN_address)
/* A case ends its process while Gs still wait on its channels; nor does LeakSanitizer look into the stacks of Gs. */
const char *__lsan_default_options(void);
const char *__lsan_default_options(void) { return "detect_leaks=0"; }
#endif

START_TEST(new_refuses_absurd_sizes) {
  const size_t bad[][2] = {
      {SIZE_MAX, 1}, {1, SIZE_MAX}, {UINT32_MAX, UINT32_MAX}, {(size_t)UINT32_MAX + 1, 0}, {0, (size_t)UINT32_MAX + 1}};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    errno = 0;
    ck_assert_ptr_null(ration_chan_new(bad[i][0], bad[i][1]));
    ck_assert_int_eq(errno, EINVAL);
  }
}
END_TEST

START_TEST(new_says_when_there_is_no_memory) {
#if defined(__aarch64__)
  return; /* qemu-user does not keep the limit */
#endif
#if defined(RATION_SAN_address) || defined(RATION_SAN_thread)
  return; /* their allocator ends the program, and they need more address space than we can take away */
#endif
  struct rlimit small = {1 << 30, 1 << 30};
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &small), 0);
  ck_assert_ptr_null(ration_chan_new(1u << 16, 1u << 16));
  ck_assert_int_eq(errno, ENOMEM);
}
END_TEST

START_TEST(len_and_cap_count_the_buffer) {
  int_chan c = ints(3), none = ints(0);
  int v;
  for (int i = 0; i < 3; i++) {
    ck_assert_uint_eq(ration_chan_len(c.chan), (size_t)i);
    RATION_SEND(c, i);
  }
  ck_assert_uint_eq(ration_chan_len(c.chan), 3);
  ck_assert_uint_eq(ration_chan_cap(c.chan), 3);
  ck_assert(RATION_RECV(c, &v));
  ck_assert_uint_eq(ration_chan_len(c.chan), 2);
  ck_assert_uint_eq(ration_chan_cap(none.chan), 0);
  ck_assert_uint_eq(ration_chan_len(NULL) + ration_chan_cap(NULL), 0);
  ck_assert_ptr_eq(ration_chan_ref(c.chan), c.chan);
  ration_chan_unref(c.chan);
  ck_assert_uint_eq(ration_chan_len(c.chan), 2); /* still there */
  ration_chan_unref(c.chan);
  ration_chan_unref(none.chan);
  ration_chan_unref(NULL);
  ck_assert_ptr_null(ration_chan_ref(NULL));
}
END_TEST

START_TEST(a_channel_is_one_cache_line_and_its_buffer) {
  struct ration_chan *c = ration_chan_new(24, 5);
  ck_assert_uint_eq((uintptr_t)c % 64, 0);
  ck_assert_uint_eq(sizeof *c, 64);
  ration_chan_unref(c);
}
END_TEST

START_TEST(buffered_elements_come_out_in_order) {
  int_chan c = ints(7);
  int v, next = 0, got = 0;
  for (int round = 0; round < 20; round++) { /* around the ring, at all offsets */
    for (int i = 0; i <= round % 7; i++) RATION_SEND(c, next++);
    for (int i = 0; i <= round % 7; i++) {
      ck_assert(RATION_RECV(c, &v));
      ck_assert_int_eq(v, got++);
    }
  }
}
END_TEST

/* --- elements --- */

#define ELEM_MAX 1000
struct sizes_arg {
  struct ration_chan *c;
  size_t size;
};
static void fill(unsigned char *v, size_t size, int i) {
  for (size_t k = 0; k < size; k++) v[k] = (unsigned char)(k * 7 + (size_t)i * 31 + 1);
}
static void send_pattern(void *arg) {
  struct sizes_arg *a = arg;
  unsigned char v[ELEM_MAX];
  for (int i = 0; i < 20; i++) {
    fill(v, a->size, i);
    ration_chan_send(a->c, v);
  }
  say_done();
}

static void pass_elements(size_t size, size_t capacity) {
  struct sizes_arg a = {ration_chan_new(size, capacity), size};
  unsigned char want[ELEM_MAX], v[ELEM_MAX + 8];
  go(send_pattern, &a);
  for (int i = 0; i < 20; i++) {
    if (i == 10 && capacity == 0) await_senders(a.c, 1); /* both ways: who comes second copies */
    memset(v, 0xee, sizeof v);
    ck_assert(ration_chan_recv(a.c, v));
    fill(want, size, i);
    ck_assert_int_eq(memcmp(v, want, size), 0);
    for (size_t k = size; k < size + 8; k++) ck_assert_uint_eq(v[k], 0xee);
  }
  wait_done(1);
  ration_chan_close(a.c);
  ck_assert(!ration_chan_recv(a.c, v));
  for (size_t k = 0; k < size; k++) ck_assert_uint_eq(v[k], 0);
  ck_assert_uint_eq(v[size], 0xee);
  ration_chan_unref(a.c);
}

START_TEST(elements_of_any_size_arrive_whole) {
  static const size_t sizes[] = {0, 1, 2, 3, 4, 7, 8, 12, 16, 17, 24, 64, ELEM_MAX};
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    for (size_t capacity = 0; capacity < 4; capacity++) pass_elements(sizes[i], capacity);
  }
}
END_TEST

START_TEST(typed_channels_carry_what_they_say) {
  typedef struct {
    long a;
    char b[20];
  } thing;
  typedef RATION_CHAN(thing) thing_chan;
  text_chan t = RATION_CHAN_NEW(text_chan, 1);
  thing_chan s = RATION_CHAN_NEW(thing_chan, 1);
  const char *text = NULL;
  thing v = {3, "three"};
  ck_assert_uint_eq(sizeof t, sizeof(void *));
  RATION_SEND(t, "hello");
  ck_assert(RATION_RECV(t, &text));
  ck_assert_str_eq(text, "hello");
  RATION_SEND(s, v);
  memset(&v, 0, sizeof v);
  ck_assert(RATION_RECV(s, &v));
  ck_assert_int_eq(v.a, 3);
  ck_assert_str_eq(v.b, "three");
  RATION_SEND(t, NULL);
  ck_assert(RATION_RECV(t, NULL)); /* thrown away */
  ck_assert_int_eq(RATION_TRY_RECV(t, &text), -EAGAIN);
}
END_TEST

/* --- who waits for whom --- */

static void send_and_say(void *arg) {
  int_chan c = {arg};
  RATION_SEND(c, 1);
  atomic_store(&state, 1);
  say_done();
}

START_TEST(unbuffered_sender_waits_for_its_receiver) {
  int_chan c = ints(0);
  int v = 0;
  go(send_and_say, c.chan);
  await_senders(c.chan, 1);
  ration_sleep(5 * RATION_MS);
  ck_assert_int_eq(atomic_load(&state), 0);
  ck_assert(RATION_RECV(c, &v));
  ck_assert_int_eq(v, 1);
  wait_done(1);
  ck_assert_int_eq(atomic_load(&state), 1);
}
END_TEST

START_TEST(buffered_sender_waits_for_room) {
  int_chan c = ints(2);
  int v;
  RATION_SEND(c, 10);
  RATION_SEND(c, 11);
  go(send_and_say, c.chan);
  await_senders(c.chan, 1);
  ck_assert_int_eq(atomic_load(&state), 0);
  ck_assert(RATION_RECV(c, &v)); /* the sender's element goes into the slot that this frees */
  ck_assert_int_eq(v, 10);
  wait_done(1);
  ck_assert_uint_eq(ration_chan_len(c.chan), 2);
  RATION_RECV(c, &v);
  ck_assert_int_eq(v, 11);
  RATION_RECV(c, &v);
  ck_assert_int_eq(v, 1);
}
END_TEST

struct numbered {
  int_chan c;
  int i, got;
  bool ok;
};
static void recv_numbered(void *arg) {
  struct numbered *n = arg;
  n->ok = RATION_RECV(n->c, &n->got);
  say_done();
}
static void send_numbered(void *arg) {
  struct numbered *n = arg;
  RATION_SEND(n->c, n->i);
  say_done();
}

START_TEST(receivers_are_served_in_the_order_they_came) {
  int_chan c = ints(0);
  struct numbered n[20];
  for (int i = 0; i < 20; i++) {
    n[i] = (struct numbered){c, i, -1, false};
    go(recv_numbered, &n[i]);
    await_receivers(c.chan, i + 1);
  }
  for (int i = 0; i < 20; i++) RATION_SEND(c, i);
  wait_done(20);
  for (int i = 0; i < 20; i++) ck_assert_int_eq(n[i].got, i);
}
END_TEST

START_TEST(senders_are_served_in_the_order_they_came) {
  for (size_t capacity = 0; capacity < 4; capacity += 3) {
    int_chan c = ints(capacity);
    struct numbered n[20];
    int v;
    for (size_t i = 0; i < capacity; i++) RATION_SEND(c, -1);
    for (int i = 0; i < 20; i++) {
      n[i] = (struct numbered){c, i, 0, false};
      go(send_numbered, &n[i]);
      await_senders(c.chan, i + 1);
    }
    for (size_t i = 0; i < capacity; i++) RATION_RECV(c, &v);
    for (int i = 0; i < 20; i++) {
      ck_assert(RATION_RECV(c, &v));
      ck_assert_int_eq(v, i);
    }
    wait_done(20);
  }
}
END_TEST

/* --- without blocking --- */

START_TEST(try_says_what_would_block) {
  int_chan c = ints(1), none = ints(0);
  int v = 5;
  ck_assert_int_eq(RATION_TRY_RECV(c, &v), -EAGAIN);
  ck_assert_int_eq(v, 5);
  ck_assert_int_eq(RATION_TRY_SEND(c, 1), 0);
  ck_assert_int_eq(RATION_TRY_SEND(c, 2), -EAGAIN);
  ck_assert_int_eq(RATION_TRY_RECV(c, &v), 0);
  ck_assert_int_eq(v, 1);
  ck_assert_int_eq(RATION_TRY_SEND(none, 1), -EAGAIN);
  ck_assert_int_eq(RATION_TRY_RECV(none, &v), -EAGAIN);
  RATION_SEND(c, 3);
  RATION_CLOSE(c);
  ck_assert_int_eq(RATION_TRY_RECV(c, &v), 0);
  ck_assert_int_eq(v, 3);
  ck_assert_int_eq(RATION_TRY_RECV(c, &v), -EPIPE);
  ck_assert_int_eq(v, 0);
}
END_TEST

START_TEST(try_meets_who_waits) {
  int_chan c = ints(0);
  struct numbered n = {c, 7, 0, false};
  int v;
  go(recv_numbered, &n);
  await_receivers(c.chan, 1);
  ck_assert_int_eq(RATION_TRY_SEND(c, 3), 0);
  wait_done(1);
  ck_assert_int_eq(n.got, 3);
  go(send_numbered, &n);
  await_senders(c.chan, 1);
  ck_assert_int_eq(RATION_TRY_RECV(c, &v), 0);
  ck_assert_int_eq(v, 7);
  wait_done(1);
}
END_TEST

/* --- nil --- */

static void send_for_ever(void *arg) {
  ration_chan_send(NULL, arg);
  atomic_store(&state, 1);
}
static void recv_for_ever(void *arg) {
  ration_chan_recv(NULL, arg);
  atomic_store(&state, 1);
}
static void select_for_ever(void *arg) {
  struct ration_case cases[] = {ration_case_recv(NULL, NULL), ration_case_send(NULL, NULL)};
  ration_select(cases, arg ? 2 : 0, RATION_FOREVER);
  atomic_store(&state, 1);
}

START_TEST(nil_blocks_for_ever) {
  go(send_for_ever, NULL);
  go(recv_for_ever, NULL);
  go(select_for_ever, NULL);
  go(select_for_ever, &state);
  ration_sleep(30 * RATION_MS);
  ck_assert_int_eq(atomic_load(&state), 0);
}
END_TEST

START_TEST(nil_is_never_ready) {
  int_chan nil = {NULL}, c = ints(1);
  int v;
  ck_assert_int_eq(RATION_TRY_SEND(nil, 1), -EAGAIN);
  ck_assert_int_eq(RATION_TRY_RECV(nil, &v), -EAGAIN);
  ck_assert_int_eq(RATION_SEND_TIMEOUT(nil, 1, RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(RATION_RECV_TIMEOUT(nil, &v, RATION_MS), -ETIMEDOUT);
  for (int i = 0; i < 100; i++) {
    struct ration_case cases[] = {RATION_CASE_SEND(nil, 1), RATION_CASE_RECV(nil, &v), RATION_CASE_SEND(c, 1), RATION_CASE_RECV(nil, &v)};
    ck_assert_int_eq(ration_select(cases, 4, RATION_FOREVER), 2);
    ck_assert_int_eq(ration_select(cases, 4, 0), -EAGAIN);
    ck_assert_int_eq(ration_select(cases, 2, -1), -EAGAIN);
    RATION_RECV(c, &v);
  }
}
END_TEST

/* --- close --- */

START_TEST(closed_channel_gives_what_is_left_then_zeros) {
  int_chan c = ints(3);
  int v = 9;
  RATION_SEND(c, 1);
  RATION_SEND(c, 2);
  RATION_CLOSE(c);
  ck_assert(RATION_RECV(c, &v));
  ck_assert_int_eq(v, 1);
  ck_assert(RATION_RECV(c, &v));
  ck_assert_int_eq(v, 2);
  for (int i = 0; i < 3; i++) {
    v = 9;
    ck_assert(!RATION_RECV(c, &v));
    ck_assert_int_eq(v, 0);
  }
  ck_assert(!RATION_RECV(c, NULL));
  v = 9;
  ck_assert_int_eq(RATION_RECV_TIMEOUT(c, &v, RATION_MS), -EPIPE);
  ck_assert_int_eq(v, 0);
}
END_TEST

static void select_numbered(void *arg) {
  struct numbered *n = arg;
  struct ration_case cases[] = {ration_case_recv(NULL, NULL), RATION_CASE_RECV(n->c, &n->got)};
  cases[1].ok = true;
  n->i = ration_select(cases, 2, RATION_FOREVER);
  n->ok = cases[1].ok;
  say_done();
}
static void recv_timed_numbered(void *arg) {
  struct numbered *n = arg;
  n->i = RATION_RECV_TIMEOUT(n->c, &n->got, 100 * RATION_SECOND);
  say_done();
}

START_TEST(close_wakes_all_receivers_with_zeros) {
  int_chan c = ints(0);
  struct numbered n[30];
  ration_fn *const how[] = {recv_numbered, select_numbered, recv_timed_numbered};
  const int result[] = {0, 1, -EPIPE};
  for (int i = 0; i < 30; i++) {
    n[i] = (struct numbered){c, 0, 77, i % 3 != 2};
    go(how[i % 3], &n[i]);
  }
  await_receivers(c.chan, 30);
  RATION_CLOSE(c);
  wait_done(30);
  for (int i = 0; i < 30; i++) {
    ck_assert_int_eq(n[i].got, 0);
    ck_assert(!n[i].ok);
    ck_assert_int_eq(n[i].i, result[i % 3]);
  }
  nobody_waits(c);
}
END_TEST

/* --- what is fatal --- */

static void recv_for_ever_of(void *c) { ration_chan_recv(c, NULL); }
static void close_soon(void *arg) {
  await_senders(arg, 1);
  ration_chan_close(arg);
}
static void fatal_send(void) {
  int_chan c = ints(0);
  RATION_CLOSE(c);
  RATION_SEND(c, 1);
}
static void fatal_try_send(void) {
  int_chan c = ints(0);
  RATION_CLOSE(c);
  RATION_TRY_SEND(c, 1);
}
static void fatal_send_timeout(void) {
  int_chan c = ints(0);
  RATION_CLOSE(c);
  RATION_SEND_TIMEOUT(c, 1, RATION_SECOND);
}
static void fatal_select(void) {
  int_chan c = ints(0);
  int_chan other = ints(0);
  int v;
  struct ration_case cases[] = {RATION_CASE_RECV(other, &v), RATION_CASE_SEND(c, 1)};
  RATION_CLOSE(c);
  ration_select(cases, 2, 0);
}
static void fatal_close_meanwhile(void) {
  int_chan c = ints(0);
  go(close_soon, c.chan);
  RATION_SEND(c, 1);
}
static void fatal_close_in_select(void) {
  int_chan c = ints(0);
  int_chan other = ints(0);
  int v;
  struct ration_case cases[] = {RATION_CASE_RECV(other, &v), RATION_CASE_SEND(c, 1)};
  go(close_soon, c.chan);
  ration_select(cases, 2, RATION_FOREVER);
}
static void fatal_close_twice(void) {
  int_chan c = ints(0);
  RATION_CLOSE(c);
  RATION_CLOSE(c);
}
static void fatal_close_nil(void) {
  int_chan c = {NULL};
  RATION_CLOSE(c);
}

static void fatal_last_reference(void) {
  int_chan c = ints(0);
  go(recv_for_ever_of, c.chan);
  await_receivers(c.chan, 1);
  ration_chan_unref(c.chan);
}

START_TEST(misuse_is_fatal_as_in_go) {
  ends_the_program(fatal_send, "send on closed channel");
  ends_the_program(fatal_try_send, "send on closed channel");
  ends_the_program(fatal_send_timeout, "send on closed channel");
  ends_the_program(fatal_select, "send on closed channel");
  ends_the_program(fatal_close_meanwhile, "send on closed channel");
  ends_the_program(fatal_close_in_select, "send on closed channel");
  ends_the_program(fatal_close_twice, "close of closed channel");
  ends_the_program(fatal_close_nil, "close of nil channel");
  ends_the_program(fatal_last_reference, "last reference of a channel dropped while Gs wait at it");
}
END_TEST

/* --- select --- */

START_TEST(select_takes_the_default_if_nothing_is_ready) {
  int_chan a = ints(0), b = ints(1);
  int v;
  struct ration_case cases[] = {RATION_CASE_RECV(a, &v), RATION_CASE_RECV(b, &v), RATION_CASE_SEND(a, 1)};
  for (size_t n = 0; n <= 3; n++) {
    ck_assert_int_eq(ration_select(cases, n, 0), -EAGAIN);
    ck_assert_int_eq(ration_select(cases, n, -1), -EAGAIN);
  }
  RATION_SEND(b, 4);
  ck_assert_int_eq(ration_select(cases, 3, 0), 1);
  ck_assert(cases[1].ok);
  ck_assert_int_eq(v, 4);
  ck_assert_int_eq(ration_select(cases, 3, 0), -EAGAIN);
  RATION_CLOSE(b);
  ck_assert_int_eq(ration_select(cases, 3, 0), 1);
  ck_assert(!cases[1].ok);
  ck_assert_int_eq(v, 0);
  nobody_waits(a);
}
END_TEST

START_TEST(select_of_one_case_is_that_case) {
  int_chan c = ints(1);
  int v;
  struct ration_case send = RATION_CASE_SEND(c, 8), recv = RATION_CASE_RECV(c, &v);
  ck_assert_int_eq(ration_select(&recv, 1, 0), -EAGAIN);
  ck_assert_int_eq(ration_select(&send, 1, 0), 0);
  ck_assert_int_eq(ration_select(&send, 1, 0), -EAGAIN);
  ck_assert_int_eq(ration_select(&recv, 1, 0), 0);
  ck_assert(recv.ok);
  ck_assert_int_eq(v, 8);
  ck_assert_int_eq(ration_select(&send, 1, RATION_FOREVER), 0);
  ck_assert_int_eq(ration_select(&recv, 1, RATION_FOREVER), 0);
  RATION_CLOSE(c);
  ck_assert_int_eq(ration_select(&recv, 1, 0), 0);
  ck_assert(!recv.ok);
}
END_TEST

START_TEST(select_refuses_too_many_cases) { ck_assert_int_eq(ration_select(NULL, RATION_CASES_MAX + 1, 0), -EINVAL); }
END_TEST

/* Of n ready cases each is taken about as often. */
static void check_fair(size_t n) {
  enum { EACH = 2000 };
  struct ration_case cases[40];
  unsigned times[40] = {0};
  int v;
  for (size_t i = 0; i < n; i++) {
    int_chan c = ints(1);
    RATION_SEND(c, (int)i);
    cases[i] = RATION_CASE_RECV(c, &v);
  }
  for (size_t k = 0; k < n * EACH; k++) {
    int i = ration_select(cases, n, RATION_FOREVER);
    ck_assert_int_eq(v, i);
    times[i]++;
    ration_chan_send(cases[i].chan, &i);
  }
  for (size_t i = 0; i < n; i++) { /* 10 standard deviations */
    ck_assert_uint_gt(times[i], EACH - 450);
    ck_assert_uint_lt(times[i], EACH + 450);
  }
}

START_TEST(select_is_fair) {
  check_fair(2);
  check_fair(3);
  check_fair(16);
  check_fair(40);
}
END_TEST

/* Go's TestSelectFairness: a channel that is always ready does not keep the others from their turn. */
static int_chan fair_a, fair_b, fair_out;
static struct ration_chan *fair_quit;
static void send_till_quit(void *arg) {
  int_chan *c = arg;
  struct ration_case cases[] = {RATION_CASE_SEND(*c, c == &fair_b), ration_case_recv(fair_quit, NULL)};
  while (ration_select(cases, 2, RATION_FOREVER) == 0) continue;
  say_done();
}
static void forward_till_quit(void *arg) {
  int v;
  (void)arg;
  for (;;) {
    struct ration_case in[] = {RATION_CASE_RECV(fair_a, &v), RATION_CASE_RECV(fair_b, &v)};
    ration_select(in, 2, RATION_FOREVER);
    struct ration_case out[] = {RATION_CASE_SEND_FROM(fair_out, &v), ration_case_recv(fair_quit, NULL)};
    if (ration_select(out, 2, RATION_FOREVER) == 1) break;
  }
  say_done();
}

START_TEST(select_is_fair_between_senders) {
  enum { ROUNDS = 2000 };
  int count[2] = {0}, v;
  fair_a = ints(ROUNDS + 1);
  fair_b = ints(0);
  fair_out = ints(0);
  fair_quit = ration_chan_new(0, 0);
  for (int i = 0; i <= ROUNDS; i++) RATION_SEND(fair_a, 0);
  go(send_till_quit, &fair_b);
  go(forward_till_quit, NULL);
  for (int i = 0; i < ROUNDS; i++) {
    if (i % 8 == 0) { /* b's sender is at its place: what is counted is select, not who gets a CPU */
      for (int k = 0; k < 100 && nsenders(fair_b.chan) == 0; k++) ration_yield();
    }
    RATION_RECV(fair_out, &v);
    count[v]++;
  }
  ration_chan_close(fair_quit);
  wait_done(2);
  ck_assert_int_gt(count[0], ROUNDS / 20);
  ck_assert_int_gt(count[1], ROUNDS / 20);
}
END_TEST

static void send_later(void *arg) {
  int_chan c = {arg};
  await_receivers(c.chan, 2);
  RATION_SEND(c, 6);
  say_done();
}

START_TEST(select_may_name_a_channel_twice) {
  int_chan c = ints(0), d = ints(0);
  int v = 0, w = 0;
  unsigned first = 0;
  for (int i = 0; i < 200; i++) {
    struct ration_case cases[] = {RATION_CASE_RECV(c, &v), RATION_CASE_RECV(d, &w), RATION_CASE_RECV(c, &w), RATION_CASE_RECV(d, &v)};
    go(send_later, c.chan);
    int k = ration_select(cases, 4, RATION_FOREVER);
    ck_assert(k == 0 || k == 2);
    ck_assert_int_eq(k == 0 ? v : w, 6);
    first += k == 0;
    wait_done(1);
    nobody_waits(c);
    nobody_waits(d);
  }
  ck_assert_uint_gt(first, 40);
  ck_assert_uint_lt(first, 160);
}
END_TEST

START_TEST(select_does_not_serve_itself) {
  int_chan c = ints(0);
  int v = 5;
  struct ration_case cases[] = {RATION_CASE_SEND(c, 1), RATION_CASE_RECV(c, &v)};
  ck_assert_int_eq(ration_select(cases, 2, 0), -EAGAIN);
  ck_assert_int_eq(ration_select(cases, 2, 2 * RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(v, 5);
  nobody_waits(c);
}
END_TEST

static void select_both_ways(void *arg) {
  int_chan c = {arg};
  int in;
  for (int i = 0; i < 1000; i++) {
    struct ration_case cases[] = {RATION_CASE_SEND(c, 1), RATION_CASE_RECV(c, &in)};
    int k = ration_select(cases, 2, RATION_FOREVER);
    atomic_fetch_add(&state, k == 0 ? 1 : -in);
  }
  say_done();
}

START_TEST(two_that_select_both_ways_serve_each_other) {
  int_chan c = ints(0);
  go(select_both_ways, c.chan);
  go(select_both_ways, c.chan);
  wait_done(2);
  ck_assert_int_eq(atomic_load(&state), 0);
  nobody_waits(c);
}
END_TEST

/* Two that name the same channels in the opposite order: whose locks are taken first is not up to them. */
static int_chan order_a, order_b;
static void select_a_b(void *arg) {
  int v = 0;
  bool turned = arg != NULL;
  for (int i = 0; i < 20000; i++) {
    struct ration_case cases[] = {RATION_CASE_RECV(turned ? order_b : order_a, &v), RATION_CASE_RECV(turned ? order_a : order_b, &v)};
    if (ration_select(cases, 2, 0) != -EAGAIN) atomic_fetch_add(&state, 1);
  }
  say_done();
}

START_TEST(opposite_orders_do_not_deadlock) {
  order_a = ints(0);
  order_b = ints(0);
  for (int i = 0; i < 4; i++) go(select_a_b, i & 1 ? &state : NULL);
  wait_done(4);
  ck_assert_int_eq(atomic_load(&state), 0);
}
END_TEST

static void send_one_of(void *arg) {
  int_chan c = {arg};
  await_receivers(c.chan, 1);
  RATION_SEND(c, 1);
  say_done();
}

START_TEST(select_leaves_the_queues_it_does_not_need) {
  static const size_t sizes[] = {2, 16, 17, 300};
  for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t n = sizes[i], hot = n * 2 / 3;
    struct ration_case cases[300];
    int v = 0;
    for (size_t k = 0; k < n; k++) cases[k] = ration_case_recv(ration_chan_new(sizeof(int), 0), &v);
    go(send_one_of, cases[hot].chan);
    ck_assert_int_eq(ration_select(cases, n, RATION_FOREVER), (int)hot);
    ck_assert(cases[hot].ok);
    ck_assert_int_eq(v, 1);
    wait_done(1);
    for (size_t k = 0; k < n; k++) {
      nobody_waits((int_chan){cases[k].chan});
      ration_chan_unref(cases[k].chan);
    }
  }
}
END_TEST

/* --- timeouts --- */

START_TEST(timeouts_are_not_early) {
  int_chan c = ints(0), full = ints(1);
  int v = 5;
  RATION_SEND(full, 1);
  for (int i = 0; i < 4; i++) {
    struct ration_case cases[] = {RATION_CASE_RECV(c, &v), RATION_CASE_SEND(full, 2)};
    ration_ns start = ration_now();
    int r = i == 0   ? RATION_RECV_TIMEOUT(c, &v, 10 * RATION_MS)
            : i == 1 ? RATION_SEND_TIMEOUT(c, 1, 10 * RATION_MS)
            : i == 2 ? RATION_SEND_TIMEOUT(full, 1, 10 * RATION_MS)
                     : ration_select(cases, 2, 10 * RATION_MS);
    ck_assert_int_eq(r, -ETIMEDOUT);
    ck_assert_int_ge(ration_now() - start, 10 * RATION_MS);
    ck_assert_int_lt(ration_now() - start, 5 * RATION_SECOND);
  }
  ck_assert_int_eq(ration_select(NULL, 0, RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(RATION_RECV_TIMEOUT(c, &v, 0), -ETIMEDOUT);
  ck_assert_int_eq(RATION_SEND_TIMEOUT(c, 1, -5), -ETIMEDOUT);
  ck_assert_int_eq(v, 5);
  nobody_waits(c);
  nobody_waits(full);
}
END_TEST

START_TEST(who_comes_in_time_is_served) {
  int_chan c = ints(0);
  struct numbered n = {c, 7, 0, false};
  int v;
  for (int i = 0; i < 50; i++) {
    go(i & 1 ? recv_numbered : send_numbered, &n);
    if (i & 1) {
      ck_assert_int_eq(RATION_SEND_TIMEOUT(c, i, 100 * RATION_SECOND), 0);
    } else {
      ck_assert_int_eq(RATION_RECV_TIMEOUT(c, &v, 100 * RATION_SECOND), 0);
      ck_assert_int_eq(v, 7);
    }
    wait_done(1);
    if (i & 1) ck_assert_int_eq(n.got, i);
  }
  ck_assert_int_eq(RATION_SEND_TIMEOUT(ints(1), 1, RATION_FOREVER), 0);
  nobody_waits(c);
}
END_TEST

/* The time runs out just when the other side comes: either both succeed or neither. */
static _Atomic long sent, received;
static void recv_in_a_hurry(void *arg) {
  int_chan c = {arg};
  for (int i = 0; i < 600; i++) {
    int v = 0;
    if (RATION_RECV_TIMEOUT(c, &v, (i % 50) * 2 * RATION_US) == 0)
      atomic_fetch_add(&received, v);
    else if (v != 0)
      atomic_fetch_add(&received, 1000000);
  }
  say_done();
}
static void send_in_a_hurry(void *arg) {
  int_chan c = {arg};
  for (int i = 0; i < 600; i++) {
    if (RATION_SEND_TIMEOUT(c, i + 1, (i % 40) * 3 * RATION_US) == 0) atomic_fetch_add(&sent, i + 1);
  }
  say_done();
}
static void select_in_a_hurry(void *arg) {
  int_chan *c = arg;
  for (int i = 0; i < 600; i++) {
    int v = 0;
    struct ration_case cases[] = {RATION_CASE_RECV(c[0], &v), RATION_CASE_SEND(c[1], i + 1), RATION_CASE_RECV(c[2], &v)};
    int k = ration_select(cases, 3, (i % 30) * 3 * RATION_US);
    if (k == 1) atomic_fetch_add(&sent, i + 1);
    if (k == 0 || k == 2) atomic_fetch_add(&received, v);
  }
  say_done();
}

START_TEST(a_timeout_and_a_waker_have_one_winner) {
  int_chan c[3] = {ints(0), ints(1), ints(0)};
  for (int i = 0; i < 3; i++) {
    go(recv_in_a_hurry, c[i].chan);
    go(send_in_a_hurry, c[i].chan);
    go(select_in_a_hurry, c);
  }
  wait_done(9);
  for (int i = 0, v; i < 3; i++) {
    while (RATION_TRY_RECV(c[i], &v) == 0) atomic_fetch_add(&received, v);
    nobody_waits(c[i]);
  }
  ck_assert_int_eq(atomic_load(&sent), atomic_load(&received));
  ck_assert_int_gt(atomic_load(&sent), 0);
}
END_TEST

/* --- many --- */

enum { CROWD = 40, EACH = 500 };
static void send_many(void *arg) {
  int_chan c = {arg};
  for (int i = 1; i <= EACH; i++) RATION_SEND(c, i);
  say_done();
}
static void recv_till_closed(void *arg) {
  int_chan c = {arg};
  long sum = 0;
  for (int v; RATION_RECV(c, &v);) sum += v;
  atomic_fetch_add(&received, sum);
  say_done();
}

START_TEST(nothing_is_lost_or_doubled_in_a_crowd) {
  static const size_t capacities[] = {0, 1, 10, 128};
  for (unsigned k = 0; k < sizeof capacities / sizeof *capacities; k++) {
    int_chan c = ints(capacities[k]);
    atomic_store(&received, 0);
    for (int i = 0; i < CROWD; i++) go(recv_till_closed, c.chan);
    for (int i = 0; i < CROWD; i++) go(send_many, c.chan);
    wait_done(CROWD);
    RATION_CLOSE(c);
    wait_done(CROWD);
    ck_assert_int_eq(atomic_load(&received), (long)CROWD * EACH * (EACH + 1) / 2);
    nobody_waits(c);
    ration_chan_unref(c.chan);
  }
}
END_TEST

/* Go's TestSelectStress: four channels, senders and receivers that name one, or select over all. */
static int_chan four[4];
enum { PER_CHAN = 3000 };
static void send_to_one(void *arg) {
  int_chan *c = arg;
  for (int i = 0; i < PER_CHAN; i++) RATION_SEND(*c, i);
  say_done();
}
static void recv_from_one(void *arg) {
  int_chan *c = arg;
  int v;
  for (int i = 0; i < PER_CHAN; i++) {
    if (!RATION_RECV(*c, &v)) atomic_fetch_add(&state, 1);
  }
  say_done();
}
static void select_over_four(bool send) {
  struct ration_case cases[4];
  int left[4] = {PER_CHAN, PER_CHAN, PER_CHAN, PER_CHAN}, v = 3;
  for (int i = 0; i < 4; i++) cases[i] = send ? RATION_CASE_SEND_FROM(four[i], &v) : RATION_CASE_RECV(four[i], &v);
  for (int i = 0; i < 4 * PER_CHAN; i++) {
    int k = ration_select(cases, 4, RATION_FOREVER);
    if (k < 0 || (!send && !cases[k].ok))
      atomic_fetch_add(&state, 1);
    else if (--left[k] == 0)
      cases[k].chan = NULL; /* enough of it */
  }
  say_done();
}
static void send_to_four(void *arg) { (void)arg, select_over_four(true); }
static void recv_from_four(void *arg) { (void)arg, select_over_four(false); }

START_TEST(selects_and_plain_ones_mix) {
  static const size_t capacities[4] = {0, 0, 2, 3};
  for (int i = 0; i < 4; i++) {
    four[i] = ints(capacities[i]);
    go(send_to_one, &four[i]);
    go(recv_from_one, &four[i]);
  }
  go(send_to_four, NULL);
  go(recv_from_four, NULL);
  wait_done(10);
  ck_assert_int_eq(atomic_load(&state), 0);
  for (int i = 0; i < 4; i++) nobody_waits(four[i]);
}
END_TEST

/* Go's sieve: a chain of Gs, each of which passes on what its prime does not divide. */
struct sieve {
  int_chan in, out;
  int prime;
};
static void count_up(void *arg) {
  int_chan c = {arg};
  for (int i = 2; i <= 542; i++) RATION_SEND(c, i);
  RATION_CLOSE(c);
}
static void filter(void *arg) {
  struct sieve *s = arg;
  for (int v; RATION_RECV(s->in, &v);) {
    if (v % s->prime) RATION_SEND(s->out, v);
  }
  RATION_CLOSE(s->out);
}

START_TEST(sieve_finds_the_primes) {
  static struct sieve chain[101];
  int_chan c = ints(0);
  int n = 0, prime, last = 0;
  go(count_up, c.chan);
  while (RATION_RECV(c, &prime)) {
    last = prime;
    ck_assert_int_lt(n, 101);
    chain[n] = (struct sieve){c, ints(0), prime};
    go(filter, &chain[n]);
    c = chain[n++].out;
  }
  ck_assert_int_eq(n, 100);
  ck_assert_int_eq(last, 541);
}
END_TEST

/* --- against close --- */

struct closing {
  int_chan a, b;
  _Atomic int got;
};
static void select_till_closed(void *arg) {
  struct closing *x = arg;
  int v;
  struct ration_case cases[] = {RATION_CASE_RECV(x->a, &v), RATION_CASE_RECV(x->b, &v)};
  for (;;) {
    int k = ration_select(cases, 2, RATION_FOREVER);
    if (cases[k].ok)
      atomic_fetch_add(&x->got, v);
    else if (v != 0)
      atomic_fetch_add(&x->got, 1000000);
    else
      cases[k].chan = NULL;
    if (!cases[0].chan && !cases[1].chan) break;
  }
  say_done();
}
static void send_then_close(void *arg) {
  int_chan c = {arg};
  for (int i = 0; i < 5; i++) RATION_SEND(c, 1);
  RATION_CLOSE(c);
  say_done();
}

START_TEST(select_against_close_loses_nothing) {
  for (int round = 0; round < 200; round++) {
    struct closing x = {ints((size_t)round % 3), ints(0), 0};
    for (int i = 0; i < 3; i++) go(select_till_closed, &x);
    go(send_then_close, x.a.chan);
    go(send_then_close, x.b.chan);
    wait_done(5);
    ck_assert_int_eq(atomic_load(&x.got), 10);
    nobody_waits(x.a);
    nobody_waits(x.b);
    ration_chan_unref(x.a.chan);
    ration_chan_unref(x.b.chan);
  }
}
END_TEST

/* Go's TestNonblockSelectRace: one of two is always ready, from before to after the look. */
static void try_both(void *arg) {
  struct closing *x = arg;
  int v;
  struct ration_case cases[] = {RATION_CASE_RECV(x->a, &v), RATION_CASE_RECV(x->b, &v)};
  if (ration_select(cases, 2, 0) == -EAGAIN) atomic_fetch_add(&state, 1);
  say_done();
}
/* Go's TestNonblockRecvRace: a full buffer, drained and closed meanwhile, is never "would block". */
static void try_one(void *arg) {
  struct closing *x = arg;
  int v;
  if (RATION_TRY_RECV(x->a, &v) == -EAGAIN) atomic_fetch_add(&state, 1);
  say_done();
}

START_TEST(what_is_always_ready_is_never_seen_as_blocking) {
  for (int round = 0; round < 2000; round++) {
    struct closing x = {ints(1), ints(1), 0};
    int v;
    RATION_SEND(x.a, 1);
    go(round & 1 ? try_both : try_one, &x);
    if (round & 1)
      RATION_SEND(x.b, 1);
    else
      RATION_CLOSE(x.a);
    (void)RATION_TRY_RECV(x.a, &v);
    wait_done(1);
    ration_chan_unref(x.a.chan);
    ration_chan_unref(x.b.chan);
  }
  ck_assert_int_eq(atomic_load(&state), 0);
}
END_TEST

/* Sent and closed while another looks: the element comes first. */
static void send_and_close(void *arg) {
  int_chan c = {arg};
  RATION_SEND(c, 1);
  RATION_CLOSE(c);
  say_done();
}

START_TEST(what_was_sent_before_close_comes_before_it) {
  for (int round = 0; round < 3000; round++) {
    int_chan c = ints(1);
    int v, r;
    go(send_and_close, c.chan);
    while ((r = RATION_TRY_RECV(c, &v)) == -EAGAIN) continue;
    ck_assert_int_eq(r, 0);
    wait_done(1);
    ck_assert_int_eq(RATION_TRY_RECV(c, &v), -EPIPE);
    ration_chan_unref(c.chan);
  }
}
END_TEST

/* What comes with an element, or with close, is seen. */
static int plain_data;
static void write_then_close(void *arg) {
  plain_data = 42;
  ration_chan_close(arg);
}

START_TEST(what_was_written_before_close_is_seen_after) {
  for (int i = 0; i < 300; i++) {
    int_chan c = ints(i & 1);
    int v, r;
    plain_data = 0;
    go(write_then_close, c.chan);
    if (i & 2)
      RATION_RECV(c, &v);
    else
      while ((r = RATION_TRY_RECV(c, &v)) == -EAGAIN) ration_yield();
    ck_assert_int_eq(plain_data, 42);
  }
}
END_TEST

UNIT_MAIN("chan", new_refuses_absurd_sizes, new_says_when_there_is_no_memory, len_and_cap_count_the_buffer,
          a_channel_is_one_cache_line_and_its_buffer, buffered_elements_come_out_in_order, elements_of_any_size_arrive_whole,
          typed_channels_carry_what_they_say, unbuffered_sender_waits_for_its_receiver, buffered_sender_waits_for_room,
          receivers_are_served_in_the_order_they_came, senders_are_served_in_the_order_they_came, try_says_what_would_block,
          try_meets_who_waits, nil_blocks_for_ever, nil_is_never_ready, closed_channel_gives_what_is_left_then_zeros,
          close_wakes_all_receivers_with_zeros, misuse_is_fatal_as_in_go, select_takes_the_default_if_nothing_is_ready,
          select_of_one_case_is_that_case, select_refuses_too_many_cases, select_is_fair, select_is_fair_between_senders,
          select_may_name_a_channel_twice, select_does_not_serve_itself, two_that_select_both_ways_serve_each_other,
          opposite_orders_do_not_deadlock, select_leaves_the_queues_it_does_not_need, timeouts_are_not_early, who_comes_in_time_is_served,
          a_timeout_and_a_waker_have_one_winner, nothing_is_lost_or_doubled_in_a_crowd, selects_and_plain_ones_mix, sieve_finds_the_primes,
          select_against_close_loses_nothing, what_is_always_ready_is_never_seen_as_blocking, what_was_sent_before_close_comes_before_it,
          what_was_written_before_close_is_seen_after)
