/* A store that is damaged, newer, full of dead readers, copied while it is written, pruned under load: each time a clear
 * answer, never a crash. What could end a process runs in one of its own. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/store/store_private.h"
#include "tests/unit/unit.h"

#define T0       INT64_C(1790000000000000)
#define SENTENCE 600

struct room {
	char path[96], data[128];
	struct store_settings settings;
	struct store *store;
};

static void shut(struct room *room)
{
	store_close(room->store);
	room->store = NULL;
}

static int enter(void **state)
{
	struct room *room = calloc(1, sizeof(*room));

	/* in memory where there is such a folder: the times measured are not the disk's */
	snprintf(room->path, sizeof(room->path), "%s/posttrace-faults-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(room->path))
		return -1;
	snprintf(room->data, sizeof(room->data), "%s/data.mdb", room->path);
	room->settings = (struct store_settings){room->path, 256 << 20};
	*state = room;
	return store_open(&room->settings, STORE_WRITE, &room->store, NULL) == STATUS_OK ? 0 : -1;
}

static int leave(void **state)
{
	struct room *room = *state;
	char cmd[160];

	store_close(room->store);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", room->path);
	free(room);
	return system(cmd) == 0 ? 0 : -1;
}

static void put_one(struct store *store, uint64_t id)
{
	char queue_id[24], sender[48], noise[400];
	uint64_t x = id;
	Recipient r = POSTTRACE__RECIPIENT__INIT, *rs[] = {&r};
	Transaction tx = POSTTRACE__TRANSACTION__INIT;

	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)((x = x * UINT64_C(6364136223846793005) + 1442695040888963407) >> 56);
	snprintf(queue_id, sizeof(queue_id), "Q%llX", (unsigned long long)(id - (uint64_t)T0));
	snprintf(sender, sizeof(sender), "s%llu@a.test", (unsigned long long)(id % 10007));
	tx.id = id;
	tx.has_sender = true;
	tx.sender = r.address = bytes_of(span_of(sender));
	tx.queue_id = bytes_of(span_of(queue_id));
	tx.lost_text = (Bytes){sizeof(noise), (uint8_t *)noise};
	tx.recipients = rs;
	tx.n_recipients = 1;
	tx.outcome = r.outcome = POSTTRACE__OUTCOME__ACCEPTED;
	assert_int_equal(store_put(store, &tx, NULL), STATUS_OK);
}

static void put_many(struct store *store, uint64_t from, unsigned n)
{
	for (unsigned i = 0; i < n;) {
		assert_int_equal(store_begin(store, NULL), STATUS_OK);
		for (unsigned end = i + 100; i < end && i < n; i++)
			put_one(store, from + i * UINT64_C(1000));
		assert_int_equal(store_commit(store, NULL), STATUS_OK);
	}
}

static uint64_t faults_of(struct store *store, void (*fault)(void *arg, const char *sentence), void *arg)
{
	struct store_verify_result result;

	assert_int_equal(store_verify(store, fault, NULL, arg, &result, NULL), STATUS_OK);
	return result.faults;
}

/* Open, read and verify in a process of its own. Exit 0: good. 3: refused or damaged, said in a sentence on stderr. */
static int look(const struct room *room, enum store_mode mode, char said[SENTENCE])
{
	int pipes[2], wstatus;
	size_t len = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct store_verify_result result;
		struct errinfo err = {""};
		struct store *store = NULL;
		enum status status;

		dup2(pipes[1], STDERR_FILENO);
		status = store_open(&room->settings, mode, &store, &err);
		if (status == STATUS_OK)
			status = store_verify(store, NULL, NULL, NULL, &result, &err);
		if (status != STATUS_OK)
			dprintf(STDERR_FILENO, "%s", err.text);
		else if (result.faults)
			dprintf(STDERR_FILENO, "store %s is damaged: verify found it", room->path);
		_exit(status != STATUS_OK || result.faults ? 3 : 0);
	}
	close(pipes[1]);
	while (len < SENTENCE - 1 && (got = read(pipes[0], said + len, SENTENCE - 1 - len)) > 0)
		len += (size_t)got;
	said[len] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &wstatus, 0), pid);
	if (!WIFEXITED(wstatus)) {
		print_message("# killed by signal %d; it said: %s\n", WTERMSIG(wstatus), said);
		return -1;
	}
	return WEXITSTATUS(wstatus);
}

static void a_store_of_a_newer_schema_is_refused_with_the_reason(void **state)
{
	struct room *room = *state;
	char said[SENTENCE];
	uint8_t schema[4];

	store_put_be(schema, STORE_SCHEMA + 1, 4);
	put_many(room->store, (uint64_t)T0, 10);
	assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
	assert_int_equal(store_put_value(room->store, "schema", span_make(schema, 4), NULL), STATUS_OK);
	assert_int_equal(store_commit(room->store, NULL), STATUS_OK);
	shut(room);
	for (int mode = STORE_READ; mode <= STORE_WRITE; mode++) {
		assert_int_equal(look(room, (enum store_mode)mode, said), 3);
		assert_non_null(strstr(said, "written by a newer posttrace"));
		assert_non_null(strstr(said, "install that version"));
		assert_non_null(strstr(said, room->path));
	}
}

/* A record as the first schema wrote it: 8 bytes of header, the message as it is. */
static void a_store_of_the_first_schema_is_read_and_upgraded(void **state)
{
	struct room *room = *state;
	Transaction tx = POSTTRACE__TRANSACTION__INIT, *back;
	uint8_t packed[256] = {1, 1, 1}, schema[4] = {0, 0, 0, 1}, buf[8];
	MDB_val key = store_id_key(buf, (uint64_t)T0), value = {8, packed};
	struct arena arena;
	struct span span;

	tx.id = (uint64_t)T0;
	tx.helo = bytes_of(SPAN("old.example"));
	value.mv_size += posttrace__transaction__pack(&tx, packed + 8);
	assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
	assert_int_equal(store_put_value(room->store, "schema", span_make(schema, 4), NULL), STATUS_OK);
	assert_int_equal(mdb_put(room->store->txn, room->store->db[DB_TX], &key, &value, 0), 0);
	assert_int_equal(store_commit(room->store, NULL), STATUS_OK);
	shut(room);
	arena_init(&arena, 1 << 20);
	for (int round = 0; round < 2; round++) { /* a reader leaves it as it is; a writer upgrades it */
		assert_int_equal(store_open(&room->settings, round ? STORE_WRITE : STORE_READ, &room->store, NULL), STATUS_OK);
		assert_int_equal(store_get(room->store, (uint64_t)T0, &arena, &back, NULL), STATUS_OK);
		assert_true(span_is(span_from(back->helo), "old.example"));
		assert_int_equal(store_get_value(room->store, "schema", &arena, &span, NULL), STATUS_OK);
		assert_int_equal(span.ptr[3], round ? STORE_SCHEMA : 1);
		shut(room);
	}
	arena_fini(&arena);
}

static void a_truncated_file_is_refused_with_the_reason(void **state)
{
	struct room *room = *state;
	char said[SENTENCE];
	struct stat st;

	put_many(room->store, (uint64_t)T0, 2000);
	shut(room);
	assert_int_equal(stat(room->data, &st), 0);
	for (off_t size = st.st_size - 1; size > 0; size = size > 64 ? size * 2 / 3 : size - 16) {
		assert_int_equal(truncate(room->data, size), 0);
		for (int mode = STORE_READ; mode <= STORE_WRITE; mode++) {
			assert_int_equal(look(room, (enum store_mode)mode, said), 3);
			assert_non_null(strstr(said, room->path));
			assert_non_null(strstr(said, "damaged"));
			assert_non_null(strstr(said, "move it away"));
		}
	}
	assert_int_equal(truncate(room->data, 0), 0);
	assert_int_equal(look(room, STORE_READ, said), 3);
	assert_non_null(strstr(said, "there is no store"));
}

static void garbage_instead_of_a_store_is_refused_with_the_reason(void **state)
{
	struct room *room = *state;
	char said[SENTENCE];
	FILE *f;

	shut(room);
	f = fopen(room->data, "w");
	assert_non_null(f);
	for (unsigned i = 0, x = 7; i < 100000; i++)
		fputc((int)((x = x * 1103515245u + 12345u) >> 23 & 255), f);
	assert_int_equal(fclose(f), 0);
	for (int mode = STORE_READ; mode <= STORE_WRITE; mode++) {
		assert_int_equal(look(room, (enum store_mode)mode, said), 3);
		assert_non_null(strstr(said, room->path));
		assert_non_null(strstr(said, "move it away"));
	}
}

static void readers_that_were_killed_are_swept(void **state)
{
	enum { READERS = 5 };
	struct room *room = *state;
	int pipes[2], dead = 0;
	pid_t pids[READERS];
	char byte;

	put_many(room->store, (uint64_t)T0, 100);
	assert_int_equal(pipe(pipes), 0);
	for (int i = 0; i < READERS; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			struct store *store;

			if (store_open(&room->settings, STORE_READ, &store, NULL) == STATUS_OK && store_read_begin(store, NULL) == STATUS_OK &&
			    write(pipes[1], "r", 1) == 1)
				for (;;)
					pause();
			_exit(1);
		}
	}
	close(pipes[1]);
	for (int i = 0; i < READERS; i++) /* each holds a snapshot now */
		assert_int_equal(read(pipes[0], &byte, 1), 1);
	close(pipes[0]);
	for (int i = 0; i < READERS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
	assert_int_equal(store_prune(room->store, 0, 0, 10, &(size_t){0}, NULL), STATUS_OK);
	assert_int_equal(store_commit(room->store, NULL), STATUS_OK);
	assert_int_equal(mdb_reader_check(room->store->env, &dead), 0);
	assert_int_equal(dead, 0); /* pruning swept them: none is left to find */
}

struct heard {
	unsigned missing, pointless, unfitting, damaged;
};

static void hear(void *arg, const char *sentence)
{
	struct heard *heard = arg;

	heard->missing += strstr(sentence, "an index entry is missing") != NULL;
	heard->pointless += strstr(sentence, "points to no record") != NULL;
	heard->unfitting += strstr(sentence, "does not fit its record") != NULL;
	heard->damaged += strstr(sentence, "the record is damaged") != NULL;
}

static void seed(struct store *store, enum store_db db, const void *key, size_t key_len, const void *data, size_t len)
{
	MDB_val k = {key_len, (void *)(uintptr_t)key}, v = {len, (void *)(uintptr_t)data};

	assert_int_equal(data ? mdb_put(store->txn, store->db[db], &k, &v, 0) : mdb_del(store->txn, store->db[db], &k, NULL), 0);
}

static void verify_finds_each_kind_of_fault(void **state)
{
	struct room *room = *state;
	struct store *store = room->store;
	Transaction tx = POSTTRACE__TRANSACTION__INIT;
	struct heard heard = {0};
	struct store_keys keys;
	struct arena arena;
	uint8_t buf[8], bytes[4096];
	MDB_val key, value;

	put_many(store, (uint64_t)T0, 50);
	assert_int_equal(faults_of(store, hear, &heard), 0);
	assert_int_equal(store_begin(store, NULL), STATUS_OK);
	/* an entry of a record that is not there */
	tx.id = (uint64_t)T0 + 1;
	tx.queue_id = bytes_of(SPAN("NOBODY"));
	assert_int_equal(store_keys_of(&tx, &keys), STATUS_OK);
	seed(store, DB_INDEX, keys.keys[0].bytes, keys.keys[0].len, "", 0);
	store_keys_free(&keys);
	/* an entry that its record does not ask for, and one that a record asks for and that is gone */
	tx.id = (uint64_t)T0;
	assert_int_equal(store_keys_of(&tx, &keys), STATUS_OK);
	seed(store, DB_INDEX, keys.keys[0].bytes, keys.keys[0].len, "", 0);
	store_keys_free(&keys);
	tx.queue_id = bytes_of(SPAN("Q0"));
	assert_int_equal(store_keys_of(&tx, &keys), STATUS_OK);
	seed(store, DB_INDEX, keys.keys[0].bytes, keys.keys[0].len, NULL, 0);
	store_keys_free(&keys);
	/* a record with one bit turned over */
	key = store_id_key(buf, (uint64_t)T0 + 7000);
	assert_int_equal(mdb_get(store->txn, store->db[DB_TX], &key, &value), 0);
	assert_true(value.mv_size < sizeof(bytes));
	memcpy(bytes, value.mv_data, value.mv_size);
	bytes[value.mv_size / 2] ^= 4;
	seed(store, DB_TX, buf, 8, bytes, value.mv_size);
	assert_int_equal(store_commit(store, NULL), STATUS_OK);
	assert_true(faults_of(store, hear, &heard) >= 4);
	assert_int_equal(heard.missing, 1);
	assert_int_equal(heard.unfitting, 1);
	assert_int_equal(heard.damaged, 1);
	assert_true(heard.pointless >= 1); /* and the entries of the damaged one */
	arena_init(&arena, 1 << 20);
	{
		struct errinfo err = {""};
		Transaction *back;

		assert_int_equal(store_get(store, (uint64_t)T0 + 7000, &arena, &back, &err), STATUS_INVALID);
		assert_non_null(strstr(err.text, "posttrace store verify"));
	}
	arena_fini(&arena);
}

static void copies_taken_while_it_is_written_are_whole(void **state)
{
	struct room *room = *state;
	uint64_t next = (uint64_t)T0;

	put_many(room->store, next, 2000);
	next += 2000 * 1000;
	for (int compact = 0; compact < 2; compact++) {
		struct room copy = {.settings = room->settings};
		unsigned written = 0;
		struct store_stat st;
		char said[SENTENCE];
		int wstatus;
		pid_t pid;

		snprintf(copy.path, sizeof(copy.path), "%.64s/copy%d", room->path, compact);
		copy.settings.directory = copy.path;
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct store *store;

			_exit(store_open(&room->settings, STORE_READ, &store, NULL) != STATUS_OK ||
			      store_copy(store, copy.path, compact, NULL) != STATUS_OK);
		}
		while (waitpid(pid, &wstatus, WNOHANG) == 0) {
			put_many(room->store, next, 100);
			next += 100 * 1000;
			written++;
		}
		assert_true(WIFEXITED(wstatus));
		assert_int_equal(WEXITSTATUS(wstatus), 0);
		assert_true(written > 0);
		assert_int_equal(look(&copy, STORE_READ, said), 0);
		assert_int_equal(store_stat(room->store, &st, NULL), STATUS_OK);
		print_message("# %s: %u batches written meanwhile\n", compact ? "compact" : "backup", written);
	}
	assert_int_equal(faults_of(room->store, NULL, NULL), 0);
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void pruning_under_load_holds_the_bound_and_the_writer_briefly(void **state)
{
	enum { ROUNDS = 150, SLICE = 100, MOST = 150 };
	struct room *room = *state;
	uint64_t next = (uint64_t)T0, limit, most = 0;
	int64_t times[ROUNDS];
	struct store_stat st;

	put_many(room->store, next, 5000);
	next += 5000 * 1000;
	assert_int_equal(store_stat(room->store, &st, NULL), STATUS_OK);
	limit = st.used_bytes;
	for (int round = 0; round < ROUNDS; round++) {
		int64_t begun;
		size_t n;

		put_many(room->store, next, SLICE);
		next += SLICE * 1000;
		begun = now_us();
		assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
		assert_int_equal(store_prune(room->store, 0, limit, MOST, &n, NULL), STATUS_OK);
		assert_int_equal(store_commit(room->store, NULL), STATUS_OK);
		times[round] = now_us() - begun;
		assert_int_equal(store_stat(room->store, &st, NULL), STATUS_OK);
		most = st.used_bytes > most ? st.used_bytes : most;
		assert_true(n <= MOST);
	}
	qsort(times, ROUNDS, sizeof(times[0]), compare_times);
	print_message("# pruning at most %d at a time: the writer is held %lld us at the median, %lld at most\n", MOST,
	    (long long)times[ROUNDS / 2], (long long)times[ROUNDS - 1]);
	assert_true(most <= limit + limit / 20);
	assert_true(times[ROUNDS / 2] < 100000); /* the aim is 10 ms; this holds under valgrind and sanitizers too */
	assert_int_equal(faults_of(room->store, NULL, NULL), 0);
	/* by age: everything goes, in slices, and the index with it */
	for (size_t n = 1; n;) {
		assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
		assert_int_equal(store_prune(room->store, (int64_t)next, 0, SLICE, &n, NULL), STATUS_OK);
		assert_int_equal(store_commit(room->store, NULL), STATUS_OK);
	}
	assert_int_equal(store_stat(room->store, &st, NULL), STATUS_OK);
	assert_int_equal(st.transactions, 0);
	assert_int_equal(faults_of(room->store, NULL, NULL), 0);
}

static void a_clock_that_jumps_back_loses_nothing(void **state)
{
	struct room *room = *state;
	struct store_scan scan = {.question = {.index = STORE_BY_TIME, .oldest_first = true}};
	uint64_t ids[400], id;
	size_t n;

	for (int i = 0; i < 300; i++) { /* an hour back half way, onto times that are taken already */
		int64_t at = T0 + (i < 150 ? i : i - 150) * INT64_C(50000);

		assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
		assert_int_equal(store_free_id(room->store, i < 100 ? at + INT64_C(3600000000) : at, &id, NULL), STATUS_OK);
		put_one(room->store, id);
		assert_int_equal(store_commit(room->store, NULL), STATUS_OK);
	}
	assert_int_equal(store_scan_next(room->store, &scan, ids, 400, &n, NULL), STATUS_OK);
	assert_int_equal(n, 300);
	for (size_t i = 1; i < n; i++)
		assert_true(ids[i - 1] < ids[i]);
	assert_int_equal(faults_of(room->store, NULL, NULL), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, enter, leave)
	const struct CMUnitTest tests[] = {
	    TEST(a_store_of_a_newer_schema_is_refused_with_the_reason),
	    TEST(a_store_of_the_first_schema_is_read_and_upgraded),
	    TEST(a_truncated_file_is_refused_with_the_reason),
	    TEST(garbage_instead_of_a_store_is_refused_with_the_reason),
	    TEST(readers_that_were_killed_are_swept),
	    TEST(verify_finds_each_kind_of_fault),
	    TEST(copies_taken_while_it_is_written_are_whole),
	    TEST(pruning_under_load_holds_the_bound_and_the_writer_briefly),
	    TEST(a_clock_that_jumps_back_loses_nothing),
	};
	return RUN_UNIT_TESTS(tests);
}
