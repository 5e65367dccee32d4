/* Any bytes as a segment of a journal. The first byte says whether the rest is the segment as it is, or payloads of
 * frames (a length of two bytes each) that get a good header and checksum, so that what lies behind them is reached. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/hash.h"
#include "shared/journal/journal.h"
#include "shared/journal/journal_frame.h"
#include "tests/fuzz/fuzz.h"

#define RUN UINT64_C(0x5a5a5a5a5a5a5)

static char directory[] = "/tmp/posttrace-fuzz-journal-XXXXXX";
static char path[256];

static void clean_up(void)
{
	unlink(path);
	rmdir(directory);
}

static void build(struct strbuf *segment, const uint8_t *data, size_t size)
{
	uint8_t header[SEGMENT_HEADER] = SEGMENT_MAGIC;

	put_u32(header + 4, POSTTRACE__SOURCE__SOURCE_MILTER);
	put_u64(header + 8, RUN);
	put_u32(header + 16, 1);
	strbuf_add(segment, header, sizeof(header));
	while (size >= 2) {
		size_t len = (size_t)data[0] << 8 | data[1];
		uint8_t frame[FRAME_HEADER];

		data += 2;
		size -= 2;
		len = len < size ? len : size;
		put_u32(frame, (uint32_t)len);
		put_u32(frame + 4, hash_crc32(span_make(data, len)));
		strbuf_add(segment, frame, sizeof(frame));
		strbuf_add(segment, data, len);
		data += len;
		size -= len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_place place = {0, 0, 0};
	struct strbuf segment = STRBUF_INIT;
	struct journal_reader *reader;
	struct errinfo err = {""};
	struct arena arena;
	unsigned n = 0;
	Event *event;
	uint64_t run;
	int fd;

	if (!path[0]) {
		char name[SEGMENT_NAME_MAX];

		if (!mkdtemp(directory))
			abort();
		segment_name(name, POSTTRACE__SOURCE__SOURCE_MILTER, RUN, 1);
		snprintf(path, sizeof(path), "%s/%s", directory, name);
		atexit(clean_up);
	}
	if (!size)
		return 0;
	if (data[0] & 1)
		build(&segment, data + 1, size - 1);
	else
		strbuf_add(&segment, data + 1, size - 1);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, segment.buf, segment.len) != (ssize_t)segment.len)
		abort();
	close(fd);
	arena_init(&arena, 16 << 20);
	if (journal_reader_open(directory, POSTTRACE__SOURCE__SOURCE_MILTER, &place, &reader, &err) != STATUS_OK)
		abort();
	while (journal_read(reader, &arena, &event, &run, &err) == STATUS_OK) {
		struct journal_place now = journal_reader_place(reader);

		/* it goes on, and comes to an end: a frame has at least its header, and a gap is told once */
		if (now.offset < place.offset || ++n > segment.len / FRAME_HEADER + 2)
			abort();
		place = now;
		arena_reset(&arena);
	}
	if (journal_reader_waiting(reader) > segment.len)
		abort();
	journal_reader_close(reader);
	arena_fini(&arena);
	strbuf_fini(&segment);
	return 0;
}
