#include "milter/headers.h"

void headers_init(struct headers *headers, const struct header_rules *rules)
{
	*headers = (struct headers){.rules = rules};
	arena_init(&headers->arena, HEADERS_BYTES);
}

void headers_fini(struct headers *headers)
{
	arena_fini(&headers->arena);
}

void headers_reset(struct headers *headers)
{
	arena_reset(&headers->arena);
	headers->list = NULL;
	headers->n_list = headers->n_room = 0;
	headers->count = 0;
	headers->truncated = false;
	headers->message_id = span_make(NULL, 0);
}

static bool is_kept(const struct header_rules *rules, struct span name)
{
	struct span rest = rules->keep;

	if (span_eq_nocase(name, SPAN("Subject")))
		return rules->subject; /* only ever by its own switch */
	while (rest.len) {
		size_t n = 0;

		while (n < rest.len && !strchr(" \t,", rest.ptr[n]))
			n++;
		if (n && span_eq_nocase(name, span_head(rest, n)))
			return true;
		rest = span_skip(rest, n + 1);
	}
	return false;
}

static bool make_room(struct headers *headers)
{
	size_t room = headers->n_room ? headers->n_room * 2 : 16;
	Attribute **list;

	if (headers->n_list < headers->n_room)
		return true;
	if (headers->n_list >= HEADERS_MAX)
		return false;
	list = arena_alloc(&headers->arena, room * sizeof(*list));
	if (!list)
		return false;
	if (headers->n_list)
		memcpy(list, headers->list, headers->n_list * sizeof(*list));
	headers->list = list;
	headers->n_room = room;
	return true;
}

static void take_message_id(struct headers *headers, struct span value)
{
	struct span id = span_trim(value);

	if (headers->message_id.len)
		return;
	if (id.len >= 2 && id.ptr[0] == '<' && id.ptr[id.len - 1] == '>')
		id = span_make(id.ptr + 1, id.len - 2);
	headers->message_id = id;
}

void headers_add(struct headers *headers, struct span name, struct span value)
{
	const Attribute empty = POSTTRACE__ATTRIBUTE__INIT;
	struct span kept_name, kept_value;
	bool is_message_id = span_eq_nocase(name, SPAN("Message-ID")), is_listed = is_kept(headers->rules, name);
	Attribute *attribute;

	if (headers->count < UINT32_MAX)
		headers->count++;
	if (!is_listed && !is_message_id)
		return;
	if (value.len > headers->rules->value_limit) {
		value.len = headers->rules->value_limit;
		headers->truncated = true;
	}
	kept_value = arena_span(&headers->arena, value);
	if (!kept_value.ptr) {
		headers->truncated = true;
		return;
	}
	if (is_message_id)
		take_message_id(headers, kept_value);
	if (!is_listed)
		return;
	kept_name = arena_span(&headers->arena, name);
	attribute = arena_alloc(&headers->arena, sizeof(*attribute));
	if (!kept_name.ptr || !attribute || !make_room(headers)) {
		headers->truncated = true;
		return;
	}
	*attribute = empty;
	attribute->name = bytes_of(kept_name);
	attribute->value = bytes_of(kept_value);
	headers->list[headers->n_list++] = attribute;
}

uint32_t headers_count(const struct headers *headers)
{
	return headers->count;
}

void headers_fill(const struct headers *headers, Event *event)
{
	event->headers = headers->list;
	event->n_headers = headers->n_list;
	event->header_count = headers->count;
	event->message_id = bytes_of(headers->message_id);
	event->truncated |= headers->truncated;
}
