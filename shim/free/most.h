/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_MOST_H
#define RATION_FREE_MOST_H
#include <stdint.h>

/* How many thread Gs there may be at a time: most.c.  Any thread; asks the kernel the first time. */
uint32_t free_most(void);

#endif
