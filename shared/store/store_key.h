/* store_key.h - keys of the store and their order; doc/record-format.md has the picture. */
#ifndef POSTTRACE_STORE_KEY_H
#define POSTTRACE_STORE_KEY_H

#include "shared/store/store.h"

#define STORE_KEY_MAX    40
#define STORE_HASH_BYTES 8
#define BUCKET_SHIFT     36 /* bits of an id below the bucket: 19 hours */

enum store_kind { /* on disk: never renumber */
	KIND_QUEUE_ID = 1,
	KIND_MESSAGE_ID = 2,
	KIND_SENDER = 3,
	KIND_RECIPIENT = 4,
	KIND_CLIENT = 5,
	KIND_INSTANCE = 6,
	KIND_LOGIN = 7,
	KIND_CAUSE = 8,
	KIND_OUTCOME = 9,
};

struct store_key {
	uint8_t bytes[STORE_KEY_MAX];
	uint8_t len;
};

struct store_keys {
	struct store_key *keys; /* sorted, without repeats; malloc */
	size_t n;
};

/* The index entries of a transaction. */
enum status store_keys_of(const Transaction *tx, struct store_keys *out) MUST_CHECK;
void store_keys_free(struct store_keys *keys);
int store_key_compare(const void *a, const void *b);
/* The part of a key between bucket and id that a question asks for, its kind first. False: nothing can match. */
bool store_key_wanted(const struct store_question *question, uint8_t *out, size_t *len);
/* Whole length of an index key of this kind. */
size_t store_key_length(enum store_kind kind);
uint64_t store_key_id(const uint8_t *key, size_t len);

static inline void store_put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
	while (bytes--) {
		p[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static inline uint64_t store_get_be(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

#endif
