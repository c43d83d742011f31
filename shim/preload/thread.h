/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_THREAD_H
#define RATION_PRELOAD_THREAD_H
#include <stdbool.h>

/* Before the first thread. */
void thread_init(void);
/* For free mode; false: it is not to be had. */
bool thread_init_free(void);
/* The calling thread, the process's first, becomes an M. */
void thread_adopt_main(void);

/* The program wants the last of the keys.  False: ration has none. */
bool thread_give_key_up(void);
/* Before pthread_exit. */
void thread_main_leaves(void);

/* In a forked child, before any thread is made. */
void thread_fork_child(void);
/* The calling thread is about to end by a raw exit, of which nobody would hear: what ration has of it ends.  Returns, unless it is a thread G. */
void thread_exits_raw(int status);

#endif
