/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's log.  See log.h.  Written to by the event loop's thread only.
 *
 * stderr may be a pipe whose reader sleeps.  Its O_NONBLOCK can't be set, since
 * the open file is shared with others, so poll() is asked first: a pipe is writable when a
 * page fits, and a line is shorter than that.
 */
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static int log_fd = STDERR_FILENO;
static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_prefix;
static uint64_t log_lost;

/* systemd says which stream it listens on: "device:inode". */
static bool log_is_journal(int fd) {
  const char *stream = getenv("JOURNAL_STREAM");
  unsigned long long dev, ino;
  struct stat st;
  if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2 || fstat(fd, &st) < 0) return false;
  return st.st_dev == dev && st.st_ino == ino;
}

int log_open(const char *path) {
  int fd = STDERR_FILENO;
  if (path && *path) {
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (fd < 0) return -errno;
  }
  if (log_fd > STDERR_FILENO) close(log_fd);
  log_fd = fd;
  log_prefix = log_is_journal(fd);
  return 0;
}

void log_set_level(enum log_level level) { log_max = level; }

int log_level_parse(const char *name, enum log_level *level) {
  static const char *const names[] = {[3] = "error", [4] = "warning", [5] = "notice", [6] = "info", [7] = "debug"};
  for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
    if (strcasecmp(name, names[i]) == 0) {
      *level = (enum log_level)i;
      return 0;
    }
  }
  return -EINVAL;
}

static bool log_put(const char *line, size_t len) {
  struct pollfd p = {.fd = log_fd, .events = POLLOUT};
  if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) return false;
  ssize_t n;
  do n = write(log_fd, line, len);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)len;
}

/* Control characters in a line would let a client forge others. */
static void log_clean(char *s) {
  for (; *s; s++) {
    if ((unsigned char)*s < ' ' || *s == 0x7f) *s = '?';
  }
}

void log_line(enum log_level level, const char *fmt, ...) {
  if (level > log_max) return;
  int saved = errno;
  char line[1024], text[1000];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof(text), fmt, ap);
  va_end(ap);
  log_clean(text);

  char prefix[8] = "";
  if (log_prefix) snprintf(prefix, sizeof(prefix), "<%d>", level);
  if (log_lost) {
    int n = snprintf(line, sizeof(line), "%srationd: %llu lines were lost, the log could not be written\n", prefix,
                     (unsigned long long)log_lost);
    if (log_put(line, (size_t)n)) log_lost = 0;
  }
  int n = snprintf(line, sizeof(line), "%srationd: %s\n", prefix, text);
  if (!log_put(line, UTIL_MIN((size_t)n, sizeof(line) - 1))) log_lost++;
  errno = saved;
}

bool log_allowed(struct log_limit *limit) {
  uint64_t now = now_ns();
  if (limit->begin == 0 || now - limit->begin >= limit->interval_ns) {
    if (limit->suppressed) log_line(LOG_LEVEL_WARNING, "%u more lines like the next were not written", limit->suppressed);
    limit->begin = now;
    limit->used = limit->suppressed = 0;
  }
  if (limit->used < limit->burst) {
    limit->used++;
    return true;
  }
  limit->suppressed++;
  return false;
}
