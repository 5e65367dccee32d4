/* snapshot.h - what Postfix was told to do, taken when it changes.
 *
 * Runs postconf, outside the mail path. A snapshot is known by the digest of what postconf printed, so one that is taken
 * again and has not changed is the same.
 */
#ifndef POSTTRACE_SNAPSHOT_H
#define POSTTRACE_SNAPSHOT_H

#include "shared/model/smtp_event.h"

/* Take it. config_directory "": Postfix's own. The members point into the arena. */
enum status snapshot_take(const char *config_directory, struct arena *arena, Posttrace__Configuration *out,
    struct errinfo *err) MUST_CHECK;
/* A number that changes when main.cf or master.cf is written; 0: they can't be looked at. */
uint64_t snapshot_stamp(const char *config_directory);

#endif
