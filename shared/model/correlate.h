/* correlate.h - join what milter, policy service and log saw into one story. No I/O.
 *
 * Joined on: the milter's connection; client address and port (milter and policy); the smtpd process id (policy and
 * log); the queue id (all three); and for a session that never had a queue id, the refused recipients themselves.
 * Feed events in the order of their time; log lines a moment later than the hooks' events of the same time, so that
 * what a line confirms is there already.
 *
 * Errors:  out of memory or at SESSIONS_MAX, the oldest session is closed as cut off, and counted.
 * Threads: one.
 */
#ifndef POSTTRACE_CORRELATE_H
#define POSTTRACE_CORRELATE_H

#include "shared/model/tx.h"

struct correlate;

struct correlate_sink {
	void *arg;
	/* Give a transaction that is new to the store its id (near start_us, unique). */
	enum status (*new_id)(void *arg, int64_t start_us, uint64_t *id);
	enum status (*put)(void *arg, const Transaction *tx);
	enum status (*put_open)(void *arg, uint64_t key, struct span state);
	/* After an event has been worked in: for followers. The record may still lack its id. */
	void (*notice)(void *arg, Posttrace__EventType type, int64_t at_us, struct tx *tx);
};

struct correlate *correlate_new(const struct correlate_sink *sink);
void correlate_free(struct correlate *c);

/* run: which run of a hook's daemon the event belongs to; coarse: at_us is known to the second only (log). */
void correlate_event(struct correlate *c, const Event *event, uint64_t run, bool coarse);
/* The digest of the configuration in force from now on. */
void correlate_set_configuration(struct correlate *c, uint64_t digest);
/* Time has come to now_us: close what nobody will say more about. */
void correlate_tick(struct correlate *c, int64_t now_us);
/* Is there anything to hand over? */
bool correlate_dirty(const struct correlate *c);
/* Hand all that changed to the sink. The first fault ends it; what was not handed over stays to be. */
enum status correlate_flush(struct correlate *c) MUST_CHECK;
/* The batch was committed (or not: then everything since the last good one is handed over again). */
void correlate_flushed(struct correlate *c, bool committed);
/* After a restart: a session that was open, as put_open had it; load gives the transactions it names. */
enum status correlate_restore(struct correlate *c, uint64_t key, struct span state,
    enum status (*load)(void *arg, uint64_t id, struct arena *arena, Transaction **out), void *arg) MUST_CHECK;
/* How many sessions are open. */
size_t correlate_open(const struct correlate *c);

#endif
