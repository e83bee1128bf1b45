/* SPDX-License-Identifier: MIT */
/* BH_LTTNG: finding the LTTng-UST provider, which is a library of its own. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lttng.h"
#include "recorder.h"

/* With an old C library these come only when the program has them anyway. */
#pragma weak dlsym
#pragma weak dlerror

const struct bhp_lttng *bhp_lttng;

int bhp_lttng_parse(const char *value, const char **library)
{
	*library = NULL;
	if (!value || !*value || strcmp(value, "0") == 0)
		return 0;
	if (strcmp(value, "1") == 0)
		*library = BHP_LTTNG_LIBRARY;
	else if (*value == '/')
		*library = value;
	else
		return -EINVAL;
	return 0;
}

typedef void *open_fn(const char *library, int flags);

/* NULL, or what LIBRARY exports; its code is never unloaded. */
static const struct bhp_lttng *load(open_fn *open, const char *library)
{
	void *handle = open(library, RTLD_NOW | RTLD_LOCAL);
	const struct bhp_lttng *provider = handle ? dlsym(handle, BHP_LTTNG_SYMBOL) : NULL;

	if (!provider)
		fprintf(stderr, "libbh: BH_LTTNG: %s\n", dlerror());
	return provider;
}

void bhp_lttng_find(void)
{
	/* Not getenv(): a set-user-ID program must not load what its caller says. */
	const char *value = secure_getenv("BH_LTTNG"), *library;

	/* A static program finds no names, which is right: what it loaded would bring a
	 * second C library. And its linker does not warn of a dlopen it does not see. */
	open_fn *open = dlsym && dlerror ? (open_fn *)dlsym(RTLD_DEFAULT, "dlopen") : NULL;
	if (!open)
		return;
	if (bhp_lttng_parse(value, &library) != 0)
		bhp_complain("BH_LTTNG", value, "expected 1, 0 or the absolute path of the provider");
	const struct bhp_lttng *provider = dlsym(RTLD_DEFAULT, BHP_LTTNG_SYMBOL);
	if (!provider)
		dlerror(); /* not the program's error */
	if (!provider && library)
		provider = load(open, library);
	if (!provider)
		return;
	if (provider->abi == BHP_ABI && provider->events >= BHP_LTTNG_EVENTS)
		bhp_lttng = provider;
	else
		fprintf(stderr, "libbh: BH_LTTNG: the provider is of another version\n");
}

void bhp_lttng_in_child(void)
{
	/* LTTng would record the child's events as its parent's. */
	if (bhp_lttng && !bhp_lttng->follows_fork)
		bhp_lttng = NULL;
}
