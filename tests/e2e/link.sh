#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# libbh in every kind of program: the note leads to the root in each of them; the
# exported names are those of bh.h and no more.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"
cc=${CC:-gcc}

# The program says where its root is by looking at its own note, as an observer
# does; the plugin is the same code, loaded and unloaded with threads that used it.
cat >"$work/root.c" <<-'EOF'
	#include <elf.h>
	#include <link.h>
	#include <stdio.h>
	#include <string.h>
	#include "bh.h"

	static int roots;

	static void look(const char *note, size_t size)
	{
		while (size >= sizeof(ElfW(Nhdr))) {
			const ElfW(Nhdr) *n = (const void *)note;
			const char *name = note + sizeof(*n), *desc = name + ((n->n_namesz + 3u) & ~3u);
			size_t all = (size_t)(desc - note) + ((n->n_descsz + 3u) & ~3u);
			if (all > size)
				return;
			if (n->n_namesz == 8 && !memcmp(name, "bhtrace", 8) && n->n_type == 1 && n->n_descsz == 8) {
				int64_t distance;
				memcpy(&distance, desc, 8);
				roots += !strcmp(desc + distance, "BHTRACE");
			}
			note += all;
			size -= all;
		}
	}

	static int visit(struct dl_phdr_info *info, size_t size, void *arg)
	{
		(void)size, (void)arg;
		for (int i = 0; i < info->dlpi_phnum; i++)
			if (info->dlpi_phdr[i].p_type == PT_NOTE)
				look((const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
				     info->dlpi_phdr[i].p_memsz);
		return 0;
	}

	static int count_roots(void)
	{
		roots = 0;
		dl_iterate_phdr(visit, 0);
		return roots;
	}
EOF
cat >"$work/use.c" <<-'EOF'
	#include "bh.h"
	static void count(void *n) { ++*(int *)n; }
	int use(void);
	__attribute__((visibility("default"))) int use(void)
	{
		int n = 0;
		struct bh_loop *loop = bh_loop_new("linked");
		bh_schedule(bh_new(loop, count, &n, "bh"));
		bh_loop_poll(loop, 1);
		bh_loop_free(loop);
		return n;
	}
EOF
cat >"$work/main.c" <<-'EOF'
	#include "root.c"
	int use(void);
	int main(void) { printf("%d %d\n", use(), count_roots()); }
EOF
cat >"$work/host.c" <<-'EOF'
	#include <dlfcn.h>
	#include <pthread.h>
	#include <semaphore.h>
	#include "root.c"
	static int (*use)(void);
	static sem_t used, gone;
	static void *thread(void *n)
	{
		*(int *)n += use();
		sem_post(&used);
		sem_wait(&gone);
		return 0;
	}
	int main(int argc, char **argv)
	{
		for (int round = 0; round < 5; round++) {
			int n = 0, before = count_roots();
			pthread_t t;
			void *plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW) : 0;
			if (!plugin)
				return puts(dlerror()), 1;
			use = (int (*)(void))dlsym(plugin, "use");
			sem_init(&used, 0, 0);
			sem_init(&gone, 0, 0);
			pthread_create(&t, 0, thread, &n);
			sem_wait(&used);
			n += use();
			int loaded = count_roots();
			dlclose(plugin);
			sem_post(&gone);
			pthread_join(t, 0);
			if (round == 0)
				printf("%d %d %d\n", n, before, loaded);
		}
		return 0;
	}
EOF

# says WHAT TEXT COMMAND...
says() {
	local what=$1 wanted=$2 said
	shift 2
	said=$(timeout 20 "$@" 2>&1) || said="$said (exit $?)"
	[ "$said" = "$wanted" ] || fail "$what says '$said', not '$wanted'"
}

# program NAME FLAGS...: prints how often its callback ran and the roots it has.
program() {
	local name=$1
	shift
	"$cc" -O2 -D_GNU_SOURCE -Ilib -I"$work" "$work/main.c" "$work/use.c" -o "$work/$name" "$@" -pthread || fail "$name does not link"
	says "$name" '1 1' "$work/$name"
	strip "$work/$name" && says "$name, stripped" '1 1' "$work/$name"
}

program pie -fPIE -pie "$OUT/libbh.a"
program no-pie -fno-pie -no-pie "$OUT/libbh.a"
program static -static -fno-pie -no-pie "$OUT/libbh.a"
program static-pie -static-pie -fPIE "$OUT/libbh.a"
program gc-sections -ffunction-sections -fdata-sections -static -Wl,--gc-sections "$OUT/libbh.a"
program gc-sections-pie -ffunction-sections -fdata-sections -fPIE -pie -Wl,--gc-sections -Wl,-O1 "$OUT/libbh.a"
program shared -L"$OUT" -lbh -Wl,-rpath,"$OUT"

"$cc" -O2 -D_GNU_SOURCE -Ilib "$work/host.c" -o "$work/host" -pthread || fail "the host does not link"
plugin() { # NAME FLAGS...
	local name=$1
	shift
	"$cc" -O2 -fPIC -shared -fvisibility=hidden -Ilib "$work/use.c" -o "$work/$name.so" "$@" -pthread ||
		fail "$name does not link"
	says "$name" '2 0 1' "$work/host" "$work/$name.so"
	strip "$work/$name.so" && says "$name, stripped" '2 0 1' "$work/host" "$work/$name.so"
}
plugin plugin-static "$OUT/libbh.a"
plugin plugin-shared -L"$OUT" -lbh -Wl,-rpath,"$OUT"

# --- names -----------------------------------------------------------------------

# The public functions, as bh.h declares them, and the root.
{ grep -o '\bbh_[a-z_]*(' <(sed -n '/^BH_API/,/;/p' lib/bh.h | tr -d '*') | tr -d '(' | sed 's/$/@@BH_0/'
	echo bhp_flight_root@@BH_PRIVATE; } | sort -u >"$work/wanted"
nm -D --defined-only "$OUT/libbh.so" | awk '$2 != "A" { print $3 }' | sort >"$work/found"
diff -u "$work/wanted" "$work/found" >"$work/diff" || fail "exported names: $(cat "$work/diff")"
LC_ALL=C readelf -d "$OUT/libbh.so" | grep -q 'SONAME.*\[libbh.so.0\]' || fail "the soname is not libbh.so.0"

# Nothing of the museum, and no global name in the archive outside bh_ and bhp_.
for file in libbh.so libbh.a; do
	strings -a "$OUT/$file" | grep -qE 'faults?\.[ch]|bh_fault' && fail "$file was built with faults"
done
strays=$(nm --defined-only --extern-only "$OUT/libbh.a" | awk 'NF == 3 && $3 !~ /^bhp?_/ && $3 != "_.stapsdt.base" { print $3 }')
[ -z "$strays" ] || fail "names outside bh_ and bhp_: $strays"

# --- the header ------------------------------------------------------------------

echo '#include "bh.h"' >"$work/only.c"
"$cc" -std=c11 -pedantic -Wall -Wextra -Werror -Ilib -c "$work/only.c" -o "$work/o" || fail "bh.h is not plain C11"
"$cc" -std=c99 -pedantic -Wall -Wextra -Werror -Ilib -c "$work/only.c" -o "$work/o" || fail "bh.h is not plain C99"
if command -v g++ >/dev/null; then
	printf '#include "bh.h"\nint main() { bh_loop *l = bh_loop_new("c++"); return bh_loop_free(l); }\n' >"$work/only.cc"
	g++ -std=c++11 -pedantic -Wall -Wextra -Werror -Ilib "$work/only.cc" "$OUT/libbh.a" -pthread -o "$work/cxx" ||
		fail "bh.h is not C++"
	says 'C++' '' "$work/cxx"
fi
[ "$failed" -eq 0 ]
