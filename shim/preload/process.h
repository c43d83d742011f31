/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_PROCESS_H
#define RATION_PRELOAD_PROCESS_H
/* What process.c offers to the other wrappers. */
#include <stdbool.h>
#include <sys/types.h>

/* We are not in the process that this memory belongs to: between vfork and exec. A getpid. */
bool process_in_vfork_child(void);

/* What attaching has put off is done (client_ready), in the process that this memory belongs to. */
void process_ready(void);

/* Around an exec, also a raw one. */
unsigned process_exec_begin(void);
void process_exec_failed(unsigned what);

/* Around a raw fork. */
void process_fork_prepare(void);
void process_fork_parent(void);
void process_fork_child(void);

/* Before a call after which ration can't work in this process; the arguments decide whether it is one. */
void process_before_unshare(int flags);
void process_before_setns(void);
void process_before_ptrace(long request);
void process_before_seccomp(unsigned op);

#endif
