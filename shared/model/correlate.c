#include "shared/model/correlate.h"

#include <stdlib.h>

#include "shared/model/session.h"

#define SESSIONS_MAX 100000
/* How long a session may be silent: one that the milter or the log will see the end of, and one without either. smtpd itself
 * gives a client 300 s (smtpd_timeout). */
#define SILENCE_US     (2 * 3600 * US_PER_SEC)
#define SILENCE_CUT_US (310 * US_PER_SEC)

struct correlate *correlate_new(const struct correlate_sink *sink)
{
	struct correlate *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->sink = *sink;
	c->next_key = (uint64_t)clock_now_us(); /* above the keys of every earlier run */
	TAILQ_INIT(&c->sessions);
	TAILQ_INIT(&c->views);
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

static void on_gap(struct correlate *c, const Event *e)
{
	struct session *s;
	struct tx *tx;

	TAILQ_FOREACH(s, &c->sessions, entry)
		TAILQ_FOREACH(tx, &s->txs, entry)
			if (!tx->rec.done && tx->start_us <= (int64_t)e->until_us) {
				tx->rec.lost_events += e->lost;
				tx->rec.cut_sources |= 1u << e->source;
				session_mark(c, tx);
			}
}

static void cut_milter_runs(struct correlate *c, const Event *e, uint64_t run)
{
	struct session *s;

	TAILQ_FOREACH(s, &c->sessions, entry)
		if (s->milter_open && s->run != run)
			session_end_milter(c, s, e, true);
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
			correlate_milter(c, e, run);
		break;
	case POSTTRACE__SOURCE__SOURCE_POLICY:
		if (e->type == POSTTRACE__EVENT_TYPE__TRACEPOINT)
			correlate_policy(c, e);
		break;
	case POSTTRACE__SOURCE__SOURCE_MAILLOG:
		correlate_maillog(c, e, coarse);
		break;
	default:
		break;
	}
}

static void forget_session(struct correlate *c, struct session *s)
{
	if (s->by_connection_in)
		HASH_DELETE(by_connection, c->by_connection, s);
	if (s->by_peer_in)
		HASH_DELETE(by_peer, c->by_peer, s);
	if (s->view)
		log_view_free(c, s->view);
	while (!TAILQ_EMPTY(&s->txs))
		session_free_tx(c, TAILQ_FIRST(&s->txs));
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

static int64_t silence_us(const struct session *s)
{
	if (s->milter_open || s->log_open)
		return SILENCE_US;
	return s->policy_seen || s->cut_sources ? SILENCE_CUT_US : LINGER_US;
}

void correlate_tick(struct correlate *c, int64_t now_us)
{
	struct session *s, *next;
	struct tx *tx, *next_tx;

	log_views_settle(c, now_us);
	for (s = TAILQ_FIRST(&c->sessions); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (!s->closed_us && now_us - s->last_us > silence_us(s)) {
			Event end = event_make(POSTTRACE__EVENT_TYPE__LINK_DISCONNECT, POSTTRACE__SOURCE__SOURCE_NONE, s->last_us);

			s->closed_us = s->last_us;
			session_settle_empty(c, s, &end);
		}
		if (s->closed_us && now_us - s->closed_us > LINGER_US && now_us - s->last_us > LINGER_US) {
			TAILQ_FOREACH(tx, &s->txs, entry)
				if (!tx->rec.done) {
					tx->milter_over = tx->milter_over || s->connection;
					tx_settle(tx);
					tx->rec.done = true;
					session_mark(c, tx);
				}
			if (all_handed_over(s))
				forget_session(c, s);
			continue;
		}
		/* a long session: its finished transactions need not stay in memory */
		for (tx = TAILQ_FIRST(&s->txs); tx && s->n_txs > 16; tx = next_tx) {
			next_tx = TAILQ_NEXT(tx, entry);
			if (!tx->dirty && tx->rec.done && tx->rec.queue_active && now_us - tx->last_us > LINGER_US)
				session_free_tx(c, tx);
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
		struct log_view *view;

		c->n_gone = 0;
		TAILQ_FOREACH(s, &c->sessions, entry)
			s->changed = false;
		TAILQ_FOREACH(view, &c->views, entry)
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
	if (!c)
		return;
	while (!TAILQ_EMPTY(&c->views))
		log_view_free(c, TAILQ_FIRST(&c->views));
	while (!TAILQ_EMPTY(&c->sessions)) {
		struct session *s = TAILQ_FIRST(&c->sessions);

		forget_session(c, s);
	}
	free(c->gone);
	free(c);
}
