/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for descriptors.  With a timeout of 0 a call never blocks and is
 * passed on.  Otherwise, when some G waits for a P, the call is first made with a
 * timeout of 0, and if that finds nothing our P goes at once; else it is bracketed, and the P
 * goes when the M really blocks.
 *
 * With a signal mask the first call has the mask too.  A signal that it lets in
 * ends it with EINTR, as it would have ended the call itself; one that comes between the two
 * calls is blocked and ends the second one.
 *
 * EINTR repair: the call is made again for the time that is left, to the ns where the
 * kernel has such a call; the deadline is taken once, at the start.
 */
#include "preload/call.h"

#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include "free/free.h"
#include "preload/lightio.h"

#define REAL_POLL(X)                                                                                \
  X(int, poll, (struct pollfd *, nfds_t, int))                                                      \
  X(int, __poll_chk, (struct pollfd *, nfds_t, int, size_t))                                        \
  X(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))               \
  X(int, __ppoll_chk, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t)) \
  X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                             \
  X(int, pselect, (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))   \
  X(int, epoll_wait, (int, struct epoll_event *, int, int))                                         \
  X(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *))                      \
  X(int, epoll_pwait2, (int, struct epoll_event *, int, const struct timespec *, const sigset_t *))
REAL_DEFINE(REAL_POLL)

static const struct timespec none;

/* A timeout in ms, as poll and epoll_wait have it: < 0 for ever. */
static uint64_t deadline_ms(int ms) { return ms > 0 ? call_deadline((uint64_t)ms / 1000, (uint64_t)ms % 1000 * 1000000) : UINT64_MAX; }

static uint64_t deadline_ts(const struct timespec *ts) {
  return ts && call_valid(ts) ? call_deadline((uint64_t)ts->tv_sec, (uint64_t)ts->tv_nsec) : UINT64_MAX;
}

static bool is_none(const struct timespec *ts) { return ts && ts->tv_sec == 0 && ts->tv_nsec == 0; }

/*
 * A light G that may park.  No handler of the program runs on a carrier, so a mask says nothing there, unless it opens what the program's
 * threads block: then the call is made with it, and blocks the M.
 */
static bool parks(const sigset_t *mask, const struct timespec *timeout) {
  uint64_t w = 0;
  if (__builtin_expect(free_mode, 0) && mask)
    free_wire(FREE_WIRE_SIGNALS); /* a thread G: what is sent to it is to be let in, or kept out */
  if (!light_running() || is_none(timeout) || (timeout && !call_valid(timeout))) return false;
  if (mask) memcpy(&w, mask, sizeof w);
  return !mask || (light_mask() & ~w) == 0;
}

/* A call with the mask `real`, which stands for the program's `mask`.  All of it is the thread's: inside of the bracket, where there is one. */
#define SCOPED(mask, call)                                      \
  ({                                                            \
    struct signal_scope scope_;                                 \
    const sigset_t *real = signal_scope_begin(&scope_, (mask)); \
    int scoped_ = (call);                                       \
    signal_scope_end(&scope_);                                  \
    scoped_;                                                    \
  })

/* Outside of a bracket, a call that does not wait. */
#define LOOK(call, mark, again)                    \
  ({                                               \
    int seen_ = (call);                            \
    (again) = seen_ < 0 && call_interrupted(mark); \
    seen_;                                         \
  })

/* As CALL_TRY; if `looks`, a look goes first, and if that finds nothing (0) our P goes before the call. */
#define LOOK_OR_WAIT(looks, look, call, mark, again)                                              \
  ({                                                                                              \
    int found_;                                                                                   \
    if (looks) {                                                                                  \
      found_ = LOOK(look, mark, again);                                                           \
      if (found_ == 0) found_ = CALL_TRY(int, call_enter_blocking(WAIT_POLL), call, mark, again); \
    } else {                                                                                      \
      found_ = CALL_TRY(int, call_enter(), call, mark, again);                                    \
    }                                                                                             \
    found_;                                                                                       \
  })

/* After an EINTR that was ours: the same call until `deadline`. */
static int ppoll_until(struct pollfd *fds, nfds_t n, uint64_t deadline, const sigset_t *mask, struct signal_mark *mark) {
  struct timespec left;
  bool again;
  int r;
  do {
    if (deadline != UINT64_MAX) left = call_left(deadline);
    r = CALL_TRY(int, call_enter(), SCOPED(mask, REAL(ppoll)(fds, n, deadline != UINT64_MAX ? &left : NULL, real)), mark, again);
  } while (again);
  return r;
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout) {
  if (timeout == 0) return REAL(poll)(fds, n, 0);
  if (light_running()) return lightio_ppoll(fds, n, deadline_ms(timeout));
  struct signal_mark mark = signal_mark();
  uint64_t deadline = deadline_ms(timeout);
  bool again;
  int r = LOOK_OR_WAIT(gate_contended(), REAL(poll)(fds, n, 0), REAL(poll)(fds, n, timeout), &mark, again);
  return again ? ppoll_until(fds, n, deadline, NULL, &mark) : r;
}
int __poll(struct pollfd *fds, nfds_t n, int timeout) CALL_ALIAS(poll);

/* The real one only checks the size, and does not return if it is wrong. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size) {
  if (size / sizeof *fds < n) return REAL(__poll_chk)(fds, n, timeout, size);
  return poll(fds, n, timeout);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
  if (parks(mask, timeout)) return lightio_ppoll(fds, n, deadline_ts(timeout));
  struct signal_mark mark = signal_mark();
  uint64_t deadline = is_none(timeout) ? 0 : deadline_ts(timeout);
  bool again;
  int r;
  if (is_none(timeout)) {
    r = LOOK(SCOPED(mask, REAL(ppoll)(fds, n, timeout, real)), &mark, again);
  } else {
    r = LOOK_OR_WAIT(gate_contended() && (!timeout || call_valid(timeout)), SCOPED(mask, REAL(ppoll)(fds, n, &none, real)),
                     SCOPED(mask, REAL(ppoll)(fds, n, timeout, real)), &mark, again);
  }
  return again ? ppoll_until(fds, n, deadline, mask, &mark) : r;
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size);
EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t size) {
  if (size / sizeof *fds < n) return REAL(__ppoll_chk)(fds, n, timeout, mask, size);
  return ppoll(fds, n, timeout, mask);
}

/* --- select: what it finds, it writes over what it was asked --- */

struct fd_sets {
  int n;
  fd_set *at[3];
  fd_set copy[3];
};

static bool sets_save(struct fd_sets *s) {
  if (s->n < 0 || s->n > FD_SETSIZE) return false;
  size_t bytes = ((size_t)s->n + __NFDBITS - 1) / __NFDBITS * sizeof(__fd_mask);
  for (int i = 0; i < 3; i++)
    if (s->at[i]) memcpy(&s->copy[i], s->at[i], bytes);
  return true;
}

static void sets_restore(const struct fd_sets *s) {
  size_t bytes = ((size_t)s->n + __NFDBITS - 1) / __NFDBITS * sizeof(__fd_mask);
  for (int i = 0; i < 3; i++)
    if (s->at[i]) memcpy(s->at[i], &s->copy[i], bytes);
}

/* One look without waiting; 0: nothing is there, or there was no looking, and the sets are as they were. */
static int select_look(int n, fd_set *r, fd_set *w, fd_set *e, const sigset_t *mask) {
  struct fd_sets s = {.n = n, .at = {r, w, e}};
  if (!sets_save(&s)) return 0;
  int found = REAL(pselect)(n, r, w, e, &none, mask);
  if (found == 0) sets_restore(&s);
  return found;
}

static bool tv_none(const struct timeval *tv) { return tv && tv->tv_sec == 0 && tv->tv_usec == 0; }

static bool tv_valid(const struct timeval *tv) { return !tv || (tv->tv_sec >= 0 && tv->tv_usec >= 0); }

/* As the kernel does, also where something was there at once. */
static void tv_say_left(struct timeval *tv, uint64_t deadline) {
  struct timespec left = call_left(deadline);
  *tv = (struct timeval){left.tv_sec, left.tv_nsec / 1000};
}

static int light_select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv, uint64_t deadline) {
  int found = lightio_select(n, r, w, e, deadline);
  if (tv) tv_say_left(tv, deadline);
  return found;
}

EXPORT int select(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e, struct timeval *restrict tv) {
  if (tv_none(tv)) return REAL(select)(n, r, w, e, tv);
  struct signal_mark mark = signal_mark();
  bool bounded = tv && tv_valid(tv);
  uint64_t deadline = bounded ? call_deadline((uint64_t)tv->tv_sec, (uint64_t)tv->tv_usec * 1000) : UINT64_MAX;
  if (light_running() && tv_valid(tv) && n >= 0 && n <= FD_SETSIZE) return light_select(n, r, w, e, tv, deadline);
  bool looks = gate_contended() && tv_valid(tv);
  for (;;) {
    bool again;
    int found = LOOK_OR_WAIT(looks, select_look(n, r, w, e, NULL), REAL(select)(n, r, w, e, tv), &mark, again);
    if (bounded) tv_say_left(tv, deadline);
    if (!again) return found;
  }
}
int __select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv) CALL_ALIAS(select);

EXPORT int pselect(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e, const struct timespec *restrict timeout,
                   const sigset_t *restrict mask) {
  if (parks(mask, timeout) && n >= 0 && n <= FD_SETSIZE) return lightio_select(n, r, w, e, deadline_ts(timeout));
  struct signal_mark mark = signal_mark();
  uint64_t deadline = is_none(timeout) ? 0 : deadline_ts(timeout);
  bool looks = !is_none(timeout) && gate_contended() && (!timeout || call_valid(timeout));
  struct timespec left;
  for (;;) {
    bool again;
    int found = LOOK_OR_WAIT(looks, SCOPED(mask, select_look(n, r, w, e, real)), SCOPED(mask, REAL(pselect)(n, r, w, e, timeout, real)),
                             &mark, again);
    if (!again) return found;
    if (deadline == UINT64_MAX) continue;
    left = call_left(deadline);
    timeout = &left;
  }
}

/* --- epoll --- */

/* What is not there the kernel is to say by itself; libc's ppoll and pselect read their times as we do. */
static bool is_there(const struct timespec *timeout, const sigset_t *mask) {
  return (!timeout || sys_can_read(timeout, sizeof *timeout)) && (!mask || sys_can_read(mask, sizeof(uint64_t)));
}

/* Kernels before 5.11 only know ms: then rather a little early than late.  left null: for ever. */
static int epoll_left(int ep, struct epoll_event *ev, int n, const struct timespec *left, const sigset_t *mask) {
  int r = REAL(epoll_pwait2)(ep, ev, n, left, mask);
  if (r >= 0 || call_errno() != ENOSYS) return r;
  return REAL(epoll_pwait)(ep, ev, n, left ? (int)(left->tv_sec * 1000 + left->tv_nsec / 1000000) : -1, mask);
}

/* After an EINTR that was ours. */
static int epoll_until(int ep, struct epoll_event *ev, int n, uint64_t deadline, const sigset_t *mask, struct signal_mark *mark) {
  struct timespec left;
  bool again;
  int r;
  do {
    if (deadline != UINT64_MAX) left = call_left(deadline);
    r = CALL_TRY(int, call_enter(), SCOPED(mask, epoll_left(ep, ev, n, deadline != UINT64_MAX ? &left : NULL, real)), mark, again);
  } while (again);
  return r;
}

EXPORT int epoll_wait(int ep, struct epoll_event *ev, int n, int timeout) {
  if (timeout == 0) return REAL(epoll_wait)(ep, ev, n, 0);
  if (light_running()) return lightio_epoll_wait(ep, ev, n, deadline_ms(timeout));
  struct signal_mark mark = signal_mark();
  uint64_t deadline = deadline_ms(timeout);
  bool again;
  int r = LOOK_OR_WAIT(gate_contended(), REAL(epoll_wait)(ep, ev, n, 0), REAL(epoll_wait)(ep, ev, n, timeout), &mark, again);
  return again ? epoll_until(ep, ev, n, deadline, NULL, &mark) : r;
}

EXPORT int epoll_pwait(int ep, struct epoll_event *ev, int n, int timeout, const sigset_t *mask) {
  if (!is_there(NULL, mask)) return REAL(epoll_pwait)(ep, ev, n, timeout, mask);
  if (timeout != 0 && parks(mask, NULL)) return lightio_epoll_wait(ep, ev, n, deadline_ms(timeout));
  struct signal_mark mark = signal_mark();
  uint64_t deadline = timeout == 0 ? 0 : deadline_ms(timeout);
  bool again;
  int r;
  if (timeout == 0) {
    r = LOOK(SCOPED(mask, REAL(epoll_pwait)(ep, ev, n, 0, real)), &mark, again);
  } else {
    r = LOOK_OR_WAIT(gate_contended(), SCOPED(mask, REAL(epoll_pwait)(ep, ev, n, 0, real)),
                     SCOPED(mask, REAL(epoll_pwait)(ep, ev, n, timeout, real)), &mark, again);
  }
  return again ? epoll_until(ep, ev, n, deadline, mask, &mark) : r;
}

EXPORT int epoll_pwait2(int ep, struct epoll_event *ev, int n, const struct timespec *timeout, const sigset_t *mask) {
  if (!is_there(timeout, mask)) return REAL(epoll_pwait2)(ep, ev, n, timeout, mask);
  if (parks(mask, timeout)) return lightio_epoll_wait(ep, ev, n, deadline_ts(timeout));
  struct signal_mark mark = signal_mark();
  uint64_t deadline = is_none(timeout) ? 0 : deadline_ts(timeout);
  bool again;
  int r;
  if (is_none(timeout)) {
    r = LOOK(SCOPED(mask, REAL(epoll_pwait2)(ep, ev, n, timeout, real)), &mark, again);
  } else {
    r = LOOK_OR_WAIT(gate_contended() && (!timeout || call_valid(timeout)), SCOPED(mask, REAL(epoll_pwait2)(ep, ev, n, &none, real)),
                     SCOPED(mask, REAL(epoll_pwait2)(ep, ev, n, timeout, real)), &mark, again);
  }
  return again ? epoll_until(ep, ev, n, deadline, mask, &mark) : r;
}
