#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 240
#
# Programs of light Gs under valgrind: it knows their stacks (core/stack.c), and finds no error.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
[ -x "$build/tests/examples/sieve" ] || { echo "build first: make progs"; exit 77; }
command -v valgrind >/dev/null || { echo "no valgrind"; exit 77; }
grep -q __asan_init "$build/libration.so" && { echo "valgrind does not run what is built with sanitizers"; exit 77; }
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
bad=0
for name in sieve pipeline pool echo crawler; do
  for ps in 1 2; do
    RATION_STANDALONE=1 RATION_MAXPROCS=$ps timeout -k 5 60 valgrind --error-exitcode=9 \
      "$build/tests/examples/$name" --check >"$out" 2>&1
    status=$?
    # It warns of jumps to what it does not know as a stack, and goes on.
    if [ $status = 0 ] && ! grep -q 'client switching stacks' "$out"; then
      echo "ok - $name, $ps P"
    else
      echo "not ok - $name, $ps P"
      { echo "exit status $status"; cat "$out"; } | sed 's/^/#   /' | tail -60
      bad=1
    fi
  done
done
exit $bad
