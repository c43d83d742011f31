# SPDX-License-Identifier: Apache-2.0
# Libraries of the daemon beyond those that the Makefile names.
DAEMON_PKGS += inih libcap-ng
