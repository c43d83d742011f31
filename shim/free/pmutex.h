/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_PMUTEX_H
#define RATION_FREE_PMUTEX_H
/* What conditions do with mutexes. */
#include <pthread.h>
#include "sync/lot.h"

#define PMUTEX_WORD(m) ((_Atomic uint32_t *)&(m)->__data.__lock)

/* 0, or EPERM: the type says that only the owner unlocks, and it is not the caller. */
int pmutex_may_unlock(pthread_mutex_t *m);
/* Unlocking it would be counted only: a recursive one that the caller has more than once. */
bool pmutex_stays(pthread_mutex_t *m);
/* The caller begins to wait at a condition with it, or has it again; also of a mutex of the kernel's. */
void pmutex_waits(pthread_mutex_t *m, bool begins);
/* The word has just been locked by the caller, by plock_adopted: the rest of it. */
void pmutex_take(pthread_mutex_t *m);

#endif
