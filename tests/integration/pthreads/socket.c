/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that main has accepted, served by threads: whatever main has said of them, or of the listener, holds there. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "checks.h"

static int listener, client;
static struct sockaddr_in at;

static void *nothing(void *arg) { return arg; }

static void listen_there(void) {
  pthread_join(start(nothing, NULL), NULL); /* whatever begins with the first thread has begun */
  listener = tcp_listen(&at);
}

static int accepted(int flags) {
  int fd;
  MUST((client = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
  MUST(connect(client, (struct sockaddr *)&at, sizeof at) == 0);
  MUST((fd = flags ? accept4(listener, NULL, NULL, flags) : accept(listener, NULL, NULL)) >= 0);
  return fd;
}

static void time_out(int fd, int ms) {
  struct timeval tv = {0, ms * 1000};
  MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
}

static void *reads(void *arg) {
  char buf[8] = "";
  SAY_CALL(" read", read((int)(intptr_t)arg, buf, sizeof buf));
  return arg;
}

/* Of a thread, twice: what is known of a connection may differ after a first read. */
static void read_there(const char *what, int fd) {
  say("%s", what);
  pthread_join(start(reads, (void *)(intptr_t)fd), NULL);
  MUST(write(client, "abc", 3) == 3);
  pthread_join(start(reads, (void *)(intptr_t)fd), NULL);
  pthread_join(start(reads, (void *)(intptr_t)fd), NULL);
  close(fd);
  close(client);
}

static void main_accepts(void) {
  int fd, one = 1;
  listen_there();
  time_out(fd = accepted(0), 30);
  read_there("its timeout", fd);
  fd = accepted(0);
  MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  read_there("its O_NONBLOCK", fd);
  read_there("accepted with it", accepted(SOCK_NONBLOCK));
  time_out(listener, 30);
  read_there("the listener's timeout", accepted(0));
  time_out(listener, 0);
  time_out(fd = accepted(0), 30);
  MUST(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
  read_there("its timeout, and another option", fd);
  close(listener);
}

/* Each waits for its own, and gets all of it, while main goes on accepting. */
static void *echoes(void *arg) {
  int fd = (int)(intptr_t)arg;
  char buf[64];
  ssize_t n, sum = 0;
  while ((n = read(fd, buf, sizeof buf)) > 0 && write(fd, buf, (size_t)n) == n) sum += n;
  close(fd);
  return (void *)sum;
}

static void main_accepts_many(void) {
  enum { MANY = 20, ROUNDS = 30 };
  int clients[MANY];
  pthread_t t[MANY];
  long sum = 0;
  listen_there();
  for (int i = 0; i < MANY; i++) {
    t[i] = start(echoes, (void *)(intptr_t)accepted(0));
    clients[i] = client;
  }
  for (int r = 0; r < ROUNDS; r++)
    for (int i = 0; i < MANY; i++) {
      char buf[64] = "";
      size_t n = (size_t)(1 + (r * 7 + i) % 64);
      MUST(write(clients[i], buf, n) == (ssize_t)n);
      MUST(recv(clients[i], buf, n, MSG_WAITALL) == (ssize_t)n);
    }
  for (int i = 0; i < MANY; i++) close(clients[i]);
  for (int i = 0; i < MANY; i++) sum += join_value(t[i]);
  say("echoed %ld", sum);
}

/* --- what is set past the usual functions --- */

/* A thread has made `client`, so that much is known of it; this is its other side. */
static int mine;

static void *makes(void *arg) {
  char buf[8];
  mine = accepted(0);
  MUST(write(mine, "abc", 3) == 3 && read(client, buf, sizeof buf) == 3);
  return arg;
}

/* How a read of it is in a thread. */
static void waits(const char *what) {
  say("%s", what);
  pthread_join(start(reads, (void *)(intptr_t)client), NULL);
  close(client);
  close(mine);
}

static void fresh(void) { pthread_join(start(makes, NULL), NULL); }

static void set_raw(void) {
  int on = 1, p[2];
  struct timeval tv = {0, 30000};
  int64_t new_tv[2] = {0, 30000};
  listen_there();
  fresh();
  MUST(syscall(SYS_fcntl, client, F_SETFL, O_NONBLOCK) == 0);
  waits("fcntl");
  fresh();
  MUST(syscall(SYS_ioctl, client, FIONBIO, &on) == 0);
  waits("ioctl");
  fresh();
  MUST(syscall(SYS_setsockopt, client, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
  waits("setsockopt");
  fresh();
  MUST(setsockopt(client, SOL_SOCKET, 66 /* SO_RCVTIMEO_NEW */, new_tv, sizeof new_tv) == 0);
  waits("another number");
  fresh();
  MUST((p[0] = (int)syscall(SYS_dup, client)) >= 0 && fcntl(p[0], F_SETFL, O_NONBLOCK) == 0);
  waits("by a copy");
  close(p[0]);
  close(listener);
}

static void set_by_child(void) {
  struct timeval tv = {0, 30000};
  listen_there();
  for (int i = 0; i < 2; i++) {
    fresh();
    pid_t child = fork();
    if (child == 0) _exit((i ? setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) : fcntl(client, F_SETFL, O_NONBLOCK)) != 0);
    MUST(waitpid(child, NULL, 0) == child);
    waits(i ? "timeout" : "O_NONBLOCK");
  }
  close(listener);
}

static void set_where_sent(void) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  char byte = 'x';
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  int pair[2], got;
  listen_there();
  fresh();
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  memset(&control, 0, sizeof control);
  control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
  memcpy(CMSG_DATA(&control.align), &client, sizeof client);
  MUST(sendmsg(pair[0], &m, 0) == 1);
  m.msg_controllen = sizeof control;
  MUST(recvmsg(pair[1], &m, 0) == 1);
  memcpy(&got, CMSG_DATA(&control.align), sizeof got);
  MUST(fcntl(got, F_SETFL, O_NONBLOCK) == 0);
  waits("sent");
  close(got), close(pair[0]), close(pair[1]), close(listener);
}

/* The number is another file's. */
static void *reads_event(void *arg) {
  uint64_t count = 0;
  MUST(read((int)(intptr_t)arg, &count, sizeof count) == sizeof count);
  return (void *)(intptr_t)count;
}

static void closed_raw(void) {
  listen_there();
  for (int i = 0; i < 2; i++) {
    fresh();
    pthread_t t = start(reads, (void *)(intptr_t)client);
    nap(20);
    MUST(write(mine, "abc", 3) == 3);
    pthread_join(t, NULL);
    int old = client, ev;
    MUST((i ? syscall(SYS_close_range, old, old, 0) : syscall(SYS_close, old)) == 0);
    MUST((ev = eventfd(0, 0)) == old);
    t = start(reads_event, (void *)(intptr_t)ev);
    nap(20);
    MUST(write(ev, &(uint64_t){5}, 8) == 8);
    say("%ld", (long)join_value(t));
    close(ev);
    close(mine);
  }
  close(listener);
}

const struct check socket_checks[] = {CHECK(main_accepts),   CHECK(main_accepts_many), CHECK(set_raw), CHECK(set_by_child),
                                      CHECK(set_where_sent), CHECK(closed_raw),        CHECKS_END};
