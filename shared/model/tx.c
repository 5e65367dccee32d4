#include "shared/model/tx.h"

#include <stdlib.h>

#include "shared/base/netaddr.h"
#include "shared/model/tracepoint.h"

#define TX_BYTES_MAX (4u << 20)
#define TX_NOTES_MAX 64
#define TX_STEPS_MAX 10000

struct tx *tx_new(int64_t start_us)
{
	struct tx *tx = calloc(1, sizeof(*tx));

	if (!tx)
		return NULL;
	posttrace__transaction__init(&tx->rec);
	arena_init(&tx->arena, TX_BYTES_MAX);
	tx->start_us = tx->last_us = start_us;
	return tx;
}

void tx_free(struct tx *tx)
{
	if (!tx)
		return;
	arena_fini(&tx->arena);
	free(tx);
}

bool tx_seen_by(uint32_t sources, Posttrace__Source source)
{
	return (sources & 1u << source) != 0;
}

void tx_replace(struct tx *tx, Bytes *field, Bytes src)
{
	struct span copy;

	if (!src.len || span_eq(span_from(*field), span_from(src)))
		return;
	copy = arena_span(&tx->arena, span_from(src));
	if (copy.ptr)
		*field = bytes_of(copy);
	else
		tx->rec.truncated = true;
}

void tx_keep(struct tx *tx, Bytes *field, Bytes src)
{
	if (!field->len)
		tx_replace(tx, field, src);
}

void tx_keep_address(struct tx *tx, Bytes *field, Bytes text)
{
	struct netaddr addr;

	if (field->len || !netaddr_parse(span_from(text), &addr))
		return;
	if (netaddr_is_v4(&addr))
		tx_keep(tx, field, (Bytes){4, addr.bytes + 12});
	else
		tx_keep(tx, field, (Bytes){16, addr.bytes});
}

/* Room for one more element in an array of n that grows by doubling; NULL when there is none. */
static void *grow(struct tx *tx, void *array, size_t n, size_t size)
{
	void *more;

	if (n && (n & (n - 1)) != 0)
		return array; /* the last doubling left room */
	more = arena_alloc(&tx->arena, (n ? 2 * n : 1) * size);
	if (!more) {
		tx->rec.truncated = true;
		return NULL;
	}
	if (n)
		memcpy(more, array, n * size);
	return more;
}

#define GROW(tx, array, n) ((array) = grow_or_keep((tx), (array), (n), sizeof(*(array)), &grown))

static void *grow_or_keep(struct tx *tx, void *array, size_t n, size_t size, bool *grown)
{
	void *more = grow(tx, array, n, size);

	*grown = more != NULL;
	return more ? more : array;
}

/* A decoded array has room for its n elements only; ours have room up to the next power of two. */
static void *widen(struct tx *tx, void *array, size_t n, size_t size, bool *ok)
{
	size_t cap = 1;
	void *more;

	if (!n)
		return NULL;
	while (cap < n)
		cap *= 2;
	more = arena_alloc(&tx->arena, cap * size);
	if (more)
		memcpy(more, array, n * size);
	else
		*ok = false;
	return more ? more : array;
}

#define WIDEN(array, n) ((array) = widen(tx, (array), (n), sizeof(*(array)), &ok))

bool tx_adopt(struct tx *tx, Transaction *from)
{
	Transaction *rec = &tx->rec;
	bool ok = true;

	*rec = *from;
	WIDEN(rec->recipients, rec->n_recipients);
	WIDEN(rec->refusals, rec->n_refusals);
	WIDEN(rec->headers, rec->n_headers);
	WIDEN(rec->notes, rec->n_notes);
	WIDEN(rec->attributes, rec->n_attributes);
	WIDEN(rec->tracepoints, rec->n_tracepoints);
	WIDEN(rec->step_what, rec->n_step_what);
	WIDEN(rec->step_at_us, rec->n_step_at_us);
	WIDEN(rec->step_ref, rec->n_step_ref);
	for (size_t i = 0; i < rec->n_tracepoints; i++) {
		WIDEN(rec->tracepoints[i]->hits, rec->tracepoints[i]->n_hits);
		WIDEN(rec->tracepoints[i]->at_us, rec->tracepoints[i]->n_at_us);
	}
	tx->start_us = (int64_t)rec->id;
	tx->last_us = tx->start_us + (int64_t)rec->duration_us;
	tx->stored = true;
	return ok;
}

void tx_step(struct tx *tx, Posttrace__EventType type, Posttrace__Source source, int64_t at_us, long recipient)
{
	Transaction *rec = &tx->rec;
	bool grown;

	if (at_us > tx->last_us)
		tx->last_us = at_us;
	if (rec->n_step_what >= TX_STEPS_MAX) {
		rec->truncated = true;
		return;
	}
	GROW(tx, rec->step_what, rec->n_step_what);
	if (grown)
		GROW(tx, rec->step_at_us, rec->n_step_at_us);
	if (grown)
		GROW(tx, rec->step_ref, rec->n_step_ref);
	if (!grown)
		return;
	rec->step_what[rec->n_step_what++] = (uint32_t)type + 32 * (uint32_t)source;
	rec->step_at_us[rec->n_step_at_us++] = at_us - tx->start_us;
	rec->step_ref[rec->n_step_ref++] = (uint32_t)(recipient + 1);
}

long tx_add_recipient(struct tx *tx, Bytes address)
{
	Transaction *rec = &tx->rec;
	Recipient *recipient;
	bool grown;

	if (rec->n_recipients >= TX_RECIPIENTS_MAX) {
		rec->truncated = true;
		return -1;
	}
	recipient = arena_alloc(&tx->arena, sizeof(*recipient));
	GROW(tx, rec->recipients, rec->n_recipients);
	if (!recipient || !grown) {
		rec->truncated = true;
		return -1;
	}
	posttrace__recipient__init(recipient);
	tx_keep(tx, &recipient->address, address);
	rec->recipients[rec->n_recipients] = recipient;
	return (long)rec->n_recipients++;
}

void tx_add_refusal(struct tx *tx, const Event *event)
{
	Posttrace__Refusal *refusal = arena_alloc(&tx->arena, sizeof(*refusal));
	bool grown;

	GROW(tx, tx->rec.refusals, tx->rec.n_refusals);
	if (!refusal || !grown || tx->rec.n_refusals >= TX_NOTES_MAX) {
		tx->rec.truncated = true;
		return;
	}
	posttrace__refusal__init(refusal);
	tx_keep(tx, &refusal->stage, event->stage);
	tx_keep(tx, &refusal->dsn, event->dsn);
	tx_keep(tx, &refusal->text, event->text);
	refusal->code = event->code;
	refusal->outcome = event->outcome;
	refusal->source = event->source;
	refusal->at_us = (int64_t)event->at_us - tx->start_us;
	tx->rec.refusals[tx->rec.n_refusals++] = refusal;
}

bool tx_add_note(struct tx *tx, int64_t at_us, Posttrace__Source source, Bytes text)
{
	Posttrace__Note *note;
	bool grown;

	/* a policy service that is down is a line for each tracepoint of each recipient: once is enough */
	for (size_t i = 0; i < tx->rec.n_notes; i++)
		if (tx->rec.notes[i]->source == source && span_eq(span_from(tx->rec.notes[i]->text), span_from(text)))
			return false;
	note = arena_alloc(&tx->arena, sizeof(*note));
	GROW(tx, tx->rec.notes, tx->rec.n_notes);
	if (!note || !grown || tx->rec.n_notes >= TX_NOTES_MAX) {
		tx->rec.truncated = true;
		return false;
	}
	posttrace__note__init(note);
	note->at_us = at_us - tx->start_us;
	note->source = source;
	tx_keep(tx, &note->text, text);
	tx->rec.notes[tx->rec.n_notes++] = note;
	return true;
}

static Attribute *copy_attribute(struct tx *tx, const Attribute *from)
{
	Attribute *copy = arena_alloc(&tx->arena, sizeof(*copy));

	if (!copy)
		return NULL;
	posttrace__attribute__init(copy);
	tx_keep(tx, &copy->name, from->name);
	tx_keep(tx, &copy->value, from->value);
	return copy;
}

void tx_add_attributes(struct tx *tx, const Event *event)
{
	Transaction *rec = &tx->rec;
	bool grown;

	for (size_t i = 0; i < event->n_attributes; i++) {
		bool known = !event->attributes[i]->value.len;
		Attribute *copy;

		for (size_t j = 0; j < rec->n_attributes && !known; j++)
			known = span_eq(span_from(rec->attributes[j]->name), span_from(event->attributes[i]->name));
		if (known)
			continue;
		copy = copy_attribute(tx, event->attributes[i]);
		GROW(tx, rec->attributes, rec->n_attributes);
		if (!copy || !grown)
			return;
		rec->attributes[rec->n_attributes++] = copy;
	}
}

void tx_set_headers(struct tx *tx, const Event *event)
{
	Transaction *rec = &tx->rec;
	bool grown;

	rec->header_count = event->header_count;
	if (rec->n_headers)
		return;
	for (size_t i = 0; i < event->n_headers; i++) {
		Attribute *copy = copy_attribute(tx, event->headers[i]);

		GROW(tx, rec->headers, rec->n_headers);
		if (!copy || !grown)
			return;
		rec->headers[rec->n_headers++] = copy;
	}
}

/* The row of hits that this event's policy_context belongs to, and the position in it. */
static Posttrace__Tracepoints *find_list(const struct tx *tx, const struct tracepoint *point)
{
	for (size_t i = 0; i < tx->rec.n_tracepoints; i++) {
		Posttrace__Tracepoints *row = tx->rec.tracepoints[i];

		if (row->digest == point->digest && span_eq(span_from(row->list), point->list) &&
		    span_eq(span_from(row->service), point->service))
			return row;
	}
	return NULL;
}

/* A context that is not ours is kept as a list of that name. */
static void read_context(const Event *event, struct tracepoint *point)
{
	*point = (struct tracepoint){.list = span_from(event->policy_context)};
	if (!tracepoint_parse(span_from(event->policy_context), point))
		point->list = span_from(event->policy_context);
}

bool tx_has_hit(const struct tx *tx, const Event *event, long recipient)
{
	struct tracepoint point;
	Posttrace__Tracepoints *row;

	read_context(event, &point);
	row = find_list(tx, &point);
	for (size_t i = 0; row && i + 1 < row->n_hits; i += 2)
		if (row->hits[i] == point.position && row->hits[i + 1] == (uint32_t)(recipient + 1))
			return true;
	return false;
}

void tx_add_hit(struct tx *tx, const Event *event, long recipient)
{
	Transaction *rec = &tx->rec;
	struct tracepoint point;
	Posttrace__Tracepoints *row;
	bool grown;

	read_context(event, &point);
	row = find_list(tx, &point);
	if (!row) {
		row = arena_alloc(&tx->arena, sizeof(*row));
		GROW(tx, rec->tracepoints, rec->n_tracepoints);
		if (!row || !grown)
			return;
		posttrace__tracepoints__init(row);
		tx_keep(tx, &row->service, bytes_of(point.service));
		tx_keep(tx, &row->list, bytes_of(point.list));
		row->digest = point.digest;
		rec->tracepoints[rec->n_tracepoints++] = row;
	}
	if (row->n_hits >= 2 * TX_STEPS_MAX) {
		rec->truncated = true;
		return;
	}
	GROW(tx, row->at_us, row->n_at_us);
	if (!grown)
		return;
	GROW(tx, row->hits, row->n_hits);
	if (!grown)
		return;
	row->hits[row->n_hits++] = point.position;
	GROW(tx, row->hits, row->n_hits);
	if (!grown) {
		row->n_hits--;
		return;
	}
	row->hits[row->n_hits++] = (uint32_t)(recipient + 1);
	row->at_us[row->n_at_us++] = (int64_t)event->at_us - tx->start_us;
}

struct tally {
	size_t accepted, rejected, deferred, undecided;
};

static struct tally count_verdicts(const Transaction *rec)
{
	struct tally t = {0, 0, 0, 0};

	for (size_t i = 0; i < rec->n_recipients; i++)
		switch (rec->recipients[i]->outcome) {
		case POSTTRACE__OUTCOME__ACCEPTED:
			t.accepted++;
			break;
		case POSTTRACE__OUTCOME__REJECTED:
			t.rejected++;
			break;
		case POSTTRACE__OUTCOME__DEFERRED:
			t.deferred++;
			break;
		default:
			t.undecided++;
		}
	return t;
}

/* A refusal of the message as a whole: after the recipients, or before there were any. */
static Posttrace__Outcome whole_refusal(const Transaction *rec)
{
	Posttrace__Outcome outcome = POSTTRACE__OUTCOME__OUTCOME_NONE;

	for (size_t i = 0; i < rec->n_refusals; i++) {
		if (rec->refusals[i]->outcome == POSTTRACE__OUTCOME__DEFERRED)
			return POSTTRACE__OUTCOME__DEFERRED;
		outcome = POSTTRACE__OUTCOME__REJECTED;
	}
	return outcome;
}

void tx_settle(struct tx *tx)
{
	Transaction *rec = &tx->rec;
	bool over = tx->milter_over || tx->log_over;
	Posttrace__Outcome outcome = POSTTRACE__OUTCOME__OUTCOME_NONE;
	Posttrace__Certainty certainty = POSTTRACE__CERTAINTY__CERTAIN;
	struct tally t = count_verdicts(rec);

	/* The log gives an accepted message its id and names each refusal; a recipient that only the policy service saw, in
	 * a message that the log knows, and without such a line, was accepted. */
	if (t.undecided && rec->queue_id.len && tx_seen_by(rec->sources, POSTTRACE__SOURCE__SOURCE_MAILLOG) &&
	    (rec->queue_active || tx->log_over)) {
		for (size_t i = 0; i < rec->n_recipients; i++)
			if (rec->recipients[i]->outcome == POSTTRACE__OUTCOME__OUTCOME_NONE) {
				rec->recipients[i]->outcome = POSTTRACE__OUTCOME__ACCEPTED;
				rec->recipients[i]->certainty = POSTTRACE__CERTAINTY__PROBABLE;
			}
		t = count_verdicts(rec);
	}
	if (rec->queue_active) {
		outcome = POSTTRACE__OUTCOME__ACCEPTED;
	} else if (rec->n_refusals) {
		outcome = whole_refusal(rec);
	} else if (t.accepted) {
		if (rec->committed) {
			outcome = POSTTRACE__OUTCOME__ACCEPTED;
			certainty = POSTTRACE__CERTAINTY__PROBABLE;
		} else if (over) {
			outcome = POSTTRACE__OUTCOME__ABORTED;
			if (rec->cut_sources || !tx_seen_by(rec->sources, POSTTRACE__SOURCE__SOURCE_MAILLOG))
				certainty = POSTTRACE__CERTAINTY__PROBABLE;
		}
	} else if (t.undecided) {
		certainty = POSTTRACE__CERTAINTY__UNKNOWN;
	} else if (t.deferred) {
		outcome = POSTTRACE__OUTCOME__DEFERRED;
	} else if (t.rejected) {
		outcome = POSTTRACE__OUTCOME__REJECTED;
	} else if (over) {
		outcome = rec->ordinal ? POSTTRACE__OUTCOME__ABORTED : POSTTRACE__OUTCOME__NO_MAIL;
	}
	rec->outcome = outcome;
	rec->certainty = outcome ? certainty : POSTTRACE__CERTAINTY__UNKNOWN;
	/* With queue_active all is known; otherwise the log's end of the session, or the milter's when there is no log. */
	rec->done = rec->queue_active || tx->log_over || tx->milter_over;
	rec->duration_us = (uint64_t)(tx->last_us > tx->start_us ? tx->last_us - tx->start_us : 0);
}
