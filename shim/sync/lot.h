/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_LOT_H
#define RATION_SYNC_LOT_H
/*
 * Where Gs wait for mutexes, wait groups, conditions, ...: notes and the parking lot.  lot.c has the protocol.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/light.h"

struct ration_context;
struct limited;

/* --- note: an event that happens once, and one G that waits for it --- */

/*
 *   0 --note_wait's commit--> NOTE_PARKED --note_set--> NOTE_WAKING --> NOTE_SET (the setter readies the G)
 *   0 --note_set--> NOTE_SET                            (the G does not park, or its commit says false)
 *   0, NOTE_PARKED --note_poke--> NOTE_POKED --the G has seen to its notice--> 0; or --note_set--> NOTE_SET
 *
 * A thread's G may be awake though the note says PARKED: a handler has run on it, which may have waited itself, and had the wake-up of this note (free_handler_ends).  It
 * looks at the note again, and while that says WAKING waits for the setter, who has the note and the G in hand.
 */
enum { NOTE_PARKED = 1, NOTE_SET = 2, NOTE_POKED = 3, NOTE_WAKING = 4 };
struct note {
  struct g *g; /* [set by the one that waits, before NOTE_PARKED] */
  _Atomic uint32_t state;
};
/* Zeros: not set.  Returns once note_set was called.  What is waited for (`on`) is for dumps. */
void note_wait(struct note *n, const void *on, enum wait_reason why);
/* Once.  The note may be gone when this returns.  next: see g_ready.  Nothing here blocks: also for timers and commit functions. */
void note_set(struct note *n, bool next);
/* If it is not set: the G wakes, sees to its notice (sync/stop.h), and waits on. */
void note_poke(struct note *n);

/* --- the lot --- */

struct waiter {
  struct note note;
  const void *_Atomic key; /* changes only in lot_move */
  /* [lock of the lot] */
  struct waiter *next, *prev;       /* FIFO of those with its key and priority; prev of the first is the last */
  struct waiter *chain, **chain_at; /* of the first: other keys of this lot; chain_at is null in the others */
  int priority;                     /* of the highest first */
  uint32_t forks;                   /* light_forks when it queued */
  bool queued;
  _Atomic bool moved;      /* by lot_move, and still there */
  bool interruptible;      /* [own] a signal takes it out: -EINTR (if it was moved: 0).  Else its handler runs while it stays */
  bool keeps_place;        /* [own] for lot_wait_in_place */
  struct waiter *stand_in; /* its, once a signal has come: has its place meanwhile */
  struct limited *limits;  /* [own] of its wait */
  /* between the one that takes it out, and the waiter once its note is set */
  bool handoff; /* of mutexes: the lock is the waiter's already */
  int result;   /* 0, or why it gave up */
  int64_t n;    /* of semaphores: how much it wants */
};
#define WAITER_INIT(what) \
  { .key = (what) }

struct lot {
  struct lock lock;
  struct waiter *keys;
  uint32_t wakes; /* free mode: signals and broadcasts of conditions of this lot, ever */
} __attribute__((aligned(64)));

/* The lot of this key, locked.  Never more than one at a time.  Keys that differ in their two lowest bits only share one: an object with two queues has one lock. */
struct lot *lot_lock(const void *key);
/* Not inline, as lot_lock: a caller that parks in between may come back on another thread, and aarch64's compilers keep the thread pointer. */
void lot_unlock(struct lot *l);
/* Locked.  The one that has waited longest, or null. */
struct waiter *lot_first(struct lot *l, const void *key);
/* Some thread may have a real-time priority: whoever is queued asks for its own.  Set for good (relaxed: by who sets the first one, before it does). */
extern bool lot_by_priority;
/* Locked, by the one that will wait.  front: before all others of its key and priority. */
void lot_push(struct lot *l, struct waiter *w, bool front);
/* Locked.  w is queued. */
void lot_remove(struct lot *l, struct waiter *w);
/* Locked, that of `key`.  w was taken out elsewhere, its note is not set: it goes on waiting here, as the last.  Its limit is over, it does not give up any more. */
void lot_move(struct lot *l, struct waiter *w, const void *key);
/* Locked.  All of this key, linked by next; null: none. */
struct waiter *lot_pop_all(struct lot *l, const void *key);
/* Not locked.  Sets the notes of a list that was taken out. */
void lot_wake_all(struct waiter *list);

/* Forks that this process is away from the first one: what is in progress since an earlier one is in progress no more. */
uint32_t lot_generation(void);

/* When waiting ends without success.  Null stands for: never. */
struct limit {
  uint64_t until; /* CLOCK_MONOTONIC ns; UINT64_MAX: never */
  struct ration_context *ctx;
};
/* The limit of a _timeout function: from now on, d <= 0: at once. */
struct limit limit_after(int64_t d);
/* 0, or why the waiting is over: -ETIMEDOUT, or the context's error. */
int limit_passed(const struct limit *lim);

/*
 * Not locked.  Waits until someone took w out and set its note: w->result, which is 0 if it was left alone.  Or until the limit has passed and w has taken itself
 * out: -ETIMEDOUT, -EINTR, or the error of the context.  Never both.  No one else knows of w when it returns.
 */
int lot_wait(struct waiter *w, const struct limit *lim, enum wait_reason why);

/*
 * As lot_wait without a limit, for waits that count who has come: its place stays taken while handlers run, also of one that leaves by siglongjmp.  The memory of the key
 * is not looked at.
 */
void lot_wait_in_place(struct waiter *w, enum wait_reason why);

static inline void spin_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

/* Public structs have plain words, for C++; here they are what they are. */
#define WORD(obj) ((_Atomic uint32_t *)&(obj)->word)

#endif
