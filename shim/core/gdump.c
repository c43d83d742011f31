/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dumps of light Gs.
 *
 *   stop the world (world.c) --> a record for each G: state and the pcs of its stack --> start the world --> names, text, write
 *
 * So the world stands for the unwinding only, and whoever reads the descriptor may be a thread or a G of this process.
 *
 * Where a G's registers are:
 *   parked, runnable                    below its stack pointer, as ration_switch left them
 *   running, its M stopped by world.c   in the context of the signal
 *   in a system call; preempted         in the kernel, which tells pc and stack pointer only (/proc/self/task/TID/syscall)
 *   the caller's own                    here
 * Others run on, and have no stack in the dump.
 *
 * Everything lies in mappings of the dump's own: the heap may be broken, or its lock held by a thread that is stopped.
 */
#include "core/gdump.h"
#include <stddef.h>
#include <string.h>
#include "core/carrier.h"
#include "core/procmaps.h"
#include "core/switch.h"
#include "core/unwind.h"
#include "core/world.h"
#include "ration/debug.h"

#define FRAMES_MOST 32u
#define THREADS_MOST 1024u
#define PATIENCE_NS 100000000u
#define GUARD_BYTES 4096u
#define SWITCH_BYTES 176u /* at most what ration_switch pushes */

struct record {
  uint64_t id, since, created_by;
  uintptr_t fn;
  const char *state;
  bool waits, wired;
  uint32_t nframes;
  char name[sizeof((struct g *)0)->name];
  uintptr_t frames[FRAMES_MOST];
};

/* A G that has a thread, be it that it runs, is in a call, or was preempted. */
struct on_thread {
  const struct g *g;
  struct carrier *c;
};

struct gdump {
  struct out out;
  const struct gdump_filter *filter;
  struct unwind_regs own; /* the caller's */
  uint64_t now;
  struct symbols *symbols;
  struct unwind *unwind;
  const char *library; /* the file that we are in, if it is libration.so */
  char *records;
  uint64_t bytes, used;
  uint32_t n, over;
  uint32_t nthreads;
  struct on_thread threads[THREADS_MOST];
};

/* --- while the world stands --- */

static void find_threads(struct gdump *d) {
  light_take();
  for (struct carrier *c = light.carriers; c && d->nthreads < THREADS_MOST; c = c->all) {
    struct g *g = __atomic_load_n(&c->g, __ATOMIC_RELAXED);
    if (g) d->threads[d->nthreads++] = (struct on_thread){g, c};
  }
  light_drop();
}

static struct carrier *thread_of(const struct gdump *d, const struct g *g) {
  for (uint32_t i = 0; i < d->nthreads; i++)
    if (d->threads[i].g == g) return d->threads[i].c;
  return NULL;
}

static struct unwind_range stack_of(const struct g *g) {
  uintptr_t low = (uintptr_t)g->stack;
  if (g->kind == G_THREAD) return (struct unwind_range){low, low + g->stack_bytes};
  return (struct unwind_range){low + GUARD_BYTES, (uintptr_t)g};
}

static uint32_t unwind_thread(struct gdump *d, const struct g *g, struct carrier *c, uintptr_t *frames) {
  struct unwind_regs regs;
  uintptr_t pc, sp;
  struct m *m = c->m;
  void *ctx = m ? atomic_load_explicit(&m->stopped, memory_order_acquire) : NULL; /* pairs with world_stop_here */
  if (c == carrier_now())
    regs = d->own;
  else if (ctx)
    unwind_from_context(&regs, ctx);
  else if (m && m != &c->no_m && procmaps_blocked_at(m->tid, &pc, &sp))
    unwind_from_pc(&regs, pc, sp);
  else
    return 0;
  struct unwind_range on[2] = {stack_of(g), {(uintptr_t)c->altstack, (uintptr_t)c->altstack + CARRIER_ALTSTACK_BYTES}};
  return unwind_stack(d->unwind, &regs, false, on, 2, frames, FRAMES_MOST);
}

static uint32_t unwind_parked(struct gdump *d, const struct g *g, uintptr_t *frames) {
  struct unwind_regs regs;
  uintptr_t sp = (uintptr_t)g->sp;
  struct unwind_range on = stack_of(g);
  if (sp < on.low || sp % 8 || sp > on.high || on.high - sp < SWITCH_BYTES) return 0;
  unwind_from_switch(&regs, g->sp);
  if (regs.pc == (uintptr_t)ration_g_entry) return 0; /* has not begun */
  return unwind_stack(d->unwind, &regs, true, &on, 1, frames, FRAMES_MOST);
}

/* A wired thread G (free/wire.c): of its kernel thread's G is known what it does. */
static const struct g *wired_as(const struct carrier *c) {
  struct m *m = c ? __atomic_load_n(&c->m, __ATOMIC_RELAXED) : NULL;
  return m && m != &c->no_m && !__atomic_load_n(&m->carrier, __ATOMIC_RELAXED) ? &m->g0 : NULL;
}

const char *gdump_state(const struct g *g, bool on_thread) {
  static const char *const names[] = {"dead", "runnable", "running", "syscall", "waiting"};
  if (g->status == G_WAITING) return g->why == WAIT_NONE ? "finished" : wait_reason_name(g->why);
  if (g->status == G_RUNNABLE && on_thread) return "runnable, preempted";
  return (unsigned)g->status < sizeof names / sizeof *names ? names[g->status] : "?";
}

static bool wired_waits(const struct g *w) { return w->status == G_WAITING || (w->status == G_SYSCALL && w->why != WAIT_NONE); }

/* Where nobody waits for a P, a call does not change its status (m_entersyscallblock). */
static const char *wired_state(const struct g *w, const struct m *m) {
  if (wired_waits(w)) return wait_reason_name(w->why);
  return w->status == G_RUNNING && SLOT_LOAD(m->slot->state) == M_SYSCALL ? "syscall" : gdump_state(w, false);
}

/* At a glance.  One without a pq has lost it in a call, or its G goes alone. */
static bool in_call(const struct carrier *c) {
  struct pq *pq = __atomic_load_n(&c->pq, __ATOMIC_RELAXED);
  if (pq) return PQ_KIND(GLANCE(pq->status)) == PQ_SYSCALL;
  return c->m == &c->no_m || SLOT_LOAD(c->m->slot->state) == M_SYSCALL;
}

static const char *state_of(const struct g *g, struct carrier *c) {
  const struct g *w = wired_as(c);
  if (w) return wired_state(w, c->m);
  return g->status == G_RUNNING && c && in_call(c) ? "syscall" : gdump_state(g, c != NULL);
}

static bool record_g(struct g *g, void *arg) {
  struct gdump *d = arg;
  if (g->id == 0 || g->status == G_DEAD || g->kind == G_WIRED) return true;
  if (d->filter && !d->filter->want(g, d->filter->arg)) return true;
  d->n++;
  if (d->bytes - d->used < sizeof(struct record)) {
    d->over++;
    return true;
  }
  struct record *r = (struct record *)(d->records + d->used);
  struct carrier *c = thread_of(d, g);
  r->id = g->id;
  const struct g *w = wired_as(c);
  r->since = w ? w->since : g->since;
  r->created_by = g->created_by;
  r->fn = (uintptr_t)g->fn;
  r->state = state_of(g, c);
  r->waits = w ? wired_waits(w) : g->status == G_WAITING;
  r->wired = w != NULL;
  memcpy(r->name, g->name, sizeof r->name);
  r->name[sizeof r->name - 1] = 0;
  r->nframes = !d->unwind ? 0 : c ? unwind_thread(d, g, c, r->frames) : unwind_parked(d, g, r->frames);
  d->used += offsetof(struct record, frames) + r->nframes * sizeof *r->frames;
  return true;
}

/* --- after it --- */

void gdump_pc(struct out *o, struct symbols *s, uintptr_t pc, bool ret) {
  struct sym_name name = {.offset = pc};
  if (s) name = symbols_name(s, pc, ret);
  if (name.function) {
    out_str(o, name.function);
    if (name.offset) {
      out_str(o, "+");
      out_hex(o, name.offset);
    }
    out_str(o, " (");
    out_str(o, name.file);
    out_str(o, ")");
  } else {
    if (name.file) {
      out_str(o, name.file);
      out_str(o, "+");
    }
    out_hex(o, name.offset);
  }
}

/* The scheduler's own: not what the reader looks for. */
static bool is_ours(struct gdump *d, uintptr_t frame) {
  if (!d->library) return false;
  struct sym_name name = symbols_name(d->symbols, frame >> 1, frame & 1);
  return name.file == d->library && !name.exported;
}

/* Without the scheduler's frames on top and below, and without the handler that a preempted G is in. */
static void write_frames(struct gdump *d, const struct record *r) {
  uint32_t from = 0, to = r->nframes;
  for (uint32_t i = 1; i < r->nframes; i++)
    if (!(r->frames[i] & 1)) from = i; /* interrupted by a signal there */
  while (from < to && is_ours(d, r->frames[from])) from++;
  while (from < to && is_ours(d, r->frames[to - 1])) to--;
  for (uint32_t i = from; i < to; i++) {
    out_str(&d->out, "    ");
    gdump_pc(&d->out, d->symbols, r->frames[i] >> 1, r->frames[i] & 1);
    out_str(&d->out, "\n");
  }
  if (r->nframes == FRAMES_MOST) out_str(&d->out, "    ...\n");
}

static void write_record(struct gdump *d, const struct record *r) {
  struct out *o = &d->out;
  out_str(o, "\nG ");
  out_num(o, r->id);
  if (r->name[0]) {
    out_str(o, " \"");
    out_str(o, r->name);
    out_str(o, "\"");
  }
  out_str(o, r->wired ? " [wired, " : " [");
  out_str(o, r->state);
  if (r->waits && r->since && d->now > r->since) {
    out_str(o, ", ");
    out_duration(o, d->now - r->since);
  }
  out_str(o, "]:\n");
  write_frames(d, r);
  out_str(o, "    began in ");
  gdump_pc(o, d->symbols, r->fn, false);
  if (r->created_by) {
    out_str(o, "\n    created by G ");
    out_num(o, r->created_by);
  }
  out_str(o, "\n");
}

static void write_all(struct gdump *d) {
  uint64_t v;
  const struct sym_file *own = d->symbols ? symbols_file(d->symbols, (uintptr_t)gdump_all, &v) : NULL;
  if (own && strncmp(own->name, "libration", 9) == 0) d->library = own->name;
  for (uint64_t at = 0; at < d->used && !d->out.bad;) {
    const struct record *r = (const struct record *)(d->records + at);
    write_record(d, r);
    at += offsetof(struct record, frames) + r->nframes * sizeof *r->frames;
  }
  if (d->over) {
    out_str(&d->out, "\n... and ");
    out_num(&d->out, d->over);
    out_str(&d->out, " more\n");
  }
  out_flush(&d->out);
}

static void take_records(struct gdump *d) {
  bool stopped = world_stop(PATIENCE_NS); /* false: somebody else has; what we see may move then */
  find_threads(d);
  d->now = sys_now();
  light_each(record_g, d);
  if (stopped) world_start();
}

static __attribute__((noinline)) uint32_t dump(int fd, uint64_t until, const struct gdump_filter *filter) {
  static const char no_memory[] = "ration: no memory for a dump of the Gs\n";
  struct gdump *d = procmaps_pages(sizeof *d);
  uint64_t bytes = GDUMP_MOST * sizeof(struct record);
  char *records = NULL;
  for (; d && !records && bytes > sizeof(struct record); bytes /= records ? 1 : 2) records = procmaps_pages(bytes);
  if (!records) {
    raw_syscall3(SYS_write, fd, (long)no_memory, sizeof no_memory - 1);
    procmaps_unmap(d, sizeof *d);
    return 0;
  }
  d->out.fd = fd;
  d->out.until = until;
  d->filter = filter;
  d->records = records;
  d->bytes = bytes;
  unwind_from_here(&d->own);
  d->symbols = symbols_open();
  d->unwind = unwind_open(d->symbols);
  take_records(d);
  write_all(d);
  uint32_t n = d->n;
  unwind_close(d->unwind);
  symbols_close(d->symbols);
  procmaps_unmap(records, bytes);
  procmaps_unmap(d, sizeof *d);
  return n;
}

void gdump_all(int fd) { dump(fd, 0, NULL); }

void gdump_until(int fd, uint64_t until) { dump(fd, until, NULL); }

uint32_t gdump_some(int fd, const struct gdump_filter *filter) { return dump(fd, 0, filter); }

void ration_dump(int fd) { gdump_all(fd); }
