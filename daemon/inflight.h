/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_INFLIGHT_H
#define RATION_DAEMON_INFLIGHT_H
/*
 * Descriptors that are on their way: sent, and not yet taken out of the socket by the peer.
 *
 * The kernel counts them against the sender, for all its sockets together, and at RLIMIT_NOFILE it refuses to
 * send any ("too many references").  So a peer that does not read must not get more of them: one frame with
 * descriptors a connection, and then none until all that was sent is read.  With max_clients a sixth of RLIMIT_NOFILE, and
 * three descriptors to a frame, others can always be served.
 *
 * Closing does not bring them back while the peer keeps its end open.  A connection that ends so lingers: it is hung up, but its
 * place is not free before its descriptors are.
 */
#include <stdbool.h>
#include "client.h"

/* A frame with descriptors was sent. */
void inflight_sent(struct client *c);
/* May some of them be unread? */
bool inflight_held(struct client *c);

void inflight_start(struct server *s);
/* Takes a client that is closed, and that nothing else knows, until its descriptors are read: then client_release() gets it. */
void inflight_linger(struct client *c);
void inflight_stop(struct server *s);

#endif
