/* conn.h - policy clients: bytes in, whole requests to the journal, the constant answer out.
 *
 * Model:   one event loop; a struct conn per client, in a list of its server. No step waits for anything.
 * Limits:  CONN_LINE_MAX bytes a line, CONN_REQUEST_MAX a request: over it the client is closed. A client that
 *          reads no answers is not read from until it does. A client that is still for CONN_IDLE_S is closed.
 * Memory:  a buffer per client, which grows to what its largest request needed and is used again.
 */
#ifndef POSTTRACE_CONN_H
#define POSTTRACE_CONN_H

#include <stdint.h>

#include <event2/event.h>

#include "shared/journal/journal.h"

#define CONN_LINE_MAX    (8u << 10)
#define CONN_REQUEST_MAX (64u << 10)
#define CONN_IDLE_S      3600 /* Postfix keeps its connections, idle for 300 s and 1000 s in all by default */

struct conn_server;

/* Serve clients of a listening, non-blocking socket, which now belongs to the server. */
enum status conn_server_new(
    struct event_base *base, int listener, struct journal *journal, struct conn_server **out, struct errinfo *err) MUST_CHECK;
/* Accept nobody more, answer what has arrived, close each client as soon as nothing is owed; the loop ends with the
 * last one, or soon after. */
void conn_server_finish(struct conn_server *server);
/* Close everything. */
void conn_server_free(struct conn_server *server);

#endif
