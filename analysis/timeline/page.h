/* SPDX-License-Identifier: MIT */
/* page.h - the files of this directory, as they are in it */
#ifndef BHT_PAGE_H
#define BHT_PAGE_H

extern const char bht_page_html[], bht_page_css[];
extern const char bht_page_data_js[], bht_page_lanes_js[], bht_page_panels_js[], bht_page_page_js[];

#endif
