/* SPDX-License-Identifier: MIT */
/* fixture.h - a loop that each test of a program has for itself */
#ifndef TEST_FIXTURE_H
#define TEST_FIXTURE_H

#include "support.h"

static struct bh_loop *loop;

static int setup(void **state)
{
	(void)state;
	loop = bh_loop_new("test");
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return bh_loop_free(loop);
}

static inline int turn(void)
{
	return bh_loop_poll(loop, false);
}

#endif
