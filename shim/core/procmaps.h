/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_PROCMAPS_H
#define RATION_CORE_PROCMAPS_H
/* What /proc/self says of this process's memory and threads.  Raw system calls; no TLS, no heap. */
#include <stdbool.h>
#include <stdint.h>

struct procmap {
  uintptr_t from, to;
  uint64_t offset, inode;
  uint32_t major, minor;
  bool read, write, exec, shared;
  const char *path; /* "" if it has none */
};
/* Calls fn for each mapping, in the order of addresses, until it says false.  0 or -errno. */
int procmaps_each(bool (*fn)(const struct procmap *m, void *arg), void *arg);

/* Calls fn for each thread that the kernel lists, until it says false.  buf: room for what it reads, `bytes` of it.  0 or -errno. */
int procmaps_threads(void *buf, uint32_t bytes, bool (*fn)(uint32_t tid, void *arg), void *arg);

/* The name of that thread of ours, as /proc has it with a newline behind it, begins with these n bytes, 16 at most. */
bool procmaps_thread_is(uint32_t tid, const char *name, unsigned n);

/*
 * Where a thread of this process is blocked in the kernel: its pc and stack pointer in user mode.  False: it is not, or
 * /proc does not tell; both 0: it has no user mode (a worker of io_uring's).
 */
bool procmaps_blocked_at(uint32_t tid, uintptr_t *pc, uintptr_t *sp);

/* Zeroed pages of our own, or null. */
void *procmaps_pages(uint64_t bytes);
void procmaps_unmap(void *at, uint64_t bytes);

#endif
