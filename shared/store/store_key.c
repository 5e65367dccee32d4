#include "shared/store/store_key.h"

#include <stdlib.h>

#include "shared/base/hash.h"
#include "shared/base/netaddr.h"

/* bucket(2) kind(1) middle id(5): the id's low 36 bits; its high bits are the bucket. */
#define HEAD 3
#define TAIL 5

static const uint8_t middle_bytes[] = {
    [KIND_QUEUE_ID] = 6,
    [KIND_MESSAGE_ID] = 6,
    [KIND_SENDER] = 8,
    [KIND_RECIPIENT] = 8,
    [KIND_CLIENT] = 18,
    [KIND_INSTANCE] = 6,
    [KIND_LOGIN] = 6,
    [KIND_CAUSE] = 2,
    [KIND_OUTCOME] = 1,
};

size_t store_key_length(enum store_kind kind)
{
	return HEAD + middle_bytes[kind] + TAIL;
}

uint64_t store_key_id(const uint8_t *key, size_t len)
{
	return store_get_be(key, 2) << BUCKET_SHIFT | store_get_be(key + len - TAIL, TAIL);
}

/* Domain first, so that all addresses of a domain stand together. */
static void address_middle(struct span address, uint8_t out[8])
{
	const char *at = address.len ? memrchr(address.ptr, '@', address.len) : NULL;
	struct span local = at ? span_head(address, (size_t)(at - address.ptr)) : address;
	struct span domain = at ? span_skip(address, local.len + 1) : (struct span){NULL, 0};

	store_put_be(out, hash_nocase(domain) >> 32, 4);
	store_put_be(out + 4, hash_nocase(local) >> 32, 4);
}

static void hash_middle(struct span text, uint8_t out[6])
{
	store_put_be(out, hash_bytes(text) >> 16, 6);
}

struct building {
	struct store_keys *out;
	uint64_t id;
	bool failed;
};

static void add_key(struct building *b, enum store_kind kind, const uint8_t *middle)
{
	struct store_key *key;

	if ((b->out->n & (b->out->n - 1)) == 0) {
		struct store_key *more = realloc(b->out->keys, (b->out->n ? 2 * b->out->n : 1) * sizeof(*more));

		if (!more) {
			b->failed = true;
			return;
		}
		b->out->keys = more;
	}
	key = &b->out->keys[b->out->n++];
	memset(key, 0, sizeof(*key));
	store_put_be(key->bytes, b->id >> BUCKET_SHIFT, 2);
	key->bytes[2] = (uint8_t)kind;
	memcpy(key->bytes + HEAD, middle, middle_bytes[kind]);
	store_put_be(key->bytes + HEAD + middle_bytes[kind], b->id & ((UINT64_C(1) << BUCKET_SHIFT) - 1), TAIL);
	key->len = (uint8_t)store_key_length(kind);
}

static void add_hashed(struct building *b, enum store_kind kind, Bytes text)
{
	uint8_t middle[8];

	if (!text.len)
		return;
	hash_middle(span_from(text), middle);
	add_key(b, kind, middle);
}

static void add_address(struct building *b, enum store_kind kind, Bytes address)
{
	uint8_t middle[8];

	address_middle(span_from(address), middle);
	add_key(b, kind, middle);
}

static void add_number(struct building *b, enum store_kind kind, unsigned value)
{
	uint8_t middle[2];

	store_put_be(middle, value, middle_bytes[kind]);
	if (value)
		add_key(b, kind, middle);
}

static void add_client(struct building *b, const Transaction *tx)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	uint8_t middle[18];

	if (tx->client_address.len == 4) {
		memcpy(middle, mapped, 12);
		memcpy(middle + 12, tx->client_address.data, 4);
	} else if (tx->client_address.len == 16) {
		memcpy(middle, tx->client_address.data, 16);
	} else {
		return;
	}
	store_put_be(middle + 16, tx->client_port, 2);
	add_key(b, KIND_CLIENT, middle);
}

int store_key_compare(const void *a, const void *b)
{
	return memcmp(((const struct store_key *)a)->bytes, ((const struct store_key *)b)->bytes, STORE_KEY_MAX);
}

enum status store_keys_of(const Transaction *tx, struct store_keys *out)
{
	struct building b = {out, tx->id, false};
	size_t kept = 0;

	*out = (struct store_keys){NULL, 0};
	add_hashed(&b, KIND_QUEUE_ID, tx->queue_id);
	add_hashed(&b, KIND_MESSAGE_ID, tx->message_id);
	if (tx->has_sender)
		add_address(&b, KIND_SENDER, tx->sender);
	add_client(&b, tx);
	add_hashed(&b, KIND_INSTANCE, tx->instance);
	add_hashed(&b, KIND_LOGIN, tx->sasl_username);
	add_number(&b, KIND_CAUSE, tx->cause);
	add_number(&b, KIND_OUTCOME, (unsigned)tx->outcome);
	for (size_t i = 0; i < tx->n_recipients; i++) {
		add_address(&b, KIND_RECIPIENT, tx->recipients[i]->address);
		add_number(&b, KIND_CAUSE, tx->recipients[i]->cause);
		add_number(&b, KIND_OUTCOME, (unsigned)tx->recipients[i]->outcome);
	}
	if (b.failed) {
		store_keys_free(out);
		return STATUS_NOMEM;
	}
	if (out->n)
		qsort(out->keys, out->n, sizeof(*out->keys), store_key_compare);
	for (size_t i = 0; i < out->n; i++)
		if (!kept || store_key_compare(&out->keys[kept - 1], &out->keys[i]) != 0)
			out->keys[kept++] = out->keys[i];
	out->n = kept;
	return STATUS_OK;
}

void store_keys_free(struct store_keys *keys)
{
	free(keys->keys);
	*keys = (struct store_keys){NULL, 0};
}

bool store_key_wanted(const struct store_question *q, uint8_t *out, size_t *len)
{
	uint8_t address[8];

	switch (q->index) {
	case STORE_BY_QUEUE_ID:
	case STORE_BY_MESSAGE_ID:
	case STORE_BY_INSTANCE:
	case STORE_BY_LOGIN:
		out[0] = q->index == STORE_BY_QUEUE_ID	   ? KIND_QUEUE_ID
			 : q->index == STORE_BY_MESSAGE_ID ? KIND_MESSAGE_ID
			 : q->index == STORE_BY_INSTANCE   ? KIND_INSTANCE
							   : KIND_LOGIN;
		hash_middle(q->key, out + 1);
		*len = 7;
		return true;
	case STORE_BY_SENDER:
	case STORE_BY_RECIPIENT:
		out[0] = q->index == STORE_BY_SENDER ? KIND_SENDER : KIND_RECIPIENT;
		address_middle(q->key, out + 1);
		*len = 9;
		return true;
	case STORE_BY_SENDER_DOMAIN:
	case STORE_BY_RECIPIENT_DOMAIN:
		out[0] = q->index == STORE_BY_SENDER_DOMAIN ? KIND_SENDER : KIND_RECIPIENT;
		store_put_be(address, hash_nocase(q->key) >> 32, 4);
		memcpy(out + 1, address, 4);
		*len = 5;
		return true;
	case STORE_BY_CLIENT:
	case STORE_BY_CLIENT_PORT:
		if (q->key.len < (q->index == STORE_BY_CLIENT ? 16u : 18u))
			return false;
		out[0] = KIND_CLIENT;
		*len = q->index == STORE_BY_CLIENT ? 16 : 18;
		memcpy(out + 1, q->key.ptr, *len);
		if (q->index == STORE_BY_CLIENT && q->client_prefix && q->client_prefix < 128)
			*len = q->client_prefix / 8; /* whole bytes; the caller checks the record for the rest */
		*len += 1;
		return true;
	case STORE_BY_CAUSE:
		if (q->key.len != 4)
			return false;
		out[0] = KIND_CAUSE;
		memcpy(out + 1, q->key.ptr + 2, 2);
		*len = 3;
		return true;
	case STORE_BY_OUTCOME:
		if (q->key.len != 1)
			return false;
		out[0] = KIND_OUTCOME;
		out[1] = (uint8_t)q->key.ptr[0];
		*len = 2;
		return true;
	case STORE_BY_TIME:
		break;
	}
	return false;
}
