/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for descriptors in a light G: poll, select, epoll_wait.
 *
 *   note the edges of all that is asked for; ask the kernel, with no timeout
 *   nothing there: park until one of them has another edge, or the time is over; again
 *
 * A descriptor that epoll refuses (a regular file) has no poll of its own: it is ready at the first look, or never will be.  An epoll
 * instance is waited for as any other descriptor.  Where the netpoller can't (out of memory or watches) the call is made as it is, in
 * the bracket.
 *
 * Rejected: an epoll instance for each waiting call.  Three system calls more to make and drop it, and one for each descriptor at
 * each call; the netpoller's registrations stay.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "core/netpoll.h"
#include "core/sys.h"
#include "free/free.h"
#include "preload/lightio.h"

#define FEW 8

static const struct timespec none;

static bool is_over(uint64_t until) { return until != UINT64_MAX && sys_now() >= until; }

static struct timespec left_of(uint64_t until) {
  uint64_t now = sys_now(), left = until > now ? until - now : 0;
  return (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
}

/* As epoll_wait wants it, and not before the time. */
static int ms_left(uint64_t until) {
  struct timespec ts = left_of(until);
  uint64_t ms = (uint64_t)ts.tv_sec * 1000 + ((uint64_t)ts.tv_nsec + 999999) / 1000000;
  return until == UINT64_MAX ? -1 : ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static bool reads(short events) { return events == 0 || (events & ~(POLLOUT | POLLWRNORM | POLLWRBAND)); }
static bool writes(short events) { return events & (POLLOUT | POLLWRNORM | POLLWRBAND); }

/* Is it for less than all that makes a descriptor readable? */
static uint32_t only(short events) {
  if (!reads(events) || (events & (POLLIN | POLLRDNORM | POLLRDBAND))) return 0;
  return (uint32_t)(events & (POLLPRI | POLLRDHUP)) | (writes(events) ? EPOLLOUT : 0) | EPOLLHUP;
}

static void note_edges(struct netpoll_want *want, size_t n) {
  for (size_t i = 0; i < n; i++)
    for (int dir = 0; dir < 2; dir++) want[i].seen[dir] = netpoll_edges(want[i].fd, dir);
}

static int park_for(const struct netpoll_want *want, size_t n, uint64_t until) {
  if (n == 1 && !want->only && !(want->dir[0] && want->dir[1])) {
    enum netpoll_dir dir = want->dir[NETPOLL_READ] ? NETPOLL_READ : NETPOLL_WRITE;
    int r = lightio_park(want->fd, dir, want->seen[dir], until, want->hold);
    if (r != -EPERM) return r;
  }
  return lightio_park_any(want, n, until);
}

/* Looks until something is there, or the time is over: what look says.  -EPERM: it can't be waited for. */
static long look_and_park(struct netpoll_want *want, size_t n, uint64_t until, long (*look)(void *), void *arg) {
  bool closed = false;
  struct netpoll_hold *hold = n == 1 ? want->hold : NULL;
  int number = hold ? want->fd : -1;
  for (;;) {
    int over = lightio_over();
    if (over) return over;
    if (hold) want->fd = netpoll_number(hold, number);
    note_edges(want, n);
    long r = look(arg);
    if (r == -EINTR) continue; /* ours, as in poll_one */
    if (r != 0 || is_over(until)) return r;
    struct free_mark mark = free_mark();
    int w = park_for(want, n, until);
    if ((w == -EINTR || w == -ECANCELED) && hold) netpoll_hold_end(hold); /* code of the program's may run, and not come back */
    if (w == -EINTR) w = lightio_signalled(&mark, true);
    if (w == -EINTR) return w;
    if (w == -EBADF && !closed)
      closed = true; /* just now: the look says it better; but select does not see numbers above the table's end */
    else if (w != 0 && w != -ETIMEDOUT && w != -ECANCELED)
      return -EPERM;
  }
}

/*
 * What the program asks is there: we read it before the kernel does.  A page that was there is believed to be still, so that a loop with an array of its own does not
 * ask each time.
 */
static bool is_there(const void *p, size_t n) {
  static _Atomic uintptr_t seen[16];
  uintptr_t page = (uintptr_t)p >> 12;
  bool one = page == ((uintptr_t)p + n - 1) >> 12;
  _Atomic uintptr_t *at = &seen[page % 16];
  if (n == 0 || sys_is_near(p, n) || (one && page && atomic_load_explicit(at, memory_order_relaxed) == page)) return true;
  if (!sys_can_read(p, n)) return false;
  if (one) atomic_store_explicit(at, page, memory_order_relaxed);
  return true;
}

/* --- poll --- */

struct poll_call {
  struct pollfd *fds;
  nfds_t n;
};

static long poll_look(void *arg) {
  struct poll_call *p = arg;
  return raw_syscall5(SYS_ppoll, (long)p->fds, (long)p->n, (long)&none, 0, 0);
}

static long poll_until(struct poll_call *p, struct netpoll_want *want, uint64_t until) {
  size_t k = 0;
  for (nfds_t i = 0; i < p->n; i++)
    if (p->fds[i].fd >= 0)
      want[k++] = (struct netpoll_want){
          .fd = p->fds[i].fd, .only = only(p->fds[i].events), .dir = {reads(p->fds[i].events), writes(p->fds[i].events)}};
  return look_and_park(want, k, until, poll_look, p);
}

int lightio_ppoll(struct pollfd *fds, nfds_t n, uint64_t until) {
  struct poll_call p = {fds, n};
  struct netpoll_want few[FEW], *want = few;
  long r = lightio_over();
  if (r != 0) return (int)lightio_result(r);
  if (n > FEW || !is_there(fds, n * sizeof *fds)) { /* also: an n that is too large, or fds that are not there, are found by the kernel */
    r = poll_look(&p);
    if (r != 0 && r != -EINTR) return (int)lightio_result(r);
    want = malloc(n * sizeof *want);
  }
  r = want ? poll_until(&p, want, until) : -EPERM;
  if (want != few) free(want);
  if (r != -EPERM) return (int)lightio_result(r);
  struct timespec ts = left_of(until);
  return (int)lightio_result(BRACKET(SYS_ppoll, fds, n, until == UINT64_MAX ? NULL : &ts));
}

/* --- select: what it finds, it writes over what it was asked --- */

struct select_call {
  int n;
  size_t bytes;
  fd_set *at[3];   /* read, write, exceptional; null: not wanted */
  fd_set asked[3]; /* as they were */
  bool again;      /* it has looked before */
};

static void select_as_asked(struct select_call *s) {
  for (int i = 0; i < 3; i++)
    if (s->at[i]) memcpy(s->at[i], &s->asked[i], s->bytes);
}

static bool asks(const struct select_call *s, int set, int fd) { return s->at[set] && FD_ISSET(fd, &s->asked[set]); }

static long select_as_is(struct select_call *s) {
  return raw_syscall6(SYS_pselect6, s->n, (long)s->at[0], (long)s->at[1], (long)s->at[2], (long)&none, 0);
}

/* What is closed while select waits counts as ready for all that is asked of it, as in the kernel, where only a new call finds that the number is nobody's. */
static long select_closed(struct select_call *s) {
  fd_set closed;
  FD_ZERO(&closed);
  select_as_asked(s);
  for (int fd = 0; fd < s->n; fd++) {
    if ((!asks(s, 0, fd) && !asks(s, 1, fd) && !asks(s, 2, fd)) || raw_syscall3(SYS_fcntl, fd, F_GETFD, 0) >= 0) continue;
    FD_SET(fd, &closed);
    for (int i = 0; i < 3; i++)
      if (s->at[i]) FD_CLR(fd, s->at[i]);
  }
  long r = select_as_is(s);
  for (int fd = 0; r >= 0 && fd < s->n; fd++)
    for (int i = 0; i < 3 && FD_ISSET(fd, &closed); i++)
      if (asks(s, i, fd)) FD_SET(fd, s->at[i]), r++;
  return r;
}

static long select_look(void *arg) {
  struct select_call *s = arg;
  bool again = s->again;
  s->again = true;
  select_as_asked(s);
  long r = select_as_is(s);
  return r == -EBADF && again ? select_closed(s) : r;
}

static size_t select_wants(const struct select_call *s, struct netpoll_want *want) {
  size_t k = 0;
  for (int fd = 0; fd < s->n; fd++) {
    bool in = asks(s, 0, fd) || asks(s, 2, fd), out = asks(s, 1, fd);
    if (!in && !out) continue;
    if (want)
      want[k] = (struct netpoll_want){.fd = fd, .only = in && !asks(s, 0, fd) ? EPOLLPRI | (out ? EPOLLOUT : 0u) : 0, .dir = {in, out}};
    k++;
  }
  return k;
}

int lightio_select(int n, fd_set *r, fd_set *w, fd_set *e, uint64_t until) {
  struct select_call s = {.n = n, .bytes = ((size_t)n + __NFDBITS - 1) / __NFDBITS * sizeof(__fd_mask), .at = {r, w, e}};
  bool there = true;
  for (int i = 0; i < 3 && there; i++) {
    there = !s.at[i] || is_there(s.at[i], s.bytes);
    if (there && s.at[i]) memcpy(&s.asked[i], s.at[i], s.bytes);
  }
  struct timespec ts = left_of(until);
  if (!there) return (int)lightio_result(BRACKET(SYS_pselect6, n, r, w, e, until == UINT64_MAX ? NULL : &ts));
  struct netpoll_want few[FEW], *want = few;
  size_t k = select_wants(&s, NULL);
  if (k > FEW) want = malloc(k * sizeof *want);
  long found = -EPERM;
  if (want) {
    select_wants(&s, want);
    found = look_and_park(want, k, until, select_look, &s);
  }
  if (want != few) free(want);
  if (found < 0) select_as_asked(&s); /* a look has emptied them; who fails leaves them as they were */
  if (found != -EPERM) return (int)lightio_result(found);
  ts = left_of(until);
  return (int)lightio_result(BRACKET(SYS_pselect6, n, r, w, e, until == UINT64_MAX ? NULL : &ts));
}

/* --- epoll --- */

struct epoll_call {
  const struct netpoll_want *ep;
  int n;
  struct epoll_event *ev;
};

static long epoll_look(void *arg) {
  struct epoll_call *e = arg; /* with the instance that it has, also if that is closed */
  return raw_syscall6(SYS_epoll_pwait, e->ep->fd, (long)e->ev, e->n, 0, 0, 8);
}

int lightio_epoll_wait(int ep, struct epoll_event *ev, int n, uint64_t until) {
  struct netpoll_hold hold = {0};
  struct netpoll_want want = {.fd = ep, .dir = {true, false}, .hold = &hold};
  struct epoll_call e = {&want, n, ev};
  long r = look_and_park(&want, 1, until, epoll_look, &e);
  if (r == -EPERM) {
    netpoll_hold_rest(&hold);
    r = BRACKET(SYS_epoll_pwait, netpoll_number(&hold, ep), ev, n, ms_left(until), 0, 8);
  }
  netpoll_hold_end(&hold);
  return (int)lightio_result(r);
}
