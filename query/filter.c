#include "query/filter.h"

#include <arpa/inet.h>
#include <stdlib.h>

static const struct span no_angles = {NULL, 0};

static struct span strip_angles(struct span text)
{
	if (text.len >= 2 && text.ptr[0] == '<' && text.ptr[text.len - 1] == '>')
		return text.len == 2 ? no_angles : span_make(text.ptr + 1, text.len - 2);
	return text;
}

bool filter_glob(struct span pattern, struct span text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, resume = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.ptr[p] == '*') {
			star = p++;
			resume = t;
		} else if (p < pattern.len &&
			   (pattern.ptr[p] == '?' ||
			       span_eq_nocase(span_make(pattern.ptr + p, 1), span_make(text.ptr + t, 1)))) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++resume;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.ptr[p] == '*')
		p++;
	return p == pattern.len;
}

static bool contains_nocase(struct span text, struct span needle)
{
	if (!needle.len)
		return true;
	for (size_t i = 0; i + needle.len <= text.len; i++)
		if (!strncasecmp(text.ptr + i, needle.ptr, needle.len))
			return true;
	return false;
}

static bool parse_outcome(struct filter_term *term)
{
	for (unsigned o = POSTTRACE__OUTCOME__ACCEPTED; o <= POSTTRACE__OUTCOME__NO_MAIL; o++) {
		if (span_is(term->text, outcome_name((Posttrace__Outcome)o))) {
			term->number = o;
			return true;
		}
	}
	term->number = FILTER_OUTCOME_OPEN;
	return span_is(term->text, "open");
}

enum status filter_add(
    struct filter *filter, enum filter_kind kind, const char *text, struct arena *arena, struct errinfo *err)
{
	struct filter_term *term = arena_alloc(arena, sizeof(*term));
	char *end;

	if (!term)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	term->kind = kind;
	term->text = span_of(text);
	if (kind == FILTER_FROM || kind == FILTER_TO || kind == FILTER_MESSAGE_ID)
		term->text = strip_angles(term->text);
	else if (!*text)
		return errinfo_set(err, STATUS_INVALID, "an empty value");
	term->is_pattern = term->text.len &&
	    (memchr(term->text.ptr, '*', term->text.len) || memchr(term->text.ptr, '?', term->text.len));
	switch (kind) {
	case FILTER_CLIENT:
		term->is_block = netblock_parse(term->text, &term->block);
		if (!term->is_block && strchr(text, '/'))
			return errinfo_set(err, STATUS_INVALID,
			    "\"%s\" is no network: 192.0.2.0/24, 2001:db8::/32, or a host name", text);
		break;
	case FILTER_OUTCOME:
		if (!parse_outcome(term))
			return errinfo_set(err, STATUS_INVALID,
			    "\"%s\" is no outcome: accepted, rejected, deferred, aborted, no-mail, open", text);
		break;
	case FILTER_CAUSE:
		/* as the JSON has it, until the engine that finds causes brings their names */
		term->number = (unsigned)strtoul(strncmp(text, "cause-", 6) ? text : text + 6, &end, 10);
		if (*end || !term->number)
			return errinfo_set(err, STATUS_INVALID, "\"%s\" is no cause", text);
		break;
	default:
		break;
	}
	term->next = filter->terms;
	filter->terms = term;
	return STATUS_OK;
}

bool filter_is_open(const struct filter *filter)
{
	return !filter->terms && !filter->slower_us;
}

/* USER@DOMAIN, @DOMAIN, DOMAIN, a local part alone, or a pattern over the whole address. */
static bool match_address(const struct filter_term *term, struct span address)
{
	const char *at = address.len ? memrchr(address.ptr, '@', address.len) : NULL;
	struct span domain = {NULL, 0};

	if (at)
		domain = span_skip(address, (size_t)(at - address.ptr) + 1);
	if (term->is_pattern) {
		if (term->text.ptr[0] == '@')
			return at && filter_glob(span_skip(term->text, 1), domain);
		return filter_glob(term->text, address);
	}
	if (term->text.len && term->text.ptr[0] == '@')
		return at && span_eq_nocase(span_skip(term->text, 1), domain);
	if (span_eq_nocase(term->text, address))
		return true;
	return at && term->text.len && !memchr(term->text.ptr, '@', term->text.len) &&
	    span_eq_nocase(term->text, domain);
}

static bool match_text(const struct filter_term *term, struct span text)
{
	return term->is_pattern ? filter_glob(term->text, text) : span_eq(term->text, text);
}

static bool wire_address(Bytes wire, struct netaddr *out)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (wire.len == 16) {
		memcpy(out->bytes, wire.data, 16);
		return true;
	}
	if (wire.len != 4)
		return false;
	memcpy(out->bytes, mapped, 12);
	memcpy(out->bytes + 12, wire.data, 4);
	return true;
}

/* A host name, or .DOMAIN for everything below it. */
static bool match_name(const struct filter_term *term, struct span name)
{
	if (term->is_pattern)
		return filter_glob(term->text, name);
	if (term->text.ptr[0] == '.')
		return name.len > term->text.len &&
		    span_eq_nocase(span_skip(name, name.len - term->text.len), term->text);
	return span_eq_nocase(term->text, name);
}

static bool match_client(const struct filter_term *term, const Transaction *tx)
{
	struct netaddr address;

	if (term->is_block)
		return wire_address(tx->client_address, &address) && netblock_contains(&term->block, &address);
	return match_name(term, span_from(tx->client_name)) || match_name(term, span_from(tx->client_ptr));
}

/* "postfix/submission/smtpd" is also meant by "submission" and "smtpd". */
static bool match_service(const struct filter_term *term, struct span service)
{
	struct span rest = service, part;

	if (match_text(term, service))
		return true;
	while (span_cut(&rest, '/', &part))
		if (match_text(term, part))
			return true;
	return false;
}

static bool outcome_is(const struct filter_term *term, const Transaction *tx)
{
	if (term->number == FILTER_OUTCOME_OPEN)
		return !tx->done;
	if (tx->outcome == term->number)
		return true;
	for (size_t i = 0; i < tx->n_recipients; i++)
		if (tx->recipients[i]->outcome == term->number)
			return true;
	return false;
}

static bool cause_is(const struct filter_term *term, const Transaction *tx)
{
	if (tx->cause == term->number)
		return true;
	for (size_t i = 0; i < tx->n_recipients; i++)
		if (tx->recipients[i]->cause == term->number)
			return true;
	return false;
}

static bool found_in(struct span needle, const Bytes *texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (contains_nocase(span_from(texts[i]), needle))
			return true;
	return false;
}

static bool match_search(struct span needle, const Transaction *tx)
{
	const Bytes own[] = {tx->client_name, tx->client_ptr, tx->helo, tx->daemon_name, tx->service, tx->host,
	    tx->sasl_username, tx->sasl_sender, tx->queue_id, tx->message_id, tx->sender, tx->lost_text,
	    tx->orig_client, tx->orig_queue_id};

	if (found_in(needle, own, sizeof(own) / sizeof(own[0])))
		return true;
	for (size_t i = 0; i < tx->n_recipients; i++) {
		const Recipient *r = tx->recipients[i];
		const Bytes its[] = {r->address, r->dsn, r->text, r->transport, r->next_hop};

		if (found_in(needle, its, sizeof(its) / sizeof(its[0])))
			return true;
	}
	for (size_t i = 0; i < tx->n_refusals; i++) {
		const Bytes its[] = {tx->refusals[i]->text, tx->refusals[i]->dsn, tx->refusals[i]->stage};

		if (found_in(needle, its, sizeof(its) / sizeof(its[0])))
			return true;
	}
	for (size_t i = 0; i < tx->n_headers; i++)
		if (found_in(needle, &tx->headers[i]->name, 1) || found_in(needle, &tx->headers[i]->value, 1))
			return true;
	for (size_t i = 0; i < tx->n_notes; i++)
		if (found_in(needle, &tx->notes[i]->text, 1))
			return true;
	return false;
}

static bool match_term(const struct filter_term *term, const Transaction *tx)
{
	switch (term->kind) {
	case FILTER_FROM:
		return (tx->has_sender || tx->sender.len) && match_address(term, span_from(tx->sender));
	case FILTER_TO:
		for (size_t i = 0; i < tx->n_recipients; i++)
			if (match_address(term, span_from(tx->recipients[i]->address)))
				return true;
		return false;
	case FILTER_CLIENT:
		return match_client(term, tx);
	case FILTER_QUEUE_ID:
		return match_text(term, span_from(tx->queue_id));
	case FILTER_MESSAGE_ID:
		return match_text(term, span_from(tx->message_id));
	case FILTER_LOGIN:
		return match_text(term, span_from(tx->sasl_username));
	case FILTER_SERVICE:
		return match_service(term, span_from(tx->service));
	case FILTER_OUTCOME:
		return outcome_is(term, tx);
	case FILTER_CAUSE:
		return cause_is(term, tx);
	case FILTER_SEARCH:
		return match_search(term->text, tx);
	default:
		return false;
	}
}

bool filter_match(const struct filter *filter, const Transaction *tx)
{
	bool asked[FILTER_KINDS] = {false}, met[FILTER_KINDS] = {false};

	if ((filter->since_us && (int64_t)tx->id < filter->since_us) ||
	    (filter->until_us && (int64_t)tx->id >= filter->until_us) ||
	    (filter->slower_us && (int64_t)tx->duration_us < filter->slower_us))
		return false;
	for (const struct filter_term *term = filter->terms; term; term = term->next) {
		asked[term->kind] = true;
		if (!met[term->kind])
			met[term->kind] = match_term(term, tx);
	}
	for (size_t k = 0; k < FILTER_KINDS; k++)
		if (asked[k] && !met[k])
			return false;
	return true;
}

bool filter_match_recipient(const struct filter *filter, const Recipient *recipient)
{
	bool asked = false;

	for (const struct filter_term *term = filter->terms; term; term = term->next) {
		if (term->kind != FILTER_TO)
			continue;
		if (match_address(term, span_from(recipient->address)))
			return true;
		asked = true;
	}
	return !asked;
}

/* The index that is likely to hand out the fewest candidates; STORE_BY_TIME when none fits. */
static void choose_index(const struct filter *filter, struct store_question *question, unsigned char scratch[16])
{
	static const enum filter_kind order[] = {FILTER_QUEUE_ID, FILTER_MESSAGE_ID, FILTER_LOGIN, FILTER_FROM,
	    FILTER_TO, FILTER_CLIENT, FILTER_CAUSE, FILTER_OUTCOME};

	question->index = STORE_BY_TIME;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		const struct filter_term *found = NULL;
		bool several = false, domain;
		uint32_t number;

		for (const struct filter_term *term = filter->terms; term; term = term->next) {
			several = several || (found && term->kind == order[i]);
			if (term->kind == order[i])
				found = term;
		}
		if (!found || several || found->is_pattern)
			continue;
		question->key = found->text;
		domain = found->text.len && found->text.ptr[0] == '@';
		switch (found->kind) {
		case FILTER_QUEUE_ID:
			question->index = STORE_BY_QUEUE_ID;
			return;
		case FILTER_MESSAGE_ID:
			question->index = STORE_BY_MESSAGE_ID;
			return;
		case FILTER_LOGIN:
			question->index = STORE_BY_LOGIN;
			return;
		case FILTER_FROM:
		case FILTER_TO:
			/* "example.com" may be a domain or a local part: no one index knows */
			if (!domain && found->text.len && !memchr(found->text.ptr, '@', found->text.len))
				continue;
			if (domain)
				question->key = span_skip(found->text, 1);
			question->index = found->kind == FILTER_FROM
			    ? (domain ? STORE_BY_SENDER_DOMAIN : STORE_BY_SENDER)
			    : (domain ? STORE_BY_RECIPIENT_DOMAIN : STORE_BY_RECIPIENT);
			return;
		case FILTER_CLIENT:
			if (!found->is_block)
				continue;
			memcpy(scratch, found->block.addr.bytes, 16);
			question->key = span_make(scratch, 16);
			question->client_prefix = found->block.prefix;
			/* 0 bits would mean all 128 */
			if (found->block.prefix == 0)
				continue;
			question->index = STORE_BY_CLIENT;
			return;
		case FILTER_CAUSE:
			number = htonl(found->number);
			memcpy(scratch, &number, 4);
			question->key = span_make(scratch, 4);
			question->index = STORE_BY_CAUSE;
			return;
		case FILTER_OUTCOME:
			if (found->number == FILTER_OUTCOME_OPEN)
				continue;
			scratch[0] = (unsigned char)found->number;
			question->key = span_make(scratch, 1);
			question->index = STORE_BY_OUTCOME;
			return;
		default:
			break;
		}
	}
	question->index = STORE_BY_TIME;
}

enum status filter_each(const struct filter *filter, struct store *store,
    bool (*fn)(void *arg, const Transaction *tx), void *arg, uint64_t *n, bool *more, struct errinfo *err)
{
	enum { BATCH = 32 };
	struct store_scan scan = {.question = {.since_us = filter->since_us, .until_us = filter->until_us,
					       .oldest_first = filter->reverse}};
	unsigned char scratch[16];
	struct arena arena;
	enum status status = STATUS_OK;
	uint64_t seen = 0;
	bool stop = false;

	choose_index(filter, &scan.question, scratch);
	arena_init(&arena, 256u << 20);
	if (more)
		*more = false;
	while (!stop) {
		Transaction *batch[BATCH];
		uint64_t ids[BATCH];
		size_t n_ids = 0, n_batch = 0;

		arena_reset(&arena);
		status = store_read_begin(store, err);
		if (status != STATUS_OK)
			break;
		status = store_scan_next(store, &scan, ids, BATCH, &n_ids, err);
		for (size_t i = 0; i < n_ids && status == STATUS_OK; i++) {
			Transaction *tx = NULL;

			status = store_get(store, ids[i], &arena, &tx, err);
			if (status == STATUS_ABSENT) /* pruned since the index was read */
				status = STATUS_OK;
			else if (status == STATUS_OK && filter_match(filter, tx))
				batch[n_batch++] = tx;
		}
		store_read_end(store);
		if (status != STATUS_OK || !n_ids)
			break;
		for (size_t i = 0; i < n_batch && !stop; i++) {
			if (filter->limit && seen == filter->limit) {
				if (more)
					*more = true;
				stop = true;
				break;
			}
			seen++;
			stop = !fn(arg, batch[i]);
		}
	}
	arena_fini(&arena);
	*n = seen;
	return status;
}
