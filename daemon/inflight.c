/* SPDX-License-Identifier: Apache-2.0 */
/* inflight.h says what this is. */
#include "inflight.h"
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "watchdog.h"

#define LOOK_FIRST_MS 10u /* a peer's own end is mostly gone by then */
#define LOOK_MOST_MS 5000u

void inflight_sent(struct client *c) { c->fds_sent = true; }

bool inflight_held(struct client *c) {
  int unread = 0;
  if (c->fds_sent && ioctl(c->fd, SIOCOUTQ, &unread) == 0 && unread == 0) c->fds_sent = false;
  return c->fds_sent;
}

static void look_later(struct server *s, uint32_t ms) {
  struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  s->linger_ms = ms;
  event_add(&s->ev_linger, &tv);
}

static void on_look(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct server *s = arg;
  for (struct client **at = &s->lingering, *c = *at; c; c = *at) {
    if (inflight_held(c)) {
      at = &c->next;
      continue;
    }
    *at = c->next;
    client_release(c);
  }
  if (s->lingering) look_later(s, UTIL_MIN(2 * s->linger_ms, LOOK_MOST_MS));
}

void inflight_start(struct server *s) { event_assign(&s->ev_linger, s->base, -1, 0, on_look, s); }

void inflight_linger(struct client *c) {
  struct server *s = c->server;
  shutdown(c->fd, SHUT_RDWR);
  c->next = s->lingering;
  s->lingering = c;
  if (!event_pending(&s->ev_linger, EV_TIMEOUT, NULL)) look_later(s, LOOK_FIRST_MS);
}

void inflight_stop(struct server *s) {
  event_del(&s->ev_linger);
  for (struct client *c = s->lingering, *next; c; c = next) {
    next = c->next;
    client_release(c);
  }
  s->lingering = NULL;
}
