# The CLI's objects are in no archive.  (The Makefile's CLI_OBJS without its main.)
$(BUILD)/tests/unit/test_cli_text: $(BUILD)/obj/daemon/cli/text.o $(BUILD)/obj/daemon/cli/options.o $(BUILD)/obj/daemon/cli/harmless.o
$(BUILD)/tests/unit/test_cli_text: EXTRA = -ljansson
$(BUILD)/tests/unit/test_cli_transient: $(BUILD)/obj/daemon/cli/transient.o $(BUILD)/obj/daemon/cli/scope.o
$(BUILD)/tests/unit/test_cli_transient: EXTRA = -lcgroup -lsystemd
$(BUILD)/tests/unit/test_rules: $(addprefix $(BUILD)/obj/daemon/cli/,rules.o options.o harmless.o choice.o)
