/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handoff: taking the P of an M that is blocked in the kernel, against the M
 * that may be on its way back.  The protocol is in proto/m_slot.h, its model in
 * tests/model/retake.pml.  Called with sched.lock held, so there is one retaker.
 *
 *   with BPF      blocked_at is set from the switch out to the switch in
 *   without BPF   the M is in a wrapper (M_SYSCALL), in a call that blocks for sure (a condition), or in the same as at the last look at least
 *                 SCHED_POLL_MIN_NS ago, and sleeps by what /proc says (Go's sysmon guesses).  One that blocks in a
 *                 raw system call is found by its CPU clock, which stands still, and by /proc.
 */
#include "core/sched.h"
#include "core/preempt.h"

/*
 * It sleeps, and does not only wait for a CPU, as /proc has it: who has answered a client of the same machine is preempted by that in the middle of its call, as a
 * rule.  Asked once a look.
 */
static bool sleeps(struct m *m, uint64_t now) {
  if (m->asked_at != now) m->asleep = sched_hooks.sleeps(m);
  m->asked_at = now;
  return m->asleep;
}

bool handoff_blocked(struct m *m, uint64_t now) {
  struct m_slot *s = m->slot;
  if (m_seen_by_bpf(m)) return __atomic_load_n(&s->blocked_at, __ATOMIC_ACQUIRE) != 0;
  uint32_t tick = __atomic_load_n(&m->systick, __ATOMIC_RELAXED), state = SLOT_LOAD(s->state);
  bool seen = tick == m->seen_systick;
  m->seen_systick = tick;
  if (state == M_SYSCALL && __atomic_load_n(&m->sure_systick, __ATOMIC_RELAXED) == tick) return true;
  if (seen && state == M_SYSCALL) return now - m->seen_at >= SCHED_POLL_MIN_NS && sleeps(m, now);
  m->seen_at = now;
  /* Outside of any wrapper: its CPU clock stands still. */
  return state == M_RUN && sched_waiting() && now - m->cpu_moved_at >= SCHED_POLL_RAW_NS && sleeps(m, now);
}

/* Having set `taken`: is the M really away? */
static bool still_away(struct m *m, uint64_t blocked_at) {
  struct m_slot *s = m->slot;
  if (m_seen_by_bpf(m)) {
    /* If it is still switched out now that `taken` is visible, the switch that brings it back is its barrier. */
    atomic_thread_fence(memory_order_seq_cst);
    return blocked_at != 0 && __atomic_load_n(&s->blocked_at, __ATOMIC_ACQUIRE) == blocked_at;
  }
  if (sched_hooks.barrier() < 0) return false; /* no membarrier: never take what we can't take safely */
  if (SLOT_LOAD(s->state) == M_SYSCALL) return __atomic_load_n(&m->systick, __ATOMIC_RELAXED) == m->seen_systick;
  return SLOT_LOAD(s->state) == M_RUN && sched_hooks.sleeps(m);
}

/*
 * Always with a membarrier, also where BPF tells: an M that BPF did not see come back (bpf/watch.bpf.c, make_up_switch_in) must not be taken for one that the switch in will make
 * look.  If it runs, the interrupt is its barrier, and as a rule makes BPF see its error.
 */
bool handoff_still_away(struct m *m, uint64_t blocked_at) {
  if (sched_hooks.barrier() < 0) return false;
  if (m_seen_by_bpf(m)) return still_away(m, blocked_at);
  return SLOT_LOAD(m->slot->state) == M_RUN && sched_hooks.sleeps(m);
}

bool handoff_blocked_now(const struct m *m) {
  if (m_seen_by_bpf(m)) return __atomic_load_n(&m->slot->blocked_at, __ATOMIC_ACQUIRE) != 0;
  return SLOT_LOAD(m->slot->state) == M_SYSCALL;
}

bool handoff_off_cpu(const struct m *m) {
  return m_seen_by_bpf(m) && SLOT_LOAD(m->slot->state) == M_RUN && __atomic_load_n(&m->slot->oncpu_at, __ATOMIC_ACQUIRE) == 0;
}

/* m, of which `taken` is set and holds, is away without its P. */
static struct p *take(struct m *m, uint64_t now) {
  struct p *p = sched_p_take(m, now);
  m->g->status = G_SYSCALL;
  m->g->since = now;
  return p;
}

/*
 * The P of an M that is ready to run but that the kernel has put aside for others: nobody runs
 * on that P now, and to wait until its M gets a CPU only to give the P up would be waiting for
 * our neighbours.  As with a blocked one, the switch that brings the M back is its
 * barrier.  It goes on in user mode without a P until the next tick, where BPF tells it.
 */
struct p *handoff_take_waiting(struct m *m, uint64_t now) {
  SCHED_ASSERT_LOCKED();
  struct m_slot *s = m->slot;
  if (!handoff_off_cpu(m) || !(preempt_caps() & M_CAP_TICK)) return NULL;
  uint64_t seq = __atomic_load_n(&s->seq, __ATOMIC_ACQUIRE);
  SLOT_STORE(s->taken, 1);
  atomic_thread_fence(memory_order_seq_cst); /* `taken` before the second look, as in still_away */
  if (__atomic_load_n(&s->seq, __ATOMIC_ACQUIRE) != seq || (seq & 1) || SLOT_LOAD(s->state) != M_RUN) {
    SLOT_STORE(s->taken, 0);
    return NULL;
  }
  struct p *p = take(m, now);
  SLOT_STORE(s->preempt, 0);
  m->g->stopped = true;
  return p;
}

/*
 * The P of an M that was granted it and does not come to take it: a handler that ran while it slept was left by longjmp, or by cancellation, and goes on without
 * asking us, maybe to wait for a lock of one that waits for this P.  If it does come now it finds out as one that was retaken
 * does: it stores its state, then reads `taken`, with a fence in between as here.
 */
struct p *handoff_take_unclaimed(struct m *m, uint64_t now) {
  SCHED_ASSERT_LOCKED();
  struct m_slot *s = m->slot;
  if (SLOT_LOAD(s->state) != M_IDLE || now - m->granted_at < SCHED_UNCLAIMED_NS) return NULL;
  SLOT_STORE(s->taken, 1);
  atomic_thread_fence(memory_order_seq_cst); /* pairs with run_again in gate.c */
  if (SLOT_LOAD(s->state) != M_IDLE) {
    SLOT_STORE(s->taken, 0);
    return NULL;
  }
  return take(m, now);
}

struct p *handoff_retake(struct m *m, uint64_t now) {
  SCHED_ASSERT_LOCKED();
  uint64_t blocked_at = __atomic_load_n(&m->slot->blocked_at, __ATOMIC_ACQUIRE);
  SLOT_STORE(m->slot->taken, 1);
  if (!still_away(m, blocked_at)) {
    SLOT_STORE(m->slot->taken, 0); /* an M that saw it waits for the lock, and then finds that it still has its P */
    return NULL;
  }
  return take(m, now);
}
