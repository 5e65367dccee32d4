#include "shared/model/mailaddr.h"
#include "shared/model/session.h"

#include <stdlib.h>

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

struct session *session_find(struct correlate *c, uint64_t run, uint64_t connection)
{
	struct session want, *s;

	want.run = run;
	want.connection = connection;
	HASH_FIND(by_connection, c->by_connection, &want.run, sizeof(want.run) + sizeof(want.connection), s);
	return s;
}

/* Client address and port in one key; empty when either is missing (a local submission has no port). */
struct span session_peer_key(const Event *event, char *buf, size_t cap)
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
		if (!old->milter_open && !old->log_open && !old->closed_us)
			old->closed_us = old->last_us;
	}
	s->peer = arena_span(&s->arena, key);
	if (!s->peer.ptr)
		return;
	HASH_ADD_KEYPTR(by_peer, c->by_peer, s->peer.ptr, s->peer.len, s);
	s->by_peer_in = true;
}

struct session *session_find_peer(struct correlate *c, struct span key)
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
void session_learn(struct session *s, const Event *e)
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

void session_mark(struct correlate *c, struct tx *tx)
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

struct tx *session_begin_tx(struct correlate *c, struct session *s, const Event *e, bool coarse)
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
	session_mark(c, tx);
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

void session_take_queue_id(struct correlate *c, struct tx *from, struct tx *to)
{
	Bytes queue_id = from->rec.queue_id;

	if (from->hashed)
		HASH_DELETE(by_queue_id, c->by_queue_id, from);
	from->hashed = false;
	from->rec.queue_id = (Bytes){0, NULL};
	session_set_queue_id(c, to, queue_id);
}

struct tx *session_find_queue_id(struct correlate *c, Bytes queue_id)
{
	struct tx *tx = NULL;

	if (queue_id.len)
		HASH_FIND(by_queue_id, c->by_queue_id, queue_id.data, queue_id.len, tx);
	return tx;
}

void tx_learn_sender(struct tx *tx, const Event *e)
{
	if (!e->has_sender)
		return;
	if (!tx->rec.has_sender || e->source == MILTER)
		tx_replace(tx, &tx->rec.sender, e->sender);
	tx->rec.has_sender = true;
}

bool tx_same_sender(const struct tx *tx, const Event *e)
{
	return !e->has_sender || !tx->rec.has_sender || mailaddr_same(span_from(tx->rec.sender), span_from(e->sender));
}

void session_told(struct correlate *c, struct tx *tx, const Event *e, long recipient)
{
	tx->rec.sources |= 1u << e->source;
	if (e->type == POSTTRACE__EVENT_TYPE__TRACEPOINT) /* its time stands with the hit */
		tx->last_us = (int64_t)e->at_us > tx->last_us ? (int64_t)e->at_us : tx->last_us;
	else
		tx_step(tx, e->type, e->source, (int64_t)e->at_us, recipient);
	copy_link(tx, tx->session);
	tx_settle(tx);
	session_mark(c, tx);
	if (c->sink.notice)
		c->sink.notice(c->sink.arg, e->type, (int64_t)e->at_us, tx);
}

void session_free_tx(struct correlate *c, struct tx *tx)
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

void session_step(struct session *s, const Event *e)
{
	if (s->n_steps == sizeof(s->steps) / sizeof(s->steps[0]))
		return;
	s->steps[s->n_steps].type = (uint8_t)e->type;
	s->steps[s->n_steps].source = (uint8_t)e->source;
	s->steps[s->n_steps++].at_us = (int64_t)e->at_us;
}

/* A session that ends without a transaction is worth a record too. */
void session_settle_empty(struct correlate *c, struct session *s, const Event *e)
{
	struct tx *tx;

	if (s->n_txs)
		return;
	tx = session_begin_tx(c, s, e, false);
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

