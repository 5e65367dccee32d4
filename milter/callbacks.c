#include "milter/callbacks.h"

#include <arpa/inet.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "milter/headers.h"
#include "milter/macros.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"

/* The one answer to everything: go on. Nothing else is ever returned, save silence where Postfix asked for none. */
#define VERDICT SMFIS_CONTINUE

#define FIELD_LIMIT    4096 /* bytes of one member; more is cut and said to be cut */
#define ARGUMENT_LIMIT 64   /* ESMTP parameters of one command */

struct session {
	uint64_t serial;
	unsigned long steps; /* SMFIP_* bits in force */
	bool in_transaction;
	uint64_t tls, auth; /* digests of the macros last written down */
	uint64_t body_bytes;
	struct headers headers;
};

static struct callbacks_settings settings;
static struct header_rules header_rules;
static struct journal *_Atomic journal;
static atomic_bool stopping;
static atomic_uint inside; /* callbacks that may be using the journal */
static atomic_uint open_transactions;
static atomic_ullong last_serial;
static struct log_limit memory_limit;

static sfsistat answer(const struct session *session, unsigned long no_reply_step)
{
	return session && (session->steps & no_reply_step) ? SMFIS_NOREPLY : VERDICT;
}

static void cut(Event *event, Bytes *field)
{
	if (field->len > FIELD_LIMIT) {
		field->len = FIELD_LIMIT;
		event->truncated = true;
	}
}

static void write_event(Event *event)
{
	struct journal *to;
	Bytes *const fields[] = {&event->client_address, &event->client_name, &event->client_ptr, &event->client_resolve,
	    &event->helo, &event->server_address, &event->daemon_name, &event->host, &event->tls_protocol, &event->tls_cipher,
	    &event->ccert_subject, &event->ccert_issuer, &event->sasl_method, &event->sasl_username, &event->sasl_sender,
	    &event->queue_id, &event->message_id, &event->sender, &event->recipient, &event->dsn, &event->text,
	    &event->transport, &event->next_hop};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		cut(event, fields[i]);
	atomic_fetch_add(&inside, 1);
	to = atomic_load(&journal);
	if (to && !atomic_load(&stopping))
		journal_append(to, event);
	atomic_fetch_sub(&inside, 1);
}

static Event session_event(const struct session *session, Posttrace__EventType type)
{
	Event event = event_make(type, POSTTRACE__SOURCE__SOURCE_MILTER, clock_now_us());

	event.connection = session->serial;
	return event;
}

/* The session of this connection, made when it is new. NULL when there is no memory: then mail goes on unseen. */
static struct session *session_of(SMFICTX *ctx)
{
	struct session *session = smfi_getpriv(ctx);

	if (session)
		return session;
	session = calloc(1, sizeof(*session));
	if (!session || smfi_setpriv(ctx, session) != MI_SUCCESS) {
		free(session);
		log_limited(&memory_limit, LOG_LEVEL_ERROR, "out of memory: a session goes on without being recorded");
		return NULL;
	}
	session->serial = atomic_fetch_add(&last_serial, 1) + 1;
	headers_init(&session->headers, &header_rules);
	return session;
}

static void transaction_begin(struct session *session)
{
	if (!session->in_transaction)
		atomic_fetch_add(&open_transactions, 1);
	session->in_transaction = true;
	session->body_bytes = 0;
	headers_reset(&session->headers);
}

static void transaction_end(struct session *session)
{
	if (session->in_transaction)
		atomic_fetch_sub(&open_transactions, 1);
	session->in_transaction = false;
	headers_reset(&session->headers);
}

/* Without <>. */
static struct span bare_address(const char *argument)
{
	struct span address = span_of(argument);

	if (address.len >= 2 && address.ptr[0] == '<' && address.ptr[address.len - 1] == '>')
		address = span_make(address.ptr + 1, address.len - 2);
	return address;
}

static void take_arguments(Event *event, char **argv, Bytes store[ARGUMENT_LIMIT])
{
	size_t n = 0;

	for (; argv[0] && argv[n + 1] && n < ARGUMENT_LIMIT; n++) {
		store[n] = bytes_of(span_of(argv[n + 1]));
		cut(event, &store[n]);
	}
	if (n == ARGUMENT_LIMIT && argv[n + 1])
		event->truncated = true;
	event->arguments = store;
	event->n_arguments = n;
}

/* Which steps of the protocol to ask for. Answers are left out where that is cheap and safe:
 * - Only for what cleanup sends before the end of message, which is answered. libmilter drops what it has not read yet
 *   when Postfix closes, so with an unanswered CONNECT, MAIL or RCPT a short session would lose its events.
 * - Not over TCP: each unanswered step is one more small segment, and Nagle's algorithm then waits for the delayed
 *   acknowledgement, 44 ms a message. */
static unsigned long want_steps(unsigned long offered)
{
	unsigned long want = SMFIP_RCPT_REJ | SMFIP_NOBODY;

	if (settings.may_skip_replies)
		want |= SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY;
	return want & offered;
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long f2,
    unsigned long f3, unsigned long *want_actions, unsigned long *want, unsigned long *out2, unsigned long *out3)
{
	struct session *session = session_of(ctx);

	(void)f2;
	(void)f3;
	*want_actions = SMFIF_NONE; /* what may not be done can't go wrong */
	*want = session ? want_steps(steps) : 0;
	*out2 = *out3 = 0;
	if (session)
		session->steps = *want;
	if (actions & SMFIF_SETSYMLIST)
		macros_request(ctx);
	return VERDICT;
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
	struct session *session = session_of(ctx);
	Attribute extra[2] = {POSTTRACE__ATTRIBUTE__INIT, POSTTRACE__ATTRIBUTE__INIT}, *list[2];
	char text[INET6_ADDRSTRLEN];
	struct span value;
	Event event;

	if (!session)
		return VERDICT;
	event = session_event(session, POSTTRACE__EVENT_TYPE__LINK_CONNECT);
	macros_fill(ctx, MACRO_LINK, &event);
	if (!event.client_name.len)
		event.client_name = bytes_of(span_of(name));
	if (address && address->sa_family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)address;

		if (!event.client_address.len && inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)))
			event.client_address = bytes_of(span_of(text));
		if (!macro_value(ctx, "{client_port}").ptr)
			event.client_port = ntohs(in->sin_port);
	} else if (address && address->sa_family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)address;

		if (!event.client_address.len && inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text)))
			event.client_address = bytes_of(span_of(text));
		if (!macro_value(ctx, "{client_port}").ptr)
			event.client_port = ntohs(in6->sin6_port);
	}
	/* Postfix plays a session from 127.0.0.1, both ports 0, for mail that came by sendmail(1) or from itself. */
	if (span_is(macro_value(ctx, "{client_port}"), "0") && span_is(macro_value(ctx, "{daemon_port}"), "0"))
		event.client_address = bytes_of(SPAN(""));
	event.attributes = list;
	value = macro_value(ctx, "v");
	if (value.len) {
		extra[event.n_attributes].name = bytes_of(SPAN("mail_version"));
		extra[event.n_attributes].value = bytes_of(value);
		list[event.n_attributes] = &extra[event.n_attributes];
		event.n_attributes++;
	}
	value = macro_value(ctx, "{client_connections}");
	if (value.len) {
		extra[event.n_attributes].name = bytes_of(SPAN("client_connections"));
		extra[event.n_attributes].value = bytes_of(value);
		list[event.n_attributes] = &extra[event.n_attributes];
		event.n_attributes++;
	}
	write_event(&event);
	return VERDICT;
}

/* STARTTLS and AUTH show only in the macros of a later command. */
static void write_link_changes(SMFICTX *ctx, struct session *session, bool with_auth)
{
	uint64_t tls = macros_digest(ctx, MACRO_TLS), auth = with_auth ? macros_digest(ctx, MACRO_AUTH) : session->auth;
	Event event;

	if (tls && tls != session->tls) {
		event = session_event(session, POSTTRACE__EVENT_TYPE__LINK_TLS);
		macros_fill(ctx, MACRO_TLS, &event);
		write_event(&event);
		session->tls = tls;
	}
	if (auth && auth != session->auth) {
		event = session_event(session, POSTTRACE__EVENT_TYPE__LINK_AUTH);
		macros_fill(ctx, MACRO_AUTH, &event);
		write_event(&event);
		session->auth = auth;
	}
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
	struct session *session = session_of(ctx);
	Event event;

	if (!session)
		return VERDICT;
	write_link_changes(ctx, session, false);
	event = session_event(session, POSTTRACE__EVENT_TYPE__LINK_IDENTIFY);
	event.helo = bytes_of(span_of(name));
	macros_fill(ctx, MACRO_TLS, &event);
	write_event(&event);
	return VERDICT;
}

static sfsistat on_mail(SMFICTX *ctx, char **argv)
{
	struct session *session = session_of(ctx);
	Bytes arguments[ARGUMENT_LIMIT];
	Event event;

	if (!session)
		return VERDICT;
	write_link_changes(ctx, session, true);
	transaction_begin(session);
	event = session_event(session, POSTTRACE__EVENT_TYPE__TX_MAIL);
	macros_fill(ctx, MACRO_LINK | MACRO_TLS | MACRO_AUTH | MACRO_QUEUE, &event);
	if (span_is(macro_value(ctx, "{client_port}"), "0") && span_is(macro_value(ctx, "{daemon_port}"), "0"))
		event.client_address = bytes_of(SPAN(""));
	event.has_sender = true;
	event.sender = bytes_of(bare_address(argv[0]));
	take_arguments(&event, argv, arguments);
	for (size_t i = 0; i < event.n_arguments; i++) {
		struct span argument = span_from(event.arguments[i]);

		if (span_eq_nocase(span_head(argument, 5), SPAN("SIZE=")))
			event.size = strtoull(argument.ptr + 5, NULL, 10);
	}
	write_event(&event);
	return VERDICT;
}

static sfsistat on_rcpt(SMFICTX *ctx, char **argv)
{
	struct session *session = session_of(ctx);
	struct span mailer = macro_value(ctx, "{rcpt_mailer}"), host = macro_value(ctx, "{rcpt_host}");
	struct span address = macro_value(ctx, "{rcpt_addr}");
	Attribute resolved = POSTTRACE__ATTRIBUTE__INIT, *list[] = {&resolved};
	Bytes arguments[ARGUMENT_LIMIT];
	Event event;

	if (!session)
		return VERDICT;
	event = session_event(session, POSTTRACE__EVENT_TYPE__TX_RCPT);
	macros_fill(ctx, MACRO_QUEUE, &event);
	event.recipient = bytes_of(bare_address(argv[0]));
	take_arguments(&event, argv, arguments);
	if (span_is(mailer, "error")) {
		event.outcome = host.len && host.ptr[0] == '4' ? POSTTRACE__OUTCOME__DEFERRED : POSTTRACE__OUTCOME__REJECTED;
		event.dsn = bytes_of(host);
		event.text = bytes_of(address);
	} else if (mailer.len || !(session->steps & SMFIP_RCPT_REJ)) {
		event.outcome = POSTTRACE__OUTCOME__ACCEPTED;
		event.transport = bytes_of(mailer);
		event.next_hop = bytes_of(host);
		if (address.len && !span_eq(address, span_from(event.recipient))) {
			resolved.name = bytes_of(SPAN("rcpt_addr"));
			resolved.value = bytes_of(address);
			cut(&event, &resolved.value);
			event.attributes = list;
			event.n_attributes = 1;
		}
	} /* else refused ones are shown too, and nothing says which this is */
	write_event(&event);
	return VERDICT;
}

static sfsistat on_data(SMFICTX *ctx)
{
	struct session *session = session_of(ctx);
	Event event;

	if (!session)
		return VERDICT;
	/* {rcpt_*} are here too, but those of the last RCPT, refused or not: they say nothing about the message. */
	event = session_event(session, POSTTRACE__EVENT_TYPE__TX_DATA);
	macros_fill(ctx, MACRO_QUEUE, &event);
	write_event(&event);
	return VERDICT;
}

static sfsistat on_unknown(SMFICTX *ctx, const char *command)
{
	struct session *session = session_of(ctx);
	Event event;

	if (!session)
		return VERDICT;
	event = session_event(session, POSTTRACE__EVENT_TYPE__COMMAND);
	event.text = bytes_of(span_of(command));
	write_event(&event);
	return VERDICT;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
	struct session *session = session_of(ctx);

	if (session)
		headers_add(&session->headers, span_of(name), span_of(value));
	return answer(session, SMFIP_NR_HDR);
}

static void write_headers(SMFICTX *ctx, struct session *session, bool cut_short)
{
	Event event = session_event(session, POSTTRACE__EVENT_TYPE__TX_HEADERS);

	macros_fill(ctx, MACRO_QUEUE, &event);
	headers_fill(&session->headers, &event);
	event.truncated |= cut_short;
	write_event(&event);
	headers_reset(&session->headers);
}

static sfsistat on_eoh(SMFICTX *ctx)
{
	struct session *session = session_of(ctx);

	if (session)
		write_headers(ctx, session, false);
	return answer(session, SMFIP_NR_EOH);
}

/* Not asked for; an MTA that can't leave it out tells the size this way. */
static sfsistat on_body(SMFICTX *ctx, unsigned char *data, size_t len)
{
	struct session *session = session_of(ctx);

	(void)data;
	if (session)
		session->body_bytes += len;
	return answer(session, SMFIP_NR_BODY);
}

static sfsistat on_eom(SMFICTX *ctx)
{
	struct session *session = session_of(ctx);
	Event event;

	if (!session)
		return VERDICT;
	if (headers_count(&session->headers))
		write_headers(ctx, session, true);
	event = session_event(session, POSTTRACE__EVENT_TYPE__TX_COMMIT);
	macros_fill(ctx, MACRO_QUEUE, &event);
	event.body_bytes = session->body_bytes;
	write_event(&event);
	transaction_end(session);
	return VERDICT;
}

static sfsistat on_abort(SMFICTX *ctx)
{
	struct session *session = smfi_getpriv(ctx);
	Event event;

	/* libmilter also calls this for an ABORT outside of a transaction. */
	if (!session || !session->in_transaction)
		return VERDICT;
	if (headers_count(&session->headers))
		write_headers(ctx, session, true);
	event = session_event(session, POSTTRACE__EVENT_TYPE__TX_ABORT);
	macros_fill(ctx, MACRO_QUEUE, &event);
	write_event(&event);
	transaction_end(session);
	return VERDICT;
}

/* May be the only callback of a connection; for one that timed out it runs under libmilter's pool lock. */
static sfsistat on_close(SMFICTX *ctx)
{
	struct session *session = smfi_getpriv(ctx);
	Event event;

	if (!session)
		return VERDICT;
	if (headers_count(&session->headers))
		write_headers(ctx, session, true);
	event = session_event(session, POSTTRACE__EVENT_TYPE__LINK_DISCONNECT);
	write_event(&event);
	transaction_end(session);
	headers_fini(&session->headers);
	free(session);
	smfi_setpriv(ctx, NULL);
	return VERDICT;
}

struct smfiDesc callbacks_start(const struct callbacks_settings *with)
{
	settings = *with;
	header_rules = (struct header_rules){
	    .keep = span_of(settings.config->keep_headers),
	    .subject = settings.config->record_subject,
	    .value_limit = settings.config->header_limit,
	};
	return (struct smfiDesc){
	    .xxfi_name = (char *)(uintptr_t) "posttrace",
	    .xxfi_version = SMFI_VERSION,
	    .xxfi_flags = SMFIF_NONE,
	    .xxfi_connect = on_connect,
	    .xxfi_helo = on_helo,
	    .xxfi_envfrom = on_mail,
	    .xxfi_envrcpt = on_rcpt,
	    .xxfi_header = on_header,
	    .xxfi_eoh = on_eoh,
	    .xxfi_body = on_body,
	    .xxfi_eom = on_eom,
	    .xxfi_abort = on_abort,
	    .xxfi_close = on_close,
	    .xxfi_unknown = on_unknown,
	    .xxfi_data = on_data,
	    .xxfi_negotiate = on_negotiate,
	};
}

void callbacks_set_journal(struct journal *to)
{
	atomic_store(&journal, to);
}

unsigned callbacks_open_transactions(void)
{
	return atomic_load(&open_transactions);
}

void callbacks_stop(void)
{
	atomic_store(&stopping, true);
	while (atomic_load(&inside)) /* each is one write(2) long */
		sched_yield();
}
