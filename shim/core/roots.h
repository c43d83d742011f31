/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_ROOTS_H
#define RATION_CORE_ROOTS_H
/* The memory of this process, word by word, for leaks.c.  While the world stands; the stacks of light Gs are for the caller to ask for. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/g.h"

enum root_kind { ROOT_DATA, ROOT_HEAP, ROOT_STACK };
struct root_words {
  enum root_kind kind;
  uintptr_t at; /* of w[0] in the process; w is a copy */
  const uintptr_t *w;
  size_t n;
};
typedef void roots_fn(const struct root_words *words, void *arg);

struct roots;
/* sp: the caller's.  0 or -errno. */
int roots_open(struct roots **out, uintptr_t sp);
void roots_close(struct roots *r);
/* So many bytes there are none of the program's. */
void roots_exclude(struct roots *r, const void *at, size_t bytes);

/* Data, heap, and the stacks of threads. */
void roots_each(struct roots *r, roots_fn *fn, void *arg);
/* [from, to), as far as it was ever touched. */
void roots_range(struct roots *r, enum root_kind kind, uintptr_t from, uintptr_t to, roots_fn *fn, void *arg);
/* The live part of the stack of a G that nobody knows to be lost. */
void roots_stack(struct roots *r, const struct g *g, roots_fn *fn, void *arg);
/* Is `at` in the heap?  Then its word. */
bool roots_heap_word(struct roots *r, uintptr_t at, uintptr_t *v);

#endif
