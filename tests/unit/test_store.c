#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared/base/netaddr.h"
#include "shared/store/store.h"
#include "tests/unit/unit.h"

#define T0 INT64_C(1790000000000000)

struct room {
	char path[64];
	struct store *store;
	struct arena arena;
};

static int enter(void **state)
{
	struct room *room = calloc(1, sizeof(*room));
	struct store_settings settings = {room->path, 64 << 20};

	strcpy(room->path, "/tmp/posttrace-store-XXXXXX");
	if (!mkdtemp(room->path))
		return -1;
	arena_init(&room->arena, 64 << 20);
	*state = room;
	return store_open(&settings, STORE_WRITE, &room->store, NULL) == STATUS_OK ? 0 : -1;
}

static int leave(void **state)
{
	struct room *room = *state;
	char cmd[128];

	store_close(room->store);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", room->path);
	arena_fini(&room->arena);
	if (system(cmd) != 0)
		return -1;
	free(room);
	return 0;
}

/* A transaction with one recipient, rN@example.org, from sN@a.test, client 192.0.2.(N mod 250). */
static void put_number(struct store *store, unsigned n, int64_t at_us, const char *queue_id)
{
	char sender[32], rcpt[32];
	uint8_t client[4] = {192, 0, 2, (uint8_t)(n % 250)};
	Recipient r = POSTTRACE__RECIPIENT__INIT, *rs[] = {&r};
	Transaction tx = POSTTRACE__TRANSACTION__INIT;

	snprintf(sender, sizeof(sender), "s%u@a.test", n);
	snprintf(rcpt, sizeof(rcpt), "r%u@Example.org", n);
	tx.id = (uint64_t)at_us;
	tx.has_sender = true;
	tx.sender = bytes_of(span_of(sender));
	tx.client_address = (Bytes){4, client};
	tx.client_port = 1000 + n;
	tx.queue_id = bytes_of(span_of(queue_id));
	r.address = bytes_of(span_of(rcpt));
	r.outcome = POSTTRACE__OUTCOME__ACCEPTED;
	tx.recipients = rs;
	tx.n_recipients = 1;
	tx.outcome = POSTTRACE__OUTCOME__ACCEPTED;
	assert_int_equal(store_put(store, &tx, NULL), STATUS_OK);
}

static size_t ask(struct store *store, struct store_question question, uint64_t *ids, size_t max)
{
	struct store_scan scan = {.question = question};
	size_t n, sum = 0;

	do { /* in small pieces: a scan goes on where it was */
		assert_int_equal(store_scan_next(store, &scan, ids + sum, max - sum < 3 ? max - sum : 3, &n, NULL), STATUS_OK);
		sum += n;
	} while (n && sum < max);
	return sum;
}

static void a_transaction_is_found_by_each_index(void **state)
{
	struct room *room = *state;
	struct store *store = room->store;
	struct netblock block;
	uint64_t ids[100];
	char queue_id[16];

	assert_int_equal(store_begin(store, NULL), STATUS_OK);
	for (unsigned i = 0; i < 50; i++) { /* three hours apart: several buckets */
		snprintf(queue_id, sizeof(queue_id), "4A%04X", i);
		put_number(store, i, T0 + (int64_t)i * 3 * 3600 * 1000000, queue_id);
	}
	assert_int_equal(store_commit(store, NULL), STATUS_OK);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_TIME, {0}, 0, 0, 0, false}, ids, 100), 50);
	assert_true(ids[0] > ids[49]);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_TIME, {0}, 0, 0, 0, true}, ids, 100), 50);
	assert_true(ids[0] == (uint64_t)T0);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_QUEUE_ID, SPAN("4A0007"), 0, 0, 0, false}, ids, 100), 1);
	assert_true(ids[0] == (uint64_t)T0 + UINT64_C(7) * 3 * 3600 * 1000000);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_SENDER, SPAN("S7@A.test"), 0, 0, 0, false}, ids, 100), 1);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_SENDER, SPAN("s99@a.test"), 0, 0, 0, false}, ids, 100), 0);
	assert_int_equal(
	    ask(store, (struct store_question){STORE_BY_RECIPIENT_DOMAIN, SPAN("example.org"), 0, 0, 0, false}, ids, 100), 50);
	for (size_t i = 1; i < 50; i++)
		assert_true(ids[i - 1] > ids[i]);
	assert_int_equal(
	    ask(store,
		(struct store_question){STORE_BY_RECIPIENT_DOMAIN, SPAN("example.org"), 0, T0 + 1, T0 + 12 * 3600 * INT64_C(1000000), true},
		ids, 100),
	    3);
	assert_true(netblock_parse(SPAN("192.0.2.7"), &block));
	assert_int_equal(
	    ask(store, (struct store_question){STORE_BY_CLIENT, span_make(block.addr.bytes, 16), 128, 0, 0, false}, ids, 100), 1);
	assert_true(netblock_parse(SPAN("192.0.2.0/24"), &block));
	assert_int_equal(ask(store,
			     (struct store_question){STORE_BY_CLIENT, span_make(block.addr.bytes, 16), block.prefix, 0, 0, false}, ids, 100),
	    50);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_OUTCOME, SPAN("\x01"), 0, 0, 0, false}, ids, 100), 50);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_OUTCOME, SPAN("\x02"), 0, 0, 0, false}, ids, 100), 0);
}

static void replacing_a_record_moves_its_index_entries(void **state)
{
	struct room *room = *state;
	struct store *store = room->store;
	struct store_verify_result result;
	uint64_t ids[10];

	assert_int_equal(store_begin(store, NULL), STATUS_OK);
	put_number(store, 1, T0, "OLD");
	put_number(store, 2, T0, "NEW");
	assert_int_equal(store_commit(store, NULL), STATUS_OK);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_QUEUE_ID, SPAN("OLD"), 0, 0, 0, false}, ids, 10), 0);
	assert_int_equal(ask(store, (struct store_question){STORE_BY_QUEUE_ID, SPAN("NEW"), 0, 0, 0, false}, ids, 10), 1);
	assert_int_equal(store_verify(store, NULL, NULL, NULL, &result, NULL), STATUS_OK);
	assert_int_equal(result.transactions, 1);
	assert_int_equal(result.faults, 0);
}

static void a_batch_that_is_aborted_leaves_nothing(void **state)
{
	struct room *room = *state;
	struct store_stat st;

	assert_int_equal(store_begin(room->store, NULL), STATUS_OK);
	put_number(room->store, 1, T0, "GONE");
	store_abort(room->store);
	assert_int_equal(store_stat(room->store, &st, NULL), STATUS_OK);
	assert_int_equal(st.transactions, 0);
}

static void a_second_writer_is_refused(void **state)
{
	struct room *room = *state;
	struct store_settings settings = {room->path, 0};
	struct store *second = NULL;
	struct errinfo err = {""};

	assert_int_equal(store_open(&settings, STORE_WRITE, &second, &err), STATUS_BUSY);
	assert_non_null(strstr(err.text, "another process"));
}

static void a_full_store_is_an_answer_and_pruning_makes_room(void **state)
{
	struct room *room = *state;
	struct store *store = room->store;
	enum status status = STATUS_OK;
	unsigned n = 0, noise = 1;
	size_t pruned;

	/* fill beyond every slack: 64 MiB limit + 16 + 64 */
	while (status == STATUS_OK && n < 200000) {
		assert_int_equal(store_begin(store, NULL), STATUS_OK);
		for (int i = 0; i < 500 && status == STATUS_OK; i++, n++) {
			Transaction tx = POSTTRACE__TRANSACTION__INIT;
			char text[1800]; /* nothing that can be packed smaller */

			for (size_t at = 0; at < sizeof(text); at++)
				text[at] = (char)((noise = noise * 1103515245u + 12345u) >> 23);
			tx.id = (uint64_t)T0 + n;
			tx.lost_text = (Bytes){sizeof(text), (uint8_t *)text};
			status = store_put(store, &tx, NULL);
		}
		if (status == STATUS_OK)
			status = store_commit(store, NULL);
		else
			store_abort(store);
	}
	assert_int_equal(status, STATUS_FULL);
	for (int round = 0; round < 100; round++) {
		assert_int_equal(store_begin(store, NULL), STATUS_OK);
		status = store_prune(store, 0, 64 << 20, 100, &pruned, NULL);
		if (status != STATUS_OK) {
			store_abort(store);
			break;
		}
		assert_int_equal(store_commit(store, NULL), STATUS_OK);
	}
	assert_int_equal(store_begin(store, NULL), STATUS_OK);
	put_number(store, 1, T0 + INT64_C(1000000000), "AGAIN");
	assert_int_equal(store_commit(store, NULL), STATUS_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_transaction_is_found_by_each_index, enter, leave),
	    cmocka_unit_test_setup_teardown(replacing_a_record_moves_its_index_entries, enter, leave),
	    cmocka_unit_test_setup_teardown(a_batch_that_is_aborted_leaves_nothing, enter, leave),
	    cmocka_unit_test_setup_teardown(a_second_writer_is_refused, enter, leave),
	    cmocka_unit_test_setup_teardown(a_full_store_is_an_answer_and_pruning_makes_room, enter, leave),
	};
	return RUN_UNIT_TESTS(tests);
}
