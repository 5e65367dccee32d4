/* options.h - posttrace.cf and -o name=value -> struct config.
 *
 * The file is in Postfix's main.cf syntax: "name = value"; '#' starts a comment only as the first non-blank character
 * of a line; a line that starts with white space continues the one before (comments and empty lines between do not
 * end it). No $name expansion. The table in options.c is the one list of settings: defaults, limits and help.
 */
#ifndef POSTTRACE_OPTIONS_H
#define POSTTRACE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "shared/base/span.h"
#include "shared/base/status.h"

enum loop_action { LOOP_ACTION_NONE, LOOP_ACTION_HOLD, LOOP_ACTION_DEFER, LOOP_ACTION_REJECT };

struct config {
	char *file; /* where it was read from; NULL: defaults only */
	/* strings belong to the struct */
	char *store_directory;
	char *journal_directory;
	char *milter_listen;
	char *policy_listen;
	char *maillog_source;
	char *config_directory; /* "": Postfix's own */
	char *keep_headers;     /* names separated by white space or commas */
	char *user;
	char *group;
	uint64_t store_size;   /* bytes */
	uint64_t journal_size; /* bytes */
	uint64_t header_limit; /* bytes kept of one header */
	int64_t retention_time_us;
	int64_t sync_interval_us;
	unsigned loop_hops;
	enum loop_action loop_action;
	bool record_subject;
};

#define CONFIG_FILE_DEFAULT SYSCONFDIR "/posttrace/posttrace.cf"

/* Set every default. */
void config_init(struct config *config);
void config_fini(struct config *config);
/* Read a file over what is set. file NULL: CONFIG_FILE_DEFAULT, which may be absent. The error names file, line and
 * setting. */
enum status config_load(struct config *config, const char *file, struct errinfo *err) MUST_CHECK;
/* "name=value" or "name = value", as -o takes it. */
enum status config_assign(struct config *config, const char *assignment, struct errinfo *err) MUST_CHECK;
/* Every setting and its value, one a line, as posttrace.cf has it; only_set: those that differ from the default. */
void config_print(const struct config *config, bool only_set, FILE *out);
/* Call fn for each logical line of a main.cf-style text: name, value (continuation lines joined by a space), line
 * number. A line without '=' comes with name.len == 0. false from fn stops. */
void config_each_line(
    struct span text, bool (*fn)(void *arg, struct span name, struct span value, unsigned line), void *arg);

/* unix:PATH, inet:HOST:PORT, or libmilter's inet:PORT@HOST; also local:PATH. */
struct listen_address {
	bool is_unix;
	char path[108]; /* unix */
	char host[256]; /* inet; "" for any */
	uint16_t port;
};
enum status listen_address_parse(const char *text, struct listen_address *out, struct errinfo *err) MUST_CHECK;

#endif
