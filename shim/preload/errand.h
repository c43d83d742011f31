/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_ERRAND_H
#define RATION_PRELOAD_ERRAND_H
#include <stdbool.h>
#include <stdio.h>

/* system and popen for a light G, by another thread.  False: the caller is none, or there is no thread to be had. */
bool errand_system(const char *command, int *status);
bool errand_popen(const char *command, const char *mode, FILE **f);

#endif
