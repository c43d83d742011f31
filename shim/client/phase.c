/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the kernel's CFS period begins.
 *
 * The kernel gives a cgroup its quota anew every period and saves nothing.  Who knows the moment can
 * use the quota to the last ms of each period without ever being throttled; who doesn't must leave what the unevenness of two
 * neighbouring frames may add up to.  No file says when it is, but nr_periods in cpu.stat grows at that moment:
 *
 *   UNKNOWN --nr_periods grew by one between two readings--> BETWEEN lo and hi
 *   BETWEEN --a reading in the middle, one after hi--> half as wide, until NARROW
 *   NARROW  --every 8th period: widened a little, BETWEEN again (the timer drifts, or began anew)
 *   any     --two readings contradict it, or we were idle for a period--> UNKNOWN
 *
 * Two small reads a period for some ten periods, then two in eight.  On sysmon, with the lock held.
 */
#include "client/client.h"
#include "core/sched.h"
#include "daemon/quota.h"

#define PHASE_NARROW_NS 400000u
#define PHASE_USABLE_NS 3000000u
#define PHASE_WIDEN_NS 400000u
#define PHASE_AGAIN 8u
#define PHASE_PERIOD_MIN_NS 20000000u

static struct {
  bool ready, known, middle; /* middle: the next reading is the one inside of the interval */
  struct quota_meter where;
  uint64_t period;
  uint64_t read_at, periods; /* the last reading */
  uint64_t lo, hi;           /* a boundary lies between */
  uint64_t next;
  uint32_t rest; /* periods to let pass */
} ph;

static void publish(void) {
  bool usable = ph.known && ph.hi - ph.lo <= PHASE_USABLE_NS;
  sched.period = usable ? ph.period : 0;
  sched.phase = usable ? ph.lo + (ph.hi - ph.lo) / 2 : 0;
}

void phase_forget(void) {
  ph.ready = ph.known = false;
  ph.read_at = ph.next = 0;
  publish();
}

static bool prepare(void) {
  const struct quota *q = standalone_quota();
  ph.ready = true;
  ph.period = q && q->limited ? q->period_us * 1000 : 0;
  if (ph.period < PHASE_PERIOD_MIN_NS) ph.period = 0;
  if (ph.period) quota_meter_domain(&ph.where, q);
  return ph.period != 0;
}

/* The interval, moved by whole periods so that it ends after `at`. */
static void move_past(uint64_t at) {
  if (ph.hi > at) return;
  uint64_t by = ((at - ph.hi) / ph.period + 1) * ph.period;
  ph.lo += by;
  ph.hi += by;
}

static void found_between(uint64_t lo, uint64_t hi) {
  if (ph.known) {
    move_past(lo);
    uint64_t a = ph.lo > lo ? ph.lo : lo, b = ph.hi < hi ? ph.hi : hi;
    if (a < b) {
      ph.lo = a;
      ph.hi = b;
      return;
    }
  }
  ph.known = true;
  ph.lo = lo;
  ph.hi = hi;
}

static void learn(uint64_t from, uint64_t now, uint64_t grew) {
  if (grew == 1) {
    found_between(from, now);
  } else if (grew == 0 && ph.known) {
    move_past(from);
    if (now >= ph.hi)
      ph.known = false;
    else if (now > ph.lo && from <= ph.lo)
      ph.lo = now;
  }
}

static uint64_t plan(uint64_t now) {
  if (!ph.known) return now + SCHED_FRAME_NS / 2;
  move_past(now);
  uint64_t at = ph.hi;
  if (ph.hi - ph.lo <= PHASE_NARROW_NS && ph.rest == 0) {
    ph.rest = PHASE_AGAIN;
    ph.lo -= PHASE_WIDEN_NS;
    ph.hi += PHASE_WIDEN_NS;
    at = ph.hi;
  }
  if (ph.rest) {
    uint64_t skip = (uint64_t)ph.rest * ph.period;
    ph.rest = 0;
    ph.middle = true;
    return at + skip - ph.period / 2; /* a reading before the boundary, then the middle */
  }
  if (ph.middle && now < ph.lo + (ph.hi - ph.lo) / 2) {
    ph.middle = false;
    return ph.lo + (ph.hi - ph.lo) / 2;
  }
  ph.middle = true;
  return ph.hi + 100000;
}

uint64_t phase_look(uint64_t now) {
  if (atomic_load_explicit(&sched.page->rate, memory_order_relaxed) == 0 || sched.nheld + sched.global.len == 0) return UINT64_MAX;
  if (!ph.ready && !prepare()) return UINT64_MAX;
  if (ph.period == 0) return UINT64_MAX;
  if (now < ph.next && ph.next - now < 20 * ph.period) return ph.next;
  struct quota_throttle t;
  if (quota_throttled(&ph.where, &quota_fs_host, &t) < 0) {
    ph.period = 0;
    publish();
    return UINT64_MAX;
  }
  uint64_t after = sched_hooks.now();
  if (ph.read_at && t.nr_periods >= ph.periods) learn(ph.read_at, after, t.nr_periods - ph.periods);
  ph.read_at = now;
  ph.periods = t.nr_periods;
  ph.next = plan(after);
  publish();
  return ph.next;
}
