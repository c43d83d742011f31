/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching, and the poller: the service thread that keeps the connection to rationd.
 *
 *            no daemon answers                    the socket appears
 *   START ----------------------> STANDALONE -------------------------.
 *     | welcome                        ^                               v
 *     '--> ATTACHED --hang-up--> ORPHANED --reconnect, RESUME the page--> ATTACHED
 *
 *   ATTACHED    pool page of the daemon's; M map and ring buffer if it has BPF
 *   ORPHANED    the page stays valid between the processes that have it; blocks are found by
 *               polling, for nobody writes into the M map any more
 *   STANDALONE  a page of our own, private; quota and usage are read by ourselves
 *
 * The poller's first attempt.  A program that is over in LATER_NS, and needs nothing, has cost one thread, and the daemon has not heard of it.
 *
 *   OVER --start_poller--> LATER --somebody needs the page, or is to end the poller; LATER_NS are over--> NOW --attached, or alone--> OVER
 *          '------------------------------ not later ------------------------------------------------------^
 *
 * The gate is open until then.  Who needs the page calls client_ready: before a second thread, at the first look at the number of CPUs, before it gives away what the attempt takes (its root
 * directory, descriptors, memory).
 *
 * The poller makes the connection, and its descriptors live in the poller's own descriptor table (core/service.c): the program's threads see none of them, and no number taken:
 * 0 the socket, 1 the ring buffer, 2 the pool page's memfd (for RESUME), 3 and 4 the ends of a pipe that nobody writes to but
 * kick_poller(), which opens it anew through /proc/self/task/TID/fd/4.
 *
 * Whoever ends the service threads, and starts them anew, has services_lock: several threads may change their credentials, or step aside, at the same time.  It is taken
 * before sched.lock.
 *
 * Every wait of the program for the daemon has a bound (ANSWER_MS); after it we go on standalone and the poller tries again.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "client/client.h"
#include "client/creds.h"
#include "client/env.h"
#include "core/preempt.h"
#include "core/carrier.h"
#include "core/decimal.h"
#include "core/fiber.h"
#include "core/gdump.h"
#include "core/procmaps.h"
#include "core/sched.h"
#include "core/service.h"
#include "core/switch.h"
#include "core/trace.h"
#include "wire.h"

#define ANSWER_MS 250
#define RETRY_MS 5000
#define DUMP_NS 5000000000u
#define LATER_NS 5000000u
#define FORKED_CPU_NS 5000000
#define ATTACH_STACK_BYTES 65536
#define REJOIN_MS 10000u /* after a pool let us starve; twice as long each time */
#define REJOIN_MOST_MS 320000u

enum { POLLER_SOCK, POLLER_RING, POLLER_PAGE, POLLER_KICK, POLLER_KICK_OUT, POLLER_FDS };

struct ring {
  volatile unsigned long *consumer;
  const volatile unsigned long *producer;
  const char *data;
  uint32_t size;
};
static struct ring ring; /* read by the poller only */
static struct lock services_lock;
/* [started and ended under services_lock] The threads that serve, and those that were told to end and got no CPU for it yet: each has its own record. */
#define RECORDS 3u
static struct service sysmons[RECORDS], pollers[RECORDS], *sysmon = sysmons, *poller = pollers;
static struct creds services_creds;   /* [services_lock] theirs */
static bool aside;                    /* [services_lock] gave up for good */
static _Atomic uint64_t rejoin_after; /* ms after which the poller says hello again; 0: no need */
static uint64_t rejoin_wait = REJOIN_MS;
static char attach_timer_tag;
#define NO_TIMER (-1)
static int attach_timer = NO_TIMER; /* of a forked child that has not attached yet, or has since */
static _Atomic bool puts_off; /* a forked child that has made no thread yet: it may not have attached; relaxed, for it has one thread */

static bool bad(long r) { return r < 0 && r > -4096; }

/* --- connection --- */

static int dial(void) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  size_t n = strlen(client_env_now.socket);
  memcpy(to.sun_path, client_env_now.socket, n + 1);
  int sock = (int)raw_syscall3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (sock < 0) return sock;
  struct timeval tv = {ANSWER_MS / 1000, ANSWER_MS % 1000 * 1000};
  raw_syscall5(SYS_setsockopt, sock, SOL_SOCKET, SO_RCVTIMEO, (long)&tv, sizeof tv);
  raw_syscall5(SYS_setsockopt, sock, SOL_SOCKET, SO_SNDTIMEO, (long)&tv, sizeof tv);
  long r = raw_syscall3(SYS_connect, sock, (long)&to, (long)(offsetof(struct sockaddr_un, sun_path) + n + 1));
  if (r == 0) return sock;
  raw_syscall1(SYS_close, sock);
  return (int)r;
}

/* What HELLO brought. */
struct welcome {
  struct wire_welcome w;
  int page, map, ring;
};

static void close_fd(int fd) {
  if (fd >= 0) raw_syscall1(SYS_close, fd);
}

static int hello_ask(int sock, int page_fd) {
  struct wire_frame f;
  memset(&f, 0, sizeof f);
  f.u.hello.flags = (client_env_now.no_bpf ? WIRE_HELLO_NO_BPF : 0) | (client_env_now.mode == RATION_MODE_OFF ? WIRE_HELLO_OFF : 0) |
                    (client_env_now.mode == RATION_MODE_FREE ? WIRE_HELLO_FREE : 0);
  f.u.hello.m_slots = M_SLOTS_DEFAULT;
  memcpy(f.u.hello.name, client_env_now.name, sizeof f.u.hello.name);
  if (page_fd >= 0) {
    f.u.hello.flags |= WIRE_HELLO_RESUME;
    f.u.hello.member = sched.member;
    f.u.hello.gen = sched.gen;
  }
  wire_seal(&f, WIRE_HELLO, 1);
  return wire_send(sock, &f, &page_fd, page_fd >= 0);
}

/* -EAGAIN: there is none within ANSWER_MS. */
static int hello_answer(int sock, int page_fd, struct welcome *out) {
  struct wire_frame f;
  int r;
  int fds[WIRE_FDS_MAX], nfds = 0;
  do {
    for (int i = 0; i < nfds; i++) close_fd(fds[i]);
    nfds = 0;
    r = wire_recv(sock, &f, fds, &nfds, NULL);
    if (r < 0) return r;
  } while (f.hdr.type == WIRE_CHANGED || f.hdr.type == WIRE_REATTACH ||
           f.hdr.type == WIRE_DUMP_GS); /* unasked, about an earlier attachment */
  int next = 0;
  *out = (struct welcome){.page = -1, .map = -1, .ring = -1};
  bool ok = f.hdr.type == WIRE_WELCOME && f.hdr.serial == 1;
  if (ok) {
    out->w = f.u.welcome;
    if (!(out->w.flags & WIRE_WELCOME_RESUMED) && next < nfds) out->page = fds[next++];
    if ((out->w.flags & WIRE_WELCOME_BPF) && nfds - next >= 2) out->map = fds[next], out->ring = fds[next + 1], next += 2;
    ok = (out->page >= 0) != ((out->w.flags & WIRE_WELCOME_RESUMED) && page_fd >= 0) && out->w.member < POOL_MEMBERS_MAX && out->w.gen != 0;
  }
  while (next < nfds) close_fd(fds[next++]);
  if (ok) return 0;
  close_fd(out->page), close_fd(out->map), close_fd(out->ring);
  return f.hdr.type == WIRE_ERROR ? -EPERM : -EPROTO;
}

static int hello(int sock, int page_fd, struct welcome *out) {
  int r = hello_ask(sock, page_fd);
  return r < 0 ? r : hello_answer(sock, page_fd, out);
}

/* --- what it brought, put in place --- */

static struct pool_page *map_page(int fd, uint32_t size) {
  if (size < sizeof(struct pool_page) || size > 16u * 1024 * 1024) return NULL;
  struct stat st;
  if (raw_syscall2(SYS_fstat, fd, (long)&st) < 0 || st.st_size < (off_t)POOL_PAGE_SIZE) return NULL;
  /* One that could shrink would be a SIGBUS in somebody's program. */
  if (!(raw_syscall3(SYS_fcntl, fd, F_GET_SEALS, 0) & F_SEAL_SHRINK)) return NULL;
  long at = raw_syscall6(SYS_mmap, 0, POOL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (bad(at)) return NULL;
  struct pool_page *pg = (struct pool_page *)at;
  if (pg->magic == POOL_MAGIC && pg->version == POOL_VERSION) return pg;
  raw_syscall2(SYS_munmap, at, POOL_PAGE_SIZE);
  return NULL;
}

static bool map_ring(int fd, uint32_t size) {
  if (size < 4096 || (size & (size - 1)) || size > 1u << 24) return false;
  long c = raw_syscall6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (bad(c)) return false;
  long p = raw_syscall6(SYS_mmap, 0, 4096 + 2 * (long)size, PROT_READ, MAP_SHARED, fd, 4096);
  if (bad(p)) {
    raw_syscall2(SYS_munmap, c, 4096);
    return false;
  }
  ring = (struct ring){(volatile unsigned long *)c, (const volatile unsigned long *)p, (const char *)(p + 4096), size};
  return true;
}

/* Makes the M map ours; each M moves its slot there when it next passes settle(). Lock held. */
static void use_map(int fd, uint32_t nslots) {
  long bytes = (long)M_MAP_ELEMS(nslots) * M_ELEM_SIZE;
  long at = raw_syscall6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  long stack = raw_syscall6(SYS_mmap, 0, (long)nslots * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bad(at) || bad(stack)) return;
  sched.header = (struct m_header *)at;
  sched.slots = (struct m_slot *)(at + M_ELEM_SIZE);
  sched.tids = (struct m_tids *)(at + (long)(1 + nslots) * M_ELEM_SIZE);
  sched.nslots = nslots;
  sched.slot_free = (uint32_t *)stack;
  sched.nslot_free = nslots;
  for (uint32_t i = 0; i < nslots; i++) sched.slot_free[i] = nslots - 1 - i;
  preempt_gated(sched.gated);
  sched_watch_ms();
  SLOT_STORE(sched.header->waiting, sched_waiting());
  SLOT_STORE(sched.header->gs, atomic_load_explicit(&sched_gs_queued, memory_order_relaxed));
  for (struct m *m = sched.allm; m; m = m->next) {
    m->slot_index = UINT32_MAX;
    if (m == m_self)
      m_place_slot(m);
    else
      SLOT_STORE(m->slot->preempt, 1); /* calls it in */
  }
  atomic_store_explicit(&sched.bpf, true, memory_order_relaxed); /* read under the lock */
}

/* From the page that we are on to another. Lock held. */
static void use_page(struct pool_page *pg, uint32_t member, uint32_t gen, bool own, uint64_t now) {
  struct pool_page *old = sched.page;
  _Atomic uint32_t *old_bell = sched.bell;
  sched_leave_page(now);
  sched.member = member;
  sched.gen = gen;
  sched.bell = pg ? &pg->members[member].bell : &sched.private_bell;
  __atomic_store_n(&sched.page, pg, __ATOMIC_RELEASE); /* pairs with gate_ncpus */
  sysmon_owner_tick = own ? standalone_tick : NULL;
  phase_forget();
  sched.last_grant = now;
  sched_reconfigure(now);
  if (old != pg) { /* sysmon may sleep on the old bell.  The old page stays mapped: someone may be reading it */
    atomic_fetch_add_explicit(old_bell, 1, memory_order_release);
    sched_hooks.wake(old_bell, true);
  }
}

/* Takes over what a welcome brought.  *page_fd becomes the descriptor to keep. */
static bool take_over(struct welcome *w, int *page_fd) {
  struct pool_page *pg = w->page >= 0 ? map_page(w->page, w->w.page_size) : sched.page;
  if (!pg) return false;
  uint32_t n = w->w.m_slots;
  bool bpf = w->map >= 0 && n >= M_SLOTS_MIN && n <= M_SLOTS_MAX && (n & (n - 1)) == 0 && map_ring(w->ring, w->w.ring_size);
  sched_lock();
  uint64_t now = sched_hooks.now();
  if (bpf) use_map(w->map, n);
  if (w->page >= 0 || w->w.member != sched.member || w->w.gen != sched.gen) use_page(pg, w->w.member, w->w.gen, false, now);
  sched_kick(0); /* it says on which rung we are now, also on the page that we had */
  sched_unlock();
  if (w->page >= 0) *page_fd = w->page;
  return true;
}

static void use_standalone(void) {
  struct pool_page *pg = standalone_page();
  if (!pg) return;
  sched_lock();
  use_page(pg, 0, 1, true, sched_hooks.now());
  sched_unlock();
}

/* --- the poller --- */

static bool told_to_end(const struct service *self) {
  return atomic_load_explicit(&self->stop, memory_order_relaxed);
} /* set before the kick */

static void drain_ring(void) {
  unsigned long c = *ring.consumer, blocked = 0;
  for (;;) {
    unsigned long p = __atomic_load_n(ring.producer, __ATOMIC_ACQUIRE); /* pairs with the kernel's release when it commits */
    if (c >= p) break;
    uint32_t head = __atomic_load_n((const uint32_t *)(ring.data + (c & (ring.size - 1))), __ATOMIC_ACQUIRE);
    if (head & (1u << 31)) break; /* still being written */
    blocked += !(head & (1u << 30));
    c += ((head & ~(3u << 30)) + 8 + 7) & ~7ul;
    __atomic_store_n(ring.consumer, c, __ATOMIC_RELEASE);
  }
  if (!blocked) return;
  /* Which M it was is in its slot; the look at the whole finds it. */
  sched_lock();
  sched.stats.events += blocked;
  sched.leaving = SCHED_LEAVES;
  uint64_t now = sched_hooks.now();
  sched_kick(sched_balance(now));
  sched_unlock();
  if (light.npqs) monitor_blocked();
}

static void orphaned(void) {
  sched_lock();
  atomic_store_explicit(&sched.bpf, false, memory_order_relaxed); /* read under the lock */
  sched_kick(0);
  sched_unlock();
}

static void eat_kick(void) {
  char byte;
  raw_syscall3(SYS_read, POLLER_KICK, (long)&byte, 1);
}

/* The nearest directory above the socket that is there. */
static void watch_socket_dir(int in) {
  char dir[sizeof client_env_now.socket];
  memcpy(dir, client_env_now.socket, sizeof dir);
  char *slash = strrchr(dir, '/');
  while (slash && slash != dir) {
    *slash = 0;
    if (raw_syscall3(SYS_inotify_add_watch, in, (long)dir, IN_CREATE | IN_MOVED_TO | IN_ATTRIB) >= 0) return;
    slash = strrchr(dir, '/');
  }
}

/*
 * Waits until a daemon may be there again, or our own pool's quota has changed, without waking up for nothing: the first
 * attempts are by the clock, for a daemon that is being restarted; then inotify tells.  Where somebody listens already (systemd,
 * while it starts the daemon, which may take longer than all attempts) there is a `sock` with a hello to wait on.  True: it is answered, or hung up.
 */
static bool wait_alone(int attempt, int sock) {
  bool by_clock = attempt < 6 && sock < 0 && !client_env_now.standalone;
  int in = (int)raw_syscall1(SYS_inotify_init1, IN_CLOEXEC | IN_NONBLOCK);
  if (in >= 0 && !client_env_now.standalone) watch_socket_dir(in);
  if (in >= 0 && sysmon_owner_tick) standalone_watch(in);
  int ms = by_clock ? 50 << attempt : RETRY_MS;
  struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
  struct pollfd pfd[3] = {{.fd = POLLER_KICK, .events = POLLIN}, {.fd = in, .events = POLLIN}, {.fd = sock, .events = POLLIN}};
  raw_syscall5(SYS_ppoll, (long)pfd, 3, by_clock || in < 0 ? (long)&ts : 0, 0, 8);
  if (pfd[0].revents & POLLIN) eat_kick();
  if (pfd[1].revents & POLLIN) {
    sched_lock();
    if (sysmon_owner_tick) standalone_reread(sched_hooks.now());
    sched_kick(0);
    sched_unlock();
  }
  close_fd(in);
  return pfd[2].revents != 0;
}

static void place_fds(int sock, const struct welcome *w, int page_fd) {
  raw_syscall3(SYS_dup3, sock, POLLER_SOCK, O_CLOEXEC);
  if (w->ring >= 0) raw_syscall3(SYS_dup3, w->ring, POLLER_RING, O_CLOEXEC);
  if (page_fd >= 0) raw_syscall3(SYS_dup3, page_fd, POLLER_PAGE, O_CLOEXEC);
}

static void close_the_rest(void) { raw_syscall3(SYS_close_range, POLLER_FDS, ~0u, 0); }

/* In the poller's own table: new descriptors must not land on the kept numbers. */
static int above(int fd) {
  if (fd < 0 || fd >= POLLER_FDS) return fd;
  int r = (int)raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, POLLER_FDS);
  close_fd(fd);
  return r;
}

/* What a welcome brought, or nothing of it. `page_fd`: kept if it brought no page. */
static bool settle_in(int sock, struct welcome *w, int page_fd) {
  bool fine = take_over(w, &page_fd);
  if (fine) place_fds(sock, w, page_fd);
  close_the_rest();
  return fine;
}

/* The kept numbers are taken from here on. */
static bool make_kick(void) {
  int kick[2] = {-1, -1};
  if (raw_syscall2(SYS_pipe2, (long)kick, O_CLOEXEC) < 0) return false;
  int in = above(kick[0]), out = above(kick[1]);
  bool fine = in >= 0 && out >= 0 && raw_syscall3(SYS_dup3, out, POLLER_KICK_OUT, O_CLOEXEC) >= 0;
  for (int i = 0; fine && i < POLLER_KICK_OUT; i++) fine = raw_syscall3(SYS_dup3, in, i, O_CLOEXEC) >= 0;
  raw_syscall2(SYS_fchmod, POLLER_KICK_OUT, 0666); /* it is opened again by name, maybe by another uid (setuid) */
  close_the_rest();
  return fine;
}

static bool attached_page_is_shared(void) {
  return sched.page && !sysmon_owner_tick && !(atomic_load_explicit(&sched.page->flags, memory_order_relaxed) & POOL_F_RETIRED);
}

static int hello_in_time(int attempt, int sock, int page_fd, struct welcome *w) {
  int r = hello(sock, page_fd, w);
  return r == -EAGAIN && wait_alone(attempt, sock) ? hello_answer(sock, page_fd, w) : r;
}

static void reconnect(const struct service *self) {
  for (int attempt = 0;; attempt++) {
    if (told_to_end(self)) return;
    int sock = above(dial());
    struct welcome w;
    if (sock >= 0) {
      int page_fd = attached_page_is_shared() ? POLLER_PAGE : -1;
      int r = hello_in_time(attempt, sock, page_fd, &w);
      if (r == -EAGAIN) { /* it waited */
        close_fd(sock);
        continue;
      }
      if (r < 0 && page_fd >= 0) { /* an old page that it will not have: a new one then */
        close_fd(sock);
        sock = above(dial());
        r = sock < 0 ? sock : hello(sock, -1, &w);
      }
      if (r == 0 && settle_in(sock, &w, page_fd)) return;
      close_the_rest();
    }
    wait_alone(attempt, -1);
  }
}

static void rejoin(void) {
  struct welcome w;
  if (hello(POLLER_SOCK, -1, &w) == 0) settle_in(POLLER_SOCK, &w, -1);
}

/* Somebody asks what our light Gs do.  Whoever reads must go on reading: then this is over in DUMP_NS. */
static void dump_gs(int fd) {
  struct stat st;
  long flags = raw_syscall3(SYS_fcntl, fd, F_GETFL, 0);
  bool pipe = raw_syscall2(SYS_fstat, fd, (long)&st) == 0 && S_ISFIFO(st.st_mode) && flags >= 0;
  if (pipe && raw_syscall3(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK) >= 0 && light.npqs) gdump_until(fd, sys_now() + DUMP_NS);
  close_fd(fd);
}

static void poll_socket(const struct service *self, bool hup) {
  struct wire_frame f;
  int fds[WIRE_FDS_MAX], nfds = 0;
  int r = hup ? -EPIPE : wire_recv(POLLER_SOCK, &f, fds, &nfds, NULL);
  if (r == 0 && f.hdr.type == WIRE_DUMP_GS && nfds == 1) {
    dump_gs(fds[0]);
    return;
  }
  for (int i = 0; i < nfds; i++) close_fd(fds[i]);
  if (r == -EAGAIN || r == -EWOULDBLOCK) return;
  if (r < 0) {
    orphaned();
    raw_syscall3(SYS_dup3, POLLER_KICK, POLLER_SOCK, O_CLOEXEC); /* closes it and keeps the number taken */
    reconnect(self);
  } else if (f.hdr.type == WIRE_REATTACH) {
    rejoin();
  } else {
    sched_lock();
    sched_kick(0);
    sched_unlock();
  }
}

static void poller_loop(const struct service *self) {
  while (!told_to_end(self)) { /* reconnect may have eaten the kick */
    struct pollfd p[3] = {{.fd = POLLER_SOCK, .events = POLLIN},
                          {.fd = sched.bpf ? POLLER_RING : -1, .events = POLLIN},
                          {.fd = POLLER_KICK, .events = POLLIN}};
    uint64_t wait = atomic_load_explicit(&rejoin_after, memory_order_relaxed); /* set before the kick */
    struct timespec ts = {(time_t)(wait / 1000), (long)(wait % 1000 * 1000000)};
    long n = raw_syscall5(SYS_ppoll, (long)p, 3, wait ? (long)&ts : 0, 0, 8);
    if (n == 0 && atomic_exchange_explicit(&rejoin_after, 0, memory_order_relaxed)) rejoin();
    if (n <= 0) continue;
    if (p[2].revents & POLLIN) eat_kick();
    if (told_to_end(self)) return; /* what follows may have been taken away */
    if (p[1].revents & POLLIN) drain_ring();
    if (p[0].revents) poll_socket(self, !(p[0].revents & POLLIN));
  }
}

static bool attach_first(void) {
  int sock = client_env_now.standalone ? -ENOENT : above(dial());
  struct welcome w;
  if (sock >= 0 && hello(sock, -1, &w) == 0) return settle_in(sock, &w, -1);
  close_fd(sock);
  return false;
}

/* --- the process's life --- */

#define POLLER_NAME "ration-poller"

/* The thread of that number in /proc is one, and is kicked. */
static bool kick(uint32_t tid) {
  char path[48];
  if (!procmaps_thread_is(tid, POLLER_NAME "\n", sizeof POLLER_NAME)) return false;
  task_path(path, tid, "/fd/4");
  /* For reading too: if the poller ends in between, its pipe would have no reader, and the program a SIGPIPE. */
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0) return false;
  raw_syscall3(SYS_write, fd, (long)"", 1);
  close_fd(fd);
  return true;
}

static bool kick_if_poller(uint32_t tid, void *arg) {
  (void)arg;
  (void)kick(tid);
  return true;
}

/*
 * Where /proc is that of an outer pid namespace (a process that was cloned into a new one, and has not mounted /proc yet) threads have other numbers there, and the poller's may be that of a thread of the
 * program's.
 */
static void kick_poller(void) {
  char buf[1024];
  if (!kick((uint32_t)poller->tid)) (void)procmaps_threads(buf, sizeof buf, kick_if_poller, NULL);
}

/*
 * On sysmon.  The pool gave us nothing for a second though Gs wait: its page is broken, or those who hold its slots are
 * gone and so is the daemon.  We go on alone, and if that doesn't help either, without any gate.
 */
static void starved(void) {
  bool alone = sysmon_owner_tick != NULL;
  if (!alone) use_standalone();
  sched_lock();
  if (alone && sched.page) {
    atomic_fetch_and_explicit(&sched.page->flags, ~(uint32_t)POOL_F_GATED, memory_order_relaxed);
    atomic_fetch_add_explicit(&sched.page->change, 1, memory_order_release); /* pairs with sched_reconfigure */
    sched_reconfigure(sched_hooks.now());
  }
  sched_unlock();
  if (alone || !poller->tid) return;
  atomic_store_explicit(&rejoin_after, rejoin_wait, memory_order_relaxed);
  if (rejoin_wait < REJOIN_MOST_MS) rejoin_wait *= 2;
  kick_poller();
}

/* For a thread that is to be started.  False: none; those that have them were all told to end. */
static bool take_record(struct service *all, struct service **at) {
  for (unsigned i = 0; i < RECORDS; i++) {
    if (atomic_load_explicit(&all[i].alive, memory_order_relaxed)) continue;
    service_join(&all[i], 0); /* one that has ended late: its stack */
    *at = &all[i];
    return true;
  }
  return false;
}

static void start_sysmon(void) {
  int fd = trace_open();
  sysmon_starved = starved;
  sysmon_phase = phase_look;
  bool runs = take_record(sysmons, &sysmon) && service_start(sysmon, "ration-sysmon", sysmon_main, &fd, fd >= 0) == 0;
  sched_lock();
  sysmon_runs = runs;
  sched_unlock();
  close_fd(fd);
}

/* [changed by the one that lives, or by LATER's end] Futex: where the poller's first attempt is (see above). */
enum { FIRST_OVER, FIRST_LATER, FIRST_NOW };
static _Atomic uint32_t first;
static bool sysmon_is_pollers; /* to start.  [services_lock; read by the one that was made for it, or is told to end] */

static void first_now(void) {
  uint32_t later = FIRST_LATER;
  if (atomic_compare_exchange_strong_explicit(&first, &later, FIRST_NOW, memory_order_relaxed, memory_order_relaxed))
    sys_futex_wake(&first, 1, false); /* nothing is told by it but that it is time */
}

/* Until somebody needs it. */
static void first_waits(void) {
  uint64_t until = sched_hooks.now() + LATER_NS;
  while (atomic_load_explicit(&first, memory_order_relaxed) == FIRST_LATER && sched_hooks.now() < until)
    sys_futex_wait(&first, FIRST_LATER, until, false);
  first_now();
}

static void first_over(void) {
  atomic_store_explicit(&first, FIRST_OVER, memory_order_release); /* pairs with the load in await_first */
  sys_futex_wake(&first, INT_MAX, false);
}

static void await_first(void) {
  uint32_t is;
  while ((is = atomic_load_explicit(&first, memory_order_acquire)) != FIRST_OVER) { /* pairs with first_over: the page */
    first_now();
    if (is == FIRST_NOW) sys_futex_wait(&first, FIRST_NOW, SYS_FOREVER, false);
  }
}

/* On the poller, if nobody has waited for it.  Whoever has the lock, and ends this one, waits for that. */
static void sysmon_follows(const struct service *self) {
  while (!lock_try(&services_lock)) {
    if (told_to_end(self)) return;
    raw_syscall0(SYS_sched_yield);
  }
  if (!told_to_end(self)) start_sysmon();
  lock_drop(&services_lock);
}

static void poller_main(struct service *self) {
  first_waits();
  bool fine = !told_to_end(self) && make_kick(), attached = fine && attach_first();
  if (!attached && !told_to_end(self)) use_standalone();
  if (sysmon_is_pollers) sysmon_follows(self);
  if (!told_to_end(self)) first_over(); /* else it is over already, or another's */
  if (!fine) return;
  if (client_env_now.standalone) {
    while (!told_to_end(self)) wait_alone(0, -1);
    return;
  }
  if (!attached) reconnect(self);
  poller_loop(self);
}

/* It makes its first attempt later, or else that is over, which has a bound.  False: there is no poller, and we are on no page. */
static bool start_poller(bool later) {
  sysmon_is_pollers = later && client_env_now.mode != RATION_MODE_OFF;
  atomic_store_explicit(&first, later ? FIRST_LATER : FIRST_NOW, memory_order_relaxed); /* seen by the thread that is made */
  if (!take_record(pollers, &poller) || service_start(poller, POLLER_NAME, poller_main, NULL, 0) < 0) {
    first_over();
    return false;
  }
  if (!later) await_first();
  atomic_store_explicit(&sched.poller_tid, poller->tid, memory_order_relaxed);
  return true;
}

/* Ends the service threads; the gate is open after it.  Bounded: one that has no CPU so long ends when it gets one. */
static void stop_services(void) {
  uint64_t until = sched_hooks.now() + 200000000u;
  sched_lock();
  sched_leave_page(sched_hooks.now());
  atomic_store_explicit(&sysmon->stop, true, memory_order_relaxed);
  sysmon_runs = false;
  atomic_store_explicit(&poller->stop, true, memory_order_relaxed);
  atomic_store_explicit(&sched.bpf, false, memory_order_relaxed);
  atomic_fetch_add_explicit(sched.bell, 1, memory_order_release); /* pairs with sysmon_main */
  sched_hooks.wake(sched.bell, true);
  sched_unlock();
  atomic_store_explicit(&sched.poller_tid, 0, memory_order_relaxed); /* the tid may be one of the program's soon */
  if (poller->tid) {
    first_now();
    kick_poller();
    service_join(poller, until);
    first_over();
  }
  if (sysmon->tid) service_join(sysmon, until);
}

/* It has none in the M map: the poller, which took the map over, doesn't know who we are. */
static void place_own_slot(void) {
  struct m *m = m_self;
  if (!m) return;
  sched_lock();
  if (atomic_load_explicit(&sched.bpf, memory_order_relaxed) && m->slot_index == UINT32_MAX) m_place_slot(m);
  sched_unlock();
}

/* services_lock held. */
static void attach(bool later) {
  creds_read(&services_creds);
  bool runs = start_poller(later);
  if (runs && later) return; /* it does the rest */
  if (!runs) use_standalone();
  place_own_slot();
  if (client_env_now.mode != RATION_MODE_OFF) start_sysmon();
}

/* services_lock held.  Not of a forked child that has not attached yet. */
static bool has_services(void) { return sysmon->tid || poller->tid; }

static void attach_unless(bool later) {
  run_lock(&services_lock);
  if (!aside && !has_services()) attach(later);
  run_unlock(&services_lock);
}

void client_attach(void) { attach_unless(false); }

/* A trace is one from the start; and its file is a descriptor of the program's table. */
void client_attach_later(void) { attach_unless(!trace_wanted()); }

void client_ready(void) {
  if (__builtin_expect(atomic_load_explicit(&puts_off, memory_order_relaxed), 0)) {
    atomic_store_explicit(&puts_off, false, memory_order_relaxed);
    client_attach();
  }
  if (__builtin_expect(atomic_load_explicit(&first, memory_order_acquire) == FIRST_OVER, 1)) return; /* pairs with first_over */
  struct m *m = m_self;     /* no carrier's: there is one thread yet */
  if (m) m_entersyscall(m); /* the gate may close meanwhile */
  await_first();
  if (m) m_exitsyscall(m);
}

bool client_creds_kept(void) {
  struct creds now;
  creds_read(&now);
  run_lock(&services_lock);
  bool kept = has_services() && creds_same(&now, &services_creds);
  run_unlock(&services_lock);
  return kept;
}

void client_reattach(void) {
  struct creds now;
  creds_read(&now);
  run_lock(&services_lock);
  bool anew = !aside && has_services() && !creds_same(&now, &services_creds);
  if (anew) {
    stop_services();
    attach(false);
  }
  run_unlock(&services_lock);
  if (anew) monitor_lost_host();
}

/*
 * Attaching wants 10 kB of stack.  A handler may have less: it is on the program's alternate stack, of 8 kB where that is SIGSTKSZ, or
 * on the stack of a small thread.  So it gets one.  Static: a child attaches once, by one thread.
 */
static void *handler_sp, *attach_sp;

static void attach_body(void) {
  client_attach();
  ration_switch(&attach_sp, handler_sp);
}

static void attach_on_own_stack(void) {
  long at = raw_syscall6(SYS_mmap, 0, ATTACH_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bad(at)) return;
  raw_syscall3(SYS_mprotect, at, 4096, PROT_NONE);
  valgrind_stack((void *)at, ATTACH_STACK_BYTES);
  ration_switch(&handler_sp, switch_new((char *)at + ATTACH_STACK_BYTES, attach_body));
  raw_syscall2(SYS_munmap, at, ATTACH_STACK_BYTES);
}

/* Rings on the calling thread. */
static bool start_attach_timer(void) {
  struct sigevent ev = {.sigev_notify = 4 /* SIGEV_THREAD_ID */, .sigev_value.sival_ptr = &attach_timer_tag};
  ev.sigev_signo = atomic_load_explicit(&preempt_signal, memory_order_relaxed);
  ev._sigev_un._tid = (pid_t)sys_gettid();
  struct itimerspec in = {.it_value.tv_nsec = FORKED_CPU_NS};
  if (raw_syscall3(SYS_timer_create, CLOCK_PROCESS_CPUTIME_ID, (long)&ev, (long)&attach_timer) < 0) return false;
  raw_syscall4(SYS_timer_settime, attach_timer, 0, (long)&in, 0);
  return true;
}

/* In the SIGURG handler of a forked child that has lived a little. */
static bool attach_timer_rang(const siginfo_t *si) {
  if (si->si_value.sival_ptr != &attach_timer_tag) return false;
  if (!has_services() && !(m_self && m_self->locks)) attach_on_own_stack();
  return true;
}

void client_forget_services(void) {
  atomic_store_explicit(&services_lock.word, 0, memory_order_relaxed); /* whoever held it is not here */
  memset(sysmons, 0, sizeof sysmons);
  memset(pollers, 0, sizeof pollers);
  atomic_store_explicit(&first, FIRST_OVER, memory_order_relaxed); /* it has one thread */
}

void client_fork_child(void) {
  client_forget_services();
  atomic_store_explicit(&puts_off, false, memory_order_relaxed);
  sysmon_runs = false;
  sysmon_owner_tick = NULL;
  phase_forget();
  sched_forget_all();
  m_forget_others(m_self);
  light_fork_child(m_self);
  attach_timer = NO_TIMER;
  if (aside || atomic_load_explicit(&preempt_no_signals, memory_order_relaxed)) return;
  gate_timer_hook = attach_timer_rang;
  if (start_attach_timer()) atomic_store_explicit(&puts_off, true, memory_order_relaxed);
}

/* SIGURG would now come to the program.  What is pending is delivered on the way out of timer_delete: the program does not block it yet. */
void client_hidden(void) {
  if (attach_timer == NO_TIMER) return;
  raw_syscall1(SYS_timer_delete, attach_timer);
  attach_timer = NO_TIMER;
  if (atomic_load_explicit(&puts_off, memory_order_relaxed) && !start_attach_timer()) client_ready();
}

void client_step_aside(void) {
  await_first(); /* the number of CPUs stays known */
  run_lock(&services_lock);
  bool ends = !aside && has_services();
  aside = true;
  if (ends) stop_services();
  run_unlock(&services_lock);
  if (ends) monitor_lost_host();
}
