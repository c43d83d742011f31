/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeps: the P is given away at once when someone waits for it.
 *
 * A sleep that only our SIGURG has ended goes on until its first deadline, not
 * for the rest that the kernel reported: the time that the handler took is not added.
 * So each relative sleep notes its end; the clock's 20 ns don't matter before a sleep.
 */
#include "preload/call.h"

#include <sched.h>
#include <threads.h>
#include <unistd.h>
#include "free/free.h"
#include "preload/clock.h"
#include "preload/lightio.h"

#define REAL_SLEEP(X)                                                                   \
  X(int, nanosleep, (const struct timespec *, struct timespec *))                       \
  X(int, clock_nanosleep, (clockid_t, int, const struct timespec *, struct timespec *)) \
  X(int, sched_yield, (void))
REAL_DEFINE(REAL_SLEEP)

static bool is_zero(const struct timespec *ts) { return ts->tv_sec == 0 && ts->tv_nsec == 0; }

/* Of a clock that a relative sleep may name; CLOCK_REALTIME sleeps are measured by CLOCK_MONOTONIC, as the kernel does. */
static bool clock_end(clockid_t clock, const struct timespec *req, struct timespec *end) {
  if (sys_clock(clock, end) < 0) return false;
  if (__builtin_add_overflow(end->tv_sec, req->tv_sec, &end->tv_sec)) return false;
  end->tv_nsec += req->tv_nsec;
  if (end->tv_nsec < (long)CALL_NS) return true;
  end->tv_nsec -= (long)CALL_NS;
  return !__builtin_add_overflow(end->tv_sec, 1, &end->tv_sec);
}

static void left_of(clockid_t clock, const struct timespec *end, struct timespec *rem) {
  struct timespec now;
  sys_clock(clock, &now);
  rem->tv_sec = end->tv_sec - now.tv_sec;
  rem->tv_nsec = end->tv_nsec - now.tv_nsec;
  if (rem->tv_nsec < 0) {
    rem->tv_nsec += (long)CALL_NS;
    rem->tv_sec--;
  }
  if (rem->tv_sec < 0) *rem = (struct timespec){0, 0};
}

/* The error number of the calling light G's context, if that is over: it has ended the sleep.  errno is as it was. */
static int sleep_over(int saved) {
  int over = light_running() ? -lightio_over() : 0;
  if (over) call_set_errno(saved);
  return over;
}

/* One sleep.  `again`: it says EINTR, and only ours have come since the mark. */
static inline int sleep_once(clockid_t clock, int flags, const struct timespec *req, struct timespec *rem, struct signal_mark *mark,
                             bool *again) {
  CALL_UNWINDS;
  call_enter_blocking(WAIT_SLEEP);
  int r = REAL(clock_nanosleep)(clock, flags, req, rem);
  *again = r == EINTR && call_only_ours(mark);
  call_exit();
  if (*again) *again = call_again(mark);
  return r;
}

/* Until `end`, of a sleep that began before; of a relative one what is left goes to *rem. */
static int sleep_rest(clockid_t clock, const struct timespec *end, bool absolute, struct timespec *rem, struct signal_mark *mark) {
  clockid_t base = !absolute && clock == CLOCK_REALTIME ? CLOCK_MONOTONIC : clock;
  int r, saved = call_errno();
  bool again;
  do r = sleep_once(base, TIMER_ABSTIME, end, NULL, mark, &again);
  while (again);
  if (r == EINTR && !absolute && rem) left_of(base, end, rem);
  int over = r == EINTR ? sleep_over(saved) : 0;
  return over ? over : r;
}

/* clock_nanosleep: an error number. The real one saves errno, and so do we. */
static int sleep_on(clockid_t clock, int flags, const struct timespec *req, struct timespec *rem) {
  CALL_UNWINDS;
  if (req && !sys_can_read(req, sizeof *req)) return CALL_ONCE(int, REAL(clock_nanosleep)(clock, flags, req, rem));
  if (__builtin_expect(clock < 0, 0) && req && clock_of_g(clock)) return clock_sleep(clock, flags, req, rem);
  if (!req || !call_valid(req) || is_zero(req)) return CALL_ONCE(int, REAL(clock_nanosleep)(clock, flags, req, rem));
  struct signal_mark mark = signal_mark();
  bool absolute = (flags & TIMER_ABSTIME) != 0;
  clockid_t base = clock == CLOCK_REALTIME ? CLOCK_MONOTONIC : clock;
  struct timespec end;
  int saved = errno;
  bool again, known = absolute || clock_end(base, req, &end);
  errno = saved;
  if (light_running() && known && (absolute ? clock : base) == CLOCK_MONOTONIC) {
    const struct timespec *at = absolute ? req : &end;
    int over = lightio_sleep((uint64_t)at->tv_sec * CALL_NS + (uint64_t)at->tv_nsec);
    if (over != EAGAIN) {
      if (over && !absolute && rem) left_of(base, &end, rem);
      return over;
    }
  } else {
    struct timespec left;
    int r = sleep_once(clock, flags, req, &left, &mark, &again);
    if (r != EINTR) return r;
    int over = sleep_over(saved);
    if (over || !known || !again) {
      if (!absolute && rem) *rem = left;
      return over ? over : r;
    }
  }
  return sleep_rest(clock, absolute ? req : &end, absolute, rem, &mark);
}

EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *req, struct timespec *rem) {
  return sleep_on(clock, flags, req, rem);
}

EXPORT int nanosleep(const struct timespec *req, struct timespec *rem) {
  int r = sleep_on(CLOCK_REALTIME, 0, req, rem);
  if (r == 0) return 0;
  call_set_errno(r);
  return -1;
}
int __nanosleep(const struct timespec *req, struct timespec *rem) CALL_ALIAS(nanosleep);

/* What is left of a sleep that a signal ended; errno is touched only then. */
EXPORT unsigned sleep(unsigned seconds) {
  struct timespec ts = {.tv_sec = (time_t)seconds};
  return nanosleep(&ts, &ts) < 0 ? (unsigned)ts.tv_sec : 0;
}

EXPORT int usleep(useconds_t us) {
  struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
  return nanosleep(&ts, NULL);
}

/* C11: -1 when a signal ended it, another negative value for the rest. */
EXPORT int thrd_sleep(const struct timespec *req, struct timespec *rem) {
  int r = sleep_on(CLOCK_REALTIME, 0, req, rem);
  return r == 0 ? 0 : r == EINTR ? -1 : -2;
}

EXPORT int sched_yield(void) {
  if (gate_is_quiet()) return REAL(sched_yield)();
  if (light_running()) {
    g_yield();
    if (free_mode) free_notice_signals();
    return 0;
  }
  return gate_yield() ? 0 : REAL(sched_yield)();
}
int __sched_yield(void) CALL_ALIAS(sched_yield);
int pthread_yield(void) CALL_ALIAS(sched_yield);
EXPORT void thrd_yield(void) { sched_yield(); }
