/* timespec.h - points in time and durations as people type them: systemd.time(7), RFC 3339, and a bare 90m, which
 * means that long ago. Local time unless the text says otherwise.
 */
#ifndef POSTTRACE_TIMESPEC_H
#define POSTTRACE_TIMESPEC_H

#include <stdint.h>

#include "shared/base/status.h"

/* The error says what was understood and where reading stopped. */
enum status timespec_parse(const char *text, int64_t now_us, int64_t *out_us, struct errinfo *err) MUST_CHECK;
/* "3h 30min", "500ms", "1.5 s"; a number alone is seconds. */
enum status timespec_duration(const char *text, int64_t *out_us, struct errinfo *err) MUST_CHECK;

#endif
