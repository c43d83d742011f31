#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# timeout: 200
#
# Waits that nobody can end (deadlock.c) are reported, with the reason, and end the program with 2.
here=$(cd "$(dirname "$0")" && pwd)
case ${BUILD:-build} in /*) build=${BUILD:-build} ;; *) build=$here/../../${BUILD:-build} ;; esac
prog=$build/tests/integration/deadlock
[ -x "$prog" ] || { echo "build first: make progs"; exit 77; }
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
"$prog" list | {
  bad=0
  while read -r name says; do
    for ps in 1 2; do
      RATION_STANDALONE=1 RATION_MAXPROCS=$ps timeout -s QUIT -k 5 20 "$prog" "$name" >"$out" 2>&1 </dev/null
      status=$?
      if [ $status = 2 ] && grep -q 'all Gs are asleep - deadlock!' "$out" && grep -q "^G .*\"main\" \[$says" "$out"; then
        echo "ok - $name, $ps P"
      else
        echo "not ok - $name, $ps P"
        { echo "exit status $status"; cat "$out"; } | sed 's/^/#   /' | head -40
        bad=1
      fi
    done
  done
  exit $bad
}
