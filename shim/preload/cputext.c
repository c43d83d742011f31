/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of CPUs and the texts about them.
 *
 * /proc/cpuinfo is blocks of "key : value" lines with an empty line after each.  A
 * block with a "processor : N" line is one CPU, any other is kept.  "siblings" and "cpu
 * cores" count the CPUs and the cores of a package: they are counted anew among
 * those that are shown, since programs divide one by the other (zstd).
 *
 * /proc/stat has a line "cpu" that sums up the lines "cpuN".  The line "cpu" is summed up
 * anew from the lines that are shown, so that the share of the time which a reader
 * computes from it is a share of as many CPUs as it sees.  All other lines are kept.
 */
#include "preload/cputext.h"

#include <stdint.h>
#include <string.h>
#include "core/decimal.h"

unsigned cpus_count(const struct cpus *c) {
  unsigned n = 0;
  for (size_t i = 0; i < sizeof c->bits / sizeof *c->bits; i++) n += (unsigned)__builtin_popcountl(c->bits[i]);
  return n;
}

bool cpus_equal(const struct cpus *a, const struct cpus *b) { return memcmp(a, b, sizeof *a) == 0; }

void cpus_keep_first(struct cpus *c, unsigned n) {
  for (size_t i = 0; i < sizeof c->bits / sizeof *c->bits; i++) {
    unsigned long kept = 0, left = c->bits[i];
    for (; left && n; n--, left &= left - 1) kept |= left & -left;
    c->bits[i] = kept;
  }
}

void cpus_from_mask(struct cpus *c, const void *mask, size_t size) {
  memset(c, 0, sizeof *c);
  memcpy(c, mask, size < sizeof *c ? size : sizeof *c);
}

void cpus_to_mask(const struct cpus *c, void *mask, size_t size) {
  memset(mask, 0, size);
  memcpy(mask, c, size < sizeof *c ? size : sizeof *c);
}

size_t cpus_format(const struct cpus *c, char *buf, size_t size) {
  char *p = buf;
  for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++) {
    if (!cpus_has(c, cpu)) continue;
    unsigned last = cpu;
    while (cpus_has(c, last + 1)) last++;
    if (size - (size_t)(p - buf) < 16) return 0; /* two numbers below CPUS_MAX and three marks */
    if (p != buf) *p++ = ',';
    p = decimal(p, cpu);
    if (last != cpu) {
      *p++ = '-';
      p = decimal(p, last);
    }
    cpu = last;
  }
  if (size - (size_t)(p - buf) < 1) return 0;
  *p++ = '\n';
  return (size_t)(p - buf);
}

/* ---- reading lines -------------------------------------------------------------------------------- */

struct span {
  const char *p, *end;
};

/* The next line with its newline; empty at the end. */
static struct span next_line(struct span *s) {
  struct span line = {s->p, s->end};
  const char *nl = s->p < s->end ? memchr(s->p, '\n', (size_t)(s->end - s->p)) : NULL;
  if (nl) line.end = nl + 1;
  s->p = line.end;
  return line;
}

static bool starts(struct span s, const char *text) {
  size_t n = strlen(text);
  return (size_t)(s.end - s.p) >= n && memcmp(s.p, text, n) == 0;
}

/* Reads digits at *p.  False if there are none, or too many. */
static bool get_num(const char **p, const char *end, uint64_t *v) {
  const char *q = *p;
  *v = 0;
  for (; q < end && *q >= '0' && *q <= '9'; q++)
    if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, (uint64_t)(*q - '0'), v)) return false;
  if (q == *p) return false;
  *p = q;
  return true;
}

static char *put_span(char *out, struct span s) {
  memcpy(out, s.p, (size_t)(s.end - s.p));
  return out + (s.end - s.p);
}

/* Value of a "key<blanks>: number" line of cpuinfo. */
static bool field(struct span line, const char *key, uint64_t *v) {
  if (!starts(line, key)) return false;
  const char *p = line.p + strlen(key);
  while (p < line.end && (*p == ' ' || *p == '\t')) p++;
  if (p == line.end || *p++ != ':') return false;
  while (p < line.end && (*p == ' ' || *p == '\t')) p++;
  return get_num(&p, line.end, v);
}

/* ---- /proc/cpuinfo -------------------------------------------------------------------------------- */

/* What the walks below keep of one block. */
struct block {
  struct span text; /* with its empty line */
  bool is_cpu;
  uint64_t cpu, package, core;
};

static struct block next_block(struct span *s) {
  struct block b = {.text = {s->p, s->p}};
  while (s->p < s->end) {
    struct span line = next_line(s);
    b.text.end = line.end;
    if (*line.p == '\n') break;
    uint64_t v;
    if (field(line, "processor", &v)) b.is_cpu = true, b.cpu = v;
    if (field(line, "physical id", &v)) b.package = v;
    if (field(line, "core id", &v)) b.core = v;
  }
  return b;
}

/* Which CPUs of a text are kept: those of a set, or the first few. */
struct keep {
  const struct cpus *shown;
  bool by_number;
  unsigned left;
};

static struct keep keep_of(const struct cpus *shown, unsigned named) {
  unsigned n = cpus_count(shown);
  return (struct keep){.shown = shown, .by_number = named >= n, .left = n};
}

static bool keeps(struct keep *k, uint64_t cpu) {
  if (k->by_number) return cpus_has(k->shown, cpu);
  if (k->left == 0) return false;
  k->left--;
  return true;
}

static bool next_kept(struct span *s, struct keep *k, struct block *b) {
  while (s->p < s->end) {
    *b = next_block(s);
    if (b->is_cpu && keeps(k, b->cpu)) return true;
  }
  return false;
}

/* CPUs and cores of a package, among those that are kept. */
struct package {
  uint64_t id;
  unsigned cpus, cores; /* no cpus: not counted yet */
};

static void count_package(struct span all, struct keep k, struct package *pkg) {
  struct cpus seen = {0};
  struct block b;
  pkg->cpus = 0;
  while (next_kept(&all, &k, &b)) {
    if (b.package != pkg->id) continue;
    pkg->cpus++;
    if (b.core < CPUS_MAX) seen.bits[b.core / CPUS_BITS] |= 1ul << (b.core % CPUS_BITS);
  }
  pkg->cores = cpus_count(&seen);
  if (pkg->cores == 0) pkg->cores = pkg->cpus;
}

/* One line with another number behind its colon. */
static char *put_field(char *out, struct span line, unsigned v) {
  const char *colon = memchr(line.p, ':', (size_t)(line.end - line.p));
  out = put_span(out, (struct span){line.p, colon + 1});
  *out++ = ' ';
  out = decimal(out, v);
  *out++ = '\n';
  return out;
}

static char *put_block(char *out, struct block b, const struct package *pkg) {
  while (b.text.p < b.text.end) {
    uint64_t was;
    struct span line = next_line(&b.text);
    if (field(line, "siblings", &was) && pkg->cpus < was)
      out = put_field(out, line, pkg->cpus);
    else if (field(line, "cpu cores", &was) && pkg->cores < was)
      out = put_field(out, line, pkg->cores);
    else
      out = put_span(out, line);
  }
  return out;
}

size_t cputext_cpuinfo(const char *in, size_t len, const struct cpus *shown, char *out) {
  const struct span all = {in, in + len};
  unsigned named = 0;
  for (struct span s = all; s.p < s.end;) {
    struct block b = next_block(&s);
    named += b.is_cpu && cpus_has(shown, b.cpu);
  }
  struct keep k = keep_of(shown, named);
  const struct keep fresh = k;

  char *o = out;
  struct package known[16] = {0}; /* by the last digits of the number; on some machines neighbours are on different packages */
  for (struct span s = all; s.p < s.end;) {
    struct block b = next_block(&s);
    if (b.is_cpu && !keeps(&k, b.cpu)) continue;
    if (!b.is_cpu) {
      o = put_span(o, b.text);
      continue;
    }
    struct package *pkg = &known[b.package % 16];
    if (pkg->cpus == 0 || pkg->id != b.package) {
      pkg->id = b.package;
      count_package(all, fresh, pkg);
    }
    o = put_block(o, b, pkg);
  }
  return (size_t)(o - out);
}

/* ---- /proc/stat ----------------------------------------------------------------------------------- */

#define STAT_FIELDS 16

/* Is it "cpuN ..."? */
static bool stat_cpu(struct span line, uint64_t *cpu) {
  if (!starts(line, "cpu")) return false;
  const char *p = line.p + 3;
  return get_num(&p, line.end, cpu);
}

static void add_fields(struct span line, uint64_t sum[STAT_FIELDS], unsigned *n) {
  const char *p = memchr(line.p, ' ', (size_t)(line.end - line.p));
  for (unsigned i = 0; p && i < STAT_FIELDS; i++) {
    uint64_t v;
    while (p < line.end && *p == ' ') p++;
    if (!get_num(&p, line.end, &v)) return;
    sum[i] += v;
    if (i >= *n) *n = i + 1;
  }
}

size_t cputext_stat(const char *in, size_t len, const struct cpus *shown, char *out) {
  const struct span all = {in, in + len};
  unsigned named = 0, n = 0;
  uint64_t cpu, sum[STAT_FIELDS] = {0};
  bool all_shown = true;
  for (struct span s = all; s.p < s.end;) named += stat_cpu(next_line(&s), &cpu) && cpus_has(shown, cpu);
  const struct keep fresh = keep_of(shown, named);
  struct keep k = fresh;
  for (struct span s = all; s.p < s.end;) {
    struct span line = next_line(&s);
    if (!stat_cpu(line, &cpu)) continue;
    if (keeps(&k, cpu))
      add_fields(line, sum, &n);
    else
      all_shown = false;
  }
  if (all_shown) n = 0; /* the kernel's own sum, which it rounds otherwise */

  char *o = out;
  k = fresh;
  for (struct span s = all; s.p < s.end;) {
    struct span line = next_line(&s);
    if (n && starts(line, "cpu ")) {
      o = put_span(o, (struct span){line.p, line.p + 4});
      for (unsigned i = 0; i < n; i++) *o++ = ' ', o = decimal(o, sum[i]);
      *o++ = '\n';
      n = 0; /* there is one such line */
    } else if (!stat_cpu(line, &cpu) || keeps(&k, cpu)) {
      o = put_span(o, line);
    }
  }
  return (size_t)(o - out);
}
