/* SPDX-License-Identifier: MIT */
#include "babeltrace_graph.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "refuse.h"

/* A directory with a file "metadata", or a live session. Those of one group are
 * parts of one logical trace. */
struct trace {
	char *path;
	char *group; /* NULL: alone */
	bool live, used;
	const bt_component_source *source; /* of the group; the others have none */
};

struct bht_graph {
	const bt_plugin *ctf, *utils;
	bt_graph *graph;
	const bt_component_filter *muxer; /* for live sessions, which get streams all the time; or NULL */
	struct bht_sink sink;
	struct trace trace[BHT_GRAPH_TRACES_MAX];
	unsigned n;
	unsigned n_streams;
	bool live;
};

bool bht_graph_is_live(const char *trace)
{
	return !strncmp(trace, "net://", 6) || !strncmp(trace, "net4://", 7);
}

/* --- errors ------------------------------------------------------------------------ */

/* The first cause is the deepest, and says what is wrong. */
static int refuse(struct bht_refusal *refusal, int status, const char *what)
{
	const bt_error *error = bt_current_thread_take_error();
	const char *why = "for no stated reason";
	int rc = bht_graph_is_live(what) ? -EIO : -EBADMSG;

	if (status == BT_GRAPH_ADD_COMPONENT_STATUS_MEMORY_ERROR)
		rc = -ENOMEM;
	if (error && bt_error_get_cause_count(error) > 0)
		why = bt_error_cause_get_message(bt_error_borrow_cause_by_index(error, 0));
	bht_refuse(refusal, rc, 0, "%s: babeltrace2 cannot read it: %s", what, why);
	if (error)
		bt_error_release(error);
	return rc;
}

/* --- finding traces ------------------------------------------------------------------ */

static int add(struct bht_graph *g, const char *path, size_t length, bool live, struct bht_refusal *refusal)
{
	if (g->n == BHT_GRAPH_TRACES_MAX)
		return bht_refuse(refusal, -E2BIG, 0, "%s: more than %u traces", path, BHT_GRAPH_TRACES_MAX);
	char *copy = strndup(path, length);
	if (!copy)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
	g->trace[g->n++] = (struct trace){ .path = copy, .live = live };
	return 0;
}

/* A link to a directory is passed over. The plugin would follow one to a file. */
static int look_at(struct bht_graph *g, const FTSENT *e, struct bht_refusal *refusal)
{
	struct stat st;
	int rc;

	switch (e->fts_info) {
	case FTS_F:
		if (strcmp(e->fts_name, "metadata") != 0 || e->fts_level == 0)
			return bht_check_index(e->fts_path, refusal);
		rc = bht_check_metadata(e->fts_path, refusal);
		if (rc)
			return rc;
		return add(g, e->fts_path, e->fts_pathlen - sizeof("metadata"), false, refusal);
	case FTS_SL:
	case FTS_SLNONE:
		if (stat(e->fts_accpath, &st) == 0 && S_ISDIR(st.st_mode))
			return 0;
		return bht_refuse(refusal, -ELOOP, 0, "%s: a symbolic link, which is not followed", e->fts_path);
	case FTS_ERR:
	case FTS_DNR:
	case FTS_NS:
		return bht_refuse(refusal, -e->fts_errno, 0, "%s: %s", e->fts_path, strerror(e->fts_errno));
	default:
		return 0;
	}
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int find_traces(struct bht_graph *g, const char *path, struct bht_refusal *refusal)
{
	char *const paths[] = { (char *)path, NULL };
	const unsigned before = g->n;
	FTSENT *e;
	int rc = 0;

	if (bht_graph_is_live(path)) {
		g->live = true;
		return add(g, path, strlen(path), true, refusal);
	}
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
	if (!fts)
		return bht_refuse(refusal, -errno, 0, "%s: %s", path, strerror(errno));
	while (rc == 0 && (errno = 0, e = fts_read(fts)))
		rc = look_at(g, e, refusal);
	if (rc == 0 && errno)
		rc = bht_refuse(refusal, -errno, 0, "%s: %s", path, strerror(errno));
	fts_close(fts);
	if (rc == 0 && g->n == before)
		rc = bht_refuse(refusal, -ENOENT, 0, "%s: no trace there: no directory with a file \"metadata\"", path);
	return rc;
}

/* --- the graph ------------------------------------------------------------------------ */

static int find_plugin(const char *name, const bt_plugin **plugin, struct bht_refusal *refusal)
{
	if (bt_plugin_find(name, BT_FALSE, BT_FALSE, BT_TRUE, BT_TRUE, BT_FALSE, plugin) == BT_PLUGIN_FIND_STATUS_OK)
		return 0;
	bt_current_thread_clear_error();
	return bht_refuse(refusal, -ENOENT, 0,
			  "plugin \"%s\" of libbabeltrace2 is missing: install libbabeltrace2-0 (with babeltrace2)",
			  name);
}

/* A map with INPUT; NULL without memory. */
static bt_value *params_of(const char *key, const char *value)
{
	bt_value *params = bt_value_map_create();

	if (params && bt_value_map_insert_string_entry(params, key, value) != BT_VALUE_MAP_INSERT_ENTRY_STATUS_OK)
		BT_VALUE_PUT_REF_AND_RESET(params);
	return params;
}

/* Asks the source which group the trace belongs to, as the babeltrace2 command does:
 * chunks of a rotated session do. A trace that it does not know is refused when it
 * is opened. */
static void find_group(struct trace *t, const bt_component_class_source *class)
{
	bt_value *params = params_of("input", t->path);
	const bt_value *result = NULL, *group = NULL;
	bt_query_executor *query = NULL;

	if (params &&
	    bt_value_map_insert_string_entry(params, "type", "directory") == BT_VALUE_MAP_INSERT_ENTRY_STATUS_OK)
		query = bt_query_executor_create(bt_component_class_source_as_component_class_const(class),
						 "babeltrace.support-info", params);
	if (query && bt_query_executor_query(query, &result) == BT_QUERY_EXECUTOR_QUERY_STATUS_OK &&
	    bt_value_is_map(result))
		group = bt_value_map_borrow_entry_value_const(result, "group");
	if (group && bt_value_is_string(group))
		t->group = strdup(bt_value_string_get(group));
	bt_current_thread_clear_error();
	bt_value_put_ref(result);
	bt_query_executor_put_ref(query);
	bt_value_put_ref(params);
}

/* The parameters of the source for trace I and the rest of its group. */
static bt_value *source_params(struct bht_graph *g, unsigned first)
{
	bt_value *params = g->trace[first].live ? params_of("session-not-found-action", "end") : bt_value_map_create();
	bt_value *inputs = NULL;
	bool ok = params && bt_value_map_insert_empty_array_entry(params, "inputs", &inputs) ==
				    BT_VALUE_MAP_INSERT_ENTRY_STATUS_OK;

	for (unsigned i = first; ok && i < g->n; i++) {
		struct trace *t = &g->trace[i];
		if (i > first && (!t->group || !g->trace[first].group || strcmp(t->group, g->trace[first].group) != 0))
			continue;
		t->used = true;
		ok = bt_value_array_append_string_element(inputs, t->path) == BT_VALUE_ARRAY_APPEND_ELEMENT_STATUS_OK;
	}
	if (!ok)
		BT_VALUE_PUT_REF_AND_RESET(params);
	return params;
}

static int add_source(struct bht_graph *g, unsigned i, const bt_component_class_source *class,
		      struct bht_refusal *refusal)
{
	bt_value *params = source_params(g, i);
	struct trace *t = &g->trace[i];
	char name[32];

	if (!params)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", t->path);
	snprintf(name, sizeof(name), "trace %u", i);
	int status = bt_graph_add_source_component(g->graph, class, name, params, BT_LOGGING_LEVEL_NONE, &t->source);
	bt_value_put_ref(params);
	if (status)
		return refuse(refusal, status, t->path);
	g->n_streams += (unsigned)bt_component_source_get_output_port_count(t->source);
	return 0;
}

static int add_sources(struct bht_graph *g, struct bht_refusal *refusal)
{
	const bt_component_class_source *fs = bt_plugin_borrow_source_component_class_by_name_const(g->ctf, "fs"),
					*live = bt_plugin_borrow_source_component_class_by_name_const(g->ctf,
												      "lttng-live");
	int rc = 0;

	if (!fs || !live)
		return bht_refuse(refusal, -ENOENT, 0, "plugin \"ctf\" of libbabeltrace2 reads no %s",
				  fs ? "live sessions" : "directories");
	for (unsigned i = 0; i < g->n; i++)
		if (!g->trace[i].live)
			find_group(&g->trace[i], fs);
	for (unsigned i = 0; rc == 0 && i < g->n; i++)
		if (!g->trace[i].used)
			rc = add_source(g, i, g->trace[i].live ? live : fs, refusal);
	return rc;
}

/* The muxer has one free input port at any time, the last. */
static const bt_port_input *input(const struct bht_graph *g, const bt_component_sink *sink, unsigned i)
{
	if (!g->muxer)
		return bt_component_sink_borrow_input_port_by_index_const(sink, i);
	return bt_component_filter_borrow_input_port_by_index_const(
		g->muxer, bt_component_filter_get_input_port_count(g->muxer) - 1);
}

static int connect(struct bht_graph *g, const bt_component_sink *sink)
{
	unsigned n = 0;
	int status = 0;

	for (unsigned i = 0; i < g->n; i++) {
		const bt_component_source *source = g->trace[i].source;
		const uint64_t ports = source ? bt_component_source_get_output_port_count(source) : 0;
		for (uint64_t port = 0; status == 0 && port < ports; port++)
			status = bt_graph_connect_ports(
				g->graph, bt_component_source_borrow_output_port_by_index_const(source, port),
				input(g, sink, n++), NULL);
	}
	if (status || !g->muxer)
		return status;
	return bt_graph_connect_ports(g->graph, bt_component_filter_borrow_output_port_by_index_const(g->muxer, 0),
				      bt_component_sink_borrow_input_port_by_index_const(sink, 0), NULL);
}

static int add_muxer(struct bht_graph *g)
{
	const bt_component_class_filter *muxer =
		bt_plugin_borrow_filter_component_class_by_name_const(g->utils, "muxer");

	if (!muxer)
		return BT_GRAPH_ADD_COMPONENT_STATUS_ERROR;
	return bt_graph_add_filter_component(g->graph, muxer, "muxer", NULL, BT_LOGGING_LEVEL_NONE, &g->muxer);
}

static int build(struct bht_graph *g, struct bht_refusal *refusal)
{
	const bt_component_sink *sink;
	int rc = find_plugin("ctf", &g->ctf, refusal), status = 0;

	if (rc == 0 && g->live)
		rc = find_plugin("utils", &g->utils, refusal);
	if (rc)
		return rc;
	g->graph = bt_graph_create(0);
	if (!g->graph)
		return bht_refuse(refusal, -ENOMEM, 0, "libbabeltrace2: no memory");
	rc = add_sources(g, refusal);
	if (rc || !g->n_streams)
		return rc;
	if (g->live)
		status = add_muxer(g);
	if (status == 0)
		status = bht_sink_add(g->graph, &g->sink, g->live ? 1 : g->n_streams, &sink);
	if (status == 0)
		status = connect(g, sink);
	return status ? refuse(refusal, status, "libbabeltrace2") : 0;
}

int bht_graph_open(const char *const *traces, unsigned n, bht_graph_put put, void *arg, struct bht_graph **graph,
		   struct bht_refusal *refusal)
{
	struct bht_graph *g = calloc(1, sizeof(*g));
	int rc = 0;

	if (!g)
		return bht_refuse(refusal, -ENOMEM, 0, "no memory");
	g->sink = (struct bht_sink){ .put = put, .arg = arg };
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = find_traces(g, traces[i], refusal);
	if (rc == 0)
		rc = build(g, refusal);
	if (rc)
		bht_graph_close(g);
	else
		*graph = g;
	return rc;
}

int bht_graph_run(struct bht_graph *g, struct bht_refusal *refusal)
{
	/* Without streams there is no sink. */
	bt_graph_run_once_status status = g->n_streams ? bt_graph_run_once(g->graph) : BT_GRAPH_RUN_ONCE_STATUS_END;

	switch (status) {
	case BT_GRAPH_RUN_ONCE_STATUS_OK:
		return 1;
	case BT_GRAPH_RUN_ONCE_STATUS_END:
		return 0;
	case BT_GRAPH_RUN_ONCE_STATUS_AGAIN:
		return -EAGAIN;
	default:
		if (!g->sink.error)
			return refuse(refusal, status, g->n == 1 ? g->trace[0].path : "one of the traces");
		bt_current_thread_clear_error();
		return g->sink.error;
	}
}

void bht_graph_close(struct bht_graph *g)
{
	bt_graph_put_ref(g->graph);
	bt_plugin_put_ref(g->utils);
	bt_plugin_put_ref(g->ctf);
	for (unsigned i = 0; i < g->n; i++) {
		free(g->trace[i].path);
		free(g->trace[i].group);
	}
	free(g);
}
