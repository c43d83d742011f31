/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that count CPUs: what a program reads in them.
 *
 *   /sys/devices/system/cpu/{online,present,possible}   /proc/cpuinfo   /proc/stat
 *
 * The real call is made first, whatever it is (open, openat, fopen ...: cpuopen.c).
 * If it opened one of these files for reading, another file is put in the place of its
 * descriptor, by dup3: a sealed memfd with the CPUs that the program is to see.  So the result,
 * errno, the number of the descriptor, close-on-exec and the FILE around it are
 * the real ones, and whatever goes wrong on our side leaves the real file there.
 * If the text would be the same, the real file stays as well.
 *
 * Which file it is tells its inode, so relative names, dirfds, "..", symbolic
 * links and mounts are all right; the last component is looked at first, so that
 * other files cost a few ns.
 *
 * Top and its like keep /proc/stat open and rewind it.  A memfd doesn't change, so
 * it is made anew when its descriptor is rewound: `served` remembers which are
 * ours, in a small table that may forget.  An entry is believed only if the inode is still
 * the same, so nobody has to tell us of close and dup.
 *
 * No locks; no memory but mappings of our own; async-signal-safe as open is.
 */
#include "preload/cpufiles.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "core/decimal.h"
#include "rawsys.h"

#define CPU_DIR "/sys/devices/system/cpu"
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x8u /* Linux 6.3 */
#endif

static const struct {
  const char *path, *name;
} files[] = {
    [CPUFILE_ONLINE] = {CPU_DIR "/online", "online"},
    [CPUFILE_PRESENT] = {CPU_DIR "/present", "present"},
    [CPUFILE_POSSIBLE] = {CPU_DIR "/possible", "possible"},
    [CPUFILE_CPUINFO] = {"/proc/cpuinfo", "cpuinfo"},
    [CPUFILE_STAT] = {"/proc/stat", "stat"},
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* ---- which file is it ----------------------------------------------------------------------------- */

static bool last_is(const char *path, size_t len, enum cpufile kind) {
  const char *name = files[kind].name;
  size_t n = strlen(name);
  return len >= n && memcmp(path + len - n, name, n) == 0 && (len == n || path[len - n - 1] == '/');
}

static enum cpufile kind_by_name(const char *path) {
  size_t len = strlen(path);
  if (len < 4) return CPUFILE_NONE;
  switch (path[len - 1]) {
    case 'e':
      return last_is(path, len, CPUFILE_ONLINE) ? CPUFILE_ONLINE : last_is(path, len, CPUFILE_POSSIBLE) ? CPUFILE_POSSIBLE : CPUFILE_NONE;
    case 'o':
      return last_is(path, len, CPUFILE_CPUINFO) ? CPUFILE_CPUINFO : CPUFILE_NONE;
    case 't':
      if (last_is(path, len, CPUFILE_PRESENT)) return CPUFILE_PRESENT;
      if (!last_is(path, len, CPUFILE_STAT)) return CPUFILE_NONE;
      /* ps reads /proc/PID/stat by the thousand. */
      return memcmp(path, "/pro", 4) == 0 && len > 6 && is_digit(path[6]) && !strstr(path, "..") ? CPUFILE_NONE : CPUFILE_STAT;
    default:
      return CPUFILE_NONE;
  }
}

bool cpufile_candidate(const char *path) { return kind_by_name(path) != CPUFILE_NONE; }

static bool stat_fd(int fd, struct stat *st) { return raw_syscall4(SYS_newfstatat, fd, (long)"", (long)st, AT_EMPTY_PATH) == 0; }
static bool stat_path(const char *path, struct stat *st) { return raw_syscall4(SYS_newfstatat, AT_FDCWD, (long)path, (long)st, 0) == 0; }
static bool same(const struct stat *a, const struct stat *b) { return a->st_dev == b->st_dev && a->st_ino == b->st_ino; }

static bool is_file(int fd, const char *path) {
  struct stat a, b;
  return stat_fd(fd, &a) && stat_path(path, &b) && same(&a, &b);
}

/* ---- its text ------------------------------------------------------------------------------------- */

struct text {
  char *p;
  size_t len, room;
};

static bool text_map(struct text *t, size_t room) {
  long p = raw_syscall6(SYS_mmap, 0, (long)room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p < 0) return false;
  *t = (struct text){.p = (char *)p, .room = room};
  return true;
}

static void text_free(struct text *t) {
  if (t->p) raw_syscall2(SYS_munmap, (long)t->p, (long)t->room);
}

/* Reads all of fd from its start, and leaves its position alone. */
static bool text_read(struct text *t, int fd) {
  if (!text_map(t, 1u << 16)) return false;
  for (;;) {
    if (t->len == t->room) {
      long p = t->room < 1u << 26 ? raw_syscall4(SYS_mremap, (long)t->p, (long)t->room, (long)t->room * 2, MREMAP_MAYMOVE) : -1;
      if (p < 0) return false;
      t->p = (char *)p;
      t->room *= 2;
    }
    long n = raw_syscall4(SYS_pread64, fd, (long)(t->p + t->len), (long)(t->room - t->len), (long)t->len);
    if (n == -EINTR) continue;
    if (n <= 0) return n == 0;
    t->len += (size_t)n;
  }
}

static bool text_make(struct text *out, const struct text *in, enum cpufile kind, const struct cpus *shown) {
  if (!text_map(out, cputext_room(in->len))) return false;
  if (kind == CPUFILE_CPUINFO)
    out->len = cputext_cpuinfo(in->p, in->len, shown, out->p);
  else if (kind == CPUFILE_STAT)
    out->len = cputext_stat(in->p, in->len, shown, out->p);
  else
    out->len = cpus_format(shown, out->p, out->room);
  return out->len > 0;
}

/* ---- the file that shows it ----------------------------------------------------------------------- */

/* The same file, opened for reading only.  -errno where there is no /proc. */
static long reopen(int fd, int flags) {
  char path[32] = "/proc/self/fd/";
  *decimal(path + 14, (unsigned)fd) = 0;
  return raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC | flags, 0);
}

static bool write_all(int fd, const struct text *t) {
  for (size_t done = 0; done < t->len;) {
    long n = raw_syscall3(SYS_write, fd, (long)(t->p + done), (long)(t->len - done));
    if (n == -EINTR) continue;
    if (n <= 0) return false;
    done += (size_t)n;
  }
  return true;
}

/* A sealed file with this text, at its start, close-on-exec.  -errno. */
static long sealed_file(const struct text *t, const char *name, int flags) {
  const unsigned how = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  long fd = raw_syscall2(SYS_memfd_create, (long)name, how | MFD_NOEXEC_SEAL);
  if (fd == -EINVAL) fd = raw_syscall2(SYS_memfd_create, (long)name, how);
  if (fd < 0) return fd;
  raw_syscall2(SYS_fchmod, fd, 0444);
  if (!write_all((int)fd, t) || raw_syscall3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    raw_syscall1(SYS_close, fd);
    return -EIO;
  }
  long ro = reopen((int)fd, flags);
  if (ro < 0) { /* its seals must do */
    raw_syscall3(SYS_lseek, fd, 0, SEEK_SET);
    return fd;
  }
  raw_syscall1(SYS_close, fd);
  return ro;
}

/* Puts what `with` is open on behind `fd`, which keeps its position and flags. */
static bool replace(int fd, int with) {
  long at = raw_syscall3(SYS_lseek, fd, 0, SEEK_CUR), cloexec = raw_syscall2(SYS_fcntl, fd, F_GETFD);
  if (at < 0 || cloexec < 0) return false;
  raw_syscall3(SYS_lseek, with, at, SEEK_SET);
  return raw_syscall3(SYS_dup3, with, fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0) == fd;
}

/* Which descriptors show a file of ours.  The words of an entry may come from two of
 * its writers: then the inode isn't right, and it's not believed. */
static struct {
  _Atomic int fd, kind;
  _Atomic uint64_t dev, ino;
} served[32];
_Atomic bool cpufile_any;

static void served_note(int fd, enum cpufile kind) {
  struct stat st;
  if (!stat_fd(fd, &st)) return;
  unsigned i = (unsigned)fd % 32;
  atomic_store_explicit(&served[i].fd, fd, memory_order_relaxed);
  atomic_store_explicit(&served[i].kind, kind, memory_order_relaxed);
  atomic_store_explicit(&served[i].dev, st.st_dev, memory_order_relaxed);
  atomic_store_explicit(&served[i].ino, st.st_ino, memory_order_relaxed);
  atomic_store_explicit(&cpufile_any, true, memory_order_relaxed);
}

static enum cpufile served_kind(int fd) {
  unsigned i = (unsigned)fd % 32;
  struct stat st;
  if (fd < 0 || atomic_load_explicit(&served[i].fd, memory_order_relaxed) != fd || !stat_fd(fd, &st)) return CPUFILE_NONE;
  if (st.st_dev != atomic_load_explicit(&served[i].dev, memory_order_relaxed)) return CPUFILE_NONE;
  if (st.st_ino != atomic_load_explicit(&served[i].ino, memory_order_relaxed)) return CPUFILE_NONE;
  return (enum cpufile)atomic_load_explicit(&served[i].kind, memory_order_relaxed);
}

/* Shows on `fd` what the program is to see of the real file that `source` is open on; they may be the same. */
static void show(int fd, int source, enum cpufile kind) {
  struct cpus shown;
  bool real = !cpucount_shown(&shown) || (kind == CPUFILE_POSSIBLE && cpucount_kernel_ids());
  struct text in = {0}, out = {0};
  long flags = raw_syscall2(SYS_fcntl, fd, F_GETFL), made = -1;
  if (!real && text_read(&in, source) && text_make(&out, &in, kind, &shown)) {
    cpucount_told(cpus_count(&shown));
    real = in.len == out.len && memcmp(in.p, out.p, in.len) == 0;
    if (!real) made = sealed_file(&out, files[kind].path, (int)flags & O_NONBLOCK);
  }
  if (made >= 0) {
    if (replace(fd, (int)made)) served_note(fd, kind);
    raw_syscall1(SYS_close, made);
  } else if (real && source != fd) {
    replace(fd, source);
  }
  text_free(&in);
  text_free(&out);
}

void cpufile_serve(int fd, const char *path) {
  enum cpufile kind = kind_by_name(path);
  if (kind == CPUFILE_NONE || !is_file(fd, files[kind].path)) return;
  long flags = raw_syscall2(SYS_fcntl, fd, F_GETFL);
  if (flags < 0 || (flags & (O_ACCMODE | O_PATH)) != O_RDONLY) return;
  show(fd, fd, kind);
}

void cpufile_rewound_slow(int fd) {
  enum cpufile kind = served_kind(fd);
  if (kind == CPUFILE_NONE) return;
  long source = raw_syscall4(SYS_openat, AT_FDCWD, (long)files[kind].path, O_RDONLY | O_CLOEXEC, 0);
  if (source < 0) return;
  show(fd, (int)source, kind);
  raw_syscall1(SYS_close, source);
}

/* ---- the directory -------------------------------------------------------------------------------- */

bool cpufile_hides(int dirfd, const char *name) {
  if (strncmp(name, "cpu", 3) != 0 || !is_digit(name[3])) return false;
  unsigned long cpu = 0;
  for (const char *p = name + 3; *p; p++) {
    if (!is_digit(*p) || cpu > CPUS_MAX) return false;
    cpu = cpu * 10 + (unsigned long)(*p - '0');
  }
  struct cpus shown;
  return is_file(dirfd, CPU_DIR) && cpucount_shown(&shown) && !cpus_has(&shown, cpu);
}
