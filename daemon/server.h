/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_SERVER_H
#define RATION_DAEMON_SERVER_H
/*
 * What all parts of a running daemon share.  There is one; all of it belongs to
 * the event loop's thread.
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include "config.h"
#include "proto/wire.h"
#include "waker.h"
#include "watch.h"

#ifndef RATION_VERSION
#define RATION_VERSION "unknown"
#endif

struct client;
struct domain;
struct pace;
struct uid_count;

/* M slots of maps that processes of a uid let go of since then. */
struct slots_left {
  uint64_t since, slots;
};
#define SERVER_SLOTS_LEFT 64

struct server_stats {
  uint64_t attaches, resumes, deaths, expropriations, malformed, refused, quota_changes, moves;
};

struct server {
  struct event_base *base;
  struct config config;
  struct client *clients, *clients_last; /* by id, ascending */
  uint32_t nclients, max_clients;        /* with those that linger */
  uint32_t max_per_uid, kept_for_root;   /* of max_clients */
  uint64_t next_id;
  struct uid_count *uids;
  struct pace *paces;       /* of processes that said HELLO lately */
  struct client *lingering; /* closed, with descriptors that the peer has not read: inflight.h */
  uint32_t linger_ms;
  struct domain *domains;
  uint32_t ndomains, npools;
  struct slots_left slots_left[SERVER_SLOTS_LEFT]; /* by uid, as many as there are; some may share one */
  struct watch *watch;                             /* null: no BPF */
  char bpf_error[200];
  struct waker *waker;
  struct server_stats stats;
  uint64_t started;
  struct log_limit limit_malformed, limit_refused, limit_attach;

  int listen_fd;
  bool listen_ours; /* we made the socket file, we remove it */
  struct event ev_listen, ev_listen_again, ev_waker, ev_tick, ev_slow, ev_inotify, ev_pressure, ev_linger;
  int inotify_fd, pressure_fd, pressure_epoll;
  bool ticking;
  uint64_t last_tick;
  uint32_t slow_turn;
  uint32_t contended; /* ticks for which the weighted domains have wanted more than the host has, or not: see domain.c */
  bool weights_apply;
  bool stopping, pressure_failed;
};

#endif
