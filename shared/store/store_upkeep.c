#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "shared/store/store_private.h"

uint64_t store_used_bytes(struct store *store)
{
	uint64_t pages = 0;
	MDB_stat stat = {0};

	for (int i = 0; i < DB_COUNT; i++)
		if (mdb_stat(store->txn, store->db[i], &stat) == 0)
			pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
	return pages * stat.ms_psize;
}

static uint64_t count(struct store *store, enum store_db db)
{
	MDB_stat stat;

	return mdb_stat(store->txn, store->db[db], &stat) == 0 ? stat.ms_entries : 0;
}

/* The first or last id; 0 when there is none. */
static uint64_t end_id(struct store *store, bool newest)
{
	MDB_cursor *cursor;
	MDB_val key, value;
	uint64_t id = 0;

	if (mdb_cursor_open(store->txn, store->db[DB_TX], &cursor) != 0)
		return 0;
	if (mdb_cursor_get(cursor, &key, &value, newest ? MDB_LAST : MDB_FIRST) == 0)
		id = store_get_be(key.mv_data, 8);
	mdb_cursor_close(cursor);
	return id;
}

enum status store_stat(struct store *store, struct store_stat *out, struct errinfo *err)
{
	struct store_stat st = {.schema = STORE_SCHEMA};
	char path[4200];
	struct stat file;
	MDB_envinfo info;
	bool own;
	enum status status = store_need_txn(store, &own, err);

	if (status != STATUS_OK)
		return status;
	st.transactions = count(store, DB_TX);
	st.gaps = count(store, DB_GAP);
	st.open_sessions = count(store, DB_OPEN);
	st.configurations = count(store, DB_CONF);
	st.used_bytes = store_used_bytes(store);
	st.oldest_us = (int64_t)end_id(store, false);
	st.newest_us = (int64_t)end_id(store, true);
	if (mdb_env_info(store->env, &info) == 0) {
		st.map_bytes = info.me_mapsize;
		st.readers = info.me_numreaders;
	}
	snprintf(path, sizeof(path), "%s/data.mdb", store->directory);
	if (lstat(path, &file) == 0)
		st.file_bytes = (uint64_t)file.st_size;
	if (own)
		store_read_end(store);
	*out = st;
	return STATUS_OK;
}

enum status store_prune(
    struct store *store, int64_t before_us, uint64_t size_limit, size_t max, size_t *n, struct errinfo *err)
{
	enum status status = STATUS_OK;
	int dead;

	*n = 0;
	mdb_reader_check(store->env, &dead); /* one that was killed would hold on to the pages that become free here */
	while (*n < max && status == STATUS_OK) {
		uint64_t id = end_id(store, false);

		if (!id || ((int64_t)id >= before_us && (!size_limit || store_used_bytes(store) <= size_limit)))
			break;
		status = store_delete(store, id, err);
		if (status == STATUS_OK)
			++*n;
	}
	return status;
}

struct verifying {
	struct store *store;
	void (*fault)(void *arg, const char *sentence);
	void *arg;
	struct store_verify_result result;
	bool search;      /* there are entries that no record asked for */
	uint64_t fitting; /* index entries that records asked for and that are there */
};

static void say_fault(struct verifying *v, const char *what, uint64_t id)
{
	char line[256];

	v->result.faults++;
	snprintf(line, sizeof(line), "transaction %llu: %s", (unsigned long long)id, what);
	if (v->fault)
		v->fault(v->arg, line);
}

static void verify_record(struct verifying *v, MDB_val key, MDB_val value)
{
	struct store *store = v->store;
	uint64_t id = key.mv_size == 8 ? store_get_be(key.mv_data, 8) : 0;
	struct store_keys keys;
	Transaction *tx;

	arena_reset(&store->scratch);
	if (store_decode(store, value, &store->scratch, &tx) != STATUS_OK || tx->id != id) {
		say_fault(v, "the record is damaged", id);
		return;
	}
	v->result.transactions++;
	if (store_keys_of(tx, &keys) != STATUS_OK)
		return;
	for (size_t i = 0; i < keys.n; i++) {
		MDB_val want = {keys.keys[i].len, keys.keys[i].bytes}, there;

		if (mdb_get(store->txn, store->db[DB_INDEX], &want, &there) != 0)
			say_fault(v, "an index entry is missing", id);
		else
			v->fitting++;
	}
	store_keys_free(&keys);
}

static void verify_entry(struct verifying *v, MDB_val key)
{
	struct store *store = v->store;
	struct store_keys keys;
	struct store_key entry = {{0}, 0};
	Transaction *tx;
	uint8_t buf[8];
	MDB_val want = {8, buf}, value;
	uint64_t id;
	bool found = false;

	if (key.mv_size < 9 || key.mv_size > STORE_KEY_MAX) {
		say_fault(v, "an index entry has an impossible length", 0);
		return;
	}
	id = store_key_id(key.mv_data, key.mv_size);
	store_put_be(buf, id, 8);
	v->result.index_entries++;
	if (!v->search)
		return;
	arena_reset(&store->scratch);
	if (mdb_get(store->txn, store->db[DB_TX], &want, &value) != 0 ||
	    store_decode(store, value, &store->scratch, &tx) != STATUS_OK) {
		say_fault(v, "an index entry points to no record", id);
		return;
	}
	memcpy(entry.bytes, key.mv_data, key.mv_size);
	if (store_keys_of(tx, &keys) != STATUS_OK)
		return;
	for (size_t i = 0; i < keys.n && !found; i++)
		found = store_key_compare(&keys.keys[i], &entry) == 0;
	if (!found)
		say_fault(v, "an index entry does not fit its record", id);
	store_keys_free(&keys);
}

enum status store_verify(struct store *store, void (*fault)(void *arg, const char *sentence),
    void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct store_verify_result *out,
    struct errinfo *err)
{
	struct verifying v = {.store = store, .fault = fault, .arg = arg};
	uint64_t total, done = 0;
	enum status status;
	bool own;
	int rc = 0;

	status = store_need_txn(store, &own, err);
	if (status != STATUS_OK)
		return status;
	total = count(store, DB_TX) + count(store, DB_INDEX);
	for (int pass = 0; pass < 2 && rc == 0; pass++) {
		MDB_cursor *cursor;
		MDB_val key, value;

		v.search = v.fitting != count(store, DB_INDEX); /* reading a record for each entry takes ten times as long */
		rc = mdb_cursor_open(store->txn, store->db[pass ? DB_INDEX : DB_TX], &cursor);
		if (rc != 0)
			break;
		for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
		     rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
			if (pass)
				verify_entry(&v, key);
			else
				verify_record(&v, key, value);
			if (progress && ++done % 1024 == 0)
				progress(arg, done, total);
		}
		mdb_cursor_close(cursor);
		rc = rc == MDB_NOTFOUND ? 0 : rc;
	}
	if (own)
		store_read_end(store);
	*out = v.result;
	return store_fault(err, store, "can't read while verifying", rc);
}

enum status store_copy(struct store *store, const char *directory, bool compact, struct errinfo *err)
{
	int rc;

	if (mkdir(directory, 0750) != 0 && errno != EEXIST)
		return errinfo_set(err, STATUS_IO, "can't make %s: %s", directory, strerror(errno));
	rc = mdb_env_copy2(store->env, directory, compact ? MDB_CP_COMPACT : 0);
	if (rc == EEXIST)
		return errinfo_set(err, STATUS_IO, "%s holds a store already: name an empty directory", directory);
	return store_fault(err, store, "can't copy", rc);
}
