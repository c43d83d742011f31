/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Light Gs in a real process, with the whole library: each check is a program's main of its own.
 *
 *   light list | light NAME     exit status 0: as promised; else what was not is on stderr
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <mqueue.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <resolv.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <ration/context.h>
#include <ration/ration.h>
#include "../bench/raw_read.h"

#define MUST(cond)                                                      \
  do {                                                                  \
    if (!(cond)) {                                                      \
      fprintf(stderr, "light: line %d: not so: %s\n", __LINE__, #cond); \
      _exit(1);                                                         \
    }                                                                   \
  } while (0)

static _Atomic long count, order;
static void until(long n) {
  for (int i = 0; atomic_load(&count) < n; i++) {
    MUST(i < 60000);
    ration_sleep(RATION_MS);
  }
}
static void add_one(void *arg) {
  (void)arg;
  atomic_fetch_add(&count, 1);
}

/* --- Gs --- */

static int a_million_run_and_end(void) {
  for (int i = 0; i < 1000000; i++) MUST(ration_go(add_one, NULL) == 0);
  until(1000000);
  MUST(ration_ngs() == 1);
  return 0;
}

/* Spawned Gs run before a spawner that outruns them goes on: few stacks are ever made. */
static int spawning_needs_few_stacks(void) {
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < 300000; i++) MUST(ration_go(add_one, NULL) == 0);
  until(300000);
  getrusage(RUSAGE_SELF, &after);
  MUST(after.ru_maxrss - before.ru_maxrss < 64 * 1024);
  return 0;
}

static void gives_id(void *arg) { *(uint64_t *)arg = ration_gid(), add_one(NULL); }
static int each_has_its_number(void) {
  uint64_t id[100] = {0};
  for (int i = 0; i < 100; i++) ration_go(gives_id, &id[i]);
  until(100);
  for (int i = 0; i < 100; i++) {
    MUST(id[i] != 0 && id[i] != ration_gid());
    for (int k = 0; k < i; k++) MUST(id[k] != id[i]);
  }
  return 0;
}

static int mains_result_is_the_programs(void) { return 0; /* the driver asks for 7: see main() */ }

static void ends_early(void *arg) {
  (void)arg;
  add_one(NULL);
  ration_exit();
}
static int exit_ends_the_g_alone(void) {
  for (int i = 0; i < 1000; i++) ration_go(ends_early, NULL);
  until(1000);
  while (ration_ngs() != 1) ration_sleep(RATION_MS);
  return 0;
}

static void deep(int n) {
  volatile char use[1024];
  use[0] = (char)n;
  if (n > 0) deep(n - 1);
  use[1023] = use[0];
}
static void deep_g(void *arg) {
  deep((int)(long)arg);
  add_one(NULL);
}
static int stacks_are_as_large_as_asked(void) {
  struct ration_attr big = {.stack = 8 << 20, .name = "deep"};
  MUST(ration_go_attr(deep_g, (void *)50L, NULL) == 0);
  for (int i = 0; i < 5; i++) MUST(ration_go_attr(deep_g, (void *)7000L, &big) == 0);
  until(6);
  MUST(ration_go_attr(deep_g, NULL, &(struct ration_attr){.stack = 100}) == -EINVAL);
  MUST(ration_go_attr(deep_g, NULL, &(struct ration_attr){.stack = (size_t)1 << 40}) == -EINVAL);
  return 0;
}

/* Two that always have the next turn ready for each other: what comes from outside has its turn all the same. */
static struct ration_chan *ping, *pong, *came;
static void plays(void *arg) {
  struct ration_chan *in = arg ? ping : pong, *out = arg ? pong : ping;
  while (ration_chan_recv(in, NULL)) ration_chan_send(out, NULL);
}
static void comes(void *arg) { ration_chan_send(came, arg); }
static void *from_outside(void *arg) {
  usleep(20000);
  MUST(ration_go(comes, arg) == 0);
  return NULL;
}
static int the_global_queue_has_its_turn(void) {
  pthread_t t;
  ping = ration_chan_new(0, 0);
  pong = ration_chan_new(0, 0);
  came = ration_chan_new(0, 0);
  for (unsigned i = 0; i < ration_maxprocs(); i++) {
    ration_go(plays, &ping);
    ration_go(plays, NULL);
    ration_chan_send(ping, NULL);
  }
  MUST(pthread_create(&t, NULL, from_outside, NULL) == 0);
  MUST(ration_chan_recv(came, NULL));
  pthread_join(t, NULL);
  return 0;
}

/* Each fills the queue again and again. */
static _Atomic long spawned_by[3];
static void nothing(void *arg) { (void)arg; }
static void spawns_on(void *arg) {
  _Atomic long *n = arg;
  while (atomic_fetch_add(n, 1) >= 0) ration_go(nothing, NULL);
}
static int no_spawner_waits_for_ever(void) {
  for (int i = 0; i < 3; i++) MUST(ration_go(spawns_on, &spawned_by[i]) == 0);
  for (int i = 0; i < 3; i++)
    for (long since = spawned_by[i]; atomic_load(&spawned_by[i]) < since + 1000;) ration_sleep(1000000);
  return 0;
}

/* Nor does one while the queue is never empty. */
static void yields(void *arg) {
  for (;;) ration_yield();
  (void)arg;
}
static int a_spawner_has_its_turn(void) {
  for (unsigned i = 0; i < 2 * ration_maxprocs(); i++) ration_go(yields, NULL);
  for (int i = 0; i < 5000; i++) ration_go(add_one, NULL);
  until(5000);
  return 0;
}
/* The same with more of them than make a queue nearly empty. */
static int a_spawner_has_its_turn_among_many(void) {
  for (unsigned i = 0; i < 100 * ration_maxprocs(); i++) ration_go(yields, NULL);
  for (int i = 0; i < 1000; i++) ration_go(add_one, NULL);
  until(1000);
  return 0;
}

/* Nor does one that is wired to its thread fall over. */
static int a_wired_spawner_goes_on(void) {
  ration_lock_os_thread();
  for (int i = 0; i < 1000; i++) ration_go(add_one, NULL);
  until(1000);
  ration_unlock_os_thread();
  return 0;
}

/* Those that yield are always ready: who waits for a descriptor has its turn all the same. */
static void reads_bytes(void *arg) {
  char c;
  while (read((int)(long)arg, &c, 1) == 1) add_one(NULL);
}
static void *writes_bytes(void *arg) {
  for (int i = 0; i < 20; i++) {
    MUST(write((int)(long)arg, "x", 1) == 1);
    usleep(1000);
  }
  return NULL;
}
static int descriptors_are_looked_at_among_those_that_yield(void) {
  int p[2];
  pthread_t t;
  MUST(pipe(p) == 0);
  for (unsigned i = 0; i < 3 * ration_maxprocs(); i++) ration_go(yields, NULL);
  ration_go(reads_bytes, (void *)(long)p[0]);
  MUST(pthread_create(&t, NULL, writes_bytes, (void *)(long)p[1]) == 0);
  until(20);
  pthread_join(t, NULL);
  return 0;
}

/* --- one P computes, another is idle --- */

/* Long enough that the other carriers have lain down, with nothing to wait for. */
static void computes(ration_ns d) {
  for (ration_ns end = ration_now() + d; ration_now() < end;) atomic_signal_fence(memory_order_seq_cst);
}

/* A G with a thread of its own is not stopped: if the idle P does not run the timer, nobody ever does. */
static int an_idle_p_runs_timers(void) {
  if (ration_maxprocs() < 2) return 0;
  for (int i = 0; i < 20; i++) {
    ration_sleep(RATION_MS);
    ration_lock_os_thread();
    computes(2 * RATION_MS);
    struct ration_timer *t = ration_after_func(RATION_MS, add_one, NULL);
    while (atomic_load(&count) <= i) continue;
    ration_unlock_os_thread();
    ration_timer_free(t);
  }
  return 0;
}

/* The same for descriptors: main parks, and its carrier goes on with a G that computes until main has read. */
static int idle_pipe[2];
static _Atomic bool write_now, has_read;
static void *writes_when_told(void *arg) {
  for (;; usleep(100))
    if (atomic_exchange(&write_now, false)) MUST(write(idle_pipe[1], "x", 1) == 1);
  return arg;
}
static void computes_until_read(void *arg) {
  while (ration_chan_recv(ping, NULL)) {
    ration_lock_os_thread();
    atomic_store(&write_now, true);
    while (!atomic_load(&has_read)) continue;
    atomic_store(&has_read, false);
    ration_unlock_os_thread();
    ration_chan_send(pong, arg);
  }
}
static int an_idle_p_looks_at_descriptors(void) {
  pthread_t t;
  char c;
  if (ration_maxprocs() < 2) return 0;
  MUST(pipe(idle_pipe) == 0 && pthread_create(&t, NULL, writes_when_told, NULL) == 0);
  ping = ration_chan_new(0, 0);
  pong = ration_chan_new(0, 0);
  ration_go(computes_until_read, NULL);
  for (int i = 0; i < 50; i++) {
    computes(2 * RATION_MS);
    ration_chan_send(ping, NULL);
    MUST(read(idle_pipe[0], &c, 1) == 1);
    atomic_store(&has_read, true);
    ration_chan_recv(pong, NULL);
  }
  return 0;
}

/* The child of a fork is the G alone: when that returns, the child ends. */
static void forks_and_returns(void *arg) {
  _Atomic pid_t *pid = arg;
  pid_t child = fork();
  if (child) atomic_store(pid, child);
}
static int a_forked_child_ends_with_its_g(void) {
  _Atomic pid_t pid = 0;
  int status;
  ration_go(forks_and_returns, &pid);
  while (!atomic_load(&pid)) ration_sleep(RATION_MS);
  MUST(waitpid(atomic_load(&pid), &status, 0) == atomic_load(&pid) && status == 0);
  return 0;
}

static int yield_lets_others_run(void) {
  ration_go(add_one, NULL);
  while (atomic_load(&count) == 0) ration_yield();
  MUST(atomic_load(&count) == 1);
  return 0;
}

static void sleeps(void *arg) {
  long ms = (long)arg;
  ration_sleep(ms * RATION_MS);
  MUST(atomic_load(&order) < ms);
  atomic_store(&order, ms);
  add_one(NULL);
}
static int sleepers_wake_in_order(void) {
  static const long ms[] = {150, 50, 250, 100, 200};
  for (int i = 0; i < 5; i++) ration_go(sleeps, (void *)ms[i]);
  ration_ns t = ration_now();
  until(5);
  MUST(ration_now() - t >= 200 * RATION_MS);
  return 0;
}
static void sleeps_short(void *arg) {
  for (int i = 0; i < 20; i++) {
    ration_ns t = ration_now();
    struct timespec ts = {0, 1000000 + (long)arg * 1000};
    MUST(nanosleep(&ts, NULL) == 0);
    MUST(ration_now() - t >= RATION_MS);
  }
  add_one(NULL);
}
static int ten_thousand_sleep_at_once(void) {
  for (long i = 0; i < 10000; i++) ration_go(sleeps_short, (void *)(i % 1000));
  until(10000);
  return 0;
}

/* --- threads and preemption --- */

static volatile unsigned long sink;
static void spin_till_stopped(void *arg) {
  while (!atomic_load_explicit((_Atomic long *)arg, memory_order_relaxed)) sink++;
  add_one(NULL);
}
/* Each P has a G that never parks; others run all the same. */
static int a_spinning_g_is_preempted(void) {
  static _Atomic long stop;
  for (unsigned i = 0; i < ration_maxprocs() + 2; i++) ration_go(spin_till_stopped, &stop);
  for (int i = 0; i < 20; i++) ration_sleep(RATION_MS);
  atomic_store(&stop, 1);
  until(ration_maxprocs() + 2);
  return 0;
}

static void spin_with_errno(void *arg) {
  for (long i = 0; i < 300; i++) {
    errno = (int)(long)arg;
    for (int k = 0; k < 200000; k++) sink++;
    MUST(errno == (int)(long)arg);
    if (i % 10 == 0) ration_yield();
    MUST(errno == (int)(long)arg);
  }
  add_one(NULL);
}
static int a_preempted_g_keeps_errno(void) {
  for (long i = 1; i <= 8; i++) ration_go(spin_with_errno, (void *)i);
  until(8);
  return 0;
}

static __thread long identity;
static void spin_with_tls(void *arg) {
  for (int i = 0; i < 50; i++) {
    long *at = &identity;
    *at = (long)arg;
    for (int k = 0; k < 400000; k++) sink++; /* preempted in here now and then: nobody else runs with this thread's data */
    MUST(*at == (long)arg && identity == (long)arg);
    char *p = malloc(1000);
    MUST(p);
    memset(p, (int)(long)arg, 1000);
    free(p);
    ration_yield();
  }
  add_one(NULL);
}
static int a_preempted_g_keeps_its_thread(void) {
  for (long i = 1; i <= 6; i++) ration_go(spin_with_tls, (void *)i);
  until(6);
  return 0;
}

static void stays(void *arg) {
  ration_lock_os_thread();
  ration_lock_os_thread();
  long tid = syscall(SYS_gettid);
  for (int i = 0; i < 200; i++) {
    if (i % 20 == 0)
      ration_sleep(RATION_MS);
    else
      ration_yield();
    MUST(syscall(SYS_gettid) == tid);
    if (i == 100) ration_unlock_os_thread();
  }
  ration_unlock_os_thread();
  (void)arg;
  add_one(NULL);
}
/* One that ends locked takes the thread along: no other G ever runs there. */
static _Atomic long locked_tid;
static void ends_locked(void *arg) {
  ration_lock_os_thread();
  if (arg) ration_yield();
  atomic_store(&locked_tid, syscall(SYS_gettid));
}
static void is_not_there(void *arg) {
  MUST(syscall(SYS_gettid) != atomic_load(&locked_tid));
  add_one(arg);
}
static int a_thread_ends_with_the_g_that_locked_it(void) {
  char task[64];
  for (long i = 1; i <= 30; i++) {
    atomic_store(&locked_tid, 0);
    ration_go(ends_locked, i % 2 ? &locked_tid : NULL);
    while (!atomic_load(&locked_tid)) ration_sleep(100 * RATION_US);
    for (int k = 0; k < 20; k++) ration_go(is_not_there, NULL);
    until(20 * i);
    snprintf(task, sizeof task, "/proc/self/task/%ld", atomic_load(&locked_tid));
    while (access(task, F_OK) == 0) ration_sleep(RATION_MS);
  }
  return 0;
}
static int a_deadlock_after_a_thread_has_ended_is_reported(void) {
  ration_go(ends_locked, NULL);
  ration_chan_recv(ration_chan_new(0, 0), NULL);
  return 0;
}

static int a_locked_g_keeps_its_thread(void) {
  for (int i = 0; i < 5; i++) ration_go(stays, NULL);
  for (int i = 0; i < 1000; i++) ration_go(add_one, NULL);
  until(1005);
  return 0;
}

static void *from_a_thread(void *arg) {
  MUST(ration_gid() == 0);
  for (int i = 0; i < 1000; i++) MUST(ration_go(add_one, arg) == 0);
  ration_sleep(RATION_MS);
  return NULL;
}
static int any_thread_may_spawn(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) MUST(pthread_create(&t[i], NULL, from_a_thread, NULL) == 0);
  until(4000);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  return 0;
}

/* --- descriptors --- */

static int listener(struct sockaddr_in *at) {
  socklen_t n = sizeof *at;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  MUST(fd >= 0 && bind(fd, (struct sockaddr *)at, sizeof *at) == 0 && listen(fd, 1000) == 0);
  MUST(getsockname(fd, (struct sockaddr *)at, &n) == 0);
  return fd;
}
static void echo(void *arg) {
  int fd = (int)(long)arg;
  char buf[256];
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) > 0) MUST(write(fd, buf, (size_t)n) == n);
  MUST(n == 0);
  close(fd);
}
static void serve(void *arg) {
  int l = (int)(long)arg;
  for (;;) {
    int fd = accept(l, NULL, NULL);
    MUST(fd >= 0);
    MUST((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0); /* its flags are the program's */
    ration_go(echo, (void *)(long)fd);
  }
}
static struct sockaddr_in server_at;
static void talk(void *arg) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  MUST(connect(fd, (struct sockaddr *)&server_at, sizeof server_at) == 0);
  for (long i = 0; i < 100; i++) {
    long x[2] = {(long)arg, i}, y[2];
    MUST(send(fd, x, sizeof x, 0) == sizeof x);
    MUST(recv(fd, y, sizeof y, 0) == sizeof y);
    MUST(memcmp(x, y, sizeof x) == 0);
  }
  close(fd);
  add_one(NULL);
}
static int a_g_for_each_connection(void) {
  int l = listener(&server_at);
  ration_go(serve, (void *)(long)l);
  for (long i = 0; i < 200; i++) ration_go(talk, (void *)i);
  until(200);
  return 0;
}

static void fill_pipe(void *arg) {
  int fd = (int)(long)arg;
  static char big[1 << 20];
  memset(big, 'x', sizeof big);
  MUST(write(fd, big, sizeof big) == sizeof big); /* far more than a pipe holds: all of it, as a blocking write does */
  struct iovec v[3] = {{big, 100000}, {big, 200000}, {big, 300000}};
  MUST(writev(fd, v, 3) == 600000);
  close(fd);
}
static int a_blocking_write_writes_all(void) {
  int p[2];
  char buf[5000];
  size_t sum = 0;
  ssize_t n;
  MUST(pipe(p) == 0);
  ration_go(fill_pipe, (void *)(long)p[1]);
  ration_sleep(5 * RATION_MS);
  while ((n = read(p[0], buf, sizeof buf)) > 0) sum += (size_t)n;
  MUST(n == 0 && sum == (1 << 20) + 600000);
  return 0;
}

/* More pieces than are looked at in one go, more bytes than a socket holds: all of them, in order. */
static void send_pieces(void *arg) {
  static unsigned char big[40][30000];
  struct iovec v[40];
  for (int i = 0; i < 40; i++) {
    memset(big[i], i + 1, sizeof big[i]);
    v[i] = (struct iovec){big[i], sizeof big[i]};
  }
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 40};
  MUST(sendmsg((int)(long)arg, &m, 0) == 40 * 30000);
  MUST(writev((int)(long)arg, v, 40) == 40 * 30000);
  close((int)(long)arg);
}
static int pieces_are_written_in_order(void) {
  int s[2];
  unsigned char buf[7000];
  ssize_t n;
  long sum = 0;
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  ration_go(send_pieces, (void *)(long)s[1]);
  while ((n = read(s[0], buf, sizeof buf)) > 0)
    for (long i = 0; i < n; i++, sum++) MUST(buf[i] == sum / 30000 % 40 + 1);
  MUST(n == 0 && sum == 2 * 40 * 30000);
  return 0;
}

static int the_programs_nonblocking_is_kept(void) {
  int p[2];
  char c;
  MUST(pipe2(p, O_NONBLOCK) == 0);
  errno = 0;
  MUST(read(p[0], &c, 1) == -1 && errno == EAGAIN);
  int s[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  MUST(recv(s[0], &c, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  return 0;
}

static int a_sockets_timeout_is_kept(void) {
  int s[2];
  char c;
  struct timeval tv = {0, 50000};
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
  ration_ns t = ration_now();
  MUST(read(s[0], &c, 1) == -1 && errno == EAGAIN);
  MUST(ration_now() - t >= 50 * RATION_MS);
  return 0;
}

static void connects(void *arg), poke(void *arg);
static int an_accepted_socket_has_the_listeners_timeout(void) {
  int l = listener(&server_at), fd = 0;
  char c;
  struct timeval tv = {0, 50000};
  MUST(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
  MUST(accept(l, NULL, NULL) == -1 && errno == EAGAIN);
  ration_go(connects, &fd);
  int s = accept(l, NULL, NULL);
  MUST(s >= 0);
  ration_ns t = ration_now();
  MUST(read(s, &c, 1) == -1 && errno == EAGAIN);
  MUST(ration_now() - t >= 50 * RATION_MS);
  until(1);
  MUST(write(fd, "x", 1) == 1 && read(s, &c, 1) == 1);
  /* A longer one than there are ns for. */
  tv.tv_sec = (time_t)1 << 40;
  MUST(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
  ration_go(poke, (void *)(long)fd);
  MUST(read(s, &c, 1) == 1);
  return 0;
}

static void poke(void *arg) {
  ration_sleep(20 * RATION_MS);
  MUST(write((int)(long)arg, "x", 1) == 1);
}
static int poll_and_epoll_park(void) {
  int p[2], q[2];
  MUST(pipe(p) == 0 && pipe(q) == 0);
  struct pollfd f[2] = {{.fd = p[0], .events = POLLIN}, {.fd = q[0], .events = POLLIN}};
  ration_ns t = ration_now();
  MUST(poll(f, 1, 30) == 0);
  MUST(ration_now() - t >= 30 * RATION_MS);
  ration_go(poke, (void *)(long)p[1]);
  MUST(poll(f, 1, -1) == 1 && f[0].revents == POLLIN);
  ration_go(poke, (void *)(long)q[1]);
  MUST(poll(&f[1], 1, 5000) == 1);
  MUST(poll(f, 2, 5000) == 2);
  int ep = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 5}, got;
  char c;
  MUST(read(p[0], &c, 1) == 1);
  MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev) == 0);
  MUST(epoll_wait(ep, &got, 1, 20) == 0);
  ration_go(poke, (void *)(long)p[1]);
  MUST(epoll_wait(ep, &got, 1, -1) == 1 && got.data.u32 == 5);
  return 0;
}

static int threads(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/task/."); /* with ration's own: as /proc/self/task it shows the program's */
  MUST(d);
  for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
  closedir(d);
  return n;
}

/* The two ends of a TCP connection, made by our wrappers: what is known of those is more than of others. */
static void connects(void *arg) {
  int *fd = arg;
  *fd = socket(AF_INET, SOCK_STREAM, 0);
  MUST(connect(*fd, (struct sockaddr *)&server_at, sizeof server_at) == 0);
  add_one(NULL);
}
static void tcp_pair(int s[2]) {
  long n = atomic_load(&count);
  int l = listener(&server_at);
  ration_go(connects, &s[0]);
  MUST((s[1] = accept(l, NULL, NULL)) >= 0);
  until(n + 1);
  close(l);
}

static struct ration_chan *next;
static void says_when_asked(void *arg) {
  int fd = (int)(long)arg;
  while (ration_chan_recv(next, NULL)) MUST(write(fd, "hello", 5) == 5);
}
/* A read that got less than it asked for has emptied the socket; poll was told of what came then, the read after it finds that. */
static int a_read_after_poll_finds_what_came(void) {
  int s[2];
  char buf[100];
  tcp_pair(s);
  next = ration_chan_new(0, 0);
  ration_go(says_when_asked, (void *)(long)s[1]);
  for (int i = 0; i < 300; i++) {
    struct pollfd f[2] = {{.fd = s[0], .events = POLLIN}, {.fd = s[1], .events = POLLIN}};
    ration_chan_send(next, NULL);
    if (i % 3) MUST(poll(f, i % 3, -1) == 1 && f[0].revents == POLLIN);
    MUST(read(s[0], buf, sizeof buf) == 5);
  }
  return 0;
}

/* Two that poll and one that reads, on the same socket. */
static struct ration_chan *seen_it;
static void polls_on(void *arg) {
  struct pollfd f[2] = {{.fd = (int)(long)arg, .events = POLLIN}, {.fd = -1}};
  MUST(poll(f, 2, -1) == 1 && f[0].revents == POLLIN && f[1].revents == 0);
  ration_chan_send(seen_it, NULL);
}
static int all_that_wait_for_a_descriptor_are_told(void) {
  int s[2];
  char buf[100];
  tcp_pair(s);
  seen_it = ration_chan_new(0, 0);
  for (int i = 0; i < 100; i++) {
    for (int k = 0; k < 3; k++) ration_go(polls_on, (void *)(long)s[0]);
    if (i % 2) ration_sleep(RATION_MS / 4);
    MUST(write(s[1], "hello", 5) == 5);
    for (int k = 0; k < 3; k++) ration_chan_recv(seen_it, NULL);
    MUST(read(s[0], buf, sizeof buf) == 5);
  }
  return 0;
}

#define MANY 100
static int many[MANY][4]; /* two pipes each */
static void waits_for_two(void *arg) {
  long i = (long)arg;
  int *p = many[i], a = p[0], b = p[2], top = (a > b ? a : b) + 1;
  struct timespec minute = {60, 0};
  struct timeval tv = {60, 0};
  sigset_t empty;
  fd_set in, out;
  sigemptyset(&empty);
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(a, &in);
  FD_SET(b, &in);
  struct pollfd f[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
  atomic_fetch_add(&order, 1);
  switch (i % 4) {
    case 0:
      MUST(poll(f, 2, -1) == 1 && f[0].revents == 0 && f[1].revents == POLLIN);
      break;
    case 1:
      MUST(ppoll(f, 2, &minute, &empty) == 1 && f[0].revents == 0 && f[1].revents == POLLIN);
      break;
    case 2:
      MUST(select(top, &in, &out, NULL, &tv) == 1 && FD_ISSET(b, &in) && !FD_ISSET(a, &in));
      MUST(tv.tv_sec < 60 && tv.tv_sec >= 0); /* what was left */
      break;
    case 3:
      MUST(pselect(top, &in, NULL, &out, NULL, &empty) == 1 && FD_ISSET(b, &in) && !FD_ISSET(a, &in));
      break;
  }
  add_one(NULL);
}
static int those_that_wait_for_several_hold_no_thread(void) {
  struct rlimit lim = {4096, 4096};
  setrlimit(RLIMIT_NOFILE, &lim);
  for (long i = 0; i < MANY; i++) {
    MUST(pipe(many[i]) == 0 && pipe(&many[i][2]) == 0);
    ration_go(waits_for_two, (void *)i);
  }
  while (atomic_load(&order) < MANY) ration_sleep(RATION_MS);
  ration_sleep(20 * RATION_MS);
  MUST(atomic_load(&count) == 0 && threads() < MANY / 2);
  for (int i = 0; i < MANY; i++) MUST(write(many[i][3], "x", 1) == 1);
  until(MANY);
  return 0;
}

static void closes_late(void *arg) {
  ration_sleep(20 * RATION_MS);
  close((int)(long)arg);
}
static int polls_say_what_they_ever_said(void) {
  int p[2], s[2], n = 0;
  char name[] = "/tmp/ration-light-XXXXXX", c;
  int file = mkstemp(name);
  struct pollfd f[40];
  struct timespec ms = {0, 1000000};
  struct timeval tv = {0, 1000};
  fd_set in, out;
  MUST(file >= 0 && unlink(name) == 0 && pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  /* A regular file is ready, but has nothing urgent; nor has anybody who asks for nothing. */
  f[0] = (struct pollfd){.fd = p[0], .events = POLLIN};
  f[1] = (struct pollfd){.fd = file, .events = POLLIN | POLLOUT};
  MUST(poll(f, 2, -1) == 1 && f[0].revents == 0 && f[1].revents == (POLLIN | POLLOUT));
  f[1].events = POLLPRI;
  MUST(poll(f, 2, 1) == 0 && poll(&f[1], 1, 1) == 0 && poll(NULL, 0, 1) == 0);
  f[1] = (struct pollfd){.fd = s[0], .events = 0};
  ration_go(poke, (void *)(long)s[1]);
  MUST(poll(f, 2, 50) == 0);
  MUST(read(s[0], &c, 1) == 1);
  /* Many, the last is ready. */
  for (n = 0; n < 39; n++) f[n] = (struct pollfd){.fd = n % 3 ? p[0] : -1, .events = POLLIN};
  f[39] = (struct pollfd){.fd = s[0], .events = POLLIN | POLLOUT};
  MUST(poll(f, 40, -1) == 1 && f[39].revents == POLLOUT);
  f[39].events = POLLIN;
  ration_go(poke, (void *)(long)s[1]);
  MUST(poll(f, 40, -1) == 1 && f[39].revents == POLLIN);
  /* What is wrong is said at once. */
  int gone = dup(p[0]);
  close(gone);
  f[0].fd = gone;
  MUST(poll(f, 1, -1) == 1 && f[0].revents == POLLNVAL);
  ms.tv_nsec = -1;
  MUST(ppoll(f, 1, &ms, NULL) == -1 && errno == EINVAL);
  FD_ZERO(&in);
  FD_SET(gone, &in);
  MUST(select(gone + 1, &in, NULL, NULL, NULL) == -1 && errno == EBADF && FD_ISSET(gone, &in));
  MUST(select(-1, &in, NULL, NULL, NULL) == -1 && errno == EINVAL);
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(p[0], &in);
  FD_SET(s[0], &out);
  MUST(select(FD_SETSIZE, &in, &out, NULL, NULL) == 1 && !FD_ISSET(p[0], &in) && FD_ISSET(s[0], &out));
  FD_SET(p[0], &in);
  MUST(select(p[0] + 1, &in, NULL, NULL, &tv) == 0 && !FD_ISSET(p[0], &in) && tv.tv_sec == 0 && tv.tv_usec == 0);
  /* The other end goes. */
  ration_go(closes_late, (void *)(long)s[1]);
  MUST(read(s[0], &c, 1) == 1);
  f[1] = (struct pollfd){.fd = s[0], .events = 0};
  f[0] = (struct pollfd){.fd = p[0], .events = POLLIN};
  MUST(poll(f, 2, -1) == 1 && f[1].revents == POLLHUP);
  struct epoll_event got;
  MUST(epoll_pwait(p[0], &got, 1, -1, NULL) == -1 && errno == EINVAL);
  return 0;
}

static void sends_bits(void *arg) {
  int fd = (int)(long)arg;
  for (int i = 0; i < 10; i++) {
    MUST(write(fd, "0123456789", 10) == 10);
    ration_sleep(RATION_MS);
  }
  add_one(NULL);
}
static void waits_for_all(void *arg) {
  char buf[100];
  int fd = (int)(long)arg;
  atomic_fetch_add(&order, 1);
  MUST(recv(fd, buf, 100, MSG_WAITALL) == 100 && memcmp(buf + 90, "0123456789", 10) == 0);
  add_one(NULL);
}
static int those_that_wait_for_all_hold_no_thread(void) {
  int s[MANY][2], t[2], u[2];
  char buf[100], tail[50];
  for (int i = 0; i < MANY; i++) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s[i]) == 0);
    ration_go(waits_for_all, (void *)(long)s[i][0]);
  }
  while (atomic_load(&order) < MANY) ration_sleep(RATION_MS);
  ration_sleep(20 * RATION_MS);
  MUST(threads() < MANY / 2);
  for (int i = 0; i < MANY; i++) ration_go(sends_bits, (void *)(long)s[i][1]);
  until(2 * MANY);
  /* Into pieces, TCP; then the end of the stream, what came before an error, a message, and one that does not wait. */
  tcp_pair(t);
  struct iovec v[2] = {{buf, 60}, {tail, 40}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  ration_go(sends_bits, (void *)(long)t[1]);
  MUST(recvmsg(t[0], &m, MSG_WAITALL) == 100 && memcmp(buf + 50, "0123456789", 10) == 0 && memcmp(tail + 30, "0123456789", 10) == 0);
  MUST(write(t[1], "end", 3) == 3);
  setsockopt(t[1], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
  ration_go(closes_late, (void *)(long)t[1]);
  MUST(recv(t[0], buf, 100, MSG_WAITALL) == 3);
  MUST(recv(t[0], buf, 100, 0) == -1 && errno == ECONNRESET);
  MUST(write(s[0][1], "end", 3) == 3);
  MUST(fcntl(s[0][0], F_SETFL, O_NONBLOCK) == 0);
  MUST(recv(s[0][0], buf, 100, MSG_WAITALL) == 3);
  MUST(recv(s[0][0], buf, 100, MSG_WAITALL) == -1 && errno == EAGAIN);
  MUST(write(s[1][1], "end", 3) == 3);
  ration_go(closes_late, (void *)(long)s[1][1]);
  MUST(recv(s[1][0], buf, 100, MSG_WAITALL) == 3);
  MUST(recv(s[1][0], buf, 100, MSG_WAITALL) == 0);
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, u) == 0 && write(u[1], "one", 3) == 3);
  MUST(recv(u[0], buf, 100, MSG_WAITALL) == 3);
  return 0;
}

static void sends_in_parts(void *arg) {
  int fd = (int)(long)arg;
  MUST(write(fd, "1234", 4) == 4);
  ration_sleep(20 * RATION_MS);
  MUST(write(fd, "567890", 6) == 6);
  ration_sleep(20 * RATION_MS);
  MUST(write(fd, "abc", 3) == 3);
  ration_sleep(20 * RATION_MS);
  MUST(shutdown(fd, SHUT_WR) == 0);
}
static int a_low_water_mark_is_waited_for(void) {
  int t[2], low = 10;
  char buf[100];
  for (int how = 0; how < 3; how++) {
    struct iovec v = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    tcp_pair(t);
    MUST(setsockopt(t[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) == 0);
    ration_go(sends_in_parts, (void *)(long)t[1]);
    ssize_t r = how == 0 ? read(t[0], buf, sizeof buf) : how == 1 ? recv(t[0], buf, sizeof buf, MSG_PEEK) : recvmsg(t[0], &m, 0);
    MUST(r == 10);
    if (how == 1) MUST(read(t[0], buf, 4) == 4 && read(t[0], buf, 6) == 6); /* less than the mark is asked for, and there */
    MUST(read(t[0], buf, sizeof buf) == 3);
    MUST(read(t[0], buf, sizeof buf) == 0);
    close(t[0]), close(t[1]);
  }
  tcp_pair(t);
  MUST(setsockopt(t[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) == 0 && fcntl(t[0], F_SETFL, O_NONBLOCK) == 0);
  MUST(write(t[1], "12", 2) == 2);
  struct pollfd never = {.fd = t[0], .events = POLLIN};
  MUST(poll(&never, 1, 20) == 0 && read(t[0], buf, sizeof buf) == 2);
  return 0;
}

static int threads_named(const char *name);

/* libc's syscall(): the same as by name. */
static int raw_pipe[2], raw_tcp[2], raw_ep;
static void parks_by_number(void *arg) {
  char buf[8] = "";
  struct iovec v = {buf, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  struct epoll_event ev;
  errno = 0;
  switch ((long)arg % 5) {
    case 0:
      MUST(syscall(SYS_read, raw_pipe[0], buf, 1) == 1 && buf[0] == 'p');
      break;
    case 1:
      MUST(syscall(SYS_readv, raw_pipe[0], &v, 1) == 1 && buf[0] == 'p');
      break;
    case 2:
      MUST(syscall(SYS_recvfrom, raw_tcp[0], buf, 1, 0, NULL, NULL) == 1 && buf[0] == 't');
      break;
    case 3:
      MUST(syscall(SYS_recvmsg, raw_tcp[0], &m, 0) == 1 && buf[0] == 't');
      break;
    default:
      MUST(syscall(SYS_epoll_pwait, raw_ep, &ev, 1, -1, NULL, 8) == 1);
  }
  add_one(NULL);
}
static int calls_by_number_park(void) {
  enum { EACH = 20 };
  struct epoll_event ev = {.events = EPOLLIN};
  char c;
  MUST(pipe(raw_pipe) == 0);
  tcp_pair(raw_tcp);
  int evs[2];
  MUST(pipe(evs) == 0 && (raw_ep = epoll_create1(0)) >= 0 && epoll_ctl(raw_ep, EPOLL_CTL_ADD, evs[0], &ev) == 0);
  atomic_store(&count, 0);
  for (long i = 0; i < 5 * EACH; i++) ration_go(parks_by_number, (void *)i);
  ration_sleep(50 * RATION_MS);
  MUST(atomic_load(&count) == 0 && threads_named("ration-carrier") < EACH);
  for (int i = 0; i < 2 * EACH; i++)
    MUST(syscall(SYS_write, raw_pipe[1], "p", 1) == 1 && syscall(SYS_sendto, raw_tcp[1], "t", 1, 0, NULL, 0) == 1);
  MUST(write(evs[1], "e", 1) == 1);
  until(5 * EACH);
  MUST(syscall(SYS_read, -1, &c, 1) == -1 && errno == EBADF);
  return 0;
}

/* --- names --- */

static _Atomic int asked;
static void nameserver(void *arg) {
  unsigned char q[512];
  struct sockaddr_in from;
  socklen_t len;
  ssize_t n;
  while (len = sizeof from, (n = recvfrom((int)(long)arg, q, sizeof q, 0, (struct sockaddr *)&from, &len)) > 12) {
    atomic_fetch_add(&asked, 1);
    q[2] |= 0x80;                              /* an answer */
    q[3] = (unsigned char)((q[3] & 0xf0) | 3); /* no such name */
    sendto((int)(long)arg, q, (size_t)n, 0, (struct sockaddr *)&from, len);
  }
}
static void resolves(void *arg) {
  struct sockaddr_in *at = arg;
  struct addrinfo *found = NULL;
  ration_lock_os_thread(); /* _res is the thread's */
  MUST(res_init() == 0);
  _res.nscount = 1;
  _res.nsaddr_list[0] = *at;
  int r = getaddrinfo("nobody.ration.invalid.", NULL, NULL, &found);
  if (atomic_load(&asked)) MUST(r == EAI_NONAME);
  MUST(r != 0 && !found);
  MUST(getaddrinfo("127.0.0.1", "80", NULL, &found) == 0 && found);
  freeaddrinfo(found);
  char host[100], service[10];
  MUST(getnameinfo((struct sockaddr *)at, sizeof *at, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) == 0);
  MUST(strcmp(host, "127.0.0.1") == 0);
  add_one(NULL);
}
/* With one P: who answers runs while the resolver waits. */
static int others_run_while_one_resolves(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct ration_attr big = {.stack = 1 << 20};
  socklen_t n = sizeof at;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  MUST(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && getsockname(fd, (struct sockaddr *)&at, &n) == 0);
  ration_go(nameserver, (void *)(long)fd);
  for (int i = 0; i < 5; i++) MUST(ration_go_attr(resolves, &at, &big) == 0);
  until(5);
  return 0;
}

static void waits_for_child(void *arg) {
  int p[2], status;
  char c;
  MUST(pipe(p) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    close(p[1]);
    _exit(read(p[0], &c, 1) == 1 ? 5 : 1);
  }
  if ((long)arg % 2) {
    siginfo_t si;
    ration_go(poke, (void *)(long)p[1]);
    MUST(waitid(P_PID, (id_t)pid, &si, WEXITED) == 0 && si.si_status == 5);
  } else {
    ration_go(poke, (void *)(long)p[1]);
    MUST(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
  }
  add_one(NULL);
}
/* More than there are Ps wait for children that only others can end. */
static int others_run_while_some_wait_for_children(void) {
  for (long i = 0; i < 6; i++) ration_go(waits_for_child, (void *)i);
  until(6);
  return 0;
}

/* --- a signal that the program blocked when the scheduler started, and that a G's call opens --- */

static _Atomic long signals;
static _Atomic bool enough;
static void parks_in_a_handler(int sig) {
  (void)sig;
  long tid = gettid();
  for (int i = 0; i < 20; i++) {
    usleep(100);
    MUST(gettid() == tid);
  }
  atomic_fetch_add(&signals, 1);
}
static void sleeps_on(void *arg) {
  (void)arg;
  while (!atomic_load(&enough)) ration_sleep(50 * RATION_US);
}
static void signals_on(void *arg) {
  (void)arg;
  while (!atomic_load(&enough)) {
    long before = atomic_load(&signals);
    ration_sleep(RATION_MS);
    kill(getpid(), SIGUSR1);
    while (atomic_load(&signals) == before && !atomic_load(&enough)) ration_sleep(RATION_MS);
  }
}
static int a_handler_in_a_call_keeps_its_thread(void) {
  struct timespec minute = {60, 0};
  struct epoll_event ev;
  sigset_t empty, mine, now;
  int ep = epoll_create1(0), r;
  sigemptyset(&empty);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = parks_in_a_handler}, NULL);
  for (int i = 0; i < 8; i++) ration_go(sleeps_on, NULL);
  ration_go(signals_on, NULL);
  for (int i = 0; i < 40; i++) {
    MUST(pthread_sigmask(SIG_BLOCK, NULL, &mine) == 0 && sigismember(&mine, SIGUSR1));
    errno = 0;
    switch (i % 4) {
      case 0:
        r = ppoll(NULL, 0, &minute, &empty);
        break;
      case 1:
        r = pselect(0, NULL, NULL, NULL, &minute, &empty);
        break;
      case 2:
        r = epoll_pwait(ep, &ev, 1, 60000, &empty);
        break;
      default:
        r = sigsuspend(&empty);
    }
    MUST(r == -1 && errno == EINTR && atomic_load(&signals) > i);
    MUST(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && memcmp(&mine, &now, 8) == 0);
  }
  atomic_store(&enough, true);
  return 0;
}

/* --- what a G begins has the program's mask, not the carrier's --- */

/* A program that says by its status whether it blocks nothing.  (Not a shell: some open the mask themselves.) */
#define SHOWS_MASK "grep", "-q", "^SigBlk:[[:space:]]*0000000000000000$", "/proc/self/status"
static void *a_thread_of_a_g(void *arg) {
  sigset_t now;
  MUST(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && !sigismember(&now, SIGTERM) && !sigismember(&now, SIGINT));
  return arg;
}
static bool spawned_well(const posix_spawnattr_t *attr) {
  pid_t pid;
  int status;
  const char *argv[] = {SHOWS_MASK, NULL};
  MUST(posix_spawnp(&pid, "grep", NULL, attr, (char *const *)(uintptr_t)argv, environ) == 0);
  MUST(waitpid(pid, &status, 0) == pid);
  return status == 0;
}
static int what_a_g_begins_has_the_programs_mask(void) {
  sigset_t mine, now;
  pthread_t t;
  int status;
  MUST(pthread_sigmask(SIG_BLOCK, NULL, &mine) == 0 && sigismember(&mine, SIGTERM)); /* a carrier's */
  posix_spawnattr_t attr;
  posix_spawnattr_init(&attr);
  MUST(spawned_well(NULL) && spawned_well(&attr));
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
  MUST(spawned_well(&attr));
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setsigmask(&attr, &usr1);
  MUST(!spawned_well(&attr)); /* the caller's own counts */
  MUST(system("grep -q '^SigBlk:[[:space:]]*0000000000000000$' /proc/self/status") == 0);
  MUST(WEXITSTATUS(system("exit 7")) == 7 && system(NULL) != 0);
  FILE *f = popen("echo well", "r");
  char line[20] = "";
  MUST(f && fgets(line, sizeof line, f) && strcmp(line, "well\n") == 0 && pclose(f) == 0);
  errno = 0;
  MUST(!popen("true", "nonsense") && errno == EINVAL);
  pid_t pid = fork();
  if (pid == 0) {
    execlp("grep", SHOWS_MASK, NULL);
    _exit(1);
  }
  MUST(waitpid(pid, &status, 0) == pid && status == 0);
  pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork): is what is tested */
  if (pid == 0) {
    execlp("grep", SHOWS_MASK, NULL);
    _exit(1);
  }
  MUST(waitpid(pid, &status, 0) == pid && status == 0);
  MUST(execl("/nowhere/at/all", "x", NULL) == -1 && errno == ENOENT);
  MUST(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && memcmp(&mine, &now, 8) == 0);
  MUST(pthread_create(&t, NULL, a_thread_of_a_g, NULL) == 0);
  pthread_join(t, NULL);
  execlp("grep", SHOWS_MASK, NULL);
  return 1;
}

/* --- connect --- */

/* A listener whose queue is full: connecting to it takes until there is room. */
static int full_listener(int taken[2]) {
  int l = listener(&server_at);
  MUST(listen(l, 0) == 0);
  for (int i = 0; i < 2; i++) {
    taken[i] = socket(AF_INET, SOCK_STREAM, 0);
    MUST(fcntl(taken[i], F_SETFL, O_NONBLOCK) == 0);
    MUST(connect(taken[i], (struct sockaddr *)&server_at, sizeof server_at) == -1 && errno == EINPROGRESS);
    if (i == 0) {
      struct pollfd f = {.fd = taken[0], .events = POLLOUT};
      MUST(poll(&f, 1, -1) == 1);
    }
  }
  return l;
}
static void connects_late(void *arg) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  (void)arg;
  atomic_fetch_add(&order, 1);
  MUST(connect(fd, (struct sockaddr *)&server_at, sizeof server_at) == 0);
  MUST((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
  MUST(connect(fd, (struct sockaddr *)&server_at, sizeof server_at) == -1 && errno == EISCONN);
  MUST(write(fd, "x", 1) == 1);
  close(fd);
  add_one(NULL);
}
static int those_that_connect_hold_no_thread(void) {
  int taken[2], l = full_listener(taken);
  for (int i = 0; i < MANY; i++) ration_go(connects_late, NULL);
  while (atomic_load(&order) < MANY) ration_sleep(RATION_MS);
  ration_sleep(20 * RATION_MS);
  MUST(atomic_load(&count) == 0 && threads() < MANY / 2);
  MUST(listen(l, 1000) == 0);
  until(MANY);
  return 0;
}

/* An address that refuses, and that nobody else gets meanwhile (nor we ourselves as the port to connect from). */
static int refuse(struct sockaddr_in *at) {
  socklen_t n = sizeof *at;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  MUST(bind(fd, (struct sockaddr *)at, sizeof *at) == 0 && getsockname(fd, (struct sockaddr *)at, &n) == 0);
  return fd;
}
static int connect_says_what_it_ever_said(void) {
  int taken[2], l = full_listener(taken);
  struct sockaddr *at = (struct sockaddr *)&server_at;
  struct timeval tv = {0, 50000};
  int fd = socket(AF_INET, SOCK_STREAM, 0), err = 1;
  socklen_t len = sizeof err;
  MUST(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0);
  MUST(connect(fd, at, sizeof server_at) == -1 && errno == EINPROGRESS);
  MUST(connect(fd, at, sizeof server_at) == -1 && errno == EALREADY);
  MUST((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
  close(fd);
  close(l);
  /* Refused: the error is taken, and the same socket may be tried again. */
  refuse(&server_at);
  fd = socket(AF_INET, SOCK_STREAM, 0);
  for (int i = 0; i < 3; i++) MUST(connect(fd, at, sizeof server_at) == -1 && errno == ECONNREFUSED);
  MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0);
  l = listener(&server_at);
  MUST(connect(fd, at, sizeof server_at) == 0);
  MUST(connect(fd, at, sizeof server_at) == -1 && errno == EISCONN);
  fd = socket(AF_INET, SOCK_STREAM, 0);
  MUST(connect(fd, at, 3) == -1 && errno == EINVAL);
  MUST(connect(1000, at, sizeof server_at) == -1 && errno == EBADF);
  int udp = socket(AF_INET, SOCK_DGRAM, 0);
  MUST(connect(udp, at, sizeof server_at) == 0 && connect(udp, at, sizeof server_at) == 0);
  return 0;
}

/* Nobody in the process sees the flag that connect borrows, nor loses one of its own. */
static _Atomic int looked_at; /* -1: no more; 0: none */
static void *looks_at_flags(void *arg) {
  (void)arg;
  for (int fd; (fd = atomic_load(&looked_at)) >= 0;) {
    if (fd == 0) {
      sched_yield();
      continue;
    }
    for (int i = 0; i < 100; i++) MUST(fcntl(fd, F_GETFL) == O_RDWR);
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    for (int i = 0; i < 100; i++) MUST(fcntl(fd, F_GETFL) == (O_RDWR | O_NONBLOCK));
    atomic_store(&looked_at, 0);
  }
  return NULL;
}
static int the_flag_that_connect_borrows_is_not_seen(void) {
  pthread_t t;
  int fd = 0;
  refuse(&server_at);
  MUST(pthread_create(&t, NULL, looks_at_flags, NULL) == 0);
  for (int i = 0; i < 50; i++, close(fd)) {
    fd = socket(AF_INET, SOCK_STREAM, 0);
    atomic_store(&looked_at, fd);
    while (atomic_load(&looked_at))
      MUST(connect(fd, (struct sockaddr *)&server_at, sizeof server_at) == -1 && (errno == ECONNREFUSED || errno == EINPROGRESS));
  }
  atomic_store(&looked_at, -1);
  pthread_join(t, NULL);
  return 0;
}

static struct sockaddr_un unix_at = {.sun_family = AF_UNIX};
static void connects_unix(void *arg) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  (void)arg;
  atomic_fetch_add(&order, 1);
  MUST(connect(fd, (struct sockaddr *)&unix_at, sizeof(sa_family_t) + 20) == 0);
  add_one(NULL);
}
static int a_full_unix_listener_holds_up_its_own_g(void) {
  int l = socket(AF_UNIX, SOCK_STREAM, 0);
  snprintf(unix_at.sun_path + 1, 19, "ration-%d", (int)getpid());
  MUST(bind(l, (struct sockaddr *)&unix_at, sizeof(sa_family_t) + 20) == 0 && listen(l, 0) == 0);
  for (int i = 0; i < 5; i++) ration_go(connects_unix, NULL);
  while (atomic_load(&order) < 5) ration_sleep(RATION_MS);
  for (int i = 0; i < 5; i++) MUST(accept(l, NULL, NULL) >= 0);
  until(5);
  return 0;
}

/* --- what poll does not tell --- */

/* A datagram that goes by its address, to a receiver that is full: poll says that it can be sent. */
#define DATAGRAMS 600
static socklen_t unix_name(const char *what) {
  int n = snprintf(unix_at.sun_path + 1, sizeof unix_at.sun_path - 1, "ration-%s-%d", what, (int)getpid());
  return (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)n);
}
static void sends_datagrams(void *arg) {
  socklen_t len = *(socklen_t *)arg;
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  for (int i = 0; i < DATAGRAMS; i++) {
    struct iovec v = {&i, sizeof i};
    struct msghdr m = {.msg_name = &unix_at, .msg_namelen = len, .msg_iov = &v, .msg_iovlen = 1};
    ssize_t n = i % 2 ? sendto(fd, &i, sizeof i, 0, (struct sockaddr *)&unix_at, len) : sendmsg(fd, &m, 0);
    MUST(n == sizeof i);
    atomic_store(&order, i + 1);
  }
  add_one(NULL);
}
static int a_full_receiver_gets_all_datagrams(void) {
  socklen_t len = unix_name("dgram");
  struct timeval tv = {0, 30000};
  int l = socket(AF_UNIX, SOCK_DGRAM, 0), fd = socket(AF_UNIX, SOCK_DGRAM, 0), x;
  MUST(bind(l, (struct sockaddr *)&unix_at, len) == 0);
  ration_go(sends_datagrams, &len);
  while (atomic_load(&order) == 0) ration_sleep(RATION_MS);
  ration_sleep(20 * RATION_MS);
  MUST(atomic_load(&order) < DATAGRAMS);
  /* Who does not want to wait does not.  (Empty ones fill it up, if it is the sender's own buffer that is full.) */
  while (sendto(fd, &x, 0, MSG_DONTWAIT, (struct sockaddr *)&unix_at, len) == 0) continue;
  MUST(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) == 0);
  MUST(sendto(fd, &x, sizeof x, 0, (struct sockaddr *)&unix_at, len) == -1 && errno == EAGAIN);
  MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  MUST(sendto(fd, &x, sizeof x, 0, (struct sockaddr *)&unix_at, len) == -1 && errno == EAGAIN);
  for (int i = 0; i < DATAGRAMS;) {
    ssize_t n = recv(l, &x, sizeof x, 0);
    MUST(n == 0 || (n == sizeof x && x == i++));
  }
  until(1);
  return 0;
}

/* Many that accept from one listener: each connection goes to one of them, the others hold no thread, and their context ends them. */
static struct ration_context *accept_ctx;
static _Atomic int accepted_n, failed_n;
static void accepts(void *arg) {
  MUST(ration_io_context(accept_ctx) == 0);
  for (int fd; (fd = accept((int)(long)arg, NULL, NULL)) >= 0; close(fd)) atomic_fetch_add(&accepted_n, 1);
  MUST(errno == ECANCELED);
  atomic_fetch_add(&failed_n, 1);
}
static int those_that_accept_together_hold_no_thread(void) {
  struct sockaddr *at = (struct sockaddr *)&server_at;
  int l = listener(&server_at), n = 0, fd[3];
  accept_ctx = ration_context_with_cancel(NULL);
  for (int i = 0; i < MANY; i++) ration_go(accepts, (void *)(long)l);
  for (int i = 0; i < 60; i++) {
    if (i % 4 == 0) ration_sleep(RATION_MS);
    for (int k = 0; k <= i % 3; k++, n++) {
      fd[k] = socket(AF_INET, SOCK_STREAM, 0);
      MUST(connect(fd[k], at, sizeof server_at) == 0);
    }
    for (int k = 0; k <= i % 3; k++) close(fd[k]);
    for (int k = 0; atomic_load(&accepted_n) < n; k++) {
      MUST(k < 10000);
      ration_sleep(RATION_MS);
    }
  }
  ration_sleep(5 * RATION_MS);
  MUST(threads() < MANY / 2);
  ration_context_cancel(accept_ctx);
  for (int k = 0; atomic_load(&failed_n) < MANY; k++) {
    MUST(k < 10000);
    ration_sleep(RATION_MS);
  }
  MUST(atomic_load(&accepted_n) == n);
  ration_context_unref(accept_ctx);
  return 0;
}

/* --- contexts that end waits --- */

static struct ration_context *ctx;
static int pipes[3][2], tcp_fds[2], full_pipe[2], ep_fd, quiet;
#define CALLS_THAT_PARK 17
#define CALLS_THAT_HOLD 13
static int locked_file, msg_queue, sem_set, unix_server;
static mqd_t mqueue;
static pid_t sleeper;
static struct sockaddr_un backlog_at = {.sun_family = AF_UNIX};
static long call_that_holds_its_thread(int which) {
  char buf[100], path[40];
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  struct sembuf down = {.sem_op = -1};
  struct timespec at, minute = {60, 0};
  sigset_t usr2;
  siginfo_t si;
  int fd, status;
  long r;
  snprintf(path, sizeof path, "/proc/self/fd/%d", locked_file);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  switch (which) {
    case 0:
      MUST((fd = open(path, O_RDWR)) >= 0);
      r = flock(fd, LOCK_EX);
      return close(fd), r;
    case 1:
      MUST((fd = open(path, O_RDWR)) >= 0);
      r = fcntl(fd, F_OFD_SETLKW, &whole);
      return close(fd), r;
    case 2:
      return waitpid(sleeper, &status, 0);
    case 3:
      return waitid(P_PID, (id_t)sleeper, &si, WEXITED);
    case 4:
      return msgrcv(msg_queue, buf, 8, 0, 0);
    case 5:
      return semop(sem_set, &down, 1);
    case 6:
      return semtimedop(sem_set, &down, 1, &minute);
    case 7:
      MUST((fd = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
      r = connect(fd, (struct sockaddr *)&backlog_at, sizeof backlog_at);
      return close(fd), r;
    case 8:
      return mq_receive(mqueue, buf, sizeof buf, NULL);
    case 9:
      clock_gettime(CLOCK_REALTIME, &at);
      at.tv_sec += 60;
      r = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL);
      return errno = (int)r, r ? -1 : 0; /* the address of errno is that of the thread that it is on by then */
    case 10:
      return sigtimedwait(&usr2, &si, &minute);
    case 11:
      return syscall(SYS_wait4, sleeper, &status, 0, NULL);
    case 12:
      return wait4(sleeper, &status, 0, NULL);
    default:
      return 0;
  }
}
static void prepare_holding_calls(void) {
  char name[] = "/tmp/ration-light-XXXXXX", mq[40];
  struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = sizeof(char[100])};
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  MUST((locked_file = mkstemp(name)) >= 0 && unlink(name) == 0 && flock(locked_file, LOCK_EX) == 0 &&
       fcntl(locked_file, F_OFD_SETLK, &whole) == 0);
  MUST((msg_queue = msgget(IPC_PRIVATE, 0600)) >= 0 && (sem_set = semget(IPC_PRIVATE, 1, 0600)) >= 0);
  snprintf(mq, sizeof mq, "/ration-light-%d", getpid());
  MUST((mqueue = mq_open(mq, O_RDWR | O_CREAT | O_EXCL, 0600, &small)) != (mqd_t)-1 && mq_unlink(mq) == 0);
  snprintf(backlog_at.sun_path + 1, sizeof backlog_at.sun_path - 1, "ration-light-%d", getpid());
  MUST((unix_server = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0 && bind(unix_server, (struct sockaddr *)&backlog_at, sizeof backlog_at) == 0);
  MUST(listen(unix_server, 0) == 0);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  MUST(fd >= 0 && connect(fd, (struct sockaddr *)&backlog_at, sizeof backlog_at) == 0); /* the backlog's one place */
  int p[2];
  MUST(pipe2(p, O_CLOEXEC) == 0 && (sleeper = fork()) >= 0);
  if (sleeper == 0) {
    close(p[1]);
    _exit(read(p[0], mq, 1) == 0 ? 0 : 1); /* lives as long as we do */
  }
}
static void drop_holding_calls(void) { MUST(msgctl(msg_queue, IPC_RMID, NULL) == 0 && semctl(sem_set, 0, IPC_RMID) == 0); }
static long call_that_waits(int which) {
  char buf[100] = "";
  struct epoll_event ev;
  struct pollfd f[3];
  fd_set in;
  FD_ZERO(&in);
  for (int i = 0; i < 3; i++) {
    f[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
    FD_SET(pipes[i][0], &in);
  }
  struct iovec v = {buf, sizeof buf};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  struct timespec minute = {60, 0}, left = {0, 0};
  int fd;
  long r;
  switch (which) {
    case 0:
      return read(pipes[0][0], buf, sizeof buf);
    case 1:
      return recv(tcp_fds[0], buf, sizeof buf, 0);
    case 2:
      return recv(tcp_fds[0], buf, sizeof buf, MSG_WAITALL);
    case 3:
      return recvmsg(tcp_fds[0], &m, 0);
    case 4:
      return accept(quiet, NULL, NULL);
    case 5:
      fd = socket(AF_INET, SOCK_STREAM, 0);
      r = connect(fd, (struct sockaddr *)&server_at, sizeof server_at);
      return close(fd), r;
    case 6:
      return poll(f, 3, -1);
    case 7:
      return poll(f, 1, 60000);
    case 8:
      return ppoll(NULL, 0, &minute, NULL);
    case 9:
      r = select(FD_SETSIZE, &in, NULL, NULL, NULL);
      for (int i = 0; i < 3; i++) MUST(FD_ISSET(pipes[i][0], &in)); /* as it was */
      return r;
    case 10:
      return epoll_wait(ep_fd, &ev, 1, -1);
    case 11:
      return write(full_pipe[1], buf, sizeof buf);
    case 12:
      return readv(pipes[1][0], &v, 1);
    case 13:
      r = nanosleep(&minute, &left);
      MUST(left.tv_sec > 50 && left.tv_sec <= 60);
      return r;
    case 14:
      return usleep(60000000);
    case 15:
      MUST(sleep(60) > 50);
      return -1;
    case 16:
      clock_gettime(CLOCK_MONOTONIC, &left);
      left.tv_sec += 60;
      r = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &left, NULL);
      return errno = (int)r, r ? -1 : 0;
    default:
      return call_that_holds_its_thread(which - CALLS_THAT_PARK);
  }
}
#define CALLS_THAT_WAIT (CALLS_THAT_PARK + CALLS_THAT_HOLD)
static void prepare_calls(void) {
  static char big[70000];
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int taken[2];
  for (int i = 0; i < 3; i++) MUST(pipe(pipes[i]) == 0);
  tcp_pair(tcp_fds);
  quiet = listener(&at);
  full_listener(taken);
  MUST(pipe(full_pipe) == 0 && fcntl(full_pipe[1], F_SETFL, O_NONBLOCK) == 0);
  while (write(full_pipe[1], big, sizeof big) > 0) continue;
  MUST(fcntl(full_pipe[1], F_SETFL, 0) == 0);
  struct epoll_event ev = {.events = EPOLLIN};
  MUST((ep_fd = epoll_create1(0)) >= 0 && epoll_ctl(ep_fd, EPOLL_CTL_ADD, pipes[2][0], &ev) == 0);
  prepare_holding_calls();
  atomic_store(&count, 0);
}
static void waits_with_context(void *arg) {
  long which = (long)arg / 2;
  bool timed = (long)arg % 2;
  struct ration_context *own = timed ? ration_context_with_timeout(ctx, 30 * RATION_MS) : ration_context_ref(ctx);
  MUST(ration_io_context_bound() == NULL);
  MUST(ration_io_context(own) == 0 && ration_io_context_bound() == own);
  ration_context_unref(own); /* the G has a reference */
  atomic_fetch_add(&order, 1);
  errno = 0;
  MUST(call_that_waits((int)which) == -1);
  MUST(errno == (timed ? ETIMEDOUT : ECANCELED));
  MUST(call_that_waits((int)which) == -1); /* at once, the second time */
  MUST(errno == (timed ? ETIMEDOUT : ECANCELED));
  add_one(NULL);
}
static int a_bound_context_ends_each_wait(void) {
  prepare_calls();
  ctx = ration_context_with_cancel(NULL);
  for (long i = 0; i < 2 * CALLS_THAT_WAIT; i++) ration_go(waits_with_context, (void *)i);
  until(CALLS_THAT_WAIT);
  while (atomic_load(&order) < 2 * CALLS_THAT_WAIT) ration_sleep(RATION_MS);
  ration_sleep(5 * RATION_MS);
  MUST(atomic_load(&count) == CALLS_THAT_WAIT);
  ration_context_cancel(ctx);
  until(2 * CALLS_THAT_WAIT);
  ration_context_unref(ctx);
  drop_holding_calls();
  return 0;
}

/* Ends and locks come at the same moment, thousands of times: a lock that was given is known of, and one that was not is free. */
#define LOCKERS 8
static _Atomic long holders, had, ended;
static void locks_with_deadlines(void *arg) {
  char *name = arg;
  for (int i = 0; i < 400; i++) {
    int fd = open(name, O_RDWR);
    struct ration_context *c = ration_context_with_timeout(NULL, (i % 16) * 100 * RATION_US);
    MUST(fd >= 0 && ration_io_context(c) == 0);
    ration_context_unref(c);
    errno = 0;
    if (flock(fd, LOCK_EX) == 0) {
      MUST(atomic_fetch_add(&holders, 1) == 0);
      ration_io_context(NULL);
      if (i % 4 == 0) usleep(500);
      atomic_fetch_sub(&holders, 1);
      MUST(flock(fd, LOCK_UN) == 0);
      atomic_fetch_add(&had, 1);
    } else {
      MUST(errno == ETIMEDOUT);
      ration_io_context(NULL);
      atomic_fetch_add(&ended, 1);
    }
    close(fd);
  }
  add_one(NULL);
}
static int a_call_that_ends_has_done_nothing(void) {
  char name[] = "/tmp/ration-light-XXXXXX";
  int fd = mkstemp(name);
  MUST(fd >= 0);
  for (int i = 0; i < LOCKERS; i++) ration_go(locks_with_deadlines, name);
  until(LOCKERS);
  MUST(flock(fd, LOCK_EX | LOCK_NB) == 0);
  MUST(unlink(name) == 0);
  MUST(atomic_load(&had) > 0 && atomic_load(&ended) > 0);
  return 0;
}

/* A nameserver that never answers: in a mount namespace of its own, the program is run again. */
#define SILENT "127.0.0.77"
static bool in_silence(void) {
  char conf[] = "/tmp/ration-light-XXXXXX";
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(53)};
  int fd = mkstemp(conf), u = socket(AF_INET, SOCK_DGRAM, 0);
  inet_pton(AF_INET, SILENT, &at.sin_addr);
  MUST(fd >= 0 && u >= 0 && dprintf(fd, "nameserver " SILENT "\noptions timeout:20\n") > 0);
  bool well = bind(u, (struct sockaddr *)&at, sizeof at) == 0 && unshare(CLONE_NEWNS) == 0 &&
              mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && mount(conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) == 0;
  unlink(conf);
  return well;
}
static void resolves_with_context(void *arg) {
  struct ration_context *own;
  struct addrinfo *found = NULL;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)};
  char host[100], service[10];
  MUST(ration_io_context(ctx) == 0);
  MUST(getaddrinfo("127.0.0.1", "80", NULL, &found) == 0 && found);
  freeaddrinfo(found);
  MUST(getnameinfo((struct sockaddr *)&at, sizeof at, host, sizeof host, service, sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) == 0);
  MUST(strcmp(host, "192.0.2.1") == 0 && strcmp(service, "0") == 0);
  own = (long)arg % 2 ? ration_context_with_timeout(NULL, 30 * RATION_MS) : ration_context_ref(ctx);
  MUST(ration_io_context(own) == 0);
  ration_context_unref(own);
  atomic_fetch_add(&order, 1);
  errno = 0;
  int r = (long)arg / 2 % 2 ? getnameinfo((struct sockaddr *)&at, sizeof at, host, sizeof host, NULL, 0, NI_NAMEREQD)
                            : getaddrinfo("nobody.ration.invalid.", NULL, NULL, &found);
  MUST(r == EAI_SYSTEM && errno == ((long)arg % 2 ? ETIMEDOUT : ECANCELED));
  add_one(NULL);
}
static int resolving_ends_with_its_context(void) {
  if (!getenv("LIGHT_SILENT")) {
    if (!in_silence()) return puts("SKIP no mount namespace, or port 53 is taken"), 0;
    setenv("LIGHT_SILENT", "1", 1);
    execl("/proc/self/exe", "light", __func__, NULL);
    MUST(false);
  }
  ctx = ration_context_with_cancel(NULL);
  for (long i = 0; i < 8; i++) ration_go(resolves_with_context, (void *)i);
  until(4);
  while (atomic_load(&order) < 8) ration_sleep(RATION_MS);
  ration_sleep(20 * RATION_MS);
  MUST(atomic_load(&count) == 4);
  ration_context_cancel(ctx);
  until(8);
  ration_context_unref(ctx);
  return 0;
}

static void has_none(void *arg) {
  MUST(ration_io_context_bound() == NULL);
  add_one(arg);
}
static void *no_g(void *arg) {
  MUST(ration_io_context(ctx) == -EINVAL && ration_io_context_bound() == NULL);
  return arg;
}
static int what_has_ended_fails_at_once(void) {
  int p[2], s[2];
  char c, name[] = "/tmp/ration-light-XXXXXX";
  pthread_t t;
  struct pollfd f[20];
  ctx = ration_context_with_timeout(NULL, 0);
  MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  for (int i = 0; i < 20; i++) f[i] = (struct pollfd){.fd = p[0], .events = POLLIN};
  MUST(write(p[1], "abc", 3) == 3 && write(s[1], "abc", 3) == 3);
  MUST(ration_io_context(ctx) == 0);
  ration_go(has_none, NULL);
  until(1);
  MUST(read(p[0], &c, 1) == -1 && errno == ETIMEDOUT);
  MUST(write(p[1], "x", 1) == -1 && errno == ETIMEDOUT);
  MUST(poll(f, 1, -1) == -1 && errno == ETIMEDOUT);
  MUST(poll(f, 20, 1000) == -1 && errno == ETIMEDOUT);
  /* What does not wait is as ever; so are files. */
  MUST(poll(f, 1, 0) == 1);
  MUST(recv(s[0], &c, 1, MSG_DONTWAIT) == 1 && c == 'a');
  int file = mkstemp(name);
  MUST(file >= 0 && unlink(name) == 0 && write(file, "f", 1) == 1 && lseek(file, 0, SEEK_SET) == 0 && read(file, &c, 1) == 1);
  /* Bound no more, or to one that goes on. */
  MUST(ration_io_context(NULL) == 0 && ration_io_context_bound() == NULL);
  MUST(read(p[0], &c, 1) == 1 && c == 'a');
  struct ration_context *next_ctx = ration_context_with_timeout(NULL, 60 * RATION_SECOND);
  MUST(ration_io_context(next_ctx) == 0 && read(p[0], &c, 1) == 1 && c == 'b');
  MUST(ration_io_context(ration_context_background()) == 0 && read(p[0], &c, 1) == 1 && c == 'c');
  MUST(pthread_create(&t, NULL, no_g, NULL) == 0 && pthread_join(t, NULL) == 0);
  ration_context_unref(next_ctx);
  ration_context_unref(ctx);
  return 0;
}

/* Cancel, data and deadline at the same moment: the G returns once, and no byte is lost. */
static struct ration_chan *rounds;
static void reads_with_context(void *arg) {
  struct ration_context *c;
  struct pollfd f[2] = {{.fd = pipes[0][0], .events = POLLIN}, {.fd = pipes[1][0], .events = POLLIN}};
  char b;
  (void)arg;
  for (int i = 0; ration_chan_recv(rounds, &c); i++) {
    MUST(ration_io_context(c) == 0);
    long r = i % 2 ? poll(f, 2, 1 + i % 3) : read(pipes[0][0], &b, 1);
    MUST(r == 1 || (r == 0 && i % 2) || (r == -1 && (errno == ECANCELED || errno == ETIMEDOUT)));
    MUST(ration_io_context(NULL) == 0);
    if (i % 2 || r != 1) MUST(read(pipes[0][0], &b, 1) == 1);
    ration_context_unref(c);
    add_one(NULL);
  }
}
static void cancels(void *arg) {
  ration_context_cancel(arg);
  ration_context_unref(arg);
}
static void writes_one(void *arg) {
  (void)arg;
  MUST(write(pipes[0][1], "x", 1) == 1);
}
static int an_end_and_data_at_once_lose_nothing(void) {
  MUST(pipe(pipes[0]) == 0 && pipe(pipes[1]) == 0);
  rounds = ration_chan_new(sizeof(struct ration_context *), 0);
  ration_go(reads_with_context, NULL);
  for (int i = 0; i < 500; i++) {
    struct ration_context *c = i % 3 ? ration_context_with_cancel(NULL) : ration_context_with_timeout(NULL, (i % 7) * 10 * RATION_US);
    ration_context_ref(c);
    ration_chan_send(rounds, &c);
    if (i % 5 == 0) ration_yield();
    ration_go(i % 2 ? cancels : writes_one, c);
    ration_go(i % 2 ? writes_one : cancels, c);
    until(i + 1);
  }
  return 0;
}

/* A number that is used again is another descriptor, also when nobody told us of the closing. */
static int a_descriptor_used_again_is_waited_for(void) {
  for (int i = 0; i < 20; i++) {
    int p[2];
    char c;
    MUST(pipe(p) == 0);
    ration_go(poke, (void *)(long)p[1]);
    MUST(read(p[0], &c, 1) == 1);
    if (i % 2) {
      syscall(SYS_close, p[0]);
      syscall(SYS_close, p[1]);
    } else {
      close(p[0]);
      close(p[1]);
    }
  }
  return 0;
}

static void block_raw(void *arg) {
  char c;
  MUST(syscall(SYS_read, (int)(long)arg, &c, 1) == 1);
  add_one(NULL);
}
/* A call that only the kernel can wait for holds up its own G alone, */
static int others_run_beside(ration_fn *blocks) {
  int p[2];
  MUST(pipe(p) == 0);
  long n = (long)ration_maxprocs() + 3;
  for (long i = 0; i < n; i++) ration_go(blocks, (void *)(long)p[0]);
  for (int i = 0; i < 50; i++) ration_sleep(RATION_MS / 10);
  MUST(atomic_load(&count) == 0);
  for (long i = 0; i < n; i++) MUST(write(p[1], "x", 1) == 1);
  until(n);
  return 0;
}
static int a_blocked_thread_leaves_its_p(void) { return others_run_beside(block_raw); }

/* also one that no wrapper sees. */
static void block_by_hand(void *arg) {
  char c;
  MUST(raw_read((int)(long)arg, &c, 1) == 1);
  add_one(NULL);
}
static int a_thread_blocked_by_hand_leaves_its_p(void) { return others_run_beside(block_by_hand); }

/* It left its P, all were idle for a while, and it is back without anybody's help: it is preempted as before. */
static int a_thread_that_comes_back_is_preempted(void) {
  struct itimerspec soon = {.it_value.tv_nsec = 200000000};
  uint64_t times;
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  MUST(fd >= 0 && timerfd_settime(fd, 0, &soon, NULL) == 0);
  ration_go(add_one, NULL);
  MUST(raw_read(fd, &times, sizeof times) == sizeof times);
  ration_go(add_one, NULL);
  ration_ns late = ration_now() + 5000 * RATION_MS;
  while (atomic_load(&count) < 2) MUST(ration_now() < late);
  close(fd);
  return 0;
}

/* A forked child goes on alone: nobody else's G runs in it, and it may begin anew. */
static int a_forked_child_goes_on_alone(void) {
  int status;
  sigset_t mask;
  for (int i = 0; i < 100; i++) ration_go(sleeps_short, NULL);
  ration_yield();
  pid_t pid = fork();
  if (pid == 0) {
    long before = atomic_load(&count);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    ration_sleep(30 * RATION_MS);
    if (atomic_load(&count) != before || sigismember(&mask, SIGTERM) || ration_gid() != 0) _exit(1);
    for (int i = 0; i < 1000; i++) ration_go(add_one, NULL);
    until(before + 1000);
    _exit(0);
  }
  MUST(waitpid(pid, &status, 0) == pid && status == 0);
  until(100);
  return 0;
}

static void waits_to_receive(void *arg) {
  ration_chan_recv(arg, NULL);
  add_one(NULL);
}

/* When all threads of the program have ended, the process does, though carriers are left; Gs that still have something to do may do it. */
static struct ration_mutex held_by_main;
static void sleeps_and_writes(void *arg) {
  ration_sleep(30 * RATION_MS);
  MUST(write((int)(long)arg, "x", 1) == 1);
}
static void *ends_soon(void *arg) {
  MUST(ration_mutex_lock_timeout(&held_by_main, 5 * RATION_MS) == -ETIMEDOUT); /* a timer: carriers are made for it */
  return arg;
}
static void leaves_by_exit_of_its_thread(bool gs, int fd) {
  pthread_t t;
  ration_mutex_lock(&held_by_main);
  MUST(pthread_create(&t, NULL, ends_soon, NULL) == 0);
  if (gs) MUST(ration_go(sleeps_and_writes, (void *)(long)fd) == 0 && ration_go(waits_to_receive, ration_chan_new(0, 0)) == 0);
  pthread_exit(NULL);
}
static int a_process_ends_with_its_last_thread(void) {
  int p[2], status;
  char c;
  for (int gs = 0; gs < 2; gs++) {
    MUST(pipe2(p, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) leaves_by_exit_of_its_thread(gs, p[1]);
    close(p[1]);
    MUST(read(p[0], &c, 1) == gs && waitpid(pid, &status, 0) == pid && status == 0);
    close(p[0]);
  }
  return 0;
}

/* Those that wait stay in the parent: the child hands them nothing, wakes none, and sees none. */
static struct ration_context *ends[2];
static struct ration_sema one_place = RATION_SEMA_INIT(1);
static void takes_a_place(void *arg) {
  ration_sema_acquire_ctx(&one_place, 1, ends[(long)arg]);
  add_one(NULL);
}
static void selects_over_two(void *arg) {
  struct ration_case k[] = {ration_case_recv(arg, NULL), ration_case_recv(ping, NULL)};
  ration_select(k, 2, RATION_FOREVER);
  add_one(NULL);
}
static void child_has_none_of_them(void) {
  struct ration_chan *held = ration_chan_new(0, 0);
  int fd = (int)syscall(SYS_memfd_create, "dump", 0);
  char c;
  MUST(ration_chan_try_send(came, NULL) == -EAGAIN && ration_chan_try_send(ping, NULL) == -EAGAIN);
  ration_context_cancel(ends[1]);
  ration_context_cancel(ends[0]);
  ration_chan_close(came);
  ration_chan_unref(ping);
  ration_go(waits_to_receive, held);
  ration_sleep(10 * RATION_MS);
  ration_chan_close(held);
  until(1); /* what it has begun itself */
  ration_sleep(10 * RATION_MS);
  MUST(atomic_load(&count) == 1 && ration_leaks(-1) == 0);
  ration_dump(fd);
  MUST(pread(fd, &c, 1, 0) == 0);
  _exit(0);
}
static int a_forked_child_wakes_none_of_its_parents(void) {
  int status;
  came = ration_chan_new(0, 0);
  ping = ration_chan_new(0, 0);
  ration_sema_acquire(&one_place, 1);
  for (long i = 0; i < 2; i++) {
    ends[i] = ration_context_with_cancel(NULL);
    ration_go(takes_a_place, (void *)i);
  }
  ration_go(waits_to_receive, came);
  ration_go(selects_over_two, came);
  ration_sleep(20 * RATION_MS);
  pid_t pid = fork();
  if (pid == 0) child_has_none_of_them();
  MUST(waitpid(pid, &status, 0) == pid && status == 0);
  ration_chan_close(came);
  ration_sema_release(&one_place, 1);
  until(3);
  return 0;
}

/* Timers of its parent's don't come in a child, which may stop, reset and free them, whatever others are doing with theirs. */
static struct ration_timer *kept[16];
static void resets_for_long(void *arg) {
  struct ration_timer *t = ration_timer_new(RATION_SECOND);
  for (int64_t i = 0; !atomic_load((_Atomic int *)arg); i++) {
    for (int k = 0; k < 50; k++) ration_timer_reset(t, RATION_SECOND + (i * 50 + k) * 7919 % RATION_SECOND);
    ration_yield();
  }
  ration_timer_free(t);
  atomic_fetch_add(&count, 1);
}
static void child_has_its_own_timers(struct ration_timer *soon) {
  alarm(10); /* else it may wait for ever */
  for (int i = 0; i < 16; i++) MUST(ration_timer_stop(kept[i]));
  ration_sleep(5 * RATION_MS);
  MUST(ration_chan_try_recv(ration_timer_chan(soon), NULL) != 0);
  MUST(ration_timer_reset(soon, RATION_MS) && ration_chan_recv(ration_timer_chan(soon), NULL));
  for (int i = 0; i < 16; i++) ration_timer_free(kept[i]);
  _exit(0);
}
static int a_forked_child_has_its_own_timers(void) {
  static _Atomic int over;
  int status;
  for (int i = 0; i < 16; i++) kept[i] = ration_timer_new(1000 * RATION_SECOND);
  for (int i = 0; i < 4; i++) ration_go(resets_for_long, &over);
  for (int i = 0; i < 50; i++) {
    struct ration_timer *soon = ration_timer_new(4 * RATION_MS);
    pid_t pid = fork();
    if (pid == 0) child_has_its_own_timers(soon);
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
    ration_timer_free(soon);
  }
  atomic_store(&over, 1);
  until(4);
  return 0;
}

/* sysmon gets no CPU while the program changes its credentials: a new one begins, and the old one ends when it gets one. */
static int sysmons(pid_t pid, pid_t *last) {
  char path[sizeof "/proc//task//comm" + 2 * 11 + 256], name[32];
  int n = 0;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *d = opendir(path);
  for (struct dirent *e; d && (e = readdir(d));) {
    snprintf(path, sizeof path, "/proc/%d/task/%s/comm", pid, e->d_name);
    FILE *f = fopen(path, "r");
    if (f && fgets(name, sizeof name, f) && strcmp(name, "ration-sysmon\n") == 0) n++, *last = atoi(e->d_name);
    if (f) fclose(f);
  }
  if (d) closedir(d);
  return n;
}
static void holds_sysmon(pid_t pid, int says, int asks) {
  pid_t tid = 0, other;
  char c;
  bool held = sysmons(pid, &tid) == 1 && ptrace(PTRACE_SEIZE, tid, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, tid, 0, 0) == 0 &&
              waitpid(tid, NULL, __WALL) == tid;
  MUST(write(says, held ? "y" : "n", 1) == 1 && read(asks, &c, 1) == 1);
  if (!held) _exit(0);
  MUST(sysmons(pid, &other) == 2);
  ptrace(PTRACE_DETACH, tid, 0, 0);
  while (kill(pid, 0) == 0 && sysmons(pid, &other) != 1) usleep(1000);
  _exit(other == tid);
}
static int one_sysmon_is_left_after_a_change_of_credentials(void) {
  int says[2], asks[2], status;
  char held;
  if (geteuid() != 0) return puts("SKIP needs root"), 0;
  MUST(pipe(says) == 0 && pipe(asks) == 0);
  pid_t me = getpid(), pid = fork();
  if (pid == 0) holds_sysmon(me, says[1], asks[0]);
  MUST(read(says[0], &held, 1) == 1);
  if (held == 'y') MUST(setresgid((gid_t)-1, 65534, (gid_t)-1) == 0);
  MUST(write(asks[1], "x", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0);
  if (held != 'y') puts("SKIP no thread may be traced");
  return 0;
}

static int files_are_read_as_ever(void) {
  char name[] = "/tmp/ration-light-XXXXXX", buf[10000], back[10000];
  int fd = mkstemp(name);
  MUST(fd >= 0);
  unlink(name);
  memset(buf, 'y', sizeof buf);
  MUST(write(fd, buf, sizeof buf) == sizeof buf);
  MUST(lseek(fd, 5, SEEK_SET) == 5);
  MUST(read(fd, back, sizeof back) == sizeof back - 5);
  MUST(read(fd, back, 1) == 0);
  return 0;
}

/* --- files that are not in the page cache --- */

#define FILE_WORDS ((size_t)1 << 20)
#define FILE_BYTES (FILE_WORDS * sizeof(uint64_t))
#define PAGE 4096

/* Each word of it is its own offset. */
static int file_of_words(int flags) {
  char name[] = "/tmp/ration-light-XXXXXX";
  static uint64_t words[FILE_WORDS];
  int fd = mkstemp(name);
  MUST(fd >= 0);
  for (size_t i = 0; i < FILE_WORDS; i++) words[i] = i * sizeof *words;
  MUST(write(fd, words, sizeof words) == sizeof words);
  MUST(fsync(fd) == 0);
  close(fd);
  fd = open(name, O_RDWR | flags);
  unlink(name);
  return fd;
}

/* Out of the cache.  False: this file system keeps it there. */
static bool cold(int fd) {
  static bool said;
  char c[PAGE];
  struct iovec v = {c, sizeof c};
  posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
  if (syscall(SYS_preadv2, fd, &v, 1, FILE_BYTES - PAGE, 0, RWF_NOWAIT) < 0 && errno == EAGAIN) return true;
  if (!said) fprintf(stderr, "light: files of /tmp are always in the cache: read from there\n");
  said = true;
  return false;
}

static bool right(const void *buf, size_t n, off_t at) {
  for (size_t i = 0; i + sizeof(uint64_t) <= n; i += sizeof(uint64_t)) {
    uint64_t w;
    memcpy(&w, (const char *)buf + i, sizeof w);
    if (w != (uint64_t)at + i) return false;
  }
  return true;
}

static int threads_named(const char *name) {
  char path[300], comm[32];
  int n = 0;
  DIR *d = opendir("/proc/self/task/."); /* with ration's own: as /proc/self/task it shows the program's */
  MUST(d);
  for (struct dirent *e; (e = readdir(d));) {
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
    FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
    if (f && fgets(comm, sizeof comm, f)) n += strncmp(comm, name, strlen(name)) == 0;
    if (f) fclose(f);
  }
  closedir(d);
  return n;
}

static bool ring_expected(void) {
  struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN};
  const char *off = getenv("RATION_URING");
  long fd = syscall(SYS_io_uring_setup, 4, &p);
  if (fd >= 0) close((int)fd);
  return fd >= 0 && !(off && strcmp(off, "0") == 0);
}

#define READERS 64
static int cold_fd;
static void reads_anywhere(void *arg) {
  char buf[PAGE];
  unsigned x = (unsigned)(long)arg * 7919 + 1;
  for (int i = 0; i < 10; i++) {
    x = x * 1103515245 + 12345;
    off_t at = (off_t)((x >> 8) % (FILE_BYTES / PAGE)) * PAGE;
    MUST(pread(cold_fd, buf, sizeof buf, at) == sizeof buf);
    MUST(right(buf, sizeof buf, at));
  }
  add_one(NULL);
}

static void ticks(void *arg) {
  while (atomic_load(&count) < READERS) atomic_fetch_add((_Atomic long *)arg, 1), ration_sleep(100 * RATION_US);
}

/* The ring has no descriptor that the program could see. */
static bool ring_is_seen(void) {
  char path[32], to[64];
  for (int fd = 0; fd < 64; fd++) {
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n > 0 ? n : 0] = 0;
    if (strstr(to, "io_uring")) return true;
  }
  return false;
}

/* Carriers do not grow with the reads, and another G has its turns. */
static int uncached_files_are_read_by_many(void) {
  static _Atomic long turns;
  cold_fd = file_of_words(0);
  bool is_cold = cold(cold_fd);
  ration_go(ticks, &turns);
  for (long i = 0; i < READERS; i++) ration_go(reads_anywhere, (void *)i);
  until(READERS);
  if (!is_cold) return 0;
  MUST(!ring_is_seen());
  MUST(atomic_load(&turns) > 0);
  MUST(threads_named("ration-uring") == ring_expected());
  if (ring_expected()) MUST(threads_named("ration-carrier") <= READERS / 4);
  return 0;
}

static int files_are_read_without_io_uring(void) { return uncached_files_are_read_by_many(); }

/* All of it, whatever part of it is in the cache, and the position moves by as much. */
static int an_uncached_read_is_whole(void) {
  static char buf[1 << 19];
  struct iovec v[3] = {{buf, 10}, {buf + 10, 90000}, {buf + 90010, 38}};
  int fd = file_of_words(0);
  for (int half = 0; half < 2; half++) {
    cold(fd);
    if (half) MUST(pread(fd, buf, PAGE, 0) == PAGE);
    MUST(pread(fd, buf, sizeof buf, 0) == sizeof buf && right(buf, sizeof buf, 0));
    MUST(pread(fd, buf, sizeof buf, FILE_BYTES - 80000) == 80000 && right(buf, 80000, FILE_BYTES - 80000));
    cold(fd);
    if (half) MUST(pread(fd, buf, PAGE, 0) == PAGE);
    MUST(lseek(fd, 0, SEEK_SET) == 0);
    MUST(read(fd, buf, sizeof buf) == sizeof buf && right(buf, sizeof buf, 0));
    cold(fd);
    MUST(readv(fd, v, 3) == 90048 && right(buf, 90048, sizeof buf));
    MUST(lseek(fd, 0, SEEK_CUR) == sizeof buf + 90048);
    cold(fd);
    MUST(preadv(fd, v, 3, PAGE) == 90048 && right(buf, 90048, PAGE));
    MUST(lseek(fd, -24, SEEK_END) == FILE_BYTES - 24);
    MUST(read(fd, buf, sizeof buf) == 24);
    MUST(read(fd, buf, sizeof buf) == 0 && pread(fd, buf, 1, FILE_BYTES) == 0);
  }
  return 0;
}

/* Those who read at one position: each record goes to one of them. */
static _Atomic int taken[FILE_BYTES / PAGE];
static void takes_records(void *arg) {
  uint64_t buf[PAGE / 8];
  (void)arg;
  for (ssize_t n; (n = read(cold_fd, buf, sizeof buf)) != 0;) {
    MUST(n == sizeof buf && right(buf, sizeof buf, (off_t)buf[0]));
    atomic_fetch_add(&taken[buf[0] / PAGE], 1);
  }
  add_one(NULL);
}
static int a_position_is_shared_by_readers(void) {
  cold_fd = file_of_words(0);
  cold(cold_fd);
  for (int i = 0; i < 8; i++) ration_go(takes_records, NULL);
  until(8);
  for (size_t i = 0; i < FILE_BYTES / PAGE; i++) MUST(taken[i] == 1);
  return 0;
}

static int direct_io_reads_and_writes(void) {
  static char block[PAGE] __attribute__((aligned(PAGE)));
  int fd = file_of_words(O_DIRECT);
  if (fd < 0) return 0; /* not on this file system */
  MUST(pread(fd, block, sizeof block, 5 * PAGE) == sizeof block && right(block, sizeof block, 5 * PAGE));
  MUST(pread(fd, block + 1, sizeof block - 1, 3) == -1 && errno == EINVAL);
  memset(block, 'z', sizeof block);
  MUST(pwrite(fd, block, sizeof block, 7 * PAGE) == sizeof block);
  memset(block, 0, sizeof block);
  MUST(pread(fd, block, sizeof block, 7 * PAGE) == sizeof block && block[0] == 'z' && block[PAGE - 1] == 'z');
  MUST(pread(fd, block, sizeof block, FILE_BYTES) == 0);
  MUST(fdatasync(fd) == 0 && sync_file_range(fd, 0, PAGE, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0);
  return 0;
}

#define FAILS(call, why) MUST((call) == -1 && errno == (why))
static int files_fail_as_ever(void) {
  char buf[PAGE];
  void *volatile nowhere = (void *)8; /* or the compiler looks at it */
  volatile int minus = -1;
  int p[2], fd = file_of_words(0), dir = open("/tmp", O_RDONLY | O_DIRECTORY), out = open("/dev/null", O_WRONLY);
  MUST(pipe(p) == 0);
  for (int i = 0; i < 2; i++) {
    cold(fd);
    FAILS(pread(fd, nowhere, PAGE, 0), EFAULT);
    FAILS(read(fd, nowhere, PAGE), EFAULT);
    FAILS(preadv(fd, nowhere, 1, 0), EFAULT);
    FAILS(preadv(fd, &(struct iovec){buf, 1}, minus, 0), EINVAL);
    FAILS(pread(fd, buf, PAGE, -1), EINVAL);
    MUST(lseek(fd, 0, SEEK_CUR) == 0);
  }
  FAILS(pread(999, buf, PAGE, 0), EBADF);
  FAILS(pread(out, buf, PAGE, 0), EBADF);
  FAILS(pread(dir, buf, PAGE, 0), EISDIR);
  FAILS(read(dir, buf, PAGE), EISDIR);
  FAILS(pread(p[0], buf, PAGE, 0), ESPIPE);
  FAILS(pwrite(999, buf, PAGE, 0), EBADF);
  FAILS(fsync(999), EBADF);
  FAILS(fdatasync(p[1]), EINVAL);
  FAILS(sync_file_range(fd, 0, 0, 1u << 20), EINVAL);
  FAILS(sync_file_range(p[0], 0, 0, SYNC_FILE_RANGE_WRITE), ESPIPE);
  return 0;
}

/* The ring is its parent's: the child makes one of its own. */
static int a_forked_child_reads_files(void) {
  int status;
  uncached_files_are_read_by_many();
  pid_t pid = fork();
  if (pid == 0) {
    atomic_store(&count, 0);
    uncached_files_are_read_by_many();
    _exit(0);
  }
  MUST(waitpid(pid, &status, 0) == pid && status == 0);
  return 0;
}

/* --- the ends of programs --- */

static void park_for_ever(void *arg) {
  (void)arg;
  ration_sleep(RATION_FOREVER);
}
static int deadlock_is_reported(void) {
  ration_go_attr(park_for_ever, NULL, &(struct ration_attr){.name = "forgotten"});
  ration_exit();
}
static void overflow(void *arg) { deep(1000000), add_one(arg); }
static int a_stack_overflow_is_named(void) {
  ration_go_attr(overflow, NULL, &(struct ration_attr){.name = "greedy"});
  until(1);
  return 0;
}
/* A second ration_main leaves the handler that the program had before the first. */
static void handles_fault(int sig) {
  (void)sig;
  _exit(9);
}
static int touches_nothing(int argc, char **argv) {
  (void)argc, (void)argv;
  volatile char *volatile nowhere = NULL;
  *nowhere = 1; /* NOLINT(clang-analyzer-core.NullDereference): is what is tested */
  return 0;
}
static void *main_again(void *arg) {
  ration_main(0, arg, touches_nothing);
  return NULL;
}
static int a_second_main_keeps_the_programs_handler(void) {
  pthread_t t;
  MUST(pthread_create(&t, NULL, main_again, NULL) == 0);
  pthread_join(t, NULL);
  return 0;
}

static int a_fault_that_was_sent_ends_the_program(void) {
  kill(getpid(), SIGSEGV);
  ration_sleep(RATION_SECOND);
  return 0;
}

/* In a G ration_main is as good as elsewhere; after it, and in it, deadlocks are seen. */
static int sleeps_for_five(int argc, char **argv) {
  (void)argc, (void)argv;
  ration_sleep(RATION_MS);
  return 5;
}
static int never_returns(int argc, char **argv) {
  (void)argc, (void)argv;
  ration_chan_recv(ration_chan_new(0, 0), NULL);
  return 0;
}
static int exits(int argc, char **argv) {
  (void)argc, (void)argv;
  ration_exit();
}
static int a_main_inside_of_a_g_returns(void) {
  for (int i = 0; i < 100; i++) MUST(ration_main(0, NULL, sleeps_for_five) == 5);
  while (ration_ngs() > 1) ration_sleep(RATION_MS);
  return 0;
}
static int a_deadlock_after_a_main_inside_is_reported(void) {
  MUST(ration_main(0, NULL, sleeps_for_five) == 5);
  return never_returns(0, NULL);
}
static int a_deadlock_of_main_that_exits_after_another_is_reported(void) {
  MUST(ration_main(0, NULL, sleeps_for_five) == 5);
  return exits(0, NULL);
}
static int a_deadlock_in_a_main_inside_is_reported(void) { return ration_main(0, NULL, never_returns); }
static int an_exit_of_a_main_inside_is_a_deadlock(void) { return ration_main(0, NULL, exits); }

static int nil_function_is_fatal(void) { return ration_go(NULL, NULL); }

static const struct check {
  const char *name;
  int (*fn)(void);
  int status;       /* that the process ends with; 128 + n: by signal n */
  const char *says; /* on stderr */
  const char *env;
} checks[] = {
#define C(fn) \
  { #fn, fn, 0, NULL, NULL }
    C(a_million_run_and_end),
    C(spawning_needs_few_stacks),
    C(each_has_its_number),
    {"mains_result_is_the_programs", mains_result_is_the_programs, 7, NULL, NULL},
    C(exit_ends_the_g_alone),
    C(stacks_are_as_large_as_asked),
    C(no_spawner_waits_for_ever),
    C(a_spawner_has_its_turn),
    C(a_spawner_has_its_turn_among_many),
    C(a_wired_spawner_goes_on),
    C(descriptors_are_looked_at_among_those_that_yield),
    C(an_idle_p_runs_timers),
    C(an_idle_p_looks_at_descriptors),
    C(a_forked_child_ends_with_its_g),
    C(yield_lets_others_run),
    C(the_global_queue_has_its_turn),
    C(sleepers_wake_in_order),
    C(ten_thousand_sleep_at_once),
    C(a_spinning_g_is_preempted),
    C(a_preempted_g_keeps_errno),
    C(a_preempted_g_keeps_its_thread),
    C(a_locked_g_keeps_its_thread),
    C(a_thread_ends_with_the_g_that_locked_it),
    C(any_thread_may_spawn),
    C(a_g_for_each_connection),
    C(a_blocking_write_writes_all),
    C(pieces_are_written_in_order),
    C(the_programs_nonblocking_is_kept),
    C(a_sockets_timeout_is_kept),
    C(an_accepted_socket_has_the_listeners_timeout),
    C(poll_and_epoll_park),
    C(a_read_after_poll_finds_what_came),
    C(all_that_wait_for_a_descriptor_are_told),
    C(those_that_wait_for_several_hold_no_thread),
    C(polls_say_what_they_ever_said),
    C(those_that_wait_for_all_hold_no_thread),
    C(a_low_water_mark_is_waited_for),
    C(calls_by_number_park),
    C(others_run_while_one_resolves),
    C(others_run_while_some_wait_for_children),
    {"a_handler_in_a_call_keeps_its_thread", a_handler_in_a_call_keeps_its_thread, 0, NULL, "LIGHT_BLOCKS_USR1=1"},
    C(what_a_g_begins_has_the_programs_mask),
    C(those_that_connect_hold_no_thread),
    C(connect_says_what_it_ever_said),
    C(the_flag_that_connect_borrows_is_not_seen),
    C(a_full_unix_listener_holds_up_its_own_g),
    C(a_full_receiver_gets_all_datagrams),
    C(those_that_accept_together_hold_no_thread),
    C(a_bound_context_ends_each_wait),
    C(a_call_that_ends_has_done_nothing),
    C(resolving_ends_with_its_context),
    C(what_has_ended_fails_at_once),
    C(an_end_and_data_at_once_lose_nothing),
    C(a_descriptor_used_again_is_waited_for),
    C(a_blocked_thread_leaves_its_p),
    C(a_thread_blocked_by_hand_leaves_its_p),
    C(a_thread_that_comes_back_is_preempted),
    C(a_forked_child_goes_on_alone),
    C(a_forked_child_has_its_own_timers),
    C(a_forked_child_wakes_none_of_its_parents),
    C(a_process_ends_with_its_last_thread),
    C(one_sysmon_is_left_after_a_change_of_credentials),
    C(files_are_read_as_ever),
    C(uncached_files_are_read_by_many),
    {"files_are_read_without_io_uring", files_are_read_without_io_uring, 0, NULL, "RATION_URING=0"},
    C(an_uncached_read_is_whole),
    C(a_position_is_shared_by_readers),
    C(direct_io_reads_and_writes),
    C(files_fail_as_ever),
    C(a_forked_child_reads_files),
#define DEAD(fn) \
  { #fn, fn, 2, "all Gs are asleep - deadlock!", NULL }
    DEAD(deadlock_is_reported),
    DEAD(a_deadlock_after_a_thread_has_ended_is_reported),
    {"a_stack_overflow_is_named", a_stack_overflow_is_named, 128 + SIGSEGV, "\"greedy\"", NULL},
    {"a_second_main_keeps_the_programs_handler", a_second_main_keeps_the_programs_handler, 9, NULL, "LIGHT_HANDLES_FAULTS=1"},
    {"a_fault_that_was_sent_ends_the_program", a_fault_that_was_sent_ends_the_program, 128 + SIGSEGV, NULL, NULL},
    C(a_main_inside_of_a_g_returns),
    DEAD(a_deadlock_after_a_main_inside_is_reported),
    DEAD(a_deadlock_of_main_that_exits_after_another_is_reported),
    DEAD(a_deadlock_in_a_main_inside_is_reported),
    DEAD(an_exit_of_a_main_inside_is_a_deadlock),
    {"nil_function_is_fatal", nil_function_is_fatal, 128 + SIGABRT, "go of nil func value", NULL},
};

static const struct check *chosen;
static int prog(int argc, char **argv) {
  (void)argc, (void)argv;
  int r = chosen->fn();
  return chosen->fn == mains_result_is_the_programs ? 7 : r;
}

/* Runs a check in a child and compares how it ends. */
static int judge(const struct check *c, int argc, char **argv) {
  int p[2], status;
  char text[4096];
  size_t n = 0;
  ssize_t r;
  if (pipe(p) < 0) return 2;
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    dup2(p[1], 2);
    close(p[0]);
    close(p[1]);
    if (c->env) putenv((char *)c->env);
    execv("/proc/self/exe", (char *[]){argv[0], (char *)"-", argv[1], NULL});
    _exit(127);
  }
  close(p[1]);
  while (n < sizeof text - 1 && (r = read(p[0], text + n, sizeof text - 1 - n)) > 0) n += (size_t)r;
  text[n] = 0;
  waitpid(pid, &status, 0);
  int how = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  (void)argc;
  if (how == c->status && (!c->says || strstr(text, c->says))) return 0;
  fprintf(stderr, "ended with %d, wanted %d%s%s; stderr:\n%s", how, c->status, c->says ? " and the words " : "", c->says ? c->says : "",
          text);
  return 1;
}

int main(int argc, char **argv) {
  size_t n = sizeof checks / sizeof *checks;
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    for (size_t i = 0; i < n; i++) puts(checks[i].name);
    return 0;
  }
  for (size_t i = 0; i < n && argc >= 2; i++) {
    chosen = &checks[i];
    if (argc == 3 && strcmp(argv[2], chosen->name) == 0) {
      sigset_t empty;
      sigemptyset(&empty);
      if (getenv("LIGHT_BLOCKS_USR1")) sigaddset(&empty, SIGUSR1);
      if (getenv("LIGHT_HANDLES_FAULTS")) signal(SIGSEGV, handles_fault);
      sigprocmask(SIG_SETMASK, &empty, NULL); /* whoever runs the tests may have another */
      return ration_main(argc, argv, prog);
    }
    if (argc == 2 && strcmp(argv[1], chosen->name) == 0) return judge(chosen, argc, argv);
  }
  fprintf(stderr, "usage: light list | light NAME\n");
  return 2;
}
