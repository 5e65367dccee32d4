#include "shared/model/smtp_event.h"

Event event_make(Posttrace__EventType type, Posttrace__Source source, int64_t at_us)
{
	Event event = POSTTRACE__EVENT__INIT;

	event.type = type;
	event.source = source;
	event.at_us = (uint64_t)at_us;
	return event;
}

void event_encode(const Event *event, struct strbuf *out)
{
	size_t size = posttrace__event__get_packed_size(event);

	if (!strbuf_grow(out, size))
		return;
	posttrace__event__pack(event, (uint8_t *)out->buf + out->len);
	strbuf_setlen(out, out->len + size);
}

Event *event_decode(struct span packed, struct arena *arena)
{
	return posttrace__event__unpack(&arena->allocator, packed.len, (const uint8_t *)packed.ptr);
}

const char *event_type_name(Posttrace__EventType type)
{
	static const char *const names[] = {
	    [POSTTRACE__EVENT_TYPE__LINK_CONNECT] = "link-connect",
	    [POSTTRACE__EVENT_TYPE__LINK_IDENTIFY] = "link-identify",
	    [POSTTRACE__EVENT_TYPE__LINK_TLS] = "link-tls",
	    [POSTTRACE__EVENT_TYPE__LINK_AUTH] = "link-auth",
	    [POSTTRACE__EVENT_TYPE__LINK_LOST] = "link-lost",
	    [POSTTRACE__EVENT_TYPE__LINK_DISCONNECT] = "link-disconnect",
	    [POSTTRACE__EVENT_TYPE__TX_MAIL] = "tx-mail",
	    [POSTTRACE__EVENT_TYPE__TX_RCPT] = "tx-rcpt",
	    [POSTTRACE__EVENT_TYPE__TX_DATA] = "tx-data",
	    [POSTTRACE__EVENT_TYPE__TX_HEADERS] = "tx-headers",
	    [POSTTRACE__EVENT_TYPE__TX_COMMIT] = "tx-commit",
	    [POSTTRACE__EVENT_TYPE__TX_ABORT] = "tx-abort",
	    [POSTTRACE__EVENT_TYPE__TX_QUEUED] = "tx-begin",
	    [POSTTRACE__EVENT_TYPE__TX_REFUSED] = "tx-refused",
	    [POSTTRACE__EVENT_TYPE__TX_MESSAGE_ID] = "tx-message-id",
	    [POSTTRACE__EVENT_TYPE__QUEUE_ACTIVE] = "queue",
	    [POSTTRACE__EVENT_TYPE__PICKUP] = "pickup",
	    [POSTTRACE__EVENT_TYPE__TRACEPOINT] = "tracepoint",
	    [POSTTRACE__EVENT_TYPE__LOG_NOTE] = "log-note",
	    [POSTTRACE__EVENT_TYPE__COMMAND] = "command",
	    [POSTTRACE__EVENT_TYPE__GAP] = "gap",
	    [POSTTRACE__EVENT_TYPE__RUN_START] = "run-start",
	    [POSTTRACE__EVENT_TYPE__RUN_STOP] = "run-stop",
	    [POSTTRACE__EVENT_TYPE__DELIVERY] = "delivery",
	    [POSTTRACE__EVENT_TYPE__QUEUE_REMOVED] = "queue-removed",
	};
	size_t i = (size_t)type;

	return i < sizeof(names) / sizeof(names[0]) && names[i] ? names[i] : "unknown";
}

const char *source_name(Posttrace__Source source)
{
	switch (source) {
	case POSTTRACE__SOURCE__SOURCE_MILTER:
		return "milter";
	case POSTTRACE__SOURCE__SOURCE_POLICY:
		return "policy";
	case POSTTRACE__SOURCE__SOURCE_MAILLOG:
		return "maillog";
	case POSTTRACE__SOURCE__SOURCE_RECORDER:
		return "recorder";
	default:
		return "unknown";
	}
}

const char *outcome_name(Posttrace__Outcome outcome)
{
	switch (outcome) {
	case POSTTRACE__OUTCOME__ACCEPTED:
		return "accepted";
	case POSTTRACE__OUTCOME__REJECTED:
		return "rejected";
	case POSTTRACE__OUTCOME__DEFERRED:
		return "deferred";
	case POSTTRACE__OUTCOME__ABORTED:
		return "aborted";
	case POSTTRACE__OUTCOME__NO_MAIL:
		return "no-mail";
	default:
		return NULL;
	}
}
