/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pipeline with a context: stages joined by channels, and all of them end when the reader has had enough.
 *
 *                    .-> square -.
 *   count --1,2,3..--+-> square -+--1,4,9..--> main
 *                    '-> square -'
 *
 *   pipeline      once until main has its 1000 squares and cancels, once until a deadline
 *
 * What to see here: who sends into a channel that nobody reads any more waits for ever.  So each stage waits for two things at once, its
 * channel and the end of the context, by a select; and when the context ends, all Gs are gone (main looks).  Each stage owns a
 * reference to what it uses, so nobody needs to know who is the last.
 */
#include <stdio.h>
#include <stdlib.h>
#include <ration/ration.h>
#include <ration/context.h>

#define STAGES 3
#define ENOUGH 1000

typedef RATION_CHAN(long) long_chan;

/* What a stage needs; each has its own copy, with references of its own. */
struct stage {
  struct ration_context *ctx;
  long_chan in, out; /* in: null for the first */
};

static void start(ration_fn *fn, struct ration_context *ctx, long_chan in, long_chan out) {
  struct stage *s = malloc(sizeof *s);
  if (!s) abort();
  *s = (struct stage){ration_context_ref(ctx), {ration_chan_ref(in.chan)}, {ration_chan_ref(out.chan)}};
  if (ration_go(fn, s) < 0) abort();
}

static void end(struct stage *s) {
  ration_context_unref(s->ctx);
  ration_chan_unref(s->in.chan); /* null is fine */
  ration_chan_unref(s->out.chan);
  free(s);
}

/* Sends v, unless the context ends first. */
static bool send_to(struct stage *s, long v) {
  struct ration_case cases[] = {
      RATION_CASE_SEND_FROM(s->out, &v),
      ration_case_recv(ration_context_done(s->ctx), NULL), /* is closed at the end: then a receive is always ready */
  };
  return ration_select(cases, 2, RATION_FOREVER) == 0;
}

static bool receive_from(struct stage *s, long *v) {
  struct ration_case cases[] = {
      RATION_CASE_RECV(s->in, v),
      ration_case_recv(ration_context_done(s->ctx), NULL),
  };
  return ration_select(cases, 2, RATION_FOREVER) == 0 && cases[0].ok;
}

static void count(void *arg) {
  struct stage *s = arg;
  for (long i = 1; send_to(s, i); i++) {
  }
  end(s);
}

static void square(void *arg) {
  struct stage *s = arg;
  for (long v; receive_from(s, &v);)
    if (!send_to(s, v * v)) break;
  end(s);
}

/* Starts the stages; where their results come out.  They end with ctx. */
static long_chan squares(struct ration_context *ctx) {
  long_chan none = {NULL}, numbers = RATION_CHAN_NEW(long_chan, 0), out = RATION_CHAN_NEW(long_chan, 8);
  if (!numbers.chan || !out.chan) abort();
  start(count, ctx, none, numbers);
  for (int i = 0; i < STAGES; i++) start(square, ctx, numbers, out);
  ration_chan_unref(numbers.chan); /* the stages have theirs */
  return out;
}

static bool is_square(long v) {
  long r = 0;
  while (r * r < v) r++;
  return r * r == v;
}

/* Main alone is left? */
static bool all_ended(void) {
  for (int i = 0; i < 1000 && ration_ngs() > 1; i++) ration_sleep(RATION_MS);
  return ration_ngs() == 1;
}

static bool until_enough(void) {
  struct ration_context *ctx = ration_context_with_cancel(NULL);
  if (!ctx) abort();
  long_chan out = squares(ctx);
  long v;
  int good = 0;
  for (int i = 0; i < ENOUGH; i++) good += RATION_RECV(out, &v) && is_square(v);
  ration_context_cancel(ctx);
  ration_chan_unref(out.chan);
  bool ended = all_ended();
  printf("%d squares, then cancelled: %s\n", good, ended ? "all stages ended" : "a stage is left");
  bool cancelled = ration_context_err(ctx) == -ECANCELED;
  ration_context_unref(ctx);
  return good == ENOUGH && cancelled && ended;
}

static bool until_late(void) {
  struct ration_context *ctx = ration_context_with_timeout(NULL, 30 * RATION_MS);
  if (!ctx) abort();
  long_chan out = squares(ctx);
  struct stage reader = {ctx, out, {NULL}};
  for (long v; receive_from(&reader, &v);) {
  }
  int why = ration_context_err(ctx);
  ration_chan_unref(out.chan);
  bool ended = all_ended();
  printf("30 ms, then %s: %s\n", why == -ETIMEDOUT ? "timed out" : "?", ended ? "all stages ended" : "a stage is left");
  ration_context_unref(ctx);
  return why == -ETIMEDOUT && ended;
}

static int prog(int argc, char **argv) {
  (void)argc, (void)argv;
  bool enough = until_enough(), late = until_late();
  return enough && late ? 0 : 1;
}

int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
