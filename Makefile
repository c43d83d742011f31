# SPDX-License-Identifier: Apache-2.0
#
# One way to build, one way to test.  `make help` lists the targets.
#
#   sources                                               what they become
#   daemon/*.c proto/*.c  (+ bpf/*.bpf.c as skeletons)    build/rationd
#   daemon/cli/*.c        (+ what it needs of daemon/)    build/ration
#   shim/**/*.c *.S  proto/wire.c  daemon/quota.c         build/libration.so
#   tests/unit/test_*.c stress_*.c                        build/tests/unit/*
#   tests/fuzz/fuzz_*.c                                   build/tests/fuzz/*
#
# Not recursive; the sanitizer and cross builds are this same file with another BUILD directory.
# A directory may add rules of its own in a fragment (tests/unit/*.mk and so on, see the end).

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

BUILD ?= build
V ?= 0
PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
VERSION := 0.1.0

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
AR_ ?= ar
PKG_CONFIG ?= pkg-config
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool /usr/local/sbin/bpftool) bpftool)
NICE ?=

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)';)

# ---- flags ------------------------------------------------------------------------------------------

OPT ?= -O2
# SAN: address and undefined, undefined, or thread; set by the targets asan, ubsan and tsan.
SAN ?=
SANFLAGS := $(if $(SAN),$(foreach s,$(SAN),-fsanitize=$(s) -DRATION_SAN_$(s)=1) -fno-omit-frame-pointer)
SANFLAGS += $(if $(filter undefined,$(SAN)),-fno-sanitize-recover=all)
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
# gcc warns that TSan does not model fences; the code that uses them says what they pair with instead.
WARN += $(if $(filter thread,$(SAN)),-Wno-tsan)
INCLUDES := -I. -Iproto -Ishim -Ishim/include
BASE_CFLAGS = -std=gnu17 $(OPT) -g $(WARN) -D_GNU_SOURCE= -DRATION_VERSION='"$(VERSION)"' $(INCLUDES) -MMD -MP $(SANFLAGS) $(CFLAGS)

# The daemon and the CLI.  (-O0 has no _FORTIFY_SOURCE.)
HARDEN := $(if $(SAN),,$(if $(filter -O0,$(OPT)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)) -fstack-protector-strong -fPIE
OBJ_CFLAGS = $(BASE_CFLAGS) $(HARDEN) -I$(BUILD)
# The shim: no symbol leaves it unless marked, its TLS is reachable before malloc works, cancellation unwinds through it.
PIC_CFLAGS = $(BASE_CFLAGS) -fPIC -fvisibility=hidden -ftls-model=initial-exec -fexceptions -fno-plt

DAEMON_PKGS := libevent_core libcgroup libbpf libsystemd
DAEMON_LIBS = $(shell $(PKG_CONFIG) --libs $(DAEMON_PKGS) 2>/dev/null || echo -levent_core -lcgroup -lbpf -lsystemd)
CLI_PKGS := libelf jansson
CLI_LIBS = $(shell $(PKG_CONFIG) --libs $(CLI_PKGS) 2>/dev/null || echo -lelf -ljansson)
CHECK_LIBS = $(shell $(PKG_CONFIG) --libs check 2>/dev/null || echo -lcheck)
EXE_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS) $(LDFLAGS)
SO_LDFLAGS = -shared -Wl,-soname,libration.so -Wl,-z,relro,-z,now,-z,defs -Wl,--as-needed -static-libgcc \
	-Wl,--version-script=shim/libration.map $(SANFLAGS) $(LDFLAGS)

# ---- sources ----------------------------------------------------------------------------------------

DAEMON_SRCS := $(wildcard daemon/*.c proto/*.c)
CLI_SRCS := $(wildcard daemon/cli/*.c)
SHIM_LIB_SRCS := $(wildcard shim/core/*.c shim/core/*.S shim/client/*.c shim/sync/*.c shim/free/*.c proto/wire.c daemon/quota.c)
SHIM_SRCS := $(SHIM_LIB_SRCS) $(wildcard shim/preload/*.c shim/preload/*.S)
BPF_SRCS := $(wildcard bpf/*.bpf.c)
UNIT_SRCS := $(wildcard tests/unit/test_*.c)
STRESS_SRCS := $(wildcard tests/unit/stress_*.c)
FUZZ_SRCS := $(wildcard tests/fuzz/fuzz_*.c)
# Programs that tests and benchmarks run, one file each.
PROG_SRCS := $(wildcard tests/integration/*.c tests/bench/*.c tests/apps/*.c)

# The S files of other machines stay out.
MACHINE := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
OTHER_S := $(filter-out %_$(MACHINE).S,$(filter %.S,$(SHIM_SRCS)))
SHIM_LIB_SRCS := $(filter-out $(OTHER_S),$(SHIM_LIB_SRCS))
SHIM_SRCS := $(filter-out $(OTHER_S),$(SHIM_SRCS))

obj = $(patsubst %,$(BUILD)/obj/%.o,$(basename $(1)))
pic = $(patsubst %,$(BUILD)/pic/%.o,$(basename $(1)))

DAEMON_OBJS := $(call obj,$(DAEMON_SRCS))
CLI_OBJS := $(call obj,$(CLI_SRCS))
SHIM_OBJS := $(call pic,$(SHIM_SRCS))
SKELS := $(patsubst bpf/%.bpf.c,$(BUILD)/%.skel.h,$(BPF_SRCS))
UNIT_BINS := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRCS))
STRESS_BINS := $(patsubst %.c,$(BUILD)/%,$(STRESS_SRCS))
FUZZ_BINS := $(patsubst %.c,$(BUILD)/%,$(FUZZ_SRCS))
PROG_BINS := $(patsubst %.c,$(BUILD)/%,$(PROG_SRCS))

# A program is built once its main is there: the tree may be cut down to a part and still build.
PROGRAMS := $(if $(wildcard daemon/main.c),$(BUILD)/rationd) $(if $(wildcard daemon/cli/main.c),$(BUILD)/ration) \
	$(if $(wildcard shim/core/*.c),$(BUILD)/libration.so)

# ---- build ------------------------------------------------------------------------------------------

.PHONY: all help deps progs unit-bins core-bins check demo bench soak install uninstall vm asan ubsan tsan tidy format fuzz model aarch64 clean

## all: build rationd, ration and libration.so into build/
all: $(PROGRAMS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(OBJ_CFLAGS) -c -o $@ $<

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$< (pic))$(CC) $(PIC_CFLAGS) -c -o $@ $<

$(BUILD)/pic/%.o: %.S
	@mkdir -p $(@D)
	$(call say,AS,$<)$(CC) $(PIC_CFLAGS) -c -o $@ $<

# BPF: CO-RE, with types of our own, so no vmlinux.h of the build machine.
# (linux/types.h wants asm/, which Debian keeps with the machine's own headers.)
BPF_INCLUDES := -I. -Ibpf -idirafter /usr/include/$(shell $(CC) -print-multiarch 2>/dev/null)
BPF_ARCH := $(if $(filter aarch64,$(MACHINE)),arm64,x86)
$(BUILD)/%.bpf.o: bpf/%.bpf.c
	@mkdir -p $(@D)
	$(call say,BPF,$<)$(CLANG) -target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Werror -D__TARGET_ARCH_$(BPF_ARCH) $(BPF_INCLUDES) -MMD -MP -c -o $@ $<

$(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name $(subst .,_,$*)_bpf >$@.tmp && mv $@.tmp $@

# Before the first .d file there is, a daemon object may already want the skeleton.
$(filter $(BUILD)/obj/daemon/%,$(DAEMON_OBJS)): | $(SKELS)

# What tests and the CLI draw from: the daemon without its main, the shim without the wrappers.
$(BUILD)/libdaemon.a: $(filter-out $(BUILD)/obj/daemon/main.o,$(DAEMON_OBJS))
$(BUILD)/libshim.a: $(call pic,$(SHIM_LIB_SRCS))
$(BUILD)/%.a:
	@mkdir -p $(@D)
	$(call say,AR,$@)rm -f $@ && $(AR_) rcs $@ $^

$(BUILD)/rationd: $(DAEMON_OBJS)
	$(call say,LINK,$@)$(CC) $(EXE_LDFLAGS) -o $@ $(DAEMON_OBJS) $(DAEMON_LIBS)

$(BUILD)/ration: $(CLI_OBJS) $(BUILD)/libdaemon.a
	$(call say,LINK,$@)$(CC) $(EXE_LDFLAGS) -o $@ $^ $(CLI_LIBS) $(DAEMON_LIBS)

# The shim goes into every process: it may need libc and nothing else.  A library that needs more is not kept.
$(BUILD)/libration.so: $(SHIM_OBJS) shim/libration.map
	$(call say,LINK,$@)$(CC) $(SO_LDFLAGS) -o $@.tmp $(SHIM_OBJS)
	@$(if $(SAN),:,needed=$$(LC_ALL=C readelf -d $@.tmp | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -e '^libc\.so\.6$$' -e '^ld-linux' | xargs); \
	if [ -n "$$needed" ]; then echo "$@ may need only libc, but needs: $$needed" >&2; rm -f $@.tmp; exit 1; fi)
	@mv $@.tmp $@

# ---- test programs ----------------------------------------------------------------------------------

# One Check binary for each test_*.c; one plain program for each stress_*.c.  They draw the objects that they need from the
# archives: a test that includes a header of the daemon gets the daemon's archive first, all get the shim's.
# What else a test needs is said in a fragment:   $(BUILD)/tests/unit/test_x: EXTRA = file.o -lfoo
WITH_DAEMON := $(if $(UNIT_SRCS)$(STRESS_SRCS),$(shell grep -lE '^.include "(daemon/|[a-z_]+\.skel\.h)' $(UNIT_SRCS) $(STRESS_SRCS)))
archives = $(if $(filter $(1),$(WITH_DAEMON)),$(BUILD)/libdaemon.a) $(BUILD)/libshim.a

$(BUILD)/tests/unit/%.o: tests/unit/%.c | $(SKELS)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) $(TEST_CFLAGS) -Itests/unit -I$(BUILD) -fPIE -c -o $@ $<

define unit_rule
$(BUILD)/$(basename $(1)): $(BUILD)/$(basename $(1)).o $(call archives,$(1))
	$$(call say,LINK,$$@)$$(CC) $$(EXE_LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(EXTRA) $(call archives,$(1)) \
		$(if $(filter $(1),$(WITH_DAEMON)),$$(DAEMON_LIBS)) $(if $(findstring /test_,$(1)),$$(CHECK_LIBS)) -pthread
endef
$(foreach s,$(UNIT_SRCS) $(STRESS_SRCS),$(eval $(call unit_rule,$(s))))

# Programs for scripts: plain C, no part of ration in them unless a fragment says so.
$(PROG_BINS): $(BUILD)/%: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) -MF $@.d -o $@ $< $(EXTRA) -pthread -lm

progs: all $(PROG_BINS)
unit-bins: $(UNIT_BINS) $(STRESS_BINS)

# ---- targets ----------------------------------------------------------------------------------------

## deps: install the Debian packages that are missing (as root; else say which)
deps:
	@tests/deps

# The parts of these targets run one after the other, each as a make of its own, so that what deps has
# just installed is seen and -j builds but does not test in parallel.
## check: deps, build, all tests; the last line is the sum.  TESTS="unit/runq integration/x" picks some
check:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory progs unit-bins
	@BUILD=$(BUILD) tests/run $(TESTS)

## demo: what ration does for real programs under a real quota (as root)
demo:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory progs
	@BUILD=$(BUILD) tests/bench/demo.sh

## bench: the benchmarks, as ratios to the same program without ration
bench:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory progs
	@BUILD=$(BUILD) tests/bench/run

SOAK_SECONDS ?= 3600
## soak: all that light Gs can do at once, for SOAK_SECONDS (3600), while the quota changes at random (as root); then as long a server in free mode
soak:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory progs
	@BUILD=$(BUILD) SOAK_SECONDS=$(SOAK_SECONDS) tests/integration/test_soak.py
	@BUILD=$(BUILD) SOAK_SECONDS=$(SOAK_SECONDS) tests/integration/test_soak_free.py

## vm: boots Debian 12 with its own kernel, systemd and cgroup v2 in qemu, and tests ration there (as root; a long while without KVM)
vm:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory progs unit-bins
	@BUILD=$(BUILD) tests/vm/run $(TESTS)

# Sanitizers: the unit and stress tests, with the shim's core compiled into them.
SAN_MAKE = $(MAKE) --no-print-directory BUILD=$(BUILD)-$(1) SAN="$(2)" OPT=-O1
## asan: unit and stress tests under AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer, in build-asan/
asan:
	+@$(call SAN_MAKE,asan,address undefined) unit-bins
	@BUILD=$(BUILD)-asan ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
		tests/run --kind unit --kind stress $(TESTS)

## ubsan: the same under UndefinedBehaviorSanitizer alone, in build-ubsan/
ubsan:
	+@$(call SAN_MAKE,ubsan,undefined) unit-bins
	@BUILD=$(BUILD)-ubsan UBSAN_OPTIONS=print_stacktrace=1 tests/run --kind unit --kind stress $(TESTS)

# (TSan sleeps for a second before each exit, for what other threads may still do; a case is a process.)
## tsan: the same under ThreadSanitizer, in build-tsan/
tsan:
	+@$(call SAN_MAKE,tsan,thread) unit-bins
	@BUILD=$(BUILD)-tsan TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=20 tests/run --kind unit --kind stress $(TESTS)

FORMATTED = $(sort $(wildcard $(addsuffix /*.[ch],proto bpf daemon daemon/cli shim/core shim/preload shim/client shim/sync shim/free \
	shim/include/ration tests/bench/vs_go tests/unit tests/unit/mini tests/integration tests/examples tests/bench tests/apps tests/fuzz)))
# clang-tidy 14 carries va_list state from one file to the next: a run of it for each file.
TIDY_SRCS = $(filter-out bpf/%,$(filter %.c,$(FORMATTED)))
TIDY_FLAGS = -std=gnu17 -D_GNU_SOURCE= -DRATION_VERSION=\"$(VERSION)\" $(INCLUDES) -Itests/unit -I$(BUILD) -Wall -Wextra
# How many states of a function its analyzer looks at.  Its own limit is 225000, which takes twice the time; `make tidy TIDY_NODES=225000` before a release.
TIDY_NODES ?= 50000
SCRIPTS = $(shell grep -lsE '^.!(/usr/bin/env bash|/bin/bash|/bin/sh)' tests/run tests/deps .ci/run tests/*/*.sh tests/*/run tests/vm/guest/start tests/model/* docs/man/names)
## tidy: clang-format (check only), clang-tidy, shellcheck.  TIDY="a.c b.c" picks files
tidy: $(SKELS)
	$(Q)bad=0; \
	clang-format --dry-run -Werror $(FORMATTED) || bad=1; \
	printf '%s\n' $(or $(TIDY),$(TIDY_SRCS)) | xargs -P 2 -n 1 sh -c 'clang-tidy --quiet "$$@" -- $(TIDY_FLAGS) -Xclang -analyzer-config -Xclang max-nodes=$(TIDY_NODES) 2>/dev/null' tidy || bad=1; \
	shellcheck -S warning $(SCRIPTS) || bad=1; \
	exit $$bad

## format: lay out all C files by .clang-format.  FILES="a.c b.h" picks files
format:
	$(Q)clang-format -i $(or $(FILES),$(FORMATTED))

# ---- fuzzing ----------------------------------------------------------------------------------------

FUZZ_SECONDS ?= 20
FUZZ_FLAGS = -std=gnu17 -O1 -g -D_GNU_SOURCE= -DRATION_VERSION='"fuzz"' $(INCLUDES) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
# A fuzz target links the pure parts: frames and quota.  A fragment may add more in FUZZ_EXTRA.
FUZZ_PARTS = $(wildcard proto/wire.c daemon/quota.c)
$(FUZZ_BINS): $(BUILD)/%: %.c $(FUZZ_PARTS)
	@mkdir -p $(@D)
	$(call say,FUZZ,$<)$(CLANG) $(FUZZ_FLAGS) -MMD -MP -MF $@.d -o $@ $< $(FUZZ_PARTS) $(FUZZ_EXTRA)

## fuzz: each libFuzzer target for FUZZ_SECONDS (20); new inputs go to build/fuzz
fuzz: $(FUZZ_BINS)
	@BUILD=$(BUILD) FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run

## model: check the spin models, and that each finds its seeded bug
model:
	@BUILD=$(BUILD) tests/model/run

# ---- aarch64 ----------------------------------------------------------------------------------------

# There is no libcheck for it, so tests/unit/mini stands in.  qemu shows that the code is right for the machine, not
# that its memory order is: for that there are the models.
CORE_BINS = $(patsubst %.c,$(BUILD)/%,$(filter-out $(WITH_DAEMON),$(UNIT_SRCS)))
core-bins: $(CORE_BINS) $(BUILD)/libration.so

## aarch64: cross-build the shim and the core's unit tests; look for kept thread pointers; run the tests where qemu-aarch64 is
aarch64:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-aarch64 CC=aarch64-linux-gnu-gcc TEST_CFLAGS=-Itests/unit/mini CHECK_LIBS= core-bins
	@tests/aarch64_tls $(BUILD)-aarch64
	@if command -v qemu-aarch64 >/dev/null; then \
		BUILD=$(BUILD)-aarch64 RUN_WITH="qemu-aarch64 -L /usr/aarch64-linux-gnu" tests/run --kind unit \
			--skip "unit/cpucount=qemu-user has no process_vm_readv" $(TESTS); \
	else echo "built; not run: there is no qemu-aarch64"; fi

# ---- install ----------------------------------------------------------------------------------------

BINDIR = $(DESTDIR)$(PREFIX)/bin
SBINDIR = $(DESTDIR)$(PREFIX)/sbin
LIBDIR = $(DESTDIR)$(PREFIX)/lib
INCDIR = $(DESTDIR)$(PREFIX)/include/ration
APPSDIR = $(DESTDIR)$(PREFIX)/lib/ration/apps.d
UNITDIR = $(DESTDIR)$(PREFIX)/lib/systemd/system
MANDIR = $(DESTDIR)$(PREFIX)/share/man
DOCDIR = $(DESTDIR)$(PREFIX)/share/doc/ration
# Where gdb looks for what belongs to a library, if its own prefix is the same.
GDBDIR = $(DESTDIR)$(PREFIX)/share/gdb/auto-load$(PREFIX)/lib
UNITS = $(wildcard systemd/*.service systemd/*.socket)
CONF = $(firstword $(wildcard systemd/rationd.conf docs/rationd.conf systemd/rationd.conf.example docs/rationd.conf.example))
MANS = $(wildcard docs/*.[1-8] docs/man/*.[1-8])
MANS3 = $(filter %.3,$(MANS))
APPS = $(wildcard systemd/apps.d/*.conf)
DROPINS = $(wildcard systemd/drop-in/*.conf)
PC = $(wildcard shim/ration.pc.in)
HEADERS = $(wildcard shim/include/ration/*.h)

## install: into DESTDIR and PREFIX (default /usr/local): programs, library, headers, pkg-config file, gdb script, units, man pages, rules about applications, conf example
install: all
	install -d $(BINDIR) $(SBINDIR) $(LIBDIR) $(UNITDIR) $(DOCDIR)
	install -m 755 $(BUILD)/ration $(BINDIR)/ration
	install -m 755 $(BUILD)/rationd $(SBINDIR)/rationd
	install -m 644 $(BUILD)/libration.so $(LIBDIR)/libration.so
	$(if $(APPS),install -d $(APPSDIR) && install -m 644 $(APPS) $(APPSDIR))
	install -d $(GDBDIR)
	install -m 644 shim/gdb/ration-gdb.py $(GDBDIR)/libration.so-gdb.py
	$(if $(HEADERS),install -d $(INCDIR) && install -m 644 $(HEADERS) $(INCDIR))
	$(if $(PC),install -d $(LIBDIR)/pkgconfig && sed -e 's%@PREFIX@%$(PREFIX)%' -e 's%@VERSION@%$(VERSION)%' $(PC) >$(LIBDIR)/pkgconfig/ration.pc && chmod 644 $(LIBDIR)/pkgconfig/ration.pc)
	for u in $(UNITS); do sed -e 's%/usr/sbin/rationd%$(PREFIX)/sbin/rationd%g' $$u >$(UNITDIR)/$${u##*/} && chmod 644 $(UNITDIR)/$${u##*/} || exit 1; done
	for m in $(MANS); do d=$(MANDIR)/man$${m##*.}; install -d $$d && install -m 644 $$m $$d || exit 1; done
	docs/man/names $(MANS3) | while read -r name page; do ln -sf $$page $(MANDIR)/man3/$$name.3 || exit 1; done
	install -m 644 LICENSE $(wildcard README.md docs/*.md docs/*.svg) $(DOCDIR)
	$(if $(CONF),install -m 644 $(CONF) $(DOCDIR)/rationd.conf.example)
	for u in $(DROPINS); do sed -e 's%/usr/local/%$(PREFIX)/%g' $$u >$(DOCDIR)/drop-in-$${u##*/} || exit 1; done

## uninstall: remove what install put there
uninstall:
	rm -f $(BINDIR)/ration $(SBINDIR)/rationd $(LIBDIR)/libration.so $(LIBDIR)/pkgconfig/ration.pc $(GDBDIR)/libration.so-gdb.py
	rm -f $(addprefix $(UNITDIR)/,$(notdir $(UNITS))) $(foreach m,$(MANS),$(MANDIR)/man$(patsubst .%,%,$(suffix $(m)))/$(notdir $(m)))
	docs/man/names $(MANS3) | while read -r name page; do rm -f $(MANDIR)/man3/$$name.3; done
	rm -f $(addprefix $(APPSDIR)/,$(notdir $(APPS)))
	rmdir $(APPSDIR) $(dir $(APPSDIR)) 2>/dev/null || :
	rm -rf $(INCDIR) $(DOCDIR)

## clean: remove build/ and its variants
clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-ubsan $(BUILD)-tsan $(BUILD)-aarch64

## help: this list
help:
	@echo "make [target] [V=1] [BUILD=dir] [CC=clang] [DESTDIR= PREFIX=]"
	@sed -n 's/^## \([a-z0-9]*\): /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

# ---- fragments, dependencies ------------------------------------------------------------------------

-include $(sort $(wildcard daemon/*.mk daemon/cli/*.mk shim/*/*.mk bpf/*.mk tests/*/*.mk))
-include $(wildcard $(addsuffix /*.d,$(BUILD) $(BUILD)/obj/* $(BUILD)/obj/daemon/cli $(BUILD)/pic/* $(BUILD)/pic/shim/* $(BUILD)/tests/*))
