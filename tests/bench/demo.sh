#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# `make demo`: what ration does for real programs under a real CPU quota.  All of it is in demo.py.
#
#   tests/bench/demo.sh [--quick] [--svg FILE]
here=$(dirname "$0")
if [ "$(id -u)" -eq 0 ]; then "$here/../deps" "$here/packages" || exit 1; fi
exec python3 "$here/demo.py" "$@"
