/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echo server: one G for each connection, written as if each had a thread of its own.
 *
 *   echo          serves on a free port of the loopback; eight clients talk to it, check what comes back, and the program ends
 *   echo PORT     serves there until it is killed; try  nc localhost PORT
 *
 * What to see here: read, write, accept and connect are libc's.  In a G they park where they would block, and the thread below runs other
 * Gs meanwhile.  There is no event loop and no callback, and the sockets are blocking ones.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <ration/ration.h>

#define CLIENTS 8
#define MESSAGES 100

/* A G's argument is one pointer.  A descriptor fits in it. */
static void *from_fd(int fd) { return (void *)(intptr_t)fd; }
static int to_fd(void *arg) { return (int)(intptr_t)arg; }

/* --- the server --- */

static void serve_one(void *arg) {
  int fd = to_fd(arg);
  char buf[4096]; /* a stack has 64 KiB: large buffers belong on the heap, or ask for more by ration_go_attr */
  ssize_t n;
  while ((n = read(fd, buf, sizeof buf)) > 0)
    if (write(fd, buf, (size_t)n) != n) break; /* all of it, as to a blocking descriptor in a thread */
  close(fd);
}

static void serve(void *arg) {
  int listener = to_fd(arg);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) {
      perror("accept");
      return;
    }
    if (ration_go(serve_one, from_fd(fd)) < 0) close(fd); /* no memory for one more */
  }
}

/* --- the clients --- */

typedef RATION_CHAN(int) int_chan; /* a channel of ints; the compiler checks what is sent */

static struct sockaddr_in server_at;
static int_chan echoed; /* each client sends how many of its messages came back */

static bool exchange(int fd, const char *text) {
  char back[64];
  size_t n = strlen(text), got = 0;
  if (write(fd, text, n) != (ssize_t)n) return false;
  while (got < n) { /* a stream: it may come back in parts */
    ssize_t r = read(fd, back + got, sizeof back - got);
    if (r <= 0) return false;
    got += (size_t)r;
  }
  return memcmp(text, back, n) == 0;
}

static void client(void *arg) {
  int good = 0, fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&server_at, sizeof server_at) == 0) {
    for (int i = 0; i < MESSAGES; i++) {
      char text[64];
      snprintf(text, sizeof text, "message %d of client %d\n", i, (int)(intptr_t)arg);
      good += exchange(fd, text);
    }
  }
  if (fd >= 0) close(fd);
  RATION_SEND(echoed, good);
}

/* --- */

static int listen_on(int port) {
  socklen_t len = sizeof server_at;
  int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  server_at.sin_family = AF_INET;
  server_at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  server_at.sin_port = htons((uint16_t)port);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) return -1;
  if (bind(fd, (struct sockaddr *)&server_at, sizeof server_at) < 0 || listen(fd, 128) < 0) return -1;
  return getsockname(fd, (struct sockaddr *)&server_at, &len) < 0 ? -1 : fd;
}

static int prog(int argc, char **argv) {
  int port = argc > 1 ? atoi(argv[1]) : 0; /* "--check" is 0 as well */
  int listener = listen_on(port);
  if (listener < 0) {
    perror("echo");
    return 1;
  }
  if (port) {
    printf("serving on port %d\n", port);
    fflush(stdout);
    serve(from_fd(listener)); /* main is a G like the others: it may as well do this itself */
    return 1;
  }

  echoed = RATION_CHAN_NEW(int_chan, 0);
  ration_go(serve, from_fd(listener));
  for (intptr_t i = 0; i < CLIENTS; i++) ration_go(client, (void *)i);
  int sum = 0;
  for (int i = 0, n; i < CLIENTS; i++) {
    RATION_RECV(echoed, &n); /* also waits until that client has ended */
    sum += n;
  }
  ration_chan_unref(echoed.chan);
  printf("%d clients, %d of %d messages came back\n", CLIENTS, sum, CLIENTS * MESSAGES);
  return sum == CLIENTS * MESSAGES ? 0 : 1; /* the server still waits in accept; it ends with main, as in Go */
}

/* ration_main runs prog in a G and returns what it returned. */
int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
