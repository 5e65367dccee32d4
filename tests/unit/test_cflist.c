#include "shared/postfix/cflist.h"
#include "tests/unit/unit.h"

static void a_list_falls_into_its_elements(void **state)
{
	static const struct {
		const char *name, *in_list, *want; /* elements with | between */
	} cases[] = {
	    {"commas and white space separate", " a,b\tc\n d,, ", "a|b|c|d"},
	    {"braces hold one element together", "{ unix:x, y=z }, b", "{ unix:x, y=z }|b"},
	    {"braces nest", "{ a { b, c } d } e", "{ a { b, c } d }|e"},
	    {"a brace that is never closed takes the rest", "a { b, c", "a|{ b, c"},
	    {"a closing brace too many is text", "a } b", "a|}|b"},
	    {"nothing", " , ", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct span rest = span_of(cases[i].in_list), element;
		struct strbuf got = STRBUF_INIT;

		while (cflist_next(&rest, &element)) {
			if (got.len)
				strbuf_addch(&got, '|');
			strbuf_addspan(&got, element);
		}
		strbuf_addch(&got, '\0');
		if (strcmp(got.buf, cases[i].want))
			fail_msg("%s: got %s", cases[i].name, got.buf);
		strbuf_fini(&got);
	}
}

static void an_element_goes_to_its_place(void **state)
{
	static const struct {
		const char *in_list;
		unsigned in_position;
		const char *want;
	} cases[] = {
	    {"", 1, "X"},
	    {"a,b", 1, "X, a,b"},
	    {"a,b", 2, "a,X, b"},
	    {"a,b", 0, "a,b, X"},
	    {"a,b", 9, "a,b, X"},
	    {" { a, b } c ", 2, "{ a, b } X, c"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct strbuf got = STRBUF_INIT;

		cflist_insert(&got, span_of(cases[i].in_list), SPAN("X"), cases[i].in_position);
		strbuf_addch(&got, '\0');
		assert_string_equal(got.buf, cases[i].want);
		strbuf_fini(&got);
	}
}

static unsigned x_or_pair(void *arg, struct span element, struct span next)
{
	(void)arg;
	return span_is(element, "X") ? 1 : span_is(element, "P") && span_is(next, "Q") ? 2 : 0;
}

static void only_ours_is_taken_out(void **state)
{
	static const struct {
		const char *in_list, *want;
		unsigned want_removed;
	} cases[] = {
	    {"X, a,b", "a,b", 1},
	    {"a, X,  b", "a, b", 1},
	    {"a, X", "a", 1},
	    {"X", "", 1},
	    {"P Q a P b", "a P b", 1},
	    {"a,  b", "a,  b", 0},
	    {"X a X, P Q", "a", 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct strbuf got = STRBUF_INIT;

		assert_int_equal(cflist_remove(&got, span_of(cases[i].in_list), x_or_pair, NULL), cases[i].want_removed);
		strbuf_addch(&got, '\0');
		assert_string_equal(got.buf, cases[i].want);
		strbuf_fini(&got);
	}
}

static void restrictions_stand_one_a_line_with_their_argument(void **state)
{
	struct strbuf got = STRBUF_INIT;

	(void)state;
	cflist_restrictions(&got, SPAN(" permit_mynetworks,check_policy_service { inet:h:1, timeout=1s } warn_if_reject\n"
				       "reject_rbl_client a.test, warn_if_reject reject_x sleep 1 hash:/t check_x"));
	strbuf_addch(&got, '\0');
	assert_string_equal(got.buf, "permit_mynetworks\ncheck_policy_service { inet:h:1, timeout=1s }\n"
				     "warn_if_reject reject_rbl_client a.test\nwarn_if_reject reject_x\nsleep 1\nhash:/t\ncheck_x\n");
	strbuf_fini(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_list_falls_into_its_elements),
	    cmocka_unit_test(an_element_goes_to_its_place),
	    cmocka_unit_test(only_ours_is_taken_out),
	    cmocka_unit_test(restrictions_stand_one_a_line_with_their_argument),
	};

	return RUN_UNIT_TESTS(tests);
}
