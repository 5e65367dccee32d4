#include "shared/model/trace_id.h"

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

void trace_id_format(char out[TRACE_ID_CHARS], uint64_t id)
{
	size_t n = 11;

	while (n < 13 && id >> (5 * n))
		n++;
	for (size_t i = 0; i < n; i++)
		out[i] = digits[id >> (5 * (n - 1 - i)) & 31];
	out[n] = '\0';
}

bool trace_id_parse(struct span text, uint64_t *id)
{
	uint64_t value = 0;

	if (text.len < 11 || text.len > 13)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];
		const char *at;

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c == 'i' || c == 'l')
			c = '1';
		if (c == 'o')
			c = '0';
		at = c ? strchr(digits, c) : NULL;
		if (!at || value >> 59)
			return false;
		value = value << 5 | (uint64_t)(at - digits);
	}
	*id = value;
	return true;
}
