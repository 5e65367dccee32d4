#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "query/timespec.h"
#include "shared/model/trace_id.h"
#include "tests/unit/unit.h"

/* Tue 2026-11-24 10:00:00 UTC, in Berlin 11:00 */
#define NOW_US INT64_C(1795514400000000)
#define HOUR_US INT64_C(3600000000)

static void times_are_read_as_people_mean_them(void **state)
{
	static const struct {
		const char *in_text;
		int64_t want_us;
	} cases[] = {
	    {"now", NOW_US},
	    {"90m", NOW_US - 90 * 60 * INT64_C(1000000)},
	    {"2h ago", NOW_US - 2 * HOUR_US},
	    {"-2h", NOW_US - 2 * HOUR_US},
	    {"- 2h", NOW_US - 2 * HOUR_US},
	    {"+1h30min", NOW_US + HOUR_US * 3 / 2},
	    {"3h 30min ago", NOW_US - HOUR_US * 7 / 2},
	    {"1.5h", NOW_US - HOUR_US * 3 / 2},
	    {"5s left", NOW_US + 5000000},
	    {"1M", NOW_US - INT64_C(2629800000000)},
	    {"@1795514400", NOW_US},
	    {"@1795514400.25", NOW_US + 250000},
	    {"today", NOW_US - 11 * HOUR_US},
	    {"yesterday", NOW_US - 35 * HOUR_US},
	    {"tomorrow", NOW_US + 13 * HOUR_US},
	    {"yesterday 14:00", NOW_US - 21 * HOUR_US},
	    {"10:30", NOW_US - HOUR_US / 2},
	    {"2026-11-24", NOW_US - 11 * HOUR_US},
	    {"26-11-24 11:00", NOW_US},
	    {"2026-11-24 11:00", NOW_US},
	    {"2026-11-24 11:00:00.5", NOW_US + 500000},
	    {"Tue 2026-11-24 11:00:00", NOW_US},
	    {"Tuesday, 2026-11-24 11:00:00", NOW_US},
	    {"2026-11-24 10:00 UTC", NOW_US},
	    {"2026-11-24 19:00 Asia/Tokyo", NOW_US},
	    {"2026-11-24T10:00:00Z", NOW_US},
	    {"2026-11-24T12:30:00+02:30", NOW_US},
	    {"2026-11-24T02:00:00.000001-0800", NOW_US + 1},
	    {"2028-02-29 00:00 UTC", INT64_C(1835395200000000)},
	    {"2026-07-01 12:00", INT64_C(1782900000000000)},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct errinfo err = {""};
		int64_t us = 0;

		if (timespec_parse(cases[i].in_text, NOW_US, &us, &err) != STATUS_OK)
			fail_msg("%s: %s", cases[i].in_text, err.text);
		if (us != cases[i].want_us)
			fail_msg("%s: off by %lld s", cases[i].in_text, (long long)(us - cases[i].want_us) / 1000000);
	}
}

static void what_is_no_time_is_refused_and_quoted(void **state)
{
	static const struct {
		const char *in_text, *want_in_error;
	} cases[] = {
	    {"", "empty"},
	    {"90", "90"},
	    {"2 fortnights", "2 fortnights"},
	    {"2h hence", "hence"},
	    {"2026-02-29", "2026-02-29"},
	    {"2026-13-01", "2026-13-01"},
	    {"2026-11-24 25:00", "25:00"},
	    {"2026-11-24T", "T"},
	    {"Mon 2026-11-24", "weekday"},
	    {"2026-11-24 11:00 Mars/Olympus", "Mars/Olympus"},
	    {"2026-11-24 11:00 ../../etc/passwd", "passwd"},
	    {"@", "1970"},
	    {"@99999999999999999999", "1970"},
	    {"-", "sign"},
	    {"--5s", "-5s"},
	    {"yesterday-ish", "yesterday-ish"},
	    {"99999999999999999999999h", "99999"},
	    {"0x10s", "x10s"},
	    {"infs", "infs"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct errinfo err = {""};
		int64_t us = 77;

		if (timespec_parse(cases[i].in_text, NOW_US, &us, &err) == STATUS_OK)
			fail_msg("%s was taken for %lld", cases[i].in_text, (long long)us);
		assert_int_equal(us, 77);
		if (!strstr(err.text, cases[i].want_in_error))
			fail_msg("%s: \"%s\" does not name it", cases[i].in_text, err.text);
	}
}

static void durations_need_no_unit_for_seconds(void **state)
{
	static const struct {
		const char *in_text;
		int64_t want_us;
	} cases[] = {{"5", 5000000}, {"500ms", 500000}, {"1min 30s", 90000000}, {"2.5", 2500000}, {"10us", 10}};
	int64_t us;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(timespec_duration(cases[i].in_text, &us, NULL), STATUS_OK);
		assert_int_equal(us, cases[i].want_us);
	}
	assert_int_not_equal(timespec_duration("fast", &us, NULL), STATUS_OK);
	assert_int_not_equal(timespec_duration("5s ago", &us, NULL), STATUS_OK);
	assert_int_not_equal(timespec_duration("", &us, NULL), STATUS_OK);
}

static void trace_ids_come_back(void **state)
{
	static const uint64_t ids[] = {0, 1, 1795514400000000u, UINT64_C(1) << 55, UINT64_MAX};
	uint64_t back;

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		char text[TRACE_ID_CHARS];

		trace_id_format(text, ids[i]);
		assert_in_range(strlen(text), 11, 13);
		assert_true(trace_id_parse(span_of(text), &back));
		assert_true(back == ids[i]);
	}
	assert_true(trace_id_parse(SPAN("0000000000O"), &back) && back == 0);
	assert_true(trace_id_parse(SPAN("0000000000L"), &back) && back == 1);
	assert_true(trace_id_parse(SPAN("0000000000z"), &back) && back == 31);
	assert_false(trace_id_parse(SPAN("0000000000u"), &back));
	assert_false(trace_id_parse(SPAN("0000000000\0"), &back));
	assert_false(trace_id_parse(SPAN("zzzzzzzzzzzzz"), &back)); /* more than 64 bits */
	assert_false(trace_id_parse(SPAN("0000000000"), &back));
	assert_false(trace_id_parse(SPAN("00000000000000"), &back));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(times_are_read_as_people_mean_them),
	    cmocka_unit_test(what_is_no_time_is_refused_and_quoted),
	    cmocka_unit_test(durations_need_no_unit_for_seconds),
	    cmocka_unit_test(trace_ids_come_back),
	};

	setenv("TZ", "Europe/Berlin", 1);
	tzset();
	return RUN_UNIT_TESTS(tests);
}
