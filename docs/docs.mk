# SPDX-License-Identifier: MIT
# The tables in docs/ that come from X-macro lists. Included by the top-level
# Makefile; tests/unit/test_docs.c compares the committed files.

.PHONY: docs
docs: $(OUT)/gen_docs
	$(Q)$< mechanisms > docs/mechanisms.md
	$(Q)$< events > docs/events.md

$(OUT)/gen_docs: $(OUT)/obj/exe/docs/gen_docs.o $(OUT)/libanalysis.a
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ -o $@
