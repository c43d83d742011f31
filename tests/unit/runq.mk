# The run queue with bugs put in on purpose: stress_runq runs these and fails unless they fail.
RUNQ_BUGS := $(foreach n,1 2 3,$(BUILD)/tests/unit/seeded_runq_$(n))

$(RUNQ_BUGS): $(BUILD)/tests/unit/seeded_runq_%: tests/unit/stress_runq.c shim/core/runq.c shim/core/runq.h
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BASE_CFLAGS) -DRUNQ_SEED_BUG=$* -MF $@.d -o $@ $(filter %.c,$^) -pthread

unit-bins: $(if $(wildcard tests/unit/stress_runq.c),$(RUNQ_BUGS))
