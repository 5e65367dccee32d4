/* show: everything about one transaction, or about all that a queue id or Message-ID names. "-" reads ids from
 * standard input. */
#include <stdio.h>
#include <stdlib.h>

#include "query/find.h"
#include "query/render.h"

struct show_run {
	struct query *query;
	uint64_t shown;
};

static bool show_one(void *arg, const Transaction *tx)
{
	struct show_run *run = arg;

	if (run->query->json) {
		struct json_object *object = json_transaction(tx, run->query->host);

		json_add_details(object, tx, run->query);
		json_print_line(object);
	} else {
		if (run->shown)
			putchar('\n');
		text_show(run->query, tx);
	}
	run->shown++;
	return !ferror(stdout);
}

static bool show_word(struct show_run *run, const char *word)
{
	struct errinfo err = {""};
	enum find_as as;
	uint64_t n;

	if (find_each(run->query, word, FIND_TRACE_ID | FIND_QUEUE_ID | FIND_MESSAGE_ID, show_one, run, &as, &n, &err) !=
	    STATUS_OK)
		query_fatal_err(&err);
	if (!n)
		query_warn("nothing has the trace id, queue id or Message-ID \"%s\"", word);
	return n > 0;
}

int cmd_show(struct query *query, int argc, char **argv)
{
	struct show_run run = {.query = query};
	bool all = true;

	if (!argc)
		query_usage(query, "show needs an ID: a trace id, a queue id or a Message-ID");
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "-")) {
			all = show_word(&run, argv[i]) && all;
		} else {
			char *line = NULL;
			size_t size = 0;
			ssize_t len;

			while ((len = getline(&line, &size, stdin)) >= 0) {
				while (len && strchr("\r\n \t", line[len - 1]))
					line[--len] = '\0';
				if (len)
					all = show_word(&run, line) && all;
			}
			free(line);
		}
	}
	return run.shown && all ? EXIT_FOUND : EXIT_NOTHING;
}
