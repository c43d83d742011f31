/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_CLOCK_H
#define RATION_PRELOAD_CLOCK_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Free mode: the clock is that of a thread G by its number. */
bool clock_of_g(clockid_t clock);
/* clock_nanosleep on such a clock: an error number. */
int clock_sleep(clockid_t clock, int flags, const struct timespec *req, struct timespec *rem);
/* Raw clock_gettime, clock_getres, clock_nanosleep, getrusage: true: of a thread G; *r and errno are what the call returns. */
bool clock_raw(long nr, const long *a, long *r);
/* The tid of a thread that is one of the kernel's: its clock's number has it.  0: it has ended. */
uint32_t clock_tid_of(pthread_t t);

#endif
