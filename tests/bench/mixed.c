/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mixed: short requests beside batch threads, the program that a CPU quota hurts most.
 *
 * N batch threads burn CPU in work units: a fixed number of iterations of an
 * integer recurrence, no clock and no system call inside, so that a unit is the same
 * amount of work under any scheduler.  Request threads serve short requests of
 * a fixed amount of the same work.  Arrivals are an absolute schedule, fixed or
 * Poisson; a latency is the end of a request minus its *intended* start, so a
 * stall counts for every request that should have started in it.
 *
 *   --via sleep   the request thread sleeps to the next arrival by clock_nanosleep
 *   --via pipe    a generator process writes each arrival into a pipe; blocking read
 *   --via tcp     the same through a loopback connection; blocking recv, answer by send
 *   --via epoll   the same, all connections in one thread by epoll_wait
 *
 * The generator is this program again, without LD_PRELOAD, and outside of the
 * cgroup where --generator-procs names a cgroup.procs file to go to: a client
 * is on another machine as a rule and shares no quota with its server.
 *
 * The program knows nothing of ration: plain pthreads and libc.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define REQUESTERS_MAX 64
#define BATCH_MAX 4096

enum via { VIA_SLEEP, VIA_PIPE, VIA_TCP, VIA_EPOLL };
static const char *const via_names[] = {"sleep", "pipe", "tcp", "epoll"};

static struct {
  double seconds, warmup, period_ms, request_us;
  long batch, requesters, unit_iters, request_iters, request_units;
  enum via via;
  bool poisson, no_requests, json, calibrate;
  const char *hist, *generator_procs, *generator;
} opt = {.seconds = 6, .period_ms = 7, .request_us = 200, .batch = 8, .requesters = 1, .unit_iters = 20000};

struct batch {
  _Alignas(64) _Atomic uint64_t units; /* main only reads it: relaxed */
  pthread_t thread;
  uint64_t state;
};

struct requester {
  _Alignas(64) int64_t *samples;
  size_t n, cap;
  uint64_t rng, state;
  int fd;
  pthread_t thread;
};

static struct batch batches[BATCH_MAX];
static struct requester requesters[REQUESTERS_MAX];
static _Atomic bool stop; /* relaxed: nothing is published by it */
static int64_t t_start, t_end;

static void die(const char *what) {
  fprintf(stderr, "mixed: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * NS + ts.tv_nsec;
}

static void sleep_until(int64_t at) {
  struct timespec ts = {.tv_sec = at / NS, .tv_nsec = at % NS};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
  }
}

/* A dependent chain of multiplications: the compiler can't shorten it, the CPU can't overlap it. */
static __attribute__((noinline)) uint64_t work(uint64_t x, long iters) {
  for (long i = 0; i < iters; i++) x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ULL;
  return x;
}

/* --- arrivals --- */

/* ns from one arrival to the next. */
static int64_t arrival_gap(uint64_t *rng) {
  double ms = opt.period_ms;
  if (opt.poisson) {
    *rng ^= *rng << 13, *rng ^= *rng >> 7, *rng ^= *rng << 17;
    double u = (double)((*rng >> 11) + 1) / 9007199254740993.0;
    ms *= -log(u);
  }
  return (int64_t)(ms * 1e6);
}

static void record(struct requester *r, int64_t intended) {
  if (r->n == r->cap) {
    r->cap = r->cap ? r->cap * 2 : 4096;
    r->samples = realloc(r->samples, r->cap * sizeof *r->samples);
    if (!r->samples) die("realloc");
  }
  r->samples[r->n++] = now_ns() - intended;
}

static void serve(struct requester *r, int64_t intended) {
  r->state = work(r->state, opt.request_iters);
  record(r, intended);
}

static void *requester_sleep(void *arg) {
  struct requester *r = arg;
  for (int64_t at = t_start + arrival_gap(&r->rng); at < t_end; at += arrival_gap(&r->rng)) {
    sleep_until(at);
    serve(r, at);
  }
  return NULL;
}

/* Reads one arrival; false at the end of the stream. */
static bool arrival_read(struct requester *r, int64_t *intended) {
  size_t got = 0;
  while (got < sizeof *intended) {
    ssize_t n = opt.via == VIA_PIPE ? read(r->fd, (char *)intended + got, sizeof *intended - got)
                                    : recv(r->fd, (char *)intended + got, sizeof *intended - got, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die("read");
    if (n == 0) return false;
    got += (size_t)n;
  }
  return true;
}

static bool requester_serve_one(struct requester *r) {
  int64_t at;
  if (!arrival_read(r, &at)) return false;
  serve(r, at);
  if (opt.via != VIA_PIPE && send(r->fd, &at, sizeof at, MSG_NOSIGNAL) != sizeof at) die("send");
  return true;
}

static void *requester_stream(void *arg) {
  struct requester *r = arg;
  while (requester_serve_one(r)) {
  }
  close(r->fd);
  return NULL;
}

/* One thread for all connections. */
static void *requester_epoll(void *arg) {
  int ep = epoll_create1(EPOLL_CLOEXEC);
  long open_fds = opt.requesters;
  if (ep < 0) die("epoll_create1");
  for (long i = 0; i < opt.requesters; i++) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &requesters[i]};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, requesters[i].fd, &ev)) die("epoll_ctl");
  }
  while (open_fds > 0) {
    struct epoll_event ev[16];
    int n = epoll_wait(ep, ev, 16, -1);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < n; i++) {
      struct requester *r = ev[i].data.ptr;
      if (requester_serve_one(r)) continue;
      close(r->fd);
      open_fds--;
    }
  }
  close(ep);
  return arg;
}

/* --- the generator process --- */

static void generator_leave_cgroup(void) {
  if (!opt.generator_procs) return;
  int fd = open(opt.generator_procs, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) die(opt.generator_procs);
  close(fd);
}

static void generator_connect(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (long i = 0; i < opt.requesters; i++) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    requesters[i].fd = fd;
  }
}

/* Sends every arrival of its requester at its time, never waits for an answer. */
static void *generator_thread(void *arg) {
  struct requester *r = arg;
  for (int64_t at = t_start + arrival_gap(&r->rng); at < t_end; at += arrival_gap(&r->rng)) {
    char sink[512];
    sleep_until(at);
    if (write(r->fd, &at, sizeof at) != sizeof at) break;
    if (opt.via != VIA_PIPE) (void)!recv(r->fd, sink, sizeof sink, MSG_DONTWAIT);
  }
  if (opt.via != VIA_PIPE) {
    char sink[512];
    shutdown(r->fd, SHUT_WR);
    while (recv(r->fd, sink, sizeof sink, 0) > 0) {
    }
  }
  close(r->fd);
  return NULL;
}

/* `spec`: start, end, then a port, or the pipes' descriptors. */
static int generator_main(const char *spec) {
  char *p;
  generator_leave_cgroup();
  t_start = strtoll(spec, &p, 10);
  t_end = strtoll(p, &p, 10);
  if (opt.via != VIA_PIPE) generator_connect((int)strtol(p, &p, 10));
  for (long i = 0; i < opt.requesters; i++) {
    if (opt.via == VIA_PIPE) requesters[i].fd = (int)strtol(p, &p, 10);
    requesters[i].rng = 88172645463325252ULL + (uint64_t)i * 7919;
    if (pthread_create(&requesters[i].thread, NULL, generator_thread, &requesters[i])) die("pthread_create");
  }
  for (long i = 0; i < opt.requesters; i++) pthread_join(requesters[i].thread, NULL);
  return 0;
}

static pid_t generator_exec(const char *spec) {
  char requesters_s[24], period_s[32];
  snprintf(requesters_s, sizeof requesters_s, "%ld", opt.requesters);
  snprintf(period_s, sizeof period_s, "%.9g", opt.period_ms);
  char *argv[16] = {(char *)"mixed",        (char *)"--generator", (char *)spec,          (char *)"--via", (char *)via_names[opt.via],
                    (char *)"--requesters", requesters_s,          (char *)"--period-ms", period_s};
  int n = 9;
  if (opt.poisson) argv[n++] = (char *)"--poisson";
  if (opt.generator_procs) argv[n++] = (char *)"--generator-procs", argv[n++] = (char *)opt.generator_procs;
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    unsetenv("LD_PRELOAD");
    execv("/proc/self/exe", argv);
    _exit(127);
  }
  return pid;
}

/* Makes the pipes or connections, and starts the generator. */
static pid_t generator_start(void) {
  char spec[128 + REQUESTERS_MAX * 12];
  int at = snprintf(spec, sizeof spec, "%lld %lld", (long long)t_start, (long long)t_end);
  if (opt.via == VIA_PIPE) {
    int wr[REQUESTERS_MAX];
    for (long i = 0; i < opt.requesters; i++) {
      int p[2];
      if (pipe(p)) die("pipe");
      fcntl(p[0], F_SETFD, FD_CLOEXEC);
      requesters[i].fd = p[0], wr[i] = p[1];
      at += snprintf(spec + at, sizeof spec - (size_t)at, " %d", p[1]);
    }
    pid_t pid = generator_exec(spec);
    for (long i = 0; i < opt.requesters; i++) close(wr[i]);
    return pid;
  }
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof sa;
  int ls = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (ls < 0 || bind(ls, (struct sockaddr *)&sa, sizeof sa) || listen(ls, REQUESTERS_MAX)) die("listen");
  if (getsockname(ls, (struct sockaddr *)&sa, &len)) die("getsockname");
  snprintf(spec + at, sizeof spec - (size_t)at, " %d", ntohs(sa.sin_port));
  pid_t pid = generator_exec(spec);
  for (long i = 0; i < opt.requesters; i++) {
    int one = 1, fd = accept4(ls, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    requesters[i].fd = fd;
  }
  close(ls);
  return pid;
}

/* --- batch --- */

static void *batch_thread(void *arg) {
  struct batch *b = arg;
  uint64_t units = 0;
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    b->state = work(b->state, opt.unit_iters);
    atomic_store_explicit(&b->units, ++units, memory_order_relaxed);
  }
  return NULL;
}

/*
 * Batch work is counted from the end of the warm-up on.  Where that leaves whole periods of the quota it is the same at whatever point of a period it begins; counted
 * from the start, who uses a period's quota in its first half has done the work of one period more than has passed.
 */
struct count {
  uint64_t units, least, most;
  int64_t at;
};

static struct count count_at(int64_t at) {
  struct count c = {.least = opt.batch ? UINT64_MAX : 0};
  sleep_until(at);
  for (long i = 0; i < opt.batch; i++) {
    uint64_t u = atomic_load_explicit(&batches[i].units, memory_order_relaxed);
    c.units += u;
    if (u < c.least) c.least = u;
    if (u > c.most) c.most = u;
  }
  c.at = now_ns();
  return c;
}

/* --- results --- */

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* The smallest sample that at least q of all samples do not exceed, in µs. */
static double quantile_us(const int64_t *s, size_t n, double q) {
  if (n == 0) return 0;
  size_t i = (size_t)ceil(q * (double)n);
  return (double)s[i ? i - 1 : 0] / 1e3;
}

static int64_t *merge_samples(size_t *n) {
  size_t total = 0;
  for (long i = 0; i < opt.requesters; i++) total += requesters[i].n;
  int64_t *all = malloc((total + 1) * sizeof *all);
  if (!all) die("malloc");
  *n = 0;
  for (long i = 0; i < opt.requesters; i++) {
    if (requesters[i].n) memcpy(all + *n, requesters[i].samples, requesters[i].n * sizeof *all);
    *n += requesters[i].n;
  }
  qsort(all, total, sizeof *all, by_value);
  return all;
}

/* Every sample in order with its quantile: "µs quantile" a line, as gnuplot likes it. */
static void write_hist(const int64_t *s, size_t n) {
  FILE *f = fopen(opt.hist, "we");
  if (!f) die(opt.hist);
  for (size_t i = 0; i < n; i++) fprintf(f, "%.1f %.6f\n", (double)s[i] / 1e3, (double)(i + 1) / (double)n);
  if (fclose(f)) die(opt.hist);
}

struct result {
  double p50, p90, p99, p999, max, seconds, cpu_seconds, rate;
  uint64_t units, least, most;
  size_t n;
};

static void print_result(const struct result *r) {
  if (opt.json) {
    printf(
        "{\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"requests\": %zu, "
        "\"batch_units\": %llu, \"batch_rate\": %.2f, \"batch_least\": %llu, \"batch_most\": %llu, \"seconds\": %.3f, "
        "\"cpu_seconds\": %.3f, \"ncpus\": %ld, \"threads\": %ld, \"unit_iters\": %ld, \"request_iters\": %ld}\n",
        r->p50, r->p90, r->p99, r->p999, r->max, r->n, (unsigned long long)r->units, r->rate, (unsigned long long)r->least,
        (unsigned long long)r->most, r->seconds, r->cpu_seconds, sysconf(_SC_NPROCESSORS_ONLN),
        1 + opt.batch +
            (opt.no_requests        ? 0
             : opt.via == VIA_EPOLL ? 1
                                    : opt.requesters),
        opt.unit_iters, opt.request_iters);
    return;
  }
  if (!opt.no_requests)
    printf("requests %zu: p50 %.0f  p90 %.0f  p99 %.0f  p99.9 %.0f  max %.0f us\n", r->n, r->p50, r->p90, r->p99, r->p999, r->max);
  printf("batch %llu units in %.2f s, %.1f a second (least %llu, most %llu a thread); %.2f CPU s; sees %ld CPUs\n",
         (unsigned long long)r->units, r->seconds, r->rate, (unsigned long long)r->least, (unsigned long long)r->most, r->cpu_seconds,
         sysconf(_SC_NPROCESSORS_ONLN));
}

/* ns per iteration: the best of several short runs, so that a busy machine doesn't make the work smaller. */
static double calibrate_ns(void) {
  double best = 1e9;
  for (int i = 0; i < 40; i++) {
    int64_t t0 = now_ns();
    requesters[0].state = work(requesters[0].state, 100000);
    double ns = (double)(now_ns() - t0) / 100000;
    if (ns < best) best = ns;
  }
  return best;
}

/* --- main --- */

static void usage(FILE *f) {
  fprintf(f,
          "mixed [options]\n"
          "  --seconds S          how long (6)\n"
          "  --warmup S           the rate of batch work is counted after so long (0)\n"
          "  --batch N            batch threads (8)\n"
          "  --unit-iters N       iterations of a work unit (20000)\n"
          "  --period-ms MS       between requests of a requester (7); --poisson: exponential gaps\n"
          "  --request-us US      CPU time of a request, calibrated at start (200); or exactly:\n"
          "  --request-iters N    iterations of a request; --request-units N: the same in units\n"
          "  --requesters N       request threads, or connections with epoll (1)\n"
          "  --via sleep|pipe|tcp|epoll   how a request arrives (sleep)\n"
          "  --generator-procs F  cgroup.procs file that the generator process joins\n"
          "  --no-requests        batch only\n"
          "  --hist FILE          every latency in order: us, quantile\n"
          "  --json               one JSON object\n"
          "  --calibrate          prints the iterations of --request-us and exits\n");
}

static long number(const char *s, long low, long high) {
  char *end;
  errno = 0;
  long v = strtol(s, &end, 10);
  if (errno || *end || end == s || v < low || v > high) {
    fprintf(stderr, "mixed: %s: not a number from %ld to %ld\n", s, low, high);
    exit(2);
  }
  return v;
}

static double real(const char *s) {
  char *end;
  double v = strtod(s, &end);
  if (*end || end == s || !(v > 0) || v > 1e7) {
    fprintf(stderr, "mixed: %s: not a positive number\n", s);
    exit(2);
  }
  return v;
}

static enum via via_parse(const char *s) {
  for (int i = 0; i < 4; i++)
    if (!strcmp(s, via_names[i])) return (enum via)i;
  fprintf(stderr, "mixed: --via %s: sleep, pipe, tcp or epoll\n", s);
  exit(2);
}

static const struct option longopts[] = {{"seconds", 1, NULL, 's'},
                                         {"warmup", 1, NULL, 'w'},
                                         {"batch", 1, NULL, 'b'},
                                         {"period-ms", 1, NULL, 'p'},
                                         {"request-us", 1, NULL, 'r'},
                                         {"request-iters", 1, NULL, 'i'},
                                         {"request-units", 1, NULL, 'u'},
                                         {"unit-iters", 1, NULL, 'n'},
                                         {"requesters", 1, NULL, 'q'},
                                         {"via", 1, NULL, 'v'},
                                         {"generator-procs", 1, NULL, 'g'},
                                         {"generator", 1, NULL, 'G'},
                                         {"poisson", 0, NULL, 'P'},
                                         {"no-requests", 0, NULL, 'N'},
                                         {"hist", 1, NULL, 'H'},
                                         {"json", 0, NULL, 'j'},
                                         {"calibrate", 0, NULL, 'c'},
                                         {"help", 0, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};

static void parse(int argc, char **argv) {
  int c;
  while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) switch (c) {
      case 's':
        opt.seconds = real(optarg);
        break;
      case 'w':
        opt.warmup = real(optarg);
        break;
      case 'b':
        opt.batch = number(optarg, 0, BATCH_MAX);
        break;
      case 'p':
        opt.period_ms = real(optarg);
        break;
      case 'r':
        opt.request_us = real(optarg);
        break;
      case 'i':
        opt.request_iters = number(optarg, 1, 1L << 40);
        break;
      case 'u':
        opt.request_units = number(optarg, 1, 1L << 20);
        break;
      case 'n':
        opt.unit_iters = number(optarg, 1, 1L << 30);
        break;
      case 'q':
        opt.requesters = number(optarg, 1, REQUESTERS_MAX);
        break;
      case 'v':
        opt.via = via_parse(optarg);
        break;
      case 'g':
        opt.generator_procs = optarg;
        break;
      case 'G':
        opt.generator = optarg;
        break;
      case 'P':
        opt.poisson = true;
        break;
      case 'N':
        opt.no_requests = true;
        break;
      case 'H':
        opt.hist = optarg;
        break;
      case 'j':
        opt.json = true;
        break;
      case 'c':
        opt.calibrate = true;
        break;
      case 'h':
        usage(stdout);
        exit(0);
      default:
        usage(stderr);
        exit(2);
    }
  if (opt.request_units) opt.request_iters = opt.request_units * opt.unit_iters;
  if (opt.warmup >= opt.seconds) {
    fprintf(stderr, "mixed: --warmup must be less than --seconds\n");
    exit(2);
  }
}

static void start_threads(void) {
  void *(*run)(void *) = opt.via == VIA_SLEEP ? requester_sleep : opt.via == VIA_EPOLL ? requester_epoll : requester_stream;
  for (long i = 0; i < opt.batch; i++)
    if (pthread_create(&batches[i].thread, NULL, batch_thread, &batches[i])) die("pthread_create");
  for (long i = 0; !opt.no_requests && i < opt.requesters; i++) {
    requesters[i].rng = 88172645463325252ULL + (uint64_t)i * 7919;
    if (opt.via == VIA_EPOLL && i > 0) continue;
    if (pthread_create(&requesters[i].thread, NULL, run, &requesters[i])) die("pthread_create");
  }
}

static void join_threads(pid_t generator) {
  for (long i = 0; i < opt.batch; i++) pthread_join(batches[i].thread, NULL);
  for (long i = 0; !opt.no_requests && i < (opt.via == VIA_EPOLL ? 1 : opt.requesters); i++) pthread_join(requesters[i].thread, NULL);
  int status = 0;
  if (generator > 0 && (waitpid(generator, &status, 0) != generator || status != 0)) {
    fprintf(stderr, "mixed: the generator failed (status %d)\n", status);
    exit(1);
  }
}

int main(int argc, char **argv) {
  struct result res = {0};
  struct rusage ru;
  pid_t generator = 0;
  parse(argc, argv);
  if (opt.generator) return generator_main(opt.generator);
  if (!opt.request_iters) opt.request_iters = (long)(opt.request_us * 1e3 / calibrate_ns());
  if (opt.calibrate) {
    printf("%ld\n", opt.request_iters);
    return 0;
  }

  t_start = now_ns() + 10000000;
  t_end = t_start + (int64_t)(opt.seconds * 1e9);
  if (!opt.no_requests && opt.via != VIA_SLEEP) generator = generator_start();
  start_threads();
  struct count first = {.at = t_start};
  if (opt.warmup > 0) first = count_at(t_start + (int64_t)(opt.warmup * 1e9));
  struct count last = count_at(t_end);
  res.units = last.units, res.least = last.least, res.most = last.most;
  res.seconds = (double)(last.at - t_start) / 1e9;
  atomic_store_explicit(&stop, true, memory_order_relaxed);
  join_threads(generator);

  getrusage(RUSAGE_SELF, &ru);
  res.cpu_seconds = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
  res.rate = (double)(last.units - first.units) * 1e9 / (double)(last.at - first.at);
  int64_t *s = merge_samples(&res.n);
  res.p50 = quantile_us(s, res.n, 0.5), res.p90 = quantile_us(s, res.n, 0.9), res.p99 = quantile_us(s, res.n, 0.99);
  res.p999 = quantile_us(s, res.n, 0.999), res.max = quantile_us(s, res.n, 1);
  if (opt.hist && !opt.no_requests) write_hist(s, res.n);
  print_result(&res);
  free(s);
  return 0;
}
