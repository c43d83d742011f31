/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_WATCHDOG_H
#define RATION_DAEMON_WATCHDOG_H
/*
 * Feeds systemd's watchdog while the daemon has something to do, and switches it off while it has nothing: else the watchdog's own timer
 * would be the only one of an idle daemon.  What is lost is little: the event loop then sleeps in the kernel, and
 * whatever wakes it switches the watchdog on before it does anything that could hang.
 *
 *          watchdog_start           no event between two meals
 *   OFF -------------------> FED ------------------------------> RESTS   (WATCHDOG_USEC=0)
 *                             ^                                    |
 *                             '-----------watchdog_beat------------'     (WATCHDOG_USEC=the unit's)
 *
 * Where systemd does not tell it to be fed it stays OFF, and all of this does nothing.  The event loop's thread only.
 */
#include <event2/event.h>

/* Starts if the unit has a watchdog.  Once per process. */
void watchdog_start(struct event_base *base);
/* An event came: first in every handler but the watchdog's own, and that of the daemon's end. */
void watchdog_beat(void);
void watchdog_stop(void);

#endif
