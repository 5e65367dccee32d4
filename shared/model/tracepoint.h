/* tracepoint.h - the policy_context of a tracepoint: pt:SERVICE:LIST:POSITION:DIGEST.
 *
 * SERVICE and LIST hold no colon; POSITION counts from 1; DIGEST is the list that was instrumented, as 16 hex digits.
 */
#ifndef POSTTRACE_TRACEPOINT_H
#define POSTTRACE_TRACEPOINT_H

#include <stdint.h>

#include "shared/base/span.h"
#include "shared/base/strbuf.h"

struct tracepoint {
	struct span service; /* "main", "submission" */
	struct span list;    /* "relay", "recipient" */
	unsigned position;
	uint64_t digest;
};

/* False, and *out untouched, when the text is not ours. The spans point into it. */
bool tracepoint_parse(struct span context, struct tracepoint *out);
void tracepoint_format(struct strbuf *out, const struct tracepoint *point);

#endif
