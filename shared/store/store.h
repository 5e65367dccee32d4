/* store.h - keep transactions on disk and find them again. The only code that knows LMDB.
 *
 * Model:   one LMDB environment; one writing process (the recorder, or a command while no recorder runs: they take
 *          turns by a lock file); any number of reading processes with short transactions.
 * Owns:    struct store owns the environment. What is read is a copy in the caller's arena.
 * Errors:  STATUS_ABSENT is an answer. STATUS_FULL: the map is full, the whole batch was dropped, the store is good.
 *          STATUS_VERSION: a newer program wrote it. STATUS_INVALID: damaged, errinfo says what and where.
 * Threads: writing calls from one thread; a struct store is used by one thread at a time.
 * Limits:  see doc/record-format.md. No DUPSORT, no nested transactions, batches under ~1,000 records.
 */
#ifndef POSTTRACE_STORE_H
#define POSTTRACE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/model/smtp_event.h"

#define STORE_SCHEMA 2

struct store;

enum store_mode {
	STORE_READ,   /* the directory must exist; STATUS_ABSENT when there is no store */
	STORE_WRITE,  /* made when absent; takes the writer's lock: STATUS_BUSY when another process holds it */
};

struct store_settings {
	const char *directory;
	uint64_t size_limit; /* store_size; 0: leave as it is (reading) */
};

enum status store_open(const struct store_settings *settings, enum store_mode mode, struct store **out,
    struct errinfo *err) MUST_CHECK;
void store_close(struct store *store);

/* --- writing: everything between begin and commit becomes visible, and durable, at once --- */

enum status store_begin(struct store *store, struct errinfo *err) MUST_CHECK;
/* STATUS_FULL or STATUS_IO: nothing of the batch was kept; the caller may begin again. */
enum status store_commit(struct store *store, struct errinfo *err) MUST_CHECK;
void store_abort(struct store *store);

/* Put or replace the transaction with this id, and its index entries. */
enum status store_put(struct store *store, const Transaction *tx, struct errinfo *err) MUST_CHECK;
enum status store_delete(struct store *store, uint64_t id, struct errinfo *err) MUST_CHECK;
/* An id for a transaction that started at at_us: at_us itself, or the next microsecond that is free in the store
 * (looked up inside the open batch). */
enum status store_free_id(struct store *store, int64_t at_us, uint64_t *id, struct errinfo *err) MUST_CHECK;

/* Small named values that change with the batch: places in the inputs, counters. An empty span deletes. */
enum status store_put_value(struct store *store, const char *name, struct span value, struct errinfo *err) MUST_CHECK;
/* A session that is still open, by its key; an empty span deletes. */
enum status store_put_open(struct store *store, uint64_t key, struct span state, struct errinfo *err) MUST_CHECK;
enum status store_put_gap(struct store *store, const Posttrace__Gap *gap, struct errinfo *err) MUST_CHECK;
/* Kept once under its digest. */
enum status store_put_configuration(
    struct store *store, const Posttrace__Configuration *conf, struct errinfo *err) MUST_CHECK;
/* The text of an instrumented restriction list, under its digest. */
enum status store_put_list(struct store *store, uint64_t digest, struct span text, struct errinfo *err) MUST_CHECK;

/* --- reading: a snapshot from store_read_begin to _end (a writer reads its own batch without one) --- */

enum status store_read_begin(struct store *store, struct errinfo *err) MUST_CHECK;
void store_read_end(struct store *store);

enum status store_get(
    struct store *store, uint64_t id, struct arena *arena, Transaction **out, struct errinfo *err) MUST_CHECK;
enum status store_get_value(
    struct store *store, const char *name, struct arena *arena, struct span *out, struct errinfo *err) MUST_CHECK;
enum status store_get_configuration(struct store *store, uint64_t digest, struct arena *arena,
    Posttrace__Configuration **out, struct errinfo *err) MUST_CHECK;
enum status store_get_list(
    struct store *store, uint64_t digest, struct arena *arena, struct span *out, struct errinfo *err) MUST_CHECK;

/* For each open session; the callback returns false to stop (then STATUS_STOPPED). */
enum status store_each_open(struct store *store, bool (*fn)(void *arg, uint64_t key, struct span state), void *arg,
    struct errinfo *err) MUST_CHECK;
enum status store_each_gap(struct store *store, int64_t since_us, int64_t until_us,
    bool (*fn)(void *arg, const Posttrace__Gap *gap), void *arg, struct errinfo *err) MUST_CHECK;

/* What an index is asked for. */
enum store_index {
	STORE_BY_TIME,           /* every transaction; key is ignored */
	STORE_BY_QUEUE_ID,       /* as Postfix writes it */
	STORE_BY_MESSAGE_ID,     /* without <> */
	STORE_BY_SENDER,         /* local@domain, any case; "" is the null sender */
	STORE_BY_SENDER_DOMAIN,  /* domain */
	STORE_BY_RECIPIENT,
	STORE_BY_RECIPIENT_DOMAIN,
	STORE_BY_CLIENT,         /* 16 bytes of struct netaddr: that address */
	STORE_BY_CLIENT_PORT,    /* 16 bytes and the port in 2 bytes, big-endian */
	STORE_BY_INSTANCE,       /* policy instance */
	STORE_BY_LOGIN,
	STORE_BY_CAUSE,          /* 4 bytes big-endian: the cause's number; that of a recipient counts as well */
	STORE_BY_OUTCOME,        /* 1 byte: Outcome; that of a recipient counts as well */
};

struct store_question {
	enum store_index index;
	struct span key;
	unsigned client_prefix; /* STORE_BY_CLIENT: match this many bits only (netblock.prefix); 0: all 128 */
	int64_t since_us;       /* transactions with since_us <= id < until_us; 0: open */
	int64_t until_us;
	bool oldest_first;      /* default: newest first */
};

/* Candidate ids in order, at most max, into ids; go on by calling again with the same scan. An index can hand out an id
 * whose record does not match (keys are hashes): the caller checks the record. *n is 0 at the end.
 * The scan keeps its own position, so it may run across several read snapshots; it holds no LMDB cursor in between. */
struct store_scan {
	struct store_question question;
	uint64_t private_state[8]; /* zero at the start */
};
enum status store_scan_next(
    struct store *store, struct store_scan *scan, uint64_t *ids, size_t max, size_t *n, struct errinfo *err) MUST_CHECK;

/* --- upkeep --- */

struct store_stat {
	unsigned schema;
	uint64_t transactions, gaps, open_sessions, configurations;
	uint64_t used_bytes, file_bytes, map_bytes; /* pages in use; the file; the limit of the map */
	int64_t oldest_us, newest_us;               /* 0: empty */
	unsigned readers;
};
enum status store_stat(struct store *store, struct store_stat *out, struct errinfo *err) MUST_CHECK;

/* Delete at most max of the oldest transactions that are older than before_us, or as long as used_bytes is over
 * size_limit (0: no limit), inside the open batch. *n is how many; 0: nothing more to do. */
enum status store_prune(struct store *store, int64_t before_us, uint64_t size_limit, size_t max, size_t *n,
    struct errinfo *err) MUST_CHECK;

/* Check every record and every index entry against each other; fn gets a sentence per fault. */
struct store_verify_result {
	uint64_t transactions, index_entries, faults;
};
enum status store_verify(struct store *store, void (*fault)(void *arg, const char *sentence),
    void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct store_verify_result *out,
    struct errinfo *err) MUST_CHECK;

/* A consistent copy of the environment into directory (made, must be empty); compact leaves free pages out. */
enum status store_copy(struct store *store, const char *directory, bool compact, struct errinfo *err) MUST_CHECK;

#endif
