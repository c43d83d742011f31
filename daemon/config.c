/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rationd.conf, read by inih.  A table names every key once: section, name,
 * parser, place.  The same table gives the nearest right key for a wrong one.
 */
#include "config.h"
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include "proto/pool_params.h"
#include "proto/wire.h"

struct config_reader {
  struct config *config;
  FILE *file;
  const char *path;
  int line;
  char *err; /* the first error */
  size_t errlen;
  bool failed;
  int failed_line;
};

typedef int config_parser(const char *value, void *place, const char **expected);

static int parse_bool(const char *value, void *place, const char **expected) {
  static const char *const yes[] = {"on", "yes", "true", "1"}, *const no[] = {"off", "no", "false", "0"};
  *expected = "on or off";
  for (size_t i = 0; i < 4; i++) {
    if (strcasecmp(value, yes[i]) == 0) return *(bool *)place = true, 0;
    if (strcasecmp(value, no[i]) == 0) return *(bool *)place = false, 0;
  }
  return -EINVAL;
}

/* A decimal number without sign, in millionths; `rest` is what follows it. */
static int parse_micro(const char *value, uint64_t *micro, const char **rest) {
  const char *p = value;
  uint64_t n = 0, unit = 1000000;
  bool digits = false;
  for (; isdigit((unsigned char)*p); p++, digits = true) {
    n = n * 10 + (uint64_t)(*p - '0');
    if (n > 1000000) return -ERANGE;
  }
  n *= 1000000;
  if (*p == '.') {
    for (p++; isdigit((unsigned char)*p); p++, digits = true) {
      unit /= 10;
      n += unit * (uint64_t)(*p - '0');
    }
  }
  while (isspace((unsigned char)*p)) p++;
  *micro = n;
  *rest = p;
  return digits ? 0 : -EINVAL;
}

static int parse_margin(const char *value, void *place, const char **expected) {
  uint64_t micro;
  const char *rest;
  *expected = "a percentage from 0% to 50%";
  if (parse_micro(value, &micro, &rest) < 0 || strcmp(rest, "%") != 0 || micro / 100 > POOL_MARGIN_MAX) return -EINVAL;
  *(uint32_t *)place = (uint32_t)(micro / 100);
  return 0;
}

static int parse_headroom(const char *value, void *place, const char **expected) {
  struct headroom h = {0, 0};
  uint64_t micro;
  const char *rest;
  *expected = "CPUs such as 0.1, or a percentage such as 5% (at most 95%)";
  if (parse_micro(value, &micro, &rest) < 0) return -EINVAL;
  if (strcmp(rest, "%") == 0) {
    if (micro > 95u * 1000000u) return -EINVAL;
    h.ppm = (uint32_t)(micro / 100);
  } else {
    if (*rest || micro > UINT32_MAX) return -EINVAL;
    h.cpu_micro = (uint32_t)micro;
  }
  *(struct headroom *)place = h;
  return 0;
}

static int parse_uint(const char *value, uint32_t min, uint32_t max, uint32_t *place) {
  char *end;
  errno = 0;
  unsigned long n = strtoul(value, &end, 10);
  if (errno || end == value || *end || !isdigit((unsigned char)*value) || n < min || n > max) return -EINVAL;
  *place = (uint32_t)n;
  return 0;
}

static int parse_clients(const char *value, void *place, const char **expected) {
  *expected = "a number from 1 to 100000";
  return parse_uint(value, 1, 100000, place);
}

static int parse_tick(const char *value, void *place, const char **expected) {
  *expected = "milliseconds from 5 to 1000";
  return parse_uint(value, 5, 1000, place);
}

static int parse_stuck(const char *value, void *place, const char **expected) {
  *expected = "milliseconds from 20 to 10000";
  return parse_uint(value, 20, 10000, place);
}

static int parse_level(const char *value, void *place, const char **expected) {
  *expected = "error, warning, notice, info or debug";
  return log_level_parse(value, place);
}

static int parse_socket(const char *value, void *place, const char **expected) {
  *expected = "an absolute path of at most 107 characters";
  if (*value != '/' || strlen(value) >= sizeof(((struct config *)0)->socket)) return -EINVAL;
  strcpy(place, value);
  return 0;
}

static int parse_path(const char *value, void *place, const char **expected) {
  *expected = "an absolute path of at most 255 characters, or nothing for stderr";
  if ((*value && *value != '/') || strlen(value) >= sizeof(((struct config *)0)->log_file)) return -EINVAL;
  strcpy(place, value);
  return 0;
}

static const struct config_key {
  const char *section, *name;
  config_parser *parse;
  size_t at;
} config_keys[] = {
    {"daemon", "socket", parse_socket, offsetof(struct config, socket)},
    {"daemon", "log_file", parse_path, offsetof(struct config, log_file)},
    {"daemon", "log_level", parse_level, offsetof(struct config, log_level)},
    {"daemon", "bpf", parse_bool, offsetof(struct config, bpf)},
    {"daemon", "max_clients", parse_clients, offsetof(struct config, max_clients)},
    {"daemon", "max_clients_per_uid", parse_clients, offsetof(struct config, max_clients_per_uid)},
    {"pool", "margin", parse_margin, offsetof(struct config, margin_ppm)},
    {"pool", "headroom", parse_headroom, offsetof(struct config, headroom)},
    {"pool", "weights", parse_bool, offsetof(struct config, weights)},
    {"pool", "tick_ms", parse_tick, offsetof(struct config, tick_ms)},
    {"pool", "stuck_ms", parse_stuck, offsetof(struct config, stuck_ms)},
    {"domain", "headroom", parse_headroom, offsetof(struct config_domain, headroom)},
};
#define CONFIG_NKEYS (sizeof(config_keys) / sizeof(config_keys[0]))

void config_defaults(struct config *c) {
  *c = (struct config){
      .socket = WIRE_SOCKET_PATH,
      .log_level = LOG_LEVEL_INFO,
      .bpf = true,
      .max_clients = 8192,
      .max_clients_per_uid = 4096,
      .margin_ppm = POOL_MARGIN_AUTO,
      .weights = true,
      .tick_ms = 20,
      .stuck_ms = 100,
  };
}

void config_free(struct config *c) {
  free(c->domains);
  c->domains = NULL;
  c->ndomains = 0;
}

/* Levenshtein distance of short words; anything longer than 31 is far. */
static size_t config_distance(const char *a, const char *b) {
  size_t na = strlen(a), nb = strlen(b), row[32];
  if (na > 31 || nb > 31) return 99;
  for (size_t j = 0; j <= nb; j++) row[j] = j;
  for (size_t i = 1; i <= na; i++) {
    size_t corner = row[0];
    row[0] = i;
    for (size_t j = 1; j <= nb; j++) {
      size_t replace = corner + (tolower((unsigned char)a[i - 1]) != b[j - 1]);
      corner = row[j];
      row[j] = UTIL_MIN(replace, UTIL_MIN(row[j], row[j - 1]) + 1);
    }
  }
  return row[nb];
}

static int config_fail(struct config_reader *r, const char *fmt, ...) _printf_(2, 3);
static int config_fail(struct config_reader *r, const char *fmt, ...) {
  if (r->failed) return 0;
  r->failed = true;
  r->failed_line = r->line;
  int n = snprintf(r->err, r->errlen, "%s:%d: ", r->path, r->line);
  if (n < 0 || (size_t)n >= r->errlen) return 0;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(r->err + n, r->errlen - (size_t)n, fmt, ap);
  va_end(ap);
  return 0; /* what inih calls an error */
}

static int config_unknown_key(struct config_reader *r, const char *section, const char *name) {
  const struct config_key *near = NULL;
  size_t best = 99;
  for (size_t i = 0; i < CONFIG_NKEYS; i++) {
    size_t d = config_distance(name, config_keys[i].name) * 2 + (strcmp(config_keys[i].section, section) != 0);
    if (d < best) {
      best = d;
      near = &config_keys[i];
    }
  }
  if (!near || best > 2 * UTIL_MAX((size_t)3, strlen(name) / 2)) return config_fail(r, "unknown key '%.64s' in [%.64s]", name, section);
  return config_fail(r, "unknown key '%.64s' in [%.64s]; did you mean '%s' in [%s]?", name, section, near->name, near->section);
}

static int config_unknown_section(struct config_reader *r, const char *section) {
  static const char *const known[] = {"daemon", "pool", "domain"}, *const shown[] = {"daemon", "pool", "domain /PATH"};
  const char *near = shown[0];
  size_t best = 99;
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
    size_t d = config_distance(section, known[i]);
    if (d < best) {
      best = d;
      near = shown[i];
    }
  }
  if (!*section) return config_fail(r, "a key before any section; begin with [%s]", near);
  return config_fail(r, "unknown section [%.64s]; did you mean [%s]?", section, near);
}

static struct config_domain *config_domain_get(struct config *c, const char *path) {
  for (size_t i = 0; i < c->ndomains; i++) {
    if (strcmp(c->domains[i].path, path) == 0) return &c->domains[i];
  }
  if (c->ndomains >= CONFIG_DOMAINS_MAX || strlen(path) >= sizeof(c->domains->path)) return NULL;
  struct config_domain *all = reallocarray(c->domains, c->ndomains + 1, sizeof(*all));
  if (!all) return NULL;
  c->domains = all;
  struct config_domain *d = &all[c->ndomains++];
  memset(d, 0, sizeof(*d));
  strcpy(d->path, path);
  size_t n = strlen(d->path);
  if (n > 1 && d->path[n - 1] == '/') d->path[n - 1] = 0;
  return d;
}

static int config_set(struct config_reader *r, const char *section, const char *name, const char *value, void *base) {
  for (size_t i = 0; i < CONFIG_NKEYS; i++) {
    const struct config_key *k = &config_keys[i];
    if (strcmp(k->section, section) != 0 || strcmp(k->name, name) != 0) continue;
    const char *expected = "";
    if (k->parse(value, (char *)base + k->at, &expected) == 0) return 1;
    return config_fail(r, "%s = %.64s: expected %s", name, value, expected);
  }
  return config_unknown_key(r, section, name);
}

static int config_handler(void *user, const char *section, const char *name, const char *value) {
  struct config_reader *r = user;
  if (!value) value = "";
  if (strncmp(section, "domain", 6) == 0 && isspace((unsigned char)section[6])) {
    const char *path = section + 6;
    while (isspace((unsigned char)*path)) path++;
    if (*path != '/') return config_fail(r, "[domain PATH]: '%.64s' is not an absolute cgroup path", path);
    struct config_domain *d = config_domain_get(r->config, path);
    if (!d) return config_fail(r, "[domain PATH]: too long, or more than %d of them", CONFIG_DOMAINS_MAX);
    return config_set(r, "domain", name, value, d);
  }
  if (strcmp(section, "daemon") != 0 && strcmp(section, "pool") != 0) return config_unknown_section(r, section);
  return config_set(r, section, name, value, r->config);
}

static char *config_next_line(char *buf, int size, void *user) {
  struct config_reader *r = user;
  char *s = fgets(buf, size, r->file);
  if (s) r->line++;
  return s;
}

int config_load(struct config *c, const char *path, bool must, char *err, size_t errlen) {
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  if (!f) {
    int e = errno;
    if (e == ENOENT && !must) return 0;
    snprintf(err, errlen, "%s: %s", path, strerror(e));
    return -e;
  }
  struct config_reader r = {.config = c, .file = f, .path = path, .err = err, .errlen = errlen};
  int line = ini_parse_stream(config_next_line, &r, config_handler, &r);
  if (ferror(f)) {
    snprintf(err, errlen, "%s: cannot be read", path);
    return -EIO;
  }
  if (!r.failed && line == 0) return 0;
  /* inih goes on after a line that it can't make sense of, and tells the first one only. */
  if (!r.failed || (line > 0 && line < r.failed_line))
    snprintf(err, errlen, "%s:%d: not a line of the form 'key = value' or '[section]'", path, line);
  return -EINVAL;
}

struct headroom config_headroom(const struct config *c, const char *cgroup) {
  struct headroom h = c->headroom;
  size_t best = 0;
  for (size_t i = 0; i < c->ndomains; i++) {
    const char *p = c->domains[i].path;
    size_t n = strlen(p);
    bool root = strcmp(p, "/") == 0;
    if (!root && (strncmp(cgroup, p, n) != 0 || (cgroup[n] && cgroup[n] != '/'))) continue;
    if (n < best) continue;
    best = n;
    h = c->domains[i].headroom;
  }
  return h;
}

uint64_t config_after_headroom(struct headroom h, uint64_t cpu_micro) {
  uint64_t take = h.cpu_micro + (uint64_t)((unsigned __int128)cpu_micro * h.ppm / 1000000u);
  uint64_t least = cpu_micro / 20;
  return take >= cpu_micro || cpu_micro - take < least ? least : cpu_micro - take;
}
