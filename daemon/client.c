/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection.
 *
 *   accepted -> (queries) -> attached -> (queries, REGISTER_M, HELLO again) -> gone
 *
 * Gone is the end of the stream, the death of the process (its pidfd; a
 * descendant may have inherited the socket), a malformed frame, or a peer that does not
 * read its answers.  Whatever the way, client_close() gives back all it had.
 *
 * Nothing here waits: sockets don't block, an answer that does not fit dooms
 * the client, the long answers (PS, POOL) go on when there is room, and no request is read meanwhile.
 *
 * Identity.  The uid is the one that the kernel noted at connect.  A process may
 * become another uid and say HELLO again; that is believed only of a peer that was root. From anyone
 * else it would be a way to get at the pages of a setuid program that inherited the socket.
 */
#include "client.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <uthash.h>
#include "domain.h"
#include "inflight.h"
#include "pace.h"
#include "pool.h"
#include "proto/m_slot.h"
#include "watchdog.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define CLIENT_FRAMES_A_TURN 16
#define CLIENT_SILENT_S 10u               /* who says nothing for so long has no use for its place */
#define CLIENT_UNREAD_NS (2 * NS_PER_SEC) /* then a request that waits for somebody to read gets an error; `ration` waits 3 s */

struct uid_count {
  uid_t uid;
  uint32_t n;
  uint32_t m_slots; /* in the M maps of its clients */
  UT_hash_handle hh;
};

/* ---- how many of a uid ---- */

/* How many root may have: what is kept for it comes on top, unless the configuration says less. */
static uint32_t uid_count_most(const struct server *s, uid_t uid) {
  return uid ? s->max_per_uid : UTIL_MIN(s->max_per_uid + s->kept_for_root, s->config.max_clients_per_uid);
}

static int uid_count_add(struct server *s, uid_t uid) {
  struct uid_count *u;
  HASH_FIND(hh, s->uids, &uid, sizeof(uid), u);
  if (!u) {
    u = calloc(1, sizeof(*u));
    if (!u) return -ENOMEM;
    u->uid = uid;
    HASH_ADD(hh, s->uids, uid, sizeof(uid), u);
  }
  if (u->n >= uid_count_most(s, uid)) return -EUSERS;
  u->n++;
  return 0;
}

static void uid_count_sub(struct server *s, uid_t uid) {
  struct uid_count *u;
  HASH_FIND(hh, s->uids, &uid, sizeof(uid), u);
  if (!u || --u->n > 0) return;
  HASH_DEL(s->uids, u);
  free(u);
}

/* Those of this client's uid: it is there as long as one of its clients is. */
static struct uid_count *uid_count_of(const struct client *c) {
  struct uid_count *u;
  HASH_FIND(hh, c->server->uids, &c->uid, sizeof(c->uid), u);
  return u;
}

/* ---- sending ---- */

void client_doom(struct client *c) {
  if (c->doomed) return;
  c->doomed = true;
  event_active(&c->ev_read, EV_READ, 0); /* client_on_read closes it */
}

int client_send(struct client *c, struct wire_frame *f, uint16_t type, uint32_t serial, const int *fds, int nfds) {
  if (c->doomed) return -EPIPE;
  inflight_held(c); /* the last moment to see that earlier ones were read */
  wire_seal(f, type, serial);
  int r = wire_send(c->fd, f, fds, nfds);
  if (r == 0 && nfds > 0) inflight_sent(c);
  if (r == 0) return 0;
  if (r != -EPIPE && r != -ECONNRESET && log_allowed(&c->server->limit_malformed))
    log_line(LOG_LEVEL_WARNING, "pid %d: cannot send %s: %s; closing", c->pid, wire_type_name(type), strerror(-r));
  client_doom(c);
  return r;
}

int client_error(struct client *c, uint32_t serial, int error, const char *fmt, ...) {
  struct wire_frame f = {.u.error.error = error};
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(f.u.error.text, sizeof(f.u.error.text), fmt, ap);
  va_end(ap);
  return client_send(c, &f, WIRE_ERROR, serial, NULL, 0);
}

static void client_want_write(struct client *c) {
  if (c->writing || c->doomed) return;
  c->writing = true;
  event_add(&c->ev_write, NULL);
}

/* True when told or impossible for good; false: no room now. */
static bool client_try_tell(struct client *c, uint16_t type) {
  struct wire_frame f = {0};
  wire_seal(&f, type, 0);
  inflight_held(c);
  int r = wire_send(c->fd, &f, NULL, 0);
  if (r == -EAGAIN) return false;
  if (r < 0) client_doom(c);
  return true;
}

void client_tell_changed(struct client *c) {
  if (c->doomed || c->owes_changed || c->since == 0) return;
  c->owes_changed = !client_try_tell(c, WIRE_CHANGED);
  if (c->owes_changed) client_want_write(c);
}

void client_tell_reattach(struct client *c) {
  if (c->doomed || c->told_reattach) return;
  c->told_reattach = true;
  c->owes_reattach = !client_try_tell(c, WIRE_REATTACH);
  if (c->owes_reattach) client_want_write(c);
}

/* Sends frames of a long answer until it is complete (true) or the socket is full (false). */
static bool client_stream(struct client *c) {
  while (c->stream_type && !c->doomed) {
    struct wire_frame f = {0};
    uint64_t id = c->stream_last;
    bool more = c->stream_type == WIRE_PS        ? query_next_ps(c, &id, &f.u.ps)
                : c->stream_type == WIRE_PS_MORE ? query_next_ps_more(c, &id, &f.u.ps_more)
                                                 : query_next_pool(c, &id, &f.u.pool);
    wire_seal(&f, more ? c->stream_type : WIRE_END, c->stream_serial);
    int r = wire_send(c->fd, &f, NULL, 0);
    if (r == -EAGAIN) return false;
    if (r < 0) client_doom(c);
    c->stream_last = id;
    if (!more) c->stream_type = 0;
  }
  return true;
}

static void client_want_read(struct client *c, bool wanted) {
  if (c->reading == wanted) return;
  c->reading = wanted;
  if (wanted)
    event_add(&c->ev_read, NULL);
  else
    event_del(&c->ev_read);
}

static void client_start_stream(struct client *c, uint16_t type, uint32_t serial) {
  c->stream_type = type;
  c->stream_serial = serial;
  c->stream_last = 0;
  if (client_stream(c)) return;
  client_want_read(c, false); /* one question at a time */
  client_want_write(c);
}

static void client_on_write(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct client *c = arg;
  c->writing = false;
  if (c->doomed) return;
  if (c->owes_changed) c->owes_changed = !client_try_tell(c, WIRE_CHANGED);
  if (c->owes_reattach) c->owes_reattach = !client_try_tell(c, WIRE_REATTACH);
  bool done = client_stream(c);
  if (c->owes_changed || c->owes_reattach || !done) client_want_write(c);
  if (done && !c->waits && !c->doomed) client_want_read(c, true);
}

/* ---- the kernel's memory for it ---- */

/* M slots of a uid's processes, in maps of the kernel's; root has no such limit.  Some 60 MB. */
#define CLIENT_M_SLOTS_A_UID (1024u * M_SLOTS_DEFAULT)
#define CLIENT_SLOTS_LEFT_NS (250 * NS_PER_MS)

/* Maps that are let go are the kernel's for a while more (watch.c), so what a uid let go of lately counts as well. */
static uint64_t *client_slots_left(const struct client *c) {
  struct slots_left *l = &c->server->slots_left[c->uid % SERVER_SLOTS_LEFT];
  uint64_t now = now_ns();
  if (now - l->since >= CLIENT_SLOTS_LEFT_NS) *l = (struct slots_left){.since = now};
  return &l->slots;
}

static void client_unwatch(struct client *c) {
  if (!c->watch) return;
  uint32_t slots = watch_proc_slots(c->watch);
  uid_count_of(c)->m_slots -= slots;
  *client_slots_left(c) += slots;
  watch_detach(c->watch);
  c->watch = NULL;
}

/* ---- attaching ---- */

static void client_detach(struct client *c) {
  client_unwatch(c);
  c->since = 0;
  struct pool *p = c->pool;
  c->pool = NULL;
  if (p) {
    pool_leave(p, c->member);
    if (p->nmembers == 0)
      domain_drop_pool(p);
    else
      pool_wake(p); /* what it had is divided anew */
  }
  place_put(c->place);
  c->place = NULL;
}

/* The effective uid that the process has now. */
static int client_uid_now(pid_t pid, uid_t *uid) {
  char path[48], buf[4096];
  snprintf(path, sizeof(path), "/proc/%d/status", pid);
  _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t n = read(fd, buf, sizeof(buf) - 1);
  if (n <= 0) return -EIO;
  buf[n] = 0;
  const char *line = strstr(buf, "\nUid:");
  unsigned real, effective;
  if (!line || sscanf(line + 5, "%u %u", &real, &effective) != 2) return -EIO;
  *uid = effective;
  return 0;
}

/* See the top of the file. */
static int client_attach_uid(const struct client *c, uid_t *uid) {
  int r = client_uid_now(c->pid, uid);
  if (r < 0) { /* dead, or /proc is mounted with hidepid: the kernel's word from the time of connect stands */
    *uid = c->uid;
    return 0;
  }
  return *uid == c->uid || c->uid == 0 ? 0 : -EPERM;
}

/* Seats the client in the pool that its old page belongs to.  1: in its old seat, 0: in a new one, -errno: not this page. */
static int client_resume(struct client *c, const struct wire_hello *h, uid_t uid, uint32_t allowed, int *page_fd) {
  struct stat st;
  if (*page_fd < 0 || fstat(*page_fd, &st) < 0) return -EBADF;
  struct pool *p = domains_find_page(c->server, st.st_dev, st.st_ino);
  if (p && (p->domain != c->place->domain || p->uid != uid || p->allowed != allowed)) return -EACCES;
  if (!p) {
    if (!domain_may_adopt(c->place->domain, uid, allowed)) return -EUSERS;
    int r = pool_adopt(&p, uid, *page_fd, now_ns());
    if (r < 0) return r;
    *page_fd = -1;
    p->adopted = true;
    domain_add_pool(c->place->domain, p, allowed);
    p->awake = true; /* it was never handed to the waker */
  }
  int r = pool_rejoin(p, c, (uint32_t)c->pid, h->member, h->gen);
  if (r == 0) {
    c->member = h->member;
    c->gen = h->gen;
    c->pool = p;
    return 1;
  }
  r = pool_join(p, c, (uint32_t)c->pid, &c->member, &c->gen);
  if (r == 0) c->pool = p;
  if (r < 0 && p->nmembers == 0) domain_drop_pool(p);
  return r;
}

static int client_seat(struct client *c, uid_t uid, uint32_t allowed) {
  struct pool *p;
  int r = domain_pool(c->place->domain, uid, allowed, &p);
  if (r < 0) return r;
  r = pool_join(p, c, (uint32_t)c->pid, &c->member, &c->gen);
  if (r == 0) c->pool = p;
  return r;
}

/*
 * The kernel watches a process for one of its connections, the newest: its threads change over to that one anyway, and who has connected again
 * may be here before its old connection is seen to be gone.  Earlier ones' marks would be dead, and their maps a way to any amount of memory.
 */
static void client_unwatch_earlier(const struct client *c) {
  for (struct client *o = c->server->clients; o; o = o->next) {
    if (o != c && o->pid == c->pid) client_unwatch(o);
  }
}

static bool client_may_have_slots(const struct client *c, uint32_t want) {
  want = UTIL_MAX(UTIL_MIN(want, M_SLOTS_MAX), M_SLOTS_MIN);
  if (c->uid == 0 || uid_count_of(c)->m_slots + *client_slots_left(c) + want <= CLIENT_M_SLOTS_A_UID) return true;
  if (log_allowed(&c->server->limit_attach))
    log_line(LOG_LEVEL_WARNING, "pid %d: no BPF for it: uid %u has as many M slots as it may; it polls", c->pid, c->uid);
  return false;
}

static void client_watch(struct client *c, const struct wire_hello *h, struct wire_welcome *w, int *map_fd, int *ring_fd) {
  struct server *s = c->server;
  if (!s->watch || h->flags & (WIRE_HELLO_NO_BPF | WIRE_HELLO_OFF)) return;
  client_unwatch_earlier(c);
  if (!client_may_have_slots(c, h->m_slots)) return;
  uint32_t ring_size;
  const struct watch_peer who = {.pid = c->pid, .pidfd = c->pidfd, .uid = c->uid};
  int r = watch_attach(s->watch, &who, h->m_slots, map_fd, ring_fd, &ring_size, &c->watch);
  if (r < 0) {
    c->watch = NULL;
    if (log_allowed(&s->limit_attach)) log_line(LOG_LEVEL_WARNING, "pid %d: no BPF for it: %s; it polls", c->pid, strerror(-r));
    return;
  }
  uid_count_of(c)->m_slots += watch_proc_slots(c->watch);
  w->flags |= WIRE_WELCOME_BPF;
  w->m_slots = watch_proc_slots(c->watch);
  w->ring_size = ring_size;
}

/* For display, until the member says it better. */
static void client_describe(const struct client *c, const struct wire_hello *h) {
  struct pool_member *m = &c->pool->page->members[c->member];
  atomic_store_explicit(&m->rung, c->watch ? POOL_RUNG_BPF : POOL_RUNG_POLLING, memory_order_relaxed);
  uint32_t mode = h->flags & WIRE_HELLO_OFF ? POOL_MEMBER_OFF : h->flags & WIRE_HELLO_FREE ? POOL_MEMBER_FREE : POOL_MEMBER_LOCKED;
  atomic_store_explicit(&m->flags, mode, memory_order_relaxed);
}

static void client_welcome(struct client *c, const struct wire_frame *f, bool resumed) {
  struct wire_frame out = {0};
  struct wire_welcome *w = &out.u.welcome;
  int fds[WIRE_FDS_MAX], n = 0, map_fd = -1, ring_fd = -1;
  w->flags = resumed ? WIRE_WELCOME_RESUMED : 0;
  w->member = c->member;
  w->gen = c->gen;
  w->page_size = POOL_PAGE_SIZE;
  snprintf(w->daemon_version, sizeof(w->daemon_version), "%s", RATION_VERSION);
  client_watch(c, &f->u.hello, w, &map_fd, &ring_fd);
  client_describe(c, &f->u.hello);
  if (!resumed) fds[n++] = c->pool->fd;
  if (w->flags & WIRE_WELCOME_BPF) {
    fds[n++] = map_fd;
    fds[n++] = ring_fd;
  }
  client_send(c, &out, WIRE_WELCOME, f->hdr.serial, fds, n);
}

static int client_attach(struct client *c, const struct wire_hello *h, int *page_fd, bool *resumed) {
  uid_t uid = (uid_t)-1;
  uint32_t allowed = 1;
  int r = client_attach_uid(c, &uid);
  if (r < 0) return r;
  r = place_get(c->server, c->pid, &c->place, &allowed);
  if (r < 0) return r;
  r = h->flags & WIRE_HELLO_RESUME ? client_resume(c, h, uid, allowed, page_fd) : -ENOENT;
  *resumed = r == 1;
  return r < 0 ? client_seat(c, uid, allowed) : 0;
}

/* It has had its time to read what it was sent, and wants more descriptors. */
static void client_unread(struct client *c, uint32_t serial) {
  if (log_allowed(&c->server->limit_malformed))
    log_line(LOG_LEVEL_WARNING, "pid %d uid %u: does not read the descriptors that it is sent, and asks for more; closing", c->pid, c->uid);
  client_error(c, serial, EBUSY, "read what you were sent before you say HELLO again");
  client_doom(c);
}

static void client_on_hello(struct client *c, const struct wire_frame *f, int *page_fd) {
  struct server *s = c->server;
  const struct wire_hello *h = &f->u.hello;
  bool resumed = false;
  if (inflight_held(c)) {
    client_unread(c, f->hdr.serial);
    return;
  }
  client_detach(c);
  int r = client_attach(c, h, page_fd, &resumed);
  if (r < 0) {
    client_detach(c);
    s->stats.refused++;
    client_error(c, f->hdr.serial, -r, r == -EPERM ? "this process has become another user: connect again" : "cannot attach: %s",
                 strerror(-r));
    return;
  }
  snprintf(c->name, sizeof(c->name), "%s", h->name);
  c->told_reattach = c->owes_reattach = c->owes_changed = false;
  s->stats.attaches++;
  s->stats.resumes += resumed;
  pool_wake(c->pool);
  domain_apply(c->pool->domain);
  client_welcome(c, f, resumed);
  c->since = now_ns(); /* from now on it is told of changes */
  log_line(LOG_LEVEL_DEBUG, "pid %d (%s) uid %u: %s %s, member %u, %s", c->pid, c->name, c->pool->uid, resumed ? "back in" : "attached to",
           c->pool->domain->key, c->member, c->watch ? "bpf" : "polling");
}

static uint64_t client_cpu_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void client_on_paced_hello(struct client *c, const struct wire_frame *f, int *page_fd) {
  uint64_t begun = client_cpu_ns();
  client_on_hello(c, f, page_fd);
  pace_charge(&c->server->paces, c->pid, client_cpu_ns() - begun, now_ns());
}

static void client_on_register(struct client *c, const struct wire_frame *f, int fd, bool add) {
  struct wire_frame out = {0};
  int r;
  if (fd < 0)
    r = -EBADF;
  else if (!c->watch)
    r = -ENOTCONN;
  else
    r = add ? watch_register_m(c->watch, fd, f->u.register_m.slot) : watch_unregister_m(c->watch, fd);
  if (r == 0)
    client_send(c, &out, WIRE_OK, f->hdr.serial, NULL, 0);
  else
    client_error(c, f->hdr.serial, -r,
                 r == -ENOTCONN ? "no BPF for this process"
                 : r == -EBADF  ? "needs a thread pidfd"
                                : "%s",
                 strerror(-r));
}

/* ---- one request ---- */

static void client_malformed(struct client *c, int error, const char *why) {
  struct server *s = c->server;
  s->stats.malformed++;
  if (log_allowed(&s->limit_malformed)) log_line(LOG_LEVEL_WARNING, "pid %d uid %u: malformed frame: %s; closing", c->pid, c->uid, why);
  /* A client of another version deserves to be told. */
  client_error(c, 0, -error, "%s (this is rationd %s, protocol %u)", why, RATION_VERSION, WIRE_VERSION);
}

static void client_dispatch(struct client *c, const struct wire_frame *f, int *fd) {
  switch (f->hdr.type) {
    case WIRE_HELLO:
      client_on_paced_hello(c, f, fd);
      break;
    case WIRE_REGISTER_M:
      client_on_register(c, f, *fd, true);
      break;
    case WIRE_UNREGISTER_M:
      client_on_register(c, f, *fd, false);
      break;
    case WIRE_QUOTA_QUERY:
      query_quota(c, f);
      break;
    case WIRE_GS_QUERY:
      query_gs(c, f, *fd);
      break;
    case WIRE_STATS_QUERY:
      query_stats(c, f->hdr.serial);
      break;
    case WIRE_POOL_QUERY:
      client_start_stream(c, WIRE_POOL, f->hdr.serial);
      break;
    case WIRE_PS_QUERY:
      client_start_stream(c, WIRE_PS, f->hdr.serial);
      break;
    case WIRE_PS_MORE_QUERY:
      client_start_stream(c, WIRE_PS_MORE, f->hdr.serial);
      break;
    default:
      client_malformed(c, -EPROTO, "a type that only a daemon sends");
      client_doom(c);
  }
}

/* ---- requests that wait ---- */

/* Is it for somebody who has not read the descriptors that were sent before? */
static bool client_must_be_read(struct client *c, const struct wire_frame *f) {
  struct client *o = f->hdr.type == WIRE_HELLO ? c : f->hdr.type == WIRE_GS_QUERY ? query_gs_about(c, f) : NULL;
  return o && inflight_held(o);
}

/* How long this request has to wait yet; 0: it is its turn, be it for an error.  `first`: it was read just now. */
static uint64_t client_delay(struct client *c, struct request *q, bool first) {
  uint64_t now = now_ns();
  if (q->f.hdr.type == WIRE_HELLO && !q->unread_since) {
    struct pace **all = &c->server->paces;
    uint64_t at = first ? pace_when(all, c->pid, now) : pace_turn(all, c->pid, now);
    if (at > now) return at - now;
  }
  if (!client_must_be_read(c, &q->f)) return 0;
  if (!q->unread_since) q->unread_since = now;
  if (now - q->unread_since >= CLIENT_UNREAD_NS) return 0;
  uint32_t tries = q->tries++;
  return NS_PER_MS << UTIL_MIN(tries, 9u);
}

static void request_free(struct request *q) {
  if (!q) return;
  event_del(&q->ev);
  if (q->fd >= 0) close(q->fd);
  free(q);
}

static void request_again_in(struct request *q, uint64_t ns) {
  uint64_t us = ns / NS_PER_US + 1;
  struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
  event_add(&q->ev, &tv);
}

static void client_on_turn(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct client *c = arg;
  struct request *q = c->waits;
  uint64_t ns = c->doomed ? 0 : client_delay(c, q, false);
  if (ns) {
    request_again_in(q, ns);
    return;
  }
  c->waits = NULL;
  if (!c->doomed) client_dispatch(c, &q->f, &q->fd);
  request_free(q);
  if (!c->doomed) client_want_read(c, true);
}

static void client_let_wait(struct client *c, struct request *q, uint64_t ns) {
  struct request *w = malloc(sizeof(*w));
  if (!w) {
    client_error(c, q->f.hdr.serial, ENOMEM, "%s", strerror(ENOMEM));
    return;
  }
  *w = *q;
  q->fd = -1;
  c->waits = w;
  event_assign(&w->ev, c->server->base, -1, 0, client_on_turn, c);
  client_want_read(c, false);
  request_again_in(w, ns);
}

static void client_on_request(struct client *c, struct request *q) {
  uint64_t ns = client_delay(c, q, true);
  if (ns)
    client_let_wait(c, q, ns);
  else
    client_dispatch(c, &q->f, &q->fd);
}

/* ---- receiving ---- */

/* It has a place, and does nothing with it. */
static void client_silent(struct client *c) {
  if (log_allowed(&c->server->limit_refused))
    log_line(LOG_LEVEL_WARNING, "pid %d uid %u: connected and said nothing; closing", c->pid, c->uid);
  client_error(c, 0, ETIMEDOUT, "say something within %u s", CLIENT_SILENT_S);
  client_close(c);
}

static void client_spoke(struct client *c) {
  if (c->spoke) return;
  c->spoke = true;
  event_remove_timer(&c->ev_read);
}

static void client_on_read(evutil_socket_t fd, short what, void *arg) {
  watchdog_beat();
  struct client *c = arg;
  if (what == EV_TIMEOUT) {
    client_silent(c);
    return;
  }
  for (int i = 0; i < CLIENT_FRAMES_A_TURN && !c->doomed && c->reading; i++) {
    struct request q = {.fd = -1};
    const char *why;
    int fds[WIRE_FDS_MAX], n;
    int r = wire_recv(fd, &q.f, fds, &n, &why);
    if (r == -EAGAIN) return;
    if (r < 0) {
      if (r == -EPROTO || r == -EPROTONOSUPPORT || r == -EOPNOTSUPP) client_malformed(c, r, why);
      client_close(c);
      return;
    }
    client_spoke(c);
    if (n > 0) q.fd = fds[0];
    client_on_request(c, &q);
    if (q.fd >= 0) close(q.fd);
    for (int k = 1; k < n; k++) close(fds[k]);
    if (q.f.hdr.type == WIRE_HELLO) break; /* the dearest: one a turn */
  }
  if (c->doomed) client_close(c);
}

/* ---- life ---- */

static void client_on_death(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct client *c = arg;
  c->server->stats.deaths++;
  client_close(c);
}

static void client_unlink(struct client *c) {
  struct server *s = c->server;
  if (c->prev)
    c->prev->next = c->next;
  else
    s->clients = c->next;
  if (c->next)
    c->next->prev = c->prev;
  else
    s->clients_last = c->prev;
}

void client_release(struct client *c) {
  c->server->nclients--;
  uid_count_sub(c->server, c->uid);
  close(c->fd);
  free(c);
}

/* All but the socket, and the place that it takes. */
static void client_free(struct client *c) {
  event_del(&c->ev_read);
  event_del(&c->ev_write);
  request_free(c->waits);
  if (c->pidfd >= 0) {
    event_del(&c->ev_death);
    close(c->pidfd);
  }
  client_unlink(c);
}

void client_close(struct client *c) {
  c->doomed = true;
  client_detach(c);
  client_free(c);
  if (inflight_held(c))
    inflight_linger(c);
  else
    client_release(c);
}

void client_abandon(struct client *c) {
  client_unwatch(c);
  client_free(c);
  client_release(c);
}

/* A pidfd that surely is the peer's: either the kernel's own word, or opened while the peer was still connected. */
static int client_pidfd(int fd, pid_t pid) {
  int pidfd;
  socklen_t len = sizeof(pidfd);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0) return pidfd;
  pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (pidfd < 0) return -errno;
  struct pollfd p = {.fd = fd, .events = POLLIN};
  if (poll(&p, 1, 0) >= 0 && !(p.revents & (POLLHUP | POLLERR))) return pidfd;
  close(pidfd);
  return -ESRCH;
}

static void client_refuse(struct server *s, int fd, int error, const char *text) {
  struct wire_frame f = {.u.error.error = error};
  snprintf(f.u.error.text, sizeof(f.u.error.text), "%s", text);
  wire_seal(&f, WIRE_ERROR, 0);
  (void)wire_send(fd, &f, NULL, 0); /* it is refused either way */
  close(fd);
  s->stats.refused++;
}

static void client_link(struct server *s, struct client *c) {
  c->id = ++s->next_id;
  c->prev = s->clients_last;
  if (c->prev)
    c->prev->next = c;
  else
    s->clients = c;
  s->clients_last = c;
  s->nclients++;
}

static void client_begin(struct server *s, struct client *c) {
  client_link(s, c);
  event_assign(&c->ev_read, s->base, c->fd, EV_READ | EV_PERSIST, client_on_read, c);
  event_assign(&c->ev_write, s->base, c->fd, EV_WRITE, client_on_write, c);
  event_add(&c->ev_read, &(struct timeval){.tv_sec = CLIENT_SILENT_S});
  c->reading = true;
  if (c->pidfd < 0) return;
  event_assign(&c->ev_death, s->base, c->pidfd, EV_READ, client_on_death, c);
  event_add(&c->ev_death, NULL);
}

void client_accept(struct server *s, int fd) {
  struct ucred cred;
  socklen_t len = sizeof(cred);
  char text[128];
  int r = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ? -errno : 0;
  if (r == 0 && cred.pid <= 0) r = -ESRCH;
  if (r < 0) {
    client_refuse(s, fd, -r, "rationd cannot see your process (another pid namespace?)");
    return;
  }
  if (s->nclients >= s->max_clients - (cred.uid ? s->kept_for_root : 0)) {
    if (log_allowed(&s->limit_refused))
      log_line(LOG_LEVEL_WARNING, "pid %d uid %u refused: %u clients are the limit, %u of them root's (max_clients, RLIMIT_NOFILE)",
               cred.pid, cred.uid, s->max_clients, s->kept_for_root);
    client_refuse(s, fd, EUSERS, "rationd has as many clients as it may (max_clients in rationd.conf)");
    return;
  }
  r = uid_count_add(s, cred.uid);
  if (r < 0) {
    if (log_allowed(&s->limit_refused))
      log_line(LOG_LEVEL_WARNING, "pid %d refused: uid %u has %u clients (max_clients_per_uid, half of max_clients)", cred.pid, cred.uid,
               uid_count_most(s, cred.uid));
    snprintf(text, sizeof(text), "uid %u has as many clients as it may (max_clients_per_uid in rationd.conf, half of max_clients)",
             cred.uid);
    client_refuse(s, fd, -r, text);
    return;
  }
  int pidfd = client_pidfd(fd, cred.pid);
  struct client *c = pidfd < 0 ? NULL : calloc(1, sizeof(*c));
  if (!c) {
    if (pidfd >= 0) close(pidfd);
    uid_count_sub(s, cred.uid);
    client_refuse(s, fd, pidfd < 0 ? -pidfd : ENOMEM, "rationd cannot take you on now");
    return;
  }
  c->server = s;
  c->fd = fd;
  c->pidfd = pidfd;
  c->pid = cred.pid;
  c->uid = cred.uid;
  client_begin(s, c);
}
