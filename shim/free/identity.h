/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_IDENTITY_H
#define RATION_FREE_IDENTITY_H
/*
 * Thread identities: what glibc takes for a thread (TCB, TLS, pthread_t) without a kernel thread of its own.  identity.c says how they are made.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct robust_list_head;
#define THREAD_ID_FIRST (1u << 27)  /* tids from here on are ours */
#define THREAD_ID_PLACES (1u << 19) /* below that: what they are modulo this no two that live have in common */
#define THREAD_ID_CLOCKS (1u << 28) /* those below have a CPU clock: its number is negative, and has 28 bits for them */

struct identity {
  void *tp; /* its thread pointer */
  pthread_t self;
  char *map; /* guard, stack, TLS and TCB, from the lowest byte up */
  size_t bytes, guard;
  void *top;                       /* where the first frame goes */
  struct robust_list_head *robust; /* of the mutexes that it holds */
  uint32_t tid;                    /* what glibc has for its tid: above all that the kernel gives */
  uint32_t place, lives;           /* what its tids are made of */
  bool worn;                       /* somebody has lived in it: identity_refresh */
  _Atomic bool executable;         /* its stack is: identity_runs_code */
  _Atomic uint32_t alive;          /* futex; cleared by the kernel when the thread that it was harvested from is gone */
};

typedef int identity_create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* Once, before the program has threads; create: glibc's own pthread_create.  False: this glibc is not one that we know our way in; no identities then. */
bool identity_init(identity_create_fn *create);
/*
 * Makes one with a stack of so many bytes (TLS and TCB included, as glibc has it), above a guard.  0 or an errno.  Nobody may wear it before
 * identity_ripe, which may block for moments: begin several, then wait for all.
 */
int identity_harvest(struct identity *id, size_t stack, size_t guard);
void identity_ripe(struct identity *id);
/* Before a new life, which nobody knows of yet: a tid that the last one did not have. */
void identity_renumber(struct identity *id);
/* Where glibc has its tid, and the kernel would clear it at the end. */
int *identity_tid_address(const struct identity *id);
/* The caller's identity is as that of a new thread: TLS, errno, locale, cancellation.  True: a library has come that wants all stacks to be executable. */
bool identity_refresh(struct identity *id);
/* Its stack is from now on. */
void identity_runs_code(struct identity *id);
/* At its end, what libc has kept for the caller, and would not be there for a new thread: of dlerror, and of the resolver, with its sockets. */
void identity_forget_libcs(void);
/* The caller's C++ destructors of thread_local objects. */
void identity_tls_dtors(void);

/* The caller's identity gets the tid that its thread has, and back. */
void identity_real_tid(struct identity *id, bool real);

/* The kernel thread whose own thread pointer this is is about to end: glibc has no tid for it any more.  Returns what it is in glibc's eyes. */
pthread_t identity_gone(void *tp);

/* glibc's flags of a thread's cancellation; and that it is asked to take over credentials: setxid.h. */
enum {
  IDENTITY_CANCEL_OFF = 1,
  IDENTITY_CANCEL_ASYNC = 2,
  IDENTITY_CANCELING = 4,
  IDENTITY_CANCELED = 8,
  IDENTITY_EXITING = 16,
  IDENTITY_SETXID = 64
};
_Atomic uint32_t *identity_cancel_word(const struct identity *id);
_Atomic uint32_t *identity_cancel_word_of(pthread_t t); /* any thread's */

#endif
