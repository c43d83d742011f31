/* SPDX-License-Identifier: Apache-2.0 */
/* Free mode, as seen from the pthread objects: free.h. */
#include "free/free.h"
#include <pthread.h>
#include "core/sys.h"

bool free_mode;

uint32_t free_self_id(void) { return sys_gettid(); }

struct ration_context *free_cancel_context(void) { return NULL; }

void free_testcancel(void) { pthread_testcancel(); }
