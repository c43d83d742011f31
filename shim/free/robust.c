/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Robust mutexes.  glibc keeps a list, in the thread's TCB, of those that it holds; the kernel walks it when the kernel thread ends.  A thread G that takes
 * one is wired, and the kernel is told of the list of its identity; but it may end, and its kernel thread goes on as a carrier.  Then we do
 * what the kernel would: mark those that it still holds, and wake one waiter of each.
 *
 * What the kernel would and we can't: hand a priority-inheriting one to a waiter and mark it too (FUTEX_UNLOCK_PI drops the mark).  If it holds such a one its kernel thread ends
 * with it (end_alone in thread.c), with nothing else in the list; not of a process's first thread, where the waiter gets it without EOWNERDEAD.
 */
#include "free/robust.h"
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include "core/sys.h"

#define ENTRIES_MOST 2048u /* the kernel's ROBUST_LIST_LIMIT: the list may be a circle */
#define ENTRY_PI ((uintptr_t)1)

struct robust_list_head *robust_list(void) {
  struct robust_list_head *head = NULL;
  size_t bytes = 0;
  return raw_syscall3(SYS_get_robust_list, 0, (long)&head, (long)&bytes) == 0 ? head : NULL;
}

void robust_set_list(struct robust_list_head *list) { raw_syscall2(SYS_set_robust_list, (long)list, sizeof *list); }

static void wake_dead(_Atomic uint32_t *word, uint32_t was, bool pi) {
  if (!(was & FUTEX_WAITERS)) return;
  if (pi)
    raw_syscall4(SYS_futex, (long)word, FUTEX_UNLOCK_PI, 0, 0);
  else
    sys_futex_wake(word, 1, true); /* it may be another process that waits */
}

/* False: the kernel is to do it. */
static bool owner_died(_Atomic uint32_t *word, uint32_t tid, bool pi, bool ends) {
  uint32_t was = atomic_load_explicit(word, memory_order_relaxed), now;
  do {
    if ((was & FUTEX_TID_MASK) != tid) return true;
    if (pi && ends && (was & FUTEX_WAITERS)) return false;
    now = pi && (was & FUTEX_WAITERS) ? was : (was & FUTEX_WAITERS) | FUTEX_OWNER_DIED; /* the kernel hands over what still has an owner */
    /* release: pairs with whoever locks it, and finds what it guards as it was left */
  } while (!atomic_compare_exchange_weak_explicit(word, &was, now, memory_order_release, memory_order_relaxed));
  wake_dead(word, was, pi);
  return true;
}

/* glibc's words: the list is linked both ways, and the link back of the head stands before it (struct pthread: robust_prev). */
static void make_empty(struct robust_list_head *head) {
  head->list.next = &head->list;
  head->list_op_pending = NULL;
  *((void **)head - 1) = head;
}

static _Atomic uint32_t *word_of(const struct robust_list_head *head, uintptr_t entry) {
  return (_Atomic uint32_t *)((entry & ~ENTRY_PI) + (uintptr_t)head->futex_offset);
}

void robust_forget(struct robust_list_head *head) {
  if (head && head->list.next != &head->list) make_empty(head);
}

/* Those that are the kernel's are linked by what is theirs: it holds them. */
bool robust_end(struct robust_list_head *head, bool ends) {
  uint32_t tid = sys_gettid();
  uintptr_t at = head ? (uintptr_t)head->list.next : 0, end = (uintptr_t)head;
  if (at == end) return true;
  struct robust_list *last = head ? &head->list : NULL, *first = last;
  for (uint32_t i = 0; head && (at & ~ENTRY_PI) != end && i < ENTRIES_MOST; i++) {
    struct robust_list *entry = (struct robust_list *)(at & ~ENTRY_PI);
    uintptr_t next = (uintptr_t)entry->next; /* before others may unmap it */
    if (!owner_died(word_of(head, at), tid, at & ENTRY_PI, ends)) {
      last->next = (struct robust_list *)at;
      last = entry;
    }
    at = next;
  }
  if (last == first) {
    robust_forget(head);
    return true;
  }
  last->next = first;
  head->list_op_pending = NULL;
  return false;
}
