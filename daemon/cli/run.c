/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration run: starts a command under ration.  Without --cpus it becomes the command
 * (exec), so there is nothing to pass on; with --cpus see child.c and transient.c.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "daemon/cli/binary.h"
#include "daemon/cli/child.h"
#include "daemon/cli/choice.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/rulefiles.h"
#include "daemon/cli/scope.h"
#include "daemon/cli/transient.h"
#include "daemon/quota.h"
#include "proto/pool_params.h"
#include "proto/wire.h"

#ifndef RATION_LIBDIR
#define RATION_LIBDIR "/usr/local/lib"
#endif
#define LIB_NAME "libration.so"

#define PERIOD_DEFAULT_US 100000u
#define PERIOD_MIN_US 1000u /* the kernel's bounds */
#define PERIOD_MAX_US 1000000u
#define QUOTA_MIN_US 1000u

static const struct cli_option options[] = {
    {"cpus", 'c', "N.N", "limit it to so many CPUs, in a cgroup of its own that goes with it"},
    {"period", 0, "TIME", "period of that limit: 1ms to 1s (default 100ms)"},
    {"burst", 0, "TIME", "what the kernel saves of a period for the next ones (default 5ms for each CPU)"},
    {"threads", 't', "MODE", "'auto' (default), 'locked', 'off' or 'free': see below"},
    {"profile", 0, "FILE", "read the rules of this file as well; they win among equals"},
    {"name", 'n', "NAME", "name to show in 'ration ps'"},
    {"standalone", 0, NULL, "do not talk to rationd"},
    {"socket", 's', "PATH", "rationd's socket"},
    {"quiet", 'q', NULL, "do not say when a program cannot be helped, or a rule is wrong"},
    {0},
};

struct request {
  uint64_t cpus; /* millionths; 0: not asked for */
  uint64_t period_us;
  uint64_t burst_us; /* if burst_text */
  const char *burst_text, *cpus_text, *threads, *profile, *name, *socket;
  bool standalone, quiet;
  char **argv;
};

/* ---- options ---- */

static int parse_cpus(const struct cli_command *cmd, const char *arg, struct request *r) {
  int e = cli_parse_micro(arg, &r->cpus);
  if (e == -EINVAL)
    cli_error(cmd, "--cpus '%s': want a number of CPUs, like 0.5 or 2", arg);
  else if (e < 0)
    cli_error(cmd, "--cpus %s: so many CPUs there are nowhere", arg);
  else if (r->cpus == 0)
    cli_error(cmd, "--cpus %s: nothing can run on no CPU; the least is 0.01", arg);
  r->cpus_text = arg;
  return e == 0 && r->cpus ? 0 : CLI_OPT_BAD;
}

/* "100ms", "50000us", "1s"; a number alone is milliseconds.  -EINVAL: it is none; UINT64_MAX us: it is too long for a number. */
static int parse_time(const char *arg, uint64_t *us) {
  size_t len = strspn(arg, "0123456789.");
  const char *unit = arg + len;
  uint64_t per_unit = strcmp(unit, "us") == 0 ? 1 : !*unit || strcmp(unit, "ms") == 0 ? 1000 : strcmp(unit, "s") == 0 ? 1000000 : 0;
  char number[32];
  uint64_t micro;
  snprintf(number, sizeof(number), "%.*s", (int)UTIL_MIN(len, sizeof(number) - 1), arg);
  int e = len < sizeof(number) ? cli_parse_micro(number, &micro) : -ERANGE;
  if (per_unit == 0 || e == -EINVAL) return -EINVAL;
  unsigned __int128 t = e < 0 ? UINT64_MAX : (unsigned __int128)micro * per_unit / 1000000;
  *us = (uint64_t)UTIL_MIN(t, UINT64_MAX);
  return 0;
}

static int parse_period(const struct cli_command *cmd, const char *arg, struct request *r) {
  int e = parse_time(arg, &r->period_us);
  if (e < 0)
    cli_error(cmd, "--period '%s': want a time, like 100ms, 50000us or 1s", arg);
  else if (r->period_us >= PERIOD_MIN_US && r->period_us <= PERIOD_MAX_US)
    return 0;
  else
    cli_error(cmd, "--period %s: the kernel takes 1ms to 1s", arg);
  return CLI_OPT_BAD;
}

/* Whether it fits the limit is known when all options are. */
static int parse_burst(const struct cli_command *cmd, const char *arg, struct request *r) {
  r->burst_text = arg;
  if (parse_time(arg, &r->burst_us) == 0) return 0;
  cli_error(cmd, "--burst '%s': want a time, like 5ms or 5000us, or 0", arg);
  return CLI_OPT_BAD;
}

static int parse_threads(const struct cli_command *cmd, const char *arg, struct request *r) {
  static const char *const modes[] = {"off", "locked", "free", "auto", NULL};
  r->threads = arg;
  for (int i = 0; modes[i]; i++)
    if (strcmp(arg, modes[i]) == 0) return 0;
  const char *near = cli_nearest(arg, modes);
  if (near)
    cli_error(cmd, "--threads '%s': did you mean '%s'?", arg, near);
  else
    cli_error(cmd, "--threads '%s': want 'off', 'locked', 'free' or 'auto'", arg);
  return CLI_OPT_BAD;
}

static int parse_name(const struct cli_command *cmd, const char *arg, struct request *r) {
  size_t most = sizeof(((struct wire_hello *)0)->name) - 1;
  r->name = arg;
  if (*arg && strlen(arg) <= most) return 0;
  cli_error(cmd, *arg ? "--name: at most %zu bytes" : "--name: want a name of 1 to %zu bytes", most);
  return CLI_OPT_BAD;
}

static int parse_option(const struct cli_command *cmd, int i, const char *arg, struct request *r) {
  if (cli_is(cmd, i, "cpus")) return parse_cpus(cmd, arg, r);
  if (cli_is(cmd, i, "period")) return parse_period(cmd, arg, r);
  if (cli_is(cmd, i, "burst")) return parse_burst(cmd, arg, r);
  if (cli_is(cmd, i, "threads")) return parse_threads(cmd, arg, r);
  if (cli_is(cmd, i, "name")) return parse_name(cmd, arg, r);
  if (cli_is(cmd, i, "profile")) r->profile = arg;
  if (cli_is(cmd, i, "socket")) r->socket = arg;
  if (cli_is(cmd, i, "standalone")) r->standalone = true;
  if (cli_is(cmd, i, "quiet")) r->quiet = true;
  return 0;
}

static int parse(const struct cli_command *cmd, int argc, char **argv, struct request *r) {
  const char *arg;
  cli_begin_options();
  for (int i; (i = cli_next_option(cmd, argc, argv, &arg)) != CLI_OPT_END;) {
    int e = i < 0 ? i : parse_option(cmd, i, arg, r);
    if (e < 0) return e;
  }
  r->argv = argv + cli_rest();
  if (r->argv[0]) {
    if (!r->period_us) r->period_us = PERIOD_DEFAULT_US;
    return 0;
  }
  cli_error(cmd, "no command given: ration run %s", cmd->usage);
  return CLI_OPT_BAD;
}

/* ---- libration.so ---- */

static bool lib_at(char *path, size_t cap, const char *dir, size_t dir_len, const char *below) {
  int n = snprintf(path, cap, "%.*s%s/" LIB_NAME, (int)dir_len, dir, below);
  return n < (int)cap && access(path, R_OK) == 0;
}

/* RATION_LIB; where we were built; beside where we are installed; where we were meant to be installed. */
static int find_lib(const struct cli_command *cmd, char *path, size_t cap) {
  const char *env = getenv("RATION_LIB");
  if (env && *env) {
    snprintf(path, cap, "%s", env);
    if (strlen(env) < cap && access(path, R_OK) == 0) return 0;
    cli_error(cmd, "RATION_LIB=%s: %s", env, strerror(strlen(env) < cap ? errno : ENAMETOOLONG));
    return -ENOENT;
  }
  char self[PATH_MAX] = "";
  ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
  char *slash = n > 0 ? strrchr(self, '/') : NULL;
  size_t dir_len = slash ? (size_t)(slash - self) : 0;
  if (slash && (lib_at(path, cap, self, dir_len, "") || lib_at(path, cap, self, dir_len, "/../lib"))) return 0;
  if (lib_at(path, cap, RATION_LIBDIR, strlen(RATION_LIBDIR), "")) return 0;
  cli_error(cmd, "%s is not beside %.*s, in its ../lib, nor in %s; RATION_LIB may say where it is", LIB_NAME, slash ? (int)dir_len : 1,
            slash ? self : "?", RATION_LIBDIR);
  return -ENOENT;
}

/* LD_PRELOAD with ours first and only once: a nested `ration run` inherits the outer one's. */
static int set_preload(const struct cli_command *cmd) {
  char lib[PATH_MAX];
  if (find_lib(cmd, lib, sizeof(lib)) < 0) return -ENOENT;
  _cleanup_free_ char *real = realpath(lib, NULL);
  const char *absolute = real ? real : lib;
  if (strpbrk(absolute, ": \t")) {
    cli_error(cmd, "cannot preload '%s': the loader takes a space or a colon for the end of a name", absolute);
    return -EINVAL;
  }
  const char *old = getenv("LD_PRELOAD");
  size_t cap = strlen(absolute) + (old ? strlen(old) : 0) + 2;
  _cleanup_free_ char *value = malloc(cap), *words = strdup(old ? old : "");
  if (!value || !words) {
    cli_error(cmd, "out of memory");
    return -ENOMEM;
  }
  char *end = stpcpy(value, absolute), *save = NULL;
  for (char *w = strtok_r(words, ": \t", &save); w; w = strtok_r(NULL, ": \t", &save)) {
    const char *slash = strrchr(w, '/');
    if (strcmp(slash ? slash + 1 : w, LIB_NAME) != 0) end = stpcpy(stpcpy(end, ":"), w);
  }
  return setenv("LD_PRELOAD", value, 1) < 0 ? -errno : 0;
}

/* ---- programs that cannot be helped ---- */

/* So many threads as the pool would have slots: rounded up, and never less than one. */
static unsigned knob_threads(const struct request *r, const struct quota *q) {
  uint64_t micro = r->cpus && r->cpus < q->cpu_micro ? r->cpus : q->cpu_micro;
  unsigned n = (unsigned)((micro + 999999) / 1000000);
  return n ? n : 1;
}

/* Sets the variables that the program's runtime asks for, unless the user did.  Appends " with A=2 B=2" to `said`. */
static void set_knobs(const struct binary *b, unsigned threads, char *said, size_t cap) {
  size_t n = 0;
  said[0] = 0;
  for (int k = 0; k < KNOB_COUNT; k++) {
    const char *name = binary_knob_name[k], *has = getenv(name);
    char value[16];
    if (!(b->knobs & 1u << k) || (has && *has)) continue;
    snprintf(value, sizeof(value), "%u", threads);
    setenv(name, value, 1);
    if (n < cap) n += (size_t)snprintf(said + n, cap - n, "%s%s=%s", n ? " " : ", with ", name, value);
  }
}

static bool may_preload(const struct binary *b) {
  /* A foreign loader would only complain.  A static or setuid program may start others, which can be helped. */
  return b->kind != BINARY_OTHER_ARCH && b->kind != BINARY_OTHER_LIBC;
}

static int prepare_program(const struct cli_command *cmd, const struct request *r, const struct binary *b, const struct quota *q) {
  char said[256];
  if (may_preload(b) && set_preload(cmd) < 0) return CLI_RUN_FAILED;
  set_knobs(b, knob_threads(r, q), said, sizeof(said));
  if (r->quiet || b->kind == BINARY_PRELOADABLE || b->kind == BINARY_UNKNOWN) return 0;
  cli_note("%s %s%s: it runs untouched%s", b->path.text, b->why, b->go ? " (Go)" : "", said);
  return 0;
}

static int set_environment(const struct request *r) {
  int e = 0;
  if (r->name) e |= setenv("RATION_NAME", r->name, 1);
  if (r->standalone) e |= setenv("RATION_STANDALONE", "1", 1);
  if (r->socket) e |= setenv("RATION_SOCKET", r->socket, 1);
  return e;
}

/* ---- rules ---- */

#define PROBLEMS_SAID 8

/* What is wrong with a file of rules costs the program nothing but that rule. */
static int load_rules(const struct cli_command *cmd, const struct request *r, struct rules *rules) {
  int e = rulefiles_load(rules), file = e == 0 && r->profile ? rulefiles_read(rules, r->profile) : 0;
  size_t said = r->quiet ? 0 : UTIL_MIN(rules->nproblems, (size_t)PROBLEMS_SAID);
  for (size_t i = 0; i < said; i++) cli_error(cmd, "%s", rules->problem[i]);
  if (said && said < rules->wrong) cli_error(cmd, "and %zu more; see 'ration profile --check'", rules->wrong - said);
  if (e == -ENOMEM || file == -ENOMEM) {
    cli_error(cmd, "out of memory");
  } else if (file < 0) {
    /* This one was asked for, and what is wrong with it has to be among what was said. */
    if (said < rules->wrong) cli_error(cmd, "--profile %s: %s", r->profile, strerror(-file));
  } else {
    return 0;
  }
  return CLI_RUN_FAILED;
}

/* The options, then what a rule says of the rest. */
static int prepare_environment(const struct cli_command *cmd, const struct request *r, const struct binary *b, const char *path) {
  _cleanup_(rules_free) struct rules rules = {0};
  struct choice c;
  if (load_rules(cmd, r, &rules) != 0) return CLI_RUN_FAILED;
  choice_make(&c, &rules, b, path, r->argv, r->threads);
  if (set_environment(r) == 0 && choice_apply(&c) == 0) return 0;
  cli_error(cmd, "out of memory");
  return CLI_RUN_FAILED;
}

/* ---- running ---- */

/* Is the limit one that can be had here? */
static int check_limit(const struct cli_command *cmd, const struct request *r, const struct quota *q) {
  char have[32];
  quota_cpus_text(q->quota_micro, have, sizeof(have));
  if (r->cpus > (uint64_t)q->cpus_host * 1000000)
    cli_error(cmd, "--cpus %s: this machine has %u", r->cpus_text, q->cpus_host);
  else if (q->limited && r->cpus > q->quota_micro)
    cli_error(cmd, "--cpus %s: the cgroup that this runs in has only %s (%s)", r->cpus_text, have, q->source);
  else if ((unsigned __int128)r->cpus * r->period_us / 1000000 < QUOTA_MIN_US)
    cli_error(cmd, "--cpus %s: too little; the kernel wants at least 1 ms of CPU time in a period of %g ms, which is %g CPUs", r->cpus_text,
              (double)r->period_us / 1e3, (double)QUOTA_MIN_US / (double)r->period_us);
  else
    return 0;
  return CLI_RUN_FAILED;
}

/* Unless told, a burst of some ms for each CPU (proto/pool_params.h), and of a quarter of the limit at most: no period has much more than its part. */
static uint64_t default_burst(uint64_t quota_us, uint64_t cpus) {
  uint64_t burst = (uint64_t)POOL_BURST_GIVEN_US * pool_ceil_cpus(cpus, UINT32_MAX);
  return UTIL_MIN(burst, quota_us / 4);
}

static int make_limit(const struct cli_command *cmd, const struct request *r, struct transient_limit *limit) {
  limit->period_us = r->period_us;
  limit->quota_us = (uint64_t)(((unsigned __int128)r->cpus * r->period_us + 500000) / 1000000);
  limit->burst_us = r->burst_text ? r->burst_us : default_burst(limit->quota_us, r->cpus);
  if (limit->burst_us <= limit->quota_us) return 0;
  cli_error(cmd, "--burst %s: the kernel saves at most one period's limit, here %g ms", r->burst_text, (double)limit->quota_us / 1e3);
  return -EINVAL;
}

static int run_limited(const struct cli_command *cmd, const struct request *r, const struct quota *q, const struct binary *b,
                       const char *path) {
  static struct transient t; /* large */
  char why[TRANSIENT_ERR];
  struct transient_limit limit;
  if (make_limit(cmd, r, &limit) < 0) return CLI_RUN_FAILED;
  if (transient_places(&t, q, &limit, why) < 0) {
    cli_error(cmd, "%s", why);
    return CLI_RUN_FAILED;
  }
  return child_run(cmd, b, path, r->argv, &t);
}

static int run_main(const struct cli_command *cmd, int argc, char **argv) {
  static struct quota q; /* large */
  struct request r = {0};
  struct binary_path path;
  struct binary b;
  bool second = scope_is_second();
  int e = parse(cmd, argc, argv, &r);
  if (e == CLI_OPT_HELP) return CLI_OK;
  if (e < 0 || !r.argv) return CLI_RUN_FAILED;

  e = binary_find(r.argv[0], &path);
  if (e < 0) return cli_exec_failed(cmd, r.argv[0], -e);
  e = binary_inspect(&b, path.text);
  if (e < 0) {
    cli_error(cmd, "%s: its interpreter %s: %s", r.argv[0], b.path.text, strerror(-e));
    return e == -ENOENT ? CLI_RUN_NOT_FOUND : CLI_RUN_NOT_EXEC;
  }
  /* What is wrong with the quota's files is for `ration quota` to say; the result is usable all the same. */
  if (r.cpus || b.knobs) quota_find(&q, &quota_fs_host, 0);
  if (r.cpus && check_limit(cmd, &r, &q) != 0) return CLI_RUN_FAILED;
  if (r.cpus && q.version == 2 && !q.inexact && !second && !transient_has_room(q.dir, "cpu")) scope_enter();
  if (prepare_environment(cmd, &r, &b, path.text) != 0) return CLI_RUN_FAILED;
  e = prepare_program(cmd, &r, &b, &q);
  if (e != 0) return e;
  if (r.cpus) return run_limited(cmd, &r, &q, &b, path.text);
  return cli_exec_failed(cmd, r.argv[0], -binary_exec(&b, path.text, r.argv));
}

const struct cli_command cli_run = {
    .name = "run",
    .usage = "[OPTION]... [--] COMMAND [ARGUMENT]...",
    .summary = "Run a command under ration",
    .usage_status = CLI_RUN_FAILED,
    .options = options,
    .main = run_main,
    .text =
        "With 'locked', its threads are scheduled by ration; with 'off', only CPU counts are made right;\n"
        "'free' is experimental so far.  'auto' is what RATION_THREADS says, or a rule about the command\n"
        "('ration profile' shows it), or 'locked'.\n\n"
        "Exit status: the command's; 125 if ration itself failed, 126 if the command cannot be run,\n"
        "127 if it is not found.  See ration-run(1).\n",
};
