/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_NETPOLL_H
#define RATION_CORE_NETPOLL_H
/* Parking a light G until a descriptor is ready; netpoll.c says how. */
#include <stdbool.h>
#include <stdint.h>

enum netpoll_dir { NETPOLL_READ, NETPOLL_WRITE };

/*
 * Parks the calling light G until fd may be read or written, somebody closes it, or `until` (CLOCK_MONOTONIC ns; UINT64_MAX: for ever).
 * 0: try again (may be early); -ETIMEDOUT; -EPERM: no such descriptor can be waited for (a regular file); other -errno of epoll_ctl.
 */
int netpoll_wait(int fd, enum netpoll_dir dir, uint64_t until);

/* What was known of fd is no longer true: it was just made (fresh), or is about to be closed. Waiters are woken. */
void netpoll_fresh(int fd);
void netpoll_forget(int fd);

/* A descriptor that our wrappers saw come into being, blocking and without timeouts, is `plain` until a wrapper sees that changed: no need to ask. */
void netpoll_set_plain(int fd);
void netpoll_changed(int fd);
bool netpoll_plain(int fd);

/*
 * A read from a TCP socket that got less than it asked for has emptied it; whatever comes later makes an edge.  So the next read need not try
 * before it waits.  set: after such a read; take: true once, if the poller knows the descriptor.
 */
void netpoll_set_drained(int fd);
bool netpoll_take_drained(int fd);

#endif
