/* tx.h - one mail transaction while facts about it still arrive.
 *
 * Owns:    the record's memory is the transaction's own arena; it goes with tx_free.
 * Limits:  at the arena's cap or TX_RECIPIENTS_MAX, further facts are dropped and the record is marked truncated.
 * Threads: one.
 */
#ifndef POSTTRACE_TX_H
#define POSTTRACE_TX_H

#include <sys/queue.h>

#include <uthash.h>

#include "shared/model/smtp_event.h"

#define TX_RECIPIENTS_MAX 2000

struct session;

struct tx {
	TAILQ_ENTRY(tx) entry; /* in its session, in the order of MAIL */
	TAILQ_ENTRY(tx) dirty_entry;
	UT_hash_handle by_queue_id;
	struct session *session;
	Transaction rec; /* step times count from start_us until the id is given */
	struct arena arena;
	int64_t start_us, last_us;
	bool start_coarse;  /* start_us is known to the second only (log) */
	bool dirty, stored; /* stored: the record is in the store under rec.id */
	bool hashed;        /* is in the table by queue id */
	bool milter_over;   /* the milter saw its end */
	bool log_begun;     /* the log's view has been joined to it */
	bool log_over;      /* the log's session is past it */
};

struct tx *tx_new(int64_t start_us);
void tx_free(struct tx *tx);
/* Go on with a record that was read back (its memory is in tx's arena). False: out of memory. */
bool tx_adopt(struct tx *tx, Transaction *rec);

/* Copy src into *field when *field is empty. */
void tx_keep(struct tx *tx, Bytes *field, Bytes src);
/* The same, replacing what is there when src is not empty. */
void tx_replace(struct tx *tx, Bytes *field, Bytes src);
/* An address in text form as its 4 or 16 bytes. */
void tx_keep_address(struct tx *tx, Bytes *field, Bytes text);
/* A point of the timeline; recipient is an index or -1. */
void tx_step(struct tx *tx, Posttrace__EventType type, Posttrace__Source source, int64_t at_us, long recipient);
/* A new recipient; -1 when there is no room. */
long tx_add_recipient(struct tx *tx, Bytes address);
void tx_add_refusal(struct tx *tx, const Event *event);
/* False when that is noted already, or there is no room. */
bool tx_add_note(struct tx *tx, int64_t at_us, Posttrace__Source source, Bytes text);
void tx_add_attributes(struct tx *tx, const Event *event);
void tx_set_headers(struct tx *tx, const Event *event);
/* A tracepoint was reached. False when that recipient had reached it already (so it is another one). */
bool tx_has_hit(const struct tx *tx, const Event *event, long recipient);
void tx_add_hit(struct tx *tx, const Event *event, long recipient);
/* Was it this source that told of it? */
bool tx_seen_by(uint32_t sources, Posttrace__Source source);
/* Work out the outcome of the transaction from what is known now. */
void tx_settle(struct tx *tx);

#endif
