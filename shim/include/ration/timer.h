/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TIMER_H
#define RATION_TIMER_H
/*
 * Timers and tickers: those of Go's package time, as of Go 1.23.
 *
 *   struct ration_timer *t = ration_timer_new(RATION_SECOND);
 *   struct ration_case cases[] = {ration_case_recv(work, &w), ration_case_recv(ration_timer_chan(t), NULL)};
 *   if (ration_select(cases, 2, RATION_FOREVER) == 1) ...too late
 *   ration_timer_free(t);
 *
 * The time is CLOCK_MONOTONIC (ration_now).  Channels have room for one element: the time, a ration_ns, at which it was sent; a tick that finds it full
 * is dropped.  After stop or reset has returned no time of before can be received any more.
 * Functions of one timer may be called by any Gs and threads, several at once, but free.  None waits, none is async-signal-safe.
 * In the child of a fork none of its parent's ends by itself; it may be stopped, reset (then it ends as one of the child's own) and freed there.
 * Durations: 0 and less are over at once, RATION_FOREVER never.  What makes one returns NULL where there is no memory, or the scheduler could not be started.
 */
#include <stdbool.h>
#include "ration/chan.h"
#include "ration/g.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ration_timer;

/* Runs fn(arg) in a new light G after d.  If there is no memory for the G, it is tried again each ms.  Fatal: fn is null.  time.AfterFunc. */
RATION_API struct ration_timer *ration_after_func(ration_ns d, ration_fn *fn, void *arg);
/* Sends the time to its channel after d.  time.NewTimer. */
RATION_API struct ration_timer *ration_timer_new(ration_ns d);
/* Its channel; NULL: one of ration_after_func.  Valid as long as the timer; take a reference to keep it. */
RATION_API struct ration_chan *ration_timer_chan(struct ration_timer *t);
/* True: it was running (d was not RATION_FOREVER), or its time was not received yet, and will not be now.  Does not wait for a function that has been started.  Timer.Stop. */
RATION_API bool ration_timer_stop(struct ration_timer *t);
/* Lets it end after d from now, whether it runs or not.  Returns what stop would.  Timer.Reset. */
RATION_API bool ration_timer_reset(struct ration_timer *t, ration_ns d);
/* Stops it, and drops it with its reference to the channel.  A function that has been started runs on.  Null: nothing. */
RATION_API void ration_timer_free(struct ration_timer *t);

/*
 * A channel of its own that gets the time after d.  The caller drops the reference (ration_chan_unref), before or after.  time.After.
 */
RATION_API struct ration_chan *ration_after(ration_ns d);

struct ration_ticker;

/* Sends the time each d > 0; who is slow misses ticks.  NULL also: d <= 0, errno is EINVAL (there Go panics).  time.NewTicker. */
RATION_API struct ration_ticker *ration_ticker_new(ration_ns d);
/* Its channel.  Valid as long as the ticker; take a reference to keep it.  Ticker.C. */
RATION_API struct ration_chan *ration_ticker_chan(struct ration_ticker *t);
/* No more ticks.  Does not close the channel.  Ticker.Stop. */
RATION_API void ration_ticker_stop(struct ration_ticker *t);
/* The next tick is d from now, and so on; also after stop.  -EINVAL: d <= 0.  Ticker.Reset. */
RATION_API int ration_ticker_reset(struct ration_ticker *t, ration_ns d);
/* Stops it, and drops it with its reference to the channel.  Null: nothing. */
RATION_API void ration_ticker_free(struct ration_ticker *t);

#ifdef __cplusplus
}
#endif
#endif
