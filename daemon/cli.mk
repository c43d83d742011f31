# SPDX-License-Identifier: Apache-2.0
# What the CLI needs beyond the daemon: JSON, ELF headers, and where the library is installed.
DAEMON_PKGS += jansson libelf
$(BUILD)/obj/daemon/cli/%.o: OBJ_CFLAGS += -DRATION_LIBDIR='"$(PREFIX)/lib"'
