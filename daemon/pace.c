/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h says what this is. */
#include "pace.h"
#include <uthash.h>
#include "util.h"

struct pace {
  pid_t pid;
  uint64_t rest; /* owed until then, for the answers that there were */
  uint64_t next; /* and with those that wait */
  uint64_t cost; /* of the last one */
  UT_hash_handle hh;
};

/* Two looks for each entry that may be made: those that are over do not pile up. */
static void forget_old(struct pace **all, uint64_t now) {
  for (int i = 0; i < 2 && *all; i++) {
    struct pace *p = *all;
    HASH_DEL(*all, p);
    if (p->next <= now)
      free(p);
    else
      HASH_ADD(hh, *all, pid, sizeof(p->pid), p);
  }
}

static struct pace *find(struct pace *all, pid_t pid) {
  struct pace *p;
  HASH_FIND(hh, all, &pid, sizeof(pid), p);
  return p;
}

uint64_t pace_when(struct pace **all, pid_t pid, uint64_t now) {
  struct pace *p = find(*all, pid);
  if (!p) return now;
  uint64_t at = p->next > now + PACE_FREE_NS ? p->next - PACE_FREE_NS : now;
  p->next = UTIL_MAX(p->next, now) + PACE_FACTOR * p->cost;
  return at;
}

uint64_t pace_turn(struct pace **all, pid_t pid, uint64_t now) {
  const struct pace *p = find(*all, pid);
  return p && p->rest > now + PACE_FREE_NS ? pace_when(all, pid, now) : now;
}

void pace_charge(struct pace **all, pid_t pid, uint64_t cost_ns, uint64_t now) {
  forget_old(all, now);
  struct pace *p = find(*all, pid);
  if (!p) {
    p = calloc(1, sizeof(*p));
    if (!p) return;
    p->pid = pid;
    HASH_ADD(hh, *all, pid, sizeof(p->pid), p);
  }
  p->cost = cost_ns;
  p->rest = UTIL_MAX(p->rest, now) + PACE_FACTOR * cost_ns;
  p->next = UTIL_MAX(p->next, p->rest);
}

void pace_free(struct pace **all) {
  struct pace *p, *next;
  HASH_ITER(hh, *all, p, next) {
    HASH_DEL(*all, p);
    free(p);
  }
}
