/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that counts CPUs in all ways that there are, for test_counts_files.sh.
 *
 *   counts_probe check N      it must see N, which is less than the real count; TAP on stdout
 *   counts_probe follow A B   it sees A, says "ready", and waits until it sees B, everywhere
 */
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

int __open_2(const char *, int);
int __open64_2(const char *, int);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);

static int cases, failures;
static bool good; /* the case so far */

#define CHECK(cond, ...)                                 \
  do {                                                   \
    if (!(cond)) {                                       \
      good = false;                                      \
      fprintf(stderr, "line %d: %s: ", __LINE__, #cond); \
      fprintf(stderr, __VA_ARGS__);                      \
      fprintf(stderr, "\n");                             \
    }                                                    \
  } while (0)

static void result(const char *name) {
  printf("%s %d - %s\n", good ? "ok" : "not ok", ++cases, name);
  failures += !good;
  good = true;
}

static const char *const paths[] = {"/sys/devices/system/cpu/online", "/sys/devices/system/cpu/present", "/sys/devices/system/cpu/possible",
                                    "/proc/cpuinfo", "/proc/stat"};
enum { PATHS = sizeof paths / sizeof *paths };

/* ---- counting ------------------------------------------------------------------------------------- */

static int count_list(const char *s) {
  int n = 0;
  for (char *end; *s >= '0' && *s <= '9'; s = end + (*end == ',')) {
    long a = strtol(s, &end, 10), b = a;
    if (*end == '-') b = strtol(end + 1, &end, 10);
    n += (int)(b - a + 1);
  }
  return n;
}

static int count_lines(const char *s, const char *start, bool digit) {
  int n = 0;
  for (; s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL) {
    size_t len = strlen(start);
    n += strncmp(s, start, len) == 0 && (!digit || (s[len] >= '0' && s[len] <= '9'));
  }
  return n;
}

static int count_text(const char *path, const char *text) {
  if (strstr(path, "cpuinfo")) return count_lines(text, "processor", false);
  if (strstr(path, "stat")) return count_lines(text, "cpu", true);
  return count_list(text);
}

/* Not async-signal-safe only for its size: 1 MB of stack. */
static int count_fd(int fd, const char *path) {
  char buf[1 << 20];
  size_t len = 0;
  for (ssize_t n; len < sizeof buf - 1 && (n = read(fd, buf + len, sizeof buf - 1 - len)) > 0;) len += (size_t)n;
  buf[len] = 0;
  return count_text(path, buf);
}

static int count_file(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int n = count_fd(fd, path);
  close(fd);
  return n;
}

static int count_stream(FILE *f, const char *path) {
  char *buf = calloc(1, 1 << 20);
  if (!f || !buf) return -1;
  buf[fread(buf, 1, (1 << 20) - 1, f)] = 0;
  int n = count_text(path, buf);
  free(buf);
  return n;
}

static int count_mask(void) {
  cpu_set_t m;
  return sched_getaffinity(0, sizeof m, &m) == 0 ? CPU_COUNT(&m) : -1;
}

static bool sees_everywhere(int n) {
  bool all = sysconf(_SC_NPROCESSORS_ONLN) == n && sysconf(_SC_NPROCESSORS_CONF) == n && get_nprocs() == n && get_nprocs_conf() == n &&
             count_mask() == n;
  for (int i = 0; i < PATHS; i++) all = all && count_file(paths[i]) == n;
  return all;
}

/* ---- the cases ------------------------------------------------------------------------------------ */

static void check_calls(int n) {
  cpu_set_t m;
  CHECK(sysconf(_SC_NPROCESSORS_ONLN) == n, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
  CHECK(sysconf(_SC_NPROCESSORS_CONF) == n, "%ld", sysconf(_SC_NPROCESSORS_CONF));
  CHECK(get_nprocs() == n, "%d", get_nprocs());
  CHECK(get_nprocs_conf() == n, "%d", get_nprocs_conf());
  CHECK(count_mask() == n, "%d", count_mask());
  CHECK(pthread_getaffinity_np(pthread_self(), sizeof m, &m) == 0 && CPU_COUNT(&m) == n, "%d", CPU_COUNT(&m));
  unsigned long raw[128] = {0};
  CHECK(syscall(SYS_sched_getaffinity, 0, sizeof raw, raw) > 0, "%m");
  CHECK(__builtin_popcountl(raw[0]) == n, "%lx", raw[0]);
  CHECK(sched_getcpu() < n, "%d", sched_getcpu());
  result("calls_give_the_count");
}

static void check_opens(int n) {
  char dir[256], name[64];
  for (int i = 0; i < PATHS; i++) {
    const char *p = paths[i], *slash = strrchr(p, '/');
    snprintf(dir, sizeof dir, "%.*s", (int)(slash - p), p);
    snprintf(name, sizeof name, "%s", slash + 1);
    char doubled[512], dotted[512], up[512];
    snprintf(doubled, sizeof doubled, "/%s//%s", dir, name);
    snprintf(dotted, sizeof dotted, "%s/./%s", dir, name);
    snprintf(up, sizeof up, "/proc/self/../..%s", p);
    int at = open(dir, O_RDONLY | O_DIRECTORY);
    int fds[] = {open(p, O_RDONLY),
                 open64(p, O_RDONLY),
                 openat(AT_FDCWD, p, O_RDONLY),
                 openat64(AT_FDCWD, p, O_RDONLY),
                 __open_2(p, O_RDONLY),
                 __open64_2(p, O_RDONLY),
                 __openat_2(AT_FDCWD, p, O_RDONLY),
                 __openat64_2(AT_FDCWD, p, O_RDONLY),
                 openat(at, name, O_RDONLY),
                 open(doubled, O_RDONLY),
                 open(dotted, O_RDONLY),
                 open(up, O_RDONLY),
                 chdir(dir) == 0 ? open(name, O_RDONLY | O_NONBLOCK) : -1};
    for (size_t f = 0; f < sizeof fds / sizeof *fds; f++) {
      int got = fds[f] < 0 ? -1 : count_fd(fds[f], p);
      CHECK(got == n, "%s, way %zu: %d", p, f, got);
      close(fds[f]);
    }
    close(at);
    FILE *s[] = {fopen(p, "r"), fopen64(p, "re"), fopen(doubled, "rm"), freopen(p, "r", fopen("/dev/null", "r")),
                 freopen64(p, "rb", fopen("/dev/null", "w"))};
    for (size_t f = 0; f < sizeof s / sizeof *s; f++) {
      int got = count_stream(s[f], p);
      CHECK(got == n, "%s, stream %zu: %d", p, f, got);
      if (s[f]) fclose(s[f]);
    }
  }
  result("each_way_of_opening_shows_the_count");
}

static int raw_open(const char *p, int flags) { return (int)syscall(SYS_openat, AT_FDCWD, p, flags, 0); }

static void check_descriptor(void) {
  for (int i = 0; i < PATHS; i++) {
    for (int cloexec = 0; cloexec < 2; cloexec++) {
      int flags = O_RDONLY | O_NOFOLLOW | (cloexec ? O_CLOEXEC | O_NONBLOCK : 0);
      int real = raw_open(paths[i], flags);
      int want_fl = fcntl(real, F_GETFL), want_fd = fcntl(real, F_GETFD);
      close(real);
      int fd = open(paths[i], flags);
      CHECK(fd == real, "number %d, not %d", fd, real);
      CHECK(fcntl(fd, F_GETFD) == want_fd, "%d", fcntl(fd, F_GETFD));
      CHECK(((fcntl(fd, F_GETFL) ^ want_fl) & ~O_NOFOLLOW) == 0, "%o, not %o", fcntl(fd, F_GETFL), want_fl);
      CHECK(lseek(fd, 0, SEEK_CUR) == 0, "position %ld", (long)lseek(fd, 0, SEEK_CUR));
      errno = 0;
      CHECK(write(fd, "x", 1) == -1 && errno == EBADF, "write: %m");
      struct stat st;
      CHECK(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0444, "mode %o", st.st_mode);
      char text[8192], again[8192];
      ssize_t n = pread(fd, text, sizeof text, 0);
      CHECK(n > 0 && (st.st_size == n || n == sizeof text), "size %ld, read %zd", (long)st.st_size, n);
      CHECK(lseek(fd, 1, SEEK_SET) == 1 && read(fd, again, sizeof again) >= n - 1 && memcmp(text + 1, again, (size_t)n - 1) == 0, "from 1");
      close(fd);
    }
  }
  errno = 0;
  int wr = open("/proc/stat", O_RDWR), err = errno;
  errno = 0;
  int raw = raw_open("/proc/stat", O_RDWR);
  CHECK((wr < 0) == (raw < 0) && err == errno, "O_RDWR: %d and %d", err, errno);
  close(wr), close(raw);
  int path = open("/proc/stat", O_PATH);
  CHECK(path >= 0 && read(path, &err, 1) == -1, "O_PATH");
  close(path);
  result("descriptor_is_like_the_real_one");
}

static void check_errors(int n) {
  const char *volatile bad = NULL;
  errno = 0;
  CHECK(open("/nonexistent/cpuinfo", O_RDONLY) == -1 && errno == ENOENT, "%m");
  errno = 0;
  CHECK(open(bad, O_RDONLY) == -1 && errno == EFAULT, "%m"); /* NOLINT(clang-analyzer-core.NonNullParamChecker): that is the test */
  bad = (const char *)16;
  errno = 0;
  CHECK(openat(AT_FDCWD, bad, O_RDONLY) == -1 && errno == EFAULT, "%m");
  errno = 0;
  CHECK(!fopen("/proc/cpuinfo/stat", "r") && errno == ENOTDIR, "%m");
  errno = 78;
  close(open(paths[3], O_RDONLY));
  CHECK(errno == 78, "errno %d", errno);

  struct rlimit was, now;
  getrlimit(RLIMIT_NOFILE, &was);
  int next = dup(0);
  close(next);
  now = was;
  now.rlim_cur = (rlim_t)next;
  setrlimit(RLIMIT_NOFILE, &now);
  errno = 0;
  CHECK(open(paths[3], O_RDONLY) == -1 && errno == EMFILE, "%m");
  /* One more, or two: the file, real or not; never another error. */
  for (int more = 1; more < 3; more++) {
    now.rlim_cur = (rlim_t)next + (rlim_t)more;
    setrlimit(RLIMIT_NOFILE, &now);
    int fd = open(paths[3], O_RDONLY);
    CHECK(fd == next && count_fd(fd, paths[3]) >= n, "%d: %m", fd);
    close(fd);
  }
  setrlimit(RLIMIT_NOFILE, &was);
  result("errors_are_the_real_ones");
}

static long processes(const char *text) {
  const char *p = strstr(text, "\nprocesses ");
  return p ? strtol(p + 11, NULL, 10) : -1;
}

static void a_process(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  waitpid(pid, NULL, 0);
}

/* Top and its like keep the file open. */
static void check_rewind(int n) {
  static char text[1 << 20];
  int fd = open("/proc/stat", O_RDONLY);
  text[pread(fd, text, sizeof text - 1, 0)] = 0;
  for (int i = 0; i < 3; i++) {
    long before = processes(text);
    a_process();
    CHECK(lseek(fd, 0, SEEK_SET) == 0, "%m");
    ssize_t len = read(fd, text, sizeof text - 1);
    text[len > 0 ? len : 0] = 0;
    CHECK(processes(text) > before && count_text("stat", text) == n, "%ld, then %ld", before, processes(text));
  }
  close(fd);

  FILE *f = fopen("/proc/stat", "r");
  text[fread(text, 1, sizeof text - 1, f)] = 0;
  for (int i = 0; i < 3; i++) {
    long before = processes(text);
    a_process();
    fflush(f);
    if (i == 0) rewind(f);
    if (i == 1) CHECK(fseek(f, 0, SEEK_SET) == 0, "%m");
    if (i == 2) CHECK(fseeko(f, 0, SEEK_SET) == 0, "%m");
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    CHECK(processes(text) > before && count_text("stat", text) == n, "way %d: %ld, then %ld", i, before, processes(text));
  }
  fclose(f);
  result("rewound_stat_is_fresh");
}

static bool is_cpu(const char *name) { return strncmp(name, "cpu", 3) == 0 && name[3] >= '0' && name[3] <= '9'; }
static int only_cpus(const struct dirent *e) { return is_cpu(e->d_name); }

#define COUNT_DIR(type, next)                                   \
  ({                                                            \
    DIR *d_ = opendir("/sys/devices/system/cpu");               \
    int n_ = 0;                                                 \
    for (type * e_; (e_ = next(d_));) n_ += is_cpu(e_->d_name); \
    closedir(d_);                                               \
    n_;                                                         \
  })

static void check_directory(int n) {
  CHECK(COUNT_DIR(struct dirent, readdir) == n, "readdir");
  CHECK(COUNT_DIR(struct dirent64, readdir64) == n, "readdir64");
  struct dirent **list;
  int got = scandir("/sys/devices/system//cpu", &list, only_cpus, alphasort);
  CHECK(got == n && strcmp(list[0]->d_name, "cpu0") == 0, "scandir %d", got);
  while (got > 0) free(list[--got]);
  free(list);
  CHECK(chdir("/sys") == 0, "%m");
  got = scandirat(AT_FDCWD, "devices/system/cpu", &list, only_cpus, NULL);
  CHECK(got == n, "scandirat %d", got);
  while (got > 0) free(list[--got]);
  free(list);
  errno = 0;
  CHECK(scandir("/nonexistent", &list, NULL, NULL) == -1 && errno == ENOENT, "%m");

  /* Such names elsewhere are none of our business. */
  char dir[] = "/tmp/counts-XXXXXX", sub[64];
  CHECK(mkdtemp(dir) != NULL, "%m");
  snprintf(sub, sizeof sub, "%s/cpu7777", dir);
  mkdir(sub, 0700);
  got = scandir(dir, &list, only_cpus, NULL);
  CHECK(got == 1, "elsewhere: %d", got);
  while (got > 0) free(list[--got]);
  free(list);
  rmdir(sub), rmdir(dir);
  result("directory_shows_the_count");
}

static void same_as_raw(const char *path) {
  char a[4096], b[4096];
  int x = open(path, O_RDONLY), y = raw_open(path, O_RDONLY);
  struct stat sx, sy;
  CHECK((x < 0) == (y < 0), "%s", path);
  if (x < 0) return;
  CHECK(fstat(x, &sx) == 0 && fstat(y, &sy) == 0 && sx.st_ino == sy.st_ino && sx.st_dev == sy.st_dev, "%s is another file", path);
  ssize_t n = read(x, a, sizeof a), m = read(y, b, sizeof b);
  CHECK(n == m && (strstr(path, "proc") || memcmp(a, b, (size_t)n) == 0), "%s", path);
  close(x), close(y);
}

static void check_others(void) {
  char mine[64], dir[] = "/tmp/counts-XXXXXX", path[64];
  snprintf(mine, sizeof mine, "/proc/%d/stat", getpid());
  same_as_raw(mine);
  same_as_raw("/proc/self/stat");
  same_as_raw("/sys/devices/system/node/online");
  same_as_raw("/sys/devices/system/cpu/kernel_max");
  same_as_raw("/sys/devices/system/cpu/offline");
  same_as_raw("/sys/devices/system/cpu/cpu1/online");
  CHECK(mkdtemp(dir) != NULL, "%m");
  const char *names[] = {"stat", "online", "possible", "present", "cpuinfo"};
  for (int i = 0; i < 5; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, names[i]);
    FILE *f = fopen(path, "w+");
    fputs("0-63\n", f);
    fclose(f);
    same_as_raw(path);
    unlink(path);
  }
  rmdir(dir);
  result("other_files_are_untouched");
}

static int open_descriptors(void) {
  int n = 0;
  for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

static _Atomic bool stop;
static _Atomic int wrong;
static int expected;

static void *reader(void *arg) {
  unsigned i = (unsigned)(uintptr_t)arg;
  while (!atomic_load(&stop)) {
    const char *p = paths[i++ % PATHS];
    if (count_file(p) != expected) atomic_fetch_add(&wrong, 1);
  }
  return NULL;
}

static void on_signal(int sig) {
  (void)sig;
  int saved = errno;
  if (count_file("/proc/cpuinfo") != expected) atomic_fetch_add(&wrong, 1);
  errno = saved;
}

static void check_threads(int n) {
  expected = n;
  int before = open_descriptors();
  pthread_t t[3];
  struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &sa, NULL);
  for (uintptr_t i = 0; i < 3; i++) pthread_create(&t[i], NULL, reader, (void *)i);
  for (int i = 0; i < 60; i++) {
    for (int k = 0; k < 30; k++) pthread_kill(t[k % 3], SIGUSR1); /* anywhere: also in the middle of a count */
    pid_t pid = fork();
    if (pid == 0) _exit(sees_everywhere(n) ? 0 : 1);
    int status;
    waitpid(pid, &status, 0);
    CHECK(status == 0, "child: %x", status);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  CHECK(wrong == 0, "%d wrong", wrong);
  CHECK(open_descriptors() == before, "%d descriptors, before %d", open_descriptors(), before);
  result("threads_forks_and_handlers_see_it");
}

static int check(int n) {
  good = true;
  check_calls(n);
  check_opens(n);
  check_descriptor();
  check_errors(n);
  check_rewind(n);
  check_directory(n);
  check_others();
  check_threads(n);
  return failures != 0;
}

static int follow(int from, int to) {
  if (!sees_everywhere(from)) return 3;
  puts("ready");
  fflush(stdout);
  for (int i = 0; i < 3000; i++, usleep(10000))
    if (sysconf(_SC_NPROCESSORS_ONLN) == to) return sees_everywhere(to) ? 0 : 4;
  return 5;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "check") == 0) return check(atoi(argv[2]));
  if (argc == 4 && strcmp(argv[1], "follow") == 0) return follow(atoi(argv[2]), atoi(argv[3]));
  return 2;
}
