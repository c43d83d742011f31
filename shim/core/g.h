/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_G_H
#define RATION_CORE_G_H
/*
 * G: a unit of execution.  One struct for all three kinds (DESIGN, "One
 * scheduler, three kinds of G"); here is what the scheduler itself needs of it.
 *
 *             grant                      M blocks, P retaken
 *   RUNNABLE ------> RUNNING -----------------------------> SYSCALL
 *      ^  ^            |  \                                    |
 *      |  '------------'   '--> WAITING (parked by g_park) -.  | M is back,
 *      |     preempted, paced, yielded                      |  | no P free
 *      '----------------------- g_ready --------------------'--'
 *
 * All changes happen under sched.lock.
 */
#include <stdbool.h>
#include <stdint.h>
#include "core/fiber.h"
#include "core/netpoll.h"

enum g_kind { G_LIGHT, G_THREAD, G_WIRED };
enum g_status { G_DEAD, G_RUNNABLE, G_RUNNING, G_SYSCALL, G_WAITING };

/* Why a G waits; shown in dumps and by schedtrace. */
enum wait_reason {
  WAIT_NONE,
  WAIT_SYSCALL,
  WAIT_SLEEP,
  WAIT_MUTEX,
  WAIT_COND,
  WAIT_RWLOCK,
  WAIT_SEMA,
  WAIT_BARRIER,
  WAIT_JOIN,
  WAIT_POLL,
  WAIT_IO,
  WAIT_SIGNAL,
  WAIT_CHILD,
  WAIT_PREEMPTED,
  WAIT_PACED,
  /* light Gs */
  WAIT_CHAN_SEND,
  WAIT_CHAN_RECV,
  WAIT_SELECT,
  WAIT_CHAN_NIL, /* a nil channel, or select without cases: for ever */
  WAIT_WAITGROUP,
  WAIT_CONTEXT,
  WAIT_WORKER,
  WAIT_REASONS
};
const char *wait_reason_name(enum wait_reason why);

/* Lately used CPU time, halved every FAIR_HALFLIFE_NS (fair.c). */
struct fair {
  uint64_t usage; /* ns as of `at` */
  uint64_t at;
};

enum thread_wake { THREAD_READIED = 1, THREAD_ASLEEP };

/* [own] Whether it is worth while to spin before a sleep (core/spin.h). */
struct spin {
  uint8_t skip;    /* so many sleeps without, from now on */
  uint8_t backoff; /* and after the next one in vain twice that */
};

struct m;
struct carrier;
struct note;
struct ration_context;
/* kind: a light G runs with its carrier's thread identity, a thread G with its own, a wired one is the G of a thread */
struct g {
  struct g *next, *prev; /* in a gqueue, or the free list */
  uint64_t id;
  enum g_kind kind;
  enum g_status status;
  enum wait_reason why;
  bool express; /* queued as a newcomer */
  bool queued;  /* in a gqueue */
  bool stopped; /* its P was taken because it had enough: it comes back as a hog */
  bool front;   /* and its slice was not over then: it goes on before the others of its class */
  bool batch;   /* it had enough, and has not come back from a block since */
  bool enough;  /* queued because it had enough, not because it came back from a block: it stays a hog while it waits */
  bool newborn; /* has not blocked yet: see FAIR_BIRTH_NS */
  struct fair fair;
  uint32_t gs;         /* of a carrier's thread: so many Gs have had it run lately, whose usage its own is; 0: it is one G */
  uint32_t window;     /* [its carrier] the last of light.window in which it ran */
  uint64_t slice_used; /* ns of its slice that it had before a pause */
  uint64_t since;      /* CLOCK_MONOTONIC ns of the last change of status */
  struct m *lockedm;   /* the M it is wired to */

  /* light and thread Gs: light.c */
  void *sp;           /* its registers, while it does not run */
  void *tp;           /* of a thread G: its thread pointer; null: the carrier's */
  void (*fn)(void *); /* what it runs */
  void *arg;
  struct g *all;                                   /* of those with stacks of their own size; stack.c */
  bool hands_over;                                 /* when it readied another G the last time, it parked next */
  enum { G_READIED_NONE, G_READIED_NEXT } readied; /* since it was dispatched */
  bool trimmed;                                    /* the pages of its stack were given back */
  void *stack;                                     /* lowest byte of its stack's address space; a thread G's: above its guard */
  uint32_t stack_bytes;
  uint32_t locked; /* ration_lock_os_thread, nested */
  int saved_errno;
  bool in_libcall;                  /* inside of a long call into libc: what that calls must not park (preload/lightio.c) */
  _Atomic uint32_t wake;            /* of a G that is a thread: futex, 0 or enum thread_wake */
  struct spin spin;                 /* the same */
  uint64_t created_by;              /* id */
  const void *waiting_on;           /* the channel, mutex, ...; for dumps and leak checks */
  const void *selects;              /* the select that it is parked in; for leak checks */
  void *wait;                       /* of shim/sync, while it is parked: what it waits with */
  _Atomic uint32_t select_done;     /* of select: 0 armed, 1 someone has won */
  struct ration_context *io_ctx;    /* [own] ends its waits for descriptors; a reference.  Null: none */
  struct fiber fiber;               /* what sanitizers know it by */
  _Atomic uintptr_t stop;           /* of a wait that others may end: sync/stop.h */
  struct stop *waits;               /* [own, and handlers on its thread] the wait that it is in: sync/stop.h */
  _Atomic uint32_t notice;          /* of a thread G: there is something for it to see to (sync/stop.h) */
  uint32_t forks;                   /* light_forks when it was born: less than that, and it has stayed in a parent */
  struct note *note;                /* [own] that it waits for, or did when a handler left it; only whether there is one is looked at */
  _Atomic uint64_t cpu;             /* of a thread G: ns that it was charged; [its carrier] (cpuclock.c) */
  _Atomic(struct carrier *) cpu_on; /* the same: where it is being charged more; null: it does not run */
  struct netpoll_use use;           /* of a thread G: of the descriptor that its call waits for */
  char name[24];
};

#endif
