/* Stamp, host and tag in the forms that syslogd, rsyslog, postlogd and the journal write. */
#include <stdlib.h>
#include <time.h>

#include "recorder/logline.h"
#include "shared/base/clock.h"

#define DAY_US (86400 * US_PER_SEC)

/* n digits at the start of s, or -1. */
static int digits(struct span s, size_t n)
{
	int value = 0;

	if (s.len < n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return -1;
		value = value * 10 + (s.ptr[i] - '0');
	}
	return value;
}

static bool time_of_day(struct span s, struct tm *tm)
{
	if (s.len < 8 || s.ptr[2] != ':' || s.ptr[5] != ':')
		return false;
	tm->tm_hour = digits(s, 2);
	tm->tm_min = digits(span_skip(s, 3), 2);
	tm->tm_sec = digits(span_skip(s, 6), 2);
	return tm->tm_hour >= 0 && tm->tm_hour < 24 && tm->tm_min >= 0 && tm->tm_min < 60 && tm->tm_sec >= 0 &&
	       tm->tm_sec <= 60;
}

/* Of two readings of a stamp: the later one, unless it is still to come. */
static bool better(int64_t a_us, int64_t b_us, int64_t now_us)
{
	bool a_past = a_us <= now_us + 60 * US_PER_SEC, b_past = b_us <= now_us + 60 * US_PER_SEC;

	return a_past != b_past ? a_past : a_past ? a_us > b_us : a_us < b_us;
}

/* The moment, at most a day ahead, when local clocks showed this: it may be in an earlier year, and the hour that the
 * end of summer time repeats has two. */
static bool local_moment(const struct tm *want, int64_t now_us, int64_t *at_us)
{
	time_t limit = (time_t)((now_us + DAY_US) / US_PER_SEC);
	struct tm last;

	if (!localtime_r(&limit, &last))
		return false;
	for (int back = 0; back <= 8; back++) { /* 29 February may be eight years back */
		bool found = false;

		for (int dst = 0; dst <= 1; dst++) {
			struct tm tm = *want;
			int64_t us;
			time_t t;

			tm.tm_year = last.tm_year - back;
			tm.tm_isdst = dst;
			t = mktime(&tm);
			us = (int64_t)t * US_PER_SEC;
			if (t == (time_t)-1 || t > limit || tm.tm_mon != want->tm_mon || tm.tm_mday != want->tm_mday ||
			    (tm.tm_hour != want->tm_hour && want->tm_sec < 60))
				continue;
			if (!found || better(us, *at_us, now_us))
				*at_us = us;
			found = true;
		}
		if (found)
			return true;
	}
	return false;
}

/* "Nov 23 22:37:22 " */
static bool take_rfc3164(struct logline_clock *clock, struct span *line, int64_t reference_us, int64_t *at_us)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct tm tm = {.tm_mon = 12};
	struct span s = *line;

	if (s.len < 16 || s.ptr[3] != ' ' || s.ptr[6] != ' ' || s.ptr[15] != ' ')
		return false;
	if (memcmp(clock->stamp, s.ptr, 15) == 0 && llabs(reference_us - clock->reference_us) < 10 * US_PER_SEC) {
		*at_us = clock->at_us;
		*line = span_skip(s, 16);
		return true;
	}
	for (int i = 0; i < 12; i++)
		if (memcmp(months + 3 * i, s.ptr, 3) == 0)
			tm.tm_mon = i;
	tm.tm_mday = s.ptr[4] == ' ' ? digits(span_skip(s, 5), 1) : digits(span_skip(s, 4), 2);
	if (tm.tm_mon == 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || !time_of_day(span_skip(s, 7), &tm))
		return false;
	if (!local_moment(&tm, reference_us, at_us))
		return false;
	memcpy(clock->stamp, s.ptr, 15);
	clock->at_us = *at_us;
	clock->reference_us = reference_us;
	*line = span_skip(s, 16);
	return true;
}

/* "2026-11-23T22:37:22.123456+01:00 "; "Z" and no fraction are as good. */
static bool take_rfc3339(struct span *line, int64_t *at_us, bool *coarse)
{
	struct tm tm = {0};
	struct span s = *line;
	int64_t fraction = 0, unit = US_PER_SEC / 10, zone = 0;
	size_t n = 0;

	if (s.len < 21 || s.ptr[4] != '-' || s.ptr[7] != '-' || (s.ptr[10] != 'T' && s.ptr[10] != 't'))
		return false;
	tm.tm_year = digits(s, 4) - 1900;
	tm.tm_mon = digits(span_skip(s, 5), 2) - 1;
	tm.tm_mday = digits(span_skip(s, 8), 2);
	if (tm.tm_year < 70 || tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    !time_of_day(span_skip(s, 11), &tm))
		return false;
	s = span_skip(s, 19);
	if (s.ptr[0] == '.' || s.ptr[0] == ',') {
		for (n = 1; n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9'; n++, unit /= 10)
			fraction += (s.ptr[n] - '0') * unit;
		s = span_skip(s, n);
	}
	*coarse = n < 2;
	if (s.len >= 6 && (s.ptr[0] == '+' || s.ptr[0] == '-')) {
		size_t colon = s.ptr[3] == ':';
		int hours = digits(span_skip(s, 1), 2), minutes = digits(span_skip(s, 3 + colon), 2);

		if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
			return false;
		zone = (hours * 60 + minutes) * 60 * (s.ptr[0] == '-' ? -1 : 1);
		s = span_skip(s, 5 + colon);
	} else if (s.len && (s.ptr[0] == 'Z' || s.ptr[0] == 'z')) {
		s = span_skip(s, 1);
	} else {
		return false;
	}
	if (!s.len || s.ptr[0] != ' ')
		return false;
	*line = span_skip(s, 1);
	*at_us = ((int64_t)timegm(&tm) - zone) * US_PER_SEC + fraction;
	return true;
}

static bool number(struct span s, uint32_t *out)
{
	uint64_t value = 0;

	if (!s.len || s.len > 10)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(s.ptr[i] - '0');
	}
	*out = (uint32_t)value;
	return value <= UINT32_MAX;
}

static bool set_service(struct logline_frame *frame, struct span service)
{
	const char *slash = service.len ? memrchr(service.ptr, '/', service.len) : NULL;

	if (!slash)
		return false;
	frame->service = service;
	frame->program = span_skip(service, (size_t)(slash - service.ptr) + 1);
	return frame->program.len > 0;
}

/* "postfix/smtpd[123]: words" */
static bool take_tag(struct span rest, struct logline_frame *frame)
{
	struct span tag, pid = {NULL, 0};
	const char *end = span_find(rest, SPAN(": ")), *open;

	if (!end)
		return false;
	tag = span_head(rest, (size_t)(end - rest.ptr));
	frame->words = span_skip(rest, tag.len + 2);
	if (tag.len && tag.ptr[tag.len - 1] == ']' && (open = memrchr(tag.ptr, '[', tag.len))) {
		pid = span_make(open + 1, tag.len - (size_t)(open - tag.ptr) - 2);
		tag = span_head(tag, (size_t)(open - tag.ptr));
		if (!number(pid, &frame->pid))
			return false;
	}
	return !memchr(tag.ptr, ' ', tag.len) && set_service(frame, tag);
}

/* RFC 5424 behind the host: "postfix/smtpd 123 - - words" */
static bool take_5424(struct span rest, struct logline_frame *frame)
{
	struct span app, pid, id;

	if (!span_cut(&rest, ' ', &app) || !span_cut(&rest, ' ', &pid) || !span_cut(&rest, ' ', &id))
		return false;
	if (!span_is(pid, "-") && !number(pid, &frame->pid))
		return false;
	if (span_starts(rest, SPAN("- "))) {
		rest = span_skip(rest, 2);
	} else {
		const char *end = rest.len && rest.ptr[0] == '[' ? span_find(rest, SPAN("] ")) : NULL;

		if (!end)
			return false;
		rest = span_skip(rest, (size_t)(end - rest.ptr) + 2);
	}
	frame->words = span_starts(rest, SPAN("\xef\xbb\xbf")) ? span_skip(rest, 3) : rest;
	return set_service(frame, app);
}

enum status logline_frame(
    struct logline_clock *clock, struct span line, int64_t reference_us, struct logline_frame *out)
{
	struct logline_frame frame = {0};
	bool new_form = false;

	while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
		line.len--;
	if (line.len && line.ptr[0] == '<') {
		const char *close = memchr(line.ptr, '>', line.len < 5 ? line.len : 5);

		if (!close)
			return STATUS_ABSENT;
		line = span_skip(line, (size_t)(close - line.ptr) + 1);
		new_form = span_starts(line, SPAN("1 "));
		if (new_form)
			line = span_skip(line, 2);
	}
	if (take_rfc3164(clock, &line, reference_us, &frame.at_us))
		frame.coarse = true;
	else if (!take_rfc3339(&line, &frame.at_us, &frame.coarse))
		return STATUS_ABSENT;
	if (!span_cut(&line, ' ', &frame.host) || !frame.host.len)
		return STATUS_ABSENT;
	if (new_form ? !take_5424(line, &frame) : !take_tag(line, &frame))
		return STATUS_ABSENT;
	*out = frame;
	return STATUS_OK;
}
