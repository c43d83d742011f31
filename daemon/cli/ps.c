/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration ps: the processes under ration, and how they do.
 */
#include "daemon/cli/cli.h"
#include "daemon/cli/query.h"
#include "daemon/cli/text.h"
#include "proto/pool_page.h"

static const char *const heads[] = {">PID", "USER",      "NAME",     "RUNG",      "THREADS",  ">GS",     ">MS",    ">P",     ">WAIT",
                                    ">CPU", ">HANDOFFS", ">RETAKES", ">PREEMPTS", ">WAKEUPS", ">PAUSES", ">SINCE", "DOMAIN", NULL};

static const char *threads_text(uint32_t flags) { return flags & POOL_MEMBER_OFF ? "off" : flags & POOL_MEMBER_LOCKED ? "locked" : "-"; }

static void table_row(void *ctx, const struct wire_frame *f) {
  struct table *t = ctx;
  const struct wire_ps *p = &f->u.ps;
  char buf[TEXT_UNIT];
  table_cell(t, "%u", p->pid);
  table_cell(t, "%s", text_user(buf, p->uid));
  table_cell(t, "%s", p->name);
  table_cell(t, "%s", text_rung(p->rung));
  table_cell(t, "%s", threads_text(p->flags));
  table_cell(t, "%u", p->gs);
  table_cell(t, "%u", p->ms);
  table_cell(t, "%u", p->held);
  table_cell(t, "%u", p->waiting);
  table_cell(t, "%s", text_duration(buf, p->cpu_ns));
  table_cell(t, "%s", text_count(buf, p->handoffs));
  table_cell(t, "%s", text_count(buf, p->retakes));
  table_cell(t, "%s", text_count(buf, p->preempts));
  table_cell(t, "%s", text_count(buf, p->wakeups));
  table_cell(t, "%s", text_count(buf, p->pauses));
  table_cell(t, "%s", text_duration(buf, p->since_ns));
  table_cell(t, "%s", p->domain);
}

static void json_row(void *ctx, const struct wire_frame *f) {
  const struct wire_ps *p = &f->u.ps;
  json_t *j = json_object();
  json_object_set_new(j, "pid", json_uint(p->pid));
  json_object_set_new(j, "uid", json_uint(p->uid));
  json_object_set_new(j, "name", json_text(p->name));
  json_object_set_new(j, "rung", json_text(text_rung(p->rung)));
  json_object_set_new(j, "threads", json_text(threads_text(p->flags)));
  json_object_set_new(j, "gs", json_uint(p->gs));
  json_object_set_new(j, "ms", json_uint(p->ms));
  json_object_set_new(j, "held", json_uint(p->held));
  json_object_set_new(j, "waiting", json_uint(p->waiting));
  json_object_set_new(j, "cpu_ns", json_uint(p->cpu_ns));
  json_object_set_new(j, "handoffs", json_uint(p->handoffs));
  json_object_set_new(j, "retakes", json_uint(p->retakes));
  json_object_set_new(j, "preempts", json_uint(p->preempts));
  json_object_set_new(j, "wakeups", json_uint(p->wakeups));
  json_object_set_new(j, "pauses", json_uint(p->pauses));
  json_object_set_new(j, "since_ns", json_uint(p->since_ns));
  json_object_set_new(j, "domain", json_text(p->domain));
  json_array_append_new(ctx, j);
}

static int ps_main(const struct cli_command *cmd, int argc, char **argv) {
  static const struct query_list list = {
      .query = WIRE_PS_QUERY,
      .answer = WIRE_PS,
      .heads = heads,
      .table_row = table_row,
      .json_row = json_row,
      .none = "No process is attached to rationd; start one with 'ration run -- COMMAND'.",
  };
  return query_list_main(cmd, argc, argv, &list);
}

const struct cli_command cli_ps = {
    .name = "ps",
    .usage = "[OPTION]...",
    .summary = "List the processes under ration",
    .usage_status = CLI_USAGE,
    .options = query_options,
    .main = ps_main,
    .text =
        "GS and MS are its threads and the kernel threads that run them, P the slots it holds,\n"
        "WAIT the threads that wait for one.  RUNG is 'bpf', 'polling' or 'standalone'.\n",
};
