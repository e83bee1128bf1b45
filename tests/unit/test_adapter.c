/* SPDX-License-Identifier: MIT */
/* The language of adapter files: every statement, every refusal with its line, and those of this project. */
#include <fcntl.h>
#include <sys/stat.h>
#include <glob.h>

#include "support.h"
#include "adapter.h"

static struct bht_adapter adapter;
static struct bht_refusal refusal;

static int parse(const char *text, size_t len)
{
	memset(&refusal, 0, sizeof(refusal));
	return bht_adapter_parse(&adapter, "own.adapter", text, len, &refusal);
}

/* --- what is accepted ------------------------------------------------------------------ */

static const char good[] =
	"adapter own\n"
	"title\tHome-made loop #1 \n"
	"\n"
	"  # a comment\n"
	"needs own_post own_run # of two kinds\n"
	"needs _ZN3own4stopEv\n"
	"member loop.notifier_fd i32\n"
	"\tat dwarf own_loop.wake.fd | build-id 0123abcd 16 plus=4 | code own_wake load arg1 size=4\n"
	"\tat code own_wake lea arg2 plus=-0x10 | fixed 0x10\n"
	"member loop.notify_me u8\n"
	"\tat fixed 0\n"
	"\tthen code own_new store ret size=1 nth=3 value=arg2\n"
	"\tthen fixed 24 plus=1\n"
	"member loop.bhs ptr\n"
	"\tat code own_post swap arg1 size=8\n"
	"member bh.link u64\n"
	"\tat code own_new store arg3 value=0xffffffffffffffff | code own_new load arg4\n"
	"member bh.flag i16\n"
	"\tat fixed 8\n"
	"bhs chain pending-only\n"
	"flag scheduled 0x1\n"
	"flag deleted !2\n"
	"flag idle 0x8000\n"
	"flag linked 0x10\n"
	"known 0xffff\n"
	"root code own_default load global size=8\n"
	"root code own_default lea global\n"
	"root build-id 0123456789abcdef0123456789abcdef01234567 0x4040\n"
	"protocol notifies=asked coalesces barrier=full\n"
	"event schedule own_post entry bh=arg1 loop=arg2 seen=arg1.bh.flag kind=2\n"
	"event schedule own_post return bh=arg1\n"
	"event execute_begin callback entry bh=arg1\n"
	"event wait_begin own_wait entry loop=arg1 timeout_ms=arg6\n"
	"event bh_new own_new return bh=ret loop=ret.loop.notify_me\n"
	"remark flag-race one\n"
	"more  two \n"
	"remark * of all (a#1)\n";

static void assert_good(void)
{
	if (parse(good, sizeof(good) - 1))
		fail_msg("%s", refusal.why);
}

static void test_head(void **state)
{
	(void)state;
	assert_good();
	assert_string_equal(adapter.name, "own");
	assert_string_equal(adapter.title, "Home-made loop #1");
	assert_string_equal(adapter.source, "own.adapter");
	assert_int_equal(adapter.n_needs, 3);
	assert_string_equal(adapter.needs[1], "own_run");
	assert_string_equal(adapter.needs[2], "_ZN3own4stopEv");
	assert_true(adapter.coalesces && adapter.full_barrier);
	assert_int_equal(adapter.notifies, BHT_WHEN_ASKED);
	assert_int_equal(adapter.n_remarks, 2);
	assert_string_equal(adapter.remark[0].rule, "flag-race");
	assert_string_equal(adapter.remark[0].text, "one two");
	assert_string_equal(adapter.remark[1].text, "of all (a#1)");
}

static void test_ways(void **state)
{
	const struct bht_path *p = &adapter.member[BHT_LOOP_notifier_fd];
	const struct bht_way *way = p->step[0].way;

	(void)state;
	assert_good();
	assert_int_equal(p->line, 7);
	assert_int_equal(p->n, 1);
	assert_int_equal(p->size, 4);
	assert_true(p->is_signed);
	assert_int_equal(p->step[0].n, 5);
	assert_int_equal(way[0].kind, BHT_WAY_DWARF);
	assert_string_equal(way[0].dwarf.type, "own_loop");
	assert_string_equal(way[0].dwarf.member, "wake.fd");
	assert_int_equal(way[0].line, 8);
	assert_int_equal(way[1].kind, BHT_WAY_BUILD_ID);
	assert_string_equal(way[1].build_id.build_id, "0123abcd");
	assert_int_equal(way[1].build_id.offset, 16);
	assert_int_equal(way[1].plus, 4);
	assert_int_equal(way[2].kind, BHT_WAY_CODE);
	assert_string_equal(way[2].code.function, "own_wake");
	assert_int_equal(way[2].code.op, BHT_CODE_LOAD);
	assert_int_equal(way[2].code.size, 4);
	assert_int_equal(way[2].code.nth, 1);
	assert_false(way[2].code.has_value);
	assert_int_equal(way[3].code.op, BHT_CODE_LEA);
	assert_int_equal(way[3].code.base, BHT_BASE_ARG2);
	assert_true(way[3].plus == -16);
	assert_int_equal(way[4].kind, BHT_WAY_FIXED);
	assert_int_equal(way[4].fixed, 16);
	assert_int_equal(way[4].line, 9);
}

static void test_steps(void **state)
{
	const struct bht_path *p = &adapter.member[BHT_LOOP_notify_me];
	const struct bht_code_pattern *code = &p->step[1].way[0].code;

	(void)state;
	assert_good();
	assert_int_equal(p->n, 3);
	assert_int_equal(p->size, 1);
	assert_false(p->is_signed);
	assert_int_equal(code->op, BHT_CODE_STORE);
	assert_int_equal(code->base, BHT_BASE_RET);
	assert_int_equal(code->size, 1);
	assert_int_equal(code->nth, 3);
	assert_true(code->has_value);
	assert_int_equal(code->value_arg, 2);
	assert_int_equal(p->step[2].way[0].plus, 1);
	code = &adapter.member[BHT_BH_link].step[0].way[0].code;
	assert_int_equal(code->base, BHT_BASE_ARG3);
	assert_int_equal(code->value_arg, 0);
	assert_true(code->value == UINT64_MAX);
	assert_int_equal(adapter.member[BHT_LOOP_bhs].step[0].way[0].code.op, BHT_CODE_SWAP);
	assert_int_equal(adapter.member[BHT_LOOP_bhs].size, 8);
	assert_int_equal(adapter.member[BHT_LOOP_poll_fd].n, 0);
}

static void test_lists_and_flags(void **state)
{
	(void)state;
	assert_good();
	assert_int_equal(adapter.list, BHT_LIST_CHAIN);
	assert_true(adapter.lists_pending_only);
	assert_int_equal(adapter.n_flags, 4);
	assert_int_equal(adapter.flag[0].flag, BHP_FLAG_SCHEDULED);
	assert_int_equal(adapter.flag[0].mask, 1);
	assert_false(adapter.flag[0].inverted);
	assert_int_equal(adapter.flag[1].flag, BHP_FLAG_DELETED);
	assert_int_equal(adapter.flag[1].mask, 2);
	assert_true(adapter.flag[1].inverted);
	assert_int_equal(adapter.flag_known, 0xffff);
	assert_int_equal(adapter.n_roots, 3);
	assert_int_equal(adapter.root[0].code.base, BHT_BASE_GLOBAL);
	assert_int_equal(adapter.root[1].code.op, BHT_CODE_LEA);
	assert_int_equal(adapter.root[2].build_id.offset, 0x4040);
}

static void test_events(void **state)
{
	const struct bht_probe *p = adapter.probe;

	(void)state;
	assert_good();
	assert_int_equal(adapter.n_probes, 5);
	assert_int_equal(p[0].event, BHP_ID_schedule);
	assert_string_equal(p[0].function, "own_post");
	assert_int_equal(p[0].line, 30);
	assert_int_equal(p[0].n_args, 4);
	assert_int_equal(p[0].arg[1].arg, 2);
	assert_string_equal(p[0].arg[2].field, "seen");
	assert_true(p[0].arg[2].has_member);
	assert_int_equal(p[0].arg[2].member, BHT_BH_flag);
	assert_true(p[0].arg[3].constant);
	assert_int_equal(p[0].arg[3].value, 2);
	assert_true(p[1].at_return);
	assert_string_equal(p[2].function, "callback");
	assert_string_equal(p[3].arg[1].field, "timeout_ms");
	assert_int_equal(p[3].arg[1].arg, 6);
	assert_int_equal(p[4].arg[0].arg, 0);
	assert_false(p[4].arg[0].constant);
	assert_int_equal(p[4].arg[1].member, BHT_LOOP_notify_me);
}

/* --- what is refused ------------------------------------------------------------------- */

#define HEAD   "adapter a\nneeds f\nprotocol barrier=none notifies=always\nmember loop.notifier_fd i32\nat fixed 0\n"
#define MEMBER HEAD "member bh.flag u8\nat fixed 8\n"
#define S32    "abcdefghijklmnopqrstuvwxyzabcdef"
#define S96    S32 S32 S32
#define S400   S96 S96 S96 S96 S32

static const struct {
	const char *text;
	unsigned line;
	const char *why; /* is in it */
} bad[] = {
	{ "", 0, "there is no statement" },
	{ "# nothing\n", 1, "there is no statement" },
	{ "title x\n", 1, "the first statement is adapter NAME" },
	{ "adapter\n", 1, "the name is missing" },
	{ "adapter A\n", 1, "\"A\" is no name" },
	{ "adapter " S32 "\n", 1, "is no name" },
	{ "adapter a b\n", 1, "\"b\" is too much" },
	{ "adapter a\nadapter a\n", 2, "adapter is there twice" },
	{ "adapter a\ntitle\n", 2, "the text is missing" },
	{ "adapter a\ntitle " S96 "\n", 2, "longer than 95 bytes" },
	{ "adapter a\ntitle x\ntitle y\n", 3, "title is there twice" },
	{ "adapter a\nfrobnicate\n", 2, "\"frobnicate\" is no statement" },
	{ "adapter a\n\n\xff\n", 3, "control characters, or no UTF-8" },
	{ "adapter a\r\n", 1, "control characters" },
	{ "adapter a\ntitle \xe2\x80\xae\n", 2, "control characters" },
	{ "adapter a\ntitle " S400 S400 S400 "\n", 2, "longer than 999 bytes" },
	{ "adapter a\nneeds\n", 2, "a function is missing" },
	{ "adapter a\nneeds f f\n", 2, "f is there twice" },
	{ "adapter a\nneeds 1f\n", 2, "\"1f\" is no name of a function" },
	{ "adapter a\nneeds f(\n", 2, "no name of a function" },
	{ "adapter a\nneeds " S96 "\n", 2, "too long, 95 bytes at most" },
	{ "adapter a\nneeds a b c d e f g h i j k l m n o p q\n", 2, "more than 16 functions" },
	{ "adapter a\nprotocol barrier=none notifies=never\n", 2, "needs is missing" },
	{ "adapter a\nneeds f\n", 2, "protocol is missing" },
	{ "adapter a\nneeds f\nprotocol barrier=none notifies=never\n", 3, "needs the member loop.notifier_fd" },
	{ "adapter a\nprotocol\n", 2, "barrier= and notifies= are both needed" },
	{ "adapter a\nprotocol coalesces barrier=full\n", 2, "are both needed" },
	{ "adapter a\nprotocol barrier=half\n", 2, "\"barrier=half\" is not known" },
	{ "adapter a\nprotocol notifies=often barrier=full\n", 2, "\"often\" is no time to notify (never, effective" },
	{ "adapter a\nprotocol coalesces coalesces\n", 2, "or is there twice" },
	{ HEAD "protocol barrier=none notifies=always\n", 6, "protocol is there twice" },
	/* members and ways */
	{ HEAD "member\n", 6, "the member is missing" },
	{ HEAD "member loop.nothing u8\n", 6, "\"loop.nothing\" is no member (loop.poll_fd, " },
	{ HEAD "member loop.poll_fd\n", 6, "the type is missing" },
	{ HEAD "member loop.poll_fd int\n", 6, "\"int\" is no type (u8, " },
	{ HEAD "member loop.poll_fd i32 0x40\n", 6, "\"0x40\" is too much" },
	{ HEAD "member loop.notifier_fd i32\n", 6, "loop.notifier_fd is there already, in line 4" },
	{ HEAD "member loop.poll_fd i32\nneeds g\n", 6, "loop.poll_fd has no at statement" },
	{ "adapter a\nat fixed 0\n", 2, "no member statement before it" },
	{ "adapter a\nthen fixed 0\n", 2, "no at statement before it" },
	{ HEAD "member loop.poll_fd i32\nthen fixed 0\n", 7, "no at statement before it" },
	{ HEAD "then fixed 0\nat fixed 0\n", 7, "at comes before then" },
	{ HEAD "then fixed 0\nthen fixed 0\nthen fixed 0\nthen fixed 0\n", 9, "more than 4 steps" },
	{ HEAD "at\n", 6, "a way (dwarf, build-id, code, fixed) is missing" },
	{ HEAD "at fixed 1 |\n", 6, "a way (dwarf, build-id, code, fixed) is missing" },
	{ HEAD "at guess 1\n", 6, "\"guess\" is no way (dwarf, build-id, code, fixed)" },
	{ HEAD "at fixed 1 | fixed 1 | fixed 1 | fixed 1 | fixed 1 | fixed 1\n", 6, "more than 6 ways" },
	{ HEAD "at fixed\n", 6, "the offset is missing" },
	{ HEAD "at fixed -1\n", 6, "\"-1\" is no number" },
	{ HEAD "at fixed 0x\n", 6, "is no number" },
	{ HEAD "at fixed 0x1g\n", 6, "\"0x1g\" is no number" },
	{ HEAD "at fixed 0x1000001\n", 6, "out of range, 0x1000000 at most" },
	{ HEAD "at fixed 99999999999999999999999\n", 6, "out of range" },
	{ HEAD "at fixed 1 fixed 2\n", 6, "\"fixed\" is too much" },
	{ HEAD "at fixed 1 size=4\n", 6, "fixed has no option \"size\"" },
	{ HEAD "at fixed 1 plus=0\n", 6, "plus is there once, and not 0" },
	{ HEAD "at fixed 1 plus=1 plus=1\n", 6, "plus is there once" },
	{ HEAD "at fixed 1 plus=--1\n", 6, "is no number" },
	{ HEAD "at dwarf\n", 6, "TYPE.MEMBER is missing" },
	{ HEAD "at dwarf loop\n", 6, "\"loop\" is not TYPE.MEMBER" },
	{ HEAD "at dwarf .fd\n", 6, "\"\" is no name of a type" },
	{ HEAD "at dwarf loop.\n", 6, "\"\" is no name of a member" },
	{ HEAD "at dwarf " S96 ".fd\n", 6, "too long, 63 bytes" },
	{ HEAD "at build-id\n", 6, "the build id is missing" },
	{ HEAD "at build-id 0123abc 1\n", 6, "not 8 to 40 digits" },
	{ HEAD "at build-id 0123ABCD 1\n", 6, "not 8 to 40 digits" },
	{ HEAD "at build-id 0123456789012345678901234567890123456789f 1\n", 6, "not 8 to 40 digits" },
	{ HEAD "at build-id 0123abcd\n", 6, "the offset is missing" },
	{ HEAD "at code\n", 6, "the function is missing" },
	{ HEAD "at code f\n", 6, "what it does is missing" },
	{ HEAD "at code f eats arg1\n", 6, "\"eats\" is no operation (load, store, swap, lea)" },
	{ HEAD "at code f load\n", 6, "the base is missing" },
	{ HEAD "at code f load arg5\n", 6, "\"arg5\" is no base (arg1, " },
	{ HEAD "at code f load global\n", 6, "global is for roots" },
	{ HEAD "at code f load arg1 size=3\n", 6, "1, 2, 4 or 8" },
	{ HEAD "at code f load arg1 size=0\n", 6, "1, 2, 4 or 8" },
	{ HEAD "at code f load arg1 size=16\n", 6, "out of range" },
	{ HEAD "at code f load arg1 size=4 size=4\n", 6, "size is there once" },
	{ HEAD "at code f lea arg1 size=4\n", 6, "not with lea" },
	{ HEAD "at code f load arg1 nth=0\n", 6, "counts from 1" },
	{ HEAD "at code f load arg1 nth=1 nth=2\n", 6, "nth is there once" },
	{ HEAD "at code f load arg1 value=1\n", 6, "only with store" },
	{ HEAD "at code f store arg1 value=1 value=1\n", 6, "value is there once" },
	{ HEAD "at code f store arg1 value=arg0\n", 6, "arguments are arg1 to arg6" },
	{ HEAD "at code f store arg1 value=arg7\n", 6, "out of range" },
	{ HEAD "at code f store arg1 value=x\n", 6, "\"x\" is no number" },
	{ HEAD "at code f load arg1 why=1\n", 6, "code has no option \"why\"" },
	/* lists, flags, roots */
	{ HEAD "bhs\n", 6, "the kind of list is missing" },
	{ HEAD "bhs tree\n", 6, "\"tree\" is no kind of list (none, circular, chain, chains, queues)" },
	{ HEAD "bhs none none\n", 6, "\"none\" is too much" },
	{ HEAD "bhs none\nbhs none\n", 7, "bhs is there twice" },
	{ HEAD "bhs chain\n", 6, "chain needs the member loop.bhs" },
	{ HEAD "bhs circular\nmember loop.bhs ptr\nat fixed 1\n", 8, "circular needs the member bh.link" },
	{ HEAD "bhs queues\nmember loop.bhs ptr\nat fixed 1\nmember bh.link ptr\nat fixed 1\n", 10,
	  "queues needs the member loop.n_queues" },
	{ HEAD "flag scheduled 1\nknown 1\n", 7, "flag needs the member bh.flag" },
	{ MEMBER "flag\n", 8, "the flag is missing" },
	{ MEMBER "flag busy 1\n", 8, "\"busy\" is no flag (scheduled, linked, idle, deleted)" },
	{ MEMBER "flag idle\n", 8, "the mask is missing" },
	{ MEMBER "flag idle 0\n", 8, "a mask of 0 is never set" },
	{ MEMBER "flag idle !\n", 8, "is no number" },
	{ MEMBER "flag idle 1 2\n", 8, "\"2\" is too much" },
	{ MEMBER "flag idle 1\nflag idle 2\n", 9, "idle is there twice" },
	{ MEMBER "flag idle 0x100\nknown 0x100\n", 9, "does not fit the 1 bytes of bh.flag" },
	{ MEMBER "flag idle 1\n", 8, "flag needs known" },
	{ MEMBER "flag idle 1\nknown 2\n", 9, "known leaves out bits of a flag" },
	{ MEMBER "known 1\nknown 1\n", 9, "known is there twice" },
	{ "adapter a\nneeds f\nprotocol coalesces barrier=none notifies=always\nmember loop.notifier_fd i32\nat fixed "
	  "0\n",
	  5, "coalesces needs a flag" },
	{ "adapter a\nneeds f\nprotocol barrier=none notifies=asked\nmember loop.notifier_fd i32\nat fixed 0\n", 5,
	  "notifies=asked needs the member loop.notify_me" },
	{ HEAD "root\n", 6, "a way (dwarf, build-id, code, fixed) is missing" },
	{ HEAD "root fixed 1\n", 6, "a root is \"code FUNCTION OPERATION global\", or a build-id" },
	{ HEAD "root code f load arg1\n", 6, "a root is \"code" },
	{ HEAD "root code f load global | code g load global\n", 6, "a root has one way" },
	{ HEAD "root code f load global\nroot code f load global\nroot code f load global\nroot code f load global\n"
	       "root code f load global\n",
	  10, "more than 4 roots" },
	/* events, remarks */
	{ HEAD "event\n", 6, "the event is missing" },
	{ HEAD "event switch_in f entry\n", 6, "\"switch_in\" is no event that a function can mean" },
	{ HEAD "event notify\n", 6, "the function is missing" },
	{ HEAD "event notify f\n", 6, "entry or return is missing" },
	{ HEAD "event notify f exit\n", 6, "\"exit\" is no place (entry, return)" },
	{ HEAD "event notify f entry loop\n", 6, "\"loop\" is not FIELD=VALUE" },
	{ HEAD "event notify f entry seen=1\n", 6, "notify has no field \"seen\"" },
	{ HEAD "event notify f entry timeout_ms=1\n", 6, "notify has no field \"timeout_ms\"" },
	{ HEAD "event notify f entry " S32 "=1\n", 6, "notify has no field" },
	{ HEAD "event notify f entry loop=arg1 loop=arg1\n", 6, "loop is there twice" },
	{ HEAD "event notify f entry loop=arg7\n", 6, "out of range" },
	{ HEAD "event notify f entry loop=arg0\n", 6, "arguments are arg1 to arg6" },
	{ HEAD "event notify f entry loop=arg\n", 6, "is no number" },
	{ HEAD "event notify f entry loop=ret\n", 6, "\"ret\" is neither argN" },
	{ HEAD "event notify f entry loop=x\n", 6, "\"x\" is neither argN" },
	{ HEAD "event notify f entry loop=arg1.loop\n", 6, "\"loop\" is no member" },
	{ HEAD "event notify f entry loop=arg1.bh.loop\nneeds g\n", 6, "loop needs the member bh.loop" },
	{ HEAD "event notify f entry\nevent notify f entry\n", 7, "the same event is in line 6 already" },
	{ HEAD "remark\n", 6, "the rule is missing" },
	{ HEAD "remark flag-rice x\n", 6, "there is no rule \"flag-rice\"" },
	{ HEAD "remark *\n", 6, "the text is missing" },
	{ HEAD "remark * x\nremark * y\n", 7, "a remark on * is there already" },
	{ HEAD "remark * " S400 "\n", 6, "longer than 399 bytes" },
	{ HEAD "remark * x\nmore " S400 "\n", 7, "longer than 399 bytes" },
	{ HEAD "more x\n", 6, "there is no remark before it" },
};

static void test_refusals(void **state)
{
	char line[32];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int rc = parse(bad[i].text, strlen(bad[i].text));
		snprintf(line, sizeof(line), "own.adapter: line %u: ", bad[i].line);
		if (rc != -EINVAL || strncmp(refusal.why, line, strlen(line)) || !strstr(refusal.why, bad[i].why))
			fail_msg("%zu: expected %d \"%s ... %s\", got %d \"%s\"", i, -EINVAL, line, bad[i].why, rc,
				 refusal.why);
	}
}

static void test_zero_byte(void **state)
{
	static const char text[] = "adapter a\nneeds f\0g\n";

	(void)state;
	assert_int_equal(parse(text, sizeof(text) - 1), -EINVAL);
	assert_string_equal(refusal.why, "own.adapter: line 2: a zero byte: no text");
}

static void test_too_many(void **state)
{
	char text[8192] = HEAD;
	size_t len = strlen(text);

	(void)state;
	for (unsigned i = 0; i < BHT_ADAPTER_EVENTS_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "event notify f%u entry\n", i);
	assert_int_equal(parse(text, len), 0);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "event notify f entry\n");
	assert_int_equal(parse(text, len), -EINVAL);
	assert_string_equal(refusal.why, "own.adapter: line 38: more than 32 events");
	len = (size_t)snprintf(text, sizeof(text),
			       HEAD "event bh_new f entry loop=1 bh=1 callback=1 name=1\n"
				    "event schedule f entry loop=1 bh=1 seen=1 kind=1 took=1 ticket=1\n");
	assert_int_equal(parse(text, len), 0);
}

static void test_long_file(void **state)
{
	char *text = malloc(BHT_ADAPTER_FILE_MAX + 1);

	(void)state;
	memset(text, '\n', BHT_ADAPTER_FILE_MAX + 1);
	memcpy(text, good, sizeof(good) - 1);
	assert_int_equal(parse(text, BHT_ADAPTER_FILE_MAX), 0);
	assert_int_equal(parse(text, BHT_ADAPTER_FILE_MAX + 1), -E2BIG);
	assert_string_equal(refusal.why, "own.adapter: longer than 262144 bytes");
	free(text);
}

/* --- files ------------------------------------------------------------------------------- */

static void test_load(void **state)
{
	char dir[] = "/tmp/adapter.XXXXXX", path[64], fifo[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/own.adapter", dir);
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(bht_adapter_load(&adapter, path, &refusal), -ENOENT);
	assert_non_null(strstr(refusal.why, path));
	assert_int_equal(bht_adapter_load(&adapter, dir, &refusal), -EISDIR);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(bht_adapter_load(&adapter, fifo, &refusal), -EINVAL);
	assert_non_null(strstr(refusal.why, "not a regular file"));

	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, good, sizeof(good) - 1), sizeof(good) - 1);
	assert_int_equal(bht_adapter_load(&adapter, path, &refusal), 0);
	assert_string_equal(adapter.source, path);
	assert_int_equal(write(fd, "x\n", 2), 2);
	assert_int_equal(bht_adapter_load(&adapter, path, &refusal), -EINVAL);
	assert_non_null(strstr(refusal.why, "own.adapter: line 38: \"x\" is no statement"));
	assert_int_equal(ftruncate(fd, BHT_ADAPTER_FILE_MAX + 1), 0);
	assert_int_equal(bht_adapter_load(&adapter, path, &refusal), -E2BIG);
	close(fd);
	unlink(path);
	unlink(fifo);
	rmdir(dir);
}

/* All of probes/adapters/ are in the program, and nothing else. */
static void test_built_in(void **state)
{
	const struct bht_adapter *const *all;
	unsigned n;
	glob_t files;

	(void)state;
	assert_int_equal(glob("probes/adapters/*.adapter", 0, NULL, &files), 0);
	all = bht_adapters(&n);
	assert_int_equal(n, files.gl_pathc);
	for (size_t i = 0; i < files.gl_pathc; i++) {
		unsigned k = 0;
		if (bht_adapter_load(&adapter, files.gl_pathv[i], &refusal))
			fail_msg("%s", refusal.why);
		while (k < n && strcmp(all[k]->name, adapter.name))
			k++;
		assert_true(k < n);
		assert_string_equal(all[k]->source, "built in");
		assert_string_equal(all[k]->title, adapter.title);
		assert_int_equal(all[k]->n_probes, adapter.n_probes);
	}
	globfree(&files);
}

/* Users' come first, the last that was added at the head. */
static void test_add(void **state)
{
	const struct bht_adapter *const *all;
	unsigned ours, n;

	(void)state;
	bht_adapters(&ours);
	assert_good();
	for (unsigned i = 0; i < 16; i++) {
		snprintf(adapter.title, sizeof(adapter.title), "%u", i);
		assert_int_equal(bht_adapter_add(&adapter), 0);
	}
	assert_int_equal(bht_adapter_add(&adapter), -E2BIG);
	all = bht_adapters(&n);
	assert_int_equal(n, ours + 16);
	assert_string_equal(all[0]->title, "15");
	assert_string_equal(all[15]->title, "0");
	assert_string_equal(all[16]->source, "built in");
}

/* --- anything at all ------------------------------------------------------------------------ */

/* Words put in the wrong place, bytes changed, lines cut: never a crash, and always a reason that begins with the name. */
static void test_mutations(void **state)
{
	static const char *const words[] = {
		"arg1", "loop.bhs", "|", "0x", "=", "event", "plus=", "\n", "!", "more x"
	};
	char text[sizeof(good) + 64];
	unsigned seed = 1, refused = 0;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		size_t len = sizeof(good) - 1;
		memcpy(text, good, len);
		for (int k = rand_r(&seed) % 4; k >= 0; k--) {
			const size_t at = (size_t)rand_r(&seed) % len;
			const char *word = words[(unsigned)rand_r(&seed) % (sizeof(words) / sizeof(words[0]))];
			if (!(k & 1))
				text[at] = (char)rand_r(&seed);
			for (size_t i = 0; k & 1 && word[i]; i++)
				text[at + i] = word[i];
		}
		len = round % 5 ? len : (size_t)rand_r(&seed) % len;
		if (!parse(text, len))
			continue;
		refused++;
		assert_int_equal(strncmp(refusal.why, "own.adapter: line ", 18), 0);
	}
	assert_true(refused > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head),      cmocka_unit_test(test_ways),
		cmocka_unit_test(test_steps),     cmocka_unit_test(test_lists_and_flags),
		cmocka_unit_test(test_events),    cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_zero_byte), cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_long_file), cmocka_unit_test(test_load),
		cmocka_unit_test(test_built_in),  cmocka_unit_test(test_add),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
