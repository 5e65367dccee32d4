/* attach_out.c - take our elements out where what was there before can't simply be put back. */
#include "query/attach_edit.h"

#include "shared/postfix/postconf.h"


/* Is it "$posttrace_…" or "${posttrace_…}" at the start of text? Its name, and its length with the dollar. */
static size_t reference_to_ours(struct span text, struct span *name)
{
	size_t skip = span_starts(text, SPAN("${posttrace_")) ? 2 : span_starts(text, SPAN("$posttrace_")) ? 1 : 0, len = skip;

	if (!skip)
		return 0;
	while (len < text.len && (text.ptr[len] == '_' || (text.ptr[len] >= '0' && text.ptr[len] <= '9') ||
				     (text.ptr[len] >= 'a' && text.ptr[len] <= 'z') ||
				     (text.ptr[len] >= 'A' && text.ptr[len] <= 'Z')))
		len++;
	*name = span_make(text.ptr + skip, len - skip);
	if (skip == 1)
		return len;
	return len < text.len && text.ptr[len] == '}' ? len + 1 : 0;
}

/* The override with each reference to a parameter of ours replaced by that parameter's list without our elements. */
static bool resolve(struct attach *attach, struct span set, struct span value, struct strbuf *out)
{
	bool changed = false;

	while (value.len) {
		struct span name, list;
		size_t len = reference_to_ours(value, &name);
		char key[300];

		snprintf(key, sizeof(key), "%.*s", len ? (int)name.len : 0, len ? name.ptr : "");
		if (len && name.len < sizeof(key) && postconf_find(set, key, &list) == STATUS_OK && attach_holds_ours(attach, list)) {
			struct strbuf rest = STRBUF_INIT;

			attach_without_ours(attach, &rest, list);
			strbuf_addspan(out, strbuf_span(&rest));
			strbuf_fini(&rest);
			value = span_skip(value, len);
			changed = true;
		} else {
			strbuf_addch(out, *value.ptr);
			value = span_skip(value, 1);
		}
	}
	return changed;
}

/* postconf -P refuses a value with spaces: then the whole service is written, with the value in braces. */
static enum status put_override(
    struct attach *attach, const char *id, const char *name, struct span old, const char *value, struct errinfo *err)
{
	const char *args[] = {"-M", id, NULL};
	struct strbuf line = STRBUF_INIT, search = STRBUF_INIT, next = STRBUF_INIT;
	enum status status;
	const char *at;

	if (!strpbrk(value, " \t\r\n"))
		return attach_set_value(attach, "-P", id, name, value, err);
	status = postconf_run(attach->work, args, &line, err);
	if (status != STATUS_OK)
		goto out;
	strbuf_addf(&search, " -o %s=%.*s", name, (int)old.len, old.ptr);
	at = span_find(strbuf_span(&line), strbuf_span(&search));
	if (!at) {
		status = errinfo_set(err, STATUS_INVALID, "can't find \"-o %s=%.*s\" of %s in master.cf", name, (int)old.len,
		    old.ptr, id);
		goto out;
	}
	strbuf_addf(&next, "%s=", id);
	strbuf_add(&next, line.buf, (size_t)(at - line.buf));
	strbuf_addf(&next, " -o { %s = %s }", name, value);
	strbuf_addspan(&next, span_trim(span_skip(strbuf_span(&line), (size_t)(at - line.buf) + search.len)).len
				  ? span_skip(strbuf_span(&line), (size_t)(at - line.buf) + search.len)
				  : SPAN(""));
	while (next.len && next.buf[next.len - 1] == '\n')
		strbuf_setlen(&next, next.len - 1);
	status = attach_postconf(attach, "-Me", next.buf, err);
out:
	strbuf_fini(&line);
	strbuf_fini(&search);
	strbuf_fini(&next);
	return status;
}

static enum status strip_master(struct attach *attach, struct span set, struct errinfo *err)
{
	struct strbuf overrides = STRBUF_INIT;
	enum status status = attach_ask(attach->work, "-P", &overrides, err);
	struct span rest = strbuf_span(&overrides), line;

	while (status == STATUS_OK && span_cut(&rest, '\n', &line)) {
		struct strbuf next = STRBUF_INIT;
		char key[500], *slash;
		const char *equals = span_find(line, SPAN(" ="));
		struct span value;

		if (equals && (size_t)(equals - line.ptr) < sizeof(key)) {
			memcpy(key, line.ptr, (size_t)(equals - line.ptr));
			key[equals - line.ptr] = '\0';
			value = span_trim(span_skip(line, strlen(key) + 2));
			slash = strrchr(key, '/');
			if (slash && resolve(attach, set, value, &next)) {
				*slash = '\0';
				status = put_override(attach, key, slash + 1, value, next.buf, err);
				if (status == STATUS_OK)
					attach_note_change(attach, "master.cf", key, slash + 1, &value, next.buf);
			}
		}
		strbuf_fini(&next);
	}
	strbuf_fini(&overrides);
	return status;
}

struct lookup {
	const char *name;
	bool found;
};

static bool look_for(void *arg, struct span name, struct span value, unsigned line)
{
	struct lookup *lookup = arg;

	(void)value;
	(void)line;
	lookup->found = span_is(name, lookup->name);
	return !lookup->found;
}

/* Was the parameter in main.cf before us? Without a state: it was, unless what is left is the default. */
static enum status was_set(struct attach *attach, const char *name, struct span rest, bool *out, struct errinfo *err)
{
	struct lookup lookup = {name, false};
	struct strbuf value = STRBUF_INIT;
	enum status status = STATUS_OK;

	if (attach->has_state) {
		config_each_line(strbuf_span(&attach->files[ATTACH_MAIN].before), look_for, &lookup);
		*out = lookup.found;
	} else {
		status = postconf_get(attach->work, "-dh", name, &value, err);
		*out = !span_eq(span_trim(strbuf_span(&value)), rest);
	}
	if (attach->has_state && !*out) {
		/* ours to begin with, but somebody may have added to it */
		status = postconf_get(attach->work, "-dh", name, &value, err);
		*out = !span_eq(span_trim(strbuf_span(&value)), rest);
	}
	strbuf_fini(&value);
	return status;
}

struct leftover {
	struct attach *attach;
	char name[300];
};

static bool look_for_leftover(void *arg, struct span name, struct span value, unsigned line)
{
	struct leftover *leftover = arg;

	(void)line;
	if (!span_starts(name, SPAN("posttrace_")) || name.len >= sizeof(leftover->name) ||
	    !attach_holds_ours(leftover->attach, value))
		return true;
	memcpy(leftover->name, name.ptr, name.len);
	leftover->name[name.len] = '\0';
	return false;
}

/* Parameters of ours that nothing refers to any more; postconf does not list these. */
static enum status strip_unused(struct attach *attach, struct errinfo *err)
{
	struct leftover leftover = {.attach = attach};
	struct strbuf text = STRBUF_INIT;
	enum status status;

	do {
		*leftover.name = '\0';
		status = attach_read_copy(attach, ATTACH_MAIN, &text, err);
		if (status == STATUS_OK)
			config_each_line(strbuf_span(&text), look_for_leftover, &leftover);
		if (status == STATUS_OK && *leftover.name) {
			status = attach_postconf(attach, "-X", leftover.name, err);
			attach_note_change(attach, "main.cf", NULL, leftover.name, NULL, "");
		}
	} while (status == STATUS_OK && *leftover.name);
	strbuf_fini(&text);
	return status;
}

enum status attach_strip(struct attach *attach, struct errinfo *err)
{
	struct strbuf set = STRBUF_INIT;
	enum status status = attach_ask(attach->work, "-n", &set, err);
	struct span rest = strbuf_span(&set), line;

	if (status == STATUS_OK)
		status = strip_master(attach, strbuf_span(&set), err);
	while (status == STATUS_OK && span_cut(&rest, '\n', &line)) {
		struct strbuf next = STRBUF_INIT;
		const char *equals = span_find(line, SPAN(" ="));
		struct span name = span_head(line, equals ? (size_t)(equals - line.ptr) : 0), value;
		char key[300];
		bool keep = false;

		value = span_trim(span_skip(line, name.len + 2));
		if (name.len && name.len < sizeof(key) && attach_without_ours(attach, &next, value)) {
			memcpy(key, name.ptr, name.len);
			key[name.len] = '\0';
			if (!span_starts(name, SPAN("posttrace_")))
				status = was_set(attach, key, span_trim(strbuf_span(&next)), &keep, err);
			if (status == STATUS_OK)
				status = keep ? attach_set_value(attach, "-e", NULL, key, next.buf, err) : attach_postconf(attach, "-X", key, err);
			if (status == STATUS_OK)
				attach_note_change(attach, "main.cf", NULL, key, &value, keep ? next.buf : "");
		}
		strbuf_fini(&next);
	}
	strbuf_fini(&set);
	return status == STATUS_OK ? strip_unused(attach, err) : status;
}
