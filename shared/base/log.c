#include "shared/base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#include "shared/base/clock.h"
#include "shared/base/text.h"

#define LIMIT_US (10 * US_PER_SEC)

static const char *log_ident = "posttrace";
static bool log_to_syslog;
static enum log_level log_level = LOG_LEVEL_INFO;
static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;

static const struct {
	const char *word;
	int priority;
} levels[] = {
    [LOG_LEVEL_FATAL] = {"fatal", LOG_CRIT},
    [LOG_LEVEL_ERROR] = {"error", LOG_ERR},
    [LOG_LEVEL_WARNING] = {"warning", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"info", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

void log_open(const char *ident, bool to_syslog)
{
	log_ident = ident;
	log_to_syslog = to_syslog;
	if (to_syslog)
		openlog(ident, LOG_PID | LOG_NDELAY, LOG_MAIL);
}

void log_set_level(enum log_level level)
{
	log_level = level;
}

enum log_level log_get_level(void)
{
	return log_level;
}

static void emit(enum log_level level, const char *raw)
{
	char line[2048], out[2304];
	int len;

	text_escape_line(line, sizeof(line), raw);
	if (log_to_syslog) {
		syslog(levels[level].priority, "%s: %s", levels[level].word, line);
		return;
	}
	len = snprintf(out, sizeof(out), "%s[%d]: %s: %s\n", log_ident, (int)getpid(), levels[level].word, line);
	if (len > 0 && write(STDERR_FILENO, out, (size_t)len) < 0)
		return; /* nowhere left to say it */
}

PRINTF(2, 0) static void vlog(enum log_level level, const char *fmt, va_list ap)
{
	char raw[2048];

	if (level > log_level)
		return;
	vsnprintf(raw, sizeof(raw), fmt, ap);
	emit(level, raw);
}

#define LOG_FUNCTION(name, level)           \
	void name(const char *fmt, ...)     \
	{                                   \
		va_list ap;                 \
		va_start(ap, fmt);          \
		vlog(level, fmt, ap);       \
		va_end(ap);                 \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	int64_t now = clock_mono_us();
	char raw[2048];
	unsigned held;
	va_list ap;

	pthread_mutex_lock(&limit_lock);
	if (limit->last_us && now - limit->last_us < LIMIT_US) {
		limit->held_back++;
		pthread_mutex_unlock(&limit_lock);
		return;
	}
	held = limit->held_back;
	*limit = (struct log_limit){.last_us = now};
	pthread_mutex_unlock(&limit_lock);
	if (level > log_level)
		return;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	emit(level, raw);
	if (held) {
		snprintf(raw, sizeof(raw), "(%u more lines like the one above were held back)", held);
		emit(level, raw);
	}
}
