/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that indexes by the CPU number of its rseq area, as tcmalloc does, for test_counts_files.sh:
 * prints what it takes for the size of its array, what it is told of online CPUs, and whether sched_getcpu agrees with rseq.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/rseq.h>
#include <unistd.h>

int main(void) {
  long online = sysconf(_SC_NPROCESSORS_ONLN), size = sysconf(_SC_NPROCESSORS_CONF);
  char possible[256] = "";
  FILE *f = fopen("/sys/devices/system/cpu/possible", "r");
  if (!f || !fgets(possible, sizeof possible, f)) return 1;
  fclose(f);
  const volatile struct rseq *rs = (const void *)((const char *)__builtin_thread_pointer() + __rseq_offset);
  int agree = 0;
  for (int i = 0; i < 1000 && !agree; i++) { /* it may move between the two */
    unsigned before = rs->cpu_id;
    agree = __rseq_size == 0 || (sched_getcpu() == (int)before && rs->cpu_id == before);
  }
  printf("%ld %ld %d %s", online, size, agree, possible);
  return 0;
}
