/* attach_edit.h - the steps that putting in and taking out share. All work on the copies.
 */
#ifndef POSTTRACE_ATTACH_EDIT_H
#define POSTTRACE_ATTACH_EDIT_H

#include "query/attach.h"

/* The list without our elements; how many there were. */
unsigned attach_without_ours(struct attach *attach, struct strbuf *out, struct span list);
bool attach_holds_ours(struct attach *attach, struct span list);
/* postconf MODE TEXT; noted as the admin would type it. */
enum status attach_postconf(struct attach *attach, const char *mode, const char *text, struct errinfo *err) MUST_CHECK;
/* NAME = VALUE; service (may be NULL): in master.cf. */
enum status attach_set_value(struct attach *attach, const char *mode, const char *service, const char *name,
    const char *value, struct errinfo *err) MUST_CHECK;
/* For -j. before may be NULL: it was not set. */
void attach_note_change(struct attach *attach, const char *file, const char *service, const char *name,
    const struct span *before, const char *after);
/* What postconf MODE prints. */
enum status attach_ask(const char *dir, const char *mode, struct strbuf *out, struct errinfo *err) MUST_CHECK;

#endif
