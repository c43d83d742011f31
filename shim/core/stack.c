/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks of light Gs.
 *
 *   slab: 64 MiB of address space, 1,024 stacks
 *   | guard page |  64 KiB of stack, touched from its top down  | frames | struct g | color |  next stack ...
 *
 * The descriptor lies at the top of its own stack, so that a parked G costs one page, and a dead G's descriptor stays readable
 * (a late waker, a dump): slabs are never unmapped.  `color` moves the tops of neighbouring stacks apart, or the hot lines of all Gs
 * would fall into the same few sets of the cache.
 *
 * Guards: MADV_GUARD_INSTALL (Linux >= 6.13) marks a page without splitting the mapping.  Before that PROT_NONE, which makes two
 * mappings of each stack; when vm.max_map_count is used up, none.  Stacks of other sizes have a mapping of their own, which is
 * kept for the next one of that size.
 *
 * stack_lock guards the slabs and the shared free list; nothing else is taken under it.  A P's cache needs no lock: the owner of the P is alone.
 *
 * Trimming: idle stacks keep their pages for two calls of stack_trim, then MADV_DONTNEED takes all but the descriptor's.
 */
#include "core/stack.h"
#include <string.h>
#include <sys/mman.h>
#include "core/fiber.h"
#include "core/lock.h"

/* Constants of the layout are an enum, so that they are in the debug information: gdb/ration-gdb.py finds all Gs by them. */
enum {
  SLAB_BYTES = 64 << 20,
  SLAB_STACKS = SLAB_BYTES / STACK_BYTES_DEFAULT,
  COLORS = 8,
  COLOR_BYTES = 192,
};
#define SLABS_MOST 65536u
#define PAGE 4096u
#define TRIM_MOST 1000u /* at once: whoever does the monitor's part has other things to do, and the lock is taken */
#define BATCH (STACK_CACHE / 2)
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static struct lock stack_lock;
static char *slabs[SLABS_MOST];
static uint32_t nslabs, next_in_slab = SLAB_STACKS;
struct free_list {
  struct g *first; /* by next */
  uint32_t n;
  /* of trim */
  uint32_t idle_before;
  bool more; /* the last time has left some, below those that it trimmed */
};
static struct free_list usual, sized;
static struct g *sized_all; /* of other sizes, by all */
static enum { STACK_GUARD_MARK, STACK_GUARD_PROT, STACK_GUARD_NONE } guard;

char *stack_map(size_t bytes) {
  long at = raw_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (at < 0 && at > -4096) return NULL;
  raw_syscall3(SYS_madvise, at, (long)bytes, MADV_NOHUGEPAGE); /* else the first touch of a stack may cost 2 MiB */
  return (char *)at;
}

void stack_guard(char *at, size_t bytes) {
  if (bytes == 0) return;
  if (guard == STACK_GUARD_MARK && raw_syscall3(SYS_madvise, (long)at, (long)bytes, MADV_GUARD_INSTALL) == 0) return;
  if (guard == STACK_GUARD_MARK) guard = STACK_GUARD_PROT;
  if (guard == STACK_GUARD_PROT && raw_syscall3(SYS_mprotect, (long)at, (long)bytes, PROT_NONE) == 0) return;
  guard = STACK_GUARD_NONE;
}

static struct g *descriptor(char *stack, size_t bytes, uint32_t index) {
  uintptr_t top = (uintptr_t)stack + bytes - (index % COLORS) * COLOR_BYTES;
  return (struct g *)((top - sizeof(struct g)) & ~(uintptr_t)63);
}

/* What lies between the guard and the descriptor is stack. */
static struct g *describe(char *stack, size_t bytes, uint32_t index) {
  struct g *g = descriptor(stack, bytes, index);
  g->stack = stack;
  g->stack_bytes = (uint32_t)bytes;
  valgrind_stack(stack + PAGE, (size_t)((char *)g - stack) - PAGE);
  return g;
}

const char *stack_bottom(const struct g *g) { return g->stack ? (const char *)g->stack + PAGE : NULL; }

void *stack_top(const struct g *g) { return (void *)((uintptr_t)g & ~(uintptr_t)15); }

/* A stack that nobody has had yet. Lock held. */
static struct g *fresh(void) {
  if (next_in_slab == SLAB_STACKS) {
    char *slab = nslabs < SLABS_MOST ? stack_map(SLAB_BYTES) : NULL;
    if (!slab) return NULL;
    slabs[nslabs] = slab;
    __atomic_store_n(&nslabs, nslabs + 1, __ATOMIC_RELEASE); /* pairs with stack_guard_hit, which takes no lock */
    next_in_slab = 0;
  }
  uint32_t i = next_in_slab++;
  char *stack = slabs[nslabs - 1] + (size_t)i * STACK_BYTES_DEFAULT;
  stack_guard(stack, PAGE);
  return describe(stack, STACK_BYTES_DEFAULT, i);
}

static void push(struct free_list *l, struct g *g) {
  g->next = l->first;
  l->first = g;
  l->n++;
}

static struct g *shared_pop(void) {
  struct g *g = usual.first;
  if (!g) return NULL;
  usual.first = g->next;
  usual.n--;
  return g;
}

/* From the shared list, some more for c (null: none) along with it. */
static struct g *get_shared(struct stack_cache *c) {
  struct g *g, *more;
  lock_take(&stack_lock);
  g = shared_pop();
  if (!g) g = fresh();
  while (c && c->n < BATCH && (more = shared_pop())) c->free[c->n++] = more;
  lock_drop(&stack_lock);
  return g;
}

struct g *stack_get(struct stack_cache *c) {
  return __builtin_expect(c && c->n, 1) ? c->free[--c->n] : get_shared(c);
}

static void spill(struct stack_cache *c) {
  lock_take(&stack_lock);
  /* The older half: the newer ones are warm. */
  for (uint32_t i = 0; i < BATCH; i++) push(&usual, c->free[i]);
  lock_drop(&stack_lock);
  memmove(c->free, c->free + BATCH, (STACK_CACHE - BATCH) * sizeof *c->free);
  c->n -= BATCH;
}

void stack_put(struct stack_cache *c, struct g *g) {
  bool usual_size = g->stack_bytes == STACK_BYTES_DEFAULT;
  if (__builtin_expect(!usual_size || !c, 0)) { /* !c: of a carrier that lost its P */
    lock_take(&stack_lock);
    push(usual_size ? &usual : &sized, g);
    lock_drop(&stack_lock);
    return;
  }
  if (__builtin_expect(c->n == STACK_CACHE, 0)) spill(c);
  c->free[c->n++] = g;
}

struct g *stack_get_sized(size_t bytes) {
  lock_take(&stack_lock);
  for (struct g **p = &sized.first; *p; p = &(*p)->next) {
    struct g *g = *p;
    if (g->stack_bytes != bytes) continue;
    *p = g->next;
    sized.n--;
    lock_drop(&stack_lock);
    return g;
  }
  char *stack = stack_map(bytes);
  struct g *g = NULL;
  if (stack) {
    stack_guard(stack, PAGE);
    g = describe(stack, bytes, 0);
    g->all = sized_all;
    __atomic_store_n(&sized_all, g, __ATOMIC_RELEASE); /* pairs with stack_guard_hit */
  }
  lock_drop(&stack_lock);
  return g;
}

void stack_each(bool (*fn)(struct g *g, void *arg), void *arg) {
  lock_take(&stack_lock);
  uint32_t n = nslabs, in_last = next_in_slab;
  struct g *other = sized_all;
  lock_drop(&stack_lock);
  for (uint32_t s = 0; s < n; s++)
    for (uint32_t i = 0; i < (s + 1 == n ? in_last : SLAB_STACKS); i++)
      if (!fn(descriptor(slabs[s] + (size_t)i * STACK_BYTES_DEFAULT, STACK_BYTES_DEFAULT, i), arg)) return;
  for (; other; other = other->all)
    if (!fn(other, arg)) return;
}

struct g *stack_guard_hit(uintptr_t addr) {
  uint32_t n = __atomic_load_n(&nslabs, __ATOMIC_ACQUIRE); /* pairs with fresh */
  for (uint32_t s = 0; s < n; s++) {
    uintptr_t from = (uintptr_t)slabs[s];
    if (addr < from || addr - from >= SLAB_BYTES) continue;
    uint32_t i = (uint32_t)((addr - from) / STACK_BYTES_DEFAULT);
    return (addr - from) % STACK_BYTES_DEFAULT < PAGE ? descriptor(slabs[s] + (size_t)i * STACK_BYTES_DEFAULT, STACK_BYTES_DEFAULT, i)
                                                      : NULL;
  }
  for (struct g *g = __atomic_load_n(&sized_all, __ATOMIC_ACQUIRE); g; g = g->all) /* pairs with stack_get_sized */
    if (addr - (uintptr_t)g->stack < PAGE) return g;
  return NULL;
}

static void drop_pages(struct g *g) {
  g->trimmed = true;
  uintptr_t last = (uintptr_t)g & ~(uintptr_t)(PAGE - 1); /* the descriptor's page stays */
  raw_syscall3(SYS_madvise, (long)g->stack + PAGE, (long)(last - (uintptr_t)g->stack - PAGE), MADV_DONTNEED);
}

/* Lock held.  *n: how many have been trimmed. */
static void trim(struct free_list *l, uint32_t *n) {
  uint32_t idle = l->n < l->idle_before ? l->n : l->idle_before; /* at least so many were not needed since the last time */
  l->idle_before = l->n;
  uint32_t skip = l->n - idle; /* the list is a stack: the idle ones are at its end */
  bool left = false;
  for (struct g *g = l->first; g && !left; g = g->next) {
    if (skip) {
      skip--;
      continue;
    }
    if (g->trimmed && !l->more) break; /* and so are all below it */
    if (g->trimmed) continue;
    left = *n == TRIM_MOST;
    if (left) break;
    ++*n;
    drop_pages(g);
  }
  l->more = left;
}

bool stack_trim(void) {
  uint32_t n = 0;
  lock_take(&stack_lock);
  trim(&usual, &n);
  trim(&sized, &n);
  bool left = usual.more || sized.more;
  lock_drop(&stack_lock);
  return left;
}

void stack_fork_child(void) {
  atomic_store_explicit(&stack_lock.word, 0, memory_order_relaxed); /* the child has one thread */
  memset(&usual, 0, sizeof usual);
  memset(&sized, 0, sizeof sized);
  next_in_slab = SLAB_STACKS;
}
