/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk I/O of light Gs by io_uring: one ring, made when it is first needed.
 *
 *   G              puts an op, which is on its stack, in line and parks
 *   ration-uring   a service thread: moves ops from the line to the submission queue, and sleeps
 *   kernel         does them on that thread, or on workers of its own (iou-wrk), and posts completions
 *   netpoll        who polls hears of that by epoll, takes the completions and readies the Gs
 *
 *   op:    IN LINE --the thread has room for it--> SUBMITTED --completion taken--> DONE, its G is ready
 *             '-----------the kernel refuses (URING_NO)----------------------------^
 *   ring:  NEW --first need--> STARTING --> ON --the kernel refuses, or uring_off--> OFF
 *                                 '--there is no io_uring, or not for us--------------^
 *
 * Why a thread.  The kernel does part of the work on the thread that submitted: it copies what was read, and makes workers.  It
 * wakes it for that from whatever it sleeps in, and not all calls go on after that as if nothing had been: epoll_wait and semop say EINTR,
 * MSG_WAITALL returns what it has.  This thread sleeps in a futex and in nothing else.  It shares the descriptors of the program (service.h).
 *
 * Rejected: submission by the carriers, for that reason.  It saves a switch to the thread and back, some microseconds of an I/O that takes a hundred.
 * SQPOLL: the kernel's thread spins for a tick (4 ms with 250 Hz) after each op, which a quota pays for.  A ring for each carrier with DEFER_TASKRUN: no
 * other can take its completions while it computes or is blocked.
 *
 * The ring's descriptor is closed at once: the thread has it registered, epoll and the mappings keep the file.  So the program does not see it and
 * can't close it, and the child of a fork has nothing of it (MADV_DONTFORK) and makes a ring of its own.
 *
 * Lock: ring.lock, for the line, the counts and our ends of both queues; nothing is taken under it.
 */
#include "core/uring.h"
#include <linux/io_uring.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include "core/carrier.h"
#include "core/gate.h"
#include "core/netpoll.h"
#include "core/service.h"

#define NAME "ration-uring"
#define DEPTH 256u       /* ops that the kernel has at a time; the rest is in line */
#define WORKERS_MOST 32u /* what can't be done asynchronously (fsync) holds one each */
#define RETRY_NS 1000000u
#define FLAGS (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL) /* Linux 6.0 */
#define FEATURES (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP)

enum state { NEW, STARTING, ON, OFF };

static _Atomic uint32_t state; /* futex */
static _Atomic uint32_t nwaiters;
static struct service service;

static struct {
  struct lock lock;
  struct uring_op *line, **line_end;
  uint32_t submitted;      /* and not yet reaped: <= DEPTH, so the completion queue never overflows */
  _Atomic uint32_t asleep; /* futex; [lock] 1: the thread is to be woken */
  uint32_t index;          /* of the registered descriptor */
  struct io_uring_sqe *sqes;
  struct io_uring_cqe *cqes;
  _Atomic uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail; /* shared with the kernel */
  uint32_t sq_mask, cq_mask;
} ring;

uint32_t uring_waiters(void) { return atomic_load_explicit(&nwaiters, memory_order_relaxed); }
uint32_t uring_tid(void) { return (uint32_t)__atomic_load_n(&service.tid, __ATOMIC_RELAXED); }
bool uring_usable(void) { return atomic_load_explicit(&state, memory_order_relaxed) != OFF; }

void uring_off(void) {
  atomic_store_explicit(&state, OFF, memory_order_relaxed);
  sys_futex_wake(&state, INT32_MAX, false);
}

/* From STARTING, if nobody has switched it off meanwhile. */
static void started(bool well) {
  uint32_t was = STARTING;
  atomic_compare_exchange_strong_explicit(&state, &was, well ? ON : OFF, memory_order_release, memory_order_relaxed); /* pairs with is_on */
  sys_futex_wake(&state, INT32_MAX, false);
}

/* --- the thread --- */

static long map(int fd, uint64_t what, size_t bytes) {
  long at = raw_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (long)what);
  if (at < 0 && at > -4096) return at;
  long r = raw_syscall3(SYS_madvise, at, (long)bytes, MADV_DONTFORK);
  return r < 0 ? r : at;
}

static int map_queues(int fd, const struct io_uring_params *p) {
  size_t sq = p->sq_off.array + p->sq_entries * sizeof(uint32_t), cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
  long q = map(fd, IORING_OFF_SQ_RING, sq > cq ? sq : cq), e = map(fd, IORING_OFF_SQES, p->sq_entries * sizeof(struct io_uring_sqe));
  if (q < 0 && q > -4096) return (int)q;
  if (e < 0 && e > -4096) return (int)e;
  ring.sq_head = (_Atomic uint32_t *)(q + p->sq_off.head);
  ring.sq_tail = (_Atomic uint32_t *)(q + p->sq_off.tail);
  ring.cq_head = (_Atomic uint32_t *)(q + p->cq_off.head);
  ring.cq_tail = (_Atomic uint32_t *)(q + p->cq_off.tail);
  ring.sq_mask = p->sq_entries - 1;
  ring.cq_mask = p->cq_entries - 1;
  ring.cqes = (struct io_uring_cqe *)(q + p->cq_off.cqes);
  ring.sqes = (struct io_uring_sqe *)e;
  uint32_t *array = (uint32_t *)(q + p->sq_off.array);
  for (uint32_t i = 0; i < p->sq_entries; i++) array[i] = i;
  return 0;
}

static int set_up(int fd) {
  uint32_t workers[2] = {WORKERS_MOST, WORKERS_MOST};
  struct io_uring_rsrc_update self = {.offset = UINT32_MAX, .data = (uint64_t)fd};
  long r = raw_syscall4(SYS_io_uring_register, fd, IORING_REGISTER_RING_FDS, (long)&self, 1);
  if (r < 0) return (int)r;
  ring.index = self.offset;
  raw_syscall4(SYS_io_uring_register, fd, IORING_REGISTER_IOWQ_MAX_WORKERS, (long)workers, 2);
  return netpoll_watch_ring(fd);
}

/* 0 or -errno.  What a failure leaves mapped is left: it happens once. */
static int make_ring(void) {
  struct io_uring_params p = {.flags = FLAGS};
  int fd = netpoll_fd_high((int)raw_syscall2(SYS_io_uring_setup, DEPTH, (long)&p));
  if (fd < 0) return fd;
  int r = (p.features & FEATURES) == FEATURES ? map_queues(fd, &p) : -ENOSYS;
  if (r >= 0) r = set_up(fd);
  raw_syscall1(SYS_close, fd);
  return r < 0 ? r : 0;
}

/* Lock held. */
static void put_sqe(const struct uring_op *op, uint32_t at) {
  ring.sqes[at & ring.sq_mask] = (struct io_uring_sqe){.opcode = op->opcode,
                                                       .fd = op->fd,
                                                       .addr = op->addr,
                                                       .off = op->off,
                                                       .len = op->len,
                                                       .rw_flags = (int)op->flags,
                                                       .user_data = (uintptr_t)op};
}

/* Moves what there is room for from the line to the submission queue; sleeps while that is nothing.  How many. */
static uint32_t take_line(void) {
  for (;;) {
    lock_take(&ring.lock);
    uint32_t tail = atomic_load_explicit(ring.sq_tail, memory_order_relaxed), n = 0;
    for (; ring.line && ring.submitted < DEPTH; n++, ring.submitted++) {
      put_sqe(ring.line, tail + n);
      ring.line = ring.line->next;
    }
    atomic_store_explicit(ring.sq_tail, tail + n, memory_order_release); /* pairs with the kernel's load */
    atomic_store_explicit(&ring.asleep, n == 0, memory_order_relaxed);
    lock_drop(&ring.lock);
    if (n) return n;
    sys_futex_wait(&ring.asleep, 1, SYS_FOREVER, false);
  }
}

static void refuse(struct uring_op *op) {
  op->result = URING_NO;
  g_ready(op->g, false);
}

/* The kernel does not take the last n of the queue, nor anything else: a filter that came after us. */
static void give_up(uint32_t n) {
  lock_take(&ring.lock);
  uring_off();
  struct uring_op *op = ring.line, *next;
  ring.line = NULL;
  ring.submitted -= n;
  lock_drop(&ring.lock);
  uint32_t tail = atomic_load_explicit(ring.sq_tail, memory_order_relaxed);
  for (uint32_t at = tail - n; at != tail; at++) refuse((struct uring_op *)(uintptr_t)ring.sqes[at & ring.sq_mask].user_data);
  for (; op; op = next) {
    next = op->next;
    refuse(op);
  }
}

static bool submit(uint32_t n) {
  _Atomic uint32_t never = 0;
  while (n) {
    long r = raw_syscall6(SYS_io_uring_enter, ring.index, n, 0, IORING_ENTER_REGISTERED_RING, 0, 0);
    if (r > 0)
      n -= (uint32_t)r;
    else if (r == 0 || r == -EAGAIN || r == -EBUSY || r == -ENOMEM)
      sys_futex_wait(&never, 0, sys_now() + RETRY_NS, false);
    else if (r != -EINTR)
      break;
  }
  if (n) give_up(n);
  return n == 0;
}

static void uring_main(struct service *self) {
  (void)self;
  bool made = make_ring() >= 0;
  started(made);
  if (!made) return;
  while (submit(take_line())) continue;
  for (;;) sys_futex_wait(&state, OFF, SYS_FOREVER, false); /* what is submitted is finished on this thread */
}

static void *uring_thread(void *arg) {
  raw_syscall5(SYS_prctl, PR_SET_NAME, (long)NAME, 0, 0, 0);
  uring_main(NULL);
  return arg;
}

/* As monitor_start. */
static int start_thread(void) {
  pthread_t t;
  if (!fiber_used) return service_start(&service, NAME, uring_main, NULL, SERVICE_SAME_FILES);
  int r = light_pthread_create(&t, NULL, uring_thread, NULL);
  if (r == 0) pthread_detach(t);
  return -r;
}

/* Not inline: aarch64 keeps the thread pointer over all of a function, and the wait in here may end on another thread. */
static __attribute__((noinline)) void start(void) {
  uint32_t was = NEW;
  if (!atomic_compare_exchange_strong_explicit(&state, &was, STARTING, memory_order_relaxed, memory_order_relaxed)) return;
  gate_enter();
  if (netpoll_open() < 0 || start_thread() < 0) started(false);
  while (atomic_load_explicit(&state, memory_order_relaxed) == STARTING) sys_futex_wait(&state, STARTING, SYS_FOREVER, false);
  gate_exit();
}

/* --- Gs --- */

static bool is_on(void) { return atomic_load_explicit(&state, memory_order_acquire) == ON; } /* pairs with started: the ring is there */

/* Lock held: must the thread be woken, when the lock is free? */
static bool rouses(void) { return ring.line && atomic_exchange_explicit(&ring.asleep, 0, memory_order_relaxed); }

static bool in_line(struct g *g, void *arg) {
  (void)g, (void)arg;
  bool wake = rouses();
  run_unlock(&ring.lock);
  if (wake) sys_futex_wake(&ring.asleep, 1, false);
  return true;
}

long uring_do(struct uring_op *op) {
  if (!is_on()) start();
  op->g = g_self();
  op->next = NULL;
  atomic_fetch_add_explicit(&nwaiters, 1, memory_order_relaxed); /* before it parks: somebody has to poll */
  carrier_wake_poller();                                         /* it takes a wake-up of the ring's thread anyway */
  run_lock(&ring.lock);
  bool on = is_on();
  if (on) {
    if (!ring.line) ring.line_end = &ring.line;
    *ring.line_end = op;
    ring.line_end = &op->next;
    g_park(in_line, NULL, WAIT_IO);
  } else {
    run_unlock(&ring.lock);
  }
  atomic_fetch_sub_explicit(&nwaiters, 1, memory_order_relaxed);
  return on ? op->result : URING_NO;
}

void uring_reap(struct gqueue *out) {
  run_lock(&ring.lock);
  uint32_t head = atomic_load_explicit(ring.cq_head, memory_order_relaxed);
  uint32_t tail = atomic_load_explicit(ring.cq_tail, memory_order_acquire); /* pairs with the kernel's store: the entries are there */
  ring.submitted -= tail - head;
  for (; head != tail; head++) {
    struct io_uring_cqe *c = &ring.cqes[head & ring.cq_mask];
    struct uring_op *op = (struct uring_op *)(uintptr_t)c->user_data;
    op->result = c->res;
    op->g->status = G_RUNNABLE;
    gqueue_push(out, op->g);
  }
  atomic_store_explicit(ring.cq_head, head, memory_order_release); /* pairs with the kernel's load: they may be used again */
  bool wake = rouses();
  run_unlock(&ring.lock);
  if (wake) sys_futex_wake(&ring.asleep, 1, false);
}

/* Neither the thread nor the mappings are the child's. */
void uring_fork_child(void) {
  if (uring_usable()) atomic_store_explicit(&state, NEW, memory_order_relaxed);
  memset(&ring, 0, sizeof ring);
  memset(&service, 0, sizeof service);
  atomic_store_explicit(&nwaiters, 0, memory_order_relaxed);
}
