#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/journal/journal.h"
#include "shared/journal/journal_frame.h"
#include "tests/unit/unit.h"

struct room {
	char path[64];
	struct arena arena;
};

static int enter(void **state)
{
	struct room *room = calloc(1, sizeof(*room));

	strcpy(room->path, "/tmp/posttrace-journal-XXXXXX");
	if (!mkdtemp(room->path))
		return -1;
	arena_init(&room->arena, 64 << 20);
	*state = room;
	return 0;
}

static int leave(void **state)
{
	struct room *room = *state;
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", room->path);
	arena_fini(&room->arena);
	if (system(cmd) != 0)
		return -1;
	free(room);
	return 0;
}

static struct journal *start(struct room *room, uint64_t limit, uint64_t segment)
{
	struct journal_settings settings = {.directory = room->path,
	    .source = POSTTRACE__SOURCE__SOURCE_MILTER,
	    .size_limit = limit,
	    .segment_bytes = segment,
	    .sync_interval_us = 20000};
	struct journal *journal = NULL;

	assert_int_equal(journal_open(&settings, &journal, NULL), STATUS_OK);
	return journal;
}

static void append_number(struct journal *journal, unsigned n)
{
	Event event = event_make(POSTTRACE__EVENT_TYPE__TX_RCPT, POSTTRACE__SOURCE__SOURCE_MILTER, clock_now_us());

	event.connection = n;
	event.recipient = bytes_of(SPAN("someone@example.org"));
	journal_append(journal, &event);
}

static struct journal_reader *look(struct room *room, struct journal_place place)
{
	struct journal_reader *reader = NULL;

	assert_int_equal(
	    journal_reader_open(room->path, POSTTRACE__SOURCE__SOURCE_MILTER, &place, &reader, NULL), STATUS_OK);
	return reader;
}

/* Read all there is; TX_RCPT events must count up from first. Returns the next number; adds up GAP losses. */
static unsigned read_numbers(struct room *room, struct journal_reader *reader, unsigned first, uint64_t *lost)
{
	uint64_t run;
	Event *event;

	while (journal_read(reader, &room->arena, &event, &run, NULL) == STATUS_OK) {
		if (event->type == POSTTRACE__EVENT_TYPE__GAP) {
			assert_non_null(lost);
			*lost += event->lost;
		} else if (event->type == POSTTRACE__EVENT_TYPE__TX_RCPT) {
			if (!lost)
				assert_int_equal(event->connection, first);
			first++;
		}
		arena_reset(&room->arena);
	}
	return first;
}

static unsigned count_segments(struct room *room)
{
	DIR *dir = opendir(room->path);
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(dir)))
		n += strstr(entry->d_name, ".seg") != NULL;
	closedir(dir);
	return n;
}

static void events_come_back_in_order_across_segments(void **state)
{
	struct room *room = *state;
	struct journal *journal = start(room, 1 << 20, 4096);
	struct journal_reader *reader = look(room, (struct journal_place){0});
	struct journal_place place;

	for (unsigned i = 0; i < 1000; i++)
		append_number(journal, i);
	assert_int_equal(read_numbers(room, reader, 0, NULL), 1000);
	for (unsigned i = 1000; i < 1100; i++)
		append_number(journal, i);
	assert_int_equal(read_numbers(room, reader, 1000, NULL), 1100);
	place = journal_reader_place(reader);
	assert_true(count_segments(room) > 3);
	journal_reader_forget(reader, &place);
	assert_int_equal(count_segments(room), 1);
	journal_close(journal);
	journal_reader_close(reader);
}

static void a_reader_goes_on_at_its_place_in_a_later_run(void **state)
{
	struct room *room = *state;
	struct journal *journal = start(room, 1 << 20, 0);
	struct journal_reader *reader = look(room, (struct journal_place){0});
	struct journal_place place;

	append_number(journal, 0);
	append_number(journal, 1);
	assert_int_equal(read_numbers(room, reader, 0, NULL), 2);
	place = journal_reader_place(reader);
	journal_reader_close(reader);
	append_number(journal, 2);
	journal_close(journal);
	journal = start(room, 1 << 20, 0);
	append_number(journal, 3);
	reader = look(room, place);
	assert_int_equal(read_numbers(room, reader, 2, NULL), 4);
	journal_close(journal);
	journal_reader_close(reader);
}

static void a_full_journal_counts_and_tells_when_there_is_room(void **state)
{
	struct room *room = *state;
	struct journal *journal = start(room, 1 << 20, 64 << 10);
	struct journal_reader *reader = look(room, (struct journal_place){0});
	struct journal_place place;
	uint64_t lost = 0;
	unsigned seen;

	for (unsigned i = 0; i < 40000; i++)
		append_number(journal, i);
	assert_true(journal_counts(journal).lost > 0);
	assert_true(journal_counts(journal).waiting_bytes <= (1 << 20) + 4096);
	seen = read_numbers(room, reader, 0, &lost);
	place = journal_reader_place(reader);
	journal_reader_forget(reader, &place);
	/* the flusher tells the loss by itself once there is room: wait for that */
	for (int64_t until = clock_mono_us() + 10 * US_PER_SEC; !lost && clock_mono_us() < until;) {
		seen = read_numbers(room, reader, seen, &lost);
		place = journal_reader_place(reader);
		journal_reader_forget(reader, &place);
	}
	assert_true(lost > 0);
	assert_int_equal(seen + lost, 40000);
	journal_close(journal);
	journal_reader_close(reader);
}

/* How often the flusher was woken so far. */
static long flusher_wakes(void)
{
	char path[64], line[128];
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	long wakes = -1;

	assert_non_null(tasks);
	while ((entry = readdir(tasks))) {
		bool is_flusher = false;
		FILE *status;

		snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", entry->d_name);
		status = fopen(path, "re");
		while (status && fgets(line, sizeof(line), status)) {
			is_flusher = is_flusher || strcmp(line, "Name:\tjournal-flush\n") == 0;
			if (is_flusher)
				(void)sscanf(line, "voluntary_ctxt_switches: %ld", &wakes);
		}
		if (status)
			fclose(status);
	}
	closedir(tasks);
	return wakes;
}

#define MANY_INTERVALS (&(const struct timespec){0, 350000000})

/* Woken more often than that, and asleep again. */
static long wait_asleep(long than)
{
	long before = -1, now = -1;

	for (int i = 0; i < 100 && (now <= than || now != before); i++) {
		before = now;
		nanosleep(MANY_INTERVALS, NULL);
		now = flusher_wakes();
	}
	assert_true(now > than && now == before);
	return now;
}

static void an_idle_journal_wakes_nobody(void **state)
{
	struct room *room = *state;
	struct journal *journal = start(room, 1 << 20, 1 << 16);
	long asleep = wait_asleep(-1);

	for (unsigned n = 0; n < 2; n++) {
		nanosleep(MANY_INTERVALS, NULL);
		assert_int_equal(flusher_wakes(), asleep);
		append_number(journal, n);
		asleep = wait_asleep(asleep);
	}
	journal_close(journal);
}

static void what_a_killed_writer_wrote_is_read(void **state)
{
	struct room *room = *state;
	struct journal_reader *reader;
	pid_t pid = fork();
	int how;

	if (pid == 0) {
		struct journal *journal = start(room, 1 << 20, 8192);

		for (unsigned i = 0; i < 500; i++)
			append_number(journal, i);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &how, 0), pid);
	assert_true(WIFSIGNALED(how));
	reader = look(room, (struct journal_place){0});
	assert_int_equal(read_numbers(room, reader, 0, NULL), 500);
	journal_reader_close(reader);
}

/* The only segment's path. */
static void only_segment(struct room *room, char path[512])
{
	DIR *dir = opendir(room->path);
	struct dirent *entry;

	while ((entry = readdir(dir)))
		if (strstr(entry->d_name, ".seg"))
			snprintf(path, 512, "%s/%s", room->path, entry->d_name);
	closedir(dir);
}

static void a_torn_end_and_damage_are_said_and_stepped_over(void **state)
{
	struct room *room = *state;
	struct journal *journal = start(room, 1 << 20, 0);
	struct journal_reader *reader;
	uint64_t lost = 0;
	char path[512];
	struct stat st;
	int fd;

	for (unsigned i = 0; i < 10; i++)
		append_number(journal, i);
	journal_close(journal);
	only_segment(room, path);
	fd = open(path, O_WRONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pwrite(fd, "\xff\xff\xff", 3, 150), 3); /* inside one of the frames */
	assert_int_equal(ftruncate(fd, st.st_size - 5), 0);      /* tears the last: RUN_STOP */
	close(fd);
	reader = look(room, (struct journal_place){0});
	assert_in_range(read_numbers(room, reader, 0, &lost), 8, 9);
	assert_int_equal(lost, 2);
	journal_reader_close(reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(events_come_back_in_order_across_segments, enter, leave),
	    cmocka_unit_test_setup_teardown(a_reader_goes_on_at_its_place_in_a_later_run, enter, leave),
	    cmocka_unit_test_setup_teardown(a_full_journal_counts_and_tells_when_there_is_room, enter, leave),
	    cmocka_unit_test_setup_teardown(an_idle_journal_wakes_nobody, enter, leave),
	    cmocka_unit_test_setup_teardown(what_a_killed_writer_wrote_is_read, enter, leave),
	    cmocka_unit_test_setup_teardown(a_torn_end_and_damage_are_said_and_stepped_over, enter, leave),
	};
	return RUN_UNIT_TESTS(tests);
}
