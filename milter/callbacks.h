/* callbacks.h - what libmilter calls: each callback writes down what it saw and lets the mail go on.
 *
 * Threads: one session's callbacks come on different threads, one after another; sessions run side by side. A callback
 *          touches its own session and the journal, nothing else.
 * Memory:  a session keeps only the headers of the message at hand, in an arena with a cap.
 */
#ifndef POSTTRACE_CALLBACKS_H
#define POSTTRACE_CALLBACKS_H

#include <libmilter/mfapi.h>

#include "shared/config/options.h"
#include "shared/journal/journal.h"

struct callbacks_settings {
	const struct config *config; /* must outlive the run */
	bool may_skip_replies;       /* not over TCP: see want_steps() */
};

/* Once, before libmilter starts; the journal may come later, before the first session. */
struct smfiDesc callbacks_start(const struct callbacks_settings *settings);
void callbacks_set_journal(struct journal *journal);
/* Mail transactions that are under way now. */
unsigned callbacks_open_transactions(void);
/* From its return on no callback touches the journal. */
void callbacks_stop(void);

#endif
