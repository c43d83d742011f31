/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local run queue under threads: every G that is put is run exactly once, by whoever got it, and whoever
 * runs it sees what the putter wrote into it.
 *
 *   owner     puts all Gs into its queue, some as runnext, some in batches, and runs a few itself; what overflows goes to a global list
 *   thieves   have queues of their own; they steal from the owner and from each other, and take from the global list
 *   watcher   asks runq_empty of a queue that always holds a G, which moves between runnext and ring all the time
 *
 * A G's payload is plain memory on purpose: under ThreadSanitizer a queue that hands over a G without ordering
 * is a reported race, and a G that is run twice is one as well.
 *
 * This file is also built with RUNQ_SEED_BUG against a queue that is broken on purpose (runq.mk).
 * The real program then starts those, and fails unless they fail: so that we know that it can.
 *
 * Prints TAP.  No time limits in here: it ends when all is done, tests/run ends it if that takes for ever.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/g.h"
#include "core/runq.h"

#if defined(__SANITIZE_THREAD__) || defined(RATION_SAN_thread)
#define TSAN 1
#define NGS 60000u
#else
#define TSAN 0
#define NGS 1000000u
#endif
#define THIEVES 3
#define CANARY 0x5eed0000u

struct item {
  struct g g;
  unsigned payload; /* plain: written before put, read and rewritten by the one that runs it */
  _Atomic unsigned runs;
};

static struct item *items;
static struct runq queues[1 + THIEVES];
static _Atomic bool all_put;
static _Atomic unsigned failures;

static pthread_mutex_t global_lock = PTHREAD_MUTEX_INITIALIZER;
static struct g **global;
static unsigned nglobal;

static void fail(const char *what, unsigned i) {
  if (atomic_fetch_add(&failures, 1) < 5) fprintf(stderr, "G %u: %s\n", i, what);
}

static void run(struct g *g) {
  struct item *it = (struct item *)g;
  unsigned i = (unsigned)(it - items);
  if (it->payload != CANARY + i) fail("run with a payload that is not its own", i);
  it->payload = 0;
  if (atomic_fetch_add_explicit(&it->runs, 1, memory_order_relaxed) != 0) fail("run twice", i);
}

static void global_put(struct g **gs, unsigned n) {
  pthread_mutex_lock(&global_lock);
  memcpy(&global[nglobal], gs, n * sizeof(*gs));
  nglobal += n;
  pthread_mutex_unlock(&global_lock);
}

static struct g *global_get(void) {
  pthread_mutex_lock(&global_lock);
  struct g *g = nglobal ? global[--nglobal] : NULL;
  pthread_mutex_unlock(&global_lock);
  return g;
}

static void put(struct runq *rq, struct g *g, bool next) {
  struct g *over[RUNQ_OVERFLOW];
  unsigned n;
  if (!runq_put(rq, g, next, over, &n)) global_put(over, n);
}

static void *owner(void *arg) {
  struct runq *rq = arg;
  unsigned seed = 1;
  bool inherit;
  for (unsigned i = 0; i < NGS && !atomic_load(&failures);) {
    unsigned dice = (unsigned)rand_r(&seed) % 16;
    if (dice == 0) {
      struct g *batch[8];
      unsigned n = NGS - i < 8 ? NGS - i : 8;
      for (unsigned k = 0; k < n; k++) {
        items[i + k].payload = CANARY + i + k;
        batch[k] = &items[i + k].g;
      }
      i += runq_put_batch(rq, batch, n);
    } else if (dice < 9) {
      items[i].payload = CANARY + i;
      put(rq, &items[i].g, dice & 1);
      i++;
    } else {
      struct g *g = runq_get(rq, &inherit);
      if (g) run(g);
    }
  }
  atomic_store(&all_put, true);
  for (struct g *g; (g = runq_get(rq, &inherit));) run(g);
  return NULL;
}

static struct g *find_work(struct runq *self, unsigned *seed) {
  bool inherit;
  struct g *g = runq_get(self, &inherit);
  unsigned dice = (unsigned)rand_r(seed);
  for (unsigned i = 0; !g && i <= THIEVES; i++) {
    struct runq *victim = &queues[(dice + i) % (1 + THIEVES)];
    if (victim != self) g = runq_steal(self, victim, (enum runq_next)(dice / 8 % 3));
  }
  return g ? g : global_get();
}

static void *thief(void *arg) {
  struct runq *self = arg;
  unsigned seed = 7 + (unsigned)(self - queues);
  for (;;) {
    bool last_look = atomic_load(&all_put);
    struct g *g = find_work(self, &seed);
    if (atomic_load(&failures)) return NULL;
    if (g)
      run(g);
    else if (last_look)
      return NULL; /* what others hold now they run themselves; runnexts that are left are swept up at the end */
  }
}

/* All that is left in the queues; then every G must have been run once. */
static void sweep(void) {
  bool inherit;
  for (unsigned i = 0; i <= THIEVES; i++) {
    for (struct g *g; (g = runq_get(&queues[i], &inherit));) run(g);
    if (!runq_empty(&queues[i])) fail("queue is not empty in the end", i);
  }
  for (struct g *g; (g = global_get());) run(g);
  for (unsigned i = 0; i < NGS && !atomic_load(&failures); i++)
    if (atomic_load(&items[i].runs) != 1) fail("was lost", i);
}

static bool each_g_runs_once(void) {
  pthread_t t[1 + THIEVES];
  for (unsigned i = 0; i <= THIEVES; i++) {
    runq_init(&queues[i]);
    atomic_store(&queues[i].head, UINT32_MAX - 1000 * i); /* the counters wrap on the way */
    atomic_store(&queues[i].tail, UINT32_MAX - 1000 * i);
  }
  for (unsigned i = 0; i <= THIEVES; i++) pthread_create(&t[i], NULL, i ? thief : owner, &queues[i]);
  for (unsigned i = 0; i <= THIEVES; i++) pthread_join(t[i], NULL);
  if (!atomic_load(&failures)) sweep();
  return !atomic_load(&failures);
}

/* ---- runq_empty while a G moves from runnext to the ring ---- */

static _Atomic bool kicker_done;

/* Goes round, and at every moment of the round its queue holds a or b:
 * a in runnext alone; b kicks a into the ring; b runs; b behind a; a runs; a into runnext; b is stolen. */
static void *kicker(void *arg) {
  struct runq *rq = arg, *aux = &queues[1];
  struct g *a = &items[0].g, *b = &items[1].g;
  bool inherit;
  for (unsigned i = 0; i < NGS && !atomic_load(&failures); i++) {
    put(rq, b, true);
    if (runq_get(rq, &inherit) != b) fail("is not the runnext it was put as", 1);
    put(rq, b, false);
    if (runq_get(rq, &inherit) != a) fail("is not at the head", 0);
    put(rq, a, true);
    if (runq_steal(aux, rq, RUNQ_NEXT_LEAVE) != b) fail("can't be stolen", 1);
  }
  atomic_store(&kicker_done, true);
  return NULL;
}

static bool queue_with_a_kicked_g_is_never_empty(void) {
  pthread_t t;
  unsigned looks = 0;
  for (unsigned i = 0; i < 2; i++) runq_init(&queues[i]);
  put(&queues[0], &items[0].g, true);
  pthread_create(&t, NULL, kicker, &queues[0]);
  for (; !atomic_load(&kicker_done); looks++)
    if (runq_empty(&queues[0])) fail("is in the queue that is said to be empty", 0);
  pthread_join(t, NULL);
  fprintf(stderr, "%u looks\n", looks);
  return !atomic_load(&failures);
}

/* ---- can it fail? ---- */

#ifndef RUNQ_SEED_BUG
/* Runs the build of this file with that bug, which must fail: say so itself (status 1), be stopped by TSan (66), or
 * crash or hang.  Several tries, since on a busy machine its threads may hardly meet. */
static bool bug_is_found(const char *dir, int bug) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/seeded_runq_%d", dir, bug);
  for (int try = 0; try < 10; try++) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
      alarm(60);
      dup2(STDERR_FILENO, STDOUT_FILENO);
      execl(path, path, (char *)NULL);
      perror(path);
      _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return false;
    if (WIFSIGNALED(status) || WEXITSTATUS(status) == 1 || (TSAN && WEXITSTATUS(status) == 66)) return true;
    if (WEXITSTATUS(status) != 0) return false;
  }
  return false;
}
#endif

/* TAP, except from a broken build, which is not a test of its own. */
static int report(int n, const char *name, bool ok) {
#ifdef RUNQ_SEED_BUG
  printf("with bug %d, %d %s: %s\n", RUNQ_SEED_BUG, n, name, ok ? "passed" : "failed");
#else
  printf("%sok %d - %s\n", ok ? "" : "not ", n, name);
#endif
  fflush(stdout);
  atomic_store(&failures, 0);
  return !ok;
}

int main(int argc, char **argv) {
  int failed = 0;
  (void)argc;
  items = calloc(NGS, sizeof(*items));
  global = calloc(NGS, sizeof(struct g *));
  if (!items || !global) return 2;
  failed |= report(1, "each_g_runs_once", each_g_runs_once());
  failed |= report(2, "queue_with_a_kicked_g_is_never_empty", queue_with_a_kicked_g_is_never_empty());
#ifndef RUNQ_SEED_BUG
  char *slash = strrchr(argv[0], '/');
  if (slash) *slash = 0;
  const char *dir = slash ? argv[0] : ".";
  failed |= report(3, "broken_claim_is_found", bug_is_found(dir, 1));
  /* On x86 a missing release is not seen by running: there it takes TSan. */
  if (TSAN) failed |= report(4, "unordered_publish_is_found", bug_is_found(dir, 2));
  failed |= report(TSAN + 4, "empty_without_a_second_look_is_found", bug_is_found(dir, 3));
#else
  (void)argv;
#endif
  free(items);
  free(global);
  return failed;
}
