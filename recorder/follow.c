#include "recorder/follow_source.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "recorder/follow_choose.h"
#include "shared/base/log.h"
#include "shared/daemon/daemon.h"

/* postlogd makes Postfix's own maillog_file anew after each rotation, readable by root alone whatever the last one was.
 * Another file is as its syslogd was told, for good. */
static void keep_right_if_needed(const char *path, const char *config_directory)
{
	struct strbuf own = STRBUF_INIT;
	bool needed;

	if (!daemon_may_read_all(true))
		return;
	needed = access(path, R_OK) != 0; /* asks for the user that we are, whatever right was kept */
	needed = needed || (follow_ask_maillog_file(config_directory, &own, NULL) && strcmp(own.buf, path) == 0);
	if (daemon_may_read_all(needed))
		log_info("keeping root's right to read any file, and no other, for %s", path);
	strbuf_fini(&own);
}

static enum status open_source(const char *source, const char *config_directory, struct span place, bool from_begin,
    struct follow **out, struct errinfo *err)
{
	if (span_starts(span_of(source), SPAN("file:/"))) {
		keep_right_if_needed(source + 5, config_directory);
		return follow_file_open(source + 5, place, from_begin, out, err);
	}
	daemon_may_read_all(false);
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
	enum status status;

	if (is_auto)
		follow_choose(config_directory, place.len ? place.ptr[0] : 0, &chosen, &why);
	else
		strbuf_adds(&chosen, source);
	/* another kind of source than last time: nothing tells where in this one we would be */
	foreign = place.len && place.ptr[0] != (span_starts(strbuf_span(&chosen), SPAN("file:")) ? 'F' : 'J');
	place = foreign ? (struct span){NULL, 0} : span_skip(place, 1);
	status = chosen.failed ? errinfo_set(err, STATUS_NOMEM, "out of memory")
			       : open_source(chosen.buf, config_directory, place, from_begin, out, err);
	if (status == STATUS_OK) {
		(*out)->name = strdup(chosen.buf);
		if (foreign)
			follow_note_gap(*out, 0, "Postfix's log is read from another source than before");
		log_info("Postfix's log: %s%s%s%s", chosen.buf, is_auto ? " (" : "", is_auto && !why.failed ? why.buf : "",
		    is_auto ? ")" : "");
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
