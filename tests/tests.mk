# SPDX-License-Identifier: MIT
# What is tested, and with what. Included by the top-level Makefile.

.PHONY: check soak aarch64 unit e2e sanitizers demo deps
# Stock libuv in a program of ours that really loses wakeups.
FOREIGN_UV := $(shell $(PKG_CONFIG) --exists libuv && echo $(OUT)/foreign/uv-race)
-include tests/museum/museum.mk
-include tests/bench/bench.mk
include tests/accuracy.mk tests/storm/storm.mk tests/fuzz/fuzz.mk
include tests/lint.mk
JOBS := $(shell nproc)

# --- unit: one program a file, linked statically against everything -----------

UNIT := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(UNIT_SRC))

$(OUT)/unit/%: $(OUT)/obj/exe/tests/unit/%.o $(OUT)/libanalysis.a $(OUT)/libbh.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $(filter-out %/libbh.a %/libanalysis.a,$^) $(OUT)/libanalysis.a $(OUT)/libbh.a \
		-lcmocka $(UNIT_LIBS) $(ANALYSIS_LIBS) -lpthread -o $@

$(OUT)/unit/test_bpf_sites $(OUT)/unit/test_bpf_args: $(OUT)/libbhb.a
$(OUT)/unit/test_bpf_sites $(OUT)/unit/test_bpf_args: UNIT_LIBS = -lbpf
$(OUT)/unit/test_watch_table: $(call obj,exe,tools/watch_table.c tools/watch_metrics.c)

unit: $(UNIT)
	$(Q)tests/run $(UNIT)

# --- end to end: shell scripts on real processes --------------------------------

E2E := $(sort $(wildcard tests/e2e/*.sh))

$(OUT)/foreign/uv-race: $(OUT)/obj/exe/tests/foreign/uv-race.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $< $(shell $(PKG_CONFIG) --libs libuv) -lpthread -o $@

e2e: all museum storm-programs $(FOREIGN_UV)
	$(Q)OUT=$(abspath $(OUT)) BHTRACE=$(abspath $(OUT))/bhtrace tests/run $(E2E)

# The timeline page in a headless browser; screenshots and figures stay in OUT/browser.
$(OUT)/browser/synthetic: $(OUT)/obj/exe/tests/browser/synthetic.o $(OUT)/libanalysis.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ $(ANALYSIS_LIBS) -o $@

.PHONY: browser
browser: $(OUT)/browser/synthetic
	$(Q)OUT=$(abspath $(OUT)) tests/run tests/browser/run
	$(Q)cat $(OUT)/browser/measured 2>/dev/null || true

# The bpftrace scripts on real processes. Apart from check: once in eight runs a
# probe saw nothing, and why is not known yet.
.PHONY: bpftrace
bpftrace: all museum
	$(Q)OUT=$(abspath $(OUT)) BHTRACE=$(abspath $(OUT))/bhtrace tests/run tests/bpftrace.sh

# The claims of the README in full; takes long, so it is not part of check.
soak: all museum
	$(Q)OUT=$(abspath $(OUT)) BHTRACE=$(abspath $(OUT))/bhtrace tests/soak

# --- the unit tests once more under the sanitizers --------------------------------

sanitizers:
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) OUT=$(OUT)/asan SAN=address,undefined CFLAGS='-O1 -g -fno-sanitize-recover=all' unit
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) OUT=$(OUT)/tsan SAN=thread CFLAGS='-O1 -g' unit

deps:
	$(Q).ci/deps build check bench

# Without root: with what is installed, saying what is missing.
demo:
	-$(Q).ci/deps build
	$(Q)$(MAKE) --no-print-directory all museum >/dev/null
	$(Q)OUT=$(OUT) tests/demo

# --- and on the other architecture --------------------------------------------------

aarch64:
	$(Q)OUT=$(OUT) tests/aarch64

check: deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all museum lint
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) $(UNIT)
	$(Q)$(MAKE) --no-print-directory unit sanitizers fuzz-replay aarch64 e2e browser
