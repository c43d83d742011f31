/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancellation of a thread G that is not parked.  glibc sets a thread's cancellation to asynchronous for the time of each system call that is a cancellation
 * point, also of those inside of libc (stdio, open, wordexp), and so may the program for as long as it likes.  Who is marked as cancelled then does not
 * look at the mark: it must be told by a signal.
 *
 *   canceller                                 monitor                                         the G's kernel thread
 *   mark CANCELED; was it ASYNC?
 *   on the list, wake the monitor ----------> as long as it is marked, and ASYNC:
 *                                             SIGURG to the thread that has the G on -------> handler: still so?  It goes on in cancelled(),
 *                                             again after 1 ms, 2 ms, 4 ms ... 1 s              on the G's own stack, as if called from where it was
 *
 * glibc's own signal is not for us: it hits a kernel thread, which may have put on another identity by then, and would end that.  Our handler knows
 * who it is.  It does not unwind by itself: it is on the carrier's stack for handlers, and cleanup handlers may park.  So cancelled() finds a copy of the
 * signal's frame above it, and for the unwinder it is a handler that runs there.  A G that is wired, with no stack of its own for handlers, has that frame on its stack already.
 *
 * In a wait for a pthread object it can't be at any instruction: that ends (sync/stop.h), and it looks itself (cancel_if_due), once it is in no queue.
 *
 * Not where the G is in ration's own code, nor in a long call into libc (in_libcall): its next cancellation point is one of ours, and the monitor asks again.
 *
 * Threads of the kernel's are cancelled by glibc.  But in free mode their waits for pthread objects are in the lot, where only a context ends them.
 *
 * The list is remind.c's.  Lock: kernel_lock, a leaf.
 */
#include "free/cancel.h"
#include <stddef.h>
#include <string.h>
#include <ucontext.h>
#include "core/carrier.h"
#include "free/free.h"
#include "free/kill.h"
#include "free/thread.h"
#include "free/where.h"
#include "ration/context.h"
#include "sync/context.h"

#define DOUBLINGS 10u
#define RED_ZONE 128u

/* --- who sends --- */

static bool due(const struct identity *id) {
  const uint32_t all = IDENTITY_CANCEL_OFF | IDENTITY_CANCEL_ASYNC | IDENTITY_CANCELED | IDENTITY_EXITING;
  return (atomic_load_explicit(identity_cancel_word(id), memory_order_relaxed) & all) == (IDENTITY_CANCEL_ASYNC | IDENTITY_CANCELED);
}

static const struct cancel *of(const struct reminder *r) { return (const struct cancel *)r; }

/* Else it has begun to end, or will see the mark by itself. */
static bool is_due(const struct reminder *r) { return due(of(r)->id); }

/* To the thread that has the G on, if one has.  Should that be over when the signal comes, its handler finds another G. */
static void signal_carrier(const struct reminder *r) {
  struct m *m = carrier_m_of(of(r)->g);
  if (m) sched_hooks.signal(m);
}

static const struct reminder_kind kind = {is_due, signal_carrier, DOUBLINGS};

void cancel_born(struct cancel *k, const struct g *g, const struct identity *id) {
  k->reminder.kind = &kind;
  k->g = g;
  k->id = id;
}

void cancel_if_due(struct thread *t) {
  if (due(thread_identity(t)) && !thread_in_libcall(t)) free_testcancel();
}

void cancel_at_once(struct cancel *k) { remind(&k->reminder, 0, true); }

/* --- where it comes --- */

/* What the interrupted G goes on with. */
static _Noreturn void cancelled(void) {
  for (;;) {
    free_testcancel();
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL); /* a handler of the program's has come in between, and left it so */
  }
}

/*
 * Where it would return to.  Unwinders know by these instructions that it is a signal's frame, and where the registers are (libgcc: the fallbacks of
 * md-unwind-support): they are not to find any other description, so there is none.
 */
extern const char cancel_returns[] __attribute__((visibility("hidden")));
#if defined(__x86_64__)
__asm__(".text\n.p2align 4\nnop\n.hidden cancel_returns\n.globl cancel_returns\ncancel_returns:\nmov $15, %rax\nsyscall\n");
#elif defined(__aarch64__)
__asm__(".text\n.p2align 4\nnop\n.hidden cancel_returns\n.globl cancel_returns\ncancel_returns:\nmov x8, #139\nsvc #0\n");
#endif

/* The frame of a signal, as the kernel would have laid it below sp (up to what unwinders read). */
#if defined(__x86_64__)
struct frame {
  const void *returns;
  char uc[offsetof(ucontext_t, uc_sigmask) + 8];
};

static void divert(ucontext_t *uc) {
  greg_t *r = uc->uc_mcontext.gregs;
  uintptr_t at = (((uintptr_t)r[REG_RSP] - RED_ZONE - sizeof(struct frame)) & ~(uintptr_t)15) - 8; /* aligned as by a call */
  struct frame *f = (struct frame *)at;
  f->returns = cancel_returns;
  memcpy(f->uc, uc, sizeof f->uc);
  r[REG_RSP] = (greg_t)at;
  r[REG_RIP] = (greg_t)(uintptr_t)cancelled;
  r[REG_EFL] &= ~(greg_t)0x400; /* DF */
}
#elif defined(__aarch64__)
#define FPSIMD_BYTES 528u /* the first record of the floating-point state */
struct frame {
  siginfo_t info;
  char uc[offsetof(ucontext_t, uc_mcontext) + offsetof(mcontext_t, __reserved) + FPSIMD_BYTES];
  uint64_t last[2]; /* an empty record */
  uint64_t link[2]; /* for those that follow x29 */
} __attribute__((aligned(16)));

static void divert(ucontext_t *uc) {
  mcontext_t *mc = &uc->uc_mcontext;
  struct frame *f = (struct frame *)((mc->sp - RED_ZONE - sizeof *f) & ~(uintptr_t)15);
  memset(f, 0, sizeof *f);
  memcpy(f->uc, uc, sizeof f->uc);
  f->link[0] = mc->regs[29];
  f->link[1] = mc->pc;
  mc->sp = (uintptr_t)f;
  mc->pc = (uintptr_t)cancelled;
  mc->regs[29] = (uintptr_t)f->link;
  mc->regs[30] = (uintptr_t)cancel_returns;
}
#endif

/*
 * Ration's own code is let alone, but for the system calls that a wired G makes there, as glibc does (bracketed_wired in preload/lightio.c): those are
 * cancellation points, and what unwinds from there puts the gate in order.
 */
static bool may_end_at(const struct m *m, uintptr_t pc) {
  if (!where_ours(pc)) return true;
  return !m->carrier && SLOT_LOAD(m->slot->state) == M_SYSCALL && where_at_call(pc);
}

/* That ends, and then it looks itself: nobody is to know of the wait's stack any more before it unwinds. */
static bool in_wait(const struct m *m, struct thread *t) { return m->g->waits || thread_kill_of(t)->g->waits; }

/* The frame of the signal is where divert's would be. */
static bool is_above(const struct identity *id, const ucontext_t *uc) {
  uintptr_t at = (uintptr_t)uc;
  return at >= (uintptr_t)id->map && at < (uintptr_t)id->top && at < where_sp(uc);
}

void free_cancel_here(struct m *m, void *uctx) {
  ucontext_t *uc = uctx;
  if (m->locks || m_is_borrowed(m)) return;
  struct thread *t = thread_self();
  if (!t || !due(thread_identity(t)) || thread_in_libcall(t) || in_wait(m, t) || !may_end_at(m, where_pc(uc))) return;
  if (is_above(thread_identity(t), uc)) {
    uint64_t mask;
    memcpy(&mask, &uc->uc_sigmask, sizeof mask);
    sys_sigmask(mask);
    cancelled();
  }
  divert(uc);
}

/* --- threads of the kernel's --- */

static struct lock kernel_lock;
static __thread struct ration_context *kernel_ctx
    __attribute__((tls_model("initial-exec"))); /* [written by the thread, under kernel_lock] */

static struct ration_context **ctx_at(pthread_t t) {
  return (struct ration_context **)((char *)t + ((char *)&kernel_ctx - (char *)pthread_self()));
}

/* Not inline, as own_ctx: making a context may come back on another thread, and aarch64's compilers keep the thread pointer. */
static __attribute__((noinline)) void set_ctx(struct ration_context *ctx) {
  run_lock(&kernel_lock);
  kernel_ctx = ctx;
  run_unlock(&kernel_lock);
}

static __attribute__((noinline)) struct ration_context *own_ctx(void) { return kernel_ctx; }

void cancel_kernel_begins(void) {
  if (!own_ctx() && !carrier_now() && !thread_self()) set_ctx(ration_context_with_cancel(NULL));
}

void cancel_kernel_ends(void) {
  struct ration_context *ctx = kernel_ctx;
  if (!ctx) return;
  set_ctx(NULL);
  ration_context_unref(ctx);
}

struct ration_context *cancel_kernel_context(void) {
  struct ration_context *ctx = carrier_now() ? NULL : kernel_ctx;
  if (!ctx) return NULL;
  uint32_t word =
      atomic_load_explicit(identity_cancel_word_of(pthread_self()), memory_order_seq_cst); /* it may have been before it had one */
  if (word & (IDENTITY_CANCEL_OFF | IDENTITY_EXITING)) return NULL;
  if (word & IDENTITY_CANCELED) context_end(ctx);
  return ctx;
}

struct ration_context *cancel_kernel_of(pthread_t t) {
  run_lock(&kernel_lock);
  struct ration_context *ctx = *(struct ration_context *volatile *)ctx_at(t);
  if (ctx) ctx = ration_context_ref(ctx);
  run_unlock(&kernel_lock);
  return ctx;
}

void cancel_fork_child(void) { atomic_store_explicit(&kernel_lock.word, 0, memory_order_relaxed); }
