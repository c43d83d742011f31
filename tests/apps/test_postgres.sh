#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# PostgreSQL, which has SIGURG for itself: each of its processes blocks it, and reads it from a signalfd. pgbench with 16 connections; sessions that wait for each other, are cancelled and
# ended, by timeout and from outside; a query of several processes; and the clean shutdown.
# timeout: 300
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
bin=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || { echo "postgres is not installed"; exit 77; }
PATH=${bin%/postgres}:$PATH
need postgres initdb psql pgbench setpriv
# Its processes have one thread each: Gs of none need a carrier.
has_carriers() { true; }

user=() # it refuses to be root, and finds the shim where it may read it
if [ "$(id -u)" -eq 0 ]; then
  id postgres >/dev/null 2>&1 || { echo "there is no user postgres"; exit 77; }
  user=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  chown postgres:postgres "$dir"
  [ -z "${TMPDIR:-}" ] || chmod go+x "$TMPDIR" # tests/run's, for this test only
fi
cp "$lib" "$dir/libration.so"
lib=$dir/libration.so

"${user[@]}" initdb -D "$dir/fresh" -U postgres -A trust -N >"$dir/init" 2>&1 || { cat "$dir/init"; exit 1; }

sql() { timeout -s KILL 60 psql -X -h "$dir" -U postgres -d postgres -Atq "$@"; }
bench() { # bench ARGS...: what must be the same of what pgbench says
  timeout -s KILL 120 pgbench -h "$dir" -U postgres "$@" postgres >"$dir/bench" 2>&1
  echo "pgbench $*: status $?"
  grep -E '^number of (transactions actually|failed)' "$dir/bench"
}

begin() { # each time with the same data
  rm -rf "$dir/data"
  "${user[@]}" cp -r "$dir/fresh" "$dir/data"
  launch "${user[@]}" postgres -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c autovacuum=off -c max_connections=60 -c jit=off \
    -c deadlock_timeout=100ms -c min_parallel_table_scan_size=0 -c parallel_setup_cost=0 -c parallel_tuple_cost=0
}
ready() { sql -c 'select 1'; }

until_is() { # until_is NAME CONDITION: of the session of that name in pg_stat_activity
  for _ in $(seq 400); do
    [ -n "$(sql -c "select 1 from pg_stat_activity where application_name = '$1' and $2")" ] && return
    sleep 0.02
  done
  echo "$1: never $2"
}
until_waits() { until_is "$1" "wait_event = '$2'"; } # until_waits NAME EVENT

session() { # session NAME SQL: what it says, and how it ended, in $dir/NAME
  PGAPPNAME=$1 sql -v ON_ERROR_STOP=1 -c "$2" >"$dir/$1" 2>&1
  echo "status $?" >>"$dir/$1"
}

ended_sessions() {
  session waits "begin; lock table pgbench_branches; select pg_sleep(100)" &
  local a=$!
  until_waits waits PgSleep
  session queues "lock table pgbench_branches; select 'got it'" &
  local b=$!
  until_waits queues relation
  sql -c "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'waits'"
  wait "$a" "$b"
  session computes 'do $$ begin loop perform 1; end loop; end $$' &
  a=$!
  session sleeps "select pg_sleep(100)" &
  b=$!
  until_waits sleeps PgSleep
  until_is computes "state = 'active'"
  sql -c "select pg_terminate_backend(pid) from pg_stat_activity where application_name in ('computes', 'sleeps') order by 1"
  wait "$a" "$b"
  session late "set statement_timeout = '200ms'; do 'begin loop perform 1; end loop; end'"
  grep -hv '^CONTEXT\|^SQL\|^PL/pgSQL' "$dir/waits" "$dir/queues" "$dir/computes" "$dir/sleeps" "$dir/late"
}

# Two that have what the other wants: one of them is told.
deadlock() {
  session one "begin; update pgbench_branches set bbalance = 1 where bid = 1; select pg_sleep(0.5); update pgbench_tellers set tbalance = 1 where tid = 1; commit" &
  local a=$!
  session two "begin; update pgbench_tellers set tbalance = 1 where tid = 1; select pg_sleep(0.5); update pgbench_branches set bbalance = 1 where bid = 1; commit" &
  wait "$a" "$!"
  grep -q 'status 0' "$dir/one" "$dir/two" || cat "$dir/one" "$dir/two"
}

notifications() {
  (echo "listen news;"; until [ -e "$dir/told" ]; do sleep 0.05; done; echo "select 'heard';") | PGAPPNAME=listens sql &
  local a=$!
  until_waits listens ClientRead
  sql -c "notify news, 'first'" -c "notify news, 'second'"
  touch "$dir/told"
  wait "$a"
  rm -f "$dir/told"
}

load() {
  bench -q -i -s 1
  bench -n -S -M prepared -c 16 -j 2 -t 150
  bench -n -c 8 -j 2 -t 40
  sql -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches), (select count(*) from pgbench_history)'
  sql -c 'select sum(hashint4(a.aid)::bigint), max(length(b.filler)) from pgbench_accounts a join pgbench_accounts b on a.aid = b.aid + 7'
  sql -c 'set max_parallel_workers_per_gather = 4; explain (analyze, costs off, timing off, summary off) select sum(aid) from pgbench_accounts' | grep -o 'Workers Launched.*'
  ended_sessions
  deadlock
  notifications 2>&1 | sed 's/ with payload.*PID.*//; s/ received from.*//'
  ! grep -E 'PANIC|terminated by signal|server process.*exited with' "$dir/log"
}
in_each_way postgres begin ready load
