# One program of many files, and the libraries that it loads while it has threads.
PTHREADS_SRCS := $(wildcard tests/integration/pthreads/*.c)
PTHREADS_LIBS := $(addprefix $(BUILD)/tests/integration/pthreads_,tls.so tls_fixed.so)
PTHREADS_OBJS := $(patsubst %.c,$(BUILD)/obj/%.prog.o,$(filter-out %/tls_library.c %/code_library.c %/early_library.c %/used_library.c,$(PTHREADS_SRCS)))
FORMATTED += $(wildcard tests/integration/pthreads/*.[ch])

# Cleanup handlers work in two ways in C: by a list, and (with -fexceptions) by unwinding.  One file is for the second.
$(BUILD)/obj/tests/integration/pthreads/unwind.prog.o: PTHREADS_CFLAGS = -fexceptions
$(PTHREADS_OBJS): $(BUILD)/obj/%.prog.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) $(PTHREADS_CFLAGS) -c -o $@ $<
$(BUILD)/tests/integration/pthreads_tls_fixed.so: PTHREADS_CFLAGS = -DTLS_FIXED
$(PTHREADS_LIBS): tests/integration/pthreads/tls_library.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) $(PTHREADS_CFLAGS) -MF $@.d -fPIC -shared -o $@ $<

PTHREADS_CODE := $(BUILD)/tests/integration/pthreads_code.so
$(PTHREADS_CODE): tests/integration/pthreads/code_library.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) -MF $@.d -fPIC -shared -Wl,-z,execstack -o $@ $<

PTHREADS_FIRST := $(addprefix $(BUILD)/tests/integration/pthreads_,early.so used.so)
$(PTHREADS_FIRST): $(BUILD)/tests/integration/pthreads_%.so: tests/integration/pthreads/%_library.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) -MF $@.d -fPIC -shared -o $@ $<

$(BUILD)/tests/integration/pthreads: EXTRA = $(PTHREADS_OBJS)
$(BUILD)/tests/integration/pthreads: $(PTHREADS_OBJS) | $(PTHREADS_LIBS) $(PTHREADS_CODE) $(PTHREADS_FIRST)
-include $(wildcard $(BUILD)/obj/tests/integration/pthreads/*.d)
