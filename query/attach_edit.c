#include "query/attach_edit.h"

#include <stdlib.h>

#include "query/render.h"
#include "shared/base/hash.h"
#include "shared/model/tracepoint.h"
#include "shared/postfix/cflist.h"
#include "shared/postfix/postconf.h"

/* Where hooks go. */
static const struct hook {
	const char *name;
	const char *daemon; /* whose -o in master.cf may override it */
	const char *suffix; /* of our parameter that a service refers to */
	bool is_milter;
} hooks[] = {
    {"smtpd_milters", "smtpd", "milters", true},
    {"non_smtpd_milters", "cleanup", "non_smtpd_milters", true},
    {"smtpd_relay_restrictions", "smtpd", "relay_restrictions", false},
};
#define N_HOOKS (sizeof(hooks) / sizeof(hooks[0]))

struct service {
	char id[256];   /* submission/inet */
	char name[200]; /* submission */
	char daemon[32];
	bool chroot;
};

/* --- what is ours --- */

/* The address of a milter element, with or without braces. */
static struct span milter_address(struct span element)
{
	struct span inside = element, address = {NULL, 0};

	cflist_group(element, &inside);
	cflist_next(&inside, &address);
	return address;
}

static bool ends_in(struct span text, struct span tail)
{
	return text.len >= tail.len && span_eq(span_skip(text, text.len - tail.len), tail);
}

static unsigned is_ours(void *arg, struct span element, struct span next)
{
	const struct attach *attach = arg;
	struct span address = milter_address(element), inside, token, prefix = SPAN("policy_context=");
	struct tracepoint point;

	if (span_starts(address, SPAN("unix:")) && ends_in(address, SPAN("posttrace/milter.sock")))
		return 1;
	if (address.len && (span_eq(address, strbuf_span(&attach->milter)) ||
			       span_eq(address, strbuf_span(&attach->old_milter))))
		return 1;
	if (!span_is(element, "check_policy_service") || !cflist_group(next, &inside))
		return 0;
	while (cflist_next(&inside, &token))
		if (span_starts(token, prefix) && tracepoint_parse(span_skip(token, prefix.len), &point))
			return 2;
	return 0;
}

unsigned attach_without_ours(struct attach *attach, struct strbuf *out, struct span list)
{
	strbuf_reset(out);
	return cflist_remove(out, span_trim(list), is_ours, attach);
}

bool attach_holds_ours(struct attach *attach, struct span list)
{
	struct strbuf rest = STRBUF_INIT;
	unsigned n = attach_without_ours(attach, &rest, list);

	strbuf_fini(&rest);
	return n > 0;
}

/* --- edits of the copies --- */

static void add_quoted(struct strbuf *out, const char *word)
{
	strbuf_addch(out, '\'');
	for (; *word; word++)
		if (*word == '\'')
			strbuf_adds(out, "'\\''");
		else
			strbuf_addch(out, *word);
	strbuf_addch(out, '\'');
}

/* postconf MODE TEXT on the copies; noted as the admin would type it. */
enum status attach_postconf(struct attach *attach, const char *mode, const char *text, struct errinfo *err)
{
	const char *args[] = {mode, text, NULL};
	struct strbuf out = STRBUF_INIT;
	enum status status = postconf_run(attach->work, args, &out, err);

	attach_age_copies(attach);
	strbuf_addf(&attach->shell, "postconf -c %s %s ", attach->dir, mode);
	add_quoted(&attach->shell, text);
	strbuf_addch(&attach->shell, '\n');
	strbuf_fini(&out);
	return status;
}

enum status attach_set_value(struct attach *attach, const char *mode, const char *service, const char *name,
    const char *value, struct errinfo *err)
{
	struct strbuf text = STRBUF_INIT;
	enum status status;

	strbuf_addf(&text, service ? "%s/%s=%s" : "%s%s = %s", service ? service : "", name, value);
	status = text.failed ? errinfo_set(err, STATUS_NOMEM, "out of memory") : attach_postconf(attach, mode, text.buf, err);
	strbuf_fini(&text);
	return status;
}

void attach_note_change(struct attach *attach, const char *file, const char *service, const char *name,
    const struct span *before, const char *after)
{
	struct json_object *change = json_object_new_object();

	json_object_object_add(change, "file", json_object_new_string(file));
	json_object_object_add(change, "service", service ? json_object_new_string(service) : NULL);
	json_object_object_add(change, "parameter", json_object_new_string(name));
	if (before)
		json_add_bytes(change, "before", *before);
	else
		json_object_object_add(change, "before", NULL);
	json_add_bytes(change, "after", span_of(after));
	json_object_array_add(attach->changes, change);
}

/* --- what stands in the copies --- */

enum status attach_ask(
    const char *dir, const char *mode, struct strbuf *out, struct errinfo *err)
{
	const char *args[] = {mode, NULL};

	strbuf_reset(out);
	return postconf_run(dir, args, out, err);
}

/* The next smtpd or cleanup service of postconf -F's lines: ID/service = …, ID/chroot = …, ID/command = …. */
static bool next_service(struct span *rest, struct service *out)
{
	struct span line;

	*out = (struct service){.chroot = false};
	while (span_cut(rest, '\n', &line)) {
		const char *equals = span_find(line, SPAN(" = "));
		struct span id, value, word;

		if (!equals)
			continue;
		id = span_head(line, (size_t)(equals - line.ptr));
		value = span_trim(span_skip(line, id.len + 3));
		if (ends_in(id, SPAN("/service")) && value.len < sizeof(out->name)) {
			memcpy(out->name, value.ptr, value.len);
			out->name[value.len] = '\0';
		} else if (ends_in(id, SPAN("/chroot"))) {
			out->chroot = span_is(value, "y");
		} else if (ends_in(id, SPAN("/command")) && cflist_next(&value, &word) && word.len < sizeof(out->daemon)) {
			struct span key = span_head(id, id.len - strlen("/command"));

			if ((!span_is(word, "smtpd") && !span_is(word, "cleanup")) || key.len >= sizeof(out->id))
				continue;
			memcpy(out->daemon, word.ptr, word.len);
			out->daemon[word.len] = '\0';
			memcpy(out->id, key.ptr, key.len);
			out->id[key.len] = '\0';
			return true;
		}
	}
	return false;
}

static enum status find_override(struct span overrides, const char *id, const char *name, struct span *value)
{
	char key[400];

	snprintf(key, sizeof(key), "%s/%s", id, name);
	return postconf_find(overrides, key, value);
}

/* --- in --- */

static void make_milter(struct attach *attach, struct strbuf *out)
{
	strbuf_addf(out, "{ %s%s }", attach->milter.buf, attach->milter_attributes.buf);
}

/* The list is named by the digest of its text with all parameters expanded, so that an old trace is read against the list
 * as it was then. */
static void make_tracepoint(struct attach *attach, const char *service, struct span list, struct strbuf *out)
{
	struct tracepoint point = {.list = SPAN("relay"), .position = 1};
	struct strbuf text = STRBUF_INIT;
	char name[200];

	cflist_restrictions(&text, list);
	point.digest = hash_digest(strbuf_span(&text));
	strbuf_fini(&text);
	snprintf(name, sizeof(name), "%s", service);
	/* a colon separates, the others end the word for Postfix */
	for (char *c = name; *c; c++)
		if (strchr(":,{}$", *c))
			*c = '_';
	point.service = span_of(name);
	strbuf_addf(out, "check_policy_service { %s%s, policy_context=", attach->policy.buf, attach->policy_attributes.buf);
	tracepoint_format(out, &point);
	strbuf_adds(out, " }");
}

static void make_list(struct attach *attach, const struct hook *hook, const char *service, struct span list,
    const struct strbuf *expanded, struct strbuf *out)
{
	struct strbuf element = STRBUF_INIT;

	if (hook->is_milter)
		make_milter(attach, &element);
	else
		make_tracepoint(attach, service, strbuf_span(expanded), &element);
	cflist_insert(out, list, strbuf_span(&element), hook->is_milter ? attach->position : 1);
	strbuf_fini(&element);
}

/* Ours is there, and without it the expanded value is what it was. */
static enum status prove(struct attach *attach, const char *what, const struct strbuf *before, struct span after,
    struct errinfo *err)
{
	struct strbuf rest = STRBUF_INIT, old = STRBUF_INIT;
	enum status status = STATUS_OK;

	attach_without_ours(attach, &old, strbuf_span(before));
	if (!attach_without_ours(attach, &rest, after) || !span_eq(span_trim(strbuf_span(&rest)), span_trim(strbuf_span(&old))))
		status = errinfo_set(err, STATUS_INVALID,
		    "%s would not mean the same behind our hook; nothing was changed. Expanded it was \"%.200s\"", what,
		    before->buf);
	strbuf_fini(&rest);
	strbuf_fini(&old);
	return status;
}

static enum status apply_main(struct attach *attach, const struct hook *hook, struct errinfo *err)
{
	struct strbuf list = STRBUF_INIT, was = STRBUF_INIT, next = STRBUF_INIT, is = STRBUF_INIT, set = STRBUF_INIT;
	struct span given, old;
	enum status status = postconf_get(attach->work, "-h", hook->name, &list, err);

	if (status == STATUS_OK)
		status = postconf_get(attach->work, "-xh", hook->name, &was, err);
	if (status == STATUS_OK)
		status = attach_ask(attach->work, "-n", &set, err);
	if (status != STATUS_OK)
		goto out;
	if (hook->is_milter && attach_holds_ours(attach, strbuf_span(&was))) {
		strbuf_addf(&attach->notes, "main.cf: %s = %s has our milter through what it refers to\n", hook->name, list.buf);
		goto out;
	}
	old = strbuf_span(&list);
	make_list(attach, hook, "main", old, &was, &next);
	attach_note_change(attach, "main.cf", NULL, hook->name,
	    postconf_find(strbuf_span(&set), hook->name, &given) == STATUS_OK ? &old : NULL, next.buf);
	status = attach_set_value(attach, "-e", NULL, hook->name, next.buf, err);
	if (status == STATUS_OK)
		status = postconf_get(attach->work, "-xh", hook->name, &is, err);
	if (status == STATUS_OK)
		status = prove(attach, hook->name, &was, strbuf_span(&is), err);
out:
	strbuf_fini(&list);
	strbuf_fini(&was);
	strbuf_fini(&next);
	strbuf_fini(&is);
	strbuf_fini(&set);
	return status;
}

/* posttrace_SERVICE_SUFFIX, or with a number behind it when that is taken. */
static enum status parameter_name(
    struct attach *attach, const struct service *service, const struct hook *hook, char *out, size_t cap,
    struct errinfo *err)
{
	struct strbuf set = STRBUF_INIT;
	enum status status = attach_ask(attach->work, "-n", &set, err);
	struct span value;
	char word[200];

	snprintf(word, sizeof(word), "%s", service->name);
	for (char *c = word; *c; c++)
		if (!(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z'))
			*c = '_';
	snprintf(out, cap, "posttrace_%s_%s", word, hook->suffix);
	for (int n = 2; status == STATUS_OK && n < 1000 && postconf_find(strbuf_span(&set), out, &value) == STATUS_OK; n++)
		snprintf(out, cap, "posttrace_%s_%d_%s", word, n, hook->suffix);
	strbuf_fini(&set);
	return status;
}

/* -o takes no spaces in a value: the list goes to main.cf under a name of its own. */
static enum status apply_override(struct attach *attach, const struct service *service, const struct hook *hook,
    struct span list, struct errinfo *err)
{
	struct strbuf was = STRBUF_INIT, next = STRBUF_INIT, is = STRBUF_INIT, expanded = STRBUF_INIT;
	char parameter[300], reference[310], what[600];
	struct span value = {NULL, 0};
	enum status status = attach_ask(attach->work, "-Px", &expanded, err);

	if (status != STATUS_OK)
		goto out;
	if (find_override(strbuf_span(&expanded), service->id, hook->name, &value) == STATUS_OK)
		strbuf_addspan(&was, value);
	if (hook->is_milter && attach_holds_ours(attach, value)) {
		strbuf_addf(&attach->notes, "master.cf: %s: %s=%.*s has our milter through what it refers to\n", service->id,
		    hook->name, (int)list.len, list.ptr);
		goto out;
	}
	status = parameter_name(attach, service, hook, parameter, sizeof(parameter), err);
	if (status != STATUS_OK)
		goto out;
	make_list(attach, hook, service->name, list, &was, &next);
	snprintf(reference, sizeof(reference), "$%s", parameter);
	attach_note_change(attach, "main.cf", NULL, parameter, NULL, next.buf);
	attach_note_change(attach, "master.cf", service->id, hook->name, &list, reference);
	status = attach_set_value(attach, "-e", NULL, parameter, next.buf, err);
	if (status == STATUS_OK)
		status = attach_set_value(attach, "-P", service->id, hook->name, reference, err);
	if (status == STATUS_OK)
		status = attach_ask(attach->work, "-Px", &is, err);
	if (status == STATUS_OK) {
		snprintf(what, sizeof(what), "%s of service %s", hook->name, service->id);
		value.len = 0;
		if (find_override(strbuf_span(&is), service->id, hook->name, &value) != STATUS_OK)
			value = (struct span){NULL, 0};
		status = prove(attach, what, &was, value, err);
	}
out:
	strbuf_fini(&was);
	strbuf_fini(&next);
	strbuf_fini(&is);
	strbuf_fini(&expanded);
	return status;
}

static enum status apply_service(
    struct attach *attach, const struct service *service, struct span overrides, struct errinfo *err)
{
	enum status status = STATUS_OK;
	struct span list;

	for (size_t i = 0; i < N_HOOKS && status == STATUS_OK; i++) {
		const struct hook *hook = &hooks[i];

		if (strcmp(hook->daemon, service->daemon) ||
		    find_override(overrides, service->id, hook->name, &list) != STATUS_OK)
			continue;
		if (hook->is_milter && !list.len) {
			strbuf_addf(&attach->notes,
			    "master.cf: %s has an empty -o %s=, on purpose it seems (mail that comes back from a filter?): "
			    "left alone\n",
			    service->id, hook->name);
			break;
		}
		status = apply_override(attach, service, hook, list, err);
	}
	return status;
}

static void note_chroot(struct attach *attach, const struct service *service)
{
	if (service->chroot && span_starts(strbuf_span(&attach->milter), SPAN("unix:/")))
		strbuf_addf(&attach->notes,
		    "warning: master.cf: %s is chrooted and can't reach %s; put milter_listen and policy_listen of "
		    "posttrace.cf below queue_directory, or use inet:127.0.0.1:PORT\n",
		    service->id, attach->milter.buf);
}

enum status attach_apply(struct attach *attach, struct errinfo *err)
{
	struct strbuf services = STRBUF_INIT, overrides = STRBUF_INIT;
	struct service service;
	enum status status = attach_end_last_line(attach, err);
	struct span rest;

	for (size_t i = 0; i < N_HOOKS && status == STATUS_OK; i++)
		status = apply_main(attach, &hooks[i], err);
	if (status == STATUS_OK)
		status = attach_ask(attach->work, "-F", &services, err);
	if (status == STATUS_OK)
		status = attach_ask(attach->work, "-P", &overrides, err);
	rest = strbuf_span(&services);
	while (status == STATUS_OK && next_service(&rest, &service)) {
		note_chroot(attach, &service);
		status = apply_service(attach, &service, strbuf_span(&overrides), err);
	}
	strbuf_fini(&services);
	strbuf_fini(&overrides);
	return status;
}

/* --- afterwards --- */

static enum status check(struct attach *attach, bool in, struct errinfo *err)
{
	struct strbuf text = STRBUF_INIT;
	enum status status = STATUS_OK;

	for (size_t i = 0; i < N_HOOKS && status == STATUS_OK; i++) {
		status = postconf_get(attach->dir, "-xh", hooks[i].name, &text, err);
		if (status == STATUS_OK && attach_holds_ours(attach, strbuf_span(&text)) != in)
			status = errinfo_set(err, STATUS_INVALID, "postconf says %s = %.300s: put back as it was", hooks[i].name,
			    text.buf);
	}
	if (status == STATUS_OK)
		status = attach_ask(attach->dir, "-Px", &text, err);
	strbuf_fini(&text);
	return status;
}

enum status attach_check_in(struct attach *attach, struct errinfo *err)
{
	return check(attach, true, err);
}

enum status attach_check_out(struct attach *attach, struct errinfo *err)
{
	return check(attach, false, err);
}
