#include "recorder/followers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "shared/base/log.h"
#include "shared/daemon/daemon.h"

#define FOLLOWER_BYTES (1u << 20)
#define FOLLOWERS_MAX  64

struct follower {
	TAILQ_ENTRY(follower) entry;
	struct followers *all;
	struct bufferevent *bev;
	bool following;
	uint64_t dropped;
};

struct followers {
	TAILQ_HEAD(, follower) list;
	struct evconnlistener *listener;
	struct listen_address address;
	struct strbuf frame;
	unsigned n;
};

static void end_follower(struct follower *f)
{
	TAILQ_REMOVE(&f->all->list, f, entry);
	f->all->n--;
	bufferevent_free(f->bev);
	free(f);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct follower *f = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	size_t len;
	char *line;

	while ((line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF))) {
		if (span_is(span_make(line, len), "follow"))
			f->following = true;
		free(line);
	}
	if (evbuffer_get_length(in) > 256)
		end_follower(f);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		end_follower(arg);
}

static void add_u32(struct strbuf *sb, uint32_t v)
{
	const char bytes[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};

	strbuf_add(sb, bytes, 4);
}

static void add_u64(struct strbuf *sb, uint64_t v)
{
	add_u32(sb, (uint32_t)(v >> 32));
	add_u32(sb, (uint32_t)v);
}

static void tell_drops(struct follower *f)
{
	struct strbuf drop = STRBUF_INIT;

	if (!f->dropped)
		return;
	add_u32(&drop, 9);
	strbuf_addch(&drop, 'D');
	add_u64(&drop, f->dropped);
	if (!drop.failed && bufferevent_write(f->bev, drop.buf, drop.len) == 0)
		f->dropped = 0;
	strbuf_fini(&drop);
}

/* It has caught up: what it missed is said now, not with the next event. */
static void on_drained(struct bufferevent *bev, void *arg)
{
	(void)bev;
	tell_drops(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa, int salen, void *arg)
{
	struct followers *all = arg;
	struct follower *f = all->n < FOLLOWERS_MAX ? calloc(1, sizeof(*f)) : NULL;

	(void)sa;
	(void)salen;
	if (f)
		f->bev = bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
	if (!f || !f->bev) {
		free(f);
		close(fd);
		return;
	}
	f->all = all;
	TAILQ_INSERT_TAIL(&all->list, f, entry);
	all->n++;
	bufferevent_setcb(f->bev, on_read, on_drained, on_event, f);
	bufferevent_enable(f->bev, EV_READ | EV_WRITE);
}

enum status followers_open(struct event_base *base, const char *directory, struct followers **out, struct errinfo *err)
{
	struct followers *all = calloc(1, sizeof(*all));
	char where[4200];
	enum status status;
	int fd = -1;

	if (!all)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	TAILQ_INIT(&all->list);
	strbuf_init(&all->frame);
	snprintf(where, sizeof(where), "unix:%s/recorder.sock", directory);
	status = listen_address_parse(where, &all->address, err);
	if (status == STATUS_OK)
		status = daemon_listen(&all->address, 16, &fd, err);
	if (status != STATUS_OK) {
		free(all);
		return status;
	}
	chmod(all->address.path, 0660);
	all->listener = evconnlistener_new(base, on_accept, all, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!all->listener) {
		close(fd);
		free(all);
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	}
	*out = all;
	return STATUS_OK;
}

bool followers_any(const struct followers *all)
{
	return all && !TAILQ_EMPTY(&all->list);
}

static void tell_one(struct follower *f, struct strbuf *frame)
{
	struct evbuffer *out = bufferevent_get_output(f->bev);

	if (!f->following)
		return;
	if (evbuffer_get_length(out) + frame->len > FOLLOWER_BYTES) {
		f->dropped++;
		return;
	}
	tell_drops(f);
	if (bufferevent_write(f->bev, frame->buf, frame->len) != 0)
		f->dropped++;
}

void followers_tell(struct followers *all, Posttrace__EventType type, int64_t at_us, const Transaction *tx)
{
	size_t size = posttrace__transaction__get_packed_size(tx);
	struct follower *f;

	strbuf_reset(&all->frame);
	add_u32(&all->frame, (uint32_t)(size + 13));
	strbuf_addch(&all->frame, 'E');
	add_u32(&all->frame, (uint32_t)type);
	add_u64(&all->frame, (uint64_t)at_us);
	if (!strbuf_grow(&all->frame, size))
		return;
	posttrace__transaction__pack(tx, (uint8_t *)all->frame.buf + all->frame.len);
	strbuf_setlen(&all->frame, all->frame.len + size);
	TAILQ_FOREACH(f, &all->list, entry)
		tell_one(f, &all->frame);
}

void followers_close(struct followers *all)
{
	if (!all)
		return;
	while (!TAILQ_EMPTY(&all->list))
		end_follower(TAILQ_FIRST(&all->list));
	evconnlistener_free(all->listener);
	unlink(all->address.path);
	strbuf_fini(&all->frame);
	free(all);
}
