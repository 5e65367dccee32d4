/* export: everything that was kept, a JSON object a line, oldest first (-r: newest first). */
#include <stdio.h>

#include "query/render.h"

static bool export_one(void *arg, const Transaction *tx)
{
	struct query *query = arg;
	struct json_object *object = json_transaction(tx, query->host);

	json_add_details(object, tx, query);
	json_print_line(object);
	return !ferror(stdout);
}

int cmd_export(struct query *query, int argc, char **argv)
{
	struct errinfo err = {""};
	uint64_t n;

	(void)argc, (void)argv;
	/* a copy is read front to back */
	query->filter.reverse = !query->filter.reverse;
	if (filter_each(&query->filter, query->store, export_one, query, &n, NULL, &err) != STATUS_OK)
		query_fatal_err(&err);
	return n ? EXIT_FOUND : EXIT_NOTHING;
}
