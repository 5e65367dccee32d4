/* log.h - what a daemon says about itself, to stderr or syslog.
 *
 * Every line is escaped as a whole, so foreign bytes in the arguments cannot forge a line or move a cursor.
 * Words follow Postfix: fatal, error, warning, info, debug.
 * Threads: any.
 */
#ifndef POSTTRACE_LOG_H
#define POSTTRACE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/status.h"

enum log_level { LOG_LEVEL_FATAL, LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* ident must outlive the process. to_syslog: LOG_MAIL; otherwise stderr. Default: stderr, info. */
void log_open(const char *ident, bool to_syslog);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

void log_error(const char *fmt, ...) PRINTF(1, 2);
void log_warning(const char *fmt, ...) PRINTF(1, 2);
void log_info(const char *fmt, ...) PRINTF(1, 2);
void log_debug(const char *fmt, ...) PRINTF(1, 2);

/* For what hostile input or a full disk could repeat a thousand times: one line per 10 s and place, with the
 * number of lines held back. The struct is static at the place. */
struct log_limit {
	int64_t last_us;
	unsigned held_back;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...) PRINTF(3, 4);

#endif
