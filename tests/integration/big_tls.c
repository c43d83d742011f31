/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of a program with 1 MB of thread-local variables, which glibc has on each thread's stack, and ration's libraries below them. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define THREADS 6

static __thread char huge[1000000];

static void *fill(void *arg) {
  memset(huge, 7, sizeof huge);
  nanosleep(&(struct timespec){0, 5000000}, NULL);
  return huge[sizeof huge - 1] == 7 ? arg : NULL;
}

int main(void) {
  pthread_t t[THREADS];
  int fine = 0;
  for (int i = 0; i < THREADS; i++) {
    int e = pthread_create(&t[i], NULL, fill, t);
    if (e) return printf("pthread_create: %s\n", strerror(e)), 1;
  }
  for (int i = 0; i < THREADS; i++) {
    void *r = NULL;
    pthread_join(t[i], &r);
    fine += r != NULL;
  }
  printf("%d threads\n", fine);
}
