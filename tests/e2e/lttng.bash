# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154,SC2034 # what common.bash sets, and what the tests use
# What the tests with LTTng share: daemons of their own, found through LTTNG_HOME,
# which no other process uses. Root's daemon has fixed paths instead, so that root
# becomes another user first, or leaves it alone. To be sourced instead of common.bash.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OUT=${OUT:-$here/../../.output}
OUT=$(realpath "$OUT")

# That user gets a small disk, too, where mounting is allowed.
if [ "$(id -u)" -eq 0 ]; then
	other=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nonexistent)
	if ! "${other[@]}" test -r "$0" -a -x "$OUT/bhtrace" 2>/dev/null; then
		echo "another user cannot read $OUT, and root's session daemon is not ours"
		exit 77
	fi
	small=$(mktemp -d /tmp/bhtrace-disk.XXXXXX) || exit 1
	mount -t tmpfs -o size=48m,uid=65534 tmpfs "$small" 2>/dev/null && other+=("SMALL_DISK=$small")
	trap 'umount "$small" 2>/dev/null; rmdir "$small"' EXIT
	"${other[@]}" bash "$(realpath "$0")" "$@"
	exit
fi

# shellcheck source-path=SCRIPTDIR source=common.bash
. "$here/common.bash"
[ -e "$OUT/libbh-lttng.so.0" ] || skip "no $OUT/libbh-lttng.so.0"
for tool in lttng-sessiond lttng-relayd lttng babeltrace2; do
	command -v $tool >/dev/null || skip "no $tool"
done

export LTTNG_HOME=$work/home
export LD_LIBRARY_PATH=$OUT
mkdir "$LTTNG_HOME" || exit 1

# Process id of the session daemon, if one runs.
daemon() {
	local id
	id=$(cat "$LTTNG_HOME/.lttng/lttng-sessiond.pid" 2>/dev/null) && kill -0 "$id" 2>/dev/null && echo "$id"
}

gone() { ! kill -0 "$1" 2>/dev/null; } # PID

no_daemon() { [ -z "$(daemon)" ]; }

# A daemon that a killed recorder left is no child of ours.
end_daemon() {
	local id
	id=$(daemon) || return 0
	kill "$id"
	wait_until 20 gone "$id" || kill -KILL "$id"
}

# Recorders leave their targets running: those of this test are known by their path.
end_targets() {
	local id
	for id in $(pgrep -f "^$work/target"); do
		kill -KILL "$id"
	done
} 2>/dev/null
trap 'end_targets; end_daemon; cleanup' EXIT

# --- recordings --------------------------------------------------------------------

# record_on OPTION...: bhtrace record --via lttng in the background; sets $recorder
# and $record_log.
record_on() {
	start "$BHTRACE" record --via lttng "$@"
	recorder=$pid record_log=$log
}

# Ends the recorder with signal INT; sets $code.
interrupt() {
	kill -INT "$recorder"
	wait "$recorder"
	code=$?
}

said() { grep -q "$1" "$record_log"; } # TEXT

# Process id of the recorder's child that is its target.
target_of() {
	pgrep -P "$recorder" -f "^$work/target" | head -n 1 | grep .
}

# Number of events that babeltrace2 finds in DIR; its complaints go to
# $work/complaints.
events_in() { # DIR [PATTERN]
	if [ $# -gt 1 ]; then
		babeltrace2 --fields=all --names=all "$1" 2>"$work/complaints" | grep -c "$2"
	else
		babeltrace2 "$1" -c sink.utils.counter 2>"$work/complaints" | awk '/ Event messages/ { n = $1 } END { print n + 0 }'
	fi
}

# The trace at DIR can be read without a complaint but for loss, and has events.
readable() { # WHAT DIR
	local n
	n=$(events_in "$2")
	[ "${n:-0}" -gt 0 ] || fail "$1: no events in $2: $(cat "$work/complaints" "$record_log")"
	sed -i '/^WARNING: Tracer discarded/d' "$work/complaints"
	[ ! -s "$work/complaints" ] || fail "$1: babeltrace2 complains of $2: $(head -c 2000 "$work/complaints")"
}
