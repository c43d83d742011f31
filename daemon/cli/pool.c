/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration pool: the pools of Ps, one for each quota domain and user, and which rung of the ladder each of their processes is on.
 */
#include <stdio.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/conn.h"
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
  if (p->flags & POOL_F_CROWD)
    table_cell(t, "crowd");
  else if (p->nexpress)
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
  json_object_set_new(j, "id", json_uint(p->id));
  json_object_set_new(j, "domain", json_text(p->domain));
  json_object_set_new(j, "uid", json_uint(p->uid));
  json_object_set_new(j, "cpus", json_micro(p->cpu_micro));
  json_object_set_new(j, "rate", p->rate ? json_micro(p->rate) : json_null());
  json_object_set_new(j, "gated", json_boolean(p->flags & POOL_F_GATED));
  json_object_set_new(j, "crowd", json_boolean(p->flags & POOL_F_CROWD));
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
  json_object_set_new(j, "members", json_array());
  json_array_append_new(ctx, j);
}

/* ---- their processes: a second question, so one that comes or goes meanwhile is in one answer only ---- */

static const char *const process_heads[] = {">PID", "RUNG", "USER", "NAME", "DOMAIN", NULL};

static void process_table_row(void *ctx, const struct wire_frame *f) {
  struct table *t = ctx;
  const struct wire_ps *p = &f->u.ps;
  char buf[TEXT_UNIT];
  table_cell(t, "%u", p->pid);
  table_cell(t, "%s", text_rung(p->rung));
  table_cell(t, "%s", text_user(buf, p->uid));
  table_cell(t, "%s", p->name);
  table_cell(t, "%s", p->domain);
}

/* An older daemon does not say which pool it is in (0): the first of its domain and user then. */
static bool is_pool_of(const json_t *pool, const struct wire_ps *p, uint32_t id) {
  if (id) return json_integer_value(json_object_get(pool, "id")) == id;
  const char *domain = json_string_value(json_object_get(pool, "domain"));
  return domain && strcmp(domain, p->domain) == 0 && json_integer_value(json_object_get(pool, "uid")) == p->uid;
}

static void process_json(json_t *pools, const struct wire_ps *p, uint32_t id) {
  json_t *pool;
  size_t i;
  json_array_foreach(pools, i, pool) {
    if (!is_pool_of(pool, p, id)) continue;
    json_t *j = json_object();
    json_object_set_new(j, "pid", json_uint(p->pid));
    json_object_set_new(j, "name", json_text(p->name));
    json_object_set_new(j, "rung", json_text(text_rung(p->rung)));
    json_array_append_new(json_object_get(pool, "members"), j);
    return;
  }
}

static void process_json_row(void *ctx, const struct wire_frame *f) { process_json(ctx, &f->u.ps_more.ps, f->u.ps_more.pool); }

static void old_process_json_row(void *ctx, const struct wire_frame *f) { process_json(ctx, &f->u.ps, 0); }

static int print_json(const struct cli_command *cmd, const char *socket) {
  json_t *j = json_array();
  int s = conn_ask(cmd, socket, WIRE_POOL_QUERY, WIRE_POOL, true, json_row, j);
  if (s == CLI_OK) s = conn_ask_newer(cmd, socket, WIRE_PS_MORE_QUERY, WIRE_PS_MORE, process_json_row, j);
  if (s == CONN_NOT_KNOWN) s = conn_ask(cmd, socket, WIRE_PS_QUERY, WIRE_PS, true, old_process_json_row, j);
  if (s == CLI_OK) return json_print(j);
  json_decref(j);
  return s;
}

static int print_tables(const struct cli_command *cmd, const char *socket) {
  _cleanup_(table_free) struct table pools = {0}, processes = {0};
  table_init(&pools, heads);
  table_init(&processes, process_heads);
  int s = conn_ask(cmd, socket, WIRE_POOL_QUERY, WIRE_POOL, true, table_row, &pools);
  if (s == CLI_OK) s = conn_ask(cmd, socket, WIRE_PS_QUERY, WIRE_PS, true, process_table_row, &processes);
  if (s != CLI_OK) return s;
  if (pools.ncells == 0) {
    puts("There is no pool: no process is attached to rationd.");
    return CLI_OK;
  }
  table_print(&pools, stdout);
  if (processes.ncells) {
    puts("");
    table_print(&processes, stdout);
  }
  return CLI_OK;
}

static int pool_main(const struct cli_command *cmd, int argc, char **argv) {
  struct query_args args;
  int s = query_read_args(cmd, argc, argv, &args);
  if (s != QUERY_GO) return s;
  return args.json ? print_json(cmd, args.socket) : print_tables(cmd, args.socket);
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
        "are on which rung of the ladder: 'bpf', 'polling' or 'standalone'; below, each process with its own.\n",
};
