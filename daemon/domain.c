/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quota domains: which there are, what their files say, when they are looked at.
 * How their CPUs are divided is divide.c.
 *
 * Asleep and awake.  A pool is awake while a slot is held, a G waits or CPU time is charged, and is
 * then looked at every tick.  After POOL_IDLE_NS of nothing it sleeps:
 *
 *   daemon: owner_asleep = 1; fence; look again            member: take a slot; fence;
 *           busy? wake : hand the bell to the waker                 owner_asleep? ring the bell
 *
 * One of the two sees the other.  With all pools asleep no timer runs.
 *
 * Changes of quotas come by inotify at once, and by reading again every second
 * while a pool is awake, should a file not tell.  A process that is moved to
 * another cgroup is found by the same slow look, and told to attach again.
 */
#include "domain.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "client.h"
#include "divide.h"
#include "pool.h"
#include "watchdog.h"

#define POOL_IDLE_NS (300 * NS_PER_MS)
#define SLOW_SECONDS 1
#define MOVED_TURNS 2 /* of the slow timer */
#define DOMAIN_ADOPTED_MAX 16
#define INOTIFY_MASK (IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF)

/* ---- places ---- */

const char *domain_key(const struct server *s, const struct quota *q) {
  if (q->limited) return q->domain;
  return s->config.weights && q->weighted ? q->cgroup : "/";
}

static void place_watch(struct server *s, struct place *p) {
  char path[QUOTA_FILE_MAX];
  for (unsigned i = 0; p->nwatches < PLACE_WATCHES_MAX && quota_watch_path(&p->q, i, path, sizeof(path)) != -ENOENT; i++) {
    int wd = inotify_add_watch(s->inotify_fd, path, INOTIFY_MASK);
    if (wd >= 0) p->watches[p->nwatches++] = wd;
  }
}

static bool place_has_watch(const struct place *p, int wd) {
  for (uint32_t i = 0; i < p->nwatches; i++) {
    if (p->watches[i] == wd) return true;
  }
  return false;
}

/* A watch belongs to the file: places below one ancestor share it. */
static void place_unwatch(struct server *s, struct place *p) {
  for (uint32_t i = 0; i < p->nwatches; i++) {
    bool shared = false;
    for (struct domain *d = s->domains; d && !shared; d = d->hh.next) {
      for (struct place *o = d->places; o && !shared; o = o->next) shared = o != p && place_has_watch(o, p->watches[i]);
    }
    if (!shared) inotify_rm_watch(s->inotify_fd, p->watches[i]);
  }
  p->nwatches = 0;
}

/* 0, 0 where there is none. */
static struct place_dir place_look(const char *path) {
  struct stat st;
  return path[0] && stat(path, &st) == 0 ? (struct place_dir){st.st_dev, st.st_ino} : (struct place_dir){0};
}

static bool dir_is(struct place_dir was, const char *path) {
  struct place_dir now = place_look(path);
  return now.dev == was.dev && now.ino == was.ino;
}

/* Is its cgroup the one that it was found in, or one that was made anew under the same name?  Its watches would be those of the old one. */
static bool place_stands(const struct place *p) { return dir_is(p->dir, p->q.dir) && dir_is(p->cpuset_dir, p->q.cpuset_dir); }

static struct domain *domain_get(struct server *s, const char *key) {
  struct domain *d;
  HASH_FIND_STR(s->domains, key, d);
  if (d) return d;
  d = calloc(1, sizeof(*d));
  if (!d) return NULL;
  d->server = s;
  d->key = strdup(key);
  if (!d->key) {
    free(d);
    return NULL;
  }
  d->id = ++s->next_id;
  HASH_ADD_KEYPTR(hh, s->domains, d->key, strlen(d->key), d);
  s->ndomains++;
  return d;
}

static void domain_free_if_empty(struct domain *d) {
  if (d->places || d->pools) return;
  HASH_DEL(d->server->domains, d);
  d->server->ndomains--;
  free(d->key);
  free(d);
}

/* CPUs that the processes of a place may run on, as far as their cgroup decides it. */
static uint32_t place_cpus(const struct place *p) {
  uint32_t n = p->q.cpus_cpuset && p->q.cpus_cpuset < p->q.cpus_host ? p->q.cpus_cpuset : p->q.cpus_host;
  return n ? n : 1;
}

/* A place that speaks for the domain; one whose processes belong elsewhere by now only if there is no other. */
static const struct place *domain_place(const struct domain *d) {
  const struct place *p = d->places;
  while (p && p->misplaced) p = p->next;
  return p ? p : d->places;
}

/* Takes over what its places say.  They may have cpusets of their own, so its CPUs are the most that one has; less is a pool's business. */
static void domain_update(struct domain *d) {
  const struct place *p = domain_place(d);
  if (!p) return;
  const struct quota *q = &p->q;
  d->limited = q->limited;
  d->weighted = !q->limited && q->weighted && d->server->config.weights;
  d->quota_micro = q->quota_micro;
  d->period_us = q->limited ? q->period_us : 0;
  d->burst_us = q->burst_us;
  d->cpus = place_cpus(p);
  for (p = d->places; p; p = p->next) {
    if (!p->misplaced) d->cpus = UTIL_MAX(d->cpus, place_cpus(p));
  }
  uint64_t all = (uint64_t)d->cpus * POOL_RATE_ONE;
  d->cpu_micro = config_after_headroom(config_headroom(&d->server->config, d->key), UTIL_MIN(all, d->quota_micro));
}

static void place_tell_reattach(struct server *s, const struct place *p) {
  for (struct client *c = s->clients; c; c = c->next) {
    if (c->place == p) client_tell_reattach(c);
  }
}

/* Reads its files again and applies what is new. */
static void place_refresh(struct server *s, struct place *p) {
  bool changed = false;
  uint32_t cpus = place_cpus(p);
  int r = quota_refresh(&p->q, &quota_fs_host, &changed);
  if (r == -ENODEV || r == -ESRCH || !place_stands(p)) { /* the cgroup is gone: its processes are dead or moved */
    p->misplaced = true;
    place_tell_reattach(s, p);
    return;
  }
  bool elsewhere = strcmp(domain_key(s, &p->q), p->domain->key) != 0;
  /* With another cpuset its processes are for another pool, while other places' may be for the same as before. */
  if ((elsewhere && !p->misplaced) || place_cpus(p) != cpus) place_tell_reattach(s, p);
  if (!changed && elsewhere == p->misplaced) return;
  p->misplaced = elsewhere;
  char text[32];
  quota_cpus_text(p->q.cpu_micro, text, sizeof(text));
  log_line(LOG_LEVEL_INFO, "%s: now %s CPUs, says %s", p->domain->key, text, p->q.source);
  s->stats.quota_changes++;
  domain_update(p->domain);
  domain_apply(p->domain);
}

static struct place *place_find(struct domain *d, uint64_t where) {
  for (struct place *p = d->places; p; p = p->next) {
    if (p->q.where == where && !p->misplaced) return p;
  }
  return NULL;
}

/* Does it still say what has just been read?  Not all files tell of a change, and while all sleeps nobody looks. */
static bool place_says(const struct place *p, const struct quota *q) {
  return p->q.limited == q->limited && p->q.quota_micro == q->quota_micro && p->q.period_us == q->period_us &&
         p->q.burst_us == q->burst_us && p->q.cpus_cpuset == q->cpus_cpuset && p->q.cpus_host == q->cpus_host && place_stands(p);
}

static struct place *place_new(struct server *s, struct domain *d, const struct quota *q) {
  struct place *p = calloc(1, sizeof(*p));
  if (!p) return NULL;
  p->q = *q;
  p->q.pid = 0; /* it stands for all processes there; what a single one's affinity allows is its pool's business */
  p->dir = place_look(q->dir);
  p->cpuset_dir = place_look(q->cpuset_dir);
  p->domain = d;
  p->next = d->places;
  d->places = p;
  place_watch(s, p);
  domain_update(d);
  divide_watch_pressure(s);
  return p;
}

static int place_add(struct server *s, const struct quota *q, struct place **ret) {
  struct domain *d = domain_get(s, domain_key(s, q));
  if (!d) return -ENOMEM;
  struct place *p = place_find(d, q->where);
  if (p && !place_says(p, q)) place_refresh(s, p);
  if (!p || p->misplaced) p = place_new(s, d, q);
  if (!p) {
    domain_free_if_empty(d);
    return -ENOMEM;
  }
  p->refs++;
  *ret = p;
  return 0;
}

int place_get(struct server *s, pid_t pid, struct place **ret, uint32_t *allowed) {
  static struct quota q; /* large; the event loop's thread only */
  int r = quota_find(&q, &quota_fs_host, pid);
  if (r == -ESRCH) return r;
  if (r < 0 && log_allowed(&s->limit_attach)) log_line(LOG_LEVEL_WARNING, "pid %d: %s", pid, q.problem);
  *allowed = q.cpus_allowed;
  return place_add(s, &q, ret);
}

void place_put(struct place *p) {
  if (!p || --p->refs > 0) return;
  struct domain *d = p->domain;
  place_unwatch(d->server, p);
  struct place **at = &d->places;
  while (*at != p) at = &(*at)->next;
  *at = p->next;
  free(p);
  struct server *s = d->server;
  domain_update(d);
  domain_free_if_empty(d);
  divide_watch_pressure(s);
}

/* ---- pools ---- */

void domain_add_pool(struct domain *d, struct pool *p, uint32_t allowed) {
  p->domain = d;
  p->allowed = allowed;
  p->id = ++d->server->next_id;
  p->next = d->pools;
  d->pools = p;
  d->server->npools++;
}

int domain_pool(struct domain *d, uid_t uid, uint32_t allowed, struct pool **ret) {
  for (struct pool *p = d->pools; p; p = p->next) {
    if (p->uid != uid || p->allowed != allowed || p->nmembers + p->orphans >= POOL_MEMBERS_MAX) continue;
    *ret = p;
    return 0;
  }
  int r = pool_create(ret, uid, now_ns());
  if (r < 0) return r;
  domain_add_pool(d, *ret, allowed);
  return 0;
}

struct pool *domains_find_page(struct server *s, dev_t dev, ino_t ino) {
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    for (struct pool *p = d->pools; p; p = p->next) {
      if (p->ino == ino && p->dev == dev) return p;
    }
  }
  return NULL;
}

bool domain_may_adopt(const struct domain *d, uid_t uid, uint32_t allowed) {
  uint32_t n = 0;
  for (const struct pool *p = d->pools; p; p = p->next) n += p->adopted && p->uid == uid && p->allowed == allowed;
  return n < DOMAIN_ADOPTED_MAX;
}

void domain_drop_pool(struct pool *p) {
  struct domain *d = p->domain;
  struct server *s = d->server;
  if (!p->awake && s->waker) waker_remove(s->waker, &p->page->owner_bell);
  struct pool **at = &d->pools;
  while (*at != p) at = &(*at)->next;
  *at = p->next;
  s->npools--;
  d->charged_gone += p->charged;
  /* Should anybody still have it mapped.  Orphans go on with it until they come back, and bring it along. */
  if (p->orphans == 0) pool_retire(p);
  pool_free(p);
  domain_free_if_empty(d);
}

static void ticking_start(struct server *s, uint64_t soon_ns) {
  struct timeval soon = {.tv_usec = (suseconds_t)(soon_ns / NS_PER_US)};
  event_add(&s->ev_tick, &soon);
  if (s->ticking) return;
  s->ticking = true;
  s->last_tick = now_ns();
  struct timeval slow = {.tv_sec = SLOW_SECONDS};
  event_add(&s->ev_slow, &slow);
}

void pool_wake(struct pool *p) {
  struct domain *d = p->domain;
  struct server *s = d->server;
  p->idle_since = 0;
  if (!p->awake) {
    waker_remove(s->waker, &p->page->owner_bell);
    atomic_store_explicit(&p->page->owner_asleep, 0, memory_order_relaxed);
    p->awake = true;
    p->tick_charged = p->charged;
  }
  if (!d->awake) {
    d->awake = true;
    meter_reset(&d->meter);
    d->pending = 0;
  }
  ticking_start(s, NS_PER_MS);
}

/* See the top of the file.  False: it is busy after all. */
static bool pool_sleep(struct pool *p, uint64_t now) {
  struct server *s = p->domain->server;
  p->bell = atomic_load_explicit(&p->page->owner_bell, memory_order_relaxed);
  atomic_store_explicit(&p->page->owner_asleep, 1, memory_order_release);
  atomic_thread_fence(memory_order_seq_cst); /* pairs with the CAS and the load of owner_asleep in lease_acquire */
  struct pool_sum sum = pool_scan(p, now);
  if (sum.held == 0 && sum.wants == 0 && waker_add(s->waker, &p->page->owner_bell, p->bell) == 0) {
    p->awake = false;
    p->sum = sum;
    p->charge_rate = 0;
    return true;
  }
  atomic_store_explicit(&p->page->owner_asleep, 0, memory_order_relaxed);
  p->idle_since = 0;
  return false;
}

/* ---- the tick ---- */

static void pool_smooth_rate(struct pool *p, uint64_t dt) {
  uint64_t used = p->charged - p->tick_charged;
  p->tick_charged = p->charged;
  uint64_t rate = dt ? (uint64_t)((unsigned __int128)used * POOL_RATE_ONE / dt) : 0;
  p->charge_rate = (p->charge_rate * 3 + rate) / 4;
}

/* Looks at one pool.  Returns true while it is awake. */
static bool pool_tick(struct pool *p, uint64_t now, uint64_t dt) {
  struct server *s = p->domain->server;
  uint32_t gone = pool_drop_orphans(p, now);
  if (gone) log_line(LOG_LEVEL_INFO, "%s: %u processes did not come back to their pool", p->domain->key, gone);
  uint64_t before = p->charged, stuck_ns = (uint64_t)s->config.stuck_ms * NS_PER_MS;
  (void)pool_forget_stopped(p, now, stuck_ns);
  p->sum = pool_scan(p, now);
  pool_smooth_rate(p, dt);
  uint32_t taken = pool_expropriate(p, now, stuck_ns);
  s->stats.expropriations += taken;
  bool busy = p->sum.held || p->sum.wants || p->charged != before || p->orphans;
  if (p->domain->weighted && p->domain->meter.usage_rate > POOL_RATE_ONE / 20) busy = true;
  if (busy) {
    p->idle_since = 0;
    return true;
  }
  if (p->idle_since == 0) p->idle_since = now;
  return now - p->idle_since < POOL_IDLE_NS || !pool_sleep(p, now);
}

/* Takes off the buckets what the cgroup used besides what its members charged. */
static void domain_measure(struct domain *d, uint64_t now) {
  static struct quota_meter where; /* large; the event loop's thread only */
  uint64_t usage, charged = 0, rate = 0;
  if (!d->places) return;
  quota_meter_domain(&where, &d->places->q);
  if (d->weighted) quota_meter_level(&where, &d->places->q, 0);
  if (quota_usage_ns(&where, &quota_fs_host, &usage) < 0) return;
  for (struct pool *p = d->pools; p; p = p->next) {
    charged += p->charged;
    if (p->awake) rate += p->params.rate;
  }
  d->pending += meter_sample(&d->meter, now, usage, charged + d->charged_gone, rate);
  /* In small parts: the counters swing by ms against each other, and every swing would be a period used unevenly. */
  int64_t take = d->pending / 16;
  d->pending -= take;
  if (take == 0 || rate == 0) return;
  for (struct pool *p = d->pools; p; p = p->next) {
    if (p->awake && p->params.rate) pool_take_tokens(p->page, now, (int64_t)((__int128)take * p->params.rate / (int64_t)rate));
  }
}

static bool domain_tick(struct domain *d, uint64_t now, uint64_t dt) {
  bool awake = false;
  for (struct pool *p = d->pools, *next; p; p = next) {
    next = p->next;
    if (p->awake && pool_tick(p, now, dt)) awake = true;
  }
  d->awake = awake;
  if (awake) domain_measure(d, now);
  return awake;
}

static void domains_on_tick(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct server *s = arg;
  uint64_t now = now_ns(), dt = now - s->last_tick;
  s->last_tick = now;
  bool awake = false;
  for (struct domain *d = s->domains, *next; d; d = next) {
    next = d->hh.next;
    if (d->awake && domain_tick(d, now, dt)) awake = true;
  }
  divide(s, now);
  if (!awake) {
    s->ticking = false;
    event_del(&s->ev_slow);
    return;
  }
  struct timeval again = {.tv_usec = (suseconds_t)s->config.tick_ms * 1000};
  event_add(&s->ev_tick, &again);
}

/* ---- slow looks ---- */

static void clients_check_moved(struct server *s) {
  for (struct client *c = s->clients; c; c = c->next) {
    if (!c->pool || !c->pool->awake || c->told_reattach) continue;
    static struct quota q; /* large; only pid and where count */
    q.pid = c->pid;
    q.where = c->place->q.where;
    if (quota_moved(&q, &quota_fs_host) == 1) client_tell_reattach(c);
  }
}

static void domains_on_slow(evutil_socket_t fd, short what, void *arg) {
  (void)fd, (void)what;
  watchdog_beat();
  struct server *s = arg;
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    if (!d->awake) continue;
    for (struct place *p = d->places; p; p = p->next) place_refresh(s, p);
  }
  if (++s->slow_turn % MOVED_TURNS == 0) clients_check_moved(s);
  struct timeval slow = {.tv_sec = SLOW_SECONDS};
  event_add(&s->ev_slow, &slow);
}

static void domains_refresh_watch(struct server *s, int wd) {
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    for (struct place *p = d->places; p; p = p->next) {
      if (wd < 0 || place_has_watch(p, wd)) place_refresh(s, p);
    }
  }
}

static void domains_on_inotify(evutil_socket_t fd, short what, void *arg) {
  (void)what;
  watchdog_beat();
  struct server *s = arg;
  _Alignas(struct inotify_event) char buf[4096];
  for (;;) {
    ssize_t n = read(fd, buf, sizeof(buf));
    if (n <= 0) return;
    int last = -2; /* of this read only: a file that changes after it was looked at has a new event, in a later read */
    for (char *p = buf; p < buf + n; p += sizeof(struct inotify_event) + ((struct inotify_event *)(void *)p)->len) {
      const struct inotify_event *e = (struct inotify_event *)(void *)p;
      if (e->mask & IN_IGNORED || e->wd == last) continue;
      last = e->wd;
      domains_refresh_watch(s, e->mask & IN_Q_OVERFLOW ? -1 : e->wd);
    }
  }
}

static void domains_on_bell(evutil_socket_t fd, short what, void *arg) {
  (void)what;
  watchdog_beat();
  struct server *s = arg;
  uint64_t n;
  if (read(fd, &n, sizeof(n)) < 0 && errno == EAGAIN) return;
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    for (struct pool *p = d->pools; p; p = p->next) {
      if (!p->awake && atomic_load_explicit(&p->page->owner_bell, memory_order_acquire) != p->bell)
        pool_wake(p); /* pairs with the member's add */
    }
  }
}

/* ---- life ---- */

int domains_start(struct server *s) {
  s->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (s->inotify_fd < 0) return -errno;
  int r = waker_open(&s->waker);
  if (r < 0) return r;
  event_assign(&s->ev_inotify, s->base, s->inotify_fd, EV_READ | EV_PERSIST, domains_on_inotify, s);
  event_assign(&s->ev_waker, s->base, waker_fd(s->waker), EV_READ | EV_PERSIST, domains_on_bell, s);
  event_assign(&s->ev_tick, s->base, -1, 0, domains_on_tick, s);
  event_assign(&s->ev_slow, s->base, -1, 0, domains_on_slow, s);
  event_add(&s->ev_inotify, NULL);
  event_add(&s->ev_waker, NULL);
  s->pressure_fd = s->pressure_epoll = -1;
  return 0;
}

void domains_stop(struct server *s) {
  event_del(&s->ev_inotify);
  event_del(&s->ev_waker);
  event_del(&s->ev_tick);
  event_del(&s->ev_slow);
  s->stopping = true;
  divide_watch_pressure(s);
  waker_close(s->waker);
  s->waker = NULL;
  /* The pages stay as they are: their members go on with them and hand them to the next daemon. */
  for (struct domain *d = s->domains, *next; d; d = next) {
    next = d->hh.next;
    for (struct pool *p = d->pools, *after; p; p = after) {
      after = p->next;
      pool_free(p);
    }
    for (struct place *p = d->places, *after; p; p = after) {
      after = p->next;
      free(p);
    }
    d->pools = NULL;
    d->places = NULL;
    domain_free_if_empty(d);
  }
  close(s->inotify_fd);
}

void domains_reconfigure(struct server *s) {
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    for (struct place *p = d->places; p; p = p->next) {
      bool elsewhere = strcmp(domain_key(s, &p->q), d->key) != 0;
      if (elsewhere && !p->misplaced) place_tell_reattach(s, p);
      p->misplaced = elsewhere;
    }
    domain_update(d);
    domain_apply(d);
  }
  divide_watch_pressure(s);
}
