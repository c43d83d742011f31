/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where pointers of a C program may lie:
 *
 *   data    writable private mappings of files, and what adjoins them (bss)
 *   heap    other writable private mappings without a name, and [heap]
 *   stack   of those, the ones that a thread's stack pointer is in, and [stack].  Whether a thread's is known is up to the kernel: it tells
 *           that of blocked threads; if one is missing, nothing counts as heap.
 *
 * Left out: slabs of light Gs, carriers (they remember the last channel that was unlocked), what lies below the stack pointers of the main thread
 * and of carriers, and pages that were never touched.
 *
 * Read through /proc/self/mem: a thread that is not stopped may unmap memory meanwhile, and that is no fault then.
 */
#include "core/roots.h"
#include <fcntl.h>
#include <string.h>
#include <ucontext.h>
#include "core/carrier.h"
#include "core/procmaps.h"
#include "core/unwind.h"

#define RANGES_MOST 65536u
#define HOLES_MOST 65536u
#define THREADS_MOST 4096u
#define PAGE 4096u
#define CHUNK_PAGES 64u
#define RED_ZONE 128u
#define CARRIER_DEAD (192u << 10) /* so far below its stack pointer a carrier's stack is its own for sure (carrier.c, CARRIER_STACK) */

struct range {
  uintptr_t from, to;
  enum root_kind kind;
};

struct thread_sp {
  uint32_t tid;
  uintptr_t sp;
};

struct roots {
  int mem, pagemap;
  uint32_t nranges, nholes, nthreads, main_tid;
  bool all_threads; /* the stack pointer of each is known */
  uintptr_t own_sp;
  uint32_t own_tid;
  uint64_t flags[CHUNK_PAGES];
  uintptr_t words[CHUNK_PAGES * PAGE / sizeof(uintptr_t)];
  struct range ranges[RANGES_MOST];
  struct range holes[HOLES_MOST]; /* sorted once they are all there */
  struct thread_sp threads[THREADS_MOST];
};

/* --- threads --- */

static bool add_thread(uint32_t tid, void *arg) {
  struct roots *r = arg;
  uintptr_t pc = 1, sp = 1;
  if (tid == r->own_tid)
    sp = r->own_sp;
  else
    for (int i = 0; i < 5 && !procmaps_blocked_at(tid, &pc, &sp); i++) {
      _Atomic uint32_t never = 0;
      if (pc == 0 && sp == 0) return true;
      sp = 0;
      sys_futex_wait(&never, 0, sys_now() + 100000, false); /* our own service threads run for microseconds */
    }
  if (sp && r->nthreads < THREADS_MOST)
    r->threads[r->nthreads++] = (struct thread_sp){tid, sp};
  else
    r->all_threads = false;
  return true;
}

static void find_threads(struct roots *r) {
  r->all_threads = true;
  if (procmaps_threads(r->words, sizeof r->words, add_thread, r) < 0) r->all_threads = false; /* nothing else is in it now */
}

static uintptr_t sp_of(const struct roots *r, uint32_t tid) {
  for (uint32_t i = 0; i < r->nthreads; i++)
    if (r->threads[i].tid == tid) return r->threads[i].sp;
  return 0;
}

static bool holds_sp(const struct roots *r, uintptr_t from, uintptr_t to) {
  for (uint32_t i = 0; i < r->nthreads; i++)
    if (r->threads[i].sp >= from && r->threads[i].sp < to) return true;
  return false;
}

/* Where a thread was when the signal that it is stopped in came; 0: it is not. */
static uintptr_t interrupted_sp(struct m *m) {
  struct unwind_regs regs;
  void *ctx = m ? atomic_load_explicit(&m->stopped, memory_order_acquire) : NULL; /* pairs with world_stop_here */
  if (!ctx) return 0;
  unwind_from_context(&regs, ctx);
  return regs.r[UNWIND_SP];
}

/* --- what is left out --- */

static void hole(struct roots *r, uintptr_t from, uintptr_t to) {
  struct range *last = r->nholes ? &r->holes[r->nholes - 1] : NULL;
  if (last && from <= last->to && from >= last->from)
    last->to = to > last->to ? to : last->to;
  else if (r->nholes < HOLES_MOST && to > from)
    r->holes[r->nholes++] = (struct range){.from = from, .to = to};
}

void roots_exclude(struct roots *r, const void *at, size_t bytes) { hole(r, (uintptr_t)at, (uintptr_t)at + bytes); }

static bool hole_of_g(struct g *g, void *arg) {
  roots_exclude(arg, g->stack, g->stack_bytes);
  return true;
}

static void hole_of_carrier(struct roots *r, struct carrier *c) {
  roots_exclude(r, c, sizeof *c);
  if (c->altstack) roots_exclude(r, c->altstack, CARRIER_ALTSTACK_BYTES); /* what is live of it: roots_stack */
  uintptr_t sp = c->g ? (uintptr_t)c->sp : c->m && c->m != &c->no_m ? sp_of(r, c->m->tid) : 0;
  bool in_handler = sp >= (uintptr_t)c->altstack && sp < (uintptr_t)c->altstack + CARRIER_ALTSTACK_BYTES;
  if (sp && !in_handler) hole(r, sp - CARRIER_DEAD, sp - RED_ZONE);
}

static void sort_holes(struct roots *r) {
  for (uint32_t gap = r->nholes / 2; gap; gap /= 2) /* Shell's: no recursion, no memory */
    for (uint32_t i = gap; i < r->nholes; i++) {
      struct range x = r->holes[i];
      uint32_t k = i;
      for (; k >= gap && r->holes[k - gap].from > x.from; k -= gap) r->holes[k] = r->holes[k - gap];
      r->holes[k] = x;
    }
}

static void find_holes(struct roots *r) {
  roots_exclude(r, r, sizeof *r);
  stack_each(hole_of_g, r);
  light_take();
  for (struct carrier *c = light.carriers; c; c = c->all) hole_of_carrier(r, c);
  light_drop();
}

/* --- mappings --- */

static bool add_range(const struct procmap *m, void *arg) {
  struct roots *r = arg;
  if (!m->read || !m->write || m->shared || strncmp(m->path, "[v", 2) == 0) return true;
  const struct range *last = r->nranges ? &r->ranges[r->nranges - 1] : NULL;
  bool named = m->path[0] && strcmp(m->path, "[heap]") != 0 && strncmp(m->path, "[anon", 5) != 0;
  bool bss = !m->path[0] && last && last->to == m->from && last->kind == ROOT_DATA;
  struct range n = {m->from, m->to, ROOT_HEAP};
  if (strcmp(m->path, "[stack]") == 0) {
    uintptr_t sp = sp_of(r, r->main_tid);
    n.kind = ROOT_STACK;
    if (sp > m->from && sp < m->to) n.from = (sp - RED_ZONE) & ~(uintptr_t)7;
  } else if (named || bss) {
    n.kind = ROOT_DATA;
  } else if (!r->all_threads || holds_sp(r, m->from, m->to)) {
    n.kind = ROOT_STACK;
  }
  if (r->nranges == RANGES_MOST) return false;
  r->ranges[r->nranges++] = n;
  return true;
}

static int open_proc(const char *path) { return (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0); }

int roots_open(struct roots **out, uintptr_t sp) {
  struct roots *r = procmaps_pages(sizeof *r);
  if (!r) return -ENOMEM;
  r->own_sp = sp;
  r->own_tid = sys_gettid();
  r->main_tid = sys_getpid();
  r->mem = open_proc("/proc/self/mem");
  r->pagemap = open_proc("/proc/self/pagemap");
  int error = r->mem < 0 ? r->mem : 0;
  if (!error) {
    find_threads(r);
    find_holes(r);
    error = procmaps_each(add_range, r);
    if (!error && r->nranges == RANGES_MOST) error = -E2BIG;
  }
  *out = r;
  if (!error) return 0;
  roots_close(r);
  return error;
}

void roots_close(struct roots *r) {
  if (r->mem >= 0) raw_syscall1(SYS_close, r->mem);
  if (r->pagemap >= 0) raw_syscall1(SYS_close, r->pagemap);
  procmaps_unmap(r, sizeof *r);
}

/* --- reading --- */

static void read_pages(struct roots *r, enum root_kind kind, uintptr_t from, uintptr_t to, roots_fn *fn, void *arg) {
  while (from < to) {
    long got = raw_syscall4(SYS_pread64, r->mem, (long)r->words, (long)(to - from), (long)from);
    if (got < (long)sizeof(uintptr_t)) { /* not there any more: the next page */
      from = (from | (PAGE - 1)) + 1;
      continue;
    }
    struct root_words w = {kind, from, r->words, (size_t)got / sizeof(uintptr_t)};
    fn(&w, arg);
    from += w.n * sizeof(uintptr_t);
  }
}

/* [from, to) lies in pages [first, first + n), n at most CHUNK_PAGES: those that are there. */
static void read_chunk(struct roots *r, enum root_kind kind, uintptr_t from, uintptr_t to, roots_fn *fn, void *arg) {
  uintptr_t first = from / PAGE, n = (to + PAGE - 1) / PAGE - first;
  long want = (long)(n * sizeof *r->flags);
  if (r->pagemap < 0 || raw_syscall4(SYS_pread64, r->pagemap, (long)r->flags, want, (long)(first * sizeof *r->flags)) != want) {
    read_pages(r, kind, from, to, fn, arg);
    return;
  }
  for (uintptr_t i = 0; i < n;) {
    uintptr_t k = i;
    while (k < n && r->flags[k] >> 62) k++; /* present or swapped out */
    uintptr_t a = (first + i) * PAGE, b = (first + k) * PAGE;
    if (k > i) read_pages(r, kind, a > from ? a : from, b < to ? b : to, fn, arg);
    i = k > i ? k : i + 1;
  }
}

void roots_range(struct roots *r, enum root_kind kind, uintptr_t from, uintptr_t to, roots_fn *fn, void *arg) {
  for (from &= ~(uintptr_t)7; from < to;) {
    uintptr_t end = (from / PAGE + CHUNK_PAGES) * PAGE;
    if (end > to) end = to;
    read_chunk(r, kind, from, end, fn, arg);
    from = end;
  }
}

void roots_each(struct roots *r, roots_fn *fn, void *arg) {
  uint32_t h = 0;
  sort_holes(r);
  for (uint32_t i = 0; i < r->nranges; i++) {
    uintptr_t from = r->ranges[i].from, to = r->ranges[i].to;
    while (h < r->nholes && r->holes[h].to <= from) h++;
    for (uint32_t k = h; from < to;) {
      bool cut = k < r->nholes && r->holes[k].from < to;
      uintptr_t end = cut ? (r->holes[k].from > from ? r->holes[k].from : from) : to;
      roots_range(r, r->ranges[i].kind, from, end, fn, arg);
      if (!cut) break;
      from = r->holes[k].to > from ? r->holes[k].to : from;
      k++;
    }
  }
}

/* A G that has a thread: from where on its stack is live, and what the handler that it is in has saved. */
static uintptr_t low_of_running(struct roots *r, const struct g *g, struct carrier *c, roots_fn *fn, void *arg) {
  uintptr_t low = (uintptr_t)g->stack + PAGE, high = (uintptr_t)g;
  uintptr_t sp = c->m && c->m != &c->no_m ? sp_of(r, c->m->tid) : 0, alt = (uintptr_t)c->altstack;
  if (c == carrier_now()) sp = r->own_sp;
  if (alt && sp >= alt && sp < alt + CARRIER_ALTSTACK_BYTES) {
    roots_range(r, ROOT_STACK, sp, alt + CARRIER_ALTSTACK_BYTES, fn, arg);
    sp = interrupted_sp(c->m);
  }
  return sp > low + RED_ZONE && sp < high ? sp - RED_ZONE : low;
}

void roots_stack(struct roots *r, const struct g *g, roots_fn *fn, void *arg) {
  uintptr_t low = (uintptr_t)g->stack + PAGE, high = (uintptr_t)g, sp = (uintptr_t)g->sp;
  struct carrier *c = light.carriers; /* the world stands: nobody adds one but in a call */
  while (c && c->g != g) c = c->all;
  if (c)
    low = low_of_running(r, g, c, fn, arg);
  else if (sp > low && sp < high)
    low = sp;
  roots_range(r, ROOT_STACK, low, high, fn, arg);
}

bool roots_heap_word(struct roots *r, uintptr_t at, uintptr_t *v) {
  uint32_t low = 0, high = r->nranges;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    if (r->ranges[mid].to <= at)
      low = mid + 1;
    else
      high = mid;
  }
  if (low == r->nranges || r->ranges[low].from > at || r->ranges[low].kind != ROOT_HEAP) return false;
  return raw_syscall4(SYS_pread64, r->mem, (long)v, sizeof *v, (long)at) == sizeof *v;
}
