/* journal.h - an append-only way from a hook to the recorder that survives kill -9 of either.
 *
 * Model:   a hook owns one journal, named after its source: a row of segment files in journal_directory,
 *          SOURCE.RUN.NUMBER.seg, where RUN is the start of the hook's run in microseconds (16 hex digits) and
 *          NUMBER counts up (8 hex digits), so that names sort in the order of writing. An event is one write(2).
 *          The writer holds a lock (flock) on the segment it writes; a segment without a lock is finished.
 * Format:  journal_frame.h; a frame that is torn or damaged ends its segment, and the bytes behind it are reported.
 * Limits:  the segments that still wait take at most journal_size; past it events are counted, not written, and the
 *          count follows as a GAP event as soon as there is room.
 * Durable: a thread calls fdatasync every sync_interval while there is something new. kill -9 loses nothing.
 * Threads: journal_append may be called from any thread; a reader belongs to one.
 */
#ifndef POSTTRACE_JOURNAL_H
#define POSTTRACE_JOURNAL_H

#include <stdint.h>

#include "shared/model/smtp_event.h"

#define JOURNAL_EVENT_MAX (1u << 20) /* bytes of one packed event; larger ones are counted as lost */

/* --- writing: the hooks --- */

struct journal;

struct journal_settings {
	const char *directory;
	Posttrace__Source source;
	uint64_t size_limit;    /* journal_size, bytes */
	uint64_t segment_bytes; /* 0: a sensible one */
	int64_t sync_interval_us;
};

struct journal_counts {
	uint64_t written; /* events */
	uint64_t lost;    /* since the start */
	uint64_t waiting_bytes;
};

/* Start a run: a new segment with a RUN_START event. Never fails for want of room: then events are counted. */
enum status journal_open(
    const struct journal_settings *settings, struct journal **out, struct errinfo *err) MUST_CHECK;
/* Never blocks on a flush or another process. What can't be written is counted. */
void journal_append(struct journal *journal, const Event *event);
struct journal_counts journal_counts(struct journal *journal);
/* Write RUN_STOP, flush, close. NULL is fine. */
void journal_close(struct journal *journal);

/* --- reading: the recorder --- */

struct journal_place { /* where reading goes on; all zero: at the oldest segment */
	uint64_t run;
	uint32_t number;
	uint64_t offset; /* bytes into the segment */
};

struct journal_reader;

/* Read the journal of source in directory from place on. */
enum status journal_reader_open(const char *directory, Posttrace__Source source, const struct journal_place *place,
    struct journal_reader **out, struct errinfo *err) MUST_CHECK;
/* The next event in the arena, and the run that it belongs to. STATUS_ABSENT: nothing more for now.
 * A damaged or vanished stretch comes as one GAP event of source RECORDER. */
enum status journal_read(
    struct journal_reader *reader, struct arena *arena, Event **out, uint64_t *run, struct errinfo *err) MUST_CHECK;
/* The place behind the last event read. */
struct journal_place journal_reader_place(const struct journal_reader *reader);
/* Bytes that wait behind the place. */
uint64_t journal_reader_waiting(struct journal_reader *reader);
/* Delete finished segments that lie wholly before place (which the store has durably). */
void journal_reader_forget(struct journal_reader *reader, const struct journal_place *place);
void journal_reader_close(struct journal_reader *reader);

#endif
