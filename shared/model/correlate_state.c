/* What is still open goes into the store with every batch, so that a recorder that was killed goes on where it was. */
#include <stdlib.h>

#include "shared/model/session.h"

typedef Posttrace__SessionState SessionState;
typedef Posttrace__LogState LogState;

enum tx_flag { TX_MILTER_OVER = 1, TX_LOG_BEGUN = 2, TX_LOG_OVER = 4, TX_COARSE = 8 };

/* The first byte of a state says what it is. */
#define STATE_SESSION 'S'
#define STATE_VIEW    'L'

void correlate_drop_state(struct correlate *c, uint64_t key)
{
	if ((c->n_gone & (c->n_gone - 1)) == 0) {
		uint64_t *more = realloc(c->gone, (c->n_gone ? 2 * c->n_gone : 1) * sizeof(*more));

		if (!more)
			return; /* a stale state is dropped as silent after the next restart */
		c->gone = more;
	}
	c->gone[c->n_gone++] = key;
}

static bool fill_view(const struct log_view *view, LogState *out, struct arena *arena)
{
	posttrace__log_state__init(out);
	out->pid_key = view->pid_key;
	out->connect_us = (uint64_t)view->connect_us;
	out->coarse = view->coarse;
	out->address = bytes_of(view->address);
	if (!view->n_pending)
		return true;
	out->pending = arena_alloc(arena, view->n_pending * sizeof(*out->pending));
	if (!out->pending)
		return false;
	for (size_t i = 0; i < view->n_pending; i++) {
		size_t size = posttrace__event__get_packed_size(view->pending[i]);
		uint8_t *buf = arena_alloc(arena, size);

		if (!buf)
			return false;
		posttrace__event__pack(view->pending[i], buf);
		out->pending[out->n_pending++] = (Bytes){size, buf};
	}
	return true;
}

static bool fill_session(struct session *s, SessionState *out, LogState *log, struct arena *arena)
{
	size_t n = 0;
	struct tx *tx;

	posttrace__session_state__init(out);
	out->run = s->run;
	out->connection = s->connection;
	out->link = &s->link;
	out->begun_us = (uint64_t)s->begun_us;
	out->last_us = (uint64_t)s->last_us;
	out->closed_us = (uint64_t)s->closed_us;
	out->sources = s->sources;
	out->cut_sources = s->cut_sources;
	out->pid = s->pid;
	out->milter_open = s->milter_open;
	out->policy_seen = s->policy_seen;
	out->log_linked = s->log_linked;
	out->log_open = s->log_open;
	out->n_txs = s->n_txs;
	out->peer = bytes_of(s->peer);
	TAILQ_FOREACH(tx, &s->txs, entry)
		n++;
	out->tx = arena_alloc(arena, (n + 1) * sizeof(*out->tx));
	out->tx_flags = arena_alloc(arena, (n + 1) * sizeof(*out->tx_flags));
	out->steps = arena_alloc(arena, (2 * s->n_steps + 1) * sizeof(*out->steps));
	if (!out->tx || !out->tx_flags || !out->steps)
		return false;
	TAILQ_FOREACH(tx, &s->txs, entry) {
		out->tx_flags[out->n_tx_flags++] = (tx->milter_over ? TX_MILTER_OVER : 0u) | (tx->log_begun ? TX_LOG_BEGUN : 0u) |
						   (tx->log_over ? TX_LOG_OVER : 0u) | (tx->start_coarse ? TX_COARSE : 0u);
		out->tx[out->n_tx++] = tx->rec.id;
		if (s->milter_tx == tx)
			out->milter_tx = (uint32_t)out->n_tx;
		if (s->log_tx == tx)
			out->log_tx = (uint32_t)out->n_tx;
	}
	for (unsigned i = 0; i < s->n_steps; i++) {
		out->steps[out->n_steps++] = s->steps[i].type + 32u * s->steps[i].source;
		out->steps[out->n_steps++] = (uint64_t)s->steps[i].at_us;
	}
	if (s->view) {
		if (!fill_view(s->view, log, arena))
			return false;
		out->log = log;
	}
	return true;
}

static enum status put_message(struct correlate *c, uint64_t key, char kind, const ProtobufCMessage *message)
{
	struct strbuf packed = STRBUF_INIT;
	size_t size = protobuf_c_message_get_packed_size(message);
	enum status status = STATUS_NOMEM;

	strbuf_addch(&packed, kind);
	if (strbuf_grow(&packed, size)) {
		protobuf_c_message_pack(message, (uint8_t *)packed.buf + 1);
		status = c->sink.put_open(c->sink.arg, key, span_make(packed.buf, size + 1));
	}
	strbuf_fini(&packed);
	return status;
}

enum status correlate_put_states(struct correlate *c)
{
	enum status status = STATUS_OK;
	struct log_view *view;
	struct arena arena;
	struct session *s;
	SessionState state;
	LogState log;

	for (size_t i = 0; i < c->n_gone && status == STATUS_OK; i++)
		status = c->sink.put_open(c->sink.arg, c->gone[i], (struct span){NULL, 0});
	arena_init(&arena, 16 << 20);
	TAILQ_FOREACH(s, &c->sessions, entry) {
		if (status != STATUS_OK)
			break;
		if (!s->changed)
			continue;
		arena_reset(&arena);
		status = fill_session(s, &state, &log, &arena) ? put_message(c, s->key, STATE_SESSION, &state.base) : STATUS_NOMEM;
		s->stored = true;
	}
	TAILQ_FOREACH(view, &c->views, entry) {
		if (status != STATUS_OK)
			break;
		if (!view->changed || view->session)
			continue;
		arena_reset(&arena);
		status = fill_view(view, &log, &arena) ? put_message(c, view->key, STATE_VIEW, &log.base) : STATUS_NOMEM;
		view->stored = true;
	}
	arena_fini(&arena);
	return status;
}

/* --- back ---------------------------------------------------------------- */

static struct log_view *restore_view(struct correlate *c, const LogState *from)
{
	struct log_view *view = log_view_new(c, from->pid_key, (int64_t)from->connect_us, from->coarse, span_from(from->address));
	struct arena arena;

	if (!view)
		return NULL;
	arena_init(&arena, 1 << 20);
	for (size_t i = 0; i < from->n_pending; i++) {
		Event *e = event_decode(span_from(from->pending[i]), &arena);

		if (e)
			log_view_hold(view, e);
		arena_reset(&arena);
	}
	arena_fini(&arena);
	if (view->n_pending && view->pending[view->n_pending - 1]->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
		log_view_end(c, view, (int64_t)view->pending[view->n_pending - 1]->at_us);
	return view;
}

static enum status restore_tx(struct correlate *c, struct session *s, uint64_t id, unsigned flags,
    enum status (*load)(void *arg, uint64_t id, struct arena *arena, Transaction **out), void *arg, struct tx **out)
{
	struct tx *tx = tx_new((int64_t)id);
	Transaction *rec = NULL;
	enum status status;
	Bytes queue_id;

	if (!tx)
		return STATUS_NOMEM;
	status = load(arg, id, &tx->arena, &rec);
	if (status != STATUS_OK || !tx_adopt(tx, rec)) {
		tx_free(tx);
		return status == STATUS_OK ? STATUS_NOMEM : status;
	}
	tx->session = s;
	tx->milter_over = flags & TX_MILTER_OVER;
	tx->log_begun = flags & TX_LOG_BEGUN;
	tx->log_over = flags & TX_LOG_OVER;
	tx->start_coarse = flags & TX_COARSE;
	TAILQ_INSERT_TAIL(&s->txs, tx, entry);
	queue_id = tx->rec.queue_id;
	session_set_queue_id(c, tx, queue_id);
	*out = tx;
	return STATUS_OK;
}

static enum status restore_session(struct correlate *c, uint64_t key, const SessionState *from,
    enum status (*load)(void *arg, uint64_t id, struct arena *arena, Transaction **out), void *arg)
{
	struct session *s = session_new(c, (int64_t)from->begun_us);
	struct strbuf packed = STRBUF_INIT;
	struct log_view *view;
	Event *link;

	if (!s)
		return STATUS_NOMEM;
	s->key = key;
	s->stored = true;
	s->last_us = (int64_t)from->last_us;
	s->closed_us = (int64_t)from->closed_us;
	s->sources = from->sources;
	s->cut_sources = from->cut_sources;
	s->pid = from->pid;
	s->milter_open = from->milter_open;
	s->policy_seen = from->policy_seen;
	s->log_linked = from->log_linked;
	s->log_open = from->log_open;
	s->n_txs = from->n_txs;
	if (from->link) { /* a copy in the session's own memory */
		event_encode(from->link, &packed);
		link = event_decode(strbuf_span(&packed), &s->arena);
		strbuf_fini(&packed);
		if (link)
			s->link = *link;
	}
	for (size_t i = 0; i + 1 < from->n_steps && s->n_steps < sizeof(s->steps) / sizeof(s->steps[0]); i += 2) {
		s->steps[s->n_steps].type = (uint8_t)(from->steps[i] % 32);
		s->steps[s->n_steps].source = (uint8_t)(from->steps[i] / 32);
		s->steps[s->n_steps++].at_us = (int64_t)from->steps[i + 1];
	}
	if (from->connection)
		session_set_connection(c, s, from->run, from->connection);
	session_set_peer(c, s, span_from(from->peer));
	for (size_t i = 0; i < from->n_tx && i < from->n_tx_flags; i++) {
		struct tx *tx = NULL;
		enum status status = restore_tx(c, s, from->tx[i], from->tx_flags[i], load, arg, &tx);

		if (status == STATUS_ABSENT)
			continue; /* pruned meanwhile */
		if (status != STATUS_OK)
			return status;
		if (from->milter_tx == i + 1)
			s->milter_tx = tx;
		if (from->log_tx == i + 1)
			s->log_tx = tx;
	}
	if (from->log) {
		view = restore_view(c, from->log);
		if (view) {
			view->session = s;
			s->view = view;
		}
	}
	return STATUS_OK;
}

enum status correlate_restore(struct correlate *c, uint64_t key, struct span state,
    enum status (*load)(void *arg, uint64_t id, struct arena *arena, Transaction **out), void *arg)
{
	enum status status = STATUS_INVALID;
	struct log_view *view;
	struct arena arena;

	if (!state.len)
		return STATUS_INVALID;
	arena_init(&arena, 16 << 20);
	if (state.ptr[0] == STATE_SESSION) {
		SessionState *from = posttrace__session_state__unpack(&arena.allocator, state.len - 1, (const uint8_t *)state.ptr + 1);

		if (from)
			status = restore_session(c, key, from, load, arg);
	} else if (state.ptr[0] == STATE_VIEW) {
		LogState *from = posttrace__log_state__unpack(&arena.allocator, state.len - 1, (const uint8_t *)state.ptr + 1);

		view = from ? restore_view(c, from) : NULL;
		if (view) {
			view->key = key;
			view->stored = true;
			status = STATUS_OK;
		}
	}
	arena_fini(&arena);
	return status;
}
