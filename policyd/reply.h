/* reply.h - the one answer of the policy service.
 *
 * Every request gets these bytes and no other byte is ever written to a client: whatever was asked, the next
 * restriction decides. Nothing of a request may ever get into a reply.
 */
#ifndef POSTTRACE_REPLY_H
#define POSTTRACE_REPLY_H

#include <stddef.h>

/* Write as many of the owed bytes as the socket takes now, and count them off. owed is a number of bytes that ends
 * with a whole reply. False: the peer is gone. */
_Bool reply_write(int fd, size_t *owed);
/* The length of one reply. */
size_t reply_size(void);

#endif
