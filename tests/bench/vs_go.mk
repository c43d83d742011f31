# SPDX-License-Identifier: Apache-2.0
# The programs of vs_go.sh.  vs_go.py asks for those whose compiler is there.
VS_GO := $(BUILD)/tests/bench/vs_go
GO ?= $(firstword $(wildcard /usr/lib/go-1.23/bin/go) go)

$(VS_GO)/pbench $(VS_GO)/echoload: $(VS_GO)/%: tests/bench/vs_go/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) -MF $@.d -o $@ $< -pthread $(VS_GO_LIBS)
$(VS_GO)/echoload: VS_GO_LIBS := -luring

# What a program of a user's does: the public headers, -lration before all else.
$(VS_GO)/gbench: tests/bench/vs_go/gbench.c $(BUILD)/libration.so
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(BASE_CFLAGS) -MF $@.d -o $@ $< $(BUILD)/libration.so -Wl,-rpath,$(abspath $(BUILD)) -pthread

$(VS_GO)/fbench: tests/bench/vs_go/fbench.cpp
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) -std=gnu++17 $(OPT) -g -Wall -Wextra -Werror -o $@ $< -lboost_fiber -lboost_context -pthread

# No module, nothing fetched, no other toolchain than the one that is here.
$(VS_GO)/gobench: tests/bench/vs_go/gobench.go
	@mkdir -p $(@D)
	$(call say,GO,$<)GO111MODULE=off GOTOOLCHAIN=local GOPROXY=off GOCACHE=$(abspath $(VS_GO))/go-cache $(GO) build -o $@ $<

-include $(wildcard $(VS_GO)/*.d)
