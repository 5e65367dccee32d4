/* mailaddr.h - addresses as they are compared: Postfix tells the milter and the log the form of RFC 5321 (4.1.2, quoted
 * where it must be), and a policy service the plain one. */
#ifndef POSTTRACE_MAILADDR_H
#define POSTTRACE_MAILADDR_H

#include "shared/base/strbuf.h"

/* The same mailbox? Quotes and backslashes of the local part do not count, nor does case. */
bool mailaddr_same(struct span a, struct span b);

/* Append the plain form with its local part quoted where RFC 5321 (4.1.2) wants it; a form that is quoted already stays. */
void mailaddr_quote(struct strbuf *out, struct span plain);

#endif
