/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_ROBUST_H
#define RATION_FREE_ROBUST_H
/* Robust mutexes of wired thread Gs: robust.c. */
#include <stdbool.h>

struct robust_list_head;

/* The calling kernel thread's list; null: it has none. */
struct robust_list_head *robust_list(void);
/* It is `list` from now on. */
void robust_set_list(struct robust_list_head *list);
/*
 * The calling thread ends, in glibc's eyes: those who wait for its robust mutexes are told, and the list is empty.  ends: its kernel thread may end with it, if this is
 * false: then the kernel is to do the rest, and they are forgotten when that is over.
 */
bool robust_end(struct robust_list_head *list, bool ends);
void robust_forget(struct robust_list_head *list);

#endif
