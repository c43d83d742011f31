/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_WAKER_H
#define RATION_DAEMON_WAKER_H
/*
 * Sleeps on the owner bells of all pools that are idle, so that the event loop needn't poll them.
 *
 * A bell is a futex in shared memory, because a member must be able to ring
 * from threads that share no descriptor with us.  An event loop can't wait for
 * a futex; a thread can, for 127 of them at once (futex_waitv).
 */
#include <stdatomic.h>
#include <stdint.h>

struct waker;

int waker_open(struct waker **ret);
void waker_close(struct waker *w);
/* An eventfd, readable when a bell has rung. */
int waker_fd(const struct waker *w);
/*
 * Starts to wait until `bell` is no longer `value`.  It is waited for once: when it rang it must be
 * added again.  0 or -errno.
 */
int waker_add(struct waker *w, _Atomic uint32_t *bell, uint32_t value);
/* Stops waiting.  When this returns, the memory may be unmapped. */
void waker_remove(struct waker *w, _Atomic uint32_t *bell);

#endif
