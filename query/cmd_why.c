/* why: one word in, what is known about it out: what happened, how that is known, and how sure it is. */
#include <stdio.h>

#include "query/find.h"
#include "query/render.h"
#include "shared/base/text.h"

enum { WHY_LIMIT = 5 };

struct why_run {
	struct query *query;
	uint64_t told;
};

static void say(const struct query *query, const char *name, struct strbuf *text)
{
	if (text->len)
		printf("  %s%-9s%s %s\n", text_color(query, COLOR_QUIET), name, text_color(query, COLOR_NONE), text->buf);
	strbuf_reset(text);
}

/* Which witness a recipient's verdict rests on, and what that is worth. */
static void add_evidence(struct strbuf *out, const Recipient *r)
{
	bool milter = r->sources >> POSTTRACE__SOURCE__SOURCE_MILTER & 1;
	bool maillog = r->sources >> POSTTRACE__SOURCE__SOURCE_MAILLOG & 1;

	if (milter && maillog)
		strbuf_adds(out, "certain: observed in the session, and the log says the same");
	else if (milter)
		strbuf_adds(out, "certain: Postfix told the milter");
	else if (maillog)
		strbuf_adds(out, "certain: Postfix's log says so");
	else if (r->outcome)
		strbuf_adds(out, "unknown: no witness of the verdict itself is recorded");
	else
		strbuf_adds(out, "unknown: nobody saw the verdict");
}

static void tell_recipient(const struct query *query, const Recipient *r)
{
	const char *outcome = outcome_name(r->outcome);
	struct strbuf text = STRBUF_INIT;

	text_address(&text, span_from(r->address));
	strbuf_addf(&text, ": %s%s%s", text_color(query, text_outcome_color(r->outcome)), outcome ? outcome : "undecided",
	    text_color(query, COLOR_NONE));
	if (r->outcome == POSTTRACE__OUTCOME__REJECTED || r->outcome == POSTTRACE__OUTCOME__DEFERRED) {
		strbuf_adds(&text, ", ");
		text_reply(&text, r->code, span_from(r->dsn), span_from(r->text));
		if (r->stage.len) {
			strbuf_adds(&text, " (at ");
			text_escape(&text, span_from(r->stage));
			strbuf_addch(&text, ')');
		}
	} else if (r->transport.len && r->outcome == POSTTRACE__OUTCOME__ACCEPTED) {
		strbuf_adds(&text, ", next hop ");
		text_escape(&text, span_from(r->transport));
		if (r->next_hop.len) {
			strbuf_addch(&text, ':');
			text_escape(&text, span_from(r->next_hop));
		}
	}
	say(query, "recipient", &text);
	add_evidence(&text, r);
	say(query, "", &text);
	strbuf_fini(&text);
}

static bool why_one(void *arg, const Transaction *tx)
{
	struct why_run *run = arg;
	const struct query *query = run->query;
	struct strbuf text = STRBUF_INIT;
	char id[TRACE_ID_CHARS];

	if (query->json) {
		json_print_line(json_transaction(tx, query->host));
		run->told++;
		return !ferror(stdout);
	}
	if (run->told == WHY_LIMIT && !query->filter.has_limit) {
		run->told++; /* there are more */
		return false;
	}
	trace_id_format(id, tx->id);
	text_time(&text, (int64_t)tx->id);
	printf("%s%s%s%s  %s", run->told ? "\n" : "", text_color(query, COLOR_STRONG), id, text_color(query, COLOR_NONE),
	    text.buf);
	strbuf_reset(&text);
	text_verdict(&text, tx);
	printf("  %s%s%s\n", text_color(query, text_outcome_color(tx->outcome)), text.buf, text_color(query, COLOR_NONE));
	strbuf_reset(&text);
	text_client(&text, tx);
	if (tx->helo.len) {
		strbuf_adds(&text, " helo=");
		text_escape(&text, span_from(tx->helo));
	}
	if (tx->sasl_username.len) {
		strbuf_adds(&text, " login=");
		text_escape(&text, span_from(tx->sasl_username));
	}
	say(query, "client", &text);
	if (tx->has_sender || tx->sender.len)
		text_address(&text, span_from(tx->sender));
	say(query, "from", &text);
	for (size_t i = 0; i < tx->n_recipients; i++)
		if (filter_match_recipient(&query->filter, tx->recipients[i]))
			tell_recipient(query, tx->recipients[i]);
	for (size_t i = 0; i < tx->n_refusals; i++) {
		const Posttrace__Refusal *refusal = tx->refusals[i];

		strbuf_adds(&text, "at ");
		text_escape(&text, refusal->stage.len ? span_from(refusal->stage) : SPAN("an unknown stage"));
		strbuf_adds(&text, ": ");
		text_reply(&text, refusal->code, span_from(refusal->dsn), span_from(refusal->text));
		strbuf_addf(&text, " (certain: %s)", source_name(refusal->source));
		say(query, "refused", &text);
	}
	if (tx->lost_text.len) {
		text_escape(&text, span_from(tx->lost_text));
		say(query, "ended by", &text);
	}
	if (tx->queue_id.len) {
		text_escape(&text, span_from(tx->queue_id));
		say(query, "queue id", &text);
	}
	text_witnesses(&text, tx);
	say(query, "known from", &text);
	strbuf_addf(&text, "posttrace show %s", id);
	say(query, "more", &text);
	strbuf_fini(&text);
	run->told++;
	return !ferror(stdout);
}

/* Absence is an answer too: say what was looked through. */
static void tell_absence(struct query *query, const char *word, enum find_as as)
{
	struct store_stat stat = {0};
	struct strbuf text = STRBUF_INIT, line = STRBUF_INIT;
	struct errinfo err = {""};

	if (store_stat(query->store, &stat, &err) != STATUS_OK)
		query_fatal_err(&err);
	if (stat.oldest_us)
		text_time(&text, stat.oldest_us);
	text_escape(&line, span_of(word));
	fprintf(query->json ? stderr : stdout, "No such session: \"%s\" (last read as %s). ", line.buf, find_word(as));
	if (stat.transactions)
		fprintf(query->json ? stderr : stdout, "The store holds since %s, %llu sessions seen.\n", text.buf,
		    (unsigned long long)stat.transactions);
	else
		fprintf(query->json ? stderr : stdout, "The store is empty: nothing was seen yet.\n");
	if (stat.gaps)
		fprintf(query->json ? stderr : stdout,
		    "Losses were counted %llu times: it may have been among them (posttrace store stat).\n",
		    (unsigned long long)stat.gaps);
	strbuf_fini(&text);
	strbuf_fini(&line);
}

int cmd_why(struct query *query, int argc, char **argv)
{
	int code = EXIT_NOTHING;

	if (!argc)
		query_usage(query, "why needs a word: an address, domain, queue id, Message-ID, IP, login or trace id");
	for (int i = 0; i < argc; i++) {
		struct why_run run = {.query = query};
		struct errinfo err = {""};
		enum find_as as = FIND_ADDRESS;
		uint64_t n;

		if (find_each(query, argv[i], ~0u, why_one, &run, &as, &n, &err) != STATUS_OK)
			query_fatal_err(&err);
		if (query->verbose && n)
			fprintf(stderr, "Read as %s.\n", find_word(as));
		if (n)
			code = EXIT_FOUND;
		else
			tell_absence(query, argv[i], as);
		if (n && run.told > WHY_LIMIT && !query->json && !query->filter.has_limit)
			printf("\nThere are more; these are the newest %d. -n 0 tells all, or: posttrace list\n", WHY_LIMIT);
		if (i + 1 < argc && !query->json)
			putchar('\n');
	}
	return code;
}
