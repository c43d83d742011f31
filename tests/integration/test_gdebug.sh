#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 300
#
# What light Gs tell about themselves (gdebug.c): the deadlock report, dumps, leaks, schedtrace.  Without a daemon.
here=$(cd "$(dirname "$0")" && pwd)
case ${BUILD:-build} in /*) build=${BUILD:-build} ;; *) build=$here/../../${BUILD:-build} ;; esac
prog=$build/tests/integration/gdebug
[ -x "$prog" ] || { echo "build first: make progs"; exit 77; }
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
export RATION_STANDALONE=1 RATION_MAXPROCS=2
bad=0

# check NAME STATUS WANTED: the last program's status and the file `out`, in which each extended expression of `want` must occur
check() {
  failed=""
  [ "$2" = "$3" ] || failed="status $2, not $3;"
  while read -r e; do
    [ -z "$e" ] || grep -Eq -- "$e" out || failed="$failed no /$e/;"
  done <want
  if [ -z "$failed" ]; then
    echo "ok - $1"
  else
    echo "not ok - $1"
    echo "# $failed"
    sed 's/^/#   /' out | head -60
    bad=1
  fi
}
run() { timeout -s KILL 60 "$prog" "$@" >out 2>&1; }

run deadlock
status=$?
cat >want <<'WANT'
^fatal error: all Gs are asleep - deadlock!
^G [0-9]+ "taker" \[chan receive, [0-9]+ ms\]:
^G [0-9]+ "giver" \[chan send, [0-9]+ ms\]:
^G [0-9]+ "chooser" \[select, [0-9]+ ms\]:
^G [0-9]+ "main" \[nil chan
waits_to_receive\+0x[0-9a-f]+ \(gdebug\)
waits_to_send\+0x[0-9a-f]+ \(gdebug\)
waits_in_select\+0x[0-9a-f]+ \(gdebug\)
began in receiver \(gdebug\)
created by G 1$
WANT
check deadlock_lists_each_g_with_reason_and_stack $status 2

"$prog" quit >out 2>&1 &
pid=$!
for _ in $(seq 500); do grep -q ready out && break; sleep 0.02; done
kill -QUIT $pid
wait $pid
status=$?
cat >want <<'WANT'
^SIGQUIT: all Gs
"taker" \[chan receive,
"sleeper" \[sleep,
"spinner" \[running\]
spins(\+0x[0-9a-f]+)? \(gdebug\)
"main" \[sleep,
WANT
check sigquit_dumps_all_gs $status 2

run dump
status=$?
cat >want <<'WANT'
"spinner" \[(running|runnable, preempted)\]:
spins(\+0x[0-9a-f]+)? \(gdebug\)
"reader" \[io,
reads_for_ever\+0x[0-9a-f]+ \(gdebug\)
"main" \[running\]:
dumps\+0x[0-9a-f]+ \(gdebug\)
WANT
check dump_shows_stacks_of_gs_that_run $status 0

run many
status=$?
[ "$(grep -c 'waits_to_receive' dump)" = 10000 ] && [ "$(grep -c '^G ' dump)" = 10001 ] && cat dump >>out
echo '^G 10000 ' >want
check ten_thousand_gs_are_dumped_fast $status 0

run leaks
status=$?
cat >want <<'WANT'
^3 leaks
"lost-taker" \[chan receive,
"lost-giver" \[chan send,
"nil-taker" \[nil chan,
WANT
check leaks_finds_unreachable_channels_only $status 0

: >want
for name in chains selects counts busy; do
  run $name
  check "leaks_$name" $? 0
done

RATION_DEBUG=schedtrace=100,scheddetail=1 timeout -s KILL 60 "$prog" trace >out 2>&1
status=$?
cat >want <<'WANT'
^SCHED [0-9]+ms: gomaxprocs=2 .* light: gomaxprocs=2 idleprocs=[0-2] carriers=[0-9]+ spinningcarriers=[0-9]+ idlecarriers=[0-9]+ wiredcarriers=[0-9]+ netpollwaiters=0 runqueue=[0-9]+ \[[0-9]+ [0-9]+\]$
^  P1: status=[0-3]\([a-z]+\) schedtick=[0-9]+ m=([0-9]+|nil) runqsize=[0-9]+ later=[0-9]+ gfreecnt=[0-9]+ timerslen=[0-9]+$
^  M[0-9]+: tid=[0-9]+ p=-?[0-9]+ curg=[0-9]+ locks=[0-9]+ syscalltick=[0-9]+ spinning=(true|false) polling=(true|false) lockedg=[0-9]+$
^  G[0-9]+: status=4\(chan receive\) name=taker lockedm=nil$
^  G[0-9]+: status=4\(sleep\) name=main lockedm=nil$
WANT
check schedtrace_and_scheddetail_are_as_gos $status 0
exit $bad
