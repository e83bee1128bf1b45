# SPDX-License-Identifier: MIT
# The museum: programs that really hang. They run on a library of their own,
# whose protocol can be weakened (faults.h); libbh knows nothing of it.

MUSEUM_PARTS  := faults museum
MUSEUM_PIECES := $(filter-out $(MUSEUM_PARTS),$(patsubst tests/museum/%.c,%,$(wildcard tests/museum/*.c)))
MUSEUM        := $(addprefix $(OUT)/museum/,$(MUSEUM_PIECES))
FAULTS_OBJ    := $(call obj,faults,$(KIT_SRC) $(LIB_SRC) tests/museum/faults.c)

$(OUT)/obj/faults/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -DBH_FAULTS -Itests/museum -c $< -o $@

$(OUT)/libbh-faults.a: $(FAULTS_OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(MUSEUM): $(OUT)/museum/%: $(OUT)/obj/faults/tests/museum/%.o $(OUT)/obj/faults/tests/museum/museum.o $(OUT)/libbh-faults.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ -lpthread -o $@

.PHONY: museum
museum: $(MUSEUM)
	$(Q)for piece in $(MUSEUM); do $$piece --help | head -n 1; done
