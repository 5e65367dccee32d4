/* cmd.h - what a command of posttrace is, and what main prepares for it.
 *
 * To add a command: write cmd_NAME.c with its option rows and cmd_NAME(), declare it here, add a row to the table
 * in main.c and a section to doc/man/posttrace.1. main parses the options, reads posttrace.cf, opens what the row
 * says it needs, and then calls the command with its operands. stdout is data, stderr is talk.
 */
#ifndef POSTTRACE_CMD_H
#define POSTTRACE_CMD_H

#include <stdbool.h>

#include "query/filter.h"
#include "shared/config/options.h"
#include "shared/store/store.h"

enum exit_code { EXIT_FOUND = 0, EXIT_NOTHING = 1, EXIT_USAGE = 2, EXIT_TROUBLE = 3 };

enum need {
	NEED_CONFIG = 1 << 0, /* posttrace.cf is read */
	NEED_STORE = 1 << 1,  /* the store is open for reading */
	TAKE_FILTER = 1 << 2, /* the filter options of design section 4 */
	TAKE_JSON = 1 << 3,   /* -j */
	USE_PAGER = 1 << 4,   /* text goes through a pager on a terminal */
};

struct query;

struct option_row {
	int id;               /* the letter; from 256: long name only; 0 ends the table */
	const char *name;     /* long name */
	const char *argument; /* its name in the help; NULL: takes none */
	const char *help;
};

struct command {
	const char *name;
	int (*run)(struct query *query, int argc, char **argv); /* operands only; returns enum exit_code */
	const char *operands;                                   /* as the usage shows them; NULL: takes none */
	const char *help;                                       /* one line */
	unsigned needs;
	const struct option_row *options; /* its own; may be NULL */
	/* false: err says what is wrong with the value (a usage error) */
	bool (*set)(struct query *query, int id, const char *value, struct errinfo *err);
};

struct query {
	const struct command *command;
	struct config config;
	struct store *store; /* NULL unless needed */
	struct span host;    /* the store's own host; may be empty */
	struct arena arena;  /* lives as long as the command */
	struct filter filter;
	bool json;
	bool color;
	bool quiet;
	unsigned verbose;
	unsigned width; /* of the terminal; 0: no terminal */
};

/* --- for commands --- */

/* "posttrace: fatal: …" and exit. */
void query_fatal(enum exit_code code, const char *fmt, ...) PRINTF(2, 3) __attribute__((noreturn));
void query_fatal_err(const struct errinfo *err) __attribute__((noreturn));
void query_warn(const char *fmt, ...) PRINTF(1, 2);
/* A usage error of this command: the sentence, then where help is. */
void query_usage(const struct query *query, const char *fmt, ...) PRINTF(2, 3) __attribute__((noreturn));
/* Open the store for reading now (for a command that does not need it always). */
enum status query_open_store(struct query *query, struct errinfo *err) MUST_CHECK;

int cmd_attach(struct query *query, int argc, char **argv);
int cmd_detach(struct query *query, int argc, char **argv);
int cmd_export(struct query *query, int argc, char **argv);
int cmd_follow(struct query *query, int argc, char **argv);
int cmd_list(struct query *query, int argc, char **argv);
int cmd_show(struct query *query, int argc, char **argv);
int cmd_store(struct query *query, int argc, char **argv);
int cmd_summary(struct query *query, int argc, char **argv);
int cmd_why(struct query *query, int argc, char **argv);

extern const struct option_row attach_options[];
bool attach_set(struct query *query, int id, const char *value, struct errinfo *err);
extern const struct option_row detach_options[];
bool detach_set(struct query *query, int id, const char *value, struct errinfo *err);
extern const struct option_row store_options[];
bool store_set(struct query *query, int id, const char *value, struct errinfo *err);

#endif
