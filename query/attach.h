/* attach.h - put our hooks into a Postfix instance and take them out again.
 *
 * Model:  main.cf and master.cf are copied to a folder of our own, postconf edits the copies, the result is checked
 *         there, and only then replaces the files: whole, by rename, owner and mode kept, under a lock on the
 *         configuration directory.
 * State:  config_directory/posttrace.attached holds both files as they were before and after. What still equals
 *         "after" goes back to "before" byte for byte; a file edited since is merged (diff3); where the edit touches our
 *         lines, postconf takes our elements out of the lists.
 * Errors: nothing is changed when one comes back, or what was changed is changed back.
 */
#ifndef POSTTRACE_ATTACH_H
#define POSTTRACE_ATTACH_H

#include <limits.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "shared/base/strbuf.h"
#include "shared/config/options.h"

#define ATTACH_STATE_NAME "posttrace.attached"

enum { ATTACH_MAIN, ATTACH_MASTER, ATTACH_FILES };

struct attach_file {
	char path[PATH_MAX]; /* links resolved */
	char copy[PATH_MAX + 32];
	char backup[PATH_MAX + 32]; /* "" when none was made */
	struct stat stat;
	struct strbuf now;           /* as it is */
	struct strbuf before, after; /* from the state */
	struct strbuf next;          /* as it should become */
};

struct attach {
	char dir[PATH_MAX];
	char work[64]; /* where the copies are; "" when there are none */
	int lock;
	bool has_state;
	bool applied;
	struct attach_file files[ATTACH_FILES];
	struct strbuf milter, policy; /* addresses as Postfix wants them */
	struct strbuf state;          /* the file as it was; empty when there was none */
	struct strbuf old_milter;     /* from it */
	struct strbuf milter_attributes, policy_attributes;
	unsigned position;   /* of the milter; 0: last */
	struct strbuf shell; /* the postconf commands, one a line */
	struct strbuf notes; /* for a person, one a line */
	struct strbuf diff;
	struct json_object *changes;
};

/* --- attach_files.c --- */

/* The directory of the Postfix that is installed here. */
enum status attach_default_dir(struct strbuf *out, struct errinfo *err) MUST_CHECK;
/* Lock dir ("" is Postfix's own) and read its files and our state. */
enum status attach_open(struct attach *attach, const char *dir, struct errinfo *err) MUST_CHECK;
void attach_close(struct attach *attach);
/* Copy the files into the work folder as they were before an earlier attach, as far as the state tells. */
enum status attach_base(struct attach *attach, struct errinfo *err) MUST_CHECK;
/* Postfix's programs wait for a configuration file that was written in the last two seconds: the copies never were. */
void attach_age_copies(const struct attach *attach);
/* postconf -e would write its line behind a last one that has no newline. */
enum status attach_end_last_line(struct attach *attach, struct errinfo *err) MUST_CHECK;
enum status attach_read_copy(const struct attach *attach, int file, struct strbuf *out, struct errinfo *err) MUST_CHECK;
/* The copies as they are now are what detach shall give back. */
enum status attach_keep_base(struct attach *attach, struct errinfo *err) MUST_CHECK;
/* Read what the edits made of the copies, and its diff. */
enum status attach_result(struct attach *attach, struct errinfo *err) MUST_CHECK;
bool attach_differs(const struct attach *attach);
/* Back up, write the state (attached) or remove it, replace the files; check says whether the result is good. */
enum status attach_install(struct attach *attach, bool attached,
    enum status (*check)(struct attach *, struct errinfo *), struct errinfo *err) MUST_CHECK;

/* --- attach_edit.c --- */

/* Addresses from the settings, attributes from postfix-snippets. */
enum status attach_hooks(struct attach *attach, const struct config *config, struct errinfo *err) MUST_CHECK;
/* Take every element of ours out of the copies (attach_out.c). */
enum status attach_strip(struct attach *attach, struct errinfo *err) MUST_CHECK;
/* Put the hooks into the copies and prove by postconf that nothing else changed its meaning. */
enum status attach_apply(struct attach *attach, struct errinfo *err) MUST_CHECK;
/* Are the hooks in force in dir itself, and: is it free of them? */
enum status attach_check_in(struct attach *attach, struct errinfo *err) MUST_CHECK;
enum status attach_check_out(struct attach *attach, struct errinfo *err) MUST_CHECK;

#endif
