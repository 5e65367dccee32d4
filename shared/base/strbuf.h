/* strbuf.h - growable bytes.
 *
 * Invariant: buf is always NUL-terminated at len, also when empty, so it can be read as a string.
 * Errors:    running out of memory sets `failed` and makes further adds do nothing; look once at the end.
 * Owns:      the caller owns the struct, the struct owns buf.
 */
#ifndef POSTTRACE_STRBUF_H
#define POSTTRACE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/base/span.h"
#include "shared/base/status.h"

struct strbuf {
	char *buf;
	size_t len;
	size_t cap; /* 0: buf is not ours to free */
	bool failed;
};

#define STRBUF_INIT {(char *)"", 0, 0, false}

void strbuf_init(struct strbuf *sb);
void strbuf_fini(struct strbuf *sb);
/* Empty it, keep the memory. */
void strbuf_reset(struct strbuf *sb);
/* Make room for extra more bytes; false (and failed) when there is none. */
bool strbuf_grow(struct strbuf *sb, size_t extra);
void strbuf_add(struct strbuf *sb, const void *data, size_t len);
void strbuf_adds(struct strbuf *sb, const char *s);
void strbuf_addspan(struct strbuf *sb, struct span span);
void strbuf_addch(struct strbuf *sb, char c);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) PRINTF(2, 3);
void strbuf_setlen(struct strbuf *sb, size_t len);

static inline struct span strbuf_span(const struct strbuf *sb)
{
	return span_make(sb->buf, sb->len);
}

#endif
