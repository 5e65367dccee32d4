#include "query/render.h"

#include <arpa/inet.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "query/timeline.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"

const char *text_color(const struct query *query, enum text_color color)
{
	static const char *const sequences[] = {[COLOR_NONE] = "\x1b[0m", [COLOR_GOOD] = "\x1b[32m",
	    [COLOR_BAD] = "\x1b[31m", [COLOR_UNSURE] = "\x1b[33m", [COLOR_QUIET] = "\x1b[2m",
	    [COLOR_STRONG] = "\x1b[1m"};

	return query->color ? sequences[color] : "";
}

enum text_color text_outcome_color(Posttrace__Outcome outcome)
{
	switch (outcome) {
	case POSTTRACE__OUTCOME__ACCEPTED:
		return COLOR_GOOD;
	case POSTTRACE__OUTCOME__REJECTED:
		return COLOR_BAD;
	case POSTTRACE__OUTCOME__DEFERRED:
	case POSTTRACE__OUTCOME__ABORTED:
		return COLOR_UNSURE;
	default:
		return COLOR_QUIET;
	}
}

void text_time(struct strbuf *out, int64_t at_us)
{
	time_t sec = (time_t)(at_us / US_PER_SEC);
	struct tm tm;
	char text[64];

	if (!localtime_r(&sec, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
		strcpy(text, "?");
	strbuf_adds(out, text);
}

void text_address(struct strbuf *out, struct span address)
{
	if (address.len)
		text_escape(out, address);
	else
		strbuf_adds(out, "<>");
}

static void add_ip(struct strbuf *out, Bytes wire)
{
	char text[INET6_ADDRSTRLEN];

	if ((wire.len == 4 || wire.len == 16) &&
	    inet_ntop(wire.len == 4 ? AF_INET : AF_INET6, wire.data, text, sizeof(text)))
		strbuf_adds(out, text);
}

void text_client(struct strbuf *out, const Transaction *tx)
{
	if (!tx->client_address.len) {
		strbuf_adds(out, "local");
		return;
	}
	if (tx->client_name.len && !span_is(span_from(tx->client_name), "unknown"))
		text_escape(out, span_from(tx->client_name));
	strbuf_addch(out, '[');
	add_ip(out, tx->client_address);
	strbuf_addch(out, ']');
}

void text_reply(struct strbuf *out, unsigned code, struct span dsn, struct span text)
{
	size_t from = out->len;

	if (code)
		strbuf_addf(out, "%u", code);
	if (dsn.len) {
		strbuf_adds(out, out->len > from ? " " : "");
		text_escape(out, dsn);
	}
	if (text.len) {
		strbuf_adds(out, out->len > from ? " " : "");
		text_escape(out, text);
	}
}

static const char *outcome_word(Posttrace__Outcome outcome)
{
	const char *word = outcome_name(outcome);

	return word ? word : "undecided";
}

/* --- list --- */

enum { COL_TIME, COL_ID, COL_CLIENT, COL_FROM, COL_TO, COL_SMTP, COL_DELIVERY, COL_QUEUE, COL_WHY, N_COLUMNS };

struct text_table {
	const struct query *query;
	struct libscols_table *table;
};

static void *checked(void *made)
{
	if (!made)
		query_fatal(EXIT_TROUBLE, "out of memory");
	return made;
}

struct text_table *text_table_new(const struct query *query)
{
	static const struct {
		const char *name;
		double width;
		int flags;
	} columns[N_COLUMNS] = {
	    [COL_TIME] = {"TIME", 19, 0},
	    [COL_ID] = {"ID", 11, 0},
	    [COL_CLIENT] = {"CLIENT", 0.15, SCOLS_FL_TRUNC},
	    [COL_FROM] = {"FROM", 0.15, SCOLS_FL_TRUNC},
	    [COL_TO] = {"TO", 0.15, SCOLS_FL_TRUNC},
	    [COL_SMTP] = {"SMTP", 9, 0},
	    [COL_DELIVERY] = {"DELIVERY", 8, 0},
	    [COL_QUEUE] = {"QUEUE", 10, 0},
	    [COL_WHY] = {"WHY", 0.2, SCOLS_FL_TRUNC},
	};
	struct text_table *table = checked(calloc(1, sizeof(*table)));

	table->query = query;
	table->table = checked(scols_new_table());
	/* everything is escaped already */
	scols_table_enable_noencoding(table->table, 1);
	scols_table_enable_colors(table->table, query->color);
	for (size_t i = 0; i < N_COLUMNS; i++)
		checked(scols_table_new_column(table->table, columns[i].name, columns[i].width, columns[i].flags));
	if (query->width) { /* the terminal may be behind a pager by now */
		scols_table_set_termforce(table->table, SCOLS_TERMFORCE_ALWAYS);
		scols_table_set_termwidth(table->table, query->width < 100 ? 100 : query->width);
	}
	return table;
}

static void set_cell(struct libscols_line *line, size_t column, struct strbuf *text)
{
	if (text->failed || scols_line_set_data(line, column, text->len ? text->buf : "-") != 0)
		query_fatal(EXIT_TROUBLE, "out of memory");
	strbuf_reset(text);
}

/* The last words that the client got, of a transaction with no recipient. */
static void add_last_words(struct strbuf *out, const Transaction *tx)
{
	if (tx->n_refusals) {
		const Posttrace__Refusal *refusal = tx->refusals[tx->n_refusals - 1];

		text_reply(out, refusal->code, span_from(refusal->dsn), span_from(refusal->text));
	} else if (tx->lost_text.len) {
		text_escape(out, span_from(tx->lost_text));
	}
}

static const char *delivery_word(const Transaction *tx, Posttrace__Outcome outcome)
{
	if (outcome != POSTTRACE__OUTCOME__ACCEPTED || tx->outcome == POSTTRACE__OUTCOME__ABORTED)
		return "-";
	return tx->queue_active ? "queued" : "unknown";
}

static void add_row(struct text_table *table, const Transaction *tx, const Recipient *r)
{
	struct libscols_line *line = checked(scols_table_new_line(table->table, NULL));
	Posttrace__Outcome outcome = r ? r->outcome : tx->outcome;
	struct strbuf text = STRBUF_INIT;
	char id[TRACE_ID_CHARS];
	bool aborted = tx->outcome == POSTTRACE__OUTCOME__ABORTED && outcome == POSTTRACE__OUTCOME__ACCEPTED;

	text_time(&text, (int64_t)tx->id);
	set_cell(line, COL_TIME, &text);
	trace_id_format(id, tx->id);
	strbuf_adds(&text, id);
	set_cell(line, COL_ID, &text);
	text_client(&text, tx);
	set_cell(line, COL_CLIENT, &text);
	if (tx->has_sender || tx->sender.len)
		text_address(&text, span_from(tx->sender));
	set_cell(line, COL_FROM, &text);
	if (r)
		text_escape(&text, span_from(r->address));
	set_cell(line, COL_TO, &text);
	if (aborted) /* taken, but the message never came to its end */
		outcome = POSTTRACE__OUTCOME__ABORTED;
	strbuf_adds(&text, !r && !outcome && !tx->done ? "open" : outcome_word(outcome));
	set_cell(line, COL_SMTP, &text);
	if (table->query->color)
		scols_cell_set_color(scols_line_get_cell(line, COL_SMTP),
		    text_color(table->query, text_outcome_color(outcome)));
	strbuf_adds(&text, delivery_word(tx, r ? r->outcome : tx->outcome));
	set_cell(line, COL_DELIVERY, &text);
	text_escape(&text, span_from(tx->queue_id));
	set_cell(line, COL_QUEUE, &text);
	if (r && r->outcome != POSTTRACE__OUTCOME__ACCEPTED)
		text_reply(&text, r->code, span_from(r->dsn), span_from(r->text));
	else
		add_last_words(&text, tx);
	set_cell(line, COL_WHY, &text);
	strbuf_fini(&text);
}

void text_table_add(struct text_table *table, const Transaction *tx)
{
	bool any = false;

	for (size_t i = 0; i < tx->n_recipients; i++) {
		if (!filter_match_recipient(&table->query->filter, tx->recipients[i]))
			continue;
		add_row(table, tx, tx->recipients[i]);
		any = true;
	}
	if (!any)
		add_row(table, tx, NULL);
}

void text_table_print(struct text_table *table)
{
	if (scols_table_get_nlines(table->table))
		scols_print_table(table->table);
	scols_unref_table(table->table);
	free(table);
}

/* --- sentences --- */

void text_verdict(struct strbuf *out, const Transaction *tx)
{
	size_t accepted = 0, n = tx->n_recipients;

	for (size_t i = 0; i < n; i++)
		accepted += tx->recipients[i]->outcome == POSTTRACE__OUTCOME__ACCEPTED;
	switch (tx->outcome) {
	case POSTTRACE__OUTCOME__ACCEPTED:
		strbuf_addf(out, "accepted for %zu of %zu recipient%s", accepted, n, n == 1 ? "" : "s");
		strbuf_adds(out, tx->queue_active ? ", and in Postfix's queue (the log says so)"
						  : "; nothing seen yet that proves it was queued");
		break;
	case POSTTRACE__OUTCOME__REJECTED:
		strbuf_addf(out, n ? "rejected for every recipient (%zu)" : "rejected before any recipient", n);
		break;
	case POSTTRACE__OUTCOME__DEFERRED:
		strbuf_addf(out, n ? "refused for now (4xx): the client should try again (%zu recipient%s)"
				   : "refused for now (4xx) before any recipient",
		    n, n == 1 ? "" : "s");
		break;
	case POSTTRACE__OUTCOME__ABORTED:
		strbuf_adds(out, "aborted: a recipient was accepted, but the message did not come to its end");
		break;
	case POSTTRACE__OUTCOME__NO_MAIL:
		strbuf_adds(out, "a session without a mail transaction");
		break;
	default:
		strbuf_adds(out, tx->done ? "nobody saw how it ended" : "still open");
		break;
	}
}

void text_witnesses(struct strbuf *out, const Transaction *tx)
{
	const struct {
		const char *words;
		uint32_t sources;
	} parts[] = {{"seen by ", tx->sources}, {"; not seen by ", ~tx->sources}, {"; cut off: ", tx->cut_sources}};

	for (size_t p = 0; p < 3; p++) {
		const char *separator = parts[p].words;

		for (unsigned s = POSTTRACE__SOURCE__SOURCE_MILTER; s <= POSTTRACE__SOURCE__SOURCE_MAILLOG; s++) {
			if (!(parts[p].sources >> s & 1))
				continue;
			strbuf_addf(out, "%s%s", separator, source_name((Posttrace__Source)s));
			separator = ", ";
		}
	}
	if (tx->lost_events)
		strbuf_addf(out, "; %llu events lost", (unsigned long long)tx->lost_events);
}

/* --- show --- */

static void heading(const struct query *query, const char *words)
{
	printf("\n%s%s%s\n", text_color(query, COLOR_STRONG), words, text_color(query, COLOR_NONE));
}

static void field(const struct query *query, const char *name, struct strbuf *text)
{
	if (text->len)
		printf("  %s%-11s%s %s\n", text_color(query, COLOR_QUIET), name, text_color(query, COLOR_NONE), text->buf);
	strbuf_reset(text);
}

static void field_bytes(const struct query *query, const char *name, Bytes bytes)
{
	struct strbuf text = STRBUF_INIT;

	text_escape(&text, span_from(bytes));
	field(query, name, &text);
	strbuf_fini(&text);
}

static void add_named(struct strbuf *out, const char *name, Bytes bytes)
{
	if (!bytes.len)
		return;
	strbuf_addf(out, "%s%s=", out->len ? " " : "", name);
	text_escape(out, span_from(bytes));
}

static void show_session(struct query *query, const Transaction *tx)
{
	struct strbuf text = STRBUF_INIT;

	text_client(&text, tx);
	if (tx->client_port)
		strbuf_addf(&text, ":%u", tx->client_port);
	add_named(&text, "helo", tx->helo);
	add_named(&text, "reverse", tx->client_ptr);
	field(query, "client", &text);
	add_ip(&text, tx->server_address);
	if (tx->server_port)
		strbuf_addf(&text, ":%u", tx->server_port);
	add_named(&text, "service", tx->service);
	add_named(&text, "daemon", tx->daemon_name);
	if (tx->pid)
		strbuf_addf(&text, " pid=%u", tx->pid);
	field(query, "server", &text);
	field_bytes(query, "protocol", tx->protocol);
	text_escape(&text, span_from(tx->tls_protocol));
	add_named(&text, "cipher", tx->tls_cipher);
	if (tx->tls_bits)
		strbuf_addf(&text, " bits=%u", tx->tls_bits);
	field(query, "tls", &text);
	text_escape(&text, span_from(tx->sasl_username));
	add_named(&text, "method", tx->sasl_method);
	add_named(&text, "sender", tx->sasl_sender);
	field(query, "login", &text);
	if (tx->has_sender || tx->sender.len)
		text_address(&text, span_from(tx->sender));
	field(query, "from", &text);
	field_bytes(query, "queue id", tx->queue_id);
	field_bytes(query, "message-id", tx->message_id);
	if (tx->size)
		text_size(&text, tx->size);
	field(query, "size", &text);
	if (tx->ordinal > 1)
		strbuf_addf(&text, "the %u. of its session", tx->ordinal);
	field(query, "transaction", &text);
	field_bytes(query, "orig client", tx->orig_client);
	field_bytes(query, "ended by", tx->lost_text);
	strbuf_fini(&text);
}

static void show_recipients(struct query *query, const Transaction *tx)
{
	struct strbuf text = STRBUF_INIT;

	if (tx->n_recipients)
		heading(query, "Recipients");
	for (size_t i = 0; i < tx->n_recipients; i++) {
		const Recipient *r = tx->recipients[i];

		printf("  %s%-9s%s ", text_color(query, text_outcome_color(r->outcome)), outcome_word(r->outcome),
		    text_color(query, COLOR_NONE));
		text_address(&text, span_from(r->address));
		if (r->outcome == POSTTRACE__OUTCOME__ACCEPTED) {
			if (r->transport.len) {
				strbuf_adds(&text, "  via ");
				text_escape(&text, span_from(r->transport));
				if (r->next_hop.len) {
					strbuf_adds(&text, ":");
					text_escape(&text, span_from(r->next_hop));
				}
			}
		} else if (r->code || r->dsn.len || r->text.len) {
			strbuf_adds(&text, "\n            ");
			text_reply(&text, r->code, span_from(r->dsn), span_from(r->text));
			if (!r->text_whole && r->text.len)
				strbuf_adds(&text, "  (without its first word: only the milter saw it)");
		}
		puts(text.buf);
		strbuf_reset(&text);
	}
	strbuf_fini(&text);
}

static void add_moment(struct strbuf *out, const struct moment *m)
{
	if (m->list) {
		text_escape(out, span_from(m->list->list));
		strbuf_addf(out, "/%u ", m->position);
	}
	if (m->recipient) {
		text_address(out, span_from(m->recipient->address));
		if (m->type == POSTTRACE__EVENT_TYPE__TX_RCPT)
			strbuf_addf(out, " %s", outcome_word(m->recipient->outcome));
	}
	if (m->refusal) {
		text_escape(out, span_from(m->refusal->stage));
		strbuf_addch(out, ' ');
		text_reply(out, m->refusal->code, span_from(m->refusal->dsn), span_from(m->refusal->text));
	}
	if (m->note)
		text_escape(out, span_from(m->note->text));
}

static void show_timeline(struct query *query, const Transaction *tx, struct arena *arena)
{
	struct strbuf text = STRBUF_INIT, clock = STRBUF_INIT, step = STRBUF_INIT;
	size_t n;
	struct moment *moments = timeline_make(tx, arena, &n);

	if (n)
		heading(query, "Timeline");
	for (size_t i = 0; i < n; i++) {
		const struct moment *m = &moments[i];
		int64_t at_us = (int64_t)tx->id + m->at_us;

		strbuf_reset(&clock);
		text_time(&clock, at_us);
		strbuf_reset(&step);
		if (i)
			text_duration(&step, m->at_us - moments[i - 1].at_us);
		strbuf_reset(&text);
		add_moment(&text, m);
		printf("  %s.%03d %s%8s%s  %-7s %-15s %s\n", clock.len > 11 ? clock.buf + 11 : clock.buf,
		    (int)(at_us % US_PER_SEC / 1000), text_color(query, COLOR_QUIET), step.len ? step.buf : "",
		    text_color(query, COLOR_NONE), source_name(m->source), event_type_name(m->type), text.buf);
	}
	strbuf_fini(&text);
	strbuf_fini(&clock);
	strbuf_fini(&step);
}

static void show_tracepoints(struct query *query, const Transaction *tx, struct arena *arena)
{
	struct strbuf line = STRBUF_INIT;

	if (tx->n_tracepoints)
		heading(query, "Restrictions reached (and the time that each one took)");
	for (size_t l = 0; l < tx->n_tracepoints; l++) {
		const Posttrace__Tracepoints *list = tx->tracepoints[l];
		struct span text = {NULL, 0};
		struct errinfo err;

		if (store_read_begin(query->store, &err) == STATUS_OK) {
			if (store_get_list(query->store, list->digest, arena, &text, &err) != STATUS_OK)
				text.len = 0;
			store_read_end(query->store);
		}
		for (size_t i = 0; i < list->n_at_us && 2 * i + 1 < list->n_hits; i++) {
			int64_t us = timeline_restriction_us(list, i);
			size_t ref = list->hits[2 * i + 1];
			struct span name = timeline_restriction(text, list->hits[2 * i]);

			strbuf_reset(&line);
			text_escape(&line, span_from(list->list));
			strbuf_addf(&line, "/%u ", list->hits[2 * i]);
			text_escape(&line, name);
			if (ref && ref <= tx->n_recipients) {
				strbuf_adds(&line, name.len ? " for " : "for ");
				text_address(&line, span_from(tx->recipients[ref - 1]->address));
			}
			strbuf_adds(&line, ": ");
			if (us >= 0)
				text_duration(&line, us);
			else
				strbuf_adds(&line, "the last one reached");
			printf("  %s\n", line.buf);
		}
	}
	strbuf_fini(&line);
}

static void show_headers(struct query *query, const Transaction *tx)
{
	struct strbuf line = STRBUF_INIT;

	if (tx->n_headers)
		heading(query, "Headers kept");
	for (size_t i = 0; i < tx->n_headers; i++) {
		strbuf_reset(&line);
		text_escape(&line, span_from(tx->headers[i]->name));
		strbuf_adds(&line, ": ");
		text_escape(&line, span_trim(span_from(tx->headers[i]->value)));
		printf("  %s\n", line.buf);
	}
	strbuf_fini(&line);
}

/* What a postmaster would type next. */
static void show_next_step(struct query *query, const Transaction *tx)
{
	struct strbuf text = STRBUF_INIT;
	char id[TRACE_ID_CHARS];

	trace_id_format(id, tx->id);
	heading(query, "Next");
	if (!tx->done)
		strbuf_addf(&text, "it is still going on: posttrace show %s tells more in a moment", id);
	else if (tx->queue_id.len && tx->outcome == POSTTRACE__OUTCOME__ACCEPTED)
		strbuf_adds(&text, "is it still in the queue: postqueue -j; its deliveries are in Postfix's log under this queue id");
	else if (tx->outcome == POSTTRACE__OUTCOME__REJECTED || tx->outcome == POSTTRACE__OUTCOME__DEFERRED)
		strbuf_addf(&text, "others like it: posttrace list --outcome %s -S today", outcome_word(tx->outcome));
	else
		strbuf_addf(&text, "the whole record for a program: posttrace show -j %s", id);
	printf("  %s\n", text.buf);
	strbuf_fini(&text);
}

void text_show(struct query *query, const Transaction *tx)
{
	struct strbuf text = STRBUF_INIT;
	struct arena arena;
	char id[TRACE_ID_CHARS];

	arena_init(&arena, 64u << 20);
	trace_id_format(id, tx->id);
	text_time(&text, (int64_t)tx->id);
	printf("%s%s%s  %s  ", text_color(query, COLOR_STRONG), id, text_color(query, COLOR_NONE), text.buf);
	strbuf_reset(&text);
	text_verdict(&text, tx);
	printf("%s%s%s", text_color(query, text_outcome_color(tx->outcome)), text.buf, text_color(query, COLOR_NONE));
	strbuf_reset(&text);
	text_duration(&text, (long long)tx->duration_us);
	printf("  (%s%s)\n", text.buf, tx->done ? "" : " so far");
	show_session(query, tx);
	strbuf_reset(&text);
	text_witnesses(&text, tx);
	field(query, "witnesses", &text);
	if (tx->truncated)
		strbuf_adds(&text, "something here was longer than its limit");
	field(query, "cut", &text);
	show_recipients(query, tx);
	show_timeline(query, tx, &arena);
	show_tracepoints(query, tx, &arena);
	show_headers(query, tx);
	show_next_step(query, tx);
	strbuf_fini(&text);
	arena_fini(&arena);
}

/* --- follow --- */

void text_event(const struct query *query, Posttrace__EventType type, int64_t at_us, const Transaction *tx)
{
	struct strbuf line = STRBUF_INIT;
	char id[TRACE_ID_CHARS];

	text_time(&line, at_us);
	trace_id_format(id, tx->id);
	strbuf_addf(&line, ".%03d %s %-15s ", (int)(at_us % US_PER_SEC / 1000), id, event_type_name(type));
	text_client(&line, tx);
	if (tx->has_sender || tx->sender.len) {
		strbuf_adds(&line, " from=");
		text_address(&line, span_from(tx->sender));
	}
	if (tx->n_recipients) {
		const Recipient *last = tx->recipients[tx->n_recipients - 1];

		strbuf_adds(&line, " to=");
		text_address(&line, span_from(last->address));
		if (tx->n_recipients > 1)
			strbuf_addf(&line, " (of %zu)", tx->n_recipients);
		strbuf_addf(&line, " %s%s%s", text_color(query, text_outcome_color(last->outcome)),
		    outcome_word(last->outcome), text_color(query, COLOR_NONE));
		if (last->outcome != POSTTRACE__OUTCOME__ACCEPTED && (last->code || last->dsn.len || last->text.len)) {
			strbuf_adds(&line, ": ");
			text_reply(&line, last->code, span_from(last->dsn), span_from(last->text));
		}
	} else if (tx->n_refusals || tx->lost_text.len) {
		strbuf_adds(&line, ": ");
		add_last_words(&line, tx);
	}
	if (tx->queue_id.len) {
		strbuf_adds(&line, " queue-id=");
		text_escape(&line, span_from(tx->queue_id));
	}
	puts(line.buf);
	strbuf_fini(&line);
}
