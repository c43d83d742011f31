/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_CPUCOUNT_H
#define RATION_PRELOAD_CPUCOUNT_H
/*
 * Which CPUs the program is to see; docs/cpu-count.md says it for users.  For
 * the other wrappers; all functions keep errno and may be called at any time.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "preload/cputext.h"

/* The CPUs that the program sees now.  False: the real ones, ration has no opinion. */
bool cpucount_shown(struct cpus *shown);

/* The program was told a count of n, or the ids of n CPUs. */
void cpucount_told(unsigned n);

/*
 * After a sched_getaffinity of `pid` (0: this thread) that succeeded: leaves the CPUs that
 * the program is to see.  `size` is what the kernel filled: the result of the raw
 * call, or the size that was given to glibc's function.
 */
void cpucount_trim_mask(pid_t pid, size_t size, void *mask);

/*
 * Before a sched_setaffinity of `pid`: takes note that the program sets masks.
 * If *mask is the one that we showed, it means "all that I have": then *mask and *size are
 * changed to all CPUs that there are, kept in `buf`.  A mask that can't be read is left to the kernel.
 */
void cpucount_before_set(pid_t pid, size_t *size, const void **mask, struct cpus *buf);

/* What sched_getcpu is to return for the CPU that the kernel names. */
unsigned cpucount_map_cpu(unsigned cpu);

/*
 * The program reads the kernel's CPU numbers behind our back (rseq) or has the
 * kernel fill arrays with an element for each possible CPU (bpf): from now on
 * everything that serves as the size of such an array is real.  Call it before
 * a raw SYS_bpf or SYS_rseq of the program.
 */
void cpucount_kernel_ids_used(void);
bool cpucount_kernel_ids(void);

/* What was read of another thread (0: this one, or none) is ours and not the program's (core/place.c): it was taken back, and is to be read again. */
bool cpucount_hidden(uint32_t tid, size_t size, const void *mask);
/* The CPUs of t are about to be read by libc: what ration makes of them for a moment (core/place.c) is not there. */
void cpucount_hide(pthread_t t);

#endif
