/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor is closed, or made another file, while a thread waits for it: the call that waits has the file, and goes on. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "checks.h"

#define IN_CALL_MS 100 /* it has said that it is about to wait: so long until it does */

static int fd, other; /* what the thread waits for; the other end */
static _Atomic int about;

static void about_to(void) { about++; }

static pthread_t waiting(void *(*fn)(void *), void *arg) {
  int before = about;
  pthread_t t = start(fn, arg);
  UNTIL(about == before + 1);
  nap(IN_CALL_MS);
  return t;
}

static void make_pipe(void) {
  int p[2];
  MUST(pipe(p) == 0);
  fd = p[0], other = p[1];
}

static void make_pair(void) {
  int s[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  fd = s[0], other = s[1];
}

static void say_gone(void) {
  errno = 0;
  int r = fcntl(fd, F_GETFD);
  say("its number: %d %s", r, err(errno));
}

static void *reads(void *arg) {
  char buf[8] = "";
  about_to();
  SAY_CALL("read", read(fd, buf, 3));
  say("'%s'", buf);
  return arg;
}

/* Each way to close, and what comes after it. */
static void close_plainly(void) { close(fd); }
static void close_raw(void) { syscall(SYS_close, fd); }
static void close_in_range(void) { close_range((unsigned)fd, (unsigned)fd, 0); }
static void close_as_stream(void) { fclose(fdopen(fd, "r")); }

static void a_pipe(void) {
  void (*const ways[])(void) = {close_plainly, close_raw, close_in_range, close_as_stream};
  for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
    make_pipe();
    pthread_t t = waiting(reads, NULL);
    ways[i]();
    say_gone();
    MUST(write(other, "abc", 3) == 3);
    pthread_join(t, NULL);
    signal(SIGPIPE, SIG_IGN);
    SAY_CALL("and again", write(other, "abc", 3)); /* nobody has it any more */
    close(other);
  }
}

static void the_other_end(void) {
  make_pipe();
  pthread_t t = waiting(reads, NULL);
  close(fd);
  close(other);
  pthread_join(t, NULL);
}

static void *receives(void *arg) {
  char buf[8];
  about_to();
  SAY_CALL("recv", recv(fd, buf, sizeof buf, 0));
  return arg;
}

/* As many servers end their threads. */
static void after_shutdown(void) {
  enum { N = 6 };
  pthread_t t[N];
  make_pair();
  for (int i = 0; i < N; i++) t[i] = waiting(receives, NULL);
  shutdown(fd, SHUT_RDWR);
  close(fd);
  for (int i = 0; i < N; i++) pthread_join(t[i], NULL);
  close(other);
}

static void *accepts(void *arg) {
  about_to();
  int c = accept(fd, NULL, NULL);
  say("accept: %s", c >= 0 ? "one" : err(errno));
  if (c >= 0) SAY_CALL("write to it", write(c, "abc", 3));
  if (c >= 0) close(c);
  return arg;
}

/* As many wait for the same one. */
static void acceptors(void) {
  enum { N = 5 };
  pthread_t t[N];
  struct sockaddr_in at;
  fd = tcp_listen(&at);
  for (int i = 0; i < N; i++) t[i] = waiting(accepts, NULL);
  shutdown(fd, SHUT_RDWR);
  close(fd);
  for (int i = 0; i < N; i++) pthread_join(t[i], NULL);
}

static void a_listener(void) {
  struct sockaddr_in at;
  char buf[8];
  for (int i = 0; i < 2; i++) {
    fd = tcp_listen(&at);
    pthread_t t = waiting(accepts, NULL);
    if (i) shutdown(fd, SHUT_RDWR);
    close(fd);
    other = socket(AF_INET, SOCK_STREAM, 0);
    int r = connect(other, (struct sockaddr *)&at, sizeof at);
    if (!i) MUST(read(other, buf, sizeof buf) == 3);
    pthread_join(t, NULL);
    say("connect: %d", r);
    close(other);
    other = socket(AF_INET, SOCK_STREAM, 0);
    SAY_CALL("connect again", connect(other, (struct sockaddr *)&at, sizeof at));
    close(other);
  }
}

static void by_dup2(void) {
  make_pipe();
  int old = other, was = fd;
  pthread_t t = waiting(reads, NULL);
  make_pipe();
  MUST(dup2(fd, was) == was);
  close(fd);
  fd = was;
  MUST(write(other, "new", 3) == 3);
  MUST(write(old, "old", 3) == 3);
  pthread_join(t, NULL);
  in_thread(reads, NULL);
  close(fd), close(other), close(old);
}

enum { MUCH = 300000 };
static char much[MUCH];

static void *writes(void *arg) {
  about_to();
  SAY_CALL("write", write(fd, much, sizeof much));
  return arg;
}

static void *writes_vector(void *arg) {
  struct iovec v[] = {{much, MUCH / 3}, {much, MUCH - MUCH / 3}};
  about_to();
  SAY_CALL("writev", writev(fd, v, 2));
  return arg;
}

static void writing(void) {
  void *(*const ways[])(void *) = {writes, writes_vector};
  for (unsigned i = 0; i < 4; i++) {
    long sum = 0;
    ssize_t n;
    if (i < 2)
      make_pair();
    else
      make_pipe();
    if (i >= 2) {
      int swap = fd;
      fd = other, other = swap;
    }
    pthread_t t = waiting(ways[i % 2], NULL);
    close(fd);
    char buf[5000];
    while ((n = read(other, buf, sizeof buf)) > 0) sum += n;
    pthread_join(t, NULL);
    say("%ld, then %zd", sum, n);
    close(other);
  }
}

static void *receives_all(void *arg) {
  char buf[8] = "";
  about_to();
  SAY_CALL("recv", recv(fd, buf, 6, MSG_WAITALL));
  say("'%s'", buf);
  return arg;
}

static void in_parts(void) {
  make_pair();
  pthread_t t = waiting(receives_all, NULL);
  MUST(write(other, "abc", 3) == 3);
  nap(IN_CALL_MS);
  close(fd);
  MUST(write(other, "def", 3) == 3);
  pthread_join(t, NULL);
  close(other);
}

static void *polls(void *arg) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  int64_t since = now_ns();
  about_to();
  SAY_CALL("poll", poll(&p, 1, 3 * IN_CALL_MS));
  say("revents %x, %s", p.revents, at_least_ms(since, 3 * IN_CALL_MS) ? "at its time" : "early");
  return arg;
}

static void *selects(void *arg) {
  struct timeval tv = {0, 3 * IN_CALL_MS * 1000};
  fd_set r;
  FD_ZERO(&r);
  FD_SET(fd, &r);
  int64_t since = now_ns();
  about_to();
  SAY_CALL("select", select(fd + 1, &r, NULL, NULL, &tv));
  say("%s", at_least_ms(since, 3 * IN_CALL_MS) ? "at its time" : "early");
  return arg;
}

/* They look for the number, but not before something happens to the file. */
static void looked_for(void) {
  for (int i = 0; i < 4; i++) {
    make_pipe();
    pthread_t t = waiting(i % 2 ? selects : polls, NULL);
    close(fd);
    if (i >= 2) MUST(write(other, "abc", 3) == 3);
    pthread_join(t, NULL);
    close(other);
  }
}

static void *waits_for_events(void *arg) {
  struct epoll_event ev[2];
  about_to();
  SAY_CALL("epoll_wait", epoll_wait((int)(intptr_t)arg, ev, 2, -1));
  SAY_CALL("and again", epoll_wait((int)(intptr_t)arg, ev, 2, -1));
  return NULL;
}

static void an_epoll(void) {
  int ep = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN};
  make_pipe();
  MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0);
  pthread_t t = waiting(waits_for_events, (void *)(intptr_t)ep);
  close(ep);
  MUST(write(other, "abc", 3) == 3);
  pthread_join(t, NULL);
  close(fd), close(other);
}

static void timed(void) {
  struct timeval tv = {0, 3 * IN_CALL_MS * 1000};
  make_pair();
  MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) == 0);
  pthread_t t = waiting(receives, NULL);
  close(fd);
  pthread_join(t, NULL);
  signal(SIGPIPE, SIG_IGN);
  SAY_CALL("write", write(other, "abc", 3));
  close(other);
}

static void cancelled(void) {
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < 2; i++) {
    make_pipe();
    pthread_t t = waiting(reads, NULL);
    if (i) pthread_cancel(t);
    close(fd);
    if (!i) pthread_cancel(t);
    say("%s", join_value(t) == (intptr_t)PTHREAD_CANCELED ? "cancelled" : "not cancelled");
    SAY_CALL("write", write(other, "abc", 3));
    close(other);
  }
}

static void on_signal(int sig) { (void)sig; }

/* A call that is made again by the kernel, is made with the number. */
static void signalled(void) {
  for (int i = 0; i < 2; i++) {
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = i ? SA_RESTART : 0};
    sigaction(SIGUSR1, &sa, NULL);
    make_pipe();
    pthread_t t = waiting(reads, NULL);
    close(fd);
    pthread_kill(t, SIGUSR1);
    pthread_join(t, NULL);
    close(other);
  }
}

/* A child has the numbers, not the calls. */
static void forked(void) {
  signal(SIGPIPE, SIG_IGN);
  make_pipe();
  pthread_t t = waiting(reads, NULL);
  close(fd);
  int runs[2];
  char c;
  MUST(pipe(runs) == 0);
  pid_t child = fork();
  if (child == 0) {
    close(other);
    MUST(write(runs[1], "", 1) == 1);
    for (;;) pause();
  }
  MUST(read(runs[0], &c, 1) == 1);
  MUST(write(other, "abc", 3) == 3);
  pthread_join(t, NULL);
  SAY_CALL("write", write(other, "abc", 3));
  kill(child, SIGKILL);
  MUST(waitpid(child, NULL, 0) == child);
}

static int numbers(void) {
  int n = 0;
  for (int i = 0; i < 1100; i++) n += fcntl(i, F_GETFD) >= 0;
  return n;
}

static void nothing_stays(void) {
  make_pair();
  close(other);
  in_thread(receives, NULL);
  close(fd);
  int before = numbers();
  for (int i = 0; i < 3; i++) {
    after_shutdown();
    timed();
  }
  say("%d more", numbers() - before);
}

/* All at once, and at any moment: who comes late reads the end of another file. */
enum { READERS = 3, ROUNDS = 200, AT_ONCE = 4 };

struct round {
  int fd, end; /* of both a read comes to an end */
  unsigned seed;
};

static void *reads_to_end(void *arg) {
  char c;
  return (void *)(intptr_t)recv(*(int *)arg, &c, 1, 0);
}

static long one_round(struct round *r) {
  pthread_t t[READERS];
  int s[2];
  long wrong = 0;
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  r->fd = s[0];
  for (int i = 0; i < READERS; i++) t[i] = start(reads_to_end, &r->fd);
  for (unsigned i = rand_r(&r->seed) % 20; i > 0; i--) sched_yield();
  if (rand_r(&r->seed) % 2)
    shutdown(s[0], SHUT_RDWR);
  else
    close(s[1]), s[1] = -1;
  MUST(dup2(r->end, s[0]) == s[0]);
  for (int i = 0; i < READERS; i++) wrong += join_value(t[i]) != 0;
  close(s[0]);
  if (s[1] >= 0) close(s[1]);
  return wrong;
}

static void *rounds(void *arg) {
  struct round r = {.seed = (unsigned)(intptr_t)arg + 1};
  int s[2];
  long wrong = 0;
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  close(s[1]);
  r.end = s[0];
  for (int i = 0; i < ROUNDS; i++) wrong += one_round(&r);
  close(s[0]);
  return (void *)wrong;
}

static void at_any_moment(void) {
  pthread_t t[AT_ONCE];
  long wrong = 0;
  for (intptr_t i = 0; i < AT_ONCE; i++) t[i] = start(rounds, (void *)i);
  for (int i = 0; i < AT_ONCE; i++) wrong += join_value(t[i]);
  say("%ld of them read anything else", wrong);
}

const struct check closed_checks[] = {
    CHECK(a_pipe),    CHECK(the_other_end), CHECK(after_shutdown), CHECK(a_listener),    CHECK(acceptors), CHECK(by_dup2),
    CHECK(writing),   CHECK(in_parts),      CHECK(looked_for),     CHECK(an_epoll),      CHECK(timed),     CHECK(cancelled),
    CHECK(signalled), CHECK(forked),        CHECK(nothing_stays),  CHECK(at_any_moment), CHECKS_END};
