/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The number of links of /proc/self/task: two, and one for each thread.  Sandboxes look there whether a process has but one thread (Chromium's zygote ends itself otherwise), so
 * it is that of the threads that taskdir.c lists.
 *
 * Known by what stat returns: a directory of that mode with links enough.  So others cost a comparison, and it is found by whatever name, directory or descriptor, also where
 * /proc is out of sight.
 */
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/sys.h"
#include "preload/process.h"
#include "preload/real.h"
#include "preload/taskdir.h"

#define REAL_TASKSTAT(X)                                                            \
  X(int, stat, (const char *, struct stat *))                                       \
  X(int, stat64, (const char *, struct stat64 *))                                   \
  X(int, lstat, (const char *, struct stat *))                                      \
  X(int, lstat64, (const char *, struct stat64 *))                                  \
  X(int, fstat, (int, struct stat *))                                               \
  X(int, fstat64, (int, struct stat64 *))                                           \
  X(int, fstatat, (int, const char *, struct stat *, int))                          \
  X(int, fstatat64, (int, const char *, struct stat64 *, int))                      \
  X(int, __xstat, (int, const char *, struct stat *))                               \
  X(int, __xstat64, (int, const char *, struct stat64 *))                           \
  X(int, __lxstat, (int, const char *, struct stat *))                              \
  X(int, __lxstat64, (int, const char *, struct stat64 *))                          \
  X(int, __fxstat, (int, int, struct stat *))                                       \
  X(int, __fxstat64, (int, int, struct stat64 *))                                   \
  X(int, __fxstatat, (int, int, const char *, struct stat *, int))                  \
  X(int, __fxstatat64, (int, int, const char *, struct stat64 *, int))              \
  X(int, statx, (int, const char *restrict, int, unsigned, struct statx *restrict)) \
  X(DIR *, fdopendir, (int))
REAL_DEFINE(REAL_TASKSTAT)

#define MODE (S_IFDIR | S_IRUSR | S_IXUSR | S_IRGRP | S_IXGRP | S_IROTH | S_IXOTH)
#define DIR_LINKS 2u /* and one for each thread */

/* Some thread is there that is not the first; all else are other directories. */
static inline bool like(uint32_t mode, uint64_t links) { return __builtin_expect(mode == MODE && links > DIR_LINKS + 1, 0); }

/* What it says is ours to say: a directory that was just looked at, by path from dir (null: dir itself).  0: it is not. */
static __attribute__((noinline)) uint32_t links_of(int dir, const char *path) {
  if (sys_is_aside() || process_in_vfork_child()) return 0;
  int err = errno;
  long fd = raw_syscall3(SYS_openat, dir, (long)(path ? path : "."), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  uint32_t n = fd >= 0 && taskdir_is_own((int)fd) ? taskdir_count((int)fd) : 0;
  if (fd >= 0) raw_syscall1(SYS_close, fd);
  errno = err;
  return n ? n + DIR_LINKS : 0;
}

/* What a call has returned, and said of mode and links. */
#define SEEN_AS(r, mode, links, dir, path)   \
  ({                                         \
    int seen_ = (r);                         \
    if (seen_ == 0 && like(mode, links)) {   \
      uint32_t links_ = links_of(dir, path); \
      if (links_) (links) = links_;          \
    }                                        \
    seen_;                                   \
  })
#define SEEN(r, st, dir, path) SEEN_AS(r, (st)->st_mode, (st)->st_nlink, dir, path)

/* "" with AT_EMPTY_PATH is the descriptor's. */
static inline const char *name_at(const char *path, int flags) { return (flags & AT_EMPTY_PATH) && path && !path[0] ? NULL : path; }

EXPORT int stat(const char *restrict path, struct stat *restrict st) { return SEEN(REAL(stat)(path, st), st, AT_FDCWD, path); }
EXPORT int stat64(const char *restrict path, struct stat64 *restrict st) { return SEEN(REAL(stat64)(path, st), st, AT_FDCWD, path); }
EXPORT int lstat(const char *restrict path, struct stat *restrict st) { return SEEN(REAL(lstat)(path, st), st, AT_FDCWD, path); }
EXPORT int lstat64(const char *restrict path, struct stat64 *restrict st) { return SEEN(REAL(lstat64)(path, st), st, AT_FDCWD, path); }
EXPORT int fstat(int fd, struct stat *st) { return SEEN(REAL(fstat)(fd, st), st, fd, NULL); }
EXPORT int fstat64(int fd, struct stat64 *st) { return SEEN(REAL(fstat64)(fd, st), st, fd, NULL); }
EXPORT int fstatat(int dir, const char *restrict path, struct stat *restrict st, int flags) {
  return SEEN(REAL(fstatat)(dir, path, st, flags), st, dir, name_at(path, flags));
}
EXPORT int fstatat64(int dir, const char *restrict path, struct stat64 *restrict st, int flags) {
  return SEEN(REAL(fstatat64)(dir, path, st, flags), st, dir, name_at(path, flags));
}

EXPORT int statx(int dir, const char *restrict path, int flags, unsigned mask, struct statx *restrict st) {
  return SEEN_AS(REAL(statx)(dir, path, flags, mask, st), st->stx_mode, st->stx_nlink, dir, name_at(path, flags));
}

/* --- of programs that were built with glibc before 2.33 --- */

EXPORT int __xstat(int version, const char *path, struct stat *st);
EXPORT int __xstat64(int version, const char *path, struct stat64 *st);
EXPORT int __lxstat(int version, const char *path, struct stat *st);
EXPORT int __lxstat64(int version, const char *path, struct stat64 *st);
EXPORT int __fxstat(int version, int fd, struct stat *st);
EXPORT int __fxstat64(int version, int fd, struct stat64 *st);
EXPORT int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags);
EXPORT int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags);

int __xstat(int version, const char *path, struct stat *st) { return SEEN(REAL(__xstat)(version, path, st), st, AT_FDCWD, path); }
int __xstat64(int version, const char *path, struct stat64 *st) { return SEEN(REAL(__xstat64)(version, path, st), st, AT_FDCWD, path); }
int __lxstat(int version, const char *path, struct stat *st) { return SEEN(REAL(__lxstat)(version, path, st), st, AT_FDCWD, path); }
int __lxstat64(int version, const char *path, struct stat64 *st) { return SEEN(REAL(__lxstat64)(version, path, st), st, AT_FDCWD, path); }
int __fxstat(int version, int fd, struct stat *st) { return SEEN(REAL(__fxstat)(version, fd, st), st, fd, NULL); }
int __fxstat64(int version, int fd, struct stat64 *st) { return SEEN(REAL(__fxstat64)(version, fd, st), st, fd, NULL); }
int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags) {
  return SEEN(REAL(__fxstatat)(version, dir, path, st, flags), st, dir, name_at(path, flags));
}
int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags) {
  return SEEN(REAL(__fxstatat64)(version, dir, path, st, flags), st, dir, name_at(path, flags));
}

/* --- a directory that was opened otherwise than by opendir --- */

static bool is_task_dir(int fd) {
  struct stat st = {.st_mode = 0};
  if (sys_is_aside() || process_in_vfork_child() || raw_syscall4(SYS_newfstatat, fd, (long)"", (long)&st, AT_EMPTY_PATH) < 0) return false;
  return like(st.st_mode, st.st_nlink) && taskdir_is_own(fd);
}

EXPORT DIR *fdopendir(int fd) {
  DIR *dir = REAL(fdopendir)(fd);
  if (dir && is_task_dir(fd)) taskdir_serve(dir);
  return dir;
}
