/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_SETXID_H
#define RATION_FREE_SETXID_H
#include <pthread.h>

/* In glibc's signal for credentials: the thread pointer that its handler is to find. */
void *setxid_tp(void);
/*
 * The calling kernel thread, all signals blocked, is about to end as `self` without glibc, which finds its tid there no more: it answers if it has been asked, as
 * glibc's threads do at their end.
 */
void setxid_answer(pthread_t self);

#endif
