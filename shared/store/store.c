#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "shared/base/text.h"
#include "shared/store/store_private.h"

#define READERS_MAX   512
#define SCRATCH_BYTES (64u << 20)

static const char *const db_names[DB_COUNT] = {"tx", "index", "open", "conf", "list", "gap", "meta"};

enum status store_fault(struct errinfo *err, const struct store *store, const char *what, int rc)
{
	enum status status;

	switch (rc) {
	case MDB_SUCCESS:
		return STATUS_OK;
	case MDB_NOTFOUND:
		return STATUS_ABSENT;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
		status = STATUS_FULL;
		break;
	case ENOMEM:
		status = STATUS_NOMEM;
		break;
	case EACCES:
	case EPERM:
		status = STATUS_DENIED;
		break;
	case ENOENT:
		status = STATUS_ABSENT;
		break;
	case MDB_READERS_FULL:
		status = STATUS_BUSY;
		break;
	case MDB_INVALID:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_VERSION_MISMATCH:
		status = STATUS_INVALID;
		break;
	default:
		status = STATUS_IO;
	}
	if (status == STATUS_INVALID)
		return errinfo_set(err, status, "store %s is damaged: %s: %s; restore a backup or move it away", store->directory, what,
		    mdb_strerror(rc));
	return errinfo_set(err, status, "store %s: %s: %s", store->directory, what, mdb_strerror(rc));
}

/* LMDB maps the file: one that was cut short would end the process at the first look behind its end. */
static enum status check_file(const struct store *store, struct errinfo *err)
{
	char path[4200];
	struct statfs fs;
	struct stat st;
	MDB_envinfo info;
	MDB_stat stat;

	if (statfs(store->directory, &fs) == 0 && (fs.f_type == 0x6969 || fs.f_type == 0xff534d42 || fs.f_type == 0xfe534d42))
		return errinfo_set(err, STATUS_INVALID,
		    "store %s is on a network file system: LMDB's locks do not hold there; set store_directory to a local one",
		    store->directory);
	snprintf(path, sizeof(path), "%s/data.mdb", store->directory);
	if (mdb_env_info(store->env, &info) == 0 && mdb_env_stat(store->env, &stat) == 0 && lstat(path, &st) == 0 &&
	    (uint64_t)st.st_size < (info.me_last_pgno + 1) * stat.ms_psize)
		return errinfo_set(err, STATUS_INVALID,
		    "store %s is damaged: data.mdb has %llu bytes and should have %llu; restore a backup or move it away",
		    store->directory, (unsigned long long)st.st_size,
		    (unsigned long long)((info.me_last_pgno + 1) * stat.ms_psize));
	return STATUS_OK;
}

/* LMDB 0.9 maps an empty file for a reader and then looks behind its end. */
static bool is_empty(const struct store *store)
{
	char path[4200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/data.mdb", store->directory);
	return !store->writer && stat(path, &st) == 0 && st.st_size == 0;
}

static enum status take_writer_lock(struct store *store, struct errinfo *err)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/writer.lock", store->directory);
	store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (store->lock_fd < 0)
		return errinfo_set(err, errno == EACCES ? STATUS_DENIED : STATUS_IO, "can't open %s: %s", path, strerror(errno));
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return errinfo_set(err, STATUS_BUSY,
		    "store %s is being written by another process: posttrace-recorder is running", store->directory);
	return STATUS_OK;
}

static enum status check_schema(struct store *store, bool fresh, struct errinfo *err)
{
	uint8_t schema[4];
	MDB_val key = {6, (void *)(uintptr_t)"schema"}, value;
	int rc = mdb_get(store->txn, store->db[DB_META], &key, &value);
	uint64_t found = 0;

	if (rc == 0 && value.mv_size == 4)
		found = store_get_be(value.mv_data, 4);
	else if (rc != MDB_NOTFOUND || !store->writer || !fresh)
		return errinfo_set(err, STATUS_INVALID, "store %s holds no schema version: it is not a store of posttrace",
		    store->directory);
	if (found > STORE_SCHEMA)
		return errinfo_set(err, STATUS_VERSION,
		    "store %s was written by a newer posttrace (schema %llu; this program knows up to %d): install that version",
		    store->directory, (unsigned long long)found, STORE_SCHEMA);
	if (!store->writer || found == STORE_SCHEMA)
		return STATUS_OK;
	/* A record says its own version, so an older store needs no more than this: an older program must not read on. */
	store_put_be(schema, STORE_SCHEMA, 4);
	value = (MDB_val){4, schema};
	rc = mdb_put(store->txn, store->db[DB_META], &key, &value, 0);
	return store_fault(err, store, "schema", rc);
}

static enum status open_dbs(struct store *store, struct errinfo *err)
{
	enum status status;
	MDB_stat stat;
	bool fresh;
	int rc;

	rc = mdb_txn_begin(store->env, NULL, store->writer ? 0 : MDB_RDONLY, &store->txn);
	if (rc != 0)
		return store_fault(err, store, "can't begin", rc);
	fresh = mdb_env_stat(store->env, &stat) == 0 && stat.ms_entries == 0;
	for (int i = 0; i < DB_COUNT && rc == 0; i++)
		rc = mdb_dbi_open(store->txn, db_names[i], store->writer ? MDB_CREATE : 0, &store->db[i]);
	if (rc == MDB_NOTFOUND)
		status = errinfo_set(err, STATUS_ABSENT,
		    "there is no store in %s yet: posttrace-recorder makes it at its first start", store->directory);
	else if (rc != 0)
		status = store_fault(err, store, "can't open a table", rc);
	else
		status = check_schema(store, fresh, err);
	if (status != STATUS_OK) {
		mdb_txn_abort(store->txn);
	} else {
		rc = mdb_txn_commit(store->txn); /* for a reader too: it keeps the handles */
		status = store_fault(err, store, "can't commit", rc);
	}
	store->txn = NULL;
	return status;
}

enum status store_open(
    const struct store_settings *settings, enum store_mode mode, struct store **out, struct errinfo *err)
{
	struct store *store = calloc(1, sizeof(*store));
	enum status status;
	uint64_t map;
	int rc, dead = 0;

	if (!store)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	store->lock_fd = -1;
	store->writer = mode == STORE_WRITE;
	store->size_limit = settings->size_limit;
	strbuf_init(&store->packed);
	strbuf_init(&store->plain);
	arena_init(&store->scratch, SCRATCH_BYTES);
	store->directory = strdup(settings->directory);
	if (!store->directory) {
		status = errinfo_set(err, STATUS_NOMEM, "out of memory");
		goto fail;
	}
	if (store->writer && mkdir(store->directory, 02750) != 0 && errno != EEXIST) {
		status = errinfo_set(err, STATUS_IO, "can't make %s: %s", store->directory, strerror(errno));
		goto fail;
	}
	if (store->writer && (status = take_writer_lock(store, err)) != STATUS_OK)
		goto fail;
	rc = is_empty(store) ? ENOENT : mdb_env_create(&store->env);
	if (rc == 0)
		rc = mdb_env_set_maxdbs(store->env, DB_COUNT);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(store->env, READERS_MAX);
	/* Room above the limit, so that deleting, which writes first, works when the limit is reached. */
	map = store->size_limit + store->size_limit / 4 + (64u << 20);
	if (rc == 0 && store->writer)
		rc = mdb_env_set_mapsize(store->env, (size_t)map & ~(size_t)0xfff);
	if (rc == 0)
		rc = mdb_env_open(store->env, store->directory, MDB_NOTLS | (store->writer ? 0 : MDB_RDONLY), 0660);
	if (rc != 0) {
		status = rc == ENOENT ? errinfo_set(err, STATUS_ABSENT,
					    "there is no store in %s: is posttrace-recorder running, and is store_directory right?",
					    store->directory)
			 : rc == EACCES
			     ? errinfo_set(err, STATUS_DENIED,
				   "no permission to read the store %s: readers must be in its group (and may write its lock file)",
				   store->directory)
			     : store_fault(err, store, "can't open", rc);
		goto fail;
	}
	if (store->writer) { /* the data is for the group to read, the lock file for it to write */
		char path[4200];

		snprintf(path, sizeof(path), "%s/data.mdb", store->directory);
		chmod(path, 0640);
	}
	status = check_file(store, err);
	if (status != STATUS_OK)
		goto fail;
	if (!store->writer) /* the recorder is to leave a core */
		store_guard(store);
	mdb_reader_check(store->env, &dead);
	status = open_dbs(store, err);
	if (status != STATUS_OK)
		goto fail;
	*out = store;
	return STATUS_OK;
fail:
	store_close(store);
	return status;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	store_guard_end(store);
	if (store->txn)
		mdb_txn_abort(store->txn);
	if (store->env)
		mdb_env_close(store->env);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	strbuf_fini(&store->packed);
	strbuf_fini(&store->plain);
	store_squeeze_free(store->squeeze);
	arena_fini(&store->scratch);
	free(store->directory);
	free(store);
}

/* --- transactions of LMDB ---------------------------------------------- */

static enum status begin(struct store *store, unsigned flags, struct errinfo *err)
{
	int rc = mdb_txn_begin(store->env, NULL, flags, &store->txn), dead;

	if (rc == MDB_MAP_RESIZED) {
		mdb_env_set_mapsize(store->env, 0);
		rc = mdb_txn_begin(store->env, NULL, flags, &store->txn);
	}
	if (rc == MDB_READERS_FULL && mdb_reader_check(store->env, &dead) == 0 && dead)
		rc = mdb_txn_begin(store->env, NULL, flags, &store->txn);
	if (rc != 0)
		store->txn = NULL;
	return store_fault(err, store, "can't begin", rc);
}

enum status store_begin(struct store *store, struct errinfo *err)
{
	enum status status = begin(store, 0, err);

	store->writing = status == STATUS_OK;
	return status;
}

enum status store_commit(struct store *store, struct errinfo *err)
{
	int rc = mdb_txn_commit(store->txn);

	store->txn = NULL;
	store->writing = false;
	return store_fault(err, store, "can't commit", rc);
}

void store_abort(struct store *store)
{
	if (store->txn)
		mdb_txn_abort(store->txn);
	store->txn = NULL;
	store->writing = false;
}

enum status store_read_begin(struct store *store, struct errinfo *err)
{
	return begin(store, MDB_RDONLY, err);
}

void store_read_end(struct store *store)
{
	store_abort(store);
}

enum status store_need_txn(struct store *store, bool *own, struct errinfo *err)
{
	*own = !store->txn;
	return *own ? store_read_begin(store, err) : STATUS_OK;
}

/* --- small things ------------------------------------------------------- */

static enum status put_span(
    struct store *store, enum store_db db, MDB_val key, struct span data, struct errinfo *err)
{
	MDB_val value = {data.len, (void *)(uintptr_t)data.ptr};
	int rc;

	if (data.len) {
		rc = mdb_put(store->txn, store->db[db], &key, &value, 0);
	} else {
		rc = mdb_del(store->txn, store->db[db], &key, NULL);
		rc = rc == MDB_NOTFOUND ? 0 : rc;
	}
	return store_fault(err, store, "can't write", rc);
}

static enum status get_span(struct store *store, enum store_db db, MDB_val key, struct arena *arena, struct span *out,
    struct errinfo *err)
{
	MDB_val value;
	enum status status;
	bool own;

	status = store_need_txn(store, &own, err);
	if (status != STATUS_OK)
		return status;
	status = store_fault(err, store, "can't read", mdb_get(store->txn, store->db[db], &key, &value));
	if (status == STATUS_OK) {
		struct span copy = arena_span(arena, span_make(value.mv_data, value.mv_size));

		if (copy.ptr)
			*out = copy;
		else
			status = errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	if (own)
		store_read_end(store);
	return status;
}

enum status store_put_value(struct store *store, const char *name, struct span value, struct errinfo *err)
{
	return put_span(store, DB_META, (MDB_val){strlen(name), (void *)(uintptr_t)name}, value, err);
}

enum status store_get_value(
    struct store *store, const char *name, struct arena *arena, struct span *out, struct errinfo *err)
{
	return get_span(store, DB_META, (MDB_val){strlen(name), (void *)(uintptr_t)name}, arena, out, err);
}

enum status store_put_open(struct store *store, uint64_t key, struct span state, struct errinfo *err)
{
	uint8_t buf[8];

	return put_span(store, DB_OPEN, store_id_key(buf, key), state, err);
}

enum status store_put_list(struct store *store, uint64_t digest, struct span text, struct errinfo *err)
{
	uint8_t buf[8];

	return put_span(store, DB_LIST, store_id_key(buf, digest), text, err);
}

enum status store_get_list(
    struct store *store, uint64_t digest, struct arena *arena, struct span *out, struct errinfo *err)
{
	uint8_t buf[8];

	return get_span(store, DB_LIST, store_id_key(buf, digest), arena, out, err);
}

enum status store_put_gap(struct store *store, const Posttrace__Gap *gap, struct errinfo *err)
{
	uint8_t buf[16];
	MDB_val key = {16, buf}, there;

	strbuf_reset(&store->packed);
	if (!strbuf_grow(&store->packed, posttrace__gap__get_packed_size(gap)))
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	store_put_be(buf, gap->from_us, 8);
	for (uint64_t n = (uint64_t)gap->source << 32;; n++) {
		store_put_be(buf + 8, n, 8);
		if (mdb_get(store->txn, store->db[DB_GAP], &key, &there) != 0)
			break;
	}
	return put_span(store, DB_GAP, key,
	    span_make(store->packed.buf, posttrace__gap__pack(gap, (uint8_t *)store->packed.buf)), err);
}

enum status store_put_configuration(struct store *store, const Posttrace__Configuration *conf, struct errinfo *err)
{
	uint8_t buf[8];
	MDB_val key = store_id_key(buf, conf->digest), there;

	if (mdb_get(store->txn, store->db[DB_CONF], &key, &there) == 0)
		return STATUS_OK;
	strbuf_reset(&store->packed);
	if (!strbuf_grow(&store->packed, posttrace__configuration__get_packed_size(conf)))
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	return put_span(store, DB_CONF, key,
	    span_make(store->packed.buf, posttrace__configuration__pack(conf, (uint8_t *)store->packed.buf)), err);
}

enum status store_get_configuration(struct store *store, uint64_t digest, struct arena *arena,
    Posttrace__Configuration **out, struct errinfo *err)
{
	uint8_t buf[8];
	struct span packed;
	enum status status = get_span(store, DB_CONF, store_id_key(buf, digest), arena, &packed, err);

	if (status != STATUS_OK)
		return status;
	*out = posttrace__configuration__unpack(&arena->allocator, packed.len, (const uint8_t *)packed.ptr);
	return *out ? STATUS_OK : errinfo_set(err, STATUS_INVALID, "store %s: a configuration is damaged", store->directory);
}

/* Walk a table; visit returns false to stop. */
static enum status each(struct store *store, enum store_db db, MDB_val *from,
    bool (*visit)(void *arg, MDB_val key, MDB_val value), void *arg, struct errinfo *err)
{
	MDB_cursor *cursor = NULL;
	MDB_val key = from ? *from : (MDB_val){0, NULL}, value;
	enum status status;
	bool own;
	int rc;

	status = store_need_txn(store, &own, err);
	if (status != STATUS_OK)
		return status;
	rc = mdb_cursor_open(store->txn, store->db[db], &cursor);
	if (rc == 0)
		rc = mdb_cursor_get(cursor, &key, &value, from ? MDB_SET_RANGE : MDB_FIRST);
	while (rc == 0) {
		if (!visit(arg, key, value)) {
			status = STATUS_STOPPED;
			break;
		}
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	if (cursor)
		mdb_cursor_close(cursor);
	if (rc != 0 && rc != MDB_NOTFOUND)
		status = store_fault(err, store, "can't read", rc);
	if (own)
		store_read_end(store);
	return status;
}

struct open_visit {
	bool (*fn)(void *arg, uint64_t key, struct span state);
	void *arg;
};

static bool visit_open(void *arg, MDB_val key, MDB_val value)
{
	struct open_visit *v = arg;

	return key.mv_size != 8 || v->fn(v->arg, store_get_be(key.mv_data, 8), span_make(value.mv_data, value.mv_size));
}

enum status store_each_open(
    struct store *store, bool (*fn)(void *arg, uint64_t key, struct span state), void *arg, struct errinfo *err)
{
	struct open_visit v = {fn, arg};

	return each(store, DB_OPEN, NULL, visit_open, &v, err);
}

struct gap_visit {
	bool (*fn)(void *arg, const Posttrace__Gap *gap);
	void *arg;
	struct store *store;
	int64_t since_us, until_us;
};

static bool visit_gap(void *arg, MDB_val key, MDB_val value)
{
	struct gap_visit *v = arg;
	Posttrace__Gap *gap;

	(void)key;
	arena_reset(&v->store->scratch);
	gap = posttrace__gap__unpack(&v->store->scratch.allocator, value.mv_size, value.mv_data);
	if (!gap || (int64_t)gap->until_us < v->since_us || (v->until_us && (int64_t)gap->from_us >= v->until_us))
		return true;
	return v->fn(v->arg, gap);
}

enum status store_each_gap(struct store *store, int64_t since_us, int64_t until_us,
    bool (*fn)(void *arg, const Posttrace__Gap *gap), void *arg, struct errinfo *err)
{
	struct gap_visit v = {fn, arg, store, since_us, until_us};

	return each(store, DB_GAP, NULL, visit_gap, &v, err);
}
