# SPDX-License-Identifier: MIT
# make lint: form, then two analysers, then the other compiler. Included by
# tests.mk. A file is analysed again only when it changed.

LINT_DIRS := probes lib analysis bpf tools docs tests
LINT_C  := $(shell find $(LINT_DIRS) -name '*.c')
LINT_H  := $(shell find $(LINT_DIRS) -name '*.h')
# The tidy run needs a translation unit: what only compiles for BPF has its own build.
TIDY    := $(patsubst %.c,$(OUT)/lint/%.tidy,$(filter-out %.bpf.c,$(LINT_C)))
TIDY_INC = $(INC) -Itests/unit -Itests/museum -Itests/bench -isystem $(OUT)/bpf -isystem $(OUT)/bench

# Without its macros cppcheck cannot parse the lists of libbh.
QUEUE_H := $(firstword $(wildcard /usr/include/*/sys/queue.h /usr/include/sys/queue.h))

.PHONY: lint lint-format lint-cppcheck lint-clang
lint: lint-format lint-cppcheck $(TIDY) lint-clang

lint-format:
	$(call say,FORMAT,$(words $(LINT_C) $(LINT_H)) files)clang-format --dry-run -Werror $(LINT_C) $(LINT_H)

lint-cppcheck:
	$(call say,CPPCHK,$(words $(LINT_C)) files)cppcheck --quiet --error-exitcode=1 --inline-suppr -j2 \
		--enable=warning,portability,performance --suppress=missingIncludeSystem \
		--suppressions-list=tests/cppcheck.txt -D__x86_64__ -D__linux__ -DBHP_NO_USDT \
		--include=$(QUEUE_H) $(INC) \
		$(filter-out tests/% %.bpf.c,$(LINT_C))

# A skeleton of bpftool's, as generated, seems to leak what its destructor frees.
$(OUT)/lint/%.tidy: %.c .clang-tidy | $(BPF_SKEL) $(BENCH_DIR)/usdt.skel.h
	@mkdir -p $(@D)
	$(call say,TIDY,$<)clang-tidy --quiet $(if $(filter bpf/% %/usdt.c,$<),--checks=-clang-analyzer-unix.Malloc) $< -- -std=gnu11 -D_GNU_SOURCE -DBHTRACE_VERSION='""' $(TIDY_INC) \
		$(if $(filter tests/museum/%,$<),-DBH_FAULTS) \
		$(if $(filter %/peer_glib.c tests/foreign/glib-%.c,$<),`$(PKG_CONFIG) --cflags glib-2.0`) >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

# Warnings of the other compiler are errors here.
lint-clang:
	$(Q)$(MAKE) --no-print-directory OUT=$(OUT)/clang CC=clang CFLAGS='-O2 -Werror' all
