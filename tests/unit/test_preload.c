/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wrappers against a gate of our own: when is a thread in the bracket, when does it give its P away, and is it
 * out of the bracket wherever the program's code runs.  What the program sees is test_posix_conformance's business.
 */
#include "unit.h"

#ifndef RATION_SAN
#if defined(RATION_SAN_address) || defined(RATION_SAN_thread) || defined(RATION_SAN_undefined)
#define RATION_SAN 1
#else
#define RATION_SAN 0
#endif
#endif

#if RATION_SAN
int main(void) {
  puts("the wrappers and a sanitizer stand in front of the same functions");
  return UNIT_SKIP;
}
#else

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/place.h"
#include "core/preempt.h"
#include "core/gate.h"
#include "core/netpoll.h"
#include "core/tp.h"
#include "free/free.h"
#include "free/shared.h"
#include "free/thread.h"
#include "free/psync.h"
#include "free/setxid.h"
#include "preload/clock.h"
#include "preload/lightdisk.h"
#include "preload/lightio.h"
#include "preload/process.h"
#include "preload/signal.h"
#include "preload/tid.h"
#include "preload/wire.h"
#include "ration/g.h"
#include "sync/interrupt.h"

/* --- the gate: it notes what it is told --- */

__thread struct m *m_self;
_Atomic uint32_t sched_waiting_flag;
_Atomic bool gate_quiet;
_Atomic bool preempt_no_signals;
_Atomic int preempt_signal = SIGURG;
bool preempt_sent(const siginfo_t *si) { return (void)si, false; }
void preempt_hide(void) { preempt_signal = M_SIGNAL_HIDDEN; }
void preempt_lost(void) {}
void gate_hidden(void) {}
static _Atomic int given; /* Ps given away by m_entersyscallblock */
static _Atomic int last_why;
static _Atomic bool next_is_ours;
static _Atomic int stepped_aside;

void m_entersyscall_slow(struct m *m) { SLOT_STORE(m->slot->state, M_SYSCALL); }
void m_exitsyscall_slow(struct m *m) { SLOT_STORE(m->slot->state, M_RUN); }
void m_entersyscallblock(struct m *m, enum wait_reason why) {
  m_entersyscall(m);
  given++;
  last_why = (int)why;
}
bool gate_yield(void) { return sched_waiting(); }
bool gate_sigurg(const siginfo_t *si, void *uctx) {
  (void)si, (void)uctx;
  return next_is_ours;
}
bool gate_defer(int sig, const siginfo_t *si, void *uctx) {
  (void)sig, (void)si, (void)uctx;
  return false; /* no test here is in scheduler code */
}
enum ration_mode gate_mode(void) { return RATION_MODE_LOCKED; }
void gate_step_aside(const char *why) {
  (void)why;
  stepped_aside++;
}
bool process_in_vfork_child(void) { return false; }

/* No light Gs here: what is theirs must not be called. */
__thread struct carrier *carrier_self;
#if defined(__aarch64__)
struct carrier *carrier_now(void) {
  return NULL;
}
#endif
static long not_here(void) { ck_abort_msg("a light G's function was called"); }
bool g_yield(void) { return not_here(); }
void g_sleep_until(uint64_t at) { (void)at, not_here(); }
int *ration_errno(void) { return __errno_location(); }
void ration_lock_os_thread(void) { not_here(); }
void ration_unlock_os_thread(void) { not_here(); }
void carrier_gate_enter(struct m *m) { (void)m, not_here(); }
uint32_t place_handler_slow(struct m *m) { return (void)m, 0; }
void light_answered(struct carrier *c) { (void)c, not_here(); }
void gate_answered_slow(struct m *m) { (void)m; }
void wire_policy_set(int policy) { (void)policy; }
void carrier_gate_block(struct m *m) { (void)m, not_here(); }
void carrier_gate_exit(struct m *m) { (void)m, not_here(); }
void netpoll_fresh(int fd) { (void)fd; }
void netpoll_forget(int fd) { (void)fd; }
void netpoll_made(int fd) { (void)fd; }
void netpoll_set_plain(int fd) { (void)fd; }
void netpoll_copied(int fd) { (void)fd; }
void netpoll_wake(int fd) { (void)fd, not_here(); }
void netpoll_leave_number(int fd) { (void)fd, not_here(); }
bool netpoll_is_own(int fd) { return (void)fd, false; }
int netpoll_own_from(int first) { return (void)first, -1; }
unsigned netpoll_numbers(void) { return 0; }
void netpoll_changed(int fd) { (void)fd; }
bool netpoll_hold_flags(int fd) { return (void)fd, false; }
void netpoll_drop_flags(int fd) { (void)fd, not_here(); }
void free_wire(enum free_wire why) { (void)why, not_here(); }
void free_notice(void) { not_here(); }
void free_notice_signals(void) { not_here(); }
pid_t tid_to_set(pid_t tid) { return tid; }
pid_t tid_kernels(pid_t tid, enum tid_use use) {
  (void)use;
  return tid;
}
pid_t tid_shown(pid_t tid) { return tid; }
bool tid_owns(int cmd, void **arg, struct f_owner_ex *room) {
  (void)cmd, (void)arg, (void)room;
  return false;
}
int tid_owner_shown(int cmd, void *arg, int r) {
  (void)cmd, (void)arg;
  return r;
}
#if defined(__x86_64__)
bool tp_by_instruction;
#endif
void *setxid_tp(void) { return tp_get(); }
void interrupt_call(void *uctx) { (void)uctx; }
void free_handler_begins(int sig) { (void)sig, not_here(); }
void free_handler_ends(void) { not_here(); }
bool free_fault(int sig, siginfo_t *si, struct ucontext_t *uc) {
  (void)sig, (void)si, (void)uc, not_here();
  return false;
}
bool free_own_signal(int sig, siginfo_t *si, struct ucontext_t *uc) {
  (void)sig, (void)si, (void)uc, not_here();
  return false;
}
void shared_blocks(uint64_t set) { (void)set, not_here(); }
struct thread *thread_self(void) {
  return NULL;
}
void thread_mask(struct thread *t, int how, const uint64_t *set, uint64_t *old) { (void)t, (void)how, (void)set, (void)old, not_here(); }
void lightio_point_slow(void) { not_here(); }
void lightio_accepted(int listener, int fd, int flags) { (void)listener, (void)fd, (void)flags; }
struct light light;
uint64_t light_mask(void) { return (uint64_t)not_here(); }
uint64_t carrier_sigmask(void) { return (uint64_t)not_here(); }
#define NOT_HERE(type, name, ...) \
  type name(__VA_ARGS__) { return (type)not_here(); }
bool call_over(void);
bool call_over(void) { return false; }

/* Nor free mode. */
int thread_set_tid_address(struct thread *self, int *at) {
  (void)self, (void)at, not_here();
  return 0;
}
int *thread_tid_address(const struct thread *self) {
  (void)self, not_here();
  return NULL;
}
bool free_mode;
int free_not_here(void);
int free_not_here(void) { return (int)not_here(); }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wattribute-alias"
#define NO_FREE(fn) __typeof__(fn) fn __attribute__((alias("free_not_here")))
NO_FREE(free_mutex_lock);
NO_FREE(free_mutex_trylock);
NO_FREE(free_mutex_timed);
NO_FREE(free_mutex_unlock);
NO_FREE(free_mutex_destroy);
NO_FREE(free_cond_wait);
NO_FREE(free_cond_timed);
NO_FREE(free_cond_clock);
NO_FREE(free_cond_poll);
NO_FREE(free_cond_signal);
NO_FREE(free_cond_broadcast);
NO_FREE(free_rwlock_rdlock);
NO_FREE(free_rwlock_tryrdlock);
NO_FREE(free_rwlock_timed_rdlock);
NO_FREE(free_rwlock_wrlock);
NO_FREE(free_rwlock_trywrlock);
NO_FREE(free_rwlock_timed_wrlock);
NO_FREE(free_rwlock_unlock);
NO_FREE(free_barrier_wait);
NO_FREE(free_barrier_destroy);
NO_FREE(free_sem_wait);
NO_FREE(free_sem_trywait);
NO_FREE(free_sem_timed);
NO_FREE(free_sem_post);
NO_FREE(free_once);
NOT_HERE(bool, clock_of_g, clockid_t clock __attribute__((unused)))
NOT_HERE(int, clock_sleep, clockid_t clock __attribute__((unused)), int flags __attribute__((unused)),
         const struct timespec *q __attribute__((unused)), struct timespec *r __attribute__((unused)))
#pragma GCC diagnostic pop
NOT_HERE(int, lightio_over, void)
NOT_HERE(int, lightio_sleep, uint64_t at __attribute__((unused)))
NOT_HERE(ssize_t, lightio_read, int fd __attribute__((unused)), void *b __attribute__((unused)), size_t n __attribute__((unused)))
NOT_HERE(ssize_t, lightio_write, int fd __attribute__((unused)), const void *b __attribute__((unused)), size_t n __attribute__((unused)))
NOT_HERE(ssize_t, lightio_readv, int fd __attribute__((unused)), const struct iovec *v __attribute__((unused)),
         int n __attribute__((unused)))
NOT_HERE(ssize_t, lightio_writev, int fd __attribute__((unused)), const struct iovec *v __attribute__((unused)),
         int n __attribute__((unused)))
NOT_HERE(ssize_t, lightio_recvfrom, int fd __attribute__((unused)), void *b __attribute__((unused)), size_t n __attribute__((unused)),
         int f __attribute__((unused)), struct sockaddr *a __attribute__((unused)), socklen_t *l __attribute__((unused)))
NOT_HERE(ssize_t, lightio_sendto, int fd __attribute__((unused)), const void *b __attribute__((unused)), size_t n __attribute__((unused)),
         int f __attribute__((unused)), const struct sockaddr *a __attribute__((unused)), socklen_t l __attribute__((unused)))
NOT_HERE(ssize_t, lightio_recvmsg, int fd __attribute__((unused)), struct msghdr *m __attribute__((unused)), int f __attribute__((unused)))
NOT_HERE(ssize_t, lightio_sendmsg, int fd __attribute__((unused)), const struct msghdr *m __attribute__((unused)),
         int f __attribute__((unused)))
NOT_HERE(bool, lightdisk_pread, int fd __attribute__((unused)), void *b __attribute__((unused)), size_t n __attribute__((unused)),
         off64_t a __attribute__((unused)), ssize_t *o __attribute__((unused)))
NOT_HERE(bool, lightdisk_pwrite, int fd __attribute__((unused)), const void *b __attribute__((unused)), size_t n __attribute__((unused)),
         off64_t a __attribute__((unused)), ssize_t *o __attribute__((unused)))
NOT_HERE(bool, lightdisk_preadv, int fd __attribute__((unused)), const struct iovec *v __attribute__((unused)),
         int n __attribute__((unused)), off64_t a __attribute__((unused)), ssize_t *o __attribute__((unused)))
NOT_HERE(bool, lightdisk_pwritev, int fd __attribute__((unused)), const struct iovec *v __attribute__((unused)),
         int n __attribute__((unused)), off64_t a __attribute__((unused)), ssize_t *o __attribute__((unused)))
NOT_HERE(bool, lightdisk_fsync, int fd __attribute__((unused)), bool d __attribute__((unused)), ssize_t *o __attribute__((unused)))
NOT_HERE(bool, lightdisk_sync_range, int fd __attribute__((unused)), off64_t a __attribute__((unused)), off64_t n __attribute__((unused)),
         unsigned f __attribute__((unused)), ssize_t *o __attribute__((unused)))
NOT_HERE(int, lightio_accept4, int fd __attribute__((unused)), struct sockaddr *a __attribute__((unused)),
         socklen_t *l __attribute__((unused)), int f __attribute__((unused)))
NOT_HERE(int, lightio_connect, int fd __attribute__((unused)), const struct sockaddr *a __attribute__((unused)),
         socklen_t l __attribute__((unused)))
NOT_HERE(int, lightio_ppoll, struct pollfd *f __attribute__((unused)), nfds_t n __attribute__((unused)), uint64_t u __attribute__((unused)))
NOT_HERE(int, lightio_select, int n __attribute__((unused)), fd_set *r __attribute__((unused)), fd_set *w __attribute__((unused)),
         fd_set *e __attribute__((unused)), uint64_t u __attribute__((unused)))
NOT_HERE(int, lightio_epoll_wait, int ep __attribute__((unused)), struct epoll_event *e __attribute__((unused)),
         int n __attribute__((unused)), uint64_t u __attribute__((unused)))

static __thread struct m self_m;
static uint32_t state(void) { return SLOT_LOAD(self_m.own_slot.state); }

static void become_m(void) {
  self_m.slot = &self_m.own_slot;
  SLOT_STORE(self_m.own_slot.state, M_RUN);
  m_self = &self_m;
}

static int fd[2], sv[2];
static void set_up(void) {
  become_m();
  ck_assert_int_eq(pipe(fd), 0);
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
}

/* --- helpers: another thread, which is no M, acts on this one when it is in the bracket --- */

static struct m_slot *watched;
static pthread_t main_thread;
struct act {
  int sig;
  int times;
  void (*then)(void);
};

static void wait_for_bracket(void) {
  while (SLOT_LOAD(watched->state) != M_SYSCALL) sched_yield();
  struct timespec ts = {0, 20000000};
  nanosleep(&ts, NULL);
}

static void *actor(void *arg) {
  struct act *a = arg;
  for (int i = 0; i < a->times; i++) {
    wait_for_bracket();
    pthread_kill(main_thread, a->sig);
  }
  wait_for_bracket();
  if (a->then) a->then();
  return NULL;
}

static pthread_t act(struct act *a) {
  pthread_t t;
  watched = &self_m.own_slot;
  main_thread = pthread_self();
  ck_assert_int_eq(pthread_create(&t, NULL, actor, a), 0);
  return t;
}

static void put_byte(void) { ck_assert_int_eq(write(fd[1], "x", 1), 1); }

static _Atomic uint32_t state_in_handler;
static _Atomic int runs;
static void on_sig(int sig) {
  (void)sig;
  runs++;
  state_in_handler = state();
}

/* --- the cases --- */

START_TEST(handler_runs_outside_the_bracket) {
  set_up();
  struct sigaction sa = {.sa_handler = on_sig, .sa_flags = SA_RESTART};
  ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
  struct act a = {SIGUSR1, 2, put_byte};
  pthread_t t = act(&a);
  char c;
  ck_assert_int_eq(read(fd[0], &c, 1), 1);
  ck_assert_uint_eq(state_in_handler, M_RUN);
  ck_assert_int_eq(runs, 2);
  ck_assert_uint_eq(state(), M_RUN);
  pthread_join(t, NULL);
}
END_TEST

static sigjmp_buf jump;
static void on_jump(int sig) { siglongjmp(jump, sig); }

START_TEST(siglongjmp_leaves_the_bracket) {
  set_up();
  signal(SIGUSR1, on_jump);
  struct act a = {SIGUSR1, 1, NULL};
  pthread_t t = 0;
  char c;
  if (sigsetjmp(jump, 1) == 0) {
    t = act(&a);
    (void)!read(fd[0], &c, 1);
    ck_abort_msg("read returned");
  }
  ck_assert_uint_eq(state(), M_RUN);
  (void)t;
}
END_TEST

static _Atomic uint32_t state_in_cleanup;
static _Atomic bool in_read;
static void cleanup(void *arg) {
  (void)arg;
  state_in_cleanup = state();
}
static void *read_for_ever(void *arg) {
  (void)arg;
  become_m();
  watched = &self_m.own_slot;
  in_read = true;
  char c;
  pthread_cleanup_push(cleanup, NULL);
  (void)!read(fd[0], &c, 1);
  pthread_cleanup_pop(0);
  return NULL;
}

START_TEST(cancellation_leaves_the_bracket) {
  set_up();
  pthread_t t;
  void *r;
  state_in_cleanup = 99;
  ck_assert_int_eq(pthread_create(&t, NULL, read_for_ever, NULL), 0);
  while (!in_read) sched_yield();
  wait_for_bracket();
  pthread_cancel(t);
  ck_assert_int_eq(pthread_join(t, &r), 0);
  ck_assert_ptr_eq(r, PTHREAD_CANCELED);
  ck_assert_uint_eq(state_in_cleanup, M_RUN);
}
END_TEST

START_TEST(our_sigurg_interrupts_nothing) {
  set_up();
  ck_assert_int_eq(signal_install_urg(), 0);
  next_is_ours = true;
  struct act a = {SIGURG, 3, put_byte};
  pthread_t t = act(&a);
  struct pollfd p = {.fd = fd[0], .events = POLLIN};
  ck_assert_int_eq(poll(&p, 1, 20000), 1);
  ck_assert_uint_eq(signal_tls.silent, 3);
  ck_assert_uint_eq(signal_tls.handled, 0);
  pthread_join(t, NULL);
}
END_TEST

static void both(void) {
  pthread_kill(main_thread, SIGURG);
  pthread_kill(main_thread, SIGUSR1);
}

START_TEST(a_handler_beside_our_sigurg_still_interrupts) {
  set_up();
  ck_assert_int_eq(signal_install_urg(), 0);
  next_is_ours = true;
  signal(SIGUSR1, on_sig);
  struct act a = {SIGURG, 2, both};
  pthread_t t = act(&a);
  errno = 0;
  ck_assert_int_eq(pause(), -1);
  ck_assert_int_eq(errno, EINTR);
  ck_assert_int_eq(runs, 1);
  pthread_join(t, NULL);
}
END_TEST

START_TEST(blocked_sigurg_stays_open_for_us) {
  set_up();
  ck_assert_int_eq(signal_install_urg(), 0);
  sigset_t all, now;
  sigfillset(&all);
  ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &all, NULL), 0);
  ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
  ck_assert_int_eq(sigismember(&now, SIGURG), 1);
  next_is_ours = true;
  ck_assert_uint_eq(signal_tls.silent, 0);
  pthread_kill(pthread_self(), SIGURG);
  ck_assert_uint_eq(signal_tls.silent, 1);
  ck_assert(!signal_urg_owned);
  /* A foreign one is kept pending, and from then on ours is another signal. */
  next_is_ours = false;
  pthread_kill(pthread_self(), SIGURG);
  sigpending(&now);
  ck_assert_int_eq(sigismember(&now, SIGURG), 1);
  ck_assert(signal_urg_owned);
  ck_assert_int_eq(preempt_signal, M_SIGNAL_HIDDEN);
  ck_assert_int_eq(stepped_aside, 0);
  uint32_t silent = signal_tls.silent;
  next_is_ours = true;
  siginfo_t si = {.si_signo = M_SIGNAL_HIDDEN, .si_code = SI_QUEUE};
  raw_syscall4(SYS_rt_tgsigqueueinfo, getpid(), gettid(), M_SIGNAL_HIDDEN, (long)&si);
  ck_assert_uint_eq(signal_tls.silent, silent + 1);
  raw_syscall3(SYS_tgkill, getpid(), gettid(), M_SIGNAL_HIDDEN); /* as glibc sends it to cancel: none of ours */
  ck_assert_uint_eq(signal_tls.silent, silent + 1);
}
END_TEST

START_TEST(free_locks_keep_the_p) {
  set_up();
  pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
  sem_t s;
  sem_init(&s, 0, 1);
  sched_waiting_flag = 1;
  pthread_t t;
  ck_assert_int_eq(pthread_create(&t, NULL, (void *(*)(void *))(void *)getpid, NULL), 0);
  pthread_mutex_lock(&m);
  pthread_rwlock_rdlock(&rw);
  sem_wait(&s);
  ck_assert_int_eq(given, 0);
  struct timespec past = {1, 0};
  ck_assert_int_eq(pthread_mutex_timedlock(&m, &past), ETIMEDOUT);
  ck_assert_int_eq(last_why, WAIT_MUTEX);
  ck_assert_int_eq(pthread_rwlock_timedwrlock(&rw, &past), ETIMEDOUT);
  ck_assert_int_eq(last_why, WAIT_RWLOCK);
  ck_assert_int_eq(sem_timedwait(&s, &past), -1);
  ck_assert_int_eq(last_why, WAIT_SEMA);
  ck_assert_int_eq(given, 3);
  ck_assert_uint_eq(state(), M_RUN);
  pthread_join(t, NULL);
}
END_TEST

/* Has the mutex, and lets it go once somebody sleeps for it. */
static void *holds_the_mutex(void *arg) {
  pthread_mutex_t *m = arg;
  pthread_mutex_lock(m);
  next_is_ours = true;
  while (__atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) != 2) sched_yield();
  usleep(20000);
  pthread_mutex_unlock(m);
  return NULL;
}

static int given_by_a_wait(bool quiet) {
  pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  pthread_t t;
  next_is_ours = false;
  ck_assert_int_eq(pthread_create(&t, NULL, holds_the_mutex, &m), 0);
  while (!next_is_ours) sched_yield();
  given = 0;
  gate_quiet = quiet;
  pthread_mutex_lock(&m);
  gate_quiet = false;
  int n = given;
  pthread_mutex_unlock(&m);
  pthread_join(t, NULL);
  return n;
}

START_TEST(in_a_quiet_process_a_lock_is_libcs) {
  set_up();
  sched_waiting_flag = 1;
  ck_assert_int_ge(given_by_a_wait(false), 1);
  ck_assert_int_eq(given_by_a_wait(true), 0);
  ck_assert_uint_eq(state(), M_RUN);
}
END_TEST

START_TEST(recv_gives_the_p_only_when_it_would_block) {
  set_up();
  char c;
  sched_waiting_flag = 1;
  ck_assert_int_eq(send(sv[1], "ab", 2, 0), 2);
  ck_assert_int_eq(recv(sv[0], &c, 1, 0), 1);
  ck_assert_int_eq(read(sv[0], &c, 1), 1);
  ck_assert_int_eq(recv(sv[0], &c, 1, MSG_DONTWAIT), -1);
  ck_assert_int_eq(given, 0);
  struct timeval tv = {0, 1000};
  setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
  ck_assert_int_eq(recv(sv[0], &c, 1, 0), -1);
  ck_assert_int_eq(given, 1);
  sched_waiting_flag = 0; /* nobody waits: BPF's business */
  ck_assert_int_eq(recv(sv[0], &c, 1, 0), -1);
  ck_assert_int_eq(given, 1);
}
END_TEST

START_TEST(polls_look_before_they_give_the_p) {
  set_up();
  struct pollfd p = {.fd = fd[0], .events = POLLIN};
  fd_set r;
  FD_ZERO(&r);
  FD_SET(fd[0], &r);
  struct timeval tv = {0, 1000};
  sched_waiting_flag = 1;
  put_byte();
  ck_assert_int_eq(poll(&p, 1, 1000), 1);
  ck_assert_int_eq(select(fd[0] + 1, &r, NULL, NULL, &tv), 1);
  ck_assert(FD_ISSET(fd[0], &r));
  ck_assert(tv.tv_sec == 0 && tv.tv_usec < 1000); /* what was left */
  ck_assert_int_eq(given, 0);
  tv = (struct timeval){0, 1000};
  char c;
  ck_assert_int_eq(read(fd[0], &c, 1), 1);
  ck_assert_int_eq(poll(&p, 1, 1), 0);
  ck_assert_int_eq(given, 1);
  ck_assert_int_eq(select(fd[0] + 1, &r, NULL, NULL, &tv), 0);
  ck_assert_int_eq(given, 2);
  ck_assert_int_eq(poll(&p, 1, 0), 0);
  ck_assert_int_eq(given, 2);
}
END_TEST

START_TEST(sleeps_give_the_p) {
  set_up();
  struct timespec ts = {0, 1000000}, zero = {0, 0};
  ck_assert_int_eq(nanosleep(&zero, NULL), 0);
  ck_assert_int_eq(given, 0);
  ck_assert_int_eq(nanosleep(&ts, NULL), 0);
  ck_assert_int_eq(usleep(1000), 0);
  ck_assert_int_eq(given, 2);
  ck_assert_int_eq(last_why, WAIT_SLEEP);
  ck_assert_uint_eq(state(), M_RUN);
}
END_TEST

UNIT_MAIN("preload", handler_runs_outside_the_bracket, siglongjmp_leaves_the_bracket, cancellation_leaves_the_bracket,
          our_sigurg_interrupts_nothing, a_handler_beside_our_sigurg_still_interrupts, blocked_sigurg_stays_open_for_us,
          free_locks_keep_the_p, in_a_quiet_process_a_lock_is_libcs, recv_gives_the_p_only_when_it_would_block,
          polls_look_before_they_give_the_p, sleeps_give_the_p)
#endif
