#include "recorder/logline.h"
#include "shared/base/clock.h"
#include "shared/base/text.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <time.h>

/* 2026-11-24T00:00:00Z */
#define REFERENCE_US (INT64_C(1795478400) * US_PER_SEC)

/* The members that are set, in the order of record.proto; stamp, host, service and pid are told apart. */
static void describe(const Event *e, struct strbuf *out)
{
	strbuf_adds(out, event_type_name(e->type));
#define SHOW(member) \
	if (e->member.data) { \
		strbuf_adds(out, " " #member "="); \
		text_escape(out, span_from(e->member)); \
	}
#define COUNT(member) \
	if (e->member) \
		strbuf_addf(out, " " #member "=%u", (unsigned)e->member);
	SHOW(client_address) COUNT(client_port) SHOW(client_name) SHOW(helo) SHOW(protocol) SHOW(tls_protocol)
	SHOW(tls_cipher) COUNT(tls_bits) SHOW(sasl_method) SHOW(sasl_username) SHOW(sasl_sender) SHOW(queue_id)
	SHOW(message_id) SHOW(sender) SHOW(recipient) COUNT(size) COUNT(recipient_count)
	if (outcome_name(e->outcome))
		strbuf_addf(out, " outcome=%s", outcome_name(e->outcome));
	COUNT(code) SHOW(dsn) SHOW(text) SHOW(stage) SHOW(orig_client) SHOW(orig_queue_id)
	for (size_t i = 0; i < e->n_attributes; i++) {
		strbuf_addf(out, " [%.*s]=", (int)e->attributes[i]->name.len, (char *)e->attributes[i]->name.data);
		text_escape(out, span_from(e->attributes[i]->value));
	}
}

struct form {
	const char *name, *in_tag, *in_words, *want;
};

static void check_forms(const struct form *forms, size_t n)
{
	struct logline_clock clock = {{0}, 0, 0};
	struct arena arena;

	arena_init(&arena, 1 << 16);
	for (size_t i = 0; i < n; i++) {
		struct strbuf line = STRBUF_INIT, got = STRBUF_INIT;
		struct logline out;

		strbuf_addf(&line, "Nov 23 22:37:22 a %s[31761]: %s", forms[i].in_tag, forms[i].in_words);
		if (logline_parse(&clock, strbuf_span(&line), REFERENCE_US, &arena, &out) == STATUS_OK) {
			assert_true(out.coarse);
			assert_int_equal(out.event.source, POSTTRACE__SOURCE__SOURCE_MAILLOG);
			assert_int_equal(out.event.pid, 31761);
			assert_true(span_is(span_from(out.event.host), "a"));
			assert_true(span_is(span_from(out.event.service), forms[i].in_tag));
			describe(&out.event, &got);
		}
		if (strcmp(got.buf, forms[i].want) != 0)
			fail_msg("%s:\n got %s\nwant %s", forms[i].name, got.buf, forms[i].want);
		strbuf_fini(&line);
		strbuf_fini(&got);
	}
	arena_fini(&arena);
}

static void smtpd_tells_of_the_session(void **state)
{
	static const struct form forms[] = {
	    {"connect", "postfix/smtpd", "connect from h.test[192.0.2.7]", "link-connect client_address=192.0.2.7 client_name=h.test"},
	    {"connect with a port, IPv6", "postfix-out/submission/smtpd", "connect from unknown[2001:db8::1]:4242",
		"link-connect client_address=2001:db8::1 client_port=4242 client_name=unknown"},
	    {"disconnect", "postfix/smtpd", "disconnect from h[192.0.2.7] ehlo=1 rcpt=4/5 commands=5/6",
		"link-disconnect client_address=192.0.2.7 client_name=h text=ehlo=1 rcpt=4/5 commands=5/6"},
	    {"lost", "a/smtpd", "lost connection after DATA (33 bytes) from h[192.0.2.7]",
		"link-lost client_address=192.0.2.7 client_name=h text=lost connection after DATA (33 bytes) stage=DATA"},
	    {"timeout", "a/smtpd", "timeout after END-OF-MESSAGE from h[192.0.2.7]:99",
		"link-lost client_address=192.0.2.7 client_port=99 client_name=h text=timeout after END-OF-MESSAGE stage=END-OF-MESSAGE"},
	    {"too many errors, as newer ones say it", "a/smtpd", "4jYMc36F5kz1bcDR: too many errors after RCPT from h[192.0.2.7]",
		"link-lost client_address=192.0.2.7 client_name=h queue_id=4jYMc36F5kz1bcDR text=too many errors after RCPT stage=RCPT"},
	    {"client", "a/smtpd", "420ABA8487F: client=unknown[127.0.0.6]",
		"tx-begin client_address=127.0.0.6 client_name=unknown queue_id=420ABA8487F"},
	    {"login and XFORWARD", "a/smtpd",
		"420ABA8487F: client=l[127.0.0.1]:77, sasl_method=PLAIN, sasl_username=joe@a.test, sasl_sender=j, orig_queue_id=ABCDEF, orig_client=r.org[192.0.2.7]",
		"tx-begin client_address=127.0.0.1 client_port=77 client_name=l sasl_method=PLAIN sasl_username=joe@a.test sasl_sender=j queue_id=420ABA8487F orig_client=r.org[192.0.2.7] orig_queue_id=ABCDEF"},
	    {"failed login", "a/smtpd", "warning: h[192.0.2.7]: SASL PLAIN authentication failed: no, sasl_username=joe",
		"log-note client_address=192.0.2.7 client_name=h sasl_method=PLAIN sasl_username=joe text=warning: h[192.0.2.7]: SASL PLAIN authentication failed: no, sasl_username=joe"},
	    {"TLS", "a/smtpd", "Anonymous TLS connection established from h[192.0.2.7]: TLSv1.3 with cipher AES (256/256 bits) key",
		"log-note client_address=192.0.2.7 client_name=h tls_protocol=TLSv1.3 tls_cipher=AES tls_bits=256 text=Anonymous TLS connection established from h[192.0.2.7]: TLSv1.3 with cipher AES (256/256 bits) key"},
	    {"TLS failure", "a/smtpd", "SSL_accept error from h[192.0.2.7]: -1",
		"log-note client_address=192.0.2.7 client_name=h text=SSL_accept error from h[192.0.2.7]: -1"},
	    {"a milter is gone", "a/smtpd", "warning: connect to Milter service inet:127.0.0.1:9: Connection refused",
		"log-note text=warning: connect to Milter service inet:127.0.0.1:9: Connection refused"},
	    {"size limit", "a/smtpd", "warning: 420ABA8487F: queue file size limit exceeded",
		"tx-refused queue_id=420ABA8487F outcome=rejected code=552 text=queue file size limit exceeded stage=DATA"},
	    {"of no interest", "a/smtpd", "table hash:/x has changed -- restarting", ""},
	    {"another program", "a/postscreen", "CONNECT from [192.0.2.7]:1 to [192.0.2.8]:25", ""},
	    {"a command with a client's name in it is no lost connection", "a/smtpd",
		"improper command pipelining after EHLO from h[192.0.2.7]: x after y from z[1.2.3.4]",
		"log-note client_address=192.0.2.7 client_name=h text=improper command pipelining after EHLO from h[192.0.2.7]: x after y from z[1.2.3.4]"},
	};
	(void)state;
	check_forms(forms, sizeof(forms) / sizeof(forms[0]));
}

#define WHO "client_address=192.0.2.7 client_name=h "

static void refusals_are_taken_apart(void **state)
{
	static const struct form forms[] = {
	    {"relay", "a/smtpd",
		"NOQUEUE: reject: RCPT from h[192.0.2.7]: 554 5.7.1 <r@x>: Relay access denied; from=<s@y> to=<r@x> proto=ESMTP helo=<h>",
		"tx-refused " WHO "helo=h protocol=ESMTP sender=s@y recipient=r@x outcome=rejected code=554 dsn=5.7.1 text=<r@x>: Relay access denied stage=RCPT"},
	    {"greylisting of the null sender, in a transaction with a queue id", "a/smtpd",
		"420ABA8487F: reject: RCPT from h[192.0.2.7]:5: 450 4.7.1 <r>: later; http://x/; from=<> to=<r> proto=SMTP helo=<h>",
		"tx-refused client_address=192.0.2.7 client_port=5 client_name=h helo=h protocol=SMTP queue_id=420ABA8487F sender= recipient=r outcome=deferred code=450 dsn=4.7.1 text=<r>: later; http://x/ stage=RCPT"},
	    {"at connect", "a/smtpd", "NOQUEUE: reject: CONNECT from h[192.0.2.7]: 554 5.7.1 <h[192.0.2.7]>: Client host rejected: no; proto=SMTP",
		"tx-refused " WHO "protocol=SMTP outcome=rejected code=554 dsn=5.7.1 text=<h[192.0.2.7]>: Client host rejected: no stage=CONNECT"},
	    {"no trailer", "a/smtpd", "NOQUEUE: reject: RCPT from h[192.0.2.7]: 421 4.3.0 a Server local data error",
		"tx-refused " WHO "outcome=deferred code=421 dsn=4.3.0 text=a Server local data error stage=RCPT"},
	    {"an empty trailer", "a/smtpd", "NOQUEUE: milter-reject: CONNECT from h[192.0.2.7]: 421 4.7.0 Closing;",
		"tx-refused " WHO "outcome=deferred code=421 dsn=4.7.0 text=Closing stage=CONNECT"},
	    {"a trailer in the reply's text", "a/smtpd",
		"NOQUEUE: reject: RCPT from h[192.0.2.7]: 550 5.7.1 x; from=<e@e> to=<e@e> proto=SMTP helo=<e>; from=<s> to=<r> proto=ESMTP helo=<h>",
		"tx-refused " WHO "helo=h protocol=ESMTP sender=s recipient=r outcome=rejected code=550 dsn=5.7.1 text=x; from=<e@e> to=<e@e> proto=SMTP helo=<e> stage=RCPT"},
	    {"a trailer in a quoted recipient", "a/smtpd",
		"NOQUEUE: reject: RCPT from h[192.0.2.7]: 550 5.1.1 <\"q; from=<e> to=<e>\"@x>: no; from=<s> to=<\"q; from=<e> to=<e>\"@x> proto=ESMTP helo=<h>",
		"tx-refused " WHO "helo=h protocol=ESMTP sender=s recipient=\"q; from=<e> to=<e>\"@x outcome=rejected code=550 dsn=5.1.1 text=<\"q; from=<e> to=<e>\"@x>: no stage=RCPT"},
	    {"quotes and backslashes in the sender", "a/smtpd",
		"NOQUEUE: reject: RCPT from h[192.0.2.7]: 550 5.1.1 no; from=<\"a\\\"> to=<b\"@y> to=<r> proto=ESMTP helo=<h> sasl_username=<joe>",
		"tx-refused " WHO "helo=h protocol=ESMTP sasl_username=joe sender=\"a\\\\\"> to=<b\"@y recipient=r outcome=rejected code=550 dsn=5.1.1 text=no stage=RCPT"},
	    {"an address that is not quoted", "a/smtpd",
		"NOQUEUE: reject: RCPT from h[192.0.2.7]: 550 5.1.1 no; from=<a\"b@y> to=<r> proto=ESMTP helo=<h>",
		"tx-refused " WHO "helo=h protocol=ESMTP sender=a\"b@y recipient=r outcome=rejected code=550 dsn=5.1.1 text=no stage=RCPT"},
	    {"a warning refuses nothing", "a/smtpd",
		"NOQUEUE: reject_warning: RCPT from h[192.0.2.7]: 554 5.7.1 no; from=<s> to=<r> proto=ESMTP helo=<h>",
		"log-note " WHO "helo=h protocol=ESMTP sender=s recipient=r code=554 dsn=5.7.1 text=reject_warning: RCPT from h[192.0.2.7]: 554 5.7.1 no stage=RCPT"},
	    {"hold", "a/smtpd", "420ABA8487F: hold: RCPT from h[192.0.2.7]: <h>: Client host triggers HOLD action; from=<s> to=<r> proto=ESMTP helo=<h>",
		"log-note " WHO "helo=h protocol=ESMTP queue_id=420ABA8487F sender=s recipient=r text=hold: RCPT from h[192.0.2.7]: <h>: Client host triggers HOLD action stage=RCPT"},
	    {"before-queue proxy", "a/smtpd", "proxy-reject: END-OF-MESSAGE: 550 5.7.1 spam; from=<s> to=<r> proto=ESMTP helo=<h>",
		"tx-refused helo=h protocol=ESMTP sender=s recipient=r outcome=rejected code=550 dsn=5.7.1 text=spam stage=END-OF-MESSAGE"},
	    {"a milter in cleanup states no code", "a/cleanup",
		"420ABA8487F: milter-reject: END-OF-MESSAGE from h[192.0.2.7]: 5.7.1 spam; from=<s> to=<r> proto=ESMTP helo=<h>",
		"tx-refused " WHO "helo=h protocol=ESMTP queue_id=420ABA8487F sender=s recipient=r outcome=rejected dsn=5.7.1 text=spam stage=END-OF-MESSAGE"},
	    {"a header", "a/cleanup",
		"420ABA8487F: reject: header Subject: a from b[1.2.3.4]; from=<e> from h[192.0.2.7]; from=<s> to=<r> proto=ESMTP helo=<h>: 5.7.1 no spam; please",
		"tx-refused " WHO "helo=h protocol=ESMTP queue_id=420ABA8487F sender=s recipient=r outcome=rejected code=550 dsn=5.7.1 text=no spam; please stage=header [content]=Subject: a from b[1.2.3.4]; from=<e>"},
	    {"a header of a local submission", "a/cleanup", "420ABA8487F: reject: header Subject: x from local; from=<s>: 5.7.1 no",
		"tx-refused queue_id=420ABA8487F sender=s outcome=rejected dsn=5.7.1 text=no stage=header [content]=Subject: x"},
	    {"hop count", "a/cleanup", "warning: 420ABA8487F: message rejected: hopcount exceeded",
		"tx-refused queue_id=420ABA8487F outcome=rejected code=554 dsn=5.4.0 text=message rejected: hopcount exceeded stage=END-OF-MESSAGE"},
	    {"alias nesting", "a/cleanup", "warning: 420ABA8487F: unreasonable virtual_alias_maps map nesting for x -- message not accepted, try again later",
		"tx-refused queue_id=420ABA8487F outcome=deferred text=unreasonable virtual_alias_maps map nesting for x -- message not accepted, try again later stage=END-OF-MESSAGE"},
	};
	(void)state;
	check_forms(forms, sizeof(forms) / sizeof(forms[0]));
}

static void the_queue_tells_of_the_message(void **state)
{
	static const struct form forms[] = {
	    {"message-id", "a/cleanup", "420ABA8487F: message-id=<x@y>", "tx-message-id queue_id=420ABA8487F message_id=x@y"},
	    {"empty message-id", "a/cleanup", "420ABA8487F: message-id=<>", "tx-message-id queue_id=420ABA8487F message_id="},
	    {"resent", "a/cleanup", "420ABA8487F: resent-message-id=<x@y> (c)", "tx-message-id queue_id=420ABA8487F message_id=x@y text=resent-message-id"},
	    {"without brackets", "a/cleanup", "420ABA8487F: message-id=x@y", "tx-message-id queue_id=420ABA8487F message_id=x@y"},
	    {"active", "a/qmgr", "4jYMc36F5kz1bcDR: from=<s@y>, size=345, nrcpt=2 (queue active)",
		"queue queue_id=4jYMc36F5kz1bcDR sender=s@y size=345 recipient_count=2"},
	    {"active, null sender", "a/qmgr", "420ABA8487F: from=<>, size=9, nrcpt=1 (queue active)", "queue queue_id=420ABA8487F sender= size=9 recipient_count=1"},
	    {"active, forged sender", "a/qmgr", "420ABA8487F: from=<\"a>, size=1, nrcpt=9\"@y>, size=345, nrcpt=2 (queue active)",
		"queue queue_id=420ABA8487F sender=\"a>, size=1, nrcpt=9\"@y size=345 recipient_count=2"},
	    {"removed", "a/qmgr", "420ABA8487F: removed", "queue-removed queue_id=420ABA8487F"},
	    {"expired", "a/qmgr", "420ABA8487F: from=<s>, status=expired, returned to sender", "log-note queue_id=420ABA8487F text=from=<s>, status=expired, returned to sender"},
	    {"pickup", "a/pickup", "420ABA8487F: uid=0 from=<root>", "pickup queue_id=420ABA8487F sender=root text=uid=0"},
	    {"delivery", "postfix/relay/smtp", "420ABA8487F: to=<u>, orig_to=<p>, relay=x[127.0.0.11]:25, delay=0.04, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok)",
		"delivery queue_id=420ABA8487F recipient=u outcome=accepted dsn=2.0.0 text=orig_to=<p>, relay=x[127.0.0.11]:25, delay=0.04, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok)"},
	    {"deferral", "a/smtp", "420ABA8487F: to=<u>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (x, dsn=2.0.0, status=sent)",
		"delivery queue_id=420ABA8487F recipient=u outcome=deferred dsn=4.4.1 text=relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (x, dsn=2.0.0, status=sent)"},
	    {"bounce", "a/bounce", "420ABA8487F: sender non-delivery notification: 4249087F", "log-note queue_id=420ABA8487F text=sender non-delivery notification: 4249087F"},
	    {"words are no queue id", "a/qmgr", "statistics: x", ""},
	};
	(void)state;
	check_forms(forms, sizeof(forms) / sizeof(forms[0]));
}

static void stamps_become_moments(void **state)
{
	static const struct {
		const char *in_line, *in_zone;
		int64_t in_reference, want; /* seconds; want 0: no line of Postfix */
		bool want_coarse;
	} cases[] = {
	    {"Nov 23 22:37:22 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1795478400, 1795473442, true},
	    {"Nov 23 22:37:22 a p/smtpd[1]: connect from h[1.2.3.4]", "CET-1CEST,M3.5.0,M10.5.0/3", 1795478400, 1795469842, true},
	    {"<22>Nov  3 22:37:22 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1795478400, 1793745442, true},
	    /* read on 1 January: last year's; read on 31 December with a clock ahead: next year's */
	    {"Dec 31 23:59:59 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1798761605, 1798761599, true},
	    {"Jan  1 00:00:01 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1798761590, 1798761601, true},
	    {"Feb 29 12:00:00 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1795478400, 1709208000, true},
	    /* 02:30 comes twice on 25 October 2026 */
	    {"Oct 25 02:30:00 a p/smtpd[1]: connect from h[1.2.3.4]", "CET-1CEST,M3.5.0,M10.5.0/3", 1792888201, 1792888200, true},
	    {"Oct 25 02:30:00 a p/smtpd[1]: connect from h[1.2.3.4]", "CET-1CEST,M3.5.0,M10.5.0/3", 1792891801, 1792891800, true},
	    {"2026-11-23T22:37:22.5+01:00 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 0, 1795469842, false},
	    {"2026-11-23T22:37:22Z a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 0, 1795473442, true},
	    {"<22>1 2026-11-23T22:37:22.000001-0130 a p/smtpd 1 - - connect from h[1.2.3.4]", "UTC", 0, 1795478842, false},
	    {"<22>1 2026-11-23T22:37:22Z a p/smtpd 1 - [x y=\"z\"] connect from h[1.2.3.4]", "UTC", 0, 1795473442, true},
	    {"Nov 31 22:37:22 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1795478400, 0, false},
	    {"Nov 23 22:37:22 a dovecot[1]: connect from h[1.2.3.4]", "UTC", 1795478400, 0, false},
	    {"Nov 23 25:37:22 a p/smtpd[1]: connect from h[1.2.3.4]", "UTC", 1795478400, 0, false},
	    {"", "UTC", 1795478400, 0, false},
	    {"Nov 23 22:37:22 ", "UTC", 1795478400, 0, false},
	    {"<22", "UTC", 1795478400, 0, false},
	};
	struct logline_clock clock = {{0}, 0, 0};
	struct arena arena;

	(void)state;
	arena_init(&arena, 1 << 16);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct logline out = {.coarse = false};
		enum status status;

		setenv("TZ", cases[i].in_zone, 1);
		tzset();
		clock.stamp[0] = '\0';
		status = logline_parse(&clock, span_of(cases[i].in_line), cases[i].in_reference * US_PER_SEC, &arena, &out);
		if ((status == STATUS_OK) != (cases[i].want != 0) ||
		    (cases[i].want && ((int64_t)out.event.at_us / US_PER_SEC != cases[i].want || out.coarse != cases[i].want_coarse)))
			fail_msg("%s: %s, %lld", cases[i].in_line, status_word(status), (long long)out.event.at_us);
	}
	unsetenv("TZ");
	tzset();
	arena_fini(&arena);
}

/* Every line cut at every byte, and with every byte replaced, is no trouble (run with a sanitizer, too). */
static void torn_lines_are_no_trouble(void **state)
{
	static const char *const lines[] = {
	    "Nov 23 22:37:22 a p/smtpd[1]: NOQUEUE: reject: RCPT from h[192.0.2.7]:5: 554 5.7.1 <r@x>: Relay; from=<\"s\"@y> to=<r@x> proto=ESMTP helo=<h> sasl_method=P sasl_username=u sasl_sender=v",
	    "Nov 23 22:37:22 a p/cleanup[1]: 420ABA8487F: reject: header Subject: a from h[1.2.3.4]; from=<s> to=<r> proto=ESMTP helo=<h>: 5.7.1 no",
	    "<22>1 2026-11-23T22:37:22.5+01:00 a p/smtpd 1 - [x] 420ABA8487F: client=l[127.0.0.1]:77, sasl_method=PLAIN, sasl_username=j, orig_client=x",
	    "Nov 23 22:37:22 a p/qmgr[1]: 420ABA8487F: from=<s@y>, size=345, nrcpt=2 (queue active)",
	    "Nov 23 22:37:22 a p/smtp[1]: 420ABA8487F: to=<u>, orig_to=<p>, relay=x, dsn=2.0.0, status=sent (250 2.0.0 Ok)",
	};
	struct logline_clock clock = {{0}, 0, 0};
	struct arena arena;
	size_t taken = 0;

	(void)state;
	arena_init(&arena, 1 << 16);
	for (size_t l = 0; l < sizeof(lines) / sizeof(lines[0]); l++) {
		size_t len = strlen(lines[l]);

		for (size_t cut = 0; cut <= len; cut++) {
			char *copy = malloc(cut + 1); /* exactly as long: a read behind it shows */
			struct logline out;

			assert_non_null(copy);
			memcpy(copy, lines[l], cut);
			taken += logline_parse(&clock, span_make(copy, cut), REFERENCE_US, &arena, &out) == STATUS_OK;
			for (size_t c = 0; cut && c < 8; c++) {
				copy[cut - 1] = "\0 :;<>\"\xff"[c];
				taken += logline_parse(&clock, span_make(copy, cut), REFERENCE_US, &arena, &out) == STATUS_OK;
			}
			free(copy);
			arena_reset(&arena);
		}
	}
	assert_true(taken > 500);
	arena_fini(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(smtpd_tells_of_the_session),
	    cmocka_unit_test(refusals_are_taken_apart),
	    cmocka_unit_test(the_queue_tells_of_the_message),
	    cmocka_unit_test(stamps_become_moments),
	    cmocka_unit_test(torn_lines_are_no_trouble),
	};

	return RUN_UNIT_TESTS(tests);
}
