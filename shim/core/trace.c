/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RATION_DEBUG=schedtrace=1000: every so many ms one line in the manner of Go's
 * schedtrace, to stderr or to tracefile=PATH.  Written by sysmon, which has the file as its descriptor 0.
 * A process that has light Gs gets their part after "light:", with the length of each P's queue in brackets; with scheddetail=1
 * also a line for each P (core/light.c, pq), carrier and G.
 */
#include "core/trace.h"
#include <fcntl.h>
#include <string.h>
#include "core/carrier.h"
#include "core/gate.h"
#include "core/gdump.h"
#include "core/out.h"
#include "core/sched.h"

#define DETAIL_GS 1000u /* lines a time */

static uint64_t period, next, start;
static char file[256];
static bool detail;
static uint32_t detail_left;

void trace_init(const char *debug) {
  if (!debug) return;
  const char *at = strstr(debug, "schedtrace=");
  uint64_t ms = 0;
  if (at)
    for (at += sizeof "schedtrace=" - 1; *at >= '0' && *at <= '9' && ms < 1000000; at++) ms = ms * 10 + (uint64_t)(*at - '0');
  const char *d = strstr(debug, "scheddetail=");
  detail = d && d[sizeof "scheddetail=" - 1] == '1';
  const char *path = strstr(debug, "tracefile=");
  if (path) {
    path += sizeof "tracefile=" - 1;
    size_t n = strcspn(path, ",");
    if (n < sizeof file) memcpy(file, path, n), file[n] = 0;
  }
  period = ms * 1000000u;
  start = sched_hooks.now();
  next = start + period;
}

bool trace_wanted(void) { return period != 0; }

int trace_open(void) {
  if (period == 0) return -1;
  if (file[0]) return (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  return (int)raw_syscall3(SYS_fcntl, 2, F_DUPFD_CLOEXEC, 3);
}

uint64_t trace_deadline(void) { return period ? next : UINT64_MAX; }

/* --- light Gs --- */

static uint64_t id_of(const struct g *g) { return g ? g->id : 0; }

/* In the words of Go's. */
static void put_light(struct out *o) {
  lock_take(&light.lock);
  uint64_t idle = atomic_load_explicit(&light.idle_pqs, memory_order_relaxed);
  out_str(o, " light:");
  out_pair(o, "gomaxprocs", light.npqs);
  out_pair(o, "idleprocs", __builtin_popcountll(idle));
  out_pair(o, "carriers", light.ncarriers);
  out_pair(o, "spinningcarriers", atomic_load_explicit(&light.nspinning, memory_order_relaxed));
  out_pair(o, "idlecarriers", light.nidle + (light.poller != NULL));
  out_pair(o, "wiredcarriers", light.nwired);
  out_pair(o, "netpollwaiters", netpoll_waiters());
  out_pair(o, "runqueue", light.global.len);
  lock_drop(&light.lock);
  out_str(o, " [");
  for (uint32_t i = 0; i < light.npqs; i++) {
    if (i) out_str(o, " ");
    out_num(o, runq_len(&light.pqs[i].runq));
  }
  out_str(o, "]");
}

/* scheddetail: what moves meanwhile is as it was at one moment or another. */

static void put_m(struct out *o, const char *name, const struct carrier *c) {
  out_str(o, " ");
  out_str(o, name);
  out_str(o, "=");
  if (c && c->m)
    out_num(o, c->m->id);
  else
    out_str(o, "nil");
}

static void put_pq(struct out *o, struct pq *pq) {
  static const char *const names[] = {"idle", "running", "syscall", "taken"};
  uint32_t st = atomic_load_explicit(&pq->status, memory_order_relaxed);
  out_str(o, "  P");
  out_num(o, pq->id);
  out_str(o, ":");
  out_pair(o, "status", st);
  out_str(o, "(");
  out_str(o, st < 4 ? names[st] : "?");
  out_str(o, ")");
  out_pair(o, "schedtick", GLANCE(pq->tick));
  put_m(o, "m", atomic_load_explicit(&pq->carrier, memory_order_relaxed));
  out_pair(o, "runqsize", runq_len(&pq->runq));
  out_pair(o, "later", __atomic_load_n(&pq->later.len, __ATOMIC_RELAXED));
  out_pair(o, "gfreecnt", __atomic_load_n(&pq->stacks.n, __ATOMIC_RELAXED));
  out_pair(o, "timerslen", __atomic_load_n(&pq->timers.n, __ATOMIC_RELAXED));
  out_str(o, "\n");
}

static void put_carrier(struct out *o, struct carrier *c) {
  struct pq *pq = __atomic_load_n(&c->pq, __ATOMIC_RELAXED);
  const struct g *g = __atomic_load_n(&c->g, __ATOMIC_RELAXED), *wired = __atomic_load_n(&c->wired_g, __ATOMIC_RELAXED);
  struct m *m = __atomic_load_n(&c->m, __ATOMIC_RELAXED);
  out_str(o, "  M");
  out_num(o, m ? m->id : 0);
  out_str(o, ":");
  out_pair(o, "tid", m ? m->tid : 0);
  out_pair(o, "p", pq ? (int64_t)pq->id : -1);
  out_pair(o, "curg", (int64_t)id_of(g));
  out_pair(o, "locks", m ? __atomic_load_n(&m->locks, __ATOMIC_RELAXED) : 0);
  out_pair(o, "syscalltick", atomic_load_explicit(&c->syscalls, memory_order_relaxed));
  out_str(o, c->spinning ? " spinning=true" : " spinning=false");
  out_str(o, c == GLANCE(light.poller) ? " polling=true" : " polling=false");
  out_pair(o, "lockedg", (int64_t)id_of(wired));
  out_str(o, "\n");
}

static bool put_g(struct g *g, void *arg) {
  struct out *o = arg;
  if (g->id == 0 || g->kind == G_WIRED || g->status == G_DEAD) return true;
  const struct m *locked = __atomic_load_n(&g->lockedm, __ATOMIC_RELAXED);
  out_str(o, "  G");
  out_num(o, g->id);
  out_str(o, ":");
  out_pair(o, "status", g->status);
  out_str(o, "(");
  out_str(o, gdump_state(g, locked && g->status == G_RUNNABLE));
  out_str(o, ")");
  if (g->name[0]) {
    out_str(o, " name=");
    out_bytes(o, g->name, strnlen(g->name, sizeof g->name));
  }
  out_str(o, locked ? " lockedm=" : " lockedm=nil\n");
  if (locked) {
    out_num(o, locked->id);
    out_str(o, "\n");
  }
  return --detail_left != 0;
}

static void put_detail(struct out *o) {
  for (uint32_t i = 0; i < light.npqs; i++) put_pq(o, &light.pqs[i]);
  lock_take(&light.lock);
  struct carrier *c = light.carriers; /* the list only grows, at its head */
  lock_drop(&light.lock);
  for (; c; c = c->all) put_carrier(o, c);
  detail_left = DETAIL_GS;
  light_each(put_g, o);
}

void trace_tick(uint64_t now) {
  if (period == 0 || now < next) return;
  next = now + period;
  bool lights = __atomic_load_n(&light.started, __ATOMIC_ACQUIRE) && light.npqs; /* pairs with light_start */
  struct out o = {.fd = 0};
  out_str(&o, "SCHED ");
  out_num(&o, (now - start) / 1000000u);
  out_str(&o, "ms:");
  lock_take(&sched.lock);
  out_pair(&o, "gomaxprocs", gate_ncpus());
  out_pair(&o, "gated", sched.gated);
  out_pair(&o, "held", sched.nheld);
  out_pair(&o, "threads", sched.nms);
  out_pair(&o, "newcomers", sched.express.len);
  out_pair(&o, "runqueue", sched.global.len);
  int64_t tokens = sched.page && sched.gated ? lease_tokens(now) : 0;
  out_pair(&o, "tokens_us", tokens == INT64_MAX ? 0 : tokens / 1000); /* that: there is no quota */
  out_pair(&o, "paced", sched.paced);
  out_pair(&o, "charged_ms",
           sched.page ? (int64_t)(atomic_load_explicit(&sched.page->members[sched.member].charged, memory_order_relaxed) / 1000000u) : 0);
  out_pair(&o, "handoffs", (int64_t)sched.stats.handoffs);
  out_pair(&o, "retakes", (int64_t)sched.stats.retakes);
  out_pair(&o, "preempts", (int64_t)sched.stats.preempts);
  out_pair(&o, "signals", (int64_t)sched.stats.signals);
  out_pair(&o, "wakeups", (int64_t)sched.stats.wakeups);
  out_pair(&o, "pauses", (int64_t)sched.stats.pauses);
  out_pair(&o, "placed", (int64_t)__atomic_load_n(&sched.stats.placed, __ATOMIC_RELAXED));
  out_pair(&o, "bpf", sched.bpf);
  sched_drop();
  if (lights) put_light(&o);
  out_str(&o, "\n");
  if (lights && detail) put_detail(&o);
  out_flush(&o);
}
