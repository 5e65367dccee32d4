/* main.c - posttrace: find the command, read its options, open what it needs, run it. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "query/cmd.h"
#include "query/pager.h"
#include "query/timespec.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"

static const struct command commands[] = {
    {"why", cmd_why, "WHAT…", "what happened to this: address, domain, queue id, Message-ID, IP, login or trace id",
	NEED_CONFIG | NEED_STORE | TAKE_FILTER | TAKE_JSON | USE_PAGER, NULL, NULL},
    {"list", cmd_list, NULL, "recent transactions, newest first, a row for each recipient",
	NEED_CONFIG | NEED_STORE | TAKE_FILTER | TAKE_JSON | USE_PAGER, NULL, NULL},
    {"show", cmd_show, "ID…", "everything about one: timeline, recipients, refusals, headers, tracepoints",
	NEED_CONFIG | NEED_STORE | TAKE_JSON | USE_PAGER, NULL, NULL},
    {"follow", cmd_follow, NULL, "events as they happen", NEED_CONFIG | TAKE_FILTER | TAKE_JSON, NULL, NULL},
    {"export", cmd_export, NULL, "transactions as JSON lines, with everything that show tells",
	NEED_CONFIG | NEED_STORE | TAKE_FILTER, NULL, NULL},
    {"attach", cmd_attach, NULL, "put our hooks into a Postfix instance (main.cf and master.cf)",
	NEED_CONFIG | TAKE_JSON, attach_options, attach_set},
    {"detach", cmd_detach, NULL, "take them out again, exactly", NEED_CONFIG | TAKE_JSON, detach_options, detach_set},
    {"store", cmd_store, "stat | verify | prune | compact DIRECTORY | backup DIRECTORY", "upkeep of the store",
	NEED_CONFIG | NEED_STORE | TAKE_JSON, store_options, store_set},
};

/* bare "posttrace" */
static const struct command summary = {"", cmd_summary, NULL, "is it healthy, and what came through last",
    NEED_CONFIG | TAKE_JSON | USE_PAGER, NULL, NULL};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

enum { OPT_COLOR = 256, OPT_NO_PAGER, OPT_VERSION };

static const struct option_row common_options[] = {
    {'h', "help", NULL, "this text"},
    {'c', "config-directory", "DIR", "Postfix's configuration directory (also from MAIL_CONFIG)"},
    {'C', "config", "FILE", "posttrace.cf to read"},
    {'o', "option", "NAME=VALUE", "a setting, over what posttrace.cf says"},
    {'v', "verbose", NULL, "say more: how a word was read"},
    {OPT_COLOR, "color", "WHEN", "auto, always or never"},
    {OPT_NO_PAGER, "no-pager", NULL, "never start a pager"},
    {OPT_VERSION, "version", NULL, "say which version this is"},
    {0, NULL, NULL, NULL},
};

static const struct option_row json_options[] = {
    {'j', "json", NULL, "one JSON object a line; members are only ever added"},
    {0, NULL, NULL, NULL},
};

enum { OPT_CLIENT = 300, OPT_LOGIN, OPT_SERVICE, OPT_OUTCOME, OPT_CAUSE, OPT_SLOWER };

static const struct option_row filter_options[] = {
    {'f', "from", "ADDRESS", "sender: user@domain, @domain, domain, a pattern with *, or <>"},
    {'t', "to", "ADDRESS", "a recipient, in the same forms"},
    {OPT_CLIENT, "client", "CIDR|NAME", "client address, network, or name (.domain: below it)"},
    {'q', "queue-id", "ID", "Postfix's queue id"},
    {'m', "message-id", "ID", "Message-ID, with or without <>"},
    {OPT_LOGIN, "login", "NAME", "SASL user name"},
    {OPT_SERVICE, "service", "NAME", "as in the log: submission, postfix/smtpd"},
    {OPT_OUTCOME, "outcome", "WORD", "accepted, rejected, deferred, aborted, no-mail or open"},
    {OPT_CAUSE, "cause", "NAME", "why it was refused"},
    {'x', "search", "TEXT", "text anywhere: names, replies, headers, in any case"},
    {'S', "since", "TIME", "begun at or after: 90m, \"2h ago\", today, 2026-11-23T18:15:22Z"},
    {'U', "until", "TIME", "begun before"},
    {'n', "limit", "N", "at most N transactions; 0: all"},
    {'r', "reverse", NULL, "the other way round: oldest first"},
    {OPT_SLOWER, "slower", "DURATION", "took at least this long: 500ms, 2s, 1min"},
    {0, NULL, NULL, NULL},
};

struct settings_given {
	const char *file;
	const char *config_directory;
	const char *assignments[64];
	size_t n_assignments;
	const char *color;
	bool no_pager;
};

static void vsay(const char *word, const char *fmt, va_list ap) PRINTF(2, 0);
static void vsay(const char *word, const char *fmt, va_list ap)
{
	char raw[1024], line[2048];

	vsnprintf(raw, sizeof(raw), fmt, ap);
	text_escape_line(line, sizeof(line), raw);
	fflush(stdout);
	fprintf(stderr, "posttrace: %s: %s\n", word, line);
}

void query_fatal(enum exit_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay("fatal", fmt, ap);
	va_end(ap);
	exit((int)code);
}

void query_fatal_err(const struct errinfo *err)
{
	query_fatal(EXIT_TROUBLE, "%s", err->text[0] ? err->text : "out of memory or unknown fault");
}

void query_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay("warning", fmt, ap);
	va_end(ap);
}

static void say_usage_and_exit(const char *command, const char *fmt, va_list ap)
    PRINTF(2, 0) __attribute__((noreturn));
static void say_usage_and_exit(const char *command, const char *fmt, va_list ap)
{
	vsay("fatal", fmt, ap);
	fprintf(stderr, "Try \"posttrace %s%s-h\".\n", command, *command ? " " : "");
	exit(EXIT_USAGE);
}

void query_usage(const struct query *query, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_usage_and_exit(query->command ? query->command->name : "", fmt, ap);
}

static void print_rows(const char *title, const struct option_row *rows)
{
	if (!rows || !rows->id)
		return;
	printf("\n%s:\n", title);
	for (; rows->id; rows++) {
		char left[64];
		int n = rows->id < 256 ? snprintf(left, sizeof(left), "-%c, ", rows->id)
				       : snprintf(left, sizeof(left), "    ");

		snprintf(left + n, sizeof(left) - (size_t)n, "--%s%s%s", rows->name, rows->argument ? " " : "",
		    rows->argument ? rows->argument : "");
		printf("  %-28s  %s\n", left, rows->help);
	}
}

static void print_command_help(const struct command *command)
{
	printf("Usage: posttrace%s%s [options]%s%s\n%s\n", *command->name ? " " : "", command->name,
	    command->operands ? " " : "", command->operands ? command->operands : "", command->help);
	print_rows("Options", command->options);
	if (command->needs & TAKE_JSON)
		print_rows("Output", json_options);
	if (command->needs & TAKE_FILTER)
		print_rows("Which", filter_options);
	print_rows("Common", common_options);
}

static void print_help(void)
{
	printf("Usage: posttrace [-c DIR] [-C FILE] [COMMAND [options] [ID…]]\n"
	       "What happened to this mail, and why? Without a command: is it healthy, and what came through last.\n\n"
	       "Commands (any unambiguous start of a name will do):\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-8s  %s\n", commands[i].name, commands[i].help);
	print_rows("Common", common_options);
	printf("\nposttrace COMMAND -h tells about one command; posttrace(1) about all.\n");
}

static const struct command *find_command(const struct query *query, const char *name)
{
	const struct command *found = NULL;

	for (size_t i = 0; i < N_COMMANDS; i++) {
		if (strncmp(commands[i].name, name, strlen(name)))
			continue;
		if (!commands[i].name[strlen(name)])
			return &commands[i];
		if (found)
			query_usage(query, "\"%s\" may mean %s or %s", name, found->name, commands[i].name);
		found = &commands[i];
	}
	if (!found || !*name)
		query_usage(query, "there is no command \"%s\"", name);
	return found;
}

/* --- options --- */

static const struct {
	int id;
	enum filter_kind kind;
} filter_ids[] = {{'f', FILTER_FROM}, {'t', FILTER_TO}, {OPT_CLIENT, FILTER_CLIENT}, {'q', FILTER_QUEUE_ID},
    {'m', FILTER_MESSAGE_ID}, {OPT_LOGIN, FILTER_LOGIN}, {OPT_SERVICE, FILTER_SERVICE},
    {OPT_OUTCOME, FILTER_OUTCOME}, {OPT_CAUSE, FILTER_CAUSE}, {'x', FILTER_SEARCH}};

static bool set_filter(struct query *query, int id, const char *value, struct errinfo *err)
{
	struct filter *filter = &query->filter;
	char *end;

	for (size_t i = 0; i < sizeof(filter_ids) / sizeof(filter_ids[0]); i++)
		if (filter_ids[i].id == id)
			return filter_add(filter, filter_ids[i].kind, value, &query->arena, err) == STATUS_OK;
	switch (id) {
	case 'S':
		return timespec_parse(value, clock_now_us(), &filter->since_us, err) == STATUS_OK;
	case 'U':
		return timespec_parse(value, clock_now_us(), &filter->until_us, err) == STATUS_OK;
	case OPT_SLOWER:
		return timespec_duration(value, &filter->slower_us, err) == STATUS_OK;
	case 'r':
		filter->reverse = true;
		return true;
	default: /* -n */
		filter->limit = strtoull(value, &end, 10);
		filter->has_limit = true;
		if (*end || !*value || *value == '-')
			return errinfo_set(err, STATUS_INVALID, "\"%s\" is no number", value), false;
		return true;
	}
}

static bool has_row(const struct option_row *rows, int id)
{
	for (; rows && rows->id; rows++)
		if (rows->id == id)
			return true;
	return false;
}

static void set_common(struct query *query, struct settings_given *given, int id, const char *value)
{
	switch (id) {
	case 'h':
		if (query->command)
			print_command_help(query->command);
		else
			print_help();
		exit(EXIT_FOUND);
	case OPT_VERSION:
		puts("posttrace " PACKAGE_VERSION);
		exit(EXIT_FOUND);
	case 'c':
		given->config_directory = value;
		break;
	case 'C':
		given->file = value;
		break;
	case 'o':
		if (given->n_assignments == sizeof(given->assignments) / sizeof(given->assignments[0]))
			query_usage(query, "too many -o");
		given->assignments[given->n_assignments++] = value;
		break;
	case 'v':
		query->verbose++;
		break;
	case OPT_COLOR:
		if (strcmp(value, "auto") && strcmp(value, "always") && strcmp(value, "never"))
			query_usage(query, "--color=%s: it is auto, always or never", value);
		given->color = value;
		break;
	case OPT_NO_PAGER:
		given->no_pager = true;
		break;
	}
}

enum { MAX_ROWS = 64 };

static void add_rows(const struct option_row *rows, struct option *longs, size_t *n, char *shorts)
{
	for (; rows && rows->id && *n + 1 < MAX_ROWS; rows++) {
		longs[(*n)++] = (struct option){rows->name, rows->argument ? required_argument : no_argument, NULL,
		    rows->id};
		if (rows->id < 256) {
			size_t at = strlen(shorts);

			shorts[at++] = (char)rows->id;
			if (rows->argument)
				shorts[at++] = ':';
			shorts[at] = '\0';
		}
	}
}

/* Reads options up to the operands; a command's own rows go before the common ones. */
static int parse_options(
    struct query *query, struct settings_given *given, const struct command *command, int argc, char **argv)
{
	struct option longs[MAX_ROWS] = {{NULL, 0, NULL, 0}};
	char shorts[2 * MAX_ROWS + 4];
	size_t n = 0;
	int id;

	/* '+': before the command, stop at it */
	strcpy(shorts, query->command ? ":" : "+:");
	add_rows(command->options, longs, &n, shorts);
	if (command->needs & TAKE_JSON)
		add_rows(json_options, longs, &n, shorts);
	if (command->needs & TAKE_FILTER)
		add_rows(filter_options, longs, &n, shorts);
	add_rows(common_options, longs, &n, shorts);
	opterr = 0;
	optind = 0; /* glibc: start over */
	while ((id = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		struct errinfo err = {""};
		bool good = true;

		if (id == ':' || id == '?') {
			const char *word = argv[optind - 1];
			bool is_long = word[0] == '-' && word[1] == '-';

			if (is_long || !optopt)
				query_usage(query, "%s \"%s\"",
				    id == ':' ? "a value is missing behind" : "there is no option", word);
			query_usage(query, "%s \"-%c\"", id == ':' ? "a value is missing behind" : "there is no option",
			    optopt);
		}
		if (has_row(command->options, id))
			good = command->set(query, id, optarg, &err);
		else if (id == 'j')
			query->json = true;
		else if ((command->needs & TAKE_FILTER) && has_row(filter_options, id))
			good = set_filter(query, id, optarg, &err);
		else
			set_common(query, given, id, optarg);
		if (!good)
			query_usage(query, "%s", err.text);
	}
	return optind;
}

/* --- what commands need --- */

static void load_config(struct query *query, const struct settings_given *given)
{
	struct errinfo err = {""};
	const char *postfix = given->config_directory ? given->config_directory : getenv("MAIL_CONFIG");

	if (config_load(&query->config, given->file, &err) != STATUS_OK)
		query_fatal_err(&err);
	for (size_t i = 0; i < given->n_assignments; i++)
		if (config_assign(&query->config, given->assignments[i], &err) != STATUS_OK)
			query_usage(query, "%s", err.text);
	if (postfix) {
		struct strbuf assignment = STRBUF_INIT;

		strbuf_addf(&assignment, "config_directory=%s", postfix);
		if (config_assign(&query->config, assignment.buf, &err) != STATUS_OK)
			query_fatal_err(&err);
		strbuf_fini(&assignment);
	}
}

enum status query_open_store(struct query *query, struct errinfo *err)
{
	struct store_settings settings = {.directory = query->config.store_directory};
	enum status status = store_open(&settings, STORE_READ, &query->store, err);

	if (status != STATUS_OK)
		return status;
	status = store_read_begin(query->store, err);
	if (status != STATUS_OK)
		return status;
	status = store_get_value(query->store, "host", &query->arena, &query->host, err);
	store_read_end(query->store);
	return status == STATUS_ABSENT ? STATUS_OK : status;
}

static void prepare_terminal(struct query *query, const struct settings_given *given)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	struct winsize size;
	bool tty = isatty(STDOUT_FILENO);

	/* text_escape leaves UTF-8 as it is; widths of it are only known in a UTF-8 locale */
	setlocale(LC_ALL, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8"))
		setlocale(LC_CTYPE, "C.UTF-8");
	setlocale(LC_NUMERIC, "C");
	if (tty)
		query->width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
	if (given->color && strcmp(given->color, "auto"))
		query->color = !strcmp(given->color, "always");
	else
		query->color = tty && !(no_color && *no_color) && term && strcmp(term, "dumb");
}

int main(int argc, char **argv)
{
	static struct query query;
	struct settings_given given = {0};
	struct errinfo err = {""};
	const struct command *command = &summary;
	int at, code;

	arena_init(&query.arena, 64u << 20);
	config_init(&query.config);
	at = parse_options(&query, &given, &summary, argc, argv);
	argc -= at;
	argv += at;
	if (argc) {
		command = find_command(&query, argv[0]);
		query.command = command;
		if (query.json && !(command->needs & TAKE_JSON))
			query_usage(&query, "%s has no -j", command->name);
		at = parse_options(&query, &given, command, argc, argv);
		argc -= at;
		argv += at;
		if (argc && !command->operands)
			query_usage(&query, "%s takes no \"%s\"", command->name, argv[0]);
	}
	if (command->needs & NEED_CONFIG)
		load_config(&query, &given);
	if ((command->needs & NEED_STORE) && query_open_store(&query, &err) != STATUS_OK)
		query_fatal_err(&err);
	prepare_terminal(&query, &given);
	if ((command->needs & USE_PAGER) && !query.json && !given.no_pager)
		pager_start();
	code = command->run(&query, argc, argv);
	if (query.store)
		store_close(query.store);
	/* a reader that went away (head, q in the pager) is no fault */
	if (fflush(stdout) != 0 && errno != EPIPE)
		query_fatal(EXIT_TROUBLE, "write to standard output: %s", strerror(errno));
	pager_finish();
	config_fini(&query.config);
	arena_fini(&query.arena);
	return code;
}
