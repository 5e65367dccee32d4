/* netaddr.h - IP addresses and networks as Postfix writes them.
 *
 * Every address is 16 bytes; IPv4 is kept v4-mapped (::ffff:a.b.c.d), so that one key order and one prefix match
 * serve both families.
 */
#ifndef POSTTRACE_NETADDR_H
#define POSTTRACE_NETADDR_H

#include <stdint.h>

#include "shared/base/span.h"
#include "shared/base/strbuf.h"

struct netaddr {
	uint8_t bytes[16];
};

struct netblock {
	struct netaddr addr;
	unsigned prefix; /* bits of the 16-byte form: 96 + n for IPv4 */
};

/* 192.0.2.1, 2001:db8::1, [2001:db8::1], IPv6:2001:db8::1. */
bool netaddr_parse(struct span text, struct netaddr *out);
bool netaddr_is_v4(const struct netaddr *addr);
void netaddr_format(struct strbuf *out, const struct netaddr *addr);
/* An address, ADDR/BITS, [V6]/BITS or [V6/BITS] (mynetworks accepts the last two). */
bool netblock_parse(struct span text, struct netblock *out);
bool netblock_contains(const struct netblock *block, const struct netaddr *addr);

#endif
