/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_TASKDIR_H
#define RATION_PRELOAD_TASKDIR_H
/* /proc/self/task as the program's threads have it: taskdir.c.  A DIR is used by one thread at a time, as POSIX has it. */
#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct taskdir;
typedef int scandir_filter(const struct dirent *);
typedef int scandir_compare(const struct dirent **, const struct dirent **);

/* It is the name of that directory. */
bool taskdir_is(const char *path);
/* As scandir of it. */
int taskdir_scan(const char *path, struct dirent ***list, scandir_filter *filter, scandir_compare *compare);

/* How many are open; so nothing else has to be asked of other directories. */
extern _Atomic unsigned taskdirs;

/* What opendir(path) has returned: if it is that directory, its entries are ours from here on. */
void taskdir_opened(DIR *dir, const char *path);
/* The same of one that is. */
void taskdir_serve(DIR *dir);
/* Is this descriptor of a directory that one?  Looks at the directory only. */
bool taskdir_is_own(int fd);
/* How many threads it lists; 0: that can't be told. */
uint32_t taskdir_count(int fd);
/* Null: it is none of these. */
struct taskdir *taskdir_find(DIR *dir);
static inline struct taskdir *taskdir_of(DIR *dir) {
  return atomic_load_explicit(&taskdirs, memory_order_relaxed) ? taskdir_find(dir)
                                                               : NULL; /* who uses `dir` has opened it, or was told of it since */
}

/* The next entry, in memory that is good until the next call; null: the end. */
struct dirent *taskdir_next(struct taskdir *t);
/* From the start, with the threads that there are now.  `dir` is at its start. */
void taskdir_rewind(struct taskdir *t);
long taskdir_tell(const struct taskdir *t);
void taskdir_seek(struct taskdir *t, long at);
/* Before closedir. */
void taskdir_close(struct taskdir *t);

#endif
