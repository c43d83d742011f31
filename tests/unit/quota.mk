# The quota tests use the generator of fixture trees.
$(BUILD)/tests/unit/test_quota: $(BUILD)/tests/unit/fixture.o
