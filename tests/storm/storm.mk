# SPDX-License-Identifier: MIT
# make storm: what is healthy is never said not to be. Not part of make check,
# which has a short one (tests/e2e/storm.sh). SCHEDULES=N as in tests/storm/run.
# Included by tests/tests.mk.

STORM := $(OUT)/storm/storm $(OUT)/storm/lossy

$(STORM): $(OUT)/storm/%: $(OUT)/obj/exe/tests/storm/%.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ $(ANALYSIS_LIBS) -lpthread -o $@
$(OUT)/storm/storm: $(OUT)/libbh.a
$(OUT)/storm/lossy: $(OUT)/libanalysis.a

.PHONY: storm storm-programs
storm-programs: $(STORM)
storm: all storm-programs
	$(Q)OUT=$(abspath $(OUT)) BHTRACE=$(abspath $(OUT))/bhtrace tests/storm/run $(SCHEDULES)
