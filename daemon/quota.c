/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From files to CPUs as a fraction.  docs/quota.md has the rules; the header says who calls this and what it may not use.
 *
 *   /proc/PID/cgroup      which cgroup, in each of three hierarchies: that with cpu, with cpuacct, with cpuset
 *   /proc/X/mountinfo     where these hierarchies are mounted, and which part of them is seen there
 *        |
 *        v                find_cgroups(), find_mounts(): q->dir, q->acct_dir, q->cpuset_dir
 *   measure():  the chain of cgroups -> the smallest quota; cpuset, affinity, online -> CPUs allowed
 *        |
 *        v
 *   conclude(): the smaller of both, slots, duty, who said so
 *
 * Everything is parsed byte by byte from a stream (struct in), so no line is too long for us and no buffer is large.
 * A file that is missing doesn't limit.  A file that is there and can't be used is a problem: noted, and it doesn't limit.
 * Tempting and rejected: reading /proc/PID/mountinfo of a container from outside.  Its mount points mean nothing
 * here; it is we who open the files, so it is our own mounts that count.
 */
#include "daemon/quota.h"
#include <errno.h> /* the numbers only */
#include <fcntl.h>
#include <string.h>
#include "proto/rawsys.h"

#define MILLION 1000000u
#define PERIOD_DEFAULT_US 100000u
#define WEIGHT_MAX 262144u /* of cpu.shares; cpu.weight ends at 10000 */

/* Keeps the large buffers of one phase out of the stack of the next. */
#define OWN_FRAME __attribute__((noinline))

/* ---- text --------------------------------------------------------------------------------------------- */

struct text {
  char *buf;
  size_t cap; /* >= 1 */
  size_t len;
};

static void text_start(struct text *t, char *buf, size_t cap) {
  *t = (struct text){.buf = buf, .cap = cap};
  buf[0] = '\0';
}

/* Adds a byte; what doesn't fit is cut.  A NUL becomes '?', so that no text seems to end early. */
static void text_char(struct text *t, char c) {
  if (t->len + 1 >= t->cap) return;
  t->buf[t->len++] = c ? c : '?';
  t->buf[t->len] = '\0';
}

static void text_bytes(struct text *t, const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) text_char(t, s[i]);
}

static void text_str(struct text *t, const char *s) { text_bytes(t, s, strlen(s)); }

/* For logs and terminals: no control characters. */
static void text_printable(struct text *t, const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)s[i];
    text_char(t, c < 0x20 || c == 0x7f ? '?' : (char)c);
  }
}

static void text_num(struct text *t, uint64_t v) {
  char digits[20];
  size_t n = 0;
  do {
    digits[n++] = (char)('0' + v % 10);
    v /= 10;
  } while (v);
  while (n) text_char(t, digits[--n]);
}

static bool is_digit(int c) { return c >= '0' && c <= '9'; }
static bool is_blank(int c) { return c == ' ' || c == '\t'; }

/* Appends a decimal digit to *v; false when it would not be below UINT64_MAX, which is no number but QUOTA_NONE. */
static bool add_digit(uint64_t *v, int c) {
  uint64_t d = (uint64_t)(c - '0');
  if (*v > (UINT64_MAX - 1 - d) / 10) return false;
  *v = *v * 10 + d;
  return true;
}

size_t quota_cpus_text(uint64_t micro, char *buf, size_t cap) {
  if (cap == 0) return 0;
  struct text t;
  text_start(&t, buf, cap);
  text_num(&t, micro / MILLION);
  uint64_t rest = micro % MILLION;
  if (rest) text_char(&t, '.');
  for (uint64_t unit = MILLION / 10; rest; unit /= 10) {
    text_char(&t, (char)('0' + rest / unit));
    rest %= unit;
  }
  return t.len;
}

const char *quota_decider_name(enum quota_decider d) {
  switch (d) {
    case QUOTA_BY_CFS:
      return "cfs";
    case QUOTA_BY_CPUSET:
      return "cpuset";
    case QUOTA_BY_AFFINITY:
      return "affinity";
    case QUOTA_BY_HOST:
      break;
  }
  return "host";
}

/* ---- paths -------------------------------------------------------------------------------------------- */

/* DIR[0..len) "/" name.  Returns 0 or -ENAMETOOLONG. */
static int path_join(char *buf, size_t cap, const char *dir, size_t len, const char *name) {
  size_t n = strlen(name);
  if (len + 1 + n + 1 > cap) return -ENAMETOOLONG;
  memcpy(buf, dir, len);
  buf[len] = '/';
  memcpy(buf + len + 1, name, n + 1);
  return 0;
}

/* buf may be s. */
static int path_copy(char *buf, size_t cap, const char *s, size_t len) {
  if (len + 1 > cap) return -ENAMETOOLONG;
  memmove(buf, s, len);
  buf[len] = '\0';
  return 0;
}

/* Length of the parent of dir[0..len), not shorter than `least`. */
static size_t path_parent(const char *dir, size_t len, size_t least) {
  while (len > least && dir[len - 1] != '/') len--;
  while (len > least && dir[len - 1] == '/') len--;
  return len;
}

/* Length of a cgroup's name: the root's, "/", counts as 0, so that names of children begin with their parent's. */
static size_t name_len(const char *name) {
  size_t n = strlen(name);
  while (n && name[n - 1] == '/') n--;
  return n;
}

/* Is name[0..len) of `a` the cgroup `b` or an ancestor of it? */
static bool name_covers(const char *a, size_t len, const char *b) { return strncmp(a, b, len) == 0 && (b[len] == '/' || b[len] == '\0'); }

/* Has it a component ".."?  Such a path leads out of what we can see. */
static bool leads_out(const char *s) {
  for (; *s; s++)
    if (s[0] == '/' && s[1] == '.' && s[2] == '.' && (s[3] == '/' || s[3] == '\0')) return true;
  return false;
}

static void proc_path(char *buf, size_t cap, int pid, const char *name) {
  struct text t;
  text_start(&t, buf, cap);
  text_str(&t, "/proc/");
  if (pid > 0)
    text_num(&t, (uint64_t)pid);
  else
    text_str(&t, "self");
  text_char(&t, '/');
  text_str(&t, name);
}
#define PROC_PATH_MAX 40

/* ---- files -------------------------------------------------------------------------------------------- */

static int raw_open(void *ctx, const char *path) {
  char full[QUOTA_PATH_MAX + QUOTA_FILE_MAX];
  const struct quota_root *root = ctx;
  if (root && root->len) {
    size_t n = strlen(path);
    if (root->len + n + 1 > sizeof(full)) return -ENAMETOOLONG;
    memcpy(full, root->dir, root->len);
    memcpy(full + root->len, path, n + 1);
    path = full;
  }
  /* Not blocking: with a prefix, anything may lie there, also a fifo. */
  long r;
  do r = raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
  while (r == -EINTR);
  return (int)r;
}

static long raw_read(void *ctx, int handle, char *buf, size_t cap) {
  (void)ctx;
  long r;
  do r = raw_syscall3(SYS_read, handle, (long)buf, (long)cap);
  while (r == -EINTR);
  return r;
}

static void raw_close(void *ctx, int handle) {
  (void)ctx;
  raw_syscall1(SYS_close, handle);
}

const struct quota_fs quota_fs_host = {.open = raw_open, .read = raw_read, .close = raw_close};

int quota_fs_rooted(struct quota_fs *fs, struct quota_root *root, const char *dir) {
  *fs = quota_fs_host;
  size_t n = strlen(dir);
  while (n && dir[n - 1] == '/') n--;
  int r = path_copy(root->dir, sizeof(root->dir), dir, n);
  if (r < 0) return r;
  root->len = n;
  fs->ctx = root;
  fs->mounts_of_pid = n > 0;
  return 0;
}

static int fs_open(const struct quota_fs *fs, const char *path) { return fs->open(fs->ctx, path); }

/* Is there something by this name, even if we may not look into it? */
static bool fs_exists(const struct quota_fs *fs, const char *path) {
  int h = fs_open(fs, path);
  if (h >= 0) fs->close(fs->ctx, h);
  return h >= 0 || h == -EACCES || h == -EPERM;
}

/* A file as a stream of bytes. */
struct in {
  const struct quota_fs *fs;
  int handle;
  int err;       /* of a read; the stream then ends */
  unsigned line; /* of the byte that comes next, from 1 */
  uint32_t left; /* so many bytes more, then it is none of the kernel's files: with a prefix, it may have no end */
  size_t pos, len;
  uint64_t hash; /* FNV-1a of the bytes so far */
  char buf[512];
};
#define IN_END (-1)
#define IN_MOST (256u << 10)       /* /proc/PID/cgroup: 64 hierarchies, each with the longest path */
#define IN_MOST_MOUNTS (64u << 20) /* mountinfo: as many mounts as the kernel's sysctl allows, of 670 bytes each */
#define FNV_START 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

static int in_open(struct in *in, const struct quota_fs *fs, const char *path) {
  in->handle = fs_open(fs, path);
  if (in->handle < 0) return in->handle;
  in->fs = fs;
  in->err = 0;
  in->line = 1;
  in->left = IN_MOST;
  in->pos = in->len = 0;
  in->hash = FNV_START;
  return 0;
}

static void in_close(struct in *in) { in->fs->close(in->fs->ctx, in->handle); }

/* The next byte without taking it, or IN_END. */
static int in_peek(struct in *in) {
  if (in->pos < in->len) return (unsigned char)in->buf[in->pos];
  if (in->err) return IN_END;
  long r = in->fs->read(in->fs->ctx, in->handle, in->buf, sizeof(in->buf));
  if (r > 0 && (size_t)r <= sizeof(in->buf) && (size_t)r <= in->left) {
    in->pos = 0;
    in->len = (size_t)r;
    in->left -= (uint32_t)r;
    return (unsigned char)in->buf[0];
  }
  in->err = r == 0 ? 1 : r < 0 ? (int)r : (size_t)r > in->left ? -EFBIG : -EIO; /* 1: the end, seen; don't read again */
  return IN_END;
}

static int in_get(struct in *in) {
  int c = in_peek(in);
  if (c == IN_END) return c;
  in->pos++;
  in->hash = (in->hash ^ (unsigned)c) * FNV_PRIME;
  if (c == '\n') in->line++;
  return c;
}

/* The error that ended the stream; 0 if it was just the end. */
static int in_error(const struct in *in) { return in->err < 0 ? in->err : 0; }

static bool at_eol(struct in *in) {
  int c = in_peek(in);
  return c == '\n' || c == IN_END;
}

/* Takes the rest of the line with its newline. */
static void in_skip_line(struct in *in) {
  int c;
  do c = in_get(in);
  while (c != '\n' && c != IN_END);
}

static void in_skip_blanks(struct in *in) {
  while (is_blank(in_peek(in))) in_get(in);
}

/* A number without sign.  0, -EINVAL when there is none, -ERANGE when it is too large (its digits are taken). */
static int in_number(struct in *in, uint64_t *v) {
  if (!is_digit(in_peek(in))) return -EINVAL;
  bool fits = true;
  for (*v = 0; is_digit(in_peek(in));) {
    int c = in_get(in);
    fits = fits && add_digit(v, c);
  }
  return fits ? 0 : -ERANGE;
}

/* Takes a word up to one of `stops`, blank, newline or the end.  False if it was too long for buf (then cut). */
static bool in_word(struct in *in, char *buf, size_t cap, const char *stops) {
  struct text t;
  text_start(&t, buf, cap);
  size_t n = 0;
  for (;; n++) {
    int c = in_peek(in);
    if (c == IN_END || c == '\n' || is_blank(c) || (c && strchr(stops, c))) break;
    text_char(&t, (char)in_get(in));
  }
  return n == t.len;
}

/* ---- problems ----------------------------------------------------------------------------------------- */

/* One run of quota_find or quota_refresh. */
struct job {
  struct quota *q;
  const struct quota_fs *fs;
  int err; /* of the first problem */
};

static const char *error_name(int err) {
  switch (-err) {
    case EACCES:
      return "permission denied";
    case EPERM:
      return "not permitted";
    case ENOENT:
      return "no such file";
    case ENOTDIR:
      return "not a directory";
    case EISDIR:
      return "is a directory";
    case ENODEV:
      return "the cgroup is gone";
    case ESRCH:
      return "no such process";
    case EIO:
      return "input/output error";
    case ENOMEM:
      return "out of memory";
    case EMFILE:
    case ENFILE:
      return "too many open files";
    case ENAMETOOLONG:
      return "name too long";
    case ELOOP:
      return "too many symbolic links";
    case EFBIG:
      return "too long";
    default:
      return NULL;
  }
}

/* "FILE:LINE: what", no LINE if 0.  Of a long path the end stays: it is the end that differs. */
static void note(struct job *job, int err, const char *file, unsigned line, const char *what) {
  struct quota *q = job->q;
  if (q->problems++ > 0) return;
  job->err = err;
  struct text t;
  text_start(&t, q->problem, sizeof(q->problem));
  size_t n = strlen(file), most = sizeof(q->problem) - 120;
  if (n > most) {
    text_str(&t, "...");
    file += n - most;
    n = most;
  }
  text_printable(&t, file, n);
  if (line) {
    text_char(&t, ':');
    text_num(&t, line);
  }
  text_str(&t, ": ");
  text_str(&t, what);
}

static void note_unreadable(struct job *job, int err, const char *file) {
  char what[80];
  struct text t;
  text_start(&t, what, sizeof(what));
  text_str(&t, "cannot be read: ");
  const char *name = error_name(err);
  if (name) {
    text_str(&t, name);
  } else {
    text_str(&t, "error ");
    text_num(&t, (uint64_t) - (int64_t)err);
  }
  note(job, err, file, 0, what);
}

/* The end of a file that was read to its end, or to where it made no sense: `what`, else a read error, else nothing. */
static int in_finish(struct job *job, struct in *in, const char *file, unsigned line, const char *what) {
  int err = in_error(in);
  in_close(in);
  if (err) {
    if (err == -EFBIG)
      note(job, err, file, in->line, "longer than such a file can be");
    else
      note_unreadable(job, err, file);
    return err;
  }
  if (what) note(job, -EINVAL, file, line, what);
  return what ? -EINVAL : 0;
}

/* Opens a file that may be missing.  0; -ENOENT without a problem; -errno with one. */
static int open_optional(struct job *job, struct in *in, const char *file) {
  int r = in_open(in, job->fs, file);
  if (r == -ENOTDIR || r == -EOPNOTSUPP) r = -ENOENT; /* the kernel says the latter for a knob that isn't there for this cgroup */
  if (r < 0 && r != -ENOENT) note_unreadable(job, r, file);
  return r;
}

/* ---- one-line files: cpu.max, cpu.cfs_quota_us, cpu.shares ... ---------------------------------------- */

/* Nothing but white space may follow; returns what is wrong, or NULL. */
static const char *expect_end(struct in *in, unsigned *line) {
  for (;;) {
    int c = in_peek(in);
    if (c == IN_END) return NULL;
    if (!is_blank(c) && c != '\n') break;
    in_get(in);
  }
  *line = in->line;
  return "unexpected text after the value";
}

static const char *number_error(int r, const char *none, const char *large) { return r == -ERANGE ? large : r < 0 ? none : NULL; }

/* Opens a file that holds one line and goes to its first word; *what: that there is none, or NULL.  Returns as open_optional. */
static int open_line(struct job *job, struct in *in, const char *file, const char **what) {
  int r = open_optional(job, in, file);
  if (r < 0) return r;
  in_skip_blanks(in);
  *what = at_eol(in) ? "empty" : NULL;
  return 0;
}

/* A file that holds one number.  0; -ENOENT without a problem; -errno with one. */
static int read_number(struct job *job, const char *file, uint64_t *v) {
  struct in in;
  const char *what;
  unsigned line = 1;
  int r = open_line(job, &in, file, &what);
  if (r < 0) return r;
  if (!what) what = number_error(in_number(&in, v), "not a number", "number too large");
  if (!what) what = expect_end(&in, &line);
  return in_finish(job, &in, file, line, what);
}

/* cpu.cfs_quota_us: a number, or -1 for none. */
static int read_v1_quota(struct job *job, const char *file, uint64_t *quota) {
  struct in in;
  const char *what;
  unsigned line = 1;
  int r = open_line(job, &in, file, &what);
  if (r < 0) return r;
  bool minus = in_peek(&in) == '-';
  if (minus) in_get(&in);
  if (!what) what = number_error(in_number(&in, quota), "the quota is not a number", "the quota is too large a number");
  if (!what && minus && *quota != 1) what = "the quota is negative and not -1";
  if (!what && !minus && *quota == 0) what = "the quota is zero";
  if (!what) what = expect_end(&in, &line);
  if (minus) *quota = QUOTA_NONE;
  return in_finish(job, &in, file, line, what);
}

/* The first word of cpu.max. */
static const char *max_quota(struct in *in, uint64_t *quota) {
  if (is_digit(in_peek(in))) {
    int r = in_number(in, quota);
    int c = in_peek(in);
    if (!is_blank(c) && c != '\n' && c != IN_END) return "the quota is not a number";
    if (r < 0) return "the quota is too large a number";
    return *quota ? NULL : "the quota is zero";
  }
  char word[5];
  *quota = QUOTA_NONE;
  if (!in_word(in, word, sizeof(word), "") || strcmp(word, "max") != 0) return "the quota is neither a number nor \"max\"";
  return NULL;
}

/* "QUOTA|max [PERIOD]", from its first word on. */
static const char *max_parse(struct in *in, uint64_t *quota, uint64_t *period, unsigned *line) {
  const char *what = max_quota(in, quota);
  if (what) return what;
  in_skip_blanks(in);
  *period = PERIOD_DEFAULT_US;
  if (!at_eol(in)) {
    what = number_error(in_number(in, period), "the period is not a number", "the period is too large a number");
    if (!what && *period == 0) what = "the period is zero";
  }
  return what ? what : expect_end(in, line);
}

static int read_v2_max(struct job *job, const char *file, uint64_t *quota, uint64_t *period) {
  struct in in;
  const char *what;
  unsigned line = 1;
  int r = open_line(job, &in, file, &what);
  if (r < 0) return r;
  if (!what) what = max_parse(&in, quota, period, &line);
  return in_finish(job, &in, file, line, what);
}

/* ---- the chain ---------------------------------------------------------------------------------------- */

static uint64_t micro_of(uint64_t quota, uint64_t period) {
  unsigned __int128 m = (unsigned __int128)quota * MILLION / period;
  if (m == 0) return 1; /* a quota is never nothing */
  return m >= QUOTA_NONE ? QUOTA_NONE - 1 : (uint64_t)m;
}

/* cpu.cfs_quota_us and cpu.cfs_period_us of one cgroup; 0 when both make sense. */
static int level_v1(struct job *job, size_t len, uint64_t *quota, uint64_t *period) {
  const struct quota *q = job->q;
  char file[QUOTA_FILE_MAX];
  int r = path_join(file, sizeof(file), q->dir, len, "cpu.cfs_quota_us");
  if (r == 0) r = read_v1_quota(job, file, quota);
  if (r < 0 || *quota == QUOTA_NONE) return r;
  path_join(file, sizeof(file), q->dir, len, "cpu.cfs_period_us");
  r = read_number(job, file, period);
  if (r == -ENOENT) {
    *period = PERIOD_DEFAULT_US;
    return 0;
  }
  if (r == 0 && *period == 0) {
    note(job, -EINVAL, file, 1, "the period is zero");
    return -EINVAL;
  }
  return r;
}

static OWN_FRAME void read_level(struct job *job, size_t len, struct quota_level *l) {
  const struct quota *q = job->q;
  uint64_t quota = QUOTA_NONE, period = 0;
  int r;
  if (q->version == 2) {
    char file[QUOTA_FILE_MAX];
    r = path_join(file, sizeof(file), q->dir, len, "cpu.max");
    if (r == 0) r = read_v2_max(job, file, &quota, &period);
  } else {
    r = level_v1(job, len, &quota, &period);
  }
  bool finite = r == 0 && quota != QUOTA_NONE;
  *l = (struct quota_level){
      .dir_len = (uint16_t)len,
      .quota_us = finite ? quota : QUOTA_NONE,
      .period_us = finite ? period : 0,
      .micro = finite ? micro_of(quota, period) : QUOTA_NONE,
  };
}

static OWN_FRAME uint32_t read_weight(struct job *job, size_t len) {
  const struct quota *q = job->q;
  char file[QUOTA_FILE_MAX];
  uint64_t w = 0;
  if (path_join(file, sizeof(file), q->dir, len, q->version == 2 ? "cpu.weight" : "cpu.shares") < 0) return 0;
  if (read_number(job, file, &w) < 0) return 0;
  if (w > WEIGHT_MAX) {
    note(job, -EINVAL, file, 1, "the weight is too large");
    return 0;
  }
  return w ? (uint32_t)w : 1; /* cpu.idle reads as 0 */
}

/* What is above the mount's root in the names: the length of the root field of its mountinfo. */
static size_t above_mount(const char *name, const char *dir, size_t mount_len) { return name_len(name) - (strlen(dir) - mount_len); }

static void set_decider(struct quota *q, const struct quota_level *l) {
  q->quota_micro = l->micro;
  q->quota_us = l->quota_us;
  q->period_us = l->period_us;
  path_copy(q->decider_dir, sizeof(q->decider_dir), q->dir, l->dir_len);
}

static void set_domain(struct quota *q, size_t dir_len, size_t len) {
  path_copy(q->domain_dir, sizeof(q->domain_dir), q->dir, dir_len);
  if (len)
    path_copy(q->domain, sizeof(q->domain), q->cgroup, len);
  else
    path_copy(q->domain, sizeof(q->domain), "/", 1);
}

/* 0 where there is no such file: before Linux 5.14 nothing is saved. */
static OWN_FRAME uint64_t level_burst(struct job *job, const char *dir, size_t len) {
  char file[QUOTA_FILE_MAX];
  uint64_t burst = 0;
  if (path_join(file, sizeof(file), dir, len, job->q->version == 2 ? "cpu.max.burst" : "cpu.cfs_burst_us") < 0) return 0;
  return read_number(job, file, &burst) == 0 ? burst : 0;
}

/* The decider's; less where another level has about the same quota (a pod of one container), for that one throttles as soon. */
static void read_burst(struct job *job) {
  struct quota *q = job->q;
  if (!q->limited) return;
  size_t decider = strlen(q->decider_dir);
  q->burst_us = level_burst(job, q->decider_dir, decider);
  for (uint32_t i = 0; q->burst_us && i < q->nlevels; i++) {
    const struct quota_level *l = &q->levels[i];
    if (l->dir_len == decider || l->micro == QUOTA_NONE || l->micro - q->quota_micro > q->quota_micro / 16) continue;
    uint64_t burst = level_burst(job, q->dir, l->dir_len);
    if (burst < q->burst_us) q->burst_us = burst;
  }
}

/* Walks from the process's cgroup up to the root of the mount. */
static void read_chain(struct job *job) {
  struct quota *q = job->q;
  if (q->version == 0) return;
  size_t above = above_mount(q->cgroup, q->dir, q->mount_len);
  for (size_t len = strlen(q->dir);; len = path_parent(q->dir, len, q->mount_len)) {
    struct quota_level l;
    read_level(job, len, &l);
    l.name_len = (uint16_t)(above + len - q->mount_len);
    if (l.micro != QUOTA_NONE && !q->limited) {
      q->limited = true;
      set_domain(q, len, l.name_len);
    }
    if (l.micro < q->quota_micro) set_decider(q, &l);
    if (q->nlevels < QUOTA_LEVELS_MAX) {
      l.weight = read_weight(job, len);
      /* The root of a v1 hierarchy has a cpu.shares that means nothing. */
      if (l.weight && (q->version == 2 || l.name_len)) q->weighted = true;
      q->levels[q->nlevels++] = l;
    }
    q->depth++;
    if (len == q->mount_len) break;
  }
  if (q->limited)
    q->weighted = false;
  else
    set_domain(q, q->mount_len, 0);
  read_burst(job);
}

/* ---- CPUs allowed ------------------------------------------------------------------------------------- */

struct cpus {
  uint64_t w[QUOTA_CPUS_MAX / 64];
};

static void cpus_add(struct cpus *s, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i <= to; i++) s->w[i / 64] |= UINT64_C(1) << (i % 64);
}

static uint32_t cpus_count(const struct cpus *s) {
  uint32_t n = 0;
  for (size_t i = 0; i < QUOTA_CPUS_MAX / 64; i++) n += (uint32_t)__builtin_popcountll(s->w[i]);
  return n;
}

/* a &= b; returns how many are left. */
static uint32_t cpus_and(struct cpus *a, const struct cpus *b) {
  for (size_t i = 0; i < QUOTA_CPUS_MAX / 64; i++) a->w[i] &= b->w[i];
  return cpus_count(a);
}

/* One "N" or "N-M".  Returns what is wrong, or NULL. */
static const char *cpus_range(struct in *in, struct cpus *s) {
  uint64_t from, to;
  const char *what = number_error(in_number(in, &from), "not a CPU number", "a CPU number is too large");
  if (what) return what;
  to = from;
  if (in_peek(in) == '-') {
    in_get(in);
    what = number_error(in_number(in, &to), "a range of CPUs without an end", "a CPU number is too large");
    if (what) return what;
  }
  if (from > to) return "a range of CPUs that ends before it begins";
  if (to >= QUOTA_CPUS_MAX) return "a CPU number is too large";
  cpus_add(s, from, to);
  return NULL;
}

/* A list as the kernel prints it, "0-3,5", to the end of the line; an empty one is an empty set.  Returns what is wrong, or NULL. */
static const char *cpus_parse(struct in *in, struct cpus *s) {
  memset(s, 0, sizeof(*s));
  in_skip_blanks(in);
  if (at_eol(in)) return NULL;
  for (;;) {
    const char *what = cpus_range(in, s);
    if (what) return what;
    in_skip_blanks(in);
    if (at_eol(in)) return NULL;
    if (in_get(in) != ',') return "a comma is missing in the list of CPUs";
  }
}

/* A file that is one list.  Returns how many, 0 if the list is empty; -ENOENT without a problem; -errno with one. */
static int read_cpus(struct job *job, const char *file, struct cpus *s) {
  struct in in;
  int r = open_optional(job, &in, file);
  if (r < 0) return r;
  unsigned line = 1;
  const char *what = cpus_parse(&in, s);
  if (!what) what = expect_end(&in, &line);
  r = in_finish(job, &in, file, line, what);
  return r < 0 ? r : (int)cpus_count(s);
}

/* The nearest cpuset that says something.  Puts the file's name into `file`. */
static int read_cpuset(struct job *job, struct cpus *s, char file[QUOTA_FILE_MAX]) {
  const struct quota *q = job->q;
  if (q->cpuset_version == 0) return -ENOENT;
  bool v2 = q->cpuset_version == 2;
  for (size_t len = strlen(q->cpuset_dir);; len = path_parent(q->cpuset_dir, len, q->cpuset_mount_len)) {
    if (path_join(file, QUOTA_FILE_MAX, q->cpuset_dir, len, v2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus") == 0) {
      int r = read_cpus(job, file, s);
      if (r > 0) return r;
    }
    if (!v2 && path_join(file, QUOTA_FILE_MAX, q->cpuset_dir, len, "cpuset.cpus") == 0) {
      int r = read_cpus(job, file, s);
      if (r > 0) return r;
    }
    if (len == q->cpuset_mount_len) return -ENOENT;
  }
}

/* Takes the text if it comes next, byte by byte: what matched before a difference is gone. */
static bool in_takes(struct in *in, const char *text) {
  for (; *text; text++) {
    if (in_peek(in) != (unsigned char)*text) return false;
    in_get(in);
  }
  return true;
}

/* No /proc/PID/status: is there such a process at all?  (A --root may hold but a part of /proc.) */
static int no_status(struct job *job) {
  char file[PROC_PATH_MAX];
  proc_path(file, sizeof(file), job->q->pid, "cgroup");
  return fs_exists(job->fs, file) ? -ENOENT : -ESRCH;
}

/* Cpus_allowed_list of /proc/PID/status.  Returns how many; -ENOENT if nothing tells, -ESRCH if there is no such process. */
static int read_affinity(struct job *job, struct cpus *s) {
  char file[PROC_PATH_MAX];
  proc_path(file, sizeof(file), job->q->pid, "status");
  struct in in;
  int r = in_open(&in, job->fs, file);
  if (r == -ENOENT || r == -ESRCH) return no_status(job);
  if (r < 0) {
    note_unreadable(job, r, file);
    return r;
  }
  bool found = false;
  unsigned line = 0;
  const char *what = NULL;
  while (!found && in_peek(&in) != IN_END) {
    line = in.line;
    found = in_takes(&in, "Cpus_allowed_list:");
    if (!found) in_skip_line(&in);
  }
  if (found) {
    what = cpus_parse(&in, s);
    if (!what && cpus_count(s) == 0) what = "an empty list of CPUs";
  }
  r = in_finish(job, &in, file, line, what); /* -ESRCH if it died while we read */
  if (r < 0) return r;
  return found ? (int)cpus_count(s) : -ENOENT;
}

#define ONLINE_FILE "/sys/devices/system/cpu/online"
#define OFFLINE_FILE "/sys/devices/system/cpu/offline"

/*
 * Takes out the CPUs that are offline; returns how many are left.  A mask may name CPUs that aren't there, and in a
 * container of LXC the list of those online may be invented ("0-1" whichever they are).  So where the two differ, ask for those offline.
 */
static uint32_t keep_online(struct job *job, struct cpus *s, const struct cpus *online) {
  struct cpus other = *s;
  if (cpus_and(&other, online) != cpus_count(s)) {
    struct cpus offline;
    if (read_cpus(job, OFFLINE_FILE, &offline) >= 0) {
      for (size_t i = 0; i < QUOTA_CPUS_MAX / 64; i++) s->w[i] &= ~offline.w[i];
    } else {
      *s = other;
    }
  }
  return cpus_count(s);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The mask of the process.  Fills in `allowed`; it stays as it was where the mask tells nothing. */
static int allowed_by_mask(struct job *job, struct cpus *online, struct cpus *allowed) {
  struct quota *q = job->q;
  struct cpus mask;
  int r = read_affinity(job, &mask);
  if (r <= 0) return r;
  if (q->cpus_host == 0) { /* we don't know which are online: the mask is the best that we have */
    q->cpus_host = (uint32_t)r;
    q->cpus_affinity = (uint32_t)r;
    *allowed = *online = mask;
  } else if (keep_online(job, &mask, online)) {
    q->cpus_affinity = least(cpus_count(&mask), q->cpus_host);
    *allowed = mask;
  } else {
    note(job, -EINVAL, "the affinity mask", 0, "none of its CPUs is online");
  }
  return 0;
}

/* The cpuset of its cgroup, the same. */
static void allowed_by_cpuset(struct job *job, const struct cpus *online, struct cpus *allowed, char file[QUOTA_FILE_MAX]) {
  struct quota *q = job->q;
  struct cpus set;
  if (read_cpuset(job, &set, file) <= 0) return;
  if (q->cpus_host == 0)
    q->cpus_host = cpus_count(&set);
  else
    keep_online(job, &set, online);
  q->cpus_cpuset = least(cpus_count(&set), q->cpus_host);
  if (q->cpus_cpuset == 0)
    note(job, -EINVAL, file, 0, "none of its CPUs is online");
  else if (q->cpus_affinity == 0 || cpus_and(&set, allowed))
    *allowed = set;
  else
    note(job, -EINVAL, file, 0, "none of its CPUs is in the affinity mask");
}

/* How many CPUs there are and how many may be used.  Returns -ESRCH when the process is gone.  `cpuset_file` gets the cpuset's. */
static OWN_FRAME int read_allowed(struct job *job, char cpuset_file[QUOTA_FILE_MAX]) {
  struct quota *q = job->q;
  struct cpus online, allowed;
  int n = read_cpus(job, ONLINE_FILE, &online);
  if (n <= 0) memset(&online, 0, sizeof(online));
  q->cpus_host = n > 0 ? (uint32_t)n : 0;
  allowed = online;
  int r = allowed_by_mask(job, &online, &allowed);
  allowed_by_cpuset(job, &online, &allowed, cpuset_file);
  if (q->cpus_host == 0) q->cpus_host = 1;
  q->cpus_allowed = least(cpus_count(&allowed), q->cpus_host);
  if (q->cpus_allowed == 0) q->cpus_allowed = 1;
  return r == -ESRCH ? r : 0;
}

/* ---- the conclusion ----------------------------------------------------------------------------------- */

static void conclude(struct job *job, const char *cpuset_file) {
  struct quota *q = job->q;
  uint64_t all = (uint64_t)q->cpus_allowed * MILLION;
  q->cpu_micro = q->quota_micro < all ? q->quota_micro : all;
  q->slots = (uint32_t)((q->cpu_micro + MILLION - 1) / MILLION);
  uint32_t part = (uint32_t)(q->cpu_micro % MILLION);
  q->duty_ppm = part ? part : MILLION;

  if (q->quota_micro <= all) {
    q->decider = QUOTA_BY_CFS;
    path_join(q->source, sizeof(q->source), q->decider_dir, strlen(q->decider_dir), q->version == 2 ? "cpu.max" : "cpu.cfs_quota_us");
  } else if (q->cpus_cpuset == q->cpus_allowed && q->cpus_allowed < q->cpus_host) {
    q->decider = QUOTA_BY_CPUSET;
    path_copy(q->source, sizeof(q->source), cpuset_file, strlen(cpuset_file));
  } else if (q->cpus_allowed < q->cpus_host) {
    q->decider = QUOTA_BY_AFFINITY;
    proc_path(q->source, sizeof(q->source), q->pid, "status");
  } else {
    q->decider = QUOTA_BY_HOST;
    path_copy(q->source, sizeof(q->source), ONLINE_FILE, strlen(ONLINE_FILE));
  }
}

/* Everything that can change while the cgroup stays the same. */
static int measure(struct job *job) {
  struct quota *q = job->q;
  char cpuset_file[QUOTA_FILE_MAX] = "";
  q->limited = q->weighted = false;
  q->quota_micro = QUOTA_NONE;
  q->quota_us = q->period_us = q->burst_us = 0;
  q->cpus_cpuset = q->cpus_affinity = 0;
  q->nlevels = q->depth = 0;
  q->domain_dir[0] = q->decider_dir[0] = '\0';
  path_copy(q->domain, sizeof(q->domain), "/", 1);
  read_chain(job);
  int r = read_allowed(job, cpuset_file);
  conclude(job, cpuset_file);
  return r;
}

/* ---- where: /proc/PID/cgroup and mountinfo ------------------------------------------------------------ */

enum { CPU, ACCT, CPUSET, NHIERS };
static const char *const controller[NHIERS] = {"cpu", "cpuacct", "cpuset"};

/* One of the three hierarchies, while we look for it. */
struct hier {
  uint8_t version; /* 0: /proc/PID/cgroup doesn't mention it */
  enum { NOWHERE, ROOT_ONLY, EXACT } found;
  size_t above; /* EXACT: length of the mount's root field */
  uint16_t *mount_len;
  char *dir;                 /* the directory found */
  char *cgroup;              /* the path in /proc/PID/cgroup */
  char root[QUOTA_PATH_MAX]; /* ROOT_ONLY: the mount's root field */
};

/* Takes a list of words up to `end`; returns a bit for each of our controllers. */
static unsigned controllers(struct in *in, char end) {
  unsigned bits = 0;
  char word[16];
  for (;;) {
    bool whole = in_word(in, word, sizeof(word), ",:");
    for (unsigned i = 0; whole && i < NHIERS; i++)
      if (strcmp(word, controller[i]) == 0) bits |= 1u << i;
    int c = in_peek(in);
    if (c == IN_END || c == '\n' || c == end) return bits;
    in_get(in);
  }
}

/* Takes a path to the end of the line, without slashes at its end.  True if it fits; else it is cut to the deepest ancestor that does. */
static bool cgroup_name(struct in *in, char *buf) {
  struct text t;
  text_start(&t, buf, QUOTA_PATH_MAX);
  size_t n = 0;
  for (; !at_eol(in); n++) text_char(&t, (char)in_get(in));
  size_t len = n == t.len ? name_len(buf) : path_parent(buf, t.len, 0);
  path_copy(buf, QUOTA_PATH_MAX, len ? buf : "/", len ? len : 1);
  return n == t.len;
}

/* One line "ID:controllers:path" of /proc/PID/cgroup. */
static const char *cgroup_line(struct in *in, struct hier h[NHIERS]) {
  uint64_t id;
  if (in_number(in, &id) < 0 || !in_takes(in, ":")) return "a line that does not begin with a number and a colon";
  bool v2 = id == 0 && in_peek(in) == ':';
  unsigned bits = controllers(in, ':');
  if (!in_takes(in, ":")) return "a line without a second colon";
  if (in_peek(in) != '/') return "a cgroup that does not begin with a slash";
  char name[QUOTA_PATH_MAX];
  bool fits = cgroup_name(in, name);
  unsigned used = 0;
  for (unsigned i = 0; i < NHIERS; i++) {
    /* A controller is in a v1 hierarchy or in the v2 tree: the latter if no v1 line names it. */
    bool take = v2 ? h[i].version == 0 : (bits >> i & 1) && h[i].version != 1;
    if (!take) continue;
    h[i].version = v2 ? 2 : 1;
    path_copy(h[i].cgroup, QUOTA_PATH_MAX, name, strlen(name));
    used++;
  }
  return fits || !used ? NULL : "a cgroup path too long for us; its nearest ancestor that is not too long stands for it";
}

/* A file that isn't there is no problem: the kernel has no cgroups, or the process is gone, which measure() will find out. */
static OWN_FRAME void find_cgroups(struct job *job, struct hier h[NHIERS]) {
  char file[PROC_PATH_MAX];
  proc_path(file, sizeof(file), job->q->pid, "cgroup");
  struct in in;
  int r = in_open(&in, job->fs, file);
  if (r < 0) {
    if (r != -ENOENT && r != -ESRCH) note_unreadable(job, r, file);
    return;
  }
  while (in_peek(&in) != IN_END) {
    unsigned line = in.line;
    const char *what = cgroup_line(&in, h);
    if (what) note(job, -EINVAL, file, line, what);
    in_skip_line(&in);
  }
  job->q->where = in.hash;
  in_finish(job, &in, file, 0, NULL);
}

/* One line of mountinfo. */
struct mount {
  uint8_t version; /* 1 or 2; 0: not a cgroup mount */
  unsigned bits;   /* v1: its controllers */
  bool fits;       /* root and point are whole */
  char root[QUOTA_PATH_MAX];
  char point[QUOTA_PATH_MAX];
};

/* A field of mountinfo; the kernel writes blank, tab, newline, # and backslash as \ooo.  False if it didn't fit. */
static bool mount_field(struct in *in, char *buf, size_t cap) {
  struct text t;
  text_start(&t, buf, cap);
  size_t n = 0;
  for (int c; c = in_peek(in), !is_blank(c) && c != '\n' && c != IN_END; n++) {
    in_get(in);
    if (c == '\\') {
      int v = 0, digits = 0;
      for (int d; digits < 3 && (d = in_peek(in)) >= '0' && d <= '7'; digits++) v = v * 8 + in_get(in) - '0';
      if (digits == 3 && v > 0 && v < 256) c = v;
    }
    text_char(&t, (char)c);
  }
  in_skip_blanks(in);
  return n == t.len;
}

/* "ID PARENT MAJ:MIN ROOT POINT OPTIONS [OPTIONAL]... - TYPE SOURCE SUPEROPTIONS".  Other file systems come out as version 0. */
static void mount_line(struct in *in, struct mount *m) {
  char word[12];
  m->version = 0;
  for (int i = 0; i < 3; i++) mount_field(in, word, sizeof(word));
  m->fits = mount_field(in, m->root, sizeof(m->root));
  m->fits &= mount_field(in, m->point, sizeof(m->point));
  do {
    if (at_eol(in)) return;
    mount_field(in, word, sizeof(word));
  } while (strcmp(word, "-") != 0);
  if (!mount_field(in, word, sizeof(word)) || m->root[0] != '/' || m->point[0] != '/') return;
  if (strcmp(word, "cgroup2") == 0) {
    m->version = 2;
  } else if (strcmp(word, "cgroup") == 0) {
    mount_field(in, word, sizeof(word));
    m->version = 1;
    m->bits = controllers(in, ' ');
  }
}

/* Where a mount shows the cgroup: its point, and what of the path is below its root.  Too long: an ancestor that fits. */
static size_t mount_dir(char dir[QUOTA_PATH_MAX], const struct mount *m, const char *below, bool *fits) {
  struct text t;
  text_start(&t, dir, QUOTA_PATH_MAX);
  text_str(&t, m->point);
  size_t point = name_len(dir); /* mounted on "/": the empty string, files are "/" + name */
  t.len = point;
  dir[point] = '\0';
  text_str(&t, below);
  *fits = t.len == point + strlen(below);
  if (!*fits) dir[path_parent(dir, t.len, point)] = '\0';
  return point;
}

/* Compares one mount of the right hierarchy with the best so far. */
static void consider(struct job *job, struct hier *h, const struct mount *m, const char *file, unsigned line) {
  char dir[QUOTA_PATH_MAX];
  size_t above = name_len(m->root);
  bool covers = name_covers(m->root, above, h->cgroup) && !leads_out(h->cgroup + above);
  if (covers && (h->found != EXACT || above < h->above)) {
    bool fits;
    size_t len = name_len(h->cgroup);
    size_t point = mount_dir(dir, m, len > above ? h->cgroup + above : "", &fits);
    if (fs_exists(job->fs, dir[0] ? dir : "/")) {
      if (!fits) note(job, -ENAMETOOLONG, file, line, "a mount point too long for the whole cgroup path; an ancestor stands for it");
      path_copy(h->dir, QUOTA_PATH_MAX, dir, strlen(dir));
      *h->mount_len = (uint16_t)point;
      h->found = EXACT;
      h->above = above;
      return;
    }
  }
  if (h->found != NOWHERE) return;
  bool fits;
  size_t point = mount_dir(dir, m, "", &fits);
  if (!fs_exists(job->fs, dir[0] ? dir : "/")) return;
  path_copy(h->dir, QUOTA_PATH_MAX, dir, strlen(dir));
  path_copy(h->root, QUOTA_PATH_MAX, m->root, strlen(m->root));
  *h->mount_len = (uint16_t)point;
  h->found = ROOT_ONLY;
}

static OWN_FRAME int scan_mounts(struct job *job, struct hier h[NHIERS], const char *file) {
  struct in in;
  int r = in_open(&in, job->fs, file);
  if (r < 0) return r;
  in.left = IN_MOST_MOUNTS;
  struct mount m;
  while (in_peek(&in) != IN_END) {
    unsigned line = in.line;
    mount_line(&in, &m);
    in_skip_line(&in);
    if (m.version && !m.fits) note(job, -ENAMETOOLONG, file, line, "the path of a cgroup mount is too long for us");
    for (unsigned i = 0; m.version && m.fits && i < NHIERS; i++)
      if (h[i].version == m.version && (m.version == 2 || (m.bits >> i & 1))) consider(job, &h[i], &m, file, line);
  }
  return in_finish(job, &in, file, 0, NULL);
}

/* Our own mounts first, or those of the process: see struct quota_fs. */
static void find_mounts(struct job *job, struct hier h[NHIERS]) {
  int pid = job->q->pid;
  char file[2][PROC_PATH_MAX];
  bool own_first = job->fs->mounts_of_pid && pid > 0;
  proc_path(file[0], sizeof(file[0]), own_first ? pid : 0, "mountinfo");
  proc_path(file[1], sizeof(file[1]), own_first ? 0 : pid, "mountinfo");
  int r = scan_mounts(job, h, file[0]);
  if (pid > 0 && h[CPU].found == NOWHERE) {
    int r2 = scan_mounts(job, h, file[1]);
    if (r == 0 || r2 == 0) r = 0;
  }
  if (r < 0)
    note_unreadable(job, r, file[0]);
  else if (h[CPU].version && h[CPU].found == NOWHERE)
    note(job, -ENOENT, file[0], 0,
         h[CPU].version == 2 ? "no cgroup2 file system is mounted" : "no cgroup file system with the cpu controller is mounted");
}

/* What a hierarchy came to. */
static uint8_t settle(struct hier *h) {
  if (h->found == NOWHERE) {
    h->cgroup[0] = h->dir[0] = '\0';
    return 0;
  }
  if (h->found == ROOT_ONLY) {
    path_copy(h->cgroup, QUOTA_PATH_MAX, h->root, strlen(h->root));
  } else {
    /* The path was cut to what fits below the mount point, or not at all. */
    size_t len = h->above + strlen(h->dir) - *h->mount_len;
    h->cgroup[len] = '\0';
  }
  size_t len = name_len(h->cgroup);
  if (len == 0)
    memcpy(h->cgroup, "/", 2);
  else
    h->cgroup[len] = '\0';
  return h->version;
}

static OWN_FRAME void locate(struct job *job) {
  struct quota *q = job->q;
  char cpuset_cgroup[QUOTA_PATH_MAX];
  struct hier h[NHIERS];
  for (unsigned i = 0; i < NHIERS; i++) {
    h[i].version = 0;
    h[i].found = NOWHERE;
    h[i].above = 0;
  }
  h[CPU].dir = q->dir, h[CPU].cgroup = q->cgroup, h[CPU].mount_len = &q->mount_len;
  h[ACCT].dir = q->acct_dir, h[ACCT].cgroup = q->acct_cgroup, h[ACCT].mount_len = &q->acct_mount_len;
  h[CPUSET].dir = q->cpuset_dir, h[CPUSET].cgroup = cpuset_cgroup, h[CPUSET].mount_len = &q->cpuset_mount_len;
  find_cgroups(job, h);
  if (h[CPU].version || h[ACCT].version || h[CPUSET].version) find_mounts(job, h);
  q->version = settle(&h[CPU]);
  q->acct_version = settle(&h[ACCT]);
  q->cpuset_version = settle(&h[CPUSET]);
  q->inexact = h[CPU].found == ROOT_ONLY;
}

int quota_find(struct quota *q, const struct quota_fs *fs, int pid) {
  struct job job = {.q = q, .fs = fs};
  memset(q, 0, sizeof(*q));
  q->pid = pid;
  locate(&job);
  int r = measure(&job);
  if (r < 0 && q->problems == 0) {
    char file[PROC_PATH_MAX];
    proc_path(file, sizeof(file), pid, "status");
    note_unreadable(&job, r, file);
  }
  return r < 0 ? r : job.err;
}

static uint64_t hash_add(uint64_t h, uint64_t v) { return (h ^ v ^ v >> 32) * FNV_PRIME; }

/* Of all that `changed` of quota_refresh speaks of. */
static uint64_t fingerprint(const struct quota *q) {
  const uint64_t v[] = {q->cpu_micro, q->quota_us, q->period_us, q->burst_us, q->cpus_allowed, q->cpus_host, q->limited};
  uint64_t h = FNV_START;
  for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) h = hash_add(h, v[i]);
  for (const char *s = q->domain; *s; s++) h = hash_add(h, (unsigned char)*s);
  for (uint32_t i = 0; i < q->nlevels; i++) {
    const struct quota_level *l = &q->levels[i];
    h = hash_add(hash_add(hash_add(h, l->weight), l->quota_us), l->period_us);
  }
  return h;
}

int quota_refresh(struct quota *q, const struct quota_fs *fs, bool *changed) {
  struct job job = {.q = q, .fs = fs};
  uint64_t before = fingerprint(q);
  q->problems = 0;
  q->problem[0] = '\0';
  bool gone = q->version && !fs_exists(fs, q->dir[0] ? q->dir : "/");
  int r = measure(&job);
  if (changed) *changed = fingerprint(q) != before;
  if (r < 0) return r;
  return gone ? -ENODEV : job.err;
}

int quota_moved(const struct quota *q, const struct quota_fs *fs) {
  char file[PROC_PATH_MAX];
  proc_path(file, sizeof(file), q->pid, "cgroup");
  struct in in;
  int r = in_open(&in, fs, file);
  if (r < 0) return r == -ENOENT ? -ESRCH : r;
  while (in_get(&in) != IN_END) continue;
  r = in_error(&in);
  in_close(&in);
  return r < 0 ? r : in.hash != q->where;
}

/* ---- levels and watches ------------------------------------------------------------------------------- */

int quota_level_dir(const struct quota *q, unsigned i, char *buf, size_t cap) {
  return i < q->nlevels ? path_copy(buf, cap, q->dir, q->levels[i].dir_len) : -ENOENT;
}

int quota_level_name(const struct quota *q, unsigned i, char *buf, size_t cap) {
  if (i >= q->nlevels) return -ENOENT;
  size_t len = q->levels[i].name_len;
  return len ? path_copy(buf, cap, q->cgroup, len) : path_copy(buf, cap, "/", 1);
}

int quota_watch_path(const struct quota *q, unsigned i, char *path, size_t cap) {
  static const char *const v2[] = {"cpu.max", "cpu.max.burst"};
  static const char *const v1[] = {"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"};
  const char *const *names = q->version == 2 ? v2 : v1;
  unsigned n = q->version == 2 ? 2 : 3;
  if (i < q->nlevels * n) return path_join(path, cap, q->dir, q->levels[i / n].dir_len, names[i % n]);
  i -= q->nlevels * n;
  if (i < q->nlevels) return path_join(path, cap, q->dir, q->levels[i].dir_len, q->version == 2 ? "cpu.weight" : "cpu.shares");
  i -= q->nlevels;
  if (q->cpuset_version == 0) return -ENOENT;
  size_t len = strlen(q->cpuset_dir);
  for (; i; i--) {
    if (len == q->cpuset_mount_len) return -ENOENT;
    len = path_parent(q->cpuset_dir, len, q->cpuset_mount_len);
  }
  return path_join(path, cap, q->cpuset_dir, len, "cpuset.cpus");
}

/* ---- meters ------------------------------------------------------------------------------------------- */

/*
 * The file that counts the CPU time of the cgroup cgroup[0..len).  In v1, cpuacct may be another hierarchy, where the process
 * may be elsewhere; only if its cgroup there is below one of the same name, that one counts the same processes.
 */
static void meter_usage(struct quota_meter *m, const struct quota *q, size_t len) {
  m->usage_version = 0;
  m->usage[0] = '\0';
  if (q->acct_version == 0 || q->inexact || !name_covers(q->cgroup, len, name_len(q->acct_cgroup) ? q->acct_cgroup : "")) return;
  size_t above = above_mount(q->acct_cgroup, q->acct_dir, q->acct_mount_len);
  if (len < above) return; /* it is above what the mount shows */
  size_t dir = q->acct_mount_len + (len - above);
  if (path_join(m->usage, sizeof(m->usage), q->acct_dir, dir, q->acct_version == 2 ? "cpu.stat" : "cpuacct.usage") == 0)
    m->usage_version = q->acct_version;
}

static void meter_stat(struct quota_meter *m, const struct quota *q, const char *dir, size_t len) {
  m->stat_version = 0;
  m->stat[0] = '\0';
  if (q->version && path_join(m->stat, sizeof(m->stat), dir, len, "cpu.stat") == 0) m->stat_version = q->version;
}

void quota_meter_domain(struct quota_meter *m, const struct quota *q) {
  meter_usage(m, q, name_len(q->domain));
  const char *dir = q->limited ? q->decider_dir : q->domain_dir;
  meter_stat(m, q, dir, strlen(dir));
}

int quota_meter_level(struct quota_meter *m, const struct quota *q, unsigned i) {
  if (i >= q->nlevels) return -ENOENT;
  meter_usage(m, q, q->levels[i].name_len);
  meter_stat(m, q, q->dir, q->levels[i].dir_len);
  return 0;
}

/* Reads lines "key value"; `take` gets each that is well-formed. */
static int read_stat(const struct quota_fs *fs, const char *file, void (*take)(void *arg, const char *key, uint64_t v), void *arg) {
  struct in in;
  int r = in_open(&in, fs, file);
  if (r < 0) return r;
  char key[24];
  while (in_peek(&in) != IN_END) {
    uint64_t v;
    bool whole = in_word(&in, key, sizeof(key), "");
    in_skip_blanks(&in);
    if (whole && in_number(&in, &v) == 0 && at_eol(&in)) take(arg, key, v);
    in_skip_line(&in);
  }
  r = in_error(&in);
  in_close(&in);
  return r;
}

struct usage {
  uint64_t ns;
  bool found;
};

static void take_usage(void *arg, const char *key, uint64_t v) {
  struct usage *u = arg;
  if (strcmp(key, "usage_usec") != 0 || v > UINT64_MAX / 1000) return;
  u->ns = v * 1000;
  u->found = true;
}

int quota_usage_ns(const struct quota_meter *m, const struct quota_fs *fs, uint64_t *ns) {
  if (m->usage_version == 0) return -ENODATA;
  struct usage u = {0};
  int r;
  if (m->usage_version == 2) {
    r = read_stat(fs, m->usage, take_usage, &u);
  } else {
    struct in in;
    r = in_open(&in, fs, m->usage);
    if (r < 0) return r;
    u.found = in_number(&in, &u.ns) == 0 && at_eol(&in);
    r = in_error(&in);
    in_close(&in);
  }
  if (r < 0) return r;
  if (!u.found) return -ENODATA;
  *ns = u.ns;
  return 0;
}

static void take_throttle(void *arg, const char *key, uint64_t v) {
  struct quota_throttle *t = arg;
  if (strcmp(key, "nr_periods") == 0)
    t->nr_periods = v;
  else if (strcmp(key, "nr_throttled") == 0)
    t->nr_throttled = v;
  else if (strcmp(key, "throttled_usec") == 0)
    t->throttled_us = v;
  else if (strcmp(key, "throttled_time") == 0)
    t->throttled_us = v / 1000; /* v1: ns */
  else if (strcmp(key, "nr_bursts") == 0)
    t->nr_bursts = v;
  else if (strcmp(key, "burst_usec") == 0)
    t->burst_us = v;
  else if (strcmp(key, "burst_time") == 0)
    t->burst_us = v / 1000;
}

int quota_throttled(const struct quota_meter *m, const struct quota_fs *fs, struct quota_throttle *t) {
  if (m->stat_version == 0) return -ENODATA;
  struct quota_throttle now = {0};
  int r = read_stat(fs, m->stat, take_throttle, &now);
  if (r < 0) return r;
  *t = now;
  return 0;
}
