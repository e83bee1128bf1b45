#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make install, as a packager does it, and a program that finds the result with
# pkg-config: with the shared library and with the static one.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"

prefix=/opt/bh dest=$work/dest lib=/opt/bh/lib/x
make --no-print-directory OUT="${OUT#"$PWD"/}" DESTDIR="$dest" PREFIX=$prefix LIBDIR=$lib install >"$work/log" 2>&1 ||
	{ cat "$work/log"; exit 1; }

while read -r mode path; do
	[ "$(stat -c %a "$dest$path" 2>&1)" = "$mode" ] || fail "$path: not there or not mode $mode"
done <<-EOF
	755 $prefix/bin/bhtrace
	644 $prefix/include/bh.h
	644 $lib/libbh.a
	644 $lib/pkgconfig/libbh.pc
	644 $prefix/share/man/man1/bhtrace.1
	644 $prefix/share/man/man3/bh_schedule.3
EOF
for link in libbh.so libbh.so.0; do
	[ -f "$(readlink -f "$dest$lib/$link")" ] || fail "$link leads nowhere"
done
# What is not public stays here.
[ "$(cd "$dest$prefix/include" && find . -type f | sort | xargs)" = "./bh-uv.h ./bh.h" ] || fail "other headers than bh.h and bh-uv.h"
grep -rlI "$dest" "$dest$lib/pkgconfig" && fail "DESTDIR got into the result"

cat >"$work/example.c" <<-'EOF'
	#include <bh.h>
	#include <stdio.h>
	static void done(void *loop) { puts("ran"); bh_loop_stop(loop); }
	int main(void)
	{
		struct bh_loop *loop = bh_loop_new("example");
		struct bh *bh = bh_new(loop, done, loop, "done");
		bh_schedule(bh);
		bh_loop_run(loop);
		bh_delete(bh);
		return bh_loop_free(loop);
	}
EOF
export PKG_CONFIG_PATH=$dest$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest
command -v pkg-config >/dev/null || skip "no pkg-config"

# shellcheck disable=SC2046 # pkg-config gives words
"${CC:-gcc}" -std=c11 -pedantic -Werror "$work/example.c" -o "$work/shared" $(pkg-config --cflags --libs libbh) ||
	fail "not linked with the shared library"
# shellcheck disable=SC2046
"${CC:-gcc}" -static -std=c11 "$work/example.c" -o "$work/static" $(pkg-config --static --cflags --libs libbh) ||
	fail "not linked with the static library"
[ "$(LD_LIBRARY_PATH=$dest$lib timeout 10 "$work/shared")" = ran ] || fail "the shared program did not run"
[ "$(timeout 10 "$work/static")" = ran ] || fail "the static program did not run"
LC_ALL=C readelf -d "$work/shared" | grep -q 'NEEDED.*\[libbh.so.0\]' || fail "not linked by its soname"
version=$(pkg-config --modversion libbh)
[ -f "$dest$lib/libbh.so.$version" ] || fail "version $version of libbh.pc is not that of the library"
[ "$failed" -eq 0 ]
