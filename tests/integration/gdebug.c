/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What light Gs tell about themselves: programs for test_gdebug.sh, which looks at what they write.
 *
 *   gdebug NAME
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <ration/debug.h>
#include <ration/ration.h>

#define MUST(cond)                                                       \
  do {                                                                   \
    if (!(cond)) {                                                       \
      fprintf(stderr, "gdebug: line %d: not so: %s\n", __LINE__, #cond); \
      _exit(1);                                                          \
    }                                                                    \
  } while (0)
#define KEPT __attribute__((noinline))

static _Atomic long ready;
static void until_ready(long n) {
  for (int i = 0; atomic_load(&ready) < n; i++) {
    MUST(i < 20000);
    ration_sleep(RATION_MS);
  }
  ration_sleep(20 * RATION_MS); /* and now they have parked */
}

static void go_named(ration_fn *fn, void *arg, const char *name) {
  MUST(ration_go_attr(fn, arg, &(struct ration_attr){.name = name}) == 0);
}

/* --- Gs that wait; what follows the call keeps it from being a tail call --- */

static KEPT void waits_to_receive(struct ration_chan *c) {
  atomic_fetch_add(&ready, 1);
  ration_chan_recv(c, NULL);
  atomic_fetch_add(&ready, 1);
}
static KEPT void waits_to_send(struct ration_chan *c) {
  atomic_fetch_add(&ready, 1);
  ration_chan_send(c, NULL);
  atomic_fetch_add(&ready, 1);
}
static KEPT void waits_in_select(struct ration_chan *a, struct ration_chan *b) {
  struct ration_case cases[] = {ration_case_recv(a, NULL), ration_case_recv(b, NULL)};
  atomic_fetch_add(&ready, 1);
  ration_select(cases, 2, RATION_FOREVER);
  atomic_fetch_add(&ready, 1);
}
static void receiver(void *c) { waits_to_receive(c), atomic_fetch_add(&ready, 1); }
static void sender(void *c) { waits_to_send(c), atomic_fetch_add(&ready, 1); }
static struct ration_chan *pair[2];
static void selecter(void *arg) {
  (void)arg;
  waits_in_select(pair[0], pair[1]);
  atomic_fetch_add(&ready, 1);
}
static void sleeper(void *arg) {
  (void)arg;
  atomic_fetch_add(&ready, 1);
  ration_sleep(1000 * RATION_SECOND);
  atomic_fetch_add(&ready, 1);
}
static _Atomic unsigned long spun;
static KEPT void spins(void) {
  for (;;) atomic_fetch_add_explicit(&spun, 1, memory_order_relaxed);
}
static void spinner(void *arg) {
  (void)arg;
  atomic_fetch_add(&ready, 1);
  spins();
}
static KEPT void reads_for_ever(int fd) {
  char byte;
  while (read(fd, &byte, 1) != 0) continue;
  atomic_fetch_add(&ready, 1);
}

static int deadlock(void) {
  pair[0] = ration_chan_new(0, 0), pair[1] = ration_chan_new(0, 0);
  go_named(receiver, ration_chan_new(0, 0), "taker");
  go_named(sender, ration_chan_new(0, 0), "giver");
  go_named(selecter, NULL, "chooser");
  until_ready(3);
  waits_to_receive(NULL);
  return 1;
}

/* The script sends SIGQUIT when it has read "ready". */
static int quit(void) {
  go_named(receiver, ration_chan_new(0, 0), "taker");
  go_named(sleeper, NULL, "sleeper");
  go_named(spinner, NULL, "spinner");
  until_ready(3);
  puts("ready");
  fflush(stdout);
  ration_sleep(100 * RATION_SECOND);
  return 1;
}

static void pipe_reader(void *arg) {
  int fds[2];
  (void)arg;
  MUST(pipe(fds) == 0);
  atomic_fetch_add(&ready, 1);
  reads_for_ever(fds[0]);
  atomic_fetch_add(&ready, 1);
}

static KEPT void dumps(void) {
  ration_dump(1);
  atomic_fetch_add(&ready, 1);
}
/* Gs that run, that were preempted, that are in a call, and the one that asks. */
static int dump(void) {
  for (int i = 0; i < 3; i++) go_named(spinner, NULL, "spinner");
  go_named(pipe_reader, NULL, "reader");
  until_ready(4);
  ration_sleep(50 * RATION_MS);
  dumps();
  unsigned long before = atomic_load(&spun);
  ration_sleep(50 * RATION_MS);
  MUST(atomic_load(&spun) != before); /* the world goes on */
  return 0;
}

/* For test_gdb.py: Gs of all kinds, and a thread that is none. */
static void locked_receiver(void *c) {
  ration_lock_os_thread();
  receiver(c);
}
static void *plain_thread(void *arg) {
  while (!arg) pause();
  return arg;
}
static int gdb(void) {
  pthread_t t;
  pair[0] = ration_chan_new(0, 0), pair[1] = ration_chan_new(0, 0);
  go_named(receiver, ration_chan_new(0, 0), "taker");
  go_named(sender, ration_chan_new(0, 0), "giver");
  go_named(selecter, NULL, "chooser");
  go_named(sleeper, NULL, "sleeper");
  go_named(pipe_reader, NULL, "reader");
  go_named(locked_receiver, ration_chan_new(0, 0), "locked");
  MUST(ration_go_attr(receiver, ration_chan_new(0, 0), &(struct ration_attr){.name = "large", .stack = 1 << 20}) == 0);
  for (int i = 0; i < 3; i++) go_named(spinner, NULL, "spinner");
  until_ready(10);
  MUST(pthread_create(&t, NULL, plain_thread, NULL) == 0);
  ration_sleep(50 * RATION_MS);
  puts("ready");
  fflush(stdout);
  waits_to_receive(pair[0]);
  return 1;
}

static double now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int many(void) {
  struct ration_chan *c = ration_chan_new(0, 0);
  for (int i = 0; i < 10000; i++) MUST(ration_go(receiver, c) == 0);
  until_ready(10000);
  int fd = open("dump", O_RDWR | O_CREAT | O_TRUNC, 0644);
  double from = now();
  ration_dump(fd);
  double took = now() - from;
  fprintf(stderr, "%.3f s\n", took);
  MUST(took < 2.0);
  ration_chan_close(c);
  until_ready(10000);
  return 0;
}

/* --- leaks --- */

/* Volatile, or the compiler does without what is written only. */
static struct ration_chan *volatile kept;            /* in the program's data */
static struct ration_chan *volatile *volatile boxed; /* in the heap */

static KEPT void leak_some(void) {
  go_named(receiver, ration_chan_new(0, 0), "lost-taker");
  go_named(sender, ration_chan_new(0, 0), "lost-giver");
  go_named(receiver, NULL, "nil-taker");
  kept = ration_chan_new(0, 0);
  go_named(receiver, kept, "kept-taker");
  boxed = malloc(sizeof *boxed);
  *boxed = ration_chan_ref(ration_chan_new(0, 0));
  go_named(receiver, *boxed, "boxed-taker");
  go_named(sleeper, NULL, "sleeper");
}
/* Stale copies of what leak_some had. */
static KEPT void wipe_stack(void) {
  volatile char trash[8192];
  for (size_t i = 0; i < sizeof trash; i++) trash[i] = 0;
}

/* Who has not parked yet is no leak: on a busy machine that takes a while.  And what carriers have left on their stacks goes as they run others. */
static void run_and_end(void *arg) {
  (void)arg;
  wipe_stack();
}
static void until_leaks(int n) {
  for (int i = 0; i < 1000 && ration_leaks(-1) != n; i++) {
    for (int k = 0; k < 4; k++) ration_go(run_and_end, NULL);
    wipe_stack();
    ration_sleep(10 * RATION_MS);
  }
}

static int leaks(void) {
  leak_some();
  wipe_stack();
  until_ready(6);
  until_leaks(3);
  int n = ration_leaks(1);
  fprintf(stderr, "%d leaks\n", n);
  MUST(n == 3);
  MUST(ration_leaks(-1) == 3);
  kept = NULL;
  MUST(ration_leaks(-1) == 4);
  return 0;
}

/* A G that holds the other end of what another waits for, and is lost itself; and one that is not. */
struct link {
  struct ration_chan *own, *other;
};
static KEPT void holds_and_waits(struct ration_chan *own, struct ration_chan *other) {
  atomic_fetch_add(&ready, 1);
  ration_chan_recv(own, NULL);
  ration_chan_send(other, NULL);
}
static void holder(void *arg) {
  struct link l = *(struct link *)arg;
  memset(arg, 0, sizeof l);
  __asm__ volatile("" ::"r"(arg) : "memory"); /* in freed memory it would be a reference */
  free(arg);
  holds_and_waits(l.own, l.other);
}
static KEPT void make_chain(struct ration_chan *first, int n, const char *name) {
  struct ration_chan *own = first;
  for (int i = 0; i < n; i++) {
    struct link *l = malloc(sizeof *l);
    l->own = own;
    l->other = own = ration_chan_new(0, 0);
    go_named(holder, l, name);
  }
}
static int chains(void) {
  kept = ration_chan_new(0, 0);
  make_chain(kept, 20, "held");
  make_chain(ration_chan_new(0, 0), 20, "lost");
  wipe_stack();
  until_ready(40);
  until_leaks(20);
  MUST(ration_leaks(1) == 20);
  return 0;
}

static void selecter_of(void *arg) {
  struct ration_chan **two = arg;
  struct ration_chan *a = two[0], *b = two[1];
  two[0] = two[1] = NULL;
  waits_in_select(a, b);
  atomic_fetch_add(&ready, 1);
}
static KEPT void leak_selects(void) {
  static struct ration_chan *lost[2], *half[2];
  lost[0] = ration_chan_new(0, 0), lost[1] = ration_chan_new(0, 0);
  half[0] = ration_chan_new(0, 0), half[1] = kept = ration_chan_new(0, 0);
  go_named(selecter_of, lost, "lost-select");
  go_named(selecter_of, half, "half-select");
}
static void timed(void *arg) {
  (void)arg;
  struct ration_chan *c = ration_chan_new(0, 0);
  atomic_fetch_add(&ready, 1);
  ration_chan_recv_timeout(c, NULL, 1000 * RATION_SECOND);
  atomic_fetch_add(&ready, 1);
}
static int selects(void) {
  leak_selects();
  go_named(timed, NULL, "timed");
  wipe_stack();
  until_ready(3);
  until_leaks(1);
  MUST(ration_leaks(1) == 1);
  return 0;
}

/* A reference in the heap, of one who did not drop it but is gone: only counting can tell. */
static KEPT void leave_a_box(void) {
  struct ration_chan *volatile *volatile box = malloc(sizeof *box);
  *box = ration_chan_new(0, 0);
  go_named(receiver, *box, "counted-out");
  box = malloc(sizeof *box);
  *box = ration_chan_ref(ration_chan_new(0, 0));
  go_named(receiver, *box, "counted-in");
}
/* A structure whose owner is known, and whose worker has borrowed the channel: no leak, though the count is one. */
static KEPT struct ration_chan **make_server(void) {
  struct ration_chan **server = malloc(64 * sizeof *server);
  server[40] = ration_chan_new(0, 0);
  go_named(receiver, server[40], "served");
  return server;
}
static int counts(void) {
  struct ration_chan **volatile server = make_server();
  leave_a_box();
  wipe_stack();
  until_ready(3);
  until_leaks(1);
  MUST(ration_leaks(1) == 1);
  server[40] = NULL;
  return 0;
}

/* A million words of the heap are no trouble, nor are threads that come and go. */
static _Atomic bool over;
static void *comes_and_goes(void *arg) {
  (void)arg;
  while (!atomic_load(&over)) {
    char *block = malloc(300000);
    memset(block, 1, 300000);
    free(block);
  }
  return NULL;
}
static int busy(void) {
  pthread_t t[3];
  leak_some();
  wipe_stack();
  for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, comes_and_goes, NULL);
  for (int i = 0; i < 3; i++) go_named(spinner, NULL, "spinner");
  until_ready(9);
  int null = open("/dev/null", O_WRONLY);
  for (int i = 0; i < 50; i++) {
    MUST(ration_leaks(-1) >= 1); /* the one at the nil channel; of the others old copies may lie about */
    ration_dump(null);
  }
  atomic_store(&over, true);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  return 0;
}

/* Lets the script look at schedtrace for a while. */
static int trace(void) {
  go_named(receiver, kept = ration_chan_new(0, 0), "taker");
  for (int i = 0; i < 4; i++) go_named(spinner, NULL, "spinner");
  until_ready(5);
  ration_sleep(500 * RATION_MS);
  return 0;
}

static int (*program)(void);
static int in_main(int argc, char **argv) {
  (void)argc, (void)argv;
  return program();
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*fn)(void);
  } programs[] = {{"deadlock", deadlock}, {"quit", quit},     {"dump", dump},   {"many", many}, {"leaks", leaks}, {"chains", chains},
                  {"selects", selects},   {"counts", counts}, {"trace", trace}, {"busy", busy}, {"gdb", gdb}};
  for (size_t i = 0; argc == 2 && i < sizeof programs / sizeof *programs; i++)
    if (strcmp(argv[1], programs[i].name) == 0) program = programs[i].fn;
  if (program == quit || program == dump) signal(SIGQUIT, SIG_DFL); /* a shell ignores it for what runs in the background */
  if (program) return ration_main(argc, argv, in_main);
  fputs("usage: gdebug NAME\n", stderr);
  return 2;
}
