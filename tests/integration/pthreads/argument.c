/* SPDX-License-Identifier: Apache-2.0 */
/* What a call does with arguments that it can't take, in a thread: an error, at once. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>
#include "checks.h"

static void *volatile nowhere = (void *)8;
static volatile int minus_one = -1;
static char far[256]; /* not on the stack */

static void run_there(void *(*fn)(void *)) { in_thread(fn, NULL); }

static void *probe_clone3(void *arg) {
  SAY_CALL("none", syscall(SYS_clone3, NULL, 0));
  SAY_CALL("small", syscall(SYS_clone3, far, 4));
  SAY_CALL("bad", syscall(SYS_clone3, nowhere, 64));
  return arg;
}

static void *bad_times(void *arg) {
  struct timespec wrong = {5, 2000000000}, soon = {0, 1};
  struct epoll_event ev;
  int ep = epoll_create1(EPOLL_CLOEXEC);
  SAY_CALL("nanosleep", nanosleep(nowhere, NULL));
  SAY_CALL("nanosleep, none", nanosleep(NULL, NULL));
  SAY_CALL("nanosleep, wrong", nanosleep(&wrong, NULL));
  SAY_CALL("raw nanosleep", syscall(SYS_nanosleep, nowhere, NULL));
  SAY_ERR("clock_nanosleep", clock_nanosleep(CLOCK_MONOTONIC, 0, nowhere, NULL));
  memcpy(far, &soon, sizeof soon);
  SAY_CALL("nanosleep, far", nanosleep((struct timespec *)far, NULL));
  SAY_CALL("epoll_pwait2", epoll_pwait2(ep, &ev, 1, nowhere, NULL));
  SAY_CALL("epoll_pwait2, wrong", epoll_pwait2(ep, &ev, 1, &wrong, NULL));
  SAY_CALL("epoll_pwait2, mask", epoll_pwait2(ep, &ev, 1, &soon, nowhere));
  SAY_CALL("epoll_pwait2, far", epoll_pwait2(ep, &ev, 1, (struct timespec *)far, NULL));
  SAY_CALL("epoll_pwait, mask", epoll_pwait(ep, &ev, 1, 1, nowhere));
  close(ep);
  return arg;
}

static void *bad_semtimedop(void *arg) {
  struct sembuf down = {0, -1, 0};
  int id = semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT);
  MUST(id >= 0);
  SAY_CALL("time", semtimedop(id, &down, 1, nowhere));
  SAY_CALL("operations", semtimedop(id, nowhere, 1, NULL));
  semctl(id, 0, IPC_RMID);
  return arg;
}

static void *bad_signal_sets(void *arg) {
  sigset_t none;
  struct timespec soon = {0, 1};
  sigemptyset(&none);
  SAY_CALL("sigtimedwait", sigtimedwait(nowhere, NULL, &soon));
  SAY_CALL("sigtimedwait, time", sigtimedwait(&none, NULL, nowhere));
  SAY_CALL("sigwaitinfo", sigwaitinfo(nowhere, NULL));
  SAY_CALL("sigsuspend", sigsuspend(nowhere));
  SAY_CALL("signalfd", signalfd(-1, nowhere, 0));
  return arg;
}

static void *bad_polls(void *arg) {
  struct timeval soon = {0, 1000};
  int p[2];
  MUST(pipe(p) == 0);
  SAY_CALL("poll", poll(nowhere, 1, 10));
  SAY_CALL("poll, for ever", poll(nowhere, 1, -1));
  SAY_CALL("poll, 20", poll(nowhere, 20, 10));
  SAY_CALL("select", select(5, nowhere, NULL, NULL, NULL));
  SAY_CALL("select, two", select(5, NULL, nowhere, nowhere, &soon));
  memset(far, 0, sizeof far);
  FD_SET(p[0], (fd_set *)far);
  SAY_CALL("select, far", select(p[0] + 1, (fd_set *)far, NULL, NULL, &soon));
  for (int i = 0; i < 2; i++) {
    memcpy(far, &(struct pollfd){.fd = p[i], .events = i ? POLLOUT : POLLIN}, sizeof(struct pollfd));
    SAY_CALL("poll, far", poll((struct pollfd *)far, 1, 1));
  }
  close(p[0]), close(p[1]);
  return arg;
}

static void *bad_messages(void *arg) {
  struct msghdr vector = {.msg_iov = nowhere, .msg_iovlen = 2}, many = {.msg_iov = (struct iovec *)far, .msg_iovlen = 2000000};
  int s[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  SAY_CALL("writev", writev(s[0], nowhere, 2));
  SAY_CALL("sendmsg", sendmsg(s[0], nowhere, 0));
  SAY_CALL("sendmsg, vector", sendmsg(s[0], &vector, 0));
  SAY_CALL("sendmsg, many", sendmsg(s[0], &many, 0));
  SAY_CALL("recvmsg", recvmsg(s[0], nowhere, 0));
  for (int all = 0; all < 2; all++) {
    int flags = all ? MSG_WAITALL : 0;
    SAY_CALL("recvmsg", recvmsg(s[0], nowhere, flags));
    SAY_CALL("recvmsg, vector", recvmsg(s[0], &vector, flags));
    SAY_CALL("recvmsg, many", recvmsg(s[0], &many, flags));
  }
  close(s[0]), close(s[1]);
  return arg;
}

/* A message that is not on the stack, in pieces, with a reader who is slow. */
static void *sends_far(void *arg) {
  static char bytes[3 << 20];
  static struct iovec v[3];
  static struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
  int *s = arg;
  for (int i = 0; i < 3; i++) v[i] = (struct iovec){bytes + (i << 20), 1 << 20};
  SAY_CALL("sendmsg", sendmsg(s[0], &m, 0));
  SAY_CALL("writev", writev(s[0], v, 3));
  close(s[0]);
  return NULL;
}

static void argument_far_messages(void) {
  static char buf[100000];
  int s[2];
  long sum = 0;
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  pthread_t t = start(sends_far, s);
  for (ssize_t n; (n = read(s[1], buf, sizeof buf)) > 0;) sum += n;
  pthread_join(t, NULL);
  say("received %ld", sum);
}

static void *bad_names(void *arg) {
  int s[2];
  char name[16];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
  SAY_CALL("F_SETOWN_EX", fcntl(s[0], F_SETOWN_EX, nowhere));
  SAY_CALL("F_GETOWN_EX", fcntl(s[0], F_GETOWN_EX, nowhere));
  SAY_CALL("set name", prctl(PR_SET_NAME, nowhere));
  SAY_CALL("get name", prctl(PR_GET_NAME, nowhere));
  SAY_CALL("get tid address", prctl(PR_GET_TID_ADDRESS, nowhere));
  strcpy(far, "far away");
  SAY_CALL("set name, far", prctl(PR_SET_NAME, far));
  SAY_CALL("get name, far", prctl(PR_GET_NAME, far + 100));
  SAY_CALL("get name", prctl(PR_GET_NAME, name));
  say("%s %s", name, far + 100);
  SAY_CALL("sigprocmask", sigprocmask(SIG_BLOCK, NULL, nowhere));
  SAY_CALL("sigprocmask, far", sigprocmask(SIG_BLOCK, NULL, (sigset_t *)far));
  say("blocked %d", sigismember((sigset_t *)far, SIGUSR1));
  close(s[0]), close(s[1]);
  return arg;
}

/* --- what is no socket, or none that listens --- */

static void *not_sockets(void *arg) {
  char buf[16] = "";
  int p[2], ev = eventfd(0, 0), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  MUST(pipe(p) == 0 && ev >= 0 && file >= 0);
  SAY_CALL("recv, empty", recv(p[0], buf, sizeof buf, 0));
  SAY_CALL("send", send(p[1], "abc", 3, 0));
  SAY_CALL("sendto", sendto(p[1], "abc", 3, 0, (struct sockaddr *)far, 16));
  MUST(write(p[1], "abc", 3) == 3);
  SAY_CALL("recv", recv(p[0], buf, sizeof buf, 0));
  SAY_CALL("read", read(p[0], buf, sizeof buf));
  SAY_CALL("recv of a file", recv(file, buf, sizeof buf, 0));
  SAY_CALL("accept of a pipe", accept(p[0], NULL, NULL));
  SAY_CALL("accept of an eventfd", accept(ev, NULL, NULL));
  close(p[0]), close(p[1]), close(ev), close(file);
  return arg;
}

static void *not_listening(void *arg) {
  struct sockaddr_in at;
  int pair[2], listener = tcp_listen(&at), udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  SAY_CALL("udp", accept(udp, NULL, NULL));
  SAY_CALL("unix", accept(pair[0], NULL, NULL));
  SAY_CALL("new", accept(tcp, NULL, NULL));
  MUST(connect(tcp, (struct sockaddr *)&at, sizeof at) == 0);
  SAY_CALL("connected", accept(tcp, NULL, NULL));
  SAY_CALL("flags", accept4(listener, NULL, NULL, 0x77777));
  close(pair[0]), close(pair[1]), close(listener), close(udp), close(tcp);
  return arg;
}

/* --- reads that don't wait --- */

static void *reads_of_nothing(void *arg) {
  char buf[16] = "";
  int stream[2], dgram[2], p[2], ev = eventfd(0, 0);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram) == 0 && pipe(p) == 0);
  SAY_CALL("stream", read(stream[0], buf, 0));
  SAY_CALL("pipe", read(p[0], buf, 0));
  SAY_CALL("eventfd", read(ev, buf, 0));
  SAY_CALL("write to eventfd", write(ev, buf, 0));
  SAY_CALL("datagram, none", read(dgram[0], buf, 0));
  MUST(write(dgram[1], "hello", 5) == 5);
  SAY_CALL("datagram", read(dgram[0], buf, 0));
  SAY_CALL("still there", read(dgram[0], buf, sizeof buf));
  close(stream[0]), close(stream[1]), close(dgram[0]), close(dgram[1]), close(p[0]), close(p[1]), close(ev);
  return arg;
}

static void *short_reads(void *arg) {
  char buf[256];
  sigset_t set = set_of(SIGUSR1, 0);
  int ev = eventfd(0, 0), sig = signalfd(-1, &set, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0), notify = inotify_init();
  int faults = (int)syscall(SYS_userfaultfd, 1);
  const int fds[] = {ev, sig, timer, faults};
  static const size_t sizes[] = {1, 4, 7, 12, 31, 64, 127};
  for (int k = 0; k < 4; k++)
    for (int i = 0; i < 7; i++) {
      bool waits = sizes[i] >= 8 && (k == 0 || k == 2);
      if (waits || fds[k] < 0) continue;
      say("%d, %zu", k, sizes[i]);
      SAY_CALL("read", read(fds[k], buf, sizes[i]));
    }
  int watch = inotify_add_watch(notify, "/tmp", IN_OPEN);
  MUST(watch >= 0 && close(open("/tmp", O_RDONLY | O_DIRECTORY)) == 0);
  SAY_CALL("inotify", read(notify, buf, 4));
  say("inotify, more %d", read(notify, buf, sizeof buf) > 0);
  SAY_CALL("write", write(ev, buf, 4));
  memset(buf, 255, 8);
  SAY_CALL("write the most", write(ev, buf, 8));
  for (int k = 0; k < 4; k++)
    if (fds[k] >= 0) close(fds[k]);
  close(notify);
  return arg;
}

/* The same where the kernel knows RWF_NOWAIT of nothing. */
static void old_kernel_reads(void) {
  struct sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                                 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 0, 1),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog prog = {sizeof filter / sizeof *filter, filter};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
  execl(self_path, self_path, "argument:argument_short_reads", NULL);
  MUST(0);
}

static void *vectors(void *arg) {
  int p[2];
  struct iovec *many = calloc(2000, sizeof *many);
  MUST(many && pipe(p) == 0);
  SAY_CALL("readv, -1", readv(p[0], many, minus_one));
  SAY_CALL("readv, 2000", readv(p[0], many, 2000));
  SAY_CALL("writev, -1", writev(p[1], many, minus_one));
  SAY_CALL("writev, 2000", writev(p[1], many, 2000));
  SAY_CALL("readv, bad", readv(p[0], nowhere, 2));
  free(many);
  close(p[0]), close(p[1]);
  return arg;
}

/* A tty with these; the number of its other side in *master. */
static int raw_tty(int *master, int min, int deciseconds) {
  struct termios t;
  int tty;
  MUST((*master = posix_openpt(O_RDWR | O_NOCTTY)) >= 0 && grantpt(*master) == 0 && unlockpt(*master) == 0);
  MUST((tty = open(ptsname(*master), O_RDWR | O_NOCTTY)) >= 0 && tcgetattr(tty, &t) == 0);
  cfmakeraw(&t);
  t.c_cc[VMIN] = (cc_t)min;
  t.c_cc[VTIME] = (cc_t)deciseconds;
  MUST(tcsetattr(tty, TCSANOW, &t) == 0);
  return tty;
}

static void *tty_reads(void *arg) {
  static const int how[][2] = {{0, 0}, {0, 1}, {5, 0}, {1, 0}};
  char buf[16] = "";
  for (int i = 0; i < 4; i++) {
    int master, tty = raw_tty(&master, how[i][0], how[i][1]);
    say("%d %d", how[i][0], how[i][1]);
    if (how[i][0] == 0) SAY_CALL(" nothing", read(tty, buf, sizeof buf));
    MUST(write(master, "abc", 3) == 3);
    SAY_CALL(" less than VMIN", read(tty, buf, 2));
    close(tty), close(master);
  }
  return arg;
}

static void argument_not_sockets(void) { run_there(not_sockets); }
static void argument_not_listening(void) { run_there(not_listening); }
static void argument_reads_of_nothing(void) { run_there(reads_of_nothing); }
static void argument_short_reads(void) { run_there(short_reads); }
static void argument_vectors(void) { run_there(vectors); }
static void argument_tty(void) { run_there(tty_reads); }
static void argument_polls(void) { run_there(bad_polls); }
static void argument_messages(void) { run_there(bad_messages); }
static void argument_names(void) { run_there(bad_names); }
static void argument_clone3(void) { run_there(probe_clone3); }
static void argument_times(void) { run_there(bad_times); }
static void argument_semtimedop(void) { run_there(bad_semtimedop); }
static void argument_signal_sets(void) { run_there(bad_signal_sets); }

const struct check argument_checks[] = {CHECK(argument_clone3),
                                        CHECK(argument_times),
                                        CHECK(argument_semtimedop),
                                        CHECK(argument_signal_sets),
                                        CHECK(argument_not_sockets),
                                        CHECK(argument_not_listening),
                                        CHECK(argument_reads_of_nothing),
                                        CHECK(argument_short_reads),
                                        CHECK(old_kernel_reads),
                                        CHECK(argument_vectors),
                                        CHECK(argument_tty),
                                        CHECK(argument_polls),
                                        CHECK(argument_messages),
                                        CHECK(argument_far_messages),
                                        CHECK(argument_names),
                                        CHECKS_END};
