/* Whose lines are these? The log's view of a session is held until there is evidence which session it is. */
#include <stdio.h>
#include <stdlib.h>

#include "shared/model/mailaddr.h"
#include "shared/model/session.h"

#define PENDING_MAX 256
/* How far the clocks of two witnesses of one moment may be apart: on a loaded machine either may be late. */
#define SLACK_US    (2 * US_PER_SEC)
#define COARSE_US   US_PER_SEC
/* smtpd tells the milter first, then the log: that may be in the next second. */
#define BEFORE_US   (US_PER_SEC / 10)
/* After the end of a view: how long its session may take to be closed by the milter, and how long to look for it. */
#define SETTLE_US   (US_PER_SEC / 2)
#define GIVE_UP_US  (3 * US_PER_SEC)

struct log_view *log_view_new(struct correlate *c, uint64_t pid_key, int64_t connect_us, bool coarse, struct span address)
{
	struct log_view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	arena_init(&view->arena, SESSION_BYTES);
	view->pid_key = pid_key;
	view->key = c->next_key++;
	view->connect_us = connect_us;
	view->coarse = coarse;
	view->address = arena_span(&view->arena, address);
	HASH_ADD(by_pid, c->by_pid, pid_key, sizeof(view->pid_key), view);
	view->live = true;
	TAILQ_INSERT_TAIL(&c->views, view, entry);
	return view;
}

struct log_view *log_view_find(struct correlate *c, uint64_t pid_key)
{
	struct log_view *view;

	HASH_FIND(by_pid, c->by_pid, &pid_key, sizeof(pid_key), view);
	return view;
}

void log_view_free(struct correlate *c, struct log_view *view)
{
	if (view->live)
		HASH_DELETE(by_pid, c->by_pid, view);
	TAILQ_REMOVE(&c->views, view, entry);
	if (view->session)
		view->session->view = NULL;
	if (view->stored)
		correlate_drop_state(c, view->key);
	arena_fini(&view->arena);
	free(view);
}

/* Keep a copy of the line until it is known whose it is. The end of the session is kept in any case. */
void log_view_hold(struct log_view *view, const Event *e)
{
	struct strbuf packed = STRBUF_INIT;
	Event **more;

	if (view->n_pending >= PENDING_MAX && e->type != POSTTRACE__EVENT_TYPE__LINK_DISCONNECT)
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
	if (view->ended_us && view->n_pending > 1) { /* cleanup is late: the end stays last */
		Event *late = view->pending[view->n_pending - 1];

		view->pending[view->n_pending - 1] = view->pending[view->n_pending - 2];
		view->pending[view->n_pending - 2] = late;
	}
	view->changed = true;
	strbuf_fini(&packed);
}

void log_view_end(struct correlate *c, struct log_view *view, int64_t at_us)
{
	view->ended_us = at_us;
	if (view->live)
		HASH_DELETE(by_pid, c->by_pid, view);
	view->live = false;
}

void log_view_link(struct correlate *c, struct log_view *view, struct session *s)
{
	size_t n = view->n_pending;

	view->session = s;
	view->n_pending = 0;
	s->view = view;
	s->log_linked = s->log_open = true;
	s->closed_us = 0;
	for (size_t i = 0; i < n; i++)
		log_to_session(c, s, view->pending[i], view->coarse);
	view->pending = NULL;
	view->address = (struct span){NULL, 0};
	arena_reset(&view->arena);
	if (view->stored)
		correlate_drop_state(c, view->key);
	view->stored = view->changed = false;
	s->changed = true;
	if (view->ended_us)
		log_view_free(c, view);
}

void log_view_alone(struct correlate *c, struct log_view *view)
{
	struct session *s = session_new(c, view->connect_us);

	if (s) {
		s->pid = (uint32_t)(view->pid_key >> 32);
		log_view_link(c, view, s);
	}
}

/* --- evidence ------------------------------------------------------------ */

static bool same_end_points(const struct log_view *view, const struct session *s)
{
	uint32_t pid = (uint32_t)(view->pid_key >> 32);

	return !s->log_linked && !(s->policy_seen && s->pid && s->pid != pid) &&
	       (!view->address.len || !s->link.client_address.len ||
		   span_eq(view->address, span_from(s->link.client_address)));
}

/* Could the view and the session be the same one? It began while the log has it open, and was not over before that. */
static bool may_be(const struct log_view *view, const struct session *s, int64_t at_us)
{
	int64_t slack = SLACK_US + (view->coarse ? COARSE_US : 0);

	return same_end_points(view, s) && s->begun_us + slack >= view->connect_us && s->begun_us <= at_us + slack &&
	       (!s->closed_us || s->closed_us + slack >= view->connect_us);
}

/* A recipient of the session that the hooks saw refused (or did not see decided), as this line has it. */
long refused_match(const struct tx *tx, const Event *e)
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

/* The session that fits and whose process id is known to be this one; or else the first that fits. */
static struct session *first_with(
    struct correlate *c, struct log_view *view, const Event *e, bool (*has)(const struct session *, const Event *))
{
	uint32_t pid = (uint32_t)(view->pid_key >> 32);
	struct session *s, *best = NULL;

	TAILQ_FOREACH(s, &c->sessions, entry)
		if (may_be(view, s, (int64_t)e->at_us) && has(s, e)) {
			if (s->pid == pid)
				return s;
			if (!best)
				best = s;
		}
	return best;
}

struct session *log_view_by_sender(struct correlate *c, struct log_view *view, const Event *e)
{
	return first_with(c, view, e, session_has_sender);
}

static struct session *by_queue_id(struct correlate *c, const struct log_view *view, Bytes queue_id)
{
	struct tx *tx = session_find_queue_id(c, queue_id);

	return tx && same_end_points(view, tx->session) ? tx->session : NULL;
}

/* Only evidence counts: a queue id, a client port, a refused recipient, or the process id together with the sender. */
struct session *log_view_by_evidence(struct correlate *c, struct log_view *view, const Event *e)
{
	struct session *s;
	char buf[128];

	s = session_find_peer(c, session_peer_key(e, buf, sizeof(buf)));
	if (!s || s->log_linked)
		s = by_queue_id(c, view, e->queue_id);
	/* a hook may have learnt the queue id of an earlier line since */
	for (size_t i = 0; !s && i < view->n_pending; i++)
		s = by_queue_id(c, view, view->pending[i]->queue_id);
	if (s || e->type != POSTTRACE__EVENT_TYPE__TX_REFUSED)
		return s;
	if (e->recipient.len)
		s = first_with(c, view, e, session_has_refused);
	if (!s && e->has_sender) {
		s = log_view_by_sender(c, view, e);
		if (s && s->pid != (uint32_t)(view->pid_key >> 32))
			s = NULL;
	}
	return s;
}

/* --- without evidence: how well a session fits a view that has ended ---------------- */

struct counts {
	unsigned mail, rcpt, rcpt_ok, queued;
	bool helo, tls;
};

static struct counts count_session(const struct session *s)
{
	struct counts n = {0};
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry) {
		unsigned accepted = 0;

		n.mail += tx->rec.ordinal != 0;
		for (size_t i = 0; i < tx->rec.n_recipients; i++)
			accepted += tx->rec.recipients[i]->outcome == POSTTRACE__OUTCOME__ACCEPTED;
		n.rcpt += (unsigned)tx->rec.n_recipients;
		n.rcpt_ok += accepted;
		n.queued += accepted != 0;
	}
	n.helo = s->link.helo.len != 0;
	n.tls = s->link.tls_protocol.len != 0;
	return n;
}

/* "mail=1 rcpt=1/2": command counts of the disconnect line, accepted/all. */
static void read_count(struct span text, const char *word, unsigned *ok, unsigned *all)
{
	size_t len = strlen(word), at = 0, left;
	char digits[32] = "";

	*ok = *all = 0;
	while (at + len <= text.len && (memcmp(text.ptr + at, word, len) != 0 || (at && text.ptr[at - 1] != ' ')))
		at++;
	if (at + len > text.len)
		return;
	left = text.len - at - len;
	memcpy(digits, text.ptr + at + len, left < sizeof(digits) - 1 ? left : sizeof(digits) - 1);
	if (sscanf(digits, "%u/%u", ok, all) == 1)
		*all = *ok;
}

static struct counts count_view(const struct log_view *view, const Event *end)
{
	struct span text = span_from(end->text);
	struct counts n = {0};
	unsigned ok, all;

	read_count(text, "mail=", &n.mail, &all);
	read_count(text, "rcpt=", &n.rcpt_ok, &n.rcpt);
	read_count(text, "helo=", &ok, &all);
	n.helo = ok;
	read_count(text, "ehlo=", &ok, &all);
	n.helo = n.helo || ok;
	read_count(text, "starttls=", &ok, &all);
	n.tls = ok;
	for (size_t i = 0; i < view->n_pending; i++)
		n.queued += view->pending[i]->type == POSTTRACE__EVENT_TYPE__TX_QUEUED;
	return n;
}

/* Every queue id that the hooks know of the session stands in the view. */
static bool queue_ids_stand_in(const struct log_view *view, const struct session *s)
{
	struct tx *tx;

	TAILQ_FOREACH(tx, &s->txs, entry) {
		bool found = !tx->rec.queue_id.len;

		for (size_t i = 0; i < view->n_pending && !found; i++)
			found = span_eq(span_from(view->pending[i]->queue_id), span_from(tx->rec.queue_id));
		if (!found)
			return false;
	}
	return true;
}

/* How far the hooks' time of a moment is from the log's. Within its second a coarse stamp says nothing more: of equals the
 * oldest is taken, as the log keeps their order. Always the nearest to a late stamp would leave the first ones over. */
static int64_t apart(const struct log_view *view, int64_t hook_us, int64_t log_us)
{
	int64_t from = view->coarse ? log_us - log_us % US_PER_SEC - BEFORE_US : log_us;
	int64_t until = view->coarse ? from + BEFORE_US + US_PER_SEC : log_us;

	return hook_us < from ? from - hook_us : hook_us > until ? hook_us - until : 0;
}

/* How far from fitting: -1 not at all, otherwise the less the better. */
static int64_t misfit(const struct log_view *view, const struct counts *want, const struct session *s)
{
	bool whole = s->connection && !(s->cut_sources & 1u << MILTER);
	bool same_process = s->pid && s->pid == (uint32_t)(view->pid_key >> 32);
	struct counts n;
	int64_t sum, odd = 0;

	/* the milter hears of the end at the same time: a session that it has open is not this one, or not yet */
	if (s->milter_open || !may_be(view, s, view->ended_us))
		return -1;
	if (view->n_pending < PENDING_MAX && !queue_ids_stand_in(view, s))
		return -1;
	n = count_session(s);
	if (whole) {
		/* smtpd tells no milter of a RCPT that it can't read */
		if (n.mail != want->mail || n.rcpt > want->rcpt || n.rcpt_ok != want->rcpt_ok)
			return -1;
		odd += (n.rcpt != want->rcpt) + (view->n_pending < PENDING_MAX && n.queued != want->queued);
	} else if (n.mail > want->mail || n.rcpt > want->rcpt || (n.mail < want->mail && !same_process && !s->cut_sources)) {
		return -1; /* half seen: the policy service is not asked about every recipient */
	}
	sum = apart(view, s->begun_us, view->connect_us);
	if (s->closed_us)
		sum += apart(view, s->closed_us, view->ended_us);
	odd += (n.helo != want->helo) + (n.tls != want->tls);
	return same_process ? sum / 16 : sum + 2 * SLACK_US * odd;
}

static void settle_view(struct correlate *c, struct log_view *view, int64_t now_us)
{
	const Event *end = view->n_pending ? view->pending[view->n_pending - 1] : NULL;
	struct session *s = end ? log_view_by_evidence(c, view, end) : NULL, *best = s;
	int64_t least = 0;
	struct counts want;

	if (end && !best) {
		want = count_view(view, end);
		TAILQ_FOREACH(s, &c->sessions, entry) {
			int64_t fit = s->log_linked ? -1 : misfit(view, &want, s);

			if (fit >= 0 && (!best || fit < least)) {
				best = s;
				least = fit;
			}
		}
	}
	if (best)
		log_view_link(c, view, best);
	else if (now_us - view->ended_us > GIVE_UP_US)
		log_view_alone(c, view);
}

void log_views_settle(struct correlate *c, int64_t now_us)
{
	struct log_view *view, *next;

	for (view = TAILQ_FIRST(&c->views); view; view = next) {
		next = TAILQ_NEXT(view, entry);
		if (view->session || !view->n_pending)
			continue;
		if (view->ended_us) {
			if (now_us - view->ended_us > SETTLE_US + (view->coarse ? COARSE_US : 0))
				settle_view(c, view, now_us);
		} else if (now_us - view->connect_us > 2 * LINGER_US &&
			   view->pending[view->n_pending - 1]->type != POSTTRACE__EVENT_TYPE__LINK_CONNECT) {
			log_view_alone(c, view); /* the log is the only witness */
		}
	}
}
