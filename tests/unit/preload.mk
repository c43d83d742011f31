# The wrappers themselves, with a gate of the test's own.  Not under sanitizers: they stand in front of the same functions.
PRELOAD_TESTED := $(call pic,$(wildcard $(addprefix shim/preload/,call.c io.c poll.c sleep.c sync.c rwlock.c sem.c signal.c real.c)))
$(if $(SAN),,$(eval $(BUILD)/tests/unit/test_preload: $(PRELOAD_TESTED)))
