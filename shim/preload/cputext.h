/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_CPUTEXT_H
#define RATION_PRELOAD_CPUTEXT_H
/*
 * Sets of CPUs, and the texts in which the kernel speaks of them.  Pure: no
 * system call, no allocation, no global; what it is given may be any bytes.
 */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Larger than the NR_CPUS of any kernel. */
#define CPUS_MAX 8192u
#define CPUS_BITS (sizeof(unsigned long) * CHAR_BIT)

struct cpus {
  unsigned long bits[CPUS_MAX / CPUS_BITS];
};

static inline bool cpus_has(const struct cpus *c, unsigned long cpu) {
  return cpu < CPUS_MAX && (c->bits[cpu / CPUS_BITS] >> (cpu % CPUS_BITS) & 1);
}

unsigned cpus_count(const struct cpus *c);
bool cpus_equal(const struct cpus *a, const struct cpus *b);
/* Drops all but the first n CPUs. */
void cpus_keep_first(struct cpus *c, unsigned n);
/* From and to the mask of an affinity call, `size` bytes; CPUs beyond CPUS_MAX are not in the set. */
void cpus_from_mask(struct cpus *c, const void *mask, size_t size);
void cpus_to_mask(const struct cpus *c, void *mask, size_t size);

/* "0-3,8" and a newline, as in sysfs.  Returns the length, or 0 if it doesn't fit. */
size_t cpus_format(const struct cpus *c, char *buf, size_t size);

/*
 * Copies the text of /proc/cpuinfo or /proc/stat with the CPUs of `shown` only.
 * If the text numbers its CPUs otherwise, so that it does not name them all (lxcfs
 * does that), the first cpus_count(shown) CPUs of the text are kept.
 * `out` has room for cputext_room(len) bytes.  Returns the length.
 */
static inline size_t cputext_room(size_t len) { return len + len / 4 + 1024; }
size_t cputext_cpuinfo(const char *in, size_t len, const struct cpus *shown, char *out);
size_t cputext_stat(const char *in, size_t len, const struct cpus *shown, char *out);

#endif
