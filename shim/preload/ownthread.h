/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_OWNTHREAD_H
#define RATION_PRELOAD_OWNTHREAD_H
/* Calls that change what Linux has for each thread: ownthread.c. */

/* Before such a call of the calling thread: a thread G gets a kernel thread, which ends with it. */
void ownthread_before(void);
void ownthread_before_prctl(int option);
void ownthread_before_syscall(long nr, const long *a);

#endif
