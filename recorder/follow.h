/* follow.h - Postfix's log as lines in order, with a place that can be kept.
 *
 * Model:   one source, file or journal. The place is opaque bytes; it is stored in the same commit as the records that
 *          the lines led to, so a restart neither loses nor doubles a line.
 * Owns:    a line is valid until the next follow_next.
 * Threads: one.
 */
#ifndef POSTTRACE_FOLLOW_H
#define POSTTRACE_FOLLOW_H

#include "shared/base/span.h"
#include "shared/base/status.h"

struct follow;

/* source: file:PATH, journal or auto. place empty: start at the end of what is there, or at its beginning. */
enum status follow_open(const char *source, const char *config_directory, struct span place, bool from_begin,
    struct follow **out, struct errinfo *err) MUST_CHECK;
/* The next line without its newline. STATUS_ABSENT: nothing more for now. */
enum status follow_next(struct follow *follow, struct span *line, struct errinfo *err) MUST_CHECK;
/* The place behind the last line; valid until the next call. */
struct span follow_place(struct follow *follow);
/* A descriptor that becomes readable when there may be more (-1: look now and then). */
int follow_fd(struct follow *follow);
void follow_close(struct follow *follow);

#endif
