/* cli_tool.c - what the tests of the command need made: a store with known transactions, and times read aloud.
 *
 *   cli_tool fill DIRECTORY   a fixed set of transactions, times counted from 2026-11-24T10:00:00Z
 *   cli_tool lock DIRECTORY   be the store's writer until standard input ends; says "locked" when it is
 *   cli_tool time NOW TEXT    microseconds since 1970 of TEXT, read at NOW (seconds), or the error
 *   cli_tool follow SOCKET    be a recorder for one follower: send the notices of tx_hostile, a drop, and end
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "query/timespec.h"
#include "shared/store/store.h"

#define BASE_US INT64_C(1795514400000000) /* 2026-11-24T10:00:00Z */
#define BIN(literal) ((Bytes){sizeof(literal) - 1, (uint8_t *)(uintptr_t)("" literal)})

#define MILTER (1u << POSTTRACE__SOURCE__SOURCE_MILTER)
#define POLICY (1u << POSTTRACE__SOURCE__SOURCE_POLICY)
#define MAILLOG (1u << POSTTRACE__SOURCE__SOURCE_MAILLOG)
#define STEP(type, source) ((unsigned)POSTTRACE__EVENT_TYPE__##type + 32u * (unsigned)POSTTRACE__SOURCE__SOURCE_##source)

static struct store *store;

static void die(const char *what, const struct errinfo *err)
{
	fprintf(stderr, "cli_tool: %s: %s\n", what, err ? err->text : "failed");
	exit(1);
}

static Transaction tx_make(int64_t after_us)
{
	Transaction tx = POSTTRACE__TRANSACTION__INIT;

	tx.id = (uint64_t)(BASE_US + after_us);
	tx.done = true;
	tx.ordinal = 1;
	tx.sources = MILTER | POLICY | MAILLOG;
	tx.client_address = BIN("\xc0\x00\x02\x0a"); /* 192.0.2.10 */
	tx.client_port = 40001;
	tx.client_name = BIN("mail.example.net");
	tx.helo = BIN("mail.example.net");
	tx.protocol = BIN("ESMTP");
	tx.service = BIN("postfix/smtpd");
	tx.server_port = 25;
	return tx;
}

static Recipient rcpt_make(Bytes address, Posttrace__Outcome outcome)
{
	Recipient r = POSTTRACE__RECIPIENT__INIT;

	r.address = address;
	r.outcome = outcome;
	r.sources = MILTER | MAILLOG;
	return r;
}

/* Two recipients, one of them denied. */
static void put_mixed(void)
{
	struct errinfo err;
	Transaction tx = tx_make(0);
	Recipient good = rcpt_make(BIN("bob@example.com"), POSTTRACE__OUTCOME__ACCEPTED);
	Recipient bad = rcpt_make(BIN("eve@elsewhere.example"), POSTTRACE__OUTCOME__REJECTED);
	Recipient *both[] = {&good, &bad};
	Posttrace__Attribute header = POSTTRACE__ATTRIBUTE__INIT;
	Posttrace__Attribute *headers[] = {&header};
	Posttrace__Tracepoints list = POSTTRACE__TRACEPOINTS__INIT;
	Posttrace__Tracepoints *lists[] = {&list};
	uint32_t hits[] = {1, 1, 2, 1, 1, 2};
	int64_t hit_at[] = {5000, 1005000, 1010000};
	uint32_t what[] = {STEP(LINK_CONNECT, MILTER), STEP(TX_MAIL, MILTER), STEP(TX_RCPT, MILTER), STEP(TX_RCPT, MILTER),
	    STEP(TX_COMMIT, MILTER), STEP(QUEUE_ACTIVE, MAILLOG)};
	int64_t at[] = {-20000, 0, 6000, 1011000, 1500000, 1600000};
	uint32_t ref[] = {0, 0, 1, 2, 0, 0};

	good.transport = BIN("smtp");
	good.next_hop = BIN("mx.example.com");
	bad.code = 554;
	bad.dsn = BIN("5.7.1");
	bad.text = BIN("<eve@elsewhere.example>: Relay access denied");
	bad.text_whole = true;
	header.name = BIN("Subject");
	header.value = BIN(" hello\n\tfolded");
	list.service = BIN("main");
	list.list = BIN("relay");
	list.digest = 42;
	list.hits = hits;
	list.n_hits = 6;
	list.at_us = hit_at;
	list.n_at_us = 3;
	tx.sender = BIN("alice@example.net");
	tx.has_sender = true;
	tx.queue_id = BIN("4XyZQ10abcz1");
	tx.message_id = BIN("one@example.net");
	tx.size = 1234;
	tx.tls_protocol = BIN("TLSv1.3");
	tx.tls_cipher = BIN("TLS_AES_256_GCM_SHA384");
	tx.tls_bits = 256;
	tx.outcome = POSTTRACE__OUTCOME__ACCEPTED;
	tx.queue_active = true;
	tx.duration_us = 1600000;
	tx.recipients = both;
	tx.n_recipients = 2;
	tx.headers = headers;
	tx.n_headers = 1;
	tx.tracepoints = lists;
	tx.n_tracepoints = 1;
	tx.step_what = what;
	tx.step_at_us = at;
	tx.step_ref = ref;
	tx.n_step_what = tx.n_step_at_us = tx.n_step_ref = 6;
	if (store_put(store, &tx, &err) != STATUS_OK)
		die("put", &err);
	if (store_put_list(store, 42, SPAN("permit_mynetworks\nreject_unauth_destination\n"), &err) != STATUS_OK)
		die("put list", &err);
}

static Transaction hostile_tx(Recipient *r, Recipient **recipients)
{
	Transaction tx = tx_make(INT64_C(3600) * 1000000);

	*r = rcpt_make(BIN("\x1b[31mred\xff@example.org"), POSTTRACE__OUTCOME__DEFERRED);
	r->code = 450;
	r->dsn = BIN("4.2.0");
	r->text = BIN("try\r\nagain \xe2\x80\xae later");
	r->sources = MILTER;
	recipients[0] = r;
	tx.client_address = BIN("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05");
	tx.client_name = BIN("unknown");
	tx.helo = BIN("\x1b]0;pwn\x07\x9b" "31m\0nul");
	tx.sender = BIN("");
	tx.has_sender = true;
	tx.outcome = POSTTRACE__OUTCOME__DEFERRED;
	tx.sources = MILTER;
	tx.cut_sources = POLICY;
	tx.lost_events = 7;
	tx.recipients = recipients;
	tx.n_recipients = 1;
	return tx;
}

static void put_hostile(void)
{
	struct errinfo err;
	Recipient r;
	Recipient *recipients[1];
	Transaction tx = hostile_tx(&r, recipients);

	if (store_put(store, &tx, &err) != STATUS_OK)
		die("put", &err);
}

static void put_small(int64_t after_us, Posttrace__Outcome outcome, Bytes login, Bytes sender, uint64_t duration_us)
{
	struct errinfo err;
	Transaction tx = tx_make(after_us);
	Recipient r = rcpt_make(BIN("Carol@Example.COM"), outcome), *recipients[] = {&r};
	Posttrace__Refusal refusal = POSTTRACE__REFUSAL__INIT, *refusals[] = {&refusal};

	tx.outcome = outcome;
	tx.done = outcome != POSTTRACE__OUTCOME__OUTCOME_NONE;
	tx.duration_us = duration_us;
	tx.client_address = BIN("\xc6\x33\x64\x07"); /* 198.51.100.7 */
	tx.client_name = BIN("host.dyn.example.org");
	tx.sasl_username = login;
	if (login.len) {
		tx.sasl_method = BIN("PLAIN");
		tx.service = BIN("postfix/submission/smtpd");
	}
	if (outcome == POSTTRACE__OUTCOME__NO_MAIL) {
		tx.ordinal = 0;
		tx.lost_text = BIN("lost connection after EHLO");
		refusal.stage = BIN("CONNECT");
		refusal.code = 521;
		refusal.text = BIN("go away");
		refusal.source = POSTTRACE__SOURCE__SOURCE_MAILLOG;
		tx.refusals = refusals;
		tx.n_refusals = 1;
	} else {
		tx.sender = sender;
		tx.has_sender = true;
		tx.recipients = recipients;
		tx.n_recipients = 1;
	}
	if (store_put(store, &tx, &err) != STATUS_OK)
		die("put", &err);
}

static int fill(const char *directory)
{
	struct store_settings settings = {directory, 64u << 20};
	struct errinfo err;
	Posttrace__Gap gap = POSTTRACE__GAP__INIT;

	if (store_open(&settings, STORE_WRITE, &store, &err) != STATUS_OK || store_begin(store, &err) != STATUS_OK)
		die("open", &err);
	put_mixed();
	put_hostile();
	put_small(7200 * INT64_C(1000000), POSTTRACE__OUTCOME__ABORTED, BIN("carol"), BIN("carol@example.com"), 5000000);
	put_small(10800 * INT64_C(1000000), POSTTRACE__OUTCOME__NO_MAIL, BIN(""), BIN(""), 100000);
	put_small(14400 * INT64_C(1000000), POSTTRACE__OUTCOME__OUTCOME_NONE, BIN(""), BIN("root"), 1000);
	gap.from_us = (uint64_t)BASE_US;
	gap.until_us = (uint64_t)BASE_US + 3000000;
	gap.source = POSTTRACE__SOURCE__SOURCE_MILTER;
	gap.lost = 214;
	gap.reason = BIN("journal full\x1b[2J");
	if (store_put_gap(store, &gap, &err) != STATUS_OK ||
	    store_put_value(store, "host", SPAN("mx1.example.com"), &err) != STATUS_OK || store_commit(store, &err) != STATUS_OK)
		die("write", &err);
	store_close(store);
	return 0;
}

static int lock(const char *directory)
{
	struct store_settings settings = {directory, 64u << 20};
	struct errinfo err;

	if (store_open(&settings, STORE_WRITE, &store, &err) != STATUS_OK)
		die("open", &err);
	puts("locked");
	fflush(stdout);
	while (getchar() != EOF)
		;
	store_close(store);
	return 0;
}

static int read_time(const char *now, const char *text)
{
	struct errinfo err;
	int64_t us;

	if (timespec_parse(text, strtoll(now, NULL, 10) * 1000000, &us, &err) != STATUS_OK) {
		puts(err.text);
		return 1;
	}
	printf("%lld\n", (long long)us);
	return 0;
}

static void put_be(unsigned char *to, uint64_t value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (unsigned char)(value >> (8 * (len - 1 - i)));
}

static void send_notice(int fd, char kind, const unsigned char *body, size_t len)
{
	unsigned char head[5];

	put_be(head, len + 1, 4);
	head[4] = (unsigned char)kind;
	/* one byte at a time shows that the reader puts torn frames together */
	for (size_t i = 0; i < sizeof(head); i++)
		if (write(fd, head + i, 1) != 1)
			die("write", NULL);
	if (write(fd, body, len) != (ssize_t)len)
		die("write", NULL);
}

static int be_recorder(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	Recipient r;
	Recipient *recipients[1];
	Transaction tx = hostile_tx(&r, recipients);
	unsigned char body[4096];
	char hello[7];
	size_t len = posttrace__transaction__get_packed_size(&tx);

	if (strlen(path) >= sizeof(address.sun_path))
		die("path", NULL);
	strcpy(address.sun_path, path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		die("listen", NULL);
	puts("listening");
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	if (fd < 0 || recv(fd, hello, sizeof(hello), MSG_WAITALL) != sizeof(hello) || memcmp(hello, "follow\n", 7))
		die("hello", NULL);
	put_be(body, POSTTRACE__EVENT_TYPE__TX_RCPT, 4);
	put_be(body + 4, tx.id + 1500, 8);
	posttrace__transaction__pack(&tx, body + 12);
	send_notice(fd, 'E', body, len + 12);
	put_be(body, 31, 8);
	send_notice(fd, 'D', body, 8);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "fill"))
		return fill(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "lock"))
		return lock(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "time"))
		return read_time(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "follow"))
		return be_recorder(argv[2]);
	fprintf(stderr, "usage: cli_tool fill|lock|time|follow …\n");
	return 2;
}
