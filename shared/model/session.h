/* session.h - one SMTP session, as far as its witnesses have been joined. Private to correlate*.c. */
#ifndef POSTTRACE_SESSION_H
#define POSTTRACE_SESSION_H

#include "shared/model/correlate.h"

TAILQ_HEAD(tx_list, tx);

/* The log's view of one session of an smtpd process: from "connect" to "disconnect". */
struct log_view {
	UT_hash_handle by_pid;
	uint64_t pid_key; /* process id and service */
	struct session *session; /* NULL until there is evidence which one it is */
	struct arena arena;
	Event **pending; /* lines that wait for that evidence */
	size_t n_pending;
	int64_t connect_us;
	bool coarse;
	struct span address;
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
	bool milter_open, policy_seen, log_linked, log_open, stored;
	struct tx_list txs;
	unsigned n_txs;         /* ever */
	struct tx *milter_tx;   /* the milter's present transaction */
	struct tx *log_tx;      /* the log's present transaction */
	struct { uint8_t type, source; int64_t at_us; } steps[12]; /* before the first transaction */
	unsigned n_steps;
};

#endif
