/* child.h - run one of Postfix's commands, bounded, without a shell.
 *
 * The child gets a clean environment (PATH, LANG=C, MAIL_CONFIG when it is set here) and no descriptors of ours.
 */
#ifndef POSTTRACE_CHILD_H
#define POSTTRACE_CHILD_H

#include <stdint.h>

#include "shared/base/strbuf.h"

/* Collect its standard output (at most limit bytes) and exit code. STATUS_OK also when the code is not 0.
 * STATUS_BUSY: it took longer than timeout_us and was killed. argv[0] is looked up in PATH and the sbin folders.
 * errors (may be NULL) gets its standard error. */
enum status child_run(const char *const *argv, int64_t timeout_us, size_t limit, struct strbuf *out,
    struct strbuf *errors, int *exit_code, struct errinfo *err) MUST_CHECK;

#endif
