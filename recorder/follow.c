#include "recorder/follow_source.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "recorder/follow_choose.h"
#include "shared/base/log.h"
#include "shared/daemon/daemon.h"

/* Postfix's own maillog_file is made anew by postlogd after each rotation, readable by root alone whatever the last one
 * was. Another file is as its syslogd was told, for good. */
static bool needs_right(const char *source, const char *config_directory)
{
	struct strbuf own = STRBUF_INIT;
	int64_t last_us;
	bool needed;

	if (!span_starts(span_of(source), SPAN("file:")))
		return !follow_journal_usable(span_starts(span_of(source), SPAN("journal:")) ? source + 8 : "", &last_us);
	needed = access(source + 5, R_OK) != 0 ||
		 (follow_ask_maillog_file(config_directory, &own, NULL) && strcmp(own.buf, source + 5) == 0);
	strbuf_fini(&own);
	return needed;
}

static enum status open_source(const char *source, struct span place, bool from_begin, struct follow **out, struct errinfo *err)
{
	if (span_starts(span_of(source), SPAN("file:/")))
		return follow_file_open(source + 5, place, from_begin, out, err);
	if (strcmp(source, "journal") == 0)
		return follow_journal_open("", place, from_begin, out, err);
	if (span_starts(span_of(source), SPAN("journal:/")))
		return follow_journal_open(source + 8, place, from_begin, out, err);
	return errinfo_set(err, STATUS_INVALID,
	    "maillog_source = %s: that is not file:/PATH, journal, journal:/DIRECTORY or auto", source);
}

enum status follow_open(const char *source, const char *config_directory, struct span place, bool from_begin,
    struct follow **out, struct errinfo *err)
{
	struct strbuf chosen = STRBUF_INIT, why = STRBUF_INIT;
	bool foreign, is_auto = strcmp(source, "auto") == 0;
	bool right = daemon_reading(READING_AWAKE);
	enum status status;

	if (is_auto)
		follow_choose(config_directory, place.len ? place.ptr[0] : 0, &chosen, &why);
	else
		strbuf_adds(&chosen, source);
	/* another kind of source than last time: nothing tells where in this one we would be */
	foreign = place.len && place.ptr[0] != (span_starts(strbuf_span(&chosen), SPAN("file:")) ? 'F' : 'J');
	place = foreign ? (struct span){NULL, 0} : span_skip(place, 1);
	if (right) {
		daemon_reading(READING_ASLEEP);
		right = daemon_reading(needs_right(chosen.buf, config_directory) ? READING_AWAKE : READING_GONE);
	}
	status = chosen.failed ? errinfo_set(err, STATUS_NOMEM, "out of memory")
			       : open_source(chosen.buf, place, from_begin, out, err);
	if (status == STATUS_OK) {
		(*out)->name = strdup(chosen.buf);
		if (foreign)
			follow_note_gap(*out, 0, "Postfix's log is read from another source than before");
		log_info("Postfix's log: %s%s%s%s%s", chosen.buf, is_auto ? " (" : "", is_auto && !why.failed ? why.buf : "",
		    is_auto ? ")" : "", right ? "; keeping root's right to read any file for it, and no other" : "");
	}
	strbuf_fini(&why);
	strbuf_fini(&chosen);
	return status;
}

enum status follow_next(struct follow *follow, struct span *line, struct errinfo *err)
{
	static struct log_limit limit;
	struct errinfo fault = {""};
	enum status status;

	follow->cut = false;
	status = follow->ops->next(follow, line, &fault);
	if (status == STATUS_NOMEM)
		return errinfo_set(err, status, "%s", fault.text);
	if (status == STATUS_OK || status == STATUS_ABSENT)
		return status;
	/* the hooks' facts must not wait for it */
	log_limited(&limit, LOG_LEVEL_WARNING, "%s; looking again every second, and recording without it meanwhile", fault.text);
	return STATUS_ABSENT;
}

bool follow_was_cut(const struct follow *follow)
{
	return follow->cut;
}

bool follow_lost(struct follow *follow, struct follow_gap *gap)
{
	*gap = follow->gap;
	follow->gap = (struct follow_gap){0, NULL};
	return gap->why;
}

struct span follow_place(struct follow *follow)
{
	strbuf_reset(&follow->place);
	strbuf_addch(&follow->place, follow->ops->mark);
	follow->ops->place(follow, &follow->place);
	return follow->place.failed ? (struct span){NULL, 0} : strbuf_span(&follow->place);
}

int follow_fd(struct follow *follow)
{
	return follow->ops->fd(follow);
}

const char *follow_name(const struct follow *follow)
{
	return follow->name ? follow->name : "";
}

void follow_close(struct follow *follow)
{
	if (!follow)
		return;
	strbuf_fini(&follow->place);
	free(follow->name);
	follow->ops->close(follow);
}
