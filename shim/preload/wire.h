/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_WIRE_H
#define RATION_PRELOAD_WIRE_H
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

struct thread;
/* The thread G whose tid is one of ours; it may have a thread of the kernel's by now.  Null: none. */
struct thread *wire_thread_by_tid(pid_t tid);

/* tkill, tgkill, rt_tgsigqueueinfo: true: they are for a thread G, by the tid that gettid gives it; *r and errno are what the call returns. */
bool wire_raw_kill(long nr, const long *a, long *r);
/* Some thread has got this policy. */
void wire_policy_set(int policy);
/* The affinity of t is about to be set: a thread G gets a thread of the kernel's first. */
void wire_for_affinity(pthread_t t);
/* Whose affinity t has: -1: its own; else the tid of a thread of ration's. */
pid_t wire_affinity_of(pthread_t t);

#endif
