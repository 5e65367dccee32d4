#include "query/pager.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t pager_pid;

void pager_finish(void)
{
	int status;

	if (!pager_pid)
		return;
	fflush(stdout);
	fflush(stderr);
	close(STDOUT_FILENO); /* end of file for the pager */
	while (waitpid(pager_pid, &status, 0) < 0 && errno == EINTR)
		;
	pager_pid = 0;
}

/* ^C ends our search, but the terminal stays with the pager until it is left. */
static void on_signal(int sig)
{
	int status;

	close(STDOUT_FILENO);
	while (waitpid(pager_pid, &status, 0) < 0 && errno == EINTR)
		;
	signal(sig, SIG_DFL);
	raise(sig);
}

void pager_start(void)
{
	const char *pager = getenv("POSTTRACE_PAGER");
	int ends[2];
	pid_t pid;

	if (!isatty(STDOUT_FILENO))
		return;
	if (!pager)
		pager = getenv("PAGER");
	if (!pager)
		pager = "less";
	if (!*pager || !strcmp(pager, "cat") || pipe(ends) < 0)
		return;
	pid = fork();
	if (pid < 0) {
		close(ends[0]);
		close(ends[1]);
		return;
	}
	if (pid == 0) {
		dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		/* quit if it fits, pass colours, leave the screen as it is */
		setenv("LESS", "FRX", 0);
		setenv("LV", "-c", 0);
		execlp("sh", "sh", "-c", pager, (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	pager_pid = pid;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	atexit(pager_finish);
}
