/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_PTHREADS_TLS_LIBRARY_H
#define RATION_TESTS_PTHREADS_TLS_LIBRARY_H

/* Adds n to both variables of the calling thread; their values, as thousands and ones. */
int tls_library_add(int n);
/* How many bytes of the thread's array nobody has set. */
int tls_library_zeros(void);

#endif
