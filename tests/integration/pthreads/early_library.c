/* SPDX-License-Identifier: Apache-2.0 */
/* What life.c loads before anything else: its constructor makes threads, which wait for each kind of object. */
#include "early_library.h"
#include <semaphore.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t sem;
static int ready;
static pthread_t threads[EARLY];

static void *for_condition(void *arg) {
  pthread_mutex_lock(&lock);
  while (!ready) pthread_cond_wait(&cond, &lock);
  pthread_mutex_unlock(&lock);
  return arg;
}
static void *for_semaphore(void *arg) {
  sem_wait(&sem);
  return arg;
}
static void *for_barrier(void *arg) {
  pthread_barrier_wait(&barrier);
  return arg;
}
static void *for_mutex(void *arg) {
  pthread_mutex_lock(&held);
  pthread_mutex_unlock(&held);
  return arg;
}

__attribute__((constructor)) static void begin(void) {
  static void *(*kinds[EARLY])(void *) = {for_condition, for_semaphore, for_barrier, for_mutex};
  struct timespec ts = {0, 50000000};
  sem_init(&sem, 0, 0);
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_mutex_lock(&held);
  for (int i = 0; i < EARLY; i++) pthread_create(&threads[i], NULL, kinds[i], (void *)kinds);
  nanosleep(&ts, NULL);
}

int early_library_end(void) {
  int good = 0;
  pthread_mutex_lock(&lock);
  ready = 1;
  pthread_cond_signal(&cond);
  pthread_mutex_unlock(&lock);
  sem_post(&sem);
  pthread_barrier_wait(&barrier);
  pthread_mutex_unlock(&held);
  for (int i = 0; i < EARLY; i++) {
    void *r = NULL;
    good += pthread_join(threads[i], &r) == 0 && r != NULL;
  }
  return good;
}
