/* SPDX-License-Identifier: MIT */
/*
 * collect OUT ROWS...: reads the rows of all benchmark programs, one JSON
 * object a line, prints them as tables and writes them as one list to OUT.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const char *text(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s ? s : "";
}

static void read_rows(json_t *rows, const char *path)
{
	FILE *in = fopen(path, "r");
	json_error_t error;
	json_t *row;

	if (!in)
		bench_die("%s: cannot open", path);
	while ((row = json_loadf(in, JSON_DISABLE_EOF_CHECK, &error)))
		json_array_append_new(rows, row);
	if (!feof(in))
		bench_die("%s:%d: %s", path, error.line, error.text);
	fclose(in);
}

static const char *format(char buffer[16], const json_t *number, const char *suffix)
{
	if (!json_is_number(number))
		return "-";
	double v = json_number_value(number);
	snprintf(buffer, 16, v != 0 && v < 1 ? "%.3f%s" : v < 100 ? "%.2f%s" : "%.0f%s", v, suffix);
	return buffer;
}

static const char *verdict(const json_t *row)
{
	if (!json_is_string(json_object_get(row, "target")))
		return "";
	return json_is_true(json_object_get(row, "ok")) ? "ok" : "MISSED";
}

static void print_list(const json_t *rows, const char *table)
{
	char value[16], peer_value[16], ratio[16];
	const json_t *row;
	size_t i;

	printf("  %-48s %10s %-16s %-22s %10s %8s  %s\n", "", "value", "unit", "beside", "its value", "ratio",
	       "target");
	json_array_foreach(rows, i, row)
	{
		if (strcmp(text(row, "table"), table) != 0 || *text(row, "line"))
			continue;
		printf("  %-48s %10s %-16s %-22s %10s %8s  %-14s %s%s\n", text(row, "name"),
		       format(value, json_object_get(row, "value"), ""), text(row, "unit"), text(row, "peer"),
		       format(peer_value, json_object_get(row, "peer_value"), ""),
		       format(ratio, json_object_get(row, "ratio"), "x"), text(row, "target"), verdict(row),
		       text(row, "note"));
	}
}

/* Ratios, a tracer a line. Rows of one line follow one another. */
static void print_matrix(const json_t *rows, const char *table)
{
	const char *line = "", *first = NULL;
	char ratio[16];
	const json_t *row;
	size_t i;

	printf("  %-48s", "");
	json_array_foreach(rows, i, row)
	{
		if (strcmp(text(row, "table"), table) != 0 || (first && strcmp(first, text(row, "line")) != 0))
			continue;
		first = text(row, "line");
		printf(" %12s", text(row, "column"));
	}
	json_array_foreach(rows, i, row)
	{
		if (strcmp(text(row, "table"), table) != 0)
			continue;
		if (strcmp(line, text(row, "line")) != 0)
			printf("\n  %-48s", text(row, "line"));
		line = text(row, "line");
		printf(" %12s", format(ratio, json_object_get(row, "ratio"), ""));
	}
	putchar('\n');
}

/* Tables come in the order in which they are first named. */
static void print_tables(const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		const char *table = text(row, "table");
		size_t before = 0;

		while (strcmp(text(json_array_get(rows, before), "table"), table) != 0)
			before++;
		if (before < i)
			continue;
		printf("\n%s\n\n", table);
		if (*text(row, "line"))
			print_matrix(rows, table);
		else
			print_list(rows, table);
	}
}

int main(int argc, char **argv)
{
	json_t *rows = json_array();

	if (argc < 3)
		bench_die("usage: collect OUT ROWS...");
	for (int i = 2; i < argc; i++)
		read_rows(rows, argv[i]);
	print_tables(rows);
	if (json_dump_file(rows, argv[1], JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0)
		bench_die("%s: cannot write", argv[1]);
	printf("\nRatio: more is better. %zu rows in %s\n", json_array_size(rows), argv[1]);
	json_decref(rows);
	return 0;
}
