/* trace_id.h - a transaction's id as people type it: Crockford's base32, lower case, at least 11 characters. */
#ifndef POSTTRACE_TRACE_ID_H
#define POSTTRACE_TRACE_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/span.h"

#define TRACE_ID_CHARS 14 /* with the NUL */

void trace_id_format(char out[TRACE_ID_CHARS], uint64_t id);
/* 11 to 13 characters; any case; I and L read as 1, O as 0, as Crockford wants it. */
bool trace_id_parse(struct span text, uint64_t *id);

#endif
