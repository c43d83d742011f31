/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of /proc/self/maps, /proc/self/task and /proc/self/task/TID/syscall.  Whatever a line has that is not expected ends it: what was read so far counts.
 */
#include "core/procmaps.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include "core/decimal.h"
#include "core/sys.h"

#define BUF_BYTES 16384u /* a line has at most PATH_MAX bytes and the numbers before it */

void *procmaps_pages(uint64_t bytes) {
  long at = raw_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at < 0 && at > -4096 ? NULL : (void *)at;
}

void procmaps_unmap(void *at, uint64_t bytes) {
  if (at) raw_syscall2(SYS_munmap, (long)at, (long)bytes);
}

static uint64_t number(const char **at, unsigned base) {
  uint64_t v = 0;
  for (;; (*at)++) {
    char c = **at;
    unsigned d = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 99;
    if (d >= base) return v;
    v = v * base + d;
  }
}

/* "from-to rwxp offset major:minor inode   path", ended by a zero. */
static bool parse(const char *s, struct procmap *m) {
  m->from = number(&s, 16);
  if (*s++ != '-') return false;
  m->to = number(&s, 16);
  if (*s++ != ' ' || m->to <= m->from || strnlen(s, 5) < 5) return false;
  m->read = s[0] == 'r';
  m->write = s[1] == 'w';
  m->exec = s[2] == 'x';
  m->shared = s[3] == 's';
  s += 5;
  m->offset = number(&s, 16);
  if (*s++ != ' ') return false;
  m->major = (uint32_t)number(&s, 16);
  if (*s++ != ':') return false;
  m->minor = (uint32_t)number(&s, 16);
  if (*s++ != ' ') return false;
  m->inode = number(&s, 10);
  while (*s == ' ') s++;
  m->path = s;
  return true;
}

/* The whole lines of buf[0 .. n); how many bytes they are.  0: enough, or nonsense. */
static size_t lines(char *buf, size_t n, bool (*fn)(const struct procmap *m, void *arg), void *arg) {
  char *line = buf, *end;
  while ((end = memchr(line, '\n', n - (size_t)(line - buf)))) {
    struct procmap m;
    *end = 0;
    if (!parse(line, &m) || !fn(&m, arg)) return 0;
    line = end + 1;
    if (line == buf + n) break;
  }
  return (size_t)(line - buf);
}

int procmaps_each(bool (*fn)(const struct procmap *m, void *arg), void *arg) {
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  char *buf = procmaps_pages(BUF_BYTES);
  long r = buf ? 0 : -ENOMEM;
  size_t have = 0;
  while (buf && (r = raw_syscall3(SYS_read, fd, (long)buf + (long)have, (long)(BUF_BYTES - have))) > 0) {
    have += (size_t)r;
    size_t used = lines(buf, have, fn, arg);
    if (used == 0) break;
    have -= used;
    memmove(buf, buf + used, have);
  }
  procmaps_unmap(buf, BUF_BYTES);
  raw_syscall1(SYS_close, fd);
  return r < 0 ? (int)r : 0;
}

bool procmaps_blocked_at(uint32_t tid, uintptr_t *pc, uintptr_t *sp) {
  char path[48], text[256];
  task_path(path, tid, "/syscall");
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return false;
  long got = raw_syscall3(SYS_read, fd, (long)text, sizeof text - 1);
  raw_syscall1(SYS_close, fd);
  if (got <= 0 || text[0] == 'r') return false; /* "running" */
  text[got] = 0;
  /* "nr a0 .. a5 sp pc", or "-1 sp pc": the last two */
  const char *word[2] = {NULL, NULL};
  for (const char *s = strchr(text, ' '); s; s = strchr(s + 1, ' ')) word[0] = word[1], word[1] = s + 1;
  if (!word[0] || word[0][1] != 'x' || word[1][1] != 'x') return false;
  const char *a = word[0] + 2, *b = word[1] + 2;
  *sp = number(&a, 16);
  *pc = number(&b, 16);
  return *sp != 0 && *pc != 0;
}

/* The kernel's struct linux_dirent64: where it has the length of an entry, and the name. */
#define DIRENT_BYTES_AT 16
#define DIRENT_NAME_AT 19

int procmaps_threads(void *buf, uint32_t bytes, bool (*fn)(uint32_t tid, void *arg), void *arg) {
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)TASK_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  bool more = fd >= 0;
  for (long n; more && (n = raw_syscall3(SYS_getdents64, fd, (long)buf, bytes)) > 0;) {
    uint16_t len;
    for (const char *at = buf, *end = at + n; more && at < end; at += len) {
      memcpy(&len, at + DIRENT_BYTES_AT, sizeof len);
      const char *name = at + DIRENT_NAME_AT;
      uint32_t tid = (uint32_t)number(&name, 10);
      if (tid) more = fn(tid, arg);
    }
  }
  if (fd >= 0) raw_syscall1(SYS_close, fd);
  return fd < 0 ? fd : 0;
}

bool procmaps_thread_is(uint32_t tid, const char *name, unsigned n) {
  char path[TASK_PATH_BYTES(sizeof "/comm")], comm[16];
  task_path(path, tid, "/comm");
  long fd = raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return false;
  long got = raw_syscall3(SYS_read, fd, (long)comm, sizeof comm);
  raw_syscall1(SYS_close, fd);
  return got >= (long)n && memcmp(comm, name, n) == 0;
}
