/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ms: from the birth of a thread to its end.  Records come from mappings of our
 * own and are never given back to the kernel (a late signal or a stale event may look at
 * one); they are used again.
 *
 * The table tid -> M slot (proto/m_slot.h) is written here, under sched.lock; BPF reads
 * it: an entry's slot is written before its tid.
 */
#include <string.h>
#include <sys/mman.h>
#include "core/carrier.h"
#include "core/sched.h"

__thread struct m *m_self __attribute__((tls_model("initial-exec")));

#define M_CHUNK_BYTES 65536u

static struct m *chunk, *chunk_end;

struct m *m_alloc(void) {
  sched_lock();
  struct m *m = sched.freem;
  if (m) {
    sched.freem = m->next;
  } else {
    if (chunk == chunk_end) {
      long at = raw_syscall6(SYS_mmap, 0, M_CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (at < 0 && at > -4096) {
        sched_unlock();
        return NULL;
      }
      chunk = (struct m *)at;
      chunk_end = chunk + M_CHUNK_BYTES / sizeof(struct m);
    }
    m = chunk++;
  }
  uint32_t id = m->id ? m->id : ++sched.next_m_id;
  memset(m, 0, sizeof *m);
  m->id = id;
  m->slot_index = UINT32_MAX;
  m->slot = &m->own_slot;
  sched_unlock();
  return m;
}

/* One that m_start never saw. */
void m_free(struct m *m) {
  sched_lock();
  m->next = sched.freem;
  sched.freem = m;
  sched_unlock();
}

static struct m_tids_entry *tids_at(uint32_t i) { return &sched.tids[i / M_TIDS_PER_ELEM].e[i % M_TIDS_PER_ELEM]; }

static bool tids_insert(uint32_t tid, uint32_t slot) {
  uint32_t h = M_TIDS_HASH(tid, sched.nslots), mask = sched.nslots * 2 - 1;
  for (uint32_t k = 0; k < M_TIDS_PROBE; k++) {
    struct m_tids_entry *e = tids_at((h + k) & mask);
    if (e->tid != 0 && e->tid != M_TID_GONE && e->tid != tid) continue;
    SLOT_STORE(e->slot, slot);
    __atomic_store_n(&e->tid, tid, __ATOMIC_RELEASE); /* BPF reads tid, then slot */
    return true;
  }
  return false;
}

static void tids_remove(uint32_t tid) {
  uint32_t h = M_TIDS_HASH(tid, sched.nslots), mask = sched.nslots * 2 - 1;
  for (uint32_t k = 0; k < M_TIDS_PROBE; k++) {
    struct m_tids_entry *e = tids_at((h + k) & mask);
    if (e->tid == tid) SLOT_STORE(e->tid, M_TID_GONE);
  }
}

static bool slot_is_current(const struct m *m) { return sched.slots && m->slot >= sched.slots && m->slot < sched.slots + sched.nslots; }

struct m_slot *m_slot_current(struct m *m) {
  if (!sched.slots || slot_is_current(m) || m->slot_index == UINT32_MAX - 1) return m->slot;
  return sched.nslot_free ? &sched.slots[sched.slot_free[sched.nslot_free - 1]] : m->slot;
}

void m_place_slot(struct m *m) {
  SCHED_ASSERT_LOCKED();
  if (!sched.slots || slot_is_current(m)) return;
  if (sched.nslot_free == 0) return;
  uint32_t i = sched.slot_free[sched.nslot_free - 1];
  if (!tids_insert(m->tid, i)) {
    m->slot_index = UINT32_MAX - 1; /* no room near its hash: it stays on the polling rung */
    return;
  }
  sched.nslot_free--;
  struct m_slot *s = &sched.slots[i], *old = m->slot;
  struct m_slot fresh = {.state = old->state,
                         .taken = old->taken,
                         .has_p = old->has_p,
                         .preempt = old->preempt,
                         .tid = m->tid,
                         .alarm = old->alarm,
                         .carrier = m->carrier != NULL};
  *s = fresh; /* seq 0: BPF has not seen it yet (m_seen_by_bpf) */
  m->slot_index = i;
  __atomic_store_n(&m->slot, s, __ATOMIC_RELEASE); /* sysmon reads it under the lock, the thread itself is here */
}

void m_forget_switches(void) {
  SCHED_ASSERT_LOCKED();
  for (struct m *m = sched.allm; m; m = m->next) {
    if (!slot_is_current(m)) continue;
    __atomic_store_n(&m->slot->seq, 0, __ATOMIC_RELAXED); /* m_seen_by_bpf: until its next switch */
    __atomic_store_n(&m->slot->oncpu_at, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&m->slot->blocked_at, 0, __ATOMIC_RELAXED);
  }
}

/* The daemon may still be putting our map in place when it welcomes us; until BPF has touched a slot it says nothing. */
bool m_seen_by_bpf(const struct m *m) { return sched.bpf && slot_is_current(m) && __atomic_load_n(&m->slot->seq, __ATOMIC_ACQUIRE) != 0; }

uint64_t m_cpu_ns(const struct m *m, uint64_t now, bool *from_bpf) {
  const struct m_slot *s = m->slot;
  *from_bpf = m_seen_by_bpf(m);
  if (!*from_bpf && sys_is_aside()) return m->cpu_last; /* nobody is charged any more */
  if (!*from_bpf) return sched_hooks.cpu_ns(m);
  for (int i = 0; i < 3; i++) { /* a seqlock of BPF's: seq moves at every switch */
    uint64_t seq = __atomic_load_n(&s->seq, __ATOMIC_ACQUIRE);
    uint64_t cpu = __atomic_load_n(&s->cpu_ns, __ATOMIC_RELAXED);
    uint64_t on = __atomic_load_n(&s->oncpu_at, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_acquire);
    if (__atomic_load_n(&s->seq, __ATOMIC_RELAXED) == seq) return cpu + (on && on < now ? now - on : 0);
  }
  return m->cpu_last;
}

uint32_t m_tids(uint32_t *tids, uint32_t most) {
  uint32_t n = 0;
  sched_lock();
  for (const struct m *m = sched.allm; m; m = m->next, n++)
    if (n < most) tids[n] = m->tid * 2 + m->rations;
  sched_unlock();
  return n;
}

void m_start(struct m *m, const struct fair *inherit) {
  m->tid = sys_gettid();
  m->changed = false;
  m->locks = 1;
  m->lock_systick = m->systick - 1; /* no such call */
  m->g = &m->g0;
  m->g0.kind = G_WIRED;
  m->g0.lockedm = m;
  m->g0.newborn = inherit != NULL;
  if (inherit) m->g0.fair = *inherit;
  m->own_slot.tid = m->tid;
  m->own_slot.state = M_OPEN;
  m_self = m;
  atomic_signal_fence(memory_order_seq_cst);
  lock_take(&sched.lock);
  m->realtime =
      sched.gated && permit_is_realtime(m->tid); /* where the gate is open it does not matter, and there may be a filter of system calls */
  m->g0.id = ++sched.next_g_id;
  m->prev = NULL;
  m->next = sched.allm;
  if (sched.allm) sched.allm->prev = m;
  sched.allm = m;
  sched.nms++;
  sysmon_tell_gs();
  /* Half a share at most: what its creator did is no news of what it will do; a newborn hog is soon found out (FAIR_BIRTH_NS). */
  uint64_t half = sched.page ? sched_my_share(1) / 2 : 0;
  if (m->g0.fair.usage > half) m->g0.fair.usage = half;
  m_place_slot(m);
  m->cpu_last = m_cpu_ns(m, sched_hooks.now(), &m->cpu_from_bpf);
  SLOT_STORE(m->slot->has_p, 0);
  SLOT_STORE(m->slot->taken, 1);
  SLOT_STORE(m->slot->state, M_SYSCALL);
  sched_drop();
  m_release(m);
  m_exitsyscall(m); /* gets a P as after any system call */
}

static void leave_slot(struct m *m) {
  tids_remove(m->tid);
  SLOT_STORE(m->slot->state, M_FREE);
  SLOT_STORE(m->slot->tid, 0);
  sched.slot_free[sched.nslot_free++] = m->slot_index;
}

void m_exit(struct m *m) {
  m_hold(m);
  SLOT_STORE(m->slot->state, M_OPEN);
  lock_take(&sched.lock);
  uint64_t now = sched_hooks.now();
  struct p *p = sched_p_take(m, now);
  m->gone = true;
  m->g0.status = G_DEAD;
  sched_dequeue(&m->g0);
  if (m->g0.stopped && sched.nstrays) sched.nstrays--;
  if (m->prev)
    m->prev->next = m->next;
  else
    sched.allm = m->next;
  if (m->next) m->next->prev = m->prev;
  sched.nms--;
  sysmon_tell_gs();
  if (slot_is_current(m)) leave_slot(m);
  if (p) {
    sched.leaving = SCHED_LEAVES;
    sched_p_free(p, now, false);
    if (sched.nheld) sched_kick(now + SCHED_ACTIVE_TICK_NS);
  }
  if (atomic_load_explicit(&sched_last_status, memory_order_relaxed) >= 0) sched_kick(now); /* it may have been the last */
  sched_drop();
  m->slot = &m->own_slot;
  SLOT_STORE(m->own_slot.state, M_OPEN);
  m_release(m);
  m_self = NULL;
  m_free(m);
  carrier_m_gone();
}

/* In a forked child: of all Ms only the caller's goes on, with nothing shared. */
void m_forget_others(struct m *self) {
  sched.allm = self;
  sched.freem = NULL; /* their records stay unused: a copy of the parent's memory, a few hundred bytes each */
  sched.nms = self != NULL;
  if (!self) return;
  struct m_slot *s = self->slot;
  if (s != &self->own_slot) {
    self->own_slot = *s; /* the parent's, in a map that we share with it: its state is of now, and not of when it forked */
    self->own_slot.state = self->park_sp ? M_IDLE : M_RUN;
  }
  self->slot = &self->own_slot;
  self->slot_index = UINT32_MAX;
  self->own_slot.taken = 0;
  self->own_slot.preempt = 0;
  self->own_slot.alarm = 0;
  self->own_slot.has_p = 1;
  self->own_slot.urg = 0;
  self->own_slot.tid = self->tid = sys_gettid();
  self->p = NULL;
  self->next = self->prev = NULL;
  self->cpu_last = 0;
  self->preempt_at = 0;
  self->locks = 0;
  /* It may be a handler that forked, on top of park_m: nobody else is here to grant it a P when it is back there. */
  atomic_store_explicit(&self->park, self->park_sp != 0, memory_order_relaxed);
  self->park_sp = 0;
  atomic_store_explicit(&self->sent, 0, memory_order_relaxed);
  self->g0.queued = false;
  self->g0.status = G_RUNNING;
}
