/* cflist.h - a list value of main.cf as its elements.
 *
 * Elements are separated by white space and commas; what stands in { } is one element, whatever it holds. Nothing is
 * expanded. Spans point into the list.
 */
#ifndef POSTTRACE_CFLIST_H
#define POSTTRACE_CFLIST_H

#include <stdbool.h>

#include "shared/base/span.h"
#include "shared/base/strbuf.h"

/* Take the next element off *rest; false at the end. A brace that is never closed takes all the rest. */
bool cflist_next(struct span *rest, struct span *element);
/* The inside of a { } element; false when it is none. */
bool cflist_group(struct span element, struct span *inside);
/* Put element into list as number position (from 1; 0 or beyond the end: last). The list's own text stays as it is. */
void cflist_insert(struct strbuf *out, struct span list, struct span element, unsigned position);
/* Copy list without what ours says yes to, and count what was left out. ours looks at an element and, for a
 * restriction with an argument, at the one behind it; it returns how many of the two to leave out. */
unsigned cflist_remove(struct strbuf *out, struct span list,
    unsigned (*ours)(void *arg, struct span element, struct span next), void *arg);

/* A list of restrictions, one a line with its argument: the text that a tracepoint's digest stands for. */
void cflist_restrictions(struct strbuf *out, struct span list);

#endif
