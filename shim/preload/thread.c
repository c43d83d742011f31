/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread_create: each new thread becomes an M with its wired G before the
 * program's function runs, and stays one until its last destructor has run.
 *
 * The end.  Thread-local destructors (C++, pthread_key) are the program's code, so the
 * M must outlive them.  glibc runs pthread_key destructors in up to PTHREAD_DESTRUCTOR_ITERATIONS rounds; ours
 * sets its key again until the last one.  What is left of the thread after that is glibc's own.
 *
 * That takes one of the PTHREAD_KEYS_MAX keys.  A program that wants them all gets it (thread_give_key_up): from then on a thread is an M until its cleanup
 * handlers have run, and its destructors run as those of a thread that ration does not know.
 */
#include "preload/thread.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <threads.h>
#include "client/client.h"
#include "client/env.h"
#include "core/carrier.h"
#include "core/cleanup.h"
#include "core/sched.h"
#include "free/cancel.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/process.h"
#include "preload/real.h"
#include "preload/signal.h"

#define REAL_THREAD(X)                                                                     \
  X(int, pthread_create, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)) \
  X(int, thrd_create, (thrd_t *, thrd_start_t, void *))                                    \
  X(int, pthread_attr_getsigmask_np, (const pthread_attr_t *, sigset_t *))
REAL_DEFINE(REAL_THREAD)
REAL_DECLARE_ONE(int, pthread_key_create, (pthread_key_t *, void (*)(void *))) /* free.c's */
REAL_DECLARE_ONE(int, pthread_key_delete, (pthread_key_t))

/* What the new thread needs to know; from a free list of our own, for malloc may be the caller. */
struct birth {
  struct birth *next;
  void *(*fn)(void *);
  thrd_start_t cfn;
  void *arg;
  struct m *m;
  struct fair fair;
  bool programs; /* made by the program, not by ration */
  bool changed;  /* its creator hands something down (free_hands_down), and so will it */
  bool by_g;     /* it would inherit a carrier's mask, and is to have this: */
  uint64_t mask;
};

static struct lock births_lock; /* guards free_births */
static struct birth *free_births;
static pthread_key_t end_key;
static bool sees_ends;        /* threads are Ms: there was a key */
static _Atomic bool have_key; /* and is.  Changes once, from true to false: relaxed, it publishes nothing */

#define BIRTHS_CHUNK 65536u
#define KEYS_ROOM 32 /* glibc's PTHREAD_KEY_2NDLEVEL_SIZE */

/* As sched_lock: a handler that parks, or leaves, would keep the lock. */
static void births_take(void) {
  m_hold(m_self);
  lock_take(&births_lock);
}

static void births_drop(void) {
  lock_drop(&births_lock);
  m_release(m_self);
}

/* In a forked child: whoever held the lock is not here. */
void thread_fork_child(void) {
  thread_g_fork_child();
  atomic_store_explicit(&sched_last_status, -1, memory_order_relaxed);
  atomic_store_explicit(&births_lock.word, 0, memory_order_relaxed);
  free_births = NULL; /* maybe half linked */
}

static struct birth *birth_get(void) {
  births_take();
  if (!free_births) {
    long at = raw_syscall6(SYS_mmap, 0, BIRTHS_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; at > 0 && i < BIRTHS_CHUNK / sizeof(struct birth); i++) {
      struct birth *fresh = (struct birth *)at + i;
      fresh->next = free_births;
      free_births = fresh;
    }
  }
  struct birth *b = free_births;
  if (b) free_births = b->next;
  births_drop();
  return b;
}

static void birth_put(struct birth *b) {
  births_take();
  b->next = free_births;
  free_births = b;
  births_drop();
}

/* In free mode.  Not inline: as set_ctx in free/cancel.c. */
static __attribute__((noinline)) void kernels_end(void) {
  if (sys_gettid() == sys_getpid())
    thread_main_exits();
  else if (m_self && !m_self->rations)
    thread_kernels_ends();
  cancel_kernel_ends();
}

static bool key_is_ours(void) { return atomic_load_explicit(&have_key, memory_order_relaxed); }

static __attribute__((noinline)) void note_end(int status) {
  if (m_self && !m_self->rations) sched_thread_leaves(status);
}

/* Not inline either. */
static __attribute__((noinline)) void thread_ends(int status) {
  note_end(status);
  if (free_mode) kernels_end();
  if (m_self) m_exit(m_self);
}

/* The key's value counts the rounds of destructors, from 1. */
static void at_end(void *value) {
  uintptr_t round = (uintptr_t)value;
  if (round < PTHREAD_DESTRUCTOR_ITERATIONS && key_is_ours() && pthread_setspecific(end_key, (void *)(round + 1)) == 0) return;
  thread_ends(0);
}

static void ends_without_key(void) {
  if (!key_is_ours()) thread_ends(0);
}

void thread_main_leaves(void) {
  if (sees_ends && m_self && m_self->tid == (uint32_t)sys_getpid()) ends_without_key();
}

static __attribute__((noinline)) bool is_m(uint32_t tid) { return m_self && m_self->tid == tid; }

/* The process's first: it lasts as long as others do. */
static __attribute__((noinline)) void main_exits_raw(int status) {
  atomic_store_explicit(&sched_last_status, status & 0xff, memory_order_relaxed);
  if (m_self) return; /* m_exit tells of it */
  sched_lock();
  sched_kick(sched_hooks.now());
  sched_unlock();
}

/* Not of one that is nobody's, but has our thread pointer (vfork); nor where a filter may forbid all but this call. */
void thread_exits_raw(int status) {
  if (sys_is_aside() || process_in_vfork_child()) return;
  uint32_t tid = sys_gettid();
  struct thread *self = thread_self();
  bool first = tid == sys_getpid();
  if (first) main_exits_raw(status);
  if (!is_m(tid)) return;
  if (self && !first) thread_vanishes(self, status);
  if (sees_ends) thread_ends(status);
}

/* One that is past its cleanup handlers just now ends unseen: its P is taken as that of a thread that is blocked, and its record is lost. */
bool thread_give_key_up(void) {
  if (!sees_ends || !atomic_exchange_explicit(&have_key, false, memory_order_relaxed)) return false;
  pthread_key_delete(end_key);
  return true;
}

static struct birth come_alive(struct birth *given) {
  struct birth b = *given;
  birth_put(given);
  if (b.by_g) sys_sigmask(b.mask);
  signal_born();
  if (key_is_ours()) pthread_setspecific(end_key, (void *)1);
  b.m->rations = !b.programs;
  m_start(b.m, &b.fair);
  b.m->changed = b.changed;
  if (free_mode && b.programs) cancel_kernel_begins();
  atomic_fetch_sub_explicit(&light.births, 1, memory_order_release); /* pairs with lie_down in core/carrier.c */
  return b;
}

static void *run(struct birth b) {
  __pthread_unwind_buf_t buf;
  if (__sigsetjmp_cancel(buf.__cancel_jmp_buf, 0) != 0) { /* pthread_exit, or cancelled */
    ends_without_key();
    __pthread_unwind_next(&buf);
  }
  __pthread_register_cancel(&buf);
  void *result = b.fn ? b.fn(b.arg) : (void *)(intptr_t)b.cfn(b.arg);
  __pthread_unregister_cancel(&buf);
  ends_without_key();
  return result;
}

static void *start_pthread(void *arg) { return run(come_alive(arg)); }
static int start_thrd(void *arg) { return (int)(intptr_t)run(come_alive(arg)); }

static __attribute__((noinline)) struct birth *birth_new(void) {
  struct birth *b = birth_get();
  if (!b) return NULL;
  b->m = m_alloc();
  if (!b->m) {
    birth_put(b);
    return NULL;
  }
  atomic_fetch_add_explicit(&light.births, 1, memory_order_relaxed); /* a G that parks after this takes it along */
  b->fair = (struct fair){0};
  b->by_g = false;
  b->mask = light_mask();
  if (m_self) {
    sched_lock();
    sched_charge(m_self, sched_hooks.now());
    b->fair = m_self->g->fair; /* a thread that is born of a hog is no newcomer */
    sched_unlock();
  }
  return b;
}

static struct birth *birth_make(bool programs) {
  if (client_env_now.mode == RATION_MODE_OFF || !sees_ends) return NULL;
  if (free_mode) cancel_kernel_begins(); /* the creator's, who may be main */
  struct birth *b = birth_new();         /* not inline: as set_ctx in free/cancel.c */
  if (!b) return NULL;
  b->programs = programs;
  b->changed = free_mode && free_hands_down();
  if (free_mode && programs) thread_kernels_begins();
  return b;
}

static void birth_undo(struct birth *b) {
  if (free_mode && b->programs) thread_kernels_stillborn();
  m_free(b->m);
  birth_put(b);
  atomic_fetch_sub_explicit(&light.births, 1, memory_order_relaxed);
}

/* These, or in `room` the defaults, to be let go of by attr_done; null: they can't be had. */
static const pthread_attr_t *attr_or_defaults(const pthread_attr_t *attr, pthread_attr_t *room) {
  return attr ? attr : pthread_getattr_default_np(room) == 0 ? room : NULL;
}
static void attr_done(const pthread_attr_t *at, pthread_attr_t *room) {
  if (at == room) pthread_attr_destroy(room);
}

/* They name a mask for the thread (glibc 2.32). */
static bool mask_of(const pthread_attr_t *at, uint64_t *mask) {
  sigset_t set;
  if (!at || !REAL_HAS(pthread_attr_getsigmask_np) || REAL(pthread_attr_getsigmask_np)(at, &set) != 0) return false;
  memcpy(mask, &set, sizeof *mask);
  return true;
}

static bool has_mask(const pthread_attr_t *attr) {
  uint64_t mask;
  pthread_attr_t room;
  const pthread_attr_t *at = attr_or_defaults(attr, &room);
  bool has = mask_of(at, &mask);
  attr_done(at, &room);
  return has;
}

/* In free mode, unless it can only be a thread of the kernel's. */
static bool as_thread_g(const pthread_attr_t *attr, struct thread_attr *a) {
  if (!__builtin_expect(free_mode, 0) || free_hands_down() || sys_is_aside()) return false;
  pthread_attr_t room;
  const pthread_attr_t *at = attr_or_defaults(attr, &room);
  bool may = at && thread_attr_of(at, a);
  if (may) a->has_mask = mask_of(at, &a->mask);
  attr_done(at, &room);
  return may;
}

/* A thread of the kernel's, which is an M. */
static int create_m(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg, bool programs) {
  struct birth *b = birth_make(programs);
  if (!b) return REAL(pthread_create)(t, attr, fn, arg);
  b->fn = fn;
  b->arg = arg;
  b->by_g = signal_carriers_mask() && !has_mask(attr);
  bool opened = signal_spawn_begin();
  int r = REAL(pthread_create)(t, attr, start_pthread, b);
  signal_keep_setxid();
  signal_spawn_end(opened);
  if (r != 0) birth_undo(b);
  return r;
}

static int create_rations(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
  client_ready();
  return create_m(t, attr, fn, arg, false);
}

EXPORT int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
  struct thread_attr a;
  client_ready();
  return as_thread_g(attr, &a) ? thread_create(t, &a, fn, NULL, arg) : create_m(t, attr, fn, arg, true);
}

static int thrd_of(int err) { return err == 0 ? thrd_success : err == ENOMEM ? thrd_nomem : thrd_error; }

EXPORT int thrd_create(thrd_t *t, thrd_start_t fn, void *arg) {
  struct thread_attr a;
  client_ready();
  if (as_thread_g(NULL, &a)) return thrd_of(thread_create(t, &a, NULL, fn, arg));
  struct birth *b = birth_make(true);
  if (!b) return REAL(thrd_create)(t, fn, arg);
  b->fn = NULL;
  b->cfn = fn;
  b->arg = arg;
  b->by_g = signal_carriers_mask() && !has_mask(NULL);
  bool opened = signal_spawn_begin();
  int r = REAL(thrd_create)(t, start_thrd, b);
  signal_keep_setxid();
  signal_spawn_end(opened);
  if (r != thrd_success) birth_undo(b);
  return r;
}

/*
 * The last of those that a thread has room for without an allocation: the program's own are numbered as without us, and a number that it has not been given, but uses (0), is as
 * often nobody's.
 */
static bool make_end_key(void) {
  pthread_key_t keys[KEYS_ROOM];
  int n = 0, best = -1;
  while (n < KEYS_ROOM && REAL(pthread_key_create)(&keys[n], at_end) == 0) n++;
  for (int i = 0; i < n; i++)
    if (best < 0 || (keys[i] < KEYS_ROOM && (keys[i] > keys[best] || keys[best] >= KEYS_ROOM))) best = i;
  if (best < 0) return false;
  end_key = keys[best];
  for (int i = 0; i < n; i++)
    if (i != best) REAL(pthread_key_delete)(keys[i]);
  return true;
}

void thread_init(void) {
  light_pthread_create = create_rations;
  sees_ends = make_end_key();
  atomic_store_explicit(&have_key, sees_ends, memory_order_relaxed);
}

void thread_adopt_main(void) {
  struct m *m = m_alloc();
  if (!m) return;
  if (sees_ends) pthread_setspecific(end_key, (void *)1);
  m_start(m, NULL);
}

static int create_identity(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg) {
  int r = REAL(pthread_create)(t, attr, fn, arg);
  signal_keep_setxid();
  return r;
}

bool thread_init_free(void) { return thread_g_init(create_identity); }
