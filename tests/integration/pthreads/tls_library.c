/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What local.c loads while threads exist: variables of each thread's own.  Compiled in two ways: large, and reached by a call; and
 * small (TLS_FIXED), at a fixed place that the loader has to find in every thread that there is.
 */
#include "tls_library.h"

#ifdef TLS_FIXED
#define MODEL __attribute__((tls_model("initial-exec")))
#else
#define MODEL
#endif

static __thread MODEL int one = 7;
static __thread MODEL char zeros[TLS_ZEROS];

int tls_library_add(int n) {
  one += n;
  zeros[n] = 1;
  return one;
}

int tls_library_zeros(void) {
  int n = 0;
  for (unsigned i = 0; i < sizeof zeros; i++) n += zeros[i] == 0;
  return n;
}

void tls_library_say(pthread_mutex_t *lock, pthread_cond_t *cond, bool *said) {
  pthread_mutex_lock(lock);
  *said = true;
  pthread_cond_signal(cond);
  pthread_mutex_unlock(lock);
}
