#include "shared/model/tracepoint.h"

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tracepoint_parse(struct span context, struct tracepoint *out)
{
	struct tracepoint point = {.position = 0};
	struct span head, position;

	if (!span_cut(&context, ':', &head) || !span_is(head, "pt") || !span_cut(&context, ':', &point.service) ||
	    !span_cut(&context, ':', &point.list) || !span_cut(&context, ':', &position) || context.len != 16 ||
	    !point.service.len || !point.list.len || !position.len || position.len > 5)
		return false;
	for (size_t i = 0; i < position.len; i++) {
		if (position.ptr[i] < '0' || position.ptr[i] > '9')
			return false;
		point.position = point.position * 10 + (unsigned)(position.ptr[i] - '0');
	}
	for (size_t i = 0; i < 16; i++) {
		if (hex_value(context.ptr[i]) < 0)
			return false;
		point.digest = point.digest << 4 | (unsigned)hex_value(context.ptr[i]);
	}
	*out = point;
	return true;
}

void tracepoint_format(struct strbuf *out, const struct tracepoint *point)
{
	strbuf_adds(out, "pt:");
	strbuf_addspan(out, point->service);
	strbuf_addch(out, ':');
	strbuf_addspan(out, point->list);
	strbuf_addf(out, ":%u:%016llx", point->position, (unsigned long long)point->digest);
}
