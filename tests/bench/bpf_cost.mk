# SPDX-License-Identifier: Apache-2.0
# bpf_cost loads the real programs, so it links what the daemon has for that.
$(BUILD)/tests/bench/bpf_cost: EXTRA = $(BUILD)/libdaemon.a $(DAEMON_LIBS)
$(BUILD)/tests/bench/bpf_cost: $(BUILD)/libdaemon.a tests/unit/watch_rig.h
