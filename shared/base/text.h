/* text.h - bytes from outside, made safe to show.
 *
 * Escaped text is printable UTF-8 on one line, and reversible: control bytes, DEL, C1, invalid UTF-8 and the
 * backslash become \xNN, \n, \t, \\; characters that reorder or hide text (bidi, zero width, U+2028/9) become
 * \u{NNNN}.
 */
#ifndef POSTTRACE_TEXT_H
#define POSTTRACE_TEXT_H

#include "shared/base/span.h"
#include "shared/base/strbuf.h"

/* Append the escaped form of in. */
void text_escape(struct strbuf *out, struct span in);
/* A NUL-terminated sentence of ours that may hold foreign bytes; cut at cap. A backslash that is already there
 * stays single: what passes twice reads the same. */
void text_escape_line(char *out, size_t cap, const char *in);
/* Undo text_escape; false when in is not escaped text. */
bool text_unescape(struct strbuf *out, struct span in);
bool text_is_utf8(struct span in);
/* Append in with every invalid byte sequence replaced by U+FFFD, so that it is valid UTF-8. */
void text_to_utf8(struct strbuf *out, struct span in);
/* The length of the valid UTF-8 sequence at the start of in (its code point in *cp), or 0. */
size_t text_utf8_next(struct span in, unsigned *cp);
/* A character that moves, hides or breaks the text around it. */
bool text_is_deceptive(unsigned cp);

/* RFC 3339, UTC, microseconds: 2026-11-24T10:02:11.123456Z. */
void text_rfc3339(struct strbuf *out, long long at_us);
/* A duration that a person can relate to: 412 us, 3.1 ms, 2.4 s, 3 min, 5 h, 12 d. */
void text_duration(struct strbuf *out, long long us);
/* 512 B, 3.4 kB, 120 MB (powers of 1000). */
void text_size(struct strbuf *out, unsigned long long bytes);

#endif
