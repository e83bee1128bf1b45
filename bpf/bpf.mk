# SPDX-License-Identifier: MIT
# eBPF programs: X.bpf.c becomes an object and then X.skel.h, which X.c includes.
# Included by the top-level Makefile.

BPF_CLANG ?= clang
BPFTOOL   ?= $(firstword $(shell PATH=$$PATH:/usr/sbin command -v bpftool) bpftool)
BPF_ARCH  := $(if $(filter aarch64%,$(shell $(CC) -dumpmachine)),arm64,x86)
BPF_FLAGS := -target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Wno-unused-parameter -Ibpf -Iprobes \
	-I/usr/include/$(shell $(CC) -print-multiarch) -D__TARGET_ARCH_$(BPF_ARCH) -D__$(if $(filter arm64,$(BPF_ARCH)),aarch64,x86_64)__
BPF_SKEL  := $(patsubst bpf/%.bpf.c,$(OUT)/bpf/%.skel.h,$(wildcard bpf/*.bpf.c))
BPF_OBJ   := $(call obj,exe,$(filter-out %.bpf.c,$(wildcard bpf/*.c)))

$(OUT)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) $(wildcard probes/*.h)
	@mkdir -p $(@D)
	$(call say,BPF,$<)$(BPF_CLANG) $(BPF_FLAGS) -c $< -o $@

$(OUT)/bpf/%.skel.h: $(OUT)/bpf/%.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name bhb_$* > $@

$(BPF_OBJ): ALL_CFLAGS += -I$(OUT)/bpf
$(BPF_OBJ): $(BPF_SKEL)

$(OUT)/libbhb.a: $(BPF_OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^
