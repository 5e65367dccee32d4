#include "policyd/request.h"
#include "tests/unit/unit.h"

static struct request request;

static const Event *parse(struct span text)
{
	assert_true(request_parse(text, &request));
	return &request.event;
}

static void assert_bytes(Bytes got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	if (got.len)
		assert_memory_equal(got.data, want, got.len);
}

static void attributes_go_to_their_members(void **state)
{
	const Event *event = parse(SPAN("request=smtpd_access_policy\nprotocol_state=RCPT\nclient_port=65535\nsize=18446744073709551615\n"
					"sender=\nrecipient=a=b@x\nencryption_keysize=128\nstress=yes\n"));

	(void)state;
	assert_int_equal(event->type, POSTTRACE__EVENT_TYPE__TRACEPOINT);
	assert_int_equal(event->source, POSTTRACE__SOURCE__SOURCE_POLICY);
	assert_bytes(event->stage, "RCPT");
	assert_int_equal(event->client_port, 65535);
	assert_true(event->size == UINT64_MAX);
	assert_bytes(event->recipient, "a=b@x");
	assert_int_equal(event->tls_bits, 128);
	assert_int_equal(event->n_attributes, 1);
	assert_bytes(event->attributes[0]->name, "stress");
	assert_bytes(event->attributes[0]->value, "yes");
	assert_false(event->truncated);
}

static void the_null_sender_is_a_sender_once_mail_was_said(void **state)
{
	static const struct {
		struct span in;
		bool want;
	} cases[] = {
	    {SPAN("protocol_state=CONNECT\nsender=\n"), false},
	    {SPAN("protocol_state=EHLO\nsender=\n"), false},
	    {SPAN("protocol_state=VRFY\nsender=\n"), false},
	    {SPAN("protocol_state=MAIL\nsender=\n"), true},
	    {SPAN("sender=\nprotocol_state=RCPT\n"), true},
	    {SPAN("protocol_state=DATA\nsender=\n"), true},
	    {SPAN("protocol_state=END-OF-MESSAGE\nsender=\n"), true},
	    {SPAN("protocol_state=ETRN\nsender=a@b\n"), true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(parse(cases[i].in)->has_sender, cases[i].want);
}

static void the_process_id_is_the_first_part_of_instance(void **state)
{
	static const struct {
		struct span in;
		unsigned want;
	} cases[] = {
	    {SPAN("instance=44c0.6b04bd63.c7744.0\n"), 0x44c0},
	    {SPAN("instance=\n"), 0},
	    {SPAN("instance=44c0\n"), 0},
	    {SPAN("instance=xyz.1.2.3\n"), 0},
	    {SPAN("instance=123456789.1.2.3\n"), 0},
	    {SPAN("instance=ffffffff.1\n"), 0xffffffff},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(parse(cases[i].in)->pid, cases[i].want);
}

static void what_should_not_be_there_is_flagged(void **state)
{
	static const struct {
		struct span in;
		bool want;
	} cases[] = {
	    {SPAN("recipient=a\nunheard_of=x\nmail\xff=\xfe\n"), false},
	    {SPAN("recipient=a\r\nsize=1\r\n"), false},
	    {SPAN("recipient=a\nrecipient=a\n"), true},
	    {SPAN("recipient=a\nwords\n"), true},
	    {SPAN("recipient=a\n=x\n"), true},
	    {SPAN("recipient=a\nx=\0y\n"), true},
	    {SPAN("recipient=a\nsize=-1\n"), true},
	    {SPAN("recipient=a\nsize=18446744073709551616\n"), true},
	    {SPAN("recipient=a\nclient_port=4294967296\n"), true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const Event *event = parse(cases[i].in);

		assert_int_equal(event->truncated, cases[i].want);
		assert_bytes(event->recipient, "a");
	}
}

static void a_value_that_does_not_fit_its_member_is_kept_by_name(void **state)
{
	const Event *event = parse(SPAN("size=big\nrecipient=a\nrecipient=b\n"));

	(void)state;
	assert_int_equal(event->n_attributes, 2);
	assert_bytes(event->attributes[0]->name, "size");
	assert_bytes(event->attributes[0]->value, "big");
	assert_bytes(event->attributes[1]->name, "recipient");
	assert_bytes(event->attributes[1]->value, "b");
}

static void unknown_attributes_have_an_end(void **state)
{
	struct strbuf text = STRBUF_INIT;

	(void)state;
	for (int i = 0; i < REQUEST_EXTRA_MAX; i++)
		strbuf_addf(&text, "x%d=%d\n", i, i);
	assert_false(parse(strbuf_span(&text))->truncated);
	strbuf_adds(&text, "one=more\n");
	assert_true(parse(strbuf_span(&text))->truncated);
	assert_int_equal(request.event.n_attributes, REQUEST_EXTRA_MAX);
	strbuf_fini(&text);
}

static void nothing_of_a_request_stays_for_the_next(void **state)
{
	const Event *event;

	(void)state;
	parse(SPAN("protocol_state=RCPT\nrecipient=a\nx=y\nwords\ninstance=1.2.3.4\n"));
	event = parse(SPAN("client_name=b\n"));
	assert_int_equal(event->recipient.len + event->stage.len + event->n_attributes + event->pid, 0);
	assert_false(event->truncated || event->has_sender);
	assert_false(request_parse(SPAN("no attribute"), &request));
	assert_false(request_parse(SPAN(""), &request));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(attributes_go_to_their_members),
	    cmocka_unit_test(the_null_sender_is_a_sender_once_mail_was_said),
	    cmocka_unit_test(the_process_id_is_the_first_part_of_instance),
	    cmocka_unit_test(what_should_not_be_there_is_flagged),
	    cmocka_unit_test(a_value_that_does_not_fit_its_member_is_kept_by_name),
	    cmocka_unit_test(unknown_attributes_have_an_end),
	    cmocka_unit_test(nothing_of_a_request_stays_for_the_next),
	};

	return RUN_UNIT_TESTS(tests);
}
