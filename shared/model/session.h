/* session.h - one SMTP session, as far as its witnesses have been joined. Private to correlate*.c. */
#ifndef POSTTRACE_SESSION_H
#define POSTTRACE_SESSION_H

#include "shared/base/clock.h"
#include "shared/model/correlate.h"

#define MILTER  POSTTRACE__SOURCE__SOURCE_MILTER
#define POLICY  POSTTRACE__SOURCE__SOURCE_POLICY
#define MAILLOG POSTTRACE__SOURCE__SOURCE_MAILLOG

/* How long a session that is over waits for lines that come late. */
#define LINGER_US     (5 * US_PER_SEC)
#define SESSION_BYTES (1u << 20)

TAILQ_HEAD(tx_list, tx);

/* The log's view of one session of an smtpd process: from "connect" to "disconnect". */
struct log_view {
	TAILQ_ENTRY(log_view) entry; /* all views, oldest first */
	UT_hash_handle by_pid; /* until its end: then the process has the next */
	uint64_t pid_key;      /* process id and host */
	bool live;             /* is in by_pid */
	int64_t ended_us;      /* 0: not yet */
	struct session *session; /* NULL until there is evidence which one it is */
	struct arena arena;
	Event **pending; /* lines that wait for that evidence */
	size_t n_pending;
	int64_t connect_us;
	bool coarse;
	struct span address;
	uint64_t key; /* names it in the store while it has no session */
	bool changed, stored;
};

struct session {
	TAILQ_ENTRY(session) entry; /* all sessions, oldest first */
	UT_hash_handle by_connection, by_peer;
	uint64_t key;       /* names it in the store while open */
	uint64_t run, connection; /* the milter's view; connection 0: none */
	struct span peer;   /* client address '\0' port: the key of by_peer; .len 0: not known */
	struct arena arena;
	Event link;         /* session facts gathered so far; memory in arena */
	int64_t begun_us, last_us, closed_us; /* closed_us: 0 while a witness has it open */
	uint32_t sources, cut_sources;
	uint32_t pid;
	bool by_connection_in, by_peer_in;
	bool milter_open, policy_seen, log_linked, log_open;
	bool changed, stored; /* since it was last handed to the store; it is there */
	struct log_view *view; /* while log_open */
	struct tx_list txs;
	unsigned n_txs;         /* ever */
	struct tx *milter_tx;   /* the milter's present transaction */
	struct tx *log_tx;      /* the log's present transaction */
	struct { uint8_t type, source; int64_t at_us; } steps[12]; /* before the first transaction */
	unsigned n_steps;
};

TAILQ_HEAD(session_list, session);
TAILQ_HEAD(view_list, log_view);

struct correlate {
	struct correlate_sink sink;
	struct session_list sessions;
	struct view_list views;
	struct tx_list dirty;
	struct session *by_connection, *by_peer;
	struct log_view *by_pid;
	struct tx *by_queue_id;
	uint64_t configuration;
	size_t n_sessions;
	uint64_t next_key;
	uint64_t *gone; /* keys in the store's table of open sessions that are to be deleted */
	size_t n_gone;
};

/* --- session.c: sessions, and the tables that find them --- */

struct session *session_new(struct correlate *c, int64_t at_us);
void session_set_connection(struct correlate *c, struct session *s, uint64_t run, uint64_t connection);
struct session *session_find(struct correlate *c, uint64_t run, uint64_t connection);
/* Client address and port in one key, in buf; empty when either is missing (a local submission has no port). */
struct span session_peer_key(const Event *event, char *buf, size_t cap);
void session_set_peer(struct correlate *c, struct session *s, struct span key);
struct session *session_find_peer(struct correlate *c, struct span key);
void session_learn(struct session *s, const Event *e);
void session_step(struct session *s, const Event *e);
void session_settle_empty(struct correlate *c, struct session *s, const Event *e);
struct tx *session_begin_tx(struct correlate *c, struct session *s, const Event *e, bool coarse);
void session_free_tx(struct correlate *c, struct tx *tx);
void session_set_queue_id(struct correlate *c, struct tx *tx, Bytes queue_id);
/* It was another transaction that this queue id was given to. */
void session_take_queue_id(struct correlate *c, struct tx *from, struct tx *to);
struct tx *session_find_queue_id(struct correlate *c, Bytes queue_id);
/* It changed: hand it to the store with the next batch. */
void session_mark(struct correlate *c, struct tx *tx);
/* An event was worked into a transaction (recipient: its index or -1): note it, settle, mark. */
void session_told(struct correlate *c, struct tx *tx, const Event *e, long recipient);
void tx_learn_sender(struct tx *tx, const Event *e);
bool tx_same_sender(const struct tx *tx, const Event *e);

/* --- what each witness tells --- */

void correlate_milter(struct correlate *c, const Event *e, uint64_t run);
void correlate_policy(struct correlate *c, const Event *e);
void correlate_maillog(struct correlate *c, const Event *e, bool coarse);
void session_end_milter(struct correlate *c, struct session *s, const Event *e, bool cut);

/* --- correlate_log.c --- */

/* A line whose session is known. */
void log_to_session(struct correlate *c, struct session *s, const Event *e, bool coarse);
/* The log has come to the end of the session. */
void session_end_log(struct correlate *c, struct session *s, const Event *e);

/* --- log_view.c: lines whose session is not known yet --- */

struct log_view *log_view_new(struct correlate *c, uint64_t pid_key, int64_t connect_us, bool coarse, struct span address);
struct log_view *log_view_find(struct correlate *c, uint64_t pid_key);
void log_view_hold(struct log_view *view, const Event *e);
/* Its last line was held: what is said later by that process is another session. */
void log_view_end(struct correlate *c, struct log_view *view, int64_t at_us);
void log_view_free(struct correlate *c, struct log_view *view);
/* The session that these lines and e prove to be theirs, or NULL. */
struct session *log_view_by_evidence(struct correlate *c, struct log_view *view, const Event *e);
struct session *log_view_by_sender(struct correlate *c, struct log_view *view, const Event *e);
/* Found: what was held is worked in. A view that has ended is freed. */
void log_view_link(struct correlate *c, struct log_view *view, struct session *s);
/* Nobody else saw it: a session of its own. */
void log_view_alone(struct correlate *c, struct log_view *view);
/* Decide about the views that nothing more will be said about. */
void log_views_settle(struct correlate *c, int64_t now_us);
/* A recipient of tx that this line of the log refuses: its index, or -1. */
long refused_match(const struct tx *tx, const Event *e);

/* correlate_state.c: to the store and back. */
enum status correlate_put_states(struct correlate *c) MUST_CHECK;
/* A key that was handed to the store is not needed any more. */
void correlate_drop_state(struct correlate *c, uint64_t key);

#endif
