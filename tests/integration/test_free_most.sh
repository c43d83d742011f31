#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# Free mode: more threads than RATION_MAXTHREADS says there can't be, and pthread_create says EAGAIN; so many there can.
here=$(cd "$(dirname "$0")" && pwd)
case ${BUILD:-build} in /*) build=${BUILD:-build} ;; *) build=$here/../../${BUILD:-build} ;; esac
prog=$build/tests/bench/parked
[ -x "$prog" ] || { echo "build first: make progs"; exit 77; }
bad=0
expect() { # name, RATION_MAXTHREADS, threads wanted, threads made, error
  got=$(RATION_THREADS=free RATION_STANDALONE=1 RATION_MAXTHREADS=$2 LD_PRELOAD=$build/libration.so timeout 20 "$prog" --threads "$3" 2>&1 |
    awk '$1 == "created" || $1 == "error" { printf "%d ", $2 }')
  if [ "$got" = "$4 $5 " ]; then
    echo "ok - $1"
  else
    echo "not ok - $1"
    echo "#   created, error: $got instead of $4 $5"
    bad=1
  fi
}
expect "as many as may be" 40 40 40 0
expect "one too many: EAGAIN" 40 41 40 11
expect "a bound that can't be understood is none" forty 60 60 0
exit $bad
