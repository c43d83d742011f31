#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# OpenMP (libgomp, and LLVM's where it is) and std::thread: the size of a team, with and without pinning.
. "$(dirname "$0")/lib.sh"
need gcc
dir=${TMPDIR:-/tmp}
cat >"$dir/omp.c" <<'END'
#include <omp.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
  int team = 0;
  double sum = 0;
#pragma omp parallel
#pragma omp single
  team = omp_get_num_threads();
#pragma omp parallel for reduction(+ : sum)
  for (int i = 0; i < 1000000; i++) sum += i;
  if (argc > 1 && !strcmp(argv[1], "procs")) printf("%d\n", omp_get_num_procs());
  else if (argc > 1) printf("%d\n", team);
  else printf("%.0f\n", sum);
}
END
built=0
gcc -O2 -fopenmp -o "$dir/omp-gcc" "$dir/omp.c" 2>"$dir/log" && built=1
if [ $built = 1 ]; then
  counts libgomp_team "$dir/omp-gcc" team
  counts libgomp_procs "$dir/omp-gcc" procs
  counts libgomp_pinned_team env OMP_PROC_BIND=true OMP_PLACES=threads "$dir/omp-gcc" team
  same libgomp_sum "$dir/omp-gcc"
fi
if command -v clang >/dev/null && clang -O2 -fopenmp=libomp -o "$dir/omp-clang" "$dir/omp.c" 2>>"$dir/log"; then
  built=1
  counts libomp_team "$dir/omp-clang" team
  counts libomp_procs "$dir/omp-clang" procs
  same libomp_sum "$dir/omp-clang"
fi
if command -v g++ >/dev/null; then
  printf '#include <thread>\n#include <iostream>\nint main() { std::cout << std::thread::hardware_concurrency() << "\\n"; }\n' >"$dir/hc.cc"
  g++ -O1 -o "$dir/hc" "$dir/hc.cc" 2>>"$dir/log" && counts hardware_concurrency "$dir/hc" && built=1
fi
[ $built = 1 ] || { cat "$dir/log"; echo "no compiler with OpenMP"; exit 77; }
