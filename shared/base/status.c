#include "shared/base/status.h"

#include <stdio.h>

#include "shared/base/strbuf.h"
#include "shared/base/text.h"

const char *status_word(enum status status)
{
	static const char *const words[] = {
	    [STATUS_OK] = "ok",
	    [STATUS_ABSENT] = "absent",
	    [STATUS_FULL] = "full",
	    [STATUS_INVALID] = "invalid",
	    [STATUS_IO] = "I/O error",
	    [STATUS_NOMEM] = "out of memory",
	    [STATUS_BUSY] = "busy",
	    [STATUS_VERSION] = "newer version",
	    [STATUS_DENIED] = "permission denied",
	    [STATUS_STOPPED] = "stopped",
	};

	return words[status];
}

enum status errinfo_set(struct errinfo *err, enum status status, const char *fmt, ...)
{
	char raw[sizeof(err->text)];
	va_list ap;

	if (!err)
		return status;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	text_escape_line(err->text, sizeof(err->text), raw);
	return status;
}
