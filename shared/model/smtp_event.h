/* smtp_event.h - the one vocabulary of all witnesses.
 *
 * An event is the protobuf-c struct Posttrace__Event of record.proto. Its byte members point into memory of whoever
 * fills it in (a request, a log line, an arena); nothing is copied until it is packed.
 */
#ifndef POSTTRACE_SMTP_EVENT_H
#define POSTTRACE_SMTP_EVENT_H

#include "record.pb-c.h"
#include "shared/base/arena.h"
#include "shared/base/span.h"
#include "shared/base/status.h"
#include "shared/base/strbuf.h"

typedef Posttrace__Event Event;
typedef Posttrace__Attribute Attribute;
typedef Posttrace__Transaction Transaction;
typedef Posttrace__Recipient Recipient;
typedef ProtobufCBinaryData Bytes;

/* A span as protobuf-c wants it, and back. */
static inline Bytes bytes_of(struct span span)
{
	return (Bytes){span.len, (uint8_t *)(uintptr_t)span.ptr};
}

static inline struct span span_from(Bytes bytes)
{
	return span_make(bytes.data, bytes.len);
}

/* An event of this type, source and time with nothing else set. */
Event event_make(Posttrace__EventType type, Posttrace__Source source, int64_t at_us);

/* Append the packed form to out. */
void event_encode(const Event *event, struct strbuf *out);
/* NULL when the bytes are no event or the arena is full. Lives in the arena. */
Event *event_decode(struct span packed, struct arena *arena);

/* "tx-rcpt", "link-connect": the names promised in JSON. */
const char *event_type_name(Posttrace__EventType type);
/* "milter", "policy", "maillog", "recorder". */
const char *source_name(Posttrace__Source source);
/* "accepted", "rejected", …; NULL for OUTCOME_NONE. */
const char *outcome_name(Posttrace__Outcome outcome);

#endif
