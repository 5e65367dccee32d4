#include "shared/base/text.h"

#include <stdio.h>
#include <time.h>

#include "shared/base/clock.h"

size_t text_utf8_next(struct span in, unsigned *cp)
{
	const unsigned char *p = (const unsigned char *)in.ptr;
	static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t need;
	unsigned c;

	if (!in.len)
		return 0;
	c = p[0];
	need = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
	if (!need || need > in.len)
		return 0;
	if (need > 1)
		c &= 0x7fu >> need;
	for (size_t i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[need] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*cp = c;
	return need;
}

bool text_is_deceptive(unsigned cp)
{
	return (cp >= 0x80 && cp < 0xa0) || cp == 0xad || cp == 0x61c || cp == 0x180e ||
	       (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
	       (cp >= 0x2060 && cp <= 0x206f) || cp == 0xfeff || (cp >= 0xfff9 && cp <= 0xfffb) ||
	       (cp >= 0xe0000 && cp <= 0xe007f);
}

/* Write the shown form of the first character of in to piece; returns the bytes of in that it stands for. */
static size_t escape_one(struct span in, bool keep_backslash, char piece[16])
{
	unsigned char c = (unsigned char)in.ptr[0];
	unsigned cp = 0;
	size_t n = text_utf8_next(in, &cp);

	if (n == 0 || c < 0x20 || c == 0x7f) {
		if (c == '\n' || c == '\t' || c == '\r')
			snprintf(piece, 16, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
		else
			snprintf(piece, 16, "\\x%02x", c);
		return 1;
	}
	if (c == '\\' && !keep_backslash)
		return snprintf(piece, 16, "\\\\"), 1;
	if (n > 1 && text_is_deceptive(cp))
		return snprintf(piece, 16, "\\u{%x}", cp), n;
	memcpy(piece, in.ptr, n);
	piece[n] = '\0';
	return n;
}

void text_escape(struct strbuf *out, struct span in)
{
	char piece[16];

	while (in.len) {
		size_t n = escape_one(in, false, piece);

		strbuf_adds(out, piece);
		in = span_skip(in, n);
	}
}

void text_escape_line(char *out, size_t cap, const char *in)
{
	struct span rest = span_of(in);
	size_t len = 0;
	char piece[16];

	while (rest.len) {
		size_t n = escape_one(rest, true, piece), add = strlen(piece);

		if (len + add >= cap)
			break;
		memcpy(out + len, piece, add);
		len += add;
		rest = span_skip(rest, n);
	}
	out[len] = '\0';
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void add_utf8(struct strbuf *out, unsigned cp)
{
	if (cp < 0x80) {
		strbuf_addch(out, (char)cp);
		return;
	}
	if (cp < 0x800) {
		strbuf_addch(out, (char)(0xc0 | cp >> 6));
	} else if (cp < 0x10000) {
		strbuf_addch(out, (char)(0xe0 | cp >> 12));
		strbuf_addch(out, (char)(0x80 | (cp >> 6 & 0x3f)));
	} else {
		strbuf_addch(out, (char)(0xf0 | cp >> 18));
		strbuf_addch(out, (char)(0x80 | (cp >> 12 & 0x3f)));
		strbuf_addch(out, (char)(0x80 | (cp >> 6 & 0x3f)));
	}
	strbuf_addch(out, (char)(0x80 | (cp & 0x3f)));
}

/* in starts behind "\u{"; returns the bytes taken, the closing brace included, or 0. */
static size_t unescape_codepoint(struct strbuf *out, struct span in)
{
	unsigned cp = 0;
	size_t i;

	for (i = 0; i < in.len && i < 7 && hex_digit(in.ptr[i]) >= 0; i++)
		cp = cp << 4 | (unsigned)hex_digit(in.ptr[i]);
	if (i == 0 || i >= in.len || in.ptr[i] != '}' || cp > 0x10ffff)
		return 0;
	add_utf8(out, cp);
	return i + 1;
}

bool text_unescape(struct strbuf *out, struct span in)
{
	while (in.len) {
		const char *back = memchr(in.ptr, '\\', in.len);
		size_t n = back ? (size_t)(back - in.ptr) : in.len;

		strbuf_add(out, in.ptr, n);
		in = span_skip(in, n);
		if (!in.len)
			return true;
		if (in.len < 2)
			return false;
		switch (in.ptr[1]) {
		case '\\':
			strbuf_addch(out, '\\');
			n = 2;
			break;
		case 'n':
		case 't':
		case 'r':
			strbuf_addch(out, in.ptr[1] == 'n' ? '\n' : in.ptr[1] == 't' ? '\t' : '\r');
			n = 2;
			break;
		case 'x':
			if (in.len < 4 || hex_digit(in.ptr[2]) < 0 || hex_digit(in.ptr[3]) < 0)
				return false;
			strbuf_addch(out, (char)(hex_digit(in.ptr[2]) << 4 | hex_digit(in.ptr[3])));
			n = 4;
			break;
		case 'u':
			if (in.len < 5 || in.ptr[2] != '{')
				return false;
			n = unescape_codepoint(out, span_skip(in, 3));
			if (!n)
				return false;
			n += 3;
			break;
		default:
			return false;
		}
		in = span_skip(in, n);
	}
	return true;
}

bool text_is_utf8(struct span in)
{
	unsigned cp;

	while (in.len) {
		size_t n = text_utf8_next(in, &cp);

		if (!n)
			return false;
		in = span_skip(in, n);
	}
	return true;
}

void text_to_utf8(struct strbuf *out, struct span in)
{
	unsigned cp;

	while (in.len) {
		size_t n = text_utf8_next(in, &cp);

		if (n)
			strbuf_add(out, in.ptr, n);
		else
			strbuf_adds(out, "\xef\xbf\xbd");
		in = span_skip(in, n ? n : 1);
	}
}

void text_rfc3339(struct strbuf *out, long long at_us)
{
	time_t sec = (time_t)(at_us / US_PER_SEC);
	struct tm tm;

	if (at_us < 0 || !gmtime_r(&sec, &tm)) {
		strbuf_adds(out, "1970-01-01T00:00:00.000000Z");
		return;
	}
	strbuf_addf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%06lldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	    tm.tm_hour, tm.tm_min, tm.tm_sec, at_us % US_PER_SEC);
}

void text_duration(struct strbuf *out, long long us)
{
	static const struct {
		double least_us, unit_us;
		const char *name;
	} units[] = {{0, 1, "us"}, {1e3, 1e3, "ms"}, {1e6, 1e6, "s"}, {120e6, 60e6, "min"}, {7200e6, 3600e6, "h"},
	    {172800e6, 86400e6, "d"}};
	size_t u = 0;
	double value;

	if (us < 0) {
		strbuf_addch(out, '-');
		us = -us;
	}
	while (u + 1 < sizeof(units) / sizeof(units[0]) && (double)us >= units[u + 1].least_us)
		u++;
	value = (double)us / units[u].unit_us;
	strbuf_addf(out, u == 0 || value >= 9.95 ? "%.0f %s" : "%.1f %s", value, units[u].name);
}

void text_size(struct strbuf *out, unsigned long long bytes)
{
	static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes;
	size_t u = 0;

	while (value >= 999.5 && u + 1 < sizeof(names) / sizeof(names[0])) {
		value /= 1000;
		u++;
	}
	strbuf_addf(out, u == 0 || value >= 9.95 ? "%.0f %s" : "%.1f %s", value, names[u]);
}
