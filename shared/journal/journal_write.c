#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/hash.h"
#include "shared/base/log.h"
#include "shared/journal/journal.h"
#include "shared/journal/journal_frame.h"

#define SEGMENT_BYTES_DEFAULT (8u << 20)
#define RETRY_US              (US_PER_SEC / 4) /* how often a full or broken journal is looked at again */

struct journal {
	pthread_mutex_t lock; /* the only lock that a callback takes; held for one write(2) */
	pthread_cond_t wake;  /* wakes the flusher */
	pthread_t flusher;
	bool stopping, dirty;
	bool asleep; /* the flusher, until something is written */

	char *directory;
	Posttrace__Source source;
	uint64_t size_limit, segment_bytes;
	int64_t sync_interval_us;

	uint64_t run;
	uint32_t number;
	int fd; /* -1: no segment could be made */
	uint64_t offset;
	uint64_t finished_bytes; /* of older segments that still wait, as last seen */
	int64_t looked_us;

	struct strbuf frame;
	uint64_t written, lost_total;
	uint64_t lost; /* not yet told by a GAP event */
	int64_t lost_from_us, lost_until_us;
	const char *lost_why;
};

static struct log_limit write_limit;

static uint64_t waiting_bytes(const struct journal *journal)
{
	DIR *dir = opendir(journal->directory);
	struct dirent *entry;
	uint64_t sum = 0, run;
	uint32_t number;
	struct stat st;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		if (segment_parse(entry->d_name, journal->source, &run, &number) &&
		    !(run == journal->run && number == journal->number && journal->fd >= 0) &&
		    fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			sum += (uint64_t)st.st_size;
	closedir(dir);
	return sum;
}

/* Begin the next segment. The old one's lock is released, which finishes it; closing alone would not do while the flusher
 * has its duplicate. */
static bool next_segment(struct journal *journal)
{
	uint8_t header[SEGMENT_HEADER] = SEGMENT_MAGIC;
	char name[SEGMENT_NAME_MAX], path[4096];
	int fd;

	if (journal->fd >= 0) {
		fdatasync(journal->fd);
		flock(journal->fd, LOCK_UN);
		close(journal->fd);
		journal->fd = -1;
		journal->number++;
	}
	segment_name(name, journal->source, journal->run, journal->number);
	snprintf(path, sizeof(path), "%s/%s", journal->directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0)
		goto fail;
	put_u32(header + 4, (uint32_t)journal->source);
	put_u64(header + 8, journal->run);
	put_u32(header + 16, journal->number);
	put_u64(header + 24, (uint64_t)clock_now_us());
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || write(fd, header, sizeof(header)) != SEGMENT_HEADER) {
		int saved = errno;

		unlink(path);
		close(fd);
		errno = saved;
		goto fail;
	}
	journal->fd = fd;
	journal->offset = SEGMENT_HEADER;
	journal->finished_bytes = waiting_bytes(journal);
	return true;
fail:
	log_limited(&write_limit, LOG_LEVEL_WARNING,
	    "can't make the journal segment %s: %s; events are counted as lost until this is mended", path, strerror(errno));
	return false;
}

/* Once after an idle time; while it works or waits for more, this is nothing. */
static void wake_flusher(struct journal *journal)
{
	if (journal->asleep)
		pthread_cond_signal(&journal->wake);
	journal->asleep = false;
}

static void count_loss(struct journal *journal, int64_t at_us, const char *why)
{
	if (!journal->lost)
		journal->lost_from_us = at_us;
	journal->lost_until_us = at_us;
	journal->lost_why = why;
	journal->lost++;
	journal->lost_total++;
	wake_flusher(journal);
}

/* A frame that was written in part would hide all that follow it: take it back. */
static void take_back(struct journal *journal)
{
	if (ftruncate(journal->fd, (off_t)journal->offset) != 0)
		next_segment(journal);
}

static bool write_event(struct journal *journal, const Event *event)
{
	uint8_t head[FRAME_HEADER] = {0};
	struct span payload;
	ssize_t n;

	strbuf_reset(&journal->frame);
	strbuf_add(&journal->frame, head, sizeof(head));
	event_encode(event, &journal->frame);
	if (journal->frame.failed || journal->frame.len > JOURNAL_EVENT_MAX)
		return errno = journal->frame.failed ? ENOMEM : EMSGSIZE, false;
	payload = span_skip(strbuf_span(&journal->frame), FRAME_HEADER);
	put_u32((uint8_t *)journal->frame.buf, (uint32_t)payload.len);
	put_u32((uint8_t *)journal->frame.buf + 4, hash_crc32(payload));
	n = write(journal->fd, journal->frame.buf, journal->frame.len);
	if (n != (ssize_t)journal->frame.len) {
		int saved = n < 0 ? errno : ENOSPC;

		if (n > 0)
			take_back(journal);
		errno = saved;
		return false;
	}
	journal->offset += (uint64_t)n;
	journal->written++;
	journal->dirty = true;
	wake_flusher(journal);
	return true;
}

/* Is there room for more? Looks at the directory again only now and then while there is none. */
static bool have_room(struct journal *journal)
{
	int64_t now;

	if (journal->fd >= 0 && journal->offset >= journal->segment_bytes &&
	    journal->finished_bytes + journal->offset < journal->size_limit)
		next_segment(journal);
	if (journal->fd >= 0 && journal->finished_bytes + journal->offset < journal->size_limit)
		return true;
	now = clock_mono_us();
	if (journal->looked_us && now - journal->looked_us < RETRY_US)
		return false;
	journal->looked_us = now;
	if (journal->fd < 0)
		return next_segment(journal) && journal->finished_bytes + journal->offset < journal->size_limit;
	journal->finished_bytes = waiting_bytes(journal);
	if (journal->finished_bytes + journal->offset >= journal->size_limit && journal->offset >= journal->segment_bytes)
		next_segment(journal); /* so that the reader can finish and delete the full one */
	return journal->finished_bytes + journal->offset < journal->size_limit;
}

static void tell_loss(struct journal *journal)
{
	Event gap = event_make(POSTTRACE__EVENT_TYPE__GAP, journal->source, journal->lost_from_us);

	if (!journal->lost || !have_room(journal))
		return;
	gap.until_us = (uint64_t)journal->lost_until_us;
	gap.lost = journal->lost;
	gap.text = bytes_of(span_of(journal->lost_why));
	if (write_event(journal, &gap))
		journal->lost = 0;
}

static void append_locked(struct journal *journal, const Event *event)
{
	if (journal->lost)
		tell_loss(journal);
	if (!have_room(journal)) {
		count_loss(journal, (int64_t)event->at_us, journal->fd < 0 ? "journal can't be written" : "journal full");
		return;
	}
	if (write_event(journal, event))
		return;
	count_loss(journal, (int64_t)event->at_us,
	    errno == ENOSPC || errno == EDQUOT ? "disk full"
	    : errno == EMSGSIZE                ? "event too large"
					       : "journal can't be written");
	log_limited(&write_limit, LOG_LEVEL_WARNING, "can't write to the journal in %s: %s; events are counted as lost",
	    journal->directory, strerror(errno));
}

void journal_append(struct journal *journal, const Event *event)
{
	pthread_mutex_lock(&journal->lock);
	append_locked(journal, event);
	pthread_mutex_unlock(&journal->lock);
}

/* Sleep until something is written or lost, then for as long as that may wait. An idle journal wakes nobody. */
static void wait_for_work(struct journal *journal)
{
	struct timespec until;

	journal->asleep = !journal->dirty && !journal->lost;
	while (journal->asleep && !journal->stopping)
		pthread_cond_wait(&journal->wake, &journal->lock);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (journal->sync_interval_us % US_PER_SEC) * 1000;
	until.tv_sec += journal->sync_interval_us / US_PER_SEC + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (!journal->stopping && pthread_cond_timedwait(&journal->wake, &journal->lock, &until) == 0)
		;
}

/* Flushes beside the mail path: the file is flushed by a second descriptor without the lock. */
static void *flush_loop(void *arg)
{
	struct journal *journal = arg;

	pthread_setname_np(pthread_self(), "journal-flush");
	pthread_mutex_lock(&journal->lock);
	while (!journal->stopping) {
		int fd;

		wait_for_work(journal);
		fd = journal->dirty ? dup(journal->fd) : -1;
		journal->dirty = false;
		if (journal->lost)
			tell_loss(journal);
		pthread_mutex_unlock(&journal->lock);
		if (fd >= 0) {
			if (fdatasync(fd) != 0)
				log_limited(&write_limit, LOG_LEVEL_WARNING, "can't flush the journal in %s: %s",
				    journal->directory, strerror(errno));
			close(fd);
		}
		pthread_mutex_lock(&journal->lock);
	}
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

static void free_journal(struct journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	strbuf_fini(&journal->frame);
	pthread_cond_destroy(&journal->wake);
	pthread_mutex_destroy(&journal->lock);
	free(journal->directory);
	free(journal);
}

enum status journal_open(const struct journal_settings *settings, struct journal **out, struct errinfo *err)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	pthread_condattr_t attr;
	Event start;

	if (!journal)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	pthread_mutex_init(&journal->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&journal->wake, &attr);
	pthread_condattr_destroy(&attr);
	journal->fd = -1;
	strbuf_init(&journal->frame);
	journal->directory = strdup(settings->directory);
	journal->source = settings->source;
	journal->size_limit = settings->size_limit;
	journal->segment_bytes = settings->segment_bytes ? settings->segment_bytes : SEGMENT_BYTES_DEFAULT;
	if (journal->segment_bytes > journal->size_limit / 4)
		journal->segment_bytes = journal->size_limit / 4;
	journal->sync_interval_us = settings->sync_interval_us > 0 ? settings->sync_interval_us : US_PER_SEC / 10;
	journal->run = (uint64_t)clock_now_us();
	if (!journal->directory) {
		free_journal(journal);
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	start = event_make(POSTTRACE__EVENT_TYPE__RUN_START, journal->source, (int64_t)journal->run);
	start.pid = (uint32_t)getpid();
	append_locked(journal, &start);
	if (pthread_create(&journal->flusher, NULL, flush_loop, journal) != 0) {
		free_journal(journal);
		return errinfo_set(err, STATUS_NOMEM, "can't start the journal's thread: %s", strerror(errno));
	}
	*out = journal;
	return STATUS_OK;
}

struct journal_counts journal_counts(struct journal *journal)
{
	struct journal_counts counts;

	pthread_mutex_lock(&journal->lock);
	counts = (struct journal_counts){.written = journal->written,
	    .lost = journal->lost_total,
	    .waiting_bytes = journal->finished_bytes + (journal->fd >= 0 ? journal->offset : 0)};
	pthread_mutex_unlock(&journal->lock);
	return counts;
}

void journal_close(struct journal *journal)
{
	Event stop;

	if (!journal)
		return;
	pthread_mutex_lock(&journal->lock);
	journal->stopping = true;
	pthread_cond_signal(&journal->wake);
	pthread_mutex_unlock(&journal->lock);
	pthread_join(journal->flusher, NULL);
	stop = event_make(POSTTRACE__EVENT_TYPE__RUN_STOP, journal->source, clock_now_us());
	append_locked(journal, &stop);
	if (journal->fd >= 0)
		fdatasync(journal->fd);
	free_journal(journal);
}
