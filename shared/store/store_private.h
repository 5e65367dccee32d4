/* store_private.h - inside shared/store only. */
#ifndef POSTTRACE_STORE_PRIVATE_H
#define POSTTRACE_STORE_PRIVATE_H

#include <lmdb.h>

#include "shared/store/store.h"
#include "shared/store/store_key.h"

enum store_db { DB_TX, DB_INDEX, DB_OPEN, DB_CONF, DB_LIST, DB_GAP, DB_META, DB_COUNT };

#define STORE_DICTIONARY 1 /* the newest; an old number stays readable for ever */

struct store {
	MDB_env *env;
	MDB_dbi db[DB_COUNT];
	MDB_txn *txn; /* the open batch, or the read snapshot */
	bool writing, writer;
	int lock_fd;
	uint64_t size_limit;
	char *directory;
	struct strbuf packed, plain;
	struct store_squeeze *squeeze;
	struct arena scratch;
};

/* The sentence for an LMDB fault. */
enum status store_fault(struct errinfo *err, const struct store *store, const char *what, int rc);
/* For a process that only reads: from here to the end, a crash is a sentence and exit 3. One store at a time. */
void store_guard(const struct store *store);
void store_guard_end(const struct store *store);
/* A read transaction when none is open; *own says whether the caller must end it. */
enum status store_need_txn(struct store *store, bool *own, struct errinfo *err) MUST_CHECK;
/* The bytes of a record; they live until the next call. */
enum status store_encode(struct store *store, const Transaction *tx, MDB_val *out) MUST_CHECK;
enum status store_decode(struct store *store, MDB_val value, struct arena *arena, Transaction **out) MUST_CHECK;
void store_squeeze_free(struct store_squeeze *squeeze);
/* What records are deflated against; empty for a number that is not known. */
struct span store_dictionary(unsigned number);
static inline MDB_val store_id_key(uint8_t buf[8], uint64_t id)
{
	store_put_be(buf, id, 8);
	return (MDB_val){8, buf};
}

uint64_t store_used_bytes(struct store *store);

#endif
