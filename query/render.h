/* render.h - how facts are shown: JSON is a promise, text is for eyes and may change. */
#ifndef POSTTRACE_RENDER_H
#define POSTTRACE_RENDER_H

#include <json-c/json.h>

#include "query/cmd.h"
#include "shared/model/trace_id.h"

/* --- JSON --- */

/* The promised transaction object; the caller puts it. */
struct json_object *json_transaction(const Transaction *tx, struct span host);
/* Add what show tells beyond that: events, restrictions, headers, refusals, notes. Reads the store for the lists' texts. */
void json_add_details(struct json_object *object, const Transaction *tx, struct query *query);
/* The member name, and NAME_b64 when the bytes are not UTF-8; null when there are none. */
void json_add_bytes(struct json_object *object, const char *name, struct span bytes);
void json_add_time(struct json_object *object, const char *name, int64_t at_us);
/* One line on stdout, with every character that could trick a terminal as \uNNNN; puts object. */
void json_print_line(struct json_object *object);

/* --- text --- */

/* Rows of transactions, one a recipient; printed when finished. */
struct text_table;
struct text_table *text_table_new(const struct query *query);
void text_table_add(struct text_table *table, const Transaction *tx);
void text_table_print(struct text_table *table); /* and frees it */

/* Everything about one. */
void text_show(struct query *query, const Transaction *tx);
/* A line for an event that just happened. */
void text_event(const struct query *query, Posttrace__EventType type, int64_t at_us, const Transaction *tx);

/* What happened, in one sentence, without a full stop: "accepted for 2 of 3 recipients". */
void text_verdict(struct strbuf *out, const Transaction *tx);
/* Who saw it, who did not, who lost sight of it. */
void text_witnesses(struct strbuf *out, const Transaction *tx);
/* Local time that posttrace understands as input: 2026-11-23 18:15:22. */
void text_time(struct strbuf *out, int64_t at_us);
/* An escaped address; "<>" for the null sender. */
void text_address(struct strbuf *out, struct span address);
/* What stands for the client: name[address], or "local". */
void text_client(struct strbuf *out, const Transaction *tx);

enum text_color { COLOR_NONE, COLOR_GOOD, COLOR_BAD, COLOR_UNSURE, COLOR_QUIET, COLOR_STRONG };
/* The escape sequence, or "" without colours. COLOR_NONE resets. */
const char *text_color(const struct query *query, enum text_color color);
enum text_color text_outcome_color(Posttrace__Outcome outcome);
/* "550 5.7.1 text", what of it is known, escaped. */
void text_reply(struct strbuf *out, unsigned code, struct span dsn, struct span text);

#endif
