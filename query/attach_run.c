#include "query/attach_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "query/attach.h"
#include "query/render.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"
#include "shared/postfix/cflist.h"
#include "shared/postfix/child.h"
#include "shared/postfix/postconf.h"

bool attach_choose(struct attach_choice *choice, int id, const char *value, struct errinfo *err)
{
	char *end;

	switch (id) {
	case ATTACH_OPT_ALL:
		choice->all = true;
		return true;
	case 'd':
		choice->dry = true;
		return true;
	case ATTACH_OPT_RELOAD:
		choice->reload = true;
		return true;
	default: /* --position */
		if (!strcmp(value, "first") || !strcmp(value, "last")) {
			choice->position = *value == 'f' ? 1 : 0;
			return true;
		}
		choice->position = (unsigned)strtoul(value, &end, 10);
		if (*value < '1' || *value > '9' || *end || strlen(value) > 4)
			return errinfo_set(err, STATUS_INVALID, "--position %s: it is first, last, or a number from 1", value),
			       false;
		return true;
	}
}

/* --- telling --- */

static void say_lines(const char *before, struct span text)
{
	struct span line;

	while (span_cut(&text, '\n', &line)) {
		size_t cap = 4 * line.len + 16;
		char *raw = malloc(line.len + 1), *safe = malloc(cap);

		if (raw && safe) {
			if (line.len)
				memcpy(raw, line.ptr, line.len);
			raw[line.len] = '\0';
			/* a NUL can't be in a main.cf that postconf read; a tab is only layout */
			for (char *tab = raw; (tab = strchr(tab, '\t'));)
				*tab = ' ';
			text_escape_line(safe, cap, raw);
			printf("%s%s\n", before, safe);
		}
		free(raw);
		free(safe);
	}
}

static struct json_object *lines_of(struct span text)
{
	struct json_object *array = json_object_new_array(), *item;
	struct span line;

	while (span_cut(&text, '\n', &line)) {
		item = json_object_new_object();
		json_add_bytes(item, "line", line);
		json_object_array_add(array, json_object_get(json_object_object_get(item, "line")));
		json_object_put(item);
	}
	return array;
}

static void tell_json(const struct attach *attach, const struct attach_choice *choice)
{
	struct json_object *object = json_object_new_object(), *backups = json_object_new_array();
	char next[PATH_MAX + 32];

	json_object_object_add(object, "action", json_object_new_string(choice->out ? "detach" : "attach"));
	json_add_bytes(object, "config_directory", span_of(attach->dir));
	json_object_object_add(object, "changed", json_object_new_boolean(attach_differs(attach)));
	json_object_object_add(object, "applied", json_object_new_boolean(attach->applied));
	json_object_object_add(object, "changes", json_object_get(attach->changes));
	json_object_object_add(object, "commands", lines_of(strbuf_span(&attach->shell)));
	json_object_object_add(object, "notes", lines_of(strbuf_span(&attach->notes)));
	json_add_bytes(object, "diff", strbuf_span(&attach->diff));
	for (int i = 0; i < ATTACH_FILES; i++)
		if (*attach->files[i].backup)
			json_object_array_add(backups, json_object_new_string(attach->files[i].backup));
	json_object_object_add(object, "backups", backups);
	snprintf(next, sizeof(next), "postfix -c %s reload", attach->dir);
	if (attach->applied && !choice->reload)
		json_add_bytes(object, "next", span_of(next));
	else
		json_object_object_add(object, "next", NULL);
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

static void tell(const struct query *query, const struct attach *attach, const struct attach_choice *choice)
{
	bool differs = attach_differs(attach);

	printf("Postfix in %s: %s\n", attach->dir,
	    !differs	     ? choice->out ? "nothing of ours is there, nothing to do" : "attached already, nothing to do"
	    : attach->applied ? choice->out ? "the hooks are taken out" : "the hooks are attached"
			      : choice->out ? "would be detached" : "would be attached");
	say_lines("  note: ", strbuf_span(&attach->notes));
	if (choice->dry && differs) {
		if (attach->shell.len)
			printf("\n");
		say_lines("", strbuf_span(&attach->shell));
		printf("\n");
		say_lines("", strbuf_span(&attach->diff));
	} else if (query->verbose) {
		say_lines("  ", strbuf_span(&attach->shell));
	}
	for (int i = 0; i < ATTACH_FILES; i++)
		if (attach->applied && *attach->files[i].backup)
			printf("  backup: %s\n", attach->files[i].backup);
	if (attach->applied && !choice->reload)
		printf("  next:   postfix -c %s reload\n", attach->dir);
}

/* --- doing --- */

static enum status run_postfix(const char *dir, const char *what, struct errinfo *err)
{
	const char *argv[] = {"postfix", "-c", dir, what, NULL};
	struct strbuf out = STRBUF_INIT, errors = STRBUF_INIT;
	struct span rest, line, last = {NULL, 0};
	int code = 0;
	enum status status = child_run(argv, 120 * (int64_t)US_PER_SEC, 1u << 20, &out, &errors, &code, err);

	rest = strbuf_span(&errors);
	while (span_cut(&rest, '\n', &line))
		if (!last.len || span_find(line, SPAN("fatal: ")))
			last = line;
	if (status == STATUS_OK && code != 0)
		status = errinfo_set(err, STATUS_INVALID, "\"postfix -c %s %s\" failed: %.*s", dir, what,
		    (int)(last.len > 300 ? 300 : last.len), last.len ? last.ptr : "no reason given");
	strbuf_fini(&out);
	strbuf_fini(&errors);
	return status;
}

/* What Postfix itself does not accept is not touched. */
static enum status check_first(const char *dir, struct errinfo *err)
{
	static const char *const modes[] = {"-n", "-M", "-P"};
	enum status status = STATUS_OK;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]) && status == STATUS_OK; i++) {
		const char *args[] = {modes[i], NULL};
		struct strbuf out = STRBUF_INIT;

		status = postconf_run(dir, args, &out, err);
		strbuf_fini(&out);
	}
	/* only root may */
	if (status == STATUS_OK && geteuid() == 0)
		status = run_postfix(dir, "check", err);
	return status;
}

static enum status work_on(
    struct attach *attach, const struct query *query, const struct attach_choice *choice, struct errinfo *err)
{
	enum status status = check_first(attach->dir, err);

	if (status == STATUS_OK && !choice->out)
		status = attach_hooks(attach, &query->config, err);
	if (status == STATUS_OK)
		status = attach_base(attach, err);
	if (status == STATUS_OK)
		status = attach_strip(attach, err);
	if (status == STATUS_OK && !choice->out) {
		attach->position = choice->position;
		status = attach_keep_base(attach, err);
		if (status == STATUS_OK)
			status = attach_apply(attach, err);
	}
	if (status == STATUS_OK)
		status = attach_result(attach, err);
	if (status == STATUS_OK && !choice->dry && attach_differs(attach))
		status = attach_install(attach, !choice->out, choice->out ? attach_check_out : attach_check_in, err);
	return status;
}

static int run_one(const struct query *query, const struct attach_choice *choice, const char *dir)
{
	struct errinfo err = {""};
	struct attach attach;
	enum status status = attach_open(&attach, dir, &err);

	if (status == STATUS_OK)
		status = work_on(&attach, query, choice, &err);
	if (status == STATUS_OK) {
		if (query->json)
			tell_json(&attach, choice);
		else
			tell(query, &attach, choice);
		if (choice->reload && attach.applied)
			status = run_postfix(attach.dir, "reload", &err);
	}
	attach_close(&attach);
	if (status == STATUS_OK)
		return EXIT_FOUND;
	fflush(stdout);
	fprintf(stderr, "posttrace: fatal: %s\n", err.text);
	return EXIT_TROUBLE;
}

/* The instance in dir ("": Postfix's own) and those that its multi_instance_directories name, one a line. postmulti -l
 * says the same but for instances that it does not find in order, and then it says nothing at all. */
static enum status find_instances(const char *dir, struct strbuf *out, struct errinfo *err)
{
	struct strbuf own = STRBUF_INIT, others = STRBUF_INIT;
	enum status status = STATUS_OK;
	struct span rest, next;

	if (!*dir) {
		status = attach_default_dir(&own, err);
		dir = own.buf;
	}
	if (status == STATUS_OK)
		status = postconf_get(dir, "-xh", "multi_instance_directories", &others, err);
	if (status == STATUS_OK)
		strbuf_addf(out, "%s\n", dir);
	rest = strbuf_span(&others);
	while (status == STATUS_OK && cflist_next(&rest, &next)) {
		strbuf_addspan(out, next);
		strbuf_addch(out, '\n');
	}
	strbuf_fini(&own);
	strbuf_fini(&others);
	return status;
}

static bool next_instance(struct span *rest, char *path, size_t cap)
{
	struct span line;

	while (span_cut(rest, '\n', &line))
		if (line.len && line.len < cap) {
			memcpy(path, line.ptr, line.len);
			path[line.len] = '\0';
			return true;
		}
	return false;
}

static int run_all(const struct query *query, const struct attach_choice *choice)
{
	struct strbuf list = STRBUF_INIT;
	struct errinfo err = {""};
	int worst = EXIT_FOUND;
	char path[PATH_MAX];
	struct span rest;

	if (find_instances(query->config.config_directory, &list, &err) != STATUS_OK)
		query_fatal_err(&err);
	rest = strbuf_span(&list);
	while (next_instance(&rest, path, sizeof(path))) {
		int code = run_one(query, choice, path);

		worst = code > worst ? code : worst;
	}
	strbuf_fini(&list);
	return worst;
}

/* Mail may go through an instance that nobody thought of. */
static void say_others(const struct query *query)
{
	struct strbuf list = STRBUF_INIT;
	struct errinfo err = {""};
	char path[PATH_MAX], state[PATH_MAX + 32];
	struct span rest;

	if (find_instances(query->config.config_directory, &list, &err) != STATUS_OK)
		query_fatal_err(&err);
	rest = strbuf_span(&list);
	next_instance(&rest, path, sizeof(path)); /* this one */
	while (next_instance(&rest, path, sizeof(path))) {
		snprintf(state, sizeof(state), "%s/" ATTACH_STATE_NAME, path);
		if (access(state, F_OK) != 0)
			query_warn("the Postfix instance in %s is not attached; -c %s or --all-instances attaches it", path, path);
	}
	strbuf_fini(&list);
}

int attach_run(struct query *query, const struct attach_choice *choice)
{
	int code;

	if (choice->all)
		return run_all(query, choice);
	code = run_one(query, choice, query->config.config_directory);
	if (code == EXIT_FOUND && !choice->out)
		say_others(query);
	return code;
}
