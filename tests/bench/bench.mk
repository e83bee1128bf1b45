# SPDX-License-Identifier: MIT
# make bench: every program prints rows into a file, "collect" prints them as
# tables and writes bench.json. A missed target is in the row ("ok"); only what
# could not be measured fails the build. Included by tests/tests.mk.

BENCH_DIR := $(OUT)/bench
BENCH     := recorder lttng ebpf placement freerun $(if $(FOREIGN_UV),uvrun) overhead readcost analyze ctf babeltrace peers

# What is not installed is left out, and its rows say so. Looked for only when
# this make builds the benchmarks.
ifneq ($(filter bench-run,$(MAKECMDGOALS)),)
bench_has = $(shell $(PKG_CONFIG) --exists $(1) && echo y)
BENCH_UV  := $(if $(call bench_has,libuv),libuv)
BENCH_GLIB := $(if $(call bench_has,glib-2.0),glib-2.0)
BENCH_EVENT := $(if $(call bench_has,libevent_pthreads),libevent libevent_pthreads)
BENCH_PKG := $(BENCH_UV) $(BENCH_GLIB) $(BENCH_EVENT)
BENCH_CFLAGS := $(if $(BENCH_UV),-DHAVE_UV) $(if $(BENCH_GLIB),-DHAVE_GLIB) \
	$(if $(BENCH_EVENT),-DHAVE_EVENT) $(if $(strip $(BENCH_PKG)),$(shell $(PKG_CONFIG) --cflags $(BENCH_PKG)))
endif

bench_obj = $(patsubst %,$(OUT)/obj/exe/tests/bench/%.o,$(1))
PEER_OBJ := $(call bench_obj,peer_bh $(if $(BENCH_UV),peer_uv) $(if $(BENCH_GLIB),peer_glib) $(if $(BENCH_EVENT),peer_event))
BENCH_OBJ := $(call bench_obj,bench usdt target collect $(BENCH)) $(PEER_OBJ)

$(BENCH_OBJ): ALL_CFLAGS += -Itests/bench -I$(BENCH_DIR) $(BENCH_CFLAGS)

# --- the eBPF program ----------------------------------------------------------

$(BENCH_DIR)/usdt.bpf.o: tests/bench/usdt.bpf.c
	@mkdir -p $(@D)
	$(call say,BPF,$<)$(BPF_CLANG) $(BPF_FLAGS) -c $< -o $@

$(BENCH_DIR)/usdt.skel.h: $(BENCH_DIR)/usdt.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name usdt_bpf > $@

$(call bench_obj,usdt): $(BENCH_DIR)/usdt.skel.h

# --- programs -------------------------------------------------------------------

$(BENCH:%=$(BENCH_DIR)/%) $(BENCH_DIR)/target $(BENCH_DIR)/collect: $(BENCH_DIR)/%: \
		$(OUT)/obj/exe/tests/bench/%.o $(call bench_obj,bench) $(OUT)/libbh.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $(filter %.o,$^) $(filter-out %libbh.a,$(filter %.a,$^)) $(OUT)/libbh.a $(BENCH_LIBS) $(ANALYSIS_LIBS) -lpthread -lm -o $@

$(BENCH_DIR)/recorder $(BENCH_DIR)/lttng $(BENCH_DIR)/placement: $(call bench_obj,usdt)
$(BENCH_DIR)/recorder $(BENCH_DIR)/lttng $(BENCH_DIR)/ebpf $(BENCH_DIR)/placement: BENCH_LIBS = -lbpf
$(BENCH_DIR)/ebpf: $(OUT)/libbhb.a
$(BENCH_DIR)/analyze $(BENCH_DIR)/babeltrace $(BENCH_DIR)/ctf: $(OUT)/libanalysis.a
$(BENCH_DIR)/peers: $(PEER_OBJ)
$(BENCH_DIR)/peers: BENCH_LIBS = $(if $(strip $(BENCH_PKG)),$(shell $(PKG_CONFIG) --libs $(BENCH_PKG)))

# --- measuring --------------------------------------------------------------------

BENCH_ARGS_freerun  = $(OUT)/museum/flag-race
BENCH_ARGS_lttng    = $(abspath $(OUT))/$(LTTNG_SO)
BENCH_ARGS_uvrun    = $(OUT)/bhtrace $(FOREIGN_UV)
BENCH_ARGS_overhead = $(OUT)/bhtrace
BENCH_ARGS_readcost = $(OUT)/bhtrace $(BENCH_DIR)/target

.PHONY: bench bench-run
bench: deps
	$(Q)$(MAKE) --no-print-directory bench-run

bench-run: all museum $(FOREIGN_UV) $(BENCH:%=$(BENCH_DIR)/%) $(BENCH_DIR)/target $(BENCH_DIR)/collect
	$(Q)$(foreach b,$(BENCH),printf '  %-7s %s\n' BENCH $(b) && $(BENCH_DIR)/$(b) $(BENCH_ARGS_$(b)) > $(BENCH_DIR)/$(b).rows &&) \
		$(BENCH_DIR)/collect $(OUT)/bench.json $(BENCH:%=$(BENCH_DIR)/%.rows)
