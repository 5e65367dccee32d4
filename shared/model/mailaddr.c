#include "shared/model/mailaddr.h"

/* The next character that counts, or -1 at the end. *quoted: inside "…". */
static int next_char(struct span *rest, bool *quoted)
{
	while (rest->len) {
		unsigned char c = (unsigned char)rest->ptr[0];

		*rest = span_skip(*rest, 1);
		if (c == '"') {
			*quoted = !*quoted;
			continue;
		}
		if (c == '\\' && *quoted && rest->len) {
			c = (unsigned char)rest->ptr[0];
			*rest = span_skip(*rest, 1);
		}
		return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
	}
	return -1;
}

bool mailaddr_same(struct span a, struct span b)
{
	bool a_quoted = false, b_quoted = false;
	int x, y;

	if (span_eq_nocase(a, b))
		return true;
	do {
		x = next_char(&a, &a_quoted);
		y = next_char(&b, &b_quoted);
	} while (x == y && x >= 0);
	return x == y;
}

/* Dot-string: atoms of atext, or 8-bit under SMTPUTF8, with single dots between. */
static bool is_dot_string(struct span local)
{
	bool after_dot = true;

	for (size_t i = 0; i < local.len; i++) {
		unsigned char c = (unsigned char)local.ptr[i];

		if (c == '.' ? after_dot : c <= ' ' || c == 0x7f || strchr("()<>[]:;@\\,\"", c))
			return false;
		after_dot = c == '.';
	}
	return local.len && !after_dot;
}

void mailaddr_quote(struct strbuf *out, struct span plain)
{
	const char *at = plain.len ? memrchr(plain.ptr, '@', plain.len) : NULL;
	struct span local = at ? span_head(plain, (size_t)(at - plain.ptr)) : plain;

	if (!local.len || local.ptr[0] == '"' || is_dot_string(local)) {
		strbuf_addspan(out, plain);
		return;
	}
	strbuf_addch(out, '"');
	for (size_t i = 0; i < local.len; i++) {
		if (local.ptr[i] == '"' || local.ptr[i] == '\\')
			strbuf_addch(out, '\\');
		strbuf_addch(out, local.ptr[i]);
	}
	strbuf_addch(out, '"');
	strbuf_addspan(out, span_skip(plain, local.len));
}
