/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_CLEANUP_H
#define RATION_CORE_CLEANUP_H
/* What pthread_cleanup_push is made of in C; declared in pthread.h only where exceptions are off. */
#include <pthread.h>

extern void __pthread_register_cancel(__pthread_unwind_buf_t *buf);
extern void __pthread_unregister_cancel(__pthread_unwind_buf_t *buf);
extern _Noreturn void __pthread_unwind_next(__pthread_unwind_buf_t *buf);

#endif
