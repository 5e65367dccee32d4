/* find.h - what a person means by one word: recognised by its shape, tried in order of likelihood. */
#ifndef POSTTRACE_FIND_H
#define POSTTRACE_FIND_H

#include "query/cmd.h"

enum find_as {
	FIND_TRACE_ID = 1 << 0,
	FIND_QUEUE_ID = 1 << 1,
	FIND_MESSAGE_ID = 1 << 2,
	FIND_CLIENT = 1 << 3,  /* address or network */
	FIND_ADDRESS = 1 << 4, /* sender or recipient */
	FIND_DOMAIN = 1 << 5,  /* of sender or recipient, or name of the client */
	FIND_LOGIN = 1 << 6,
	FIND_QUEUE_PART = 1 << 7,
};

/* Everything that word may be, by its shape. */
unsigned find_shapes(struct span word);
/* "trace id", "queue id", …: how the word was read. */
const char *find_word(enum find_as as);

/* Call fn for each transaction that word names, newest first, within the query's other filters; the first reading of
 * allowed that finds something is taken, and *as says which. *n is how many; 0: none found. */
enum status find_each(struct query *query, const char *word, unsigned allowed,
    bool (*fn)(void *arg, const Transaction *tx), void *arg, enum find_as *as, uint64_t *n, struct errinfo *err) MUST_CHECK;

#endif
