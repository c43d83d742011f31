/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_PREEMPT_H
#define RATION_CORE_PREEMPT_H
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

/* The program owns SIGURG itself (signalfd, sigwait): Ms yield at wrappers only.  Set by preload/signal.c. */
extern _Atomic bool preempt_no_signals;

/* What sched_hooks.signal sends: SIGURG, or what preload/signal.c has put in its place. */
extern _Atomic int preempt_signal;

/* Is this signal one that sched_hooks.signal has sent? */
bool preempt_sent(const siginfo_t *si);

#endif
