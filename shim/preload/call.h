/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_CALL_H
#define RATION_PRELOAD_CALL_H
/*
 * The bracket around a libc call that may block, as all wrappers use it.
 *
 *   EXPORT ssize_t read(int fd, void *buf, size_t n) { return CALL(ssize_t, REAL(read)(fd, buf, n)); }
 *
 * Cancellation.  A wrapped cancellation point stays one: pthread_cancel unwinds
 * from the real function through our frame, and the thread, whose cleanup handlers
 * run next, must be out of the bracket.  CALL_UNWINDS names ration_unwind as the
 * personality of the wrapper's frame: the unwinder calls it when it passes, and it
 * does the gate_exit.  It costs nothing otherwise.
 * Rejected: __attribute__((cleanup)).  Its landing pads need libgcc's personality,
 * which we would have to link statically (the shim needs libc only), and which would then read the private
 * structures of the libgcc_s that glibc loads for the unwinding, whatever version that is.
 *
 * EINTR.  A call that is interrupted by nothing but a SIGURG that the program is
 * not to know of is made again (signal.h, "EINTR repair").
 */
#undef _FORTIFY_SOURCE /* its inline functions have the names of our wrappers */
#include <errno.h>
#include <stdint.h>
#include <time.h>
#include "core/gate.h"
#include "core/sys.h"
#include "preload/real.h"
#include "preload/signal.h"

/* 0x1b: DW_EH_PE_pcrel | DW_EH_PE_sdata4. */
#define CALL_UNWINDS __asm__ volatile(".cfi_personality 0x1b, ration_unwind")

/*
 * The M of a light G may be another one after the bracket.  What is about the thread (a shadow mask, a mark) is asked, set and set back in
 * between; and whatever comes after it, or before it in a loop, are functions that are not inlined, so that no thread pointer and no address of
 * errno is kept over it.  x86-64 reads what is the thread's through %fs each time, and has its bracket inline; but errno's address is a
 * function's result, which is kept there too.  `make aarch64` looks for what is kept (tests/aarch64_tls).
 */
#if defined(__aarch64__)
#define CALL_APART __attribute__((noinline, unused))
#else
#define CALL_APART inline
#endif
static CALL_APART void call_enter(void) { gate_enter(); }
static CALL_APART void call_enter_lock(void) { gate_enter_lock(); }
static CALL_APART void call_enter_blocking(enum wait_reason why) { gate_enter_blocking(why); }
static CALL_APART void call_exit(void) { gate_exit(); }

static __attribute__((noinline, unused)) int call_errno(void) { return errno; }
static __attribute__((noinline, unused)) void call_set_errno(int e) { errno = e; }

/* Inside of the bracket: the call that failed is to be made again.  Moves the mark. */
static __attribute__((noinline, unused)) bool call_interrupted(struct signal_mark *m) { return signal_again(m); }
/* The same of a call whose result says EINTR, not errno. */
static __attribute__((noinline, unused)) bool call_only_ours(struct signal_mark *m) { return signal_only_ours(m); }

/* After a call that may have been made in vain: the context of the light G that makes it is over (sync/interrupt.c).  Then errno says how. */
bool call_over(void);

/* After the bracket: still so.  A carrier runs no handlers of the program, but its marks are not those of the one before. */
static __attribute__((noinline, unused)) bool call_again(struct signal_mark *m) {
  struct signal_mark now = signal_mark();
  bool carrier = m_self && m_self->carrier, same = now.handled == m->handled;
  *m = now;
  return carrier ? !call_over() : same;
}

/* One call that returns -1 and errno.  `again`: since `mark` only SIGURGs that the program is not to know of have come, and ended it. */
#define CALL_TRY(type, enter, call, mark, again)                               \
  ({                                                                           \
    CALL_UNWINDS;                                                              \
    enter;                                                                     \
    type try_ = (call);                                                        \
    (again) = __builtin_expect(try_ == (type)-1, 0) && call_interrupted(mark); \
    call_exit();                                                               \
    if (__builtin_expect(again, 0)) (again) = call_again(mark);                \
    try_;                                                                      \
  })

#define CALL_LOOP(type, enter, call)                     \
  ({                                                     \
    struct signal_mark mark_ = signal_mark();            \
    type r_;                                             \
    bool again_;                                         \
    do r_ = CALL_TRY(type, enter, call, &mark_, again_); \
    while (__builtin_expect(again_, 0));                 \
    r_;                                                  \
  })

/* A call that returns -1 and errno. */
#define CALL(type, call) CALL_LOOP(type, call_enter(), call)
/* The same, when it is going to block for sure. */
#define CALL_BLOCKING(type, why, call) CALL_LOOP(type, call_enter_blocking(why), call)

/* A call that never returns EINTR, or must not be made twice. */
#define CALL_ONCE_(type, enter, call) \
  ({                                  \
    CALL_UNWINDS;                     \
    enter;                            \
    type once_ = (call);              \
    call_exit();                      \
    once_;                            \
  })
#define CALL_ONCE(type, call) CALL_ONCE_(type, call_enter(), call)
#define CALL_ONCE_BLOCKING(type, why, call) CALL_ONCE_(type, call_enter_blocking(why), call)

/* A second name of a wrapper in the same file. */
#if __has_attribute(copy)
#define CALL_ALIAS(fn) __attribute__((visibility("default"), alias(#fn), copy(fn)))
#else
#define CALL_ALIAS(fn) __attribute__((visibility("default"), alias(#fn)))
#endif

/* --- timeouts of calls that are made again --- */

#define CALL_NS 1000000000u

static inline uint64_t call_now(void) {
  struct timespec ts;
  sys_clock(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * CALL_NS + (uint64_t)ts.tv_nsec;
}

/* CLOCK_MONOTONIC ns after a time from now; UINT64_MAX for a time that never ends. */
static inline uint64_t call_deadline(uint64_t sec, uint64_t ns) {
  uint64_t at, now = call_now();
  if (__builtin_mul_overflow(sec, (uint64_t)CALL_NS, &at) || __builtin_add_overflow(at, ns, &at) || __builtin_add_overflow(at, now, &at))
    return UINT64_MAX;
  return at;
}

/* What is left until then, 0 if nothing. */
static inline struct timespec call_left(uint64_t deadline) {
  uint64_t now = call_now(), left = deadline > now ? deadline - now : 0;
  return (struct timespec){(time_t)(left / CALL_NS), (long)(left % CALL_NS)};
}

static inline bool call_valid(const struct timespec *ts) { return ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < (long)CALL_NS; }

#endif
