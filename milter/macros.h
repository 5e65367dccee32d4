/* macros.h - which macro of the milter protocol tells which member of an event.
 *
 * One table (macros.c) says what is asked for at each stage and where its value goes. A macro may be absent at any
 * stage; then its member stays unset. Values point into libmilter's memory of the current callback.
 */
#ifndef POSTTRACE_MACROS_H
#define POSTTRACE_MACROS_H

#include <libmilter/mfapi.h>

#include "shared/model/smtp_event.h"

enum macro_group {
	MACRO_LINK = 1, /* who is connected to whom */
	MACRO_TLS = 2,
	MACRO_AUTH = 4,
	MACRO_QUEUE = 8, /* the queue id */
};

/* Ask for what is useful at each stage and no more. Only inside xxfi_negotiate, when the MTA offers it. */
void macros_request(SMFICTX *ctx);
/* Fill the members of these groups (a sum of enum macro_group) that have a value now. */
void macros_fill(SMFICTX *ctx, unsigned groups, Event *event);
/* A digest of a group's values; 0 when it has none. Tells when a group appears or changes. */
uint64_t macros_digest(SMFICTX *ctx, enum macro_group group);
/* One macro's value; ptr is NULL when it is absent. */
struct span macro_value(SMFICTX *ctx, const char *name);

#endif
