#include "recorder/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/strbuf.h"

#define CHUNK    (64u << 10)
#define LINE_MAX_BYTES (64u << 10)

struct place {
	uint64_t device, inode, offset;
};

struct follow {
	char *path;
	int fd, notify_fd;
	struct place place;
	struct strbuf buf; /* bytes of the file from place.offset on */
	size_t start;
};

static enum status open_file(struct follow *f, struct errinfo *err)
{
	struct stat st;

	f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0)
		return errno == ENOENT ? STATUS_ABSENT : errinfo_set(err, STATUS_IO, "can't read %s: %s", f->path, strerror(errno));
	if (fstat(f->fd, &st) != 0)
		return errinfo_set(err, STATUS_IO, "can't look at %s: %s", f->path, strerror(errno));
	f->place.device = st.st_dev;
	f->place.inode = st.st_ino;
	return STATUS_OK;
}

enum status follow_open(const char *source, const char *config_directory, struct span place, bool from_begin,
    struct follow **out, struct errinfo *err)
{
	struct follow *f;
	struct stat st;
	enum status status;

	(void)config_directory;
	if (strncmp(source, "file:", 5) != 0)
		return errinfo_set(err, STATUS_INVALID, "maillog_source = %s: file:PATH is needed", source);
	f = calloc(1, sizeof(*f));
	if (!f || !(f->path = strdup(source + 5))) {
		free(f);
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	f->fd = f->notify_fd = -1;
	strbuf_init(&f->buf);
	status = open_file(f, err);
	if (status != STATUS_OK && status != STATUS_ABSENT) {
		follow_close(f);
		return status;
	}
	if (f->fd >= 0 && fstat(f->fd, &st) == 0) {
		struct place was;

		if (place.len == sizeof(was)) {
			memcpy(&was, place.ptr, sizeof(was));
			if (was.inode == f->place.inode && was.offset <= (uint64_t)st.st_size)
				f->place.offset = was.offset;
		} else if (!from_begin) {
			f->place.offset = (uint64_t)st.st_size;
		}
	}
	f->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (f->notify_fd >= 0 && f->fd >= 0)
		inotify_add_watch(f->notify_fd, f->path, IN_MODIFY | IN_MOVE_SELF | IN_ATTRIB);
	*out = f;
	return STATUS_OK;
}

enum status follow_next(struct follow *f, struct span *line, struct errinfo *err)
{
	if (f->fd < 0 && open_file(f, err) != STATUS_OK)
		return STATUS_ABSENT;
	for (;;) {
		struct span have = span_skip(strbuf_span(&f->buf), f->start);
		const char *end = have.len ? memchr(have.ptr, '\n', have.len) : NULL;
		ssize_t n;

		if (end) {
			*line = span_head(have, (size_t)(end - have.ptr));
			f->start += line->len + 1;
			f->place.offset += line->len + 1;
			return STATUS_OK;
		}
		if (f->start) {
			memmove(f->buf.buf, f->buf.buf + f->start, have.len);
			strbuf_setlen(&f->buf, have.len);
			f->start = 0;
		}
		if (!strbuf_grow(&f->buf, CHUNK))
			return errinfo_set(err, STATUS_NOMEM, "out of memory");
		n = pread(f->fd, f->buf.buf + f->buf.len, CHUNK, (off_t)(f->place.offset + f->buf.len));
		if (n <= 0)
			return STATUS_ABSENT;
		strbuf_setlen(&f->buf, f->buf.len + (size_t)n);
	}
}

struct span follow_place(struct follow *f)
{
	return span_make(&f->place, sizeof(f->place));
}

int follow_fd(struct follow *f)
{
	return f->notify_fd;
}

void follow_close(struct follow *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	if (f->notify_fd >= 0)
		close(f->notify_fd);
	strbuf_fini(&f->buf);
	free(f->path);
	free(f);
}
