/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_MAKER_H
#define RATION_FREE_MAKER_H
/* Sees to it that there is an identity for free_make (maker.c); before the process has many threads.  0 or an errno. */
int maker_keep(void);
void maker_fork_child(void);

#endif
