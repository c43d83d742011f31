/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_PTHREADS_EARLY_LIBRARY_H
#define RATION_TESTS_PTHREADS_EARLY_LIBRARY_H
#include <pthread.h>
#include <time.h>

#define EARLY 4
/* Lets the threads of its constructor end; how many of EARLY did. */
int early_library_end(void);

#endif
