/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_TASKFILE_H
#define RATION_PRELOAD_TASKFILE_H
#include <stdbool.h>

/* Where to find what the kernel does not have under the name that was asked for. */
struct taskfile {
  char path[96];
  int fd; /* -1, or open on it */
};

/*
 * Free mode: an open of `path` has failed (errno is as it was, then and afterwards). True: it is a file in /proc/self/task/TID of a thread G, and is to be opened at f->path;
 * then taskfile_done.
 */
bool taskfile_find(const char *path, bool writes, struct taskfile *f);
void taskfile_done(const struct taskfile *f);

#endif
