/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the kernel's CFS period begins.
 *
 * The kernel gives a cgroup its quota anew every period and saves nothing.  Who knows the moment can
 * use the quota to the last ms of each period without ever being throttled; who doesn't must leave what the unevenness of two
 * neighbouring frames may add up to.  No file says when it is, but nr_periods in cpu.stat grows at that moment:
 *
 *   UNKNOWN --nr_periods grew by one between two readings--> BETWEEN lo and hi
 *   BETWEEN --readings in a row from lo to hi, a quarter apart, until it grows--> a quarter as wide, until NARROW
 *   NARROW  --after 8 periods, later up to 32: widened a little, BETWEEN again
 *   any     --contradicted PHASE_DOUBTS times in a row--> UNKNOWN
 *
 * The period is that of a timer which the kernel always forwards by whole periods, so the phase is a constant as long as the cgroup lives
 * and its period is not changed.  But the timer's callback, which is what we see, comes late when its CPU was asleep or stolen by the
 * hypervisor.  So a reading that says "later" is as a rule a late callback, not a new phase: it takes several of them to be believed, and
 * until there is better news the old phase is the one that counts.
 *
 * About four small reads a period for some three periods, then four in eight, later in 32.  On sysmon, with the lock held.
 */
#include "client/client.h"
#include "core/sched.h"
#include "daemon/quota.h"

#define PHASE_NARROW_NS 400000u
#define PHASE_USABLE_NS 3000000u
#define PHASE_WIDEN_NS 400000u
#define PHASE_BEFORE_NS 100000u /* a reading so long before lo, to count from */
#define PHASE_THROTTLED_NS 500000u
#define PHASE_SEARCH_NS 5000000u
#define PHASE_AGAIN 8u
#define PHASE_AGAIN_MAX 32u
#define PHASE_DOUBTS 4u
#define PHASE_PERIOD_MIN_NS 20000000u

static struct {
  bool ready, known;
  struct quota_meter where;
  uint64_t period;
  uint64_t read_at, periods, throttled; /* the last reading */
  uint64_t lo, hi;                      /* a boundary lies between */
  uint64_t was_lo;                      /* lo before the readings of this period moved it */
  uint64_t next;
  uint32_t doubts;
  uint32_t again; /* periods until the next look at one, more each time that it is confirmed */
} ph;

static void publish(void) {
  if (!ph.known || ph.hi - ph.lo > PHASE_USABLE_NS) return; /* what was known before stays */
  sched.period = ph.period;
  sched.phase = (ph.lo + (ph.hi - ph.lo) / 2) % ph.period; /* one of long ago: it must not lie ahead of now */
}

void phase_forget(void) {
  ph.ready = ph.known = false;
  ph.read_at = ph.next = 0;
  ph.doubts = 0;
  ph.again = PHASE_AGAIN;
  sched.period = sched.phase = 0;
}

static void set_between(uint64_t lo, uint64_t hi) {
  ph.known = true;
  ph.lo = ph.was_lo = lo;
  ph.hi = hi;
}

/* The interval, moved by whole periods so that it ends after `at`. */
static void move_past(uint64_t at) {
  if (ph.hi > at) return;
  uint64_t by = ((at - ph.hi) / ph.period + 1) * ph.period;
  set_between(ph.was_lo + by, ph.hi + by);
}

static void doubt(void) {
  ph.lo = ph.was_lo;
  ph.again = PHASE_AGAIN;
  if (++ph.doubts >= PHASE_DOUBTS) ph.known = false, ph.doubts = 0;
}

/* It grew between lo and hi.  Ours is moved by whole periods to where the two are closest. */
static void found_between(uint64_t lo, uint64_t hi) {
  if (!ph.known) {
    set_between(lo, hi);
    return;
  }
  move_past(hi);
  if (ph.lo >= hi && ph.lo - hi > ph.period / 2) ph.lo -= ph.period, ph.was_lo -= ph.period, ph.hi -= ph.period;
  uint64_t a = ph.lo > lo ? ph.lo : lo, b = ph.hi < hi ? ph.hi : hi;
  if (a < b)
    set_between(a, b);
  else if (hi <= ph.lo) /* earlier than we thought: then we had seen late ones only */
    set_between(lo, hi);
  else {
    doubt();
    return;
  }
  ph.doubts = 0;
}

/*
 * We were all stopped (sysmon too), and are let go at the beginning of a period: this is it, give or take the time to wake up.  A process
 * that does not know the phase yet may find nothing else to go by: throttled in each period, it is never there to see one end.
 */
static void learn_from_throttle(uint64_t now) { found_between(now - PHASE_THROTTLED_NS, now); }

/* Two readings: nr_periods grew by so many after `from` and before `now`. */
static void learn(uint64_t from, uint64_t now, uint64_t grew) {
  if (grew == 1 && now - from < ph.period) {
    found_between(from, now);
  } else if (grew == 0 && ph.known && from <= ph.lo) {
    if (now >= ph.hi)
      doubt();
    else if (now > ph.lo)
      ph.lo = now;
  }
}

static uint64_t plan(uint64_t now) {
  if (!ph.known) return now + PHASE_SEARCH_NS;
  move_past(now);
  uint64_t width = ph.hi - ph.was_lo;
  if (width <= PHASE_NARROW_NS) {
    uint64_t skip = ph.again * ph.period;
    if (ph.again < PHASE_AGAIN_MAX) ph.again += PHASE_AGAIN;
    set_between(ph.lo + skip - PHASE_WIDEN_NS, ph.hi + skip + PHASE_WIDEN_NS);
  }
  if (now < ph.lo - PHASE_BEFORE_NS) return ph.lo - PHASE_BEFORE_NS;
  uint64_t step = width / 4 > PHASE_NARROW_NS / 2 ? width / 4 : PHASE_NARROW_NS / 2;
  uint64_t at = (now > ph.lo ? now : ph.lo) + step;
  return at < ph.hi ? at : ph.hi + PHASE_BEFORE_NS;
}

/* A reading that was made between `before` and `after`.  Returns when to make the next one. */
uint64_t phase_seen(uint64_t before, uint64_t after, uint64_t periods, uint64_t throttled) {
  bool let_go = ph.read_at && sched.overslept >= SCHED_OVERSLEPT_NS && throttled > ph.throttled && periods > ph.periods;
  if (let_go)
    learn_from_throttle(before);
  else if (ph.read_at && periods >= ph.periods)
    learn(ph.read_at, after, periods - ph.periods);
  ph.read_at = before;
  ph.periods = periods;
  ph.throttled = throttled;
  ph.next = plan(after);
  publish();
  return ph.next;
}

void phase_begin(uint64_t period_ns) {
  phase_forget();
  ph.ready = true;
  ph.period = period_ns >= PHASE_PERIOD_MIN_NS ? period_ns : 0;
}

static void prepare(void) {
  const struct quota *q = standalone_quota();
  phase_begin(q && q->limited ? q->period_us * 1000 : 0);
  if (ph.period) quota_meter_domain(&ph.where, q);
}

uint64_t phase_look(uint64_t now) {
  if (atomic_load_explicit(&sched.page->rate, memory_order_relaxed) == 0 || sched.nheld + sched.global.len == 0) return UINT64_MAX;
  if (!ph.ready) prepare();
  if (ph.period == 0) return UINT64_MAX;
  if (now < ph.next && ph.next - now < 2 * PHASE_AGAIN_MAX * ph.period) return ph.next;
  struct quota_throttle t;
  if (quota_throttled(&ph.where, &quota_fs_host, &t) < 0) {
    ph.period = 0;
    sched.period = sched.phase = 0;
    return UINT64_MAX;
  }
  return phase_seen(now, sched_hooks.now(), t.nr_periods, t.nr_throttled);
}
