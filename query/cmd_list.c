/* list: a row for each recipient; -j: a transaction a line. */
#include <stdio.h>

#include "query/render.h"

enum { LIST_LIMIT = 50 };

struct list_run {
	struct query *query;
	struct text_table *table;
};

static bool list_one(void *arg, const Transaction *tx)
{
	struct list_run *run = arg;

	if (run->query->json)
		json_print_line(json_transaction(tx, run->query->host));
	else
		text_table_add(run->table, tx);
	return !ferror(stdout);
}

int cmd_list(struct query *query, int argc, char **argv)
{
	struct list_run run = {.query = query};
	struct errinfo err = {""};
	enum status status;
	uint64_t n;
	bool more;

	(void)argc, (void)argv;
	if (!query->json) {
		run.table = text_table_new(query);
		if (!query->filter.has_limit)
			query->filter.limit = LIST_LIMIT;
	}
	status = filter_each(&query->filter, query->store, list_one, &run, &n, &more, &err);
	if (run.table)
		text_table_print(run.table);
	if (status != STATUS_OK)
		query_fatal_err(&err);
	if (more && !query->filter.has_limit)
		fprintf(stderr, "The %s %d; -n 0 lists all.\n", query->filter.reverse ? "oldest" : "newest", LIST_LIMIT);
	return n ? EXIT_FOUND : EXIT_NOTHING;
}
