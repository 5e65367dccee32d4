/* The systemd journal, as the lines that a syslogd would have written. */
#include "recorder/follow_choose.h"
#include "recorder/follow_source.h"

#include "config.h"

#ifdef HAVE_SYSTEMD
#include <errno.h>
#include <stdlib.h>

#include <systemd/sd-journal.h>

#include "shared/base/text.h"

#define DROPPED_ID "a596d6fe7bfa4994828e72309e95d61e" /* SD_MESSAGE_JOURNAL_DROPPED */

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

/* "Suppressed 1234 messages from postfix@-.service": journald's rate limit is per service. */
static bool is_suppression(struct follow_journal *f)
{
	struct span text, id = field(f->journal, "MESSAGE_ID"), rest;
	uint64_t n = 0;

	if (!span_is(id, DROPPED_ID))
		return false;
	text = field(f->journal, "MESSAGE");
	rest = span_skip(text, sizeof("Suppressed ") - 1);
	for (; rest.len && rest.ptr[0] >= '0' && rest.ptr[0] <= '9' && n < UINT32_MAX; rest = span_skip(rest, 1))
		n = n * 10 + (uint64_t)(rest.ptr[0] - '0');
	if (n && span_find(text, SPAN("postfix")))
		follow_note_gap(&f->follow, n, "journald suppressed lines of Postfix: see RateLimitBurst in journald.conf(5)");
	return true;
}

/* When the sender wrote it, which is before journald got it. */
static int64_t time_of_entry(struct follow_journal *f)
{
	struct span sent = field(f->journal, "_SOURCE_REALTIME_TIMESTAMP");
	uint64_t at_us = 0;

	for (size_t i = 0; i < sent.len && i < 18 && sent.ptr[i] >= '0' && sent.ptr[i] <= '9'; i++)
		at_us = at_us * 10 + (uint64_t)(sent.ptr[i] - '0');
	if (!at_us)
		(void)sd_journal_get_realtime_usec(f->journal, &at_us);
	return (int64_t)at_us;
}

static enum status next_entry(struct follow *follow, struct span *line, struct errinfo *err)
{
	struct follow_journal *f = (struct follow_journal *)follow;
	struct span pid;
	size_t words;
	int n;

	/* takes in new and rotated journal files, and quiets the descriptor */
	n = sd_journal_process(f->journal);
	do {
		if (n >= 0)
			n = sd_journal_next(f->journal);
		if (n < 0)
			return errinfo_set(err, STATUS_IO, "can't read the systemd journal: %s", strerror(-n));
		if (n == 0)
			return STATUS_ABSENT;
		remember(f);
	} while (is_suppression(f));
	strbuf_reset(&f->line);
	text_rfc3339(&f->line, time_of_entry(f));
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
	/* a line may not forge another */
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

static int open_journal(const char *directory, sd_journal **journal)
{
	int n = *directory ? sd_journal_open_directory(journal, directory, 0) : sd_journal_open(journal, SD_JOURNAL_LOCAL_ONLY);

	if (n >= 0)
		n = sd_journal_set_data_threshold(*journal, FOLLOW_LINE_MAX + 64);
	if (n >= 0)
		n = sd_journal_add_match(*journal, "SYSLOG_FACILITY=2", 0); /* mail */
	return n;
}

/* Opening succeeds although nothing may be read. */
static bool has_files(sd_journal *journal)
{
	uint64_t bytes;

	return sd_journal_get_usage(journal, &bytes) >= 0 && bytes;
}

bool follow_journal_usable(const char *directory, int64_t *last_us)
{
	sd_journal *journal = NULL;
	uint64_t at_us;
	bool usable;

	*last_us = -1;
	usable = open_journal(directory, &journal) >= 0 && has_files(journal);
	if (usable && sd_journal_seek_tail(journal) >= 0 && sd_journal_previous(journal) > 0 &&
	    sd_journal_get_realtime_usec(journal, &at_us) >= 0)
		*last_us = (int64_t)at_us;
	sd_journal_close(journal);
	return usable;
}

/* Stand so that sd_journal_next gives the first entry that is new to us. */
static int go_to(struct follow_journal *f, struct span place, bool from_begin)
{
	int n;

	if (place.len) {
		char *cursor = strndup(place.ptr, place.len);

		n = cursor ? sd_journal_seek_cursor(f->journal, cursor) : -ENOMEM;
		if (n == -EINVAL) { /* not a cursor: somebody else's bytes */
			follow_note_gap(&f->follow, 0, "the place in the journal can't be read");
			free(cursor);
			return sd_journal_seek_head(f->journal);
		}
		/* the nearest entry comes first: it is the one at the cursor, or a later one that must not be skipped */
		if (n >= 0 && ((n = sd_journal_next(f->journal)) == 0 || (n > 0 && sd_journal_test_cursor(f->journal, cursor) <= 0))) {
			follow_note_gap(&f->follow, 0, "the place in the journal is gone: it was vacuumed meanwhile");
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

enum status follow_journal_open(
    const char *directory, struct span place, bool from_begin, struct follow **out, struct errinfo *err)
{
	struct follow_journal *f = calloc(1, sizeof(*f));
	int n;

	if (!f)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	f->follow.ops = &journal_ops;
	strbuf_init(&f->follow.place);
	strbuf_init(&f->line);
	n = open_journal(directory, &f->journal);
	if (n >= 0 && !has_files(f->journal)) {
		close_journal(&f->follow);
		return errinfo_set(err, STATUS_DENIED,
		    "there is no systemd journal%s%s that this user may read: start posttrace-recorder as root (it keeps only the "
		    "right to read files), put its user into the group systemd-journal, or set maillog_source = file:/PATH",
		    *directory ? " in " : "", directory);
	}
	if (n >= 0) /* journald's own words about lines that it dropped */
		n = sd_journal_add_disjunction(f->journal);
	if (n >= 0)
		n = sd_journal_add_match(f->journal, "MESSAGE_ID=" DROPPED_ID, 0);
	if (n >= 0)
		n = go_to(f, place, from_begin);
	if (n < 0) {
		close_journal(&f->follow);
		return errinfo_set(err, STATUS_IO, "can't open the systemd journal%s%s: %s", *directory ? " in " : "", directory,
		    strerror(-n));
	}
	(void)sd_journal_get_fd(f->journal);
	*out = &f->follow;
	return STATUS_OK;
}
#else
bool follow_journal_usable(const char *directory, int64_t *last_us)
{
	(void)directory;
	*last_us = -1;
	return false;
}

enum status follow_journal_open(
    const char *directory, struct span place, bool from_begin, struct follow **out, struct errinfo *err)
{
	(void)directory;
	(void)place;
	(void)from_begin;
	(void)out;
	return errinfo_set(err, STATUS_INVALID,
	    "maillog_source = journal: this program was built without libsystemd (configure --with-journal)");
}
#endif
