/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls on descriptors that end with a part, or with none though the handler has SA_RESTART; what the next call is told; and the signals that the kernel sends to who makes
 * such a call.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
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

/* --- SIGPIPE and SIGXFSZ --- */

static __thread int mine;
static _Atomic int others;
static pthread_t waits_for;

static void on_own(int sig) {
  mine = sig;
  if (!pthread_equal(pthread_self(), waits_for)) others++;
}

static int broken(bool is_socket) {
  int end[2];
  MUST((is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, end) : pipe(end)) == 0);
  close(end[0]);
  return end[1];
}

static int limited(void) {
  char name[] = "/tmp/ration-part-XXXXXX";
  struct rlimit lim = {1000, RLIM_INFINITY};
  int fd = mkstemp(name);
  MUST(fd >= 0 && unlink(name) == 0 && setrlimit(RLIMIT_FSIZE, &lim) == 0);
  return fd;
}

enum own { O_WRITE, O_WRITEV, O_SOCKET, O_SEND, O_SENDMSG, O_QUIET, O_RAW, O_STDIO, O_SENDFILE, O_FILE, O_FILE_PART, O_PWRITE, OWNS };
static const char *const own_names[OWNS] = {"write", "writev", "write to a socket", "send", "sendmsg",      "MSG_NOSIGNAL",
                                            "raw",   "fflush", "sendfile",          "file", "a part of it", "pwrite"};

static ssize_t try_own(enum own own) {
  struct iovec v = {big, 10};
  FILE *f;
  int fd;
  switch (own) {
    case O_WRITE:
      return write(broken(false), big, 10);
    case O_WRITEV:
      return writev(broken(false), &v, 1);
    case O_SOCKET:
      return write(broken(true), big, 10);
    case O_SEND:
      return send(broken(true), big, 10, 0);
    case O_SENDMSG:
      return sendmsg(broken(true), &(struct msghdr){.msg_iov = &v, .msg_iovlen = 1}, 0);
    case O_QUIET:
      return send(broken(true), big, 10, MSG_NOSIGNAL);
    case O_RAW:
      return syscall(SYS_write, broken(false), big, 10);
    case O_STDIO:
      MUST((f = fdopen(broken(false), "w")) && fputs("x", f) >= 0);
      return fflush(f);
    case O_SENDFILE:
      MUST((fd = open(self_path, O_RDONLY)) >= 0);
      return sendfile(broken(false), fd, NULL, 10);
    case O_PWRITE:
      return pwrite(limited(), big, 10, 1000);
    default:
      fd = limited();
      MUST(own == O_FILE_PART || write(fd, big, 1000) == 1000);
      return write(fd, big, 3000);
  }
}

static ssize_t own_call(enum own own) {
  const struct rlimit no = {RLIM_INFINITY, RLIM_INFINITY};
  errno = 0;
  ssize_t r = try_own(own);
  int e = errno;
  MUST(setrlimit(RLIMIT_FSIZE, &no) == 0);
  errno = e;
  return r;
}

static void *makes_own_call(void *arg) {
  enum own own = (enum own)(intptr_t)arg;
  waits_for = pthread_self();
  ssize_t r = own_call(own);
  int e = r < 0 ? errno : 0;
  say(" %s: %zd %s, mine %d, others' %d", own_names[own], r, err(e), mine, others);
  return arg;
}

static void each_own_call(const char *what) {
  say("%s", what);
  for (intptr_t own = 0; own < OWNS; own++) in_thread(makes_own_call, (void *)own);
}

static void set_own(void (*fn)(int)) {
  struct sigaction a = {.sa_handler = fn};
  MUST(sigaction(SIGPIPE, &a, NULL) == 0 && sigaction(SIGXFSZ, &a, NULL) == 0);
}

static void own_handled(void) {
  set_own(on_own);
  each_own_call("handled");
  struct sigaction a = {.sa_handler = on_own, .sa_flags = SA_NODEFER | SA_RESTART};
  MUST(sigaction(SIGPIPE, &a, NULL) == 0);
  each_own_call("not deferred");
  set_own(SIG_IGN);
  each_own_call("ignored");
}

/* The child of a vfork borrows its parent's thread. */
static void *vforks(void *arg) {
  int fd = broken(false);
  pid_t child = vfork();
  if (child == 0) {
    (void)!write(fd, "x", 1);
    _exit(3);
  }
  say_wait("child of vfork", child);
  say("system: %#x", (unsigned)system("kill -PIPE $$"));
  return arg;
}

/* In a child each. */
static void own_default(void) {
  struct sigaction was;
  const struct rlimit none = {0, 0};
  for (int again = 0; again < 2; again++) {
    MUST(sigaction(SIGPIPE, NULL, &was) == 0 && was.sa_handler == SIG_DFL);
    say("default, flags %#x", (unsigned)was.sa_flags);
    for (intptr_t own = 0; own < OWNS; own++) {
      pid_t child = fork();
      if (child == 0) {
        MUST(setrlimit(RLIMIT_CORE, &none) == 0);
        in_thread(makes_own_call, (void *)own);
        _exit(3);
      }
      say_wait(own_names[own], child);
    }
    in_thread(vforks, NULL);
    set_own(on_own);
    MUST(sigaction(SIGPIPE, NULL, &was) == 0 && was.sa_handler == on_own);
    set_own(SIG_DFL);
  }
}

/* What one blocks stays pending, for itself. */
static void *blocks_own(void *arg) {
  sigset_t set = set_of(SIGPIPE, SIGXFSZ), old, now;
  const struct timespec none = {0, 0};
  enum own own = (enum own)(intptr_t)arg;
  waits_for = pthread_self();
  pthread_sigmask(SIG_BLOCK, &set, &old);
  ssize_t r = own_call(own);
  sigpending(&now);
  say(" %s: %zd, pending %d %d", own_names[own], r, sigismember(&now, SIGPIPE), sigismember(&now, SIGXFSZ));
  if (own % 2) say("  taken: %d", sigtimedwait(&set, NULL, &none));
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  say("  opened: mine %d, others' %d", mine, others);
  return arg;
}
static void *has_pending(void *arg) {
  sigset_t now;
  sigpending(&now);
  say("another: pending %d %d, mine %d", sigismember(&now, SIGPIPE), sigismember(&now, SIGXFSZ), mine);
  return arg;
}
static void own_blocked(void) {
  set_own(on_own);
  for (intptr_t own = 0; own < OWNS; own++) in_thread(blocks_own, (void *)own);
  set_own(SIG_DFL);
  for (intptr_t own = 1; own < OWNS; own += 2) in_thread(blocks_own, (void *)own);
  for (int i = 0; i < 3; i++) in_thread(has_pending, NULL);
}

/* The end of one that has it pending, and of what it makes. */
static void *leaves_own(void *arg) {
  sigset_t set = set_of(SIGPIPE, 0);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  MUST(own_call(O_WRITE) < 0);
  if (arg) say("system: %#x", (unsigned)system("kill -PIPE $$"));
  return NULL;
}
static void own_left_behind(void) {
  for (int i = 0; i < 5; i++) in_thread(leaves_own, NULL);
  in_thread(has_pending, NULL);
  set_own(on_own);
  in_thread(leaves_own, big);
  in_thread(has_pending, NULL);
  say("mine %d, others' %d", mine, others);
}

/* Many at a time, with others that compute. */
static void *breaks_often(void *arg) {
  intptr_t n = 0;
  for (int i = 0; i < 20; i++) {
    mine = 0;
    int fd = broken(i % 2);
    n += write(fd, "x", 1) < 0 && errno == EPIPE && mine == SIGPIPE;
    close(fd);
    sched_yield();
  }
  (void)arg;
  return (void *)n;
}
static void own_of_many(void) {
  enum { MANY = 12 };
  pthread_t t[MANY];
  intptr_t sum = 0;
  set_own(on_own);
  for (int i = 0; i < MANY; i++) t[i] = start(breaks_often, NULL);
  for (int i = 0; i < MANY; i++) sum += join_value(t[i]);
  say("%ld", (long)sum);
}

/* --- SIGTTIN and SIGTTOU --- */

static int tty;

static void *reads_tty(void *arg) {
  char c[8] = "";
  SAY_CALL(" read", read(tty, c, sizeof c));
  return arg;
}
static void *writes_tty(void *arg) {
  SAY_CALL(" write", write(tty, "abc", 3));
  return arg;
}

enum background { STOPS, IGNORES, BLOCKS, BACKGROUNDS };

static void in_background(void *(*fn)(void *), enum background how) {
  sigset_t set = set_of(SIGTTIN, SIGTTOU);
  signal(SIGTTIN, how == IGNORES ? SIG_IGN : SIG_DFL);
  signal(SIGTTOU, how == IGNORES ? SIG_IGN : SIG_DFL);
  if (how == BLOCKS) pthread_sigmask(SIG_BLOCK, &set, NULL);
  in_thread(fn, NULL);
  _exit(0);
}

static void job(void *(*fn)(void *), enum background how, int master) {
  pid_t child = fork();
  int status = 0;
  if (child == 0) {
    MUST(setpgid(0, 0) == 0);
    in_background(fn, how);
  }
  (void)setpgid(child, child);
  MUST(waitpid(child, &status, WUNTRACED) == child);
  say("%s", WIFSTOPPED(status) ? strsignal(WSTOPSIG(status)) : "not stopped");
  if (!WIFSTOPPED(status)) return;
  MUST(tcsetpgrp(tty, child) == 0);
  if (fn == reads_tty) MUST(write(master, "x\n", 2) == 2);
  MUST(kill(-child, SIGCONT) == 0 && waitpid(child, &status, 0) == child && tcsetpgrp(tty, getpid()) == 0);
  say("then %#x", (unsigned)status);
}

static void leads_session(void) {
  struct termios tio;
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  alarm(25); /* a job that is left behind by its leader is ended by the kernel */
  MUST(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 && setsid() > 0);
  MUST((tty = open(ptsname(master), O_RDWR)) >= 0 && tcgetattr(tty, &tio) == 0);
  tio.c_lflag |= TOSTOP;
  signal(SIGTTOU, SIG_IGN); /* it is in the background itself while a job is not */
  MUST(tcsetattr(tty, TCSANOW, &tio) == 0 && tcsetpgrp(tty, getpid()) == 0);
  for (int how = 0; how < BACKGROUNDS; how++) {
    job(reads_tty, (enum background)how, master);
    job(writes_tty, (enum background)how, master);
  }
  _exit(0);
}

static void background(void) {
  pid_t child = fork();
  if (child == 0) leads_session();
  say_wait("session", child);
}

const struct check part_checks[] = {
    CHECK(ended_by_handlers), CHECK(error_after_a_part), CHECK(own_handled), CHECK(own_default), CHECK(own_blocked),
    CHECK(own_left_behind),   CHECK(own_of_many),        CHECK(background),  CHECKS_END,
};
