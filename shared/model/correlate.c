#include "shared/model/correlate.h"

#include <stdio.h>
#include <stdlib.h>

#include "shared/base/clock.h"
#include "shared/base/hash.h"
#include "shared/model/session.h"

#define SESSIONS_MAX  100000
#define SESSION_BYTES (1u << 20)
#define PENDING_MAX   256
/* How long a session that is over waits for lines that come late, and how long one may be silent. */
#define LINGER_US     (5 * US_PER_SEC)
#define SILENCE_US    (2 * 3600 * US_PER_SEC)
#define COARSE_US     US_PER_SEC

#define MILTER  POSTTRACE__SOURCE__SOURCE_MILTER
#define POLICY  POSTTRACE__SOURCE__SOURCE_POLICY
#define MAILLOG POSTTRACE__SOURCE__SOURCE_MAILLOG

struct correlate *correlate_new(const struct correlate_sink *sink)
{
	struct correlate *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->sink = *sink;
	c->next_key = (uint64_t)clock_now_us(); /* above the keys of every earlier run */
	TAILQ_INIT(&c->sessions);
	TAILQ_INIT(&c->dirty);
	return c;
}

size_t correlate_open(const struct correlate *c)
{
	return c->n_sessions;
}

void correlate_set_configuration(struct correlate *c, uint64_t digest)
{
	c->configuration = digest;
}

/* --- sessions ---------------------------------------------------------- */

struct session *session_new(struct correlate *c, int64_t at_us)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	arena_init(&s->arena, SESSION_BYTES);
	s->link = event_make(POSTTRACE__EVENT_TYPE__LINK_CONNECT, POSTTRACE__SOURCE__SOURCE_NONE, at_us);
	s->key = c->next_key++;
	s->begun_us = s->last_us = at_us;
	TAILQ_INIT(&s->txs);
	TAILQ_INSERT_TAIL(&c->sessions, s, entry);
	c->n_sessions++;
	return s;
}

void session_set_connection(struct correlate *c, struct session *s, uint64_t run, uint64_t connection)
{
	s->run = run;
	s->connection = connection;
	HASH_ADD(by_connection, c->by_connection, run, sizeof(s->run) + sizeof(s->connection), s);
	s->by_connection_in = true;
}

static struct session *find_connection(struct correlate *c, uint64_t run, uint64_t connection)
{
	struct session want, *s;

	want.run = run;
	want.connection = connection;
	HASH_FIND(by_connection, c->by_connection, &want.run, sizeof(want.run) + sizeof(want.connection), s);
	return s;
}

/* Client address and port in one key; empty when either is missing (a local submission has no port). */
static struct span peer_key(const Event *event, char *buf, size_t cap)
{
	size_t len = event->client_address.len;

	if (!len || !event->client_port || len + 3 > cap)
		return (struct span){NULL, 0};
	memcpy(buf, event->client_address.data, len);
	buf[len] = '\0';
	buf[len + 1] = (char)(event->client_port >> 8);
	buf[len + 2] = (char)event->client_port;
	return span_make(buf, len + 3);
}

/* The newest session of a client port owns it: ports are used again. */
void session_set_peer(struct correlate *c, struct session *s, struct span key)
{
	struct session *old;

	if (!key.len || s->by_peer_in)
		return;
	HASH_FIND(by_peer, c->by_peer, key.ptr, key.len, old);
	if (old) {
		HASH_DELETE(by_peer, c->by_peer, old);
		old->by_peer_in = false;
	}
	s->peer = arena_span(&s->arena, key);
	if (!s->peer.ptr)
		return;
	HASH_ADD_KEYPTR(by_peer, c->by_peer, s->peer.ptr, s->peer.len, s);
	s->by_peer_in = true;
}

static struct session *find_peer(struct correlate *c, struct span key)
{
	struct session *s = NULL;

	if (key.len)
		HASH_FIND(by_peer, c->by_peer, key.ptr, key.len, s);
	return s;
}

static void keep(struct session *s, Bytes *field, Bytes src, bool replace)
{
	struct span copy;

	if (!src.len || (field->len && !replace) || span_eq(span_from(*field), span_from(src)))
		return;
	copy = arena_span(&s->arena, span_from(src));
	if (copy.ptr)
		*field = bytes_of(copy);
}

/* Session facts: the first witness to say a thing wins, except that HELO, TLS and AUTH change in a session. */
static void learn_link(struct session *s, const Event *e)
{
	Event *link = &s->link;

	keep(s, &link->client_address, e->client_address, false);
	keep(s, &link->client_name, e->client_name, false);
	keep(s, &link->client_ptr, e->client_ptr, false);
	keep(s, &link->client_resolve, e->client_resolve, false);
	keep(s, &link->server_address, e->server_address, false);
	keep(s, &link->daemon_name, e->daemon_name, false);
	keep(s, &link->service, e->service, false);
	keep(s, &link->protocol, e->protocol, true);
	keep(s, &link->helo, e->helo, e->source != MAILLOG);
	keep(s, &link->tls_protocol, e->tls_protocol, true);
	keep(s, &link->tls_cipher, e->tls_cipher, true);
	keep(s, &link->sasl_method, e->sasl_method, true);
	keep(s, &link->sasl_username, e->sasl_username, true);
	keep(s, &link->sasl_sender, e->sasl_sender, true);
	keep(s, &link->orig_client, e->orig_client, true);
	if (!link->client_port)
		link->client_port = e->client_port;
	if (!link->server_port)
		link->server_port = e->server_port;
	if (e->tls_bits)
		link->tls_bits = e->tls_bits;
	s->changed = true;
	s->sources |= 1u << e->source;
	if (!s->pid && e->pid && e->source != MILTER)
		s->pid = e->pid;
	if ((int64_t)e->at_us > s->last_us)
		s->last_us = (int64_t)e->at_us;
}

/* --- transactions ------------------------------------------------------ */

static void make_dirty(struct correlate *c, struct tx *tx)
{
	tx->session->changed = true;
	if (tx->dirty)
		return;
	tx->dirty = true;
	TAILQ_INSERT_TAIL(&c->dirty, tx, dirty_entry);
}

static void copy_link(struct tx *tx, const struct session *s)
{
	const Event *link = &s->link;
	Transaction *rec = &tx->rec;

	tx_keep_address(tx, &rec->client_address, link->client_address);
	tx_keep_address(tx, &rec->server_address, link->server_address);
	tx_keep(tx, &rec->client_name, link->client_name);
	tx_keep(tx, &rec->client_ptr, link->client_ptr);
	tx_keep(tx, &rec->client_resolve, link->client_resolve);
	tx_keep(tx, &rec->daemon_name, link->daemon_name);
	tx_keep(tx, &rec->service, link->service);
	tx_keep(tx, &rec->protocol, link->protocol);
	tx_keep(tx, &rec->helo, link->helo);
	tx_keep(tx, &rec->tls_protocol, link->tls_protocol);
	tx_keep(tx, &rec->tls_cipher, link->tls_cipher);
	tx_keep(tx, &rec->sasl_method, link->sasl_method);
	tx_keep(tx, &rec->sasl_username, link->sasl_username);
	tx_keep(tx, &rec->sasl_sender, link->sasl_sender);
	tx_keep(tx, &rec->orig_client, link->orig_client);
	if (!rec->client_port)
		rec->client_port = link->client_port;
	if (!rec->server_port)
		rec->server_port = link->server_port;
	if (!rec->tls_bits)
		rec->tls_bits = link->tls_bits;
	if (!rec->pid)
		rec->pid = s->pid;
}

static struct tx *begin_tx(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = tx_new((int64_t)e->at_us);

	if (!tx)
		return NULL;
	tx->session = s;
	tx->start_coarse = coarse;
	tx->rec.ordinal = ++s->n_txs;
	tx->rec.session_us = s->begun_us - tx->start_us;
	tx->rec.configuration = c->configuration;
	for (unsigned i = 0; i < s->n_steps; i++)
		tx_step(tx, (Posttrace__EventType)s->steps[i].type, (Posttrace__Source)s->steps[i].source, s->steps[i].at_us, -1);
	s->n_steps = 0;
	copy_link(tx, s);
	TAILQ_INSERT_TAIL(&s->txs, tx, entry);
	make_dirty(c, tx);
	return tx;
}

void session_set_queue_id(struct correlate *c, struct tx *tx, Bytes queue_id)
{
	struct tx *old;

	if (!queue_id.len || tx->hashed)
		return;
	tx_keep(tx, &tx->rec.queue_id, queue_id);
	if (!tx->rec.queue_id.len)
		return;
	HASH_FIND(by_queue_id, c->by_queue_id, queue_id.data, queue_id.len, old);
	if (old) { /* a short id used again; the newest owns it */
		HASH_DELETE(by_queue_id, c->by_queue_id, old);
		old->hashed = false;
	}
	HASH_ADD_KEYPTR(by_queue_id, c->by_queue_id, tx->rec.queue_id.data, tx->rec.queue_id.len, tx);
	tx->hashed = true;
}

static struct tx *find_queue_id(struct correlate *c, Bytes queue_id)
{
	struct tx *tx = NULL;

	if (queue_id.len)
		HASH_FIND(by_queue_id, c->by_queue_id, queue_id.data, queue_id.len, tx);
	return tx;
}

static void learn_sender(struct tx *tx, const Event *e)
{
	if (!e->has_sender)
		return;
	if (!tx->rec.has_sender || e->source == MILTER)
		tx_replace(tx, &tx->rec.sender, e->sender);
	tx->rec.has_sender = true;
}

static bool same_sender(const struct tx *tx, const Event *e)
{
	return !e->has_sender || !tx->rec.has_sender || span_eq_nocase(span_from(tx->rec.sender), span_from(e->sender));
}

static void touch(struct correlate *c, struct tx *tx, const Event *e, long recipient)
{
	tx->rec.sources |= 1u << e->source;
	tx_step(tx, e->type, e->source, (int64_t)e->at_us, recipient);
	copy_link(tx, tx->session);
	tx_settle(tx);
	make_dirty(c, tx);
	if (c->sink.notice)
		c->sink.notice(c->sink.arg, e->type, (int64_t)e->at_us, tx);
}

static void free_tx(struct correlate *c, struct tx *tx)
{
	if (tx->hashed)
		HASH_DELETE(by_queue_id, c->by_queue_id, tx);
	if (tx->dirty)
		TAILQ_REMOVE(&c->dirty, tx, dirty_entry);
	TAILQ_REMOVE(&tx->session->txs, tx, entry);
	if (tx->session->milter_tx == tx)
		tx->session->milter_tx = NULL;
	if (tx->session->log_tx == tx)
		tx->session->log_tx = NULL;
	tx_free(tx);
}

static void session_step(struct session *s, const Event *e)
{
	if (s->n_steps == sizeof(s->steps) / sizeof(s->steps[0]))
		return;
	s->steps[s->n_steps].type = (uint8_t)e->type;
	s->steps[s->n_steps].source = (uint8_t)e->source;
	s->steps[s->n_steps++].at_us = (int64_t)e->at_us;
}

/* A session that ends without a transaction is worth a record too. */
static void settle_empty(struct correlate *c, struct session *s, const Event *e)
{
	struct tx *tx;

	if (s->n_txs)
		return;
	tx = begin_tx(c, s, e, false);
	if (!tx)
		return;
	tx->rec.ordinal = 0;
	tx->rec.sources = s->sources;
	/* it began when the session did */
	for (size_t i = 0; i < tx->rec.n_step_at_us; i++)
		tx->rec.step_at_us[i] += tx->start_us - s->begun_us;
	tx->start_us = s->begun_us;
	tx->rec.session_us = 0;
	tx->milter_over = s->connection != 0;
	tx->log_over = s->log_linked;
	tx_settle(tx);
}

/* --- the milter's view ------------------------------------------------- */

static long match_recipient(const struct tx *tx, Bytes address, Posttrace__Source not_yet)
{
	for (size_t i = 0; i < tx->rec.n_recipients; i++)
		if (!tx_seen_by(tx->rec.recipients[i]->sources, not_yet) &&
		    span_eq_nocase(span_from(tx->rec.recipients[i]->address), span_from(address)))
			return (long)i;
	return -1;
}

static void milter_recipient(struct correlate *c, struct tx *tx, const Event *e)
{
	long i = match_recipient(tx, e->recipient, MILTER);
	Recipient *r;

	if (i < 0)
		i = tx_add_recipient(tx, e->recipient);
	if (i >= 0) {
		r = tx->rec.recipients[i];
		r->sources |= 1u << MILTER;
		r->outcome = e->outcome;
		r->certainty = POSTTRACE__CERTAINTY__CERTAIN;
		tx_keep(tx, &r->dsn, e->dsn);
		tx_keep(tx, &r->text, e->text);
		tx_keep(tx, &r->transport, e->transport);
		tx_keep(tx, &r->next_hop, e->next_hop);
	}
	touch(c, tx, e, i);
}

/* The policy service may have been asked at MAIL or before we read the milter's MAIL: the same transaction. */
static struct tx *adopt_policy_tx(struct session *s, const Event *e)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry)
		if (!tx_seen_by(tx->rec.sources, MILTER) && tx_seen_by(tx->rec.sources, POLICY) && same_sender(tx, e) &&
		    tx->start_us <= (int64_t)e->at_us)
			return tx;
	return NULL;
}

static struct session *milter_session(struct correlate *c, const Event *e, uint64_t run)
{
	struct session *s = find_connection(c, run, e->connection);
	char buf[128];
	struct span key;

	if (s)
		return s;
	key = peer_key(e, buf, sizeof(buf));
	s = find_peer(c, key);
	if (!s || s->connection || s->closed_us)
		s = session_new(c, (int64_t)e->at_us);
	if (!s)
		return NULL;
	session_set_connection(c, s, run, e->connection);
	session_set_peer(c, s, key);
	s->milter_open = true;
	return s;
}

static void milter_tx_event(struct correlate *c, struct session *s, const Event *e)
{
	struct tx *tx = s->milter_tx;

	if (!tx) {
		tx = e->type == POSTTRACE__EVENT_TYPE__TX_MAIL ? adopt_policy_tx(s, e) : NULL;
		if (!tx)
			tx = begin_tx(c, s, e, false);
		if (!tx)
			return;
		s->milter_tx = tx;
	}
	learn_sender(tx, e);
	session_set_queue_id(c, tx, e->queue_id);
	if (e->truncated)
		tx->rec.truncated = true;
	if (e->size && !tx->rec.size)
		tx->rec.size = e->size;
	switch (e->type) {
	case POSTTRACE__EVENT_TYPE__TX_RCPT:
		milter_recipient(c, tx, e);
		return;
	case POSTTRACE__EVENT_TYPE__TX_HEADERS:
		tx_set_headers(tx, e);
		tx_keep(tx, &tx->rec.message_id, e->message_id);
		break;
	case POSTTRACE__EVENT_TYPE__TX_COMMIT:
		tx->rec.committed = true;
		tx->rec.body_bytes = e->body_bytes;
		tx->milter_over = true;
		s->milter_tx = NULL;
		break;
	case POSTTRACE__EVENT_TYPE__TX_ABORT:
		tx->rec.aborted = true;
		tx->milter_over = true;
		s->milter_tx = NULL;
		break;
	default:
		break;
	}
	touch(c, tx, e, -1);
}

static void end_milter_view(struct correlate *c, struct session *s, const Event *e, bool cut)
{
	s->milter_open = false;
	if (s->milter_tx) {
		s->milter_tx->milter_over = true;
		if (cut)
			s->milter_tx->rec.cut_sources |= 1u << MILTER;
		tx_settle(s->milter_tx);
		make_dirty(c, s->milter_tx);
		s->milter_tx = NULL;
	}
	if (cut)
		s->cut_sources |= 1u << MILTER;
	if (!s->log_open) {
		s->closed_us = (int64_t)e->at_us;
		settle_empty(c, s, e);
	}
}

static void on_milter(struct correlate *c, const Event *e, uint64_t run)
{
	struct session *s = milter_session(c, e, run);

	if (!s)
		return;
	learn_link(s, e);
	switch (e->type) {
	case POSTTRACE__EVENT_TYPE__LINK_CONNECT:
		s->begun_us = (int64_t)e->at_us < s->begun_us ? (int64_t)e->at_us : s->begun_us;
		session_step(s, e);
		break;
	case POSTTRACE__EVENT_TYPE__LINK_IDENTIFY:
	case POSTTRACE__EVENT_TYPE__LINK_TLS:
	case POSTTRACE__EVENT_TYPE__LINK_AUTH:
	case POSTTRACE__EVENT_TYPE__COMMAND:
		if (s->milter_tx)
			touch(c, s->milter_tx, e, -1);
		else
			session_step(s, e);
		break;
	case POSTTRACE__EVENT_TYPE__LINK_DISCONNECT:
		end_milter_view(c, s, e, false);
		break;
	default:
		milter_tx_event(c, s, e);
	}
}

/* --- the policy service's view ----------------------------------------- */

static struct session *policy_session(struct correlate *c, const Event *e)
{
	char buf[128];
	struct span key = peer_key(e, buf, sizeof(buf));
	struct session *s = find_peer(c, key);

	/* a port that is used again by another process, or after the end: another session */
	if (s && ((s->closed_us && s->closed_us < (int64_t)e->at_us) || (s->policy_seen && e->pid && s->pid && s->pid != e->pid)))
		s = NULL;
	if (s)
		return s;
	s = session_new(c, (int64_t)e->at_us);
	if (s)
		session_set_peer(c, s, key);
	return s;
}

static struct tx *policy_tx(struct correlate *c, struct session *s, const Event *e)
{
	struct tx *tx, *best = NULL;

	TAILQ_FOREACH(tx, &s->txs, entry)
		if (tx->rec.instance.len && span_eq(span_from(tx->rec.instance), span_from(e->instance)))
			return tx;
	/* The milter's transaction that was going on at that time. */
	TAILQ_FOREACH(tx, &s->txs, entry)
		if (!tx->rec.instance.len && tx_seen_by(tx->rec.sources, MILTER) && tx->start_us <= (int64_t)e->at_us &&
		    same_sender(tx, e))
			best = tx;
	if (!best)
		best = begin_tx(c, s, e, false);
	if (best)
		tx_keep(best, &best->rec.instance, e->instance);
	return best;
}

static void policy_recipient(struct correlate *c, struct tx *tx, const Event *e)
{
	long i, found = -1;

	for (i = (long)tx->rec.n_recipients - 1; i >= 0; i--)
		if (span_eq_nocase(span_from(tx->rec.recipients[i]->address), span_from(e->recipient)) && !tx_has_hit(tx, e, i))
			found = i; /* the oldest that has not passed this tracepoint */
	if (found < 0)
		found = tx_add_recipient(tx, e->recipient);
	if (found >= 0) {
		tx->rec.recipients[found]->sources |= 1u << POLICY;
		tx_add_hit(tx, e, found);
	}
	touch(c, tx, e, found);
}

static void on_policy(struct correlate *c, const Event *e)
{
	struct session *s = policy_session(c, e);
	struct tx *tx;

	if (!s)
		return;
	learn_link(s, e);
	s->policy_seen = true;
	if (!e->instance.len) { /* before MAIL */
		session_step(s, e);
		return;
	}
	tx = policy_tx(c, s, e);
	if (!tx)
		return;
	learn_sender(tx, e);
	session_set_queue_id(c, tx, e->queue_id);
	tx_add_attributes(tx, e);
	if (e->size && !tx->rec.size)
		tx->rec.size = e->size;
	if (span_is(span_from(e->stage), "RCPT")) {
		policy_recipient(c, tx, e);
		return;
	}
	tx_add_hit(tx, e, -1);
	touch(c, tx, e, -1);
}

/* --- the log's view ---------------------------------------------------- */

static uint64_t pid_key(const Event *e)
{
	return (uint64_t)e->pid << 32 | (uint32_t)hash_bytes(span_from(e->host));
}

static void free_view(struct correlate *c, struct log_view *view)
{
	HASH_DELETE(by_pid, c->by_pid, view);
	if (view->stored)
		correlate_drop_state(c, view->key);
	arena_fini(&view->arena);
	free(view);
}

static void log_to_session(struct correlate *c, struct session *s, const Event *e, bool coarse);

static void link_view(struct correlate *c, struct log_view *view, struct session *s)
{
	view->session = s;
	s->log_linked = s->log_open = true;
	s->closed_us = 0;
	for (size_t i = 0; i < view->n_pending; i++)
		log_to_session(c, s, view->pending[i], view->coarse);
	view->n_pending = 0;
	view->pending = NULL;
	view->address = (struct span){NULL, 0};
	arena_reset(&view->arena);
	if (view->stored)
		correlate_drop_state(c, view->key);
	view->stored = view->changed = false;
	s->changed = true;
}

/* Could the view and the session be the same one? */
static bool may_be(const struct log_view *view, const struct session *s, const Event *e)
{
	int64_t slack = view->coarse ? COARSE_US + US_PER_SEC / 2 : US_PER_SEC / 2;

	if (s->log_linked || (s->policy_seen && s->pid && e->pid && s->pid != e->pid))
		return false;
	if (view->address.len && s->link.client_address.len && !span_eq(view->address, span_from(s->link.client_address)))
		return false;
	/* it began while the log has it open, and was not over before that */
	return s->begun_us + slack >= view->connect_us && s->begun_us <= (int64_t)e->at_us + slack &&
	       (!s->closed_us || s->closed_us + slack >= view->connect_us);
}

/* A recipient of the session that the hooks saw refused (or did not see decided), as this line has it. */
static long refused_match(const struct tx *tx, const Event *e)
{
	if (!same_sender(tx, e))
		return -1;
	for (size_t i = 0; i < tx->rec.n_recipients; i++) {
		const Recipient *r = tx->rec.recipients[i];

		if (!tx_seen_by(r->sources, MAILLOG) && r->outcome != POSTTRACE__OUTCOME__ACCEPTED &&
		    (!r->dsn.len || span_eq(span_from(r->dsn), span_from(e->dsn))) &&
		    span_eq_nocase(span_from(r->address), span_from(e->recipient)))
			return (long)i;
	}
	return -1;
}

static bool session_has_refused(const struct session *s, const Event *e)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry)
		if (refused_match(tx, e) >= 0)
			return true;
	return false;
}

static bool session_has_sender(const struct session *s, const Event *e)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry)
		if (tx->rec.has_sender && !tx->log_begun && same_sender(tx, e) &&
		    (!tx->rec.queue_id.len || span_eq(span_from(tx->rec.queue_id), span_from(e->queue_id))))
			return true;
	return false;
}

/* Which session do these lines belong to? Only evidence counts: a queue id, a client port, a refused recipient, or the
 * process id together with the sender. */
static struct session *find_for_view(struct correlate *c, struct log_view *view, const Event *e)
{
	struct tx *tx = find_queue_id(c, e->queue_id);
	struct session *s, *best = NULL;

	if (tx && may_be(view, tx->session, e))
		return tx->session;
	if (e->type == POSTTRACE__EVENT_TYPE__TX_REFUSED && e->recipient.len) {
		TAILQ_FOREACH(s, &c->sessions, entry)
			if (may_be(view, s, e) && session_has_refused(s, e)) {
				if (s->pid && s->pid == e->pid)
					return s;
				if (!best)
					best = s;
			}
		if (best)
			return best;
	}
	if (e->type == POSTTRACE__EVENT_TYPE__TX_REFUSED)
		TAILQ_FOREACH(s, &c->sessions, entry)
			if (may_be(view, s, e) && s->pid && s->pid == e->pid && e->has_sender && session_has_sender(s, e))
				return s;
	return NULL;
}

/* How well a session that the hooks saw fits a log view that ends without other evidence. */
struct counts {
	unsigned mail, rcpt, rcpt_ok;
};

static struct counts count_commands(const struct session *s)
{
	struct counts n = {0, 0, 0};
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry) {
		n.mail += tx->rec.ordinal != 0;
		for (size_t i = 0; i < tx->rec.n_recipients; i++) {
			n.rcpt++;
			n.rcpt_ok += tx->rec.recipients[i]->outcome == POSTTRACE__OUTCOME__ACCEPTED;
		}
	}
	return n;
}

/* "mail=1 rcpt=1/2": command counts of the disconnect line, accepted/all. */
static void read_count(struct span text, const char *word, unsigned *ok, unsigned *all)
{
	const char *at = span_find(text, span_of(word));
	char digits[32] = "";

	*ok = *all = 0;
	if (!at)
		return;
	memcpy(digits, at + strlen(word),
	    (size_t)(text.ptr + text.len - at) - strlen(word) < sizeof(digits) - 1
		? (size_t)(text.ptr + text.len - at) - strlen(word)
		: sizeof(digits) - 1);
	if (sscanf(digits, "%u/%u", ok, all) == 1)
		*all = *ok;
}

static struct session *find_by_counts(struct correlate *c, struct log_view *view, const Event *e)
{
	unsigned mail_ok, mail, rcpt_ok, rcpt;
	struct session *s, *best = NULL;

	read_count(span_from(e->text), " mail=", &mail_ok, &mail);
	read_count(span_from(e->text), " rcpt=", &rcpt_ok, &rcpt);
	TAILQ_FOREACH(s, &c->sessions, entry) {
		struct counts n;

		if (!may_be(view, s, e))
			continue;
		n = count_commands(s);
		if (n.mail != mail_ok || n.rcpt != rcpt || (s->connection && n.rcpt_ok != rcpt_ok))
			continue;
		if (s->pid && s->pid == e->pid)
			return s;
		if (!best && !s->pid)
			best = s;
	}
	return best;
}

static struct tx *log_tx_begin(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = begin_tx(c, s, e, coarse);

	if (tx) {
		tx->log_begun = true;
		tx->rec.sources |= 1u << MAILLOG;
		s->log_tx = tx;
		s->changed = true;
	}
	return tx;
}

/* "QUEUEID: client=": the j-th such line belongs to the j-th transaction with an accepted recipient. */
static struct tx *log_queued(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = find_queue_id(c, e->queue_id), *same = s->log_tx;

	if (tx && tx->session == s)
		return s->log_tx = tx;
	/* refused recipients before the first accepted one, in a session that only the log saw */
	if (same && !same->rec.queue_id.len && !(same->rec.sources & ~(1u << MAILLOG)))
		return same;
	TAILQ_FOREACH(tx, &s->txs, entry) {
		bool taken = false;

		if (tx->rec.queue_id.len || !tx->rec.ordinal || !(tx->rec.sources & ~(1u << MAILLOG)))
			continue;
		for (size_t i = 0; i < tx->rec.n_recipients && !taken; i++)
			taken = tx->rec.recipients[i]->outcome == POSTTRACE__OUTCOME__ACCEPTED ||
				(tx->rec.recipients[i]->outcome == POSTTRACE__OUTCOME__OUTCOME_NONE &&
				    !tx_seen_by(tx->rec.recipients[i]->sources, MAILLOG));
		if (taken)
			return s->log_tx = tx;
	}
	return log_tx_begin(c, s, e, coarse);
}

static void log_refused(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = find_queue_id(c, e->queue_id), *other;
	long i = -1;
	Recipient *r;

	if (tx && tx->session != s)
		tx = NULL;
	if (!e->recipient.len || !span_is(span_from(e->stage), "RCPT")) {
		if (!tx)
			tx = s->log_tx && same_sender(s->log_tx, e) && !s->log_tx->log_over ? s->log_tx : s->milter_tx;
		if (!tx)
			tx = log_tx_begin(c, s, e, coarse);
		if (!tx)
			return;
		learn_sender(tx, e);
		tx_add_refusal(tx, e);
		touch(c, tx, e, -1);
		return;
	}
	if (tx)
		i = refused_match(tx, e);
	if (i < 0)
		TAILQ_FOREACH(other, &s->txs, entry) {
			if (tx && other != tx)
				continue;
			i = refused_match(other, e);
			if (i >= 0) {
				tx = other;
				break;
			}
		}
	if (!tx && s->log_tx && same_sender(s->log_tx, e) && !s->log_tx->rec.queue_active &&
	    (!s->log_tx->rec.queue_id.len || e->queue_id.len))
		tx = s->log_tx;
	if (!tx) /* refused where no hook looks: still its transaction, when one with that sender is waiting */
		TAILQ_FOREACH(other, &s->txs, entry)
			if (!other->log_begun && other->rec.has_sender && same_sender(other, e)) {
				tx = other;
				break;
			}
	if (!tx)
		tx = log_tx_begin(c, s, e, coarse);
	if (!tx)
		return;
	s->log_tx = tx;
	tx->log_begun = true;
	learn_sender(tx, e);
	session_set_queue_id(c, tx, e->queue_id);
	if (i < 0)
		i = tx_add_recipient(tx, e->recipient);
	if (i >= 0) {
		r = tx->rec.recipients[i];
		r->sources |= 1u << MAILLOG;
		r->outcome = e->outcome;
		r->certainty = POSTTRACE__CERTAINTY__CERTAIN;
		r->code = e->code;
		tx_replace(tx, &r->dsn, e->dsn);
		tx_replace(tx, &r->text, e->text);
		r->text_whole = true;
	}
	touch(c, tx, e, i);
}

static void end_log_view(struct correlate *c, struct session *s, const Event *e)
{
	struct tx *tx;

	s->log_open = false;
	if (!s->milter_open)
		s->closed_us = (int64_t)e->at_us;
	settle_empty(c, s, e);
	TAILQ_FOREACH(tx, &s->txs, entry) {
		tx->log_over = true;
		if (!tx->rec.ordinal)
			tx->rec.sources |= 1u << MAILLOG;
		tx_settle(tx);
		make_dirty(c, tx);
	}
}

static void log_to_session(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = NULL;

	learn_link(s, e);
	switch (e->type) {
	case POSTTRACE__EVENT_TYPE__LINK_CONNECT:
		session_step(s, e);
		return;
	case POSTTRACE__EVENT_TYPE__LINK_DISCONNECT:
		end_log_view(c, s, e);
		return;
	case POSTTRACE__EVENT_TYPE__TX_QUEUED:
		tx = log_queued(c, s, e, coarse);
		if (!tx)
			return;
		tx->log_begun = true;
		session_set_queue_id(c, tx, e->queue_id);
		tx_keep(tx, &tx->rec.orig_queue_id, e->orig_queue_id);
		break;
	case POSTTRACE__EVENT_TYPE__TX_REFUSED:
		log_refused(c, s, e, coarse);
		return;
	case POSTTRACE__EVENT_TYPE__LINK_LOST:
		tx = TAILQ_LAST(&s->txs, tx_list);
		if (!tx || tx->rec.queue_active || tx->rec.committed) {
			session_step(s, e);
			return;
		}
		tx_keep(tx, &tx->rec.lost_text, e->text);
		break;
	default:
		tx = s->log_tx ? s->log_tx : s->milter_tx;
		if (!tx)
			return;
		tx_add_note(tx, (int64_t)e->at_us, MAILLOG, e->text);
	}
	touch(c, tx, e, -1);
}

/* Keep a copy of the line until it is known whose it is. */
void log_view_hold(struct log_view *view, const Event *e)
{
	struct strbuf packed = STRBUF_INIT;
	Event **more;

	if (view->n_pending == PENDING_MAX)
		return;
	if ((view->n_pending & (view->n_pending - 1)) == 0) {
		more = arena_alloc(&view->arena, (view->n_pending ? 2 * view->n_pending : 1) * sizeof(*more));
		if (!more)
			return;
		if (view->n_pending)
			memcpy(more, view->pending, view->n_pending * sizeof(*more));
		view->pending = more;
	}
	event_encode(e, &packed);
	view->pending[view->n_pending] = event_decode(strbuf_span(&packed), &view->arena);
	if (view->pending[view->n_pending])
		view->n_pending++;
	view->changed = true;
	strbuf_fini(&packed);
}

static void view_alone(struct correlate *c, struct log_view *view)
{
	struct session *s = session_new(c, view->connect_us);

	if (s) {
		s->pid = (uint32_t)(view->pid_key >> 32);
		link_view(c, view, s);
	}
}

struct log_view *log_view_new(struct correlate *c, uint64_t key, int64_t connect_us, bool coarse, struct span address)
{
	struct log_view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	arena_init(&view->arena, SESSION_BYTES);
	view->pid_key = key;
	view->key = c->next_key++;
	view->connect_us = connect_us;
	view->coarse = coarse;
	view->address = arena_span(&view->arena, address);
	HASH_ADD(by_pid, c->by_pid, pid_key, sizeof(view->pid_key), view);
	return view;
}

static struct log_view *find_view(struct correlate *c, const Event *e)
{
	uint64_t key = pid_key(e);
	struct log_view *view;

	HASH_FIND(by_pid, c->by_pid, &key, sizeof(key), view);
	return view;
}

static void on_smtpd_line(struct correlate *c, const Event *e, bool coarse)
{
	struct log_view *view = find_view(c, e);
	struct session *s;
	char buf[128];

	if (e->type == POSTTRACE__EVENT_TYPE__LINK_CONNECT && view) { /* its end was never logged: killed */
		if (!view->session)
			view_alone(c, view);
		if (view->session)
			end_log_view(c, view->session, e);
		free_view(c, view);
		view = NULL;
	}
	if (!view)
		view = log_view_new(c, pid_key(e), (int64_t)e->at_us, coarse, span_from(e->client_address));
	if (!view)
		return;
	if (!view->session) {
		s = find_peer(c, peer_key(e, buf, sizeof(buf)));
		if (!s)
			s = find_for_view(c, view, e);
		if (!s && e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
			s = find_by_counts(c, view, e);
		if (s)
			link_view(c, view, s);
		else if (e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
			view_alone(c, view);
	}
	if (view->session)
		log_to_session(c, view->session, e, coarse);
	else
		log_view_hold(view, e);
	if (e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
		free_view(c, view);
}

/* A view that waits and has "QUEUEID: client=" for this id among its lines. */
static struct log_view *view_of_queue_id(struct correlate *c, Bytes queue_id)
{
	struct log_view *view, *next;

	HASH_ITER(by_pid, c->by_pid, view, next)
		for (size_t i = 0; i < view->n_pending; i++)
			if (view->pending[i]->type == POSTTRACE__EVENT_TYPE__TX_QUEUED &&
			    span_eq(span_from(view->pending[i]->queue_id), span_from(queue_id)))
				return view;
	return NULL;
}

/* cleanup, qmgr, pickup: by queue id alone. */
static void on_queue_line(struct correlate *c, const Event *e, bool coarse)
{
	struct tx *tx = find_queue_id(c, e->queue_id);
	struct log_view *view;
	struct session *s;

	if (!tx && (view = view_of_queue_id(c, e->queue_id))) {
		Event as_smtpd = *e;

		/* the sender in this line can tell the session at last */
		as_smtpd.pid = (uint32_t)(view->pid_key >> 32);
		if (e->has_sender) {
			struct session *found = NULL;

			TAILQ_FOREACH(s, &c->sessions, entry)
				if (may_be(view, s, &as_smtpd) && session_has_sender(s, e)) {
					found = s;
					if (s->pid && s->pid == as_smtpd.pid)
						break;
				}
			if (found)
				link_view(c, view, found);
			else
				view_alone(c, view);
			tx = find_queue_id(c, e->queue_id);
		}
	}
	if (!tx && e->type == POSTTRACE__EVENT_TYPE__PICKUP) {
		s = session_new(c, (int64_t)e->at_us);
		if (s) {
			tx = log_tx_begin(c, s, e, coarse);
			s->log_linked = true;
			s->closed_us = (int64_t)e->at_us;
		}
		if (tx)
			session_set_queue_id(c, tx, e->queue_id);
	}
	if (!tx)
		return;
	switch (e->type) {
	case POSTTRACE__EVENT_TYPE__TX_MESSAGE_ID:
		tx_keep(tx, &tx->rec.message_id, e->message_id);
		break;
	case POSTTRACE__EVENT_TYPE__QUEUE_ACTIVE:
		if (tx->rec.queue_active)
			return; /* deferred mail comes back */
		tx->rec.queue_active = true;
		if (e->size)
			tx->rec.size = e->size;
		learn_sender(tx, e);
		break;
	case POSTTRACE__EVENT_TYPE__TX_REFUSED:
		tx_add_refusal(tx, e);
		break;
	case POSTTRACE__EVENT_TYPE__QUEUE_REMOVED:
	case POSTTRACE__EVENT_TYPE__DELIVERY:
		return; /* the way out is a story of its own */
	case POSTTRACE__EVENT_TYPE__LOG_NOTE:
		tx_add_note(tx, (int64_t)e->at_us, MAILLOG, e->text);
		break;
	default:
		break;
	}
	touch(c, tx, e, -1);
}

static bool is_smtpd(const Event *e)
{
	struct span service = span_from(e->service);

	return service.len >= 5 && memcmp(service.ptr + service.len - 5, "smtpd", 5) == 0;
}

/* --- all together ------------------------------------------------------ */

static void on_gap(struct correlate *c, const Event *e)
{
	struct session *s;
	struct tx *tx;

	TAILQ_FOREACH(s, &c->sessions, entry)
		TAILQ_FOREACH(tx, &s->txs, entry)
			if (!tx->rec.done && tx->start_us <= (int64_t)e->until_us) {
				tx->rec.lost_events += e->lost;
				tx->rec.cut_sources |= 1u << e->source;
				make_dirty(c, tx);
			}
}

static void cut_milter_runs(struct correlate *c, const Event *e, uint64_t run)
{
	struct session *s;

	TAILQ_FOREACH(s, &c->sessions, entry)
		if (s->milter_open && s->run != run)
			end_milter_view(c, s, e, true);
}

void correlate_event(struct correlate *c, const Event *e, uint64_t run, bool coarse)
{
	if (c->n_sessions >= SESSIONS_MAX)
		correlate_tick(c, (int64_t)e->at_us + SILENCE_US + LINGER_US);
	if (e->type == POSTTRACE__EVENT_TYPE__GAP) {
		on_gap(c, e);
		return;
	}
	switch (e->source) {
	case POSTTRACE__SOURCE__SOURCE_MILTER:
		if (e->type == POSTTRACE__EVENT_TYPE__RUN_START || e->type == POSTTRACE__EVENT_TYPE__RUN_STOP)
			cut_milter_runs(c, e, e->type == POSTTRACE__EVENT_TYPE__RUN_STOP ? 0 : run);
		else
			on_milter(c, e, run);
		break;
	case POSTTRACE__SOURCE__SOURCE_POLICY:
		if (e->type == POSTTRACE__EVENT_TYPE__TRACEPOINT)
			on_policy(c, e);
		break;
	case POSTTRACE__SOURCE__SOURCE_MAILLOG:
		if (is_smtpd(e) && e->pid)
			on_smtpd_line(c, e, coarse);
		else
			on_queue_line(c, e, coarse);
		break;
	default:
		break;
	}
}

static void forget_session(struct correlate *c, struct session *s)
{
	struct log_view *view, *next;

	if (s->by_connection_in)
		HASH_DELETE(by_connection, c->by_connection, s);
	if (s->by_peer_in)
		HASH_DELETE(by_peer, c->by_peer, s);
	if (s->log_open)
		HASH_ITER(by_pid, c->by_pid, view, next)
			if (view->session == s)
				free_view(c, view);
	while (!TAILQ_EMPTY(&s->txs))
		free_tx(c, TAILQ_FIRST(&s->txs));
	TAILQ_REMOVE(&c->sessions, s, entry);
	c->n_sessions--;
	if (s->stored)
		correlate_drop_state(c, s->key);
	arena_fini(&s->arena);
	free(s);
}

static bool all_handed_over(const struct session *s)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry)
		if (tx->dirty)
			return false;
	return true;
}

void correlate_tick(struct correlate *c, int64_t now_us)
{
	struct session *s, *next;
	struct log_view *view, *next_view;
	struct tx *tx, *next_tx;

	/* lines whose session is not found in good time: the log is the only witness */
	HASH_ITER(by_pid, c->by_pid, view, next_view)
		if (!view->session && view->n_pending && now_us - view->connect_us > 2 * LINGER_US)
			for (size_t i = 0; i < view->n_pending; i++)
				if (view->pending[i]->type != POSTTRACE__EVENT_TYPE__LINK_CONNECT) {
					view_alone(c, view);
					break;
				}
	for (s = TAILQ_FIRST(&c->sessions); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (!s->closed_us && now_us - s->last_us > (s->milter_open || s->log_open ? SILENCE_US : LINGER_US))
			s->closed_us = s->last_us;
		if (s->closed_us && now_us - s->closed_us > LINGER_US && now_us - s->last_us > LINGER_US) {
			TAILQ_FOREACH(tx, &s->txs, entry)
				if (!tx->rec.done) {
					tx->milter_over = tx->milter_over || s->connection;
					tx_settle(tx);
					tx->rec.done = true;
					make_dirty(c, tx);
				}
			if (all_handed_over(s))
				forget_session(c, s);
			continue;
		}
		/* a long session: its finished transactions need not stay in memory */
		for (tx = TAILQ_FIRST(&s->txs); tx && s->n_txs > 16; tx = next_tx) {
			next_tx = TAILQ_NEXT(tx, entry);
			if (!tx->dirty && tx->rec.done && tx->rec.queue_active && now_us - tx->last_us > LINGER_US)
				free_tx(c, tx);
		}
	}
}

bool correlate_dirty(const struct correlate *c)
{
	return !TAILQ_EMPTY(&c->dirty) || c->n_gone;
}

enum status correlate_flush(struct correlate *c)
{
	enum status status;
	struct tx *tx;

	TAILQ_FOREACH(tx, &c->dirty, dirty_entry) {
		if (!tx->rec.id) {
			uint64_t id = 0;

			status = c->sink.new_id(c->sink.arg, tx->start_us, &id);
			if (status != STATUS_OK)
				return status;
			tx->rec.id = id;
			/* times count from the id: it may be a little behind the start */
			for (size_t i = 0; i < tx->rec.n_step_at_us; i++)
				tx->rec.step_at_us[i] -= (int64_t)id - tx->start_us;
			tx->rec.session_us -= (int64_t)id - tx->start_us;
			tx->start_us = (int64_t)id;
		}
		status = c->sink.put(c->sink.arg, &tx->rec);
		if (status != STATUS_OK)
			return status;
	}
	return correlate_put_states(c);
}

void correlate_flushed(struct correlate *c, bool committed)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &c->dirty, dirty_entry)
		if (!committed && !tx->stored)
			tx->rec.id = 0;
	if (committed) {
		struct session *s;
		struct log_view *view, *next;

		c->n_gone = 0;
		TAILQ_FOREACH(s, &c->sessions, entry)
			s->changed = false;
		HASH_ITER(by_pid, c->by_pid, view, next)
			view->changed = false;
	}
	while (committed && (tx = TAILQ_FIRST(&c->dirty))) {
		TAILQ_REMOVE(&c->dirty, tx, dirty_entry);
		tx->dirty = false;
		tx->stored = true;
	}
}

void correlate_free(struct correlate *c)
{
	struct log_view *view, *next;

	if (!c)
		return;
	HASH_ITER(by_pid, c->by_pid, view, next)
		free_view(c, view);
	while (!TAILQ_EMPTY(&c->sessions)) {
		struct session *s = TAILQ_FIRST(&c->sessions);

		forget_session(c, s);
	}
	free(c->gone);
	free(c);
}
