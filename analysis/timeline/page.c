/* SPDX-License-Identifier: MIT */
/* The page's files, put into the program as strings by the assembler; their names are
 * relative to where make runs. */
#include "timeline/page.h"

/* clang-format off */
#define EMBED(symbol, file) \
	__asm__(".pushsection .rodata\n" \
		".global " #symbol "\n" \
		#symbol ":\n" \
		".incbin \"analysis/timeline/" file "\"\n" \
		".byte 0\n" \
		".popsection\n")
/* clang-format on */

EMBED(bht_page_html, "page.html");
EMBED(bht_page_css, "page.css");
EMBED(bht_page_data_js, "data.js");
EMBED(bht_page_lanes_js, "lanes.js");
EMBED(bht_page_panels_js, "panels.js");
EMBED(bht_page_page_js, "page.js");
