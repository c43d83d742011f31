/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free mode: CPU clocks of thread Gs (core/cpuclock.c keeps them).
 *
 * The number of such a clock is the one that the kernel would have for a thread with the G's tid, so who makes it up from gettid gets it right.  The kernel knows no thread of that
 * tid: of one that has ended it says what is to be said (EINVAL).
 *
 * A timer on the clock of a thread is the kernel's, on the thread that the G gets for it.  That one's clock is ahead of the G's, by a time that is added where a timer is set to an
 * absolute time.  On another G that has no thread of its own there is none (ENOTSUP, which POSIX has for this).
 *
 * clock_gettime is everywhere: ordinary clocks cost one comparison.
 */
#include "preload/clock.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include "free/free.h"
#include "free/thread.h"
#include "preload/call.h"
#include "preload/tid.h"
#include "preload/wire.h"

#define REAL_CLOCK(X)                                                                   \
  X(int, clock_gettime, (clockid_t, struct timespec *))                                 \
  X(int, clock_getres, (clockid_t, struct timespec *))                                  \
  X(int, getrusage, (__rusage_who_t, struct rusage *))                                  \
  X(int, pthread_getcpuclockid, (pthread_t, clockid_t *))                               \
  X(int, timer_create, (clockid_t, struct sigevent *, timer_t *))                       \
  X(int, timer_settime, (timer_t, int, const struct itimerspec *, struct itimerspec *)) \
  X(int, timer_delete, (timer_t))
REAL_DEFINE(REAL_CLOCK)

/* The kernel's ABI: CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED, below the complement of the tid.  It is negative. */
#define CLOCK_BITS 6u
static clockid_t clock_by_tid(uint32_t tid) { return (clockid_t)((~tid << 3) | CLOCK_BITS); }
static uint32_t tid_by_clock(clockid_t clock) { return ~(uint32_t)clock >> 3; }

static struct thread *own(void) {
  struct thread *self = free_mode ? thread_self() : NULL;
  return self && !thread_is_forked(self) ? self : NULL;
}

/* The thread G; null: it is the kernel's to say. */
static struct thread *g_of(clockid_t clock) {
  if (clock == CLOCK_THREAD_CPUTIME_ID) return own();
  if (!free_mode || clock >= 0 || ((uint32_t)clock & 7) != CLOCK_BITS) return NULL;
  return wire_thread_by_tid((pid_t)tid_by_clock(clock));
}

bool clock_of_g(clockid_t clock) { return clock < 0 && g_of(clock); }

/* --- reading --- */

static __attribute__((noinline)) int get(clockid_t clock, struct timespec *ts) {
  uint64_t ns;
  struct thread *t = g_of(clock);
  if (!t || !thread_cpu_ns(t, &ns)) return REAL(clock_gettime)(clock, ts);
  *ts = (struct timespec){(time_t)(ns / CALL_NS), (long)(ns % CALL_NS)};
  return 0;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ts) {
  if (__builtin_expect((uint32_t)clock < CLOCK_THREAD_CPUTIME_ID, 1) || clock > CLOCK_THREAD_CPUTIME_ID)
    return REAL(clock_gettime)(clock, ts);
  return get(clock, ts);
}

EXPORT int clock_getres(clockid_t clock, struct timespec *ts) {
  struct thread *t = clock < 0 ? g_of(clock) : NULL;
  return REAL(clock_getres)(t && thread_has_clock(t) ? CLOCK_THREAD_CPUTIME_ID : clock, ts);
}

EXPORT int getrusage(__rusage_who_t who, struct rusage *usage) {
  int r = REAL(getrusage)(who, usage);
  struct thread *self = r == 0 && who == RUSAGE_THREAD ? own() : NULL;
  if (self) thread_usage(self, &usage->ru_utime, &usage->ru_stime);
  return r;
}

EXPORT int pthread_getcpuclockid(pthread_t t, clockid_t *clock) {
  struct thread *th = thread_of(t);
  if (!th || thread_is_forked(th)) return REAL(pthread_getcpuclockid)(t, clock);
  if (!thread_has_clock(th)) return ESRCH;
  if (thread_id(th) >= THREAD_ID_CLOCKS) return ENOENT;
  *clock = clock_by_tid(thread_id(th));
  return 0;
}

uint32_t clock_tid_of(pthread_t t) {
  clockid_t clock;
  return REAL(pthread_getcpuclockid)(t, &clock) == 0 ? (uint32_t) ~(clock >> 3) : 0;
}

/* --- sleeping --- */

#define LOOK_LEAST_NS 1000000
#define LOOK_MOST_NS 20000000

static int64_t ns_of(const struct timespec *ts) { return ts->tv_sec * (int64_t)CALL_NS + ts->tv_nsec; }
static struct timespec of_ns(int64_t ns) { return (struct timespec){ns / (int64_t)CALL_NS, ns % (int64_t)CALL_NS}; }

/*
 * A CPU clock is no faster than the wall's: what is left is slept, and then it is looked at again.  As long as it does not move, less often.  Of a thread that
 * has ended it does not move any more, as the kernel's.
 */
int clock_sleep(clockid_t clock, int flags, const struct timespec *req, struct timespec *rem) {
  struct thread *t = g_of(clock);
  uint64_t ns, seen;
  int64_t most = LOOK_LEAST_NS;
  if (!call_valid(req) || t == own() || !t || !thread_cpu_ns(t, &ns)) return EINVAL;
  int64_t until = req->tv_sec > INT64_MAX / 2 / (int64_t)CALL_NS ? INT64_MAX / 2 : ns_of(req);
  if (!(flags & TIMER_ABSTIME)) until += (int64_t)ns;
  for (seen = ns; until > (int64_t)ns; seen = ns) {
    int64_t left = until - (int64_t)ns;
    struct timespec nap = of_ns(left > most ? left : most);
    int r = clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
    if (thread_id(t) == tid_by_clock(clock)) thread_cpu_ns(t, &ns);
    if (r != 0) {
      left = until - (int64_t)ns;
      if (rem && !(flags & TIMER_ABSTIME)) *rem = of_ns(left > 0 ? left : 0);
      return r;
    }
    most = seen != ns ? LOOK_LEAST_NS : 2 * most < LOOK_MOST_NS ? 2 * most : LOOK_MOST_NS;
  }
  return 0;
}

/* --- timers --- */

/* Those on a clock of a thread G.  Lock-free, as they may be set in handlers; one that finds no place is not corrected. */
#define TIMERS 64u
static struct {
  _Atomic uintptr_t id; /* of the timer, +2; 0: free, 1: being filled in */
  int64_t ahead;        /* published by id: release, acquire */
} timers[TIMERS];

static void note_timer(timer_t timer, int64_t ahead) {
  for (uint32_t i = 0; i < TIMERS; i++) {
    uintptr_t none = 0;
    if (!atomic_compare_exchange_strong_explicit(&timers[i].id, &none, 1, memory_order_relaxed, memory_order_relaxed)) continue;
    timers[i].ahead = ahead;
    atomic_store_explicit(&timers[i].id, (uintptr_t)timer + 2, memory_order_release); /* pairs with find_timer */
    return;
  }
}

static uint32_t find_timer(timer_t timer) {
  uint32_t i = 0;
  while (i < TIMERS && atomic_load_explicit(&timers[i].id, memory_order_acquire) != (uintptr_t)timer + 2) i++; /* pairs with note_timer */
  return i;
}

/* On the clock of a thread G, the caller's own or another's. */
static int create_on(struct thread *t, struct sigevent *ev, timer_t *timer) {
  if (t == own()) free_wire_alone(); /* the timer must not be its carrier's next G's */
  if (t != own() || thread_is_g(t)) {
    errno = ENOTSUP;
    return -1;
  }
  int r = REAL(timer_create)(CLOCK_THREAD_CPUTIME_ID, ev, timer);
  if (r == 0) note_timer(*timer, thread_cpu_ahead(t));
  return r;
}

EXPORT int timer_create(clockid_t clock, struct sigevent *restrict ev, timer_t *restrict timer) {
  struct thread *self = thread_self(), *t = g_of(clock);
  struct sigevent real;
  struct thread *to = ev && ev->sigev_notify == SIGEV_THREAD_ID ? wire_thread_by_tid(ev->_sigev_un._tid) : NULL;
  if (to && to == self) free_wire(FREE_WIRE_SIGNALS);
  if (to) {
    real = *ev;
    real._sigev_un._tid = to == self ? tid_kernels(ev->_sigev_un._tid, TID_READ) : tid_to_set(ev->_sigev_un._tid);
    ev = &real;
  }
  return t && thread_has_clock(t) ? create_on(t, ev, timer) : REAL(timer_create)(clock, ev, timer);
}

EXPORT int timer_settime(timer_t timer, int flags, const struct itimerspec *restrict value, struct itimerspec *restrict old) {
  uint32_t i = free_mode && (flags & TIMER_ABSTIME) && value && call_valid(&value->it_value) ? find_timer(timer) : TIMERS;
  int64_t at = i < TIMERS ? ns_of(&value->it_value) : 0;
  if (at == 0) return REAL(timer_settime)(timer, flags, value, old);
  struct itimerspec real = *value;
  at += timers[i].ahead;
  real.it_value = of_ns(at > 0 ? at : 1);
  return REAL(timer_settime)(timer, flags, &real, old);
}

EXPORT int timer_delete(timer_t timer) {
  uint32_t i = free_mode ? find_timer(timer) : TIMERS;
  if (i < TIMERS) atomic_store_explicit(&timers[i].id, 0, memory_order_relaxed);
  return REAL(timer_delete)(timer);
}

/* --- raw calls --- */

bool clock_raw(long nr, const long *a, long *r) {
  if (!free_mode) return false;
  clockid_t clock = (clockid_t)a[0];
  struct timespec *ts = (struct timespec *)a[1];
  switch (nr) {
    case SYS_clock_gettime:
      if (!g_of(clock)) return false;
      *r = REAL(clock_gettime)(CLOCK_THREAD_CPUTIME_ID, ts); /* the kernel says whether ts can be written */
      if (*r == 0) *r = clock_gettime(clock, ts);
      return true;
    case SYS_clock_getres:
      return clock_of_g(clock) && (*r = clock_getres(clock, ts), true);
    case SYS_getrusage:
      return (int)a[0] == RUSAGE_THREAD && own() && (*r = getrusage((int)a[0], (struct rusage *)a[1]), true);
    case SYS_clock_nanosleep:
      if (!clock_of_g(clock) || !a[2]) return false;
      *r = clock_sleep(clock, (int)a[1], (const struct timespec *)a[2], (struct timespec *)a[3]);
      if (*r) {
        errno = (int)*r;
        *r = -1;
      }
      return true;
    default:
      return false;
  }
}
