#include "query/timespec.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/strbuf.h"
#include "shared/base/text.h"

/* The units of systemd.time(7); "M" is a month and "m" a minute, so case counts. */
static const struct {
	const char *name;
	double us;
} units[] = {{"seconds", 1e6}, {"second", 1e6}, {"sec", 1e6}, {"s", 1e6}, {"minutes", 60e6}, {"minute", 60e6},
    {"min", 60e6}, {"months", 2629800e6}, {"month", 2629800e6}, {"M", 2629800e6}, {"msec", 1e3}, {"ms", 1e3},
    {"m", 60e6}, {"hours", 3600e6}, {"hour", 3600e6}, {"hr", 3600e6}, {"h", 3600e6}, {"days", 86400e6},
    {"day", 86400e6}, {"d", 86400e6}, {"weeks", 604800e6}, {"week", 604800e6}, {"w", 604800e6},
    {"years", 31557600e6}, {"year", 31557600e6}, {"y", 31557600e6}, {"usec", 1}, {"us", 1}, {"\xc2\xb5s", 1},
    {"\xce\xbcs", 1}};

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* Digits, perhaps with a fraction; NULL when there is none. strtod would take "inf", "0x10" and "1e5" too. */
static const char *read_number(const char *p, double *value)
{
	const char *from = p;
	double scale = 1;

	*value = 0;
	for (; isdigit((unsigned char)*p); p++)
		*value = *value * 10 + (*p - '0');
	if (*p == '.' && isdigit((unsigned char)p[1])) {
		for (p++; isdigit((unsigned char)*p); p++)
			*value += (*p - '0') * (scale /= 10);
	}
	return p == from ? NULL : p;
}

/* Read "3h 30min" up to the first thing that is no duration. Returns where that is; p when there is none. */
static const char *read_span(const char *p, bool bare_seconds, double *us)
{
	*us = 0;
	for (;;) {
		const char *at = skip_space(p), *unit;
		double value;
		size_t len = 0, u;

		at = read_number(at, &value);
		if (!at)
			return p;
		unit = skip_space(at);
		while (isalpha((unsigned char)unit[len]) || (unsigned char)unit[len] >= 0x80)
			len++;
		for (u = 0; u < sizeof(units) / sizeof(units[0]); u++)
			if (strlen(units[u].name) == len && !memcmp(units[u].name, unit, len))
				break;
		if (u < sizeof(units) / sizeof(units[0])) {
			*us += value * units[u].us;
			p = unit + len;
		} else if (len == 0 && bare_seconds) {
			*us += value * 1e6;
			p = at;
		} else {
			return p;
		}
	}
}

enum status timespec_duration(const char *text, int64_t *out_us, struct errinfo *err)
{
	double us;
	const char *end = read_span(text, true, &us);

	if (end == text || *skip_space(end))
		return errinfo_set(err, STATUS_INVALID,
		    "\"%s\" is no duration: \"%s\" was not understood (500ms, 2s, 3min, 1h 30min)", text,
		    skip_space(end));
	if (us > 9e18)
		return errinfo_set(err, STATUS_INVALID, "\"%s\" is too long a duration", text);
	*out_us = (int64_t)us;
	return STATUS_OK;
}

static const char *read_digits(const char *p, unsigned least, unsigned most, int *value)
{
	unsigned n = 0;

	for (*value = 0; n < most && isdigit((unsigned char)*p); n++, p++)
		*value = *value * 10 + (*p - '0');
	return n >= least ? p : NULL;
}

/* HH:MM[:SS[.frac]] */
static const char *read_clock(const char *p, struct tm *tm, int64_t *frac_us)
{
	int hour, min, sec = 0;
	double frac = 0;

	p = read_digits(p, 1, 2, &hour);
	if (!p || *p != ':')
		return NULL;
	p = read_digits(p + 1, 2, 2, &min);
	if (!p)
		return NULL;
	if (*p == ':') {
		p = read_digits(p + 1, 2, 2, &sec);
		if (!p)
			return NULL;
		if (*p == '.') {
			double scale = 1;

			for (p++; isdigit((unsigned char)*p); p++)
				frac += (*p - '0') * (scale /= 10);
		}
	}
	if (hour > 23 || min > 59 || sec > 60)
		return NULL;
	tm->tm_hour = hour;
	tm->tm_min = min;
	tm->tm_sec = sec;
	*frac_us = (int64_t)(frac * 1e6 + 0.5);
	return p;
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* [YY]YY-MM-DD; NULL also for a day that the month does not have. */
static const char *read_date(const char *p, struct tm *tm)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year, mon, day;
	const char *at = read_digits(p, 2, 4, &year);

	if (!at || *at != '-' || at - p == 3)
		return NULL;
	if (at - p == 2)
		year += year < 69 ? 2000 : 1900;
	p = read_digits(at + 1, 1, 2, &mon);
	if (!p || *p != '-')
		return NULL;
	p = read_digits(p + 1, 1, 2, &day);
	if (!p || mon < 1 || mon > 12 || day < 1 || day > days[mon - 1] + (mon == 2 && is_leap(year)))
		return NULL;
	tm->tm_year = year - 1900;
	tm->tm_mon = mon - 1;
	tm->tm_mday = day;
	return p;
}

/* A weekday with what may follow it; -1 when there is none. */
static int read_weekday(const char **p)
{
	static const char *const names[] = {
	    "sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"};
	size_t len = 0;

	while (isalpha((unsigned char)(*p)[len]))
		len++;
	for (int i = 0; i < 7; i++) {
		if ((len == 3 || len == strlen(names[i])) && !strncasecmp(*p, names[i], len)) {
			*p = skip_space(*p + len);
			if (**p == ',')
				*p = skip_space(*p + 1);
			return i;
		}
	}
	return -1;
}

static time_t make_time(struct tm *tm, const char *zone)
{
	char *saved = NULL;
	time_t t;

	if (zone && !strcasecmp(zone, "UTC"))
		return timegm(tm);
	tm->tm_isdst = -1;
	if (!zone)
		return mktime(tm);
	if (getenv("TZ"))
		saved = strdup(getenv("TZ"));
	setenv("TZ", zone, 1);
	tzset();
	t = mktime(tm);
	if (saved)
		setenv("TZ", saved, 1);
	else
		unsetenv("TZ");
	tzset();
	free(saved);
	return t;
}

static bool zone_is_known(const char *zone)
{
	char path[128];

	if (!strcasecmp(zone, "UTC"))
		return true;
	if (strstr(zone, "..") || zone[0] == '/' || !isalpha((unsigned char)zone[0]))
		return false;
	snprintf(path, sizeof(path), "/usr/share/zoneinfo/%s", zone);
	return access(path, R_OK) == 0;
}

/* Z, +01:00, -0800: minutes east of UTC. */
static const char *read_offset(const char *p, int *east_min)
{
	int sign = *p == '-' ? -1 : 1, hour, min;

	if (*p == 'Z' || *p == 'z') {
		*east_min = 0;
		return p + 1;
	}
	if (*p != '+' && *p != '-')
		return NULL;
	p = read_digits(p + 1, 2, 2, &hour);
	if (!p)
		return NULL;
	p = read_digits(*p == ':' ? p + 1 : p, 2, 2, &min);
	if (!p || hour > 23 || min > 59)
		return NULL;
	*east_min = sign * (hour * 60 + min);
	return p;
}

static enum status fail(struct errinfo *err, const char *text, const char *why, const char *rest)
{
	return errinfo_set(err, STATUS_INVALID,
	    "\"%s\" is no time: %s%s%s%s (try 90m, \"2h ago\", today, \"yesterday 14:00\", \"2026-11-23 18:15\", "
	    "2026-11-23T18:15:22Z)",
	    text, why, rest ? " \"" : "", rest ? rest : "", rest ? "\"" : "");
}

/* A calendar form: word or date, clock, zone. */
static enum status parse_calendar(const char *text, int64_t now_us, int64_t *out_us, struct errinfo *err)
{
	time_t now = (time_t)(now_us / US_PER_SEC), t;
	struct tm tm;
	const char *p = text, *at, *zone = NULL;
	int weekday, east_min = 0;
	int64_t frac_us = 0;
	bool date = true, clock = false, offset = false;
	static const struct {
		const char *name;
		int days;
	} words[] = {{"today", 0}, {"yesterday", -1}, {"tomorrow", 1}};

	weekday = read_weekday(&p);
	for (at = p; *at && *at != ' '; at++)
		;
	/* "10:00 UTC" means today's date in that zone */
	if (strlen(text) > 4 && !strcasecmp(text + strlen(text) - 4, " UTC"))
		gmtime_r(&now, &tm);
	else
		localtime_r(&now, &tm);
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if ((size_t)(at - p) == strlen(words[i].name) && !strncasecmp(p, words[i].name, (size_t)(at - p))) {
			tm.tm_mday += words[i].days;
			p = skip_space(at);
			goto clock;
		}
	}
	at = read_date(p, &tm);
	if (at) {
		p = *at == 'T' || *at == 't' ? at + 1 : skip_space(at);
		if (at[0] == 'T' && !isdigit((unsigned char)at[1]))
			return fail(err, text, "no clock time behind the T", NULL);
	} else {
		date = false;
	}
clock:
	at = read_clock(p, &tm, &frac_us);
	if (at) {
		clock = true;
		p = at;
		at = read_offset(p, &east_min);
		if (at) {
			offset = true;
			p = at;
		}
		p = skip_space(p);
	}
	if (!date && !clock)
		return fail(err, text, "no date, clock time or duration at", *p ? p : "its end");
	if (*p) {
		zone = p;
		if (offset || !zone_is_known(zone))
			return fail(err, text, "the time was read, but not", p);
	}
	t = make_time(&tm, offset ? "UTC" : zone);
	if (t == (time_t)-1)
		return fail(err, text, "it is out of range", NULL);
	if (weekday >= 0 && tm.tm_wday != weekday)
		return fail(err, text, "that day is another weekday", NULL);
	*out_us = (int64_t)t * US_PER_SEC - (int64_t)east_min * 60 * US_PER_SEC + frac_us;
	return STATUS_OK;
}

enum status timespec_parse(const char *text, int64_t now_us, int64_t *out_us, struct errinfo *err)
{
	const char *p = skip_space(text), *end;
	bool future = false, past = false;
	double us;

	if (!*p)
		return fail(err, text, "it is empty", NULL);
	if (!strcasecmp(p, "now")) {
		*out_us = now_us;
		return STATUS_OK;
	}
	if (*p == '@') {
		end = read_number(p + 1, &us);
		if (!end || *skip_space(end) || us > 9e12)
			return fail(err, text, "behind the @ must be seconds since 1970, not", p + 1);
		*out_us = (int64_t)(us * 1e6 + 0.5);
		return STATUS_OK;
	}
	if (*p == '+' || *p == '-') {
		future = *p == '+';
		past = !future;
		p++;
	}
	end = read_span(p, false, &us);
	if (end != p && us < 9e18) {
		const char *rest = skip_space(end);

		if (!future && !past && (!*rest || !strcasecmp(rest, "ago")))
			past = true;
		else if (!future && !past && !strcasecmp(rest, "left"))
			future = true;
		else if (*rest)
			return fail(err, text, "a duration was read, but not", rest);
		*out_us = now_us + (past ? -(int64_t)us : (int64_t)us);
		return STATUS_OK;
	}
	if (future || past)
		return fail(err, text, "no duration behind the sign at", p);
	return parse_calendar(p, now_us, out_us, err);
}
