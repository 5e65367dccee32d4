/* request.h - the attribute list of one policy request -> an event of type TRACEPOINT. Pure.
 *
 * Every attribute of Postfix 3.x has its member; the rest, and those of later releases, are kept by name in
 * event.attributes. Empty values are Postfix's way to say "not known" and are left out. What should not be there (a
 * line without '=', an empty name, a NUL, an attribute twice, a number that is none, too many unknown ones) does no
 * harm and marks the event as truncated.
 */
#ifndef POSTTRACE_REQUEST_H
#define POSTTRACE_REQUEST_H

#include "shared/model/smtp_event.h"

#define REQUEST_EXTRA_MAX 64

/* Where a parsed request lives; used again for the next one, so nothing is allocated. */
struct request {
	Event event; /* points into the text and into this struct */
	Attribute extra[REQUEST_EXTRA_MAX];
	Attribute *extra_list[REQUEST_EXTRA_MAX];
};

/* text: the lines of one request, without the empty one that ends it. Sets no time and no connection. False when it
 * holds no attribute at all. */
bool request_parse(struct span text, struct request *out);

#endif
