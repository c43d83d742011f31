/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Divides CPUs among the pools that are awake: max-min fair by demand and weight,
 * down the tree of cgroups and users (share.h).
 *
 *   host ── /a (limit 2.0) ── /a/b (limit 1.5) ── uid 1000 ── pool of those who may run on 2 CPUs
 *                          │                   │           └─ pool of those who may run on 1
 *                          │                   └─ uid 1001 ── pool
 *                          └─ /a/c (limit 1.5) ── uid 1000 ── pool
 *
 * A pool that sleeps has the whole of its domain written on its page, so that it
 * starts at full speed; the first tick after that makes room for it.
 *
 * Demand.  A pool with waiting Gs wants one CPU for each that waits or holds a
 * slot.  One without wants a little more than it lately used.
 *
 * Weights.  Domains without a quota are left alone (whole host, no gate) until
 * two of them are awake and all demands together exceed the host for
 * DIVIDE_ENTER ticks; then each gets its weighted share, until there has been room for
 * DIVIDE_LEAVE ticks.  They ring no bell while they are ungated, so the kernel's pressure
 * monitor (PSI, unprivileged, 2 s window) says when CPUs are short; it costs an idle host nothing.
 *
 * Rejected: dividing slots.  With fractions, slots alone can't express the shares,
 * and a pool always needs one; so it is CPUs that are divided, and slots follow.
 */
#include "divide.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include "client.h"
#include "domain.h"
#include "pool.h"
#include "share.h"
#include "watchdog.h"

#define DIVIDE_ENTER 3
#define DIVIDE_LEAVE 25
#define DIVIDE_FLOOR 50000u /* nobody's demand is less, in millionths of a CPU: it must be able to show more */
#define DIVIDE_PARTY 200000u
#define DIVIDE_STEP_DOWN 50u /* smaller changes, as parts of the pool's most, are not worth a bell */
#define DIVIDE_STEP_UP 20u

static const char psi_trigger[] = "some 200000 2000000"; /* 0.2 s of 2 s */

struct node {
  UT_hash_handle hh;
  struct share_node share;
  char path[QUOTA_PATH_MAX];
};

/* A user in a cgroup. */
struct user {
  UT_hash_handle hh;
  struct share_node share;
  uid_t uid;
};

/* ---- what a pool gets ---- */

static uint64_t pool_all(const struct pool *p) {
  uint32_t n = UTIL_MIN(p->allowed ? p->allowed : 1, p->domain->cpus);
  return (uint64_t)n * POOL_RATE_ONE;
}

/* All that a pool may get: the domain's CPUs, as far as it may run on them. */
static uint64_t pool_most(const struct pool *p) { return UTIL_MIN(p->domain->cpu_micro, pool_all(p)); }

static void pool_write(struct pool *p, uint64_t now) {
  const struct domain *d = p->domain;
  struct pool_params_in in = {
      .cpu_micro = p->applied,
      .domain_micro = pool_most(p),
      .period_us = d->period_us,
      .burst_us = d->burst_us,
      .cpus_allowed = (uint32_t)(pool_all(p) / POOL_RATE_ONE),
      .margin_ppm = d->server->config.margin_ppm,
  };
  struct pool_params params = page_params(in);
  bool all = p->told != in.domain_micro; /* CPUs that move between pools are no news for those who sleep */
  p->told = in.domain_micro;
  if (!pool_apply(p, &params, all, now)) return;
  for (struct client *c = d->server->clients; c; c = c->next) {
    if (c->pool == p) client_tell_changed(c);
  }
}

/* Less is taken away sooner than more is given: so the sum of what is written stays near what there is, without a bell for every whim. */
static void pool_grant(struct pool *p, uint64_t grant, uint64_t now) {
  uint64_t most = pool_most(p);
  p->grant = UTIL_MIN(grant, most);
  bool whole = p->grant == most && p->applied != most;
  bool less = p->grant < p->applied && p->applied - p->grant >= most / DIVIDE_STEP_DOWN;
  bool more = p->grant > p->applied && p->grant - p->applied >= most / DIVIDE_STEP_UP;
  if (!whole && !less && !more) return;
  p->applied = p->grant;
  p->domain->server->stats.moves++;
  pool_write(p, now);
}

/* A pool that shares with others keeps its part until they are divided anew; all others get the whole. */
void domain_apply(struct domain *d) {
  uint64_t now = now_ns();
  size_t awake = 0;
  for (const struct domain *o = d->server->domains; o; o = o->hh.next) {
    for (const struct pool *p = o->pools; p; p = p->next) awake += p->awake;
  }
  for (struct pool *p = d->pools; p; p = p->next) {
    uint64_t most = pool_most(p);
    if (!p->awake || awake < 2 || p->applied == 0 || p->applied > most) p->applied = p->grant = most;
    pool_write(p, now);
  }
  if (awake > 1) divide(d->server, now);
}

static uint64_t pool_demand(const struct pool *p) {
  uint64_t most = pool_most(p), want;
  if (p->sum.wants) {
    want = (uint64_t)(p->sum.held + p->sum.wants) * POOL_RATE_ONE;
  } else {
    uint64_t used = p->charge_rate;
    if (p->domain->weighted && !p->domain->pools->next) used = UTIL_MAX(used, p->domain->meter.usage_rate);
    want = used + used / 4 + DIVIDE_FLOOR;
    /* One that uses nearly all it has can't show what more it would use. */
    if (used > p->applied - p->applied / 8) want = most;
  }
  return UTIL_MAX(UTIL_MIN(want, most), DIVIDE_FLOOR);
}

/* ---- the tree ---- */

struct tree {
  struct node root;
  struct node *nodes; /* uthash, by path */
  struct user *users; /* nusers of them, at most as many as leaves */
  size_t nusers;
  struct share_node *leaves;
  struct pool **pools;
  size_t n;
};

static void tree_free(struct tree *t) {
  struct node *n, *tmp;
  HASH_ITER(hh, t->nodes, n, tmp) {
    HASH_DEL(t->nodes, n);
    free(n);
  }
  free(t->users);
  free(t->leaves);
  free(t->pools);
}

static uint32_t weight_or_default(const struct quota *q, uint32_t weight) { return weight ? weight : q->version == 1 ? 1024 : 100; }

static void node_hang(struct share_node *parent, struct share_node *child) {
  child->sibling = parent->child;
  parent->child = child;
}

/* The node of a cgroup, made below `parent` if it is new. */
static struct node *tree_node(struct tree *t, struct node *parent, const char *path, uint64_t limit, uint32_t weight) {
  struct node *n;
  HASH_FIND_STR(t->nodes, path, n);
  if (n) return n;
  n = calloc(1, sizeof(*n));
  if (!n) return NULL;
  strncpy(n->path, path, sizeof(n->path) - 1);
  n->share.claim.limit = limit;
  n->share.claim.weight = weight;
  node_hang(&parent->share, &n->share);
  HASH_ADD_STR(t->nodes, path, n);
  return n;
}

/* The node of a domain, with all its ancestors; the root comes first. */
static struct node *tree_domain(struct tree *t, const struct domain *d) {
  struct node *at = &t->root;
  const struct place *p = d->places;
  if (!p || strcmp(d->key, "/") == 0) return at;
  char name[QUOTA_PATH_MAX];
  for (unsigned i = p->q.nlevels; i-- > 0;) {
    if (quota_level_name(&p->q, i, name, sizeof(name)) < 0 || strcmp(name, "/") == 0) continue;
    const struct quota_level *l = &p->q.levels[i];
    bool own = strcmp(name, d->key) == 0;
    uint64_t limit = l->micro;
    if (own && d->cpu_micro < limit) limit = d->cpu_micro;
    at = tree_node(t, at, name, limit, weight_or_default(&p->q, l->weight));
    if (!at || own) return at;
  }
  return at;
}

/* The node of a user below a domain's; `of_domain` has those that are there. */
static struct user *tree_user(struct tree *t, struct user **of_domain, struct node *at, uid_t uid, uint32_t weight) {
  struct user *u;
  HASH_FIND(hh, *of_domain, &uid, sizeof(uid), u);
  if (u) return u;
  u = &t->users[t->nusers++];
  u->uid = uid;
  u->share.claim.weight = weight;
  HASH_ADD(hh, *of_domain, uid, sizeof(uid), u);
  node_hang(&at->share, &u->share);
  return u;
}

/* Users share a domain, and each user's pools what it got: who spreads over more pools gets no more by it. */
static void tree_hang_pools(struct tree *t, const struct domain *d, struct node *at, size_t n) {
  struct user *of_domain = NULL;
  uint32_t weight = d->places ? weight_or_default(&d->places->q, 0) : 100;
  for (struct pool *p = d->pools; p && t->n < n; p = p->next) {
    if (!p->awake) continue;
    struct user *u = tree_user(t, &of_domain, at, p->uid, weight);
    struct share_node *leaf = &t->leaves[t->n];
    t->pools[t->n++] = p;
    leaf->claim = (struct share_claim){.demand = p->demand, .limit = pool_most(p), .weight = weight};
    u->share.claim.limit = UTIL_MIN(u->share.claim.limit + leaf->claim.limit, d->cpu_micro); /* no more than its pools can take */
    node_hang(&u->share, leaf);
  }
  HASH_CLEAR(hh, of_domain);
}

static int tree_build(struct tree *t, struct server *s, size_t n) {
  t->root.share.claim.limit = SHARE_NO_LIMIT;
  t->users = calloc(n, sizeof(*t->users));
  t->leaves = calloc(n, sizeof(*t->leaves));
  t->pools = calloc(n, sizeof(struct pool *));
  if (!t->users || !t->leaves || !t->pools) return -ENOMEM;
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    if (!d->awake) continue;
    struct node *at = tree_domain(t, d);
    if (!at) return -ENOMEM;
    tree_hang_pools(t, d, at, n);
  }
  return 0;
}

/* Is there a fight for the host among domains that have only weights?  With some inertia. */
static void divide_contention(struct server *s, uint64_t demand, uint64_t host, uint32_t weighted) {
  bool fight = s->config.weights && weighted >= 2 && demand > host - host / 20;
  if (fight == s->weights_apply) {
    s->contended = 0;
    return;
  }
  if (++s->contended < (fight ? DIVIDE_ENTER : DIVIDE_LEAVE)) return;
  s->contended = 0;
  s->weights_apply = fight;
  log_line(LOG_LEVEL_DEBUG, fight ? "CPUs are short: weights apply" : "CPUs are free: weights no longer apply");
}

static void tree_grant(struct tree *t, bool weighted, uint64_t now) {
  for (size_t i = 0; i < t->n; i++) {
    if (t->pools[i]->domain->weighted == weighted) pool_grant(t->pools[i], t->leaves[i].claim.grant, now);
  }
}

/* Where only weights count and nobody fights, nothing is divided: not between the users of one cgroup either. */
static void tree_leave_alone(struct tree *t, uint64_t now) {
  for (size_t i = 0; i < t->n; i++) {
    if (t->pools[i]->domain->weighted) pool_grant(t->pools[i], pool_most(t->pools[i]), now);
  }
}

static void divide_tree(struct server *s, size_t n, uint64_t demand, uint64_t host, uint32_t weighted, uint64_t now) {
  struct tree t = {0};
  divide_contention(s, demand, host, weighted);
  if (tree_build(&t, s, n) == 0 && share_tree(&t.root.share, SHARE_NO_LIMIT) == 0) {
    tree_grant(&t, false, now);
    if (!s->weights_apply)
      tree_leave_alone(&t, now);
    else if (share_tree(&t.root.share, host) == 0)
      tree_grant(&t, true, now);
  }
  tree_free(&t);
}

static void divide_asleep(struct server *s, uint64_t now) {
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    for (struct pool *p = d->pools; p; p = p->next) {
      if (!p->awake && p->applied != pool_most(p)) pool_grant(p, pool_most(p), now);
    }
  }
}

void divide(struct server *s, uint64_t now) {
  size_t n = 0;
  uint64_t demand = 0, host = 0;
  uint32_t weighted = 0;
  struct pool *only = NULL;
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    if (!d->awake) continue;
    if (d->places) host = UTIL_MAX(host, (uint64_t)d->places->q.cpus_host * POOL_RATE_ONE);
    bool wants = false;
    for (struct pool *p = d->pools; p; p = p->next) {
      if (!p->awake) continue;
      p->demand = pool_demand(p);
      only = p;
      n++;
      if (p->demand <= DIVIDE_PARTY) continue; /* awake, but it does next to nothing: no party to a fight */
      demand += p->demand;
      wants = true;
    }
    weighted += d->weighted && wants;
  }
  divide_asleep(s, now);
  if (n > 1) {
    divide_tree(s, n, demand, host, weighted, now);
    return;
  }
  s->weights_apply = false;
  if (only) pool_grant(only, pool_most(only), now);
}

/* ---- pressure ---- */

static void divide_on_pressure(evutil_socket_t fd, short what, void *arg) {
  (void)what;
  watchdog_beat();
  struct server *s = arg;
  struct epoll_event e;
  /* Asking a PSI trigger whether it fired resets it, and our own epoll has asked already: being here is the news. */
  (void)epoll_wait(fd, &e, 1, 0);
  for (struct domain *d = s->domains; d; d = d->hh.next) {
    for (struct pool *p = d->pools; p && d->weighted; p = p->next) pool_wake(p);
  }
}

/* libevent has no EPOLLPRI, so an epoll of its own stands between. */
static int divide_arm(struct server *s) {
  _cleanup_close_ int psi = open("/proc/pressure/cpu", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (psi < 0 || write(psi, psi_trigger, sizeof(psi_trigger)) < 0) return -errno;
  _cleanup_close_ int ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLPRI};
  if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, psi, &e) < 0) return -errno;
  s->pressure_fd = util_take_fd(&psi);
  s->pressure_epoll = util_take_fd(&ep);
  event_assign(&s->ev_pressure, s->base, s->pressure_epoll, EV_READ | EV_PERSIST, divide_on_pressure, s);
  event_add(&s->ev_pressure, NULL);
  return 0;
}

static void divide_disarm(struct server *s) {
  event_del(&s->ev_pressure);
  close(s->pressure_epoll);
  close(s->pressure_fd);
  s->pressure_epoll = s->pressure_fd = -1;
}

void divide_watch_pressure(struct server *s) {
  uint32_t weighted = 0;
  for (const struct domain *d = s->domains; d; d = d->hh.next) weighted += d->weighted;
  bool wanted = s->config.weights && weighted >= 2 && !s->stopping;
  if (wanted == (s->pressure_epoll >= 0)) return;
  if (!wanted) {
    divide_disarm(s);
    return;
  }
  int r = divide_arm(s);
  if (r == 0 || s->pressure_failed) return;
  s->pressure_failed = true;
  log_line(LOG_LEVEL_INFO, "no pressure monitor (%s): weights apply to pools that are awake", strerror(-r));
}
