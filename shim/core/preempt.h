/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_PREEMPT_H
#define RATION_CORE_PREEMPT_H
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The program owns SIGURG itself (signalfd, sigwait), and no other signal could be had: Ms yield at wrappers only.  Set by preload/signal.c. */
extern _Atomic bool preempt_no_signals;

/* What sched_hooks.signal sends: SIGURG, or what preload/signal.c has put in its place. */
extern _Atomic int preempt_signal;

/* It is the latter. */
static inline bool preempt_is_hidden(void) { return atomic_load_explicit(&preempt_signal, memory_order_relaxed) != SIGURG; }

/* M_SIGNAL_HIDDEN is ours from now on, also for BPF. Its handler is there. Takes sched.lock. */
void preempt_hide(void);

/* Tells BPF whether P accounting is on, and so which signal it may send, if any. Lock held. */
void preempt_gated(bool gated);

/* M_CAP_* of BPF, as far as they hold for our signal; none without BPF. Lock held, or of a thread that owns its M. */
uint32_t preempt_caps(void);

/* Signals of ours may have met a handler that was not ours. Takes sched.lock. */
void preempt_lost(void);

/* Is this signal one that sched_hooks.signal has sent? */
bool preempt_sent(const siginfo_t *si);

#endif
