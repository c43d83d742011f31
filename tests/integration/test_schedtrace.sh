#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# beside: others
# timeout: 120
#
# RATION_DEBUG=schedtrace of a program that knows nothing of ration: a line each so many ms, to stderr or a file of its own, and nothing else changes.
here=$(cd "$(dirname "$0")" && pwd)
case ${BUILD:-build} in /*) build=${BUILD:-build} ;; *) build=$here/../../${BUILD:-build} ;; esac
prog=$build/tests/bench/mixed
[ -x "$prog" ] || { echo "build first: make progs"; exit 77; }
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
export RATION_STANDALONE=1 RATION_MAXPROCS=1
bad=0
line='^SCHED [0-9]+ms: gomaxprocs=1 gated=1 held=[0-9]+ threads=[0-9]+ newcomers=[0-9]+ runqueue=[0-9]+ tokens_us=-?[0-9]+ paced=[01] charged_ms=[0-9]+ handoffs=[0-9]+ retakes=[0-9]+ preempts=[0-9]+ signals=[0-9]+ wakeups=[0-9]+ pauses=[0-9]+ placed=[0-9]+ bpf=0$'

traced() { # DEBUG SECONDS
  timeout -s KILL 60 env RATION_DEBUG="$1" LD_PRELOAD="$build/libration.so" "$prog" --json --seconds "$2" --batch 4 --requesters 1 >out 2>err
}
# The last line's value.
value() { tail -n 1 "$2" | sed -n "s/.* $1=\\(-\\{0,1\\}[0-9]*\\).*/\\1/p"; }
check() { # NAME WHY, empty: passed
  if [ -z "$2" ]; then
    echo "ok - $1"
  else
    echo "not ok - $1"
    echo "# $2"
    sed 's/^/#   /' err | tail -n 20
    bad=1
  fi
}
each_line_is_whole() {
  [ -s "$1" ] || { echo "no line"; return; }
  grep -Evq -- "$line" "$1" && echo "not a line: $(grep -Ev -- "$line" "$1" | head -n 1)"
}

traced schedtrace=100 2
status=$?
why=$(each_line_is_whole err)
[ $status = 0 ] || why="status $status; $why"
[ "$(wc -l <err)" -ge 3 ] || why="$why too few lines;"
grep -q '"batch_rate"' out || why="$why the program's own output is not there;"
check lines_to_stderr "$why"

why=""
[ "$(value preempts err)" -gt 0 ] || why="nobody was preempted;"
[ "$(value charged_ms err)" -gt 0 ] || why="$why nothing was charged;"
grep -q ' runqueue=[1-9]' err || why="$why nobody ever waited;" # the last line may be of the end, when all is over
sed -n 's/^SCHED \([0-9]*\)ms.*/\1/p' err | awk 'NR > 1 && $1 - last < 100 { exit 1 } { last = $1 }' || why="$why lines that are too near;"
check they_tell_of_threads_that_take_turns "$why"

traced schedtrace=100,tracefile="$tmp/trace" 1
status=$?
why=$(each_line_is_whole trace)
[ $status = 0 ] || why="status $status; $why"
[ -s err ] && why="$why something on stderr;"
check lines_to_a_file "$why"

if [ "$(nproc)" -lt 2 ]; then
  echo "ok - who_is_woken_is_placed # SKIP one CPU only"
else
  traced schedtrace=100 1
  why=""
  [ "$(value placed err)" -gt 0 ] || why="nobody was;"
  RATION_PLACE=0 traced schedtrace=100 1
  [ "$(value placed err)" = 0 ] || why="$why somebody was, with RATION_PLACE=0;"
  check who_is_woken_is_placed "$why"
fi

traced schedtrace=0 1
check nothing_without_an_interval "$(cat err)"
exit $bad
