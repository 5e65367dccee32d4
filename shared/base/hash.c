#include "shared/base/hash.h"

#include <sha2.h>
#include <zlib.h>

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

uint64_t hash_bytes(struct span data)
{
	uint64_t h = FNV_BASIS;

	for (size_t i = 0; i < data.len; i++)
		h = (h ^ (unsigned char)data.ptr[i]) * FNV_PRIME;
	return h;
}

uint64_t hash_nocase(struct span data)
{
	uint64_t h = FNV_BASIS;

	for (size_t i = 0; i < data.len; i++) {
		unsigned char c = (unsigned char)data.ptr[i];

		if (c >= 'A' && c <= 'Z')
			c = (unsigned char)(c + ('a' - 'A'));
		h = (h ^ c) * FNV_PRIME;
	}
	return h;
}

uint32_t hash_crc32(struct span data)
{
	return (uint32_t)crc32(0, (const unsigned char *)data.ptr, (unsigned)data.len);
}

uint64_t hash_digest(struct span data)
{
	uint8_t sum[SHA256_DIGEST_LENGTH];
	uint64_t out = 0;
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, (const uint8_t *)data.ptr, data.len);
	SHA256Final(sum, &ctx);
	for (int i = 0; i < 8; i++)
		out = out << 8 | sum[i];
	return out;
}
