/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that main has accepted, served by threads: whatever main has said of them, or of the listener, holds there. */
#include <fcntl.h>
#include <netinet/tcp.h>
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

const struct check socket_checks[] = {CHECK(main_accepts), CHECK(main_accepts_many), CHECKS_END};
