#include "shared/postfix/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/clock.h"

#define CHILD_PATH "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"

static bool find_program(const char *name, char *path, size_t cap)
{
	struct span rest = span_of(CHILD_PATH), dir;

	if (strchr(name, '/'))
		return snprintf(path, cap, "%s", name) < (int)cap;
	while (span_cut(&rest, ':', &dir))
		if (snprintf(path, cap, "%.*s/%s", (int)dir.len, dir.ptr, name) < (int)cap && access(path, X_OK) == 0)
			return true;
	return false;
}

/* Read what comes until both ends are closed, the limit or the time is reached. */
static enum status collect(int fds[2], struct strbuf *bufs[2], size_t limit, int64_t until_us)
{
	struct pollfd polls[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
	int open_ends = 2;

	while (open_ends) {
		int64_t left = until_us - clock_mono_us();
		int n = left > 0 ? poll(polls, 2, (int)(left / 1000) + 1) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return STATUS_BUSY;
		for (int i = 0; i < 2; i++) {
			char chunk[16384];
			ssize_t got;

			if (!polls[i].revents)
				continue;
			got = read(polls[i].fd, chunk, sizeof(chunk));
			if (got <= 0) {
				polls[i].fd = -1;
				open_ends--;
			} else if (bufs[i]) {
				if (bufs[i]->len + (size_t)got > limit)
					return STATUS_FULL;
				strbuf_add(bufs[i], chunk, (size_t)got);
			}
		}
	}
	return STATUS_OK;
}

enum status child_run(const char *const *argv, int64_t timeout_us, size_t limit, struct strbuf *out,
    struct strbuf *errors, int *exit_code, struct errinfo *err)
{
	int outs[2] = {-1, -1}, errs[2] = {-1, -1}, how = 0, rc;
	struct strbuf *bufs[2] = {out, errors};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	char path[4096], mail_config[4200];
	char *env[] = {(char *)"PATH=" CHILD_PATH, (char *)"LANG=C", NULL, NULL};
	const char *from = getenv("MAIL_CONFIG");
	enum status status;
	sigset_t none, all;
	pid_t pid;

	if (!find_program(argv[0], path, sizeof(path)))
		return errinfo_set(err, STATUS_ABSENT, "can't find the command %s: is Postfix installed?", argv[0]);
	if (from && snprintf(mail_config, sizeof(mail_config), "MAIL_CONFIG=%s", from) < (int)sizeof(mail_config))
		env[2] = mail_config;
	if (pipe2(outs, O_CLOEXEC) != 0 || pipe2(errs, O_CLOEXEC) != 0) {
		status = errinfo_set(err, STATUS_IO, "can't run %s: %s", path, strerror(errno));
		goto out;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, outs[1], 1);
	posix_spawn_file_actions_adddup2(&actions, errs[1], 2);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawn(&pid, path, &actions, &attr, (char *const *)(uintptr_t)argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (rc != 0) {
		status = errinfo_set(err, STATUS_IO, "can't run %s: %s", path, strerror(rc));
		goto out;
	}
	close(outs[1]);
	close(errs[1]);
	outs[1] = errs[1] = -1;
	status = collect((int[2]){outs[0], errs[0]}, bufs, limit, clock_mono_us() + timeout_us);
	if (status != STATUS_OK)
		kill(pid, SIGKILL);
	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	if (status == STATUS_BUSY)
		errinfo_set(err, status, "%s did not answer within %lld ms and was ended", path, (long long)timeout_us / 1000);
	else if (status == STATUS_FULL)
		errinfo_set(err, status, "%s wrote more than %zu bytes", path, limit);
	else
		*exit_code = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
out:
	for (int i = 0; i < 2; i++) {
		if (outs[i] >= 0)
			close(outs[i]);
		if (errs[i] >= 0)
			close(errs[i]);
	}
	return status;
}
