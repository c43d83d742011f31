/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_PTHREADS_USED_LIBRARY_H
#define RATION_TESTS_PTHREADS_USED_LIBRARY_H
#include <pthread.h>
#include <semaphore.h>

/* What was used, and is free; and what is still locked, by main. */
struct used {
  pthread_mutex_t plain, recursive, checked; /* locked; recursive twice */
  pthread_cond_t cond;                       /* was waited at */
  sem_t sem;                                 /* 2 */
  pthread_barrier_t barrier;                 /* of 1, came to thrice */
  pthread_once_t once;
  pthread_rwlock_t written, read; /* free */
  pthread_rwlock_t writes, reads; /* locked; reads twice */
  int timed, onces;
};
extern struct used used;
void used_once_more(void);

#endif
