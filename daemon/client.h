/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_CLIENT_H
#define RATION_DAEMON_CLIENT_H
/*
 * One connection: who the peer is, what it asked, its seat in a pool.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "server.h"

struct place;
struct pool;
struct watch_proc;

/* A request that is not answered yet: it is read, and none after it is. */
struct request {
  struct wire_frame f;
  int fd;                /* that came with it; -1: none */
  uint64_t unread_since; /* since when it waits for a peer that does not read; 0: it does not */
  uint32_t tries;
  struct event ev;
};

struct client {
  struct server *server;
  struct client *prev, *next;
  uint64_t id; /* never used twice */
  int fd, pidfd;
  pid_t pid; /* as this daemon sees it */
  uid_t uid; /* when it connected, by the kernel's word */
  struct event ev_read, ev_write, ev_death;
  bool doomed, writing, reading;
  bool spoke;    /* a frame has come */
  bool fds_sent; /* and they may be unread: inflight.h */
  struct request *waits;

  /* attached */
  struct pool *pool; /* null: not */
  struct place *place;
  uint32_t member, gen;
  struct watch_proc *watch;
  uint64_t since;
  char name[64];

  /* unasked messages that did not fit into the socket yet */
  bool owes_changed, owes_reattach;
  bool told_reattach;
  /* an answer of many frames under way */
  uint16_t stream_type; /* WIRE_PS, WIRE_PS_MORE or WIRE_POOL; 0: none */
  uint32_t stream_serial;
  uint64_t stream_last; /* id of the last one told */
};

/* Takes a fresh connection, or refuses it with a frame that says why. */
void client_accept(struct server *s, int fd);
/* Frees it and all that it held. */
void client_close(struct client *c);
/* The last of it, when nothing that was sent to it is on its way any more. */
void client_release(struct client *c);
/* The daemon stops: frees it, but leaves its seat in the page for the next daemon to take over. */
void client_abandon(struct client *c);
/* Closes it when the event loop comes round. */
void client_doom(struct client *c);
/* 0, or -errno: then the client is doomed. */
int client_send(struct client *c, struct wire_frame *f, uint16_t type, uint32_t serial, const int *fds, int nfds);
int client_error(struct client *c, uint32_t serial, int error, const char *fmt, ...) _printf_(4, 5);
/* Unasked messages. */
void client_tell_changed(struct client *c);
void client_tell_reattach(struct client *c);

/* query.c: answers to queries */
void query_quota(struct client *c, const struct wire_frame *f);
void query_stats(struct client *c, uint32_t serial);
/* The process that a GS_QUERY of this client is about; null: there is none, or it may not ask. */
struct client *query_gs_about(const struct client *c, const struct wire_frame *f);
/* Hands the descriptor on to the process that it is about. */
void query_gs(struct client *c, const struct wire_frame *f, int fd);
/* The next frame of an answer of many: the first after *id, which moves on.  False: there are no more. */
bool query_next_ps(const struct client *c, uint64_t *id, struct wire_ps *ps);
bool query_next_ps_more(const struct client *c, uint64_t *id, struct wire_ps_more *ps);
bool query_next_pool(const struct client *c, uint64_t *id, struct wire_pool *p);

#endif
