#include <errno.h>
#include <stdlib.h>

#include "shared/store/store_private.h"

/* private_state: [0] begun, [1] the last id handed out, [2] at the end. Newest first walks the buckets downwards,
 * and the entries of a bucket downwards; the position is the last id, so nothing is pinned between two calls. */

static uint64_t first_id(const struct store_scan *scan)
{
	return scan->question.since_us > 0 ? (uint64_t)scan->question.since_us : 0;
}

static uint64_t last_id(const struct store_scan *scan)
{
	return scan->question.until_us > 0 ? (uint64_t)scan->question.until_us - 1 : UINT64_MAX >> 1;
}

/* Put the cursor on the last key <= *key. */
static int seek_back(MDB_cursor *cursor, MDB_val *key)
{
	MDB_val want = *key, value;
	int rc = mdb_cursor_get(cursor, key, &value, MDB_SET_RANGE);

	if (rc == MDB_NOTFOUND)
		return mdb_cursor_get(cursor, key, &value, MDB_LAST);
	if (rc != 0)
		return rc;
	if (key->mv_size == want.mv_size && memcmp(key->mv_data, want.mv_data, want.mv_size) == 0)
		return 0;
	return mdb_cursor_get(cursor, key, &value, MDB_PREV);
}

static int seek(MDB_cursor *cursor, MDB_val *key, bool forward)
{
	MDB_val value;

	return forward ? mdb_cursor_get(cursor, key, &value, MDB_SET_RANGE) : seek_back(cursor, key);
}

static int step(MDB_cursor *cursor, MDB_val *key, bool forward)
{
	MDB_val value;

	return mdb_cursor_get(cursor, key, &value, forward ? MDB_NEXT : MDB_PREV);
}

static int scan_time(struct store *store, struct store_scan *scan, uint64_t *ids, size_t max, size_t *n)
{
	uint64_t low = first_id(scan), high = last_id(scan), last = scan->private_state[1];
	bool forward = scan->question.oldest_first;
	MDB_cursor *cursor;
	uint8_t buf[8];
	MDB_val key = {8, buf};
	int rc = mdb_cursor_open(store->txn, store->db[DB_TX], &cursor);

	if (rc != 0)
		return rc;
	if (scan->private_state[0])
		store_put_be(buf, forward ? last + 1 : last - 1, 8);
	else
		store_put_be(buf, forward ? low : high, 8);
	for (rc = seek(cursor, &key, forward); rc == 0 && *n < max; rc = step(cursor, &key, forward)) {
		uint64_t id = store_get_be(key.mv_data, 8);

		if (id < low || id > high) {
			rc = MDB_NOTFOUND;
			break;
		}
		ids[(*n)++] = id;
	}
	mdb_cursor_close(cursor);
	return rc;
}

/* The next bucket, from *bucket on, that holds an entry of the wanted kind and middle. */
static int next_bucket(MDB_cursor *cursor, const uint8_t *kind_and_middle, size_t len, uint64_t low, uint64_t high,
    bool forward, uint16_t *bucket, bool *found)
{
	uint8_t buf[STORE_KEY_MAX];
	MDB_val key;
	uint64_t b = *bucket;
	int rc;

	*found = false;
	for (;;) {
		if (b < low >> BUCKET_SHIFT || b > high >> BUCKET_SHIFT)
			return 0;
		store_put_be(buf, b, 2);
		memcpy(buf + 2, kind_and_middle, len);
		memset(buf + 2 + len, forward ? 0 : 0xff, sizeof(buf) - 2 - len);
		key = (MDB_val){sizeof(buf), buf};
		if (forward)
			key.mv_size = 2 + len;
		rc = seek(cursor, &key, forward);
		if (rc != 0)
			return rc == MDB_NOTFOUND ? 0 : rc;
		if (key.mv_size > 2 + len && store_get_be(key.mv_data, 2) == b &&
		    memcmp((uint8_t *)key.mv_data + 2, kind_and_middle, len) == 0) {
			*bucket = (uint16_t)b;
			*found = true;
			return 0;
		}
		/* go to the bucket where the cursor stands, or past this one */
		if (forward) {
			uint64_t at = store_get_be(key.mv_data, 2);

			b = at > b ? at : b + 1;
		} else {
			uint64_t at = store_get_be(key.mv_data, 2);

			if (at < b) {
				b = at;
			} else {
				if (b == 0)
					return 0;
				b--;
			}
		}
	}
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* All ids of a bucket that match and lie between low and high, sorted. */
static int gather(MDB_cursor *cursor, const uint8_t *middle, size_t len, uint16_t bucket, uint64_t low, uint64_t high,
    uint64_t **out, size_t *n)
{
	uint8_t buf[STORE_KEY_MAX];
	MDB_val key = {2 + len, buf};
	uint64_t *ids = NULL;
	size_t count = 0, kept = 0;
	int rc;

	store_put_be(buf, bucket, 2);
	memcpy(buf + 2, middle, len);
	for (rc = seek(cursor, &key, true); rc == 0; rc = step(cursor, &key, true)) {
		uint64_t id;

		if (key.mv_size <= 2 + len || memcmp(key.mv_data, buf, 2 + len) != 0)
			break;
		id = store_key_id(key.mv_data, key.mv_size);
		if (id < low || id > high)
			continue;
		if ((count & (count - 1)) == 0) {
			uint64_t *more = realloc(ids, (count ? 2 * count : 1) * sizeof(*more));

			if (!more) {
				free(ids);
				return ENOMEM;
			}
			ids = more;
		}
		ids[count++] = id;
	}
	if (rc != 0 && rc != MDB_NOTFOUND) {
		free(ids);
		return rc;
	}
	if (count)
		qsort(ids, count, sizeof(*ids), compare_ids);
	for (size_t i = 0; i < count; i++)
		if (!kept || ids[kept - 1] != ids[i])
			ids[kept++] = ids[i];
	*out = ids;
	*n = kept;
	return 0;
}

static int scan_index(struct store *store, struct store_scan *scan, uint64_t *ids, size_t max, size_t *n)
{
	uint64_t low = first_id(scan), high = last_id(scan);
	bool forward = scan->question.oldest_first, found = true;
	uint8_t middle[STORE_KEY_MAX];
	MDB_cursor *cursor;
	uint16_t bucket;
	MDB_val key, value;
	size_t len;
	int rc;

	if (!store_key_wanted(&scan->question, middle, &len))
		return MDB_NOTFOUND;
	rc = mdb_cursor_open(store->txn, store->db[DB_INDEX], &cursor);
	if (rc != 0)
		return rc;
	/* no bucket outside those that there are */
	rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
	if (rc == 0) {
		uint64_t newest = (store_get_be(key.mv_data, 2) + 1) << BUCKET_SHIFT;

		if (high >= newest)
			high = newest - 1;
	}
	if (scan->private_state[0]) {
		if (forward)
			low = scan->private_state[1] + 1;
		else
			high = scan->private_state[1] - 1;
	}
	bucket = (uint16_t)((forward ? low : high) >> BUCKET_SHIFT);
	while (rc == 0 && *n < max && low <= high) {
		uint64_t *in_bucket = NULL;
		size_t count = 0;

		rc = next_bucket(cursor, middle, len, low, high, forward, &bucket, &found);
		if (rc != 0 || !found)
			break;
		rc = gather(cursor, middle, len, bucket, low, high, &in_bucket, &count);
		for (size_t i = 0; rc == 0 && i < count && *n < max; i++)
			ids[(*n)++] = in_bucket[forward ? i : count - 1 - i];
		free(in_bucket);
		if (forward ? bucket == UINT16_MAX : bucket == 0)
			break;
		bucket = (uint16_t)(forward ? bucket + 1 : bucket - 1);
	}
	mdb_cursor_close(cursor);
	return rc;
}

enum status store_scan_next(
    struct store *store, struct store_scan *scan, uint64_t *ids, size_t max, size_t *n, struct errinfo *err)
{
	enum status status;
	bool own;
	int rc;

	*n = 0;
	if (scan->private_state[2])
		return STATUS_OK;
	status = store_need_txn(store, &own, err);
	if (status != STATUS_OK)
		return status;
	rc = scan->question.index == STORE_BY_TIME ? scan_time(store, scan, ids, max, n)
						   : scan_index(store, scan, ids, max, n);
	if (own)
		store_read_end(store);
	if (rc != 0 && rc != MDB_NOTFOUND)
		return store_fault(err, store, "can't search", rc);
	if (*n) {
		scan->private_state[0] = 1;
		scan->private_state[1] = ids[*n - 1];
	} else {
		scan->private_state[2] = 1;
	}
	return STATUS_OK;
}
