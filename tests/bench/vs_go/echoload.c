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
 * By io_uring: a receive for each connection that stays armed, and a send for each request, hundreds of them to a system call.  A generator
 * with epoll costs as much a request as the leanest server, and on a CPU of its own would be what is measured.
 */
#include "vs_go.h"
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE_MAX_ 1024
#define RING 4096    /* requests to one system call, at most */
#define BUFFERS 8192 /* of SIZE_MAX_ bytes, for what has come and was not looked at */

struct conn {
  int fd;
  int got;      /* bytes of the answer so far */
  int64_t sent; /* when the request was written */
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
static struct io_uring ring;
static struct io_uring_buf_ring *free_buffers;
static char (*buffers)[SIZE_MAX_];

static struct io_uring_sqe *next_sqe(void) {
  struct io_uring_sqe *s = io_uring_get_sqe(&ring);
  if (s) return s;
  must(io_uring_submit(&ring) < 0 ? -errno : 0, "echoload: io_uring_submit");
  return io_uring_get_sqe(&ring);
}

static void request(struct conn *c, int64_t now) {
  struct io_uring_sqe *s = next_sqe();
  c->sent = now;
  c->got = 0;
  io_uring_prep_send(s, c->fd, payload, (size_t)size, MSG_WAITALL);
  s->flags |= IOSQE_CQE_SKIP_SUCCESS;
  io_uring_sqe_set_data(s, NULL);
}

/* Whatever comes from c is put into a free buffer. */
static void listen_to(struct conn *c) {
  struct io_uring_sqe *s = next_sqe();
  io_uring_prep_recv_multishot(s, c->fd, NULL, 0, 0);
  s->flags |= IOSQE_BUFFER_SELECT;
  s->buf_group = 0;
  io_uring_sqe_set_data(s, c);
}

/* What has come.  True: the answer is whole. */
static bool answered(struct conn *c, const struct io_uring_cqe *e) {
  if (e->res == -ENOBUFS) return false;
  if (e->res <= 0) must(e->res ? e->res : -ECONNRESET, "echoload: receive");
  unsigned b = e->flags >> IORING_CQE_BUFFER_SHIFT;
  if (c->got + e->res > size || memcmp(buffers[b], payload + c->got, (size_t)e->res) != 0) {
    fprintf(stderr, "echoload: the answer is not what was sent\n");
    exit(1);
  }
  c->got += e->res;
  io_uring_buf_ring_add(free_buffers, buffers[b], SIZE_MAX_, (unsigned short)b, BUFFERS - 1, 0);
  io_uring_buf_ring_advance(free_buffers, 1);
  return c->got == size;
}

static void open_ring(void) {
  struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                              .cq_entries = 4 * RING};
  struct io_uring_buf_reg reg = {.ring_entries = BUFFERS};
  must(io_uring_queue_init_params(RING, &ring, &p), "echoload: io_uring (Linux 6.1; may be switched off: kernel.io_uring_disabled)");
  size_t bytes = BUFFERS * sizeof(struct io_uring_buf);
  free_buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  buffers = calloc(BUFFERS, sizeof *buffers);
  if (free_buffers == MAP_FAILED || !buffers) die("echoload");
  reg.ring_addr = (uint64_t)(uintptr_t)free_buffers;
  must(io_uring_register_buf_ring(&ring, &reg, 0), "echoload: io_uring_register_buf_ring");
  io_uring_buf_ring_init(free_buffers);
  for (unsigned b = 0; b < BUFFERS; b++) io_uring_buf_ring_add(free_buffers, buffers[b], SIZE_MAX_, (unsigned short)b, BUFFERS - 1, (int)b);
  io_uring_buf_ring_advance(free_buffers, BUFFERS);
}

static void open_all(struct conn *conns, int n, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct linger reset = {.l_onoff = 1}; /* no TIME_WAIT: the ports are needed again */
  int one = 1;
  for (int i = 0; i < n; i++) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("echoload: socket");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("echoload: connect");
    conns[i].fd = fd;
    listen_to(&conns[i]);
  }
}

/* CPU time of a process; 0: this one. */
static int64_t cpu_ns(pid_t pid) {
  struct timespec ts;
  clockid_t clock;
  if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts)) return 0;
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/*
 * First until each has been answered once: then the server has all it needs.  (None has a second request before that: a server of 2,000 threads that are kept busy may never come to accept the
 * others.)  Then the quarter, and then it counts.
 */
static struct run {
  enum { FIRST, WARM, COUNT, OVER } phase;
  struct conn *conns;
  int n;
  long unanswered;
  double seconds;
  pid_t server;
  int64_t until, count_from, count_to, cpu_from, server_from;
} run;

static void look_at(struct conn *c, const struct io_uring_cqe *e) {
  if (!c) must(e->res < 0 ? e->res : -EIO, "echoload: send"); /* a send that went well says nothing */
  if (answered(c, e)) {
    int64_t now = now_ns();
    if (run.phase == COUNT) {
      histogram[bucket_of((uint64_t)(now - c->sent))]++;
      counted++;
    }
    if (run.phase == FIRST)
      run.unanswered--;
    else
      request(c, now);
  }
  if (!(e->flags & IORING_CQE_F_MORE)) listen_to(c);
}

static void next_phase(int64_t now) {
  if (run.phase == FIRST && run.unanswered == 0) {
    run.phase = WARM;
    for (int i = 0; i < run.n; i++) request(&run.conns[i], now);
    run.until = now + (int64_t)(run.seconds * 0.25e9);
  } else if (run.phase == WARM && now >= run.until) {
    run.phase = COUNT;
    run.count_from = now;
    run.cpu_from = cpu_ns(0);
    run.server_from = cpu_ns(run.server);
    run.until = now + (int64_t)(run.seconds * 0.75e9);
  } else if (run.phase == COUNT && now >= run.until) {
    run.phase = OVER;
    run.count_to = now;
  }
}

static void load_it(void) {
  struct __kernel_timespec patience = {.tv_sec = 5};
  while (run.phase != OVER) {
    struct io_uring_cqe *e;
    unsigned head, n = 0;
    int r = io_uring_submit_and_wait_timeout(&ring, &e, 1, &patience, NULL);
    if (r < 0 && r != -EINTR) must(r, "echoload: no answer for 5 s, or io_uring_enter");
    io_uring_for_each_cqe(&ring, head, e) {
      look_at(io_uring_cqe_get_data(e), e);
      n++;
    }
    io_uring_cq_advance(&ring, n);
    next_phase(now_ns());
  }
}

int main(int argc, char **argv) {
  int port = argc > 3 ? atoi(argv[1]) : 0, n = argc > 3 ? atoi(argv[2]) : 0;
  run.seconds = argc > 3 ? atof(argv[3]) : 0;
  run.server = argc > 4 ? atoi(argv[4]) : 0;
  if (argc > 5) size = atoi(argv[5]);
  if (port <= 0 || n <= 0 || run.seconds <= 0 || size <= 0 || size > SIZE_MAX_) {
    fprintf(stderr, "usage: echoload PORT CONNS SECONDS [PID [SIZE]]\n");
    return 2;
  }
  for (int i = 0; i < size; i++) payload[i] = (char)(i * 7 + 1);

  struct conn *conns = calloc((size_t)n, sizeof *conns);
  if (!conns) die("echoload");
  open_ring();
  open_all(conns, n, port);
  run.conns = conns;
  run.n = n;
  run.unanswered = n;
  for (int i = 0; i < n; i++) request(&conns[i], now_ns());
  load_it();

  double took = (double)(run.count_to - run.count_from);
  figure("rps", (double)counted * 1e9 / took);
  figure("p50_ns", quantile(0.50));
  figure("p99_ns", quantile(0.99));
  figure("busy", (double)(cpu_ns(0) - run.cpu_from) / took);
  if (run.server) {
    double used = (double)(cpu_ns(run.server) - run.server_from);
    figure("server_busy", used / took);
    if (used > 0) figure("rpcs", (double)counted * 1e9 / used);
  }
  io_uring_queue_exit(&ring);
  for (int i = 0; i < n; i++) close(conns[i].fd);
  free(conns);
  free(buffers);
  return 0;
}
