/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that light Gs can do, all at once and for long, while somebody else changes the quota.
 *
 *   soak SECONDS [SEED]     exit status 0: all was as promised; 1: what was not is on stderr
 *
 * Each part is a G that does the same small piece of work over and over and checks its result: nothing lost, nothing twice, sums that
 * hold.  A thread looks on: a part that makes no step for STALL_S seconds ends the run with a dump; a line each minute.
 * In the end all Gs, descriptors and channels are back, and memory is what it was after the first third.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <ration/context.h>
#include <ration/ration.h>
#include <ration/sync.h>
#include <ration/timer.h>
#include <ration/workers.h>
#include "rawsys.h"

#define STALL_S 30
#define GROWTH_KB (16 * 1024)
#define MUST(cond)                       \
  do {                                   \
    if (!(cond)) wrong(__LINE__, #cond); \
  } while (0)

static _Noreturn void wrong(int line, const char *what) {
  fprintf(stderr, "soak: line %d: not so: %s\n", line, what);
  ration_dump(2);
  _exit(1);
}

static _Atomic bool over;
static uint64_t first_seed;

static uint64_t roll(uint64_t *seed) {
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  return *seed ^= *seed << 17;
}
static unsigned roll_to(uint64_t *seed, unsigned n) { return (unsigned)(roll(seed) >> 11) % n; }

/* One that ends is done with wg. */
struct piece {
  ration_fn *fn;
  struct ration_waitgroup *wg;
  void *arg;
};
static void piece_main(void *arg) {
  struct piece p = *(struct piece *)arg;
  free(arg);
  p.fn(p.arg);
  ration_waitgroup_done(p.wg);
}
static void spawn(struct ration_waitgroup *wg, ration_fn *fn, void *arg) {
  struct piece *p = malloc(sizeof *p);
  MUST(p);
  *p = (struct piece){fn, wg, arg};
  ration_waitgroup_add(wg, 1);
  MUST(ration_go(piece_main, p) == 0);
}

/* --- channels: all that is sent arrives, once --- */

#define SENT 200
struct flow {
  struct ration_chan *items, *closed_late;
  _Atomic long sum, n;
};
static void flow_send(void *arg) {
  struct flow *f = arg;
  for (long i = 1; i <= SENT; i++) ration_chan_send(f->items, &i);
}
static void flow_count(struct flow *f, long v) {
  f->sum += v;
  f->n++;
}
static void flow_recv(void *arg) {
  struct flow *f = arg;
  for (long v; ration_chan_recv(f->items, &v);) flow_count(f, v);
}
/* The same by select, with a channel that never has anything until it is closed. */
static void flow_select(void *arg) {
  struct flow *f = arg;
  long v, never;
  for (bool open = true; open;) {
    struct ration_case cases[] = {ration_case_recv(f->items, &v), ration_case_recv(f->closed_late, &never), ration_case_recv(NULL, NULL)};
    int r = ration_select(cases, 3, 20 * RATION_MS);
    if (r == -ETIMEDOUT) continue;
    MUST(r == 0 || (r == 1 && !cases[1].ok));
    if (r == 0 && cases[0].ok) flow_count(f, v);
    if (r == 1) flow_recv(f); /* what is left */
    open = r == 0 && cases[0].ok;
  }
}
static void channels(uint64_t *seed) {
  unsigned senders = 1 + roll_to(seed, 8), receivers = 1 + roll_to(seed, 8);
  struct flow f = {ration_chan_new(sizeof(long), roll_to(seed, 3) * 16), ration_chan_new(sizeof(long), 0), 0, 0};
  struct ration_waitgroup to = RATION_WAITGROUP_INIT, from = RATION_WAITGROUP_INIT;
  MUST(f.items && f.closed_late);
  for (unsigned i = 0; i < receivers; i++) spawn(&from, i % 2 ? flow_select : flow_recv, &f);
  for (unsigned i = 0; i < senders; i++) spawn(&to, flow_send, &f);
  ration_waitgroup_wait(&to);
  if (roll_to(seed, 2)) ration_chan_close(f.closed_late);
  ration_chan_close(f.items);
  ration_waitgroup_wait(&from);
  MUST(f.n == (long)senders * SENT && f.sum == (long)senders * SENT * (SENT + 1) / 2);
  ration_chan_unref(f.items);
  ration_chan_unref(f.closed_late);
}

/* --- locks: money is moved, none is made --- */

#define ACCOUNTS 16
struct bank {
  struct ration_rwmutex rw;
  struct ration_mutex mu;
  struct ration_cond turn;
  long account[ACCOUNTS];
  int whose;
  _Atomic uint64_t seed;
};
static void bank_move(void *arg) {
  struct bank *b = arg;
  uint64_t seed = atomic_fetch_add(&b->seed, 0x9e3779b97f4a7c15u) | 1;
  for (int i = 0; i < 50; i++) {
    long sum = 0, amount = (long)roll_to(&seed, 100);
    ration_rwmutex_lock(&b->rw);
    b->account[roll_to(&seed, ACCOUNTS)] -= amount;
    if (i % 16 == 0) ration_yield();
    b->account[roll_to(&seed, ACCOUNTS)] += amount;
    ration_rwmutex_unlock(&b->rw);
    ration_rwmutex_rlock(&b->rw);
    for (int k = 0; k < ACCOUNTS; k++) sum += b->account[k];
    ration_rwmutex_runlock(&b->rw);
    MUST(sum == 0);
  }
}
/* Two take turns. */
static void bank_turn(struct bank *b, int me) {
  ration_mutex_lock(&b->mu);
  for (int i = 0; i < 50; i++) {
    while (b->whose != me) ration_cond_wait(&b->turn, &b->mu);
    b->whose = !me;
    ration_cond_signal(&b->turn);
  }
  ration_mutex_unlock(&b->mu);
}
static void bank_even(void *arg) { bank_turn(arg, 0); }
static void bank_odd(void *arg) { bank_turn(arg, 1); }
static void locks(uint64_t *seed) {
  struct bank b = {.seed = roll(seed)};
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  for (int i = 0; i < 6; i++) spawn(&wg, bank_move, &b);
  spawn(&wg, bank_even, &b);
  spawn(&wg, bank_odd, &b);
  ration_waitgroup_wait(&wg);
}

/* --- timers: not too early, not after they were stopped --- */

static void fires(void *arg) { ration_waitgroup_done(arg); }
static void must_not_fire(void *arg) {
  (void)arg;
  MUST(!"a stopped timer fired");
}
static void timers(uint64_t *seed) {
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  struct ration_timer *t[30];
  ration_ns from = ration_now(), at, d = (1 + roll_to(seed, 20)) * RATION_MS;
  for (int i = 0; i < 30; i++) {
    if (i % 3 == 0) ration_waitgroup_add(&wg, 1);
    t[i] = i % 3 ? ration_after_func(RATION_SECOND * 100, must_not_fire, NULL) : ration_after_func(i * RATION_MS / 4, fires, &wg);
    MUST(t[i]);
  }
  struct ration_timer *one = ration_timer_new(RATION_SECOND * 100);
  MUST(one && ration_timer_reset(one, d) && ration_chan_recv(ration_timer_chan(one), &at));
  MUST(at - from >= d && ration_now() >= at);
  struct ration_ticker *tick = ration_ticker_new(RATION_MS);
  MUST(tick);
  for (int i = 0; i < 5; i++) MUST(ration_chan_recv(ration_ticker_chan(tick), NULL));
  ration_waitgroup_wait(&wg);
  for (int i = 0; i < 30; i++) {
    MUST(ration_timer_stop(t[i]) == (i % 3 != 0));
    ration_timer_free(t[i]);
  }
  ration_timer_free(one);
  ration_ticker_free(tick);
}

/* --- contexts: who works below one ends when it ends --- */

struct leaf {
  struct ration_context *ctx;
  _Atomic int ended;
};
static void leaf_works(void *arg) {
  struct leaf *l = arg;
  struct ration_context *own = ration_context_with_timeout(l->ctx, 100 * RATION_SECOND);
  MUST(own);
  int r = ration_context_wait(own);
  MUST(r == -ECANCELED || r == -ETIMEDOUT);
  ration_context_unref(own);
  l->ended++;
}
static void contexts(uint64_t *seed) {
  bool cancels = roll_to(seed, 2);
  struct ration_context *top = cancels ? ration_context_with_cancel(NULL) : ration_context_with_timeout(NULL, 3 * RATION_MS);
  struct leaf l = {ration_context_with_value(top, &over, seed), 0};
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  MUST(top && l.ctx);
  for (int i = 0; i < 40; i++) spawn(&wg, leaf_works, &l);
  MUST(ration_context_value(l.ctx, &over) == seed);
  if (cancels) ration_sleep(roll_to(seed, 2000) * RATION_US);
  if (cancels) ration_context_cancel(top);
  ration_waitgroup_wait(&wg);
  MUST(l.ended == 40 && ration_context_err(l.ctx) == (cancels ? -ECANCELED : -ETIMEDOUT));
  ration_context_unref(l.ctx);
  ration_context_unref(top);
}

/* --- a pool of workers, tuned while it works --- */

static void task_adds(void *arg) {
  atomic_fetch_add((_Atomic long *)arg, 1);
  if ((uintptr_t)&arg % 3 == 0) ration_yield();
}
static void workers(uint64_t *seed) {
  static struct ration_workers *pool; /* only this part's G is here */
  _Atomic long n = 0;
  if (!pool) pool = ration_workers_new(&(struct ration_workers_options){.size = 4, .expiry = 50 * RATION_MS});
  MUST(pool);
  for (int i = 0; i < 400; i++) {
    if (i % 100 == 0) ration_workers_tune(pool, 1 + roll_to(seed, 16));
    MUST(ration_workers_submit(pool, task_adds, (void *)&n) == 0);
  }
  MUST(ration_workers_run(pool, task_adds, (void *)&n) == 0);
  if (roll_to(seed, 8) == 0 || atomic_load(&over)) {
    ration_workers_free(pool);
    pool = NULL;
  }
  while (n != 401) ration_sleep(RATION_MS);
}

/* --- echo: clients that are served in full, and clients that vanish --- */

struct served {
  int fd;
  struct sockaddr_in at;
  uint64_t seed;
  _Atomic long came_back;
};
static void echo_session(void *arg) {
  int fd = (int)(intptr_t)arg;
  char buf[512];
  for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
    if (write(fd, buf, (size_t)n) != n) break;
  close(fd);
}
static void echo_server(void *arg) {
  struct served *s = arg;
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  for (;;) {
    int fd = accept(s->fd, NULL, NULL);
    char first;
    if (fd < 0) continue; /* it vanished already */
    if (recv(fd, &first, 1, MSG_PEEK) == 1 && first == 'q') {
      close(fd);
      break;
    }
    spawn(&wg, echo_session, (void *)(intptr_t)fd);
  }
  ration_waitgroup_wait(&wg);
}
static int echo_connect(const struct served *s) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  MUST(fd >= 0 && connect(fd, (const struct sockaddr *)&s->at, sizeof s->at) == 0);
  return fd;
}
static void echo_client(void *arg) {
  struct served *s = arg;
  char out[300], in[300];
  int fd = echo_connect(s);
  memset(out, 'x', sizeof out);
  for (int i = 0; i < 5; i++) {
    size_t got = 0;
    MUST(write(fd, out, sizeof out) == sizeof out);
    for (ssize_t n; got < sizeof in && (n = read(fd, in + got, sizeof in - got)) > 0;) got += (size_t)n;
    MUST(got == sizeof in && memcmp(in, out, sizeof in) == 0);
    s->came_back += (long)got;
  }
  close(fd);
}
static void echo_vanishes(void *arg) {
  struct served *s = arg;
  int fd = echo_connect(s);
  MUST(write(fd, "half a requ", 11) == 11);
  ration_yield();
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)); /* a reset */
  close(fd);
}
static void echo(uint64_t *seed) {
  struct served s = {.fd = socket(AF_INET, SOCK_STREAM, 0), .at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof s.at;
  MUST(s.fd >= 0 && bind(s.fd, (struct sockaddr *)&s.at, len) == 0 && listen(s.fd, 128) == 0);
  MUST(getsockname(s.fd, (struct sockaddr *)&s.at, &len) == 0);
  struct ration_waitgroup server = RATION_WAITGROUP_INIT, clients = RATION_WAITGROUP_INIT;
  unsigned n = 1 + roll_to(seed, 8);
  spawn(&server, echo_server, &s);
  for (unsigned i = 0; i < n; i++) {
    spawn(&clients, echo_client, &s);
    spawn(&clients, echo_vanishes, &s);
  }
  ration_waitgroup_wait(&clients);
  int fd = echo_connect(&s);
  MUST(write(fd, "q", 1) == 1);
  ration_waitgroup_wait(&server);
  close(fd);
  close(s.fd);
  MUST(s.came_back == (long)n * 5 * 300);
}

/* --- Gs that don't give way --- */

static void spins(void *arg) {
  struct timespec ts;
  ration_ns ms = (ration_ns)(intptr_t)arg, from = 0, now;
  volatile double x = 1;
  errno = (int)ms;
  for (;;) {
    for (int i = 0; i < 20000; i++) x = x * 1.0000001 + 1e-9;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    now = ts.tv_sec * RATION_SECOND + ts.tv_nsec;
    if (!from) from = now;
    if (now - from >= ms * RATION_MS) break;
  }
  MUST(errno == (int)ms && x > 1);
}
static void spinning(uint64_t *seed) {
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  for (int i = 0; i < 3; i++) spawn(&wg, spins, (void *)(intptr_t)(1 + roll_to(seed, 30)));
  ration_waitgroup_wait(&wg);
  ration_sleep(50 * RATION_MS); /* the others want to be seen too */
}

/* --- calls that hold a thread: in a wrapper, and in none --- */

static void blocks_wrapped(void *arg) {
  (void)arg;
  struct timespec d = {0, 2000000};
  syscall(SYS_nanosleep, &d, NULL);
}
static void blocks_by_hand(void *arg) {
  (void)arg;
  struct timespec d = {0, 2000000};
  raw_syscall2(SYS_nanosleep, (long)&d, 0);
}
static void blocking(uint64_t *seed) {
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  for (int i = 0; i < 8; i++) spawn(&wg, roll_to(seed, 2) ? blocks_wrapped : blocks_by_hand, NULL);
  ration_waitgroup_wait(&wg);
}

/* --- the same, when their contexts end: who has the lock knows it, and who was too late has left none behind --- */

struct locked {
  char name[40];
  _Atomic long holders, had;
};
static void locks_in_time(void *arg) {
  struct locked *l = arg;
  int fd = open(l->name, O_RDWR);
  struct ration_context *c = ration_context_with_timeout(NULL, (ration_now() % 2000) * RATION_US);
  MUST(fd >= 0 && c && ration_io_context(c) == 0);
  ration_context_unref(c);
  int r = flock(fd, LOCK_EX), why = errno;
  MUST(ration_io_context(NULL) == 0);
  if (r == 0) {
    MUST(atomic_fetch_add(&l->holders, 1) == 0);
    usleep(100);
    atomic_fetch_sub(&l->holders, 1);
    atomic_fetch_add(&l->had, 1);
  } else {
    MUST(why == ETIMEDOUT);
  }
  close(fd);
}
static void ending(uint64_t *seed) {
  struct locked l = {.name = "/tmp/ration-soak-XXXXXX"};
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  int fd = mkstemp(l.name);
  MUST(fd >= 0);
  long n = 1 + roll_to(seed, 12);
  for (long i = 0; i < n; i++) spawn(&wg, locks_in_time, &l);
  ration_waitgroup_wait(&wg);
  MUST(unlink(l.name) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
  close(fd);
}

/* --- thousands that come and go --- */

static void counts(void *arg) { atomic_fetch_add((_Atomic long *)arg, 1); }
static void spawning(uint64_t *seed) {
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  _Atomic long n = 0;
  long want = 1000 + roll_to(seed, 4000);
  for (long i = 0; i < want; i++) spawn(&wg, counts, (void *)&n);
  ration_waitgroup_wait(&wg);
  MUST(n == want);
}

/* --- all of them --- */

static struct part {
  const char *name;
  void (*fn)(uint64_t *seed);
  _Atomic long steps;
  long seen; /* [watcher] and when that was */
  ration_ns seen_at;
} parts[] = {
#define P(fn) \
  { #fn, fn, 0, 0, 0 }
    P(channels), P(locks), P(timers), P(contexts), P(workers), P(echo), P(spinning), P(blocking), P(ending), P(spawning),
};
#define PARTS (sizeof parts / sizeof *parts)

static void part_main(void *arg) {
  struct part *p = arg;
  uint64_t seed = (first_seed + (uint64_t)(p - parts) * 0x9e3779b97f4a7c15u) | 1;
  for (bool last = false; !last; p->steps++) {
    last = atomic_load(&over);
    p->fn(&seed);
  }
}

static long memory_kb(void) {
  long pages = 0, all;
  FILE *f = fopen("/proc/self/statm", "r");
  MUST(f && fscanf(f, "%ld %ld", &all, &pages) == 2);
  fclose(f);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}
static int descriptors(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  MUST(d);
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

static void look_at(struct part *p) {
  ration_ns now = ration_now();
  if (p->steps != p->seen || !p->seen_at) {
    p->seen = p->steps;
    p->seen_at = now;
  } else if (now - p->seen_at > STALL_S * RATION_SECOND) {
    fprintf(stderr, "soak: %s has made no step for %d s\n", p->name, STALL_S);
    wrong(__LINE__, "all parts go on");
  }
}
static void say(ration_ns from) {
  printf("%5ld s, %zu Gs, %ld MB:", (long)((ration_now() - from) / RATION_SECOND), ration_ngs(), memory_kb() / 1024);
  for (size_t i = 0; i < PARTS; i++) printf(" %s %ld", parts[i].name, parts[i].steps);
  printf("\n");
  fflush(stdout);
}

struct watch {
  long seconds, most_kb; /* most memory in the first third */
  _Atomic bool done;
};
static void *watcher(void *arg) {
  struct watch *w = arg;
  ration_ns from = ration_now();
  for (long s = 0; !atomic_load(&w->done); s++) {
    nanosleep(&(struct timespec){1, 0}, NULL);
    for (size_t i = 0; i < PARTS && !atomic_load(&over); i++) look_at(&parts[i]);
    MUST(ration_now() - from < (w->seconds + 2 * STALL_S) * RATION_SECOND);
    if (s <= w->seconds / 3 && memory_kb() > w->most_kb) w->most_kb = memory_kb();
    if (s % 60 == 59) say(from);
    if (s + 1 >= w->seconds) atomic_store(&over, true);
  }
  say(from);
  return NULL;
}

/* All is back where it was, perhaps a little later. */
static void check_end(int fds, long most_kb) {
  for (int i = 0; (ration_ngs() != 1 || descriptors() > fds) && i < 1000; i++) ration_sleep(10 * RATION_MS);
  printf("in the end: %zu Gs, %d descriptors (%d), %ld kB (%ld)\n", ration_ngs(), descriptors(), fds, memory_kb(), most_kb);
  MUST(ration_ngs() == 1);
  MUST(descriptors() <= fds);
  MUST(ration_leaks(2) == 0);
  MUST(memory_kb() <= most_kb + GROWTH_KB);
}

static int soak(int argc, char **argv) {
  struct watch w = {.seconds = argc > 1 ? atol(argv[1]) : 20};
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  pthread_t t;
  first_seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)ration_now();
  printf("soak: %ld s, seed %llu, %u Ps\n", w.seconds, (unsigned long long)first_seed, ration_maxprocs());
  fflush(stdout);
  uint64_t seed = first_seed | 1;
  for (size_t i = 0; i < PARTS; i++) parts[i].fn(&seed); /* each once alone: what it opens for good is open then */
  int fds = descriptors();
  MUST(pthread_create(&t, NULL, watcher, &w) == 0);
  for (size_t i = 0; i < PARTS; i++) spawn(&wg, part_main, &parts[i]);
  ration_waitgroup_wait(&wg);
  atomic_store(&w.done, true);
  MUST(pthread_join(t, NULL) == 0);
  check_end(fds, w.most_kb);
  return 0;
}

int main(int argc, char **argv) { return ration_main(argc, argv, soak); }
