/* filter.h - which transactions a person asked for: the same options in every command.
 *
 * Options of one kind widen the choice (any of them), kinds narrow it (all of them). The best index of the store is
 * asked, and each record is checked against the whole filter, since an index may hand out too much.
 */
#ifndef POSTTRACE_FILTER_H
#define POSTTRACE_FILTER_H

#include <stdbool.h>

#include "shared/base/netaddr.h"
#include "shared/store/store.h"

enum filter_kind {
	FILTER_FROM,
	FILTER_TO,
	FILTER_CLIENT,
	FILTER_QUEUE_ID,
	FILTER_MESSAGE_ID,
	FILTER_LOGIN,
	FILTER_SERVICE,
	FILTER_OUTCOME,
	FILTER_CAUSE,
	FILTER_SEARCH,
	FILTER_KINDS,
};

struct filter_term {
	struct filter_term *next;
	enum filter_kind kind;
	struct span text;
	bool is_pattern;       /* has * or ? */
	bool is_block;         /* FILTER_CLIENT: block holds a network */
	struct netblock block;
	unsigned number;       /* FILTER_OUTCOME, FILTER_CAUSE */
};

struct filter {
	struct filter_term *terms; /* in the arena of filter_add */
	int64_t since_us, until_us; /* 0: open */
	int64_t slower_us;
	uint64_t limit; /* 0: none */
	bool has_limit;
	bool reverse; /* oldest first */
};

#define FILTER_OUTCOME_OPEN 100

/* text must outlive the filter. */
enum status filter_add(struct filter *filter, enum filter_kind kind, const char *text, struct arena *arena,
    struct errinfo *err) MUST_CHECK;
/* Nothing was asked for but times, order and limit. */
bool filter_is_open(const struct filter *filter);
bool filter_match(const struct filter *filter, const Transaction *tx);
/* Whether this recipient is one that was asked for (to, outcome). */
bool filter_match_recipient(const struct filter *filter, const Recipient *recipient);

/* Call fn for each match, in order, with no read transaction open; false from fn stops (which is no fault).
 * *n counts what fn saw; *more (may be NULL): the limit ended it. */
enum status filter_each(const struct filter *filter, struct store *store,
    bool (*fn)(void *arg, const Transaction *tx), void *arg, uint64_t *n, bool *more, struct errinfo *err) MUST_CHECK;

/* * any bytes, ? one byte; letters in any case. */
bool filter_glob(struct span pattern, struct span text);

#endif
