// SPDX-License-Identifier: Apache-2.0
/*
 * What the BPF programs cost and how fast they are, on the running kernel (as root):
 *
 *   switch   a futex ping-pong of two threads on one CPU, per context switch:
 *            without the programs, with them, with them while another process is attached, and as Ms
 *   event    from an M's block to the return of epoll_wait on the ring buffer
 *   preempt  from slot.preempt = 1 to the SIGURG handler: by membarrier, and by the tick alone
 *   attach   watch_attach + watch_detach, and the time until the kernel marks the first block
 *
 * Usage: bpf_cost [rounds]
 */
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <bpf/bpf.h>
#include "tests/unit/watch_rig.h"

#define SAMPLES_MAX 20000

static struct rig rig;
static uint64_t sample[SAMPLES_MAX];

static void die(const char *what) {
  fprintf(stderr, "bpf_cost: %s\n", what);
  exit(1);
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static void print_us(const char *what, size_t n) {
  qsort(sample, n, sizeof(*sample), by_size);
  size_t mid = n / 2, late = n * 99 / 100;
  double p50 = (double)sample[mid] / 1e3, p99 = (double)sample[late] / 1e3, max = (double)sample[n - 1] / 1e3;
  printf("%-44s p50 %8.1f us   p99 %8.1f us   max %8.1f us   n %zu\n", what, p50, p99, max, n);
}

static void load(void) {
  char err[400] = "";
  if (watch_open(&rig.w, err, sizeof(err)) < 0) die(err);
}
static void attach(pid_t pid) {
  if (rig_attach(&rig, pid, M_SLOTS_DEFAULT) < 0 || !rig_live(&rig)) die("cannot attach");
}

/* ---- switch ---- */

static struct {
  _Atomic uint32_t turn;
  unsigned rounds;
  bool as_m;
} pp;

static void pp_wait(uint32_t mine) {
  uint32_t t;
  while ((t = atomic_load(&pp.turn)) != mine) syscall(SYS_futex, &pp.turn, FUTEX_WAIT_PRIVATE, t, NULL, NULL, 0);
}
static void pp_give(uint32_t other) {
  atomic_store(&pp.turn, other);
  syscall(SYS_futex, &pp.turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
static void *pp_main(void *arg) {
  uint32_t me = *(uint32_t *)arg;
  rig_pin(0, 1);
  if (pp.as_m) {
    RIG_STORE(rig.slot[me].state, M_SYSCALL);
    RIG_STORE(rig.slot[me].has_p, 1);
    rig_add_m(&rig, (uint32_t)rig_gettid(), me);
  }
  for (unsigned i = 0; i < pp.rounds; i++) {
    pp_wait(me);
    pp_give(1 - me);
  }
  return NULL;
}

/* ns per switch */
static double ping_pong(unsigned rounds, bool as_m) {
  pthread_t th[2];
  uint32_t who[2] = {0, 1};
  pp.turn = 0;
  pp.rounds = rounds;
  pp.as_m = as_m;
  uint64_t from = rig_now();
  for (int i = 0; i < 2; i++) {
    if (pthread_create(&th[i], NULL, pp_main, &who[i])) die("thread");
  }
  for (int i = 0; i < 2; i++) pthread_join(th[i], NULL);
  return (double)(rig_now() - from) / (2.0 * rounds);
}

static double median5(double v[5]) {
  for (int i = 0; i < 5; i++) {
    for (int j = i + 1; j < 5; j++) {
      if (v[j] < v[i]) {
        double t = v[i];
        v[i] = v[j];
        v[j] = t;
      }
    }
  }
  return v[2];
}

/* The four cases in turn, five times over, so that a noisy minute strikes all alike. */
static void bench_switch(unsigned rounds) {
  static const char *const name[4] = {"without BPF", "loaded, nobody attached", "loaded, another process attached", "both threads are Ms"};
  double v[4][5];
  pid_t other = fork();
  if (other == 0) {
    for (;;) pause();
  }
  for (int i = 0; i < 5; i++) {
    v[0][i] = ping_pong(rounds, false);
    load();
    v[1][i] = ping_pong(rounds, false);
    attach(other);
    v[2][i] = ping_pong(rounds, false);
    rig_detach(&rig);
    attach(getpid());
    v[3][i] = ping_pong(rounds, true);
    rig_detach(&rig);
    watch_close(rig.w);
  }
  kill(other, SIGKILL);
  waitpid(other, NULL, 0);
  double base = median5(v[0]);
  for (int i = 0; i < 4; i++) {
    double m = median5(v[i]);
    printf("switch, %-36s %8.0f ns   %+6.0f ns   ratio %.3f\n", name[i], m, m - base, m / base);
  }
}

/* The same by the kernel's own count of the program's run time; the first row is mostly the counting. */
static void prog_stats(const char *name, uint64_t *ns, uint64_t *runs) {
  *ns = *runs = 0;
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    int fd = bpf_prog_get_fd_by_id(id);
    struct bpf_prog_info info = {0};
    uint32_t len = sizeof(info);
    if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, name) == 0) {
      *ns = info.run_time_ns; /* the newest: ours */
      *runs = info.run_cnt;
    }
    if (fd >= 0) close(fd);
  }
}

static void stats_of(const char *what, unsigned rounds, bool as_m) {
  uint64_t ns0, n0, ns1, n1;
  prog_stats("on_switch", &ns0, &n0);
  ping_pong(rounds, as_m);
  prog_stats("on_switch", &ns1, &n1);
  printf("on_switch by bpf_stats, %-28s %6.0f ns a run\n", what, (double)(ns1 - ns0) / (double)(n1 - n0));
}

static void bench_stats(unsigned rounds) {
  uint64_t ns, n;
  pid_t other = fork();
  if (other == 0) {
    for (;;) pause();
  }
  load();
  int on = bpf_enable_stats(BPF_STATS_RUN_TIME);
  stats_of("nobody attached", rounds, false);
  attach(other);
  stats_of("another process attached", rounds, false);
  rig_detach(&rig);
  attach(getpid());
  stats_of("attached, no Ms", rounds, false);
  stats_of("both threads are Ms", rounds, true);
  prog_stats("on_tick", &ns, &n);
  if (n) printf("on_tick by bpf_stats %38.0f ns a run\n", (double)ns / (double)n);
  close(on);
  rig_detach(&rig);
  watch_close(rig.w);
  kill(other, SIGKILL);
  waitpid(other, NULL, 0);
}

/* ---- event ---- */

static int data_pipe[2];

static void *reader(void *arg) {
  (void)arg;
  char c;
  RIG_STORE(rig.slot[0].state, M_RUN);
  RIG_STORE(rig.slot[0].has_p, 1);
  rig_add_m(&rig, (uint32_t)rig_gettid(), 0);
  while (syscall(SYS_read, data_pipe[0], &c, 1) == 1 && c != 'q') continue;
  return NULL;
}

static void bench_event(size_t n) {
  struct rig_ring ring = {0};
  struct m_event ev;
  struct epoll_event want = {.events = EPOLLIN}, got;
  pthread_t th;
  load();
  attach(getpid());
  int ep = epoll_create1(EPOLL_CLOEXEC);
  if (rig_ring_open(&ring, rig.ring_fd, rig.ring_size) < 0 || pipe(data_pipe) < 0) die("ring");
  if (epoll_ctl(ep, EPOLL_CTL_ADD, rig.ring_fd, &want) < 0) die("epoll");
  RIG_STORE(rig.h->waiting, 1);
  if (pthread_create(&th, NULL, reader, NULL)) die("thread");
  for (size_t i = 0; i < n;) {
    if (epoll_wait(ep, &got, 1, 1000) != 1) die("no event came");
    uint64_t now = rig_now();
    while (rig_ring_next(&ring, &ev)) {
      if (i < n) sample[i++] = now - ev.at;
    }
    usleep(200);
    if (write(data_pipe[1], "x", 1) != 1) die("pipe");
  }
  if (write(data_pipe[1], "q", 1) != 1) die("pipe");
  pthread_join(th, NULL);
  print_us("event: block -> epoll_wait returns", n);
  rig_detach(&rig);
  watch_close(rig.w);
}

/* ---- preempt ---- */

static _Atomic uint64_t arrived;
static atomic_uint quit_spin;

static void on_urg(int sig) {
  (void)sig;
  uint64_t now = rig_now();
  RIG_STORE(rig.slot[0].preempt, 0);
  RIG_STORE(rig.slot[0].urg, 0);
  atomic_store(&arrived, now); /* last: who sees it asks again */
}

static void *spinner(void *arg) {
  (void)arg;
  rig_pin(0, 1);
  RIG_STORE(rig.slot[0].state, M_RUN);
  RIG_STORE(rig.slot[0].has_p, 1);
  rig_add_m(&rig, (uint32_t)rig_gettid(), 0);
  while (!quit_spin) continue;
  return NULL;
}

static void preempt_rounds(const char *what, size_t n, bool by_ipi) {
  for (size_t i = 0; i < n; i++) {
    atomic_store(&arrived, 0);
    uint64_t sent = rig_now();
    RIG_STORE(rig.slot[0].preempt, 1);
    if (by_ipi) (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    while (atomic_load(&arrived) == 0) continue;
    sample[i] = atomic_load(&arrived) - sent;
    usleep(100 + (unsigned)(i * 37 % 900)); /* anywhere between two ticks */
  }
  print_us(what, n);
}

static void bench_preempt(size_t n) {
  pthread_t th;
  (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
  signal(SIGURG, on_urg);
  load();
  attach(getpid());
  rig_pin(0, 0);
  RIG_STORE(rig.h->gated, 1);
  if (pthread_create(&th, NULL, spinner, NULL)) die("thread");
  if (!RIG_WAIT(RIG_LOAD(rig.slot[0].oncpu_at))) die("the spinner is not seen");
  if (watch_caps(rig.w) & M_CAP_IPI) preempt_rounds("preempt: membarrier -> handler", n, true);
  if (watch_caps(rig.w) & M_CAP_TICK) preempt_rounds("preempt: by the tick -> handler", n < 500 ? n : 500, false);
  quit_spin = 1;
  pthread_join(th, NULL);
  rig_detach(&rig);
  watch_close(rig.w);
}

/* ---- attach ---- */

static void bench_attach(void) {
  enum { N = 200 };
  static uint64_t live[N], detach[N];
  load();
  for (int i = 0; i < N; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      pause();
      _exit(0);
    }
    int fd = rig_pidfd(pid, 0);
    uint64_t a = rig_now();
    const struct watch_peer who = {.pid = pid, .pidfd = fd};
    if (watch_attach(rig.w, &who, M_SLOTS_DEFAULT, &rig.map_fd, &rig.ring_fd, &rig.ring_size, &rig.p) < 0) die("attach");
    uint64_t b = rig_now();
    struct m_header *h = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rig.map_fd, 0);
    while (!(RIG_LOAD(h->caps) & M_CAP_LIVE)) usleep(100);
    uint64_t c = rig_now();
    watch_detach(rig.p);
    uint64_t d = rig_now();
    munmap(h, 4096);
    sample[i] = b - a;
    live[i] = c - a;
    detach[i] = d - c;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(fd);
  }
  print_us("attach: watch_attach", N);
  memcpy(sample, live, sizeof(live));
  print_us("attach: until M_CAP_LIVE", N);
  memcpy(sample, detach, sizeof(detach));
  print_us("attach: watch_detach", N);
  watch_close(rig.w);
}

int main(int argc, char **argv) {
  unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 50000;
  if (geteuid() != 0) {
    puts("bpf_cost: skipped: needs root");
    return 77;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  bench_switch(rounds);
  bench_stats(rounds);
  bench_event(2000);
  bench_preempt(2000);
  bench_attach();
  return 0;
}
