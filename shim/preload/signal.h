/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_SIGNAL_H
#define RATION_PRELOAD_SIGNAL_H
/* Sharing SIGURG with the program, and knowing when a handler of the program ran; signal.c tells how. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct signal_tls {
  /* [own thread and its handlers] */
  uint32_t silent;    /* SIGURGs handled that the program is not to know of */
  uint32_t handled;   /* runs of the program's own handlers */
  bool blocked;       /* the shadow: the program thinks that it blocks SIGURG here, and it really is open */
  bool child_blocked; /* the same for the child of a vfork, which runs on our TLS */
  pid_t child;        /* whose child_blocked that is */
  uint32_t inside;    /* in our handler of SIGURG, which may park; more, if the program's have left that by siglongjmp */
  uint32_t breaks;    /* runs of the program's handlers meanwhile that have no SA_RESTART */
};
extern __thread struct signal_tls signal_tls __attribute__((tls_model("initial-exec")));

/* --- EINTR repair --- */

struct signal_mark {
  uint32_t silent, handled;
};

static inline struct signal_mark signal_mark(void) {
  return (struct signal_mark){__atomic_load_n(&signal_tls.silent, __ATOMIC_RELAXED),
                              __atomic_load_n(&signal_tls.handled, __ATOMIC_RELAXED)};
}

/* Since the mark only SIGURGs interrupted that the program is not to know of. Moves the mark. */
static inline bool signal_only_ours(struct signal_mark *m) {
  struct signal_mark now = signal_mark();
  bool ours = now.silent != m->silent && now.handled == m->handled;
  *m = now;
  return ours;
}

/* A call has failed: is it to be made again? */
static inline bool signal_again(struct signal_mark *m) { return errno == EINTR && signal_only_ours(m); }

/* --- for the core and thread.c --- */

/* Installs the handler of SIGURG; what was there becomes the program's. On the calling thread SIGURG is opened. 0 or -errno. */
int signal_install_urg(void);

/* In free mode: the signals that the kernel sends to whoever makes a call (free/kill.h) come here also where the program has the default. */
void signal_keep_defaults(void);

/* The program waits for SIGURG in ways that a handler can't serve (signalfd, sigwait, a pending signal):
 * from now on its masks are real, and none of our own may be sent.  Never goes back to false. */
extern _Atomic bool signal_urg_owned;

/* glibc may just have set the handler of its signal for cancellations. */
void signal_stay_hidden(void);

/* In free mode: glibc may just have set the handler of its signal for credentials (free/setxid.h). */
void signal_keep_setxid(void);

/* A new thread's first step; its creator called signal_spawn_begin. */
void signal_born(void);

/* --- for the other wrappers --- */

/* Before an exec: mask and disposition of SIGURG become what the program thinks they are.  Undone if it failed. */
unsigned signal_exec_begin(void);
void signal_exec_failed(unsigned what);
/* The same for a spawned child or a new thread; only the mask. */
bool signal_spawn_begin(void);
void signal_spawn_end(bool was);

/* A light G asks, and has left the mask of its carrier as it is: what it begins (a thread, a program) is to have light.mask instead. */
bool signal_carriers_mask(void);

/* A call that waits with a mask of its own (ppoll, sigsuspend): `mask` is the
 * program's, the result is what to pass on (null stays null).  Make the call, then end. */
struct signal_scope {
  sigset_t copy;
  bool active, saved;
};
const sigset_t *signal_scope_begin(struct signal_scope *s, const sigset_t *mask);
void signal_scope_end(struct signal_scope *s);

/* The child of a fork. */
void signal_fork_child(void);

#endif
