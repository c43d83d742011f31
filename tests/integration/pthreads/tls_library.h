/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_PTHREADS_TLS_LIBRARY_H
#define RATION_TESTS_PTHREADS_TLS_LIBRARY_H

#include <pthread.h>
#include <stdbool.h>

#ifdef TLS_FIXED
#define TLS_ZEROS 64
#else
#define TLS_ZEROS (64 << 10)
#endif

/* Adds n to the calling thread's variable (7 at first), and sets byte n of its array; the variable's value. */
int tls_library_add(int n);
/* How many bytes of the thread's array nobody has set. */
int tls_library_zeros(void);
/* Sets *said, and wakes who waits for that. */
void tls_library_say(pthread_mutex_t *lock, pthread_cond_t *cond, bool *said);
/* code_library.c: runs code on the caller's stack; 42. */
int code_on_stack(void);

#endif
