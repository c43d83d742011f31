/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker pool: some workers take jobs out of one channel and put results into another.
 *
 *                    .-> worker 0 -.
 *   main --jobs------+-> worker 1 -+--results--> main
 *                    '-> worker 2 -'
 *
 *   pool [WORKERS]    which number below 30000 takes the most Collatz steps?  Then the same with ration_workers, which is such a pool ready made, and
 *                     in one loop, and compares
 *
 * What to see here: a channel is a queue that any number may wait at, at both ends; close ends the loops of all
 * receivers; a wait group knows when the last of several Gs has ended.  Gs for computing need no more workers than
 * there are Ps (ration_maxprocs): a G that computes on and on is preempted after 10 ms, so the others are not stopped by it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <ration/ration.h>
#include <ration/sync.h>
#include <ration/workers.h>

#define BELOW 30000
#define CHUNK 500

struct range {
  int from, to;
};
struct best {
  int number, steps;
};

/* Elements may be of any type: they are copied into the channel and out of it. */
typedef RATION_CHAN(struct range) job_chan;
typedef RATION_CHAN(struct best) result_chan;

static job_chan jobs;
static result_chan results;
static struct ration_waitgroup workers = RATION_WAITGROUP_INIT;

static struct best search(struct range r) {
  struct best b = {0, -1};
  for (int n = r.from; n < r.to; n++) {
    int steps = 0;
    for (long x = n; x != 1; steps++) x = x % 2 ? 3 * x + 1 : x / 2;
    if (steps > b.steps) b = (struct best){n, steps};
  }
  return b;
}

static struct best better(struct best a, struct best b) { return b.steps > a.steps || (b.steps == a.steps && b.number < a.number) ? b : a; }

static void work(void *arg) {
  (void)arg;
  for (struct range r; RATION_RECV(jobs, &r);) RATION_SEND(results, search(r)); /* RECV is false when jobs is closed and empty */
}

static void hand_out(void *arg) {
  (void)arg;
  for (int n = 1; n < BELOW; n += CHUNK) {
    struct range r = {n, n + CHUNK < BELOW ? n + CHUNK : BELOW};
    RATION_SEND(jobs, r); /* waits while all workers are busy and the buffer is full: nobody runs away */
  }
  RATION_CLOSE(jobs);
  ration_waitgroup_wait(&workers); /* only when no worker is left may the results be closed: a send on a closed channel is fatal */
  RATION_CLOSE(results);
}

/* --- the same with a pool that is ready made: tasks are functions, and the results stay where the tasks put them --- */

struct task {
  struct range range;
  struct best best;
};

static void run_task(void *arg) {
  struct task *t = arg;
  t->best = search(t->range);
}

static struct best by_workers(unsigned n) {
  static struct task tasks[(BELOW + CHUNK - 1) / CHUNK];
  const int ntasks = sizeof tasks / sizeof *tasks;
  struct ration_workers *pool = ration_workers_new(&(struct ration_workers_options){.size = n});
  if (!pool) abort();
  for (int i = 0; i < ntasks; i++) {
    int from = 1 + i * CHUNK;
    tasks[i].range = (struct range){from, from + CHUNK < BELOW ? from + CHUNK : BELOW};
    if (ration_workers_submit(pool, run_task, &tasks[i]) < 0) abort(); /* waits while all are busy */
  }
  ration_workers_free(pool); /* waits until all tasks are done */
  struct best all = {0, -1};
  for (int i = 0; i < ntasks; i++) all = better(all, tasks[i].best);
  return all;
}

static bool same(struct best a, struct best b) { return a.number == b.number && a.steps == b.steps; }

static int prog(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 0;
  if (n <= 0) n = (int)ration_maxprocs() + 1;
  jobs = RATION_CHAN_NEW(job_chan, 16);
  results = RATION_CHAN_NEW(result_chan, 16);
  if (!jobs.chan || !results.chan) abort();

  for (int i = 0; i < n; i++)
    if (ration_waitgroup_go(&workers, work, NULL) < 0) abort(); /* counts up, runs work in a G, and counts down when it returns */
  if (ration_go(hand_out, NULL) < 0) abort();

  struct best all = {0, -1};
  for (struct best b; RATION_RECV(results, &b);) all = better(all, b);
  ration_chan_unref(jobs.chan);
  ration_chan_unref(results.chan);

  struct best ready_made = by_workers((unsigned)n), alone = search((struct range){1, BELOW});
  printf("%d takes %d steps\n", all.number, all.steps);
  return same(all, alone) && same(ready_made, alone) ? 0 : 1;
}

int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
