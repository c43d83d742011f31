/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_DIVIDE_H
#define RATION_DAEMON_DIVIDE_H
/*
 * Divides CPUs among the pools that are awake.  See divide.c.
 */
#include <stdint.h>

struct server;

/* Divides anew and writes the owner blocks that change. */
void divide(struct server *s, uint64_t now);
/* Watches for pressure on the host's CPUs while there are two domains for which weights matter. */
void divide_watch_pressure(struct server *s);

#endif
