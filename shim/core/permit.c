/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ms that run by permission, without a P: all while the gate is open (no quota, no daemon's page any more), those with a real-time policy always.
 *
 *   has_p 1, p set     --without_p--> has_p 1, p null: by permission
 *   queued, parked     --let_run----> by permission
 *   by permission      --call_in----> has_p 0, taken 1: it asks for a P at its next step into the scheduler, which a signal brings about
 *
 * All under sched.lock.
 */
#include "core/sched.h"

/* m, which has a P, goes on by permission. */
static struct p *without_p(struct m *m, uint64_t now) {
  struct p *p = sched_p_take(m, now);
  SLOT_STORE(m->slot->has_p, 1);
  return p;
}

/* m waited for a P, and is in no queue any more. */
static void let_run(struct m *m) {
  m->g->status = G_RUNNING;
  SLOT_STORE(m->slot->taken, 0);
  SLOT_STORE(m->slot->has_p, 1);
  atomic_store_explicit(&m->park, 1, memory_order_release); /* pairs with park_m */
  sched_hooks.wake(&m->park, false);
}

void permit_all(uint64_t now) {
  for (uint32_t i = 0; i < sched.top; i++) {
    struct p *p = &sched.ps[i];
    if (p->status == P_NONE) continue;
    if (p->m) without_p(p->m, now);
    lease_release(p);
  }
  struct g *g;
  while ((g = gqueue_pop(&sched.express)) || (g = gqueue_pop(&sched.global))) {
    g->queued = false;
    let_run(g->lockedm);
  }
  lease_publish_wants();
}

/* m runs by permission: called in, to get a P or to wait for one. */
static void call_in(struct m *m, uint64_t now) {
  bool bpf;
  m->cpu_last = m_cpu_ns(m, now, &bpf);
  m->cpu_from_bpf = bpf;
  SLOT_STORE(m->slot->has_p, 0);
  SLOT_STORE(m->slot->taken, 1);
  if (SLOT_LOAD(m->slot->state) == M_RUN) preempt_request(m, now);
}

void permit_none(uint64_t now) {
  for (struct m *m = sched.allm; m; m = m->next) {
    if (m->p || m->gone) continue;
    m->realtime = permit_is_realtime(m->tid);
    if (!m->realtime) call_in(m, now);
  }
}

/* --- real-time threads --- */

/*
 * The quota is of the kernel's fair class only: threads of the others (SCHED_FIFO, SCHED_RR, SCHED_DEADLINE) use none of it and are not throttled.  They run by permission: one that
 * waited for a P which a lesser one holds would have its priority turned upside down.
 */
bool permit_is_realtime(uint32_t tid) {
  long policy = raw_syscall1(SYS_sched_getscheduler, (long)tid);
  return policy >= 0 && (sched_has_priorities((int)policy) || (policy & ~SCHED_RESET_ON_FORK) == SCHED_DEADLINE);
}

void permit_look_policies(void) {
  sched_lock();
  uint64_t now = sched_hooks.now();
  for (struct m *m = sched.gated ? sched.allm : NULL; m; m = m->next) {
    bool is = !m->gone && permit_is_realtime(m->tid);
    if (is == m->realtime) continue;
    sched_charge(m, now);
    m->realtime = is;
    if (!is && !m->p) call_in(m, now);
    if (is && m->p) sched_p_free(without_p(m, now), now, false);
    if (is && m->g->queued) {
      sched_dequeue(m->g);
      let_run(m);
    }
  }
  sched_unlock();
}
