/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What POSIX, Linux and glibc promise about blocking calls, signals, cancellation and the life of a process, as many small
 * checks that print what they find.  test_posix_conformance.py runs each check plain and under the shim, and compares:
 * nothing here knows ration.  So a check prints no times and no ids, only what must be the same every time.
 *
 *   posix list          the names
 *   posix NAME          runs one
 *
 * POSIX_HOGS=n: n threads that only burn CPU, all signals blocked, beside the check.
 */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* the old signal calls are tested too */
/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): vfork is what is tested */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#include "say.h"

extern char **environ;

static const char *self_path;

/* --- small helpers --- */

static void *burn(void *arg) {
  (void)arg;
  for (volatile unsigned long n = 0;; n++) {
  }
  return NULL;
}

static void start_hogs(void) {
  const char *n = getenv("POSIX_HOGS");
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  for (int i = n ? atoi(n) : 0; i > 0; i--) pthread_detach(start(burn, NULL));
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* --- blocking calls: each can be begun, and satisfied by another thread --- */

static int pipefd[2], sock[2], lsock, epfd, msgq, semid, lockfd[2], childfd[2];
static sem_t sem;
static mqd_t mq;
static pid_t child;
static char full[1 << 16];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_t peer;
static _Atomic bool flag;

static void put_pipe(void) { MUST(write(pipefd[1], "x", 1) == 1); }
static void put_sock(void) { MUST(send(sock[1], "x", 1, 0) == 1); }
static void open_pipe(void) { MUST(pipe(pipefd) == 0); }
static void open_sock(void) { MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0); }

static struct sockaddr_in laddr;
static void open_listen(void) { lsock = tcp_listen(&laddr); }
static void put_connect(void) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  MUST(connect(s, (void *)&laddr, sizeof laddr) == 0);
}
static void open_full_pipe(void) {
  open_pipe();
  MUST(fcntl(pipefd[1], F_SETPIPE_SZ, 4096) >= 4096);
  fcntl(pipefd[1], F_SETFL, O_NONBLOCK);
  while (write(pipefd[1], full, 4096) > 0) {
  }
  fcntl(pipefd[1], F_SETFL, 0);
}
static void drain_pipe(void) { MUST(read(pipefd[0], full, 65536) > 0); }
static void open_full_sock(void) {
  open_sock();
  while (send(sock[0], full, 4096, MSG_DONTWAIT) > 0) {
  }
}
static void drain_sock(void) {
  for (int i = 0; i < 200 && recv(sock[1], full, sizeof full, MSG_DONTWAIT) > 0; i++) {
  }
}
static void open_epoll(void) {
  open_pipe();
  epfd = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN};
  MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, pipefd[0], &ev) == 0);
}
static void open_sem(void) { sem_init(&sem, 0, 0); }
static void put_sem(void) { sem_post(&sem); }
static void open_msgq(void) { MUST((msgq = msgget(IPC_PRIVATE, 0600)) >= 0); }
static void put_msgq(void) {
  long msg[2] = {1, 0};
  MUST(msgsnd(msgq, msg, 1, 0) == 0);
}
static void close_msgq(void) { msgctl(msgq, IPC_RMID, NULL); }
static void open_semid(void) { MUST((semid = semget(IPC_PRIVATE, 1, 0600)) >= 0); }
static void put_semid(void) {
  struct sembuf op = {0, 1, 0};
  MUST(semop(semid, &op, 1) == 0);
}
static void close_semid(void) { semctl(semid, 0, IPC_RMID); }
static void open_mq(void) {
  char name[64];
  struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 16};
  snprintf(name, sizeof name, "/rationtest-%d", getpid());
  mq = mq_open(name, O_RDWR | O_CREAT, 0600, &a);
  MUST(mq != (mqd_t)-1);
  mq_unlink(name);
}
static void put_mq(void) { MUST(mq_send(mq, "x", 1, 0) == 0); }
/* A child that lives until it reads a byte. */
static void open_child(void) {
  MUST(pipe(childfd) == 0);
  child = fork();
  MUST(child >= 0);
  if (child) return;
  char c;
  close(childfd[1]);
  if (read(childfd[0], &c, 1) < 0) _exit(98);
  _exit(7);
}
static void end_child(void) { MUST(write(childfd[1], "x", 1) == 1); }
static void open_lock(void) {
  char name[] = "/tmp/rationtest-XXXXXX";
  lockfd[0] = mkstemp(name);
  lockfd[1] = open(name, O_RDWR);
  MUST(lockfd[1] >= 0 && flock(lockfd[1], LOCK_EX) == 0);
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  MUST(fcntl(lockfd[1], F_OFD_SETLK, &l) == 0);
  unlink(name);
}
static void end_lock(void) { close(lockfd[1]); }
static void open_mutex(void) { pthread_mutex_lock(&mutex); }
static void put_cond(void) {
  pthread_mutex_lock(&mutex);
  flag = true;
  pthread_cond_broadcast(&cond);
  pthread_mutex_unlock(&mutex);
}
static void *wait_flag(void *arg) {
  char c;
  (void)arg;
  MUST(read(pipefd[0], &c, 1) == 1);
  return (void *)5;
}
static void open_peer(void) {
  sigset_t all, old;
  open_pipe();
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  peer = start(wait_flag, NULL);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}
static void *peer_barrier(void *arg) {
  (void)arg;
  pthread_barrier_wait(&barrier);
  return NULL;
}
static void open_barrier(void) { pthread_barrier_init(&barrier, NULL, 2); }
static void put_barrier(void) { pthread_detach(start(peer_barrier, NULL)); }
static void nothing(void) {}

static char buf[64];
static struct iovec iov = {buf, 1};
static struct pollfd pfd(void) { return (struct pollfd){.fd = pipefd[0], .events = POLLIN}; }

static long c_read(void) { return read(pipefd[0], buf, 8); }
static long c_readv(void) { return readv(pipefd[0], &iov, 1); }
static long c_write(void) { return write(pipefd[1], full, 4096); }
static long c_recv(void) { return recv(sock[0], buf, 8, 0); }
static long c_recv_all(void) { return recv(sock[0], buf, 1, MSG_WAITALL); }
static long c_recvfrom(void) { return recvfrom(sock[0], buf, 8, 0, NULL, NULL); }
static long c_recvmsg(void) {
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  return recvmsg(sock[0], &m, 0);
}
static long c_recvmmsg(void) {
  struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
  return recvmmsg(sock[0], &m, 1, 0, NULL);
}
static long c_recv_timeo(void) {
  struct timeval tv = {20, 0};
  setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  return recv(sock[0], buf, 8, 0);
}
static long c_send(void) { return send(sock[0], full, 4096, 0); }
static long c_sendmsg(void) {
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  return sendmsg(sock[0], &m, 0);
}
static long c_accept(void) { return accept(lsock, NULL, NULL) >= 0 ? 1 : -1; }
static long c_accept4(void) { return accept4(lsock, NULL, NULL, SOCK_CLOEXEC) >= 0 ? 1 : -1; }
static long c_poll(void) {
  struct pollfd p = pfd();
  return poll(&p, 1, 20000);
}
static long c_poll_forever(void) {
  struct pollfd p = pfd();
  return poll(&p, 1, -1);
}
static long c_ppoll(void) {
  struct pollfd p = pfd();
  struct timespec ts = {20, 0};
  return ppoll(&p, 1, &ts, NULL);
}
static long c_select(void) {
  fd_set r;
  FD_ZERO(&r);
  FD_SET(pipefd[0], &r);
  struct timeval tv = {20, 0};
  long n = select(pipefd[0] + 1, &r, NULL, NULL, &tv);
  int e = errno;
  say("select: bit %d, time left %d", FD_ISSET(pipefd[0], &r) != 0, tv.tv_sec > 0 && tv.tv_sec < 20);
  errno = e;
  return n;
}
static long c_pselect(void) {
  fd_set r;
  FD_ZERO(&r);
  FD_SET(pipefd[0], &r);
  struct timespec ts = {20, 0};
  return pselect(pipefd[0] + 1, &r, NULL, NULL, &ts, NULL);
}
static struct epoll_event events[2];
static long c_epoll_wait(void) { return epoll_wait(epfd, events, 2, 20000); }
static long c_epoll_pwait(void) {
  sigset_t none;
  sigemptyset(&none);
  return epoll_pwait(epfd, events, 2, -1, &none);
}
static long c_epoll_pwait2(void) {
  struct timespec ts = {20, 0};
  return epoll_pwait2(epfd, events, 2, &ts, NULL);
}
static long c_sem_wait(void) { return sem_wait(&sem); }
static long c_sem_timedwait(void) {
  struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
  return sem_timedwait(&sem, &ts);
}
static long c_sem_clockwait(void) {
  struct timespec ts = in_ms(CLOCK_MONOTONIC, 20000);
  return sem_clockwait(&sem, CLOCK_MONOTONIC, &ts);
}
static long c_msgrcv(void) {
  long msg[4];
  return msgrcv(msgq, msg, 8, 0, 0);
}
static struct sembuf take = {0, -1, 0};
static long c_semop(void) { return semop(semid, &take, 1); }
static long c_semtimedop(void) {
  struct timespec ts = {20, 0};
  return semtimedop(semid, &take, 1, &ts);
}
static long c_mq_receive(void) { return mq_receive(mq, buf, 16, NULL); }
static long c_mq_timedreceive(void) {
  struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
  return mq_timedreceive(mq, buf, 16, NULL, &ts);
}
static long say_status(pid_t p, int status) {
  int e = errno;
  if (p > 0) say("status %#x", (unsigned)status);
  errno = e;
  return p > 0 ? 1 : p;
}
static long c_waitpid(void) {
  int status = 0;
  pid_t p = waitpid(child, &status, 0);
  return say_status(p, status);
}
static long c_wait(void) {
  int status = 0;
  pid_t p = wait(&status);
  return say_status(p, status);
}
static long c_wait4(void) {
  int status = 0;
  pid_t p = wait4(-1, &status, 0, NULL);
  return say_status(p, status);
}
static long c_waitid(void) {
  siginfo_t si = {0};
  return waitid(P_PID, (id_t)child, &si, WEXITED);
}
static long c_flock(void) { return flock(lockfd[0], LOCK_EX); }
static long c_fcntl(void) {
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  return fcntl(lockfd[0], F_OFD_SETLKW, &l);
}
/* How long a sleep is that a signal shall interrupt: much longer than the signal takes (until_inside_ms), also beside hogs. */
static long sleep_ns(void) { return (getenv("POSIX_HOGS") ? 600 : 150) * 1000000L; }
static long c_nanosleep(void) {
  struct timespec ts = {0, sleep_ns()}, rem = {9, 9};
  int64_t t0 = now_ns();
  long r = nanosleep(&ts, &rem);
  int e = errno;
  if (r == 0)
    say("not early %d, rem untouched %d", now_ns() - t0 >= sleep_ns(), rem.tv_sec == 9);
  else
    say("rem less %d", rem.tv_sec == 0 && rem.tv_nsec < sleep_ns());
  errno = e;
  return r;
}
static long c_clock_nanosleep(void) {
  struct timespec ts = {0, sleep_ns()};
  int64_t t0 = now_ns();
  int r = clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
  if (r == 0) say("not early %d", now_ns() - t0 >= sleep_ns());
  errno = r;
  return r ? -1 : 0;
}
static long c_sleep_until(void) {
  struct timespec ts = in_ms(CLOCK_REALTIME, sleep_ns() / 1000000), now;
  int r = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL);
  clock_gettime(CLOCK_REALTIME, &now);
  if (r == 0) say("not early %d", now.tv_sec > ts.tv_sec || (now.tv_sec == ts.tv_sec && now.tv_nsec >= ts.tv_nsec));
  errno = r;
  return r ? -1 : 0;
}
static long c_usleep(void) { return usleep((useconds_t)(sleep_ns() / 1000)); }
static long c_sleep(void) {
  unsigned left = sleep(1);
  say("left %u", left);
  return 0;
}
static long c_thrd_sleep(void) {
  struct timespec ts = {0, sleep_ns()};
  return thrd_sleep(&ts, NULL);
}
static long c_pause(void) { return pause(); }
static long c_sigsuspend(void) {
  sigset_t none;
  sigemptyset(&none);
  return sigsuspend(&none);
}
static void put_usr2(void) { kill(getpid(), SIGUSR2); }
static void block_usr2(void) {
  sigset_t s = set_of(SIGUSR2, 0);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
}
static long c_sigwaitinfo(void) {
  sigset_t s = set_of(SIGUSR2, 0);
  return sigwaitinfo(&s, NULL);
}
static long c_sigtimedwait(void) {
  sigset_t s;
  struct timespec ts = {20, 0};
  sigfillset(&s);
  sigdelset(&s, SIGUSR1);
  sigdelset(&s, SIGURG);
  return sigtimedwait(&s, NULL, &ts);
}
static long c_sigwait(void) {
  sigset_t s = set_of(SIGUSR2, 0);
  int sig = 0, r = sigwait(&s, &sig);
  errno = r;
  return r ? -1 : sig;
}
static void unlock_mutex(void *m) { pthread_mutex_unlock(m); }
static long c_cond_wait(void) {
  pthread_mutex_lock(&mutex);
  pthread_cleanup_push(unlock_mutex, &mutex);
  while (!flag) pthread_cond_wait(&cond, &mutex);
  pthread_cleanup_pop(1);
  return 0;
}
static long c_cond_timedwait(void) {
  struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
  pthread_mutex_lock(&mutex);
  pthread_cleanup_push(unlock_mutex, &mutex);
  while (!flag) pthread_cond_timedwait(&cond, &mutex, &ts);
  pthread_cleanup_pop(1);
  return 0;
}
static long c_cond_clockwait(void) {
  struct timespec ts = in_ms(CLOCK_MONOTONIC, 20000);
  pthread_mutex_lock(&mutex);
  pthread_cleanup_push(unlock_mutex, &mutex);
  while (!flag) pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &ts);
  pthread_cleanup_pop(1);
  return 0;
}
static long c_join(void) {
  void *r = NULL;
  int e = pthread_join(peer, &r);
  errno = e;
  return e ? -1 : (long)r;
}
static long c_timedjoin(void) {
  void *r = NULL;
  struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
  int e = pthread_timedjoin_np(peer, &r, &ts);
  errno = e;
  return e ? -1 : (long)r;
}
static long c_rwlock(void) {
  struct timespec ts = in_ms(CLOCK_REALTIME, sleep_ns() / 1000000);
  return pthread_rwlock_timedrdlock(&rwlock, &ts);
}
static void *take_rwlock(void *arg) {
  (void)arg;
  pthread_rwlock_wrlock(&rwlock);
  flag = true;
  for (;;) nap(10000);
  return NULL;
}
static void open_rwlock(void) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_detach(start(take_rwlock, NULL));
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  while (!flag) nap(1);
}
static long c_barrier(void) { return pthread_barrier_wait(&barrier) <= 0 ? 0 : -1; }
static long c_raw_read(void) { return syscall(SYS_read, pipefd[0], buf, (size_t)8); }
static long c_raw_futex(void) {
  static int word;
  struct timespec ts = {0, sleep_ns()};
  return syscall(SYS_futex, &word, 0 /* WAIT */, 0, &ts, NULL, 0);
}
static long c_lock_mutex_self(void) {
  struct timespec ts = in_ms(CLOCK_REALTIME, sleep_ns() / 1000000);
  int r = pthread_mutex_timedlock(&mutex, &ts);
  errno = r;
  return r ? -1 : 0;
}

struct blocking {
  const char *name;
  void (*open)(void);
  long (*call)(void);
  void (*satisfy)(void);
  void (*close)(void);
  bool no_cancel; /* not a cancellation point */
  bool ends_only_by_signal;
};

static const struct blocking blocking[] = {
    {"read", open_pipe, c_read, put_pipe, NULL, 0, 0},
    {"readv", open_pipe, c_readv, put_pipe, NULL, 0, 0},
    {"write", open_full_pipe, c_write, drain_pipe, NULL, 0, 0},
    {"recv", open_sock, c_recv, put_sock, NULL, 0, 0},
    {"recv_waitall", open_sock, c_recv_all, put_sock, NULL, 0, 0},
    {"recvfrom", open_sock, c_recvfrom, put_sock, NULL, 0, 0},
    {"recvmsg", open_sock, c_recvmsg, put_sock, NULL, 0, 0},
    {"recvmmsg", open_sock, c_recvmmsg, put_sock, NULL, 0, 0},
    {"recv_rcvtimeo", open_sock, c_recv_timeo, put_sock, NULL, 0, 0},
    {"send", open_full_sock, c_send, drain_sock, NULL, 0, 0},
    {"sendmsg", open_full_sock, c_sendmsg, drain_sock, NULL, 0, 0},
    {"accept", open_listen, c_accept, put_connect, NULL, 0, 0},
    {"accept4", open_listen, c_accept4, put_connect, NULL, 0, 0},
    {"poll", open_pipe, c_poll, put_pipe, NULL, 0, 0},
    {"poll_forever", open_pipe, c_poll_forever, put_pipe, NULL, 0, 0},
    {"ppoll", open_pipe, c_ppoll, put_pipe, NULL, 0, 0},
    {"select", open_pipe, c_select, put_pipe, NULL, 0, 0},
    {"pselect", open_pipe, c_pselect, put_pipe, NULL, 0, 0},
    {"epoll_wait", open_epoll, c_epoll_wait, put_pipe, NULL, 0, 0},
    {"epoll_pwait", open_epoll, c_epoll_pwait, put_pipe, NULL, 0, 0},
    {"epoll_pwait2", open_epoll, c_epoll_pwait2, put_pipe, NULL, 0, 0},
    {"sem_wait", open_sem, c_sem_wait, put_sem, NULL, 0, 0},
    {"sem_timedwait", open_sem, c_sem_timedwait, put_sem, NULL, 0, 0},
    {"sem_clockwait", open_sem, c_sem_clockwait, put_sem, NULL, 0, 0},
    {"msgrcv", open_msgq, c_msgrcv, put_msgq, close_msgq, 0, 0},
    {"semop", open_semid, c_semop, put_semid, close_semid, 1, 0},
    {"semtimedop", open_semid, c_semtimedop, put_semid, close_semid, 1, 0},
    {"mq_receive", open_mq, c_mq_receive, put_mq, NULL, 0, 0},
    {"mq_timedreceive", open_mq, c_mq_timedreceive, put_mq, NULL, 0, 0},
    {"waitpid", open_child, c_waitpid, end_child, NULL, 0, 0},
    {"wait", open_child, c_wait, end_child, NULL, 0, 0},
    {"wait4", open_child, c_wait4, end_child, NULL, 0, 0},
    {"waitid", open_child, c_waitid, end_child, NULL, 0, 0},
    {"flock", open_lock, c_flock, end_lock, NULL, 1, 0},
    {"fcntl_lock", open_lock, c_fcntl, end_lock, NULL, 0, 0},
    {"nanosleep", nothing, c_nanosleep, nothing, NULL, 0, 0},
    {"clock_nanosleep", nothing, c_clock_nanosleep, nothing, NULL, 0, 0},
    {"sleep_until", nothing, c_sleep_until, nothing, NULL, 0, 0},
    {"usleep", nothing, c_usleep, nothing, NULL, 0, 0},
    {"sleep", nothing, c_sleep, nothing, NULL, 0, 0},
    {"thrd_sleep", nothing, c_thrd_sleep, nothing, NULL, 0, 0},
    {"pause", nothing, c_pause, put_usr2, NULL, 0, 1},
    {"sigsuspend", nothing, c_sigsuspend, put_usr2, NULL, 0, 1},
    {"sigwaitinfo", block_usr2, c_sigwaitinfo, put_usr2, NULL, 0, 0},
    {"sigtimedwait", block_usr2, c_sigtimedwait, put_usr2, NULL, 0, 0},
    {"sigwait", block_usr2, c_sigwait, put_usr2, NULL, 0, 0},
    {"cond_wait", nothing, c_cond_wait, put_cond, NULL, 0, 0},
    {"cond_timedwait", nothing, c_cond_timedwait, put_cond, NULL, 0, 0},
    {"cond_clockwait", nothing, c_cond_clockwait, put_cond, NULL, 0, 0},
    {"join", open_peer, c_join, put_pipe, NULL, 0, 0},
    {"timedjoin", open_peer, c_timedjoin, put_pipe, NULL, 0, 0},
    {"rwlock", open_rwlock, c_rwlock, nothing, NULL, 1, 0},
    {"mutex_timedlock", open_mutex, c_lock_mutex_self, nothing, NULL, 1, 0},
    {"barrier", open_barrier, c_barrier, put_barrier, NULL, 1, 0},
    {"raw_read", open_pipe, c_raw_read, put_pipe, NULL, 1, 0},
    {"raw_futex", nothing, c_raw_futex, nothing, NULL, 1, 0},
};
#define NBLOCKING (sizeof blocking / sizeof *blocking)

/* --- blocking calls and signals --- */

static _Atomic int handled;
static void on_sig(int sig) {
  (void)sig;
  handled++;
}

static const struct blocking *the;
static pthread_t main_thread;
static int interrupt_with, interrupt_times;
static pthread_t helper_thread;

/* The signal is for a thread inside of the call: beside hogs, and whatever else the machine does, it may take a while to get there. */
static int until_inside_ms(void) { return getenv("POSIX_HOGS") ? 60 : 20; }

/* Those of libc that are a futex to the kernel. */
static bool is_futex(const char *name) {
  static const char *const some[] = {"sem_", "cond_", "join", "timedjoin", "rwlock", "mutex", "barrier", "raw_futex"};
  for (size_t i = 0; i < sizeof some / sizeof *some; i++)
    if (strncmp(name, some[i], strlen(some[i])) == 0) return true;
  return false;
}

/* What a file of main's in /proc says; false: nothing. */
static bool mains_file(const char *name, char *text, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/%s", getpid(), name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, size - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  return n > 0;
}

/* Main sleeps in its call: it does not just want a CPU ("running" in place of the number), nor wait for a P (in a futex), as
 * far as /proc says. */
static bool main_is_inside(void) {
  char stat[256], call[32];
  if (!mains_file("syscall", call, sizeof call)) return true;
  if (call[0] < '0' || call[0] > '9' || (atol(call) == SYS_futex && !is_futex(the->name))) return false;
  const char *name_end = mains_file("stat", stat, sizeof stat) ? strrchr(stat, ')') : NULL;
  return !name_end || name_end[2] == 'S';
}

static void *interrupter(void *arg) {
  (void)arg;
  for (int i = 0; i < interrupt_times; i++) {
    nap(until_inside_ms());
    for (int k = 0; k < 2000 && !main_is_inside(); k++) nap(5);
    pthread_kill(main_thread, interrupt_with);
  }
  nap(25);
  the->satisfy();
  return NULL;
}

/* The helper must not be the one that takes a signal sent to the process. */
static void start_interrupter(int sig, int times) {
  sigset_t all, old;
  interrupt_with = sig;
  interrupt_times = times;
  main_thread = pthread_self();
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  helper_thread = start(interrupter, NULL);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void interrupted(const struct blocking *b, int sig, int flags, bool install, int times) {
  the = b;
  struct sigaction a = {.sa_handler = on_sig, .sa_flags = flags};
  sigaction(SIGUSR2, &a, NULL);
  if (install) sigaction(sig, &a, NULL);
  b->open();
  start_interrupter(sig, times);
  errno = 0;
  long r = b->call();
  int e = errno;
  say("%s: %ld %s", b->name, r, r < 0 ? err(e) : "-");
  say("handled %s", handled == 0 ? "none" : "some");
  if (r >= 0 || b->ends_only_by_signal) pthread_join(helper_thread, NULL);
  if (b->close) b->close();
}

static void eintr(const struct blocking *b) { interrupted(b, SIGUSR1, 0, true, 1); }
static void restart(const struct blocking *b) { interrupted(b, SIGUSR1, SA_RESTART, true, 1); }
static void undisturbed(const struct blocking *b) { interrupted(b, SIGUSR1, 0, true, 0); }
/* SIGURG is ignored by default: no call may notice. */
static void urg_ignored(const struct blocking *b) { interrupted(b, SIGURG, 0, false, 3); }
static void urg_handled(const struct blocking *b) { interrupted(b, SIGURG, 0, true, 1); }
static void urg_restart(const struct blocking *b) { interrupted(b, SIGURG, SA_RESTART, true, 1); }

/* --- siglongjmp out of them --- */

static sigjmp_buf jump;
static void on_jump(int sig) { siglongjmp(jump, sig); }

static void longjmp_out(const struct blocking *b) {
  if (strncmp(b->name, "cond", 4) == 0 || strcmp(b->name, "barrier") == 0) return; /* would leave them half waited on: undefined */
  the = b;
  struct sigaction a = {.sa_handler = on_jump};
  sigaction(SIGUSR1, &a, NULL);
  sigaction(SIGUSR2, &a, NULL);
  b->open();
  volatile int jumped = 0;
  for (volatile int i = 0; i < 5; i++) {
    interrupt_with = SIGUSR1;
    if (sigsetjmp(jump, 1) == 0) {
      sigset_t all, old;
      sigfillset(&all);
      main_thread = pthread_self();
      pthread_sigmask(SIG_SETMASK, &all, &old);
      struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
      timer_t t;
      struct itimerspec in = {.it_value.tv_nsec = 20000000};
      timer_create(CLOCK_MONOTONIC, &ev, &t);
      timer_settime(t, 0, &in, NULL);
      pthread_sigmask(SIG_SETMASK, &old, NULL);
      long r = b->call();
      say("not jumped: %ld", r);
    } else {
      jumped++;
    }
  }
  say("jumped %d", jumped);
  say_mask("after");
  if (b->close) b->close();
}

/* --- cancellation --- */

static _Atomic int cleaned;
static void clean(void *arg) {
  int fd[2];
  char c;
  (void)arg;
  /* user code: it may call what it likes */
  MUST(pipe(fd) == 0 && write(fd[1], "c", 1) == 1 && read(fd[0], &c, 1) == 1);
  nap(1);
  cleaned++;
}

static pthread_key_t key;
static void key_end(void *arg) {
  (void)arg;
  say("destructor");
}

static void *cancelled_thread(void *arg) {
  const struct blocking *b = arg;
  pthread_setspecific(key, (void *)1);
  pthread_cleanup_push(clean, NULL);
  flag = false;
  long r = b->call();
  say("%s returned %ld", b->name, r);
  pthread_testcancel();
  say("not cancelled");
  pthread_cleanup_pop(0);
  return NULL;
}

static void cancel(const struct blocking *b) {
  the = b;
  pthread_key_create(&key, key_end);
  b->open();
  pthread_t t = start(cancelled_thread, (void *)(uintptr_t)b);
  nap(40);
  pthread_cancel(t);
  if (b->no_cancel) {
    nap(40);
    b->satisfy();
  }
  void *r;
  int e = pthread_join(t, &r);
  say("join %s, cancelled %d, cleaned %d", err(e), r == PTHREAD_CANCELED, cleaned);
  int m = pthread_mutex_trylock(&mutex);
  say("mutex %s", err(m));
  if (b->close) b->close();
}

/* The cancellation is there before the call, and so is what the call waits for. */
static void *cancel_pending_thread(void *arg) {
  const struct blocking *b = arg;
  pthread_cleanup_push(clean, NULL);
  pthread_cancel(pthread_self());
  long r = b->call();
  say("%s returned %ld", b->name, r);
  pthread_testcancel();
  pthread_cleanup_pop(0);
  return NULL;
}

static void cancel_pending(const struct blocking *b) {
  the = b;
  b->open();
  b->satisfy();
  nap(20);
  void *r;
  pthread_t t = start(cancel_pending_thread, (void *)(uintptr_t)b);
  pthread_join(t, &r);
  say("cancelled %d, cleaned %d", r == PTHREAD_CANCELED, cleaned);
  if (b->close) b->close();
}

static void *cancel_disabled_thread(void *arg) {
  const struct blocking *b = arg;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  pthread_cancel(pthread_self());
  errno = 0;
  long r = b->call();
  say("%s returned %ld", b->name, r);
  return (void *)3;
}

static void cancel_disabled(const struct blocking *b) {
  if (b->ends_only_by_signal) return;
  the = b;
  b->open();
  pthread_t t = start(cancel_disabled_thread, (void *)(uintptr_t)b);
  nap(30);
  b->satisfy();
  void *r;
  pthread_join(t, &r);
  say("result %ld", (long)r);
  if (b->close) b->close();
}

/* --- timeouts --- */

#define TIMED(what, ms, call)                                                                                    \
  do {                                                                                                           \
    int64_t t0_ = now_ns();                                                                                      \
    errno = 0;                                                                                                   \
    long r_ = (long)(call);                                                                                      \
    int e_ = errno;                                                                                              \
    int64_t took_ = now_ns() - t0_;                                                                              \
    say("%s: %ld %s, not early %d, ends %d", what, r_, err(e_), took_ >= (ms)*1000000LL, took_ < 10000000000LL); \
  } while (0)

static void t_timeouts_poll(void) {
  open_epoll();
  struct pollfd p = pfd();
  struct timespec ts = {0, 50000000}, ts0 = {0, 0}, bad = {0, 1000000000}, neg = {-1, 0};
  struct timeval tv = {0, 50000}, tv0 = {0, 0}, tvneg = {-1, 0}, tvbig = {0, 1050000};
  TIMED("poll", 50, poll(&p, 1, 50));
  TIMED("poll 0", 0, poll(&p, 1, 0));
  TIMED("poll null", 20, poll(NULL, 0, 20));
  TIMED("ppoll", 50, ppoll(&p, 1, &ts, NULL));
  TIMED("ppoll 0", 0, ppoll(&p, 1, &ts0, NULL));
  TIMED("ppoll bad", 0, ppoll(&p, 1, &bad, NULL));
  TIMED("ppoll neg", 0, ppoll(&p, 1, &neg, NULL));
  fd_set r;
  FD_ZERO(&r);
  FD_SET(pipefd[0], &r);
  TIMED("select", 50, select(pipefd[0] + 1, &r, NULL, NULL, &tv));
  say("bit %d left %ld", FD_ISSET(pipefd[0], &r) != 0, (long)tv.tv_usec);
  TIMED("select 0", 0, select(0, NULL, NULL, NULL, &tv0));
  TIMED("select neg", 0, select(0, NULL, NULL, NULL, &tvneg));
  TIMED("select big", 1050, select(0, NULL, NULL, NULL, &tvbig));
  FD_ZERO(&r);
  FD_SET(50, &r); /* below 64, the least size of a descriptor table: beyond its size the kernel does not look */
  TIMED("select badf", 0, select(51, &r, NULL, NULL, NULL));
  TIMED("pselect", 50, pselect(0, NULL, NULL, NULL, &ts, NULL));
  TIMED("pselect bad", 0, pselect(0, NULL, NULL, NULL, &bad, NULL));
  TIMED("epoll_wait", 50, epoll_wait(epfd, events, 2, 50));
  TIMED("epoll_wait 0 events", 0, epoll_wait(epfd, events, 0, 50));
  TIMED("epoll_wait badf", 0, epoll_wait(-1, events, 1, 50));
  TIMED("epoll_pwait", 50, epoll_pwait(epfd, events, 2, 50, NULL));
  TIMED("epoll_pwait2", 50, epoll_pwait2(epfd, events, 2, &ts, NULL));
  TIMED("epoll_pwait2 bad", 0, epoll_pwait2(epfd, events, 2, &bad, NULL));
}

static void t_timeouts_sleep(void) {
  struct timespec ts = {0, 50000000}, bad = {0, 1000000000}, zero = {0, 0}, past = {1, 0};
  TIMED("nanosleep", 50, nanosleep(&ts, NULL));
  TIMED("nanosleep 0", 0, nanosleep(&zero, NULL));
  TIMED("nanosleep bad", 0, nanosleep(&bad, NULL));
  TIMED("clock_nanosleep", 50, clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL));
  TIMED("clock_nanosleep bad", 0, clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL));
  TIMED("clock_nanosleep clock", 0, clock_nanosleep(999, 0, &ts, NULL));
  TIMED("clock_nanosleep thread cpu", 0, clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL));
  TIMED("clock_nanosleep past", 0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL));
  struct timespec at = in_ms(CLOCK_MONOTONIC, 50);
  TIMED("clock_nanosleep abs", 0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL));
  TIMED("usleep", 50, usleep(50000));
  TIMED("sleep 0", 0, sleep(0));
  TIMED("thrd_sleep bad", 0, thrd_sleep(&bad, NULL));
}

static void t_timeouts_sync(void) {
  struct timespec at = in_ms(CLOCK_REALTIME, 50), mono, bad = {0, 1000000000}, past = {1, 0};
  pthread_mutex_lock(&mutex);
  TIMED("mutex_timedlock", 40, pthread_mutex_timedlock(&mutex, &at));
  TIMED("mutex_timedlock bad", 0, pthread_mutex_timedlock(&mutex, &bad));
  TIMED("mutex_timedlock past", 0, pthread_mutex_timedlock(&mutex, &past));
  mono = in_ms(CLOCK_MONOTONIC, 50);
  TIMED("mutex_clocklock", 40, pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &mono));
  TIMED("mutex_clocklock clock", 0, pthread_mutex_clocklock(&mutex, CLOCK_BOOTTIME, &mono));
  at = in_ms(CLOCK_REALTIME, 50);
  TIMED("cond_timedwait", 40, pthread_cond_timedwait(&cond, &mutex, &at));
  TIMED("cond_timedwait bad", 0, pthread_cond_timedwait(&cond, &mutex, &bad));
  mono = in_ms(CLOCK_MONOTONIC, 50);
  TIMED("cond_clockwait", 40, pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &mono));
  pthread_mutex_unlock(&mutex);
  TIMED("mutex_clocklock clock free", 0, pthread_mutex_clocklock(&mutex, CLOCK_BOOTTIME, &mono));
  TIMED("mutex_timedlock bad free", 0, pthread_mutex_timedlock(&mutex, &bad));
  open_rwlock();
  at = in_ms(CLOCK_REALTIME, 50);
  TIMED("timedrdlock", 40, pthread_rwlock_timedrdlock(&rwlock, &at));
  TIMED("timedwrlock past", 0, pthread_rwlock_timedwrlock(&rwlock, &past));
  TIMED("timedwrlock bad", 0, pthread_rwlock_timedwrlock(&rwlock, &bad));
  mono = in_ms(CLOCK_MONOTONIC, 50);
  TIMED("clockwrlock", 40, pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, &mono));
  open_sem();
  at = in_ms(CLOCK_REALTIME, 50);
  TIMED("sem_timedwait", 40, sem_timedwait(&sem, &at));
  TIMED("sem_timedwait bad", 0, sem_timedwait(&sem, &bad));
  sem_post(&sem);
  TIMED("sem_timedwait bad, free", 0, sem_timedwait(&sem, &bad));
  TIMED("sem_timedwait past, free", 0, sem_timedwait(&sem, &past));
  TIMED("sem_clockwait clock", 0, sem_clockwait(&sem, CLOCK_BOOTTIME, &mono));
  open_peer();
  at = in_ms(CLOCK_REALTIME, 50);
  TIMED("timedjoin", 40, pthread_timedjoin_np(peer, NULL, &at));
  TIMED("tryjoin", 0, pthread_tryjoin_np(peer, NULL));
  put_pipe();
  TIMED("join", 0, pthread_join(peer, NULL));
}

static void t_timeouts_ipc(void) {
  struct timespec ts = {0, 50000000}, bad = {0, 1000000000}, at = in_ms(CLOCK_REALTIME, 50);
  sigset_t s = set_of(SIGUSR2, 0);
  block_usr2();
  TIMED("sigtimedwait", 50, sigtimedwait(&s, NULL, &ts));
  TIMED("sigtimedwait bad", 0, sigtimedwait(&s, NULL, &bad));
  raise(SIGUSR2);
  TIMED("sigtimedwait pending", 0, sigtimedwait(&s, NULL, &ts));
  open_semid();
  TIMED("semtimedop", 50, semtimedop(semid, &take, 1, &ts));
  TIMED("semtimedop bad", 0, semtimedop(semid, &take, 1, &bad));
  close_semid();
  open_mq();
  TIMED("mq_timedreceive", 40, mq_timedreceive(mq, buf, 16, NULL, &at));
  open_sock();
  struct timeval tv = {0, 50000};
  setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  TIMED("recv SO_RCVTIMEO", 50, recv(sock[0], buf, 1, 0));
  TIMED("read SO_RCVTIMEO", 50, read(sock[0], buf, 1));
  mtx_t m;
  cnd_t c;
  mtx_init(&m, mtx_timed);
  cnd_init(&c);
  mtx_lock(&m);
  at = in_ms(CLOCK_REALTIME, 50);
  TIMED("cnd_timedwait", 40, cnd_timedwait(&c, &m, &at));
  at = in_ms(CLOCK_REALTIME, 50);
  TIMED("mtx_timedlock", 40, mtx_timedlock(&m, &at));
}

/* --- locks --- */

static void *lock_and_die(void *m) {
  pthread_mutex_lock(m);
  return NULL;
}
static void *try_other(void *m) { return (void *)(long)pthread_mutex_trylock(m); }

static void one_mutex(int type, int robust, int protocol) {
  pthread_mutexattr_t a;
  pthread_mutex_t m;
  void *r;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_settype(&a, type);
  pthread_mutexattr_setrobust(&a, robust);
  pthread_mutexattr_setprotocol(&a, protocol);
  say("type %d robust %d protocol %d: init %s", type, robust, protocol, err(pthread_mutex_init(&m, &a)));
  SAY_ERR(" lock", pthread_mutex_lock(&m));
  pthread_join(start(try_other, &m), &r);
  say(" other's try: %s", err((int)(long)r));
  struct timespec at = in_ms(CLOCK_REALTIME, 20);
  if (type != PTHREAD_MUTEX_NORMAL || protocol == PTHREAD_PRIO_NONE) SAY_ERR(" timed relock", pthread_mutex_timedlock(&m, &at));
  if (type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) SAY_ERR(" relock", pthread_mutex_lock(&m));
  for (int i = 0; i < 3; i++)
    SAY_ERR(" unlock", i == 0 || type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK ? pthread_mutex_unlock(&m) : 0);
  if (robust != PTHREAD_MUTEX_ROBUST) return;
  pthread_join(start(lock_and_die, &m), &r);
  SAY_ERR(" lock of the dead", pthread_mutex_lock(&m));
  SAY_ERR(" consistent", pthread_mutex_consistent(&m));
  SAY_ERR(" unlock", pthread_mutex_unlock(&m));
  pthread_join(start(lock_and_die, &m), &r);
  at = in_ms(CLOCK_REALTIME, 2000);
  SAY_ERR(" timedlock of the dead", pthread_mutex_timedlock(&m, &at));
  SAY_ERR(" unlock inconsistent", pthread_mutex_unlock(&m));
  SAY_ERR(" lock", pthread_mutex_lock(&m));
}

static void t_mutex_kinds(void) {
  static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP};
  for (unsigned t = 0; t < 4; t++)
    for (int robust = 0; robust < 2; robust++)
      for (int protocol = 0; protocol < 2; protocol++) one_mutex(types[t], robust, protocol);
}

static long shared_count;
static void *count_up(void *m) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(m);
    shared_count++;
    pthread_mutex_unlock(m);
  }
  return NULL;
}

static void t_mutex_counts(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(count_up, &mutex);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  say("count %ld", shared_count);
}

static void *rw_other(void *arg) {
  (void)arg;
  SAY_ERR("other's tryrd", pthread_rwlock_tryrdlock(&rwlock));
  SAY_ERR("other's trywr", pthread_rwlock_trywrlock(&rwlock));
  return NULL;
}

static void t_rwlock(void) {
  SAY_ERR("wr", pthread_rwlock_wrlock(&rwlock));
  SAY_ERR("wr again", pthread_rwlock_wrlock(&rwlock));
  SAY_ERR("rd in wr", pthread_rwlock_rdlock(&rwlock));
  pthread_join(start(rw_other, NULL), NULL);
  SAY_ERR("unlock", pthread_rwlock_unlock(&rwlock));
  SAY_ERR("rd", pthread_rwlock_rdlock(&rwlock));
  SAY_ERR("rd twice", pthread_rwlock_rdlock(&rwlock));
  struct timespec at = in_ms(CLOCK_REALTIME, 20);
  SAY_ERR("timed wr in rd", pthread_rwlock_timedwrlock(&rwlock, &at));
  SAY_ERR("unlock", pthread_rwlock_unlock(&rwlock));
  SAY_ERR("unlock", pthread_rwlock_unlock(&rwlock));
  SAY_ERR("trywr", pthread_rwlock_trywrlock(&rwlock));
}

static void *join_self(void *arg) {
  (void)arg;
  return (void *)(long)pthread_join(pthread_self(), NULL);
}

static void *five(void *arg) {
  (void)arg;
  return (void *)5;
}

static int c11_thread(void *arg) {
  (void)arg;
  return 77;
}

static void t_join(void) {
  void *r;
  pthread_t t = start(join_self, NULL);
  SAY_ERR("join", pthread_join(t, &r));
  SAY_ERR("join self", (int)(long)r);
  t = start(five, NULL);
  nap(30);
  SAY_ERR("join ended", pthread_join(t, &r));
  say("result %ld", (long)r);
  t = start(five, NULL);
  pthread_detach(t);
  thrd_t c;
  int res = 0;
  say("thrd_create %d", thrd_create(&c, c11_thread, NULL));
  say("thrd_join %d", thrd_join(c, &res));
  say("res %d", res);
  mtx_t m;
  mtx_init(&m, mtx_plain | mtx_recursive);
  say("mtx %d %d %d", mtx_lock(&m), mtx_trylock(&m), mtx_unlock(&m));
}

static void t_semaphore(void) {
  open_sem();
  sem_post(&sem);
  sem_post(&sem);
  SAY_CALL("wait", sem_wait(&sem));
  SAY_CALL("wait", sem_wait(&sem));
  SAY_CALL("trywait", sem_trywait(&sem));
}

/* --- sockets and files --- */

static void t_sockets(void) {
  open_sock();
  SAY_CALL("recv DONTWAIT", recv(sock[0], buf, 8, MSG_DONTWAIT));
  fcntl(sock[0], F_SETFL, O_NONBLOCK);
  SAY_CALL("recv nonblock", recv(sock[0], buf, 8, 0));
  SAY_CALL("read nonblock", read(sock[0], buf, 8));
  fcntl(sock[0], F_SETFL, 0);
  MUST(send(sock[1], "hello", 5, 0) == 5);
  SAY_CALL("peek", recv(sock[0], buf, 8, MSG_PEEK));
  SAY_CALL("recv 2", recv(sock[0], buf, 2, 0));
  SAY_CALL("recvfrom", recvfrom(sock[0], buf, 8, 0, NULL, NULL));
  SAY_CALL("send bad fd", send(-1, "x", 1, 0));
  SAY_CALL("recv bad fd", recv(-1, buf, 1, 0));
  SAY_CALL("recv not a socket", recv(0, buf, 1, 0));
  SAY_CALL("recv OOB", recv(sock[0], buf, 1, MSG_OOB));
  int udp = socket(AF_INET, SOCK_DGRAM, 0); /* Linux knows no error queue of Unix sockets, and waits for data */
  SAY_CALL("recv ERRQUEUE", recv(udp, buf, 1, MSG_ERRQUEUE));
  close(udp);
  close(sock[1]);
  SAY_CALL("recv at end", recv(sock[0], buf, 8, 0));
  signal(SIGPIPE, SIG_IGN);
  SAY_CALL("send at end", send(sock[0], "x", 1, 0));
  say("flags %x", (unsigned)fcntl(sock[0], F_GETFL));
}

static void *send_parts(void *arg) {
  int fd = *(int *)arg;
  for (int i = 0; i < 4; i++) {
    nap(15);
    MUST(send(fd, "abcd", 4, 0) == 4);
  }
  return NULL;
}

static void t_socket_waits(void) {
  struct sockaddr_in a;
  int l = tcp_listen(&a), c = socket(AF_INET, SOCK_STREAM, 0), s, low = 12, fl;
  MUST(connect(c, (void *)&a, sizeof a) == 0 && (s = accept(l, NULL, NULL)) >= 0);
  pthread_t t = start(send_parts, &s);
  SAY_CALL("waitall 16", recv(c, buf, 16, MSG_WAITALL));
  pthread_join(t, NULL);
  t = start(send_parts, &s);
  setsockopt(c, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
  ssize_t n = recv(c, buf, 32, 0);
  say("lowat 12: at least %d", n >= 12);
  pthread_join(t, NULL);
  fl = fcntl(c, F_GETFL);
  say("nonblock %d", (fl & O_NONBLOCK) != 0);
}

static void t_fcntl(void) {
  int fd = open("/dev/null", O_RDWR);
  SAY_CALL("setfd", fcntl(fd, F_SETFD, FD_CLOEXEC));
  SAY_CALL("getfd", fcntl(fd, F_GETFD));
  SAY_CALL("dupfd", fcntl(fd, F_DUPFD, 100) >= 100);
  SAY_CALL("getfl", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  SAY_CALL("bad fd", fcntl(-1, F_GETFL));
  SAY_CALL("bad cmd", fcntl(fd, 9999, 0));
  struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  SAY_CALL("setlk null file", fcntl(fd, F_SETLK, &l));
  SAY_CALL("getlk", fcntl(fd, F_GETLK, &l));
  say("type %d", l.l_type == F_UNLCK);
  SAY_CALL("close", close(fd));
  SAY_CALL("close again", close(fd));
}

static void t_files(void) {
  char name[] = "/tmp/rationtest-XXXXXX";
  int fd = mkstemp(name), fd2 = open(name, O_RDWR);
  unlink(name);
  SAY_CALL("pwrite", pwrite(fd, "hello", 5, 3));
  SAY_CALL("pread", pread(fd, buf, 8, 0));
  SAY_CALL("pread end", pread(fd, buf, 8, 100));
  SAY_CALL("pread neg", pread(fd, buf, 8, -1));
  struct iovec v[2] = {{buf, 2}, {buf + 2, 3}};
  SAY_CALL("preadv", preadv(fd, v, 2, 2));
  SAY_CALL("pwritev", pwritev(fd, v, 2, 8));
  SAY_CALL("preadv2", preadv2(fd, v, 2, 0, 0));
  SAY_CALL("preadv2 bad", preadv2(fd, v, 2, 0, 0x7fff0000));
  SAY_CALL("fsync", fsync(fd));
  SAY_CALL("fdatasync", fdatasync(fd));
  SAY_CALL("flock", flock(fd, LOCK_EX));
  SAY_CALL("flock busy", flock(fd2, LOCK_EX | LOCK_NB));
  SAY_CALL("lockf", lockf(fd, F_LOCK, 0));
  off_t at = 0;
  off64_t from = 0, to = 0;
  open_pipe();
  SAY_CALL("copy_file_range", copy_file_range(fd, &from, fd2, &(off64_t){100}, 4, 0));
  from = 0;
  SAY_CALL("splice", splice(fd, &from, pipefd[1], NULL, 4, 0));
  SAY_CALL("vmsplice", vmsplice(pipefd[1], v, 1, 0));
  SAY_CALL("splice out", splice(pipefd[0], NULL, fd2, &to, 6, 0));
  (void)at;
  static void *volatile bad = (void *)8;
  SAY_CALL("read dir", read(open("/", O_RDONLY), buf, 1));
  SAY_CALL("write efault", write(pipefd[1], bad, 1));
}

/* --- signals: dispositions --- */

static _Atomic int last_sig, last_code, last_sender_ok, nested;
static void on_info(int sig, siginfo_t *si, void *uc) {
  last_sig = sig;
  last_code = si->si_code;
  last_sender_ok = si->si_pid == getpid();
  (void)uc;
  handled++;
}
static void on_masks(int sig) {
  (void)sig;
  say_mask("in handler");
  handled++;
}

static void say_action(const char *what, int sig) {
  struct sigaction a;
  int r = sigaction(sig, NULL, &a);
  const char *h = a.sa_handler == SIG_DFL     ? "DFL"
                  : a.sa_handler == SIG_IGN   ? "IGN"
                  : a.sa_handler == on_sig    ? "on_sig"
                  : a.sa_sigaction == on_info ? "on_info"
                  : a.sa_handler == on_jump   ? "on_jump"
                  : a.sa_handler == on_masks  ? "on_masks"
                                              : "?";
  say("%s: %d %s flags %#x mask %d%d%d", what, r, h, (unsigned)a.sa_flags, sigismember(&a.sa_mask, SIGUSR2),
      sigismember(&a.sa_mask, SIGURG), sigismember(&a.sa_mask, SIGKILL));
}

static void dispositions(int sig) {
  struct sigaction a = {.sa_handler = on_sig, .sa_flags = SA_RESTART | SA_ONSTACK}, old;
  say_action("at first", sig);
  a.sa_mask = set_of(SIGUSR2, SIGURG);
  SAY_CALL("set", sigaction(sig, &a, &old));
  say_action("set", sig);
  a.sa_sigaction = on_info;
  a.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigfillset(&a.sa_mask);
  SAY_CALL("set info", sigaction(sig, &a, &old));
  say("old %d %#x", old.sa_handler == on_sig, (unsigned)old.sa_flags);
  say_action("set info", sig);
  raise(sig);
  say("handled %d sig %d code %d sender %d", handled, last_sig == sig, last_code, last_sender_ok);
  kill(getpid(), sig);
  for (int i = 0; i < 200 && handled < 2; i++) nap(10);
  say("handled %d code %d", handled, last_code);
  sigqueue(getpid(), sig, (union sigval){.sival_int = 3});
  for (int i = 0; i < 200 && handled < 3; i++) nap(10);
  say("handled %d code %d", handled, last_code);
  say("signal %d", signal(sig, on_sig) == (void *)on_info);
  say_action("signal", sig);
  SAY_CALL("siginterrupt", siginterrupt(sig, 1));
  say_action("siginterrupt", sig);
  signal(sig, on_sig);
  say_action("signal again", sig);
  siginterrupt(sig, 0);
  say_action("siginterrupt 0", sig);
  say("ignore %d", signal(sig, SIG_IGN) == on_sig);
  say_action("ignored", sig);
  raise(sig);
  say("handled %d", handled);
  a.sa_handler = on_sig;
  a.sa_flags = (int)SA_RESETHAND;
  sigaction(sig, &a, NULL);
  say_action("resethand", sig);
  raise(sig);
  say("handled %d", handled);
  say_action("after resethand", sig);
  say("sysv %d", sysv_signal(sig, on_sig) == SIG_DFL);
  say_action("sysv", sig);
  sigignore(sig);
  say_action("sigignore", sig);
  say("sigset %d", sigset(sig, on_sig) == SIG_IGN);
  say_action("sigset", sig);
  say("hold %d", sigset(sig, SIG_HOLD) == on_sig);
  say_mask("held");
  raise(sig);
  say("handled %d", handled);
  say("sigset held %d", sigset(sig, on_sig) == SIG_HOLD);
  say("handled %d", handled);
  sighold(sig);
  say_mask("held");
  sigrelse(sig);
  say_mask("released");
  a.sa_handler = SIG_DFL;
  SAY_CALL("default", sigaction(sig, &a, &old));
  say_action("default", sig);
}

static void t_dispositions_usr1(void) { dispositions(SIGUSR1); }
static void t_dispositions_urg(void) { dispositions(SIGURG); }
static void t_dispositions_rt(void) { dispositions(SIGRTMIN + 2); }

static void t_disposition_errors(void) {
  struct sigaction a = {.sa_handler = on_sig};
  static const int bad[] = {0, -1, 65, SIGKILL, SIGSTOP, 32, 33};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    SAY_CALL("sigaction", sigaction(bad[i], &a, NULL));
    errno = 0;
    say("signal %d %s", signal(bad[i], on_sig) == SIG_ERR, err(errno));
    SAY_CALL("query", sigaction(bad[i], NULL, &(struct sigaction){0}));
  }
  errno = 0;
  say("signal ERR %d %s", signal(SIGUSR1, SIG_ERR) == SIG_ERR, err(errno));
}

/* All dispositions as a fresh process sees them. */
static void t_dispositions_at_start(void) {
  for (int i = 1; i < 32; i++) {
    struct sigaction a;
    if (sigaction(i, NULL, &a) == 0) say("%d: %d %#x", i, a.sa_handler != SIG_DFL, (unsigned)a.sa_flags);
  }
  say_mask("at start");
}

static void on_nested(int sig) {
  if (++nested == 1)
    raise(sig);
  else
    say("deep");
  say_mask("nested");
  handled++;
}

static void t_handler_masks(void) {
  static const int sigs[] = {SIGUSR1, SIGURG};
  static const int flags[] = {0, SA_NODEFER};
  for (int i = 0; i < 4; i++) {
    struct sigaction a = {.sa_handler = on_nested, .sa_flags = flags[i % 2]};
    a.sa_mask = i % 2 ? set_of(SIGTERM, 0) : set_of(SIGUSR2, SIGHUP);
    sigaction(sigs[i / 2], &a, NULL);
    nested = 0;
    raise(sigs[i / 2]);
    say_mask("after");
    say("handled %d", handled);
  }
  sigset_t block = set_of(SIGURG, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &block, NULL);
  nested = 0;
  raise(SIGUSR1);
  say_mask("after with URG blocked");
}

static void on_edit(int sig, siginfo_t *si, void *ctx) {
  ucontext_t *uc = ctx;
  (void)sig, (void)si;
  say("context has URG %d TERM %d", sigismember(&uc->uc_sigmask, SIGURG), sigismember(&uc->uc_sigmask, SIGTERM));
  sigaddset(&uc->uc_sigmask, SIGHUP);
  if (sigismember(&uc->uc_sigmask, SIGURG))
    sigdelset(&uc->uc_sigmask, SIGURG);
  else
    sigaddset(&uc->uc_sigmask, SIGURG);
}

static void t_handler_edits_mask(void) {
  struct sigaction a = {.sa_sigaction = on_edit, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &a, NULL);
  for (int i = 0; i < 3; i++) {
    raise(SIGUSR1);
    say_mask("after");
  }
}

static void on_stack(int sig) {
  stack_t now;
  (void)sig;
  sigaltstack(NULL, &now);
  say("on alternate stack %d", (now.ss_flags & SS_ONSTACK) != 0);
}

static void t_handler_stack(void) {
  static char stack[1 << 16];
  stack_t st = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&st, NULL);
  static const int sigs[] = {SIGUSR1, SIGURG};
  for (int i = 0; i < 4; i++) {
    struct sigaction a = {.sa_handler = on_stack, .sa_flags = i % 2 ? SA_ONSTACK : 0};
    sigaction(sigs[i / 2], &a, NULL);
    raise(sigs[i / 2]);
  }
}

/* An alternate stack of the usual size is enough in the child of a fork that works for some time, and nothing below it is touched. */
static void t_handler_stack_in_child(void) {
  enum { SIZE = 8192, BELOW = 65536 };
  char *at = mmap(NULL, BELOW + SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(at != MAP_FAILED);
  stack_t st = {.ss_sp = at + BELOW, .ss_size = SIZE};
  MUST(sigaltstack(&st, NULL) == 0);
  pid_t pid = fork();
  MUST(pid >= 0);
  if (pid == 0) {
    struct timespec cpu;
    do MUST(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0);
    while (cpu.tv_sec == 0 && cpu.tv_nsec < 100000000);
    int touched = 0;
    for (int i = 0; i < BELOW; i++) touched |= at[i];
    say("child: below %s", touched ? "overwritten" : "untouched");
    _exit(0);
  }
  MUST(waitpid(pid, NULL, 0) == pid);
}

/* Where the time stamp counter faults, only what reads it does. */
static void t_handler_fault_tsc(void) {
#if defined(__x86_64__)
  struct sigaction a = {.sa_handler = on_jump};
  sigaction(SIGSEGV, &a, NULL);
  for (volatile int i = 0; i < 3; i++) {
    int s = sigsetjmp(jump, 1);
    if (s == 0) {
      MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
      SAY_CALL("usleep", usleep(20000));
      SAY_CALL("poll", poll(NULL, 0, 20));
      say("before");
      __builtin_ia32_rdtsc();
    }
    MUST(prctl(PR_SET_TSC, PR_TSC_ENABLE, 0, 0, 0) == 0);
    say("fault %d", s == SIGSEGV);
  }
#endif
}

static void on_errno(int sig) {
  (void)sig;
  close(-1);
}

static void t_handler_fault(void) {
  static volatile int *volatile nowhere = (volatile int *)8;
  struct sigaction a = {.sa_handler = on_jump, .sa_flags = SA_NODEFER};
  sigaction(SIGSEGV, &a, NULL);
  sigaction(SIGFPE, &a, NULL);
  for (volatile int i = 0; i < 3; i++) {
    int s = sigsetjmp(jump, 1);
    if (s == 0) *nowhere = 1;
    say("fault %d", s == SIGSEGV);
  }
  signal(SIGUSR1, on_errno);
  errno = 0;
  raise(SIGUSR1);
  say("errno as the handler left it: %s", err(errno));
}

/* --- masks --- */

static void *say_mask_thread(void *what) {
  say_mask(what);
  return NULL;
}

static void t_masks(void) {
  sigset_t all, old, one = set_of(SIGURG, 0), two = set_of(SIGURG, SIGUSR1);
  sigfillset(&all);
  SAY_ERR("block all", pthread_sigmask(SIG_BLOCK, &all, &old));
  say("old had URG %d", sigismember(&old, SIGURG));
  say_mask("all");
  pthread_join(start(say_mask_thread, "thread of all"), NULL);
  SAY_ERR("unblock URG", pthread_sigmask(SIG_UNBLOCK, &one, &old));
  say("old had URG %d", sigismember(&old, SIGURG));
  say_mask("all but URG");
  pthread_join(start(say_mask_thread, "thread of all but URG"), NULL);
  SAY_CALL("set two", sigprocmask(SIG_SETMASK, &two, &old));
  say("old had URG %d", sigismember(&old, SIGURG));
  say_mask("two");
  sigset_t *same = &old;
  SAY_CALL("set same place", sigprocmask(SIG_SETMASK, &old, same));
  say("had URG %d", sigismember(&old, SIGURG));
  say_mask("back");
  SAY_ERR("bad how", pthread_sigmask(77, &one, &old));
  SAY_CALL("bad how", sigprocmask(77, &one, &old));
  say_mask("the same");
  sigemptyset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  say_mask("none");
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setsigmask_np(&attr, &two);
  pthread_t t;
  pthread_create(&t, &attr, say_mask_thread, "thread by attribute");
  pthread_join(t, NULL);
}

#define BIT(sig) (1 << ((sig)-1))
static void t_masks_bsd(void) {
  say("%#x", (unsigned)sigblock(BIT(SIGURG) | BIT(SIGHUP)));
  say("%#x", (unsigned)sigsetmask(BIT(SIGUSR1)));
  say("%#x", (unsigned)siggetmask());
  say("%#x", (unsigned)sigsetmask(BIT(SIGURG)));
  say("%#x", (unsigned)siggetmask());
  say_mask("bsd");
}

/* A child, not under any preload, shows what it inherited. */
static char *const grep[] = {"grep", "-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status", NULL};
static char *const empty_env[] = {NULL};

static void inherit_all_ways(void) {
  pid_t p = fork();
  if (p == 0) {
    say_mask("forked");
    execve("/usr/bin/grep", grep, empty_env);
    _exit(9);
  }
  say_wait("fork exec", p);
  p = vfork();
  if (p == 0) {
    execve("/usr/bin/grep", grep, empty_env);
    _exit(9);
  }
  say_wait("vfork exec", p);
  int e = posix_spawn(&p, "/usr/bin/grep", NULL, NULL, grep, empty_env);
  say_wait("spawned", p);
  SAY_ERR("spawn", e);
  e = posix_spawnp(&p, "grep", NULL, NULL, grep, empty_env);
  say_wait("spawned", p);
  SAY_ERR("spawnp", e);
  posix_spawnattr_t attr;
  sigset_t two = set_of(SIGURG, SIGUSR1);
  posix_spawnattr_init(&attr);
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setsigmask(&attr, &two);
  e = posix_spawn(&p, "/usr/bin/grep", NULL, &attr, grep, empty_env);
  say_wait("spawned", p);
  SAY_ERR("spawn with mask", e);
  p = (pid_t)syscall(SYS_fork);
  if (p == 0) {
    syscall(SYS_execve, "/usr/bin/grep", grep, empty_env);
    _exit(9);
  }
  say_wait("raw fork exec", p);
  p = vfork();
  if (p == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGURG, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    execve("/usr/bin/grep", grep, empty_env);
    _exit(9);
  }
  say_wait("vfork, none blocked", p);
  say_mask("parent still");
  fflush(stdout);
  char line[] = "env -i grep -E '^SigBlk' /proc/self/status";
  say("system %#x", (unsigned)system(line));
  FILE *f = popen(line, "r");
  char got[100] = "";
  if (!fgets(got, sizeof got, f)) strcpy(got, "?");
  got[strcspn(got, "\n")] = 0;
  say("popen %s, close %#x", got, (unsigned)pclose(f));
}

static void t_inherit_blocked(void) {
  sigset_t s = set_of(SIGURG, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  inherit_all_ways();
}

static void t_inherit_open(void) { inherit_all_ways(); }

static void t_inherit_ignored(void) {
  signal(SIGURG, SIG_IGN);
  signal(SIGUSR2, SIG_IGN);
  pid_t p = fork();
  if (p == 0) {
    say_action("forked", SIGURG);
    execl("/usr/bin/env", "env", "-i", "grep", "-E", "^SigIgn", "/proc/self/status", (char *)NULL);
    _exit(9);
  }
  say_wait("fork exec", p);
  p = fork();
  if (p == 0) {
    execl(self_path, self_path, "dispositions_at_start", (char *)NULL);
    _exit(9);
  }
  say_wait("fork exec self", p);
}

static void t_inherit_handler(void) {
  signal(SIGURG, on_sig);
  signal(SIGUSR1, on_sig);
  pid_t p = fork();
  if (p == 0) {
    say_action("forked", SIGURG);
    say_action("forked", SIGUSR1);
    raise(SIGURG);
    raise(SIGUSR1);
    say("handled %d", handled);
    execl(self_path, self_path, "dispositions_at_start", (char *)NULL);
    _exit(9);
  }
  say_wait("fork exec self", p);
  /* A vfork child that resets the signals must not reset ours. */
  p = vfork();
  if (p == 0) {
    signal(SIGURG, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_IGN);
    _exit(4);
  }
  say_wait("vfork", p);
  say_action("after vfork", SIGURG);
  say_action("after vfork", SIGUSR1);
  raise(SIGURG);
  raise(SIGUSR1);
  say("handled %d", handled);
}

static void t_inherit_exec_self(void) {
  sigset_t s = set_of(SIGURG, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  execlp(self_path, self_path, "dispositions_at_start", (char *)NULL);
}

/* --- SIGURG as the program's own --- */

static void t_urg_pending(void) {
  sigset_t s = set_of(SIGURG, 0), p;
  struct sigaction a = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
  sigaction(SIGURG, &a, NULL);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  sigpending(&p);
  say("pending %d", sigismember(&p, SIGURG));
  pthread_kill(pthread_self(), SIGURG);
  sigpending(&p);
  say("pending %d handled %d", sigismember(&p, SIGURG), handled);
  kill(getpid(), SIGURG);
  nap(20);
  sigpending(&p);
  say("pending %d handled %d", sigismember(&p, SIGURG), handled);
  say_mask("still");
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  for (int i = 0; i < 200 && handled < 2; i++) nap(10);
  say("handled %d", handled);
  say_mask("then");
  raise(SIGURG);
  say("handled %d code %d", handled, last_code);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  raise(SIGURG);
  say("handled %d", handled);
  sigemptyset(&p);
  sigsuspend(&p);
  say("handled %d", handled);
  say_mask("at last");
}

static void *pass_by(void *arg) { return arg; }

/* All block it, and threads that are only just born do too: nobody may get it before it is taken. */
static void t_urg_among_newborns(void) {
  sigset_t s = set_of(SIGURG, 0), p;
  struct sigaction a = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  sigaction(SIGURG, &a, NULL);
  for (int i = 0; i < 100; i++) {
    pthread_t t[3];
    for (size_t k = 0; k < 3; k++) t[k] = start(pass_by, NULL);
    if (i % 5 == 0) kill(getpid(), SIGURG);
    for (size_t k = 0; k < 3; k++) pthread_join(t[k], NULL);
  }
  sigpending(&p);
  say("pending %d handled %d", sigismember(&p, SIGURG), handled);
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  say("handled %d", handled);
}

static void *urg_taker(void *arg) {
  sigset_t s = set_of(SIGURG, 0);
  (void)arg;
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  flag = true;
  for (int i = 0; i < 500 && !handled; i++) nap(10);
  say("taker: handled %d", handled);
  return NULL;
}

/* All block it but one: that one must get it. */
static void t_urg_to_the_open_thread(void) {
  sigset_t s = set_of(SIGURG, 0);
  struct sigaction a = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  sigaction(SIGURG, &a, NULL);
  pthread_t t = start(urg_taker, NULL);
  while (!flag) nap(1);
  kill(getpid(), SIGURG);
  pthread_join(t, NULL);
  say("code %d", last_code);
}

static void *send_urg(void *arg) {
  nap(30);
  kill(getpid(), arg ? SIGUSR1 : SIGURG);
  return NULL;
}
static void start_sender(void *which) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  helper_thread = start(send_urg, which);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void t_urg_sigwait(void) {
  sigset_t s = set_of(SIGURG, SIGUSR1);
  siginfo_t si;
  int sig = 0;
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  for (int i = 0; i < 3; i++) {
    start_sender(NULL);
    int r = sigwait(&s, &sig);
    say("sigwait %d %d", r, sig == SIGURG);
    pthread_join(helper_thread, NULL);
  }
  start_sender(NULL);
  say("sigwaitinfo %d", sigwaitinfo(&s, &si) == SIGURG && si.si_pid == getpid());
  pthread_join(helper_thread, NULL);
  start_sender((void *)1);
  say("sigwait other %d", sigwaitinfo(&s, &si) == SIGUSR1);
  pthread_join(helper_thread, NULL);
  pthread_kill(pthread_self(), SIGURG);
  struct timespec zero = {0, 0};
  say("polled %d", sigtimedwait(&s, &si, &zero) == SIGURG);
  SAY_CALL("none left", sigtimedwait(&s, &si, &zero));
}

static void t_urg_signalfd(void) {
  sigset_t s = set_of(SIGURG, 0);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  int fd = signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK);
  epfd = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN};
  epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
  for (int i = 0; i < 3; i++) {
    struct signalfd_siginfo si = {0};
    start_sender(NULL);
    SAY_CALL("epoll_wait", epoll_wait(epfd, events, 1, -1));
    SAY_CALL("read", read(fd, &si, sizeof si));
    say("signo %d", si.ssi_signo == SIGURG);
    SAY_CALL("read", read(fd, &si, sizeof si));
    pthread_join(helper_thread, NULL);
  }
  pid_t p = fork();
  if (p == 0) {
    kill(getpid(), SIGURG);
    struct signalfd_siginfo si = {0};
    struct pollfd pf = {.fd = fd, .events = POLLIN};
    SAY_CALL("child poll", poll(&pf, 1, 5000));
    SAY_CALL("child read", read(fd, &si, sizeof si));
    _exit(0);
  }
  say_wait("child", p);
}

static void t_urg_oob(void) {
  struct sockaddr_in a;
  int l = tcp_listen(&a), c = socket(AF_INET, SOCK_STREAM, 0), s;
  MUST(connect(c, (void *)&a, sizeof a) == 0 && (s = accept(l, NULL, NULL)) >= 0);
  struct sigaction act = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGURG, &act, NULL);
  fcntl(s, F_SETOWN, getpid());
  MUST(send(c, "abc", 3, MSG_OOB) == 3);
  for (int i = 0; i < 500 && !handled; i++) nap(10);
  say("handled %d sig %d code %d", handled, last_sig == SIGURG, last_code);
  int mark = 0;
  SAY_CALL("recv", recv(s, buf, 8, 0));
  ioctl(s, SIOCATMARK, &mark);
  say("at mark %d", mark);
  SAY_CALL("recv OOB", recv(s, buf, 8, MSG_OOB));
  say("byte %c", buf[0]);
}

static void t_urg_oob_ignored(void) {
  struct sockaddr_in a;
  int l = tcp_listen(&a), c = socket(AF_INET, SOCK_STREAM, 0), s;
  MUST(connect(c, (void *)&a, sizeof a) == 0 && (s = accept(l, NULL, NULL)) >= 0);
  fcntl(s, F_SETOWN, getpid());
  for (int i = 0; i < 3; i++) {
    MUST(send(c, "x", 1, MSG_OOB) == 1);
    nap(5);
    struct pollfd p = {.fd = s, .events = POLLPRI};
    SAY_CALL("poll", poll(&p, 1, 5000));
    SAY_CALL("recv OOB", recv(s, buf, 1, MSG_OOB));
  }
}

static void t_urg_longjmp(void) {
  signal(SIGURG, on_jump);
  for (volatile int i = 0; i < 5; i++) {
    if (sigsetjmp(jump, 1) == 0) {
      raise(SIGURG);
      say("not reached");
    }
    say_mask("after");
  }
  if (sigsetjmp(jump, 0) == 0) raise(SIGURG);
  say_mask("without the mask");
}

static void *only_urg(void *arg) {
  sigset_t s;
  (void)arg;
  sigfillset(&s);
  sigdelset(&s, SIGURG);
  struct timespec ts = {5, 0};
  open_pipe();
  struct pollfd p = pfd();
  flag = true;
  SAY_CALL("ppoll", ppoll(&p, 1, &ts, &s));
  say_mask("after ppoll");
  return NULL;
}

/* Blocked but in the mask of ppoll: only there it may come. */
static void t_urg_ppoll(void) {
  sigset_t s = set_of(SIGURG, 0);
  signal(SIGURG, on_sig);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  pthread_t t = start(only_urg, NULL);
  while (!flag) nap(1);
  nap(30);
  say("handled %d", handled);
  pthread_kill(t, SIGURG);
  pthread_join(t, NULL);
  say("handled %d", handled);
  raise(SIGURG);
  say("handled %d", handled);
}

static void t_masked_waits(void) {
  sigset_t block = set_of(SIGUSR1, 0), open;
  struct timespec ts = {5, 0}, zero = {0, 0};
  sigemptyset(&open);
  signal(SIGUSR1, on_sig);
  pthread_sigmask(SIG_BLOCK, &block, NULL);
  open_epoll();
  struct pollfd p = pfd();
  fd_set r;
  FD_ZERO(&r);
  FD_SET(pipefd[0], &r);
  raise(SIGUSR1);
  SAY_CALL("ppoll", ppoll(&p, 1, &ts, &open));
  raise(SIGUSR1);
  SAY_CALL("ppoll 0", ppoll(&p, 1, &zero, &open));
  raise(SIGUSR1);
  SAY_CALL("pselect", pselect(pipefd[0] + 1, &r, NULL, NULL, &ts, &open));
  raise(SIGUSR1);
  SAY_CALL("epoll_pwait", epoll_pwait(epfd, events, 1, 5000, &open));
  raise(SIGUSR1);
  SAY_CALL("epoll_pwait2", epoll_pwait2(epfd, events, 1, &ts, &open));
  raise(SIGUSR1);
  put_pipe();
  SAY_CALL("epoll_pwait with data", epoll_pwait(epfd, events, 1, 5000, &open) >= -1);
  say("handled %d", handled);
  raise(SIGUSR1);
  SAY_CALL("sigsuspend", sigsuspend(&open));
  say_mask("after");
}

static void t_sigpause(void) {
  signal(SIGUSR1, on_sig);
  sighold(SIGUSR1);
  raise(SIGUSR1);
  SAY_CALL("sigpause", sigpause(SIGUSR1));
  say_mask("after");
  say("handled %d", handled);
}

/* --- processes --- */

static void t_exit_codes(void) {
  for (int i = 0; i < 5; i++) {
    pid_t p = fork();
    if (p == 0) {
      if (i == 0) exit(3);
      if (i == 1) _exit(4);
      if (i == 2) kill(getpid(), SIGKILL);
      if (i == 3) raise(SIGTERM);
      if (i == 4) abort();
    }
    int status = 0;
    waitpid(p, &status, 0);
    say("%d: exited %d %d signalled %d %d", i, WIFEXITED(status), WIFEXITED(status) ? WEXITSTATUS(status) : 0, WIFSIGNALED(status),
        WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  }
  SAY_CALL("no child", wait(NULL));
}

static void *exiter(void *arg) {
  (void)arg;
  nap(10);
  exit(23);
}

static void t_exit_from_thread(void) {
  start(exiter, NULL);
  for (;;) pause();
}

static void at_exit_says(void) { say("atexit"); }
static void *outlive(void *arg) {
  (void)arg;
  nap(30);
  say("thread outlived main");
  return NULL;
}

/* The child of a vfork among threads that compute makes calls of its own, also when its parent is no more. */
static void t_vfork_child_lives_on(void) {
  int fd[2];
  char text[100] = "";
  MUST(pipe(fd) == 0);
  pid_t p = fork();
  if (p == 0) {
    for (int i = 0; i < 2; i++) start(burn, NULL);
    nap(60);
    if (vfork() == 0) {
      struct timespec ms = {0, 1000000};
      if (write(fd[1], ".", 1) != 1) _exit(1);
      for (int i = 0; i < 150; i++) {
        close(-1);
        nanosleep(&ms, NULL);
      }
      _exit(write(fd[1], "child is done", 13) != 13);
    }
    _exit(0); /* not so far: it is killed */
  }
  close(fd[1]);
  MUST(read(fd[0], text, 1) == 1); /* it has begun */
  nap(50);
  kill(p, SIGKILL);
  say_wait("parent", p);
  MUST(read(fd[0], text, sizeof text - 1) >= 0);
  say("%s", text);
}

static void t_pthread_exit_main(void) {
  if (getenv("POSIX_HOGS")) return; /* they never end */
  atexit(at_exit_says);
  start(outlive, NULL);
  pthread_exit(NULL);
}

static int atfork_step;
static int atfork_order[2]; /* the parent speaks first */
static void prepare_a(void) { say("prepare a %d", atfork_step++); }
static void parent_a(void) {
  say("parent a");
  MUST(write(atfork_order[1], "p", 1) == 1);
}
static void child_a(void) {
  char c;
  MUST(read(atfork_order[0], &c, 1) == 1);
  say("child a");
}
static void prepare_b(void) {
  pthread_mutex_lock(&mutex);
  nap(1);
  say("prepare b %d", atfork_step++);
}
static void parent_b(void) { pthread_mutex_unlock(&mutex); }
static void child_b(void) {
  pthread_mutex_unlock(&mutex);
  say("child b");
}

static void *churn(void *arg) {
  (void)arg;
  while (!flag) {
    void *p[16];
    for (int i = 0; i < 16; i++) p[i] = malloc(100 + (size_t)i * 3000);
    for (int i = 0; i < 16; i++) free(p[i]);
    pthread_mutex_lock(&mutex);
    shared_count++;
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void t_fork_handlers(void) {
  MUST(pipe(atfork_order) == 0);
  pthread_atfork(prepare_a, parent_a, child_a);
  pthread_atfork(prepare_b, parent_b, child_b);
  int fd[2];
  MUST(pipe(fd) == 0);
  pid_t p = fork();
  if (p == 0) {
    char *s = malloc(100);
    snprintf(s, 100, "forked child");
    say("%s", s);
    char c;
    MUST(write(fd[1], "x", 1) == 1 && read(fd[0], &c, 1) == 1);
    pthread_join(start(five, NULL), NULL);
    exit(5);
  }
  say_wait("child", p);
}

/* Forks while other threads are in malloc and in locks. */
static void t_fork_among_threads(void) {
  pthread_t t[3];
  for (int i = 0; i < 3; i++) t[i] = start(churn, NULL);
  int ok = 0;
  for (int i = 0; i < 40; i++) {
    pid_t p = fork();
    if (p == 0) {
      free(malloc(5000));
      if (i % 4 == 0) pthread_join(start(five, NULL), NULL);
      _exit(6);
    }
    int status = 0;
    if (waitpid(p, &status, 0) == p && status == 6 << 8) ok++;
  }
  flag = true;
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  say("ok %d", ok);
}

static int clone_fn(void *arg) {
  say("cloned %d", *(int *)arg);
  nap(1);
  return 8;
}

static void t_clone(void) {
  static char stack[1 << 16] __attribute__((aligned(16)));
  int x = 42;
  int p = clone(clone_fn, stack + sizeof stack, SIGCHLD, &x);
  say_wait("clone", p);
  p = clone(clone_fn, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &x);
  say_wait("clone like vfork", p);
  p = _Fork();
  if (p == 0) {
    nap(1);
    _exit(3);
  }
  say_wait("_Fork", p);
  p = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (p == 0) {
    nap(1);
    _exit(2);
  }
  say_wait("raw clone", p);
  SAY_CALL("clone null", clone(NULL, NULL, SIGCHLD, NULL));
}

static void t_vfork(void) {
  pid_t p = vfork();
  if (p == 0) {
    if (write(1, "in vfork\n", 9) != 9) _exit(1);
    execl("/no/such", "x", (char *)NULL);
    if (write(1, "exec failed\n", 12) != 12) _exit(1);
    _exit(errno == ENOENT ? 6 : 7);
  }
  say_wait("vfork", p);
  p = vfork();
  if (p == 0) {
    execlp("sh", "sh", "-c", "echo from sh; exit 5", (char *)NULL);
    _exit(9);
  }
  say_wait("vfork exec", p);
  nap(1);
}

static void t_exec_errors(void) {
  char *const argv[] = {"x", NULL};
  SAY_CALL("execve", execve("/no/such", argv, environ));
  SAY_CALL("execv", execv("/etc/passwd", argv));
  SAY_CALL("execvp", execvp("no-such-program-here", argv));
  SAY_CALL("execvp empty", execvp("", argv));
  SAY_CALL("execvpe", execvpe("no-such-program-here", argv, environ));
  SAY_CALL("execl", execl("/", "x", (char *)NULL));
  SAY_CALL("execlp", execlp("no-such-program-here", "x", "y", (char *)NULL));
  SAY_CALL("execle", execle("/no/such", "x", (char *)NULL, environ));
  SAY_CALL("fexecve", fexecve(-1, argv, environ));
  SAY_CALL("execveat", execveat(AT_FDCWD, "no/such", argv, environ, 0));
  pid_t p;
  SAY_ERR("spawn", posix_spawn(&p, "/no/such", NULL, NULL, argv, environ));
  SAY_ERR("spawnp", posix_spawnp(&p, "no-such-program-here", NULL, NULL, argv, environ));
  say_mask("after");
  nap(5);
}

static void t_exec_ways(void) {
  char *const env[] = {"A=b", NULL};
  char *const argv[] = {"sh", "-c", "echo $0 $A $1", "zero", "one", NULL};
  for (int i = 0; i < 7; i++) {
    pid_t p = fork();
    if (p == 0) {
      if (i == 0) execle("/bin/sh", "sh", "-c", "echo $0 $A $1", "zero", "one", (char *)NULL, env);
      if (i == 1) execve("/bin/sh", argv, env);
      if (i == 2) execvpe("sh", argv, env);
      if (i == 3) fexecve(open("/bin/sh", O_RDONLY), argv, env);
      if (i == 4) execveat(AT_FDCWD, "/bin/sh", argv, env, 0);
      if (i == 5) execlp("sh", "sh", "-c", "echo $0 $1 $2 $3 $4 $5 $6 $7 $8 $9", "a", "b", "c", "d", "e", "f", "g", "h", "i", (char *)NULL);
      if (i == 6) execl("/bin/sh", "sh", (char *)NULL);
      _exit(9);
    }
    say_wait("exec", p);
  }
}

static void *exec_thread(void *arg) {
  (void)arg;
  execl("/bin/sh", "sh", "-c", "echo replaced; exit 12", (char *)NULL);
  return NULL;
}

static void t_exec_from_thread(void) {
  start(exec_thread, NULL);
  for (;;) pause();
}

static void t_daemon(void) {
  int fd[2];
  MUST(pipe(fd) == 0);
  pid_t p = fork();
  if (p == 0) {
    pid_t me = getpid();
    int r = daemon(0, 1);
    for (int i = 0; i < 5000 && getppid() == me; i++) nap(1); /* its parent is on its way out */
    dprintf(fd[1], "daemon %d, new pid %d, leader %d, alone %d\n", r, getpid() != me, getsid(0) == getpid(), getppid() != me);
    pthread_join(start(five, NULL), NULL);
    nap(5);
    dprintf(fd[1], "lives\n");
    _exit(0);
  }
  close(fd[1]);
  say_wait("first child", p);
  char text[200];
  size_t n = 0;
  for (ssize_t r; (r = read(fd[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)r;
  text[n] = 0;
  say("%s", text);
}

static void t_system(void) {
  say("%#x", (unsigned)system("exit 3"));
  say("%#x", (unsigned)system("kill -TERM $$"));
  say("%d", system(NULL) != 0);
  FILE *f = popen("cat; exit 2", "w");
  fputs("through a pipe\n", f);
  say("pclose %#x", (unsigned)pclose(f));
  f = popen("echo one; echo two", "r");
  while (fgets(buf, sizeof buf, f)) say("got %s", buf);
  say("pclose %#x", (unsigned)pclose(f));
  say_action("INT", SIGINT);
  say_action("QUIT", SIGQUIT);
  say_mask("after");
}

static void *cancel_system(void *arg) {
  (void)arg;
  return (void *)(long)system("exec sleep 30"); /* one process: the shell is what a cancelled system ends */
}

static void t_system_cancelled(void) {
  pthread_t t = start(cancel_system, NULL);
  nap(60);
  pthread_cancel(t);
  void *r;
  pthread_join(t, &r);
  say("cancelled %d", r == PTHREAD_CANCELED);
  say_action("INT", SIGINT);
}

static _Atomic int rounds;
static void key_again(void *arg) {
  rounds++;
  nap(1);
  if ((long)arg < 3) pthread_setspecific(key, (void *)((long)arg + 1));
}

static void *key_thread(void *arg) {
  (void)arg;
  pthread_setspecific(key, (void *)1);
  nap(1);
  return (void *)1;
}

static void *exit_deep(void *arg) {
  pthread_setspecific(key, (void *)2);
  pthread_cleanup_push(clean, NULL);
  pthread_exit(arg);
  pthread_cleanup_pop(0);
}

static void t_thread_ends(void) {
  void *r;
  pthread_key_create(&key, key_again);
  pthread_join(start(key_thread, NULL), &r);
  say("rounds %d", rounds);
  pthread_join(start(exit_deep, (void *)44), &r);
  say("result %ld rounds %d cleaned %d", (long)r, rounds, cleaned);
}

static void *ids(void *arg) {
  (void)arg;
  for (int i = 0; i < 500 && !flag; i++) nap(10);
  uid_t r, e, s;
  getresuid(&r, &e, &s);
  say("thread: %u %u %u, egid %u", r, e, s, getegid());
  return NULL;
}

static void t_credentials(void) {
  if (getuid() != 0) {
    say("not root");
    return;
  }
  pthread_t t = start(ids, NULL);
  gid_t groups[2] = {5, 6}, got[8];
  SAY_CALL("setgroups", setgroups(2, groups));
  say("groups %d", getgroups(8, got));
  SAY_CALL("initgroups", initgroups("nobody", 65534));
  say("groups %d %u", getgroups(8, got), got[0]);
  SAY_CALL("setegid", setegid(65534));
  SAY_CALL("seteuid", seteuid(65534));
  SAY_CALL("setuid refused", setuid(1));
  SAY_CALL("seteuid back", seteuid(0));
  SAY_CALL("setresuid", setresuid(65533, 65534, 0));
  flag = true;
  pthread_join(t, NULL);
  SAY_CALL("seteuid 0", seteuid(0));
  SAY_CALL("setgid", setgid(65534));
  SAY_CALL("setuid", setuid(65534));
  SAY_CALL("seteuid refused", seteuid(0));
  nap(5);
}

/* Each stops ration's own threads and starts them again; what one of them leaves may not end the program. */
static void t_credentials_often(void) {
  int wrong = 0;
  for (int i = 0; i < 200; i++) wrong += setresuid((uid_t)-1, geteuid(), (uid_t)-1) != 0;
  say("wrong %d", wrong);
}

static void t_sandboxes(void) {
  SAY_CALL("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  SAY_CALL("get", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  SAY_CALL("name", prctl(PR_SET_NAME, "posixtest"));
  char name[16];
  SAY_CALL("name", prctl(PR_GET_NAME, name));
  say("%s", name);
  SAY_CALL("prctl bad", prctl(99999, 0, 0, 0, 0));
  SAY_CALL("unshare files", unshare(CLONE_FILES));
  SAY_CALL("unshare bad", unshare(1));
  SAY_CALL("setns bad", setns(-1, 0));
  pthread_join(start(five, NULL), NULL);
  nap(5);
}

static void t_unshare_user(void) {
  if (getenv("POSIX_HOGS")) return;
  SAY_CALL("unshare user", unshare(CLONE_NEWUSER));
  say("uid %u", getuid());
  pthread_join(start(five, NULL), NULL);
}

static void t_seccomp_strict(void) {
  pid_t p = fork();
  if (p == 0) {
    if (prctl(PR_SET_SECCOMP, 1) == 0 && write(1, "sealed\n", 7) != 7) syscall(SYS_exit, 1);
    syscall(SYS_exit, 0);
  }
  say_wait("strict", p);
  p = fork();
  if (p == 0) {
    prctl(PR_SET_SECCOMP, 1);
    getppid();
    syscall(SYS_exit, 0);
  }
  say_wait("strict, killed", p);
}

static void t_syscall(void) {
  char *m = (char *)syscall(SYS_mmap, NULL, (size_t)8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, (off_t)0);
  say("mmap %d", m != MAP_FAILED && m[8191] == 0);
  char name[] = "/tmp/rationtest-XXXXXX";
  int fd = mkstemp(name);
  unlink(name);
  MUST(ftruncate(fd, 8192) == 0 && pwrite(fd, "Z", 1, 4096) == 1);
  m = (char *)syscall(SYS_mmap, NULL, (size_t)4096, PROT_READ, MAP_PRIVATE, fd, (off_t)4096);
  say("sixth argument %d", m != MAP_FAILED && *m == 'Z');
  SAY_CALL("gettid", syscall(SYS_gettid) == getpid());
  SAY_CALL("bad number", syscall(99999));
  SAY_CALL("bad fd", syscall(SYS_read, -1, buf, (size_t)1));
  struct timespec ts = {0, 20000000};
  int word = 0;
  SAY_CALL("futex", syscall(SYS_futex, &word, 0, 0, &ts, NULL, 0));
  SAY_CALL("futex again", syscall(SYS_futex, &word, 0, 1, &ts, NULL, 0));
  SAY_CALL("pselect6", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &ts, NULL));
  SAY_CALL("ppoll", syscall(SYS_ppoll, NULL, 0, &ts, NULL, (size_t)8));
  SAY_CALL("nanosleep", syscall(SYS_nanosleep, &ts, NULL));
  SAY_CALL("sched_yield", syscall(SYS_sched_yield));
  SAY_CALL("yield", sched_yield());
  thrd_yield();
}

static void t_stop_and_continue(void) {
  pid_t p = fork();
  if (p == 0) {
    open_pipe();
    struct pollfd pf = pfd();
    SAY_CALL("poll", poll(&pf, 1, 300));
    struct timespec ts = {0, 300000000};
    SAY_CALL("nanosleep", nanosleep(&ts, NULL));
    _exit(0);
  }
  for (int i = 0; i < 3; i++) {
    nap(60);
    int status = 0;
    kill(p, SIGSTOP);
    waitpid(p, &status, WUNTRACED);
    say("stopped %d", WIFSTOPPED(status));
    kill(p, SIGCONT);
    waitpid(p, &status, WCONTINUED);
    say("continued %d", WIFCONTINUED(status));
  }
  say_wait("child", p);
}

static void t_itimer_interrupts(void) {
  signal(SIGALRM, on_sig);
  siginterrupt(SIGALRM, 1);
  struct itimerval it = {{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &it, NULL);
  int n = 0;
  open_pipe();
  for (int i = 0; i < 50; i++)
    if (read(pipefd[0], buf, 1) < 0 && errno == EINTR) n++;
  say("interrupted %d", n);
  int64_t t0 = now_ns();
  nap(100); /* goes on with the rest each time */
  say("slept %d", now_ns() - t0 >= 100000000);
}

static void *signal_storm(void *arg) {
  while (!flag) {
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    pthread_kill(*(pthread_t *)arg, SIGURG);
    usleep(300);
  }
  return NULL;
}

/* A lot of both kinds of signals while pipes carry bytes: none may be lost or doubled. */
static void *pump(void *arg) {
  int *fd = arg;
  char c;
  long n = 0;
  while (read(fd[0], &c, 1) == 1 && c != 'q') n++;
  return (void *)n;
}

static void t_signal_storm(void) {
  struct sigaction a = {.sa_handler = on_sig, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &a, NULL);
  int fd[2];
  MUST(pipe(fd) == 0);
  pthread_t t = start(pump, fd), s = start(signal_storm, &t);
  for (int i = 0; i < 3000; i++) {
    MUST(write(fd[1], "x", 1) == 1);
    if (i % 100 == 0) nap(1);
  }
  flag = true;
  pthread_join(s, NULL);
  MUST(write(fd[1], "q", 1) == 1);
  void *n;
  pthread_join(t, &n);
  say("bytes %ld, some handled %d", (long)n, handled > 0);
}

/* --- the list --- */

struct check {
  const char *name;
  void (*run)(void);
};

#define T(name) \
  { #name, t_##name }
static const struct check checks[] = {
    T(timeouts_poll),
    T(timeouts_sleep),
    T(timeouts_sync),
    T(timeouts_ipc),
    T(mutex_kinds),
    T(mutex_counts),
    T(rwlock),
    T(join),
    T(semaphore),
    T(sockets),
    T(socket_waits),
    T(fcntl),
    T(files),
    T(dispositions_usr1),
    T(dispositions_urg),
    T(dispositions_rt),
    T(disposition_errors),
    T(dispositions_at_start),
    T(handler_masks),
    T(handler_edits_mask),
    T(handler_stack),
    T(handler_stack_in_child),
    T(handler_fault),
    T(handler_fault_tsc),
    T(masks),
    T(masks_bsd),
    T(inherit_blocked),
    T(inherit_open),
    T(inherit_ignored),
    T(inherit_handler),
    T(inherit_exec_self),
    T(urg_pending),
    T(urg_among_newborns),
    T(urg_to_the_open_thread),
    T(urg_sigwait),
    T(urg_signalfd),
    T(urg_oob),
    T(urg_oob_ignored),
    T(urg_longjmp),
    T(urg_ppoll),
    T(masked_waits),
    T(sigpause),
    T(exit_codes),
    T(exit_from_thread),
    T(pthread_exit_main),
    T(vfork_child_lives_on),
    T(fork_handlers),
    T(fork_among_threads),
    T(clone),
    T(vfork),
    T(exec_errors),
    T(exec_ways),
    T(exec_from_thread),
    T(daemon),
    T(system),
    T(system_cancelled),
    T(thread_ends),
    T(credentials),
    T(credentials_often),
    T(sandboxes),
    T(unshare_user),
    T(seccomp_strict),
    T(syscall),
    T(stop_and_continue),
    T(itimer_interrupts),
    T(signal_storm),
};

struct way {
  const char *name;
  void (*run)(const struct blocking *b);
};
static const struct way ways[] = {
    {"undisturbed", undisturbed},
    {"eintr", eintr},
    {"restart", restart},
    {"urg_ignored", urg_ignored},
    {"urg_handled", urg_handled},
    {"urg_restart", urg_restart},
    {"longjmp", longjmp_out},
    {"cancel", cancel},
    {"cancel_pending", cancel_pending},
    {"cancel_disabled", cancel_disabled},
};

static bool run_one(const char *name) {
  for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
    if (strcmp(checks[i].name, name) != 0) continue;
    checks[i].run();
    return true;
  }
  for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
    size_t n = strlen(ways[w].name);
    if (strncmp(name, ways[w].name, n) != 0 || name[n] != ':') continue;
    for (size_t i = 0; i < NBLOCKING; i++) {
      if (strcmp(blocking[i].name, name + n + 1) != 0) continue;
      ways[w].run(&blocking[i]);
      return true;
    }
  }
  return false;
}

int main(int argc, char **argv) {
  self_path = argv[0];
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) puts(checks[i].name);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
      for (size_t i = 0; i < NBLOCKING; i++) printf("%s:%s\n", ways[w].name, blocking[i].name);
    return 0;
  }
  start_hogs();
  if (argc == 2 && run_one(argv[1])) {
    fflush(stdout);
    _exit(0);
  }
  fprintf(stderr, "usage: posix list | posix NAME\n");
  return 2;
}
/* NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */
