/* posttrace-recorder: the one process that writes the store. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <event2/event.h>

#include "recorder/followers.h"
#include "recorder/intake.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/daemon/daemon.h"

#define GATHER_US (US_PER_SEC / 40) /* events that come within this share a commit */
#define IDLE_US   US_PER_SEC        /* with nothing to do: retention, configuration, log rotation */
#define RETRY_US  US_PER_SEC        /* after a fault of the store */

struct recorder {
	struct daemon daemon;
	struct event_base *base;
	struct event *timer, *changes, *log_changes, *term, *interrupt;
	struct store *store;
	struct intake *intake;
	struct followers *followers;
	int inotify_fd;
	bool gathering;
	struct log_limit fault_limit;
};

static void wake_in(struct recorder *r, int64_t us)
{
	struct timeval tv = {(time_t)(us / US_PER_SEC), (suseconds_t)(us % US_PER_SEC)};

	event_add(r->timer, &tv);
}

/* The log's descriptor is quiet again when the log was read, so one call is enough until then. */
static void watch_log(struct recorder *r)
{
	if (r->log_changes)
		event_add(r->log_changes, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct recorder *r = arg;
	struct errinfo err = {""};
	int64_t due;
	bool busy;

	(void)fd;
	(void)what;
	r->gathering = false;
	if (intake_round(r->intake, false, &busy, &err) != STATUS_OK) {
		log_limited(&r->fault_limit, LOG_LEVEL_ERROR, "%s; the journals wait, and nothing is lost meanwhile", err.text);
		wake_in(r, RETRY_US);
		return;
	}
	watch_log(r);
	due = intake_next_due_us(r->intake);
	wake_in(r, busy ? 0 : due >= 0 && due < IDLE_US ? (due < GATHER_US ? GATHER_US : due) : IDLE_US);
}

static void gather(struct recorder *r)
{
	if (!r->gathering) {
		r->gathering = true;
		wake_in(r, GATHER_US);
	}
}

/* Something was written to a journal: look soon, and let a few more come first. */
static void on_change(evutil_socket_t fd, short what, void *arg)
{
	struct recorder *r = arg;
	char buf[16384] __attribute__((aligned(8)));

	(void)what;
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	gather(r);
}

static void on_log(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	gather(arg);
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct recorder *r = arg;

	(void)sig;
	(void)what;
	daemon_notify("STOPPING=1");
	event_base_loopbreak(r->base);
}

/* An orderly stop takes in what is there, so that nothing waits for the next start. */
static void drain(struct recorder *r)
{
	struct errinfo err = {""};
	bool busy = true;

	for (int i = 0; i < 1000 && busy; i++)
		if (intake_round(r->intake, true, &busy, &err) != STATUS_OK) {
			log_warning("%s", err.text);
			return;
		}
}

static enum status watch(struct recorder *r, struct errinfo *err)
{
	r->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (r->inotify_fd < 0 ||
	    inotify_add_watch(r->inotify_fd, r->daemon.config.journal_directory, IN_MODIFY | IN_CREATE | IN_CLOSE_WRITE) < 0)
		return errinfo_set(err, STATUS_IO, "can't watch %s: %s", r->daemon.config.journal_directory, strerror(errno));
	return STATUS_OK;
}

static enum status start(struct recorder *r, struct errinfo *err)
{
	const struct config *config = &r->daemon.config;
	struct store_settings settings = {config->store_directory, config->store_size};
	enum status status;

	status = daemon_make_directory(&r->daemon, config->store_directory, 02750, err);
	if (status == STATUS_OK)
		status = daemon_make_directory(&r->daemon, config->journal_directory, 02770, err);
	daemon_keep_reading(&r->daemon);
	if (status == STATUS_OK)
		status = daemon_drop_privileges(&r->daemon, err);
	if (status == STATUS_OK)
		status = store_open(&settings, STORE_WRITE, &r->store, err);
	if (status == STATUS_OK)
		status = intake_open(config, r->store, &r->intake, err);
	if (status != STATUS_OK)
		return status;
	r->base = event_base_new();
	if (!r->base)
		return errinfo_set(err, STATUS_NOMEM, "can't start the event loop");
	status = followers_open(r->base, config->store_directory, &r->followers, err);
	if (status == STATUS_OK)
		status = watch(r, err);
	if (status != STATUS_OK)
		return status;
	intake_set_followers(r->intake, r->followers);
	r->timer = evtimer_new(r->base, on_timer, r);
	r->changes = event_new(r->base, r->inotify_fd, EV_READ | EV_PERSIST, on_change, r);
	r->term = evsignal_new(r->base, SIGTERM, on_stop, r);
	r->interrupt = evsignal_new(r->base, SIGINT, on_stop, r);
	if (!r->timer || !r->changes || !r->term || !r->interrupt)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	if (intake_log_fd(r->intake) >= 0) {
		r->log_changes = event_new(r->base, intake_log_fd(r->intake), EV_READ, on_log, r);
		if (!r->log_changes)
			return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	event_add(r->changes, NULL);
	event_add(r->term, NULL);
	event_add(r->interrupt, NULL);
	wake_in(r, 0);
	return STATUS_OK;
}

int main(int argc, char **argv)
{
	struct recorder r = {.inotify_fd = -1};
	struct errinfo err = {""};

	daemon_start(&r.daemon, "posttrace-recorder",
	    "Takes in the hooks' journals and Postfix's log, joins them, and writes the store.", argc, argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	if (start(&r, &err) != STATUS_OK)
		daemon_fatal(&err);
	log_info("recording into %s", r.daemon.config.store_directory);
	daemon_notify("READY=1");
	event_base_dispatch(r.base);
	drain(&r);
	followers_close(r.followers);
	intake_close(r.intake);
	store_close(r.store);
	event_free(r.timer);
	event_free(r.changes);
	if (r.log_changes)
		event_free(r.log_changes);
	event_free(r.term);
	event_free(r.interrupt);
	event_base_free(r.base);
	close(r.inotify_fd);
	config_fini(&r.daemon.config);
	return 0;
}
