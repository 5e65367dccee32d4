/* headers.h - the headers of one message, as far as they are kept.
 *
 * Limits: the names in keep_headers; header_limit bytes of each value; HEADERS_BYTES and HEADERS_MAX in all. What goes
 *         over is cut or left out, and the event says truncated; header_count counts all of them.
 */
#ifndef POSTTRACE_HEADERS_H
#define POSTTRACE_HEADERS_H

#include "shared/model/smtp_event.h"

#define HEADERS_BYTES (256u << 10)
#define HEADERS_MAX   512

struct header_rules {
	struct span keep; /* keep_headers */
	bool subject;     /* record_subject */
	size_t value_limit;
};

struct headers {
	const struct header_rules *rules;
	struct arena arena;
	Attribute **list;
	size_t n_list, n_room;
	uint32_t count;
	bool truncated;
	struct span message_id; /* without <> */
};

void headers_init(struct headers *headers, const struct header_rules *rules);
void headers_fini(struct headers *headers);
void headers_reset(struct headers *headers);
void headers_add(struct headers *headers, struct span name, struct span value);
/* All headers seen since the reset, kept or not. */
uint32_t headers_count(const struct headers *headers);
/* The event points into headers from here on. */
void headers_fill(const struct headers *headers, Event *event);

#endif
