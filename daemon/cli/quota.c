/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration quota: how much CPU a process may use, and which file said so.  Reads the files itself: no daemon needed.
 */
#include "daemon/quota.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/text.h"

static const struct cli_option options[] = {
    {"pid", 'p', "PID", "of that process (default: of this one)"},
    {"root", 'r', "DIR", "read DIR/proc and DIR/sys/fs/cgroup instead of the real ones"},
    {"json", 'j', NULL, "print JSON"},
    {0},
};

struct view {
  struct quota q;
  struct quota_throttle throttle;
  bool throttle_known;
  uint64_t usage_ns;
  bool usage_known;
};

static void measure(struct view *v, const struct quota_fs *fs) {
  struct quota_meter m;
  quota_meter_domain(&m, &v->q);
  v->throttle_known = v->q.limited && quota_throttled(&m, fs, &v->throttle) == 0;
  v->usage_known = quota_usage_ns(&m, fs, &v->usage_ns) == 0;
}

static const char *weight_file(const struct quota *q) { return q->version == 1 ? "cpu.shares" : "cpu.weight"; }

/* ---- JSON ---- */

static json_t *json_us(uint64_t us) { return us == QUOTA_NONE ? json_null() : json_uint(us); }

static json_t *json_levels(const struct quota *q) {
  json_t *list = json_array();
  for (unsigned i = 0; i < q->nlevels; i++) {
    const struct quota_level *l = &q->levels[i];
    char name[QUOTA_PATH_MAX], dir[QUOTA_PATH_MAX];
    if (quota_level_name(q, i, name, sizeof(name)) < 0 || quota_level_dir(q, i, dir, sizeof(dir)) < 0) continue;
    json_t *j = json_object();
    json_object_set_new(j, "cgroup", json_text(name));
    json_object_set_new(j, "dir", json_text(dir));
    json_object_set_new(j, "cpus", l->micro == QUOTA_NONE ? json_null() : json_micro(l->micro));
    json_object_set_new(j, "quota_us", json_us(l->quota_us));
    json_object_set_new(j, "period_us", l->micro == QUOTA_NONE ? json_null() : json_uint(l->period_us));
    json_object_set_new(j, "weight", l->weight ? json_uint(l->weight) : json_null());
    json_array_append_new(list, j);
  }
  return list;
}

static json_t *json_throttling(const struct view *v) {
  if (!v->throttle_known) return json_null();
  const struct quota_throttle *t = &v->throttle;
  json_t *j = json_object();
  json_object_set_new(j, "nr_periods", json_uint(t->nr_periods));
  json_object_set_new(j, "nr_throttled", json_uint(t->nr_throttled));
  json_object_set_new(j, "throttled_us", json_uint(t->throttled_us));
  json_object_set_new(j, "percent", json_real(t->nr_periods ? 100.0 * (double)t->nr_throttled / (double)t->nr_periods : 0.0));
  return j;
}

static int print_json(const struct view *v) {
  const struct quota *q = &v->q;
  json_t *j = json_object();
  json_object_set_new(j, "pid", q->pid ? json_integer(q->pid) : json_null());
  json_object_set_new(j, "domain", json_text(q->domain));
  json_object_set_new(j, "cgroup", json_text(q->cgroup));
  json_object_set_new(j, "cgroup_version", q->version ? json_integer(q->version) : json_null());
  json_object_set_new(j, "cpus", json_micro(q->cpu_micro));
  json_object_set_new(j, "slots", json_uint(q->slots));
  json_object_set_new(j, "last_slot_duty", json_micro(q->duty_ppm));
  json_object_set_new(j, "limited", json_boolean(q->limited));
  json_object_set_new(j, "weighted", json_boolean(q->weighted));
  json_object_set_new(j, "exact", json_boolean(!q->inexact));
  json_object_set_new(j, "decided_by", json_text(quota_decider_name(q->decider)));
  json_object_set_new(j, "source", json_text(q->source));
  json_object_set_new(j, "quota_us", q->limited ? json_uint(q->quota_us) : json_null());
  json_object_set_new(j, "period_us", q->limited ? json_uint(q->period_us) : json_null());
  json_object_set_new(j, "burst_us", q->limited ? json_uint(q->burst_us) : json_null());
  json_object_set_new(j, "cpus_allowed", json_uint(q->cpus_allowed));
  json_object_set_new(j, "cpus_online", json_uint(q->cpus_host));
  json_object_set_new(j, "cpus_cpuset", q->cpus_cpuset ? json_uint(q->cpus_cpuset) : json_null());
  json_object_set_new(j, "cpus_affinity", q->cpus_affinity ? json_uint(q->cpus_affinity) : json_null());
  json_object_set_new(j, "usage_ns", v->usage_known ? json_uint(v->usage_ns) : json_null());
  json_object_set_new(j, "throttling", json_throttling(v));
  json_object_set_new(j, "levels", json_levels(q));
  json_object_set_new(j, "problem", q->problem[0] ? json_text(q->problem) : json_null());
  json_object_set_new(j, "problems", json_uint(q->problems));
  return json_print(j);
}

/* ---- text ---- */

static const char *const pair_heads[] = {"", "", NULL};

static const char *cpus(char *buf, uint64_t micro) {
  quota_cpus_text(micro, buf, TEXT_UNIT);
  return buf;
}

/* Microseconds: what a file says, which may be any number. */
static const char *duration_us(char *buf, uint64_t us) { return text_duration(buf, UTIL_MIN(us, UINT64_MAX / NS_PER_US) * NS_PER_US); }

static void pair_cpus(struct table *t, const struct quota *q) {
  char a[TEXT_UNIT], b[TEXT_UNIT], c[TEXT_UNIT], burst[2 * TEXT_UNIT] = "";
  table_cell(t, "CPUs");
  if (q->burst_us) snprintf(burst, sizeof(burst), "; %s may be saved", duration_us(c, q->burst_us));
  if (q->decider == QUOTA_BY_CFS)
    table_cell(t, "%s (%s of CPU time every %s%s)", cpus(a, q->cpu_micro), duration_us(b, q->quota_us), duration_us(c, q->period_us),
               burst);
  else
    table_cell(t, "%s", cpus(a, q->cpu_micro));
  table_cell(t, "slots");
  if (q->duty_ppm < 1000000 && q->slots > 1)
    table_cell(t, "%u, the last one with a duty of %.4g %%", q->slots, q->duty_ppm / 1e4);
  else if (q->duty_ppm < 1000000)
    table_cell(t, "1, with a duty of %.4g %%", q->duty_ppm / 1e4);
  else
    table_cell(t, "%u", q->slots);
}

static void pair_allowed(struct table *t, const struct quota *q) {
  char set[TEXT_UNIT] = "", mask[TEXT_UNIT] = "";
  if (q->cpus_cpuset) snprintf(set, sizeof(set), ", cpuset %u", q->cpus_cpuset);
  if (q->cpus_affinity) snprintf(mask, sizeof(mask), ", affinity %u", q->cpus_affinity);
  table_cell(t, "allowed");
  table_cell(t, "%u (online %u%s%s)", q->cpus_allowed, q->cpus_host, set, mask);
  if (q->nlevels == 0 || q->levels[0].weight == 0) return;
  table_cell(t, "weight");
  table_cell(t, "%u (%s)%s", q->levels[0].weight, weight_file(q),
             q->weighted ? "; no quota, so the share depends on who else is active" : "");
}

static void pair_throttling(struct table *t, const struct view *v) {
  const struct quota_throttle *th = &v->throttle;
  char buf[TEXT_UNIT];
  if (v->throttle_known) {
    table_cell(t, "throttled");
    table_cell(t, "%" PRIu64 " of %" PRIu64 " periods (%.3g %%), %s in all", th->nr_throttled, th->nr_periods,
               th->nr_periods ? 100.0 * (double)th->nr_throttled / (double)th->nr_periods : 0.0, duration_us(buf, th->throttled_us));
  }
  if (v->usage_known) {
    table_cell(t, "used");
    table_cell(t, "%s of CPU time", text_duration(buf, v->usage_ns));
  }
}

/* The chain, where there is more than one cgroup to choose from. */
static void print_levels(const struct quota *q) {
  static const char *const heads[] = {"CGROUP", ">CPUS", ">QUOTA", ">PERIOD", ">WEIGHT", NULL};
  _cleanup_(table_free) struct table t = {0};
  char buf[TEXT_UNIT], name[QUOTA_PATH_MAX];
  if (q->nlevels < 2) return;
  table_init(&t, heads);
  for (unsigned i = 0; i < q->nlevels; i++) {
    const struct quota_level *l = &q->levels[i];
    bool none = l->micro == QUOTA_NONE;
    if (quota_level_name(q, i, name, sizeof(name)) < 0) continue;
    table_cell(&t, "%s", name);
    table_cell(&t, "%s", none ? "-" : cpus(buf, l->micro));
    table_cell(&t, "%s", none ? "-" : duration_us(buf, l->quota_us));
    table_cell(&t, "%s", none ? "-" : duration_us(buf, l->period_us));
    if (l->weight)
      table_cell(&t, "%u", l->weight);
    else
      table_cell(&t, "-");
  }
  putchar('\n');
  table_print(&t, stdout);
  if (q->depth > q->nlevels) printf("(and %u levels above)\n", q->depth - q->nlevels);
}

static void print_text(const struct view *v) {
  const struct quota *q = &v->q;
  _cleanup_(table_free) struct table t = {0};
  table_init(&t, pair_heads);
  table_cell(&t, "domain");
  table_cell(&t, "%s%s", q->domain, q->limited ? "" : " (the host: no cgroup above it has a quota)");
  if (strcmp(q->cgroup, q->domain) != 0 && q->cgroup[0]) {
    table_cell(&t, "cgroup");
    table_cell(&t, "%s%s", q->cgroup, q->inexact ? " (not visible here; the root of the mount stands for it)" : "");
  }
  pair_cpus(&t, q);
  table_cell(&t, "decided by");
  table_cell(&t, "%s%s%s", quota_decider_name(q->decider), q->source[0] ? ": " : "", q->source);
  pair_allowed(&t, q);
  pair_throttling(&t, v);
  table_print_body(&t, stdout);
  print_levels(q);
}

/* ---- the command ---- */

struct request {
  int pid;
  const char *root;
  bool json;
};

static int parse(const struct cli_command *cmd, int argc, char **argv, struct request *r) {
  const char *arg;
  uint64_t pid;
  cli_begin_options();
  for (int i; (i = cli_next_option(cmd, argc, argv, &arg)) != CLI_OPT_END;) {
    if (i < 0) return i;
    if (cli_is(cmd, i, "json")) r->json = true;
    if (cli_is(cmd, i, "root")) r->root = arg;
    if (!cli_is(cmd, i, "pid")) continue;
    if (cli_parse_uint(arg, INT_MAX, &pid) < 0 || pid == 0) {
      cli_error(cmd, "--pid '%s': want the number of a process", arg);
      return CLI_OPT_BAD;
    }
    r->pid = (int)pid;
  }
  return cli_no_more(cmd, argc, argv) ? CLI_OPT_END : CLI_OPT_BAD;
}

/* --root DIR: is there something to read? */
static int open_root(const struct cli_command *cmd, const char *dir, struct quota_fs *fs, struct quota_root *root) {
  char path[PATH_MAX];
  struct stat st;
  int n = snprintf(path, sizeof(path), "%s/proc", dir);
  int err = !*dir ? ENOENT : n >= (int)sizeof(path) ? ENAMETOOLONG : stat(path, &st) < 0 ? errno : !S_ISDIR(st.st_mode) ? ENOTDIR : 0;
  if (err == 0) err = -quota_fs_rooted(fs, root, dir);
  if (err) cli_error(cmd, "--root %s: %s: %s", dir, *dir ? path : "proc", strerror(err));
  return err ? CLI_FAILED : CLI_OK;
}

static int quota_main(const struct cli_command *cmd, int argc, char **argv) {
  static struct view v; /* large */
  struct request req = {0};
  struct quota_fs fs = quota_fs_host;
  struct quota_root root;
  int p = parse(cmd, argc, argv, &req);
  if (p == CLI_OPT_HELP) return CLI_OK;
  if (p == CLI_OPT_BAD) return CLI_USAGE;
  if (req.root && open_root(cmd, req.root, &fs, &root) != CLI_OK) return CLI_FAILED;

  int r = quota_find(&v.q, &fs, req.pid);
  if (r == -ESRCH) {
    cli_error(cmd, "there is no process %d%s%s", req.pid, req.root ? " below " : "", req.root ? req.root : "");
    return CLI_FAILED;
  }
  measure(&v, &fs);
  if (v.q.problem[0]) {
    const char *prefix = req.root && v.q.problem[0] == '/' ? req.root : "";
    if (v.q.problems > 1)
      cli_error(cmd, "%s%s (and %u more)", prefix, v.q.problem, v.q.problems - 1);
    else
      cli_error(cmd, "%s%s", prefix, v.q.problem);
  }
  int status = CLI_OK;
  if (req.json)
    status = print_json(&v);
  else
    print_text(&v);
  /* A file that cannot be understood may have held the quota; when nothing else limits, the answer is a guess. */
  if (v.q.problem[0] && v.q.decider == QUOTA_BY_HOST) status = CLI_FAILED;
  return status;
}

const struct cli_command cli_quota = {
    .name = "quota",
    .usage = "[OPTION]...",
    .summary = "Show how many CPUs a process may use, and which file says so",
    .usage_status = CLI_USAGE,
    .options = options,
    .main = quota_main,
    .text =
        "Exit status: 0; 1 if there is no such process, or a file could not be understood\n"
        "and nothing else limits the CPUs; 2 for wrong options.\n",
};
