/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers to queries.  A client sees what belongs to its own uid; root sees all.
 *
 * Long answers are made frame by frame, each the next in order of an id that is
 * never used twice, so what comes and goes between two frames does no harm.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "client.h"
#include "domain.h"
#include "inflight.h"
#include "pool.h"

static bool query_may_see(const struct client *c, uid_t uid) { return c->uid == 0 || c->uid == uid; }

static bool query_may_see_pid(const struct client *c, pid_t pid) {
  char path[32];
  struct stat st;
  if (c->uid == 0 || pid == c->pid) return true;
  snprintf(path, sizeof(path), "/proc/%d", pid);
  return stat(path, &st) == 0 && st.st_uid == c->uid;
}

/* Copies as much as fits, always ended; what a terminal would act on becomes '?'. */
static void query_text(char *to, size_t size, const char *from) {
  size_t i = 0;
  for (; i + 1 < size && from[i]; i++) to[i] = (unsigned char)from[i] < ' ' || from[i] == 0x7f ? '?' : from[i];
  to[i] = 0;
}

static void query_fill_quota(struct wire_quota *w, const struct quota *q) {
  w->flags = (q->limited ? WIRE_QUOTA_LIMITED : 0) | (q->weighted ? WIRE_QUOTA_WEIGHTED : 0);
  w->cgroup_version = q->version;
  w->slots = q->slots;
  w->cpu_micro = q->cpu_micro;
  w->duty_ppm = q->duty_ppm;
  w->cpus_allowed = q->cpus_allowed;
  w->quota_us = q->quota_us;
  w->period_us = q->period_us;
  query_text(w->domain, sizeof(w->domain), q->domain);
  query_text(w->source, sizeof(w->source), q->source);
}

void query_quota(struct client *c, const struct wire_frame *f) {
  static struct quota q;           /* large; the event loop's thread only */
  static struct quota_meter meter; /* the same */
  struct quota_throttle t = {0};
  struct wire_frame out = {0};
  uint32_t pid = f->u.quota_query.pid ? f->u.quota_query.pid : (uint32_t)c->pid;
  if (pid > INT32_MAX) {
    client_error(c, f->hdr.serial, EINVAL, "%u is no process id", pid);
    return;
  }
  if (!query_may_see_pid(c, (pid_t)pid)) {
    client_error(c, f->hdr.serial, EPERM, "process %u does not exist or is not yours", pid);
    return;
  }
  int r = quota_find(&q, &quota_fs_host, (int)pid);
  if (r == -ESRCH) {
    client_error(c, f->hdr.serial, ESRCH, "no process %u", pid);
    return;
  }
  out.u.quota.pid = pid;
  query_fill_quota(&out.u.quota, &q);
  quota_meter_domain(&meter, &q);
  if (quota_throttled(&meter, &quota_fs_host, &t) == 0) {
    out.u.quota.nr_periods = t.nr_periods;
    out.u.quota.nr_throttled = t.nr_throttled;
    out.u.quota.throttled_us = t.throttled_us;
  }
  client_send(c, &out, WIRE_QUOTA, f->hdr.serial, NULL, 0);
}

/* A pipe and nothing else: the process is going to write to it from a thread that must not be kept waiting. */
static bool query_is_pipe(int fd) {
  struct stat st;
  return fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

struct client *query_gs_about(const struct client *c, const struct wire_frame *f) {
  struct client *o = c->server->clients;
  while (o && ((uint32_t)o->pid != f->u.gs_query.pid || !o->pool || o->doomed || !query_may_see(c, o->pool->uid))) o = o->next;
  return o;
}

void query_gs(struct client *c, const struct wire_frame *f, int fd) {
  uint32_t pid = f->u.gs_query.pid;
  struct client *o = query_gs_about(c, f);
  if (!o) {
    client_error(c, f->hdr.serial, ESRCH, "process %u is not attached, or not yours", pid);
    return;
  }
  if (!query_is_pipe(fd)) {
    client_error(c, f->hdr.serial, EINVAL, "the descriptor is no pipe");
    return;
  }
  struct wire_frame out = {0};
  wire_seal(&out, WIRE_DUMP_GS, 0);
  /* Not client_send: it is not to suffer for a question of somebody else. */
  int r = inflight_held(o) ? -EBUSY : wire_send(o->fd, &out, &fd, 1);
  if (r == 0) inflight_sent(o);
  if (r < 0)
    client_error(c, f->hdr.serial, -r, "process %u does not take the question", pid);
  else
    client_send(c, &out, WIRE_OK, f->hdr.serial, NULL, 0);
}

void query_stats(struct client *c, uint32_t serial) {
  const struct server *s = c->server;
  struct wire_frame f = {.u.stats = {
                             .uptime_ns = now_ns() - s->started,
                             .attaches = s->stats.attaches,
                             .resumes = s->stats.resumes,
                             .deaths = s->stats.deaths,
                             .expropriations = s->stats.expropriations,
                             .malformed = s->stats.malformed,
                             .refused = s->stats.refused,
                             .quota_changes = s->stats.quota_changes,
                             .moves = s->stats.moves,
                             .clients = s->nclients,
                             .pools = s->npools,
                             .domains = s->ndomains,
                             .bpf = s->watch != NULL,
                         }};
  query_text(f.u.stats.bpf_error, sizeof(f.u.stats.bpf_error), s->bpf_error);
  query_text(f.u.stats.version, sizeof(f.u.stats.version), RATION_VERSION);
  client_send(c, &f, WIRE_STATS, serial, NULL, 0);
}

#define QUERY_READ(field) atomic_load_explicit(&(field), memory_order_relaxed) /* for display: may be torn between fields */

/* Never 0, which means that nothing is known.  That two pools come to have the same takes years. */
static uint32_t query_pool_id(const struct pool *p) { return (uint32_t)p->id ? (uint32_t)p->id : 1; }

static void query_fill_ps(const struct client *o, struct wire_ps *ps) {
  const struct pool_member *m = &o->pool->page->members[o->member];
  *ps = (struct wire_ps){
      .pid = (uint32_t)o->pid,
      .uid = o->pool->uid,
      .rung = QUERY_READ(m->rung),
      .flags = QUERY_READ(m->flags),
      .gs = QUERY_READ(m->ngs),
      .ms = QUERY_READ(m->nms),
      .held = pool_held_by(o->pool, o->member),
      .waiting = QUERY_READ(m->wants),
      .cpu_ns = QUERY_READ(m->charged),
      .handoffs = QUERY_READ(m->handoffs),
      .retakes = QUERY_READ(m->retakes),
      .preempts = QUERY_READ(m->preempts),
      .wakeups = QUERY_READ(m->wakeups),
      .pauses = QUERY_READ(m->pauses),
      .since_ns = now_ns() - o->since,
  };
  query_text(ps->name, sizeof(ps->name), o->name);
  query_text(ps->domain, sizeof(ps->domain), o->pool->domain->key);
}

static const struct client *query_next_process(const struct client *c, uint64_t *id) {
  const struct client *o = c->server->clients;
  while (o && (o->id <= *id || !o->pool || !query_may_see(c, o->pool->uid))) o = o->next;
  if (o) *id = o->id;
  return o;
}

bool query_next_ps(const struct client *c, uint64_t *id, struct wire_ps *ps) {
  const struct client *o = query_next_process(c, id);
  if (o) query_fill_ps(o, ps);
  return o != NULL;
}

_Static_assert(POOL_WIRED <= WIRE_WIRED_MAX, "the frame holds what the page has");

bool query_next_ps_more(const struct client *c, uint64_t *id, struct wire_ps_more *more) {
  const struct client *o = query_next_process(c, id);
  if (!o) return false;
  const struct pool_member *m = &o->pool->page->members[o->member];
  query_fill_ps(o, &more->ps);
  more->thread_gs = QUERY_READ(m->nthreads);
  more->nwired = POOL_WIRED;
  for (uint32_t i = 0; i < POOL_WIRED; i++) more->wired[i] = QUERY_READ(m->wired[i]);
  more->pool = query_pool_id(o->pool);
  return true;
}

static void query_fill_pool(struct pool *p, struct wire_pool *w) {
  uint64_t now = now_ns();
  const struct domain *d = p->domain;
  struct pool_sum sum = pool_scan(p, now);
  int64_t tokens = p->params.rate ? pool_tokens(p->page, now) : 0;
  *w = (struct wire_pool){
      .uid = p->uid,
      .flags = p->params.flags | (pool_is_crowd(p->page, now) ? POOL_F_CROWD : 0),
      .nslots = p->params.nslots,
      .nexpress = p->params.nexpress,
      .held = sum.held,
      .members = p->nmembers,
      .waiting = sum.wants,
      .rate = p->params.rate,
      .tokens_us = tokens / 1000,
      .charged_ns = p->charged,
      .cpu_micro = d->cpu_micro,
      .strangers_micro = p->awake ? d->meter.stranger_rate : 0,
      .weight = d->places && d->places->q.nlevels ? d->places->q.levels[0].weight : 0,
      .id = query_pool_id(p),
  };
  memcpy(w->rung, sum.rung, sizeof(w->rung));
  query_text(w->domain, sizeof(w->domain), d->key);
}

bool query_next_pool(const struct client *c, uint64_t *id, struct wire_pool *w) {
  struct pool *next = NULL;
  for (const struct domain *d = c->server->domains; d; d = d->hh.next) {
    for (struct pool *p = d->pools; p; p = p->next) {
      if (p->id > *id && query_may_see(c, p->uid) && (!next || p->id < next->id)) next = p;
    }
  }
  if (!next) return false;
  *id = next->id;
  query_fill_pool(next, w);
  return true;
}
