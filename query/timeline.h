/* timeline.h - the stored facts of one transaction in the order in which they happened. Times count from its id. */
#ifndef POSTTRACE_TIMELINE_H
#define POSTTRACE_TIMELINE_H

#include "shared/model/smtp_event.h"

struct moment {
	int64_t at_us;
	Posttrace__EventType type;
	Posttrace__Source source;
	const Recipient *recipient;               /* NULL: none */
	const Posttrace__Refusal *refusal;        /* of TX_REFUSED */
	const Posttrace__Note *note;              /* of LOG_NOTE */
	const Posttrace__Tracepoints *list;       /* of TRACEPOINT */
	unsigned position;                        /* in that list */
	size_t order;                             /* among those of one moment */
};

/* In the arena; *n is 0 when nothing is known or the arena is full. */
struct moment *timeline_make(const Transaction *tx, struct arena *arena, size_t *n);

/* How long it took from hit i of a list to the next hit of the same recipient in it; -1: there is none. */
int64_t timeline_restriction_us(const Posttrace__Tracepoints *list, size_t hit);
/* The restriction behind tracepoint `position` (from 1) in the list's text; empty when the text is unknown. */
struct span timeline_restriction(struct span list_text, unsigned position);

#endif
