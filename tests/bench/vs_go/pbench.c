/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work of vs_go with plain threads of the kernel's, by what pthreads offer: a thread for each G, mutex and condition variable for
 * a channel.  No part of ration is linked in.  Where there can't be as many threads as Gs there are fewer, and the figure is for each one as well.
 *
 *   pbench WORK [N]      how many CPUs: by the affinity that the caller gives it
 */
#include "vs_go.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void thread_start(pthread_t *t, void *(*fn)(void *), void *arg) {
  pthread_attr_t attr;
  must(pthread_attr_init(&attr), "pthread_attr_init");
  must(pthread_attr_setstacksize(&attr, 64 << 10), "pthread_attr_setstacksize");
  must(pthread_create(t, &attr, fn, arg), "pthread_create");
  pthread_attr_destroy(&attr);
}

static void join(pthread_t t) { must(pthread_join(t, NULL), "pthread_join"); }

static pthread_t *threads_new(long n) {
  pthread_t *t = calloc((size_t)n, sizeof *t);
  if (!t) die("calloc");
  return t;
}

/* ---- a channel of longs ---------------------------------------------------------------------------- */

#define ROOM_MAX 128
struct chan {
  pthread_mutex_t mu;
  pthread_cond_t items, room;
  unsigned head, len, cap;
  long ring[ROOM_MAX];
};
#define CHAN(n) \
  { .mu = PTHREAD_MUTEX_INITIALIZER, .items = PTHREAD_COND_INITIALIZER, .room = PTHREAD_COND_INITIALIZER, .cap = (n) }

static void chan_send(struct chan *c, long v) {
  pthread_mutex_lock(&c->mu);
  while (c->len == c->cap) pthread_cond_wait(&c->room, &c->mu);
  c->ring[(c->head + c->len++) % ROOM_MAX] = v;
  bool first = c->len == 1;
  pthread_mutex_unlock(&c->mu);
  if (first) pthread_cond_signal(&c->items);
}

static long chan_recv(struct chan *c) {
  pthread_mutex_lock(&c->mu);
  while (c->len == 0) pthread_cond_wait(&c->items, &c->mu);
  long v = c->ring[c->head];
  c->head = (c->head + 1) % ROOM_MAX;
  bool full = c->len-- == c->cap;
  pthread_mutex_unlock(&c->mu);
  if (full) pthread_cond_signal(&c->room);
  return v;
}

/* ---- spawn ----------------------------------------------------------------------------------------- */

static void *nothing(void *arg) { return arg; }

static void spawn(long n) {
  pthread_t t;
  int64_t began = now_ns();
  for (long i = 0; i < n; i++) {
    thread_start(&t, nothing, NULL);
    join(t);
  }
  figure_each(began, n);
}

/* ---- yield ----------------------------------------------------------------------------------------- */

static long turns;
static void *yielder(void *arg) {
  for (long i = 0; i < turns; i++) sched_yield();
  return arg;
}

static void yield(long n) {
  pthread_t a, b;
  turns = n;
  int64_t began = now_ns();
  thread_start(&a, yielder, NULL);
  thread_start(&b, yielder, NULL);
  join(a);
  join(b);
  figure_each(began, 2 * n);
}

/* ---- channels -------------------------------------------------------------------------------------- */

static struct chan ping = CHAN(1), pong = CHAN(1), wide = CHAN(ROOM_MAX);

static void *answer(void *arg) {
  for (long i = 0; i < turns; i++) chan_send(&pong, chan_recv(&ping));
  return arg;
}

static void round_trip(long n) {
  pthread_t t;
  turns = n;
  thread_start(&t, answer, NULL);
  int64_t began = now_ns();
  for (long i = 0; i < n; i++) {
    chan_send(&ping, i);
    if (chan_recv(&pong) != i) abort();
  }
  figure_each(began, n);
  join(t);
}

static void *producer(void *arg) {
  for (long i = 0; i < turns; i++) chan_send(&wide, i);
  return arg;
}

static void buffered(long n) {
  pthread_t t;
  long sum = 0;
  turns = n;
  int64_t began = now_ns();
  thread_start(&t, producer, NULL);
  for (long i = 0; i < n; i++) sum += chan_recv(&wide);
  figure_each(began, n);
  join(t);
  if (sum != n * (n - 1) / 2) abort();
}

/* ---- skynet ---------------------------------------------------------------------------------------- */

struct node {
  long num, size, sum;
};

static void *skynet_node(void *arg) {
  struct node *me = arg;
  struct node child[10];
  pthread_t t[10];
  if (me->size == 1) {
    me->sum = me->num;
    return NULL;
  }
  for (int i = 0; i < 10; i++) {
    child[i] = (struct node){me->num + i * (me->size / 10), me->size / 10, 0};
    thread_start(&t[i], skynet_node, &child[i]);
  }
  for (int i = 0; i < 10; i++) {
    join(t[i]);
    me->sum += child[i].sum;
  }
  return NULL;
}

static void skynet(long n) {
  struct node root = {0, n, 0};
  int64_t began = now_ns();
  skynet_node(&root);
  figure_each(began, n);
  if (root.sum != n * (n - 1) / 2) abort();
}

/* ---- mutex ----------------------------------------------------------------------------------------- */

#define LOCKERS 100
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static long count;

static void *locker(void *arg) {
  for (long i = 0; i < turns; i++) {
    pthread_mutex_lock(&mu);
    count++;
    pthread_mutex_unlock(&mu);
  }
  return arg;
}

static void mutex(long n) {
  pthread_t t[LOCKERS];
  turns = n / LOCKERS;
  int64_t began = now_ns();
  for (int i = 0; i < LOCKERS; i++) thread_start(&t[i], locker, NULL);
  for (int i = 0; i < LOCKERS; i++) join(t[i]);
  figure_each(began, n);
  if (count != turns * LOCKERS) abort();
}

/* ---- echo ------------------------------------------------------------------------------------------ */

static void *serve(void *arg) {
  char buf[1024];
  int fd = (int)(intptr_t)arg;
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) > 0 && write(fd, buf, (size_t)n) == n) continue;
  close(fd);
  return NULL;
}

static int listener(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&at, &len)) die("listen");
  figure("port", ntohs(at.sin_port));
  fflush(stdout);
  return fd;
}

static int next_connection(int fd) {
  int c = accept(fd, NULL, NULL), one = 1;
  if (c < 0) die("accept");
  setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return c;
}

static void echo(long n) {
  int fd = listener();
  (void)n;
  for (;;) {
    pthread_t t;
    thread_start(&t, serve, (void *)(intptr_t)next_connection(fd));
    pthread_detach(t);
  }
}

/* The same by a bare epoll loop in one thread: what is left when there is no runtime at all. */
static void echo_epoll(long n) {
  struct epoll_event events[256], ev = {.events = EPOLLIN, .data.fd = listener()};
  int fd = ev.data.fd, epoll = epoll_create1(EPOLL_CLOEXEC);
  char buf[1024];
  (void)n;
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev)) die("epoll");
  ev.events = EPOLLIN | EPOLLET;
  for (;;) {
    int got = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < got; i++) {
      int c = events[i].data.fd;
      if (c == fd) {
        ev.data.fd = next_connection(fd);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev)) die("epoll_ctl");
        continue;
      }
      /* Less than a buffer full means that it is empty. */
      ssize_t len = read(c, buf, sizeof buf);
      if (len <= 0 || write(c, buf, (size_t)len) != len) close(c);
    }
  }
}

/* ---- preempt: on one CPU; the kernel's own preemption ---------------------------------------------- */

static int wake[2];
static _Atomic int64_t ran;

static void *woken(void *arg) {
  char c;
  while (read(wake[0], &c, 1) == 1) atomic_store(&ran, now_ns());
  return arg;
}

static void preempt(long rounds) {
  int64_t *ns = calloc((size_t)rounds, sizeof *ns);
  pthread_t t;
  if (!ns || pipe(wake)) die("preempt");
  thread_start(&t, woken, NULL);
  usleep(5000);
  for (long i = 0; i < rounds; i++) {
    spin_ns(i % 8 * 1000000);
    atomic_store(&ran, 0);
    int64_t at = now_ns();
    if (write(wake[1], "x", 1) != 1) die("write");
    while (!atomic_load(&ran)) continue;
    ns[i] = atomic_load(&ran) - at;
  }
  close(wake[1]);
  join(t);
  figure_latencies(ns, rounds, rounds);
  free(ns);
}

/* ---- parked: what its user space holds; the kernel's own stack of a thread, 16 KiB, comes on top --- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static long arrived;
static bool open_now;

static void *park(void *arg) {
  pthread_mutex_lock(&gate);
  arrived++;
  while (!open_now) pthread_cond_wait(&opened, &gate);
  pthread_mutex_unlock(&gate);
  return arg;
}

static void parked(long n) {
  pthread_t *t = threads_new(n);
  double before = resident_bytes();
  for (long i = 0; i < n; i++) thread_start(&t[i], park, NULL);
  for (;;) {
    pthread_mutex_lock(&gate);
    bool all = arrived == n;
    pthread_mutex_unlock(&gate);
    if (all) break;
    usleep(1000);
  }
  figure("bytes", (resident_bytes() - before) / (double)n);
  pthread_mutex_lock(&gate);
  open_now = true;
  pthread_cond_broadcast(&opened);
  pthread_mutex_unlock(&gate);
  for (long i = 0; i < n; i++) join(t[i]);
  free(t);
}

int main(int argc, char **argv) {
  static const struct work works[] = {
      {"spawn", spawn, 20000},
      {"yield", yield, 200000},
      {"chan", round_trip, 50000},
      {"bufchan", buffered, 500000},
      {"skynet", skynet, 1000},
      {"mutex", mutex, 2000000},
      {"echo", echo, 1},
      {"epoll", echo_epoll, 1},
      {"preempt", preempt, 32},
      {"parked", parked, 5000},
      {0},
  };
  return run_work(works, argc, argv);
}
