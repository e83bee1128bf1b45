# SPDX-License-Identifier: MIT
# make accuracy: the museum against the analyzer, from every kind of evidence.
# RUNS=N PIECES="..." as in tests/accuracy.

.PHONY: accuracy accuracy-recorded
accuracy: all museum
	$(Q)OUT=$(abspath $(OUT)) BHTRACE=$(abspath $(OUT))/bhtrace RUNS=$(or $(RUNS),20) PIECES='$(PIECES)' tests/accuracy

# The same from recordings: how many hangs survive each recorder, and what they are called.
accuracy-recorded: all museum
	$(Q)OUT=$(abspath $(OUT)) BHTRACE=$(abspath $(OUT))/bhtrace RUNS=$(or $(RUNS),20) PIECES='$(PIECES)' tests/accuracy --recorded
