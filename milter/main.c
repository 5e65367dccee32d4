/* posttrace-milter - records what a milter is told about each SMTP session, and lets every mail go on.
 *
 * libmilter's own stop is not used: it takes HUP for a stop, looks for one every 5 s only, and leaves sessions behind
 * without a word. So libmilter runs on a second thread with every signal blocked, and this thread takes the signals:
 * the kernel gives a signal of the process to the main thread whenever that one has it unblocked, so libmilter's
 * signal thread never gets one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "milter/callbacks.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/daemon/daemon.h"

#define MAX_DATA_BYTES    (1u << 20) /* libmilter drops a session whose header is larger; Postfix passes 102,400 */
#define BACKLOG           1024
#define TIMEOUT_SECONDS   (6 * 3600) /* between two steps; a slow client may send one message for hours */
#define DRAIN_US          (2 * US_PER_SEC) /* what a stop waits for transactions under way */

static int wake[2]; /* signals, and the end of libmilter, as bytes */

static void on_signal(int signo)
{
	char byte = (char)signo;
	int saved = errno;

	if (write(wake[1], &byte, 1) < 0) {
		/* full: it will wake up anyway */
	}
	errno = saved;
}

static void catch_signals(void)
{
	static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
	/* SA_NODEFER: at no time may one of them be blocked here, or libmilter's thread gets it. */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void *run_libmilter(void *arg)
{
	(void)arg;
	smfi_main();
	on_signal(0);
	return NULL;
}

static enum status start_libmilter(struct errinfo *err)
{
	sigset_t all, before;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, NULL, run_libmilter, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return errinfo_set(err, STATUS_NOMEM, "can't start a thread: %s", strerror(rc));
	pthread_detach(thread);
	return STATUS_OK;
}

static enum status open_socket(const struct listen_address *address, struct errinfo *err)
{
	char conn[400];

	if (daemon_is_served(address))
		return errinfo_set(err, STATUS_BUSY, "another process listens on %s already", address->path);
	if (address->is_unix)
		snprintf(conn, sizeof(conn), "unix:%s", address->path);
	else
		snprintf(conn, sizeof(conn), "%s:%u%s%s", strchr(address->host, ':') ? "inet6" : "inet", address->port,
		    address->host[0] ? "@" : "", address->host);
	if (smfi_setconn(conn) != MI_SUCCESS)
		return errinfo_set(err, STATUS_INVALID, "libmilter does not accept the address %s", conn);
	smfi_setbacklog(BACKLOG);
	smfi_settimeout(TIMEOUT_SECONDS);
	smfi_setmaxdatasize(MAX_DATA_BYTES);
	if (smfi_opensocket(true) != MI_SUCCESS)
		return errinfo_set(err, STATUS_IO, "can't listen on %s: %s", conn, strerror(errno));
	/* The directory's permissions are the guard. */
	if (address->is_unix && chmod(address->path, 0666) != 0)
		return errinfo_set(err, STATUS_IO, "can't set the mode of %s: %s", address->path, strerror(errno));
	return STATUS_OK;
}

/* Until TERM or INT; false when libmilter gave up. */
static bool wait_for_stop(void)
{
	char byte;

	for (;;) {
		ssize_t n = read(wake[0], &byte, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1 || byte == 0)
			return false;
		if (byte == SIGTERM || byte == SIGINT)
			return true;
		log_info("signal %d: there is nothing to reload; restart to read the configuration again", byte);
	}
}

/* Let the transactions under way end, within reason; a second signal ends the wait. */
static void drain(void)
{
	struct pollfd again = {.fd = wake[0], .events = POLLIN};
	int64_t until = clock_mono_us() + DRAIN_US;

	while (callbacks_open_transactions() && clock_mono_us() < until)
		if (poll(&again, 1, 5) > 0)
			return;
}

int main(int argc, char **argv)
{
	static struct daemon daemon; /* callbacks read its settings as long as the process lives */
	struct errinfo err = {""};
	struct listen_address address;
	struct callbacks_settings settings = {.config = &daemon.config};
	struct journal *journal = NULL;
	struct journal_counts counts;
	bool orderly;

	daemon_start(&daemon, "posttrace-milter", "Records what Postfix tells a milter; changes no mail.", argc, argv);
	if (listen_address_parse(daemon.config.milter_listen, &address, &err) != STATUS_OK)
		daemon_fatal(&err);
	if (daemon.config.loop_action != LOOP_ACTION_NONE)
		log_warning("loop_action is set, but this version only watches");
	settings.may_skip_replies = address.is_unix;
	daemon_raise_file_limit(); /* at EMFILE libmilter spins and answers nobody */
	if (pipe2(wake, O_CLOEXEC) != 0 || fcntl(wake[1], F_SETFL, O_NONBLOCK) != 0) {
		errinfo_set(&err, STATUS_IO, "can't make a pipe: %s", strerror(errno));
		daemon_fatal(&err);
	}
	catch_signals();
	if (smfi_register(callbacks_start(&settings)) != MI_SUCCESS) {
		errinfo_set(&err, STATUS_NOMEM, "libmilter does not accept the filter");
		daemon_fatal(&err);
	}
	if (daemon_make_directories(&daemon, &address, &err) != STATUS_OK || open_socket(&address, &err) != STATUS_OK ||
	    daemon_drop_privileges(&daemon, &err) != STATUS_OK)
		daemon_fatal(&err);
	if (journal_open(
		&(struct journal_settings){
		    .directory = daemon.config.journal_directory,
		    .source = POSTTRACE__SOURCE__SOURCE_MILTER,
		    .size_limit = daemon.config.journal_size,
		    .sync_interval_us = daemon.config.sync_interval_us,
		},
		&journal, &err) != STATUS_OK)
		daemon_fatal(&err);
	callbacks_set_journal(journal);
	if (start_libmilter(&err) != STATUS_OK)
		daemon_fatal(&err);
	log_info("listening on %s", daemon.config.milter_listen);
	daemon_notify("READY=1");

	orderly = wait_for_stop();
	daemon_notify("STOPPING=1");
	if (orderly)
		drain();
	else
		log_error("libmilter stopped by itself");
	callbacks_stop();
	counts = journal_counts(journal);
	journal_close(journal);
	if (address.is_unix)
		unlink(address.path);
	log_info("stopped; %llu events written, %llu lost", (unsigned long long)counts.written, (unsigned long long)counts.lost);
	return orderly ? 0 : 1; /* libmilter's threads end with the process */
}
