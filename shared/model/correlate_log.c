/* What the log tells, and which session it tells it of. */
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/hash.h"
#include "shared/model/mailaddr.h"
#include "shared/model/session.h"

#define PENDING_MAX 256
#define COARSE_US   US_PER_SEC

static uint64_t pid_key(const Event *e)
{
	return (uint64_t)e->pid << 32 | (uint32_t)hash_bytes(span_from(e->host));
}

void log_view_free(struct correlate *c, struct log_view *view)
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
	if (!tx_same_sender(tx, e))
		return -1;
	for (size_t i = 0; i < tx->rec.n_recipients; i++) {
		const Recipient *r = tx->rec.recipients[i];

		if (!tx_seen_by(r->sources, MAILLOG) && r->outcome != POSTTRACE__OUTCOME__ACCEPTED &&
		    (!r->dsn.len || span_eq(span_from(r->dsn), span_from(e->dsn))) &&
		    mailaddr_same(span_from(r->address), span_from(e->recipient)))
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
		if (tx->rec.has_sender && !tx->log_begun && tx_same_sender(tx, e) &&
		    (!tx->rec.queue_id.len || span_eq(span_from(tx->rec.queue_id), span_from(e->queue_id))))
			return true;
	return false;
}

/* Which session do these lines belong to? Only evidence counts: a queue id, a client port, a refused recipient, or the
 * process id together with the sender. */
static struct session *find_for_view(struct correlate *c, struct log_view *view, const Event *e)
{
	struct tx *tx = session_find_queue_id(c, e->queue_id);
	struct session *s, *best = NULL;

	if (tx && may_be(view, tx->session, e))
		return tx->session;
	/* a hook may have learnt the queue id of an earlier line since */
	for (size_t i = 0; i < view->n_pending; i++) {
		tx = session_find_queue_id(c, view->pending[i]->queue_id);
		if (tx && may_be(view, tx->session, e))
			return tx->session;
	}
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
	struct session *s, *best = NULL, *same_process = NULL;

	read_count(span_from(e->text), " mail=", &mail_ok, &mail);
	read_count(span_from(e->text), " rcpt=", &rcpt_ok, &rcpt);
	TAILQ_FOREACH(s, &c->sessions, entry) {
		struct counts n;

		/* the milter hears of the end at the same time: a session that it has open is not this one */
		if (!may_be(view, s, e) || s->milter_open)
			continue;
		n = count_commands(s);
		/* the policy service is not asked about every recipient: it may have seen fewer */
		if (!same_process && s->pid && s->pid == e->pid && n.mail <= mail_ok && n.rcpt <= rcpt)
			same_process = s;
		if (n.mail != mail_ok || n.rcpt != rcpt || (s->connection && n.rcpt_ok != rcpt_ok))
			continue;
		if (s->pid && s->pid == e->pid)
			return s;
		if (!best && !s->pid)
			best = s;
	}
	return same_process ? same_process : best;
}

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

static void log_to_session(struct correlate *c, struct session *s, const Event *e, bool coarse)
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

/* Keep a copy of the line until it is known whose it is. */
void log_view_hold(struct log_view *view, const Event *e)
{
	struct strbuf packed = STRBUF_INIT;
	Event **more;

	if (view->n_pending == PENDING_MAX)
		return;
	for (size_t i = 0; e->type == POSTTRACE__EVENT_TYPE__LOG_NOTE && i < view->n_pending; i++)
		if (view->pending[i]->type == e->type && span_eq(span_from(view->pending[i]->text), span_from(e->text)))
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

void log_view_alone(struct correlate *c, struct log_view *view)
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
	if (!view->session) {
		s = session_find_peer(c, session_peer_key(e, buf, sizeof(buf)));
		if (!s)
			s = find_for_view(c, view, e);
		if (!s && e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
			s = find_by_counts(c, view, e);
		if (s)
			link_view(c, view, s);
		else if (e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
			log_view_alone(c, view);
	}
	if (view->session)
		log_to_session(c, view->session, e, coarse);
	else
		log_view_hold(view, e);
	if (e->type == POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
		log_view_free(c, view);
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
	struct tx *tx = session_find_queue_id(c, e->queue_id);
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
				log_view_alone(c, view);
			tx = session_find_queue_id(c, e->queue_id);
		} else {
			log_view_hold(view, e); /* with the rest of its session */
			return;
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
