/* SPDX-License-Identifier: MIT */
/* Prints what is in a recording: time, thread, name and fields of each event, as
 * analysis/ctf/ reads them. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "ctf.h"

static void print_ptr(const void *v)
{
	printf("%" PRIu64, (uint64_t)(uintptr_t)v);
}

static void print_unsigned(uint64_t v)
{
	printf("%" PRIu64, v);
}

static void print_signed(int64_t v)
{
	printf("%" PRId64, v);
}

static void print_text(const char *text)
{
	printf("\"%s\"", text ? text : "");
}

#define PRINT(v)                                                                                                       \
	_Generic((v), const void * : print_ptr, const char * : print_text, int32_t : print_signed,                      \
		 int64_t : print_signed, default : print_unsigned)(v)

/* The text is beside the record. */
#define BHP_F(slot, kind, name_, doc)                                                                                  \
	printf(" %s=", #name_);                                                                                        \
	BHP_SLOT_##slot == BHP_SLOT_TEXT ? print_text(e->text) : PRINT(f.name_);
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	case number: {                                                                                                 \
		const struct bhp_##name f = bhp_decode_##name(&e->r);                                                  \
		printf("%" PRIu64 " %" PRIu32 " " #name, bht_time(e), e->tid);                                         \
		fields;                                                                                                \
		break;                                                                                                 \
	}
#define BHP_MARK BHP_EVENT

static void print_event(const struct bht_event *e)
{
	switch (bht_event_id(e)) {
#include "events.def.h"
	case BHT_ID_LOSS:
		printf("loss %" PRIu64, bht_loss_count(e));
		break;
	}
	putchar('\n');
}

int main(int argc, char **argv)
{
	struct bht_event e[BHT_BATCH];
	struct bht_ctf_about about;
	struct bht_refusal refusal;
	struct bht_source *history;
	int n;

	if (argc != 2)
		return 2;
	if (bht_ctf_open(AT_FDCWD, argv[1], ".", &about, &history, &refusal)) {
		fprintf(stderr, "%s\n", refusal.why);
		return 5;
	}
	while ((n = history->next(history, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n; i++)
			print_event(&e[i]);
	history->close(history);
	return n < 0;
}
