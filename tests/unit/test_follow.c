/* A log that is written, rotated, copied and compressed for real; the reader is restarted after every n-th line. What
 * must come out are the numbers from 0 up, each once. */
#include "recorder/follow.h"
#include "recorder/follow_choose.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/strbuf.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

struct lab {
	char dir[64], log[128], source[160];
	unsigned written, seen;
	struct follow *follow;
	struct strbuf place;   /* kept after the last line, as the store would */
	unsigned restart_each; /* lines; 0: never */
	bool lost_thread;
};

static const char *name(struct lab *lab, const char *suffix)
{
	static char paths[2][160];
	static int turn;

	turn ^= 1;
	snprintf(paths[turn], sizeof(paths[turn]), "%s%s", lab->log, suffix);
	return paths[turn];
}

static void put(struct lab *lab, const char *suffix, const char *bytes)
{
	int fd = open(name(lab, suffix), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, strlen(bytes)), strlen(bytes));
	close(fd);
}

static void put_lines(struct lab *lab, const char *suffix, unsigned n)
{
	while (n--) {
		char line[96];

		snprintf(line, sizeof(line), "line %u of a log, with words behind its number\n", lab->written++);
		put(lab, suffix, line);
	}
}

static void keep_place(struct lab *lab)
{
	strbuf_reset(&lab->place);
	strbuf_addspan(&lab->place, follow_place(lab->follow));
}

static bool lost(struct lab *lab)
{
	struct follow_gap gap;

	return follow_lost(lab->follow, &gap);
}

static void start(struct lab *lab, bool from_begin)
{
	struct errinfo err = {""};

	if (follow_open(lab->source, "", strbuf_span(&lab->place), from_begin, &lab->follow, &err) != STATUS_OK)
		fail_msg("%s", err.text);
	lab->lost_thread = lost(lab);
}

static void stop(struct lab *lab)
{
	follow_close(lab->follow);
	lab->follow = NULL;
}

static void init(struct lab *lab, unsigned restart_each)
{
	*lab = (struct lab){.restart_each = restart_each, .dir = "/tmp/posttrace-follow-XXXXXX"};
	assert_non_null(mkdtemp(lab->dir));
	snprintf(lab->log, sizeof(lab->log), "%s/mail.log", lab->dir);
	snprintf(lab->source, sizeof(lab->source), "file:%s", lab->log);
	strbuf_init(&lab->place);
}

static void fini(struct lab *lab)
{
	char command[96];

	stop(lab);
	strbuf_fini(&lab->place);
	snprintf(command, sizeof(command), "rm -r %s", lab->dir);
	assert_int_equal(system(command), 0);
}

/* Read what there is; every line must be the next one. */
static void drain(struct lab *lab)
{
	struct errinfo err = {""};
	struct span line;
	enum status status;

	while ((status = follow_next(lab->follow, &line, &err)) == STATUS_OK) {
		char want[96];

		snprintf(want, sizeof(want), "line %u of a log, with words behind its number", lab->seen);
		if (!span_is(line, want))
			fail_msg("got \"%.*s\", want \"%s\"", (int)line.len, line.ptr, want);
		assert_false(follow_was_cut(lab->follow));
		lab->seen++;
		keep_place(lab);
		if (lab->restart_each && lab->seen % lab->restart_each == 0) {
			stop(lab);
			start(lab, false);
			assert_false(lab->lost_thread);
		}
	}
	assert_int_equal(status, STATUS_ABSENT);
	assert_false(lost(lab));
}

static void move(struct lab *lab, const char *from, const char *to)
{
	char old[160];

	snprintf(old, sizeof(old), "%s", name(lab, from));
	assert_int_equal(rename(old, name(lab, to)), 0);
}

/* As cp and gzip do; the copy has the original's time, as gzip keeps it. */
static void copy(struct lab *lab, const char *from, const char *to, bool compress)
{
	gzFile out = gzopen(name(lab, to), compress ? "wb" : "wbT");
	FILE *in = fopen(name(lab, from), "re");
	struct timespec times[2];
	char buf[4096];
	struct stat st;
	size_t n;

	assert_non_null(out);
	assert_non_null(in);
	while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
		assert_int_equal(gzwrite(out, buf, (unsigned)n), n);
	assert_int_equal(fstat(fileno(in), &st), 0);
	fclose(in);
	gzclose(out);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	assert_int_equal(utimensat(AT_FDCWD, name(lab, to), times, 0), 0);
}

static void copy_and_truncate(struct lab *lab)
{
	copy(lab, "", ".1", false);
	assert_int_equal(truncate(lab->log, 0), 0);
}

#define EACH_RESTART(lab) \
	for (unsigned each = 0; each < 8; each += each < 2 ? 1 : 3) \
		for (int once = (init(&lab, each), 1); once; once = (fini(&lab), 0))

static void a_fresh_start_is_at_the_end_and_a_restart_where_it_was(void **state)
{
	struct lab lab;

	(void)state;
	EACH_RESTART(lab)
	{
		put(&lab, "", "old line\nhalf a ");
		start(&lab, false);
		keep_place(&lab);
		assert_int_equal(follow_next(lab.follow, &(struct span){NULL, 0}, NULL), STATUS_ABSENT);
		stop(&lab); /* nothing read yet: the place holds all the same */
		/* the half line belongs to now */
		assert_int_equal(truncate(lab.log, 9), 0);
		put_lines(&lab, "", 9);
		start(&lab, false);
		drain(&lab);
		put_lines(&lab, "", 9);
		drain(&lab);
		assert_int_equal(lab.seen, 18);
	}
}

static void a_line_waits_for_its_newline(void **state)
{
	struct lab lab;

	(void)state;
	EACH_RESTART(lab)
	{
		start(&lab, true); /* the file is not there yet */
		drain(&lab);
		put(&lab, "", "line 0 of a log, with words ");
		drain(&lab);
		assert_int_equal(lab.seen, 0);
		put(&lab, "", "behind its number\nline 1 of a log,");
		drain(&lab);
		assert_int_equal(lab.seen, 1);
		put(&lab, "", " with words behind its number\n");
		drain(&lab);
		assert_int_equal(lab.seen, 2);
	}
}

static void a_renamed_log_is_read_to_its_end(void **state)
{
	struct lab lab;

	(void)state;
	EACH_RESTART(lab)
	{
		start(&lab, true);
		for (int round = 0; round < 3; round++) {
			put_lines(&lab, "", 5);
			drain(&lab);
			put_lines(&lab, "", 3);
			if (round)
				move(&lab, ".1", ".2");
			move(&lab, "", ".1");
			put_lines(&lab, ".1", 2); /* the writer has not noticed yet */
			drain(&lab);
			put_lines(&lab, ".1", 2);
			put(&lab, "", ""); /* create */
			drain(&lab);
			put_lines(&lab, ".1", 2);
			put_lines(&lab, "", 4);
			drain(&lab);
			assert_int_equal(lab.seen, lab.written);
		}
	}
}

static void rotations_while_nobody_read_are_made_up_for(void **state)
{
	static const char *const names[][3] = {{".3", ".2", ".1"},
	    {"-20261121", "-20261122", "-20261123"}, {".20261121-000000", ".20261122-000000", ".20261123-000000"}};
	struct lab lab;

	(void)state;
	for (size_t style = 0; style < 6; style++) {
		bool compress = style >= 3;

		EACH_RESTART(lab)
		{
			start(&lab, true);
			put_lines(&lab, "", 9);
			drain(&lab);
			put_lines(&lab, "", 3);
			stop(&lab);
			for (int i = 0; i < 3; i++) {
				struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};

				move(&lab, "", names[style % 3][i]);
				assert_int_equal(utimensat(AT_FDCWD, name(&lab, names[style % 3][i]), times, 0), 0);
				if (compress) {
					char gz[64];

					snprintf(gz, sizeof(gz), "%s.gz", names[style % 3][i]);
					copy(&lab, names[style % 3][i], gz, true);
					if (each % 2) /* else gzip is about to remove it */
						unlink(name(&lab, names[style % 3][i]));
				}
				put_lines(&lab, "", 6);
			}
			start(&lab, false);
			assert_false(lab.lost_thread);
			drain(&lab);
			put_lines(&lab, "", 2);
			drain(&lab);
			assert_int_equal(lab.seen, lab.written);
		}
	}
}

static void copy_and_truncate_loses_nothing(void **state)
{
	struct lab lab;

	(void)state;
	EACH_RESTART(lab)
	{
		start(&lab, true);
		for (int round = 0; round < 4; round++) {
			bool down = round & 1;

			put_lines(&lab, "", 7);
			drain(&lab);
			put_lines(&lab, "", 3); /* not read before it happens */
			if (down)
				stop(&lab);
			unlink(name(&lab, ".1"));
			copy_and_truncate(&lab);
			put_lines(&lab, "", round & 2 ? 40 : 2); /* longer than it was: its size tells nothing */
			if (down)
				start(&lab, false);
			assert_false(lab.lost_thread);
			drain(&lab);
			assert_int_equal(lab.seen, lab.written);
			put_lines(&lab, "", 4);
			drain(&lab);
			assert_int_equal(lab.seen, lab.written);
		}
	}
}

static void a_copy_that_ends_before_our_place_was_read_already(void **state)
{
	struct lab lab;

	(void)state;
	init(&lab, 0);
	start(&lab, true);
	put_lines(&lab, "", 20);
	copy(&lab, "", ".1", false);
	put_lines(&lab, "", 3); /* between the two steps of copytruncate: in no file any more, but we have them */
	drain(&lab);
	assert_int_equal(truncate(lab.log, 0), 0);
	put_lines(&lab, "", 30);
	drain(&lab); /* and no gap is claimed */
	assert_int_equal(lab.seen, lab.written);
	fini(&lab);
}

static void a_log_emptied_without_a_copy_is_said_to_be(void **state)
{
	struct lab lab;
	struct span line;

	(void)state;
	init(&lab, 0);
	start(&lab, true);
	put_lines(&lab, "", 20);
	drain(&lab);
	assert_int_equal(truncate(lab.log, 0), 0);
	put_lines(&lab, "", 1);
	assert_int_equal(follow_next(lab.follow, &line, NULL), STATUS_OK);
	assert_true(lost(&lab));
	assert_false(lost(&lab));
	fini(&lab);
}

static void a_damaged_copy_is_said_to_be(void **state)
{
	struct span line;
	struct stat st;
	struct lab lab;

	(void)state;
	init(&lab, 0);
	start(&lab, true);
	put_lines(&lab, "", 400);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(follow_next(lab.follow, &line, NULL), STATUS_OK);
		keep_place(&lab);
	}
	stop(&lab);
	copy(&lab, "", ".1.gz", true);
	unlink(lab.log);
	assert_int_equal(stat(name(&lab, ".1.gz"), &st), 0);
	assert_int_equal(truncate(name(&lab, ".1.gz"), st.st_size - 100), 0);
	put(&lab, "", "after it\n");
	start(&lab, false);
	assert_false(lab.lost_thread);
	do
		assert_int_equal(follow_next(lab.follow, &line, NULL), STATUS_OK);
	while (!span_is(line, "after it"));
	assert_true(lost(&lab));
	fini(&lab);
}

static void nul_bytes_and_a_hole_are_bytes_like_others(void **state)
{
	struct errinfo err = {""};
	struct span line;
	struct lab lab;
	int fd;

	(void)state;
	init(&lab, 0);
	fd = open(lab.log, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a\0b\n\n\xff\r\n", 8), 8);
	start(&lab, true);
	assert_int_equal(follow_next(lab.follow, &line, &err), STATUS_OK);
	assert_true(span_eq(line, SPAN("a\0b")));
	assert_int_equal(follow_next(lab.follow, &line, &err), STATUS_OK);
	assert_int_equal(line.len, 0);
	assert_int_equal(follow_next(lab.follow, &line, &err), STATUS_OK);
	assert_true(span_is(line, "\xff\r"));
	/* a writer without O_APPEND after a truncation: zeros up to where it was */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, "tail\nnext\n", 10, 300000), 10);
	assert_int_equal(follow_next(lab.follow, &line, &err), STATUS_OK);
	assert_int_equal(line.len, FOLLOW_LINE_MAX);
	assert_true(follow_was_cut(lab.follow));
	assert_int_equal(follow_next(lab.follow, &line, &err), STATUS_OK);
	assert_true(span_is(line, "next"));
	close(fd);
	fini(&lab);
}

static void the_source_is_chosen_by_evidence(void **state)
{
	static const struct {
		const char *name;
		struct follow_evidence in_;
		const char *want;
	} cases[] = {
	    {"Postfix's own file before all else", {SPAN("/x/log"), NULL, "/var/log/mail.log", true, 900, true, 900, 'J'}, "file:/x/log"},
	    {"a file alone", {SPAN(""), NULL, "/var/log/mail.log", true, 900, false, -1, 0}, "file:/var/log/mail.log"},
	    {"a file that is written, beside the journal", {SPAN(""), NULL, "/var/log/mail.log", true, 900, true, 930, 0},
		"file:/var/log/mail.log"},
	    {"a file that nobody writes any more", {SPAN(""), NULL, "/var/log/mail.log", true, 900, true, 1000, 0}, "journal"},
	    {"both are written and the journal was read before", {SPAN(""), NULL, "/var/log/mail.log", true, 900, true, 930, 'J'}, "journal"},
	    {"the journal was read before and has stopped", {SPAN(""), NULL, "/var/log/mail.log", true, 900, true, 800, 'J'},
		"file:/var/log/mail.log"},
	    {"a journal without mail", {SPAN(""), NULL, "/var/log/maillog", true, 900, true, -1, 'J'}, "file:/var/log/maillog"},
	    {"a file that we may not read", {SPAN(""), NULL, "/var/log/mail.log", false, 900, true, 900, 0}, "journal"},
	    {"a file that we may not read and no journal", {SPAN(""), NULL, "/var/log/mail.log", false, 900, false, -1, 0},
		"file:/var/log/mail.log"},
	    {"a journal alone, no mail yet", {SPAN(""), NULL, NULL, false, 0, true, -1, 0}, "journal"},
	    {"nothing at all", {SPAN(""), "no such command", NULL, false, 0, false, -1, 'F'}, "file:/var/log/mail.log"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct follow_evidence evidence = cases[i].in_;
		struct strbuf source = STRBUF_INIT, why = STRBUF_INIT;

		evidence.file_us *= US_PER_SEC;
		evidence.journal_us *= evidence.journal_us > 0 ? US_PER_SEC : 1;
		follow_weigh(&evidence, &source, &why);
		if (strcmp(source.buf, cases[i].want) != 0 || why.len < 10)
			fail_msg("%s: got %s (%s), want %s", cases[i].name, source.buf, why.buf, cases[i].want);
		strbuf_fini(&source);
		strbuf_fini(&why);
	}
}

static void a_log_that_is_gone_is_said_to_be(void **state)
{
	struct errinfo err;
	struct lab lab;

	(void)state;
	init(&lab, 0);
	start(&lab, true);
	put_lines(&lab, "", 5);
	drain(&lab);
	stop(&lab);
	put(&lab, ".new", "");
	move(&lab, ".new", "");
	put_lines(&lab, "", 3);
	start(&lab, false);
	assert_true(lab.lost_thread);
	drain(&lab);
	assert_int_equal(lab.seen, 8);
	fini(&lab);
	assert_int_equal(follow_open("file:mail.log", "", SPAN(""), false, &lab.follow, &err), STATUS_INVALID);
	assert_int_equal(follow_open("file:/tmp", "", SPAN(""), false, &lab.follow, &err), STATUS_IO);
}

static void a_place_that_is_garbage_is_no_trouble(void **state)
{
	struct lab lab;

	(void)state;
	init(&lab, 0);
	put_lines(&lab, "", 3);
	for (size_t len = 1; len < 80; len++) {
		strbuf_reset(&lab.place);
		strbuf_addch(&lab.place, 'F');
		for (size_t i = 1; i < len; i++)
			strbuf_addch(&lab.place, (char)0xff);
		lab.seen = 0;
		start(&lab, false);
		assert_int_equal(lab.lost_thread, len > 1);
		stop(&lab);
	}
	start(&lab, false);
	drain(&lab);
	assert_int_equal(lab.seen, 3);
	fini(&lab);
}

static void a_long_line_is_cut_and_said_to_be(void **state)
{
	static const size_t sizes[] = {FOLLOW_LINE_MAX - 1, FOLLOW_LINE_MAX, FOLLOW_LINE_MAX + 1, 3 * FOLLOW_LINE_MAX - 1, 1000000};
	struct lab lab;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *line = malloc(sizes[i] + 2);
		struct span got;

		assert_non_null(line);
		memset(line, 'x', sizes[i]);
		memcpy(line + sizes[i], "\n", 2);
		init(&lab, 3);
		put(&lab, "", line);
		start(&lab, true);
		assert_int_equal(follow_next(lab.follow, &got, NULL), STATUS_OK);
		assert_int_equal(got.len, sizes[i] < FOLLOW_LINE_MAX ? sizes[i] : FOLLOW_LINE_MAX);
		assert_int_equal(follow_was_cut(lab.follow), sizes[i] > FOLLOW_LINE_MAX);
		keep_place(&lab);
		put_lines(&lab, "", 7);
		drain(&lab);
		assert_int_equal(lab.seen, 7);
		fini(&lab);
		free(line);
	}
}

static void the_descriptor_tells_of_news(void **state)
{
	struct lab lab;

	(void)state;
	init(&lab, 0);
	start(&lab, true);
	for (int round = 0; round < 3; round++) {
		struct pollfd fd = {.fd = follow_fd(lab.follow), .events = POLLIN, .revents = 0};

		drain(&lab);
		assert_int_equal(poll(&fd, 1, 0), 0);
		if (round == 2)
			move(&lab, "", ".1");
		put_lines(&lab, "", 1);
		assert_int_equal(poll(&fd, 1, 5000), 1);
		drain(&lab);
		assert_int_equal(lab.seen, round + 1);
	}
	fini(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_fresh_start_is_at_the_end_and_a_restart_where_it_was),
	    cmocka_unit_test(a_line_waits_for_its_newline),
	    cmocka_unit_test(a_renamed_log_is_read_to_its_end),
	    cmocka_unit_test(rotations_while_nobody_read_are_made_up_for),
	    cmocka_unit_test(copy_and_truncate_loses_nothing),
	    cmocka_unit_test(a_copy_that_ends_before_our_place_was_read_already),
	    cmocka_unit_test(a_log_emptied_without_a_copy_is_said_to_be),
	    cmocka_unit_test(a_damaged_copy_is_said_to_be),
	    cmocka_unit_test(nul_bytes_and_a_hole_are_bytes_like_others),
	    cmocka_unit_test(the_source_is_chosen_by_evidence),
	    cmocka_unit_test(a_log_that_is_gone_is_said_to_be),
	    cmocka_unit_test(a_place_that_is_garbage_is_no_trouble),
	    cmocka_unit_test(a_long_line_is_cut_and_said_to_be),
	    cmocka_unit_test(the_descriptor_tells_of_news),
	};

	log_set_level(LOG_LEVEL_WARNING); /* each of a thousand starts says what it reads */
	return RUN_UNIT_TESTS(tests);
}
