/* store: upkeep. Reading works at any time; prune and compact need to be the only writer. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "query/render.h"
#include "query/timespec.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"

const struct option_row store_options[] = {
    {456, "older-than", "TIME", "prune: what began before this (default: retention_time ago)"},
    {457, "dry-run", NULL, "prune: only say how many"},
    {0, NULL, NULL, NULL},
};

static int64_t older_than_us;
static bool dry_run;

bool store_set(struct query *query, int id, const char *value, struct errinfo *err)
{
	(void)query;
	if (id == store_options[0].id)
		return timespec_parse(value, clock_now_us(), &older_than_us, err) == STATUS_OK;
	dry_run = true;
	return true;
}

static void row(const struct query *query, const char *name, const char *text)
{
	printf("%s%-15s%s %s\n", text_color(query, COLOR_QUIET), name, text_color(query, COLOR_NONE), text);
}

static void row_count(const struct query *query, const char *name, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	row(query, name, text);
}

static void row_size(const struct query *query, const char *name, uint64_t bytes)
{
	struct strbuf text = STRBUF_INIT;

	text_size(&text, bytes);
	row(query, name, text.buf);
	strbuf_fini(&text);
}

static void row_time(const struct query *query, const char *name, int64_t at_us)
{
	struct strbuf text = STRBUF_INIT;

	if (at_us)
		text_time(&text, at_us);
	row(query, name, at_us ? text.buf : "-");
	strbuf_fini(&text);
}

struct gap_run {
	struct query *query;
	struct json_object *array; /* NULL: text */
	struct strbuf lines;       /* printed once the read transaction has ended */
};

static bool tell_gap(void *arg, const Posttrace__Gap *gap)
{
	struct gap_run *run = arg;
	struct strbuf *text = &run->lines;

	if (run->array) {
		struct json_object *object = json_object_new_object();

		json_add_time(object, "from", (int64_t)gap->from_us);
		json_add_time(object, "until", (int64_t)gap->until_us);
		json_object_object_add(object, "source", json_object_new_string(source_name(gap->source)));
		json_object_object_add(object, "lost", json_object_new_int64((int64_t)gap->lost));
		json_add_bytes(object, "reason", span_from(gap->reason));
		json_object_array_add(run->array, object);
		return true;
	}
	strbuf_addf(text, "%s%-15s%s %" PRIu64 " events of %s lost ", text_color(run->query, COLOR_QUIET), "gap",
	    text_color(run->query, COLOR_NONE), gap->lost, source_name(gap->source));
	text_time(text, (int64_t)gap->from_us);
	strbuf_adds(text, " to ");
	text_time(text, (int64_t)gap->until_us);
	strbuf_adds(text, ": ");
	text_escape(text, span_from(gap->reason));
	strbuf_addch(text, '\n');
	return true;
}

static void each_gap(struct query *query, struct json_object *array)
{
	struct gap_run run = {query, array, STRBUF_INIT};
	struct errinfo err = {""};
	enum status status = store_read_begin(query->store, &err);

	if (status == STATUS_OK) {
		status = store_each_gap(query->store, 0, 0, tell_gap, &run, &err);
		store_read_end(query->store);
	}
	if (status != STATUS_OK && status != STATUS_ABSENT)
		query_fatal_err(&err);
	fputs(run.lines.buf, stdout);
	strbuf_fini(&run.lines);
}

static void add_count(struct json_object *object, const char *name, uint64_t n)
{
	json_object_object_add(object, name, json_object_new_int64((int64_t)n));
}

static int store_do_stat(struct query *query)
{
	struct store_stat stat = {0};
	struct errinfo err = {""};

	if (store_stat(query->store, &stat, &err) != STATUS_OK)
		query_fatal_err(&err);
	if (query->json) {
		struct json_object *object = json_object_new_object(), *gaps = json_object_new_array();

		json_add_bytes(object, "directory", span_of(query->config.store_directory));
		add_count(object, "schema", stat.schema);
		add_count(object, "transactions", stat.transactions);
		add_count(object, "open_sessions", stat.open_sessions);
		add_count(object, "configurations", stat.configurations);
		if (stat.oldest_us)
			json_add_time(object, "oldest", stat.oldest_us);
		else
			json_object_object_add(object, "oldest", NULL);
		if (stat.newest_us)
			json_add_time(object, "newest", stat.newest_us);
		else
			json_object_object_add(object, "newest", NULL);
		add_count(object, "used_bytes", stat.used_bytes);
		add_count(object, "file_bytes", stat.file_bytes);
		add_count(object, "map_bytes", stat.map_bytes);
		add_count(object, "readers", stat.readers);
		each_gap(query, gaps);
		json_object_object_add(object, "gaps", gaps);
		json_print_line(object);
		return EXIT_FOUND;
	}
	row(query, "directory", query->config.store_directory);
	row_count(query, "schema", stat.schema);
	row_count(query, "transactions", stat.transactions);
	row_count(query, "open sessions", stat.open_sessions);
	row_count(query, "configurations", stat.configurations);
	row_time(query, "oldest", stat.oldest_us);
	row_time(query, "newest", stat.newest_us);
	row_size(query, "used", stat.used_bytes);
	row_size(query, "file", stat.file_bytes);
	row_size(query, "limit", stat.map_bytes);
	row_count(query, "readers", stat.readers);
	each_gap(query, NULL);
	return EXIT_FOUND;
}

static void tell_fault(void *arg, const char *sentence)
{
	struct strbuf text = STRBUF_INIT;

	(void)arg;
	text_escape(&text, span_of(sentence));
	puts(text.buf);
	strbuf_fini(&text);
}

static void tell_progress(void *arg, uint64_t done, uint64_t total)
{
	static int64_t last_us;
	int64_t now_us = clock_mono_us();

	(void)arg;
	if (!isatty(STDERR_FILENO) || (now_us - last_us < 250000 && done < total))
		return;
	last_us = now_us;
	fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 "%s", done, total, done >= total ? "\n" : "");
}

static int store_do_verify(struct query *query)
{
	struct store_verify_result result = {0};
	struct errinfo err = {""};

	if (store_verify(query->store, tell_fault, tell_progress, NULL, &result, &err) != STATUS_OK)
		query_fatal_err(&err);
	if (query->json) {
		struct json_object *object = json_object_new_object();

		add_count(object, "transactions", result.transactions);
		add_count(object, "index_entries", result.index_entries);
		add_count(object, "faults", result.faults);
		json_print_line(object);
	} else {
		printf("%" PRIu64 " transactions, %" PRIu64 " index entries, %" PRIu64 " faults\n", result.transactions,
		    result.index_entries, result.faults);
	}
	return result.faults ? EXIT_TROUBLE : EXIT_FOUND;
}

/* The store as its only writer. */
static struct store *open_writing(struct query *query)
{
	struct store_settings settings = {query->config.store_directory, query->config.store_size};
	struct store *store = NULL;
	struct errinfo err = {""};
	enum status status;

	store_close(query->store);
	query->store = NULL;
	status = store_open(&settings, STORE_WRITE, &store, &err);
	if (status == STATUS_BUSY)
		query_fatal(EXIT_TROUBLE,
		    "posttrace-recorder runs and is the store's only writer. It prunes by itself (retention_time, store_size); "
		    "to do this by hand, stop it first (mail flows on and the journals wait), then start it again");
	if (status != STATUS_OK)
		query_fatal_err(&err);
	return store;
}

static bool count_one(void *arg, const Transaction *tx)
{
	(void)arg, (void)tx;
	return true;
}

static int store_do_prune(struct query *query)
{
	int64_t before_us = older_than_us ? older_than_us : clock_now_us() - query->config.retention_time_us;
	struct errinfo err = {""};
	struct store *store;
	uint64_t total = 0;
	size_t n;

	if (dry_run) {
		struct filter filter = {.until_us = before_us};

		if (filter_each(&filter, query->store, count_one, NULL, &total, NULL, &err) != STATUS_OK)
			query_fatal_err(&err);
		printf("%" PRIu64 " transactions would go\n", total);
		return EXIT_FOUND;
	}
	store = open_writing(query);
	do {
		if (store_begin(store, &err) != STATUS_OK)
			query_fatal_err(&err);
		if (store_prune(store, before_us, query->config.store_size, 500, &n, &err) != STATUS_OK ||
		    store_commit(store, &err) != STATUS_OK)
			query_fatal_err(&err);
		total += n;
	} while (n);
	store_close(store);
	printf("%" PRIu64 " transactions pruned\n", total);
	return EXIT_FOUND;
}

static int store_do_backup(struct query *query, const char *directory, bool compact)
{
	struct store *store = compact ? open_writing(query) : query->store;
	struct errinfo err = {""};

	if (store_copy(store, directory, compact, &err) != STATUS_OK)
		query_fatal_err(&err);
	if (compact)
		store_close(store);
	printf("%s: written\n", directory);
	return EXIT_FOUND;
}

int cmd_store(struct query *query, int argc, char **argv)
{
	const char *what = argc ? argv[0] : "";
	bool takes_directory = !strcmp(what, "compact") || !strcmp(what, "backup");

	if (!argc)
		query_usage(query, "store what: stat, verify, prune, compact or backup?");
	if (takes_directory && argc != 2)
		query_usage(query, "store %s needs a directory for the copy", what);
	if (!takes_directory && argc != 1)
		query_usage(query, "store %s takes no \"%s\"", what, argv[1]);
	if (!strcmp(what, "stat"))
		return store_do_stat(query);
	if (!strcmp(what, "verify"))
		return store_do_verify(query);
	if (!strcmp(what, "prune"))
		return store_do_prune(query);
	if (takes_directory)
		return store_do_backup(query, argv[1], what[0] == 'c');
	query_usage(query, "store knows stat, verify, prune, compact and backup, not \"%s\"", what);
}
