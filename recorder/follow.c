#include "recorder/follow_source.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What "postconf -h maillog_file" says; empty when there is no answer. */
static void ask_postfix(const char *config_directory, struct strbuf *answer)
{
	char *argv[] = {(char *)"postconf", (char *)"-c", (char *)(uintptr_t)config_directory, (char *)"-h",
	    (char *)"maillog_file", NULL};
	posix_spawn_file_actions_t actions;
	char buf[4096];
	int pipes[2], result;
	ssize_t n;
	pid_t pid;

	if (!config_directory || !*config_directory) {
		argv[1] = argv[3];
		argv[2] = argv[4];
		argv[3] = NULL;
	}
	if (pipe2(pipes, O_CLOEXEC) != 0)
		return;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	result = posix_spawnp(&pid, "postconf", &actions, NULL, argv, environ);
	if (result != 0 && !getenv("PATH")) /* a service manager's bare environment */
		result = posix_spawn(&pid, "/usr/sbin/postconf", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[1]);
	while (result == 0 && (n = read(pipes[0], buf, sizeof(buf))) > 0)
		strbuf_add(answer, buf, (size_t)n);
	close(pipes[0]);
	if (result == 0)
		waitpid(pid, NULL, 0);
	while (answer->len && answer->buf[answer->len - 1] == '\n')
		strbuf_setlen(answer, answer->len - 1);
}

/* "file:PATH" or "journal" */
static void choose(const char *config_directory, struct strbuf *source)
{
	struct strbuf path = STRBUF_INIT;

	ask_postfix(config_directory, &path);
	if (path.len && path.buf[0] == '/')
		strbuf_addf(source, "file:%s", path.buf);
#ifdef HAVE_SYSTEMD
	else if (follow_journal_usable())
		strbuf_adds(source, "journal");
#endif
	else
		strbuf_addf(source, "file:%s",
		    access("/var/log/mail.log", F_OK) != 0 && access("/var/log/maillog", F_OK) == 0 ? "/var/log/maillog"
												    : "/var/log/mail.log");
	strbuf_fini(&path);
}

enum status follow_open(const char *source, const char *config_directory, struct span place, bool from_begin,
    struct follow **out, struct errinfo *err)
{
	struct strbuf chosen = STRBUF_INIT;
	bool is_file;
	char mark;
	bool foreign;
	enum status status;

	if (strcmp(source, "auto") == 0)
		choose(config_directory, &chosen);
	else
		strbuf_adds(&chosen, source);
	is_file = span_starts(strbuf_span(&chosen), SPAN("file:/"));
	mark = is_file ? 'F' : 'J';
	/* another kind of source than last time: nothing tells where in this one we would be */
	foreign = place.len && place.ptr[0] != mark;
	place = foreign ? (struct span){NULL, 0} : span_skip(place, 1);
	if (chosen.failed)
		status = errinfo_set(err, STATUS_NOMEM, "out of memory");
	else if (is_file)
		status = follow_file_open(chosen.buf + 5, place, from_begin, out, err);
#ifdef HAVE_SYSTEMD
	else if (strcmp(chosen.buf, "journal") == 0)
		status = follow_journal_open(place, from_begin, out, err);
#else
	else if (strcmp(chosen.buf, "journal") == 0)
		status = errinfo_set(
		    err, STATUS_INVALID, "maillog_source = journal: this program was built without the systemd journal");
#endif
	else
		status = errinfo_set(err, STATUS_INVALID,
		    "maillog_source = %s: that is not file:/PATH, journal or auto", chosen.buf);
	if (status == STATUS_OK) {
		(*out)->lost_thread = (*out)->lost_thread || foreign;
		(*out)->name = strdup(chosen.buf);
	}
	strbuf_fini(&chosen);
	return status;
}

enum status follow_next(struct follow *follow, struct span *line, struct errinfo *err)
{
	follow->cut = false;
	return follow->ops->next(follow, line, err);
}

bool follow_was_cut(const struct follow *follow)
{
	return follow->cut;
}

bool follow_lost_thread(struct follow *follow)
{
	bool lost = follow->lost_thread;

	follow->lost_thread = false;
	return lost;
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
