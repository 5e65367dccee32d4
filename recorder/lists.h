/* lists.h - the restriction lists that have tracepoints, so that a trace can name the restriction behind each.
 *
 * Read from postconf, outside the mail path. A list is kept under the digest that its tracepoints carry, and only when its
 * text is the one that the digest was made of: a list that was edited since is unknown, not guessed.
 */
#ifndef POSTTRACE_LISTS_H
#define POSTTRACE_LISTS_H

#include "shared/store/store.h"

/* postconf's parameters in force, expanded, one a line. */
enum status lists_read(const char *config_directory, struct strbuf *out, struct errinfo *err) MUST_CHECK;
/* Store the instrumented ones among them, in the caller's transaction. */
enum status lists_store(struct store *store, struct span lines, struct errinfo *err) MUST_CHECK;

#endif
