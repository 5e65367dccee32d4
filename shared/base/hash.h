/* hash.h - checks and digests. */
#ifndef POSTTRACE_HASH_H
#define POSTTRACE_HASH_H

#include <stdint.h>

#include "shared/base/span.h"

/* FNV-1a, 64 bits: for index keys and tables; a hit is always checked against the text. */
uint64_t hash_bytes(struct span data);
/* As hash_bytes, with ASCII letters folded to lower case (domains, and addresses as they are searched for). */
uint64_t hash_nocase(struct span data);
/* CRC-32 (IEEE) of journal frames. */
uint32_t hash_crc32(struct span data);
/* The first 8 bytes of SHA-256: names a configuration or a restriction list. */
uint64_t hash_digest(struct span data);

#endif
