/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_GDUMP_H
#define RATION_CORE_GDUMP_H
/* Dumps of light Gs: state, wait reason, for how long, stack.  Any thread, also without a TCB; in handlers of signals. */
#include <stdbool.h>
#include <stdint.h>
#include "core/g.h"
#include "core/out.h"
#include "core/symbol.h"

/* All that live; at most so many are written, in any order. */
#define GDUMP_MOST 100000u
void gdump_all(int fd);
/* The same into a descriptor that does not block; gives up at `until` (CLOCK_MONOTONIC ns). */
void gdump_until(int fd, uint64_t until);

/* Those that want() picks, which is called while the world stands.  Returns how many there were. */
struct gdump_filter {
  bool (*want)(const struct g *g, void *arg);
  void *arg;
};
uint32_t gdump_some(int fd, const struct gdump_filter *filter);

/* "function+0x12 (file)" */
void gdump_pc(struct out *o, struct symbols *s, uintptr_t pc, bool ret);
/* What it does, in a word: "runnable", or why it waits. */
const char *gdump_state(const struct g *g, bool on_thread);

#endif
