# SPDX-License-Identifier: MIT
#
#   make            build everything into .output/
#   make demo       hang a real process, diagnose it from outside, run the control
#   make check      install what is missing, build, run all tests
#   make bench      measure; tables on stdout, rows in .output/bench.json
#   make install    DESTDIR and PREFIX are honoured
#
# V=1 shows the commands.

VERSION := 0.1.0
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
OUT     ?= .output
CC      ?= gcc
AR      ?= ar
SAN     ?=
CFLAGS  ?= -O2 -g
PKG_CONFIG ?= pkg-config

ifeq ($(origin CC),default)
CC := gcc
endif

WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla
INC  := -Iprobes -Ilib -Ianalysis -Ianalysis/sources -Ianalysis/ctf -Ianalysis/foreign -Ibpf -Itools
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer) \
	-D_GNU_SOURCE -DBHTRACE_VERSION='"$(VERSION)"' $(INC) -MMD -MP
# gcc says at every fence that TSan does not model it. libbh's own ordering needs
# none; the recorder's are for a reader in another process, which TSan never sees.
ifeq ($(SAN)$(findstring clang,$(CC)),thread)
WARN += -Wno-tsan
endif
ALL_LDFLAGS = $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN))

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(patsubst $(OUT)/%,%,$(2))';)

.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all
all:

# --- sources -----------------------------------------------------------------

KIT_SRC      := $(wildcard probes/*.c)
LIB_SRC      := $(wildcard lib/*.c)
ANALYSIS_SRC := $(wildcard analysis/*.c analysis/*/*.c)
TOOLS_SRC    := $(wildcard tools/*.c)
UNIT_SRC     := $(wildcard tests/unit/test_*.c)

obj = $(patsubst %.c,$(OUT)/obj/$(1)/%.o,$(2))
KIT_OBJ      := $(call obj,pic,$(KIT_SRC))
LIB_OBJ      := $(call obj,pic,$(LIB_SRC))
ANALYSIS_OBJ := $(call obj,exe,$(ANALYSIS_SRC))
KIT_SCHEMA   := $(call obj,exe,probes/schema.c)
TOOLS_OBJ    := $(call obj,exe,$(TOOLS_SRC))

$(OUT)/obj/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -c $< -o $@

$(OUT)/obj/exe/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -c $< -o $@

# Each event of LTTng takes some twenty small functions of libbabeltrace2.
$(call obj,exe,$(wildcard analysis/sources/babeltrace*.c)): ALL_CFLAGS += -fno-plt

# The page of bhtrace timeline is in its object; no compiler tells of that.
$(OUT)/obj/exe/analysis/timeline/page.o: $(wildcard analysis/timeline/*.html analysis/timeline/*.css analysis/timeline/*.js)

# The same of the adapters.
$(OUT)/obj/exe/analysis/foreign/adapters.o: $(wildcard probes/adapters/*.adapter)

# --- libbh -------------------------------------------------------------------

SO := libbh.so.0
# nodelete: a thread that outlives dlclose() still owns a ring whose thread-exit
# hook is code of this library.
$(OUT)/libbh.so.$(VERSION): $(KIT_OBJ) $(LIB_OBJ) lib/libbh.map
	$(call say,LINK,$@)$(CC) -shared -pthread -Wl,-soname,$(SO) -Wl,--version-script=lib/libbh.map \
		-Wl,-z,nodelete -Wl,-z,defs $(ALL_LDFLAGS) $(KIT_OBJ) $(LIB_OBJ) -o $@

$(OUT)/$(SO) $(OUT)/libbh.so: $(OUT)/libbh.so.$(VERSION)
	$(Q)ln -sf $(<F) $@

$(OUT)/libbh.a: $(KIT_OBJ) $(LIB_OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

# The LTTng-UST provider is loaded only where it is asked for: libbh needs none of it.
LTTNG_SO := libbh-lttng.so.0
$(OUT)/libbh-lttng.so.$(VERSION): $(OUT)/obj/pic/probes/lttng/provider.o probes/lttng/provider.map
	$(call say,LINK,$@)$(CC) -shared -pthread -Wl,-soname,$(LTTNG_SO) -Wl,--version-script=probes/lttng/provider.map \
		-Wl,-z,nodelete -Wl,-z,defs $(ALL_LDFLAGS) $< -llttng-ust -llttng-ust-common -ldl -o $@

$(OUT)/$(LTTNG_SO): $(OUT)/libbh-lttng.so.$(VERSION)
	$(Q)ln -sf $(<F) $@

# bhtrace run preloads it: the recorder between a program and its libuv. The kit comes
# first, for its fork handlers.
UV_SO  := libbh-uv.so.0
UV_OBJ := $(call obj,pic,$(wildcard probes/uv/*.c))
$(OUT)/libbh-uv.so.$(VERSION): $(KIT_OBJ) $(UV_OBJ) probes/uv/uv.map
	$(call say,LINK,$@)$(CC) -shared -pthread -Wl,-soname,$(UV_SO) -Wl,--version-script=probes/uv/uv.map \
		-Wl,-z,nodelete -Wl,-z,defs $(ALL_LDFLAGS) $(KIT_OBJ) $(UV_OBJ) -ldl -o $@

$(OUT)/$(UV_SO): $(OUT)/libbh-uv.so.$(VERSION)
	$(Q)ln -sf $(<F) $@

# Always: PREFIX may be another one when it is installed.
.PHONY: FORCE
$(OUT)/libbh.pc: lib/libbh.pc.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

LIBBH := $(OUT)/$(SO) $(OUT)/libbh.so $(OUT)/libbh.a $(OUT)/libbh.pc $(OUT)/$(LTTNG_SO) $(OUT)/$(UV_SO)

# --- eBPF --------------------------------------------------------------------

include bpf/bpf.mk

# --- bhtrace -----------------------------------------------------------------

ANALYSIS_LIBS := -ljansson -ldw -lelf -lcapstone $(shell $(PKG_CONFIG) --libs babeltrace2 2>/dev/null || echo -lbabeltrace2) -lm
TOOLS_LIBS    := -llttng-ctl -lbpf -lncursesw -ltinfo -lpthread

$(OUT)/libanalysis.a: $(ANALYSIS_OBJ) $(KIT_SCHEMA)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(OUT)/bhtrace: $(TOOLS_OBJ) $(OUT)/libanalysis.a $(OUT)/libbhb.a
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ $(TOOLS_LIBS) $(ANALYSIS_LIBS) -o $@

all: $(LIBBH) $(OUT)/bhtrace

# --- everything else has its own file ------------------------------------------

include tests/tests.mk
include docs/docs.mk

.PHONY: install clean
install: $(LIBBH) $(OUT)/bhtrace
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include \
		$(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man3 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/bhtrace
	install -m 755 $(OUT)/bhtrace $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(OUT)/libbh.so.$(VERSION) $(OUT)/libbh.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(OUT)/libbh-lttng.so.$(VERSION) $(DESTDIR)$(LIBDIR)/
	ln -sf libbh-lttng.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(LTTNG_SO)
	install -m 755 $(OUT)/libbh-uv.so.$(VERSION) $(DESTDIR)$(LIBDIR)/
	ln -sf libbh-uv.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(UV_SO)
	install -m 644 probes/uv/bh-uv.h $(DESTDIR)$(PREFIX)/include/
	ln -sf libbh.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SO)
	ln -sf $(SO) $(DESTDIR)$(LIBDIR)/libbh.so
	install -m 644 $(OUT)/libbh.pc $(DESTDIR)$(LIBDIR)/pkgconfig/
	install -m 644 lib/bh.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 tools/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 755 bpf/*.bt $(DESTDIR)$(PREFIX)/share/bhtrace/
	install -m 644 bpf/*_example.txt $(DESTDIR)$(PREFIX)/share/bhtrace/
	install -m 644 tools/completion/bhtrace.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bhtrace
	install -m 644 lib/man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3/

clean:
	rm -rf $(OUT)

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
