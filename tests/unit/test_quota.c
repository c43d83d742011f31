/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/*
 * quota.c on generated trees of files: what limits a process, which file said so, and what is said about
 * files that make no sense.  The last part compares it with a slow and obvious reference on random trees.
 */
#include "unit.h"
#include <errno.h>
#include <regex.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include "fixture.h"

static struct quota q;

/* What must hold of every result, whatever the files say. */
static void check_sane(const struct quota *r) {
  ck_assert_uint_ge(r->cpus_host, 1);
  ck_assert_uint_ge(r->cpus_allowed, 1);
  ck_assert_uint_le(r->cpus_allowed, r->cpus_host);
  ck_assert_uint_le(r->cpus_host, QUOTA_CPUS_MAX);
  ck_assert_uint_ge(r->cpu_micro, 1);
  ck_assert_uint_le(r->cpu_micro, (uint64_t)r->cpus_allowed * 1000000);
  ck_assert_uint_le(r->cpu_micro, r->quota_micro);
  ck_assert_uint_eq(r->slots, (r->cpu_micro + 999999) / 1000000);
  ck_assert_uint_ge(r->duty_ppm, 1);
  ck_assert_uint_eq((uint64_t)(r->slots - 1) * 1000000 + r->duty_ppm, r->cpu_micro);
  ck_assert_int_eq(r->limited, r->quota_micro != QUOTA_NONE);
  ck_assert_int_eq(r->limited, r->decider_dir[0] != '\0' || (r->limited && r->mount_len == 0));
  ck_assert(!(r->limited && r->weighted));
  ck_assert_int_eq(r->domain[0], '/');
  ck_assert_uint_le(r->nlevels, r->depth);
  ck_assert_uint_le(r->nlevels, QUOTA_LEVELS_MAX);
  ck_assert_int_eq(r->problems == 0, r->problem[0] == '\0');
  ck_assert(memchr(r->problem, '\n', strlen(r->problem)) == NULL);
  for (unsigned i = 0; i < r->nlevels; i++) {
    ck_assert_uint_le(r->levels[i].dir_len, strlen(r->dir));
    ck_assert_uint_ge(r->levels[i].dir_len, r->mount_len);
    ck_assert_uint_le(r->levels[i].name_len, strlen(r->cgroup));
    ck_assert_uint_ge(r->levels[i].micro, r->quota_micro);
  }
}

static int find(struct fixture *f, int pid) {
  int r = quota_find(&q, &f->fs, pid);
  check_sane(&q);
  ck_assert_int_eq(f->open_now, 0);
  return r;
}

/* Finds and wants no complaint. */
static void find_well(struct fixture *f, int pid) {
  int r = find(f, pid);
  ck_assert_msg(r == 0 && q.problems == 0, "%d: %s", r, q.problem);
}

#define V2 "/sys/fs/cgroup"
#define V1 "/sys/fs/cgroup/cpu"

static struct fixture *v2_at(const char *cgroup) {
  struct fixture *f = fixture_new();
  fixture_machine(f, FIXTURE_V2, 4);
  char line[1200], dir[1200];
  snprintf(line, sizeof(line), "0::%s\n", cgroup);
  snprintf(dir, sizeof(dir), V2 "%s", cgroup);
  fixture_process(f, 7, line, "0-3");
  fixture_mkdir(f, dir);
  return f;
}

static struct fixture *v1_at(const char *cgroup) {
  struct fixture *f = fixture_new();
  fixture_machine(f, FIXTURE_V1, 4);
  char lines[4000], dir[1200];
  snprintf(lines, sizeof(lines), "4:memory:/elsewhere\n3:cpuset:/\n2:cpuacct:%s\n1:cpu:%s\n0::/\n", cgroup, cgroup);
  snprintf(dir, sizeof(dir), V1 "%s", cgroup);
  fixture_process(f, 7, lines, "0-3");
  fixture_mkdir(f, dir);
  return f;
}

/* ---- what a quota is ---- */

START_TEST(v2_quota_is_a_fraction) {
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/b/cpu.max", "150000 100000\n");
  find_well(f, 7);
  ck_assert(q.limited);
  ck_assert_int_eq(q.version, 2);
  ck_assert_uint_eq(q.cpu_micro, 1500000);
  ck_assert_uint_eq(q.slots, 2);
  ck_assert_uint_eq(q.duty_ppm, 500000);
  ck_assert_uint_eq(q.quota_us, 150000);
  ck_assert_uint_eq(q.period_us, 100000);
  ck_assert_int_eq(q.decider, QUOTA_BY_CFS);
  ck_assert_str_eq(q.domain, "/a/b");
  ck_assert_str_eq(q.domain_dir, V2 "/a/b");
  ck_assert_str_eq(q.decider_dir, V2 "/a/b");
  ck_assert_str_eq(q.source, V2 "/a/b/cpu.max");
  ck_assert(!q.inexact);
  fixture_free(f);
}
END_TEST

/* A container's quota is its pod's: who of them saves less throttles first. */
START_TEST(burst_is_the_least_of_equal_quotas) {
  struct fixture *f = v2_at("/pod/box");
  fixture_put(f, V2 "/pod/cpu.max", "51000 100000\n");
  fixture_put(f, V2 "/pod/box/cpu.max", "50000 100000\n");
  fixture_put(f, V2 "/pod/box/cpu.max.burst", "7000\n");
  bool changed;
  find_well(f, 7);
  ck_assert_str_eq(q.decider_dir, V2 "/pod/box");
  ck_assert_uint_eq(q.burst_us, 0); /* the pod has none */
  fixture_put(f, V2 "/pod/cpu.max.burst", "4000\n");
  ck_assert_int_eq(quota_refresh(&q, &f->fs, &changed), 0);
  ck_assert(changed);
  ck_assert_uint_eq(q.burst_us, 4000);
  fixture_put(f, V2 "/pod/cpu.max", "54000 100000\n"); /* too far away to matter */
  ck_assert_int_eq(quota_refresh(&q, &f->fs, &changed), 0);
  ck_assert_uint_eq(q.burst_us, 7000);
  fixture_put(f, V2 "/pod/box/cpu.max.burst", "7 ms\n");
  ck_assert_int_lt(quota_refresh(&q, &f->fs, &changed), 0);
  ck_assert_str_eq(q.problem, V2 "/pod/box/cpu.max.burst:1: unexpected text after the value");
  ck_assert_uint_eq(q.burst_us, 0);
  ck_assert_uint_eq(q.cpu_micro, 500000); /* the quota applies all the same */
  fixture_free(f);
}
END_TEST

START_TEST(v1_quota_is_a_fraction) {
  struct fixture *f = v1_at("/a/b");
  fixture_put(f, V1 "/a/b/cpu.cfs_quota_us", "75000\n");
  fixture_put(f, V1 "/a/b/cpu.cfs_period_us", "50000\n");
  fixture_put(f, V1 "/a/b/cpu.cfs_burst_us", "2000\n");
  find_well(f, 7);
  ck_assert_int_eq(q.version, 1);
  ck_assert_uint_eq(q.cpu_micro, 1500000);
  ck_assert_uint_eq(q.quota_us, 75000);
  ck_assert_uint_eq(q.period_us, 50000);
  ck_assert_uint_eq(q.burst_us, 2000);
  ck_assert_str_eq(q.domain, "/a/b");
  ck_assert_str_eq(q.source, V1 "/a/b/cpu.cfs_quota_us");
  fixture_free(f);
}
END_TEST

START_TEST(whole_cpus_have_full_duty) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "200000 100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.slots, 2);
  ck_assert_uint_eq(q.duty_ppm, 1000000);
  fixture_free(f);
}
END_TEST

START_TEST(thirds_are_rounded_down_to_millionths) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "100000 300000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 333333);
  ck_assert_uint_eq(q.duty_ppm, 333333);
  fixture_free(f);
}
END_TEST

START_TEST(joint_cpu_and_cpuacct_mount_is_found) {
  struct fixture *f = fixture_new();
  fixture_machine(f, FIXTURE_V1_JOINT, 4);
  fixture_process(f, 7, "3:cpuset:/\n2:cpu,cpuacct:/a\n0::/\n", "0-3");
  fixture_put(f, "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n");
  fixture_put(f, "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 500000);
  ck_assert_str_eq(q.acct_dir, "/sys/fs/cgroup/cpu,cpuacct/a");
  fixture_free(f);
}
END_TEST

START_TEST(hybrid_takes_the_v1_cpu_controller) {
  struct fixture *f = fixture_new();
  fixture_machine(f, FIXTURE_HYBRID, 4);
  fixture_process(f, 7, "3:cpuset:/\n2:cpu,cpuacct:/one\n1:name=systemd:/two\n0::/two\n", "0-3");
  fixture_put(f, "/sys/fs/cgroup/cpu,cpuacct/one/cpu.cfs_quota_us", "100000\n");
  fixture_put(f, "/sys/fs/cgroup/cpu,cpuacct/two/cpu.cfs_quota_us", "10000\n"); /* not ours */
  fixture_put(f, "/sys/fs/cgroup/unified/two/cpu.max", "20000 100000\n");       /* not the cpu controller's tree */
  find_well(f, 7);
  ck_assert_int_eq(q.version, 1);
  ck_assert_uint_eq(q.cpu_micro, 1000000);
  ck_assert_str_eq(q.domain, "/one");
  fixture_free(f);
}
END_TEST

START_TEST(hybrid_with_cpu_in_the_v2_tree) {
  struct fixture *f = fixture_new();
  fixture_machine(f, FIXTURE_HYBRID, 4);
  fixture_process(f, 7, "9:memory:/m\n1:name=cpu:/two\n0::/two\n", "0-3"); /* a named hierarchy is not a controller */
  fixture_put(f, "/sys/fs/cgroup/unified/two/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert_int_eq(q.version, 2);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  ck_assert_str_eq(q.source, "/sys/fs/cgroup/unified/two/cpu.max");
  fixture_free(f);
}
END_TEST

/* ---- the chain ---- */

START_TEST(tighter_ancestor_counts) {
  struct fixture *f = v2_at("/a/b/c");
  fixture_put(f, V2 "/a/cpu.max", "50000 100000\n");
  fixture_put(f, V2 "/a/b/cpu.max", "max 100000\n");
  fixture_put(f, V2 "/a/b/c/cpu.max", "200000 100000\n");
  fixture_put(f, V2 "/a/cpu.max.burst", "7000\n");
  fixture_put(f, V2 "/a/b/c/cpu.max.burst", "3000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 500000);
  ck_assert_str_eq(q.domain, "/a/b/c");
  ck_assert_str_eq(q.decider_dir, V2 "/a");
  ck_assert_str_eq(q.source, V2 "/a/cpu.max");
  ck_assert_uint_eq(q.burst_us, 7000);
  ck_assert_uint_eq(q.levels[0].micro, 2000000);
  ck_assert_uint_eq(q.levels[1].micro, QUOTA_NONE);
  ck_assert_uint_eq(q.levels[2].micro, 500000);
  fixture_free(f);
}
END_TEST

START_TEST(tighter_ancestor_counts_in_v1) {
  struct fixture *f = v1_at("/a/b");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "30000\n");
  fixture_put(f, V1 "/a/cpu.cfs_period_us", "10000\n");
  fixture_put(f, V1 "/a/b/cpu.cfs_quota_us", "310000\n");
  fixture_put(f, V1 "/a/b/cpu.cfs_period_us", "100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 3000000);
  ck_assert_str_eq(q.domain, "/a/b");
  ck_assert_str_eq(q.source, V1 "/a/cpu.cfs_quota_us");
  fixture_free(f);
}
END_TEST

START_TEST(nearest_finite_quota_is_the_domain) {
  struct fixture *f = v2_at("/a/b/c/d");
  fixture_put(f, V2 "/a/cpu.max", "300000 100000\n");
  fixture_put(f, V2 "/a/b/cpu.max", "200000 100000\n");
  fixture_put(f, V2 "/a/b/c/d/cpu.max", "max 100000\n");
  find_well(f, 7);
  ck_assert_str_eq(q.domain, "/a/b");
  ck_assert_str_eq(q.domain_dir, V2 "/a/b");
  ck_assert_str_eq(q.cgroup, "/a/b/c/d");
  ck_assert_str_eq(q.dir, V2 "/a/b/c/d");
  ck_assert_uint_eq(q.cpu_micro, 2000000);
  fixture_free(f);
}
END_TEST

START_TEST(of_equal_quotas_the_nearest_decides) {
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.max", "50000 50000\n");
  fixture_put(f, V2 "/a/b/cpu.max", "100000 100000\n");
  find_well(f, 7);
  ck_assert_str_eq(q.source, V2 "/a/b/cpu.max");
  fixture_free(f);
}
END_TEST

START_TEST(quota_at_the_root_of_the_mount_counts) {
  struct fixture *f = v2_at("/"); /* a cgroup namespace: our cgroup is the mount's root */
  fixture_put(f, V2 "/cpu.max", "50000 100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 500000);
  ck_assert_str_eq(q.domain, "/");
  ck_assert_str_eq(q.domain_dir, V2);
  ck_assert_str_eq(q.source, V2 "/cpu.max");
  ck_assert_uint_eq(q.depth, 1);
  fixture_free(f);

  f = v1_at("/sub");
  fixture_put(f, V1 "/cpu.cfs_quota_us", "50000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 500000);
  ck_assert_str_eq(q.domain, "/");
  fixture_free(f);
}
END_TEST

START_TEST(no_quota_anywhere_is_the_host) {
  static const char *const none[] = {NULL, "max\n", "max 100000\n", "max", "  max  50000  \n\n"};
  for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
    struct fixture *f = v2_at("/a");
    if (none[i]) fixture_put(f, V2 "/a/cpu.max", "%s", none[i]);
    find_well(f, 7);
    ck_assert(!q.limited);
    ck_assert_uint_eq(q.quota_micro, QUOTA_NONE);
    ck_assert_uint_eq(q.cpu_micro, 4000000);
    ck_assert_str_eq(q.domain, "/");
    ck_assert_int_eq(q.decider, QUOTA_BY_HOST);
    ck_assert_str_eq(q.source, "/sys/devices/system/cpu/online");
    fixture_free(f);
  }
  struct fixture *f = v1_at("/a");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "-1\n");
  fixture_put(f, V1 "/a/cpu.cfs_period_us", "100000\n");
  find_well(f, 7);
  ck_assert(!q.limited);
  fixture_free(f);
}
END_TEST

START_TEST(a_quota_without_a_period_is_per_100_ms) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "50000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 500000);
  ck_assert_uint_eq(q.period_us, 100000);
  fixture_free(f);

  f = v1_at("/a");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "25000");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 250000);
  ck_assert_uint_eq(q.period_us, 100000);
  fixture_free(f);
}
END_TEST

START_TEST(a_chain_deeper_than_the_list_counts_whole) {
  char path[600] = "", file[700];
  for (int i = 0; i < 200; i++) strcat(path, "/d");
  struct fixture *f = v2_at(path);
  fixture_put(f, V2 "/d/cpu.max", "10000 100000\n");
  snprintf(file, sizeof(file), V2 "%s/cpu.max", path);
  fixture_put(f, file, "90000 100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 100000);
  ck_assert_str_eq(q.domain, path);
  ck_assert_str_eq(q.source, V2 "/d/cpu.max");
  ck_assert_uint_eq(q.depth, 201);
  ck_assert_uint_eq(q.nlevels, QUOTA_LEVELS_MAX);
  fixture_free(f);
}
END_TEST

START_TEST(of_a_path_too_long_the_ancestors_count) {
  char name[256], path[2200] = "/top", file[3000];
  memset(name, 'n', 255);
  name[255] = '\0';
  for (int i = 0; i < 8; i++) strcat(strcat(path, "/"), name);
  struct fixture *f = v2_at("/top");
  snprintf(file, sizeof(file), "0::%s\n", path);
  fixture_process(f, 7, file, "0-3");
  snprintf(file, sizeof(file), V2 "%.772s", path);
  fixture_mkdir(f, file);
  fixture_put(f, V2 "/top/cpu.max", "100000 100000\n");
  ck_assert_int_lt(find(f, 7), 0);
  ck_assert_str_eq(q.problem, "/proc/7/cgroup:1: a cgroup path too long for us; its nearest ancestor that is not too long stands for it");
  ck_assert_uint_eq(q.cpu_micro, 1000000);
  ck_assert_uint_eq(q.depth, 5); /* three long names fit, and /top, and the root */
  fixture_free(f);
}
END_TEST

START_TEST(below_a_long_mount_point_the_ancestors_count) {
  char name[256], point[600], text[2000], path[600];
  memset(name, 'n', 255);
  name[255] = '\0';
  snprintf(point, sizeof(point), "/%s/%s", name, name);
  snprintf(path, sizeof(path), "/top/%s/%s", name, name);
  struct fixture *f = v2_at("/");
  snprintf(text, sizeof(text), "5 4 0:9 / %s rw - cgroup2 none rw\n", point);
  fixture_mounts(f, text);
  snprintf(text, sizeof(text), "0::%s\n", path);
  fixture_process(f, 7, text, "0-3");
  snprintf(text, sizeof(text), "%s/top/%s", point, name);
  fixture_mkdir(f, text);
  snprintf(text, sizeof(text), "%s/top/cpu.max", point);
  fixture_put(f, text, "100000 100000\n");
  ck_assert_int_eq(find(f, 7), -ENAMETOOLONG);
  ck_assert_uint_eq(q.cpu_micro, 1000000);
  ck_assert_str_eq(q.domain, "/top");
  ck_assert_uint_eq(q.depth, 3);
  fixture_free(f);
}
END_TEST

/* ---- mounts and namespaces ---- */

START_TEST(a_bind_mounted_root_shows_the_rest_of_the_path) {
  struct fixture *f = v1_at("/");
  fixture_mounts(f,
                 "32 31 0:29 /docker/0123 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
                 "33 31 0:30 /docker/0123 /sys/fs/cgroup/cpuacct ro - cgroup cgroup rw,cpuacct\n");
  fixture_process(f, 7, "2:cpuacct:/docker/0123/x\n1:cpu:/docker/0123/x\n", "0-3");
  fixture_put(f, V1 "/x/cpu.cfs_quota_us", "300000\n");
  fixture_mkdir(f, "/sys/fs/cgroup/cpuacct/x");
  fixture_put(f, V1 "/cpu.cfs_quota_us", "200000\n");
  find_well(f, 7);
  ck_assert(!q.inexact);
  ck_assert_uint_eq(q.cpu_micro, 2000000);
  ck_assert_str_eq(q.domain, "/docker/0123/x");
  ck_assert_str_eq(q.source, V1 "/cpu.cfs_quota_us");
  char name[64];
  ck_assert_int_eq(quota_level_name(&q, 1, name, sizeof(name)), 0);
  ck_assert_str_eq(name, "/docker/0123");
  struct quota_meter m;
  quota_meter_domain(&m, &q);
  ck_assert_str_eq(m.usage, "/sys/fs/cgroup/cpuacct/x/cpuacct.usage");
  fixture_free(f);
}
END_TEST

START_TEST(a_root_of_a_like_name_is_not_an_ancestor) {
  struct fixture *f = v2_at("/");
  fixture_mounts(f, "32 31 0:29 /docker/01 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  fixture_process(f, 7, "0::/docker/0123\n", "0-3");
  fixture_put(f, V2 "/23/cpu.max", "10000 100000\n");
  fixture_put(f, V2 "/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert(q.inexact);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  fixture_free(f);
}
END_TEST

START_TEST(a_path_outside_the_namespace_gets_the_mount_root) {
  static const char *const outside[] = {"/..", "/../x", "/../../x/y", "/x/../../y"};
  for (size_t i = 0; i < sizeof(outside) / sizeof(*outside); i++) {
    char line[64];
    struct fixture *f = v2_at("/");
    snprintf(line, sizeof(line), "0::%s\n", outside[i]);
    fixture_process(f, 7, line, "0-3");
    fixture_put(f, V2 "/cpu.max", "20000 100000\n");
    find_well(f, 7);
    ck_assert(q.inexact);
    ck_assert_uint_eq(q.cpu_micro, 200000);
    ck_assert_str_eq(q.domain_dir, V2);
    ck_assert_str_eq(q.dir, V2);
    struct quota_meter m;
    quota_meter_domain(&m, &q);
    ck_assert_int_eq(m.usage_version, 0); /* whose usage that would be, nobody knows */
    fixture_free(f);
  }
}
END_TEST

START_TEST(a_mount_of_the_parent_namespace_shows_a_sibling) {
  struct fixture *f = v2_at("/");
  fixture_mounts(f, "32 31 0:29 /.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  fixture_process(f, 7, "0::/../x\n", "0-3");
  fixture_put(f, V2 "/x/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert(!q.inexact);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  ck_assert_str_eq(q.domain, "/../x");
  fixture_free(f);
}
END_TEST

START_TEST(a_path_that_is_not_there_gets_the_mount_root) {
  struct fixture *f = v1_at("/");
  fixture_process(f, 7, "2:cpuacct:/docker/0123\n1:cpu:/docker/0123\n", "0-3");
  fixture_put(f, V1 "/cpu.cfs_quota_us", "50000\n");
  find_well(f, 7);
  ck_assert(q.inexact);
  ck_assert_uint_eq(q.cpu_micro, 500000);
  ck_assert_str_eq(q.domain, "/");
  fixture_free(f);
}
END_TEST

START_TEST(escaped_mount_names_are_unescaped) {
  struct fixture *f = v2_at("/");
  fixture_mounts(f, "32 31 0:29 /do\\134cker /sys/c\\040g\\011r\\012p\\043 ro - cgroup2 none rw\n");
  fixture_process(f, 7, "0::/do\\cker/in\\040x\n", "0-3"); /* /proc/PID/cgroup does not escape */
  fixture_put(f, "/sys/c g\tr\np#/in\\040x/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert(!q.inexact);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  ck_assert_str_eq(q.domain, "/do\\cker/in\\040x");
  fixture_free(f);
}
END_TEST

START_TEST(of_several_mounts_the_one_that_shows_most_is_taken) {
  static const char *const part = "32 31 0:29 /a /mnt/part ro - cgroup2 none rw\n",
                           *const all = "33 31 0:29 / /mnt/all ro - cgroup2 none rw\n",
                           *const other = "34 31 0:29 /other /mnt/other ro - cgroup2 none rw\n",
                           *const hidden = "35 31 0:29 / /mnt/hidden ro - cgroup2 none rw\n";
  const char *const orders[][4] = {
      {part, all, other, hidden}, {hidden, other, all, part}, {other, part, hidden, all}, {all, hidden, part, other}};
  for (size_t i = 0; i < 4; i++) {
    struct fixture *f = v2_at("/");
    char text[600] = "";
    for (size_t j = 0; j < 4; j++) strcat(text, orders[i][j]);
    fixture_mounts(f, text);
    fixture_process(f, 7, "0::/a/b\n", "0-3");
    fixture_put(f, "/mnt/part/b/cpu.max", "30000 100000\n");
    fixture_put(f, "/mnt/all/a/b/cpu.max", "30000 100000\n");
    fixture_put(f, "/mnt/all/cpu.max", "20000 100000\n");
    fixture_put(f, "/mnt/other/cpu.max", "1000 100000\n");
    find_well(f, 7);
    ck_assert(!q.inexact);
    ck_assert_str_eq(q.dir, "/mnt/all/a/b");
    ck_assert_uint_eq(q.cpu_micro, 200000);
    fixture_free(f);
  }
}
END_TEST

START_TEST(very_long_lines_of_other_mounts_do_not_matter) {
  struct fixture *f = v2_at("/a");
  char *text = malloc(200000), *end = text;
  end += sprintf(end, "28 27 0:40 / /var/lib/overlay rw - overlay overlay rw,lowerdir=");
  memset(end, 'x', 100000);
  end += 100000;
  sprintf(end, "\n31 23 0:28 / /sys/fs/cgroup rw shared:4 master:1 propagate_from:2 unbindable - cgroup2 cgroup2 rw\n");
  fixture_mounts(f, text);
  free(text);
  fixture_put(f, V2 "/a/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  fixture_free(f);
}
END_TEST

START_TEST(lines_that_are_no_mounts_are_passed_over) {
  struct fixture *f = v2_at("/a");
  fixture_mounts(
      f,
      "\n\n31\n31 23 0:28\n31 23 0:28 / /sys/fs/cgroup\n31 23 0:28 / /sys/fs/cgroup rw -\n - - - - - -\n"
      "31 23 0:28 / sys/fs/cgroup rw - cgroup2\n31 23 0:28  /sys/fs/cgroup / rw - cgroup2\n31 23 0:28 x /sys/fs/cgroup rw - cgroup2\n"
      "31 23 0:28 / /sys/fs/cgroup rw - cgroup2");
  fixture_put(f, V2 "/a/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  fixture_free(f);
}
END_TEST

START_TEST(an_unmounted_controller_is_a_problem) {
  struct fixture *f = v1_at("/a");
  fixture_mounts(f, "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n41 31 0:38 / /sys/fs/cgroup/u rw - cgroup2 c rw\n");
  ck_assert_int_eq(find(f, 7), -ENOENT);
  ck_assert_str_eq(q.problem, "/proc/self/mountinfo: no cgroup file system with the cpu controller is mounted");
  ck_assert(!q.limited);
  ck_assert_int_eq(q.version, 0);
  ck_assert_uint_eq(q.cpu_micro, 4000000);
  fixture_free(f);

  f = v2_at("/a");
  fixture_mounts(f, "");
  ck_assert_int_eq(find(f, 7), -ENOENT);
  ck_assert_str_eq(q.problem, "/proc/self/mountinfo: no cgroup2 file system is mounted");
  fixture_remove(f, "/proc/self/mountinfo");
  ck_assert_int_eq(find(f, 7), -ENOENT);
  ck_assert_str_eq(q.problem, "/proc/self/mountinfo: cannot be read: no such file");
  fixture_free(f);
}
END_TEST

START_TEST(our_own_mounts_count_and_the_pids_are_a_fallback) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "20000 100000\n");
  fixture_put(f, "/mnt/a/cpu.max", "30000 100000\n");
  fixture_put(f, "/proc/7/mountinfo", "5 4 0:9 / /mnt rw - cgroup2 none rw\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  fixture_mounts(f, "");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 300000);
  fixture_remove(f, "/proc/self/mountinfo");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 300000);
  fixture_free(f);
}
END_TEST

START_TEST(with_a_prefix_the_pids_mounts_come_first) {
  struct fixture *f = v2_at("/a");
  ck_assert(f->real.mounts_of_pid);
  f->fs.mounts_of_pid = true;
  fixture_put(f, V2 "/a/cpu.max", "20000 100000\n");
  fixture_put(f, "/mnt/a/cpu.max", "30000 100000\n");
  find_well(f, 7); /* it has no mountinfo: ours */
  ck_assert_uint_eq(q.cpu_micro, 200000);
  fixture_put(f, "/proc/7/mountinfo", "5 4 0:9 / /mnt rw - cgroup2 none rw\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 300000);
  fixture_free(f);
}
END_TEST

/* ---- bad files ---- */

struct bad {
  const char *text, *what;
  unsigned line;
};

/* Puts each text into `file` of /a/b, and wants the complaint, and that /a still counts. */
static void check_bad(struct fixture *f, const char *file, const struct bad *bad, size_t n) {
  for (size_t i = 0; i < n; i++) {
    char want[200];
    fixture_put(f, file, "%s", bad[i].text);
    ck_assert_int_eq(find(f, 7), -EINVAL);
    snprintf(want, sizeof(want), "%s:%u: %s", file, bad[i].line ? bad[i].line : 1, bad[i].what);
    ck_assert_str_eq(q.problem, want);
    ck_assert_uint_eq(q.problems, 1);
    ck_assert_uint_eq(q.cpu_micro, 1200000);
    ck_assert_str_eq(q.domain, "/a");
  }
}

START_TEST(malformed_cpu_max_is_named_and_the_rest_counts) {
  static const struct bad bad[] = {
      {"", "empty", 0},
      {"\n", "empty", 0},
      {"  \n", "empty", 0},
      {"abc\n", "the quota is neither a number nor \"max\"", 0},
      {"maximum 100000\n", "the quota is neither a number nor \"max\"", 0},
      {"MAX\n", "the quota is neither a number nor \"max\"", 0},
      {"-1 100000\n", "the quota is neither a number nor \"max\"", 0},
      {"+5 100000\n", "the quota is neither a number nor \"max\"", 0},
      {"0x10 100000\n", "the quota is not a number", 0},
      {"1.5\n", "the quota is not a number", 0},
      {"10000k 100000\n", "the quota is not a number", 0},
      {"0 100000\n", "the quota is zero", 0},
      {"10000 0\n", "the period is zero", 0},
      {"max 0\n", "the period is zero", 0},
      {"10000 x\n", "the period is not a number", 0},
      {"10000 -5\n", "the period is not a number", 0},
      {"10000 max\n", "the period is not a number", 0},
      {"18446744073709551616 100000\n", "the quota is too large a number", 0},
      {"18446744073709551615 100000\n", "the quota is too large a number", 0},
      {"99999999999999999999999999999999999999 100000\n", "the quota is too large a number", 0},
      {"10000 18446744073709551616\n", "the period is too large a number", 0},
      {"10000 100000 5\n", "unexpected text after the value", 0},
      {"10000 100000us\n", "unexpected text after the value", 0},
      {"10000 100000\r\n", "unexpected text after the value", 0},
      {"10000 100000\n\n\nmore\n", "unexpected text after the value", 4},
  };
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.max", "120000 100000\n");
  check_bad(f, V2 "/a/b/cpu.max", bad, sizeof(bad) / sizeof(*bad));
  fixture_put_bytes(f, V2 "/a/b/cpu.max", "max\0 100000\n", 12);
  ck_assert_int_eq(find(f, 7), -EINVAL);
  fixture_put_bytes(f, V2 "/a/b/cpu.max", "10000\0", 6);
  ck_assert_int_eq(find(f, 7), -EINVAL);
  fixture_free(f);
}
END_TEST

START_TEST(malformed_v1_quota_is_named_and_the_rest_counts) {
  static const struct bad quota[] = {
      {"", "empty", 0},
      {"x\n", "the quota is not a number", 0},
      {"-\n", "the quota is not a number", 0},
      {"--1\n", "the quota is not a number", 0},
      {"max\n", "the quota is not a number", 0},
      {"0\n", "the quota is zero", 0},
      {"-0\n", "the quota is negative and not -1", 0},
      {"-2\n", "the quota is negative and not -1", 0},
      {"-10000\n", "the quota is negative and not -1", 0},
      {"10000 100000\n", "unexpected text after the value", 0},
      {"10000\n20000\n", "unexpected text after the value", 2},
      {"18446744073709551616\n", "the quota is too large a number", 0},
  };
  static const struct bad period[] = {
      {"", "empty", 0},
      {"0\n", "the period is zero", 0},
      {"-1\n", "not a number", 0},
      {"100ms\n", "unexpected text after the value", 0},
      {"18446744073709551616\n", "number too large", 0},
  };
  struct fixture *f = v1_at("/a/b");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "120000\n");
  fixture_put(f, V1 "/a/b/cpu.cfs_period_us", "100000\n");
  check_bad(f, V1 "/a/b/cpu.cfs_quota_us", quota, sizeof(quota) / sizeof(*quota));
  fixture_put(f, V1 "/a/b/cpu.cfs_quota_us", "10000\n");
  check_bad(f, V1 "/a/b/cpu.cfs_period_us", period, sizeof(period) / sizeof(*period));
  fixture_free(f);
}
END_TEST

START_TEST(malformed_proc_cgroup_lines_are_named) {
  static const struct bad bad[] = {
      {"\n0::/a/b\n", "a line that does not begin with a number and a colon", 0},
      {"x\n0::/a/b\n", "a line that does not begin with a number and a colon", 0},
      {"5\n0::/a/b\n", "a line that does not begin with a number and a colon", 0},
      {"5:cpu\n0::/a/b\n", "a line without a second colon", 0},
      {"0::/a/b\n5:cpu:", "a cgroup that does not begin with a slash", 2},
      {"0::/a/b\n5:cpu:a\n", "a cgroup that does not begin with a slash", 2},
      {"99999999999999999999:cpu:/\n0::/a/b\n", "a line that does not begin with a number and a colon", 0},
  };
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.max", "120000 100000\n");
  check_bad(f, "/proc/7/cgroup", bad, sizeof(bad) / sizeof(*bad));
  fixture_free(f);
}
END_TEST

START_TEST(slashes_at_the_end_and_doubled_are_harmless) {
  static const char *const same[] = {"0::/a/b/\n", "0::/a/b//\n", "0::/a//b\n", "0::/a/b"};
  for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++) {
    struct fixture *f = v2_at("/a/b");
    fixture_process(f, 7, same[i], "0-3");
    fixture_put(f, V2 "/a/cpu.max", "120000 100000\n");
    find_well(f, 7);
    ck_assert_uint_eq(q.cpu_micro, 1200000);
    ck_assert_str_eq(q.domain, "/a");
    ck_assert_uint_eq(q.depth, 3);
    fixture_free(f);
  }
}
END_TEST

START_TEST(the_first_problem_is_told_and_all_are_counted) {
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/b/cpu.max", "x\n");
  fixture_put(f, V2 "/a/cpu.max", "10000 0\n");
  fixture_put(f, V2 "/cpu.max", "60000 100000\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_uint_eq(q.problems, 2);
  ck_assert_ptr_nonnull(strstr(q.problem, "/a/b/cpu.max:1: "));
  ck_assert_uint_eq(q.cpu_micro, 600000);
  fixture_free(f);
}
END_TEST

START_TEST(a_problem_with_a_long_path_still_says_what) {
  char path[900] = "/x";
  while (strlen(path) < 800) strcat(path, "/another\tname"); /* a tab may not reach a terminal */
  struct fixture *f = v2_at(path);
  char file[1000];
  snprintf(file, sizeof(file), V2 "%s/cpu.max", path);
  fixture_put(f, file, "x\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_int_eq(strncmp(q.problem, "...", 3), 0);
  ck_assert_ptr_nonnull(strstr(q.problem, "/another?name/cpu.max:1: the quota is neither a number nor \"max\""));
  fixture_free(f);
}
END_TEST

START_TEST(unreadable_files_are_named_and_the_rest_counts) {
  static const struct {
    int error;
    const char *name;
  } errors[] = {{EACCES, "permission denied"}, {EIO, "input/output error"}, {ENODEV, "the cgroup is gone"}, {EBADE, "error 52"}};
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.max", "120000 100000\n");
  fixture_put(f, V2 "/a/b/cpu.max", "50000 100000\n");
  for (size_t i = 0; i < 8; i++) {
    char want[200];
    f->fail_path = V2 "/a/b/cpu.max";
    f->fail_errno = errors[i / 2].error;
    f->fail_read = i % 2;
    f->fail_after = 5;
    ck_assert_int_eq(find(f, 7), -errors[i / 2].error);
    snprintf(want, sizeof(want), "%s: cannot be read: %s", f->fail_path, errors[i / 2].name);
    ck_assert_str_eq(q.problem, want);
    ck_assert_uint_eq(q.cpu_micro, 1200000);
  }
  fixture_free(f);
}
END_TEST

START_TEST(a_directory_in_place_of_a_file_is_a_problem) {
  struct fixture *f = v2_at("/a");
  fixture_mkdir(f, V2 "/a/cpu.max");
  ck_assert_int_eq(find(f, 7), -EISDIR);
  ck_assert_str_eq(q.problem, V2 "/a/cpu.max: cannot be read: is a directory");
  fixture_free(f);
}
END_TEST

/* With --root, a file may be a link to /dev/zero. */
START_TEST(files_too_long_are_named_and_the_rest_counts) {
  static char text[70 << 20];
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.max", "120000 100000\n");
  memset(text, ' ', sizeof(text) - 1);
  for (size_t i = 0; i < 512; i += 2) text[i] = '\n'; /* in the first read of a file */
  fixture_put_bytes(f, "/proc/7/status", text, 256 << 10);
  fixture_put_bytes(f, V2 "/a/b/cpu.max", text + 512, 1000);
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, V2 "/a/b/cpu.max:1: empty");
  fixture_put(f, V2 "/a/b/cpu.max", "max 100000\n");
  find_well(f, 7);
  fixture_put_bytes(f, "/proc/7/status", text, (256 << 10) + 1);
  ck_assert_int_eq(find(f, 7), -EFBIG);
  ck_assert_str_eq(q.problem, "/proc/7/status:257: longer than such a file can be");
  ck_assert_uint_eq(q.cpu_micro, 1200000);
  fixture_process(f, 7, "0::/a/b\n", "0-3");
  fixture_put_bytes(f, "/proc/7/mountinfo", text, sizeof(text) - 1);
  fixture_put_bytes(f, "/proc/self/mountinfo", text, sizeof(text) - 1);
  ck_assert_int_eq(find(f, 7), -EFBIG);
  ck_assert_str_eq(q.problem, "/proc/self/mountinfo:257: longer than such a file can be");
  fixture_free(f);
}
END_TEST

START_TEST(a_long_list_of_mounts_is_read_to_its_end) {
  static const char other[] = "28 27 0:40 / /var/lib/overlay rw - overlay overlay rw\n";
  struct fixture *f = v2_at("/a");
  size_t len = strlen(other);
  char *text = malloc(100000 * len + 200), *end = text;
  for (int i = 0; i < 100000; i++) end = mempcpy(end, other, len);
  strcpy(end, "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  fixture_mounts(f, text);
  free(text);
  fixture_put(f, V2 "/a/cpu.max", "20000 100000\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 200000);
  fixture_free(f);
}
END_TEST

START_TEST(every_failing_open_and_read_leaves_a_usable_result) {
  for (int kind = 0; kind < 4; kind++) {
    struct fixture *f = kind % 2 ? v1_at("/a/b") : v2_at("/a/b");
    fixture_put(f, V2 "/a/b/cpu.max", "50000 100000\n");
    fixture_put(f, V2 "/a/b/cpu.weight", "50\n");
    fixture_put(f, V2 "/cpuset.cpus.effective", "0-2\n");
    fixture_put(f, V1 "/a/cpu.cfs_quota_us", "50000\n");
    fixture_put(f, V1 "/a/cpu.cfs_period_us", "100000\n");
    fixture_put(f, V1 "/a/b/cpu.cfs_quota_us", "50000\n");
    fixture_put(f, "/sys/fs/cgroup/cpuset/cpuset.cpus", "0-2\n");
    find_well(f, 7);
    ck_assert_uint_eq(q.cpu_micro, 500000);
    ck_assert_uint_eq(q.cpus_allowed, 3);
    unsigned n = f->opens;
    ck_assert_uint_gt(n, 10);
    f->fail_read = kind / 2;
    f->fail_errno = EMFILE;
    for (unsigned i = 1; i <= n; i++) {
      f->opens = 0;
      f->fail_nth = i;
      find(f, 7);
      f->opens = 0;
      quota_refresh(&q, &f->fs, NULL);
      check_sane(&q);
      ck_assert_int_eq(f->open_now, 0);
    }
    f->fail_nth = 0;
    find_well(f, 7);
    fixture_free(f);
  }
}
END_TEST

START_TEST(reading_in_single_bytes_changes_nothing) {
  static struct quota other;
  struct fixture *f = v1_at("/a/b");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "120000\n");
  fixture_put(f, V1 "/a/cpu.shares", "2048\n");
  fixture_put(f, "/sys/fs/cgroup/cpuset/cpuset.cpus", "0-1,3\n");
  for (size_t piece = 1; piece < 40; piece++) {
    f->piece = 0;
    memset(&other, 0, sizeof(other));
    ck_assert_int_eq(quota_find(&other, &f->fs, 7), 0);
    f->piece = piece;
    find_well(f, 7);
    ck_assert_mem_eq(&q, &other, sizeof(q));
  }
  fixture_free(f);
}
END_TEST

START_TEST(huge_numbers_saturate) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "18446744073709551614 1\n");
  find_well(f, 7);
  ck_assert(q.limited);
  ck_assert_uint_eq(q.quota_micro, QUOTA_NONE - 1);
  ck_assert_uint_eq(q.cpu_micro, 4000000);
  ck_assert_int_eq(q.decider, QUOTA_BY_HOST);
  ck_assert_str_eq(q.domain, "/a");
  fixture_put(f, V2 "/a/cpu.max", "1 18446744073709551614\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpu_micro, 1);
  ck_assert_uint_eq(q.slots, 1);
  ck_assert_uint_eq(q.duty_ppm, 1);
  fixture_free(f);
}
END_TEST

/* ---- CPUs allowed ---- */

START_TEST(affinity_lists_are_counted) {
  static const struct {
    const char *list;
    unsigned n;
  } lists[] = {{"0", 1},     {"3", 1},       {"0-3", 4},    {"0,2", 2},  {"0-1,3", 3},
               {"1,1,1", 1}, {"0-2,1-3", 4}, {"0-8191", 4}, {" 0-1", 2}, {"2-2", 1}};
  for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
    struct fixture *f = v2_at("/a");
    fixture_process(f, 7, "0::/a\n", lists[i].list);
    find_well(f, 7);
    ck_assert_uint_eq(q.cpus_allowed, lists[i].n);
    ck_assert_uint_eq(q.cpus_affinity, lists[i].n);
    ck_assert_uint_eq(q.cpus_host, 4);
    ck_assert_int_eq(q.decider, lists[i].n < 4 ? QUOTA_BY_AFFINITY : QUOTA_BY_HOST);
    ck_assert_str_eq(q.source, lists[i].n < 4 ? "/proc/7/status" : "/sys/devices/system/cpu/online");
    fixture_free(f);
  }
}
END_TEST

START_TEST(malformed_lists_of_cpus_are_named_and_do_not_limit) {
  static const struct bad bad[] = {
      {"x", "not a CPU number", 4},
      {"1-", "a range of CPUs without an end", 4},
      {"-1", "not a CPU number", 4},
      {"3-1", "a range of CPUs that ends before it begins", 4},
      {"0-8192", "a CPU number is too large", 4},
      {"18446744073709551616", "a CPU number is too large", 4},
      {"0-18446744073709551616", "a CPU number is too large", 4},
      {"0-4294967295", "a CPU number is too large", 4},
      {"1;2", "a comma is missing in the list of CPUs", 4},
      {"1,", "not a CPU number", 4},
      {",1", "not a CPU number", 4},
      {"1 2", "a comma is missing in the list of CPUs", 4},
      {"", "an empty list of CPUs", 4},
      {"0-7:2/4", "a comma is missing in the list of CPUs", 4},
  };
  struct fixture *f = v2_at("/a");
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    char want[128];
    fixture_process(f, 7, "0::/a\n", bad[i].text);
    ck_assert_int_eq(find(f, 7), -EINVAL);
    snprintf(want, sizeof(want), "/proc/7/status:%u: %s", bad[i].line, bad[i].what);
    ck_assert_str_eq(q.problem, want);
    ck_assert_uint_eq(q.cpus_allowed, 4);
    ck_assert_uint_eq(q.cpus_affinity, 0);
  }
  fixture_free(f);
}
END_TEST

START_TEST(v2_cpuset_limits_and_the_nearest_counts) {
  struct fixture *f = v2_at("/a/b/c");
  fixture_put(f, V2 "/cpuset.cpus.effective", "0-3\n");
  fixture_put(f, V2 "/a/cpuset.cpus.effective", "1-2\n");
  fixture_put(f, V2 "/a/b/cpuset.cpus.effective", "\n"); /* empty: says nothing */
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 2);
  ck_assert_uint_eq(q.cpus_cpuset, 2);
  ck_assert_int_eq(q.decider, QUOTA_BY_CPUSET);
  ck_assert_str_eq(q.source, V2 "/a/cpuset.cpus.effective");
  fixture_process(f, 7, "0::/a/b/c\n", "2-3");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 1);
  ck_assert_uint_eq(q.cpus_affinity, 2);
  ck_assert_int_eq(q.decider, QUOTA_BY_AFFINITY);
  fixture_free(f);
}
END_TEST

START_TEST(v1_cpuset_is_another_hierarchy) {
  struct fixture *f = v1_at("/a");
  fixture_process(f, 7, "3:cpuset:/s/t\n2:cpuacct:/a\n1:cpu:/a\n0::/\n", "0-3");
  fixture_put(f, "/sys/fs/cgroup/cpuset/s/t/cpuset.cpus", "0,3\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 2);
  ck_assert_str_eq(q.source, "/sys/fs/cgroup/cpuset/s/t/cpuset.cpus");
  fixture_put(f, "/sys/fs/cgroup/cpuset/s/t/cpuset.effective_cpus", "3\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 1);
  ck_assert_str_eq(q.source, "/sys/fs/cgroup/cpuset/s/t/cpuset.effective_cpus");
  fixture_put(f, "/sys/fs/cgroup/cpuset/s/t/cpuset.effective_cpus", "\n");
  fixture_put(f, "/sys/fs/cgroup/cpuset/s/t/cpuset.cpus", "\n");
  fixture_put(f, "/sys/fs/cgroup/cpuset/s/cpuset.cpus", "0-2\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 3);
  fixture_free(f);
}
END_TEST

START_TEST(a_bad_cpuset_is_named_and_the_one_above_counts) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/cpuset.cpus.effective", "0-2\n");
  fixture_put(f, V2 "/a/cpuset.cpus.effective", "2-1\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, V2 "/a/cpuset.cpus.effective:1: a range of CPUs that ends before it begins");
  ck_assert_uint_eq(q.cpus_allowed, 3);
  fixture_put(f, V2 "/a/cpuset.cpus.effective", "7\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, V2 "/a/cpuset.cpus.effective: none of its CPUs is online");
  ck_assert_uint_eq(q.cpus_allowed, 4);
  fixture_put(f, V2 "/a/cpuset.cpus.effective", "0\n");
  fixture_process(f, 7, "0::/a\n", "1-2");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, V2 "/a/cpuset.cpus.effective: none of its CPUs is in the affinity mask");
  ck_assert_uint_eq(q.cpus_allowed, 2);
  fixture_free(f);
}
END_TEST

START_TEST(the_smaller_of_quota_and_cpus_decides) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "250000 100000\n");
  find_well(f, 7);
  ck_assert_int_eq(q.decider, QUOTA_BY_CFS);
  fixture_process(f, 7, "0::/a\n", "0-1");
  find_well(f, 7);
  ck_assert_int_eq(q.decider, QUOTA_BY_AFFINITY);
  ck_assert_uint_eq(q.cpu_micro, 2000000);
  ck_assert_uint_eq(q.quota_micro, 2500000);
  ck_assert(q.limited);
  ck_assert_str_eq(q.domain, "/a");
  fixture_put(f, V2 "/a/cpu.max", "200000 100000\n"); /* equal: the quota is said */
  find_well(f, 7);
  ck_assert_int_eq(q.decider, QUOTA_BY_CFS);
  ck_assert_str_eq(quota_decider_name(q.decider), "cfs");
  fixture_free(f);
}
END_TEST

START_TEST(cpus_that_are_offline_do_not_count) {
  struct fixture *f = v2_at("/a");
  fixture_process(f, 7, "0::/a\n", "0-127");
  fixture_put(f, "/sys/devices/system/cpu/online", "0-2,5\n");
  fixture_put(f, "/sys/devices/system/cpu/offline", "3-4,6-127\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_host, 4);
  ck_assert_uint_eq(q.cpus_allowed, 4);
  fixture_process(f, 7, "0::/a\n", "2-4");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 1);
  fixture_free(f);
}
END_TEST

START_TEST(an_invented_online_list_still_gives_the_right_count) {
  struct fixture *f = v2_at("/a"); /* as lxcfs does: two CPUs, renumbered */
  fixture_process(f, 7, "0::/a\n", "1-2");
  fixture_put(f, "/sys/devices/system/cpu/online", "0-1\n");
  fixture_put(f, "/sys/devices/system/cpu/offline", "8-127\n");
  fixture_put(f, V2 "/cpuset.cpus.effective", "1-2\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 2);
  fixture_process(f, 7, "0::/a\n", "0-7"); /* never more than it says are online */
  fixture_remove(f, V2 "/cpuset.cpus.effective");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 2);
  fixture_free(f);
}
END_TEST

START_TEST(without_an_online_list_the_mask_or_the_cpuset_tells) {
  struct fixture *f = v2_at("/a");
  fixture_remove(f, "/sys/devices/system/cpu/online");
  fixture_process(f, 7, "0::/a\n", "0-5");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_host, 6);
  ck_assert_uint_eq(q.cpus_allowed, 6);
  fixture_put(f, V2 "/cpuset.cpus.effective", "0-2\n");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 3);
  fixture_process(f, 7, "0::/a\n", NULL);
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_host, 3);
  ck_assert_uint_eq(q.cpus_allowed, 3);
  fixture_remove(f, V2 "/cpuset.cpus.effective");
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_allowed, 1);
  fixture_put(f, "/sys/devices/system/cpu/online", "?\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, "/sys/devices/system/cpu/online:1: not a CPU number");
  fixture_free(f);
}
END_TEST

START_TEST(more_cpus_than_any_list_is_long) {
  struct fixture *f = v2_at("/a");
  char *list = malloc(64 * 1024), *end = list;
  for (int i = 0; i < 8192; i += 2) end += sprintf(end, "%s%d", i ? "," : "", i);
  fixture_process(f, 7, "0::/a\n", list);
  fixture_put(f, "/sys/devices/system/cpu/online", "0-8191\n");
  free(list);
  find_well(f, 7);
  ck_assert_uint_eq(q.cpus_host, 8192);
  ck_assert_uint_eq(q.cpus_allowed, 4096);
  ck_assert_uint_eq(q.slots, 4096);
  fixture_free(f);
}
END_TEST

/* ---- weights ---- */

START_TEST(weights_are_listed_for_each_level) {
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.weight", "300\n");
  fixture_put(f, V2 "/a/b/cpu.weight", "50\n");
  find_well(f, 7);
  ck_assert(q.weighted);
  ck_assert_uint_eq(q.nlevels, 3);
  ck_assert_uint_eq(q.levels[0].weight, 50);
  ck_assert_uint_eq(q.levels[1].weight, 300);
  ck_assert_uint_eq(q.levels[2].weight, 0);
  char dir[64], name[64];
  ck_assert_int_eq(quota_level_dir(&q, 1, dir, sizeof(dir)), 0);
  ck_assert_str_eq(dir, V2 "/a");
  ck_assert_int_eq(quota_level_name(&q, 1, name, sizeof(name)), 0);
  ck_assert_str_eq(name, "/a");
  ck_assert_int_eq(quota_level_name(&q, 2, name, sizeof(name)), 0);
  ck_assert_str_eq(name, "/");
  ck_assert_int_eq(quota_level_name(&q, 3, name, sizeof(name)), -ENOENT);
  ck_assert_int_eq(quota_level_dir(&q, 0, dir, 5), -ENAMETOOLONG);
  fixture_put(f, V2 "/a/cpu.max", "100000 100000\n");
  find_well(f, 7);
  ck_assert(!q.weighted);
  fixture_free(f);
}
END_TEST

START_TEST(v1_shares_are_weights_and_the_roots_mean_nothing) {
  struct fixture *f = v1_at("/");
  fixture_put(f, V1 "/cpu.shares", "1024\n");
  find_well(f, 7);
  ck_assert(!q.weighted);
  fixture_process(f, 7, "1:cpu:/a\n", "0-3");
  fixture_put(f, V1 "/a/cpu.shares", "512\n");
  find_well(f, 7);
  ck_assert(q.weighted);
  ck_assert_uint_eq(q.levels[0].weight, 512);
  fixture_free(f);
}
END_TEST

START_TEST(odd_weights) {
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.weight", "0\n"); /* what an idle cgroup shows */
  find_well(f, 7);
  ck_assert_uint_eq(q.levels[0].weight, 1);
  fixture_put(f, V2 "/a/cpu.weight", "262145\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, V2 "/a/cpu.weight:1: the weight is too large");
  ck_assert_uint_eq(q.levels[0].weight, 0);
  fixture_put(f, V2 "/a/cpu.weight", "-5\n");
  ck_assert_int_eq(find(f, 7), -EINVAL);
  ck_assert_str_eq(q.problem, V2 "/a/cpu.weight:1: not a number");
  fixture_free(f);
}
END_TEST

/* ---- meters ---- */

START_TEST(v2_usage_and_throttling_are_read) {
  struct fixture *f = v2_at("/a/b");
  fixture_put(f, V2 "/a/cpu.max", "50000 100000\n");
  fixture_put(f, V2 "/a/b/cpu.max", "100000 100000\n");
  fixture_put(f, V2 "/a/b/cpu.stat", "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\nnr_periods 9\nnr_throttled 8\n");
  fixture_put(f, V2 "/a/cpu.stat", "usage_usec 99\nnr_periods 100\nnr_throttled 57\nthrottled_usec 123456\nnr_bursts 3\nburst_usec 44\n");
  find_well(f, 7);
  struct quota_meter m;
  quota_meter_domain(&m, &q);
  uint64_t ns = 0;
  ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), 0);
  ck_assert_uint_eq(ns, 1234567000); /* of the domain */
  struct quota_throttle t;
  ck_assert_int_eq(quota_throttled(&m, &f->fs, &t), 0);
  ck_assert_uint_eq(t.nr_periods, 100); /* of the decider */
  ck_assert_uint_eq(t.nr_throttled, 57);
  ck_assert_uint_eq(t.throttled_us, 123456);
  ck_assert_uint_eq(t.nr_bursts, 3);
  ck_assert_uint_eq(t.burst_us, 44);
  ck_assert_int_eq(quota_meter_level(&m, &q, 1), 0);
  ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), 0);
  ck_assert_uint_eq(ns, 99000);
  ck_assert_int_eq(quota_meter_level(&m, &q, 3), -ENOENT);
  fixture_free(f);
}
END_TEST

START_TEST(v1_usage_comes_from_cpuacct_and_times_in_ns) {
  struct fixture *f = v1_at("/a/b");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "50000\n");
  fixture_put(f, V1 "/a/cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 5000999\nnr_bursts 1\nburst_time 7000\n");
  fixture_put(f, "/sys/fs/cgroup/cpuacct/a/cpuacct.usage", "987654321\n");
  fixture_mkdir(f, "/sys/fs/cgroup/cpuacct/a/b");
  find_well(f, 7);
  struct quota_meter m;
  quota_meter_domain(&m, &q);
  uint64_t ns = 0;
  ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), 0);
  ck_assert_uint_eq(ns, 987654321);
  struct quota_throttle t;
  ck_assert_int_eq(quota_throttled(&m, &f->fs, &t), 0);
  ck_assert_uint_eq(t.nr_throttled, 2);
  ck_assert_uint_eq(t.throttled_us, 5000);
  ck_assert_uint_eq(t.burst_us, 7);
  fixture_free(f);
}
END_TEST

START_TEST(usage_of_another_cgroup_is_not_taken_for_ours) {
  static const char *const where[] = {"/", "/other", "/ab", "/x/a"};
  for (size_t i = 0; i < sizeof(where) / sizeof(*where); i++) {
    struct fixture *f = v1_at("/a/b");
    char lines[100], dir[100];
    snprintf(lines, sizeof(lines), "2:cpuacct:%s\n1:cpu:/a/b\n", where[i]);
    snprintf(dir, sizeof(dir), "/sys/fs/cgroup/cpuacct%s/cpuacct.usage", where[i]);
    fixture_process(f, 7, lines, "0-3");
    fixture_put(f, V1 "/a/cpu.cfs_quota_us", "50000\n");
    fixture_put(f, dir, "5\n");
    find_well(f, 7);
    struct quota_meter m;
    uint64_t ns = 77;
    quota_meter_domain(&m, &q);
    ck_assert_int_eq(m.usage_version, 0);
    ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), -ENODATA);
    ck_assert_uint_eq(ns, 77);
    fixture_free(f);
  }
}
END_TEST

START_TEST(a_deeper_accounting_cgroup_counts_for_the_domain_above) {
  struct fixture *f = v1_at("/a");
  fixture_process(f, 7, "2:cpuacct:/a/deeper\n1:cpu:/a\n", "0-3");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "50000\n");
  fixture_mkdir(f, "/sys/fs/cgroup/cpuacct/a/deeper");
  find_well(f, 7);
  struct quota_meter m;
  quota_meter_domain(&m, &q);
  ck_assert_str_eq(m.usage, "/sys/fs/cgroup/cpuacct/a/cpuacct.usage");
  fixture_free(f);
}
END_TEST

START_TEST(usage_above_what_the_mount_shows_is_unknown) {
  struct fixture *f = v1_at("/a");
  fixture_mounts(f,
                 "32 31 0:29 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
                 "33 31 0:30 /a /sys/fs/cgroup/cpuacct ro - cgroup cgroup rw,cpuacct\n");
  find_well(f, 7);
  struct quota_meter m;
  quota_meter_domain(&m, &q); /* the host */
  ck_assert_int_eq(m.usage_version, 0);
  ck_assert_int_eq(quota_meter_level(&m, &q, 0), 0);
  ck_assert_str_eq(m.usage, "/sys/fs/cgroup/cpuacct/cpuacct.usage");
  fixture_free(f);
}
END_TEST

START_TEST(of_two_lines_with_one_controller_the_first_counts) {
  struct fixture *f = v1_at("/a");
  fixture_process(f, 7, "0::/c\n2:cpu:/a\n1:cpu:/b\n0::/d\n", "0-3");
  fixture_mkdir(f, V1 "/b");
  find_well(f, 7);
  ck_assert_str_eq(q.cgroup, "/a");
  fixture_free(f);
}
END_TEST

START_TEST(meters_bear_missing_and_malformed_files) {
  static const char *const bad[] = {"",
                                    "usage_usec\n",
                                    "usage_usec x\n",
                                    "usage_usec -5\n",
                                    "usage_usec 18446744073709551615\n",
                                    "usage_usec 5 6\n",
                                    "usage_usecs 5\n",
                                    "\n\n\0\n"};
  struct fixture *f = v2_at("/a");
  fixture_put(f, V2 "/a/cpu.max", "50000 100000\n");
  find_well(f, 7);
  struct quota_meter m;
  struct quota_throttle t = {.nr_periods = 5};
  uint64_t ns = 77;
  quota_meter_domain(&m, &q);
  ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), -ENOENT);
  ck_assert_int_eq(quota_throttled(&m, &f->fs, &t), -ENOENT);
  ck_assert_uint_eq(t.nr_periods, 5);
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    fixture_put(f, V2 "/a/cpu.stat", "%s", bad[i]);
    ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), -ENODATA);
    ck_assert_int_eq(quota_throttled(&m, &f->fs, &t), 0);
    ck_assert_uint_eq(t.nr_periods, 0);
  }
  fixture_put(f, V2 "/a/cpu.stat", "usage_usec 5\n");
  f->fail_path = V2 "/a/cpu.stat";
  f->fail_read = true;
  f->fail_errno = ENODEV;
  ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), -ENODEV);
  ck_assert_uint_eq(ns, 77);
  ck_assert_int_eq(f->open_now, 0);
  fixture_free(f);
}
END_TEST

START_TEST(v2_accounting_serves_where_no_v1_cpuacct_is) {
  struct fixture *f = fixture_new();
  fixture_machine(f, FIXTURE_V1, 4);
  fixture_mounts(
      f, "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  fixture_process(f, 7, "1:cpu:/a\n0::/a\n", "0-3");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "50000\n");
  fixture_put(f, "/sys/fs/cgroup/unified/a/cpu.stat", "usage_usec 42\n");
  find_well(f, 7);
  struct quota_meter m;
  uint64_t ns = 0;
  quota_meter_domain(&m, &q);
  ck_assert_int_eq(quota_usage_ns(&m, &f->fs, &ns), 0);
  ck_assert_uint_eq(ns, 42000);
  ck_assert_str_eq(m.stat, V1 "/a/cpu.stat");
  fixture_free(f);
}
END_TEST

/* ---- again ---- */

START_TEST(refresh_sees_each_change) {
  struct fixture *f = v2_at("/a/b");
  bool changed = true;
  fixture_put(f, V2 "/a/cpu.max", "50000 100000\n");
  find_well(f, 7);
  ck_assert_int_eq(quota_refresh(&q, &f->fs, &changed), 0);
  ck_assert(!changed);
  static const struct {
    const char *file, *text;
  } steps[] = {
      {V2 "/a/cpu.max", "60000 100000\n"},
      {V2 "/a/cpu.max", "30000 50000\n"},
      {V2 "/a/b/cpu.max", "200000 100000\n"},
      {V2 "/a/b/cpu.weight", "77\n"},
      {V2 "/a/cpu.max", "max\n"},
      {V2 "/cpuset.cpus.effective", "0\n"},
      {V2 "/a/b/cpu.max", "max\n"},
      {"/sys/devices/system/cpu/online", "0-2\n"},
      {V2 "/cpu.max", "10000 100000\n"},
  };
  for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
    fixture_put(f, steps[i].file, "%s", steps[i].text);
    ck_assert_int_eq(quota_refresh(&q, &f->fs, &changed), 0);
    ck_assert_msg(changed, "step %zu", i);
    static struct quota fresh;
    memset(&fresh, 0, sizeof(fresh));
    ck_assert_int_eq(quota_find(&fresh, &f->fs, 7), 0);
    ck_assert_uint_eq(fresh.cpu_micro, q.cpu_micro);
    ck_assert_str_eq(fresh.domain, q.domain);
    ck_assert_str_eq(fresh.source, q.source);
    ck_assert_int_eq(quota_refresh(&q, &f->fs, &changed), 0);
    ck_assert_msg(!changed, "step %zu again", i);
  }
  fixture_free(f);
}
END_TEST

START_TEST(refresh_tells_a_bad_file_and_forgets_it_when_it_is_good) {
  struct fixture *f = v2_at("/a");
  find_well(f, 7);
  fixture_put(f, V2 "/a/cpu.max", "?\n");
  ck_assert_int_eq(quota_refresh(&q, &f->fs, NULL), -EINVAL);
  ck_assert_uint_eq(q.problems, 1);
  fixture_put(f, V2 "/a/cpu.max", "max\n");
  ck_assert_int_eq(quota_refresh(&q, &f->fs, NULL), 0);
  ck_assert_uint_eq(q.problems, 0);
  ck_assert_str_eq(q.problem, "");
  fixture_free(f);
}
END_TEST

START_TEST(refresh_tells_a_dead_process_from_a_removed_cgroup) {
  struct fixture *f = v2_at("/a");
  find_well(f, 7);
  fixture_remove(f, V2 "/a");
  ck_assert_int_eq(quota_refresh(&q, &f->fs, NULL), -ENODEV);
  fixture_mkdir(f, V2 "/a");
  ck_assert_int_eq(quota_refresh(&q, &f->fs, NULL), 0);
  fixture_remove(f, "/proc/7");
  ck_assert_int_eq(quota_refresh(&q, &f->fs, NULL), -ESRCH);
  check_sane(&q);
  fixture_free(f);
}
END_TEST

START_TEST(a_move_to_another_cgroup_is_seen) {
  struct fixture *f = v1_at("/a");
  find_well(f, 7);
  ck_assert_int_eq(quota_moved(&q, &f->fs), 0);
  fixture_process(f, 7, "3:cpuset:/\n2:cpuacct:/a\n1:cpu:/b\n0::/\n", "0-3");
  ck_assert_int_eq(quota_moved(&q, &f->fs), 1);
  fixture_remove(f, "/proc/7");
  ck_assert_int_eq(quota_moved(&q, &f->fs), -ESRCH);
  fixture_free(f);
}
END_TEST

START_TEST(no_such_process) {
  struct fixture *f = v2_at("/a");
  ck_assert_int_eq(find(f, 8), -ESRCH);
  ck_assert_str_eq(q.problem, "/proc/8/status: cannot be read: no such process");
  ck_assert_uint_eq(q.cpus_host, 4);
  fixture_free(f);
}
END_TEST

START_TEST(a_process_that_dies_while_we_read) {
  static const char *const files[] = {"/proc/7/status", "/proc/7/cgroup"};
  struct fixture *f = v2_at("/a");
  for (size_t i = 0; i < 2; i++) {
    f->fail_path = files[i];
    f->fail_errno = ESRCH;
    f->fail_read = true;
    f->fail_after = 0;
    ck_assert_int_eq(find(f, 7), -ESRCH);
  }
  fixture_free(f);
}
END_TEST

START_TEST(self_is_pid_0) {
  struct fixture *f = v2_at("/a");
  fixture_process(f, 0, "0::/a\n", "1");
  fixture_put(f, V2 "/a/cpu.max", "400000 100000\n");
  find_well(f, 0);
  ck_assert_uint_eq(q.cpus_allowed, 1);
  ck_assert_str_eq(q.source, "/proc/self/status");
  ck_assert_str_eq(q.domain, "/a");
  fixture_free(f);
}
END_TEST

START_TEST(a_kernel_without_cgroups_is_no_problem) {
  struct fixture *f = v2_at("/a");
  fixture_remove(f, "/proc/7/cgroup");
  find_well(f, 7);
  ck_assert(!q.limited);
  ck_assert_int_eq(q.version, 0);
  ck_assert_uint_eq(q.cpu_micro, 4000000);
  struct quota_meter m;
  quota_meter_domain(&m, &q);
  ck_assert_int_eq(m.usage_version, 0);
  ck_assert_int_eq(m.stat_version, 0);
  char path[64];
  ck_assert_int_eq(quota_watch_path(&q, 0, path, sizeof(path)), -ENOENT);
  fixture_free(f);
}
END_TEST

static void check_watches(const char *const *want) {
  char path[QUOTA_FILE_MAX];
  unsigned i = 0;
  for (; want[i]; i++) {
    ck_assert_int_eq(quota_watch_path(&q, i, path, sizeof(path)), 0);
    ck_assert_str_eq(path, want[i]);
  }
  ck_assert_int_eq(quota_watch_path(&q, i, path, sizeof(path)), -ENOENT);
  ck_assert_int_eq(quota_watch_path(&q, i + 1000, path, sizeof(path)), -ENOENT);
  ck_assert_int_eq(quota_watch_path(&q, 0, path, 4), -ENAMETOOLONG);
}

START_TEST(the_watched_files_are_those_that_are_read) {
  struct fixture *f = v2_at("/a");
  find_well(f, 7);
  check_watches((const char *const[]){V2 "/a/cpu.max", V2 "/a/cpu.max.burst", V2 "/cpu.max", V2 "/cpu.max.burst", V2 "/a/cpu.weight",
                                      V2 "/cpu.weight", V2 "/a/cpuset.cpus", V2 "/cpuset.cpus", NULL});
  fixture_free(f);
  f = v1_at("/a");
  find_well(f, 7);
  check_watches((const char *const[]){V1 "/a/cpu.cfs_quota_us", V1 "/a/cpu.cfs_period_us", V1 "/a/cpu.cfs_burst_us", V1 "/cpu.cfs_quota_us",
                                      V1 "/cpu.cfs_period_us", V1 "/cpu.cfs_burst_us", V1 "/a/cpu.shares", V1 "/cpu.shares",
                                      "/sys/fs/cgroup/cpuset/cpuset.cpus", NULL});
  fixture_free(f);
}
END_TEST

START_TEST(cpus_as_text) {
  static const struct {
    uint64_t micro;
    const char *text;
  } cases[] = {{0, "0"},
               {1, "0.000001"},
               {500000, "0.5"},
               {1000000, "1"},
               {1500000, "1.5"},
               {333333, "0.333333"},
               {1000010, "1.00001"},
               {64000000, "64"},
               {UINT64_MAX, "18446744073709.551615"}};
  char buf[32];
  for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
    ck_assert_uint_eq(quota_cpus_text(cases[i].micro, buf, sizeof(buf)), strlen(cases[i].text));
    ck_assert_str_eq(buf, cases[i].text);
  }
  ck_assert_uint_eq(quota_cpus_text(1500000, buf, 3), 2);
  ck_assert_str_eq(buf, "1.");
  ck_assert_uint_eq(quota_cpus_text(1500000, buf, 0), 0);
}
END_TEST

START_TEST(a_prefix_too_long_is_refused) {
  char dir[QUOTA_PATH_MAX + 10];
  struct quota_root root;
  struct quota_fs fs;
  memset(dir, 'x', sizeof(dir));
  dir[sizeof(dir) - 1] = '\0';
  ck_assert_int_eq(quota_fs_rooted(&fs, &root, dir), -ENAMETOOLONG);
  ck_assert_int_eq(quota_fs_rooted(&fs, &root, "///"), 0);
  ck_assert_uint_eq(root.len, 0);
  ck_assert(!fs.mounts_of_pid);
  ck_assert_int_eq(quota_fs_rooted(&fs, &root, "/x//"), 0);
  ck_assert_str_eq(root.dir, "/x");
}
END_TEST

/* ---- what the shim needs of it ---- */

START_TEST(errno_is_not_touched) {
  struct fixture *f = v2_at("/a");
  fixture_mkdir(f, V2 "/a/cpu.max");
  errno = 4242;
  quota_find(&q, &f->real, 7);
  quota_find(&q, &f->real, 8);
  quota_refresh(&q, &f->real, NULL);
  quota_moved(&q, &f->real);
  ck_assert_int_eq(errno, 4242);
  fixture_free(f);
}
END_TEST

/* Paints a stack, runs quota_find and quota_refresh on it, and looks how deep the paint is gone. */
static ucontext_t ctx_main, ctx_small;
static struct fixture *ctx_fixture;

static void on_small_stack(void) {
  quota_find(&q, &ctx_fixture->real, 7);
  quota_refresh(&q, &ctx_fixture->real, NULL);
}

START_TEST(stack_use_stays_below_the_bound) {
#if defined(RATION_SAN_address) || defined(RATION_SAN_thread)
  return; /* its frames are larger */
#endif
  static unsigned char stack[8 * QUOTA_STACK];
  struct fixture *f = ctx_fixture = v1_at("/a/b/c");
  fixture_put(f, V1 "/a/cpu.cfs_quota_us", "x\n");
  fixture_put(f, "/sys/fs/cgroup/cpuset/cpuset.cpus", "0-2\n");
  fixture_process(f, 7, "3:cpuset:/\n2:cpuacct:/a/b/c\n1:cpu:/a/b/c\n0::/\n", "0-9"); /* asks for the offline list, too */
  memset(stack, 0xa5, sizeof(stack));
  getcontext(&ctx_small);
  ctx_small.uc_stack.ss_sp = stack;
  ctx_small.uc_stack.ss_size = sizeof(stack);
  ctx_small.uc_link = &ctx_main;
  makecontext(&ctx_small, on_small_stack, 0);
  swapcontext(&ctx_main, &ctx_small);
  ck_assert_uint_eq(q.problems, 1);
  size_t untouched = 0;
  while (untouched < sizeof(stack) && stack[untouched] == 0xa5) untouched++;
  ck_assert_uint_gt(untouched, 0);
  ck_assert_uint_le(sizeof(stack) - untouched, QUOTA_STACK);
  fixture_free(f);
}
END_TEST

/* ---- against a reference ---- */

static uint64_t random_state;
static unsigned pick(unsigned n) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(random_state >> 33) % n;
}

static bool matches(const char *pattern, const char *text, regmatch_t m[4]) {
  regex_t re;
  ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED), 0);
  bool r = regexec(&re, text, 4, m, 0) == 0;
  regfree(&re);
  return r;
}

/* A group of digits as a number; *ok becomes false if it doesn't fit. */
static uint64_t group(const char *text, const regmatch_t *m, bool *ok) {
  char digits[128];
  snprintf(digits, sizeof(digits), "%.*s", (int)(m->rm_eo - m->rm_so), text + m->rm_so);
  errno = 0;
  uint64_t v = strtoull(digits, NULL, 10);
  if (errno || v == UINT64_MAX) *ok = false;
  return v;
}

/* What a quota file and, for v1, a period file say: CPUs, or INFINITY for no limit.  NULL: no such file. */
static long double ref_cpus(bool v2, const char *quota, const char *period, bool *bad) {
  regmatch_t m[4];
  long double none = 1.0L / 0.0L;
  bool ok = true;
  uint64_t qv, pv = 100000;
  if (!quota) return none;
  if (v2) {
    if (matches("^[ \t]*max([ \t]+([0-9]+))?[ \t\n]*$", quota, m)) {
      if (m[2].rm_so >= 0) pv = group(quota, &m[2], &ok);
      if (!ok || pv == 0) *bad = true;
      return none;
    }
    if (!matches("^[ \t]*([0-9]+)([ \t]+([0-9]+))?[ \t\n]*$", quota, m)) return *bad = true, none;
    qv = group(quota, &m[1], &ok);
    if (m[3].rm_so >= 0) pv = group(quota, &m[3], &ok);
  } else {
    if (matches("^[ \t]*-1[ \t\n]*$", quota, m)) return none;
    if (!matches("^[ \t]*([0-9]+)[ \t\n]*$", quota, m)) return *bad = true, none;
    qv = group(quota, &m[1], &ok);
    if (ok && qv && period) {
      if (!matches("^[ \t]*([0-9]+)[ \t\n]*$", period, m)) return *bad = true, none;
      pv = group(period, &m[1], &ok);
    }
  }
  if (!ok || qv == 0 || pv == 0) return *bad = true, none;
  return (long double)qv / (long double)pv;
}

/* Counts a list of CPUs below 16 in the obvious way; -1: malformed. */
static int ref_list(const char *list, bool set[16]) {
  memset(set, 0, 16 * sizeof(bool));
  char copy[64], *save = NULL;
  snprintf(copy, sizeof(copy), "%s", list);
  int n = 0;
  if (list[0] == ',' || (list[0] && list[strlen(list) - 1] == ',')) return -1;
  for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
    unsigned a, b;
    int used = 0;
    if (sscanf(s, "%u-%u%n", &a, &b, &used) != 2 || s[used]) {
      if (sscanf(s, "%u%n", &a, &used) != 1 || s[used] || !strchr("0123456789", s[0])) return -1;
      b = a;
    }
    if (a > b) return -1;
    for (unsigned i = a; i <= b; i++) set[i] = true;
  }
  for (int i = 0; i < 16; i++) n += set[i];
  return n;
}

static const char *const quota_words[] = {
    "50000", "100000", "150000", "1",     "999999999", "18446744073709551615", "18446744073709551616", "0", "-1", "max",
    "x",     "",       "0x9",    "12345", "007"};
static const char *const period_words[] = {"100000", "50000", "1000", "1", "0", "-1", "max", "y", "1000000", "33333", ""};
static const char *const blanks[] = {"", "", "", "\n", " ", "\n\n", "\t", " z"};

#define WORD(a) (a)[pick(sizeof(a) / sizeof(*(a)))]

static void random_list(char *buf, size_t cap) {
  static const char *const lists[] = {"0-3", "0-7", "1", "0,2,4", "7", "0-15", "5-3", "2-", "0-1,6-7", ",1", "1,", "3,3,2-3", "8-9"};
  snprintf(buf, cap, "%s", WORD(lists));
}

struct ref {
  long double least; /* of the chain */
  char domain[256];
  unsigned bad;
};

/* Makes one level's files and says what they mean. */
static void random_level(struct fixture *f, bool v2, const char *mount, const char *name, struct ref *ref) {
  char quota[128], period[128], path[512];
  bool has_quota = pick(4) != 0, has_period = pick(3) != 0, bad = false;
  if (v2)
    snprintf(quota, sizeof(quota), "%s%s%s%s%s", pick(8) ? "" : " ", WORD(quota_words), pick(8) ? " " : "",
             pick(4) ? WORD(period_words) : "", WORD(blanks));
  else
    snprintf(quota, sizeof(quota), "%s%s", WORD(quota_words), WORD(blanks));
  snprintf(period, sizeof(period), "%s%s", WORD(period_words), WORD(blanks));
  snprintf(path, sizeof(path), "%s%s", mount, name);
  fixture_mkdir(f, path);
  snprintf(path, sizeof(path), "%s%s/%s", mount, name, v2 ? "cpu.max" : "cpu.cfs_quota_us");
  if (has_quota) fixture_put(f, path, "%s", quota);
  snprintf(path, sizeof(path), "%s%s/cpu.cfs_period_us", mount, name);
  if (has_period && !v2) fixture_put(f, path, "%s", period);
  long double cpus = ref_cpus(v2, has_quota ? quota : NULL, has_period ? period : NULL, &bad);
  if (bad) ref->bad++;
  /* Called from the root down: the last finite one is the nearest, the least is the least. */
  if (cpus != 1.0L / 0.0L) snprintf(ref->domain, sizeof(ref->domain), "%s", *name ? name : "/");
  if (cpus < ref->least) ref->least = cpus;
}

static void random_case(void) {
  static const char *const names[] = {"/a", "/b c", "/d\\e", "/kubepods.slice", "/x"};
  bool v2 = pick(2);
  struct fixture *f = fixture_new();
  const char *mount = v2 ? V2 : V1;
  fixture_machine(f, v2 ? FIXTURE_V2 : FIXTURE_V1, 8);
  struct ref ref = {.least = 1.0L / 0.0L, .domain = "/"};
  char name[200] = "", line[256], mask[32], set[32], path[64];
  random_level(f, v2, mount, "", &ref);
  for (unsigned i = pick(6); i; i--) random_level(f, v2, mount, strcat(name, WORD(names)), &ref);
  snprintf(line, sizeof(line), v2 ? "0::%s\n" : "5:cpuset:/\n1:cpu:%s\n", *name ? name : "/");
  random_list(mask, sizeof(mask));
  random_list(set, sizeof(set));
  fixture_process(f, 9, line, mask);
  snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", v2 ? "cpuset.cpus.effective" : "cpuset/cpuset.cpus");
  fixture_put(f, path, "%s\n", set);

  bool in_mask[16], in_set[16];
  int nmask = ref_list(mask, in_mask), nset = ref_list(set, in_set);
  if (nmask < 0) ref.bad++;
  if (nset < 0) ref.bad++;
  unsigned left = 0, mask_left = 0, set_left = 0;
  for (int i = 0; i < 8; i++) { /* online */
    mask_left += nmask > 0 && in_mask[i];
    set_left += nset > 0 && in_set[i];
  }
  for (int i = 0; i < 8; i++) left += (!mask_left || in_mask[i]) && (!set_left || in_set[i]);
  ref.bad += nmask > 0 && !mask_left;
  ref.bad += nset > 0 && !set_left;
  if (left == 0) {
    ref.bad++;
    left = mask_left;
  }

  int r = find(f, 9);
  const char *said = q.problems ? q.problem : "";
  ck_assert_msg(q.problems == ref.bad, "%u problems, not %u: %s", q.problems, ref.bad, said);
  ck_assert_int_eq(r<0, ref.bad> 0);
  ck_assert_msg(q.cpus_allowed == left, "%u CPUs, not %u: mask %s, set %s", q.cpus_allowed, left, mask, set);
  ck_assert_str_eq(q.domain, ref.domain);
  ck_assert_int_eq(q.limited, ref.least != 1.0L / 0.0L);
  long double cpus = ref.least < left ? ref.least : left;
  long double got = (long double)q.cpu_micro / 1e6L;
  ck_assert_msg(got <= cpus + 1.1e-6L && got >= cpus - 1.1e-6L, "%.9Lf CPUs, not %.9Lf", got, cpus);
  fixture_free(f);
}

START_TEST(random_trees_mean_what_the_reference_says) {
  for (random_state = (uint64_t)_i * 1000003; random_state < (uint64_t)_i * 1000003 + 150; random_state++) {
    uint64_t seed = random_state;
    random_case();
    random_state = seed;
  }
}
END_TEST

int main(void) {
  const TTest *const tests[] = {
      v2_quota_is_a_fraction,
      burst_is_the_least_of_equal_quotas,
      v1_quota_is_a_fraction,
      whole_cpus_have_full_duty,
      thirds_are_rounded_down_to_millionths,
      joint_cpu_and_cpuacct_mount_is_found,
      hybrid_takes_the_v1_cpu_controller,
      hybrid_with_cpu_in_the_v2_tree,
      tighter_ancestor_counts,
      tighter_ancestor_counts_in_v1,
      nearest_finite_quota_is_the_domain,
      of_equal_quotas_the_nearest_decides,
      quota_at_the_root_of_the_mount_counts,
      no_quota_anywhere_is_the_host,
      a_quota_without_a_period_is_per_100_ms,
      a_chain_deeper_than_the_list_counts_whole,
      of_a_path_too_long_the_ancestors_count,
      below_a_long_mount_point_the_ancestors_count,
      a_bind_mounted_root_shows_the_rest_of_the_path,
      a_root_of_a_like_name_is_not_an_ancestor,
      a_path_outside_the_namespace_gets_the_mount_root,
      a_mount_of_the_parent_namespace_shows_a_sibling,
      a_path_that_is_not_there_gets_the_mount_root,
      escaped_mount_names_are_unescaped,
      of_several_mounts_the_one_that_shows_most_is_taken,
      very_long_lines_of_other_mounts_do_not_matter,
      lines_that_are_no_mounts_are_passed_over,
      an_unmounted_controller_is_a_problem,
      our_own_mounts_count_and_the_pids_are_a_fallback,
      with_a_prefix_the_pids_mounts_come_first,
      malformed_cpu_max_is_named_and_the_rest_counts,
      malformed_v1_quota_is_named_and_the_rest_counts,
      malformed_proc_cgroup_lines_are_named,
      slashes_at_the_end_and_doubled_are_harmless,
      the_first_problem_is_told_and_all_are_counted,
      a_problem_with_a_long_path_still_says_what,
      unreadable_files_are_named_and_the_rest_counts,
      a_directory_in_place_of_a_file_is_a_problem,
      files_too_long_are_named_and_the_rest_counts,
      a_long_list_of_mounts_is_read_to_its_end,
      every_failing_open_and_read_leaves_a_usable_result,
      reading_in_single_bytes_changes_nothing,
      huge_numbers_saturate,
      affinity_lists_are_counted,
      malformed_lists_of_cpus_are_named_and_do_not_limit,
      v2_cpuset_limits_and_the_nearest_counts,
      v1_cpuset_is_another_hierarchy,
      a_bad_cpuset_is_named_and_the_one_above_counts,
      the_smaller_of_quota_and_cpus_decides,
      cpus_that_are_offline_do_not_count,
      an_invented_online_list_still_gives_the_right_count,
      without_an_online_list_the_mask_or_the_cpuset_tells,
      more_cpus_than_any_list_is_long,
      weights_are_listed_for_each_level,
      v1_shares_are_weights_and_the_roots_mean_nothing,
      odd_weights,
      v2_usage_and_throttling_are_read,
      v1_usage_comes_from_cpuacct_and_times_in_ns,
      usage_of_another_cgroup_is_not_taken_for_ours,
      a_deeper_accounting_cgroup_counts_for_the_domain_above,
      usage_above_what_the_mount_shows_is_unknown,
      of_two_lines_with_one_controller_the_first_counts,
      meters_bear_missing_and_malformed_files,
      v2_accounting_serves_where_no_v1_cpuacct_is,
      refresh_sees_each_change,
      refresh_tells_a_bad_file_and_forgets_it_when_it_is_good,
      refresh_tells_a_dead_process_from_a_removed_cgroup,
      a_move_to_another_cgroup_is_seen,
      no_such_process,
      a_process_that_dies_while_we_read,
      self_is_pid_0,
      a_kernel_without_cgroups_is_no_problem,
      the_watched_files_are_those_that_are_read,
      cpus_as_text,
      a_prefix_too_long_is_refused,
      errno_is_not_touched,
      stack_use_stays_below_the_bound,
  };
  Suite *s = suite_create("quota");
  TCase *tc = tcase_create("files");
  tcase_set_timeout(tc, 60);
  for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) tcase_add_test(tc, tests[i]);
  tcase_add_loop_test(tc, random_trees_mean_what_the_reference_says, 0, 20);
  suite_add_tcase(s, tc);
  SRunner *sr = srunner_create(s);
  fixture_begin();
  srunner_run_all(sr, CK_ENV);
  fixture_end();
  int failed = srunner_ntests_failed(sr);
  srunner_free(sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
