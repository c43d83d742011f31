/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ration_leaks: Gs that wait at channels which nobody can reach, by marking as a garbage collector does, over a stopped world.
 *
 *   suspects   Gs that wait at channels without limit
 *   roots      all memory but the stacks of light Gs (core/roots.c), and the stacks of those Gs that are no suspects
 *   mark       a word of a root that is the address of a suspect's channel: the channel is reached, so its suspects may
 *              be served, so their stacks are roots too ...
 *   lost       suspects that were not reached
 *
 * Heap blocks are not traced, all of the heap is a root.  That would hide the usual leak, a G whose arguments are a block in the heap that has the channel in
 * it.  So there is a second pass over channels that only the heap leads to and whose references (refs) are no more than the suspects that wait there. The blocks
 * that hold their addresses are looked for: is there a pointer to the beginning of such a block, elsewhere than on the stacks of these suspects?  (The beginning is
 * recognized by glibc's header, which says how far the block goes.)  If not, they are lost as well.
 *
 *   struct boxed: a place in the heap that holds the address of a channel      v = block, size of v reaches over the place --> it is held
 *
 * What it cannot tell is in ration/debug.h.  Threads in system calls are not stopped (core/world.c), so all of this is done twice, and who is lost
 * both times, in the same wait, is.
 */
#include <errno.h>
#include "core/carrier.h"
#include "core/gdump.h"
#include "core/procmaps.h"
#include "core/roots.h"
#include "core/unwind.h"
#include "core/world.h"
#include "ration/debug.h"
#include "sync/chan.h"

#define PATIENCE_NS 200000000u
#define BOXES_MOST 65536u
#define BLOCK_MOST ((uintptr_t)1 << 20)

struct suspect {
  struct g *g;
  uint64_t id, since;
  uint32_t nwaits, reached; /* channels, and how many of them may be served */
  bool lost, by_count;
};

struct chan_mark {
  const struct ration_chan *c;
  uint32_t first; /* of its waits, + 1 */
  uint32_t nwaits;
  bool other, heap; /* reached from */
  bool done;
};

struct wait { /* a suspect at a channel */
  uint32_t suspect, chan, next;
};

struct box {
  uintptr_t at;
  uint32_t chan;
};

struct leaks {
  struct roots *roots;
  uint64_t bytes; /* of this mapping; what follows points into it */
  struct suspect *suspects;
  struct chan_mark *chans; /* hash table by address */
  struct wait *waits;
  uint32_t *work; /* channels that were reached and not yet seen to */
  struct box *boxes;
  uint32_t nsuspects, suspects_most, nchans_most, nwaits, waits_most, nwork, nboxes;
  uint32_t mask;
  uintptr_t low, high; /* of the channels */
  uintptr_t box_low, box_high;
  struct ration_chan *const *own; /* of the suspect whose stack is looked through: they are there in any case */
  uint32_t nown;
};

/* --- suspects --- */

/* The channels that g waits for without limit: how many.  One that can never be served has none, and *forever is set. */
static uint32_t waits_for(const struct g *g, struct ration_chan *const **chans, bool *forever) {
  *forever = false;
  if (g->kind != G_LIGHT || g->id == 0 || g->status != G_WAITING || g->forks != light_forks) return 0;
  *forever = g->why == WAIT_CHAN_NIL;
  if (g->why == WAIT_SELECT) return select_waits_for(g, chans);
  if ((g->why != WAIT_CHAN_SEND && g->why != WAIT_CHAN_RECV) || !g->waiting_on) return 0;
  *chans = (struct ration_chan *const *)&g->waiting_on;
  return 1;
}

static bool count_suspect(struct g *g, void *arg) {
  struct leaks *l = arg;
  struct ration_chan *const *chans;
  bool forever;
  uint32_t n = waits_for(g, &chans, &forever);
  l->suspects_most += n || forever;
  l->waits_most += n;
  return true;
}

static uint32_t slot_of(const struct leaks *l, uintptr_t c) {
  uint32_t i = (uint32_t)((c >> 6) * 0x9e3779b97f4a7c15u >> 32) & l->mask;
  while (l->chans[i].c && (uintptr_t)l->chans[i].c != c) i = (i + 1) & l->mask;
  return i;
}

static void add_wait(struct leaks *l, uint32_t suspect, const struct ration_chan *c) {
  uint32_t i = slot_of(l, (uintptr_t)c);
  struct chan_mark *m = &l->chans[i];
  m->c = c;
  m->nwaits++;
  l->waits[l->nwaits] = (struct wait){suspect, i, m->first};
  m->first = ++l->nwaits;
  if ((uintptr_t)c < l->low) l->low = (uintptr_t)c;
  if ((uintptr_t)c > l->high) l->high = (uintptr_t)c;
}

static bool add_suspect(struct g *g, void *arg) {
  struct leaks *l = arg;
  struct ration_chan *const *chans;
  bool forever;
  uint32_t n = waits_for(g, &chans, &forever);
  if ((!n && !forever) || l->nsuspects == l->suspects_most || n > l->waits_most - l->nwaits) return true;
  l->suspects[l->nsuspects] = (struct suspect){.g = g, .id = g->id, .since = g->since, .nwaits = n, .lost = true};
  for (uint32_t i = 0; i < n; i++) add_wait(l, l->nsuspects, chans[i]);
  l->nsuspects++;
  return true;
}

/* A part of one mapping. */
static void *carve(char **at, uint64_t n, uint64_t each) {
  char *p = *at;
  *at = p + ((n * each + 63) & ~(uint64_t)63);
  return p;
}

static struct leaks *leaks_open(void) {
  struct leaks count = {.nsuspects = 0};
  stack_each(count_suspect, &count);
  uint64_t table = 64;
  while (table < 2 * (uint64_t)count.waits_most) table *= 2;
  uint64_t bytes = sizeof(struct leaks) + count.suspects_most * sizeof(struct suspect) + table * sizeof(struct chan_mark) +
                   count.waits_most * (sizeof(struct wait) + sizeof(uint32_t)) + BOXES_MOST * sizeof(struct box) + 4096;
  struct leaks *l = procmaps_pages(bytes);
  if (!l) return NULL;
  char *at = (char *)l;
  carve(&at, 1, sizeof *l);
  l->bytes = bytes;
  l->suspects_most = count.suspects_most;
  l->waits_most = count.waits_most;
  l->suspects = carve(&at, count.suspects_most, sizeof *l->suspects);
  l->chans = carve(&at, table, sizeof *l->chans);
  l->waits = carve(&at, count.waits_most, sizeof *l->waits);
  l->work = carve(&at, count.waits_most, sizeof *l->work);
  l->boxes = carve(&at, BOXES_MOST, sizeof *l->boxes);
  l->mask = (uint32_t)table - 1;
  l->low = UINTPTR_MAX;
  stack_each(add_suspect, l);
  return l;
}

/* --- first pass: channels --- */

static void reach(struct leaks *l, uint32_t chan, enum root_kind kind, uintptr_t at) {
  struct chan_mark *m = &l->chans[chan];
  if (kind == ROOT_HEAP) {
    m->heap = true;
    if (l->nboxes < BOXES_MOST)
      l->boxes[l->nboxes++] = (struct box){at, chan};
    else
      m->other = true; /* too many to tell */
  } else {
    m->other = true;
  }
  if (m->done) return;
  m->done = true;
  l->work[l->nwork++] = chan;
}

static bool is_own(const struct leaks *l, uintptr_t c) {
  for (uint32_t i = 0; i < l->nown; i++)
    if ((uintptr_t)l->own[i] == c) return true;
  return false;
}

static void mark_words(const struct root_words *words, void *arg) {
  struct leaks *l = arg;
  for (size_t i = 0; i < words->n; i++) {
    uintptr_t v = words->w[i];
    if (v < l->low || v > l->high || v & 63) continue;
    uint32_t chan = slot_of(l, v);
    if (l->chans[chan].c && !is_own(l, v)) reach(l, chan, words->kind, words->at + i * sizeof(uintptr_t));
  }
}

static bool is_suspect(const struct g *g) {
  struct ration_chan *const *chans;
  bool forever;
  return waits_for(g, &chans, &forever) || forever;
}

static bool mark_stack(struct g *g, void *arg) {
  struct leaks *l = arg;
  if (g->kind != G_LIGHT || g->id == 0 || g->status == G_DEAD || is_suspect(g)) return true;
  roots_stack(l->roots, g, mark_words, l);
  struct root_words born = {ROOT_STACK, 0, (const uintptr_t *)&g->arg, 1};
  if (g->status == G_RUNNABLE && g->why == WAIT_NONE) mark_words(&born, l); /* it may not have begun */
  return true;
}

/* It may be served: what it holds is reached.  Its own channel, too, but not by itself. */
static void mark_suspect(struct leaks *l, struct suspect *s) {
  bool forever;
  s->lost = false;
  l->nown = waits_for(s->g, &l->own, &forever);
  roots_stack(l->roots, s->g, mark_words, l);
  l->nown = 0;
}

static void mark_all(struct leaks *l) {
  roots_each(l->roots, mark_words, l);
  stack_each(mark_stack, l);
  while (l->nwork) {
    const struct chan_mark *m = &l->chans[l->work[--l->nwork]];
    for (uint32_t w = m->first; w; w = l->waits[w - 1].next) {
      struct suspect *s = &l->suspects[l->waits[w - 1].suspect];
      if (s->lost) mark_suspect(l, s);
    }
  }
}

/* --- second pass: what only the heap leads to --- */

static bool counted_out(const struct chan_mark *m) {
  return m->done && !m->other && atomic_load_explicit(&m->c->refs, memory_order_relaxed) <= m->nwaits;
}

static uint32_t count_reached(struct leaks *l) {
  uint32_t boxed = 0;
  for (uint32_t i = 0; i < l->nsuspects; i++) l->suspects[i].reached = 0, l->suspects[i].by_count = false;
  for (uint32_t w = 0; w < l->nwaits; w++) {
    const struct chan_mark *m = &l->chans[l->waits[w].chan];
    l->suspects[l->waits[w].suspect].reached += m->done && !counted_out(m);
  }
  for (uint32_t i = 0; i < l->nsuspects; i++) {
    struct suspect *s = &l->suspects[i];
    s->by_count = !s->lost && s->reached == 0;
    boxed += s->by_count;
  }
  return boxed;
}

/* Those of counted-out channels alone, sorted. */
static void sort_boxes(struct leaks *l) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < l->nboxes; i++)
    if (counted_out(&l->chans[l->boxes[i].chan])) l->boxes[n++] = l->boxes[i];
  l->nboxes = n;
  for (uint32_t gap = n / 2; gap; gap /= 2)
    for (uint32_t i = gap; i < n; i++) {
      struct box x = l->boxes[i];
      uint32_t k = i;
      for (; k >= gap && l->boxes[k - gap].at > x.at; k -= gap) l->boxes[k] = l->boxes[k - gap];
      l->boxes[k] = x;
    }
  l->box_low = n ? l->boxes[0].at : 1;
  l->box_high = n ? l->boxes[n - 1].at : 0;
}

/* v may be the beginning of a block that box i lies in, and others after it. */
static void hold_boxes(struct leaks *l, uintptr_t v, uint32_t i) {
  uintptr_t size, end;
  if (!roots_heap_word(l->roots, v - 8, &size)) return;
  size &= ~(uintptr_t)7;
  if (size < 32 || size % 16 || size > BLOCK_MOST) return;
  end = v + size - 8;
  for (; i < l->nboxes && l->boxes[i].at < end; i++) l->chans[l->boxes[i].chan].other = true;
}

static void hold_words(const struct root_words *words, void *arg) {
  struct leaks *l = arg;
  for (size_t k = 0; k < words->n; k++) {
    uintptr_t v = words->w[k];
    if (v % 16 || v > l->box_high || v + BLOCK_MOST < l->box_low) continue;
    uint32_t low = 0, high = l->nboxes;
    while (low < high) {
      uint32_t mid = (low + high) / 2;
      if (l->boxes[mid].at < v)
        low = mid + 1;
      else
        high = mid;
    }
    if (low < l->nboxes && l->boxes[low].at - v < BLOCK_MOST) hold_boxes(l, v, low);
  }
}

static bool hold_stack(struct g *g, void *arg) {
  struct leaks *l = arg;
  if (g->kind != G_LIGHT || g->id == 0 || g->status == G_DEAD || is_suspect(g)) return true;
  roots_stack(l->roots, g, hold_words, l);
  struct root_words born = {ROOT_STACK, 0, (const uintptr_t *)&g->arg, 1};
  if (g->status == G_RUNNABLE && g->why == WAIT_NONE) hold_words(&born, l);
  return true;
}

static void find_by_count(struct leaks *l) {
  if (count_reached(l) == 0) return;
  sort_boxes(l);
  roots_each(l->roots, hold_words, l);
  stack_each(hold_stack, l);
  for (uint32_t i = 0; i < l->nsuspects; i++) {
    const struct suspect *s = &l->suspects[i];
    if (!s->lost && !s->by_count) roots_stack(l->roots, s->g, hold_words, l);
  }
  count_reached(l); /* with what is held now */
  for (uint32_t i = 0; i < l->nsuspects; i++) l->suspects[i].lost |= l->suspects[i].by_count;
}

/* --- two looks --- */

static int look(struct leaks **out, const struct unwind_regs *own, const struct leaks *before) {
  struct leaks *l = leaks_open();
  if (!l) return -ENOMEM;
  int r = roots_open(&l->roots, own->r[UNWIND_SP]);
  if (r == 0) {
    roots_exclude(l->roots, l, l->bytes);
    if (before) roots_exclude(l->roots, before, before->bytes);
    struct root_words regs = {ROOT_STACK, 0, own->r, UNWIND_REGS};
    mark_words(&regs, l);
    mark_all(l);
    find_by_count(l);
    roots_close(l->roots);
    *out = l;
    return 0;
  }
  procmaps_unmap(l, l->bytes);
  return r;
}

static bool lost_in(const struct leaks *l, uint64_t id, uint64_t since) {
  for (uint32_t i = 0; i < l->nsuspects; i++)
    if (l->suspects[i].id == id && l->suspects[i].since == since) return l->suspects[i].lost;
  return false;
}

/* Those of `l` that `before` has too: both are in the order of the stacks, as a rule at the same place. */
static int confirm(struct leaks *l, const struct leaks *before) {
  int n = 0;
  for (uint32_t i = 0; i < l->nsuspects; i++) {
    struct suspect *s = &l->suspects[i];
    bool same_place = i < before->nsuspects && before->suspects[i].id == s->id && before->suspects[i].since == s->since;
    s->lost = s->lost && (same_place ? before->suspects[i].lost : lost_in(before, s->id, s->since));
    n += s->lost;
  }
  return n;
}

static bool is_lost(const struct g *g, void *arg) { return lost_in(arg, g->id, g->since); }

static void give_back(struct leaks *l) {
  if (l) procmaps_unmap(l, l->bytes);
}

__attribute__((noinline)) int ration_leaks(int fd) {
  struct leaks *first = NULL, *second = NULL;
  struct unwind_regs own = {.known = 0}; /* nothing old in it: it is a root as well */
  int r = 0;
  unwind_from_here(&own);
  for (int i = 0; i < 2 && r == 0; i++) {
    if (!world_stop(PATIENCE_NS)) r = -EBUSY;
    if (r) break;
    r = look(i ? &second : &first, &own, first);
    world_start();
  }
  if (r == 0) r = confirm(second, first);
  if (r > 0 && fd >= 0) gdump_some(fd, &(struct gdump_filter){is_lost, second});
  give_back(first);
  give_back(second);
  return r;
}
