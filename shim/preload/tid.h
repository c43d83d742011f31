/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_TID_H
#define RATION_PRELOAD_TID_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a call that is given a tid is about. */
enum tid_use {
  TID_PROCESS, /* the process, whatever thread of it is named */
  TID_READ,    /* what the thread has */
};
/* Whom the kernel is to be told of; any tid that is not a thread G's, or of one that has ended, is what it was. */
pid_t tid_kernels(pid_t tid, enum tid_use use);
/* The same for what is to be the thread's: a thread G gets a thread of the kernel's first. */
pid_t tid_to_set(pid_t tid);
/* What gettid says of the thread that the kernel knows by tid. */
pid_t tid_shown(pid_t tid);
/* As tid_kernels or tid_to_set, whichever it takes, for the arguments of a raw system call. */
void tid_raw(long nr, long *a);

/*
 * Whom a descriptor's signals are for (F_SETOWN and its kin).  True: of these cmd is one; then *arg, or what it is set to (room is for that), is the kernel's, and what it says to be
 * shown as tid_owner_shown has it, where it has not failed.
 */
struct f_owner_ex;
bool tid_owns(int cmd, void **arg, struct f_owner_ex *room);
int tid_owner_shown(int cmd, void *arg, int r);

/* The word of a futex with an owner, before the kernel has it, and after the caller has got it. */
void tid_pi_to_kernel(_Atomic uint32_t *word);
void tid_pi_to_program(_Atomic uint32_t *word);

#endif
