#include "recorder/logline.h"

#include "shared/base/netaddr.h"

#define TYPE(name) POSTTRACE__EVENT_TYPE__##name

/* --- pieces ------------------------------------------------------------------ */

static bool take(struct span *s, struct span prefix)
{
	if (!span_starts(*s, prefix))
		return false;
	*s = span_skip(*s, prefix.len);
	return true;
}

static bool take_end(struct span *s, struct span suffix)
{
	if (s->len < suffix.len || memcmp(s->ptr + s->len - suffix.len, suffix.ptr, suffix.len) != 0)
		return false;
	s->len -= suffix.len;
	return true;
}

static struct span before(struct span s, const char *at)
{
	return span_head(s, (size_t)(at - s.ptr));
}

static struct span from(struct span s, const char *at)
{
	return span_skip(s, (size_t)(at - s.ptr));
}

static const char *find_last(struct span s, struct span needle)
{
	for (size_t i = s.len >= needle.len ? s.len - needle.len + 1 : 0; i-- > 0;)
		if (memcmp(s.ptr + i, needle.ptr, needle.len) == 0)
			return s.ptr + i;
	return NULL;
}

/* What stands before the first sep, which is taken too. */
static bool take_until(struct span *s, struct span sep, struct span *head)
{
	const char *at = span_find(*s, sep);

	if (!at)
		return false;
	*head = before(*s, at);
	*s = from(*s, at + sep.len);
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
}

static struct span take_word(struct span *s)
{
	struct span word = {s->ptr, 0};

	while (word.len < s->len && is_word(s->ptr[word.len]))
		word.len++;
	*s = span_skip(*s, word.len);
	return word;
}

static uint64_t take_number(struct span *s, size_t most)
{
	uint64_t value = 0;
	size_t i = 0;

	for (; i < s->len && i < most && is_digit(s->ptr[i]); i++)
		value = value * 10 + (uint64_t)(s->ptr[i] - '0');
	*s = span_skip(*s, i);
	return value;
}

/* Short: microseconds and inode in upper-case hex. Long: 52 digits without vowels, and the inode, which has no 'z',
 * behind the last 'z'. No word of Postfix's own looks like either. */
static bool is_queue_id(struct span id)
{
	static const char digits52[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
	const char *z;
	bool hex = id.len >= 6 && id.len <= 24, wide = id.len >= 12 && id.len <= 32;

	for (size_t i = 0; i < id.len && (hex || wide); i++) {
		hex = hex && id.ptr[i] && strchr("0123456789ABCDEF", id.ptr[i]);
		wide = wide && id.ptr[i] && strchr(digits52, id.ptr[i]);
	}
	if (hex || !wide)
		return hex;
	z = memrchr(id.ptr, 'z', id.len);
	return z && z - id.ptr >= 10 && (size_t)(z - id.ptr) + 1 < id.len;
}

/* "QUEUEID: " or "NOQUEUE: "; the id of the latter is empty. */
static bool take_queue_id(struct span *s, struct span *id)
{
	struct span rest = *s, word = take_word(&rest);

	if (!take(&rest, SPAN(": ")))
		return false;
	if (span_is(word, "NOQUEUE"))
		word = (struct span){NULL, 0};
	else if (!is_queue_id(word))
		return false;
	*id = word;
	*s = rest;
	return true;
}

/* "name[address]" or, with smtpd_client_port_logging, "name[address]:port". Only sets members on success. */
static bool take_client(struct span *s, Event *event)
{
	struct span rest = *s, name, address, port;
	uint64_t number = 0;

	if (!take_until(&rest, SPAN("["), &name) || !name.len || memchr(name.ptr, ' ', name.len))
		return false;
	if (!take_until(&rest, SPAN("]"), &address) || memchr(address.ptr, ' ', address.len))
		return false;
	if (address.len > 5 && span_eq_nocase(span_head(address, 5), SPAN("IPv6:")))
		address = span_skip(address, 5);
	port = rest;
	if (take(&port, SPAN(":")) && port.len && is_digit(port.ptr[0])) {
		number = take_number(&port, 5);
		rest = port;
	}
	event->client_name = bytes_of(name);
	event->client_address = bytes_of(address);
	event->client_port = (uint32_t)number;
	*s = rest;
	return true;
}

/* An address in "<>", quoted as RFC 5321 has it: a '>' within quotes or behind a backslash does not end it. */
static bool take_path(struct span *s, bool quoted, struct span *path)
{
	bool inside = false;

	if (!s->len || s->ptr[0] != '<')
		return false;
	for (size_t i = 1; i < s->len; i++) {
		char c = s->ptr[i];

		if (quoted && c == '\\') {
			i++;
		} else if (quoted && c == '"') {
			inside = !inside;
		} else if (c == '>' && !inside) {
			*path = span_make(s->ptr + 1, i - 1);
			*s = span_skip(*s, i + 1);
			return true;
		}
	}
	return false;
}

/* "5.7.1" with what follows it being a blank or the end. */
static bool take_dsn(struct span *s, Bytes *dsn)
{
	struct span rest = *s;

	if (!rest.len || !strchr("245", rest.ptr[0]) || !rest.ptr[0])
		return false;
	rest = span_skip(rest, 1);
	for (int part = 0; part < 2; part++) {
		const char *at;

		if (!take(&rest, SPAN(".")))
			return false;
		at = rest.ptr;
		take_number(&rest, 3);
		if (rest.ptr == at)
			return false;
	}
	if (rest.len && rest.ptr[0] != ' ')
		return false;
	*dsn = bytes_of(before(*s, rest.ptr));
	*s = span_skip(rest, 1);
	return true;
}

/* "550 5.1.1 text" -> code, dsn, the rest. */
static struct span take_reply(struct span s, Event *event)
{
	if (s.len >= 3 && strchr("245", s.ptr[0]) && is_digit(s.ptr[0]) && is_digit(s.ptr[1]) && is_digit(s.ptr[2]) &&
	    (s.len == 3 || s.ptr[3] == ' ' || s.ptr[3] == '-')) {
		event->code = (uint32_t)take_number(&s, 3);
		s = span_skip(s, 1);
	}
	take_dsn(&s, &event->dsn);
	return s;
}

static void set_outcome(Event *event)
{
	char class = event->code        ? (char)('0' + event->code / 100)
		     : event->dsn.len ? (char)event->dsn.data[0]
				      : '\0';

	event->outcome = class == '4'   ? POSTTRACE__OUTCOME__DEFERRED
			 : class == '5' ? POSTTRACE__OUTCOME__REJECTED
					: POSTTRACE__OUTCOME__OUTCOME_NONE;
}

static void set_sender(Event *event, struct span sender)
{
	event->sender = bytes_of(sender);
	event->has_sender = true;
}

/* --- the trailer of a verdict: " from=<> to=<> proto=ESMTP helo=<> sasl_…" -------------------------------- */

struct trailer {
	struct span sender, recipient, protocol, helo, sasl_method, sasl_username, sasl_sender, after;
	bool has_sender;
};

/* colon: ": text" may follow, as cleanup writes it. Otherwise the trailer goes to the end of the line. */
static bool parse_trailer(struct span s, bool quoted, bool colon, struct trailer *t)
{
	bool any = false;

	*t = (struct trailer){.has_sender = false};
	if (take(&s, SPAN(" from="))) {
		if (!take_path(&s, quoted, &t->sender))
			return false;
		any = t->has_sender = true;
	}
	if (take(&s, SPAN(" to="))) {
		if (!take_path(&s, quoted, &t->recipient))
			return false;
		any = true;
	}
	if (take(&s, SPAN(" proto="))) {
		t->protocol = take_word(&s);
		any = true;
	}
	if (take(&s, SPAN(" helo=")) && !take_path(&s, false, &t->helo))
		return false;
	if (t->protocol.len && take(&s, SPAN(" sasl_method=")))
		t->sasl_method = take_word(&s);
	if (t->protocol.len && take(&s, SPAN(" sasl_username="))) {
		const char *sender = find_last(s, SPAN(" sasl_sender="));

		t->sasl_username = sender ? before(s, sender) : s;
		if (sender)
			t->sasl_sender = from(s, sender + 13);
		if (t->sasl_username.len > 1 && t->sasl_username.ptr[0] == '<' && take_end(&t->sasl_username, SPAN(">")))
			t->sasl_username = span_skip(t->sasl_username, 1);
		s.len = 0;
	}
	if (colon && any && take(&s, SPAN(": "))) {
		t->after = s;
		s.len = 0;
	}
	return s.len == 0;
}

/* Take the true trailer off s, ';' included; s is what stood before it. */
static void cut_trailer(struct span *s, bool colon, struct trailer *t)
{
	/* with info_log_address_format=internal addresses are not quoted: second best */
	for (int quoted = 1; quoted >= 0; quoted--) {
		/* two addresses and names fit in this; more would be somebody's attempt at our time */
		for (size_t i = s->len, end = i > 8192 ? i - 8192 : 0; i-- > end;) {
			if (s->ptr[i] != ';' || !parse_trailer(span_skip(*s, i + 1), quoted, colon, t))
				continue;
			*s = span_head(*s, i);
			return;
		}
	}
	*t = (struct trailer){.has_sender = false};
}

static void apply_trailer(Event *event, const struct trailer *t)
{
	if (t->has_sender)
		set_sender(event, t->sender);
	event->recipient = bytes_of(t->recipient);
	event->protocol = bytes_of(t->protocol);
	event->helo = bytes_of(t->helo);
	event->sasl_method = bytes_of(t->sasl_method);
	event->sasl_username = bytes_of(t->sasl_username);
	event->sasl_sender = bytes_of(t->sasl_sender);
}

/* --- verdicts of smtpd and cleanup ------------------------------------------- */

static void add_attribute(Event *event, struct arena *arena, const char *name, struct span value)
{
	Attribute **list = arena_alloc(arena, sizeof(*list));
	Attribute *attribute = arena_alloc(arena, sizeof(*attribute));

	if (!list || !attribute) {
		event->truncated = true;
		return;
	}
	posttrace__attribute__init(attribute);
	attribute->name = bytes_of(span_of(name));
	attribute->value = bytes_of(value);
	list[0] = attribute;
	event->attributes = list;
	event->n_attributes = 1;
}

/* "reject", "milter-reject", "proxy-reject", "milter-header-reject" refuse; the others only note. */
static bool is_refusal(struct span action)
{
	return span_is(action, "reject") || take_end(&action, SPAN("-reject"));
}

static bool is_action(struct span action)
{
	static const char *const names[] = {"reject", "reject_warning", "hold", "filter", "redirect", "discard", "warn",
	    "warning", "info", "permit", "prepend", "replace", "bcc", "delay", "pass", "strip", "trace", "header",
	    "proxy-accept", "abort", "permit_trace"};

	if (span_starts(action, SPAN("milter-")) || is_refusal(action))
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (span_is(action, names[i]))
			return true;
	return false;
}

/* cleanup's header_checks and body_checks: "reject: header Subject: x from h[a]; from=<> …: 5.7.1 text". The words of
 * the header are foreign, so the client is looked for from the right. */
static bool content_verdict(struct span s, struct arena *arena, Event *event)
{
	struct span whole = s, class = take_word(&s);
	struct trailer t;
	const char *at;

	if (!take(&s, SPAN(" ")))
		return false;
	cut_trailer(&s, true, &t);
	at = find_last(s, SPAN(" from "));
	if (!at || (!t.protocol.len && !t.has_sender && !t.after.len))
		return false;
	apply_trailer(event, &t);
	event->stage = bytes_of(class);
	add_attribute(event, arena, "content", before(s, at));
	s = from(s, at + 6);
	take_client(&s, event); /* "local" for a local submission */
	if (event->type == TYPE(LOG_NOTE)) {
		event->text = bytes_of(whole);
		return true;
	}
	event->text = bytes_of(take_reply(t.after, event));
	/* smtpd says 550 to every refusal of content that is not temporary */
	if (!event->code && event->client_address.len && event->dsn.len && event->dsn.data[0] == '5')
		event->code = 550;
	return true;
}

/* "ACTION: STAGE from h[a]: 550 5.7.1 text; from=<> …"; proxy-reject has no client. */
static bool verdict(struct span s, bool cleanup, struct arena *arena, Event *event)
{
	struct span whole = s, action = take_word(&s), words;
	struct trailer t;
	bool refusal = is_refusal(action);

	if (!is_action(action) || !take(&s, SPAN(": ")))
		return false;
	event->type = refusal ? TYPE(TX_REFUSED) : TYPE(LOG_NOTE);
	words = s;
	event->stage = bytes_of(take_word(&s));
	if (!event->stage.len)
		return false;
	if (take(&s, SPAN(" from ")) ? !take_client(&s, event) || !take(&s, SPAN(": "))
				     : !span_starts(action, SPAN("proxy-")) || !take(&s, SPAN(": "))) {
		event->stage = (Bytes){0, NULL};
		if (cleanup && content_verdict(words, arena, event)) {
			if (!refusal)
				event->text = bytes_of(whole);
			else
				set_outcome(event);
			return true;
		}
		/* smtpd's verdicts have been like this since Postfix 2: what else there is, is kept as words */
		event->type = TYPE(LOG_NOTE);
		event->text = bytes_of(whole);
		return true;
	}
	cut_trailer(&s, false, &t);
	apply_trailer(event, &t);
	words = take_reply(s, event);
	if (!refusal)
		words = span_make(whole.ptr, (size_t)(s.ptr + s.len - whole.ptr));
	else
		set_outcome(event);
	event->text = bytes_of(words);
	return true;
}

/* --- smtpd ------------------------------------------------------------------- */

/* "client=h[a], sasl_method=, sasl_username=, sasl_sender=, orig_queue_id=, orig_client=": the login may hold
 * anything, so the line is taken apart from its end. */
static void queued(struct span s, Event *event)
{
	static const struct span keys[] = {
	    {", orig_client=", 14}, {", orig_queue_id=", 16}, {", sasl_sender=", 14}, {", sasl_username=", 16}, {", sasl_method=", 14}};
	Bytes *members[] = {
	    &event->orig_client, &event->orig_queue_id, &event->sasl_sender, &event->sasl_username, &event->sasl_method};

	event->type = event->queue_id.len ? TYPE(TX_QUEUED) : TYPE(LOG_NOTE);
	if (!event->queue_id.len)
		event->text = bytes_of(s);
	take(&s, SPAN("client="));
	take_client(&s, event);
	for (size_t i = 0; i < 5; i++) {
		/* the login's own comma cannot stand before its key */
		const char *at = i < 3 ? find_last(s, keys[i]) : span_find(s, keys[i]);

		if (!at)
			continue;
		*members[i] = bytes_of(from(s, at + keys[i].len));
		s = before(s, at);
	}
}

/* "lost connection after DATA (33 bytes) from h[a]" */
static bool lost(struct span s, Event *event)
{
	struct span rest = s;
	const char *at = find_last(s, SPAN(" from "));
	struct span reason, client;

	if (!at || span_starts(s, SPAN("improper ")) || !take_until(&rest, SPAN(" after "), &reason) || reason.len > 40 ||
	    rest.ptr > at || memchr(reason.ptr, ':', reason.len) || memchr(reason.ptr, '[', reason.len))
		return false;
	client = from(s, at + 6);
	if (!take_client(&client, event) || client.len)
		return false;
	event->type = TYPE(LINK_LOST);
	event->stage = bytes_of(take_word(&rest));
	event->text = bytes_of(before(s, at));
	return true;
}

/* "Anonymous TLS connection established from h[a]: TLSv1.3 with cipher X (256/256 bits) …" */
static bool tls_established(struct span s, Event *event)
{
	struct span rest = s, head, protocol, cipher;

	if (!take_until(&rest, SPAN(" TLS connection "), &head) || memchr(head.ptr, ' ', head.len) ||
	    !take_until(&rest, SPAN(" from "), &head) || !take_client(&rest, event))
		return false;
	if (take_until(&rest, SPAN(": "), &head) && take_until(&rest, SPAN(" with cipher "), &protocol) &&
	    take_until(&rest, SPAN(" ("), &cipher)) {
		event->tls_protocol = bytes_of(protocol);
		event->tls_cipher = bytes_of(cipher);
		event->tls_bits = (uint32_t)take_number(&rest, 5);
	}
	event->text = bytes_of(s);
	return true;
}

/* "warning: h[a]: SASL PLAIN authentication failed: reason, sasl_username=joe" */
static void sasl_failure(struct span s, Event *event)
{
	struct span method;
	const char *login;

	if (!take(&s, SPAN(": SASL ")))
		return;
	method = take_word(&s);
	if (!take(&s, SPAN(" authentication ")))
		return;
	event->sasl_method = bytes_of(method);
	login = span_find(s, SPAN(", sasl_username="));
	if (login)
		event->sasl_username = bytes_of(from(s, login + 16));
}

/* Refusals that Postfix words as warnings. */
static bool refused_by_limit(struct span s, Event *event)
{
	if (span_is(s, "queue file size limit exceeded")) {
		event->stage = bytes_of(SPAN("DATA"));
		event->code = 552;
	} else if (span_is(s, "message rejected: hopcount exceeded")) {
		event->stage = bytes_of(SPAN("END-OF-MESSAGE"));
		event->code = 554;
		event->dsn = bytes_of(SPAN("5.4.0"));
	} else if (span_starts(s, SPAN("unreasonable ")) && span_find(s, SPAN("message not accepted"))) {
		event->stage = bytes_of(SPAN("END-OF-MESSAGE"));
		event->outcome = POSTTRACE__OUTCOME__DEFERRED;
	} else {
		return false;
	}
	if (event->code)
		set_outcome(event);
	event->type = TYPE(TX_REFUSED);
	event->text = bytes_of(s);
	return true;
}

/* "warning: …", "error: …": they belong to the process, and through its id to the session that it serves. */
static bool complaint(struct span s, Event *event)
{
	struct span whole = s, id, client;

	if (!take(&s, SPAN("warning: ")) && !take(&s, SPAN("error: ")) && !take(&s, SPAN("fatal: ")) &&
	    !take(&s, SPAN("panic: ")))
		return false;
	event->type = TYPE(LOG_NOTE);
	event->text = bytes_of(whole);
	if (take_queue_id(&s, &id)) {
		event->queue_id = bytes_of(id);
		if (refused_by_limit(s, event))
			return true;
	}
	client = s;
	if (take_client(&client, event))
		sasl_failure(client, event);
	return true;
}

static bool smtpd(struct span s, struct arena *arena, Event *event)
{
	struct span rest = s, id, head;

	if (take(&rest, SPAN("connect from ")) && take_client(&rest, event)) {
		event->type = TYPE(LINK_CONNECT);
		return true;
	}
	rest = s;
	if (take(&rest, SPAN("disconnect from ")) && take_client(&rest, event)) {
		event->type = TYPE(LINK_DISCONNECT);
		event->text = bytes_of(span_trim(rest));
		return true;
	}
	rest = s;
	event->type = TYPE(LOG_NOTE);
	if (take_queue_id(&rest, &id)) {
		event->queue_id = bytes_of(id);
		if (span_starts(rest, SPAN("client=")))
			queued(rest, event);
		else if (!verdict(rest, false, arena, event) && !lost(rest, event))
			event->text = bytes_of(rest);
		return true;
	}
	if (span_starts(s, SPAN("proxy-")))
		return verdict(s, false, arena, event);
	if (complaint(s, event) || lost(s, event) || tls_established(s, event))
		return true;
	/* "SSL_accept error from h[a]: …", "improper command pipelining after X from h[a]: …" */
	rest = s;
	if ((!take(&rest, SPAN("SSL_accept error from ")) && !take(&rest, SPAN("setting up TLS connection from ")) &&
		(!take(&rest, SPAN("improper command pipelining after ")) || !take_until(&rest, SPAN(" from "), &head))) ||
	    !take_client(&rest, event))
		return false;
	event->text = bytes_of(s);
	return true;
}

/* --- the others: each line here starts with a queue id ------------------------- */

static bool message_id(struct span s, Event *event)
{
	const char *end;
	bool resent = take(&s, SPAN("resent-"));

	if (!take(&s, SPAN("message-id=")))
		return false;
	if (s.len && s.ptr[0] == '<' && (end = memchr(s.ptr, '>', s.len)))
		s = before(span_skip(s, 1), end);
	event->type = TYPE(TX_MESSAGE_ID);
	event->message_id = bytes_of(s);
	if (resent)
		event->text = bytes_of(SPAN("resent-message-id"));
	return true;
}

/* "from=<>, size=345, nrcpt=1 (queue active)": from its end, for the sender may hold anything */
static bool queue_active(struct span s, Event *event)
{
	const char *size, *count;
	struct span number;

	if (!take(&s, SPAN("from=<")) || !take_end(&s, SPAN(" (queue active)")))
		return false;
	size = find_last(s, SPAN(">, size="));
	count = find_last(s, SPAN(", nrcpt="));
	if (!size || !count || count < size)
		return false;
	number = from(s, size + 8);
	event->size = take_number(&number, 19);
	number = from(s, count + 8);
	event->recipient_count = (uint32_t)take_number(&number, 9);
	set_sender(event, before(s, size));
	event->type = TYPE(QUEUE_ACTIVE);
	return true;
}

/* "uid=0 from=<root>", newer: " orig_id=…" behind it */
static bool picked_up(struct span s, Event *event)
{
	struct span uid, sender;

	if (!span_starts(s, SPAN("uid=")) || !take_until(&s, SPAN(" from="), &uid) || !take_path(&s, true, &sender))
		return false;
	set_sender(event, sender);
	event->text = bytes_of(uid);
	event->type = TYPE(PICKUP);
	return true;
}

/* "to=<u>, orig_to=<p>, relay=…, delay=…, dsn=2.0.0, status=sent (…)" */
static bool delivered(struct span s, Event *event)
{
	struct span recipient, original, rest, dsn, status;

	if (!take(&s, SPAN("to=")) || (rest = s, !take_path(&rest, true, &recipient)) || !take(&rest, SPAN(", "))) {
		rest = s;
		if (!take_path(&rest, false, &recipient) || !take(&rest, SPAN(", ")))
			return false;
	}
	event->text = bytes_of(rest);
	if (take(&rest, SPAN("orig_to=")) && !take_path(&rest, true, &original))
		return false;
	if (!take_until(&rest, SPAN("dsn="), &original))
		return false;
	if (!take_until(&rest, SPAN(", status="), &dsn) || dsn.len > 12)
		return false;
	event->dsn = bytes_of(dsn);
	status = take_word(&rest);
	event->outcome = span_is(status, "sent") || span_is(status, "deliverable") ? POSTTRACE__OUTCOME__ACCEPTED
			 : span_is(status, "deferred")                             ? POSTTRACE__OUTCOME__DEFERRED
			 : span_is(status, "bounced") || span_is(status, "expired") || span_is(status, "undeliverable")
			     ? POSTTRACE__OUTCOME__REJECTED
			     : POSTTRACE__OUTCOME__OUTCOME_NONE;
	event->recipient = bytes_of(recipient);
	event->type = TYPE(DELIVERY);
	return true;
}

static bool queue_line(struct span program, struct span s, struct arena *arena, Event *event)
{
	struct span id, rest = s;
	bool cleanup = span_is(program, "cleanup"), qmgr = take_end(&program, SPAN("qmgr")); /* also oqmgr, nqmgr */

	if (!take_queue_id(&rest, &id) || !id.len)
		return complaint(s, event) && (cleanup || event->queue_id.len);
	event->queue_id = bytes_of(id);
	if (cleanup && (message_id(rest, event) || verdict(rest, true, arena, event)))
		return true;
	if (qmgr && queue_active(rest, event))
		return true;
	if (qmgr && span_is(rest, "removed")) {
		event->type = TYPE(QUEUE_REMOVED);
		return true;
	}
	if (picked_up(rest, event) || delivered(rest, event))
		return true;
	event->type = TYPE(LOG_NOTE);
	event->text = bytes_of(rest);
	return true;
}

enum status logline_parse(struct logline_clock *clock, struct span line, int64_t reference_us, struct arena *arena,
    struct logline *out)
{
	struct logline_frame frame;
	Event event;
	enum status status = logline_frame(clock, line, reference_us, &frame);

	if (status != STATUS_OK)
		return status;
	event = event_make(TYPE(EVENT_NONE), POSTTRACE__SOURCE__SOURCE_MAILLOG, frame.at_us);
	event.pid = frame.pid;
	event.host = bytes_of(frame.host);
	event.service = bytes_of(frame.service);
	/* postscreen's sessions are not smtpd's: they wait for their own parser */
	if (span_is(frame.program, "postscreen") || span_is(frame.program, "dnsblog"))
		return STATUS_ABSENT;
	if (span_is(frame.program, "smtpd") ? !smtpd(frame.words, arena, &event)
					    : !queue_line(frame.program, frame.words, arena, &event))
		return STATUS_ABSENT;
	out->event = event;
	out->coarse = frame.coarse;
	return STATUS_OK;
}
