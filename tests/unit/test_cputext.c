/* SPDX-License-Identifier: Apache-2.0 */
/* beside: others */
/* Sets of CPUs, and what is left of the kernel's texts about them. */
#include "unit.h"

#include <stdarg.h>
#include <string.h>
#include "preload/cputext.h"

static struct cpus set(unsigned from, unsigned to) {
  struct cpus c = {0};
  for (unsigned i = from; i <= to; i++) c.bits[i / CPUS_BITS] |= 1ul << (i % CPUS_BITS);
  return c;
}

struct page {
  char *p;
  size_t len, room;
};

/* A case is a process of its own; what it allocates is kept to its end, where make asan finds it still known. */
extern char *kept[64]; /* not static: the compiler would see that nobody reads it */
char *kept[64];
static unsigned nkept;
static char *keep(char *p) { return kept[nkept++ % 64] = p; }

__attribute__((format(printf, 2, 3))) static void add(struct page *t, const char *fmt, ...) {
  char line[512];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  while (t->len + (size_t)n + 1 > t->room) t->p = realloc(t->p, t->room = t->room * 2 + 4096);
  memcpy(t->p + t->len, line, (size_t)n + 1);
  t->len += (size_t)n;
}

/* x86: CPU i is thread i / (n / 2) of a core, on package i % packages. */
static struct page cpuinfo(unsigned n, unsigned packages) {
  struct page t = {0};
  for (unsigned i = 0; i < n; i++) {
    add(&t, "processor\t: %u\nvendor_id\t: GenuineIntel\nphysical id\t: %u\n", i, i % packages);
    add(&t, "siblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\nflags\t\t: fpu sse\n\n", n / packages, i % (n / 2) / packages,
        n / 2 / packages);
  }
  keep(t.p);
  return t;
}

static struct page stat_text(unsigned n) {
  struct page t = {0};
  unsigned long sum[10] = {0};
  for (unsigned i = 0; i < n; i++)
    for (unsigned f = 0; f < 10; f++) sum[f] += 1000 * i + f;
  add(&t, "cpu ");
  for (unsigned f = 0; f < 10; f++) add(&t, " %lu", sum[f]);
  add(&t, "\n");
  for (unsigned i = 0; i < n; i++) {
    add(&t, "cpu%u", i);
    for (unsigned f = 0; f < 10; f++) add(&t, " %u", 1000 * i + f);
    add(&t, "\n");
  }
  add(&t, "intr 123 4 5\nctxt 99\nbtime 1\nprocesses 7\nprocs_running 1\nprocs_blocked 0\nsoftirq 1 2\n");
  keep(t.p);
  return t;
}

typedef size_t cut(const char *, size_t, const struct cpus *, char *);

static char *cut_text(cut *f, struct page in, struct cpus shown) {
  char *out = keep(malloc(cputext_room(in.len) + 1));
  out[f(in.p, in.len, &shown, out)] = 0;
  return out;
}

static unsigned lines_with(const char *text, const char *start) {
  unsigned n = 0;
  for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) n += strncmp(p, start, strlen(start)) == 0;
  return n;
}

static struct page slurp(const char *path) {
  struct page t = {.p = keep(malloc(1 << 22)), .room = 1 << 22};
  FILE *f = fopen(path, "r");
  ck_assert_ptr_nonnull(f);
  t.len = fread(t.p, 1, t.room, f);
  fclose(f);
  return t;
}

START_TEST(list_is_written_as_sysfs_does) {
  char buf[64];
  struct cpus c = set(0, 3);
  ck_assert_uint_eq(cpus_format(&c, buf, sizeof buf), 4);
  ck_assert_mem_eq(buf, "0-3\n", 4);
  c.bits[0] |= 1ul << 8 | 3ul << 62;
  c.bits[1] = 1;
  size_t n = cpus_format(&c, buf, sizeof buf);
  ck_assert_mem_eq(buf, "0-3,8,62-64\n", n);
  c = set(8191, 8191);
  ck_assert_uint_eq(cpus_format(&c, buf, sizeof buf), 5);
  ck_assert_mem_eq(buf, "8191\n", 5);
}
END_TEST

START_TEST(list_that_does_not_fit_is_none) {
  char buf[100];
  struct cpus c = {0};
  for (unsigned i = 0; i < CPUS_MAX; i += 2) c.bits[i / CPUS_BITS] |= 1ul << (i % CPUS_BITS);
  for (size_t size = 0; size < sizeof buf; size++) {
    memset(buf, '#', sizeof buf);
    ck_assert_uint_eq(cpus_format(&c, buf, size), 0);
    for (size_t i = size; i < sizeof buf; i++) ck_assert_int_eq(buf[i], '#');
  }
}
END_TEST

START_TEST(first_cpus_are_kept) {
  struct cpus c = set(60, 70), want = set(60, 65);
  cpus_keep_first(&c, 6);
  ck_assert(cpus_equal(&c, &want));
  cpus_keep_first(&c, 100);
  ck_assert(cpus_equal(&c, &want));
  ck_assert_uint_eq(cpus_count(&c), 6);
  cpus_keep_first(&c, 0);
  ck_assert_uint_eq(cpus_count(&c), 0);
}
END_TEST

START_TEST(mask_is_touched_in_its_size_only) {
  unsigned char mask[24];
  memset(mask, 0xff, sizeof mask);
  struct cpus c;
  cpus_from_mask(&c, mask, 8);
  ck_assert_uint_eq(cpus_count(&c), 64);
  cpus_keep_first(&c, 3);
  cpus_to_mask(&c, mask, 8);
  ck_assert_mem_eq(mask, "\7\0\0\0\0\0\0\0\xff", 9);
  unsigned char big[2048] = {1};
  cpus_from_mask(&c, big, sizeof big);
  memset(big, 0xff, sizeof big);
  cpus_to_mask(&c, big, sizeof big);
  ck_assert_int_eq(big[0], 1);
  for (size_t i = 1; i < sizeof big; i++) ck_assert_int_eq(big[i], 0);
}
END_TEST

START_TEST(cpuinfo_shows_the_cpus_of_the_set) {
  char *out = cut_text(cputext_cpuinfo, cpuinfo(16, 1), set(4, 6));
  ck_assert_uint_eq(lines_with(out, "processor\t:"), 3);
  ck_assert_ptr_nonnull(strstr(out, "processor\t: 4\n"));
  ck_assert_ptr_nonnull(strstr(out, "processor\t: 6\n"));
  ck_assert_uint_eq(lines_with(out, "flags"), 3);
  ck_assert_str_eq(out + strlen(out) - 2, "\n\n");
}
END_TEST

START_TEST(cpuinfo_counts_siblings_and_cores_anew) {
  /* 16 CPUs on 8 cores: 0 and 8 share one. */
  struct cpus c = set(0, 2);
  c.bits[0] |= 1ul << 8;
  char *out = cut_text(cputext_cpuinfo, cpuinfo(16, 1), c);
  ck_assert_uint_eq(lines_with(out, "processor"), 4);
  ck_assert_uint_eq(lines_with(out, "siblings\t: 4\n"), 4);
  ck_assert_uint_eq(lines_with(out, "cpu cores\t: 3\n"), 4);
}
END_TEST

START_TEST(cpuinfo_counts_each_package_by_itself) {
  char *out = cut_text(cputext_cpuinfo, cpuinfo(64, 20), set(0, 24));
  ck_assert_uint_eq(lines_with(out, "processor"), 25);
  /* Packages 0 to 4 have two of the CPUs, the others one. */
  ck_assert_uint_eq(lines_with(out, "siblings\t: 2\n"), 10);
  ck_assert_uint_eq(lines_with(out, "siblings\t: 1\n"), 15);
}
END_TEST

START_TEST(cpuinfo_keeps_blocks_that_are_no_cpu) {
  struct page t = {0};
  add(&t, "processor\t: 0\nBogoMIPS\t: 1\n\nprocessor\t: 1\nBogoMIPS\t: 1\n\nHardware\t: Board\nSerial\t\t: 0\n");
  keep(t.p);
  char *out = cut_text(cputext_cpuinfo, t, set(1, 1));
  ck_assert_str_eq(out, "processor\t: 1\nBogoMIPS\t: 1\n\nHardware\t: Board\nSerial\t\t: 0\n");
}
END_TEST

START_TEST(cpuinfo_numbered_otherwise_keeps_the_first) {
  char *out = cut_text(cputext_cpuinfo, cpuinfo(4, 1), set(12, 14));
  ck_assert_uint_eq(lines_with(out, "processor\t:"), 3);
  ck_assert_ptr_nonnull(strstr(out, "processor\t: 0\n"));
  ck_assert_ptr_null(strstr(out, "processor\t: 3\n"));
}
END_TEST

START_TEST(stat_total_is_the_sum_of_what_is_shown) {
  char *out = cut_text(cputext_stat, stat_text(8), set(2, 3));
  const char *want =
      "cpu  5000 5002 5004 5006 5008 5010 5012 5014 5016 5018\n"
      "cpu2 2000 2001 2002 2003 2004 2005 2006 2007 2008 2009\n"
      "cpu3 3000 3001 3002 3003 3004 3005 3006 3007 3008 3009\n"
      "intr 123 4 5\nctxt 99\nbtime 1\nprocesses 7\nprocs_running 1\nprocs_blocked 0\nsoftirq 1 2\n";
  ck_assert_str_eq(out, want);
}
END_TEST

START_TEST(stat_numbered_otherwise_keeps_the_first) {
  char *out = cut_text(cputext_stat, stat_text(4), set(10, 11));
  ck_assert_uint_eq(lines_with(out, "cpu"), 3);
  ck_assert_uint_eq(lines_with(out, "cpu1 "), 1);
}
END_TEST

START_TEST(text_with_all_cpus_is_unchanged) {
  struct page t = stat_text(300);
  /* The kernel rounds its sum otherwise than the parts. */
  t.p[5]++;
  ck_assert_str_eq(cut_text(cputext_stat, t, set(0, 299)), t.p);
  t = cpuinfo(300, 2);
  ck_assert_str_eq(cut_text(cputext_cpuinfo, t, set(0, 299)), t.p);
  t = slurp("/proc/cpuinfo");
  ck_assert_mem_eq(cut_text(cputext_cpuinfo, t, set(0, CPUS_MAX - 1)), t.p, t.len);
  t = slurp("/proc/stat");
  ck_assert_mem_eq(cut_text(cputext_stat, t, set(0, CPUS_MAX - 1)), t.p, t.len);
}
END_TEST

/* The texts may come from a file system in user space: what they hold must not matter.  (make asan sees reads as well.) */
static void mangle(cut *f, struct page good, unsigned seed) {
  const char *bits[] = {"cpu ",     "cpu", "\n", "\n\n", "processor : 7\n", "siblings:9", "cpu cores:", "99999999999999999999999",
                        "cpu  1\n", ":"};
  srand(seed);
  for (int round = 0; round < 400; round++) {
    size_t len = (size_t)rand() % good.len;
    char *in = malloc(len ? len : 1);
    memcpy(in, good.p, len);
    for (int i = 0; i < 40; i++) {
      const char *bit = bits[(size_t)rand() % (sizeof bits / sizeof *bits)];
      size_t at = len ? (size_t)rand() % len : 0, n = strlen(bit);
      for (size_t j = 0; j < n && at + j < len; j++) in[at + j] = bit[j];
    }
    struct cpus shown = set((unsigned)rand() % 8, 8 + (unsigned)rand() % 8);
    size_t room = cputext_room(len);
    char *out = malloc(room + 1);
    out[room] = '#';
    ck_assert_uint_le(f(in, len, &shown, out), room);
    ck_assert_int_eq(out[room], '#');
    free(in);
    free(out);
  }
}

START_TEST(mangled_texts_stay_in_their_room) {
  mangle(cputext_cpuinfo, cpuinfo(12, 2), 1);
  mangle(cputext_stat, stat_text(12), 2);
  struct page t = {0};
  for (int i = 0; i < 2000; i++) add(&t, "cpu 1\n");
  mangle(cputext_stat, t, 3);
  t.len = 0;
  for (int i = 0; i < 2000; i++) add(&t, "processor:%d\nsiblings:9\n\n", i);
  mangle(cputext_cpuinfo, t, 4);
  keep(t.p);
}
END_TEST

UNIT_MAIN("cputext", list_is_written_as_sysfs_does, list_that_does_not_fit_is_none, first_cpus_are_kept, mask_is_touched_in_its_size_only,
          cpuinfo_shows_the_cpus_of_the_set, cpuinfo_counts_siblings_and_cores_anew, cpuinfo_counts_each_package_by_itself,
          cpuinfo_keeps_blocks_that_are_no_cpu, cpuinfo_numbered_otherwise_keeps_the_first, stat_total_is_the_sum_of_what_is_shown,
          stat_numbered_otherwise_keeps_the_first, text_with_all_cpus_is_unchanged, mangled_texts_stay_in_their_room)
