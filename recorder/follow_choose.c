#include "recorder/follow_choose.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recorder/follow_source.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"
#include "shared/postfix/child.h"

#define POSTCONF_US (10 * US_PER_SEC)
#define BEHIND_US   (60 * US_PER_SEC) /* a syslogd that fetches from the journal may be late by as much */

void follow_weigh(const struct follow_evidence *e, struct strbuf *source, struct strbuf *why)
{
	/* compared with each other, not with the clock: a quiet night makes neither stale */
	bool as_new = e->file && (!e->journal || e->journal_us < 0 || e->file_us + BEHIND_US >= e->journal_us);
	bool journal_as_new = e->journal && e->journal_us >= 0 && e->journal_us + BEHIND_US >= e->file_us;

	if (e->maillog_file.len && e->maillog_file.ptr[0] == '/') {
		strbuf_adds(source, "file:");
		strbuf_addspan(source, e->maillog_file);
		strbuf_adds(why, "Postfix's maillog_file says so");
		return;
	}
	if (e->no_answer)
		strbuf_addf(why, "postconf gave no maillog_file (%s), and ", e->no_answer);
	else
		strbuf_adds(why, "Postfix has no maillog_file, and ");
	if (e->file && e->file_readable && as_new && !(e->before == 'J' && journal_as_new)) {
		strbuf_addf(source, "file:%s", e->file);
		strbuf_adds(why, "that file was written at ");
		text_rfc3339(why, e->file_us);
		if (!e->journal) {
			strbuf_adds(why, " (there is no journal that can be read)");
		} else if (e->journal_us < 0) {
			strbuf_adds(why, " (the journal has no line about mail)");
		} else {
			strbuf_adds(why, ", the journal's last line about mail at ");
			text_rfc3339(why, e->journal_us);
		}
	} else if (e->journal) {
		strbuf_adds(source, "journal");
		if (!e->file) {
			strbuf_adds(why, "there is no /var/log/mail.log or /var/log/maillog");
		} else if (!e->file_readable) {
			strbuf_addf(why, "%s can't be read by this user", e->file);
		} else if (as_new) {
			strbuf_adds(why, "the journal was read before and has all that the file has");
		} else {
			strbuf_addf(why, "%s was last written at ", e->file);
			text_rfc3339(why, e->file_us);
			strbuf_adds(why, ", the journal's last line about mail at ");
			text_rfc3339(why, e->journal_us);
		}
	} else {
		strbuf_addf(source, "file:%s", e->file ? e->file : "/var/log/mail.log");
		strbuf_adds(why, "there is no journal that can be read");
	}
}

bool follow_ask_maillog_file(const char *config_directory, struct strbuf *answer, struct errinfo *err)
{
	const char *argv[] = {"postconf", "-xh", "maillog_file", NULL, NULL, NULL};
	enum status status;
	int code = 0;

	if (*config_directory) {
		argv[3] = argv[2];
		argv[2] = config_directory;
		argv[1] = "-c";
		argv[4] = argv[3];
		argv[3] = "-xh";
	}
	status = child_run(argv, POSTCONF_US, 64u << 10, answer, NULL, &code, err);
	if (status == STATUS_OK && code != 0)
		status = errinfo_set(err, STATUS_IO, "postconf ended with %d", code);
	while (answer->len && answer->buf[answer->len - 1] == '\n')
		strbuf_setlen(answer, answer->len - 1);
	return status == STATUS_OK;
}

/* With what right there is; access(2) would ask for the user alone. */
static bool can_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void follow_choose(const char *config_directory, char before, struct strbuf *source, struct strbuf *why)
{
	static const char *const files[] = {"/var/log/mail.log", "/var/log/maillog"};
	struct follow_evidence evidence = {.before = before, .journal_us = -1};
	struct strbuf answer = STRBUF_INIT;
	struct errinfo err = {""};
	struct stat st;

	if (!follow_ask_maillog_file(config_directory, &answer, &err))
		evidence.no_answer = err.text;
	else
		evidence.maillog_file = strbuf_span(&answer);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (stat(files[i], &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		if (evidence.file && st.st_mtim.tv_sec * US_PER_SEC <= evidence.file_us)
			continue;
		evidence.file = files[i];
		evidence.file_us = st.st_mtim.tv_sec * US_PER_SEC;
		evidence.file_readable = can_read(files[i]);
	}
	evidence.journal = follow_journal_usable("", &evidence.journal_us);
	follow_weigh(&evidence, source, why);
	strbuf_fini(&answer);
}
