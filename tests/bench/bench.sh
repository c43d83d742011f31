#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the benches whose name begins with NAME; without a name lists them.  Options as for tests/bench/run.
#
#   tests/bench/bench.sh mixed-1.0 [--rounds 5] [--mode nobpf] [--verbose]
here=$(dirname "$0")
if [ $# -eq 0 ]; then exec "$here/run" --list; fi
exec "$here/run" "$@"
