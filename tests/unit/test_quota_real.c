/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.c against the kernel that runs here: nested cgroups with quotas, made and removed again, in whichever
 * hierarchy has the cpu controller (v1 or v2), and private mount and cgroup namespaces.  As root; the rest skips.
 */
#include "unit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "daemon/quota.h"

static struct quota q;

/* ---- groups ---- */

static struct quota self; /* of the test itself, before anything */
static char outer[1200], inner[1300], acct_outer[1200], acct_inner[1300];
static pid_t run, child; /* run: the test itself, whose number names the cgroups of all its cases */

static int put(const char *dir, const char *file, const char *text) {
  char path[2400];
  snprintf(path, sizeof(path), "%s/%s", dir, file);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t n = write(fd, text, strlen(text));
  int r = n < 0 ? -errno : 0;
  close(fd);
  return r;
}

static int put_quota(const char *dir, int quota_us, int period_us) {
  char text[64];
  if (self.version == 2) {
    snprintf(text, sizeof(text), "%d %d", quota_us, period_us);
    return put(dir, "cpu.max", text);
  }
  snprintf(text, sizeof(text), "%d", period_us);
  int r = put(dir, "cpu.cfs_period_us", text);
  snprintf(text, sizeof(text), "%d", quota_us);
  return r < 0 ? r : put(dir, "cpu.cfs_quota_us", text);
}

static int put_pid(const char *dir, pid_t pid) {
  char text[16];
  snprintf(text, sizeof(text), "%d", (int)pid);
  return put(dir, "cgroup.procs", text);
}

/* Kills what is still in one of our cgroups, and removes it; it may be busy for a moment after that. */
static void remove_group(const char *dir) {
  char path[2400];
  int pid;
  snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
  FILE *f = fopen(path, "re");
  if (!f) return;
  while (fscanf(f, "%d", &pid) == 1) {
    if (pid > 1 && pid != getpid()) kill(pid, SIGKILL);
  }
  fclose(f);
  for (int i = 0; rmdir(dir) < 0 && errno == EBUSY && i < 2000; i++) usleep(1000);
}

/* Is cpuacct a hierarchy of its own? */
static bool split_acct(void) {
  return self.version == 1 && (self.acct_mount_len != self.mount_len || strncmp(self.acct_dir, self.dir, self.mount_len) != 0);
}

static void end_groups(void) {
  if (child > 0) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    child = 0;
  }
  if (!outer[0]) return;
  remove_group(inner);
  remove_group(outer);
  if (!split_acct()) return;
  remove_group(acct_inner);
  remove_group(acct_outer);
}

/* Makes outer and inner, with a child that sleeps in the latter.  Returns NULL, or why that cannot be. */
static const char *begin_groups(void) {
  int r = quota_find(&self, &quota_fs_host, 0);
  if (r < 0 || self.version == 0) return "no cgroup with a cpu controller is visible";
  snprintf(outer, sizeof(outer), "%.*s/rationtest-quota-%d", self.mount_len, self.dir, (int)run);
  snprintf(inner, sizeof(inner), "%s/inner", outer);
  snprintf(acct_outer, sizeof(acct_outer), "%.*s/rationtest-quota-%d", self.acct_mount_len, self.acct_dir, (int)run);
  snprintf(acct_inner, sizeof(acct_inner), "%s/inner", acct_outer);
  if (mkdir(outer, 0755) < 0) return "no cgroup can be made";
  if (self.version == 2) put(outer, "cgroup.subtree_control", "+cpu");
  if (mkdir(inner, 0755) < 0) return "no nested cgroup can be made";
  if (split_acct() && (mkdir(acct_outer, 0755) < 0 || mkdir(acct_inner, 0755) < 0)) return "no cpuacct cgroup can be made";
  if (put_quota(outer, 180000, 100000) < 0 || put_quota(inner, 75000, 50000) < 0) return "no quota can be set";
  child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  if (put_pid(inner, child) < 0) return "no process can be moved";
  if (split_acct() && put_pid(acct_inner, child) < 0) return "no process can be moved in cpuacct";
  return NULL;
}

/* Each test has groups of its own. */
static void set_up(void) {
  const char *why = begin_groups();
  ck_assert_msg(why == NULL, "%s: %s", why ? why : "", strerror(errno));
}

/* Waits for something that will be; gives up, and is false, only after a time that no healthy machine needs. */
#define WAIT_FOR(cond)                                          \
  __extension__({                                               \
    for (int i_ = 0; i_ < 20000 && !(cond); i_++) usleep(1000); \
    (cond);                                                     \
  })

/* ---- the process itself, without any privilege ---- */

START_TEST(own_affinity_is_what_the_kernel_says) {
  cpu_set_t set;
  ck_assert_int_eq(sched_getaffinity(0, sizeof(set), &set), 0);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, 0), 0);
  ck_assert_uint_eq(q.cpus_affinity, (unsigned)CPU_COUNT(&set));
  ck_assert_uint_le(q.cpus_allowed, (unsigned)CPU_COUNT(&set));
  ck_assert_int_eq(quota_moved(&q, &quota_fs_host), 0);
}
END_TEST

START_TEST(self_and_own_pid_agree) {
  static struct quota other;
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, 0), 0);
  ck_assert_int_eq(quota_find(&other, &quota_fs_host, getpid()), 0);
  ck_assert_str_eq(q.dir, other.dir);
  ck_assert_str_eq(q.domain, other.domain);
  ck_assert_uint_eq(q.cpu_micro, other.cpu_micro);
  ck_assert_uint_eq(q.where, other.where);
}
END_TEST

START_TEST(a_dead_process_is_no_process) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, pid), -ESRCH);
}
END_TEST

START_TEST(a_zombie_is_still_a_process) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t si;
  ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, pid), 0);
  waitpid(pid, NULL, 0);
}
END_TEST

/* ---- real cgroups ---- */

START_TEST(nested_quotas_of_the_kernel_are_found) {
  ck_assert_msg(quota_find(&q, &quota_fs_host, child) == 0, "%s", q.problem);
  char want[64];
  snprintf(want, sizeof(want), "/rationtest-quota-%d/inner", (int)run);
  ck_assert_str_eq(q.domain_dir, inner);
  if (self.cgroup[1] == '\0') ck_assert_str_eq(q.domain, want);
  ck_assert(q.limited);
  ck_assert_uint_eq(q.quota_micro, 1500000);
  ck_assert_uint_eq(q.quota_us, 75000);
  ck_assert_uint_eq(q.period_us, 50000);
  ck_assert_uint_eq(q.levels[1].micro, 1800000);
  ck_assert_uint_gt(q.levels[0].weight, 0);
}
END_TEST

START_TEST(a_tighter_ancestor_of_the_kernel_counts) {
  int r = put_quota(outer, 100000, 100000);
  if (self.version == 1) { /* v1 does not let a parent be tighter than its child: the child then has none */
    ck_assert_int_eq(r, -EINVAL);
    ck_assert_int_eq(put(inner, "cpu.cfs_quota_us", "-1"), 0);
    r = put_quota(outer, 100000, 100000);
  }
  ck_assert_int_eq(r, 0);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, child), 0);
  ck_assert_uint_eq(q.quota_micro, 1000000);
  ck_assert_str_eq(q.decider_dir, outer);
  ck_assert_str_eq(q.domain_dir, self.version == 1 ? outer : inner);
}
END_TEST

START_TEST(affinity_of_another_process_limits_it) {
  cpu_set_t set;
  sched_getaffinity(child, sizeof(set), &set);
  int first = 0;
  while (!CPU_ISSET(first, &set)) first++;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  ck_assert_int_eq(sched_setaffinity(child, sizeof(set), &set), 0);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, child), 0);
  ck_assert_uint_eq(q.cpus_allowed, 1);
  ck_assert_uint_eq(q.cpu_micro, 1000000);
}
END_TEST

START_TEST(a_change_is_told_by_inotify_and_read_by_refresh) {
  char path[QUOTA_FILE_MAX];
  bool changed = false;
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, child), 0);
  int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), watched = 0;
  for (unsigned i = 0; quota_watch_path(&q, i, path, sizeof(path)) == 0; i++) watched += inotify_add_watch(fd, path, IN_MODIFY) >= 0;
  ck_assert_int_ge(watched, 4);
  struct pollfd p = {.fd = fd, .events = POLLIN};
  ck_assert_int_eq(poll(&p, 1, 0), 0);
  ck_assert_int_eq(put_quota(inner, 30000, 50000), 0);
  ck_assert_int_eq(poll(&p, 1, 20000), 1);
  ck_assert_int_eq(quota_refresh(&q, &quota_fs_host, &changed), 0);
  ck_assert(changed);
  ck_assert_uint_eq(q.cpu_micro, 600000);
  close(fd);
}
END_TEST

START_TEST(usage_and_throttling_of_the_kernel_are_read) {
  ck_assert_int_eq(put_quota(inner, 5000, 50000), 0);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, child), 0);
  struct quota_meter m;
  struct quota_throttle t = {0};
  uint64_t before = 0, now = 0;
  quota_meter_domain(&m, &q);
  ck_assert_int_eq(quota_usage_ns(&m, &quota_fs_host, &before), 0);
  pid_t burner = fork();
  if (burner == 0) {
    for (volatile unsigned i = 0;; i++) continue;
  }
  ck_assert_int_eq(put_pid(inner, burner), 0);
  if (split_acct()) ck_assert_int_eq(put_pid(acct_inner, burner), 0);
  bool throttled = WAIT_FOR(quota_throttled(&m, &quota_fs_host, &t) == 0 && t.nr_throttled > 0 && t.throttled_us > 0);
  bool used = WAIT_FOR(quota_usage_ns(&m, &quota_fs_host, &now) == 0 && now - before > 5000000);
  kill(burner, SIGKILL);
  waitpid(burner, NULL, 0);
  ck_assert(throttled);
  ck_assert(used);
  ck_assert_uint_ge(t.nr_periods, t.nr_throttled);
}
END_TEST

START_TEST(a_real_move_and_a_removed_cgroup_are_seen) {
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, child), 0);
  ck_assert_int_eq(quota_moved(&q, &quota_fs_host), 0);
  ck_assert_int_eq(put_pid(outer, child), self.version == 2 ? -EBUSY : 0); /* v2: no processes in inner nodes */
  if (self.version == 2) ck_assert_int_eq(put_pid(self.dir, child), 0);
  ck_assert_int_eq(quota_moved(&q, &quota_fs_host), 1);
  remove_group(inner);
  ck_assert_int_eq(quota_refresh(&q, &quota_fs_host, NULL), -ENODEV);
  ck_assert_int_eq(quota_find(&q, &quota_fs_host, child), 0);
}
END_TEST

/* ---- namespaces: in a child that writes its result into shared memory ---- */

static struct quota *shared;

static void in_namespace(int flags, int (*prepare)(void), const char *group) {
  shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ck_assert(shared != MAP_FAILED);
  pid_t pid = fork();
  if (pid == 0) {
    if (put_pid(group, getpid()) < 0) _exit(2);
    if (unshare(flags) < 0) _exit(77);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) _exit(77);
    int r = prepare();
    if (r) _exit(r);
    _exit(quota_find(shared, &quota_fs_host, 0) == 0 ? 0 : 3);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) { /* a sandbox may forbid namespaces */
    printf("no namespaces here: %s untested\n", group);
    shared = NULL;
    return;
  }
  ck_assert_msg(WEXITSTATUS(status) == 0, "status %d: %s", WEXITSTATUS(status), shared->problem);
}

/* As a container runtime does: the cgroup file system mounted anew inside the namespace. */
static int mount_anew(void) {
  char point[1200];
  snprintf(point, sizeof(point), "%.*s", self.mount_len, self.dir);
  if (umount2(point, MNT_DETACH) < 0) return 4;
  const char *type = self.version == 2 ? "cgroup2" : "cgroup", *opts = self.version == 2 ? NULL : split_acct() ? "cpu" : "cpu,cpuacct";
  return mount("none", point, type, 0, opts) < 0 ? 5 : 0;
}

START_TEST(in_a_cgroup_namespace_the_mount_root_has_the_quota) {
  in_namespace(CLONE_NEWNS | CLONE_NEWCGROUP, mount_anew, inner);
  if (!shared) return;
  ck_assert_str_eq(shared->cgroup, "/");
  ck_assert(!shared->inexact);
  ck_assert_uint_eq(shared->quota_micro, 1500000); /* what is above the namespace isn't seen */
  ck_assert_str_eq(shared->domain, "/");
  ck_assert_uint_eq(shared->depth, 1);
}
END_TEST

/* As Docker did with v1: only its own part of the tree, bind-mounted, and no cgroup namespace. */
static int mount_part(void) {
  char point[1200];
  snprintf(point, sizeof(point), "%.*s", self.mount_len, self.dir);
  return mount(outer, point, NULL, MS_BIND, NULL) < 0 ? 6 : 0;
}

START_TEST(a_bind_mount_over_the_tree_shows_its_part) {
  in_namespace(CLONE_NEWNS, mount_part, inner);
  if (!shared) return;
  ck_assert_str_eq(shared->domain_dir + self.mount_len, "/inner");
  ck_assert(!shared->inexact);
  ck_assert_uint_eq(shared->quota_micro, 1500000);
  ck_assert_uint_eq(shared->depth, 2);
  ck_assert_uint_eq(shared->levels[1].micro, 1800000);
}
END_TEST

int main(void) {
  const TTest *const unprivileged[] = {own_affinity_is_what_the_kernel_says, self_and_own_pid_agree, a_dead_process_is_no_process,
                                       a_zombie_is_still_a_process};
  const TTest *const cgroups[] = {nested_quotas_of_the_kernel_are_found,
                                  a_tighter_ancestor_of_the_kernel_counts,
                                  affinity_of_another_process_limits_it,
                                  a_change_is_told_by_inotify_and_read_by_refresh,
                                  usage_and_throttling_of_the_kernel_are_read,
                                  a_real_move_and_a_removed_cgroup_are_seen,
                                  in_a_cgroup_namespace_the_mount_root_has_the_quota,
                                  a_bind_mount_over_the_tree_shows_its_part};
  run = getpid();
  const char *why = geteuid() == 0 ? begin_groups() : "making cgroups needs root";
  end_groups();
  Suite *s = suite_create("quota_real");
  TCase *tc = tcase_create("process");
  for (size_t i = 0; i < sizeof(unprivileged) / sizeof(*unprivileged); i++) tcase_add_test(tc, unprivileged[i]);
  suite_add_tcase(s, tc);
  TCase *real = tcase_create("cgroups");
  tcase_set_timeout(real, 60);
  tcase_add_checked_fixture(real, set_up, end_groups);
  for (size_t i = 0; !why && i < sizeof(cgroups) / sizeof(*cgroups); i++) tcase_add_test(real, cgroups[i]);
  suite_add_tcase(s, real);
  SRunner *sr = srunner_create(s);
  srunner_run_all(sr, CK_ENV);
  end_groups(); /* of a case that failed */
  int failed = srunner_ntests_failed(sr);
  srunner_free(sr);
  if (failed) return EXIT_FAILURE;
  if (!why) return EXIT_SUCCESS;
  printf("skipped: %s\n", why);
  return UNIT_SKIP;
}
