/* What people and Postfix write in a few words: times, filters, addresses, ids, tracepoints. The first byte chooses. */
#include <stdlib.h>

#include "query/filter.h"
#include "query/timespec.h"
#include "shared/base/text.h"
#include "shared/model/mailaddr.h"
#include "shared/model/trace_id.h"
#include "shared/model/tracepoint.h"
#include "tests/fuzz/fuzz.h"

static void check_mailaddr(struct span text)
{
	struct strbuf quoted = STRBUF_INIT, again = STRBUF_INIT;
	struct span a = text, b;

	b = span_cut(&a, '\0', &b) ? b : a;
	if (!mailaddr_same(text, text) || mailaddr_same(a, b) != mailaddr_same(b, a))
		abort();
	mailaddr_quote(&quoted, text);
	mailaddr_quote(&again, strbuf_span(&quoted));
	/* a plain form with a quote in it can't be told from a quoted one */
	if ((!memchr(text.ptr, '"', text.len) && !mailaddr_same(text, strbuf_span(&quoted))) || !span_eq(strbuf_span(&quoted), strbuf_span(&again)))
		abort();
	strbuf_fini(&quoted);
	strbuf_fini(&again);
}

static void check_netaddr(struct span text)
{
	struct strbuf out = STRBUF_INIT;
	struct netblock block;
	struct netaddr addr, again;

	if (netaddr_parse(text, &addr)) {
		netaddr_format(&out, &addr);
		if (!netaddr_parse(strbuf_span(&out), &again) || memcmp(&addr, &again, sizeof(addr)) != 0)
			abort();
	}
	if (netblock_parse(text, &block) && (block.prefix > 128 || !netblock_contains(&block, &block.addr)))
		abort();
	strbuf_fini(&out);
}

static void check_text(struct span text)
{
	struct strbuf escaped = STRBUF_INIT, plain = STRBUF_INIT, utf8 = STRBUF_INIT;

	text_escape(&escaped, text);
	if (!text_is_utf8(strbuf_span(&escaped)) || !text_unescape(&plain, strbuf_span(&escaped)) ||
	    !span_eq(strbuf_span(&plain), text))
		abort();
	for (size_t i = 0; i < escaped.len; i++)
		if ((unsigned char)escaped.buf[i] < ' ' || escaped.buf[i] == 0x7f)
			abort();
	strbuf_reset(&plain);
	(void)text_unescape(&plain, text);
	text_to_utf8(&utf8, text);
	if (!text_is_utf8(strbuf_span(&utf8)))
		abort();
	strbuf_fini(&escaped);
	strbuf_fini(&plain);
	strbuf_fini(&utf8);
}

static void check_ids(struct span text)
{
	struct tracepoint point, again;
	struct strbuf out = STRBUF_INIT;
	char name[TRACE_ID_CHARS];
	uint64_t id, same;

	if (trace_id_parse(text, &id)) {
		trace_id_format(name, id);
		if (!trace_id_parse(span_of(name), &same) || same != id)
			abort();
	}
	if (tracepoint_parse(text, &point)) {
		tracepoint_format(&out, &point);
		if (!tracepoint_parse(strbuf_span(&out), &again) || again.position != point.position ||
		    again.digest != point.digest || !span_eq(again.list, point.list))
			abort();
	}
	strbuf_fini(&out);
}

static void check_filter(const char *text, enum filter_kind kind)
{
	struct filter filter = {0};
	struct errinfo err = {""};
	struct arena arena;

	arena_init(&arena, 1 << 20);
	if (filter_add(&filter, kind, text, &arena, &err) != STATUS_OK && !err.text[0])
		abort();
	(void)filter_glob(span_of(text), SPAN("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
	arena_fini(&arena);
}

static void check_time(const char *text)
{
	struct errinfo err = {""};
	int64_t us;

	if (timespec_parse(text, INT64_C(1795478400000000), &us, &err) != STATUS_OK && !err.text[0])
		abort();
	err.text[0] = '\0';
	if (timespec_duration(text, &us, &err) != STATUS_OK && !err.text[0])
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span text;
	char *words;

	if (!size)
		return 0;
	words = strndup((const char *)data + 1, size - 1);
	if (!words)
		abort();
	text = span_make(data + 1, size - 1);
	switch (data[0] % 8) {
	case 0:
		check_time(words);
		break;
	case 1:
		check_filter(words, (enum filter_kind)(data[0] / 8 % FILTER_KINDS));
		break;
	case 2:
		check_mailaddr(text);
		break;
	case 3:
		check_netaddr(text);
		break;
	case 4:
		check_ids(text);
		break;
	default:
		check_text(text);
	}
	free(words);
	return 0;
}
