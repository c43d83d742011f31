/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sysmon: a thread without a P that looks at the whole when time alone changes
 * the answer: slices that end, a bucket that empties or fills, Ms blocked
 * where nobody asked.  sched_balance() says until when it may sleep; it sleeps on the member's bell in the pool
 * page, which is rung by sched_kick(), by other processes of the pool and by the page's owner.
 * While nothing is leased it sleeps for good: an idle process makes no wake-ups.
 *
 * Where the kernel can wait for two words at once, it does the monitor's part as well (monitor.c), which saves a thread.
 *
 * It runs without a TCB of glibc's (service.c): no libc function that uses TLS here.
 */
#include "core/carrier.h"
#include "core/gate.h"
#include "core/place.h"
#include "core/procmaps.h"
#include "core/sched.h"
#include "core/service.h"
#include "core/uring.h"
#include "ration/ration.h"

void (*sysmon_owner_tick)(uint64_t now);
bool sysmon_runs;
void (*sysmon_starved)(void);
uint64_t (*sysmon_phase)(uint64_t now);

/*
 * Our own threads are of the cgroup too: what they use is taken out of the bucket like the Gs' use, or the pool spends a few
 * percent more than its quota and is throttled by as much.  Charged whole at every look; the poller, which
 * runs rarely, at most once a tick.
 */
struct service_clock {
  uint64_t cpu, at;
};

static void charge_service(struct service_clock *c, uint32_t tid, uint64_t now, uint64_t every) {
  if (now - c->at < every) return;
  c->at = now;
  uint64_t cpu = sys_thread_cpu_ns(tid), used = cpu - c->cpu;
  bool valid = cpu >= c->cpu && c->cpu != 0; /* else the first reading, or another thread */
  c->cpu = cpu;
  if (valid && used) sched_charge_pool(now, used);
}

static void charge_services(uint64_t now) {
  static struct service_clock own, poller, monitor, uring;
  if (!sched.page || !sched.gated) return;
  charge_service(&own, 0, now, 0);
  uint32_t tid = (uint32_t)sched.poller_tid;
  if (tid) charge_service(&poller, tid, now, SCHED_ACTIVE_TICK_NS);
  tid = (uint32_t)sched.monitor_tid;
  if (tid) charge_service(&monitor, tid, now, SCHED_ACTIVE_TICK_NS);
  tid = uring_tid();
  if (tid) charge_service(&uring, tid, now, SCHED_ACTIVE_TICK_NS);
}

/* shim/free's: how many thread Gs have no kernel thread, and how often one got one, by reason.  Weak: core stands without. */
uint32_t free_count(uint32_t wired[POOL_WIRED]) __attribute__((weak));

static uint32_t member_flags(void) {
  enum ration_mode mode = gate_mode();
  return mode == RATION_MODE_OFF ? POOL_MEMBER_OFF : mode == RATION_MODE_FREE ? POOL_MEMBER_FREE : POOL_MEMBER_LOCKED;
}

/* Gs: those of carriers, which ration_ngs counts, and the threads that are no carriers.  (A thread G that is wired is of the first, its carrier is none of the second.) */
void sysmon_tell_gs(void) {
  if (!sched.page) return;
  struct pool_member *me = &sched.page->members[sched.member];
  int64_t gs = (int64_t)ration_ngs() + sched.nms - __atomic_load_n(&light.ncarriers, __ATOMIC_RELAXED);
  uint32_t wired[POOL_WIRED] = {0}, threads = free_count ? free_count(wired) : 0;
  atomic_store_explicit(&me->ngs, gs < 0 ? 0 : (uint32_t)gs, memory_order_relaxed);
  atomic_store_explicit(&me->nms, sched.nms, memory_order_relaxed);
  atomic_store_explicit(&me->nthreads, threads, memory_order_relaxed);
  for (uint32_t i = 0; i < POOL_WIRED; i++) atomic_store_explicit(&me->wired[i], wired[i], memory_order_relaxed);
}

static void publish_stats(uint64_t now) {
  if (!sched.page) return;
  struct pool_member *me = &sched.page->members[sched.member];
  atomic_store_explicit(&me->beat, now, memory_order_relaxed);
  uint32_t rung = sysmon_owner_tick ? POOL_RUNG_STANDALONE : sched.bpf ? POOL_RUNG_BPF : POOL_RUNG_POLLING;
  atomic_store_explicit(&me->rung, rung, memory_order_relaxed);
  atomic_store_explicit(&me->flags, member_flags(), memory_order_relaxed);
  sysmon_tell_gs();
  atomic_store_explicit(&me->handoffs, sched.stats.handoffs, memory_order_relaxed);
  atomic_store_explicit(&me->retakes, sched.stats.retakes, memory_order_relaxed);
  atomic_store_explicit(&me->preempts, sched.stats.preempts, memory_order_relaxed);
  atomic_store_explicit(&me->wakeups, sched.stats.wakeups, memory_order_relaxed);
  atomic_store_explicit(&me->pauses, sched.stats.pauses, memory_order_relaxed);
}

/* Gs wait and none got a P for long. */
static bool starved(uint64_t now) {
  if (!sched.gated) return false;
  struct g *g = sched.express.head ? sched.express.head : sched.global.head;
  return g && now - g->since > SCHED_STARVED_NS && now - sched.last_grant > SCHED_STARVED_NS;
}

static void look(uint64_t now, uint64_t *until) {
  struct pool_page *pg = sched.page;
  if (pg && atomic_load_explicit(&pg->change, memory_order_acquire) != sched.change)
    sched_reconfigure(now); /* pairs with the owner's release */
  if (sysmon_owner_tick && sched.nheld) sysmon_owner_tick(now);
  uint64_t phase = sched.gated && sysmon_phase ? sysmon_phase(now) : UINT64_MAX;
  charge_services(now);
  lease_publish_wants(); /* of a process that was stopped the owner has struck it out, and rung the bell */
  *until = sched_balance(now);
  if (phase < *until) *until = phase;
  publish_stats(now);
}

#define LAST_LOOK_NS 10000000u

/* Neither the first nor one of ours. */
static bool is_others(uint32_t tid, void *any) {
  *(bool *)any = tid != sys_getpid() && tid != sys_gettid() && !service_is(tid);
  return !*(bool *)any;
}

/* Carriers are Ms: who calls looks at these. */
static bool others_live(void) {
  char buf[4096];
  bool any = false;
  return procmaps_threads(buf, sizeof buf, is_others, &any) < 0 || any;
}

/*
 * The first thread has left by a raw exit, and is waited for with the others: when all of the program's have ended the process would be there for ours.  Where there are carriers, these
 * see to it.
 */
static uint64_t look_for_last(uint64_t now) {
  int status = atomic_load_explicit(&sched_last_status, memory_order_relaxed);
  if (__builtin_expect(status < 0, 1) || sched.nms) return UINT64_MAX;
  if (!others_live()) raw_syscall1(SYS_exit_group, status);
  return now + LAST_LOOK_NS;
}

static bool told_to_end(const struct service *self) { return atomic_load_explicit(&self->stop, memory_order_relaxed); }

/* One look.  False: it is to end. */
static bool own_turn(const struct service *self, struct watch *w, uint64_t overslept) {
  if (told_to_end(self)) return false; /* another may be in its place, for which what follows would be wrong */
  atomic_store_explicit(&sched.sysmon_until, 0, memory_order_relaxed); /* we look anyway: sched_kick need not ring */
  lock_take(&sched.lock);
  w->bell = sched.bell;
  w->rung =
      atomic_load_explicit(w->bell, memory_order_acquire); /* pairs with sched_kick and lease_ring: before the look, so none is lost */
  if (told_to_end(self)) {                                 /* set under the lock, then the bell is rung */
    sched_drop();
    return false;
  }
  uint64_t now = sched_hooks.now();
  sched.overslept = overslept;
  if (sched.gated) place_measure(now);
  sched.leaving = SCHED_LEAVES;
  look(now, &w->until);
  uint64_t last = look_for_last(now);
  if (last < w->until) w->until = last;
  uint64_t trace = trace_deadline();
  if (trace < w->until) w->until = trace;
  atomic_store_explicit(&sched.sysmon_until, w->until, memory_order_relaxed); /* read by sched_kick under the lock */
  bool hungry = starved(now);
  sched_drop();
  if (hungry && sysmon_starved) sysmon_starved();
  trace_tick(now);
  return true;
}

/* Until there is something to do: whether for us (*due), for the monitor (*guest_due), or both.  By how much it was late. */
static uint64_t sleep_both(const struct watch *own, bool *due, const struct watch *guest, bool *guest_due) {
  _Atomic uint32_t *const bells[2] = {own->bell, guest->bell};
  uint64_t until = own->until < guest->until ? own->until : guest->until;
  int woke = sys_futex_wait2(bells, (const uint32_t[2]){own->rung, guest->rung}, until);
  uint64_t now = sched_hooks.now();
  /* Not by looking at the bells: the page of our own may be gone.  Who of them was not woken though it was rung is told by -EAGAIN the next time. */
  *due = woke != 1 && (woke != -ETIMEDOUT || now >= own->until);
  *guest_due = woke != 0 && (woke != -ETIMEDOUT || now >= guest->until);
  if (*guest_due) monitor_awake(); /* else who has something for it rings still */
  return woke == -ETIMEDOUT && now > until ? now - until : 0;
}

/* The same for us alone. */
static uint64_t sleep_own(const struct watch *own) {
  int woke = sys_futex_wait(own->bell, own->rung, own->until, true);
  uint64_t now = woke == -ETIMEDOUT ? sched_hooks.now() : 0;
  return now > own->until ? now - own->until : 0;
}

void sysmon_main(struct service *self) {
  struct watch own = {0}, guest = {0};
  bool due = true, guest_due = true;
  uint64_t overslept = 0;
  for (;;) {
    if ((due || told_to_end(self)) && !own_turn(self, &own, overslept)) return;
    if (monitor_is_guest()) {
      if (guest_due) monitor_turn(&guest);
      overslept = sleep_both(&own, &due, &guest, &guest_due);
    } else {
      overslept = sleep_own(&own);
      due = guest_due = true;
    }
  }
}
