#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# beside: others
#
# A static Go binary does not see the shim; "ration run" sets GOMAXPROCS for it.
# shellcheck disable=SC2154  # lib.sh sets lib, real and fewer
. "$(dirname "$0")/lib.sh"
need go
[ -x "$BUILD/ration" ] || { echo "ration is not built"; exit 77; }
[ "$(id -u)" -eq 0 ] || { echo "needs root for ration run --cpus"; exit 77; }
dir=${TMPDIR:-/tmp}
printf 'package main\nimport ("fmt"; "runtime")\nfunc main() { fmt.Println(runtime.GOMAXPROCS(0)) }\n' >"$dir/p.go"
HOME=$dir GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o "$dir/p" "$dir/p.go" || { echo "go build failed"; exit 1; }

[ "$("$dir/p")" = "$real" ]
report $? plain_sees_all
[ "$("$BUILD/ration" run --standalone --cpus 1 -- "$dir/p")" = 1 ]
report $? run_sets_gomaxprocs
[ "$(GOMAXPROCS=7 "$BUILD/ration" run --standalone --cpus 1 -- "$dir/p")" = 7 ]
report $? own_gomaxprocs_stays
