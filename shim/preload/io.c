/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, writes, sockets, file synchronisation, locks on files, System V and
 * POSIX queues, and waiting for children: calls that may block or not.  They are bracketed and no more; when one
 * really blocks, BPF (or sysmon) sees it and the P is handed off.
 *
 * Receiving is looked at more closely when some G waits for a P: if poll says
 * that nothing is there, the P goes at once.  Asking by poll, rather than trying with
 * MSG_DONTWAIT, keeps SO_RCVLOWAT, MSG_WAITALL and partial results what they are.
 *
 * ioctl, open and stdio have no wrappers: BPF sees them as well.
 */
#include "preload/call.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/netpoll.h"
#include "core/sys.h"
#include "free/free.h"
#include "preload/lightdisk.h"
#include "preload/lightio.h"
#include "preload/process.h"
#include "preload/tid.h"

/* Name, parameters, and how to pass them on. */
#define IO_CALLS(W)                                                                                                                    \
  W(ssize_t, preadv2, (int fd, const struct iovec *v, int n, off_t at, int flags), (fd, v, n, at, flags))                              \
  W(ssize_t, preadv64v2, (int fd, const struct iovec *v, int n, off64_t at, int flags), (fd, v, n, at, flags))                         \
  W(ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int flags), (fd, v, n, at, flags))                             \
  W(ssize_t, pwritev64v2, (int fd, const struct iovec *v, int n, off64_t at, int flags), (fd, v, n, at, flags))                        \
  W(int, sendmmsg, (int fd, struct mmsghdr *v, unsigned n, int flags), (fd, v, n, flags))                                              \
  W(int, recvmmsg, (int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout), (fd, v, n, flags, timeout))           \
  W(int, syncfs, (int fd), (fd))                                                                                                       \
  W(int, msync, (void *at, size_t n, int flags), (at, n, flags))                                                                       \
  W(ssize_t, sendfile, (int out, int in, off_t *at, size_t n), (out, in, at, n))                                                       \
  W(ssize_t, sendfile64, (int out, int in, off64_t *at, size_t n), (out, in, at, n))                                                   \
  W(ssize_t, splice, (int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags), (in, in_at, out, out_at, n, flags)) \
  W(ssize_t, tee, (int in, int out, size_t n, unsigned flags), (in, out, n, flags))                                                    \
  W(ssize_t, vmsplice, (int fd, const struct iovec *v, size_t n, unsigned flags), (fd, v, n, flags))                                   \
  W(ssize_t, copy_file_range, (int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags),                            \
    (in, in_at, out, out_at, n, flags))                                                                                                \
  W(int, flock, (int fd, int op), (fd, op))                                                                                            \
  W(int, lockf, (int fd, int cmd, off_t n), (fd, cmd, n))                                                                              \
  W(int, lockf64, (int fd, int cmd, off64_t n), (fd, cmd, n))                                                                          \
  W(pid_t, wait, (int *status), (status))                                                                                              \
  W(pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options))                                                     \
  W(pid_t, wait3, (int *status, int options, struct rusage *usage), (status, options, usage))                                          \
  W(pid_t, wait4, (pid_t pid, int *status, int options, struct rusage *usage), (pid, status, options, usage))                          \
  W(int, waitid, (idtype_t type, id_t id, siginfo_t * si, int options), (type, id, si, options))                                       \
  W(ssize_t, msgrcv, (int q, void *msg, size_t n, long type, int flags), (q, msg, n, type, flags))                                     \
  W(int, msgsnd, (int q, const void *msg, size_t n, int flags), (q, msg, n, flags))                                                    \
  W(int, semop, (int id, struct sembuf *ops, size_t n), (id, ops, n))                                                                  \
  W(ssize_t, mq_receive, (mqd_t q, char *msg, size_t n, unsigned *prio), (q, msg, n, prio))                                            \
  W(int, mq_send, (mqd_t q, const char *msg, size_t n, unsigned prio), (q, msg, n, prio))                                              \
  W(ssize_t, mq_timedreceive, (mqd_t q, char *msg, size_t n, unsigned *prio, const struct timespec *until), (q, msg, n, prio, until))  \
  W(int, mq_timedsend, (mqd_t q, const char *msg, size_t n, unsigned prio, const struct timespec *until), (q, msg, n, prio, until))

/* And how a light G makes those that wait for a disk (lightdisk.c). */
#define DISK_CALLS(W)                                                                                                               \
  W(ssize_t, pread, (int fd, void *buf, size_t n, off_t at), (fd, buf, n, at), lightdisk_pread(fd, buf, n, at, &done))              \
  W(ssize_t, pread64, (int fd, void *buf, size_t n, off64_t at), (fd, buf, n, at), lightdisk_pread(fd, buf, n, at, &done))          \
  W(ssize_t, __pread_chk, (int fd, void *buf, size_t n, off_t at, size_t size), (fd, buf, n, at, size),                             \
    n <= size && lightdisk_pread(fd, buf, n, at, &done))                                                                            \
  W(ssize_t, __pread64_chk, (int fd, void *buf, size_t n, off64_t at, size_t size), (fd, buf, n, at, size),                         \
    n <= size && lightdisk_pread(fd, buf, n, at, &done))                                                                            \
  W(ssize_t, preadv, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at), lightdisk_preadv(fd, v, n, at, &done))       \
  W(ssize_t, preadv64, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at), lightdisk_preadv(fd, v, n, at, &done))   \
  W(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at), lightdisk_pwrite(fd, buf, n, at, &done))      \
  W(ssize_t, pwrite64, (int fd, const void *buf, size_t n, off64_t at), (fd, buf, n, at), lightdisk_pwrite(fd, buf, n, at, &done))  \
  W(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at), lightdisk_pwritev(fd, v, n, at, &done))     \
  W(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off64_t at), (fd, v, n, at), lightdisk_pwritev(fd, v, n, at, &done)) \
  W(int, fsync, (int fd), (fd), lightdisk_fsync(fd, false, &done))                                                                  \
  W(int, fdatasync, (int fd), (fd), lightdisk_fsync(fd, true, &done))                                                               \
  W(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags),                                      \
    lightdisk_sync_range(fd, at, n, flags, &done))

/* The headers declare the checking forms only where they are used. */
#define IO_PROTOTYPE(ret, name, params, ...) ret name params;
#define IO_REAL(ret, name, params, ...) REAL_DEFINE_ONE(ret, name, params)
#define IO_WRAPPER(ret, name, params, args) \
  EXPORT ret name params { return CALL(ret, REAL(name) args); }
#define DISK_WRAPPER(ret, name, params, args, light)                     \
  EXPORT ret name params {                                               \
    ssize_t done;                                                        \
    if (light_running() && (lightio_point(), (light))) return (ret)done; \
    gate_file();                                                         \
    return CALL(ret, REAL(name) args);                                   \
  }

#define REAL_IO(X)                                                                            \
  X(ssize_t, recv, (int, void *, size_t, int))                                                \
  X(ssize_t, recvfrom, (int, void *, size_t, int, __SOCKADDR_ARG, socklen_t *))               \
  X(ssize_t, recvmsg, (int, struct msghdr *, int))                                            \
  X(ssize_t, __recv_chk, (int, void *, size_t, size_t, int))                                  \
  X(ssize_t, __recvfrom_chk, (int, void *, size_t, size_t, int, __SOCKADDR_ARG, socklen_t *)) \
  X(int, accept, (int, __SOCKADDR_ARG, socklen_t *))                                          \
  X(int, accept4, (int, __SOCKADDR_ARG, socklen_t *, int))                                    \
  X(int, semtimedop, (int, struct sembuf *, size_t, const struct timespec *))                 \
  X(int, fcntl, (int, int, ...))                                                              \
  X(int, fcntl64, (int, int, ...))                                                            \
  X(int, close, (int))                                                                        \
  X(int, fclose, (FILE *))                                                                    \
  X(int, close_range, (unsigned, unsigned, int))                                              \
  X(void, closefrom, (int))                                                                   \
  X(ssize_t, __read_chk, (int, void *, size_t, size_t))                                       \
  X(ssize_t, read, (int, void *, size_t))                                                     \
  X(ssize_t, write, (int, const void *, size_t))                                              \
  X(ssize_t, readv, (int, const struct iovec *, int))                                         \
  X(ssize_t, writev, (int, const struct iovec *, int))                                        \
  X(ssize_t, send, (int, const void *, size_t, int))                                          \
  X(ssize_t, sendto, (int, const void *, size_t, int, __CONST_SOCKADDR_ARG, socklen_t))       \
  X(ssize_t, sendmsg, (int, const struct msghdr *, int))                                      \
  X(int, connect, (int, __CONST_SOCKADDR_ARG, socklen_t))                                     \
  X(int, ioctl, (int, unsigned long, ...))                                                    \
  X(int, setsockopt, (int, int, int, const void *, socklen_t))                                \
  X(int, socket, (int, int, int))                                                             \
  X(int, socketpair, (int, int, int, int *))                                                  \
  X(int, pipe, (int *))                                                                       \
  X(int, pipe2, (int *, int))                                                                 \
  X(int, dup, (int))                                                                          \
  X(int, dup2, (int, int))                                                                    \
  X(int, dup3, (int, int, int))
REAL_DEFINE(REAL_IO)

IO_CALLS(IO_PROTOTYPE)
IO_CALLS(IO_REAL)
IO_CALLS(IO_WRAPPER)
DISK_CALLS(IO_PROTOTYPE)
DISK_CALLS(IO_REAL)
DISK_CALLS(DISK_WRAPPER)

/* A light G parks on the netpoller (lightio.c); others are bracketed. */
#define LIGHT(light, call) (light_running() ? (light) : (call))

/* After what may have been an answer. */
static CALL_APART ssize_t answered(ssize_t r) {
  if (r > 0) gate_answered();
  return r;
}

EXPORT ssize_t read(int fd, void *buf, size_t n) { return LIGHT(lightio_read(fd, buf, n), CALL(ssize_t, REAL(read)(fd, buf, n))); }
ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t size) {
  if (n <= size && light_running()) return lightio_read(fd, buf, n);
  return CALL(ssize_t, REAL(__read_chk)(fd, buf, n, size)); /* which ends the program where n > size */
}
EXPORT ssize_t write(int fd, const void *buf, size_t n) {
  return answered(LIGHT(lightio_write(fd, buf, n), CALL(ssize_t, REAL(write)(fd, buf, n))));
}
EXPORT ssize_t readv(int fd, const struct iovec *v, int n) { return LIGHT(lightio_readv(fd, v, n), CALL(ssize_t, REAL(readv)(fd, v, n))); }
EXPORT ssize_t writev(int fd, const struct iovec *v, int n) {
  return answered(LIGHT(lightio_writev(fd, v, n), CALL(ssize_t, REAL(writev)(fd, v, n))));
}
EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags) {
  return answered(LIGHT(lightio_sendto(fd, buf, n, flags, NULL, 0), CALL(ssize_t, REAL(send)(fd, buf, n, flags))));
}
EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags, __CONST_SOCKADDR_ARG to, socklen_t len) {
  return answered(LIGHT(lightio_sendto(fd, buf, n, flags, to.__sockaddr__, len), CALL(ssize_t, REAL(sendto)(fd, buf, n, flags, to, len))));
}
/* Whoever gets a descriptor by it may change how that waits. */
static void passes_on(const struct msghdr *msg) {
  if (!__atomic_load_n(&light.started, __ATOMIC_RELAXED) || !sys_can_read(msg, sizeof *msg)) return;
  if (!msg->msg_control || msg->msg_controllen < CMSG_LEN(sizeof(int)) || !sys_can_read(msg->msg_control, msg->msg_controllen)) return;
  const char *end = (const char *)msg->msg_control + msg->msg_controllen;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)msg, c)) {
    const char *at = (const char *)CMSG_DATA(c);
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len > (size_t)(end - (const char *)c)) continue;
    for (int fd; at + sizeof fd <= (const char *)c + c->cmsg_len; at += sizeof fd) {
      memcpy(&fd, at, sizeof fd);
      netpoll_copied(fd);
    }
  }
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags) {
  passes_on(msg);
  return answered(LIGHT(lightio_sendmsg(fd, msg, flags), CALL(ssize_t, REAL(sendmsg)(fd, msg, flags))));
}
EXPORT int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t len) {
  return LIGHT(lightio_connect(fd, to.__sockaddr__, len), CALL(int, REAL(connect)(fd, to, len)));
}

/* --- descriptors come and go: the netpoller is told --- */

EXPORT int socket(int domain, int type, int protocol) {
  int fd = REAL(socket)(domain, type, protocol);
  if (fd < 0) return fd;
  netpoll_fresh(fd);
  if (!(type & SOCK_NONBLOCK)) netpoll_set_plain(fd);
  return fd;
}

static int fresh_pair(int r, const int *fds) {
  if (r == 0) netpoll_fresh(fds[0]), netpoll_fresh(fds[1]);
  return r;
}
EXPORT int socketpair(int domain, int type, int protocol, int fds[2]) {
  return fresh_pair(REAL(socketpair)(domain, type, protocol, fds), fds);
}
EXPORT int pipe(int fds[2]) { return fresh_pair(REAL(pipe)(fds), fds); }
EXPORT int pipe2(int fds[2], int flags) { return fresh_pair(REAL(pipe2)(fds, flags), fds); }

/* A copy is a descriptor of its own to epoll. */
EXPORT int dup(int fd) {
  netpoll_copied(fd); /* what is set on the copy is set on this one */
  int copy = REAL(dup)(fd);
  if (copy >= 0) netpoll_made(copy);
  return copy;
}

/* `call` makes fd another file, or none.  Waiters are moved or woken before, by what forgets the registration, and those who came in between are woken after. */
#define LOSE(type, fd, call)          \
  ({                                  \
    bool ours_ = owns_descriptors();  \
    int lost_ = (fd);                 \
    if (ours_) netpoll_forget(lost_); \
    type lose_ = (call);              \
    if (ours_) netpoll_wake(lost_);   \
    lose_;                            \
  })

/* Not before there are light Gs; and the child of a vfork has a table of its own, but our memory. */
static bool owns_descriptors(void) { return __atomic_load_n(&light.started, __ATOMIC_RELAXED) && !process_in_vfork_child(); }

/* To be the program's: ration has none of that number any more. */
static void leave_number(int fd) {
  if (owns_descriptors()) netpoll_leave_number(fd);
}

EXPORT int dup2(int fd, int to) {
  if (fd == to) return REAL(dup2)(fd, to);
  leave_number(to);
  netpoll_copied(fd);
  return LOSE(int, to, REAL(dup2)(fd, to));
}
EXPORT int dup3(int fd, int to, int flags) {
  if (fd == to) return REAL(dup3)(fd, to, flags);
  leave_number(to);
  netpoll_copied(fd);
  return LOSE(int, to, REAL(dup3)(fd, to, flags));
}

/* -1: it has none. */
static int stream_fd(FILE *f) {
  int saved = errno, fd = fileno(f);
  errno = saved;
  return fd;
}

bool lightio_forget(int fd) {
  bool ours = owns_descriptors();
  if (ours) netpoll_forget(fd);
  return ours;
}

void lightio_forget_stream(FILE *f) {
  if (owns_descriptors()) netpoll_forget(stream_fd(f));
}

/* libc closes what is under a stream by itself. */
EXPORT int fclose(FILE *f) {
  if (!f) return REAL(fclose)(f);
  return LOSE(int, stream_fd(f), REAL(fclose)(f));
}

static void forget_range(unsigned first, unsigned last) {
  for (unsigned fd = first; fd <= last && fd < netpoll_numbers(); fd++) netpoll_forget((int)fd);
}
/* All but ration's own. */
static int close_others(unsigned first, unsigned last, int flags) {
  int own, r = 0;
  while (r == 0 && first <= INT_MAX && (own = netpoll_own_from((int)first)) >= 0 && (unsigned)own <= last) {
    if ((unsigned)own > first) r = REAL(close_range)(first, (unsigned)own - 1, flags);
    first = (unsigned)own + 1;
  }
  return r == 0 && first <= last ? REAL(close_range)(first, last, flags) : r;
}
EXPORT int close_range(unsigned first, unsigned last, int flags) {
  if (!owns_descriptors() || first > last) return REAL(close_range)(first, last, flags);
  if (!(flags & CLOSE_RANGE_CLOEXEC)) forget_range(first, last);
  return close_others(first, last, flags);
}
EXPORT void closefrom(int first) {
  bool ours = owns_descriptors();
  unsigned from = first < 0 ? 0 : (unsigned)first;
  if (ours) forget_range(from, ~0u);
  if (!ours || netpoll_own_from((int)from) < 0 || close_others(from, ~0u, 0) < 0) REAL(closefrom)(first);
}

EXPORT int setsockopt(int fd, int level, int what, const void *value, socklen_t len) {
  bool time = what == SO_RCVTIMEO || what == SO_SNDTIMEO || what == SO_RCVTIMEO_NEW || what == SO_SNDTIMEO_NEW;
  bool waits = level == SOL_SOCKET && (time || what == SO_RCVLOWAT);
  if (waits || (level == IPPROTO_TCP && what == TCP_ULP)) netpoll_changed(fd);
  return REAL(setsockopt)(fd, level, what, value, len);
}

/* A call that reads or sets O_NONBLOCK: not while it is lent to a connect. */
#define FLAGS(fd, call)                  \
  ({                                     \
    bool held_ = netpoll_hold_flags(fd); \
    int flags_ = (call);                 \
    if (held_) netpoll_drop_flags(fd);   \
    flags_;                              \
  })

/* The same by ioctl, of sockets. */
static bool thread_owner_of_socket(int fd, unsigned long what, void *arg, int *r) {
  bool sets = what == FIOSETOWN || what == SIOCSPGRP, gets = what == FIOGETOWN || what == SIOCGPGRP;
  if ((!sets && !gets) || __builtin_expect(!free_mode, 1)) return false;
  int who;
  if (sets && sys_can_read(arg, sizeof who)) {
    who = tid_to_set(*(int *)arg);
    arg = &who;
  }
  *r = REAL(ioctl)(fd, what, arg);
  if (gets && *r == 0) *(int *)arg = tid_shown(*(int *)arg);
  return true;
}

/* Only to see FIONBIO, and whom signals are for. */
EXPORT int ioctl(int fd, unsigned long what, ...) {
  va_list ap;
  va_start(ap, what);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  int r;
  if (thread_owner_of_socket(fd, what, arg, &r)) return r;
  if (what != FIONBIO) return REAL(ioctl)(fd, what, arg);
  netpoll_changed(fd);
  return FLAGS(fd, REAL(ioctl)(fd, what, arg));
}

/* libc's other names of some of them, which programs bind now and then. */
ssize_t __read(int fd, void *buf, size_t n) CALL_ALIAS(read);
ssize_t __write(int fd, const void *buf, size_t n) CALL_ALIAS(write);
ssize_t __pread64(int fd, void *buf, size_t n, off64_t at) CALL_ALIAS(pread64);
ssize_t __pwrite64(int fd, const void *buf, size_t n, off64_t at) CALL_ALIAS(pwrite64);
ssize_t __send(int fd, const void *buf, size_t n, int flags) CALL_ALIAS(send);
int __connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t len) CALL_ALIAS(connect);
pid_t __wait(int *status) CALL_ALIAS(wait);
pid_t __waitpid(pid_t pid, int *status, int options) CALL_ALIAS(waitpid);

/* Some G waits for a P, and this fd would block: raw, so neither errno nor cancellation are touched. */
static bool would_block(int fd, int flags) {
  if (!gate_contended() || (flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB))) return false;
  struct pollfd p = {.fd = fd, .events = POLLIN};
  struct timespec none = {0, 0};
  if (raw_syscall5(SYS_ppoll, (long)&p, 1, (long)&none, 0, 0) != 0) return false;
  long fl = raw_syscall3(SYS_fcntl, fd, F_GETFL, 0);
  return fl >= 0 && !(fl & O_NONBLOCK);
}

#define RECEIVE(type, fd, flags, call) (would_block(fd, flags) ? CALL_BLOCKING(type, WAIT_IO, call) : CALL(type, call))

EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags) {
  return LIGHT(lightio_recvfrom(fd, buf, n, flags, NULL, NULL), RECEIVE(ssize_t, fd, flags, REAL(recv)(fd, buf, n, flags)));
}
EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t n, int flags, __SOCKADDR_ARG from, socklen_t *restrict len) {
  return LIGHT(lightio_recvfrom(fd, buf, n, flags, from.__sockaddr__, len),
               RECEIVE(ssize_t, fd, flags, REAL(recvfrom)(fd, buf, n, flags, from, len)));
}
EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags) {
  return LIGHT(lightio_recvmsg(fd, msg, flags), RECEIVE(ssize_t, fd, flags, REAL(recvmsg)(fd, msg, flags)));
}

ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags);
EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags) {
  if (n <= size && light_running()) return lightio_recvfrom(fd, buf, n, flags, NULL, NULL);
  return RECEIVE(ssize_t, fd, flags, REAL(__recv_chk)(fd, buf, n, size, flags));
}
ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags, __SOCKADDR_ARG from, socklen_t *len);
EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags, __SOCKADDR_ARG from, socklen_t *len) {
  if (n <= size && light_running()) return lightio_recvfrom(fd, buf, n, flags, from.__sockaddr__, len);
  return RECEIVE(ssize_t, fd, flags, REAL(__recvfrom_chk)(fd, buf, n, size, flags, from, len));
}

/* By a thread of the kernel's; Gs may serve it. */
static int accepted(int listener, int fd, int flags) {
  if (fd >= 0) lightio_accepted(listener, fd, flags);
  return fd;
}
EXPORT int accept(int fd, __SOCKADDR_ARG from, socklen_t *restrict len) {
  return LIGHT(lightio_accept4(fd, from.__sockaddr__, len, 0), accepted(fd, RECEIVE(int, fd, 0, REAL(accept)(fd, from, len)), 0));
}
EXPORT int accept4(int fd, __SOCKADDR_ARG from, socklen_t *restrict len, int flags) {
  return LIGHT(lightio_accept4(fd, from.__sockaddr__, len, flags),
               accepted(fd, RECEIVE(int, fd, 0, REAL(accept4)(fd, from, len, flags)), flags));
}

/* Its timeout is relative, and it never restarts by itself. */
EXPORT int semtimedop(int id, struct sembuf *ops, size_t n, const struct timespec *timeout) {
  if (timeout && !sys_can_read(timeout, sizeof *timeout)) return REAL(semtimedop)(id, ops, n, timeout);
  struct signal_mark mark = signal_mark();
  bool bounded = timeout && call_valid(timeout);
  uint64_t deadline = bounded ? call_deadline((uint64_t)timeout->tv_sec, (uint64_t)timeout->tv_nsec) : 0;
  struct timespec left;
  for (;;) {
    bool again;
    int r = CALL_TRY(int, call_enter(), REAL(semtimedop)(id, ops, n, timeout), &mark, again);
    if (!again) return r;
    if (!bounded) continue;
    left = call_left(deadline);
    timeout = &left;
  }
}

static bool lock_waits(int cmd) { return cmd == F_SETLKW || cmd == F_OFD_SETLKW; }

static int copied(int fd, int copy) {
  if (copy < 0) return copy;
  netpoll_copied(fd);
  netpoll_made(copy);
  return copy;
}

/* Of whom a descriptor's signals are for: true, if that is told by tids; then *r is what the call returns. */
static bool thread_owner(int fd, int cmd, void *arg, int *r) {
  struct f_owner_ex real;
  if (!tid_owns(cmd, &arg, &real)) return false;
  *r = REAL(fcntl)(fd, cmd, arg);
  if (*r >= 0) *r = tid_owner_shown(cmd, arg, *r);
  return true;
}

/* The third argument, if there is one, is an int or a pointer: as in libc it is fetched as a pointer and passed on. */
EXPORT int fcntl(int fd, int cmd, ...) {
  va_list ap;
  va_start(ap, cmd);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  if (cmd == F_SETFL) netpoll_changed(fd);
  if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) return copied(fd, REAL(fcntl)(fd, cmd, arg));
  if (cmd == F_GETFL || cmd == F_SETFL) return FLAGS(fd, REAL(fcntl)(fd, cmd, arg));
  int r;
  if (thread_owner(fd, cmd, arg, &r)) return r;
  if (!lock_waits(cmd)) return REAL(fcntl)(fd, cmd, arg);
  return CALL(int, REAL(fcntl)(fd, cmd, arg));
}
int __fcntl(int fd, int cmd, ...) CALL_ALIAS(fcntl);

EXPORT int fcntl64(int fd, int cmd, ...) {
  va_list ap;
  va_start(ap, cmd);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  if (cmd == F_SETFL) netpoll_changed(fd);
  if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) return copied(fd, REAL(fcntl64)(fd, cmd, arg));
  if (cmd == F_GETFL || cmd == F_SETFL) return FLAGS(fd, REAL(fcntl64)(fd, cmd, arg));
  int r;
  if (thread_owner(fd, cmd, arg, &r)) return r;
  if (!lock_waits(cmd)) return REAL(fcntl64)(fd, cmd, arg);
  return CALL(int, REAL(fcntl64)(fd, cmd, arg));
}

/* It may block (SO_LINGER, NFS).  Never made twice: after EINTR the descriptor is gone. */
EXPORT int close(int fd) {
  if (__builtin_expect(netpoll_is_own(fd), 0) && owns_descriptors()) { /* the program does not know of it */
    errno = EBADF;
    return -1;
  }
  return LOSE(int, fd, CALL_ONCE(int, REAL(close)(fd)));
}
int __close(int fd) CALL_ALIAS(close);
