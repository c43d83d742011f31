/* SPDX-License-Identifier: Apache-2.0 */
/* Signals to threads: which thread handles them, masks, waiting for them, the stacks they run on, and jumps. */
#include <aio.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <threads.h>
#include "checks.h"

static struct gate gate = GATE_CLOSED;
static sem_t sem;
static int fds[2];
static _Atomic int handled, ready, returned;
static _Atomic bool stop;
static __thread int my_number, my_handled;
static _Atomic int handled_by[16];

static void handle(int sig, void (*fn)(int), int flags) {
  struct sigaction a = {.sa_handler = fn, .sa_flags = flags};
  MUST(sigaction(sig, &a, NULL) == 0);
}
static void block(int how, int a, int b) {
  sigset_t s = set_of(a, b);
  pthread_sigmask(how, &s, NULL);
}

static void on_mine(int sig) {
  (void)sig;
  my_handled++;
  handled_by[my_number]++;
  handled++;
}

/* --- which thread --- */

enum doing { SPIN, SEM, NAP, READ, COND, POLL, YIELD, DOINGS };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void do_until_stopped(enum doing what) {
  char c;
  struct timespec at = in_ms(CLOCK_REALTIME, 60000);
  struct pollfd p = {.fd = fds[0], .events = POLLIN};
  while (!stop) {
    if (what == SEM) sem_wait(&sem);
    if (what == NAP) nap(3);
    if (what == READ && read(fds[0], &c, 1) < 0 && errno != EINTR) say("read: %s", err(errno));
    if (what == POLL) poll(&p, 1, -1);
    if (what == YIELD) sched_yield();
    if (what == COND) {
      pthread_mutex_lock(&lock);
      while (!stop) pthread_cond_timedwait(&cond, &lock, &at);
      pthread_mutex_unlock(&lock);
    }
  }
}
static void *doing_thread(void *arg) {
  my_number = (int)(intptr_t)arg;
  ready++;
  do_until_stopped((enum doing)my_number);
  return (void *)(intptr_t)my_handled;
}

static void kill_each(void) {
  pthread_t t[DOINGS];
  MUST(pipe(fds) == 0);
  sem_init(&sem, 0, 0);
  handle(SIGUSR1, on_mine, SA_RESTART);
  my_number = 15;
  for (intptr_t i = 0; i < DOINGS; i++) t[i] = start(doing_thread, (void *)i);
  UNTIL(ready == DOINGS);
  for (int round = 1; round <= 3; round++)
    for (int i = 0; i < DOINGS; i++) {
      MUST(pthread_kill(t[i], SIGUSR1) == 0);
      UNTIL(handled_by[i] == round);
    }
  stop = true;
  MUST(write(fds[1], "x", 1) == 1); /* who of the two takes it: the other sees the end */
  close(fds[1]);
  for (int i = 0; i < 3; i++) sem_post(&sem);
  pthread_mutex_lock(&lock);
  pthread_cond_broadcast(&cond);
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < DOINGS; i++) say("%d: handled %ld", i, (long)join_value(t[i]));
  say("all %d, main %d", handled, handled_by[15]);
}

/* Who does nothing but yield to others that compute is hardly ever seen in its own code. */
static void *computes_on(void *arg) {
  while (!stop) continue;
  return arg;
}
static void kill_who_yields(void) {
  pthread_t t[5];
  handle(SIGUSR1, on_mine, SA_RESTART);
  for (intptr_t i = 0; i < 5; i++) t[i] = i < 3 ? start(doing_thread, (void *)YIELD) : start(computes_on, NULL);
  UNTIL(ready == 3);
  for (int i = 0; i < 3; i++) {
    MUST(pthread_kill(t[i], SIGUSR1) == 0);
    UNTIL(handled == i + 1);
  }
  stop = true;
  for (int i = 0; i < 5; i++) {
    void *r;
    pthread_join(t[i], &r);
    say("%d: handled %ld", i, (long)r);
  }
}

static void *wait_at_gate(void *arg) {
  gate_pass(&gate);
  return arg;
}
static void kill_errors(void) {
  pthread_t t = start(wait_at_gate, NULL);
  SAY_ERR("0", pthread_kill(t, 0));
  SAY_ERR("-1", pthread_kill(t, -1));
  SAY_ERR("65", pthread_kill(t, 65));
  SAY_ERR("32", pthread_kill(t, 32));
  SAY_ERR("33", pthread_kill(t, 33));
  SAY_ERR("queue 0", pthread_sigqueue(t, 0, (union sigval){0}));
  SAY_ERR("queue 32", pthread_sigqueue(t, 32, (union sigval){0}));
  SAY_ERR("queue 99", pthread_sigqueue(t, 99, (union sigval){0}));
  gate_open(&gate);
  nap(30);
  SAY_ERR("ended", pthread_kill(t, 0));
  SAY_ERR("ended", pthread_kill(t, SIGUSR1));
  SAY_ERR("ended, 65", pthread_kill(t, 65));
  pthread_join(t, NULL);
  SAY_ERR("self", pthread_kill(pthread_self(), 0));
}

static void on_say_sender(int sig, siginfo_t *si, void *uc) {
  (void)uc;
  say("signal %d of SIGRTMIN+: value %d, code %d, from us %d", sig - SIGRTMIN, si->si_value.sival_int, si->si_code, si->si_pid == getpid());
  my_handled++;
  handled++;
}
static void *queue_receiver(void *arg) {
  block(SIG_BLOCK, SIGRTMIN + 1, SIGRTMIN + 2);
  gate_pass(&gate);
  block(SIG_UNBLOCK, SIGRTMIN + 1, SIGRTMIN + 2);
  UNTIL(my_handled == 6);
  (void)arg;
  return (void *)(intptr_t)my_handled;
}
static void queue_order(void) {
  for (int i = 1; i <= 2; i++) {
    struct sigaction a = {.sa_sigaction = on_say_sender, .sa_flags = SA_SIGINFO};
    sigfillset(&a.sa_mask);
    sigaction(SIGRTMIN + i, &a, NULL);
  }
  pthread_t t = start(queue_receiver, NULL);
  gate_await(&gate, 1);
  for (int i = 0; i < 3; i++) {
    MUST(pthread_sigqueue(t, SIGRTMIN + 2, (union sigval){.sival_int = 20 + i}) == 0);
    MUST(pthread_sigqueue(t, SIGRTMIN + 1, (union sigval){.sival_int = 10 + i}) == 0);
  }
  gate_open(&gate);
  say("in the thread %ld, in main %d", (long)join_value(t), my_handled);
}

static void *raise_in_thread(void *arg) {
  my_number = (int)(intptr_t)arg;
  for (int i = 0; i < 5; i++) MUST(raise(SIGUSR1) == 0 && my_handled == i + 1);
  MUST(pthread_kill(pthread_self(), SIGUSR1) == 0 && my_handled == 6);
  return (void *)(intptr_t)my_handled;
}
static void raised_in_itself(void) {
  pthread_t t[8];
  handle(SIGUSR1, on_mine, 0);
  for (intptr_t i = 0; i < 8; i++) t[i] = start(raise_in_thread, (void *)i);
  for (int i = 0; i < 8; i++) say("%ld", (long)join_value(t[i]));
  say("all %d", handled);
}

/* To the process: who has it open handles it. */
static void *open_one(void *arg) {
  my_number = (int)(intptr_t)arg;
  block(SIG_UNBLOCK, SIGUSR1, 0);
  ready++;
  while (!stop) nap(2);
  return (void *)(intptr_t)my_handled;
}
static void process_signal_to_open_thread(void) {
  pthread_t t[4];
  handle(SIGUSR1, on_mine, 0);
  block(SIG_BLOCK, SIGUSR1, 0);
  for (int i = 0; i < 3; i++) t[i] = start(wait_at_gate, NULL);
  t[3] = start(open_one, (void *)3);
  UNTIL(ready == 1);
  for (int i = 0; i < 5; i++) {
    kill(getpid(), SIGUSR1);
    UNTIL(handled == i + 1);
  }
  stop = true;
  gate_open(&gate);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  say("in the open one %ld, in all %d", (long)join_value(t[3]), handled);
}

/* --- a program that has SIGURG for itself --- */

static int take_urg(void) {
  sigset_t s = set_of(SIGURG, 0);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  int fd = signalfd(-1, &s, SFD_CLOEXEC);
  MUST(fd >= 0);
  return fd;
}
static int read_urg(int fd) {
  struct signalfd_siginfo si = {0};
  MUST(read(fd, &si, sizeof si) == sizeof si);
  return (int)si.ssi_signo;
}
static void *stop_after(void *arg) {
  for (int i = 0; i < 10; i++) nap(3);
  stop = true;
  return arg;
}
static void *wait_stopped(void *arg) {
  ready++;
  while (!stop) continue;
  return arg;
}
/* More of them compute than there are CPUs; others go on, and signals come, whoever has SIGURG. */
static void urg_is_the_programs(void) {
  pthread_t t[6];
  int fd = take_urg();
  handle(SIGUSR1, on_mine, SA_RESTART);
  for (int i = 0; i < 5; i++) t[i] = start(wait_stopped, NULL);
  UNTIL(ready == 5);
  for (int i = 0; i < 5; i++) {
    pthread_kill(t[i], SIGUSR1);
    UNTIL(handled == i + 1);
    kill(getpid(), SIGURG);
    say("read %d", read_urg(fd));
  }
  t[5] = start(stop_after, NULL);
  for (int i = 0; i < 6; i++) pthread_join(t[i], NULL);
  char c;
  MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  SAY_CALL("no more", (int)read(fd, &c, 1) > 0);
  say("handled %d", handled);
}

static void count_cleaned(void *arg) { returned += (int)(intptr_t)arg; }
static void *spin_async(void *arg) {
  pthread_cleanup_push(count_cleaned, (void *)1);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  ready++;
  for (volatile unsigned long n = 0;; n++) {
  }
  pthread_cleanup_pop(0);
  return arg;
}
static void *read_forever(void *arg) {
  char c;
  pthread_cleanup_push(count_cleaned, (void *)100);
  ready++;
  while (read(fds[0], &c, 1) != 1) continue;
  pthread_cleanup_pop(0);
  return arg;
}
static void urg_and_cancellation(void) {
  pthread_t t[8];
  pthread_attr_t own;
  int urg = take_urg();
  MUST(pipe(fds) == 0);
  for (int round = 0; round < 3; round++) {
    ready = 0;
    for (int i = 0; i < 4; i++) t[i] = start(spin_async, NULL);
    for (int i = 4; i < 6; i++) t[i] = start(read_forever, NULL);
    for (int i = 6; i < 8; i++) { /* with a stack of its own: a thread of the kernel's, everywhere */
      char *stack = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      MUST(stack != MAP_FAILED && pthread_attr_init(&own) == 0 && pthread_attr_setstack(&own, stack, 1 << 18) == 0);
      MUST(pthread_create(&t[i], &own, i == 6 ? read_forever : spin_async, NULL) == 0);
    }
    UNTIL(ready == 8);
    nap(5);
    for (int i = 7; i >= 0; i--) SAY_ERR("cancel", pthread_cancel(t[i]));
    for (int i = 0; i < 8; i++) say("%ld", (long)join_value(t[i]));
    say("cleaned %d", returned);
  }
  close(urg);
}

/* Open in a thread, while main blocks it: its handler runs there. */
static void urg_main_blocks(void) {
  handle(SIGURG, on_mine, SA_RESTART);
  my_number = 15;
  pthread_t t = start(wait_at_gate, NULL);
  gate_await(&gate, 1);
  int fd = take_urg();
  for (int i = 0; i < 3; i++) {
    kill(getpid(), SIGURG);
    UNTIL(handled == i + 1);
  }
  gate_open(&gate);
  pthread_join(t, NULL);
  say("handled %d, main %d", handled, handled_by[15]);
  kill(getpid(), SIGURG);
  say("read %d", read_urg(fd));
}

/* --- masks --- */

static void *say_my_mask(void *arg) {
  sigset_t pending;
  say_mask((char *)arg);
  sigpending(&pending);
  say("pending %d %d", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2));
  return NULL;
}
static void *mask_at_gate(void *arg) {
  gate_pass(&gate);
  return say_my_mask(arg);
}
static void *change_and_create(void *arg) {
  block(SIG_SETMASK, SIGTERM, SIGHUP);
  in_thread(say_my_mask, "grandchild");
  block(SIG_UNBLOCK, SIGTERM, 0);
  return say_my_mask(arg);
}
static void mask_inherited(void) {
  say_my_mask("main");
  in_thread(say_my_mask, "first");
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  pthread_t t = start(mask_at_gate, "before the change");
  gate_await(&gate, 1);
  block(SIG_UNBLOCK, SIGUSR2, 0);
  gate_open(&gate);
  pthread_join(t, NULL);
  raise(SIGUSR1); /* pending for main alone */
  in_thread(say_my_mask, "second");
  in_thread(change_and_create, "child");
  say_my_mask("main");
  sigset_t all, was;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &was);
  in_thread(say_my_mask, "all");
  SAY_ERR("how 9", pthread_sigmask(9, &all, NULL));
  SAY_ERR("get", pthread_sigmask(9, NULL, &was));
}
static void mask_by_attribute(void) {
  pthread_attr_t a;
  sigset_t s = set_of(SIGUSR2, SIGALRM), got;
  pthread_t t;
  pthread_attr_init(&a);
  say("none %d", pthread_attr_getsigmask_np(&a, &got));
  SAY_ERR("set", pthread_attr_setsigmask_np(&a, &s));
  say("some %d", pthread_attr_getsigmask_np(&a, &got));
  block(SIG_BLOCK, SIGTERM, 0);
  MUST(pthread_create(&t, &a, say_my_mask, "given") == 0);
  pthread_join(t, NULL);
  SAY_ERR("unset", pthread_attr_setsigmask_np(&a, NULL));
  MUST(pthread_create(&t, &a, say_my_mask, "inherited") == 0);
  pthread_join(t, NULL);
  say_mask("main");
}

/* The defaults' one is for those who are made without attributes. */
static int say_c11_mask(void *arg) {
  say_my_mask(arg);
  return 0;
}
static void mask_by_default(void) {
  pthread_attr_t a, none;
  thrd_t c11;
  pthread_t t;
  sigset_t s = set_of(SIGHUP, SIGALRM);
  pthread_attr_init(&a);
  pthread_attr_init(&none);
  block(SIG_BLOCK, SIGTERM, 0);
  pthread_attr_setsigmask_np(&a, &s);
  SAY_ERR("default", pthread_setattr_default_np(&a));
  in_thread(say_my_mask, "by default");
  MUST(thrd_create(&c11, say_c11_mask, "C11") == thrd_success);
  thrd_join(c11, NULL);
  MUST(pthread_create(&t, &none, say_my_mask, "inherited") == 0);
  pthread_join(t, NULL);
  SAY_ERR("none", pthread_setattr_default_np(&none));
  in_thread(say_my_mask, "inherited again");
}

static void *leave_mask(void *arg) {
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  raise(SIGUSR1);
  return arg;
}
static void mask_not_left_behind(void) {
  for (int i = 0; i < 5; i++) in_thread(leave_mask, NULL);
  for (int i = 0; i < 3; i++) in_thread(say_my_mask, "new");
}

static void *pending_of_thread(void *arg) {
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  gate_pass(&gate);
  say_my_mask("thread");
  block(SIG_UNBLOCK, SIGUSR1, 0);
  say("handled %d", my_handled);
  (void)arg;
  return NULL;
}
static void pending_own(void) {
  handle(SIGUSR1, on_mine, 0);
  handle(SIGUSR2, on_mine, 0);
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  pthread_t t = start(pending_of_thread, NULL);
  gate_await(&gate, 1);
  pthread_kill(t, SIGUSR1); /* the thread's */
  kill(getpid(), SIGUSR2);  /* everybody's */
  say_my_mask("main");
  gate_open(&gate);
  pthread_join(t, NULL);
  block(SIG_UNBLOCK, SIGUSR2, 0);
  say("main handled %d", my_handled);
}

/* --- waiting for signals --- */

static void *wait_for_signals(void *arg) {
  sigset_t s;
  sigfillset(&s);
  sigdelset(&s, SIGURG);
  for (int i = 0; i < 6; i++) {
    int sig = 0;
    siginfo_t si = {0};
    if (i % 2)
      sig = sigwaitinfo(&s, &si);
    else
      MUST(sigwait(&s, &sig) == 0);
    say("got %d%s", sig >= SIGRTMIN ? 100 + sig - SIGRTMIN : sig, i % 2 && si.si_pid != getpid() ? ", from elsewhere" : "");
    returned++;
  }
  return arg;
}
static void sigwait_thread(void) {
  static const int sigs[] = {SIGTERM, SIGUSR1, SIGHUP, SIGCHLD, SIGALRM};
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  pthread_t t = start(wait_for_signals, NULL), other = start(wait_at_gate, NULL);
  for (int i = 0; i < 5; i++) {
    if (i == 4)
      alarm(1);
    else if (i == 2)
      pthread_kill(t, sigs[i]);
    else
      kill(getpid(), sigs[i]);
    UNTIL(returned == i + 1);
  }
  kill(getpid(), SIGRTMIN + 3);
  pthread_join(t, NULL);
  gate_open(&gate);
  pthread_join(other, NULL);
}

static void *wait_usr1(void *arg) {
  sigset_t s = set_of(SIGUSR1, 0);
  int sig = 0;
  ready++;
  int e = sigwait(&s, &sig);
  returned++;
  (void)arg;
  return (void *)(intptr_t)(e == 0 && sig == SIGUSR1);
}
static void sigwait_one_of_many(void) {
  pthread_t t[4];
  int good = 0;
  block(SIG_BLOCK, SIGUSR1, 0);
  for (int i = 0; i < 4; i++) t[i] = start(wait_usr1, NULL);
  UNTIL(ready == 4);
  for (int i = 1; i <= 4; i++) {
    kill(getpid(), SIGUSR1);
    UNTIL(returned == i);
  }
  for (int i = 0; i < 4; i++) good += (int)join_value(t[i]);
  say("good %d", good);
}

static void *wait_in_suspend(void *arg) {
  sigset_t open_all;
  sigemptyset(&open_all);
  block(SIG_BLOCK, SIGUSR1, 0);
  ready++;
  for (int i = 0; i < 10; i++) {
    SAY_CALL("sigsuspend", sigsuspend(&open_all));
    returned++;
  }
  say_mask("after");
  (void)arg;
  return (void *)(intptr_t)my_handled;
}
static void sigsuspend_thread(void) {
  handle(SIGUSR1, on_mine, 0);
  block(SIG_BLOCK, SIGUSR1, 0);
  pthread_t t = start(wait_in_suspend, NULL);
  UNTIL(ready == 1);
  for (int i = 0; i < 10; i++) {
    pthread_kill(t, SIGUSR1);
    UNTIL(returned == i + 1);
  }
  say("handled %ld", (long)join_value(t));
}

/* --- interrupted calls --- */

static void *interrupted_read(void *arg) {
  char c = 0;
  int *fd = arg;
  ssize_t n = read(fd[0], &c, 1);
  int e = errno;
  returned++;
  if (n < 0)
    say("read: %s, handled %d", err(e), my_handled > 0);
  else
    say("read: %zd, handled %d", n, my_handled > 0);
  return NULL;
}
static void *interrupted_nap(void *arg) {
  struct timespec ts = {100, 0}, left = {0, 0};
  int r = nanosleep(&ts, &left), e = errno;
  returned++;
  say("nanosleep: %d %s, some left %d", r, err(e), left.tv_sec > 0 && left.tv_sec < 100);
  return arg;
}
static void *interrupted_sem(void *arg) {
  int r = sem_wait(&sem), e = errno;
  returned++;
  say("sem_wait: %d %s", r, err(e));
  return arg;
}
static void *interrupted_poll(void *arg) {
  struct pollfd p = {.fd = ((int *)arg)[0], .events = POLLIN};
  int r = poll(&p, 1, -1), e = errno;
  returned++;
  say("poll: %d %s", r, err(e));
  return NULL;
}
static void *interrupted_pause(void *arg) {
  int r = pause(), e = errno;
  returned++;
  say("pause: %d %s", r, err(e));
  return arg;
}

/* One of them is told: the others go on. */
static void interrupt_the_right_one(void) {
  static void *(*const fns[])(void *) = {interrupted_read, interrupted_nap, interrupted_sem, interrupted_poll, interrupted_pause};
  pthread_t t[5], other;
  int two[2];
  MUST(pipe(fds) == 0 && pipe(two) == 0);
  sem_init(&sem, 0, 0);
  handle(SIGUSR1, on_mine, 0);
  other = start(interrupted_read, two);
  for (int i = 0; i < 5; i++) {
    t[i] = start(fns[i], fds);
    for (int k = 0; returned == i; k++) { /* until it is inside */
      MUST(k < 5000);
      pthread_kill(t[i], SIGUSR1);
      nap(4);
    }
    pthread_join(t[i], NULL);
  }
  MUST(write(two[1], "x", 1) == 1);
  pthread_join(other, NULL);
}

static void restarted(void) {
  MUST(pipe(fds) == 0);
  sem_init(&sem, 0, 0);
  handle(SIGUSR1, on_mine, SA_RESTART);
  pthread_t r = start(interrupted_read, fds), s = start(interrupted_sem, NULL);
  for (int i = 0; i < 10; i++) {
    pthread_kill(r, SIGUSR1);
    pthread_kill(s, SIGUSR1);
    nap(3);
  }
  say("returned %d", returned);
  MUST(write(fds[1], "x", 1) == 1);
  pthread_join(r, NULL);
  sem_post(&sem);
  pthread_join(s, NULL);
}

/* --- a FIFO that nobody else opens --- */

static char fifo_dir[] = "/tmp/pthreads-XXXXXX";
static char fifo[64];
static void make_fifo(void) {
  MUST(mkdtemp(fifo_dir));
  snprintf(fifo, sizeof fifo, "%s/fifo", fifo_dir);
  MUST(mkfifo(fifo, 0600) == 0);
}
static void remove_fifo(void) { MUST(unlink(fifo) == 0 && rmdir(fifo_dir) == 0); }

enum opening { OPEN, OPENAT, FOPEN, RAW, OPENINGS };
static void *opens_fifo(void *arg) {
  int how = (int)(intptr_t)arg, fd = -1;
  FILE *f = NULL;
  errno = 0;
  if (how == OPEN) fd = open(fifo, O_RDONLY);
  if (how == OPENAT) fd = openat(AT_FDCWD, fifo, O_WRONLY);
  if (how == FOPEN) f = fopen(fifo, "r");
  if (how == RAW) fd = (int)syscall(SYS_openat, AT_FDCWD, fifo, O_RDONLY);
  int e = errno;
  if (fd >= 0) close(fd);
  if (f) fclose(f);
  returned++;
  return (void *)(intptr_t)e;
}
/* By one signal; where that comes before the call, by more. */
static bool interrupt_open(enum opening how, int *error) {
  int before = returned, sent = 0;
  pthread_t t = start(opens_fifo, (void *)(intptr_t)how);
  for (int k = 0; returned == before; k++) {
    if (k % 500 == 0) nap(50);
    if (k % 500 == 0 && ++sent) pthread_kill(t, SIGUSR1);
    nap(1);
  }
  *error = (int)join_value(t);
  return sent == 1;
}
static void fifo_interrupted(void) {
  make_fifo();
  handle(SIGUSR1, on_mine, 0);
  for (int how = 0; how < OPENINGS; how++) {
    int error;
    bool once = interrupt_open((enum opening)how, &error);
    for (int i = 0; i < 4 && !once; i++) once = interrupt_open((enum opening)how, &error);
    say("%d: %s, once %d", how, err(error), once);
  }
  remove_fifo();
}
static void fifo_restarted(void) {
  make_fifo();
  handle(SIGUSR1, on_mine, SA_RESTART);
  pthread_t t = start(opens_fifo, (void *)OPEN);
  for (int i = 0; i < 10; i++) {
    nap(3);
    pthread_kill(t, SIGUSR1);
  }
  int fd = open(fifo, O_WRONLY);
  say("%s, handled some %d, other end %d", err((int)join_value(t)), handled > 0, fd >= 0);
  close(fd);
  remove_fifo();
}

static void *locked_through_signals(void *arg) {
  pthread_mutex_lock(&lock);
  ready++;
  pthread_cond_wait(&cond, &lock); /* may wake for no reason, but returns 0 */
  pthread_mutex_unlock(&lock);
  return arg;
}
/* Mutexes, conditions, joins and barriers know no EINTR. */
static void *join_through_signals(void *arg) {
  ready++;
  int e = pthread_join(*(pthread_t *)arg, NULL);
  return (void *)(intptr_t)e;
}
static void *mutex_through_signals(void *arg) {
  ready++;
  int e = pthread_mutex_lock(arg);
  if (e == 0) pthread_mutex_unlock(arg);
  return (void *)(intptr_t)e;
}
static void not_interrupted(void) {
  static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
  handle(SIGUSR1, on_mine, 0);
  pthread_mutex_lock(&held);
  pthread_t g = start(wait_at_gate, NULL), j = start(join_through_signals, &g), m = start(mutex_through_signals, &held);
  UNTIL(ready == 2);
  for (int i = 0; i < 10; i++) {
    pthread_kill(j, SIGUSR1);
    pthread_kill(m, SIGUSR1);
    nap(2);
  }
  gate_open(&gate);
  pthread_mutex_unlock(&held);
  say("join %s", err((int)join_value(j)));
  say("lock %s", err((int)join_value(m)));
  pthread_t c = start(locked_through_signals, NULL);
  UNTIL(ready == 3);
  nap(5);
  pthread_kill(c, SIGUSR1);
  nap(5);
  pthread_cond_signal(&cond);
  pthread_join(c, NULL);
  say("handled some %d", handled > 0);
}

/* Threads that wait in all ways queue signals to each other: each is handled once, by whom it was for. */
enum { MOB = 12, QUEUED_EACH = 60 };
static pthread_t mob[MOB];
static _Atomic int mob_from[MOB], mob_of[MOB];
static _Atomic int mob_left, mob_strange;
static void on_mob(int sig, siginfo_t *si, void *uc) {
  (void)sig, (void)uc;
  int from = si->si_value.sival_int / MOB, to = si->si_value.sival_int % MOB;
  mob_strange += to != my_number || si->si_code != SI_QUEUE;
  mob_from[from]++;
  mob_of[to]++;
  handled++;
}
static void mob_waits(int how) {
  struct timespec at = in_ms(CLOCK_REALTIME, 1);
  struct pollfd p = {.fd = fds[0], .events = POLLIN};
  char c;
  if (how == 0) {
    pthread_mutex_lock(&lock);
    sched_yield();
    pthread_mutex_unlock(&lock);
  } else if (how == 1) {
    pthread_mutex_lock(&lock);
    pthread_cond_timedwait(&cond, &lock, &at);
    pthread_mutex_unlock(&lock);
  } else if (how == 2) {
    poll(&p, 1, 1);
  } else if (how == 3) {
    sem_timedwait(&sem, &at);
  } else if (how == 4) {
    (void)!read(fds[0], &c, 1);
  } else {
    for (volatile int i = 0; i < 100000; i++) {
    }
  }
}
static void *mob_thread(void *arg) {
  my_number = (int)(intptr_t)arg;
  gate_pass(&gate);
  for (int i = 0; i < QUEUED_EACH; i++) {
    int to = (my_number + i) % MOB;
    MUST(pthread_sigqueue(mob[to], SIGRTMIN + 4, (union sigval){.sival_int = my_number * MOB + to}) == 0);
    mob_waits((my_number + i / 4) % 6);
  }
  mob_left--;
  while (handled < MOB * QUEUED_EACH) {
    mob_waits(my_number % 4);
    (void)!write(fds[1], "x", 1);
  }
  return arg;
}
static void queued_to_each_other(void) {
  struct sigaction a = {.sa_sigaction = on_mob, .sa_flags = SA_SIGINFO};
  MUST(sigaction(SIGRTMIN + 4, &a, NULL) == 0 && pipe(fds) == 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
  sem_init(&sem, 0, 0);
  my_number = -1;
  mob_left = MOB;
  for (intptr_t i = 0; i < MOB; i++) mob[i] = start(mob_thread, (void *)i);
  gate_await(&gate, MOB);
  gate_open(&gate);
  while (mob_left) { /* for those that read */
    (void)!write(fds[1], "x", 1);
    nap(1);
  }
  for (int i = 0; i < MOB; i++) pthread_join(mob[i], NULL);
  for (int i = 0; i < MOB; i++)
    if (mob_from[i] != QUEUED_EACH || mob_of[i] != QUEUED_EACH) say("%d: sent %d, had %d", i, mob_from[i], mob_of[i]);
  say("handled %d, strange %d", handled, mob_strange);
}

/* A wait with a time is never made again after a handler; one without is, with SA_RESTART. */
static void *timed_sem(void *arg) {
  struct timespec at = in_ms(CLOCK_REALTIME, 20000);
  ready++;
  SAY_CALL("sem_timedwait", sem_timedwait(&sem, &at));
  returned++;
  return arg;
}
static void timed_not_restarted(void) {
  handle(SIGUSR1, on_mine, SA_RESTART);
  sem_init(&sem, 0, 0);
  pthread_t t = start(timed_sem, NULL);
  UNTIL(ready == 1);
  for (int k = 0; returned == 0; k++) {
    MUST(k < 5000);
    pthread_kill(t, SIGUSR1);
    nap(4);
  }
  pthread_join(t, NULL);
}

/* Main is in a call inside of libc when another thread, which has slept, sends it a signal. */
static pthread_t reader;
static _Atomic int reads;
static void *wakes_reader(void *arg) {
  for (int i = 0; i < 10; i++) {
    UNTIL(reads == i + 1);
    nap(i < 5 ? 60 : 400);
    pthread_kill(reader, SIGUSR1);
  }
  return arg;
}
static void interrupted_inside_libc(void) {
  char byte;
  int fd[2];
  MUST(pipe(fd) == 0);
  FILE *f = fdopen(fd[0], "r");
  handle(SIGUSR1, on_mine, 0);
  reader = pthread_self();
  pthread_t t = start(wakes_reader, NULL);
  for (int i = 0; i < 5; i++) {
    reads++;
    SAY_CALL("getc", getc(f));
    clearerr(f);
  }
  struct aiocb req = {.aio_fildes = fd[0], .aio_buf = &byte, .aio_nbytes = 1};
  const struct aiocb *const list[] = {&req};
  MUST(aio_read(&req) == 0);
  for (int i = 0; i < 5; i++) {
    reads++;
    SAY_CALL("aio_suspend", aio_suspend(list, 1, NULL));
  }
  pthread_join(t, NULL);
  say("handled %d", handled);
}

/* By the tid that gettid says, also with the system calls themselves. */
static _Atomic int its_tid;
static void *told_by_tid(void *arg) {
  its_tid = (int)syscall(SYS_gettid);
  while (handled < 4) nap(1);
  return (void *)(intptr_t)(my_handled + 0 * (intptr_t)arg);
}
static void killed_by_tid(void) {
  handle(SIGUSR1, on_mine, SA_RESTART);
  pthread_t t = start(told_by_tid, NULL);
  UNTIL(its_tid != 0);
  for (int i = 0; i < 4; i++) {
    if (i % 2)
      SAY_CALL("tgkill", tgkill(getpid(), its_tid, SIGUSR1));
    else
      SAY_CALL("syscall", (int)syscall(SYS_tgkill, getpid(), its_tid, SIGUSR1));
    UNTIL(handled == i + 1);
  }
  say("in the thread %ld", (long)join_value(t));
  SAY_CALL("65", tgkill(getpid(), getpid(), 65));
}

/* --- handlers --- */

static void on_busy(int sig) {
  int e = errno;
  (void)sig;
  nap(2);
  char c;
  (void)!read(-1, &c, 1);
  sem_post(&sem);
  my_handled++;
  handled++;
  errno = e;
}
static void *compute(void *arg) {
  double x = 1, step = 1.0 / 3;
  int bad = 0;
  ready++;
  while (!stop) {
    errno = 77;
    x = 1;
    for (int i = 0; i < 3000; i++) x = x * step + 1;
    bad += x < 1.4999 || x > 1.5001 || errno != 77;
  }
  (void)arg;
  return (void *)(intptr_t)bad;
}
static void handlers_block(void) {
  pthread_t t[4];
  sem_init(&sem, 0, 0);
  handle(SIGUSR1, on_busy, SA_RESTART);
  for (int i = 0; i < 4; i++) t[i] = start(compute, NULL);
  UNTIL(ready == 4);
  for (int i = 0; i < 20; i++) {
    pthread_kill(t[i % 4], SIGUSR1);
    while (sem_wait(&sem) != 0) {
    }
  }
  stop = true;
  for (int i = 0; i < 4; i++) say("bad %ld", (long)join_value(t[i]));
  say("handled %d", handled);
}

static sigjmp_buf jumps[8];
static volatile int *volatile nowhere = (int *)8;
static __thread char *alt_low, *alt_high;
static void on_alt(int sig) {
  char here;
  (void)sig;
  stack_t now;
  sigaltstack(NULL, &now);
  handled_by[my_number] += &here >= alt_low && &here < alt_high && now.ss_flags == SS_ONSTACK;
  errno = 0;
  int r = sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
  if (r != -1 || errno != EPERM) say("changed within %d", r);
  nap(1);
  handled++;
}
static void *use_alt_stack(void *arg) {
  stack_t now;
  my_number = (int)(intptr_t)arg;
  sigaltstack(NULL, &now);
  int none = now.ss_flags == SS_DISABLE;
  alt_low = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(alt_low != MAP_FAILED);
  alt_high = alt_low + 65536;
  MUST(sigaltstack(&(stack_t){.ss_sp = alt_low, .ss_size = 65536}, NULL) == 0);
  gate_pass(&gate);
  for (int i = 0; i < 4; i++) {
    raise(SIGUSR1);
    sched_yield();
  }
  return (void *)(intptr_t)none;
}
static void alt_stacks(void) {
  pthread_t t[5];
  handle(SIGUSR1, on_alt, SA_ONSTACK);
  for (int round = 0; round < 2; round++) {
    gate.open = false;
    gate.arrived = 0;
    for (intptr_t i = 0; i < 5; i++) t[i] = start(use_alt_stack, (void *)i);
    gate_await(&gate, 5);
    gate_open(&gate);
    for (int i = 0; i < 5; i++) {
      intptr_t none = join_value(t[i]);
      say("had none %ld, on its own %d", (long)none, handled_by[i]);
    }
  }
  say("handled %d", handled);
  SAY_CALL("too small", sigaltstack(&(stack_t){.ss_sp = fds, .ss_size = 100}, NULL));
  SAY_CALL("flags", sigaltstack(&(stack_t){.ss_sp = fds, .ss_size = 65536, .ss_flags = 77}, NULL));
}

/* A stack for handlers that is set, changed, asked for, and then used by signals of each kind. */
static volatile sig_atomic_t on_own, off_own;
static void on_which(int sig, siginfo_t *si, void *uc) {
  char here;
  (void)si, (void)uc;
  if (&here >= alt_low && &here < alt_high)
    on_own++;
  else
    off_own++;
  if (sig == SIGSEGV && si->si_code > 0) siglongjmp(jumps[my_number], 1);
}
static void say_alt(const char *when) {
  stack_t now;
  SAY_CALL(when, sigaltstack(NULL, &now));
  say("%s: its own %d, size %zu, flags %x", when, now.ss_sp == alt_low, now.ss_size, (unsigned)now.ss_flags);
}
static void *many_kinds(void *arg) {
  my_number = (int)(intptr_t)arg;
  stack_t old;
  on_own = off_own = 0;
  alt_low = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(alt_low != MAP_FAILED);
  alt_high = alt_low + 65536;
  SAY_CALL("set", sigaltstack(&(stack_t){.ss_sp = alt_low, .ss_size = 65536, .ss_flags = arg ? (int)(1u << 31) : 0}, &old));
  say("before: flags %x", (unsigned)old.ss_flags);
  say_alt("now");
  SAY_CALL("small", sigaltstack(&(stack_t){.ss_sp = alt_low, .ss_size = 100}, NULL));
  SAY_CALL("flags", sigaltstack(&(stack_t){.ss_sp = alt_low, .ss_size = 65536, .ss_flags = 77}, NULL));
  SAY_CALL("nowhere", sigaltstack((const stack_t *)(uintptr_t)nowhere, NULL));
  SAY_CALL("to nowhere", sigaltstack(NULL, (stack_t *)(uintptr_t)nowhere));
  say_alt("still");
  sched_yield();
  if (sigsetjmp(jumps[my_number], 1) == 0) *nowhere = 1;
  say("a fault: %d %d", on_own, off_own);
  say_alt("after it");
  if (sigsetjmp(jumps[my_number], 1) == 0) *nowhere = 1;
  raise(SIGTRAP);
  raise(SIGSEGV);
  raise(SIGUSR1);
  say("all: %d %d", on_own, off_own);
  SAY_CALL("none", sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, &old));
  raise(SIGUSR1);
  say("without: %d %d", on_own, off_own);
  return NULL;
}
static void *traps_first(void *arg) {
  my_number = 2;
  on_own = off_own = 0;
  MUST(sigaltstack(&(stack_t){.ss_sp = alt_low = arg, .ss_size = 65536}, NULL) == 0);
  alt_high = alt_low + 65536;
  pid_t p = fork();
  if (p == 0) {
    raise(SIGUSR1);
    _exit(on_own * 10 + off_own);
  }
  say_wait("the child of a fork", p);
  raise(SIGTRAP);
  say("a trap: %d %d", on_own, off_own);
  return NULL;
}
static void alt_stack_kinds(void) {
  static char room[65536];
  struct sigaction a = {.sa_sigaction = on_which, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  static const int sigs[] = {SIGSEGV, SIGTRAP, SIGUSR1};
  for (int i = 0; i < 3; i++) sigaction(sigs[i], &a, NULL);
  in_thread(many_kinds, NULL);
  in_thread(many_kinds, (void *)1);
  in_thread(traps_first, room);
}

static void on_jump(int sig) { siglongjmp(jumps[my_number], sig); }
static void *jump_around(void *arg) {
  my_number = (int)(intptr_t)arg;
  volatile int n = 0;
  jmp_buf plain;
  for (int i = 0; i < 20; i++) {
    int v = setjmp(plain);
    if (v == 0) {
      sched_yield();
      longjmp(plain, i + 1);
    }
    n += v == i + 1;
  }
  for (volatile int i = 0; i < 20; i++) {
    if (sigsetjmp(jumps[my_number], 1) == 0) {
      if (i % 2) nap(1);
      raise(SIGUSR1);
    } else {
      n++;
    }
  }
  for (volatile int i = 0; i < 5; i++) {
    if (sigsetjmp(jumps[my_number], 1) == 0)
      *nowhere = 1;
    else
      n++;
  }
  say_mask("after");
  return (void *)(intptr_t)n;
}
static void jumps_in_threads(void) {
  pthread_t t[4];
  handle(SIGUSR1, on_jump, 0);
  handle(SIGSEGV, on_jump, 0);
  for (intptr_t i = 0; i < 4; i++) t[i] = start(jump_around, (void *)i);
  for (int i = 0; i < 4; i++) {
    intptr_t n = join_value(t[i]);
    if (n != 45) say("%ld", (long)n);
  }
}

/* --- jumps out of waits: harmless, if not defined; nobody writes to the stack that was left --- */

enum wait_at {
  MUTEX,
  TIMED_MUTEX,
  CONDITION,
  TIMED_COND,
  MOVED_COND,
  SEMAPHORE,
  TIMED_SEM,
  READER,
  TIMED_READER,
  WRITER,
  TIMED_WRITER,
  BARRIER,
  ONCE,
  JOIN,
  TIMED_JOIN,
  WAITS
};
static struct {
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  sem_t sem;
  pthread_rwlock_t rwlock;
  pthread_barrier_t barrier;
  pthread_once_t once;
  struct gate gate;
  pthread_t joined, once_runner;
} on;
static sigjmp_buf out_of_wait;
static _Atomic int left, go_on;
static pthread_t jumper;

static void on_leave(int sig) {
  handled++;
  siglongjmp(out_of_wait, sig);
}
static void *pass_at_gate(void *arg) {
  gate_pass(&on.gate);
  return arg;
}
static void once_at_gate(void) { gate_pass(&on.gate); }
static void *run_once(void *arg) {
  pthread_once(&on.once, once_at_gate);
  return arg;
}

static __attribute__((noinline)) void wait_at(enum wait_at what) {
  struct timespec until = in_ms(CLOCK_REALTIME, 60); /* it is over when the stack is another's */
  pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
  if (what == MUTEX) pthread_mutex_lock(&on.mutex);
  if (what == TIMED_MUTEX) pthread_mutex_timedlock(&on.mutex, &until);
  if (what == CONDITION || what == TIMED_COND) pthread_mutex_lock(&own);
  while (what == CONDITION && !stop) pthread_cond_wait(&on.cond, &own);
  if (what == TIMED_COND) pthread_cond_timedwait(&on.cond, &own, &until);
  if (what == MOVED_COND) pthread_mutex_lock(&on.mutex);
  while (what == MOVED_COND && !stop) pthread_cond_wait(&on.cond, &on.mutex);
  while (what == SEMAPHORE && !stop) sem_wait(&on.sem);
  if (what == TIMED_SEM) sem_timedwait(&on.sem, &until);
  if (what == READER) pthread_rwlock_rdlock(&on.rwlock);
  if (what == TIMED_READER) pthread_rwlock_timedrdlock(&on.rwlock, &until);
  if (what == WRITER) pthread_rwlock_wrlock(&on.rwlock);
  if (what == TIMED_WRITER) pthread_rwlock_timedwrlock(&on.rwlock, &until);
  if (what == BARRIER) pthread_barrier_wait(&on.barrier);
  if (what == ONCE) pthread_once(&on.once, once_at_gate);
  if (what == JOIN) pthread_join(on.joined, NULL);
  if (what == TIMED_JOIN) pthread_timedjoin_np(on.joined, NULL, &until);
}
/* Where wait_at was. */
static __attribute__((noinline)) int other_frames(void) {
  volatile char mine[6000];
  int bad = 0;
  for (size_t i = 0; i < sizeof mine; i++) mine[i] = 0x5a;
  left++;
  while (!go_on) nap(2);
  for (size_t i = 0; i < sizeof mine; i++) bad += mine[i] != 0x5a;
  return bad;
}
static bool is_timed(enum wait_at what) {
  return what == TIMED_MUTEX || what == TIMED_COND || what == TIMED_SEM || what == TIMED_READER || what == TIMED_WRITER ||
         what == TIMED_JOIN;
}
static void leave_wait(enum wait_at what) {
  if (sigsetjmp(out_of_wait, 1) == 0) {
    ready++;
    wait_at(what);
    if (!is_timed(what)) say("%d: it is over", what); /* those with a time may have been, on a busy machine */
  }
  int bad = other_frames();
  if (bad) say("%d: %d bytes written", what, bad);
}

static void before_wait(enum wait_at what) {
  pthread_mutex_init(&on.mutex, NULL);
  pthread_cond_init(&on.cond, NULL);
  sem_init(&on.sem, 0, 0);
  pthread_rwlock_init(&on.rwlock, NULL);
  pthread_barrier_init(&on.barrier, NULL, 2);
  on.once = (pthread_once_t)PTHREAD_ONCE_INIT;
  on.gate = (struct gate)GATE_CLOSED;
  left = go_on = ready = 0;
  if (what == MUTEX || what == TIMED_MUTEX) pthread_mutex_lock(&on.mutex);
  if (what == READER || what == TIMED_READER) pthread_rwlock_wrlock(&on.rwlock);
  if (what == WRITER || what == TIMED_WRITER) pthread_rwlock_rdlock(&on.rwlock);
  if (what == JOIN || what == TIMED_JOIN) on.joined = start(pass_at_gate, NULL);
  if (what == ONCE) on.once_runner = start(run_once, NULL);
  if (what == ONCE || what == JOIN || what == TIMED_JOIN) gate_await(&on.gate, 1);
}
static void after_wait(enum wait_at what) {
  if (what == MUTEX || what == TIMED_MUTEX) pthread_mutex_unlock(&on.mutex);
  if (what == CONDITION || what == TIMED_COND) pthread_cond_broadcast(&on.cond);
  if (what == MOVED_COND) pthread_mutex_unlock(&on.mutex);
  if (what == SEMAPHORE || what == TIMED_SEM) sem_post(&on.sem);
  if (what == READER || what == TIMED_READER || what == WRITER || what == TIMED_WRITER) pthread_rwlock_unlock(&on.rwlock);
  if (what == BARRIER) say("barrier, the last one: %d", pthread_barrier_wait(&on.barrier) != 0); /* it had come */
  if (what == ONCE || what == JOIN || what == TIMED_JOIN) gate_open(&on.gate);
  if (what == ONCE) pthread_join(on.once_runner, NULL);
  nap(is_timed(what) ? 70 : 10); /* also those with a time are over */
  if (what == JOIN || what == TIMED_JOIN) SAY_ERR("joined by one that left", pthread_join(on.joined, NULL));
  if (what == MUTEX || what == TIMED_MUTEX || what == MOVED_COND) SAY_ERR("trylock", pthread_mutex_trylock(&on.mutex));
  if (what == SEMAPHORE) SAY_CALL("trywait", sem_trywait(&on.sem));
}
/* Until who was signalled waits for the mutex.  A jump out of the wait before that would hang, with plain glibc too: its
   longjmp runs the wait's cleanup, which takes the mutex.  In free mode the mutex does not show it: so, some time. */
static void await_mover(void) {
  for (int i = 0; i < 100 && __atomic_load_n(&on.mutex.__data.__lock, __ATOMIC_RELAXED) != 2; i++) nap(1);
}
static void make_it_leave(enum wait_at what) {
  UNTIL(ready == 1);
  nap(what == BARRIER ? 150 : 15); /* now it waits */
  if (what == MOVED_COND) {
    pthread_mutex_lock(&on.mutex);
    pthread_cond_signal(&on.cond);
    await_mover();
  }
  pthread_kill(jumper, SIGUSR1);
  UNTIL(left > 0);
  after_wait(what);
  go_on = 1;
}

/* Twice in the same thread: after its first signal free mode knows it otherwise. */
static sem_t next_round;
static void *leave_waits(void *arg) {
  for (int i = 0; i < 2; i++) {
    while (sem_wait(&next_round) != 0) continue;
    leave_wait((enum wait_at)(intptr_t)arg);
    returned++;
  }
  return arg;
}
static void jumps_out_of_waits(void) {
  handle(SIGUSR1, on_leave, 0);
  sem_init(&next_round, 0, 0);
  for (int what = 0; what < WAITS; what++) {
    jumper = start(leave_waits, (void *)(intptr_t)what);
    for (int i = 0; i < 2; i++) {
      before_wait((enum wait_at)what);
      returned = 0;
      sem_post(&next_round);
      make_it_leave((enum wait_at)what);
      UNTIL(returned == 1);
    }
    pthread_join(jumper, NULL);
  }
  say("handled %d", handled);
}

/* The same in main. */
static _Atomic int prepared;
static void *make_main_leave(void *arg) {
  before_wait((enum wait_at)(intptr_t)arg);
  prepared = 1;
  make_it_leave((enum wait_at)(intptr_t)arg);
  return arg;
}
static void jumps_out_of_waits_in_main(void) {
  jumper = pthread_self();
  handle(SIGUSR1, on_leave, 0);
  for (int what = 0; what < WAITS; what++) {
    prepared = 0;
    pthread_t t = start(make_main_leave, (void *)(intptr_t)what);
    UNTIL(prepared);
    leave_wait((enum wait_at)what);
    pthread_join(t, NULL);
  }
  say("handled %d", handled);
}

/* Handlers that come back: each object is had in the end, once. */
static _Atomic int had;
static void *wait_through_signals(void *arg) {
  ready++;
  wait_at((enum wait_at)(intptr_t)arg);
  had++;
  return arg;
}
static void waits_through_signals(void) {
  static const enum wait_at which[] = {MUTEX, READER, WRITER, BARRIER, ONCE, JOIN};
  handle(SIGUSR1, on_mine, 0);
  for (int i = 0; i < 6; i++) {
    had = handled = 0;
    before_wait(which[i]);
    pthread_t t = start(wait_through_signals, (void *)(intptr_t)which[i]);
    UNTIL(ready == 1);
    for (int k = 1; k <= 10; k++) {
      pthread_kill(t, SIGUSR1);
      UNTIL(handled == k);
      if (k % 3 == 0) nap(3);
    }
    say("%d: had %d", which[i], had);
    if (which[i] == MUTEX) pthread_mutex_unlock(&on.mutex);
    if (which[i] == READER || which[i] == WRITER) pthread_rwlock_unlock(&on.rwlock);
    if (which[i] == BARRIER) pthread_barrier_wait(&on.barrier);
    if (which[i] == ONCE || which[i] == JOIN) gate_open(&on.gate);
    if (which[i] == ONCE) pthread_join(on.once_runner, NULL);
    pthread_join(t, NULL);
    say("%d: had %d", which[i], had);
    if (which[i] == WRITER) SAY_ERR("tryrdlock", pthread_rwlock_tryrdlock(&on.rwlock));
    if (which[i] == BARRIER) SAY_ERR("destroy", pthread_barrier_destroy(&on.barrier));
  }
}

/* A program's own coroutines, inside of a thread. */
static __thread ucontext_t outside, inside;
static __thread int switches;
static void coroutine(void) {
  for (int i = 0; i < 10; i++) {
    switches++;
    nap(i % 3 == 0);
    swapcontext(&inside, &outside);
  }
}
static void *run_coroutine(void *arg) {
  size_t size = 64 << 10;
  char *stack = malloc(size);
  MUST(stack);
  getcontext(&inside);
  inside.uc_stack.ss_sp = stack;
  inside.uc_stack.ss_size = size;
  inside.uc_link = &outside;
  makecontext(&inside, coroutine, 0);
  for (int i = 0; i < 11; i++) {
    swapcontext(&outside, &inside);
    sched_yield();
  }
  free(stack);
  (void)arg;
  return (void *)(intptr_t)switches;
}
static void contexts(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(run_coroutine, NULL);
  for (int i = 0; i < 4; i++) say("%ld", (long)join_value(t[i]));
}

/* --- timers --- */

static void on_notify(union sigval v) { handled += v.sival_int; }
static void timer_threads(void) {
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_notify, .sigev_value.sival_int = 1};
  struct itimerspec in = {.it_value.tv_nsec = 5000000, .it_interval.tv_nsec = 5000000};
  timer_t t;
  SAY_CALL("create", timer_create(CLOCK_MONOTONIC, &ev, &t));
  SAY_CALL("set", timer_settime(t, 0, &in, NULL));
  UNTIL(handled >= 5);
  SAY_CALL("delete", timer_delete(t));
  say("some");
}

static void *timed_thread(void *arg) {
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
  struct itimerspec in = {.it_value.tv_nsec = 5000000, .it_interval.tv_nsec = 5000000};
  timer_t t;
  MUST(timer_create(CLOCK_MONOTONIC, &ev, &t) == 0 && timer_settime(t, 0, &in, NULL) == 0);
  while (my_handled < 5) nap(2);
  timer_delete(t);
  (void)arg;
  return (void *)(intptr_t)(my_handled >= 5);
}
static void timer_to_thread(void) {
  handle(SIGUSR1, on_mine, SA_RESTART);
  pthread_t a = start(timed_thread, NULL), b = start(timed_thread, NULL);
  say("%ld %ld", (long)join_value(a), (long)join_value(b));
  say("main's %d", my_handled);
}

static void mq_thread(void) {
  char name[64];
  struct mq_attr at = {.mq_maxmsg = 2, .mq_msgsize = 16};
  snprintf(name, sizeof name, "/rationtest-%d", getpid());
  mqd_t q = mq_open(name, O_RDWR | O_CREAT, 0600, &at);
  MUST(q != (mqd_t)-1);
  mq_unlink(name);
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_notify, .sigev_value.sival_int = 3};
  SAY_CALL("notify", mq_notify(q, &ev));
  SAY_CALL("send", mq_send(q, "x", 1, 0));
  UNTIL(handled == 3);
  say("told");
}

static void *spin_until_told(void *arg) {
  for (volatile unsigned long n = 0; handled < 3; n++) {
  }
  return arg;
}
static void cpu_timers(void) {
  static const int which[] = {ITIMER_PROF, ITIMER_VIRTUAL, ITIMER_REAL}, sigs[] = {SIGPROF, SIGVTALRM, SIGALRM};
  for (int i = 0; i < 3; i++) {
    struct itimerval in = {{0, 5000}, {0, 5000}}, none = {{0, 0}, {0, 0}};
    handled = 0;
    handle(sigs[i], on_mine, SA_RESTART);
    SAY_CALL("set", setitimer(which[i], &in, NULL));
    pthread_t t = start(spin_until_told, NULL);
    pthread_join(t, NULL);
    SAY_CALL("unset", setitimer(which[i], &none, NULL));
    say("came");
  }
}

/* --- to the process, while main blocks it --- */

static void *doing_or_blocked(void *arg) {
  my_number = (int)(intptr_t)arg;
  if (my_number == DOINGS) {
    block(SIG_BLOCK, SIGUSR1, SIGALRM);
    block(SIG_BLOCK, SIGRTMIN + 3, 0);
  }
  ready++;
  do_until_stopped(my_number == DOINGS ? NAP : (enum doing)my_number);
  return (void *)(intptr_t)my_handled;
}
static void doing_starts(pthread_t *t, enum doing what) {
  MUST(pipe(fds) == 0);
  sem_init(&sem, 0, 0);
  my_number = 15;
  t[0] = start(doing_or_blocked, (void *)(intptr_t)what);
  t[1] = start(doing_or_blocked, (void *)(intptr_t)DOINGS);
  UNTIL(ready == 2);
  nap(5); /* until it is inside */
}
static void doing_stops(pthread_t *t) {
  stop = true;
  MUST(write(fds[1], "x", 1) == 1);
  sem_post(&sem);
  pthread_mutex_lock(&lock);
  pthread_cond_broadcast(&cond);
  pthread_mutex_unlock(&lock);
  say("handled %ld, the one that blocks %ld", (long)join_value(t[0]), (long)join_value(t[1]));
  close(fds[0]);
  close(fds[1]);
}
/* Each is handled by the one that has it open, whatever that does. */
static void process_signal_main_blocks(void) {
  handle(SIGUSR1, on_mine, SA_RESTART);
  for (int what = 0; what < DOINGS; what++) {
    pthread_t t[2];
    stop = false;
    ready = handled = 0;
    doing_starts(t, (enum doing)what);
    block(SIG_BLOCK, SIGUSR1, 0);
    for (int i = 0; i < 3; i++) {
      kill(getpid(), SIGUSR1);
      UNTIL(handled == i + 1);
    }
    block(SIG_UNBLOCK, SIGUSR1, 0); /* nothing has been left behind */
    say("main %d", handled_by[15]);
    doing_stops(t);
  }
}

/* All wait at a gate: one of them has it, once. */
static void process_signal_to_one(void) {
  pthread_t t[8];
  handle(SIGUSR1, on_mine, SA_RESTART);
  handle(SIGUSR2, on_mine, SA_RESTART);
  my_number = 15;
  for (int i = 0; i < 8; i++) t[i] = start(wait_at_gate, NULL);
  gate_await(&gate, 8);
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  kill(getpid(), SIGUSR1);
  kill(getpid(), SIGUSR2);
  UNTIL(handled == 2);
  nap(150);
  gate_open(&gate);
  for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
  block(SIG_UNBLOCK, SIGUSR1, SIGUSR2);
  say("handled %d, main %d", handled, handled_by[15]);
}

static void process_timer_main_blocks(void) {
  pthread_t t[2];
  struct itimerval in = {{0, 10000}, {0, 10000}}, none = {{0, 0}, {0, 0}};
  handle(SIGALRM, on_mine, SA_RESTART);
  doing_starts(t, COND);
  block(SIG_BLOCK, SIGALRM, 0);
  alarm(1);
  UNTIL(handled == 1);
  MUST(setitimer(ITIMER_REAL, &in, NULL) == 0);
  UNTIL(handled >= 6);
  MUST(setitimer(ITIMER_REAL, &none, NULL) == 0);
  say("main %d", handled_by[15]);
  stop = true;
  MUST(write(fds[1], "x", 1) == 1);
  pthread_mutex_lock(&lock);
  pthread_cond_broadcast(&cond);
  pthread_mutex_unlock(&lock);
  say("all in the one that has it open %d, none %ld", join_value(t[0]) >= 6, (long)join_value(t[1]));
}

/* Signals that queue come in their order, with their values. */
static _Atomic int values[16];
static void on_value(int sig, siginfo_t *si, void *uc) {
  (void)sig, (void)uc;
  values[handled] = my_number * 100 + si->si_value.sival_int;
  handled++;
}
static void process_queue_main_blocks(void) {
  pthread_t t[2];
  struct sigaction a = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO | SA_RESTART};
  MUST(sigaction(SIGRTMIN + 3, &a, NULL) == 0);
  sigset_t s = set_of(SIGRTMIN + 3, 0);
  doing_starts(t, COND);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  stop = false;
  for (int i = 1; i <= 8; i++) MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i}) == 0);
  UNTIL(handled == 8);
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  int sum = 0, in_order = 1, by_main = 0, last[16] = {0};
  for (int i = 0; i < 8; i++) {
    int who = values[i] / 100, value = values[i] % 100;
    by_main += who == 15;
    in_order &= value > last[who];
    last[who] = value;
    sum += value;
  }
  say("sum %d, in order %d, main %d", sum, in_order, by_main);
  doing_stops(t);
}

/* A call without SA_RESTART ends. */
static void process_signal_interrupts(void) {
  MUST(pipe(fds) == 0);
  handle(SIGUSR1, on_mine, 0);
  static void *(*const fns[])(void *) = {interrupted_read, interrupted_nap, interrupted_poll};
  sigset_t s = set_of(SIGUSR1, 0);
  for (int i = 0; i < 3; i++) {
    pthread_t t = start(fns[i], fds);
    nap(10);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    for (int k = 0; returned == i; k++) { /* until it is inside */
      MUST(k < 5000);
      kill(getpid(), SIGUSR1);
      nap(4);
    }
    pthread_join(t, NULL);
    while (sigtimedwait(&s, NULL, &(struct timespec){0, 0}) > 0) continue;
    pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  }
}

/* Born with it open by their attributes; main blocks it all along. */
static void process_signal_by_attribute(void) {
  pthread_attr_t a;
  pthread_t t[3];
  sigset_t none, s = set_of(SIGUSR1, 0), pending;
  sigemptyset(&none);
  handle(SIGUSR1, on_mine, SA_RESTART);
  my_number = 15;
  block(SIG_BLOCK, SIGUSR1, 0);
  kill(getpid(), SIGUSR1); /* is for the first that comes */
  for (int i = 0; i < 2; i++) t[i] = start(wait_at_gate, NULL);
  gate_await(&gate, 2);
  nap(150);
  sigpending(&pending);
  say("pending %d, handled %d", sigismember(&pending, SIGUSR1), handled);
  pthread_attr_init(&a);
  MUST(pthread_attr_setsigmask_np(&a, &none) == 0);
  MUST(pthread_create(&t[2], &a, wait_at_gate, NULL) == 0);
  UNTIL(handled == 1);
  gate_open(&gate);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  say("main %d, still %d", handled_by[15], sigtimedwait(&s, NULL, &(struct timespec){0, 0}) > 0);
}

/* It is pending until the one that could have it opens it again. */
static void *blocks_for_a_while(void *arg) {
  my_number = 1;
  block(SIG_BLOCK, SIGUSR1, 0);
  ready = 1;
  UNTIL(ready == 2);
  block(SIG_UNBLOCK, SIGUSR1, 0);
  UNTIL(my_handled == 1);
  return arg;
}
static void process_signal_opened_later(void) {
  sigset_t pending;
  handle(SIGUSR1, on_mine, SA_RESTART);
  my_number = 15;
  pthread_t t = start(blocks_for_a_while, NULL);
  UNTIL(ready == 1);
  block(SIG_BLOCK, SIGUSR1, 0);
  kill(getpid(), SIGUSR1);
  nap(150);
  sigpending(&pending);
  say("pending %d, handled %d", sigismember(&pending, SIGUSR1), handled);
  ready = 2;
  pthread_join(t, NULL);
  say("handled %d, main %d", handled, handled_by[15]);
}

/* Ignored is what a thread ignores that has it open: main does not find it pending. */
static void process_signal_ignored(void) {
  sigset_t s = set_of(SIGUSR1, SIGWINCH), pending;
  pthread_t t = start(wait_at_gate, NULL);
  gate_await(&gate, 1);
  signal(SIGUSR1, SIG_IGN);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  kill(getpid(), SIGUSR1);
  kill(getpid(), SIGWINCH);
  do sigpending(&pending);
  while (sigismember(&pending, SIGUSR1) || sigismember(&pending, SIGWINCH));
  gate_open(&gate);
  pthread_join(t, NULL);
  say("gone");
}

/* Main waits for it as well: it is first. */
static void process_signal_main_waits(void) {
  sigset_t s = set_of(SIGUSR1, 0);
  pthread_t t = start(wait_at_gate, NULL);
  gate_await(&gate, 1);
  handle(SIGUSR1, on_mine, SA_RESTART);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  for (int i = 0; i < 5; i++) {
    struct itimerval in = {{0, 0}, {0, 100000}};
    handle(SIGALRM, on_mine, SA_RESTART);
    sigaddset(&s, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    MUST(setitimer(ITIMER_REAL, &in, NULL) == 0);
    say("got %d, handled %d", sigwaitinfo(&s, NULL) == SIGALRM, handled);
  }
  gate_open(&gate);
  pthread_join(t, NULL);
}

/* Main has left: what comes is for those that are there still. */
static void *kill_when_alone(void *arg) {
  my_number = 1;
  pthread_join(*(pthread_t *)arg, NULL);
  kill(getpid(), SIGUSR1);
  UNTIL(handled == 1);
  say("handled by it %d", handled_by[1] + handled_by[0]);
  kill(getpid(), SIGTERM); /* by default: the end */
  for (;;) nap(1000);
}
static void process_signal_main_left(void) {
  static pthread_t self;
  self = pthread_self();
  my_number = 15;
  handle(SIGUSR1, on_mine, SA_RESTART);
  start(kill_when_alone, &self);
  pthread_exit(NULL);
}

/* While a handler runs on main its signal is for others. */
static _Atomic int main_inside;
static void on_first(int sig) {
  (void)sig;
  if (my_number != 15) {
    handled++;
    return;
  }
  main_inside = 1;
  kill(getpid(), SIGUSR1);
  UNTIL(handled == 1);
  main_inside = 2;
}
static void process_signal_main_in_handler(void) {
  pthread_t t = start(wait_at_gate, NULL);
  gate_await(&gate, 1);
  my_number = 15;
  handle(SIGUSR1, on_first, SA_RESTART);
  raise(SIGUSR1);
  say("inside %d, handled %d", main_inside, handled);
  gate_open(&gate);
  pthread_join(t, NULL);
}

/* Who alone has a signal open, and sends it to its process, has it before the call returns. */
static void *sends_to_own_process(void *arg) {
  gate_pass(&gate);
  SAY_CALL("kill", kill(getpid(), SIGUSR1));
  say("handled %d, here %d", handled, my_handled);
  SAY_CALL("kill 0", kill(0, SIGUSR1));
  say("handled %d, here %d", handled, my_handled);
  SAY_CALL("sigqueue", sigqueue(getpid(), SIGUSR1, (union sigval){0}));
  say("handled %d, here %d", handled, my_handled);
  SAY_CALL("syscall", syscall(SYS_kill, getpid(), SIGUSR1));
  say("handled %d, here %d", handled, my_handled);
  return arg;
}
static void process_signal_to_sender(void) {
  sigset_t s = set_of(SIGUSR1, 0);
  MUST(setpgid(0, 0) == 0);
  handle(SIGUSR1, on_mine, SA_RESTART);
  pthread_t t = start(sends_to_own_process, NULL);
  gate_await(&gate, 1);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  gate_open(&gate);
  pthread_join(t, NULL);
}

static pthread_t first_of_all;
static void kills_at_exit(void) {
  kill(getpid(), SIGUSR2);
  say("not reached");
}
static void *outlives_main(void *arg) {
  pthread_join(first_of_all, NULL);
  return arg;
}
/* The last thread ends the process, and its functions of atexit are like all others. */
static void process_signal_at_exit(void) {
  pid_t p = fork();
  if (p == 0) {
    first_of_all = pthread_self();
    atexit(kills_at_exit);
    start(outlives_main, NULL);
    pthread_exit(NULL);
  }
  say_wait("child", p);
}

/* Nothing that is pending is taken from who blocks it everywhere. */
static void process_signal_kept(void) {
  sigset_t s = set_of(SIGUSR1, SIGUSR2), usr1 = set_of(SIGUSR1, 0), pending;
  pthread_t t[4];
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  for (int i = 0; i < 4; i++) t[i] = start(wait_at_gate, NULL);
  gate_await(&gate, 4);
  pthread_sigmask(SIG_BLOCK, &s, NULL); /* they have SIGUSR2 open */
  kill(getpid(), SIGUSR1);
  nap(200);
  sigpending(&pending);
  say("pending %d", sigismember(&pending, SIGUSR1));
  gate_open(&gate);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  say("got %d", sigtimedwait(&s, NULL, &(struct timespec){0, 0}) == SIGUSR1);
}

/* --- signals by the thousand, each sent when the one before has been handled --- */

#define STORM 1500
static sem_t storm_handled[2];
static _Atomic int storm_senders, storm_lost;

static void on_storm(int sig) { sem_post(&storm_handled[sig == SIGUSR2]); }

static void *storm_send(void *arg) {
  intptr_t which = (intptr_t)arg;
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  for (int i = 0; i < STORM; i++) {
    struct timespec at = in_ms(CLOCK_REALTIME, 20000);
    kill(getpid(), which ? SIGUSR2 : SIGUSR1);
    if (sem_timedwait(&storm_handled[which], &at) != 0) {
      storm_lost++;
      break;
    }
  }
  storm_senders--;
  return arg;
}

/* The only one that has them open: wherever they find it, in ration or out of it. */
static void *storm_receive(void *arg) {
  while (storm_senders) {
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    if (arg) sched_yield();
  }
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  say("blocks %d %d", sigismember(&mask, SIGUSR1), sigismember(&mask, SIGUSR2));
  return arg;
}
static void *storm_wait(void *arg) {
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  pthread_mutex_lock(&lock);
  while (!stop) pthread_cond_wait(&cond, &lock);
  pthread_mutex_unlock(&lock);
  return arg;
}

static void storm(bool yields) {
  pthread_t sender[2], waiter[3], receiver;
  handle(SIGUSR1, on_storm, 0);
  handle(SIGUSR2, on_storm, 0);
  storm_senders = 2;
  stop = false;
  receiver = start(storm_receive, yields ? &stop : NULL);
  block(SIG_BLOCK, SIGUSR1, SIGUSR2);
  for (int i = 0; i < 3; i++) waiter[i] = start(storm_wait, NULL);
  for (intptr_t i = 0; i < 2; i++) {
    sem_init(&storm_handled[i], 0, 0);
    sender[i] = start(storm_send, (void *)i);
  }
  for (int i = 0; i < 2; i++) pthread_join(sender[i], NULL);
  pthread_join(receiver, NULL);
  pthread_mutex_lock(&lock);
  stop = true;
  pthread_cond_broadcast(&cond);
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < 3; i++) pthread_join(waiter[i], NULL);
  say("lost %d", storm_lost);
  block(SIG_UNBLOCK, SIGUSR1, SIGUSR2);
}
static void none_is_lost(void) { storm(false); }
static void none_is_lost_in_yields(void) { storm(true); }

const struct check signal_checks[] = {
    CHECK(kill_each),
    CHECK(kill_who_yields),
    CHECK(kill_errors),
    CHECK(queue_order),
    CHECK(raised_in_itself),
    CHECK(process_signal_to_open_thread),
    CHECK(process_signal_main_blocks),
    CHECK(process_signal_to_one),
    CHECK(process_timer_main_blocks),
    CHECK(process_queue_main_blocks),
    CHECK(process_signal_interrupts),
    CHECK(process_signal_by_attribute),
    CHECK(process_signal_opened_later),
    CHECK(process_signal_ignored),
    CHECK(process_signal_main_waits),
    CHECK(process_signal_main_left),
    CHECK(process_signal_main_in_handler),
    CHECK(process_signal_kept),
    CHECK(process_signal_to_sender),
    CHECK(process_signal_at_exit),
    CHECK(urg_is_the_programs),
    CHECK(urg_and_cancellation),
    CHECK(urg_main_blocks),
    CHECK(mask_inherited),
    CHECK(mask_by_attribute),
    CHECK(mask_by_default),
    CHECK(mask_not_left_behind),
    CHECK(pending_own),
    CHECK(sigwait_thread),
    CHECK(sigwait_one_of_many),
    CHECK(sigsuspend_thread),
    CHECK(interrupt_the_right_one),
    CHECK(restarted),
    CHECK(fifo_interrupted),
    CHECK(fifo_restarted),
    CHECK(not_interrupted),
    CHECK(queued_to_each_other),
    CHECK(timed_not_restarted),
    CHECK(interrupted_inside_libc),
    CHECK(killed_by_tid),
    CHECK(handlers_block),
    CHECK(alt_stacks),
    CHECK(alt_stack_kinds),
    CHECK(jumps_in_threads),
    CHECK(jumps_out_of_waits),
    CHECK(jumps_out_of_waits_in_main),
    CHECK(waits_through_signals),
    CHECK(contexts),
    CHECK(timer_threads),
    CHECK(timer_to_thread),
    CHECK(mq_thread),
    CHECK(cpu_timers),
    CHECK(none_is_lost),
    CHECK(none_is_lost_in_yields),
    CHECKS_END,
};
