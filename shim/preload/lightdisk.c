/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of light Gs: calls that wait for the disk park, and io_uring makes them (core/uring.c).
 *
 *   pread, preadv      one try without blocking (RWF_NOWAIT), which begins the reading of what is not in the page cache; if that is not all,
 *                      the whole call by the ring.  O_DIRECT: at once
 *   pwrite, pwritev    of O_DIRECT, O_SYNC, O_DSYNC: by the ring.  Others end in the page cache: as they are, in the bracket
 *   fsync, fdatasync, sync_file_range      by the ring
 *   read, readv        a look without blocking says whether the pages are in the cache, and the ring only brings them there; the call itself is made
 *                      once, as it is, in the bracket.  The kernel holds the file position's lock across a read, and io_uring does not: two readers of one
 *                      position would get the same bytes.  Nor would what two calls get be in one piece.  Less than 32 KiB, which the kernel reads ahead for
 *                      the most part: at once; the look would be twice as much as the read
 *   write, writev      at the position as well: as they are, in the bracket
 *
 * What fails in the ring is made again as it is, so that its errno is the call's own; but fsync and its like, which tell of an error
 * once.  Without io_uring all of it is in the bracket.  The try is not: it is as long as a look of the monitor's, which would give the P's queue away.
 */
#include "preload/lightdisk.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/sys.h"
#include "core/uring.h"
#include "preload/lightio.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8
#endif
#define RW_MOST 0x7ffff000u /* the kernel's MAX_RW_COUNT */
#define WASTE (16u << 10)
#define WARM_IOVS 64
#define LOOK_LEAST (32u << 10)

static bool done(long r, ssize_t *out) {
  *out = lightio_result(r);
  return true;
}

/* A read that came to `at`, and no further, is at the end. */
static bool ends_there(int fd, off64_t at) {
  struct stat st;
  return sys_is_file(fd, &st) && S_ISREG(st.st_mode) && at >= st.st_size;
}

static bool has_flag(int fd, int flags) {
  long fl = raw_syscall3(SYS_fcntl, fd, F_GETFL, 0);
  return fl >= 0 && (fl & flags);
}

static size_t bytes_of(const struct iovec *v, int n) {
  size_t sum = 0;
  for (int i = 0; i < n && sum < RW_MOST; i++) sum += v[i].iov_len < RW_MOST ? v[i].iov_len : RW_MOST;
  return sum < RW_MOST ? sum : RW_MOST;
}

static long ring_vec(uint8_t opcode, int fd, const struct iovec *v, int n, off64_t at) {
  struct uring_op op = {.opcode = opcode, .fd = fd, .addr = (uintptr_t)v, .len = (uint32_t)n, .off = (uint64_t)at};
  return uring_do(&op);
}

/* --- at an offset --- */

/* r bytes are all that a read of v at `at` can give.  Not asked before the kernel has found v to be readable. */
static bool all_of(int fd, const struct iovec *v, int n, off64_t at, long r) {
  return r == 0 || (r > 0 && ((size_t)r == bytes_of(v, n) || ends_there(fd, at + r)));
}

bool lightdisk_preadv(int fd, const struct iovec *v, int n, off64_t at, ssize_t *out) {
  struct stat st;
  if (at < 0 || !uring_usable()) return false;
  if (!has_flag(fd, O_DIRECT)) { /* which it would wait for */
    long r = raw_syscall6(SYS_preadv2, fd, (long)v, n, at, 0, RWF_NOWAIT);
    if (all_of(fd, v, n, at, r)) return done(r, out);
    if (r < 0 && r != -EAGAIN) return false;
  }
  if (!sys_is_file(fd, &st)) return false;
  long r = ring_vec(IORING_OP_READV, fd, v, n, at);
  if (!all_of(fd, v, n, at, r)) r = BRACKET(SYS_preadv, fd, v, n, at);
  return done(r, out);
}

bool lightdisk_pread(int fd, void *buf, size_t n, off64_t at, ssize_t *out) {
  struct iovec v = {buf, n < RW_MOST ? n : RW_MOST};
  return lightdisk_preadv(fd, &v, 1, at, out);
}

bool lightdisk_pwritev(int fd, const struct iovec *v, int n, off64_t at, ssize_t *out) {
  struct stat st;
  if (at < 0 || !uring_usable() || !has_flag(fd, O_DIRECT | O_DSYNC) || !sys_is_file(fd, &st)) return false; /* O_SYNC has O_DSYNC's bit */
  long r = ring_vec(IORING_OP_WRITEV, fd, v, n, at);
  if (r < 0) r = BRACKET(SYS_pwritev, fd, v, n, at);
  return done(r, out);
}

bool lightdisk_pwrite(int fd, const void *buf, size_t n, off64_t at, ssize_t *out) {
  struct iovec v = {(void *)buf, n < RW_MOST ? n : RW_MOST};
  return lightdisk_pwritev(fd, &v, 1, at, out);
}

/* --- synchronisation --- */

bool lightdisk_fsync(int fd, bool data_only, ssize_t *out) {
  struct uring_op op = {.opcode = IORING_OP_FSYNC, .fd = fd, .flags = data_only ? IORING_FSYNC_DATASYNC : 0};
  if (!uring_usable()) return false;
  long r = uring_do(&op);
  if (r == URING_NO) r = BRACKET(data_only ? SYS_fdatasync : SYS_fsync, fd);
  return done(r, out);
}

bool lightdisk_sync_range(int fd, off64_t at, off64_t n, unsigned flags, ssize_t *out) {
  struct uring_op op = {.opcode = IORING_OP_SYNC_FILE_RANGE, .fd = fd, .off = (uint64_t)at, .len = (uint32_t)n, .flags = flags};
  if (at < 0 || n < 0 || n > UINT32_MAX || !uring_usable()) return false;
  long r = uring_do(&op);
  if (r == URING_NO) r = BRACKET(SYS_sync_file_range, fd, at, n, flags);
  return done(r, out);
}

/* --- at the position --- */

/* Where the pages of n bytes at `at`, 1 MiB at most, are read to: nobody looks at them. */
static int waste(struct iovec v[WARM_IOVS], size_t n) {
  static char bytes[WASTE];
  int k = 0;
  for (; k < WARM_IOVS && n; k++) {
    v[k] = (struct iovec){bytes, n < WASTE ? n : WASTE};
    n -= v[k].iov_len;
  }
  return k;
}

/* They come into the cache, if they are not there. */
static void warm(int fd, off64_t at, size_t n) {
  struct iovec v[WARM_IOVS];
  int k = waste(v, n);
  long there = raw_syscall6(SYS_preadv2, fd, (long)v, k, at, 0, RWF_NOWAIT);
  if (there < 0 ? there == -EAGAIN : (size_t)there < bytes_of(v, k)) ring_vec(IORING_OP_READV, fd, v, k, at);
}

/* Not a part by a try and the rest after it: each read at a position that others share gets what is in one piece. */
long lightdisk_readv(int fd, const struct iovec *v, int n, const struct stat *st) {
  size_t want = n > 0 && n <= IOV_MAX && sys_can_read(v, (size_t)n * sizeof *v) ? bytes_of(v, n) : 0;
  if (want >= LOOK_LEAST && uring_usable() && !has_flag(fd, O_DIRECT)) {
    long at = BRACKET(SYS_lseek, fd, 0, SEEK_CUR); /* it waits for the position's lock */
    if (S_ISREG(st->st_mode) && at >= 0)
      want = at >= st->st_size ? 0 : (size_t)(st->st_size - at) < want ? (size_t)(st->st_size - at) : want;
    if (at >= 0 && want) warm(fd, at, want);
  }
  return BRACKET(SYS_readv, fd, v, n);
}
