/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evidence.h"

void bht_sample_free(struct bht_sample *sample)
{
	free(sample->loops);
	free(sample->bhs);
	free(sample->threads);
	*sample = (struct bht_sample){ 0 };
}

const struct bht_loop *bht_sample_loop(const struct bht_sample *sample, uint64_t addr)
{
	for (size_t i = 0; i < sample->n_loops; i++)
		if (sample->loops[i].addr == addr)
			return &sample->loops[i];
	return NULL;
}

const struct bht_thread *bht_sample_thread(const struct bht_sample *sample, uint32_t tid)
{
	for (size_t i = 0; i < sample->n_threads; i++)
		if (sample->threads[i].tid == tid)
			return &sample->threads[i];
	return NULL;
}

const struct bht_bh *bht_sample_bh(const struct bht_sample *sample, uint64_t addr, size_t hint)
{
	for (size_t i = 0; i < sample->n_bhs; i++) {
		const struct bht_bh *bh = &sample->bhs[(hint + i) % sample->n_bhs];
		if (bh->addr == addr)
			return bh;
	}
	return NULL;
}

static bool said(const struct bht_evidence *ev, const char *sentence)
{
	for (unsigned i = 0; i < ev->n_unseen; i++)
		if (!strcmp(ev->unseen[i], sentence))
			return true;
	return false;
}

void bht_unseen(struct bht_evidence *ev, const char *format, ...)
{
	char *sentence;
	va_list args;

	if (ev->n_unseen == BHT_UNSEEN_MAX)
		return;
	va_start(args, format);
	/* The last place says that there was more. */
	int length = ev->n_unseen < BHT_UNSEEN_MAX - 1
			     ? vasprintf(&sentence, format, args)
			     : asprintf(&sentence, "more than %d other things", BHT_UNSEEN_MAX - 1);
	va_end(args);
	if (length < 0)
		return;
	if (said(ev, sentence))
		free(sentence);
	else
		ev->unseen[ev->n_unseen++] = sentence;
}

const char *bht_recorder_name(enum bht_recorder recorder)
{
	static const char *const names[] = {
		[BHT_BY_FLIGHT] = "flight", [BHT_BY_LTTNG] = "lttng", [BHT_BY_BPF] = "bpf"
	};
	return names[recorder];
}

void bht_evidence_free(struct bht_evidence *ev)
{
	bht_sample_free(&ev->first);
	bht_sample_free(&ev->last);
	for (unsigned i = 0; i < ev->n_unseen; i++)
		free(ev->unseen[i]);
	free(ev->begun);
	*ev = (struct bht_evidence){ 0 };
}
