#include "policyd/request.h"

enum kind { TEXT, NUMBER32, NUMBER64 };

#define ROW(attribute, kind_, member) {attribute, sizeof(attribute) - 1, kind_, offsetof(Event, member)}

/* SMTPD_POLICY_README of Postfix 3.7; "request" and "sender" are looked at apart. */
static const struct row {
	const char *name;
	size_t name_len;
	enum kind kind;
	size_t offset;
} rows[] = {
    ROW("protocol_state", TEXT, stage),
    ROW("protocol_name", TEXT, protocol),
    ROW("client_address", TEXT, client_address),
    ROW("client_name", TEXT, client_name),
    ROW("client_port", NUMBER32, client_port),
    ROW("reverse_client_name", TEXT, client_ptr),
    ROW("server_address", TEXT, server_address),
    ROW("server_port", NUMBER32, server_port),
    ROW("helo_name", TEXT, helo),
    ROW("sender", TEXT, sender),
    ROW("recipient", TEXT, recipient),
    ROW("recipient_count", NUMBER32, recipient_count),
    ROW("queue_id", TEXT, queue_id),
    ROW("instance", TEXT, instance),
    ROW("size", NUMBER64, size),
    ROW("sasl_method", TEXT, sasl_method),
    ROW("sasl_username", TEXT, sasl_username),
    ROW("sasl_sender", TEXT, sasl_sender),
    ROW("ccert_subject", TEXT, ccert_subject),
    ROW("ccert_issuer", TEXT, ccert_issuer),
    ROW("ccert_fingerprint", TEXT, ccert_fingerprint),
    ROW("ccert_pubkey_fingerprint", TEXT, ccert_pubkey_fingerprint),
    ROW("encryption_protocol", TEXT, tls_protocol),
    ROW("encryption_cipher", TEXT, tls_cipher),
    ROW("encryption_keysize", NUMBER32, tls_bits),
    ROW("policy_context", TEXT, policy_context),
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static bool parse_number(struct span text, uint64_t most, uint64_t *out)
{
	uint64_t n = 0;

	if (!text.len)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		unsigned digit = (unsigned)(unsigned char)text.ptr[i] - '0';

		if (digit > 9 || n > (most - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

static void keep_extra(struct request *out, struct span name, struct span value)
{
	Event *event = &out->event;
	Attribute *extra = &out->extra[event->n_attributes];
	const Attribute empty = POSTTRACE__ATTRIBUTE__INIT;

	if (event->n_attributes == REQUEST_EXTRA_MAX) {
		event->truncated = true;
		return;
	}
	*extra = empty;
	extra->name = bytes_of(name);
	extra->value = bytes_of(value);
	out->extra_list[event->n_attributes++] = extra;
}

/* False when the value is not one of this kind. */
static bool set_member(Event *event, const struct row *row, struct span value)
{
	char *member = (char *)event + row->offset;
	uint64_t n = 0;

	switch (row->kind) {
	case TEXT:
		*(Bytes *)(void *)member = bytes_of(value);
		return true;
	case NUMBER32:
		if (!parse_number(value, UINT32_MAX, &n))
			return false;
		*(uint32_t *)(void *)member = (uint32_t)n;
		return true;
	case NUMBER64:
		if (!parse_number(value, UINT64_MAX, &n))
			return false;
		*(uint64_t *)(void *)member = n;
		return true;
	}
	return false;
}

static void take(struct request *out, struct span name, struct span value, uint32_t *seen)
{
	Event *event = &out->event;

	for (size_t i = 0; i < N_ROWS; i++) {
		if (!span_eq(name, span_make(rows[i].name, rows[i].name_len)))
			continue;
		if (*seen & UINT32_C(1) << i) { /* the first one holds */
			event->truncated = true;
			keep_extra(out, name, value);
			return;
		}
		*seen |= UINT32_C(1) << i;
		if (value.len && !set_member(event, &rows[i], value)) {
			event->truncated = true;
			keep_extra(out, name, value);
		}
		return;
	}
	if (value.len && !(span_is(name, "request") && span_is(value, "smtpd_access_policy")))
		keep_extra(out, name, value);
}

/* instance is pid.sec.usec.seq in hex. */
static uint32_t instance_pid(struct span instance)
{
	uint32_t pid = 0;
	size_t i;

	for (i = 0; i < instance.len && i < 8 && instance.ptr[i] != '.'; i++) {
		char c = instance.ptr[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (digit < 0)
			return 0;
		pid = pid << 4 | (uint32_t)digit;
	}
	return i < instance.len && instance.ptr[i] == '.' ? pid : 0;
}

/* Before MAIL the attribute is there as well, and empty. */
static bool has_sender(const Event *event)
{
	struct span stage = span_from(event->stage);

	return event->sender.len || span_is(stage, "MAIL") || span_is(stage, "RCPT") || span_is(stage, "DATA") ||
	       span_is(stage, "BDAT") || span_is(stage, "END-OF-MESSAGE");
}

bool request_parse(struct span text, struct request *out)
{
	struct span rest = text, line;
	uint32_t seen = 0;
	size_t n = 0;

	_Static_assert(N_ROWS <= 32, "seen has a bit for each row");
	out->event = event_make(POSTTRACE__EVENT_TYPE__TRACEPOINT, POSTTRACE__SOURCE__SOURCE_POLICY, 0);
	out->event.attributes = out->extra_list;
	while (span_cut(&rest, '\n', &line)) {
		struct span name = {NULL, 0};
		const char *equals;

		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		equals = line.len ? memchr(line.ptr, '=', line.len) : NULL;
		if (!equals || equals == line.ptr || memchr(line.ptr, '\0', line.len))
			out->event.truncated = true;
		if (!equals)
			continue;
		name = span_head(line, (size_t)(equals - line.ptr));
		take(out, name, span_skip(line, name.len + 1), &seen);
		n++;
	}
	out->event.pid = instance_pid(span_from(out->event.instance));
	out->event.has_sender = n && has_sender(&out->event);
	return n > 0;
}
