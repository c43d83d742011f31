/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_THREAD_H
#define RATION_FREE_THREAD_H
/* Thread Gs: what the program's pthread_create makes in free mode.  thread.c draws their life. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <ucontext.h>
#include "free/identity.h"

struct thread;
struct limit;
struct kill;

/* The thread G that t is; null: a thread of the kernel's, as all are out of free mode. */
struct thread *thread_of(pthread_t t);
/* The calling one, or null. */
struct thread *thread_self(void);

const struct identity *thread_identity(const struct thread *t);
/* It is in a long call into libc, out of which it can't be unwound. */
bool thread_in_libcall(const struct thread *t);
uint32_t thread_id(const struct thread *t);
/* How many live that have no kernel thread of their own; for display. */
uint32_t thread_count(void);
/* The thread pointer that its kernel thread has of its own; null: it has none for good. */
void *thread_carriers_tp(const struct thread *t);
/* It has no thread of the kernel's. */
bool thread_is_g(const struct thread *t);
/* What pthread_cancel of the calling thread ends its waits by; null: cancellation is disabled. */
struct ration_context *thread_cancel_context(struct thread *t);
/* t changes what its kernel thread, which it has or is about to get, has of its own: that one is nobody's after it. */
void thread_changes_its_own(struct thread *t);
/* Some thread of the kernel's may have a real-time priority from now on. */
void thread_priorities_matter(void);
bool thread_has_changed(const struct thread *t);
/* What it has set by sigaltstack, while it is not wired. */
stack_t *thread_altstack(struct thread *t);
/* As sigaltstack of the calling thread G, which is not wired; 0 or -errno: altstack.c. */
int altstack_of_g(struct thread *t, const stack_t *ss, stack_t *old);
/* As pthread_setschedparam and pthread_getschedparam of a thread G that is not wired: noted, until it is.  policy < 0: as it is. */
int thread_set_sched(struct thread *t, int policy, int priority);
void thread_get_sched(const struct thread *t, int *policy, int *priority);
/* As the system call of that name, of the calling thread G, also of one that is wired: the kernel must not clear what is its carrier's. */
int thread_set_tid_address(struct thread *self, int *at);
int *thread_tid_address(const struct thread *self);
/*
 * The calling thread G gets its carrier's thread for good (wire.c).  False: it has one, or none is to be had.  uc: null, or of the handler that it is in: the mask and the
 * stack for handlers are those of the code that it returns to.
 */
bool thread_wire(struct thread *t, ucontext_t *uc);
/* Its signals: kill.c. */
struct kill *thread_kill_of(struct thread *t);
/* What it blocks, on paper; of others at a glance. */
uint64_t thread_blocked(const struct thread *t);
/* All that there ever were, the youngest first, until fn says false. */
void threads_each(bool (*fn)(struct thread *t, void *arg), void *arg);
/* The caller is the process's first thread; that has left by pthread_exit. */
bool thread_is_main(void);
bool thread_main_gone(void);
/* It is the first thread of a child that it forked: its tid and its CPU clock are the kernel's. */
bool thread_is_forked(const struct thread *t);
/* It has not ended.  Asked for the first time, all clocks are kept from then on (core/cpuclock.c). */
bool thread_has_clock(const struct thread *t);
/* What t has used since its birth.  False: it has ended. */
bool thread_cpu_ns(struct thread *t, uint64_t *ns);
/* The calling one's user and system time; comes with those of its kernel thread. */
void thread_usage(struct thread *self, struct timeval *utime, struct timeval *stime);
/* So many ns is the clock of the kernel thread that it has for good ahead of its own. */
int64_t thread_cpu_ahead(const struct thread *t);
/* It has not ended. */
bool thread_lives(const struct thread *t);
/* The tid of the kernel thread that it has for good; 0: none. */
uint32_t thread_kernels_tid(const struct thread *t);
/* By the tid that thread_id gives; null: none. */
struct thread *thread_by_id(uint32_t id);
/* As pthread_kill and pthread_sigqueue of another thread: sig is none of glibc's own.  si null: pthread_kill. */
int thread_signal(struct thread *t, int sig, const siginfo_t *si);
/* As pthread_sigmask, for a thread G that is not wired. A word for a mask: the kernel's 64 signals. */
void thread_mask(struct thread *t, int how, const uint64_t *set, uint64_t *old);
/* Before main has made any thread; create: glibc's pthread_create.  False: no thread Gs with this glibc. */
bool thread_g_init(identity_create_fn *create);

struct thread_attr {
  size_t stack, guard; /* whole pages */
  size_t asked;        /* of the stack, as pthread_getattr_np says it */
  bool detached;
  bool has_mask; /* the attributes have one, which is set by who calls thread_attr_of */
  uint64_t mask;
};
/* What pthread_create is to make of these attributes, which are not null.  False: only a thread of the kernel's can be that (a stack of the program's, a policy, an affinity). */
bool thread_attr_of(const pthread_attr_t *at, struct thread_attr *a);

/* fn(arg).  Comes back however that ends: by pthread_exit or cancellation, too, which unwind to here. */
void thread_call_to_end(void (*fn)(void *), void *arg);

/* As pthread_create and thrd_create (one of fn and cfn). */
int thread_create(pthread_t *t, const struct thread_attr *a, void *(*fn)(void *), int (*cfn)(void *), void *arg);
/* As pthread_join; lim null: no limit.  The caller has had its cancellation point. 0 or an errno; ECANCELED: the context of lim. */
int thread_join(struct thread *t, void **result, const struct limit *lim);
int thread_tryjoin(struct thread *t, void **result);
int thread_detach(struct thread *t);
/* The result of the calling thread G, which is about to unwind. */
void thread_exits(void *result);
/* The calling one, which is no forked child's first, ends as by a raw exit: nothing more of the program's runs. */
_Noreturn void thread_vanishes(struct thread *self, int status);
/* As pthread_cancel. */
int thread_cancel(struct thread *t);
/* The calling thread G has enabled or disabled its cancellation. */
void thread_cancel_state(struct thread *self);
/* The process's first thread is about to unwind: when the last of all has ended the process exits. */
void thread_main_exits(void);
/* Of another thread of the kernel's that the program makes; in the creator, and (ends) in itself. */
void thread_kernels_begins(void);
void thread_kernels_stillborn(void);
void thread_kernels_ends(void);
/* At most 15 characters; name has 16. */
void thread_set_name(struct thread *t, const char *name);
void thread_get_name(struct thread *t, char *name);
/* As pthread_getattr_np. */
int thread_getattr(struct thread *t, pthread_attr_t *attr);

/* pthread_key_create and pthread_key_delete tell of keys: a thread G's are destroyed by us. */
void thread_key_made(pthread_key_t key, void (*destroy)(void *));
void thread_key_gone(pthread_key_t key);

/* In the child of a fork: the caller's is the only thread. */
void thread_g_fork_child(void);

#endif
