#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Mistakes in the schema and at a call are errors when compiling.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

compile() { # DIRECTORY-OF-PROBES FILE
	"${CC:-gcc}" -std=gnu11 -Wall -Werror -D_GNU_SOURCE -I"$1" -c "$2" -o "$work/object.o" 2>"$work/error"
}

# in_list WHAT PATTERN REPLACEMENT TEXT: with PATTERN replaced in the list, the
# schema does not compile, and the compiler says TEXT.
in_list() {
	rm -rf "$work/probes"
	cp -r probes "$work/probes"
	sed -i "s/$2/$3/" "$work/probes/events.def.h"
	cmp -s probes/events.def.h "$work/probes/events.def.h" && fail "$1: nothing was replaced"
	compile "$work/probes" "$work/probes/schema.c" && fail "$1 compiles"
	[[ $(cat "$work/error") == *"$4"* ]] || fail "$1: no '$4' in $(cat "$work/error")"
}

# in_call WHAT CALL TEXT
in_call() {
	printf '#include "bhp.h"\nvoid f(void);\nvoid f(void) { %s; }\n' "$2" >"$work/call.c"
	compile probes "$work/call.c" && fail "$1 compiles"
	[[ $(cat "$work/error") == *"$3"* ]] || fail "$1: no '$3' in $(cat "$work/error")"
}

compile probes probes/schema.c || fail "the schema itself: $(cat "$work/error")"
printf '#include "bhp.h"\nvoid f(void);\nvoid f(void) { bhp_emit(schedule, .seen = 1, .ticket = 7); }\n' >"$work/call.c"
compile probes "$work/call.c" || fail "a right call: $(cat "$work/error")"

in_list 'an unknown kind' 'u16, took' 'u17, took' u17
in_list 'an unknown slot' 'BHP_F(HALF,' 'BHP_F(QUARTER,' QUARTER
in_list 'a duplicated slot' 'BHP_F(T1,   u8,  kind' 'BHP_F(T0,   u8,  kind' 'schedule: two fields share a slot'
in_list 'a slot in a slot' 'BHP_F(HI2,  u32, ready' 'BHP_F(ARG2, u64, ready' 'wait_end: two fields share a slot'
in_list 'a gap' 'BHP_F(LO2,  i32, fd, ' 'BHP_F(LO,   i32, fd, ' 'wait_end: a gap between its fields'
in_list 'a duplicated field' 'u16, took' 'u16, kind' 'duplicate member'
in_list 'a duplicated event' 'BHP_EVENT(15, consume' 'BHP_EVENT(15, accept' accept
in_list 'a duplicated number' 'BHP_EVENT(15, consume' 'BHP_EVENT(8, consume' duplicate
in_list 'a kind too wide for its slot' 'BHP_F(HALF, u16, took' 'BHP_F(HALF, u32, took' 'does not fit'
in_list 'text in a number' 'BHP_F(TEXT, str, name, ' 'BHP_F(T0, str, name, ' 'does not fit'
in_list 'a number as text' 'BHP_F(HALF, u16, took' 'BHP_F(TEXT, u16, took' 'does not fit'

in_call 'a wrong field' 'bhp_emit(schedule, .sean = 1)' sean
in_call 'a field of another event' 'bhp_emit(schedule, .value = 1)' value
in_call 'an unknown event' 'bhp_emit(shedule, .seen = 1)' shedule
in_call 'a pointer for a number' 'bhp_emit(schedule, .ticket = (void *)0)' 'makes integer from pointer'
in_call 'a number for a pointer' 'bhp_emit(schedule, .bh = 4711)' 'makes pointer from integer'
[ "$failed" -eq 0 ]
