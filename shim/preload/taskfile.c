/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free mode: the files in /proc/self/task/TID, and /proc/PID/task/TID, where TID is what gettid gave a thread G.  The kernel has no such directory, so an open has failed
 * with ENOENT, and is made again:
 *
 *   comm, schedstat      to be read: a memfd with the G's name, with its CPU time
 *   others, its own      it gets a thread of the kernel's for good, in whose directory they are
 *   others, another's    the same, if that one has such a thread; else ENOENT stays
 *
 * Nothing is found before the kernel has said that it has no such file, so other opens cost nothing.  Not by relative names, nor by stat, access and opendir.
 */
#include "preload/taskfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include "core/decimal.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/wire.h"
#include "rawsys.h"

static const char *number(const char *s, uint32_t *v) {
  const char *at = s;
  for (*v = 0; *at >= '0' && *at <= '9' && *v < UINT32_MAX / 10 - 1; at++) *v = *v * 10 + (uint32_t)(*at - '0');
  return at != s ? at : NULL;
}

/* What comes after the thread's directory, and whose that is; null: another path. */
static const char *file_of(const char *path, uint32_t *tid) {
  const char *in = task_dir_rest(path, (uint32_t)getpid());
  in = in && *in == '/' ? number(in + 1, tid) : NULL;
  return in && *in == '/' ? in : NULL;
}

static bool by_text(struct taskfile *f, const char *text, size_t len) {
  long fd = raw_syscall2(SYS_memfd_create, (long)"task", MFD_CLOEXEC);
  if (fd < 0) return false;
  f->fd = (int)fd;
  char *end = decimal(stpcpy(f->path, "/proc/self/fd/"), (uint64_t)fd);
  *end = 0;
  if (raw_syscall3(SYS_write, fd, (long)text, (long)len) == (long)len) return true;
  taskfile_done(f);
  return false;
}

static bool comm(struct thread *t, struct taskfile *f) {
  char name[17];
  thread_get_name(t, name);
  size_t len = strlen(name);
  name[len++] = '\n';
  return by_text(f, name, len);
}

/* On a CPU, waiting for one, and how often: the last two are nobody's who knows. */
static bool schedstat(struct thread *t, struct taskfile *f) {
  char text[32];
  uint64_t ns;
  if (!thread_cpu_ns(t, &ns)) return false;
  char *end = stpcpy(decimal(text, ns), " 0 0\n");
  return by_text(f, text, (size_t)(end - text));
}

static bool kernels(struct thread *t, const char *file, struct taskfile *f) {
  if (t == thread_self()) free_wire(FREE_WIRE_OTHER);
  uint32_t tid = thread_kernels_tid(t);
  if (tid == 0 || TASK_PATH_BYTES(strlen(file)) > sizeof f->path) return false;
  task_path(f->path, tid, file);
  return true;
}

bool taskfile_find(const char *path, bool writes, struct taskfile *f) {
  if (!free_mode || errno != ENOENT || path[0] != '/' || path[1] != 'p') return false;
  uint32_t tid;
  const char *file = file_of(path, &tid);
  struct thread *t = file ? wire_thread_by_tid((pid_t)tid) : NULL;
  if (!t || !thread_lives(t)) return false;
  f->fd = -1;
  bool found;
  if (strcmp(file, "/comm") == 0)
    found = !writes && comm(t, f);
  else if (strcmp(file, "/schedstat") == 0)
    found = !writes && schedstat(t, f);
  else
    found = kernels(t, file, f);
  errno = ENOENT;
  return found;
}

void taskfile_done(const struct taskfile *f) {
  if (f->fd >= 0) raw_syscall1(SYS_close, f->fd);
}
