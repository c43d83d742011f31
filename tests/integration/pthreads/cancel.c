/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancellation: when it is acted on, what runs then, and calls that wait.  (posix.c cancels most blocking calls, in three ways
 * each: here are those that it has not, and what must be so afterwards.)
 */
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>
#include "checks.h"

static struct gate gate = GATE_CLOSED;
static _Atomic int cleaned, reached;
static void clean(void *arg) {
  (void)arg;
  cleaned++;
}

/* --- calls that wait --- */

static int fds[2], msgq, lockfd[2];
static mqd_t mq;
static FILE *file;
static mtx_t c11_lock;
static cnd_t c11_cond;
static thrd_t c11_peer;
static pthread_t peer;
static char path[64], bytes[1 << 16];

static void open_pipe(void) { MUST(pipe(fds) == 0); }
static void open_full_pipe(void) {
  open_pipe();
  fcntl(fds[1], F_SETFL, O_NONBLOCK);
  while (write(fds[1], bytes, 4096) > 0) {
  }
  fcntl(fds[1], F_SETFL, 0);
}
static void open_full_socket(void) {
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  while (send(fds[1], bytes, 4096, MSG_DONTWAIT) > 0) {
  }
}
static void open_fifo(void) {
  snprintf(path, sizeof path, "/tmp/rationtest-%d", getpid());
  MUST(mkfifo(path, 0600) == 0);
}
static void close_fifo(void) { unlink(path); }
static void open_stream(void) {
  open_pipe();
  MUST((file = fdopen(fds[0], "r")) != NULL);
}
static void open_full_stream(void) {
  open_full_pipe();
  MUST((file = fdopen(fds[1], "w")) != NULL);
  setvbuf(file, NULL, _IONBF, 0);
}
static void open_full_msgq(void) {
  struct msqid_ds ds;
  MUST((msgq = msgget(IPC_PRIVATE, 0600)) >= 0 && msgctl(msgq, IPC_STAT, &ds) == 0);
  ds.msg_qbytes = 16;
  msgctl(msgq, IPC_SET, &ds);
  long msg[4] = {1};
  while (msgsnd(msgq, msg, 16, IPC_NOWAIT) == 0) {
  }
}
static void close_msgq(void) { msgctl(msgq, IPC_RMID, NULL); }
static void open_full_mq(void) {
  struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 16};
  snprintf(path, sizeof path, "/rationtest-%d", getpid());
  MUST((mq = mq_open(path, O_RDWR | O_CREAT, 0600, &a)) != (mqd_t)-1);
  mq_unlink(path);
  MUST(mq_send(mq, "x", 1, 0) == 0);
}
static pid_t locker;
/* Record locks are a process's: another must hold it. */
static void open_lock(void) {
  int ready[2];
  char c;
  snprintf(path, sizeof path, "/tmp/rationtest-XXXXXX");
  MUST((lockfd[0] = mkstemp(path)) >= 0 && pipe(ready) == 0);
  locker = fork();
  if (locker == 0) {
    int fd = open(path, O_RDWR);
    if (fd < 0 || lockf(fd, F_LOCK, 0) != 0) _exit(1);
    (void)!write(ready[1], "x", 1);
    for (;;) nap(1000);
  }
  MUST(read(ready[0], &c, 1) == 1);
}
static void close_lock(void) {
  kill(locker, SIGKILL);
  waitpid(locker, NULL, 0);
  unlink(path);
}
static int wait_c11(void *arg) {
  (void)arg;
  gate_pass(&gate);
  return 0;
}
static void *wait_gate(void *arg) {
  gate_pass(&gate);
  return arg;
}
static void open_c11(void) {
  mtx_init(&c11_lock, mtx_plain);
  cnd_init(&c11_cond);
  MUST(thrd_create(&c11_peer, wait_c11, NULL) == thrd_success);
}
static void open_peer(void) { peer = start(wait_gate, NULL); }

static void w_open_fifo(void) { (void)!open(path, O_RDONLY); }
static void w_openat_fifo(void) { (void)!openat(AT_FDCWD, path, O_WRONLY); }
static void w_creat_fifo(void) { (void)!creat(path, 0600); }
static void w_writev(void) {
  struct iovec v = {bytes, sizeof bytes};
  (void)!writev(fds[1], &v, 1);
}
static void w_sendto(void) { (void)!sendto(fds[1], bytes, 4096, 0, NULL, 0); }
static void w_msgsnd(void) {
  long msg[4] = {1};
  (void)!msgsnd(msgq, msg, 16, 0);
}
static void w_mq_send(void) { (void)!mq_send(mq, "x", 1, 0); }
static void w_mq_timedsend(void) {
  struct timespec at = in_ms(CLOCK_REALTIME, 60000);
  (void)!mq_timedsend(mq, "x", 1, 0, &at);
}
static void w_lockf(void) { (void)!lockf(lockfd[0], F_LOCK, 0); }
static void w_setlkw(void) {
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  (void)!fcntl(lockfd[0], F_SETLKW, &l);
}
static void w_splice(void) { (void)!splice(fds[0], NULL, fds[1], NULL, 16, 0); }
static void open_two_pipes(void) {
  int other[2];
  open_pipe();
  MUST(pipe(other) == 0);
  fds[1] = other[1];
}
static void w_tee(void) { (void)!tee(fds[0], fds[1], 16, 0); }
static void w_getc(void) { (void)!getc(file); }
static void w_fgets(void) { (void)!fgets(bytes, sizeof bytes, file); }
static void w_fread(void) { (void)!fread(bytes, 1, 100, file); }
static void w_getline(void) {
  static char *line;
  static size_t size;
  (void)!getline(&line, &size, file);
}
static void w_fprintf(void) { fprintf(file, "%s", "line of text\n"); }
static void unlock_c11(void *m) { mtx_unlock(m); }
static void w_cnd_wait(void) {
  mtx_lock(&c11_lock);
  pthread_cleanup_push(unlock_c11, &c11_lock);
  for (;;) cnd_wait(&c11_cond, &c11_lock);
  pthread_cleanup_pop(0);
}
static void w_cnd_timedwait(void) {
  struct timespec at = in_ms(CLOCK_REALTIME, 60000);
  mtx_lock(&c11_lock);
  pthread_cleanup_push(unlock_c11, &c11_lock);
  for (;;) cnd_timedwait(&c11_cond, &c11_lock, &at);
  pthread_cleanup_pop(0);
}
static void w_thrd_join(void) { thrd_join(c11_peer, NULL); }
static void w_clockjoin(void) {
  struct timespec at = in_ms(CLOCK_MONOTONIC, 60000);
  pthread_clockjoin_np(peer, NULL, CLOCK_MONOTONIC, &at);
}
/* Points that do not wait, but yield: beside others, a loop of nothing else takes all it is given. */
static void w_pread(void) {
  (void)!pread(fds[0], bytes, 1, 0);
  sched_yield();
}
static void w_testcancel(void) {
  pthread_testcancel();
  sched_yield();
}
static void open_zero(void) { MUST((fds[0] = open("/dev/zero", O_RDONLY)) >= 0); }
static void open_nothing(void) {}

struct waiting {
  const char *name;
  void (*open)(void);
  void (*call)(void);
  void (*close)(void);
};
static const struct waiting waits[] = {
    {"open of a FIFO", open_fifo, w_open_fifo, close_fifo},
    {"openat of a FIFO", open_fifo, w_openat_fifo, close_fifo},
    {"creat of a FIFO", open_fifo, w_creat_fifo, close_fifo},
    {"writev", open_full_pipe, w_writev, NULL},
    {"sendto", open_full_socket, w_sendto, NULL},
    {"msgsnd", open_full_msgq, w_msgsnd, close_msgq},
    {"mq_send", open_full_mq, w_mq_send, NULL},
    {"mq_timedsend", open_full_mq, w_mq_timedsend, NULL},
    {"lockf", open_lock, w_lockf, close_lock},
    {"F_SETLKW", open_lock, w_setlkw, close_lock},
    {"splice", open_two_pipes, w_splice, NULL},
    {"tee", open_two_pipes, w_tee, NULL},
    {"getc", open_stream, w_getc, NULL},
    {"fgets", open_stream, w_fgets, NULL},
    {"fread", open_stream, w_fread, NULL},
    {"getline", open_stream, w_getline, NULL},
    {"fprintf", open_full_stream, w_fprintf, NULL},
    {"cnd_wait", open_c11, w_cnd_wait, NULL},
    {"cnd_timedwait", open_c11, w_cnd_timedwait, NULL},
    {"thrd_join", open_c11, w_thrd_join, NULL},
    {"pthread_clockjoin_np", open_peer, w_clockjoin, NULL},
    {"pread", open_zero, w_pread, NULL},
    {"testcancel", open_nothing, w_testcancel, NULL},
};

static void *wait_in(void *arg) {
  const struct waiting *w = arg;
  pthread_cleanup_push(clean, NULL);
  reached = 1;
  for (;;) w->call();
  pthread_cleanup_pop(0);
  return NULL;
}

static void each_wait(int from, int to) {
  for (int i = from; i < to; i++) {
    waits[i].open();
    cleaned = reached = 0;
    pthread_t t = start(wait_in, (void *)(uintptr_t)&waits[i]);
    UNTIL(reached == 1);
    nap(20);
    SAY_ERR(waits[i].name, pthread_cancel(t));
    bool cancelled = join_value(t) == (intptr_t)PTHREAD_CANCELED;
    say("cancelled %d, cleaned %d", cancelled, cleaned);
    if (file) {
      int e = ftrylockfile(file);
      say("stream free %d", e == 0);
      if (e == 0) funlockfile(file);
    }
    file = NULL;
    if (waits[i].close) waits[i].close();
  }
}
static void waits_files(void) { each_wait(0, 5); }
static void waits_ipc(void) { each_wait(5, 12); }
static void waits_stdio(void) { each_wait(12, 17); }
static void waits_threads(void) { each_wait(17, (int)(sizeof waits / sizeof *waits)); }

/* --- what must be so afterwards --- */

static pthread_mutex_t checked = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int waiting_now, tokens;
static void unlock_checked(void *arg) {
  (void)arg;
  say("relock in the handler: %s", err(pthread_mutex_lock(&checked)));
  say("unlock in the handler: %s", err(pthread_mutex_unlock(&checked)));
}
static void *wait_token(void *arg) {
  pthread_mutex_lock(&checked);
  pthread_cleanup_push(unlock_checked, NULL);
  waiting_now++;
  while (tokens == 0) {
    struct timespec at = in_ms(CLOCK_REALTIME, 60000);
    if (arg)
      pthread_cond_timedwait(&cond, &checked, &at);
    else
      pthread_cond_wait(&cond, &checked);
  }
  tokens--;
  pthread_cleanup_pop(0);
  pthread_mutex_unlock(&checked);
  return (void *)1;
}
static void ignore_it(int sig) { (void)sig; }
static void *wait_token_async(void *arg) {
  if (arg) raise(SIGUSR1);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  return wait_token(arg);
}
static int waiting_count(void) {
  pthread_mutex_lock(&checked);
  int n = waiting_now;
  pthread_mutex_unlock(&checked);
  return n;
}

/* Also where the thread may be cancelled anywhere. */
static void cond_mutex_held_async(void) {
  struct sigaction a = {.sa_handler = ignore_it};
  sigaction(SIGUSR1, &a, NULL);
  for (intptr_t i = 0; i < 2; i++) {
    waiting_now = 0;
    pthread_t t = start(wait_token_async, (void *)i);
    UNTIL(waiting_count() == 1);
    pthread_cancel(t);
    say("%ld", (long)join_value(t));
    SAY_ERR("main locks", pthread_mutex_lock(&checked));
    SAY_ERR("main unlocks", pthread_mutex_unlock(&checked));
  }
}
static void cond_mutex_held(void) {
  for (intptr_t i = 0; i < 2; i++) {
    pthread_t t = start(wait_token, (void *)i);
    UNTIL(waiting_count() == i + 1);
    pthread_cancel(t);
    say("%ld", (long)join_value(t));
    SAY_ERR("free", pthread_mutex_trylock(&checked));
    pthread_mutex_unlock(&checked);
  }
}

/* A cancelled waiter takes no signal with it. */
static void cond_signal_not_eaten(void) {
  for (int i = 0; i < 20; i++) {
    waiting_now = 0;
    pthread_t a = start(wait_token, NULL), b = start(wait_token, NULL);
    UNTIL(waiting_count() == 2);
    pthread_cancel(a);
    pthread_mutex_lock(&checked);
    tokens++;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&checked);
    intptr_t ra = join_value(a);
    if (ra == 1) { /* it had the token before it saw that it is cancelled */
      pthread_mutex_lock(&checked);
      tokens++;
      pthread_cond_signal(&cond);
      pthread_mutex_unlock(&checked);
    }
    MUST(join_value(b) == 1);
  }
  tokens = 0;
}
static void cond_signals(void) {
  /* Which of them it is may differ: only that nobody is left waiting. */
  int out = dup(1), null = open("/dev/null", O_WRONLY);
  dup2(null, 1);
  cond_signal_not_eaten();
  dup2(out, 1);
  say("done");
}

static sem_t sem;
static void *wait_sem(void *arg) {
  sem_wait(&sem);
  return arg;
}
static void sem_value_kept(void) {
  int v = -1;
  sem_init(&sem, 0, 0);
  pthread_t t = start(wait_sem, NULL);
  nap(20);
  pthread_cancel(t);
  say("%ld", (long)join_value(t));
  sem_post(&sem);
  sem_getvalue(&sem, &v);
  say("value %d", v);
}

static void *join_peer(void *arg) {
  pthread_join(peer, NULL);
  return arg;
}
static void joined_by_another(void) {
  peer = start(wait_gate, (void *)12);
  pthread_t t = start(join_peer, NULL);
  nap(20);
  pthread_cancel(t);
  say("joiner %ld", (long)join_value(t));
  gate_open(&gate);
  say("peer %ld", (long)join_value(peer));
}

/* --- states and types --- */

static void states(void) {
  int old = -1;
  SAY_ERR("disable", pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
  say("was %d", old);
  SAY_ERR("enable", pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old));
  say("was %d", old);
  SAY_ERR("state 9", pthread_setcancelstate(9, &old));
  SAY_ERR("no old", pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL));
  SAY_ERR("async", pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old));
  say("was %d", old);
  SAY_ERR("deferred", pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old));
  say("was %d", old);
  SAY_ERR("type 9", pthread_setcanceltype(9, &old));
  SAY_ERR("no old", pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL));
}

static void *new_thread_states(void *arg) {
  int state = -1, type = -1;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  say("state %d type %d", state, type);
  return arg;
}
static void *leave_states(void *arg) {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  pthread_cancel(pthread_self());
  in_thread(new_thread_states, NULL); /* not inherited */
  return arg;
}
static void states_fresh(void) {
  for (int i = 0; i < 5; i++) say("%ld", (long)in_thread(leave_states, (void *)4));
  in_thread(new_thread_states, NULL); /* nor left behind */
}

static void *pending_until_point(void *arg) {
  pthread_cleanup_push(clean, NULL);
  pthread_cancel(pthread_self());
  reached = 1;
  volatile int n = 0;
  for (int i = 0; i < 1000000; i++) n += i & 1;
  pthread_mutex_lock(&checked);
  pthread_mutex_unlock(&checked);
  reached = 2;
  pthread_testcancel();
  reached = 3;
  pthread_cleanup_pop(0);
  return arg;
}
static void pending_till_testcancel(void) {
  say("%ld", (long)in_thread(pending_until_point, NULL));
  say("reached %d, cleaned %d", reached, cleaned);
}

static void *disabled_then_enabled(void *arg) {
  pthread_cleanup_push(clean, NULL);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  pthread_cancel(pthread_self());
  pthread_testcancel();
  nap(2);
  reached = 1;
  if (arg) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached = 2;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
  reached = 3;
  nap(2);
  reached = 4;
  pthread_cleanup_pop(0);
  return NULL;
}
static void disabled_for_a_while(void) {
  for (intptr_t i = 0; i < 2; i++) {
    cleaned = 0;
    say("%ld", (long)in_thread(disabled_then_enabled, (void *)i));
    say("reached %d, cleaned %d", reached, cleaned);
  }
}

static void *async_at_settype(void *arg) {
  pthread_cancel(pthread_self());
  reached = 1;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached = 2;
  return arg;
}
static void *async_self(void *arg) {
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached = 1;
  pthread_cancel(pthread_self());
  reached = 2;
  return arg;
}
static void async_at_once(void) {
  say("%ld", (long)in_thread(async_at_settype, NULL));
  say("reached %d", reached);
  say("%ld", (long)in_thread(async_self, NULL));
  say("reached %d", reached);
}

static void *spin(void *arg) {
  pthread_cleanup_push(clean, NULL);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached++;
  for (volatile unsigned long n = 0;; n++) {
  }
  pthread_cleanup_pop(0);
  return arg;
}
static void async_spinners(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(spin, NULL);
  UNTIL(reached == 4);
  for (int i = 0; i < 4; i++) SAY_ERR("cancel", pthread_cancel(t[i]));
  for (int i = 0; i < 4; i++) say("%ld", (long)join_value(t[i]));
  say("cleaned %d", cleaned);
}

/* After a signal, which free mode knows it by. */
static void on_nothing(int sig) { (void)sig; }
static void *signalled_spinner(void *arg) {
  raise(SIGUSR1);
  return spin(arg);
}
static void async_signalled_spinners(void) {
  pthread_t t[4];
  signal(SIGUSR1, on_nothing);
  for (int round = 0; round < 5; round++) {
    reached = 0;
    for (int i = 0; i < 4; i++) t[i] = start(signalled_spinner, NULL);
    UNTIL(reached == 4);
    for (int i = 0; i < 4; i++) SAY_ERR("cancel", pthread_cancel(t[i]));
    for (int i = 0; i < 4; i++) say("%ld", (long)join_value(t[i]));
  }
  say("cleaned %d", cleaned);
}

static void *spin_at_points(void *arg) {
  pthread_cleanup_push(clean, NULL);
  reached++;
  for (;;) pthread_testcancel();
  pthread_cleanup_pop(0);
  return arg;
}
static void deferred_spinners(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(spin_at_points, NULL);
  UNTIL(reached == 4);
  for (int i = 0; i < 4; i++) pthread_cancel(t[i]);
  for (int i = 0; i < 4; i++) say("%ld", (long)join_value(t[i]));
  say("cleaned %d", cleaned);
}

static void *async_blocked(void *arg) {
  char c;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached++;
  if (arg) {
    pthread_mutex_lock(&checked); /* no point for deferred cancellation */
  } else {
    (void)!read(fds[0], &c, 1);
  }
  return NULL;
}
static void async_in_calls(void) {
  open_pipe();
  pthread_t t = start(async_blocked, NULL);
  UNTIL(reached == 1);
  nap(20);
  pthread_cancel(t);
  say("%ld", (long)join_value(t));
}

/* Waits that are no points for deferred cancellation are for asynchronous. */
enum { A_MUTEX, A_TIMED_MUTEX, A_RECURSIVE, A_READER, A_WRITER, A_BARRIER, A_ONCE, A_MTX, A_SECOND, A_WAITS };
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, held_recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t held_to_read = PTHREAD_RWLOCK_INITIALIZER, held_to_write = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t two;
static pthread_once_t at_once_wait = PTHREAD_ONCE_INIT;
static mtx_t held_mtx;
static void once_at_gate(void) { gate_pass(&gate); }
static void *run_once(void *arg) {
  pthread_once(&at_once_wait, once_at_gate);
  return arg;
}
static void wait_async(int what) {
  struct timespec until = in_ms(CLOCK_REALTIME, 20000);
  if (what == A_MUTEX) pthread_mutex_lock(&held);
  if (what == A_TIMED_MUTEX) pthread_mutex_timedlock(&held, &until);
  if (what == A_RECURSIVE) pthread_mutex_lock(&held_recursive);
  if (what == A_READER) pthread_rwlock_rdlock(&held_to_write);
  if (what == A_WRITER) pthread_rwlock_wrlock(&held_to_read);
  if (what == A_BARRIER) pthread_barrier_wait(&two);
  if (what == A_ONCE) pthread_once(&at_once_wait, once_at_gate);
  if (what == A_MTX) mtx_lock(&held_mtx);
  if (what == A_SECOND) {
    pthread_mutex_t inner = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&inner);
    pthread_mutex_lock(&held);
  }
}
static void *async_waits(void *arg) {
  int what = (int)(intptr_t)arg;
  pthread_cleanup_push(clean, NULL);
  if (what >= A_WAITS) raise(SIGUSR1); /* free mode knows it otherwise from now on */
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached++;
  wait_async(what % A_WAITS);
  pthread_cleanup_pop(0);
  return NULL;
}
static void async_in_waits(void) {
  signal(SIGUSR1, on_nothing);
  pthread_mutex_lock(&held);
  pthread_mutex_lock(&held_recursive);
  pthread_rwlock_rdlock(&held_to_read);
  pthread_rwlock_wrlock(&held_to_write);
  mtx_init(&held_mtx, mtx_plain);
  mtx_lock(&held_mtx);
  pthread_t runner = start(run_once, NULL);
  gate_await(&gate, 1);
  for (intptr_t i = 0; i < 2 * A_WAITS; i++) {
    reached = 0;
    pthread_barrier_init(&two, NULL, 2); /* who was cancelled had come */
    pthread_t t = start(async_waits, (void *)i);
    UNTIL(reached == 1);
    if (i % 3) nap(10);
    pthread_cancel(t);
    if (join_value(t) != (intptr_t)PTHREAD_CANCELED) say("%ld: not cancelled", (long)i);
  }
  say("cleaned %d", cleaned);
  gate_open(&gate);
  pthread_join(runner, NULL);
  pthread_mutex_unlock(&held);
  SAY_ERR("lock", pthread_mutex_lock(&held));
  SAY_ERR("once", pthread_once(&at_once_wait, once_at_gate));
}

/* A wait with a time that is left so: nothing of it writes to the stack any more, when that time has come. */
static _Atomic int overwritten;
static void look_at_its_frames(void *arg) {
  volatile char mine[6000];
  for (size_t i = 0; i < sizeof mine; i++) mine[i] = 0x5a;
  nap(150);
  for (size_t i = 0; i < sizeof mine; i++) overwritten += mine[i] != 0x5a;
  clean(arg);
}
static void *async_timed_wait(void *arg) {
  pthread_cleanup_push(look_at_its_frames, NULL);
  raise(SIGUSR1); /* free mode knows it otherwise from now on */
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached++;
  struct timespec until = in_ms(CLOCK_REALTIME, 100);
  pthread_mutex_timedlock(&held, &until);
  pthread_cleanup_pop(0);
  return arg;
}
static void async_in_timed_waits(void) {
  pthread_t t[24];
  signal(SIGUSR1, on_nothing);
  pthread_mutex_lock(&held);
  for (int i = 0; i < 24; i++) {
    int before = reached;
    t[i] = start(async_timed_wait, NULL);
    UNTIL(reached == before + 1);
    pthread_cancel(t[i]);
  }
  for (int i = 0; i < 24; i++) pthread_join(t[i], NULL);
  say("overwritten %d, cleaned %d", overwritten, cleaned);
}

/* Many at once, who wait in a row, and others go on. */
static _Atomic int went_on;
static void *lock_in_a_row(void *arg) {
  if (arg) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  reached++;
  pthread_mutex_lock(&held);
  went_on++;
  pthread_mutex_unlock(&held);
  return NULL;
}
static void async_out_of_a_row(void) {
  pthread_t t[12];
  int n = 0;
  for (int round = 0; round < 5; round++) {
    reached = went_on = 0;
    pthread_mutex_lock(&held);
    for (intptr_t i = 0; i < 12; i++) t[i] = start(lock_in_a_row, (void *)(i % 2));
    UNTIL(reached == 12);
    nap(5);
    for (int i = 1; i < 12; i += 2) pthread_cancel(t[i]);
    for (int i = 1; i < 12; i += 2) n += join_value(t[i]) == (intptr_t)PTHREAD_CANCELED;
    pthread_mutex_unlock(&held);
    for (int i = 0; i < 12; i += 2) pthread_join(t[i], NULL);
    MUST(went_on == 6);
  }
  say("cancelled %d", n);
}

/* --- who can be cancelled, and when --- */

static void *forever(void *arg) {
  for (;;) pause();
  return arg;
}
static void before_it_starts(void) {
  int n = 0;
  for (int i = 0; i < 100; i++) {
    pthread_t t = start(forever, NULL);
    MUST(pthread_cancel(t) == 0);
    n += join_value(t) == (intptr_t)PTHREAD_CANCELED;
  }
  say("cancelled %d", n);
}

static void *give(void *arg) {
  reached++;
  return arg;
}
static void ended_not_joined(void) {
  pthread_t t = start(give, (void *)8);
  UNTIL(reached == 1);
  nap(20);
  SAY_ERR("cancel", pthread_cancel(t));
  say("%ld", (long)join_value(t));
}

static void twice(void) {
  pthread_t t = start(forever, NULL);
  SAY_ERR("cancel", pthread_cancel(t));
  SAY_ERR("again", pthread_cancel(t));
  say("%ld", (long)join_value(t));
}

static void *detached_cleaned(void *arg) {
  pthread_cleanup_push(clean, NULL);
  reached++;
  for (;;) pause();
  pthread_cleanup_pop(0);
  return arg;
}
static void detached(void) {
  pthread_t t = start(detached_cleaned, NULL);
  UNTIL(reached == 1);
  pthread_detach(t);
  SAY_ERR("cancel", pthread_cancel(t));
  UNTIL(cleaned == 1);
  say("cleaned");
}

static void *signals_blocked(void *arg) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  reached++;
  for (;;) pause();
  return arg;
}
static void with_all_signals_blocked(void) {
  pthread_t t = start(signals_blocked, NULL);
  UNTIL(reached == 1);
  pthread_cancel(t);
  say("%ld", (long)join_value(t));
}

static pthread_t main_thread;
static void *cancel_main(void *arg) {
  void *r = NULL;
  SAY_ERR("cancel", pthread_cancel(main_thread));
  SAY_ERR("join", pthread_join(main_thread, &r));
  say("main %ld, cleaned %d", (long)(intptr_t)r, cleaned);
  return arg;
}
static void main_cancelled(void) {
  main_thread = pthread_self();
  pthread_cleanup_push(clean, NULL);
  start(cancel_main, NULL);
  for (;;) pause();
  pthread_cleanup_pop(0);
}

static void on_signal(int sig) {
  (void)sig;
  reached++;
}
static void *read_or_handle(void *arg) {
  char c;
  struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &a, NULL);
  reached++;
  (void)!read(fds[0], &c, 1);
  return arg;
}
static void after_handlers(void) {
  open_pipe();
  pthread_t t = start(read_or_handle, NULL);
  UNTIL(reached == 1);
  for (int i = 0; i < 3; i++) {
    pthread_kill(t, SIGUSR1);
    UNTIL(reached == i + 2);
  }
  pthread_cancel(t);
  say("%ld", (long)join_value(t));
}

/* --- cleanup handlers --- */

static void say_clean(void *arg) { say("clean %s", (char *)arg); }
static void *push_and_pop(void *arg) {
  intptr_t way = (intptr_t)arg;
  pthread_cleanup_push(say_clean, "outer");
  pthread_cleanup_push(say_clean, "popped, not run");
  pthread_cleanup_pop(0);
  pthread_cleanup_push(say_clean, "popped and run");
  pthread_cleanup_pop(1);
  pthread_cleanup_push(say_clean, "inner");
  if (way == 1) pthread_exit((void *)2);
  if (way == 2) {
    pthread_cancel(pthread_self());
    pthread_testcancel();
  }
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  return (void *)1;
}
static void cleanup_order(void) {
  for (intptr_t i = 0; i < 3; i++) say("%ld", (long)in_thread(push_and_pop, (void *)i));
}

static void clean_and_block(void *arg) {
  char c;
  nap(5);
  pthread_testcancel();
  MUST(write(fds[1], "x", 1) == 1 && read(fds[0], &c, 1) == 1);
  MUST(in_thread(give, (void *)3) == 3);
  say("cleaned after blocking: %s", (char *)arg);
}
static void *block_in_cleanup(void *arg) {
  pthread_cleanup_push(clean_and_block, "first pushed");
  pthread_cleanup_push(clean_and_block, "second pushed");
  pthread_cancel(pthread_self());
  reached = 1;
  for (;;) pause();
  pthread_cleanup_pop(0);
  pthread_cleanup_pop(0);
  return arg;
}
static void cleanup_blocks(void) {
  open_pipe();
  pthread_t t = start(block_in_cleanup, NULL);
  UNTIL(reached >= 1); /* the handlers' threads count on */
  pthread_cancel(t);   /* in the midst of it: it is not cancelled again */
  say("%ld", (long)join_value(t));
}

static void *defer(void *arg) {
  int type = -1;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  pthread_cleanup_push_defer_np(say_clean, "deferred");
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  say("within: type %d", type);
  pthread_cleanup_pop_restore_np(1);
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  say("after: type %d", type);
  return arg;
}
static void cleanup_deferred(void) { in_thread(defer, NULL); }

static pthread_key_t key;
static void say_key(void *arg) { say("key %ld", (long)(intptr_t)arg); }
static void *clean_then_key(void *arg) {
  pthread_setspecific(key, (void *)5);
  pthread_cleanup_push(say_clean, "before the key");
  if (arg) pthread_exit(NULL);
  pthread_cancel(pthread_self());
  pthread_testcancel();
  pthread_cleanup_pop(0);
  return NULL;
}
static void cleanup_before_keys(void) {
  pthread_key_create(&key, say_key);
  in_thread(clean_then_key, NULL);
  in_thread(clean_then_key, (void *)1);
}

static void in_a_child(void) {
  pid_t p = fork();
  if (p == 0) {
    pthread_t t = start(detached_cleaned, NULL);
    UNTIL(reached == 1);
    pthread_cancel(t);
    _exit(join_value(t) == -1 && cleaned == 1 ? 5 : 6);
  }
  say_wait("child", p);
}

static char command[80];
static void *commands(void *arg) {
  int old;
  if (arg) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
  pthread_cleanup_push(clean, NULL);
  say("system %d", system(command));
  pthread_cleanup_pop(0);
  return NULL;
}
/* The command of a system that is cancelled is gone, when that thread is. */
static void system_ends(void) {
  char c;
  open_pipe();
  snprintf(command, sizeof command, "echo >&%d; exec sleep 1000", fds[1]);
  pthread_t t = start(commands, NULL);
  MUST(read(fds[0], &c, 1) == 1);
  close(fds[1]);
  pthread_cancel(t);
  bool cancelled = join_value(t) == -1;
  say("cancelled %d, cleaned %d", cancelled, cleaned);
  say("read %zd", read(fds[0], &c, 1));
  SAY_CALL("a child", waitpid(-1, NULL, WNOHANG));
}
static void system_goes_on(void) {
  char c;
  open_pipe();
  snprintf(command, sizeof command, "echo >&%d; sleep 0.1; exit 7", fds[1]);
  pthread_t t = start(commands, (void *)1);
  MUST(read(fds[0], &c, 1) == 1);
  pthread_cancel(t);
  bool cancelled = join_value(t) == -1;
  say("cancelled %d, cleaned %d", cancelled, cleaned);
}

const struct check cancel_checks[] = {
    CHECK(waits_files),
    CHECK(waits_ipc),
    CHECK(waits_stdio),
    CHECK(waits_threads),
    CHECK(cond_mutex_held),
    CHECK(cond_mutex_held_async),
    CHECK(cond_signals),
    CHECK(sem_value_kept),
    CHECK(joined_by_another),
    CHECK(states),
    CHECK(states_fresh),
    CHECK(pending_till_testcancel),
    CHECK(disabled_for_a_while),
    CHECK(async_at_once),
    CHECK(async_spinners),
    CHECK(async_signalled_spinners),
    CHECK(deferred_spinners),
    CHECK(async_in_calls),
    CHECK(async_in_waits),
    CHECK(async_in_timed_waits),
    CHECK(async_out_of_a_row),
    CHECK(before_it_starts),
    CHECK(ended_not_joined),
    CHECK(twice),
    CHECK(detached),
    CHECK(with_all_signals_blocked),
    CHECK(main_cancelled),
    CHECK(after_handlers),
    CHECK(cleanup_order),
    CHECK(cleanup_blocks),
    CHECK(cleanup_deferred),
    CHECK(cleanup_before_keys),
    CHECK(in_a_child),
    CHECK(system_ends),
    CHECK(system_goes_on),
    CHECKS_END,
};
