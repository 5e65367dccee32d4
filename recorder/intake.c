#include "recorder/intake.h"

#include <stdlib.h>
#include <unistd.h>

#include "recorder/follow.h"
#include "recorder/logline.h"
#include "recorder/lists.h"
#include "recorder/snapshot.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/journal/journal.h"
#include "shared/model/correlate.h"

#define EVENTS_A_ROUND 1000
#define LINES_HELD_MAX 20000
#define ARENA_BYTES    (64u << 20)
#define HOLD_US        (US_PER_SEC / 10)     /* a log line waits for the hooks' events of its time */
#define COARSE_US      (US_PER_SEC + HOLD_US) /* the same when its stamp is cut to the second */
#define LIVE_US        (2 * US_PER_SEC)      /* a stamp younger than this is being written just now */
#define LAG_MAX_US     (60 * US_PER_SEC)     /* more is a wrong clock rather than a log that is behind */
#define LAG_KEPT_US    (10 * US_PER_SEC)     /* how long the worst lag of late counts */
#define SNAPSHOT_US    (5 * US_PER_SEC)
#define PRUNE_SLICE    100

enum input { INPUT_MILTER, INPUT_POLICY, INPUT_JOURNALS };

static const Posttrace__Source input_sources[] = {POSTTRACE__SOURCE__SOURCE_MILTER, POSTTRACE__SOURCE__SOURCE_POLICY};
static const char *const place_names[] = {"place.milter", "place.policy"};

struct journal_input {
	struct journal_reader *reader;
	struct journal_place place; /* behind the last event that was worked in */
	struct arena arena;
	Event *next; /* read, not yet worked in */
	uint64_t run;
};

struct held_line {
	TAILQ_ENTRY(held_line) entry;
	int64_t due_us;   /* when it may be worked in, on the hooks' clock */
	struct span place; /* of the log behind this line */
	bool interesting;
	struct follow_gap gap; /* before this line */
	struct logline *parsed;
	struct arena arena;
};

struct notice {
	Posttrace__EventType type;
	int64_t at_us;
	struct tx *tx;
};

struct intake {
	const struct config *config;
	struct store *store;
	struct correlate *correlate;
	struct journal_input journals[INPUT_JOURNALS];
	struct follow *follow;
	TAILQ_HEAD(held_list, held_line) held;
	size_t n_held;
	struct logline_clock log_clock;
	struct strbuf log_place; /* behind the last line that was worked in */
	struct followers *followers;
	struct notice *notices;
	size_t n_notices, cap_notices;
	struct arena arena;
	uint64_t stamp;
	int64_t looked_us, pruned_us;
	int64_t worked_us; /* the time that taking in has come to: behind the clock in a backlog */
	int64_t lag_us, lag_noted_us; /* of the log, the worst of late; when that was */
	uint64_t configuration;
};

/* --- what correlate hands over ----------------------------------------- */

static enum status sink_id(void *arg, int64_t start_us, uint64_t *id)
{
	struct intake *in = arg;

	return store_free_id(in->store, start_us, id, NULL);
}

static enum status sink_put(void *arg, const Transaction *tx)
{
	struct intake *in = arg;

	return store_put(in->store, tx, NULL);
}

static enum status sink_open(void *arg, uint64_t key, struct span state)
{
	struct intake *in = arg;

	return store_put_open(in->store, key, state, NULL);
}

static void sink_notice(void *arg, Posttrace__EventType type, int64_t at_us, struct tx *tx)
{
	struct intake *in = arg;

	if (!followers_any(in->followers))
		return;
	if (in->n_notices == in->cap_notices) {
		size_t cap = in->cap_notices ? 2 * in->cap_notices : 64;
		struct notice *more = realloc(in->notices, cap * sizeof(*more));

		if (!more)
			return;
		in->notices = more;
		in->cap_notices = cap;
	}
	in->notices[in->n_notices++] = (struct notice){type, at_us, tx};
}

static void tell_followers(struct intake *in)
{
	for (size_t i = 0; i < in->n_notices; i++)
		followers_tell(in->followers, in->notices[i].type, in->notices[i].at_us, &in->notices[i].tx->rec);
	in->n_notices = 0;
}

/* --- places ------------------------------------------------------------ */

static void encode_place(const struct journal_place *place, uint8_t out[20])
{
	for (int i = 0; i < 8; i++) {
		out[i] = (uint8_t)(place->run >> (56 - 8 * i));
		out[12 + i] = (uint8_t)(place->offset >> (56 - 8 * i));
	}
	for (int i = 0; i < 4; i++)
		out[8 + i] = (uint8_t)(place->number >> (24 - 8 * i));
}

static bool decode_place(struct span bytes, struct journal_place *out)
{
	const uint8_t *p = (const uint8_t *)bytes.ptr;

	if (bytes.len != 20)
		return false;
	*out = (struct journal_place){0, 0, 0};
	for (int i = 0; i < 8; i++) {
		out->run = out->run << 8 | p[i];
		out->offset = out->offset << 8 | p[12 + i];
	}
	for (int i = 0; i < 4; i++)
		out->number = out->number << 8 | p[8 + i];
	return true;
}

static enum status put_places(struct intake *in, struct errinfo *err)
{
	enum status status = STATUS_OK;

	for (int i = 0; i < INPUT_JOURNALS && status == STATUS_OK; i++) {
		uint8_t bytes[20];

		encode_place(&in->journals[i].place, bytes);
		status = store_put_value(in->store, place_names[i], span_make(bytes, sizeof(bytes)), err);
	}
	if (status == STATUS_OK && in->log_place.len)
		status = store_put_value(in->store, "place.maillog", strbuf_span(&in->log_place), err);
	return status;
}

static enum status get_places(struct intake *in, struct errinfo *err)
{
	struct span value;
	enum status status = STATUS_OK;

	for (int i = 0; i < INPUT_JOURNALS; i++) {
		status = store_get_value(in->store, place_names[i], &in->arena, &value, err);
		if (status == STATUS_OK && !decode_place(value, &in->journals[i].place))
			return errinfo_set(err, STATUS_INVALID, "the store's %s is damaged: run \"posttrace store verify\"", place_names[i]);
		if (status != STATUS_OK && status != STATUS_ABSENT)
			return status;
	}
	status = store_get_value(in->store, "place.maillog", &in->arena, &value, err);
	if (status == STATUS_OK)
		strbuf_addspan(&in->log_place, value);
	return status == STATUS_ABSENT ? STATUS_OK : status;
}

/* --- opening ----------------------------------------------------------- */

static enum status load_tx(void *arg, uint64_t id, struct arena *arena, Transaction **out)
{
	struct intake *in = arg;

	return store_get(in->store, id, arena, out, NULL);
}

struct restoring {
	struct intake *in;
	enum status status;
};

static bool restore_one(void *arg, uint64_t key, struct span state)
{
	struct restoring *r = arg;

	r->status = correlate_restore(r->in->correlate, key, state, load_tx, r->in);
	return r->status == STATUS_OK;
}

enum status intake_open(const struct config *config, struct store *store, struct intake **out, struct errinfo *err)
{
	struct intake *in = calloc(1, sizeof(*in));
	struct correlate_sink sink = {in, sink_id, sink_put, sink_open, sink_notice};
	struct restoring restoring = {in, STATUS_OK};
	enum status status;

	if (!in)
		return errinfo_set(err, STATUS_NOMEM, "out of memory");
	in->config = config;
	in->store = store;
	TAILQ_INIT(&in->held);
	strbuf_init(&in->log_place);
	arena_init(&in->arena, ARENA_BYTES);
	for (int i = 0; i < INPUT_JOURNALS; i++)
		arena_init(&in->journals[i].arena, ARENA_BYTES);
	in->correlate = correlate_new(&sink);
	status = in->correlate ? get_places(in, err) : errinfo_set(err, STATUS_NOMEM, "out of memory");
	for (int i = 0; i < INPUT_JOURNALS && status == STATUS_OK; i++)
		status = journal_reader_open(
		    config->journal_directory, input_sources[i], &in->journals[i].place, &in->journals[i].reader, err);
	if (status == STATUS_OK) {
		status = store_each_open(store, restore_one, &restoring, err);
		if (status == STATUS_STOPPED)
			status = errinfo_set(err, restoring.status, "an open session in the store can't be read: %s",
			    status_word(restoring.status));
	}
	if (status == STATUS_OK)
		status = follow_open(
		    config->maillog_source, config->config_directory, strbuf_span(&in->log_place), false, &in->follow, err);
	if (status != STATUS_OK) {
		intake_close(in);
		return status;
	}
	/* A first start begins at the log's end: keep that place, or a kill before the first line would move it. */
	if (!in->log_place.len)
		strbuf_addspan(&in->log_place, follow_place(in->follow));
	*out = in;
	return STATUS_OK;
}

int intake_log_fd(struct intake *in)
{
	return follow_fd(in->follow);
}

void intake_set_followers(struct intake *in, struct followers *followers)
{
	in->followers = followers;
}

static void drop_held(struct intake *in, struct held_line *held)
{
	TAILQ_REMOVE(&in->held, held, entry);
	in->n_held--;
	arena_fini(&held->arena);
	free(held);
}

void intake_close(struct intake *in)
{
	if (!in)
		return;
	for (int i = 0; i < INPUT_JOURNALS; i++) {
		journal_reader_close(in->journals[i].reader);
		arena_fini(&in->journals[i].arena);
	}
	while (!TAILQ_EMPTY(&in->held))
		drop_held(in, TAILQ_FIRST(&in->held));
	follow_close(in->follow);
	correlate_free(in->correlate);
	strbuf_fini(&in->log_place);
	arena_fini(&in->arena);
	free(in->notices);
	free(in);
}

/* --- reading ----------------------------------------------------------- */

/* How late a line came: under load Postfix's log can be seconds behind the hooks, and their sessions have to wait for it. */
static void note_lag(struct intake *in, int64_t stamp, bool coarse, int64_t now)
{
	int64_t lag = now - stamp - (coarse ? US_PER_SEC : 0);

	if (lag > LAG_MAX_US)
		lag = LAG_MAX_US;
	if (lag >= in->lag_us || now - in->lag_noted_us > LAG_KEPT_US) {
		in->lag_us = lag > 0 ? lag : 0;
		in->lag_noted_us = now;
	}
}

/* Read the log ahead of need; a line is due a moment after its time, or after its arrival when it is being written now. */
static enum status read_lines(struct intake *in, bool final, struct errinfo *err)
{
	while (in->n_held < LINES_HELD_MAX) {
		struct held_line *held;
		struct span line, place;
		enum status status = follow_next(in->follow, &line, err);
		int64_t now = clock_now_us(); /* of each line: many of them take their time */

		if (status == STATUS_ABSENT)
			return STATUS_OK;
		if (status != STATUS_OK)
			return status;
		held = calloc(1, sizeof(*held));
		if (!held)
			return errinfo_set(err, STATUS_NOMEM, "out of memory");
		arena_init(&held->arena, 1 << 20);
		held->parsed = arena_alloc(&held->arena, sizeof(*held->parsed));
		place = follow_place(in->follow);
		held->place = arena_span(&held->arena, place);
		if (follow_lost(in->follow, &held->gap))
			log_warning("lines of Postfix's log may be missing: %s", held->gap.why);
		/* the line's bytes are the follower's: the event must point into ours */
		line = arena_span(&held->arena, line);
		if (held->parsed && line.ptr)
			held->interesting = logline_parse(&in->log_clock, line, now, &held->arena, held->parsed) == STATUS_OK;
		held->due_us = now;
		if (held->interesting) {
			int64_t stamp = (int64_t)held->parsed->event.at_us;
			int64_t at = stamp + (held->parsed->coarse ? COARSE_US : HOLD_US);

			note_lag(in, stamp, held->parsed->coarse, now);
			/* not later than a moment after it came, when it is fresh; by its own time in a backlog */
			held->due_us = now - stamp < LIVE_US ? now + HOLD_US : at;
			/* the moment when it came says more than a stamp that is cut to the second */
			if (held->parsed->coarse && now >= stamp && now - stamp < LIVE_US)
				held->parsed->event.at_us =
				    (uint64_t)(now - stamp < US_PER_SEC ? now : stamp + US_PER_SEC - 1);
		}
		if (final && held->due_us > now)
			held->due_us = now;
		/* in the order of the log, whatever its stamps say */
		if (!TAILQ_EMPTY(&in->held) && held->due_us < TAILQ_LAST(&in->held, held_list)->due_us)
			held->due_us = TAILQ_LAST(&in->held, held_list)->due_us;
		TAILQ_INSERT_TAIL(&in->held, held, entry);
		in->n_held++;
	}
	return STATUS_OK;
}

static enum status peek_journal(struct journal_input *journal, struct errinfo *err)
{
	enum status status;

	if (journal->next)
		return STATUS_OK;
	arena_reset(&journal->arena);
	status = journal_read(journal->reader, &journal->arena, &journal->next, &journal->run, err);
	return status == STATUS_ABSENT ? STATUS_OK : status;
}

static void keep_gap(struct intake *in, const Event *e)
{
	Posttrace__Gap gap = POSTTRACE__GAP__INIT;

	gap.from_us = e->at_us;
	gap.until_us = e->until_us ? e->until_us : e->at_us;
	/* damage found by the reader says in connection whose journal it was */
	gap.source = e->source == POSTTRACE__SOURCE__SOURCE_RECORDER && e->connection ? (Posttrace__Source)e->connection : e->source;
	gap.lost = e->lost;
	gap.reason = e->text;
	if (store_put_gap(in->store, &gap, NULL) != STATUS_OK)
		log_warning("a gap of %llu events could not be recorded", (unsigned long long)e->lost);
}

static void keep_log_gap(struct intake *in, const struct held_line *held)
{
	Posttrace__Gap gap = POSTTRACE__GAP__INIT;

	gap.from_us = gap.until_us = held->interesting ? held->parsed->event.at_us : (uint64_t)clock_now_us();
	gap.source = POSTTRACE__SOURCE__SOURCE_MAILLOG;
	gap.lost = held->gap.lines;
	gap.reason = (Bytes){strlen(held->gap.why), (uint8_t *)(uintptr_t)held->gap.why};
	if (store_put_gap(in->store, &gap, NULL) != STATUS_OK)
		log_warning("a gap of Postfix's log could not be recorded");
}

/* Work in the earliest of what waits. False: nothing is due. */
static bool work_one(struct intake *in, int64_t now, bool final)
{
	struct held_line *held = TAILQ_FIRST(&in->held);
	struct journal_input *first = NULL;

	for (int i = 0; i < INPUT_JOURNALS; i++)
		if (in->journals[i].next && (!first || in->journals[i].next->at_us < first->next->at_us))
			first = &in->journals[i];
	if (held && (held->due_us <= now || final) && (!first || held->due_us <= (int64_t)first->next->at_us)) {
		if (held->due_us > in->worked_us)
			in->worked_us = held->due_us;
		if (held->gap.why)
			keep_log_gap(in, held);
		if (held->interesting)
			correlate_event(in->correlate, &held->parsed->event, 0, held->parsed->coarse);
		strbuf_reset(&in->log_place);
		strbuf_addspan(&in->log_place, held->place);
		drop_held(in, held);
		return true;
	}
	if (!first)
		return false;
	if ((int64_t)first->next->at_us > in->worked_us)
		in->worked_us = (int64_t)first->next->at_us;
	if (first->next->type == POSTTRACE__EVENT_TYPE__GAP)
		keep_gap(in, first->next);
	correlate_event(in->correlate, first->next, first->run, false);
	first->place = journal_reader_place(first->reader);
	first->next = NULL;
	return true;
}

/* --- beside the mail ---------------------------------------------------- */

static void look_at_configuration(struct intake *in, int64_t now)
{
	struct strbuf lists = STRBUF_INIT;
	Posttrace__Configuration conf;
	struct errinfo err = {""};
	uint64_t stamp;

	if (in->looked_us && now - in->looked_us < SNAPSHOT_US)
		return;
	in->looked_us = now;
	stamp = snapshot_stamp(in->config->config_directory);
	if (stamp == in->stamp)
		return;
	arena_reset(&in->arena);
	if (snapshot_take(in->config->config_directory, &in->arena, &conf, &err) != STATUS_OK ||
	    lists_read(in->config->config_directory, &lists, &err) != STATUS_OK) {
		strbuf_fini(&lists);
		log_warning("can't read Postfix's configuration: %s", err.text);
		in->stamp = stamp; /* again when it changes */
		return;
	}
	if (store_begin(in->store, &err) == STATUS_OK) {
		if (store_put_configuration(in->store, &conf, &err) == STATUS_OK &&
		    lists_store(in->store, strbuf_span(&lists), &err) == STATUS_OK && store_commit(in->store, &err) == STATUS_OK) {
			in->stamp = stamp;
			correlate_set_configuration(in->correlate, conf.digest);
			strbuf_fini(&lists);
			return;
		}
		store_abort(in->store);
	}
	strbuf_fini(&lists);
	log_warning("can't store Postfix's configuration: %s", err.text);
}

/* A slice at a time, so that mail that comes in meanwhile waits a few milliseconds at most. */
static bool prune_slice(struct intake *in, int64_t now, bool urgent)
{
	struct errinfo err = {""};
	size_t n = 0;

	if (!urgent && now - in->pruned_us < US_PER_SEC)
		return false;
	if (store_begin(in->store, &err) != STATUS_OK)
		return false;
	if (store_prune(in->store, now - in->config->retention_time_us, in->config->store_size - in->config->store_size / 10,
		PRUNE_SLICE, &n, &err) != STATUS_OK ||
	    n == 0) {
		store_abort(in->store);
		in->pruned_us = now;
		return false;
	}
	return store_commit(in->store, &err) == STATUS_OK;
}

/* --- a round ------------------------------------------------------------ */

static enum status commit_round(struct intake *in, struct errinfo *err)
{
	enum status status = correlate_flush(in->correlate);

	if (status == STATUS_OK)
		status = put_places(in, err);
	if (status == STATUS_OK) {
		status = store_commit(in->store, err);
	} else {
		errinfo_set(err, status, "can't write to the store: %s", status_word(status));
		store_abort(in->store);
	}
	correlate_flushed(in->correlate, status == STATUS_OK);
	return status;
}

enum status intake_round(struct intake *in, bool final, bool *busy, struct errinfo *err)
{
	int64_t now = clock_now_us();
	enum status status;
	int n = 0;

	*busy = false;
	look_at_configuration(in, now);
	/* The log is read first and the milter's journal last: what a line or a request confirms is then never missing. */
	status = read_lines(in, final, err);
	for (int i = INPUT_JOURNALS - 1; i >= 0 && status == STATUS_OK; i--)
		status = peek_journal(&in->journals[i], err);
	if (status != STATUS_OK)
		return status;
	status = store_begin(in->store, err);
	if (status != STATUS_OK)
		return status;
	while (n < EVENTS_A_ROUND && work_one(in, now, final)) {
		n++;
		for (int i = INPUT_JOURNALS - 1; i >= 0 && status == STATUS_OK; i--)
			status = peek_journal(&in->journals[i], err);
		if (status != STATUS_OK)
			break;
	}
	/* in a backlog nobody is late yet */
	if (n == 0 || in->worked_us > now)
		in->worked_us = now;
	correlate_tick(in->correlate, in->worked_us - (now - in->lag_noted_us > LAG_KEPT_US ? 0 : in->lag_us));
	if (n == 0 && !correlate_dirty(in->correlate)) {
		store_abort(in->store);
		prune_slice(in, now, false);
		return STATUS_OK;
	}
	status = commit_round(in, err);
	if (status == STATUS_FULL && prune_slice(in, now, true)) {
		*busy = true; /* there is room now: the same again */
		return STATUS_OK;
	}
	if (status != STATUS_OK)
		return status;
	tell_followers(in);
	for (int i = 0; i < INPUT_JOURNALS; i++)
		journal_reader_forget(in->journals[i].reader, &in->journals[i].place);
	*busy = n == EVENTS_A_ROUND || prune_slice(in, now, false);
	return STATUS_OK;
}

int64_t intake_next_due_us(const struct intake *in)
{
	const struct held_line *held = TAILQ_FIRST(&in->held);
	int64_t left;

	if (!held)
		return -1;
	left = held->due_us - clock_now_us();
	return left > 0 ? left : 0;
}
