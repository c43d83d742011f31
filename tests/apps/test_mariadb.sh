#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# MariaDB with a thread for each connection: sysbench's reads with 64 and 256 of them, its writes, clients that are killed,
# what the tables hold in the end; and the clean shutdown.
# timeout: 300
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
PATH=$PATH:/usr/sbin
need mariadbd mariadb-install-db mariadb sysbench
ROWS=5000
SECONDS_EACH=1

mkdir "$dir/fresh"
mariadb-install-db --no-defaults --datadir="$dir/fresh" --user="$(id -un)" --auth-root-authentication-method=normal --skip-test-db \
  >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
echo "CREATE DATABASE IF NOT EXISTS sbtest;" >"$dir/init.sql"

sql() { timeout -s KILL 60 mariadb --no-defaults --socket="$dir/sock" -uroot -N sbtest "$@"; }
bench() { # bench TEST ARGS...
  timeout -s KILL 120 sysbench "$1" --db-driver=mysql --mysql-socket="$dir/sock" --mysql-user=root --mysql-db=sbtest --tables=1 \
    --table-size=$ROWS --rand-seed=7 "${@:2}" >"$dir/bench" 2>&1
  echo "$*: status $?"
  [ "$1" = oltp_write_only ] && grep -E 'transactions:' "$dir/bench" | awk '{print $2}'
  grep -iE 'fatal|lost' "$dir/bench"
  grep -E 'transactions: +[1-9]' "$dir/bench" | cut -d: -f1
}

begin() { # each time with the same data
  rm -rf "$dir/data" "$dir/sock" "$dir/pid"
  cp -r "$dir/fresh" "$dir/data"
  launch mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/sock" --pid-file="$dir/pid" --tmpdir="$dir" --init-file="$dir/init.sql" \
    --user="$(id -un)" --skip-networking --skip-log-bin --max-connections=300 --thread-handling=one-thread-per-connection \
    --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 --query-cache-type=0
}
ready() { sql -e 'select 1'; }

# One client waits, one sleeps, one computes; each is ended from outside.
killed_clients() {
  local id what
  for what in 'select get_lock("l", 100)' 'select sleep(100)' 'select benchmark(100000000000, md5(1))'; do
    sql -e "$what" >"$dir/killed" 2>&1 &
    for _ in $(seq 200); do
      id=$(sql -e "select id from information_schema.processlist where info = '$what'")
      [ -n "$id" ] && break
      sleep 0.05
    done
    sql -e "kill $id"
    wait $!
    grep -o 'ERROR [0-9]*' "$dir/killed"
  done
}

few_threads() { # in free mode 256 connections are not so many kernel threads
  local threads
  threads=$(awk '/^Threads:/ {print $2}' "/proc/$server/status")
  case $way in free*) [ "$threads" -lt 128 ] || echo "$threads kernel threads" ;; esac
}

load() {
  local i
  bench oltp_read_only prepare
  for i in 64 256; do bench oltp_read_only --threads=$i --time=$SECONDS_EACH run; done
  few_threads
  bench oltp_write_only --threads=1 --events=300 --time=0 run
  sql -e 'select count(*) from sbtest1'
  sql -e 'create table d as select seq, md5(seq) m, repeat(char(65 + seq % 26), seq % 300) r from seq_1_to_4000;
    select count(*), sum(crc32(a.m)), max(length(b.r)) from d a join d b on a.seq = b.seq + 7 where b.m > a.m'
  sql -e 'create table t (id int primary key, n int) engine=innodb; insert into t values (1, 0), (2, 0)'
  for i in $(seq 8); do
    for _ in $(seq 100); do echo "begin; update t set n = n + 1 where id = 1; update t set n = n + $i where id = 2; commit;"; done | sql &
    clients[i]=$!
  done
  for i in $(seq 8); do wait "${clients[i]}" || echo "client $i failed"; done
  sql -e 'select get_lock("l", 1); select * from t; check table t, sbtest1'
  (sql -e 'select get_lock("l", 100), sleep(2)' >/dev/null) & # who has the lock that the first of them waits for
  clients[1]=$!
  until [ "$(sql -e 'select is_free_lock("l")')" = 0 ]; do sleep 0.05; done
  killed_clients
  wait "${clients[1]}"
  ! grep -F '[ERROR]' "$dir/log"
}
in_each_way mariadb begin ready load
