#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# redis with four threads for its clients' IO, and its background threads: benchmark, scripts, a save by a forked child.
# timeout: 240
# shellcheck disable=SC2154
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/servers.sh"
need redis-server redis-cli redis-benchmark

cli() { timeout -s KILL 30 redis-cli -s "$dir/sock" "$@"; }
begin() {
  rm -f "$dir/sock" "$dir/dump.rdb"
  launch redis-server --port 0 --unixsocket "$dir/sock" --dir "$dir" --daemonize no --save '' --appendonly no --io-threads 4 --io-threads-do-reads yes
}
ready() { [ "$(cli ping)" = PONG ]; }
load() {
  timeout -s KILL 60 redis-benchmark -s "$dir/sock" -c 50 -n 10000 -P 16 -r 1000 -t set,get,incr,lpush,lpop,sadd,hset -q >"$dir/bench" 2>&1
  echo "benchmark $? $(grep -c 'requests per second' "$dir/bench")"
  cli eval 'for i = 1, 2000 do redis.call("set", "e" .. i, string.rep("v", i)) end return redis.sha1hex(redis.call("get", "e1999"))' 0
  cli debug digest-value e7 e1999
  cli unlink e1 e2 e1999
  cli save
  cli bgsave
  for _ in $(seq 200); do
    cli info persistence | grep -q 'rdb_bgsave_in_progress:0' && break
    sleep 0.05
  done
  cli info persistence | tr -d '\r' | grep -E 'rdb_last_bgsave_status|rdb_saves'
  cli flushall async
  cli dbsize
  cli info stats | tr -d '\r' | grep -E 'io_threaded_reads_processed:[1-9]' | cut -d: -f1
}
in_each_way redis begin ready load
