#include "shared/postfix/postconf.h"

#include "shared/base/clock.h"
#include "shared/postfix/child.h"

enum { MAX_ARGS = 40 };
#define TIMEOUT_US (30 * (int64_t)1000000)
#define LIMIT (8u << 20)

/* The line that says "fatal:", or the first one. */
static struct span reason(struct span errors)
{
	struct span rest = errors, line, first = {NULL, 0};

	while (span_cut(&rest, '\n', &line)) {
		if (!first.len)
			first = line;
		if (span_find(line, SPAN("fatal: ")))
			return line;
	}
	return first;
}

enum status postconf_run(const char *dir, const char *const *args, struct strbuf *out, struct errinfo *err)
{
	const char *argv[MAX_ARGS + 4] = {"postconf", "-c", dir};
	struct strbuf errors = STRBUF_INIT;
	enum status status;
	int code = 0, n = 3;

	while (*args && n < MAX_ARGS + 3)
		argv[n++] = *args++;
	if (*args)
		return errinfo_set(err, STATUS_FULL, "more arguments for postconf than fit");
	status = child_run(argv, TIMEOUT_US, LIMIT, out, &errors, &code, err);
	if (status == STATUS_OK && code != 0) {
		struct span said = reason(strbuf_span(&errors));

		status = errinfo_set(err, STATUS_INVALID, "postconf does not accept %s: %.*s", dir,
		    (int)(said.len > 400 ? 400 : said.len), said.len ? said.ptr : "");
	}
	if (status == STATUS_OK && out->failed)
		status = errinfo_set(err, STATUS_NOMEM, "out of memory");
	strbuf_fini(&errors);
	return status;
}

enum status postconf_get(
    const char *dir, const char *mode, const char *name, struct strbuf *out, struct errinfo *err)
{
	const char *args[] = {mode, name, NULL};
	enum status status;

	strbuf_reset(out);
	status = postconf_run(dir, args, out, err);
	if (status == STATUS_OK && out->len && out->buf[out->len - 1] == '\n')
		strbuf_setlen(out, out->len - 1);
	return status;
}

enum status postconf_find(struct span lines, const char *name, struct span *value)
{
	size_t len = strlen(name);
	struct span line;

	while (span_cut(&lines, '\n', &line))
		if (span_starts(line, span_of(name)) && span_starts(span_skip(line, len), SPAN(" ="))) {
			*value = span_trim(span_skip(line, len + 2));
			return STATUS_OK;
		}
	return STATUS_ABSENT;
}
