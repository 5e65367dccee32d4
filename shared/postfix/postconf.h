/* postconf.h - ask Postfix about a configuration directory, and change it, as an admin would: by postconf(1).
 *
 * Errors: what postconf calls fatal comes as STATUS_INVALID with postconf's own sentence.
 */
#ifndef POSTTRACE_POSTCONF_H
#define POSTTRACE_POSTCONF_H

#include "shared/base/span.h"
#include "shared/base/strbuf.h"

/* Run postconf -c dir with up to 40 more arguments (NULL ends them); its standard output goes to out. */
enum status postconf_run(
    const char *dir, const char *const *args, struct strbuf *out, struct errinfo *err) MUST_CHECK;
/* One value. mode: "-h" as written, "-xh" expanded, "-dh" the default. */
enum status postconf_get(
    const char *dir, const char *mode, const char *name, struct strbuf *out, struct errinfo *err) MUST_CHECK;
/* Find "name = value" among the lines of postconf's output; STATUS_ABSENT when it is not there. */
enum status postconf_find(struct span lines, const char *name, struct span *value) MUST_CHECK;

#endif
