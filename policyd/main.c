/* posttrace-policyd - writes down each policy request of Postfix and answers DUNNO. */
#include <signal.h>
#include <unistd.h>

#include <event2/event.h>

#include "policyd/conn.h"
#include "shared/base/log.h"
#include "shared/daemon/daemon.h"

#define BACKLOG 1024

static void on_stop(evutil_socket_t signo, short what, void *arg)
{
	(void)signo;
	(void)what;
	daemon_notify("STOPPING=1");
	conn_server_finish(arg);
}

static void on_reload(evutil_socket_t signo, short what, void *arg)
{
	(void)what;
	(void)arg;
	log_info("signal %d: there is nothing to reload; restart to read the configuration again", (int)signo);
}

int main(int argc, char **argv)
{
	struct daemon daemon;
	struct errinfo err = {""};
	struct listen_address address;
	struct event_base *base;
	struct event *signals[4] = {NULL};
	struct journal *journal = NULL;
	struct conn_server *server = NULL;
	struct journal_counts counts;
	int listener;

	daemon_start(&daemon, "posttrace-policyd", "Records Postfix's policy requests; answers DUNNO to each.", argc, argv);
	if (listen_address_parse(daemon.config.policy_listen, &address, &err) != STATUS_OK)
		daemon_fatal(&err);
	signal(SIGPIPE, SIG_IGN);
	daemon_raise_file_limit();
	if (daemon_make_directories(&daemon, &address, &err) != STATUS_OK ||
	    daemon_listen(&address, BACKLOG, &listener, &err) != STATUS_OK ||
	    daemon_drop_privileges(&daemon, &err) != STATUS_OK)
		daemon_fatal(&err);
	if (journal_open(
		&(struct journal_settings){
		    .directory = daemon.config.journal_directory,
		    .source = POSTTRACE__SOURCE__SOURCE_POLICY,
		    .size_limit = daemon.config.journal_size,
		    .sync_interval_us = daemon.config.sync_interval_us,
		},
		&journal, &err) != STATUS_OK)
		daemon_fatal(&err);
	base = event_base_new();
	if (!base) {
		errinfo_set(&err, STATUS_NOMEM, "libevent finds no way to wait for events");
		daemon_fatal(&err);
	}
	if (conn_server_new(base, listener, journal, &server, &err) != STATUS_OK)
		daemon_fatal(&err);
	signals[0] = evsignal_new(base, SIGTERM, on_stop, server);
	signals[1] = evsignal_new(base, SIGINT, on_stop, server);
	signals[2] = evsignal_new(base, SIGHUP, on_reload, NULL);
	signals[3] = evsignal_new(base, SIGUSR1, on_reload, NULL);
	for (size_t i = 0; i < 4; i++)
		if (!signals[i] || event_add(signals[i], NULL) != 0) {
			errinfo_set(&err, STATUS_NOMEM, "can't watch for signals");
			daemon_fatal(&err);
		}
	log_info("listening on %s", daemon.config.policy_listen);
	daemon_notify("READY=1");

	event_base_dispatch(base);

	conn_server_free(server);
	counts = journal_counts(journal);
	journal_close(journal);
	if (address.is_unix)
		unlink(address.path);
	for (size_t i = 0; i < 4; i++)
		event_free(signals[i]);
	event_base_free(base);
	log_info("stopped; %llu events written, %llu lost", (unsigned long long)counts.written, (unsigned long long)counts.lost);
	config_fini(&daemon.config);
	return 0;
}
