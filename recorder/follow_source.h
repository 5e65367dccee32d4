/* follow_source.h - what follow.c and its sources share. */
#ifndef POSTTRACE_FOLLOW_SOURCE_H
#define POSTTRACE_FOLLOW_SOURCE_H

#include "recorder/follow.h"
#include "shared/base/strbuf.h"

struct follow {
	const struct follow_ops *ops;
	char *name;
	struct strbuf place; /* what follow_place gave last */
	struct follow_gap gap;
	bool cut;
};

/* A place starts with the mark of its kind of source. */
struct follow_ops {
	char mark;
	enum status (*next)(struct follow *, struct span *line, struct errinfo *err);
	void (*place)(struct follow *, struct strbuf *out);
	int (*fd)(struct follow *);
	void (*close)(struct follow *);
};

/* Lines may be missing before the next one that is given; why is a literal. */
static inline void follow_note_gap(struct follow *follow, uint64_t lines, const char *why)
{
	follow->gap.why = why;
	follow->gap.lines += lines;
}

/* place: without the mark; empty: none. */
enum status follow_file_open(const char *path, struct span place, bool from_begin, struct follow **out, struct errinfo *err);
/* directory: "" for the system's own. */
enum status follow_journal_open(
    const char *directory, struct span place, bool from_begin, struct follow **out, struct errinfo *err);

#endif
