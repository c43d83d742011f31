/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A light G has bound a context (ration_io_context), and is in a call that holds its thread in the kernel: flock, waitpid, msgrcv, connect
 * of a Unix socket.  When the context ends, so does the call.  (Calls that park are ended by the netpoller: preload/lightio.c.)
 *
 *   OFF --gate_enter--> ARMED --the context ends--> ENDED: on the list, the monitor sends SIGURG until the call is over
 *    ^                    |                           |
 *    '---- gate_exit -----'---------------------------'
 *
 * Our handler has SA_RESTART, so the kernel has set the thread back to the instruction that makes the system call.  The handler (interrupt_here)
 * sees that it stands there, and lets it find -EINTR instead, as if the call had been made: nothing is lost, for a call that is made again has
 * done nothing yet.  One that is over, or has come to something, stands behind the instruction, and keeps its result.  A signal that
 * comes too early, between gate_enter and the instruction, is followed by another: after 1 ms, 2 ms, 4 ms ... a second.
 * Only numbers that may return EINTR to their callers, and whose wrappers look for the end of the context after it (call_over in preload/call.h), are ended
 * so: libc makes others in between, futexes of malloc's locks for instance, and takes their EINTR for success.
 *
 * Rejected: to make the call on a helper's thread and leave it there.  A lock or a child's status that came later would be nobody's.
 *
 * Lock: interrupts.lock, for the list; a leaf.  The monitor takes it without being an M.
 */
#include "sync/interrupt.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include "core/carrier.h"
#include "core/preempt.h"

#define FIRST_NS 1000000u
#define DOUBLINGS 10u

static struct {
  struct lock lock;
  _Atomic(struct carrier *) first; /* read without the lock */
} interrupts;

/* Files are not concerned: they keep nobody waiting for long, and what is written to a log on the way out is not to be lost. */
static bool is_file(long fd) {
  struct stat st;
  return sys_is_file((int)fd, &st);
}

/* Of a file it comes at once, and never says EINTR: the signal may have come just before the call. */
static bool open_waits(long dir, const char *path) {
  struct stat st;
  if (raw_syscall4(SYS_newfstatat, dir, (long)path, (long)&st, 0) < 0) return false;
  return S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode);
}

static bool may_end(long nr, long first, long second) {
  switch (nr) {
#ifdef SYS_open
    case SYS_open:
      return open_waits(AT_FDCWD, (const char *)first);
#endif
    case SYS_openat:
      return open_waits(first, (const char *)second);
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
      return !is_file(first);
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_splice:
    case SYS_tee:
    case SYS_vmsplice:
    case SYS_sendfile:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_wait4:
    case SYS_waitid:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_mq_timedreceive:
    case SYS_mq_timedsend:
    case SYS_rt_sigtimedwait:
    case SYS_clock_nanosleep:
      return true;
    default:
      return false;
  }
}

/* Any stack. */
static void context_ended(struct context_hook *h, int err) {
  struct carrier *c = h->arg;
  struct interrupt *i = &c->interrupt;
  (void)err;
  run_lock(&interrupts.lock);
  i->next = GLANCE(interrupts.first);
  i->at = i->sent = 0;
  atomic_store_explicit(&interrupts.first, c, memory_order_relaxed);
  atomic_store_explicit(&i->state, INTERRUPT_ENDED, memory_order_release); /* pairs with interrupt_disarm: that is all, c may go on */
  run_unlock(&interrupts.lock);
  monitor_look_now();
}

void interrupt_arm(struct carrier *c) {
  struct interrupt *i = &c->interrupt;
  if (GLANCE(i->state) != INTERRUPT_OFF || c->g->in_libcall) return;
  i->hook = (struct context_hook){.fn = context_ended, .arg = c};
  atomic_store_explicit(&i->state, INTERRUPT_ARMED, memory_order_relaxed); /* before the hook can be called */
  if (context_hook_add(c->g->io_ctx, &i->hook)) context_ended(&i->hook, 0);
}

static void off_the_list(struct carrier *c) {
  run_lock(&interrupts.lock);
  struct carrier *at = GLANCE(interrupts.first);
  if (at == c) {
    atomic_store_explicit(&interrupts.first, c->interrupt.next, memory_order_relaxed);
  } else {
    while (at->interrupt.next != c) at = at->interrupt.next;
    at->interrupt.next = c->interrupt.next;
  }
  run_unlock(&interrupts.lock);
}

void interrupt_disarm(struct carrier *c) {
  struct interrupt *i = &c->interrupt;
  if (!context_hook_remove(&i->hook)) {
    /* Whoever ends the context is at it: for some instructions. */
    while (atomic_load_explicit(&i->state, memory_order_acquire) != INTERRUPT_ENDED) /* pairs with context_ended */
      sys_futex_wait(&i->state, INTERRUPT_ARMED, sys_now() + FIRST_NS / 10, false);
    off_the_list(c);
  }
  atomic_store_explicit(&i->state, INTERRUPT_OFF, memory_order_relaxed);
}

uint64_t interrupt_look(uint64_t now) {
  uint64_t next = UINT64_MAX;
  if (!GLANCE(interrupts.first)) return next;
  lock_take(&interrupts.lock);
  for (struct carrier *c = GLANCE(interrupts.first); c; c = c->interrupt.next) {
    struct interrupt *i = &c->interrupt;
    if (i->at <= now) {
      if (SLOT_LOAD(c->m->slot->state) == M_SYSCALL) sched_hooks.signal(c->m); /* c stays in its call as long as it is on the list */
      i->at = now + ((uint64_t)FIRST_NS << (i->sent < DOUBLINGS ? i->sent++ : DOUBLINGS));
    }
    if (i->at < next) next = i->at;
  }
  lock_drop(&interrupts.lock);
  return next;
}

/* Of glibc's own the futexes: who waits there looks again, or is to return EINTR.  Not what goes on by itself once it is begun. */
static bool may_be_interrupted(long nr, long first, long second) {
  if (nr == SYS_futex) return (second & FUTEX_CMD_MASK) == FUTEX_WAIT || (second & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
  return nr != SYS_connect && may_end(nr, first, second);
}

static void end_call(void *uctx, bool any) {
  mcontext_t *mc = &((ucontext_t *)uctx)->uc_mcontext;
#if defined(__x86_64__)
  const uint8_t *pc = (const uint8_t *)mc->gregs[REG_RIP];
  if (pc[0] != 0x0f || pc[1] != 0x05 /* syscall */) return;
  long nr = mc->gregs[REG_RAX], first = mc->gregs[REG_RDI], second = mc->gregs[REG_RSI];
  if (!(any ? may_be_interrupted(nr, first, second) : may_end(nr, first, second))) return;
  mc->gregs[REG_RAX] = -EINTR;
  mc->gregs[REG_RIP] += 2;
#elif defined(__aarch64__)
  if (*(const uint32_t *)mc->pc != 0xd4000001u /* svc #0 */) return;
  long nr = (long)mc->regs[8], first = (long)mc->regs[0], second = (long)mc->regs[1];
  if (!(any ? may_be_interrupted(nr, first, second) : may_end(nr, first, second))) return;
  mc->regs[0] = (uint64_t)-EINTR;
  mc->pc += 4;
#endif
}

void interrupt_here(struct carrier *c, void *uctx) {
  if (!c->g->in_libcall) end_call(uctx, false);
}

void interrupt_call(void *uctx) { end_call(uctx, true); }

/* Whoever was in a call is not here. */
void interrupt_fork_child(void) { memset(&interrupts, 0, sizeof interrupts); }
