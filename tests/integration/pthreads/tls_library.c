/* SPDX-License-Identifier: Apache-2.0 */
/* What local.c loads while threads exist: variables of each thread's own, by both ways that a library can reach them. */
#include "tls_library.h"

static __thread int dynamic_one = 7;
static __thread int fixed_one __attribute__((tls_model("initial-exec"))) = 9;
static __thread char zeros[4096];

int tls_library_add(int n) {
  dynamic_one += n;
  fixed_one += n;
  zeros[n] = 1;
  return dynamic_one * 1000 + fixed_one;
}

int tls_library_zeros(void) {
  int n = 0;
  for (unsigned i = 0; i < sizeof zeros; i++) n += zeros[i] == 0;
  return n;
}
