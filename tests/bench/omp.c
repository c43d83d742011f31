/* SPDX-License-Identifier: Apache-2.0 */
/*
 * omp: an OpenMP program as they are: many short parallel loops with a barrier after each, threads as many as the
 * runtime thinks there are CPUs.  Prints the seconds taken, the threads used and a checksum.
 *
 *   omp [LOOPS]
 *
 * What makes it hard under a quota: between the loops libgomp's threads spin at the barrier, and a thread that is
 * throttled or has no CPU stops all the others.
 */
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define N 4096

static double a[N];

int main(int argc, char **argv) {
  long loops = argc > 1 ? atol(argv[1]) : 10000;
  double sum = 0, t0 = omp_get_wtime();
  for (int i = 0; i < N; i++) a[i] = 1.0 / (i + 1);
  for (long l = 0; l < loops; l++) {
#pragma omp parallel for schedule(static)
    for (int i = 0; i < N; i++) {
      double x = a[i];
      for (int k = 0; k < 40; k++) x = x * 0.999 + 0.001 / (1.0 + x * x);
      a[i] = x;
    }
  }
  double seconds = omp_get_wtime() - t0;
  for (int i = 0; i < N; i++) sum += a[i];
  printf("%.4f %d %.12f\n", seconds, omp_get_max_threads(), sum);
  return 0;
}
