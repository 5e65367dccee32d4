/* daemon.h - what the three daemons do alike: options, privileges, readiness.
 *
 * Start order: daemon_start (options, configuration, log), open sockets that need root, daemon_drop_privileges,
 * open journals or the store, daemon_ready. Daemons stay in the foreground.
 */
#ifndef POSTTRACE_DAEMON_H
#define POSTTRACE_DAEMON_H

#include <stdbool.h>

#include "shared/config/options.h"

struct daemon {
	const char *name; /* "posttrace-milter" */
	struct config config;
	bool keep_reading;
};

/* Parse -C FILE, -o name=value, -v, -t, -S (syslog), -h, --version; read the configuration. Exits with a sentence on a
 * fault (2: usage, 3: configuration), and with 0 after -h, --version and -t. purpose is one line for -h. */
void daemon_start(struct daemon *daemon, const char *name, const char *purpose, int argc, char **argv);
/* Before daemon_drop_privileges: keep root's right to read any file (Linux: CAP_DAC_READ_SEARCH), asleep, and none of its
 * others. For a log that is root's alone. */
void daemon_keep_reading(struct daemon *daemon);
/* Use the right that was kept, let it sleep, or give it up for good. False: there is none to use. Of the calling thread
 * alone. */
enum daemon_reading { READING_AWAKE, READING_ASLEEP, READING_GONE };
bool daemon_reading(enum daemon_reading wanted);
/* As root: become config.user and config.group. Not as root: nothing. Fatal when the user does not exist. */
enum status daemon_drop_privileges(const struct daemon *daemon, struct errinfo *err) MUST_CHECK;
/* Make a directory for our user if it is not there (parents must be), with this mode. Before dropping privileges. */
enum status daemon_make_directory(
    const struct daemon *daemon, const char *path, unsigned mode, struct errinfo *err) MUST_CHECK;
/* What both hooks need: the journal's directory, and that of the socket, which lets Postfix in and nobody else. */
enum status daemon_make_directories(
    const struct daemon *daemon, const struct listen_address *address, struct errinfo *err) MUST_CHECK;
/* True when a process answers on this unix-domain socket: then it is not a stale one. */
bool daemon_is_served(const struct listen_address *address);
/* A unix-domain socket, bound and listening, replacing a stale one, with mode 0666 inside the directory whose
 * permissions guard it; or a TCP one. Sets non-blocking and close-on-exec. */
enum status daemon_listen(const struct listen_address *address, int backlog, int *fd, struct errinfo *err) MUST_CHECK;
/* sd_notify: "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=…". Nothing without NOTIFY_SOCKET. */
void daemon_notify(const char *state);
/* Raise RLIMIT_NOFILE to its hard limit. */
void daemon_raise_file_limit(void);
/* Say "fatal: …" and exit(3). */
void daemon_fatal(const struct errinfo *err) __attribute__((noreturn));

#endif
