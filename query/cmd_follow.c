/* follow: what the recorder takes in, as it comes. The recorder sends everything; the filter is here. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "query/render.h"
#include "shared/base/text.h"

/* No notice is longer: a recorder that says otherwise is none. */
enum { NOTICE_MAX = 16 << 20 };

static volatile sig_atomic_t told_to_stop;
static int recorder_fd = -1;

/* The reads that follow end as if the recorder had hung up: none is waited in for ever, whenever the signal comes. */
static void on_stop(int sig)
{
	(void)sig;
	told_to_stop = 1;
	if (recorder_fd >= 0)
		shutdown(recorder_fd, SHUT_RD);
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_stop}; /* no SA_RESTART: a write that blocks ends as well */

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static int connect_recorder(const struct query *query)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct strbuf path = STRBUF_INIT;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strbuf_addf(&path, "%s/recorder.sock", query->config.store_directory);
	if (fd < 0)
		query_fatal(EXIT_TROUBLE, "socket: %s", strerror(errno));
	if (path.len >= sizeof(address.sun_path))
		query_fatal(EXIT_TROUBLE, "%s: the path is too long for a socket", path.buf);
	memcpy(address.sun_path, path.buf, path.len + 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		query_fatal(EXIT_TROUBLE, "connect to the recorder at %s: %s; %s", path.buf, strerror(errno),
		    errno == EACCES ? "only root and the group of the store may follow"
				    : "does posttrace-recorder run?");
	strbuf_fini(&path);
	return fd;
}

/* False at the end of the stream; a fault is fatal. */
static bool read_all(int fd, void *to, size_t len, bool may_end)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, (char *)to + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			query_fatal(EXIT_TROUBLE, "read from the recorder: %s", strerror(errno));
		if (n == 0) {
			if ((got || !may_end) && !told_to_stop)
				query_fatal(EXIT_TROUBLE, "the recorder went away in the middle of a notice");
			return false;
		}
		got += (size_t)n;
	}
	return true;
}

static uint32_t get_be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t get_be64(const unsigned char *p)
{
	return (uint64_t)get_be32(p) << 32 | get_be32(p + 4);
}

/* True when the event was one that was asked for. */
static bool tell_event(struct query *query, const unsigned char *body, size_t len, struct arena *arena)
{
	Posttrace__EventType type;
	Transaction *tx;
	int64_t at_us;

	if (len < 12)
		query_fatal(EXIT_TROUBLE, "the recorder sent a notice that is too short");
	type = (Posttrace__EventType)get_be32(body);
	at_us = (int64_t)get_be64(body + 4);
	tx = posttrace__transaction__unpack(&arena->allocator, len - 12, body + 12);
	if (!tx) {
		query_warn("a notice of %zu bytes from the recorder could not be read", len);
		return false;
	}
	if (!filter_match(&query->filter, tx))
		return false;
	if (query->json) {
		struct json_object *object = json_transaction(tx, query->host), *event = json_object_new_object();

		json_object_object_add(event, "type", json_object_new_string(event_type_name(type)));
		json_add_time(event, "time", at_us);
		json_object_object_add(object, "event", event);
		json_print_line(object);
	} else {
		text_event(query, type, at_us, tx);
	}
	return true;
}

static void tell_drops(const struct query *query, const unsigned char *body, size_t len)
{
	if (len < 8)
		query_fatal(EXIT_TROUBLE, "the recorder sent a notice that is too short");
	fprintf(query->json ? stderr : stdout,
	    "-- %llu events were not shown here: this output was too slow (the store has them) --\n",
	    (unsigned long long)get_be64(body));
}

int cmd_follow(struct query *query, int argc, char **argv)
{
	static const char hello[] = "follow\n";
	int fd = connect_recorder(query);
	struct errinfo err = {""};
	struct arena arena;
	unsigned char *body = NULL, head[5];
	size_t cap = 0;
	uint64_t told = 0;

	(void)argc, (void)argv;
	/* only for the host's name: follow works while the store does not */
	if (query_open_store(query, &err) == STATUS_OK) {
		store_close(query->store);
		query->store = NULL;
	}
	if (send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(hello) - 1)
		query_fatal(EXIT_TROUBLE, "write to the recorder: %s", strerror(errno));
	recorder_fd = fd;
	catch_signals();
	arena_init(&arena, 2u * NOTICE_MAX);
	while (read_all(fd, head, sizeof(head), true)) {
		size_t len = get_be32(head);

		/* the length counts what follows it: the kind and the body */
		if (len < 1 || len > NOTICE_MAX)
			query_fatal(EXIT_TROUBLE, "the recorder sent a notice of %zu bytes", len);
		len--;
		if (len > cap) {
			free(body);
			body = malloc(len);
			if (!body)
				query_fatal(EXIT_TROUBLE, "out of memory");
			cap = len;
		}
		if (!read_all(fd, body, len, false))
			break;
		arena_reset(&arena);
		if (head[4] == 'E')
			told += tell_event(query, body, len, &arena);
		else if (head[4] == 'D')
			tell_drops(query, body, len);
		if (fflush(stdout) != 0)
			break;
		if (query->filter.limit && told == query->filter.limit)
			break;
	}
	if (!(query->filter.limit && told == query->filter.limit) && !ferror(stdout) && !told_to_stop)
		query_warn("the recorder ended the connection");
	free(body);
	arena_fini(&arena);
	recorder_fd = -1;
	close(fd);
	return told || told_to_stop ? EXIT_FOUND : EXIT_NOTHING;
}
