/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thread Gs, from birth to their next life.
 *
 *            thread_create                 fn returns, pthread_exit, cancelled; has left its stack
 *   SPARE --------------> JOINABLE --------------------------------------> ENDED --thread_join--> SPARE
 *     ^     |                 | thread_detach                                | thread_detach
 *     |     '--detached--> DETACHED -----------------------------------------'--> SPARE
 *     '-------------------------'
 *
 * SPARE ones lie in lists, one for each size of stack, with their identity and their stack, and are used again without a kernel thread being made.  The first
 * SPARE_SIZES sizes are exact; a program that wants still others gets the next of a few larger ones, or each of its threads might be the last of its size.  Records
 * are never given back: pthread_t is an address in the identity, and who asks of a thread that was joined long ago reads a record that is there.
 *
 * The end.  glibc's own unwinding (pthread_exit, cancellation) goes from frame to frame until it meets the buffer that was registered last.  The first is
 * ours, in thread_call_to_end: there it stops, as at a pthread_cleanup_push, and we do what start_thread would: destructors of thread_local objects, then of keys.
 *
 * life changes under the lot's lock of its address, where joiners wait.  spares_lock guards the lists.  Both are leaves.
 */
#include "free/thread.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "core/carrier.h"
#include "core/cleanup.h"
#include "core/sched.h"
#include "free/cancel.h"
#include "free/free.h"
#include "free/kill.h"
#include "free/maker.h"
#include "free/most.h"
#include "free/pspin.h"
#include "free/robust.h"
#include "free/setxid.h"
#include "free/shared.h"
#include "ration/context.h"
#include "sync/context.h"
#include "ration/g.h"
#include "sync/lot.h"
#include "sync/stop.h"

enum life { LIFE_SPARE, LIFE_JOINABLE, LIFE_DETACHED, LIFE_ENDED };

struct thread {
  struct thread *next; /* [spares_lock] */
  struct thread *all;  /* [written under spares_lock] */
  struct identity id;
  size_t asked, asked_guard; /* [own] what its stack is for the program; id has what there is */
  struct g g;
  void *(*fn)(void *);
  int (*cfn)(void *);
  void *arg, *result;
  struct ration_context *cancel;            /* ends its waits; cancelled with it, and made anew for the next life */
  enum life life;                           /* [lot of its address] */
  bool left_alone;                          /* [lot] SPARE: it ended detached, nobody joined it */
  struct thread *joins;                     /* [lot of the other's life] whom it waits for */
  int *clear_tid;                           /* [own] of set_tid_address; null: glibc's, which nobody waits for */
  bool joined;                              /* [lot] somebody waits for it, or has been woken */
  char name[16];                            /* [spares_lock] */
  _Atomic uint64_t mask;                    /* [own to write] the signals that it blocks */
  uint64_t born_mask;                       /* [own] and did when it began */
  struct robust_list_head *carriers_robust; /* [own] while it has its thread */
  struct cancel at_once;                    /* it is cancelled where it can't look itself */
  _Atomic bool changed; /* that kernel thread is nobody's after it; others set it before they ask for one (free_wire_other) */
  stack_t alt;          /* [own] for handlers: what its kernel thread gets (altstack.c) */
  _Atomic int policy;   /* set from outside, for when it is wired; -1: none */
  struct kill kill;     /* the signals that it is sent */
  bool forked;          /* it is the process's first thread: of a child that it forked */
  struct {
    uint32_t tid;                       /* of the kernel thread that it had */
    uint64_t utime, stime;              /* us that were said */
    uint64_t kernels_user, kernels_sys; /* us that the kernel said of that thread */
  } usage;                              /* [own] when thread_usage was last asked for */
  bool trimmed;                         /* [spares_lock] SPARE: it has no memory below its first frames */
  bool torn;            /* it left by a raw exit: what libc has on its stack and in its TLS is not to be met by a next life */
  bool robust_left;     /* its kernel thread ends with it, and the kernel sees to its robust mutexes */
  struct carrier *lent; /* [own] whose thread it has; null: it is a G like others */
};

#define SPARE_SIZES 16u
#define SPARE_LISTS 128u
#define THREADS_CHUNK (64u << 10)
#define BATCH_MOST 32u
#define JOIN_SPIN_NS 10000u
#define PLACES_CHUNK 1024u

static struct lock spares_lock;
static struct {
  size_t stack, guard;
  struct thread *list;
} spares[SPARE_LISTS];
static uint32_t nsizes;
static struct thread *bare; /* [spares_lock] records that nobody has lived in */
static char *chunk, *chunk_end;
static struct thread *threads; /* all records, by all; pairs free_threads_each with record: release, acquire */
static struct thread *
    *places[THREAD_ID_PLACES / PLACES_CHUNK]; /* [written under spares_lock] by their tids; pairs thread_by_id with take_place: the same */

static __thread struct thread *self_thread __attribute__((tls_model("initial-exec")));
static ptrdiff_t self_offset; /* of self_thread from the pthread_t of its thread; the same for all */

struct thread *thread_self(void) {
  return *(struct thread *volatile *)&self_thread;
}

struct thread *thread_of(pthread_t t) {
  return free_mode ? *(struct thread *volatile *)((char *)t + self_offset) : NULL;
}

const struct identity *thread_identity(const struct thread *t) { return &t->id; }
bool thread_in_libcall(const struct thread *t) { return t->g.in_libcall; }
uint32_t thread_id(const struct thread *t) { return t->id.tid; }

void thread_priorities_matter(void) { __atomic_store_n(&lot_by_priority, true, __ATOMIC_RELAXED); }

static int born_policy;     /* the process's */
static pthread_t main_self; /* the first thread's; in the child of a fork the forker's */

bool thread_g_init(identity_create_fn *create) {
  main_self = pthread_self();
  self_offset = (char *)&self_thread - (char *)main_self;
  born_policy = (int)raw_syscall1(SYS_sched_getscheduler, 0) & ~SCHED_RESET_ON_FORK;
  if (sched_has_priorities(born_policy)) thread_priorities_matter();
  kill_init();
  return identity_init(create);
}

/* --- keys --- */

static struct { void (*destroy)(void *); } keys[PTHREAD_KEYS_MAX];
static _Atomic uint32_t keys_top; /* there has never been a key from here on */

void thread_key_made(pthread_key_t key, void (*destroy)(void *)) {
  if (key >= PTHREAD_KEYS_MAX) return;
  __atomic_store_n(&keys[key].destroy, destroy, __ATOMIC_RELEASE); /* pairs with destroy_values */
  uint32_t top = atomic_load_explicit(&keys_top, memory_order_relaxed);
  while (top <= key && !atomic_compare_exchange_weak_explicit(&keys_top, &top, key + 1, memory_order_release, memory_order_relaxed))
    continue;
}

void thread_key_gone(pthread_key_t key) {
  if (key < PTHREAD_KEYS_MAX) __atomic_store_n(&keys[key].destroy, NULL, __ATOMIC_RELEASE);
}

/* One round over all keys.  True: there was something, and there may be more. */
static bool destroy_values(void) {
  bool any = false;
  uint32_t top = atomic_load_explicit(&keys_top, memory_order_acquire);
  for (pthread_key_t k = 0; k < top; k++) {
    void (*destroy)(void *) = __atomic_load_n(&keys[k].destroy, __ATOMIC_ACQUIRE);
    void *value = destroy ? pthread_getspecific(k) : NULL;
    if (!value) continue;
    pthread_setspecific(k, NULL);
    destroy(value);
    any = true;
  }
  return any;
}

/* Values of keys without a destructor must not be seen by the next life. */
static void drop_values(void) {
  uint32_t top = atomic_load_explicit(&keys_top, memory_order_relaxed);
  for (pthread_key_t k = 0; k < top; k++)
    if (pthread_getspecific(k)) pthread_setspecific(k, NULL);
}

/* --- spares --- */

static struct thread *record(void) {
  if (chunk == chunk_end) {
    long at = raw_syscall6(SYS_mmap, 0, THREADS_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096) return NULL;
    chunk = (char *)at;
    chunk_end = chunk + THREADS_CHUNK / sizeof(struct thread) * sizeof(struct thread);
  }
  struct thread *t = (struct thread *)chunk;
  chunk += sizeof *t;
  t->all = threads;
  __atomic_store_n(&threads, t, __ATOMIC_RELEASE);
  return t;
}

/* light.c knows it by name. */
void free_threads_each(bool (*fn)(struct g *g, void *arg), void *arg);
void free_threads_each(bool (*fn)(struct g *g, void *arg), void *arg) {
  for (struct thread *t = __atomic_load_n(&threads, __ATOMIC_ACQUIRE); t; t = t->all)
    if (!fn(&t->g, arg)) return;
}

void threads_each(bool (*fn)(struct thread *t, void *arg), void *arg) {
  for (struct thread *t = __atomic_load_n(&threads, __ATOMIC_ACQUIRE); t; t = t->all) /* pairs with record */
    if (!fn(t, arg)) return;
}

/* Lock held; null: there are too many sizes. */
static struct thread **spares_of(size_t stack, size_t guard) {
  for (uint32_t i = 0; i < nsizes; i++)
    if (spares[i].stack == stack && spares[i].guard == guard) return &spares[i].list;
  if (nsizes == SPARE_LISTS) return NULL;
  spares[nsizes].stack = stack;
  spares[nsizes].guard = guard;
  return &spares[nsizes++].list;
}

/* The next of four sizes between a power of two and the next one. */
static size_t rounded(size_t bytes) {
  if (bytes <= 4 * 4096) return bytes;
  size_t step = ((size_t)1 << (63 - __builtin_clzl(bytes))) / 4;
  return (bytes + step - 1) / step * step;
}

/* What a thread with these attributes gets: as much, or more.  Not inline: as set_ctx in cancel.c. */
static __attribute__((noinline)) struct thread_attr size_for(const struct thread_attr *a) {
  struct thread_attr got = *a;
  run_lock(&spares_lock);
  bool exact = nsizes < SPARE_SIZES;
  for (uint32_t i = 0; i < nsizes && !exact; i++) exact = spares[i].stack == a->stack && spares[i].guard == a->guard;
  run_unlock(&spares_lock);
  if (exact) return got;
  got.stack = rounded(a->stack);
  got.guard = rounded(a->guard);
  return got;
}

/* Of this size; or a record without identity (id.tp null). */
static struct thread *spare_get(size_t stack, size_t guard) {
  run_lock(&spares_lock);
  struct thread **list = spares_of(stack, guard);
  if (!list || !*list) list = &bare;
  struct thread *t = *list;
  if (t)
    *list = t->next;
  else
    t = record();
  run_unlock(&spares_lock);
  return t;
}

#define TRIM_KEPT 32768u /* of each stack: most threads need no more, and need it again */

static void trim(const struct identity *id) {
  char *bottom = id->map + id->guard, *kept = (char *)((uintptr_t)((char *)id->top - TRIM_KEPT) & ~(uintptr_t)4095);
  if (kept > bottom) raw_syscall3(SYS_madvise, (long)bottom, kept - bottom, MADV_DONTNEED);
}

/* Those without an identity lie apart: before one of them another that has one is used, however often none could be had. */
static void spare_put(struct thread *t) {
  if (t->torn) { /* glibc uses it again, and calls destructors of the life before */
    if (!atomic_load_explicit(&t->id.alive, memory_order_relaxed)) trim(&t->id); /* else end_alone is on it */
    return;
  }
  run_lock(&spares_lock);
  struct thread **list = t->id.tp ? spares_of(t->id.bytes - t->id.guard, t->id.guard) : &bare;
  if (list) { /* else it is lost */
    t->trimmed = false;
    t->next = *list;
    *list = t;
  }
  run_unlock(&spares_lock);
}

#define TRIM_MOST 64u /* at a time: they are not to be had meanwhile */

/* Lock held.  Takes up to TRIM_MOST off *list, that have not been trimmed. */
static struct thread *take_untrimmed(struct thread **list, uint32_t *n) {
  struct thread *taken = NULL;
  while (*list && *n < TRIM_MOST) {
    struct thread *t = *list;
    if (t->trimmed) {
      list = &t->next;
      continue;
    }
    *list = t->next;
    t->next = taken;
    taken = t;
    ++*n;
  }
  return taken;
}

/* Lock held.  At the end: the others are warm. */
static void put_trimmed(struct thread **list, struct thread *taken) {
  for (struct thread *t = taken; t; t = t->next) t->trimmed = true;
  while (*list) list = &(*list)->next;
  *list = taken;
}

/*
 * core knows it by name: now and then, and where a carrier idles.  Not at the end of each thread, as glibc has it: there the call would cost as much as the thread.  True: there may be more.
 */
bool free_trim(void);
bool free_trim(void) {
  uint32_t n = 0, i = 0;
  struct thread *taken = NULL;
  run_lock(&spares_lock);
  while (i < nsizes && !(taken = take_untrimmed(&spares[i].list, &n))) i++;
  run_unlock(&spares_lock);
  if (!taken) return false;
  for (struct thread *t = taken; t; t = t->next) trim(&t->id);
  run_lock(&spares_lock);
  put_trimmed(&spares[i].list, taken);
  run_unlock(&spares_lock);
  return true;
}

/* --- how many --- */

/* When main has left by pthread_exit, the process ends with its last thread.  lives counts thread Gs, main, and what other threads the program made. */
static _Atomic uint32_t lives = 1;
static _Atomic uint32_t nlent;    /* of these, wired ones */
static _Atomic uint32_t nkernels; /* of these, other threads of the kernel's */
static _Atomic bool main_left;

bool thread_is_main(void) { return pthread_self() == main_self; }
bool thread_main_gone(void) { return atomic_load_explicit(&main_left, memory_order_relaxed); }

/* preload/taskdir.c's: there are threads that neither ration nor the program has made: glibc's own, for SIGEV_THREAD and the like. */
bool taskdir_has_others(void) __attribute__((weak));

#define OTHERS_FIRST_NS 1000000u
#define OTHERS_MOST_NS 100000000u

/* Nobody tells of their end: with glibc's own count of threads, in which identities and carriers are, it never comes. */
static void *await_others(void *arg) {
  for (uint64_t nap = OTHERS_FIRST_NS; taskdir_has_others(); nap = nap * 2 < OTHERS_MOST_NS ? nap * 2 : OTHERS_MOST_NS)
    ration_sleep((ration_ns)nap);
  return arg;
}

/* A last thread, which ends after those.  False: there are none. */
static bool outlive_others(void) {
  struct thread_attr a = {.has_mask = true, .mask = ~(uint64_t)0};
  pthread_attr_t defaults;
  pthread_t t;
  if (!taskdir_has_others || !taskdir_has_others() || pthread_attr_init(&defaults) != 0) return false;
  pthread_attr_setdetachstate(&defaults, PTHREAD_CREATE_DETACHED);
  bool fine = thread_attr_of(&defaults, &a) && thread_create(&t, &a, await_others, NULL, NULL) == 0;
  pthread_attr_destroy(&defaults);
  return fine;
}

static void life_over(void) {
  if (atomic_fetch_sub_explicit(&lives, 1, memory_order_acq_rel) == 1 && !outlive_others()) sched_end_process();
}

void thread_main_exits(void) {
  atomic_store_explicit(&main_left, true, memory_order_relaxed);
  life_over();
  shared_watch(); /* none of the kernel's is left that has anything open */
}

void thread_kernels_begins(void) {
  atomic_fetch_add_explicit(&nkernels, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&lives, 1, memory_order_relaxed);
}

void thread_kernels_stillborn(void) {
  atomic_fetch_sub_explicit(&nkernels, 1, memory_order_relaxed);
  atomic_fetch_sub_explicit(&lives, 1, memory_order_relaxed);
}

void thread_kernels_ends(void) {
  atomic_fetch_sub_explicit(&nkernels, 1, memory_order_relaxed);
  life_over();
}

/* One more.  False: there are as many as may be. */
static bool life_begins(void) {
  if (atomic_fetch_add_explicit(&lives, 1, memory_order_relaxed) <= free_most()) return true;
  atomic_fetch_sub_explicit(&lives, 1, memory_order_relaxed);
  return false;
}

/* It came to nothing.  The creator lives, so this is never the last. */
static int stillborn(int err) {
  atomic_fetch_sub_explicit(&lives, 1, memory_order_relaxed);
  return err;
}

/* These change one after the other: for a moment it may be one too few. */
uint32_t thread_count(void) {
  int64_t n = atomic_load_explicit(&lives, memory_order_relaxed);
  n -= atomic_load_explicit(&nlent, memory_order_relaxed) + atomic_load_explicit(&nkernels, memory_order_relaxed);
  n -= !atomic_load_explicit(&main_left, memory_order_relaxed);
  return n > 0 ? (uint32_t)n : 0;
}

/* --- birth --- */

bool thread_attr_of(const pthread_attr_t *at, struct thread_attr *a) {
  void *addr = NULL;
  int detach = PTHREAD_CREATE_JOINABLE, inherit = PTHREAD_INHERIT_SCHED, policy = SCHED_OTHER;
  cpu_set_t set;
  bool ok = pthread_attr_getstack(at, &addr, &a->stack) == 0 && (uintptr_t)addr + a->stack == 0; /* no stack of the program's */
  ok = ok && pthread_attr_getguardsize(at, &a->guard) == 0 && pthread_attr_getdetachstate(at, &detach) == 0;
  ok = ok && pthread_attr_getinheritsched(at, &inherit) == 0 && inherit == PTHREAD_INHERIT_SCHED;
  if (inherit != PTHREAD_INHERIT_SCHED && pthread_attr_getschedpolicy(at, &policy) == 0 && sched_has_priorities(policy))
    thread_priorities_matter();
  ok = ok && pthread_attr_getaffinity_np(at, sizeof set, &set) == 0 && CPU_COUNT(&set) == CPU_SETSIZE; /* all: none was set */
  ok = ok && (a->stack != 0 || pthread_attr_getstacksize(at, &a->stack) == 0);
  a->guard = (a->guard + 4095) & ~(size_t)4095;
  a->asked = a->stack & ~(size_t)63; /* as glibc, which aligns TLS so */
  a->stack = (a->stack + 4095) & ~(size_t)4095;
  a->detached = detach == PTHREAD_CREATE_DETACHED;
  return ok;
}

/* Noinline: what it keeps over fn is in its own frame, also where fn comes back on another kernel thread. */
__attribute__((noinline)) void thread_call_to_end(void (*fn)(void *), void *arg) {
  __pthread_unwind_buf_t buf;
  if (__sigsetjmp_cancel(buf.__cancel_jmp_buf, 0) == 0) {
    __pthread_register_cancel(&buf);
    fn(arg);
  }
  __pthread_unregister_cancel(&buf);
}

/* The program's function. */
static void body(void *arg) {
  struct thread *t = arg;
  t->result = t->fn ? t->fn(t->arg) : (void *)(intptr_t)t->cfn(t->arg);
}

/* --- masks and wires --- */

bool thread_is_g(const struct thread *t) { return !t->lent; }
void *thread_carriers_tp(const struct thread *t) { return t->lent ? t->lent->tp : NULL; }

/* Those that nobody blocks: SIGKILL, SIGSTOP, glibc's own two. */
#define NEVER_BLOCKED ((uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1) | (uint64_t)3 << 31)

void thread_mask(struct thread *t, int how, const uint64_t *set, uint64_t *old) {
  uint64_t was = thread_blocked(t);
  if (old) *old = was;
  if (!set) return;
  uint64_t mask = how == SIG_BLOCK ? was | *set : how == SIG_UNBLOCK ? was & ~*set : *set;
  mask &= ~NEVER_BLOCKED;
  atomic_store_explicit(&t->mask, mask, memory_order_relaxed);
  if (t->born_mask & ~mask)
    free_wire(FREE_WIRE_SIGNALS);
  else if (was & ~mask)
    shared_opens();
}

static void take_mask(struct thread *t, const struct thread_attr *a) {
  sigset_t set;
  uint64_t mask = a->mask;
  if (!a->has_mask) {
    pthread_sigmask(SIG_BLOCK, NULL, &set); /* the preload's, which knows what the program thinks: of SIGURG, and of a thread G's */
    memcpy(&mask, &set, sizeof mask);
  }
  mask &= ~NEVER_BLOCKED;
  atomic_store_explicit(&t->mask, mask, memory_order_relaxed);
  t->born_mask = mask;
}

/* light.c knows it by name. */
void free_paper_mask(uint64_t *mask);
void free_paper_mask(uint64_t *mask) {
  struct thread *self = thread_self();
  if (self && !self->lent) *mask = thread_blocked(self);
}

void thread_changes_its_own(struct thread *t) { atomic_store_explicit(&t->changed, true, memory_order_relaxed); }
stack_t *thread_altstack(struct thread *t) { return &t->alt; }
bool thread_has_changed(const struct thread *t) { return GLANCE(t->changed); }

int thread_set_sched(struct thread *t, int policy, int priority) {
  int now, prio;
  thread_get_sched(t, &now, &prio);
  if (policy < 0) policy = now;
  if (sched_has_priorities(policy)) return EPERM; /* no promise that a G could keep: it could not be wired */
  if ((policy != SCHED_OTHER && policy != SCHED_BATCH && policy != SCHED_IDLE) || priority != 0) return EINVAL;
  atomic_store_explicit(&t->policy, policy, memory_order_relaxed);
  return 0;
}

void thread_get_sched(const struct thread *t, int *policy, int *priority) {
  int set = atomic_load_explicit(&t->policy, memory_order_relaxed);
  *policy = set < 0 ? born_policy : set;
  *priority = 0;
}

static void apply_policy(struct thread *t) {
  const struct sched_param none = {0};
  int policy = atomic_load_explicit(&t->policy, memory_order_relaxed);
  if (policy < 0) return;
  thread_changes_its_own(t);
  raw_syscall3(SYS_sched_setscheduler, 0, policy, (long)&none);
}

/* preload/signal.c's: the program thinks that the caller blocks SIGURG. */
void signal_shadow(bool blocked) __attribute__((weak));

#define URG_BIT ((uint64_t)1 << (SIGURG - 1))

bool thread_wire(struct thread *t, ucontext_t *uc) {
  uint64_t had = sys_sigmask(SYS_SIGSET_MOST); /* what comes now is not to be handled before the mask is the program's */
  if (t->lent || !(t->lent = carrier_lend())) {
    sys_sigmask(had);
    return false;
  }
  atomic_fetch_add_explicit(&nlent, 1, memory_order_relaxed);
  identity_real_tid(&t->id, true);
  t->carriers_robust = robust_list();
  robust_set_list(t->id.robust);
  apply_policy(t);
  thread_cancel_state(t);
  raw_syscall2(SYS_prctl, PR_SET_NAME, (long)t->name);
  kill_drop_private();
  if (signal_shadow) signal_shadow(thread_blocked(t) & URG_BIT);
  kill_wired(&t->kill, t->lent->m);
  uint64_t mask = thread_blocked(t) & ~URG_BIT;
  if (uc) {
    uc->uc_stack = t->alt;
    memcpy(&uc->uc_sigmask, &mask, sizeof mask);
    return true;
  }
  raw_syscall2(SYS_sigaltstack, (long)&t->alt, 0);
  sys_sigmask(mask); /* what is pending runs its handler here */
  return true;
}

/* It leaves children, which the kernel is to tell of its end (PR_SET_PDEATHSIG).  Not of one that is itself a forked child's first. */
static bool mourned(const struct carrier *c) {
  return !c->foster && !sys_is_aside() && sys_gettid() != sys_getpid() && carrier_has_children();
}

/* All signals blocked, from here on nobody sends it any. */
static void unwire(struct thread *t) {
  if (t->lent) sys_sigmask(carrier_sigmask() | carrier_opens);
  kill_over(&t->kill);
  if (!t->lent) return;
  kill_drop_private();
  if (signal_shadow) signal_shadow(false);
  (void)robust_end(t->id.robust, false);
  robust_set_list(t->carriers_robust);
  carrier_take_back(t->lent);
  if (GLANCE(t->changed) || mourned(t->lent)) carrier_ends(t->lent); /* no other G is to have that kernel thread */
  t->lent = NULL;
  atomic_fetch_sub_explicit(&nlent, 1, memory_order_relaxed);
  identity_real_tid(&t->id, false);
  raw_syscall2(SYS_prctl, PR_SET_NAME, (long)"ration-carrier");
}

/* --- set_tid_address --- */

int thread_set_tid_address(struct thread *t, int *at) {
  t->clear_tid = at == identity_tid_address(&t->id) ? NULL : at;
  return gettid();
}

int *thread_tid_address(const struct thread *t) { return t->clear_tid ? t->clear_tid : identity_tid_address(&t->id); }

/* At its end, as the kernel does: the memory may be gone, so the kernel is to write, by a futex operation that sets and wakes. */
static void clear_tid(struct thread *t) {
  if (!t->clear_tid) return;
  raw_syscall6(SYS_futex, (long)t->clear_tid, FUTEX_WAKE_OP, 1, 0, (long)t->clear_tid, FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0));
}

void free_thread_left(struct g *g);

static void lent_gone(struct thread *t) {
  carrier_gone(t->lent, &t->g);
  atomic_fetch_sub_explicit(&nlent, 1, memory_order_relaxed);
}

/* The first thread of a child that a thread G has forked: its carrier is the parent's (of what it says here nothing is so), and others go on without it, as without main. */
static void first_gone(struct thread *t) {
  if (m_self) m_exit(m_self);
  t->robust_left = !sys_is_aside();
  t->forked = false;
  main_self = 0; /* its identity may be another's next */
}

/*
 * The kernel thread that t has ends here, on t's stack, with what is still in its list of robust mutexes: the carrier is no more (what glibc has of it stays, a small stack; through glibc, which
 * waits for the same word of the kernel's, nobody could tell when t's mutexes are free).  Who joins t may use its identity again before we are off it: get() waits for that (identity_ripe), as after the
 * harvest.
 */
static _Noreturn void end_alone(struct thread *t) {
  sys_sigmask(SYS_SIGSET_ALL);
  kill_over(&t->kill);
  identity_real_tid(&t->id, false);
  if (!t->forked) setxid_answer(identity_gone(t->lent->tp));
  setxid_answer(t->id.self);
  atomic_store_explicit(&t->id.alive, 1, memory_order_relaxed);
  if (!sys_is_aside()) raw_syscall1(SYS_set_tid_address, (long)&t->id.alive); /* else no G will be made, and need it */
  if (t->forked)
    first_gone(t);
  else
    lent_gone(t);
  t->lent = NULL;
  free_thread_left(&t->g);
  raw_syscall1(SYS_exit, 0);
  __builtin_unreachable();
}

/* Also of one that is about to be harvested: identity_ripe looks. */
static bool runs_code(struct thread *t, void *arg) {
  (void)arg;
  if (t->id.tp) identity_runs_code(&t->id);
  return true;
}

/* The kernel has nothing of t's to hand on at the end of the thread that t has. */
static bool goes_back(struct thread *t) {
  sys_sigmask(SYS_SIGSET_ALL);
  t->robust_left = !robust_end(t->id.robust, true);
  return !t->robust_left;
}

/* All but the program's own ends has been. */
static _Noreturn void leave(struct thread *t, int status) {
  sched_thread_leaves(status);
  if (t->forked)
    thread_main_exits();
  else
    life_over();
  clear_tid(t);
  if (t->forked || (t->lent && (sys_is_aside() || !goes_back(t)))) end_alone(t);
  unwire(t);
  light_thread_end();
  raw_syscall1(SYS_exit, 0); /* not reached: it is on its carrier */
  __builtin_unreachable();
}

static void thread_main(void *arg) {
  struct thread *t = arg;
  if (identity_refresh(&t->id)) threads_each(runs_code, NULL);
  t->g.io_ctx = t->cancel;
  t->g.fn = (void (*)(void *))(t->fn ? (void (*)(void))t->fn : (void (*)(void))t->cfn); /* for dumps: whose it is */
  memcpy(t->g.name, t->name, sizeof t->name);
  kill_opens(&t->kill);
  t->result = PTHREAD_CANCELED;
  thread_call_to_end(body, t);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  t->g.io_ctx = NULL;
  identity_tls_dtors();
  for (int i = 0; i < PTHREAD_DESTRUCTOR_ITERATIONS && destroy_values(); i++) continue;
  drop_values();
  identity_forget_libcs();
  leave(t, 0);
}

void thread_vanishes(struct thread *self, int status) {
  self->torn = true;
  self->result = NULL;
  self->g.io_ctx = NULL;
  atomic_fetch_or_explicit(identity_cancel_word(&self->id), IDENTITY_EXITING, memory_order_relaxed); /* who cancels it leaves it alone */
  leave(self, status);
}

/* It begins with its creator's. */
static void take_name(struct thread *t) {
  struct thread *self = thread_self();
  if (self)
    thread_get_name(self, t->name);
  else
    raw_syscall2(SYS_prctl, PR_GET_NAME, (long)t->name);
}

/* For thread_by_id. */
static void take_place(struct thread *t) {
  uint32_t place = t->id.place;
  if (place >= THREAD_ID_PLACES) return;
  run_lock(&spares_lock);
  struct thread **chunk_of = places[place / PLACES_CHUNK];
  if (!chunk_of) {
    long at = raw_syscall6(SYS_mmap, 0, PLACES_CHUNK * sizeof t, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at > 0 || at < -4095) chunk_of = (struct thread **)at;
    __atomic_store_n(&places[place / PLACES_CHUNK], chunk_of, __ATOMIC_RELEASE);
  }
  if (chunk_of) __atomic_store_n(&chunk_of[place % PLACES_CHUNK], t, __ATOMIC_RELEASE);
  run_unlock(&spares_lock);
}

/* All that is known of an identity that is ripe. */
static void settle_in(struct thread *t) {
  identity_ripe(&t->id);
  *(struct thread **)((char *)t->id.self + self_offset) = t;
  take_place(t);
  t->g.stack = t->id.map + t->id.guard;
  size_t bytes = (size_t)((char *)t->id.top - (char *)t->g.stack);
  t->g.stack_bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

/* How many identities to harvest at once: waiting for the kernel is shared by them.  A program with few threads gets few. */
static uint32_t batch_size(void) {
  uint32_t n = atomic_load_explicit(&lives, memory_order_relaxed) / 4;
  return n < 1 ? 1 : n > BATCH_MOST ? BATCH_MOST : n;
}

/* A record with an identity, or null with an errno in *err. */
static struct thread *get(const struct thread_attr *a, int *err) {
  struct thread *batch[BATCH_MOST], *t = spare_get(a->stack, a->guard);
  *err = EAGAIN;
  if (t && t->id.tp) { /* see end_alone */
    identity_ripe(&t->id);
    robust_forget(t->id.robust);
    t->robust_left = false;
  }
  if (!t || t->id.tp) return t;
  uint32_t n = 0, most = batch_size();
  while (t && !t->id.tp && n < most && (*err = identity_harvest(&t->id, a->stack, a->guard)) == 0) {
    batch[n++] = t;
    t = n < most ? spare_get(a->stack, a->guard) : NULL;
  }
  if (t) spare_put(t); /* it came back from somebody meanwhile, or could not be had */
  for (uint32_t i = 0; i < n; i++) settle_in(batch[i]);
  for (uint32_t i = 1; i < n; i++) spare_put(batch[i]);
  return n ? batch[0] : NULL;
}

/* A context that nobody has cancelled. */
static bool give_context(struct thread *t) {
  if (t->cancel && ration_context_err(t->cancel)) {
    ration_context_unref(t->cancel);
    t->cancel = NULL;
  }
  if (!t->cancel) t->cancel = ration_context_with_cancel(NULL);
  return t->cancel != NULL;
}

/* Of main's it has what main has, of a G's not more than that one. */
static bool may_open_more(const struct thread_attr *a) {
  const struct thread *self = thread_self();
  return a->has_mask || (self ? self->lent != NULL : !thread_is_main());
}

int thread_create(pthread_t *out, const struct thread_attr *a, void *(*fn)(void *), int (*cfn)(void *), void *arg) {
  if (light_start() < 0 || maker_keep() != 0) return EAGAIN;
  cancel_kernel_begins(); /* the creator's, who may be main */
  if (!life_begins()) return EAGAIN;
  int r;
  const struct thread_attr size = size_for(a);
  struct thread *t = get(&size, &r);
  if (!t) return stillborn(r);
  if (!give_context(t)) {
    spare_put(t);
    return stillborn(EAGAIN);
  }
  t->fn = fn;
  t->cfn = cfn;
  t->arg = arg;
  t->asked = a->asked;
  t->asked_guard = a->guard;
  t->joins = NULL;
  t->joined = false;
  t->life = a->detached ? LIFE_DETACHED : LIFE_JOINABLE;
  t->clear_tid = NULL;
  t->g.tp = t->id.tp;
  identity_renumber(&t->id);
  take_name(t);
  take_mask(t, a);
  t->lent = NULL;
  kill_born(&t->kill, &t->g);
  atomic_store_explicit(&t->changed, false, memory_order_relaxed);
  atomic_store_explicit(&t->policy, -1, memory_order_relaxed);
  t->alt = (stack_t){.ss_flags = SS_DISABLE};
  memset(&t->usage, 0, sizeof t->usage);
  cancel_born(&t->at_once, &t->g, &t->id);
  atomic_store_explicit(identity_cancel_word(&t->id), 0, memory_order_relaxed);
  *out = t->id.self;
  if (may_open_more(a)) shared_opens();
  light_go_thread(&t->g, t->id.top, thread_main, t);
  return 0;
}

/* --- the end --- */

/* On the stack of who came after it; light.c knows it by name.  Or at the end of a thread that is no carrier's any more. */
void free_thread_left(struct g *g) {
  struct thread *t = (struct thread *)((char *)g - offsetof(struct thread, g));
  struct lot *lot = lot_lock(&t->life);
  bool detached = t->life == LIFE_DETACHED;
  t->life = detached ? LIFE_SPARE : LIFE_ENDED;
  t->left_alone = detached;
  struct waiter *w = lot_first(lot, &t->life);
  if (w)
    lot_remove(lot, w);
  else
    t->joined = false; /* who has joined it is in a handler, or has left that by siglongjmp */
  lot_unlock(lot);
  if (w) note_set(&w->note, false);
  if (detached) spare_put(t);
}

void thread_exits(void *result) { thread_self()->result = result; }

/* Lock of the lot held; dropped.  t is ended and the caller's. */
static int take_result(struct thread *t, struct lot *lot, void **result) {
  t->life = LIFE_SPARE;
  if (result) *result = t->result;
  lot_unlock(lot);
  if (t->robust_left) identity_ripe(&t->id); /* who comes back from the join finds its mutexes without an owner */
  spare_put(t);
  return 0;
}

int thread_tryjoin(struct thread *t, void **result) {
  struct lot *lot = lot_lock(&t->life);
  if (t->life == LIFE_ENDED && !t->joined) return take_result(t, lot, result);
  int r = t->life == LIFE_SPARE ? ESRCH : t->life == LIFE_ENDED ? EINVAL : EBUSY; /* EBUSY also of a detached one, as glibc's */
  lot_unlock(lot);
  return r;
}

/*
 * A thread of the kernel's joins: going to sleep and being woken is ten times the life of a short G, so it looks on while t is run elsewhere, for
 * as long as falling asleep would take.  A G parks for less than that.
 */
static void watch_end(struct thread *t) {
  if (carrier_now() || !pspin_others_run()) return;
  uint64_t until = sys_now() + JOIN_SPIN_NS;
  for (unsigned i = 1; __atomic_load_n(&t->life, __ATOMIC_RELAXED) == LIFE_JOINABLE; i++) { /* a hint; the lot's lock orders */
    enum g_status status = __atomic_load_n(&t->g.status, __ATOMIC_RELAXED);
    if (status == G_WAITING || (i % 16 == 0 && sys_now() >= until)) return;
    spin_pause();
  }
}

/* Lock of the lot held; dropped.  Who has left this by siglongjmp is not queued. */
static int wait_for_end(struct thread *t, struct lot *lot, const struct limit *lim) {
  for (;;) {
    struct waiter w = WAITER_INIT(&t->life);
    w.interruptible = true;
    enum life life = t->life;
    if (life == LIFE_JOINABLE) lot_push(lot, &w, false);
    lot_unlock(lot);
    if (life != LIFE_JOINABLE) return life == LIFE_ENDED ? 0 : -EINVAL;
    int r = lot_wait(&w, lim, WAIT_JOIN);
    if (r != -EINTR) return r;
    stop_notice();
    lot = lot_lock(&t->life);
  }
}

static bool is_waited_for(struct thread *t) {
  struct lot *lot = lot_lock(&t->life);
  bool is = lot_first(lot, &t->life) != NULL;
  lot_unlock(lot);
  return is;
}

/* Lock of the lot held.  As glibc has it, while the pthread_t is not another's. */
static int not_joinable(const struct thread *t) { return t->life == LIFE_SPARE && !t->left_alone ? ESRCH : EINVAL; }

int thread_join(struct thread *t, void **result, const struct limit *lim) {
  struct thread *self = thread_self();
  if (t == self) return EDEADLK;
  watch_end(t);
  bool waits_for_us = self && t->joins == self && is_waited_for(self);
  struct lot *lot = lot_lock(&t->life);
  if (t->life == LIFE_ENDED && !t->joined) return take_result(t, lot, result);
  int r = t->life != LIFE_JOINABLE || lot_first(lot, &t->life) ? not_joinable(t) : waits_for_us ? EDEADLK : 0;
  if (r != 0) {
    lot_unlock(lot);
    return r;
  }
  t->joined = true;
  if (self) self->joins = t;
  r = wait_for_end(t, lot, lim);
  lot = lot_lock(&t->life);
  t->joined = false;
  if (self) self->joins = NULL;
  if (r == 0 && t->life == LIFE_ENDED) return take_result(t, lot, result);
  lot_unlock(lot);
  return r == 0 ? EINVAL : -r; /* 0: another has had it, while a handler interrupted us */
}

int thread_detach(struct thread *t) {
  struct lot *lot = lot_lock(&t->life);
  enum life was = t->life;
  if (t->joined && (was == LIFE_JOINABLE || was == LIFE_ENDED)) { /* it is that one's, as with glibc */
    lot_unlock(lot);
    return 0;
  }
  if (was == LIFE_JOINABLE) t->life = LIFE_DETACHED;
  if (was == LIFE_ENDED) t->life = LIFE_SPARE, t->left_alone = true;
  int r = was == LIFE_JOINABLE || was == LIFE_ENDED ? 0 : not_joinable(t);
  lot_unlock(lot);
  if (was == LIFE_ENDED) spare_put(t);
  return r;
}

int thread_getattr(struct thread *t, pthread_attr_t *attr) {
  int r = pthread_attr_init(attr);
  if (r == 0) r = pthread_attr_setstack(attr, t->id.map + t->id.bytes - t->asked, t->asked);
  if (r == 0) r = pthread_attr_setguardsize(attr, t->asked_guard);
  if (r == 0 && t->life == LIFE_DETACHED) r = pthread_attr_setdetachstate(attr, PTHREAD_CREATE_DETACHED);
  return r;
}

void thread_set_name(struct thread *t, const char *name) {
  run_lock(&spares_lock);
  strncpy(t->name, name, sizeof t->name - 1);
  memcpy(t->g.name, t->name, sizeof t->name);
  run_unlock(&spares_lock);
}

void thread_get_name(struct thread *t, char *name) {
  run_lock(&spares_lock);
  memcpy(name, t->name, sizeof t->name);
  run_unlock(&spares_lock);
}

/* --- cancellation --- */

/*
 * Its waits end with its context only while it may be cancelled.  Who cancelled it before has left the context alone: either that one saw it enabled, or
 * it sees the mark here.
 */
void thread_cancel_state(struct thread *self) {
  struct ration_context *ctx = thread_cancel_context(self);
  self->g.io_ctx = self->lent ? NULL : ctx;
  uint32_t word = atomic_load_explicit(identity_cancel_word(&self->id), memory_order_seq_cst); /* pairs with thread_cancel */
  if (ctx && (word & IDENTITY_CANCELED)) context_end(ctx);
}

/* The marks are glibc's own, so that its pthread_testcancel acts on them, and are set both at once: it waits for no signal of its own then (cancel.c). */
int thread_cancel(struct thread *t) {
  _Atomic uint32_t *word = identity_cancel_word(&t->id);
  if (t->life == LIFE_ENDED || (atomic_load_explicit(word, memory_order_relaxed) & IDENTITY_EXITING)) return 0;
  uint32_t was =
      atomic_fetch_or_explicit(word, IDENTITY_CANCELING | IDENTITY_CANCELED, memory_order_seq_cst); /* pairs with thread_cancel_state */
  if (was & IDENTITY_CANCEL_OFF) return 0;
  if (t == thread_self() && (was & IDENTITY_CANCEL_ASYNC)) free_testcancel();
  context_end(t->cancel);
  if (was & IDENTITY_CANCEL_ASYNC) {
    kill_stop(&t->kill);
    cancel_at_once(&t->at_once);
  }
  return 0;
}

struct ration_context *thread_cancel_context(struct thread *t) {
  uint32_t word = atomic_load_explicit(identity_cancel_word(&t->id), memory_order_relaxed);
  return word & (IDENTITY_CANCEL_OFF | IDENTITY_EXITING) ? NULL : t->cancel;
}

/* --- signals --- */

struct kill *thread_kill_of(struct thread *t) {
  return &t->kill;
}

uint64_t thread_blocked(const struct thread *t) { return atomic_load_explicit(&t->mask, memory_order_relaxed); }

struct thread *thread_by_id(uint32_t id) {
  uint32_t place = id % THREAD_ID_PLACES;
  struct thread **known =
      id < THREAD_ID_CLOCKS ? __atomic_load_n(&places[place / PLACES_CHUNK], __ATOMIC_ACQUIRE) : NULL; /* pairs with take_place */
  struct thread *t = known ? __atomic_load_n(&known[place % PLACES_CHUNK], __ATOMIC_ACQUIRE) : NULL;
  if (t && t->id.tid == id) return t;
  if (known) return NULL;
  t = __atomic_load_n(&threads, __ATOMIC_ACQUIRE); /* pairs with record */
  while (t && t->id.tid != id) t = t->all;
  return t;
}

/* --- CPU clocks --- */

bool thread_lives(const struct thread *t) {
  enum life life = __atomic_load_n(&t->life, __ATOMIC_RELAXED); /* who has joined it has had the lot's lock */
  return life == LIFE_JOINABLE || life == LIFE_DETACHED;
}

bool thread_is_forked(const struct thread *t) { return t->forked; }

bool thread_has_clock(const struct thread *t) {
  cpuclock_turn_on();
  return thread_lives(t);
}

bool thread_cpu_ns(struct thread *t, uint64_t *ns) {
  uint32_t id = t->id.tid;
  if (!thread_has_clock(t)) return false;
  *ns = cpuclock_read(&t->g, t == thread_self());
  return thread_lives(t) && t->id.tid == id;
}

/*
 * The kernel's are its thread's.  What it has used since it last asked is divided as the kernel divided what that thread has used since then, or ever.
 */
void thread_usage(struct thread *t, struct timeval *utime, struct timeval *stime) {
  uint64_t user = (uint64_t)utime->tv_sec * 1000000 + (uint64_t)utime->tv_usec,
           sys = (uint64_t)stime->tv_sec * 1000000 + (uint64_t)stime->tv_usec;
  uint64_t ns, said = t->usage.utime + t->usage.stime, user_part = user, sys_part = sys;
  uint32_t tid = sys_gettid();
  if (!thread_cpu_ns(t, &ns)) return;
  if (tid == t->usage.tid && user >= t->usage.kernels_user && sys >= t->usage.kernels_sys) {
    user_part -= t->usage.kernels_user;
    sys_part -= t->usage.kernels_sys;
  }
  uint64_t more = ns / 1000 > said ? ns / 1000 - said : 0;
  uint64_t more_sys = user_part + sys_part ? more * (sys_part * 1024 / (user_part + sys_part)) / 1024 : 0;
  t->usage.tid = tid;
  t->usage.kernels_user = user;
  t->usage.kernels_sys = sys;
  t->usage.stime += more_sys;
  t->usage.utime += more - more_sys;
  *utime = (struct timeval){(time_t)(t->usage.utime / 1000000), (suseconds_t)(t->usage.utime % 1000000)};
  *stime = (struct timeval){(time_t)(t->usage.stime / 1000000), (suseconds_t)(t->usage.stime % 1000000)};
}

uint32_t thread_kernels_tid(const struct thread *t) {
  const struct carrier *c = __atomic_load_n(&t->lent, __ATOMIC_RELAXED); /* they are never given back */
  return c ? c->cpu.tid : 0;
}

int64_t thread_cpu_ahead(const struct thread *t) { return cpuclock_ahead(&t->g); }

int thread_signal(struct thread *t, int sig, const siginfo_t *si) {
  siginfo_t own;
  if (t->life == LIFE_ENDED) return 0; /* as glibc's, whatever the signal */
  if (sig < 0 || sig > 64) return EINVAL;
  if (sig == 0) return 0;
  if (sig == SIGKILL || sig == SIGSTOP) return (int)-raw_syscall2(SYS_kill, sys_getpid(), sig); /* of all threads */
  if (!si) {
    memset(&own, 0, sizeof own);
    own.si_signo = sig;
    own.si_code = SI_TKILL;
    own.si_pid = (pid_t)sys_getpid();
    own.si_uid = (uid_t)raw_syscall0(SYS_getuid);
    si = &own;
  }
  return kill_send(&t->kill, sig, si);
}

/* --- the child of a fork --- */

void thread_g_fork_child(void) {
  struct thread *self = thread_self();
  if (self) self->forked = true;
  if (self) self->g.use = (struct netpoll_use){.turn = self->g.use.turn + 1}; /* what it is of is the parent's */
  main_self = pthread_self();
  shared_fork_child();
  if (self && !self->lent) raw_syscall2(SYS_sigaltstack, (long)&self->alt, 0); /* it was on paper */
  kill_fork_child(self ? &self->kill : NULL);
  remind_fork_child(self ? (struct reminder *[]){&self->kill.reminder, &self->at_once.reminder} : NULL, self ? 2 : 0);
  atomic_store_explicit(&spares_lock.word, 0, memory_order_relaxed);
  threads = NULL;                                         /* the other Gs are the parent's */
  nsizes = 0;                                             /* glibc has forgotten those identities */
  atomic_store_explicit(&lives, 1, memory_order_relaxed); /* the caller, which is as good as main */
  atomic_store_explicit(&nlent, 0, memory_order_relaxed);
  atomic_store_explicit(&nkernels, 0, memory_order_relaxed);
  atomic_store_explicit(&main_left, false, memory_order_relaxed);
  cancel_fork_child();
  maker_fork_child();
  memset(spares, 0, sizeof spares);
  bare = NULL;
  memset(places, 0, sizeof places);
}
