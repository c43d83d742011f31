/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_LIGHTDISK_H
#define RATION_PRELOAD_LIGHTDISK_H
/* Files of a light G: calls that wait for the disk. lightdisk.c says how. */
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Each is true if the call has been made, with its result in *out and errno; false: make it yourself. */
bool lightdisk_preadv(int fd, const struct iovec *v, int n, off64_t at, ssize_t *out);
bool lightdisk_pread(int fd, void *buf, size_t n, off64_t at, ssize_t *out);
bool lightdisk_pwritev(int fd, const struct iovec *v, int n, off64_t at, ssize_t *out);
bool lightdisk_pwrite(int fd, const void *buf, size_t n, off64_t at, ssize_t *out);
bool lightdisk_fsync(int fd, bool data_only, ssize_t *out);
bool lightdisk_sync_range(int fd, off64_t at, off64_t n, unsigned flags, ssize_t *out);

/* readv of a file (sys_is_file, which has filled in *st), or read.  Result or -errno. */
long lightdisk_readv(int fd, const struct iovec *v, int n, const struct stat *st);

#endif
