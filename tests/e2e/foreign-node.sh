#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The node of the machine, started plainly: a worker in a synchronous loop, Atomics.wait()
# in a callback, and messages that go on.
#
#   RUNS         how often each (1)
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
# shellcheck source=foreign.bash
. tests/e2e/foreign.bash
runs=${RUNS:-1}
command -v node >/dev/null || skip "no node"
nm -D "$(command -v node)" 2>/dev/null | grep -q ' uv_async_send$' || skip "this node does not export uv_async_send"

# The thread of the loop that is in trouble: a worker's, or the main one.
is_main="f['loop']['owner_tid'] == d['target']['pid']"

check_hung() { # WHAT RULE EXPRESSION SCRIPT ARGUMENT...
	local what=$1 rule=$2 expression=$3
	shift 3
	started hung node "$programs/$1" "${@:2}" || return
	diagnose "$pid" --json
	expect "$what" 1 "f['rule'] == '$rule'" "$expression" "$unchanged" 'len(d["findings"]) == 1'
	check_snapshot "$what, snapshot" 1 "f['rule'] == '$rule'" "$expression"
	diagnose "$pid" --json
	expect "$what, again" 1 "f['rule'] == '$rule'"
	stop "$pid"
}

check_quiet() { # WHAT WORD SCRIPT ARGUMENT...
	local what=$1 word=$2
	shift 2
	started "$word" node "$programs/$1" "${@:2}" || return
	diagnose "$pid" --json
	[[ $code = [03] ]] || { fail "$what: exit $code: $(cat "$work/error" "$work/report")"; stop "$pid"; return; }
	expect "$what" "$code" 'd["findings"] == []' 'd["looked_at"]["loops"] >= 2' '(d["verdict"] == "healthy") == (d["reasons"] == [])'
	quiet+=("$what=$code")
	stop "$pid"
}
quiet=()

for ((i = 0; i < runs; i++)); do
	check_hung "spinning worker" callback-spinning "not $is_main" node-spinning.js
	check_hung "waiting worker" callback-blocked "not $is_main" node-waiting.js worker
	check_hung "waiting main thread" callback-blocked "$is_main" node-waiting.js main
	check_quiet "no loop" idle node-spinning.js fixed
	check_quiet "no wait" idle node-waiting.js fixed
	check_quiet "busy" ready node-pingpong.js
	check_quiet "done" idle node-pingpong.js 20000
done
echo "$runs times; without a finding: ${quiet[*]}"
[ $failed -eq 0 ]
