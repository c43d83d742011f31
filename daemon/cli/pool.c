/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration pool: the pools of Ps, one for each quota domain and user.
 */
#include <stdio.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/query.h"
#include "daemon/cli/text.h"
#include "daemon/quota.h"
#include "proto/pool_page.h"

static const char *const heads[] = {"DOMAIN", "USER",    ">CPUS", ">RATE",      ">SLOTS",  ">HELD", ">PROCS",
                                    ">WAIT",  ">TOKENS", ">USED", ">STRANGERS", ">WEIGHT", "RUNGS", NULL};

#define RUNGS_TEXT 96

/* "bpf 2, polling 1"; "-" for none.  Which rung of the ladder its processes are on. */
static void rungs_text(const struct wire_pool *p, char *buf) {
  size_t n = 0;
  strcpy(buf, "-");
  for (uint32_t r = POOL_RUNG_BPF; r >= POOL_RUNG_STANDALONE; r--)
    if (p->rung[r] && n < RUNGS_TEXT) n += (size_t)snprintf(buf + n, RUNGS_TEXT - n, "%s%s %u", n ? ", " : "", text_rung(r), p->rung[r]);
}

static void micro_cell(struct table *t, uint64_t micro) {
  char buf[TEXT_UNIT];
  quota_cpus_text(micro, buf, sizeof(buf));
  table_cell(t, "%s", buf);
}

static void tokens_cell(struct table *t, const struct wire_pool *p) {
  char buf[TEXT_UNIT];
  uint64_t us = p->tokens_us < 0 ? 0 - (uint64_t)p->tokens_us : (uint64_t)p->tokens_us;
  if (p->rate == 0 || us > UINT64_MAX / NS_PER_US)
    table_cell(t, "-");
  else
    table_cell(t, "%s%s", p->tokens_us < 0 ? "-" : "", text_duration(buf, us * NS_PER_US));
}

static void table_row(void *ctx, const struct wire_frame *f) {
  struct table *t = ctx;
  const struct wire_pool *p = &f->u.pool;
  char buf[TEXT_UNIT], rungs[RUNGS_TEXT];
  table_cell(t, "%s", p->domain);
  table_cell(t, "%s", text_user(buf, p->uid));
  micro_cell(t, p->cpu_micro);
  if (p->rate)
    micro_cell(t, p->rate);
  else
    table_cell(t, "-");
  if (p->nexpress)
    table_cell(t, "%u+%u", p->nslots, p->nexpress);
  else
    table_cell(t, "%u", p->nslots);
  table_cell(t, "%u", p->held);
  table_cell(t, "%u", p->members);
  table_cell(t, "%u", p->waiting);
  tokens_cell(t, p);
  table_cell(t, "%s", text_duration(buf, p->charged_ns));
  micro_cell(t, p->strangers_micro);
  if (p->weight)
    table_cell(t, "%u", p->weight);
  else
    table_cell(t, "-");
  rungs_text(p, rungs);
  table_cell(t, "%s", rungs);
}

static void json_row(void *ctx, const struct wire_frame *f) {
  const struct wire_pool *p = &f->u.pool;
  json_t *j = json_object(), *rungs = json_object();
  json_object_set_new(j, "domain", json_text(p->domain));
  json_object_set_new(j, "uid", json_uint(p->uid));
  json_object_set_new(j, "cpus", json_micro(p->cpu_micro));
  json_object_set_new(j, "rate", p->rate ? json_micro(p->rate) : json_null());
  json_object_set_new(j, "gated", json_boolean(p->flags & POOL_F_GATED));
  json_object_set_new(j, "slots", json_uint(p->nslots));
  json_object_set_new(j, "express_slots", json_uint(p->nexpress));
  json_object_set_new(j, "held", json_uint(p->held));
  json_object_set_new(j, "processes", json_uint(p->members));
  json_object_set_new(j, "waiting", json_uint(p->waiting));
  json_object_set_new(j, "tokens_us", p->rate ? json_integer(p->tokens_us) : json_null());
  json_object_set_new(j, "charged_ns", json_uint(p->charged_ns));
  json_object_set_new(j, "strangers_cpus", json_micro(p->strangers_micro));
  json_object_set_new(j, "weight", json_uint(p->weight));
  for (uint32_t r = POOL_RUNG_STANDALONE; r <= POOL_RUNG_BPF; r++) json_object_set_new(rungs, text_rung(r), json_uint(p->rung[r]));
  json_object_set_new(j, "rungs", rungs);
  json_array_append_new(ctx, j);
}

static int pool_main(const struct cli_command *cmd, int argc, char **argv) {
  static const struct query_list list = {
      .query = WIRE_POOL_QUERY,
      .answer = WIRE_POOL,
      .heads = heads,
      .table_row = table_row,
      .json_row = json_row,
      .none = "There is no pool: no process is attached to rationd.",
  };
  return query_list_main(cmd, argc, argv, &list);
}

const struct cli_command cli_pool = {
    .name = "pool",
    .usage = "[OPTION]...",
    .summary = "List the pools of Ps, one for each quota domain and user",
    .usage_status = CLI_USAGE,
    .options = query_options,
    .main = pool_main,
    .text =
        "CPUS is the domain's, RATE this pool's own (- where nothing is rationed).  SLOTS is regular + express,\n"
        "TOKENS the CPU time in hand, STRANGERS the CPUs that others in the cgroup use, RUNGS how many processes\n"
        "are on which rung: 'bpf', 'polling' or 'standalone'.\n",
};
