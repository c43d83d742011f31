/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transient cgroup of `ration run --cpus`.  In v1 libcgroup makes, limits, fills and deletes it; finding dead ones,
 * emptying them, and v2 are done here.  (libcgroup 2.0 writes the cgroup.subtree_control of every cgroup from the root
 * down, which fails in one that is delegated to a user.)
 *
 * That rule: a v2 cgroup other than the root may either have processes or hand controllers down.
 * So where the caller's cgroup does not hand the controller down yet, the caller must be alone in it: it moves itself
 * to a leaf beside the new cgroup, and back afterwards.  With others in there (a login session) it takes a cgroup of its own
 * from systemd, where that runs (scope.c); else it is for the user to decide: moving processes that are not ours would surprise whoever put them there.
 */
#include "daemon/cli/transient.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libcgroup.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include "daemon/quota.h"
#include "daemon/util.h"

#define PATH_CAP (PATH_MAX + 2 * TRANSIENT_NAME_MAX)
#define CREATE_TRIES 20
#define LOCK_ROUNDS 50   /* of a millisecond, for each of them: a cleaner holds a lock for a moment */
#define EMPTY_ROUNDS 100 /* of a millisecond, for processes that come and go while we empty */
#define TRIM_DEPTH 8
#define LEAF_SUFFIX "-leaf"

static int fail(char *err, int error, const char *fmt, ...) _printf_(3, 4);
static int fail(char *err, int error, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(err, TRANSIENT_ERR, fmt, ap);
  va_end(ap);
  return error;
}

static void dir_closep(DIR **d) {
  if (*d) closedir(*d);
}
#define _cleanup_dir_ _cleanup_(dir_closep)

/* ---- small files ---- */

static int write_file(const char *dir, const char *file, const char *text) {
  char path[PATH_CAP];
  snprintf(path, sizeof(path), "%s/%s", dir, file);
  _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int read_file(const char *dir, const char *file, char *buf, size_t cap) {
  char path[PATH_CAP];
  snprintf(path, sizeof(path), "%s/%s", dir, file);
  _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t n = read(fd, buf, cap - 1);
  if (n < 0) return -errno;
  buf[n] = 0;
  return 0;
}

/* Is `word` one of the words of a one-line file? */
static bool has_word(const char *dir, const char *file, const char *word) {
  char buf[1024];
  char *save = NULL;
  if (read_file(dir, file, buf, sizeof(buf)) < 0) return false;
  for (char *w = strtok_r(buf, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
    if (strcmp(w, word) == 0) return true;
  return false;
}

/* What went wrong in libcgroup, as an errno. */
static int cgroup_errno(int r) {
  switch (r) {
    case ECGOTHER:
      return cgroup_get_last_errno() ? -cgroup_get_last_errno() : -EIO;
    case ECGROUPNOTOWNER:
    case ECGROUPNOTALLOWED:
      return -EACCES;
    case ECGROUPNOTEXIST:
      return -ENOENT;
    default:
      return -EIO;
  }
}

static const char *cgroup_why(int r) { return r == ECGOTHER ? strerror(-cgroup_errno(r)) : cgroup_strerror(r); }

/* ---- emptying and removing ---- */

/* Moves every process of `from` to `to`.  0 when none is left, -EBUSY, or the last errno. */
static int move_all(const char *from, const char *to) {
  char path[PATH_CAP];
  int last = -EBUSY;
  snprintf(path, sizeof(path), "%s/cgroup.procs", from);
  for (int round = 0; round < EMPTY_ROUNDS; round++) {
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (!f) return -errno;
    int pid, seen = 0;
    while (fscanf(f, "%d", &pid) == 1) {
      char text[16];
      seen++;
      if (pid == 0) continue; /* of a pid namespace that we do not see */
      snprintf(text, sizeof(text), "%d", pid);
      int r = write_file(to, "cgroup.procs", text);
      if (r < 0 && r != -ESRCH) last = r;
    }
    if (seen == 0) return 0;
    /* An exiting process counts until it is gone. */
    if (round > 0) nanosleep(&(struct timespec){.tv_nsec = (long)NS_PER_MS}, NULL);
  }
  return last;
}

/* Locks the directory of a transient cgroup: its descriptor; -EWOULDBLOCK if its `ration run` lives. */
static int try_lock(const char *dir) {
  _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) return -errno;
  return util_take_fd(&fd);
}

static bool is_transient(const char *name) { return strncmp(name, TRANSIENT_PREFIX, strlen(TRANSIENT_PREFIX)) == 0; }

static int remove_dead(const char *dir, const char *to, int depth);

/*
 * Removes the cgroups below `dir` that are nobody's: empty ones, and transient ones whose `ration run` is dead.
 * What has processes and is not ours stays: somebody made it on purpose.
 */
static void trim(const char *dir, int depth) {
  _cleanup_dir_ DIR *d = opendir(dir);
  if (!d || depth >= TRIM_DEPTH) return;
  for (struct dirent *e; (e = readdir(d));) {
    char path[PATH_CAP];
    if (e->d_type != DT_DIR || e->d_name[0] == '.') continue;
    if (snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path)) continue;
    if (is_transient(e->d_name)) {
      _cleanup_close_ int lock = try_lock(path);
      if (lock >= 0) remove_dead(path, dir, depth + 1);
    } else {
      trim(path, depth + 1);
      rmdir(path);
    }
  }
}

/* Empties a transient cgroup whose lock we hold into `to`, and removes it. */
static int remove_dead(const char *dir, const char *to, int depth) {
  trim(dir, depth);
  int r = move_all(dir, to);
  if (r < 0) return r;
  return rmdir(dir) < 0 ? -errno : 0;
}

unsigned transient_clean(const struct transient_place *p) {
  unsigned n = 0;
  _cleanup_dir_ DIR *d = opendir(p->dir);
  if (!d) return 0;
  for (struct dirent *e; (e = readdir(d));) {
    char path[PATH_CAP];
    if (e->d_type != DT_DIR || !is_transient(e->d_name)) continue;
    if (snprintf(path, sizeof(path), "%s/%s", p->dir, e->d_name) >= (int)sizeof(path)) continue;
    _cleanup_close_ int lock = try_lock(path);
    if (lock >= 0 && remove_dead(path, p->dir, 0) == 0) n++;
  }
  return n;
}

/* ---- where ---- */

static void place_cpu(struct transient_place *p, const struct transient_limit *limit) {
  p->burst_us = limit->burst_us;
  if (p->version == 2) {
    snprintf(p->set[0].file, sizeof(p->set[0].file), "cpu.max");
    snprintf(p->set[0].value, sizeof(p->set[0].value), "%" PRIu64 " %" PRIu64, limit->quota_us, limit->period_us);
    return;
  }
  /* The period first: the kernel checks each write against the quotas above and below. */
  snprintf(p->set[0].file, sizeof(p->set[0].file), "cpu.cfs_period_us");
  snprintf(p->set[0].value, sizeof(p->set[0].value), "%" PRIu64, limit->period_us);
  snprintf(p->set[1].file, sizeof(p->set[1].file), "cpu.cfs_quota_us");
  snprintf(p->set[1].value, sizeof(p->set[1].value), "%" PRIu64, limit->quota_us);
}

int transient_places(struct transient *t, const struct quota *q, const struct transient_limit *limit, char err[TRANSIENT_ERR]) {
  *t = (struct transient){.lock = {-1, -1}};
  if (q->version == 0 || !q->dir[0]) return fail(err, -ENOTSUP, "no cgroup hierarchy with the cpu controller is mounted here");
  if (q->inexact)
    return fail(err, -ENOTSUP, "this process's own cgroup (%s) is not visible below %s; a cgroup made elsewhere would escape its limits",
                q->cgroup, q->dir);
  struct transient_place *p = &t->place[t->n++];
  snprintf(p->controller, sizeof(p->controller), "cpu");
  p->version = q->version;
  p->mount_len = q->mount_len;
  snprintf(p->dir, sizeof(p->dir), "%s", q->dir);
  place_cpu(p, limit);
  /* v1 counts CPU time in cpuacct; where that is a hierarchy of its own, the command gets a cgroup there too. */
  if (q->version == 2 || q->acct_version != 1 || !q->acct_dir[0] || strcmp(q->acct_dir, q->dir) == 0) return 0;
  struct stat a, b;
  if (stat(q->acct_dir, &a) < 0 || stat(q->dir, &b) < 0 || (a.st_dev == b.st_dev && a.st_ino == b.st_ino)) return 0;
  p = &t->place[t->n++];
  snprintf(p->controller, sizeof(p->controller), "cpuacct");
  p->version = 1;
  p->mount_len = q->acct_mount_len;
  snprintf(p->dir, sizeof(p->dir), "%s", q->acct_dir);
  return 0;
}

/*
 * The name by which libcgroup knows p->dir: the path below the mount that libcgroup has chosen, which must show the same cgroup.
 */
static int libcgroup_name(const struct transient_place *p, char *name, size_t cap, char *err) {
  _cleanup_free_ char *mount = NULL;
  char path[PATH_CAP];
  struct stat a, b;
  int r = cgroup_get_subsys_mount_point(p->controller, &mount);
  if (r != 0) {
    mount = NULL;
    return fail(err, -ENOTSUP, "libcgroup finds no mount of the %s controller: %s", p->controller, cgroup_strerror(r));
  }
  const char *rel = p->dir + p->mount_len;
  while (*rel == '/') rel++;
  snprintf(path, sizeof(path), "%s/%s", mount, rel);
  if (stat(path, &a) < 0 || stat(p->dir, &b) < 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
    return fail(err, -EXDEV, "%s is not %s: the cgroup hierarchy is mounted more than once, with different roots", path, p->dir);
  if (snprintf(name, cap, "%s", rel) >= (int)cap) return fail(err, -ENAMETOOLONG, "the cgroup's path is too long: %s", p->dir);
  return 0;
}

/* ---- directories ---- */

/*
 * Nobody else may open them, for who can open a directory can lock it, and would be taken for its `ration run`: between mkdir and our
 * own lock, or for good once we are dead.  The files in them, which others do read (rationd, the command as another user), are found by name.
 */
#define OTHERS_CANNOT_OPEN (S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH)

static int make_dir(const char *path) {
  mode_t old = umask(OTHERS_CANNOT_OPEN);
  int r = mkdir(path, 0777) < 0 ? -errno : 0;
  umask(old);
  return r;
}

/* libcgroup makes it with mode 0775. */
static int make_by_libcgroup(struct cgroup *cg) {
  mode_t old = umask(OTHERS_CANNOT_OPEN);
  int r = cgroup_create_cgroup(cg, 1);
  umask(old);
  return r;
}

/* ---- v2: room for an inner cgroup ---- */

/* Is this process the only one in the cgroup? */
static bool alone_in(const char *dir) {
  char path[PATH_CAP];
  snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  int pid;
  if (!f) return false;
  while (fscanf(f, "%d", &pid) == 1)
    if (pid != getpid()) return false;
  return true;
}

static void leaf_path(const struct transient *t, size_t i, char path[PATH_CAP]) {
  snprintf(path, PATH_CAP, "%s/%s%s", t->place[i].dir, t->name, LEAF_SUFFIX);
}

enum room { ROOM_IS, ROOM_IF_WE_MOVE, ROOM_NO_CONTROLLER, ROOM_TAKEN };

static enum room look_for_room(const char *dir, const char *controller) {
  char type[PATH_CAP];
  if (!has_word(dir, "cgroup.controllers", controller)) return ROOM_NO_CONTROLLER;
  if (has_word(dir, "cgroup.subtree_control", controller)) return ROOM_IS;
  snprintf(type, sizeof(type), "%s/cgroup.type", dir);
  if (access(type, F_OK) < 0) return ROOM_IS; /* the root has no type, and no such rule */
  return alone_in(dir) ? ROOM_IF_WE_MOVE : ROOM_TAKEN;
}

bool transient_has_room(const char *dir, const char *controller) { return look_for_room(dir, controller) <= ROOM_IF_WE_MOVE; }

static int make_room(struct transient *t, size_t i, char *err) {
  const struct transient_place *p = &t->place[i];
  char leaf[PATH_CAP];
  enum room room = look_for_room(p->dir, p->controller);
  if (room == ROOM_IS) return 0;
  if (room == ROOM_NO_CONTROLLER)
    return fail(err, -ENOTSUP, "the %s controller is not enabled for %s; whoever manages that cgroup has to (with systemd: Delegate=yes)",
                p->controller, p->dir);
  if (room == ROOM_TAKEN)
    return fail(
        err, -EBUSY,
        "there are other processes in %s, and cgroup v2 allows a limit only below a cgroup without processes; give it one of its own: "
        "systemd-run --scope -p Delegate=yes ration run ...",
        p->dir);
  leaf_path(t, i, leaf);
  int r = make_dir(leaf);
  if (r < 0) return fail(err, r, "cannot make the cgroup %s: %s", leaf, strerror(-r));
  t->leaf[i] = true;
  r = write_file(leaf, "cgroup.procs", "0");
  return r < 0 ? fail(err, r, "cannot move to the cgroup %s: %s", leaf, strerror(-r)) : 0;
}

/* Back from the leaf, which goes. */
static void undo_room(struct transient *t, size_t i) {
  const struct transient_place *p = &t->place[i];
  char leaf[PATH_CAP], off[64];
  if (!t->leaf[i]) return;
  leaf_path(t, i, leaf);
  snprintf(off, sizeof(off), "-%s", p->controller);
  write_file(p->dir, "cgroup.subtree_control", off);
  if (move_all(leaf, p->dir) == 0) rmdir(leaf);
  t->leaf[i] = false;
}

/* ---- making it ---- */

static struct cgroup *describe(const struct transient *t, size_t i, const char *parent) {
  const struct transient_place *p = &t->place[i];
  char name[PATH_CAP];
  snprintf(name, sizeof(name), "%s%s%s", parent, *parent ? "/" : "", t->name);
  struct cgroup *cg = cgroup_new_cgroup(name);
  struct cgroup_controller *c = cg ? cgroup_add_controller(cg, p->controller) : NULL;
  for (int s = 0; c && s < TRANSIENT_SETTINGS && p->set[s].file[0]; s++)
    if (cgroup_add_value_string(c, p->set[s].file, p->set[s].value) != 0) c = NULL;
  if (!c && cg) cgroup_free(&cg);
  return cg;
}

static void own_path(const struct transient *t, size_t i, char path[PATH_CAP]) {
  snprintf(path, PATH_CAP, "%s/%s", t->place[i].dir, t->name);
}

/* A lock that another process holds is waited for, but not for long: 0, -EWOULDBLOCK, or another -errno. */
static int lock_soon(int fd) {
  for (int round = 0;; round++) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EINTR && (errno != EWOULDBLOCK || round >= LOCK_ROUNDS)) return -errno;
    nanosleep(&(struct timespec){.tv_nsec = (long)NS_PER_MS}, NULL);
  }
}

/* Takes the lock, and sees whether a cleaner had it before and removed the cgroup: then -ESTALE. */
static int take_lock(struct transient *t, size_t i) {
  char path[PATH_CAP];
  struct stat a, b;
  own_path(t, i, path);
  _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? -ESTALE : -errno;
  int r = lock_soon(fd);
  if (r < 0) return r;
  if (fstat(fd, &a) < 0 || stat(path, &b) < 0 || a.st_ino != b.st_ino || a.st_dev != b.st_dev) return -ESTALE;
  t->lock[i] = util_take_fd(&fd);
  return 0;
}

static int say_denied(const struct transient_place *p, int error, char *err) {
  if (geteuid() != 0 && (error == -EACCES || error == -EPERM))
    return fail(err, error,
                "may not make a cgroup below %s: %s; --cpus needs root, or a cgroup that is delegated to you "
                "(systemd-run --user --scope -p Delegate=yes ration run ...)",
                p->dir, strerror(-error));
  return fail(err, error, "cannot make a cgroup below %s: %s", p->dir, strerror(-error));
}

/*
 * Making it failed.  Because another `ration run` took the new cgroup, which nobody had locked yet, for a dead one's, and removed
 * it while libcgroup was writing its files?  libcgroup has several errors for that; that it is gone though it could be made says it.
 */
static bool cleaned_away(const struct transient *t, size_t i, int error) {
  char path[PATH_CAP];
  int e = cgroup_errno(error);
  own_path(t, i, path);
  return e != -EACCES && e != -EPERM && e != -EROFS && access(path, F_OK) < 0 && errno == ENOENT;
}

static int say_vanished(const struct transient_place *p, char *err) {
  return fail(err, -ESTALE, "the new cgroup below %s vanished", p->dir);
}

/* v1: by libcgroup. */
static int make_v1(struct transient *t, size_t i, char *err) {
  const struct transient_place *p = &t->place[i];
  char parent[PATH_MAX] = "";
  int r = libcgroup_name(p, parent, sizeof(parent), err);
  if (r < 0) return r;
  t->cg[i] = describe(t, i, parent);
  if (!t->cg[i]) return fail(err, -ENOMEM, "out of memory");
  t->made[i] = true; /* also when it fails half-way */
  r = make_by_libcgroup(t->cg[i]);
  if (r == 0) return 0;
  if (cleaned_away(t, i, r)) return say_vanished(p, err);
  if (r == ECGOTHER || r == ECGROUPNOTALLOWED || r == ECGROUPNOTOWNER) return say_denied(p, cgroup_errno(r), err);
  return fail(err, cgroup_errno(r), "cannot make or limit a cgroup below %s: %s", p->dir, cgroup_why(r));
}

static int make_v2(struct transient *t, size_t i, char *err) {
  const struct transient_place *p = &t->place[i];
  char path[PATH_CAP], on[64];
  int r = make_room(t, i, err);
  if (r < 0) return r;
  snprintf(on, sizeof(on), "+%s", p->controller);
  r = write_file(p->dir, "cgroup.subtree_control", on);
  if (r < 0) return fail(err, r, "cannot enable the %s controller below %s: %s", p->controller, p->dir, strerror(-r));
  own_path(t, i, path);
  r = make_dir(path);
  if (r < 0) return say_denied(p, r, err);
  t->made[i] = true;
  for (int s = 0; r == 0 && s < TRANSIENT_SETTINGS && p->set[s].file[0]; s++) r = write_file(path, p->set[s].file, p->set[s].value);
  if (r == 0) return 0;
  if (access(path, F_OK) < 0 && errno == ENOENT) return say_vanished(p, err);
  return fail(err, r, "cannot limit a cgroup below %s: %s", p->dir, strerror(-r));
}

/* Best effort, and so not libcgroup's, which makes all of a cgroup or nothing: Linux < 5.14 has no such file. */
static void set_burst(const struct transient *t, size_t i) {
  const struct transient_place *p = &t->place[i];
  char path[PATH_CAP], value[24];
  if (p->burst_us == 0) return;
  own_path(t, i, path);
  snprintf(value, sizeof(value), "%" PRIu64, p->burst_us);
  (void)write_file(path, p->version == 2 ? "cpu.max.burst" : "cpu.cfs_burst_us", value);
}

static int create_one(struct transient *t, size_t i, char *err) {
  const struct transient_place *p = &t->place[i];
  /* What is in the way of everybody should not read like a failure of libcgroup. */
  if (access(p->dir, W_OK) < 0) return say_denied(p, -errno, err);
  int r = p->version == 2 ? make_v2(t, i, err) : make_v1(t, i, err);
  if (r < 0) return r;
  set_burst(t, i);
  r = take_lock(t, i);
  if (r == -ESTALE) return say_vanished(p, err);
  if (r == -EWOULDBLOCK) return fail(err, r, "another process holds the lock on each new cgroup below %s", p->dir);
  return r < 0 ? fail(err, r, "cannot lock the new cgroup below %s: %s", p->dir, strerror(-r)) : 0;
}

static void choose_name(struct transient *t) {
  uint32_t nonce = 0;
  if (getrandom(&nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce)) nonce = (uint32_t)now_ns();
  snprintf(t->name, sizeof(t->name), TRANSIENT_PREFIX "%d-%08" PRIx32, getpid(), nonce);
}

int transient_create(struct transient *t, char err[TRANSIENT_ERR]) {
  int r = t->n && t->place[0].version == 1 ? cgroup_init() : 0;
  if (r != 0) return fail(err, -ENOTSUP, "libcgroup does not start: %s", cgroup_why(r));
  for (size_t i = 0; i < t->n; i++) transient_clean(&t->place[i]);
  for (int tries = 0; tries < CREATE_TRIES; tries++) {
    char ignored[TRANSIENT_ERR];
    choose_name(t);
    r = 0;
    for (size_t i = 0; i < t->n && r == 0; i++) r = create_one(t, i, err);
    if (r == 0) return 0;
    transient_remove(t, ignored);
    if (r != -ESTALE && r != -EWOULDBLOCK) return r;
  }
  return r;
}

static int attach_v2(struct transient *t, size_t i, pid_t pid) {
  char path[PATH_CAP], text[16];
  own_path(t, i, path);
  snprintf(text, sizeof(text), "%d", pid);
  return write_file(path, "cgroup.procs", text);
}

int transient_attach(struct transient *t, pid_t pid, char err[TRANSIENT_ERR]) {
  for (size_t i = 0; i < t->n; i++) {
    bool v2 = t->place[i].version == 2;
    int r = v2 ? attach_v2(t, i, pid) : cgroup_attach_task_pid(t->cg[i], pid);
    const char *why = v2 ? strerror(-r) : cgroup_why(r);
    if (r != 0)
      return fail(err, v2 ? r : cgroup_errno(r), "cannot move the command to the cgroup %s/%s: %s", t->place[i].dir, t->name, why);
  }
  return 0;
}

/* ---- removing it ---- */

static int remove_one(struct transient *t, size_t i, char *err) {
  const struct transient_place *p = &t->place[i];
  char path[PATH_CAP], to[PATH_CAP];
  own_path(t, i, path);
  snprintf(to, sizeof(to), "%s", p->dir);
  if (t->leaf[i]) leaf_path(t, i, to); /* p->dir hands controllers down: nobody can be moved there yet */
  trim(path, 0);
  int r = move_all(path, to);
  if (r == 0 || r == -ENOENT) {
    int c = p->version == 2 ? 0 : cgroup_delete_cgroup_ext(t->cg[i], CGFLAG_DELETE_IGNORE_MIGRATION);
    r = c == 0 || c == ECGROUPNOTEXIST ? 0 : cgroup_errno(c);
    if (p->version == 2 && rmdir(path) < 0) r = -errno;
    if (access(path, F_OK) < 0) r = 0;
  }
  if (r < 0) fail(err, r, "the cgroup %s stays behind: %s (the next 'ration run --cpus' here tries again)", path, strerror(-r));
  return r;
}

int transient_remove(struct transient *t, char err[TRANSIENT_ERR]) {
  int first = 0;
  for (size_t i = t->n; i-- > 0;) {
    int r = t->made[i] ? remove_one(t, i, err) : 0;
    undo_room(t, i);
    if (t->lock[i] >= 0) close(t->lock[i]);
    t->lock[i] = -1;
    t->made[i] = false;
    if (t->cg[i]) cgroup_free(&t->cg[i]);
    if (first == 0) first = r;
  }
  return first;
}
