#include "shared/base/netaddr.h"

#include <arpa/inet.h>
#include <stdlib.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool netaddr_parse(struct span text, struct netaddr *out)
{
	struct netaddr addr;
	char buf[INET6_ADDRSTRLEN];

	if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
		text = span_make(text.ptr + 1, text.len - 2);
	if (text.len > 5 && span_eq_nocase(span_head(text, 5), SPAN("IPv6:")))
		text = span_skip(text, 5);
	if (!text.len || text.len >= sizeof(buf) || memchr(text.ptr, '\0', text.len))
		return false;
	memcpy(buf, text.ptr, text.len);
	buf[text.len] = '\0';
	if (inet_pton(AF_INET, buf, addr.bytes + 12) == 1)
		memcpy(addr.bytes, mapped, sizeof(mapped));
	else if (inet_pton(AF_INET6, buf, addr.bytes) != 1)
		return false;
	*out = addr;
	return true;
}

bool netaddr_is_v4(const struct netaddr *addr)
{
	return memcmp(addr->bytes, mapped, sizeof(mapped)) == 0;
}

void netaddr_format(struct strbuf *out, const struct netaddr *addr)
{
	char buf[INET6_ADDRSTRLEN];

	if (netaddr_is_v4(addr))
		inet_ntop(AF_INET, addr->bytes + 12, buf, sizeof(buf));
	else
		inet_ntop(AF_INET6, addr->bytes, buf, sizeof(buf));
	strbuf_adds(out, buf);
}

bool netblock_parse(struct span text, struct netblock *out)
{
	const char *slash;
	struct netblock block;
	unsigned bits = 0;
	struct span digits = {NULL, 0};

	/* [2001:db8::/32]: the brackets hold the prefix too */
	if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']')
		text = span_make(text.ptr + 1, text.len - 2);
	slash = text.len ? memrchr(text.ptr, '/', text.len) : NULL;
	if (slash) {
		digits = span_skip(text, (size_t)(slash - text.ptr) + 1);
		text = span_head(text, (size_t)(slash - text.ptr));
		if (!digits.len || digits.len > 3)
			return false;
		for (size_t i = 0; i < digits.len; i++) {
			if (digits.ptr[i] < '0' || digits.ptr[i] > '9')
				return false;
			bits = bits * 10 + (unsigned)(digits.ptr[i] - '0');
		}
	}
	if (!netaddr_parse(text, &block.addr))
		return false;
	if (!slash)
		bits = 128;
	else if (netaddr_is_v4(&block.addr) && memchr(text.ptr, '.', text.len))
		bits = bits > 32 ? 999 : bits + 96;
	if (bits > 128)
		return false;
	block.prefix = bits;
	*out = block;
	return true;
}

bool netblock_contains(const struct netblock *block, const struct netaddr *addr)
{
	unsigned whole = block->prefix / 8, rest = block->prefix % 8;

	if (memcmp(block->addr.bytes, addr->bytes, whole) != 0)
		return false;
	return !rest || (block->addr.bytes[whole] ^ addr->bytes[whole]) >> (8 - rest) == 0;
}
