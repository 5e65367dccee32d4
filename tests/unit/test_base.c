#include "shared/base/arena.h"
#include "shared/base/netaddr.h"
#include "shared/base/text.h"
#include "shared/config/options.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void escaped_text_is_harmless_and_reversible(void **state)
{
	static const struct {
		struct span in;
		const char *want;
	} cases[] = {
	    {SPAN("plain"), "plain"},
	    {SPAN("a\x1b[31mb"), "a\\x1b[31mb"},
	    {SPAN("a\nb\tc\rd"), "a\\nb\\tc\\rd"},
	    {SPAN("back\\slash"), "back\\\\slash"},
	    {SPAN("nul\0x"), "nul\\x00x"},
	    {SPAN("\xc3\xbc"), "\xc3\xbc"},
	    {SPAN("\xff\xfe"), "\\xff\\xfe"},
	    {SPAN("\xe2\x80\xae" "evil"), "\\u{202e}evil"},
	    {SPAN("\xc2\x9b"), "\\u{9b}"},
	    {SPAN("\xed\xa0\x80"), "\\xed\\xa0\\x80"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct strbuf out = STRBUF_INIT, back = STRBUF_INIT;

		text_escape(&out, cases[i].in);
		assert_string_equal(out.buf, cases[i].want);
		assert_true(text_unescape(&back, strbuf_span(&out)));
		assert_true(span_eq(strbuf_span(&back), cases[i].in));
		strbuf_fini(&out);
		strbuf_fini(&back);
	}
}

static void text_that_is_not_utf8_becomes_valid(void **state)
{
	struct strbuf out = STRBUF_INIT;

	(void)state;
	text_to_utf8(&out, SPAN("a\xff" "b"));
	assert_string_equal(out.buf, "a\xef\xbf\xbd" "b");
	assert_true(text_is_utf8(strbuf_span(&out)));
	strbuf_fini(&out);
}

static void durations_read_well(void **state)
{
	static const struct {
		long long us;
		const char *want;
	} cases[] = {{412, "412 us"}, {3100, "3.1 ms"}, {2400000, "2.4 s"}, {180000000, "3.0 min"}, {-5000, "-5.0 ms"}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct strbuf out = STRBUF_INIT;

		text_duration(&out, cases[i].us);
		assert_string_equal(out.buf, cases[i].want);
		strbuf_fini(&out);
	}
}

static void networks_match_as_mynetworks_does(void **state)
{
	static const struct {
		const char *block, *addr;
		bool want;
	} cases[] = {
	    {"127.0.0.0/8", "127.0.0.2", true},
	    {"127.0.0.0/8", "128.0.0.1", false},
	    {"192.0.2.7", "192.0.2.7", true},
	    {"192.0.2.7", "192.0.2.8", false},
	    {"[2001:db8::]/32", "2001:db8:1::5", true},
	    {"[2001:db8::/32]", "2001:db9::1", false},
	    {"0.0.0.0/0", "8.8.8.8", true},
	    {"0.0.0.0/0", "::1", false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct netblock block;
		struct netaddr addr;

		assert_true(netblock_parse(span_of(cases[i].block), &block));
		assert_true(netaddr_parse(span_of(cases[i].addr), &addr));
		assert_int_equal(netblock_contains(&block, &addr), cases[i].want);
	}
	assert_false(netblock_parse(SPAN("192.0.2.0/33"), &(struct netblock){.prefix = 0}));
	assert_false(netblock_parse(SPAN("192.0.2.0/"), &(struct netblock){.prefix = 0}));
}

static void an_arena_stops_at_its_cap(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 10000);
	assert_non_null(arena_alloc(&arena, 9000));
	assert_null(arena_alloc(&arena, 2000));
	arena_reset(&arena);
	assert_non_null(arena_alloc(&arena, 2000));
	arena_fini(&arena);
}

static void settings_are_read_as_main_cf_is(void **state)
{
	struct config config;
	struct errinfo err = {""};
	char path[] = "/tmp/posttrace-test-XXXXXX";
	int fd = mkstemp(path);
	FILE *out = fdopen(fd, "w");

	(void)state;
	fputs("# comment\nstore_size = 64M\n  # comment inside\nkeep_headers = Received\n   From\n\n# more\n\tTo\nretention_time=2h\n",
	    out);
	fclose(out);
	config_init(&config);
	assert_int_equal(config_load(&config, path, &err), STATUS_OK);
	assert_int_equal(config.store_size, 64 << 20);
	assert_string_equal(config.keep_headers, "Received From To");
	assert_true(config.retention_time_us == INT64_C(7200000000));
	assert_int_equal(config_assign(&config, "loop_action=explode", &err), STATUS_INVALID);
	assert_string_equal(err.text, "loop_action: \"explode\" is not none, hold, defer or reject");
	assert_int_equal(config_assign(&config, "store_sise=1", &err), STATUS_INVALID);
	assert_int_equal(config_assign(&config, "store_size=1k", &err), STATUS_INVALID);
	config_fini(&config);
	unlink(path);
}

static void listen_addresses_are_understood_in_both_orders(void **state)
{
	struct listen_address addr;

	(void)state;
	assert_int_equal(listen_address_parse("inet:127.0.0.1:8891", &addr, NULL), STATUS_OK);
	assert_string_equal(addr.host, "127.0.0.1");
	assert_int_equal(addr.port, 8891);
	assert_int_equal(listen_address_parse("inet:8891@127.0.0.1", &addr, NULL), STATUS_OK);
	assert_string_equal(addr.host, "127.0.0.1");
	assert_int_equal(addr.port, 8891);
	assert_int_equal(listen_address_parse("inet:[::1]:25", &addr, NULL), STATUS_OK);
	assert_string_equal(addr.host, "::1");
	assert_int_equal(listen_address_parse("unix:/run/x.sock", &addr, NULL), STATUS_OK);
	assert_true(addr.is_unix);
	assert_int_equal(listen_address_parse("unix:run/x.sock", &addr, NULL), STATUS_INVALID);
	assert_int_equal(listen_address_parse("inet:host:0", &addr, NULL), STATUS_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(escaped_text_is_harmless_and_reversible),
	    cmocka_unit_test(text_that_is_not_utf8_becomes_valid),
	    cmocka_unit_test(durations_read_well),
	    cmocka_unit_test(networks_match_as_mynetworks_does),
	    cmocka_unit_test(an_arena_stops_at_its_cap),
	    cmocka_unit_test(settings_are_read_as_main_cf_is),
	    cmocka_unit_test(listen_addresses_are_understood_in_both_orders),
	};
	return RUN_UNIT_TESTS(tests);
}
