#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The USDT notes of libbh are those of events.def.h: for each event at least one
# site, with its arguments in number, size and sign, and with a semaphore.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

cat >"$work/expected.c" <<-'EOF'
	#include <stdio.h>
	#include "record.h"
	#define SIGN_ptr ""
	#define SIGN_str ""
	#define SIGN_u8 ""
	#define SIGN_u16 ""
	#define SIGN_u32 ""
	#define SIGN_i32 "-"
	#define SIGN_u64 ""
	#define SIGN_i64 "-"
	#define SIGN_time ""
	#define BHP_F(slot, kind, name, doc) printf(" %s%zu", SIGN_##kind, sizeof(BHP_C_##kind));
	#define BHP_EVENT(number, name, fields, doc) printf("bh:" #name); fields printf(" 8\n"); /* the time */
	int main(void)
	{
	#include "events.def.h"
		return 0;
	}
EOF
"${CC:-gcc}" -Iprobes "$work/expected.c" -o "$work/expected" && "$work/expected" | sort >"$work/wanted" || exit 1

# One line a site: provider:name size...; those without a semaphore say so.
notes() {
	LC_ALL=C readelf -n -W "$1" | awk '
		/Provider:/ { provider = $NF }
		/Name:/ { name = $2 }
		/Semaphore:/ { sem = $NF }
		/Arguments:/ {
			line = provider ":" name
			for (i = 2; i <= NF; i++)
				if ($i ~ /^-?[0-9]+@/) {
					split($i, part, "@")
					line = line " " part[1]
				}
			print line (sem ~ /^0x0*$/ ? " no semaphore" : "")
		}'
}

for file in "$OUT/libbh.so" "$OUT/libbh.a"; do
	notes "$file" | sort -u >"$work/found"
	# In the archive the semaphores are relocated, not known yet.
	[ "$file" = "$OUT/libbh.so" ] || sed -i 's/ no semaphore$//' "$work/found"
	diff -u "$work/wanted" "$work/found" >"$work/diff" || fail "$file: $(cat "$work/diff")"
done
[ "$(wc -l <"$work/wanted")" -ge 15 ] || fail "only $(wc -l <"$work/wanted") events expected"
[ "$failed" -eq 0 ]
