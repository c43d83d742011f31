/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hog looks itself whether its time is over.
 *
 * When a slice or the hogs' part of a frame will be over is known when it begins.  To wake sysmon for it is to wake an idle CPU, for a look of 10 µs that takes 40 there, charged to the
 * quota, and an interrupt for the CPU on which the hog runs.  The hog has a CPU that is awake.
 *
 *   a look, lock held   alarm_set: slot->alarm = when
 *   the M, as it runs   alarm_arm: a timer of the kernel's on its own CPU (of its P: one for each slot that was ever leased)
 *   the timer           interrupts the M, and does nothing else: its signal goes to a thread of ours that has all signals blocked, where it pends for good
 *   BPF                 finds, as in every interrupt of a timer, whom it has interrupted: its alarm rings, it is in user mode: SIGURG
 *   the M's handler     gate.c, alarm_rang: looks at the whole as sysmon would, and stops or sets the next alarm
 *
 * So no signal can hit a system call, as none that BPF sends can.  If the timer finds the M in the kernel, or another thread in its place (the kernel has moved the M), the next tick or the
 * M's next switch in finds the alarm: it is a lower bound.  Should all of this fail sysmon looks, SCHED_ALARM_LOST_NS late.
 *
 * The alarm of a newcomer (alarm_set_roughly) has no timer: as a rule it is gone before, and the tick is exact enough.
 *
 * Rejected: a timer whose signal is the M's.  It would hit system calls.
 */
#include "core/preempt.h"
#include "core/sched.h"

#define NO_TIMER (-1)

/* Never 0, which is no alarm. */
static uint32_t microseconds(uint64_t ns) {
  uint32_t us = (uint32_t)((ns + 999) / 1000);
  return us ? us : 1;
}

/* Is a, not 0, so much before b? */
static int32_t before(uint32_t a, uint32_t b) { return (int32_t)(b - a); }

/* A P of ours can have a timer, as far as is known. */
static bool has_timer(const struct p *p) {
  return atomic_load_explicit(&p->timer, memory_order_relaxed) != NO_TIMER && atomic_load_explicit(&sched.poller_tid, memory_order_relaxed);
}

bool alarm_can(const struct m *m) {
  if (!sched.header || !(SLOT_LOAD(sched.header->caps) & M_CAP_ALARM) || !m_seen_by_bpf(m)) return false;
  return !atomic_load_explicit(&preempt_no_signals, memory_order_relaxed) &&
         atomic_load_explicit(&preempt_signal, memory_order_relaxed) == SIGURG;
}

/* It has no CPU, and maybe is not given one soon: its P is taken from it then (handoff_take_waiting), which only another can do. */
static bool displaced(const struct m *m) { return handoff_off_cpu(m) && !handoff_blocked_now(m); }

/* The alarm is `us`, or before. */
static void not_after(struct m *m, uint32_t us) {
  uint32_t set = SLOT_LOAD(m->slot->alarm);
  if (!set || before(us, set) > 0) SLOT_STORE(m->slot->alarm, us);
}

bool alarm_set(struct m *m, uint64_t at, uint64_t late) {
  SCHED_ASSERT_LOCKED();
  if (!alarm_can(m) || !m->p || !has_timer(m->p) || displaced(m)) return false;
  uint32_t us = microseconds(at);
  not_after(m, us);
  if (m == sched.looks || SLOT_LOAD(m->slot->state) == M_IDLE) return true; /* it arms it when it has looked, or when it runs */
  uint32_t armed = __atomic_load_n(&m->alarm_armed, __ATOMIC_RELAXED);
  return armed && before(us, armed) <= (int32_t)(late / 1000);
}

bool alarm_set_roughly(struct m *m, uint64_t at) {
  SCHED_ASSERT_LOCKED();
  if (!alarm_can(m)) return false;
  not_after(m, microseconds(at));
  return true;
}

bool alarm_rings(const struct m *m) {
  uint32_t at = SLOT_LOAD(m->slot->alarm);
  return at && M_ALARM_RINGS(at, sched_hooks.now());
}

void alarm_clear(struct m *m) {
  SLOT_STORE(m->slot->alarm, 0);
  __atomic_store_n(&m->alarm_armed, 0, __ATOMIC_RELAXED);
}

/* P's timer: 1 + its number, or NO_TIMER.  Who has lost its P and does not know yet may be here too. */
static int timer_of(struct p *p) {
  int timer = atomic_load_explicit(&p->timer, memory_order_relaxed), id = 0;
  int deaf = atomic_load_explicit(&sched.poller_tid, memory_order_relaxed);
  if (timer || !deaf) return timer ? timer : NO_TIMER;
  struct sigevent ev;
  __builtin_memset(&ev, 0, sizeof ev);
  ev.sigev_notify = SIGEV_THREAD_ID;
  ev.sigev_signo = SIGURG;
  ev._sigev_un._tid = deaf;
  int made = raw_syscall3(SYS_timer_create, CLOCK_MONOTONIC, (long)&ev, (long)&id) == 0 ? id + 1 : NO_TIMER;
  if (atomic_compare_exchange_strong_explicit(&p->timer, &timer, made, memory_order_relaxed, memory_order_relaxed)) return made;
  if (made != NO_TIMER) raw_syscall1(SYS_timer_delete, id);
  return timer;
}

/* The time that the alarm stands for, from now on. */
static struct itimerspec time_of(uint32_t alarm) {
  uint64_t now = sched_hooks.now();
  int32_t left = before((uint32_t)(now / 1000), alarm);
  uint64_t at = left > 0 ? (now / 1000 + (uint64_t)left) * 1000 : now;
  return (struct itimerspec){.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}};
}

/*
 * No lock: what is read may be older than what a look sets at this moment, which knows by alarm_armed what it can rely on.  Without a timer the tick finds the alarm, and
 * alarm_armed stays 0.
 */
void alarm_arm(struct m *m) {
  uint32_t alarm = SLOT_LOAD(m->slot->alarm);
  struct p *p = __atomic_load_n(&m->p, __ATOMIC_RELAXED);
  if (!alarm || !p || alarm == m->alarm_armed || __atomic_load_n(&m->g->express, __ATOMIC_RELAXED)) return;
  int timer = timer_of(p);
  struct itimerspec at = time_of(alarm);
  if (timer == NO_TIMER || raw_syscall4(SYS_timer_settime, timer - 1, 1 /* TIMER_ABSTIME */, (long)&at, 0) < 0) return;
  __atomic_store_n(&m->alarm_armed, alarm, __ATOMIC_RELAXED);
}
