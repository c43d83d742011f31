/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration ps: the processes under ration, and how they do; of one, all counters, each on a line of its own.
 *
 * A daemon that is older than the question (PS_MORE_QUERY) is asked as it was before: then nothing is known of free mode.
 */
#include <stdio.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/conn.h"
#include "daemon/cli/query.h"
#include "daemon/cli/text.h"
#include "proto/pool_page.h"
#include "proto/wired.h"

/* Both kinds of answer. */
struct row {
  struct wire_ps ps;
  bool more; /* the rest is known */
  uint32_t thread_gs;
  uint32_t nwired;
  uint32_t wired[WIRE_WIRED_MAX];
};

struct rows {
  struct row *row;
  size_t n, cap;
  uint32_t pid; /* the only one that is wanted; 0: all */
};

static void rows_free(struct rows *r) { free(r->row); }

static struct row *rows_add(struct rows *r, const struct wire_ps *ps) {
  if (r->pid && r->pid != ps->pid) return NULL;
  if (r->n == r->cap) {
    r->cap = r->cap ? 2 * r->cap : 64;
    r->row = reallocarray(r->row, r->cap, sizeof(*r->row));
    if (!r->row) {
      fputs("ration: out of memory\n", stderr);
      exit(CLI_FAILED);
    }
  }
  struct row *row = &r->row[r->n++];
  *row = (struct row){.ps = *ps};
  return row;
}

static void take_ps(void *ctx, const struct wire_frame *f) { rows_add(ctx, &f->u.ps); }

static void take_ps_more(void *ctx, const struct wire_frame *f) {
  const struct wire_ps_more *m = &f->u.ps_more;
  struct row *row = rows_add(ctx, &m->ps);
  if (!row) return;
  row->more = true;
  row->thread_gs = m->thread_gs;
  row->nwired = UTIL_MIN(m->nwired, WIRE_WIRED_MAX);
  memcpy(row->wired, m->wired, sizeof(row->wired));
}

static int ask(const struct cli_command *cmd, const char *socket, struct rows *rows) {
  int s = conn_ask_newer(cmd, socket, WIRE_PS_MORE_QUERY, WIRE_PS_MORE, take_ps_more, rows);
  return s == CONN_NOT_KNOWN ? conn_ask(cmd, socket, WIRE_PS_QUERY, WIRE_PS, true, take_ps, rows) : s;
}

/* ---- free mode ---- */

#define WIRED_TEXT(name, text) text,
static const char *const wired_names[] = {WIRED_LIST(WIRED_TEXT)};
#define NWIRED_NAMES (sizeof(wired_names) / sizeof(wired_names[0]))

static const char *threads_text(uint32_t flags) {
  return flags & POOL_MEMBER_OFF ? "off" : flags & POOL_MEMBER_FREE ? "free" : flags & POOL_MEMBER_LOCKED ? "locked" : "-";
}

static bool tells_of_free(const struct row *r) {
  return r->more && (r->ps.flags & (POOL_MEMBER_OFF | POOL_MEMBER_FREE)) == POOL_MEMBER_FREE;
}

/* Of a reason that we don't know yet, what there is: its number, if it ever was one.  Null: nothing to tell. */
static const char *wired_name(const struct row *r, uint32_t why, char buf[TEXT_UNIT]) {
  if (why < NWIRED_NAMES) return wired_names[why];
  if (!r->wired[why]) return NULL;
  snprintf(buf, TEXT_UNIT, "reason_%u", why);
  return buf;
}

static uint64_t wired_sum(const struct row *r) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < r->nwired; i++) sum += r->wired[i];
  return sum;
}

/* ---- a table of all ---- */

static const char *const heads[] = {">PID",  "USER", "NAME",      "RUNG",     "THREADS",   ">GS",      ">TGS",    ">WIRED", ">MS",    ">P",
                                    ">WAIT", ">CPU", ">HANDOFFS", ">RETAKES", ">PREEMPTS", ">WAKEUPS", ">PAUSES", ">SINCE", "DOMAIN", NULL};

static void table_row(struct table *t, const struct row *r) {
  const struct wire_ps *p = &r->ps;
  char buf[TEXT_UNIT];
  table_cell(t, "%u", p->pid);
  table_cell(t, "%s", text_user(buf, p->uid));
  table_cell(t, "%s", p->name);
  table_cell(t, "%s", text_rung(p->rung));
  table_cell(t, "%s", threads_text(p->flags));
  table_cell(t, "%u", p->gs);
  table_cell(t, "%s", tells_of_free(r) ? text_count(buf, r->thread_gs) : "-");
  table_cell(t, "%s", tells_of_free(r) ? text_count(buf, wired_sum(r)) : "-");
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

static int print_table(const struct rows *rows) {
  _cleanup_(table_free) struct table t = {0};
  if (rows->n == 0) {
    puts("No process is attached to rationd; start one with 'ration run -- COMMAND'.");
    return CLI_OK;
  }
  table_init(&t, heads);
  for (size_t i = 0; i < rows->n; i++) table_row(&t, &rows->row[i]);
  table_print(&t, stdout);
  return CLI_OK;
}

/* ---- one, line by line ---- */

static void line(struct table *t, const char *label, const char *text) {
  table_cell(t, "%s", label);
  table_cell(t, "%s", text);
}

static void line_number(struct table *t, const char *label, uint64_t n) {
  table_cell(t, "%s", label);
  table_cell(t, "%llu", (unsigned long long)n);
}

static void lines_of_free(struct table *t, const struct row *r) {
  char label[2 * TEXT_UNIT], buf[TEXT_UNIT];
  line_number(t, "thread Gs", r->thread_gs);
  for (uint32_t i = 0; i < r->nwired; i++) {
    const char *name = wired_name(r, i, buf);
    if (!name) continue;
    snprintf(label, sizeof(label), "wired: %s", name);
    line_number(t, label, r->wired[i]);
  }
}

static int print_one(const struct row *r) {
  static const char *const no_heads[] = {"", "", NULL};
  const struct wire_ps *p = &r->ps;
  _cleanup_(table_free) struct table t = {0};
  char buf[TEXT_UNIT];
  table_init(&t, no_heads);
  line_number(&t, "pid", p->pid);
  line(&t, "user", text_user(buf, p->uid));
  line(&t, "name", p->name);
  line(&t, "domain", p->domain);
  line(&t, "rung", text_rung(p->rung));
  line(&t, "threads", threads_text(p->flags));
  line_number(&t, "Gs", p->gs);
  if (tells_of_free(r)) lines_of_free(&t, r);
  line_number(&t, "Ms", p->ms);
  line_number(&t, "Ps held", p->held);
  line_number(&t, "Gs that wait for a P", p->waiting);
  line(&t, "CPU time", text_duration(buf, p->cpu_ns));
  line_number(&t, "hand-offs", p->handoffs);
  line_number(&t, "retakes", p->retakes);
  line_number(&t, "preemptions", p->preempts);
  line_number(&t, "wake-ups", p->wakeups);
  line_number(&t, "pauses", p->pauses);
  line(&t, "attached for", text_duration(buf, p->since_ns));
  table_print_body(&t, stdout);
  return CLI_OK;
}

/* ---- JSON ---- */

static json_t *json_wired(const struct row *r) {
  json_t *j = json_object();
  char buf[TEXT_UNIT];
  for (uint32_t i = 0; i < r->nwired; i++) {
    const char *name = wired_name(r, i, buf);
    if (name) json_object_set_new(j, name, json_uint(r->wired[i]));
  }
  return j;
}

static json_t *json_row(const struct row *r) {
  const struct wire_ps *p = &r->ps;
  json_t *j = json_object();
  json_object_set_new(j, "pid", json_uint(p->pid));
  json_object_set_new(j, "uid", json_uint(p->uid));
  json_object_set_new(j, "name", json_text(p->name));
  json_object_set_new(j, "rung", json_text(text_rung(p->rung)));
  json_object_set_new(j, "threads", json_text(threads_text(p->flags)));
  json_object_set_new(j, "gs", json_uint(p->gs));
  json_object_set_new(j, "thread_gs", tells_of_free(r) ? json_uint(r->thread_gs) : json_null());
  json_object_set_new(j, "wired", tells_of_free(r) ? json_wired(r) : json_null());
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
  return j;
}

static int print_json(const struct rows *rows) {
  json_t *j = json_array();
  for (size_t i = 0; i < rows->n; i++) json_array_append_new(j, json_row(&rows->row[i]));
  return json_print(j);
}

static int ps_main(const struct cli_command *cmd, int argc, char **argv) {
  struct query_args args;
  _cleanup_(rows_free) struct rows rows = {0};
  int s = query_read_args_pid(cmd, argc, argv, &args, &rows.pid);
  if (s != QUERY_GO) return s;
  s = ask(cmd, args.socket, &rows);
  if (s != CLI_OK) return s;
  if (rows.pid && rows.n == 0) {
    cli_error(cmd, "process %u is not attached to rationd, or not yours", rows.pid);
    return CLI_FAILED;
  }
  if (args.json) return print_json(&rows);
  return rows.pid ? print_one(&rows.row[0]) : print_table(&rows);
}

const struct cli_command cli_ps = {
    .name = "ps",
    .usage = "[OPTION]... [PID]",
    .summary = "List the processes under ration",
    .usage_status = CLI_USAGE,
    .options = query_options,
    .main = ps_main,
    .text =
        "GS and MS are its Gs and the kernel threads that run them, P the slots it holds, WAIT the\n"
        "Gs that wait for one.  RUNG is 'bpf', 'polling' or 'standalone'.  In free mode TGS are the\n"
        "threads that have no kernel thread of their own, and WIRED is how often one got one.\n"
        "With PID: all counters of that process, each on a line, with the reasons for WIRED.\n",
};
