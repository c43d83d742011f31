/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The netpoller: one epoll instance, edge-triggered, for all descriptors that light Gs wait for.
 *
 * A descriptor is added once, for both directions, when a G first waits for it.  Its edges are counted, and who waits says how many it
 * had seen before it looked or tried: so no edge between a G's failed try and its wait is lost, whoever else has been woken by it.
 *
 *   G        seen = netpoll_edges(); try: EAGAIN; netpoll_wait(seen): lock; edges != seen: try again
 *                                                                         else into the line, park, unlock
 *   edge()   lock; edges++; all in the line are readied; unlock
 *
 * A call may wait for several directions (poll): a waiter in the line of each.  Others than edges may end it: its deadline, and
 * netpoll_stop.  Who moves the call's state away from OPEN or PARKED has ended it, and readies the G if it was PARKED:
 *
 *   OPEN --the G has left its stack--> PARKED
 *   OPEN, PARKED --edge--> EDGE    --deadline--> TIME    --netpoll_stop--> STOPPED
 *
 * A waiter is touched under the lock of its entry only, so the G, once awake, takes each lock where it may still be in line, or somebody
 * may still be at it.  Not where an edge ended a call in one line: that line's lock was held from lining up to the commit.
 *
 * A number is not the file behind it.  The kernel forgets a registration when the last descriptor of the file is closed; we learn of
 * that only where the closing goes through our wrappers (netpoll_forget: close, dup2, fclose, ...), not from inside of libc or raw system calls.  So only
 * a descriptor that our wrappers saw come into being (netpoll_fresh: accept, socket, pipe) is trusted to be registered still; for others
 * each wait asks the kernel (EPOLL_CTL_MOD, which also makes it report anew).
 *
 * A blocked call of the kernel's has the file, not the number: it goes on when that is closed, or made another file.  So a thread G's call has a use of
 * the number from its first wait to its end, and goes on with another number of the same file, which is ours (hold):
 *
 *   the call  first wait: its G's use is listed ... woken; tries with netpoll_number(); waits again ... netpoll_hold_end
 *   closing   e locked: h = dup(fd); its uses and waiters are h's now, each with a share of h; then the kernel forgets fd
 *   the last share that is given back closes h
 *
 * Who only waits for a number (poll) has no use: its waiter has the share.  Light Gs, whose semantics are ours, are woken: their next try says EBADF.
 *
 * Our own descriptors have high numbers, for programs expect the lowest that they do not use (close(0), open); close and its kin leave them out, and dup2 moves them.
 *
 * Entries are in chunks that are never freed.  Lock: one for each entry; that of a heap of timers may be taken under it, and that of the number where its
 * file is held.
 */
#include "core/netpoll.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include "core/carrier.h"
#include "core/gate.h"
#include "core/uring.h"

#define CHUNK 1024u
#define CHUNKS 1024u
#define EVENTS_MOST 128
#define BREAK UINT64_MAX /* events of what is no descriptor of the program's */
#define RING (UINT64_MAX - 1)
#define SIGNALS (UINT64_MAX - 2)
#define BOTH (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define ENDS (EPOLLHUP | EPOLLERR)
#define FEW 16         /* so many waiters are on the stack of the call */
#define HIGH_MOST 960u /* higher, and the kernel's table of descriptors grows for ours */
#define HIGH_ROOM 64u

enum { CALL_OPEN, CALL_PARKED, CALL_EDGE, CALL_TIME, CALL_STOPPED };

struct waiter {
  struct waiter *next, **at; /* in the line; at null: not in it */
  _Atomic(struct entry *) e; /* [lock of both to change] */
  struct netpoll_call *call;
  struct netpoll_use *use; /* its G's, where its call has it */
  int share;               /* has one of this number, else 0; as e */
  uint32_t on;             /* the events that are worth waking it for */
};

struct entry {
  struct lock lock;
  bool registered, trusted;
  _Atomic bool plain; /* read without the lock: a hint that a wrapper of the same thing, or one that it waited for, has set */
  enum { TCP_UNKNOWN, TCP_YES, TCP_NO } tcp;
  _Atomic bool ended; /* the other side has closed, or a read stops at urgent data: no edge need come.  Set before that edge is counted */
  bool lent;          /* its O_NONBLOCK is not the program's just now */
  bool copied;        /* by dup: its flags are seen by another number */
  uint32_t shares;    /* it is ours, and holds a closed file for so many calls */
  _Atomic uint32_t edges[2]; /* [lock to write] */
  _Atomic uint64_t drained;  /* DRAINED + the read edges seen before the read that emptied it; else 0 */
  struct waiter *line[2];
  struct netpoll_use *uses;
};
#define DRAINED ((uint64_t)1 << 32)

static _Atomic(struct entry *) chunks[CHUNKS];
static int epfd = -1, evfd = -1;
static struct lock open_lock;
static _Atomic uint32_t nwaiters;
static _Atomic uint32_t nheld; /* numbers that hold a file */
static _Atomic uint64_t sleeps_until;
static _Atomic uint64_t polled_at; /* by light.now */

uint32_t netpoll_waiters(void) { return atomic_load_explicit(&nwaiters, memory_order_relaxed) + uring_waiters(); }
bool netpoll_overdue(void) { return netpoll_waiters() && !GLANCE(light.poller) && GLANCE(light.now) - GLANCE(polled_at) >= LIGHT_SLICE_NS; }
uint64_t netpoll_sleeps_until(void) { return atomic_load_explicit(&sleeps_until, memory_order_relaxed); }

/* Another number of its file, out of the program's way; -errno. */
static int dup_high(int fd) {
  struct rlimit lim = {1024, 1024};
  raw_syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&lim);
  rlim_t from = lim.rlim_cur >= HIGH_MOST + HIGH_ROOM ? HIGH_MOST : lim.rlim_cur - lim.rlim_cur / 8;
  return (int)raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, (long)from);
}

int netpoll_fd_high(int fd) {
  if (fd < 0) return fd;
  int high = dup_high(fd);
  if (high < 0) return fd;
  raw_syscall1(SYS_close, fd);
  return high;
}

int netpoll_open(void) {
  if (__atomic_load_n(&epfd, __ATOMIC_ACQUIRE) >= 0) return 0; /* pairs with the release below */
  run_lock(&open_lock);
  int r = 0;
  if (__atomic_load_n(&epfd, __ATOMIC_RELAXED) < 0) {
    int e = netpoll_fd_high((int)raw_syscall1(SYS_epoll_create1, EPOLL_CLOEXEC));
    int v = netpoll_fd_high((int)raw_syscall3(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0));
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

/* --- signals to the process --- */

static int sigfd = -1;             /* [open_lock] */
static _Atomic bool signals_added; /* [open_lock to write] */
static _Atomic bool signals_on;

bool netpoll_signals_on(void) { return GLANCE(signals_on); }

/* open_lock held.  Edge-triggered: what nobody takes is told once. */
static void signals_add(bool add) {
  uint64_t set = carrier_sigmask();
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = SIGNALS};
  if (sigfd < 0) sigfd = netpoll_fd_high((int)raw_syscall4(SYS_signalfd4, -1, (long)&set, sizeof set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (sigfd < 0) return;
  long r = raw_syscall4(SYS_epoll_ctl, epfd, add ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, sigfd, (long)&ev);
  if (r >= 0) atomic_store_explicit(&signals_added, add, memory_order_relaxed);
}

/* It is taken out again where nobody needs it: while it is there, each signal to any thread wakes who sleeps in netpoll. */
static void signals_follow(void) {
  if (GLANCE(signals_on) == GLANCE(signals_added)) return;
  run_lock(&open_lock);
  bool on = GLANCE(signals_on);
  if (on != GLANCE(signals_added)) signals_add(on);
  run_unlock(&open_lock);
}

void netpoll_signals(bool on) {
  atomic_store_explicit(&signals_on, on, memory_order_relaxed);
  if (!on || !(carrier_now() || m_self) || netpoll_open() < 0) return;
  signals_follow();
  if (!GLANCE(light.poller)) carrier_wakep(); /* which finds nothing, and lies down again: in netpoll */
}

/* --- the program and our numbers --- */

static int *const own_fds[NETPOLL_OWN] = {&epfd, &evfd, &sigfd};

static struct entry *entry_of(int fd, bool make);

static bool is_held(int fd) {
  struct entry *e = GLANCE(nheld) ? entry_of(fd, false) : NULL;
  return e && __atomic_load_n(&e->shares, __ATOMIC_RELAXED) > 0; /* the program has no business with that number */
}

/* The first below `most`; -1: none. */
static int held_from(int first, int most) {
  int numbers = GLANCE(nheld) ? (int)netpoll_numbers() : 0;
  for (int fd = first; fd < most && fd < numbers; fd++)
    if (is_held(fd)) return fd;
  return -1;
}

bool netpoll_is_own(int fd) {
  bool own = is_held(fd);
  for (unsigned i = 0; i < NETPOLL_OWN; i++) own |= fd >= 0 && __atomic_load_n(own_fds[i], __ATOMIC_RELAXED) == fd;
  return own;
}

/* open_lock held.  epoll knows them by file and number. */
static void register_again(int from, int to) {
  struct epoll_event ev = {.events = to == evfd ? EPOLLIN : EPOLLIN | EPOLLET, .data.u64 = to == evfd ? BREAK : SIGNALS};
  if (to == epfd || (to == sigfd && !GLANCE(signals_added))) return;
  raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, to, (long)&ev);
  raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_DEL, from, (long)&ev);
}

static void leave_held(int fd);

void netpoll_leave_number(int fd) {
  if (is_held(fd)) leave_held(fd);
  if (!netpoll_is_own(fd)) return;
  run_lock(&open_lock);
  for (unsigned i = 0; i < NETPOLL_OWN; i++) {
    if (*own_fds[i] != fd) continue;
    int to = (int)raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd); /* the next that is free */
    if (to < 0) to = (int)raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
    if (to < 0) break;
    __atomic_store_n(own_fds[i], to, __ATOMIC_RELEASE); /* pairs with netpoll_open's readers */
    register_again(fd, to);
  }
  run_unlock(&open_lock);
}

int netpoll_own_from(int first) {
  int next = -1;
  for (unsigned i = 0; i < NETPOLL_OWN; i++) {
    int fd = __atomic_load_n(own_fds[i], __ATOMIC_RELAXED);
    if (fd >= first && (next < 0 || fd < next)) next = fd;
  }
  int held = held_from(first, next < 0 ? INT_MAX : next);
  return held < 0 ? next : held;
}

/* shim/free's.  Weak: core stands without. */
void free_shared_told(void) __attribute__((weak));

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

static const uint32_t all_of[] = {[NETPOLL_READ] = EPOLLIN | EPOLLPRI | EPOLLRDHUP | ENDS, [NETPOLL_WRITE] = EPOLLOUT | ENDS};

/* Takes w out of the line, where *at is w. Entry locked. */
static void unline(struct waiter *w, struct waiter **at) {
  *at = w->next;
  if (w->next) w->next->at = at;
  w->at = NULL;
}

/* Ends a call, if nobody has yet.  Its G, if that is to be readied. */
static struct g *end_call(struct netpoll_call *c, uint32_t how) {
  uint32_t st = atomic_load_explicit(&c->state, memory_order_relaxed);
  while (st <= CALL_PARKED) /* acquire, release: pairs with itself, and with park_call */
    if (atomic_compare_exchange_weak_explicit(&c->state, &st, how, memory_order_acq_rel, memory_order_relaxed))
      return st == CALL_PARKED ? c->g : NULL;
  return NULL;
}

/* Those in the line who wait for one of these events become runnable. Entry locked. */
static void wake_line(struct entry *e, enum netpoll_dir dir, uint32_t events, struct gqueue *out) {
  atomic_store_explicit(&e->edges[dir], atomic_load_explicit(&e->edges[dir], memory_order_relaxed) + 1,
                        memory_order_release); /* pairs with netpoll_edges */
  for (struct waiter **at = &e->line[dir]; *at;) {
    struct waiter *w = *at;
    if (!(events & w->on)) {
      at = &w->next;
      continue;
    }
    unline(w, at);
    struct g *g = end_call(w->call, CALL_EDGE);
    if (!g) continue;
    g->status = G_RUNNABLE;
    gqueue_push(out, g);
  }
}

static void edge(int fd, uint32_t events, struct gqueue *out) {
  struct entry *e = entry_of(fd, false);
  if (!e) return;
  run_lock(&e->lock);
  if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
    atomic_store_explicit(&e->ended, true, memory_order_relaxed); /* wake_line releases */
  if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) wake_line(e, NETPOLL_READ, events, out);
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) wake_line(e, NETPOLL_WRITE, events, out);
  run_unlock(&e->lock);
}

uint32_t netpoll_edges(int fd, enum netpoll_dir dir) {
  struct entry *e = entry_of(fd, false);
  return e ? atomic_load_explicit(&e->edges[dir], memory_order_acquire) : 0; /* pairs with wake_line: what made the edge is there */
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
    signals_follow();
    atomic_store_explicit(&sleeps_until, until, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with timer_start: its heap, then sleeps_until */
    uint64_t first = timers_first_of_all();
    if (first < until) until = first;
    if (until == 0) until = 1;
  }
  int n = wait_events(ev, until);
  atomic_store_explicit(&polled_at, GLANCE(light.now), memory_order_relaxed);
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
    if (ev[i].data.u64 == SIGNALS) {
      if (free_shared_told) free_shared_told();
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

void netpoll_stop(struct netpoll_call *call) {
  struct g *g = end_call(call, CALL_STOPPED);
  if (g) g_ready(g, false);
}

struct deadline {
  struct timer timer;
  struct netpoll_call *call;
  _Atomic uint32_t left; /* 1: the callback has not finished */
};

static void deadline_came(struct timer *t) {
  struct deadline *d = t->arg;
  struct g *g = end_call(d->call, CALL_TIME);
  atomic_store_explicit(&d->left, 0, memory_order_release); /* pairs with deadline_off: d may go after this */
  if (g) g_ready(g, false);
}

static void deadline_on(struct deadline *d, struct netpoll_call *call, uint64_t until) {
  d->timer = (struct timer){.fn = deadline_came, .arg = d};
  d->call = call;
  atomic_init(&d->left, 1);
  timer_start_parks(&d->timer, until);
}

static void deadline_off(struct deadline *d) {
  if (timer_stop(&d->timer)) return;
  while (atomic_load_explicit(&d->left, memory_order_acquire)) g_yield(); /* pairs with deadline_came */
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

static bool park_call(struct netpoll_call *c) {
  uint32_t open = CALL_OPEN;
  return atomic_compare_exchange_strong_explicit(&c->state, &open, CALL_PARKED, memory_order_acq_rel,
                                                 memory_order_relaxed); /* pairs with end_call: the G is parked */
}

static bool commit_call(struct g *g, void *arg) {
  (void)g;
  return park_call(arg);
}

/* Of a waiter whose entry is locked; the G may be on its way once that is dropped, or before. */
static bool commit_waiter(struct g *g, void *arg) {
  struct waiter *w = arg;
  struct lock *l = &GLANCE(w->e)->lock; /* which is held: it can't change */
  (void)g;
  bool parks = park_call(w->call);
  run_unlock(l);
  return parks;
}

/* The entry that *at says, locked: it may be moved until then. */
static struct entry *lock_entry(_Atomic(struct entry *) *at) {
  for (;;) {
    struct entry *e = GLANCE(*at);
    run_lock(&e->lock);
    if (GLANCE(*at) == e) return e;
    run_unlock(&e->lock);
  }
}

/* Entry locked. */
static void list_use(struct entry *e, struct netpoll_use *u, int fd) {
  u->next = e->uses;
  u->at = &e->uses;
  if (u->next) u->next->at = &u->next;
  e->uses = u;
  atomic_store_explicit(&u->fd, fd, memory_order_release); /* pairs with netpoll_number */
  atomic_store_explicit(&u->e, e, memory_order_relaxed);
}

/* Entry locked. */
static void unlist_use(struct netpoll_use *u) {
  if (!u->at) return;
  *u->at = u->next;
  if (u->next) u->next->at = u->at;
  u->at = NULL;
}

/* Into the line of fd, which is locked then.  1: another edge than those seen has come, or the file has another number; -errno of ensure_registered. */
static int line_up(struct waiter *w, int fd, enum netpoll_dir dir, uint32_t seen) {
  struct netpoll_use *u = w->use;
  struct entry *e = lock_entry(u && GLANCE(u->e) ? &u->e : &w->e);
  int r = u && GLANCE(u->e) && GLANCE(u->fd) != fd ? 1 : ensure_registered(e, fd);
  if (r == 0 && atomic_load_explicit(&e->edges[dir], memory_order_relaxed) != seen) r = 1;
  if (r) {
    run_unlock(&e->lock);
    return r;
  }
  if (u && !GLANCE(u->e)) list_use(e, u, fd);
  struct waiter **at = &e->line[dir];
  while (*at) at = &(*at)->next;
  w->next = NULL;
  *at = w;
  w->at = at;
  return 0;
}

/* Not inline: the G may have come back on another thread, see lot_unlock. */
static __attribute__((noinline)) void leave_line(struct waiter *w) {
  struct entry *e = lock_entry(&w->e);
  if (w->at) unline(w, w->at);
  run_unlock(&e->lock);
}

static __attribute__((noinline)) void give_back(int number);

/* It is about to park.  Where its carrier finds something to run instead, that does not go to the descriptors: then another has to (timer.c, will_look). */
static void count_waiter(void) {
  atomic_fetch_add_explicit(&nwaiters, 1,
                            memory_order_seq_cst); /* then the look for a poller, which looks for waiters before it lies down */
  struct carrier *c = carrier_now();
  if (!c || !c->pq || !runq_empty(&c->pq->runq)) carrier_wake_poller();
}

static int how_it_ended(struct netpoll_call *c) {
  uint32_t st = atomic_load_explicit(&c->state, memory_order_relaxed);
  return st == CALL_TIME ? -ETIMEDOUT : st == CALL_STOPPED ? -ECANCELED : 0;
}

static bool is_its(const struct netpoll_hold *h) { return h->g && h->turn == h->g->use.turn; }

/* The use of a call that has none yet is begun.  One of another call, that was left by a handler or is below one, ends. */
static struct netpoll_use *take_use(struct netpoll_hold *h, struct g *g) {
  if (is_its(h)) return &g->use;
  netpoll_use_end(&g->use);
  h->g = g;
  h->turn = g->use.turn;
  return &g->use;
}

int netpoll_wait(int fd, enum netpoll_dir dir, uint32_t seen, uint64_t until, struct netpoll_call *call, struct netpoll_hold *hold) {
  struct netpoll_call own = {0};
  struct deadline d;
  struct entry *e = entry_of(fd, true);
  struct waiter w = {.e = e, .call = call ? call : &own, .on = all_of[dir]};
  if (!e) return -ENOMEM;
  int r = netpoll_open();
  if (r < 0) return r;
  bool alone = !call && until == UINT64_MAX; /* only an edge ends it, under the lock: it is as good as parked */
  w.call->g = g_self();
  if (hold && w.call->g->kind == G_THREAD) w.use = take_use(hold, w.call->g);
  if (alone) own.state = CALL_PARKED;
  r = line_up(&w, fd, dir, seen);
  if (r) return r < 0 ? r : 0;
  count_waiter();
  if (until != UINT64_MAX) deadline_on(&d, w.call, until);
  if (alone)
    g_park(g_commit_unlock, &e->lock, WAIT_IO);
  else
    g_park(commit_waiter, &w, WAIT_IO);
  atomic_fetch_sub_explicit(&nwaiters, 1, memory_order_relaxed);
  if (!alone && until != UINT64_MAX) deadline_off(&d);
  r = alone ? 0 : how_it_ended(w.call);
  if (r) leave_line(&w);
  if (__builtin_expect(w.share, 0)) give_back(w.share);
  return r;
}

/* Lines up for all that is wanted; how many are, and in *r why not all: 1, -errno. */
static size_t line_up_all(struct waiter *w, const struct netpoll_want *want, size_t n, struct netpoll_call *call, int *r) {
  size_t k = 0;
  *r = 0;
  for (size_t i = 0; i < n; i++)
    for (int dir = 0; dir < 2; dir++) {
      if (!want[i].dir[dir]) continue;
      w[k] = (struct waiter){.e = entry_of(want[i].fd, true), .call = call, .on = want[i].only ? want[i].only | ENDS : all_of[dir]};
      *r = GLANCE(w[k].e) ? line_up(&w[k], want[i].fd, dir, want[i].seen[dir]) : -ENOMEM;
      if (*r == -EPERM)
        *r = 0; /* it has no poll of its own: what it is not now it won't become */
      else if (*r)
        return k;
      else
        run_unlock(&GLANCE(w[k++].e)->lock);
    }
  return k;
}

static int wait_in(struct waiter *w, const struct netpoll_want *want, size_t n, uint64_t until, struct netpoll_call *call) {
  struct deadline d;
  int r;
  call->g = g_self();
  size_t k = line_up_all(w, want, n, call, &r);
  if (r == 0) {
    if (k) count_waiter();
    if (until != UINT64_MAX) deadline_on(&d, call, until);
    g_park(commit_call, call, WAIT_POLL);
    if (until != UINT64_MAX) deadline_off(&d);
    if (k) atomic_fetch_sub_explicit(&nwaiters, 1, memory_order_relaxed);
  }
  for (size_t i = 0; i < k; i++) {
    leave_line(&w[i]);
    if (__builtin_expect(w[i].share, 0)) give_back(w[i].share);
  }
  return r < 0 ? r : r ? 0 : how_it_ended(call);
}

int netpoll_wait_any(const struct netpoll_want *want, size_t n, uint64_t until, struct netpoll_call *call) {
  struct netpoll_call own = {0};
  struct waiter few[FEW];
  int r = netpoll_open();
  if (r < 0) return r;
  if (!call) call = &own;
  if (2 * n <= FEW) return wait_in(few, want, n, until, call);
  struct waiter *w = malloc(2 * n * sizeof *w);
  if (!w) return -ENOMEM;
  r = wait_in(w, want, n, until, call);
  free(w);
  return r;
}

/* --- descriptors come and go --- */

static void ready_all(struct gqueue *woken) {
  struct g *g;
  while ((g = gqueue_pop(woken))) g_ready(g, false);
}

static void wake_both(struct entry *e, struct gqueue *woken) {
  wake_line(e, NETPOLL_READ, ~0u, woken);
  wake_line(e, NETPOLL_WRITE, ~0u, woken);
}

/* Locks e, when its flags are the program's. */
static void lock_own_flags(struct entry *e) {
  for (;;) {
    run_lock(&e->lock);
    if (!e->lent) return;
    run_unlock(&e->lock);
    raw_syscall1(SYS_sched_yield, 0);
  }
}

static bool is_moved(const struct waiter *w) { return w->call->g->kind == G_THREAD; }

static bool any_moves(const struct entry *e) {
  if (e->uses) return true;
  for (int dir = 0; dir < 2; dir++)
    for (struct waiter *w = e->line[dir]; w; w = w->next)
      if (is_moved(w)) return true;
  return false;
}

/* Both locked; none is in h's line. */
static void move_line(struct entry *e, struct entry *h, int number, enum netpoll_dir dir) {
  struct waiter **end = &h->line[dir];
  for (struct waiter **at = &e->line[dir], *w; (w = *at);) {
    if (!is_moved(w)) {
      at = &w->next;
      continue;
    }
    unline(w, at);
    w->next = NULL;
    w->at = end;
    if (!w->use) w->share = number, h->shares++;
    atomic_store_explicit(&w->e, h, memory_order_relaxed); /* pairs with lock_entry, by the locks */
    *end = w;
    end = &w->next;
  }
}

/* Both locked. */
static void move_uses(struct entry *e, struct entry *h, int number) {
  struct netpoll_use *u;
  while ((u = e->uses)) {
    unlist_use(u);
    u->share = true;
    h->shares++;
    list_use(h, u, number);
  }
}

/* The entry of a new number of fd's file, locked, without any history; null: it is not to be had. */
static struct entry *held_entry(int fd, int *number) {
  int high = sys_is_aside() ? -EPERM : dup_high(fd);
  if (high < 0) return NULL;
  *number = high;
  struct entry *h = entry_of(high, true);
  if (h) {
    run_lock(&h->lock);
    h->registered = false;
    h->trusted = true;
    if (ensure_registered(h, high) == 0) return h;
    run_unlock(&h->lock);
  }
  raw_syscall1(SYS_close, high);
  return NULL;
}

/* Who closes the number is in no other call of its own: a handler has left it, or has come into it, and then it goes on with the number. Entry locked. */
static void drop_own(struct entry *e) {
  struct netpoll_use *u = &g_self()->use;
  if (GLANCE(u->e) != e || u->share) return;
  unlist_use(u);
  atomic_store_explicit(&u->e, NULL, memory_order_relaxed);
}

/* fd is about to be closed: what thread Gs do there goes on with another number. Entry locked. */
static void hold(struct entry *e, int fd) {
  int number;
  if (e->uses) drop_own(e);
  struct entry *h = any_moves(e) ? held_entry(fd, &number) : NULL;
  if (!h) return;
  for (int dir = 0; dir < 2; dir++) move_line(e, h, number, (enum netpoll_dir)dir);
  move_uses(e, h, number);
  atomic_fetch_add_explicit(&nheld, 1, memory_order_relaxed); /* a glance of who comes with a number of ours */
  run_unlock(&h->lock);
}

/* A number of ours is to be the program's. */
static void leave_held(int fd) {
  struct entry *e = entry_of(fd, false);
  run_lock(&e->lock);
  hold(e, fd);
  if (e->shares) atomic_fetch_sub_explicit(&nheld, 1, memory_order_relaxed);
  __atomic_store_n(&e->shares, 0, __ATOMIC_RELAXED);
  run_unlock(&e->lock);
}

/* See leave_line. */
static __attribute__((noinline)) void give_back(int number) {
  struct entry *e = entry_of(number, false);
  run_lock(&e->lock);
  uint32_t shares = e->shares;
  if (shares) __atomic_store_n(&e->shares, shares - 1, __ATOMIC_RELAXED); /* 0: leave_held */
  run_unlock(&e->lock);
  if (shares != 1) return;
  atomic_fetch_sub_explicit(&nheld, 1, memory_order_relaxed);
  netpoll_forget(number);
  gate_enter(); /* as the program's own close, which may block */
  raw_syscall1(SYS_close, number);
  gate_exit();
}

/* See leave_line. */
__attribute__((noinline)) void netpoll_use_end(struct netpoll_use *u) {
  u->turn++;
  if (!GLANCE(u->e)) return;
  struct entry *e = lock_entry(&u->e);
  unlist_use(u);
  run_unlock(&e->lock);
  bool share = u->share;
  u->share = false;
  atomic_store_explicit(&u->e, NULL, memory_order_relaxed);
  if (share) give_back(GLANCE(u->fd));
}

int netpoll_number(const struct netpoll_hold *h, int fd) {
  if (!is_its(h) || !GLANCE(h->g->use.e)) return fd;
  return atomic_load_explicit(&h->g->use.fd, memory_order_acquire); /* pairs with list_use: it is open */
}

void netpoll_hold_begin(struct netpoll_hold *h, int fd) {
  struct g *g = g_self();
  struct entry *e = g->kind == G_THREAD ? entry_of(fd, true) : NULL;
  if (!e || (is_its(h) && GLANCE(g->use.e))) return;
  struct netpoll_use *u = take_use(h, g);
  run_lock(&e->lock);
  list_use(e, u, fd);
  run_unlock(&e->lock);
}

void netpoll_hold_rest(struct netpoll_hold *h) {
  if (!is_its(h) || !GLANCE(h->g->use.e)) return;
  struct netpoll_use *u = &h->g->use;
  struct entry *e = lock_entry(&u->e);
  unlist_use(u);
  run_unlock(&e->lock);
  if (!u->share) atomic_store_explicit(&u->e, NULL, memory_order_relaxed);
}

void netpoll_hold_end_slow(struct netpoll_hold *h) {
  if (is_its(h)) netpoll_use_end(&h->g->use);
  h->g = NULL;
}

/* closing: the number is still that of the file that they wait for. */
static void reset(struct entry *e, bool trusted, int closing) {
  struct gqueue woken = {0};
  lock_own_flags(e);
  if (closing >= 0) hold(e, closing);
  wake_both(e, &woken);
  e->registered = false;
  e->trusted = trusted;
  e->tcp = TCP_UNKNOWN;
  e->copied = false;
  atomic_store_explicit(&e->ended, false, memory_order_relaxed);
  atomic_store_explicit(&e->drained, 0, memory_order_relaxed);
  atomic_store_explicit(&e->plain, false, memory_order_relaxed);
  run_unlock(&e->lock);
  ready_all(&woken);
}

void netpoll_wake(int fd) {
  struct gqueue woken = {0};
  struct entry *e = entry_of(fd, false);
  if (!e) return;
  run_lock(&e->lock);
  wake_both(e, &woken);
  run_unlock(&e->lock);
  ready_all(&woken);
}

void netpoll_fresh(int fd) {
  if (!__atomic_load_n(&light.started, __ATOMIC_RELAXED)) return; /* a G that waits for it later asks the kernel */
  struct entry *e = entry_of(fd, true);
  if (e) reset(e, true, -1);
}

bool netpoll_is_fresh(int fd) {
  struct entry *e = entry_of(fd, false);
  return e && __atomic_load_n(&e->trusted, __ATOMIC_RELAXED); /* a hint, as `plain` */
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

unsigned netpoll_numbers(void) {
  unsigned n = CHUNKS;
  while (n && !atomic_load_explicit(&chunks[n - 1], memory_order_relaxed)) n--;
  return n * CHUNK;
}

void netpoll_copied(int fd) {
  struct entry *e = entry_of(fd, false);
  if (!e) return;
  lock_own_flags(e);
  e->copied = true;
  atomic_store_explicit(&e->plain, false, memory_order_relaxed);
  run_unlock(&e->lock);
}

void netpoll_shared(void) {
  for (unsigned i = 0; i < CHUNKS; i++) {
    struct entry *c = atomic_load_explicit(&chunks[i], memory_order_acquire); /* pairs with entry_of */
    for (unsigned k = 0; c && k < CHUNK; k++)
      if (atomic_load_explicit(&c[k].plain, memory_order_relaxed)) atomic_store_explicit(&c[k].plain, false, memory_order_relaxed);
  }
}

/* Entry locked. */
static bool is_tcp(struct entry *e, int fd) {
  int protocol = 0;
  socklen_t len = sizeof protocol;
  if (e->tcp == TCP_UNKNOWN) {
    long r = raw_syscall5(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, (long)&protocol, (long)&len);
    e->tcp = r == 0 && protocol == IPPROTO_TCP ? TCP_YES : TCP_NO;
  }
  return e->tcp == TCP_YES;
}

/* What comes later makes an edge that is not among those seen, so two that read the same socket can't fool each other. */
void netpoll_set_drained(int fd, uint32_t seen) {
  struct entry *e = entry_of(fd, false);
  if (!e || !e->registered || !atomic_load_explicit(&e->plain, memory_order_relaxed)) return;
  if (__atomic_load_n(&e->tcp, __ATOMIC_RELAXED) != TCP_YES) { /* a hint; asked for under the lock, once */
    run_lock(&e->lock);
    bool tcp = is_tcp(e, fd);
    run_unlock(&e->lock);
    if (!tcp) return;
  }
  if (atomic_load_explicit(&e->ended, memory_order_relaxed)) return; /* netpoll_edges has acquired it, or `seen` is old */
  atomic_store_explicit(&e->drained, DRAINED + seen, memory_order_relaxed);
}

bool netpoll_drained(int fd, uint32_t seen) {
  struct entry *e = entry_of(fd, false);
  return e && atomic_load_explicit(&e->drained, memory_order_relaxed) == DRAINED + seen &&
         atomic_load_explicit(&e->plain, memory_order_relaxed);
}

/* --- O_NONBLOCK, lent for a moment --- */

bool netpoll_lend(int fd) {
  struct entry *e = entry_of(fd, false);
  if (!e || !e->trusted) return false;
  run_lock(&e->lock);
  bool lent = e->trusted && !e->lent && !e->copied && is_tcp(e, fd);
  if (lent && !atomic_load_explicit(&e->plain, memory_order_relaxed)) {
    long fl = raw_syscall3(SYS_fcntl, fd, F_GETFL, 0);
    lent = fl >= 0 && !(fl & O_NONBLOCK);
  }
  if (lent) e->lent = true;
  run_unlock(&e->lock);
  return lent;
}

void netpoll_give_back(int fd) {
  struct entry *e = entry_of(fd, false);
  run_lock(&e->lock);
  e->lent = false;
  run_unlock(&e->lock);
}

bool netpoll_hold_flags(int fd) {
  struct entry *e = entry_of(fd, false);
  if (!e || !e->trusted) return false;
  lock_own_flags(e);
  return true;
}

void netpoll_drop_flags(int fd) { run_unlock(&entry_of(fd, false)->lock); }

/* The instance is the parent's too. */
void netpoll_fork_child(void) {
  uring_fork_child();
  if (epfd >= 0) raw_syscall1(SYS_close, epfd);
  if (evfd >= 0) raw_syscall1(SYS_close, evfd);
  if (sigfd >= 0) raw_syscall1(SYS_close, sigfd);
  epfd = evfd = sigfd = -1;
  for (int fd = -1; (fd = held_from(fd + 1, INT_MAX)) >= 0;) raw_syscall1(SYS_close, fd); /* of calls that are not made here */
  atomic_store_explicit(&nheld, 0, memory_order_relaxed);
  atomic_store_explicit(&signals_added, false, memory_order_relaxed);
  atomic_store_explicit(&signals_on, false, memory_order_relaxed);
  for (unsigned i = 0; i < CHUNKS; i++) atomic_store_explicit(&chunks[i], NULL, memory_order_relaxed);
  atomic_store_explicit(&nwaiters, 0, memory_order_relaxed);
  atomic_store_explicit(&sleeps_until, 0, memory_order_relaxed);
  atomic_store_explicit(&open_lock.word, 0, memory_order_relaxed);
}

static void forget(int fd, bool closing) {
  struct entry *e = entry_of(fd, false);
  if (!e || (!e->registered && !e->trusted && !e->line[0] && !e->line[1] && !e->uses)) return;
  if (e->registered) {
    struct epoll_event ev = {0};
    raw_syscall4(SYS_epoll_ctl, epfd, EPOLL_CTL_DEL, fd, (long)&ev); /* another descriptor may keep the file open */
  }
  reset(e, false, closing ? fd : -1);
}

void netpoll_forget(int fd) { forget(fd, true); }
void netpoll_made(int fd) { forget(fd, false); }
