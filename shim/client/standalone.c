/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of our own, where no daemon is: the same page, private, with us as the only member and its owner.
 * The quota is read with the daemon's own code (quota.c); the poller
 * has inotify on its files, sysmon looks once a second while Ps are leased, and at every tick takes what the cgroup used besides us out of the bucket.
 */
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include "client/client.h"
#include "client/env.h"
#include "core/sched.h"
#include "daemon/quota.h"
#include "pool_params.h"

#define REREAD_NS 1000000000u
#define WATCHES_MOST 128u

static struct quota *quota;
static struct quota_meter meter;
static struct pool_strangers strangers;
static uint64_t read_at;

static void fill_page(struct pool_page *pg) {
  struct pool_params p = page_params((struct pool_params_in){
      .cpu_micro = quota->cpu_micro,
      .period_us = quota->period_us,
      .burst_us = quota->burst_us,
      .cpus_allowed = quota->cpus_allowed,
      .margin_ppm = POOL_MARGIN_AUTO,
  });
  atomic_store_explicit(&pg->nslots, p.nslots, memory_order_relaxed);
  atomic_store_explicit(&pg->nexpress, p.nexpress, memory_order_relaxed);
  atomic_store_explicit(&pg->ncpus, p.ncpus, memory_order_relaxed);
  atomic_store_explicit(&pg->rate, p.rate, memory_order_relaxed);
  atomic_store_explicit(&pg->credit_us, p.credit_us, memory_order_relaxed);
  atomic_store_explicit(&pg->debt_us, p.debt_us, memory_order_relaxed);
  atomic_store_explicit(&pg->flags, p.flags | POOL_F_STANDALONE, memory_order_relaxed);
  atomic_fetch_add_explicit(&pg->change, 1, memory_order_release); /* pairs with the acquire in sched_reconfigure */
}

static bool have_room(void) {
  if (quota) return true;
  long q = raw_syscall6(SYS_mmap, 0, sizeof *quota, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (q < 0 && q > -4096) return false;
  quota = (struct quota *)q;
  return true;
}

const struct quota *standalone_quota(void) {
  if (!have_room()) return NULL;
  if (!sysmon_owner_tick) quota_find(quota, &quota_fs_host, 0); /* attached: nobody keeps it up to date */
  return quota;
}

struct pool_page *standalone_page(void) {
  if (!have_room()) return NULL;
  long at = raw_syscall6(SYS_mmap, 0, POOL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return NULL;
  struct pool_page *pg = (struct pool_page *)at;
  quota_find(quota, &quota_fs_host, 0); /* whatever is wrong, the result is usable */
  quota_meter_domain(&meter, quota);
  memset(&strangers, 0, sizeof strangers);
  read_at = sched_hooks.now();
  pg->magic = POOL_MAGIC;
  pg->version = POOL_VERSION;
  pg->size = POOL_PAGE_SIZE;
  atomic_store_explicit(&pg->nmembers, 1, memory_order_relaxed);
  atomic_store_explicit(&pg->members[0].gen, 1, memory_order_relaxed);
  atomic_store_explicit(&pg->tat, read_at, memory_order_relaxed);
  fill_page(pg);
  return pg;
}

static void correct(struct pool_page *pg, uint64_t now) {
  static uint64_t last;
  uint64_t usage;
  if (now - last < SCHED_ACTIVE_TICK_NS) return;
  last = now;
  if (quota_usage_ns(&meter, &quota_fs_host, &usage) < 0) return;
  pool_take_tokens(pg, now, pool_strangers_due(&strangers, usage, atomic_load_explicit(&pg->charged, memory_order_relaxed)));
}

void standalone_reread(uint64_t now) {
  struct pool_page *pg = sched.page;
  bool changed = false;
  int r = quota_refresh(quota, &quota_fs_host, &changed);
  if (r == -ENODEV || quota_moved(quota, &quota_fs_host) == 1) {
    quota_find(quota, &quota_fs_host, 0);
    changed = true;
  }
  read_at = now;
  if (!changed) return;
  quota_meter_domain(&meter, quota); /* the domain may be another one */
  strangers.known = false;
  fill_page(pg);
  phase_forget();
  sched_reconfigure(now);
}

void standalone_watch(int inotify) {
  char path[QUOTA_FILE_MAX];
  for (unsigned i = 0; i < WATCHES_MOST && quota_watch_path(quota, i, path, sizeof path) != -ENOENT; i++)
    raw_syscall3(SYS_inotify_add_watch, inotify, (long)path, IN_MODIFY);
}

void standalone_tick(unsigned long now) {
  struct pool_page *pg = sched.page;
  if (atomic_load_explicit(&pg->rate, memory_order_relaxed)) correct(pg, now);
  if (now - read_at >= REREAD_NS) standalone_reread(now); /* a move to another cgroup, which no file tells */
}
