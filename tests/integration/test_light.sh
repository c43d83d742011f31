#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Light Gs in real processes (light.c), with one P and with two, without a daemon.
here=$(cd "$(dirname "$0")" && pwd)
case ${BUILD:-build} in /*) build=${BUILD:-build} ;; *) build=$here/../../${BUILD:-build} ;; esac
prog=$build/tests/integration/light
[ -x "$prog" ] || { echo "build first: make progs"; exit 77; }
bad=0
for name in $("$prog" list); do
  for ps in 1 2; do
    if out=$(RATION_STANDALONE=1 RATION_MAXPROCS=$ps timeout -s QUIT -k 5 20 "$prog" "$name" 2>&1); then
      skip=$(printf '%s\n' "$out" | sed -n 's/^SKIP / # SKIP /p')
      echo "ok - $name, $ps P$skip"
    else
      echo "not ok - $name, $ps P"
      printf '%s\n' "$out" | sed 's/^/#   /' | head -40
      bad=1
    fi
  done
done
exit $bad
