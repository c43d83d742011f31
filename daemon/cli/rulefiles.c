/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and reading the files of rules.
 *
 * A file of a later directory replaces one of the same name in an earlier one; empty, or a link to /dev/null, it just takes it
 * away.  Rules say what stands in the environment of programs.  So when root runs ration, a file or directory that somebody
 * else could have written counts for nothing.
 */
#include "daemon/cli/rulefiles.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#ifndef RATION_LIBDIR
#define RATION_LIBDIR "/usr/local/lib"
#endif
#define BELOW_LIB "ration/apps.d"
#define DIRS_MAX 16
#define FILE_BYTES_MAX ((size_t)256 << 10)
#define WHY_MAX 96

struct rule_dir {
  const char *path;
  int fd; /* -1: none */
  struct rule_words names;
};

struct rule_dirs { /* later ones are stronger */
  struct rule_dir dir[DIRS_MAX];
  size_t n;
};

/* ---- trust ---- */

/* Null, or why root may not believe it. */
static const char *distrust(const struct stat *st, char why[WHY_MAX]) {
  if (geteuid() != 0) return NULL;
  if (st->st_uid != 0)
    snprintf(why, WHY_MAX, "belongs to user %u, not to root", st->st_uid);
  else if (st->st_mode & S_IWOTH)
    snprintf(why, WHY_MAX, "may be written by everybody");
  else if ((st->st_mode & S_IWGRP) && st->st_gid != 0)
    snprintf(why, WHY_MAX, "may be written by group %u", st->st_gid);
  else
    return NULL;
  return why;
}

static bool is_dev_null(const struct stat *st) { return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3); }

/* ---- one file ---- */

/* The bytes of a file of that size, and how many there really are. */
static char *read_all(int fd, size_t size, size_t *len) {
  char *text = malloc(size + 1);
  size_t n = 0;
  while (text && n < size) {
    ssize_t r = read(fd, text + n, size - n);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) {
      int e = errno;
      free(text);
      errno = e;
      return NULL;
    }
    if (r == 0) break;
    n += (size_t)r;
  }
  *len = n;
  return text;
}

/* `name` in the directory `dir`; people know it as `path`. */
static int read_file(struct rules *r, int dir, const char *name, const char *path) {
  struct stat st;
  char why[WHY_MAX];
  /* Not to wait for the other end of a FIFO. */
  _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0 || fstat(fd, &st) < 0) {
    int e = -errno;
    rules_problem(r, "%s: %s", path, strerror(-e));
    return e;
  }
  if (is_dev_null(&st)) return 0;
  if (!S_ISREG(st.st_mode)) {
    rules_problem(r, "%s: not a file", path);
    return -EINVAL;
  }
  if (distrust(&st, why)) {
    rules_problem(r, "%s: not read: it %s", path, why);
    return -EPERM;
  }
  if ((size_t)st.st_size > FILE_BYTES_MAX) {
    rules_problem(r, "%s: larger than %zu kB", path, FILE_BYTES_MAX >> 10);
    return -EFBIG;
  }
  size_t len = 0;
  _cleanup_free_ char *text = read_all(fd, (size_t)st.st_size, &len);
  if (!text) {
    int e = -errno;
    rules_problem(r, "%s: %s", path, strerror(-e));
    return e;
  }
  return rules_parse(r, path, text, len);
}

int rulefiles_read(struct rules *r, const char *path) { return read_file(r, AT_FDCWD, path, path); }

/* ---- directories ---- */

static void add_dir(struct rule_dirs *all, const char *path) {
  if (all->n < DIRS_MAX) all->dir[all->n++] = (struct rule_dir){.path = path, .fd = -1};
}

static void close_dirs(struct rule_dirs *all) {
  for (struct rule_dir *d = all->dir; d < all->dir + all->n; d++) {
    util_closep(&d->fd);
    for (size_t i = 0; i < d->names.n; i++) free(d->names.word[i]);
    free(d->names.word);
  }
}

static int is_rule_file(const struct dirent *e) {
  size_t n = strlen(e->d_name);
  return e->d_name[0] != '.' && n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

/* By bytes, whatever the locale. */
static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int list_dir(struct rule_dir *d) {
  struct dirent **found = NULL;
  int n = scandirat(d->fd, ".", &found, is_rule_file, by_name), e = n < 0 ? -errno : 0;
  d->names.word = n > 0 ? calloc((size_t)n, sizeof(char *)) : NULL;
  for (int i = 0; i < n; i++) {
    char *name = d->names.word ? strdup(found[i]->d_name) : NULL;
    if (name)
      d->names.word[d->names.n++] = name;
    else
      e = -ENOMEM;
    free(found[i]);
  }
  free(found);
  return e;
}

static int open_dir(struct rules *r, struct rule_dir *d, bool must) {
  struct stat st;
  char why[WHY_MAX];
  d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (d->fd < 0 && errno == ENOENT && !must) return 0;
  if (d->fd < 0 || fstat(d->fd, &st) < 0) {
    rules_problem(r, "%s: %s", d->path, strerror(errno));
    return 0;
  }
  if (distrust(&st, why)) {
    rules_problem(r, "%s: not read: it %s", d->path, why);
    return 0;
  }
  int e = list_dir(d);
  if (e < 0 && e != -ENOMEM) rules_problem(r, "%s: %s", d->path, strerror(-e));
  return e == -ENOMEM ? e : 0;
}

static bool has_name(const struct rule_dir *d, const char *name) {
  for (size_t i = 0; i < d->names.n; i++)
    if (strcmp(d->names.word[i], name) == 0) return true;
  return false;
}

static int read_dirs(struct rules *r, const struct rule_dirs *all) {
  const struct rule_dir *end = all->dir + all->n;
  int e = 0;
  for (const struct rule_dir *d = all->dir; d < end; d++) {
    for (size_t i = 0; i < d->names.n && e != -ENOMEM; i++) {
      const char *name = d->names.word[i];
      bool replaced = false;
      char path[PATH_MAX + NAME_MAX + 2];
      for (const struct rule_dir *later = d + 1; later < end; later++) replaced |= has_name(later, name);
      snprintf(path, sizeof(path), "%s/%s", d->path, name);
      if (!replaced) e = read_file(r, d->fd, name, path);
    }
  }
  return e == -ENOMEM ? e : 0;
}

/* ---- where ---- */

/* Beside where ration is installed; else where it was meant to be. */
static void shipped_dir(char *path, size_t cap) {
  ssize_t n = readlink("/proc/self/exe", path, cap - 1);
  path[n > 0 ? n : 0] = 0;
  char *slash = strrchr(path, '/'), *up = NULL;
  if (slash) *slash = 0;
  if (slash) up = strrchr(path, '/');
  if (up && (size_t)(up - path) + sizeof("/lib/" BELOW_LIB) <= cap) {
    strcpy(up, "/lib/" BELOW_LIB);
    if (access(path, F_OK) == 0) return;
  }
  snprintf(path, cap, "%s", RATION_LIBDIR "/" BELOW_LIB);
}

int rulefiles_load(struct rules *r) {
  const char *env = getenv("RATION_PROFILES");
  char shipped[PATH_MAX], *save = NULL;
  _cleanup_free_ char *words = NULL;
  _cleanup_(close_dirs) struct rule_dirs all = {.n = 0};
  int e = 0;
  if (env) {
    words = strdup(env);
    if (!words) return -ENOMEM;
    for (char *w = strtok_r(words, ":", &save); w; w = strtok_r(NULL, ":", &save)) add_dir(&all, w);
  } else {
    shipped_dir(shipped, sizeof(shipped));
    add_dir(&all, shipped);
    add_dir(&all, RULEFILES_ETC);
  }
  for (size_t d = 0; d < all.n && e == 0; d++) e = open_dir(r, &all.dir[d], env != NULL);
  return e < 0 ? e : read_dirs(r, &all);
}
