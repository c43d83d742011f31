/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and the process around them: names, clocks, affinity, credentials of one thread, fork, exec, spawn. */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "checks.h"

/* NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): vfork is what is tested */
extern char **environ;

static struct gate gate = GATE_CLOSED;
static _Atomic bool stop;
static _Atomic long counter;

static void *wait_at_gate(void *arg) {
  gate_pass(&gate);
  return arg;
}
static void *echo(void *arg) { return arg; }

/* --- names --- */

static void *named_thread(void *arg) {
  char name[16] = "", by_prctl[16] = "";
  pthread_getname_np(pthread_self(), name, sizeof name);
  say("begins as %s", name);
  SAY_ERR("set own", pthread_setname_np(pthread_self(), "worker"));
  prctl(PR_GET_NAME, by_prctl);
  say("by prctl %s", by_prctl);
  SAY_CALL("set by prctl", prctl(PR_SET_NAME, "other"));
  pthread_getname_np(pthread_self(), name, sizeof name);
  say("name %s", name);
  gate_pass(&gate);
  pthread_getname_np(pthread_self(), name, sizeof name);
  say("renamed %s", name);
  return arg;
}
static void names(void) {
  char name[16] = "";
  SAY_ERR("main", pthread_setname_np(pthread_self(), "the-main-thread"));
  pthread_t t = start(named_thread, NULL);
  gate_await(&gate, 1);
  SAY_ERR("get", pthread_getname_np(t, name, sizeof name));
  say("other's %s", name);
  SAY_ERR("small buffer", pthread_getname_np(t, name, 3));
  SAY_ERR("too long", pthread_setname_np(t, "sixteen letters!"));
  SAY_ERR("set", pthread_setname_np(t, "fifteen-letters"));
  SAY_ERR("get", pthread_getname_np(t, name, sizeof name));
  say("other's %s", name);
  gate_open(&gate);
  pthread_join(t, NULL);
  pthread_getname_np(pthread_self(), name, sizeof name);
  say("main's %s", name);
  gate.open = true;
  in_thread(named_thread, NULL); /* not what the last one was called */
}

/* --- clocks --- */

static int64_t clock_ns(clockid_t c) {
  struct timespec ts = {0, 0};
  MUST(clock_gettime(c, &ts) == 0);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}
static _Atomic int phase;
static void *spin_some(void *arg) {
  clockid_t own;
  MUST(pthread_getcpuclockid(pthread_self(), &own) == 0);
  int64_t t0 = clock_ns(CLOCK_THREAD_CPUTIME_ID), last = t0;
  int back = 0;
  while (last - t0 < 40000000) {
    int64_t now = clock_ns(own);
    back += now < last;
    last = now;
  }
  struct rusage u;
  getrusage(RUSAGE_THREAD, &u);
  say("went back %d; rusage at least 30 ms %d", back,
      (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000 >= 30);
  phase = 1;
  gate_pass(&gate);
  return arg;
}
static void cpu_clocks(void) {
  clockid_t c, w;
  pthread_t waiter = start(wait_at_gate, NULL);
  gate_await(&gate, 1);
  MUST(pthread_getcpuclockid(waiter, &w) == 0);
  int64_t w0 = clock_ns(w);
  pthread_t t = start(spin_some, NULL);
  SAY_ERR("get", pthread_getcpuclockid(t, &c));
  UNTIL(phase == 1);
  int64_t used = clock_ns(c);
  say("spinner at least 40 ms: %d", used >= 40000000);
  nap(30);
  say("then nothing: %d", clock_ns(c) - used < 20000000);
  say("waiter nothing: %d", clock_ns(w) - w0 < 20000000);
  struct timespec res;
  SAY_CALL("resolution", clock_getres(c, &res));
  say("process at least 40 ms: %d", clock_ns(CLOCK_PROCESS_CPUTIME_ID) >= 40000000);
  gate_open(&gate);
  pthread_join(t, NULL);
  pthread_join(waiter, NULL);
}

static void *begin_clock(void *arg) {
  (void)arg;
  return (void *)(intptr_t)(clock_ns(CLOCK_THREAD_CPUTIME_ID) < 20000000);
}
static void cpu_clock_begins(void) {
  phase = 0;
  gate_open(&gate);
  in_thread(spin_some, NULL);
  for (int i = 0; i < 3; i++) say("near nothing %ld", (long)in_thread(begin_clock, NULL));
}

static void compute_ms(int ms) {
  int64_t from = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  while (clock_ns(CLOCK_THREAD_CPUTIME_ID) - from < ms * 1000000) continue;
}

/* Computes until it is told to stop; reads its own clock by each name that it has. */
static _Atomic bool spin_stop, spinning;
static void *spin_on(void *arg) {
  clockid_t own;
  MUST(pthread_getcpuclockid(pthread_self(), &own) == 0);
  int64_t last = 0;
  int back = 0;
  for (unsigned i = 0; !spin_stop; i++) {
    int64_t now = clock_ns(i % 2 ? own : CLOCK_THREAD_CPUTIME_ID);
    back += now < last;
    last = now;
    spinning = true;
  }
  say("spinner's went back %d", back);
  return arg;
}
/* Until it has grown by so many ms. */
static void await_clock(clockid_t c, int ms) {
  int64_t from = clock_ns(c);
  UNTIL(clock_ns(c) - from >= ms * 1000000);
}

static clockid_t read_by;
static void *reads_other(void *arg) {
  int64_t from = clock_ns(read_by), last = from;
  int back = 0;
  while (last - from < 20000000) {
    int64_t now = clock_ns(read_by);
    back += now < last;
    last = now;
    if (arg) nap(1);
  }
  say("reader's went back %d", back);
  return arg;
}
static void cpu_clock_of_another(void) {
  pthread_t t = start(spin_on, NULL);
  clockid_t main_clock;
  UNTIL(spinning);
  SAY_ERR("get", pthread_getcpuclockid(t, &read_by));
  await_clock(read_by, 20);
  in_thread(reads_other, NULL);
  in_thread(reads_other, t ? &read_by : NULL);
  reads_other(NULL);
  SAY_ERR("of main", pthread_getcpuclockid(pthread_self(), &main_clock));
  read_by = main_clock;
  reads_other(NULL);
  spin_stop = true;
  pthread_join(t, NULL);
}

/* Threads of which nobody asked until they have computed at a stretch: all that the process has used is theirs. */
static int64_t at_the_end[4];
static void *spin_asking_last(void *arg) {
  int64_t from = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  while (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - from < 200000000) continue;
  gate_pass(&gate);
  *(int64_t *)arg = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  return arg;
}
static void say_at_the_end(int threads) {
  pthread_t t[4];
  int64_t sum = 0;
  gate_open(&gate);
  for (int i = 0; i < threads; i++) t[i] = start(spin_asking_last, &at_the_end[i]);
  for (int i = 0; i < threads; i++) join_value(t[i]);
  for (int i = 0; i < threads; i++) sum += at_the_end[i];
  say("at least 100 ms: %d, at most the process's: %d", sum >= 100000000, sum <= clock_ns(CLOCK_PROCESS_CPUTIME_ID));
}
static void cpu_clock_at_the_end(void) { say_at_the_end(1); }
static void cpu_clocks_at_the_end(void) { say_at_the_end(4); }

static void *read_in_child(void *arg) {
  compute_ms(20);
  pid_t pid = vfork();
  if (pid == 0) _exit(clock_ns(CLOCK_THREAD_CPUTIME_ID) < 15000000);
  int status = -1;
  MUST(waitpid(pid, &status, 0) == pid);
  say("child's near nothing %d, parent's goes on %d", WEXITSTATUS(status), clock_ns(CLOCK_THREAD_CPUTIME_ID) >= 20000000);
  return arg;
}
static void cpu_clock_after_vfork(void) { in_thread(read_in_child, NULL); }

/* Short turns between waits. */
#define TURNERS 4
static pthread_mutex_t turn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_cond = PTHREAD_COND_INITIALIZER;
static int turn;
static int64_t turned_ns[TURNERS];
static void *take_turns(void *arg) {
  int self = (int)(intptr_t)arg, back = 0;
  int64_t last = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < 500; i++) {
    pthread_mutex_lock(&turn_lock);
    while (turn % TURNERS != self) pthread_cond_wait(&turn_cond, &turn_lock);
    int64_t from = now_ns();
    while (now_ns() - from < 20000) continue;
    turn++;
    pthread_cond_broadcast(&turn_cond);
    pthread_mutex_unlock(&turn_lock);
    if (i % 16) continue;
    int64_t now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    back += now < last;
    last = now;
  }
  turned_ns[self] = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  return (void *)(intptr_t)back;
}
static void cpu_clocks_in_turns(void) {
  pthread_t t[TURNERS];
  int64_t sum = 0, process = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  long back = 0, little = 0;
  for (int i = 0; i < TURNERS; i++) t[i] = start(take_turns, (void *)(intptr_t)i);
  for (int i = 0; i < TURNERS; i++) back += join_value(t[i]);
  process = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - process;
  for (int i = 0; i < TURNERS; i++) {
    sum += turned_ns[i];
    little += turned_ns[i] < 500000;
  }
  say("went back %ld, too little %ld, more than the process %d, less than half of it %d", back, little, sum > process + process / 8,
      sum < process / 2);
}

static _Atomic int handled;
static void count_signal(int sig) {
  (void)sig;
  handled++;
}
/* What makes it a thread of the kernel's in free mode leaves its clock as it is. */
static void *wired_clock(void *arg) {
  clockid_t own;
  struct rusage u, v;
  compute_ms(20);
  MUST(pthread_getcpuclockid(pthread_self(), &own) == 0);
  getrusage(RUSAGE_THREAD, &u);
  int64_t before = clock_ns(own), after;
  if (arg)
    raise(SIGUSR1);
  else
    MUST(prctl(PR_SET_TIMERSLACK, 50000L) == 0);
  after = clock_ns(own);
  say("handled %d, back %d, forward %d", handled, after<before, after - before> 15000000);
  int64_t t = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  say("by the other name %d", t >= after && t - after < 15000000);
  compute_ms(20);
  say("goes on %d", clock_ns(own) - after >= 20000000);
  getrusage(RUSAGE_THREAD, &v);
  int64_t more = (v.ru_utime.tv_sec + v.ru_stime.tv_sec - u.ru_utime.tv_sec - u.ru_stime.tv_sec) * 1000000LL + v.ru_utime.tv_usec +
                 v.ru_stime.tv_usec - u.ru_utime.tv_usec - u.ru_stime.tv_usec;
  say("rusage %d", more >= 15000);
  gate_pass(&gate);
  nap(20);
  say("at rest %d", clock_ns(own) - t < 35000000);
  return arg;
}
static void cpu_clock_when_wired(void) {
  signal(SIGUSR1, count_signal);
  for (int i = 0; i < 4; i++) {
    clockid_t c;
    gate.open = false;
    gate.arrived = 0;
    pthread_t t = start(wired_clock, i % 2 ? NULL : &gate);
    gate_await(&gate, 1);
    MUST(pthread_getcpuclockid(t, &c) == 0);
    say("from outside %d", clock_ns(c) >= 40000000);
    gate_open(&gate);
    pthread_join(t, NULL);
  }
}

static void *compute_some(void *arg) {
  compute_ms(10);
  gate_pass(&gate);
  return arg;
}
static void cpu_clock_ended(void) {
  clockid_t c, d;
  struct timespec ts = {0, 1000};
  pthread_t t = start(compute_some, NULL);
  gate_await(&gate, 1);
  SAY_ERR("get", pthread_getcpuclockid(t, &c));
  say("used %d", clock_ns(c) >= 10000000);
  gate_open(&gate);
  UNTIL(pthread_getcpuclockid(t, &d) != 0);
  SAY_ERR("ended", pthread_getcpuclockid(t, &d));
  SAY_CALL("clock", clock_gettime(c, &ts));
  pthread_join(t, NULL);
  SAY_CALL("joined", clock_gettime(c, &ts));
  SAY_CALL("raw", syscall(SYS_clock_gettime, c, &ts));
  SAY_CALL("resolution", clock_getres(c, &ts));
  SAY_ERR("sleep", clock_nanosleep(c, 0, &ts, NULL));
  timer_t timer;
  SAY_CALL("timer", timer_create(c, NULL, &timer));
  /* whose identity may be the same */
  for (int i = 0; i < 3; i++) {
    gate.open = false;
    gate.arrived = 0;
    pthread_t next = start(wait_at_gate, NULL);
    gate_await(&gate, 1);
    SAY_CALL("of the last", clock_gettime(c, &ts));
    MUST(pthread_getcpuclockid(next, &d) == 0);
    say("begins near nothing %d", clock_ns(d) < 10000000);
    c = d;
    gate_open(&gate);
    pthread_join(next, NULL);
  }
}

static _Atomic bool wants_signal;
static void *sleeps_on_clock(void *arg) {
  clockid_t c = *(clockid_t *)arg, own;
  struct timespec ts = {0, 20000000}, left = {0, 0};
  int64_t from = clock_ns(c);
  SAY_ERR("relative", clock_nanosleep(c, 0, &ts, NULL));
  int64_t to = clock_ns(c);
  say("so long %d", to - from >= 20000000);
  to += 20000000;
  ts = (struct timespec){to / 1000000000, to % 1000000000};
  SAY_ERR("absolute", clock_nanosleep(c, TIMER_ABSTIME, &ts, NULL));
  say("so long %d", clock_ns(c) >= to);
  SAY_ERR("over", clock_nanosleep(c, TIMER_ABSTIME, &ts, NULL));
  SAY_CALL("raw", syscall(SYS_clock_nanosleep, c, TIMER_ABSTIME, &ts, NULL));
  ts.tv_nsec = 1000000000;
  SAY_ERR("no time", clock_nanosleep(c, 0, &ts, NULL));
  ts = (struct timespec){0, 1000};
  MUST(pthread_getcpuclockid(pthread_self(), &own) == 0);
  SAY_ERR("own", clock_nanosleep(own, 0, &ts, NULL));
  SAY_ERR("own", clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL));
  ts.tv_sec = 1000;
  wants_signal = true;
  SAY_ERR("interrupted", clock_nanosleep(c, 0, &ts, &left));
  say("most is left %d", left.tv_sec > 900);
  return arg;
}
static void cpu_clock_sleep(void) {
  clockid_t c;
  pthread_t spinner = start(spin_on, NULL);
  MUST(pthread_getcpuclockid(spinner, &c) == 0);
  UNTIL(spinning);
  signal(SIGUSR1, count_signal);
  pthread_t t = start(sleeps_on_clock, &c);
  for (;;) {
    nap(20);
    if (pthread_tryjoin_np(t, NULL) == 0) break;
    if (wants_signal) pthread_kill(t, SIGUSR1);
  }
  spin_stop = true;
  pthread_join(spinner, NULL);
}

static clockid_t timed_clock;
static void *timed_thread(void *arg) {
  const bool absolute = arg != NULL;
  timer_t by_name, by_id;
  struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
  compute_ms(15);
  MUST(pthread_getcpuclockid(pthread_self(), &timed_clock) == 0);
  SAY_CALL("by name", timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &by_name));
  SAY_CALL("by id", timer_create(timed_clock, &ev, &by_id));
  for (int i = 0; i < 2; i++) {
    int64_t now = clock_ns(timed_clock), at = now + 20000000, set = absolute ? at : 20000000;
    struct itimerspec its = {.it_value = {set / 1000000000, set % 1000000000}}, left;
    SAY_CALL("set", timer_settime(i ? by_id : by_name, absolute ? TIMER_ABSTIME : 0, &its, NULL));
    SAY_CALL("left", timer_gettime(i ? by_id : by_name, &left));
    say("some %d", left.it_value.tv_sec == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 20000000);
    gate_pass(&gate); /* waits do not count */
    nap(30);
    while (spin_stop == false) continue;
    spin_stop = false;
    say("not before %d, soon after %d", clock_ns(timed_clock) >= at, clock_ns(timed_clock) < at + 200000000);
  }
  SAY_CALL("delete", timer_delete(by_name));
  SAY_CALL("delete", timer_delete(by_id));
  return arg;
}
static void cpu_clock_timer(void) {
  sigset_t set;
  int sig;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  gate_open(&gate);
  for (int i = 0; i < 2; i++) {
    pthread_t t = start(timed_thread, i ? &gate : NULL);
    for (int k = 0; k < 2; k++) {
      MUST(sigwait(&set, &sig) == 0);
      spin_stop = true;
    }
    pthread_join(t, NULL);
  }
}

static void *clock_after_fork(void *arg) {
  clockid_t own, childs;
  compute_ms(30);
  MUST(pthread_getcpuclockid(pthread_self(), &own) == 0);
  if (arg) raise(SIGUSR1);
  pid_t pid = fork();
  if (pid == 0) {
    struct timespec ts;
    say("child's near nothing %d", clock_ns(CLOCK_THREAD_CPUTIME_ID) < 25000000);
    SAY_CALL("parent's", clock_gettime(own, &ts));
    SAY_ERR("own", pthread_getcpuclockid(pthread_self(), &childs));
    say("near nothing %d", clock_ns(childs) < 25000000);
    compute_ms(5);
    say("goes on %d", clock_ns(childs) >= 5000000);
    in_thread(begin_clock, NULL);
    _exit(0);
  }
  waitpid(pid, NULL, 0);
  say("parent's goes on %d", clock_ns(own) >= 30000000);
  return arg;
}
static void cpu_clock_after_fork(void) {
  signal(SIGUSR1, count_signal);
  in_thread(clock_after_fork, NULL);
  in_thread(clock_after_fork, &handled);
}

static void *raw_clocks(void *arg) {
  clockid_t own, made = (clockid_t)((~(unsigned)gettid() << 3) | 6);
  struct timespec ts;
  compute_ms(20);
  MUST(pthread_getcpuclockid(pthread_self(), &own) == 0);
  say("made of the tid %d", own == made);
  SAY_CALL("raw", syscall(SYS_clock_gettime, own, &ts));
  say("used %d", ts.tv_nsec >= 20000000);
  SAY_CALL("raw", syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts));
  say("used %d", ts.tv_nsec >= 20000000);
  SAY_CALL("bad", syscall(SYS_clock_gettime, own, (struct timespec *)8));
  SAY_CALL("resolution", syscall(SYS_clock_getres, own, &ts));
  say("1 ns %d", ts.tv_sec == 0 && ts.tv_nsec == 1);
  SAY_CALL("no resolution", clock_getres(own, NULL));
  struct rusage u;
  SAY_CALL("rusage", syscall(SYS_getrusage, RUSAGE_THREAD, &u));
  say("used %d", u.ru_utime.tv_usec + u.ru_stime.tv_usec >= 15000);
  SAY_CALL("no such clock", clock_gettime((clockid_t)((~0x3ffffeu << 3) | 6), &ts));
  SAY_CALL("no such clock", clock_gettime(77, &ts));
  return arg;
}
static void cpu_clocks_raw(void) {
  in_thread(raw_clocks, NULL);
  raw_clocks(NULL);
}

/* --- files of a thread --- */

/* The first line, without its end; of a file that begins with `key`, what comes after that. */
static void say_task_file(const char *dir, pid_t tid, const char *file, const char *key) {
  char path[64], line[128] = "";
  snprintf(path, sizeof path, "/proc/%s/task/%d/%s", dir, (int)tid, file);
  errno = 0;
  FILE *f = fopen(path, "re");
  if (!f) say("%s: %s", file, err(errno));
  if (!f) return;
  while (fgets(line, sizeof line, f) && key && strncmp(line, key, strlen(key)) != 0) continue;
  fclose(f);
  line[strcspn(line, "\n")] = 0;
  say("%s: %s", file, line);
}
static _Atomic pid_t task_tid;
static void *task_thread(void *arg) {
  char pid[16], text[64] = "";
  snprintf(pid, sizeof pid, "%d", (int)getpid());
  pthread_setname_np(pthread_self(), "with-files");
  compute_ms(2);
  task_tid = gettid();
  say_task_file("self", gettid(), "comm", NULL);
  say_task_file(pid, gettid(), "comm", NULL);
  snprintf(text, sizeof text, "/proc/self/task/%d/schedstat", (int)gettid());
  int fd = open(text, O_RDONLY | O_CLOEXEC);
  say("open %d, flags %d", fd >= 0, fcntl(fd, F_GETFD));
  MUST(read(fd, text, sizeof text - 1) > 0);
  close(fd);
  say("used %d", atoll(text) >= 2000000);
  gate_pass(&gate);
  say_task_file("self", gettid(), "status", "Name:");
  say_task_file("self", gettid(), "nothing", NULL);
  return arg;
}
static void task_files(void) {
  pthread_t t = start(task_thread, NULL);
  gate_await(&gate, 1);
  say_task_file("self", task_tid, "comm", NULL);
  gate_open(&gate);
  pthread_join(t, NULL);
  say_task_file("self", getpid(), "comm", NULL);
  say_task_file("1", task_tid, "comm", NULL);
}

/* --- the list of threads --- */

#define LISTED 4
static pid_t listed[LISTED];

static void *listed_thread(void *arg) {
  int i = (int)(intptr_t)arg;
  if (i == 0) SAY_ERR("nice", setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 1) ? errno : 0);
  listed[i] = (pid_t)syscall(SYS_gettid);
  gate_pass(&gate);
  return NULL;
}

/* How many entries there are from here on; of these in *known those of main and of `listed`. */
static int entries(DIR *d, int *known) {
  int n = 0;
  *known = 0;
  for (struct dirent *e; (e = readdir(d)); n++) {
    pid_t tid = atoi(e->d_name);
    *known += tid == getpid();
    for (int i = 0; i < LISTED; i++) *known += tid && tid == listed[i];
  }
  return n;
}

static int not_dots(const struct dirent *e) { return e->d_name[0] != '.'; }

static void threads_listed(void) {
  char path[40];
  snprintf(path, sizeof path, "/proc/%d/task", (int)getpid());
  pthread_t t[LISTED];
  for (int i = 0; i < LISTED; i++) t[i] = start(listed_thread, (void *)(intptr_t)i);
  gate_await(&gate, LISTED);
  int known;
  DIR *self = opendir("/proc/self/task"), *pid = opendir(path), *other = opendir("/proc/self/fd");
  MUST(self && pid && other);
  int n = entries(self, &known);
  say("self: %d, known %d", n, known);
  n = entries(pid, &known);
  say("pid: %d, known %d", n, known);
  say("then %d", readdir(self) != NULL);
  rewinddir(self);
  say("first %s", readdir(self)->d_name);
  long at = telldir(self);
  n = entries(self, &known);
  say("after it %d", n);
  seekdir(self, at);
  say("the same %d", entries(self, &known) == n);
  struct dirent **list;
  n = scandir("/proc/self/task", &list, not_dots, alphasort);
  say("scanned %d, in order %d", n, strcmp(list[0]->d_name, list[1]->d_name) < 0);
  say("of descriptors some %d", entries(other, &known) > 3 && scandir("/proc/self/fd", &list, NULL, alphasort) > 3);
  gate_open(&gate);
  for (int i = 0; i < LISTED; i++) pthread_join(t[i], NULL);
  UNTIL((rewinddir(self), entries(self, &known) == 3 && known == 1));
  say("closed %d %d %d", closedir(self), closedir(pid), closedir(other));
}

/* The links of the directory by all ways to ask. */
static void say_links(int proc, int task) {
  const char *dir = "/proc/self/task";
  struct stat st[7];
  struct statx x;
  MUST(stat(dir, &st[0]) == 0 && lstat("/proc/self/task/", &st[1]) == 0 && fstat(task, &st[2]) == 0 &&
       fstatat(AT_FDCWD, dir, &st[3], 0) == 0);
  MUST(fstatat(proc, "self/task/", &st[4], 0) == 0 && fstatat(task, "", &st[5], AT_EMPTY_PATH) == 0 && fstatat(task, ".", &st[6], 0) == 0);
  MUST(statx(proc, "self/task", 0, STATX_BASIC_STATS, &x) == 0);
  for (int i = 0; i < 7; i++) say("%d: %d", i, (int)st[i].st_nlink);
  say("statx %d", (int)x.stx_nlink);
}
/* What looks like it, but is of something else. */
static void say_other_links(void) {
  static const char *const others[] = {"/", "/proc", "/proc/1", "/proc/1/task", "/proc/self", "/proc/self/net", "/proc/self/task/.."};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    struct stat st, raw;
    MUST(stat(others[i], &st) == 0 && syscall(SYS_newfstatat, AT_FDCWD, others[i], &raw, 0) == 0);
    say("%s: the same %d", others[i], st.st_nlink == raw.st_nlink || i == 1); /* other processes begin and end */
  }
}
static int links_now(void) {
  struct stat st;
  return stat("/proc/self/task", &st) == 0 ? (int)st.st_nlink : -1;
}
static void threads_counted(void) {
  pthread_t t[LISTED];
  int proc = open("/proc", O_RDONLY | O_DIRECTORY), task = open("/proc/self/task", O_RDONLY | O_DIRECTORY), known;
  MUST(proc >= 0 && task >= 0);
  for (int i = 0; i < LISTED; i++) t[i] = start(listed_thread, (void *)(intptr_t)i);
  gate_await(&gate, LISTED);
  UNTIL(links_now() == LISTED + 3); /* the kernel's thread that a new one's identity came from may be there for a moment */
  say_links(proc, task);
  say_other_links();
  DIR *d = fdopendir(task);
  MUST(d);
  int n = entries(d, &known);
  say("listed %d, known %d", n, known);
  gate_open(&gate);
  for (int i = 0; i < LISTED; i++) pthread_join(t[i], NULL);
  UNTIL(links_now() == 3);
  say("alone %d", links_now());
  say("closed %d %d", closedir(d), close(proc));
}

/* --- in a new pid namespace, where /proc still has the old one's numbers --- */

static void seccomp_probe(void) {
  say("first %d", getpid() == 1);
  SAY_ERR("probe", prctl(PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, NULL) ? errno : 0);
  say("alone %d", links_now());
}
static void other_numbers(void) {
  char *argv[] = {"pthreads", "process:seccomp_probe", NULL};
  int status = -1;
  if (unshare(CLONE_NEWPID) < 0) {
    say("no namespace: %s", err(errno));
    return;
  }
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    execv(self_path, argv);
    _exit(9);
  }
  MUST(waitpid(pid, &status, 0) == pid);
  say("status %d", status);
}

static void concurrency(void) {
  say("%d", pthread_getconcurrency());
  SAY_ERR("set", pthread_setconcurrency(5));
  say("%d", pthread_getconcurrency());
  SAY_ERR("negative", pthread_setconcurrency(-1));
  say("%d", pthread_getconcurrency());
}

/* --- affinity --- */

static int first_cpu(void) {
  cpu_set_t s;
  MUST(pthread_getaffinity_np(pthread_self(), sizeof s, &s) == 0);
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &s)) return i;
  return -1;
}
static void *say_affinity(void *arg) {
  cpu_set_t s;
  SAY_ERR("get", pthread_getaffinity_np(pthread_self(), sizeof s, &s));
  say("pinned to one %d", CPU_COUNT(&s) == 1 && CPU_ISSET(*(int *)arg, &s));
  for (int i = 0; i < 3; i++) {
    say("runs on it %d", sched_getcpu() == *(int *)arg);
    nap(1);
  }
  return NULL;
}
static void *pin_self(void *arg) {
  cpu_set_t s;
  CPU_ZERO(&s);
  CPU_SET(*(int *)arg, &s);
  SAY_ERR("pin", pthread_setaffinity_np(pthread_self(), sizeof s, &s));
  say_affinity(arg);
  in_thread(say_affinity, arg);
  return NULL;
}
static void affinity(void) {
  int cpu = first_cpu();
  cpu_set_t s, none;
  CPU_ZERO(&none);
  in_thread(pin_self, &cpu);
  pthread_t t = start(wait_at_gate, NULL);
  CPU_ZERO(&s);
  CPU_SET(cpu, &s);
  SAY_ERR("pin other", pthread_setaffinity_np(t, sizeof s, &s));
  SAY_ERR("get other", pthread_getaffinity_np(t, sizeof none, &none));
  say("the same %d", CPU_EQUAL(&s, &none));
  CPU_ZERO(&none);
  SAY_ERR("none", pthread_setaffinity_np(t, sizeof none, &none));
  SAY_ERR("small", pthread_getaffinity_np(t, 1, &none));
  gate_open(&gate);
  pthread_join(t, NULL);
  pthread_attr_t a;
  pthread_attr_init(&a);
  SAY_ERR("attr", pthread_attr_setaffinity_np(&a, sizeof s, &s));
  CPU_ZERO(&none);
  SAY_ERR("attr get", pthread_attr_getaffinity_np(&a, sizeof none, &none));
  say("the same %d", CPU_EQUAL(&s, &none));
  MUST(pthread_create(&t, &a, say_affinity, &cpu) == 0);
  pthread_join(t, NULL);
}

/* What pthread_getattr_np says of its CPUs. */
static void say_attr_cpus(const char *what, pthread_t t) {
  cpu_set_t has, says;
  pthread_attr_t a;
  MUST(pthread_getaffinity_np(t, sizeof has, &has) == 0 && pthread_getattr_np(t, &a) == 0);
  SAY_ERR(what, pthread_attr_getaffinity_np(&a, sizeof says, &says));
  say("the same %d, all %d", CPU_EQUAL(&has, &says), CPU_COUNT(&says) == CPU_SETSIZE);
  pthread_attr_destroy(&a);
}
static void *attr_cpus_thread(void *arg) {
  cpu_set_t one;
  say_attr_cpus("own", pthread_self());
  gate_pass(&gate);
  CPU_ZERO(&one);
  CPU_SET(first_cpu(), &one);
  SAY_ERR("pin", pthread_setaffinity_np(pthread_self(), sizeof one, &one));
  say_attr_cpus("pinned", pthread_self());
  return arg;
}
static void affinity_by_getattr(void) {
  pthread_t t = start(attr_cpus_thread, NULL);
  gate_await(&gate, 1);
  say_attr_cpus("other's", t);
  say_attr_cpus("main's", pthread_self());
  gate_open(&gate);
  pthread_join(t, NULL);
}

/* Pinned by another while it does this and that; it goes on as if nothing had been. */
static atomic_int pinned_at; /* 0: not yet */
static void *spins(void *arg) {
  while (!atomic_load(&pinned_at)) continue;
  return say_affinity(arg);
}
static int pin_pipe[2];
static void *reads(void *arg) {
  char c = 0;
  say("read %zd", read(pin_pipe[0], &c, 1));
  return say_affinity(arg);
}
static sem_t pin_sem;
static void *waits_sem(void *arg) {
  SAY_CALL("sem_wait", sem_wait(&pin_sem));
  return say_affinity(arg);
}
static void affinity_of_others(void) {
  int cpu = first_cpu();
  cpu_set_t s;
  CPU_ZERO(&s);
  CPU_SET(cpu, &s);
  MUST(pipe(pin_pipe) == 0 && sem_init(&pin_sem, 0, 0) == 0);
  void *(*const fns[])(void *) = {spins, reads, waits_sem};
  pthread_t t[3];
  for (int i = 0; i < 3; i++) t[i] = start(fns[i], &cpu);
  nap(5);
  for (int i = 0; i < 3; i++) SAY_ERR("pin", pthread_setaffinity_np(t[i], sizeof s, &s));
  atomic_store(&pinned_at, 1);
  pthread_join(t[0], NULL);
  MUST(write(pin_pipe[1], "x", 1) == 1);
  pthread_join(t[1], NULL);
  sem_post(&pin_sem);
  pthread_join(t[2], NULL);
  cpu_set_t own, later;
  MUST(pthread_getaffinity_np(pthread_self(), sizeof own, &own) == 0);
  pthread_t last = start(wait_at_gate, NULL);
  MUST(pthread_getaffinity_np(last, sizeof later, &later) == 0);
  say("a later one has main's %d", CPU_EQUAL(&own, &later));
  gate_open(&gate);
  pthread_join(last, NULL);
}

/* What threads that wait for their turn are allowed stays what it was, whoever asks; also in their handlers and for what these fork. */
static cpu_set_t all_cpus;
static atomic_int of_others, in_handlers, in_children, turns_over;
static int differs(pid_t tid) {
  cpu_set_t s;
  return sched_getaffinity(tid, sizeof s, &s) != 0 || !CPU_EQUAL(&s, &all_cpus);
}
static void checks_cpus(int sig) {
  static atomic_int n;
  atomic_fetch_add(&in_handlers, differs(0));
  if (sig != SIGUSR2 || atomic_fetch_add(&n, 1) % 50 != 0) return;
  int status = 1;
  pid_t child = fork();
  if (child == 0) _exit(differs(0));
  if (child > 0) waitpid(child, &status, 0);
  atomic_fetch_add(&in_children, status != 0);
}
static void *takes_turns(void *arg) {
  while (!atomic_load(&turns_over)) usleep(200);
  return arg;
}
static void *stays(void *arg) {
  while (!atomic_load(&turns_over)) continue;
  return arg;
}
static void affinity_of_those_who_wait(void) {
  struct sigaction a = {.sa_handler = checks_cpus, .sa_flags = SA_RESTART};
  pthread_t t[6];
  MUST(sched_getaffinity(0, sizeof all_cpus, &all_cpus) == 0 && sigaction(SIGUSR1, &a, NULL) == 0 && sigaction(SIGUSR2, &a, NULL) == 0);
  for (int i = 0; i < 6; i++) t[i] = start(i % 2 ? takes_turns : stays, NULL);
  for (int i = 0; i < 600; i++) {
    cpu_set_t s;
    pthread_t one = t[i % 6];
    atomic_fetch_add(&of_others, pthread_getaffinity_np(one, sizeof s, &s) != 0 || !CPU_EQUAL(&s, &all_cpus));
    if (i % 3 == 0) pthread_kill(one, i % 2 ? SIGUSR1 : SIGUSR2);
    if (i % 4 == 0) nap(1);
  }
  atomic_store(&turns_over, 1);
  for (int i = 0; i < 6; i++) pthread_join(t[i], NULL);
  say("others' %d, in handlers %d, in children %d", of_others, in_handlers, in_children);
}

/* --- what Linux has of each thread's own --- */

static void *ids_of_thread(void *arg) {
  *(long *)arg = syscall(SYS_gettid);
  say("tid: not the process's %d, the same by gettid %d", *(long *)arg != getpid(), gettid() == *(long *)arg);
  gate_pass(&gate);
  say("still %d", syscall(SYS_gettid) == *(long *)arg);
  return NULL;
}
static void thread_ids(void) {
  long a = 0, b = 0;
  pthread_t t = start(ids_of_thread, &a);
  gate_await(&gate, 1);
  pthread_t u = start(ids_of_thread, &b);
  gate_await(&gate, 2);
  say("apart %d, main's is the process's %d", a != b, gettid() == getpid());
  gate_open(&gate);
  pthread_join(t, NULL);
  pthread_join(u, NULL);
}

static void *be_nice(void *arg) {
  SAY_CALL("setpriority", setpriority(PRIO_PROCESS, 0, 5));
  SAY_CALL("getpriority", getpriority(PRIO_PROCESS, 0));
  SAY_CALL("slack", prctl(PR_SET_TIMERSLACK, 70000));
  SAY_CALL("slack", prctl(PR_GET_TIMERSLACK));
  gate_pass(&gate);
  SAY_CALL("getpriority", getpriority(PRIO_PROCESS, 0));
  SAY_CALL("slack", prctl(PR_GET_TIMERSLACK));
  return arg;
}
static void *say_nice(void *arg) {
  SAY_CALL("getpriority", getpriority(PRIO_PROCESS, 0));
  SAY_CALL("slack", prctl(PR_GET_TIMERSLACK));
  return arg;
}
static void nice_thread(void) {
  pthread_t t = start(be_nice, NULL);
  gate_await(&gate, 1);
  say_nice(NULL);
  in_thread(say_nice, NULL);
  gate_open(&gate);
  pthread_join(t, NULL);
  in_thread(say_nice, NULL);
}

static void *set_fsuid(void *arg) {
  setfsuid(65534);
  gate_pass(&gate);
  say("thread's %d", setfsuid((uid_t)-1));
  return arg;
}
static void *get_fsuid(void *arg) {
  (void)arg;
  return (void *)(intptr_t)setfsuid((uid_t)-1);
}
static void fsuid_of_thread(void) {
  pthread_t t = start(set_fsuid, NULL);
  gate_await(&gate, 1);
  say("main's %d", setfsuid((uid_t)-1));
  gate_open(&gate);
  pthread_join(t, NULL);
  say("another's %ld", (long)in_thread(get_fsuid, NULL));
}

static void *own_directory(void *arg) {
  char at[4096];
  SAY_CALL("unshare", unshare(CLONE_FS));
  SAY_CALL("chdir", chdir("/"));
  gate_pass(&gate);
  say("thread in %s", getcwd(at, sizeof at));
  return arg;
}
static void *say_directory(void *arg) {
  char at[4096];
  say("in %s", getcwd(at, sizeof at));
  return arg;
}
static void directory_of_thread(void) {
  SAY_CALL("chdir", chdir("/tmp"));
  pthread_t t = start(own_directory, NULL);
  gate_await(&gate, 1);
  say_directory(NULL);
  gate_open(&gate);
  pthread_join(t, NULL);
  in_thread(say_directory, NULL);
}

/* --- fork --- */

static __thread int local = 1;
static pthread_key_t key;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void say_key(void *arg) { say("key %ld", (long)(intptr_t)arg); }

static long sum_of_ten(void) {
  pthread_t t[10];
  intptr_t sum = 0;
  for (intptr_t i = 0; i < 10; i++) t[i] = start(echo, (void *)i);
  for (int i = 0; i < 10; i++) sum += join_value(t[i]);
  return sum;
}

/* fn(0), fn(1), ... beside others that wait. */
static void in_threads_beside(void *(*fn)(void *), intptr_t ways) {
  pthread_t others[5];
  for (int i = 0; i < 5; i++) others[i] = start(wait_at_gate, NULL);
  gate_await(&gate, 5);
  for (intptr_t way = 0; way < ways; way++) in_thread(fn, (void *)way);
  gate_open(&gate);
  for (int i = 0; i < 5; i++) pthread_join(others[i], NULL);
}

static void *fork_inside(void *arg) {
  pthread_t me = pthread_self();
  intptr_t way = (intptr_t)arg;
  local = 5;
  errno = EILSEQ;
  pthread_setspecific(key, (void *)7);
  pthread_setname_np(me, "forker");
  pid_t p = fork();
  if (p == 0) {
    char name[16];
    int e = errno;
    pthread_getname_np(pthread_self(), name, sizeof name);
    say("child: self %d, local %d, errno %s, key %ld, name %s", pthread_equal(me, pthread_self()) != 0, local, err(e),
        (long)(intptr_t)pthread_getspecific(key), name);
    say("child: sum %ld", sum_of_ten());
    say("child: tid is pid %d, as a raw call %d", gettid() == getpid(), syscall(SYS_gettid) == getpid());
    if (way == 0) _exit(3);
    if (way == 1) exit(4);
    if (way == 2) pthread_exit(NULL);
    return NULL;
  }
  say_wait("child", p);
  return NULL;
}
static void fork_in_thread(void) {
  pthread_key_create(&key, say_key);
  in_threads_beside(fork_inside, 4);
  fork_inside((void *)0);
}

/* The child's first thread ends before the others, which it has made, and which make more. */
static pthread_t child_first;
static void *later_outlives(void *arg) {
  void *result = NULL;
  nap(30);
  int r = arg ? 0 : pthread_join(child_first, &result);
  if (!arg) say("child: joined %d, %ld", r, (long)(intptr_t)result);
  say("child: outlived, sum %ld", sum_of_ten());
  return arg;
}
static void *fork_and_leave(void *arg) {
  pid_t p = fork();
  if (p == 0) {
    sum_of_ten();
    child_first = pthread_self();
    start(later_outlives, arg);
    if (!arg) pthread_exit((void *)6);
    return NULL;
  }
  say_wait("child", p);
  return arg;
}
static void fork_is_outlived(void) { in_threads_beside(fork_and_leave, 2); }

/* Wherever the handler finds the thread, also where it waits for its turn on a CPU: the child goes on there. */
#define HANDLER_FORKS 30
static _Atomic int handler_forks;
static volatile sig_atomic_t is_child;
static void on_fork(int sig) {
  (void)sig;
  if (is_child) return;
  if (fork() == 0) is_child = 1;
  handler_forks++;
}
static void *spin_until_forked(void *arg) {
  while (!is_child && handler_forks < HANDLER_FORKS) continue;
  return arg;
}
static void *forked_in_handler(void *arg) {
  spin_until_forked(NULL);
  if (is_child) _exit(in_thread(echo, (void *)7) == 7 ? 42 : 1);
  return arg;
}
static void fork_in_handler(void) {
  pthread_t t, others[3];
  int status, good = 0;
  MUST(signal(SIGRTMIN, on_fork) != SIG_ERR);
  t = start(forked_in_handler, NULL);
  for (int i = 0; i < 3; i++) others[i] = start(spin_until_forked, NULL);
  for (int i = 0; i < HANDLER_FORKS; i++) {
    MUST(pthread_kill(t, SIGRTMIN) == 0);
    UNTIL(handler_forks > i);
  }
  join_value(t);
  for (int i = 0; i < 3; i++) join_value(others[i]);
  for (int i = 0; i < HANDLER_FORKS; i++) good += wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 42;
  say("good %d", good);
}

static void *fork_and_join_all(void *arg) {
  int good = 0;
  (void)arg;
  for (int i = 0; i < 8; i++) {
    pid_t p = fork();
    if (p == 0) _exit((int)in_thread(echo, (void *)5));
    int status = 0;
    good += waitpid(p, &status, 0) == p && status == 5 << 8;
  }
  return (void *)(intptr_t)good;
}
static void forks_at_once(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(fork_and_join_all, NULL);
  for (int i = 0; i < 4; i++) say("good %ld", (long)join_value(t[i]));
}

static void *grandchildren(void *arg) {
  intptr_t depth = (intptr_t)arg;
  if (depth == 0) return (void *)1;
  pid_t p = fork();
  if (p == 0) _exit((int)in_thread(grandchildren, (void *)(depth - 1)));
  int status = 0;
  MUST(waitpid(p, &status, 0) == p);
  return (void *)(intptr_t)(WEXITSTATUS(status) + 1);
}
static void fork_of_forks(void) { say("generations %ld", (long)in_thread(grandchildren, (void *)4)); }

static void prepare_lock(void) { pthread_mutex_lock(&lock); }
static void release_lock(void) { pthread_mutex_unlock(&lock); }
static void *hammer(void *arg) {
  while (!stop) {
    pthread_mutex_lock(&lock);
    counter++;
    sched_yield();
    pthread_mutex_unlock(&lock);
  }
  return arg;
}
/* The handlers take what the child will need. */
static void atfork_locks(void) {
  pthread_t t[3];
  int good = 0;
  SAY_ERR("atfork", pthread_atfork(prepare_lock, release_lock, release_lock));
  for (int i = 0; i < 3; i++) t[i] = start(hammer, NULL);
  for (int i = 0; i < 25; i++) {
    pid_t p = fork();
    if (p == 0) {
      pthread_mutex_lock(&lock);
      pthread_mutex_unlock(&lock);
      _exit(6);
    }
    int status = 0;
    good += waitpid(p, &status, 0) == p && status == 6 << 8;
  }
  stop = true;
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  say("good %d", good);
}

static void prepare_one(void) { say("prepare one"); }
static void prepare_two(void) { say("prepare two"); }
static void parent_one(void) { say("parent one"); }
static void parent_two(void) { say("parent two"); }
static int told[2];
static void child_one(void) { MUST(write(told[1], "1", 1) == 1); }
static void child_two(void) { MUST(write(told[1], "2", 1) == 1); }
static void *register_handlers(void *arg) {
  SAY_ERR("two", pthread_atfork(prepare_two, parent_two, child_two));
  return arg;
}
static void *fork_plainly(void *arg) {
  pid_t p = fork();
  if (p == 0) _exit(2);
  say_wait("child", p);
  return arg;
}
static void atfork_order(void) {
  char order[8] = "";
  MUST(pipe(told) == 0);
  SAY_ERR("one", pthread_atfork(prepare_one, parent_one, child_one));
  in_thread(register_handlers, NULL);
  in_thread(fork_plainly, NULL);
  MUST(read(told[0], order, 2) == 2);
  say("in the child %s", order);
  pid_t p = vfork();
  if (p == 0) _exit(3);
  say_wait("vfork, no handlers", p);
}

static void *count_on(void *arg) {
  while (!stop) {
    counter++;
    nap(1);
  }
  return arg;
}
static void *spin(void *arg) {
  while (!stop) counter++;
  return arg;
}

/* How p has ended, of itself or by us, when the gate is open. */
static void *end_later(pid_t p, void *arg) {
  int status = -1;
  gate_pass(&gate);
  pid_t dead = waitpid(p, &status, WNOHANG);
  if (!dead) kill(p, SIGTERM);
  if (!dead) MUST(waitpid(p, &status, 0) == p);
  (void)arg;
  return (void *)(intptr_t)status;
}

/* The kernel kills a child with its parent, and that is a thread. */
static void *has_mortal_child(void *arg) {
  pid_t p = fork();
  if (p == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pause();
    _exit(0);
  }
  compute_ms(60);
  nap(10);
  compute_ms(20);
  return end_later(p, arg);
}
static void child_lives_with_thread(void) {
  pthread_t t[6];
  for (int i = 0; i < 6; i++) t[i] = start(has_mortal_child, NULL);
  gate_await(&gate, 6);
  nap(6500); /* till nobody keeps kernel threads that do nothing */
  gate_open(&gate);
  for (int i = 0; i < 6; i++) say("ended by %ld", (long)join_value(t[i]));
}

/* The same of a program that is started otherwise, and asks for that itself. */
static void *starts_mortal_program(void *arg) {
  char *argv[] = {"setpriv", "--pdeathsig", "KILL", "sleep", "60", NULL};
  pid_t p = 0;
  compute_ms(60);
  int e = posix_spawnp(&p, argv[0], NULL, NULL, argv, environ);
  if (e == ENOENT) return NULL;
  MUST(e == 0);
  compute_ms(20);
  return end_later(p, arg);
}
static void program_lives_with_thread(void) {
  pthread_t t[6];
  for (int i = 0; i < 6; i++) t[i] = start(starts_mortal_program, NULL);
  nap(7500);
  gate_open(&gate);
  for (int i = 0; i < 6; i++) say("ended by %ld", (long)join_value(t[i]));
}

/* And dies with it, whoever else has its kernel thread. */
static void *leaves_mortal_child(void *arg) {
  int asked[2];
  char c;
  MUST(pipe(asked) == 0);
  pid_t p = fork();
  if (p == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    MUST(write(asked[1], "x", 1) == 1);
    pause();
    _exit(0);
  }
  MUST(read(asked[0], &c, 1) == 1);
  (void)arg;
  return (void *)(intptr_t)p;
}
static void child_dies_with_thread(void) {
  pthread_t other = start(wait_at_gate, NULL);
  for (int i = 0; i < 3; i++) {
    int status = -1;
    pid_t p = (pid_t)in_thread(leaves_mortal_child, NULL), dead = 0;
    for (int k = 0; k < 1000 && !dead; k++) {
      nap(1);
      dead = waitpid(p, &status, WNOHANG);
    }
    say("dead %d, by %d", dead == p, status);
    if (!dead) kill(p, SIGKILL);
  }
  gate_open(&gate);
  pthread_join(other, NULL);
}

static void *traces(void *arg) {
  int status = -1;
  pid_t p = fork();
  if (p == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    _exit(7);
  }
  MUST(waitpid(p, &status, 0) == p);
  say("stopped %x", (unsigned)status);
  for (int i = 0; i < 5; i++) {
    nap(5);
    SAY_CALL("options", ptrace(PTRACE_SETOPTIONS, p, NULL, PTRACE_O_EXITKILL));
  }
  SAY_CALL("goes on", ptrace(PTRACE_CONT, p, NULL, NULL));
  MUST(waitpid(p, &status, 0) == p);
  say("ended %x", (unsigned)status);
  p = fork();
  if (p == 0) {
    pause();
    _exit(8);
  }
  SAY_CALL("seize", ptrace(PTRACE_SEIZE, p, NULL, NULL));
  for (int i = 0; i < 5; i++) nap(5);
  SAY_CALL("interrupt", ptrace(PTRACE_INTERRUPT, p, NULL, NULL));
  MUST(waitpid(p, &status, 0) == p);
  SAY_CALL("kill", kill(p, SIGKILL));
  MUST(waitpid(p, &status, 0) == p);
  say("ended %x", (unsigned)status);
  return arg;
}
static void tracer_is_thread(void) {
  pthread_t t[5];
  for (int i = 0; i < 5; i++) t[i] = start(i < 2 ? spin : count_on, NULL);
  UNTIL(counter > 2);
  in_thread(traces, NULL);
  stop = true;
  for (int i = 0; i < 5; i++) pthread_join(t[i], NULL);
}

/* --- other programs --- */

static void born_again(void) {
  say_mask("born again");
  say("thread %ld", (long)in_thread(echo, (void *)17));
}
static char *again[] = {"pthreads", "process:born_again", NULL};

static void *vfork_inside(void *arg) {
  sigset_t s = set_of(SIGUSR2, 0);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  pid_t p = vfork();
  if (p == 0) {
    execv(self_path, again);
    _exit(9);
  }
  say_wait("vfork", p);
  return arg;
}
static void vfork_in_thread(void) {
  pthread_t t = start(count_on, NULL);
  UNTIL(counter > 2);
  in_thread(vfork_inside, NULL);
  long n = counter;
  UNTIL(counter > n);
  stop = true;
  pthread_join(t, NULL);
}

/* What the child of a vfork does before it is another program is its own. */
static int child_does(int what, const int *ends) {
  const pid_t self = getpid();
  struct timespec ts = {0, 30000000};
  struct pollfd none = {ends[0], POLLIN, 0};
  sigset_t s;
  char byte = 0;
  switch (what) {
    case 0:
      sigemptyset(&s);
      sigprocmask(SIG_SETMASK, &s, NULL);
      break;
    case 1:
      nanosleep(&ts, NULL);
      break;
    case 2:
      poll(&none, 1, 30);
      break;
    case 3:
      if (read(ends[0], &byte, 1) != 1) return 9;
      break;
    case 4:
      sched_yield();
      break;
    case 5:
      s = set_of(SIGUSR2, 0);
      sigprocmask(SIG_UNBLOCK, &s, NULL);
      break;
    default:
      raise(SIGKILL);
  }
  return getpid() == self ? what : 8;
}
static void *vfork_busily(void *arg) {
  int ends[2];
  sigset_t s = set_of(SIGUSR2, SIGURG);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  MUST(pipe(ends) == 0);
  for (int what = 0; what < 7; what++) {
    const pid_t parent = getpid();
    pid_t writer = what == 3 ? fork() : 0;
    if (what == 3 && writer == 0) {
      nap(30);
      _exit(write(ends[1], "x", 1) != 1);
    }
    pid_t p = vfork();
    if (p == 0) _exit(child_does(what, ends));
    MUST(getpid() == parent);
    if (writer) MUST(waitpid(writer, NULL, 0) == writer);
    say_wait("vfork", p);
    say_mask("parent");
  }
  close(ends[0]);
  close(ends[1]);
  return arg;
}
static void vforks_that_wait(void) {
  pthread_t t[2] = {start(count_on, NULL), start(count_on, NULL)};
  UNTIL(counter > 2);
  in_thread(vfork_busily, NULL);
  stop = true;
  for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
}

static void *spawn_inside(void *arg) {
  int fd[2], n = 0, good = 0;
  MUST(pipe(fd) == 0);
  for (int i = 0; i < 4; i++) {
    posix_spawn_file_actions_t f;
    posix_spawnattr_t a;
    sigset_t s = set_of(SIGTERM, 0);
    pid_t p = 0;
    char *argv[] = {"sh", "-c", "echo spawned; exit 7", NULL};
    posix_spawn_file_actions_init(&f);
    posix_spawn_file_actions_adddup2(&f, fd[1], 1);
    posix_spawnattr_init(&a);
    posix_spawnattr_setsigmask(&a, &s);
    posix_spawnattr_setflags(&a, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    MUST(posix_spawnp(&p, "sh", &f, &a, argv, environ) == 0);
    int status = 0;
    good += waitpid(p, &status, 0) == p && status == 7 << 8;
    char text[16];
    n += (int)read(fd[0], text, sizeof text);
    posix_spawn_file_actions_destroy(&f);
    posix_spawnattr_destroy(&a);
  }
  close(fd[0]);
  close(fd[1]);
  (void)arg;
  return (void *)(intptr_t)(good * 100 + n);
}
static void *system_inside(void *arg) {
  int good = 0;
  for (int i = 0; i < 4; i++) good += system("exit 5") == 5 << 8;
  FILE *f = popen("echo popen", "r");
  char text[32] = "";
  good += f && fgets(text, sizeof text, f) && strcmp(text, "popen\n") == 0;
  good += f && pclose(f) == 0;
  (void)arg;
  return (void *)(intptr_t)good;
}
static void spawn_in_threads(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) t[i] = start(i % 2 ? spawn_inside : system_inside, NULL);
  for (int i = 0; i < 4; i++) say("%ld", (long)join_value(t[i]));
}

static void *exec_inside(void *arg) {
  sigset_t s = set_of(SIGUSR1, SIGHUP);
  gate_await(&gate, 6);
  pthread_sigmask(SIG_SETMASK, &s, NULL);
  execv(self_path, again);
  return arg;
}
static void exec_from_thread(void) {
  for (int i = 0; i < 6; i++) start(wait_at_gate, NULL);
  start(spin, NULL);
  pthread_join(start(exec_inside, NULL), NULL);
  say("not replaced");
}
static void exec_from_main(void) {
  for (int i = 0; i < 6; i++) start(wait_at_gate, NULL);
  start(spin, NULL);
  exec_inside(NULL);
  say("not replaced");
}

/* A child that one thread has forked, another may wait for. */
static pid_t child;
static void *fork_it(void *arg) {
  child = fork();
  if (child == 0) {
    nap(10);
    _exit(8);
  }
  return arg;
}
static void *wait_for_it(void *arg) {
  say_wait("child", child);
  return arg;
}
static void waited_by_another(void) {
  in_thread(fork_it, NULL);
  in_thread(wait_for_it, NULL);
  errno = 0;
  say("none left %d %s", waitpid(-1, NULL, 0), err(errno));
}

/* --- tids --- */

static pid_t tids[8];
static void *take_tid(void *arg) {
  *(pid_t *)arg = gettid();
  return arg;
}
/* One after the other: also of those that have ended none is used again so soon. */
static void tids_of_lives(void) {
  int same = 0;
  for (int i = 0; i < 8; i++) in_thread(take_tid, &tids[i]);
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < i; j++) same += tids[i] == tids[j];
  say("twice %d, main's %d", same, tids[0] == gettid());
}

static _Atomic int cleared = 1;
static void *clears(void *arg) {
  int *before = NULL, *after = NULL;
  long get = prctl(PR_GET_TID_ADDRESS, &before);
  say("own %d", get != 0 || *before == gettid());
  say("returns tid %d", syscall(SYS_set_tid_address, (int *)&cleared) == gettid());
  get = prctl(PR_GET_TID_ADDRESS, &after);
  say("set %d, not yet %d", get != 0 || after == (int *)&cleared, atomic_load(&cleared));
  gate_pass(&gate);
  return arg;
}
/* The kernel clears a word when a thread ends, and wakes who waits for that.  Detached: pthread_join waits for another word. */
static void tid_cleared(void) {
  pthread_detach(start(clears, NULL));
  gate_await(&gate, 1);
  gate_open(&gate);
  while (atomic_load(&cleared)) syscall(SYS_futex, &cleared, 0 /* FUTEX_WAIT */, 1, NULL, NULL, 0);
  say("cleared");
}

static void *slack_thread(void *arg) {
  SAY_CALL("set", prctl(PR_SET_TIMERSLACK, 12345678L));
  gate_pass(&gate);
  say("own %d", prctl(PR_GET_TIMERSLACK));
  return arg;
}
static void *has_slack(void *arg) {
  *(int *)arg = prctl(PR_GET_TIMERSLACK) == 12345678;
  return NULL;
}
/* What the kernel keeps for one thread is not the next one's. */
static void slack_of_thread(void) {
  int other = -1, later = -1;
  pthread_t t = start(slack_thread, NULL);
  gate_await(&gate, 1);
  in_thread(has_slack, &other);
  gate_open(&gate);
  pthread_join(t, NULL);
  in_thread(has_slack, &later);
  say("another's %d, a later one's %d", other, later);
}

/* --- credentials are the process's --- */

static void *computes(void *arg) {
  while (!stop) counter++;
  say("user %d, group %d", (int)syscall(SYS_geteuid), (int)syscall(SYS_getegid));
  return arg;
}
static void *waits_for_user(void *arg) {
  gate_pass(&gate);
  say("user %d, group %d", (int)syscall(SYS_geteuid), (int)syscall(SYS_getegid));
  return arg;
}
static void *changes_user(void *arg) {
  gid_t group = 65534;
  SAY_CALL("setgroups", setgroups(1, &group));
  SAY_CALL("setresgid", setresgid(65534, 65534, 65534));
  SAY_CALL("setresuid", setresuid(65534, 65534, 65534));
  say("user %d, group %d", (int)syscall(SYS_geteuid), (int)syscall(SYS_getegid));
  return arg;
}
static void user_of_process(void) {
  if (geteuid() != 0) {
    say("not root");
    return;
  }
  pthread_t t[4] = {start(computes, NULL), start(computes, NULL), start(waits_for_user, NULL), start(waits_for_user, NULL)};
  gate_await(&gate, 2);
  UNTIL(counter > 0);
  in_thread(changes_user, NULL);
  stop = true;
  gate_open(&gate);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  say("main: user %d, group %d", (int)geteuid(), (int)getegid());
}

static void *same_user(void *arg) {
  for (int i = 0; i < 20; i++)
    if (setuid(getuid()) == 0) counter++;
  return arg;
}
static void user_set_by_many(void) {
  for (int i = 0; i < 20; i++) {
    pthread_t t[4];
    for (int k = 0; k < 4; k++) t[k] = start(same_user, NULL);
    for (int k = 0; k < 4; k++) pthread_join(t[k], NULL);
  }
  say("set %ld", (long)counter);
}
static void *toggles_user(void *arg) {
  for (int i = 0; i < 20; i++)
    if (seteuid(i % 2 ? 0 : 65534) == 0) counter++;
  return arg;
}
static void user_changed_by_many(void) {
  pthread_t t[4];
  for (int k = 0; k < 4; k++) t[k] = start(toggles_user, NULL);
  for (int k = 0; k < 4; k++) pthread_join(t[k], NULL);
  say("set %d", counter > 0);
}

/* --- descriptors --- */

/* A pipe without a reader takes nothing, and the same numbers are free each time: nobody else has files here. */
static void *breaks_pipes(void *arg) {
  long taken = 0, moved = 0;
  int first = -1, end[2];
  while (!stop) {
    if (pipe(end)) continue;
    if (first < 0) first = end[0];
    moved += end[0] != first || end[1] != first + 1;
    close(end[0]);
    taken += write(end[1], "x", 1) >= 0;
    close(end[1]);
  }
  if (taken) say("written into a pipe without a reader");
  if (moved) say("other numbers");
  return arg;
}

/* A child that lives a little joins the pool; many a time, for it is a matter of microseconds. */
static void pipes_of_its_own(void) {
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < 30; i++) {
    fflush(stdout);
    pid_t young = fork();
    if (young == 0) {
      pthread_t t = start(breaks_pipes, NULL);
      compute_ms(12);
      stop = true;
      pthread_join(t, NULL);
      fflush(stdout);
      _exit(0);
    }
    MUST(waitpid(young, NULL, 0) == young);
  }
  say("done");
}

const struct check process_checks[] = {
    CHECK(names),
    CHECK(cpu_clocks),
    CHECK(cpu_clock_begins),
    CHECK(cpu_clock_of_another),
    CHECK(cpu_clock_at_the_end),
    CHECK(cpu_clocks_in_turns),
    CHECK(cpu_clock_when_wired),
    CHECK(cpu_clock_ended),
    CHECK(cpu_clock_sleep),
    CHECK(cpu_clock_timer),
    CHECK(cpu_clock_after_fork),
    CHECK(cpu_clocks_raw),
    CHECK(cpu_clocks_at_the_end),
    CHECK(cpu_clock_after_vfork),
    CHECK(task_files),
    CHECK(threads_listed),
    CHECK(threads_counted),
    CHECK(other_numbers),
    CHECK(seccomp_probe),
    CHECK(concurrency),
    CHECK(affinity),
    CHECK(affinity_of_others),
    CHECK(affinity_of_those_who_wait),
    CHECK(affinity_by_getattr),
    CHECK(thread_ids),
    CHECK(nice_thread),
    CHECK(fsuid_of_thread),
    CHECK(user_of_process),
    CHECK(user_set_by_many),
    CHECK(user_changed_by_many),
    CHECK(directory_of_thread),
    CHECK(fork_in_thread),
    CHECK(fork_is_outlived),
    CHECK(fork_in_handler),
    CHECK(forks_at_once),
    CHECK(fork_of_forks),
    CHECK(atfork_locks),
    CHECK(atfork_order),
    CHECK(born_again),
    CHECK(vfork_in_thread),
    CHECK(vforks_that_wait),
    CHECK(child_lives_with_thread),
    CHECK(program_lives_with_thread),
    CHECK(child_dies_with_thread),
    CHECK(tracer_is_thread),
    CHECK(spawn_in_threads),
    CHECK(exec_from_thread),
    CHECK(exec_from_main),
    CHECK(pipes_of_its_own),
    CHECK(waited_by_another),
    CHECK(tids_of_lives),
    CHECK(tid_cleared),
    CHECK(slack_of_thread),
    CHECKS_END,
};
/* NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */
