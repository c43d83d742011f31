/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The netpoller: one epoll instance, edge-triggered, for all descriptors that light Gs wait for.
 *
 * A descriptor is added once, for both directions, when a G first waits for it.  An edge that nobody waits for is kept as
 * `ready`, and the next to wait tries again at once: so no edge between a G's failed try and its wait is lost.
 *
 *   direction:  NONE --edge--> READY --netpoll_wait takes it--> NONE
 *               NONE --netpoll_wait--> waiters in line --edge: all of them are readied--> NONE
 *
 * A number is not the file behind it.  The kernel forgets a registration when the last descriptor of the file is closed; we learn of that only
 * where the closing goes through our wrappers (netpoll_forget), not from inside of libc (fclose) or raw system calls.  So only a
 * descriptor that our wrappers saw come into being (netpoll_fresh: accept, socket, pipe) is trusted to be registered still; for others each wait asks the
 * kernel (EPOLL_CTL_MOD, which also makes it report anew).
 *
 * Entries are in chunks that are never freed.  Lock: one for each entry, and nothing is taken under it.
 */
#include "core/netpoll.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "core/carrier.h"
#include "core/uring.h"

#define CHUNK 1024u
#define CHUNKS 1024u
#define EVENTS_MOST 128
#define BREAK UINT64_MAX /* events of what is no descriptor of the program's */
#define RING (UINT64_MAX - 1)
#define BOTH (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

struct waiter {
  struct waiter *next, **at; /* in the line; at null: readied */
  struct g *g;
  struct entry *e;
  struct timer timer;
  _Atomic uint32_t won; /* edge and deadline: the first to set it readies the G */
  bool timed_out;
  _Atomic uint32_t timer_left; /* 1: the timer's callback has not finished */
};

struct entry {
  struct lock lock;
  bool registered, trusted;
  _Atomic bool plain; /* read without the lock: a hint that a wrapper of the same thread, or one that it waited for, has set */
  enum { TCP_UNKNOWN, TCP_YES, TCP_NO } tcp;
  _Atomic bool drained; /* set and taken by who reads; two that read the same socket may both find it: the second only waits for an edge */
  bool ended;           /* the other side has closed: no edge need come any more */
  bool ready[2];
  struct waiter *line[2];
};

static _Atomic(struct entry *) chunks[CHUNKS];
static int epfd = -1, evfd = -1;
static struct lock open_lock;
static _Atomic uint32_t nwaiters;
static _Atomic uint64_t sleeps_until;

uint32_t netpoll_waiters(void) { return atomic_load_explicit(&nwaiters, memory_order_relaxed) + uring_waiters(); }
uint64_t netpoll_sleeps_until(void) { return atomic_load_explicit(&sleeps_until, memory_order_seq_cst); }

int netpoll_open(void) {
  if (__atomic_load_n(&epfd, __ATOMIC_ACQUIRE) >= 0) return 0; /* pairs with the release below */
  run_lock(&open_lock);
  int r = 0;
  if (__atomic_load_n(&epfd, __ATOMIC_RELAXED) < 0) {
    int e = (int)raw_syscall1(SYS_epoll_create1, EPOLL_CLOEXEC);
    int v = (int)raw_syscall3(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = BREAK}; /* stays until the sleeper has read it */
    r = e < 0 ? e : v < 0 ? v : (int)raw_syscall4(SYS_epoll_ctl, e, EPOLL_CTL_ADD, v, (long)&ev);
    evfd = v;
    if (r >= 0) __atomic_store_n(&epfd, e, __ATOMIC_RELEASE); /* pairs with the acquire loads: evfd is right */
  }
  run_unlock(&open_lock);
  return r;
}

int netpoll_watch_ring(int fd) {
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = RING};
  return (int)raw_syscall4(SYS_epoll_ctl, __atomic_load_n(&epfd, __ATOMIC_ACQUIRE), EPOLL_CTL_ADD, fd,
                           (long)&ev); /* pairs with netpoll_open */
}

static struct entry *entry_of(int fd, bool make) {
  if (fd < 0 || (unsigned)fd >= CHUNK * CHUNKS) return NULL;
  _Atomic(struct entry *) *at = &chunks[(unsigned)fd / CHUNK];
  struct entry *c = atomic_load_explicit(at, memory_order_acquire); /* pairs with the CAS below: zeroed memory */
  if (!c && make) {
    long m = raw_syscall6(SYS_mmap, 0, CHUNK * sizeof(struct entry), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m < 0 && m > -4096) return NULL;
    if (atomic_compare_exchange_strong_explicit(at, &c, (struct entry *)m, memory_order_acq_rel, memory_order_acquire))
      c = (struct entry *)m;
    else
      raw_syscall2(SYS_munmap, m, CHUNK * sizeof(struct entry));
  }
  return c ? &c[(unsigned)fd % CHUNK] : NULL;
}

/* --- edges --- */

/* Takes w out of its line. Entry locked. */
static void unline(struct waiter *w) {
  *w->at = w->next;
  if (w->next) w->next->at = w->at;
  w->at = NULL;
}

/* Everybody in the line becomes runnable. Entry locked. */
static void wake_line(struct entry *e, enum netpoll_dir dir, struct gqueue *out) {
  if (!e->line[dir]) {
    e->ready[dir] = true;
    return;
  }
  while (e->line[dir]) {
    struct waiter *w = e->line[dir];
    unline(w);
    if (atomic_exchange_explicit(&w->won, 1, memory_order_acq_rel)) continue; /* its deadline was first */
    w->g->status = G_RUNNABLE;
    gqueue_push(out, w->g);
  }
}

static void edge(int fd, uint32_t events, struct gqueue *out) {
  struct entry *e = entry_of(fd, false);
  if (!e) return;
  run_lock(&e->lock);
  if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) e->ended = true;
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) wake_line(e, NETPOLL_READ, out);
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) wake_line(e, NETPOLL_WRITE, out);
  run_unlock(&e->lock);
}

/* Where there is no epoll_pwait2 (Linux < 5.11, valgrind): to the millisecond, not before the time. */
static int wait_events_ms(struct epoll_event *ev, uint64_t left) {
  int ms = left > (uint64_t)INT32_MAX * 1000000u ? -1 : (int)((left + 999999u) / 1000000u);
  return (int)raw_syscall6(SYS_epoll_pwait, epfd, (long)ev, EVENTS_MOST, ms, 0, 8);
}

static int wait_events(struct epoll_event *ev, uint64_t until) {
  static _Atomic bool in_ms;
  uint64_t left = until;
  if (until != 0 && until != UINT64_MAX) {
    uint64_t now = sys_now();
    left = until > now ? until - now : 0;
  }
  if (atomic_load_explicit(&in_ms, memory_order_relaxed)) return wait_events_ms(ev, left);
  struct timespec ts = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
  int n = (int)raw_syscall6(SYS_epoll_pwait2, epfd, (long)ev, EVENTS_MOST, left == UINT64_MAX ? 0 : (long)&ts, 0, 8);
  if (n != -ENOSYS) return n;
  atomic_store_explicit(&in_ms, true, memory_order_relaxed);
  return wait_events_ms(ev, left);
}

void netpoll(uint64_t until, struct gqueue *out) {
  struct epoll_event ev[EVENTS_MOST];
  if (netpoll_open() < 0) return;
  if (until) {
    atomic_store_explicit(&sleeps_until, until, memory_order_seq_cst); /* pairs with timer_start: its heap, then sleeps_until */
    uint64_t first = timers_first_of_all();
    if (first < until) until = first;
    if (until == 0) until = 1;
  }
  int n = wait_events(ev, until);
  if (until) atomic_store_explicit(&sleeps_until, 0, memory_order_relaxed);
  for (int i = 0; i < n; i++) {
    if (ev[i].data.u64 == BREAK) {
      uint64_t count;
      if (until) raw_syscall3(SYS_read, evfd, (long)&count, sizeof count); /* else it is meant for the sleeper */
      continue;
    }
    if (ev[i].data.u64 == RING) {
      uring_reap(out);
      continue;
    }
    edge((int)ev[i].data.u64, ev[i].events, out);
  }
}

void netpoll_break(void) {
  uint64_t one = 1;
  if (__atomic_load_n(&epfd, __ATOMIC_ACQUIRE) < 0) return; /* pairs with netpoll_open; a sleeper has opened it before it was one */
  raw_syscall3(SYS_write, evfd, (long)&one, sizeof one);
}

/* --- waiting --- */

static void deadline(struct timer *t) {
  struct waiter *w = t->arg;
  struct g *g = NULL;
  run_lock(&w->e->lock);
  if (!atomic_exchange_explicit(&w->won, 1, memory_order_acq_rel)) { /* pairs with wake_line */
    if (w->at) unline(w);
    w->timed_out = true;
    g = w->g;
  }
  run_unlock(&w->e->lock);
  atomic_store_explicit(&w->timer_left, 0, memory_order_release); /* pairs with netpoll_wait: w may go after this */
  if (g) g_ready(g, false);
}

/* The kernel knows fd, and will tell of the next edge. Entry locked. */
static int ensure_registered(struct entry *e, int fd) {
  struct epoll_event ev = {.events = BOTH, .data.u64 = (uint64_t)fd};
  if (e->registered && e->trusted) return 0;
  int r = e->registered ? (int)raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_MOD, fd, (long)&ev) : -ENOENT;
  if (r == -ENOENT) r = (int)raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, fd, (long)&ev);
  if (r == -EEXIST) r = (int)raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_MOD, fd, (long)&ev);
  e->registered = r >= 0;
  return r < 0 ? r : 0;
}

int netpoll_wait(int fd, enum netpoll_dir dir, uint64_t until) {
  struct entry *e = entry_of(fd, true);
  if (!e) return -EBADF;
  int r = netpoll_open();
  if (r < 0) return r;
  struct waiter w = {.g = g_self(), .e = e, .timer = {.fn = deadline}};
  run_lock(&e->lock);
  r = ensure_registered(e, fd);
  if (r < 0 || e->ready[dir]) {
    e->ready[dir] = false;
    run_unlock(&e->lock);
    return r;
  }
  struct waiter **at = &e->line[dir];
  while (*at) at = &(*at)->next;
  *at = &w;
  w.at = at;
  atomic_fetch_add_explicit(&nwaiters, 1, memory_order_relaxed);
  if (until != UINT64_MAX) {
    w.timer.arg = &w;
    w.timer_left = 1;
    timer_start(&w.timer, until);
  }
  g_park(g_commit_unlock, &e->lock, WAIT_IO);
  atomic_fetch_sub_explicit(&nwaiters, 1, memory_order_relaxed);
  if (until != UINT64_MAX && !timer_stop(&w.timer))
    while (atomic_load_explicit(&w.timer_left, memory_order_acquire)) g_yield(); /* pairs with deadline */
  return w.timed_out ? -ETIMEDOUT : 0;
}

/* --- descriptors come and go --- */

static void reset(struct entry *e, bool trusted) {
  struct gqueue woken = {0};
  run_lock(&e->lock);
  wake_line(e, NETPOLL_READ, &woken);
  wake_line(e, NETPOLL_WRITE, &woken);
  e->ready[0] = e->ready[1] = false;
  e->registered = false;
  e->trusted = trusted;
  e->tcp = TCP_UNKNOWN;
  e->ended = false;
  atomic_store_explicit(&e->drained, false, memory_order_relaxed);
  atomic_store_explicit(&e->plain, false, memory_order_relaxed);
  run_unlock(&e->lock);
  struct g *g;
  while ((g = gqueue_pop(&woken))) g_ready(g, false);
}

void netpoll_fresh(int fd) {
  if (!__atomic_load_n(&light.started, __ATOMIC_RELAXED)) return; /* a G that waits for it later asks the kernel */
  struct entry *e = entry_of(fd, true);
  if (e) reset(e, true);
}

void netpoll_set_plain(int fd) {
  struct entry *e = entry_of(fd, false);
  if (e && e->trusted) atomic_store_explicit(&e->plain, true, memory_order_relaxed);
}

void netpoll_changed(int fd) {
  struct entry *e = entry_of(fd, false);
  if (e) atomic_store_explicit(&e->plain, false, memory_order_relaxed);
}

bool netpoll_plain(int fd) {
  struct entry *e = entry_of(fd, false);
  return e && atomic_load_explicit(&e->plain, memory_order_relaxed);
}

static bool is_tcp(struct entry *e, int fd) {
  int protocol = 0;
  socklen_t len = sizeof protocol;
  if (e->tcp == TCP_UNKNOWN) {
    long r = raw_syscall5(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, (long)&protocol, (long)&len);
    e->tcp = r == 0 && protocol == IPPROTO_TCP ? TCP_YES : TCP_NO;
  }
  return e->tcp == TCP_YES;
}

void netpoll_set_drained(int fd) {
  struct entry *e = entry_of(fd, false);
  if (!e || !e->registered || !atomic_load_explicit(&e->plain, memory_order_relaxed) || !is_tcp(e, fd)) return;
  atomic_store_explicit(&e->drained, true, memory_order_relaxed);
}

bool netpoll_take_drained(int fd) {
  struct entry *e = entry_of(fd, false);
  if (!e || !atomic_load_explicit(&e->drained, memory_order_relaxed)) return false;
  atomic_store_explicit(&e->drained, false, memory_order_relaxed);
  if (!atomic_load_explicit(&e->plain, memory_order_relaxed)) return false;
  run_lock(&e->lock);
  bool more = !e->ended;
  run_unlock(&e->lock);
  return more;
}

/* The instance is the parent's too. */
void netpoll_fork_child(void) {
  uring_fork_child();
  if (epfd >= 0) raw_syscall1(SYS_close, epfd);
  if (evfd >= 0) raw_syscall1(SYS_close, evfd);
  epfd = evfd = -1;
  for (unsigned i = 0; i < CHUNKS; i++) atomic_store_explicit(&chunks[i], NULL, memory_order_relaxed);
  atomic_store_explicit(&nwaiters, 0, memory_order_relaxed);
  atomic_store_explicit(&sleeps_until, 0, memory_order_relaxed);
  atomic_store_explicit(&open_lock.word, 0, memory_order_relaxed);
}

void netpoll_forget(int fd) {
  struct entry *e = entry_of(fd, false);
  if (!e || (!e->registered && !e->trusted && !e->line[0] && !e->line[1])) return;
  if (e->registered) {
    struct epoll_event ev = {0};
    raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_DEL, fd, (long)&ev); /* another descriptor may keep the file open */
  }
  reset(e, false);
}
