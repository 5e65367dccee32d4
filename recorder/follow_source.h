/* follow_source.h - what follow.c and its sources share. */
#ifndef POSTTRACE_FOLLOW_SOURCE_H
#define POSTTRACE_FOLLOW_SOURCE_H

#include "recorder/follow.h"
#include "shared/base/strbuf.h"

struct follow {
	const struct follow_ops *ops;
	char *name;
	struct strbuf place; /* what follow_place gave last */
	bool cut, lost_thread;
};

/* A place starts with the mark of its kind of source. */
struct follow_ops {
	char mark;
	enum status (*next)(struct follow *, struct span *line, struct errinfo *err);
	void (*place)(struct follow *, struct strbuf *out);
	int (*fd)(struct follow *);
	void (*close)(struct follow *);
};

/* place: without the mark; empty: none. */
enum status follow_file_open(
    const char *path, struct span place, bool from_begin, struct follow **out, struct errinfo *err);
#ifdef HAVE_SYSTEMD
enum status follow_journal_open(struct span place, bool from_begin, struct follow **out, struct errinfo *err);
/* There is a journal, and we may read it. */
bool follow_journal_usable(void);
#endif

#endif
