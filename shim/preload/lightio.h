/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_LIGHTIO_H
#define RATION_PRELOAD_LIGHTIO_H
/* What the wrappers do for a light G: it parks on the netpoller or a timer, and its M runs others. lightio.c says how. */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "core/carrier.h"
#include "core/netpoll.h"

/* The caller is a light G that may park.  Not in a sandbox: there its calls are what it says. */
static inline bool light_running(void) {
  struct carrier *c = carrier_now();
  return __builtin_expect(c != NULL, 0) && c->g && c->m->locks == 0 && !c->g->in_libcall && !sys_is_aside();
}

/* What is left of v after `done` bytes, in `left`; how many. */
#define IOV_COPY 16
int iov_after(const struct iovec *v, int n, size_t done, struct iovec left[IOV_COPY]);
/*
 * Around a call of a light G into libc that will wait, perhaps in wrapped calls of its own (plugins of the resolver): the P's queue
 * goes to another M, the G keeps its thread, and nothing parks in between.
 */
void libcall_begin(enum wait_reason why);
void libcall_end(void);

struct free_mark;
/*
 * netpoll_wait and netpoll_wait_any for the calling G, whose context ends them too: -ECANCELED; then lightio_over says how.  A signal: -EINTR; then lightio_signalled.
 * -EPERM also where it is no G any more: it was wired.
 */
int lightio_park(int fd, enum netpoll_dir dir, uint32_t seen, uint64_t until, struct netpoll_hold *hold);
int lightio_park_any(const struct netpoll_want *want, size_t n, uint64_t until);
/* The context that the calling G has bound is over: its error.  0: it has none, or goes on. */
int lightio_over(void);
/* After -EINTR of a park, with the mark from before it: what the call is to do.  -EINTR; 0: try again; -EPERM: call it as it is.  always: the call ends by every handler. */
int lightio_signalled(const struct free_mark *since, bool always);

/* Where a call of a G that may park begins, and neither waits nor is made by libc: a cancellation point of thread Gs. */
void lightio_point_slow(void);
static inline void lightio_point(void) {
  if (__builtin_expect(carrier_now()->g->io_ctx != NULL, 0)) lightio_point_slow();
}

/*
 * Until `at`, or until the calling G's context ends: then its error, as a positive number.  Of a thread G also EINTR, by a handler; EAGAIN: it is no G
 * any more, and is to sleep on as what it is.
 */
int lightio_sleep(uint64_t at);

/* fd is about to be closed: true, if that is this process's affair; then netpoll_wake is to follow. */
bool lightio_forget(int fd);
/* The file under f is about to be closed by libc. */
void lightio_forget_stream(FILE *f);
/*
 * A system call in the bracket; the G may come back on another M.  Not inline: aarch64's compilers keep the thread pointer over
 * all of a function, and the next bracket in it would be the old M's.
 */
long bracketed(long nr, long a0, long a1, long a2, long a3, long a4, long a5);
#define BRACKET(...) BRACKET_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define BRACKET_(nr, a0, a1, a2, a3, a4, a5, ...) bracketed(nr, (long)(a0), (long)(a1), (long)(a2), (long)(a3), (long)(a4), (long)(a5))

/* A system call's result as libc returns it, with errno of the M that the G is on by now. */
ssize_t lightio_result(long r);

ssize_t lightio_read(int fd, void *buf, size_t n);
ssize_t lightio_write(int fd, const void *buf, size_t n);
ssize_t lightio_readv(int fd, const struct iovec *v, int n);
ssize_t lightio_writev(int fd, const struct iovec *v, int n);
ssize_t lightio_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from, socklen_t *len);
ssize_t lightio_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t len);
ssize_t lightio_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t lightio_sendmsg(int fd, const struct msghdr *msg, int flags);
int lightio_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags);
/* fd is a new connection, whoever has accepted it: what is known of it. */
void lightio_accepted(int listener, int fd, int flags);
int lightio_connect(int fd, const struct sockaddr *to, socklen_t len);
int lightio_ppoll(struct pollfd *fds, nfds_t n, uint64_t until);
/* n: 0 to FD_SETSIZE. */
int lightio_select(int n, fd_set *r, fd_set *w, fd_set *e, uint64_t until);
int lightio_epoll_wait(int ep, struct epoll_event *ev, int n, uint64_t until);

#endif
