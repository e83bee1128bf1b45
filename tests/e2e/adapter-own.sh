#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The worked example of docs/adapters.md: its program and its adapter, taken from the page; with debug
# information, and stripped. And what becomes of files that are wrong.
. tests/e2e/common.bash

[ "$(uname -m)" = x86_64 ] || skip "code is read on x86_64 alone"

# block NAME: the fenced block that the page calls so.
block() { awk -v name="<!-- $1 -->" '$0 == name { on = 1; next } on && /^```/ { if (body) exit; body = 1; next } body' docs/adapters.md; }

block own.c >"$work/own.c"
block own.adapter >"$work/own.adapter"
"${CC:-cc}" -Wall -Wextra -Werror -g -O1 "$work/own.c" -o "$work/own" || fail "the example does not compile"
"${CC:-cc}" -O1 -rdynamic -s "$work/own.c" -o "$work/own-stripped" || fail "the example does not compile"

# diagnosed EXIT [ADAPTER]
diagnosed() {
	"$BHTRACE" diagnose -p "$pid" --adapter "${2:-$work/own.adapter}" >"$work/report" 2>&1
	[ $? -eq "$1" ]
}
report() { sed 's/^/    /' "$work/report"; }

for own in own own-stripped; do
	start "$work/$own" silently
	wait_until 20 diagnosed 1 || { fail "$own: not found hung"; report; }
	grep -q 'notify-missing' "$work/report" || { fail "$own: another rule"; report; }
	grep -q 'only for a loop that does not run yet' "$work/report" || { fail "$own: no remark"; report; }
	if [ "$own" = own ]; then
		grep -q '"early_runs"' "$work/report" || { fail "$own: the callback is not named"; report; }
	fi
	stop "$pid"

	start "$work/$own"
	wait_until 20 grep -q 'all done' "$log" || fail "$own: the control did not run"
	diagnosed 0 || { fail "$own: the control is not healthy"; report; }

	# refused FILE WORDS: exit 5, and the report says why.
	refused() {
		diagnosed 5 "$1" || { fail "$own: $1: not refused"; report; }
		grep -q "$2" "$work/report" || { fail "$own: $1: the reason is not \"$2\""; report; }
	}
	sed 's/^bhs chain/bhs chained/' "$work/own.adapter" >"$work/word.adapter"
	refused "$work/word.adapter" "word.adapter: line $(grep -n '^bhs' "$work/own.adapter" | cut -d: -f1): "
	sed 's/| code own_wake load arg1 size=4/& | fixed 0x14/' "$work/own.adapter" >"$work/two.adapter"
	refused "$work/two.adapter" 'loop.notifier_fd'
	refused "$work/none.adapter" 'No such file'
	stop "$pid"
done

# A pointer taken for a flag: no bottom half passes, so there is no loop, and nothing is said to be well.
sed 's/at dwarf own_job.posted.*/at fixed 8/' "$work/own.adapter" >"$work/wrong.adapter"
start "$work/own" silently
wait_until 20 diagnosed 1 || fail "own: not found hung"
diagnosed 3 "$work/wrong.adapter" || { fail "a wrong adapter is not undecidable"; report; }
stop "$pid"

[ $failed -eq 0 ]
