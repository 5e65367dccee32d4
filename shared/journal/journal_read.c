#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/hash.h"
#include "shared/journal/journal.h"
#include "shared/journal/journal_frame.h"

#define CHUNK (256u << 10)

struct journal_reader {
	char *directory;
	Posttrace__Source source;
	struct journal_place place;
	int fd;        /* the segment of place; -1: not open */
	bool finished; /* no more can be appended to it: no writer holds its lock */
	uint8_t *buf;  /* bytes of the segment from place.offset on */
	size_t cap, start, len;
};

static bool place_before(uint64_t run, uint32_t number, const struct journal_place *place)
{
	return run < place->run || (run == place->run && number < place->number);
}

/* The first segment behind (or, when at is set, not before) the place. */
static bool find_segment(const struct journal_reader *reader, bool at, struct journal_place *out)
{
	DIR *dir = opendir(reader->directory);
	struct journal_place best = {0};
	struct dirent *entry;
	bool found = false;
	uint32_t number;
	uint64_t run;

	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		if (!segment_parse(entry->d_name, reader->source, &run, &number) || place_before(run, number, &reader->place))
			continue;
		if (!at && run == reader->place.run && number == reader->place.number)
			continue;
		if (!found || place_before(run, number, &best)) {
			best = (struct journal_place){run, number, 0};
			found = true;
		}
	}
	closedir(dir);
	if (found)
		*out = best;
	return found;
}

static int open_segment(const struct journal_reader *reader, uint64_t run, uint32_t number)
{
	char name[SEGMENT_NAME_MAX], path[4096];

	segment_name(name, reader->source, run, number);
	snprintf(path, sizeof(path), "%s/%s", reader->directory, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* A segment is finished when its writer has let go of the lock. */
static bool look_finished(int fd)
{
	if (flock(fd, LOCK_SH | LOCK_NB) != 0)
		return false;
	flock(fd, LOCK_UN);
	return true;
}

static void leave_segment(struct journal_reader *reader)
{
	if (reader->fd >= 0)
		close(reader->fd);
	reader->fd = -1;
	reader->start = reader->len = 0;
	reader->finished = false;
}

enum status journal_reader_open(const char *directory, Posttrace__Source source, const struct journal_place *place,
    struct journal_reader **out, struct errinfo *err)
{
	struct journal_reader *reader = calloc(1, sizeof(*reader));

	if (reader) {
		reader->directory = strdup(directory);
		reader->cap = CHUNK + JOURNAL_EVENT_MAX + FRAME_HEADER;
		reader->buf = malloc(reader->cap);
		reader->fd = -1;
	}
	if (!reader || !reader->directory || !reader->buf) {
		journal_reader_close(reader);
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	reader->source = source;
	reader->place = *place;
	*out = reader;
	return STATUS_OK;
}

void journal_reader_close(struct journal_reader *reader)
{
	if (!reader)
		return;
	leave_segment(reader);
	free(reader->directory);
	free(reader->buf);
	free(reader);
}

/* More bytes behind those in buf; 0 at the present end. */
static ssize_t fill(struct journal_reader *reader)
{
	ssize_t n;

	if (reader->start) {
		memmove(reader->buf, reader->buf + reader->start, reader->len);
		reader->start = 0;
	}
	if (reader->len == reader->cap)
		return 0;
	do
		n = pread(reader->fd, reader->buf + reader->len, reader->cap - reader->len,
		    (off_t)(reader->place.offset + reader->len));
	while (n < 0 && errno == EINTR);
	if (n > 0)
		reader->len += (size_t)n;
	return n;
}

static void advance(struct journal_reader *reader, size_t n)
{
	reader->start += n;
	reader->len -= n;
	reader->place.offset += n;
}

/* Is there a whole, undamaged frame at p? 1 yes, 0 not all of it is there, -1 damaged. */
static int look_frame(const uint8_t *p, size_t len, struct span *payload)
{
	uint32_t size;

	if (len < FRAME_HEADER)
		return 0;
	size = get_u32(p);
	if (size == 0 || size > JOURNAL_EVENT_MAX)
		return -1;
	if (len < FRAME_HEADER + (size_t)size)
		return 0;
	*payload = span_make(p + FRAME_HEADER, size);
	return hash_crc32(*payload) == get_u32(p + 4) ? 1 : -1;
}

static Event *make_gap(struct journal_reader *reader, struct arena *arena, const char *why)
{
	Event *gap = arena_alloc(arena, sizeof(*gap));

	if (!gap)
		return NULL;
	*gap = event_make(POSTTRACE__EVENT_TYPE__GAP, POSTTRACE__SOURCE__SOURCE_RECORDER, clock_now_us());
	gap->until_us = gap->at_us;
	gap->lost = 1; /* at least */
	gap->connection = (uint64_t)reader->source;
	gap->text = bytes_of(arena_span(arena, span_of(why)));
	return gap;
}

/* Step over damage to the next frame that checks out, or to the end of what is there. */
static Event *skip_damage(struct journal_reader *reader, struct arena *arena)
{
	struct span payload;
	size_t skip = 1;
	char why[96];

	while (skip < reader->len && look_frame(reader->buf + reader->start + skip, reader->len - skip, &payload) != 1)
		skip++;
	snprintf(why, sizeof(why), "%s journal damaged: %zu bytes skipped", source_name(reader->source), skip);
	advance(reader, skip);
	return make_gap(reader, arena, why);
}

/* Open the segment of the place, or the next one when that is gone. */
static enum status enter_segment(struct journal_reader *reader, struct arena *arena, Event **out)
{
	struct journal_place next, was = reader->place;

	if (!find_segment(reader, true, &next))
		return STATUS_ABSENT;
	reader->fd = open_segment(reader, next.run, next.number);
	if (reader->fd < 0)
		return STATUS_ABSENT; /* deleted or not readable just now; the next call looks again */
	if (next.run != was.run || next.number != was.number)
		reader->place = next;
	if (reader->place.offset < SEGMENT_HEADER)
		reader->place.offset = SEGMENT_HEADER;
	if (was.run && was.offset && (next.run != was.run || next.number != was.number)) {
		*out = make_gap(reader, arena, "a journal segment is gone that was not taken in to its end");
		return *out ? STATUS_OK : STATUS_NOMEM;
	}
	*out = NULL;
	return STATUS_OK;
}

enum status journal_read(
    struct journal_reader *reader, struct arena *arena, Event **out, uint64_t *run, struct errinfo *err)
{
	struct journal_place next;
	struct span payload;
	enum status status;
	Event *event;

	for (;;) {
		if (reader->fd < 0) {
			event = NULL;
			status = enter_segment(reader, arena, &event);
			if (status != STATUS_OK)
				return status;
			if (event)
				break;
		}
		switch (look_frame(reader->buf + reader->start, reader->len, &payload)) {
		case 1:
			event = event_decode(payload, arena);
			if (!event)
				event = make_gap(reader, arena, "an event in the journal can't be decoded");
			if (!event)
				return errinfo_set(err, STATUS_NOMEM, "out of memory for an event of %zu bytes", payload.len);
			advance(reader, FRAME_HEADER + payload.len);
			goto found;
		case -1:
			event = skip_damage(reader, arena);
			if (!event)
				return errinfo_set(err, STATUS_NOMEM, "out of memory");
			goto found;
		default:
			break;
		}
		if (fill(reader) > 0) {
			reader->finished = false;
			continue;
		}
		/* The end for now. Only a second look after the writer has let go can say that it is the end for good. */
		if (!reader->finished) {
			reader->finished = look_finished(reader->fd);
			if (reader->finished)
				continue;
			return STATUS_ABSENT;
		}
		if (reader->len) { /* torn by a crash or a full disk */
			advance(reader, reader->len);
			event = make_gap(reader, arena, "the last event of a journal segment was torn");
			if (!event)
				return errinfo_set(err, STATUS_NOMEM, "out of memory");
			break;
		}
		if (!find_segment(reader, false, &next))
			return STATUS_ABSENT;
		leave_segment(reader);
		reader->place = next;
	}
found:
	*out = event;
	*run = reader->place.run;
	return STATUS_OK;
}

struct journal_place journal_reader_place(const struct journal_reader *reader)
{
	return reader->place;
}

static uint64_t each_segment(struct journal_reader *reader, const struct journal_place *place, bool delete_before)
{
	DIR *dir = opendir(reader->directory);
	struct dirent *entry;
	uint64_t run, sum = 0;
	uint32_t number;
	struct stat st;

	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (!segment_parse(entry->d_name, reader->source, &run, &number))
			continue;
		if (place_before(run, number, place)) {
			if (delete_before)
				unlinkat(dirfd(dir), entry->d_name, 0);
			continue;
		}
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) != 0)
			continue;
		sum += (uint64_t)st.st_size;
		if (run == place->run && number == place->number)
			sum -= place->offset < (uint64_t)st.st_size ? place->offset : (uint64_t)st.st_size;
	}
	closedir(dir);
	return sum;
}

uint64_t journal_reader_waiting(struct journal_reader *reader)
{
	return each_segment(reader, &reader->place, false);
}

void journal_reader_forget(struct journal_reader *reader, const struct journal_place *place)
{
	each_segment(reader, place, true);
}
