/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_SAY_H
#define RATION_TESTS_SAY_H
/* What the programs of conformance.py share: how a check tells what it finds, and small helpers. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One line to the standard output, by one write. */
__attribute__((format(printf, 1, 2))) static inline void say(const char *fmt, ...) {
  char line[512];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof line - 1, fmt, ap);
  va_end(ap);
  if (n < 0) abort();
  if (n > (int)sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  if (write(STDOUT_FILENO, line, (size_t)n) != n) abort();
}

static inline const char *err(int e) { return e == 0 ? "0" : strerrorname_np(e); }
/* The result of a call that returns -1 and errno. */
#define SAY_CALL(what, call)                                                  \
  do {                                                                        \
    errno = 0;                                                                \
    long r_ = (long)(call);                                                   \
    int e_ = errno;                                                           \
    say("%s: %ld %s", what, r_, r_ < 0 ? err(e_) : e_ == 0 ? "-" : "errno!"); \
  } while (0)
#define SAY_ERR(what, call) say("%s: %s", what, err(call))
#define MUST(cond)                                         \
  do {                                                     \
    if (!(cond)) {                                         \
      say("line %d: %s: %s", __LINE__, #cond, err(errno)); \
      _exit(99);                                           \
    }                                                      \
  } while (0)

static inline void nap(int ms) {
  struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
  while (nanosleep(&ts, &ts) < 0) {
  }
}

static inline int64_t now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static inline struct timespec in_ms(clockid_t clock, int ms) {
  struct timespec ts;
  clock_gettime(clock, &ts);
  ts.tv_sec += ms / 1000;
  ts.tv_nsec += ms % 1000 * 1000000L;
  if (ts.tv_nsec >= 1000000000L) ts.tv_nsec -= 1000000000L, ts.tv_sec++;
  return ts;
}

static inline pthread_t start(void *(*fn)(void *), void *arg) {
  pthread_t t;
  MUST(pthread_create(&t, NULL, fn, arg) == 0);
  return t;
}

/* A listener on loopback, and where it is. */
static inline int tcp_listen(struct sockaddr_in *a) {
  socklen_t len = sizeof *a;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  MUST(s >= 0 && bind(s, (void *)a, sizeof *a) == 0 && listen(s, 4) == 0 && getsockname(s, (void *)a, &len) == 0);
  return s;
}

static inline void say_mask(const char *what) {
  sigset_t now;
  char line[200] = "";
  pthread_sigmask(SIG_BLOCK, NULL, &now);
  for (int i = 1; i < NSIG; i++) {
    char one[8];
    if (!sigismember(&now, i) || i > 31) continue;
    snprintf(one, sizeof one, " %d", i);
    strcat(line, one);
  }
  say("%s: blocked%s", what, line);
}

static inline sigset_t set_of(int a, int b) {
  sigset_t s;
  sigemptyset(&s);
  if (a) sigaddset(&s, a);
  if (b) sigaddset(&s, b);
  return s;
}

static inline void say_wait(const char *what, pid_t p) {
  int status = 0;
  if (waitpid(p, &status, 0) != p) status = -1;
  say("%s: %#x", what, (unsigned)status);
}

#endif
