#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Light Gs side by side with Go 1.23, and with plain threads and Boost.Fiber where the work is the same.  All of it is in vs_go/vs_go.py.
#
#   tests/bench/vs_go.sh [--rounds N] [--only NAME]... [--quick] [--json FILE] [--install-go] [--list]
here=$(dirname "$0")
# Boost.Fiber is one of the peers: without it its column stays empty.
if [ "$(id -u)" -eq 0 ]; then "$here/../deps" "$here/vs_go/packages"; fi
exec python3 "$here/vs_go/vs_go.py" "$@"
