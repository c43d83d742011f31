/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking calls of light Gs.
 *
 *   1. one try that does not block: MSG_DONTWAIT on sockets, RWF_NOWAIT on what else knows it (pipes; files whose pages are there)
 *   2. EAGAIN, and the program had set O_NONBLOCK: that is its answer
 *   3. park until the netpoller says that it is worth another try
 *   4. files: lightdisk.c
 *   5. what cannot be waited for, or not tried without blocking (poll first; ttys at once), is called as it is, in the
 *      bracket: if it blocks, the P's queue goes to another M
 *
 * A thread G's call has the file, not the number: where another closes that while it waits, it goes on with op.fd, which is the file's number then (netpoll.c, hold).
 * What a handler interrupts begins again with the number, as in the kernel.
 *
 * So the descriptor's own flags stay what they are, and a process that shares it sees nothing.  A write of n bytes to a blocking
 * descriptor returns when all of them are written, or with what was written before an error (write_whole).  SO_RCVTIMEO and
 * SO_SNDTIMEO are kept by asking for them at a first park (netpoll_plain: where that is not needed).
 *
 * A call that parked may come back on another M: errno is set at the very end, by functions
 * that are not inlined (the address of errno is one of the M's).
 */
#include "preload/lightio.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "core/decimal.h"
#include "core/gate.h"
#include "core/netpoll.h"
#include "core/sys.h"
#include "free/free.h"
#include "free/thread.h"
#include "preload/call.h"
#include "preload/lightdisk.h"
#include "ration/g.h"
#include "sync/context.h"
#include "sync/lot.h"
#include "sync/stop.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8
#endif

/* With these the kernel may have sent the caller a signal, which is handled before the call returns. */
static __attribute__((noinline)) void signals_of(long r) {
  if ((r == -EPIPE || r == -EFBIG) && free_mode) free_notice_signals();
}

ssize_t lightio_result(long r) {
  if (r >= 0) return r;
  signals_of(r);
  call_set_errno((int)-r);
  return -1;
}

/* Of a call that was interrupted because the context is over, its error. */
static __attribute__((noinline)) long or_over(long r) {
  int over = r == -EINTR ? lightio_over() : 0;
  return over ? over : r;
}

/* The caller is a thread G that got a thread of the kernel's for a signal, maybe in the middle of its call.  Then the call is to be a cancellation point by itself. */
static bool is_wired(void) { return __builtin_expect(free_mode, 0) && !carrier_now() && thread_self(); }

static __attribute__((noinline)) long bracketed_once(long nr, const long *a, struct signal_mark *mark, bool *again) {
  CALL_UNWINDS;
  int type;
  gate_enter();
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  long r = raw_syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
  pthread_setcanceltype(type, NULL);
  *again = r == -EINTR && call_only_ours(mark);
  gate_exit();
  return r;
}

static __attribute__((noinline)) long bracketed_wired(long nr, const long *a) {
  struct signal_mark mark = signal_mark();
  bool again;
  long r;
  do r = bracketed_once(nr, a, &mark, &again);
  while (again);
  return r;
}

static uint64_t socket_deadline(int fd, enum netpoll_dir dir);

/* A call that is not made again after any handler: the kernel would not go on with the timeout where it was. */
static bool has_timeout(long nr, int fd) {
  bool writes = nr == SYS_connect || nr == SYS_write || nr == SYS_writev || nr == SYS_sendto || nr == SYS_sendmsg;
  bool reads = nr == SYS_accept4 || nr == SYS_read || nr == SYS_readv || nr == SYS_recvfrom || nr == SYS_recvmsg;
  return (writes || reads) && socket_deadline(fd, writes ? NETPOLL_WRITE : NETPOLL_READ) != UINT64_MAX;
}

/* The call nr of fd was ended only so that it be made again, now that the caller is wired. */
static __attribute__((noinline)) bool wired_meanwhile(long r, long nr, int fd, const struct free_mark *mark) {
  return r == -EINTR && is_wired() && !free_interrupted(mark, has_timeout(nr, fd));
}

__attribute__((noinline)) long bracketed(long nr, long a0, long a1, long a2, long a3, long a4, long a5) {
  long a[] = {a0, a1, a2, a3, a4, a5};
  if (is_wired()) return bracketed_wired(nr, a);
  struct free_mark mark = free_mark();
  gate_enter();
  long r = raw_syscall6(nr, a0, a1, a2, a3, a4, a5);
  gate_exit();
  return wired_meanwhile(r, nr, (int)a0, &mark) ? bracketed_wired(nr, a) : or_over(r);
}

void libcall_begin(enum wait_reason why) {
  ration_lock_os_thread(); /* a wrapped call inside ends in a gate_exit, which may find no P */
  carrier_now()->g->in_libcall = true;
  gate_enter_blocking(why);
}

void libcall_end(void) {
  gate_exit();
  carrier_now()->g->in_libcall = false;
  ration_unlock_os_thread();
}

static bool nonblocking(int fd) {
  bool held = netpoll_hold_flags(fd);
  long fl = raw_syscall3(SYS_fcntl, fd, F_GETFL, 0);
  if (held) netpoll_drop_flags(fd);
  return fl >= 0 && (fl & O_NONBLOCK);
}

/* When the socket's own timeout is over. */
static uint64_t socket_deadline(int fd, enum netpoll_dir dir) {
  struct timeval tv = {0, 0};
  socklen_t len = sizeof tv;
  if (raw_syscall5(SYS_getsockopt, fd, SOL_SOCKET, dir == NETPOLL_READ ? SO_RCVTIMEO : SO_SNDTIMEO, (long)&tv, (long)&len) < 0)
    return UINT64_MAX;
  if (tv.tv_sec == 0 && tv.tv_usec == 0) return UINT64_MAX;
  return call_deadline((uint64_t)tv.tv_sec, (uint64_t)tv.tv_usec * 1000u);
}

/* What poll says of one descriptor, without waiting: 0: it would block; else its revents, or -errno. */
static long poll_one(int fd, short events) {
  struct pollfd p = {.fd = fd, .events = events};
  struct timespec none = {0, 0};
  long r;
  do r = raw_syscall5(SYS_ppoll, (long)&p, 1, (long)&none, 0, 0);
  while (r == -EINTR); /* ours: no handler of the program runs here, and it looks for signals also where it need not wait */
  return r > 0 ? p.revents : r;
}

/* --- the context of a G --- */

/*
 * Its hook is in the frame of each wait, so that binding costs nothing but when a G waits.
 *
 *   the G      hook_add: 0; netpoll_wait(call); hook_remove: true, or false: waits until left is 0
 *   ctx ends   takes the hook out; netpoll_stop(call); left = 0
 *
 * Whether the end comes before the G has parked, while it does, or after, is all the same to netpoll_stop.
 */
struct bound {
  struct netpoll_call call;
  struct context_hook hook;
  _Atomic uint32_t left; /* 1: bound_ended has not finished */
  struct stop stop;      /* for signals to a thread G */
};

static void bound_ended(struct context_hook *h, int err) {
  struct bound *b = h->arg;
  (void)err;
  netpoll_stop(&b->call);
  atomic_store_explicit(&b->left, 0, memory_order_release); /* pairs with park_bound: b may go after this */
}

static void bound_stopped(struct stop *s) { netpoll_stop(&((struct bound *)((char *)s - offsetof(struct bound, stop)))->call); }

/* dir < 0: any of n; else want is one descriptor in this direction. */
static __attribute__((noinline)) int park_bound(struct g *g, const struct netpoll_want *want, size_t n, int dir, uint64_t until) {
  struct bound b = {.hook = {.fn = bound_ended}, .left = 1, .stop = {bound_stopped}};
  b.hook.arg = &b;
  if (context_hook_add(g->io_ctx, &b.hook)) return -ECANCELED;
  if (!stop_arm(g, &b.stop)) netpoll_stop(&b.call);
  int r = dir < 0 ? netpoll_wait_any(want, n, until, &b.call)
                  : netpoll_wait(want->fd, (enum netpoll_dir)dir, want->seen[dir], until, &b.call, want->hold);
  stop_disarm(g, &b.stop);
  if (!context_hook_remove(&b.hook))
    while (atomic_load_explicit(&b.left, memory_order_acquire)) g_yield(); /* pairs with bound_ended */
  /* By its context, or by a notice; and that may have been seen to meanwhile, by a signal of ours that found the carrier. */
  bool noticed = atomic_load_explicit(&g->notice, memory_order_relaxed) || !context_err(g->io_ctx);
  return r == -ECANCELED && noticed ? -EINTR : r;
}

/* Others may end its waits. */
static bool is_bound(const struct g *g) { return g->io_ctx || g->kind == G_THREAD; }

int lightio_park(int fd, enum netpoll_dir dir, uint32_t seen, uint64_t until, struct netpoll_hold *hold) {
  struct g *g = g_self();
  if (g->kind == G_WIRED) return -EPERM;
  if (__builtin_expect(!is_bound(g), 1)) return netpoll_wait(fd, dir, seen, until, NULL, hold);
  struct netpoll_want want = {.fd = fd, .hold = hold};
  want.seen[dir] = seen;
  return park_bound(g, &want, 1, (int)dir, until);
}

int lightio_park_any(const struct netpoll_want *want, size_t n, uint64_t until) {
  struct g *g = g_self();
  if (g->kind == G_WIRED) return -EPERM;
  return is_bound(g) ? park_bound(g, want, n, -1, until) : netpoll_wait_any(want, n, until, NULL);
}

int lightio_signalled(const struct free_mark *since, bool always) {
  return free_interrupted(since, always) ? -EINTR : carrier_now() ? 0 : -EPERM;
}

/* A thread G's is over because it was cancelled: it ends here, unless it has disabled that meanwhile. */
int lightio_over(void) {
  struct g *g = g_self(); /* wired meanwhile: one without a context */
  int over = context_err(g->io_ctx);
  if (__builtin_expect(over != 0, 0) && g->kind == G_THREAD) {
    g->io_ctx = NULL; /* what its handlers do is not cancelled */
    free_testcancel();
    return 0;
  }
  return over;
}

int lightio_sleep(uint64_t at) {
  struct g *g = g_self();
  if (!is_bound(g)) {
    g_sleep_until(at);
    return 0;
  }
  struct free_mark mark = free_mark();
  int r = context_sleep_until(g->io_ctx, at);
  if (r == 0 || g->kind == G_LIGHT) return -r;
  if (r == -EINTR) return lightio_signalled(&mark, true) == -EINTR ? EINTR : EAGAIN;
  (void)lightio_over(); /* where it ends */
  return EAGAIN;
}

__attribute__((noinline)) void lightio_point_slow(void) {
  if (g_self()->kind == G_THREAD) (void)lightio_over();
}

__attribute__((noinline)) bool call_over(void) {
  int over = light_running() ? lightio_over() : 0;
  if (over) call_set_errno(-over);
  return over != 0;
}

/* What one call needs to remember over its parks. */
struct op {
  int fd;     /* its file's, before each try */
  int number; /* the program's */
  struct netpoll_hold hold;
  enum netpoll_dir dir;
  uint32_t seen; /* edges before the last try */
  bool asked;    /* deadline is known */
  bool partial;  /* something was read or written: after any handler that is the call's result */
  uint64_t deadline;
};

#define OP(of, to) \
  { .fd = (of), .number = (of), .dir = (to) }

static inline void op_end(struct op *op) {
  netpoll_hold_end(&op->hold);
  op->fd = op->number;
}

/* How the call ends: errno is set after a close of ours. */
static inline long op_ends(struct op *op, long r) {
  op_end(op);
  return r;
}

static bool is_file(int fd) {
  struct stat st;
  return raw_syscall2(SYS_fstat, fd, (long)&st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode));
}

/* A thread G whose context is over may end here. */
static int op_over(struct op *op, struct ration_context *ctx) {
  if (__builtin_expect(context_err(ctx) == 0, 1)) return 0;
  op_end(op);
  return lightio_over();
}

/* Before each try.  0, or the error of the G's context, which is over. */
static inline int op_look(struct op *op) {
  const struct carrier *c = carrier_now();
  if (c && __builtin_expect(c->g->io_ctx != NULL, 0)) {
    int err = op_over(op, c->g->io_ctx);
    if (err && !is_file(op->fd)) return err;
  }
  op->seen = netpoll_edges(op->fd, op->dir);
  return 0;
}

/* How long it may wait.  False: the program had set O_NONBLOCK. */
static bool op_may_wait(struct op *op) {
  if (op->asked) return true;
  bool plain = netpoll_plain(op->fd);
  if (!plain && nonblocking(op->fd)) return false;
  op->deadline = plain ? UINT64_MAX : socket_deadline(op->fd, op->dir);
  op->asked = true;
  return true;
}

/* SA_RESTART or not. */
static bool ends_by_handler(const struct op *op) { return op->partial || op->deadline != UINT64_MAX; }

static int op_wait_once(struct op *op) {
  if (!op_may_wait(op)) return -EAGAIN;
  struct free_mark mark = free_mark();
  int r = lightio_park(op->fd, op->dir, op->seen, op->deadline, &op->hold);
  if (r == -EINTR || r == -ECANCELED) op_end(op); /* before code of the program's runs, which may never come back */
  if (r == -EINTR) return lightio_signalled(&mark, ends_by_handler(op));
  return r == -ETIMEDOUT ? -EAGAIN : r == -ECANCELED ? lightio_over() : r == 0 ? 0 : -EPERM;
}

/* Its number was closed since. */
static bool op_moved(struct op *op) {
  int was = op->fd;
  op->fd = netpoll_number(&op->hold, op->number);
  return op->fd != was;
}

/* After -EAGAIN. 0: try again; else the call's result: -EAGAIN, or the context's error; -EPERM: call it as it is. */
static int op_wait(struct op *op) {
  int r = op_wait_once(op);
  op_moved(op);
  if (r == -EPERM) netpoll_hold_rest(&op->hold);
  return r;
}

#define POLL_LOOP(op, attempt, blocking)                               \
  for (;;) {                                                           \
    long r_ = op_look(&(op));                                          \
    if (r_ == 0) r_ = (attempt);                                       \
    if (r_ == -EBADF && op_moved(&(op))) continue;                     \
    if (r_ != -EAGAIN) return lightio_result(op_ends(&(op), r_));      \
    int w_ = op_wait(&(op));                                           \
    if (w_ == -EPERM) return lightio_result(op_ends(&(op), blocking)); \
    if (w_ < 0) return lightio_result(op_ends(&(op), w_));             \
  }

/* --- pieces --- */

static size_t iov_bytes(const struct iovec *v, int n) {
  size_t sum = 0;
  for (int i = 0; i < n; i++) sum += v[i].iov_len;
  return sum;
}

int iov_after(const struct iovec *v, int n, size_t done, struct iovec left[IOV_COPY]) {
  int k = 0;
  for (int i = 0; i < n && k < IOV_COPY; i++) {
    size_t skip = done < v[i].iov_len ? done : v[i].iov_len;
    done -= skip;
    if (skip < v[i].iov_len) left[k++] = (struct iovec){(char *)v[i].iov_base + skip, v[i].iov_len - skip};
  }
  return k;
}

/* --- terminals --- */

/*
 * Of a process in the background the kernel asks whether the thread blocks SIGTTIN (or SIGTTOU, where the terminal wants it so), as carriers do: the caller gets a thread of
 * its own, with its mask.  True: the call is to be made as it is.
 */
static __attribute__((noinline)) bool in_background(int fd, bool writes) {
  pid_t group = 0;
  struct termios tio = {.c_lflag = 0};
  if (!free_mode || raw_syscall3(SYS_ioctl, fd, TIOCGPGRP, (long)&group) < 0 || group == getpgrp()) return false;
  if (writes && (raw_syscall3(SYS_ioctl, fd, TCGETS, (long)&tio) < 0 || !(tio.c_lflag & TOSTOP))) return false;
  free_wire(FREE_WIRE_SIGNALS);
  return true;
}

/* --- reading --- */

/* A file.  *st is filled in where it has to be asked. */
static bool is_no_pipe(int fd, struct stat *st) { return !netpoll_is_fresh(fd) && sys_is_file(fd, st); }

static bool is_signalfd(int fd) {
  static const char what[] = "anon_inode:[signalfd]";
  char path[32] = "/proc/self/fd/", name[sizeof what];
  decimal(path + strlen(path), (uint32_t)fd);
  long n = raw_syscall4(SYS_readlinkat, AT_FDCWD, (long)path, (long)name, sizeof name);
  return n == sizeof what - 1 && memcmp(name, what, sizeof what - 1) == 0;
}

/* Whatever poll says, it is not for us to wait: a tty has rules of its own (VMIN, VTIME, who is in the background), and an eventfd or the like refuses less than a number, a signalfd than one signal. */
static bool has_own_rules(int fd, const struct stat *st, size_t bytes) {
  char termios[256]; /* the kernel's own struct is smaller */
  if (S_ISCHR(st->st_mode)) return raw_syscall3(SYS_ioctl, fd, TCGETS, (long)termios) == 0;
  if (st->st_mode & S_IFMT) return false;
  return bytes < sizeof(uint64_t) || (bytes < sizeof(struct signalfd_siginfo) && is_signalfd(fd));
}

/*
 * A try does not block, and says -EAGAIN where it would have to.  A descriptor that can't be tried is polled first.  Files are not tried: where that gets a part,
 * another reader of the same position comes before the rest.
 */
static long try_readv(struct op *op, const struct iovec *v, int n) {
  int fd = op->fd;
  struct stat st = {.st_mode = S_IFSOCK};
  if (is_no_pipe(fd, &st)) return lightdisk_readv(fd, v, n, &st);
  long r = raw_syscall6(SYS_preadv2, fd, (long)v, n, -1, -1, RWF_NOWAIT);
  if (r != -EOPNOTSUPP && r != -ESPIPE && r != -EINVAL && r != -EIO) return r;
  if (!in_background(fd, false) && r == -EIO) return r;
  if (carrier_now() && r != -EINVAL && poll_one(fd, POLLIN) == 0 && !has_own_rules(fd, &st, iov_bytes(v, n))) return -EAGAIN;
  netpoll_hold_rest(&op->hold);
  return BRACKET(SYS_readv, fd, v, n);
}

static int low_water(int fd) {
  int low = 1;
  socklen_t len = sizeof low;
  return raw_syscall5(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVLOWAT, (long)&low, (long)&len) < 0 ? 1 : low;
}

/* A read that blocks waits for SO_RCVLOWAT bytes, or all that it asks for; one that does not takes what there is. */
static bool is_below(int fd, int low, size_t n) {
  int have = 0;
  if (raw_syscall3(SYS_ioctl, fd, FIONREAD, (long)&have) < 0 || (size_t)have >= ((size_t)low < n ? (size_t)low : n)) return false;
  return poll_one(fd, POLLIN | POLLRDHUP) == 0 && !nonblocking(fd);
}
#define BELOW_LOWAT(fd, n)                                  \
  ({                                                        \
    int low_ = netpoll_plain(fd) ? 1 : low_water(fd);       \
    __builtin_expect(low_ > 1, 0) && is_below(fd, low_, n); \
  })

/* any: not only of a socket. */
static long try_read(struct op *op, void *buf, size_t n, bool any) {
  int fd = op->fd;
  if (BELOW_LOWAT(fd, n)) return -EAGAIN;
  long r = raw_syscall6(SYS_recvfrom, fd, (long)buf, (long)n, MSG_DONTWAIT, 0, 0);
  if (r != -ENOTSOCK || !any) return r;
  struct iovec v = {buf, n};
  return try_readv(op, &v, 1);
}

/* As try_read, but what is known to be empty is not tried: step 1 is left out. */
static long try_first(struct op *op, void *buf, size_t n, bool any) {
  if (n && netpoll_drained(op->fd, op->seen)) return -EAGAIN;
  long r = try_read(op, buf, n, any);
  if (r > 0 && (size_t)r < n) netpoll_set_drained(op->fd, op->seen);
  return r;
}

ssize_t lightio_read(int fd, void *buf, size_t n) {
  struct op op = OP(fd, NETPOLL_READ);
  if (__builtin_expect(n == 0, 0)) lightio_point();
  if (__builtin_expect(n == 0, 0)) return lightio_result(BRACKET(SYS_read, fd, buf, n)); /* of a socket it waits as little as of others */
  POLL_LOOP(op, try_first(&op, buf, n, true), BRACKET(SYS_read, op.fd, buf, n));
}

ssize_t lightio_readv(int fd, const struct iovec *v, int n) {
  struct op op = OP(fd, NETPOLL_READ);
  POLL_LOOP(op, try_readv(&op, v, n), BRACKET(SYS_readv, op.fd, v, n));
}

static bool is_stream(int fd) {
  int type = 0;
  socklen_t len = sizeof type;
  return raw_syscall5(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, (long)&type, (long)&len) == 0 && type == SOCK_STREAM;
}

static bool bytes_there(int fd) {
  int n = 0;
  return raw_syscall3(SYS_ioctl, fd, FIONREAD, (long)&n) == 0 && n > 0;
}

/*
 * MSG_WAITALL: until the buffers are full, the stream ends, or an error: which is left for the next call if something was received.
 * Looking ahead (MSG_PEEK) can't be done in parts, and what comes with a part (names, control messages) not be put together.
 */
static ssize_t recv_all(int fd, struct msghdr *msg, int flags) {
  struct op op = OP(fd, NETPOLL_READ);
  struct iovec left[IOV_COPY];
  struct msghdr m = *msg;
  size_t all = iov_bytes(msg->msg_iov, (int)msg->msg_iovlen), done = 0;
  if ((flags & (MSG_PEEK | MSG_OOB | MSG_TRUNC)) || m.msg_name || m.msg_control || !is_stream(fd))
    return lightio_result(BRACKET(SYS_recvmsg, fd, msg, flags));
  for (;;) {
    int ended = op_look(&op);
    long ev = done ? poll_one(op.fd, POLLIN) : POLLIN;
    if (done && (ev & POLLERR) && !bytes_there(op.fd)) return op_ends(&op, (long)done);
    long r = ended ? ended : ev ? raw_syscall3(SYS_recvmsg, op.fd, (long)&m, flags | MSG_DONTWAIT) : -EAGAIN;
    if (r == -EBADF && op_moved(&op)) continue;
    bool over = r != -EAGAIN && (r <= 0 || done + (size_t)r >= all);
    if (r == -EAGAIN) {
      int w = op_wait(&op);
      if (w == 0) continue;
      r = w == -EPERM ? BRACKET(SYS_recvmsg, op.fd, &m, flags) : w;
      over = true;
    }
    if (r > 0) done += (size_t)r;
    op.partial = done > 0;
    if (over) {
      op_end(&op);
      msg->msg_flags = m.msg_flags;
      msg->msg_controllen = 0;
      return r < 0 && !done ? lightio_result(r) : (ssize_t)done;
    }
    m.msg_iov = left;
    m.msg_iovlen = (size_t)iov_after(msg->msg_iov, (int)msg->msg_iovlen, done, left);
  }
}

ssize_t lightio_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from, socklen_t *len) {
  struct op op = OP(fd, NETPOLL_READ);
  if (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) lightio_point();
  if (flags & (MSG_DONTWAIT | MSG_ERRQUEUE))
    return lightio_result(raw_syscall6(SYS_recvfrom, fd, (long)buf, (long)n, flags, (long)from, (long)len));
  if ((flags & MSG_WAITALL) && !from) return recv_all(fd, &(struct msghdr){.msg_iov = &(struct iovec){buf, n}, .msg_iovlen = 1}, flags);
  if (flags & MSG_WAITALL) return lightio_result(BRACKET(SYS_recvfrom, fd, buf, n, flags, from, len));
  if (flags == 0 && !from) POLL_LOOP(op, try_first(&op, buf, n, false), BRACKET(SYS_recvfrom, op.fd, buf, n, flags));
  POLL_LOOP(
      op,
      BELOW_LOWAT(op.fd, n) ? -EAGAIN : raw_syscall6(SYS_recvfrom, op.fd, (long)buf, (long)n, flags | MSG_DONTWAIT, (long)from, (long)len),
      BRACKET(SYS_recvfrom, op.fd, buf, n, flags, from, len));
}

/* Else the kernel is to say what it misses. */
static bool msg_there(const struct msghdr *m) {
  if (!sys_can_read(m, sizeof *m) || m->msg_iovlen > IOV_MAX) return false;
  return m->msg_iovlen == 0 || sys_can_read(m->msg_iov, m->msg_iovlen * sizeof *m->msg_iov);
}

static size_t msg_bytes(const struct msghdr *m) { return msg_there(m) ? iov_bytes(m->msg_iov, (int)m->msg_iovlen) : 0; }

ssize_t lightio_recvmsg(int fd, struct msghdr *msg, int flags) {
  struct op op = OP(fd, NETPOLL_READ);
  if (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) lightio_point();
  if (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) return lightio_result(raw_syscall3(SYS_recvmsg, fd, (long)msg, flags));
  if (flags & MSG_WAITALL) return msg_there(msg) ? recv_all(fd, msg, flags) : lightio_result(BRACKET(SYS_recvmsg, fd, msg, flags));
  POLL_LOOP(op, BELOW_LOWAT(op.fd, msg_bytes(msg)) ? -EAGAIN : raw_syscall3(SYS_recvmsg, op.fd, (long)msg, flags | MSG_DONTWAIT),
            BRACKET(SYS_recvmsg, op.fd, msg, flags));
}

/* --- writing: all of it --- */

/* As try_readv. */
static long try_writev(struct op *op, const struct iovec *v, int n) {
  int fd = op->fd;
  struct stat st = {.st_mode = S_IFSOCK};
  if (is_no_pipe(fd, &st)) return BRACKET(SYS_writev, fd, v, n);
  long r = raw_syscall6(SYS_pwritev2, fd, (long)v, n, -1, -1, RWF_NOWAIT);
  if (r != -EOPNOTSUPP && r != -ESPIPE && r != -EINVAL) return r;
  bool whole = (st.st_mode & S_IFMT) != 0 || iov_bytes(v, n) >= sizeof(uint64_t); /* an eventfd refuses less */
  if (r != -EINVAL && whole && !in_background(fd, true) && poll_one(fd, POLLOUT) == 0) return -EAGAIN;
  netpoll_hold_rest(&op->hold);
  return BRACKET(SYS_writev, fd, v, n);
}

/* One writing call.  `attempt` writes what is left after `done` bytes: as a try, or (block) as it is, in the bracket. */
struct out {
  struct op op;
  int flags;
  size_t all;
  long (*attempt)(struct out *o, size_t done, bool block);
  bool socket; /* as far as we know */
  bool any;    /* or something else */
  const void *buf;
  const struct sockaddr *to; /* an address that goes with it */
  socklen_t tolen;
  const struct iovec *v;
  int n;
  const struct msghdr *msg;
};

/*
 * To a Unix datagram socket by its name: whether that is full, no edge of ours tells, and poll neither.  A failed try even makes an edge, as it
 * frees what it had made; so it is not for op_wait, but the call as it is, which also knows O_NONBLOCK.  No context ends that.
 */
static bool to_unix(const struct out *o) { return o->to && o->tolen >= sizeof o->to->sa_family && o->to->sa_family == AF_UNIX; }

/* A file that may not become longer: an attempt would bring SIGXFSZ. */
static bool at_limit(int fd) {
  struct rlimit64 lim = {0, RLIM64_INFINITY};
  if (raw_syscall4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&lim) < 0 || lim.rlim_cur == RLIM64_INFINITY) return false;
  long at = raw_syscall3(SYS_lseek, fd, 0, SEEK_CUR);
  return at >= 0 && (uint64_t)at >= lim.rlim_cur;
}

/*
 * What poll says before an attempt.  After a part an error of a connection is left for the next call, which would not hear of it if an attempt had; but a pipe tells of
 * it now, too.
 */
static long look_before(int fd, size_t done, bool *over) {
  long ev = done ? poll_one(fd, POLLOUT) : POLLOUT;
  *over = done && ((ev > 0 && (ev & (POLLERR | POLLHUP)) && is_stream(fd)) || at_limit(fd));
  return ev;
}

static ssize_t write_whole(struct out *o) {
  struct op *op = &o->op;
  size_t done = 0;
  for (;;) {
    int over = op_look(op);
    bool lost, last = false;
    long ev = look_before(o->op.fd, done, &lost);
    if (lost) return op_ends(op, (long)done);
    long r = over ? over : ev ? o->attempt(o, done, false) : -EAGAIN;
    if (r == -EBADF && op_moved(op)) continue;
    if (r == -EAGAIN) {
      int w = to_unix(o) ? -EPERM : op_wait(op);
      if (w == 0) continue;
      last = true;
      r = w == -EPERM ? o->attempt(o, done, true) : w;
    }
    if (r < 0) op_end(op);
    if (r < 0 && !done) return lightio_result(r);
    if (r < 0) {
      signals_of(r);
      return (ssize_t)done;
    }
    done += (size_t)r;
    op->partial = done > 0;
    if (last || r == 0 || done >= o->all || (!op->asked && nonblocking(o->op.fd))) return op_ends(op, (long)done);
  }
}

/* After a part there is no SIGPIPE. */
static int flags_of(const struct out *o, size_t done) { return o->flags | (done ? MSG_NOSIGNAL : 0); }

static long attempt_buf(struct out *o, size_t done, bool block) {
  struct iovec v = {(char *)(uintptr_t)o->buf + done, o->all - done};
  int flags = flags_of(o, done);
  if (o->socket && block) return BRACKET(SYS_sendto, o->op.fd, v.iov_base, v.iov_len, flags, o->to, o->tolen);
  if (o->socket) {
    long r = raw_syscall6(SYS_sendto, o->op.fd, (long)v.iov_base, (long)v.iov_len, flags | MSG_DONTWAIT, (long)o->to, (long)o->tolen);
    if (r != -ENOTSOCK || !o->any) return r;
    o->socket = false;
  }
  return block || o->all == 0 ? BRACKET(SYS_write, o->op.fd, v.iov_base, v.iov_len) : try_writev(&o->op, &v, 1);
}

ssize_t lightio_write(int fd, const void *buf, size_t n) {
  struct out o = {.op = OP(fd, NETPOLL_WRITE), .attempt = attempt_buf, .all = n, .buf = buf, .socket = true, .any = true};
  return write_whole(&o);
}

ssize_t lightio_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t len) {
  struct out o = {
      .op = OP(fd, NETPOLL_WRITE), .flags = flags, .attempt = attempt_buf, .all = n, .buf = buf, .socket = true, .to = to, .tolen = len};
  if (flags & MSG_DONTWAIT) lightio_point();
  if (flags & MSG_DONTWAIT) return lightio_result(raw_syscall6(SYS_sendto, fd, (long)buf, (long)n, flags, (long)to, (long)len));
  return write_whole(&o);
}

static long attempt_iov(struct out *o, size_t done, bool block) {
  struct iovec left[IOV_COPY];
  const struct iovec *v = done ? left : o->v;
  int n = done ? iov_after(o->v, o->n, done, left) : o->n;
  long r = block ? BRACKET(SYS_writev, o->op.fd, v, n) : try_writev(&o->op, v, n);
  if (r >= 0 && !done) o->all = iov_bytes(v, n); /* not before the kernel has found that v is there */
  return r;
}

ssize_t lightio_writev(int fd, const struct iovec *v, int n) {
  struct out o = {.op = OP(fd, NETPOLL_WRITE), .attempt = attempt_iov, .v = v, .n = n};
  return write_whole(&o);
}

static long send_msg(struct out *o, const struct msghdr *m, int flags, bool block) {
  return block ? BRACKET(SYS_sendmsg, o->op.fd, m, flags) : raw_syscall3(SYS_sendmsg, o->op.fd, (long)m, flags | MSG_DONTWAIT);
}

/* The kernel reads the message first, and finds whether it is there. */
static long attempt_msg(struct out *o, size_t done, bool block) {
  struct iovec left[IOV_COPY];
  if (done) {
    struct msghdr m = *o->msg;
    m.msg_iov = left;
    m.msg_iovlen = (size_t)iov_after(o->msg->msg_iov, (int)o->msg->msg_iovlen, done, left);
    m.msg_control = NULL; /* went with the first bytes */
    m.msg_controllen = 0;
    return send_msg(o, &m, flags_of(o, done), block);
  }
  long r = send_msg(o, o->msg, o->flags, block);
  if (r < 0 && r != -EAGAIN) return r;
  o->to = o->msg->msg_name;
  o->tolen = o->msg->msg_namelen;
  o->all = iov_bytes(o->msg->msg_iov, (int)o->msg->msg_iovlen);
  return r;
}

ssize_t lightio_sendmsg(int fd, const struct msghdr *msg, int flags) {
  struct out o = {.op = OP(fd, NETPOLL_WRITE), .flags = flags, .attempt = attempt_msg, .msg = msg};
  if (flags & MSG_DONTWAIT) lightio_point();
  if (flags & MSG_DONTWAIT) return lightio_result(raw_syscall3(SYS_sendmsg, fd, (long)msg, flags));
  return write_whole(&o);
}

/* --- connections --- */

/*
 * accept has no flag for one call either: poll says that somebody is there, and the call is made as it is.  So that two Gs do not both hear that
 * of the same one, and the slower blocks, only one G at a time looks and takes: others that come meanwhile park in the lot, and look again.
 * Should a thread or another process be faster, it blocks in the bracket all the same, and those behind it wait as well.
 *
 * In a child that was forked meanwhile there is nobody who would leave: slots and keys are by process.  Nor does one that blocks leave a listener
 * that was closed: the number, used again, is another's by its `age`.
 */
#define ACCEPT_SLOTS 64
struct accepting {
  struct accepting *next; /* [lot of key] */
  const void *key;
  int fd;
  uint32_t age; /* edges for writing: a listener has none, but when it is made and closed */
  bool in;
};
static struct accept_slot {
  uint32_t pid;
  struct accepting *first;
} accept_slots[ACCEPT_SLOTS]; /* [lot of the key] */

/* False: another G is at it; then w, if there is one, is queued. */
static bool accept_enter(struct accepting *me, struct waiter *w) {
  struct accept_slot *s = &accept_slots[(unsigned)me->fd % ACCEPT_SLOTS];
  uint32_t pid = sys_getpid();
  me->key = (void *)((uintptr_t)s ^ (uintptr_t)pid << 40 ^ 1); /* odd: no address of anything that has a queue */
  struct lot *l = lot_lock(me->key);
  if (s->pid != pid) *s = (struct accept_slot){.pid = pid};
  struct accepting *at = s->first;
  while (at && (at->fd != me->fd || at->age != me->age)) at = at->next;
  me->in = !at;
  if (!at) {
    me->next = s->first;
    s->first = me;
  } else if (w) {
    *w = (struct waiter)WAITER_INIT(me->key);
    w->interruptible = true;
    lot_push(l, w, false);
  }
  lot_unlock(l);
  return !at;
}

static void accept_leave(struct accepting *me) {
  if (!me->in) return;
  struct lot *l = lot_lock(me->key);
  struct accepting **at = &accept_slots[(unsigned)me->fd % ACCEPT_SLOTS].first;
  while (*at != me) at = &(*at)->next;
  *at = me->next;
  struct waiter *behind = lot_pop_all(l, me->key);
  lot_unlock(l);
  lot_wake_all(behind);
}

/* Behind another. 0: again; else why it waits no longer. */
static int accept_behind(struct op *op, struct waiter *w) {
  struct free_mark mark = free_mark();
  int r = lot_wait(w, &(struct limit){op->deadline, g_self()->io_ctx}, WAIT_IO);
  if (r) op_end(op); /* as in op_wait_once */
  if (r == -EINTR && free_interrupted(&mark, ends_by_handler(op))) return r;
  if (r == 0 || r == -EINTR) return 0;
  int over = lightio_over();
  return over ? over : -EAGAIN;
}

/* 0: come in, or need not; else why it waits no longer. */
static int accept_turn(struct op *op, struct accepting *me) {
  struct waiter w;
  for (;;) {
    op_moved(op);
    *me = (struct accepting){.fd = op->fd, .age = netpoll_edges(op->fd, NETPOLL_WRITE)};
    int over = op_look(op);
    if (over) return over;
    if (accept_enter(me, NULL)) return 0;
    if (!op_may_wait(op)) return 0; /* nor does the call */
    netpoll_hold_begin(&op->hold, op->fd);
    if (op_moved(op)) continue;
    if (accept_enter(me, &w)) return 0;
    over = accept_behind(op, &w);
    if (over) return over;
  }
}

/* It has the listener's timeouts, but not its O_NONBLOCK. */
void lightio_accepted(int listener, int fd, int flags) {
  if (!__atomic_load_n(&light.started, __ATOMIC_RELAXED)) return; /* as netpoll_fresh */
  netpoll_fresh(fd);
  if (flags & SOCK_NONBLOCK) return;
  if (netpoll_plain(listener) ||
      (socket_deadline(fd, NETPOLL_READ) == UINT64_MAX && socket_deadline(fd, NETPOLL_WRITE) == UINT64_MAX && low_water(fd) <= 1))
    netpoll_set_plain(fd);
}

/* The call refuses at once, whatever poll says. */
static bool accepts_nothing(int fd, int flags) {
  int listens = 0;
  socklen_t len = sizeof listens;
  if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) return true;
  return raw_syscall5(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, (long)&listens, (long)&len) < 0 || !listens;
}

int lightio_accept4(int fd, struct sockaddr *from, socklen_t *len, int flags) {
  struct op op = OP(fd, NETPOLL_READ);
  for (;;) {
    struct accepting me;
    int over = accept_turn(&op, &me);
    if (over) return (int)lightio_result(op_ends(&op, over));
    bool ready = poll_one(op.fd, POLLIN) != 0 || accepts_nothing(op.fd, flags);
    if (ready) netpoll_hold_rest(&op.hold);
    long r = ready ? BRACKET(SYS_accept4, op.fd, from, len, flags) : 0;
    accept_leave(&me);
    if (r == -EBADF && op_moved(&op)) continue;
    if (!ready) {
      int w = op_wait(&op);
      if (w == 0) continue;
      r = w == -EPERM ? BRACKET(SYS_accept4, op.fd, from, len, flags) : w;
    }
    if (r >= 0) lightio_accepted(op.fd, (int)r, flags);
    return (int)lightio_result(op_ends(&op, r));
  }
}

/*
 * connect has no flag for one call.  So a TCP socket is made O_NONBLOCK for the time of the system call that begins it (some 20 us, which
 * do not wait for anything), the G parks until poll says that it is decided, and the same call once more, blocking, fetches how:
 * the socket is left as a blocking connect leaves it, also after a failure.
 *
 * Seen of that: nothing in this process, where wrappers that read or set the flag wait for the end of it (netpoll_lend); a process
 * that shares the socket may see O_NONBLOCK in that moment, and lose a change of it that it makes then.  Operations on a socket that is
 * not connected don't depend on it.
 * Only for sockets that our wrappers made.  Others, and other kinds, connect in the bracket: it blocks the M where it waits.  UDP never
 * does, and where a Unix socket waits (for a place in the backlog) there is nothing to poll.
 *
 * Rejected: SO_SNDTIMEO of 1 us: as visible, for a whole tick, which blocks the M.  sendto(MSG_FASTOPEN | MSG_DONTWAIT) is
 * exact in this process, but the peer and what is between see another SYN.  io_uring's connect takes the flag from the call: right, but
 * forbidden in many containers, so it could only come on top.
 */
static __attribute__((noinline)) long begin_connect(int fd, const struct sockaddr *to, socklen_t len, bool *begun) {
  int on = 1, off = 0;
  struct free_mark mark = free_mark();
  gate_enter(); /* before the lending: it may have to wait for a P, and so long nobody is to wait for the flags */
  *begun = netpoll_lend(fd);
  if (*begun) raw_syscall3(SYS_ioctl, fd, FIONBIO, (long)&on);
  long r = raw_syscall3(SYS_connect, fd, (long)to, (long)len);
  if (*begun) {
    raw_syscall3(SYS_ioctl, fd, FIONBIO, (long)&off);
    netpoll_give_back(fd);
  }
  gate_exit();
  if (wired_meanwhile(r, SYS_connect, fd, &mark)) {
    *begun = false;
    return bracketed(SYS_connect, fd, (long)to, (long)len, 0, 0, 0);
  }
  return or_over(r);
}

int lightio_connect(int fd, const struct sockaddr *to, socklen_t len) {
  struct op op = OP(fd, NETPOLL_WRITE);
  bool begun;
  int over = op_look(&op);
  if (over) return (int)lightio_result(over);
  long first = begin_connect(fd, to, len, &begun);
  if (!begun || (first != -EINPROGRESS && first != -EALREADY)) return (int)lightio_result(first);
  for (;;) {
    over = op_look(&op);
    if (over) return (int)lightio_result(op_ends(&op, over));
    if (poll_one(op.fd, POLLOUT) != 0) break;
    int w = op_wait(&op);
    if (w == -EPERM) break;
    if (w == -EAGAIN) return (int)lightio_result(op_ends(&op, first)); /* SO_SNDTIMEO is over */
    if (w < 0) return (int)lightio_result(op_ends(&op, w));
  }
  op_moved(&op);
  netpoll_hold_rest(&op.hold);
  return (int)lightio_result(op_ends(&op, BRACKET(SYS_connect, op.fd, to, len)));
}
