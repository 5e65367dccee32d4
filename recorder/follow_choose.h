/* follow_choose.h - where Postfix's log is, when nobody said: maillog_source = auto.
 *
 * Evidence is gathered first and weighed by a pure function, so that each case can be tested.
 */
#ifndef POSTTRACE_FOLLOW_CHOOSE_H
#define POSTTRACE_FOLLOW_CHOOSE_H

#include <stdint.h>

#include "shared/base/strbuf.h"

struct follow_evidence {
	struct span maillog_file; /* Postfix's setting; "": none, it logs by syslog */
	const char *no_answer;    /* why postconf said nothing; NULL: it did */
	const char *file;         /* the syslogd's file; NULL: there is none */
	bool file_readable;
	int64_t file_us;          /* when it was written last */
	bool journal;             /* there is one that we may read */
	int64_t journal_us;       /* its last line about mail; -1: none */
	char before;              /* the mark of the source that was read last time, 0: none */
};

/* source becomes "file:PATH" or "journal", why a clause for a person. */
void follow_weigh(const struct follow_evidence *evidence, struct strbuf *source, struct strbuf *why);
/* Gather and weigh. */
void follow_choose(const char *config_directory, char before, struct strbuf *source, struct strbuf *why);

/* Postfix's maillog_file; false: why there is no answer is in err. */
bool follow_ask_maillog_file(const char *config_directory, struct strbuf *answer, struct errinfo *err);
/* There is a journal, and we may read it; *last_us: its last line about mail, or -1. directory: "" for the system's. */
bool follow_journal_usable(const char *directory, int64_t *last_us);

#endif
