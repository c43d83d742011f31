#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# Programs that hand blocks from thread to thread: pigz, pbzip2, xz and zstd with more threads than there are Ps, sort.
. "$(dirname "$0")/lib.sh"

tool() { # tool NAME SHELL-COMMAND
  command -v "$1" >/dev/null && same "$1" sh -c "$2"
}

tool pigz 'seq 300000 | pigz -p 4 | pigz -dc | sha256sum'
# pbzip2 ends its thread for signals by pthread_kill.
tool pbzip2 'seq 300000 | pbzip2 -p4 -b1 -c | pbzip2 -p4 -dc | sha256sum'
tool xz 'seq 100000 | xz -T4 -1 --block-size=100000 | xz -T4 -dc | sha256sum'
tool zstd 'seq 300000 | zstd -q -T4 -B500000 | zstd -dc | sha256sum'
tool sort 'seq 100000 -1 1 | LC_ALL=C sort -n --parallel=4 -S 500k | sha256sum'
