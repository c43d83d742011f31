/* SPDX-License-Identifier: Apache-2.0 */
/* watchdog.h says what this is. */
#include "watchdog.h"
#include <event2/event_struct.h>
#include <inttypes.h>
#include <stdbool.h>
#include <systemd/sd-daemon.h>

static struct {
  enum { WATCHDOG_OFF, WATCHDOG_FED, WATCHDOG_RESTS } state;
  bool beat; /* since the last meal */
  uint64_t usec;
  struct timeval every;
  struct event ev;
} watchdog;

static void be_fed(void) {
  watchdog.state = WATCHDOG_FED;
  event_add(&watchdog.ev, &watchdog.every);
}

static void on_time(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what, (void)arg;
  if (!watchdog.beat && sd_notify(0, "WATCHDOG_USEC=0") >= 0) {
    watchdog.state = WATCHDOG_RESTS;
    return;
  }
  sd_notify(0, "WATCHDOG=1");
  watchdog.beat = false;
  be_fed();
}

void watchdog_start(struct event_base *base) {
  if (sd_watchdog_enabled(1, &watchdog.usec) <= 0) return;
  watchdog.every = (struct timeval){.tv_sec = (time_t)(watchdog.usec / 2 / 1000000), .tv_usec = (suseconds_t)(watchdog.usec / 2 % 1000000)};
  event_assign(&watchdog.ev, base, -1, 0, on_time, NULL);
  watchdog.beat = true;
  be_fed();
}

void watchdog_beat(void) {
  watchdog.beat = true;
  if (watchdog.state != WATCHDOG_RESTS) return;
  /* Where it can't be told it is not fed either; the next event tries again. */
  if (sd_notifyf(0, "WATCHDOG_USEC=%" PRIu64, watchdog.usec) < 0) return;
  be_fed();
}

void watchdog_stop(void) {
  if (watchdog.state != WATCHDOG_OFF) event_del(&watchdog.ev);
  watchdog.state = WATCHDOG_OFF;
}
