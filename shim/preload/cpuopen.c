/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls by which a program gets at the files that count CPUs (cpufiles.c).
 * None of them is a bracketed call: what they wait for, if anything, is a disk or the other
 * end of a FIFO, and BPF or sysmon sees that.
 *
 * glibc's own readers (malloc for the number of its arenas, its get_nprocs) call open inside
 * libc and see the real files; so do popen, glob, nftw and fts, whose directories are read inside.
 */
#undef _FORTIFY_SOURCE /* its inline functions have the names of our wrappers */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "preload/cpufiles.h"
#include "preload/lightio.h"
#include "preload/real.h"
#include "preload/taskdir.h"
#include "preload/taskfile.h"
#include "rawsys.h"

#define REAL_CPUOPEN(X)                                                                   \
  X(int, open, (const char *, int, ...))                                                  \
  X(int, open64, (const char *, int, ...))                                                \
  X(int, openat, (int, const char *, int, ...))                                           \
  X(int, openat64, (int, const char *, int, ...))                                         \
  X(int, __open_2, (const char *, int))                                                   \
  X(int, __open64_2, (const char *, int))                                                 \
  X(int, __openat_2, (int, const char *, int))                                            \
  X(int, __openat64_2, (int, const char *, int))                                          \
  X(FILE *, fopen, (const char *, const char *))                                          \
  X(FILE *, fopen64, (const char *, const char *))                                        \
  X(FILE *, freopen, (const char *, const char *, FILE *))                                \
  X(FILE *, freopen64, (const char *, const char *, FILE *))                              \
  X(off_t, lseek, (int, off_t, int))                                                      \
  X(off64_t, lseek64, (int, off64_t, int))                                                \
  X(void, rewind, (FILE *))                                                               \
  X(int, fseek, (FILE *, long, int))                                                      \
  X(int, fseeko, (FILE *, off_t, int))                                                    \
  X(int, fseeko64, (FILE *, off64_t, int))                                                \
  X(struct dirent *, readdir, (DIR *))                                                    \
  X(struct dirent64 *, readdir64, (DIR *))                                                \
  X(int, readdir_r, (DIR *, struct dirent *, struct dirent **))                           \
  X(int, readdir64_r, (DIR *, struct dirent64 *, struct dirent64 **))                     \
  X(int, scandir, (const char *, struct dirent ***, scandir_filter *, scandir_compare *)) \
  X(int, scandirat, (int, const char *, struct dirent ***, scandir_filter *, scandir_compare *))
REAL_DEFINE(REAL_CPUOPEN)

/* `call` opens `at`: the path, and if there is no such file what stands for it. */
#define TRY_OPEN(type, bad, writes, call)                                            \
  ({                                                                                 \
    const char *at = path;                                                           \
    struct taskfile other;                                                           \
    type try_ = (call);                                                              \
    if (__builtin_expect(try_ == (bad), 0) && taskfile_find(path, writes, &other)) { \
      at = other.path;                                                               \
      try_ = (call);                                                                 \
      taskfile_done(&other);                                                         \
    }                                                                                \
    try_;                                                                            \
  })
#define OPEN(call) opened(TRY_OPEN(int, -1, (flags & O_ACCMODE) != O_RDONLY, call), path)
#define FOPEN(call) fopened(TRY_OPEN(FILE *, NULL, mode[0] != 'r' || strchr(mode, '+'), call), path)

/* `path` is looked at after the kernel has: it can be read. */
static inline int opened(int fd, const char *path) {
  if (fd >= 0 && __builtin_expect(cpufile_candidate(path), 0)) cpufile_serve(fd, path);
  return fd;
}

static inline FILE *fopened(FILE *f, const char *path) {
  if (f && path && __builtin_expect(cpufile_candidate(path), 0)) cpufile_serve(fileno_unlocked(f), path);
  return f;
}

/* The third argument of open, where glibc takes there to be one. */
static inline bool has_mode(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }
#define MODE_ARG(mode, flags)                     \
  mode_t mode = 0;                                \
  va_list ap;                                     \
  va_start(ap, flags);                            \
  if (has_mode(flags)) mode = va_arg(ap, mode_t); \
  va_end(ap)

EXPORT int open(const char *path, int flags, ...) {
  MODE_ARG(mode, flags);
  return OPEN(REAL(open)(at, flags, mode));
}

EXPORT int open64(const char *path, int flags, ...) {
  MODE_ARG(mode, flags);
  return OPEN(REAL(open64)(at, flags, mode));
}

EXPORT int openat(int dir, const char *path, int flags, ...) {
  MODE_ARG(mode, flags);
  return OPEN(REAL(openat)(dir, at, flags, mode));
}

EXPORT int openat64(int dir, const char *path, int flags, ...) {
  MODE_ARG(mode, flags);
  return OPEN(REAL(openat64)(dir, at, flags, mode));
}

/* What _FORTIFY_SOURCE makes of them. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int dir, const char *path, int flags);
EXPORT int __openat64_2(int dir, const char *path, int flags);
int __open_2(const char *path, int flags) { return OPEN(REAL(__open_2)(at, flags)); }
int __open64_2(const char *path, int flags) { return OPEN(REAL(__open64_2)(at, flags)); }
int __openat_2(int dir, const char *path, int flags) { return OPEN(REAL(__openat_2)(dir, at, flags)); }
int __openat64_2(int dir, const char *path, int flags) { return OPEN(REAL(__openat64_2)(dir, at, flags)); }

EXPORT FILE *fopen(const char *path, const char *mode) { return FOPEN(REAL(fopen)(at, mode)); }
EXPORT FILE *fopen64(const char *path, const char *mode) { return FOPEN(REAL(fopen64)(at, mode)); }
EXPORT FILE *freopen(const char *path, const char *mode, FILE *f) {
  lightio_forget_stream(f);
  return fopened(REAL(freopen)(path, mode, f), path);
}
EXPORT FILE *freopen64(const char *path, const char *mode, FILE *f) {
  lightio_forget_stream(f);
  return fopened(REAL(freopen64)(path, mode, f), path);
}

/* ---- rewinding ------------------------------------------------------------------------------------ */

#define REWINDS(fd, at, whence) \
  if ((at) == 0 && (whence) == SEEK_SET) cpufile_rewound(fd)

EXPORT off_t lseek(int fd, off_t at, int whence) {
  REWINDS(fd, at, whence);
  return REAL(lseek)(fd, at, whence);
}

EXPORT off64_t lseek64(int fd, off64_t at, int whence) {
  REWINDS(fd, at, whence);
  return REAL(lseek64)(fd, at, whence);
}

EXPORT void rewind(FILE *f) {
  REWINDS(fileno_unlocked(f), 0, SEEK_SET);
  REAL(rewind)(f);
}

EXPORT int fseek(FILE *f, long at, int whence) {
  REWINDS(fileno_unlocked(f), at, whence);
  return REAL(fseek)(f, at, whence);
}

EXPORT int fseeko(FILE *f, off_t at, int whence) {
  REWINDS(fileno_unlocked(f), at, whence);
  return REAL(fseeko)(f, at, whence);
}

EXPORT int fseeko64(FILE *f, off64_t at, int whence) {
  REWINDS(fileno_unlocked(f), at, whence);
  return REAL(fseeko64)(f, at, whence);
}

/* ---- the directories /sys/devices/system/cpu and (taskdir.c) /proc/self/task ----------------------- */

/* Anything but "cpu..." is none of ours. */
static inline bool hidden(DIR *dir, const char *name) { return name[0] == 'c' && name[1] == 'p' && cpufile_hides(dirfd(dir), name); }

EXPORT struct dirent *readdir(DIR *dir) {
  struct taskdir *t = taskdir_of(dir);
  if (t) return taskdir_next(t);
  struct dirent *e;
  do e = REAL(readdir)(dir);
  while (e && hidden(dir, e->d_name));
  return e;
}

EXPORT struct dirent64 *readdir64(DIR *dir) {
  struct taskdir *t = taskdir_of(dir);
  if (t) return (struct dirent64 *)taskdir_next(t);
  struct dirent64 *e;
  do e = REAL(readdir64)(dir);
  while (e && hidden(dir, e->d_name));
  return e;
}

/* The next entry, in e; null: the end. */
static void *next_r(struct taskdir *t, void *e) {
  const struct dirent *next = taskdir_next(t);
  return next ? memcpy(e, next, sizeof *next) : NULL;
}

EXPORT int readdir_r(DIR *dir, struct dirent *e, struct dirent **out) {
  struct taskdir *t = taskdir_of(dir);
  if (t) return *out = next_r(t, e), 0;
  int r;
  do r = REAL(readdir_r)(dir, e, out);
  while (r == 0 && *out && hidden(dir, (*out)->d_name));
  return r;
}

EXPORT int readdir64_r(DIR *dir, struct dirent64 *e, struct dirent64 **out) {
  struct taskdir *t = taskdir_of(dir);
  if (t) return *out = next_r(t, e), 0;
  int r;
  do r = REAL(readdir64_r)(dir, e, out);
  while (r == 0 && *out && hidden(dir, (*out)->d_name));
  return r;
}

/* glibc reads the directory inside; entries that are not to be seen are taken out of what it found. */
static int scanned(int n, int at, const char *path, struct dirent **list) {
  int dir = -1, kept = 0;
  for (int i = 0; i < n; i++) {
    if (strncmp(list[i]->d_name, "cpu", 3) == 0 && dir < 0) dir = REAL(openat)(at, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && cpufile_hides(dir, list[i]->d_name))
      free(list[i]);
    else
      list[kept++] = list[i];
  }
  if (dir >= 0) raw_syscall1(SYS_close, dir);
  return n < 0 ? n : kept;
}

EXPORT int scandir(const char *path, struct dirent ***list, scandir_filter *filter, scandir_compare *compare) {
  if (taskdir_is(path)) return taskdir_scan(path, list, filter, compare);
  int n = REAL(scandir)(path, list, filter, compare);
  return scanned(n, AT_FDCWD, path, n > 0 ? *list : NULL);
}

EXPORT int scandirat(int at, const char *path, struct dirent ***list, scandir_filter *filter, scandir_compare *compare) {
  int n = REAL(scandirat)(at, path, list, filter, compare);
  return scanned(n, at, path, n > 0 ? *list : NULL);
}

/* The same functions: struct dirent64 is struct dirent on the machines that we know. */
_Static_assert(sizeof(struct dirent64) == sizeof(struct dirent), "one layout");
EXPORT int scandir64(const char *, struct dirent64 ***, int (*)(const struct dirent64 *),
                     int (*)(const struct dirent64 **, const struct dirent64 **)) __attribute__((alias("scandir")));
EXPORT int scandirat64(int, const char *, struct dirent64 ***, int (*)(const struct dirent64 *),
                       int (*)(const struct dirent64 **, const struct dirent64 **)) __attribute__((alias("scandirat")));
