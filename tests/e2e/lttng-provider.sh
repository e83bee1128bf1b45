#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The LTTng-UST provider: what it records is what the flight recorder has of the same
# run, event by event; without a session, a session daemon or the provider itself a
# program runs as ever.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
shopt -s extglob
so=libbh-lttng.so.0
[ -e "$OUT/$so" ] || skip "no $OUT/$so: built without lttng-ust"
for tool in lttng lttng-sessiond babeltrace2; do
	command -v $tool >/dev/null || skip "no $tool"
done

# A session daemon of root is one for the whole machine; that of a user is its own.
user=() home=$work/user lib=$work/lib
mkdir "$home" "$lib"
if [ "$(id -u)" = 0 ]; then
	command -v setpriv >/dev/null || skip "no setpriv"
	user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	chown 65534:65534 "$home"
fi
user+=(env "LTTNG_HOME=$home" "HOME=$home")
cp -L "$OUT/libbh.so.0" "$OUT/$so" "$lib"
ln -s libbh.so.0 "$lib/libbh.so"

# --- a program with every kind of event, and what its rings have of them -------------

cat >"$work/every.c" <<-'EOF'
	#include <dlfcn.h>
	#include <poll.h>
	#include <pthread.h>
	#include <stdio.h>
	#include <sys/eventfd.h>
	#include <unistd.h>
	#include "bh.h"
	enum { THREADS = 3, ROUNDS = 500 };
	static struct bh_loop *loop;
	static struct bh *work, *nested;
	static int left = THREADS, fd;
	static void none(void *arg) { (void)arg; }
	static void consume(void *arg) { bh_consume(work, 7); (void)arg; }
	static void poll_again(void *arg) { bh_schedule(work); bh_loop_poll(arg, false); }
	static void due(void *arg) { (void)arg; eventfd_write(fd, 1); }
	static void ready(int f, unsigned events, void *arg)
	{
		eventfd_t v;
		eventfd_read(f, &v);
		bh_schedule(nested);
		(void)events, (void)arg;
	}
	static void *produce(void *arg)
	{
		for (uint64_t i = 1; i <= ROUNDS; i++) {
			bh_schedule_ticket(work, i);
			if (i % 50 == 0) {
				bh_schedule_oneshot(loop, none, NULL, "once");
				usleep(1000);
			}
		}
		__atomic_fetch_sub(&left, 1, __ATOMIC_RELAXED);
		bh_loop_wake(loop);
		return arg;
	}
	static void scratch(void)
	{
		struct bh_loop *own = bh_loop_new("a loop of its own with too long a name");
		struct bh *bh = bh_new(own, none, NULL, "bh"); /* babeltrace2 2.0.4 shows an empty string as the last one */
		bh_schedule_idle(bh);
		bh_cancel(bh);
		bh_delete(bh);
		bh_loop_poll(own, false);
		bh_loop_free(own);
	}
	int main(int argc, char **argv)
	{
		pthread_t t[THREADS];
		(void)argv;
	#ifdef WITH_DLOPEN
		if (argc > 9)
			dlopen(argv[9], RTLD_NOW);
	#endif
		fd = eventfd(0, EFD_NONBLOCK);
		loop = bh_loop_new("main");
		work = bh_new(loop, consume, NULL, "work");
		nested = bh_new(loop, poll_again, loop, "nested");
		struct bh_fd *watch = bh_fd_new(loop, fd, POLLIN, ready, NULL);
		struct bh_timer *timer = bh_timer_new(loop, due, NULL);
		bh_timer_set(timer, bh_now_ns() + 2000000);
		for (int i = 0; argc == 1 && i < THREADS; i++)
			pthread_create(&t[i], NULL, produce, NULL);
		while (argc == 1 && __atomic_load_n(&left, __ATOMIC_RELAXED))
			bh_loop_poll(loop, true);
		for (int i = 0; argc == 1 && i < THREADS; i++)
			pthread_join(t[i], NULL);
		scratch();
		bh_timer_delete(timer);
		bh_fd_delete(watch);
		bh_loop_free(loop);
		printf("ran as %d\n", (int)geteuid());
		return 0;
	}
EOF
cat >"$work/rings.c" <<-'EOF'
	#include <fcntl.h>
	#include <stdio.h>
	#include <sys/mman.h>
	#include <sys/stat.h>
	#include "flight.h"
	#define SHOW_int(field) printf(" " #field "=%jd", (intmax_t)e.field);
	#define SHOW_uint(field) printf(" " #field "=%ju", (uintmax_t)e.field);
	#define SHOW_ptr(field) printf(" " #field "=%ju", (uintmax_t)(uintptr_t)e.field);
	#define SHOW_str(field) printf(" " #field "=\"%s\"", text);
	#define SHOW_u8 SHOW_uint
	#define SHOW_u16 SHOW_uint
	#define SHOW_u32 SHOW_uint
	#define SHOW_u64 SHOW_uint
	#define SHOW_time SHOW_uint
	#define SHOW_i32 SHOW_int
	#define SHOW_i64 SHOW_int
	static void show(uint32_t tid, const struct bhp_record *r, const char *text)
	{
		(void)text;
		switch (bhp_record_id(r)) {
	#define BHP_F(slot, kind, name, doc) SHOW_##kind(name)
	#define BHP_EVENT(number, name, fields, doc) \
		case (number): { \
			struct bhp_##name e = bhp_decode_##name(r); \
			printf("%u " #name " time=%ju", tid, (uintmax_t)r->word[0]); \
			fields putchar('\n'); \
			break; \
		}
	#include "events.def.h"
		default:
			break;
		}
	}
	static uint64_t get_text(struct bhp_ring *ring, uint64_t i, char *text)
	{
		size_t n = 0;
		for (; i < ring->head; i++) {
			const struct bhp_record *r = bhp_ring_slot(ring, i);
			size_t part = r->word[1] >> 8 & 0xff;
			char bytes[BHP_TEXT_PER_RECORD];
			if ((r->word[1] & 0xff) != BHP_ID_TEXT)
				break;
			memcpy(bytes, &r->word[0], 8);
			memcpy(bytes + 8, &r->word[2], 16);
			memcpy(text + n, bytes, part);
			n += part;
		}
		text[n] = '\0';
		return i;
	}
	int main(int argc, char **argv)
	{
		for (int a = 1; a < argc; a++) {
			struct stat st;
			int fd = open(argv[a], O_RDONLY);
			if (fd < 0 || fstat(fd, &st) != 0)
				return 1;
			struct bhp_ring *ring = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
			uint32_t tid = 0;
			if (ring == MAP_FAILED || ring->head > ring->capacity)
				return 2;
			for (uint64_t i = 0; i < ring->head;) {
				const struct bhp_record *r = bhp_ring_slot(ring, i);
				char text[256];
				i = get_text(ring, i + 1, text);
				if (bhp_record_id(r) == BHP_ID_thread)
					tid = bhp_decode_thread(r).tid;
				show(tid, r, text);
			}
		}
		return 0;
	}
EOF
compile() { "${CC:-gcc}" -std=gnu11 -O2 -g -D_GNU_SOURCE -Ilib -Iprobes "$@"; }
shared=(-L"$lib" -lbh "-Wl,-rpath,$lib" -pthread)
compile "$work/rings.c" -o "$work/rings" || exit 1
compile "$work/every.c" -o "$work/every" "${shared[@]}" || exit 1
compile "$work/every.c" -o "$work/every-archive" "$OUT/libbh.a" -pthread || exit 1
build target "${shared[@]}" || exit 1

# says WHAT PATTERN VARIABLE... COMMAND...: everything it prints.
says() {
	local what=$1 wanted=$2 said
	shift 2
	said=$("${user[@]}" timeout 60 env "$@" 2>&1) || said="$said (exit $?)"
	# shellcheck disable=SC2053 # a pattern
	[[ $said == $wanted ]] || fail "$what: '$said', not '$wanted'"
}
ran='ran as +([0-9])'
line='*([!'$'\n''])'$'\n'

# --- the libraries --------------------------------------------------------------------

LC_ALL=C readelf -d "$lib/$so" | grep -q "SONAME.*\[$so\]" || fail "the soname is not $so"
exported=$(nm -D --defined-only "$lib/$so" | awk '$2 != "A" { print $3 }')
[ "$exported" = bhp_lttng_provider@@BH_PRIVATE ] || fail "exported: $exported"
LC_ALL=C readelf -d "$lib/libbh.so.0" | grep -q 'NEEDED.*lttng' && fail "libbh needs lttng"

# --- without the provider -----------------------------------------------------------------

says "a missing provider" "libbh: BH_LTTNG: /nonexistent/x.so: cannot open $line$ran" \
	BH_LTTNG=/nonexistent/x.so "$work/every" quick
ldconfig -p 2>/dev/null | grep -q "$so" ||
	says "a provider nowhere" "libbh: BH_LTTNG: $so: cannot open $line$ran" BH_LTTNG=1 "$work/every" quick
echo 'struct { unsigned abi, events; } bhp_lttng_provider = { 0, 1000 };' >"$work/old.c"
compile -shared -fPIC "$work/old.c" -o "$lib/old.so" || exit 1
says "another version" "libbh: BH_LTTNG: the provider is of another version"$'\n'"$ran" \
	LD_PRELOAD="$lib/old.so" "$work/every" quick

# Static programs: silent when they are linked, and when they run.
linker=$(compile -static "$work/every.c" -o "$work/static" "$OUT/libbh.a" -pthread 2>&1) || fail "not linked statically"
[ -z "$linker" ] || fail "the linker says: $linker"
says "a static program" "$ran" "BH_LTTNG=$lib/$so" "$work/static"
compile -static -DWITH_DLOPEN "$work/every.c" -o "$work/static" "$OUT/libbh.a" -pthread 2>/dev/null
says "a static program that can load" "$ran" "BH_LTTNG=$lib/$so" "$work/static"

set_user_id() {
	cp "$work/every-archive" "$work/suid"
	chmod 4755 "$work/suid"
	[ "$("${user[@]}" "$work/suid" quick)" = "ran as 0" ] || { echo "no set-user-ID programs here"; return; }
	says "a set-user-ID program" "ran as 0" BH_LTTNG=/nonexistent "$work/suid" quick
}
[ "$(id -u)" != 0 ] || set_user_id

# --- without a session -------------------------------------------------------------------

# Half a second more would be noticeable, also on a busy machine.
cat >"$work/start.py" <<-'EOF'
	import os, statistics, subprocess, sys, time
	def run(extra):
	    begin = time.monotonic()
	    subprocess.run([sys.argv[2], "quick"], env={**os.environ, **extra}, check=True, stdout=subprocess.DEVNULL)
	    return (time.monotonic() - begin) * 1000
	runs = [(run({}), run({"LD_PRELOAD": sys.argv[1]}), run({"BH_LTTNG": sys.argv[1]})) for _ in range(7)]
	ms = [statistics.median(column) for column in zip(*runs)]
	print("start-up, %s: %.1f ms without provider, %.1f preloaded, %.1f by BH_LTTNG" % (sys.argv[3], *ms))
	sys.exit(max(ms) > ms[0] + 500)
EOF
starts() { "${user[@]}" python3 "$work/start.py" "$lib/$so" "$work/every" "$1" || fail "slow to start, $1"; }
starts "no session daemon"

lttng() { "${user[@]}" lttng "$@" >>"$work/lttng.log" 2>&1; }
start "${user[@]}" lttng-sessiond --no-kernel
sessiond=$pid
wait_until 20 lttng list || { cat "$work/lttng.log" "$log"; exit 1; }
starts "no session"
says "no session" "$ran" LD_PRELOAD="$lib/$so" "$work/every"
[ ! -e "$home/lttng-traces" ] || fail "recorded without a session"

# --- with one ---------------------------------------------------------------------------------

session() { # NAME
	{ lttng create "$1" --output="$home/$1" &&
		lttng enable-channel -u --subbuf-size=1M --num-subbuf=8 events &&
		lttng add-context -u -c events -t vpid -t vtid &&
		lttng enable-event -u -c events 'bh:*' && lttng start "$1"; } || { cat "$work/lttng.log"; exit 1; }
}

# One line an event, as rings.c prints it, with its thread or its process.
cat >"$work/lines.py" <<-'EOF'
	import re, sys
	event = re.compile(r" bh:(\w+): .*\{ vpid = (\d+), vtid = (\d+) \}, \{ (.*) \}$")
	def field(text):
	    name, value = text.split(" = ", 1)
	    return name + "=" + (str(int(value, 16)) if value.startswith("0x") else value)
	for line in sys.stdin:
	    found = event.search(line)
	    if not found:
	        sys.exit("not understood: " + line)
	    name, pid, tid, fields = found.groups()
	    print(tid if sys.argv[1] == "vtid" else pid, name, *map(field, re.split(", (?=[a-z_]+ = )", fields)))
EOF
trace() { # NAME vpid|vtid
	babeltrace2 "$home/$1" 2>"$work/error" | python3 "$work/lines.py" "$2" >"$work/trace"
	[ ! -s "$work/error" ] || fail "$1: babeltrace2 says $(cat "$work/error")"
}

# The ring is written first: when a process ends under its threads, each may have one
# event that is only there, its last.
without_unfinished() { # TRACE FLIGHT
	grep -vxFf <(comm -13 <(sort "$1") <(sort "$2") | grep -xFf <(tac "$2" | awk '!seen[$1]++')) "$2"
}

# same NAME KINDS VARIABLE... COMMAND...: both recordings of one run are equal.
same() {
	local name=$1 kinds=$2 rings=$home/rings-$1
	shift 2
	session "$name"
	"${user[@]}" mkdir "$rings"
	"${user[@]}" timeout 60 env BH_FLIGHT="file:$rings,8M" "$@" >"$work/said" 2>&1 || fail "$name: $(cat "$work/said")"
	lttng destroy "$name"
	trace "$name" vtid
	"$work/rings" "$rings"/*.flight >"$work/flight" || fail "$name: no rings to compare with"
	[[ " $* " == *" BH_LTTNG_BEGIN=1 "* ]] || sed -i '/^[0-9]* execute_begin /d' "$work/flight"
	sort -s -n -k1,1 "$work/trace" >"$work/a"
	sort -s -n -k1,1 "$work/flight" >"$work/b"
	[ "$name" != museum ] || { without_unfinished "$work/a" "$work/b" >"$work/c" && mv "$work/c" "$work/b"; }
	cmp -s "$work/a" "$work/b" || { fail "$name: $(diff "$work/a" "$work/b" | head -5)"; return; }
	[ "$(cut -d' ' -f2 "$work/a" | sort -u | wc -l)" -ge "$kinds" ] || fail "$name: less than $kinds kinds of events"
	echo "$name: $(wc -l <"$work/a") events, the same in both"
}
same preloaded 14 LD_PRELOAD="$lib/$so" "$work/every"
same by-name 14 LD_LIBRARY_PATH="$lib" BH_LTTNG=1 "$work/every"
same with-begin 15 BH_LTTNG_BEGIN=1 LD_PRELOAD="$lib/$so" "$work/every"
same archive 14 BH_LTTNG="$lib/$so" "$work/every-archive"
if [ -x "$OUT/museum/notify-missing" ]; then
	cp "$OUT/museum/notify-missing" "$work/piece"
	same museum 8 BH_LTTNG="$lib/$so" "$work/piece" --variant fixed --rounds 3000
fi

# The types: size, sign and base of each field, as the schema has them.
cat >"$work/types.c" <<-'EOF'
	#include <stdio.h>
	#include "record.h"
	#define TYPE_ptr "64 0 16"
	#define TYPE_str "string"
	#define TYPE_u8 "8 0 10"
	#define TYPE_u16 "16 0 10"
	#define TYPE_u32 "32 0 10"
	#define TYPE_i32 "32 1 10"
	#define TYPE_u64 "64 0 10"
	#define TYPE_i64 "64 1 10"
	#define TYPE_time TYPE_u64
	#define BHP_F(slot, kind, name, doc) printf(" " #name ":" TYPE_##kind);
	#define BHP_EVENT(number, name, fields, doc) printf("bh:" #name " time:" TYPE_time); fields putchar('\n');
	int main(void)
	{
	#include "events.def.h"
		return 0;
	}
EOF
cat >"$work/types.py" <<-'EOF'
	import re, sys
	for event in re.findall(r'^\tname = "(bh:.*?^)\};', sys.stdin.read(), re.S | re.M):
	    fields = re.findall(r"(?:size = (\d+);.* signed = (\d);.* base = (\d+); \}|string) _(\w+);", event)
	    print(event.split('"')[0], *(name + ":" + (" ".join(type) if type[0] else "string") for *type, name in fields))
EOF
compile "$work/types.c" -o "$work/types" && "$work/types" | sort >"$work/wanted"
babeltrace2 -o ctf-metadata "$(dirname "$(find "$home/with-begin" -name metadata)")" |
	python3 "$work/types.py" | sort >"$work/found"
diff -u "$work/wanted" "$work/found" >"$work/diff" || fail "types: $(cat "$work/diff")"

# One that comes later, and goes.
start_ready "${user[@]}" env LD_PRELOAD="$lib/$so" "$work/target" brief 120000
session later
events_came() { # since the last look
	lttng stop later
	trace later vtid
	[ -s "$work/trace" ] && return
	lttng start later
	return 1
}
wait_until 20 events_came || fail "a session that came later: no events"
lttng destroy later
kill -0 "$pid" || fail "gone with the session"
stop "$pid"

# --- fork -------------------------------------------------------------------------------------

# forks NAME LIBRARY...: a parent with bottom half "work", a child with "orphan"; sets
# $parent and $child, and traces both.
forks() {
	session "$1"
	start_ready "${user[@]}" env LD_PRELOAD="${*:2}" "$work/target" fork
	parent=$pid child=$(sed -n 's/^ready pid=//p' "$log")
	stop "$parent"
	lttng destroy "$1"
	trace "$1" vpid
	grep -q "^$parent bh_new .*\"work\"" "$work/trace" || fail "fork: no events of the parent"
	grep -q "^$parent .*\"orphan\"" "$work/trace" && fail "fork: events of the child are its parent's"
}
forks alone "$lib/$so"
grep -v "^$parent " "$work/trace" && fail "fork: events of others"
fork=$(ldconfig -p 2>/dev/null | awk '/liblttng-ust-fork\.so\.[0-9]/ { print $1; exit }')
if [ -n "$fork" ]; then
	forks followed "$fork" "$lib/$so"
	grep -q "^$child bh_new .*\"orphan\"" "$work/trace" || fail "fork: no events of the child"
fi

kill "$sessiond" && wait "$sessiond"
[ "$failed" -eq 0 ]
