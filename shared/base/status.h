/* status.h - what a function says about its own success.
 *
 * Fallible functions return enum status; results go to an out-parameter, which is untouched on
 * failure. STATUS_ABSENT is an answer, not a fault. The sentence for a person travels in
 * struct errinfo, filled where the fault happened: what was tried, on what, why not, what to do.
 */
#ifndef POSTTRACE_STATUS_H
#define POSTTRACE_STATUS_H

#include <stdarg.h>

enum status {
	STATUS_OK = 0,
	STATUS_ABSENT,  /* looked, and it is not there */
	STATUS_FULL,    /* a limit is reached; nothing was written */
	STATUS_INVALID, /* the input is not of the form that it should have */
	STATUS_IO,      /* the operating system refused or failed */
	STATUS_NOMEM,
	STATUS_BUSY,    /* somebody else holds it */
	STATUS_VERSION, /* written by a newer program */
	STATUS_DENIED,  /* permissions */
	STATUS_STOPPED, /* the caller's callback asked to stop */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))

struct errinfo {
	char text[640]; /* one sentence, NUL-terminated, already escaped; "" when none */
};

/* A word for the status, for logs. */
const char *status_word(enum status status);

/* Write the sentence (err may be NULL) and return status, so that "return errinfo_set(...)" reads well.
 * Bytes from outside in the arguments are escaped. */
enum status errinfo_set(struct errinfo *err, enum status status, const char *fmt, ...) PRINTF(3, 4);

#endif
