/* What the milter and the policy service tell. */
#include "shared/model/mailaddr.h"
#include "shared/model/session.h"

/* --- the milter's view ------------------------------------------------- */

static long match_recipient(const struct tx *tx, Bytes address, Posttrace__Source not_yet)
{
	for (size_t i = 0; i < tx->rec.n_recipients; i++)
		if (!tx_seen_by(tx->rec.recipients[i]->sources, not_yet) &&
		    mailaddr_same(span_from(tx->rec.recipients[i]->address), span_from(address)))
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
		tx_replace(tx, &r->address, e->recipient); /* quoted as in SMTP */
		r->outcome = e->outcome;
		r->certainty = POSTTRACE__CERTAINTY__CERTAIN;
		tx_keep(tx, &r->dsn, e->dsn);
		tx_keep(tx, &r->text, e->text);
		tx_keep(tx, &r->transport, e->transport);
		tx_keep(tx, &r->next_hop, e->next_hop);
	}
	session_told(c, tx, e, i);
}

/* The policy service may have been asked at MAIL or before we read the milter's MAIL: the same transaction. */
static struct tx *adopt_policy_tx(struct session *s, const Event *e)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry)
		if (!tx_seen_by(tx->rec.sources, MILTER) && tx_seen_by(tx->rec.sources, POLICY) && tx_same_sender(tx, e) &&
		    tx->start_us <= (int64_t)e->at_us)
			return tx;
	return NULL;
}

static struct session *milter_session(struct correlate *c, const Event *e, uint64_t run)
{
	struct session *s = session_find(c, run, e->connection);
	char buf[128];
	struct span key;

	if (s)
		return s;
	key = session_peer_key(e, buf, sizeof(buf));
	s = session_find_peer(c, key);
	/* Postfix tells the milter of a connection before it asks the policy service anything: what is there is an older session
	 * of a port that is used again. Without its beginning (lost) it is the one that the policy service saw. */
	if (!s || s->connection || s->closed_us || e->type == POSTTRACE__EVENT_TYPE__LINK_CONNECT)
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
			tx = session_begin_tx(c, s, e, false);
		if (!tx)
			return;
		s->milter_tx = tx;
	}
	tx_learn_sender(tx, e);
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
	session_told(c, tx, e, -1);
}

void session_end_milter(struct correlate *c, struct session *s, const Event *e, bool cut)
{
	s->milter_open = false;
	if (s->milter_tx) {
		s->milter_tx->milter_over = true;
		if (cut)
			s->milter_tx->rec.cut_sources |= 1u << MILTER;
		tx_settle(s->milter_tx);
		session_mark(c, s->milter_tx);
		s->milter_tx = NULL;
	}
	if (cut) { /* the milter ended, not the session */
		s->cut_sources |= 1u << MILTER;
		s->changed = true;
		return;
	}
	if (!s->log_open) {
		s->closed_us = (int64_t)e->at_us;
		session_settle_empty(c, s, e);
	}
}

void correlate_milter(struct correlate *c, const Event *e, uint64_t run)
{
	struct session *s = milter_session(c, e, run);

	if (!s)
		return;
	session_learn(s, e);
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
			session_told(c, s->milter_tx, e, -1);
		else
			session_step(s, e);
		break;
	case POSTTRACE__EVENT_TYPE__LINK_DISCONNECT:
		session_end_milter(c, s, e, false);
		break;
	default:
		milter_tx_event(c, s, e);
	}
}

/* --- the policy service's view ----------------------------------------- */

static struct session *policy_session(struct correlate *c, const Event *e)
{
	char buf[128];
	struct span key = session_peer_key(e, buf, sizeof(buf));
	struct session *s = session_find_peer(c, key);

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
		    tx_same_sender(tx, e))
			best = tx;
	if (!best)
		best = session_begin_tx(c, s, e, false);
	if (best)
		tx_keep(best, &best->rec.instance, e->instance);
	return best;
}

static void policy_recipient(struct correlate *c, struct tx *tx, const Event *e)
{
	long i, found = -1;

	for (i = (long)tx->rec.n_recipients - 1; i >= 0; i--)
		if (mailaddr_same(span_from(tx->rec.recipients[i]->address), span_from(e->recipient)) && !tx_has_hit(tx, e, i))
			found = i; /* the oldest that has not passed this tracepoint */
	if (found < 0) {
		struct strbuf quoted = STRBUF_INIT;

		mailaddr_quote(&quoted, span_from(e->recipient));
		found = tx_add_recipient(tx, bytes_of(strbuf_span(&quoted)));
		strbuf_fini(&quoted);
	}
	if (found >= 0) {
		tx->rec.recipients[found]->sources |= 1u << POLICY;
		tx_add_hit(tx, e, found);
	}
	session_told(c, tx, e, found);
}

void correlate_policy(struct correlate *c, const Event *e)
{
	struct session *s = policy_session(c, e);
	struct tx *tx;

	if (!s)
		return;
	session_learn(s, e);
	s->policy_seen = true;
	if (!e->instance.len) { /* before MAIL */
		session_step(s, e);
		return;
	}
	tx = policy_tx(c, s, e);
	if (!tx)
		return;
	tx_learn_sender(tx, e);
	session_set_queue_id(c, tx, e->queue_id);
	tx_add_attributes(tx, e);
	if (e->size && !tx->rec.size)
		tx->rec.size = e->size;
	if (span_is(span_from(e->stage), "RCPT")) {
		policy_recipient(c, tx, e);
		return;
	}
	tx_add_hit(tx, e, -1);
	session_told(c, tx, e, -1);
}

