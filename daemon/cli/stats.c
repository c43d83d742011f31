/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration stats: what rationd has done since it started.
 */
#include <stdio.h>
#include <string.h>
#include "daemon/cli/cli.h"
#include "daemon/cli/conn.h"
#include "daemon/cli/query.h"
#include "daemon/cli/text.h"

static void keep(void *ctx, const struct wire_frame *f) { *(struct wire_stats *)ctx = f->u.stats; }

/* The counters, in one place for both outputs. */
struct counter {
  const char *key, *label;
  size_t at;
};
#define COUNTER(field, label) \
  { #field, label, offsetof(struct wire_stats, field) }
static const struct counter counters[] = {
    COUNTER(attaches, "attached"),
    COUNTER(resumes, "resumed after a restart"),
    COUNTER(deaths, "deaths of processes"),
    COUNTER(expropriations, "slots taken from stopped holders"),
    COUNTER(malformed, "malformed frames"),
    COUNTER(refused, "refused connections"),
    COUNTER(quota_changes, "changes of a quota"),
    COUNTER(moves, "moves between pools"),
};
#define NCOUNTERS (sizeof(counters) / sizeof(counters[0]))

static uint64_t counter_value(const struct wire_stats *s, const struct counter *c) {
  uint64_t v;
  memcpy(&v, (const char *)s + c->at, sizeof(v));
  return v;
}

static int print_json(const struct wire_stats *s) {
  json_t *j = json_object();
  json_object_set_new(j, "version", json_text(s->version));
  json_object_set_new(j, "uptime_ns", json_uint(s->uptime_ns));
  json_object_set_new(j, "bpf", json_boolean(s->bpf));
  json_object_set_new(j, "bpf_error", json_text(s->bpf_error));
  json_object_set_new(j, "clients", json_uint(s->clients));
  json_object_set_new(j, "pools", json_uint(s->pools));
  json_object_set_new(j, "domains", json_uint(s->domains));
  for (size_t i = 0; i < NCOUNTERS; i++) json_object_set_new(j, counters[i].key, json_uint(counter_value(s, &counters[i])));
  return json_print(j);
}

static void print_text(const struct wire_stats *s) {
  static const char *const heads[] = {"", ">", NULL};
  _cleanup_(table_free) struct table t = {0};
  char buf[TEXT_UNIT];
  table_init(&t, heads);
  table_cell(&t, "version");
  table_cell(&t, "%s", s->version);
  table_cell(&t, "running for");
  table_cell(&t, "%s", text_duration(buf, s->uptime_ns));
  table_cell(&t, "processes");
  table_cell(&t, "%u", s->clients);
  table_cell(&t, "pools");
  table_cell(&t, "%u", s->pools);
  table_cell(&t, "quota domains");
  table_cell(&t, "%u", s->domains);
  for (size_t i = 0; i < NCOUNTERS; i++) {
    table_cell(&t, "%s", counters[i].label);
    table_cell(&t, "%s", text_count(buf, counter_value(s, &counters[i])));
  }
  table_cell(&t, "BPF");
  table_cell(&t, "%s", s->bpf ? "loaded" : "off");
  table_print_body(&t, stdout);
  if (s->bpf || !s->bpf_error[0]) return;
  _cleanup_(table_free) struct table why = {0};
  table_init(&why, (const char *const[]){"", NULL});
  table_cell(&why, "BPF is off: %s", s->bpf_error);
  table_print_body(&why, stdout);
}

static int stats_main(const struct cli_command *cmd, int argc, char **argv) {
  struct query_args args;
  int s = query_read_args(cmd, argc, argv, &args);
  if (s != QUERY_GO) return s;
  struct wire_stats stats = {0};
  s = conn_ask(cmd, args.socket, WIRE_STATS_QUERY, WIRE_STATS, false, keep, &stats);
  if (s != CLI_OK) return s;
  if (args.json) return print_json(&stats);
  print_text(&stats);
  return CLI_OK;
}

const struct cli_command cli_stats = {
    .name = "stats",
    .usage = "[OPTION]...",
    .summary = "Show what rationd has done since it started",
    .usage_status = CLI_USAGE,
    .options = query_options,
    .main = stats_main,
};
