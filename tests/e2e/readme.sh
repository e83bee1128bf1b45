#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The README's example compiles without a warning, with both libraries, and does
# what it says; its table of mechanisms is the analyzer's.
set -eu
: "${OUT:?}" "${BHTRACE:?}"
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$top/README.md" >"$work/example.c"
[ "$(wc -l <"$work/example.c")" -ge 20 ] || { echo "no example in README.md"; exit 1; }
flags="-std=c11 -Wall -Wextra -Werror -I$top/lib"
# shellcheck disable=SC2086
{
	"${CC:-gcc}" $flags "$work/example.c" -o "$work/shared" -L"$OUT" -lbh -pthread -Wl,-rpath,"$OUT"
	"${CC:-gcc}" $flags "$work/example.c" -o "$work/static" "$OUT/libbh.a" -pthread
}
for program in shared static; do
	said=$(timeout 10 "$work/$program")
	[ "$said" = "request 1 is done" ] || { echo "$program said: $said"; exit 1; }
done

"$BHTRACE" explain --json | python3 -c '
import json, sys
readme = open(sys.argv[1]).read()
rules = json.load(sys.stdin)["rules"]
assert len(rules) >= 16, len(rules)
for rule in rules:
    assert "| `%s`" % rule["rule"] in readme, "README.md lacks " + rule["rule"]
' "$top/README.md"
