/* The systemd journal, as the lines that a syslogd would have written. */
#include "recorder/follow_source.h"

#ifdef HAVE_SYSTEMD
#include <stdlib.h>

#include <systemd/sd-journal.h>

#include "shared/base/text.h"

struct follow_journal {
	struct follow follow;
	sd_journal *journal;
	struct strbuf line;
	char *cursor;
};

static struct span field(sd_journal *journal, const char *name)
{
	const void *data;
	size_t len, skip = strlen(name) + 1;

	if (sd_journal_get_data(journal, name, &data, &len) < 0 || len < skip)
		return (struct span){NULL, 0};
	return span_skip(span_make(data, len), skip);
}

static void remember(struct follow_journal *f)
{
	char *cursor;

	if (sd_journal_get_cursor(f->journal, &cursor) < 0)
		return;
	free(f->cursor);
	f->cursor = cursor;
}

static enum status next_entry(struct follow *follow, struct span *line, struct errinfo *err)
{
	struct follow_journal *f = (struct follow_journal *)follow;
	struct span pid;
	uint64_t at_us = 0;
	size_t words;
	int n;

	/* takes in new and rotated journal files, and quiets the descriptor */
	n = sd_journal_process(f->journal);
	if (n >= 0)
		n = sd_journal_next(f->journal);
	if (n < 0)
		return errinfo_set(err, STATUS_IO, "can't read the systemd journal: %s", strerror(-n));
	if (n == 0)
		return STATUS_ABSENT;
	remember(f);
	(void)sd_journal_get_realtime_usec(f->journal, &at_us);
	strbuf_reset(&f->line);
	text_rfc3339(&f->line, (long long)at_us);
	strbuf_addch(&f->line, ' ');
	strbuf_addspan(&f->line, field(f->journal, "_HOSTNAME"));
	strbuf_addch(&f->line, ' ');
	strbuf_addspan(&f->line, field(f->journal, "SYSLOG_IDENTIFIER"));
	pid = field(f->journal, "SYSLOG_PID");
	if (!pid.len)
		pid = field(f->journal, "_PID");
	if (pid.len)
		strbuf_addf(&f->line, "[%.*s]", (int)pid.len, pid.ptr);
	strbuf_adds(&f->line, ": ");
	words = f->line.len;
	strbuf_addspan(&f->line, field(f->journal, "MESSAGE"));
	if (f->line.failed)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	for (size_t i = words; i < f->line.len; i++)
		if (f->line.buf[i] == '\n')
			f->line.buf[i] = ' ';
	follow->cut = f->line.len > FOLLOW_LINE_MAX;
	*line = span_head(strbuf_span(&f->line), FOLLOW_LINE_MAX);
	return STATUS_OK;
}

static void put_place(struct follow *follow, struct strbuf *out)
{
	struct follow_journal *f = (struct follow_journal *)follow;

	strbuf_adds(out, f->cursor ? f->cursor : "");
}

static int get_fd(struct follow *follow)
{
	int fd = sd_journal_get_fd(((struct follow_journal *)follow)->journal);

	return fd < 0 ? -1 : fd;
}

static void close_journal(struct follow *follow)
{
	struct follow_journal *f = (struct follow_journal *)follow;

	sd_journal_close(f->journal);
	strbuf_fini(&f->line);
	free(f->cursor);
	free(f);
}

static const struct follow_ops journal_ops = {'J', next_entry, put_place, get_fd, close_journal};

bool follow_journal_usable(void)
{
	sd_journal *journal;
	bool usable;

	if (sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY) < 0)
		return false;
	usable = sd_journal_has_persistent_files(journal) > 0 || sd_journal_has_runtime_files(journal) > 0;
	sd_journal_close(journal);
	return usable;
}

/* Stand so that sd_journal_next gives the first entry that is new to us. */
static int go_to(struct follow_journal *f, struct span place, bool from_begin)
{
	int n;

	if (place.len) {
		char *cursor = strndup(place.ptr, place.len);

		n = cursor ? sd_journal_seek_cursor(f->journal, cursor) : -12;
		/* the nearest entry comes first: it is the one at the cursor, or a later one that must not be skipped */
		if (n >= 0 && (n = sd_journal_next(f->journal)) > 0 && sd_journal_test_cursor(f->journal, cursor) <= 0) {
			f->follow.lost_thread = true;
			n = sd_journal_previous(f->journal);
			if (n == 0)
				n = sd_journal_seek_head(f->journal);
		}
		f->cursor = cursor;
		return n;
	}
	if (from_begin)
		return sd_journal_seek_head(f->journal);
	n = sd_journal_seek_tail(f->journal);
	if (n >= 0 && (n = sd_journal_previous(f->journal)) > 0)
		remember(f);
	return n;
}

enum status follow_journal_open(struct span place, bool from_begin, struct follow **out, struct errinfo *err)
{
	struct follow_journal *f = calloc(1, sizeof(*f));
	int n;

	if (!f)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	f->follow.ops = &journal_ops;
	strbuf_init(&f->follow.place);
	strbuf_init(&f->line);
	n = sd_journal_open(&f->journal, SD_JOURNAL_LOCAL_ONLY);
	if (n >= 0)
		n = sd_journal_set_data_threshold(f->journal, FOLLOW_LINE_MAX + 64);
	/* facility mail */
	if (n >= 0)
		n = sd_journal_add_match(f->journal, "SYSLOG_FACILITY=2", 0);
	if (n >= 0)
		n = go_to(f, place, from_begin);
	if (n < 0) {
		close_journal(&f->follow);
		return errinfo_set(err, STATUS_IO, "can't open the systemd journal: %s", strerror(-n));
	}
	(void)sd_journal_get_fd(f->journal);
	*out = &f->follow;
	return STATUS_OK;
}
#else
/* ISO C wants something in each file. */
extern int follow_journal_is_not_built;
#endif
