/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memload: load for memcached on loopback, by the text protocol, at a fixed rate.
 *
 *   memload --port P [--seconds S] [--rate R] [--connections N] [--size BYTES] [--hist FILE] [--json]
 *
 * Open loop: request i of a connection is due at start + i * gap whether or not the earlier ones were answered, and its
 * latency counts from then.  One thread, epoll, pipelined; nine gets for one set.  An answer that is not
 * STORED or the value that was set is an error, and the exit status says so.  --rate 0: a closed loop, in which each connection's next
 * request goes out when it has been answered.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNS_MAX 256
#define PENDING 8192 /* requests in flight of one connection */
#define SIZE_MAX_ 4096

struct conn {
  int fd;
  int64_t due[PENDING]; /* ring: when each request in flight was due */
  uint32_t head, tail;
  int64_t next;  /* the next request is due then */
  uint64_t sent; /* decides get or set */
  char in[16384];
  size_t nin;
};

static double seconds = 5, rate = 5000;
static long port, connections = 8, size = 64;
static const char *hist;
static bool json;
static struct conn *conns;
static char value[SIZE_MAX_ + 1];
static int64_t *samples;
static size_t nsamples, cap;
static uint64_t errors, overruns;
static int64_t end; /* of the load */

static void die(const char *what) {
  fprintf(stderr, "memload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void record(int64_t ns) {
  if (nsamples == cap) {
    cap = cap ? cap * 2 : 65536;
    samples = realloc(samples, cap * sizeof *samples);
    if (!samples) die("realloc");
  }
  samples[nsamples++] = ns;
}

static void send_all(struct conn *c, const char *buf, size_t len) {
  while (len) {
    ssize_t n = send(c->fd, buf, len, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die("send");
    buf += n, len -= (size_t)n;
  }
}

static void send_request(struct conn *c) {
  char buf[SIZE_MAX_ + 64];
  int n;
  if (c->head - c->tail == PENDING) {
    overruns++;
    return;
  }
  if (c->sent++ % 10 == 0)
    n = snprintf(buf, sizeof buf, "set key 0 0 %ld\r\n%s\r\n", size, value);
  else
    n = snprintf(buf, sizeof buf, "get key\r\n");
  c->due[c->head++ % PENDING] = c->next;
  send_all(c, buf, (size_t)n);
}

/* Length of the first whole answer in the buffer, 0 if it isn't all there yet. */
static size_t answer_length(struct conn *c, bool *good) {
  char *nl = memchr(c->in, '\n', c->nin);
  if (!nl) return 0;
  size_t line = (size_t)(nl - c->in) + 1;
  *good = true;
  if (!strncmp(c->in, "STORED", 6)) return line;
  if (!strncmp(c->in, "VALUE", 5)) {
    size_t all = line + (size_t)size + 2 + 5; /* data, CRLF, END CRLF */
    if (c->nin < all) return 0;
    *good = !memcmp(c->in + line, value, (size_t)size) && !memcmp(c->in + line + size, "\r\nEND\r\n", 7);
    return all;
  }
  *good = false;
  return line;
}

static void receive(struct conn *c) {
  ssize_t n = recv(c->fd, c->in + c->nin, sizeof c->in - c->nin, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) die("recv");
  c->nin += (size_t)n;
  int64_t now = now_ns();
  size_t len, at = 0;
  bool good;
  while ((len = answer_length(c, &good)) > 0) {
    if (!good || c->head == c->tail) errors++;
    if (c->head != c->tail) record(now - c->due[c->tail++ % PENDING]);
    c->nin -= len, at += len;
    memmove(c->in, c->in + len, c->nin);
    if (!(rate > 0) && now < end) c->next = now;
  }
}

static void conn_open(struct conn *c, int ep) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev)) die("epoll_ctl");
}

/* Sends what is due by now; returns when the next is due. */
static int64_t send_due(int64_t now, int64_t gap) {
  int64_t next = INT64_MAX;
  for (long i = 0; i < connections; i++) {
    struct conn *c = &conns[i];
    for (; c->next <= now && c->next < end; c->next += gap) send_request(c);
    if (c->next < next) next = c->next;
  }
  return next;
}

static bool all_answered(void) {
  for (long i = 0; i < connections; i++)
    if (conns[i].head != conns[i].tail) return false;
  return true;
}

static void load(int ep) {
  int64_t start = now_ns(), gap = rate > 0 ? (int64_t)((double)connections / rate * 1e9) : INT64_MAX / 4;
  struct epoll_event ev[64];
  end = start + (int64_t)(seconds * 1e9);
  for (long i = 0; i < connections; i++) conns[i].next = rate > 0 ? start + gap * i / connections : start;
  for (;;) {
    int64_t now = now_ns(), next = send_due(now, gap);
    if (now >= end && (all_answered() || now > end + 5000000000LL)) break;
    int64_t wait = next < end ? next - now : 10000000;
    struct timespec ts = {.tv_sec = 0, .tv_nsec = wait < 0 ? 0 : wait > 50000000 ? 50000000 : wait};
    int n = epoll_pwait2(ep, ev, 64, &ts, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) receive(ev[i].data.ptr);
  }
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static double quantile_us(double q) {
  size_t i = (size_t)ceil(q * (double)nsamples);
  return nsamples ? (double)samples[i ? i - 1 : 0] / 1e3 : 0;
}

static void print_result(void) {
  qsort(samples, nsamples, sizeof *samples, by_value);
  printf(json ? "{\"requests\": %zu, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
                "\"errors\": %llu, \"overruns\": %llu}\n"
              : "requests %zu: p50 %.0f  p90 %.0f  p99 %.0f  p99.9 %.0f  max %.0f us; %llu errors, %llu not sent\n",
         nsamples, quantile_us(0.5), quantile_us(0.9), quantile_us(0.99), quantile_us(0.999), quantile_us(1), (unsigned long long)errors,
         (unsigned long long)overruns);
  if (!hist) return;
  FILE *f = fopen(hist, "we");
  if (!f) die(hist);
  for (size_t i = 0; i < nsamples; i++) fprintf(f, "%.1f %.6f\n", (double)samples[i] / 1e3, (double)(i + 1) / (double)nsamples);
  if (fclose(f)) die(hist);
}

static const struct option longopts[] = {{"port", 1, NULL, 'p'},        {"seconds", 1, NULL, 's'}, {"rate", 1, NULL, 'r'},
                                         {"connections", 1, NULL, 'c'}, {"size", 1, NULL, 'z'},    {"hist", 1, NULL, 'H'},
                                         {"json", 0, NULL, 'j'},        {NULL, 0, NULL, 0}};

int main(int argc, char **argv) {
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) switch (o) {
      case 'p':
        port = atol(optarg);
        break;
      case 's':
        seconds = atof(optarg);
        break;
      case 'r':
        rate = atof(optarg);
        break;
      case 'c':
        connections = atol(optarg);
        break;
      case 'z':
        size = atol(optarg);
        break;
      case 'H':
        hist = optarg;
        break;
      case 'j':
        json = true;
        break;
      default:
        return 2;
    }
  if (port <= 0 || port > 65535 || connections < 1 || connections > CONNS_MAX || size < 1 || size > SIZE_MAX_ || !(rate >= 0) ||
      !(seconds > 0)) {
    fprintf(stderr, "memload --port P [--seconds S] [--rate R] [--connections N] [--size BYTES] [--hist FILE] [--json]\n");
    return 2;
  }
  memset(value, 'v', (size_t)size);
  conns = calloc((size_t)connections, sizeof *conns);
  int ep = epoll_create1(EPOLL_CLOEXEC);
  if (!conns || ep < 0) die("start");
  for (long i = 0; i < connections; i++) conn_open(&conns[i], ep);
  load(ep);
  print_result();
  if (!all_answered()) fprintf(stderr, "memload: some requests were never answered\n");
  return errors || !all_answered();
}
