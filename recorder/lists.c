#include "recorder/lists.h"

#include "shared/base/clock.h"
#include "shared/base/hash.h"
#include "shared/model/tracepoint.h"
#include "shared/postfix/cflist.h"
#include "shared/postfix/child.h"

enum status lists_read(const char *config_directory, struct strbuf *out, struct errinfo *err)
{
	const char *argv[] = {"postconf", "-xn", *config_directory ? "-c" : NULL, config_directory, NULL};
	int code = 0;
	enum status status = child_run(argv, 10 * (int64_t)US_PER_SEC, 4u << 20, out, NULL, &code, err);

	if (status == STATUS_OK && code != 0)
		status = errinfo_set(err, STATUS_IO, "postconf -xn failed");
	return status;
}

static unsigned take_tracepoint(void *arg, struct span element, struct span next)
{
	uint64_t *digest = arg;
	struct span inside, token, prefix = SPAN("policy_context=");
	struct tracepoint point;

	if (!span_is(element, "check_policy_service") || !cflist_group(next, &inside))
		return 0;
	while (cflist_next(&inside, &token))
		if (span_starts(token, prefix) && tracepoint_parse(span_skip(token, prefix.len), &point)) {
			*digest = point.digest;
			return 2;
		}
	return 0;
}

enum status lists_store(struct store *store, struct span lines, struct errinfo *err)
{
	struct strbuf rest = STRBUF_INIT, text = STRBUF_INIT;
	enum status status = STATUS_OK;
	struct span line;

	while (status == STATUS_OK && span_cut(&lines, '\n', &line)) {
		const char *equals = span_find(line, SPAN(" ="));
		uint64_t digest = 0;

		if (!equals)
			continue;
		strbuf_reset(&rest);
		strbuf_reset(&text);
		if (!cflist_remove(&rest, span_skip(line, (size_t)(equals - line.ptr) + 2), take_tracepoint, &digest))
			continue;
		cflist_restrictions(&text, strbuf_span(&rest));
		if (!text.failed && hash_digest(strbuf_span(&text)) == digest)
			status = store_put_list(store, digest, strbuf_span(&text), err);
	}
	strbuf_fini(&rest);
	strbuf_fini(&text);
	return status;
}
