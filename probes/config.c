/* SPDX-License-Identifier: MIT */
/* BH_FLIGHT: what the environment asks of the flight recorder. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recorder.h"

static int parse_size(const char *text, uint64_t *size)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	unsigned shift = *end == 'K' || *end == 'k'   ? 10
			 : *end == 'M' || *end == 'm' ? 20
			 : *end == 'G' || *end == 'g' ? 30
						      : 0;
	if (errno || end[shift != 0] != '\0')
		return -EINVAL;
	if (v > BHP_RING_MAX >> shift || v << shift < (uint64_t)BHP_RING_MIN)
		return -ERANGE;
	/* A power of two: the slot of a record is found with a mask. */
	*size = UINT64_C(1) << (63 - __builtin_clzll(v << shift));
	return 0;
}

static int parse_directory(const char *text, struct bhp_config *config)
{
	const char *comma = strrchr(text, ',');
	size_t len = comma ? (size_t)(comma - text) : strlen(text);

	if (len == 0 || len >= sizeof(config->directory))
		return -ENAMETOOLONG;
	memcpy(config->directory, text, len);
	config->directory[len] = '\0';
	config->mode = BHP_FLIGHT_FILE;
	return comma ? parse_size(comma + 1, &config->size) : 0;
}

int bhp_config_parse(const char *value, struct bhp_config *config, const char **why)
{
	const struct bhp_config defaults = { .mode = BHP_FLIGHT_MEMORY, .size = BHP_RING_DEFAULT };
	int r = 0;

	*config = defaults;
	if (!value || !*value)
		return 0;
	if (strcmp(value, "off") == 0)
		config->mode = BHP_FLIGHT_OFF;
	else if (strncmp(value, "file:", 5) == 0)
		r = parse_directory(value + 5, config);
	else
		r = parse_size(value, &config->size);
	if (r == 0)
		return 0;
	*config = defaults;
	*why = r == -ERANGE         ? "the size must be from 4K to 2G"
	       : r == -ENAMETOOLONG ? "the directory is empty or longer than 511 bytes"
				    : "expected off, SIZE or file:DIR[,SIZE]";
	return -EINVAL;
}

void bhp_complain(const char *variable, const char *value, const char *why)
{
	char shown[64 + 1] = "";

	for (size_t i = 0; i < sizeof(shown) - 1 && value[i]; i++)
		shown[i] = value[i] >= ' ' && value[i] != 0x7f ? value[i] : '?';
	fprintf(stderr, "libbh: %s=%s ignored: %s\n", variable, shown, why);
}

static struct bhp_config the_config;

static void read_environment(void)
{
	const char *why;
	/* Not getenv(): a set-user-ID program must not write files where its
	 * caller says. */
	const char *value = secure_getenv("BH_FLIGHT");

	if (bhp_config_parse(value, &the_config, &why) != 0)
		bhp_complain("BH_FLIGHT", value, why);
}

const struct bhp_config *bhp_config(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_environment);
	return &the_config;
}
