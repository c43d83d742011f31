/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU counts and affinity masks as the program sees them.
 *
 * The program sees the first N of the CPUs that it may run on; N is cpulive_ncpus(), which uses raw system calls
 * only and so never comes back here.
 * The CPUs that it may run on are the base mask: the real mask of the
 * calling thread while nobody in this process has set one, later what it was just before
 * the first one was set.  So a thread whose real mask is the base has no mask of its own,
 * and is shown the first N; any other thread was pinned by the program, and is shown
 * the truth.  That needs no table of threads, holds over clone and fork, and starts afresh
 * with exec: what taskset did before is part of the base.
 *
 * base_state:  NONE --the first set--> WRITING --> READY
 *   Whoever finds WRITING carries on with the live mask of its own thread.  A
 *   child forked in that moment stays there, and is right as long as it
 *   doesn't pin threads.  Rejected: a lock, which such a child would wait for in vain.
 *
 * A mask that is set to just the CPUs that we showed means "all that I have", and
 * becomes the base mask.  Else each program that saves and restores its mask, in each
 * container of a host, would crowd on the first CPUs.
 *
 * sched_getcpu.  Programs index arrays by it whose size is a count that we made
 * smaller.  So it stays below the smallest count that was told in this process.
 * Two kinds of programs use the kernel's numbers directly; see cpucount_kernel_ids_used.
 */
#include "preload/cpucount.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <unistd.h>
#include "core/place.h"
#include "free/free.h"
#include "preload/clock.h"
#include "preload/cpulive.h"
#include "preload/real.h"
#include "preload/tid.h"
#include "preload/wire.h"
#include "rawsys.h"

#define REAL_CPUCOUNT(X)                                                             \
  X(long, sysconf, (int))                                                            \
  X(int, get_nprocs, (void))                                                         \
  X(int, get_nprocs_conf, (void))                                                    \
  X(int, sched_getaffinity, (pid_t, size_t, cpu_set_t *))                            \
  X(int, sched_setaffinity, (pid_t, size_t, const cpu_set_t *))                      \
  X(int, pthread_getaffinity_np, (pthread_t, size_t, cpu_set_t *))                   \
  X(int, pthread_setaffinity_np, (pthread_t, size_t, const cpu_set_t *))             \
  X(int, pthread_attr_getaffinity_np, (const pthread_attr_t *, size_t, cpu_set_t *)) \
  X(int, pthread_attr_setaffinity_np, (pthread_attr_t *, size_t, const cpu_set_t *)) \
  X(int, sched_getcpu, (void))                                                       \
  X(int, getcpu, (unsigned *, unsigned *))
REAL_DEFINE(REAL_CPUCOUNT)

#define READS_AGAIN 3

enum { NONE, WRITING, READY };
static struct cpus base;
static _Atomic int base_state;

/* The smallest count that was told.  No other data goes with it: relaxed order. */
static _Atomic unsigned told_least = UINT_MAX;

/* ---- masks ---------------------------------------------------------------------------------------- */

static bool real_mask(struct cpus *c) {
  memset(c, 0, sizeof *c);
  int saved = errno;
  bool ok = REAL(sched_getaffinity)(0, sizeof *c, (cpu_set_t *)c) == 0;
  errno = saved;
  return ok;
}

/* Pairs with the release in note_base. */
static bool base_ready(void) { return atomic_load_explicit(&base_state, memory_order_acquire) == READY; }

static bool base_mask(struct cpus *c) {
  if (!base_ready()) return real_mask(c);
  *c = base;
  return true;
}

/* Before the first mask is set in this process. */
static void note_base(void) {
  int none = NONE;
  struct cpus now;
  if (atomic_load_explicit(&base_state, memory_order_relaxed) != NONE || !real_mask(&now)) return;
  if (!atomic_compare_exchange_strong_explicit(&base_state, &none, WRITING, memory_order_relaxed, memory_order_relaxed)) return;
  base = now;
  atomic_store_explicit(&base_state, READY, memory_order_release); /* pairs with base_ready */
}

/* Is it a thread of this process?  Signal 0 reaches threads of other uids as little as those of other processes. */
static bool ours(pid_t tid) { return tid == 0 || (tid > 0 && raw_syscall3(SYS_tgkill, raw_syscall0(SYS_getpid), tid, 0) == 0); }

bool cpucount_shown(struct cpus *shown) {
  unsigned n = cpulive_ncpus();
  if (n == 0 || !base_mask(shown)) return false;
  cpus_keep_first(shown, n);
  return true;
}

void cpucount_told(unsigned n) {
  if (n == 0) return;
  unsigned least = atomic_load_explicit(&told_least, memory_order_relaxed);
  while (n < least && !atomic_compare_exchange_weak_explicit(&told_least, &least, n, memory_order_relaxed, memory_order_relaxed)) continue;
}

/* Leaves the first N if it is the mask of a thread that was never pinned. */
static void trim(size_t size, void *mask) {
  struct cpus c;
  cpus_from_mask(&c, mask, size);
  if (base_ready() && !cpus_equal(&c, &base)) return;
  unsigned n = cpulive_ncpus();
  if (n == 0) return;
  cpus_keep_first(&c, n);
  cpus_to_mask(&c, mask, size);
  cpucount_told(cpus_count(&c));
}

void cpucount_trim_mask(pid_t pid, size_t size, void *mask) {
  if (ours(pid)) trim(size, mask);
}

/* Copies the program's mask, that may not be there: then the kernel is to say so. */
static bool fetch_mask(struct cpus *c, const void *mask, size_t size) {
  struct iovec to = {c, size < sizeof *c ? size : sizeof *c}, from = {(void *)mask, to.iov_len};
  memset(c, 0, sizeof *c);
  return raw_syscall6(SYS_process_vm_readv, raw_syscall0(SYS_getpid), (long)&to, 1, (long)&from, 1, 0) == (long)to.iov_len;
}

/* Is *mask what we showed?  Then it becomes the base. */
static void widen(size_t *size, const void **mask, struct cpus *buf) {
  struct cpus shown;
  if (!cpucount_shown(&shown) || !fetch_mask(buf, *mask, *size)) return;
  if (!cpus_equal(buf, &shown) || !base_mask(buf)) return;
  *mask = buf;
  *size = sizeof *buf;
}

void cpucount_before_set(pid_t pid, size_t *size, const void **mask, struct cpus *buf) {
  if (!ours(pid)) return;
  note_base();
  widen(size, mask, buf);
}

/* ---- programs that know the kernel's numbers ------------------------------------------------------ */

enum { IDS_UNKNOWN, IDS_OURS, IDS_KERNEL };
static _Atomic int ids; /* relaxed: nothing else goes with it */

/*
 * Does an object take __rseq_offset from libc?  Then it has rseq sections, and
 * indexes by the kernel's CPU number (tcmalloc, librseq, lttng-ust).  The name stands in
 * the string table of its dynamic symbols.
 */
static int find_rseq(struct dl_phdr_info *info, size_t size, void *found) {
  (void)size;
  const ElfW(Dyn) *d = NULL;
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) d = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  uintptr_t text = 0;
  size_t len = 0, soname = 0;
  for (; d && d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_STRTAB) text = d->d_un.d_ptr;
    if (d->d_tag == DT_STRSZ) len = d->d_un.d_val;
    if (d->d_tag == DT_SONAME) soname = d->d_un.d_val;
  }
  /* The loader relocates the address, but not that of the vDSO. */
  if (!text || text < info->dlpi_addr || len == 0) return 0;
  const char *name = (const char *)text + (soname < len ? soname : 0);
  if (strncmp(name, "libc.so.", 8) == 0 || strncmp(name, "ld-", 3) == 0 || strcmp(name, "libration.so") == 0) return 0;
  static const char what[] = "__rseq_offset"; /* sizeof: with its final 0 */
  *(bool *)found = memmem((const void *)text, len, what, sizeof what) != NULL;
  return *(bool *)found;
}

bool cpucount_kernel_ids(void) {
  int now = atomic_load_explicit(&ids, memory_order_relaxed);
  if (now != IDS_UNKNOWN) return now == IDS_KERNEL;
  bool found = false;
  dl_iterate_phdr(find_rseq, &found);
  int unknown = IDS_UNKNOWN;
  atomic_compare_exchange_strong_explicit(&ids, &unknown, found ? IDS_KERNEL : IDS_OURS, memory_order_relaxed, memory_order_relaxed);
  return atomic_load_explicit(&ids, memory_order_relaxed) == IDS_KERNEL;
}

void cpucount_kernel_ids_used(void) { atomic_store_explicit(&ids, IDS_KERNEL, memory_order_relaxed); }

unsigned cpucount_map_cpu(unsigned cpu) {
  unsigned least = atomic_load_explicit(&told_least, memory_order_relaxed);
  if (cpu < least || cpucount_kernel_ids()) return cpu;
  struct cpus c;
  /* Who pinned this thread knows that this CPU exists. */
  if (base_ready() && real_mask(&c) && !cpus_equal(&c, &base)) return cpu;
  return cpu % least;
}

/* ---- the wrappers --------------------------------------------------------------------------------- */

/* The count that the program is to see; 0: the real one. */
static int count(void) {
  struct cpus shown;
  if (!cpucount_shown(&shown)) return 0;
  unsigned n = cpus_count(&shown);
  cpucount_told(n);
  return (int)n;
}

EXPORT long sysconf(int name) {
  int n = 0;
  if (name == _SC_NPROCESSORS_ONLN || (name == _SC_NPROCESSORS_CONF && !cpucount_kernel_ids())) n = count();
  return n ? n : REAL(sysconf)(name);
}

EXPORT int get_nprocs(void) {
  int n = count();
  return n ? n : REAL(get_nprocs)();
}

EXPORT int get_nprocs_conf(void) {
  int n = cpucount_kernel_ids() ? 0 : count();
  return n ? n : REAL(get_nprocs_conf)();
}

bool cpucount_hidden(uint32_t tid, size_t size, const void *mask) {
  return tid && CPU_COUNT_S(size, (const cpu_set_t *)mask) == 1 && place_hides(tid);
}

/* Not for ever: the mask may be the program's, too. */
static bool again(uint32_t tid, size_t size, const cpu_set_t *mask, int *left) { return (*left)-- > 0 && cpucount_hidden(tid, size, mask); }

void cpucount_hide(pthread_t t) {
  uint32_t tid = clock_tid_of(t);
  if (tid) place_hides(tid);
}

EXPORT int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *mask) {
  pid = tid_kernels(pid, TID_READ);
  int r, left = READS_AGAIN;
  do r = REAL(sched_getaffinity)(pid, size, mask);
  while (r == 0 && again((uint32_t)pid, size, mask, &left));
  if (r == 0) cpucount_trim_mask(pid, size, mask);
  return r;
}

EXPORT int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *mask) {
  if (pid == 0) free_wire(FREE_WIRE_SCHED);
  pid = tid_to_set(pid);
  struct cpus buf;
  const void *m = mask;
  cpucount_before_set(pid, &size, &m, &buf);
  if (pid > 0) place_sets((uint32_t)pid);
  return REAL(sched_setaffinity)(pid, size, m);
}

EXPORT int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *mask) {
  int saved = errno, r, left = READS_AGAIN;
  pid_t like = wire_affinity_of(thread);
  if (like < 0) do
      r = REAL(pthread_getaffinity_np)(thread, size, mask);
    while (r == 0 && again(clock_tid_of(thread), size, mask, &left));
  else
    r = REAL(sched_getaffinity)(like, size, mask) < 0 ? errno : 0;
  errno = saved;
  if (r == 0) trim(size, mask);
  return r;
}

EXPORT int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *mask) {
  wire_for_affinity(thread);
  struct cpus buf;
  const void *m = mask;
  cpucount_before_set(0, &size, &m, &buf);
  if (!pthread_equal(thread, pthread_self())) place_sets(clock_tid_of(thread));
  return REAL(pthread_setaffinity_np)(thread, size, m);
}

/* glibc sets the mask of such an attribute inside pthread_create: this is where we hear of it. */
EXPORT int pthread_attr_setaffinity_np(pthread_attr_t *attr, size_t size, const cpu_set_t *mask) {
  struct cpus buf;
  const void *m = mask;
  cpucount_before_set(0, &size, &m, &buf);
  return REAL(pthread_attr_setaffinity_np)(attr, size, m);
}

/* All ones for an attribute without a mask, which is no mask of any thread. */
EXPORT int pthread_attr_getaffinity_np(const pthread_attr_t *attr, size_t size, cpu_set_t *mask) {
  int r = REAL(pthread_attr_getaffinity_np)(attr, size, mask);
  struct cpus c, all;
  if (r != 0 || !base_mask(&all)) return r;
  cpus_from_mask(&c, mask, size);
  if (cpus_equal(&c, &all)) trim(size, mask);
  return r;
}

EXPORT int sched_getcpu(void) {
  int cpu = REAL(sched_getcpu)();
  return cpu < 0 ? cpu : (int)cpucount_map_cpu((unsigned)cpu);
}

EXPORT int getcpu(unsigned *cpu, unsigned *node) {
  int r = REAL(getcpu)(cpu, node);
  if (r == 0 && cpu) *cpu = cpucount_map_cpu(*cpu);
  return r;
}
