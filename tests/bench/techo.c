/* SPDX-License-Identifier: Apache-2.0 */
/*
 * techo: a TCP echo server as books have it, a thread for each connection, by plain pthreads.  No part of ration is linked in.  Loopback only.
 *
 *   techo [--stack KIB]      prints "port N" and serves until it is ended; without --stack threads have the stack that pthreads give them
 */
#include "vs_go/vs_go.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

static bool write_all(int fd, const char *p, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, p, len);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    len -= (size_t)n;
  }
  return true;
}

static void *serve(void *arg) {
  char buf[4096];
  int fd = (int)(intptr_t)arg;
  ssize_t n;
  do {
    n = read(fd, buf, sizeof buf);
  } while (n < 0 ? errno == EINTR : n > 0 && write_all(fd, buf, (size_t)n));
  close(fd);
  return NULL;
}

static int listener(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&at, &len))
    die("techo: listen");
  figure("port", ntohs(at.sin_port));
  fflush(stdout);
  return fd;
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"stack", 1, NULL, 's'}, {NULL, 0, NULL, 0}};
  pthread_attr_t attr;
  int o, one = 1;
  must(pthread_attr_init(&attr), "techo: pthread_attr_init");
  must(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED), "techo: pthread_attr_setdetachstate");
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o != 's') return 2;
    must(pthread_attr_setstacksize(&attr, (size_t)atol(optarg) << 10), "techo: --stack");
  }
  signal(SIGPIPE, SIG_IGN);
  int fd = listener();
  for (;;) {
    pthread_t t;
    int c = accept(fd, NULL, NULL);
    if (c < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (c < 0) die("techo: accept");
    setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    must(pthread_create(&t, &attr, serve, (void *)(intptr_t)c), "techo: pthread_create");
  }
}
