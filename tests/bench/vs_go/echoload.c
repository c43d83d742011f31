/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echoload: the one load generator for all echo servers of this benchmark.  Loopback only.
 *
 *   echoload PORT CONNS SECONDS [PID [SIZE]]
 *
 * Closed loop: each of CONNS connections has one request of SIZE bytes (64) under way; when its answer is whole the next one goes out.
 * Latency: from just before a request is written until its answer is found, so it includes what the generator itself is late.  The time
 * begins when each connection has been answered once, and its first quarter does not count.
 *
 * Prints "figure value": rps, p50_ns, p99_ns, and
 *   busy         the fraction of its own CPU that the generator used; near 1 it is the generator that is measured, not the server
 *   server_busy  the same of the server, process PID
 *   rpcs         requests for each second of CPU time that the server used
 *
 * Sockets are edge-triggered and an answer is one segment, so a request costs the generator a read, a write and a share of an epoll_wait.
 */
#include "vs_go.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE_MAX_ 1024
#define BATCH 512

struct conn {
  int fd;
  int got;      /* bytes of the answer so far */
  int64_t sent; /* when the request was written */
  bool met;     /* answered at least once */
};

/* Latencies: 128 buckets for each power of two, so off by less than 1 %. */
#define SUB_BITS 7
#define SUB (1u << SUB_BITS)
static uint32_t histogram[(64 - SUB_BITS) * SUB];
static uint64_t counted;

static unsigned bucket_of(uint64_t ns) {
  if (ns < SUB) return (unsigned)ns;
  unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
  return (shift + 1) * SUB + (unsigned)(ns >> shift) - SUB;
}

static uint64_t bucket_value(unsigned b) {
  if (b < SUB) return b;
  unsigned shift = b / SUB - 1;
  return ((uint64_t)(b % SUB + SUB) << shift) + ((1ull << shift) >> 1);
}

static double quantile(double q) {
  uint64_t want = (uint64_t)(q * (double)counted), seen = 0;
  for (unsigned b = 0; b < sizeof histogram / sizeof *histogram; b++)
    if ((seen += histogram[b]) > want) return (double)bucket_value(b);
  return 0;
}

static int size = 64;
static char payload[SIZE_MAX_];

static void request(struct conn *c, int64_t now) {
  c->sent = now;
  c->got = 0;
  if (write(c->fd, payload, (size_t)size) != size) die("echoload: write");
}

/* Reads what has come.  True: the answer is whole. */
static bool answered(struct conn *c) {
  char buf[SIZE_MAX_];
  ssize_t n = read(c->fd, buf, sizeof buf);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) die(n ? "echoload: read" : "echoload: the server closed a connection");
  if (memcmp(buf, payload + c->got, (size_t)n) != 0) {
    fprintf(stderr, "echoload: the answer is not what was sent\n");
    exit(1);
  }
  c->got += (int)n;
  return c->got == size;
}

static void open_all(struct conn *conns, int n, int port, int epoll) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: the ports are needed again */
  int one = 1;
  for (int i = 0; i < n; i++) {
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = &conns[i]};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("echoload: socket");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("echoload: connect");
    if (fcntl(fd, F_SETFL, O_NONBLOCK)) die("echoload: fcntl");
    conns[i].fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev)) die("echoload: epoll_ctl");
  }
}

/* CPU time of a process; 0: this one. */
static int64_t cpu_ns(pid_t pid) {
  struct timespec ts;
  clockid_t clock;
  if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts)) return 0;
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv) {
  static struct epoll_event events[BATCH];
  int port = argc > 3 ? atoi(argv[1]) : 0, n = argc > 3 ? atoi(argv[2]) : 0;
  double seconds = argc > 3 ? atof(argv[3]) : 0;
  pid_t server = argc > 4 ? atoi(argv[4]) : 0;
  if (argc > 5) size = atoi(argv[5]);
  if (port <= 0 || n <= 0 || seconds <= 0 || size <= 0 || size > SIZE_MAX_) {
    fprintf(stderr, "usage: echoload PORT CONNS SECONDS [PID [SIZE]]\n");
    return 2;
  }
  for (int i = 0; i < size; i++) payload[i] = (char)(i * 7 + 1);

  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct conn *conns = calloc((size_t)n, sizeof *conns);
  if (epoll < 0 || !conns) die("echoload");
  open_all(conns, n, port, epoll);

  /* First until each has been answered once: then the server has all it needs.  Then the quarter, and then it counts. */
  enum { FIRST, WARM, COUNT } phase = FIRST;
  int64_t until = INT64_MAX, count_from = 0, cpu_from = 0, server_from = 0, now;
  long unanswered = n;
  for (int i = 0; i < n; i++) request(&conns[i], now_ns());
  for (;;) {
    int got = epoll_wait(epoll, events, BATCH, 5000);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) die("echoload: epoll_wait");
    if (got == 0) {
      fprintf(stderr, "echoload: no answer for 5 s\n");
      return 1;
    }
    now = now_ns();
    for (int i = 0; i < got; i++) {
      struct conn *c = events[i].data.ptr;
      if (!answered(c)) continue;
      now = now_ns();
      if (phase == COUNT) {
        histogram[bucket_of((uint64_t)(now - c->sent))]++;
        counted++;
      } else if (!c->met) {
        c->met = true;
        unanswered--;
      }
      request(c, now);
    }
    if (phase == FIRST && unanswered == 0) {
      phase = WARM;
      until = now + (int64_t)(seconds * 0.25e9);
    } else if (phase == WARM && now >= until) {
      phase = COUNT;
      count_from = now;
      cpu_from = cpu_ns(0);
      server_from = cpu_ns(server);
      until = now + (int64_t)(seconds * 0.75e9);
    } else if (phase == COUNT && now >= until) {
      break;
    }
  }
  double took = (double)(now - count_from);
  figure("rps", (double)counted * 1e9 / took);
  figure("p50_ns", quantile(0.50));
  figure("p99_ns", quantile(0.99));
  figure("busy", (double)(cpu_ns(0) - cpu_from) / took);
  if (server) {
    double used = (double)(cpu_ns(server) - server_from);
    figure("server_busy", used / took);
    if (used > 0) figure("rpcs", (double)counted * 1e9 / used);
  }
  for (int i = 0; i < n; i++) close(conns[i].fd);
  free(conns);
  close(epoll);
  return 0;
}
