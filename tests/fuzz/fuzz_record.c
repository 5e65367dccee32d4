/* Any bytes as a record of the store: what can be decoded can be shown, as JSON that is valid and as text without a
 * control byte, and be filtered. */
#include <stdlib.h>

#include "query/render.h"
#include "shared/base/text.h"
#include "tests/fuzz/fuzz.h"

void query_fatal(enum exit_code code, const char *fmt, ...)
{
	(void)code;
	(void)fmt;
	abort();
}

void query_fatal_err(const struct errinfo *err)
{
	(void)err;
	abort();
}

void query_warn(const char *fmt, ...)
{
	(void)fmt;
}

static void check_json(struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	struct json_object *again;

	if (!text_is_utf8(span_of(text)))
		abort();
	again = json_tokener_parse(text);
	if (!again)
		abort();
	json_object_put(again);
	json_object_put(object);
}

static void check_text(struct strbuf *text)
{
	for (size_t i = 0; i < text->len; i++)
		if ((unsigned char)text->buf[i] < ' ' || text->buf[i] == 0x7f)
			abort();
	if (!text_is_utf8(strbuf_span(text)))
		abort();
	strbuf_reset(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		enum filter_kind kind;
		const char *text;
	} terms[] = {{FILTER_FROM, "*@a*b?c.test"}, {FILTER_TO, "@lab.test"}, {FILTER_CLIENT, "10.0.0.0/8"}, {FILTER_CLIENT, "*.x"},
	    {FILTER_OUTCOME, "rejected"}, {FILTER_SEARCH, "a*a*a*b"}, {FILTER_SERVICE, "smtpd"}, {FILTER_QUEUE_ID, "ABC"},
	    {FILTER_LOGIN, "joe"}, {FILTER_MESSAGE_ID, "<x@y>"}};
	struct strbuf text = STRBUF_INIT;
	struct arena arena;
	Transaction *tx;

	arena_init(&arena, 16 << 20);
	tx = posttrace__transaction__unpack(&arena.allocator, size, data);
	if (tx) {
		check_json(json_transaction(tx, SPAN("host.test")));
		text_verdict(&text, tx);
		check_text(&text);
		text_witnesses(&text, tx);
		check_text(&text);
		text_client(&text, tx);
		check_text(&text);
		text_address(&text, span_from(tx->sender));
		check_text(&text);
		for (size_t i = 0; i < sizeof(terms) / sizeof(terms[0]); i++) {
			struct filter filter = {.slower_us = (int64_t)i % 2};
			struct errinfo err;

			if (filter_add(&filter, terms[i].kind, terms[i].text, &arena, &err) != STATUS_OK)
				abort();
			(void)filter_match(&filter, tx);
			for (size_t j = 0; j < tx->n_recipients; j++)
				(void)filter_match_recipient(&filter, tx->recipients[j]);
		}
	}
	strbuf_fini(&text);
	arena_fini(&arena);
	return 0;
}
