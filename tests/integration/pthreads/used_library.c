/* SPDX-License-Identifier: Apache-2.0 */
/* What life.c loads before anything else: its constructor, in a process of one thread, uses objects of each kind, and has some of them locked when it ends. */
#include "used_library.h"
#include <errno.h>
#include <time.h>

struct used used = {
    .plain = PTHREAD_MUTEX_INITIALIZER,
    .recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
    .checked = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP,
    .cond = PTHREAD_COND_INITIALIZER,
    .once = PTHREAD_ONCE_INIT,
    .written = PTHREAD_RWLOCK_INITIALIZER,
    .read = PTHREAD_RWLOCK_INITIALIZER,
    .writes = PTHREAD_RWLOCK_INITIALIZER,
    .reads = PTHREAD_RWLOCK_INITIALIZER,
};

static void count(void) { used.onces++; }

__attribute__((constructor)) static void use(void) {
  struct used *u = &used;
  struct timespec past = {1, 0};
  pthread_mutex_lock(&u->plain);
  u->timed = pthread_cond_timedwait(&u->cond, &u->plain, &past) == ETIMEDOUT;
  pthread_mutex_unlock(&u->plain);
  pthread_mutex_lock(&u->plain);
  for (int i = 0; i < 2; i++) pthread_mutex_lock(&u->recursive);
  pthread_mutex_lock(&u->checked);
  sem_init(&u->sem, 0, 1);
  sem_wait(&u->sem);
  for (int i = 0; i < 2; i++) sem_post(&u->sem);
  pthread_barrier_init(&u->barrier, NULL, 1);
  for (int i = 0; i < 3; i++) pthread_barrier_wait(&u->barrier);
  pthread_once(&u->once, count);
  pthread_rwlock_wrlock(&u->written);
  pthread_rwlock_unlock(&u->written);
  pthread_rwlock_rdlock(&u->read);
  pthread_rwlock_unlock(&u->read);
  pthread_rwlock_wrlock(&u->writes);
  for (int i = 0; i < 2; i++) pthread_rwlock_rdlock(&u->reads);
}

void used_once_more(void) { pthread_once(&used.once, count); }
