// SPDX-License-Identifier: Apache-2.0
/*
 * The BPF programs and daemon/watch.c, for real: loads them into the running
 * kernel and lets real threads block, spin and lie.  Needs root; skips elsewhere.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <bpf/bpf.h>
#include "daemon/watch.h"
#include "unit.h"
#include "watch_rig.h"

#define ck_ok(x) ck_assert_msg((x), "%s", #x)
#define SPACE 10 /* slots are spread out a little, so that a neighbour's wrong mark shows */

static struct rig rig;

static void load(void) {
  char err[400] = "";
  ck_assert_msg(watch_open(&rig.w, err, sizeof(err)) == 0, "%s", err);
}

/* Loads the programs and attaches this very process. */
static void start(uint32_t slots) {
  load();
  ck_assert_int_eq(rig_attach(&rig, getpid(), slots), 0);
  ck_ok(rig_live(&rig));
}

static void finish(void) {
  rig_detach(&rig);
  watch_close(rig.w);
}

/* ---- Ms that block ---- */

struct blocker {
  pthread_t th;
  int (*block)(struct blocker *);
  void (*unblock)(struct blocker *);
  int pipe[2];
  int futex;
  int uffd;
  char *page;
  uint32_t slot, state, no_p, taken;
  atomic_uint tid, go, back, quit;
  unsigned rounds;
};

static int block_read(struct blocker *b) {
  char c;
  return syscall(SYS_read, b->pipe[0], &c, 1) == 1 ? 0 : -1;
}
static void unblock_read(struct blocker *b) { ck_ok(write(b->pipe[1], "x", 1) == 1); }

static int block_futex(struct blocker *b) {
  while (__atomic_load_n(&b->futex, __ATOMIC_ACQUIRE) == 0) syscall(SYS_futex, &b->futex, FUTEX_WAIT, 0, NULL, NULL, 0);
  return 0;
}
static void unblock_futex(struct blocker *b) {
  __atomic_store_n(&b->futex, 1, __ATOMIC_RELEASE);
  syscall(SYS_futex, &b->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int block_sleep(struct blocker *b) {
  (void)b;
  struct timespec ts = {.tv_nsec = 200000000};
  return (int)syscall(SYS_nanosleep, &ts, NULL);
}
static void unblock_sleep(struct blocker *b) { (void)b; }

static int block_fault(struct blocker *b) { return ((volatile char *)b->page)[0] == 'p' ? 0 : -1; }
static void unblock_fault(struct blocker *b) {
  static _Alignas(4096) char from[65536] = "p";
  struct uffdio_copy copy = {.dst = (uintptr_t)b->page, .src = (uintptr_t)from, .len = (size_t)sysconf(_SC_PAGESIZE)};
  ck_assert_int_eq(ioctl(b->uffd, UFFDIO_COPY, &copy), 0);
}

static void prepare_fault(struct blocker *b) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  b->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
  ck_ok(b->uffd >= 0);
  struct uffdio_api api = {.api = UFFD_API};
  ck_assert_int_eq(ioctl(b->uffd, UFFDIO_API, &api), 0);
  b->page = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct uffdio_register reg = {.range = {(uintptr_t)b->page, page}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  ck_assert_int_eq(ioctl(b->uffd, UFFDIO_REGISTER, &reg), 0);
}

/* An M that holds a P, blocks once, comes back and spins until told to go. */
static void *blocker_main(void *arg) {
  struct blocker *b = arg;
  struct m_slot *s = &rig.slot[b->slot];
  RIG_STORE(s->state, b->state);
  RIG_STORE(s->has_p, !b->no_p);
  RIG_STORE(s->taken, b->taken);
  rig_add_m(&rig, (uint32_t)rig_gettid(), b->slot);
  b->tid = (unsigned)rig_gettid();
  while (!b->go) sched_yield();
  ck_assert_int_eq(b->block(b), 0);
  b->back = 1;
  while (!b->quit) continue;
  return NULL;
}

static void blocker_start(struct blocker *b) {
  ck_ok(pipe(b->pipe) == 0);
  ck_ok(pthread_create(&b->th, NULL, blocker_main, b) == 0);
  ck_ok(RIG_WAIT(b->tid));
}

/* Joined is not gone: the kernel wakes who joins before it takes the number away, and the thread may sleep on the way. */
static void await_gone(unsigned tid) { ck_ok(RIG_WAIT(syscall(SYS_tgkill, getpid(), (pid_t)tid, 0) != 0)); }

static void blocker_stop(struct blocker *b) {
  b->quit = 1;
  pthread_join(b->th, NULL);
  await_gone(b->tid);
}

static void mark_comes_and_goes(struct blocker *b) {
  struct m_slot *s = &rig.slot[b->slot];
  uint64_t before = rig_now();
  blocker_start(b);
  ck_assert_uint_eq(RIG_LOAD(s->blocked_at), 0);
  b->go = 1;
  ck_ok(RIG_WAIT(RIG_LOAD(s->blocked_at)));
  uint64_t at = RIG_LOAD(s->blocked_at);
  ck_ok(b->block == block_sleep || RIG_LOAD(s->oncpu_at) == 0); /* a sleeper may be back by now */
  b->unblock(b);
  ck_ok(RIG_WAIT(b->back));
  uint64_t seq = RIG_LOAD(s->seq);
  ck_ok(RIG_LOAD(s->blocked_at) == 0 || seq % 2 == 0); /* even: the kernel did not tell of the switch in */
  ck_ok(RIG_WAIT(RIG_LOAD(s->blocked_at) == 0));
  ck_ok(at >= before && at <= rig_now());
  blocker_stop(b);
}

START_TEST(blocked_read_is_marked_until_it_is_back) {
  start(64);
  struct blocker b = {.block = block_read, .unblock = unblock_read, .slot = SPACE, .state = M_RUN};
  mark_comes_and_goes(&b);
  finish();
}
END_TEST

START_TEST(blocked_futex_is_marked_until_it_is_back) {
  start(64);
  struct blocker b = {.block = block_futex, .unblock = unblock_futex, .slot = SPACE, .state = M_SYSCALL};
  mark_comes_and_goes(&b);
  finish();
}
END_TEST

START_TEST(blocked_nanosleep_is_marked_until_it_is_back) {
  start(64);
  struct blocker b = {.block = block_sleep, .unblock = unblock_sleep, .slot = SPACE, .state = M_RUN};
  mark_comes_and_goes(&b);
  finish();
}
END_TEST

START_TEST(blocked_page_fault_is_marked_until_it_is_back) {
  start(64);
  struct blocker b = {.block = block_fault, .unblock = unblock_fault, .slot = SPACE, .state = M_RUN};
  prepare_fault(&b);
  mark_comes_and_goes(&b);
  finish();
}
END_TEST

/* The M's thread has left its CPU to block, seen by its own seq (a switch out makes it even) and the kernel's view. */
static bool asleep(unsigned tid) {
  char path[64], text[256];
  snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (n <= 0) return false;
  text[n] = 0;
  char *p = strrchr(text, ')');
  return p && p[2] == 'S';
}

static void is_left_alone(uint32_t state, uint32_t has_p, uint32_t taken) {
  struct blocker b = {.block = block_read, .unblock = unblock_read, .slot = SPACE, .state = state, .no_p = !has_p, .taken = taken};
  struct m_slot *s = &rig.slot[b.slot];
  RIG_STORE(rig.h->waiting, 1);
  blocker_start(&b);
  uint64_t seq = RIG_LOAD(s->seq);
  b.go = 1;
  ck_ok(RIG_WAIT(asleep(b.tid)));
  ck_assert_uint_ne(RIG_LOAD(s->seq), seq); /* its switches are seen, */
  ck_assert_uint_eq(RIG_LOAD(s->seq) & 1, 0);
  ck_assert_uint_eq(RIG_LOAD(s->blocked_at), 0); /* but not marked */
  ck_assert_uint_eq(RIG_LOAD(rig.h->events), 0);
  b.unblock(&b);
  blocker_stop(&b);
  rig_del_m(&rig, b.tid, b.slot);
}

START_TEST(m_that_looks_after_itself_is_not_marked) {
  start(64);
  is_left_alone(M_IDLE, 1, 0);
  is_left_alone(M_OPEN, 1, 0);
  is_left_alone(M_RUN, 0, 0);
  is_left_alone(M_RUN, 1, 1);
  finish();
}
END_TEST

static void is_idle_carrier_left_alone(void) {
  RIG_STORE(rig.slot[SPACE].carrier, 1);
  RIG_STORE(rig.h->gs, 1);
  is_left_alone(M_SYSCALL, 0, 1);
  RIG_STORE(rig.h->gs, 0);
}

/* A call of the kernel's may be woken in between, and go on waiting: by then the P is gone, but not the queue. */
START_TEST(carrier_that_blocks_again_without_a_p_is_marked) {
  start(64);
  struct blocker b = {.block = block_read, .unblock = unblock_read, .slot = SPACE, .state = M_RUN, .no_p = 1, .taken = 1};
  struct m_slot *s = &rig.slot[b.slot];
  is_idle_carrier_left_alone();
  RIG_STORE(s->carrier, 1);
  blocker_start(&b);
  RIG_STORE(rig.h->gs, 1);
  b.go = 1;
  ck_ok(RIG_WAIT(RIG_LOAD(s->blocked_at)));
  ck_assert_uint_eq(RIG_LOAD(rig.h->events), 1);
  b.unblock(&b);
  blocker_stop(&b);
  rig_del_m(&rig, b.tid, b.slot);
  RIG_STORE(s->carrier, 0);
  finish();
}
END_TEST

/* ---- events ---- */

START_TEST(event_comes_only_when_a_g_waits) {
  start(64);
  struct rig_ring ring = {0};
  struct m_event ev;
  ck_assert_int_eq(rig_ring_open(&ring, rig.ring_fd, rig.ring_size), 0);
  struct blocker quiet = {.block = block_read, .unblock = unblock_read, .slot = SPACE, .state = M_RUN};
  mark_comes_and_goes(&quiet);
  ck_ok(!rig_ring_next(&ring, &ev));
  ck_assert_uint_eq(RIG_LOAD(rig.h->events), 0);

  struct blocker b = {.block = block_read, .unblock = unblock_read, .slot = 2 * SPACE, .state = M_RUN};
  int ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event want = {.events = EPOLLIN}, got;
  ck_assert_int_eq(epoll_ctl(ep, EPOLL_CTL_ADD, rig.ring_fd, &want), 0);
  blocker_start(&b);
  RIG_STORE(rig.h->waiting, 1);
  b.go = 1;
  ck_assert_int_eq(epoll_wait(ep, &got, 1, 15000), 1);
  ck_ok(rig_ring_next(&ring, &ev));
  ck_assert_uint_eq(ev.type, M_EV_BLOCKED);
  ck_assert_uint_eq(ev.slot, b.slot);
  ck_assert_uint_eq(ev.at, RIG_LOAD(rig.slot[b.slot].blocked_at));
  ck_assert_uint_eq(RIG_LOAD(rig.h->events), 1);
  b.unblock(&b);
  blocker_stop(&b);
  finish();
}
END_TEST

static void *naps_as_m(void *arg) {
  uint32_t slot = *(uint32_t *)arg;
  RIG_STORE(rig.slot[slot].state, M_RUN);
  RIG_STORE(rig.slot[slot].has_p, 1);
  rig_add_m(&rig, (uint32_t)rig_gettid(), slot);
  while (RIG_LOAD(rig.h->lost) == 0) rig_sleep_ms(0);
  return NULL;
}

START_TEST(full_ring_counts_what_is_lost) {
  start(64);
  RIG_STORE(rig.h->waiting, 1);
  uint32_t slot = 3;
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, naps_as_m, &slot) == 0);
  pthread_join(th, NULL);
  uint64_t each = 8 + sizeof(struct m_event);
  ck_ok(RIG_LOAD(rig.h->events) >= rig.ring_size / each - 2 && RIG_LOAD(rig.h->events) <= rig.ring_size / each);
  finish();
}
END_TEST

/* ---- time on CPU ---- */

struct burner {
  uint32_t slot;
  uint64_t cpu_clock, cpu_ns, seq;
  bool missed; /* ran with an even seq: the kernel did not tell of a switch in */
};

static uint64_t m_cpu(const struct m_slot *s) {
  for (;;) {
    uint64_t seq = RIG_LOAD(s->seq), cpu = RIG_LOAD(s->cpu_ns), on = RIG_LOAD(s->oncpu_at);
    if (seq == RIG_LOAD(s->seq)) return cpu + (on ? rig_now() - on : 0);
  }
}

static void *burn(void *arg) {
  struct burner *b = arg;
  struct m_slot *s = &rig.slot[b->slot];
  rig_add_m(&rig, (uint32_t)rig_gettid(), b->slot);
  rig_sleep_ms(1); /* the first stint began before it was an M */
  uint64_t clock0 = rig_clock(CLOCK_THREAD_CPUTIME_ID), cpu0 = m_cpu(s);
  for (int i = 0; i < 60; i++) {
    uint64_t until = rig_clock(CLOCK_THREAD_CPUTIME_ID) + 5000000;
    while (rig_clock(CLOCK_THREAD_CPUTIME_ID) < until) b->missed |= RIG_LOAD(s->seq) % 2 == 0;
    if (i % 3 == 0) rig_sleep_ms(2);
  }
  b->cpu_ns = m_cpu(s) - cpu0;
  b->cpu_clock = rig_clock(CLOCK_THREAD_CPUTIME_ID) - clock0;
  uint64_t end = rig_now() + 1000000000u; /* what was missed is made up for at the next tick */
  do b->seq = RIG_LOAD(s->seq);
  while (!(b->seq & 1) && rig_now() < end);
  return NULL;
}

/*
 * Three threads share the CPUs, so that there are switches of both kinds in it.
 * cpu_ns is wall time on CPU; the thread clock may leave out what a hypervisor
 * stole meanwhile, or (in an emulator) go by another clock.  So a difference may
 * be the machine's fault once; an error of ours is there each time.  A switch in
 * that was missed costs up to a tick.
 */
static bool exact(const struct burner *b) {
  uint64_t off = b->cpu_clock * (b->missed ? 15 : 3) / 100;
  return b->cpu_ns >= b->cpu_clock - off && b->cpu_ns <= b->cpu_clock + off;
}

static unsigned burn_round(void) {
  struct burner b[3] = {{.slot = 0}, {.slot = 31}, {.slot = 63}};
  pthread_t th[3];
  unsigned n = 0;
  for (int i = 0; i < 3; i++) ck_ok(pthread_create(&th[i], NULL, burn, &b[i]) == 0);
  for (int i = 0; i < 3; i++) pthread_join(th[i], NULL);
  for (int i = 0; i < 3; i++) {
    printf("# cpu_ns %llu, thread clock %llu\n", (unsigned long long)b[i].cpu_ns, (unsigned long long)b[i].cpu_clock);
    ck_assert_uint_gt(b[i].seq, 40); /* 20 sleeps: out and in */
    ck_assert_uint_eq(b[i].seq & 1, 1);
    n += exact(&b[i]);
    rig_del_m(&rig, 0, b[i].slot);
  }
  memset(rig.table, 0, rig.n * 2 * sizeof(*rig.table));
  return n;
}

START_TEST(cpu_ns_is_the_thread_clock) {
  start(64);
  unsigned n = 0;
  for (int i = 0; i < 6 && n < 3; i++) n = burn_round();
  ck_assert_uint_eq(n, 3);
  finish();
}
END_TEST

/* Makes its slot what it is after a switch in that BPF was not told of.  Returns the seq that BPF left; a switch out and in would leave two more. */
static uint64_t miss_a_switch_in(struct m_slot *s) {
  uint64_t seq = RIG_LOAD(s->seq) & ~1ull, end = rig_now() + 1000000000u;
  RIG_STORE(s->blocked_at, 1);
  RIG_STORE(s->seq, seq);
  RIG_STORE(s->oncpu_at, 0);
  while ((RIG_LOAD(s->blocked_at) || !(RIG_LOAD(s->seq) & 1)) && rig_now() < end) continue;
  return RIG_LOAD(s->blocked_at) ? 0 : RIG_LOAD(s->seq) - seq;
}

static void *misses_switches_in(void *arg) {
  unsigned *made_up = arg;
  (void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}); /* or on a busy machine there is a switch before the tick */
  rig_add_m(&rig, (uint32_t)rig_gettid(), 5);
  rig_sleep_ms(1);
  for (int i = 0; i < 40 && *made_up < 5; i++) *made_up += miss_a_switch_in(&rig.slot[5]) == 1;
  return NULL;
}

START_TEST(missed_switch_in_is_made_up_for_by_the_tick) {
  start(64);
  unsigned made_up = 0;
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, misses_switches_in, &made_up) == 0);
  pthread_join(th, NULL);
  ck_assert_uint_eq(made_up, 5);
  finish();
}
END_TEST

/* ---- a process that does not ask ---- */

static void burn_and_nap(uint64_t ns) {
  uint64_t end = rig_clock(CLOCK_THREAD_CPUTIME_ID) + ns;
  while (rig_clock(CLOCK_THREAD_CPUTIME_ID) < end) continue;
  rig_sleep_ms(1);
}

/* An M that is watched at first, then not, then again. */
static void *comes_and_goes(void *arg) {
  struct m_slot *s = arg;
  RIG_STORE(s->state, M_RUN);
  RIG_STORE(s->has_p, 1);
  rig_add_m(&rig, (uint32_t)rig_gettid(), SPACE);
  for (int i = 0; i < 100 && RIG_LOAD(s->seq) == 0; i++) rig_sleep_ms(1);
  ck_assert_uint_ne(RIG_LOAD(s->seq), 0);

  RIG_STORE(rig.h->quiet, 1);
  RIG_STORE(rig.h->waiting, 1);
  burn_and_nap(1000000); /* what began before may be noted still: the switch in was */
  RIG_STORE(s->seq, 0);
  RIG_STORE(s->oncpu_at, 0);
  RIG_STORE(s->blocked_at, 0);
  RIG_STORE(s->cpu_ns, 0);
  for (int i = 0; i < 20; i++) burn_and_nap(1000000);
  ck_assert_uint_eq(RIG_LOAD(s->seq) + RIG_LOAD(s->oncpu_at) + RIG_LOAD(s->blocked_at) + RIG_LOAD(s->cpu_ns), 0);
  ck_assert_uint_eq(RIG_LOAD(rig.h->events), 0);

  uint64_t before = rig_clock(CLOCK_THREAD_CPUTIME_ID);
  RIG_STORE(rig.h->quiet, 0);
  for (int i = 0; i < 100 && (RIG_LOAD(s->seq) < 4 || RIG_LOAD(rig.h->events) == 0); i++) rig_sleep_ms(1);
  ck_assert_uint_ge(RIG_LOAD(s->seq), 4);
  ck_assert_uint_ne(RIG_LOAD(rig.h->events), 0);
  ck_assert_uint_le(RIG_LOAD(s->cpu_ns),
                    rig_clock(CLOCK_THREAD_CPUTIME_ID) - before); /* nothing of what was not watched, though it ran for much longer */
  return NULL;
}

START_TEST(nothing_is_noted_while_nobody_asks) {
  start(64);
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, comes_and_goes, (void *)&rig.slot[SPACE]) == 0);
  pthread_join(th, NULL);
  RIG_STORE(rig.h->waiting, 0);
  finish();
}
END_TEST

/* ---- SIGURG ---- */

/* The case ends here where the programs can't do that, and says why. */
static bool lacks(uint32_t cap, const char *why) {
  if (watch_caps(rig.w) & cap) return false;
  printf("# not tested: %s\n", why);
  finish();
  return true;
}

static atomic_uint urgs;
static _Thread_local struct m_slot *my_slot;

static void on_urg(int sig, siginfo_t *si, void *ctx) {
  (void)sig;
  (void)ctx;
  if (si->si_code != SI_KERNEL || !my_slot) abort();
  RIG_STORE(my_slot->preempt, 0);
  RIG_STORE(my_slot->urg, 0);
  atomic_fetch_add(&urgs, 1); /* last: who sees it may ask again */
}

static void catch_urg(void) {
  struct sigaction sa = {.sa_sigaction = on_urg, .sa_flags = SA_SIGINFO}; /* no SA_RESTART: an interrupted call must show */
  ck_assert_int_eq(sigaction(SIGURG, &sa, NULL), 0);
}

/* Does with the hidden signal what it does with SIGURG.  By what the kernel has: glibc keeps that signal for itself. */
static void hidden_as_urg(void) {
  unsigned long act[4];
  ck_assert_int_eq((int)syscall(SYS_rt_sigaction, SIGURG, NULL, act, 8), 0);
  if (act[0] > (unsigned long)SIG_IGN) act[0] = (unsigned long)on_urg; /* not that of a sanitizer, which would look the signal up */
  ck_assert_int_eq((int)syscall(SYS_rt_sigaction, M_SIGNAL_HIDDEN, act, NULL, 8), 0);
}

static void set_urg(__sighandler_t fn) { ck_assert(signal(SIGURG, fn) != SIG_ERR); }

static atomic_uint spin_quit, spinning;

struct spinner {
  uint32_t slot, has_p, taken;
  int cpu;
};

static void *spin(void *arg) {
  struct spinner *sp = arg;
  my_slot = &rig.slot[sp->slot];
  if (sp->cpu >= 0) rig_pin(0, sp->cpu);
  RIG_STORE(my_slot->state, M_RUN);
  RIG_STORE(my_slot->has_p, sp->has_p);
  RIG_STORE(my_slot->taken, sp->taken);
  rig_add_m(&rig, (uint32_t)rig_gettid(), sp->slot);
  spinning = 1;
  while (!spin_quit) continue;
  return NULL;
}

static void gets_urg(struct spinner sp) {
  pthread_t th;
  urgs = spin_quit = 0;
  RIG_STORE(rig.h->gated, 1);
  ck_ok(pthread_create(&th, NULL, spin, &sp) == 0);
  ck_ok(RIG_WAIT(urgs >= 3));
  RIG_STORE(rig.h->gated, 0);
  spin_quit = 1;
  pthread_join(th, NULL);
  ck_ok(RIG_LOAD(rig.h->signals) >= 3);
  rig_del_m(&rig, 0, sp.slot);
}

/* Alone on its CPU or not: both that it was never given a P and that the P was taken. */
START_TEST(user_code_without_p_gets_sigurg) {
  start(64);
  catch_urg();
  gets_urg((struct spinner){.slot = SPACE, .has_p = 0, .cpu = -1});
  gets_urg((struct spinner){.slot = SPACE, .has_p = 1, .taken = 1, .cpu = -1});
  finish();
}
END_TEST

START_TEST(user_code_with_p_gets_no_sigurg) {
  start(64);
  catch_urg();
  RIG_STORE(rig.h->gated, 1);
  struct spinner sp = {.slot = SPACE, .has_p = 1, .cpu = -1};
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, spin, &sp) == 0);
  ck_ok(RIG_WAIT(rig.slot[SPACE].oncpu_at)); /* it is seen */
  rig_sleep_ms(200);                         /* many ticks */
  ck_assert_uint_eq(RIG_LOAD(rig.h->signals), 0);
  RIG_STORE(rig.h->gated, 0); /* an open gate lets all run */
  RIG_STORE(rig.slot[SPACE].has_p, 0);
  rig_sleep_ms(100);
  ck_assert_uint_eq(RIG_LOAD(rig.h->signals), 0);
  RIG_STORE(rig.h->gated, 1); /* and the same thread is told at once when it closes: the silence above meant something */
  ck_ok(RIG_WAIT(urgs));
  spin_quit = 1;
  pthread_join(th, NULL);
  finish();
}
END_TEST

/* The program has SIGURG for itself.  Where nobody handles the signal that is ours instead, it would end the process. */
START_TEST(the_hidden_signal_comes_where_it_is_handled) {
  start(64);
  if (lacks(M_CAP_HIDDEN, "this is no such BPF")) return;
  set_urg(SIG_DFL);
  hidden_as_urg();
  RIG_STORE(rig.h->hidden, 1);
  struct spinner sp = {.slot = SPACE, .has_p = 0, .cpu = -1};
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, spin, &sp) == 0);
  ck_ok(RIG_WAIT(rig.slot[SPACE].oncpu_at));
  rig_sleep_ms(100);
  set_urg(SIG_IGN); /* as glibc's posix_spawn has it in its children */
  hidden_as_urg();
  rig_sleep_ms(100);
  ck_assert_uint_eq(RIG_LOAD(rig.h->signals), 0);
  catch_urg();
  hidden_as_urg();
  set_urg(SIG_DFL);
  ck_ok(RIG_WAIT(urgs >= 3));
  RIG_STORE(rig.h->hidden, 0);
  spin_quit = 1;
  pthread_join(th, NULL);
  finish();
}
END_TEST

static void swallow_urg(int sig, siginfo_t *si, void *ctx) {
  (void)sig;
  (void)si;
  (void)ctx;
  atomic_fetch_add(&urgs, 1); /* urg stays set */
}

START_TEST(no_second_sigurg_before_the_first_is_handled) {
  start(64);
  struct sigaction sa = {.sa_sigaction = swallow_urg, .sa_flags = SA_SIGINFO | SA_RESTART};
  ck_assert_int_eq(sigaction(SIGURG, &sa, NULL), 0);
  RIG_STORE(rig.h->gated, 1);
  struct spinner sp = {.slot = SPACE, .cpu = -1};
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, spin, &sp) == 0);
  ck_ok(RIG_WAIT(urgs));
  rig_sleep_ms(200);
  ck_assert_uint_eq(urgs, 1);
  ck_assert_uint_eq(RIG_LOAD(rig.h->signals), 1);
  ck_assert_uint_eq(RIG_LOAD(rig.slot[SPACE].urg), M_URG_BPF);
  RIG_STORE(rig.slot[SPACE].urg, 0);
  ck_ok(RIG_WAIT(urgs == 2));
  spin_quit = 1;
  pthread_join(th, NULL);
  finish();
}
END_TEST

static int barrier(void) { return (int)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); }

/* With the tick alone, a round needs up to 4 ms (HZ=250), so 200 rounds are not done within a few ticks. */
START_TEST(membarrier_delivers_preempt_without_waiting_for_a_tick) {
  start(64);
  uint32_t cap = sysconf(_SC_NPROCESSORS_ONLN) < 2 ? 0 : M_CAP_IPI;
  if (lacks(cap, "no interrupt tracepoints here, or one CPU")) return;
  ck_assert_int_eq((int)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
  catch_urg();
  RIG_STORE(rig.h->gated, 1);
  rig_pin(0, 0);
  struct spinner sp = {.slot = SPACE, .has_p = 1, .cpu = 1};
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, spin, &sp) == 0);
  ck_ok(RIG_WAIT(spinning && RIG_LOAD(rig.slot[SPACE].oncpu_at)));
  unsigned at_once = 0;
  for (int i = 0; i < 200; i++) {
    unsigned before = urgs;
    RIG_STORE(rig.slot[SPACE].preempt, 1);
    ck_assert_int_eq(barrier(), 0);
    uint64_t sent = rig_now();
    while (urgs == before) continue;
    at_once += rig_now() - sent < 1000000;
  }
  spin_quit = 1;
  pthread_join(th, NULL);
  ck_assert_uint_eq(urgs, 200);
  ck_assert_uint_ge(at_once, 150); /* whoever else uses this CPU may delay some */
  finish();
}
END_TEST

/* Sleeps with all signals blocked, as our poller does, until it is cancelled. */
static void *deaf(void *tid) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  atomic_store((atomic_uint *)tid, (unsigned)rig_gettid());
  for (;;) pause();
  return NULL;
}

static atomic_uint deaf_tid, early, rang_at_once;
static uint64_t rings_at;

static void set_alarm(timer_t timer, uint64_t after) {
  uint64_t at = (rig_now() / 1000 + after / 1000) * 1000;
  struct itimerspec ts = {.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}};
  rings_at = at;
  if (timer) timer_settime(timer, TIMER_ABSTIME, &ts, NULL);
  RIG_STORE(my_slot->alarm, (uint32_t)(at / 1000));
}

static void on_alarm(int sig, siginfo_t *si, void *ctx) {
  (void)sig, (void)si, (void)ctx;
  uint64_t now = rig_now();
  RIG_STORE(my_slot->alarm, 0);
  RIG_STORE(my_slot->preempt, 0);
  RIG_STORE(my_slot->urg, 0);
  if (now < rings_at) atomic_fetch_add(&early, 1);
  if (now < rings_at + 1000000) atomic_fetch_add(&rang_at_once, 1);
  atomic_fetch_add(&urgs, 1);
}

/* 200 alarms in user code, with a timer whose signal goes to a thread that is deaf, or without one. */
static void *with_alarms(void *with_timer) {
  timer_t timer = NULL;
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
  ev._sigev_un._tid = (pid_t)deaf_tid;
  if (with_timer && timer_create(CLOCK_MONOTONIC, &ev, &timer)) abort();
  my_slot = &rig.slot[SPACE];
  RIG_STORE(my_slot->state, M_RUN);
  RIG_STORE(my_slot->has_p, 1);
  rig_add_m(&rig, (uint32_t)rig_gettid(), SPACE);
  for (unsigned i = 0; i < 200; i++) {
    unsigned before = urgs;
    set_alarm(timer, 1500000 + i * 37 % 40 * 100000);
    while (urgs == before) continue;
  }
  if (with_timer) timer_delete(timer);
  return NULL;
}

/* By the tick alone (HZ=250) one in four rings within 1 ms.  No signal of the timer's own reaches anybody. */
START_TEST(an_alarm_rings_when_its_timer_interrupts) {
  start(64);
  if (lacks(M_CAP_ALARM, "no timer's interrupt is seen here")) return;
  struct sigaction sa = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO};
  ck_assert_int_eq(sigaction(SIGURG, &sa, NULL), 0);
  RIG_STORE(rig.h->gated, 1);
  pthread_t th, sleeper;
  ck_ok(pthread_create(&sleeper, NULL, deaf, &deaf_tid) == 0);
  ck_ok(RIG_WAIT(deaf_tid));
  for (intptr_t with_timer = 1; with_timer >= 0; with_timer--) {
    urgs = early = rang_at_once = 0;
    ck_ok(pthread_create(&th, NULL, with_alarms, (void *)with_timer) == 0);
    pthread_join(th, NULL);
    rig_del_m(&rig, 0, SPACE);
    ck_assert_uint_eq(urgs, 200);
    ck_assert_uint_eq(early, 0);
    if (with_timer) ck_assert_uint_ge(rang_at_once, 150); /* whoever else uses this CPU may delay some */
  }
  pthread_cancel(sleeper);
  pthread_join(sleeper, NULL);
  finish();
}
END_TEST

/* Always in a wrapper: nobody is to be signalled in one, so it is to find out when it leaves. */
static void *calls_with_an_alarm(void *arg) {
  struct m_slot *s = my_slot = &rig.slot[SPACE];
  atomic_uint *bad = arg;
  rig_add_m(&rig, (uint32_t)rig_gettid(), SPACE);
  RIG_STORE(s->state, M_SYSCALL);
  for (unsigned has_p = 0; has_p < 2; has_p++) {
    RIG_STORE(s->has_p, has_p);
    uint64_t at = rig_now() + 20000000, end = at + 60000000;
    RIG_STORE(s->alarm, (uint32_t)(at / 1000));
    while (rig_now() < end && !RIG_LOAD(s->preempt)) (void)syscall(SYS_getppid);
    if (rig_now() < at || (has_p != RIG_LOAD(s->preempt))) atomic_fetch_add(bad, 1);
  }
  return NULL;
}

START_TEST(an_alarm_in_a_call_is_found_at_its_end) {
  start(64);
  if (lacks(M_CAP_ALARM, "no timer's interrupt is seen here")) return;
  struct sigaction sa = {.sa_sigaction = swallow_urg, .sa_flags = SA_SIGINFO | SA_RESTART};
  ck_assert_int_eq(sigaction(SIGURG, &sa, NULL), 0);
  RIG_STORE(rig.h->gated, 1);
  atomic_uint bad = 0;
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, calls_with_an_alarm, &bad) == 0);
  pthread_join(th, NULL);
  ck_assert_uint_eq(bad, 0);
  finish();
}
END_TEST

static int told[2];

static void tell_urg(int sig, siginfo_t *si, void *ctx) {
  (void)sig, (void)si, (void)ctx;
  RIG_STORE(my_slot->preempt, 0);
  RIG_STORE(my_slot->urg, 0);
  if (write(told[1], "", 1) != 1) abort();
}

/*
 * The one who asks has displaced the spinner from their only CPU; it must not run on until the next tick.  The asker sleeps without a
 * timer, whose interrupt would also find the spinner.  By the tick alone (HZ=250) a round takes 2 ms on average.
 */
START_TEST(one_that_must_stop_is_stopped_as_it_gets_a_cpu) {
  start(64);
  if (lacks(M_CAP_NEXT, "this kernel cannot signal the next thread (Linux 6.13 can)")) return;
  struct sigaction sa = {.sa_sigaction = tell_urg, .sa_flags = SA_SIGINFO | SA_RESTART};
  ck_assert_int_eq(sigaction(SIGURG, &sa, NULL), 0);
  ck_assert_int_eq(pipe(told), 0);
  RIG_STORE(rig.h->gated, 1);
  rig_pin(0, 0);
  struct spinner sp = {.slot = SPACE, .has_p = 1, .cpu = 0};
  pthread_t th;
  ck_ok(pthread_create(&th, NULL, spin, &sp) == 0);
  ck_ok(RIG_WAIT(spinning && RIG_LOAD(rig.slot[SPACE].seq)));
  unsigned at_once = 0;
  for (int i = 0; i < 200; i++) {
    char byte;
    usleep(500 + (unsigned)i * 37 % 4000); /* it runs; then we displace it */
    RIG_STORE(rig.slot[SPACE].preempt, 1);
    uint64_t sent = rig_now();
    ck_assert_int_eq((int)read(told[0], &byte, 1), 1);
    at_once += rig_now() - sent < 1000000;
  }
  spin_quit = 1;
  pthread_join(th, NULL);
  ck_assert_uint_ge(at_once, 150);
  finish();
}
END_TEST

static atomic_uint calls_done, calls_interrupted;

/* Lives in system calls that any signal would interrupt, always wanted by SIGURG. */
static void *call_forever(void *arg) {
  struct spinner *sp = arg;
  my_slot = &rig.slot[sp->slot];
  RIG_STORE(my_slot->state, M_RUN);
  rig_add_m(&rig, (uint32_t)rig_gettid(), sp->slot);
  struct timespec ts = {.tv_nsec = 50000};
  while (!spin_quit) {
    bool bad = syscall(SYS_nanosleep, &ts, NULL) < 0 && errno == EINTR;
    bad |= syscall(SYS_ppoll, NULL, 0, &ts, NULL, 0) < 0 && errno == EINTR;
    if (bad) atomic_fetch_add(&calls_interrupted, 1);
    atomic_fetch_add(&calls_done, 2);
    for (volatile int i = 0; i < 2000 + (rand() & 4095); i++) continue;
  }
  return NULL;
}

/* Threads that sleep and spin in turn, crowd the CPUs and are hunted by ticks, switches and membarriers. */
START_TEST(sigurg_never_interrupts_a_system_call) {
  start(64);
  catch_urg();
  (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
  RIG_STORE(rig.h->gated, 1);
  struct spinner sp[6];
  pthread_t th[6];
  for (uint32_t i = 0; i < 6; i++) {
    sp[i] = (struct spinner){.slot = i * SPACE, .cpu = -1};
    ck_ok(pthread_create(&th[i], NULL, i == 5 ? spin : call_forever, &sp[i]) == 0);
  }
  uint64_t end = rig_now() + 5000000000u;
  while (rig_now() < end) {
    for (uint32_t i = 0; i < 6; i++) RIG_STORE(rig.slot[i * SPACE].preempt, 1);
    (void)barrier();
    usleep(50);
  }
  spin_quit = 1;
  for (int i = 0; i < 6; i++) pthread_join(th[i], NULL);
  printf("# %u signals, %u calls, %u interrupted\n", urgs, calls_done, calls_interrupted);
  ck_assert_uint_gt(calls_done, 1000);
  ck_assert_uint_gt(urgs, 500);
  ck_assert_uint_eq(calls_interrupted, 0);
  finish();
}
END_TEST

/* ---- which threads ---- */

static void is_seen(unsigned tid, uint32_t slot) {
  ck_ok(tid);
  RIG_STORE(rig.slot[slot].state, M_RUN);
  RIG_STORE(rig.slot[slot].has_p, 1);
  rig_add_m(&rig, tid, slot);
  ck_ok(RIG_WAIT(RIG_LOAD(rig.slot[slot].seq) > 2));
}

struct napper {
  pthread_t th;
  atomic_uint tid, quit;
};
static void *nap(void *arg) {
  struct napper *n = arg;
  n->tid = (unsigned)rig_gettid();
  while (!n->quit) rig_sleep_ms(5);
  return NULL;
}
static void napper_start(struct napper *n) {
  ck_ok(pthread_create(&n->th, NULL, nap, n) == 0);
  ck_ok(RIG_WAIT(n->tid));
}
static void napper_stop(struct napper *n) {
  n->quit = 1;
  pthread_join(n->th, NULL);
}

START_TEST(threads_older_and_younger_than_the_attachment_are_seen) {
  load();
  static struct napper older[40], younger[40];
  for (int i = 0; i < 40; i++) napper_start(&older[i]);
  ck_assert_int_eq(rig_attach(&rig, getpid(), 100), 0);
  ck_assert_uint_eq(rig.n, 128);
  ck_ok(rig_live(&rig));
  for (int i = 0; i < 40; i++) napper_start(&younger[i]);
  for (uint32_t i = 0; i < 40; i++) is_seen(older[i].tid, i);
  for (uint32_t i = 0; i < 40; i++) is_seen(younger[i].tid, 40 + i);
  is_seen((unsigned)rig_gettid(), 80); /* the leader */
  for (int i = 0; i < 40; i++) napper_stop(&older[i]), napper_stop(&younger[i]);
  finish();
}
END_TEST

/* Threads make threads while their process is being attached; none may be missed. */
static atomic_uint births_stop;
static void *birth(void *arg) {
  (void)arg;
  pthread_t th;
  if (births_stop) return NULL;
  rig_sleep_ms(0);
  if (pthread_create(&th, NULL, birth, NULL) == 0) pthread_detach(th);
  return NULL;
}
static atomic_uint last_tid, last_quit;
static void *last_generation(void *arg) {
  (void)arg;
  last_tid = (unsigned)rig_gettid();
  while (!last_quit) rig_sleep_ms(1);
  return NULL;
}
static void *lineage(void *arg) {
  (void)arg;
  pthread_t th;
  while (!births_stop) rig_sleep_ms(0);
  ck_ok(pthread_create(&th, NULL, last_generation, NULL) == 0);
  pthread_join(th, NULL);
  return NULL;
}

START_TEST(no_thread_is_missed_while_threads_are_born) {
  load();
  pthread_t th[9];
  for (int i = 0; i < 8; i++) ck_ok(pthread_create(&th[i], NULL, birth, NULL) == 0);
  for (int i = 0; i < 8; i++) pthread_detach(th[i]);
  ck_ok(pthread_create(&th[8], NULL, lineage, NULL) == 0);
  ck_assert_int_eq(rig_attach(&rig, getpid(), 64), 0);
  ck_ok(rig_live(&rig));
  births_stop = 1;
  ck_ok(RIG_WAIT(last_tid));
  is_seen(last_tid, 1); /* the child of one that was there before: its parent must have been adopted */
  last_quit = 1;
  pthread_join(th[8], NULL);
  finish();
}
END_TEST

/* A child process shares the map with its parent's threads, but is none of them. */
START_TEST(forked_child_is_not_watched) {
  start(64);
  int go[2];
  ck_ok(pipe(go) == 0);
  pid_t child = fork();
  if (child == 0) {
    char c;
    ssize_t n = read(go[0], &c, 1);
    for (int i = 0; i < 50; i++) rig_sleep_ms(1);
    _exit(n == 1 ? 0 : 1);
  }
  RIG_STORE(rig.slot[5].state, M_RUN);
  RIG_STORE(rig.slot[5].has_p, 1);
  rig_add_m(&rig, (uint32_t)child, 5);
  ck_ok(write(go[1], "x", 1) == 1);
  int status;
  ck_ok(waitpid(child, &status, 0) == child && status == 0);
  ck_assert_uint_eq(RIG_LOAD(rig.slot[5].seq), 0);
  finish();
}
END_TEST

/* A slot that has gone to another thread is not written by the one that had it. */
START_TEST(recycled_slot_belongs_to_its_new_thread) {
  start(64);
  struct napper a = {0}, b = {0};
  napper_start(&a);
  is_seen(a.tid, 7);
  rig_del_m(&rig, a.tid, 7);
  RIG_STORE(rig.slot[7].tid, 1u << 30); /* nobody */
  rig_sleep_ms(20);
  uint64_t seq = RIG_LOAD(rig.slot[7].seq);
  rig_sleep_ms(50);
  ck_assert_uint_eq(RIG_LOAD(rig.slot[7].seq), seq);
  napper_start(&b);
  is_seen(b.tid, 7);
  napper_stop(&a);
  napper_stop(&b);
  finish();
}
END_TEST

/* ---- another process, another pid namespace ---- */

/* A child that naps, in a thread of its own too; `out` tells the tids it sees itself. */
static void child_main(int out) {
  static struct napper n;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (pthread_create(&n.th, NULL, nap, &n)) _exit(2);
  while (!n.tid) rig_sleep_ms(1);
  unsigned tids[2] = {(unsigned)rig_gettid(), n.tid};
  if (write(out, tids, sizeof(tids)) != sizeof(tids)) _exit(3);
  for (;;) rig_sleep_ms(5);
}

/* To be called before load(): a fork in the middle of its worker's malloc would leave the child with locked heaps (under ASan). */
static pid_t start_child(bool new_pidns, unsigned tids[2]) {
  int out[2], pids[2];
  ck_ok(pipe(out) == 0 && pipe(pids) == 0);
  pid_t pid = fork();
  ck_ok(pid >= 0);
  if (pid == 0 && new_pidns) { /* only a child of this one is in the new namespace; its pid is told as we see it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWPID) < 0) _exit(4);
    pid = fork();
    if (pid > 0) _exit(write(pids[1], &pid, sizeof(pid)) == sizeof(pid) && waitpid(pid, NULL, 0) == pid ? 0 : 5);
  }
  if (pid == 0) child_main(out[1]);
  close(out[1]);
  if (new_pidns) ck_ok(read(pids[0], &pid, sizeof(pid)) == sizeof(pid));
  ck_ok(read(out[0], tids, 2 * sizeof(*tids)) == 2 * sizeof(*tids));
  close(out[0]);
  close(pids[0]);
  close(pids[1]);
  return pid;
}

static void end_child(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

START_TEST(thread_in_a_pid_namespace_goes_by_its_own_tid) {
  unsigned tids[2];
  pid_t pid = start_child(true, tids);
  load();
  ck_assert_uint_eq(tids[0], 1);
  ck_ok((pid_t)tids[0] != pid);
  ck_assert_int_eq(rig_attach(&rig, pid, 64), 0);
  ck_ok(rig_live(&rig));
  is_seen(tids[0], 11);
  is_seen(tids[1], 12);
  end_child(pid);
  finish();
}
END_TEST

START_TEST(attach_to_a_dead_process_says_so) {
  unsigned tids[2];
  pid_t pid = start_child(false, tids);
  load();
  int pidfd = rig_pidfd(pid, 0), a, b;
  uint32_t size;
  struct watch_proc *p;
  end_child(pid);
  struct watch_peer who = {.pid = pid, .pidfd = pidfd};
  ck_assert_int_eq(watch_attach(rig.w, &who, 64, &a, &b, &size, &p), -ESRCH);
  who.pidfd = 0;
  ck_assert_int_eq(watch_attach(rig.w, &who, 64, &a, &b, &size, &p), -EBADF);
  watch_close(rig.w);
}
END_TEST

/* A process attaches again before the old attachment is gone, and the old one goes later. */
START_TEST(second_attachment_takes_over_and_survives_the_end_of_the_first) {
  unsigned tids[2];
  pid_t pid = start_child(false, tids);
  load();
  ck_assert_int_eq(rig_attach(&rig, pid, 64), 0);
  ck_ok(rig_live(&rig));
  is_seen(tids[1], 20);
  struct rig old = rig;
  ck_assert_int_eq(rig_attach(&rig, pid, 512), 0);
  ck_ok(rig_live(&rig));
  is_seen(tids[1], 300);
  rig_detach(&old);
  is_seen(tids[0], 301);
  uint64_t now = RIG_LOAD(rig.slot[300].seq);
  ck_ok(RIG_WAIT(RIG_LOAD(rig.slot[300].seq) > now + 4));
  end_child(pid);
  finish();
}
END_TEST

START_TEST(detached_process_is_written_to_no_more) {
  unsigned tids[2];
  pid_t pid = start_child(false, tids);
  load();
  ck_assert_int_eq(rig_attach(&rig, pid, 64), 0);
  ck_ok(rig_live(&rig));
  is_seen(tids[1], 20);
  watch_detach(rig.p); /* our mapping keeps the array alive */
  rig_sleep_ms(20);
  uint64_t seq = RIG_LOAD(rig.slot[20].seq);
  rig_sleep_ms(50);
  ck_assert_uint_eq(RIG_LOAD(rig.slot[20].seq), seq);
  end_child(pid);
  watch_close(rig.w);
}
END_TEST

/* ---- another program, another user ---- */

/* A child that runs another program once it is written to: its thread naps as before, and its pid is the same. */
static pid_t start_changer(int *go, unsigned *tid) {
  int p[2];
  ck_ok(pipe(p) == 0);
  pid_t pid = fork();
  ck_ok(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char c;
    for (fcntl(p[0], F_SETFL, O_NONBLOCK); read(p[0], &c, 1) != 1;) rig_sleep_ms(5);
    execlp("sh", "sh", "-c", "while sleep 0.01; do :; done", (char *)NULL);
    _exit(2);
  }
  *go = p[1];
  *tid = (unsigned)pid;
  return pid;
}

static uint64_t seq_in_a_while(uint32_t slot) {
  rig_sleep_ms(100);
  return RIG_LOAD(rig.slot[slot].seq);
}

/* The map's owner must not see and signal what its process becomes: a set-uid program, for one. */
START_TEST(another_program_is_not_watched) {
  unsigned tid;
  int go;
  pid_t pid = start_changer(&go, &tid);
  load();
  ck_assert_int_eq(rig_attach(&rig, pid, 64), 0);
  ck_ok(rig_live(&rig));
  is_seen(tid, 11);
  char exe[2][64], path[32];
  snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
  ssize_t n = readlink(path, exe[0], sizeof(exe[0])), m;
  ck_ok(write(go, "x", 1) == 1);
  ck_ok(RIG_WAIT((m = readlink(path, exe[1], sizeof(exe[1]))) != n || memcmp(exe[0], exe[1], (size_t)n) != 0));
  rig_sleep_ms(20);
  uint64_t seq = RIG_LOAD(rig.slot[11].seq);
  ck_assert_uint_eq(seq_in_a_while(11), seq);
  ck_assert_int_eq(watch_register_m(rig.p, rig.pidfd, 11), -ESRCH); /* nor by message */
  ck_assert_uint_eq(seq_in_a_while(11), seq);
  close(go);
  end_child(pid);
  finish();
}
END_TEST

START_TEST(another_users_process_is_refused) {
  unsigned tids[2];
  pid_t pid = start_child(false, tids);
  load();
  int a, b;
  uint32_t size;
  struct watch_proc *p;
  struct watch_peer who = {.pid = pid, .pidfd = rig_pidfd(pid, 0), .uid = geteuid() + 1};
  ck_assert_int_eq(watch_attach(rig.w, &who, 64, &a, &b, &size, &p), -EPERM);
  who.uid = geteuid();
  ck_assert_int_eq(watch_attach(rig.w, &who, 64, &a, &b, &size, &p), 0);
  watch_detach(p);
  close(who.pidfd);
  end_child(pid);
  watch_close(rig.w);
}
END_TEST

/* ---- registration by message ---- */

START_TEST(register_m_needs_no_table) {
  start(64);
  struct napper n = {0};
  napper_start(&n);
  int fd = rig_pidfd((pid_t)n.tid, RIG_PIDFD_THREAD);
  if (fd < 0 && errno == EINVAL) {
    puts("# not tested: before Linux 6.9 only a leader has a pidfd");
    napper_stop(&n);
    finish();
    return;
  }
  ck_ok(fd >= 0);
  RIG_STORE(rig.slot[9].tid, n.tid);
  rig_sleep_ms(20);
  ck_assert_uint_eq(RIG_LOAD(rig.slot[9].seq), 0);
  ck_assert_int_eq(watch_register_m(rig.p, fd, 9), 0);
  ck_ok(RIG_WAIT(RIG_LOAD(rig.slot[9].seq) > 4));
  ck_assert_int_eq(watch_unregister_m(rig.p, fd), 0);
  rig_sleep_ms(20);
  uint64_t seq = RIG_LOAD(rig.slot[9].seq);
  rig_sleep_ms(50);
  ck_assert_uint_eq(RIG_LOAD(rig.slot[9].seq), seq);
  napper_stop(&n);
  await_gone(n.tid);
  ck_assert_int_eq(watch_register_m(rig.p, fd, 9), -ESRCH);
  finish();
}
END_TEST

START_TEST(register_m_refuses_what_is_not_the_processs_own) {
  unsigned tids[2];
  pid_t pid = start_child(false, tids);
  start(64);
  int other = rig_pidfd(pid, 0), self = rig_pidfd(getpid(), 0), p[2];
  ck_ok(pipe(p) == 0);
  ck_assert_int_eq(watch_register_m(rig.p, other, 1), -EPERM);
  ck_assert_int_eq(watch_unregister_m(rig.p, other), -EPERM);
  ck_assert_int_eq(watch_register_m(rig.p, self, rig.n), -ERANGE);
  ck_assert_int_eq(watch_register_m(rig.p, self, UINT32_MAX), -ERANGE);
  ck_assert_int_eq(watch_register_m(rig.p, p[0], 1), -EBADF);
  ck_assert_int_eq(watch_register_m(rig.p, 9999, 1), -EBADF);
  ck_assert_int_eq(watch_register_m(rig.p, self, 1), 0);
  end_child(pid);
  finish();
}
END_TEST

/* ---- hostile maps ---- */

START_TEST(random_bytes_in_the_map_harm_nobody_else) {
  unsigned tids[2], other_tids[2];
  pid_t good = start_child(false, other_tids), bad = start_child(false, tids);
  load();
  struct rig victim = {.w = rig.w};
  ck_assert_int_eq(rig_attach(&victim, good, 64), 0);
  ck_assert_int_eq(rig_attach(&rig, bad, 64), 0);
  ck_ok(rig_live(&victim) && rig_live(&rig));
  uint64_t x = 88172645463325252u;
  for (int round = 0; round < 200; round++) {
    uint64_t *word = (uint64_t *)rig.h;
    for (size_t i = 0; i < rig.bytes / 8; i++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      word[i] = round & 1 ? x : x & 0x0000000700000007u;
    }
    rig.h->gated = 0;                          /* the children have no handler; what SIGURG does is another test's */
    for (uint32_t i = 0; i < 2 * rig.n; i++) { /* and lies that lead somewhere: our tids with any slot, in any place */
      if (x >> (i % 60) & 1) rig.table[i] = (struct m_tids_entry){tids[i & 1], (uint32_t)(x >> 20) % (rig.n * 4)};
    }
    rig_sleep_ms(5);
  }
  char *bytes = (char *)victim.h;
  memset(rig.h, 0, rig.bytes);
  for (size_t i = M_ELEM_SIZE; i < victim.bytes; i++) ck_assert_int_eq(bytes[i], 0);
  ck_ok(kill(good, 0) == 0 && kill(bad, 0) == 0);
  is_seen(tids[1], 20); /* once it tells the truth, all is well again */
  end_child(good);
  end_child(bad);
  rig_detach(&victim);
  finish();
}
END_TEST

/* ---- coming and going ---- */

/* The kernel's ids of the maps that were made here: others may have maps of the same names. */
static uint32_t made[2000];
static unsigned nmade;

static void note_map(int fd) {
  struct bpf_map_info info = {0};
  uint32_t len = sizeof(info);
  ck_assert_int_eq(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
  made[nmade++] = info.id;
}

static unsigned maps_left(void) {
  unsigned n = 0;
  for (unsigned i = 0; i < nmade; i++) {
    int fd = bpf_map_get_fd_by_id(made[i]);
    if (fd < 0) continue;
    n++;
    close(fd);
  }
  return n;
}

static unsigned count_fds(void) {
  unsigned n = 0;
  for (int fd = 0; fd < 4096; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

START_TEST(thousand_attachments_leave_nothing_behind) {
  unsigned tids[2];
  pid_t pid = start_child(false, tids);
  load();
  unsigned before = count_fds();
  for (int i = 0; i < 1000; i++) {
    ck_assert_int_eq(rig_attach(&rig, pid, i & 1 ? 64 : M_SLOTS_DEFAULT), 0);
    note_map(rig.map_fd);
    note_map(rig.ring_fd);
    if (i % 100 == 0) ck_ok(rig_live(&rig));
    rig_detach(&rig);
  }
  ck_assert_uint_eq(nmade, 2000);
  ck_ok(RIG_WAIT(maps_left() == 0));
  ck_ok(RIG_WAIT(count_fds() <= before + 2 * 8)); /* the pairs kept ready may not all have been there before */
  ck_assert_int_eq(rig_attach(&rig, pid, 64), 0);
  ck_ok(rig_live(&rig));
  is_seen(tids[0], 3);
  end_child(pid);
  finish();
}
END_TEST

START_TEST(many_processes_at_a_time) {
  enum { N = 100 };
  static struct rig r[N];
  static pid_t pid[N];
  static unsigned tids[N][2];
  for (int i = 0; i < N; i++) pid[i] = start_child(false, tids[i]);
  load();
  for (int i = 0; i < N; i++) {
    r[i].w = rig.w;
    ck_assert_int_eq(rig_attach(&r[i], pid[i], 64), 0);
    note_map(r[i].map_fd);
  }
  for (int i = 0; i < N; i++) {
    ck_ok(rig_live(&r[i]));
    rig = r[i];
    is_seen(tids[i][1], (uint32_t)i % 64);
  }
  for (int i = 0; i < N; i++) {
    rig_detach(&r[i]);
    end_child(pid[i]);
  }
  ck_ok(RIG_WAIT(maps_left() == 0));
  watch_close(rig.w);
}
END_TEST

/* ---- where it can't be loaded ---- */

START_TEST(without_privilege_the_reason_is_one_clear_line) {
  ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
  char err[400] = "";
  struct watch *w = NULL;
  int r = watch_open(&w, err, sizeof(err));
  ck_assert_int_eq(r, -EPERM);
  ck_ok(w == NULL);
  ck_ok(strstr(err, "CAP_BPF") && !strchr(err, '\n'));
}
END_TEST

/* Skips where the kernel or the privilege for it is missing; any other failure to load is one. */
static const char *why_not(void) {
  static char err[400];
  struct watch *w;
  if (geteuid() != 0) return "needs root";
  if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) return "this kernel offers no BTF";
  int r = watch_open(&w, err, sizeof(err));
  if (r == -EPERM) return err;
  if (r == 0) watch_close(w);
  return NULL;
}

int main(void) {
  const TTest *const tests[] = {
      blocked_read_is_marked_until_it_is_back,
      blocked_futex_is_marked_until_it_is_back,
      blocked_nanosleep_is_marked_until_it_is_back,
      blocked_page_fault_is_marked_until_it_is_back,
      m_that_looks_after_itself_is_not_marked,
      carrier_that_blocks_again_without_a_p_is_marked,
      event_comes_only_when_a_g_waits,
      full_ring_counts_what_is_lost,
      cpu_ns_is_the_thread_clock,
      missed_switch_in_is_made_up_for_by_the_tick,
      nothing_is_noted_while_nobody_asks,
      user_code_without_p_gets_sigurg,
      user_code_with_p_gets_no_sigurg,
      the_hidden_signal_comes_where_it_is_handled,
      no_second_sigurg_before_the_first_is_handled,
      membarrier_delivers_preempt_without_waiting_for_a_tick,
      one_that_must_stop_is_stopped_as_it_gets_a_cpu,
      an_alarm_rings_when_its_timer_interrupts,
      an_alarm_in_a_call_is_found_at_its_end,
      sigurg_never_interrupts_a_system_call,
      threads_older_and_younger_than_the_attachment_are_seen,
      no_thread_is_missed_while_threads_are_born,
      forked_child_is_not_watched,
      recycled_slot_belongs_to_its_new_thread,
      thread_in_a_pid_namespace_goes_by_its_own_tid,
      attach_to_a_dead_process_says_so,
      second_attachment_takes_over_and_survives_the_end_of_the_first,
      detached_process_is_written_to_no_more,
      another_program_is_not_watched,
      another_users_process_is_refused,
      register_m_needs_no_table,
      register_m_refuses_what_is_not_the_processs_own,
      random_bytes_in_the_map_harm_nobody_else,
      thousand_attachments_leave_nothing_behind,
      many_processes_at_a_time,
      without_privilege_the_reason_is_one_clear_line,
  };
  const char *why = why_not();
  if (why) {
    printf("%s\n", why);
    return UNIT_SKIP;
  }
  return unit_run("watch", tests, sizeof(tests) / sizeof(*tests));
}
