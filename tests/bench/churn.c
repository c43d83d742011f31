/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn: threads that live for a moment, created and joined.
 *
 *   churn [--batch N] [--total N]      prints ns a thread; --batch: how many are created before the first is joined (1)
 */
#include "vs_go/vs_go.h"
#include <getopt.h>
#include <pthread.h>

#define BATCH_MAX 1024

static void *one(void *arg) {
  ++*(long *)arg;
  return arg;
}

static void churn(long total, long batch) {
  static long ran[BATCH_MAX];
  pthread_t t[BATCH_MAX];
  long sum = 0;
  memset(ran, 0, sizeof ran);
  for (long left = total; left > 0; left -= batch) {
    long n = left < batch ? left : batch;
    for (long i = 0; i < n; i++) must(pthread_create(&t[i], NULL, one, &ran[i]), "churn: pthread_create");
    for (long i = 0; i < n; i++) must(pthread_join(t[i], NULL), "churn: pthread_join");
  }
  for (long i = 0; i < batch; i++) sum += ran[i];
  if (sum != total) abort();
}

int main(int argc, char **argv) {
  static const struct option longopts[] = {{"batch", 1, NULL, 'b'}, {"total", 1, NULL, 't'}, {NULL, 0, NULL, 0}};
  long batch = 1, total = 20000;
  int o;
  while ((o = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
    if (o == 'b') batch = atol(optarg);
    if (o == 't') total = atol(optarg);
    if (o == '?' || batch <= 0 || batch > BATCH_MAX || total <= 0) return 2;
  }
  churn(total / 20 + 1, batch); /* first what happens once */
  int64_t began = now_ns();
  churn(total, batch);
  figure_each(began, total);
  return 0;
}
