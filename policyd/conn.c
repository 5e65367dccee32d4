#include "policyd/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "policyd/reply.h"
#include "policyd/request.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"

#define BUFFER_START  2048
#define OWED_MAX      (64 * reply_size()) /* answers not read by the client, before it is made to wait */
#define ACCEPT_PAUSE  ((struct timeval){0, 100000})
#define FINISH_WITHIN ((struct timeval){1, 0})

struct conn {
	LIST_ENTRY(conn) link;
	struct conn_server *server;
	struct event *readable, *writable;
	int fd;
	uint64_t serial;
	uint32_t peer_pid;
	bool closing; /* the client will send nothing more, or nothing more is wanted */

	char *buf;
	size_t len, cap;
	size_t scanned;    /* bytes looked at for the end of the request */
	size_t line_start; /* of the line at scanned */
	size_t owed;       /* bytes of answers not yet written */
};

struct conn_server {
	struct event_base *base;
	struct event *acceptable, *accept_again, *finish_timer;
	int listener;
	struct journal *journal;
	const struct timeval *idle;
	uint64_t last_serial;
	bool finishing;
	LIST_HEAD(conn_list, conn) conns;
	struct request request; /* of the moment; nothing outlives a callback */
};

static struct log_limit accept_limit, refuse_limit;

static void conn_free(struct conn *conn)
{
	struct conn_server *server = conn->server;

	LIST_REMOVE(conn, link);
	if (conn->readable)
		event_free(conn->readable);
	if (conn->writable)
		event_free(conn->writable);
	close(conn->fd);
	free(conn->buf);
	free(conn);
	if (server->finishing && LIST_EMPTY(&server->conns))
		event_base_loopbreak(server->base);
}

static void record(struct conn *conn, struct span text)
{
	Event *event = &conn->server->request.event;

	if (!request_parse(text, &conn->server->request))
		return;
	event->at_us = (uint64_t)clock_now_us();
	event->connection = conn->serial;
	if (!event->pid)
		event->pid = conn->peer_pid;
	journal_append(conn->server->journal, event);
}

enum scan { SCAN_REQUEST, SCAN_MORE, SCAN_TOO_LONG };

/* Look on for the empty line that ends the request at start. */
static enum scan scan_request(struct conn *conn, size_t start, struct span *text)
{
	while (conn->scanned < conn->len) {
		const char *from = conn->buf + conn->scanned;
		const char *newline = memchr(from, '\n', conn->len - conn->scanned);
		size_t end = newline ? (size_t)(newline - conn->buf) : conn->len;
		size_t line = end - conn->line_start;

		if (line > CONN_LINE_MAX || end - start > CONN_REQUEST_MAX)
			return SCAN_TOO_LONG;
		conn->scanned = end;
		if (!newline)
			break;
		conn->scanned++;
		if (line == 0 || (line == 1 && conn->buf[conn->line_start] == '\r')) {
			*text = span_make(conn->buf + start, conn->line_start - start);
			conn->line_start = conn->scanned;
			return SCAN_REQUEST;
		}
		conn->line_start = conn->scanned;
	}
	return SCAN_MORE;
}

/* Every whole request in the buffer, while answers may still be owed. False: close the client. */
static bool take_requests(struct conn *conn)
{
	size_t start = 0;
	struct span text;
	enum scan scan = SCAN_REQUEST;

	while (conn->owed < OWED_MAX && (scan = scan_request(conn, start, &text)) == SCAN_REQUEST) {
		record(conn, text);
		conn->owed += reply_size();
		start = conn->scanned;
	}
	memmove(conn->buf, conn->buf + start, conn->len - start);
	conn->len -= start;
	conn->scanned -= start;
	conn->line_start -= start;
	if (scan == SCAN_TOO_LONG)
		log_limited(&refuse_limit, LOG_LEVEL_WARNING,
		    "a client sent a line over %u or a request over %u bytes: closed", CONN_LINE_MAX, CONN_REQUEST_MAX);
	return scan != SCAN_TOO_LONG;
}

static bool make_room(struct conn *conn)
{
	size_t cap = conn->cap ? conn->cap * 2 : BUFFER_START;
	char *buf;

	if (conn->len < conn->cap)
		return true;
	buf = realloc(conn->buf, cap);
	if (!buf)
		return false;
	conn->buf = buf;
	conn->cap = cap;
	return true;
}

/* Write, take what the buffer holds, read on, until neither can move. False: the client is gone. */
static bool conn_work(struct conn *conn)
{
	for (;;) {
		ssize_t n;

		if (!reply_write(conn->fd, &conn->owed))
			return false;
		if (conn->scanned < conn->len && conn->owed < OWED_MAX) {
			if (!take_requests(conn)) {
				reply_write(conn->fd, &conn->owed);
				return false;
			}
			continue;
		}
		if (conn->closing || conn->owed >= OWED_MAX)
			break;
		if (!make_room(conn))
			return false;
		n = recv(conn->fd, conn->buf + conn->len, conn->cap - conn->len, 0);
		if (n > 0)
			conn->len += (size_t)n;
		else if (n == 0)
			conn->closing = true;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			break;
		else if (errno != EINTR)
			return false;
	}
	if (conn->closing && !conn->owed)
		return false;
	return !(conn->server->finishing && !conn->owed && !conn->len);
}

static void conn_go_on(struct conn *conn)
{
	if (!conn_work(conn)) {
		conn_free(conn);
		return;
	}
	if (conn->owed)
		event_add(conn->writable, conn->server->idle);
	else
		event_del(conn->writable);
	if (conn->closing || conn->owed >= OWED_MAX)
		event_del(conn->readable);
	else
		event_add(conn->readable, conn->server->idle);
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	if (what & EV_TIMEOUT)
		conn_free(conn);
	else
		conn_go_on(conn);
}

static void conn_new(struct conn_server *server, int fd)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	struct ucred peer = {0, 0, 0};
	socklen_t len = sizeof(peer);

	if (!conn) {
		close(fd);
		return;
	}
	conn->server = server;
	conn->fd = fd;
	conn->serial = ++server->last_serial;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0)
		conn->peer_pid = (uint32_t)peer.pid;
	LIST_INSERT_HEAD(&server->conns, conn, link);
	conn->readable = event_new(server->base, fd, EV_READ | EV_PERSIST, on_client, conn);
	conn->writable = event_new(server->base, fd, EV_WRITE | EV_PERSIST, on_client, conn);
	if (!conn->readable || !conn->writable)
		conn_free(conn);
	else
		conn_go_on(conn);
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
	struct conn_server *server = arg;

	(void)what;
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			conn_new(server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		/* Out of descriptors or memory: the socket stays readable, so looking again at once would spin. */
		log_limited(&accept_limit, LOG_LEVEL_ERROR, "can't accept a client: %s", strerror(errno));
		event_del(server->acceptable);
		event_add(server->accept_again, &ACCEPT_PAUSE);
		return;
	}
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct conn_server *server = arg;

	(void)fd;
	(void)what;
	event_add(server->acceptable, NULL);
}

static void on_finish_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn_server *server = arg;

	(void)fd;
	(void)what;
	event_base_loopbreak(server->base);
}

enum status conn_server_new(
    struct event_base *base, int listener, struct journal *journal, struct conn_server **out, struct errinfo *err)
{
	struct conn_server *server = calloc(1, sizeof(*server));

	if (!server)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	server->base = base;
	server->listener = listener;
	server->journal = journal;
	LIST_INIT(&server->conns);
	server->idle = event_base_init_common_timeout(base, &(struct timeval){CONN_IDLE_S, 0});
	server->acceptable = event_new(base, listener, EV_READ | EV_PERSIST, on_accept, server);
	server->accept_again = evtimer_new(base, on_accept_again, server);
	server->finish_timer = evtimer_new(base, on_finish_timer, server);
	if (!server->idle || !server->acceptable || !server->accept_again || !server->finish_timer ||
	    event_add(server->acceptable, NULL) != 0) {
		conn_server_free(server);
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	*out = server;
	return STATUS_OK;
}

void conn_server_finish(struct conn_server *server)
{
	struct conn *conn, *next;

	if (server->finishing) { /* asked twice: at once */
		event_base_loopbreak(server->base);
		return;
	}
	/* Those who wait to be accepted have perhaps asked already. */
	on_accept(server->listener, EV_READ, server);
	event_del(server->acceptable);
	event_del(server->accept_again);
	server->finishing = true;
	event_add(server->finish_timer, &FINISH_WITHIN);
	for (conn = LIST_FIRST(&server->conns); conn; conn = next) {
		next = LIST_NEXT(conn, link);
		conn_go_on(conn);
	}
	if (LIST_EMPTY(&server->conns))
		event_base_loopbreak(server->base);
}

void conn_server_free(struct conn_server *server)
{
	struct conn *conn, *next;

	if (!server)
		return;
	for (conn = LIST_FIRST(&server->conns); conn; conn = next) {
		next = LIST_NEXT(conn, link);
		conn_free(conn);
	}
	if (server->acceptable)
		event_free(server->acceptable);
	if (server->accept_again)
		event_free(server->accept_again);
	if (server->finish_timer)
		event_free(server->finish_timer);
	close(server->listener);
	free(server);
}
