#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# ration on a fresh Debian 12 with systemd and cgroup v2: `make vm` (tests/vm/run), where RATION_TEST_VM=1 asks for it, for it takes its time.
# timeout: 9000
set -eu
[ "${RATION_TEST_VM:-}" = 1 ] || { echo "boots a virtual machine for many minutes: RATION_TEST_VM=1, or make vm"; exit 77; }
exec "$(dirname "$0")/../vm/run"
