/* logline.h - one line of Postfix's log -> one event.
 *
 * Model:   pure: no I/O, any bytes may come. Source is MAILLOG; what the line does not state is not set.
 * Owns:    the event's bytes point into the line, a few small structs lie in the arena.
 * Threads: any, with a clock each.
 *
 * Text from the network stands between Postfix's own words, so a line can hold a forged "; from=<". Postfix writes the
 * true one last, quotes addresses, and keeps "<>" and '"' out of HELO names: the last trailer that parses to the very
 * end of the line is taken.
 */
#ifndef POSTTRACE_LOGLINE_H
#define POSTTRACE_LOGLINE_H

#include "shared/model/smtp_event.h"

/* Remembers the last stamp: lines of one second share it, and mktime is slow. Start with {0}. */
struct logline_clock {
	char stamp[16];
	int64_t at_us;
	int64_t reference_us;
};

struct logline {
	Event event;
	bool coarse; /* the stamp has whole seconds only */
};

/* STATUS_ABSENT: not a line of Postfix, or of no interest. reference_us is about the time when the line was read: an
 * RFC 3164 stamp has no year and no zone; it becomes the latest such local time not more than a day after it. */
enum status logline_parse(struct logline_clock *clock, struct span line, int64_t reference_us, struct arena *arena,
    struct logline *out) MUST_CHECK;

/* What stands before Postfix's words. */
struct logline_frame {
	int64_t at_us;
	bool coarse;
	struct span host;
	struct span service; /* "postfix/submission/smtpd" */
	struct span program; /* "smtpd" */
	uint32_t pid;
	struct span words;
};
/* STATUS_ABSENT: no stamp, or a tag without '/', which is not Postfix's. */
enum status logline_frame(
    struct logline_clock *clock, struct span line, int64_t reference_us, struct logline_frame *out) MUST_CHECK;

#endif
