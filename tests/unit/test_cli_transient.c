/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transient cgroups in a real cgroup v2 tree.  Where the cpu controller is v1's, any controller that v2 has
 * shows the same rules (who may be inner, who hands down, who is moved where); the limit itself is not what is tested.
 */
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "daemon/cli/scope.h"
#include "daemon/cli/transient.h"
#include "daemon/quota.h"
#include "daemon/util.h"
#include "unit.h"

static char base[PATH_MAX], own[PATH_MAX], controller[32];
static bool switched_on; /* the root did not hand the controller down before */

static bool read_line(const char *dir, const char *file, char *buf, size_t cap) {
  char path[PATH_MAX + 64];
  snprintf(path, sizeof(path), "%s/%s", dir, file);
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  buf[0] = 0;
  return f && fgets(buf, (int)cap, f);
}

static int put(const char *dir, const char *file, const char *text) {
  char path[PATH_MAX + 64];
  snprintf(path, sizeof(path), "%s/%s", dir, file);
  _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
  return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Where v2 is mounted, and a controller that its root has. */
static bool find_v2(void) {
  FILE *f = setmntent("/proc/self/mounts", "re");
  char line[256] = "";
  for (struct mntent *m; f && (m = getmntent(f));)
    if (strcmp(m->mnt_type, "cgroup2") == 0 && strlen(m->mnt_dir) < sizeof(base)) strcpy(base, m->mnt_dir);
  if (f) endmntent(f);
  if (!base[0] || !read_line(base, "cgroup.controllers", line, sizeof(line))) return false;
  return sscanf(line, "%31s", controller) == 1;
}

/* A cgroup of our own that has the controller, with this process alone in it. */
static void enter_own(void) {
  char on[64], line[256];
  read_line(base, "cgroup.subtree_control", line, sizeof(line));
  switched_on = !strstr(line, controller);
  snprintf(own, sizeof(own), "%.*s/rationtest-cli-%d", PATH_MAX - 64, base, getpid());
  snprintf(on, sizeof(on), "+%s", controller);
  ck_assert_int_eq(put(base, "cgroup.subtree_control", on), 0);
  ck_assert_int_eq(mkdir(own, 0755), 0);
  ck_assert_int_eq(put(own, "cgroup.procs", "0"), 0);
}

static void leave_own(void) {
  char off[64];
  snprintf(off, sizeof(off), "-%s", controller);
  ck_assert_int_eq(put(base, "cgroup.procs", "0"), 0);
  for (int i = 0; i < 500 && rmdir(own) < 0 && errno == EBUSY; i++) usleep(10000);
  ck_assert_int_ne(access(own, F_OK), 0);
  if (switched_on) put(base, "cgroup.subtree_control", off);
}

static void describe(struct transient *t) {
  *t = (struct transient){.n = 1, .lock = {-1, -1}};
  snprintf(t->place[0].controller, sizeof(t->place[0].controller), "%s", controller);
  t->place[0].version = 2;
  strcpy(t->place[0].dir, own);
  t->place[0].mount_len = strlen(base);
}

static pid_t sleeper(void) {
  pid_t p = fork();
  if (p == 0) {
    for (;;) pause();
  }
  return p;
}

static void end(pid_t p) {
  kill(p, SIGKILL);
  waitpid(p, NULL, 0);
}

static void cgroup_of(pid_t pid, char *buf, size_t cap) {
  char path[64], line[PATH_MAX];
  snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  buf[0] = 0;
  while (f && fgets(line, sizeof(line), f))
    if (strncmp(line, "0::", 3) == 0) snprintf(buf, cap, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
}

/* For who can open a directory can lock it. */
static void ck_others_cannot_open(const char *name, const char *suffix) {
  char path[PATH_MAX + 128];
  struct stat st;
  snprintf(path, sizeof(path), "%s/%s%s", own, name, suffix);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0711);
}

START_TEST(alone_in_v2_it_makes_room_and_leaves_no_trace) {
  static struct transient t;
  char err[TRANSIENT_ERR] = "", in[PATH_MAX], want[PATH_MAX + 128], line[256];
  enter_own();
  describe(&t);
  umask(0077);
  ck_assert_msg(transient_create(&t, err) == 0, "%s", err);
  ck_assert_uint_eq(umask(0022), 0077);
  ck_others_cannot_open(t.name, "");
  ck_others_cannot_open(t.name, "-leaf");
  pid_t p = sleeper();
  ck_assert_msg(transient_attach(&t, p, err) == 0, "%s", err);
  cgroup_of(p, in, sizeof(in));
  snprintf(want, sizeof(want), "%s/%s", own + strlen(base), t.name);
  ck_assert_str_eq(in, want);
  cgroup_of(getpid(), in, sizeof(in));
  ck_assert_ptr_nonnull(strstr(in, "-leaf"));
  /* With the process still inside: it goes up. */
  ck_assert_msg(transient_remove(&t, err) == 0, "%s", err);
  cgroup_of(p, in, sizeof(in));
  ck_assert_str_eq(in, own + strlen(base));
  cgroup_of(getpid(), in, sizeof(in));
  ck_assert_str_eq(in, own + strlen(base));
  read_line(own, "cgroup.subtree_control", line, sizeof(line));
  ck_assert_ptr_null(strstr(line, controller));
  end(p);
  leave_own(); /* fails if a cgroup is left below */
}
END_TEST

START_TEST(beside_others_in_v2_it_refuses) {
  static struct transient t;
  char err[TRANSIENT_ERR] = "";
  enter_own();
  pid_t p = sleeper();
  describe(&t);
  ck_assert_int_eq(transient_create(&t, err), -EBUSY);
  ck_assert_ptr_nonnull(strstr(err, "other processes"));
  end(p);
  leave_own();
}
END_TEST

/* Else `ration run` asks systemd for a cgroup of its own. */
START_TEST(room_is_there_for_one_alone) {
  enter_own();
  ck_assert(transient_has_room(own, controller));
  ck_assert(!transient_has_room(own, "nonesuch"));
  pid_t p = sleeper();
  ck_assert(!transient_has_room(own, controller));
  end(p);
  leave_own();
}
END_TEST

START_TEST(scope_gets_the_same_command) {
  static const char words[] =
      "ration\0run\0--cpus\0"
      "1.5\0--\0sh\0-c\0\0a b";
  const char *argv[32];
  ck_assert_int_eq(scope_command(argv, 32, "/bin/ration", words, sizeof(words)), SCOPE_WORDS + 8);
  static const char *const want[] = {"/bin/ration", "run", "--cpus", "1.5", "--", "sh", "-c", "", "a b"};
  ck_assert_str_eq(argv[0], "systemd-run");
  ck_assert_str_eq(argv[SCOPE_WORDS - 2], "--");
  for (unsigned i = 0; i < 9; i++) ck_assert_str_eq(argv[SCOPE_WORDS - 1 + i], want[i]);
  ck_assert_ptr_null(argv[SCOPE_WORDS + 8]);
  ck_assert_int_eq(scope_command(argv, SCOPE_WORDS + 8, "/bin/ration", words, sizeof(words)), -E2BIG);
}
END_TEST

START_TEST(scope_leaves_no_trace_in_the_environment) {
  unsetenv(SCOPE_AGAIN);
  ck_assert_int_eq(setenv(SCOPE_INVOCATION, "the user's", 1), 0);
  ck_assert(!scope_is_second());
  ck_assert_str_eq(getenv(SCOPE_INVOCATION), "the user's");
  ck_assert_int_eq(setenv(SCOPE_AGAIN, "the user's", 1) | setenv(SCOPE_INVOCATION, "the scope's", 1), 0);
  ck_assert(scope_is_second());
  ck_assert_str_eq(getenv(SCOPE_INVOCATION), "the user's");
  ck_assert(!scope_is_second()); /* nor does the command see it */
  ck_assert_int_eq(setenv(SCOPE_AGAIN, "", 1) | setenv(SCOPE_INVOCATION, "the scope's", 1), 0);
  ck_assert(scope_is_second());
  ck_assert_ptr_null(getenv(SCOPE_INVOCATION));
}
END_TEST

START_TEST(without_the_controller_it_says_so) {
  static struct transient t;
  char err[TRANSIENT_ERR] = "";
  enter_own();
  describe(&t);
  strcpy(t.place[0].controller, "nonesuch");
  ck_assert_int_lt(transient_create(&t, err), 0);
  ck_assert_ptr_nonnull(strstr(err, "nonesuch"));
  leave_own();
}
END_TEST

START_TEST(only_the_dead_are_cleaned) {
  static struct transient t;
  char live[PATH_MAX + 64], dead[PATH_MAX + 64], other[PATH_MAX + 64], inner[PATH_MAX + 128];
  enter_own();
  describe(&t);
  snprintf(live, sizeof(live), "%s/" TRANSIENT_PREFIX "1-live", own);
  snprintf(dead, sizeof(dead), "%s/" TRANSIENT_PREFIX "2-dead", own);
  snprintf(other, sizeof(other), "%s/mine", own);
  snprintf(inner, sizeof(inner), "%s/sub", dead);
  ck_assert_int_eq(mkdir(live, 0755) | mkdir(dead, 0755) | mkdir(other, 0755) | mkdir(inner, 0755), 0);
  int fd = open(live, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_eq(flock(fd, LOCK_EX), 0);
  ck_assert_uint_eq(transient_clean(&t.place[0]), 1);
  ck_assert_int_eq(access(live, F_OK), 0);
  ck_assert_int_eq(access(other, F_OK), 0);
  ck_assert_int_ne(access(dead, F_OK), 0);
  close(fd);
  ck_assert_uint_eq(transient_clean(&t.place[0]), 1);
  ck_assert_int_ne(access(live, F_OK), 0);
  rmdir(other);
  leave_own();
}
END_TEST

int main(void) {
  const TTest *const tests[] = {alone_in_v2_it_makes_room_and_leaves_no_trace,
                                beside_others_in_v2_it_refuses,
                                room_is_there_for_one_alone,
                                scope_gets_the_same_command,
                                scope_leaves_no_trace_in_the_environment,
                                without_the_controller_it_says_so,
                                only_the_dead_are_cleaned};
  if (geteuid() != 0) {
    puts("needs root");
    return UNIT_SKIP;
  }
  if (!find_v2()) {
    puts("no cgroup v2 tree with a controller");
    return UNIT_SKIP;
  }
  return unit_run("cli_transient", tests, sizeof(tests) / sizeof(tests[0]));
}
