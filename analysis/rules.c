/* SPDX-License-Identifier: MIT */
#include "diagnosis.h"

const struct bht_rule bht_rules[BHT_RULES] = {
#define BHT_RULE(symbol, id, verdict, found, line, decides, remedy, page)                                              \
	[BHT_RULE_##symbol] = { id, BHT_##verdict, found, line, decides, remedy, page },
#include "rules.def.h"
#undef BHT_RULE
};

const char *bht_verdict_name(enum bht_verdict verdict)
{
	static const char *const names[] = {
		[BHT_HEALTHY] = "healthy",         [BHT_LATE] = "late", [BHT_STUCK] = "stuck", [BHT_LOST] = "lost",
		[BHT_UNDECIDABLE] = "undecidable",
	};
	return names[verdict];
}

const char *bht_confidence_name(enum bht_confidence confidence)
{
	static const char *const names[] = {
		[BHT_SUSPECTED] = "suspected",
		[BHT_CONSISTENT] = "consistent",
		[BHT_PROVED] = "proved",
	};
	return names[confidence];
}

int bht_exit_code(enum bht_verdict verdict)
{
	switch (verdict) {
	case BHT_HEALTHY:
		return 0;
	case BHT_UNDECIDABLE:
		return 3;
	default:
		return 1;
	}
}
