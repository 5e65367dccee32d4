/* attach_hooks.c - what our hooks look like in main.cf: addresses from posttrace.cf, the rest from postfix-snippets. */
#include "query/attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/postfix/cflist.h"
#include "shared/postfix/postconf.h"

struct snippet {
	const char *name;
	struct strbuf *out;
};

/* The attributes of the first { } group of the value, without address and policy_context: ", a=b, c=d". */
static bool take_attributes(void *arg, struct span name, struct span value, unsigned line)
{
	struct snippet *snippet = arg;
	struct span element, inside = {NULL, 0}, token;

	(void)line;
	if (!span_is(name, snippet->name))
		return true;
	while (cflist_next(&value, &element) && !cflist_group(element, &inside))
		;
	cflist_next(&inside, &token);
	while (cflist_next(&inside, &token))
		if (!span_starts(token, SPAN("policy_context="))) {
			strbuf_adds(snippet->out, ", ");
			strbuf_addspan(snippet->out, token);
		}
	return false;
}

static enum status read_snippet(const char *file, struct snippet snippet, struct errinfo *err)
{
	const char *dir = getenv("POSTTRACE_DATADIR");
	struct strbuf text = STRBUF_INIT;
	char path[PATH_MAX], chunk[4096];
	enum status status = STATUS_OK;
	FILE *in;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", dir && *dir ? dir : PKGDATADIR, file);
	in = fopen(path, "re");
	if (!in)
		return errinfo_set(err, STATUS_IO,
		    "can't read %s: %s. Is posttrace installed? (POSTTRACE_DATADIR may name its postfix-snippets)", path,
		    strerror(errno));
	while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0 && text.len < (1u << 20))
		strbuf_add(&text, chunk, n);
	fclose(in);
	config_each_line(strbuf_span(&text), take_attributes, &snippet);
	/* a hook without it would stop mail when it is down: never */
	if (!span_find(strbuf_span(snippet.out), SPAN(", default_action=")))
		status = errinfo_set(err, STATUS_INVALID, "%s has no %s with a default_action", path, snippet.name);
	strbuf_fini(&text);
	return status;
}

/* Below the queue directory a path is relative to it: this is what chrooted daemons find. */
static enum status postfix_address(
    struct strbuf *out, const char *setting, const char *queue, const char *what, struct errinfo *err)
{
	struct listen_address address;
	enum status status = listen_address_parse(setting, &address, err);
	size_t len = strlen(queue);

	if (status != STATUS_OK)
		return status;
	if (!address.is_unix) {
		const char *host = *address.host && strcmp(address.host, "0.0.0.0") && strcmp(address.host, "*")
			? address.host
			: "127.0.0.1";

		strbuf_addf(out, strchr(host, ':') && *host != '[' ? "inet:[%s]:%u" : "inet:%s:%u", host, address.port);
	} else {
		bool below = !strncmp(address.path, queue, len) && address.path[len] == '/';

		strbuf_addf(out, "unix:%s", address.path + (below ? len + 1 : 0));
	}
	if (strpbrk(out->buf, " \t\r\n,{}$"))
		return errinfo_set(err, STATUS_INVALID, "%s = %s: Postfix can't take spaces, commas, braces or $ here", what,
		    setting);
	return STATUS_OK;
}

/* { } lists came with 3.0, policy_context with 3.1. */
static enum status check_version(const char *dir, struct errinfo *err)
{
	struct strbuf version = STRBUF_INIT;
	enum status status = postconf_get(dir, "-h", "mail_version", &version, err);
	unsigned major = 0, minor = 0;

	if (status == STATUS_OK && (sscanf(version.buf, "%u.%u", &major, &minor) != 2 || major < 3 || (major == 3 && !minor)))
		status = errinfo_set(err, STATUS_VERSION, "this is Postfix %.40s; the hooks need 3.1 or later", version.buf);
	strbuf_fini(&version);
	return status;
}

enum status attach_hooks(struct attach *attach, const struct config *config, struct errinfo *err)
{
	struct strbuf queue = STRBUF_INIT;
	enum status status = check_version(attach->dir, err);

	if (status == STATUS_OK)
		status = postconf_get(attach->dir, "-xh", "queue_directory", &queue, err);
	if (status == STATUS_OK)
		status = postfix_address(&attach->milter, config->milter_listen, queue.buf, "milter_listen", err);
	if (status == STATUS_OK)
		status = postfix_address(&attach->policy, config->policy_listen, queue.buf, "policy_listen", err);
	if (status == STATUS_OK)
		status = read_snippet(
		    "main.cf.milter", (struct snippet){"smtpd_milters", &attach->milter_attributes}, err);
	if (status == STATUS_OK)
		status = read_snippet(
		    "main.cf.policy", (struct snippet){"smtpd_relay_restrictions", &attach->policy_attributes}, err);
	strbuf_fini(&queue);
	return status;
}
