/* store_private.h - inside shared/store only. */
#ifndef POSTTRACE_STORE_PRIVATE_H
#define POSTTRACE_STORE_PRIVATE_H

#include <lmdb.h>

#include "shared/store/store.h"
#include "shared/store/store_key.h"

enum store_db { DB_TX, DB_INDEX, DB_OPEN, DB_CONF, DB_LIST, DB_GAP, DB_META, DB_COUNT };

#define RECORD_HEADER 8 /* version, flags, outcome, 0, cause (2), 0, 0 */

struct store {
	MDB_env *env;
	MDB_dbi db[DB_COUNT];
	MDB_txn *txn; /* the open batch, or the read snapshot */
	bool writing, writer;
	int lock_fd;
	uint64_t size_limit;
	char *directory;
	struct strbuf packed;
	struct arena scratch;
};

/* The sentence for an LMDB fault. */
enum status store_fault(struct errinfo *err, const struct store *store, const char *what, int rc);
/* A read transaction when none is open; *own says whether the caller must end it. */
enum status store_need_txn(struct store *store, bool *own, struct errinfo *err) MUST_CHECK;
enum status store_decode(MDB_val value, struct arena *arena, Transaction **out) MUST_CHECK;
uint64_t store_used_bytes(struct store *store);

#endif
