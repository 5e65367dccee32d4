#include "shared/config/options.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "shared/base/clock.h"
#include "shared/base/strbuf.h"

enum kind { TEXT, SIZE, TIME, NUMBER, YESNO, ACTION };

struct option_row {
	const char *name;
	enum kind kind;
	size_t offset;
	const char *value; /* the default */
	uint64_t least, most;
};

#define ROW(member, kind, value, least, most) {#member, kind, offsetof(struct config, member), value, least, most}
#define TIME_ROW(member, value, least, most) \
	{#member, TIME, offsetof(struct config, member##_us), value, least, most}

#define DAY ((uint64_t)86400 * US_PER_SEC)

static const struct option_row rows[] = {
    ROW(store_directory, TEXT, LOCALSTATEDIR "/lib/posttrace", 0, 0),
    ROW(store_size, SIZE, "4G", 16 << 20, UINT64_C(1) << 44),
    TIME_ROW(retention_time, "14d", 60 * US_PER_SEC, 36500 * DAY),
    ROW(journal_directory, TEXT, LOCALSTATEDIR "/lib/posttrace/journal", 0, 0),
    ROW(journal_size, SIZE, "256M", 1 << 20, UINT64_C(1) << 40),
    TIME_ROW(sync_interval, "100ms", 1000, 60 * US_PER_SEC),
    ROW(milter_listen, TEXT, "unix:/var/spool/postfix/posttrace/milter.sock", 0, 0),
    ROW(policy_listen, TEXT, "unix:/var/spool/postfix/posttrace/policy.sock", 0, 0),
    ROW(maillog_source, TEXT, "auto", 0, 0),
    ROW(config_directory, TEXT, "", 0, 0),
    ROW(loop_action, ACTION, "none", 0, 0),
    ROW(loop_hops, NUMBER, "25", 2, 10000),
    ROW(keep_headers, TEXT,
	"Received Message-ID From To Date Delivered-To X-Original-To Auto-Submitted Precedence List-Id Return-Path "
	"Authentication-Results Received-SPF X-Loop",
	0, 0),
    ROW(header_limit, SIZE, "4k", 64, 100 << 10),
    ROW(record_subject, YESNO, "no", 0, 0),
    ROW(user, TEXT, "posttrace", 0, 0),
    ROW(group, TEXT, "posttrace", 0, 0),
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static const char *const action_names[] = {"none", "hold", "defer", "reject"};

/* Digits with one of the suffixes in units ("k" -> factor); false when it is anything else or too large. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static bool parse_number(const char *text, const struct unit *units, uint64_t *out)
{
	char *end;
	unsigned long long n;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return false;
	for (; units->suffix; units++)
		if (strcasecmp(end, units->suffix) == 0) {
			if (n > UINT64_MAX / units->factor)
				return false;
			*out = n * units->factor;
			return true;
		}
	return false;
}

static const struct unit size_units[] = {{"", 1}, {"k", 1 << 10}, {"kb", 1 << 10}, {"M", 1 << 20}, {"MB", 1 << 20},
    {"G", 1 << 30}, {"GB", 1 << 30}, {"T", UINT64_C(1) << 40}, {NULL, 0}};
static const struct unit time_units[] = {{"us", 1}, {"ms", 1000}, {"s", US_PER_SEC}, {"", US_PER_SEC},
    {"m", 60 * US_PER_SEC}, {"min", 60 * US_PER_SEC}, {"h", 3600 * US_PER_SEC}, {"d", 86400 * US_PER_SEC},
    {"w", 7 * 86400 * US_PER_SEC}, {NULL, 0}};
static const struct unit plain_units[] = {{"", 1}, {NULL, 0}};

static const char *const expected[] = {
    [TEXT] = "text",
    [SIZE] = "a size such as 4G, 256M or 4k",
    [TIME] = "a time such as 14d, 2h, 30s or 100ms",
    [NUMBER] = "a whole number",
    [YESNO] = "yes or no",
    [ACTION] = "none, hold, defer or reject",
};

static enum status out_of_range(const struct option_row *row, struct errinfo *err)
{
	return errinfo_set(err, STATUS_INVALID, "%s: the value is outside what is possible: %llu to %llu%s", row->name,
	    (unsigned long long)(row->kind == TIME ? row->least / 1000 : row->least),
	    (unsigned long long)(row->kind == TIME ? row->most / 1000 : row->most),
	    row->kind == TIME ? " ms" : row->kind == SIZE ? " bytes" : "");
}

static enum status set_value(struct config *config, const struct option_row *row, const char *value, struct errinfo *err)
{
	void *field = (char *)config + row->offset;
	uint64_t n = 0;
	char *copy;

	switch (row->kind) {
	case TEXT:
		copy = strdup(value);
		if (!copy)
			return errinfo_set(err, STATUS_NOMEM, "out of memory");
		free(*(char **)field);
		*(char **)field = copy;
		return STATUS_OK;
	case YESNO:
		if (strcasecmp(value, "yes") != 0 && strcasecmp(value, "no") != 0)
			break;
		*(bool *)field = tolower((unsigned char)value[0]) == 'y';
		return STATUS_OK;
	case ACTION:
		for (size_t i = 0; i < sizeof(action_names) / sizeof(action_names[0]); i++)
			if (strcmp(value, action_names[i]) == 0) {
				*(enum loop_action *)field = (enum loop_action)i;
				return STATUS_OK;
			}
		break;
	case SIZE:
	case TIME:
	case NUMBER:
		if (!parse_number(value, row->kind == SIZE ? size_units : row->kind == TIME ? time_units : plain_units, &n))
			break;
		if (n < row->least || n > row->most)
			return out_of_range(row, err);
		if (row->kind == SIZE)
			*(uint64_t *)field = n;
		else if (row->kind == TIME)
			*(int64_t *)field = (int64_t)n;
		else
			*(unsigned *)field = (unsigned)n;
		return STATUS_OK;
	}
	return errinfo_set(err, STATUS_INVALID, "%s: \"%s\" is not %s", row->name, value, expected[row->kind]);
}

static enum status set_by_name(struct config *config, struct span name, struct span value, struct errinfo *err)
{
	enum status status;
	char *copy;

	for (size_t i = 0; i < N_ROWS; i++) {
		if (!span_is(name, rows[i].name))
			continue;
		if (value.len && memchr(value.ptr, '\0', value.len))
			return errinfo_set(err, STATUS_INVALID, "%s: the value holds a NUL byte", rows[i].name);
		copy = strndup(value.len ? value.ptr : "", value.len);
		if (!copy)
			return errinfo_set(err, STATUS_NOMEM, "out of memory");
		status = set_value(config, &rows[i], copy, err);
		free(copy);
		return status;
	}
	return errinfo_set(err, STATUS_INVALID, "unknown setting \"%.*s\"", (int)name.len, name.ptr ? name.ptr : "");
}

void config_init(struct config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < N_ROWS; i++)
		if (set_value(config, &rows[i], rows[i].value, NULL) != STATUS_OK)
			abort(); /* the table is wrong, or there is no memory for a few words */
}

void config_fini(struct config *config)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].kind == TEXT)
			free(*(char **)((char *)config + rows[i].offset));
	free(config->file);
	memset(config, 0, sizeof(*config));
}

void config_each_line(
    struct span text, bool (*fn)(void *arg, struct span name, struct span value, unsigned line), void *arg)
{
	struct strbuf logical = STRBUF_INIT;
	struct span line;
	unsigned number = 0, started = 0;
	bool more = true, go_on = true;

	while (go_on && more) {
		struct span bare = {NULL, 0};
		bool continues = false, is_new;

		more = span_cut(&text, '\n', &line);
		if (more) {
			number++;
			bare = span_trim(line);
			if (!bare.len || bare.ptr[0] == '#')
				continue;
			continues = isspace((unsigned char)line.ptr[0]);
		}
		is_new = !more || !continues;
		if (is_new && started) {
			struct span whole = strbuf_span(&logical), name = {NULL, 0};

			if (memchr(whole.ptr, '=', whole.len))
				span_cut(&whole, '=', &name);
			go_on = fn(arg, span_trim(name), span_trim(whole), started);
			strbuf_reset(&logical);
			started = 0;
		}
		if (!more)
			break;
		if (started)
			strbuf_addch(&logical, ' ');
		else
			started = number;
		strbuf_addspan(&logical, bare);
	}
	strbuf_fini(&logical);
}

struct load_state {
	struct config *config;
	const char *file;
	struct errinfo *err;
	enum status status;
};

static bool load_line(void *arg, struct span name, struct span value, unsigned line)
{
	struct load_state *load = arg;
	struct errinfo why = {""};

	if (!name.len)
		errinfo_set(&why, STATUS_INVALID, "there is no \"name = value\"");
	else if (set_by_name(load->config, name, value, &why) == STATUS_OK)
		return true;
	load->status = errinfo_set(load->err, STATUS_INVALID, "%s, line %u: %s", load->file, line, why.text);
	return false;
}

static enum status read_whole(const char *file, struct strbuf *out, struct errinfo *err)
{
	FILE *in = fopen(file, "re");
	char chunk[4096];
	size_t n;

	if (!in)
		return errinfo_set(err, errno == ENOENT ? STATUS_ABSENT : errno == EACCES ? STATUS_DENIED : STATUS_IO,
		    "can't read %s: %s", file, strerror(errno));
	while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0 && out->len < 1 << 20)
		strbuf_add(out, chunk, n);
	n = (size_t)ferror(in);
	fclose(in);
	return n ? errinfo_set(err, STATUS_IO, "can't read %s: %s", file, strerror(errno)) : STATUS_OK;
}

enum status config_load(struct config *config, const char *file, struct errinfo *err)
{
	struct load_state load = {config, file ? file : CONFIG_FILE_DEFAULT, err, STATUS_OK};
	struct strbuf text = STRBUF_INIT;
	enum status status = read_whole(load.file, &text, err);

	if (status == STATUS_ABSENT && !file) {
		status = STATUS_OK;
	} else if (status == STATUS_OK) {
		config_each_line(strbuf_span(&text), load_line, &load);
		status = load.status;
		free(config->file);
		config->file = strdup(load.file);
	}
	strbuf_fini(&text);
	return status;
}

enum status config_assign(struct config *config, const char *assignment, struct errinfo *err)
{
	struct span rest = span_of(assignment), name;

	if (!strchr(assignment, '=') || !span_cut(&rest, '=', &name))
		return errinfo_set(err, STATUS_INVALID, "-o %s: name=value is needed", assignment);
	return set_by_name(config, span_trim(name), span_trim(rest), err);
}

void config_print(const struct config *config, bool only_set, FILE *out)
{
	struct config defaults;

	config_init(&defaults);
	for (size_t i = 0; i < N_ROWS; i++) {
		const struct option_row *row = &rows[i];
		const char *field = (const char *)config + row->offset, *preset = (const char *)&defaults + row->offset;
		bool same = row->kind == TEXT     ? strcmp(*(char *const *)field, *(char *const *)preset) == 0
			    : row->kind == YESNO  ? *(const bool *)field == *(const bool *)preset
			    : row->kind == ACTION ? *(const enum loop_action *)field == *(const enum loop_action *)preset
			    : row->kind == NUMBER ? *(const unsigned *)field == *(const unsigned *)preset
						  : *(const uint64_t *)field == *(const uint64_t *)preset;

		if (same && only_set)
			continue;
		fprintf(out, "%s = ", row->name);
		if (same)
			fputs(row->value, out);
		else if (row->kind == TEXT)
			fputs(*(char *const *)field, out);
		else if (row->kind == YESNO)
			fputs(*(const bool *)field ? "yes" : "no", out);
		else if (row->kind == ACTION)
			fputs(action_names[*(const enum loop_action *)field], out);
		else if (row->kind == NUMBER)
			fprintf(out, "%u", *(const unsigned *)field);
		else
			fprintf(out, "%llu%s", (unsigned long long)*(const uint64_t *)field, row->kind == TIME ? "us" : "");
		fputc('\n', out);
	}
	config_fini(&defaults);
}

static bool parse_port(const char *text, uint16_t *out)
{
	uint64_t port;

	if (!parse_number(text, plain_units, &port) || port < 1 || port > 65535)
		return false;
	*out = (uint16_t)port;
	return true;
}

enum status listen_address_parse(const char *text, struct listen_address *out, struct errinfo *err)
{
	struct listen_address addr = {.is_unix = false};
	struct span rest = span_of(text), host;
	const char *at, *port;

	if (span_starts(rest, SPAN("unix:")) || span_starts(rest, SPAN("local:"))) {
		rest = span_skip(rest, (size_t)(strchr(text, ':') - text) + 1);
		if (rest.len == 0 || rest.ptr[0] != '/')
			return errinfo_set(err, STATUS_INVALID, "%s: the path of the socket must start with /", text);
		if (rest.len >= sizeof(addr.path))
			return errinfo_set(err, STATUS_INVALID, "%s: the path is longer than the %zu bytes that a socket can have",
			    text, sizeof(addr.path) - 1);
		addr.is_unix = true;
		memcpy(addr.path, rest.ptr, rest.len + 1);
		*out = addr;
		return STATUS_OK;
	}
	if (!span_starts(rest, SPAN("inet:")))
		return errinfo_set(err, STATUS_INVALID, "%s: unix:PATH or inet:HOST:PORT is needed", text);
	rest = span_skip(rest, 5);
	at = strchr(rest.ptr, '@');
	if (at) { /* libmilter's order */
		host = span_of(at + 1);
		port = rest.ptr;
	} else {
		const char *colon = strrchr(rest.ptr, ':');

		host = colon ? span_make(rest.ptr, (size_t)(colon - rest.ptr)) : span_make(rest.ptr, 0);
		port = colon ? colon + 1 : rest.ptr;
	}
	if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
		host = span_make(host.ptr + 1, host.len - 2);
	if (host.len >= sizeof(addr.host))
		return errinfo_set(err, STATUS_INVALID, "%s: the host name is too long", text);
	if (host.len)
		memcpy(addr.host, host.ptr, host.len);
	if (at) {
		char digits[8] = "";

		if ((size_t)(at - rest.ptr) < sizeof(digits))
			memcpy(digits, rest.ptr, (size_t)(at - rest.ptr));
		if (!parse_port(digits, &addr.port))
			return errinfo_set(err, STATUS_INVALID, "%s: the port must be 1 to 65535", text);
	} else if (!parse_port(port, &addr.port)) {
		return errinfo_set(err, STATUS_INVALID, "%s: the port must be 1 to 65535", text);
	}
	*out = addr;
	return STATUS_OK;
}
