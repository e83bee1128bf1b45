/* SPDX-License-Identifier: MIT */
/* The adapters of this project, put into the program by the assembler (their names are relative to where
 * make runs), and those of the user before them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "adapter.h"

/* clang-format off */
#define ADAPTERS(X) X(libuv) X(qemu) X(glib) X(libevent)

#define EMBED(name) \
	__asm__(".pushsection .rodata\n" \
		".globl bht_adapter_" #name ", bht_adapter_" #name "_end\n" \
		"bht_adapter_" #name ":\n" \
		".incbin \"probes/adapters/" #name ".adapter\"\n" \
		"bht_adapter_" #name "_end:\n" \
		".popsection\n"); \
	extern const char bht_adapter_##name[], bht_adapter_##name##_end[];
ADAPTERS(EMBED)
/* clang-format on */

#define COUNT(name) +1
enum { USERS_MAX = 16, OURS = 0 ADAPTERS(COUNT) };

static struct bht_adapter ours[OURS];
static unsigned n_ours;
/* The first added is the last before ours: the list grows downwards. */
static const struct bht_adapter *all[USERS_MAX + OURS];
static unsigned n_users;

static void parse_ours(void)
{
	struct bht_adapter *a = ours;

	/* A unit test sees that they parse; one that does not is no adapter. */
#define PARSE(name)                                                                                                    \
	if (!bht_adapter_parse(a, "built in", bht_adapter_##name,                                                      \
			       (size_t)(bht_adapter_##name##_end - bht_adapter_##name), NULL))                         \
		all[USERS_MAX + n_ours++] = a++;
	ADAPTERS(PARSE)
}

const struct bht_adapter *const *bht_adapters(unsigned *n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, parse_ours);
	*n = n_users + n_ours;
	return all + USERS_MAX - n_users;
}

int bht_adapter_add(const struct bht_adapter *a)
{
	struct bht_adapter *copy;

	if (n_users == USERS_MAX)
		return -E2BIG;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *a;
	all[USERS_MAX - ++n_users] = copy;
	return 0;
}
