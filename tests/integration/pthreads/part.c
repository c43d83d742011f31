/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on descriptors that end with a part, or with none though the handler has SA_RESTART; and what the next call is told. */
#include <poll.h>
#include <stddef.h>
#include <sys/uio.h>
#include <sys/un.h>
#include "checks.h"

#define BIG ((size_t)8 << 20)
static char big[BIG];
static int fds[2], listener;
static struct sockaddr_in at;
static _Atomic bool returned;

static void on_signal(int sig) { (void)sig; }

static void in_time(int fd, int what) {
  struct timeval tv = {60, 0};
  MUST(setsockopt(fd, SOL_SOCKET, what, &tv, sizeof tv) == 0);
}

static struct msghdr *message(size_t bytes) {
  static struct iovec v;
  static struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  v = (struct iovec){big, bytes};
  return &m;
}

/* --- ended by a handler that has SA_RESTART --- */

enum kind { PIPE, UNIX, TCP, LISTENER };
enum what { WRITE, WRITEV, SEND, SENDMSG, RECV_ALL, RECVMSG_ALL, READ, RECV, RECVMSG, ACCEPT, CONNECT, WHATS };
static const char *const names[WHATS] = {"write", "writev", "send",    "sendmsg", "recv, all", "recvmsg, all",
                                         "read",  "recv",   "recvmsg", "accept",  "connect"};

static int connect_full(void) {
  struct sockaddr_un un = {AF_UNIX, "\0ration-part"};
  socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 24);
  int s = socket(AF_UNIX, SOCK_STREAM, 0), r = 0;
  snprintf(un.sun_path + 1, 23, "ration-part-%d", getpid());
  MUST(bind(s, (struct sockaddr *)&un, len) == 0 && listen(s, 0) == 0);
  while (r == 0) {
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    in_time(c, SO_SNDTIMEO);
    r = connect(c, (struct sockaddr *)&un, len);
  }
  return r;
}

static ssize_t call(enum what what) {
  struct iovec v = {big, BIG};
  switch (what) {
    case WRITE:
      return write(fds[1], big, BIG);
    case WRITEV:
      return writev(fds[1], &v, 1);
    case SEND:
      return send(fds[1], big, BIG, 0);
    case SENDMSG:
      return sendmsg(fds[1], message(BIG), 0);
    case RECV_ALL:
      return recv(fds[0], big, 100, MSG_WAITALL);
    case RECVMSG_ALL:
      return recvmsg(fds[0], message(100), MSG_WAITALL);
    case READ:
      return read(fds[0], big, 100);
    case RECV:
      return recv(fds[0], big, 100, 0);
    case RECVMSG:
      return recvmsg(fds[0], message(100), 0);
    case ACCEPT:
      return accept(listener, NULL, NULL);
    default:
      return connect_full();
  }
}

static void *calls(void *arg) {
  enum what what = (enum what)(intptr_t)arg;
  errno = 0;
  ssize_t r = call(what);
  if (r > 3 && (size_t)r < BIG)
    say(" %s: a part", names[what]);
  else
    say(" %s: %zd %s", names[what], r, r < 0 ? err(errno) : "-");
  returned = true;
  return arg;
}

static void make(enum kind kind) {
  if (kind == PIPE) MUST(pipe(fds) == 0);
  if (kind == UNIX) MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  if (kind == TCP || kind == LISTENER) listener = tcp_listen(&at);
  if (kind == TCP) {
    MUST((fds[1] = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && connect(fds[1], (struct sockaddr *)&at, sizeof at) == 0);
    MUST((fds[0] = accept(listener, NULL, NULL)) >= 0);
  }
}

/* Signalled until it comes back: before the call, and while it does something, a signal changes nothing. */
static void ended(enum kind kind, enum what what, bool part, bool timed) {
  make(kind);
  if (part) MUST(write(fds[1], "abc", 3) == 3);
  if (timed && kind == LISTENER) in_time(listener, SO_RCVTIMEO);
  if (timed && (kind == UNIX || kind == TCP)) in_time(fds[0], SO_RCVTIMEO);
  returned = false;
  pthread_t t = start(calls, (void *)(intptr_t)what);
  for (; !returned; nap(3)) pthread_kill(t, SIGUSR1);
  pthread_join(t, NULL);
}

static void ended_by_handlers(void) {
  struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  MUST(sigaction(SIGUSR1, &a, NULL) == 0);
  for (int kind = PIPE; kind <= TCP; kind++) {
    say("%s", kind == PIPE ? "pipe" : kind == UNIX ? "Unix" : "TCP");
    for (int what = WRITE; what <= (kind == PIPE ? WRITEV : SENDMSG); what++) ended((enum kind)kind, (enum what)what, false, false);
    if (kind == PIPE) continue;
    ended((enum kind)kind, RECV_ALL, true, false);
    ended((enum kind)kind, RECVMSG_ALL, true, false);
    ended((enum kind)kind, RECV_ALL, true, true);
    for (int what = READ; what <= RECVMSG; what++) ended((enum kind)kind, (enum what)what, false, true);
  }
  ended(LISTENER, ACCEPT, false, true);
  ended(PIPE, CONNECT, false, true);
}

/* --- what is left for the next call --- */

static void *sends(void *arg) {
  ssize_t r = send(fds[1], big, BIG, MSG_NOSIGNAL);
  say("first: %s", r < 0 ? err(errno) : (size_t)r < BIG ? "a part" : "all");
  for (int i = 0; i < 3; i++) SAY_CALL("next", send(fds[1], big, 10, MSG_NOSIGNAL));
  return arg;
}

/* The one that sends has filled the buffers, and waits. */
static void await_full(void) {
  struct pollfd p = {.fd = fds[1], .events = POLLOUT};
  UNTIL(poll(&p, 1, 0) == 0);
  nap(30);
}

static void error_after_a_part(void) {
  struct linger now = {1, 0};
  make(TCP);
  pthread_t t = start(sends, NULL);
  await_full();
  MUST(setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
  close(fds[0]);
  pthread_join(t, NULL);
  make(UNIX);
  t = start(sends, NULL);
  await_full();
  close(fds[0]);
  pthread_join(t, NULL);
}

const struct check part_checks[] = {CHECK(ended_by_handlers), CHECK(error_after_a_part), CHECKS_END};
