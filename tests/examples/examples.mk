# SPDX-License-Identifier: Apache-2.0
# Programs to learn from, built as a user's would be: public headers, -lration.
EXAMPLE_SRCS := $(sort $(wildcard tests/examples/*.c))
EXAMPLE_BINS := $(patsubst %.c,$(BUILD)/%,$(EXAMPLE_SRCS))

$(EXAMPLE_BINS): $(BUILD)/%: %.c $(BUILD)/libration.so
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) -MF $@.d -o $@ $< -L$(BUILD) -lration -Wl,-rpath,$(abspath $(BUILD))

.PHONY: examples
# make examples builds these alone.
examples: $(EXAMPLE_BINS)
progs: $(EXAMPLE_BINS)
