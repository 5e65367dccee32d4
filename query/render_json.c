#include "query/render.h"

#include <stdio.h>

#include "query/timeline.h"
#include "shared/base/text.h"

static void add_base64(struct strbuf *out, struct span in)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (; in.len; in = span_skip(in, 3)) {
		const unsigned char *p = (const unsigned char *)in.ptr;
		unsigned bits = (unsigned)p[0] << 16 | (in.len > 1 ? (unsigned)p[1] << 8 : 0) | (in.len > 2 ? p[2] : 0);

		strbuf_addch(out, digits[bits >> 18]);
		strbuf_addch(out, digits[bits >> 12 & 63]);
		strbuf_addch(out, in.len > 1 ? digits[bits >> 6 & 63] : '=');
		strbuf_addch(out, in.len > 2 ? digits[bits & 63] : '=');
	}
}

static struct json_object *string_of(struct span text)
{
	return json_object_new_string_len(text.ptr ? text.ptr : "", (int)text.len);
}

static void add_text(struct json_object *object, const char *name, struct span bytes)
{
	struct strbuf clean = STRBUF_INIT, raw = STRBUF_INIT, member = STRBUF_INIT;

	if (text_is_utf8(bytes)) {
		json_object_object_add(object, name, string_of(bytes));
		return;
	}
	text_to_utf8(&clean, bytes);
	json_object_object_add(object, name, string_of(strbuf_span(&clean)));
	add_base64(&raw, bytes);
	strbuf_addf(&member, "%s_b64", name);
	json_object_object_add(object, member.buf, string_of(strbuf_span(&raw)));
	strbuf_fini(&clean);
	strbuf_fini(&raw);
	strbuf_fini(&member);
}

void json_add_bytes(struct json_object *object, const char *name, struct span bytes)
{
	if (bytes.len)
		add_text(object, name, bytes);
	else
		json_object_object_add(object, name, NULL);
}

static void add_wire(struct json_object *object, const char *name, Bytes bytes)
{
	json_add_bytes(object, name, span_from(bytes));
}

static void add_number(struct json_object *object, const char *name, uint64_t number)
{
	json_object_object_add(object, name, number ? json_object_new_int64((int64_t)number) : NULL);
}

static void add_word(struct json_object *object, const char *name, const char *word)
{
	json_object_object_add(object, name, word ? json_object_new_string(word) : NULL);
}

void json_add_time(struct json_object *object, const char *name, int64_t at_us)
{
	struct strbuf text = STRBUF_INIT;

	text_rfc3339(&text, at_us);
	json_object_object_add(object, name, string_of(strbuf_span(&text)));
	strbuf_fini(&text);
}

static void add_milliseconds(struct json_object *object, const char *name, int64_t us)
{
	char text[40];

	/* as text, so that 0.1 stays 0.1 */
	snprintf(text, sizeof(text), "%s%lld.%03lld", us < 0 ? "-" : "", (long long)(us < 0 ? -us : us) / 1000,
	    (long long)(us < 0 ? -us : us) % 1000);
	json_object_object_add(object, name, json_object_new_double_s((double)us / 1000, text));
}

static void add_address(struct json_object *object, Bytes wire)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct strbuf text = STRBUF_INIT;
	struct netaddr address;

	if (wire.len == 4) {
		memcpy(address.bytes, mapped, 12);
		memcpy(address.bytes + 12, wire.data, 4);
		netaddr_format(&text, &address);
	} else if (wire.len == 16) {
		memcpy(address.bytes, wire.data, 16);
		netaddr_format(&text, &address);
	}
	json_add_bytes(object, "address", strbuf_span(&text));
	strbuf_fini(&text);
}

static void add_cause(struct json_object *object, unsigned cause, Posttrace__Certainty certainty)
{
	static const char *const words[] = {NULL, "certain", "probable", "unknown"};
	char name[24];

	snprintf(name, sizeof(name), "cause-%u", cause);
	add_word(object, "cause", cause ? name : NULL);
	add_word(object, "certainty", (unsigned)certainty < 4 ? words[certainty] : NULL);
}

static struct json_object *recipient_object(const Recipient *r)
{
	struct json_object *object = json_object_new_object(), *hop;

	add_wire(object, "address", r->address);
	add_word(object, "outcome", outcome_name(r->outcome));
	add_number(object, "code", r->code);
	add_wire(object, "dsn", r->dsn);
	add_wire(object, "text", r->text);
	add_cause(object, r->cause, r->certainty);
	json_object_object_add(object, "refused_by", NULL);
	hop = NULL;
	if (r->transport.len && !span_is(span_from(r->transport), "error")) {
		hop = json_object_new_object();
		add_wire(hop, "transport", r->transport);
		add_wire(hop, "host", r->next_hop);
	}
	json_object_object_add(object, "next_hop", hop);
	json_object_object_add(object, "deliveries", json_object_new_array());
	return object;
}

static struct json_object *sources_object(const Transaction *tx)
{
	struct json_object *object = json_object_new_object(), *cut = json_object_new_array();

	for (unsigned s = POSTTRACE__SOURCE__SOURCE_MILTER; s <= POSTTRACE__SOURCE__SOURCE_MAILLOG; s++) {
		const char *name = source_name((Posttrace__Source)s);

		json_object_object_add(object, name, json_object_new_boolean((tx->sources >> s & 1) != 0));
		if (tx->cut_sources >> s & 1)
			json_object_array_add(cut, json_object_new_string(name));
	}
	json_object_object_add(object, "cut", cut);
	return object;
}

struct json_object *json_transaction(const Transaction *tx, struct span host)
{
	struct json_object *object = json_object_new_object(), *part;
	char id[TRACE_ID_CHARS];

	trace_id_format(id, tx->id);
	add_word(object, "id", id);
	json_add_bytes(object, "host", tx->host.len ? span_from(tx->host) : host);
	add_wire(object, "service", tx->service);
	json_add_time(object, "started", (int64_t)tx->id);
	if (tx->done)
		json_add_time(object, "ended", (int64_t)(tx->id + tx->duration_us));
	else
		json_object_object_add(object, "ended", NULL);
	add_word(object, "state", tx->done ? "done" : "open");

	part = json_object_new_object();
	add_address(part, tx->client_address);
	add_number(part, "port", tx->client_port);
	add_wire(part, "name", tx->client_name);
	add_wire(part, "reverse_name", tx->client_ptr);
	add_wire(part, "helo", tx->helo);
	json_object_object_add(object, "client", part);

	part = json_object_new_object();
	add_address(part, tx->server_address);
	add_number(part, "port", tx->server_port);
	add_wire(part, "daemon", tx->daemon_name);
	json_object_object_add(object, "server", part);

	add_wire(object, "protocol", tx->protocol);
	part = NULL;
	if (tx->tls_protocol.len || tx->tls_cipher.len) {
		part = json_object_new_object();
		add_wire(part, "protocol", tx->tls_protocol);
		add_wire(part, "cipher", tx->tls_cipher);
		add_number(part, "bits", tx->tls_bits);
	}
	json_object_object_add(object, "tls", part);
	part = NULL;
	if (tx->sasl_method.len || tx->sasl_username.len) {
		part = json_object_new_object();
		add_wire(part, "method", tx->sasl_method);
		add_wire(part, "username", tx->sasl_username);
		add_wire(part, "sender", tx->sasl_sender);
	}
	json_object_object_add(object, "sasl", part);

	add_wire(object, "queue_id", tx->queue_id);
	add_wire(object, "message_id", tx->message_id);
	if (tx->has_sender) /* the null sender is "", not null */
		add_text(object, "sender", span_from(tx->sender));
	else
		add_wire(object, "sender", tx->sender);
	add_number(object, "size", tx->size);
	add_word(object, "outcome", tx->outcome ? outcome_name(tx->outcome) : tx->done ? NULL : "open");
	add_cause(object, tx->cause, tx->certainty);
	part = json_object_new_array();
	for (size_t i = 0; i < tx->n_recipients; i++)
		json_object_array_add(part, recipient_object(tx->recipients[i]));
	json_object_object_add(object, "recipients", part);
	json_object_object_add(object, "loop", NULL);
	json_object_object_add(object, "sources", sources_object(tx));
	json_object_object_add(object, "lost_events", json_object_new_int64((int64_t)tx->lost_events));
	return object;
}

static void add_reply(struct json_object *object, const Posttrace__Refusal *refusal)
{
	add_wire(object, "stage", refusal->stage);
	add_word(object, "outcome", outcome_name(refusal->outcome));
	add_number(object, "code", refusal->code);
	add_wire(object, "dsn", refusal->dsn);
	add_wire(object, "text", refusal->text);
}

static struct json_object *events_array(const Transaction *tx, struct arena *arena)
{
	struct json_object *events = json_object_new_array();
	size_t n;
	struct moment *moments = timeline_make(tx, arena, &n);

	for (size_t i = 0; i < n; i++) {
		const struct moment *m = &moments[i];
		struct json_object *event = json_object_new_object();

		json_add_time(event, "time", (int64_t)tx->id + m->at_us);
		add_milliseconds(event, "elapsed_ms", m->at_us);
		add_word(event, "source", source_name(m->source));
		add_word(event, "type", event_type_name(m->type));
		if (m->recipient)
			add_wire(event, "recipient", m->recipient->address);
		if (m->list) {
			add_wire(event, "list", m->list->list);
			json_object_object_add(event, "position", json_object_new_int64(m->position));
		}
		if (m->refusal)
			add_reply(event, m->refusal);
		if (m->note)
			add_wire(event, "text", m->note->text);
		json_object_array_add(events, event);
	}
	return events;
}

static struct json_object *restrictions_array(const Transaction *tx, struct query *query, struct arena *arena)
{
	struct json_object *array = json_object_new_array();

	for (size_t l = 0; l < tx->n_tracepoints; l++) {
		const Posttrace__Tracepoints *list = tx->tracepoints[l];
		struct span text = {NULL, 0};
		struct errinfo err;

		/* an unknown list leaves the restrictions' names null */
		if (store_read_begin(query->store, &err) == STATUS_OK) {
			if (store_get_list(query->store, list->digest, arena, &text, &err) != STATUS_OK)
				text.len = 0;
			store_read_end(query->store);
		}
		for (size_t i = 0; i < list->n_at_us && 2 * i + 1 < list->n_hits; i++) {
			struct json_object *object = json_object_new_object();
			unsigned position = list->hits[2 * i];
			size_t ref = list->hits[2 * i + 1];
			int64_t us = timeline_restriction_us(list, i);

			add_wire(object, "list", list->list);
			json_object_object_add(object, "position", json_object_new_int64(position));
			json_add_bytes(object, "restriction", timeline_restriction(text, position));
			json_object_object_add(object, "reached", json_object_new_boolean(1));
			if (us >= 0)
				add_milliseconds(object, "elapsed_ms", us);
			else
				json_object_object_add(object, "elapsed_ms", NULL);
			if (ref && ref <= tx->n_recipients)
				add_wire(object, "recipient", tx->recipients[ref - 1]->address);
			json_object_array_add(array, object);
		}
	}
	return array;
}

void json_add_details(struct json_object *object, const Transaction *tx, struct query *query)
{
	struct json_object *array;
	struct arena arena;

	arena_init(&arena, 64u << 20);
	json_object_object_add(object, "events", events_array(tx, &arena));
	json_object_object_add(object, "restrictions", restrictions_array(tx, query, &arena));
	array = json_object_new_array();
	for (size_t i = 0; i < tx->n_headers; i++) {
		struct json_object *header = json_object_new_object();

		add_text(header, "name", span_from(tx->headers[i]->name));
		add_text(header, "value", span_from(tx->headers[i]->value));
		json_object_array_add(array, header);
	}
	json_object_object_add(object, "headers", array);
	array = json_object_new_array();
	for (size_t i = 0; i < tx->n_refusals; i++) {
		struct json_object *refusal = json_object_new_object();

		json_add_time(refusal, "time", (int64_t)tx->id + tx->refusals[i]->at_us);
		add_word(refusal, "source", source_name(tx->refusals[i]->source));
		add_reply(refusal, tx->refusals[i]);
		json_object_array_add(array, refusal);
	}
	json_object_object_add(object, "refusals", array);
	add_wire(object, "lost_text", tx->lost_text);
	json_object_object_add(object, "truncated", json_object_new_boolean(tx->truncated));
	arena_fini(&arena);
}

static void print_escaped(unsigned cp)
{
	if (cp > 0xffff) {
		printf("\\u%04x", 0xd800 + ((cp - 0x10000) >> 10));
		cp = 0xdc00 + ((cp - 0x10000) & 0x3ff);
	}
	printf("\\u%04x", cp);
}

void json_print_line(struct json_object *object)
{
	struct span text =
	    span_of(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	size_t plain = 0; /* bytes at the start of text that need no escape */
	unsigned cp = 0;

	while (plain < text.len) {
		size_t n = text_utf8_next(span_skip(text, plain), &cp);

		if (n && (cp == 0x7f || text_is_deceptive(cp))) {
			fwrite(text.ptr, 1, plain, stdout);
			print_escaped(cp);
			text = span_skip(text, plain + n);
			plain = 0;
		} else {
			plain += n ? n : 1;
		}
	}
	fwrite(text.ptr, 1, plain, stdout);
	putchar('\n');
	json_object_put(object);
}
