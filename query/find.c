#include "query/find.h"

#include <ctype.h>

#include "shared/model/trace_id.h"

/* In the order in which they are tried: what names one mail comes first. */
static const struct {
	enum find_as as;
	const char *word;
	enum filter_kind kinds[3]; /* any of them */
	size_t n_kinds;
} readings[] = {
    {FIND_TRACE_ID, "trace id", {0}, 0},
    {FIND_QUEUE_ID, "queue id", {FILTER_QUEUE_ID}, 1},
    {FIND_MESSAGE_ID, "Message-ID", {FILTER_MESSAGE_ID}, 1},
    {FIND_CLIENT, "client address", {FILTER_CLIENT}, 1},
    {FIND_ADDRESS, "address", {FILTER_TO, FILTER_FROM}, 2},
    {FIND_DOMAIN, "domain or host", {FILTER_TO, FILTER_FROM, FILTER_CLIENT}, 3},
    {FIND_LOGIN, "login", {FILTER_LOGIN}, 1},
    {FIND_QUEUE_PART, "part of a queue id", {FILTER_QUEUE_ID}, 1},
};

#define N_READINGS (sizeof(readings) / sizeof(readings[0]))

const char *find_word(enum find_as as)
{
	for (size_t i = 0; i < N_READINGS; i++)
		if (readings[i].as == as)
			return readings[i].word;
	return "anything";
}

static bool is_alnum(struct span word)
{
	for (size_t i = 0; i < word.len; i++)
		if (!isalnum((unsigned char)word.ptr[i]))
			return false;
	return word.len > 0;
}

unsigned find_shapes(struct span word)
{
	struct netblock block;
	unsigned shapes = 0;
	uint64_t id;
	bool at;

	if (!word.len)
		return 0;
	if (netblock_parse(word, &block))
		return FIND_CLIENT;
	at = memchr(word.ptr, '@', word.len) != NULL;
	if (word.ptr[0] == '<' && word.ptr[word.len - 1] == '>')
		return word.len == 2 ? FIND_ADDRESS : FIND_MESSAGE_ID | FIND_ADDRESS;
	if (word.ptr[0] == '@')
		return FIND_DOMAIN;
	if (at)
		return FIND_MESSAGE_ID | FIND_ADDRESS | FIND_LOGIN;
	if (trace_id_parse(word, &id))
		shapes |= FIND_TRACE_ID;
	if (is_alnum(word) && word.len <= 20)
		shapes |= FIND_QUEUE_ID | (word.len >= 3 ? FIND_QUEUE_PART : 0);
	return shapes | FIND_LOGIN | FIND_ADDRESS | FIND_DOMAIN | FIND_MESSAGE_ID;
}

static enum status find_trace(struct query *query, uint64_t id, bool (*fn)(void *arg, const Transaction *tx), void *arg,
    uint64_t *n, struct errinfo *err)
{
	Transaction *tx = NULL;
	struct arena arena;
	enum status status;

	arena_init(&arena, 64u << 20);
	status = store_read_begin(query->store, err);
	if (status == STATUS_OK) {
		status = store_get(query->store, id, &arena, &tx, err);
		store_read_end(query->store);
	}
	if (status == STATUS_OK && filter_match(&query->filter, tx)) {
		*n = 1;
		fn(arg, tx);
	}
	arena_fini(&arena);
	return status == STATUS_ABSENT ? STATUS_OK : status;
}

struct find_run {
	const struct filter *asked; /* the person's own filter */
	bool (*fn)(void *arg, const Transaction *tx);
	void *arg;
	const struct filter *not_these; /* already handed out under another kind */
	size_t n_not_these;
	uint64_t n;
};

static bool find_one(void *arg, const Transaction *tx)
{
	struct find_run *run = arg;

	if (!filter_match(run->asked, tx))
		return true;
	for (size_t i = 0; i < run->n_not_these; i++)
		if (filter_match(&run->not_these[i], tx))
			return true;
	if (run->asked->limit && run->n == run->asked->limit)
		return false;
	run->n++;
	return run->fn(run->arg, tx);
}

static enum status find_as(struct query *query, const char *word, size_t reading,
    bool (*fn)(void *arg, const Transaction *tx), void *arg, uint64_t *n, struct errinfo *err)
{
	struct filter filters[3];
	struct find_run run = {.asked = &query->filter, .fn = fn, .arg = arg, .not_these = filters};

	for (size_t k = 0; k < readings[reading].n_kinds; k++) {
		const char *text = word;
		struct strbuf changed = STRBUF_INIT;
		enum filter_kind kind = readings[reading].kinds[k];
		enum status status;
		uint64_t seen = 0;

		filters[k] = (struct filter){.since_us = query->filter.since_us,
		    .until_us = query->filter.until_us,
		    .reverse = query->filter.reverse};
		if (readings[reading].as == FIND_QUEUE_PART)
			strbuf_addf(&changed, "*%s*", word);
		else if (readings[reading].as == FIND_DOMAIN && kind == FILTER_CLIENT)
			strbuf_adds(&changed, word[0] == '@' ? word + 1 : word);
		else if (readings[reading].as == FIND_DOMAIN && word[0] != '@')
			strbuf_addf(&changed, "@%s", word);
		if (changed.len) {
			struct span copy = arena_span(&query->arena, strbuf_span(&changed));

			strbuf_fini(&changed);
			if (!copy.ptr)
				return errinfo_set(err, STATUS_NOMEM, "out of memory");
			text = copy.ptr;
		}
		/* "mail@" and the like are no host */
		if (filter_add(&filters[k], kind, text, &query->arena, err) != STATUS_OK) {
			filters[k] = (struct filter){.since_us = INT64_MAX};
			continue;
		}
		run.n_not_these = k;
		status = filter_each(&filters[k], query->store, find_one, &run, &seen, NULL, err);
		if (status != STATUS_OK)
			return status;
	}
	*n = run.n;
	return STATUS_OK;
}

enum status find_each(struct query *query, const char *word, unsigned allowed,
    bool (*fn)(void *arg, const Transaction *tx), void *arg, enum find_as *as, uint64_t *n, struct errinfo *err)
{
	unsigned shapes = find_shapes(span_of(word)) & allowed;
	enum status status = STATUS_OK;
	uint64_t id;

	*n = 0;
	for (size_t i = 0; i < N_READINGS && status == STATUS_OK && !*n; i++) {
		if (!(shapes & readings[i].as))
			continue;
		*as = readings[i].as;
		if (readings[i].as != FIND_TRACE_ID)
			status = find_as(query, word, i, fn, arg, n, err);
		else if (trace_id_parse(span_of(word), &id))
			status = find_trace(query, id, fn, arg, n, err);
	}
	return status;
}
