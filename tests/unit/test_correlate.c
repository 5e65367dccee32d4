#include <stdio.h>
#include <stdlib.h>

#include "shared/model/correlate.h"
#include "tests/unit/unit.h"

#define T0 INT64_C(1790000000000000)
#define S  INT64_C(1000000)

#define TYPE(name)   POSTTRACE__EVENT_TYPE__##name
#define SOURCE(name) POSTTRACE__SOURCE__SOURCE_##name

/* A store in memory: what the sink was given last, by id. */
struct bench {
	struct correlate *c;
	struct {
		uint64_t id;
		uint8_t *packed;
		size_t len;
	} records[64];
	size_t n_records;
	struct {
		uint64_t key;
		char *state;
		size_t len;
	} opens[64];
	struct arena arena;
};

static enum status bench_id(void *arg, int64_t start_us, uint64_t *id)
{
	struct bench *b = arg;

	*id = (uint64_t)start_us;
	for (size_t i = 0; i < b->n_records; i++)
		if (b->records[i].id == *id) {
			++*id;
			i = (size_t)-1;
		}
	return STATUS_OK;
}

static enum status bench_put(void *arg, const Transaction *tx)
{
	struct bench *b = arg;
	size_t i, len = posttrace__transaction__get_packed_size(tx);

	for (i = 0; i < b->n_records && b->records[i].id != tx->id; i++)
		;
	if (i == b->n_records)
		b->n_records++;
	free(b->records[i].packed);
	b->records[i].id = tx->id;
	b->records[i].packed = malloc(len);
	b->records[i].len = posttrace__transaction__pack(tx, b->records[i].packed);
	return STATUS_OK;
}

static enum status bench_open(void *arg, uint64_t key, struct span state)
{
	struct bench *b = arg;
	size_t i, slot = 64;

	for (i = 0; i < 64; i++) {
		if (b->opens[i].key == key && b->opens[i].state)
			break;
		if (!b->opens[i].state && slot == 64)
			slot = i;
	}
	if (i == 64)
		i = slot;
	free(b->opens[i].state);
	b->opens[i].state = NULL;
	b->opens[i].key = key;
	if (state.len) {
		b->opens[i].state = malloc(state.len);
		memcpy(b->opens[i].state, state.ptr, state.len);
		b->opens[i].len = state.len;
	}
	return STATUS_OK;
}

static enum status bench_load(void *arg, uint64_t id, struct arena *arena, Transaction **out)
{
	struct bench *b = arg;

	for (size_t i = 0; i < b->n_records; i++)
		if (b->records[i].id == id) {
			*out = posttrace__transaction__unpack(&arena->allocator, b->records[i].len, b->records[i].packed);
			return *out ? STATUS_OK : STATUS_INVALID;
		}
	return STATUS_ABSENT;
}

static void begin(struct bench *b)
{
	struct correlate_sink sink = {b, bench_id, bench_put, bench_open, NULL};

	b->c = correlate_new(&sink);
	assert_non_null(b->c);
}

static int enter(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	arena_init(&b->arena, 16 << 20);
	begin(b);
	*state = b;
	return 0;
}

static int leave(void **state)
{
	struct bench *b = *state;

	correlate_free(b->c);
	for (size_t i = 0; i < 64; i++) {
		free(b->records[i].packed);
		free(b->opens[i].state);
	}
	arena_fini(&b->arena);
	free(b);
	return 0;
}

static void flush(struct bench *b)
{
	assert_int_equal(correlate_flush(b->c), STATUS_OK);
	correlate_flushed(b->c, true);
}

/* kill -9: what was flushed is all that is left. */
static void crash_and_restart(struct bench *b)
{
	flush(b);
	correlate_free(b->c);
	begin(b);
	for (size_t i = 0; i < 64; i++)
		if (b->opens[i].state)
			assert_int_equal(correlate_restore(b->c, b->opens[i].key, span_make(b->opens[i].state, b->opens[i].len),
					     bench_load, b),
			    STATUS_OK);
}

static Event milter(Posttrace__EventType type, unsigned connection, unsigned port, int64_t at_us)
{
	Event e = event_make(type, SOURCE(MILTER), at_us);

	e.connection = connection;
	e.client_address = bytes_of(SPAN("127.0.0.1"));
	e.client_port = port;
	return e;
}

static void say_mail(struct bench *b, unsigned connection, unsigned port, const char *sender, int64_t at_us)
{
	Event e = milter(TYPE(TX_MAIL), connection, port, at_us);

	e.has_sender = true;
	e.sender = bytes_of(span_of(sender));
	correlate_event(b->c, &e, 1, false);
}

static void say_rcpt(struct bench *b, unsigned connection, unsigned port, const char *rcpt, const char *dsn, int64_t at_us)
{
	Event e = milter(TYPE(TX_RCPT), connection, port, at_us);

	e.recipient = bytes_of(span_of(rcpt));
	e.outcome = dsn ? POSTTRACE__OUTCOME__REJECTED : POSTTRACE__OUTCOME__ACCEPTED;
	e.dsn = bytes_of(span_of(dsn ? dsn : ""));
	e.text = bytes_of(span_of(dsn ? "Relay access denied" : ""));
	correlate_event(b->c, &e, 1, false);
}

static void say(struct bench *b, Posttrace__EventType type, unsigned connection, unsigned port, const char *queue_id, int64_t at_us)
{
	Event e = milter(type, connection, port, at_us);

	e.queue_id = bytes_of(span_of(queue_id));
	correlate_event(b->c, &e, 1, false);
}

static void ask(struct bench *b, unsigned pid, unsigned port, const char *instance, const char *sender, const char *rcpt, int64_t at_us)
{
	Event e = event_make(TYPE(TRACEPOINT), SOURCE(POLICY), at_us);

	e.pid = pid;
	e.client_address = bytes_of(SPAN("127.0.0.1"));
	e.client_port = port;
	e.instance = bytes_of(span_of(instance));
	e.has_sender = true;
	e.sender = bytes_of(span_of(sender));
	e.recipient = bytes_of(span_of(rcpt));
	e.stage = bytes_of(SPAN("RCPT"));
	e.policy_context = bytes_of(SPAN("pt:main:relay:1:00112233445566ff"));
	correlate_event(b->c, &e, 2, false);
}

static Event line(Posttrace__EventType type, const char *service, unsigned pid, int64_t at_us)
{
	Event e = event_make(type, SOURCE(MAILLOG), at_us);

	e.pid = pid;
	e.service = bytes_of(span_of(service));
	e.host = bytes_of(SPAN("mx"));
	e.client_address = bytes_of(SPAN("127.0.0.1"));
	return e;
}

static void log_line(struct bench *b, Posttrace__EventType type, unsigned pid, const char *queue_id, const char *text, int64_t at_us)
{
	Event e = line(type, "postfix/smtpd", pid, at_us);

	e.queue_id = bytes_of(span_of(queue_id));
	e.text = bytes_of(span_of(text));
	correlate_event(b->c, &e, 0, true);
}

static void log_reject(struct bench *b, unsigned pid, const char *queue_id, const char *sender, const char *rcpt, int64_t at_us)
{
	Event e = line(TYPE(TX_REFUSED), "postfix/smtpd", pid, at_us);

	e.queue_id = bytes_of(span_of(queue_id));
	e.has_sender = true;
	e.sender = bytes_of(span_of(sender));
	e.recipient = bytes_of(span_of(rcpt));
	e.stage = bytes_of(SPAN("RCPT"));
	e.code = 554;
	e.dsn = bytes_of(SPAN("5.7.1"));
	e.text = bytes_of(SPAN("<r>: Relay access denied"));
	e.outcome = POSTTRACE__OUTCOME__REJECTED;
	correlate_event(b->c, &e, 0, true);
}

static void log_active(struct bench *b, const char *queue_id, const char *sender, int64_t at_us)
{
	Event e = line(TYPE(QUEUE_ACTIVE), "postfix/qmgr", 9, at_us);

	e.queue_id = bytes_of(span_of(queue_id));
	e.has_sender = true;
	e.sender = bytes_of(span_of(sender));
	e.size = 321;
	correlate_event(b->c, &e, 0, true);
}

static Transaction *record(struct bench *b, size_t i)
{
	Transaction *tx = posttrace__transaction__unpack(&b->arena.allocator, b->records[i].len, b->records[i].packed);

	assert_non_null(tx);
	return tx;
}

/* One message to two recipients, one refused, as all three see it; between each two events, do something. */
static void whole_story(struct bench *b, void (*between)(struct bench *b))
{
	say(b, TYPE(LINK_CONNECT), 1, 4242, "", T0);
	between(b);
	say_mail(b, 1, 4242, "a@a.test", T0 + 1000);
	between(b);
	ask(b, 77, 4242, "4d.1.2.0", "a@a.test", "u@a.test", T0 + 2000);
	between(b);
	say_rcpt(b, 1, 4242, "u@a.test", NULL, T0 + 2500);
	between(b);
	ask(b, 77, 4242, "4d.1.2.0", "a@a.test", "far@away.test", T0 + 3000);
	between(b);
	say_rcpt(b, 1, 4242, "far@away.test", "5.7.1", T0 + 3500);
	between(b);
	say(b, TYPE(TX_DATA), 1, 4242, "ABC", T0 + 4000);
	between(b);
	say(b, TYPE(TX_COMMIT), 1, 4242, "ABC", T0 + 5000);
	between(b);
	say(b, TYPE(LINK_DISCONNECT), 1, 4242, "", T0 + 6000);
	between(b);
	log_line(b, TYPE(LINK_CONNECT), 77, "", "", T0);
	between(b);
	log_line(b, TYPE(TX_QUEUED), 77, "ABC", "", T0);
	between(b);
	log_reject(b, 77, "ABC", "a@a.test", "far@away.test", T0);
	between(b);
	log_active(b, "ABC", "a@a.test", T0);
	between(b);
	log_line(b, TYPE(LINK_DISCONNECT), 77, "", " mail=1 rcpt=1/2", T0);
	flush(b);
}

static void check_whole_story(struct bench *b)
{
	Transaction *tx;

	assert_int_equal(b->n_records, 1);
	tx = record(b, 0);
	assert_int_equal(tx->outcome, POSTTRACE__OUTCOME__ACCEPTED);
	assert_int_equal(tx->certainty, POSTTRACE__CERTAINTY__CERTAIN);
	assert_true(tx->done);
	assert_int_equal(tx->sources, 1 << 1 | 1 << 2 | 1 << 3);
	assert_int_equal(tx->n_recipients, 2);
	assert_int_equal(tx->recipients[0]->outcome, POSTTRACE__OUTCOME__ACCEPTED);
	assert_int_equal(tx->recipients[1]->outcome, POSTTRACE__OUTCOME__REJECTED);
	assert_int_equal(tx->recipients[1]->code, 554);
	assert_true(tx->recipients[1]->text_whole);
	assert_int_equal(tx->pid, 77);
	assert_int_equal(tx->size, 321);
	assert_int_equal(tx->n_tracepoints, 1);
	assert_int_equal(tx->tracepoints[0]->n_hits, 4);
	assert_int_equal(tx->cut_sources, 0);
}

static void nothing(struct bench *b)
{
	(void)b;
}

static void three_views_become_one_transaction(void **state)
{
	whole_story(*state, nothing);
	check_whole_story(*state);
}

static void a_flush_after_each_event_changes_nothing(void **state)
{
	whole_story(*state, flush);
	check_whole_story(*state);
}

static void a_crash_after_each_event_changes_nothing(void **state)
{
	whole_story(*state, crash_and_restart);
	check_whole_story(*state);
}

static void two_refused_sessions_of_one_client_are_told_apart_by_their_recipients(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 1; i <= 2; i++) {
		char rcpt[32];

		snprintf(rcpt, sizeof(rcpt), "r%u@away.test", i);
		say(b, TYPE(LINK_CONNECT), i, 1000 + i, "", T0 + i);
		say_mail(b, i, 1000 + i, "s@a.test", T0 + 10 + i);
		say_rcpt(b, i, 1000 + i, rcpt, "5.7.1", T0 + 20 + i);
		say(b, TYPE(TX_ABORT), i, 1000 + i, "", T0 + 30 + i);
		say(b, TYPE(LINK_DISCONNECT), i, 1000 + i, "", T0 + 40 + i);
	}
	/* the log tells them in the other order */
	for (unsigned i = 2; i >= 1; i--) {
		char rcpt[32];

		snprintf(rcpt, sizeof(rcpt), "r%u@away.test", i);
		log_line(b, TYPE(LINK_CONNECT), 100 + i, "", "", T0);
		log_reject(b, 100 + i, "", "s@a.test", rcpt, T0);
		log_line(b, TYPE(LINK_DISCONNECT), 100 + i, "", " mail=1 rcpt=0/1", T0);
	}
	flush(b);
	assert_int_equal(b->n_records, 2);
	for (unsigned i = 0; i < 2; i++) {
		Transaction *tx = record(b, i);

		assert_int_equal(tx->n_recipients, 1);
		assert_int_equal(tx->recipients[0]->code, 554);
		assert_int_equal(tx->outcome, POSTTRACE__OUTCOME__REJECTED);
		assert_int_equal(tx->pid, 100 + tx->client_port - 1000);
	}
}

static void the_log_alone_makes_a_transaction(void **state)
{
	struct bench *b = *state;
	Transaction *tx;

	log_line(b, TYPE(LINK_CONNECT), 7, "", "", T0);
	log_reject(b, 7, "", "s@a.test", "r@away.test", T0);
	log_line(b, TYPE(TX_QUEUED), 7, "Q1", "", T0);
	log_active(b, "Q1", "s@a.test", T0 + S);
	log_line(b, TYPE(LINK_DISCONNECT), 7, "", " mail=1 rcpt=1/2", T0 + S);
	flush(b);
	assert_int_equal(b->n_records, 1);
	tx = record(b, 0);
	assert_int_equal(tx->outcome, POSTTRACE__OUTCOME__ACCEPTED);
	assert_int_equal(tx->n_recipients, 1);
	assert_int_equal(tx->recipients[0]->outcome, POSTTRACE__OUTCOME__REJECTED);
	assert_int_equal(tx->sources, 1 << 3);
}

static void a_queue_id_of_another_sender_parts_from_the_refused(void **state)
{
	struct bench *b = *state;

	log_line(b, TYPE(LINK_CONNECT), 7, "", "", T0);
	log_reject(b, 7, "", "s1@a.test", "r@away.test", T0);
	log_line(b, TYPE(TX_QUEUED), 7, "Q1", "", T0);
	log_active(b, "Q1", "s2@a.test", T0 + S);
	log_line(b, TYPE(LINK_DISCONNECT), 7, "", " mail=2 rcpt=1/2", T0 + S);
	flush(b);
	assert_int_equal(b->n_records, 2);
	assert_int_equal(record(b, 0)->outcome, POSTTRACE__OUTCOME__REJECTED);
	assert_int_equal(record(b, 0)->queue_id.len, 0);
	assert_int_equal(record(b, 1)->outcome, POSTTRACE__OUTCOME__ACCEPTED);
	assert_true(span_is(span_from(record(b, 1)->queue_id), "Q1"));
	assert_true(span_is(span_from(record(b, 1)->sender), "s2@a.test"));
}

static void a_milter_that_was_killed_is_said_to_have_lost_sight(void **state)
{
	struct bench *b = *state;
	Event start = event_make(TYPE(RUN_START), SOURCE(MILTER), T0 + S);
	Transaction *tx;

	say(b, TYPE(LINK_CONNECT), 1, 4242, "", T0);
	say_mail(b, 1, 4242, "a@a.test", T0 + 1000);
	say_rcpt(b, 1, 4242, "u@a.test", NULL, T0 + 2500);
	correlate_event(b->c, &start, 9, false);
	flush(b);
	tx = record(b, 0);
	assert_int_equal(tx->cut_sources, 1 << 1);
	assert_int_equal(tx->certainty, POSTTRACE__CERTAINTY__PROBABLE);
}

static void a_session_goes_on_when_its_milter_was_killed(void **state)
{
	struct bench *b = *state;
	Event start = event_make(TYPE(RUN_START), SOURCE(MILTER), T0 + 3000);
	Transaction *tx;

	say(b, TYPE(LINK_CONNECT), 1, 4242, "", T0);
	say_mail(b, 1, 4242, "a@a.test", T0 + 1000);
	ask(b, 77, 4242, "4d.1.2.0", "a@a.test", "u@a.test", T0 + 2000);
	say_rcpt(b, 1, 4242, "u@a.test", NULL, T0 + 2500);
	correlate_event(b->c, &start, 9, false);
	/* half a minute later: a DNS list was slow */
	correlate_tick(b->c, T0 + 30 * S);
	ask(b, 77, 4242, "4d.1.2.0", "a@a.test", "v@a.test", T0 + 30 * S);
	log_line(b, TYPE(LINK_CONNECT), 77, "", "", T0);
	log_line(b, TYPE(TX_QUEUED), 77, "ABC", "", T0 + 30 * S);
	log_active(b, "ABC", "a@a.test", T0 + 31 * S);
	log_line(b, TYPE(LINK_DISCONNECT), 77, "", " mail=1 rcpt=2", T0 + 31 * S);
	flush(b);
	assert_int_equal(b->n_records, 1);
	tx = record(b, 0);
	assert_int_equal(tx->outcome, POSTTRACE__OUTCOME__ACCEPTED);
	assert_int_equal(tx->sources, 1 << 1 | 1 << 2 | 1 << 3);
	assert_int_equal(tx->cut_sources, 1 << 1);
	assert_int_equal(tx->n_recipients, 2);
	assert_int_equal(tx->recipients[1]->outcome, POSTTRACE__OUTCOME__ACCEPTED);
}

static void a_client_port_that_is_used_again_is_another_session(void **state)
{
	struct bench *b = *state;

	/* without the milter, and the log is late with its end */
	ask(b, 77, 4242, "4d.1.2.0", "a@a.test", "u@a.test", T0);
	say(b, TYPE(LINK_CONNECT), 1, 4242, "", T0 + S);
	say_mail(b, 1, 4242, "b@a.test", T0 + S + 1000);
	ask(b, 88, 4242, "58.1.2.0", "b@a.test", "v@a.test", T0 + S + 2000);
	say_rcpt(b, 1, 4242, "v@a.test", "5.7.1", T0 + S + 2500);
	say(b, TYPE(TX_ABORT), 1, 4242, "", T0 + S + 3000);
	say(b, TYPE(LINK_DISCONNECT), 1, 4242, "", T0 + S + 4000);
	flush(b);
	assert_int_equal(b->n_records, 2);
	assert_int_equal(record(b, 0)->sources, 1 << 2);
	assert_int_equal(record(b, 1)->sources, 1 << 1 | 1 << 2);
	assert_int_equal(record(b, 1)->ordinal, 1);
}

static void a_session_without_mail_leaves_a_record(void **state)
{
	struct bench *b = *state;

	say(b, TYPE(LINK_CONNECT), 1, 4242, "", T0);
	say(b, TYPE(LINK_IDENTIFY), 1, 4242, "", T0 + 5);
	say(b, TYPE(LINK_DISCONNECT), 1, 4242, "", T0 + 10);
	flush(b);
	assert_int_equal(b->n_records, 1);
	assert_int_equal(record(b, 0)->outcome, POSTTRACE__OUTCOME__NO_MAIL);
	assert_int_equal(record(b, 0)->ordinal, 0);
}

static void two_sessions_without_mail_each_get_their_own_log_lines(void **state)
{
	struct bench *b = *state;

	log_line(b, TYPE(LINK_CONNECT), 77, "", "", T0);
	log_line(b, TYPE(LINK_CONNECT), 78, "", "", T0);
	say(b, TYPE(LINK_CONNECT), 1, 4242, "", T0 + 100);
	say(b, TYPE(LINK_CONNECT), 2, 4243, "", T0 + 110);
	say(b, TYPE(LINK_IDENTIFY), 2, 4243, "", T0 + 200);
	say(b, TYPE(LINK_DISCONNECT), 1, 4242, "", T0 + 300);
	say(b, TYPE(LINK_DISCONNECT), 2, 4243, "", T0 + 310);
	/* both clients are the same; only what they said tells them apart */
	log_line(b, TYPE(LINK_DISCONNECT), 78, "", "ehlo=1 quit=1 commands=2", T0);
	log_line(b, TYPE(LINK_DISCONNECT), 77, "", "quit=1 commands=1", T0);
	correlate_tick(b->c, T0 + 2 * S);
	flush(b);
	assert_int_equal(b->n_records, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(record(b, i)->outcome, POSTTRACE__OUTCOME__NO_MAIL);
		assert_int_equal(record(b, i)->sources, 1 << 1 | 1 << 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(three_views_become_one_transaction, enter, leave),
	    cmocka_unit_test_setup_teardown(a_flush_after_each_event_changes_nothing, enter, leave),
	    cmocka_unit_test_setup_teardown(a_crash_after_each_event_changes_nothing, enter, leave),
	    cmocka_unit_test_setup_teardown(
		two_refused_sessions_of_one_client_are_told_apart_by_their_recipients, enter, leave),
	    cmocka_unit_test_setup_teardown(the_log_alone_makes_a_transaction, enter, leave),
	    cmocka_unit_test_setup_teardown(a_queue_id_of_another_sender_parts_from_the_refused, enter, leave),
	    cmocka_unit_test_setup_teardown(a_milter_that_was_killed_is_said_to_have_lost_sight, enter, leave),
	    cmocka_unit_test_setup_teardown(a_session_goes_on_when_its_milter_was_killed, enter, leave),
	    cmocka_unit_test_setup_teardown(a_client_port_that_is_used_again_is_another_session, enter, leave),
	    cmocka_unit_test_setup_teardown(a_session_without_mail_leaves_a_record, enter, leave),
	    cmocka_unit_test_setup_teardown(two_sessions_without_mail_each_get_their_own_log_lines, enter, leave),
	};
	return RUN_UNIT_TESTS(tests);
}
