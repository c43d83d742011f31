/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory /proc/self/task lists the program's threads, and no others: programs wait there for the end of their threads, and ask whether they have but one.  So the kernel's
 * threads that are ration's own (service threads, carriers) are left out, and thread Gs are there under the tids that gettid gives them, also wired ones (whose
 * files taskfile.c finds).
 *
 * All of it is found when the directory is opened or rewound, where the kernel's own list is that of the moment at which it is read.  By opendir of the names /proc/self/task and
 * /proc/PID/task, by fdopendir and by scandir; not by nftw and the like.  taskstat.c has the number of links.
 */
#include "preload/taskdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/decimal.h"
#include "core/procmaps.h"
#include "core/sched.h"
#include "core/service.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/real.h"

#define REAL_TASKDIR(X)             \
  X(DIR *, opendir, (const char *)) \
  X(int, closedir, (DIR *))         \
  X(void, rewinddir, (DIR *))       \
  X(void, seekdir, (DIR *, long))   \
  X(long, telldir, (DIR *))
REAL_DEFINE(REAL_TASKDIR)
#define REAL_OTHERS(X)                 \
  X(struct dirent *, readdir, (DIR *)) \
  X(DIR *, fdopendir, (int))
REAL_DECLARE(REAL_OTHERS)

#define OPEN_MOST 8u /* at a time; others are as the kernel has them */
#define DOTS 2u      /* . and .. */

struct tids {
  uint32_t *v;
  uint32_t n, room;
  bool failed; /* no memory */
};

struct taskdir {
  DIR *dir;
  struct tids tids;
  uint32_t at;
  struct dirent entry;
};

_Atomic unsigned taskdirs;
static struct place {
  _Atomic(DIR *) dir; /* null: nobody's.  release when `t` is there: pairs with taskdir_find */
  struct taskdir *t;  /* of who uses dir */
} places[OPEN_MOST];
#define TAKEN ((DIR *)places) /* no DIR: its `t` is not there yet */

static bool make_room(struct tids *s, uint32_t room) {
  uint32_t *v = room > s->room ? realloc(s->v, room * sizeof *v) : s->v;
  if (!v && room) return s->failed = true, false;
  s->v = v;
  if (room > s->room) s->room = room;
  return true;
}

static void add(struct tids *s, uint32_t tid) {
  if (s->n < s->room || make_room(s, s->room ? s->room * 2 : 64)) s->v[s->n++] = tid;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* --- what is there --- */

#define UNKNOWN_NS 1000000u
#define UNKNOWN_LOOKS 20 /* as many ms */

struct found {
  struct tids gs, ms; /* ms: as m_tids has them */
  uint32_t pid, unknown;
};

static bool find_g(struct thread *t, void *arg) {
  struct found *f = arg;
  if (thread_lives(t) && !thread_is_forked(t)) add(&f->gs, thread_id(t));
  return true;
}

static void find_ms(struct tids *ms) {
  uint32_t n = 0;
  do
    if (!make_room(ms, n + 64)) return;
  while ((n = m_tids(ms->v, ms->room)) > ms->room);
  ms->n = n;
}

static bool has(const struct tids *s, uint32_t v) { return s->n && bsearch(&v, s->v, s->n, sizeof v, ascending); }

/* One that the kernel has made for an io_uring of the process, which does not keep it alive. */
static bool is_io_worker(uint32_t tid) { return procmaps_thread_is(tid, "iou-", sizeof "iou-" - 1); }

static bool is_programs(struct found *f, uint32_t tid) {
  if (tid == f->pid) return true; /* also where a G has forked it, with a carrier's M */
  if (service_is(tid) || has(&f->ms, tid * 2 + 1)) return false;
  f->unknown += !has(&f->ms, tid * 2) && !is_io_worker(tid);
  return true;
}

static void look(struct taskdir *t, struct found *f) {
  f->gs.n = f->unknown = t->tids.n = 0;
  if (free_mode) threads_each(find_g, f);
  find_ms(&f->ms);
  if (f->ms.n) qsort(f->ms.v, f->ms.n, sizeof *f->ms.v, ascending);
  struct dirent *e;
  while ((e = REAL(readdir)(t->dir))) {
    uint32_t tid = (uint32_t)strtoul(e->d_name, NULL, 10);
    if (tid && is_programs(f, tid)) add(&t->tids, tid);
  }
}

/* Who is no M is about to be one, as new carriers are, or about to go, as ended ones, and those whose identity is harvested: so it is looked again.  Or it was made by a raw clone, and stays. */
static void look_well(struct taskdir *t, struct found *f) {
  *f = (struct found){.pid = (uint32_t)getpid()};
  look(t, f);
  for (int i = 0; f->unknown && sched.carriers && i < UNKNOWN_LOOKS; i++) {
    _Atomic uint32_t never = 0;
    sys_futex_wait(&never, 0, sys_now() + UNKNOWN_NS, false);
    REAL(rewinddir)(t->dir);
    look(t, f);
  }
}

static void read_all(struct taskdir *t) {
  struct found f;
  look_well(t, &f);
  for (uint32_t i = 0; i < f.gs.n; i++) add(&t->tids, f.gs.v[i]);
  t->tids.failed |= f.gs.failed || f.ms.failed;
  free(f.gs.v);
  free(f.ms.v);
}

/* How many there are, and of those how many that are no Ms and stay.  0: no memory, or no directory.  Closes dir. */
static uint32_t count(DIR *dir, uint32_t *others) {
  struct taskdir t = {.dir = dir};
  struct found f;
  *others = 0;
  if (!dir) return 0;
  look_well(&t, &f);
  uint32_t n = t.tids.failed || f.gs.failed || f.ms.failed ? 0 : t.tids.n + f.gs.n;
  *others = f.unknown;
  REAL(closedir)(dir);
  free(t.tids.v);
  free(f.gs.v);
  free(f.ms.v);
  return n;
}

/* free/thread.c knows it by name. */
bool taskdir_has_others(void);
bool taskdir_has_others(void) {
  uint32_t others;
  count(REAL(opendir)("/proc/self/task"), &others);
  return others != 0;
}

uint32_t taskdir_count(int fd) {
  uint32_t others;
  long copy = raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
  DIR *dir = copy >= 0 ? REAL(fdopendir)((int)copy) : NULL;
  if (!dir && copy >= 0) raw_syscall1(SYS_close, copy);
  return count(dir, &others);
}

/* The caller is in it, but is no process of its own there, as in /proc: it has no such directory. */
bool taskdir_is_own(int fd) {
  char name[32];
  struct stat st;
  char *end = decimal(name, (uint32_t)sys_gettid());
  *end = 0;
  if (raw_syscall4(SYS_newfstatat, fd, (long)name, (long)&st, AT_SYMLINK_NOFOLLOW) < 0) return false;
  strcpy(end, "/task");
  return raw_syscall4(SYS_newfstatat, fd, (long)name, (long)&st, AT_SYMLINK_NOFOLLOW) == -ENOENT;
}

/* --- as a directory --- */

bool taskdir_is(const char *path) {
  if (strncmp(path, "/proc/", 6) != 0) return false; /* of other directories nothing more is asked */
  const char *rest = task_dir_rest(path, (uint32_t)getpid());
  return rest && (*rest == 0 || strcmp(rest, "/") == 0);
}

static struct taskdir *make(DIR *dir) {
  struct taskdir *t = calloc(1, sizeof *t);
  if (!t) return NULL;
  t->dir = dir;
  taskdir_rewind(t);
  return t;
}

static void drop(struct taskdir *t) {
  if (t) free(t->tids.v);
  free(t);
}

static bool keep(struct taskdir *t) {
  for (struct place *p = places; p < places + OPEN_MOST; p++) {
    DIR *none = NULL;
    if (!atomic_compare_exchange_strong_explicit(&p->dir, &none, TAKEN, memory_order_acquire, memory_order_relaxed))
      continue; /* pairs with taskdir_close */
    p->t = t;
    atomic_store_explicit(&p->dir, t->dir, memory_order_release);
    atomic_fetch_add_explicit(&taskdirs, 1, memory_order_relaxed); /* before anybody else has dir */
    return true;
  }
  return false;
}

void taskdir_opened(DIR *dir, const char *path) {
  if (taskdir_is(path)) taskdir_serve(dir);
}

void taskdir_serve(DIR *dir) {
  int err = errno;
  struct taskdir *t = make(dir);
  if (!t || t->tids.failed || !keep(t)) {
    drop(t);
    REAL(rewinddir)(dir);
  }
  errno = err;
}

static struct place *place_of(DIR *dir) {
  for (struct place *p = places; p < places + OPEN_MOST; p++)
    if (atomic_load_explicit(&p->dir, memory_order_acquire) == dir) return p;
  return NULL;
}

struct taskdir *taskdir_find(DIR *dir) {
  struct place *p = place_of(dir);
  return p ? p->t : NULL;
}

void taskdir_rewind(struct taskdir *t) {
  t->at = 0;
  read_all(t);
}

struct dirent *taskdir_next(struct taskdir *t) {
  if (t->at >= t->tids.n + DOTS) return NULL;
  struct dirent *e = &t->entry;
  uint32_t i = t->at++;
  if (i < DOTS)
    memcpy(e->d_name, i ? ".." : ".", i + 2);
  else
    *decimal(e->d_name, t->tids.v[i - DOTS]) = 0;
  e->d_ino = i + 1;
  e->d_off = t->at;
  e->d_reclen = sizeof *e;
  e->d_type = DT_DIR;
  return e;
}

long taskdir_tell(const struct taskdir *t) { return t->at; }
void taskdir_seek(struct taskdir *t, long at) { t->at = at < 0 ? 0 : (uint32_t)at; }

void taskdir_close(struct taskdir *t) {
  struct place *p = place_of(t->dir);
  atomic_fetch_sub_explicit(&taskdirs, 1, memory_order_relaxed);
  atomic_store_explicit(&p->dir, NULL, memory_order_release); /* pairs with keep: we have left p->t */
  drop(t);
}

/* --- the calls that are not cpuopen.c's as well --- */

EXPORT DIR *opendir(const char *path) {
  DIR *dir = REAL(opendir)(path);
  if (dir) taskdir_opened(dir, path);
  return dir;
}

EXPORT int closedir(DIR *dir) {
  struct taskdir *t = taskdir_of(dir);
  if (t) taskdir_close(t);
  return REAL(closedir)(dir);
}

EXPORT void rewinddir(DIR *dir) {
  REAL(rewinddir)(dir);
  struct taskdir *t = taskdir_of(dir);
  if (t) taskdir_rewind(t);
}

EXPORT long telldir(DIR *dir) {
  struct taskdir *t = taskdir_of(dir);
  return t ? taskdir_tell(t) : REAL(telldir)(dir);
}

EXPORT void seekdir(DIR *dir, long at) {
  struct taskdir *t = taskdir_of(dir);
  if (t)
    taskdir_seek(t, at);
  else
    REAL(seekdir)(dir, at);
}

/* --- scandir --- */

struct scan {
  struct dirent **list;
  size_t n, room;
};

static bool keep_entry(struct scan *s, const struct dirent *e) {
  if (s->n == s->room) {
    size_t room = s->room ? s->room * 2 : 32;
    struct dirent **list = realloc(s->list, room * sizeof(struct dirent *));
    if (!list) return false;
    s->list = list;
    s->room = room;
  }
  struct dirent *copy = malloc(sizeof *copy);
  if (copy) s->list[s->n++] = memcpy(copy, e, sizeof *copy);
  return copy != NULL;
}

int taskdir_scan(const char *path, struct dirent ***list, scandir_filter *filter, scandir_compare *compare) {
  DIR *dir = opendir(path);
  if (!dir) return -1;
  struct scan s = {0};
  const struct dirent *e;
  bool fine = true;
  while (fine && (e = readdir(dir))) fine = (filter && !filter(e)) || keep_entry(&s, e);
  closedir(dir);
  if (!fine) {
    while (s.n) free(s.list[--s.n]);
    free(s.list);
    errno = ENOMEM;
    return -1;
  }
  if (compare && s.n) qsort(s.list, s.n, sizeof(struct dirent *), (int (*)(const void *, const void *))(void *)compare);
  *list = s.list;
  return (int)s.n;
}
