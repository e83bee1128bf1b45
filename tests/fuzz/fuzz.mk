# SPDX-License-Identifier: MIT
# make fuzz: each target with libFuzzer for SECONDS (600), two at a time; needs
# clang. make fuzz-replay: the same targets without libFuzzer on the corpora and
# on what was ever found. Included by tests/tests.mk.

FUZZ         := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_BIN     := $(FUZZ:%=$(OUT)/fuzz/%)
FUZZ_REPLAY  := $(FUZZ:%=$(OUT)/fuzz/replay-%)
FUZZ_SECONDS := $(or $(filter-out 0,$(SECONDS)),600)

fuzz_obj = $(patsubst %,$(OUT)/obj/exe/tests/fuzz/%.o,$(1))
FUZZ_LINK = $(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $(filter %.o %.a,$^) $(ANALYSIS_LIBS)

$(FUZZ_BIN): $(OUT)/fuzz/%: $(OUT)/obj/exe/tests/fuzz/fuzz_%.o $(call fuzz_obj,fuzz) $(OUT)/libanalysis.a
	@mkdir -p $(@D)
	$(FUZZ_LINK) -fsanitize=fuzzer -o $@

$(FUZZ_REPLAY): $(OUT)/fuzz/replay-%: $(OUT)/obj/exe/tests/fuzz/fuzz_%.o $(call fuzz_obj,fuzz replay) $(OUT)/libanalysis.a
	@mkdir -p $(@D)
	$(FUZZ_LINK) -o $@

FUZZ_SANE := SAN=address,undefined CFLAGS='-O1 -g -fno-sanitize-recover=all

.PHONY: fuzz fuzz-run fuzz-replay fuzz-replay-run
fuzz:
	$(Q).ci/deps build fuzz
	$(Q)$(MAKE) --no-print-directory OUT=$(OUT)/fuzzing CC=clang $(FUZZ_SANE) -fsanitize=fuzzer-no-link' fuzz-run
fuzz-run: $(FUZZ_BIN)
	$(Q)OUT=$(abspath $(OUT)) tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

fuzz-replay:
	$(Q)$(MAKE) --no-print-directory OUT=$(OUT)/asan $(FUZZ_SANE)' fuzz-replay-run
fuzz-replay-run: $(FUZZ_REPLAY)
	$(Q)OUT=$(abspath $(OUT)) tests/fuzz/replay $(FUZZ)
