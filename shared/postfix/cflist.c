#include "shared/postfix/cflist.h"

static bool is_separator(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',';
}

bool cflist_next(struct span *rest, struct span *element)
{
	size_t len = 0, depth = 0;

	while (rest->len && is_separator(rest->ptr[0]))
		*rest = span_skip(*rest, 1);
	if (!rest->len)
		return false;
	for (; len < rest->len && (depth || !is_separator(rest->ptr[len])); len++) {
		if (rest->ptr[len] == '{')
			depth++;
		else if (rest->ptr[len] == '}' && depth)
			depth--;
	}
	*element = span_head(*rest, len);
	*rest = span_skip(*rest, len);
	return true;
}

bool cflist_group(struct span element, struct span *inside)
{
	if (element.len < 2 || element.ptr[0] != '{' || element.ptr[element.len - 1] != '}')
		return false;
	*inside = span_trim(span_make(element.ptr + 1, element.len - 2));
	return true;
}

void cflist_insert(struct strbuf *out, struct span list, struct span element, unsigned position)
{
	struct span rest = list = span_trim(list), next;
	unsigned at = 1;

	while (cflist_next(&rest, &next))
		if (at++ == position) {
			strbuf_add(out, list.ptr, (size_t)(next.ptr - list.ptr));
			strbuf_addspan(out, element);
			strbuf_adds(out, ", ");
			strbuf_add(out, next.ptr, (size_t)(list.ptr + list.len - next.ptr));
			return;
		}
	strbuf_addspan(out, list);
	if (list.len)
		strbuf_adds(out, ", ");
	strbuf_addspan(out, element);
}

unsigned cflist_remove(struct strbuf *out, struct span list,
    unsigned (*ours)(void *arg, struct span element, struct span next), void *arg)
{
	struct span rest = list, element;
	const char *kept = list.ptr; /* all before it is copied or left out */
	size_t start = out->len;
	unsigned removed = 0;

	while (cflist_next(&rest, &element)) {
		struct span ahead = rest, next = {NULL, 0};
		unsigned n;

		cflist_next(&ahead, &next);
		n = ours(arg, element, next);
		if (!n)
			continue;
		strbuf_add(out, kept, (size_t)(element.ptr - kept));
		if (n > 1)
			rest = ahead;
		/* with its separator */
		while (rest.len && is_separator(rest.ptr[0]))
			rest = span_skip(rest, 1);
		kept = rest.ptr;
		removed++;
	}
	if (list.len)
		strbuf_add(out, kept, (size_t)(list.ptr + list.len - kept));
	/* the last element took the separator behind it along; the one before it is still there */
	while (removed && out->len > start && is_separator(out->buf[out->len - 1]))
		strbuf_setlen(out, out->len - 1);
	return removed;
}

static bool takes_next(struct span restriction)
{
	static const char *const starts[] = {"check_", "reject_rbl_", "reject_rhsbl_", "permit_dnswl_", "permit_rhswl_"};

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		if (span_starts(restriction, span_of(starts[i])))
			return true;
	return span_is(restriction, "sleep") || span_is(restriction, "warn_if_reject");
}

void cflist_restrictions(struct strbuf *out, struct span list)
{
	struct span element;
	bool more;

	while (cflist_next(&list, &element)) {
		strbuf_addspan(out, element);
		for (more = takes_next(element); more && cflist_next(&list, &element); more = more && takes_next(element)) {
			/* warn_if_reject stands before a restriction, which may have an argument of its own */
			strbuf_addch(out, ' ');
			strbuf_addspan(out, element);
		}
		strbuf_addch(out, '\n');
	}
}
