/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rationd.conf.  A table names every key once: section, name,
 * parser, place.  The same table gives the nearest right key for a wrong one.
 *
 * Not by inih: that cuts names of sections at 49 bytes, shorter than the cgroup of a container, and lines at 200, and
 * says nothing of a section without keys.
 */
#include "config.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include "proto/pool_params.h"
#include "proto/wire.h"

struct config_reader {
  struct config *config;
  const char *path;
  int line;
  char *section; /* that the line is in; null: before the first one */
  char *err;     /* what is wrong; nothing is read after it */
  size_t errlen;
  bool failed;
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

size_t config_distance(const char *a, const char *b) {
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

static void config_fail(struct config_reader *r, const char *fmt, ...) _printf_(2, 3);
static void config_fail(struct config_reader *r, const char *fmt, ...) {
  r->failed = true;
  int n = snprintf(r->err, r->errlen, "%s:%d: ", r->path, r->line);
  if (n < 0 || (size_t)n >= r->errlen) return;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(r->err + n, r->errlen - (size_t)n, fmt, ap);
  va_end(ap);
}

static void config_unknown_key(struct config_reader *r, const char *section, const char *name) {
  const struct config_key *near = NULL;
  size_t best = 99;
  for (size_t i = 0; i < CONFIG_NKEYS; i++) {
    size_t d = config_distance(name, config_keys[i].name) * 2 + (strcmp(config_keys[i].section, section) != 0);
    if (d < best) {
      best = d;
      near = &config_keys[i];
    }
  }
  if (!near || best > 2 * UTIL_MAX((size_t)3, strlen(name) / 2))
    config_fail(r, "unknown key '%.64s' in [%.64s]", name, section);
  else
    config_fail(r, "unknown key '%.64s' in [%.64s]; did you mean '%s' in [%s]?", name, section, near->name, near->section);
}

static void config_unknown_section(struct config_reader *r, const char *section) {
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
  config_fail(r, "unknown section [%.64s]; did you mean [%s]?", section, near);
}

static struct config_domain *config_domain_get(struct config *c, const char *path) {
  for (size_t i = 0; i < c->ndomains; i++) {
    if (strcmp(c->domains[i].path, path) == 0) return &c->domains[i];
  }
  if (c->ndomains >= CONFIG_DOMAINS_MAX) return NULL;
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

static void config_set(struct config_reader *r, const char *section, const char *name, const char *value, void *base) {
  for (size_t i = 0; i < CONFIG_NKEYS; i++) {
    const struct config_key *k = &config_keys[i];
    if (strcmp(k->section, section) != 0 || strcmp(k->name, name) != 0) continue;
    const char *expected = "";
    if (k->parse(value, (char *)base + k->at, &expected) < 0) config_fail(r, "%s = %.64s: expected %s", name, value, expected);
    return;
  }
  config_unknown_key(r, section, name);
}

/* ---- lines ---- */

/* Cuts what is blank off both ends. */
static char *config_strip(char *s) {
  while (isspace((unsigned char)*s)) s++;
  size_t n = strlen(s);
  while (n > 0 && isspace((unsigned char)s[n - 1])) n--;
  s[n] = 0;
  return s;
}

static bool config_is_comment(const char *s) { return *s == '#' || *s == ';'; }

/* "[domain PATH]": PATH; null: another section. */
static const char *config_domain_path(const char *section) {
  if (strncmp(section, "domain", 6) != 0 || !isspace((unsigned char)section[6])) return NULL;
  for (section += 6; isspace((unsigned char)*section);) section++;
  return section;
}

static void config_section(struct config_reader *r, char *line) {
  char *end = strchr(line, ']'), *rest = end ? config_strip(end + 1) : NULL;
  if (!end || (*rest && !config_is_comment(rest))) {
    config_fail(r, "not a line of the form 'key = value' or '[section]'");
    return;
  }
  *end = 0;
  free(r->section);
  r->section = strdup(config_strip(line + 1));
  if (!r->section) {
    config_fail(r, "%s", strerror(ENOMEM));
    return;
  }
  const char *path = config_domain_path(r->section);
  if (!path && strcmp(r->section, "daemon") != 0 && strcmp(r->section, "pool") != 0)
    config_unknown_section(r, r->section);
  else if (path && *path != '/')
    config_fail(r, "[domain PATH]: '%.64s' is not an absolute cgroup path", path);
  else if (path && strlen(path) >= sizeof(r->config->domains->path))
    config_fail(r, "[domain PATH]: a path of more than %zu characters", sizeof(r->config->domains->path) - 1);
}

/* A domain is known from its first key on: a section without any says nothing about it. */
static void config_key_line(struct config_reader *r, char *line) {
  char *value = strpbrk(line, "=:");
  if (!value) {
    config_fail(r, "not a line of the form 'key = value' or '[section]'");
    return;
  }
  *value++ = 0;
  for (char *p = value; *p; p++) {
    if (*p != ';' || p == value || !isspace((unsigned char)p[-1])) continue;
    *p = 0;
    break;
  }
  const char *name = config_strip(line), *path = r->section ? config_domain_path(r->section) : NULL;
  value = config_strip(value);
  if (!r->section) {
    config_fail(r, "a key before any section; begin with [daemon]");
  } else if (path) {
    struct config_domain *d = config_domain_get(r->config, path);
    if (d)
      config_set(r, "domain", name, value, d);
    else
      config_fail(r, "[domain PATH]: more than %d of them", CONFIG_DOMAINS_MAX);
  } else {
    config_set(r, r->section, name, value, r->config);
  }
}

static void config_line(struct config_reader *r, char *line, size_t len) {
  static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8, at the top of files of some editors */
  r->line++;
  if (strlen(line) != len) {
    config_fail(r, "a zero byte: this is no text");
    return;
  }
  if (r->line == 1 && strncmp(line, mark, strlen(mark)) == 0) line += strlen(mark);
  line = config_strip(line);
  if (!*line || config_is_comment(line)) return;
  if (*line == '[')
    config_section(r, line);
  else
    config_key_line(r, line);
}

int config_load(struct config *c, const char *path, bool must, char *err, size_t errlen) {
  _cleanup_fclose_ FILE *f = fopen(path, "re");
  _cleanup_free_ char *line = NULL;
  size_t size = 0;
  ssize_t len;
  if (!f) {
    int e = errno;
    if (e == ENOENT && !must) return 1;
    snprintf(err, errlen, "%s: %s", path, strerror(e));
    return -e;
  }
  struct config_reader r = {.config = c, .path = path, .err = err, .errlen = errlen};
  while (!r.failed && (len = getline(&line, &size, f)) >= 0) config_line(&r, line, (size_t)len);
  free(r.section);
  if (!r.failed && !feof(f)) {
    snprintf(err, errlen, "%s: cannot be read", path);
    return -EIO;
  }
  return r.failed ? -EINVAL : 0;
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
