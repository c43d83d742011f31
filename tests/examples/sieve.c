/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prime sieve: a chain of Gs, one for each prime, each of which passes on what its prime does not divide.
 *
 *   generate --2,3,4,5..--> filter 2 --3,5,7,9..--> filter 3 --5,7,11..--> filter 5 --> ...
 *
 *   sieve [N]       prints the first N primes (100)
 *   sieve --check   the same, and checks each by division
 *
 * What to see here: channels without a buffer, and how little a G and a switch between two of them cost: 100 primes are 100 Gs and some
 * ten thousand meetings of two Gs.  It is a famous example, not a fast way to find primes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ration/ration.h>

typedef RATION_CHAN(int) int_chan;

/* A G gets one pointer; what does not fit is on the heap, and the new G frees it. */
struct filter {
  int_chan in, out;
  int prime;
};

static void generate(void *arg) {
  int_chan out = {arg}; /* a channel is a pointer inside: c.chan takes it out, {p} puts it in */
  for (int i = 2;; i++) RATION_SEND(out, i);
}

static void filter(void *arg) {
  struct filter f = *(struct filter *)arg;
  free(arg);
  for (int i; RATION_RECV(f.in, &i);)
    if (i % f.prime != 0) RATION_SEND(f.out, i);
}

static int_chan new_chan(void) {
  int_chan c = RATION_CHAN_NEW(int_chan, 0);
  if (!c.chan) abort();
  return c;
}

/* Puts a filter behind `in`; what it lets through. */
static int_chan add_filter(int_chan in, int prime) {
  struct filter *f = malloc(sizeof *f);
  if (!f) abort();
  *f = (struct filter){in, new_chan(), prime};
  int_chan out = f->out; /* from ration_go on, f is the other G's */
  if (ration_go(filter, f) < 0) abort();
  return out;
}

static bool is_prime(int n) {
  for (int i = 2; i * i <= n; i++)
    if (n % i == 0) return false;
  return n > 1;
}

static int prog(int argc, char **argv) {
  bool check = argc > 1 && strcmp(argv[1], "--check") == 0;
  int n = argc > 1 && !check ? atoi(argv[1]) : 100, before = 1;
  int_chan c = new_chan();
  if (ration_go(generate, c.chan) < 0) abort();
  for (int i = 0; i < n; i++) {
    int prime;
    RATION_RECV(c, &prime);
    printf("%d%c", prime, i % 10 == 9 || i == n - 1 ? '\n' : ' ');
    if (check) {
      for (int k = before + 1; k < prime; k++)
        if (is_prime(k)) return fprintf(stderr, "%d was left out\n", k), 1;
      if (!is_prime(prime)) return fprintf(stderr, "%d is no prime\n", prime), 1;
      before = prime;
    }
    c = add_filter(c, prime);
  }
  return 0; /* the Gs of the chain are in the middle of a send: they end with the program.  pipeline.c shows how to end such a chain */
}

int main(int argc, char **argv) { return ration_main(argc, argv, prog); }
