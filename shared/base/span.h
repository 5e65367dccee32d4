/* span.h - bytes that somebody else owns: a pointer and a length, never assumed to be a string. */
#ifndef POSTTRACE_SPAN_H
#define POSTTRACE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct span {
	const char *ptr; /* may be NULL when len is 0 */
	size_t len;
};

#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})

static inline struct span span_of(const char *s)
{
	return (struct span){s, s ? strlen(s) : 0};
}

static inline struct span span_make(const void *ptr, size_t len)
{
	return (struct span){ptr, len};
}

static inline bool span_eq(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool span_eq_nocase(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || strncasecmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool span_is(struct span a, const char *s)
{
	return span_eq(a, span_of(s));
}

static inline bool span_starts(struct span a, struct span prefix)
{
	return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}

/* The rest of a after n bytes; empty when a is shorter. */
static inline struct span span_skip(struct span a, size_t n)
{
	return n >= a.len ? (struct span){a.ptr ? a.ptr + a.len : NULL, 0}
			  : (struct span){a.ptr + n, a.len - n};
}

/* At most n bytes from the start. */
static inline struct span span_head(struct span a, size_t n)
{
	return (struct span){a.ptr, n < a.len ? n : a.len};
}

/* Where needle starts in a, or NULL. */
static inline const char *span_find(struct span a, struct span needle)
{
	return a.len ? memmem(a.ptr, a.len, needle.ptr, needle.len) : NULL;
}

/* Without white space at both ends. */
static inline struct span span_trim(struct span a)
{
	while (a.len && strchr(" \t\r\n", a.ptr[0]) && a.ptr[0])
		a = span_skip(a, 1);
	while (a.len && a.ptr[a.len - 1] && strchr(" \t\r\n", a.ptr[a.len - 1]))
		a.len--;
	return a;
}

/* Take what stands before the first sep off *rest; without a sep, all of it. False when *rest is empty. */
static inline bool span_cut(struct span *rest, char sep, struct span *head)
{
	const char *at;

	if (!rest->len)
		return false;
	at = memchr(rest->ptr, sep, rest->len);
	*head = at ? span_head(*rest, (size_t)(at - rest->ptr)) : *rest;
	*rest = span_skip(*rest, at ? head->len + 1 : head->len);
	return true;
}

#endif
