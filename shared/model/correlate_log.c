/* What the log tells. */
#include "shared/base/hash.h"
#include "shared/model/session.h"

static struct tx *log_tx_begin(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = session_begin_tx(c, s, e, coarse);

	if (tx) {
		tx->log_begun = true;
		tx->rec.sources |= 1u << MAILLOG;
		s->log_tx = tx;
		s->changed = true;
	}
	return tx;
}

static bool only_log(const struct tx *tx)
{
	return !(tx->rec.sources & ~(1u << MAILLOG));
}

/* The log alone does not say where a transaction of refused recipients ends and the next begins. When the sender of a
 * queue id differs from theirs, that was the place: the queue id goes to a transaction of its own. */
static struct tx *part_from_refused(struct correlate *c, struct tx *tx, const Event *e)
{
	struct tx *next;

	if (!only_log(tx) || tx_same_sender(tx, e))
		return tx;
	next = log_tx_begin(c, tx->session, e, true);
	if (!next)
		return tx;
	tx_keep(next, &next->rec.message_id, tx->rec.message_id);
	tx_keep(next, &next->rec.orig_queue_id, tx->rec.orig_queue_id);
	session_take_queue_id(c, tx, next);
	tx->rec.message_id = (Bytes){0, NULL};
	tx_settle(tx);
	session_mark(c, tx);
	return next;
}

/* "QUEUEID: client=": the j-th such line belongs to the j-th transaction with an accepted recipient. */
static struct tx *log_queued(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = session_find_queue_id(c, e->queue_id), *same = s->log_tx;

	if (tx && tx->session == s)
		return s->log_tx = tx;
	if (tx && !tx->log_begun) /* a queue id says more than what tells sessions apart */
		return tx;
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
	/* No hook saw it: refused recipients may have come before the first accepted one. Should the sender turn out to be
	 * another, part_from_refused() mends it. */
	if (same && !same->rec.queue_id.len && only_log(same))
		return same;
	return log_tx_begin(c, s, e, coarse);
}

static void log_refused(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = session_find_queue_id(c, e->queue_id), *other;
	long i = -1;
	Recipient *r;

	if (tx && tx->session != s)
		tx = NULL;
	if (tx)
		tx = part_from_refused(c, tx, e);
	if (!e->recipient.len || !span_is(span_from(e->stage), "RCPT")) {
		if (!tx)
			tx = s->log_tx && tx_same_sender(s->log_tx, e) && !s->log_tx->log_over ? s->log_tx : s->milter_tx;
		if (!tx)
			tx = log_tx_begin(c, s, e, coarse);
		if (!tx)
			return;
		tx_learn_sender(tx, e);
		tx_add_refusal(tx, e);
		session_told(c, tx, e, -1);
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
	if (!tx && s->log_tx && tx_same_sender(s->log_tx, e) && !s->log_tx->rec.queue_active &&
	    (!s->log_tx->rec.queue_id.len || e->queue_id.len))
		tx = s->log_tx;
	if (!tx) /* refused where no hook looks: still its transaction, when one with that sender is waiting */
		TAILQ_FOREACH(other, &s->txs, entry)
			if (!other->log_begun && other->rec.has_sender && tx_same_sender(other, e)) {
				tx = other;
				break;
			}
	if (!tx)
		tx = log_tx_begin(c, s, e, coarse);
	if (!tx)
		return;
	s->log_tx = tx;
	tx->log_begun = true;
	tx_learn_sender(tx, e);
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
	session_told(c, tx, e, i);
}

void session_end_log(struct correlate *c, struct session *s, const Event *e)
{
	struct tx *tx;

	s->log_open = false;
	if (!s->milter_open)
		s->closed_us = (int64_t)e->at_us;
	session_settle_empty(c, s, e);
	TAILQ_FOREACH(tx, &s->txs, entry) {
		tx->log_over = true;
		if (!tx->rec.ordinal)
			tx->rec.sources |= 1u << MAILLOG;
		tx_settle(tx);
		session_mark(c, tx);
	}
}

/* cleanup and qmgr about a message that is known. */
static void queue_told(struct correlate *c, struct tx *tx, const Event *e)
{
	switch (e->type) {
	case POSTTRACE__EVENT_TYPE__TX_MESSAGE_ID:
		tx_keep(tx, &tx->rec.message_id, e->message_id);
		break;
	case POSTTRACE__EVENT_TYPE__QUEUE_ACTIVE:
		if (tx->rec.queue_active)
			return; /* deferred mail comes back */
		tx = part_from_refused(c, tx, e);
		tx->rec.queue_active = true;
		if (e->size)
			tx->rec.size = e->size;
		tx_learn_sender(tx, e);
		break;
	case POSTTRACE__EVENT_TYPE__TX_REFUSED:
		tx_add_refusal(tx, e);
		break;
	case POSTTRACE__EVENT_TYPE__QUEUE_REMOVED:
	case POSTTRACE__EVENT_TYPE__DELIVERY:
		return; /* the way out is a story of its own */
	case POSTTRACE__EVENT_TYPE__LOG_NOTE:
		if (!tx_add_note(tx, (int64_t)e->at_us, MAILLOG, e->text))
			return;
		break;
	default:
		break;
	}
	session_told(c, tx, e, -1);
}

void log_to_session(struct correlate *c, struct session *s, const Event *e, bool coarse)
{
	struct tx *tx = NULL;

	session_learn(s, e);
	switch (e->type) {
	case POSTTRACE__EVENT_TYPE__LINK_CONNECT:
		session_step(s, e);
		return;
	case POSTTRACE__EVENT_TYPE__LINK_DISCONNECT:
		session_end_log(c, s, e);
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
	case POSTTRACE__EVENT_TYPE__TX_MESSAGE_ID:
	case POSTTRACE__EVENT_TYPE__QUEUE_ACTIVE:
		tx = session_find_queue_id(c, e->queue_id);
		if (tx)
			queue_told(c, tx, e);
		return;
	default:
		tx = s->log_tx ? s->log_tx : s->milter_tx;
		if (!tx)
			return;
		if (!tx_add_note(tx, (int64_t)e->at_us, MAILLOG, e->text))
			return;
	}
	session_told(c, tx, e, -1);
}

static uint64_t pid_key(const Event *e)
{
	return (uint64_t)e->pid << 32 | (uint32_t)hash_bytes(span_from(e->host));
}

static void on_smtpd_line(struct correlate *c, const Event *e, bool coarse)
{
	struct log_view *view = log_view_find(c, pid_key(e));
	struct session *s;

	if (e->type == POSTTRACE__EVENT_TYPE__LINK_CONNECT && view) { /* its end was never logged: killed */
		if (!view->session)
			log_view_alone(c, view);
		if (view->session)
			session_end_log(c, view->session, e);
		log_view_free(c, view);
		view = NULL;
	}
	if (!view)
		view = log_view_new(c, pid_key(e), (int64_t)e->at_us, coarse, span_from(e->client_address));
	if (!view)
		return;
	if (!view->session && (s = log_view_by_evidence(c, view, e)))
		log_view_link(c, view, s);
	if (view->session)
		log_to_session(c, view->session, e, coarse);
	else
		log_view_hold(view, e);
	if (e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT) {
		if (view->session)
			log_view_free(c, view);
		else
			log_view_end(c, view, (int64_t)e->at_us);
	}
}

/* A view that waits and has "QUEUEID: client=" for this id among its lines. */
static struct log_view *view_of_queue_id(struct correlate *c, Bytes queue_id)
{
	struct log_view *view;

	TAILQ_FOREACH(view, &c->views, entry)
		for (size_t i = 0; i < view->n_pending; i++)
			if (view->pending[i]->type == POSTTRACE__EVENT_TYPE__TX_QUEUED &&
			    span_eq(span_from(view->pending[i]->queue_id), span_from(queue_id)))
				return view;
	return NULL;
}

/* cleanup, qmgr, pickup: by queue id alone. */
static void on_queue_line(struct correlate *c, const Event *e, bool coarse)
{
	struct tx *tx = session_find_queue_id(c, e->queue_id);
	struct log_view *view;
	struct session *s;

	if (!tx && (view = view_of_queue_id(c, e->queue_id))) {
		if (!e->has_sender) {
			log_view_hold(view, e); /* with the rest of its session */
			return;
		}
		/* the sender in this line can tell the session at last */
		s = log_view_by_sender(c, view, e);
		if (s)
			log_view_link(c, view, s);
		else
			log_view_alone(c, view);
		tx = session_find_queue_id(c, e->queue_id);
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
	queue_told(c, tx, e);
}

static bool is_smtpd(const Event *e)
{
	struct span service = span_from(e->service);

	return service.len >= 5 && memcmp(service.ptr + service.len - 5, "smtpd", 5) == 0;
}

void correlate_maillog(struct correlate *c, const Event *e, bool coarse)
{
	if (is_smtpd(e) && e->pid)
		on_smtpd_line(c, e, coarse);
	else
		on_queue_line(c, e, coarse);
}
