/* follow.h - Postfix's log as lines in order, with a place that can be kept.
 *
 * Model:   one source, file or journal. The place is opaque bytes; it is stored in the same commit as the records that
 *          the lines led to, so a restart neither loses nor doubles a line.
 * Files:   a rotated file is read to its end before the next one: found by its inode, or when it was copied or
 *          compressed (gzip) by how it begins. Names: PATH with a suffix of digits, as logrotate and "postfix logrotate"
 *          give it, in the same directory. A last line without its newline waits for it.
 * Journal: what came with the facility mail. Where journald says that it dropped lines of Postfix, so do we.
 * Rights:  a file that our user may not read is read by the right that daemon_keep_reading kept, if it did.
 * Owns:    a line is valid until the next follow_next.
 * Limits:  a line is cut at 64 KiB.
 * Threads: one.
 */
#ifndef POSTTRACE_FOLLOW_H
#define POSTTRACE_FOLLOW_H

#include <stdint.h>

#include "shared/base/span.h"
#include "shared/base/status.h"

#define FOLLOW_LINE_MAX (64u << 10)

struct follow;

/* Lines that may be missing before the one that was given last. */
struct follow_gap {
	uint64_t lines; /* 0: how many is not known */
	const char *why; /* a literal */
};

/* source: file:/PATH, journal, journal:/DIRECTORY, or auto (Postfix's maillog_file; else of the syslogd's file and the
 * journal the one that is being written). place empty: start at the end of what is there, or at its beginning. Save
 * follow_place at once: a start at the end that is not kept would be another one after a restart. A file need not be
 * there yet; one that may not be read is a fault. Says in one line what is read, and why. */
enum status follow_open(const char *source, const char *config_directory, struct span place, bool from_begin,
    struct follow **out, struct errinfo *err) MUST_CHECK;
/* The next line without its newline. STATUS_ABSENT: nothing more for now. A source that can't be read any more is said
 * in our log and looked at again. */
enum status follow_next(struct follow *follow, struct span *line, struct errinfo *err) MUST_CHECK;
/* The last line was longer than what was given. */
bool follow_was_cut(const struct follow *follow);
/* True once after lines may have been lost. */
bool follow_lost(struct follow *follow, struct follow_gap *gap);
/* The place behind the last line; valid until the next call. */
struct span follow_place(struct follow *follow);
/* A descriptor that becomes readable when there may be more, and not to be read from: follow_next quiets it. Look every
 * second all the same (-1: only then). */
int follow_fd(struct follow *follow);
/* What is read, for a log or a person: "file:/var/log/mail.log". */
const char *follow_name(const struct follow *follow);
void follow_close(struct follow *follow);

#endif
