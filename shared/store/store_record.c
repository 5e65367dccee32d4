/* Transactions in the store: the bytes of a record, and the index that follows it. */
#include <stdlib.h>
#include <zlib.h>

#include "shared/base/hash.h"
#include "shared/store/store_private.h"

/* A record: 12 bytes of header, then the protobuf message, deflated against a dictionary when that is shorter.
 *   version, flags, outcome, number of the dictionary (0: not deflated), cause (2), 0 (2), CRC32 of all that follows (4)
 * and, when deflated, the length of the message (4). The first version had 8 bytes, no CRC and nothing deflated. */
#define HEADER_1   8
#define HEADER_2   12
#define FLAG_DONE  1
#define LENGTH_MAX (64u << 20) /* no record is longer: what says so is damaged */

/* Level 6 in a small window: a record is seldom longer, and setting up costs more than deflating. */
#define WINDOW_BITS 13
#define MEM_LEVEL   6

struct store_squeeze {
	z_stream in, out;
	bool in_ready, out_ready;
};

static struct store_squeeze *squeeze(struct store *store)
{
	if (!store->squeeze)
		store->squeeze = calloc(1, sizeof(*store->squeeze));
	return store->squeeze;
}

void store_squeeze_free(struct store_squeeze *z)
{
	if (z && z->in_ready)
		inflateEnd(&z->in);
	if (z && z->out_ready)
		deflateEnd(&z->out);
	free(z);
}

/* Behind what is in packed already; false when it would not be shorter, or there is no memory. */
static bool deflate_message(struct store *store, struct span message)
{
	struct store_squeeze *z = squeeze(store);
	struct strbuf *to = &store->packed;
	struct span dictionary = store_dictionary(STORE_DICTIONARY);
	int rc;

	if (!z || !message.len || message.len > LENGTH_MAX || !strbuf_grow(to, message.len))
		return false;
	if (!z->out_ready)
		z->out_ready = deflateInit2(&z->out, 6, Z_DEFLATED, -WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
	else
		deflateReset(&z->out);
	if (!z->out_ready || deflateSetDictionary(&z->out, (const Bytef *)dictionary.ptr, (uInt)dictionary.len) != Z_OK)
		return false;
	z->out.next_in = (Bytef *)(uintptr_t)message.ptr;
	z->out.avail_in = (uInt)message.len;
	z->out.next_out = (Bytef *)to->buf + to->len;
	z->out.avail_out = (uInt)message.len - 1;
	rc = deflate(&z->out, Z_FINISH);
	if (rc != Z_STREAM_END)
		return false;
	strbuf_setlen(to, to->len + z->out.total_out);
	return true;
}

enum status store_encode(struct store *store, const Transaction *tx, MDB_val *out)
{
	uint8_t header[HEADER_2 + 4] = {2};
	size_t size = posttrace__transaction__get_packed_size(tx);
	struct strbuf *to = &store->packed;
	struct span message;

	header[1] = tx->done ? FLAG_DONE : 0;
	header[2] = (uint8_t)tx->outcome;
	store_put_be(header + 4, tx->cause, 2);
	strbuf_reset(&store->plain);
	if (!strbuf_grow(&store->plain, size))
		return STATUS_NOMEM;
	message = span_make(store->plain.buf, posttrace__transaction__pack(tx, (uint8_t *)store->plain.buf));
	header[3] = STORE_DICTIONARY;
	store_put_be(header + HEADER_2, size, 4);
	strbuf_reset(to);
	strbuf_add(to, header, sizeof(header));
	if (!deflate_message(store, message)) {
		header[3] = 0;
		strbuf_reset(to);
		strbuf_add(to, header, HEADER_2);
		strbuf_addspan(to, message);
	}
	if (to->failed)
		return STATUS_NOMEM;
	store_put_be((uint8_t *)to->buf + 3, header[3], 1);
	store_put_be((uint8_t *)to->buf + 8, hash_crc32(span_skip(strbuf_span(to), HEADER_2)), 4);
	*out = (MDB_val){to->len, to->buf};
	return STATUS_OK;
}

static struct span inflate_message(struct store *store, struct span from, unsigned dictionary_number, struct arena *arena)
{
	struct span dictionary = store_dictionary(dictionary_number), none = {NULL, 0};
	struct store_squeeze *z = squeeze(store);
	uint64_t len;
	uint8_t *to;

	if (from.len < 4 || !dictionary.len || !z)
		return none;
	len = store_get_be((const uint8_t *)from.ptr, 4);
	from = span_skip(from, 4);
	if (len > LENGTH_MAX || len / 1032 > from.len) /* deflate can't do better */
		return none;
	to = arena_alloc(arena, len + 1);
	if (!z->in_ready)
		z->in_ready = inflateInit2(&z->in, -WINDOW_BITS) == Z_OK;
	else
		inflateReset(&z->in);
	if (!to || !z->in_ready || inflateSetDictionary(&z->in, (const Bytef *)dictionary.ptr, (uInt)dictionary.len) != Z_OK)
		return none;
	z->in.next_in = (Bytef *)(uintptr_t)from.ptr;
	z->in.avail_in = (uInt)from.len;
	z->in.next_out = to;
	z->in.avail_out = (uInt)len + 1;
	if (inflate(&z->in, Z_FINISH) != Z_STREAM_END || z->in.total_out != len || z->in.avail_in)
		return none;
	return span_make(to, len);
}

enum status store_decode(struct store *store, MDB_val value, struct arena *arena, Transaction **out)
{
	const uint8_t *p = value.mv_data;
	struct span message = {NULL, 0};

	if (value.mv_size > HEADER_1 && p[0] == 1) {
		message = span_skip(span_make(p, value.mv_size), HEADER_1);
	} else if (value.mv_size > HEADER_2 && p[0] == 2) {
		message = span_skip(span_make(p, value.mv_size), HEADER_2);
		if (hash_crc32(message) != store_get_be(p + 8, 4))
			return STATUS_INVALID;
		if (p[3])
			message = inflate_message(store, message, p[3], arena);
	}
	if (!message.len)
		return STATUS_INVALID;
	*out = posttrace__transaction__unpack(&arena->allocator, message.len, (const uint8_t *)message.ptr);
	return *out ? STATUS_OK : STATUS_INVALID;
}

/* The index keys of the record that is there now; none when there is no record. */
static enum status present_keys(struct store *store, uint64_t id, struct store_keys *keys)
{
	uint8_t buf[8];
	MDB_val key = store_id_key(buf, id), value;
	Transaction *old;
	enum status status;

	*keys = (struct store_keys){NULL, 0};
	if (mdb_get(store->txn, store->db[DB_TX], &key, &value) != 0)
		return STATUS_ABSENT;
	arena_reset(&store->scratch);
	status = store_decode(store, value, &store->scratch, &old);
	return status == STATUS_OK ? store_keys_of(old, keys) : status;
}

static int index_put(struct store *store, const struct store_key *k, bool add)
{
	MDB_val key = {k->len, (void *)(uintptr_t)k->bytes}, value = {0, NULL};
	int rc;

	if (add)
		return mdb_put(store->txn, store->db[DB_INDEX], &key, &value, 0);
	rc = mdb_del(store->txn, store->db[DB_INDEX], &key, NULL);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Make the index say now what it said before: both sorted, so one walk finds the difference. */
static int change_index(struct store *store, const struct store_keys *before, const struct store_keys *now)
{
	size_t b = 0, n = 0;
	int rc = 0;

	while (rc == 0 && (b < before->n || n < now->n)) {
		int order = b == before->n ? 1 : n == now->n ? -1 : store_key_compare(&before->keys[b], &now->keys[n]);

		if (order < 0) {
			rc = index_put(store, &before->keys[b++], false);
		} else if (order > 0) {
			rc = index_put(store, &now->keys[n++], true);
		} else {
			b++;
			n++;
		}
	}
	return rc;
}

enum status store_put(struct store *store, const Transaction *tx, struct errinfo *err)
{
	struct store_keys before = {NULL, 0}, now = {NULL, 0};
	uint8_t buf[8];
	MDB_val key = store_id_key(buf, tx->id), value;
	enum status status;
	int rc;

	status = present_keys(store, tx->id, &before);
	if (status != STATUS_OK && status != STATUS_ABSENT && status != STATUS_INVALID)
		return errinfo_set(err, status, "store %s: can't read a record: %s", store->directory, status_word(status));
	if (store_encode(store, tx, &value) != STATUS_OK || store_keys_of(tx, &now) != STATUS_OK) {
		store_keys_free(&before);
		return errinfo_set(err, STATUS_NOMEM, "out of memory for a record");
	}
	/* at the end, LMDB begins a new page instead of tearing the full one in two; KEYEXIST: it is not at the end */
	rc = status == STATUS_ABSENT ? mdb_put(store->txn, store->db[DB_TX], &key, &value, MDB_APPEND) : MDB_KEYEXIST;
	if (rc == MDB_KEYEXIST)
		rc = mdb_put(store->txn, store->db[DB_TX], &key, &value, 0);
	if (rc == 0)
		rc = change_index(store, &before, &now);
	store_keys_free(&before);
	store_keys_free(&now);
	return store_fault(err, store, "can't write a record", rc);
}

enum status store_delete(struct store *store, uint64_t id, struct errinfo *err)
{
	struct store_keys before, none = {NULL, 0};
	uint8_t buf[8];
	MDB_val key = store_id_key(buf, id);
	enum status status = present_keys(store, id, &before);
	int rc;

	if (status == STATUS_ABSENT)
		return status;
	rc = change_index(store, &before, &none);
	store_keys_free(&before);
	if (rc == 0)
		rc = mdb_del(store->txn, store->db[DB_TX], &key, NULL);
	return store_fault(err, store, "can't delete a record", rc);
}

enum status store_free_id(struct store *store, int64_t at_us, uint64_t *id, struct errinfo *err)
{
	uint8_t buf[8];
	MDB_val key, value;
	uint64_t want = at_us > 0 ? (uint64_t)at_us : 1;
	int rc;

	do {
		key = store_id_key(buf, want);
		rc = mdb_get(store->txn, store->db[DB_TX], &key, &value);
		if (rc == 0)
			want++;
	} while (rc == 0);
	if (rc != MDB_NOTFOUND)
		return store_fault(err, store, "can't look for a free id", rc);
	*id = want;
	return STATUS_OK;
}

enum status store_get(struct store *store, uint64_t id, struct arena *arena, Transaction **out, struct errinfo *err)
{
	uint8_t buf[8];
	MDB_val key = store_id_key(buf, id), value;
	enum status status;
	bool own;
	int rc;

	status = store_need_txn(store, &own, err);
	if (status != STATUS_OK)
		return status;
	rc = mdb_get(store->txn, store->db[DB_TX], &key, &value);
	status = store_fault(err, store, "can't read a record", rc);
	if (status == STATUS_OK && store_decode(store, value, arena, out) != STATUS_OK)
		status = errinfo_set(err, STATUS_INVALID, "store %s: record %llu is damaged: run \"posttrace store verify\"",
		    store->directory, (unsigned long long)id);
	if (own)
		store_read_end(store);
	return status;
}
