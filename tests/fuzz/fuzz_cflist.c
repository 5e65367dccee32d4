/* Lists of main.cf: elements lie inside the list and move forward; what is put in comes out again, the rest as before. */
#include <stdlib.h>

#include "shared/postfix/cflist.h"
#include "tests/fuzz/fuzz.h"

#define OURS SPAN("{ unix:ours, default_action=accept }")

static unsigned is_ours(void *arg, struct span element, struct span next)
{
	(void)arg;
	(void)next;
	return span_eq(element, OURS);
}

static bool same_elements(struct span a, struct span b)
{
	struct span x, y;

	while (cflist_next(&a, &x))
		if (!cflist_next(&b, &y) || !span_eq(x, y))
			return false;
	return !cflist_next(&b, &y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span list = span_make(data, size), rest = list, element, inside;
	unsigned elements = 0;
	bool open = false;

	while (cflist_next(&rest, &element)) {
		size_t depth = 0;

		if (!element.len || element.ptr < list.ptr || element.ptr + element.len > list.ptr + list.len ||
		    rest.ptr < element.ptr + element.len)
			abort();
		if (cflist_group(element, &inside) && inside.len > element.len - 2)
			abort();
		for (size_t i = 0; i < element.len; i++)
			depth += element.ptr[i] == '{' ? 1 : element.ptr[i] == '}' && depth ? (size_t)-1 : 0;
		open = open || depth;
		if (is_ours(NULL, element, element))
			return 0;
		elements++;
	}
	/* a brace that is never closed takes what is put behind it: Postfix refuses such a list */
	for (unsigned position = 0; !open && position < elements + 2; position++) {
		struct strbuf with = STRBUF_INIT, without = STRBUF_INIT;

		cflist_insert(&with, list, OURS, position);
		if (cflist_remove(&without, strbuf_span(&with), is_ours, NULL) != 1 ||
		    !same_elements(strbuf_span(&without), list))
			abort();
		strbuf_fini(&with);
		strbuf_fini(&without);
	}
	return 0;
}
