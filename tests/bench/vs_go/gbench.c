/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work of vs_go with ration; gobench.go has the same in Go, function by function.
 *
 *   gbench WORK [N]      RATION_MAXPROCS says how many Ps
 */
#include "vs_go.h"
#include "../raw_read.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <ration/chan.h>
#include <ration/g.h>
#include <ration/sync.h>
#include <stdatomic.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef RATION_CHAN(long) long_chan;

static long_chan chan_new(size_t room) {
  long_chan c = RATION_CHAN_NEW(long_chan, room);
  if (!c.chan) die("ration_chan_new");
  return c;
}

static void go(ration_fn *fn, void *arg) { must(ration_go(fn, arg), "ration_go"); }

static void wrong(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

/* What the Gs of most works share. */
static struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
static long turns;

/* ---- spawn, run and join n Gs ---------------------------------------------------------------------- */

static void done(void *arg) { ration_waitgroup_done(arg); }

static void spawn(long n) {
  int64_t began = now_ns();
  for (long i = 0; i < n; i++) {
    ration_waitgroup_add(&wg, 1);
    go(done, &wg);
  }
  ration_waitgroup_wait(&wg);
  figure_each(began, n);
}

/* ---- two Gs yield in turns: a figure of one switch ------------------------------------------------- */

static void yielder(void *arg) {
  for (long i = 0; i < turns; i++) ration_yield();
  ration_waitgroup_done(arg);
}

static void yield(long n) {
  turns = n;
  ration_waitgroup_add(&wg, 2);
  int64_t began = now_ns();
  go(yielder, &wg);
  go(yielder, &wg);
  ration_waitgroup_wait(&wg);
  figure_each(began, 2 * n);
}

/* ---- a round trip over two unbuffered channels ----------------------------------------------------- */

struct pair {
  long_chan ping, pong;
};

static void answer(void *arg) {
  struct pair *p = arg;
  for (long v; RATION_RECV(p->ping, &v);) RATION_SEND(p->pong, v);
  RATION_CLOSE(p->pong);
}

static void round_trip(long n) {
  struct pair p = {chan_new(0), chan_new(0)};
  go(answer, &p);
  int64_t began = now_ns();
  for (long i = 0, v; i < n; i++) {
    RATION_SEND(p.ping, i);
    if (!RATION_RECV(p.pong, &v) || v != i) wrong("chan: a wrong value came back");
  }
  figure_each(began, n);
  RATION_CLOSE(p.ping);
  RATION_RECV(p.pong, NULL);
}

/* ---- n items through a channel with room for 128 --------------------------------------------------- */

static void producer(void *arg) {
  long_chan c = {arg};
  for (long i = 0; i < turns; i++) RATION_SEND(c, i);
  RATION_CLOSE(c);
}

static void buffered(long n) {
  long_chan c = chan_new(128);
  long sum = 0;
  turns = n;
  int64_t began = now_ns();
  go(producer, c.chan);
  for (long v; RATION_RECV(c, &v);) sum += v;
  figure_each(began, n);
  if (sum != n * (n - 1) / 2) wrong("bufchan: wrong sum");
}

/* ---- skynet: a tree of Gs, ten children each, n leaves; sums go up by channels --------------------- */

struct node {
  long_chan up; /* the child has a reference of its own: its parent may be done before the child is out of the call */
  long num, size;
};

static void skynet_node(void *arg) {
  struct node me = *(struct node *)arg; /* it is the parent's, who has all ten sums before it goes */
  long sum = 0;
  if (me.size == 1) {
    sum = me.num;
  } else {
    struct node child[10];
    long_chan c = chan_new(0);
    for (int i = 0; i < 10; i++) {
      child[i] = (struct node){{ration_chan_ref(c.chan)}, me.num + i * (me.size / 10), me.size / 10};
      go(skynet_node, &child[i]);
    }
    for (long i = 0, v; i < 10; i++)
      if (RATION_RECV(c, &v)) sum += v;
    ration_chan_unref(c.chan);
  }
  RATION_SEND(me.up, sum);
  ration_chan_unref(me.up.chan);
}

static void skynet(long n) {
  long_chan c = chan_new(0);
  struct node root = {{ration_chan_ref(c.chan)}, 0, n};
  long sum;
  int64_t began = now_ns();
  go(skynet_node, &root);
  RATION_RECV(c, &sum);
  figure_each(began, n);
  if (sum != n * (n - 1) / 2) wrong("skynet: wrong sum");
}

/* ---- 100 Gs that lock, count and unlock, n times together ------------------------------------------ */

#define LOCKERS 100
static struct ration_mutex mu = RATION_MUTEX_INIT;
static long count;

static void locker(void *arg) {
  for (long i = 0; i < turns; i++) {
    ration_mutex_lock(&mu);
    count++;
    ration_mutex_unlock(&mu);
  }
  ration_waitgroup_done(arg);
}

static void mutex(long n) {
  turns = n / LOCKERS;
  ration_waitgroup_add(&wg, LOCKERS);
  int64_t began = now_ns();
  for (int i = 0; i < LOCKERS; i++) go(locker, &wg);
  ration_waitgroup_wait(&wg);
  figure_each(began, n);
  if (count != turns * LOCKERS) wrong("mutex: lost updates");
}

/* ---- TCP echo, a G for each connection ------------------------------------------------------------- */

static void serve(void *arg) {
  char buf[1024];
  int fd = (int)(intptr_t)arg;
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) > 0 && write(fd, buf, (size_t)n) == n) continue;
  close(fd);
}

static void echo(long n) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  (void)n;
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&at, &len)) die("listen");
  figure("port", ntohs(at.sin_port));
  fflush(stdout);
  for (;;) {
    int c = accept(fd, NULL, NULL);
    if (c < 0) die("accept");
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* as package net does */
    go(serve, (void *)(intptr_t)c);
  }
}

/* ---- a G blocks in a system call, another is runnable: how long until that one runs? --------------- */

static int fds[2], queue;
static long_chan ran_at;

struct message {
  long type;
  char c;
};

/* Whichever of the two the other one waits for. */
static void unblocker(void *arg) {
  struct message m = {1, 'x'};
  RATION_SEND(ran_at, (long)now_ns());
  if (arg ? msgsnd(queue, &m, 1, 0) : write(fds[1], "x", 1) != 1) die("unblock");
}

/* As Go's syscall.Read: the G parks. */
static long known_read(int fd, void *buf, size_t len) { return syscall(SYS_read, fd, buf, len); }

/* What nothing can be polled for holds the thread. */
static long held_read(int fd, void *buf, size_t len) {
  struct message m;
  (void)fd, (void)buf;
  return msgrcv(queue, &m, len, 0, 0);
}

static void handoff_by(long (*read_)(int, void *, size_t), int64_t busy, long rounds) {
  int64_t *ns = calloc((size_t)rounds, sizeof *ns);
  long n = 0, at;
  char c;
  if (!ns || pipe(fds) || (queue = msgget(IPC_PRIVATE, 0600)) < 0) die("handoff");
  ran_at = chan_new(1);
  for (long i = 0; i < rounds; i++) {
    go(unblocker, read_ == held_read ? &queue : NULL); /* runnable, but we have the P */
    spin_ns(busy);
    int64_t t = now_ns();
    if (read_(fds[0], &c, 1) != 1) wrong("handoff: the read failed");
    RATION_RECV(ran_at, &at);
    if (at > t) ns[n++] = at - t;
    ration_sleep(2 * RATION_MS);
  }
  msgctl(queue, IPC_RMID, NULL);
  figure_latencies(ns, n, rounds);
  free(ns);
}

static void handoff(long rounds) { handoff_by(known_read, 300 * RATION_US, rounds); }
static void handoff_held(long rounds) { handoff_by(held_read, 300 * RATION_US, rounds); }
static void handoff_later(long rounds) { handoff_by(held_read, 3 * RATION_MS, rounds); }
static void handoff_raw(long rounds) { handoff_by(raw_read, 300 * RATION_US, rounds); }

/* ---- a G spins and makes another one runnable: how long until that one runs?  At another point of the slice each time. --- */

static _Atomic int64_t ran;

static void woken(void *arg) {
  long_chan wake = {arg};
  while (RATION_RECV(wake, NULL)) atomic_store(&ran, now_ns());
}

static void preempt(long rounds) {
  int64_t *ns = calloc((size_t)rounds, sizeof *ns);
  long_chan wake = chan_new(1);
  if (!ns) die("calloc");
  go(woken, wake.chan);
  ration_sleep(5 * RATION_MS);
  for (long i = 0; i < rounds; i++) {
    spin_ns(i % 8 * RATION_MS);
    atomic_store(&ran, 0);
    int64_t t = now_ns();
    RATION_SEND(wake, i);
    while (!atomic_load(&ran)) continue;
    ns[i] = atomic_load(&ran) - t;
  }
  figure_latencies(ns, rounds, rounds);
  free(ns);
}

/* ---- 64 Gs that read pages of a file, here and there, that are not in the cache -------------------- */

#define DISK_READERS 64
#define DISK_PAGES 16384u
#define DISK_PAGE 4096
static int disk_fd;
static _Atomic uint32_t disk_seed;

static int cold_file(void) {
  char name[] = "/tmp/ration-disk-XXXXXX";
  static char mib[1 << 20];
  int fd = mkstemp(name);
  if (fd < 0) die("mkstemp");
  unlink(name);
  for (unsigned i = 0; i < DISK_PAGES / 256; i++)
    if (write(fd, mib, sizeof mib) != sizeof mib) die("write");
  if (fsync(fd)) die("fsync");
  posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return fd;
}

static void disk_reader(void *arg) {
  char page[DISK_PAGE];
  uint32_t x = atomic_fetch_add(&disk_seed, 7919);
  for (long i = 0; i < turns; i++) {
    x = x * 1103515245 + 12345;
    if (pread(disk_fd, page, sizeof page, (off_t)((x >> 8) % DISK_PAGES) * DISK_PAGE) != sizeof page) die("pread");
  }
  ration_waitgroup_done(arg);
}

static void disk(long n) {
  turns = n / DISK_READERS;
  disk_fd = cold_file();
  ration_waitgroup_add(&wg, DISK_READERS);
  int64_t began = now_ns();
  for (int i = 0; i < DISK_READERS; i++) go(disk_reader, &wg);
  ration_waitgroup_wait(&wg);
  figure_each(began, n);
  figure("threads", (double)proc_kb("/proc/self/status", "Threads"));
}

/* ---- n parked Gs: what does each hold? ------------------------------------------------------------- */

static void parker(void *arg) {
  long_chan block = {arg};
  ration_waitgroup_done(&wg);
  RATION_RECV(block, NULL);
}

static void parked(long n) {
  long_chan block = chan_new(0);
  double before = resident_bytes();
  ration_waitgroup_add(&wg, (int)n);
  for (long i = 0; i < n; i++) go(parker, block.chan);
  ration_waitgroup_wait(&wg);
  ration_sleep(200 * RATION_MS);
  figure("bytes", (resident_bytes() - before) / (double)n);
}

static int prog(int argc, char **argv) {
  static const struct work works[] = {
      {"spawn", spawn, 1000000},
      {"yield", yield, 1000000},
      {"chan", round_trip, 500000},
      {"bufchan", buffered, 2000000},
      {"skynet", skynet, 1000000},
      {"mutex", mutex, 2000000},
      {"echo", echo, 1},
      {"handoff", handoff, 100},
      {"handoffheld", handoff_held, 100},
      {"handoff3", handoff_later, 60},
      {"handoffraw", handoff_raw, 100},
      {"preempt", preempt, 32},
      {"disk", disk, 4096},
      {"parked", parked, 1000000},
      {0},
  };
  return run_work(works, argc, argv);
}

int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
