#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# A program whose thread-local variables are larger than a carrier's stack, or what service threads have about their thread pointer, used to be.
here=$(cd "$(dirname "$0")" && pwd)
case ${BUILD:-build} in /*) build=${BUILD:-build} ;; *) build=$here/../../${BUILD:-build} ;; esac
prog=$build/tests/integration/big_tls
[ -x "$prog" ] || { echo "build first: make progs"; exit 77; }
bad=0
for mode in off locked free; do
  got=$(RATION_THREADS=$mode RATION_STANDALONE=1 LD_PRELOAD=$build/libration.so timeout 20 "$prog" 2>&1)
  if [ "$got" = "6 threads" ]; then
    echo "ok - $mode"
  else
    echo "not ok - $mode"
    echo "#   said: $got"
    bad=1
  fi
done
exit $bad
