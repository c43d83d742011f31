# SPDX-License-Identifier: Apache-2.0
$(BUILD)/tests/fuzz/fuzz_rules: FUZZ_EXTRA = daemon/cli/rules.c daemon/cli/options.c daemon/cli/harmless.c -linih
$(BUILD)/tests/fuzz/fuzz_rules: daemon/cli/rules.c daemon/cli/options.c daemon/cli/harmless.c
