/* A log file through rotation by rename, by copy and truncate, and by compression. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "recorder/follow_source.h"
#include "shared/base/hash.h"
#include "shared/base/log.h"

#define CHUNK        (64u << 10)
#define HEAD_MAX     256u /* how a file begins: stamp, process id and words of its first lines */
#define SIBLINGS_MAX 512u

/* Which file, and how far. A compressed file is known by its head alone. */
struct place {
	uint64_t device, inode, offset;
	uint64_t head_hash;
	uint32_t head_len; /* min(offset, HEAD_MAX) */
	uint32_t zero;
};

struct follow_file {
	struct follow follow;
	char *path;
	int fd;           /* -1: none yet */
	gzFile gz;        /* when the file is compressed; fd is then its own */
	uint64_t device, inode;
	uint64_t offset;  /* of the first byte not yet given out */
	uint64_t pos;     /* of the first byte not yet read */
	char head[HEAD_MAX];
	size_t head_len;
	struct strbuf buf;
	size_t start, scanned; /* in buf: the first byte not given out, and the first that was not looked at */
	size_t dropped;        /* bytes of the line at start that were over the limit */
	int notify_fd, watch;
};

/* --- one file ---------------------------------------------------------------- */

static ssize_t read_at(struct follow_file *f, char *to, size_t len, uint64_t at)
{
	ssize_t n;

	if (f->gz)
		return gzread(f->gz, to, (unsigned)len); /* read in order only */
	do
		n = pread(f->fd, to, len, (off_t)at);
	while (n < 0 && errno == EINTR);
	return n;
}

/* The first len bytes, or fewer when it is shorter; compressed or not. */
static size_t read_head(const char *path, char *head, size_t len)
{
	gzFile gz = gzopen(path, "re"); /* gives plain files as they are */
	int n = 0;

	if (gz) {
		n = gzread(gz, head, (unsigned)len);
		gzclose(gz);
	}
	return n > 0 ? (size_t)n : 0;
}

static void leave_file(struct follow_file *f)
{
	if (f->gz)
		gzclose(f->gz);
	else if (f->fd >= 0)
		close(f->fd);
	if (f->watch >= 0)
		(void)inotify_rm_watch(f->notify_fd, f->watch);
	f->gz = NULL;
	f->fd = f->watch = -1;
	f->offset = f->pos = 0;
	f->head_len = 0;
	f->start = f->scanned = f->dropped = 0;
	strbuf_reset(&f->buf);
}

/* Which file a path was found to be. */
struct identity {
	uint64_t device, inode;
};

/* Open path at offset; its first bytes up to there become the head. ABSENT: it is not there, or shorter than that, or
 * by now another file than the one that was found (may be NULL). */
static enum status enter_file(
    struct follow_file *f, const char *path, uint64_t offset, const struct identity *found, struct errinfo *err)
{
	size_t len = strlen(path), want = offset < HEAD_MAX ? (size_t)offset : HEAD_MAX;
	bool compressed = len > 3 && strcmp(path + len - 3, ".gz") == 0;
	enum status status = STATUS_ABSENT;
	struct stat st;

	leave_file(f);
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (f->fd < 0 || fstat(f->fd, &st) != 0) {
		if (errno == EACCES || errno == EPERM)
			status = errinfo_set(err, STATUS_DENIED,
			    "can't read %s: its permissions keep this user out. Start posttrace-recorder as root (it keeps only the "
			    "right to read files), or let its user read the file: the group adm on Debian, or for Postfix's own "
			    "maillog_file maillog_file_permissions (Postfix 3.9)", path);
		else if (errno != ENOENT)
			status = errinfo_set(err, STATUS_IO, "can't read %s: %s", path, strerror(errno));
		goto failed;
	}
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) { /* /dev/null: no log at all */
		status = errinfo_set(err, STATUS_IO, "can't read %s: it is not a file", path);
		goto failed;
	}
	if (found && (st.st_dev != found->device || st.st_ino != found->inode))
		goto failed;
	f->device = st.st_dev;
	f->inode = st.st_ino;
	if (compressed) {
		f->gz = gzdopen(f->fd, "r");
		if (!f->gz)
			goto failed;
		if (gzread(f->gz, f->head, (unsigned)want) != (int)want || gzseek(f->gz, (z_off_t)offset, SEEK_SET) < 0)
			goto failed;
	} else if ((uint64_t)st.st_size < offset || read_at(f, f->head, want, 0) != (ssize_t)want) {
		goto failed;
	}
	f->head_len = want;
	f->offset = f->pos = offset;
	if (f->notify_fd >= 0 && !compressed)
		f->watch = inotify_add_watch(f->notify_fd, path, IN_MODIFY);
	return STATUS_OK;
failed:
	leave_file(f);
	return status;
}

/* Given out: n bytes at start, and what was dropped behind them. */
static void consume(struct follow_file *f, size_t n)
{
	struct span bytes = span_head(span_make(f->buf.buf + f->start, n), HEAD_MAX - f->head_len);

	/* a line with a dropped part is longer than the head, so what counts is in buf */
	memcpy(f->head + f->head_len, bytes.ptr, bytes.len);
	f->head_len += bytes.len;
	f->offset += n + f->dropped;
	f->start += n;
	f->scanned = f->start;
	f->dropped = 0;
}

/* Is what we read still the beginning of this file? copytruncate empties it under our feet. */
static bool was_truncated(const struct follow_file *f)
{
	char now[HEAD_MAX];
	struct stat st;

	if (f->gz || fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	if ((uint64_t)st.st_size < f->pos)
		return true;
	return pread(f->fd, now, f->head_len, 0) != (ssize_t)f->head_len || memcmp(now, f->head, f->head_len) != 0;
}

/* --- the rotated ones ---------------------------------------------------------- */

struct sibling {
	char path[512];
	struct identity id;
	int64_t size;
	struct timespec changed;
	unsigned long number; /* ".1", ".2.gz": the higher, the older; 0: another kind of name */
	bool live, compressed;
};

/* "", ".1", "-20261123", ".20261123-223722.gz" behind the log's name; nothing else can be told to be the same log. */
static bool rotated_name(const char *suffix, struct sibling *s)
{
	size_t len = strlen(suffix);

	s->live = len == 0;
	s->compressed = len > 3 && strcmp(suffix + len - 3, ".gz") == 0;
	if (s->compressed)
		len -= 3;
	if (s->live)
		return true;
	if ((suffix[0] != '.' && suffix[0] != '-') || strspn(suffix + 1, "0123456789-.") < len - 1 || len < 2)
		return false;
	if (suffix[0] == '.' && len < 6 && strspn(suffix + 1, "0123456789") == len - 1)
		s->number = strtoul(suffix + 1, NULL, 10);
	return true;
}

/* Oldest first. */
static int by_age(const void *va, const void *vb)
{
	const struct sibling *a = va, *b = vb;

	if (a->live != b->live)
		return a->live ? 1 : -1;
	if (a->number && b->number && a->number != b->number)
		return a->number > b->number ? -1 : 1;
	if (!(a->number && b->number)) {
		if (a->changed.tv_sec != b->changed.tv_sec)
			return a->changed.tv_sec < b->changed.tv_sec ? -1 : 1;
		if (a->changed.tv_nsec != b->changed.tv_nsec)
			return a->changed.tv_nsec < b->changed.tv_nsec ? -1 : 1;
	}
	return strcmp(a->path, b->path); /* ".1" before ".1.gz" */
}

/* The log and its rotated files, oldest first; the caller frees. */
static size_t list_siblings(const struct follow_file *f, struct sibling **out)
{
	const char *slash = strrchr(f->path, '/'), *base = slash + 1;
	struct sibling *list = calloc(SIBLINGS_MAX, sizeof(*list));
	char *directory = strndup(f->path, (size_t)(slash - f->path) + 1);
	DIR *dir = directory ? opendir(directory) : NULL;
	struct dirent *entry;
	size_t n = 0;

	while (list && dir && n < SIBLINGS_MAX && (entry = readdir(dir))) {
		struct sibling *s = &list[n];
		struct stat st;

		memset(s, 0, sizeof(*s));
		if (strncmp(entry->d_name, base, strlen(base)) != 0 || !rotated_name(entry->d_name + strlen(base), s))
			continue;
		if ((size_t)snprintf(s->path, sizeof(s->path), "%s%s", directory, entry->d_name) >= sizeof(s->path) ||
		    stat(s->path, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		s->id = (struct identity){st.st_dev, st.st_ino};
		s->size = st.st_size;
		s->changed = st.st_mtim;
		n++;
	}
	if (dir)
		closedir(dir);
	free(directory);
	if (list)
		qsort(list, n, sizeof(*list), by_age);
	*out = list;
	return n;
}

static bool same_file(const struct sibling *s, uint64_t device, uint64_t inode)
{
	return s->id.device == device && s->id.inode == inode;
}

static bool same_head(const struct sibling *s, uint64_t hash, size_t len)
{
	char head[HEAD_MAX];

	return len && read_head(s->path, head, len) == len && hash_bytes(span_make(head, len)) == hash;
}

/* Find the file that a place is in: by inode, else by its head. */
static bool enter_place(struct follow_file *f, const struct place *place)
{
	struct sibling *list;
	size_t n = list_siblings(f, &list);
	bool found = false;

	for (size_t i = 0; i < n && !found; i++)
		if (same_file(&list[i], place->device, place->inode) && !list[i].compressed &&
		    (!place->head_len || same_head(&list[i], place->head_hash, place->head_len)))
			found = enter_file(f, list[i].path, place->offset, &list[i].id, NULL) == STATUS_OK;
	for (size_t i = 0; i < n && !found; i++)
		if (same_head(&list[i], place->head_hash, place->head_len))
			found = enter_file(f, list[i].path, place->offset, &list[i].id, NULL) == STATUS_OK;
	free(list);
	return found;
}

static struct place place_of(const struct follow_file *f)
{
	struct place place = {.device = f->device, .inode = f->inode, .offset = f->offset};

	place.head_len = (uint32_t)f->head_len;
	place.head_hash = hash_bytes(span_make(f->head, f->head_len));
	return place;
}

/* What was read to its end. */
struct finished {
	struct place place;
	struct timespec changed;
	bool compressed;
};

/* Where in the list, oldest first, the files younger than that one begin. */
static size_t first_younger(const struct sibling *list, size_t n, const struct finished *it)
{
	const struct place *place = &it->place;
	size_t first = 0;

	for (size_t i = 0; i < n; i++)
		if (same_file(&list[i], place->device, place->inode) &&
		    (!place->head_len || same_head(&list[i], place->head_hash, place->head_len)))
			return i + 1;
	/* it is deleted, or compressed by now: its copy, else the time of its last line tells where it was */
	for (size_t i = n; i-- > 0 && !it->compressed;)
		if (!list[i].live && same_head(&list[i], place->head_hash, place->head_len))
			return i + 1;
	while (first < n && !list[first].live &&
	       (list[first].changed.tv_sec < it->changed.tv_sec ||
		   (list[first].changed.tv_sec == it->changed.tv_sec && list[first].changed.tv_nsec <= it->changed.tv_nsec)))
		first++;
	return first;
}

/* ABSENT: a file that was there is not any more, so the list is out of date. */
static enum status enter_younger(struct follow_file *f, const struct finished *it)
{
	enum status status = STATUS_OK;
	struct sibling *list;
	size_t n = list_siblings(f, &list);

	for (size_t i = first_younger(list, n, it); i < n && f->fd < 0 && status != STATUS_ABSENT; i++) {
		struct errinfo err = {""};

		if (!list[i].size || same_head(&list[i], it->place.head_hash, it->place.head_len))
			continue;
		status = enter_file(f, list[i].path, 0, &list[i].id, &err);
		if (status != STATUS_OK && status != STATUS_ABSENT) {
			log_warning("%s", err.text);
			follow_note_gap(&f->follow, 0, "a file of the log could not be read");
		}
	}
	free(list);
	return status;
}

/* The file we are in is read to its end and is not the log any more: go to the next younger one that has something. */
static void enter_next(struct follow_file *f)
{
	struct finished it = {.place = place_of(f), .compressed = f->gz};
	enum status status = STATUS_ABSENT;
	struct stat st;

	if (fstat(f->fd, &st) == 0)
		it.changed = st.st_mtim;
	leave_file(f);
	for (int tries = 0; tries < 100 && status == STATUS_ABSENT; tries++)
		status = enter_younger(f, &it);
	if (status == STATUS_ABSENT)
		follow_note_gap(&f->follow, 0, "the log's files were renamed faster than they could be followed");
}

/* --- reading ------------------------------------------------------------------- */

static bool quiet_notify(struct follow_file *f)
{
	char events[4096];
	bool any = false;

	while (f->notify_fd >= 0 && read(f->notify_fd, events, sizeof(events)) > 0)
		any = true;
	return any;
}

/* Asked at its end: it should have come with a trailer. */
static bool is_damaged(gzFile gz)
{
	int code = Z_OK;

	(void)gzerror(gz, &code);
	return code != Z_OK && code != Z_STREAM_END;
}

/* More bytes into buf: OK, or ABSENT at the end of the file. *truncated: they are not there any more. */
static enum status fill(struct follow_file *f, bool *truncated, struct errinfo *err)
{
	ssize_t n;

	*truncated = false;
	if (f->start) {
		memmove(f->buf.buf, f->buf.buf + f->start, f->buf.len - f->start);
		strbuf_setlen(&f->buf, f->buf.len - f->start);
		f->scanned -= f->start;
		f->start = 0;
	}
	if (f->buf.len > FOLLOW_LINE_MAX) {
		f->dropped += f->buf.len - FOLLOW_LINE_MAX;
		strbuf_setlen(&f->buf, FOLLOW_LINE_MAX);
		f->scanned = FOLLOW_LINE_MAX;
	}
	if (!strbuf_grow(&f->buf, CHUNK))
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	n = read_at(f, f->buf.buf + f->buf.len, CHUNK, f->pos);
	if (n < 0 && !f->gz)
		return errinfo_set(err, STATUS_IO, "can't read %s: %s", f->path, strerror(errno));
	if (n <= 0 && f->gz && is_damaged(f->gz))
		follow_note_gap(&f->follow, 0, "a compressed file of the log is damaged");
	/* asked after the read: what was read before a truncation is good */
	if (was_truncated(f)) {
		*truncated = true;
		return STATUS_ABSENT;
	}
	if (n <= 0)
		return STATUS_ABSENT;
	strbuf_setlen(&f->buf, f->buf.len + (size_t)n);
	f->pos += (uint64_t)n;
	return STATUS_OK;
}

/* The log was emptied in place. A copy may have what we had not read yet; one that ends before has been read. */
static void go_on_after_truncation(struct follow_file *f)
{
	struct place here = place_of(f);
	struct sibling *list;
	size_t n = list_siblings(f, &list);
	bool known = !here.offset;

	leave_file(f);
	for (size_t i = n; i-- > 0 && f->fd < 0;)
		if (!list[i].live && same_head(&list[i], here.head_hash, here.head_len)) {
			known = true;
			(void)enter_file(f, list[i].path, here.offset, &list[i].id, NULL);
		}
	free(list);
	if (!known)
		follow_note_gap(&f->follow, 0, "the log was emptied in place, and there is no copy of it");
	if (f->fd < 0)
		(void)enter_file(f, f->path, 0, NULL, NULL);
}

/* The log by that name is another file than ours, and has lines: whoever wrote to ours has left it. */
static bool is_superseded(const struct follow_file *f)
{
	struct stat st;

	if (f->gz)
		return true;
	if (stat(f->path, &st) != 0)
		return false;
	return (st.st_dev != f->device || st.st_ino != f->inode) && st.st_size > 0;
}

static enum status next_line(struct follow *follow, struct span *line, struct errinfo *err)
{
	struct follow_file *f = (struct follow_file *)follow;
	bool superseded = false, truncated;

	if (f->fd < 0) {
		enum status status = enter_file(f, f->path, 0, NULL, err);

		if (status != STATUS_OK) {
			quiet_notify(f);
			return status;
		}
	}
	for (;;) {
		const char *at = f->buf.buf + f->scanned;
		const char *end = f->scanned < f->buf.len ? memchr(at, '\n', f->buf.len - f->scanned) : NULL;
		enum status status;
		bool had_news;

		if (end) {
			size_t len = (size_t)(end - (f->buf.buf + f->start));

			*line = span_head(span_make(f->buf.buf + f->start, len), FOLLOW_LINE_MAX);
			follow->cut = f->dropped || len > FOLLOW_LINE_MAX;
			consume(f, len + 1);
			return STATUS_OK;
		}
		f->scanned = f->buf.len;
		had_news = quiet_notify(f);
		status = fill(f, &truncated, err);
		if (status == STATUS_OK) {
			superseded = false;
			continue;
		}
		if (status != STATUS_ABSENT)
			return status;
		if (truncated) {
			go_on_after_truncation(f);
			if (f->fd < 0)
				return STATUS_ABSENT;
			continue;
		}
		if (had_news)
			continue;
		if (!superseded) {
			if (!is_superseded(f))
				return STATUS_ABSENT;
			/* its writer may have added lines up to the moment when it took the new one */
			superseded = true;
			continue;
		}
		if (f->start < f->buf.len) { /* a last line that will never have its newline */
			*line = span_head(span_make(f->buf.buf + f->start, f->buf.len - f->start), FOLLOW_LINE_MAX);
			follow->cut = true;
			consume(f, f->buf.len - f->start);
			return STATUS_OK;
		}
		superseded = false;
		enter_next(f);
		if (f->fd < 0)
			return STATUS_ABSENT;
	}
}

/* --- open and close ------------------------------------------------------------ */

static void put_place(struct follow *follow, struct strbuf *out)
{
	struct follow_file *f = (struct follow_file *)follow;
	struct place place = place_of(f);

	if (f->fd < 0)
		memset(&place, 0, sizeof(place));
	strbuf_add(out, &place, sizeof(place));
}

static int get_fd(struct follow *follow)
{
	return ((struct follow_file *)follow)->notify_fd;
}

static void close_file(struct follow *follow)
{
	struct follow_file *f = (struct follow_file *)follow;

	if (f->notify_fd >= 0)
		close(f->notify_fd);
	f->watch = -1;
	leave_file(f);
	strbuf_fini(&f->buf);
	free(f->path);
	free(f);
}

static const struct follow_ops file_ops = {'F', next_line, put_place, get_fd, close_file};

static void watch_directory(struct follow_file *f)
{
	char *directory = strndup(f->path, (size_t)(strrchr(f->path, '/') - f->path) + 1);

	if (directory && f->notify_fd >= 0)
		(void)inotify_add_watch(f->notify_fd, directory, IN_CREATE | IN_MOVED_TO);
	free(directory);
}

/* The end of what is there, but not within a line that is being written. */
static uint64_t end_of_lines(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	uint64_t end = 0;
	char tail[4096];
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
		uint64_t size = (uint64_t)st.st_size, at = size > sizeof(tail) ? size - sizeof(tail) : 0;
		ssize_t n = pread(fd, tail, (size_t)(size - at), (off_t)at);
		const char *newline = n > 0 ? memrchr(tail, '\n', (size_t)n) : NULL;

		end = newline ? at + (uint64_t)(newline - tail) + 1 : at ? size : 0;
	}
	if (fd >= 0)
		close(fd);
	return end;
}

enum status follow_file_open(const char *path, struct span saved, bool from_begin, struct follow **out, struct errinfo *err)
{
	struct follow_file *f = calloc(1, sizeof(*f));
	enum status status = STATUS_OK;
	struct place place;

	if (!f || !(f->path = strdup(path))) {
		free(f);
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	f->follow.ops = &file_ops;
	strbuf_init(&f->follow.place);
	strbuf_init(&f->buf);
	f->fd = f->watch = -1;
	f->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	watch_directory(f);
	if (saved.len == sizeof(place)) {
		memcpy(&place, saved.ptr, sizeof(place));
		/* inode 0: the file was not there when the place was taken */
		if (place.inode && (place.head_len > HEAD_MAX || !enter_place(f, &place)))
			follow_note_gap(&f->follow, 0, "the file that was read last is gone");
	} else if (saved.len) {
		follow_note_gap(&f->follow, 0, "the place in the log can't be read");
	} else if (!from_begin) {
		status = enter_file(f, path, end_of_lines(path), NULL, err);
	}
	/* a file that is not there yet is waited for; one that may not be read is somebody's mistake */
	if (f->fd < 0 && status == STATUS_OK)
		status = enter_file(f, path, 0, NULL, err);
	if (status != STATUS_OK && status != STATUS_ABSENT) {
		close_file(&f->follow);
		return status;
	}
	if (f->fd < 0)
		log_info("%s is not there yet: waiting for it", path);
	*out = &f->follow;
	return STATUS_OK;
}
