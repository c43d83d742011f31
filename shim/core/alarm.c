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
 * So no signal can hit a system call, as none that BPF sends can.  An M that is in the kernel finds `preempt` set when it leaves a wrapper, or is told at the next tick that finds it in its own
 * code.  Where another thread is found in its place (the kernel has moved the M, or runs others) the next tick, or its next switch in, finds the alarm: it is a lower bound.
 *
 * A hog that has no CPU cannot look.  Who is known to have none has no alarm; whose alarm was answered more than TOO_LATE_NS late shows that the kernel runs others here (or throttles us), or that its
 * timers' interrupts don't reach the M (nohz_full): then it is sysmon that looks, for DISTRUST_NS, and can take the P of one that is displaced.  Should all of this fail, sysmon looks SCHED_ALARM_LOST_NS late.
 *
 * The alarm of a newcomer (alarm_set_roughly) has no timer: as a rule it is gone before, and the tick is exact enough.
 *
 * Rejected: a timer whose signal is the M's.  It would hit system calls.
 */
#include "core/preempt.h"
#include "core/sched.h"

#define NO_TIMER (-1)
#define TOO_LATE_NS 3000000u
#define DISTRUST_NS 1000000000u
#define AHEAD_US 20u /* at least: an interrupt before the M is back in its own code finds nobody to tell */

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
  if (!(preempt_caps() & M_CAP_ALARM) || !m_seen_by_bpf(m)) return false;
  return !atomic_load_explicit(&preempt_no_signals, memory_order_relaxed);
}

/* It has no CPU, and maybe is not given one soon: its P is taken from it then (handoff_take_waiting), which only another can do. */
static bool displaced(const struct m *m) { return handoff_off_cpu(m) && !handoff_blocked_now(m); }

/* The alarm is `us`, or before. */
static void not_after(struct m *m, uint32_t us) {
  uint32_t set = SLOT_LOAD(m->slot->alarm);
  if (!set || before(us, set) > 0) SLOT_STORE(m->slot->alarm, us);
}

/* Alarms are answered in time, as of late. */
static bool in_time(void) { return sched.late_at == 0 || sched_hooks.now() - sched.late_at > DISTRUST_NS; }

bool alarm_set(struct m *m, uint64_t at, uint64_t late) {
  SCHED_ASSERT_LOCKED();
  if (!alarm_can(m) || !m->p || !has_timer(m->p) || displaced(m) || !in_time()) return false;
  uint32_t us = microseconds(at);
  not_after(m, us);
  atomic_thread_fence(memory_order_seq_cst);                                /* alarm before state; run_again has it the other way round */
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

bool alarm_rings(const struct m *m, uint64_t now) {
  uint32_t at = SLOT_LOAD(m->slot->alarm);
  return at && M_ALARM_RINGS(at, now);
}

void alarm_clear(struct m *m) {
  SLOT_STORE(m->slot->alarm, 0);
  __atomic_store_n(&m->alarm_armed, 0, __ATOMIC_RELAXED);
}

/*
 * As a rule a look follows, which knows better. Where none does (a hog that blocks hands its P on), what was known of the P's time holds for the next as well: too early is never wrong.  So does the
 * timer, as the next has the CPU of the last, as a rule (place.c): a hand-off is no slower for it, and elsewhere the tick finds the alarm.
 */
void alarm_taken(struct p *p, struct m *m, uint64_t now) {
  if (p) {
    p->alarm = alarm_rings(m, now) ? microseconds(now) : SLOT_LOAD(m->slot->alarm);
    p->armed = p->alarm && p->alarm == __atomic_load_n(&m->alarm_armed, __ATOMIC_RELAXED);
  }
  alarm_clear(m);
}

void alarm_pass_on(struct p *p, struct m *m) {
  alarm_clear(m);
  if (p->alarm && alarm_can(m)) {
    SLOT_STORE(m->slot->alarm, p->alarm);
    if (p->armed) __atomic_store_n(&m->alarm_armed, p->alarm, __ATOMIC_RELAXED);
    m->alarm_systick = m->systick - 1; /* if it is late that says nothing (alarm_answered) */
  }
  p->alarm = 0;
}

/* By how many ns the time of m's alarm has passed, if it has a timer. */
static uint64_t late_by(const struct m *m, uint64_t now) {
  bool armed = __atomic_load_n(&m->alarm_armed, __ATOMIC_RELAXED) != 0;
  return armed && alarm_rings(m, now) ? (uint64_t)((uint32_t)(now / 1000) - SLOT_LOAD(m->slot->alarm)) * 1000 : 0;
}

/* One that has made a call meanwhile may have been blocked, or long in the kernel: that says nothing of CPUs. */
uint64_t alarm_answered(struct m *m, uint64_t now) {
  SCHED_ASSERT_LOCKED();
  uint64_t late = m->alarm_systick == m->systick ? late_by(m, now) : 0;
  alarm_clear(m);
  if (late >= TOO_LATE_NS) sched.late_at = now;
  return late;
}

void alarm_displaced(const struct m *m, uint64_t now) {
  if (displaced(m) && late_by(m, now) >= TOO_LATE_NS) sched.late_at = now;
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
  uint64_t at = (now / 1000 + (left > (int32_t)AHEAD_US ? (uint64_t)left : AHEAD_US)) * 1000;
  return (struct itimerspec){.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}};
}

/*
 * No lock: what is read may be older than what a look sets at this moment, which knows by alarm_armed what it can rely on.  Without a timer the tick finds the alarm, and
 * alarm_armed stays 0.
 */
void alarm_arm(struct m *m) {
  uint32_t alarm = SLOT_LOAD(m->slot->alarm);
  struct p *p = __atomic_load_n(&m->p, __ATOMIC_RELAXED);
  if (!alarm || !p || alarm == __atomic_load_n(&m->alarm_armed, __ATOMIC_RELAXED) || __atomic_load_n(&m->g->express, __ATOMIC_RELAXED))
    return;
  int timer = timer_of(p);
  struct itimerspec at = time_of(alarm);
  if (timer == NO_TIMER || raw_syscall4(SYS_timer_settime, timer - 1, 1 /* TIMER_ABSTIME */, (long)&at, 0) < 0) return;
  m->alarm_systick = m->systick;
  __atomic_store_n(&m->alarm_armed, alarm, __ATOMIC_RELAXED);
}

void alarm_arm_again(struct m *m) {
  if (alarm_rings(m, sched_hooks.now())) __atomic_store_n(&m->alarm_armed, 0, __ATOMIC_RELAXED);
  alarm_arm(m);
}
