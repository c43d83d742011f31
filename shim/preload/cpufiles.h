/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_CPUFILES_H
#define RATION_PRELOAD_CPUFILES_H
/*
 * Which file is one that counts CPUs, and what the program is to read in it.
 */
#include <stdbool.h>
#include "preload/cpucount.h"

enum cpufile { CPUFILE_NONE, CPUFILE_ONLINE, CPUFILE_PRESENT, CPUFILE_POSSIBLE, CPUFILE_CPUINFO, CPUFILE_STAT };

/* By the end of the path alone: may it be one?  A few ns. */
bool cpufile_candidate(const char *path);

/* `fd` was just opened for reading by `path`.  If it is such a file, it is replaced, in its
 * place, by what the program is to read; if that can't be done, it stays as it is. */
void cpufile_serve(int fd, const char *path);

/* `fd` is being rewound: if cpufile_serve made it, it gets its text anew. */
void cpufile_rewound_slow(int fd);
extern _Atomic bool cpufile_any;
static inline void cpufile_rewound(int fd) {
  if (__builtin_expect(cpufile_any, 0)) cpufile_rewound_slow(fd);
}

/* Is this entry of the directory `dirfd` a cpuN directory that the program is not to see? */
bool cpufile_hides(int dirfd, const char *name);

#endif
