/* Bare "posttrace": is it healthy, and what came through last. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "query/render.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"

enum { SUMMARY_ROWS = 10 };

static bool recorder_answers(const struct query *query)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/recorder.sock", query->config.store_directory);
	int fd;
	bool answers;

	if (n < 0 || (size_t)n >= sizeof(address.sun_path))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return answers;
}

struct summary_run {
	struct query *query;
	struct text_table *table;
};

static bool summary_one(void *arg, const Transaction *tx)
{
	struct summary_run *run = arg;

	if (run->query->json)
		json_print_line(json_transaction(tx, run->query->host));
	else
		text_table_add(run->table, tx);
	return !ferror(stdout);
}

static bool count_gap(void *arg, const Posttrace__Gap *gap)
{
	*(uint64_t *)arg += gap->lost;
	return true;
}

static void tell_health(struct query *query, const struct store_stat *stat, uint64_t lost_today, bool recorder)
{
	struct strbuf text = STRBUF_INIT;
	bool healthy = recorder && !lost_today;

	if (stat->newest_us) {
		strbuf_addf(&text, "%" PRIu64 " transactions since ", stat->transactions);
		text_time(&text, stat->oldest_us);
		strbuf_adds(&text, ", the last one ");
		text_duration(&text, clock_now_us() - stat->newest_us);
		strbuf_adds(&text, " ago");
	} else {
		strbuf_adds(&text, "no transaction was seen yet");
	}
	printf("%s%s%s: the recorder %s; %s\n", text_color(query, healthy ? COLOR_GOOD : COLOR_UNSURE),
	    healthy ? "healthy" : "look here", text_color(query, COLOR_NONE),
	    recorder ? "runs" : "does not run (mail flows, the journals wait)", text.buf);
	if (lost_today)
		printf("%" PRIu64 " events were lost in the last 24 hours: posttrace store stat\n", lost_today);
	strbuf_fini(&text);
}

int cmd_summary(struct query *query, int argc, char **argv)
{
	struct summary_run run = {.query = query};
	struct store_stat stat = {0};
	struct errinfo err = {""};
	uint64_t n, lost = 0;
	enum status status;

	(void)argc, (void)argv;
	status = query_open_store(query, &err);
	if (status != STATUS_OK)
		query_fatal(EXIT_TROUBLE, "%s (posttrace -h lists the commands)", err.text);
	if (store_stat(query->store, &stat, &err) != STATUS_OK || store_read_begin(query->store, &err) != STATUS_OK)
		query_fatal_err(&err);
	status = store_each_gap(query->store, clock_now_us() - 24 * 3600 * US_PER_SEC, 0, count_gap, &lost, &err);
	store_read_end(query->store);
	if (status != STATUS_OK && status != STATUS_ABSENT)
		query_fatal_err(&err);
	if (!query->json) {
		tell_health(query, &stat, lost, recorder_answers(query));
		if (stat.transactions)
			putchar('\n');
		run.table = text_table_new(query);
	}
	query->filter.limit = SUMMARY_ROWS;
	status = filter_each(&query->filter, query->store, summary_one, &run, &n, NULL, &err);
	if (run.table)
		text_table_print(run.table);
	if (status != STATUS_OK)
		query_fatal_err(&err);
	return n ? EXIT_FOUND : EXIT_NOTHING;
}
