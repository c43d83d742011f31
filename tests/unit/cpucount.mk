# The tests of the CPU counts stand in front of libc, as the shim does.
$(BUILD)/tests/unit/test_cputext: $(BUILD)/pic/shim/preload/cputext.o
COUNTS_OBJ := $(BUILD)/pic/shim/preload/cpucount.o
ifeq ($(SAN),thread)
# TSan's start asks sysconf before instrumented code may run: the wrapper gets another name here.
COUNTS_OBJ := $(BUILD)/tests/unit/cpucount_renamed.o
$(COUNTS_OBJ): $(BUILD)/pic/shim/preload/cpucount.o
	@mkdir -p $(@D)
	$(Q)objcopy --redefine-sym sysconf=shim_sysconf $< $@
$(BUILD)/tests/unit/test_cpucount.o: TEST_CFLAGS += -Dsysconf=shim_sysconf
endif
$(BUILD)/tests/unit/test_cpucount: $(COUNTS_OBJ) $(BUILD)/pic/shim/preload/cputext.o $(BUILD)/pic/shim/preload/real.o
