#include "query/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/postfix/child.h"
#include "shared/postfix/postconf.h"

#define STATE_MAGIC "posttrace-attached 1\n"
#define FILE_LIMIT (8u << 20)

static const char *const names[ATTACH_FILES] = {"main.cf", "master.cf"};

static enum status read_whole(const char *path, struct strbuf *out, struct errinfo *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char chunk[16384];
	ssize_t n;

	strbuf_reset(out);
	if (fd < 0)
		return errno == ENOENT ? errinfo_set(err, STATUS_ABSENT, "there is no %s", path)
				       : errinfo_set(err, STATUS_IO, "can't read %s: %s", path, strerror(errno));
	while ((n = read(fd, chunk, sizeof(chunk))) > 0 && out->len < FILE_LIMIT)
		strbuf_add(out, chunk, (size_t)n);
	close(fd);
	if (n < 0)
		return errinfo_set(err, STATUS_IO, "can't read %s: %s", path, strerror(errno));
	if (n > 0)
		return errinfo_set(err, STATUS_FULL, "%s is larger than anything that Postfix would read", path);
	return out->failed ? errinfo_set(err, STATUS_NOMEM, "out of memory") : STATUS_OK;
}

static enum status write_all(int fd, struct span bytes)
{
	while (bytes.len) {
		ssize_t n = write(fd, bytes.ptr, bytes.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return STATUS_IO;
		bytes = span_skip(bytes, (size_t)n);
	}
	return STATUS_OK;
}

/* All or nothing: beside it, flushed, then renamed over it. Owner and mode as like says. */
static enum status replace(const char *path, struct span bytes, const struct stat *like, struct errinfo *err)
{
	char temp[PATH_MAX + 80];
	int fd;

	snprintf(temp, sizeof(temp), "%s.posttrace-new.%ld", path, (long)getpid());
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errinfo_set(err, STATUS_IO, "can't write %s: %s", temp, strerror(errno));
	if (write_all(fd, bytes) != STATUS_OK || fchown(fd, like->st_uid, like->st_gid) != 0 ||
	    fchmod(fd, like->st_mode & 07777) != 0 || fsync(fd) != 0 || rename(temp, path) != 0) {
		errinfo_set(err, STATUS_IO, "can't write %s: %s", path, strerror(errno));
		unlink(temp);
		close(fd);
		return STATUS_IO;
	}
	close(fd);
	return STATUS_OK;
}

static void state_path(const struct attach *attach, char *out, size_t cap)
{
	snprintf(out, cap, "%s/" ATTACH_STATE_NAME, attach->dir);
}

/* magic, "main.cf BEFORE AFTER", "master.cf BEFORE AFTER", "milter ADDRESS", an empty line, the four texts. */
static enum status read_state(struct attach *attach, struct errinfo *err)
{
	struct strbuf *text = &attach->state;
	char path[PATH_MAX + 32];
	struct span rest, line;
	size_t sizes[ATTACH_FILES][2];
	enum status status;

	state_path(attach, path, sizeof(path));
	status = read_whole(path, text, err);
	if (status == STATUS_ABSENT)
		return err->text[0] = '\0', STATUS_OK;
	if (status != STATUS_OK)
		return status;
	rest = strbuf_span(text);
	status = errinfo_set(err, STATUS_INVALID,
	    "%s is damaged or from another version; move it away, and detach will go by what it finds in the files", path);
	if (!span_starts(rest, SPAN(STATE_MAGIC)))
		return status;
	rest = span_skip(rest, strlen(STATE_MAGIC));
	for (int i = 0; i < ATTACH_FILES; i++) {
		char row[80];

		if (!span_cut(&rest, '\n', &line) || line.len >= sizeof(row))
			return status;
		memcpy(row, line.ptr, line.len);
		row[line.len] = '\0';
		if (strncmp(row, names[i], strlen(names[i])) != 0 ||
		    sscanf(row + strlen(names[i]), " %zu %zu", &sizes[i][0], &sizes[i][1]) != 2)
			return status;
	}
	if (!span_cut(&rest, '\n', &line) || !span_starts(line, SPAN("milter ")))
		return status;
	strbuf_addspan(&attach->old_milter, span_skip(line, 7));
	if (!span_cut(&rest, '\n', &line) || line.len)
		return status;
	for (int i = 0; i < ATTACH_FILES; i++) {
		struct attach_file *file = &attach->files[i];

		if (sizes[i][0] > rest.len || sizes[i][1] > rest.len - sizes[i][0])
			return status;
		strbuf_addspan(&file->before, span_head(rest, sizes[i][0]));
		rest = span_skip(rest, sizes[i][0]);
		strbuf_addspan(&file->after, span_head(rest, sizes[i][1]));
		rest = span_skip(rest, sizes[i][1]);
	}
	if (rest.len)
		return status;
	attach->has_state = true;
	err->text[0] = '\0';
	return STATUS_OK;
}

static enum status write_state(struct attach *attach, struct errinfo *err)
{
	struct strbuf text = STRBUF_INIT;
	char path[PATH_MAX + 32];
	enum status status;

	strbuf_adds(&text, STATE_MAGIC);
	for (int i = 0; i < ATTACH_FILES; i++)
		strbuf_addf(&text, "%s %zu %zu\n", names[i], attach->files[i].before.len, attach->files[i].next.len);
	strbuf_addf(&text, "milter %s\n\n", attach->milter.buf);
	for (int i = 0; i < ATTACH_FILES; i++) {
		strbuf_addspan(&text, strbuf_span(&attach->files[i].before));
		strbuf_addspan(&text, strbuf_span(&attach->files[i].next));
	}
	state_path(attach, path, sizeof(path));
	status = text.failed ? errinfo_set(err, STATUS_NOMEM, "out of memory")
			     : replace(path, strbuf_span(&text), &attach->files[ATTACH_MAIN].stat, err);
	strbuf_fini(&text);
	return status;
}

enum status attach_default_dir(struct strbuf *out, struct errinfo *err)
{
	const char *argv[] = {"postconf", "-h", "config_directory", NULL};
	int code = 0;
	enum status status = child_run(argv, 30 * (int64_t)US_PER_SEC, 4096, out, NULL, &code, err);

	if (status == STATUS_OK && (code || !out->len))
		status = errinfo_set(err, STATUS_INVALID, "postconf can't tell where Postfix's configuration is");
	if (status == STATUS_OK)
		strbuf_setlen(out, out->len - (out->buf[out->len - 1] == '\n'));
	return status;
}

static enum status find_dir(struct attach *attach, const char *dir, struct errinfo *err)
{
	struct strbuf own = STRBUF_INIT;
	enum status status = STATUS_OK;

	if (!*dir) {
		status = attach_default_dir(&own, err);
		dir = own.buf;
	}
	if (status == STATUS_OK && !realpath(dir, attach->dir))
		status = errinfo_set(err, STATUS_ABSENT, "%s: %s", dir, strerror(errno));
	strbuf_fini(&own);
	return status;
}

enum status attach_open(struct attach *attach, const char *dir, struct errinfo *err)
{
	enum status status;

	*attach = (struct attach){.lock = -1, .position = 1};
	for (int i = 0; i < ATTACH_FILES; i++) {
		struct attach_file *file = &attach->files[i];

		strbuf_init(&file->now);
		strbuf_init(&file->before);
		strbuf_init(&file->after);
		strbuf_init(&file->next);
	}
	strbuf_init(&attach->milter);
	strbuf_init(&attach->policy);
	strbuf_init(&attach->old_milter);
	strbuf_init(&attach->state);
	strbuf_init(&attach->milter_attributes);
	strbuf_init(&attach->policy_attributes);
	strbuf_init(&attach->shell);
	strbuf_init(&attach->notes);
	strbuf_init(&attach->diff);
	attach->changes = json_object_new_array();
	status = find_dir(attach, dir, err);
	if (status != STATUS_OK)
		return status;
	attach->lock = open(attach->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (attach->lock < 0)
		return errinfo_set(err, STATUS_IO, "can't open %s: %s", attach->dir, strerror(errno));
	if (flock(attach->lock, LOCK_EX | LOCK_NB) != 0)
		return errinfo_set(err, STATUS_BUSY, "another attach or detach is at work in %s", attach->dir);
	for (int i = 0; i < ATTACH_FILES; i++) {
		struct attach_file *file = &attach->files[i];
		char path[PATH_MAX + 16];

		snprintf(path, sizeof(path), "%s/%s", attach->dir, names[i]);
		if (!realpath(path, file->path) || stat(file->path, &file->stat) != 0)
			return errinfo_set(err, STATUS_ABSENT, "%s: %s", path, strerror(errno));
		status = read_whole(file->path, &file->now, err);
		if (status != STATUS_OK)
			return status;
	}
	return read_state(attach, err);
}

static void remove_work(struct attach *attach)
{
	static const char *const left[] = {"main.cf", "master.cf", "mine", "older", "yours"};
	char path[128];

	if (!*attach->work)
		return;
	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", attach->work, left[i]);
		unlink(path);
	}
	rmdir(attach->work);
	*attach->work = '\0';
}

void attach_close(struct attach *attach)
{
	remove_work(attach);
	if (attach->lock >= 0)
		close(attach->lock);
	for (int i = 0; i < ATTACH_FILES; i++) {
		struct attach_file *file = &attach->files[i];

		strbuf_fini(&file->now);
		strbuf_fini(&file->before);
		strbuf_fini(&file->after);
		strbuf_fini(&file->next);
	}
	strbuf_fini(&attach->milter);
	strbuf_fini(&attach->policy);
	strbuf_fini(&attach->old_milter);
	strbuf_fini(&attach->state);
	strbuf_fini(&attach->milter_attributes);
	strbuf_fini(&attach->policy_attributes);
	strbuf_fini(&attach->shell);
	strbuf_fini(&attach->notes);
	strbuf_fini(&attach->diff);
	json_object_put(attach->changes);
}

static enum status put_copy(
    struct attach *attach, const char *name, struct span bytes, char *path, size_t cap, struct errinfo *err)
{
	int fd;
	enum status status;

	snprintf(path, cap, "%s/%s", attach->work, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return errinfo_set(err, STATUS_IO, "can't write %s: %s", path, strerror(errno));
	status = write_all(fd, bytes);
	if (close(fd) != 0 || status != STATUS_OK)
		return errinfo_set(err, STATUS_IO, "can't write %s: %s", path, strerror(errno));
	return STATUS_OK;
}

/* The file as it is now, without what attach changed. STATUS_ABSENT: somebody edited the same lines. */
static enum status merge(struct attach *attach, struct attach_file *file, struct strbuf *out, struct errinfo *err)
{
	const struct {
		const char *name;
		const struct strbuf *text;
	} sides[] = {{"mine", &file->now}, {"older", &file->after}, {"yours", &file->before}};
	char paths[3][128];
	const char *argv[] = {"diff3", "-a", "-m", paths[0], paths[1], paths[2], NULL};
	enum status status = STATUS_OK;
	int code = 0;

	for (int i = 0; i < 3 && status == STATUS_OK; i++)
		status = put_copy(attach, sides[i].name, strbuf_span(sides[i].text), paths[i], sizeof(paths[i]), err);
	if (status != STATUS_OK)
		return status;
	status = child_run(argv, 30 * (int64_t)US_PER_SEC, 2 * FILE_LIMIT, out, NULL, &code, err);
	if (status == STATUS_OK && code == 1)
		return STATUS_ABSENT;
	if (status == STATUS_OK && code != 0)
		return errinfo_set(err, STATUS_IO, "diff3 failed on %s", file->path);
	return status;
}

enum status attach_base(struct attach *attach, struct errinfo *err)
{
	const char *tmp = getenv("TMPDIR");
	enum status status = STATUS_OK;

	if (snprintf(attach->work, sizeof(attach->work), "%s/posttrace-attach.XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp") >=
		(int)sizeof(attach->work) ||
	    !mkdtemp(attach->work)) {
		*attach->work = '\0';
		return errinfo_set(err, STATUS_IO, "can't make a folder in %s: %s", tmp ? tmp : "/tmp", strerror(errno));
	}
	for (int i = 0; i < ATTACH_FILES && status == STATUS_OK; i++) {
		struct attach_file *file = &attach->files[i];
		struct strbuf merged = STRBUF_INIT;
		struct span base = strbuf_span(&file->now);

		if (attach->has_state && span_eq(base, strbuf_span(&file->after))) {
			base = strbuf_span(&file->before);
		} else if (attach->has_state && !span_eq(base, strbuf_span(&file->before))) {
			status = merge(attach, file, &merged, err);
			if (status == STATUS_OK) {
				base = strbuf_span(&merged);
				strbuf_addf(&attach->notes,
				    "%s was edited since it was attached: the edits stay, our lines go\n", names[i]);
			} else if (status == STATUS_ABSENT) {
				strbuf_addf(&attach->notes,
				    "%s was edited since, in or beside our lines: only our elements are taken out of them\n",
				    names[i]);
				status = STATUS_OK;
			}
		}
		if (status == STATUS_OK)
			status = put_copy(attach, names[i], base, file->copy, sizeof(file->copy), err);
		strbuf_fini(&merged);
	}
	attach_age_copies(attach);
	return status;
}

void attach_age_copies(const struct attach *attach)
{
	/* not 0, and long enough ago */
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	for (int i = 0; i < ATTACH_FILES; i++)
		if (*attach->files[i].copy)
			utimensat(AT_FDCWD, attach->files[i].copy, times, 0);
}

enum status attach_end_last_line(struct attach *attach, struct errinfo *err)
{
	struct attach_file *file = &attach->files[ATTACH_MAIN];
	struct strbuf text = STRBUF_INIT;
	enum status status = read_whole(file->copy, &text, err);
	char path[PATH_MAX];

	if (status == STATUS_OK && text.len && text.buf[text.len - 1] != '\n') {
		strbuf_addch(&text, '\n');
		strbuf_addf(&attach->shell, "echo >>%s/%s\n", attach->dir, names[ATTACH_MAIN]);
		status = text.failed ? errinfo_set(err, STATUS_NOMEM, "out of memory")
				     : put_copy(attach, names[ATTACH_MAIN], strbuf_span(&text), path, sizeof(path), err);
	}
	strbuf_fini(&text);
	attach_age_copies(attach);
	return status;
}

enum status attach_read_copy(const struct attach *attach, int file, struct strbuf *out, struct errinfo *err)
{
	return read_whole(attach->files[file].copy, out, err);
}

enum status attach_keep_base(struct attach *attach, struct errinfo *err)
{
	enum status status = STATUS_OK;

	for (int i = 0; i < ATTACH_FILES && status == STATUS_OK; i++)
		status = read_whole(attach->files[i].copy, &attach->files[i].before, err);
	return status;
}

enum status attach_result(struct attach *attach, struct errinfo *err)
{
	for (int i = 0; i < ATTACH_FILES; i++) {
		struct attach_file *file = &attach->files[i];
		char old[128], label[2][PATH_MAX + 32];
		const char *argv[] = {"diff", "-a", "-u", "--label", label[0], "--label", label[1], old, file->copy, NULL};
		enum status status = read_whole(file->copy, &file->next, err);
		int code = 0;

		if (status == STATUS_OK)
			status = put_copy(attach, "mine", strbuf_span(&file->now), old, sizeof(old), err);
		if (status != STATUS_OK)
			return status;
		snprintf(label[0], sizeof(label[0]), "%s", file->path);
		snprintf(label[1], sizeof(label[1]), "%s (new)", file->path);
		status = child_run(argv, 30 * (int64_t)US_PER_SEC, 4 * FILE_LIMIT, &attach->diff, NULL, &code, err);
		if (status != STATUS_OK)
			return status;
		if (code > 1)
			return errinfo_set(err, STATUS_IO, "diff failed on %s", file->path);
	}
	return STATUS_OK;
}

bool attach_differs(const struct attach *attach)
{
	for (int i = 0; i < ATTACH_FILES; i++)
		if (!span_eq(strbuf_span(&attach->files[i].now), strbuf_span(&attach->files[i].next)))
			return true;
	return false;
}

/* Beside the file, under a name that is not taken. */
static enum status back_up(struct attach *attach, struct errinfo *err)
{
	time_t now = (time_t)(clock_now_us() / US_PER_SEC);
	struct tm tm;
	char stamp[32];

	localtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &tm);
	for (int i = 0; i < ATTACH_FILES; i++) {
		struct attach_file *file = &attach->files[i];
		enum status status;

		for (int n = 0; n < 100; n++) {
			snprintf(file->backup, sizeof(file->backup), n ? "%s/%s.posttrace-%s.%d" : "%s/%s.posttrace-%s",
			    attach->dir, names[i], stamp, n);
			if (access(file->backup, F_OK) != 0)
				break;
		}
		status = replace(file->backup, strbuf_span(&file->now), &file->stat, err);
		if (status != STATUS_OK)
			return *file->backup = '\0', status;
	}
	return STATUS_OK;
}

static enum status unchanged_since(struct attach *attach, struct errinfo *err)
{
	struct strbuf text = STRBUF_INIT;
	enum status status = STATUS_OK;

	for (int i = 0; i < ATTACH_FILES && status == STATUS_OK; i++) {
		status = read_whole(attach->files[i].path, &text, err);
		if (status == STATUS_OK && !span_eq(strbuf_span(&text), strbuf_span(&attach->files[i].now)))
			status = errinfo_set(err, STATUS_BUSY,
			    "%s was changed by somebody else meanwhile; nothing was done", attach->files[i].path);
	}
	strbuf_fini(&text);
	return status;
}

enum status attach_install(struct attach *attach, bool attached,
    enum status (*check)(struct attach *, struct errinfo *), struct errinfo *err)
{
	/* what master.cf refers to stands in main.cf: there first, gone last */
	const int order[ATTACH_FILES] = {attached ? ATTACH_MAIN : ATTACH_MASTER, attached ? ATTACH_MASTER : ATTACH_MAIN};
	enum status status = unchanged_since(attach, err);
	char state[PATH_MAX + 32];
	int written = 0;

	if (status == STATUS_OK)
		status = back_up(attach, err);
	/* before the files: an end half way leaves each file as one of the two texts that the state knows */
	if (status == STATUS_OK && attached)
		status = write_state(attach, err);
	if (status != STATUS_OK)
		return status;
	while (written < ATTACH_FILES) {
		struct attach_file *file = &attach->files[order[written]];

		if (!span_eq(strbuf_span(&file->now), strbuf_span(&file->next)))
			status = replace(file->path, strbuf_span(&file->next), &file->stat, err);
		if (status != STATUS_OK)
			break;
		written++;
	}
	if (status == STATUS_OK)
		status = check(attach, err);
	state_path(attach, state, sizeof(state));
	if (status == STATUS_OK) {
		if (!attached)
			unlink(state);
		attach->applied = true;
		fsync(attach->lock);
		return STATUS_OK;
	}
	while (written--) {
		struct attach_file *file = &attach->files[order[written]];
		struct errinfo again = {""};

		if (!span_eq(strbuf_span(&file->now), strbuf_span(&file->next)) &&
		    replace(file->path, strbuf_span(&file->now), &file->stat, &again) != STATUS_OK)
			return errinfo_set(err, STATUS_IO, "%s; and the old file is only in %s", again.text, file->backup);
	}
	if (attached && !attach->has_state) {
		unlink(state);
	} else if (attached) {
		struct errinfo again = {""};

		if (replace(state, strbuf_span(&attach->state), &attach->files[ATTACH_MAIN].stat, &again) != STATUS_OK)
			return errinfo_set(err, STATUS_IO, "%s", again.text);
	}
	return status;
}
